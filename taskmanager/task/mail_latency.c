/* Statistics of the window (mail_latency.h). */
#include "taskmanager/task/mail_latency.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1e6

void mail_latency_add(struct mail_latency *latency, int64_t ns)
{
    unsigned long long count = atomic_load_explicit(&latency->count, memory_order_relaxed);
    atomic_store_explicit(&latency->ns[count % MAIL_LATENCY_WINDOW], ns, memory_order_relaxed);
    atomic_store_explicit(&latency->count, count + 1, memory_order_release);
}

static int compare(const void *a, const void *b)
{
    double left, right;
    memcpy(&left, a, sizeof left);
    memcpy(&right, b, sizeof right);
    return (left > right) - (left < right);
}

/* Of ascending values, between the two that lie around it. */
static double quantile(const double *values, size_t count, double share)
{
    if (count == 0)
        return 0;
    double place = share * (double)(count - 1);
    size_t below = (size_t)place;
    size_t above = below + 1 < count ? below + 1 : below;
    return values[below] + (values[above] - values[below]) * (place - (double)below);
}

static void put(json_t *json, const char *name, const char *suffix, double value)
{
    char key[96];
    snprintf(key, sizeof key, "%s_%s", name, suffix);
    json_object_set_new(json, key, json_real(value));
}

void mail_latency_put_json(const struct mail_latency *latency, const char *name, json_t *json)
{
    static const struct {
        const char *suffix;
        double share;
    } quantiles[] = {{"min", 0},    {"median", 0.5}, {"p75", 0.75}, {"p90", 0.9},   {"p95", 0.95},
                     {"p98", 0.98}, {"p99", 0.99},   {"p999", 0.999}, {"max", 1}};
    double values[MAIL_LATENCY_WINDOW], sum = 0, squares = 0;
    char key[96];
    unsigned long long total = atomic_load_explicit(&latency->count, memory_order_acquire);
    size_t count = total < MAIL_LATENCY_WINDOW ? (size_t)total : MAIL_LATENCY_WINDOW;
    for (size_t i = 0; i < count; i++) {
        values[i] = (double)atomic_load_explicit(&latency->ns[i], memory_order_relaxed) / NS_PER_MS;
        sum += values[i];
    }
    double mean = count > 0 ? sum / (double)count : 0;
    for (size_t i = 0; i < count; i++)
        squares += (values[i] - mean) * (values[i] - mean);
    qsort(values, count, sizeof values[0], compare);
    snprintf(key, sizeof key, "%s_count", name);
    json_object_set_new(json, key, json_integer((json_int_t)total));
    put(json, name, "mean", mean);
    put(json, name, "stddev", count > 1 ? sqrt(squares / (double)(count - 1)) : 0);
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++)
        put(json, name, quantiles[i].suffix, quantile(values, count, quantiles[i].share));
}
