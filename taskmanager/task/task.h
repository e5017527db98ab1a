/* A task: one subtask of a job vertex, run by a thread of its own that owns the operators, state, timers and books of its
 * chain. Others reach it by mail (closures that run between batches) and read its counters.
 * Life: task_create (channels are connected) -> task_start -> INITIALIZING -> RUNNING -> FINISHED | CANCELED | FAILED
 *   -> task_join -> task_destroy. */
#ifndef MILLRACE_TASK_TASK_H
#define MILLRACE_TASK_TASK_H

#include "taskmanager/net/input_gate.h"
#include "taskmanager/net/result_partition.h"
#include "taskmanager/state/snapshot.h"
#include "taskmanager/task/operator_chain.h"
#include "taskmanager/task/task_clock.h"

#include "common/base/id.h"

#include <jansson.h>

struct task;

enum task_state { TASK_CREATED, TASK_INITIALIZING, TASK_RUNNING, TASK_FINISHED, TASK_CANCELED, TASK_FAILED };
/* Flink's spelling. */
const char *task_state_name(enum task_state state);
bool task_state_is_final(enum task_state state);

/* What a task hands over at a barrier, on its way: task thread -> worker (checkpoint_report_write) -> ack -> task thread. */
struct checkpoint_report {
    struct task *task;
    struct barrier barrier; /* owned */
    struct snapshot *snapshot;
    json_t *books;
    bool is_finished; /* all input had ended */
    int64_t start_delay_ms;
    int64_t alignment_ms;
    uint64_t alignment_bytes;
    bool is_unaligned;
    int64_t sync_ns;
    int64_t async_start_ns;
    int64_t async_ns;
    struct snapshot_result result; /* after the write */
};

/* The process around the task. All callbacks on the task thread; they must not block for long. */
struct task_host {
    void *arg;
    /* Takes err (only with TASK_FAILED). After a final state nothing but task_join and task_destroy may follow. */
    void (*on_state)(void *arg, struct task *task, enum task_state state, struct error *err);
    /* Has checkpoint_report_write called by a worker, sends the ack or decline, and gives the report back to
     * checkpoint_report_release; the task does not end before. */
    void (*on_snapshot)(void *arg, struct checkpoint_report *report);
    /* Takes err. */
    void (*on_decline)(void *arg, struct task *task, uint64_t checkpoint_id, struct error *err);
};

struct task_output {
    struct vertex_edge edge;
    struct channel **channels; /* references are taken over; the array is borrowed for the call */
    uint32_t channel_count;
};

struct task_options {
    const struct job_graph *graph; /* borrowed as long as the task lives, as are library and restore_… */
    uint32_t vertex;
    uint32_t subtask_index;
    uint64_t attempt_number;
    const char *execution; /* the coordinator's id of this attempt; copied */
    uint64_t restored_checkpoint_id;
    const char *restore_directory;
    const json_t *restore_handles;
    const json_t *restore_books;
    bool checkpointing_enabled;
    bool is_exactly_once;
    int64_t unaligned_after_ms; /* how old an aligned barrier may get: 0 not at all, -1 as old as it likes */
    int64_t buffer_timeout_ms; /* -1: only when full or at an event */
    struct user_library *library;
    const struct gate_channel_options *inputs; /* references are taken over */
    uint32_t input_count;
    const struct task_output *outputs; /* in the order of job_graph_vertex_outputs */
    uint32_t output_count;
    struct task_host host;
};

/* Takes the channel references also when it fails. */
MUST_CHECK struct error *task_create(const struct task_options *options, struct task **out);
/* Starts the thread. */
MUST_CHECK struct error *task_start(struct task *task);
/* After a final state was reported (or before task_start). */
void task_join(struct task *task);
/* Accepts NULL. */
void task_destroy(struct task *task);

/* ---- any thread, as long as the task was not joined ---- */

/* Starts a checkpoint here: at sources, and at tasks whose inputs have all ended (elsewhere it waits for that). */
void task_trigger_checkpoint(struct task *task, struct barrier barrier);
void task_notify_checkpoint_complete(struct task *task, uint64_t checkpoint_id);
void task_notify_checkpoint_aborted(struct task *task, uint64_t checkpoint_id);
void task_cancel(struct task *task);
/* Has the task publish its operators' metrics anew soon. */
void task_refresh_metrics(struct task *task);
/* Counters and gauges of a METRICS message; operators as last published. Owned by the caller. */
json_t *task_metrics(struct task *task);

/* Nanoseconds in each state up to now. */
void task_times(struct task *task, int64_t totals_ns[TASK_TIME_COUNT]);

/* ---- immutable ---- */
const char *task_name(const struct task *task); /* "ClickEvent Counter (1/2)" */
const char *task_execution(const struct task *task);
/* The task whose thread this is, or NULL. Async-signal-safe. */
struct task *task_of_this_thread(void);
/* The thread of a started task, for the watchdog. */
pthread_t task_thread(const struct task *task);
/* The user function that the task's thread is in, or NULL; and a count that grows with each step of its loop. Any thread,
 * as long as the task was not joined. */
const char *task_current_function(const struct task *task);
uint64_t task_step_count(const struct task *task);
/* Of a finished task: other runners have not got all that it produced for them, so the process must not end yet. A socket that is closed
 * with its process loses what the other end has not read, as soon as that one sends anything (RFC 1122, 4.2.2.13). Any thread. */
bool task_has_undelivered(const struct task *task);

/* ---- a report's way ---- */
/* Worker thread. Writes the state file; fills result and async_ns. */
MUST_CHECK struct error *checkpoint_report_write(struct checkpoint_report *report);
/* {"sync_ms":…} of the ack. */
json_t *checkpoint_report_metrics(const struct checkpoint_report *report);
/* Any thread: gives the report back to its task, which frees it. */
void checkpoint_report_release(struct checkpoint_report *report);

#endif
