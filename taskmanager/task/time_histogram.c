/* See time_histogram.h. */
#include "taskmanager/task/time_histogram.h"

#include <stddef.h>
#include <stdio.h>

#define SUB_BITS 3 /* buckets per power of two: 1 << SUB_BITS */
#define FIRST_BITS 10 /* everything below 1024 ns is in the first bucket */
#define NS_PER_US 1000

static unsigned bucket_of(uint64_t ns)
{
    if (ns < UINT64_C(1) << FIRST_BITS)
        return 0;
    unsigned bits = 63u - (unsigned)__builtin_clzll(ns);
    unsigned sub = (unsigned)(ns >> (bits - SUB_BITS)) & ((1u << SUB_BITS) - 1);
    unsigned bucket = 1 + ((bits - FIRST_BITS) << SUB_BITS) + sub;
    return bucket < TIME_HISTOGRAM_BUCKET_COUNT ? bucket : TIME_HISTOGRAM_BUCKET_COUNT - 1;
}

static uint64_t bucket_end(unsigned bucket)
{
    if (bucket == 0)
        return UINT64_C(1) << FIRST_BITS;
    unsigned bits = FIRST_BITS + ((bucket - 1) >> SUB_BITS), sub = (bucket - 1) & ((1u << SUB_BITS) - 1);
    return (UINT64_C(1) << bits) + ((uint64_t)(sub + 1) << (bits - SUB_BITS));
}

/* The only writer needs no locked instruction. */
static void add_one(atomic_ullong *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

void time_histogram_add(struct time_histogram *histogram, int64_t ns)
{
    uint64_t value = ns > 0 ? (uint64_t)ns : 0;
    add_one(&histogram->buckets[bucket_of(value)]);
    add_one(&histogram->count);
    if (value > atomic_load_explicit(&histogram->max_ns, memory_order_relaxed))
        atomic_store_explicit(&histogram->max_ns, value, memory_order_relaxed);
}

int64_t time_histogram_quantile_ns(const struct time_histogram *histogram, double quantile)
{
    uint64_t count = atomic_load_explicit(&histogram->count, memory_order_relaxed), seen = 0;
    uint64_t max_ns = atomic_load_explicit(&histogram->max_ns, memory_order_relaxed);
    for (unsigned i = 0; i < TIME_HISTOGRAM_BUCKET_COUNT && count > 0; i++) {
        seen += atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
        if ((double)seen >= quantile * (double)count)
            return (int64_t)(bucket_end(i) < max_ns ? bucket_end(i) : max_ns);
    }
    return (int64_t)max_ns;
}

void time_histogram_put_json(const struct time_histogram *histogram, const char *name, json_t *json)
{
    static const struct {
        const char *suffix;
        double quantile;
    } quantiles[] = {{"median", 0.5}, {"p75", 0.75}, {"p95", 0.95}, {"p98", 0.98}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    char text[96];
    snprintf(text, sizeof text, "%s_count", name);
    json_object_set_new(json, text, json_integer((json_int_t)atomic_load_explicit(&histogram->count, memory_order_relaxed)));
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        snprintf(text, sizeof text, "%s_%s", name, quantiles[i].suffix);
        json_object_set_new(json, text, json_integer(time_histogram_quantile_ns(histogram, quantiles[i].quantile) / NS_PER_US));
    }
}
