/* A whole job in this process: every subtask of a job graph runs as a task thread of one in-process runner with local
 * channels, as in production but without a jobmanager; the harness plays the coordinator. For tests and benches.
 *
 *   struct local_job *job;
 *   local_job_start(graph, &(struct local_job_options){0}, &job);
 *   local_job_checkpoint(job, dir, "checkpoint", 10000);     also "savepoint", "stop", "drain"; CONFLICT: a task ended before it
 *   local_job_wait(job, 10000);                              until every task has ended
 *   json_t *books = local_job_books(job);
 *   local_job_destroy(job);
 *   local_job_start(graph, &(struct local_job_options){.restore_directory = dir}, &job);
 *
 * Thread: the caller's; all calls from one thread. Blocking with timeouts. */
#ifndef MILLRACE_SUPPORT_LOCAL_JOB_H
#define MILLRACE_SUPPORT_LOCAL_JOB_H

#include "common/base/error.h"
#include "common/graph/job_graph.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct local_job;
struct user_library;

struct local_job_options {
    const char *restore_directory; /* what an earlier local_job_checkpoint wrote; NULL: a fresh start */
    struct user_library *library;  /* borrowed until local_job_destroy; NULL: none */
    const char *library_path;      /* opened by the runner instead, when library is NULL; may be NULL */
    uint64_t attempt_number;
    uint32_t taskmanager_count; /* 0 or 1: all channels are local; n: n runners on one loop, connected over loopback TCP */
};

/* Chains the graph when it has no vertices yet (parallelism 0 counts as 1), deploys every subtask and returns at once.
 * Checkpointing is enabled when the graph's config has execution.checkpointing.interval > 0: then bounded jobs end only
 * after a checkpoint taken after their end of data, as in production: local_job_wait takes it by itself when asked to
 * (auto_checkpoint_directory of local_job_wait_with). graph is copied. */
MUST_CHECK struct error *local_job_start(const struct job_graph *graph, const struct local_job_options *options, struct local_job **out);
/* Triggers a checkpoint at the sources (and at tasks whose inputs have ended), waits until every running task has acked, writes
 * directory/_local.json for a restore, and completes it. The directory is created. An error names the task that declined. */
MUST_CHECK struct error *local_job_checkpoint(struct local_job *job, const char *directory, const char *kind, int64_t timeout_ms);
/* The same, but the checkpoint is aborted after the acks instead of completed. */
MUST_CHECK struct error *local_job_checkpoint_abort(struct local_job *job, const char *directory, int64_t timeout_ms);
/* The same, but the tasks never hear how it ended, as when they are killed right behind the completion. */
MUST_CHECK struct error *local_job_checkpoint_unheard(struct local_job *job, const char *directory, int64_t timeout_ms);
/* Until every task is in a final state. The first task failure is the error; a timeout is ERR_TIMEOUT. */
MUST_CHECK struct error *local_job_wait(struct local_job *job, int64_t timeout_ms);
/* The same, taking checkpoints into directory/chk-n every interval_ms meanwhile, so that a bounded job with checkpointing ends. */
MUST_CHECK struct error *local_job_wait_with(struct local_job *job, const char *directory, int64_t interval_ms, int64_t timeout_ms);
/* Closes the data connections that runner `index` has accepted, as a broken network would. */
void local_job_cut_connections(struct local_job *job, uint32_t index);
/* Until every task is RUNNING (or one has failed: its error). */
MUST_CHECK struct error *local_job_wait_running(struct local_job *job, int64_t timeout_ms);
/* Asks all tasks to cancel; local_job_wait then returns NULL. */
void local_job_cancel(struct local_job *job);
/* Operator name -> books summed over its subtasks, as of now (exact once the job has ended). Owned by the caller. */
json_t *local_job_books(struct local_job *job);
/* The "tasks" array of a METRICS message, as of now. Owned by the caller. */
json_t *local_job_metrics(struct local_job *job);
/* Cancels what still runs, joins all threads, frees. Accepts NULL. */
void local_job_destroy(struct local_job *job);

#endif
