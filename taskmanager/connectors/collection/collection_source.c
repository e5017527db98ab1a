/* collection-source: the rows that its option lists, then the end. Option rows: an array of JSON objects (by column name) or arrays (by
 * position); timestamps are milliseconds or SQL text. One split. Options: rows, watermark. Thread: task. Owner: the operator chain. */
#include "common/base/heap.h"
#include "taskmanager/connectors/source.h"
#include "taskmanager/formats/format.h"
#include "taskmanager/ops/op_support.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct collection_source {
    struct source source; /* first member */
    const json_t *rows;   /* borrowed from the options */
    uint64_t next_row;
    struct source_split *split; /* NULL: another subtask reads it */
};

extern const struct op_vtable collection_source_vtable;

/* ---- one row ---- */

static bool put_number(struct batch_builder *builder, uint32_t column, uint32_t row, enum data_type type, const json_t *value)
{
    char *values = batch_builder_values(builder, column);
    uint32_t width = data_type_width(type);
    if (type == TYPE_FLOAT || type == TYPE_DOUBLE) {
        if (!json_is_number(value))
            return false;
        double real = json_number_value(value);
        if (type == TYPE_FLOAT)
            ((float *)(void *)values)[row] = (float)real;
        else
            ((double *)(void *)values)[row] = real;
    } else {
        if (!json_is_integer(value))
            return false;
        int64_t integer = json_integer_value(value);
        if (width < 8 && (integer < -(INT64_C(1) << (8 * width - 1)) || integer >= INT64_C(1) << (8 * width - 1)))
            return false;
        memcpy(values + (size_t)row * width, &integer, width); /* little-endian */
    }
    batch_builder_set_valid(builder, column, row);
    return true;
}

static bool put_value(struct batch_builder *builder, uint32_t column, uint32_t row, const json_t *value)
{
    const struct field *field = &builder->schema->fields[column];
    if (value == NULL || json_is_null(value))
        return field->nullable;
    if (data_type_is_text(field->type)) {
        if (!json_is_string(value))
            return false;
        batch_builder_set_text(builder, column, row, json_string_value(value), json_string_length(value));
        return true;
    }
    if (field->type == TYPE_BOOLEAN) {
        if (!json_is_boolean(value))
            return false;
        batch_builder_set_bool(builder, column, row, json_is_true(value));
        return true;
    }
    return put_number(builder, column, row, field->type, value);
}

static struct error *add_row(struct collection_source *self, const json_t *json)
{
    struct batch_builder *builder = self->source.builder;
    uint32_t row = batch_builder_add_row(builder);
    for (uint32_t c = 0; c < builder->schema->field_count; c++) {
        const struct field *field = &builder->schema->fields[c];
        const json_t *value = json_is_array(json) ? json_array_get(json, c) : json_object_get(json, field->name);
        if (put_value(builder, c, row, value))
            continue;
        batch_builder_drop_row(builder);
        return error_new(INVALID_PROGRAM, "operator %s: row %" PRIu64 " has no %s value for column %s", self->source.op.ctx->spec->name,
                         self->next_row, data_type_name(field->type), field->name);
    }
    return NULL;
}

/* ---- the source ---- */

static struct error *collection_read(struct source *source, uint32_t max_rows, enum source_status *status)
{
    struct collection_source *self = (struct collection_source *)source;
    uint64_t row_count = json_array_size(self->rows);
    if (self->split == NULL || self->next_row >= row_count) {
        if (self->split != NULL)
            self->split->is_finished = true;
        *status = SOURCE_END;
        return NULL;
    }
    source_select_split(source, self->split);
    for (uint32_t i = 0; i < max_rows && self->next_row < row_count; i++) {
        if (batch_builder_is_full(source->builder))
            TRY(source_flush(source));
        TRY(add_row(self, json_array_get(self->rows, self->next_row)));
        source_count_record(source, 0);
        self->next_row++;
    }
    *status = SOURCE_MORE;
    return NULL;
}

static void collection_write_position(struct source *source, const struct source_split *split, struct bytes_writer *writer)
{
    (void)split;
    bytes_write_u64(writer, ((struct collection_source *)source)->next_row);
}

static const struct source_reader collection_reader = {
    .read = collection_read,
    .write_position = collection_write_position,
};

static struct error *collection_create(struct op_context *ctx, struct op **out)
{
    const json_t *rows = json_object_get(ctx->spec->options, "rows");
    if (!json_is_array(rows))
        return error_new(INVALID_PROGRAM, "operator %s: option rows is not a list", ctx->spec->name);
    struct collection_source *self = heap_new(struct collection_source);
    struct error *err = source_init(&self->source, &collection_source_vtable, &collection_reader, ctx);
    if (err != NULL) {
        free(self);
        return err;
    }
    self->rows = rows;
    *out = &self->source.op;
    return NULL;
}

static struct error *collection_open(struct op *op)
{
    struct collection_source *self = (struct collection_source *)op;
    if (!source_owns(&self->source, 0))
        return NULL;
    self->split = source_add_split(&self->source, "rows", 0);
    size_t length;
    const void *position = source_split_restored_position(self->split, &length);
    if (position != NULL) {
        struct bytes_reader reader = bytes_reader_on(position, length);
        self->next_row = bytes_read_u64(&reader);
        if (!bytes_reader_ok(&reader))
            return error_new(CORRUPT, "operator %s: its position is damaged", op->ctx->spec->name);
    }
    return NULL;
}

static void collection_destroy(struct op *op)
{
    source_finish(&((struct collection_source *)op)->source);
    free(op);
}

const struct op_vtable collection_source_vtable = {
    .type = "collection-source",
    .create = collection_create,
    .restore = source_restore,
    .open = collection_open,
    .wake = source_wake,
    .describe = source_describe,
    .snapshot = source_snapshot,
    .destroy = collection_destroy,
    .poll = source_poll,
};
