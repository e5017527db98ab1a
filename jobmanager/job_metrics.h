/* Metrics that tasks report (METRICS messages), kept with their execution (execution->metrics) as
 *   {"values": {name: number or text}, "rates": {name: per second}, "samples": [[ms, values], …], "operators": […]}
 * values are the task's own under Flink's names ("numRecordsIn") and its operators' with the operator's name before
 * ("ClickEvent_Counter.numRecordsIn"). Rates are over the last few reports. They stay when the task has ended.
 * Thread: the loop. */
#ifndef MILLRACE_JOBMANAGER_JOB_METRICS_H
#define MILLRACE_JOBMANAGER_JOB_METRICS_H

#include "jobmanager/jobmanager.h"

/* A METRICS message, borrowed. */
void job_metrics_report(struct jobmanager *jobmanager, const json_t *message);

/* What REST shows as io metrics of an execution. */
struct io_metrics {
    bool is_complete; /* the task has reported */
    int64_t read_bytes, write_bytes, read_records, write_records;
    int64_t backpressured_ms, idle_ms, busy_ms;
};
struct io_metrics job_metrics_io(const struct execution *execution);
/* A value or rate by Flink's name; false when the task has none of it. Texts count as absent. */
bool job_metrics_number(const struct execution *execution, const char *name, double *out);
/* All values and rates: a new object name -> number or text. */
json_t *job_metrics_all(const struct execution *execution);

#endif
