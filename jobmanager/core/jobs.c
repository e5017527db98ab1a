/* Jobs on their way in: submission, scheduling, deployment, and what their tasks report. The way out is in failover.c. */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"

#include <inttypes.h>

/* ---------------------------------------------------------------- submission */

/* The job's settings over the cluster's. A value that is wrong becomes the job's failure. */
static struct error *job_configure(struct job *job)
{
    struct config *config = config_create_over(job->coordinator->config);
    struct error *err = job->graph->config != NULL ? config_set_json(config, job->graph->config, "the job's configuration") : NULL;
    job_settings_read(config, &job->settings);
    job->config = config_to_json(config);
    config_destroy(config);
    if (job->settings.checkpoint_directory == NULL && job->coordinator->checkpoint_directory != NULL)
        job->settings.checkpoint_directory = heap_strdup(job->coordinator->checkpoint_directory);
    return err;
}

static struct error *submission_restore(struct turn *turn, struct job *job, const struct event *event)
{
    const char *path = event->job_submitted.savepoint_path;
    if (event->job_submitted.savepoint_error != NULL) {
        char *text = error_text(event->job_submitted.savepoint_error);
        struct error *err = error_create(event->job_submitted.savepoint_error->code, __FILE__, __LINE__, "%s", text);
        free(text);
        return err;
    }
    const json_t *metadata = event->job_submitted.savepoint_metadata;
    if (path == NULL || metadata == NULL)
        return NULL;
    turn_log(turn, LOG_INFO, "CheckpointCoordinator", "Starting job %s from savepoint %s (%s)", id_format(job->id).hex, path,
             event->job_submitted.allow_non_restored ? "allowing non restored state" : "");
    TRY(restore_check(turn, job, metadata, path, event->job_submitted.allow_non_restored));
    job->initial_metadata = json_keep(metadata);
    job->initial_path = heap_strdup(path);
    job->owns_initial = event->job_submitted.claims_savepoint;
    const char *kind = json_string_value(json_object_get(metadata, "kind"));
    job->initial_is_savepoint = kind == NULL || strcmp(kind, "checkpoint") != 0;
    /* Ids go on after the savepoint's, as in Flink. */
    job->next_checkpoint_id = (uint64_t)json_integer_value(json_object_get(metadata, "checkpoint_id")) + 1;
    return NULL;
}

/* The lines that Flink shows, where the master of a job is made asynchronously: files' exceptions come wrapped once more. */
static char *submission_text(const struct error *err)
{
    static const char start[] = EXCEPTION_INITIALIZATION ": Could not start the JobMaster.\nCaused by: " EXCEPTION_COMPLETION;
    bool is_not_found = err->code == ERR_NOT_FOUND;
    bool is_file = is_not_found || error_code_domain(err->code) == DOMAIN_EXTERNAL;
    const char *exception = is_not_found ? EXCEPTION_FILE_NOT_FOUND : is_file ? EXCEPTION_IO : EXCEPTION_ILLEGAL_STATE;
    char *cause = failure_text(exception, err); /* with hints, which what wraps it does not repeat */
    char *text = is_file ? heap_printf("%s: java.lang.RuntimeException: %s: %s\nCaused by: java.lang.RuntimeException: %s: %s\nCaused by: %s", start,
                                       exception, err->message, exception, err->message, cause)
                         : heap_printf("%s: %s: %s\nCaused by: %s", start, exception, err->message, cause);
    free(cause);
    return text;
}

/* Takes err. */
static void submission_failed(struct turn *turn, struct job *job, struct error *err)
{
    char *text = submission_text(err);
    error_free(err);
    job_add_exception(turn, job, NULL, EXCEPTION_INITIALIZATION, text);
    job->failure = text;
    job->failure_class = heap_strdup(EXCEPTION_INITIALIZATION);
    job_end(turn, job, JOB_FAILED);
}

