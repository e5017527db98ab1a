/* The operators of one subtask, fused. A node per operator, a link per edge out of it: a link leads either to a later node
 * of the same chain (a direct call) or to a chain_output. Nodes are kept upstream first, so that walking the array is
 * walking the stream. Here also: the op_… calls that operators make (op.h).
 * Thread: the task thread. Owner: the task. */
#include "taskmanager/task/operator_chain.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/vec.h"
#include "taskmanager/ops/user_context.h"
#include "taskmanager/state/snapshot.h"
#include "taskmanager/task/books.h"
#include "taskmanager/task/task_clock.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_COUNT_MAX 2
/* Batches held at one operator; behind these the next one waits until they are worked off. */
#define HELD_COUNT_MAX 16

struct chain_node;

struct chain_link {
    struct chain_node *target; /* NULL: leaves the chain through output */
    uint32_t target_input;
    struct chain_output *output;
};

struct link_list {
    VEC(struct chain_link) links;
};

enum held_type { HELD_ROWS, HELD_WATERMARK, HELD_IDLE };

/* Input that waits at an operator for the task's next slice. */
struct held_input {
    enum held_type type;
    uint32_t input;
    struct batch *batch; /* ROWS */
    int64_t time;        /* WATERMARK */
    bool is_idle;        /* IDLE */
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
    bool is_idle;          /* all inputs are idle */
    bool is_idle_out;
    int64_t wake_at_ms;
    int64_t row_ns; /* what a row of the last batch took, back pressure included; not of operators that hand back */
    VEC(struct held_input) held; /* in order of arrival */
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
    char *task_name;
};

/* ---- rows ---- */

static void chain_begin_slice(struct operator_chain *chain)
{
    chain->slice_end_ns = chain->options.slice_ns > 0 ? clock_mono_ns() + chain->options.slice_ns : INT64_MAX;
}

static void node_hold_first(struct chain_node *node, struct held_input held)
{
    vec_push(&node->held, held);
    memmove(&node->held.items[1], &node->held.items[0], (node->held.count - 1) * sizeof held);
    node->held.items[0] = held;
}

/* Rows for an operator that does not watch the clock itself: at most as many as fit into a slice, when rows were slow before. */
static struct error *node_run_measured(struct chain_node *node, uint32_t input, struct batch *batch)
{
    int64_t slice_ns = node->chain->options.slice_ns;
    uint32_t count = batch->row_count;
    if (node->chain->slice_end_ns != INT64_MAX && node->row_ns > 0 && node->row_ns * count > 2 * slice_ns) {
        int64_t fit = slice_ns / node->row_ns;
        count = fit < 1 ? 1 : fit < count ? (uint32_t)fit : count;
    }
    struct batch *part = batch;
    if (count < batch->row_count) {
        struct batch *rest = batch_slice(batch, count, batch->row_count - count);
        node_hold_first(node, (struct held_input){.type = HELD_ROWS, .input = input, .batch = rest});
        part = batch_slice(batch, 0, count);
    }
    node->books.rows_in[input] += count;
    int64_t start_ns = clock_mono_ns();
    struct error *err = node->op->vtable->process(node->op, input, part);
    node->row_ns = (clock_mono_ns() - start_ns) / count;
    if (part != batch)
        batch_unref(part);
    return err;
}

static struct error *node_run_rows(struct chain_node *node, uint32_t input, struct batch *batch)
{
    if (!node->op->vtable->hands_back && node->chain->options.slice_ns > 0)
        return node_run_measured(node, input, batch);
    node->books.rows_in[input] += batch->row_count;
    return node->op->vtable->process(node->op, input, batch);
}

static struct error *node_run_held(struct chain_node *node);

/* Until nothing is held here; an abort ends it. */
static struct error *node_work_off(struct chain_node *node)
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

static struct error *node_process(struct chain_node *node, uint32_t input, struct batch *batch)
{
    if (node->held.count >= HELD_COUNT_MAX)
        TRY(node_work_off(node));
    if (node->held.count > 0) {
        vec_push(&node->held, ((struct held_input){.type = HELD_ROWS, .input = input, .batch = batch_ref(batch)}));
        return NULL;
    }
    return node_run_rows(node, input, batch);
}

static struct error *link_emit(const struct chain_link *link, struct batch *batch)
{
    if (link->target != NULL)
        return node_process(link->target, link->target_input, batch);
    return link->output->emit(link->output, batch_ref(batch));
}

