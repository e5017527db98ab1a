/* Formats: JSON, CSV, string and raw, both ways; timestamps. */
#include "taskmanager/formats/format.h"
#include "taskmanager/formats/timestamp_format.h"
#include "taskmanager/formats/value_text.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct schema *schema_of(const char *json)
{
    json_t *parsed = json_loads(json, 0, NULL);
    struct schema *schema;
    ck_assert_ptr_null(schema_from_json(parsed, &schema));
    json_decref(parsed);
    return schema;
}

static struct format_decoder *decoder_of(const char *options, struct schema *schema)
{
    json_t *json = json_loads(options, 0, NULL);
    struct format_decoder *decoder = NULL;
    struct error *err = format_decoder_create(json, schema, NULL, &decoder);
    ck_assert_msg(err == NULL, "%s", err != NULL ? err->message : "");
    json_decref(json);
    return decoder;
}

static struct format_encoder *encoder_of(const char *options, struct schema *schema)
{
    json_t *json = json_loads(options, 0, NULL);
    struct format_encoder *encoder = NULL;
    ck_assert_ptr_null(format_encoder_create(json, schema, &encoder));
    json_decref(json);
    return encoder;
}

/* The record's bytes lie at the very end of an allocation, so that the address sanitizer sees any read past them. */
static bool decode(struct format_decoder *decoder, struct batch_builder *builder, const char *record, const char **reason)
{
    size_t length = strlen(record);
    char *bytes = malloc(length == 0 ? 1 : length);
    memcpy(bytes, record, length);
    uint32_t before = builder->row_count;
    bool ok = format_decode(decoder, bytes, length, builder, reason);
    ck_assert_uint_eq(builder->row_count, before + ok);
    free(bytes);
    return ok;
}

/* What the record becomes when it is written as JSON again; NULL: malformed. Decoded twice: the general way and by template. */
static char *round_trip(const char *options, const char *schema_json, const char *record)
{
    struct schema *schema = schema_of(schema_json);
    struct format_decoder *decoder = decoder_of(options, schema);
    struct format_encoder *encoder = encoder_of("{\"type\":\"json\"}", schema);
    struct batch_builder *builder = batch_builder_create(schema, 16, false);
    const char *reason = "";
    bool first = decode(decoder, builder, record, &reason);
    bool second = decode(decoder, builder, record, &reason);
    ck_assert_int_eq(first, second);
    char *result = NULL;
    if (first) {
        struct batch *batch = batch_builder_finish(builder);
        ck_assert_ptr_null(batch_verify(batch));
        struct str_buf once = {0}, twice = {0};
        format_encode(encoder, batch, 0, &once);
        format_encode(encoder, batch, 1, &twice);
        ck_assert_str_eq(once.text, twice.text);
        str_buf_finish(&twice);
        result = str_buf_detach(&once);
        batch_unref(batch);
    }
    batch_builder_destroy(builder);
    format_encoder_destroy(encoder);
    format_decoder_destroy(decoder);
    schema_unref(schema);
    return result;
}

#define CLICK "[{\"name\":\"timestamp\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"page\",\"type\":\"STRING\",\"nullable\":false}]"
#define ALL                                                                                                            \
    "[{\"name\":\"b\",\"type\":\"BOOLEAN\",\"nullable\":true},{\"name\":\"i\",\"type\":\"INT\",\"nullable\":true},"    \
    "{\"name\":\"l\",\"type\":\"BIGINT\",\"nullable\":true},{\"name\":\"d\",\"type\":\"DOUBLE\",\"nullable\":true},"   \
    "{\"name\":\"s\",\"type\":\"STRING\",\"nullable\":true},{\"name\":\"y\",\"type\":\"BYTES\",\"nullable\":true},"    \
    "{\"name\":\"t\",\"type\":\"TIMESTAMP\",\"nullable\":true},{\"name\":\"e\",\"type\":\"DATE\",\"nullable\":true},"   \
    "{\"name\":\"n\",\"type\":\"TINYINT\",\"nullable\":true}]"
#define PATTERN "{\"type\":\"json\",\"timestamp_format\":\"dd-MM-yyyy HH:mm:ss:SSS\"}"
#define JSON "{\"type\":\"json\",\"timestamp_format\":\"SQL\"}"

