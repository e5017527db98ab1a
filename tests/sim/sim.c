/* The simulator's frame: seeds, schedule of faults, and that every job ends or runs when the faults have stopped.
 *   sim [--seeds N] [--seed FIRST] [--inject NAME] [--verbose]
 * Exit 0: no seed broke an invariant. Otherwise the last lines say which seed, and how to replay it. */
#include "tests/sim/sim.h"

#include "common/base/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#define START_MS 1700000000000LL
#define CALM_MS (3 * 60000LL)

static const char *const injection_names[INJECT_COUNT] = {"none", "early-commit", "no-fence", "no-kill-wait", "wrong-restore", "slot-leak",
                                                          "delete-latest", "lost-delete"};

/* ---------------------------------------------------------------- randomness and time */

uint64_t sim_random(struct sim *sim)
{
    uint64_t z = sim->generator += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

int64_t sim_between(struct sim *sim, int64_t low, int64_t high)
{
    return low + (int64_t)(sim_random(sim) % (uint64_t)(high - low + 1));
}

bool sim_chance(struct sim *sim, uint32_t percent)
{
    return sim_random(sim) % 100 < percent;
}

bool sim_faulty(struct sim *sim, uint32_t percent)
{
    return sim_chance(sim, percent) && sim->now_ms < sim->faults_end_ms;
}

static bool item_before(const struct sim_item *a, const struct sim_item *b)
{
    return a->time_ms < b->time_ms || (a->time_ms == b->time_ms && a->seq < b->seq);
}

struct sim_item *sim_at(struct sim *sim, int64_t time_ms, void (*run)(struct sim *, struct sim_item *))
{
    struct sim_item *item = heap_new(struct sim_item);
    item->time_ms = time_ms;
    item->seq = ++sim->seq;
    item->run = run;
    vec_push(&sim->items, item);
    size_t i = sim->items.count - 1;
    while (i > 0 && item_before(item, sim->items.items[(i - 1) / 2])) {
        sim->items.items[i] = sim->items.items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    sim->items.items[i] = item;
    return item;
}

static struct sim_item *pop(struct sim *sim)
{
    struct sim_item *first = sim->items.items[0];
    struct sim_item *last = sim->items.items[--sim->items.count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= sim->items.count)
            break;
        if (child + 1 < sim->items.count && item_before(sim->items.items[child + 1], sim->items.items[child]))
            child++;
        if (!item_before(sim->items.items[child], last))
            break;
        sim->items.items[i] = sim->items.items[child];
        i = child;
    }
    if (sim->items.count > 0)
        sim->items.items[i] = last;
    return first;
}

static void tick(struct sim *sim, int64_t at)
{
    sim->now_ms = at;
    struct event event = {.kind = EVENT_TICK};
    sim_event(sim, &event);
}

/* Runs the world and the core's timers until a time. */
static void run_until(struct sim *sim, int64_t end_ms)
{
    for (;;) {
        int64_t timer = coordinator_next_deadline_ms(sim->coordinator);
        int64_t item_ms = sim->items.count > 0 ? sim->items.items[0]->time_ms : INT64_MAX;
        if (timer > end_ms && item_ms > end_ms)
            break;
        if (timer <= item_ms) {
            tick(sim, timer > sim->now_ms ? timer : sim->now_ms);
            continue;
        }
        struct sim_item *item = pop(sim);
        sim->now_ms = item->time_ms > sim->now_ms ? item->time_ms : sim->now_ms;
        item->run(sim, item);
        sim_item_destroy(item);
    }
    sim->now_ms = end_ms;
}

/* ---------------------------------------------------------------- telling */

void sim_trace(struct sim *sim, const char *format, ...)
{
    if (!sim->is_verbose)
        return;
    printf("%10.3f ", (double)(sim->now_ms - START_MS) / 1000);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    printf("seed %" PRIu64 ", at %.3f s: ", sim->seed, (double)(sim->now_ms - START_MS) / 1000);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\nreplay: sim --seeds 1 --seed %" PRIu64 "%s%s --verbose\n", sim->seed, sim->injection != INJECT_NONE ? " --inject " : "",
           sim->injection != INJECT_NONE ? injection_names[sim->injection] : "");
    fflush(stdout);
    _Exit(1);
}

