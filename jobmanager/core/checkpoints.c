/* Checkpoint coordination (semantics.md 3 and 5): who is asked when, acknowledgements, completion, failure. One checkpoint
 * goes IN_PROGRESS (tasks snapshot), FINALIZING (the shell writes the metadata), COMPLETED; only then is it notified and
 * can it be restored. Requests of users wait while as many checkpoints as may be are under way. */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"

#include <inttypes.h>

/* Flink's words, which its users search for. */
#define REASON_DECLINED "Checkpoint was declined."
#define REASON_CLOSING "Checkpoint was declined (task is closing)."
#define REASON_EXPIRED "Checkpoint expired before completing."
#define REASON_SUBSUMED "Checkpoint has been subsumed."
#define REASON_FINALIZE "Failure to finalize checkpoint."
#define REASON_NOT_RUNNING "Not all required tasks are currently running."

static const char *kind_type_text(enum checkpoint_kind kind)
{
    static const char *const texts[] = {
        [CHECKPOINT_KIND_CHECKPOINT] = "CheckpointType{name='Checkpoint', sharingFilesStrategy=FORWARD_BACKWARD}",
        [CHECKPOINT_KIND_SAVEPOINT] = "SavepointType{name='Savepoint', postCheckpointAction=NONE, formatType=CANONICAL}",
        [CHECKPOINT_KIND_STOP] = "SavepointType{name='Suspend Savepoint', postCheckpointAction=SUSPEND, formatType=CANONICAL}",
        [CHECKPOINT_KIND_DRAIN] = "SavepointType{name='Terminate Savepoint', postCheckpointAction=TERMINATE, formatType=CANONICAL}",
    };
    return texts[kind];
}

static bool kind_stops(enum checkpoint_kind kind)
{
    return kind == CHECKPOINT_KIND_STOP || kind == CHECKPOINT_KIND_DRAIN;
}

/* ---------------------------------------------------------------- whether and with whom */

/* Whether records (and so barriers) of producer reach consumer. Forward edges join equal indexes, rescale edges
 * neighbouring ones, all others everyone with everyone. */
static bool edge_reaches(enum partitioning partitioning, uint32_t producer, uint32_t producers, uint32_t consumer, uint32_t consumers)
{
    if (partitioning == PARTITION_FORWARD)
        return producer == consumer;
    if (partitioning == PARTITION_RESCALE && producers >= consumers)
        return (uint64_t)producer * consumers / producers == consumer;
    if (partitioning == PARTITION_RESCALE)
        return (uint64_t)consumer * producers / consumers == producer;
    return true;
}

/* Nobody sends it a barrier any more: sources, and tasks whose producers have all finished. */
static bool starts_checkpoint(const struct job *job, const struct job_subtask *subtask)
{
    const struct job_task_vertex *vertex = subtask->vertex;
    for (uint32_t i = 0; i < vertex->input_count; i++) {
        const struct job_task_vertex *source = &job->vertices[vertex->inputs[i].source_vertex];
        if (source->state_counts[EXECUTION_FINISHED] == source->parallelism)
            continue;
        for (uint32_t p = 0; p < source->parallelism; p++) {
            if (source->subtasks[p].current->state != EXECUTION_FINISHED &&
                edge_reaches(vertex->inputs[i].partitioning, p, source->parallelism, subtask->index, vertex->parallelism))
                return false;
        }
    }
    return true;
}

/* NULL: a checkpoint can be taken. */
static struct error *check_possible(const struct job *job)
{
    for (uint32_t i = 0; i < job->task_count; i++) {
        const struct execution *execution = job_subtask(job, i)->current;
        bool is_ready = execution->state == EXECUTION_RUNNING || execution->state == EXECUTION_FINISHED;
        if (is_ready && (execution->state == EXECUTION_RUNNING || execution->final_state != NULL))
            continue;
        char *name = coordinator_task_name(execution);
        struct error *err =
            is_ready ? error_new(CONFLICT, "Task %s of job %s has finished before checkpoints were taken: its last state is not known.", name,
                                 id_format(job->id).hex)
                     : error_new(CONFLICT,
                                 "Checkpoint triggering task %s of job %s is not being executed at the moment. Aborting checkpoint. Failure reason: "
                                 REASON_NOT_RUNNING,
                                 name, id_format(job->id).hex);
        free(name);
        return err;
    }
    return NULL;
}

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
    if (kind_stops(checkpoint->kind))
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

