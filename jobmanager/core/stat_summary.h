/* Minimum, maximum, average and quantiles of a series, for checkpoint statistics: exact over all values but the quantiles,
 * which are over the last STAT_SUMMARY_WINDOW. Zero-initialised is empty. */
#ifndef MILLRACE_CORE_STAT_SUMMARY_H
#define MILLRACE_CORE_STAT_SUMMARY_H

#include <stdint.h>

#define STAT_SUMMARY_WINDOW 1000

struct stat_summary {
    int64_t min, max, sum;
    uint64_t count;
    int64_t *window;
    uint32_t window_count, window_capacity, window_next;
};

void stat_summary_add(struct stat_summary *summary, int64_t value);
int64_t stat_summary_average(const struct stat_summary *summary); /* 0 when empty */
/* Linear interpolation as Apache Commons Math's Percentile does it (what Flink shows); NaN when empty. quantile in (0, 1]. */
double stat_summary_quantile(const struct stat_summary *summary, double quantile);
void stat_summary_finish(struct stat_summary *summary);

#endif
