/* Agents, runners and tasks of the simulated world, and the invariants that are checked where things happen. Tasks pass
 * barriers from vertex to vertex (everyone to everyone), snapshot when aligned, and end like the real ones: at the
 * completion of a checkpoint that holds their last state. */
#include "tests/sim/sim.h"

#include "common/base/check.h"

#include <inttypes.h>
#include <stdio.h>

#define HEARTBEAT_MS 10000
#define TIMEOUT_MS 50000

struct sim_job *sim_job_by_id(struct sim *sim, struct id id)
{
    for (uint32_t i = 0; i < sim->job_count; i++) {
        if (id_equals(sim->jobs[i].id, id))
            return &sim->jobs[i];
    }
    return NULL;
}

struct sim_checkpoint *sim_checkpoint(struct sim_job *job, uint64_t id)
{
    for (size_t i = job->checkpoints.count; i > 0; i--) {
        if (job->checkpoints.items[i - 1].id == id)
            return &job->checkpoints.items[i - 1];
    }
    return NULL;
}

static bool task_lives(const struct sim_task *task)
{
    return task->runner->is_alive && !execution_state_is_terminal(task->state);
}

static uint32_t ordinal_of(const struct sim_job *job, uint32_t vertex, uint32_t subtask)
{
    for (uint32_t v = 0; v < vertex; v++)
        subtask += job->parallelism[v];
    return subtask;
}

/* ---------------------------------------------------------------- reports */

static void report_state(struct sim *sim, struct sim_task *task, enum execution_state state, struct error *error)
{
    struct sim_runner *runner = task->runner;
    task->state = state;
    struct sim_item *item = sim_item_create();
    item->execution = heap_strdup(task->execution);
    item->error = error;
    item->event = (struct event){.kind = EVENT_TASK_STATE,
                                 .task_state = {.taskmanager = runner->taskmanager->id, .connection = runner->taskmanager->connection,
                                                .job = runner->job->id,
                                                .epoch = runner->epoch, .execution = item->execution, .state = state, .error = error}};
    sim_send_to_jm(sim, runner->taskmanager, item);
}

/* runner: NULL when there is none (any more). */
static void report_gone(struct sim *sim, struct sim_taskmanager *taskmanager, struct sim_runner *runner, struct id job, uint64_t epoch)
{
    struct sim_item *item = sim_item_create();
    item->runner = runner;
    item->event = (struct event){.kind = EVENT_RUNNER_GONE,
                                 .runner_gone = {.taskmanager = taskmanager->id, .connection = taskmanager->connection, .job = job, .epoch = epoch}};
    sim_send_to_jm(sim, taskmanager, item);
}

/* ---------------------------------------------------------------- runners */

static void runner_end(struct sim *sim, struct sim_runner *runner, bool is_reported, enum execution_state state)
{
    if (!runner->is_alive)
        return;
    for (size_t i = 0; i < runner->tasks.count; i++) {
        struct sim_task *task = runner->tasks.items[i];
        if (!task_lives(task))
            continue;
        if (is_reported)
            report_state(sim, task, state, state == EXECUTION_FAILED ? error_new(TASK_LOST, "the runner crashed") : NULL);
        else
            task->state = EXECUTION_CANCELED;
    }
    runner->is_alive = false;
    if (is_reported)
        report_gone(sim, runner->taskmanager, runner, runner->job->id, runner->epoch);
}

static void runner_killed(struct sim *sim, struct sim_item *item)
{
    runner_end(sim, item->runner, true, EXECUTION_CANCELED);
}

void world_runner_kill(struct sim *sim, struct sim_runner *runner)
{
    struct sim_item *item = sim_at(sim, sim->now_ms + (sim_faulty(sim, 10) ? sim_between(sim, 100, 3000) : sim_between(sim, 0, 10)), runner_killed);
    item->runner = runner;
}

void world_runner_crash(struct sim *sim, struct sim_runner *runner)
{
    runner_end(sim, runner, true, EXECUTION_FAILED);
}

