/* Checkpoint coordination (semantics.md 3 and 5): acknowledgements, completion, failure, and when the next one is due. One checkpoint
 * goes IN_PROGRESS (tasks snapshot), FINALIZING (the shell writes the metadata), COMPLETED; only then is it notified and
 * can it be restored. How one begins, and requests of users, are in checkpoint_trigger.c. */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"

#include <inttypes.h>

/* Flink's words, which its users search for. */
#define REASON_DECLINED "Checkpoint was declined."
#define REASON_CLOSING "Checkpoint was declined (task is closing)."
#define REASON_EXPIRED "Checkpoint expired before completing."
#define REASON_SUBSUMED "Checkpoint has been subsumed."
#define REASON_FINALIZE "Failure to finalize checkpoint."

/* ---------------------------------------------------------------- failing */

static void pending_remove(struct job *job, const struct checkpoint *checkpoint)
{
    for (size_t i = 0; i < job->pending.count; i++) {
        if (job->pending.items[i] == checkpoint) {
            vec_remove(&job->pending, i);
            return;
        }
    }
    check(false);
}

static void notify_runners(struct turn *turn, struct job *job, enum action_kind kind, uint64_t checkpoint)
{
    for (size_t i = 0; i < job->runners.count; i++) {
        struct action *action = turn_action(turn, kind, job);
        action_address(action, job->runners.items[i].taskmanager);
        action->checkpoint = checkpoint;
    }
}

/* The files: now, or when the metadata write that is under way has been answered. */
static void discard_failed(struct turn *turn, struct checkpoint *checkpoint, bool was_finalizing)
{
    struct job *job = checkpoint->job;
    checkpoint->is_discarded = true;
    if (was_finalizing) {
        checkpoint->reference_count++;
        vec_push(&job->orphans, checkpoint);
    } else {
        checkpoint_delete_directory(turn, job, checkpoint->id, checkpoint->directory);
    }
}

static void answer_failed(struct turn *turn, struct checkpoint *checkpoint, const char *reason)
{
    struct job *job = checkpoint->job;
    if (checkpoint->has_trigger)
        turn_answer(turn, job->id, checkpoint->trigger_id, checkpoint->kind, checkpoint->id, NULL, error_new(CONFLICT, "%s", reason),
                    EXCEPTION_CHECKPOINT);
    if (checkpoint_kind_stops(checkpoint->kind))
        job->is_stopping = false;
}

/* Ends a pending checkpoint in FAILED. Does not look at what the job does next. */
static void checkpoint_abort(struct turn *turn, struct checkpoint *checkpoint, const char *reason)
{
    struct job *job = checkpoint->job;
    bool was_finalizing = checkpoint->state == CHECKPOINT_FINALIZING;
    checkpoint->failure = heap_strdup(reason);
    checkpoint_set_state(turn, checkpoint, CHECKPOINT_FAILED);
    pending_remove(job, checkpoint);
    notify_runners(turn, job, ACTION_CHECKPOINT_ABORTED, checkpoint->id);
    answer_failed(turn, checkpoint, reason);
    discard_failed(turn, checkpoint, was_finalizing);
    json_decref(checkpoint->metadata);
    checkpoint->metadata = NULL;
    job->last_checkpoint_end_ms = turn->now_ms;
    checkpoint_unref(checkpoint);
}

/* A checkpoint failed by itself: tolerated a number of times in a row, then the job fails (savepoints do not count). */
static void checkpoint_fail(struct turn *turn, struct checkpoint *checkpoint, const char *reason, bool counts)
{
    struct job *job = checkpoint->job;
    counts = counts && checkpoint->kind == CHECKPOINT_KIND_CHECKPOINT;
    bool was_drain = checkpoint->kind == CHECKPOINT_KIND_DRAIN;
    if (counts)
        job->consecutive_failed_checkpoints++;
    turn_log(turn, LOG_WARN, "CheckpointFailureManager",
             "Failed to trigger or complete checkpoint %" PRIu64 " for job %s. (%" PRIu32 " consecutive failed attempts so far)\n%s: %s",
             checkpoint->id, id_format(job->id).hex, job->consecutive_failed_checkpoints, EXCEPTION_CHECKPOINT, reason);
    checkpoint_abort(turn, checkpoint, reason);
    checkpoint_run_deferred_deletes(turn, job);
    if (counts && job->consecutive_failed_checkpoints > job->settings.checkpoint_tolerable_failures) {
        char *text = heap_printf(EXCEPTION_RUNTIME ": Exceeded checkpoint tolerable failure threshold. The latest checkpoint failed due to %s "
                                 "View the Checkpoint History tab or the Job Manager log to find out why continuous checkpoints failed.",
                                 reason);
        job->consecutive_failed_checkpoints = 0;
        job_fail(turn, job, NULL, EXCEPTION_RUNTIME, text, true);
        free(text);
    } else if (was_drain) {
        /* Its sources have ended for good: only a restart brings them back. */
        char *text = heap_printf(EXCEPTION_STOP ": The drain of job %s failed and its input had been ended: %s", id_format(job->id).hex, reason);
        job_fail(turn, job, NULL, EXCEPTION_STOP, text, true);
        free(text);
    } else {
        checkpoints_start(turn, job); /* a stop that failed had ended the periodic ones */
        checkpoint_requests_run(turn, job);
    }
}

