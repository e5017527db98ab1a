/* What a runner reports of a task (an entry of METRICS' `tasks`), folded into what is shown of it. The jobmanager (for REST) and the
 * taskmanager's agent (for Prometheus) fold the same reports in the same way, so their figures agree.
 *   {"values":    {name: number, text or boolean}   the task's, under Flink's names
 *    "rates":     {name: per second}                METERs, over the last few reports
 *    "operators": [{…as reported: "operator", "name", "type", "books", "metrics" …, "values": {…}, "rates": {…}}]
 *    "channels":  as reported: {batches_max, batches, bytes_max, bytes} that may wait and that wait between this task and others
 *    "samples":   private}
 * Thread: any, one at a time per task. */
#ifndef MILLRACE_METRICS_TASK_REPORT_H
#define MILLRACE_METRICS_TASK_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* before: the fold of the task's reports up to now, NULL for the first; borrowed, as is report. has_inputs: false for a source.
 * now_ms: monotonic or the caller's clock, always the same one. Returns a new object. */
json_t *task_report_fold(const json_t *before, const json_t *report, bool has_inputs, int64_t now_ms);
/* Everything under the names of REST: the task's, and its operators' with the operator's name in front. A new object. */
json_t *task_report_flat(const json_t *folded, bool with_rates);
/* Copies text with what REST's names do not hold (blank . : ,) replaced by `_`, and at most 80 characters of it (Flink's limit for names of
 * operators in metrics). */
char *task_report_operator_prefix(const char *name);
/* The first 80 characters, in bytes. */
size_t task_report_operator_name_length(const char *name);

#endif
