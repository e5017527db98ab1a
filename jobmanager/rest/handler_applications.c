/* Applications: Flink 2.3's dashboard begins with them. A program starts one job here, so each job is an application with the
 * job's id and name. Thread: the loop. */
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"
#include "jobmanager/rest/views.h"

/* The application's state in the words of Flink's ApplicationState. */
static const char *application_state(const struct job *job)
{
    switch ((int)job->state) {
    case JOB_FINISHED: return "FINISHED";
    case JOB_FAILED: return "FAILED";
    case JOB_CANCELED: return "CANCELED";
    case JOB_CANCELLING: return "CANCELING";
    case JOB_FAILING: return "FAILING";
    case JOB_INITIALIZING:
    case JOB_CREATED: return "CREATED";
    default: return "RUNNING";
    }
}

static json_t *application_head(const struct job *job, int64_t now_ms)
{
    json_t *json = json_object();
    put_text(json, "id", id_format(job->id).hex);
    put_text(json, "name", job->graph->name);
    put_int(json, "start-time", job->start_ms);
    put_int(json, "end-time", job->end_ms);
    put_int(json, "duration", (job->end_ms >= 0 ? job->end_ms : now_ms) - job->start_ms);
    put_text(json, "status", application_state(job));
    return json;
}

/* The job that the path names as an application; NULL: answered. */
static struct job *application_of(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (!rest_path_id(request, "applicationid", &id))
        return NULL;
    struct job *job = coordinator_job(jobmanager->coordinator, id);
    if (job == NULL)
        rest_reply_error(request, 404, EX_NOT_FOUND ": Application %s not found\n", id_format(id).hex);
    return job;
}

void handle_applications_overview(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct hash_map *jobs = &jobmanager->coordinator->jobs;
    int64_t now_ms = jobmanager_now_ms(jobmanager);
    json_t *list = json_array();
    for (size_t i = 0; i < jobs->count; i++) {
        const struct job *job = jobs->entries[i].value;
        json_t *application = application_head(job, now_ms);
        json_t *counts = json_object();
        put_int(counts, job_state_name(job->state), 1);
        put_json(application, "jobs", counts);
        json_array_append_new(list, application);
    }
    json_t *json = json_object();
    put_json(json, "applications", list);
    rest_reply_json(request, 200, json);
}

void handle_application(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct job *job = application_of(jobmanager, request);
    if (job == NULL)
        return;
    int64_t now_ms = jobmanager_now_ms(jobmanager);
    json_t *timestamps = json_object();
    put_int(timestamps, "CREATED", job->start_ms);
    put_int(timestamps, "RUNNING", job->timestamps[JOB_RUNNING]);
    put_int(timestamps, "FINISHED", job->timestamps[JOB_FINISHED]);
    put_int(timestamps, "FAILED", job->timestamps[JOB_FAILED]);
    put_int(timestamps, "CANCELED", job->timestamps[JOB_CANCELED]);
    json_t *jobs = json_array();
    json_array_append_new(jobs, view_job_overview(job, now_ms, true));
    json_t *json = application_head(job, now_ms);
    put_json(json, "timestamps", timestamps);
    put_json(json, "jobs", jobs);
    rest_reply_json(request, 200, json);
}

/* A program that cannot start is told so in the answer to its submission, and leaves no application. */
void handle_application_exceptions(struct jobmanager *jobmanager, struct rest_request *request)
{
    if (application_of(jobmanager, request) == NULL)
        return;
    json_t *history = json_object();
    put_json(history, "entries", json_array());
    json_t *json = json_object();
    put_json(json, "exceptionHistory", history);
    rest_reply_json(request, 200, json);
}

void handle_application_config(struct jobmanager *jobmanager, struct rest_request *request)
{
    if (application_of(jobmanager, request) != NULL)
        rest_reply_json(request, 200, config_list_json(jobmanager->config));
}

void handle_application_cancel(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct job *job = application_of(jobmanager, request);
    if (job == NULL)
        return;
    struct event event = {.kind = EVENT_JOB_CANCEL, .job_cancel = {.job = job->id}};
    if (!job_state_is_terminal(job->state))
        jobmanager_handle(jobmanager, &event);
    rest_reply_json(request, 202, json_object());
}