static void expect(const char *options, const char *schema, const char *record, const char *expected)
{
    char *result = round_trip(options, schema, record);
    if (expected == NULL)
        ck_assert_msg(result == NULL, "%s was taken as %s", record, result);
    else
        ck_assert_msg(result != NULL && strcmp(result, expected) == 0, "%s became %s instead of %s", record, result, expected);
    free(result);
}

START_TEST(json_click_events)
{
    expect(PATTERN, CLICK, "{\"timestamp\":\"01-01-1970 00:00:00:015\",\"page\":\"/help\"}",
           "{\"timestamp\":\"1970-01-01 00:00:00.015\",\"page\":\"/help\"}");
    expect(PATTERN, CLICK, " { \"page\" : \"/a longer page name than fits\" , \"timestamp\" : \"29-02-2024 23:59:59:999\" } ",
           "{\"timestamp\":\"2024-02-29 23:59:59.999\",\"page\":\"/a longer page name than fits\"}");
    expect(PATTERN, CLICK, "{\"timestamp\":\"29-02-2023 00:00:00:000\",\"page\":\"/help\"}", NULL);
    expect(PATTERN, CLICK, "{\"timestamp\":\"01-01-1970 24:00:00:000\",\"page\":\"/help\"}", NULL);
    expect(PATTERN, CLICK, "{\"timestamp\":\"01-01-1970 00:00:00:000\"}", NULL);
    expect(PATTERN, CLICK, "{\"timestamp\":null,\"page\":\"/help\"}", NULL);
    expect(PATTERN, CLICK, "{\"timestamp\":1,\"page\":\"/help\"}", NULL);
    expect(PATTERN, CLICK, "{\"timestamp\":\"01-01-1970 00:00:00:000\",\"page\":\"/help\"}x", NULL);
    expect(PATTERN, CLICK, "", NULL);
    expect(PATTERN, CLICK, "[]", NULL);
}
END_TEST

START_TEST(json_truncation_is_malformed)
{
    const char *record = "{\"x\":[1,{\"y\":\"\\u00e4\"}],\"timestamp\":\"01-01-1970 00:00:00:015\",\"page\":\"/h\\u20acp\",\"z\":1.5e3}";
    char part[160];
    for (size_t length = 0; length < strlen(record); length++) {
        snprintf(part, sizeof part, "%.*s", (int)length, record);
        expect(PATTERN, CLICK, part, NULL);
    }
    expect(PATTERN, CLICK, record, "{\"timestamp\":\"1970-01-01 00:00:00.015\",\"page\":\"/h\xe2\x82\xacp\"}");
}
END_TEST

