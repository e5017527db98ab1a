/* Messages from and to taskmanagers (taskmanager_link.h). Thread: the loop. Owner of a struct taskmanager_link: the
 * jobmanager's table, until the connection reports its end. */
#include "jobmanager/taskmanager_link.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/loop/loop.h"
#include "jobmanager/job_metrics.h"
#include "jobmanager/taskmanager_admission.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOGGER "ResourceManager"
#define FILE_TIMEOUT_MS 10000
/* The agent passes it on to the runner, with a few members more. */
#define DEPLOY_BYTES_MAX (FRAME_BODY_BYTES_CONTROL - (1u << 20))

/* ---- files of a taskmanager ---- */

struct file_request {
    struct file_request *next;
    struct taskmanager_link *link;
    int64_t number;
    struct loop_timer *timer;
    file_done *done;
    void *argument;
};

/* Takes the request out of its link's list. */
static void file_request_finish(struct file_request *request, struct error *err, const json_t *header, const uint8_t *bytes, size_t length)
{
    struct file_request **slot = &request->link->files;
    while (*slot != request)
        slot = &(*slot)->next;
    *slot = request->next;
    loop_timer_stop(&request->timer);
    request->done(err, header, bytes, length, request->argument);
    free(request);
}

static void on_file_timeout(void *argument)
{
    struct file_request *request = argument;
    file_request_finish(request, error_new(TIMEOUT, "taskmanager %s did not answer within 10 s", request->link->taskmanager), NULL, NULL, 0);
}

static struct taskmanager_link *link_of(const struct jobmanager *jobmanager, uint64_t connection)
{
    return hash_map_get(&jobmanager->links, &connection, sizeof connection);
}

void taskmanager_link_get_file(struct jobmanager *jobmanager, const struct taskmanager *taskmanager, const char *kind, const char *name,
                               file_done *done, void *argument)
{
    struct taskmanager_link *link = link_of(jobmanager, taskmanager->connection);
    if (link == NULL || link->is_closed) {
        done(error_new(TASK_LOST, "taskmanager %s is not connected", taskmanager->id), NULL, NULL, 0, argument);
        return;
    }
    struct file_request *request = heap_new(struct file_request);
    request->link = link;
    request->number = ++jobmanager->next_file_request;
    request->done = done;
    request->argument = argument;
    request->next = link->files;
    link->files = request;
    request->timer = loop_timer_start(jobmanager->loop, FILE_TIMEOUT_MS, 0, on_file_timeout, request);
    json_t *message = json_pack("{s:I,s:s,s:s*}", "request", (json_int_t)request->number, "kind", kind, "name", name);
    rpc_conn_send_json(link->conn, MESSAGE_FILE_GET, message);
    json_decref(message);
}

static struct error *on_file(struct taskmanager_link *link, struct frame *frame)
{
    json_t *header;
    const uint8_t *bytes;
    size_t length;
    TRY(message_parse_headed(frame->type, frame->body, frame->length, &header, &bytes, &length));
    int64_t number = message_int(header, "request");
    for (struct file_request *request = link->files; request != NULL; request = request->next) {
        if (request->number != number)
            continue;
        const json_t *error = json_object_get(header, "error");
        file_request_finish(request, error != NULL ? message_error_from_json(error) : NULL, header, bytes, length);
        break;
    }
    json_decref(header);
    return NULL;
}

/* ---- blobs ---- */

struct blob_work {
    struct jobmanager *jobmanager;
    uint64_t connection;
    char *sha256;
    char *path; /* NULL: nobody holds it */
    uint8_t *bytes;
    size_t length;
};

static struct error *blob_read(void *argument)
{
    struct blob_work *work = argument;
    if (work->path == NULL)
        return error_new(NOT_FOUND, "no running job uses the program %s", work->sha256);
    int fd = open(work->path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0)
        return error_errno(errno, "could not open the program %s", work->path);
    if (fstat(fd, &status) != 0 || status.st_size < 0) {
        close(fd);
        return error_new(IO, "could not read the program %s", work->path);
    }
    work->bytes = heap_alloc((size_t)status.st_size + 1);
    while (work->length < (size_t)status.st_size) {
        ssize_t count = read(fd, work->bytes + work->length, (size_t)status.st_size - work->length);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            break;
        work->length += (size_t)count;
    }
    close(fd);
    if (work->length < (size_t)status.st_size)
        return error_new(IO, "could not read the program %s", work->path);
    return NULL;
}

