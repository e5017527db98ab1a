/* Folding of reports (task_report.h). */
#include "common/metrics/task_report.h"

#include "common/base/heap.h"
#include "common/metrics/metric_names.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES_MAX 6 /* five intervals */
#define OPERATOR_NAME_CHARACTERS_MAX 80

static bool is_value(const json_t *value)
{
    return json_is_number(value) || json_is_string(value) || json_is_boolean(value);
}

/* ---- names ---- */

size_t task_report_operator_name_length(const char *name)
{
    size_t bytes = 0;
    for (size_t characters = 0; name[bytes] != '\0'; bytes++) {
        if (((unsigned char)name[bytes] & 0xc0) != 0x80 && ++characters > OPERATOR_NAME_CHARACTERS_MAX)
            break;
    }
    return bytes;
}

/* What Flink's MetricQueryService replaces. */
static void scrub(char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] == ' ' || text[i] == '.' || text[i] == ':' || text[i] == ',')
            text[i] = '_';
}

char *task_report_operator_prefix(const char *name)
{
    size_t length = task_report_operator_name_length(name);
    char *copy = heap_strndup(name, length);
    scrub(copy, length);
    return copy;
}

/* "topic.my.topic.partition.0.currentOffset": the topic's dot must not look like the end of a part. */
static char *flat_name(const char *prefix, const char *name)
{
    struct metric_match match;
    char *flat = heap_printf("%s.%s", prefix, name);
    char *own = flat + strlen(prefix) + 1;
    if (metric_find(METRIC_SCOPE_OPERATOR, name, &match))
        for (size_t i = 0; i < match.key_count; i++)
            scrub(own + (match.keys[i].value - name), match.keys[i].value_length);
    return flat;
}

/* ---- values ---- */

static void set_value(json_t *values, const char *name, json_t *value)
{
    if (is_value(value))
        json_object_set(values, name, value);
}

/* Tasks report operators' metrics as doubles; most are whole numbers by the table, and a user's counters are too. */
static void set_operator_metric(json_t *values, const char *name, json_t *value)
{
    struct metric_match match;
    bool is_known = metric_find(METRIC_SCOPE_OPERATOR, name, &match);
    double number = json_number_value(value);
    bool is_whole = is_known ? match.row->type == METRIC_COUNTER || match.row->type == METRIC_GAUGE : number == floor(number);
    if (json_is_real(value) && is_whole && fabs(number) < 9.2e18)
        json_object_set_new(values, name, json_integer((json_int_t)number));
    else
        set_value(values, name, value);
}

static void set_integer(json_t *values, const char *name, json_int_t value)
{
    json_object_set_new(values, name, json_integer(value));
}

static json_int_t books_rows_in(const json_t *books)
{
    const json_t *rows = json_object_get(books, "rows_in");
    json_int_t sum = 0;
    for (size_t i = 0; i < json_array_size(rows); i++)
        sum += json_integer_value(json_array_get(rows, i));
    return sum;
}

static json_int_t books_bytes_read(const json_t *books)
{
    json_int_t sum = 0;
    const char *name;
    json_t *split;
    json_object_foreach(json_object_get(books, "splits"), name, split)
        sum += json_integer_value(json_object_get(split, "bytes"));
    return sum;
}

static void add_books(json_t *values, const json_t *operator, bool is_source)
{
    const json_t *books = json_object_get(operator, "books");
    const char *type = json_string_value(json_object_get(operator, "type"));
    if (books == NULL)
        return;
    set_integer(values, "numRecordsIn", is_source ? json_integer_value(json_object_get(books, "rows_read")) : books_rows_in(books));
    set_integer(values, "numRecordsOut", json_integer_value(json_object_get(books, "rows_out")));
    set_integer(values, "numLateRecordsDropped", json_integer_value(json_object_get(books, "late")));
    set_integer(values, "numRecordsFiltered", json_integer_value(json_object_get(books, "filtered")));
    if (is_source) {
        set_integer(values, "numBytesIn", books_bytes_read(books));
        set_integer(values, "numRecordsInErrors", json_integer_value(json_object_get(books, "unparsable")));
    }
    if (type != NULL && strstr(type, "-sink") != NULL)
        set_integer(values, "numRecordsSend", json_integer_value(json_object_get(books, "rows_written")));
}

