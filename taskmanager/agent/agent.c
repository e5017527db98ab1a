/* The taskmanager's life: its connection to the jobmanager, and the frames that come over it. The other files of this folder do
 * runners, data connections and files. Thread: the loop's.
 *
 *   agent_start -> connect -> REGISTER -> REGISTERED -> heartbeats, DEPLOY, CANCEL …
 *                    ^                                      |
 *                    '--- all runners killed and reaped <---' connection closed, or silent for heartbeat.timeout
 * Every registration is a new incarnation with an id of its own and without runners. */
#include "taskmanager/agent/agent.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/fs/fs.h"
#include "taskmanager/agent/agent_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BACKOFF_FIRST_MS = 50,
    BACKOFF_MAX_MS = 1000,
    FAILURE_LOG_MS = 10000,
    REGISTER_TIMEOUT_MS = 10000,
    WATCH_MS = 250,
};

static void link_connect(void *argument);

void agent_send(struct agent *agent, uint16_t type, const json_t *json)
{
    if (agent->link_state == LINK_REGISTERED)
        rpc_conn_send_json(agent->link, type, json);
}

struct runner *agent_find_runner(struct agent *agent, struct id job, int64_t epoch)
{
    for (size_t i = 0; i < agent->runners.count; i++)
        if (agent->runners.items[i]->epoch == epoch && id_equals(agent->runners.items[i]->job, job))
            return agent->runners.items[i];
    return NULL;
}

/* ---- the end ---- */

static void agent_free(struct agent *agent)
{
    loop_timer_stop(&agent->link_timer);
    loop_timer_stop(&agent->heartbeat_timer);
    loop_timer_stop(&agent->advance_timer);
    loop_timer_stop(&agent->watch_timer);
    if (agent->has_own_log)
        log_close();
    work_directory_remove(&agent->directory);
    if (agent->out_fd >= 0)
        close(agent->out_fd);
    system_metrics_destroy(agent->system);
    blob_store_destroy(agent->blobs);
    rpc_secret_finish(&agent->secret);
    vec_finish(&agent->runners);
    vec_finish(&agent->held);
    free(agent->id);
    free(agent->host);
    free(agent->log_directory);
    free(agent->runner_path);
    free(agent);
}

/* Stopping goes step by step: runners first, so that the jobmanager hears of their end; then the connection. */
static void check_stopped(struct agent *agent)
{
    if (!agent->is_stopping || agent->runners.count > 0 || agent->held.count > 0 || agent->file_count > 0)
        return;
    if (agent->link != NULL) {
        rpc_conn_finish(agent->link, NULL);
        return;
    }
    void (*on_stopped)(void *context) = agent->options.on_stopped;
    void *context = agent->options.context;
    log_info(AGENT_LOGGER, "Stopped TaskExecutor %s.", agent->id);
    agent_free(agent);
    if (on_stopped != NULL)
        on_stopped(context);
}

static void kill_runners(struct agent *agent, bool is_silent)
{
    for (size_t i = agent->runners.count; i-- > 0;) {
        struct runner *runner = agent->runners.items[i];
        runner->is_silent = is_silent;
        runner_cancel(runner, true);
    }
}

void agent_stop(struct agent *agent, const char *reason)
{
    check_on_loop(agent->loop);
    if (agent->is_stopping)
        return;
    agent->is_stopping = true;
    log_info(AGENT_LOGGER, "Stopping TaskExecutor %s: %s.", agent->id, reason);
    json_t *goodbye = json_pack("{s:s}", "reason", reason);
    agent_send(agent, MESSAGE_GOODBYE, goodbye);
    json_decref(goodbye);
    loop_timer_stop(&agent->link_timer);
    loop_timer_stop(&agent->heartbeat_timer);
    agent_stacks_close(agent);
    agent_data_close(agent);
    prometheus_reporter_destroy(agent->prometheus);
    agent->prometheus = NULL;
    kill_runners(agent, false);
    agent_runner_gone(agent);
}

/* ---- runners that wait for others ---- */

static void on_advance(void *argument)
{
    struct agent *agent = argument;
    for (size_t i = agent->runners.count; i-- > 0;)
        if (i < agent->runners.count)
            runner_advance(agent->runners.items[i]);
    if (agent->is_stopping)
        check_stopped(agent);
    else if (agent->link == NULL && agent->runners.count == 0 && agent->link_state == LINK_WAITING && agent->link_timer == NULL)
        agent->link_timer = loop_timer_start(agent->loop, agent->backoff_ms, 0, link_connect, agent);
}

