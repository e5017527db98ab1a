/* Window functions over state tables: see window_function.h. Values without text are C structs that are changed where they
 * lie; others are encoded rows: decoded, changed, and stored again. Thread: task. Owner: the window operator. */
#include "taskmanager/ops/window_function.h"

#include "common/base/heap.h"
#include "taskmanager/ops/element_list.h"
#include "taskmanager/ops/op_ticker.h"

#include <stdlib.h>
#include <string.h>

/* Rows folded between two looks at the clock or the abort flag. */
#define FOLD_TICK_ROWS 16u

/* ---- set-up ---- */

static struct error *find_functions(struct window_function *self)
{
    struct op_context *ctx = self->op->ctx;
    const struct mr_function *aggregate, *reduce;
    const json_t *builtin = json_object_get(ctx->spec->options, "builtin");
    TRY(user_function_find(ctx, "aggregate", MR_FUNCTION_AGGREGATE, false, &aggregate));
    TRY(user_function_find(ctx, "reduce", MR_FUNCTION_REDUCE, false, &reduce));
    bool is_builtin = json_array_size(builtin) > 0;
    if ((aggregate != NULL) + (reduce != NULL) + is_builtin > 1)
        return error_new(INVALID_PROGRAM, "operator %s: options aggregate, reduce and builtin exclude each other", ctx->spec->name);
    self->fold = aggregate != NULL ? aggregate : reduce;
    self->kind = aggregate != NULL ? WINDOW_AGGREGATE : reduce != NULL ? WINDOW_REDUCE : is_builtin ? WINDOW_BUILTIN : WINDOW_ELEMENTS;
    if (self->kind == WINDOW_BUILTIN) {
        if (json_is_string(json_object_get(ctx->spec->options, "window_function")))
            return error_new(UNSUPPORTED, "operator %s: a window function cannot follow a built-in aggregate", ctx->spec->name);
        return NULL;
    }
    TRY(user_function_find(ctx, "window_function", self->kind == WINDOW_ELEMENTS ? MR_FUNCTION_WINDOW : MR_FUNCTION_WINDOW_RESULT,
                           self->kind == WINDOW_ELEMENTS, &self->finish));
    if (aggregate != NULL && (aggregate->accumulator == NULL || aggregate->output == NULL))
        return error_new(INVALID_PROGRAM, "function %s has no accumulator or output type", aggregate->name);
    if (self->fold != NULL && self->finish != NULL && self->finish->input->size_bytes != self->fold->output->size_bytes)
        return error_new(INVALID_PROGRAM, "operator %s: window function %s takes record %s, but %s gives record %s", ctx->spec->name,
                         self->finish->name, self->finish->input->name, self->fold->name, self->fold->output->name);
    return NULL;
}

static struct error *init_user(struct window_function *self, struct schema *key_schema)
{
    const struct mr_function *reader = self->fold != NULL ? self->fold : self->finish;
    TRY(user_context_init(&self->context, self->op, self->finish != NULL ? self->finish : self->fold, key_schema));
    /* Timers belong to process functions; a window has its own. */
    timer_service_destroy(self->context.timers);
    self->context.timers = NULL;
    TRY(record_adapter_create_input(reader->input, self->input_schema, reader->name, &self->input));
    self->records = record_adapter_array(self->input, RECORD_CHUNK_ROWS);
    struct schema *schema;
    TRY(row_schema_of_record(self->kind == WINDOW_AGGREGATE ? self->fold->accumulator : reader->input, &schema));
    self->codec = row_codec_create(schema);
    schema_unref(schema);
    self->is_record = self->codec->text_count == 0 && self->kind != WINDOW_ELEMENTS;
    if (self->kind == WINDOW_AGGREGATE)
        self->result = heap_alloc(self->fold->output->size_bytes + 1u);
    return user_context_open(&self->context);
}

struct error *window_function_init(struct window_function *self, struct op *op, struct schema *input_schema, struct schema *key_schema)
{
    *self = (struct window_function){.op = op, .input_schema = input_schema};
    TRY(find_functions(self));
    if (self->kind == WINDOW_BUILTIN)
        TRY(window_builtin_init(self, key_schema, json_object_get(op->ctx->spec->options, "builtin")));
    else
        TRY(init_user(self, key_schema));
    self->scratch = heap_alloc(self->codec->record_size + 1u);
    self->second = heap_alloc(self->codec->record_size + 1u);
    self->refs = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->refs);
    self->is_new = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->is_new);
    self->values = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->values);
    self->key_groups = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->key_groups);
    window_groups_init(&self->groups);
    return NULL;
}

