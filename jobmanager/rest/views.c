/* Shared parts of answers (views.h). Thread: the loop. */
#include "jobmanager/rest/views.h"

#include "common/base/heap.h"
#include "jobmanager/job_metrics.h"
#include "jobmanager/rest/java_throwable.h"
#include "jobmanager/rest/json_build.h"

#include <stdlib.h>
#include <string.h>

/* ---- what the path names ---- */

void view_reply_no_job(struct rest_request *request, struct id job)
{
    rest_reply_error(request, 404, EX_NOT_FOUND ": Job %s not found\nCaused by: " EX_NO_JOB ": Could not find Flink job (%s)\n",
                     id_format(job).hex, id_format(job).hex);
}

struct job *view_job(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (!rest_path_id(request, "jobid", &id))
        return NULL;
    struct job *job = coordinator_job(jobmanager->coordinator, id);
    if (job == NULL)
        view_reply_no_job(request, id);
    return job;
}

struct job_task_vertex *view_vertex(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    struct id job_id;
    if (!rest_path_id(request, "jobid", &job_id) || !rest_path_id(request, "vertexid", &id))
        return NULL;
    struct job *job = view_job(jobmanager, request);
    if (job == NULL)
        return NULL;
    for (uint32_t i = 0; job->vertices != NULL && i < job->graph->vertex_count; i++) {
        if (id_equals(job->graph->vertices[i].id, id))
            return &job->vertices[i];
    }
    rest_reply_error(request, 404, EX_NOT_FOUND ": JobVertex %s not found\n", id_format(id).hex);
    return NULL;
}

struct job_subtask *view_subtask(struct jobmanager *jobmanager, struct rest_request *request)
{
    int64_t index;
    if (!rest_path_number(request, "subtaskindex", &index))
        return NULL;
    struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    if (vertex == NULL)
        return NULL;
    if (index < (int64_t)vertex->parallelism)
        return &vertex->subtasks[index];
    rest_reply_error(request, 404, EX_REST ": Invalid subtask index for vertex %s\n",
                     id_format(vertex->job->graph->vertices[vertex->index].id).hex);
    return NULL;
}

/* ---- states and times ---- */

json_t *view_state_counts(const uint32_t *counts)
{
    json_t *json = json_object();
    for (int state = 0; state < EXECUTION_STATE_COUNT; state++)
        put_int(json, execution_state_name((enum execution_state)state), counts[state]);
    return json;
}

static int64_t terminal_ms(const struct execution *execution)
{
    return execution_state_is_terminal(execution->state) ? execution->timestamps[execution->state] : -1;
}

struct view_span view_execution_span(const struct execution *execution, int64_t now_ms)
{
    struct view_span span = {-1, -1, -1};
    if (execution->timestamps[EXECUTION_DEPLOYING] <= 0)
        return span;
    span.start_ms = execution->timestamps[EXECUTION_DEPLOYING];
    span.end_ms = terminal_ms(execution);
    span.duration_ms = (span.end_ms >= 0 ? span.end_ms : now_ms) - span.start_ms;
    return span;
}

/* Time spent in a state so far; -1: never entered. */
static int64_t state_duration_ms(const struct execution *execution, enum execution_state state, int64_t now_ms)
{
    static const enum execution_state order[] = {EXECUTION_CREATED, EXECUTION_SCHEDULED, EXECUTION_DEPLOYING, EXECUTION_INITIALIZING,
                                                 EXECUTION_RUNNING};
    int64_t from = execution->timestamps[state];
    if (from <= 0)
        return -1;
    if (execution->state == state)
        return now_ms - from;
    int64_t to = INT64_MAX;
    for (int next = 0; next < EXECUTION_STATE_COUNT; next++) {
        int64_t at = execution->timestamps[next];
        bool is_later = true;
        for (size_t i = 0; i < sizeof order / sizeof order[0] && order[i] != state; i++)
            is_later = is_later && (int)order[i] != next;
        if (is_later && next != (int)state && at >= from && at < to)
            to = at;
    }
    return to != INT64_MAX ? to - from : now_ms - from;
}

static const enum execution_state shown_durations[] = {EXECUTION_CREATED, EXECUTION_SCHEDULED, EXECUTION_DEPLOYING,
                                                       EXECUTION_INITIALIZING, EXECUTION_RUNNING};
#define SHOWN_DURATION_COUNT (sizeof shown_durations / sizeof shown_durations[0])

