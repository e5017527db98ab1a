/* /config, /overview, /datasets, DELETE /cluster, and the lists of jobs. Thread: the loop. */
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"
#include "jobmanager/rest/views.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#ifndef MILLRACE_COMMIT /* mk/jobmanager.mk */
#define MILLRACE_COMMIT "unknown"
#define MILLRACE_COMMIT_DATE "unknown"
#endif

static const char *timezone_name(const struct tm *local)
{
    return local->tm_gmtoff == 0 ? "Coordinated Universal Time" : local->tm_zone;
}

void handle_config(struct jobmanager *jobmanager, struct rest_request *request)
{
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    const struct config *config = jobmanager->config;
    json_t *features = json_object();
    put_bool(features, "web-submit", config_bool(config, OPTION_WEB_SUBMIT_ENABLE));
    put_bool(features, "web-cancel", config_bool(config, OPTION_WEB_CANCEL_ENABLE));
    put_bool(features, "web-rescale", config_bool(config, OPTION_WEB_RESCALE_ENABLE));
    put_bool(features, "web-history", false);
    json_t *json = json_object();
    put_int(json, "refresh-interval", config_ms(config, OPTION_WEB_REFRESH_INTERVAL));
    put_text(json, "timezone-name", timezone_name(&local));
    put_int(json, "timezone-offset", local.tm_gmtoff * 1000);
    put_text(json, "flink-version", FLINK_VERSION);
    put_text(json, "flink-revision", MILLRACE_COMMIT " @ " MILLRACE_COMMIT_DATE);
    put_json(json, "features", features);
    rest_reply_json(request, 200, json);
}

void handle_overview(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct coordinator *core = jobmanager->coordinator;
    int64_t running = 0, finished = 0, cancelled = 0, failed = 0;
    for (size_t i = 0; i < core->jobs.count; i++) {
        const struct job *job = core->jobs.entries[i].value;
        running += !job_state_is_terminal(job->state);
        finished += job->state == JOB_FINISHED;
        cancelled += job->state == JOB_CANCELED;
        failed += job->state == JOB_FAILED;
    }
    json_t *json = json_object();
    put_int(json, "taskmanagers", (int64_t)core->taskmanagers.count);
    put_int(json, "slots-total", core->slot_count);
    put_int(json, "slots-available", core->free_slot_count);
    put_int(json, "jobs-running", running);
    put_int(json, "jobs-finished", finished);
    put_int(json, "jobs-cancelled", cancelled);
    put_int(json, "jobs-failed", failed);
    put_text(json, "flink-version", FLINK_VERSION);
    put_text(json, "flink-commit", MILLRACE_COMMIT);
    rest_reply_json(request, 200, json);
}

void handle_datasets(struct jobmanager *jobmanager, struct rest_request *request)
{
    (void)jobmanager;
    json_t *json = json_object();
    put_json(json, "dataSets", json_array());
    rest_reply_json(request, 200, json);
}

/* As a SIGTERM: the loop sees it after this answer was handed to the kernel. */
void handle_cluster_shutdown(struct jobmanager *jobmanager, struct rest_request *request)
{
    (void)jobmanager;
    rest_reply_json(request, 200, json_object());
    kill(getpid(), SIGTERM);
}

/* ---- lists of jobs ---- */

void handle_jobs(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct hash_map *jobs = &jobmanager->coordinator->jobs;
    json_t *list = json_array();
    for (size_t i = 0; i < jobs->count; i++) {
        const struct job *job = jobs->entries[i].value;
        json_t *entry = json_object();
        put_text(entry, "id", id_format(job->id).hex);
        put_text(entry, "status", job_state_name(job->state));
        json_array_append_new(list, entry);
    }
    json_t *json = json_object();
    put_json(json, "jobs", list);
    rest_reply_json(request, 200, json);
}

void handle_jobs_overview(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct hash_map *jobs = &jobmanager->coordinator->jobs;
    int64_t now_ms = jobmanager_now_ms(jobmanager);
    bool has_new_members = java_clients_want_new_members(&jobmanager->java_clients, request->http, now_ms);
    json_t *list = json_array();
    for (size_t i = 0; i < jobs->count; i++)
        json_array_append_new(list, view_job_overview(jobs->entries[i].value, now_ms, has_new_members));
    json_t *json = json_object();
    put_json(json, "jobs", list);
    rest_reply_json(request, 200, json);
}
