/* The encoder: families in the order of their first sample, each with its lines (prometheus.h). */
#include "common/metrics/prometheus.h"

#include "common/base/hash_map.h"
#include "common/base/heap.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "flink_"

struct family {
    char *name;
    char *help;
    bool is_summary;
    bool is_user; /* has no row */
    struct str_buf lines;
};

struct prometheus {
    struct hash_map families; /* name -> struct family */
    struct hash_map users;    /* "name{labels" of users' samples: two names may become the same one */
};

/* ---- characters ---- */

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ':' || c == '_';
}

/* Each character that a name may not have becomes one `_`, however many bytes UTF-8 gives it. */
static void append_filtered(struct str_buf *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        bool is_continuation = ((unsigned char)text[i] & 0xc0) == 0x80;
        if (is_name_char(text[i]))
            str_buf_append_char(out, text[i]);
        else if (!is_continuation)
            str_buf_append_char(out, '_');
    }
}

static void append_escaped(struct str_buf *out, const char *text, size_t length, bool is_label)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n')
            str_buf_append(out, "\\n");
        else if (text[i] == '\\' || (is_label && text[i] == '"'))
            str_buf_append_bytes(out, (char[]){'\\', text[i]}, 2);
        else
            str_buf_append_char(out, text[i]);
    }
}

/* The shortest text that reads back as the same number. */
static void append_number(struct str_buf *out, double value)
{
    char text[40];
    if (isnan(value)) {
        str_buf_append(out, "NaN");
        return;
    }
    if (isinf(value)) {
        str_buf_append(out, value > 0 ? "+Inf" : "-Inf");
        return;
    }
    snprintf(text, sizeof text, "%.15g", value);
    if (strtod(text, NULL) != value)
        snprintf(text, sizeof text, "%.17g", value);
    str_buf_append(out, text);
}

/* ---- labels ---- */

void prometheus_labels_add_bytes(struct prometheus_labels *labels, const char *name, const char *value, size_t length)
{
    if (labels->text.length > 0)
        str_buf_append_char(&labels->text, ',');
    str_buf_append(&labels->text, name);
    str_buf_append(&labels->text, "=\"");
    if (labels->keeps_values)
        append_escaped(&labels->text, value, length, true);
    else
        append_filtered(&labels->text, value, length);
    str_buf_append_char(&labels->text, '"');
}

void prometheus_labels_add(struct prometheus_labels *labels, const char *name, const char *value)
{
    prometheus_labels_add_bytes(labels, name, value, strlen(value));
}

void prometheus_labels_copy(struct prometheus_labels *out, const struct prometheus_labels *from)
{
    out->keeps_values = from->keeps_values;
    str_buf_append_bytes(&out->text, str_buf_text(&from->text), from->text.length);
}

void prometheus_labels_finish(struct prometheus_labels *labels)
{
    str_buf_finish(&labels->text);
}

/* ---- families ---- */

struct prometheus *prometheus_create(void)
{
    return heap_new(struct prometheus);
}

void prometheus_destroy(struct prometheus *prometheus)
{
    if (prometheus == NULL)
        return;
    for (size_t i = 0; i < prometheus->families.count; i++) {
        struct family *family = prometheus->families.entries[i].value;
        str_buf_finish(&family->lines);
        free(family->name);
        free(family->help);
        free(family);
    }
    hash_map_finish(&prometheus->families);
    hash_map_finish(&prometheus->users);
    free(prometheus);
}

/* "Shuffle.Netty.Input.numBytesInLocal" of a task: the scope gets the groups, without the values of keys. Returns the last part. */
static const char *split_groups(struct str_buf *scope, const char *name)
{
    for (const char *dot = strchr(name, '.'); dot != NULL; dot = strchr(name, '.')) {
        if (!(dot - name == 1 && name[0] == '*')) {
            str_buf_append_char(scope, '_');
            append_filtered(scope, name, (size_t)(dot - name));
        }
        name = dot + 1;
    }
    return name;
}

static struct family *family_create(enum metric_scope scope, const struct metric_name *row, const char *name)
{
    struct str_buf full_scope = {0}, full_name = {0}, help = {0};
    str_buf_append(&full_scope, metric_scope_text(scope));
    const char *last = row == NULL ? name : split_groups(&full_scope, strchr(row->name, '#') != NULL ? name : row->name);
    str_buf_printf(&full_name, PREFIX "%s_", str_buf_text(&full_scope));
    append_filtered(&full_name, last, strlen(last));
    append_escaped(&help, last, strlen(last), false);
    str_buf_printf(&help, " (scope: %s)", str_buf_text(&full_scope));
    str_buf_finish(&full_scope);
    struct family *family = heap_new(struct family);
    family->name = str_buf_detach(&full_name);
    family->help = str_buf_detach(&help);
    family->is_summary = row != NULL && row->type == METRIC_HISTOGRAM;
    family->is_user = row == NULL;
    return family;
}

static void family_destroy(struct family *family)
{
    free(family->name);
    free(family->help);
    free(family);
}

/* NULL: a user's metric has a name that is one of the system's. */
static struct family *family_of(struct prometheus *prometheus, enum metric_scope scope, const struct metric_name *row, const char *name)
{
    struct family *family = family_create(scope, row, name);
    struct family *known = hash_map_get_text(&prometheus->families, family->name);
    if (known == NULL) {
        hash_map_put_text(&prometheus->families, family->name, family);
        return family;
    }
    bool is_same_kind = known->is_user == family->is_user && known->is_summary == family->is_summary;
    family_destroy(family);
    return is_same_kind ? known : NULL;
}