/* ---------------------------------------------------------------- jobs */

static struct job_graph *graph_create(const struct sim_job *job, json_t *config)
{
    struct job_graph *graph = heap_new(struct job_graph);
    graph->job_id = job->id;
    graph->name = heap_strdup("sim");
    graph->config = config;
    graph->operators = heap_alloc_array(job->vertex_count, sizeof *graph->operators);
    graph->vertices = heap_alloc_array(job->vertex_count, sizeof *graph->vertices);
    graph->operator_count = graph->vertex_count = job->vertex_count;
    for (uint32_t v = 0; v < job->vertex_count; v++) {
        struct job_operator *operator = &graph->operators[v];
        operator->id = (struct id){{0x0f, (uint8_t)(v + 1)}};
        operator->name = heap_printf("op %u", v);
        operator->type = heap_strdup("process");
        operator->slot_sharing_group = heap_strdup("default");
        operator->parallelism = job->parallelism[v];
        operator->max_parallelism = SIM_KEY_GROUPS;
        operator->options = json_object();
        operator->vertex = v;
        if (v > 0) {
            operator->inputs = heap_new(struct job_edge);
            operator->inputs[0] = (struct job_edge){.source = v - 1, .side_output = -1, .partitioning = PARTITION_REBALANCE};
            operator->input_count = 1;
        }
        struct job_vertex *vertex = &graph->vertices[v];
        vertex->id = (struct id){{0xbc}};
        vertex->id.bytes[15] = (uint8_t)v;
        vertex->name = heap_printf("vertex %u", v);
        vertex->parallelism = job->parallelism[v];
        vertex->max_parallelism = SIM_KEY_GROUPS;
        vertex->operators = heap_new(uint32_t);
        vertex->operators[0] = v;
        vertex->operator_count = 1;
    }
    return graph;
}

static void set(json_t *config, const char *key, const char *value)
{
    json_object_set_new(config, key, json_string(value));
}

static json_t *job_config(struct sim *sim, const struct sim_job *job)
{
    static const char *const intervals[] = {"1000", "3000", "10 s"};
    static const char *const retentions[] = {"NO_EXTERNALIZED_CHECKPOINTS", "DELETE_ON_CANCELLATION", "RETAIN_ON_CANCELLATION"};
    json_t *config = json_object();
    if (job->has_checkpoints)
        set(config, "execution.checkpointing.interval", intervals[sim_random(sim) % 3]);
    if (job->is_unaligned)
        set(config, "execution.checkpointing.unaligned.enabled", "true");
    set(config, "execution.checkpointing.timeout", sim_chance(sim, 50) ? "20 s" : "10 min");
    set(config, "execution.checkpointing.num-retained", sim_chance(sim, 60) ? "1" : "3");
    set(config, "execution.checkpointing.max-concurrent-checkpoints", sim_chance(sim, 70) ? "1" : "2");
    set(config, "execution.checkpointing.min-pause", sim_chance(sim, 70) ? "0" : "500");
    set(config, "execution.checkpointing.tolerable-failed-checkpoints", sim_chance(sim, 50) ? "0" : "5");
    set(config, "execution.checkpointing.externalized-checkpoint-retention", retentions[sim_random(sim) % 3]);
    uint64_t strategy = sim_random(sim) % 8;
    if (strategy == 0) {
        set(config, "restart-strategy.type", "fixed-delay");
        set(config, "restart-strategy.fixed-delay.attempts", "3");
        set(config, "restart-strategy.fixed-delay.delay", "0");
    } else if (strategy == 1) {
        set(config, "restart-strategy.type", "failure-rate");
        set(config, "restart-strategy.failure-rate.max-failures-per-interval", "3");
        set(config, "restart-strategy.failure-rate.delay", "10");
    } else if (strategy < 5) {
        set(config, "restart-strategy.type", "fixed-delay");
        set(config, "restart-strategy.fixed-delay.attempts", "1000000");
        set(config, "restart-strategy.fixed-delay.delay", strategy == 2 ? "0" : "1 s");
    }
    return config;
}