static json_t *status_duration(const struct execution *execution, int64_t now_ms)
{
    json_t *json = json_object();
    for (size_t i = 0; i < SHOWN_DURATION_COUNT; i++)
        put_int(json, execution_state_name(shown_durations[i]), state_duration_ms(execution, shown_durations[i], now_ms));
    return json;
}

/* ---- executions ---- */

json_t *view_io_metrics(const struct execution *const *executions, size_t count)
{
    struct io_metrics sum = {.is_complete = true};
    for (size_t i = 0; i < count; i++) {
        struct io_metrics one = job_metrics_io(executions[i]);
        sum.is_complete = sum.is_complete && (one.is_complete || execution_state_is_terminal(executions[i]->state));
        sum.read_bytes += one.read_bytes;
        sum.write_bytes += one.write_bytes;
        sum.read_records += one.read_records;
        sum.write_records += one.write_records;
        sum.backpressured_ms += one.backpressured_ms;
        sum.idle_ms += one.idle_ms;
        sum.busy_ms += one.busy_ms;
    }
    json_t *json = json_object();
    put_int(json, "read-bytes", sum.read_bytes);
    put_bool(json, "read-bytes-complete", sum.is_complete);
    put_int(json, "write-bytes", sum.write_bytes);
    put_bool(json, "write-bytes-complete", sum.is_complete);
    put_int(json, "read-records", sum.read_records);
    put_bool(json, "read-records-complete", sum.is_complete);
    put_int(json, "write-records", sum.write_records);
    put_bool(json, "write-records-complete", sum.is_complete);
    put_int(json, "accumulated-backpressured-time", sum.backpressured_ms);
    put_int(json, "accumulated-idle-time", sum.idle_ms);
    put_real(json, "accumulated-busy-time", (double)sum.busy_ms);
    return json;
}

char *view_endpoint(const struct execution *execution)
{
    if (execution->taskmanager_id == NULL)
        return heap_strdup("(unassigned)");
    return heap_printf("%s:%u", execution->host, execution->data_port);
}

json_t *view_execution(const struct execution *execution, int64_t now_ms)
{
    struct view_span span = view_execution_span(execution, now_ms);
    char *endpoint = view_endpoint(execution);
    bool is_assigned = execution->taskmanager_id != NULL;
    json_t *json = json_object();
    put_int(json, "subtask", execution->subtask->index);
    put_text(json, "status", execution_state_name(execution->state));
    put_int(json, "attempt", execution->attempt);
    put_text(json, "host", is_assigned ? execution->host : "(unassigned)");
    put_text(json, "endpoint", endpoint);
    put_int(json, "start-time", span.start_ms);
    put_int(json, "end-time", span.end_ms);
    put_int(json, "duration", span.duration_ms);
    put_json(json, "metrics", view_io_metrics(&execution, 1));
    put_text(json, "taskmanager-id", is_assigned ? execution->taskmanager_id : "(unassigned)");
    put_json(json, "status-duration", status_duration(execution, now_ms));
    put_int(json, "start_time", span.start_ms);
    free(endpoint);
    return json;
}

/* ---- aggregates ---- */

static int compare_int64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Percentile by linear interpolation, positions as in Apache Commons Math. values sorted, count > 0. */
static int64_t percentile(const int64_t *values, size_t count, double p)
{
    double position = p * (double)(count + 1);
    if (position < 1)
        return values[0];
    if (position >= (double)count)
        return values[count - 1];
    size_t below = (size_t)position;
    double fraction = position - (double)below;
    return (int64_t)((double)values[below - 1] + fraction * (double)(values[below] - values[below - 1]));
}

static json_t *aggregate(int64_t *values, size_t count)
{
    int64_t sum = 0;
    qsort(values, count, sizeof *values, compare_int64);
    for (size_t i = 0; i < count; i++)
        sum += values[i];
    json_t *json = json_object();
    bool any = count > 0;
    put_int(json, "p25", any ? percentile(values, count, 0.25) : 0);
    put_int(json, "min", any ? values[0] : 0);
    put_int(json, "avg", any ? sum / (int64_t)count : 0);
    put_int(json, "median", any ? percentile(values, count, 0.5) : 0);
    put_int(json, "max", any ? values[count - 1] : 0);
    put_int(json, "sum", sum);
    put_int(json, "p95", any ? percentile(values, count, 0.95) : 0);
    put_int(json, "p75", any ? percentile(values, count, 0.75) : 0);
    return json;
}

static int64_t io_member(const struct io_metrics *io, size_t member)
{
    const int64_t members[] = {io->write_records, io->backpressured_ms, io->idle_ms, io->write_bytes, io->read_bytes, io->read_records,
                               io->busy_ms};
    return members[member];
}

