/* The bounded element queue between two subtasks. Thread: one producer, one consumer, see channel.h. */
#include "taskmanager/net/channel.h"

#include "common/base/check.h"
#include "common/base/heap.h"

#define RING_CAPACITY_MIN 16

struct channel *channel_create(struct channel_key key, uint32_t batches_max, size_t bytes_max)
{
    struct channel *channel = heap_new(struct channel);
    atomic_init(&channel->refs, 1);
    channel->key = key;
    channel->batches_max = batches_max;
    channel->bytes_max = bytes_max;
    channel->ring_capacity = RING_CAPACITY_MIN;
    channel->ring = heap_alloc_array(channel->ring_capacity, sizeof *channel->ring);
    check(pthread_mutex_init(&channel->lock, NULL) == 0);
    return channel;
}

struct channel *channel_ref(struct channel *channel)
{
    atomic_fetch_add_explicit(&channel->refs, 1, memory_order_relaxed);
    return channel;
}

static void channel_drop_elements(struct channel *channel)
{
    uint32_t count = atomic_load(&channel->queued);
    for (uint32_t i = 0; i < count; i++)
        element_finish(&channel->ring[(channel->head + i) & (channel->ring_capacity - 1)]);
    atomic_store(&channel->queued, 0);
    atomic_store(&channel->batches, 0);
    atomic_store(&channel->bytes, 0);
    channel->head = 0;
}

void channel_unref(struct channel *channel)
{
    if (channel == NULL || atomic_fetch_sub_explicit(&channel->refs, 1, memory_order_acq_rel) != 1)
        return;
    channel_drop_elements(channel);
    error_free(channel->error);
    pthread_mutex_destroy(&channel->lock);
    free(channel->ring);
    free(channel);
}

void channel_set_consumer(struct channel *channel, struct channel_waker waker)
{
    pthread_mutex_lock(&channel->lock);
    channel->consumer = waker;
    pthread_mutex_unlock(&channel->lock);
}

void channel_set_producer(struct channel *channel, struct channel_waker waker)
{
    pthread_mutex_lock(&channel->lock);
    channel->producer = waker;
    pthread_mutex_unlock(&channel->lock);
}

static void waker_call(struct channel_waker waker)
{
    if (waker.wake != NULL)
        waker.wake(waker.arg);
}

static void channel_grow(struct channel *channel)
{
    uint32_t count = atomic_load(&channel->queued);
    uint32_t capacity = channel->ring_capacity * 2;
    struct element *ring = heap_alloc_array(capacity, sizeof *ring);
    for (uint32_t i = 0; i < count; i++)
        ring[i] = channel->ring[(channel->head + i) & (channel->ring_capacity - 1)];
    free(channel->ring);
    channel->ring = ring;
    channel->ring_capacity = capacity;
    channel->head = 0;
}

/* The wakers are called under the lock: they only set a flag or write an eventfd, and this way set_consumer and
 * set_producer are a barrier after which the old waker's argument may be freed. */
void channel_push(struct channel *channel, struct element element)
{
    pthread_mutex_lock(&channel->lock);
    if (atomic_load(&channel->is_released)) {
        pthread_mutex_unlock(&channel->lock);
        element_finish(&element);
        return;
    }
    uint32_t count = atomic_load(&channel->queued);
    if (count == channel->ring_capacity)
        channel_grow(channel);
    channel->ring[(channel->head + count) & (channel->ring_capacity - 1)] = element;
    if (element.type == ELEMENT_BATCH) {
        atomic_fetch_add(&channel->batches, 1);
        atomic_fetch_add(&channel->bytes, element.as.rows.bytes);
    }
    atomic_store(&channel->queued, count + 1);
    if (count == 0)
        waker_call(channel->consumer);
    pthread_mutex_unlock(&channel->lock);
}

struct error *channel_pop(struct channel *channel, struct element *out, bool *found)
{
    struct error *err = NULL;
    pthread_mutex_lock(&channel->lock);
    uint32_t count = atomic_load(&channel->queued);
    *found = count > 0;
    if (count > 0) {
        bool had_room = channel_has_room(channel);
        *out = channel->ring[channel->head];
        channel->head = (channel->head + 1) & (channel->ring_capacity - 1);
        atomic_store(&channel->queued, count - 1);
        if (out->type == ELEMENT_BATCH) {
            atomic_fetch_sub(&channel->batches, 1);
            atomic_fetch_sub(&channel->bytes, out->as.rows.bytes);
        }
        if (!had_room && channel_has_room(channel))
            waker_call(channel->producer);
    } else if (channel->error != NULL) {
        err = channel->error;
        channel->error = NULL;
        atomic_store(&channel->is_broken, false);
    }
    pthread_mutex_unlock(&channel->lock);
    return err;
}

enum element_type channel_peek(struct channel *channel)
{
    pthread_mutex_lock(&channel->lock);
    enum element_type type = atomic_load(&channel->queued) > 0 ? channel->ring[channel->head].type : ELEMENT_TYPE_COUNT;
    pthread_mutex_unlock(&channel->lock);
    return type;
}

void channel_break(struct channel *channel, struct error *err)
{
    pthread_mutex_lock(&channel->lock);
    bool is_first = channel->error == NULL && !atomic_load(&channel->is_released);
    if (is_first) {
        channel->error = err;
        atomic_store(&channel->is_broken, true);
        waker_call(channel->consumer);
    }
    pthread_mutex_unlock(&channel->lock);
    if (!is_first)
        error_free(err);
}

void channel_release(struct channel *channel)
{
    pthread_mutex_lock(&channel->lock);
    atomic_store(&channel->is_released, true);
    channel_drop_elements(channel);
    waker_call(channel->producer);
    pthread_mutex_unlock(&channel->lock);
}

double channel_usage(const struct channel *channel)
{
    double batches = (double)atomic_load(&channel->batches) / (double)channel->batches_max;
    double bytes = (double)atomic_load(&channel->bytes) / (double)channel->bytes_max;
    double usage = batches > bytes ? batches : bytes;
    return usage > 1 ? 1 : usage;
}