void job_submitted(struct turn *turn, const struct event *event)
{
    struct coordinator *coordinator = turn->coordinator;
    struct job_graph *graph = event->job_submitted.graph;
    struct id_text id = id_format(graph->job_id);
    const char *hex = id.hex;
    if (coordinator_job(coordinator, graph->job_id) != NULL) {
        turn_log(turn, LOG_INFO, "StandaloneDispatcher", "Job %s was submitted again: it is the one that is known.", hex);
        job_graph_destroy(graph);
        return;
    }
    turn_log(turn, LOG_INFO, "StandaloneDispatcher", "Received JobGraph submission '%s' (%s).", graph->name, hex);
    turn_log(turn, LOG_INFO, "StandaloneDispatcher", "Submitting job '%s' (%s).", graph->name, hex);
    struct job *job = job_create(coordinator, graph, turn->now_ms);
    hash_map_put(&coordinator->jobs, job->id.bytes, sizeof job->id.bytes, job);
    struct error *err = job_configure(job);
    char *strategy = restart_strategy_text(&job->settings.restart);
    turn_log(turn, LOG_INFO, "JobMaster", "Initializing job '%s' (%s).", graph->name, hex);
    turn_log(turn, LOG_INFO, "JobMaster", "Using restart back off time strategy %s for %s (%s).", strategy, graph->name, hex);
    free(strategy);
    if (err == NULL)
        err = submission_restore(turn, job, event);
    if (err != NULL) {
        submission_failed(turn, job, err);
        return;
    }
    job_set_state(turn, job, JOB_CREATED, NULL);
    job_start_attempt(turn, job);
}

/* ---------------------------------------------------------------- scheduling and deployment */

static void log_restore(struct turn *turn, struct job *job)
{
    struct restore_source source = restore_choose(job);
    struct restored_info *restored = &job->checkpoints.restored;
    job->restore_checkpoint_id = source.metadata != NULL ? source.id : 0;
    if (source.metadata == NULL) {
        turn_log(turn, LOG_INFO, "CheckpointCoordinator", "No checkpoint found during restore.");
        return;
    }
    struct id_text id = id_format(job->id);
    const char *hex = id.hex;
    turn_log(turn, LOG_INFO, "CheckpointCoordinator", "Restoring job %s from %s %" PRIu64 " @ %" PRId64 " for %s located at file:%s.", hex,
             source.is_savepoint ? "Savepoint" : "Checkpoint", source.id, source.timestamp_ms, hex, source.directory);
    free(restored->path);
    *restored = (struct restored_info){
        .is_set = true, .id = source.id, .restore_ms = turn->now_ms, .is_savepoint = source.is_savepoint, .path = heap_strdup(source.directory)};
    job->checkpoints.counts.restored++;
}

void job_start_attempt(struct turn *turn, struct job *job)
{
    check(job->runners.count == 0 && !job->has_slots && job->pending.count == 0);
    job->epoch++;
    job->restart_at_ms = INT64_MAX;
    job->kill_deadline_ms = INT64_MAX;
    job_create_executions(turn, job);
    job_set_state(turn, job, JOB_RUNNING, NULL);
    log_restore(turn, job);
    for (uint32_t i = 0; i < job->task_count; i++)
        execution_set_state(turn, job_subtask(job, i)->current, EXECUTION_SCHEDULED, NULL);
    turn_log(turn, LOG_INFO, "FineGrainedSlotManager",
             "Received resource requirements from job %s: [ResourceRequirement{resourceProfile=ResourceProfile{UNKNOWN}, "
             "numberOfRequiredSlots=%" PRIu32 "}]",
             id_format(job->id).hex, job->slot_count);
    if (slots_allocate(turn, job))
        job_deploy(turn, job);
    else
        slots_wait(turn, job);
}

/* Marks the task as deploying to its slot. Returns the taskmanager. */
static struct taskmanager *execution_place(struct turn *turn, struct execution *execution)
{
    struct job_task_vertex *vertex = execution->subtask->vertex;
    struct job *job = vertex->job;
    const struct job_slot *slot = &job->slots[job->slot_groups[vertex->slot_group].first_slot + execution->subtask->index];
    struct taskmanager *taskmanager = slot->taskmanager;
    execution->taskmanager_id = heap_strdup(taskmanager->id);
    execution->host = heap_strdup(taskmanager->host);
    execution->data_port = taskmanager->data_port;
    execution->slot_index = slot->slot_index;
    execution_set_state(turn, execution, EXECUTION_DEPLOYING, NULL);
    char *name = coordinator_task_name(execution);
    turn_log(turn, LOG_INFO, "ExecutionGraph", "Deploying %s (attempt #%" PRIu32 ") with attempt id %s and vertex id %s_%" PRIu32 " to %s "
                                               "@ %s (dataPort=%u)",
             name, execution->attempt, execution->id, id_format(job->graph->vertices[vertex->index].id).hex, execution->subtask->index,
             taskmanager->id, taskmanager->host, taskmanager->data_port);
    free(name);
    return taskmanager;
}

