/* Batch builders: see batch_builder.h. Column memory is zeroed once per batch, not per row. A small batch is copied into
 * buffers of its own size and the builder keeps its memory (only the used part is zeroed again); a large one leaves with it. */
#include "common/columnar/batch_builder.h"

#include "common/base/check.h"
#include "common/base/heap.h"

#include <stdlib.h>

#define TEXT_BUFFER_MIN_BYTES ((size_t)1024)
#define TEXT_BUFFER_MAX_BYTES ((size_t)1 << 20)

static size_t bitmap_bytes(uint32_t rows)
{
    return ((size_t)rows + 7) / 8;
}

static size_t column_bytes(const struct batch_builder *builder, uint32_t column, uint32_t rows)
{
    enum data_type type = builder->schema->fields[column].type;
    return type == TYPE_BOOLEAN ? bitmap_bytes(rows) : (size_t)data_type_width(type) * rows;
}

static struct buffer *zeroed_buffer(size_t bytes)
{
    struct buffer *buffer = buffer_create(bytes);
    memset(buffer->data, 0, bytes);
    return buffer;
}

static void fill_time_min(struct buffer *buffer, uint32_t rows)
{
    int64_t *times = (int64_t *)(void *)buffer->data;
    for (uint32_t i = 0; i < rows; i++)
        times[i] = TIME_MIN;
}

static struct buffer *event_time_buffer(uint32_t rows)
{
    struct buffer *buffer = buffer_create((size_t)rows * sizeof(int64_t));
    fill_time_min(buffer, rows);
    return buffer;
}

struct batch_builder *batch_builder_create(struct schema *schema, uint32_t row_capacity, bool has_event_time)
{
    check(row_capacity > 0 && row_capacity <= BATCH_ROWS_MAX);
    struct batch_builder *builder = heap_new(struct batch_builder);
    builder->schema = schema_ref(schema);
    builder->row_capacity = row_capacity;
    builder->has_event_time = has_event_time;
    builder->columns = heap_alloc_array(schema->field_count + 1, sizeof *builder->columns);
    for (uint32_t c = 0; c < schema->field_count; c++) {
        builder->columns[c].values = zeroed_buffer(column_bytes(builder, c, row_capacity));
        builder->columns[c].validity = zeroed_buffer(bitmap_bytes(row_capacity));
    }
    if (has_event_time)
        builder->event_time = event_time_buffer(row_capacity);
    return builder;
}

void batch_builder_destroy(struct batch_builder *builder)
{
    if (builder == NULL)
        return;
    for (uint32_t c = 0; c < builder->schema->field_count; c++) {
        struct builder_column *column = &builder->columns[c];
        buffer_unref(column->values);
        buffer_unref(column->validity);
        buffer_unref(column->text);
        for (uint32_t i = 0; i < column->filled_count; i++)
            buffer_unref(column->filled[i]);
        free(column->filled);
    }
    buffer_unref(builder->event_time);
    buffer_unref(builder->row_kind);
    free(builder->columns);
    schema_unref(builder->schema);
    free(builder);
}

/* Gives back the text of a dropped row, so that a flood of bad records does not pile up text in a batch that never fills. */
static void reclaim_text(struct batch_builder *builder, struct builder_column *column, const struct string_view *view)
{
    if (view->length <= STRING_VIEW_INLINE_MAX || column->text == NULL || view->as.ref.buffer_index != column->filled_count)
        return;
    if ((size_t)view->as.ref.offset + view->length == column->text->size_bytes) {
        column->text->size_bytes = view->as.ref.offset;
        builder->text_bytes -= view->length;
    }
}

void batch_builder_drop_row(struct batch_builder *builder)
{
    check(builder->row_count > 0);
    uint32_t row = --builder->row_count;
    uint8_t keep = (uint8_t)~(1u << (row & 7));
    for (uint32_t c = 0; c < builder->schema->field_count; c++) {
        struct builder_column *column = &builder->columns[c];
        enum data_type type = builder->schema->fields[c].type;
        uint32_t width = data_type_width(type);
        column->validity->data[row >> 3] &= keep;
        if (type == TYPE_BOOLEAN) {
            column->values->data[row >> 3] &= keep;
            continue;
        }
        void *value = column->values->data + (size_t)row * width;
        if (data_type_is_text(type))
            reclaim_text(builder, column, value);
        memset(value, 0, width);
    }
    if (builder->event_time != NULL)
        batch_builder_set_event_time(builder, row, TIME_MIN);
    if (builder->row_kind != NULL)
        builder->row_kind->data[row] = ROW_INSERT;
}