static struct error *links_emit(const struct link_list *list, struct batch *batch)
{
    struct error *err = NULL;
    for (size_t i = 0; i < list->links.count && err == NULL; i++)
        err = link_emit(&list->links.items[i], batch);
    batch_unref(batch);
    return err;
}

static struct chain_node *op_node(const struct op *op)
{
    return op->ctx->chain_link;
}

void op_hand_back(struct op *op, uint32_t input, struct batch *batch, uint32_t first_row)
{
    struct chain_node *node = op_node(op);
    check(first_row <= batch->row_count);
    uint32_t count = batch->row_count - first_row;
    if (count == 0)
        return;
    check(first_row > 0);
    node->books.rows_in[input] -= count;
    node_hold_first(node, (struct held_input){.type = HELD_ROWS, .input = input, .batch = batch_slice(batch, first_row, count)});
}

struct error *op_emit(struct op *op, struct batch *batch)
{
    struct chain_node *node = op_node(op);
    if (batch == NULL || batch->row_count == 0) {
        batch_unref(batch);
        return NULL;
    }
    node->books.rows_out += batch->row_count;
    return links_emit(&node->main, batch);
}

struct error *op_emit_side(struct op *op, uint32_t index, struct batch *batch)
{
    struct chain_node *node = op_node(op);
    check(index < node->books.side_count);
    if (batch == NULL || batch->row_count == 0) {
        batch_unref(batch);
        return NULL;
    }
    node->books.side_rows_out[index] += batch->row_count;
    return links_emit(&node->sides[index], batch);
}

/* ---- time ---- */

static struct error *node_input_watermark(struct chain_node *node, uint32_t input, int64_t time);
static struct error *node_input_idle(struct chain_node *node, uint32_t input, bool is_idle);

static struct error *links_watermark(const struct link_list *list, int64_t time)
{
    for (size_t i = 0; i < list->links.count; i++) {
        const struct chain_link *link = &list->links.items[i];
        if (link->target != NULL)
            TRY(node_input_watermark(link->target, link->target_input, time));
        else
            TRY(link->output->emit_watermark(link->output, time));
    }
    return NULL;
}

static struct error *links_idle(const struct link_list *list, bool is_idle)
{
    for (size_t i = 0; i < list->links.count; i++) {
        const struct chain_link *link = &list->links.items[i];
        if (link->target != NULL)
            TRY(node_input_idle(link->target, link->target_input, is_idle));
        else
            TRY(link->output->emit_idle(link->output, is_idle));
    }
    return NULL;
}

static struct error *node_emit_watermark(struct chain_node *node, int64_t time)
{
    if (time <= node->watermark_out)
        return NULL;
    node->watermark_out = time;
    TRY(links_watermark(&node->main, time));
    for (uint32_t i = 0; i < node->books.side_count; i++)
        TRY(links_watermark(&node->sides[i], time));
    return NULL;
}

static struct error *node_emit_idle(struct chain_node *node, bool is_idle)
{
    if (is_idle == node->is_idle_out)
        return NULL;
    node->is_idle_out = is_idle;
    TRY(links_idle(&node->main, is_idle));
    for (uint32_t i = 0; i < node->books.side_count; i++)
        TRY(links_idle(&node->sides[i], is_idle));
    return NULL;
}

/* The operator sees the watermark first: what it emits because of it goes before it. */
static struct error *node_advance(struct chain_node *node, int64_t time)
{
    if (time <= node->watermark)
        return NULL;
    node->watermark = time;
    int64_t forward = time;
    if (node->op->vtable->watermark != NULL)
        TRY(node->op->vtable->watermark(node->op, time, &forward));
    return node_emit_watermark(node, forward);
}

/* Minimum over the inputs that are not idle; TIME_MIN as long as an active one has none. All idle: the combined watermark
 * stays where it is. */
static struct error *node_combine(struct chain_node *node)
{
    int64_t lowest = TIME_MAX;
    bool is_idle = true;
    for (uint32_t i = 0; i < node->input_count; i++) {
        if (node->is_input_idle[i])
            continue;
        is_idle = false;
        if (node->input_watermark[i] < lowest)
            lowest = node->input_watermark[i];
    }
    if (!is_idle && node->is_idle) {
        node->is_idle = false;
        if (!node->op->vtable->generates_watermarks)
            TRY(node_emit_idle(node, false));
    }
    if (!is_idle)
        TRY(node_advance(node, lowest));
    if (is_idle && !node->is_idle) {
        node->is_idle = true;
        if (!node->op->vtable->generates_watermarks)
            TRY(node_emit_idle(node, true));
    }
    return NULL;
}

