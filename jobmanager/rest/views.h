/* Parts of answers that several handlers share, read from the coordinator's structs. Thread: the loop. */
#ifndef MILLRACE_REST_VIEWS_H
#define MILLRACE_REST_VIEWS_H

#include "jobmanager/jobmanager.h"
#include "jobmanager/rest/rest_request.h"

/* The job, vertex or subtask that the path names. NULL: the 400 or 404 answer is on its way. */
struct job *view_job(struct jobmanager *jobmanager, struct rest_request *request);
struct job_task_vertex *view_vertex(struct jobmanager *jobmanager, struct rest_request *request);
struct job_subtask *view_subtask(struct jobmanager *jobmanager, struct rest_request *request);

/* The 404 in the words of most job routes. */
void view_reply_no_job(struct rest_request *request, struct id job);

/* {"CREATED": n, …} in upper case; counts by enum execution_state. */
json_t *view_state_counts(const uint32_t *counts);
/* Start (DEPLOYING), end (terminal), duration of an execution; -1 when not yet. */
struct view_span {
    int64_t start_ms, end_ms, duration_ms;
};
struct view_span view_execution_span(const struct execution *execution, int64_t now_ms);
/* {"read-bytes": …} */
json_t *view_io_metrics(const struct execution *const *executions, size_t count);
/* One subtask as /vertices/:id and /subtasks/:index show it. */
json_t *view_execution(const struct execution *execution, int64_t now_ms);
/* {"metrics": …, "status-duration": …} with min, max, avg, sum and quartiles over executions. */
json_t *view_aggregated(const struct execution *const *executions, size_t count, int64_t now_ms);
/* "localhost:34043" or "(unassigned)"; malloced. */
char *view_endpoint(const struct execution *execution);
/* A job of /jobs/overview. has_new_members: java_clients.h. */
json_t *view_job_overview(const struct job *job, int64_t now_ms, bool has_new_members);
/* {"class":…,"stack-trace":…,"serialized-throwable":…} */
json_t *view_failure_cause(const char *class_name, const char *lines);

#endif
