/* Column-wise gather and scatter between batches and arrays of C structs.
 * Thread: the task thread. Owner: the operator that calls a user function. */
#include "taskmanager/ops/record_adapter.h"

#include "common/base/heap.h"

#include <inttypes.h>
#include <stdlib.h>

enum data_type data_type_of_record_field(enum mr_type type)
{
    switch (type) {
    case MR_BOOLEAN: return TYPE_BOOLEAN;
    case MR_INT8: return TYPE_INT8;
    case MR_INT16: return TYPE_INT16;
    case MR_INT32: return TYPE_INT32;
    case MR_INT64: return TYPE_INT64;
    case MR_FLOAT: return TYPE_FLOAT;
    case MR_DOUBLE: return TYPE_DOUBLE;
    case MR_STRING: return TYPE_STRING;
    case MR_BYTES: return TYPE_BYTES;
    case MR_TIMESTAMP: return TYPE_TIMESTAMP;
    }
    return DATA_TYPE_COUNT;
}

static uint32_t record_width(enum data_type type)
{
    return type == TYPE_BOOLEAN ? (uint32_t)sizeof(bool) : data_type_is_text(type) ? (uint32_t)sizeof(mr_string) : data_type_width(type);
}

/* Offsets as the C ABI lays out a struct; the declared sizes and the total must agree with it. */
static struct error *lay_out(struct record_adapter *adapter, const char *owner)
{
    const struct mr_record_type *type = adapter->type;
    uint32_t offset = 0, alignment_max = 1;
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct mr_field *field = &type->fields[i];
        enum data_type data_type = data_type_of_record_field(field->type);
        if (data_type == DATA_TYPE_COUNT || field->size_bytes != record_width(data_type) || field->alignment == 0)
            return error_new(INVALID_PROGRAM, "%s: field %s of record %s has an unknown type or size", owner, field->name, type->name);
        uint32_t alignment = field->alignment;
        alignment_max = alignment > alignment_max ? alignment : alignment_max;
        offset = (offset + alignment - 1) / alignment * alignment;
        adapter->fields[i].offset = offset;
        adapter->fields[i].type = data_type;
        adapter->has_text |= data_type_is_text(data_type);
        offset += field->size_bytes;
    }
    offset = (offset + alignment_max - 1) / alignment_max * alignment_max;
    if (offset != type->size_bytes)
        return error_new(INVALID_PROGRAM, "%s: record %s is %" PRIu32 " bytes long, its fields make %" PRIu32, owner, type->name,
                         type->size_bytes, offset);
    return NULL;
}

static struct error *match_fields(struct record_adapter *adapter, const struct schema *schema, const char *owner)
{
    for (uint32_t i = 0; i < adapter->field_count; i++) {
        const char *name = adapter->type->fields[i].name;
        int column = schema_find(schema, name);
        if (column < 0)
            return error_with_hint(error_new(INVALID_PROGRAM, "%s: field %s of record %s is not a column of the stream", owner, name,
                                             adapter->type->name),
                                   "use the record type of the stream, or add the field to it");
        if (schema->fields[column].type != adapter->fields[i].type)
            return error_with_hint(error_new(INVALID_PROGRAM, "%s: field %s of record %s is %s, the stream's column is %s", owner, name,
                                             adapter->type->name, data_type_name(adapter->fields[i].type),
                                             data_type_name(schema->fields[column].type)),
                                   "give the field the column's type");
        adapter->fields[i].column = (uint32_t)column;
    }
    return NULL;
}

struct error *record_adapter_create_input(const struct mr_record_type *type, const struct schema *schema, const char *owner,
                                          struct record_adapter **out)
{
    struct record_adapter *adapter = heap_alloc(sizeof *adapter + type->field_count * sizeof adapter->fields[0]);
    adapter->type = type;
    adapter->size_bytes = type->size_bytes;
    adapter->field_count = type->field_count;
    struct error *err;
    TRY_GOTO(fail, lay_out(adapter, owner));
    TRY_GOTO(fail, match_fields(adapter, schema, owner));
    *out = adapter;
    return NULL;
fail:
    record_adapter_destroy(adapter);
    return err;
}

struct error *record_adapter_create_output(const struct mr_record_type *type, const struct schema *schema, const char *owner,
                                           struct record_adapter **out)
{
    for (uint32_t c = 0; c < schema->field_count; c++) {
        bool is_there = schema->fields[c].nullable;
        for (uint32_t i = 0; i < type->field_count && !is_there; i++)
            is_there = strcmp(type->fields[i].name, schema->fields[c].name) == 0;
        if (!is_there)
            return error_new(INVALID_PROGRAM, "%s: column %s of the stream is not a field of record %s", owner, schema->fields[c].name, type->name);
    }
    return record_adapter_create_input(type, schema, owner, out);
}

void record_adapter_destroy(struct record_adapter *adapter)
{
    free(adapter);
}

void *record_adapter_array(const struct record_adapter *adapter, uint32_t count)
{
    return heap_alloc_array(count, adapter->size_bytes + (adapter->size_bytes == 0));
}

/* ---- rows to records ---- */