static void blob_done(struct error *err, void *argument)
{
    struct blob_work *work = argument;
    struct taskmanager_link *link = link_of(work->jobmanager, work->connection);
    if (link != NULL && !link->is_closed) {
        json_t *header = json_pack("{s:s,s:o*}", "sha256", work->sha256, "error", err != NULL ? message_error_to_json(err) : NULL);
        size_t length;
        char *body = message_encode_headed(MESSAGE_BLOB, header, work->bytes, err != NULL ? 0 : work->length, &length);
        rpc_conn_send_take(link->conn, MESSAGE_BLOB, body, length);
        json_decref(header);
    }
    error_free(err);
    free(work->bytes);
    free(work->path);
    free(work->sha256);
    free(work);
}

static void on_blob_get(struct taskmanager_link *link, const json_t *message)
{
    struct blob_work *work = heap_new(struct blob_work);
    work->jobmanager = link->jobmanager;
    work->connection = link->number;
    work->sha256 = heap_strdup(message_text(message, "sha256"));
    work->path = program_store_blob_path(link->jobmanager->programs, work->sha256);
    jobmanager_work(link->jobmanager, blob_read, blob_done, work);
}

/* ---- messages of a taskmanager ---- */

static struct error *on_register(struct taskmanager_link *link, const json_t *message)
{
    if (link->taskmanager != NULL)
        return NULL;
    TRY(taskmanager_admission_check(message));
    taskmanager_admission_end(link);
    link->taskmanager = heap_strdup(message_text(message, "tm"));
    struct event event = {.kind = EVENT_TASKMANAGER_REGISTERED,
                          .registered = {
                              .taskmanager = link->taskmanager,
                              .connection = link->number,
                              .host = message_text(message, "host"),
                              .data_port = (uint16_t)message_int(message, "data_port"),
                              .slot_count = (uint32_t)message_int(message, "slots"),
                              .pid = message_int(message, "pid"),
                              .cpu_cores = (uint32_t)message_int(message, "cpu_cores"),
                              .memory_bytes = (uint64_t)message_int(message, "memory_bytes"),
                              .version = message_text(message, "version"),
                          }};
    jobmanager_handle(link->jobmanager, &event);
    return NULL;
}

static void heartbeat_event(struct taskmanager_link *link)
{
    struct event event = {.kind = EVENT_TASKMANAGER_HEARTBEAT,
                          .taskmanager = {.taskmanager = link->taskmanager, .connection = link->number}};
    jobmanager_handle(link->jobmanager, &event);
}

static void on_heartbeat(struct taskmanager_link *link, const json_t *message)
{
    json_t *metrics = json_object_get(message, "metrics");
    if (metrics != NULL) {
        json_decref(link->metrics);
        link->metrics = json_incref(metrics);
    }
    heartbeat_event(link);
    if (link->is_closed)
        return;
    json_t *ack = json_pack("{s:I}", "seq", (json_int_t)message_int(message, "seq"));
    rpc_conn_send_json(link->conn, MESSAGE_HEARTBEAT_ACK, ack);
    json_decref(ack);
}

static bool has_code(const struct error *err, enum error_code code)
{
    for (; err != NULL; err = err->cause) {
        if (err->code == code)
            return true;
    }
    return false;
}

/* A task that could not be restored because a file is broken: the core must not choose that checkpoint again. */
static void report_damage(struct taskmanager_link *link, const json_t *message, const struct error *err)
{
    struct job *job = coordinator_job(link->jobmanager->coordinator, message_id(message, "job"));
    if (job == NULL || job->epoch != (uint64_t)message_int(message, "epoch") || job->restore_checkpoint_id == 0)
        return;
    struct execution *execution = coordinator_execution(job, message_text(message, "execution"));
    if (execution == NULL || execution->state == EXECUTION_RUNNING || execution_state_is_terminal(execution->state))
        return;
    char *reason = error_text(err);
    struct event event = {.kind = EVENT_CHECKPOINT_DAMAGED,
                          .damaged = {.job = job->id, .checkpoint = job->restore_checkpoint_id, .file = "a state file", .reason = reason}};
    jobmanager_handle(link->jobmanager, &event);
    free(reason);
}