static struct error *node_input_watermark(struct chain_node *node, uint32_t input, int64_t time)
{
    if (node->held.count > 0) {
        vec_push(&node->held, ((struct held_input){.type = HELD_WATERMARK, .input = input, .time = time}));
        return NULL;
    }
    if (time <= node->input_watermark[input])
        return NULL;
    node->input_watermark[input] = time;
    if (node->input_count == 1) /* an idle input's watermark counts too when there is no other input to hold it against */
        return node_advance(node, time);
    return node_combine(node);
}

static struct error *node_input_idle(struct chain_node *node, uint32_t input, bool is_idle)
{
    if (node->held.count > 0) {
        vec_push(&node->held, ((struct held_input){.type = HELD_IDLE, .input = input, .is_idle = is_idle}));
        return NULL;
    }
    if (node->is_input_idle[input] == is_idle)
        return NULL;
    node->is_input_idle[input] = is_idle;
    return node_combine(node);
}

/* The first of the held input. What is behind it must not overtake it, so it is gone from the list before it runs, and input that
 * comes from upstream meanwhile is impossible: this runs when nothing upstream does. */
static struct error *node_run_first(struct chain_node *node, struct held_input first)
{
    if (first.type == HELD_ROWS) {
        struct error *err = node_run_rows(node, first.input, first.batch);
        batch_unref(first.batch);
        return err;
    }
    if (first.type == HELD_WATERMARK) {
        if (first.time <= node->input_watermark[first.input])
            return NULL;
        node->input_watermark[first.input] = first.time;
        return node->input_count == 1 ? node_advance(node, first.time) : node_combine(node);
    }
    if (node->is_input_idle[first.input] == first.is_idle)
        return NULL;
    node->is_input_idle[first.input] = first.is_idle;
    return node_combine(node);
}

static struct error *node_run_held(struct chain_node *node)
{
    struct held_input first = node->held.items[0];
    vec_remove(&node->held, 0);
    return node_run_first(node, first);
}

struct error *op_emit_watermark(struct op *op, int64_t time)
{
    return node_emit_watermark(op_node(op), time);
}

struct error *op_emit_idle(struct op *op, bool is_idle)
{
    return node_emit_idle(op_node(op), is_idle);
}

int64_t op_current_watermark(const struct op *op)
{
    const struct chain_node *node = op_node(op);
    return node->input_count == 0 ? node->watermark_out : node->watermark;
}

void op_wake_at(struct op *op, int64_t time_ms)
{
    struct chain_node *node = op_node(op);
    if (time_ms < node->wake_at_ms)
        node->wake_at_ms = time_ms;
}

int64_t op_blocked_ns_total(const struct op *op)
{
    struct task_clock *clock = op_node(op)->chain->options.clock;
    return clock != NULL ? task_clock_blocked_ns(clock) : 0;
}

void op_metric_set(struct op *op, const char *name, double value)
{
    struct chain_node *node = op_node(op);
    for (size_t i = 0; i < node->metrics.count; i++) {
        if (node->metrics.items[i].name == name || strcmp(node->metrics.items[i].name, name) == 0) {
            node->metrics.items[i].value = value;
            return;
        }
    }
    vec_push(&node->metrics, ((struct chain_metric){name, value}));
}

/* ---- making a chain ---- */

static struct chain_node *chain_node_of(struct operator_chain *chain, uint32_t operator_index)
{
    for (uint32_t i = 0; i < chain->node_count; i++)
        if (chain->vertex->operators[i] == operator_index)
            return &chain->nodes[i];
    return NULL;
}

static void link_add(struct chain_node *node, int32_t side_output, struct chain_link link)
{
    struct link_list *list = side_output < 0 ? &node->main : &node->sides[side_output];
    vec_push(&list->links, link);
}

