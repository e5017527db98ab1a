/* Which subtasks an edge joins: derived by everyone who needs it, the tasks that open channels and the coordinator that asks
 * whose barriers reach whom. Pure arithmetic.
 * source: Flink's VertexInputInfoComputationUtils (pointwise and all-to-all distribution). */
#include "common/graph/job_graph.h"

static bool edge_is_pointwise(enum partitioning partitioning)
{
    return partitioning == PARTITION_FORWARD || partitioning == PARTITION_RESCALE;
}

/* Flink's pointwise distribution: the longer side is cut into runs, one for each subtask of the shorter side. */
void edge_producers(enum partitioning partitioning, uint32_t producer_count, uint32_t consumer_count, uint32_t consumer, uint32_t *first,
                    uint32_t *last)
{
    *first = 0;
    *last = producer_count - 1;
    if (!edge_is_pointwise(partitioning))
        return;
    if (producer_count >= consumer_count) {
        *first = (uint32_t)((uint64_t)consumer * producer_count / consumer_count);
        *last = (uint32_t)((uint64_t)(consumer + 1) * producer_count / consumer_count) - 1;
    } else {
        *first = *last = (uint32_t)((uint64_t)consumer * producer_count / consumer_count);
    }
}

void edge_consumers(enum partitioning partitioning, uint32_t producer_count, uint32_t consumer_count, uint32_t producer, uint32_t *first,
                    uint32_t *last)
{
    *first = 0;
    *last = consumer_count - 1;
    if (!edge_is_pointwise(partitioning))
        return;
    bool has_first = false;
    for (uint32_t consumer = 0; consumer < consumer_count; consumer++) {
        uint32_t low, high;
        edge_producers(partitioning, producer_count, consumer_count, consumer, &low, &high);
        if (producer < low || producer > high)
            continue;
        if (!has_first)
            *first = consumer;
        has_first = true;
        *last = consumer;
    }
}
