/* The producer's end of one output edge: scatters batches over the channels to the consumer subtasks, coalesces small
 * pieces, flushes. It is the chain_output of that edge. Task thread only; the channels are shared with the consumers. */
#ifndef MILLRACE_NET_RESULT_PARTITION_H
#define MILLRACE_NET_RESULT_PARTITION_H

#include "taskmanager/net/channel.h"
#include "taskmanager/task/operator_chain.h"

struct result_partition;

/* Waits until the channel has room: the task accounts it as hard back pressure. errors: CANCELLED */
struct result_partition_host {
    struct error *(*wait_for_room)(void *arg, struct channel *channel);
    void *arg;
};

struct result_partition_options {
    const struct job_edge *edge; /* borrowed as long as the partition lives */
    uint32_t max_parallelism;    /* the consumer's */
    uint32_t seed;
    struct channel **channels; /* a channel a consumer subtask this producer feeds, in subtask order; references are taken */
    uint32_t channel_count;
    struct result_partition_host host;
    struct channel_waker waker; /* called when a full channel has room again */
};

struct result_partition *result_partition_create(const struct result_partition_options *options);
/* Drops what was not flushed. Accepts NULL. */
void result_partition_destroy(struct result_partition *partition);
/* For operator_chain_options.outputs. Borrowed. */
struct chain_output *result_partition_output(struct result_partition *partition);
/* Every channel has room: the task may take the next input. */
bool result_partition_is_available(const struct result_partition *partition);
/* Pushes out coalesced rows; may block while a channel is full. */
MUST_CHECK struct error *result_partition_flush(struct result_partition *partition);
bool result_partition_has_unflushed(const struct result_partition *partition);
/* After a flush, an event to every channel; event is borrowed. Not for batches. */
MUST_CHECK struct error *result_partition_broadcast(struct result_partition *partition, struct element event);
/* The fullest channel, 0 to 1. */
double result_partition_usage(const struct result_partition *partition);
/* Adds what waits in the channels. Any thread. */
void result_partition_fill_add(const struct result_partition *partition, struct channel_fill *fill);

/* Of a partition that has ended: another process that still reads a channel has not got its end yet. Any thread. */
bool result_partition_has_undelivered(const struct result_partition *partition);

/* Cumulative; any thread may read. */
struct result_partition_counts {
    atomic_ullong rows;
    atomic_ullong bytes;
    atomic_ullong batches;
};
const struct result_partition_counts *result_partition_counts(const struct result_partition *partition);

#endif
