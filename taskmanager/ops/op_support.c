/* Creation, input schemas, key columns and typed options of operators. Thread: task (while the chain is created). */
#include "taskmanager/ops/op_support.h"

#include "common/base/heap.h"
#include "common/base/local_path.h"

#include <inttypes.h>
#include <stdlib.h>

struct error *op_create(const struct op_vtable *vtable, size_t size_bytes, struct op_context *ctx, struct error *(*init)(struct op *op),
                        struct op **out)
{
    struct op *op = heap_alloc(size_bytes);
    *op = (struct op){vtable, ctx};
    struct error *err = init(op);
    if (err != NULL) {
        vtable->destroy(op);
        return err;
    }
    *out = op;
    return NULL;
}

struct error *op_input_schema(const struct op_context *ctx, uint32_t input, struct schema **out)
{
    for (uint32_t i = 0; i < ctx->spec->input_count; i++) {
        const struct job_edge *edge = &ctx->spec->inputs[i];
        if (edge->input != input)
            continue;
        const struct job_operator *source = &ctx->graph->operators[edge->source];
        struct schema *schema = edge->side_output < 0 ? source->schema : source->side_outputs[edge->side_output].schema;
        if (schema == NULL)
            return error_new(INVALID_PROGRAM, "operator %s reads from %s, which has no output", ctx->spec->name, source->name);
        *out = schema;
        return NULL;
    }
    return error_new(INVALID_PROGRAM, "operator %s has nothing connected to input %" PRIu32, ctx->spec->name, input);
}

static struct error *keys_from_json(const struct op_context *ctx, const json_t *json, struct key_columns *out)
{
    struct key_columns keys = {heap_alloc_array(json_array_size(json) + 1, sizeof *keys.columns), 0};
    size_t index;
    json_t *column;
    json_array_foreach((json_t *)(uintptr_t)json, index, column)
    {
        json_int_t value = json_integer_value(column);
        if (!json_is_integer(column) || value < 0 || value >= SCHEMA_FIELD_COUNT_MAX) {
            key_columns_finish(&keys);
            return error_new(INVALID_PROGRAM, "operator %s: option key_columns is not a list of column numbers", ctx->spec->name);
        }
        keys.columns[keys.count++] = (uint32_t)value;
    }
    *out = keys;
    return NULL;
}

static void keys_from_edges(const struct op_context *ctx, uint32_t input, struct key_columns *out)
{
    *out = (struct key_columns){0};
    for (uint32_t i = 0; i < ctx->spec->input_count; i++) {
        const struct job_edge *edge = &ctx->spec->inputs[i];
        if (edge->input != input || edge->partitioning != PARTITION_HASH || edge->key_count == 0)
            continue;
        out->columns = heap_memdup(edge->key_columns, edge->key_count * sizeof *edge->key_columns);
        out->count = edge->key_count;
        return;
    }
}

struct error *op_key_columns(const struct op_context *ctx, uint32_t input, struct key_columns *out)
{
    const json_t *json = json_object_get(ctx->spec->options, "key_columns");
    if (json_is_array(json) && json_is_array(json_array_get(json, 0)))
        json = json_array_get(json, input);
    struct key_columns keys;
    if (json != NULL && !json_is_null(json))
        TRY(keys_from_json(ctx, json, &keys));
    else
        keys_from_edges(ctx, input, &keys);
    struct schema *schema;
    struct error *err = op_input_schema(ctx, input, &schema);
    for (uint32_t i = 0; i < keys.count && err == NULL; i++)
        if (keys.columns[i] >= schema->field_count)
            err = error_new(INVALID_PROGRAM, "operator %s: key column %" PRIu32 " is not a column of its input", ctx->spec->name, keys.columns[i]);
    if (err != NULL) {
        key_columns_finish(&keys);
        return err;
    }
    *out = keys;
    return NULL;
}

void key_columns_finish(struct key_columns *keys)
{
    free(keys->columns);
    *keys = (struct key_columns){0};
}

struct schema *key_columns_schema(const struct key_columns *keys, const struct schema *schema)
{
    struct field *fields = heap_alloc_array(keys->count + 1u, sizeof *fields);
    for (uint32_t i = 0; i < keys->count; i++)
        fields[i] = schema->fields[keys->columns[i]];
    struct schema *out = schema_create(fields, keys->count);
    free(fields);
    return out;
}

struct error *op_option_int(const struct op_context *ctx, const json_t *options, const char *name, int64_t min, int64_t max, int64_t *out)
{
    const json_t *json = json_object_get(options, name);
    if (json == NULL || json_is_null(json))
        return NULL;
    if (!json_is_integer(json))
        return error_new(INVALID_PROGRAM, "operator %s: option %s is not a whole number", ctx->spec->name, name);
    int64_t value = json_integer_value(json);
    if (value < min || value > max)
        return error_new(INVALID_PROGRAM, "operator %s: option %s is %" PRId64 ", it must lie between %" PRId64 " and %" PRId64, ctx->spec->name,
                         name, value, min, max);
    *out = value;
    return NULL;
}

struct error *op_option_text(const struct op_context *ctx, const json_t *options, const char *name, bool is_required, const char **out)
{
    const json_t *json = json_object_get(options, name);
    if (json == NULL || json_is_null(json)) {
        if (is_required)
            return error_new(INVALID_PROGRAM, "operator %s: option %s is missing", ctx->spec->name, name);
        return NULL;
    }
    if (!json_is_string(json))
        return error_new(INVALID_PROGRAM, "operator %s: option %s is not a text", ctx->spec->name, name);
    *out = json_string_value(json);
    return NULL;
}

struct error *op_option_path(const struct op_context *ctx, const json_t *options, const char *name, const char **out)
{
    const char *text, *path;
    TRY(op_option_text(ctx, options, name, true, &text));
    struct error *err = local_path_parse(text, &path);
    if (err != NULL)
        return error_wrap(err, "operator %s", ctx->spec->name);
    if (path[0] == '\0')
        return error_new(INVALID_PROGRAM, "operator %s: option %s is empty", ctx->spec->name, name);
    *out = path;
    return NULL;
}

struct error *op_option_bool(const struct op_context *ctx, const json_t *options, const char *name, bool *out)
{
    const json_t *json = json_object_get(options, name);
    if (json == NULL || json_is_null(json))
        return NULL;
    if (!json_is_boolean(json))
        return error_new(INVALID_PROGRAM, "operator %s: option %s is neither true nor false", ctx->spec->name, name);
    *out = json_is_true(json);
    return NULL;
}