struct place { /* of an operator in its task's chain */
    bool is_first, is_last, has_inputs;
};

static json_t *operator_values(const json_t *operator, const json_t *task_values, struct place place)
{
    json_t *values = json_object();
    bool is_source = place.is_first && !place.has_inputs;
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(operator, "metrics"), name, value)
        set_operator_metric(values, name, value);
    add_books(values, operator, is_source);
    if (place.is_first && place.has_inputs)
        set_value(values, "numBytesIn", json_object_get(task_values, "numBytesIn"));
    if (place.is_last)
        set_value(values, "numBytesOut", json_object_get(task_values, "numBytesOut"));
    if (!is_source)
        set_value(values, "currentInputWatermark", json_object_get(operator, "watermark_in"));
    set_value(values, "currentOutputWatermark", json_object_get(operator, "watermark_out"));
    return values;
}

/* Flink has many of a task's metrics twice: "numBytesInLocal" and "Shuffle.Netty.Input.numBytesInLocal". */
static void add_full_names(json_t *values)
{
    static const struct {
        const char *full;
        const char *brief;
    } prefixes[] = {{"Shuffle.Netty.Input.Buffers.", "buffers."}, {"Shuffle.Netty.Output.Buffers.", "buffers."}, {"Shuffle.Netty.Input.", ""}};
    for (size_t i = 0; i < metric_row_count; i++) {
        const struct metric_name *row = &metric_rows[i];
        for (size_t p = 0; p < sizeof prefixes / sizeof prefixes[0] && row->scope == METRIC_SCOPE_TASK; p++) {
            size_t length = strlen(prefixes[p].full);
            if (strncmp(row->name, prefixes[p].full, length) != 0)
                continue;
            char *brief = heap_printf("%s%s", prefixes[p].brief, row->name + length);
            set_value(values, row->name, json_object_get(values, brief));
            free(brief);
            break;
        }
    }
}

static json_int_t fired_timers(const json_t *report)
{
    const json_t *operators = json_object_get(report, "operators");
    json_int_t sum = 0;
    for (size_t i = 0; i < json_array_size(operators); i++)
        sum += json_integer_value(json_object_get(json_array_get(operators, i), "fired_timers"));
    return sum;
}

static json_t *task_values(const json_t *report, bool has_inputs)
{
    json_t *values = json_object();
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)report, name, value) {
        if (is_value(value) && strcmp(name, "execution") != 0)
            json_object_set(values, name, value);
    }
    set_integer(values, "numFiredTimers", fired_timers(report));
    if (!has_inputs)
        json_object_del(values, "currentInputWatermark");
    add_full_names(values);
    return values;
}

/* ---- rates ---- */

/* The counters that have a METER: what a sample keeps. */
static json_t *metered(enum metric_scope scope, const json_t *values)
{
    json_t *sample = json_object();
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)values, name, value) {
        if (json_is_number(value) && metric_meter_of(scope, name) != NULL)
            json_object_set(sample, name, value);
    }
    return sample;
}

/* Of the task (operator_index -1) or of an operator; NULL when the sample has none. */
static const json_t *sample_values(const json_t *sample, int operator_index)
{
    return operator_index < 0 ? json_array_get(sample, 1) : json_array_get(json_array_get(sample, 2), (size_t)operator_index);
}

/* The growth since the oldest sample that has the counter; -1: there is none. Counters that fell (a restore took them back) do not grow. */
static double rate_of(const json_t *samples, int operator_index, const char *counter, double now_value, int64_t now_ms)
{
    for (size_t i = 0; i < json_array_size(samples); i++) {
        const json_t *sample = json_array_get(samples, i);
        const json_t *old = json_object_get(sample_values(sample, operator_index), counter);
        int64_t span_ms = now_ms - json_integer_value(json_array_get(sample, 0));
        if (old == NULL || span_ms <= 0)
            continue;
        double rate = (now_value - json_number_value(old)) / ((double)span_ms / 1000.0);
        return rate > 0 ? rate : 0;
    }
    return -1;
}

