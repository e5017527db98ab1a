/* What the jobmanager gives to Prometheus: its own figures and those of jobs that have not ended. Thread: the loop. */
#ifndef MILLRACE_JOBMANAGER_PROMETHEUS_H
#define MILLRACE_JOBMANAGER_PROMETHEUS_H

#include "common/metrics/prometheus_reporter.h"
#include "jobmanager/jobmanager.h"

/* NULL when it is off or no port is free. */
struct prometheus_reporter *jobmanager_prometheus_create(struct jobmanager *jobmanager);

#endif