/* The stop savepoint is complete, but the job did not reach FINISHED. */
static void answer_failed_stop(struct turn *turn, struct job *job)
{
    const struct checkpoint *savepoint = job->stop_savepoint;
    if (savepoint == NULL)
        return;
    struct error *err = error_new(CONFLICT,
                                  "A savepoint has been created at: %s, but the corresponding job %s failed during stopping. The savepoint "
                                  "is consistent, but might have uncommitted transactions. If you want to commit the transaction please "
                                  "restart a job from this savepoint.",
                                  savepoint->directory, id_format(job->id).hex);
    turn_answer(turn, job->id, job->stop_trigger_id, savepoint->kind, savepoint->id, savepoint->directory, err, EXCEPTION_STOP);
    checkpoint_unref(job->stop_savepoint);
    job->stop_savepoint = NULL;
}

void checkpoints_suspend(struct turn *turn, struct job *job, const char *reason)
{
    while (job->pending.count > 0)
        checkpoint_abort(turn, job->pending.items[0], reason);
    for (size_t i = 0; i < job->requests.count; i++) {
        struct checkpoint_request *request = &job->requests.items[i];
        turn_answer(turn, job->id, request->trigger_id, request->kind, 0, NULL, error_new(CONFLICT, "%s", reason), EXCEPTION_CHECKPOINT);
        free(request->directory);
    }
    vec_clear(&job->requests);
    answer_failed_stop(turn, job);
    job->is_stopping = false;
    job->next_checkpoint_ms = INT64_MAX;
    job_touch(turn, job);
}

/* ---------------------------------------------------------------- acknowledgements */

static struct checkpoint *find_pending(const struct job *job, uint64_t id)
{
    for (size_t i = 0; i < job->pending.count; i++) {
        if (job->pending.items[i]->id == id)
            return job->pending.items[i];
    }
    return NULL;
}

/* The pending checkpoint and the execution that a message is about; NULL (counted) when it is late, double or foreign. */
static struct checkpoint *ack_target(struct turn *turn, const struct event *event, struct execution **execution)
{
    struct coordinator_counters *counters = &turn->coordinator->counters;
    const struct taskmanager *taskmanager = taskmanager_speaking(turn, event->ack.taskmanager, event->ack.connection);
    if (taskmanager == NULL)
        return NULL;
    struct job *job = coordinator_job(turn->coordinator, event->ack.job);
    if (job == NULL) {
        counters->ignored_unknown++;
        return NULL;
    }
    struct execution *speaker = job->epoch == event->ack.epoch ? coordinator_execution(job, event->ack.execution) : NULL;
    struct checkpoint *checkpoint = find_pending(job, event->ack.checkpoint);
    if (speaker == NULL || speaker != speaker->subtask->current || speaker->taskmanager_id == NULL ||
        strcmp(speaker->taskmanager_id, taskmanager->id) != 0 || checkpoint == NULL || checkpoint->state != CHECKPOINT_IN_PROGRESS) {
        counters->ignored_stale++;
        return NULL;
    }
    *execution = speaker;
    return checkpoint;
}

static uint32_t execution_ordinal(const struct execution *execution)
{
    const struct job_task_vertex *vertex = execution->subtask->vertex;
    return coordinator_subtask_ordinal(vertex->job, vertex->index, execution->subtask->index);
}

static int64_t handles_bytes(const json_t *handles)
{
    int64_t bytes = 0;
    size_t index;
    json_t *handle;
    json_array_foreach(handles, index, handle)
        bytes += json_integer_value(json_object_get(handle, "size"));
    return bytes;
}

