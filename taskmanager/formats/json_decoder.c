/* JSON objects into rows. Two ways through a record:
 *   general   any field order, unknown fields, escapes, white space; it notes where values begin and end
 *   template  records of a stream look alike: the bytes between the values (braces, keys, colons, commas) of the last record
 *             that went the general way are compared, not parsed, and each value goes straight to its column
 * A record that departs from the template goes the general way and makes the next template. Both ways store values with the
 * same functions, so they agree on what is malformed. Owned by one task thread. */
#include "common/base/heap.h"
#include "taskmanager/formats/format_impl.h"
#include "taskmanager/formats/json_template.h"
#include "taskmanager/formats/value_text.h"

#include <stdio.h>
#include <stdlib.h>

#define REASON_BYTES 160

struct json_field {
    const char *name;
    uint32_t name_length;
    enum data_type type;
    bool is_required; /* projected and not nullable */
    bool is_projected;
    uint32_t seen_in; /* number of the last record that had it */
};

struct json_decoder {
    struct format_decoder decoder;
    struct schema *schema;
    struct json_field *fields;
    uint32_t field_count;
    uint32_t required_count;
    uint32_t *buckets; /* hash of name -> field index + 1, open addressing */
    uint32_t bucket_mask;
    uint32_t record_number;
    struct timestamp_format timestamps;
    struct json_template *template;
    struct json_template *draft; /* what the general way notes; becomes the template when the record was good */
    struct str_buf scratch;
    char reason[REASON_BYTES];
};

/* ---- values ---- */

static const char *store_text(struct json_decoder *self, struct batch_builder *builder, uint32_t index, uint32_t row, const char *text,
                              size_t length, const char **reason, const char *next)
{
    const char *problem = value_text_store(builder, index, row, self->fields[index].type, text, length, &self->timestamps);
    if (problem != NULL) {
        *reason = problem;
        return NULL;
    }
    return next;
}

/* What the hot path rarely needs stays out of it. */
__attribute__((noinline)) static const char *store_string(struct json_decoder *self, struct batch_builder *builder, uint32_t index, uint32_t row,
                                                          const char *p, const char *end, const char **reason)
{
    bool has_escape;
    const char *close = json_scan_string(p, end, &has_escape, reason);
    if (close == NULL)
        return NULL;
    if (!has_escape)
        return store_text(self, builder, index, row, p, (size_t)(close - p), reason, close + 1);
    str_buf_clear(&self->scratch);
    json_unescape(p, close, &self->scratch);
    return store_text(self, builder, index, row, str_buf_text(&self->scratch), self->scratch.length, reason, close + 1);
}

