/* A whole cluster in this process and on one loop: a real jobmanager and real taskmanager agents, connected over loopback TCP,
 * with every message through the codec. Only the task runners are no processes: they run here, behind the same control
 * pipe and with the same messages. Between each agent and the jobmanager lies a relay that can be cut without a word.
 *
 *   struct mini_cluster *cluster;
 *   mini_cluster_start(&(struct mini_cluster_options){.taskmanager_count = 2, .slot_count = 1}, &cluster);
 *   mini_cluster_submit(cluster, graph_json, 2, NULL, &job);
 *   mini_cluster_wait_state(cluster, job, JOB_FINISHED, 10000);
 *   mini_cluster_stop(cluster);
 *
 * User functions are those that are linked into the program. What is killed here ends in milliseconds, but not at once: a
 * user function that never returns cannot be killed. Thread: the caller's, which runs the loop in all calls that wait. */
#ifndef MILLRACE_SUPPORT_MINI_CLUSTER_H
#define MILLRACE_SUPPORT_MINI_CLUSTER_H

#include "jobmanager/jobmanager.h"

#include <stdbool.h>
#include <stdint.h>

struct agent;
struct mini_cluster;

struct mini_cluster_options {
    uint32_t taskmanager_count;
    uint32_t slot_count;  /* of each */
    const json_t *config; /* flat keys as texts, for all daemons; borrowed for the call; NULL: none */
};

/* Starts everything and waits until all taskmanagers are registered. The log goes to standard error with MINI_CLUSTER_LOG
 * in the environment, and nowhere without. errors: what the daemons' starts give, TIMEOUT */
MUST_CHECK struct error *mini_cluster_start(const struct mini_cluster_options *options, struct mini_cluster **out);
/* Stops all daemons as SIGTERM would, waits for their end, checks that nothing is left on the loop, removes all files.
 * Accepts NULL. */
void mini_cluster_stop(struct mini_cluster *cluster);

/* ---- taskmanagers, by index in order of their start; an index is never used again ---- */
MUST_CHECK struct error *mini_cluster_add_taskmanager(struct mini_cluster *cluster, uint32_t slot_count, uint32_t *index);
/* As kill -9: its connections close without GOODBYE, its runners vanish. Returns when nothing of it is left. */
void mini_cluster_kill(struct mini_cluster *cluster, uint32_t index);
/* From now on nothing passes between it and the jobmanager in either direction, and no connection closes. */
void mini_cluster_cut(struct mini_cluster *cluster, uint32_t index);
/* The network is back: what was cut is reset, new connections pass. */
void mini_cluster_heal(struct mini_cluster *cluster, uint32_t index);
/* Its agent; NULL when it was killed. */
struct agent *mini_cluster_agent(const struct mini_cluster *cluster, uint32_t index);
/* The one that holds the job's slot; UINT32_MAX: none. */
uint32_t mini_cluster_slot_owner(const struct mini_cluster *cluster, struct id job, uint32_t slot);
/* In-process runners that are still there. */
uint32_t mini_cluster_runner_count(const struct mini_cluster *cluster);

/* ---- jobs ---- */
/* graph: a job graph with operators; operators without a parallelism get this one. savepoint: directory to start from,
 * NULL for a fresh start. A job that could not be restored is submitted all the same, and FAILED.
 * errors: what the graph's check gives */
MUST_CHECK struct error *mini_cluster_submit(struct mini_cluster *cluster, const json_t *graph, uint32_t parallelism, const char *savepoint,
                                             struct id *job);
void mini_cluster_cancel(struct mini_cluster *cluster, struct id job);
/* A checkpoint, savepoint, stop or drain; waits for its end. *location (may be NULL): its directory, malloced. The error's
 * message is the answer's. */
MUST_CHECK struct error *mini_cluster_trigger(struct mini_cluster *cluster, struct id job, enum checkpoint_kind kind, const char *directory,
                                              int64_t timeout_ms, char **location);
/* Borrowed until the loop runs. */
const struct job *mini_cluster_job(const struct mini_cluster *cluster, struct id job);
/* Of the latest completed checkpoint or savepoint; borrowed, NULL without one. */
const json_t *mini_cluster_books(const struct mini_cluster *cluster, struct id job);

/* ---- waiting: true when it came in time ---- */
bool mini_cluster_wait(struct mini_cluster *cluster, bool (*is_there)(const struct mini_cluster *cluster, const void *argument),
                       const void *argument, int64_t timeout_ms);
bool mini_cluster_wait_state(struct mini_cluster *cluster, struct id job, enum job_state state, int64_t timeout_ms);
/* Until all tasks of the job are RUNNING. */
bool mini_cluster_wait_running(struct mini_cluster *cluster, struct id job, int64_t timeout_ms);
/* Until so many checkpoints have completed. */
bool mini_cluster_wait_completed(struct mini_cluster *cluster, struct id job, uint64_t count, int64_t timeout_ms);
bool mini_cluster_wait_failed_checkpoints(struct mini_cluster *cluster, struct id job, uint64_t count, int64_t timeout_ms);
/* Until the jobmanager knows exactly so many taskmanagers. */
bool mini_cluster_wait_taskmanagers(struct mini_cluster *cluster, uint32_t count, int64_t timeout_ms);
/* Until no runner is left. */
bool mini_cluster_wait_quiet(struct mini_cluster *cluster, int64_t timeout_ms);

/* ---- the inside ---- */
struct jobmanager *mini_cluster_jobmanager(const struct mini_cluster *cluster);
/* A directory for the test's own files; removed by mini_cluster_stop. */
const char *mini_cluster_directory(const struct mini_cluster *cluster);

#endif