static void runners_kill_silently(struct sim *sim, struct sim_taskmanager *taskmanager)
{
    for (size_t i = 0; i < taskmanager->runners.count; i++)
        runner_end(sim, taskmanager->runners.items[i], false, EXECUTION_CANCELED);
    vec_clear(&taskmanager->runners);
}

static struct sim_runner *find_runner(struct sim_taskmanager *taskmanager, struct id job, uint64_t epoch)
{
    for (size_t i = 0; i < taskmanager->runners.count; i++) {
        struct sim_runner *runner = taskmanager->runners.items[i];
        if (runner->is_alive && runner->epoch == epoch && id_equals(runner->job->id, job))
            return runner;
    }
    return NULL;
}

/* ---------------------------------------------------------------- tasks: barriers and snapshots */

static void take_snapshot(struct sim *sim, struct sim_task *task, uint64_t id, enum checkpoint_kind kind);
static void data_ended(struct sim *sim, struct sim_task *task);
static void task_finish(struct sim *sim, struct sim_task *task);

static uint64_t aligned_id(const struct sim_task *task)
{
    const struct sim_job *job = task->runner->job;
    uint64_t lowest = UINT64_MAX;
    for (uint32_t p = 0; p < job->parallelism[task->vertex - 1]; p++)
        lowest = task->passed[p] < lowest ? task->passed[p] : lowest;
    return lowest;
}

static void barrier_arrives(struct sim *sim, struct sim_item *item)
{
    struct sim_task *task = item->task;
    if (!task_lives(task))
        return;
    uint32_t producer = (uint32_t)item->connection;
    if (item->number == 0) {
        task->producer_ended[producer] = true;
        for (uint32_t p = 0; p < task->runner->job->parallelism[task->vertex - 1]; p++) {
            if (!task->producer_ended[p])
                return;
        }
        data_ended(sim, task);
        return;
    }
    if (item->number > task->passed[producer])
        task->passed[producer] = item->number;
    uint64_t id = aligned_id(task);
    if (id == UINT64_MAX) {
        if (task->pending_trigger == 0)
            return;
        id = task->pending_trigger;
        task->pending_trigger = 0;
    }
    struct sim_checkpoint *checkpoint = sim_checkpoint(task->runner->job, id);
    if (checkpoint != NULL && id > task->last_checkpoint)
        take_snapshot(sim, task, id, checkpoint->kind);
}

/* Savepoints wait their turn. */
static bool overtakes(struct sim_job *job, uint64_t number)
{
    const struct sim_checkpoint *checkpoint = job->is_unaligned && number != UINT64_MAX ? sim_checkpoint(job, number) : NULL;
    return checkpoint != NULL && checkpoint->kind == CHECKPOINT_KIND_CHECKPOINT;
}

/* number: a checkpoint, 0 for the end of the data, UINT64_MAX for the end of the partition. */
static void send_downstream(struct sim *sim, struct sim_task *task, uint64_t number)
{
    struct sim_job *job = task->runner->job;
    if (task->vertex + 1 >= job->vertex_count || job->tasks_epoch != task->runner->epoch)
        return;
    for (uint32_t c = 0; c < job->parallelism[task->vertex + 1]; c++) {
        struct sim_task *consumer = job->tasks[ordinal_of(job, task->vertex + 1, c)];
        if (consumer == NULL)
            continue;
        int64_t at = sim->now_ms + (sim_faulty(sim, 3) ? sim_between(sim, 0, 6000) : sim_between(sim, 0, 10));
        if (at < task->channel_ms[c] && !overtakes(job, number))
            at = task->channel_ms[c];
        if (at > task->channel_ms[c])
            task->channel_ms[c] = at;
        struct sim_item *item = sim_at(sim, at, barrier_arrives);
        item->task = consumer;
        item->number = number;
        item->connection = task->subtask;
    }
}

static void operator_id(const struct sim_job *job, uint32_t vertex, struct id *out)
{
    (void)job;
    *out = (struct id){{0x0f, (uint8_t)(vertex + 1)}};
}

