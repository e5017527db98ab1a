/* One job: /jobs/:jobid and what it shows of the job as a whole; cancelling it. Thread: the loop. */
#include "common/base/heap.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"
#include "jobmanager/rest/views.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- /jobs/:jobid ---- */

static void vertex_span(const struct job_task_vertex *vertex, int64_t now_ms, struct view_span *out)
{
    enum execution_state state = coordinator_vertex_state(vertex);
    bool is_ended = execution_state_is_terminal(state);
    *out = (struct view_span){-1, -1, -1};
    for (uint32_t i = 0; i < vertex->parallelism; i++) {
        struct view_span span = view_execution_span(vertex->subtasks[i].current, now_ms);
        if (span.start_ms >= 0 && (out->start_ms < 0 || span.start_ms < out->start_ms))
            out->start_ms = span.start_ms;
        if (is_ended && span.end_ms > out->end_ms)
            out->end_ms = span.end_ms;
    }
    if (out->start_ms >= 0)
        out->duration_ms = (out->end_ms >= 0 ? out->end_ms : now_ms) - out->start_ms;
}

static json_t *job_vertex(const struct job_task_vertex *vertex, int64_t now_ms)
{
    const struct job *job = vertex->job;
    const struct job_vertex *planned = &job->graph->vertices[vertex->index];
    const struct execution **executions = heap_alloc_array(vertex->parallelism + 1, sizeof *executions);
    for (uint32_t i = 0; i < vertex->parallelism; i++)
        executions[i] = vertex->subtasks[i].current;
    struct view_span span;
    vertex_span(vertex, now_ms, &span);
    json_t *json = json_object();
    put_text(json, "id", id_format(planned->id).hex);
    put_text(json, "slotSharingGroupId", id_format(job->slot_groups[vertex->slot_group].id).hex);
    put_text(json, "name", planned->name);
    put_int(json, "maxParallelism", planned->max_parallelism);
    put_int(json, "parallelism", vertex->parallelism);
    put_text(json, "status", execution_state_name(coordinator_vertex_state(vertex)));
    put_int(json, "start-time", span.start_ms);
    put_int(json, "end-time", span.end_ms);
    put_int(json, "duration", span.duration_ms);
    put_json(json, "tasks", view_state_counts(vertex->state_counts));
    put_json(json, "metrics", view_io_metrics(executions, vertex->parallelism));
    free(executions);
    return json;
}

static void put_vertices(json_t *json, const struct job *job, int64_t now_ms)
{
    uint32_t status_counts[EXECUTION_STATE_COUNT] = {0};
    json_t *vertices = json_array();
    for (uint32_t i = 0; job->vertices != NULL && i < job->graph->vertex_count; i++) {
        json_array_append_new(vertices, job_vertex(&job->vertices[i], now_ms));
        status_counts[coordinator_vertex_state(&job->vertices[i])]++;
    }
    put_json(json, "vertices", vertices);
    put_json(json, "status-counts", view_state_counts(status_counts));
    put_json(json, "plan", job->vertices != NULL ? job_graph_plan_json(job->graph) : json_object());
}

void handle_job(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct job *job = view_job(jobmanager, request);
    if (job == NULL)
        return;
    int64_t now_ms = jobmanager_now_ms(jobmanager);
    json_t *timestamps = json_object();
    for (int state = 0; state < JOB_STATE_COUNT; state++) {
        int64_t at = job->timestamps[state];
        put_int(timestamps, job_state_name((enum job_state)state), at > 0 ? at : 0);
    }
    json_t *json = json_object();
    put_text(json, "jid", id_format(job->id).hex);
    put_text(json, "name", job->graph->name);
    put_bool(json, "isStoppable", false);
    put_text(json, "state", job_state_name(job->state));
    put_text(json, "job-type", "STREAMING");
    put_int(json, "start-time", job->start_ms);
    put_int(json, "end-time", job->end_ms);
    put_int(json, "duration", (job->end_ms >= 0 ? job->end_ms : now_ms) - job->start_ms);
    put_int(json, "maxParallelism", -1);
    put_int(json, "now", now_ms);
    put_json(json, "timestamps", timestamps);
    put_vertices(json, job, now_ms);
    /* Millrace's own: whether the books of every completed checkpoint balanced. */
    put_bool(json, "booksBalance", job->books_balance);
    rest_reply_json(request, 200, json);
}

