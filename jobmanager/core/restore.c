/* From a checkpoint to the tasks of the next attempt: which checkpoint, whether the graph can take it, and who gets what
 * (ARCHITECTURE.md, "State"; semantics.md 5 and 6). State maps by operator id. */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"

#include <inttypes.h>
#include <stdio.h>

struct restore_source restore_choose(const struct job *job)
{
    if (job->retained.count > 0) {
        const struct checkpoint *checkpoint = job->retained.items[job->retained.count - 1];
        return (struct restore_source){.id = checkpoint->id,
                                       .directory = checkpoint->directory,
                                       .metadata = checkpoint->metadata,
                                       .is_savepoint = checkpoint->kind != CHECKPOINT_KIND_CHECKPOINT,
                                       .timestamp_ms = checkpoint->trigger_ms};
    }
    if (job->initial_metadata != NULL && !job->initial_is_damaged)
        return (struct restore_source){.id = (uint64_t)json_integer_value(json_object_get(job->initial_metadata, "checkpoint_id")),
                                       .directory = job->initial_path,
                                       .metadata = job->initial_metadata,
                                       .is_savepoint = job->initial_is_savepoint,
                                       .timestamp_ms = json_integer_value(json_object_get(job->initial_metadata, "timestamp"))};
    return (struct restore_source){0};
}

/* ---------------------------------------------------------------- whether it fits */

static struct job_operator *operator_by_hex(const struct job_graph *graph, const char *hex)
{
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        if (strcmp(id_format(graph->operators[i].id).hex, hex) == 0)
            return &graph->operators[i];
    }
    return NULL;
}

static struct error *check_max_parallelism(struct job *job, struct job_operator *operator, uint32_t stored)
{
    if (stored == 0 || stored == operator->max_parallelism)
        return NULL;
    struct id_text hex = id_format(operator->id);
    struct job_vertex *vertex = &job->graph->vertices[operator->vertex];
    if (stored < operator->parallelism)
        return error_new(INVALID_ARGUMENT,
                         "The state for task %s can not be restored. The maximum parallelism (%" PRIu32
                         ") of the restored state is lower than the configured parallelism (%" PRIu32
                         "). Please reduce the parallelism of the task to be lower or equal to the maximum parallelism.",
                         vertex->name, stored, operator->parallelism);
    if (operator->max_parallelism != max_parallelism_default(operator->parallelism))
        return error_new(INVALID_ARGUMENT,
                         "Max parallelism mismatch between checkpoint/savepoint state and new program. Cannot map operator %s with max parallelism "
                         "%" PRIu32 " to new program with max parallelism %" PRIu32
                         ". This indicates that the program has been changed in a non-compatible way after the checkpoint/savepoint.",
                         hex.hex, stored, operator->max_parallelism);
    /* The program only has the default: key groups stay as they were. */
    for (uint32_t i = 0; i < vertex->operator_count; i++)
        job->graph->operators[vertex->operators[i]].max_parallelism = stored;
    vertex->max_parallelism = stored;
    return NULL;
}

static bool has_state(const json_t *metadata, const char *operator_hex)
{
    size_t index;
    json_t *handle;
    json_array_foreach(json_object_get(metadata, "state"), index, handle) {
        const char *hex = json_string_value(json_object_get(handle, "operator"));
        if (hex != NULL && strcmp(hex, operator_hex) == 0)
            return true;
    }
    return false;
}

static json_t *sum_books(const json_t *metadata)
{
    json_t *sums = json_object();
    const char *operator, *subtask;
    json_t *by_subtask, *books;
    json_object_foreach(json_object_get(metadata, "books"), operator, by_subtask) {
        json_t *sum = json_object();
        json_object_set_new(sums, operator, sum);
        json_object_foreach(by_subtask, subtask, books)
            books_sum_add(sum, books);
    }
    return sums;
}

/* 0: the metadata does not know the operator. */
static uint32_t stored_parallelism(const json_t *metadata, const char *hex)
{
    size_t index;
    json_t *operator;
    json_array_foreach(json_object_get(metadata, "operators"), index, operator) {
        const char *id = json_string_value(json_object_get(operator, "id"));
        if (id != NULL && strcmp(id, hex) == 0)
            return (uint32_t)json_integer_value(json_object_get(operator, "parallelism"));
    }
    return 0;
}

/* Rows that were broadcast count once per subtask of then. */
static bool rescales_broadcast(const struct job *job, const json_t *metadata)
{
    for (uint32_t i = 0; i < job->graph->operator_count; i++) {
        const struct job_operator *operator = &job->graph->operators[i];
        for (uint32_t e = 0; e < operator->input_count; e++) {
            if (operator->inputs[e].partitioning == PARTITION_BROADCAST &&
                stored_parallelism(metadata, id_format(operator->id).hex) != operator->parallelism)
                return true;
        }
    }
    return false;
}

/* A graph with other operators than the savepoint's does not balance from the start. */
static void take_baseline(struct job *job, const json_t *metadata, bool is_same_graph)
{
    if (is_same_graph) {
        job->books_baseline = json_keep(json_object_get(metadata, "books_baseline"));
        return;
    }
    json_t *sums = sum_books(metadata);
    job->books_baseline = books_balance_baseline(job, sums);
    json_decref(sums);
}

