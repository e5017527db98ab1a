/* Figures of processes, from Linux's proc(5), and the metrics that a daemon makes of them (scope DAEMON of metric_names.def). Flink's names
 * that are about the JVM are given where the process has the same thing: CPU, threads, heap. Thread: any; a process_load has one user. */
#ifndef MILLRACE_METRICS_PROCESS_METRICS_H
#define MILLRACE_METRICS_PROCESS_METRICS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct process_figures {
    int64_t resident_bytes;
    int64_t virtual_bytes;
    int64_t heap_bytes;      /* anonymous and resident */
    int64_t heap_mapped_bytes;
    int64_t thread_count;
    int64_t cpu_ns;
};

/* Of a process by its id; false when it is gone. */
bool process_figures_read(int64_t pid, struct process_figures *out);
/* sum += figures */
void process_figures_add(struct process_figures *sum, const struct process_figures *figures);
/* CPU time of children that have ended and were waited for. */
int64_t process_children_cpu_ns(void);

/* For the CPU load: what the look before has seen. Zero-initialised: none yet. */
struct process_load {
    int64_t cpu_ns;
    int64_t mono_ns;
    double load;
};

/* Metrics name -> number of scope DAEMON. total: of the daemon and what counts as part of it. */
json_t *process_metrics(const struct process_figures *total, struct process_load *load);

#endif