/* ---- what belongs to it ---- */

void handle_job_status(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (!rest_path_id(request, "jobid", &id))
        return;
    const struct job *job = coordinator_job(jobmanager->coordinator, id);
    if (job == NULL) {
        rest_reply_internal(request, EX_NO_JOB ": Could not find Flink job (%s)", id_format(id).hex);
        return;
    }
    json_t *json = json_object();
    put_text(json, "status", job_state_name(job->state));
    rest_reply_json(request, 200, json);
}

/* Malloced. Only a program that chose a strategy shows it. */
static char *job_restart_text(const struct job *job)
{
    bool is_own = json_object_get(job->graph->config, "restart-strategy.type") != NULL ||
                  json_object_get(job->graph->config, "restart-strategy") != NULL;
    return is_own ? restart_strategy_text(&job->settings.restart) : heap_strdup("Cluster level default restart strategy");
}

static uint32_t job_parallelism(const struct job *job)
{
    uint32_t parallelism = 1;
    for (uint32_t i = 0; i < job->graph->vertex_count; i++)
        parallelism = job->graph->vertices[i].parallelism > parallelism ? job->graph->vertices[i].parallelism : parallelism;
    return parallelism;
}

/* "k1:v1,k2:v2" of pipeline.global-job-parameters. */
static json_t *user_config(const struct job *job)
{
    json_t *json = json_object();
    const char *text = json_string_value(json_object_get(job->graph->config, "pipeline.global-job-parameters"));
    while (text != NULL && *text != '\0') {
        size_t length = strcspn(text, ",");
        const char *colon = memchr(text, ':', length);
        if (colon != NULL) {
            char *key = heap_strndup(text, (size_t)(colon - text));
            char *value = heap_strndup(colon + 1, length - (size_t)(colon + 1 - text));
            put_text(json, key, config_is_secret(key) ? CONFIG_SECRET_SHOWN : value);
            free(key);
            free(value);
        }
        text += length + (text[length] == ',');
    }
    return json;
}

void handle_job_config(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct job *job = view_job(jobmanager, request);
    if (job == NULL)
        return;
    json_t *execution = json_object();
    char *restart = job_restart_text(job);
    put_text(execution, "execution-mode", "PIPELINED");
    put_text(execution, "restart-strategy", restart);
    free(restart);
    put_int(execution, "job-parallelism", job_parallelism(job));
    put_bool(execution, "object-reuse-mode", config_bool(jobmanager->config, OPTION_PIPELINE_OBJECT_REUSE));
    put_json(execution, "user-config", user_config(job));
    json_t *json = json_object();
    put_text(json, "jid", id_format(job->id).hex);
    put_text(json, "name", job->graph->name);
    put_json(json, "execution-config", execution);
    rest_reply_json(request, 200, json);
}

void handle_job_plan(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct job *job = view_job(jobmanager, request);
    if (job == NULL)
        return;
    json_t *json = json_object();
    put_json(json, "plan", job_graph_plan_json(job->graph));
    rest_reply_json(request, 200, json);
}

void handle_job_accumulators(struct jobmanager *jobmanager, struct rest_request *request)
{
    if (view_job(jobmanager, request) == NULL)
        return;
    json_t *json = json_object();
    put_json(json, "job-accumulators", json_array());
    put_json(json, "user-task-accumulators", json_array());
    put_json(json, "serialized-user-task-accumulators", json_object());
    rest_reply_json(request, 200, json);
}

/* ---- exceptions and results ---- */

