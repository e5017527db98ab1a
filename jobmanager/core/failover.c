/* Jobs on their way out: failure and restart, cancellation, the end. One rule holds everywhere: a job leaves RESTARTING,
 * FAILING or CANCELLING only when it is quiet, that is when no execution of the epoch lives and the death of every runner
 * process is confirmed (or its taskmanager is lost; then the fencing delay of taskmanagers.c applies as well). */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"
#include "common/base/str_buf.h"

#include <inttypes.h>

/* A kill that nobody confirmed is sent again this often; the agent answers it for runners that it does not know. */
#define KILL_REPEAT_MS 10000
/* How much later than the agent (task.cancellation.timeout) the core itself turns a graceful cancel into a kill. */
#define KILL_MARGIN_MS 5000

char *failure_text(const char *exception, const struct error *error)
{
    struct str_buf text = {0};
    str_buf_printf(&text, "%s: %s", exception, error->message);
    if (error->hint != NULL)
        str_buf_printf(&text, " (%s)", error->hint);
    for (const struct error *cause = error->cause; cause != NULL; cause = cause->cause) {
        str_buf_printf(&text, "\nCaused by: %s: %s", error_code_name(cause->code), cause->message);
        if (cause->hint != NULL)
            str_buf_printf(&text, " (%s)", cause->hint);
    }
    return str_buf_detach(&text);
}

void job_add_exception(struct turn *turn, struct job *job, const struct execution *execution, const char *name, const char *text)
{
    uint32_t limit = turn->coordinator->settings.exception_history_size;
    if (job->exceptions.count >= limit && job->exceptions.count > 0) {
        struct exception_entry *oldest = &job->exceptions.items[0];
        free(oldest->name);
        free(oldest->text);
        free(oldest->task_name);
        free(oldest->location);
        free(oldest->taskmanager_id);
        vec_remove(&job->exceptions, 0);
    }
    struct exception_entry entry = {.name = heap_strdup(name), .text = heap_strdup(text), .timestamp_ms = turn->now_ms};
    if (execution != NULL) {
        char *task = coordinator_task_name(execution);
        entry.task_name = heap_printf("%s - execution #%" PRIu32, task, execution->attempt);
        free(task);
        if (execution->taskmanager_id != NULL) {
            entry.location = heap_printf("%s:%u", execution->host, execution->data_port);
            entry.taskmanager_id = heap_strdup(execution->taskmanager_id);
        }
    }
    vec_push(&job->exceptions, entry);
}

/* ---------------------------------------------------------------- ending an attempt */

void job_send_cancel(struct turn *turn, struct job *job, bool is_kill)
{
    for (size_t i = 0; i < job->runners.count; i++) {
        struct action *action = turn_action(turn, ACTION_CANCEL, job);
        action_address(action, job->runners.items[i].taskmanager);
        action->cancel.is_kill = is_kill;
    }
}

/* Executions that were never deployed end at once; the others when their runner is gone. */
static void attempt_end(struct turn *turn, struct job *job, bool is_kill)
{
    slots_stop_waiting(turn, job);
    for (uint32_t i = 0; i < job->task_count; i++) {
        struct execution *execution = job_subtask(job, i)->current;
        if (execution_state_is_terminal(execution->state) || execution->state == EXECUTION_CANCELING)
            continue;
        execution_set_state(turn, execution, EXECUTION_CANCELING, NULL);
        if (execution->taskmanager_id == NULL)
            execution_set_state(turn, execution, EXECUTION_CANCELED, NULL);
    }
    job_send_cancel(turn, job, is_kill);
    job->kill_deadline_ms = turn->now_ms + (is_kill ? KILL_REPEAT_MS : job->settings.cancellation_timeout_ms + KILL_MARGIN_MS);
    if (job->runners.count == 0)
        job->kill_deadline_ms = INT64_MAX;
    job_touch(turn, job);
}

static void set_failure(struct job *job, const char *exception, const char *text)
{
    free(job->failure);
    free(job->failure_class);
    job->failure = heap_strdup(text);
    job->failure_class = heap_strdup(exception);
}

/* It had checkpoints, or was started from one, and none is intact: to start from scratch would be to count everything anew. */
bool job_has_lost_its_state(const struct job *job)
{
    const struct checkpoint *savepoint = job->checkpoints.latest_savepoint; /* only one that was to stop the job is restored */
    bool has_lost_savepoint = savepoint != NULL && savepoint->state == CHECKPOINT_DAMAGED;
    return restore_choose(job).metadata == NULL && (job->checkpoints.latest_completed != NULL || has_lost_savepoint || job->initial_is_damaged);
}

/* What users see then is the cause with the reason above it that nothing restarts the job, as Flink has it. */
static void go_failing(struct turn *turn, struct job *job, const struct execution *execution, const char *text, bool is_recoverable)
{
    char *reason = job_has_lost_its_state(job) ? heap_strdup("The failure is not recoverable: no intact checkpoint is left")
                   : !is_recoverable       ? heap_strdup("The failure is not recoverable")
                                           : NULL;
    if (reason == NULL) {
        char *strategy = restart_strategy_text(&job->settings.restart);
        reason = heap_printf("Recovery is suppressed by %s", strategy);
        free(strategy);
    }
    char *whole = heap_printf(EXCEPTION_JOB ": %s\nCaused by: %s", reason, text);
    free(reason);
    set_failure(job, EXCEPTION_JOB, whole);
    job_add_exception(turn, job, execution, EXCEPTION_JOB, whole);
    job_set_state(turn, job, JOB_FAILING, whole);
    free(whole);
}