void window_function_finish(struct window_function *self)
{
    window_builtin_finish(self);
    user_context_finish(&self->context);
    record_adapter_destroy(self->input);
    row_codec_destroy(self->codec);
    bytes_writer_finish(&self->bytes);
    free(self->records);
    free(self->scratch);
    free(self->second);
    free(self->result);
    free(self->refs);
    free(self->is_new);
    free(self->values);
    free(self->key_groups);
    window_groups_finish(&self->groups);
}

struct state_table *window_function_table(const struct window_function *self, struct schema *namespace_schema)
{
    struct state_table_options options = {
        .key_group_first = self->op->ctx->key_group_first,
        .key_group_last = self->op->ctx->key_group_last,
        .key_schema = self->context.key_codec->schema,
        .namespace_schema = namespace_schema,
        .value_schema = self->kind == WINDOW_ELEMENTS ? NULL : self->codec->schema,
        .value_form = self->kind == WINDOW_ELEMENTS ? STATE_VALUE_BYTES : self->is_record ? STATE_VALUE_RECORD : STATE_VALUE_ROW,
    };
    return state_table_create(&options);
}

static const char *const kind_names[] = {"aggregate", "reduce", "elements", "builtin"};

json_t *window_function_meta(const struct window_function *self)
{
    json_t *meta = json_object();
    json_object_set_new(meta, "kind", json_string(kind_names[self->kind]));
    if (self->kind == WINDOW_ELEMENTS)
        json_object_set_new(meta, "element", schema_to_json(self->codec->schema));
    return meta;
}

struct error *window_function_convert(struct window_function *self, struct state_table *table, const json_t *meta)
{
    const char *kind = json_string_value(json_object_get(meta, "kind"));
    if (kind == NULL || strcmp(kind, kind_names[self->kind]) != 0)
        return error_with_hint(error_new(INVALID_PROGRAM, "operator %s: the checkpoint holds %s windows, the program wants %s windows",
                                         self->op->ctx->spec->name, kind != NULL ? kind : "other", kind_names[self->kind]),
                               "give the changed window another uid and restore with --allowNonRestoredState");
    if (self->kind != WINDOW_ELEMENTS)
        return NULL;
    struct schema *stored;
    TRY(schema_from_json(json_object_get(meta, "element"), &stored));
    struct row_converter *converter = NULL;
    struct error *err = row_converter_create(stored, self->codec->schema, false, &converter);
    if (err == NULL && !row_converter_is_identity(converter))
        err = element_list_convert_all(table, converter);
    row_converter_destroy(converter);
    schema_unref(stored);
    return err;
}

/* ---- folding ---- */

static void empty_value(struct window_function *self, void *record)
{
    static const mr_string empty = {"", 0};
    memset(record, 0, self->codec->record_size);
    for (uint32_t i = 0; i < self->codec->field_count; i++)
        if (data_type_is_text(self->codec->fields[i].type))
            memcpy((char *)record + self->codec->fields[i].record_offset, &empty, sizeof empty);
}

static bool decode_value(struct window_function *self, const void *bytes, uint32_t length, void *record)
{
    struct error *err = row_codec_decode_record(self->codec, bytes, length, record);
    if (err != NULL)
        user_context_fail(&self->context, err);
    return err == NULL;
}

/* in is a record of the function's input. */
static void fold_into(const struct window_function *self, const void *in, void *value, bool is_new)
{
    if (self->kind == WINDOW_AGGREGATE)
        self->fold->call.aggregate.add(in, value);
    else if (is_new)
        memcpy(value, in, self->codec->record_size);
    else
        self->fold->call.reduce(in, value);
}

static void store_scratch(struct window_function *self, struct state_table *table, const struct state_key *key, const void *name_space,
                          uint32_t namespace_length)
{
    self->bytes.length = 0;
    row_codec_encode_record(self->codec, self->scratch, &self->bytes);
    state_table_put(table, key->key_group, key->hash, key->bytes, key->length, name_space, namespace_length, self->bytes.data,
                    (uint32_t)self->bytes.length);
}