json_t *view_aggregated(const struct execution *const *executions, size_t count, int64_t now_ms)
{
    static const char *const io_names[] = {"write-records", "accumulated-backpressured-time", "accumulated-idle-time", "write-bytes",
                                           "read-bytes", "read-records", "accumulated-busy-time"};
    int64_t *values = heap_alloc_array(count + 1, sizeof *values);
    json_t *metrics = json_object();
    for (size_t member = 0; member < sizeof io_names / sizeof io_names[0]; member++) {
        for (size_t i = 0; i < count; i++) {
            struct io_metrics io = job_metrics_io(executions[i]);
            values[i] = io_member(&io, member);
        }
        put_json(metrics, io_names[member], aggregate(values, count));
    }
    json_t *durations = json_object();
    for (size_t state = 0; state < SHOWN_DURATION_COUNT; state++) {
        for (size_t i = 0; i < count; i++)
            values[i] = state_duration_ms(executions[i], shown_durations[state], now_ms);
        put_json(durations, execution_state_name(shown_durations[state]), aggregate(values, count));
    }
    free(values);
    json_t *json = json_object();
    put_json(json, "metrics", metrics);
    put_json(json, "status-duration", durations);
    return json;
}

/* ---- a job in a list ---- */

static void count_tasks(const struct job *job, uint32_t counts[EXECUTION_STATE_COUNT], uint32_t *total)
{
    *total = 0;
    for (int state = 0; state < EXECUTION_STATE_COUNT; state++)
        counts[state] = 0;
    for (uint32_t v = 0; job->vertices != NULL && v < job->graph->vertex_count; v++) {
        *total += job->vertices[v].parallelism;
        for (int state = 0; state < EXECUTION_STATE_COUNT; state++)
            counts[state] += job->vertices[v].state_counts[state];
    }
}

/* When the job or one of its tasks last changed its state. */
static int64_t last_modification_ms(const struct job *job)
{
    int64_t last = job->start_ms;
    for (int state = 0; state < JOB_STATE_COUNT; state++)
        last = job->timestamps[state] > last ? job->timestamps[state] : last;
    for (uint32_t v = 0; job->vertices != NULL && v < job->graph->vertex_count; v++) {
        for (uint32_t s = 0; s < job->vertices[v].parallelism; s++) {
            const struct execution *execution = job->vertices[v].subtasks[s].current;
            int64_t at = execution != NULL ? execution->timestamps[execution->state] : 0;
            last = at > last ? at : last;
        }
    }
    return last;
}

json_t *view_job_overview(const struct job *job, int64_t now_ms, bool has_new_members)
{
    static const struct {
        const char *name;
        enum execution_state state;
    } shown[] = {{"created", EXECUTION_CREATED}, {"scheduled", EXECUTION_SCHEDULED}, {"deploying", EXECUTION_DEPLOYING},
                 {"reconciling", EXECUTION_RECONCILING}, {"finished", EXECUTION_FINISHED}, {"initializing", EXECUTION_INITIALIZING},
                 {"failed", EXECUTION_FAILED}};
    uint32_t counts[EXECUTION_STATE_COUNT];
    uint32_t total;
    count_tasks(job, counts, &total);
    json_t *tasks = json_object();
    put_int(tasks, "running", counts[EXECUTION_RUNNING]);
    put_int(tasks, "canceling", counts[EXECUTION_CANCELING]);
    put_int(tasks, "canceled", counts[EXECUTION_CANCELED]);
    put_int(tasks, "total", total);
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
        put_int(tasks, shown[i].name, counts[shown[i].state]);
    json_t *json = json_object();
    put_text(json, "jid", id_format(job->id).hex);
    put_text(json, "name", job->graph->name);
    put_int(json, "start-time", job->start_ms);
    put_int(json, "end-time", job->end_ms);
    put_int(json, "duration", (job->end_ms >= 0 ? job->end_ms : now_ms) - job->start_ms);
    put_text(json, "state", job_state_name(job->state));
    put_int(json, "last-modification", last_modification_ms(job));
    put_json(json, "tasks", tasks);
    if (has_new_members)
        put_int(json, "pending-operators", 0); /* a job's graph is complete when it starts */
    return json;
}

/* ---- failures ---- */

json_t *view_failure_cause(const char *class_name, const char *lines)
{
    json_t *json = json_object();
    put_text(json, "class", class_name);
    put_text(json, "stack-trace", lines);
    char *object = java_throwable_base64(class_name, lines);
    put_text(json, "serialized-throwable", object);
    free(object);
    return json;
}
