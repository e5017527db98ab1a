/* One task-runner process: started for the first DEPLOY of a job's epoch, fed with frames, watched, killed, reaped, and its end
 * reported. Thread: the loop's. Owner: the agent's list; a runner frees itself once it is reaped and its pipes have ended. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "taskmanager/agent/agent_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    DRAIN_MS = 500,             /* a grandchild may hold the pipes open after the runner's exit */
    CRASH_BYTES_MAX = 64 << 10,
    READ_BYTES = 16 << 10,
};

/* ---- what the jobmanager is told ---- */

static json_t *runner_header(const struct runner *runner)
{
    return json_pack("{s:s,s:I}", "job", id_format(runner->job).hex, "epoch", (json_int_t)runner->epoch);
}

static void send_task_state(struct runner *runner, const char *execution, const char *state, const struct error *err)
{
    json_t *json = runner_header(runner);
    json_object_set_new(json, "execution", json_string(execution));
    json_object_set_new(json, "state", json_string(state));
    if (err != NULL)
        json_object_set_new(json, "error", message_error_to_json(err));
    agent_send(runner->agent, MESSAGE_TASK_STATE, json);
    json_decref(json);
}

/* The last word on every task that has none. err NULL: cancelled. */
static void report_end(struct runner *runner, const struct error *err)
{
    if (runner->is_silent)
        return;
    for (size_t i = 0; i < runner->tasks.count; i++) {
        struct runner_task *task = &runner->tasks.items[i];
        if (!task->is_final)
            send_task_state(runner, task->execution, err != NULL ? "FAILED" : "CANCELED", err);
        task->is_final = true;
    }
    json_t *gone = runner_header(runner);
    agent_send(runner->agent, MESSAGE_RUNNER_GONE, gone);
    json_decref(gone);
}

static bool is_all_final(const struct runner *runner)
{
    for (size_t i = 0; i < runner->tasks.count; i++)
        if (!runner->tasks.items[i].is_final)
            return false;
    return true;
}

/* ---- the end ---- */

static void runner_free(struct runner *runner)
{
    struct agent *agent = runner->agent;
    for (size_t i = 0; i < agent->runners.count; i++)
        if (agent->runners.items[i] == runner) {
            vec_remove(&agent->runners, i);
            break;
        }
    loop_timer_stop(&runner->kill_timer);
    loop_timer_stop(&runner->drain_timer);
    for (size_t i = 0; i < runner->tasks.count; i++)
        free(runner->tasks.items[i].execution);
    vec_finish(&runner->tasks);
    agent_metrics_runner_ended(runner);
    json_decref(runner->deploy);
    str_buf_finish(&runner->crash);
    str_buf_finish(&runner->err_line);
    free(runner->library_key);
    free(runner->kill_reason);
    error_free(runner->start_error);
    free(runner);
    agent_runner_gone(agent);
}

/* Reaped, and all it wrote is read. */
static void finish_if_ended(struct runner *runner)
{
    if (runner->state != RUNNER_EXITED || runner->has_process || runner->control != NULL || runner->crash_pipe != NULL ||
        runner->err_pipe != NULL)
        return;
    runner_output_end(runner);
    struct error *err = NULL;
    if (!is_all_final(runner) && !runner->is_cancelling) {
        err = runner->start_error;
        runner->start_error = NULL;
        if (err == NULL)
            err = runner_crash_error(str_buf_text(&runner->crash), runner->exit_status, runner->exit_signal, runner->kill_reason);
        log_error_chain(LOG_WARN, RUNNER_LOGGER, err, "Task runner of job %s, epoch %" PRId64 ", died.", id_format(runner->job).hex,
                        runner->epoch);
    } else {
        log_info(RUNNER_LOGGER, "Task runner of job %s, epoch %" PRId64 ", ended.", id_format(runner->job).hex, runner->epoch);
    }
    report_end(runner, err);
    error_free(err);
    runner_free(runner);
}