/* A restored job goes on where the savepoint was; like: the job it comes from, at another parallelism. */
void sim_submit(struct sim *sim, const char *savepoint_directory, const struct sim_job *like, bool claims)
{
    if (sim->job_count == SIM_JOBS_MAX)
        return;
    struct sim_job *job = &sim->jobs[sim->job_count];
    job->index = sim->job_count++;
    job->sim = sim;
    uint64_t words[2] = {sim_random(sim), sim_random(sim)};
    memcpy(job->id.bytes, words, sizeof job->id.bytes);
    job->vertex_count = like != NULL ? like->vertex_count : (uint32_t)sim_between(sim, 1, SIM_VERTICES_MAX);
    for (uint32_t v = 0; v < job->vertex_count; v++) {
        job->parallelism[v] = (uint32_t)sim_between(sim, 1, SIM_PARALLELISM_MAX);
        job->task_count += job->parallelism[v];
    }
    job->is_bounded = sim_chance(sim, 30);
    job->has_checkpoints = sim_chance(sim, 85);
    job->is_unaligned = sim_chance(sim, 40);
    struct event event = {.kind = EVENT_JOB_SUBMITTED};
    event.job_submitted.graph = graph_create(job, job_config(sim, job));
    if (savepoint_directory != NULL) {
        const struct sim_directory *directory = sim_directory(sim, savepoint_directory, false);
        event.job_submitted.savepoint_path = savepoint_directory;
        event.job_submitted.savepoint_metadata = directory->metadata;
        event.job_submitted.claims_savepoint = claims;
        job->has_damage = directory->is_damaged;
    }
    sim_event(sim, &event);
    if (sim_chance(sim, 20)) { /* the client tries again */
        struct event again = {.kind = EVENT_JOB_SUBMITTED};
        again.job_submitted.graph = graph_create(job, json_object());
        size_t before = sim->coordinator->jobs.count;
        sim_event(sim, &again);
        check(sim->coordinator->jobs.count == before);
    }
}

static struct id request_create(struct sim *sim)
{
    struct sim_request request = {0};
    uint64_t words[2] = {sim_random(sim), sim->requests.count + 1};
    memcpy(request.id.bytes, words, sizeof request.id.bytes);
    vec_push(&sim->requests, request);
    return request.id;
}

void sim_answered(struct sim *sim, struct id request)
{
    for (size_t i = 0; i < sim->requests.count; i++) {
        if (id_equals(sim->requests.items[i].id, request) && ++sim->requests.items[i].answers > 1)
            sim_fail(sim, "request %zu was answered twice", i);
    }
}

void sim_request(struct sim *sim, struct sim_job *job, enum checkpoint_kind kind, bool cancel)
{
    struct event event = {.kind = EVENT_TRIGGER};
    event.trigger.job = job->id;
    event.trigger.trigger_id = request_create(sim);
    event.trigger.kind = kind;
    event.trigger.directory = "/disk/savepoints";
    event.trigger.cancel_job = cancel;
    sim_event(sim, &event);
}

/* ---------------------------------------------------------------- faults */

static void taskmanager_return(struct sim *sim, struct sim_item *item)
{
    if (!item->taskmanager->is_alive && !sim->is_stopping)
        world_start(sim, item->taskmanager);
}

static void network_heals(struct sim *sim, struct sim_item *item)
{
    (void)sim;
    item->taskmanager->is_cut = false;
}

/* The runners of a stopped agent miss the answers to heartbeats that it passes on to them. */
static void pipe_silent(struct sim *sim, struct sim_item *item)
{
    struct sim_taskmanager *taskmanager = item->taskmanager;
    if (!taskmanager->is_alive || !taskmanager->is_stopped || taskmanager->incarnation != item->number)
        return;
    for (size_t i = 0; i < taskmanager->runners.count; i++)
        taskmanager->runners.items[i]->is_alive = false;
    (void)sim;
}

