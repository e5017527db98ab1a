/* The job graph as a data structure: lifetime, lookups and derived edge lists. Reading and writing JSON is in
 * job_graph_codec.c, building vertices in job_graph_chain.c, ids in job_graph_hash.c. A graph has one owner until it is
 * chained; after that it is immutable and any thread may read it. */
#include "common/graph/job_graph.h"

#include "common/base/check.h"
#include "common/base/heap.h"

#include <stdlib.h>
#include <string.h>

static const char *const partitioning_names[] = {
    [PARTITION_FORWARD] = "FORWARD", [PARTITION_HASH] = "HASH",           [PARTITION_REBALANCE] = "REBALANCE",
    [PARTITION_RESCALE] = "RESCALE", [PARTITION_BROADCAST] = "BROADCAST", [PARTITION_GLOBAL] = "GLOBAL",
};

const char *partitioning_name(enum partitioning partitioning)
{
    return partitioning_names[partitioning];
}

static void job_operator_finish(struct job_operator *op)
{
    free(op->uid);
    free(op->name);
    free(op->description);
    free(op->type);
    free(op->slot_sharing_group);
    json_decref(op->options);
    if (op->schema != NULL)
        schema_unref(op->schema);
    for (uint32_t i = 0; i < op->side_output_count; i++) {
        free(op->side_outputs[i].tag);
        if (op->side_outputs[i].schema != NULL)
            schema_unref(op->side_outputs[i].schema);
    }
    free(op->side_outputs);
    for (uint32_t i = 0; i < op->input_count; i++)
        free(op->inputs[i].key_columns);
    free(op->inputs);
}

void job_graph_destroy(struct job_graph *graph)
{
    if (graph == NULL)
        return;
    free(graph->name);
    json_decref(graph->config);
    free(graph->library.name);
    free(graph->library.sha256);
    for (uint32_t i = 0; i < graph->operator_count; i++)
        job_operator_finish(&graph->operators[i]);
    free(graph->operators);
    for (uint32_t i = 0; i < graph->vertex_count; i++) {
        free(graph->vertices[i].name);
        free(graph->vertices[i].operators);
    }
    free(graph->vertices);
    free(graph);
}

static char *copy_text(const char *text)
{
    return text != NULL ? heap_strdup(text) : NULL;
}

static struct schema *copy_schema(struct schema *schema)
{
    return schema != NULL ? schema_ref(schema) : NULL;
}

static void job_operator_copy(const struct job_operator *from, struct job_operator *to)
{
    *to = *from;
    to->uid = copy_text(from->uid);
    to->name = copy_text(from->name);
    to->description = copy_text(from->description);
    to->type = copy_text(from->type);
    to->slot_sharing_group = copy_text(from->slot_sharing_group);
    to->options = from->options != NULL ? json_deep_copy(from->options) : NULL;
    to->schema = copy_schema(from->schema);
    to->side_outputs = heap_alloc_array(from->side_output_count, sizeof *to->side_outputs);
    for (uint32_t i = 0; i < from->side_output_count; i++) {
        to->side_outputs[i].tag = copy_text(from->side_outputs[i].tag);
        to->side_outputs[i].schema = copy_schema(from->side_outputs[i].schema);
    }
    to->inputs = heap_alloc_array(from->input_count, sizeof *to->inputs);
    for (uint32_t i = 0; i < from->input_count; i++) {
        const struct job_edge *edge = &from->inputs[i];
        to->inputs[i] = *edge;
        to->inputs[i].key_columns = heap_alloc_array(edge->key_count, sizeof *edge->key_columns);
        if (edge->key_count > 0)
            memcpy(to->inputs[i].key_columns, edge->key_columns, edge->key_count * sizeof *edge->key_columns);
    }
}

struct job_graph *job_graph_copy(const struct job_graph *graph)
{
    struct job_graph *copy = heap_new(struct job_graph);
    *copy = *graph;
    copy->name = copy_text(graph->name);
    copy->config = graph->config != NULL ? json_deep_copy(graph->config) : NULL;
    copy->library.name = copy_text(graph->library.name);
    copy->library.sha256 = copy_text(graph->library.sha256);
    copy->operators = heap_alloc_array(graph->operator_count, sizeof *copy->operators);
    for (uint32_t i = 0; i < graph->operator_count; i++)
        job_operator_copy(&graph->operators[i], &copy->operators[i]);
    copy->vertices = heap_alloc_array(graph->vertex_count, sizeof *copy->vertices);
    for (uint32_t i = 0; i < graph->vertex_count; i++) {
        const struct job_vertex *from = &graph->vertices[i];
        struct job_vertex *to = &copy->vertices[i];
        *to = *from;
        to->name = copy_text(from->name);
        to->operators = heap_alloc_array(from->operator_count, sizeof *to->operators);
        memcpy(to->operators, from->operators, from->operator_count * sizeof *to->operators);
    }
    return copy;
}

const char *job_graph_config(const struct job_graph *graph, const char *key)
{
    return json_string_value(json_object_get(graph->config, key));
}

/* Collects in operator order; the second pass fills what the first has counted. */
static uint32_t vertex_edges(const struct job_graph *graph, uint32_t vertex, bool is_output, struct vertex_edge **out)
{
    uint32_t total = 0;
    for (uint32_t target = 0; target < graph->operator_count; target++)
        total += graph->operators[target].input_count;
    struct vertex_edge *edges = heap_alloc_array(total, sizeof *edges);
    uint32_t count = 0;
    for (uint32_t target = 0; target < graph->operator_count; target++) {
        const struct job_operator *op = &graph->operators[target];
        for (uint32_t i = 0; i < op->input_count; i++) {
            const struct job_edge *edge = &op->inputs[i];
            uint32_t side = is_output ? graph->operators[edge->source].vertex : op->vertex;
            if (!edge->is_chained && side == vertex)
                edges[count++] = (struct vertex_edge){.source_operator = edge->source, .target_operator = target, .edge = i};
        }
    }
    *out = edges;
    return count;
}

uint32_t job_graph_vertex_inputs(const struct job_graph *graph, uint32_t vertex, struct vertex_edge **out)
{
    return vertex_edges(graph, vertex, false, out);
}

uint32_t job_graph_vertex_outputs(const struct job_graph *graph, uint32_t vertex, struct vertex_edge **out)
{
    return vertex_edges(graph, vertex, true, out);
}
