/* The figures of tasks, jobs and the cluster, under Flink's names (common/metrics/metric_names.def): for REST and for Prometheus.
 * What tasks report (METRICS messages) is kept with their execution as common/metrics/task_report.h folds it (execution->metrics);
 * it stays when the task has ended. Thread: the loop. */
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
/* Cut off, and held within what an int64_t holds: a taskmanager may report any number. */
int64_t job_metrics_whole(double number);
/* All values and rates of the task and, with the operator's name in front, of its operators: a new object name -> number or text. */
json_t *job_metrics_all(const struct execution *execution);
/* Of a job, and of the jobmanager: new objects name -> number or text. */
json_t *job_metrics_job(const struct jobmanager *jobmanager, const struct job *job);
json_t *job_metrics_cluster(const struct jobmanager *jobmanager);

#endif