static void take_ack(struct turn *turn, struct checkpoint *checkpoint, struct execution *execution, const struct event *event)
{
    uint32_t ordinal = execution_ordinal(execution);
    const json_t *metrics = event->ack.metrics, *bytes = json_object_get(metrics, "bytes");
    checkpoint->subtasks[ordinal] = (struct checkpoint_subtask){
        .is_acknowledged = true,
        .ack_ms = turn->now_ms,
        .sync_ms = json_integer_value(json_object_get(metrics, "sync_ms")),
        .async_ms = json_integer_value(json_object_get(metrics, "async_ms")),
        .alignment_ms = json_integer_value(json_object_get(metrics, "alignment_ms")),
        .start_delay_ms = json_integer_value(json_object_get(metrics, "start_delay_ms")),
        .bytes = bytes != NULL ? json_integer_value(bytes) : handles_bytes(event->ack.state),
        .processed_bytes = json_integer_value(json_object_get(metrics, "processed_bytes")),
        .persisted_bytes = json_integer_value(json_object_get(metrics, "persisted_bytes")),
        .is_unaligned = json_is_true(json_object_get(metrics, "is_unaligned")),
    };
    checkpoint->acked_state[ordinal] = json_keep(event->ack.state);
    checkpoint->acked_books[ordinal] = json_keep(event->ack.books);
    checkpoint->acknowledged_count++;
    checkpoint->latest_ack_ms = turn->now_ms;
    checkpoint->bytes += checkpoint->subtasks[ordinal].bytes;
    checkpoint->processed_bytes += checkpoint->subtasks[ordinal].processed_bytes;
    checkpoint->persisted_bytes += checkpoint->subtasks[ordinal].persisted_bytes;
    checkpoint->is_unaligned = checkpoint->is_unaligned || checkpoint->subtasks[ordinal].is_unaligned;
    if (!event->ack.is_finished)
        return;
    json_decref(execution->final_state);
    json_decref(execution->final_books);
    free(execution->final_directory);
    execution->final_state = event->ack.state != NULL ? json_keep(event->ack.state) : json_array();
    execution->final_books = json_keep(event->ack.books);
    execution->final_checkpoint = checkpoint->id;
    execution->final_directory = heap_strdup(checkpoint->directory);
}

static void checkpoint_finalize(struct turn *turn, struct checkpoint *checkpoint)
{
    struct job *job = checkpoint->job;
    checkpoint_set_state(turn, checkpoint, CHECKPOINT_FINALIZING);
    struct action *action = turn_action(turn, ACTION_WRITE_METADATA, job);
    action->checkpoint = checkpoint->id;
    checkpoint_build_metadata(checkpoint, action);
    checkpoint_forget_acks(checkpoint);
}

/* Written after the directory of a failed checkpoint was deleted. Its runner would remove it, but may have died before it heard; and the last
 * state of a finished task it keeps. That goes as well, unless a finished task has nothing else. */
static void delete_late_state(struct turn *turn, const struct event *event)
{
    struct job *job = coordinator_job(turn->coordinator, event->ack.job);
    const struct checkpoint *checkpoint = job != NULL ? coordinator_checkpoint(job, event->ack.checkpoint) : NULL;
    if (checkpoint != NULL && checkpoint->state == CHECKPOINT_FAILED)
        checkpoint_delete_directory(turn, job, checkpoint->id, checkpoint->directory);
}

void checkpoint_acknowledged(struct turn *turn, const struct event *event)
{
    struct execution *execution = NULL;
    struct checkpoint *checkpoint = ack_target(turn, event, &execution);
    if (checkpoint == NULL) {
        delete_late_state(turn, event);
        return;
    }
    if (checkpoint->subtasks[execution_ordinal(execution)].is_acknowledged) {
        turn->coordinator->counters.ignored_stale++;
        return;
    }
    take_ack(turn, checkpoint, execution, event);
    if (checkpoint->acknowledged_count == checkpoint->subtask_count)
        checkpoint_finalize(turn, checkpoint);
    job_touch(turn, checkpoint->job);
}

