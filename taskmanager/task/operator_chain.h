/* The operators of one subtask, fused: batches and events pass from one to the next by direct calls on the task thread.
 * The chain implements op_emit and friends (op.h); what leaves it goes to a chain_output, which the task's result
 * partitions (or a test) implement. It counts rows in and out in each operator's books, keeps each operator's
 * watermark, and dispatches wake-ups. Rows that an operator handed back because its slice of time was over (op_ticker.h), and
 * whatever comes behind them, are held at that operator: the task resumes them before it gives the chain anything else.
 * One owner: the task thread. */
#ifndef MILLRACE_TASK_OPERATOR_CHAIN_H
#define MILLRACE_TASK_OPERATOR_CHAIN_H

#include "taskmanager/ops/op.h"

#define CHAIN_INPUT_COUNT_MAX 2

struct operator_chain;
struct task_clock;
struct op_monitor;

/* Where an edge that leaves the chain goes. One per vertex output edge, in the order of job_graph_vertex_outputs. */
struct chain_output {
    /* Takes batch; may block while downstream is full. */
    struct error *(*emit)(struct chain_output *output, struct batch *batch);
    struct error *(*emit_watermark)(struct chain_output *output, int64_t time);
    struct error *(*emit_idle)(struct chain_output *output, bool is_idle);
};

struct operator_chain_options {
    const struct job_graph *graph;
    uint32_t vertex;
    uint32_t subtask_index;
    uint64_t attempt_number;
    uint64_t restored_checkpoint_id;
    const char *restore_directory; /* NULL: fresh start */
    const json_t *restore_handles; /* object: operator id hex -> array of handles; may be NULL */
    const json_t *restore_books;   /* object: operator id hex -> books; may be NULL */
    bool checkpointing_enabled;
    struct user_library *library;
    int wake_fd;
    const atomic_bool *is_aborting; /* op_context's */
    atomic_ullong *step_count;      /* op_context's */
    int64_t slice_ns;               /* how long a call of process, poll, wake or resume should take at most; 0: no limit */
    struct task_clock *clock; /* taskmanager/task/task_clock.h: for op_blocked_ns_total; NULL: output never holds it up */
    struct op_monitor *monitor; /* taskmanager/task/op_monitor.h, of as many operators as the vertex has; NULL: nobody looks */
    struct chain_output **outputs;
    uint32_t output_count;
};

/* Creates, restores and opens every operator, the last one first. */
MUST_CHECK struct error *operator_chain_create(const struct operator_chain_options *options, struct operator_chain **out);
/* The head's input of gate i (job_graph_vertex_inputs) gets a batch (borrowed), a watermark (already merged over the
 * channels of all gates with the same logical input), or an idleness change. */
MUST_CHECK struct error *operator_chain_process(struct operator_chain *chain, uint32_t gate, struct batch *batch);
MUST_CHECK struct error *operator_chain_watermark(struct operator_chain *chain, uint32_t gate, int64_t time);
MUST_CHECK struct error *operator_chain_idle(struct operator_chain *chain, uint32_t gate, bool is_idle);
/* Sources: the head's poll. */
MUST_CHECK struct error *operator_chain_poll(struct operator_chain *chain, uint32_t max_rows, enum source_status *status);
/* True: input is held at some operator; only resume, wake, the checkpoint notifications and metrics may be called; end_input and an
 * aligned snapshot first work it off whole. resume works on it for one slice. */
bool operator_chain_is_holding(const struct operator_chain *chain);
MUST_CHECK struct error *operator_chain_resume(struct operator_chain *chain);
/* Earliest processing-time wake-up wanted, INT64_MAX when none; and running those that are due. */
int64_t operator_chain_next_wake_ms(const struct operator_chain *chain);
MUST_CHECK struct error *operator_chain_wake(struct operator_chain *chain, int64_t now_ms);
/* Barrier: prepare_snapshot of each operator upstream first, then snapshot of each. *books: object operator id -> books. Unaligned: input
 * that is held becomes part of the snapshot (but for operators with a broadcast input, whose rows cannot be dealt out anew). */
struct snapshot;
struct chain_cut {
    uint64_t checkpoint_id;
    bool is_unaligned;
    uint64_t rows_in_flight[CHAIN_INPUT_COUNT_MAX]; /* to the head, by logical input: for its books */
};
MUST_CHECK struct error *operator_chain_snapshot(struct operator_chain *chain, const struct chain_cut *cut, struct snapshot *snapshot,
                                                 json_t **books);
MUST_CHECK struct error *operator_chain_checkpoint_complete(struct operator_chain *chain, uint64_t checkpoint_id);
void operator_chain_checkpoint_aborted(struct operator_chain *chain, uint64_t checkpoint_id);
/* All gates ended: TIME_MAX watermark first when is_drain, then end_input of each operator, upstream first. */
MUST_CHECK struct error *operator_chain_end_input(struct operator_chain *chain, bool is_drain);
/* Per-operator metrics: array of {"operator": id, "name", "books": …, "metrics": {name: value}, "watermark_in", "watermark_out",
 * "watermark_out_since", "is_idle", and what its describe adds}. Task thread. */
json_t *operator_chain_metrics(struct operator_chain *chain);
/* Name of the user function that the thread is in right now, or NULL: read by the crash handler, async-signal-safe. */
const char *operator_chain_current_function(void);
/* close and destroy of every operator. Accepts NULL. */
void operator_chain_destroy(struct operator_chain *chain);

#endif
