/* Input that waits at an operator of a chain, because the operator handed rows back when its slice of time was over (op_ticker.h): the list,
 * working it off, and its way through an unaligned checkpoint, whose barrier does not wait for it.
 * Thread: the task thread. Owner: the task. */
#include "taskmanager/task/operator_chain_private.h"

#include "common/base/check.h"
#include "taskmanager/task/in_flight_restore.h"

#include <string.h>

void node_hold_rows(struct chain_node *node, uint32_t input, struct batch *batch, bool is_first)
{
    struct element element = {.type = ELEMENT_BATCH, .as.rows = {.batch = batch_ref(batch)}};
    struct in_flight_item item = {.origin = input, .element = element};
    vec_push(&node->held, item);
    if (!is_first)
        return;
    memmove(&node->held.items[1], &node->held.items[0], (node->held.count - 1) * sizeof item);
    node->held.items[0] = item;
}

void node_hold_event(struct chain_node *node, uint32_t input, struct element event)
{
    vec_push(&node->held, ((struct in_flight_item){.origin = input, .element = event}));
}

/* What is behind the first must not overtake it, so it is gone from the list before it runs, and input that comes from upstream meanwhile
 * is impossible: this runs when nothing upstream does. */
struct error *node_run_held(struct chain_node *node)
{
    struct in_flight_item first = node->held.items[0];
    vec_remove(&node->held, 0);
    if (first.element.type == ELEMENT_WATERMARK)
        return node_run_watermark(node, first.origin, first.element.as.watermark);
    if (first.element.type == ELEMENT_IDLE)
        return node_run_idle(node, first.origin, first.element.as.is_idle);
    struct error *err = node_run_rows(node, first.origin, first.element.as.rows.batch);
    element_finish(&first.element);
    return err;
}

struct error *node_work_off(struct chain_node *node)
{
    int64_t slice_end_ns = node->chain->slice_end_ns;
    node->chain->slice_end_ns = INT64_MAX;
    struct error *err = NULL;
    while (node->held.count > 0 && err == NULL) {
        if (op_is_aborting(node->op))
            err = error_new(CANCELLED, "task %s was cancelled", node->chain->task_name);
        else
            err = node_run_held(node);
    }
    node->chain->slice_end_ns = slice_end_ns;
    return err;
}

void node_drop_held(struct chain_node *node)
{
    for (size_t i = 0; i < node->held.count; i++)
        element_finish(&node->held.items[i].element);
    vec_finish(&node->held);
}

/* Held input nearest to the chain's end goes first: what it emits then finds free places. */
struct chain_node *chain_last_holding(const struct operator_chain *chain)
{
    for (uint32_t i = chain->node_count; i-- > 0;)
        if (chain->nodes[i].held.count > 0)
            return &chain->nodes[i];
    return NULL;
}

struct error *chain_work_off(struct operator_chain *chain)
{
    chain->slice_end_ns = INT64_MAX;
    struct chain_node *node;
    while ((node = chain_last_holding(chain)) != NULL)
        TRY(node_work_off(node));
    return NULL;
}

/* ---- held input in unaligned checkpoints ---- */

/* The first edge that feeds the input. */
static uint32_t input_edge(const struct job_operator *spec, uint32_t input)
{
    for (uint32_t i = 0; i < spec->input_count; i++)
        if (spec->inputs[i].input == input)
            return i;
    check(false && "rows are held at an input that nothing feeds");
    return 0;
}

static bool node_is_dealable(const struct chain_node *node)
{
    const struct job_operator *spec = node->ctx.spec;
    for (uint32_t i = 0; i < spec->input_count; i++)
        if (spec->inputs[i].partitioning == PARTITION_BROADCAST)
            return false;
    return true;
}

struct error *chain_work_off_undealable(struct operator_chain *chain)
{
    for (uint32_t i = chain->node_count; i-- > 0;)
        if (!node_is_dealable(&chain->nodes[i]))
            TRY(node_work_off(&chain->nodes[i]));
    return NULL;
}

void node_snapshot_held(struct chain_node *node, struct snapshot *snapshot, uint64_t row_counts[INPUT_COUNT_MAX])
{
    for (uint32_t input = 0; input < node->input_count && node->held.count > 0; input++) {
        struct in_flight *held = in_flight_create();
        for (size_t i = 0; i < node->held.count; i++)
            if (node->held.items[i].origin == input)
                in_flight_add(held, input, element_ref(node->held.items[i].element));
        row_counts[input] += held->row_count;
        if (held->items.count == 0)
            in_flight_destroy(held);
        else
            in_flight_save(snapshot, node->chain->options.graph, node->ctx.spec, input_edge(node->ctx.spec, input), IN_FLIGHT_HELD, input,
                           node->ctx.subtask_index, held);
    }
}

struct held_restore {
    struct chain_node *node;
    bool is_idle[INPUT_COUNT_MAX];
};

static void on_held(void *arg, uint32_t edge, uint32_t number, uint32_t origin, bool is_exact, struct element element)
{
    struct held_restore *restore = arg;
    uint32_t input = restore->node->ctx.spec->inputs[edge].input;
    (void)number;
    (void)origin;
    (void)is_exact;
    if (element.type == ELEMENT_IDLE)
        restore->is_idle[input] = element.as.is_idle;
    vec_push(&restore->node->held, ((struct in_flight_item){.origin = input, .element = element}));
}

/* Rows on their way between tasks whose operators are in one chain now. */
static void on_chained(void *arg, uint32_t edge, uint32_t number, uint32_t origin, bool is_exact, struct element element)
{
    struct chain_node *node = arg;
    const struct job_edge *job_edge = &node->ctx.spec->inputs[edge];
    (void)number;
    (void)origin;
    (void)is_exact;
    if (job_edge->is_chained && element.type == ELEMENT_BATCH)
        vec_push(&node->held, ((struct in_flight_item){.origin = job_edge->input, .element = element}));
    else
        element_finish(&element);
}

/* Idleness ends with what was held: producers start as active ones and say so no more. */
struct error *node_restore_held(struct chain_node *node, const json_t *handles)
{
    const struct operator_chain_options *options = &node->chain->options;
    struct held_restore restore = {.node = node};
    struct in_flight_reader reader = {.graph = options->graph, .target = node->ctx.spec, .subtask = options->subtask_index};
    reader.place = IN_FLIGHT_HELD;
    reader.on_element = on_held;
    reader.arg = &restore;
    TRY(in_flight_restore(&reader, options->restore_directory, handles));
    reader.place = IN_FLIGHT_EDGE;
    reader.on_element = on_chained;
    reader.arg = node;
    TRY(in_flight_restore(&reader, options->restore_directory, handles));
    for (uint32_t input = 0; input < node->input_count; input++)
        if (restore.is_idle[input])
            node_hold_event(node, input, (struct element){.type = ELEMENT_IDLE});
    return NULL;
}
