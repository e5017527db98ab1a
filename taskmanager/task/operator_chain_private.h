/* What the files of a chain share: operator_chain.c (making it, and what the task calls), chain_flow.c (rows and time through it, and the
 * op_… calls) and chain_held.c (input that waits at an operator). */
#ifndef MILLRACE_TASK_OPERATOR_CHAIN_PRIVATE_H
#define MILLRACE_TASK_OPERATOR_CHAIN_PRIVATE_H

#include "taskmanager/task/operator_chain.h"

#include "common/base/vec.h"
#include "taskmanager/net/in_flight.h"
#include "taskmanager/task/books.h"
#include "taskmanager/task/op_monitor.h"

#define INPUT_COUNT_MAX CHAIN_INPUT_COUNT_MAX
/* Batches held at one operator; behind these the next one waits until they are worked off. */
#define HELD_COUNT_MAX 16

struct chain_link {
    struct chain_node *target; /* NULL: leaves the chain through output */
    uint32_t target_input;
    struct chain_output *output;
};

struct link_list {
    VEC(struct chain_link) links;
};

struct chain_metric {
    const char *name; /* borrowed from the operator */
    double value;
};

struct chain_node {
    struct op *op;
    struct op_context ctx;
    struct books books;
    struct operator_chain *chain;
    struct link_list main;
    struct link_list *sides; /* spec->side_output_count of them */
    uint32_t input_count;    /* logical inputs; 0 for a source */
    int64_t input_watermark[INPUT_COUNT_MAX];
    bool is_input_idle[INPUT_COUNT_MAX];
    int64_t watermark;     /* combined, never falls */
    int64_t watermark_out; /* last one sent downstream */
    int64_t watermark_out_ms; /* wall clock: when that was; before the first one, when the chain was made */
    bool is_idle;          /* all inputs are idle */
    bool is_idle_out;
    int64_t wake_at_ms;
    int64_t row_ns; /* what a row of the last batch took, back pressure included; not of operators that hand back */
    VEC(struct in_flight_item) held; /* input that waits for the task's next slice, in order of arrival; origin: the input */
    uint64_t fired_timers;
    VEC(struct chain_metric) metrics;
};

struct operator_chain {
    struct operator_chain_options options;
    const struct job_vertex *vertex;
    struct chain_node *nodes;
    uint32_t node_count;
    uint32_t *gate_inputs; /* gate -> logical input of the head */
    uint32_t gate_count;
    int64_t slice_end_ns;
    int64_t resumed_ns; /* spent on rows that were held, back pressure excluded */
    bool is_snapshotting; /* unaligned: what comes to an operator that holds something waits, however much there is */
    char *task_name;
};

/* Around a call into the operator: its time is its own. What it emits meanwhile is the next one's (op_monitor.h). */
static inline uint32_t node_enter(const struct chain_node *node)
{
    return op_monitor_switch(node->ctx.monitor, op_place_own(node->ctx.chain_index));
}

static inline void node_leave(const struct chain_node *node, uint32_t place_before)
{
    op_monitor_switch(node->ctx.monitor, place_before);
}

/* ---- chain_flow.c ---- */
/* Time under back pressure; 0 without a clock. */
int64_t chain_blocked_ns(const struct operator_chain *chain);
void chain_begin_slice(struct operator_chain *chain);
/* Input as it comes from upstream; it waits when there is some at the operator already. batch is borrowed. */
MUST_CHECK struct error *node_process(struct chain_node *node, uint32_t input, struct batch *batch);
MUST_CHECK struct error *node_input_watermark(struct chain_node *node, uint32_t input, int64_t time);
MUST_CHECK struct error *node_input_idle(struct chain_node *node, uint32_t input, bool is_idle);
/* The same for input whose turn it is. */
MUST_CHECK struct error *node_run_rows(struct chain_node *node, uint32_t input, struct batch *batch);
MUST_CHECK struct error *node_run_watermark(struct chain_node *node, uint32_t input, int64_t time);
MUST_CHECK struct error *node_run_idle(struct chain_node *node, uint32_t input, bool is_idle);
MUST_CHECK struct error *node_emit_watermark(struct chain_node *node, int64_t time);
MUST_CHECK struct error *node_emit_idle(struct chain_node *node, bool is_idle);

/* ---- chain_held.c ---- */
/* Take a reference to the batch. first: in front of what is held. */
void node_hold_rows(struct chain_node *node, uint32_t input, struct batch *batch, bool is_first);
void node_hold_event(struct chain_node *node, uint32_t input, struct element event);
/* The first of what is held. */
MUST_CHECK struct error *node_run_held(struct chain_node *node);
/* Until nothing is held here; an abort ends it. */
MUST_CHECK struct error *node_work_off(struct chain_node *node);
/* The node nearest to the end of the chain that holds something; NULL: none does. */
struct chain_node *chain_last_holding(const struct operator_chain *chain);
/* Everything that is held, and from now on nothing is handed back. */
MUST_CHECK struct error *chain_work_off(struct operator_chain *chain);
/* What can be dealt out anew becomes part of the snapshot as it is; the rest is worked off. After it come prepare_snapshot and snapshot. */
MUST_CHECK struct error *chain_work_off_undealable(struct operator_chain *chain);
/* Adds what the node holds to the snapshot, whose operator is the node's. Returns the rows by input. */
void node_snapshot_held(struct chain_node *node, struct snapshot *snapshot, uint64_t row_counts[INPUT_COUNT_MAX]);
MUST_CHECK struct error *node_restore_held(struct chain_node *node, const json_t *handles);
void node_drop_held(struct chain_node *node);

#endif