static void go_restarting(struct turn *turn, struct job *job, const struct execution *execution, int64_t delay_ms)
{
    if (execution != NULL)
        turn_log(turn, LOG_INFO, "JobMaster", "%" PRIu32 " tasks will be restarted to recover the failed task %s.", job->task_count, execution->id);
    else
        turn_log(turn, LOG_INFO, "JobMaster", "%" PRIu32 " tasks will be restarted to recover from a global failure.", job->task_count);
    job->restart_not_before_ms = turn->now_ms + delay_ms;
    job->restart_at_ms = INT64_MAX;
    job->restart_count++;
    job_set_state(turn, job, JOB_RESTARTING, NULL);
}

void job_fail(struct turn *turn, struct job *job, struct execution *execution, const char *exception, const char *text, bool is_recoverable)
{
    if (execution != NULL)
        execution_set_state(turn, execution, EXECUTION_FAILED, text);
    if (job->state != JOB_RUNNING || job->is_finish_announced) /* the attempt is already being ended */
        return;
    if (execution == NULL)
        turn_log(turn, LOG_INFO, "JobMaster", "Trying to recover from a global failure.\n%s", text);
    int64_t delay_ms = 0;
    bool may_restart = restart_strategy_failed(&job->settings.restart, &job->restart, turn->now_ms, coordinator_random(turn->coordinator), &delay_ms);
    if (may_restart && is_recoverable && !job_has_lost_its_state(job)) {
        job_add_exception(turn, job, execution, exception, text);
        go_restarting(turn, job, execution, delay_ms);
    } else {
        go_failing(turn, job, execution, text, is_recoverable);
    }
    checkpoints_suspend(turn, job, "Checkpoint Coordinator is suspending.");
    attempt_end(turn, job, true);
    job_check_quiet(turn, job);
}

void job_cancel(struct turn *turn, struct job *job)
{
    if (job_state_is_terminal(job->state) || job->state == JOB_CANCELLING)
        return;
    bool was_running = job->state == JOB_RUNNING;
    job_set_state(turn, job, JOB_CANCELLING, NULL);
    checkpoints_suspend(turn, job, "Checkpoint Coordinator is suspending.");
    if (was_running)
        attempt_end(turn, job, false);
    job_check_quiet(turn, job);
}

void job_cancel_requested(struct turn *turn, const struct event *event)
{
    struct job *job = coordinator_job(turn->coordinator, event->job_cancel.job);
    if (job == NULL)
        turn->coordinator->counters.ignored_unknown++;
    else
        job_cancel(turn, job);
}

/* ---------------------------------------------------------------- going on */

void job_check_quiet(struct turn *turn, struct job *job)
{
    if (job_live_count(job) > 0 || job->runners.count > 0)
        return;
    if (job->state == JOB_FAILING) {
        job_end(turn, job, JOB_FAILED);
    } else if (job->state == JOB_CANCELLING) {
        job_end(turn, job, JOB_CANCELED);
    } else if (job->state == JOB_RESTARTING) {
        job->kill_deadline_ms = INT64_MAX;
        int64_t at = job->restart_not_before_ms > job->fenced_until_ms ? job->restart_not_before_ms : job->fenced_until_ms;
        job->restart_at_ms = at;
        checkpoint_run_deferred_deletes(turn, job);
        job_touch(turn, job);
    }
}

/* All tasks FINISHED: the runners are told to go, and the job is FINISHED when they are, so that its slots are free then. */
void job_check_finished(struct turn *turn, struct job *job)
{
    if (job->state != JOB_RUNNING || job->state_counts[EXECUTION_FINISHED] != job->task_count)
        return;
    if (!job->is_finish_announced) {
        job->is_finish_announced = true;
        job_send_cancel(turn, job, false);
        job->kill_deadline_ms = job->runners.count > 0 ? turn->now_ms + KILL_MARGIN_MS : INT64_MAX;
        job_touch(turn, job);
    }
    if (job->runners.count == 0)
        job_end(turn, job, JOB_FINISHED);
}

void job_end(struct turn *turn, struct job *job, enum job_state state)
{
    check(job->runners.count == 0 && !job->has_slots);
    job_set_state(turn, job, state, state == JOB_FAILED ? job->failure : NULL);
    job->end_ms = turn->now_ms;
    job->slot_deadline_ms = job->restart_at_ms = job->kill_deadline_ms = INT64_MAX;
    checkpoints_job_ended(turn, job);
    turn_log(turn, LOG_INFO, "StandaloneDispatcher", "Job %s reached terminal state %s.", id_format(job->id).hex, job_state_name(state));
    job->is_archived = true;
    vec_push(&turn->coordinator->archived, job);
    job_touch(turn, job);
}

/* ---------------------------------------------------------------- time */

/* Its last checkpoint may have been found damaged since it failed: by a task that was being cancelled. */
static void job_restart(struct turn *turn, struct job *job)
{
    if (!job_has_lost_its_state(job)) {
        job_start_attempt(turn, job);
        return;
    }
    char *text = heap_strdup(job->exceptions.items[job->exceptions.count - 1].text);
    go_failing(turn, job, NULL, text, false);
    free(text);
    job_check_quiet(turn, job);
}

void job_tick(struct turn *turn, struct job *job)
{
    if (job->state == JOB_RESTARTING && job->restart_at_ms <= turn->now_ms) {
        job_restart(turn, job);
        return;
    }
    if (job->slot_deadline_ms <= turn->now_ms) {
        slots_deadline(turn, job);
        return;
    }
    if (job->kill_deadline_ms <= turn->now_ms) {
        turn_log(turn, LOG_WARN, "JobMaster", "The task-runners of job %s on %zu taskmanagers are still there: killing them.", id_format(job->id).hex,
                 job->runners.count);
        job_send_cancel(turn, job, true);
        job->kill_deadline_ms = turn->now_ms + KILL_REPEAT_MS;
    }
    checkpoints_tick(turn, job);
}