static bool is_forgotten(const struct sim_runner *runner, uint64_t checkpoint)
{
    for (size_t i = 0; i < runner->aborted.count; i++) {
        if (runner->aborted.items[i] == checkpoint)
            return true;
    }
    return false;
}

static void ack_now(struct sim *sim, struct sim_item *item)
{
    struct sim_task *task = item->task;
    bool is_final = item->connection != 0;
    struct sim_runner *runner = task->runner;
    if (!task_lives(task) || (!is_final && is_forgotten(runner, item->number)))
        return;
    struct sim_item *message = sim_item_create();
    message->execution = heap_strdup(task->execution);
    message->event.kind = EVENT_CHECKPOINT_ACK;
    message->event.ack.taskmanager = runner->taskmanager->id;
    message->event.ack.connection = runner->taskmanager->connection;
    message->event.ack.job = runner->job->id;
    message->event.ack.epoch = runner->epoch;
    message->event.ack.checkpoint = item->number;
    message->event.ack.execution = message->execution;
    if (sim_faulty(sim, 2)) {
        message->error = sim_chance(sim, 50) ? error_new(CONFLICT, "superseded") : error_new(IO, "disk full");
        message->event.kind = EVENT_CHECKPOINT_DECLINE;
        message->event.ack.error = message->error;
        sim_send_to_jm(sim, runner->taskmanager, message);
        return;
    }
    struct sim_checkpoint *checkpoint = sim_checkpoint(runner->job, item->number);
    struct id operator;
    operator_id(runner->job, task->vertex, &operator);
    char path[32];
    snprintf(path, sizeof path, "%u-%u", task->vertex, task->subtask);
    uint64_t token = ++sim->next_token;
    struct sim_file *file = sim_file_write(sim, checkpoint->directory, path, token);
    file->writer = runner;
    file->is_final = is_final;
    uint32_t first, last;
    key_group_range(task->subtask, SIM_KEY_GROUPS, runner->job->parallelism[task->vertex], &first, &last);
    message->json = json_pack("[{s:s,s:s,s:i,s:i,s:i,s:i,s:I,s:[s]}]", "operator", id_format(operator).hex, "path", path, "size", 100, "subtask",
                              (int)task->subtask, "key_group_first", (int)first, "key_group_last", (int)last, "token", (json_int_t)token,
                              "kinds", task->vertex == 0 ? "union" : "keyed");
    message->json2 = json_object();
    json_object_set_new(message->json2, id_format(operator).hex, json_pack("{s:[i,i],s:i}", "rows_in", 0, 0, "rows_out", 0));
    message->event.ack.state = message->json;
    message->event.ack.books = message->json2;
    message->event.ack.is_finished = is_final;
    struct sim_item *again = NULL;
    if (sim_faulty(sim, 2)) { /* a message that comes twice */
        again = sim_item_create();
        again->execution = heap_strdup(task->execution);
        again->json = json_incref(message->json);
        again->json2 = json_incref(message->json2);
        again->event = message->event;
        again->event.ack.execution = again->execution;
    }
    sim_send_to_jm(sim, runner->taskmanager, message);
    if (again != NULL)
        sim_send_to_jm(sim, runner->taskmanager, again);
}

static void take_snapshot(struct sim *sim, struct sim_task *task, uint64_t id, enum checkpoint_kind kind)
{
    task->last_checkpoint = id;
    if (kind == CHECKPOINT_KIND_DRAIN && !task->is_data_ended)
        task->is_data_ended = true;
    if (kind == CHECKPOINT_KIND_STOP || kind == CHECKPOINT_KIND_DRAIN)
        task->stop_checkpoint = id;
    if (task->is_data_ended && task->final_checkpoint == 0)
        task->final_checkpoint = id;
    struct sim_item *item = sim_at(sim, sim->now_ms + (sim_faulty(sim, 4) ? sim_between(sim, 500, 40000) : sim_between(sim, 0, 20)), ack_now);
    item->task = task;
    item->number = id;
    item->connection = task->is_data_ended;
    send_downstream(sim, task, id);
}

