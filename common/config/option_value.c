/* See option_value.h. Thread: any. */
#include "common/config/option_value.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/local_path.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define J SCOPE_JOBMANAGER
#define T SCOPE_TASKMANAGER
#define C SCOPE_CLIENT
#define P SCOPE_JOB
const struct option_row option_rows[OPTION_COUNT] = {
#define OPTION(name, key, type, default_text, minimum, maximum, scope, old_key, doc)                                   \
    [OPTION_##name] = {key, OPTION_TYPE_##type, default_text, minimum, maximum, scope, old_key, doc},
#include "common/config/options.def"
#undef OPTION
};
#undef J
#undef T
#undef C
#undef P

/* What Flink reads and Millrace has nothing for: Java's memory and options, other resource managers and so on. */
static const char *const meaningless_prefixes[] = {
    "jobmanager.memory.", "taskmanager.memory.", "taskmanager.network.memory.", "taskmanager.network.netty.",
    "taskmanager.network.sort-shuffle.", "taskmanager.network.blocking-shuffle.", "taskmanager.cpu.", "taskmanager.debug.",
    "taskmanager.jvm-exit-on-oom", "taskmanager.network.retries", "taskmanager.network.request-backoff.", "env.java.", "env.hadoop.",
    "env.hbase.", "env.yarn.", "env.ssh.", "env.pid.", "env.stdout-err.", "kubernetes.", "yarn.", "high-availability", "akka.",
    "pekko.", "classloader.", "security.ssl.", "security.kerberos.", "security.module.", "security.context.", "security.delegation.",
    "zookeeper.", "historyserver.", "queryable-state.", "metrics.reporter", "metrics.latency.", "metrics.scope", "metrics.internal.",
    "traces.", "events.", "state.backend.rocksdb.", "state.backend.incremental", "state.backend.local-recovery",
    "state.backend.latency-track.", "state.backend.changelog.", "state.changelog.", "state.storage.", "state.backend.fs.",
    "execution.checkpointing.incremental", "execution.checkpointing.storage",
    "execution.checkpointing.unaligned.", "execution.checkpointing.local-backup", "execution.checkpointing.file-merging.",
    "execution.checkpointing.write-buffer-size", "execution.checkpointing.data-inline-threshold", "execution.batch.adaptive.",
    "execution.batch.speculative.", "execution.sorted-", "execution.batch-", "execution.shutdown-", "execution.submit-",
    "jobmanager.scheduler", "jobmanager.adaptive-", "jobmanager.archive.", "jobmanager.partition.", "scheduler-mode", "cluster.evenly",
    "cluster.io-pool", "cluster.processes.", "cluster.thread-dump.", "cluster.uncaught-", "cluster.intercept-", "slotmanager.",
    "slot.idle.", "external-resource", "fs.", "s3.", "plugin.", "process.", "python.", "pipeline.jars", "pipeline.classpaths",
    "pipeline.serialization", "pipeline.generic-types", "pipeline.force-", "pipeline.registered-", "pipeline.default-kryo",
    "pipeline.auto-generate-uids", "pipeline.auto-type", "pipeline.closure-", "pipeline.vertex-", "pipeline.cached-files",
    "pipeline.watermark-alignment.", "resourcemanager.", "rest.server.numThreads", "rest.idleness-timeout", "rest.await-leader-timeout",
    "rest.profiling.", "rest.cache.", "rest.client.", "web.log.path", "web.access-control-", "blob.client.", "blob.fetch.", "blob.offload.",
    "blob.service.", "task.cancellation.interval", "task.cancellation.timers", "jmx.server.", "table.", "sql-client.", "sql-gateway.",
    "restart-strategy.cleanup", "heartbeat.rpc-failure-threshold", "$internal.",
};

bool option_is_meaningless(const char *key)
{
    for (size_t i = 0; i < sizeof meaningless_prefixes / sizeof *meaningless_prefixes; i++)
        if (strncmp(key, meaningless_prefixes[i], strlen(meaningless_prefixes[i])) == 0)
            return true;
    return false;
}

enum option option_find(const char *key)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (strcmp(option_rows[i].key, key) == 0 || (option_rows[i].old_key[0] != '\0' && strcmp(option_rows[i].old_key, key) == 0))
            return (enum option)i;
    return OPTION_COUNT;
}

/* ---- did you mean ---- */

enum { KEY_BYTES_MAX = 128 };

/* Levenshtein distance with one row of memory, or something of limit or more: a row's least number never shrinks in the next one. */
static size_t edit_distance(const char *a, const char *b, size_t limit)
{
    size_t row[KEY_BYTES_MAX + 1];
    size_t b_length = strlen(b);
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        size_t least = row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
            least = best < least ? best : least;
        }
        if (least >= limit)
            return limit;
    }
    return row[b_length];
}

