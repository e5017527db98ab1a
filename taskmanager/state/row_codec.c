/* Row codec: see row_codec.h. Rows from and to batches. C records are in row_record.c, conversion in row_converter.c. */
#include "taskmanager/state/row_codec.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/columnar/row_hash.h"
#include "taskmanager/state/row_internal.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static uint32_t encoded_width(enum data_type type)
{
    return type == TYPE_BOOLEAN ? 1 : data_type_is_text(type) ? 4 : data_type_width(type);
}

static uint32_t align_up(uint32_t offset, uint32_t alignment)
{
    return (offset + alignment - 1) / alignment * alignment;
}

struct row_codec *row_codec_create(struct schema *schema)
{
    struct row_codec *codec = heap_alloc(sizeof *codec + schema->field_count * sizeof codec->fields[0]);
    codec->schema = schema_ref(schema);
    codec->field_count = schema->field_count;
    for (uint32_t i = 0; i < schema->field_count; i++)
        if (schema->fields[i].nullable)
            codec->null_bytes = (schema->field_count + 7) / 8;
    uint32_t offset = codec->null_bytes, record_offset = 0, record_alignment = 1;
    codec->is_packed = true;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        enum data_type type = schema->fields[i].type;
        uint32_t size, alignment;
        row_record_layout(type, &size, &alignment);
        record_offset = align_up(record_offset, alignment);
        codec->fields[i] = (struct row_field){type, encoded_width(type), offset, record_offset};
        codec->is_packed = codec->is_packed && offset == record_offset && type != TYPE_BOOLEAN && !data_type_is_text(type);
        offset += encoded_width(type);
        record_offset += size;
        record_alignment = alignment > record_alignment ? alignment : record_alignment;
        codec->text_count += data_type_is_text(type);
    }
    codec->fixed_bytes = offset;
    codec->record_size = align_up(record_offset, record_alignment);
    codec->is_packed = codec->is_packed && codec->fixed_bytes == codec->record_size;
    return codec;
}

void row_codec_destroy(struct row_codec *codec)
{
    if (codec == NULL)
        return;
    schema_unref(codec->schema);
    free(codec);
}

void encoded_rows_finish(struct encoded_rows *rows)
{
    free(rows->bytes);
    free(rows->offsets);
    *rows = (struct encoded_rows){0};
}

/* ---- one row ---- */

uint8_t *row_reserve(struct bytes_writer *writer, size_t length)
{
    if (writer->capacity - writer->length < length) {
        size_t capacity = writer->capacity * 2 > 256 ? writer->capacity * 2 : 256;
        capacity = capacity < writer->length + length ? writer->length + length : capacity;
        writer->data = heap_realloc(writer->data, capacity, 1);
        writer->capacity = capacity;
    }
    uint8_t *start = writer->data + writer->length;
    writer->length += length;
    return start;
}

static void encode_fixed(uint8_t *to, enum data_type type, const struct column *column, uint32_t row)
{
    if (type == TYPE_BOOLEAN) {
        *to = ((const uint8_t *)column->values)[row >> 3] >> (row & 7) & 1;
    } else if (data_type_is_text(type)) {
        memcpy(to, &((const struct string_view *)column->values)[row].length, sizeof(uint32_t));
    } else {
        uint32_t width = data_type_width(type);
        memcpy(to, (const uint8_t *)column->values + (size_t)row * width, width);
    }
}

void row_codec_encode_row(const struct row_codec *codec, const struct batch *batch, const uint32_t *columns, uint32_t row,
                          struct bytes_writer *writer)
{
    size_t start = writer->length;
    uint8_t *bytes = row_reserve(writer, codec->fixed_bytes);
    memset(bytes, 0, codec->fixed_bytes);
    for (uint32_t i = 0; i < codec->field_count; i++) {
        const struct column *column = &batch->columns[columns != NULL ? columns[i] : i];
        if (!column_is_null(column, row))
            encode_fixed(bytes + codec->fields[i].offset, codec->fields[i].type, column, row);
        else if (codec->null_bytes != 0)
            bytes[i >> 3] |= (uint8_t)(1u << (i & 7));
    }
    if (codec->text_count == 0)
        return;
    for (uint32_t i = 0; i < codec->field_count; i++) {
        uint32_t length;
        if (!data_type_is_text(codec->fields[i].type))
            continue;
        memcpy(&length, writer->data + start + codec->fields[i].offset, sizeof length);
        const struct column *column = &batch->columns[columns != NULL ? columns[i] : i];
        if (length != 0)
            bytes_write(writer, string_view_text(column, &((const struct string_view *)column->values)[row]), length);
    }
}

struct error *row_codec_verify(const struct row_codec *codec, const void *data, size_t length)
{
    const uint8_t *bytes = data;
    if (length < codec->fixed_bytes)
        return error_new(CORRUPT, "row of %zu bytes is shorter than its %u fixed bytes", length, codec->fixed_bytes);
    uint64_t expected = codec->fixed_bytes;
    for (uint32_t i = 0; i < codec->field_count; i++) {
        const struct row_field *field = &codec->fields[i];
        if (data_type_is_text(field->type)) {
            uint32_t text;
            memcpy(&text, bytes + field->offset, sizeof text);
            expected += text;
        }
    }
    if (expected != length)
        return error_new(CORRUPT, "row of %zu bytes should have %llu", length, (unsigned long long)expected);
    return NULL;
}

