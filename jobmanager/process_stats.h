/* Figures of this process, under the names that Flink gives its JVM's: where a figure has no counterpart the process's
 * nearest one stands (heap: resident memory; threads: threads). Thread: any. */
#ifndef MILLRACE_JOBMANAGER_PROCESS_STATS_H
#define MILLRACE_JOBMANAGER_PROCESS_STATS_H

#include <jansson.h>
#include <stdint.h>

struct process_stats {
    uint64_t resident_bytes;
    uint64_t virtual_bytes;
    uint64_t heap_used_bytes;  /* malloc's own figure */
    uint64_t heap_bytes;
    uint64_t physical_bytes;   /* of the machine */
    uint64_t available_bytes;  /* of the machine */
    uint32_t thread_count;
    uint32_t cpu_count;
    int64_t cpu_ns;            /* used since the start */
    double cpu_load;           /* 0 … 1 of the machine, since the last call */
};

void process_stats_read(struct process_stats *out);
/* Flink's Status.JVM.* metrics: object name -> number. */
json_t *process_stats_metrics(void);

#endif
