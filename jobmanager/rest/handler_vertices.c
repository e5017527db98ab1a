/* One vertex of a job and its subtasks: /jobs/:jobid/vertices/:vertexid… Metrics are in handler_metrics.c.
 * Thread: the loop. */
#include "common/base/heap.h"
#include "jobmanager/job_metrics.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"
#include "jobmanager/rest/views.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct job_vertex *planned(const struct job_task_vertex *vertex)
{
    return &vertex->job->graph->vertices[vertex->index];
}

/* Malloced array of the current executions. */
static const struct execution **current_executions(const struct job_task_vertex *vertex)
{
    const struct execution **executions = heap_alloc_array(vertex->parallelism + 1, sizeof *executions);
    for (uint32_t i = 0; i < vertex->parallelism; i++)
        executions[i] = vertex->subtasks[i].current;
    return executions;
}

void handle_vertex(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    if (vertex == NULL)
        return;
    int64_t now_ms = jobmanager_now_ms(jobmanager);
    const struct execution **executions = current_executions(vertex);
    json_t *subtasks = json_array();
    for (uint32_t i = 0; i < vertex->parallelism; i++)
        json_array_append_new(subtasks, view_execution(executions[i], now_ms));
    json_t *json = json_object();
    put_text(json, "id", id_format(planned(vertex)->id).hex);
    put_text(json, "name", planned(vertex)->name);
    put_int(json, "parallelism", vertex->parallelism);
    put_int(json, "maxParallelism", planned(vertex)->max_parallelism);
    put_int(json, "now", now_ms);
    put_json(json, "subtasks", subtasks);
    put_json(json, "aggregated", view_aggregated(executions, vertex->parallelism, now_ms));
    free(executions);
    rest_reply_json(request, 200, json);
}

/* ---- accumulators: Millrace has none ---- */

void handle_vertex_accumulators(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    if (vertex == NULL)
        return;
    json_t *json = json_object();
    put_text(json, "id", id_format(planned(vertex)->id).hex);
    put_json(json, "user-accumulators", json_array());
    rest_reply_json(request, 200, json);
}

void handle_vertex_subtasks_accumulators(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    if (vertex == NULL)
        return;
    json_t *subtasks = json_array();
    for (uint32_t i = 0; i < vertex->parallelism; i++) {
        const struct execution *execution = vertex->subtasks[i].current;
        char *endpoint = view_endpoint(execution);
        json_t *entry = json_object();
        put_int(entry, "subtask", i);
        put_int(entry, "attempt", execution->attempt);
        put_text(entry, "host", execution->taskmanager_id != NULL ? execution->host : "(unassigned)");
        put_text(entry, "endpoint", endpoint);
        put_json(entry, "user-accumulators", json_array());
        json_array_append_new(subtasks, entry);
        free(endpoint);
    }
    json_t *json = json_object();
    put_text(json, "id", id_format(planned(vertex)->id).hex);
    put_int(json, "parallelism", vertex->parallelism);
    put_json(json, "subtasks", subtasks);
    rest_reply_json(request, 200, json);
}

/* ---- subtasks ---- */

void handle_subtask(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job_subtask *subtask = view_subtask(jobmanager, request);
    if (subtask != NULL)
        rest_reply_json(request, 200, view_execution(subtask->current, jobmanager_now_ms(jobmanager)));
}

/* The attempt that the path names, NULL: answered. */
static const struct execution *view_attempt(struct jobmanager *jobmanager, struct rest_request *request)
{
    int64_t attempt;
    if (!rest_path_number(request, "attempt", &attempt))
        return NULL;
    struct job_subtask *subtask = view_subtask(jobmanager, request);
    if (subtask == NULL)
        return NULL;
    if (subtask->current->attempt == attempt)
        return subtask->current;
    for (uint32_t i = 0; i < subtask->past_count; i++) {
        if (subtask->past[i]->attempt == attempt)
            return subtask->past[i];
    }
    rest_reply_error(request, 404, EX_REST ": Could not find attempt %lld of subtask %u of vertex %s\n", (long long)attempt, subtask->index,
                     id_format(planned(subtask->vertex)->id).hex);
    return NULL;
}

void handle_subtask_attempt(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct execution *execution = view_attempt(jobmanager, request);
    if (execution != NULL)
        rest_reply_json(request, 200, view_execution(execution, jobmanager_now_ms(jobmanager)));
}