static void agent_continues(struct sim *sim, struct sim_item *item)
{
    struct sim_taskmanager *taskmanager = item->taskmanager;
    if (!taskmanager->is_alive || !taskmanager->is_stopped || taskmanager->incarnation != item->number)
        return;
    taskmanager->is_stopped = false;
    bool has_lost_runners = sim->now_ms - taskmanager->lease_ms >= 50000;
    if (has_lost_runners || !taskmanager->jm_open) {
        if (taskmanager->is_connected)
            world_connection_ended(sim, taskmanager);
        return;
    }
    world_heartbeat_answered(sim, taskmanager, taskmanager->lease_ms);
}

static void fault_taskmanager(struct sim *sim)
{
    struct sim_taskmanager *taskmanager = &sim->taskmanagers[sim_random(sim) % sim->taskmanager_count];
    if (!taskmanager->is_alive)
        return;
    uint64_t what = sim_random(sim) % 10;
    if (what < 4) {
        sim_trace(sim, "FAULT kill %s", taskmanager->id);
        world_kill(sim, taskmanager);
        struct sim_item *item = sim_at(sim, sim->now_ms + sim_between(sim, 50, 40000), taskmanager_return);
        item->taskmanager = taskmanager;
    } else if (what < 6) {
        sim_trace(sim, "FAULT reset %s", taskmanager->id);
        world_reset(sim, taskmanager);
    } else if (what < 8 && !taskmanager->is_cut) {
        sim_trace(sim, "FAULT cut %s", taskmanager->id);
        taskmanager->is_cut = true;
        sim_at(sim, sim->now_ms + sim_between(sim, 100, 120000), network_heals)->taskmanager = taskmanager;
    } else if (!taskmanager->is_stopped && taskmanager->reset_ms < sim->now_ms) { /* it must see a reset: taskmanagers.c, "Fencing" */
        sim_trace(sim, "FAULT stop %s", taskmanager->id);
        taskmanager->is_stopped = true;
        struct sim_item *silent = sim_at(sim, taskmanager->lease_ms + 50000 + sim_between(sim, 0, 10000), pipe_silent);
        silent->taskmanager = taskmanager;
        silent->number = taskmanager->incarnation;
        struct sim_item *item = sim_at(sim, sim->now_ms + sim_between(sim, 100, 120000), agent_continues);
        item->taskmanager = taskmanager;
        item->number = taskmanager->incarnation;
    }
}

static void fault_task(struct sim *sim)
{
    struct sim_job *job = &sim->jobs[sim_random(sim) % sim->job_count];
    struct sim_task *task = job->tasks[sim_random(sim) % SIM_TASKS_MAX];
    if (task == NULL || !task->runner->is_alive || task->runner->taskmanager->is_stopped)
        return;
    if (sim_chance(sim, 50))
        world_runner_crash(sim, task->runner);
    else
        world_task_fail(sim, task, sim_chance(sim, 90) ? error_new(USER_FUNCTION, "division by zero") : error_new(CONNECTOR_FATAL, "topic is gone"));
}

/* A file of the newest committed checkpoint breaks. */
static void fault_damage(struct sim *sim)
{
    struct sim_job *job = &sim->jobs[sim_random(sim) % sim->job_count];
    struct sim_checkpoint *checkpoint = job->committed != 0 ? sim_checkpoint(job, job->committed) : NULL;
    struct sim_directory *directory = checkpoint != NULL ? sim_directory(sim, checkpoint->directory, false) : NULL;
    if (directory == NULL)
        return;
    sim_trace(sim, "FAULT damage %s", directory->path);
    directory->is_damaged = true;
    job->has_damage = true;
    if (sim_chance(sim, 20)) {
        struct event event = {.kind = EVENT_CHECKPOINT_DAMAGED, .damaged = {.job = job->id, .checkpoint = checkpoint->id, .file = "0-0",
                                                                            .reason = "checksum"}};
        sim_event(sim, &event);
    }
}

