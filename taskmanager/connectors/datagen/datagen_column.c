/* Generators of one column: see datagen_column.h. The loops carry quotients and remainders along instead of dividing.
 * Thread: task. */
#include "taskmanager/connectors/datagen/datagen_column.h"

#include "common/base/heap.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- options ---- */

static struct error *wrong(const struct field *field, const char *what)
{
    return error_new(INVALID_PROGRAM, "datagen field %s: %s", field->name, what);
}

static void integer_range(enum data_type type, int64_t *min, int64_t *max)
{
    if (type == TYPE_TIMESTAMP) {
        *min = 0;
        *max = INT64_C(4102444799999); /* the end of 2099 */
        return;
    }
    unsigned bits = 8 * data_type_width(type);
    *max = bits == 64 ? INT64_MAX : (INT64_C(1) << (bits - 1)) - 1;
    *min = -*max - 1;
}

static bool is_real(enum data_type type)
{
    return type == TYPE_FLOAT || type == TYPE_DOUBLE;
}

static struct error *bound(const struct field *field, const json_t *options, const char *name, int64_t *integer, double *real)
{
    const json_t *json = json_object_get(options, name);
    if (json == NULL || json_is_null(json))
        return NULL;
    if (!json_is_number(json) || (!is_real(field->type) && !json_is_integer(json)))
        return error_new(INVALID_PROGRAM, "datagen field %s: option %s is not a number of type %s", field->name, name, data_type_name(field->type));
    int64_t least = INT64_MIN, most = INT64_MAX;
    if (!is_real(field->type) && field->type != TYPE_TIMESTAMP)
        integer_range(field->type, &least, &most);
    if (json_is_integer(json) && (json_integer_value(json) < least || json_integer_value(json) > most))
        return error_new(INVALID_PROGRAM, "datagen field %s: option %s is %" JSON_INTEGER_FORMAT ", which is no %s", field->name, name,
                         json_integer_value(json), data_type_name(field->type));
    *integer = json_integer_value(json);
    *real = json_number_value(json);
    return NULL;
}

static struct error *init_sequence(struct datagen_column *column, const struct field *field, const json_t *options)
{
    if (data_type_is_text(field->type) || field->type == TYPE_BOOLEAN)
        return wrong(field, "a sequence needs a number");
    const json_t *step = json_object_get(options, "step"), *repeat = json_object_get(options, "repeat");
    column->min = 0;
    column->real_min = 0;
    column->step = 1;
    column->repeat = 1;
    TRY(bound(field, options, "start", &column->min, &column->real_min));
    if (json_is_integer(step))
        column->step = json_integer_value(step);
    else if (json_is_real(step))
        column->real_step = json_real_value(step);
    else if (step != NULL)
        return wrong(field, "option step is not a number");
    if (repeat != NULL) {
        if (!json_is_integer(repeat) || json_integer_value(repeat) < 1)
            return wrong(field, "option repeat is not a positive number");
        column->repeat = (uint64_t)json_integer_value(repeat);
    }
    return NULL;
}

static struct error *add_choice(struct datagen_column *column, const struct field *field, const json_t *value)
{
    struct batch_builder *builder = column->choices;
    if (batch_builder_is_full(builder))
        return wrong(field, "too many values");
    uint32_t row = batch_builder_add_row(builder);
    if (data_type_is_text(field->type) && json_is_string(value)) {
        batch_builder_set_text(builder, 0, row, json_string_value(value), json_string_length(value));
    } else if (field->type == TYPE_BOOLEAN && json_is_boolean(value)) {
        batch_builder_set_bool(builder, 0, row, json_is_true(value));
    } else if (is_real(field->type) && json_is_number(value)) {
        double real = json_number_value(value);
        if (field->type == TYPE_FLOAT)
            ((float *)batch_builder_values(builder, 0))[row] = (float)real;
        else
            batch_builder_doubles(builder, 0)[row] = real;
    } else if (!data_type_is_text(field->type) && field->type != TYPE_BOOLEAN && json_is_integer(value)) {
        int64_t integer = json_integer_value(value);
        uint32_t width = data_type_width(field->type);
        memcpy((char *)batch_builder_values(builder, 0) + (size_t)row * width, &integer, width); /* little-endian */
    } else {
        return wrong(field, "a value has another type than the column");
    }
    column->choice_count++;
    return NULL;
}

