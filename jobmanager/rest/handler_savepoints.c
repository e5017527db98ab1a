/* Operations that run in the background and are polled: savepoints, stops, checkpoints on demand, disposals.
 * Thread: the loop. */
#include "common/base/heap.h"
#include "common/base/local_path.h"
#include "common/fs/fs.h"
#include "jobmanager/checkpoint_files.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"
#include "jobmanager/rest/views.h"

#include <stdlib.h>
#include <string.h>

#define EX_CHECKPOINT "org.apache.flink.runtime.checkpoint.CheckpointException"
#define SAVEPOINT_BODY "SavepointTriggerRequestBody"
#define STOP_BODY "StopWithSavepointRequestBody"
#define CHECKPOINT_BODY "CheckpointTriggerRequestBody"
#define DISPOSAL_BODY "SavepointDisposalRequest"

static void reply_request_id(struct rest_request *request, struct id trigger_id)
{
    json_t *json = json_object();
    put_text(json, "request-id", id_format(trigger_id).hex);
    rest_reply_json(request, 202, json);
}

/* The client's trigger id, or a new one. False: answered. */
static bool trigger_id_of(struct rest_request *request, const char *format, json_t *body, struct id *out)
{
    const char *text = NULL;
    if (!rest_member_text(request, format, body, "triggerId", &text))
        return false;
    if (text == NULL) {
        *out = id_random();
        return true;
    }
    if (id_parse(text, out))
        return true;
    rest_reply_error(request, 400, EX_REST ": Request did not match expected format %s.\nCaused by: triggerId is no id of 32 hex digits: %s\n",
                     format, text);
    return false;
}

static bool is_format_known(struct rest_request *request, const char *format_name, const char *type)
{
    static const char *const known[] = {"CANONICAL", "NATIVE", "DEFAULT"};
    for (size_t i = 0; type != NULL && i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(type, known[i]) == 0)
            return true;
    }
    if (type == NULL)
        return true;
    rest_reply_error(request, 400, EX_REST ": Request did not match expected format %s.\nCaused by: formatType is none of CANONICAL, "
                                   "NATIVE, DEFAULT: %s\n",
                     format_name, type);
    return false;
}

struct triggering {
    struct jobmanager *jobmanager;
    struct id job, trigger_id;
    enum checkpoint_kind kind;
    char *directory; /* NULL: the job's own */
    bool cancel_job;
};

static struct error *make_target(void *argument)
{
    struct triggering *triggering = argument;
    char *path = NULL;
    TRY(local_path_absolute(triggering->directory, &path));
    free(triggering->directory);
    triggering->directory = path;
    return fs_make_directories(path);
}

/* Takes err and argument. */
static void on_target_made(struct error *err, void *argument)
{
    struct triggering *triggering = argument;
    struct jobmanager *jobmanager = triggering->jobmanager;
    struct operation *operation = operations_find(&jobmanager->operations, triggering->trigger_id);
    if (err != NULL && operation != NULL) {
        char *causes = rest_error_lines(err);
        char *lines = heap_printf(EX_CHECKPOINT ": An Exception occurred while triggering the checkpoint. IO-problem detected.\n"
                                  "Caused by: java.io.IOException: Failed to create savepoint directory at %s\nCaused by: %s",
                                  triggering->directory, causes);
        operation_finish(operation, jobmanager_now_ms(jobmanager), 0, NULL, EX_CHECKPOINT, lines);
        free(lines);
        free(causes);
    } else if (err == NULL) {
        struct event event = {.kind = EVENT_TRIGGER,
                              .trigger = {.job = triggering->job,
                                          .trigger_id = triggering->trigger_id,
                                          .kind = triggering->kind,
                                          .directory = triggering->directory,
                                          .cancel_job = triggering->cancel_job}};
        jobmanager_handle(jobmanager, &event);
    }
    error_free(err);
    free(triggering->directory);
    free(triggering);
}