/* A rate that was reported itself stays as it is. */
static json_t *rates_of(enum metric_scope scope, json_t *values, const json_t *samples, int operator_index, int64_t now_ms)
{
    json_t *rates = json_object();
    const char *name;
    json_t *value;
    json_object_foreach(values, name, value) {
        const struct metric_name *meter = metric_meter_of(scope, name);
        if (meter == NULL || !json_is_number(value) || json_object_get(values, meter->name) != NULL)
            continue;
        double rate = rate_of(samples, operator_index, name, json_number_value(value), now_ms);
        if (rate >= 0)
            json_object_set_new(rates, meter->name, json_real(rate));
    }
    return rates;
}

static json_t *sample_of(const json_t *folded, int64_t now_ms)
{
    json_t *list = json_array();
    const json_t *operators = json_object_get(folded, "operators");
    for (size_t i = 0; i < json_array_size(operators); i++)
        json_array_append_new(list, metered(METRIC_SCOPE_OPERATOR, json_object_get(json_array_get(operators, i), "values")));
    return json_pack("[I,o,o]", (json_int_t)now_ms, metered(METRIC_SCOPE_TASK, json_object_get(folded, "values")), list);
}

static void add_rates(json_t *folded, const json_t *samples, int64_t now_ms)
{
    json_t *operators = json_object_get(folded, "operators");
    json_object_set_new(folded, "rates", rates_of(METRIC_SCOPE_TASK, json_object_get(folded, "values"), samples, -1, now_ms));
    for (size_t i = 0; i < json_array_size(operators); i++) {
        json_t *operator = json_array_get(operators, i);
        json_object_set_new(operator, "rates", rates_of(METRIC_SCOPE_OPERATOR, json_object_get(operator, "values"), samples, (int)i, now_ms));
    }
}

/* ---- the fold ---- */

json_t *task_report_fold(const json_t *before, const json_t *report, bool has_inputs, int64_t now_ms)
{
    json_t *values = task_values(report, has_inputs);
    json_t *operators = json_array();
    const json_t *reported = json_object_get(report, "operators");
    size_t count = json_array_size(reported);
    for (size_t i = 0; i < count; i++) {
        json_t *operator = json_copy(json_array_get(reported, i));
        struct place place = {.is_first = i == 0, .is_last = i + 1 == count, .has_inputs = has_inputs};
        json_object_set_new(operator, "values", operator_values(operator, values, place));
        json_array_append_new(operators, operator);
    }
    json_t *samples = json_array();
    json_array_extend(samples, json_object_get(before, "samples"));
    json_t *folded = json_pack("{s:o,s:o,s:O,s:O*}", "values", values, "operators", operators, "samples", samples, "channels",
                               json_object_get(report, "channels"));
    if (json_array_size(samples) > 0)
        add_rates(folded, samples, now_ms);
    json_array_append_new(samples, sample_of(folded, now_ms));
    if (json_array_size(samples) > SAMPLES_MAX)
        json_array_remove(samples, 0);
    json_decref(samples);
    return folded;
}

static void add_flat(json_t *all, const char *prefix, const json_t *values)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)values, name, value) {
        char *flat = flat_name(prefix, name);
        json_object_set(all, flat, value);
        free(flat);
    }
}

json_t *task_report_flat(const json_t *folded, bool with_rates)
{
    json_t *all = json_object();
    json_object_update(all, json_object_get(folded, "values"));
    if (with_rates)
        json_object_update(all, json_object_get(folded, "rates"));
    const json_t *operators = json_object_get(folded, "operators");
    for (size_t i = 0; i < json_array_size(operators); i++) {
        const json_t *operator = json_array_get(operators, i);
        const char *name = json_string_value(json_object_get(operator, "name"));
        char *prefix = task_report_operator_prefix(name != NULL ? name : "");
        add_flat(all, prefix, json_object_get(operator, "values"));
        if (with_rates)
            add_flat(all, prefix, json_object_get(operator, "rates"));
        free(prefix);
    }
    return all;
}