static struct error *on_task_state(struct taskmanager_link *link, const json_t *message)
{
    enum execution_state state;
    if (!execution_state_from_name(message_text(message, "state"), &state))
        return error_new(PROTOCOL, "TASK_STATE names the unknown state %s", message_text(message, "state"));
    const json_t *error = json_object_get(message, "error");
    struct error *err = error != NULL ? message_error_from_json(error) : NULL;
    if (state == EXECUTION_FAILED && has_code(err, ERR_CORRUPT))
        report_damage(link, message, err);
    struct event event = {.kind = EVENT_TASK_STATE,
                          .task_state = {.taskmanager = link->taskmanager,
                                         .connection = link->number,
                                         .job = message_id(message, "job"),
                                         .epoch = (uint64_t)message_int(message, "epoch"),
                                         .execution = message_text(message, "execution"),
                                         .state = state,
                                         .error = err}};
    jobmanager_handle(link->jobmanager, &event);
    error_free(err);
    return NULL;
}

static void on_checkpoint_answer(struct taskmanager_link *link, const json_t *message, enum event_kind kind)
{
    const json_t *error = json_object_get(message, "error");
    struct error *err = error != NULL ? message_error_from_json(error) : NULL;
    struct event event = {.kind = kind,
                          .ack = {.taskmanager = link->taskmanager,
                                  .connection = link->number,
                                  .job = message_id(message, "job"),
                                  .epoch = (uint64_t)message_int(message, "epoch"),
                                  .checkpoint = (uint64_t)message_int(message, "checkpoint"),
                                  .execution = message_text(message, "execution"),
                                  .state = json_object_get(message, "state"),
                                  .books = json_object_get(message, "books"),
                                  .metrics = json_object_get(message, "metrics"),
                                  .is_finished = json_is_true(json_object_get(message, "is_finished")),
                                  .error = err}};
    jobmanager_handle(link->jobmanager, &event);
    error_free(err);
}

static void on_runner_gone(struct taskmanager_link *link, const json_t *message)
{
    struct event event = {.kind = EVENT_RUNNER_GONE,
                          .runner_gone = {.taskmanager = link->taskmanager,
                                          .connection = link->number,
                                          .job = message_id(message, "job"),
                                          .epoch = (uint64_t)message_int(message, "epoch")}};
    jobmanager_handle(link->jobmanager, &event);
}

static struct error *on_registered_message(struct taskmanager_link *link, uint16_t type, const json_t *message)
{
    if (type == MESSAGE_HEARTBEAT)
        on_heartbeat(link, message);
    else if (type == MESSAGE_TASK_STATE)
        TRY(on_task_state(link, message));
    else if (type == MESSAGE_CHECKPOINT_ACK)
        on_checkpoint_answer(link, message, EVENT_CHECKPOINT_ACK);
    else if (type == MESSAGE_CHECKPOINT_DECLINE)
        on_checkpoint_answer(link, message, EVENT_CHECKPOINT_DECLINE);
    else if (type == MESSAGE_METRICS)
        job_metrics_report(link->jobmanager, message);
    else if (type == MESSAGE_BLOB_GET)
        on_blob_get(link, message);
    else if (type == MESSAGE_GOODBYE)
        rpc_conn_close(link->conn, error_new(NETWORK, "the taskmanager shuts down: %s", message_text(message, "reason")));
    else if (type == MESSAGE_RUNNER_GONE)
        on_runner_gone(link, message);
    else if (type != MESSAGE_REGISTER)
        return error_new(PROTOCOL, "unexpected message %s from a taskmanager", message_type_name(type));
    return NULL;
}

static struct error *on_message(struct taskmanager_link *link, struct frame *frame)
{
    if (frame->type == MESSAGE_FILE)
        return on_file(link, frame);
    json_t *message;
    TRY(message_parse(frame->type, frame->body, frame->length, &message));
    struct error *err = NULL;
    if (frame->type == MESSAGE_REGISTER)
        err = on_register(link, message);
    else if (link->taskmanager == NULL)
        err = error_new(PROTOCOL, "%s came before REGISTER", message_type_name(frame->type));
    else
        err = on_registered_message(link, frame->type, message);
    json_decref(message);
    return err;
}

static void on_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    struct taskmanager_link *link = context;
    if (link->is_closed)
        return;
    struct error *err = on_message(link, frame);
    if (err != NULL)
        rpc_conn_close(conn, err);
}

/* ---- life of a connection ---- */