static struct error *init_choice(struct datagen_column *column, const struct field *field, const json_t *options)
{
    const json_t *values = json_object_get(options, "values");
    const json_t *value = json_object_get(options, "value");
    uint32_t count = column->kind == DATAGEN_CONSTANT && values == NULL ? 1 : (uint32_t)json_array_size(values);
    if (count == 0 || count > BATCH_ROWS_MAX)
        return wrong(field, "it needs values");
    struct schema *schema = schema_create(field, 1);
    column->choices = batch_builder_create(schema, count, false);
    schema_unref(schema);
    if (values == NULL)
        return add_choice(column, field, value);
    for (uint32_t i = 0; i < count; i++)
        TRY(add_choice(column, field, json_array_get(values, i)));
    return NULL;
}

static struct error *init_random(struct datagen_column *column, const struct field *field, const json_t *options)
{
    column->length = 100;
    column->real_min = 0;
    column->real_max = 1;
    const json_t *length = json_object_get(options, "length");
    if (length != NULL) {
        if (!json_is_integer(length) || json_integer_value(length) < 0 || json_integer_value(length) > 1 << 20)
            return wrong(field, "option length is out of range");
        column->length = (uint32_t)json_integer_value(length);
    }
    if (data_type_is_text(field->type) || field->type == TYPE_BOOLEAN)
        return NULL;
    if (!is_real(field->type))
        integer_range(field->type, &column->min, &column->max);
    TRY(bound(field, options, "min", &column->min, &column->real_min));
    TRY(bound(field, options, "max", &column->max, &column->real_max));
    if (is_real(field->type) ? column->real_min > column->real_max : column->min > column->max)
        return wrong(field, "min lies above max");
    return NULL;
}

struct error *datagen_column_init(struct datagen_column *column, const struct field *field, const json_t *options, uint64_t seed)
{
    static const char *const kinds[] = {"random", "sequence", "choice", "constant"};
    *column = (struct datagen_column){.type = field->type, .seed = seed, .repeat = 1};
    const char *name = json_string_value(json_object_get(options, "kind"));
    bool has_values = json_object_get(options, "values") != NULL;
    size_t kind = 0;
    while (name != NULL && kind < 4 && strcmp(kinds[kind], name) != 0)
        kind++;
    if (kind == 4)
        return error_new(INVALID_PROGRAM, "datagen field %s: there is no kind %s (random, sequence, choice, constant)", field->name, name);
    column->kind = (enum datagen_kind)kind;
    if (has_values && (column->kind == DATAGEN_RANDOM || column->kind == DATAGEN_SEQUENCE)) {
        column->is_random_choice = column->kind == DATAGEN_RANDOM;
        column->kind = DATAGEN_CHOICE;
    }
    switch (column->kind) {
    case DATAGEN_RANDOM: return init_random(column, field, options);
    case DATAGEN_SEQUENCE: return init_sequence(column, field, options);
    case DATAGEN_CHOICE:
    case DATAGEN_CONSTANT: return init_choice(column, field, options);
    }
    return NULL;
}

void datagen_column_finish(struct datagen_column *column)
{
    batch_builder_destroy(column->choices);
    column->choices = NULL;
}