/* The text buffer with room for length more bytes. */
static struct buffer *text_buffer(struct builder_column *column, size_t length)
{
    if (column->text != NULL && column->text->capacity_bytes - column->text->size_bytes >= length &&
        column->text->size_bytes <= UINT32_MAX - length)
        return column->text;
    size_t capacity = column->text_hint_bytes;
    if (column->text != NULL) {
        capacity = column->text->capacity_bytes * 2;
        column->filled = heap_realloc(column->filled, column->filled_count + 1, sizeof(struct buffer *));
        column->filled[column->filled_count++] = column->text;
    }
    if (capacity > TEXT_BUFFER_MAX_BYTES)
        capacity = TEXT_BUFFER_MAX_BYTES;
    if (capacity < TEXT_BUFFER_MIN_BYTES)
        capacity = TEXT_BUFFER_MIN_BYTES;
    if (capacity < length)
        capacity = length;
    column->text = buffer_create(capacity);
    return column->text;
}

/* Up to 12 bytes as the two words of a view, without a call and without reading past the text. */
static inline void store_inlined(struct string_view *view, const char *text, uint32_t length)
{
    uint32_t words[3] = {0, 0, 0};
    if (length >= 8) {
        memcpy(words, text, 8);
        uint64_t tail;
        memcpy(&tail, text + length - 8, 8);
        words[2] = length == 8 ? 0 : (uint32_t)(tail >> (8 * (16 - length)));
    } else if (length >= 4) {
        uint32_t tail;
        memcpy(words, text, 4);
        memcpy(&tail, text + length - 4, 4);
        words[1] = length == 4 ? 0 : tail >> (8 * (8 - length));
    } else if (length > 0) {
        words[0] = (uint8_t)text[0] | (uint32_t)(uint8_t)text[length >> 1] << (8 * (length >> 1)) |
                   (uint32_t)(uint8_t)text[length - 1] << (8 * (length - 1));
    }
    view->length = length;
    memcpy(view->as.inlined, words, sizeof words);
}

void batch_builder_set_text(struct batch_builder *builder, uint32_t column_index, uint32_t row, const char *text, size_t length)
{
    struct builder_column *column = &builder->columns[column_index];
    struct string_view *view = &((struct string_view *)(void *)column->values->data)[row];
    if (length <= STRING_VIEW_INLINE_MAX) {
        store_inlined(view, text, (uint32_t)length);
    } else {
        check(length <= UINT32_MAX);
        struct buffer *buffer = text_buffer(column, length);
        view->length = (uint32_t)length;
        memcpy(view->as.ref.prefix, text, sizeof view->as.ref.prefix);
        view->as.ref.buffer_index = column->filled_count;
        view->as.ref.offset = (uint32_t)buffer->size_bytes;
        memcpy(buffer->data + buffer->size_bytes, text, length);
        buffer->size_bytes += length;
        builder->text_bytes += length;
    }
    batch_builder_set_valid(builder, column_index, row);
}

void batch_builder_set_bool(struct batch_builder *builder, uint32_t column, uint32_t row, bool value)
{
    uint8_t *byte = &builder->columns[column].values->data[row >> 3];
    *byte = (uint8_t)((*byte & ~(1u << (row & 7))) | (unsigned)value << (row & 7));
    batch_builder_set_valid(builder, column, row);
}

void batch_builder_set_row_kind(struct batch_builder *builder, uint32_t row, enum row_kind kind)
{
    if (builder->row_kind == NULL) {
        if (kind == ROW_INSERT)
            return;
        builder->row_kind = zeroed_buffer(builder->row_capacity);
        builder->has_row_kind = true;
    }
    builder->row_kind->data[row] = (uint8_t)kind;
}

static bool all_bits_set(const uint8_t *bits, uint32_t count)
{
    uint8_t all = 0xff;
    for (uint32_t i = 0; i < count / 8; i++)
        all &= bits[i];
    uint8_t rest = (uint8_t)((1u << (count & 7)) - 1);
    return all == 0xff && (rest == 0 || (bits[count / 8] & rest) == rest);
}

/* The used part of *buffer as a buffer that leaves with the batch; *buffer is ready for the next batch, zeroed. */
static struct buffer *detach_bytes(struct buffer **buffer, size_t used, size_t capacity)
{
    struct buffer *out;
    if (used < capacity / 4) {
        out = buffer_create(used);
        memcpy(out->data, (*buffer)->data, used);
        memset((*buffer)->data, 0, used);
    } else {
        out = *buffer;
        *buffer = zeroed_buffer(capacity);
    }
    out->size_bytes = used;
    return out;
}