void agent_runner_gone(struct agent *agent)
{
    loop_timer_restart(agent->advance_timer, 0, 0);
}

void agent_file_done(struct agent *agent)
{
    agent->file_count--;
    agent_runner_gone(agent);
}

static void on_watch(void *argument)
{
    struct agent *agent = argument;
    int64_t now_ms = clock_mono_ms();
    for (size_t i = agent->runners.count; i-- > 0;)
        runner_watch(agent->runners.items[i], now_ms);
}

/* ---- heartbeats ---- */

static void send_heartbeat(struct agent *agent)
{
    json_t *json = json_pack("{s:I}", "seq", (json_int_t)++agent->heartbeat_seq);
    json_object_set_new(json, "metrics", agent_metrics(agent));
    agent_send(agent, MESSAGE_HEARTBEAT, json);
    json_decref(json);
}

/* The jobmanager answered: only then the runners may live on. A heartbeat of the agent's own would keep them alive behind
 * a cut network for up to the timeout longer than the jobmanager waits before it starts the next attempt (the argument
 * stands at the top of jobmanager/core/taskmanagers.c). */
static void pass_heartbeat_to_runners(struct agent *agent)
{
    json_t *json = json_pack("{s:I}", "seq", (json_int_t)agent->heartbeat_seq);
    for (size_t i = 0; i < agent->runners.count; i++)
        if (agent->runners.items[i]->control != NULL)
            rpc_conn_send_json(agent->runners.items[i]->control, MESSAGE_HEARTBEAT, json);
    json_decref(json);
}

static void on_heartbeat_timer(void *argument)
{
    struct agent *agent = argument;
    int64_t silence_ms = clock_mono_ms() - agent->heard_at_ms;
    if (silence_ms > agent->heartbeat_timeout_ms) {
        rpc_conn_close(agent->link, error_new(TIMEOUT, "the jobmanager was silent for %" PRId64 " ms", silence_ms));
        return;
    }
    send_heartbeat(agent);
}

static void on_registered(struct agent *agent, const json_t *message)
{
    agent->link_state = LINK_REGISTERED;
    agent->heartbeat_interval_ms = message_int(message, "heartbeat_interval_ms");
    agent->heartbeat_timeout_ms = message_int(message, "heartbeat_timeout_ms");
    if (agent->heartbeat_interval_ms < 1)
        agent->heartbeat_interval_ms = config_ms(agent->config, OPTION_HEARTBEAT_INTERVAL);
    if (agent->heartbeat_timeout_ms < agent->heartbeat_interval_ms)
        agent->heartbeat_timeout_ms = agent->heartbeat_interval_ms * 2;
    agent->backoff_ms = BACKOFF_FIRST_MS;
    agent->failure_logged_at_ms = 0;
    log_info(AGENT_LOGGER, "Successful registration at resource manager %s under registration id %s.", rpc_conn_peer(agent->link), agent->id);
    loop_timer_stop(&agent->link_timer);
    agent->heartbeat_timer = loop_timer_start(agent->loop, 0, (uint64_t)agent->heartbeat_interval_ms, on_heartbeat_timer, agent);
}

/* ---- frames of the jobmanager ---- */

/* Takes deploy. */
static void on_deploy(struct agent *agent, json_t *deploy)
{
    struct id job = message_id(deploy, "job");
    int64_t epoch = message_int(deploy, "epoch");
    struct runner *same = agent_find_runner(agent, job, epoch);
    if (agent->is_stopping) {
        json_decref(deploy);
        return;
    }
    if (same != NULL && same->state != RUNNER_EXITED && !same->is_cancelling) {
        runner_add_tasks(same, deploy);
        return;
    }
    for (size_t i = 0; i < agent->runners.count; i++)
        if (id_equals(agent->runners.items[i]->job, job) && agent->runners.items[i]->epoch >= epoch) {
            log_warn(AGENT_LOGGER, "Ignoring a deployment of job %s, epoch %" PRId64 ": epoch %" PRId64 " is already here.",
                     id_format(job).hex, epoch, agent->runners.items[i]->epoch);
            json_decref(deploy);
            return;
        }
    log_info(AGENT_LOGGER, "Received %zu tasks of job %s, epoch %" PRId64 ".", json_array_size(json_object_get(deploy, "tasks")),
             id_format(job).hex, epoch);
    runner_create(agent, deploy);
}