static void requests_run(struct turn *turn, struct job *job);

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
        requests_run(turn, job);
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

/* ---------------------------------------------------------------- triggering */

static const char *without_scheme(const char *path)
{
    if (strncmp(path, "file:", 5) != 0)
        return path;
    path += 5;
    return strncmp(path, "//", 2) == 0 ? path + 2 : path;
}

static char *join_path(const char *parent, const char *name)
{
    parent = without_scheme(parent);
    size_t length = strlen(parent);
    while (length > 1 && parent[length - 1] == '/')
        length--;
    return heap_printf("%.*s/%s", (int)length, parent, name);
}

static char *checkpoint_directory(struct turn *turn, const struct job *job, enum checkpoint_kind kind, const char *parent, uint64_t id)
{
    struct id_text hex = id_format(job->id);
    char *name;
    if (kind == CHECKPOINT_KIND_CHECKPOINT)
        name = heap_printf("%s/chk-%" PRIu64, hex.hex, id);
    else
        name = heap_printf("savepoint-%.6s-%012" PRIx64, hex.hex, coordinator_random(turn->coordinator) >> 16);
    char *path = join_path(parent, name);
    free(name);
    return path;
}

/* Finished tasks are acknowledged from the start, with the state that they left. */
static void carry_finished(struct checkpoint *checkpoint)
{
    for (uint32_t i = 0; i < checkpoint->subtask_count; i++) {
        struct execution *execution = job_subtask(checkpoint->job, i)->current;
        if (execution->state != EXECUTION_FINISHED)
            continue;
        checkpoint->subtasks[i].is_acknowledged = checkpoint->subtasks[i].was_finished = true;
        checkpoint->subtasks[i].ack_ms = checkpoint->trigger_ms;
        checkpoint->acked_state[i] = json_incref(execution->final_state);
        checkpoint->acked_books[i] = json_incref(execution->final_books);
        checkpoint->acknowledged_count++;
    }
}

static struct checkpoint *checkpoint_create(struct turn *turn, struct job *job, enum checkpoint_kind kind, const char *parent)
{
    struct checkpoint *checkpoint = heap_new(struct checkpoint);
    *checkpoint = (struct checkpoint){
        .job = job,
        .id = job->next_checkpoint_id++,
        .kind = kind,
        .state = CHECKPOINT_IN_PROGRESS,
        .epoch = job->epoch,
        .trigger_ms = turn->now_ms,
        .latest_ack_ms = -1,
        .complete_ms = -1,
        .failure_ms = -1,
        .subtask_count = job->task_count,
        .subtasks = heap_alloc_array(job->task_count, sizeof *checkpoint->subtasks),
        .acked_state = heap_alloc_array(job->task_count, sizeof *checkpoint->acked_state),
        .acked_books = heap_alloc_array(job->task_count, sizeof *checkpoint->acked_books),
        .reference_count = 2, /* pending, history */
    };
    checkpoint->directory = checkpoint_directory(turn, job, kind, parent, checkpoint->id);
    carry_finished(checkpoint);
    vec_push(&job->pending, checkpoint);
    vec_push(&job->checkpoints.history, checkpoint);
    job->checkpoints.counts.total++;
    job->checkpoints.counts.in_progress++;
    checkpoint_stats_trim(&job->checkpoints, turn->coordinator->settings.checkpoint_history_size);
    return checkpoint;
}