/* One record of the input into (key, name_space), any kind but builtin. */
static void fold_record(struct window_function *self, struct state_table *table, const void *in, const struct state_key *key,
                        const void *name_space, uint32_t namespace_length)
{
    if (self->kind == WINDOW_ELEMENTS) {
        self->bytes.length = 0;
        row_codec_encode_record(self->codec, in, &self->bytes);
        struct error *err =
            element_list_append(table, key, name_space, namespace_length, self->bytes.data, (uint32_t)self->bytes.length);
        if (err != NULL)
            user_context_fail(&self->context, error_wrap(err, "elements of a window"));
        return;
    }
    if (self->is_record) {
        bool is_new;
        void *value = state_table_upsert(table, key->key_group, key->hash, key->bytes, key->length, name_space, namespace_length,
                                         self->codec->record_size, &is_new);
        fold_into(self, in, value, is_new);
        return;
    }
    uint64_t ref = state_table_find(table, key->key_group, key->hash, key->bytes, key->length, name_space, namespace_length);
    if (ref == STATE_REF_NONE) {
        empty_value(self, self->scratch);
    } else {
        const struct state_entry *entry = state_table_entry(table, ref);
        if (!decode_value(self, entry->data, entry->value_length, self->scratch))
            return;
    }
    fold_into(self, in, self->scratch, ref == STATE_REF_NONE);
    store_scratch(self, table, key, name_space, namespace_length);
}

static struct state_key key_of_row(const struct window_function *self, const struct state_rows *rows, uint32_t row)
{
    return (struct state_key){
        .bytes = rows->keys + rows->key_offsets[row],
        .length = rows->key_offsets[row + 1] - rows->key_offsets[row],
        .key_group = key_group_of_hash(rows->hashes[row], self->op->ctx->max_parallelism),
        .hash = rows->hashes[row],
    };
}

static void gather_chunk(struct window_function *self, const struct batch *batch, const uint32_t *rows, uint32_t start, uint32_t count)
{
    if (rows != NULL)
        record_adapter_gather_rows(self->input, batch, rows + start, count, self->records);
    else
        record_adapter_gather(self->input, batch, start, count, self->records);
}

/* ---- the entries of a batch ---- */

/* Entries of the keys of all rows of the selection, by group. Entries of values of fixed length do not move while rows are added. */
static void find_values(struct window_function *self, struct state_table *table, struct state_rows *rows)
{
    uint32_t max_parallelism = self->op->ctx->max_parallelism;
    window_groups_find(&self->groups, rows);
    rows->key_groups = self->key_groups;
    struct state_rows firsts = *rows;
    firsts.rows = self->groups.rows;
    firsts.count = self->groups.count;
    for (uint32_t g = 0; g < firsts.count; g++)
        self->key_groups[firsts.rows[g]] = key_group_of_hash(rows->hashes[firsts.rows[g]], max_parallelism);
    state_table_upsert_rows(table, &firsts, self->codec->record_size, self->refs, self->kind == WINDOW_REDUCE ? self->is_new : NULL);
    for (uint32_t g = 0; g < firsts.count; g++)
        self->values[g] = state_table_value(table, self->refs[g]);
}

/* Between a few rows: the watchdog hears of it. True when the task is being aborted (what is folded then counts no more), or when the slice is
 * over and the rest may wait. */
static bool fold_stops(struct window_function *self, struct op_ticker *ticker)
{
    if (!op_ticker_tick(ticker))
        return false;
    if (!op_is_aborting(self->op))
        return self->may_stop;
    user_context_fail(&self->context, error_new(CANCELLED, "task %s was cancelled", self->op->ctx->task_name));
    return true;
}

/* Rows start to end of the chunk that was gathered last: one call of the user's function a row, on the value where it lies. */
static void fold_rows(struct window_function *self, uint32_t chunk, uint32_t start, uint32_t end)
{
    const char *in = (const char *)self->records + (size_t)start * self->input->size_bytes;
    const uint32_t *groups = self->groups.of_row + chunk;
    if (self->kind == WINDOW_AGGREGATE) {
        void (*add)(const void *, void *) = self->fold->call.aggregate.add;
        for (uint32_t i = start; i < end; i++, in += self->input->size_bytes)
            add(in, self->values[groups[i]]);
    } else {
        for (uint32_t i = start; i < end; i++, in += self->input->size_bytes) {
            fold_into(self, in, self->values[groups[i]], self->is_new[groups[i]]);
            self->is_new[groups[i]] = false;
        }
    }
}