void runner_fail(struct runner *runner, struct error *err)
{
    log_error_chain(LOG_WARN, RUNNER_LOGGER, err, "Could not start the tasks of job %s, epoch %" PRId64 ".", id_format(runner->job).hex,
                    runner->epoch);
    report_end(runner, err);
    error_free(err);
    runner_free(runner);
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

static void close_pipe(uv_pipe_t **pipe)
{
    if (*pipe == NULL)
        return;
    uv_close((uv_handle_t *)*pipe, free_handle);
    *pipe = NULL;
}

static void on_drain_timer(void *argument)
{
    struct runner *runner = argument;
    close_pipe(&runner->crash_pipe);
    close_pipe(&runner->err_pipe);
    if (runner->control != NULL)
        rpc_conn_close(runner->control, NULL);
    finish_if_ended(runner);
}

static void on_process_closed(uv_handle_t *handle)
{
    struct runner *runner = handle->data;
    runner->has_process = false;
    finish_if_ended(runner);
}

static void note_exit(struct runner *runner, int64_t exit_status, int exit_signal)
{
    runner->state = RUNNER_EXITED;
    runner->exit_status = exit_status;
    runner->exit_signal = exit_signal;
    loop_timer_stop(&runner->kill_timer);
    runner->drain_timer = loop_timer_start(runner->agent->loop, DRAIN_MS, 0, on_drain_timer, runner);
}

static void on_exit_of_process(uv_process_t *process, int64_t exit_status, int term_signal)
{
    (void)kill(-process->pid, SIGKILL); /* what user code may have forked */
    uv_close((uv_handle_t *)process, on_process_closed);
    note_exit(process->data, exit_status, term_signal);
}

static void on_exit_of_hosted(void *argument, int64_t exit_status, int exit_signal)
{
    struct runner *runner = argument;
    runner->hosted = NULL;
    note_exit(runner, exit_status, exit_signal);
    finish_if_ended(runner);
}

/* ---- killing ---- */

void runner_kill(struct runner *runner, char *reason)
{
    if (runner->kill_reason == NULL)
        runner->kill_reason = reason;
    else
        free(reason);
    if (runner->kill_reason == NULL)
        runner->is_cancelling = true;
    if (runner->state == RUNNER_RUNNING && runner->hosted != NULL) {
        runner->agent->options.runner_host->kill(runner->agent->options.runner_host->context, runner->hosted);
    } else if (runner->state == RUNNER_RUNNING) {
        (void)kill(-runner->process.pid, SIGKILL);
        (void)uv_process_kill(&runner->process, SIGKILL);
    } else if (runner->state != RUNNER_EXITED) {
        report_end(runner, NULL);
        runner_free(runner);
    }
}

static void on_cancel_timeout(void *argument)
{
    struct runner *runner = argument;
    log_warn(RUNNER_LOGGER, "Tasks of job %s did not end after they were cancelled; killing their process.", id_format(runner->job).hex);
    runner_kill(runner, NULL);
}

static void on_linger_timeout(void *argument)
{
    runner_kill(argument, NULL);
}

void runner_cancel(struct runner *runner, bool is_kill)
{
    runner->is_cancelling = true;
    if (is_kill || runner->state != RUNNER_RUNNING || runner->control == NULL) {
        runner_kill(runner, NULL);
        return;
    }
    json_t *json = runner_header(runner);
    json_object_set_new(json, "mode", json_string("graceful"));
    rpc_conn_send_json(runner->control, MESSAGE_CANCEL, json);
    json_decref(json);
    if (runner->kill_timer == NULL)
        runner->kill_timer = loop_timer_start(runner->agent->loop, (uint64_t)config_ms(runner->agent->config, OPTION_TASK_CANCELLATION_TIMEOUT),
                                              0, on_cancel_timeout, runner);
}

void runner_watch(struct runner *runner, int64_t now_ms)
{
    if (runner->state != RUNNER_RUNNING)
        return;
    if (now_ms - runner->heard_at_ms > runner->agent->heartbeat_timeout_ms) {
        runner_kill(runner, heap_printf("it gave no sign of life for %" PRId64 " ms", now_ms - runner->heard_at_ms));
        return;
    }
    /* The runner watches its own memory and names the function; this is for one that cannot any more. */
    int64_t resident_bytes = runner->has_process ? process_resident_bytes(runner->process.pid) : -1;
    if (runner->memory_limit_bytes > 0 && resident_bytes > runner->memory_limit_bytes + runner->memory_limit_bytes / 4)
        runner_kill(runner, heap_printf("it used %" PRId64 " MiB of memory, %s is %" PRId64 " MiB", resident_bytes >> 20,
                                        option_key(OPTION_TASK_MEMORY_LIMIT), runner->memory_limit_bytes >> 20));
}

/* ---- frames of the runner ---- */

static void note_task_state(struct runner *runner, const struct frame *frame)
{
    json_t *message = NULL;
    struct error *err = message_parse(frame->type, frame->body, frame->length, &message);
    if (err != NULL) {
        runner_kill(runner, heap_printf("it sent a malformed message: %s", err->message));
        error_free(err);
        return;
    }
    const char *execution = message_text(message, "execution");
    const char *state = message_text(message, "state");
    bool is_final = strcmp(state, "FINISHED") == 0 || strcmp(state, "CANCELED") == 0 || strcmp(state, "FAILED") == 0;
    for (size_t i = 0; i < runner->tasks.count; i++)
        if (is_final && strcmp(runner->tasks.items[i].execution, execution) == 0)
            runner->tasks.items[i].is_final = true;
    if (is_final)
        agent_metrics_task_ended(runner, execution);
    json_decref(message);
    if (is_final && is_all_final(runner) && runner->state == RUNNER_RUNNING) {
        loop_timer_stop(&runner->kill_timer);
        runner->kill_timer = loop_timer_start(runner->agent->loop, RUNNER_EXIT_MS, 0, on_linger_timeout, runner);
    }
}

static void on_control_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    struct runner *runner = context;
    struct agent *agent = runner->agent;
    (void)conn;
    runner->heard_at_ms = clock_mono_ms();
    switch (frame->type) {
    case MESSAGE_TASK_STATE: note_task_state(runner, frame); break;
    case MESSAGE_METRICS: agent_metrics_report(runner, frame); break;
    case MESSAGE_CHECKPOINT_ACK:
    case MESSAGE_CHECKPOINT_DECLINE: break;
    case MESSAGE_HEARTBEAT_ACK: return;
    case MESSAGE_STACKS: agent_stacks_answer(runner, frame); return;
    default: runner_kill(runner, heap_printf("it sent the unexpected message %s", message_type_name(frame->type))); return;
    }
    if (agent->link_state == LINK_REGISTERED && !runner->is_silent)
        rpc_conn_forward(agent->link, frame);
}

