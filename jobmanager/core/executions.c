/* Jobs and executions as data, and the one function each that changes their state: checks the table, stamps the time that
 * REST shows, logs in Flink's words. */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"

#include <inttypes.h>

/* ---------------------------------------------------------------- jobs as data */

static void vertices_create(struct job *job)
{
    const struct job_graph *graph = job->graph;
    job->vertices = heap_alloc_array(graph->vertex_count, sizeof *job->vertices);
    for (uint32_t v = 0; v < graph->vertex_count; v++) {
        struct job_task_vertex *vertex = &job->vertices[v];
        vertex->job = job;
        vertex->index = v;
        vertex->parallelism = graph->vertices[v].parallelism;
        vertex->subtasks = heap_alloc_array(vertex->parallelism, sizeof *vertex->subtasks);
        for (uint32_t s = 0; s < vertex->parallelism; s++) {
            vertex->subtasks[s].vertex = vertex;
            vertex->subtasks[s].index = s;
        }
        job->task_count += vertex->parallelism;
        struct vertex_edge *edges = NULL;
        vertex->input_count = job_graph_vertex_inputs(graph, v, &edges);
        vertex->inputs = heap_alloc_array(vertex->input_count, sizeof *vertex->inputs);
        for (uint32_t e = 0; e < vertex->input_count; e++) {
            const struct job_edge *edge = &graph->operators[edges[e].target_operator].inputs[edges[e].edge];
            vertex->inputs[e].source_vertex = graph->operators[edges[e].source_operator].vertex;
            vertex->inputs[e].partitioning = edge->partitioning;
        }
        free(edges);
    }
}

/* Slots of a group = the largest parallelism in it; subtask i of each of its vertices shares slot i (semantics.md 8). */
static void slot_groups_create(struct job *job)
{
    const struct job_graph *graph = job->graph;
    job->slot_groups = heap_alloc_array(graph->vertex_count, sizeof *job->slot_groups);
    for (uint32_t v = 0; v < graph->vertex_count; v++) {
        const char *name = graph->operators[graph->vertices[v].operators[0]].slot_sharing_group;
        if (name == NULL)
            name = "default";
        uint32_t g = 0;
        while (g < job->slot_group_count && strcmp(job->slot_groups[g].name, name) != 0)
            g++;
        struct slot_group *group = &job->slot_groups[g];
        if (g == job->slot_group_count) {
            job->slot_group_count++;
            group->name = heap_strdup(name);
            group->id = coordinator_random_id(job->coordinator);
        }
        if (group->size < job->vertices[v].parallelism)
            group->size = job->vertices[v].parallelism;
        job->vertices[v].slot_group = g;
    }
    for (uint32_t g = 0; g < job->slot_group_count; g++) {
        job->slot_groups[g].first_slot = job->slot_count;
        job->slot_count += job->slot_groups[g].size;
    }
    job->slots = heap_alloc_array(job->slot_count, sizeof *job->slots);
}

struct job *job_create(struct coordinator *coordinator, struct job_graph *graph, int64_t now_ms)
{
    struct job *job = heap_new(struct job);
    job->id = graph->job_id;
    job->coordinator = coordinator;
    job->graph = graph;
    job->graph_attempt = heap_strdup(id_format(coordinator_random_id(coordinator)).hex);
    job->state = JOB_INITIALIZING;
    job->timestamps[JOB_INITIALIZING] = now_ms;
    job->start_ms = now_ms;
    job->end_ms = -1;
    job->books_balance = true;
    job->is_stoppable = false;
    job->next_checkpoint_id = 1;
    job->slot_deadline_ms = job->restart_at_ms = job->next_checkpoint_ms = job->kill_deadline_ms = INT64_MAX;
    job->next_deadline_ms = INT64_MAX;
    vertices_create(job);
    slot_groups_create(job);
    return job;
}

static void execution_destroy(struct execution *execution)
{
    if (execution == NULL)
        return;
    free(execution->id);
    free(execution->taskmanager_id);
    free(execution->host);
    free(execution->failure);
    free(execution->final_directory);
    json_decref(execution->metrics);
    json_decref(execution->final_state);
    json_decref(execution->final_books);
    free(execution);
}

static void vertex_finish(struct job_task_vertex *vertex)
{
    for (uint32_t s = 0; s < vertex->parallelism; s++) {
        struct job_subtask *subtask = &vertex->subtasks[s];
        execution_destroy(subtask->current);
        for (uint32_t i = 0; i < subtask->past_count; i++)
            execution_destroy(subtask->past[i]);
        free(subtask->past);
    }
    free(vertex->subtasks);
    free(vertex->inputs);
}

