/* Reports of tasks and the values that REST shows from them (job_metrics.h). Thread: the loop. */
#include "jobmanager/job_metrics.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "common/rpc/message.h"

#include <ctype.h>
#include <string.h>

#define SAMPLES_MAX 6 /* five intervals */

/* Counters whose growth per second Flink shows under a name of its own. */
static const struct {
    const char *counter;
    const char *rate;
} rates[] = {
    {"numRecordsIn", "numRecordsInPerSecond"},
    {"numRecordsOut", "numRecordsOutPerSecond"},
    {"numBytesIn", "numBytesInPerSecond"},
    {"numBytesOut", "numBytesOutPerSecond"},
    {"numBuffersOut", "numBuffersOutPerSecond"},
    {"numBytesInLocal", "numBytesInLocalPerSecond"},
    {"numBytesInRemote", "numBytesInRemotePerSecond"},
    {"numBuffersInLocal", "numBuffersInLocalPerSecond"},
    {"numBuffersInRemote", "numBuffersInRemotePerSecond"},
    {"numFiredTimers", "numFiredTimersPerSecond"},
    {"accumulateBusyTimeMs", "busyTimeMsPerSecond"},
    {"accumulateIdleTimeMs", "idleTimeMsPerSecond"},
    {"accumulateBackPressuredTimeMs", "backPressuredTimeMsPerSecond"},
};

/* ---- taking a report ---- */

static bool is_value(const json_t *value)
{
    return json_is_number(value) || json_is_string(value) || json_is_boolean(value);
}

static void copy_values(json_t *values, json_t *from)
{
    const char *key;
    json_t *value;
    json_object_foreach(from, key, value) {
        if (is_value(value) && strcmp(key, "execution") != 0)
            json_object_set(values, key, value);
    }
}

/* Flink's metric names hold the operator's with every other character replaced. */
static char *scrubbed(const char *name)
{
    char *copy = heap_strdup(name);
    for (char *p = copy; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_')
            *p = '_';
    }
    return copy;
}

static void set_operator_value(json_t *values, const char *operator_name, const char *metric, json_t *value)
{
    if (value == NULL || !is_value(value))
        return;
    char *key = heap_printf("%s.%s", operator_name, metric);
    if (json_object_get(values, key) == NULL)
        json_object_set(values, key, value);
    free(key);
}

static json_int_t books_rows_in(const json_t *books)
{
    const json_t *rows = json_object_get(books, "rows_in");
    json_int_t sum = json_integer_value(rows);
    for (size_t i = 0; i < json_array_size(rows); i++)
        sum += json_integer_value(json_array_get(rows, i));
    return sum;
}

static void add_operator(json_t *values, const json_t *operator)
{
    const char *name = json_string_value(json_object_get(operator, "name"));
    if (name == NULL)
        return;
    char *prefix = scrubbed(name);
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(operator, "metrics"), key, value)
        set_operator_value(values, prefix, key, value);
    const json_t *books = json_object_get(operator, "books");
    if (books != NULL) {
        json_t *rows_in = json_integer(books_rows_in(books));
        set_operator_value(values, prefix, "numRecordsIn", rows_in);
        json_decref(rows_in);
        set_operator_value(values, prefix, "numRecordsOut", json_object_get(books, "rows_out"));
        set_operator_value(values, prefix, "numLateRecordsDropped", json_object_get(books, "late"));
    }
    set_operator_value(values, prefix, "currentInputWatermark", json_object_get(operator, "watermark_in"));
    set_operator_value(values, prefix, "currentOutputWatermark", json_object_get(operator, "watermark_out"));
    free(prefix);
}

static void set_default(json_t *values, const char *name, json_t *value)
{
    if (value != NULL && is_value(value) && json_object_get(values, name) == NULL)
        json_object_set(values, name, value);
}

/* What the task itself does not report comes from the operators at its ends. */
static void add_task_defaults(json_t *values, const json_t *operators, bool has_inputs)
{
    size_t count = json_array_size(operators);
    if (count == 0)
        return;
    const json_t *head = json_array_get(operators, 0);
    const json_t *tail = json_array_get(operators, count - 1);
    json_t *rows_in = json_integer(has_inputs ? books_rows_in(json_object_get(head, "books")) : 0);
    set_default(values, "numRecordsIn", rows_in);
    json_decref(rows_in);
    set_default(values, "numRecordsOut", json_object_get(json_object_get(tail, "books"), "rows_out"));
    if (has_inputs)
        set_default(values, "currentInputWatermark", json_object_get(head, "watermark_in"));
    else
        json_object_del(values, "currentInputWatermark");
}