static void on_cancel(struct agent *agent, const json_t *message)
{
    struct runner *runner = agent_find_runner(agent, message_id(message, "job"), message_int(message, "epoch"));
    bool is_kill = strcmp(message_text(message, "mode"), "kill") == 0;
    if (runner != NULL) {
        runner_cancel(runner, is_kill);
        return;
    }
    /* It has ended before: say so again, so that nobody waits. */
    json_t *gone = json_pack("{s:O,s:O}", "job", json_object_get(message, "job"), "epoch", json_object_get(message, "epoch"));
    agent_send(agent, MESSAGE_RUNNER_GONE, gone);
    json_decref(gone);
}

/* Checkpoint messages pass through. */
static void relay(struct agent *agent, const json_t *message, struct frame *frame)
{
    struct runner *runner = agent_find_runner(agent, message_id(message, "job"), message_int(message, "epoch"));
    if (runner != NULL && runner->state == RUNNER_RUNNING && runner->control != NULL)
        rpc_conn_forward(runner->control, frame);
}

static struct error *store_blob(struct agent *agent, const json_t *header, const uint8_t *bytes, size_t length)
{
    const json_t *failure = json_object_get(header, "error");
    if (json_is_object(failure))
        return message_error_from_json(failure);
    return blob_store_put_expected(agent->blobs, message_text(header, "sha256"), bytes, length);
}

static struct error *on_blob(struct agent *agent, const struct frame *frame)
{
    json_t *header = NULL;
    const uint8_t *bytes = NULL;
    size_t length = 0;
    TRY(message_parse_headed(frame->type, frame->body, frame->length, &header, &bytes, &length));
    const char *key = message_text(header, "sha256");
    struct error *err = store_blob(agent, header, bytes, length);
    for (size_t i = agent->runners.count; i-- > 0;) {
        struct runner *runner = agent->runners.items[i];
        if (runner->state != RUNNER_WAIT_LIBRARY || runner->library_key == NULL || strcmp(runner->library_key, key) != 0)
            continue;
        if (err == NULL) {
            runner_advance(runner);
        } else {
            char *text = error_text(err);
            /* CORRUPT, said by a task that is being deployed, means the checkpoint that it is restored from. */
            enum error_code code = err->code == ERR_CORRUPT ? ERR_IO : err->code;
            runner_fail(runner, error_create(code, __FILE__, __LINE__, "could not fetch the job's library: %s", text));
            free(text);
        }
    }
    error_free(err);
    json_decref(header);
    return NULL;
}

static struct error *on_message(struct agent *agent, struct frame *frame, json_t *message)
{
    switch (frame->type) {
    case MESSAGE_REGISTERED:
        if (agent->link_state != LINK_REGISTERING)
            return error_new(PROTOCOL, "REGISTERED came without REGISTER");
        on_registered(agent, message);
        break;
    case MESSAGE_GOODBYE: return error_new(NETWORK, "the jobmanager says: %s", message_text(message, "reason"));
    case MESSAGE_HEARTBEAT_ACK: pass_heartbeat_to_runners(agent); break;
    case MESSAGE_HEARTBEAT: {
        json_t *ack = json_pack("{s:I}", "seq", (json_int_t)message_int(message, "seq"));
        agent_send(agent, MESSAGE_HEARTBEAT_ACK, ack);
        json_decref(ack);
        break;
    }
    case MESSAGE_DEPLOY: on_deploy(agent, json_incref(message)); break;
    case MESSAGE_CANCEL: on_cancel(agent, message); break;
    case MESSAGE_TRIGGER_CHECKPOINT:
    case MESSAGE_CHECKPOINT_COMPLETE:
    case MESSAGE_CHECKPOINT_ABORTED: relay(agent, message, frame); break;
    case MESSAGE_FILE_GET: agent_file_get(agent, message); break;
    default: return error_new(PROTOCOL, "unexpected message %s from the jobmanager", message_type_name(frame->type));
    }
    return NULL;
}

static void on_link_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    struct agent *agent = context;
    json_t *message = NULL;
    struct error *err;
    agent->heard_at_ms = clock_mono_ms();
    if (frame->type == MESSAGE_BLOB) {
        err = on_blob(agent, frame);
    } else {
        err = message_parse(frame->type, frame->body, frame->length, &message);
        if (err == NULL)
            err = on_message(agent, frame, message);
        json_decref(message);
    }
    if (err != NULL)
        rpc_conn_close(conn, err);
}

/* ---- connecting ---- */

