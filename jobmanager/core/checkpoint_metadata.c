/* What goes into `_metadata` when all tasks have acknowledged (ARCHITECTURE.md, "State"). Members:
 *   version 1, job_id, job_name, checkpoint_id, kind, timestamp
 *   operators          [{id, uid, name, parallelism, max_parallelism}]
 *   state              [handle …] of all subtasks; paths are relative to the checkpoint's directory
 *   books              {operator: {"<subtask>": books}}
 *   books_baseline     see books_balance.c; only when there is one
 *   vertices_finished  [vertex id …] whose subtasks had all finished */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"

#include <inttypes.h>
#include <stdio.h>

static json_t *operators_json(const struct job_graph *graph)
{
    json_t *operators = json_array();
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        const struct job_operator *operator = &graph->operators[i];
        json_t *json = json_object();
        json_object_set_new(json, "id", json_string(id_format(operator->id).hex));
        json_object_set_new(json, "uid", operator->uid != NULL ? json_string(operator->uid) : json_null());
        json_object_set_new(json, "name", json_string(operator->name != NULL ? operator->name : ""));
        json_object_set_new(json, "parallelism", json_integer(operator->parallelism));
        json_object_set_new(json, "max_parallelism", json_integer(operator->max_parallelism));
        json_array_append_new(operators, json);
    }
    return operators;
}

/* Sums per operator, and all of them by subtask. */
static void collect_books(struct checkpoint *checkpoint, json_t *all, json_t *sums)
{
    for (uint32_t i = 0; i < checkpoint->subtask_count; i++) {
        char subtask[16];
        snprintf(subtask, sizeof subtask, "%" PRIu32, job_subtask(checkpoint->job, i)->index);
        const char *operator;
        json_t *books;
        json_object_foreach(checkpoint->acked_books[i], operator, books) {
            json_t *by_subtask = json_object_get(all, operator);
            if (by_subtask == NULL) {
                by_subtask = json_object();
                json_object_set_new(all, operator, by_subtask);
                json_object_set_new(sums, operator, json_object());
            }
            json_object_set(by_subtask, subtask, books);
            books_sum_add(json_object_get(sums, operator), books);
        }
    }
}

static json_t *finished_vertices(const struct checkpoint *checkpoint)
{
    const struct job *job = checkpoint->job;
    json_t *ids = json_array();
    uint32_t ordinal = 0;
    for (uint32_t v = 0; v < job->graph->vertex_count; v++) {
        bool is_finished = true;
        for (uint32_t s = 0; s < job->vertices[v].parallelism; s++)
            is_finished = is_finished && checkpoint->subtasks[ordinal++].was_finished;
        if (is_finished)
            json_array_append_new(ids, json_string(id_format(job->graph->vertices[v].id).hex));
    }
    return ids;
}

/* The files of tasks that had finished before lie in an older checkpoint's directory. A file may hold several operators. */
static void collect_copies(const struct checkpoint *checkpoint, struct action *write)
{
    VEC(struct file_copy) copies = {0};
    for (uint32_t i = 0; i < checkpoint->subtask_count; i++) {
        const struct execution *execution = job_subtask(checkpoint->job, i)->current;
        if (!checkpoint->subtasks[i].was_finished || strcmp(execution->final_directory, checkpoint->directory) == 0)
            continue;
        size_t first = copies.count, index;
        json_t *handle;
        json_array_foreach(checkpoint->acked_state[i], index, handle) {
            const char *path = json_string_value(json_object_get(handle, "path"));
            if (path == NULL)
                continue;
            struct file_copy copy = {.from = heap_printf("%s/%s", execution->final_directory, path),
                                     .to = heap_printf("%s/%s", checkpoint->directory, path)};
            bool is_there = false;
            for (size_t c = first; c < copies.count; c++)
                is_there = is_there || strcmp(copies.items[c].to, copy.to) == 0;
            if (is_there) {
                free(copy.from);
                free(copy.to);
            } else {
                vec_push(&copies, copy);
            }
        }
    }
    write->write.copies = copies.items;
    write->write.copy_count = (uint32_t)copies.count;
}

void checkpoint_build_metadata(struct checkpoint *checkpoint, struct action *write)
{
    const struct job *job = checkpoint->job;
    json_t *state = json_array(), *books = json_object(), *sums = json_object();
    for (uint32_t i = 0; i < checkpoint->subtask_count; i++) {
        if (checkpoint->acked_state[i] != NULL)
            json_array_extend(state, checkpoint->acked_state[i]);
    }
    collect_books(checkpoint, books, sums);
    collect_copies(checkpoint, write);
    json_t *metadata = json_object();
    json_object_set_new(metadata, "version", json_integer(1));
    json_object_set_new(metadata, "job_id", json_string(id_format(job->id).hex));
    json_object_set_new(metadata, "job_name", json_string(job->graph->name));
    json_object_set_new(metadata, "checkpoint_id", json_integer((json_int_t)checkpoint->id));
    json_object_set_new(metadata, "kind", json_string(checkpoint_kind_name(checkpoint->kind)));
    json_object_set_new(metadata, "timestamp", json_integer(checkpoint->trigger_ms));
    json_object_set_new(metadata, "operators", operators_json(job->graph));
    json_object_set_new(metadata, "state", state);
    json_object_set_new(metadata, "books", books);
    if (job->books_baseline != NULL)
        json_object_set(metadata, "books_baseline", job->books_baseline);
    json_object_set_new(metadata, "vertices_finished", finished_vertices(checkpoint));
    checkpoint->metadata = metadata;
    checkpoint->books = sums;
    /* Without alignment the cut of the counts is not a cut of the stream: nothing to compare. */
    checkpoint->books_faults = job->settings.is_exactly_once ? books_balance_check(job, sums) : NULL;
    checkpoint->books_balance = checkpoint->books_faults == NULL;
    write->write.directory = heap_strdup(checkpoint->directory);
    write->write.metadata = json_incref(metadata);
}
