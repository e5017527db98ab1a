/* The job graph: the one plan that every front end produces and the daemons execute. JSON on the wire and on disk
 * (ARCHITECTURE.md, "The job graph"). Two levels:
 *   operators  what the program wrote down: a node per map, window, source, sink part …, with input edges
 *   vertices   operators fused into chains; a vertex is what gets scheduled as `parallelism` subtasks
 * job_graph_chain builds the vertices from the operators. After that a graph is immutable. */
#ifndef MILLRACE_GRAPH_JOB_GRAPH_H
#define MILLRACE_GRAPH_JOB_GRAPH_H

#include "common/base/error.h"
#include "common/base/id.h"
#include "common/types/schema.h"

#include <jansson.h>

#define JOB_GRAPH_VERSION 1
#define PARALLELISM_MAX 32768

enum partitioning {
    PARTITION_FORWARD,
    PARTITION_HASH, /* by the edge's key columns, through key groups */
    PARTITION_REBALANCE,
    PARTITION_RESCALE,
    PARTITION_BROADCAST,
    PARTITION_GLOBAL, /* all to subtask 0 */
};

/* An input edge of an operator. */
struct job_edge {
    uint32_t source;       /* index into job_graph.operators */
    int32_t side_output;   /* -1: the main output; else index into the source's side_outputs */
    uint32_t input;        /* 0 or 1: which logical input of the target; a union has several edges with input 0 */
    enum partitioning partitioning;
    uint32_t *key_columns; /* HASH: columns of the source's schema */
    uint32_t key_count;
    bool is_chained;       /* set by job_graph_chain: source and target share a vertex */
};

struct job_side_output {
    char *tag;
    struct schema *schema;
};

struct job_operator {
    struct id id;             /* 16 bytes: hash of the uid, or of the position in the graph */
    char *uid;                /* the user's, or NULL */
    char *name;               /* "ClickEvent Counter" */
    char *description;        /* "Window(TumblingEventTimeWindows(15000), …)" for the plan */
    char *type;               /* "map", "window", "kafka-source" … */
    char *slot_sharing_group; /* "default" */
    uint32_t parallelism;
    uint32_t max_parallelism;
    enum { CHAIN_ALWAYS, CHAIN_HEAD, CHAIN_NEVER } chaining; /* HEAD: starts a new chain; NEVER: disable_chaining */
    json_t *options;          /* typed options of that operator type */
    struct schema *schema;    /* of the main output; NULL for sinks' last operator */
    struct job_side_output *side_outputs;
    uint32_t side_output_count;
    struct job_edge *inputs;
    uint32_t input_count;
    uint32_t vertex;          /* index into job_graph.vertices, set by job_graph_chain */
};

struct job_vertex {
    struct id id;
    char *name;               /* joined with " -> " */
    uint32_t parallelism;
    uint32_t max_parallelism;
    uint32_t *operators;      /* indexes into job_graph.operators, upstream first; [0] is the head */
    uint32_t operator_count;
};

struct job_library {
    char *name;   /* file name as uploaded */
    char *sha256; /* hex; the blob key */
};

struct job_graph {
    struct id job_id;
    char *name;
    json_t *config;           /* flat keys as strings: execution.checkpointing.interval and so on */
    struct job_library library; /* sha256 NULL: no user code */
    struct job_operator *operators;
    uint32_t operator_count;
    struct job_vertex *vertices;
    uint32_t vertex_count;
};

/* Validates everything: indexes, schemas, cycles, unknown partitionings, parallelism bounds, key columns. */
MUST_CHECK struct error *job_graph_from_json(const json_t *json, struct job_graph **out);
json_t *job_graph_to_json(const struct job_graph *graph);
struct job_graph *job_graph_copy(const struct job_graph *graph);
void job_graph_destroy(struct job_graph *graph);

/* Sets vertices and operator ids. Flink's chaining rules (semantics.md 8: one input edge, forward, same parallelism and
 * group, allowed by both ends, pipeline.operator-chaining.enabled). Idempotent. */
MUST_CHECK struct error *job_graph_chain(struct job_graph *graph);
/* Replaces default parallelism (0) everywhere, and sets max parallelism where 0. Call before job_graph_chain. */
void job_graph_set_parallelism(struct job_graph *graph, uint32_t parallelism_default);
/* String option of the config, or NULL. */
const char *job_graph_config(const struct job_graph *graph, const char *key);
/* {"jid":…,"name":…,"type":"STREAMING","nodes":[…]} as GET /jobs/:id/plan shows it under "plan". */
json_t *job_graph_plan_json(const struct job_graph *graph);
const char *partitioning_name(enum partitioning partitioning); /* "FORWARD", "HASH", "REBALANCE" … */

/* Inputs of a vertex: the non-chained edges into its operators, in operator order. Index i of this list is the vertex's
 * "gate" i. Outputs likewise: the non-chained edges that leave it. Both lists are derived, in graph order, by everyone. */
struct vertex_edge {
    uint32_t source_operator;
    uint32_t target_operator;
    uint32_t edge; /* index into operators[target_operator].inputs */
};
/* Malloced arrays, caller frees. */
uint32_t job_graph_vertex_inputs(const struct job_graph *graph, uint32_t vertex, struct vertex_edge **out);
uint32_t job_graph_vertex_outputs(const struct job_graph *graph, uint32_t vertex, struct vertex_edge **out);

/* ---- subtasks of an edge ---- */
/* Which producer subtasks feed a consumer subtask and the other way around, as an inclusive range. */
void edge_producers(enum partitioning partitioning, uint32_t producer_count, uint32_t consumer_count, uint32_t consumer, uint32_t *first,
                    uint32_t *last);
void edge_consumers(enum partitioning partitioning, uint32_t producer_count, uint32_t consumer_count, uint32_t producer, uint32_t *first,
                    uint32_t *last);

/* ---- key groups (semantics.md 6) ---- */
/* Key group of a 64-bit key hash (batch_hash_rows): Flink's murmur mix of the folded hash, modulo max parallelism. */
uint32_t key_group_of_hash(uint64_t hash, uint32_t max_parallelism);
/* Subtask that owns a key group, and the inclusive range of a subtask. */
uint32_t key_group_owner(uint32_t key_group, uint32_t max_parallelism, uint32_t parallelism);
void key_group_range(uint32_t subtask, uint32_t max_parallelism, uint32_t parallelism, uint32_t *first, uint32_t *last);
uint32_t max_parallelism_default(uint32_t parallelism);

#endif
