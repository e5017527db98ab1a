/* Batches: see batch.h. Lifetime, gathering, verification; hashing is in batch_hash.c. The loops are over columns, with
 * the type switch outside, so that the compiler vectorises them. */
#include "common/columnar/batch.h"

#include "common/base/check.h"
#include "common/base/heap.h"

#include <inttypes.h>
#include <stdlib.h>

static size_t bitmap_bytes(uint32_t rows)
{
    return ((size_t)rows + 7) / 8;
}

static size_t values_bytes(enum data_type type, uint32_t rows)
{
    return type == TYPE_BOOLEAN ? bitmap_bytes(rows) : (size_t)data_type_width(type) * rows;
}

struct batch *batch_create(struct schema *schema, uint32_t row_count)
{
    struct batch *batch = heap_alloc(sizeof *batch + schema->field_count * sizeof batch->columns[0]);
    atomic_init(&batch->refs, 1);
    batch->row_count = row_count;
    batch->schema = schema_ref(schema);
    return batch;
}

struct batch *batch_ref(struct batch *batch)
{
    atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
    return batch;
}

static void column_finish(struct column *column)
{
    buffer_unref(column->validity_buffer);
    buffer_unref(column->values_buffer);
    for (uint32_t i = 0; i < column->text_buffer_count; i++)
        buffer_unref(column->text_buffers[i]);
    free(column->text_buffers);
}