static json_t *exception_entry(const struct exception_entry *entry)
{
    char *lines = heap_printf("%s\n", entry->text);
    json_t *json = json_object();
    put_text(json, "exceptionName", entry->name);
    put_text(json, "stacktrace", lines);
    put_int(json, "timestamp", entry->timestamp_ms);
    put_json(json, "failureLabels", json_object());
    if (entry->task_name != NULL) {
        put_text(json, "taskName", entry->task_name);
        put_text(json, "location", entry->location != NULL ? entry->location : "(unassigned)");
        put_text(json, "endpoint", entry->location != NULL ? entry->location : "(unassigned)");
        put_text(json, "taskManagerId", entry->taskmanager_id != NULL ? entry->taskmanager_id : "(unassigned)");
    }
    put_json(json, "concurrentExceptions", json_array());
    free(lines);
    return json;
}

/* maxExceptions; false: the answer 400 is on its way. */
static bool exceptions_wanted(struct rest_request *request, size_t *out)
{
    const char *text = rest_query_param(request, "maxExceptions");
    if (text == NULL)
        return true;
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0') {
        rest_reply_bad_query(request, "maxExceptions", text);
        return false;
    }
    if (value > 0)
        *out = (size_t)value;
    return true;
}

void handle_job_exceptions(struct jobmanager *jobmanager, struct rest_request *request)
{
    size_t wanted = 20;
    const struct job *job = view_job(jobmanager, request);
    if (job == NULL || !exceptions_wanted(request, &wanted))
        return;
    size_t count = job->exceptions.count;
    json_t *entries = json_array();
    for (size_t i = 0; i < count && i < wanted; i++)
        json_array_append_new(entries, exception_entry(&job->exceptions.items[count - 1 - i]));
    json_t *history = json_object();
    put_json(history, "entries", entries);
    put_bool(history, "truncated", count > wanted);
    json_t *json = json_object();
    const struct exception_entry *root = count > 0 ? &job->exceptions.items[count - 1] : NULL;
    char *lines = root != NULL ? heap_printf("%s\n", root->text) : NULL;
    put_text(json, "root-exception", lines);
    put_json(json, "timestamp", root != NULL ? json_integer(root->timestamp_ms) : json_null());
    put_json(json, "all-exceptions", json_array());
    put_bool(json, "truncated", false);
    put_json(json, "exceptionHistory", history);
    free(lines);
    rest_reply_json(request, 200, json);
}

static const char *application_status(enum job_state state)
{
    if (state == JOB_FINISHED)
        return "SUCCEEDED";
    return state == JOB_CANCELED ? "CANCELED" : state == JOB_FAILED ? "FAILED" : "UNKNOWN";
}

void handle_job_execution_result(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (!rest_path_id(request, "jobid", &id))
        return;
    const struct job *job = coordinator_job(jobmanager->coordinator, id);
    if (job == NULL) {
        struct id_text hex = id_format(id);
        rest_reply_error(request, 404,
                         EX_REST ": " EX_NO_JOB ": Could not find Flink job (%s)\nCaused by: " EX_COMPLETION ": " EX_NO_JOB
                                 ": Could not find Flink job (%s)\nCaused by: " EX_NO_JOB ": Could not find Flink job (%s)\n",
                         hex.hex, hex.hex, hex.hex);
        return;
    }
    bool is_ended = job_state_is_terminal(job->state);
    json_t *json = json_object();
    put_json(json, "status", json_pack("{s:s}", "id", is_ended ? "COMPLETED" : "IN_PROGRESS"));
    if (is_ended) {
        json_t *result = json_object();
        put_text(result, "id", id_format(job->id).hex);
        put_text(result, "application-status", application_status(job->state));
        put_json(result, "accumulator-results", json_object());
        put_int(result, "net-runtime", job->end_ms - job->start_ms);
        if (job->failure != NULL)
            put_json(result, "failure-cause", view_failure_cause(job->failure_class, job->failure));
        put_json(json, "job-execution-result", result);
    }
    rest_reply_json(request, 200, json);
}

/* ---- cancelling ---- */

static void cancel(struct jobmanager *jobmanager, struct job *job)
{
    struct event event = {.kind = EVENT_JOB_CANCEL, .job_cancel = {.job = job->id}};
    jobmanager_handle(jobmanager, &event);
}

