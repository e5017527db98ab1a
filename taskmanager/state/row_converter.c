/* Rows of one schema into rows of another, matched by field name: see row_codec.h. Any thread. */
#include "common/base/heap.h"
#include "taskmanager/state/row_internal.h"

#include <stdlib.h>
#include <string.h>

struct row_converter {
    struct row_codec *from;
    struct row_codec *to;
    int *sources; /* field of from for each field of to; -1: none */
    bool is_identity;
};

static bool is_integer(enum data_type type)
{
    return type == TYPE_INT8 || type == TYPE_INT16 || type == TYPE_INT32 || type == TYPE_INT64;
}

static bool type_converts(enum data_type from, enum data_type to)
{
    if (from == to)
        return true;
    if ((from == TYPE_TIMESTAMP && to == TYPE_INT64) || (from == TYPE_INT64 && to == TYPE_TIMESTAMP))
        return true;
    if (is_integer(from) && is_integer(to))
        return data_type_width(from) < data_type_width(to);
    if (is_integer(from))
        return to == TYPE_DOUBLE || (to == TYPE_FLOAT && data_type_width(from) < 4);
    return from == TYPE_FLOAT && to == TYPE_DOUBLE;
}

static struct error *match_key(struct row_converter *converter)
{
    const struct schema *from = converter->from->schema, *to = converter->to->schema;
    if (from->field_count != to->field_count)
        return error_with_hint(error_new(CONFLICT, "the key has %u fields, in the state it has %u", to->field_count, from->field_count),
                               "state can only be restored with the same key");
    for (uint32_t i = 0; i < to->field_count; i++) {
        if (from->fields[i].type != to->fields[i].type)
            return error_with_hint(error_new(CONFLICT, "key field \"%s\" is %s, in the state it is %s", to->fields[i].name,
                                             data_type_name(to->fields[i].type), data_type_name(from->fields[i].type)),
                                   "state can only be restored with the same key");
        converter->sources[i] = (int)i;
    }
    return NULL;
}

static struct error *match_names(struct row_converter *converter)
{
    const struct schema *from = converter->from->schema, *to = converter->to->schema;
    for (uint32_t i = 0; i < to->field_count; i++) {
        int source = schema_find(from, to->fields[i].name);
        if (source >= 0 && !type_converts(from->fields[source].type, to->fields[i].type))
            return error_with_hint(error_new(CONFLICT, "field \"%s\" is %s, in the state it is %s, which does not convert", to->fields[i].name,
                                             data_type_name(to->fields[i].type), data_type_name(from->fields[source].type)),
                                   "give the field a new name, or keep its type");
        converter->sources[i] = source;
    }
    return NULL;
}

static bool encodes_the_same(const struct row_converter *converter)
{
    const struct row_codec *from = converter->from, *to = converter->to;
    if (from->field_count != to->field_count || from->null_bytes != to->null_bytes)
        return false;
    for (uint32_t i = 0; i < to->field_count; i++)
        if (converter->sources[i] != (int)i || from->fields[i].width != to->fields[i].width ||
            (from->fields[i].type != to->fields[i].type && data_type_is_text(to->fields[i].type)) ||
            (to->fields[i].type == TYPE_DOUBLE) != (from->fields[i].type == TYPE_DOUBLE) ||
            (to->fields[i].type == TYPE_FLOAT) != (from->fields[i].type == TYPE_FLOAT) ||
            (from->schema->fields[i].nullable && !to->schema->fields[i].nullable))
            return false;
    return true;
}

struct error *row_converter_create(struct schema *from, struct schema *to, bool is_key, struct row_converter **out)
{
    struct row_converter *converter = heap_new(struct row_converter);
    converter->from = row_codec_create(from);
    converter->to = row_codec_create(to);
    converter->sources = heap_alloc_array(to->field_count + 1, sizeof *converter->sources);
    struct error *err = is_key ? match_key(converter) : match_names(converter);
    if (err != NULL) {
        row_converter_destroy(converter);
        return err;
    }
    converter->is_identity = encodes_the_same(converter);
    *out = converter;
    return NULL;
}

void row_converter_destroy(struct row_converter *converter)
{
    if (converter == NULL)
        return;
    row_codec_destroy(converter->from);
    row_codec_destroy(converter->to);
    free(converter->sources);
    free(converter);
}

bool row_converter_is_identity(const struct row_converter *converter)
{
    return converter->is_identity;
}

static int64_t read_integer(const uint8_t *bytes, uint32_t width)
{
    uint64_t value = 0;
    memcpy(&value, bytes, width);
    unsigned shift = 64 - width * 8;
    return (int64_t)(value << shift) >> shift;
}

/* One fixed-width value; wider numbers hold every narrower one. */
static void convert_value(const uint8_t *from, const struct row_field *source, uint8_t *to, const struct row_field *target)
{
    if (source->type == target->type || source->width == target->width) {
        memcpy(to, from, target->width);
        if (target->type != TYPE_DOUBLE || source->type == TYPE_DOUBLE)
            return;
    }
    if (source->type == TYPE_FLOAT) {
        float narrow;
        memcpy(&narrow, from, sizeof narrow);
        double wide = (double)narrow;
        memcpy(to, &wide, sizeof wide);
        return;
    }
    int64_t integer = read_integer(from, source->width);
    if (target->type == TYPE_DOUBLE) {
        double wide = (double)integer;
        memcpy(to, &wide, sizeof wide);
    } else if (target->type == TYPE_FLOAT) {
        float narrow = (float)integer;
        memcpy(to, &narrow, sizeof narrow);
    } else {
        memcpy(to, &integer, target->width);
    }
}

static void set_null(const struct row_codec *codec, uint8_t *bytes, uint32_t field)
{
    if (codec->schema->fields[field].nullable)
        bytes[field >> 3] |= (uint8_t)(1u << (field & 7));
}

/* Where the text of field `wanted` begins: after the texts of the fields before it. */
static size_t text_position(const struct row_codec *codec, const uint8_t *bytes, uint32_t wanted)
{
    size_t position = codec->fixed_bytes;
    for (uint32_t i = 0; i < wanted; i++) {
        uint32_t length = 0;
        if (data_type_is_text(codec->fields[i].type))
            memcpy(&length, bytes + codec->fields[i].offset, sizeof length);
        position += length;
    }
    return position;
}

struct error *row_converter_convert(const struct row_converter *converter, const void *data, size_t length, struct bytes_writer *writer)
{
    const struct row_codec *from = converter->from, *to = converter->to;
    const uint8_t *bytes = data;
    TRY(row_codec_verify(from, data, length));
    if (converter->is_identity) {
        bytes_write(writer, data, length);
        return NULL;
    }
    size_t start = writer->length;
    uint8_t *out = row_reserve(writer, to->fixed_bytes);
    memset(out, 0, to->fixed_bytes);
    for (uint32_t i = 0; i < to->field_count; i++) {
        int source = converter->sources[i];
        if (source < 0 || row_field_is_null(from, bytes, (uint32_t)source))
            set_null(to, out, i);
        else
            convert_value(bytes + from->fields[source].offset, &from->fields[source], out + to->fields[i].offset, &to->fields[i]);
    }
    for (uint32_t i = 0; i < to->field_count; i++) {
        uint32_t text_length = 0;
        if (!data_type_is_text(to->fields[i].type))
            continue;
        memcpy(&text_length, writer->data + start + to->fields[i].offset, sizeof text_length);
        if (text_length != 0)
            bytes_write(writer, bytes + text_position(from, bytes, (uint32_t)converter->sources[i]), text_length);
    }
    return NULL;
}
