/* C records (client/api/millrace/record.h) from and to encoded rows, batch rows and builders: see row_codec.h. */
#include "common/base/heap.h"
#include "taskmanager/state/row_internal.h"

#include <stdlib.h>
#include <string.h>

void row_record_layout(enum data_type type, uint32_t *size, uint32_t *alignment)
{
    if (data_type_is_text(type)) {
        *size = sizeof(mr_string);
        *alignment = _Alignof(mr_string);
    } else {
        *size = *alignment = type == TYPE_BOOLEAN ? (uint32_t)sizeof(bool) : data_type_width(type);
    }
}

static bool type_of_member(enum mr_type type, enum data_type *out)
{
    static const enum data_type types[] = {
        [MR_BOOLEAN] = TYPE_BOOLEAN, [MR_INT8] = TYPE_INT8,     [MR_INT16] = TYPE_INT16,   [MR_INT32] = TYPE_INT32,
        [MR_INT64] = TYPE_INT64,     [MR_FLOAT] = TYPE_FLOAT,   [MR_DOUBLE] = TYPE_DOUBLE, [MR_STRING] = TYPE_STRING,
        [MR_BYTES] = TYPE_BYTES,     [MR_TIMESTAMP] = TYPE_TIMESTAMP,
    };
    if ((unsigned)type >= sizeof types / sizeof types[0])
        return false;
    *out = types[type];
    return true;
}

static struct error *check_total(const struct mr_record_type *type, struct schema *schema)
{
    struct row_codec *codec = row_codec_create(schema);
    uint32_t size = codec->record_size;
    row_codec_destroy(codec);
    if (size != type->size_bytes)
        return error_with_hint(error_new(INVALID_PROGRAM, "record \"%s\" has %u bytes, its fields need %u", type->name, type->size_bytes, size),
                               "declare the record with MR_RECORD and compile without packing");
    return NULL;
}

struct error *row_schema_of_record(const struct mr_record_type *type, struct schema **out)
{
    if (type->field_count > SCHEMA_FIELD_COUNT_MAX)
        return error_new(INVALID_PROGRAM, "record \"%s\" has %u fields, at most %d are possible", type->name, type->field_count,
                         SCHEMA_FIELD_COUNT_MAX);
    struct field *fields = heap_alloc_array(type->field_count + 1, sizeof *fields);
    struct error *err = NULL;
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct mr_field *member = &type->fields[i];
        uint32_t size, alignment;
        if (!type_of_member(member->type, &fields[i].type)) {
            err = error_new(INVALID_PROGRAM, "field \"%s\" of record \"%s\" has the unknown type %d", member->name, type->name, (int)member->type);
            goto done;
        }
        row_record_layout(fields[i].type, &size, &alignment);
        if (member->size_bytes != size || member->alignment != alignment) {
            err = error_new(INVALID_PROGRAM, "field \"%s\" of record \"%s\" has %u bytes aligned to %u instead of %u aligned to %u", member->name,
                            type->name, member->size_bytes, member->alignment, size, alignment);
            goto done;
        }
        fields[i].name = heap_strdup(member->name);
    }
    struct schema *schema = schema_create(fields, type->field_count);
    err = check_total(type, schema);
    if (err == NULL)
        *out = schema;
    else
        schema_unref(schema);
done:
    for (uint32_t i = 0; i < type->field_count; i++)
        free(fields[i].name);
    free(fields);
    return err;
}

/* All but the text. */
void row_codec_encode_fixed(const struct row_codec *codec, const void *record, uint8_t *to)
{
    const uint8_t *members = record;
    if (codec->is_packed) {
        memcpy(to, record, codec->fixed_bytes);
        return;
    }
    memset(to, 0, codec->null_bytes);
    for (uint32_t i = 0; i < codec->field_count; i++) {
        const struct row_field *field = &codec->fields[i];
        const uint8_t *member = members + field->record_offset;
        if (data_type_is_text(field->type))
            memcpy(to + field->offset, member + offsetof(mr_string, length), sizeof(uint32_t));
        else if (field->type == TYPE_BOOLEAN)
            to[field->offset] = *member != 0;
        else
            memcpy(to + field->offset, member, field->width);
    }
}

