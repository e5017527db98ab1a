/* A channel: the bounded queue of elements between one producer subtask and one consumer subtask of an edge. One lock per
 * element, never per row. Batches are bounded by count and bytes; events are never refused. Exactly one thread pushes and
 * one thread pops: for a local channel the two task threads; for a remote one a task thread and the runner's loop thread.
 *
 * An unaligned barrier that is pushed goes to the front, behind others of its kind, and notes what it overtook; one that becomes
 * unaligned while it waits is moved there by channel_promote. In the queue of a producer whose consumer is elsewhere (is_remote)
 * it keeps its place, and what is in front of it is sent without waiting for credit: it overtakes at the consumer.
 *
 * Nobody waits inside a channel. A side that found it full or empty arms its waker, looks again, and sleeps in its own way;
 * the other side then calls the waker once. Reference-counted: each end and the registry hold one. */
#ifndef MILLRACE_NET_CHANNEL_H
#define MILLRACE_NET_CHANNEL_H

#include "taskmanager/net/element.h"

#include "common/base/error.h"

#include <pthread.h>
#include <stdatomic.h>

#define CHANNEL_BATCHES_MAX 8
#define CHANNEL_BYTES_MAX (1024u * 1024u)
/* What may lie in a queue beyond its bounds so that a task that is in the midst of emitting gets to a barrier that waits for it. */
#define CHANNEL_OVERDRAFT_BATCHES 64
#define CHANNEL_OVERDRAFT_BYTES (16u * 1024u * 1024u)

/* Called with no lock held, from the other side's thread; must not block. */
struct channel_waker {
    void (*wake)(void *arg);
    void *arg;
};

/* Who is at the ends: for messages. */
struct channel_key {
    uint32_t target_operator; /* index into job_graph.operators */
    uint32_t edge;            /* index into its inputs */
    uint32_t producer;        /* subtask indexes */
    uint32_t consumer;
};

struct channel {
    atomic_uint refs;
    struct channel_key key;
    uint32_t batches_max;
    size_t bytes_max;
    bool is_remote; /* the consumer is in another process; set before the channel is shared */
    bool is_from_remote; /* the producer is; set likewise */

    /* read without the lock as a hint; written under it */
    atomic_uint queued;  /* elements */
    atomic_uint batches; /* of them batches */
    atomic_size_t bytes;
    atomic_uint urgent;    /* unaligned barriers; in a remote channel also the end of the partition */
    atomic_llong due_ms;   /* wall clock: when a queued barrier becomes unaligned; INT64_MAX: none will */
    atomic_bool has_end;   /* END_OF_PARTITION is in the queue, or was */
    atomic_bool is_released; /* the consumer is gone: pushes are dropped */
    atomic_bool is_broken;   /* error is set */
    atomic_bool is_delivered; /* is_remote: the consumer's process has all of it, the end of the partition too */

    pthread_mutex_t lock;
    struct element *ring;
    uint32_t ring_capacity; /* a power of two */
    uint32_t head;
    struct channel_waker consumer; /* called when an element came into an empty queue */
    struct channel_waker producer; /* called when a full queue has room again, and on release */
    struct error *error;           /* what the consumer is told after the last element */
};

struct channel *channel_create(struct channel_key key, uint32_t batches_max, size_t bytes_max);
struct channel *channel_ref(struct channel *channel);
/* Accepts NULL. */
void channel_unref(struct channel *channel);

/* NULL wake functions take a waker away; after the call returns the old one is not called any more. */
void channel_set_consumer(struct channel *channel, struct channel_waker waker);
void channel_set_producer(struct channel *channel, struct channel_waker waker);

/* Room for another batch? Exact for the producer: only the consumer can change a false to a true. */
static inline bool channel_has_room(const struct channel *channel)
{
    return (atomic_load(&channel->batches) < channel->batches_max && atomic_load(&channel->bytes) < channel->bytes_max) ||
           atomic_load(&channel->is_released);
}
static inline bool channel_is_empty(const struct channel *channel)
{
    return atomic_load(&channel->queued) == 0 && !atomic_load(&channel->is_broken);
}

/* Room beyond the bounds for somebody whom a barrier waits for. */
static inline bool channel_has_overdraft(const struct channel *channel)
{
    return atomic_load(&channel->batches) < channel->batches_max + CHANNEL_OVERDRAFT_BATCHES &&
           atomic_load(&channel->bytes) < channel->bytes_max + CHANNEL_OVERDRAFT_BYTES;
}

/* Takes element. A batch is taken also when there is no room: the producer decides about waiting. */
void channel_push(struct channel *channel, struct element element);
/* False when empty. The error of a broken channel comes after its last element. */
MUST_CHECK struct error *channel_pop(struct channel *channel, struct element *out, bool *found);
/* The type of the first element; ELEMENT_TYPE_COUNT when empty. Consumer only. */
enum element_type channel_peek(struct channel *channel);
/* Consumer only: barriers whose time to become unaligned has come do so. */
void channel_promote(struct channel *channel, int64_t now_ms);
/* Consumer only, of a local channel: true when the end of the partition is queued and no barrier of this checkpoint or a later one, so
 * that none will come. *out: references to everything that is queued and counts as in flight; NULL: nothing. */
bool channel_capture_ended(struct channel *channel, uint64_t checkpoint_id, struct in_flight **out);
/* The producer failed or was lost: takes err; the first one stays. */
void channel_break(struct channel *channel, struct error *err);
/* The consumer will not pop again: drops what is queued and everything that comes. */
void channel_release(struct channel *channel);
/* What waits and what may wait, summed up. Any thread; a channel without a bound of bytes counts as one of CHANNEL_BYTES_MAX. */
struct channel_fill {
    uint64_t batches, batches_max;
    uint64_t bytes, bytes_max;
};
void channel_fill_add(struct channel_fill *fill, const struct channel *channel);
/* 0 to 1: how full. */
double channel_usage(const struct channel *channel);

#endif
