/* The daemon's part of the simulated world: actions of the core become messages and files, messages become events. Slow,
 * failing and reordered where the real one may be: in order on one connection, not between two. */
#include "tests/sim/sim.h"

#include "common/base/check.h"

#include <inttypes.h>

struct sim_item *sim_item_create(void)
{
    return heap_new(struct sim_item);
}

void sim_item_destroy(struct sim_item *item)
{
    free(item->execution);
    free(item->text);
    error_free(item->error);
    json_decref(item->json);
    json_decref(item->json2);
    if (item->has_action) {
        struct action_list list = {0};
        vec_push(&list.actions, item->action);
        action_list_finish(&list);
    }
    free(item);
}

/* ---------------------------------------------------------------- disk */

struct sim_directory *sim_directory(struct sim *sim, const char *path, bool create)
{
    for (size_t i = 0; i < sim->directories.count; i++) {
        if (strcmp(sim->directories.items[i].path, path) == 0)
            return &sim->directories.items[i];
    }
    if (!create)
        return NULL;
    struct sim_directory directory = {.path = heap_strdup(path)};
    vec_push(&sim->directories, directory);
    return &sim->directories.items[sim->directories.count - 1];
}

struct sim_file *sim_file_write(struct sim *sim, const char *directory, const char *path, uint64_t token)
{
    for (size_t i = 0; i < sim->files.count; i++) {
        struct sim_file *file = &sim->files.items[i];
        if (strcmp(file->path, path) == 0 && strcmp(file->directory, directory) == 0) {
            file->token = token;
            return file;
        }
    }
    struct sim_file file = {.directory = heap_strdup(directory), .path = heap_strdup(path), .token = token};
    vec_push(&sim->files, file);
    return &sim->files.items[sim->files.count - 1];
}

void sim_file_remove(struct sim *sim, size_t index)
{
    free(sim->files.items[index].directory);
    free(sim->files.items[index].path);
    sim->files.items[index] = sim->files.items[--sim->files.count];
}

bool sim_disk_has(const struct sim *sim, const char *directory)
{
    for (size_t i = 0; i < sim->directories.count; i++) {
        if (strcmp(sim->directories.items[i].path, directory) == 0)
            return true;
    }
    for (size_t i = 0; i < sim->files.count; i++) {
        const struct sim_file *file = &sim->files.items[i];
        if (strcmp(file->directory, directory) == 0 && (file->writer == NULL || file->writer->is_confirmed_gone))
            return true;
    }
    return false;
}

uint64_t sim_file_token(const struct sim *sim, const char *directory, const char *path)
{
    for (size_t i = 0; i < sim->files.count; i++) {
        const struct sim_file *file = &sim->files.items[i];
        if (strcmp(file->path, path) == 0 && strcmp(file->directory, directory) == 0)
            return file->token;
    }
    return 0;
}