static void chain_link_nodes(struct operator_chain *chain)
{
    const struct job_graph *graph = chain->options.graph;
    for (uint32_t i = 1; i < chain->node_count; i++) {
        const struct job_operator *spec = chain->nodes[i].ctx.spec;
        for (uint32_t e = 0; e < spec->input_count; e++) {
            const struct job_edge *edge = &spec->inputs[e];
            struct chain_node *source = chain_node_of(chain, edge->source);
            if (edge->is_chained && source != NULL)
                link_add(source, edge->side_output, (struct chain_link){.target = &chain->nodes[i], .target_input = edge->input});
        }
    }
    struct vertex_edge *outputs;
    uint32_t output_count = job_graph_vertex_outputs(graph, chain->options.vertex, &outputs);
    check(output_count == chain->options.output_count);
    for (uint32_t i = 0; i < output_count; i++) {
        const struct job_edge *edge = &graph->operators[outputs[i].target_operator].inputs[outputs[i].edge];
        struct chain_node *source = chain_node_of(chain, outputs[i].source_operator);
        check(source != NULL);
        link_add(source, edge->side_output, (struct chain_link){.output = chain->options.outputs[i]});
    }
    free(outputs);
}

static void node_init(struct operator_chain *chain, struct chain_node *node, const struct job_operator *spec)
{
    const struct operator_chain_options *options = &chain->options;
    node->chain = chain;
    node->ctx = (struct op_context){
        .graph = options->graph,
        .spec = spec,
        .subtask_index = options->subtask_index,
        .parallelism = chain->vertex->parallelism,
        .max_parallelism = chain->vertex->max_parallelism,
        .attempt_number = options->attempt_number,
        .task_name = chain->task_name,
        .checkpointing_enabled = options->checkpointing_enabled,
        .restored_checkpoint_id = options->restored_checkpoint_id,
        .books = &node->books,
        .library = options->library,
        .wake_fd = options->wake_fd,
        .is_aborting = options->is_aborting,
        .slice_end_ns = &chain->slice_end_ns,
        .step_count = options->step_count,
        .chain_link = node,
    };
    key_group_range(options->subtask_index, chain->vertex->max_parallelism, chain->vertex->parallelism,
                    &node->ctx.key_group_first, &node->ctx.key_group_last);
    books_init(&node->books, spec->side_output_count);
    if (spec->side_output_count > 0)
        node->sides = heap_alloc_array(spec->side_output_count, sizeof *node->sides);
    for (uint32_t i = 0; i < spec->input_count; i++)
        if (spec->inputs[i].input + 1 > node->input_count)
            node->input_count = spec->inputs[i].input + 1;
    check(node->input_count <= INPUT_COUNT_MAX);
    for (uint32_t i = 0; i < INPUT_COUNT_MAX; i++)
        node->input_watermark[i] = TIME_MIN;
    node->watermark = node->watermark_out = TIME_MIN;
    node->wake_at_ms = INT64_MAX;
}

static struct error *node_restore(struct chain_node *node)
{
    const struct operator_chain_options *options = &node->chain->options;
    const struct id_text id = id_format(node->ctx.spec->id);
    const json_t *books = json_object_get(options->restore_books, id.hex);
    if (books != NULL)
        TRY(books_add_json(&node->books, books));
    const json_t *handles = json_object_get(options->restore_handles, id.hex);
    if (handles == NULL || options->restore_directory == NULL || node->op->vtable->restore == NULL)
        return NULL;
    struct restored_state *state;
    TRY(restored_state_open(options->restore_directory, handles, node->ctx.spec->id, node->ctx.subtask_index, node->ctx.parallelism,
                            node->ctx.key_group_first, node->ctx.key_group_last, &state));
    struct error *err = node->op->vtable->restore(node->op, state);
    restored_state_close(state);
    return err;
}

static struct error *node_start(struct chain_node *node)
{
    const struct op_vtable *vtable = op_vtable_find(node->ctx.spec->type);
    if (vtable == NULL)
        return error_new(UNSUPPORTED, "there is no operator type %s", node->ctx.spec->type);
    TRY(vtable->create(&node->ctx, &node->op));
    check(node->op != NULL && node->op->ctx == &node->ctx);
    TRY(node_restore(node));
    return vtable->open != NULL ? vtable->open(node->op) : NULL;
}