const char *option_nearest(const char *key, size_t distance_max)
{
    const char *nearest = NULL;
    size_t length = strlen(key);
    size_t least = distance_max + 1;
    if (length > KEY_BYTES_MAX)
        return NULL;
    for (int i = 0; i < OPTION_COUNT; i++) {
        const char *known[] = {option_rows[i].key, option_rows[i].old_key};
        for (int k = 0; k < 2; k++) {
            size_t known_length = strlen(known[k]);
            size_t difference = known_length > length ? known_length - length : length - known_length;
            check(known_length <= KEY_BYTES_MAX);
            if (known_length == 0 || difference >= least)
                continue; /* at least as many edits as the lengths differ */
            size_t distance = edit_distance(key, known[k], least);
            if (distance < least) {
                least = distance;
                nearest = known[k];
            }
        }
    }
    return nearest;
}

/* ---- numbers with units ---- */

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit duration_units[] = { /* in nanoseconds */
    {"", 1000000}, {"ms", 1000000}, {"milli", 1000000}, {"millis", 1000000}, {"millisecond", 1000000}, {"milliseconds", 1000000},
    {"s", 1000000000}, {"sec", 1000000000}, {"secs", 1000000000}, {"second", 1000000000}, {"seconds", 1000000000},
    {"m", 60000000000}, {"min", 60000000000}, {"minute", 60000000000}, {"minutes", 60000000000},
    {"h", 3600000000000}, {"hour", 3600000000000}, {"hours", 3600000000000},
    {"d", 86400000000000}, {"day", 86400000000000}, {"days", 86400000000000},
    {"us", 1000}, {"µs", 1000}, {"micro", 1000}, {"micros", 1000}, {"microsecond", 1000}, {"microseconds", 1000},
    {"ns", 1}, {"nano", 1}, {"nanos", 1}, {"nanosecond", 1}, {"nanoseconds", 1},
};

static const struct unit bytes_units[] = {
    {"", 1}, {"b", 1}, {"bytes", 1}, {"k", 1 << 10}, {"kb", 1 << 10}, {"kibibytes", 1 << 10}, {"m", 1 << 20}, {"mb", 1 << 20},
    {"mebibytes", 1 << 20}, {"g", 1 << 30}, {"gb", 1 << 30}, {"gibibytes", 1 << 30}, {"t", INT64_C(1) << 40},
    {"tb", INT64_C(1) << 40}, {"tebibytes", INT64_C(1) << 40},
};

/* "12 kb" -> 12 and the factor of kb. */
static bool parse_with_unit(const char *text, const struct unit *units, size_t unit_count, int64_t *number, int64_t *factor)
{
    char *end;
    while (isspace((unsigned char)*text))
        text++;
    if (!isdigit((unsigned char)*text) && !(*text == '-' && isdigit((unsigned char)text[1])))
        return false;
    errno = 0;
    *number = strtoll(text, &end, 10);
    if (errno != 0)
        return false;
    while (isspace((unsigned char)*end))
        end++;
    size_t length = strlen(end);
    while (length > 0 && isspace((unsigned char)end[length - 1]))
        length--;
    for (size_t i = 0; i < unit_count; i++)
        if (strlen(units[i].name) == length && strncasecmp(units[i].name, end, length) == 0) {
            *factor = units[i].factor;
            return true;
        }
    return false;
}

struct error *config_parse_duration(const char *text, int64_t *out_ms)
{
    int64_t number;
    int64_t factor;
    const int64_t ns_per_ms = 1000000;
    if (!parse_with_unit(text, duration_units, sizeof duration_units / sizeof *duration_units, &number, &factor))
        return error_new(INVALID_CONFIG, "expected a duration such as 500 ms, 10 s, 5 min or 1 h");
    int64_t result;
    if (factor < ns_per_ms)
        result = number / (ns_per_ms / factor);
    else if (__builtin_mul_overflow(number, factor / ns_per_ms, &result))
        return error_new(INVALID_CONFIG, "the duration is too long");
    *out_ms = result;
    return NULL;
}

struct error *config_parse_bytes(const char *text, int64_t *out_bytes)
{
    int64_t number;
    int64_t factor;
    int64_t result;
    if (!parse_with_unit(text, bytes_units, sizeof bytes_units / sizeof *bytes_units, &number, &factor) || number < 0)
        return error_new(INVALID_CONFIG, "expected a memory size such as 512 kb, 64 mb or 1 g");
    if (__builtin_mul_overflow(number, factor, &result))
        return error_new(INVALID_CONFIG, "the memory size is too large");
    *out_bytes = result;
    return NULL;
}

static struct error *parse_int(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0)
        return error_new(INVALID_CONFIG, "expected a whole number");
    *out = number;
    return NULL;
}

static struct error *parse_double(const char *text, double *out)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(number))
        return error_new(INVALID_CONFIG, "expected a number");
    *out = number;
    return NULL;
}