void handle_subtask_accumulators(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct execution *execution = view_attempt(jobmanager, request);
    if (execution == NULL)
        return;
    json_t *json = json_object();
    put_int(json, "subtask", execution->subtask->index);
    put_int(json, "attempt", execution->attempt);
    put_text(json, "id", execution->id);
    put_json(json, "user-accumulators", json_array());
    rest_reply_json(request, 200, json);
}

static json_t *subtask_times(const struct execution *execution, int64_t now_ms)
{
    int64_t created = execution->timestamps[EXECUTION_CREATED];
    int64_t scheduled = execution->timestamps[EXECUTION_SCHEDULED];
    int64_t from = scheduled > 0 ? scheduled : created;
    bool is_ended = execution_state_is_terminal(execution->state);
    int64_t to = is_ended ? execution->timestamps[execution->state] : now_ms;
    char *endpoint = view_endpoint(execution);
    json_t *timestamps = json_object();
    for (int state = 0; state < EXECUTION_STATE_COUNT; state++)
        put_int(timestamps, execution_state_name((enum execution_state)state), execution->timestamps[state]);
    json_t *json = json_object();
    put_int(json, "subtask", execution->subtask->index);
    put_text(json, "host", execution->taskmanager_id != NULL ? execution->host : "(unassigned)");
    put_text(json, "endpoint", endpoint);
    put_int(json, "duration", from > 0 ? to - from : -1);
    put_json(json, "timestamps", timestamps);
    free(endpoint);
    return json;
}

void handle_vertex_subtask_times(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    if (vertex == NULL)
        return;
    int64_t now_ms = jobmanager_now_ms(jobmanager);
    json_t *subtasks = json_array();
    for (uint32_t i = 0; i < vertex->parallelism; i++)
        json_array_append_new(subtasks, subtask_times(vertex->subtasks[i].current, now_ms));
    json_t *json = json_object();
    put_text(json, "id", id_format(planned(vertex)->id).hex);
    put_text(json, "name", planned(vertex)->name);
    put_int(json, "now", now_ms);
    put_json(json, "subtasks", subtasks);
    rest_reply_json(request, 200, json);
}

/* ---- by taskmanager ---- */

static const char *taskmanager_of(const struct execution *execution)
{
    return execution->taskmanager_id != NULL ? execution->taskmanager_id : "(unassigned)";
}

/* Flink's order for the state of a group: the worst first, then the least advanced. */
static enum execution_state group_state(const uint32_t counts[EXECUTION_STATE_COUNT], size_t total)
{
    static const enum execution_state order[] = {EXECUTION_FAILED, EXECUTION_CANCELING, EXECUTION_CANCELED, EXECUTION_INITIALIZING,
                                                 EXECUTION_RUNNING, EXECUTION_DEPLOYING, EXECUTION_SCHEDULED, EXECUTION_CREATED};
    if (counts[EXECUTION_FINISHED] == total)
        return EXECUTION_FINISHED;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        if (counts[order[i]] > 0)
            return order[i];
    }
    return EXECUTION_RUNNING;
}

static json_t *taskmanager_group(const struct execution *const *group, size_t count, int64_t now_ms)
{
    uint32_t counts[EXECUTION_STATE_COUNT] = {0};
    struct view_span span = {-1, -1, -1};
    bool is_ended = true;
    for (size_t i = 0; i < count; i++) {
        struct view_span one = view_execution_span(group[i], now_ms);
        counts[group[i]->state]++;
        is_ended = is_ended && execution_state_is_terminal(group[i]->state);
        if (one.start_ms >= 0 && (span.start_ms < 0 || one.start_ms < span.start_ms))
            span.start_ms = one.start_ms;
        span.end_ms = one.end_ms > span.end_ms ? one.end_ms : span.end_ms;
    }
    if (!is_ended)
        span.end_ms = -1;
    if (span.start_ms >= 0)
        span.duration_ms = (span.end_ms >= 0 ? span.end_ms : now_ms) - span.start_ms;
    char *endpoint = view_endpoint(group[0]);
    json_t *json = json_object();
    put_text(json, "host", endpoint);
    put_text(json, "endpoint", endpoint);
    put_text(json, "status", execution_state_name(group_state(counts, count)));
    put_int(json, "start-time", span.start_ms);
    put_int(json, "end-time", span.end_ms);
    put_int(json, "duration", span.duration_ms);
    put_json(json, "metrics", view_io_metrics(group, count));
    put_json(json, "status-counts", view_state_counts(counts));
    put_text(json, "taskmanager-id", taskmanager_of(group[0]));
    put_json(json, "aggregated", view_aggregated(group, count, now_ms));
    free(endpoint);
    return json;
}

