/* Checkpoints as objects: their states, the list of those a job can be restored from, statistics, and when files may go.
 * Files of a checkpoint live in its own directory only, so deleting one never hurts another; but while a metadata write is
 * under way, the shell may be copying finished tasks' files out of an older directory: deletions wait for that. */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"

#include <inttypes.h>

static void stats_add(struct checkpoint *checkpoint)
{
    struct checkpoint_stats *stats = &checkpoint->job->checkpoints;
    stat_summary_add(&stats->bytes, checkpoint->bytes);
    stat_summary_add(&stats->duration, checkpoint->latest_ack_ms > 0 ? checkpoint->latest_ack_ms - checkpoint->trigger_ms : 0);
    stat_summary_add(&stats->processed_bytes, checkpoint->processed_bytes);
    stat_summary_add(&stats->persisted_bytes, checkpoint->persisted_bytes);
}

static void set_latest(struct checkpoint **place, struct checkpoint *checkpoint)
{
    checkpoint->reference_count++;
    checkpoint_unref(*place);
    *place = checkpoint;
}

void checkpoint_set_state(struct turn *turn, struct checkpoint *checkpoint, enum checkpoint_state state)
{
    check(checkpoint_state_can(checkpoint->state, state));
    struct checkpoint_stats *stats = &checkpoint->job->checkpoints;
    checkpoint->state = state;
    if (state == CHECKPOINT_FINALIZING)
        checkpoint->finalize_ms = turn->now_ms;
    if (state == CHECKPOINT_COMPLETED) {
        checkpoint->complete_ms = turn->now_ms;
        stats->counts.in_progress--;
        stats->counts.completed++;
        stats_add(checkpoint);
        set_latest(checkpoint->kind == CHECKPOINT_KIND_CHECKPOINT ? &stats->latest_completed : &stats->latest_savepoint, checkpoint);
    }
    if (state == CHECKPOINT_FAILED) {
        checkpoint->failure_ms = checkpoint->complete_ms = turn->now_ms;
        stats->counts.in_progress--;
        stats->counts.failed++;
        set_latest(&stats->latest_failed, checkpoint);
    }
    job_touch(turn, checkpoint->job);
}

void checkpoint_forget_acks(struct checkpoint *checkpoint)
{
    for (uint32_t i = 0; i < checkpoint->subtask_count; i++) {
        if (checkpoint->acked_state != NULL)
            json_decref(checkpoint->acked_state[i]);
        if (checkpoint->acked_books != NULL)
            json_decref(checkpoint->acked_books[i]);
    }
    free(checkpoint->acked_state);
    free(checkpoint->acked_books);
    checkpoint->acked_state = checkpoint->acked_books = NULL;
}

void checkpoint_unref(struct checkpoint *checkpoint)
{
    if (checkpoint == NULL || --checkpoint->reference_count > 0)
        return;
    checkpoint_forget_acks(checkpoint);
    free(checkpoint->directory);
    free(checkpoint->failure);
    free(checkpoint->subtasks);
    json_decref(checkpoint->books);
    json_decref(checkpoint->books_faults);
    json_decref(checkpoint->metadata);
    free(checkpoint);
}

/* ---------------------------------------------------------------- retained checkpoints */

static bool is_finalizing_any(const struct job *job)
{
    for (size_t i = 0; i < job->pending.count; i++) {
        if (job->pending.items[i]->state == CHECKPOINT_FINALIZING)
            return true;
    }
    return false;
}

bool checkpoint_is_pinned(const struct job *job, const char *directory)
{
    for (uint32_t i = 0; i < job->task_count; i++) {
        const struct execution *execution = job_subtask(job, i)->current;
        if (execution != NULL && execution->final_directory != NULL && strcmp(execution->final_directory, directory) == 0 &&
            execution->state != EXECUTION_CANCELED && execution->state != EXECUTION_FAILED && job->state == JOB_RUNNING)
            return true;
    }
    return false;
}

/* Runners of an attempt that is being ended may still be writing: what is deleted under their hands would come back. */
static bool is_being_written(const struct job *job)
{
    return job->state != JOB_RUNNING && job->runners.count > 0;
}

void checkpoint_delete_directory(struct turn *turn, struct job *job, uint64_t checkpoint, const char *directory)
{
    if (!is_finalizing_any(job) && !checkpoint_is_pinned(job, directory) && !is_being_written(job)) {
        turn_delete(turn, job, checkpoint, directory);
        return;
    }
    struct deferred_delete deferred = {.checkpoint = checkpoint, .directory = heap_strdup(directory)};
    vec_push(&job->deferred_deletes, deferred);
}

void checkpoint_run_deferred_deletes(struct turn *turn, struct job *job)
{
    if (job->deferred_deletes.count == 0 || is_finalizing_any(job) || is_being_written(job))
        return;
    for (size_t i = 0; i < job->deferred_deletes.count;) {
        struct deferred_delete *deferred = &job->deferred_deletes.items[i];
        if (checkpoint_is_pinned(job, deferred->directory)) {
            i++;
            continue;
        }
        turn_delete(turn, job, deferred->checkpoint, deferred->directory);
        free(deferred->directory);
        vec_remove(&job->deferred_deletes, i);
    }
}

static void retained_remove(struct job *job, size_t index)
{
    struct checkpoint *checkpoint = job->retained.items[index];
    vec_remove(&job->retained, index);
    json_decref(checkpoint->metadata);
    checkpoint->metadata = NULL;
    checkpoint_unref(checkpoint);
}

