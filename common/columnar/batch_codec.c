/* Batch codec: see batch_codec.h.
 *   u32 row count | u32 flags | u64 schema fingerprint
 *   flags & 1: event time block;  flags & 2: row kind block
 *   per column: validity block (empty: no nulls), values block, and for text columns the text block
 * A block is a u64 length and its bytes, padded with zeros to 8. Views of long text have buffer index 0 and offsets into the text block;
 * null rows have zero views, so that text is written only where a row shows it. */
#include "common/columnar/batch_codec.h"

#include "common/base/check.h"
#include "common/base/heap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>

enum { FLAG_EVENT_TIME = 1, FLAG_ROW_KIND = 2, FLAGS_ALL = 3 };

static uint64_t schema_fingerprint(const struct schema *schema)
{
    uint64_t hash = schema->field_count;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct field *field = &schema->fields[i];
        hash = XXH3_64bits_withSeed(field->name, strlen(field->name), hash * 31 + (uint64_t)field->type * 2 + field->nullable);
    }
    return hash;
}

static size_t bitmap_bytes(uint32_t rows)
{
    return ((size_t)rows + 7) / 8;
}

static size_t values_bytes(enum data_type type, uint32_t rows)
{
    return type == TYPE_BOOLEAN ? bitmap_bytes(rows) : (size_t)data_type_width(type) * rows;
}

/* ---- encoding ---- */

static void write_padding(struct bytes_writer *writer, size_t length)
{
    static const uint8_t zeros[8];
    bytes_write(writer, zeros, (8 - (length & 7)) & 7);
}

static void write_padded(struct bytes_writer *writer, const void *data, size_t length)
{
    bytes_write_u64(writer, length);
    bytes_write(writer, data, length);
    write_padding(writer, length);
}

static void write_views(struct bytes_writer *writer, const struct column *column, uint32_t row_count)
{
    const struct string_view *views = column->values;
    struct string_view compacted[256];
    uint64_t offset = 0;
    bytes_write_u64(writer, (uint64_t)row_count * sizeof(struct string_view));
    for (uint32_t start = 0; start < row_count; start += 256) {
        uint32_t count = row_count - start < 256 ? row_count - start : 256;
        for (uint32_t i = 0; i < count; i++) {
            const struct string_view *view = &views[start + i];
            compacted[i] = *view;
            if (column_is_null(column, start + i)) {
                memset(&compacted[i], 0, sizeof compacted[i]);
            } else if (view->length > STRING_VIEW_INLINE_MAX) {
                compacted[i].as.ref.buffer_index = 0;
                compacted[i].as.ref.offset = (uint32_t)offset;
                offset += view->length;
                check(offset <= UINT32_MAX);
            }
        }
        bytes_write(writer, compacted, count * sizeof compacted[0]);
    }
    bytes_write_u64(writer, offset);
    for (uint32_t i = 0; i < row_count; i++)
        if (views[i].length > STRING_VIEW_INLINE_MAX && !column_is_null(column, i))
            bytes_write(writer, string_view_text(column, &views[i]), views[i].length);
    write_padding(writer, (size_t)offset);
}

void batch_encode(const struct batch *batch, struct bytes_writer *writer)
{
    uint32_t rows = batch->row_count;
    bytes_write_u32(writer, rows);
    bytes_write_u32(writer, (batch->event_time != NULL ? FLAG_EVENT_TIME : 0u) | (batch->row_kind != NULL ? FLAG_ROW_KIND : 0u));
    bytes_write_u64(writer, schema_fingerprint(batch->schema));
    if (batch->event_time != NULL)
        write_padded(writer, batch->event_time, (size_t)rows * sizeof(int64_t));
    if (batch->row_kind != NULL)
        write_padded(writer, batch->row_kind, rows);
    for (uint32_t c = 0; c < batch->schema->field_count; c++) {
        const struct column *column = &batch->columns[c];
        enum data_type type = batch->schema->fields[c].type;
        write_padded(writer, column->validity, column->validity != NULL ? bitmap_bytes(rows) : 0);
        if (data_type_is_text(type))
            write_views(writer, column, rows);
        else
            write_padded(writer, column->values, values_bytes(type, rows));
    }
}

/* ---- decoding ---- */