/* Starts the operation unless the trigger id is known already (a repeated request), and answers with the id. */
static void trigger(struct jobmanager *jobmanager, struct rest_request *request, struct id job, struct id trigger_id,
                    enum checkpoint_kind kind, const char *directory, bool cancel_job)
{
    if (operations_find(&jobmanager->operations, trigger_id) == NULL) {
        enum operation_kind operation_kind = kind == CHECKPOINT_KIND_CHECKPOINT ? OPERATION_CHECKPOINT : OPERATION_SAVEPOINT;
        operations_start(&jobmanager->operations, trigger_id, job, operation_kind, jobmanager_now_ms(jobmanager));
        struct triggering *triggering = heap_new(struct triggering);
        *triggering = (struct triggering){jobmanager, job, trigger_id, kind, directory != NULL ? heap_strdup(directory) : NULL,
                                          cancel_job};
        const struct job *known = coordinator_job(jobmanager->coordinator, job);
        if (directory != NULL && known != NULL && !job_state_is_terminal(known->state))
            jobmanager_work(jobmanager, make_target, on_target_made, triggering);
        else
            on_target_made(NULL, triggering);
    }
    reply_request_id(request, trigger_id);
}

/* False: there is no directory to write to, and the 400 is on its way. */
static bool has_directory(struct jobmanager *jobmanager, struct rest_request *request, struct id id, const char *directory, const char *property)
{
    const struct job *job = coordinator_job(jobmanager->coordinator, id);
    if (directory != NULL || config_text(jobmanager->config, OPTION_SAVEPOINT_DIR)[0] != '\0' ||
        (job != NULL && job->settings.savepoint_directory != NULL))
        return true;
    rest_reply_error(request, 400, EX_REST ": Config key [%s] is not set. Property [%s] must be provided.\n", option_key(OPTION_SAVEPOINT_DIR),
                     property);
    return false;
}

void handle_savepoint_trigger(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id job, trigger_id;
    json_t *body;
    bool cancel_job = false;
    const char *directory = NULL, *format = NULL;
    if (!rest_path_id(request, "jobid", &job) || !rest_body_json(request, SAVEPOINT_BODY, &body))
        return;
    if (rest_member_bool(request, SAVEPOINT_BODY, body, "cancel-job", &cancel_job) &&
        rest_member_text(request, SAVEPOINT_BODY, body, "target-directory", &directory) &&
        rest_member_text(request, SAVEPOINT_BODY, body, "formatType", &format) && is_format_known(request, SAVEPOINT_BODY, format) &&
        has_directory(jobmanager, request, job, directory, "target-directory") && trigger_id_of(request, SAVEPOINT_BODY, body, &trigger_id))
        trigger(jobmanager, request, job, trigger_id, CHECKPOINT_KIND_SAVEPOINT, directory, cancel_job);
    json_decref(body);
}

void handle_job_stop(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id job, trigger_id;
    json_t *body;
    bool drain = false;
    const char *directory = NULL, *format = NULL;
    if (!rest_path_id(request, "jobid", &job) || !rest_body_json(request, STOP_BODY, &body))
        return;
    if (rest_member_bool(request, STOP_BODY, body, "drain", &drain) &&
        rest_member_text(request, STOP_BODY, body, "targetDirectory", &directory) &&
        rest_member_text(request, STOP_BODY, body, "formatType", &format) && is_format_known(request, STOP_BODY, format) &&
        has_directory(jobmanager, request, job, directory, "targetDirectory") && trigger_id_of(request, STOP_BODY, body, &trigger_id))
        trigger(jobmanager, request, job, trigger_id, drain ? CHECKPOINT_KIND_DRAIN : CHECKPOINT_KIND_STOP, directory, false);
    json_decref(body);
}

void handle_checkpoint_trigger(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id job, trigger_id;
    json_t *body;
    const char *type = NULL;
    if (!rest_path_id(request, "jobid", &job) || !rest_body_json(request, CHECKPOINT_BODY, &body))
        return;
    if (rest_member_text(request, CHECKPOINT_BODY, body, "checkpointType", &type) && trigger_id_of(request, CHECKPOINT_BODY, body, &trigger_id)) {
        if (type != NULL && strcmp(type, "CONFIGURED") != 0 && strcmp(type, "FULL") != 0 && strcmp(type, "INCREMENTAL") != 0)
            rest_reply_error(request, 400,
                             EX_REST ": Request did not match expected format " CHECKPOINT_BODY
                                     ".\nCaused by: checkpointType is none of CONFIGURED, FULL, INCREMENTAL: %s\n",
                             type);
        else
            trigger(jobmanager, request, job, trigger_id, CHECKPOINT_KIND_CHECKPOINT, NULL, false);
    }
    json_decref(body);
}

/* ---- polling ---- */

