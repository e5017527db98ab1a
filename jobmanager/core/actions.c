/* Building and freeing actions: see coordinator.h. */
#include "jobmanager/core/internal.h"

#include <stdarg.h>
#include <stdio.h>

struct action *turn_action(struct turn *turn, enum action_kind kind, const struct job *job)
{
    struct action action = {.kind = kind};
    if (job != NULL) {
        action.job = job->id;
        action.epoch = job->epoch;
    }
    vec_push(&turn->actions->actions, action);
    return &turn->actions->actions.items[turn->actions->actions.count - 1];
}

void action_address(struct action *action, const struct taskmanager *taskmanager)
{
    action->taskmanager = heap_strdup(taskmanager->id);
    action->connection = taskmanager->connection;
}

void turn_log(struct turn *turn, enum log_level level, const char *logger, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0)
        return;
    struct action *action = turn_action(turn, ACTION_LOG, NULL);
    action->log.level = level;
    action->log.logger = logger;
    action->log.text = text;
}

void turn_delete(struct turn *turn, const struct job *job, uint64_t checkpoint, const char *directory)
{
    struct action *action = turn_action(turn, ACTION_DELETE_DIRECTORY, job);
    action->checkpoint = checkpoint;
    action->delete_directory.directory = heap_strdup(directory);
}

void turn_answer(struct turn *turn, struct id job, struct id trigger_id, enum checkpoint_kind kind, uint64_t checkpoint,
                 const char *location, struct error *error, const char *error_class)
{
    struct action *action = turn_action(turn, ACTION_REQUEST_FINISHED, NULL);
    action->job = job;
    action->checkpoint = checkpoint;
    action->finished.trigger_id = trigger_id;
    action->finished.request = kind;
    action->finished.error = error;
    action->finished.error_class = error != NULL && error_class != NULL ? heap_strdup(error_class) : NULL;
    action->finished.location = location != NULL ? heap_strdup(location) : NULL;
}

static void write_finish(struct action *action)
{
    free(action->write.directory);
    json_decref(action->write.metadata);
    for (uint32_t i = 0; i < action->write.copy_count; i++) {
        free(action->write.copies[i].from);
        free(action->write.copies[i].to);
    }
    free(action->write.copies);
}

static void action_finish(struct action *action)
{
    free(action->taskmanager);
    switch (action->kind) {
    case ACTION_LOG:
        free(action->log.text);
        break;
    case ACTION_DEPLOY:
        json_decref(action->deploy.tasks);
        json_decref(action->deploy.peers);
        break;
    case ACTION_TRIGGER_CHECKPOINT:
        free(action->trigger.directory);
        json_decref(action->trigger.executions);
        break;
    case ACTION_WRITE_METADATA:
        write_finish(action);
        break;
    case ACTION_DELETE_DIRECTORY:
        free(action->delete_directory.directory);
        break;
    case ACTION_REQUEST_FINISHED:
        error_free(action->finished.error);
        free(action->finished.error_class);
        free(action->finished.location);
        break;
    case ACTION_JOB_REMOVED:
        job_destroy(action->job_state.borrowed);
        break;
    case ACTION_TASKMANAGER_ACCEPT:
    case ACTION_TASKMANAGER_CLOSE:
    case ACTION_CANCEL:
    case ACTION_CHECKPOINT_COMPLETE:
    case ACTION_CHECKPOINT_ABORTED:
    case ACTION_JOB_STATE:
        break;
    }
}

void action_list_finish(struct action_list *list)
{
    for (size_t i = 0; i < list->actions.count; i++)
        action_finish(&list->actions.items[i]);
    vec_finish(&list->actions);
}