static void exceptions_finish(struct job *job)
{
    for (size_t i = 0; i < job->exceptions.count; i++) {
        struct exception_entry *entry = &job->exceptions.items[i];
        free(entry->name);
        free(entry->text);
        free(entry->task_name);
        free(entry->location);
        free(entry->taskmanager_id);
    }
    vec_finish(&job->exceptions);
}

static void job_checkpoints_finish(struct job *job)
{
    for (size_t i = 0; i < job->pending.count; i++)
        checkpoint_unref(job->pending.items[i]);
    vec_finish(&job->pending);
    for (size_t i = 0; i < job->retained.count; i++)
        checkpoint_unref(job->retained.items[i]);
    vec_finish(&job->retained);
    for (size_t i = 0; i < job->orphans.count; i++)
        checkpoint_unref(job->orphans.items[i]);
    vec_finish(&job->orphans);
    checkpoint_unref(job->stop_savepoint);
    checkpoint_stats_finish(&job->checkpoints);
    for (size_t i = 0; i < job->requests.count; i++)
        free(job->requests.items[i].directory);
    vec_finish(&job->requests);
    for (size_t i = 0; i < job->deferred_deletes.count; i++)
        free(job->deferred_deletes.items[i].directory);
    vec_finish(&job->deferred_deletes);
}

void job_destroy(struct job *job)
{
    if (job == NULL)
        return;
    for (uint32_t v = 0; v < job->graph->vertex_count; v++)
        vertex_finish(&job->vertices[v]);
    free(job->vertices);
    for (uint32_t g = 0; g < job->slot_group_count; g++)
        free(job->slot_groups[g].name);
    free(job->slot_groups);
    for (uint32_t i = 0; i < job->slot_count; i++)
        free(job->slots[i].previous_taskmanager);
    free(job->slots);
    job_checkpoints_finish(job);
    exceptions_finish(job);
    hash_map_finish(&job->executions);
    vec_finish(&job->runners);
    restart_state_finish(&job->restart);
    job_settings_finish(&job->settings);
    json_decref(job->config);
    json_decref(job->initial_metadata);
    json_decref(job->books_baseline);
    free(job->initial_path);
    free(job->graph_attempt);
    free(job->failure);
    free(job->failure_class);
    job_graph_destroy(job->graph);
    free(job);
}

uint32_t coordinator_subtask_ordinal(const struct job *job, uint32_t vertex, uint32_t subtask)
{
    uint32_t ordinal = subtask;
    for (uint32_t v = 0; v < vertex; v++)
        ordinal += job->vertices[v].parallelism;
    return ordinal;
}

struct job_subtask *job_subtask(const struct job *job, uint32_t ordinal)
{
    uint32_t v = 0;
    while (ordinal >= job->vertices[v].parallelism)
        ordinal -= job->vertices[v++].parallelism;
    return &job->vertices[v].subtasks[ordinal];
}

/* ---------------------------------------------------------------- executions as data */

static void subtask_next_attempt(struct job *job, struct job_subtask *subtask)
{
    struct execution *before = subtask->current;
    uint32_t history = job->coordinator->settings.attempts_history_size;
    if (before != NULL) {
        check(execution_state_is_terminal(before->state));
        if (subtask->past_count >= history && subtask->past_count > 0) {
            hash_map_remove(&job->executions, subtask->past[0]->id, strlen(subtask->past[0]->id));
            execution_destroy(subtask->past[0]);
            memmove(&subtask->past[0], &subtask->past[1], (subtask->past_count - 1) * sizeof *subtask->past);
            subtask->past_count--;
        }
        subtask->past = heap_realloc(subtask->past, subtask->past_count + 1, sizeof *subtask->past);
        subtask->past[subtask->past_count++] = before;
        job->state_counts[before->state]--;
        subtask->vertex->state_counts[before->state]--;
        json_decref(before->final_state);
        json_decref(before->final_books);
        before->final_state = before->final_books = NULL;
        free(before->final_directory);
        before->final_directory = NULL;
    }
    struct execution *execution = heap_new(struct execution);
    execution->subtask = subtask;
    execution->attempt = before != NULL ? before->attempt + 1 : 0;
    execution->epoch = job->epoch;
    execution->id = heap_printf("%s_%s_%" PRIu32 "_%" PRIu32, job->graph_attempt,
                                id_format(job->graph->vertices[subtask->vertex->index].id).hex, subtask->index, execution->attempt);
    subtask->current = execution;
    hash_map_put(&job->executions, execution->id, strlen(execution->id), execution);
}

