/* How long something takes, as a distribution: counts in buckets an eighth of a power of two wide, from a microsecond to
 * hours. Thread: one writes, any may read (the counts of a reader may be a few apart). */
#ifndef MILLRACE_TASK_TIME_HISTOGRAM_H
#define MILLRACE_TASK_TIME_HISTOGRAM_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdint.h>

#define TIME_HISTOGRAM_BUCKET_COUNT 296

struct time_histogram {
    atomic_ullong count;
    atomic_ullong max_ns;
    atomic_ullong buckets[TIME_HISTOGRAM_BUCKET_COUNT];
};

/* All zero is empty. */
void time_histogram_add(struct time_histogram *histogram, int64_t ns);
/* The upper bound of the bucket in which the quantile (0..1) lies, never more than the maximum; 0 when empty. */
int64_t time_histogram_quantile_ns(const struct time_histogram *histogram, double quantile);
/* name_count, name_median, name_p75, _p95, _p98, _p99, _p999 and _max in microseconds (Flink's suffixes of histograms). */
void time_histogram_put_json(const struct time_histogram *histogram, const char *name, json_t *json);

#endif