static void send_triggers(struct turn *turn, const struct checkpoint *checkpoint)
{
    struct job *job = checkpoint->job;
    for (size_t r = 0; r < job->runners.count; r++) {
        const struct taskmanager *taskmanager = job->runners.items[r].taskmanager;
        json_t *executions = json_array();
        for (uint32_t i = 0; i < job->task_count; i++) {
            const struct job_subtask *subtask = job_subtask(job, i);
            if (subtask->current->state == EXECUTION_RUNNING && strcmp(subtask->current->taskmanager_id, taskmanager->id) == 0 &&
                starts_checkpoint(job, subtask))
                json_array_append_new(executions, json_string(subtask->current->id));
        }
        if (json_array_size(executions) == 0) {
            json_decref(executions);
            continue;
        }
        struct action *action = turn_action(turn, ACTION_TRIGGER_CHECKPOINT, job);
        action_address(action, taskmanager);
        action->checkpoint = checkpoint->id;
        action->trigger.timestamp = checkpoint->trigger_ms;
        action->trigger.directory = heap_strdup(checkpoint->directory);
        action->trigger.kind = checkpoint->kind;
        action->trigger.executions = executions;
    }
}

/* request NULL: a periodic one. */
static void checkpoint_begin(struct turn *turn, struct job *job, enum checkpoint_kind kind, const char *parent,
                             const struct checkpoint_request *request)
{
    struct checkpoint *checkpoint = checkpoint_create(turn, job, kind, parent);
    if (request != NULL) {
        checkpoint->has_trigger = true;
        checkpoint->trigger_id = request->trigger_id;
        checkpoint->cancel_job_after = request->cancel_job;
    }
    if (kind_stops(kind)) {
        job->is_stopping = true;
        job->next_checkpoint_ms = INT64_MAX;
    }
    turn_log(turn, LOG_INFO, "CheckpointCoordinator", "Triggering checkpoint %" PRIu64 " (type=%s) @ %" PRId64 " for job %s.", checkpoint->id,
             kind_type_text(kind), checkpoint->trigger_ms, id_format(job->id).hex);
    send_triggers(turn, checkpoint);
    job_touch(turn, job);
}

/* ---------------------------------------------------------------- requests */

static const char *request_parent(const struct job *job, const struct checkpoint_request *request)
{
    if (request->kind == CHECKPOINT_KIND_CHECKPOINT)
        return job->settings.checkpoint_directory;
    return request->directory != NULL ? request->directory : job->settings.savepoint_directory;
}

static struct error *request_check(const struct job *job, const struct checkpoint_request *request)
{
    if (request_parent(job, request) == NULL && request->kind == CHECKPOINT_KIND_CHECKPOINT)
        return error_with_hint(error_new(INVALID_ARGUMENT, "No checkpoint directory configured."), "set execution.checkpointing.dir");
    if (request_parent(job, request) == NULL)
        return error_new(INVALID_ARGUMENT, "No savepoint directory configured. You can either specify a directory while triggering the savepoint or "
                                           "configure a cluster-wide default via key 'execution.checkpointing.savepoint-dir'.");
    if (job->state != JOB_RUNNING)
        return error_new(CONFLICT, REASON_NOT_RUNNING);
    if (job->is_stopping)
        return error_new(CONFLICT, "Job %s is already being stopped with a savepoint.", id_format(job->id).hex);
    return check_possible(job);
}

/* Takes err. */
static void request_refuse(struct turn *turn, struct job *job, struct checkpoint_request *request, struct error *err)
{
    turn_log(turn, LOG_INFO, "CheckpointCoordinator", "Failed to trigger %s for job %s since %s.", checkpoint_kind_name(request->kind),
             id_format(job->id).hex, err->message);
    turn_answer(turn, job->id, request->trigger_id, request->kind, 0, NULL, err, EXCEPTION_CHECKPOINT);
}

static void requests_run(struct turn *turn, struct job *job)
{
    while (job->requests.count > 0 && job->pending.count < job->settings.checkpoint_max_concurrent) {
        struct checkpoint_request request = job->requests.items[0];
        vec_remove(&job->requests, 0);
        struct error *err = request_check(job, &request);
        if (err != NULL)
            request_refuse(turn, job, &request, err);
        else
            checkpoint_begin(turn, job, request.kind, request_parent(job, &request), &request);
        free(request.directory);
    }
    job_touch(turn, job);
}