static void reply_cancel(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (!rest_path_id(request, "jobid", &id))
        return;
    struct job *job = coordinator_job(jobmanager->coordinator, id);
    if (job == NULL) {
        rest_reply_error(request, 404, EX_REST ": Job could not be found.\nCaused by: " EX_NO_JOB ": Could not find Flink job (%s)\n",
                         id_format(id).hex);
    } else if (job->state == JOB_FINISHED || job->state == JOB_FAILED) {
        rest_reply_error(request, 409,
                         EX_REST ": Job cancellation failed because the job has already reached another terminal state (%s).\n",
                         job_state_name(job->state));
    } else {
        if (job->state != JOB_CANCELED)
            cancel(jobmanager, job);
        rest_reply_json(request, 202, json_object());
    }
}

void handle_job_cancel(struct jobmanager *jobmanager, struct rest_request *request)
{
    const char *mode = rest_query_param(request, "mode");
    if (mode == NULL || strcasecmp(mode, "cancel") == 0)
        reply_cancel(jobmanager, request);
    else if (strcasecmp(mode, "stop") == 0)
        rest_reply_error(request, 308,
                         EX_REST ": The termination mode \"stop\" has been removed. For an ungraceful shutdown, please use \"cancel\" "
                                 "instead. For a graceful shutdown, please use \"jobs/:jobId/stop\" instead.\n");
    else
        rest_reply_bad_query(request, "mode", mode);
}

/* The dashboard's way: a GET, and a job that has ended is no error. */
void handle_job_yarn_cancel(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (!rest_path_id(request, "jobid", &id))
        return;
    struct job *job = coordinator_job(jobmanager->coordinator, id);
    if (job == NULL || !job_state_is_terminal(job->state)) {
        reply_cancel(jobmanager, request);
        return;
    }
    rest_reply_json(request, 202, json_object());
}

/* ---- what Millrace does not do, in Flink's words ---- */

void handle_job_resource_requirements(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (!rest_path_id(request, "jobid", &id))
        return;
    if (coordinator_job(jobmanager->coordinator, id) == NULL)
        rest_reply_internal(request, EX_NO_JOB ": Could not find Flink job (%s)", id_format(id).hex);
    else
        rest_reply_internal(request, "java.lang.UnsupportedOperationException: The DefaultScheduler does not support changing the "
                                     "parallelism without a job restart. This feature is currently only expected to work with the "
                                     "AdaptiveScheduler.");
}

void handle_job_resource_requirements_put(struct jobmanager *jobmanager, struct rest_request *request)
{
    json_t *body;
    const struct job *job = view_job(jobmanager, request);
    if (job == NULL || !rest_body_json(request, "JobResourceRequirementsBody", &body))
        return;
    struct str_buf missing = {0};
    for (uint32_t i = job->graph->vertex_count; i > 0; i--) {
        struct id_text hex = id_format(job->graph->vertices[i - 1].id);
        if (json_object_get(body, hex.hex) == NULL)
            str_buf_printf(&missing, "%sThe request is incomplete, missing job vertex [%s] resource requirements.",
                           missing.length > 0 ? "\n" : "", hex.hex);
    }
    json_decref(body);
    if (missing.length > 0)
        rest_reply_error(request, 400, EX_REST ": %s\n", missing.text);
    else
        handle_job_resource_requirements(jobmanager, request);
    str_buf_finish(&missing);
}

void handle_job_rescaling(struct jobmanager *jobmanager, struct rest_request *request)
{
    (void)jobmanager;
    rest_reply_error(request, 503, EX_REST ": Rescaling is temporarily disabled. See FLINK-12312.\n");
}

void handle_job_submit_refused(struct jobmanager *jobmanager, struct rest_request *request)
{
    (void)jobmanager;
    rest_reply_error(request, 400,
                     EX_REST ": Serialized Java job graphs cannot run here: this is Millrace, whose programs are shared objects. Start one with "
                             "its own command line (flink run program.so), or with POST /jars/upload and POST /jars/:jarid/run.\n");
}
