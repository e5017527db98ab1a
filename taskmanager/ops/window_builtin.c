/* Built-in window aggregates: count, sum, min, max, avg over columns, without user code. A value in the state table is one
 * slot {number, count} per aggregate; a batch is folded aggregate by aggregate in loops over the column.
 * Option: builtin [{"function":"count","column":-1,"as":"count"}, …]. Output columns are found by name: an aggregate's `as`,
 * window_start, window_end, or a key column. Thread: task. Owner: the window function. */
#include "taskmanager/ops/window_function.h"

#include "common/base/heap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum builtin_function { BUILTIN_COUNT, BUILTIN_SUM, BUILTIN_MIN, BUILTIN_MAX, BUILTIN_AVG };

struct window_builtin {
    enum builtin_function function;
    int column; /* -1: count of rows */
    enum data_type type;
    bool is_float; /* the slot's number is a double */
    const char *as;
};

struct builtin_slot {
    union {
        int64_t integer;
        double real;
    } number;
    int64_t count; /* rows that are not null */
};

enum output_kind { OUTPUT_BUILTIN, OUTPUT_START, OUTPUT_END, OUTPUT_KEY };

struct window_output {
    enum output_kind kind;
    uint32_t index; /* of the builtin or key column */
};

/* ---- set-up ---- */

static const char *const function_names[] = {"count", "sum", "min", "max", "avg"};

static struct error *parse_builtin(struct window_function *self, const json_t *json, struct window_builtin *out)
{
    const char *operator_name = self->op->ctx->spec->name;
    const char *name = json_string_value(json_object_get(json, "function"));
    const json_t *column = json_object_get(json, "column");
    out->as = json_string_value(json_object_get(json, "as"));
    if (name == NULL || out->as == NULL)
        return error_new(INVALID_PROGRAM, "operator %s: a built-in aggregate needs function and as", operator_name);
    size_t function = 0;
    while (function < sizeof function_names / sizeof function_names[0] && strcmp(function_names[function], name) != 0)
        function++;
    if (function == sizeof function_names / sizeof function_names[0])
        return error_new(INVALID_PROGRAM, "operator %s: there is no built-in aggregate %s", operator_name, name);
    out->function = (enum builtin_function)function;
    out->column = json_is_integer(column) && json_integer_value(column) >= 0 ? (int)json_integer_value(column) : -1;
    if (out->column >= (int)self->input_schema->field_count)
        return error_new(INVALID_PROGRAM, "operator %s: aggregate %s has no column %d", operator_name, out->as, out->column);
    out->type = out->column >= 0 ? self->input_schema->fields[out->column].type : TYPE_INT64;
    if (out->function == BUILTIN_COUNT)
        return NULL;
    if (out->column < 0)
        return error_new(INVALID_PROGRAM, "operator %s: aggregate %s needs a column", operator_name, out->as);
    if (out->type == TYPE_BOOLEAN || data_type_is_text(out->type))
        return error_new(INVALID_PROGRAM, "operator %s: %s cannot be taken of column %s, which is %s", operator_name, name,
                         self->input_schema->fields[out->column].name, data_type_name(out->type));
    out->is_float = out->type == TYPE_FLOAT || out->type == TYPE_DOUBLE;
    return NULL;
}

/* What column the aggregate's result needs. */
static enum data_type builtin_result_type(const struct window_builtin *builtin)
{
    switch (builtin->function) {
    case BUILTIN_COUNT: return TYPE_INT64;
    case BUILTIN_SUM: return builtin->is_float ? TYPE_DOUBLE : TYPE_INT64;
    case BUILTIN_AVG: return TYPE_DOUBLE;
    case BUILTIN_MIN:
    case BUILTIN_MAX: return builtin->type;
    }
    return builtin->type;
}

static struct error *resolve_output(struct window_function *self, const struct field *field, const struct schema *key_schema,
                                    struct window_output *out)
{
    enum data_type wanted = TYPE_TIMESTAMP;
    bool is_found = false;
    for (uint32_t i = 0; i < self->builtin_count && !is_found; i++) {
        is_found = strcmp(self->builtins[i].as, field->name) == 0;
        *out = (struct window_output){OUTPUT_BUILTIN, i};
        wanted = builtin_result_type(&self->builtins[i]);
    }
    if (!is_found && (strcmp(field->name, "window_start") == 0 || strcmp(field->name, "window_end") == 0)) {
        *out = (struct window_output){strcmp(field->name, "window_start") == 0 ? OUTPUT_START : OUTPUT_END, 0};
        wanted = TYPE_TIMESTAMP;
        is_found = true;
    }
    int key = is_found ? -1 : schema_find(key_schema, field->name);
    if (key >= 0) {
        *out = (struct window_output){OUTPUT_KEY, (uint32_t)key};
        wanted = key_schema->fields[key].type;
        is_found = true;
    }
    if (!is_found)
        return error_new(INVALID_PROGRAM, "operator %s: output column %s is no aggregate, window bound or key", self->op->ctx->spec->name,
                         field->name);
    if (wanted != field->type)
        return error_new(INVALID_PROGRAM, "operator %s: output column %s is %s, it must be %s", self->op->ctx->spec->name, field->name,
                         data_type_name(field->type), data_type_name(wanted));
    return NULL;
}