/* A user disposes a savepoint, whoever may still need it. */
static void dispose(struct sim *sim, struct sim_job *job)
{
    if (job->checkpoints.count == 0)
        return;
    const struct sim_checkpoint *checkpoint = &job->checkpoints.items[sim_random(sim) % job->checkpoints.count];
    const struct sim_directory *directory = sim_directory(sim, checkpoint->directory, false);
    if (checkpoint->kind == CHECKPOINT_KIND_CHECKPOINT || directory == NULL || directory->metadata == NULL)
        return;
    sim_trace(sim, "USER disposes %s", directory->path);
    struct event event = {.kind = EVENT_SAVEPOINT_DISPOSE, .dispose = {.trigger_id = request_create(sim), .path = directory->path}};
    sim_event(sim, &event);
}

static void fault_user(struct sim *sim)
{
    struct sim_job *job = &sim->jobs[sim_random(sim) % sim->job_count];
    uint64_t what = sim_random(sim) % 12;
    if (what >= 10) {
        dispose(sim, job);
        return;
    }
    if (what < 4) {
        sim_request(sim, job, CHECKPOINT_KIND_SAVEPOINT, sim_chance(sim, 15));
    } else if (what < 6) {
        sim_request(sim, job, CHECKPOINT_KIND_CHECKPOINT, false);
    } else if (what < 8) {
        sim_request(sim, job, what == 6 ? CHECKPOINT_KIND_STOP : CHECKPOINT_KIND_DRAIN, false);
    } else if (what == 8) {
        struct event event = {.kind = EVENT_JOB_CANCEL, .job_cancel = {.job = job->id}};
        sim_event(sim, &event);
    } else {
        sim_submit(sim, NULL, NULL, false);
    }
}

static void fault(struct sim *sim, struct sim_item *item)
{
    (void)item;
    if (sim->now_ms >= sim->faults_end_ms)
        return;
    uint64_t what = sim_random(sim) % 10;
    if (what < 4)
        fault_taskmanager(sim);
    else if (what < 6)
        fault_task(sim);
    else if (what < 7)
        fault_damage(sim);
    else
        fault_user(sim);
    sim_at(sim, sim->now_ms + (sim_chance(sim, 20) ? sim_between(sim, 0, 200) : sim_between(sim, 500, 30000)), fault);
}

/* ---------------------------------------------------------------- a seed */

static void heal(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->taskmanager_count; i++) {
        struct sim_taskmanager *taskmanager = &sim->taskmanagers[i];
        taskmanager->is_cut = false;
        if (!taskmanager->is_alive) {
            world_start(sim, taskmanager);
        } else if (taskmanager->is_stopped) {
            world_kill(sim, taskmanager);
            world_start(sim, taskmanager);
        }
    }
}

/* A job may wait for slots that other jobs have; with all of them free for it, it must run. */
static void check_settled(struct sim *sim)
{
    uint32_t running = 0;
    for (uint32_t i = 0; i < sim->job_count; i++) {
        struct job *job = coordinator_job(sim->coordinator, sim->jobs[i].id);
        if (job == NULL || job_state_is_terminal(job->state))
            continue;
        bool is_up = job->state == JOB_RUNNING &&
                     job->state_counts[EXECUTION_RUNNING] + job->state_counts[EXECUTION_FINISHED] == job->task_count;
        running += is_up;
        if (!is_up && (job->has_slots || job->slot_count <= sim->coordinator->free_slot_count))
            sim_fail(sim, "job %u neither runs nor ends: %s, %u of %u tasks run", i, job_state_name(job->state), job->state_counts[EXECUTION_RUNNING],
                     job->task_count);
        if (job->state_counts[EXECUTION_FINISHED] == job->task_count)
            sim_fail(sim, "all tasks of job %u have finished, and it does not end: %s", i, job_state_name(job->state));
        if (is_up && sim->jobs[i].has_checkpoints && !job->is_stopping && job->checkpoints.counts.completed == 0)
            sim_fail(sim, "job %u runs and completed no checkpoint", i);
    }
    sim_trace(sim, "settled: %u jobs run", running);
}

