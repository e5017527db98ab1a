/* Which format an options object means; checks option names; the string and raw formats, which are too small for files of
 * their own. Owned by one task thread. */
#include "taskmanager/formats/format.h"

#include "common/base/heap.h"
#include "taskmanager/formats/format_impl.h"
#include "taskmanager/formats/json_scan.h"

#include <stdlib.h>

struct format_type {
    const char *name;
    const char *options; /* blank-separated, for the check and for the message */
    struct error *(*create_decoder)(const json_t *options, struct schema *schema, const bool *is_projected, struct format_decoder **out);
    struct error *(*create_encoder)(const json_t *options, struct schema *schema, struct format_encoder **out);
};

/* ---- string and raw: the record is the value of the one column ---- */

struct text_decoder {
    struct format_decoder decoder;
    bool is_utf8;
};

struct text_encoder {
    struct format_encoder encoder;
};

static bool is_valid_utf8(const char *p, size_t length)
{
    for (const char *end = p + length; p < end;) {
        if ((unsigned char)*p < 0x80) {
            p++;
            continue;
        }
        size_t sequence = utf8_sequence_length(p, end);
        if (sequence == 0)
            return false;
        p += sequence;
    }
    return true;
}

static bool text_decode(struct format_decoder *decoder, const void *bytes, size_t length, struct batch_builder *builder,
                        const char **reason)
{
    if (((struct text_decoder *)decoder)->is_utf8 && !is_valid_utf8(bytes, length)) {
        *reason = "text is not valid UTF-8";
        return false;
    }
    uint32_t row = batch_builder_add_row(builder);
    batch_builder_set_text(builder, 0, row, bytes, length);
    return true;
}

static void text_decoder_destroy(struct format_decoder *decoder)
{
    free(decoder);
}

static void text_encode(struct format_encoder *encoder, const struct batch *batch, uint32_t row, struct str_buf *out)
{
    (void)encoder;
    const struct column *column = &batch->columns[0];
    const struct string_view *view = &((const struct string_view *)column->values)[row];
    if (!column_is_null(column, row))
        str_buf_append_bytes(out, string_view_text(column, view), view->length);
}

static void text_encoder_destroy(struct format_encoder *encoder)
{
    free(encoder);
}

static struct error *check_one_column(const char *format, const struct schema *schema, enum data_type type)
{
    if (schema->field_count == 1 && schema->fields[0].type == type)
        return NULL;
    return error_new(INVALID_ARGUMENT, "format %s needs exactly one column of type %s", format, data_type_name(type));
}

static struct error *text_decoder_create(struct format_decoder **out, bool is_utf8)
{
    static const struct format_decoder_vtable vtable = {.decode = text_decode, .destroy = text_decoder_destroy};
    struct text_decoder *self = heap_new(struct text_decoder);
    self->decoder.vtable = &vtable;
    self->is_utf8 = is_utf8;
    *out = &self->decoder;
    return NULL;
}

static struct error *text_encoder_create(struct format_encoder **out)
{
    static const struct format_encoder_vtable vtable = {.encode = text_encode, .destroy = text_encoder_destroy};
    struct text_encoder *self = heap_new(struct text_encoder);
    self->encoder.vtable = &vtable;
    *out = &self->encoder;
    return NULL;
}

static struct error *string_decoder_create(const json_t *options, struct schema *schema, const bool *is_projected,
                                           struct format_decoder **out)
{
    (void)options;
    (void)is_projected;
    TRY(check_one_column("string", schema, TYPE_STRING));
    return text_decoder_create(out, true);
}

static struct error *string_encoder_create(const json_t *options, struct schema *schema, struct format_encoder **out)
{
    (void)options;
    TRY(check_one_column("string", schema, TYPE_STRING));
    return text_encoder_create(out);
}

static struct error *raw_decoder_create(const json_t *options, struct schema *schema, const bool *is_projected,
                                        struct format_decoder **out)
{
    (void)options;
    (void)is_projected;
    TRY(check_one_column("raw", schema, TYPE_BYTES));
    return text_decoder_create(out, false);
}

static struct error *raw_encoder_create(const json_t *options, struct schema *schema, struct format_encoder **out)
{
    (void)options;
    TRY(check_one_column("raw", schema, TYPE_BYTES));
    return text_encoder_create(out);
}

/* ---- the table ---- */

static const struct format_type format_types[] = {
    {"json", "type timestamp_format ignore_null_fields", json_decoder_create, json_encoder_create},
    {"csv", "type timestamp_format field_delimiter quote_character disable_quote_character escape_character null_literal allow_comments",
     csv_decoder_create, csv_encoder_create},
    {"string", "type", string_decoder_create, string_encoder_create},
    {"raw", "type", raw_decoder_create, raw_encoder_create},
};

static bool is_listed(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *p = list; (p = strstr(p, name)) != NULL; p += length)
        if ((p == list || p[-1] == ' ') && (p[length] == ' ' || p[length] == '\0'))
            return length > 0;
    return false;
}

static struct error *find_type(const json_t *options, const struct format_type **out)
{
    const char *name = json_string_value(json_object_get(options, "type"));
    if (name == NULL)
        return error_with_hint(error_new(INVALID_ARGUMENT, "format has no type"), "use json, csv, string or raw");
    const struct format_type *type = NULL;
    for (size_t i = 0; i < sizeof format_types / sizeof format_types[0]; i++)
        if (strcmp(format_types[i].name, name) == 0)
            type = &format_types[i];
    if (type == NULL)
        return error_with_hint(error_new(INVALID_ARGUMENT, "unknown format \"%s\"", name), "use json, csv, string or raw");
    /* jansson's iterators take the object as mutable, but only read it. No reference is taken: other tasks read it, too. */
    json_t *object = (json_t *)(uintptr_t)options;
    struct error *err = NULL;
    for (void *i = json_object_iter(object); i != NULL && err == NULL; i = json_object_iter_next(object, i))
        if (!is_listed(type->options, json_object_iter_key(i)))
            err = error_with_hint(error_new(INVALID_ARGUMENT, "format %s has no option \"%s\"", name, json_object_iter_key(i)),
                                  "its options are: %s", type->options);
    TRY(err);
    *out = type;
    return NULL;
}

struct error *format_decoder_create(const json_t *options, struct schema *schema, const bool *is_projected, struct format_decoder **out)
{
    const struct format_type *type;
    TRY(find_type(options, &type));
    return type->create_decoder(options, schema, is_projected, out);
}

void format_decoder_destroy(struct format_decoder *decoder)
{
    if (decoder != NULL)
        decoder->vtable->destroy(decoder);
}

struct error *format_encoder_create(const json_t *options, struct schema *schema, struct format_encoder **out)
{
    const struct format_type *type;
    TRY(find_type(options, &type));
    return type->create_encoder(options, schema, out);
}

void format_encoder_destroy(struct format_encoder *encoder)
{
    if (encoder != NULL)
        encoder->vtable->destroy(encoder);
}