static void data_ended(struct sim *sim, struct sim_task *task)
{
    if (task->is_data_ended)
        return;
    task->is_data_ended = true;
    send_downstream(sim, task, 0);
    if (!task->runner->job->has_checkpoints)
        task_finish(sim, task);
}

static void task_finish(struct sim *sim, struct sim_task *task)
{
    struct sim_runner *runner = task->runner;
    report_state(sim, task, EXECUTION_FINISHED, NULL);
    send_downstream(sim, task, UINT64_MAX);
    for (size_t i = 0; i < runner->tasks.count; i++) {
        if (task_lives(runner->tasks.items[i]))
            return;
    }
    if (sim_chance(sim, 50)) /* some runners end by themselves, some wait to be told */
        runner_end(sim, runner, true, EXECUTION_CANCELED);
}

void world_task_fail(struct sim *sim, struct sim_task *task, struct error *error)
{
    if (task_lives(task))
        report_state(sim, task, EXECUTION_FAILED, error);
    else
        error_free(error);
}

/* ---------------------------------------------------------------- tasks: start and restore */

/* Sources have union state, which all get; keyed state goes where its key groups are. */
static bool holds_of(const json_t *handle, const struct sim_task *task)
{
    uint32_t parallelism = task->runner->job->parallelism[task->vertex];
    bool holds = task->vertex == 0;
    for (uint32_t group = 0; group < SIM_KEY_GROUPS; group++)
        holds = holds || (key_group_owner(group, SIM_KEY_GROUPS, parallelism) == task->subtask &&
                          group >= (uint32_t)json_integer_value(json_object_get(handle, "key_group_first")) &&
                          group <= (uint32_t)json_integer_value(json_object_get(handle, "key_group_last")));
    return holds;
}

static void check_restore(struct sim *sim, struct sim_task *task)
{
    struct sim_job *job = task->runner->job;
    uint64_t id = (uint64_t)json_integer_value(json_object_get(task->restore, "checkpoint"));
    uint64_t epoch = task->runner->epoch;
    if (job->restored_epoch == epoch && job->restored_id != id)
        sim_fail(sim, "tasks of epoch %" PRIu64 " of job %u are restored from %" PRIu64 " and %" PRIu64, epoch, job->index, job->restored_id, id);
    job->restored_epoch = epoch;
    job->restored_id = id;
    if (id < job->committed && !job->has_damage)
        sim_fail(sim, "job %u goes back to checkpoint %" PRIu64 " after %" PRIu64 " was committed", job->index, id, job->committed);
    if (id == 0 && job->committed != 0)
        sim_fail(sim, "job %u starts from nothing after %" PRIu64 " was committed", job->index, job->committed);
    if (task->restore == NULL)
        return;
    const char *path = json_string_value(json_object_get(task->restore, "directory"));
    const struct sim_directory *directory = sim_directory(sim, path, false);
    if (directory == NULL && job->has_damage) /* back to where it was started from, and that was disposed since */
        return;
    if (directory == NULL || directory->metadata == NULL) {
        sim_fail(sim, "job %u is restored from %s, which has no metadata", job->index, path);
        return;
    }
    if ((uint64_t)json_integer_value(json_object_get(directory->metadata, "checkpoint_id")) != id)
        sim_fail(sim, "job %u is restored from %s, which is not checkpoint %" PRIu64, job->index, path, id);
    struct id operator;
    operator_id(job, task->vertex, &operator);
    struct id_text hex = id_format(operator);
    size_t index, stored = 0, given = 0;
    json_t *handle;
    json_array_foreach(json_object_get(directory->metadata, "state"), index, handle)
        stored += strcmp(json_string_value(json_object_get(handle, "operator")), hex.hex) == 0 && holds_of(handle, task);
    json_array_foreach(json_object_get(json_object_get(task->restore, "handles"), hex.hex), index, handle) {
        given++;
        uint64_t token = sim_file_token(sim, path, json_string_value(json_object_get(handle, "path")));
        if (token != (uint64_t)json_integer_value(json_object_get(handle, "token")))
            sim_fail(sim, "job %u is restored from %s, whose file %s has other contents", job->index, path,
                     json_string_value(json_object_get(handle, "path")));
    }
    if (stored != given)
        sim_fail(sim, "task %u-%u of job %u got %zu of %zu state handles", task->vertex, task->subtask, job->index, given, stored);
}