/* The hot loop: all entries are found first. */
static void fold_in_place(struct window_function *self, struct state_table *table, const struct batch *batch, struct state_rows *rows)
{
    struct op_ticker ticker = op_ticker_start(self->op);
    find_values(self, table, rows);
    for (uint32_t chunk = 0; chunk < rows->count; chunk += RECORD_CHUNK_ROWS) {
        uint32_t count = rows->count - chunk < RECORD_CHUNK_ROWS ? rows->count - chunk : RECORD_CHUNK_ROWS;
        gather_chunk(self, batch, rows->rows, chunk, count);
        for (uint32_t start = 0, end; start < count; start = end) {
            uint32_t step = op_ticker_is_slow(&ticker) ? 1 : FOLD_TICK_ROWS;
            end = count - start < step ? count : start + step;
            fold_rows(self, chunk, start, end);
            if (!fold_stops(self, &ticker))
                continue;
            self->added_count = chunk + end;
            return;
        }
    }
}

static void fold_one_by_one(struct window_function *self, struct state_table *table, const struct batch *batch, const struct state_rows *rows)
{
    struct op_ticker ticker = op_ticker_start(self->op);
    for (uint32_t start = 0; start < rows->count; start += RECORD_CHUNK_ROWS) {
        uint32_t count = rows->count - start < RECORD_CHUNK_ROWS ? rows->count - start : RECORD_CHUNK_ROWS;
        const char *in = self->records;
        gather_chunk(self, batch, rows->rows, start, count);
        for (uint32_t i = 0; i < count; i++, in += self->input->size_bytes) {
            struct state_key key = key_of_row(self, rows, rows->rows != NULL ? rows->rows[start + i] : start + i);
            fold_record(self, table, in, &key, rows->namespaces, rows->namespace_length);
            if (!fold_stops(self, &ticker))
                continue;
            self->added_count = start + i + 1;
            return;
        }
    }
}

static const char *fold_name(const struct window_function *self)
{
    return self->fold != NULL ? self->fold->name : NULL;
}

void window_function_add_rows(struct window_function *self, struct state_table *table, const struct batch *batch, struct state_rows *rows)
{
    const char *outer = user_function_current;
    user_function_set(fold_name(self));
    self->added_count = rows->count;
    if (self->kind == WINDOW_BUILTIN) {
        find_values(self, table, rows);
        window_builtin_add(self, batch, rows->rows, rows->count, self->values, self->groups.of_row);
    } else if (self->is_record) {
        fold_in_place(self, table, batch, rows);
    } else {
        fold_one_by_one(self, table, batch, rows);
    }
    user_function_set(outer);
}

void window_function_add_row(struct window_function *self, struct state_table *table, const struct batch *batch, uint32_t row,
                             const struct state_key *key, const void *name_space, uint32_t namespace_length)
{
    if (self->kind == WINDOW_BUILTIN) {
        void *value = state_table_upsert(table, key->key_group, key->hash, key->bytes, key->length, name_space, namespace_length,
                                         self->codec->record_size, NULL);
        static const uint32_t group = 0;
        window_builtin_add(self, batch, &row, 1, &value, &group);
        return;
    }
    const char *outer = user_function_current;
    user_function_set(fold_name(self));
    record_adapter_gather(self->input, batch, row, 1, self->records);
    fold_record(self, table, self->records, key, name_space, namespace_length);
    user_function_set(outer);
}

/* ---- merging ---- */

bool window_function_can_merge(const struct window_function *self)
{
    return self->kind != WINDOW_AGGREGATE || self->fold->call.aggregate.merge != NULL;
}

static void merge_records(struct window_function *self, const void *from, void *into)
{
    if (self->kind == WINDOW_BUILTIN)
        window_builtin_merge(self, from, into);
    else if (self->kind == WINDOW_AGGREGATE)
        self->fold->call.aggregate.merge(from, into);
    else
        self->fold->call.reduce(from, into);
}