static void on_control_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    struct runner *runner = context;
    (void)conn;
    runner->control = NULL;
    if (runner->state == RUNNER_RUNNING && !is_all_final(runner) && !runner->is_cancelling && reason != NULL &&
        reason->code != ERR_NETWORK)
        runner_kill(runner, heap_printf("its control pipe broke: %s", reason->message));
    else if (runner->state == RUNNER_RUNNING && runner->kill_timer == NULL)
        /* It is about to exit, and its status says more than the closed pipe. */
        runner->kill_timer = loop_timer_start(runner->agent->loop, RUNNER_EXIT_MS, 0, on_linger_timeout, runner);
    finish_if_ended(runner);
}

static const struct rpc_conn_handler control_handler = {.on_frame = on_control_frame, .on_close = on_control_close};

/* ---- its other pipes ---- */

static _Thread_local char read_bytes[READ_BYTES];

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(read_bytes, sizeof read_bytes);
}

static void on_crash_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct runner *runner = stream->data;
    if (count > 0 && runner->crash.length + (size_t)count <= CRASH_BYTES_MAX)
        str_buf_append_bytes(&runner->crash, buf->base, (size_t)count);
    if (count < 0) {
        close_pipe(&runner->crash_pipe);
        finish_if_ended(runner);
    }
}

static void on_err_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct runner *runner = stream->data;
    if (count > 0)
        runner_output_feed(runner, buf->base, (size_t)count);
    if (count < 0) {
        close_pipe(&runner->err_pipe);
        finish_if_ended(runner);
    }
}

