/* How checkpoints begin (semantics.md 3 and 5): whether one can be taken, which tasks are asked, where its files go; and requests of users,
 * which wait while as many checkpoints as may be are under way. */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"

#include <inttypes.h>

/* Flink's words, which its users search for. */
#define REASON_NOT_RUNNING "Not all required tasks are currently running."
#define REASON_TOO_MANY "The maximum number of queued checkpoint requests exceeded"
/* As Flink's CheckpointRequestDecider: whoever may call REST may ask without end, and each one waits until the one before is done. */
#define REQUESTS_WAITING_MAX 1000

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

bool checkpoint_kind_stops(enum checkpoint_kind kind)
{
    return kind == CHECKPOINT_KIND_STOP || kind == CHECKPOINT_KIND_DRAIN;
}

/* ---------------------------------------------------------------- whether and with whom */

/* Nobody sends it a barrier any more: sources, and tasks whose producers have all finished. */
static bool starts_checkpoint(const struct job *job, const struct job_subtask *subtask)
{
    const struct job_task_vertex *vertex = subtask->vertex;
    for (uint32_t i = 0; i < vertex->input_count; i++) {
        const struct job_task_vertex *source = &job->vertices[vertex->inputs[i].source_vertex];
        if (source->state_counts[EXECUTION_FINISHED] == source->parallelism)
            continue;
        uint32_t first, last;
        edge_producers(vertex->inputs[i].partitioning, source->parallelism, vertex->parallelism, subtask->index, &first, &last);
        for (uint32_t p = first; p <= last; p++)
            if (source->subtasks[p].current->state != EXECUTION_FINISHED)
                return false;
    }
    return true;
}

/* NULL: a checkpoint can be taken. */
struct error *checkpoint_check_possible(const struct job *job)
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

/* ---------------------------------------------------------------- triggering */

static const char *without_scheme(const char *path)
{
    if (strncmp(path, "file:", 5) != 0)
        return path;
    path += 5;
    return strncmp(path, "//", 2) == 0 ? path + 2 : path;
}

char *checkpoint_join_path(const char *parent, const char *name)
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
    char *path = checkpoint_join_path(parent, name);
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
void checkpoint_begin(struct turn *turn, struct job *job, enum checkpoint_kind kind, const char *parent,
                      const struct checkpoint_request *request)
{
    struct checkpoint *checkpoint = checkpoint_create(turn, job, kind, parent);
    if (request != NULL) {
        checkpoint->has_trigger = true;
        checkpoint->trigger_id = request->trigger_id;
        checkpoint->cancel_job_after = request->cancel_job;
    }
    if (checkpoint_kind_stops(kind)) {
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
    return checkpoint_check_possible(job);
}

/* Takes err. */
static void request_refuse(struct turn *turn, struct job *job, struct checkpoint_request *request, struct error *err)
{
    turn_log(turn, LOG_INFO, "CheckpointCoordinator", "Failed to trigger %s for job %s since %s.", checkpoint_kind_name(request->kind),
             id_format(job->id).hex, err->message);
    turn_answer(turn, job->id, request->trigger_id, request->kind, 0, NULL, err, EXCEPTION_CHECKPOINT);
}

void checkpoint_requests_run(struct turn *turn, struct job *job)
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
    if (err == NULL && job->requests.count >= REQUESTS_WAITING_MAX)
        err = error_new(CONFLICT, REASON_TOO_MANY);
    if (err != NULL) {
        request_refuse(turn, job, &request, err);
        free(request.directory);
        return;
    }
    vec_push(&job->requests, request);
    checkpoint_requests_run(turn, job);
}

/* Whether the job would recover from that directory, or has the last state of a finished task nowhere else. */
static bool is_needed(const struct job *job, const char *path)
{
    if (job->initial_path != NULL && job->retained.count == 0 && strcmp(job->initial_path, path) == 0)
        return true;
    for (size_t i = 0; i < job->retained.count; i++) {
        if (strcmp(job->retained.items[i]->directory, path) == 0)
            return true;
    }
    return checkpoint_is_pinned(job, path);
}

void savepoint_dispose_requested(struct turn *turn, const struct event *event)
{
    const char *path = without_scheme(event->dispose.path);
    for (size_t i = 0; i < turn->coordinator->jobs.count; i++) {
        const struct job *job = turn->coordinator->jobs.entries[i].value;
        if (job_state_is_terminal(job->state) || !is_needed(job, path))
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
