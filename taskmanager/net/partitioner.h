/* Which rows of a batch go to which consumer subtask of an edge. One pass over the batch computes the target of each row,
 * a counting sort turns that into a row list per target. Task thread only. Key groups: semantics.md section 6. */
#ifndef MILLRACE_NET_PARTITIONER_H
#define MILLRACE_NET_PARTITIONER_H

#include "common/columnar/batch.h"
#include "common/graph/job_graph.h"

struct partitioner;

struct partition_share {
    const uint32_t *rows; /* ascending row indexes; NULL when the share is the range [start, start + count) */
    uint32_t start;
    uint32_t count;
};

/* target_count: the channels of this producer, which for FORWARD and RESCALE may be fewer than the consumer's subtasks.
 * max_parallelism is the consumer's. seed spreads where the round robin of different producers starts. */
struct partitioner *partitioner_create(const struct job_edge *edge, uint32_t target_count, uint32_t max_parallelism, uint32_t seed);
/* Accepts NULL. */
void partitioner_destroy(struct partitioner *partitioner);
/* Every row goes to every target. */
bool partitioner_is_broadcast(const struct partitioner *partitioner);
/* The single target of all rows, or -1: then *shares has target_count entries, valid until the next call. */
int64_t partitioner_split(struct partitioner *partitioner, const struct batch *batch, const struct partition_share **shares);

#endif