/* Takes fd. */
static uv_pipe_t *open_reader(struct runner *runner, int fd, uv_read_cb on_read)
{
    uv_pipe_t *pipe = heap_new(uv_pipe_t);
    uv_pipe_init(runner->agent->loop, pipe, 0);
    pipe->data = runner;
    if (uv_pipe_open(pipe, fd) != 0) {
        close(fd);
        uv_close((uv_handle_t *)pipe, free_handle);
        return NULL;
    }
    uv_read_start((uv_stream_t *)pipe, on_alloc, on_read);
    return pipe;
}

/* ---- starting ---- */

enum { OURS, THEIRS };

struct runner_fds {
    int control[2];
    int crash[2];
    int err[2];
};

static void close_pair(int pair[2], int side)
{
    if (pair[side] >= 0)
        close(pair[side]);
    pair[side] = -1;
}

static void close_side(struct runner_fds *fds, int side)
{
    close_pair(fds->control, side);
    close_pair(fds->crash, side);
    close_pair(fds->err, side);
}

static struct error *make_fds(struct runner_fds *fds)
{
    *fds = (struct runner_fds){{-1, -1}, {-1, -1}, {-1, -1}};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds->control) != 0 || pipe2(fds->crash, O_CLOEXEC) != 0 ||
        pipe2(fds->err, O_CLOEXEC) != 0) {
        struct error *err = error_errno(errno, "could not make pipes for a task runner");
        close_side(fds, OURS);
        close_side(fds, THEIRS);
        return err;
    }
    return NULL;
}

static int spawn(struct runner *runner, const struct runner_fds *fds)
{
    struct agent *agent = runner->agent;
    char epoch[24];
    char timeout[24];
    char job[ID_HEX_LENGTH + 1];
    snprintf(epoch, sizeof epoch, "%" PRId64, runner->epoch);
    snprintf(timeout, sizeof timeout, "%" PRId64, agent->heartbeat_timeout_ms);
    memcpy(job, id_format(runner->job).hex, sizeof job);
    char name[] = "task-runner", tm_flag[] = "--taskmanager", job_flag[] = "--job", epoch_flag[] = "--epoch",
         timeout_flag[] = "--heartbeat-timeout";
    char *arguments[] = {name, tm_flag, agent->id, job_flag, job, epoch_flag, epoch, timeout_flag, timeout, NULL};
    uv_stdio_container_t stdio[] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = agent->out_fd >= 0 ? agent->out_fd : STDOUT_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = fds->err[THEIRS]},
        {.flags = UV_INHERIT_FD, .data.fd = fds->control[THEIRS]},
        {.flags = UV_INHERIT_FD, .data.fd = fds->crash[THEIRS]},
    };
    uv_process_options_t options = {
        .file = agent->runner_path,
        .args = arguments,
        .exit_cb = on_exit_of_process,
        .flags = UV_PROCESS_DETACHED,
        .stdio = stdio,
        .stdio_count = sizeof stdio / sizeof *stdio,
    };
    return uv_spawn(agent->loop, &runner->process, &options);
}

/* Address space that malloc and friends may take: beyond the limit that the watchers enforce, so that they come first. */
static void limit_memory(const struct runner *runner)
{
    const rlim_t slack = UINT64_C(1) << 30;
    struct rlimit no_core = {0, 0};
    (void)prlimit(runner->process.pid, RLIMIT_CORE, &no_core, NULL);
    if (runner->memory_limit_bytes <= 0)
        return;
    rlim_t bytes = (rlim_t)runner->memory_limit_bytes * 2 + slack;
    struct rlimit limit = {bytes, bytes};
    (void)prlimit(runner->process.pid, RLIMIT_DATA, &limit, NULL);
}

