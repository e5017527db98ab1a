/* Rows into JSON objects, fields in schema order. Keys are rendered once. Owned by one task thread.
 * Numbers are written in the shortest form that reads back; NaN and infinities as strings, as Jackson does. */
#include "common/base/heap.h"
#include "taskmanager/formats/format_impl.h"
#include "taskmanager/formats/json_scan.h"
#include "taskmanager/formats/value_text.h"

#include <math.h>
#include <stdlib.h>

struct json_key {
    size_t offset; /* into keys: `,"page":` */
    size_t length;
};

struct json_encoder {
    struct format_encoder encoder;
    struct schema *schema;
    struct timestamp_format timestamps;
    bool ignores_nulls;
    struct str_buf keys;
    struct json_key *key_spans;
};

static void append_escape(unsigned char c, struct str_buf *out)
{
    switch (c) {
    case '"':
        str_buf_append(out, "\\\"");
        break;
    case '\\':
        str_buf_append(out, "\\\\");
        break;
    case '\n':
        str_buf_append(out, "\\n");
        break;
    case '\r':
        str_buf_append(out, "\\r");
        break;
    case '\t':
        str_buf_append(out, "\\t");
        break;
    case '\b':
        str_buf_append(out, "\\b");
        break;
    case '\f':
        str_buf_append(out, "\\f");
        break;
    default:
        str_buf_printf(out, "\\u%04x", c);
        break;
    }
}

static void append_string(const char *text, size_t length, struct str_buf *out)
{
    str_buf_append_char(out, '"');
    const char *start = text;
    const char *end = text + length;
    for (const char *p = text; p < end; p++) {
        unsigned char c = (unsigned char)*p;
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        str_buf_append_bytes(out, start, (size_t)(p - start));
        append_escape(c, out);
        start = p + 1;
    }
    str_buf_append_bytes(out, start, (size_t)(end - start));
    str_buf_append_char(out, '"');
}

static bool needs_quotes(const struct json_encoder *self, const struct column *column, enum data_type type, uint32_t row)
{
    if (type == TYPE_DATE)
        return true;
    if (type == TYPE_TIMESTAMP)
        return self->timestamps.kind != TIMESTAMP_EPOCH_MILLIS;
    if (type == TYPE_DOUBLE)
        return !isfinite(((const double *)column->values)[row]);
    return type == TYPE_FLOAT && !isfinite(((const float *)column->values)[row]);
}

static void append_value(struct json_encoder *self, const struct column *column, enum data_type type, uint32_t row, struct str_buf *out)
{
    const struct string_view *views = column->values;
    if (type == TYPE_STRING) {
        append_string(string_view_text(column, &views[row]), views[row].length, out);
    } else if (type == TYPE_BYTES) {
        str_buf_append_char(out, '"');
        base64_append(string_view_text(column, &views[row]), views[row].length, out);
        str_buf_append_char(out, '"');
    } else if (needs_quotes(self, column, type, row)) {
        struct str_buf text = {0};
        value_text_print(column, type, row, &self->timestamps, &text);
        append_string(str_buf_text(&text), text.length, out);
        str_buf_finish(&text);
    } else {
        value_text_print(column, type, row, &self->timestamps, out);
    }
}

static void json_encode(struct format_encoder *encoder, const struct batch *batch, uint32_t row, struct str_buf *out)
{
    struct json_encoder *self = (struct json_encoder *)encoder;
    size_t start = out->length;
    for (uint32_t i = 0; i < self->schema->field_count; i++) {
        bool is_null = column_is_null(&batch->columns[i], row);
        if (is_null && self->ignores_nulls)
            continue;
        str_buf_append_bytes(out, self->keys.text + self->key_spans[i].offset, self->key_spans[i].length);
        if (is_null)
            str_buf_append(out, "null");
        else
            append_value(self, &batch->columns[i], self->schema->fields[i].type, row, out);
    }
    if (out->length == start)
        str_buf_append_char(out, '{');
    else
        out->text[start] = '{'; /* in place of the first comma */
    str_buf_append_char(out, '}');
}

static void json_encoder_destroy(struct format_encoder *encoder)
{
    struct json_encoder *self = (struct json_encoder *)encoder;
    schema_unref(self->schema);
    str_buf_finish(&self->keys);
    free(self->key_spans);
    free(self);
}

struct error *json_encoder_create(const json_t *options, struct schema *schema, struct format_encoder **out)
{
    static const struct format_encoder_vtable vtable = {.encode = json_encode, .destroy = json_encoder_destroy};
    struct timestamp_format timestamps;
    TRY(timestamp_format_compile(json_string_value(json_object_get(options, "timestamp_format")), &timestamps));
    struct json_encoder *self = heap_new(struct json_encoder);
    self->encoder.vtable = &vtable;
    self->schema = schema_ref(schema);
    self->timestamps = timestamps;
    self->ignores_nulls = json_is_true(json_object_get(options, "ignore_null_fields"));
    self->key_spans = heap_alloc_array(schema->field_count, sizeof *self->key_spans);
    for (uint32_t i = 0; i < schema->field_count; i++) {
        size_t offset = self->keys.length;
        str_buf_append_char(&self->keys, ',');
        append_string(schema->fields[i].name, strlen(schema->fields[i].name), &self->keys);
        str_buf_append_char(&self->keys, ':');
        self->key_spans[i] = (struct json_key){.offset = offset, .length = self->keys.length - offset};
    }
    *out = &self->encoder;
    return NULL;
}
