/* Reports of tasks, and the figures of jobs and of the cluster (job_metrics.h). Thread: the loop. */
#include "jobmanager/job_metrics.h"

#include "common/base/heap.h"
#include "common/metrics/process_metrics.h"
#include "common/metrics/system_metrics.h"
#include "common/metrics/task_report.h"
#include "common/rpc/message.h"
#include "jobmanager/rest/json_build.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- taking a report ---- */

void job_metrics_report(struct jobmanager *jobmanager, const json_t *message)
{
    struct job *job = coordinator_job(jobmanager->coordinator, message_id(message, "job"));
    const json_t *tasks = json_object_get(message, "tasks");
    int64_t now_ms = jobmanager_now_ms(jobmanager);
    if (job == NULL)
        return;
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *report = json_array_get(tasks, i);
        const char *id = json_string_value(json_object_get(report, "execution"));
        struct execution *execution = id != NULL ? coordinator_execution(job, id) : NULL;
        if (execution == NULL)
            continue;
        json_t *folded = task_report_fold(execution->metrics, report, execution->subtask->vertex->input_count > 0, now_ms);
        json_decref(execution->metrics);
        execution->metrics = folded;
    }
}

/* ---- reading ---- */

bool job_metrics_number(const struct execution *execution, const char *name, double *out)
{
    if (execution->metrics == NULL)
        return false;
    const json_t *value = json_object_get(json_object_get(execution->metrics, "values"), name);
    if (json_is_number(value)) {
        *out = json_number_value(value);
        return true;
    }
    value = json_object_get(json_object_get(execution->metrics, "rates"), name);
    if (!json_is_number(value))
        return false;
    *out = execution_state_is_terminal(execution->state) ? 0 : json_number_value(value);
    return true;
}

int64_t job_metrics_whole(double number)
{
    const double limit = 0x1p63; /* the first that does not fit */
    return number >= limit ? INT64_MAX : number < -limit ? INT64_MIN : (int64_t)number;
}

static int64_t whole(const struct execution *execution, const char *name)
{
    double value = 0;
    return job_metrics_number(execution, name, &value) ? job_metrics_whole(value) : 0;
}

struct io_metrics job_metrics_io(const struct execution *execution)
{
    return (struct io_metrics){
        .is_complete = execution->metrics != NULL,
        .read_bytes = whole(execution, "numBytesIn"),
        .write_bytes = whole(execution, "numBytesOut"),
        .read_records = whole(execution, "numRecordsIn"),
        .write_records = whole(execution, "numRecordsOut"),
        .backpressured_ms = whole(execution, "accumulateBackPressuredTimeMs"),
        .idle_ms = whole(execution, "accumulateIdleTimeMs"),
        .busy_ms = whole(execution, "accumulateBusyTimeMs"),
    };
}

json_t *job_metrics_all(const struct execution *execution)
{
    if (execution->metrics == NULL)
        return json_object();
    return task_report_flat(execution->metrics, !execution_state_is_terminal(execution->state));
}

/* ---- a job ---- */

/* Time that the job has been in a state, while it is in it. */
static int64_t time_in(const struct job *job, enum job_state state, int64_t now_ms)
{
    return job->state == state ? now_ms - job->timestamps[state] : 0;
}

static void put_times(json_t *json, const struct job *job, int64_t now_ms)
{
    bool is_over = job_state_is_terminal(job->state);
    bool is_deploying = job->state == JOB_RUNNING &&
                        job->state_counts[EXECUTION_RUNNING] + job->state_counts[EXECUTION_FINISHED] < job->task_count;
    put_int(json, "uptime", is_over ? -1 : time_in(job, JOB_RUNNING, now_ms));
    put_int(json, "downtime", is_over ? -1 : time_in(job, JOB_RESTARTING, now_ms));
    put_int(json, "createdTime", time_in(job, JOB_CREATED, now_ms));
    put_int(json, "initializingTime", time_in(job, JOB_INITIALIZING, now_ms));
    put_int(json, "deployingTime", is_deploying ? now_ms - job->timestamps[JOB_RUNNING] : 0);
    put_int(json, "runningTime", time_in(job, JOB_RUNNING, now_ms));
    put_int(json, "restartingTime", time_in(job, JOB_RESTARTING, now_ms));
    put_int(json, "cancellingTime", time_in(job, JOB_CANCELLING, now_ms));
    put_int(json, "failingTime", time_in(job, JOB_FAILING, now_ms));
}

static void put_checkpoints(json_t *json, const struct checkpoint_stats *stats)
{
    const struct checkpoint *latest = stats->latest_completed;
    put_int(json, "totalNumberOfCheckpoints", (int64_t)stats->counts.total);
    put_int(json, "numberOfInProgressCheckpoints", (int64_t)stats->counts.in_progress);
    put_int(json, "numberOfCompletedCheckpoints", (int64_t)stats->counts.completed);
    put_int(json, "numberOfFailedCheckpoints", (int64_t)stats->counts.failed);
    put_int(json, "lastCompletedCheckpointId", latest != NULL ? (int64_t)latest->id : -1);
    put_int(json, "lastCheckpointDuration", latest != NULL ? latest->complete_ms - latest->trigger_ms : -1);
    put_int(json, "lastCheckpointSize", latest != NULL ? latest->bytes : -1);
    put_int(json, "lastCheckpointFullSize", latest != NULL ? latest->bytes : -1);
    put_int(json, "lastCheckpointProcessedData", latest != NULL ? latest->processed_bytes : -1);
    put_int(json, "lastCheckpointPersistedData", latest != NULL ? latest->persisted_bytes : -1);
    put_int(json, "lastCheckpointRestoreTimestamp", stats->restored.is_set ? stats->restored.restore_ms : -1);
    json_object_set_new(json, "lastCheckpointExternalPath",
                        latest != NULL && latest->directory != NULL ? json_sprintf("file:%s", latest->directory) : json_string("n/a"));
}

json_t *job_metrics_job(const struct jobmanager *jobmanager, const struct job *job)
{
    json_t *json = json_object();
    put_int(json, "numRestarts", job->restart_count);
    put_int(json, "fullRestarts", job->restart_count);
    put_times(json, job, jobmanager_now_ms(jobmanager));
    put_checkpoints(json, &job->checkpoints);
    return json;
}

/* ---- the cluster ---- */

json_t *job_metrics_cluster(const struct jobmanager *jobmanager)
{
    static struct process_load load; /* of this process */
    const struct coordinator *core = jobmanager->coordinator;
    struct process_figures figures = {0};
    int64_t running = 0;
    for (size_t i = 0; i < core->jobs.count; i++) {
        const struct job *job = core->jobs.entries[i].value;
        running += !job_state_is_terminal(job->state);
    }
    (void)process_figures_read(getpid(), &figures);
    json_t *json = process_metrics(&figures, &load);
    put_int(json, "taskSlotsAvailable", core->free_slot_count);
    put_int(json, "taskSlotsTotal", core->slot_count);
    put_int(json, "numRegisteredTaskManagers", (int64_t)core->taskmanagers.count);
    put_int(json, "numRunningJobs", running);
    system_metrics_add(jobmanager->system, json);
    return json;
}
