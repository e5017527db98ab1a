/* The tasks of one job attempt in this process, driven by control messages (ARCHITECTURE.md, "Frames and messages"): what the
 * program task-runner is around, and what tests embed. It connects channels (local ones by reference, remote ones over
 * net_client and net_server), starts tasks, passes checkpoints on, has snapshots written by workers, and reports.
 * Thread: the loop's, for all calls and callbacks. */
#ifndef MILLRACE_TASK_TASK_RUNNER_H
#define MILLRACE_TASK_TASK_RUNNER_H

#include "common/base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct task;
struct task_runner;
struct user_library;

struct task_runner_options {
    uv_loop_t *loop;
    const char *taskmanager_id;   /* copied; peers with this id are in this process */
    struct user_library *library; /* borrowed; NULL: DEPLOY's library_path is opened */
    /* TASK_STATE, CHECKPOINT_ACK, CHECKPOINT_DECLINE, METRICS: type is an enum message_type, json is borrowed. */
    void (*on_message)(void *context, uint16_t type, const json_t *json);
    /* Every task has ended and its last metrics are reported. May be called again after another DEPLOY. */
    void (*on_all_ended)(void *context);
    void *context;
};

struct task_runner *task_runner_create(const struct task_runner_options *options);
/* DEPLOY, CANCEL, TRIGGER_CHECKPOINT, CHECKPOINT_COMPLETE, CHECKPOINT_ABORTED; json is borrowed. DEPLOY's failure is reported as
 * the failure of its tasks. Messages of another job or epoch are ignored. */
void task_runner_message(struct task_runner *runner, uint16_t type, const json_t *json);
/* An accepted, greeted data connection of the runner on the taskmanager `peer`; takes handle. */
void task_runner_accept(struct task_runner *runner, uv_tcp_t *handle, const char *peer);
/* Tasks by index, in order of deployment; ended ones stay. */
uint32_t task_runner_task_count(const struct task_runner *runner);
struct task *task_runner_task(struct task_runner *runner, uint32_t index);
bool task_runner_task_is_ended(const struct task_runner *runner, uint32_t index);
/* Everything that was produced for other runners is with the kernel. */
bool task_runner_is_drained(const struct task_runner *runner);
/* {"job", "epoch", "tasks": [...], "process": {...}}: a METRICS message as of now. */
json_t *task_runner_metrics(struct task_runner *runner);
/* Options of the job (its own value, else the cluster's); 0: none, also before DEPLOY. */
int64_t task_runner_function_timeout_ms(const struct task_runner *runner);
int64_t task_runner_memory_limit_bytes(const struct task_runner *runner);
/* Cancels what still runs; once all tasks have ended and all threads are joined, frees the runner and calls on_closed (may be
 * NULL), from the loop. No message is sent any more. */
void task_runner_close(struct task_runner *runner, void (*on_closed)(void *context), void *context);

#endif