static void log_failure(struct agent *agent, const struct error *reason)
{
    int64_t now_ms = clock_mono_ms();
    bool was_registered = agent->link_state == LINK_REGISTERED;
    if (agent->is_stopping || (!was_registered && agent->failure_logged_at_ms != 0 && now_ms - agent->failure_logged_at_ms < FAILURE_LOG_MS))
        return;
    agent->failure_logged_at_ms = now_ms;
    if (was_registered)
        log_error_chain(LOG_WARN, AGENT_LOGGER, reason, "Lost the connection to the jobmanager; killing all tasks and registering anew.");
    else
        log_error_chain(LOG_WARN, AGENT_LOGGER, reason, "Could not register at the jobmanager %s:%" PRId64 ", trying on.",
                        config_text(agent->config, OPTION_JOBMANAGER_RPC_ADDRESS), config_int(agent->config, OPTION_JOBMANAGER_RPC_PORT));
}

static void on_link_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    struct agent *agent = context;
    (void)conn;
    struct error *none = NULL;
    if (reason == NULL)
        none = error_new(NETWORK, "closed");
    log_failure(agent, reason != NULL ? reason : none);
    error_free(none);
    agent_stacks_close(agent);
    agent->link = NULL;
    agent->link_state = LINK_WAITING;
    loop_timer_stop(&agent->link_timer);
    loop_timer_stop(&agent->heartbeat_timer);
    kill_runners(agent, true);
    if (agent->backoff_ms < BACKOFF_MAX_MS)
        agent->backoff_ms *= 2;
    agent_runner_gone(agent);
}

static bool is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0;
}

/* A new incarnation; the host is known now that there is a connection. */
static void choose_id(struct agent *agent)
{
    char address[64] = "localhost";
    const char *host = config_text(agent->config, OPTION_TASKMANAGER_HOST);
    const char *fixed = config_text(agent->config, OPTION_TASKMANAGER_RESOURCE_ID);
    rpc_conn_local_address(agent->link, address, sizeof address);
    if (host[0] == '\0')
        host = is_loopback(address) ? "localhost" : address;
    free(agent->host);
    agent->host = heap_strdup(host);
    free(agent->id);
    struct id_text random = id_format(id_random());
    agent->id = fixed[0] != '\0' ? heap_strdup(fixed)
                                 : heap_printf("%s:%u-%.6s", agent->host, rpc_server_port(agent->data_server), random.hex);
}

static void on_register_timeout(void *argument)
{
    struct agent *agent = argument;
    rpc_conn_close(agent->link, error_new(TIMEOUT, "the jobmanager did not answer the registration in time"));
}

static void on_link_open(struct rpc_conn *conn, void *context)
{
    struct agent *agent = context;
    agent->link_state = LINK_REGISTERING;
    choose_id(agent);
    log_info("TaskManagerRunner", "Starting TaskManager with ResourceID: %s", agent->id);
    log_info(AGENT_LOGGER, "Resolved ResourceManager address, beginning registration");
    json_t *json = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:s,s:[]}", "tm", agent->id, "host", agent->host, "data_port",
                             (json_int_t)rpc_server_port(agent->data_server), "slots",
                             (json_int_t)config_int(agent->config, OPTION_TASKMANAGER_SLOTS), "pid", (json_int_t)getpid(), "cpu_cores",
                             (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "memory_bytes", (json_int_t)uv_get_total_memory(), "version",
                             MILLRACE_VERSION, "executions");
    rpc_conn_send_json(conn, MESSAGE_REGISTER, json);
    json_decref(json);
    agent->link_timer = loop_timer_start(agent->loop, REGISTER_TIMEOUT_MS, 0, on_register_timeout, agent);
}

static const struct rpc_conn_handler link_handler = {.on_open = on_link_open, .on_frame = on_link_frame, .on_close = on_link_close};

static void link_connect(void *argument)
{
    struct agent *agent = argument;
    struct rpc_connect_options options = {
        .host = config_text(agent->config, OPTION_JOBMANAGER_RPC_ADDRESS),
        .port = (uint16_t)config_int(agent->config, OPTION_JOBMANAGER_RPC_PORT),
        .role = "taskmanager",
        .secret = &agent->secret,
    };
    loop_timer_stop(&agent->link_timer);
    if (agent->failure_logged_at_ms == 0)
        log_info(AGENT_LOGGER, "Connecting to ResourceManager %s:%u.", options.host, options.port);
    agent->link_state = LINK_CONNECTING;
    agent->link = rpc_conn_connect(agent->loop, &options, &link_handler, agent);
}