void checkpoint_declined(struct turn *turn, const struct event *event)
{
    struct execution *execution = NULL;
    struct checkpoint *checkpoint = ack_target(turn, event, &execution);
    if (checkpoint == NULL)
        return;
    const struct error *error = event->ack.error;
    char *text = error != NULL ? error_text(error) : NULL;
    turn_log(turn, LOG_INFO, "CheckpointCoordinator", "Decline checkpoint %" PRIu64 " by task %s of job %s at %s @ %s (dataPort=%u).%s%s",
             checkpoint->id, execution->id, id_format(checkpoint->job->id).hex, execution->taskmanager_id, execution->host,
             execution->data_port,
             text != NULL ? "\n" : "", text != NULL ? text : "");
    char *reason = heap_printf(REASON_DECLINED "%s%s", text != NULL ? " " : "", text != NULL ? text : "");
    /* CONFLICT and CANCELLED: the barrier was overtaken, or the task is ending. Nothing is wrong with it. */
    bool counts = error == NULL || (error->code != ERR_CONFLICT && error->code != ERR_CANCELLED);
    checkpoint_fail(turn, checkpoint, reason, counts);
    free(reason);
    free(text);
}

/* A task that ended without answering will not answer any more. */
void checkpoints_task_finished(struct turn *turn, struct execution *execution)
{
    struct job *job = execution->subtask->vertex->job;
    uint32_t ordinal = execution_ordinal(execution);
    for (size_t i = 0; i < job->pending.count;) {
        struct checkpoint *checkpoint = job->pending.items[i];
        if (checkpoint->state != CHECKPOINT_IN_PROGRESS || checkpoint->subtasks[ordinal].is_acknowledged) {
            i++;
            continue;
        }
        checkpoint_fail(turn, checkpoint, REASON_CLOSING, false);
        if (job->state != JOB_RUNNING)
            return;
    }
}

/* ---------------------------------------------------------------- completion */

/* From now on the finished tasks' files are in this checkpoint's directory. */
static void repin_finished(struct checkpoint *checkpoint)
{
    for (uint32_t i = 0; i < checkpoint->subtask_count; i++) {
        struct execution *execution = job_subtask(checkpoint->job, i)->current;
        if (!checkpoint->subtasks[i].was_finished || execution->final_directory == NULL)
            continue;
        free(execution->final_directory);
        execution->final_directory = heap_strdup(checkpoint->directory);
        execution->final_checkpoint = checkpoint->id;
    }
}

static void abort_subsumed(struct turn *turn, struct job *job, uint64_t id)
{
    for (size_t i = 0; i < job->pending.count;) {
        struct checkpoint *checkpoint = job->pending.items[i];
        if (checkpoint->id < id && !checkpoint->has_trigger)
            checkpoint_abort(turn, checkpoint, REASON_SUBSUMED);
        else
            i++;
    }
}

static void log_books(struct turn *turn, struct checkpoint *checkpoint)
{
    struct job *job = checkpoint->job;
    job->books_balance = checkpoint->books_balance;
    size_t index;
    json_t *fault;
    json_array_foreach(checkpoint->books_faults, index, fault)
        turn_log(turn, LOG_WARN, "CheckpointCoordinator", "The books of checkpoint %" PRIu64 " of job %s do not balance: %s", checkpoint->id,
                 id_format(job->id).hex, json_string_value(fault));
}

static void checkpoint_complete(struct turn *turn, struct checkpoint *checkpoint)
{
    struct job *job = checkpoint->job;
    checkpoint_set_state(turn, checkpoint, CHECKPOINT_COMPLETED);
    pending_remove(job, checkpoint);
    job->last_checkpoint_end_ms = turn->now_ms;
    turn_log(turn, LOG_INFO, "CheckpointCoordinator",
             "Completed checkpoint %" PRIu64 " for job %s (%" PRId64 " bytes, checkpointDuration=%" PRId64 " ms, finalizationTime=%" PRId64 " ms).",
             checkpoint->id, id_format(job->id).hex, checkpoint->bytes, checkpoint->finalize_ms - checkpoint->trigger_ms,
             turn->now_ms - checkpoint->finalize_ms);
    log_books(turn, checkpoint);
    bool cancel_after = checkpoint->cancel_job_after;
    if (checkpoint->kind == CHECKPOINT_KIND_SAVEPOINT) {
        /* A plain savepoint commits nothing and is not used for failover (semantics.md 5): its user owns it from here. */
        json_decref(checkpoint->metadata);
        checkpoint->metadata = NULL;
    } else {
        job->consecutive_failed_checkpoints = 0;
        if (checkpoint->kind == CHECKPOINT_KIND_CHECKPOINT) {
            repin_finished(checkpoint);
            abort_subsumed(turn, job, checkpoint->id);
        }
        checkpoint_retain(turn, checkpoint);
        notify_runners(turn, job, ACTION_CHECKPOINT_COMPLETE, checkpoint->id);
    }
    if (checkpoint_kind_stops(checkpoint->kind)) {
        job->stop_trigger_id = checkpoint->trigger_id;
        job->stop_savepoint = checkpoint;
        checkpoint->reference_count++;
    } else if (checkpoint->has_trigger) {
        turn_answer(turn, job->id, checkpoint->trigger_id, checkpoint->kind, checkpoint->id, checkpoint->directory, NULL, NULL);
    }
    checkpoint_unref(checkpoint);
    checkpoint_run_deferred_deletes(turn, job);
    checkpoint_requests_run(turn, job);
    if (cancel_after)
        job_cancel(turn, job);
}

