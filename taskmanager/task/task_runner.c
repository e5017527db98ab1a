/* The runner's life and its incoming messages. Thread: loop. */
#include "taskmanager/task/task_runner_private.h"
#include "taskmanager/task/task_stacks.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/rpc/message.h"
#include "taskmanager/task/user_library.h"

#include <inttypes.h>
#include <string.h>

#define LOGGER "TaskRunner"

struct task_runner *task_runner_create(const struct task_runner_options *options)
{
    struct task_runner *runner = heap_new(struct task_runner);
    runner->options = *options;
    runner->taskmanager_id = heap_strdup(options->taskmanager_id);
    runner->mailbox = mailbox_create(options->loop);
    return runner;
}

static void runner_free(struct task_runner *runner)
{
    loop_timer_stop(&runner->metrics_timer);
    task_stacks_finish(runner);
    for (size_t i = 0; i < runner->tasks.count; i++)
        task_destroy(runner->tasks.items[i].task);
    if (runner->client != NULL)
        net_client_close(runner->client);
    if (runner->server != NULL)
        net_server_close(runner->server);
    mailbox_close(runner->mailbox);
    for (size_t i = 0; i < runner->channels.count; i++)
        channel_unref(runner->channels.entries[i].value);
    hash_map_finish(&runner->channels);
    for (size_t i = 0; i < runner->deployments.count; i++) {
        job_graph_destroy(runner->deployments.items[i].graph);
        json_decref(runner->deployments.items[i].message);
    }
    vec_finish(&runner->deployments);
    vec_finish(&runner->undelivered);
    written_files_finish(&runner->written);
    vec_finish(&runner->tasks);
    user_library_close(runner->library);
    config_destroy(runner->config);
    rpc_secret_finish(&runner->secret);
    free(runner->taskmanager_id);
    if (runner->on_closed != NULL)
        runner->on_closed(runner->closed_context);
    free(runner);
}

static void on_close_mail(void *argument, bool is_closed)
{
    (void)is_closed;
    runner_free(argument);
}

/* Freeing waits for a turn of its own: the caller may be inside one of our callbacks. */
void task_runner_close_ended(struct task_runner *runner)
{
    mailbox_post(runner->mailbox, on_close_mail, runner);
}

void task_runner_close(struct task_runner *runner, void (*on_closed)(void *context), void *context)
{
    check(!runner->is_closing);
    runner->is_closing = true;
    runner->on_closed = on_closed;
    runner->closed_context = context;
    loop_timer_stop(&runner->metrics_timer);
    for (size_t i = 0; i < runner->tasks.count; i++)
        if (!runner->tasks.items[i].is_ended)
            task_cancel(runner->tasks.items[i].task);
    if (runner->ended_count == runner->tasks.count)
        task_runner_close_ended(runner);
    else
        task_runner_look_at_undelivered(runner);
}

void task_runner_task_ended(struct task_runner *runner, struct task *task)
{
    for (size_t i = 0; i < runner->tasks.count; i++) {
        struct runner_task *entry = &runner->tasks.items[i];
        if (entry->task != task || entry->is_ended)
            continue;
        task_join(task);
        entry->is_ended = true;
        runner->ended_count++;
    }
}

/* ---- messages ---- */

static struct task *runner_find(struct task_runner *runner, const char *execution)
{
    for (size_t i = 0; i < runner->tasks.count; i++)
        if (!runner->tasks.items[i].is_ended && strcmp(task_execution(runner->tasks.items[i].task), execution) == 0)
            return runner->tasks.items[i].task;
    return NULL;
}

static enum barrier_kind kind_from_name(const char *name)
{
    if (strcmp(name, "savepoint") == 0)
        return BARRIER_SAVEPOINT;
    if (strcmp(name, "stop") == 0)
        return BARRIER_STOP;
    return strcmp(name, "drain") == 0 ? BARRIER_DRAIN : BARRIER_CHECKPOINT;
}