static void on_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    struct taskmanager_link *link = context;
    struct jobmanager *jobmanager = link->jobmanager;
    link->is_closed = true;
    taskmanager_admission_end(link);
    hash_map_remove(&jobmanager->links, &link->number, sizeof link->number);
    char *text = reason != NULL ? error_text(reason) : NULL;
    while (link->files != NULL)
        file_request_finish(link->files, error_new(TASK_LOST, "the connection to taskmanager %s closed", link->taskmanager), NULL, NULL, 0);
    if (link->taskmanager == NULL) {
        if (jobmanager->rpc_server != NULL)
            rpc_server_log_refused(jobmanager->rpc_server, rpc_conn_peer(conn), text != NULL ? text : "it did not register");
    } else if (!jobmanager->is_stopping) {
        log_info(LOGGER, "Connection of TaskManager %s closed: %s.", link->taskmanager, text != NULL ? text : "on our side");
        struct event event = {.kind = EVENT_TASKMANAGER_CLOSED,
                              .taskmanager = {.taskmanager = link->taskmanager, .connection = link->number, .reason = text}};
        jobmanager_handle(jobmanager, &event);
    }
    free(text);
    json_decref(link->metrics);
    free(link->taskmanager);
    free(link);
}

static const struct rpc_conn_handler handler = {.on_frame = on_frame, .on_close = on_close};

void taskmanager_link_accept(struct rpc_server *server, struct rpc_conn *conn, const json_t *hello, void *context)
{
    (void)server;
    struct jobmanager *jobmanager = context;
    const char *role = message_text(hello, "role");
    struct taskmanager_link *link = heap_new(struct taskmanager_link);
    link->jobmanager = jobmanager;
    link->conn = conn;
    link->number = ++jobmanager->next_connection;
    hash_map_put(&jobmanager->links, &link->number, sizeof link->number, link);
    rpc_conn_set_handler(conn, &handler, link);
    if (strcmp(role, "taskmanager") != 0)
        rpc_conn_close(conn, error_new(PROTOCOL, "it is no taskmanager by its role"));
    else if (jobmanager->is_stopping)
        rpc_conn_close(conn, error_new(NETWORK, "the jobmanager shuts down"));
    else
        taskmanager_admission_begin(link);
}

const json_t *taskmanager_link_metrics(const struct jobmanager *jobmanager, const struct taskmanager *taskmanager)
{
    struct taskmanager_link *link = link_of(jobmanager, taskmanager->connection);
    return link != NULL ? link->metrics : NULL;
}

void taskmanager_links_close(struct jobmanager *jobmanager)
{
    json_t *goodbye = json_pack("{s:s}", "reason", "the jobmanager shuts down");
    for (size_t i = 0; i < jobmanager->links.count; i++) {
        struct taskmanager_link *link = jobmanager->links.entries[i].value;
        while (link->files != NULL)
            file_request_finish(link->files, error_new(CANCELLED, "the jobmanager shuts down"), NULL, NULL, 0);
        rpc_conn_send_json(link->conn, MESSAGE_GOODBYE, goodbye);
        rpc_conn_finish(link->conn, NULL);
    }
    json_decref(goodbye);
}

/* ---- actions ---- */

static json_t *deploy_message(struct jobmanager *jobmanager, const struct action *action)
{
    struct job *job = coordinator_job(jobmanager->coordinator, action->job);
    if (job == NULL)
        return NULL;
    struct job_shell *shell = jobmanager_job_shell(job);
    json_t *library = job->graph->library.sha256 == NULL
                          ? NULL
                          : json_pack("{s:s,s:s}", "name", job->graph->library.name, "sha256", job->graph->library.sha256);
    return json_pack("{s:s,s:I,s:O,s:O,s:o*,s:O,s:O}", "job", id_format(action->job).hex, "epoch", (json_int_t)action->epoch, "graph",
                     shell->graph, "config", job->config, "library", library, "tasks", action->deploy.tasks, "peers",
                     action->deploy.peers);
}