static void bounded_end(struct sim *sim, struct sim_item *item)
{
    if (task_lives(item->task))
        data_ended(sim, item->task);
}

static void task_running(struct sim *sim, struct sim_item *item)
{
    struct sim_task *task = item->task;
    if (!task_lives(task))
        return;
    report_state(sim, task, EXECUTION_RUNNING, NULL);
    if (task->vertex == 0 && task->runner->job->is_bounded) {
        struct sim_item *end = sim_at(sim, sim->now_ms + sim_between(sim, 100, 60000), bounded_end);
        end->task = task;
    }
    if (task->is_data_ended && !task->runner->job->has_checkpoints)
        task_finish(sim, task);
}

static void task_initializing(struct sim *sim, struct sim_item *item)
{
    struct sim_task *task = item->task;
    if (!task_lives(task))
        return;
    report_state(sim, task, EXECUTION_INITIALIZING, NULL);
    check_restore(sim, task);
    const char *path = json_string_value(json_object_get(task->restore, "directory"));
    const struct sim_directory *directory = path != NULL ? sim_directory(sim, path, false) : NULL;
    if (path != NULL && (directory == NULL || directory->is_damaged)) {
        world_task_fail(sim, task, error_new(CORRUPT, "%s/0-0: checksum mismatch", path));
        return;
    }
    sim_at(sim, sim->now_ms + sim_between(sim, 1, 40), task_running)->task = task;
}

static struct sim_task *task_create(struct sim *sim, struct sim_runner *runner, const json_t *spec)
{
    struct sim_task *task = heap_new(struct sim_task);
    struct id vertex;
    check(id_parse(json_string_value(json_object_get(spec, "vertex")), &vertex));
    task->runner = runner;
    task->execution = heap_strdup(json_string_value(json_object_get(spec, "execution")));
    task->vertex = vertex.bytes[15];
    task->subtask = (uint32_t)json_integer_value(json_object_get(spec, "subtask"));
    task->state = EXECUTION_DEPLOYING;
    task->restore = json_incref(json_object_get(spec, "restore"));
    if (sim->injection == INJECT_WRONG_RESTORE && task->restore != NULL && task->subtask == 0 && task->vertex == 0) {
        json_t *copy = json_copy(task->restore);
        json_object_set_new(copy, "checkpoint", json_integer(json_integer_value(json_object_get(copy, "checkpoint")) - 1));
        json_decref(task->restore);
        task->restore = copy;
    }
    return task;
}

/* Two live attempts of a subtask are two live runners of one job with different epochs: all tasks restart together. */
static void check_alone(struct sim *sim, const struct sim_runner *runner)
{
    for (size_t i = 0; i < sim->all_runners.count; i++) {
        const struct sim_runner *other = sim->all_runners.items[i];
        if (other != runner && other->is_alive && other->job == runner->job &&
            (other->epoch != runner->epoch || other->taskmanager == runner->taskmanager))
            sim_fail(sim, "job %u: epoch %" PRIu64 " starts on %s while epoch %" PRIu64 " lives on %s", runner->job->index, runner->epoch,
                     runner->taskmanager->id, other->epoch, other->taskmanager->id);
    }
}

static void on_deploy(struct sim *sim, struct sim_taskmanager *taskmanager, const struct action *action)
{
    struct sim_runner *runner = heap_new(struct sim_runner);
    runner->taskmanager = taskmanager;
    runner->job = sim_job_by_id(sim, action->job);
    runner->epoch = action->epoch;
    runner->is_alive = true;
    vec_push(&taskmanager->runners, runner);
    vec_push(&sim->all_runners, runner);
    check_alone(sim, runner);
    struct sim_job *job = runner->job;
    if (job->tasks_epoch != runner->epoch) {
        memset(job->tasks, 0, sizeof job->tasks);
        job->tasks_epoch = runner->epoch;
    }
    size_t index;
    json_t *spec;
    json_array_foreach(action->deploy.tasks, index, spec) {
        struct sim_task *task = task_create(sim, runner, spec);
        vec_push(&runner->tasks, task);
        int64_t slot = json_integer_value(json_object_get(spec, "slot"));
        check(slot >= 0 && slot < (int64_t)taskmanager->slots);
        job->tasks[ordinal_of(job, task->vertex, task->subtask)] = task;
        sim_at(sim, sim->now_ms + sim_between(sim, 1, 60), task_initializing)->task = task;
    }
    if (json_object_size(action->deploy.peers) != job->task_count)
        sim_fail(sim, "job %u is deployed with %zu peers", job->index, json_object_size(action->deploy.peers));
}