/* The next block as a buffer of its own; *out stays NULL for an empty one. */
static struct error *read_block(struct bytes_reader *reader, const char *what, size_t expected, bool any_length, struct buffer **out)
{
    uint64_t length = bytes_read_u64(reader);
    if (!bytes_reader_ok(reader) || length > bytes_reader_left(reader))
        return error_new(INVALID_FORMAT, "batch ends within %s", what);
    if (!any_length && length != expected)
        return error_new(INVALID_FORMAT, "%s has %" PRIu64 " bytes instead of %zu", what, length, expected);
    const uint8_t *data = bytes_read(reader, (size_t)length);
    bytes_read(reader, (8 - (length & 7)) & 7);
    if (!bytes_reader_ok(reader))
        return error_new(INVALID_FORMAT, "batch ends within %s", what);
    if (length != 0) {
        *out = buffer_create((size_t)length);
        memcpy((*out)->data, data, (size_t)length);
        (*out)->size_bytes = (size_t)length;
    }
    return NULL;
}

static struct error *read_column(struct bytes_reader *reader, const struct field *field, uint32_t rows, struct column *column)
{
    struct bytes_reader peek = *reader;
    bool has_validity = bytes_read_u64(&peek) != 0;
    TRY(read_block(reader, field->name, has_validity ? bitmap_bytes(rows) : 0, false, &column->validity_buffer));
    column->validity = column->validity_buffer != NULL ? column->validity_buffer->data : NULL;
    TRY(read_block(reader, field->name, values_bytes(field->type, rows), false, &column->values_buffer));
    if (column->values_buffer == NULL)
        column->values_buffer = buffer_create(0);
    column->values = column->values_buffer->data;
    if (!data_type_is_text(field->type))
        return NULL;
    struct buffer *text = NULL;
    TRY(read_block(reader, field->name, 0, true, &text));
    if (text != NULL) {
        column->text_buffers = heap_alloc(sizeof *column->text_buffers);
        column->text_buffers[0] = text;
        column->text_buffer_count = 1;
    }
    return NULL;
}

static struct error *read_columns(struct bytes_reader *reader, uint32_t flags, struct batch *batch)
{
    uint32_t rows = batch->row_count;
    if (flags & FLAG_EVENT_TIME) {
        TRY(read_block(reader, "event time", (size_t)rows * sizeof(int64_t), false, &batch->event_time_buffer));
        if (batch->event_time_buffer == NULL)
            batch->event_time_buffer = buffer_create(0);
        batch->event_time = (const int64_t *)(const void *)batch->event_time_buffer->data;
    }
    if (flags & FLAG_ROW_KIND) {
        TRY(read_block(reader, "row kind", rows, false, &batch->row_kind_buffer));
        if (batch->row_kind_buffer == NULL)
            batch->row_kind_buffer = buffer_create(0);
        batch->row_kind = (const int8_t *)batch->row_kind_buffer->data;
    }
    for (uint32_t c = 0; c < batch->schema->field_count; c++)
        TRY(read_column(reader, &batch->schema->fields[c], rows, &batch->columns[c]));
    if (bytes_reader_left(reader) != 0)
        return error_new(INVALID_FORMAT, "%zu bytes follow the batch", bytes_reader_left(reader));
    return batch_verify(batch);
}

struct error *batch_decode(const void *data, size_t length, struct schema *schema, struct batch **out)
{
    struct bytes_reader reader = bytes_reader_on(data, length);
    uint32_t rows = bytes_read_u32(&reader);
    uint32_t flags = bytes_read_u32(&reader);
    uint64_t fingerprint = bytes_read_u64(&reader);
    if (!bytes_reader_ok(&reader))
        return error_new(INVALID_FORMAT, "batch of %zu bytes is too short", length);
    if (rows > BATCH_ROWS_MAX)
        return error_new(INVALID_FORMAT, "a batch has %" PRIu32 " rows, at most %d are possible", rows, BATCH_ROWS_MAX);
    if (flags & ~(uint32_t)FLAGS_ALL)
        return error_new(INVALID_FORMAT, "batch has unknown flags %" PRIu32, flags);
    if (fingerprint != schema_fingerprint(schema))
        return error_new(INVALID_FORMAT, "batch has another schema than its channel");
    struct batch *batch = batch_create(schema, rows);
    struct error *err = read_columns(&reader, flags, batch);
    if (err != NULL) {
        batch_unref(batch);
        return err;
    }
    *out = batch;
    return NULL;
}
