/* How long mails wait for a task: the latest measurements, and what Flink shows of such a window (mailboxLatencyMs: a histogram over the
 * last 60). Writer: the task thread, once a report. Readers: any thread. */
#ifndef MILLRACE_TASK_MAIL_LATENCY_H
#define MILLRACE_TASK_MAIL_LATENCY_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdint.h>

#define MAIL_LATENCY_WINDOW 60

/* All zero is empty. */
struct mail_latency {
    atomic_ullong count;
    atomic_llong ns[MAIL_LATENCY_WINDOW];
};

void mail_latency_add(struct mail_latency *latency, int64_t ns);
/* name_count, _min, _max, _mean, _stddev, _median, _p75, _p90, _p95, _p98, _p99 and _p999 in milliseconds; all 0 when empty. */
void mail_latency_put_json(const struct mail_latency *latency, const char *name, json_t *json);

#endif