static void subsume(struct turn *turn, struct job *job, size_t index)
{
    struct checkpoint *checkpoint = job->retained.items[index];
    checkpoint_set_state(turn, checkpoint, CHECKPOINT_SUBSUMED);
    if (checkpoint->kind == CHECKPOINT_KIND_CHECKPOINT) { /* a savepoint is its user's */
        checkpoint->is_discarded = true;
        checkpoint_delete_directory(turn, job, checkpoint->id, checkpoint->directory);
    }
    retained_remove(job, index);
}

/* Claimed, what the job was started from counts as the oldest of its checkpoints. */
static void subsume_initial(struct turn *turn, struct job *job)
{
    job->owns_initial = false;
    turn_log(turn, LOG_INFO, "CheckpointCoordinator", "Checkpoint or savepoint %s, which job %s was started from and has claimed, is subsumed.",
             job->initial_path, id_format(job->id).hex);
    checkpoint_delete_directory(turn, job, 0, job->initial_path);
    json_decref(job->initial_metadata);
    job->initial_metadata = NULL;
}

void checkpoint_retain(struct turn *turn, struct checkpoint *checkpoint)
{
    struct job *job = checkpoint->job;
    checkpoint->reference_count++;
    vec_push(&job->retained, checkpoint);
    size_t place = job->retained.count - 1;
    while (place > 0 && job->retained.items[place - 1]->id > checkpoint->id) {
        job->retained.items[place] = job->retained.items[place - 1];
        place--;
    }
    job->retained.items[place] = checkpoint;
    uint32_t limit = job->settings.checkpoint_num_retained > 0 ? job->settings.checkpoint_num_retained : 1;
    while (job->retained.count > limit)
        subsume(turn, job, 0);
    if (job->owns_initial && job->retained.count >= limit)
        subsume_initial(turn, job);
}

void checkpoint_mark_damaged(struct turn *turn, struct job *job, uint64_t checkpoint_id, const char *what)
{
    const char *found = NULL;
    for (size_t i = 0; i < job->retained.count && found == NULL; i++) {
        struct checkpoint *checkpoint = job->retained.items[i];
        if (checkpoint->id != checkpoint_id)
            continue;
        turn_log(turn, LOG_ERROR, "CheckpointCoordinator", "Checkpoint %" PRIu64 " of job %s at %s is damaged and will not be used again: %s",
                 checkpoint_id, id_format(job->id).hex, checkpoint->directory, what);
        checkpoint_set_state(turn, checkpoint, CHECKPOINT_DAMAGED);
        retained_remove(job, i);
        found = "";
    }
    if (found == NULL && job->initial_metadata != NULL &&
        (uint64_t)json_integer_value(json_object_get(job->initial_metadata, "checkpoint_id")) == checkpoint_id) {
        turn_log(turn, LOG_ERROR, "CheckpointCoordinator", "Savepoint %s that job %s was started from is damaged: %s", job->initial_path,
                 id_format(job->id).hex, what);
        job->initial_is_damaged = true;
        found = "";
    }
    if (found == NULL)
        return;
    struct restore_source next = restore_choose(job);
    if (next.metadata != NULL)
        turn_log(turn, LOG_WARN, "CheckpointCoordinator", "Job %s falls back to %s %" PRIu64 " at %s.", id_format(job->id).hex,
                 next.is_savepoint ? "savepoint" : "checkpoint", next.id, next.directory);
    else if (!job->initial_is_damaged)
        turn_log(turn, LOG_ERROR, "CheckpointCoordinator", "Job %s has no other checkpoint to go on from.", id_format(job->id).hex);
}

/* ---------------------------------------------------------------- statistics */

void checkpoint_stats_trim(struct checkpoint_stats *stats, uint32_t history_size)
{
    while (stats->history.count > history_size) {
        size_t index = 0; /* the oldest that is not under way */
        while (index < stats->history.count && (stats->history.items[index]->state == CHECKPOINT_IN_PROGRESS ||
                                                stats->history.items[index]->state == CHECKPOINT_FINALIZING))
            index++;
        if (index == stats->history.count)
            return;
        checkpoint_unref(stats->history.items[index]);
        vec_remove(&stats->history, index);
    }
}

void checkpoint_stats_finish(struct checkpoint_stats *stats)
{
    for (size_t i = 0; i < stats->history.count; i++)
        checkpoint_unref(stats->history.items[i]);
    vec_finish(&stats->history);
    checkpoint_unref(stats->latest_completed);
    checkpoint_unref(stats->latest_savepoint);
    checkpoint_unref(stats->latest_failed);
    stat_summary_finish(&stats->bytes);
    stat_summary_finish(&stats->duration);
    stat_summary_finish(&stats->processed_bytes);
    stat_summary_finish(&stats->persisted_bytes);
    free(stats->restored.path);
}

const struct checkpoint_subtask *coordinator_checkpoint_subtask(const struct checkpoint *checkpoint, uint32_t vertex, uint32_t subtask)
{
    return &checkpoint->subtasks[coordinator_subtask_ordinal(checkpoint->job, vertex, subtask)];
}

const struct checkpoint *coordinator_checkpoint(const struct job *job, uint64_t id)
{
    for (size_t i = 0; i < job->checkpoints.history.count; i++) {
        if (job->checkpoints.history.items[i]->id == id)
            return job->checkpoints.history.items[i];
    }
    for (size_t i = 0; i < job->retained.count; i++) {
        if (job->retained.items[i]->id == id)
            return job->retained.items[i];
    }
    for (size_t i = 0; i < job->pending.count; i++) {
        if (job->pending.items[i]->id == id)
            return job->pending.items[i];
    }
    struct checkpoint *const latest[] = {job->checkpoints.latest_completed, job->checkpoints.latest_savepoint, job->checkpoints.latest_failed};
    for (size_t i = 0; i < 3; i++) {
        if (latest[i] != NULL && latest[i]->id == id)
            return latest[i];
    }
    return NULL;
}