static json_t *report_values(const struct execution *execution, json_t *report)
{
    json_t *values = json_object();
    copy_values(values, report);
    copy_values(values, json_object_get(report, "counters"));
    copy_values(values, json_object_get(report, "gauges"));
    copy_values(values, json_object_get(report, "metrics"));
    const json_t *operators = json_object_get(report, "operators");
    for (size_t i = 0; i < json_array_size(operators); i++)
        add_operator(values, json_array_get(operators, i));
    add_task_defaults(values, operators, execution->subtask->vertex->input_count > 0);
    return values;
}

static void add_rate(json_t *out, const char *name, json_t *values, json_t *old_values, const char *counter, double seconds)
{
    const json_t *now = json_object_get(values, counter);
    const json_t *old = json_object_get(old_values, counter);
    if (!json_is_number(now) || !json_is_number(old) || json_object_get(values, name) != NULL)
        return;
    double rate = (json_number_value(now) - json_number_value(old)) / seconds;
    json_object_set_new(out, name, json_real(rate > 0 ? rate : 0));
}

/* "numRecordsIn" and "ClickEvent_Counter.numRecordsIn" alike. */
static json_t *rates_between(json_t *values, json_t *old_values, double seconds)
{
    json_t *out = json_object();
    const char *key;
    json_t *value;
    json_object_foreach(values, key, value) {
        const char *dot = strrchr(key, '.');
        const char *last = dot != NULL ? dot + 1 : key;
        for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
            if (strcmp(last, rates[i].counter) != 0)
                continue;
            char *name = heap_printf("%.*s%s", (int)(last - key), key, rates[i].rate);
            add_rate(out, name, values, old_values, key, seconds);
            free(name);
        }
    }
    return out;
}

static void take_report(struct execution *execution, json_t *report, int64_t now_ms)
{
    json_t *values = report_values(execution, report);
    json_t *samples = json_incref(json_object_get(execution->metrics, "samples"));
    if (samples == NULL)
        samples = json_array();
    json_t *metrics = json_pack("{s:O}", "values", values);
    if (json_array_size(samples) > 0) {
        const json_t *oldest = json_array_get(samples, 0);
        int64_t span_ms = now_ms - json_integer_value(json_array_get(oldest, 0));
        if (span_ms > 0)
            json_object_set_new(metrics, "rates", rates_between(values, json_array_get(oldest, 1), (double)span_ms / 1000.0));
    }
    json_array_append_new(samples, json_pack("[I,o]", (json_int_t)now_ms, values));
    if (json_array_size(samples) > SAMPLES_MAX)
        json_array_remove(samples, 0);
    json_object_set_new(metrics, "samples", samples);
    json_object_set(metrics, "operators", json_object_get(report, "operators"));
    json_decref(execution->metrics);
    execution->metrics = metrics;
}

void job_metrics_report(struct jobmanager *jobmanager, const json_t *message)
{
    struct job *job = coordinator_job(jobmanager->coordinator, message_id(message, "job"));
    const json_t *tasks = json_object_get(message, "tasks");
    int64_t now_ms = jobmanager_now_ms(jobmanager);
    if (job == NULL)
        return;
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        json_t *report = json_array_get(tasks, i);
        const char *id = json_string_value(json_object_get(report, "execution"));
        struct execution *execution = id != NULL ? coordinator_execution(job, id) : NULL;
        if (execution != NULL)
            take_report(execution, report, now_ms);
    }
}

/* ---- reading ---- */

bool job_metrics_number(const struct execution *execution, const char *name, double *out)
{
    if (execution->metrics == NULL)
        return false;
    const json_t *value = json_object_get(json_object_get(execution->metrics, "values"), name);
    if (json_is_number(value)) {
        *out = json_number_value(value);
        return true;
    }
    value = json_object_get(json_object_get(execution->metrics, "rates"), name);
    if (!json_is_number(value))
        return false;
    *out = execution_state_is_terminal(execution->state) ? 0 : json_number_value(value);
    return true;
}

static int64_t whole(const struct execution *execution, const char *name)
{
    double value = 0;
    return job_metrics_number(execution, name, &value) ? (int64_t)value : 0;
}

struct io_metrics job_metrics_io(const struct execution *execution)
{
    return (struct io_metrics){
        .is_complete = execution->metrics != NULL,
        .read_bytes = whole(execution, "numBytesIn"),
        .write_bytes = whole(execution, "numBytesOut"),
        .read_records = whole(execution, "numRecordsIn"),
        .write_records = whole(execution, "numRecordsOut"),
        .backpressured_ms = whole(execution, "accumulateBackPressuredTimeMs"),
        .idle_ms = whole(execution, "accumulateIdleTimeMs"),
        .busy_ms = whole(execution, "accumulateBusyTimeMs"),
    };
}

json_t *job_metrics_all(const struct execution *execution)
{
    json_t *all = json_object();
    if (execution->metrics == NULL)
        return all;
    json_object_update(all, json_object_get(execution->metrics, "values"));
    if (!execution_state_is_terminal(execution->state))
        json_object_update(all, json_object_get(execution->metrics, "rates"));
    return all;
}