static void cancel_all(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->job_count; i++) {
        struct event event = {.kind = EVENT_JOB_CANCEL, .job_cancel = {.job = sim->jobs[i].id}};
        sim_event(sim, &event);
    }
    run_until(sim, sim->now_ms + 60000);
    for (uint32_t i = 0; i < sim->job_count; i++) {
        const struct job *job = coordinator_job(sim->coordinator, sim->jobs[i].id);
        if (job != NULL && !job_state_is_terminal(job->state))
            sim_fail(sim, "job %u does not end after it was cancelled: %s", i, job_state_name(job->state));
    }
    if (sim->coordinator->free_slot_count != sim->coordinator->slot_count)
        sim_fail(sim, "%u slots have leaked", sim->coordinator->slot_count - sim->coordinator->free_slot_count);
    for (size_t i = 0; i < sim->requests.count; i++) {
        if (sim->requests.items[i].answers != 1)
            sim_fail(sim, "request %zu was never answered", i);
    }
    for (size_t i = 0; i < sim->all_runners.count; i++) {
        if (sim->all_runners.items[i]->is_alive && sim->all_runners.items[i]->taskmanager->is_alive)
            sim_fail(sim, "a runner of job %u was forgotten on %s", sim->all_runners.items[i]->job->index,
                     sim->all_runners.items[i]->taskmanager->id);
    }
}

/* Of the jobs that have ended: failed checkpoints and savepoints leave nothing, the others what the job's retention says. */
static void check_disk(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->job_count; i++) {
        const struct job *job = coordinator_job(sim->coordinator, sim->jobs[i].id);
        if (job == NULL)
            continue;
        enum checkpoint_retention retention = job->settings.retention;
        bool has_lost_state = job->failure != NULL && strstr(job->failure, "no intact checkpoint is left") != NULL;
        bool keeps = job->state == JOB_CANCELED ? retention == RETENTION_RETAIN_ON_CANCELLATION
                                                : job->state == JOB_FAILED && (retention != RETENTION_NONE || has_lost_state);
        for (size_t c = 0; c < sim->jobs[i].checkpoints.count; c++) {
            const struct sim_checkpoint *checkpoint = &sim->jobs[i].checkpoints.items[c];
            const struct checkpoint *known = coordinator_checkpoint(job, checkpoint->id);
            bool is_checkpoint = checkpoint->kind == CHECKPOINT_KIND_CHECKPOINT;
            bool may_stay = is_checkpoint ? keeps && (known == NULL || !known->is_discarded) : known == NULL || !known->is_discarded;
            if (!may_stay && sim_disk_has(sim, checkpoint->directory))
                sim_fail(sim, "job %u has ended and left %s", i, checkpoint->directory);
        }
    }
}

static void sim_begin(struct sim *sim)
{
    sim->generator = sim->seed * 0x9e3779b97f4a7c15ULL + 1;
    sim->now_ms = START_MS;
    sim->faults_end_ms = START_MS + sim_between(sim, 20000, 400000);
    sim->config = config_create_over(NULL);
    struct error *err = config_set(sim->config, "resourcemanager.standalone.start-up-time", sim_chance(sim, 50) ? "5 min" : "1 s", "sim");
    check(err == NULL);
    err = config_set(sim->config, "jobstore.expiration-time", sim_chance(sim, 20) ? "20 s" : "1 h", "sim");
    check(err == NULL);
    err = config_set(sim->config, "jobstore.max-capacity", sim_chance(sim, 10) ? "1" : "1000", "sim");
    check(err == NULL);
    struct coordinator_options options = {.config = sim->config, .seed = sim_random(sim), .now_ms = sim->now_ms,
                                          .checkpoint_directory = "/disk/checkpoints"};
    err = coordinator_create(&options, &sim->coordinator);
    check(err == NULL);
    if (sim->injection == INJECT_NO_FENCE)
        sim->coordinator->settings.fencing_silent_ms = sim->coordinator->settings.fencing_closed_ms = 0;
    sim->taskmanager_count = (uint32_t)sim_between(sim, 1, SIM_TASKMANAGERS_MAX);
    for (uint32_t i = 0; i < sim->taskmanager_count; i++) {
        struct sim_taskmanager *taskmanager = &sim->taskmanagers[i];
        taskmanager->index = i;
        snprintf(taskmanager->id, sizeof taskmanager->id, "sim:%u-%06x", i, i);
        taskmanager->slots = (uint32_t)sim_between(sim, 1, 4);
        struct sim_item *item = sim_at(sim, sim->now_ms + sim_between(sim, 0, 3000), taskmanager_return);
        item->taskmanager = taskmanager;
    }
}

