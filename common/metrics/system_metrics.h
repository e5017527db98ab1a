/* Figures of the whole machine, from Linux's proc(5): Flink's system resource metrics, which both daemons have when metrics.system-resource is
 * true. What is a share or a rate is that between two looks, at least metrics.system-resource-probing-interval apart; it stays until the next.
 * Thread: one at a time. Source: Flink's SystemResourcesMetricsInitializer (docs: ops/metrics, "System resources"). */
#ifndef MILLRACE_METRICS_SYSTEM_METRICS_H
#define MILLRACE_METRICS_SYSTEM_METRICS_H

#include "common/config/config.h"

#include <jansson.h>
#include <stdint.h>

struct system_metrics;

/* As the configuration has it; NULL: off. */
struct system_metrics *system_metrics_configure(const struct config *config);
/* Takes the first look. proc: where proc(5) is, "/proc". */
struct system_metrics *system_metrics_create(const char *proc, int64_t interval_ms);
void system_metrics_destroy(struct system_metrics *system);

/* Adds name -> number (rows System.* of metric_names.def). Before the second look there are no shares and rates. system NULL: adds nothing. */
void system_metrics_add(struct system_metrics *system, json_t *metrics);

#endif