#ifdef __SSE2__
/* mask[16 - n] .. : n bytes of ones, then zeros */
static const uint8_t byte_masks[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

/* A short plain string (up to 12 bytes, ASCII, no escapes) becomes its view with a few vector instructions. NULL: not such a one.
 * record is the start of the whole record. */
static inline const char *store_short_string(struct batch_builder *builder, uint32_t index, uint32_t row, const char *record,
                                             const char *p, const char *end)
{
    __m128i bytes;
    if (!json_load_padded(record, p, end, &bytes))
        return NULL;
    unsigned special = json_special_bytes(bytes);
    unsigned length = special != 0 ? (unsigned)__builtin_ctz(special) : 16;
    if (length > STRING_VIEW_INLINE_MAX || p + length >= end || p[length] != '"')
        return NULL;
    bytes = _mm_and_si128(bytes, _mm_loadu_si128((const __m128i *)(const void *)(byte_masks + 16 - length)));
    __m128i view = _mm_or_si128(_mm_slli_si128(bytes, 4), _mm_cvtsi32_si128((int)length));
    _mm_store_si128((__m128i *)batch_builder_values(builder, index) + row, view);
    batch_builder_set_valid(builder, index, row);
    return p + length + 1;
}
#endif

/* A value that starts with a quote goes by its text whatever the column's type: "12" is a number, too. p is behind the quote. */
static inline const char *store_quoted(struct json_decoder *self, struct batch_builder *builder, uint32_t index, uint32_t row,
                                       const char *record, const char *p, const char *end, const char **reason)
{
    enum data_type type = self->fields[index].type;
#ifdef __SSE2__
    if (type == TYPE_STRING) {
        const char *next = store_short_string(builder, index, row, record, p, end);
        if (next != NULL)
            return next;
    }
#else
    (void)record;
#endif
    if (type == TYPE_TIMESTAMP && self->timestamps.tail_digits == 3) {
        size_t length = self->timestamps.text_length;
        int64_t time_ms;
        if ((size_t)(end - p) > length && p[length] == '"' && timestamp_format_parse_cached(&self->timestamps, p, &time_ms)) {
            batch_builder_int64s(builder, index)[row] = time_ms;
            batch_builder_set_valid(builder, index, row);
            return p + length + 1;
        }
    }
    return store_string(self, builder, index, row, p, end, reason);
}

static const char *store_integer(struct json_decoder *self, struct batch_builder *builder, uint32_t index, uint32_t row, const char *p,
                                 const char *end, const char **reason)
{
    const char *start = p;
    bool is_negative = p < end && *p == '-';
    p += is_negative;
    const char *digits = p;
    uint64_t value = 0;
    for (; p < end && (unsigned)*p - '0' <= 9; p++)
        value = value * 10 + ((unsigned)*p - '0');
    bool is_simple = p > digits && p - digits <= 18 && (*digits != '0' || p - digits == 1) &&
                     (p == end || (*p != '.' && *p != 'e' && *p != 'E'));
    if (!is_simple) {
        p = json_scan_number(start, end, reason);
        return p == NULL ? NULL : store_text(self, builder, index, row, start, (size_t)(p - start), reason, p);
    }
    int64_t number = is_negative ? -(int64_t)value : (int64_t)value;
    if (!value_store_int64(builder, index, row, self->fields[index].type, number)) {
        *reason = "number out of range";
        return NULL;
    }
    return p;
}

static const char *store_null(struct json_decoder *self, uint32_t index, const char *p, const char *end, const char **reason)
{
    if (end - p < 4 || memcmp(p, "null", 4) != 0)
        *reason = "bad value";
    else if (self->fields[index].is_required)
        *reason = "is null but not nullable";
    else
        return p + 4;
    return NULL;
}

/* Unquoted true, false, numbers, arrays and objects; the latter two only as the text of a STRING. */
__attribute__((noinline)) static const char *store_unquoted(struct json_decoder *self, struct batch_builder *builder, uint32_t index,
                                                            uint32_t row, const char *p, const char *end, const char **reason)
{
    enum data_type type = self->fields[index].type;
    if (*p == 'n')
        return store_null(self, index, p, end, reason);
    bool is_number = *p == '-' || (*p >= '0' && *p <= '9');
    if (is_number && (type == TYPE_INT64 || type == TYPE_INT32 || type == TYPE_INT16 || type == TYPE_INT8))
        return store_integer(self, builder, index, row, p, end, reason);
    const char *next = json_scan_value(p, end, reason);
    if (next == NULL)
        return NULL;
    bool fits = type == TYPE_STRING || (is_number ? type == TYPE_FLOAT || type == TYPE_DOUBLE ||
                                                        (type == TYPE_TIMESTAMP && self->timestamps.kind == TIMESTAMP_EPOCH_MILLIS)
                                                  : type == TYPE_BOOLEAN && (*p == 't' || *p == 'f'));
    if (!fits) {
        *reason = "value of the wrong type";
        return NULL;
    }
    return store_text(self, builder, index, row, p, (size_t)(next - p), reason, next);
}

static inline const char *store_value(struct json_decoder *self, struct batch_builder *builder, uint32_t index, uint32_t row,
                                      const char *record, const char *p, const char *end, const char **reason)
{
    if (p == end) {
        *reason = "value is cut off";
        return NULL;
    }
    if (*p == '"')
        return store_quoted(self, builder, index, row, record, p + 1, end, reason);
    return store_unquoted(self, builder, index, row, p, end, reason);
}

/* ---- the template ---- */

static bool decode_by_template(struct json_decoder *self, const char *record, const char *end, struct batch_builder *builder, uint32_t row)
{
    const struct json_template *template = self->template;
    const char *p = record;
    const char *reason;
    const struct json_template_step *step = template->steps;
    const struct json_template_step *last = step + template->step_count - 1;
    for (; step < last; step++) {
        if (!json_template_matches(template, step, record, p, end))
            return false;
        p += step->length;
        p = step->field == JSON_FIELD_SKIPPED ? json_scan_value(p, end, &reason)
                                              : store_value(self, builder, step->field, row, record, p, end, &reason);
        if (p == NULL)
            return false;
    }
    if ((size_t)(end - p) != last->length)
        return false;
    const char *closing = template->literals + last->offset;
    return last->length == 1 ? *p == *closing : memcmp(p, closing, last->length) == 0;
}

/* ---- the general way ---- */

static uint32_t hash_name(const char *name, size_t length)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    return hash ^ hash >> 15;
}