struct error *restore_check(struct turn *turn, struct job *job, const json_t *metadata, const char *path, bool allow_non_restored)
{
    const json_t *operators = json_object_get(metadata, "operators");
    if (!json_is_array(operators) || !json_is_array(json_object_get(metadata, "state")))
        return error_new(CORRUPT, "the metadata of %s lacks its operators or their state", path);
    size_t index, matched = 0;
    json_t *stored;
    json_array_foreach(operators, index, stored) {
        const char *hex = json_string_value(json_object_get(stored, "id"));
        if (hex == NULL)
            return error_new(CORRUPT, "the metadata of %s names an operator without an id", path);
        struct job_operator *operator = operator_by_hex(job->graph, hex);
        if (operator != NULL) {
            matched++;
            TRY(check_max_parallelism(job, operator, (uint32_t)json_integer_value(json_object_get(stored, "max_parallelism"))));
            continue;
        }
        if (!has_state(metadata, hex))
            continue;
        if (!allow_non_restored)
            return error_new(INVALID_ARGUMENT,
                             "Failed to rollback to checkpoint/savepoint %s. Cannot map checkpoint/savepoint state for operator %s to the "
                             "new program, because the operator is not available in the new program. If you want to allow to skip this, "
                             "you can set the --allowNonRestoredState option on the CLI.",
                             path, hex);
        turn_log(turn, LOG_INFO, "CheckpointCoordinator", "Skipping savepoint state for operator %s.", hex);
    }
    bool is_same_graph = matched == job->graph->operator_count && matched == json_array_size(operators);
    take_baseline(job, metadata, is_same_graph && !rescales_broadcast(job, metadata));
    return NULL;
}

/* ---------------------------------------------------------------- who gets what */

void restore_plan_init(struct restore_plan *plan, const struct job *job)
{
    *plan = (struct restore_plan){.source = restore_choose(job)};
    if (plan->source.metadata == NULL)
        return;
    plan->handles = json_object();
    size_t index;
    json_t *handle;
    json_array_foreach(json_object_get(plan->source.metadata, "state"), index, handle) {
        const char *hex = json_string_value(json_object_get(handle, "operator"));
        if (hex == NULL)
            continue;
        json_t *list = json_object_get(plan->handles, hex);
        if (list == NULL) {
            list = json_array();
            json_object_set_new(plan->handles, hex, list);
        }
        json_array_append(list, handle);
    }
}

void restore_plan_finish(struct restore_plan *plan)
{
    json_decref(plan->handles);
}

/* A handle that says it holds keyed state only (`kinds`) goes to those whose key groups it meets; list and union state
 * goes to everyone: item i of a list belongs to subtask i modulo the parallelism, which the subtask itself works out. */
static bool handle_is_for(const json_t *handle, uint32_t first, uint32_t last)
{
    const json_t *kinds = json_object_get(handle, "kinds");
    size_t index;
    json_t *kind;
    if (!json_is_array(kinds))
        return true;
    json_array_foreach(kinds, index, kind) {
        if (!json_is_string(kind) || strcmp(json_string_value(kind), "keyed") != 0)
            return true;
    }
    return (uint32_t)json_integer_value(json_object_get(handle, "key_group_first")) <= last &&
           (uint32_t)json_integer_value(json_object_get(handle, "key_group_last")) >= first;
}

static json_t *handles_for(const json_t *handles, uint32_t first, uint32_t last)
{
    json_t *mine = json_array();
    size_t index;
    json_t *handle;
    json_array_foreach(handles, index, handle) {
        if (handle_is_for(handle, first, last))
            json_array_append(mine, handle);
    }
    return mine;
}

/* The subtask's own counts; after a rescale all of the operator's go to subtask 0. */
static json_t *books_for(const json_t *by_subtask, uint32_t stored_parallelism, uint32_t parallelism, uint32_t subtask)
{
    char key[16];
    snprintf(key, sizeof key, "%" PRIu32, subtask);
    if (stored_parallelism == parallelism)
        return json_keep(json_object_get(by_subtask, key));
    if (subtask != 0)
        return NULL;
    json_t *sum = json_object();
    const char *name;
    json_t *books;
    json_object_foreach((json_t *)(uintptr_t)by_subtask, name, books)
        books_sum_add(sum, books);
    return sum;
}

json_t *restore_plan_task(const struct restore_plan *plan, const struct job *job, uint32_t vertex_index, uint32_t subtask)
{
    if (plan->source.metadata == NULL)
        return NULL;
    const struct job_vertex *vertex = &job->graph->vertices[vertex_index];
    uint32_t first, last;
    key_group_range(subtask, vertex->max_parallelism, vertex->parallelism, &first, &last);
    json_t *handles = json_object(), *books = json_object();
    for (uint32_t i = 0; i < vertex->operator_count; i++) {
        struct id_text hex = id_format(job->graph->operators[vertex->operators[i]].id);
        const json_t *all = json_object_get(plan->handles, hex.hex);
        if (all != NULL)
            json_object_set_new(handles, hex.hex, handles_for(all, first, last));
        const json_t *by_subtask = json_object_get(json_object_get(plan->source.metadata, "books"), hex.hex);
        json_t *mine = NULL;
        if (by_subtask != NULL)
            mine = books_for(by_subtask, stored_parallelism(plan->source.metadata, hex.hex), vertex->parallelism, subtask);
        if (mine != NULL)
            json_object_set_new(books, hex.hex, mine);
    }
    json_t *restore = json_object();
    json_object_set_new(restore, "checkpoint", json_integer((json_int_t)plan->source.id));
    json_object_set_new(restore, "directory", json_string(plan->source.directory));
    json_object_set_new(restore, "handles", handles);
    json_object_set_new(restore, "books", books);
    return restore;
}
