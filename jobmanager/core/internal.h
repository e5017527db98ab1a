/* What the files of the coordinator core share; nobody outside includes this. A `turn` is one call of coordinator_handle:
 * the machine, the time, and where actions go. */
#ifndef MILLRACE_CORE_INTERNAL_H
#define MILLRACE_CORE_INTERNAL_H

#include "jobmanager/core/coordinator.h"

struct turn {
    struct coordinator *coordinator;
    int64_t now_ms;
    struct action_list *actions;
    bool slots_freed;            /* jobs that wait for slots get a try at the end of the turn */
    VEC(struct job *) touched;   /* whose deadline must be computed again; each at most once in a row */
};

/* Exception class names that a Flink user knows. */
#define EXCEPTION_TASKMANAGER_LOST "org.apache.flink.runtime.jobmaster.JobMasterException"
#define EXCEPTION_HEARTBEAT "java.util.concurrent.TimeoutException"
#define EXCEPTION_NO_RESOURCE "org.apache.flink.runtime.jobmanager.scheduler.NoResourceAvailableException"
#define EXCEPTION_CHECKPOINT "org.apache.flink.runtime.checkpoint.CheckpointException"
#define EXCEPTION_INITIALIZATION "org.apache.flink.runtime.client.JobInitializationException"
#define EXCEPTION_JOB "org.apache.flink.runtime.JobException"
#define EXCEPTION_JOB_NOT_FOUND "org.apache.flink.runtime.messages.FlinkJobNotFoundException"
#define EXCEPTION_COMPLETION "java.util.concurrent.CompletionException"
#define EXCEPTION_FILE_NOT_FOUND "java.io.FileNotFoundException"
#define EXCEPTION_IO "java.io.IOException"
#define EXCEPTION_ILLEGAL_STATE "java.lang.IllegalStateException"
#define EXCEPTION_RUNTIME "org.apache.flink.util.FlinkRuntimeException"
#define EXCEPTION_STOP "org.apache.flink.runtime.scheduler.stopwithsavepoint.StopWithSavepointStoppingException"

/* ---- coordinator.c ---- */
uint64_t coordinator_random(struct coordinator *coordinator);
struct id coordinator_random_id(struct coordinator *coordinator);
void job_touch(struct turn *turn, struct job *job);
json_t *json_keep(const json_t *json); /* a new reference; NULL stays NULL */

/* ---- actions.c ---- */
/* Valid until the next call. */
struct action *turn_action(struct turn *turn, enum action_kind kind, const struct job *job);
void action_address(struct action *action, const struct taskmanager *taskmanager);
void turn_log(struct turn *turn, enum log_level level, const char *logger, const char *format, ...) PRINTF_LIKE(4, 5);
void turn_delete(struct turn *turn, const struct job *job, uint64_t checkpoint, const char *directory);
/* error is taken; NULL: success at location. */
void turn_answer(struct turn *turn, struct id job, struct id trigger_id, enum checkpoint_kind kind, uint64_t checkpoint,
                 const char *location, struct error *error, const char *error_class);

/* ---- executions.c ---- */
struct job *job_create(struct coordinator *coordinator, struct job_graph *graph, int64_t now_ms);
void job_destroy(struct job *job);
void job_set_state(struct turn *turn, struct job *job, enum job_state state, const char *cause);
/* The next attempt of every subtask, in CREATED; the one before goes to the history. */
void job_create_executions(struct turn *turn, struct job *job);
void execution_set_state(struct turn *turn, struct execution *execution, enum execution_state state, const char *cause);
uint32_t job_live_count(const struct job *job);
struct job_subtask *job_subtask(const struct job *job, uint32_t ordinal);

/* ---- taskmanagers.c ---- */
void taskmanager_registered(struct turn *turn, const struct event *event);
void taskmanager_closed(struct turn *turn, const struct event *event);
void taskmanager_heartbeat(struct turn *turn, const struct event *event);
void taskmanagers_tick(struct turn *turn);
void taskmanager_destroy(struct taskmanager *taskmanager);
/* The registered taskmanager, if the connection is its current one; counts what is ignored. Also a sign of life. */
struct taskmanager *taskmanager_speaking(struct turn *turn, const char *id, uint64_t connection);

/* ---- slots.c ---- */
/* All slots of the job, or none. */
bool slots_allocate(struct turn *turn, struct job *job);
/* Those on one taskmanager; NULL: all. */
void slots_release(struct turn *turn, struct job *job, const struct taskmanager *taskmanager);
void slots_wait(struct turn *turn, struct job *job);
void slots_stop_waiting(struct turn *turn, struct job *job);
void slots_serve_waiting(struct turn *turn);
void slots_deadline(struct turn *turn, struct job *job);

/* ---- jobs.c ---- */
void job_submitted(struct turn *turn, const struct event *event);
void job_start_attempt(struct turn *turn, struct job *job);
void job_deploy(struct turn *turn, struct job *job);
void job_task_state(struct turn *turn, const struct event *event);
void job_runner_gone(struct turn *turn, const struct event *event);
void job_remove_runner(struct turn *turn, struct job *job, size_t runner_index);

