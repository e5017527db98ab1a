/* Flink's scopes of the jobmanager: "jobmanager" {host}, and "jobmanager_job" {host, job_id, job_name} as long as the job has not ended. */
#include "jobmanager/prometheus.h"

#include "jobmanager/job_metrics.h"

static void collect_job(const struct jobmanager *jobmanager, const struct job *job, struct prometheus *out, const struct prometheus_labels *host)
{
    struct prometheus_labels labels = {0};
    prometheus_labels_copy(&labels, host);
    prometheus_labels_add(&labels, "job_id", id_format(job->id).hex);
    prometheus_labels_add(&labels, "job_name", job->graph->name);
    json_t *values = job_metrics_job(jobmanager, job);
    prometheus_add(out, METRIC_SCOPE_JOB, &labels, values);
    json_decref(values);
    prometheus_labels_finish(&labels);
}

static void collect(void *context, struct prometheus *out, const struct prometheus_labels *none)
{
    struct jobmanager *jobmanager = context;
    const struct hash_map *jobs = &jobmanager->coordinator->jobs;
    struct prometheus_labels host = {0};
    prometheus_labels_copy(&host, none);
    prometheus_labels_add(&host, "host", config_text(jobmanager->config, OPTION_JOBMANAGER_RPC_ADDRESS));
    json_t *values = job_metrics_cluster(jobmanager);
    prometheus_add(out, METRIC_SCOPE_JOBMANAGER, &host, values);
    json_decref(values);
    for (size_t i = 0; i < jobs->count; i++) {
        const struct job *job = jobs->entries[i].value;
        if (!job_state_is_terminal(job->state))
            collect_job(jobmanager, job, out, &host);
    }
    prometheus_labels_finish(&host);
}

struct prometheus_reporter *jobmanager_prometheus_create(struct jobmanager *jobmanager)
{
    const struct prometheus_reporter_options options = {
        .config = jobmanager->config,
        .bind_host = config_text(jobmanager->config, OPTION_JOBMANAGER_BIND_HOST),
        .collect = collect,
        .context = jobmanager,
    };
    return prometheus_reporter_create(jobmanager->loop, &options);
}