static json_t *failure_of(const struct operation *operation)
{
    if (operation->kind == OPERATION_DISPOSAL) {
        char *lines = heap_printf("%s\n", operation->error_lines);
        json_t *json = view_failure_cause(operation->error_class, lines);
        free(lines);
        return json;
    }
    /* Flink wraps what its asynchronous calls throw. */
    const char *first_end = strchr(operation->error_lines, '\n');
    size_t first = first_end != NULL ? (size_t)(first_end - operation->error_lines) : strlen(operation->error_lines);
    char *lines = heap_printf(EX_COMPLETION ": %.*s\nCaused by: %s\n", (int)first, operation->error_lines, operation->error_lines);
    json_t *json = view_failure_cause(EX_COMPLETION, lines);
    free(lines);
    return json;
}

static void reply_operation(struct rest_request *request, const struct operation *operation)
{
    bool is_done = operation->finished_ms >= 0;
    json_t *json = json_object();
    put_json(json, "status", json_pack("{s:s}", "id", is_done ? "COMPLETED" : "IN_PROGRESS"));
    if (!is_done) {
        put_json(json, "operation", json_null());
        rest_reply_json(request, 200, json);
        return;
    }
    json_t *result = json_object();
    /* CheckpointInfo spells its members otherwise than SavepointInfo does, and Flink's client waits until it finds them. */
    if (operation->error_class != NULL)
        put_json(result, operation->kind == OPERATION_CHECKPOINT ? "failureCause" : "failure-cause", failure_of(operation));
    else if (operation->kind == OPERATION_SAVEPOINT)
        put_json(result, "location", json_sprintf("file:%s", operation->location != NULL ? operation->location : ""));
    else if (operation->kind == OPERATION_CHECKPOINT)
        put_int(result, "checkpointId", (int64_t)operation->checkpoint);
    put_json(json, "operation", result);
    rest_reply_json(request, 200, json);
}

static void reply_status(struct jobmanager *jobmanager, struct rest_request *request, enum operation_kind kind, const char *noun)
{
    struct id job, trigger_id;
    if (!rest_path_id(request, "jobid", &job) || !rest_path_id(request, "triggerid", &trigger_id))
        return;
    const struct operation *operation = operations_find(&jobmanager->operations, trigger_id);
    if (operation == NULL || operation->kind != kind || !id_equals(operation->job, job))
        rest_reply_error(request, 404, EX_REST ": There is no %s operation with triggerId=%s for job %s.\n", noun, id_format(trigger_id).hex,
                         id_format(job).hex);
    else
        reply_operation(request, operation);
}

void handle_savepoint_status(struct jobmanager *jobmanager, struct rest_request *request)
{
    reply_status(jobmanager, request, OPERATION_SAVEPOINT, "savepoint");
}

void handle_checkpoint_status(struct jobmanager *jobmanager, struct rest_request *request)
{
    reply_status(jobmanager, request, OPERATION_CHECKPOINT, "checkpoint");
}

/* ---- disposal ---- */

void handle_savepoint_disposal(struct jobmanager *jobmanager, struct rest_request *request)
{
    json_t *body;
    const char *path = NULL;
    if (!rest_body_json(request, DISPOSAL_BODY, &body))
        return;
    if (rest_member_text(request, DISPOSAL_BODY, body, "savepoint-path", &path)) {
        if (path == NULL || path[0] == '\0') {
            rest_reply_error(request, 400, EX_REST ": Field savepoint-path must not be omitted or be null.\n");
        } else {
            struct id trigger_id = id_random();
            struct id no_job = {0};
            struct operation *operation =
                operations_start(&jobmanager->operations, trigger_id, no_job, OPERATION_DISPOSAL, jobmanager_now_ms(jobmanager));
            operation->path = heap_strdup(path);
            checkpoint_files_dispose(jobmanager, trigger_id, path);
            json_t *json = json_object();
            put_text(json, "request-id", id_format(trigger_id).hex);
            rest_reply_json(request, 200, json);
        }
    }
    json_decref(body);
}

void handle_savepoint_disposal_status(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id trigger_id;
    if (!rest_path_id(request, "triggerid", &trigger_id))
        return;
    const struct operation *operation = operations_find(&jobmanager->operations, trigger_id);
    if (operation == NULL || operation->kind != OPERATION_DISPOSAL)
        rest_reply_error(request, 404, EX_NOT_FOUND ": Operation not found under key: %s\n", id_format(trigger_id).hex);
    else
        reply_operation(request, operation);
}