static json_t *action_message(struct jobmanager *jobmanager, const struct action *action, uint16_t *type)
{
    const struct cluster_settings *settings = &jobmanager->coordinator->settings;
    struct id_text job = id_format(action->job);
    json_int_t epoch = (json_int_t)action->epoch;
    json_int_t checkpoint = (json_int_t)action->checkpoint;
    if (action->kind == ACTION_TASKMANAGER_ACCEPT) {
        *type = MESSAGE_REGISTERED;
        return json_pack("{s:I,s:I}", "heartbeat_interval_ms", (json_int_t)settings->heartbeat_interval_ms, "heartbeat_timeout_ms",
                         (json_int_t)settings->heartbeat_timeout_ms);
    }
    if (action->kind == ACTION_DEPLOY) {
        *type = MESSAGE_DEPLOY;
        return deploy_message(jobmanager, action);
    }
    if (action->kind == ACTION_CANCEL) {
        *type = MESSAGE_CANCEL;
        return json_pack("{s:s,s:I,s:s}", "job", job.hex, "epoch", epoch, "mode", action->cancel.is_kill ? "kill" : "graceful");
    }
    if (action->kind == ACTION_TRIGGER_CHECKPOINT) {
        *type = MESSAGE_TRIGGER_CHECKPOINT;
        return json_pack("{s:s,s:I,s:I,s:I,s:s,s:s,s:O}", "job", job.hex, "epoch", epoch, "checkpoint", checkpoint, "timestamp",
                         (json_int_t)action->trigger.timestamp, "directory", action->trigger.directory, "kind",
                         checkpoint_kind_name(action->trigger.kind), "executions", action->trigger.executions);
    }
    *type = action->kind == ACTION_CHECKPOINT_COMPLETE ? MESSAGE_CHECKPOINT_COMPLETE : MESSAGE_CHECKPOINT_ABORTED;
    return json_pack("{s:s,s:I,s:I}", "job", job.hex, "epoch", epoch, "checkpoint", checkpoint);
}

/* ---- a deployment that no message holds ---- */

struct refusal {
    struct jobmanager *jobmanager;
    char *taskmanager;
    char *execution;
    uint64_t connection;
    struct id job;
    uint64_t epoch;
    size_t length, task_count;
};

static struct error *refusal_reach_loop(void *argument)
{
    (void)argument;
    return NULL;
}

/* One failed task ends the attempt; the agent, asked to kill a runner that it never had, says that it is gone. */
static void refusal_report(struct error *err, void *argument)
{
    struct refusal *refusal = argument;
    error_free(err);
    err = error_with_hint(error_new(PROTOCOL, "the deployment of %zu tasks to taskmanager %s takes %zu MiB, and a message %u at most",
                                    refusal->task_count, refusal->taskmanager, refusal->length >> 20, DEPLOY_BYTES_MAX >> 20),
                          "give the job more taskmanagers with fewer slots each, or a lower parallelism");
    struct event event = {.kind = EVENT_TASK_STATE,
                          .task_state = {.taskmanager = refusal->taskmanager,
                                         .connection = refusal->connection,
                                         .job = refusal->job,
                                         .epoch = refusal->epoch,
                                         .execution = refusal->execution,
                                         .state = EXECUTION_FAILED,
                                         .error = err}};
    jobmanager_handle(refusal->jobmanager, &event);
    error_free(err);
    free(refusal->taskmanager);
    free(refusal->execution);
    free(refusal);
}

/* No action calls back into the core: by way of the pool. */
static void refuse_deploy(struct jobmanager *jobmanager, const struct action *action, size_t length)
{
    struct refusal *refusal = heap_new(struct refusal);
    *refusal = (struct refusal){
        .jobmanager = jobmanager,
        .taskmanager = heap_strdup(action->taskmanager),
        .execution = heap_strdup(message_text(json_array_get(action->deploy.tasks, 0), "execution")),
        .connection = action->connection,
        .job = action->job,
        .epoch = action->epoch,
        .length = length,
        .task_count = json_array_size(action->deploy.tasks),
    };
    jobmanager_work(jobmanager, refusal_reach_loop, refusal_report, refusal);
}

bool taskmanager_link_run(struct jobmanager *jobmanager, const struct action *action)
{
    struct taskmanager_link *link = link_of(jobmanager, action->connection);
    if (link == NULL || link->is_closed)
        return false;
    if (action->kind == ACTION_TASKMANAGER_CLOSE) {
        rpc_conn_close(link->conn, error_new(NETWORK, "the taskmanager was declared lost"));
        return true;
    }
    uint16_t type;
    json_t *message = action_message(jobmanager, action, &type);
    if (message == NULL)
        return false;
    size_t length;
    char *body = message_encode(type, message, &length);
    json_decref(message);
    if (action->kind == ACTION_DEPLOY && length > DEPLOY_BYTES_MAX) {
        refuse_deploy(jobmanager, action, length);
        free(body);
        return false;
    }
    return rpc_conn_send_take(link->conn, type, body, length);
}
