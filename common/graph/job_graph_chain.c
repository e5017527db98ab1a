/* From operators to vertices: default parallelism, Flink's chaining rules, vertex names and order.
 * source: reference "Runtime semantics" 8; Flink's StreamingJobGraphGenerator. Works on a graph that its caller owns. */
#include "common/graph/job_graph_internal.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

uint32_t job_graph_topological_order(const struct job_graph *graph, uint32_t *order)
{
    uint32_t *missing = heap_alloc_array(graph->operator_count, sizeof *missing);
    for (uint32_t i = 0; i < graph->operator_count; i++)
        missing[i] = graph->operators[i].input_count;
    uint32_t count = 0;
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        if (missing[i] == 0)
            order[count++] = i;
    }
    for (uint32_t head = 0; head < count; head++) {
        for (uint32_t target = 0; target < graph->operator_count; target++) {
            const struct job_operator *op = &graph->operators[target];
            uint32_t before = missing[target];
            for (uint32_t i = 0; i < op->input_count; i++)
                missing[target] -= op->inputs[i].source == order[head];
            if (before > 0 && missing[target] == 0)
                order[count++] = target;
        }
    }
    free(missing);
    return count;
}

static bool is_chaining_enabled(const struct job_graph *graph)
{
    const char *value = job_graph_config(graph, "pipeline.operator-chaining.enabled");
    if (value == NULL)
        value = job_graph_config(graph, "pipeline.operator-chaining"); /* the key's name before Flink 1.19 */
    return value == NULL || strcasecmp(value, "false") != 0;
}

bool job_graph_is_chainable(const struct job_graph *graph, uint32_t target, uint32_t edge)
{
    const struct job_operator *down = &graph->operators[target];
    const struct job_operator *up = &graph->operators[down->inputs[edge].source];
    return down->input_count == 1 && down->inputs[edge].partitioning == PARTITION_FORWARD && up->parallelism == down->parallelism &&
           up->max_parallelism == down->max_parallelism && strcmp(up->slot_sharing_group, down->slot_sharing_group) == 0 &&
           up->chaining != CHAIN_NEVER && down->chaining == CHAIN_ALWAYS && is_chaining_enabled(graph);
}

/* A forward edge needs equal parallelism at both ends; where it was only the default way on, rows are spread instead. */
static void fix_forward_edges(struct job_graph *graph)
{
    for (uint32_t target = 0; target < graph->operator_count; target++) {
        struct job_operator *op = &graph->operators[target];
        for (uint32_t i = 0; i < op->input_count; i++) {
            if (op->inputs[i].partitioning == PARTITION_FORWARD && graph->operators[op->inputs[i].source].parallelism != op->parallelism)
                op->inputs[i].partitioning = PARTITION_REBALANCE;
        }
    }
}

void job_graph_set_parallelism(struct job_graph *graph, uint32_t parallelism_default)
{
    check(parallelism_default >= 1 && parallelism_default <= PARALLELISM_MAX);
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        struct job_operator *op = &graph->operators[i];
        if (op->parallelism == 0)
            op->parallelism = parallelism_default;
        if (op->max_parallelism == 0)
            op->max_parallelism = max_parallelism_default(op->parallelism);
    }
    fix_forward_edges(graph);
}

static struct error *check_parallelism(const struct job_graph *graph)
{
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        const struct job_operator *op = &graph->operators[i];
        if (op->parallelism > op->max_parallelism)
            return error_with_hint(error_new(INVALID_PROGRAM, "operator \"%s\" has parallelism %u above its max parallelism %u", op->name,
                                             op->parallelism, op->max_parallelism),
                                   "lower the parallelism or raise the max parallelism");
    }
    return NULL;
}

/* Depth first, so that a chain lists an operator before everything that it feeds. */
static void collect_chain(struct job_graph *graph, uint32_t vertex, uint32_t index)
{
    struct job_vertex *v = &graph->vertices[vertex];
    v->operators[v->operator_count++] = index;
    graph->operators[index].vertex = vertex;
    for (uint32_t target = 0; target < graph->operator_count; target++) {
        struct job_operator *op = &graph->operators[target];
        if (op->input_count == 1 && op->inputs[0].source == index && op->inputs[0].is_chained)
            collect_chain(graph, vertex, target);
    }
}

/* "a -> b", "a -> (b, c -> d)" */
static void append_chain_name(const struct job_graph *graph, uint32_t index, struct str_buf *name)
{
    str_buf_append(name, graph->operators[index].name);
    uint32_t branch_count = 0;
    for (uint32_t target = 0; target < graph->operator_count; target++) {
        const struct job_operator *op = &graph->operators[target];
        branch_count += op->input_count == 1 && op->inputs[0].source == index && op->inputs[0].is_chained;
    }
    if (branch_count == 0)
        return;
    str_buf_append(name, branch_count > 1 ? " -> (" : " -> ");
    bool is_first = true;
    for (uint32_t target = 0; target < graph->operator_count; target++) {
        const struct job_operator *op = &graph->operators[target];
        if (op->input_count != 1 || op->inputs[0].source != index || !op->inputs[0].is_chained)
            continue;
        if (!is_first)
            str_buf_append(name, ", ");
        is_first = false;
        append_chain_name(graph, target, name);
    }
    if (branch_count > 1)
        str_buf_append(name, ")");
}

static void free_vertices(struct job_graph *graph)
{
    for (uint32_t i = 0; i < graph->vertex_count; i++) {
        free(graph->vertices[i].name);
        free(graph->vertices[i].operators);
    }
    free(graph->vertices);
    graph->vertices = NULL;
    graph->vertex_count = 0;
}

static void build_vertex(struct job_graph *graph, uint32_t head)
{
    uint32_t index = graph->vertex_count++;
    struct job_vertex *vertex = &graph->vertices[index];
    vertex->operators = heap_alloc_array(graph->operator_count, sizeof *vertex->operators);
    collect_chain(graph, index, head);
    struct str_buf name = {0};
    append_chain_name(graph, head, &name);
    vertex->name = str_buf_detach(&name);
    vertex->id = graph->operators[head].id;
    vertex->parallelism = graph->operators[head].parallelism;
    vertex->max_parallelism = graph->operators[head].max_parallelism;
}

struct error *job_graph_chain(struct job_graph *graph)
{
    struct error *err = NULL;
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        if (graph->operators[i].parallelism == 0 || graph->operators[i].max_parallelism == 0)
            return error_new(INTERNAL, "operator \"%s\" has no parallelism yet", graph->operators[i].name);
    }
    fix_forward_edges(graph);
    TRY(check_parallelism(graph));
    uint32_t *order = heap_alloc_array(graph->operator_count, sizeof *order);
    if (job_graph_topological_order(graph, order) != graph->operator_count) {
        err = error_new(INVALID_PROGRAM, "the job graph has a cycle");
        goto done;
    }
    TRY_GOTO(done, job_graph_assign_ids(graph));
    for (uint32_t target = 0; target < graph->operator_count; target++) {
        for (uint32_t i = 0; i < graph->operators[target].input_count; i++)
            graph->operators[target].inputs[i].is_chained = job_graph_is_chainable(graph, target, i);
    }
    free_vertices(graph);
    graph->vertices = heap_alloc_array(graph->operator_count, sizeof *graph->vertices);
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        const struct job_operator *op = &graph->operators[order[i]];
        if (op->input_count != 1 || !op->inputs[0].is_chained)
            build_vertex(graph, order[i]);
    }
done:
    free(order);
    return err;
}