/* {"<as>": number, "<as>.count": rows} per aggregate: named, so that aggregates may come and go between versions. */
static struct schema *slots_schema(const struct window_function *self)
{
    struct field *fields = heap_alloc_array(self->builtin_count * 2u, sizeof *fields);
    for (uint32_t i = 0; i < self->builtin_count; i++) {
        const struct window_builtin *builtin = &self->builtins[i];
        fields[2 * i] = (struct field){heap_strdup(builtin->as), builtin->is_float ? TYPE_DOUBLE : TYPE_INT64, false};
        fields[2 * i + 1] = (struct field){heap_printf("%s.count", builtin->as), TYPE_INT64, false};
    }
    struct schema *schema = schema_create(fields, self->builtin_count * 2u);
    for (uint32_t i = 0; i < self->builtin_count * 2u; i++)
        free(fields[i].name);
    free(fields);
    return schema;
}

struct error *window_builtin_init(struct window_function *self, struct schema *key_schema, const json_t *builtins)
{
    struct schema *output = self->op->ctx->spec->schema;
    if (output == NULL)
        return error_new(INVALID_PROGRAM, "operator %s has no output schema", self->op->ctx->spec->name);
    self->builtin_count = (uint32_t)json_array_size(builtins);
    self->builtins = heap_alloc_array(self->builtin_count, sizeof *self->builtins);
    for (uint32_t i = 0; i < self->builtin_count; i++)
        TRY(parse_builtin(self, json_array_get(builtins, i), &self->builtins[i]));
    self->outputs = heap_alloc_array(output->field_count + 1u, sizeof *self->outputs);
    for (uint32_t c = 0; c < output->field_count; c++)
        TRY(resolve_output(self, &output->fields[c], key_schema, &self->outputs[c]));
    struct schema *slots = slots_schema(self);
    self->codec = row_codec_create(slots);
    schema_unref(slots);
    self->is_record = true;
    self->context.key_codec = row_codec_create(key_schema);
    self->context.op = self->op;
    self->builder = batch_builder_create(output, BATCH_ROWS_TARGET, true);
    return NULL;
}

void window_builtin_finish(struct window_function *self)
{
    free(self->builtins);
    free(self->outputs);
    batch_builder_destroy(self->builder);
    self->builtins = NULL;
    self->outputs = NULL;
    self->builder = NULL;
}

/* ---- folding ---- */

#define FOR_ROWS(body)                                                                                                 \
    for (uint32_t i = 0; i < count; i++) {                                                                             \
        uint32_t row = rows != NULL ? rows[i] : i;                                                                     \
        if (column_is_null(column, row))                                                                               \
            continue;                                                                                                  \
        struct builtin_slot *slot = (struct builtin_slot *)values[groups[i]] + at;                                     \
        body;                                                                                                          \
        slot->count++;                                                                                                 \
    }

