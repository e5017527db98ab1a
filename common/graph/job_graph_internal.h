/* Shared by the files of common/graph only. */
#ifndef MILLRACE_GRAPH_JOB_GRAPH_INTERNAL_H
#define MILLRACE_GRAPH_JOB_GRAPH_INTERNAL_H

#include "common/graph/job_graph.h"

/* Operators in topological order, lowest index first among those that are ready. order has room for operator_count.
 * Returns how many could be ordered: fewer than operator_count means a cycle. */
uint32_t job_graph_topological_order(const struct job_graph *graph, uint32_t *order);

/* Could edge i of the target be a direct call? Only this edge is looked at, not whether it was chained. */
bool job_graph_is_chainable(const struct job_graph *graph, uint32_t target, uint32_t edge);

/* Sets the id of every operator (job_graph_hash.c). Errors: two operators with the same uid. */
MUST_CHECK struct error *job_graph_assign_ids(struct job_graph *graph);

/* murmur3_128 with seed 0 over n bytes, low half first as Guava writes it. */
struct id murmur3_128(const void *data, size_t length);

#endif
