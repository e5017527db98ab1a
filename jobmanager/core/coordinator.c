/* The machine's frame: creation, dispatch of events, timers, lookups. See coordinator.h. */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"

json_t *json_keep(const json_t *json)
{
    return json_incref((json_t *)(uintptr_t)json);
}

/* ---------------------------------------------------------------- randomness: splitmix64 (Steele, Lea, Flood 2014) */

uint64_t coordinator_random(struct coordinator *coordinator)
{
    uint64_t z = coordinator->generator += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

struct id coordinator_random_id(struct coordinator *coordinator)
{
    struct id id;
    uint64_t words[2] = {coordinator_random(coordinator), coordinator_random(coordinator)};
    memcpy(id.bytes, words, sizeof id.bytes);
    return id;
}

/* ---------------------------------------------------------------- life */

struct error *coordinator_create(const struct coordinator_options *options, struct coordinator **out)
{
    struct coordinator *coordinator = heap_new(struct coordinator);
    coordinator->config = options->config;
    cluster_settings_read(options->config, &coordinator->settings);
    coordinator->generator = options->seed;
    coordinator->started_ms = options->now_ms;
    if (options->checkpoint_directory != NULL)
        coordinator->checkpoint_directory = heap_strdup(options->checkpoint_directory);
    *out = coordinator;
    return NULL;
}

void coordinator_destroy(struct coordinator *coordinator)
{
    if (coordinator == NULL)
        return;
    for (size_t i = 0; i < coordinator->jobs.count; i++)
        job_destroy(coordinator->jobs.entries[i].value);
    hash_map_finish(&coordinator->jobs);
    for (size_t i = 0; i < coordinator->taskmanagers.count; i++)
        taskmanager_destroy(coordinator->taskmanagers.entries[i].value);
    hash_map_finish(&coordinator->taskmanagers);
    vec_finish(&coordinator->archived);
    vec_finish(&coordinator->waiting);
    vec_finish(&coordinator->timers);
    free(coordinator->checkpoint_directory);
    free(coordinator);
}

/* ---------------------------------------------------------------- timers: a binary heap of jobs by next_deadline_ms */

static void heap_place(struct coordinator *coordinator, size_t index, struct job *job)
{
    coordinator->timers.items[index] = job;
    job->heap_index = (uint32_t)index + 1;
}

static void heap_sift(struct coordinator *coordinator, size_t index)
{
    struct job **items = coordinator->timers.items;
    struct job *job = items[index];
    while (index > 0 && items[(index - 1) / 2]->next_deadline_ms > job->next_deadline_ms) {
        heap_place(coordinator, index, items[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= coordinator->timers.count)
            break;
        if (child + 1 < coordinator->timers.count && items[child + 1]->next_deadline_ms < items[child]->next_deadline_ms)
            child++;
        if (items[child]->next_deadline_ms >= job->next_deadline_ms)
            break;
        heap_place(coordinator, index, items[child]);
        index = child;
    }
    heap_place(coordinator, index, job);
}

static void heap_remove(struct coordinator *coordinator, struct job *job)
{
    if (job->heap_index == 0)
        return;
    size_t index = job->heap_index - 1;
    job->heap_index = 0;
    struct job *last = coordinator->timers.items[--coordinator->timers.count];
    if (last != job) {
        heap_place(coordinator, index, last);
        heap_sift(coordinator, index);
    }
}

static void heap_update(struct coordinator *coordinator, struct job *job, int64_t deadline_ms)
{
    if (deadline_ms == job->next_deadline_ms && (job->heap_index != 0 || deadline_ms == INT64_MAX))
        return;
    job->next_deadline_ms = deadline_ms;
    if (deadline_ms == INT64_MAX) {
        heap_remove(coordinator, job);
        return;
    }
    if (job->heap_index == 0) {
        vec_push(&coordinator->timers, job);
        job->heap_index = (uint32_t)coordinator->timers.count;
    }
    heap_sift(coordinator, job->heap_index - 1);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t job_deadline_ms(const struct job *job)
{
    if (job->is_archived)
        return job->end_ms + job->coordinator->settings.job_store_expiration_ms;
    int64_t deadline = earlier(job->slot_deadline_ms, job->kill_deadline_ms);
    if (job->state == JOB_RESTARTING)
        deadline = earlier(deadline, job->restart_at_ms);
    return earlier(deadline, checkpoints_next_ms(job));
}

void job_touch(struct turn *turn, struct job *job)
{
    if (turn->touched.count > 0 && turn->touched.items[turn->touched.count - 1] == job)
        return;
    vec_push(&turn->touched, job);
}

static void turn_settle(struct turn *turn)
{
    if (turn->slots_freed) {
        turn->slots_freed = false;
        slots_serve_waiting(turn);
    }
    for (size_t i = 0; i < turn->touched.count; i++)
        heap_update(turn->coordinator, turn->touched.items[i], job_deadline_ms(turn->touched.items[i]));
    vec_clear(&turn->touched);
}

int64_t coordinator_next_deadline_ms(const struct coordinator *coordinator)
{
    int64_t deadline = coordinator->timers.count > 0 ? coordinator->timers.items[0]->next_deadline_ms : INT64_MAX;
    if (coordinator->silent_longest != NULL)
        deadline = earlier(deadline, coordinator->silent_longest->last_heartbeat_ms + coordinator->settings.heartbeat_timeout_ms);
    return deadline;
}

/* ---------------------------------------------------------------- the archive of ended jobs */

static void archive_remove(struct turn *turn, struct job *job)
{
    struct coordinator *coordinator = turn->coordinator;
    for (size_t i = 0; i < coordinator->archived.count; i++) {
        if (coordinator->archived.items[i] == job) {
            vec_remove(&coordinator->archived, i);
            break;
        }
    }
    heap_remove(coordinator, job);
    hash_map_remove(&coordinator->jobs, job->id.bytes, sizeof job->id.bytes);
    struct action *action = turn_action(turn, ACTION_JOB_REMOVED, job);
    action->job_state.state = job->state;
    action->job_state.borrowed = job;
    /* The job must not be looked at again in this turn. */
    for (size_t i = 0; i < turn->touched.count;) {
        if (turn->touched.items[i] == job)
            vec_remove(&turn->touched, i);
        else
            i++;
    }
}

static void archive_trim(struct turn *turn)
{
    while (turn->coordinator->archived.count > turn->coordinator->settings.job_store_capacity)
        archive_remove(turn, turn->coordinator->archived.items[0]);
}

static void tick(struct turn *turn)
{
    struct coordinator *coordinator = turn->coordinator;
    taskmanagers_tick(turn);
    turn_settle(turn);
    for (uint64_t rounds = 0; coordinator->timers.count > 0 && coordinator->timers.items[0]->next_deadline_ms <= turn->now_ms; rounds++) {
        check(rounds < 1000000); /* a timer that does not move on */
        struct job *job = coordinator->timers.items[0];
        if (job->is_archived) {
            archive_remove(turn, job);
            continue;
        }
        job_tick(turn, job);
        job_touch(turn, job);
        turn_settle(turn);
    }
}

/* ---------------------------------------------------------------- dispatch */

static void dispatch(struct turn *turn, const struct event *event)
{
    switch (event->kind) {
    case EVENT_TASKMANAGER_REGISTERED:
        taskmanager_registered(turn, event);
        break;
    case EVENT_TASKMANAGER_CLOSED:
        taskmanager_closed(turn, event);
        break;
    case EVENT_TASKMANAGER_HEARTBEAT:
        taskmanager_heartbeat(turn, event);
        break;
    case EVENT_JOB_SUBMITTED:
        job_submitted(turn, event);
        break;
    case EVENT_JOB_CANCEL:
        job_cancel_requested(turn, event);
        break;
    case EVENT_TASK_STATE:
        job_task_state(turn, event);
        break;
    case EVENT_RUNNER_GONE:
        job_runner_gone(turn, event);
        break;
    case EVENT_CHECKPOINT_ACK:
        checkpoint_acknowledged(turn, event);
        break;
    case EVENT_CHECKPOINT_DECLINE:
        checkpoint_declined(turn, event);
        break;
    case EVENT_METADATA_WRITTEN:
        checkpoint_metadata_written(turn, event);
        break;
    case EVENT_TRIGGER:
        checkpoint_requested(turn, event);
        break;
    case EVENT_CHECKPOINT_DAMAGED:
        checkpoint_damage_reported(turn, event);
        break;
    case EVENT_SAVEPOINT_DISPOSE:
        savepoint_dispose_requested(turn, event);
        break;
    case EVENT_TICK:
        tick(turn);
        break;
    }
}

void coordinator_handle(struct coordinator *coordinator, const struct event *event, int64_t now_ms, struct action_list *actions)
{
    struct turn turn = {.coordinator = coordinator, .now_ms = now_ms, .actions = actions};
    coordinator->counters.events++;
    dispatch(&turn, event);
    turn_settle(&turn);
    archive_trim(&turn);
    vec_finish(&turn.touched);
}

/* ---------------------------------------------------------------- lookups */

struct job *coordinator_job(const struct coordinator *coordinator, struct id id)
{
    return hash_map_get(&coordinator->jobs, id.bytes, sizeof id.bytes);
}

struct taskmanager *coordinator_taskmanager(const struct coordinator *coordinator, const char *id)
{
    return hash_map_get(&coordinator->taskmanagers, id, strlen(id));
}

const char *checkpoint_kind_name(enum checkpoint_kind kind)
{
    static const char *const names[] = {"checkpoint", "savepoint", "stop", "drain"};
    return names[kind];
}

/* ---------------------------------------------------------------- self-check */

static void verify_slots(const struct coordinator *coordinator)
{
    uint32_t slots = 0, free_slots = 0;
    for (size_t t = 0; t < coordinator->taskmanagers.count; t++) {
        const struct taskmanager *taskmanager = coordinator->taskmanagers.entries[t].value;
        uint32_t free_here = 0;
        for (uint32_t i = 0; i < taskmanager->slot_count; i++) {
            const struct job *job = taskmanager->slots[i].job;
            if (job == NULL) {
                free_here++;
                continue;
            }
            uint32_t owners = 0;
            for (uint32_t j = 0; j < job->slot_count; j++)
                owners += job->slots[j].taskmanager == taskmanager && job->slots[j].slot_index == i;
            check(owners == 1);
            check(!job_state_is_terminal(job->state));
        }
        check(free_here == taskmanager->free_slot_count);
        slots += taskmanager->slot_count;
        free_slots += free_here;
    }
    check(slots == coordinator->slot_count);
    check(free_slots == coordinator->free_slot_count);
}

static void verify_job(const struct coordinator *coordinator, const struct job *job)
{
    uint32_t counts[EXECUTION_STATE_COUNT] = {0};
    for (uint32_t v = 0; v < job->graph->vertex_count; v++) {
        for (uint32_t s = 0; s < job->vertices[v].parallelism; s++) {
            const struct execution *execution = job->vertices[v].subtasks[s].current;
            if (execution != NULL)
                counts[execution->state]++;
        }
    }
    check(memcmp(counts, job->state_counts, sizeof counts) == 0);
    for (uint32_t i = 0; i < job->slot_count; i++) {
        const struct job_slot *slot = &job->slots[i];
        check(slot->taskmanager == NULL || slot->taskmanager->slots[slot->slot_index].job == job);
    }
    if (job_state_is_terminal(job->state)) {
        check(job->runners.count == 0);
        check(job->pending.count == 0);
        check(job->requests.count == 0);
    }
    int64_t deadline = job_deadline_ms(job);
    check(deadline == job->next_deadline_ms);
    check((deadline == INT64_MAX) == (job->heap_index == 0));
    check(job->heap_index == 0 || coordinator->timers.items[job->heap_index - 1] == job);
}

void coordinator_verify(const struct coordinator *coordinator)
{
    verify_slots(coordinator);
    for (size_t i = 0; i < coordinator->jobs.count; i++)
        verify_job(coordinator, coordinator->jobs.entries[i].value);
    for (size_t i = 1; i < coordinator->timers.count; i++)
        check(coordinator->timers.items[(i - 1) / 2]->next_deadline_ms <= coordinator->timers.items[i]->next_deadline_ms);
}