static void sim_end(struct sim *sim)
{
    sim->is_stopping = true;
    for (size_t i = 0; i < sim->items.count; i++)
        sim_item_destroy(sim->items.items[i]);
    vec_finish(&sim->items);
    world_finish(sim);
    coordinator_destroy(sim->coordinator);
    config_destroy(sim->config);
    sim_disk_finish(sim);
    vec_finish(&sim->requests);
    for (uint32_t i = 0; i < sim->job_count; i++) {
        for (size_t c = 0; c < sim->jobs[i].checkpoints.count; c++)
            free(sim->jobs[i].checkpoints.items[c].directory);
        vec_finish(&sim->jobs[i].checkpoints);
    }
}

struct totals {
    uint64_t events, checkpoints, restores, losses, jobs;
};

static void run_seed(uint64_t seed, enum sim_injection injection, bool is_verbose, struct totals *totals)
{
    struct sim *sim = heap_new(struct sim);
    sim->seed = seed;
    sim->injection = injection;
    sim->is_verbose = is_verbose;
    sim_begin(sim);
    run_until(sim, sim->now_ms + sim_between(sim, 0, 2000));
    sim_submit(sim, NULL, NULL, false);
    sim_at(sim, sim->now_ms + sim_between(sim, 0, 5000), fault);
    run_until(sim, sim->faults_end_ms);
    sim_trace(sim, "the faults end");
    heal(sim);
    run_until(sim, sim->now_ms + CALM_MS);
    check_settled(sim);
    cancel_all(sim);
    check_disk(sim);
    totals->events += sim->events;
    totals->checkpoints += sim->checkpoints_completed;
    totals->restores += sim->restores;
    totals->losses += sim->losses;
    totals->jobs += sim->job_count;
    sim_end(sim);
    free(sim);
}

static enum sim_injection injection_from_name(const char *name)
{
    for (unsigned i = 0; i < INJECT_COUNT; i++) {
        if (strcmp(name, injection_names[i]) == 0)
            return (enum sim_injection)i;
    }
    fprintf(stderr, "sim: no injection %s; there are:", name);
    for (unsigned i = 0; i < INJECT_COUNT; i++)
        fprintf(stderr, " %s", injection_names[i]);
    fprintf(stderr, "\n");
    exit(2);
}

int main(int argc, char **argv)
{
    uint64_t seeds = 1000, first = 1;
    bool is_verbose = false;
    enum sim_injection injection = INJECT_NONE;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0) {
            is_verbose = true;
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
            seeds = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            first = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--inject") == 0 && i + 1 < argc) {
            injection = injection_from_name(argv[++i]);
        } else {
            fprintf(stderr, "usage: sim [--seeds N] [--seed FIRST] [--inject NAME] [--verbose]\n");
            return 2;
        }
    }
    struct totals totals = {0};
    clock_t start = clock();
    for (uint64_t i = 0; i < seeds; i++)
        run_seed(first + i, injection, is_verbose, &totals);
    printf("%" PRIu64 " seeds from %" PRIu64 ": %" PRIu64 " events, %" PRIu64 " jobs, %" PRIu64 " checkpoints, %" PRIu64 " restores, %" PRIu64
           " losses, %.1f s\n",
           seeds, first, totals.events, totals.jobs, totals.checkpoints, totals.restores, totals.losses, (double)(clock() - start) / CLOCKS_PER_SEC);
    return 0;
}