struct error *row_codec_decode_row(const struct row_codec *codec, const void *data, size_t length, struct batch_builder *builder,
                                   const uint32_t *columns, uint32_t row)
{
    const uint8_t *bytes = data, *text = bytes + codec->fixed_bytes;
    TRY(row_codec_verify(codec, data, length));
    for (uint32_t i = 0; i < codec->field_count; i++) {
        const struct row_field *field = &codec->fields[i];
        uint32_t column = columns != NULL ? columns[i] : i, text_length = 0;
        if (data_type_is_text(field->type))
            memcpy(&text_length, bytes + field->offset, sizeof text_length);
        if (column != UINT32_MAX && !row_field_is_null(codec, bytes, i)) {
            if (data_type_is_text(field->type)) {
                batch_builder_set_text(builder, column, row, (const char *)text, text_length);
            } else if (field->type == TYPE_BOOLEAN) {
                batch_builder_set_bool(builder, column, row, bytes[field->offset] != 0);
            } else {
                memcpy((uint8_t *)batch_builder_values(builder, column) + (size_t)row * field->width, bytes + field->offset, field->width);
                batch_builder_set_valid(builder, column, row);
            }
        }
        text += text_length;
    }
    return NULL;
}

/* ---- many rows ---- */

static void rows_reserve(struct encoded_rows *out, size_t bytes, uint32_t row_count)
{
    if (out->capacity < bytes) {
        out->capacity = bytes + bytes / 2;
        out->bytes = heap_realloc(out->bytes, out->capacity, 1);
    }
    if (out->offset_capacity < row_count + 1) {
        out->offset_capacity = row_count + 1 + row_count / 2;
        out->offsets = heap_realloc(out->offsets, out->offset_capacity, sizeof *out->offsets);
    }
    out->row_count = row_count;
}

/* The usual key, one STRING without nulls: the length and the bytes, which is how an inlined view begins. */
static void encode_single_text(const struct column *column, uint32_t row_count, struct encoded_rows *out)
{
    const struct string_view *views = column->values;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < row_count; i++)
        bytes += sizeof(uint32_t) + views[i].length;
    check(bytes <= UINT32_MAX);
    rows_reserve(out, (size_t)bytes + sizeof(struct string_view), row_count);
    uint32_t offset = 0;
    uint8_t *to = out->bytes;
    for (uint32_t i = 0; i < row_count; i++) {
        const struct string_view *view = &views[i];
        out->offsets[i] = offset;
        if (view->length <= STRING_VIEW_INLINE_MAX) {
            memcpy(to + offset, view, sizeof *view);
        } else {
            memcpy(to + offset, &view->length, sizeof view->length);
            memcpy(to + offset + sizeof view->length, string_view_text(column, view), view->length);
        }
        offset += (uint32_t)sizeof view->length + view->length;
    }
    out->offsets[row_count] = offset;
}

#define SCATTER(name, type)                                                                                            \
    static void name(uint8_t *to, const type *from, const uint32_t *offsets, uint32_t stride, uint32_t count)          \
    {                                                                                                                  \
        for (uint32_t i = 0; i < count; i++)                                                                           \
            memcpy(to + (offsets != NULL ? offsets[i] : i * stride), &from[i], sizeof from[i]);                        \
    }
SCATTER(scatter_1, uint8_t)
SCATTER(scatter_2, uint16_t)
SCATTER(scatter_4, uint32_t)
SCATTER(scatter_8, uint64_t)

static void scatter_column(const struct row_codec *codec, uint32_t field_index, const struct column *column, struct encoded_rows *out)
{
    const struct row_field *field = &codec->fields[field_index];
    uint8_t *to = out->bytes + field->offset;
    const uint32_t *offsets = codec->text_count != 0 ? out->offsets : NULL;
    if (column->validity != NULL || field->type == TYPE_BOOLEAN || data_type_is_text(field->type)) {
        for (uint32_t i = 0; i < out->row_count; i++) {
            if (!column_is_null(column, i))
                encode_fixed(to + out->offsets[i], field->type, column, i);
            else if (codec->null_bytes != 0)
                out->bytes[out->offsets[i] + (field_index >> 3)] |= (uint8_t)(1u << (field_index & 7));
        }
        return;
    }
    switch (field->width) {
    case 1: scatter_1(to, column->values, offsets, codec->fixed_bytes, out->row_count); break;
    case 2: scatter_2(to, column->values, offsets, codec->fixed_bytes, out->row_count); break;
    case 4: scatter_4(to, column->values, offsets, codec->fixed_bytes, out->row_count); break;
    default: scatter_8(to, column->values, offsets, codec->fixed_bytes, out->row_count); break;
    }
}