static struct error *start_hosted(struct runner *runner)
{
    struct agent *agent = runner->agent;
    const struct agent_runner_host *host = agent->options.runner_host;
    int control[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) != 0)
        return error_errno(errno, "could not make a control pipe");
    struct agent_runner_start options = {
        .taskmanager_id = agent->id,
        .heartbeat_timeout_ms = agent->heartbeat_timeout_ms,
        .control_fd = control[THEIRS],
        .on_exit = on_exit_of_hosted,
        .argument = runner,
    };
    struct error *err = host->start(host->context, &options, &runner->hosted);
    if (err != NULL) {
        close(control[OURS]);
        return err;
    }
    runner->state = RUNNER_RUNNING;
    runner->heard_at_ms = clock_mono_ms();
    err = rpc_conn_open_pipe(agent->loop, control[OURS], &control_handler, runner, &runner->control);
    if (err != NULL) {
        runner_kill(runner, heap_strdup(err->message));
        error_free(err);
    }
    return NULL;
}

static struct error *start_process(struct runner *runner)
{
    struct runner_fds fds;
    TRY(make_fds(&fds));
    runner->process.data = runner;
    int status = spawn(runner, &fds);
    close_side(&fds, THEIRS);
    runner->has_process = true; /* also a handle that failed to spawn must be closed */
    if (status != 0) {
        close_side(&fds, OURS);
        runner->state = RUNNER_EXITED;
        uv_close((uv_handle_t *)&runner->process, on_process_closed);
        runner->start_error = error_new(INTERNAL, "could not start %s: %s", runner->agent->runner_path, uv_strerror(status));
        return NULL;
    }
    runner->state = RUNNER_RUNNING;
    runner->heard_at_ms = clock_mono_ms();
    limit_memory(runner);
    runner->crash_pipe = open_reader(runner, fds.crash[OURS], on_crash_read);
    runner->err_pipe = open_reader(runner, fds.err[OURS], on_err_read);
    struct error *err = rpc_conn_open_pipe(runner->agent->loop, fds.control[OURS], &control_handler, runner, &runner->control);
    if (err != NULL) {
        runner_kill(runner, heap_strdup(err->message));
        error_free(err);
    }
    return NULL;
}

/* ---- DEPLOY ---- */

/* The job's own options over the taskmanager's; what concerns this host's files and limits is not the job's to choose. */
static struct error *complete_config(struct runner *runner, json_t *deploy)
{
    struct agent *agent = runner->agent;
    struct config *config = config_create_over(agent->config);
    char limit[24];
    struct error *err = config_set_json(config, json_object_get(deploy, "config"), "the job's configuration");
    if (err == NULL)
        err = config_set(config, option_key(OPTION_SECRET_FILE), config_text(agent->config, OPTION_SECRET_FILE), "taskmanager");
    if (err == NULL) {
        runner->memory_limit_bytes = config_bytes(config, OPTION_TASK_MEMORY_LIMIT);
        if (runner->memory_limit_bytes == 0)
            runner->memory_limit_bytes = (int64_t)(uv_get_total_memory() / 2);
        snprintf(limit, sizeof limit, "%" PRId64, runner->memory_limit_bytes);
        err = config_set(config, option_key(OPTION_TASK_MEMORY_LIMIT), limit, "taskmanager");
    }
    if (err == NULL)
        json_object_set_new(deploy, "config", config_to_json(config));
    config_destroy(config);
    return err;
}

static void note_tasks(struct runner *runner, const json_t *deploy)
{
    size_t index;
    json_t *task;
    json_array_foreach (json_object_get(deploy, "tasks"), index, task) {
        const char *execution = message_text(task, "execution");
        struct runner_task entry = {.execution = execution != NULL ? heap_strdup(execution) : NULL};
        if (execution != NULL)
            vec_push(&runner->tasks, entry);
    }
    agent_metrics_deploy(runner, deploy);
}

static struct error *send_deploy(struct runner *runner, json_t *deploy)
{
    TRY(complete_config(runner, deploy));
    if (runner->library_key != NULL) {
        char *path = NULL;
        TRY(blob_store_path(runner->agent->blobs, runner->library_key, &path));
        json_object_set_new(deploy, "library_path", json_string(path));
        free(path);
    }
    if (runner->control != NULL)
        rpc_conn_send_json(runner->control, MESSAGE_DEPLOY, deploy);
    return NULL;
}