void window_function_merge(struct window_function *self, struct state_table *table, const struct state_key *key, const void *from_namespace,
                           const void *to_namespace, uint32_t namespace_length)
{
    uint64_t from = state_table_find(table, key->key_group, key->hash, key->bytes, key->length, from_namespace, namespace_length);
    uint64_t to = state_table_find(table, key->key_group, key->hash, key->bytes, key->length, to_namespace, namespace_length);
    if (from == STATE_REF_NONE)
        return;
    const struct state_entry *entry = state_table_entry(table, from);
    const char *outer = user_function_current;
    user_function_set(fold_name(self));
    struct bytes_writer copy = {0};
    bytes_write(&copy, entry->data, entry->value_length);
    if (self->kind == WINDOW_ELEMENTS) {
        struct error *err = element_list_append_all(table, key, to_namespace, namespace_length, copy.data, (uint32_t)copy.length);
        if (err != NULL)
            user_context_fail(&self->context, error_wrap(err, "elements of a window"));
    } else if (self->is_record) {
        memcpy(self->second, copy.data, copy.length);
        merge_records(self, self->second, state_table_value(table, to));
    } else {
        const struct state_entry *target = state_table_entry(table, to);
        if (decode_value(self, target->data, target->value_length, self->scratch) &&
            decode_value(self, copy.data, (uint32_t)copy.length, self->second)) {
            merge_records(self, self->second, self->scratch);
            store_scratch(self, table, key, to_namespace, namespace_length);
        }
    }
    bytes_writer_finish(&copy);
    user_function_set(outer);
    state_table_remove(table, key->key_group, key->hash, key->bytes, key->length, from_namespace, namespace_length);
}

/* ---- emitting ---- */

struct window_elements {
    struct mr_elements head; /* first member */
    struct window_function *function;
    const void *value;
    uint32_t value_length;
    size_t cursor;
};

static const void *next_element(struct mr_elements *elements)
{
    struct window_elements *self = (struct window_elements *)(void *)elements;
    uint32_t length;
    const void *bytes = element_list_next(self->value, self->value_length, &self->cursor, &length);
    return bytes != NULL && decode_value(self->function, bytes, length, self->function->scratch) ? self->function->scratch : NULL;
}

void window_function_enter(struct window_function *self)
{
    if (self->kind != WINDOW_BUILTIN)
        user_context_enter(&self->context);
}

/* The aggregate's result, or the reduced record; NULL after a failure. */
static const void *fold_result(struct window_function *self, const void *value, uint32_t value_length)
{
    const void *record = value;
    if (!self->is_record) {
        if (!decode_value(self, value, value_length, self->scratch))
            return NULL;
        record = self->scratch;
    }
    if (self->kind == WINDOW_REDUCE)
        return record;
    memset(self->result, 0, self->fold->output->size_bytes);
    self->fold->call.aggregate.result(record, self->result);
    return self->result;
}

void window_function_emit(struct window_function *self, const struct state_key *key, const void *value, uint32_t value_length,
                          const struct mr_window *window)
{
    struct user_context *context = &self->context;
    if (context->error != NULL)
        return;
    if (self->kind == WINDOW_BUILTIN) {
        window_builtin_emit(self, key, value, window);
        return;
    }
    user_context_set_key(context, key);
    context->timestamp = window->end - 1;
    if (self->kind == WINDOW_ELEMENTS) {
        struct window_elements elements = {{next_element}, self, value, value_length, 0};
        self->finish->call.window(&context->head, window, &elements.head);
        return;
    }
    const void *result = fold_result(self, value, value_length);
    if (result == NULL)
        return;
    if (self->finish != NULL)
        self->finish->call.window_result(&context->head, window, result);
    else
        context->head.runtime->collect(&context->head, result);
}

struct error *window_function_leave(struct window_function *self)
{
    self->context.key.bytes = NULL;
    if (self->kind != WINDOW_BUILTIN)
        return user_context_leave(&self->context);
    struct error *err = self->context.error;
    self->context.error = NULL;
    struct batch *batch = batch_builder_finish(self->builder);
    if (err != NULL) {
        batch_unref(batch);
        return err;
    }
    return op_emit(self->op, batch);
}