/* ---------------------------------------------------------------- messages */

static void on_trigger(struct sim *sim, struct sim_taskmanager *taskmanager, const struct action *action)
{
    struct sim_runner *runner = find_runner(taskmanager, action->job, action->epoch);
    size_t index;
    json_t *execution;
    json_array_foreach(action->trigger.executions, index, execution) {
        for (size_t i = 0; runner != NULL && i < runner->tasks.count; i++) {
            struct sim_task *task = runner->tasks.items[i];
            if (strcmp(task->execution, json_string_value(execution)) != 0 || !task_lives(task))
                continue;
            if (task->vertex > 0 && aligned_id(task) != UINT64_MAX)
                task->pending_trigger = action->checkpoint;
            else if (action->checkpoint > task->last_checkpoint)
                take_snapshot(sim, task, action->checkpoint, action->trigger.kind);
        }
    }
}

static void check_complete(struct sim *sim, struct sim_job *job, uint64_t id)
{
    const struct sim_checkpoint *checkpoint = sim_checkpoint(job, id);
    if (checkpoint == NULL || !checkpoint->was_written)
        sim_fail(sim, "checkpoint %" PRIu64 " of job %u is committed and has no metadata", id, job->index);
    else if (checkpoint->state_count != job->task_count)
        sim_fail(sim, "checkpoint %" PRIu64 " of job %u is committed with the state of %zu of %u tasks", id, job->index, checkpoint->state_count,
                 job->task_count);
    if (id > job->committed)
        job->committed = id;
}

static void on_complete(struct sim *sim, struct sim_taskmanager *taskmanager, const struct action *action)
{
    struct sim_runner *runner = find_runner(taskmanager, action->job, action->epoch);
    if (runner == NULL)
        return;
    check_complete(sim, runner->job, action->checkpoint);
    for (size_t i = 0; i < runner->tasks.count; i++) {
        struct sim_task *task = runner->tasks.items[i];
        if (!task_lives(task) || action->checkpoint > task->last_checkpoint)
            continue;
        if ((task->stop_checkpoint != 0 && action->checkpoint == task->stop_checkpoint) ||
            (task->final_checkpoint != 0 && action->checkpoint >= task->final_checkpoint))
            task_finish(sim, task);
    }
}

/* Files that it has written for the checkpoint go, later ones are not written: written_files.h. */
static void runner_forget(struct sim *sim, struct sim_runner *runner, uint64_t id)
{
    vec_push(&runner->aborted, id);
    const struct sim_checkpoint *checkpoint = sim_checkpoint(runner->job, id);
    for (size_t i = 0; i < sim->files.count;) {
        const struct sim_file *file = &sim->files.items[i];
        if (file->writer == runner && !file->is_final && checkpoint != NULL && strcmp(file->directory, checkpoint->directory) == 0)
            sim_file_remove(sim, i);
        else
            i++;
    }
}

static void on_aborted(struct sim *sim, struct sim_taskmanager *taskmanager, const struct action *action)
{
    struct sim_runner *runner = find_runner(taskmanager, action->job, action->epoch);
    if (runner != NULL)
        runner_forget(sim, runner, action->checkpoint);
    for (size_t i = 0; runner != NULL && i < runner->tasks.count; i++) {
        struct sim_task *task = runner->tasks.items[i];
        if (task->stop_checkpoint == action->checkpoint)
            task->stop_checkpoint = 0;
        if (task->pending_trigger == action->checkpoint)
            task->pending_trigger = 0;
    }
}