void checkpoint_requested(struct turn *turn, const struct event *event)
{
    struct id id = event->trigger.job;
    struct job *job = coordinator_job(turn->coordinator, id);
    if (job == NULL || job_state_is_terminal(job->state)) {
        turn_answer(turn, id, event->trigger.trigger_id, event->trigger.kind, 0, NULL,
                    error_new(NOT_FOUND, "Could not find Flink job (%s)", id_format(id).hex), EXCEPTION_JOB_NOT_FOUND);
        return;
    }
    struct checkpoint_request request = {.trigger_id = event->trigger.trigger_id, .kind = event->trigger.kind,
                                         .cancel_job = event->trigger.cancel_job};
    if (event->trigger.directory != NULL)
        request.directory = heap_strdup(event->trigger.directory);
    struct error *err = request_check(job, &request);
    if (err != NULL) {
        request_refuse(turn, job, &request, err);
        free(request.directory);
        return;
    }
    vec_push(&job->requests, request);
    requests_run(turn, job);
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

void checkpoint_acknowledged(struct turn *turn, const struct event *event)
{
    struct execution *execution = NULL;
    struct checkpoint *checkpoint = ack_target(turn, event, &execution);
    if (checkpoint == NULL)
        return;
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
    if (kind_stops(checkpoint->kind)) {
        job->stop_trigger_id = checkpoint->trigger_id;
        job->stop_savepoint = checkpoint;
        checkpoint->reference_count++;
    } else if (checkpoint->has_trigger) {
        turn_answer(turn, job->id, checkpoint->trigger_id, checkpoint->kind, checkpoint->id, checkpoint->directory, NULL, NULL);
    }
    checkpoint_unref(checkpoint);
    checkpoint_run_deferred_deletes(turn, job);
    requests_run(turn, job);
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
    struct error *err = check_possible(job);
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
    return job->state == JOB_FAILED && job->settings.retention != RETENTION_NONE;
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

/* Checkpoints belong to the job and go with it, unless they were to be kept; savepoints belong to the user. */
void checkpoints_job_ended(struct turn *turn, struct job *job)
{
    finish_stop(turn, job);
    checkpoints_suspend(turn, job, "The job has ended.");
    bool keeps = is_kept(job);
    while (job->retained.count > 0) {
        struct checkpoint *checkpoint = job->retained.items[0];
        vec_remove(&job->retained, 0);
        if (!keeps && checkpoint->kind == CHECKPOINT_KIND_CHECKPOINT)
            checkpoint->is_discarded = true;
        json_decref(checkpoint->metadata);
        checkpoint->metadata = NULL;
        checkpoint_unref(checkpoint);
    }
    if (keeps) {
        checkpoint_run_deferred_deletes(turn, job);
    } else if (job->checkpoints.counts.total > 0 && job->settings.checkpoint_directory != NULL) {
        struct id_text hex = id_format(job->id);
        char *directory = join_path(job->settings.checkpoint_directory, hex.hex);
        turn_delete(turn, job, 0, directory);
        free(directory);
    }
    if (job->owns_initial && !keeps)
        turn_delete(turn, job, 0, job->initial_path);
    job->owns_initial = false;
    for (size_t i = 0; i < job->deferred_deletes.count; i++)
        free(job->deferred_deletes.items[i].directory);
    vec_finish(&job->deferred_deletes);
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
    free(what);
}

void savepoint_dispose_requested(struct turn *turn, const struct event *event)
{
    const char *path = without_scheme(event->dispose.path);
    for (size_t i = 0; i < turn->coordinator->jobs.count; i++) {
        const struct job *job = turn->coordinator->jobs.entries[i].value;
        if (job_state_is_terminal(job->state) || job->initial_path == NULL || job->retained.count > 0 || strcmp(job->initial_path, path) != 0)
            continue;
        turn_answer(turn, job->id, event->dispose.trigger_id, CHECKPOINT_KIND_SAVEPOINT, 0, NULL,
                    error_new(CONFLICT, "Savepoint %s is what the running job %s would recover from: it can be disposed after the job's "
                                        "next checkpoint.",
                              path, id_format(job->id).hex),
                    EXCEPTION_CHECKPOINT);
        return;
    }
    struct action *action = turn_action(turn, ACTION_DELETE_DIRECTORY, NULL);
    action->delete_directory.directory = heap_strdup(path);
    action->delete_directory.trigger_id = event->dispose.trigger_id;
}