static bool orphan_answered(struct turn *turn, struct job *job, uint64_t id)
{
    for (size_t i = 0; i < job->orphans.count; i++) {
        struct checkpoint *checkpoint = job->orphans.items[i];
        if (checkpoint->id != id)
            continue;
        vec_remove(&job->orphans, i);
        checkpoint_delete_directory(turn, job, id, checkpoint->directory);
        checkpoint_unref(checkpoint);
        return true;
    }
    return false;
}

void checkpoint_metadata_written(struct turn *turn, const struct event *event)
{
    struct job *job = coordinator_job(turn->coordinator, event->metadata_written.job);
    if (job == NULL) {
        turn->coordinator->counters.ignored_unknown++;
        return;
    }
    if (orphan_answered(turn, job, event->metadata_written.checkpoint))
        return;
    struct checkpoint *checkpoint = find_pending(job, event->metadata_written.checkpoint);
    if (checkpoint == NULL || checkpoint->state != CHECKPOINT_FINALIZING) {
        turn->coordinator->counters.ignored_stale++;
        return;
    }
    if (event->metadata_written.error == NULL) {
        checkpoint_complete(turn, checkpoint);
        return;
    }
    char *text = error_text(event->metadata_written.error);
    char *reason = heap_printf("Could not finalize the pending checkpoint %" PRIu64 ". Failure reason: " REASON_FINALIZE " %s", checkpoint->id, text);
    /* The answer has come: the files can go at once. */
    checkpoint_fail(turn, checkpoint, reason, true);
    orphan_answered(turn, job, event->metadata_written.checkpoint);
    free(reason);
    free(text);
}

/* ---------------------------------------------------------------- time */

void checkpoints_start(struct turn *turn, struct job *job)
{
    if (job->settings.checkpoint_interval_ms <= 0 || job->settings.checkpoint_directory == NULL || job->is_stopping ||
        job->next_checkpoint_ms != INT64_MAX)
        return;
    job->next_checkpoint_ms = turn->now_ms + job->settings.checkpoint_interval_ms;
    job_touch(turn, job);
}

static int64_t periodic_ms(const struct job *job)
{
    if (job->next_checkpoint_ms == INT64_MAX || job->pending.count >= job->settings.checkpoint_max_concurrent)
        return INT64_MAX;
    int64_t pause_end = job->last_checkpoint_end_ms + job->settings.checkpoint_min_pause_ms;
    return job->next_checkpoint_ms > pause_end ? job->next_checkpoint_ms : pause_end;
}

int64_t checkpoints_next_ms(const struct job *job)
{
    int64_t next = periodic_ms(job);
    for (size_t i = 0; i < job->pending.count; i++) {
        int64_t expires = job->pending.items[i]->trigger_ms + job->settings.checkpoint_timeout_ms;
        next = expires < next ? expires : next;
    }
    return next;
}

void checkpoints_tick(struct turn *turn, struct job *job)
{
    for (size_t i = 0; i < job->pending.count; i++) {
        struct checkpoint *checkpoint = job->pending.items[i];
        if (checkpoint->trigger_ms + job->settings.checkpoint_timeout_ms > turn->now_ms)
            continue;
        turn_log(turn, LOG_INFO, "CheckpointCoordinator", "Checkpoint %" PRIu64 " of job %s expired before completing.", checkpoint->id,
                 id_format(job->id).hex);
        checkpoint_fail(turn, checkpoint, REASON_EXPIRED, true);
        return;
    }
    if (periodic_ms(job) > turn->now_ms)
        return;
    job->next_checkpoint_ms += job->settings.checkpoint_interval_ms;
    if (job->next_checkpoint_ms <= turn->now_ms)
        job->next_checkpoint_ms = turn->now_ms + job->settings.checkpoint_interval_ms;
    struct error *err = checkpoint_check_possible(job);
    bool is_all_finished = job->state_counts[EXECUTION_FINISHED] == job->task_count;
    if (err == NULL && !is_all_finished)
        checkpoint_begin(turn, job, CHECKPOINT_KIND_CHECKPOINT, job->settings.checkpoint_directory, NULL);
    error_free(err);
}

