/* Timers: a state table of (key, time) entries per time domain, and a binary heap over them. The table decides what exists;
 * the heap may hold times whose entry is gone (deleted timers), they are skipped when they come up, or when they are too many.
 * Thread: task. Owner: the operator. */
#include "taskmanager/time/timer_service.h"

#include "common/base/heap.h"
#include "common/base/vec.h"
#include "taskmanager/state/state_table.h"

#include <stdlib.h>
#include <string.h>

#define KEY_INLINE_MAX 16
/* So many deleted timers may stay in a heap beside those that exist. */
#define GONE_KEPT 64

struct timer {
    int64_t time;
    uint64_t hash;
    uint32_t key_group;
    uint32_t key_length;
    union {
        uint8_t inlined[KEY_INLINE_MAX];
        uint8_t *bytes; /* owned */
    } key;
};

struct timer_queue {
    struct state_table *table;
    VEC(struct timer) heap;
    struct timer popped; /* the key lent by the last pop */
};

struct timer_service {
    struct timer_queue queues[TIMER_DOMAIN_COUNT];
};

static const char *const timer_state_names[TIMER_DOMAIN_COUNT] = {"_timers_event", "_timers_processing"};

static const uint8_t *timer_key(const struct timer *timer)
{
    return timer->key_length <= KEY_INLINE_MAX ? timer->key.inlined : timer->key.bytes;
}

static void timer_finish(struct timer *timer)
{
    if (timer->key_length > KEY_INLINE_MAX)
        free(timer->key.bytes);
    timer->key_length = 0;
}

/* ---- heap ---- */

static void queue_push(struct timer_queue *queue, const struct state_key *key, int64_t time)
{
    struct timer timer = {.time = time, .hash = key->hash, .key_group = key->key_group, .key_length = key->length};
    if (key->length <= KEY_INLINE_MAX)
        memcpy(timer.key.inlined, key->bytes, key->length);
    else
        timer.key.bytes = heap_memdup(key->bytes, key->length);
    vec_push(&queue->heap, timer);
    size_t i = queue->heap.count - 1;
    for (; i > 0; i = (i - 1) / 2) {
        struct timer *parent = &queue->heap.items[(i - 1) / 2];
        if (parent->time <= timer.time)
            break;
        queue->heap.items[i] = *parent;
    }
    queue->heap.items[i] = timer;
}

static struct timer queue_pop(struct timer_queue *queue)
{
    struct timer *items = queue->heap.items;
    struct timer top = items[0];
    struct timer last = items[--queue->heap.count];
    size_t count = queue->heap.count, i = 0;
    while (2 * i + 1 < count) {
        size_t child = 2 * i + 1;
        if (child + 1 < count && items[child + 1].time < items[child].time)
            child++;
        if (last.time <= items[child].time)
            break;
        items[i] = items[child];
        i = child;
    }
    if (count > 0)
        items[i] = last;
    return top;
}

static void queue_clear(struct timer_queue *queue)
{
    for (size_t i = 0; i < queue->heap.count; i++)
        timer_finish(&queue->heap.items[i]);
    vec_clear(&queue->heap);
}

/* The heap of an empty queue, from its table. */
static void queue_rebuild(struct timer_queue *queue)
{
    struct state_iterator iterator;
    const struct state_entry *entry;
    state_iterator_init(&iterator, queue->table);
    while (state_iterator_next(&iterator, &entry) != STATE_REF_NONE) {
        int64_t time;
        if (entry->namespace_length != sizeof time)
            continue;
        memcpy(&time, state_entry_namespace(entry), sizeof time);
        queue_push(queue, &(struct state_key){state_entry_key(entry), entry->key_length, entry->key_group, entry->hash}, time);
    }
    state_iterator_finish(&iterator);
}