static uint32_t find_field(const struct json_decoder *self, const char *name, size_t length)
{
    for (uint32_t slot = hash_name(name, length) & self->bucket_mask;; slot = (slot + 1) & self->bucket_mask) {
        uint32_t entry = self->buckets[slot];
        if (entry == 0)
            return JSON_FIELD_SKIPPED;
        const struct json_field *field = &self->fields[entry - 1];
        if (field->name_length == length && memcmp(field->name, name, length) == 0)
            return field->is_projected ? entry - 1 : JSON_FIELD_SKIPPED;
    }
}

static bool set_reason(struct json_decoder *self, uint32_t field, const char *reason)
{
    if (field == JSON_FIELD_SKIPPED)
        snprintf(self->reason, sizeof self->reason, "%s", reason);
    else
        snprintf(self->reason, sizeof self->reason, "%.80s: %s", self->fields[field].name, reason);
    return false;
}

/* p is behind a member's opening quote; gives the position of its value. */
static const char *decode_key(struct json_decoder *self, const char *p, const char *end, uint32_t *field, const char **reason)
{
    bool has_escape;
    const char *close = json_scan_string(p, end, &has_escape, reason);
    if (close == NULL)
        return NULL;
    if (has_escape) {
        str_buf_clear(&self->scratch);
        json_unescape(p, close, &self->scratch);
        *field = find_field(self, str_buf_text(&self->scratch), self->scratch.length);
    } else {
        *field = find_field(self, p, (size_t)(close - p));
    }
    p = json_skip_space(close + 1, end);
    if (p == end || *p != ':') {
        *reason = "colon expected after key";
        return NULL;
    }
    return json_skip_space(p + 1, end);
}

static bool check_missing(struct json_decoder *self, uint32_t required_seen)
{
    if (required_seen == self->required_count)
        return true;
    for (uint32_t i = 0; i < self->field_count; i++)
        if (self->fields[i].is_required && self->fields[i].seen_in != self->record_number)
            return set_reason(self, i, "missing");
    return true;
}

/* The second occurrence of a field wins; it must not leave the first one's value behind when it is null. */
static void forget_value(struct batch_builder *builder, uint32_t index, uint32_t row)
{
    builder->columns[index].validity->data[row >> 3] &= (uint8_t)~(1u << (row & 7));
    uint32_t width = data_type_width(builder->schema->fields[index].type);
    memset((uint8_t *)batch_builder_values(builder, index) + (size_t)row * width, 0, width);
}

static bool decode_general(struct json_decoder *self, const char *record, const char *end, struct batch_builder *builder, uint32_t row)
{
    const char *reason;
    struct json_template *draft = self->draft;
    json_template_clear(draft);
    self->record_number++;
    uint32_t required_seen = 0;
    const char *literal = record;
    const char *p = json_skip_space(record, end);
    if (p == end)
        return set_reason(self, JSON_FIELD_SKIPPED, "empty record");
    if (*p != '{')
        return set_reason(self, JSON_FIELD_SKIPPED, "object expected");
    p = json_skip_space(p + 1, end);
    bool is_first = true;
    while (p < end && *p != '}') {
        if (!is_first) {
            if (*p != ',')
                return set_reason(self, JSON_FIELD_SKIPPED, "comma or } expected");
            p = json_skip_space(p + 1, end);
        }
        is_first = false;
        if (p == end || *p != '"')
            return set_reason(self, JSON_FIELD_SKIPPED, "object key expected");
        uint32_t field;
        p = decode_key(self, p + 1, end, &field, &reason);
        if (p == NULL)
            return set_reason(self, JSON_FIELD_SKIPPED, reason);
        json_template_add(draft, literal, p, field);
        if (field == JSON_FIELD_SKIPPED) {
            p = json_scan_value(p, end, &reason);
        } else {
            if (self->fields[field].seen_in == self->record_number) {
                forget_value(builder, field, row);
                draft->is_valid = false;
            } else {
                required_seen += self->fields[field].is_required;
            }
            self->fields[field].seen_in = self->record_number;
            p = store_value(self, builder, field, row, record, p, end, &reason);
        }
        if (p == NULL)
            return set_reason(self, field, reason);
        literal = p;
        p = json_skip_space(p, end);
    }
    if (p == end)
        return set_reason(self, JSON_FIELD_SKIPPED, "object is cut off");
    p = json_skip_space(p + 1, end);
    if (p != end)
        return set_reason(self, JSON_FIELD_SKIPPED, "text after the object");
    json_template_add(draft, literal, end, JSON_FIELD_SKIPPED);
    return check_missing(self, required_seen);
}

