/* Metrics in Flink's three forms: names alone, values as texts (?get=a,b), aggregates as numbers (?get=…&agg=…).
 * Thread: the loop. */
#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "common/base/vec.h"
#include "jobmanager/job_metrics.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"
#include "jobmanager/rest/views.h"
#include "jobmanager/taskmanager_link.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- forms ---- */

/* Metric values are texts on the wire. */
static json_t *value_text(const json_t *value)
{
    if (json_is_string(value))
        return json_string(json_string_value(value));
    if (json_is_integer(value))
        return json_sprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    if (json_is_boolean(value))
        return json_string(json_is_true(value) ? "true" : "false");
    double number = json_real_value(value);
    return number == floor(number) && fabs(number) < 1e15 ? json_sprintf("%.1f", number) : json_sprintf("%.15g", number);
}

/* Whether the comma-separated list holds the word. list NULL: holds everything. */
static bool list_has(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *p = list; p != NULL; p = strchr(p, ',')) {
        if (*p == ',')
            p++;
        if (strcspn(p, ",") == length && memcmp(p, word, length) == 0)
            return true;
    }
    return list == NULL;
}

/* A list in the query: "get=a&get=b" is "get=a,b", as in Flink. Malloced; NULL: not given. */
static char *query_list(const struct rest_request *request, const char *name)
{
    struct str_buf list = {0};
    bool is_given = false;
    for (size_t i = 0; i < request->http->query.count; i++) {
        if (strcmp(request->http->query.items[i].name, name) != 0)
            continue;
        str_buf_append(&list, is_given ? "," : "");
        str_buf_append(&list, request->http->query.items[i].value);
        is_given = true;
    }
    if (is_given)
        return str_buf_detach(&list);
    str_buf_finish(&list);
    return NULL;
}

/* The answer for an object name -> value. Takes metrics. */
static void reply_metrics(struct rest_request *request, json_t *metrics)
{
    char *wanted = query_list(request, "get");
    json_t *list = json_array();
    const char *name;
    json_t *value;
    json_object_foreach(metrics, name, value) {
        if (!list_has(wanted, name))
            continue;
        json_t *entry = json_object();
        put_text(entry, "id", name);
        if (wanted != NULL)
            put_json(entry, "value", value_text(value));
        json_array_append_new(list, entry);
    }
    json_decref(metrics);
    free(wanted);
    rest_reply_json(request, 200, list);
}

struct aggregate {
    double min, max, sum;
    size_t count;
};

/* Flink's data skew: mean deviation from the average in per cent of it, 100 at most; 0 for an even or empty spread. */
static double skew(const json_t *values, double average)
{
    double deviation = 0;
    size_t count = json_array_size(values);
    for (size_t i = 0; i < count; i++)
        deviation += fabs(json_number_value(json_array_get(values, i)) - average);
    if (count < 2 || average == 0)
        return 0;
    double percent = deviation / (double)count / fabs(average) * 100;
    return percent > 100 ? 100 : percent;
}

static json_t *aggregate_entry(const char *name, const json_t *values, const char *aggregates)
{
    struct aggregate total = {INFINITY, -INFINITY, 0, json_array_size(values)};
    for (size_t i = 0; i < total.count; i++) {
        double value = json_number_value(json_array_get(values, i));
        total.min = fmin(total.min, value);
        total.max = fmax(total.max, value);
        total.sum += value;
    }
    double average = total.sum / (double)total.count;
    json_t *entry = json_object();
    put_text(entry, "id", name);
    if (list_has(aggregates, "min"))
        put_real(entry, "min", total.min);
    if (list_has(aggregates, "max"))
        put_real(entry, "max", total.max);
    if (list_has(aggregates, "avg"))
        put_real(entry, "avg", average);
    if (list_has(aggregates, "sum"))
        put_real(entry, "sum", total.sum);
    if (list_has(aggregates, "skew"))
        put_real(entry, "skew", skew(values, average));
    return entry;
}