/* ---------------------------------------------------------------- the end of the job */

static bool is_kept(const struct job *job)
{
    if (job->state == JOB_CANCELED)
        return job->settings.retention == RETENTION_RETAIN_ON_CANCELLATION;
    /* What no task could read may be there all the same: on another machine, or when its file system is back. */
    return job->state == JOB_FAILED && (job->settings.retention != RETENTION_NONE || job_has_lost_its_state(job));
}

static void finish_stop(struct turn *turn, struct job *job)
{
    struct checkpoint *savepoint = job->stop_savepoint;
    if (savepoint == NULL || job->state != JOB_FINISHED)
        return;
    turn_answer(turn, job->id, job->stop_trigger_id, savepoint->kind, savepoint->id, savepoint->directory, NULL, NULL);
    checkpoint_unref(savepoint);
    job->stop_savepoint = NULL;
}

/* An earlier life of the job, under the same id, took what this one was started from and does not own: it lies beside its checkpoints. */
static bool is_directory_shared(const struct job *job, const char *directory)
{
    size_t length = strlen(directory);
    bool is_foreign = job->initial_metadata != NULL && !job->owns_initial; /* one that was claimed and subsumed has no metadata any more */
    return is_foreign && strncmp(job->initial_path, directory, length) == 0 && job->initial_path[length] == '/';
}

/* Checkpoints belong to the job and go with it, unless they were to be kept; savepoints belong to the user. */
void checkpoints_job_ended(struct turn *turn, struct job *job)
{
    finish_stop(turn, job);
    checkpoints_suspend(turn, job, "The job has ended.");
    bool keeps = is_kept(job), has_lost_state = keeps && job->checkpoints.counts.total > 0 && job_has_lost_its_state(job);
    struct id_text hex = id_format(job->id);
    char *directory = job->settings.checkpoint_directory != NULL ? checkpoint_join_path(job->settings.checkpoint_directory, hex.hex) : NULL;
    bool is_shared = directory != NULL && is_directory_shared(job, directory);
    while (job->retained.count > 0) {
        struct checkpoint *checkpoint = job->retained.items[0];
        vec_remove(&job->retained, 0);
        if (!keeps && checkpoint->kind == CHECKPOINT_KIND_CHECKPOINT) {
            checkpoint->is_discarded = true;
            if (is_shared)
                turn_delete(turn, job, checkpoint->id, checkpoint->directory);
        }
        json_decref(checkpoint->metadata);
        checkpoint->metadata = NULL;
        checkpoint_unref(checkpoint);
    }
    if (has_lost_state && directory != NULL)
        turn_log(turn, LOG_WARN, "CheckpointCoordinator", "The checkpoints of job %s stay at %s: none of them could be restored.", hex.hex,
                 directory);
    /* Also where the rest goes: savepoints that failed, and one that was claimed, lie elsewhere. */
    checkpoint_run_deferred_deletes(turn, job);
    if (!keeps && job->checkpoints.counts.total > 0 && directory != NULL && !is_shared)
        turn_delete(turn, job, 0, directory);
    free(directory);
    if (job->owns_initial && !keeps)
        turn_delete(turn, job, 0, job->initial_path);
    job->owns_initial = false;
    json_decref(job->initial_metadata);
    job->initial_metadata = NULL;
}

/* ---------------------------------------------------------------- from the shell */

void checkpoint_damage_reported(struct turn *turn, const struct event *event)
{
    struct job *job = coordinator_job(turn->coordinator, event->damaged.job);
    if (job == NULL) {
        turn->coordinator->counters.ignored_unknown++;
        return;
    }
    char *what = heap_printf("%s: %s", event->damaged.file, event->damaged.reason != NULL ? event->damaged.reason : "damaged");
    checkpoint_mark_damaged(turn, job, event->damaged.checkpoint, what);
    bool is_waiting = job->slot_deadline_ms != INT64_MAX; /* for slots: the attempt has chosen it, and no task of it can find that */
    if (is_waiting && event->damaged.checkpoint == job->restore_checkpoint_id) {
        char *text = heap_printf(EXCEPTION_CHECKPOINT ": checkpoint %" PRIu64 " is damaged: %s", event->damaged.checkpoint, what);
        job_fail(turn, job, NULL, EXCEPTION_CHECKPOINT, text, true);
        free(text);
    }
    free(what);
}