#define FOLD(name, c_type, member, member_type)                                                                        \
    static void name(enum builtin_function function, const struct column *column, const uint32_t *rows, uint32_t count, \
                     void **values, const uint32_t *groups, uint32_t at)                                               \
    {                                                                                                                  \
        const c_type *in = column->values;                                                                             \
        if (function == BUILTIN_MIN) {                                                                                 \
            FOR_ROWS(if (slot->count == 0 || (member_type)in[row] < slot->number.member) slot->number.member = (member_type)in[row]) \
        } else if (function == BUILTIN_MAX) {                                                                          \
            FOR_ROWS(if (slot->count == 0 || (member_type)in[row] > slot->number.member) slot->number.member = (member_type)in[row]) \
        } else {                                                                                                       \
            FOR_ROWS(add_##member(slot, (member_type)in[row]))                                                         \
        }                                                                                                              \
    }

/* SQL engines differ on overflow of a sum; here it wraps. */
static inline void add_integer(struct builtin_slot *slot, int64_t value)
{
    slot->number.integer = (int64_t)((uint64_t)slot->number.integer + (uint64_t)value);
}

static inline void add_real(struct builtin_slot *slot, double value)
{
    slot->number.real += value;
}

FOLD(fold_int8, int8_t, integer, int64_t)
FOLD(fold_int16, int16_t, integer, int64_t)
FOLD(fold_int32, int32_t, integer, int64_t)
FOLD(fold_int64, int64_t, integer, int64_t)
FOLD(fold_float, float, real, double)
FOLD(fold_double, double, real, double)

static void fold_count(const struct column *column, const uint32_t *rows, uint32_t count, void **values, const uint32_t *groups, uint32_t at)
{
    for (uint32_t i = 0; i < count; i++)
        ((struct builtin_slot *)values[groups[i]])[at].count += column == NULL || !column_is_null(column, rows != NULL ? rows[i] : i);
}

void window_builtin_add(struct window_function *self, const struct batch *batch, const uint32_t *rows, uint32_t count, void **values,
                        const uint32_t *groups)
{
    for (uint32_t at = 0; at < self->builtin_count; at++) {
        const struct window_builtin *builtin = &self->builtins[at];
        const struct column *column = builtin->column >= 0 ? &batch->columns[builtin->column] : NULL;
        if (builtin->function == BUILTIN_COUNT) {
            fold_count(column, rows, count, values, groups, at);
            continue;
        }
        if (builtin->type == TYPE_FLOAT)
            fold_float(builtin->function, column, rows, count, values, groups, at);
        else if (builtin->type == TYPE_DOUBLE)
            fold_double(builtin->function, column, rows, count, values, groups, at);
        else if (data_type_width(builtin->type) == 8)
            fold_int64(builtin->function, column, rows, count, values, groups, at);
        else if (data_type_width(builtin->type) == 4)
            fold_int32(builtin->function, column, rows, count, values, groups, at);
        else if (data_type_width(builtin->type) == 2)
            fold_int16(builtin->function, column, rows, count, values, groups, at);
        else
            fold_int8(builtin->function, column, rows, count, values, groups, at);
    }
}

static void merge_slot(const struct window_builtin *builtin, const struct builtin_slot *from, struct builtin_slot *into)
{
    bool is_min = builtin->function == BUILTIN_MIN, is_max = builtin->function == BUILTIN_MAX;
    if (is_min || is_max) {
        bool is_less = builtin->is_float ? from->number.real < into->number.real : from->number.integer < into->number.integer;
        bool is_more = builtin->is_float ? from->number.real > into->number.real : from->number.integer > into->number.integer;
        if (from->count > 0 && (into->count == 0 || (is_min && is_less) || (is_max && is_more)))
            into->number = from->number;
    } else if (builtin->is_float) {
        add_real(into, from->number.real);
    } else {
        add_integer(into, from->number.integer);
    }
    into->count += from->count;
}

void window_builtin_merge(struct window_function *self, const void *from, void *into)
{
    for (uint32_t at = 0; at < self->builtin_count; at++)
        merge_slot(&self->builtins[at], (const struct builtin_slot *)from + at, (struct builtin_slot *)into + at);
}

/* ---- emitting ---- */

static void put_integer(struct batch_builder *builder, uint32_t column, uint32_t row, int64_t value)
{
    uint32_t width = data_type_width(builder->schema->fields[column].type);
    memcpy((char *)batch_builder_values(builder, column) + (size_t)row * width, &value, width); /* little-endian */
    batch_builder_set_valid(builder, column, row);
}

static void put_real(struct batch_builder *builder, uint32_t column, uint32_t row, double value)
{
    if (builder->schema->fields[column].type == TYPE_FLOAT)
        ((float *)batch_builder_values(builder, column))[row] = (float)value;
    else
        batch_builder_doubles(builder, column)[row] = value;
    batch_builder_set_valid(builder, column, row);
}

/* Over no values at all every aggregate but count is null. */
static void put_builtin(struct batch_builder *builder, uint32_t column, uint32_t row, const struct window_builtin *builtin,
                        const struct builtin_slot *slot)
{
    if (builtin->function == BUILTIN_COUNT)
        put_integer(builder, column, row, slot->count);
    else if (slot->count == 0)
        return;
    else if (builtin->function == BUILTIN_AVG)
        put_real(builder, column, row, (builtin->is_float ? slot->number.real : (double)slot->number.integer) / (double)slot->count);
    else if (builtin->is_float)
        put_real(builder, column, row, slot->number.real);
    else
        put_integer(builder, column, row, slot->number.integer);
}

static struct error *put_key(struct window_function *self, uint32_t column, uint32_t row, uint32_t index, const struct state_key *key)
{
    uint32_t columns[64];
    const struct row_codec *codec = self->context.key_codec;
    if (codec->field_count > sizeof columns / sizeof columns[0])
        return error_new(UNSUPPORTED, "operator %s has more than 64 key columns", self->op->ctx->spec->name);
    for (uint32_t i = 0; i < codec->field_count; i++)
        columns[i] = i == index ? column : UINT32_MAX;
    return row_codec_decode_row(codec, key->bytes, key->length, self->builder, columns, row);
}

void window_builtin_emit(struct window_function *self, const struct state_key *key, const void *value, const struct mr_window *window)
{
    struct error *err = NULL;
    if (batch_builder_is_full(self->builder))
        err = op_emit(self->op, batch_builder_finish(self->builder));
    uint32_t row = err == NULL ? batch_builder_add_row(self->builder) : 0;
    for (uint32_t c = 0; c < self->builder->schema->field_count && err == NULL; c++) {
        const struct window_output *output = &self->outputs[c];
        if (output->kind == OUTPUT_BUILTIN)
            put_builtin(self->builder, c, row, &self->builtins[output->index], (const struct builtin_slot *)value + output->index);
        else if (output->kind == OUTPUT_KEY)
            err = put_key(self, c, row, output->index, key);
        else
            put_integer(self->builder, c, row, output->kind == OUTPUT_START ? window->start : window->end);
    }
    if (err != NULL)
        user_context_fail(&self->context, err);
    else
        batch_builder_set_event_time(self->builder, row, window->end - 1);
}