/* Row lengths into offsets, then their running sum. */
static void lay_out_rows(const struct row_codec *codec, const struct batch *batch, const uint32_t *columns, struct encoded_rows *out)
{
    uint32_t count = batch->row_count;
    rows_reserve(out, 0, count);
    for (uint32_t i = 0; i < count; i++)
        out->offsets[i] = codec->fixed_bytes;
    uint64_t total = (uint64_t)codec->fixed_bytes * count;
    for (uint32_t f = 0; f < codec->field_count && codec->text_count != 0; f++) {
        const struct column *column = &batch->columns[columns != NULL ? columns[f] : f];
        const struct string_view *views = column->values;
        if (!data_type_is_text(codec->fields[f].type))
            continue;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t length = column_is_null(column, i) ? 0 : views[i].length;
            out->offsets[i] += length;
            total += length;
        }
    }
    check(total <= UINT32_MAX);
    uint32_t offset = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = out->offsets[i];
        out->offsets[i] = offset;
        offset += length;
    }
    out->offsets[count] = offset;
    rows_reserve(out, (size_t)total, count);
}

static void append_texts(const struct row_codec *codec, const struct batch *batch, const uint32_t *columns, struct encoded_rows *out)
{
    for (uint32_t i = 0; i < out->row_count; i++) {
        uint8_t *to = out->bytes + out->offsets[i] + codec->fixed_bytes;
        for (uint32_t f = 0; f < codec->field_count; f++) {
            const struct column *column = &batch->columns[columns != NULL ? columns[f] : f];
            if (!data_type_is_text(codec->fields[f].type) || column_is_null(column, i))
                continue;
            const struct string_view *view = &((const struct string_view *)column->values)[i];
            memcpy(to, string_view_text(column, view), view->length);
            to += view->length;
        }
    }
}

void row_codec_encode_rows(const struct row_codec *codec, const struct batch *batch, const uint32_t *columns, struct encoded_rows *out)
{
    if (codec->field_count == 1 && codec->text_count == 1 && codec->null_bytes == 0) {
        const struct column *column = &batch->columns[columns != NULL ? columns[0] : 0];
        if (column->validity == NULL) {
            encode_single_text(column, batch->row_count, out);
            return;
        }
    }
    lay_out_rows(codec, batch, columns, out);
    bool has_nulls = false;
    for (uint32_t f = 0; f < codec->field_count; f++)
        has_nulls = has_nulls || batch->columns[columns != NULL ? columns[f] : f].validity != NULL;
    if (codec->null_bytes != 0 || has_nulls)
        memset(out->bytes, 0, out->offsets[out->row_count]);
    for (uint32_t f = 0; f < codec->field_count; f++)
        scatter_column(codec, f, &batch->columns[columns != NULL ? columns[f] : f], out);
    if (codec->text_count != 0)
        append_texts(codec, batch, columns, out);
}

/* ---- hashing ---- */

static uint64_t field_word(enum data_type type, const uint8_t *bytes)
{
    int8_t byte;
    int16_t half;
    int32_t word;
    uint32_t bits;
    uint64_t wide = 0;
    switch (type) {
    case TYPE_BOOLEAN: return bytes[0] != 0;
    case TYPE_INT8: memcpy(&byte, bytes, sizeof byte); return (uint64_t)(int64_t)byte;
    case TYPE_INT16: memcpy(&half, bytes, sizeof half); return (uint64_t)(int64_t)half;
    case TYPE_INT32:
    case TYPE_DATE: memcpy(&word, bytes, sizeof word); return (uint64_t)(int64_t)word;
    case TYPE_FLOAT: memcpy(&bits, bytes, sizeof bits); return bits;
    case TYPE_INT64:
    case TYPE_TIMESTAMP:
    case TYPE_DOUBLE: memcpy(&wide, bytes, sizeof wide); return wide;
    case TYPE_STRING:
    case TYPE_BYTES:
    case DATA_TYPE_COUNT: break;
    }
    return 0;
}

static uint64_t hash_text(uint64_t hash, const uint8_t *text, uint32_t length)
{
    if (length > STRING_VIEW_INLINE_MAX)
        return row_hash_word(hash, XXH3_64bits(text, length));
    struct string_view view = {.length = length};
    uint64_t words[2];
    memcpy(view.as.inlined, text, length);
    memcpy(words, &view, sizeof words);
    return row_hash_short_text(hash, words[0], words[1]);
}

uint64_t row_codec_hash(const struct row_codec *codec, const void *data, size_t length)
{
    const uint8_t *bytes = data, *text = bytes + codec->fixed_bytes;
    uint64_t hash = ROW_HASH_SEED;
    dcheck(length >= codec->fixed_bytes);
    (void)length;
    for (uint32_t i = 0; i < codec->field_count; i++) {
        const struct row_field *field = &codec->fields[i];
        if (row_field_is_null(codec, bytes, i)) {
            hash = row_hash_word(hash, ROW_HASH_NULL);
        } else if (data_type_is_text(field->type)) {
            uint32_t text_length;
            memcpy(&text_length, bytes + field->offset, sizeof text_length);
            hash = hash_text(hash, text, text_length);
            text += text_length;
        } else {
            hash = row_hash_word(hash, field_word(field->type, bytes + field->offset));
        }
    }
    return hash;
}
