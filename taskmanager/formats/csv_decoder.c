/* CSV records (one row, no header) into rows: column order is the schema's. RFC 4180 quoting, an optional escape character, a
 * null literal. Empty unquoted text is an empty string for STRING and null for every other type. Owned by one task thread. */
#include "common/base/heap.h"
#include "taskmanager/formats/format_impl.h"
#include "taskmanager/formats/json_scan.h"
#include "taskmanager/formats/value_text.h"

#include <stdio.h>
#include <stdlib.h>

struct csv_decoder {
    struct format_decoder decoder;
    struct schema *schema;
    bool *is_projected;
    struct csv_options options;
    char *null_literal; /* NULL: none */
    struct timestamp_format timestamps;
    struct str_buf scratch;
    char reason[160];
};

struct csv_field {
    const char *text; /* in the record, or in the scratch buffer when it had quotes or escapes inside */
    size_t length;
    bool is_quoted;
};

static struct error *parse_char(const json_t *json, const char *name, char *out)
{
    const json_t *value = json_object_get(json, name);
    if (value == NULL)
        return NULL;
    const char *text = json_string_value(value);
    if (text != NULL && strcmp(text, "\\t") == 0)
        text = "\t";
    if (text == NULL || strlen(text) != 1 || *text == '\n' || *text == '\r')
        return error_new(INVALID_ARGUMENT, "format csv: %s must be one character", name);
    *out = *text;
    return NULL;
}

struct error *csv_options_parse(const json_t *json, struct csv_options *out)
{
    struct csv_options options = {.field_delimiter = ',', .quote = '"'};
    TRY(parse_char(json, "field_delimiter", &options.field_delimiter));
    TRY(parse_char(json, "quote_character", &options.quote));
    TRY(parse_char(json, "escape_character", &options.escape));
    if (json_is_true(json_object_get(json, "disable_quote_character")))
        options.quote = '\0';
    if (options.escape == options.quote) /* a doubled quote, as without it */
        options.escape = '\0';
    if (options.field_delimiter == options.quote || options.field_delimiter == options.escape)
        return error_new(INVALID_ARGUMENT, "format csv: field_delimiter must differ from the quote and escape characters");
    options.null_literal = json_string_value(json_object_get(json, "null_literal"));
    options.allow_comments = json_is_true(json_object_get(json, "allow_comments"));
    *out = options;
    return NULL;
}

/* p is behind the opening quote; gives the position behind the closing one. */
static const char *scan_quoted(struct csv_decoder *self, const char *p, const char *end, struct csv_field *field)
{
    const char *start = p;
    bool is_copied = false;
    while (p < end) {
        bool is_escape = self->options.escape != '\0' && *p == self->options.escape && p + 1 < end;
        bool is_quote = *p == self->options.quote;
        if (is_quote && !is_escape && (p + 1 == end || p[1] != self->options.quote)) {
            if (is_copied)
                str_buf_append_bytes(&self->scratch, start, (size_t)(p - start));
            *field = (struct csv_field){.text = is_copied ? str_buf_text(&self->scratch) : start,
                                        .length = is_copied ? self->scratch.length : (size_t)(p - start),
                                        .is_quoted = true};
            return p + 1;
        }
        if (is_quote || is_escape) { /* the next character stands for itself */
            str_buf_append_bytes(&self->scratch, start, (size_t)(p - start));
            is_copied = true;
            start = p + 1;
            p += 2;
        } else {
            p++;
        }
    }
    return NULL;
}

static const char *scan_plain(struct csv_decoder *self, const char *p, const char *end, struct csv_field *field)
{
    const char *start = p;
    bool is_copied = false;
    for (; p < end && *p != self->options.field_delimiter; p++) {
        if (self->options.escape != '\0' && *p == self->options.escape && p + 1 < end) {
            str_buf_append_bytes(&self->scratch, start, (size_t)(p - start));
            is_copied = true;
            start = ++p;
        }
    }
    if (is_copied)
        str_buf_append_bytes(&self->scratch, start, (size_t)(p - start));
    *field = (struct csv_field){.text = is_copied ? str_buf_text(&self->scratch) : start,
                                .length = is_copied ? self->scratch.length : (size_t)(p - start)};
    return p;
}

