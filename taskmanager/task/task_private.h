/* What task.c, task_loop.c, task_checkpoint.c and task_metrics.c share. */
#ifndef MILLRACE_TASK_TASK_PRIVATE_H
#define MILLRACE_TASK_TASK_PRIVATE_H

#include "taskmanager/task/op_monitor.h"
#include "taskmanager/task/mail_latency.h"
#include "taskmanager/task/task.h"
#include "taskmanager/task/time_histogram.h"
#include "taskmanager/time/watermark_valve.h"

#include "common/base/vec.h"

#define LOGICAL_INPUT_COUNT_MAX 2
/* Rows of slow functions are worked on for so long between two looks at the mail. */
#define TASK_SLICE_NS (100 * (int64_t)1000000)

struct task_mail {
    struct error *(*run)(struct task *task, void *arg);
    void *arg;
    void (*discard)(void *arg); /* instead of run when the task has ended; may be NULL */
};

struct task {
    struct task_options options; /* inputs and outputs cleared */
    char *name;
    char *execution;
    struct task_host host;
    atomic_int state;
    pthread_t thread;
    bool is_started;

    /* the mailbox: any thread */
    pthread_mutex_t mail_lock;
    VEC(struct task_mail) mail;
    atomic_uint mail_count;
    int wake_fd;
    atomic_bool is_sleeping;
    atomic_bool is_cancelled;
    atomic_llong trigger_due_ms; /* wall clock: a trigger in the mail or pending must not wait any longer; INT64_MAX: none */
    atomic_bool is_aborting; /* cancelled, or failed: nothing is waited for any more */

    /* published for others */
    const char *const *_Atomic current_function; /* the thread's own variable; NULL before it runs */
    atomic_ullong step_count;
    struct task_clock clock;
    struct op_monitor *monitor;
    atomic_ullong rows_in;
    atomic_ullong bytes_in;
    atomic_ullong bytes_in_remote;
    atomic_ullong batches_in;
    atomic_ullong batches_in_remote;
    atomic_ullong mails_run;
    struct mail_latency mail_latency;
    atomic_llong started_ns;      /* monotonic; 0: not yet, as the next one */
    atomic_llong initialized_ns;
    atomic_llong alignment_ns_last;
    atomic_llong start_delay_ns_last;
    struct time_histogram sync_times;           /* of snapshots on the task thread */
    struct time_histogram batch_times;          /* of input batches, waits for output excluded */
    struct time_histogram snapshot_batch_times; /* those of them that ran while a worker held a snapshot: page copies */
    uint64_t mails_reported;   /* in the report before; its thread's own */
    int64_t mails_reported_ns;
    pthread_mutex_t metrics_lock;
    json_t *operators;         /* as last published */

    /* the task thread's own */
    struct operator_chain *chain;
    struct input_gate *gate; /* NULL for a source */
    struct result_partition **outputs;
    uint32_t output_count;
    struct watermark_valve *valves[LOGICAL_INPUT_COUNT_MAX];
    uint32_t *gate_inputs;      /* edge -> logical input */
    uint32_t *valve_channels;   /* gate channel -> channel in its valve */
    int64_t flush_due_ns;       /* 0: nothing waits */
    bool is_source_ended;       /* but rows may still be held in the chain */
    bool wake_seen;             /* the eventfd was read while blocked in an emit */
    bool is_data_ended;         /* end_input has run and END_OF_DATA was sent */
    bool is_finished;           /* the loop ends */
    bool is_ending;             /* the loop has ended, well or not: what mail still comes finds no task to act upon */
    bool is_snapshotting;       /* for an unaligned checkpoint: what operators emit does not wait for room */
    uint64_t final_checkpoint_id; /* the first checkpoint after the end of data; 0: none yet */
    uint64_t stop_checkpoint_id;  /* suspended: a stop or drain savepoint waits for its completion */
    bool is_drained;
    struct barrier pending_trigger; /* came before all inputs had ended; id 0: none */
    uint64_t last_checkpoint_id;
    uint64_t last_completed_id;
    uint32_t report_count; /* with a worker */
};

/* Any thread. */
void task_post(struct task *task, struct error *(*run)(struct task *task, void *arg), void *arg, void (*discard)(void *arg));
/* Any thread: has a sleeping task look again. */
void task_wake(void *arg);

/* ---- task_loop.c, task thread ---- */
MUST_CHECK struct error *task_run(struct task *task);
MUST_CHECK struct error *task_run_mails(struct task *task);
/* Sleeps until woken or timeout_ms (-1: none) and accounts the time to state. */
void task_sleep(struct task *task, enum task_time state, int64_t timeout_ms);
MUST_CHECK struct error *task_broadcast(struct task *task, struct element event);
/* end_input of the chain, END_OF_DATA downstream. */
MUST_CHECK struct error *task_end_data(struct task *task, bool is_drain);
/* END_OF_PARTITION downstream, and the loop ends. */
MUST_CHECK struct error *task_finish_partitions(struct task *task);
struct error *task_wait_for_room(void *arg, struct channel *channel);

/* ---- task_checkpoint.c, task thread ---- */
/* Takes what the event owns. */
MUST_CHECK struct error *task_take_checkpoint(struct task *task, struct gate_event *event);
/* A trigger by message. Takes barrier. */
MUST_CHECK struct error *task_begin_checkpoint(struct task *task, struct barrier barrier);
MUST_CHECK struct error *task_checkpoint_aborted_upstream(struct task *task, uint64_t checkpoint_id);
MUST_CHECK struct error *task_pending_trigger_ready(struct task *task);
/* Wall clock: when a barrier or trigger must be looked at although the task holds rows or waits for output; 0: now, INT64_MAX: none is
 * in sight. */
int64_t task_urgent_ms(const struct task *task);
/* Does what is urgent by now. */
MUST_CHECK struct error *task_run_urgent(struct task *task);

/* ---- task_in_flight.c, task thread ---- */
/* Adds what was in flight to the task (origin: gate channel; taken, may be NULL) to the snapshot and its rows to the cut. */
void task_save_in_flight(struct task *task, struct in_flight *in_flight, struct snapshot *snapshot, struct chain_cut *cut);
/* Has the gate play what a restored checkpoint says was in flight. After the chain was created. */
MUST_CHECK struct error *task_restore_in_flight(struct task *task);

/* ---- task_metrics.c ---- */
/* Task thread: publishes the operators' metrics. */
void task_publish_operators(struct task *task);

#endif