START_TEST(json_values_of_all_types)
{
#define NULLS "{\"b\":null,\"i\":null,\"l\":null,\"d\":null,\"s\":null,\"y\":null,\"t\":null,\"e\":null,\"n\":null}"
    expect(JSON, ALL, "{}", NULLS);
    expect(JSON, ALL, "{\"b\":true,\"i\":-7,\"l\":9223372036854775807,\"d\":0.1,\"s\":\"x\",\"y\":\"AAEC\",\"t\":\"2020-01-02 "
                      "03:04:05.6\",\"e\":\"2020-02-29\",\"n\":-128}",
           "{\"b\":true,\"i\":-7,\"l\":9223372036854775807,\"d\":0.1,\"s\":\"x\",\"y\":\"AAEC\",\"t\":\"2020-01-02 "
           "03:04:05.6\",\"e\":\"2020-02-29\",\"n\":-128}");
    expect(JSON, ALL, "{\"b\":\"false\",\"i\":\" 12 \",\"l\":\"-5\",\"d\":\"1e3\",\"n\":12.0}",
           "{\"b\":false,\"i\":12,\"l\":-5,\"d\":1000.0,\"s\":null,\"y\":null,\"t\":null,\"e\":null,\"n\":12}");
    expect(JSON, ALL, "{\"s\":{\"a\":[1, 2]},\"d\":\"NaN\"}",
           "{\"b\":null,\"i\":null,\"l\":null,\"d\":\"NaN\",\"s\":\"{\\\"a\\\":[1, 2]}\",\"y\":null,\"t\":null,\"e\":null,\"n\":null}");
    expect(JSON, ALL, "{\"s\":\"\\ud83d\\ude00\\n\\\"\\\\\\u0001\"}",
           "{\"b\":null,\"i\":null,\"l\":null,\"d\":null,\"s\":\"\xf0\x9f\x98\x80\\n\\\"\\\\\\u0001\",\"y\":null,\"t\":null,\"e\":null,\"n\":null}");
    expect(JSON, ALL, "{\"i\":1,\"i\":null}", NULLS);
    expect(JSON, ALL, "{\"l\":9007199254740991.0}",
           "{\"b\":null,\"i\":null,\"l\":9007199254740991,\"d\":null,\"s\":null,\"y\":null,\"t\":null,\"e\":null,\"n\":null}");
    static const char *const bad[] = {"{\"n\":128}", "{\"i\":2147483648}", "{\"l\":9223372036854775808}", "{\"i\":1.5}", "{\"i\":01}",
                                      "{\"i\":true}", "{\"b\":1}", "{\"b\":\"yes\"}", "{\"y\":\"A\"}", "{\"e\":\"2020-02-30\"}",
                                      "{\"l\":9007199254740993.0}", "{\"l\":-9.007199254740993e15}",
                                      "{\"t\":\"2020-01-02T03:04:05\"}", "{\"s\":\"\\ud800\"}", "{\"s\":\"\\x\"}", "{\"s\":\"\x01\"}",
                                      "{\"s\":\"\xc0\x80\"}", "{\"s\":\"\xed\xa0\x80\"}", "{\"z\":\"\xff\"}", "{\"i\":1,}", "{,\"i\":1}",
                                      "{\"i\" 1}", "{i:1}", "{\"z\":[1,]}", "{\"z\":{\"a\"}}", "{\"z\":nul}", "{\"d\":1.}", "{\"d\":.5}",
                                          "{\"i\":+1}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect(JSON, ALL, bad[i], NULL);
}
END_TEST

START_TEST(json_nesting_is_bounded)
{
    char record[4096] = "{\"z\":";
    memset(record + 5, '[', 600);
    expect(JSON, ALL, record, NULL);
}
END_TEST

START_TEST(json_reason_names_the_field)
{
    struct schema *schema = schema_of(CLICK);
    struct format_decoder *decoder = decoder_of(PATTERN, schema);
    struct batch_builder *builder = batch_builder_create(schema, 4, false);
    const char *reason;
    ck_assert(!decode(decoder, builder, "{\"timestamp\":\"01-01-1970 00:00:00:000\"}", &reason));
    ck_assert_str_eq(reason, "page: missing");
    ck_assert(!decode(decoder, builder, "{\"page\":\"/help\",\"timestamp\":\"never\"}", &reason));
    ck_assert_str_eq(reason, "timestamp: not a timestamp of the given format");
    batch_builder_destroy(builder);
    format_decoder_destroy(decoder);
    schema_unref(schema);
}
END_TEST

/* Records that alternate between layouts go through template and general way in turn. */
START_TEST(json_template_misses)
{
    struct schema *schema = schema_of(CLICK);
    struct format_decoder *decoder = decoder_of(PATTERN, schema);
    struct batch_builder *builder = batch_builder_create(schema, 3000, false);
    const char *reason;
    for (int i = 0; i < 1000; i++) {
        char record[160];
        static const char *const layouts[] = {"{\"timestamp\":\"01-01-1970 00:00:00:%03d\",\"page\":\"/p%d\"}",
                                              "{\"x\":[%d],\"page\":\"/p%d\",\"timestamp\":\"01-01-1970 00:00:00:000\"}",
                                              "{\"timestamp\":\"01-01-1970 00:00:00:%03d\",\"page\":\"/p\\u002d%d with a longer text\"}"};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(record, sizeof record, layouts[i % 7 % 3], i, i);
#pragma GCC diagnostic pop
        ck_assert_msg(decode(decoder, builder, record, &reason), "%s: %s", record, reason);
        ck_assert(!decode(decoder, builder, "{\"timestamp\":\"01-01-1970 00:00:00:000\",\"page\":\"text that is long enough to move\"", &reason));
    }
    struct batch *batch = batch_builder_finish(builder);
    ck_assert_uint_eq(batch->row_count, 1000);
    ck_assert_ptr_null(batch_verify(batch));
    const struct string_view *view = &((const struct string_view *)batch->columns[1].values)[702];
    ck_assert_uint_eq(view->length, strlen("/p-702 with a longer text"));
    batch_unref(batch);
    batch_builder_destroy(builder);
    format_decoder_destroy(decoder);
    schema_unref(schema);
}
END_TEST

/* Strings of every length that wide loads care about, at every distance from the end of the record, in records short and long. */
START_TEST(json_values_near_the_end)
{
    static const char *const heads[] = {"{", "{ ", "{\"a key that is skipped\":[1,2],"};
    static const char *const tails[] = {"}", " }", ",\"z\":1}", ",\"z\":\"0123456789abcdef\"}"};
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    for (size_t head = 0; head < sizeof heads / sizeof heads[0]; head++)
        for (size_t tail = 0; tail < sizeof tails / sizeof tails[0]; tail++)
            for (int length = 0; length <= 26; length++) {
                char record[160], expected[64];
                snprintf(record, sizeof record, "%s\"p\":\"%.*s\"%s", heads[head], length, letters, tails[tail]);
                snprintf(expected, sizeof expected, "{\"p\":\"%.*s\"}", length, letters);
                expect("{\"type\":\"json\"}", "[{\"name\":\"p\",\"type\":\"STRING\",\"nullable\":false}]", record, expected);
                record[strlen(record) - 1] = ']';
                expect("{\"type\":\"json\"}", "[{\"name\":\"p\",\"type\":\"STRING\",\"nullable\":false}]", record, NULL);
            }
}
END_TEST

/* The text of a field that comes twice, in a record that is malformed in the end, once stayed in the builder until a good record came. */
START_TEST(json_malformed_records_leave_no_text)
{
    struct schema *schema = schema_of(CLICK);
    struct format_decoder *decoder = decoder_of(PATTERN, schema);
    struct batch_builder *builder = batch_builder_create(schema, 8, false);
    const char *reason;
    for (int i = 0; i < 100; i++) {
        ck_assert(!decode(decoder, builder, "{\"page\":\"a text that is too long for a view\",\"page\":\"x\",\"timestamp\":1}", &reason));
        ck_assert_ptr_null(batch_builder_finish(builder));
    }
    ck_assert_uint_eq(builder->text_bytes, 0);
    ck_assert_uint_eq(builder->columns[1].text->size_bytes, 0);
    ck_assert_uint_eq(builder->columns[1].filled_count, 0);
    ck_assert(decode(decoder, builder, "{\"page\":\"a text that is too long for a view\",\"timestamp\":\"01-01-1970 00:00:00:000\"}", &reason));
    struct batch *batch = batch_builder_finish(builder);
    ck_assert_ptr_null(batch_verify(batch));
    const struct string_view *view = batch->columns[1].values;
    ck_assert_mem_eq(string_view_text(&batch->columns[1], view), "a text that is too long for a view", view->length);
    batch_unref(batch);
    batch_builder_destroy(builder);
    format_decoder_destroy(decoder);
    schema_unref(schema);
}
END_TEST

static bool is_valid(const struct batch_builder *builder, uint32_t column, uint32_t row)
{
    return builder->columns[column].validity->data[row >> 3] >> (row & 7) & 1;
}

/* Each literal of a template counts to its last byte, those beyond the first sixteen too: a record that differs in one byte anywhere
 * becomes by template what it becomes without. */
START_TEST(json_template_compares_all)
{
    static const char record[] = "{\"a key that is longer than sixteen\":\"v\",\"p\":1}";
    struct schema *schema = schema_of("[{\"name\":\"a key that is longer than sixteen\",\"type\":\"STRING\"},{\"name\":\"p\",\"type\":\"INT\"}]");
    for (size_t at = 0; at < strlen(record); at++) {
        struct format_decoder *decoder = decoder_of("{\"type\":\"json\"}", schema), *fresh = decoder_of("{\"type\":\"json\"}", schema);
        struct batch_builder *builder = batch_builder_create(schema, 4, false);
        const char *reason;
        char changed[sizeof record];
        memcpy(changed, record, sizeof record);
        changed[at] = '#';
        ck_assert(decode(decoder, builder, record, &reason));
        bool is_good = decode(decoder, builder, changed, &reason);
        ck_assert_int_eq(is_good, decode(fresh, builder, changed, &reason));
        for (uint32_t column = 0; column < 2 && is_good; column++) {
            ck_assert_int_eq(is_valid(builder, column, 1), is_valid(builder, column, 2));
            size_t name = column == 0 ? 2 : 42; /* where its key starts */
            if (at >= name && at < name + strlen(schema->fields[column].name))
                ck_assert(!is_valid(builder, column, 1));
        }
        format_decoder_destroy(decoder);
        format_decoder_destroy(fresh);
        batch_builder_destroy(builder);
    }
    schema_unref(schema);
}
END_TEST

START_TEST(csv_fields)
{
    const char *csv = "{\"type\":\"csv\",\"null_literal\":\"NULL\"}";
    const char *schema = "[{\"name\":\"a\",\"type\":\"INT\",\"nullable\":true},{\"name\":\"b\",\"type\":\"STRING\",\"nullable\":true}]";
    expect(csv, schema, "1,x", "{\"a\":1,\"b\":\"x\"}");
    expect(csv, schema, " 2 ,\"a, \"\"b\"\"\"\r\n", "{\"a\":2,\"b\":\"a, \\\"b\\\"\"}");
    expect(csv, schema, ",", "{\"a\":null,\"b\":\"\"}");
    expect(csv, schema, "NULL,NULL", "{\"a\":null,\"b\":null}");
    expect(csv, schema, "1,\"NULL\"", "{\"a\":1,\"b\":\"NULL\"}");
    expect(csv, schema, "1", NULL);
    expect(csv, schema, "1,2,3", NULL);
    expect(csv, schema, "x,y", NULL);
    expect(csv, schema, "1,\"open", NULL);
    expect(csv, schema, "1,\"a\"b", NULL);
    expect(csv, schema, "1,\xff", NULL);
    expect("{\"type\":\"csv\",\"escape_character\":\"\\\"\"}", schema, "\"3\",\"a\"\"b\"", "{\"a\":3,\"b\":\"a\\\"b\"}");
    expect("{\"type\":\"csv\",\"field_delimiter\":\"|\",\"escape_character\":\"\\\\\"}", schema, "3|a\\|b", "{\"a\":3,\"b\":\"a|b\"}");
}
END_TEST

START_TEST(csv_comments_are_no_records)
{
    struct schema *schema = schema_of("[{\"name\":\"b\",\"type\":\"STRING\",\"nullable\":true}]");
    struct format_decoder *decoder = decoder_of("{\"type\":\"csv\",\"allow_comments\":true}", schema);
    struct batch_builder *builder = batch_builder_create(schema, 8, false);
    const char *reason = "none yet";
    ck_assert(!decode(decoder, builder, "# who, what", &reason));
    ck_assert_ptr_null(reason);
    ck_assert(decode(decoder, builder, "x # y", &reason));
    ck_assert(!decode(decoder, builder, "x,y", &reason));
    ck_assert_ptr_nonnull(reason);
    batch_builder_destroy(builder);
    format_decoder_destroy(decoder);
    schema_unref(schema);
}
END_TEST

START_TEST(csv_round_trip)
{
    struct schema *schema = schema_of("[{\"name\":\"a\",\"type\":\"STRING\",\"nullable\":true},{\"name\":\"b\",\"type\":\"STRING\",\"nullable\":true}]");
    const char *options = "{\"type\":\"csv\",\"null_literal\":\"N\"}";
    struct format_decoder *decoder = decoder_of(options, schema);
    struct format_encoder *encoder = encoder_of(options, schema);
    struct batch_builder *builder = batch_builder_create(schema, 8, false);
    static const char *const texts[] = {"plain", "with, comma", "with \"quotes\"", "line\nbreak", "N", ""};
    for (size_t i = 0; i < 6; i++) {
        uint32_t row = batch_builder_add_row(builder);
        batch_builder_set_text(builder, 0, row, texts[i], strlen(texts[i]));
    }
    struct batch *batch = batch_builder_finish(builder);
    for (uint32_t i = 0; i < 6; i++) {
        struct str_buf record = {0};
        const char *reason;
        format_encode(encoder, batch, i, &record);
        ck_assert(decode(decoder, builder, record.text, &reason));
        str_buf_finish(&record);
    }
    struct batch *again = batch_builder_finish(builder);
    for (uint32_t i = 0; i < 6; i++) {
        const struct string_view *view = &((const struct string_view *)again->columns[0].values)[i];
        ck_assert_uint_eq(view->length, strlen(texts[i]));
        ck_assert_mem_eq(string_view_text(&again->columns[0], view), texts[i], view->length);
        ck_assert(column_is_null(&again->columns[1], i));
    }
    batch_unref(batch);
    batch_unref(again);
    batch_builder_destroy(builder);
    format_decoder_destroy(decoder);
    format_encoder_destroy(encoder);
    schema_unref(schema);
}
END_TEST

START_TEST(string_and_raw)
{
    expect("{\"type\":\"string\"}", "[{\"name\":\"line\",\"type\":\"STRING\",\"nullable\":false}]", "caf\xc3\xa9", "{\"line\":\"caf\xc3\xa9\"}");
    expect("{\"type\":\"string\"}", "[{\"name\":\"line\",\"type\":\"STRING\",\"nullable\":false}]", "\xff", NULL);
    expect("{\"type\":\"raw\"}", "[{\"name\":\"line\",\"type\":\"BYTES\",\"nullable\":false}]", "\xff\x01", "{\"line\":\"/wE=\"}");
}
END_TEST

START_TEST(bad_options_are_named)
{
    struct schema *schema = schema_of(CLICK);
    static const char *const options[][2] = {{"{}", "type"}, {"{\"type\":\"xml\"}", "xml"}, {"{\"type\":\"json\",\"colour\":1}", "colour"},
                                             {"{\"type\":\"json\",\"timestamp_format\":\"yyyy-MM-dd hh:mm\"}", "hh"},
                                             {"{\"type\":\"csv\",\"field_delimiter\":\"ab\"}", "field_delimiter"}, {"{\"type\":\"raw\"}", "BYTES"}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        json_t *json = json_loads(options[i][0], 0, NULL);
        struct format_decoder *decoder;
        struct error *err = format_decoder_create(json, schema, NULL, &decoder);
        ck_assert_ptr_nonnull(err);
        ck_assert_msg(strstr(err->message, options[i][1]) != NULL, "%s", err->message);
        error_free(err);
        json_decref(json);
    }
    schema_unref(schema);
}
END_TEST

START_TEST(timestamps_round_trip)
{
    static const char *const formats[] = {"SQL", "ISO-8601", "epoch-millis", "dd-MM-yyyy HH:mm:ss:SSS", "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'",
                                          "yyyyMMddHHmmssSSS"};
    unsigned seed = 12345;
    for (size_t f = 0; f < sizeof formats / sizeof formats[0]; f++) {
        struct timestamp_format format;
        ck_assert_ptr_null(timestamp_format_compile(formats[f], &format));
        for (int i = 0; i < 2000; i++) {
            seed = seed * 1664525 + 1013904223;
            int64_t time = i % 2 == 0 ? (int64_t)i * 15 : ((int64_t)seed << 10) - INT64_C(2000000000000);
            struct str_buf text = {0};
            timestamp_format_print(&format, time, &text);
            int64_t parsed;
            ck_assert_msg(timestamp_format_parse(&format, text.text, text.length, &parsed), "%s: %s", formats[f], text.text);
            ck_assert_int_eq(parsed, time);
            ck_assert(!timestamp_format_parse(&format, text.text, text.length - (text.length > 1 && f > 2 ? 1 : text.length), &parsed));
            str_buf_finish(&text);
        }
    }
}
END_TEST

START_TEST(doubles_round_trip)
{
    static const double values[] = {0.1, 1e300, 5e-324, 123456789.125, -2.5, 1e15, 1e22, 0.3333333333333333, 100, 1.7976931348623157e308};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct str_buf text = {0};
        double parsed;
        value_text_print_double(values[i], &text);
        ck_assert(value_text_parse_double(text.text, text.length, &parsed));
        ck_assert_msg(parsed == values[i], "%s", text.text);
        str_buf_finish(&text);
    }
    struct str_buf text = {0};
    value_text_print_double(0.1, &text);
    ck_assert_str_eq(text.text, "0.1");
    str_buf_finish(&text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("format");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, json_click_events);
    tcase_add_test(tcase, json_truncation_is_malformed);
    tcase_add_test(tcase, json_values_of_all_types);
    tcase_add_test(tcase, json_nesting_is_bounded);
    tcase_add_test(tcase, json_reason_names_the_field);
    tcase_add_test(tcase, json_template_misses);
    tcase_add_test(tcase, json_values_near_the_end);
    tcase_add_test(tcase, json_malformed_records_leave_no_text);
    tcase_add_test(tcase, json_template_compares_all);
    tcase_add_test(tcase, csv_fields);
    tcase_add_test(tcase, csv_comments_are_no_records);
    tcase_add_test(tcase, csv_round_trip);
    tcase_add_test(tcase, string_and_raw);
    tcase_add_test(tcase, bad_options_are_named);
    tcase_add_test(tcase, timestamps_round_trip);
    tcase_add_test(tcase, doubles_round_trip);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
