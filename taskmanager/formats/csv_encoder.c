/* Rows into CSV records without a line end: fields in schema order, RFC 4180 quoting where needed. Nulls are the null literal, or
 * nothing; a text equal to the null literal is quoted so that it comes back as text. Owned by one task thread. */
#include "common/base/heap.h"
#include "taskmanager/formats/format_impl.h"
#include "taskmanager/formats/value_text.h"

#include <stdlib.h>
#include <string.h>

struct csv_encoder {
    struct format_encoder encoder;
    struct schema *schema;
    struct csv_options options;
    char *null_literal; /* "" when there is none */
    struct timestamp_format timestamps;
    struct str_buf scratch;
};

static bool is_special(const struct csv_encoder *self, char c)
{
    return c == self->options.field_delimiter || c == '\n' || c == '\r' || (self->options.quote != '\0' && c == self->options.quote) ||
           (self->options.escape != '\0' && c == self->options.escape);
}

static bool needs_quotes(const struct csv_encoder *self, const char *text, size_t length)
{
    if (self->null_literal[0] != '\0' && strlen(self->null_literal) == length && memcmp(self->null_literal, text, length) == 0)
        return true;
    if (length > 0 && text[0] == '#' && self->options.allow_comments)
        return true;
    for (size_t i = 0; i < length; i++)
        if (is_special(self, text[i]))
            return true;
    return false;
}

static void append_text(struct csv_encoder *self, const char *text, size_t length, struct str_buf *out)
{
    if (self->options.quote != '\0' && needs_quotes(self, text, length)) {
        str_buf_append_char(out, self->options.quote);
        for (size_t i = 0; i < length; i++) {
            bool is_quote = text[i] == self->options.quote;
            bool is_escape = self->options.escape != '\0' && text[i] == self->options.escape;
            if (is_quote || is_escape)
                str_buf_append_char(out, self->options.escape != '\0' ? self->options.escape : self->options.quote);
            str_buf_append_char(out, text[i]);
        }
        str_buf_append_char(out, self->options.quote);
        return;
    }
    if (self->options.quote == '\0' && self->options.escape != '\0') {
        for (size_t i = 0; i < length; i++) {
            if (is_special(self, text[i]))
                str_buf_append_char(out, self->options.escape);
            str_buf_append_char(out, text[i]);
        }
        return;
    }
    str_buf_append_bytes(out, text, length);
}

static void csv_encode(struct format_encoder *encoder, const struct batch *batch, uint32_t row, struct str_buf *out)
{
    struct csv_encoder *self = (struct csv_encoder *)encoder;
    for (uint32_t i = 0; i < self->schema->field_count; i++) {
        const struct column *column = &batch->columns[i];
        enum data_type type = self->schema->fields[i].type;
        if (i > 0)
            str_buf_append_char(out, self->options.field_delimiter);
        if (column_is_null(column, row)) {
            str_buf_append(out, self->null_literal);
            continue;
        }
        str_buf_clear(&self->scratch);
        const struct string_view *views = column->values;
        if (type == TYPE_STRING) {
            append_text(self, string_view_text(column, &views[row]), views[row].length, out);
            continue;
        }
        if (type == TYPE_BYTES)
            base64_append(string_view_text(column, &views[row]), views[row].length, &self->scratch);
        else
            value_text_print(column, type, row, &self->timestamps, &self->scratch);
        append_text(self, str_buf_text(&self->scratch), self->scratch.length, out);
    }
}

static void csv_encoder_destroy(struct format_encoder *encoder)
{
    struct csv_encoder *self = (struct csv_encoder *)encoder;
    schema_unref(self->schema);
    free(self->null_literal);
    str_buf_finish(&self->scratch);
    free(self);
}

struct error *csv_encoder_create(const json_t *options, struct schema *schema, struct format_encoder **out)
{
    static const struct format_encoder_vtable vtable = {.encode = csv_encode, .destroy = csv_encoder_destroy};
    struct timestamp_format timestamps;
    struct csv_options parsed;
    TRY(timestamp_format_compile(json_string_value(json_object_get(options, "timestamp_format")), &timestamps));
    TRY(csv_options_parse(options, &parsed));
    struct csv_encoder *self = heap_new(struct csv_encoder);
    self->encoder.vtable = &vtable;
    self->schema = schema_ref(schema);
    self->options = parsed;
    self->timestamps = timestamps;
    self->null_literal = heap_strdup(parsed.null_literal != NULL ? parsed.null_literal : "");
    *out = &self->encoder;
    return NULL;
}
