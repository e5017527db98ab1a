/* The bounded element queue between two subtasks. Thread: one producer, one consumer, see channel.h. */
#include "taskmanager/net/channel.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "taskmanager/net/in_flight.h"

#define RING_CAPACITY_MIN 16

struct channel *channel_create(struct channel_key key, uint32_t batches_max, size_t bytes_max)
{
    struct channel *channel = heap_new(struct channel);
    atomic_init(&channel->refs, 1);
    channel->key = key;
    channel->batches_max = batches_max;
    channel->bytes_max = bytes_max;
    atomic_init(&channel->due_ms, INT64_MAX);
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

static struct element *channel_at(struct channel *channel, uint32_t place)
{
    return &channel->ring[(channel->head + place) & (channel->ring_capacity - 1)];
}

static void channel_drop_elements(struct channel *channel)
{
    uint32_t count = atomic_load(&channel->queued);
    for (uint32_t i = 0; i < count; i++)
        element_finish(channel_at(channel, i));
    atomic_store(&channel->queued, 0);
    atomic_store(&channel->urgent, 0);
    atomic_store(&channel->due_ms, INT64_MAX);
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
        ring[i] = *channel_at(channel, i);
    free(channel->ring);
    channel->ring = ring;
    channel->ring_capacity = capacity;
    channel->head = 0;
}

/* ---- barriers that overtake; with the lock held ---- */

static bool element_is_unaligned(const struct element *element)
{
    return element->type == ELEMENT_BARRIER && element->as.barrier.is_unaligned;
}

/* In the queue of a remote consumer the end counts too: the task that sent it has nothing else to do than to see it off. */
static bool channel_finds_urgent(const struct channel *channel, const struct element *element)
{
    return element_is_unaligned(element) || (channel->is_remote && element->type == ELEMENT_END_OF_PARTITION);
}

/* References to what lies at [first, last) and counts as in flight; NULL: nothing. */
static struct in_flight *channel_capture(struct channel *channel, uint32_t first, uint32_t last)
{
    struct in_flight *captured = NULL;
    for (uint32_t i = first; i < last; i++) {
        const struct element *element = channel_at(channel, i);
        if (!in_flight_counts(element->type))
            continue;
        if (captured == NULL)
            captured = in_flight_create();
        in_flight_add(captured, channel->key.producer, element_ref(*element));
    }
    return captured;
}

/* Moves the barrier at place to the front, behind the unaligned ones that are there. In a local queue those stand together. */
static void channel_overtake(struct channel *channel, uint32_t place)
{
    struct element barrier = *channel_at(channel, place);
    uint32_t front = 0;
    while (front < place && element_is_unaligned(channel_at(channel, front)))
        front++;
    in_flight_destroy(barrier.overtaken);
    barrier.overtaken = channel_capture(channel, front, place);
    for (uint32_t i = place; i > front; i--)
        *channel_at(channel, i) = *channel_at(channel, i - 1);
    *channel_at(channel, front) = barrier;
}

static void channel_take_note(struct channel *channel, const struct element *element, uint32_t place)
{
    if (element->type == ELEMENT_END_OF_PARTITION)
        atomic_store(&channel->has_end, true);
    if (channel_finds_urgent(channel, element))
        atomic_fetch_add(&channel->urgent, 1);
    if (element_is_unaligned(element) && !channel->is_remote)
        channel_overtake(channel, place);
    if (element->type == ELEMENT_BARRIER && barrier_due_ms(&element->as.barrier) < atomic_load(&channel->due_ms))
        atomic_store(&channel->due_ms, barrier_due_ms(&element->as.barrier));
}

static void channel_find_due(struct channel *channel)
{
    int64_t due_ms = INT64_MAX;
    uint32_t count = atomic_load(&channel->queued);
    for (uint32_t i = 0; i < count; i++) {
        const struct element *element = channel_at(channel, i);
        if (element->type == ELEMENT_BARRIER && barrier_due_ms(&element->as.barrier) < due_ms)
            due_ms = barrier_due_ms(&element->as.barrier);
    }
    atomic_store(&channel->due_ms, due_ms);
}

/* ---- the queue ---- */

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
    *channel_at(channel, count) = element;
    if (element.type == ELEMENT_BATCH) {
        atomic_fetch_add(&channel->batches, 1);
        atomic_fetch_add(&channel->bytes, element.as.rows.bytes);
    }
    atomic_store(&channel->queued, count + 1);
    /* A consumer that sleeps for its output, not for input, has to see these. */
    bool is_news = element.type == ELEMENT_BARRIER || element.type == ELEMENT_END_OF_PARTITION;
    if (is_news)
        channel_take_note(channel, &element, count);
    if (count == 0 || is_news)
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
        *out = *channel_at(channel, 0);
        channel->head = (channel->head + 1) & (channel->ring_capacity - 1);
        atomic_store(&channel->queued, count - 1);
        if (channel_finds_urgent(channel, out))
            atomic_fetch_sub(&channel->urgent, 1);
        if (out->type == ELEMENT_BARRIER && atomic_load(&channel->due_ms) != INT64_MAX)
            channel_find_due(channel);
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

void channel_promote(struct channel *channel, int64_t now_ms)
{
    if (atomic_load(&channel->due_ms) > now_ms)
        return;
    pthread_mutex_lock(&channel->lock);
    uint32_t count = atomic_load(&channel->queued);
    for (uint32_t i = 0; i < count; i++) {
        struct element *element = channel_at(channel, i);
        if (element->type != ELEMENT_BARRIER || barrier_due_ms(&element->as.barrier) > now_ms)
            continue;
        element->as.barrier.is_unaligned = true;
        atomic_fetch_add(&channel->urgent, 1);
        if (!channel->is_remote)
            channel_overtake(channel, i);
    }
    channel_find_due(channel);
    pthread_mutex_unlock(&channel->lock);
}

bool channel_capture_ended(struct channel *channel, uint64_t checkpoint_id, struct in_flight **out)
{
    pthread_mutex_lock(&channel->lock);
    uint32_t count = atomic_load(&channel->queued);
    bool is_ended = atomic_load(&channel->has_end);
    for (uint32_t i = 0; i < count && is_ended; i++) {
        const struct element *element = channel_at(channel, i);
        is_ended = element->type != ELEMENT_BARRIER || element->as.barrier.checkpoint_id < checkpoint_id;
    }
    if (is_ended)
        *out = channel_capture(channel, 0, count);
    pthread_mutex_unlock(&channel->lock);
    return is_ended;
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

void channel_fill_add(struct channel_fill *fill, const struct channel *channel)
{
    size_t bytes = atomic_load(&channel->bytes);
    bool is_bounded = channel->bytes_max != SIZE_MAX;
    fill->batches += atomic_load(&channel->batches);
    fill->batches_max += channel->batches_max;
    fill->bytes += bytes;
    fill->bytes_max += is_bounded ? channel->bytes_max : bytes > CHANNEL_BYTES_MAX ? bytes : CHANNEL_BYTES_MAX;
}

double channel_usage(const struct channel *channel)
{
    double batches = (double)atomic_load(&channel->batches) / (double)channel->batches_max;
    double bytes = (double)atomic_load(&channel->bytes) / (double)channel->bytes_max;
    double usage = batches > bytes ? batches : bytes;
    return usage > 1 ? 1 : usage;
}
