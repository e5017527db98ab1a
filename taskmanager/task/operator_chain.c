/* The operators of one subtask, fused. A node per operator, a link per edge out of it: a link leads either to a later node
 * of the same chain (a direct call) or to a chain_output. Nodes are kept upstream first, so that walking the array is
 * walking the stream. Here: making a chain, and what the task calls; chain_flow.c has the calls between operators.
 * Thread: the task thread. Owner: the task. */
#include "taskmanager/task/operator_chain_private.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "taskmanager/ops/user_context.h"
#include "taskmanager/state/snapshot.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
        .monitor = options->monitor,
        .chain_index = (uint32_t)(node - chain->nodes),
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
    node->watermark_out_ms = clock_now_ms();
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
    if (handles == NULL || options->restore_directory == NULL)
        return NULL;
    if (restored_state_has_in_flight(handles))
        TRY(node_restore_held(node, handles));
    if (node->op->vtable->restore == NULL)
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
    uint32_t place = node_enter(node);
    struct error *err = vtable->open != NULL ? vtable->open(node->op) : NULL;
    node_leave(node, place);
    return err;
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
    node_drop_held(node);
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
    uint32_t place = node_enter(&chain->nodes[0]);
    struct error *err = op->vtable->poll(op, max_rows, status);
    node_leave(&chain->nodes[0], place);
    return err;
}

bool operator_chain_is_holding(const struct operator_chain *chain)
{
    return chain_last_holding(chain) != NULL;
}

static struct error *chain_resume_slice(struct operator_chain *chain)
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

struct error *operator_chain_resume(struct operator_chain *chain)
{
    int64_t start_ns = clock_mono_ns(), start_blocked_ns = chain_blocked_ns(chain);
    struct error *err = chain_resume_slice(chain);
    chain->resumed_ns += clock_mono_ns() - start_ns - (chain_blocked_ns(chain) - start_blocked_ns);
    return err;
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
        if (node->op->vtable->wake == NULL)
            continue;
        uint32_t place = node_enter(node);
        struct error *err = node->op->vtable->wake(node->op, now_ms);
        node_leave(node, place);
        TRY(err);
    }
    return NULL;
}

static struct error *node_prepare_snapshot(struct chain_node *node, uint64_t checkpoint_id)
{
    if (node->op->vtable->prepare_snapshot == NULL)
        return NULL;
    uint32_t place = node_enter(node);
    struct error *err = node->op->vtable->prepare_snapshot(node->op, checkpoint_id);
    node_leave(node, place);
    return err;
}

/* What operators emit while they prepare goes on down the chain; where something waits, it waits behind that. */
static struct error *chain_prepare_snapshot(struct operator_chain *chain, const struct chain_cut *cut)
{
    if (cut->is_unaligned) {
        TRY(chain_work_off_undealable(chain));
        chain_begin_slice(chain);
    } else {
        TRY(chain_work_off(chain));
    }
    for (uint32_t i = 0; i < chain->node_count; i++) {
        TRY(node_prepare_snapshot(&chain->nodes[i], cut->checkpoint_id));
        TRY(cut->is_unaligned ? chain_work_off_undealable(chain) : chain_work_off(chain));
    }
    return NULL;
}

static json_t *node_books_at_cut(const struct chain_node *node, const uint64_t rows_in_flight[INPUT_COUNT_MAX])
{
    json_t *books = books_to_json(&node->books);
    if (rows_in_flight[0] + rows_in_flight[1] > 0)
        json_object_set_new(books, "rows_in_flight",
                            json_pack("[I,I]", (json_int_t)rows_in_flight[0], (json_int_t)rows_in_flight[1]));
    return books;
}

struct error *operator_chain_snapshot(struct operator_chain *chain, const struct chain_cut *cut, struct snapshot *snapshot, json_t **books)
{
    chain->is_snapshotting = cut->is_unaligned;
    struct error *err = chain_prepare_snapshot(chain, cut);
    chain->is_snapshotting = false;
    if (err != NULL)
        return err;
    json_t *all = json_object();
    for (uint32_t i = 0; i < chain->node_count && err == NULL; i++) {
        struct chain_node *node = &chain->nodes[i];
        struct op *op = node->op;
        uint64_t rows_in_flight[INPUT_COUNT_MAX] = {0};
        snapshot_begin_operator(snapshot, op->ctx->spec->id);
        if (op->vtable->snapshot != NULL)
            err = op->vtable->snapshot(op, cut->checkpoint_id, snapshot);
        if (i == 0)
            memcpy(rows_in_flight, cut->rows_in_flight, sizeof rows_in_flight);
        node_snapshot_held(node, snapshot, rows_in_flight);
        json_object_set_new(all, id_format(op->ctx->spec->id).hex, node_books_at_cut(node, rows_in_flight));
    }
    if (err != NULL) {
        json_decref(all);
        return err;
    }
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
        struct chain_node *node = &chain->nodes[i];
        uint32_t place = node_enter(node);
        struct error *err = node->op->vtable->end_input != NULL ? node->op->vtable->end_input(node->op) : NULL;
        node_leave(node, place);
        TRY(err);
        TRY(chain_work_off(chain));
    }
    return NULL;
}

static void put_input_watermarks(const struct chain_node *node, json_t *metrics)
{
    static const char *const names[INPUT_COUNT_MAX] = {"currentInput1Watermark", "currentInput2Watermark"};
    for (uint32_t i = 0; node->input_count > 1 && i < node->input_count; i++)
        json_object_set_new(metrics, names[i], json_integer(node->input_watermark[i]));
}

static json_t *node_metrics(const struct chain_node *node)
{
    json_t *metrics = json_object();
    for (size_t i = 0; i < node->metrics.count; i++)
        json_object_set_new(metrics, node->metrics.items[i].name, json_real(node->metrics.items[i].value));
    put_input_watermarks(node, metrics);
    json_t *json = json_object();
    json_object_set_new(json, "operator", json_string(id_format(node->ctx.spec->id).hex));
    json_object_set_new(json, "name", json_string(node->ctx.spec->name));
    json_object_set_new(json, "type", json_string(node->ctx.spec->type));
    json_object_set_new(json, "books", books_to_json(&node->books));
    json_object_set_new(json, "metrics", metrics);
    json_object_set_new(json, "fired_timers", json_integer((json_int_t)node->fired_timers));
    json_object_set_new(json, "watermark_in", json_integer(node->watermark));
    json_object_set_new(json, "watermark_out", json_integer(node->watermark_out));
    json_object_set_new(json, "watermark_out_since", json_integer(node->watermark_out_ms));
    json_object_set_new(json, "is_idle", json_boolean(node->is_idle_out));
    if (node->op != NULL && node->op->vtable->describe != NULL)
        node->op->vtable->describe(node->op, json);
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