/* Each loop reads rows ROW(i) and steps through the records by their size. */
#define GATHER_FIXED(c_type)                                                                                           \
    do {                                                                                                               \
        const c_type *values = column->values;                                                                         \
        for (uint32_t i = 0; i < count; i++, place += size)                                                            \
            memcpy(place, &values[rows != NULL ? rows[i] : start + i], sizeof(c_type));                                \
    } while (0)

static void gather_text(const struct column *column, uint32_t start, const uint32_t *rows, uint32_t count, char *place, size_t size)
{
    const struct string_view *views = column->values;
    for (uint32_t i = 0; i < count; i++, place += size) {
        const struct string_view *view = &views[rows != NULL ? rows[i] : start + i];
        mr_string text = {string_view_text(column, view), view->length};
        memcpy(place, &text, sizeof text);
    }
}

static void gather_bools(const struct column *column, uint32_t start, const uint32_t *rows, uint32_t count, char *place, size_t size)
{
    const uint8_t *bits = column->values;
    for (uint32_t i = 0; i < count; i++, place += size) {
        uint32_t row = rows != NULL ? rows[i] : start + i;
        bool value = bits[row >> 3] >> (row & 7) & 1;
        memcpy(place, &value, sizeof value);
    }
}

/* A null's value bytes are whatever the producer left there. */
static void gather_nulls(const struct record_adapter_field *field, const struct column *column, uint32_t start, const uint32_t *rows,
                         uint32_t count, char *place, size_t size)
{
    static const mr_string empty = {"", 0};
    for (uint32_t i = 0; i < count; i++, place += size) {
        if (!column_is_null(column, rows != NULL ? rows[i] : start + i))
            continue;
        if (data_type_is_text(field->type))
            memcpy(place, &empty, sizeof empty);
        else
            memset(place, 0, record_width(field->type));
    }
}

static void gather_column(const struct record_adapter_field *field, const struct column *column, uint32_t start, const uint32_t *rows,
                          uint32_t count, char *records, size_t size)
{
    char *place = records + field->offset;
    switch (record_width(field->type)) {
    case 16:
        gather_text(column, start, rows, count, place, size);
        break;
    case 8:
        GATHER_FIXED(int64_t);
        break;
    case 4:
        GATHER_FIXED(int32_t);
        break;
    case 2:
        GATHER_FIXED(int16_t);
        break;
    default:
        if (field->type == TYPE_BOOLEAN)
            gather_bools(column, start, rows, count, place, size);
        else
            GATHER_FIXED(int8_t);
        break;
    }
    if (column->validity != NULL)
        gather_nulls(field, column, start, rows, count, records + field->offset, size);
}

void record_adapter_gather(const struct record_adapter *adapter, const struct batch *batch, uint32_t start, uint32_t count, void *records)
{
    for (uint32_t f = 0; f < adapter->field_count; f++)
        gather_column(&adapter->fields[f], &batch->columns[adapter->fields[f].column], start, NULL, count, records, adapter->size_bytes);
}

void record_adapter_gather_rows(const struct record_adapter *adapter, const struct batch *batch, const uint32_t *rows, uint32_t count,
                                void *records)
{
    for (uint32_t f = 0; f < adapter->field_count; f++)
        gather_column(&adapter->fields[f], &batch->columns[adapter->fields[f].column], 0, rows, count, records, adapter->size_bytes);
}

/* ---- records to rows ---- */

#define SCATTER_FIXED(c_type)                                                                                          \
    do {                                                                                                               \
        c_type *values = (c_type *)batch_builder_values(builder, field->column) + first;                               \
        for (uint32_t i = 0; i < count; i++, place += size)                                                            \
            memcpy(&values[i], place, sizeof(c_type));                                                                 \
    } while (0)

static void scatter_column(const struct record_adapter_field *field, struct batch_builder *builder, uint32_t first, const char *records,
                           uint32_t count, size_t size)
{
    const char *place = records + field->offset;
    switch (record_width(field->type)) {
    case 16:
        for (uint32_t i = 0; i < count; i++, place += size) {
            mr_string text;
            memcpy(&text, place, sizeof text);
            batch_builder_set_text(builder, field->column, first + i, text.data != NULL ? text.data : "", text.data != NULL ? text.length : 0);
        }
        return;
    case 8:
        SCATTER_FIXED(int64_t);
        break;
    case 4:
        SCATTER_FIXED(int32_t);
        break;
    case 2:
        SCATTER_FIXED(int16_t);
        break;
    default:
        if (field->type == TYPE_BOOLEAN) {
            for (uint32_t i = 0; i < count; i++, place += size)
                batch_builder_set_bool(builder, field->column, first + i, *(const uint8_t *)place != 0);
            return;
        }
        SCATTER_FIXED(int8_t);
        break;
    }
    for (uint32_t i = 0; i < count; i++)
        batch_builder_set_valid(builder, field->column, first + i);
}

uint32_t record_adapter_scatter(const struct record_adapter *adapter, struct batch_builder *builder, const void *records, uint32_t count)
{
    uint32_t first = builder->row_count;
    for (uint32_t i = 0; i < count; i++)
        batch_builder_add_row(builder);
    for (uint32_t f = 0; f < adapter->field_count; f++)
        scatter_column(&adapter->fields[f], builder, first, records, count, adapter->size_bytes);
    return first;
}