static json_t *task_json(const struct execution *execution, const struct restore_plan *plan)
{
    const struct job_task_vertex *vertex = execution->subtask->vertex;
    const struct job *job = vertex->job;
    json_t *task = json_object();
    json_object_set_new(task, "execution", json_string(execution->id));
    json_object_set_new(task, "vertex", json_string(id_format(job->graph->vertices[vertex->index].id).hex));
    json_object_set_new(task, "subtask", json_integer(execution->subtask->index));
    json_object_set_new(task, "attempt", json_integer(execution->attempt));
    json_object_set_new(task, "slot", json_integer(execution->slot_index));
    json_t *restore = restore_plan_task(plan, job, vertex->index, execution->subtask->index);
    if (restore != NULL)
        json_object_set_new(task, "restore", restore);
    return task;
}

static size_t runner_index(struct job *job, struct taskmanager *taskmanager)
{
    for (size_t i = 0; i < job->runners.count; i++) {
        if (job->runners.items[i].taskmanager == taskmanager)
            return i;
    }
    struct job_runner runner = {.taskmanager = taskmanager, .epoch = job->epoch};
    vec_push(&job->runners, runner);
    return job->runners.count - 1;
}

void job_deploy(struct turn *turn, struct job *job)
{
    struct restore_plan plan;
    restore_plan_init(&plan, job);
    json_t *peers = json_object();
    VEC(json_t *) tasks = {0};
    for (uint32_t i = 0; i < job->task_count; i++) {
        struct execution *execution = job_subtask(job, i)->current;
        struct taskmanager *taskmanager = execution_place(turn, execution);
        size_t runner = runner_index(job, taskmanager);
        if (runner == tasks.count)
            vec_push(&tasks, json_array());
        json_array_append_new(tasks.items[runner], task_json(execution, &plan));
        char *key = heap_printf("%s_%" PRIu32, id_format(job->graph->vertices[execution->subtask->vertex->index].id).hex, execution->subtask->index);
        json_t *peer = json_object();
        json_object_set_new(peer, "tm", json_string(taskmanager->id));
        json_object_set_new(peer, "host", json_string(taskmanager->host));
        json_object_set_new(peer, "data_port", json_integer(taskmanager->data_port));
        json_object_set_new(peers, key, peer);
        free(key);
    }
    for (size_t i = 0; i < job->runners.count; i++) {
        struct action *action = turn_action(turn, ACTION_DEPLOY, job);
        action_address(action, job->runners.items[i].taskmanager);
        action->deploy.tasks = tasks.items[i];
        action->deploy.peers = json_incref(peers);
    }
    vec_finish(&tasks);
    json_decref(peers);
    restore_plan_finish(&plan);
}

/* ---------------------------------------------------------------- reports of tasks */

/* Whether a failure says that the state which the attempt was restored from is broken, and then marks it. */
static bool failure_names_damage(struct turn *turn, struct job *job, const struct execution *execution, const struct error *error)
{
    if (error == NULL || job->restore_checkpoint_id == 0)
        return false;
    struct restore_source source = restore_choose(job);
    if (source.metadata == NULL || source.id != job->restore_checkpoint_id)
        return false;
    bool is_restoring = execution->state == EXECUTION_DEPLOYING || execution->state == EXECUTION_INITIALIZING;
    char *text = error_text(error);
    bool names_it = strstr(text, source.directory) != NULL;
    bool is_damage = (error->code == ERR_CORRUPT && (names_it || is_restoring)) || (error->code == ERR_NOT_FOUND && names_it && is_restoring);
    if (is_damage)
        checkpoint_mark_damaged(turn, job, source.id, text);
    free(text);
    return is_damage;
}

static bool error_is_recoverable(const struct error *error)
{
    /* What a running task does not find is a file or a mount of its machine: it may be there at the next attempt, or on another one. */
    if (error == NULL || error->code == ERR_CANCELLED || error->code == ERR_CORRUPT || error->code == ERR_NOT_FOUND)
        return true;
    return error_code_is_retriable(error->code) || error_code_domain(error->code) == DOMAIN_INTERNAL;
}

static void task_failed(struct turn *turn, struct job *job, struct execution *execution, const struct error *error)
{
    bool is_damage = failure_names_damage(turn, job, execution, error);
    const char *exception = error != NULL ? error_code_name(error->code) : "TASK_LOST";
    char *text = error != NULL ? failure_text(exception, error) : heap_printf("%s: the task failed and gave no reason", exception);
    /* A broken initial savepoint leaves nothing to go on with: starting from scratch is not what the user asked for. */
    bool is_recoverable = is_damage ? !job->initial_is_damaged || restore_choose(job).metadata != NULL : error_is_recoverable(error);
    job_fail(turn, job, execution, exception, text, is_recoverable);
    free(text);
}