static bool is_below(const char *path, const char *directory)
{
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

static void disk_delete(struct sim *sim, const char *path)
{
    for (size_t i = 0; i < sim->directories.count;) {
        if (!is_below(sim->directories.items[i].path, path)) {
            i++;
            continue;
        }
        free(sim->directories.items[i].path);
        json_decref(sim->directories.items[i].metadata);
        sim->directories.items[i] = sim->directories.items[--sim->directories.count];
    }
    for (size_t i = 0; i < sim->files.count;) {
        if (!is_below(sim->files.items[i].directory, path)) {
            i++;
            continue;
        }
        sim_file_remove(sim, i);
    }
}

void sim_disk_finish(struct sim *sim)
{
    disk_delete(sim, "/disk");
    check(sim->files.count == 0 && sim->directories.count == 0);
    vec_finish(&sim->files);
    vec_finish(&sim->directories);
}

/* ---------------------------------------------------------------- from the taskmanagers */

/* TCP keeps what cannot be delivered, in order, until it can or the connection is given up. */
static bool hold(struct sim *sim, struct sim_item *item, bool is_blocked, int64_t *hold_ms)
{
    if (!is_blocked && *hold_ms <= sim->now_ms)
        return false;
    if (*hold_ms <= sim->now_ms)
        *hold_ms = sim->now_ms + 500;
    struct sim_item *again = sim_at(sim, *hold_ms, item->run);
    struct sim_item copy = *item;
    copy.time_ms = again->time_ms;
    copy.seq = again->seq;
    *again = copy;
    *item = (struct sim_item){.run = item->run};
    return true;
}

static void deliver_to_jm(struct sim *sim, struct sim_item *item)
{
    struct sim_taskmanager *taskmanager = item->taskmanager;
    if (item->connection == taskmanager->connection && hold(sim, item, taskmanager->is_cut, &taskmanager->jm_hold_ms))
        return;
    if (item->connection != taskmanager->connection || !taskmanager->jm_open)
        return;
    if (item->event.kind == EVENT_TASKMANAGER_HEARTBEAT) {
        if (!taskmanager->is_stopped && taskmanager->is_connected)
            world_heartbeat_answered(sim, taskmanager, sim->now_ms);
    }
    if (sim->injection == INJECT_SLOT_LEAK && item->event.kind == EVENT_RUNNER_GONE)
        return;
    if (item->event.kind == EVENT_RUNNER_GONE && item->runner != NULL)
        item->runner->is_confirmed_gone = true;
    sim_event(sim, &item->event);
}

void sim_send_to_jm(struct sim *sim, struct sim_taskmanager *taskmanager, struct sim_item *item)
{
    if (!taskmanager->is_connected) {
        sim_item_destroy(item);
        return;
    }
    int64_t at = sim->now_ms + (sim_faulty(sim, 3) ? sim_between(sim, 0, 400) : sim_between(sim, 0, 5));
    if (at < taskmanager->to_jm_ms)
        at = taskmanager->to_jm_ms;
    taskmanager->to_jm_ms = at;
    struct sim_item *scheduled = sim_at(sim, at, deliver_to_jm);
    item->time_ms = at;
    item->seq = scheduled->seq;
    item->run = deliver_to_jm;
    item->taskmanager = taskmanager;
    item->connection = taskmanager->connection;
    item->sent_ms = sim->now_ms;
    *scheduled = *item;
    free(item);
}

static void jm_sees_close(struct sim *sim, struct sim_item *item)
{
    struct sim_taskmanager *taskmanager = item->taskmanager;
    struct event event = {.kind = EVENT_TASKMANAGER_CLOSED, .taskmanager = {.taskmanager = taskmanager->id, .connection = item->connection}};
    if (item->connection == taskmanager->connection)
        taskmanager->jm_open = false;
    sim_event(sim, &event);
}

void sim_close(struct sim *sim, struct sim_taskmanager *taskmanager, int64_t jm_delay_ms)
{
    if (taskmanager->connection == 0)
        return;
    struct sim_item *item = sim_at(sim, sim->now_ms + jm_delay_ms, jm_sees_close);
    item->taskmanager = taskmanager;
    item->connection = taskmanager->connection;
}

/* ---------------------------------------------------------------- to the taskmanagers */

static void deliver_to_tm(struct sim *sim, struct sim_item *item)
{
    struct sim_taskmanager *taskmanager = item->taskmanager;
    if (item->connection != taskmanager->connection || !taskmanager->is_connected || !taskmanager->is_alive)
        return;
    if (hold(sim, item, taskmanager->is_cut || taskmanager->is_stopped, &taskmanager->tm_hold_ms))
        return;
    if (item->has_action && item->action.kind == ACTION_TASKMANAGER_CLOSE)
        world_connection_ended(sim, taskmanager);
    else
        world_message(sim, taskmanager, item);
}

static struct sim_taskmanager *taskmanager_by_id(struct sim *sim, const char *id)
{
    for (uint32_t i = 0; i < sim->taskmanager_count; i++) {
        if (strcmp(sim->taskmanagers[i].id, id) == 0)
            return &sim->taskmanagers[i];
    }
    check(false);
    return NULL;
}

static void send_to_tm(struct sim *sim, struct action *action)
{
    struct sim_taskmanager *taskmanager = taskmanager_by_id(sim, action->taskmanager);
    if (action->connection != taskmanager->connection)
        return;
    if (sim->injection == INJECT_NO_KILL_WAIT && action->kind == ACTION_CANCEL && action->cancel.is_kill) {
        struct sim_item *item = sim_item_create();
        item->event = (struct event){.kind = EVENT_RUNNER_GONE,
                                     .runner_gone = {.taskmanager = taskmanager->id, .connection = taskmanager->connection,
                                                     .job = action->job, .epoch = action->epoch}};
        sim_send_to_jm(sim, taskmanager, item);
    }
    if (action->kind == ACTION_TASKMANAGER_CLOSE)
        taskmanager->jm_open = false;
    int64_t at = sim->now_ms + (sim_faulty(sim, 3) ? sim_between(sim, 0, 400) : sim_between(sim, 0, 5));
    if (at < taskmanager->to_tm_ms)
        at = taskmanager->to_tm_ms;
    taskmanager->to_tm_ms = at;
    struct sim_item *item = sim_at(sim, at, deliver_to_tm);
    item->taskmanager = taskmanager;
    item->connection = action->connection;
    item->action = *action;
    item->has_action = true;
    *action = (struct action){.kind = ACTION_JOB_STATE}; /* moved */
}

/* ---------------------------------------------------------------- files and answers */

/* Whether the core still counts on the checkpoint; it may have given it up meanwhile. */
static bool is_awaited(const struct sim *sim, const struct action *action)
{
    const struct job *job = coordinator_job(sim->coordinator, action->job);
    const struct checkpoint *checkpoint = job != NULL ? coordinator_checkpoint(job, action->checkpoint) : NULL;
    return checkpoint != NULL && checkpoint->state == CHECKPOINT_FINALIZING;
}

static struct error *disk_write_metadata(struct sim *sim, struct action *action)
{
    for (uint32_t i = 0; i < action->write.copy_count; i++) {
        const char *from = action->write.copies[i].from, *to = action->write.copies[i].to;
        const char *from_name = strrchr(from, '/'), *to_name = strrchr(to, '/');
        char *from_directory = heap_strndup(from, (size_t)(from_name - from)), *to_directory = heap_strndup(to, (size_t)(to_name - to));
        uint64_t token = sim_file_token(sim, from_directory, from_name + 1);
        if (token != 0)
            (void)sim_file_write(sim, to_directory, to_name + 1, token);
        else if (is_awaited(sim, action))
            sim_fail(sim, "checkpoint %" PRIu64 " carries %s, which is gone", action->checkpoint, from);
        free(from_directory);
        free(to_directory);
        if (token == 0)
            return error_new(NOT_FOUND, "no file to copy");
    }
    struct sim_directory *directory = sim_directory(sim, action->write.directory, true);
    json_decref(directory->metadata);
    directory->metadata = json_incref(action->write.metadata);
    struct sim_checkpoint *checkpoint = sim_checkpoint(sim_job_by_id(sim, action->job), action->checkpoint);
    checkpoint->was_written = true;
    checkpoint->state_count = json_array_size(json_object_get(action->write.metadata, "state"));
    return NULL;
}

static void metadata_done(struct sim *sim, struct sim_item *item)
{
    struct error *err = sim_faulty(sim, 4) ? error_new(IO, "disk full") : disk_write_metadata(sim, &item->action);
    struct event event = {.kind = EVENT_METADATA_WRITTEN,
                          .metadata_written = {.job = item->action.job, .checkpoint = item->action.checkpoint, .error = err}};
    if (sim->injection != INJECT_EARLY_COMMIT)
        sim_event(sim, &event);
    error_free(err);
}

static void write_metadata(struct sim *sim, struct action *action)
{
    if (sim->injection == INJECT_EARLY_COMMIT) {
        struct event event = {.kind = EVENT_METADATA_WRITTEN, .metadata_written = {.job = action->job, .checkpoint = action->checkpoint}};
        struct sim_item *item = sim_at(sim, sim->now_ms + 2000, metadata_done);
        item->action = *action;
        item->has_action = true;
        *action = (struct action){.kind = ACTION_JOB_STATE};
        sim_event(sim, &event);
        return;
    }
    struct sim_item *item = sim_at(sim, sim->now_ms + (sim_faulty(sim, 5) ? sim_between(sim, 100, 9000) : sim_between(sim, 0, 10)), metadata_done);
    item->action = *action;
    item->has_action = true;
    *action = (struct action){.kind = ACTION_JOB_STATE};
}

static void delete_done(struct sim *sim, struct sim_item *item)
{
    disk_delete(sim, item->text);
    if (!id_is_zero(item->action.delete_directory.trigger_id))
        sim_answered(sim, item->action.delete_directory.trigger_id);
}

static void delete_directory(struct sim *sim, struct action *action)
{
    if (sim->injection == INJECT_LOST_DELETE && sim_random(sim) % 8 == 0)
        return;
    struct sim_item *item = sim_at(sim, sim->now_ms + sim_between(sim, 0, 20), delete_done);
    item->text = heap_strdup(action->delete_directory.directory);
    item->action.delete_directory.trigger_id = action->delete_directory.trigger_id;
    struct sim_job *job = sim_job_by_id(sim, action->job);
    if (sim->injection == INJECT_DELETE_LATEST && job != NULL && job->committed != 0) {
        struct sim_checkpoint *latest = sim_checkpoint(job, job->committed);
        free(item->text);
        item->text = heap_strdup(latest->directory);
    }
}

static void request_finished(struct sim *sim, const struct action *action)
{
    for (size_t i = 0; i < sim->requests.count; i++) {
        if (!id_equals(sim->requests.items[i].id, action->finished.trigger_id))
            continue;
        if (++sim->requests.items[i].answers > 1)
            sim_fail(sim, "request %zu was answered twice", i);
        if (action->finished.error != NULL) {
            sim_trace(sim, "request %zu failed: %s", i, action->finished.error->message);
            return;
        }
        const struct sim_directory *directory = sim_directory(sim, action->finished.location, false);
        if (directory == NULL || directory->metadata == NULL)
            sim_fail(sim, "request %zu was answered with %s, which has no metadata", i, action->finished.location);
        sim_trace(sim, "request %zu: %s", i, action->finished.location);
        struct sim_job *job = sim_job_by_id(sim, action->job);
        if (action->finished.request != CHECKPOINT_KIND_CHECKPOINT && sim->now_ms < sim->faults_end_ms && sim_chance(sim, 60))
            sim_submit(sim, action->finished.location, job, action->finished.request != CHECKPOINT_KIND_SAVEPOINT && sim_chance(sim, 40));
        return;
    }
    sim_fail(sim, "an answer to a request that nobody made");
}

static void note_trigger(struct sim *sim, const struct action *action)
{
    struct sim_job *job = sim_job_by_id(sim, action->job);
    struct sim_checkpoint *known = sim_checkpoint(job, action->checkpoint);
    if (known != NULL) {
        if (strcmp(known->directory, action->trigger.directory) != 0)
            sim_fail(sim, "checkpoint id %" PRIu64 " of job %u was used twice", action->checkpoint, job->index);
        return;
    }
    if (job->checkpoints.count > 0 && job->checkpoints.items[job->checkpoints.count - 1].id >= action->checkpoint)
        sim_fail(sim, "checkpoint id %" PRIu64 " of job %u does not increase", action->checkpoint, job->index);
    /* Pending ones are looked at as the core has them now: one that failed in this turn is not among them. */
    if (job->is_unaligned && coordinator_job(sim->coordinator, job->id)->pending.count > 1)
        sim_fail(sim, "unaligned checkpoint %" PRIu64 " of job %u begins beside another one", action->checkpoint, job->index);
    struct sim_checkpoint checkpoint = {.id = action->checkpoint, .kind = action->trigger.kind, .directory = heap_strdup(action->trigger.directory)};
    vec_push(&job->checkpoints, checkpoint);
}

static void log_completed(struct sim *sim, const char *text)
{
    if (strncmp(text, "Completed checkpoint", 20) == 0)
        sim->checkpoints_completed++;
    if (strncmp(text, "Restoring job", 13) == 0)
        sim->restores++;
    if (strncmp(text, "The books", 9) == 0)
        sim_fail(sim, "%s", text);
}

static void run_action(struct sim *sim, struct action *action)
{
    switch (action->kind) {
    case ACTION_LOG:
        log_completed(sim, action->log.text);
        sim_trace(sim, "%s - %s", action->log.logger, action->log.text);
        break;
    case ACTION_TASKMANAGER_ACCEPT:
    case ACTION_JOB_STATE:
    case ACTION_JOB_REMOVED:
        break;
    case ACTION_TRIGGER_CHECKPOINT:
        note_trigger(sim, action);
        send_to_tm(sim, action);
        break;
    case ACTION_TASKMANAGER_CLOSE:
    case ACTION_DEPLOY:
    case ACTION_CANCEL:
    case ACTION_CHECKPOINT_COMPLETE:
    case ACTION_CHECKPOINT_ABORTED:
        send_to_tm(sim, action);
        break;
    case ACTION_WRITE_METADATA:
        write_metadata(sim, action);
        break;
    case ACTION_DELETE_DIRECTORY:
        delete_directory(sim, action);
        break;
    case ACTION_REQUEST_FINISHED:
        request_finished(sim, action);
        break;
    }
}

void sim_event(struct sim *sim, const struct event *event)
{
    struct action_list actions = {0};
    sim->events++;
    coordinator_handle(sim->coordinator, event, sim->now_ms, &actions);
    coordinator_verify(sim->coordinator);
    for (size_t i = 0; i < actions.actions.count; i++)
        run_action(sim, &actions.actions.items[i]);
    action_list_finish(&actions);
}