/* ---- entry ---- */

/* Of a record that has a row already. */
__attribute__((noinline)) static bool decode_anew(struct json_decoder *self, const char *record, const char *end, struct batch_builder *builder,
                                                  const char **reason)
{
    /* What an attempt stored goes with its row. */
    batch_builder_drop_row(builder);
    uint32_t row = batch_builder_add_row(builder);
    if (!decode_general(self, record, end, builder, row)) {
        batch_builder_drop_row(builder);
        *reason = self->reason;
        return false;
    }
    if (self->draft->is_valid) {
        struct json_template *spare = self->template;
        self->template = self->draft;
        self->draft = spare;
    }
    return true;
}

static bool json_decode(struct format_decoder *decoder, const void *bytes, size_t length, struct batch_builder *builder,
                        const char **reason)
{
    struct json_decoder *self = (struct json_decoder *)decoder;
    const char *record = bytes;
    const char *end = record + length;
    uint32_t row = batch_builder_add_row(builder);
    if (self->template->is_valid && decode_by_template(self, record, end, builder, row))
        return true;
    return decode_anew(self, record, end, builder, reason);
}

static void json_decoder_destroy(struct format_decoder *decoder)
{
    struct json_decoder *self = (struct json_decoder *)decoder;
    schema_unref(self->schema);
    free(self->fields);
    free(self->buckets);
    free(self->template);
    free(self->draft);
    str_buf_finish(&self->scratch);
    free(self);
}

static const struct format_decoder_vtable json_decoder_vtable = {.decode = json_decode, .destroy = json_decoder_destroy};

static void index_fields(struct json_decoder *self)
{
    uint32_t bucket_count = 8;
    while (bucket_count < self->field_count * 2)
        bucket_count *= 2;
    self->buckets = heap_alloc_array(bucket_count, sizeof *self->buckets);
    self->bucket_mask = bucket_count - 1;
    for (uint32_t i = 0; i < self->field_count; i++) {
        uint32_t slot = hash_name(self->fields[i].name, self->fields[i].name_length) & self->bucket_mask;
        while (self->buckets[slot] != 0)
            slot = (slot + 1) & self->bucket_mask;
        self->buckets[slot] = i + 1;
    }
}

struct error *json_decoder_create(const json_t *options, struct schema *schema, const bool *is_projected, struct format_decoder **out)
{
    struct timestamp_format timestamps;
    TRY(timestamp_format_compile(json_string_value(json_object_get(options, "timestamp_format")), &timestamps));
    struct json_decoder *self = heap_new(struct json_decoder);
    self->decoder.vtable = &json_decoder_vtable;
    self->timestamps = timestamps;
    self->template = heap_new(struct json_template);
    self->draft = heap_new(struct json_template);
    self->schema = schema_ref(schema);
    self->field_count = schema->field_count;
    self->fields = heap_alloc_array(schema->field_count, sizeof *self->fields);
    for (uint32_t i = 0; i < schema->field_count; i++) {
        struct json_field *field = &self->fields[i];
        field->name = schema->fields[i].name;
        field->name_length = (uint32_t)strlen(field->name);
        field->type = schema->fields[i].type;
        field->is_projected = is_projected == NULL || is_projected[i];
        field->is_required = field->is_projected && !schema->fields[i].nullable;
        self->required_count += field->is_required;
    }
    index_fields(self);
    *out = &self->decoder;
    return NULL;
}