static json_t *taskmanager_groups(const struct job_task_vertex *vertex, int64_t now_ms)
{
    const struct execution **all = current_executions(vertex);
    const struct execution **group = heap_alloc_array(vertex->parallelism + 1, sizeof *group);
    json_t *groups = json_array();
    for (uint32_t i = 0; i < vertex->parallelism; i++) {
        size_t count = 0;
        if (all[i] == NULL)
            continue;
        const char *taskmanager = taskmanager_of(all[i]);
        for (uint32_t j = i; j < vertex->parallelism; j++) {
            if (all[j] == NULL || strcmp(taskmanager_of(all[j]), taskmanager) != 0)
                continue;
            group[count++] = all[j];
            if (j > i)
                all[j] = NULL;
        }
        json_array_append_new(groups, taskmanager_group(group, count, now_ms));
    }
    free(group);
    free(all);
    return groups;
}

void handle_vertex_taskmanagers(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    if (vertex == NULL)
        return;
    int64_t now_ms = jobmanager_now_ms(jobmanager);
    json_t *json = json_object();
    put_text(json, "id", id_format(planned(vertex)->id).hex);
    put_text(json, "name", planned(vertex)->name);
    put_int(json, "now", now_ms);
    put_json(json, "taskmanagers", taskmanager_groups(vertex, now_ms));
    rest_reply_json(request, 200, json);
}

/* ---- back pressure and watermarks ---- */

static const char *backpressure_level(double ratio)
{
    return ratio <= 0.1 ? "ok" : ratio <= 0.5 ? "low" : "high";
}

/* Thousandths, between 0 and 1. */
static double time_ratio(const struct execution *execution, const char *metric)
{
    double per_second = 0;
    if (!job_metrics_number(execution, metric, &per_second))
        return 0;
    double ratio = round(per_second) / 1000.0;
    return ratio < 0 ? 0 : ratio > 1 ? 1 : ratio;
}

void handle_vertex_backpressure(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    if (vertex == NULL)
        return;
    double worst = 0;
    json_t *subtasks = json_array();
    for (uint32_t i = 0; i < vertex->parallelism; i++) {
        const struct execution *execution = vertex->subtasks[i].current;
        if (execution->state != EXECUTION_RUNNING && execution->state != EXECUTION_INITIALIZING)
            continue;
        double ratio = time_ratio(execution, "backPressuredTimeMsPerSecond");
        worst = ratio > worst ? ratio : worst;
        json_t *entry = json_object();
        put_int(entry, "subtask", i);
        put_text(entry, "backpressureLevel", backpressure_level(ratio));
        put_real(entry, "ratio", ratio);
        put_real(entry, "idleRatio", time_ratio(execution, "idleTimeMsPerSecond"));
        put_real(entry, "busyRatio", time_ratio(execution, "busyTimeMsPerSecond"));
        put_text(entry, "backpressure-level", backpressure_level(ratio));
        json_array_append_new(subtasks, entry);
    }
    bool is_known = json_array_size(subtasks) > 0;
    json_t *json = json_object();
    put_text(json, "status", is_known ? "ok" : "deprecated");
    put_text(json, "backpressureLevel", backpressure_level(worst));
    put_int(json, "end-timestamp", jobmanager_now_ms(jobmanager));
    put_json(json, "subtasks", subtasks);
    put_text(json, "backpressure-level", backpressure_level(worst));
    rest_reply_json(request, 200, json);
}

void handle_vertex_watermarks(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    if (vertex == NULL)
        return;
    json_t *list = json_array();
    for (uint32_t i = 0; i < vertex->parallelism; i++) {
        const json_t *metrics = vertex->subtasks[i].current->metrics;
        const json_t *value = json_object_get(json_object_get(metrics, "values"), "currentInputWatermark");
        if (!json_is_integer(value))
            continue;
        json_array_append_new(list, json_pack("{s:o,s:o}", "id", json_sprintf("%u.currentInputWatermark", i), "value",
                                              json_sprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value))));
    }
    rest_reply_json(request, 200, list);
}
