/* Checkpoint statistics: see stat_summary.h. */
#include "jobmanager/core/stat_summary.h"

#include "common/base/heap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void stat_summary_add(struct stat_summary *summary, int64_t value)
{
    if (summary->count == 0 || value < summary->min)
        summary->min = value;
    if (summary->count == 0 || value > summary->max)
        summary->max = value;
    summary->sum += value;
    summary->count++;
    if (summary->window_count == summary->window_capacity && summary->window_capacity < STAT_SUMMARY_WINDOW) {
        uint32_t capacity = summary->window_capacity != 0 ? summary->window_capacity * 2 : 16;
        if (capacity > STAT_SUMMARY_WINDOW)
            capacity = STAT_SUMMARY_WINDOW;
        summary->window = heap_realloc(summary->window, capacity, sizeof *summary->window);
        summary->window_capacity = capacity;
    }
    if (summary->window_count < summary->window_capacity) {
        summary->window[summary->window_count++] = value;
    } else {
        summary->window[summary->window_next] = value;
        summary->window_next = (summary->window_next + 1) % summary->window_count;
    }
}

int64_t stat_summary_average(const struct stat_summary *summary)
{
    return summary->count == 0 ? 0 : summary->sum / (int64_t)summary->count;
}

static int compare_values(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

double stat_summary_quantile(const struct stat_summary *summary, double quantile)
{
    uint32_t n = summary->window_count;
    if (n == 0)
        return NAN;
    int64_t *sorted = heap_memdup(summary->window, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_values);
    double position = quantile * ((double)n + 1);
    double lower = floor(position);
    double result;
    if (position < 1)
        result = (double)sorted[0];
    else if (position >= n)
        result = (double)sorted[n - 1];
    else {
        uint32_t index = (uint32_t)lower;
        double below = (double)sorted[index - 1], above = (double)sorted[index];
        result = below + (position - lower) * (above - below);
    }
    free(sorted);
    return result;
}

void stat_summary_finish(struct stat_summary *summary)
{
    free(summary->window);
    memset(summary, 0, sizeof *summary);
}