static bool has_predecessor(const struct runner *runner)
{
    const struct agent *agent = runner->agent;
    for (size_t i = 0; i < agent->runners.count; i++) {
        const struct runner *other = agent->runners.items[i];
        if (other != runner && id_equals(other->job, runner->job) && other->epoch < runner->epoch)
            return true;
    }
    return false;
}

static void start(struct runner *runner)
{
    struct error *err = runner->agent->options.runner_host != NULL ? start_hosted(runner) : start_process(runner);
    if (err == NULL && runner->state == RUNNER_RUNNING) {
        json_t *deploy = runner->deploy;
        runner->deploy = NULL;
        err = send_deploy(runner, deploy);
        json_decref(deploy);
        if (err != NULL) {
            char *text = error_text(err);
            error_free(err);
            runner_kill(runner, text);
            return;
        }
        log_info(AGENT_LOGGER, "Started task runner %d for job %s, epoch %" PRId64 ", with %zu tasks.", (int)runner->process.pid,
                 id_format(runner->job).hex, runner->epoch, runner->tasks.count);
        agent_data_runner_ready(runner->agent, runner);
    } else if (err != NULL) {
        runner_fail(runner, err);
    }
}

void runner_advance(struct runner *runner)
{
    struct agent *agent = runner->agent;
    if (runner->state == RUNNER_WAIT_PREDECESSOR && !has_predecessor(runner)) {
        runner->state = RUNNER_WAIT_LIBRARY;
        if (runner->library_key != NULL && !blob_store_has(agent->blobs, runner->library_key)) {
            json_t *get = json_pack("{s:s}", "sha256", runner->library_key);
            agent_send(agent, MESSAGE_BLOB_GET, get);
            json_decref(get);
        }
    }
    if (runner->state == RUNNER_WAIT_LIBRARY && (runner->library_key == NULL || blob_store_has(agent->blobs, runner->library_key)))
        start(runner);
}

void runner_create(struct agent *agent, json_t *deploy)
{
    struct runner *runner = heap_new(struct runner);
    runner->agent = agent;
    runner->job = message_id(deploy, "job");
    runner->epoch = message_int(deploy, "epoch");
    runner->deploy = deploy;
    note_tasks(runner, deploy);
    vec_push(&agent->runners, runner);
    const char *key = message_text(json_object_get(deploy, "library"), "sha256");
    struct blob_key parsed;
    if (key != NULL && !blob_key_parse(key, &parsed)) {
        runner_fail(runner, error_new(PROTOCOL, "the library of the job has no valid hash: %s", key));
        return;
    }
    runner->library_key = key != NULL ? heap_strdup(key) : NULL;
    /* From the back: one that has no process yet leaves the list at once. */
    for (size_t i = agent->runners.count; i-- > 0;) {
        struct runner *other = agent->runners.items[i];
        if (other != runner && id_equals(other->job, runner->job) && other->epoch < runner->epoch)
            runner_kill(other, NULL);
    }
    runner_advance(runner);
}

void runner_add_tasks(struct runner *runner, json_t *deploy)
{
    note_tasks(runner, deploy);
    if (runner->state == RUNNER_RUNNING) {
        loop_timer_stop(&runner->kill_timer);
        struct error *err = send_deploy(runner, deploy);
        if (err != NULL) {
            char *text = error_text(err);
            error_free(err);
            runner_kill(runner, text);
        }
    } else if (runner->deploy != NULL) {
        json_array_extend(json_object_get(runner->deploy, "tasks"), json_object_get(deploy, "tasks"));
    }
    json_decref(deploy);
}

void runner_pass_connection(struct runner *runner, const char *peer, uv_tcp_t *handle)
{
    if (runner->control == NULL) {
        rpc_handle_discard(handle);
        return;
    }
    json_t *json = runner_header(runner);
    json_object_set_new(json, "runner", json_string(peer));
    size_t length;
    char *body = message_encode(MESSAGE_DATA_CONNECTION, json, &length);
    rpc_conn_send_handle(runner->control, MESSAGE_DATA_CONNECTION, body, length, handle);
    free(body);
    json_decref(json);
}