static struct error *parse_bool(const char *text, int64_t *out)
{
    if (strcasecmp(text, "true") == 0)
        *out = 1;
    else if (strcasecmp(text, "false") == 0)
        *out = 0;
    else
        return error_new(INVALID_CONFIG, "expected true or false");
    return NULL;
}

/* A port, or the range `first-last`. */
static struct error *parse_ports(const char *text, int64_t *first, int64_t *last)
{
    char *end;
    int64_t low = strtol(text, &end, 10);
    int64_t high = low;
    bool is_good = end != text;
    if (is_good && *end == '-') {
        const char *second = end + 1;
        high = strtol(second, &end, 10);
        is_good = end != second;
    }
    if (!is_good || *end != '\0' || low < 0 || high > 65535 || high < low)
        return error_new(INVALID_CONFIG, "expected a port (0 to 65535) or a range such as 50100-50200");
    *first = low;
    *last = high;
    return NULL;
}

/* ---- words ---- */

static char word_char(char c)
{
    return c == '-' ? '_' : (char)toupper((unsigned char)c);
}

bool option_word_equals(const char *a, const char *b, size_t b_length)
{
    if (strlen(a) != b_length)
        return false;
    for (size_t i = 0; i < b_length; i++)
        if (word_char(a[i]) != word_char(b[i]))
            return false;
    return true;
}

static struct error *parse_word(const char *words, const char *text)
{
    for (const char *at = words;;) {
        size_t length = strcspn(at, "|");
        if (option_word_equals(text, at, length))
            return NULL;
        if (at[length] == '\0')
            break;
        at += length + 1;
    }
    char *list = heap_strdup(words);
    for (char *c = list; *c != '\0'; c++)
        if (*c == '|')
            *c = ' ';
    struct error *err = error_new(INVALID_CONFIG, "expected one of: %s", list);
    free(list);
    return err;
}

/* ---- judging ---- */

static struct error *parse_number(enum option_type type, const char *text, struct option_value *out)
{
    switch (type) {
    case OPTION_TYPE_INT: return parse_int(text, &out->number);
    case OPTION_TYPE_DOUBLE: return parse_double(text, &out->real);
    case OPTION_TYPE_BOOL: return parse_bool(text, &out->number);
    case OPTION_TYPE_DURATION: return config_parse_duration(text, &out->number);
    case OPTION_TYPE_BYTES: return config_parse_bytes(text, &out->number);
    case OPTION_TYPE_PORTS: return parse_ports(text, &out->number, &out->last);
    case OPTION_TYPE_STRING:
    case OPTION_TYPE_PATH:
    case OPTION_TYPE_ENUM: break;
    }
    return NULL;
}

static double comparable(enum option_type type, const struct option_value *value)
{
    return type == OPTION_TYPE_DOUBLE ? value->real : (double)value->number;
}

static struct error *check_bounds(const struct option_row *row, const struct option_value *value)
{
    struct option_value bound = {0};
    if (row->type == OPTION_TYPE_ENUM)
        return NULL;
    if (row->minimum[0] != '\0') {
        TRY(parse_number(row->type, row->minimum, &bound));
        if (comparable(row->type, value) < comparable(row->type, &bound))
            return error_new(INVALID_CONFIG, "expected at least %s", row->minimum);
    }
    if (row->maximum[0] != '\0') {
        TRY(parse_number(row->type, row->maximum, &bound));
        if (comparable(row->type, value) > comparable(row->type, &bound))
            return error_new(INVALID_CONFIG, "expected at most %s", row->maximum);
    }
    return NULL;
}

/* Where checkpoints go is told to the taskmanagers, whose working directories are other ones. */
static bool is_for_others(enum option option)
{
    return option == OPTION_CHECKPOINT_DIR || option == OPTION_SAVEPOINT_DIR;
}

static struct error *parse_path(enum option option, const char *text, char **out)
{
    const char *path;
    struct error *err = local_path_parse(text, &path);
    if (err == NULL && text[0] != '\0' && is_for_others(option))
        return local_path_absolute(text, out);
    if (err == NULL) {
        *out = heap_strdup(path);
        return NULL;
    }
    char *why = error_text(err);
    error_free(err);
    err = error_new(INVALID_CONFIG, "expected a path of the local file system: %s", why);
    free(why);
    return err;
}

struct error *option_value_parse(enum option option, const char *text, struct option_value *out)
{
    const struct option_row *row = &option_rows[option];
    struct option_value value = {0};
    if (row->type == OPTION_TYPE_ENUM) {
        TRY(parse_word(row->maximum, text));
    } else if (row->type == OPTION_TYPE_PATH) {
        TRY(parse_path(option, text, &value.text));
    } else {
        TRY(parse_number(row->type, text, &value));
        TRY(check_bounds(row, &value));
    }
    if (value.text == NULL)
        value.text = heap_strdup(text);
    *out = value;
    return NULL;
}