/* ---- the start ---- */

static struct error *find_runner_path(struct agent *agent)
{
    const char *configured = config_text(agent->config, OPTION_TASK_RUNNER_PATH);
    if (agent->options.runner_path != NULL || configured[0] != '\0') {
        agent->runner_path = heap_strdup(agent->options.runner_path != NULL ? agent->options.runner_path : configured);
        return NULL;
    }
    char path[PATH_MAX];
    size_t length = sizeof path;
    int status = uv_exepath(path, &length);
    if (status != 0)
        return error_new(INTERNAL, "could not find out where this program lies: %s", uv_strerror(status));
    char *slash = strrchr(path, '/');
    agent->runner_path = heap_printf("%.*s/task-runner", slash != NULL ? (int)(slash - path) : 1, slash != NULL ? path : ".");
    return NULL;
}

static struct error *make_directories(struct agent *agent)
{
    char *base = work_directory_base(config_text(agent->config, OPTION_IO_TMP_DIRS));
    struct error *failure = work_directory_create(base, "millrace-tm", &agent->directory);
    free(base);
    TRY(failure);
    const char *directory = agent->directory.path;
    const char *log_directory = config_text(agent->config, OPTION_LOG_DIR);
    agent->log_directory = log_directory[0] != '\0' ? heap_strdup(log_directory) : heap_printf("%s/log", directory);
    if (log_directory[0] == '\0')
        TRY(fs_make_directories(agent->log_directory));
    log_info("TaskManagerRunner", "Using working directory: %s", directory);
    char *blobs = heap_printf("%s/blobStorage", directory);
    struct error *err = blob_store_create(blobs, (size_t)config_bytes(agent->config, OPTION_BLOB_SIZE_MAX), &agent->blobs);
    free(blobs);
    return err;
}

static struct error *open_own_log(struct agent *agent)
{
    bool had_log = log_file_path() != NULL;
    struct error *err = config_open_own_log(agent->config, agent->log_directory, "taskmanager");
    agent->has_own_log = !had_log && err == NULL;
    config_log_notes(agent->config); /* not before the log that REST shows is open */
    return err;
}

static struct error *open_out(struct agent *agent)
{
    if (agent->options.out_path == NULL)
        return NULL;
    agent->out_fd = open(agent->options.out_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    return agent->out_fd >= 0 ? NULL : error_errno(errno, "could not open %s", agent->options.out_path);
}

struct error *agent_start(const struct agent_options *options, struct agent **out)
{
    struct error *err;
    check_on_loop(options->loop);
    struct agent *agent = heap_new(struct agent);
    agent->options = *options;
    agent->loop = options->loop;
    agent->config = options->config;
    agent->id = heap_strdup("");
    agent->out_fd = -1;
    agent->backoff_ms = BACKOFF_FIRST_MS;
    agent->heartbeat_interval_ms = config_ms(options->config, OPTION_HEARTBEAT_INTERVAL);
    agent->heartbeat_timeout_ms = config_ms(options->config, OPTION_HEARTBEAT_TIMEOUT);
    TRY_GOTO(fail, rpc_secret_load(config_text(options->config, OPTION_SECRET_FILE), &agent->secret));
    TRY_GOTO(fail, find_runner_path(agent));
    TRY_GOTO(fail, make_directories(agent));
    TRY_GOTO(fail, open_own_log(agent));
    TRY_GOTO(fail, open_out(agent));
    TRY_GOTO(fail, agent_data_open(agent));
    agent->advance_timer = loop_timer_start(agent->loop, 0, 0, on_advance, agent);
    agent->watch_timer = loop_timer_start(agent->loop, WATCH_MS, WATCH_MS, on_watch, agent);
    agent->link_timer = loop_timer_start(agent->loop, 0, 0, link_connect, agent);
    agent->system = system_metrics_configure(agent->config);
    agent->prometheus = agent_prometheus_create(agent);
    *out = agent;
    return NULL;
fail:
    agent_free(agent);
    return err;
}

const char *agent_id(const struct agent *agent)
{
    return agent->id;
}

bool agent_is_registered(const struct agent *agent)
{
    return agent->link_state == LINK_REGISTERED;
}

uint32_t agent_runner_count(const struct agent *agent)
{
    return (uint32_t)agent->runners.count;
}

uint16_t agent_data_port(const struct agent *agent)
{
    return agent->data_server != NULL ? rpc_server_port(agent->data_server) : 0;
}
