/* The plan that REST and the dashboard show: one node per vertex, sinks first, as Flink's JsonPlanGenerator writes it. */
#include "common/graph/job_graph_internal.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <stdlib.h>
#include <string.h>

static void append_html(struct str_buf *text, const char *raw)
{
    for (const char *c = raw; *c != '\0'; c++) {
        switch (*c) {
        case '<': str_buf_append(text, "&lt;"); break;
        case '>': str_buf_append(text, "&gt;"); break;
        case '&': str_buf_append(text, "&amp;"); break;
        case '"': str_buf_append(text, "&quot;"); break;
        case '\\': str_buf_append(text, "&#92;"); break;
        default: str_buf_append_char(text, *c);
        }
    }
}

/* The chain as a tree, a line per operator:  head / ":- branch" / ":  +- its child" / "+- last branch". */
static void append_description(const struct job_graph *graph, uint32_t index, const char *own_prefix, const char *child_prefix,
                               struct str_buf *text)
{
    const struct job_operator *op = &graph->operators[index];
    str_buf_append(text, own_prefix);
    append_html(text, op->description != NULL ? op->description : op->name);
    str_buf_append(text, "<br/>");
    uint32_t last = UINT32_MAX;
    for (uint32_t target = 0; target < graph->operator_count; target++) {
        const struct job_operator *next = &graph->operators[target];
        if (next->input_count == 1 && next->inputs[0].is_chained && next->inputs[0].source == index)
            last = target;
    }
    for (uint32_t target = 0; target < graph->operator_count && last != UINT32_MAX; target++) {
        const struct job_operator *next = &graph->operators[target];
        if (next->input_count != 1 || !next->inputs[0].is_chained || next->inputs[0].source != index)
            continue;
        char *own = heap_printf("%s%s", child_prefix, target == last ? "+- " : ":- ");
        char *below = heap_printf("%s%s", child_prefix, target == last ? "   " : ":  ");
        append_description(graph, target, own, below, text);
        free(own);
        free(below);
    }
}

static json_t *plan_inputs(const struct job_graph *graph, uint32_t vertex)
{
    struct vertex_edge *edges = NULL;
    uint32_t count = job_graph_vertex_inputs(graph, vertex, &edges);
    json_t *inputs = json_array();
    for (uint32_t i = 0; i < count; i++) {
        uint32_t source = graph->operators[edges[i].source_operator].vertex;
        const struct job_edge *edge = &graph->operators[edges[i].target_operator].inputs[edges[i].edge];
        json_array_append_new(inputs, json_pack("{s:I, s:s, s:s, s:s}", "num", (json_int_t)i, "id",
                                                id_format(graph->vertices[source].id).hex, "ship_strategy",
                                                partitioning_name(edge->partitioning), "exchange", "pipelined_bounded"));
    }
    free(edges);
    return inputs;
}

static json_t *plan_node(const struct job_graph *graph, uint32_t index)
{
    const struct job_vertex *vertex = &graph->vertices[index];
    struct str_buf description = {0};
    append_description(graph, vertex->operators[0], "", "", &description);
    json_t *node = json_pack("{s:s, s:I, s:s, s:s, s:s}", "id", id_format(vertex->id).hex, "parallelism",
                             (json_int_t)vertex->parallelism, "operator", "", "operator_strategy", "", "description",
                             str_buf_text(&description));
    str_buf_finish(&description);
    json_t *inputs = plan_inputs(graph, index);
    if (json_array_size(inputs) > 0)
        json_object_set_new(node, "inputs", inputs);
    else
        json_decref(inputs);
    json_object_set_new(node, "optimizer_properties", json_object());
    return node;
}

json_t *job_graph_plan_json(const struct job_graph *graph)
{
    json_t *nodes = json_array();
    for (uint32_t i = graph->vertex_count; i > 0; i--)
        json_array_append_new(nodes, plan_node(graph, i - 1));
    return json_pack("{s:s, s:s, s:s, s:o}", "jid", id_format(graph->job_id).hex, "name", graph->name, "type", "STREAMING", "nodes", nodes);
}
