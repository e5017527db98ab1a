/* Metrics as Prometheus scrapes them, with the names, types and labels that Flink's PrometheusReporter gives, so that dashboards made for
 * Flink fit:
 *   flink_<logical scope>_<groups of the name>_<name>, every character but [a-zA-Z0-9:_] replaced by _
 *   # HELP: "<name> (scope: <logical scope>_<groups>)"
 *   # TYPE: gauge for everything (counters and meters too: that is what Flink says), summary for histograms
 *   labels: the variables of the scope (host, tm_id, job_id, …), values filtered like names unless told otherwise
 * An encoder is made for one scrape, filled, written out and destroyed. Samples of a family stand together whatever the order of the calls.
 * Source: Prometheus text format 0.0.4; Flink's AbstractPrometheusReporter (1.20). Thread: any, one at a time. */
#ifndef MILLRACE_METRICS_PROMETHEUS_H
#define MILLRACE_METRICS_PROMETHEUS_H

#include "common/base/str_buf.h"
#include "common/metrics/metric_names.h"

#include <jansson.h>
#include <stdbool.h>

#define PROMETHEUS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* The labels of one subject (a daemon, a job, a task, an operator). Zero-initialised has none. */
struct prometheus_labels {
    struct str_buf text; /* `host="a",tm_id="b"` */
    bool keeps_values;   /* values are escaped, not filtered (filterLabelValueCharacters: false) */
};

/* name is a plain label name. */
void prometheus_labels_add(struct prometheus_labels *labels, const char *name, const char *value);
void prometheus_labels_add_bytes(struct prometheus_labels *labels, const char *name, const char *value, size_t length);
/* The same labels again, to add more to. out: zero-initialised. */
void prometheus_labels_copy(struct prometheus_labels *out, const struct prometheus_labels *from);
void prometheus_labels_finish(struct prometheus_labels *labels);

struct prometheus;

struct prometheus *prometheus_create(void);
/* Accepts NULL. */
void prometheus_destroy(struct prometheus *prometheus);
/* values: object name -> number, text or boolean, as REST lists them. A name without a row is the user's own: a gauge in that scope. */
void prometheus_add(struct prometheus *prometheus, enum metric_scope scope, const struct prometheus_labels *labels, const json_t *values);
/* Everything, malloced, for the caller to free. */
char *prometheus_text(struct prometheus *prometheus, size_t *length);

#endif
