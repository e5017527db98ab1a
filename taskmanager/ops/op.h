/* The operator contract: what every operator of a chain implements and what the task gives it.
 * All callbacks run on the task thread that owns the operator; nothing here is shared. An operator is a struct whose first
 * member is struct op. Batches passed in are borrowed; a kept one is ref'd. Batches passed to op_emit are taken.
 * Order of calls: create -> restore (once per restored part, before open) -> open -> process/watermark/timer/snapshot …
 *   -> end_input -> (notify_checkpoint_complete of the final checkpoint) -> close -> destroy. */
#ifndef MILLRACE_OPS_OP_H
#define MILLRACE_OPS_OP_H

#include "common/base/error.h"
#include "common/columnar/batch.h"
#include "common/graph/job_graph.h"

#include <stdatomic.h>
#include <stdint.h>

struct op;
struct op_context;
struct snapshot;        /* taskmanager/state/snapshot.h: what an operator adds its state to at a barrier */
struct restored_state;  /* taskmanager/state/snapshot.h: what an operator reads its state from */
struct timer_service;   /* taskmanager/time/timer_service.h */
struct books;           /* taskmanager/task/books.h */
struct user_library;    /* taskmanager/task/user_library.h */
struct op_monitor;      /* taskmanager/task/op_monitor.h */

enum source_status {
    SOURCE_MORE,  /* poll again at once */
    SOURCE_EMPTY, /* nothing now: wait for op_context.wake_fd, or for op_wake_at */
    SOURCE_END,   /* bounded source: nothing ever again */
};

struct op_vtable {
    const char *type; /* the operator type in the job graph: "map", "window", "kafka-source" … */
    /* Parses ctx->spec; a bad option is an error that names it. ctx outlives the operator. */
    MUST_CHECK struct error *(*create)(struct op_context *ctx, struct op **out);
    /* Optional. Gets all state of this operator (by uid) that belongs to this subtask. */
    MUST_CHECK struct error *(*restore)(struct op *op, struct restored_state *state);
    MUST_CHECK struct error *(*open)(struct op *op);
    /* input: 0, or 1 for the second input of a two-input operator. It may call op_hand_back and return early. */
    MUST_CHECK struct error *(*process)(struct op *op, uint32_t input, struct batch *batch);
    /* The operator's input watermark rose to time. The task forwards it afterwards unless the operator returns through
     * *forward a lower one. Optional: without it the watermark passes through. */
    MUST_CHECK struct error *(*watermark)(struct op *op, int64_t time, int64_t *forward);
    /* A processing-time wake-up that the operator asked for with op_wake_at. */
    MUST_CHECK struct error *(*wake)(struct op *op, int64_t now_ms);
    /* The barrier: adds everything that the operator needs to resume. Must not block and must not touch row data in
     * proportion to the state's size: big state is handed over as a shared copy-on-write view (snapshot.h). */
    MUST_CHECK struct error *(*snapshot)(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot);
    /* Before the barrier: push out what is buffered (sinks flush here; may block on the outside). is_final: no more data. */
    MUST_CHECK struct error *(*prepare_snapshot)(struct op *op, uint64_t checkpoint_id);
    MUST_CHECK struct error *(*checkpoint_complete)(struct op *op, uint64_t checkpoint_id);
    void (*checkpoint_aborted)(struct op *op, uint64_t checkpoint_id);
    /* All inputs ended (or the job is stopped with drain): emit what is left. */
    MUST_CHECK struct error *(*end_input)(struct op *op);
    /* Releases outside resources; called once, also after a failure. */
    void (*close)(struct op *op);
    void (*destroy)(struct op *op);
    /* Optional. Adds to the operator's part of a metrics report what is neither counter nor gauge (splits, windows under way); called
     * at each report, between batches. */
    void (*describe)(struct op *op, json_t *report);

    /* Sources only. Emits at most about max_rows rows and says what to do next; never blocks. */
    MUST_CHECK struct error *(*poll)(struct op *op, uint32_t max_rows, enum source_status *status);

    /* The operator makes watermarks and idleness itself (assign_timestamps): those of its input stop here. */
    bool generates_watermarks;
    /* process always watches the clock (op_ticker.h); batches for other operators are cut by what rows took before. */
    bool hands_back;
};