struct error *operator_chain_create(const struct operator_chain_options *options, struct operator_chain **out)
{
    struct operator_chain *chain = heap_new(struct operator_chain);
    chain->options = *options;
    chain->slice_end_ns = INT64_MAX;
    chain->vertex = &options->graph->vertices[options->vertex];
    chain->node_count = chain->vertex->operator_count;
    chain->nodes = heap_alloc_array(chain->node_count, sizeof *chain->nodes);
    chain->task_name = heap_printf("%s (%" PRIu32 "/%" PRIu32 ")", chain->vertex->name, options->subtask_index + 1, chain->vertex->parallelism);
    for (uint32_t i = 0; i < chain->node_count; i++)
        node_init(chain, &chain->nodes[i], &options->graph->operators[chain->vertex->operators[i]]);
    chain_link_nodes(chain);
    struct vertex_edge *inputs;
    chain->gate_count = job_graph_vertex_inputs(options->graph, options->vertex, &inputs);
    chain->gate_inputs = heap_alloc_array(chain->gate_count + 1u, sizeof *chain->gate_inputs);
    for (uint32_t i = 0; i < chain->gate_count; i++)
        chain->gate_inputs[i] = options->graph->operators[inputs[i].target_operator].inputs[inputs[i].edge].input;
    free(inputs);
    for (uint32_t i = chain->node_count; i-- > 0;) {
        struct error *err = node_start(&chain->nodes[i]);
        if (err != NULL) {
            err = error_wrap(err, "could not start operator %s", chain->nodes[i].ctx.spec->name);
            operator_chain_destroy(chain);
            return err;
        }
    }
    *out = chain;
    return NULL;
}

static void node_finish(struct chain_node *node)
{
    if (node->op != NULL) {
        if (node->op->vtable->close != NULL)
            node->op->vtable->close(node->op);
        node->op->vtable->destroy(node->op);
    }
    vec_finish(&node->main.links);
    for (uint32_t i = 0; i < node->books.side_count; i++)
        vec_finish(&node->sides[i].links);
    free(node->sides);
    for (size_t i = 0; i < node->held.count; i++)
        batch_unref(node->held.items[i].batch);
    vec_finish(&node->held);
    vec_finish(&node->metrics);
    books_finish(&node->books);
}

void operator_chain_destroy(struct operator_chain *chain)
{
    if (chain == NULL)
        return;
    for (uint32_t i = 0; i < chain->node_count; i++)
        node_finish(&chain->nodes[i]);
    free(chain->nodes);
    free(chain->gate_inputs);
    free(chain->task_name);
    free(chain);
}

/* ---- what the task calls ---- */

static struct chain_node *chain_head(struct operator_chain *chain, uint32_t gate, uint32_t *input)
{
    check(gate < chain->gate_count);
    *input = chain->gate_inputs[gate];
    return &chain->nodes[0];
}

struct error *operator_chain_process(struct operator_chain *chain, uint32_t gate, struct batch *batch)
{
    uint32_t input;
    struct chain_node *head = chain_head(chain, gate, &input);
    chain_begin_slice(chain);
    return node_process(head, input, batch);
}

struct error *operator_chain_watermark(struct operator_chain *chain, uint32_t gate, int64_t time)
{
    uint32_t input;
    struct chain_node *head = chain_head(chain, gate, &input);
    chain_begin_slice(chain);
    return node_input_watermark(head, input, time);
}

struct error *operator_chain_idle(struct operator_chain *chain, uint32_t gate, bool is_idle)
{
    uint32_t input;
    struct chain_node *head = chain_head(chain, gate, &input);
    return node_input_idle(head, input, is_idle);
}

struct error *operator_chain_poll(struct operator_chain *chain, uint32_t max_rows, enum source_status *status)
{
    struct op *op = chain->nodes[0].op;
    chain_begin_slice(chain);
    return op->vtable->poll(op, max_rows, status);
}

/* Held input nearest to the chain's end goes first: what it emits then finds free places. */
static struct chain_node *chain_last_holding(const struct operator_chain *chain)
{
    for (uint32_t i = chain->node_count; i-- > 0;)
        if (chain->nodes[i].held.count > 0)
            return &chain->nodes[i];
    return NULL;
}

bool operator_chain_is_holding(const struct operator_chain *chain)
{
    return chain_last_holding(chain) != NULL;
}

struct error *operator_chain_resume(struct operator_chain *chain)
{
    chain_begin_slice(chain);
    struct chain_node *node = chain_last_holding(chain);
    while (node != NULL) {
        TRY(node_run_held(node));
        if (clock_mono_ns() >= chain->slice_end_ns)
            return NULL;
        node = chain_last_holding(chain);
    }
    return NULL;
}

/* Everything that is held, and from now on nothing is handed back. */
static struct error *chain_work_off(struct operator_chain *chain)
{
    chain->slice_end_ns = INT64_MAX;
    struct chain_node *node;
    while ((node = chain_last_holding(chain)) != NULL)
        TRY(node_work_off(node));
    return NULL;
}