static void on_cancel(struct sim *sim, struct sim_taskmanager *taskmanager, const struct action *action)
{
    struct sim_runner *runner = find_runner(taskmanager, action->job, action->epoch);
    if (runner == NULL) {
        report_gone(sim, taskmanager, NULL, action->job, action->epoch);
        return;
    }
    if (action->cancel.is_kill || !sim_faulty(sim, 10)) /* else: user code that does not listen */
        world_runner_kill(sim, runner);
}

void world_message(struct sim *sim, struct sim_taskmanager *taskmanager, struct sim_item *item)
{
    const struct action *action = &item->action;
    if (action->kind == ACTION_DEPLOY)
        on_deploy(sim, taskmanager, action);
    else if (action->kind == ACTION_CANCEL)
        on_cancel(sim, taskmanager, action);
    else if (action->kind == ACTION_TRIGGER_CHECKPOINT)
        on_trigger(sim, taskmanager, action);
    else if (action->kind == ACTION_CHECKPOINT_COMPLETE)
        on_complete(sim, taskmanager, action);
    else if (action->kind == ACTION_CHECKPOINT_ABORTED)
        on_aborted(sim, taskmanager, action);
}

/* ---------------------------------------------------------------- agents */

static void agent_connect(struct sim *sim, struct sim_item *item);

static void agent_beat(struct sim *sim, struct sim_item *item)
{
    struct sim_taskmanager *taskmanager = item->taskmanager;
    if (!taskmanager->is_alive || taskmanager->incarnation != item->number || sim->is_stopping)
        return;
    struct sim_item *next = sim_at(sim, sim->now_ms + HEARTBEAT_MS, agent_beat);
    next->taskmanager = taskmanager;
    next->number = item->number;
    if (taskmanager->is_stopped || !taskmanager->is_connected)
        return;
    struct sim_item *message = sim_item_create();
    message->event = (struct event){.kind = EVENT_TASKMANAGER_HEARTBEAT,
                                    .taskmanager = {.taskmanager = taskmanager->id, .connection = taskmanager->connection}};
    sim_send_to_jm(sim, taskmanager, message);
}

static void lease_ends(struct sim *sim, struct sim_item *item)
{
    struct sim_taskmanager *taskmanager = item->taskmanager;
    if (!taskmanager->is_alive || !taskmanager->is_connected || taskmanager->connection != item->connection || taskmanager->is_stopped)
        return;
    if (taskmanager->lease_ms == item->sent_ms)
        world_connection_ended(sim, taskmanager);
}

static void lease_arm(struct sim *sim, struct sim_taskmanager *taskmanager)
{
    /* The agent looks at its clock once per heartbeat interval. */
    int64_t at = taskmanager->lease_ms + TIMEOUT_MS + sim_between(sim, 0, HEARTBEAT_MS);
    struct sim_item *item = sim_at(sim, at > sim->now_ms ? at : sim->now_ms, lease_ends);
    item->taskmanager = taskmanager;
    item->connection = taskmanager->connection;
    item->sent_ms = taskmanager->lease_ms;
}

void world_heartbeat_answered(struct sim *sim, struct sim_taskmanager *taskmanager, int64_t answered_ms)
{
    taskmanager->lease_ms = answered_ms;
    lease_arm(sim, taskmanager);
}

static void reconnect_later(struct sim *sim, struct sim_taskmanager *taskmanager)
{
    struct sim_item *item = sim_at(sim, sim->now_ms + sim_between(sim, 100, 2000), agent_connect);
    item->taskmanager = taskmanager;
    item->number = taskmanager->incarnation;
}

/* The agent sees the end of its connection: it kills its runners, closes, and starts clean. */
void world_connection_ended(struct sim *sim, struct sim_taskmanager *taskmanager)
{
    runners_kill_silently(sim, taskmanager);
    taskmanager->is_connected = false;
    if (taskmanager->jm_open)
        sim_close(sim, taskmanager, taskmanager->is_cut ? 60000 : sim_between(sim, 0, 5));
    reconnect_later(sim, taskmanager);
}

