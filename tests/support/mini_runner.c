/* A task runner without a process (mini_runner.h). It is gone when its control pipe is closed and all its threads are joined; only
 * then the agent hears of its exit. Thread: the loop's. Owner: itself, once started. */
#include "tests/support/mini_runner.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc_conn.h"
#include "taskmanager/task/task_runner.h"

#include <signal.h>
#include <stdlib.h>

enum { LINGER_MS = 1500, LINGER_LOOK_MS = 2 };

struct mini_runner {
    struct mini_runners *runners;
    struct agent_runner_start options;
    struct rpc_conn *control;
    struct task_runner *runner; /* NULL once closed */
    struct loop_timer *silence_timer;
    struct loop_timer *end_timer;
    int64_t heard_at_ms;
    int64_t ended_at_ms;
    int exit_status;
    int exit_signal;
    bool is_ending;
};

static void finish_if_gone(struct mini_runner *self)
{
    if (!self->is_ending || self->control != NULL || self->runner != NULL)
        return;
    self->runners->count--;
    self->options.on_exit(self->options.argument, self->exit_status, self->exit_signal);
    free(self);
}

static void on_runner_closed(void *context)
{
    struct mini_runner *self = context;
    self->runner = NULL;
    finish_if_gone(self);
}

static void end(struct mini_runner *self, int exit_status, int exit_signal)
{
    if (self->is_ending)
        return;
    self->is_ending = true;
    self->exit_status = exit_status;
    self->exit_signal = exit_signal;
    loop_timer_stop(&self->silence_timer);
    loop_timer_stop(&self->end_timer);
    if (self->control != NULL)
        rpc_conn_close(self->control, NULL);
    task_runner_close(self->runner, on_runner_closed, self);
}

/* ---- what the tasks say ---- */

static void on_message(void *context, uint16_t type, const json_t *json)
{
    struct mini_runner *self = context;
    if (self->control != NULL)
        rpc_conn_send_json(self->control, type, json);
}

static void on_end_timer(void *argument)
{
    struct mini_runner *self = argument;
    bool is_patient = clock_mono_ms() - self->ended_at_ms < LINGER_MS;
    if (is_patient && (!task_runner_is_drained(self->runner) || rpc_conn_queued_bytes(self->control) > 0))
        return;
    end(self, 0, 0);
}

static void on_all_ended(void *context)
{
    struct mini_runner *self = context;
    self->ended_at_ms = clock_mono_ms();
    if (self->end_timer == NULL && !self->is_ending)
        self->end_timer = loop_timer_start(self->runners->loop, LINGER_LOOK_MS, LINGER_LOOK_MS, on_end_timer, self);
}

/* ---- what the agent says ---- */

static void on_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    struct mini_runner *self = context;
    json_t *message;
    self->heard_at_ms = clock_mono_ms();
    struct error *err = message_parse(frame->type, frame->body, frame->length, &message);
    if (err != NULL) {
        rpc_conn_close(conn, err);
        return;
    }
    if (frame->type == MESSAGE_HEARTBEAT) {
        rpc_conn_send_json(conn, MESSAGE_HEARTBEAT_ACK, message);
    } else if (frame->type == MESSAGE_DATA_CONNECTION) {
        uv_tcp_t *handle = rpc_conn_take_handle(conn);
        check(handle != NULL);
        task_runner_accept(self->runner, handle, message_text(message, "runner"));
    } else if (frame->type != MESSAGE_HEARTBEAT_ACK) {
        if (frame->type == MESSAGE_DEPLOY)
            loop_timer_stop(&self->end_timer);
        task_runner_message(self->runner, frame->type, message);
    }
    json_decref(message);
}

static void on_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    struct mini_runner *self = context;
    (void)conn;
    (void)reason;
    self->control = NULL;
    end(self, 1, 0);
    finish_if_gone(self);
}

static const struct rpc_conn_handler control_handler = {.on_frame = on_frame, .on_close = on_close};

static void on_silence_timer(void *argument)
{
    struct mini_runner *self = argument;
    if (clock_mono_ms() - self->heard_at_ms >= self->options.heartbeat_timeout_ms)
        end(self, 1, 0);
}

/* ---- the host ---- */

static struct error *runner_start(void *context, const struct agent_runner_start *options, void **out)
{
    struct mini_runners *runners = context;
    struct mini_runner *self = heap_new(struct mini_runner);
    uint64_t look_ms = (uint64_t)(options->heartbeat_timeout_ms + 3) / 4;
    self->runners = runners;
    self->options = *options;
    struct error *err = rpc_conn_open_pipe(runners->loop, options->control_fd, &control_handler, self, &self->control);
    if (err != NULL) {
        free(self);
        return err;
    }
    self->runner = task_runner_create(&(struct task_runner_options){
        .loop = runners->loop,
        .taskmanager_id = options->taskmanager_id,
        .library = runners->library,
        .on_message = on_message,
        .on_all_ended = on_all_ended,
        .context = self,
    });
    self->heard_at_ms = clock_mono_ms();
    self->silence_timer = loop_timer_start(runners->loop, look_ms, look_ms, on_silence_timer, self);
    runners->count++;
    *out = self;
    return NULL;
}

static void runner_kill(void *context, void *runner)
{
    (void)context;
    end(runner, 0, SIGKILL);
}

struct agent_runner_host mini_runner_host(struct mini_runners *runners)
{
    return (struct agent_runner_host){.start = runner_start, .kill = runner_kill, .context = runners};
}