void row_codec_encode_record(const struct row_codec *codec, const void *record, struct bytes_writer *writer)
{
    const uint8_t *members = record;
    row_codec_encode_fixed(codec, record, row_reserve(writer, codec->fixed_bytes));
    for (uint32_t i = 0; i < codec->field_count && codec->text_count != 0; i++) {
        if (!data_type_is_text(codec->fields[i].type))
            continue;
        mr_string text;
        memcpy(&text, members + codec->fields[i].record_offset, sizeof text);
        bytes_write(writer, text.data, text.length);
    }
}

struct error *row_codec_decode_record(const struct row_codec *codec, const void *data, size_t length, void *record)
{
    const uint8_t *bytes = data, *text = bytes + codec->fixed_bytes;
    uint8_t *members = record;
    TRY(row_codec_verify(codec, data, length));
    memset(record, 0, codec->record_size);
    for (uint32_t i = 0; i < codec->field_count; i++) {
        const struct row_field *field = &codec->fields[i];
        if (data_type_is_text(field->type)) {
            mr_string value = {.data = ""};
            memcpy(&value.length, bytes + field->offset, sizeof value.length);
            if (value.length != 0)
                value.data = (const char *)text;
            text += value.length;
            memcpy(members + field->record_offset, &value, sizeof value);
        } else if (field->type == TYPE_BOOLEAN) {
            members[field->record_offset] = bytes[field->offset] != 0;
        } else {
            memcpy(members + field->record_offset, bytes + field->offset, field->width);
        }
    }
    return NULL;
}

void row_codec_record_of_batch(const struct row_codec *codec, const struct batch *batch, const uint32_t *columns, uint32_t row, void *record)
{
    uint8_t *members = record;
    memset(record, 0, codec->record_size);
    for (uint32_t i = 0; i < codec->field_count; i++) {
        const struct row_field *field = &codec->fields[i];
        const struct column *column = &batch->columns[columns != NULL ? columns[i] : i];
        bool is_null = column_is_null(column, row);
        if (data_type_is_text(field->type)) {
            const struct string_view *view = &((const struct string_view *)column->values)[row];
            mr_string value = {.data = ""};
            if (!is_null)
                value = (mr_string){string_view_text(column, view), view->length};
            memcpy(members + field->record_offset, &value, sizeof value);
        } else if (is_null) {
            continue;
        } else if (field->type == TYPE_BOOLEAN) {
            members[field->record_offset] = ((const uint8_t *)column->values)[row >> 3] >> (row & 7) & 1;
        } else {
            memcpy(members + field->record_offset, (const uint8_t *)column->values + (size_t)row * field->width, field->width);
        }
    }
}

void row_codec_record_to_builder(const struct row_codec *codec, const void *record, struct batch_builder *builder, const uint32_t *columns,
                                 uint32_t row)
{
    const uint8_t *members = record;
    for (uint32_t i = 0; i < codec->field_count; i++) {
        const struct row_field *field = &codec->fields[i];
        uint32_t column = columns != NULL ? columns[i] : i;
        if (column == UINT32_MAX)
            continue;
        if (data_type_is_text(field->type)) {
            mr_string text;
            memcpy(&text, members + field->record_offset, sizeof text);
            batch_builder_set_text(builder, column, row, text.length != 0 ? text.data : "", text.length);
        } else if (field->type == TYPE_BOOLEAN) {
            batch_builder_set_bool(builder, column, row, members[field->record_offset] != 0);
        } else {
            memcpy((uint8_t *)batch_builder_values(builder, column) + (size_t)row * field->width, members + field->record_offset, field->width);
            batch_builder_set_valid(builder, column, row);
        }
    }
}
