/* Time by place, behind a sequence lock, and statuses, behind a mutex (op_monitor.h). Thread: as noted there. */
#include "taskmanager/task/op_monitor.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "taskmanager/ops/op.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000

struct op_status {
    char *code; /* NULL: none */
    char *subject;
    char *text;
    int64_t since_ms;
};

struct op_monitor {
    uint32_t operator_count;
    uint32_t place_count;
    atomic_uint sequence; /* odd while it is being written */
    atomic_uint place;
    atomic_llong since_ns; /* 0 before the first switch */
    atomic_llong *total_ns; /* by place */
    pthread_mutex_t lock;
    struct op_status *statuses; /* guarded by lock */
};

struct op_monitor *op_monitor_create(uint32_t operator_count)
{
    struct op_monitor *monitor = heap_new(struct op_monitor);
    monitor->operator_count = operator_count;
    monitor->place_count = op_place_own(operator_count);
    monitor->total_ns = heap_alloc_array(monitor->place_count, sizeof *monitor->total_ns);
    monitor->statuses = heap_alloc_array(operator_count, sizeof *monitor->statuses);
    check(pthread_mutex_init(&monitor->lock, NULL) == 0);
    return monitor;
}

static void status_finish(struct op_status *status)
{
    free(status->code);
    free(status->subject);
    free(status->text);
    *status = (struct op_status){0};
}

void op_monitor_destroy(struct op_monitor *monitor)
{
    if (monitor == NULL)
        return;
    for (uint32_t i = 0; i < monitor->operator_count; i++)
        status_finish(&monitor->statuses[i]);
    pthread_mutex_destroy(&monitor->lock);
    free(monitor->statuses);
    free(monitor->total_ns);
    free(monitor);
}

/* ---- time ---- */

uint32_t op_monitor_switch(struct op_monitor *monitor, uint32_t place)
{
    if (monitor == NULL)
        return OP_PLACE_LOOP;
    dcheck(place < monitor->place_count);
    uint32_t before = atomic_load_explicit(&monitor->place, memory_order_relaxed);
    if (before == place)
        return before;
    int64_t since = atomic_load_explicit(&monitor->since_ns, memory_order_relaxed);
    unsigned sequence = atomic_load_explicit(&monitor->sequence, memory_order_relaxed);
    /* The clock is read with the lock held: else a reader could count the old place beyond now. */
    atomic_store_explicit(&monitor->sequence, sequence + 1, memory_order_seq_cst);
    int64_t now = clock_mono_ns();
    /* Stores, not fences: a reader that sees one of them also sees the odd sequence number (and the thread sanitizer understands). */
    if (since != 0)
        atomic_store_explicit(&monitor->total_ns[before], atomic_load_explicit(&monitor->total_ns[before], memory_order_relaxed) + now - since,
                              memory_order_release);
    atomic_store_explicit(&monitor->since_ns, now, memory_order_release);
    atomic_store_explicit(&monitor->place, place, memory_order_release);
    atomic_store_explicit(&monitor->sequence, sequence + 2, memory_order_release);
    return before;
}

void op_monitor_start(struct op_monitor *monitor)
{
    atomic_store(&monitor->since_ns, clock_mono_ns());
}

/* Total of a place up to now. */
static int64_t read_total_ns(struct op_monitor *monitor, uint32_t place)
{
    for (;;) {
        unsigned sequence = atomic_load_explicit(&monitor->sequence, memory_order_acquire);
        uint32_t current = atomic_load_explicit(&monitor->place, memory_order_acquire);
        int64_t since = atomic_load_explicit(&monitor->since_ns, memory_order_acquire);
        int64_t total = atomic_load_explicit(&monitor->total_ns[place], memory_order_acquire);
        int64_t now = clock_mono_ns(); /* before the check: later, the time might already be another place's */
        if ((sequence & 1) != 0 || atomic_load_explicit(&monitor->sequence, memory_order_acquire) != sequence)
            continue;
        return current == place && since != 0 && now > since ? total + now - since : total;
    }
}

int64_t op_monitor_shuffle_ms(struct op_monitor *monitor)
{
    return read_total_ns(monitor, OP_PLACE_SHUFFLE) / NS_PER_MS;
}

/* ---- for operators (op.h) ---- */

void op_wait_begin(struct op *op)
{
    op_monitor_switch(op->ctx->monitor, op_place_wait(op->ctx->chain_index));
}

void op_wait_end(struct op *op)
{
    op_monitor_switch(op->ctx->monitor, op_place_own(op->ctx->chain_index));
}

void op_status_set(struct op *op, const char *code, const char *subject, const char *text)
{
    op_monitor_set_status(op->ctx->monitor, op->ctx->chain_index, code, subject, text);
}

/* ---- statuses ---- */

static bool is_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void replace(char **text, const char *with)
{
    if (is_same(*text, with))
        return;
    free(*text);
    *text = with != NULL ? heap_strdup(with) : NULL;
}

void op_monitor_set_status(struct op_monitor *monitor, uint32_t index, const char *code, const char *subject, const char *text)
{
    if (monitor == NULL)
        return;
    check(index < monitor->operator_count);
    pthread_mutex_lock(&monitor->lock);
    struct op_status *status = &monitor->statuses[index];
    if (code == NULL) {
        status_finish(status);
    } else {
        if (!is_same(status->code, code) || !is_same(status->subject, subject))
            status->since_ms = clock_now_ms();
        replace(&status->code, code);
        replace(&status->subject, subject);
        replace(&status->text, text);
    }
    pthread_mutex_unlock(&monitor->lock);
}

static json_t *text_or_null(const char *text)
{
    json_t *json = text != NULL ? json_string(text) : NULL;
    return json != NULL ? json : json_null();
}

static json_t *status_json(struct op_monitor *monitor, uint32_t index)
{
    json_t *json = NULL;
    pthread_mutex_lock(&monitor->lock);
    const struct op_status *status = &monitor->statuses[index];
    if (status->code != NULL) {
        json = json_object();
        json_object_set_new(json, "code", text_or_null(status->code));
        json_object_set_new(json, "subject", text_or_null(status->subject));
        json_object_set_new(json, "text", text_or_null(status->text));
        json_object_set_new(json, "since", json_integer(status->since_ms));
    }
    pthread_mutex_unlock(&monitor->lock);
    return json;
}

void op_monitor_put_json(struct op_monitor *monitor, uint32_t index, json_t *json)
{
    check(index < monitor->operator_count);
    json_t *metrics = json_object_get(json, "metrics");
    if (metrics == NULL) {
        metrics = json_object();
        json_object_set_new(json, "metrics", metrics);
    }
    json_object_set_new(metrics, "accumulateOperatorTimeMs", json_integer(read_total_ns(monitor, op_place_own(index)) / NS_PER_MS));
    json_object_set_new(metrics, "accumulateOutsideTimeMs", json_integer(read_total_ns(monitor, op_place_wait(index)) / NS_PER_MS));
    json_t *status = status_json(monitor, index);
    if (status != NULL)
        json_object_set_new(json, "status", status);
    else
        json_object_del(json, "status");
}