/* Timers that are set and deleted before their time (timeouts) would fill the heap: once most of it is gone, it is made anew. */
static void queue_trim(struct timer_queue *queue)
{
    if (queue->heap.count / 2 <= state_table_entry_count(queue->table) + GONE_KEPT)
        return;
    queue_clear(queue);
    queue_rebuild(queue);
}

/* ---- the service ---- */

struct timer_service *timer_service_create(struct schema *key_schema, uint32_t key_group_first, uint32_t key_group_last)
{
    struct timer_service *service = heap_new(struct timer_service);
    struct state_table_options options = {
        .key_group_first = key_group_first,
        .key_group_last = key_group_last,
        .key_schema = key_schema,
        .value_form = STATE_VALUE_BYTES,
    };
    for (int domain = 0; domain < TIMER_DOMAIN_COUNT; domain++)
        service->queues[domain].table = state_table_create(&options);
    return service;
}

void timer_service_destroy(struct timer_service *service)
{
    if (service == NULL)
        return;
    for (int domain = 0; domain < TIMER_DOMAIN_COUNT; domain++) {
        struct timer_queue *queue = &service->queues[domain];
        queue_clear(queue);
        vec_finish(&queue->heap);
        timer_finish(&queue->popped);
        state_table_destroy(queue->table);
    }
    free(service);
}

void timer_service_register(struct timer_service *service, enum timer_domain domain, const struct state_key *key, int64_t time)
{
    struct timer_queue *queue = &service->queues[domain];
    bool is_new;
    state_table_upsert(queue->table, key->key_group, key->hash, key->bytes, key->length, &time, sizeof time, 0, &is_new);
    if (is_new)
        queue_push(queue, key, time);
}

void timer_service_delete(struct timer_service *service, enum timer_domain domain, const struct state_key *key, int64_t time)
{
    struct timer_queue *queue = &service->queues[domain];
    if (state_table_remove(queue->table, key->key_group, key->hash, key->bytes, key->length, &time, sizeof time))
        queue_trim(queue);
}

bool timer_service_pop(struct timer_service *service, enum timer_domain domain, int64_t until, struct state_key *key, int64_t *time)
{
    struct timer_queue *queue = &service->queues[domain];
    while (queue->heap.count > 0 && queue->heap.items[0].time <= until) {
        timer_finish(&queue->popped);
        queue->popped = queue_pop(queue);
        const struct timer *timer = &queue->popped;
        if (!state_table_remove(queue->table, timer->key_group, timer->hash, timer_key(timer), timer->key_length, &timer->time, sizeof timer->time))
            continue;
        *key = (struct state_key){timer_key(timer), timer->key_length, timer->key_group, timer->hash};
        *time = timer->time;
        return true;
    }
    return false;
}

int64_t timer_service_next(const struct timer_service *service, enum timer_domain domain)
{
    const struct timer_queue *queue = &service->queues[domain];
    return queue->heap.count > 0 ? queue->heap.items[0].time : INT64_MAX;
}

void timer_service_snapshot(struct timer_service *service, struct snapshot *snapshot)
{
    for (int domain = 0; domain < TIMER_DOMAIN_COUNT; domain++)
        if (state_table_entry_count(service->queues[domain].table) > 0)
            snapshot_add_table(snapshot, timer_state_names[domain], service->queues[domain].table, NULL);
}

struct error *timer_service_restore(struct timer_service *service, struct restored_state *state)
{
    json_t *tables = restored_state_tables(state);
    struct error *err = NULL;
    for (int domain = 0; domain < TIMER_DOMAIN_COUNT && err == NULL; domain++) {
        size_t index;
        json_t *table;
        json_array_foreach(tables, index, table)
        {
            const char *name = json_string_value(json_object_get(table, "name"));
            if (name == NULL || strcmp(name, timer_state_names[domain]) != 0)
                continue;
            err = restored_state_load(state, name, service->queues[domain].table);
            if (err == NULL)
                queue_rebuild(&service->queues[domain]);
            break;
        }
    }
    json_decref(tables);
    return err;
}