/* ---- samples ---- */

static double number_of(const json_t *value)
{
    if (json_is_boolean(value))
        return json_is_true(value) ? 1 : 0;
    return json_number_value(value); /* 0 for texts, as Flink has it */
}

static void append_sample(struct family *family, const char *suffix, const char *labels, double value)
{
    str_buf_append(&family->lines, family->name);
    str_buf_append(&family->lines, suffix);
    if (labels[0] != '\0')
        str_buf_printf(&family->lines, "{%s}", labels);
    str_buf_append_char(&family->lines, ' ');
    append_number(&family->lines, value);
    str_buf_append_char(&family->lines, '\n');
}

static bool is_first_of_user(struct prometheus *prometheus, const struct family *family, const char *labels)
{
    char *key = heap_printf("%s{%s", family->name, labels);
    bool is_first = hash_map_put_text(&prometheus->users, key, prometheus) == NULL;
    free(key);
    return is_first;
}

static void add_one(struct prometheus *prometheus, enum metric_scope scope, const struct prometheus_labels *labels, const char *name,
                    const struct metric_match *match, const json_t *value)
{
    struct family *family = family_of(prometheus, scope, match->row, name);
    if (family == NULL)
        return;
    if (match->key_count == 0) {
        if (match->row != NULL || is_first_of_user(prometheus, family, str_buf_text(&labels->text)))
            append_sample(family, "", str_buf_text(&labels->text), number_of(value));
        return;
    }
    struct prometheus_labels all = {0};
    prometheus_labels_copy(&all, labels);
    for (size_t i = 0; i < match->key_count; i++) {
        char *key = heap_strndup(match->keys[i].key, match->keys[i].key_length);
        prometheus_labels_add_bytes(&all, key, match->keys[i].value, match->keys[i].value_length);
        free(key);
    }
    append_sample(family, "", str_buf_text(&all.text), number_of(value));
    prometheus_labels_finish(&all);
}

/* ---- histograms ---- */

static const char *const histogram_suffixes[] = {"_count", "_min",  "_max", "_mean", "_stddev", "_median",
                                                 "_p75",   "_p90",  "_p95", "_p98",  "_p99",    "_p999"};

/* The row of "mailboxLatencyMs_p75", NULL when it is no value of a histogram. */
static const struct metric_name *histogram_of(enum metric_scope scope, const char *name, const char **suffix)
{
    const char *underscore = strrchr(name, '_');
    for (size_t i = 0; underscore != NULL && i < sizeof histogram_suffixes / sizeof histogram_suffixes[0]; i++) {
        if (strcmp(underscore, histogram_suffixes[i]) != 0)
            continue;
        char *base = heap_strndup(name, (size_t)(underscore - name));
        struct metric_match match;
        bool is_found = metric_find(scope, base, &match) && match.row->type == METRIC_HISTOGRAM;
        free(base);
        *suffix = histogram_suffixes[i];
        return is_found ? match.row : NULL;
    }
    return NULL;
}

/* Flink's summary: the count and six quantiles, no sum. */
static void add_summary(struct prometheus *prometheus, enum metric_scope scope, const struct prometheus_labels *labels,
                        const struct metric_name *row, const json_t *values)
{
    static const struct {
        const char *suffix;
        const char *quantile;
    } quantiles[] = {{"_median", "0.5"}, {"_p75", "0.75"}, {"_p95", "0.95"}, {"_p98", "0.98"}, {"_p99", "0.99"}, {"_p999", "0.999"}};
    struct family *family = family_of(prometheus, scope, row, row->name);
    if (family == NULL)
        return;
    char *key = heap_printf("%s_count", row->name);
    append_sample(family, "_count", str_buf_text(&labels->text), number_of(json_object_get(values, key)));
    free(key);
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        struct prometheus_labels all = {0};
        prometheus_labels_copy(&all, labels);
        str_buf_printf(&all.text, "%squantile=\"%s\"", all.text.length > 0 ? "," : "", quantiles[i].quantile);
        key = heap_printf("%s%s", row->name, quantiles[i].suffix);
        append_sample(family, "", str_buf_text(&all.text), number_of(json_object_get(values, key)));
        free(key);
        prometheus_labels_finish(&all);
    }
}

void prometheus_add(struct prometheus *prometheus, enum metric_scope scope, const struct prometheus_labels *labels, const json_t *values)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)values, name, value) {
        const char *suffix = NULL;
        struct metric_match match = {0};
        if (!json_is_number(value) && !json_is_string(value) && !json_is_boolean(value))
            continue;
        const struct metric_name *histogram = histogram_of(scope, name, &suffix);
        if (histogram != NULL) {
            if (strcmp(suffix, "_count") == 0)
                add_summary(prometheus, scope, labels, histogram, values);
            continue;
        }
        if (!metric_find(scope, name, &match))
            match = (struct metric_match){0};
        add_one(prometheus, scope, labels, name, &match, value);
    }
}

/* ---- text ---- */

char *prometheus_text(struct prometheus *prometheus, size_t *length)
{
    struct str_buf out = {0};
    for (size_t i = 0; i < prometheus->families.count; i++) {
        const struct family *family = prometheus->families.entries[i].value;
        if (family->lines.length == 0)
            continue;
        str_buf_printf(&out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name, family->is_summary ? "summary" : "gauge");
        str_buf_append_bytes(&out, family->lines.text, family->lines.length);
    }
    *length = out.length;
    return str_buf_detach(&out);
}