/* ---- failover.c ---- */
/* A failure of one execution (not NULL: it becomes FAILED), or of the job as a whole. text: "class: message\nCaused by: …". */
void job_fail(struct turn *turn, struct job *job, struct execution *execution, const char *exception, const char *text, bool is_recoverable);
void job_cancel(struct turn *turn, struct job *job);
void job_cancel_requested(struct turn *turn, const struct event *event);
/* Goes on when nothing of the attempt lives any more. */
void job_check_quiet(struct turn *turn, struct job *job);
void job_check_finished(struct turn *turn, struct job *job);
/* It had state to restore, and none of that is intact. */
bool job_has_lost_its_state(const struct job *job);
void job_end(struct turn *turn, struct job *job, enum job_state state);
void job_send_cancel(struct turn *turn, struct job *job, bool is_kill);
void job_tick(struct turn *turn, struct job *job);
void job_add_exception(struct turn *turn, struct job *job, const struct execution *execution, const char *name, const char *text);
char *failure_text(const char *exception, const struct error *error);

/* ---- checkpoints.c ---- */
void checkpoint_acknowledged(struct turn *turn, const struct event *event);
void checkpoint_declined(struct turn *turn, const struct event *event);
void checkpoint_metadata_written(struct turn *turn, const struct event *event);
void checkpoint_damage_reported(struct turn *turn, const struct event *event);
/* All tasks run: periodic checkpoints begin. */
void checkpoints_start(struct turn *turn, struct job *job);
/* The attempt ends: everything that is under way fails with that reason, without counting as a failed checkpoint. */
void checkpoints_suspend(struct turn *turn, struct job *job, const char *reason);
void checkpoints_task_finished(struct turn *turn, struct execution *execution);
void checkpoints_tick(struct turn *turn, struct job *job);
int64_t checkpoints_next_ms(const struct job *job);
void checkpoints_job_ended(struct turn *turn, struct job *job);

/* ---- checkpoint_trigger.c ---- */
void checkpoint_requested(struct turn *turn, const struct event *event);
void savepoint_dispose_requested(struct turn *turn, const struct event *event);
bool checkpoint_kind_stops(enum checkpoint_kind kind);
/* NULL: a checkpoint can be taken. */
MUST_CHECK struct error *checkpoint_check_possible(const struct job *job);
/* request NULL: a periodic one. */
struct checkpoint_request;
void checkpoint_begin(struct turn *turn, struct job *job, enum checkpoint_kind kind, const char *parent, const struct checkpoint_request *request);
/* Begins what waits, as long as there are free places. */
void checkpoint_requests_run(struct turn *turn, struct job *job);
/* parent may have the scheme file:. Malloced. */
char *checkpoint_join_path(const char *parent, const char *name);

/* ---- checkpoint_store.c ---- */
void checkpoint_set_state(struct turn *turn, struct checkpoint *checkpoint, enum checkpoint_state state);
void checkpoint_unref(struct checkpoint *checkpoint);
/* They are in the metadata now, or not needed any more. */
void checkpoint_forget_acks(struct checkpoint *checkpoint);
/* Takes the place in the retained list by id; deletes what is beyond num-retained. */
void checkpoint_retain(struct turn *turn, struct checkpoint *checkpoint);
/* It holds the last state of a finished task of the attempt that runs. */
bool checkpoint_is_pinned(const struct job *job, const char *directory);
void checkpoint_delete_directory(struct turn *turn, struct job *job, uint64_t checkpoint, const char *directory);
/* Deletes what finished tasks no longer pin. */
void checkpoint_run_deferred_deletes(struct turn *turn, struct job *job);
void checkpoint_mark_damaged(struct turn *turn, struct job *job, uint64_t checkpoint, const char *what);
void checkpoint_stats_finish(struct checkpoint_stats *stats);
void checkpoint_stats_trim(struct checkpoint_stats *stats, uint32_t history_size);

/* ---- checkpoint_metadata.c ---- */
/* Fills metadata, books, books_faults and the copies of finished tasks' files. */
void checkpoint_build_metadata(struct checkpoint *checkpoint, struct action *write);

/* ---- restore.c ---- */
/* What the next attempt starts from. metadata NULL: from scratch. Borrowed from the job. */
struct restore_source {
    uint64_t id;
    const char *directory;
    json_t *metadata;
    bool is_savepoint;
    int64_t timestamp_ms;
};
struct restore_source restore_choose(const struct job *job);
/* Whether the graph can take the state; adopts max parallelism where the graph only has a default. errors: in Flink's words */
MUST_CHECK struct error *restore_check(struct turn *turn, struct job *job, const json_t *metadata, const char *path, bool allow_non_restored);
/* Handles and books by operator, prepared once per attempt. */
struct restore_plan {
    struct restore_source source;
    json_t *handles; /* operator hex -> array of handles */
};
void restore_plan_init(struct restore_plan *plan, const struct job *job);
void restore_plan_finish(struct restore_plan *plan);
/* The `restore` member of a task; NULL: nothing to restore. New reference. */
json_t *restore_plan_task(const struct restore_plan *plan, const struct job *job, uint32_t vertex, uint32_t subtask);

/* ---- books_balance.c ---- */
/* Adds the counters of one books object to another. */
void books_sum_add(json_t *sum, const json_t *books);
/* Texts of what does not balance; NULL when everything does. sums: operator hex -> books. New reference. */
json_t *books_balance_check(const struct job *job, const json_t *sums);
/* Differences that a changed graph brings along (see the file). New reference, or NULL when there are none. */
json_t *books_balance_baseline(const struct job *job, const json_t *sums);

#endif