static void runner_trigger(struct task_runner *runner, const json_t *message)
{
    struct barrier barrier = {
        .checkpoint_id = (uint64_t)message_int(message, "checkpoint"),
        .timestamp_ms = message_int(message, "timestamp"),
        .kind = kind_from_name(message_text(message, "kind")),
        .location = checkpoint_location_create(message_text(message, "directory")),
    };
    size_t index;
    json_t *execution;
    json_array_foreach(json_object_get(message, "executions"), index, execution) {
        struct task *task = json_is_string(execution) ? runner_find(runner, json_string_value(execution)) : NULL;
        if (task != NULL)
            task_trigger_checkpoint(task, barrier_ref(barrier));
    }
    barrier_finish(&barrier);
}

static void runner_notify(struct task_runner *runner, const json_t *message, void (*notify)(struct task *task, uint64_t checkpoint_id))
{
    for (size_t i = 0; i < runner->tasks.count; i++)
        if (!runner->tasks.items[i].is_ended)
            notify(runner->tasks.items[i].task, (uint64_t)message_int(message, "checkpoint"));
}

static void runner_cancel(struct task_runner *runner)
{
    for (size_t i = 0; i < runner->tasks.count; i++)
        if (!runner->tasks.items[i].is_ended)
            task_cancel(runner->tasks.items[i].task);
}

void task_runner_message(struct task_runner *runner, uint16_t type, const json_t *json)
{
    check_on_loop(runner->options.loop);
    if (runner->is_closing)
        return;
    if (type == MESSAGE_DEPLOY) {
        task_runner_deploy(runner, json);
        return;
    }
    if (!id_equals(message_id(json, "job"), runner->job) || (uint64_t)message_int(json, "epoch") != runner->epoch)
        return;
    switch (type) {
    case MESSAGE_CANCEL:
        runner_cancel(runner);
        break;
    case MESSAGE_STACKS_GET:
        task_stacks_get(runner, json);
        break;
    case MESSAGE_TRIGGER_CHECKPOINT:
        runner_trigger(runner, json);
        break;
    case MESSAGE_CHECKPOINT_COMPLETE:
        written_files_completed(&runner->written, (uint64_t)message_int(json, "checkpoint"));
        runner_notify(runner, json, task_notify_checkpoint_complete);
        break;
    case MESSAGE_CHECKPOINT_ABORTED:
        written_files_aborted(&runner->written, (uint64_t)message_int(json, "checkpoint"));
        runner_notify(runner, json, task_notify_checkpoint_aborted);
        break;
    default:
        log_warn(LOGGER, "Message %s is not for a task runner.", message_type_name(type));
    }
}

void task_runner_accept(struct task_runner *runner, uv_tcp_t *handle, const char *peer)
{
    if (runner->is_closing) {
        rpc_handle_discard(handle);
        return;
    }
    if (runner->server == NULL)
        runner->server = net_server_create(runner->options.loop, true);
    net_server_accept(runner->server, handle, peer);
}

/* ---- what is known ---- */

uint32_t task_runner_task_count(const struct task_runner *runner)
{
    return (uint32_t)runner->tasks.count;
}

struct task *task_runner_task(struct task_runner *runner, uint32_t index)
{
    check(index < runner->tasks.count);
    return runner->tasks.items[index].task;
}

bool task_runner_task_is_ended(const struct task_runner *runner, uint32_t index)
{
    check(index < runner->tasks.count);
    return runner->tasks.items[index].is_ended;
}

bool task_runner_is_drained(const struct task_runner *runner)
{
    return runner->server == NULL || net_server_queued_bytes(runner->server) == 0;
}

int64_t task_runner_function_timeout_ms(const struct task_runner *runner)
{
    return runner->config == NULL ? 0 : config_ms(runner->config, OPTION_TASK_FUNCTION_TIMEOUT);
}

int64_t task_runner_memory_limit_bytes(const struct task_runner *runner)
{
    return runner->config == NULL ? 0 : config_bytes(runner->config, OPTION_TASK_MEMORY_LIMIT);
}