static bool text_is_utf8(const char *p, size_t length)
{
    for (const char *end = p + length; p < end;) {
        size_t sequence = (unsigned char)*p < 0x80 ? 1 : utf8_sequence_length(p, end);
        if (sequence == 0)
            return false;
        p += sequence;
    }
    return true;
}

static const char *store_field(struct csv_decoder *self, struct batch_builder *builder, uint32_t index, uint32_t row,
                               const struct csv_field *field)
{
    const struct field *target = &self->schema->fields[index];
    bool is_null = !field->is_quoted && self->null_literal != NULL && strlen(self->null_literal) == field->length &&
                   memcmp(self->null_literal, field->text, field->length) == 0;
    if (!is_null && field->length == 0 && !field->is_quoted && target->type != TYPE_STRING)
        is_null = true;
    if (is_null)
        return target->nullable ? NULL : "is null but not nullable";
    if (target->type == TYPE_STRING && !text_is_utf8(field->text, field->length))
        return "text is not valid UTF-8";
    return value_text_store(builder, index, row, target->type, field->text, field->length, &self->timestamps);
}

static const char *decode_fields(struct csv_decoder *self, const char *p, const char *end, struct batch_builder *builder, uint32_t row,
                                 uint32_t *index)
{
    for (*index = 0; *index < self->schema->field_count; (*index)++) {
        if (*index > 0) {
            if (p == end)
                return "missing: too few columns";
            p++; /* the delimiter */
        }
        struct csv_field field;
        str_buf_clear(&self->scratch);
        if (self->options.quote != '\0' && p < end && *p == self->options.quote) {
            p = scan_quoted(self, p + 1, end, &field);
            if (p == NULL)
                return "quote is not closed";
            if (p < end && *p != self->options.field_delimiter)
                return "text after the closing quote";
        } else {
            p = scan_plain(self, p, end, &field);
        }
        if (self->is_projected == NULL || self->is_projected[*index]) {
            const char *problem = store_field(self, builder, *index, row, &field);
            if (problem != NULL)
                return problem;
        }
    }
    *index = self->schema->field_count - 1;
    return p == end ? NULL : "too many columns after it";
}

static bool csv_decode(struct format_decoder *decoder, const void *bytes, size_t length, struct batch_builder *builder,
                       const char **reason)
{
    struct csv_decoder *self = (struct csv_decoder *)decoder;
    const char *p = bytes;
    const char *end = p + length;
    if (end > p && end[-1] == '\n')
        end--;
    if (end > p && end[-1] == '\r')
        end--;
    if (self->options.allow_comments && p < end && *p == '#') {
        *reason = NULL;
        return false;
    }
    uint32_t row = batch_builder_add_row(builder);
    uint32_t index;
    const char *problem = decode_fields(self, p, end, builder, row, &index);
    if (problem == NULL)
        return true;
    batch_builder_drop_row(builder);
    snprintf(self->reason, sizeof self->reason, "%.80s: %s", self->schema->fields[index].name, problem);
    *reason = self->reason;
    return false;
}

static void csv_decoder_destroy(struct format_decoder *decoder)
{
    struct csv_decoder *self = (struct csv_decoder *)decoder;
    schema_unref(self->schema);
    free(self->is_projected);
    free(self->null_literal);
    str_buf_finish(&self->scratch);
    free(self);
}

struct error *csv_decoder_create(const json_t *options, struct schema *schema, const bool *is_projected, struct format_decoder **out)
{
    static const struct format_decoder_vtable vtable = {.decode = csv_decode, .destroy = csv_decoder_destroy};
    struct timestamp_format timestamps;
    struct csv_options parsed;
    if (schema->field_count == 0)
        return error_new(INVALID_ARGUMENT, "format csv needs at least one column");
    TRY(timestamp_format_compile(json_string_value(json_object_get(options, "timestamp_format")), &timestamps));
    TRY(csv_options_parse(options, &parsed));
    struct csv_decoder *self = heap_new(struct csv_decoder);
    self->decoder.vtable = &vtable;
    self->schema = schema_ref(schema);
    self->options = parsed;
    self->timestamps = timestamps;
    self->null_literal = parsed.null_literal != NULL ? heap_strdup(parsed.null_literal) : NULL;
    if (is_projected != NULL)
        self->is_projected = heap_memdup(is_projected, schema->field_count * sizeof *is_projected);
    *out = &self->decoder;
    return NULL;
}