/* `agg`, in lower case; false: it names something else, and the answer 400 is on its way. */
static bool aggregates_wanted(struct rest_request *request, char **out)
{
    static const char known[] = "min,max,avg,sum,skew";
    char *list = query_list(request, "agg");
    bool is_good = true;
    for (char *c = list; c != NULL && *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    for (const char *at = list; at != NULL && is_good; at = strchr(at, ',')) {
        at += *at == ',';
        char *word = heap_strndup(at, strcspn(at, ","));
        is_good = list_has(known, word);
        free(word);
    }
    if (is_good) {
        *out = list;
        return true;
    }
    rest_reply_bad_query(request, "agg", list);
    free(list);
    return false;
}

static json_t *values_by_name(const json_t *sources, const char *wanted)
{
    json_t *by_name = json_object();
    for (size_t i = 0; i < json_array_size(sources); i++) {
        const char *name;
        json_t *value;
        json_object_foreach(json_array_get(sources, i), name, value) {
            if (!list_has(wanted, name))
                continue;
            json_t *values = json_object_get(by_name, name);
            if (values == NULL) {
                values = json_array();
                json_object_set_new(by_name, name, values);
            }
            if (json_is_number(value))
                json_array_append(values, value);
        }
    }
    return by_name;
}

/* The answer over several objects name -> value. Takes sources. */
static void reply_aggregated(struct rest_request *request, json_t *sources)
{
    char *aggregates = NULL;
    if (!aggregates_wanted(request, &aggregates)) {
        json_decref(sources);
        return;
    }
    char *wanted = query_list(request, "get");
    json_t *by_name = values_by_name(sources, wanted);
    json_t *list = json_array();
    const char *name;
    json_t *values;
    json_object_foreach(by_name, name, values) {
        if (wanted == NULL)
            json_array_append_new(list, json_pack("{s:s}", "id", name));
        else if (json_array_size(values) > 0)
            json_array_append_new(list, aggregate_entry(name, values, aggregates));
    }
    json_decref(by_name);
    json_decref(sources);
    free(wanted);
    free(aggregates);
    rest_reply_json(request, 200, list);
}

/* ---- jobs ---- */

void handle_job_metrics(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (!rest_path_id(request, "jobid", &id))
        return;
    const struct job *job = coordinator_job(jobmanager->coordinator, id);
    reply_metrics(request, job != NULL ? job_metrics_job(jobmanager, job) : json_object());
}

void handle_jobs_metrics(struct jobmanager *jobmanager, struct rest_request *request)
{
    char *wanted = query_list(request, "jobs");
    const struct hash_map *jobs = &jobmanager->coordinator->jobs;
    json_t *sources = json_array();
    for (size_t i = 0; i < jobs->count; i++) {
        const struct job *job = jobs->entries[i].value;
        if (list_has(wanted, id_format(job->id).hex))
            json_array_append_new(sources, job_metrics_job(jobmanager, job));
    }
    free(wanted);
    reply_aggregated(request, sources);
}

/* ---- vertices and subtasks ---- */

void handle_vertex_metrics(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    if (vertex == NULL)
        return;
    json_t *all = json_object();
    for (uint32_t i = 0; i < vertex->parallelism; i++) {
        json_t *own = job_metrics_all(vertex->subtasks[i].current);
        const char *name;
        json_t *value;
        json_object_foreach(own, name, value) {
            char *key = heap_printf("%u.%s", i, name);
            json_object_set(all, key, value);
            free(key);
        }
        json_decref(own);
    }
    reply_metrics(request, all);
}

/* "0,2-4" holds 3. list NULL: all. */
static bool range_has(const char *list, uint32_t index)
{
    for (const char *p = list; p != NULL; p = strchr(p, ',')) {
        if (*p == ',')
            p++;
        char *end;
        unsigned long first = strtoul(p, &end, 10);
        unsigned long last = *end == '-' ? strtoul(end + 1, NULL, 10) : first;
        if (end != p && index >= first && index <= last)
            return true;
    }
    return list == NULL;
}

void handle_vertex_subtasks_metrics(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    if (vertex == NULL)
        return;
    char *wanted = query_list(request, "subtasks");
    json_t *sources = json_array();
    for (uint32_t i = 0; i < vertex->parallelism; i++) {
        if (range_has(wanted, i))
            json_array_append_new(sources, job_metrics_all(vertex->subtasks[i].current));
    }
    free(wanted);
    reply_aggregated(request, sources);
}

void handle_subtask_metrics(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job_subtask *subtask = view_subtask(jobmanager, request);
    if (subtask != NULL)
        reply_metrics(request, job_metrics_all(subtask->current));
}

/* Metrics of operator coordinators, which live in Flink's jobmanager; ours have none. */
void handle_vertex_jm_operator_metrics(struct jobmanager *jobmanager, struct rest_request *request)
{
    if (view_vertex(jobmanager, request) != NULL)
        reply_metrics(request, json_object());
}

/* ---- daemons ---- */

void handle_jobmanager_metrics(struct jobmanager *jobmanager, struct rest_request *request)
{
    reply_metrics(request, job_metrics_cluster(jobmanager));
}

static json_t *taskmanager_values(const struct jobmanager *jobmanager, const struct taskmanager *taskmanager)
{
    json_t *json = json_object();
    const json_t *metrics = taskmanager_link_metrics(jobmanager, taskmanager);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metrics, name, value) {
        if (json_is_number(value) || json_is_string(value))
            json_object_set(json, name, value);
    }
    return json;
}

void handle_taskmanager_metrics(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct taskmanager *taskmanager = coordinator_taskmanager(jobmanager->coordinator, rest_path_param(request, "taskmanagerid"));
    reply_metrics(request, taskmanager != NULL ? taskmanager_values(jobmanager, taskmanager) : json_object());
}

void handle_taskmanagers_metrics(struct jobmanager *jobmanager, struct rest_request *request)
{
    char *wanted = query_list(request, "taskmanagers");
    const struct hash_map *taskmanagers = &jobmanager->coordinator->taskmanagers;
    json_t *sources = json_array();
    for (size_t i = 0; i < taskmanagers->count; i++) {
        const struct taskmanager *taskmanager = taskmanagers->entries[i].value;
        if (list_has(wanted, taskmanager->id))
            json_array_append_new(sources, taskmanager_values(jobmanager, taskmanager));
    }
    free(wanted);
    reply_aggregated(request, sources);
}