uint64_t datagen_column_row_limit(const struct datagen_column *column, const json_t *options)
{
    const json_t *end = json_object_get(options, "end");
    if (column->kind != DATAGEN_SEQUENCE || !json_is_number(end))
        return UINT64_MAX;
    if (!is_real(column->type) && column->real_step == 0 && json_is_integer(end)) {
        if (json_integer_value(end) < column->min || column->step <= 0)
            return 0;
        uint64_t values = ((uint64_t)json_integer_value(end) - (uint64_t)column->min) / (uint64_t)column->step;
        return values >= UINT64_MAX / column->repeat ? UINT64_MAX : (values + 1) * column->repeat;
    }
    double span = json_number_value(end) - (is_real(column->type) ? column->real_min : (double)column->min);
    double step = column->real_step > 0 ? column->real_step : (double)column->step;
    double repeat = column->real_step > 0 ? 1 : (double)column->repeat;
    return span < 0 || step <= 0 ? 0 : (uint64_t)((floor(span / step) + 1) * repeat);
}

/* ---- filling ---- */

static inline uint64_t mix(uint64_t seed, uint64_t row) /* splitmix64, Steele and others 2014 */
{
    uint64_t z = seed + row * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Uniform in [0, span], by multiplication. */
static inline uint64_t scale(uint64_t random, uint64_t span)
{
    __extension__ unsigned __int128 product = (__extension__(unsigned __int128)random) * ((__extension__(unsigned __int128)span) + 1);
    return (uint64_t)(product >> 64);
}

static void store_integer(void *values, uint32_t width, uint32_t row, int64_t value)
{
    memcpy((char *)values + (size_t)row * width, &value, width); /* little-endian */
}

static void fill_sequence(const struct datagen_column *column, void *values, uint32_t first, uint32_t count, uint64_t row, uint64_t stride)
{
    uint32_t width = data_type_width(column->type);
    if (is_real(column->type) || column->real_step != 0) {
        for (uint32_t i = 0; i < count; i++, row += stride) {
            uint64_t step_count = row / column->repeat;
            double steps = column->real_step != 0 ? (double)row * column->real_step : (double)step_count * (double)column->step;
            if (column->type == TYPE_DOUBLE)
                ((double *)values)[first + i] = column->real_min + steps;
            else if (column->type == TYPE_FLOAT)
                ((float *)values)[first + i] = (float)(column->real_min + steps);
            else
                store_integer(values, width, first + i, column->min + (int64_t)floor(steps));
        }
        return;
    }
    uint64_t quotient = row / column->repeat, remainder = row % column->repeat;
    uint64_t quotient_step = stride / column->repeat, remainder_step = stride % column->repeat;
    int64_t *words = values;
    for (uint32_t i = 0; i < count; i++) {
        int64_t value = (int64_t)((uint64_t)column->min + quotient * (uint64_t)column->step);
        if (width == 8)
            words[first + i] = value;
        else
            store_integer(values, width, first + i, value);
        remainder += remainder_step;
        quotient += quotient_step + (remainder >= column->repeat);
        remainder -= remainder >= column->repeat ? column->repeat : 0;
    }
}

static void fill_random(const struct datagen_column *column, void *values, uint32_t first, uint32_t count, uint64_t row, uint64_t stride)
{
    uint32_t width = data_type_width(column->type);
    uint64_t span = (uint64_t)column->max - (uint64_t)column->min;
    for (uint32_t i = 0; i < count; i++, row += stride) {
        uint64_t random = mix(column->seed, row);
        double unit = (double)(random >> 11) * 0x1p-53;
        if (column->type == TYPE_DOUBLE)
            ((double *)values)[first + i] = column->real_min + unit * (column->real_max - column->real_min);
        else if (column->type == TYPE_FLOAT)
            ((float *)values)[first + i] = (float)(column->real_min + unit * (column->real_max - column->real_min));
        else
            store_integer(values, width, first + i, (int64_t)((uint64_t)column->min + scale(random, span)));
    }
}

static void fill_random_text(const struct datagen_column *column, struct batch_builder *builder, uint32_t column_index, uint32_t first,
                             uint32_t count, uint64_t row, uint64_t stride)
{
    static const char digits[] = "0123456789abcdef";
    char *text = heap_alloc(column->length + 16u);
    for (uint32_t i = 0; i < count; i++, row += stride) {
        for (uint32_t at = 0; at < column->length; at += 16) {
            uint64_t random = mix(column->seed + at, row);
            for (uint32_t d = 0; d < 16; d++)
                text[at + d] = digits[random >> (4 * d) & 15];
        }
        batch_builder_set_text(builder, column_index, first + i, text, column->length);
    }
    free(text);
}

static void fill_choice_text(const struct datagen_column *column, struct batch_builder *builder, uint32_t column_index, uint32_t row, uint32_t choice)
{
    const struct string_view *view = &((const struct string_view *)batch_builder_values(column->choices, 0))[choice];
    struct string_view *out = &((struct string_view *)batch_builder_values(builder, column_index))[row];
    if (view->length <= STRING_VIEW_INLINE_MAX) {
        *out = *view;
        return;
    }
    const struct builder_column *from = &column->choices->columns[0];
    const struct buffer *buffer = view->as.ref.buffer_index < from->filled_count ? from->filled[view->as.ref.buffer_index] : from->text;
    batch_builder_set_text(builder, column_index, row, (const char *)buffer->data + view->as.ref.offset, view->length);
}

static void fill_choice(const struct datagen_column *column, struct batch_builder *builder, uint32_t column_index, uint32_t first,
                        uint32_t count, uint64_t row, uint64_t stride)
{
    const char *from = batch_builder_values(column->choices, 0);
    char *to = batch_builder_values(builder, column_index);
    uint32_t choice_count = column->choice_count, width = data_type_width(column->type);
    uint32_t choice = (uint32_t)(row % choice_count), step = (uint32_t)(stride % choice_count);
    for (uint32_t i = 0; i < count; i++, row += stride) {
        uint32_t at = column->is_random_choice ? (uint32_t)scale(mix(column->seed, row), choice_count - 1) : choice;
        if (width == 16)
            fill_choice_text(column, builder, column_index, first + i, at);
        else if (width == 0)
            batch_builder_set_bool(builder, column_index, first + i, (uint8_t)from[at >> 3] >> (at & 7) & 1);
        else
            memcpy(to + (size_t)(first + i) * width, from + (size_t)at * width, width);
        choice += step;
        choice -= choice >= choice_count ? choice_count : 0;
    }
}

static void set_valid_range(struct batch_builder *builder, uint32_t column_index, uint32_t first, uint32_t count)
{
    uint8_t *validity = builder->columns[column_index].validity->data;
    uint32_t row = first, end = first + count;
    for (; row < end && (row & 7) != 0; row++)
        validity[row >> 3] |= (uint8_t)(1u << (row & 7));
    if (end - row >= 8)
        memset(validity + (row >> 3), 0xff, (end - row) >> 3);
    for (row += (end - row) & ~7u; row < end; row++)
        validity[row >> 3] |= (uint8_t)(1u << (row & 7));
}

void datagen_column_fill(const struct datagen_column *column, struct batch_builder *builder, uint32_t column_index, uint32_t first,
                         uint32_t count, uint64_t row, uint64_t stride)
{
    void *values = batch_builder_values(builder, column_index);
    if (column->kind == DATAGEN_SEQUENCE)
        fill_sequence(column, values, first, count, row, stride);
    else if (column->kind != DATAGEN_RANDOM)
        fill_choice(column, builder, column_index, first, count, row, stride);
    else if (data_type_is_text(column->type))
        fill_random_text(column, builder, column_index, first, count, row, stride);
    else if (column->type == TYPE_BOOLEAN)
        for (uint32_t i = 0; i < count; i++)
            batch_builder_set_bool(builder, column_index, first + i, mix(column->seed, row + i * stride) & 1);
    else
        fill_random(column, values, first, count, row, stride);
    set_valid_range(builder, column_index, first, count);
}
