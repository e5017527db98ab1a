/* What travels through a channel: a batch, or an event between batches. Elements are small values that own
 * one reference to what they carry. */
#ifndef MILLRACE_NET_ELEMENT_H
#define MILLRACE_NET_ELEMENT_H

#include "common/base/heap.h"
#include "common/columnar/batch.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum element_type {
    ELEMENT_BATCH,
    ELEMENT_WATERMARK,
    ELEMENT_IDLE,             /* the producer went idle or active again */
    ELEMENT_BARRIER,
    ELEMENT_CANCEL_BARRIER,   /* the barrier with this id will not come */
    ELEMENT_END_OF_DATA,      /* no more rows or watermarks; barriers may follow */
    ELEMENT_END_OF_PARTITION, /* nothing follows */
    ELEMENT_TYPE_COUNT
};

enum barrier_kind {
    BARRIER_CHECKPOINT,
    BARRIER_SAVEPOINT,
    BARRIER_STOP,  /* savepoint after which the tasks finish */
    BARRIER_DRAIN, /* the same, after the end of all input was simulated */
    BARRIER_KIND_COUNT
};

/* Where a checkpoint is written. Travels with its barrier, so that no task has to wait for another message. */
struct checkpoint_location {
    atomic_uint refs;
    char directory[];
};

struct barrier {
    uint64_t checkpoint_id;
    int64_t timestamp_ms; /* wall clock of the trigger */
    enum barrier_kind kind;
    /* Overtakes what waits in its way; what it overtook becomes part of the checkpoint (in_flight.h). */
    bool is_unaligned;
    int64_t unaligned_after_ms; /* it becomes unaligned so long after timestamp_ms; 0: never, it waits its turn */
    struct checkpoint_location *location; /* a reference; NULL in a CANCEL_BARRIER */
};

/* Wall clock; INT64_MAX: it never becomes unaligned, or is so already. */
static inline int64_t barrier_due_ms(const struct barrier *barrier)
{
    if (barrier->is_unaligned || barrier->unaligned_after_ms <= 0 || barrier->timestamp_ms > INT64_MAX - barrier->unaligned_after_ms)
        return INT64_MAX;
    return barrier->timestamp_ms + barrier->unaligned_after_ms;
}

struct in_flight;

struct element {
    enum element_type type;
    union {
        struct {
            struct batch *batch; /* owned */
            size_t bytes;        /* batch_size_bytes, computed once by the producer */
        } rows;
        int64_t watermark;
        bool is_idle;
        struct barrier barrier; /* also of a CANCEL_BARRIER */
    } as;
    struct in_flight *overtaken; /* by an unaligned barrier in the channel that it came out of; owned; NULL: nothing */
};

static inline struct checkpoint_location *checkpoint_location_create(const char *directory)
{
    size_t length = strlen(directory);
    struct checkpoint_location *location = heap_alloc(sizeof *location + length + 1);
    atomic_init(&location->refs, 1);
    memcpy(location->directory, directory, length + 1);
    return location;
}

static inline struct barrier barrier_ref(struct barrier barrier)
{
    if (barrier.location != NULL)
        atomic_fetch_add_explicit(&barrier.location->refs, 1, memory_order_relaxed);
    return barrier;
}

static inline void barrier_finish(struct barrier *barrier)
{
    if (barrier->location != NULL && atomic_fetch_sub_explicit(&barrier->location->refs, 1, memory_order_acq_rel) == 1)
        free(barrier->location);
    barrier->location = NULL;
}

static inline bool element_has_barrier(const struct element *element)
{
    return element->type == ELEMENT_BARRIER || element->type == ELEMENT_CANCEL_BARRIER;
}

/* Another owner of what is in the element; what a barrier overtook stays with the first one. */
static inline struct element element_ref(struct element element)
{
    if (element.type == ELEMENT_BATCH)
        batch_ref(element.as.rows.batch);
    else if (element_has_barrier(&element))
        barrier_ref(element.as.barrier);
    element.overtaken = NULL;
    return element;
}

/* Accepts NULL. in_flight.c */
void in_flight_destroy(struct in_flight *in_flight);

static inline void element_finish(struct element *element)
{
    if (element->type == ELEMENT_BATCH) {
        batch_unref(element->as.rows.batch);
    } else if (element_has_barrier(element)) {
        barrier_finish(&element->as.barrier);
        in_flight_destroy(element->overtaken);
        element->overtaken = NULL;
    }
}

static inline bool barrier_kind_ends_job(enum barrier_kind kind)
{
    return kind == BARRIER_STOP || kind == BARRIER_DRAIN;
}

#endif