void job_create_executions(struct turn *turn, struct job *job)
{
    for (uint32_t v = 0; v < job->graph->vertex_count; v++) {
        struct job_task_vertex *vertex = &job->vertices[v];
        for (uint32_t s = 0; s < vertex->parallelism; s++) {
            subtask_next_attempt(job, &vertex->subtasks[s]);
            vertex->subtasks[s].current->timestamps[EXECUTION_CREATED] = turn->now_ms;
            vertex->state_counts[EXECUTION_CREATED]++;
            job->state_counts[EXECUTION_CREATED]++;
        }
    }
}

struct execution *coordinator_execution(const struct job *job, const char *execution_id)
{
    return hash_map_get(&job->executions, execution_id, strlen(execution_id));
}

char *coordinator_task_name(const struct execution *execution)
{
    const struct job_task_vertex *vertex = execution->subtask->vertex;
    return heap_printf("%s (%" PRIu32 "/%" PRIu32 ")", vertex->job->graph->vertices[vertex->index].name, execution->subtask->index + 1,
                       vertex->parallelism);
}

uint32_t job_live_count(const struct job *job)
{
    return job->task_count - job->state_counts[EXECUTION_FINISHED] - job->state_counts[EXECUTION_CANCELED] -
           job->state_counts[EXECUTION_FAILED];
}

/* Flink's ExecutionJobVertex.getAggregateJobVertexState. */
enum execution_state coordinator_vertex_state(const struct job_task_vertex *vertex)
{
    const uint32_t *counts = vertex->state_counts;
    static const enum execution_state order[] = {EXECUTION_FAILED, EXECUTION_CANCELING, EXECUTION_CANCELED, EXECUTION_INITIALIZING,
                                                 EXECUTION_RUNNING};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        if (counts[order[i]] > 0)
            return order[i];
    }
    if (counts[EXECUTION_FINISHED] > 0)
        return counts[EXECUTION_FINISHED] == vertex->parallelism ? EXECUTION_FINISHED : EXECUTION_RUNNING;
    static const enum execution_state early[] = {EXECUTION_CREATED, EXECUTION_SCHEDULED, EXECUTION_DEPLOYING};
    for (size_t i = 0; i < sizeof early / sizeof early[0]; i++) {
        if (counts[early[i]] > 0)
            return early[i];
    }
    return EXECUTION_CREATED;
}

/* ---------------------------------------------------------------- changes of state */

void job_set_state(struct turn *turn, struct job *job, enum job_state state, const char *cause)
{
    check(job_state_can(job->state, state));
    turn_log(turn, LOG_INFO, "ExecutionGraph", "Job %s (%s) switched from state %s to %s.%s%s", job->graph->name, id_format(job->id).hex,
             job_state_name(job->state), job_state_name(state), cause != NULL ? "\n" : "", cause != NULL ? cause : "");
    job->state = state;
    job->timestamps[state] = turn->now_ms;
    struct action *action = turn_action(turn, ACTION_JOB_STATE, job);
    action->job_state.state = state;
    job_touch(turn, job);
}

void execution_set_state(struct turn *turn, struct execution *execution, enum execution_state state, const char *cause)
{
    check(execution_state_can(execution->state, state));
    struct job_task_vertex *vertex = execution->subtask->vertex;
    struct job *job = vertex->job;
    char *name = coordinator_task_name(execution);
    const char *from = execution_state_name(execution->state), *to = execution_state_name(state);
    if (state != EXECUTION_FAILED)
        turn_log(turn, LOG_INFO, "ExecutionGraph", "%s (%s) switched from %s to %s.", name, execution->id, from, to);
    else if (execution->taskmanager_id == NULL)
        turn_log(turn, LOG_INFO, "ExecutionGraph", "%s (%s) switched from %s to %s on [unassigned resource].\n%s", name, execution->id, from,
                 to, cause != NULL ? cause : "");
    else
        turn_log(turn, LOG_INFO, "ExecutionGraph", "%s (%s) switched from %s to %s on %s @ %s (dataPort=%u).\n%s", name, execution->id, from,
                 to, execution->taskmanager_id, execution->host, execution->data_port, cause != NULL ? cause : "");
    if (state == EXECUTION_FAILED)
        turn_log(turn, LOG_INFO, "ExecutionGraph", "Discarding the results produced by task execution %s.", execution->id);
    free(name);
    check(execution == execution->subtask->current);
    vertex->state_counts[execution->state]--;
    job->state_counts[execution->state]--;
    execution->state = state;
    vertex->state_counts[state]++;
    job->state_counts[state]++;
    execution->timestamps[state] = turn->now_ms;
    if (state == EXECUTION_FAILED && cause != NULL && execution->failure == NULL)
        execution->failure = heap_strdup(cause);
    job_touch(turn, job);
}