int64_t operator_chain_next_wake_ms(const struct operator_chain *chain)
{
    int64_t earliest = INT64_MAX;
    for (uint32_t i = 0; i < chain->node_count; i++)
        if (chain->nodes[i].wake_at_ms < earliest)
            earliest = chain->nodes[i].wake_at_ms;
    return earliest;
}

struct error *operator_chain_wake(struct operator_chain *chain, int64_t now_ms)
{
    chain_begin_slice(chain);
    for (uint32_t i = 0; i < chain->node_count; i++) {
        struct chain_node *node = &chain->nodes[i];
        if (node->wake_at_ms > now_ms)
            continue;
        node->wake_at_ms = INT64_MAX;
        if (node->op->vtable->wake != NULL)
            TRY(node->op->vtable->wake(node->op, now_ms));
    }
    return NULL;
}

struct error *operator_chain_snapshot(struct operator_chain *chain, uint64_t checkpoint_id, struct snapshot *snapshot, json_t **books)
{
    TRY(chain_work_off(chain));
    for (uint32_t i = 0; i < chain->node_count; i++) {
        struct op *op = chain->nodes[i].op;
        if (op->vtable->prepare_snapshot != NULL)
            TRY(op->vtable->prepare_snapshot(op, checkpoint_id));
        TRY(chain_work_off(chain));
    }
    for (uint32_t i = 0; i < chain->node_count; i++) {
        struct op *op = chain->nodes[i].op;
        snapshot_begin_operator(snapshot, op->ctx->spec->id);
        if (op->vtable->snapshot != NULL)
            TRY(op->vtable->snapshot(op, checkpoint_id, snapshot));
    }
    json_t *all = json_object();
    for (uint32_t i = 0; i < chain->node_count; i++)
        json_object_set_new(all, id_format(chain->nodes[i].ctx.spec->id).hex, books_to_json(&chain->nodes[i].books));
    *books = all;
    return NULL;
}

struct error *operator_chain_checkpoint_complete(struct operator_chain *chain, uint64_t checkpoint_id)
{
    for (uint32_t i = 0; i < chain->node_count; i++) {
        struct op *op = chain->nodes[i].op;
        if (op->vtable->checkpoint_complete != NULL)
            TRY(op->vtable->checkpoint_complete(op, checkpoint_id));
    }
    return NULL;
}

void operator_chain_checkpoint_aborted(struct operator_chain *chain, uint64_t checkpoint_id)
{
    for (uint32_t i = 0; i < chain->node_count; i++) {
        struct op *op = chain->nodes[i].op;
        if (op->vtable->checkpoint_aborted != NULL)
            op->vtable->checkpoint_aborted(op, checkpoint_id);
    }
}

struct error *operator_chain_end_input(struct operator_chain *chain, bool is_drain)
{
    TRY(chain_work_off(chain));
    if (is_drain) {
        struct chain_node *head = &chain->nodes[0];
        if (head->input_count == 0) {
            TRY(node_emit_idle(head, false));
            TRY(node_emit_watermark(head, TIME_MAX));
        } else {
            for (uint32_t i = 0; i < head->input_count; i++) {
                TRY(node_input_idle(head, i, false));
                TRY(node_input_watermark(head, i, TIME_MAX));
            }
        }
    }
    for (uint32_t i = 0; i < chain->node_count; i++) {
        struct op *op = chain->nodes[i].op;
        if (op->vtable->end_input != NULL)
            TRY(op->vtable->end_input(op));
        TRY(chain_work_off(chain));
    }
    return NULL;
}

static json_t *node_metrics(const struct chain_node *node)
{
    json_t *metrics = json_object();
    for (size_t i = 0; i < node->metrics.count; i++)
        json_object_set_new(metrics, node->metrics.items[i].name, json_real(node->metrics.items[i].value));
    json_t *json = json_object();
    json_object_set_new(json, "operator", json_string(id_format(node->ctx.spec->id).hex));
    json_object_set_new(json, "name", json_string(node->ctx.spec->name));
    json_object_set_new(json, "books", books_to_json(&node->books));
    json_object_set_new(json, "metrics", metrics);
    json_object_set_new(json, "watermark_in", json_integer(node->watermark));
    json_object_set_new(json, "watermark_out", json_integer(node->watermark_out));
    return json;
}

json_t *operator_chain_metrics(struct operator_chain *chain)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < chain->node_count; i++)
        json_array_append_new(all, node_metrics(&chain->nodes[i]));
    return all;
}

const char *operator_chain_current_function(void)
{
    return user_function_current;
}