void batch_unref(struct batch *batch)
{
    if (batch == NULL || atomic_fetch_sub_explicit(&batch->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < batch->schema->field_count; i++)
        column_finish(&batch->columns[i]);
    buffer_unref(batch->event_time_buffer);
    buffer_unref(batch->row_kind_buffer);
    schema_unref(batch->schema);
    free(batch);
}

static struct buffer *buffer_of(size_t bytes)
{
    struct buffer *buffer = buffer_create(bytes);
    buffer->size_bytes = bytes;
    return buffer;
}

static void column_share_text(struct column *out, const struct column *in)
{
    if (in->text_buffer_count == 0)
        return;
    out->text_buffers = heap_alloc_array(in->text_buffer_count, sizeof *out->text_buffers);
    out->text_buffer_count = in->text_buffer_count;
    for (uint32_t i = 0; i < in->text_buffer_count; i++)
        out->text_buffers[i] = buffer_ref(in->text_buffers[i]);
}

/* ---- gathering ---- */

#define GATHER(name, type)                                                                                             \
    static void name(type *restrict to, const type *restrict from, const uint32_t *restrict rows, uint32_t count)      \
    {                                                                                                                  \
        for (uint32_t i = 0; i < count; i++)                                                                           \
            to[i] = from[rows[i]];                                                                                     \
    }

GATHER(gather_1, uint8_t)
GATHER(gather_2, uint16_t)
GATHER(gather_4, uint32_t)
GATHER(gather_8, uint64_t)
GATHER(gather_16, struct string_view)

/* Gives true when all gathered bits are set. */
static bool gather_bits(uint8_t *restrict to, const uint8_t *restrict from, const uint32_t *restrict rows, uint32_t count)
{
    bool all = true;
    for (uint32_t i = 0; i < count; i += 8) {
        uint32_t end = count - i < 8 ? count - i : 8;
        unsigned byte = 0;
        for (uint32_t bit = 0; bit < end; bit++)
            byte |= (unsigned)(from[rows[i + bit] >> 3] >> (rows[i + bit] & 7) & 1) << bit;
        to[i >> 3] = (uint8_t)byte;
        all = all && byte == (1u << end) - 1;
    }
    return all;
}

static void gather_values(void *to, const void *from, uint32_t width, const uint32_t *rows, uint32_t count)
{
    switch (width) {
    case 0: gather_bits(to, from, rows, count); break;
    case 1: gather_1(to, from, rows, count); break;
    case 2: gather_2(to, from, rows, count); break;
    case 4: gather_4(to, from, rows, count); break;
    case 8: gather_8(to, from, rows, count); break;
    default: gather_16(to, from, rows, count); break;
    }
}

static void column_set_validity(struct column *column, struct buffer *bits, bool all_valid)
{
    if (all_valid) {
        buffer_unref(bits);
        return;
    }
    column->validity_buffer = bits;
    column->validity = bits->data;
}

static void column_set_values(struct column *column, struct buffer *values)
{
    column->values_buffer = values;
    column->values = values->data;
}

struct batch *batch_take(const struct batch *batch, const uint32_t *rows, uint32_t count)
{
    struct batch *out = batch_create(batch->schema, count);
    for (uint32_t c = 0; c < batch->schema->field_count; c++) {
        const struct column *column = &batch->columns[c];
        enum data_type type = batch->schema->fields[c].type;
        column_set_values(&out->columns[c], buffer_of(values_bytes(type, count)));
        gather_values(out->columns[c].values_buffer->data, column->values, data_type_width(type), rows, count);
        if (column->validity != NULL) {
            struct buffer *bits = buffer_of(bitmap_bytes(count));
            column_set_validity(&out->columns[c], bits, gather_bits(bits->data, column->validity, rows, count));
        }
        column_share_text(&out->columns[c], column);
    }
    if (batch->event_time != NULL) {
        out->event_time_buffer = buffer_of((size_t)count * sizeof(int64_t));
        gather_values(out->event_time_buffer->data, batch->event_time, sizeof(int64_t), rows, count);
        out->event_time = (const int64_t *)(const void *)out->event_time_buffer->data;
    }
    if (batch->row_kind != NULL) {
        out->row_kind_buffer = buffer_of(count);
        gather_values(out->row_kind_buffer->data, batch->row_kind, 1, rows, count);
        out->row_kind = (const int8_t *)out->row_kind_buffer->data;
    }
    return out;
}

/* ---- slices: the same by memcpy ---- */

/* Gives true when all copied bits are set. */
static bool slice_bits(uint8_t *to, const uint8_t *from, uint32_t start, uint32_t count)
{
    bool all = true;
    uint32_t last_byte = (start + count - 1) >> 3, shift = start & 7;
    for (uint32_t i = 0; i < count; i += 8) {
        uint32_t byte = (start + i) >> 3, end = count - i < 8 ? count - i : 8;
        unsigned bits = from[byte] | (byte < last_byte ? (unsigned)from[byte + 1] << 8 : 0);
        bits = bits >> shift & ((1u << end) - 1);
        to[i >> 3] = (uint8_t)bits;
        all = all && bits == (1u << end) - 1;
    }
    return all;
}

static struct buffer *slice_values(const void *from, uint32_t width, uint32_t start, uint32_t count)
{
    struct buffer *values = buffer_of((size_t)count * width);
    if (count != 0)
        memcpy(values->data, (const uint8_t *)from + (size_t)start * width, (size_t)count * width);
    return values;
}

struct batch *batch_slice(const struct batch *batch, uint32_t start, uint32_t count)
{
    check(start <= batch->row_count && count <= batch->row_count - start);
    struct batch *out = batch_create(batch->schema, count);
    for (uint32_t c = 0; c < batch->schema->field_count; c++) {
        const struct column *column = &batch->columns[c];
        enum data_type type = batch->schema->fields[c].type;
        if (type == TYPE_BOOLEAN) {
            column_set_values(&out->columns[c], buffer_of(bitmap_bytes(count)));
            slice_bits(out->columns[c].values_buffer->data, column->values, start, count);
        } else {
            column_set_values(&out->columns[c], slice_values(column->values, data_type_width(type), start, count));
        }
        if (column->validity != NULL) {
            struct buffer *bits = buffer_of(bitmap_bytes(count));
            column_set_validity(&out->columns[c], bits, slice_bits(bits->data, column->validity, start, count));
        }
        column_share_text(&out->columns[c], column);
    }
    if (batch->event_time != NULL) {
        out->event_time_buffer = slice_values(batch->event_time, sizeof(int64_t), start, count);
        out->event_time = (const int64_t *)(const void *)out->event_time_buffer->data;
    }
    if (batch->row_kind != NULL) {
        out->row_kind_buffer = slice_values(batch->row_kind, 1, start, count);
        out->row_kind = (const int8_t *)out->row_kind_buffer->data;
    }
    return out;
}

/* ---- sharing columns ---- */

static void column_share(struct column *out, const struct column *in)
{
    *out = *in;
    out->text_buffers = NULL;
    out->text_buffer_count = 0;
    if (in->validity_buffer != NULL)
        buffer_ref(in->validity_buffer);
    if (in->values_buffer != NULL)
        buffer_ref(in->values_buffer);
    column_share_text(out, in);
}

static void batch_share_row_kind(struct batch *out, const struct batch *batch)
{
    out->row_kind = batch->row_kind;
    out->row_kind_buffer = batch->row_kind_buffer != NULL ? buffer_ref(batch->row_kind_buffer) : NULL;
}

struct batch *batch_project(const struct batch *batch, struct schema *schema, const uint32_t *columns)
{
    struct batch *out = batch_create(schema, batch->row_count);
    for (uint32_t c = 0; c < schema->field_count; c++) {
        dcheck(columns[c] < batch->schema->field_count);
        dcheck(schema->fields[c].type == batch->schema->fields[columns[c]].type);
        column_share(&out->columns[c], &batch->columns[columns[c]]);
    }
    out->event_time = batch->event_time;
    out->event_time_buffer = batch->event_time_buffer != NULL ? buffer_ref(batch->event_time_buffer) : NULL;
    batch_share_row_kind(out, batch);
    return out;
}

struct batch *batch_with_event_time(const struct batch *batch, struct buffer *event_time)
{
    check(event_time->size_bytes >= (size_t)batch->row_count * sizeof(int64_t));
    struct batch *out = batch_create(batch->schema, batch->row_count);
    for (uint32_t c = 0; c < batch->schema->field_count; c++)
        column_share(&out->columns[c], &batch->columns[c]);
    out->event_time_buffer = event_time;
    out->event_time = (const int64_t *)(const void *)event_time->data;
    batch_share_row_kind(out, batch);
    return out;
}

size_t batch_size_bytes(const struct batch *batch)
{
    size_t bytes = sizeof *batch;
    for (uint32_t c = 0; c < batch->schema->field_count; c++) {
        const struct column *column = &batch->columns[c];
        enum data_type type = batch->schema->fields[c].type;
        bytes += sizeof *column + values_bytes(type, batch->row_count);
        if (column->validity != NULL)
            bytes += bitmap_bytes(batch->row_count);
        if (column->text_buffer_count == 0)
            continue;
        const struct string_view *views = column->values;
        for (uint32_t i = 0; i < batch->row_count; i++)
            bytes += views[i].length > STRING_VIEW_INLINE_MAX ? views[i].length : 0;
    }
    if (batch->event_time != NULL)
        bytes += (size_t)batch->row_count * sizeof(int64_t);
    if (batch->row_kind != NULL)
        bytes += batch->row_count;
    return bytes;
}

/* ---- verification ---- */

static struct error *verify_buffer(const struct batch *batch, const char *what, const struct buffer *buffer, const void *start, size_t bytes)
{
    if (bytes == 0 && batch->row_count == 0)
        return NULL;
    if (start == NULL || buffer == NULL)
        return error_new(INVALID_FORMAT, "%s: no buffer", what);
    const uint8_t *first = start;
    if (first < buffer->data || (size_t)(first - buffer->data) > buffer->size_bytes ||
        buffer->size_bytes - (size_t)(first - buffer->data) < bytes)
        return error_new(INVALID_FORMAT, "%s: buffer of %zu bytes is too short for %" PRIu32 " rows", what, buffer->size_bytes, batch->row_count);
    if (((uintptr_t)start & 7) != 0)
        return error_new(INVALID_FORMAT, "%s: buffer is not aligned to 8 bytes", what);
    return NULL;
}

static struct error *verify_views(const struct batch *batch, const char *name, const struct column *column)
{
    const struct string_view *views = column->values;
    static const char zeros[STRING_VIEW_INLINE_MAX];
    for (uint32_t i = 0; i < batch->row_count; i++) {
        const struct string_view *view = &views[i];
        if (view->length <= STRING_VIEW_INLINE_MAX) {
            if (memcmp(view->as.inlined + view->length, zeros, STRING_VIEW_INLINE_MAX - view->length) != 0)
                return error_new(INVALID_FORMAT, "column \"%s\": text of row %" PRIu32 " is not padded with zeros", name, i);
            continue;
        }
        if (view->as.ref.buffer_index >= column->text_buffer_count)
            return error_new(INVALID_FORMAT, "column \"%s\": text of row %" PRIu32 " refers to a buffer that is not there", name, i);
        const struct buffer *text = column->text_buffers[view->as.ref.buffer_index];
        if (view->as.ref.offset > text->size_bytes || text->size_bytes - view->as.ref.offset < view->length)
            return error_new(INVALID_FORMAT, "column \"%s\": text of row %" PRIu32 " ends outside its buffer", name, i);
        if (memcmp(text->data + view->as.ref.offset, view->as.ref.prefix, sizeof view->as.ref.prefix) != 0)
            return error_new(INVALID_FORMAT, "column \"%s\": prefix of row %" PRIu32 " is not that of its text", name, i);
    }
    return NULL;
}

struct error *batch_verify(const struct batch *batch)
{
    if (batch->row_count > BATCH_ROWS_MAX)
        return error_new(INVALID_FORMAT, "a batch has %" PRIu32 " rows, at most %d are possible", batch->row_count, BATCH_ROWS_MAX);
    for (uint32_t c = 0; c < batch->schema->field_count; c++) {
        const struct field *field = &batch->schema->fields[c];
        const struct column *column = &batch->columns[c];
        TRY(verify_buffer(batch, field->name, column->values_buffer, column->values, values_bytes(field->type, batch->row_count)));
        if (column->validity != NULL)
            TRY(verify_buffer(batch, field->name, column->validity_buffer, column->validity, bitmap_bytes(batch->row_count)));
        if (data_type_is_text(field->type))
            TRY(verify_views(batch, field->name, column));
        else if (column->text_buffer_count != 0)
            return error_new(INVALID_FORMAT, "column \"%s\" has text but is of type %s", field->name, data_type_name(field->type));
    }
    if (batch->event_time != NULL)
        TRY(verify_buffer(batch, "event time", batch->event_time_buffer, batch->event_time, (size_t)batch->row_count * sizeof(int64_t)));
    if (batch->row_kind != NULL) {
        TRY(verify_buffer(batch, "row kind", batch->row_kind_buffer, batch->row_kind, batch->row_count));
        for (uint32_t i = 0; i < batch->row_count; i++)
            if (batch->row_kind[i] < ROW_INSERT || batch->row_kind[i] > ROW_DELETE)
                return error_new(INVALID_FORMAT, "row %" PRIu32 " has the unknown row kind %d", i, batch->row_kind[i]);
    }
    return NULL;
}