static void task_changed(struct turn *turn, struct job *job, struct execution *execution, enum execution_state state, const struct error *error)
{
    if (state == EXECUTION_FAILED) {
        if (execution->state == EXECUTION_CANCELING) {
            /* Failing while being cancelled is a way to end. */
            execution_set_state(turn, execution, EXECUTION_CANCELED, NULL);
            return;
        }
        task_failed(turn, job, execution, error);
        return;
    }
    if (state == EXECUTION_CANCELED && execution->state != EXECUTION_CANCELING) {
        struct error *err = error_new(TASK_LOST, "the taskmanager cancelled the task unasked");
        task_failed(turn, job, execution, err);
        error_free(err);
        return;
    }
    execution_set_state(turn, execution, state, NULL);
    if (state == EXECUTION_FINISHED)
        checkpoints_task_finished(turn, execution);
    if (job->state == JOB_RUNNING &&
        job->state_counts[EXECUTION_RUNNING] + job->state_counts[EXECUTION_FINISHED] == job->task_count)
        checkpoints_start(turn, job);
}

/* The job and execution that a message speaks of, if they are the living ones; counts what is ignored. */
static struct execution *current_execution(struct turn *turn, const struct taskmanager *taskmanager, struct id job_id, uint64_t epoch,
                                           const char *execution_id)
{
    struct coordinator_counters *counters = &turn->coordinator->counters;
    struct job *job = coordinator_job(turn->coordinator, job_id);
    if (job == NULL) {
        counters->ignored_unknown++;
        return NULL;
    }
    struct execution *execution = job->epoch == epoch ? coordinator_execution(job, execution_id) : NULL;
    if (execution == NULL || execution != execution->subtask->current || execution->taskmanager_id == NULL ||
        strcmp(execution->taskmanager_id, taskmanager->id) != 0) {
        counters->ignored_stale++;
        return NULL;
    }
    return execution;
}

void job_task_state(struct turn *turn, const struct event *event)
{
    const struct taskmanager *taskmanager = taskmanager_speaking(turn, event->task_state.taskmanager, event->task_state.connection);
    if (taskmanager == NULL)
        return;
    struct execution *execution = current_execution(turn, taskmanager, event->task_state.job, event->task_state.epoch, event->task_state.execution);
    if (execution == NULL)
        return;
    enum execution_state state = event->task_state.state;
    if (!execution_state_can(execution->state, state) || state == EXECUTION_CANCELING) {
        turn->coordinator->counters.ignored_illegal++;
        return;
    }
    struct job *job = execution->subtask->vertex->job;
    task_changed(turn, job, execution, state, event->task_state.error);
    job_check_quiet(turn, job);
    job_check_finished(turn, job);
}

/* Whatever of the runner's tasks had not ended before has ended with it. */
void job_remove_runner(struct turn *turn, struct job *job, size_t index)
{
    struct taskmanager *taskmanager = job->runners.items[index].taskmanager;
    vec_remove(&job->runners, index);
    slots_release(turn, job, taskmanager);
    struct error *err = error_new(TASK_LOST, "the task-runner of the job on %s ended without a word", taskmanager->id);
    for (uint32_t i = 0; i < job->task_count; i++) {
        struct execution *execution = job_subtask(job, i)->current;
        if (execution_state_is_terminal(execution->state) || execution->taskmanager_id == NULL ||
            strcmp(execution->taskmanager_id, taskmanager->id) != 0)
            continue;
        if (execution->state == EXECUTION_CANCELING)
            execution_set_state(turn, execution, EXECUTION_CANCELED, NULL);
        else
            task_failed(turn, job, execution, err);
    }
    error_free(err);
}

void job_runner_gone(struct turn *turn, const struct event *event)
{
    struct taskmanager *taskmanager = taskmanager_speaking(turn, event->runner_gone.taskmanager, event->runner_gone.connection);
    if (taskmanager == NULL)
        return;
    struct job *job = coordinator_job(turn->coordinator, event->runner_gone.job);
    if (job == NULL) {
        turn->coordinator->counters.ignored_unknown++;
        return;
    }
    for (size_t i = 0; i < job->runners.count; i++) {
        if (job->runners.items[i].taskmanager != taskmanager || job->runners.items[i].epoch != event->runner_gone.epoch)
            continue;
        job_remove_runner(turn, job, i);
        job_check_quiet(turn, job);
        job_check_finished(turn, job);
        return;
    }
    turn->coordinator->counters.ignored_stale++;
}