struct op {
    const struct op_vtable *vtable;
    struct op_context *ctx;
};

/* Made by the task for each operator of the chain. Read-only for operators except where noted. */
struct op_context {
    const struct job_graph *graph;
    const struct job_operator *spec; /* name, uid, type, options, schemas */
    uint32_t subtask_index;
    uint32_t parallelism;
    uint32_t max_parallelism;
    uint32_t key_group_first; /* this subtask's range, inclusive */
    uint32_t key_group_last;
    uint64_t attempt_number;
    const char *task_name;          /* "ClickEvent Counter (1/2)" */
    bool checkpointing_enabled;
    uint64_t restored_checkpoint_id; /* 0: a fresh start */
    struct books *books;             /* this operator's counters: written by the operator */
    struct user_library *library;    /* NULL when the job has no shared object */
    int wake_fd;                     /* eventfd of the task: any thread may write 8 bytes to it to have poll called again */
    /* True once the task was cancelled or has failed: waits for the outside end with CANCELLED at once, and close flushes nothing and
     * waits for nobody. NULL: never. Any thread may look while the operator exists. */
    const atomic_bool *is_aborting;
    const int64_t *slice_end_ns;     /* monotonic: when a loop over rows should hand back the rest; NULL: never */
    atomic_ullong *step_count;       /* raised every few calls of user code, for the watchdog; NULL: nobody looks */
    struct op_monitor *monitor;      /* where the task's time goes (taskmanager/task/op_monitor.h); NULL: nobody looks */
    uint32_t chain_index;            /* of the operator in its chain */
    struct task *task;               /* private to task.c */
    void *chain_link;                /* private to operator_chain.c */
};

/* ---- what an operator may call; implemented by taskmanager/task/operator_chain.c ---- */

/* Emits rows of the operator's output schema downstream: to the next operator of the chain by direct call, or into the
 * exchange. Takes batch; an empty batch is dropped. May block while the exchange is full (accounted as back pressure).
 * Counts rows out in the books. */
MUST_CHECK struct error *op_emit(struct op *op, struct batch *batch);
/* To the side output that spec->side_outputs[index] names. */
MUST_CHECK struct error *op_emit_side(struct op *op, uint32_t index, struct batch *batch);
/* In process, once: the rows of batch from first_row on were not looked at; they come again, before any other input of this operator.
 * At least one row was consumed. batch is borrowed. What was emitted before stays emitted. */
void op_hand_back(struct op *op, uint32_t input, const struct batch *batch, uint32_t first_row);
/* Sources: raises the watermark (ignored unless greater than the last), and says idle or active. */
MUST_CHECK struct error *op_emit_watermark(struct op *op, int64_t time);
MUST_CHECK struct error *op_emit_idle(struct op *op, bool is_idle);
/* The operator's current input watermark (TIME_MIN before the first). */
int64_t op_current_watermark(const struct op *op);
/* Asks for wake() at or after this wall-clock time; the earliest pending one counts. */
void op_wake_at(struct op *op, int64_t time_ms);
/* Nanoseconds in which the task took no input although there may have been some: it waited for output, or worked on rows that slow
 * operators had handed back. Idleness clocks stand still. */
int64_t op_blocked_ns_total(const struct op *op);
/* So many timers fired (a window of a key counts as one). */
void op_count_timers(struct op *op, uint64_t count);
/* A counter or gauge under Flink's name that shows in this operator's metrics; borrowed name. */
void op_metric_set(struct op *op, const char *name, double value);

/* Around a wait for the outside (a broker, a disk) within a callback: that time is told apart from the operator's own. */
void op_wait_begin(struct op *op);
void op_wait_end(struct op *op);
/* What is wrong between this operator and the outside, for the diagnosis of the job: code, a word that its rules know; subject, the topic
 * or broker (may be NULL); text, for people. All are copied. code NULL: nothing is wrong any more. Any thread, while the operator exists. */
void op_status_set(struct op *op, const char *code, const char *subject, const char *text);

static inline bool op_is_aborting(const struct op *op)
{
    return op->ctx->is_aborting != NULL && atomic_load(op->ctx->is_aborting);
}

/* The table of all operators: ops.def. NULL when unknown. */
const struct op_vtable *op_vtable_find(const char *type);

#endif
