/* The data port: consumers' runners connect here, are greeted, and their handle goes to the runner of their job and epoch. One
 * that comes before its runner waits. Thread: the loop's. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "taskmanager/agent/agent_private.h"

#include <poll.h>
#include <string.h>

#define LOGGER "TaskManagerServices"

enum { HOLD_MS = 10000, HOLD_LOOK_MS = 250, HELD_COUNT_MAX = 1024, NAME_BYTES_MAX = 255 };

static void held_free(struct held_connection *held)
{
    struct agent *agent = held->agent;
    for (size_t i = 0; i < agent->held.count; i++)
        if (agent->held.items[i] == held) {
            vec_remove(&agent->held, i);
            break;
        }
    loop_timer_stop(&held->timer);
    rpc_handle_discard(held->handle);
    free(held->peer);
    free(held);
}

/* Nobody reads from a held connection (what comes is for the runner), so its end must be asked for. */
static bool is_peer_gone(const struct held_connection *held)
{
    struct pollfd pollfd = {.events = POLLRDHUP};
    return uv_fileno((const uv_handle_t *)held->handle, &pollfd.fd) != 0 ||
           (poll(&pollfd, 1, 0) > 0 && (pollfd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0);
}

/* The consumer may be cancelled, or the runner may never come: then held connections must not pile up. */
static void on_hold_timer(void *argument)
{
    struct held_connection *held = argument;
    if (is_peer_gone(held)) {
        held_free(held);
        return;
    }
    if (clock_mono_ms() - held->since_ms < HOLD_MS)
        return;
    log_warn(LOGGER, "Closed the data connection of %s: no task runner of job %s, epoch %lld, has come.", held->peer,
             id_format(held->job).hex, (long long)held->epoch);
    held_free(held);
}

static void pass_on(struct held_connection *held, struct runner *runner)
{
    uv_tcp_t *handle = held->handle;
    held->handle = NULL;
    runner_pass_connection(runner, held->peer, handle);
    held_free(held);
}

/* WELCOME is written. */
static void on_detached(uv_tcp_t *handle, void *argument)
{
    struct held_connection *held = argument;
    held->handle = handle;
    struct runner *runner = agent_find_runner(held->agent, held->job, held->epoch);
    if (handle == NULL || held->agent->is_stopping)
        held_free(held);
    else if (runner != NULL && runner->state == RUNNER_RUNNING)
        pass_on(held, runner);
    else
        held->timer = loop_timer_start(held->agent->loop, HOLD_LOOK_MS, HOLD_LOOK_MS, on_hold_timer, held);
}

/* The consumer's name is shown in logs, and travels on to the runner. */
static bool is_name(const char *text)
{
    size_t length = text != NULL ? strlen(text) : 0;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return false;
    return length > 0 && length <= NAME_BYTES_MAX;
}

static void turn_away(struct rpc_server *server, struct rpc_conn *conn, const char *why)
{
    rpc_server_log_refused(server, rpc_conn_peer(conn), why);
    rpc_conn_close(conn, NULL);
}

/* Those that wait for a runner have waited for longest at the front; one whose WELCOME is still being written goes by itself. */
static void make_room(struct agent *agent)
{
    for (size_t i = 0; i < agent->held.count; i++)
        if (agent->held.items[i]->handle != NULL) {
            held_free(agent->held.items[i]);
            return;
        }
}

static void on_data_connection(struct rpc_server *server, struct rpc_conn *conn, const json_t *hello, void *context)
{
    struct agent *agent = context;
    const char *peer = message_text(hello, "runner");
    struct id job = message_id(hello, "job");
    if (strcmp(message_text(hello, "role"), "data") != 0 || !is_name(peer) || id_is_zero(job)) {
        turn_away(server, conn, "it is no data connection of a task runner");
        return;
    }
    if (agent->held.count >= HELD_COUNT_MAX)
        make_room(agent);
    if (agent->held.count >= HELD_COUNT_MAX || agent->is_stopping) {
        turn_away(server, conn, "too many data connections wait for their task runners");
        return;
    }
    struct held_connection *held = heap_new(struct held_connection);
    held->agent = agent;
    held->since_ms = clock_mono_ms();
    held->job = job;
    held->epoch = message_int(hello, "epoch");
    held->peer = heap_strdup(peer);
    vec_push(&agent->held, held);
    rpc_conn_detach(conn, on_detached, held);
}

struct error *agent_data_open(struct agent *agent)
{
    uint16_t first;
    uint16_t last;
    config_ports(agent->config, OPTION_TASKMANAGER_DATA_PORT, &first, &last);
    struct rpc_server_options options = {
        .host = config_text(agent->config, OPTION_TASKMANAGER_BIND_HOST),
        .port_first = first,
        .port_last = last,
        .secret = &agent->secret,
        .body_bytes_max = FRAME_BODY_BYTES_DATA,
        .logger = LOGGER,
        .on_connection = on_data_connection,
        .context = agent,
    };
    TRY(rpc_server_create(agent->loop, &options, &agent->data_server));
    log_info(LOGGER, "TaskManager data connection initialized successfully; listening internally on port: %u",
             rpc_server_port(agent->data_server));
    return NULL;
}

void agent_data_runner_ready(struct agent *agent, struct runner *runner)
{
    for (size_t i = agent->held.count; i-- > 0;) {
        struct held_connection *held = agent->held.items[i];
        if (held->handle != NULL && id_equals(held->job, runner->job) && held->epoch == runner->epoch)
            pass_on(held, runner);
    }
}

void agent_data_close(struct agent *agent)
{
    rpc_server_close(agent->data_server);
    agent->data_server = NULL;
    /* Those whose WELCOME is still being written end in on_detached. */
    for (size_t i = agent->held.count; i-- > 0;)
        if (agent->held.items[i]->handle != NULL)
            held_free(agent->held.items[i]);
}