static void finish_text(struct builder_column *column, struct column *out)
{
    size_t bytes = 0;
    if (column->text != NULL && column->text->size_bytes == 0) { /* only dropped rows used it: keep it */
        bytes = column->text_hint_bytes;
    } else if (column->text != NULL) {
        column->filled = heap_realloc(column->filled, column->filled_count + 1, sizeof(struct buffer *));
        column->filled[column->filled_count++] = column->text;
        column->text = NULL;
    }
    out->text_buffers = column->filled;
    out->text_buffer_count = column->filled_count;
    for (uint32_t i = 0; i < column->filled_count; i++)
        bytes += column->filled[i]->size_bytes;
    column->filled = NULL;
    column->filled_count = 0;
    column->text_hint_bytes = bytes + bytes / 8;
}

/* Where no row is left, no text is anybody's: a dropped row gives back only what lies at the end. */
static void forget_text(struct batch_builder *builder)
{
    for (uint32_t c = 0; c < builder->schema->field_count; c++) {
        struct builder_column *column = &builder->columns[c];
        for (uint32_t i = 0; i < column->filled_count; i++)
            buffer_unref(column->filled[i]);
        column->filled_count = 0;
        if (column->text != NULL)
            column->text->size_bytes = 0;
    }
    builder->text_bytes = 0;
}

struct batch *batch_builder_finish(struct batch_builder *builder)
{
    uint32_t rows = builder->row_count;
    if (rows == 0) {
        if (builder->text_bytes > 0)
            forget_text(builder);
        return NULL;
    }
    struct batch *batch = batch_create(builder->schema, rows);
    for (uint32_t c = 0; c < builder->schema->field_count; c++) {
        struct builder_column *column = &builder->columns[c];
        struct column *out = &batch->columns[c];
        out->values_buffer = detach_bytes(&column->values, column_bytes(builder, c, rows), column_bytes(builder, c, builder->row_capacity));
        out->values = out->values_buffer->data;
        if (all_bits_set(column->validity->data, rows)) {
            memset(column->validity->data, 0, bitmap_bytes(rows));
        } else {
            out->validity_buffer = detach_bytes(&column->validity, bitmap_bytes(rows), bitmap_bytes(builder->row_capacity));
            out->validity = out->validity_buffer->data;
        }
        finish_text(column, out);
    }
    if (builder->has_event_time) {
        size_t used = (size_t)rows * sizeof(int64_t);
        batch->event_time_buffer = detach_bytes(&builder->event_time, used, (size_t)builder->row_capacity * sizeof(int64_t));
        fill_time_min(builder->event_time, builder->row_capacity);
        batch->event_time = (const int64_t *)(const void *)batch->event_time_buffer->data;
    }
    if (builder->row_kind != NULL) {
        batch->row_kind_buffer = builder->row_kind;
        batch->row_kind_buffer->size_bytes = rows;
        batch->row_kind = (const int8_t *)batch->row_kind_buffer->data;
        builder->row_kind = NULL;
        builder->has_row_kind = false;
    }
    builder->row_count = 0;
    builder->text_bytes = 0;
    return batch;
}

static void copy_value(struct batch_builder *builder, uint32_t column_index, uint32_t row, const struct column *from, uint32_t from_row)
{
    enum data_type type = builder->schema->fields[column_index].type;
    uint32_t width = data_type_width(type);
    if (type == TYPE_BOOLEAN) {
        batch_builder_set_bool(builder, column_index, row, ((const uint8_t *)from->values)[from_row >> 3] >> (from_row & 7) & 1);
    } else if (data_type_is_text(type)) {
        const struct string_view *view = &((const struct string_view *)from->values)[from_row];
        batch_builder_set_text(builder, column_index, row, string_view_text(from, view), view->length);
    } else {
        memcpy(builder->columns[column_index].values->data + (size_t)row * width,
               (const uint8_t *)from->values + (size_t)from_row * width, width);
        batch_builder_set_valid(builder, column_index, row);
    }
}

void batch_builder_copy_row(struct batch_builder *builder, const struct batch *batch, uint32_t from_row)
{
    uint32_t row = batch_builder_add_row(builder);
    for (uint32_t c = 0; c < builder->schema->field_count; c++)
        if (!column_is_null(&batch->columns[c], from_row))
            copy_value(builder, c, row, &batch->columns[c], from_row);
    if (builder->has_event_time && batch->event_time != NULL)
        batch_builder_set_event_time(builder, row, batch->event_time[from_row]);
    if (batch->row_kind != NULL)
        batch_builder_set_row_kind(builder, row, (enum row_kind)batch->row_kind[from_row]);
}