static void agent_connect(struct sim *sim, struct sim_item *item)
{
    struct sim_taskmanager *taskmanager = item->taskmanager;
    if (!taskmanager->is_alive || taskmanager->is_connected || taskmanager->incarnation != item->number || sim->is_stopping)
        return;
    if (taskmanager->is_cut || taskmanager->is_stopped) {
        reconnect_later(sim, taskmanager);
        return;
    }
    taskmanager->connection = ++sim->next_connection;
    taskmanager->is_connected = taskmanager->jm_open = true;
    taskmanager->to_jm_ms = taskmanager->to_tm_ms = sim->now_ms;
    taskmanager->lease_ms = sim->now_ms;
    lease_arm(sim, taskmanager);
    struct sim_item *message = sim_item_create();
    message->event = (struct event){.kind = EVENT_TASKMANAGER_REGISTERED,
                                    .registered = {.taskmanager = taskmanager->id, .connection = taskmanager->connection, .host = "sim",
                                                   .data_port = 1,
                                                   .slot_count = taskmanager->slots, .version = "sim"}};
    sim_send_to_jm(sim, taskmanager, message);
}

void world_start(struct sim *sim, struct sim_taskmanager *taskmanager)
{
    taskmanager->is_alive = true;
    taskmanager->is_stopped = false;
    taskmanager->incarnation++;
    struct sim_item *beat = sim_at(sim, sim->now_ms + sim_between(sim, 1, HEARTBEAT_MS), agent_beat);
    beat->taskmanager = taskmanager;
    beat->number = taskmanager->incarnation;
    struct sim_item *connect = sim_at(sim, sim->now_ms + sim_between(sim, 0, 50), agent_connect);
    connect->taskmanager = taskmanager;
    connect->number = taskmanager->incarnation;
}

/* kill -9: the kernel ends the runners with it. */
void world_kill(struct sim *sim, struct sim_taskmanager *taskmanager)
{
    if (!taskmanager->is_alive)
        return;
    runners_kill_silently(sim, taskmanager);
    taskmanager->is_alive = false;
    taskmanager->is_connected = false;
    sim->losses++;
    /* A machine that is cut off cannot send its FIN. */
    sim_close(sim, taskmanager, taskmanager->is_cut ? 70000 : sim_between(sim, 0, 5));
}

static void agent_sees_reset(struct sim *sim, struct sim_item *item)
{
    struct sim_taskmanager *taskmanager = item->taskmanager;
    if (taskmanager->is_alive && taskmanager->is_connected && taskmanager->connection == item->connection && !taskmanager->is_stopped)
        world_connection_ended(sim, taskmanager);
}

/* Both ends see their connection closed, at slightly different times. */
void world_reset(struct sim *sim, struct sim_taskmanager *taskmanager)
{
    if (!taskmanager->is_alive || !taskmanager->is_connected || taskmanager->is_stopped || taskmanager->is_cut)
        return;
    sim->losses++;
    taskmanager->reset_ms = sim->now_ms + 20;
    sim_close(sim, taskmanager, sim_between(sim, 0, 20));
    struct sim_item *item = sim_at(sim, sim->now_ms + sim_between(sim, 0, 20), agent_sees_reset);
    item->taskmanager = taskmanager;
    item->connection = taskmanager->connection;
}

void world_finish(struct sim *sim)
{
    for (size_t i = 0; i < sim->all_runners.count; i++) {
        struct sim_runner *runner = sim->all_runners.items[i];
        for (size_t t = 0; t < runner->tasks.count; t++) {
            free(runner->tasks.items[t]->execution);
            json_decref(runner->tasks.items[t]->restore);
            free(runner->tasks.items[t]);
        }
        vec_finish(&runner->tasks);
        vec_finish(&runner->aborted);
        free(runner);
    }
    vec_finish(&sim->all_runners);
    for (uint32_t i = 0; i < sim->taskmanager_count; i++)
        vec_finish(&sim->taskmanagers[i].runners);
}
