/* The coordinator core step by step: scheduling and its log lines, restart strategies, checkpoints, restore, books. What
 * happens under random faults is the simulator's matter (tests/sim). */
#include "common/base/heap.h"
#include "jobmanager/core/coordinator.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define NOW 1700000000000LL

struct fixture {
    struct config *config;
    struct coordinator *coordinator;
    struct action_list actions; /* of the last event */
    int64_t now_ms;
};

static struct fixture fixture_create(const char *start_up)
{
    struct fixture f = {.config = config_create_over(NULL), .now_ms = NOW};
    struct error *err = config_set(f.config, "resourcemanager.standalone.start-up-time", start_up, "test");
    ck_assert_ptr_null(err);
    struct coordinator_options options = {.config = f.config, .seed = 7, .now_ms = NOW, .checkpoint_directory = "/c"};
    err = coordinator_create(&options, &f.coordinator);
    ck_assert_ptr_null(err);
    return f;
}

static void fixture_finish(struct fixture *f)
{
    action_list_finish(&f->actions);
    coordinator_destroy(f->coordinator);
    config_destroy(f->config);
}

static void handle(struct fixture *f, const struct event *event)
{
    action_list_finish(&f->actions);
    coordinator_handle(f->coordinator, event, f->now_ms, &f->actions);
    coordinator_verify(f->coordinator);
}

static void tick_to(struct fixture *f, int64_t now_ms)
{
    f->now_ms = now_ms;
    struct event event = {.kind = EVENT_TICK};
    handle(f, &event);
}

static struct action *find_action(struct fixture *f, enum action_kind kind)
{
    for (size_t i = 0; i < f->actions.actions.count; i++) {
        if (f->actions.actions.items[i].kind == kind)
            return &f->actions.actions.items[i];
    }
    return NULL;
}

static bool logged(const struct fixture *f, const char *text)
{
    for (size_t i = 0; i < f->actions.actions.count; i++) {
        const struct action *action = &f->actions.actions.items[i];
        if (action->kind == ACTION_LOG && strstr(action->log.text, text) != NULL)
            return true;
    }
    return false;
}

/* The whole text. */
static bool logged_line(const struct fixture *f, const char *line)
{
    for (size_t i = 0; i < f->actions.actions.count; i++) {
        const struct action *action = &f->actions.actions.items[i];
        if (action->kind == ACTION_LOG && strcmp(action->log.text, line) == 0)
            return true;
    }
    return false;
}

static struct id the_job(uint8_t n)
{
    return (struct id){{0xaa, n}};
}

/* source -> map, at a parallelism; operator ids 1 and id2. */
static struct job_graph *graph(uint8_t n, uint32_t parallelism, uint8_t id2, json_t *config)
{
    struct job_graph *graph = heap_new(struct job_graph);
    graph->job_id = the_job(n);
    graph->name = heap_strdup("Test Job");
    graph->config = config;
    graph->operators = heap_alloc_array(2, sizeof *graph->operators);
    graph->vertices = heap_alloc_array(2, sizeof *graph->vertices);
    graph->operator_count = graph->vertex_count = 2;
    for (uint32_t v = 0; v < 2; v++) {
        struct job_operator *operator = &graph->operators[v];
        operator->id = (struct id){{v == 0 ? 1 : id2}};
        operator->name = heap_strdup(v == 0 ? "Source" : "Map");
        operator->type = heap_strdup(v == 0 ? "datagen-source" : "map");
        operator->slot_sharing_group = heap_strdup("default");
        operator->parallelism = parallelism;
        operator->max_parallelism = 128;
        operator->options = json_object();
        operator->vertex = v;
        if (v == 1) {
            operator->inputs = heap_new(struct job_edge);
            operator->inputs[0] = (struct job_edge){.source = 0, .side_output = -1, .partitioning = PARTITION_REBALANCE};
            operator->input_count = 1;
        }
        graph->vertices[v] = (struct job_vertex){.id = {{0xbb, (uint8_t)v}}, .name = heap_strdup(operator->name), .parallelism = parallelism,
                                                 .max_parallelism = 128, .operators = heap_new(uint32_t), .operator_count = 1};
        graph->vertices[v].operators[0] = v;
    }
    return graph;
}

static struct job *submit_claiming(struct fixture *f, struct job_graph *graph, const char *path, const json_t *metadata, bool allow, bool claims)
{
    struct id id = graph->job_id;
    struct event event = {.kind = EVENT_JOB_SUBMITTED,
                          .job_submitted = {.graph = graph, .savepoint_path = path, .savepoint_metadata = metadata, .allow_non_restored = allow,
                                            .claims_savepoint = claims}};
    handle(f, &event);
    return coordinator_job(f->coordinator, id);
}

static struct job *submit(struct fixture *f, struct job_graph *graph, const char *path, const json_t *metadata, bool allow)
{
    return submit_claiming(f, graph, path, metadata, allow, false);
}

static void add_taskmanager(struct fixture *f, const char *id, uint64_t connection, uint32_t slots)
{
    struct event event = {.kind = EVENT_TASKMANAGER_REGISTERED,
                          .registered = {.taskmanager = id, .connection = connection, .host = "localhost", .data_port = 42607, .slot_count = slots}};
    handle(f, &event);
}

static void report(struct fixture *f, struct job *job, uint32_t vertex, uint32_t subtask, enum execution_state state, const struct error *error)
{
    const struct execution *execution = job->vertices[vertex].subtasks[subtask].current;
    const struct taskmanager *taskmanager = coordinator_taskmanager(f->coordinator, execution->taskmanager_id);
    struct event event = {.kind = EVENT_TASK_STATE,
                          .task_state = {.taskmanager = taskmanager->id, .connection = taskmanager->connection, .job = job->id, .epoch = job->epoch,
                                         .execution = execution->id, .state = state, .error = error}};
    handle(f, &event);
}

static void all_running(struct fixture *f, struct job *job)
{
    for (uint32_t v = 0; v < 2; v++) {
        for (uint32_t s = 0; s < job->vertices[v].parallelism; s++)
            report(f, job, v, s, EXECUTION_RUNNING, NULL);
    }
}

static void runners_gone(struct fixture *f, struct job *job)
{
    while (job->runners.count > 0) {
        const struct taskmanager *taskmanager = job->runners.items[0].taskmanager;
        struct event event = {.kind = EVENT_RUNNER_GONE,
                              .runner_gone = {.taskmanager = taskmanager->id, .connection = taskmanager->connection, .job = job->id,
                                              .epoch = job->epoch}};
        handle(f, &event);
    }
}

static int ack_in_flight; /* rows that the next acks of maps have in their channels */

static void ack(struct fixture *f, struct job *job, uint32_t vertex, uint32_t subtask, uint64_t id, int rows, bool is_finished)
{
    const struct execution *execution = job->vertices[vertex].subtasks[subtask].current;
    const struct taskmanager *taskmanager = coordinator_taskmanager(f->coordinator, execution->taskmanager_id);
    struct id_text operator = id_format(job->graph->operators[vertex].id);
    char path[32];
    snprintf(path, sizeof path, "%u-%u", vertex, subtask);
    json_t *state = json_pack("[{s:s,s:s,s:i,s:i}]", "operator", operator.hex, "path", path, "size", 50, "subtask", (int)subtask);
    json_t *books = json_object();
    json_object_set_new(books, operator.hex, json_pack("{s:[i,i],s:i,s:i}", "rows_in", vertex == 0 ? 0 : rows, 0, "rows_out", rows,
                                                       "rows_read", vertex == 0 ? rows : 0));
    if (vertex > 0 && ack_in_flight > 0)
        json_object_set_new(json_object_get(books, operator.hex), "rows_in_flight", json_pack("[i,i]", ack_in_flight, 0));
    json_t *metrics = json_pack("{s:i,s:i,s:b}", "bytes", 50, "persisted_bytes", ack_in_flight * 8, "is_unaligned", ack_in_flight > 0);
    struct event event = {.kind = EVENT_CHECKPOINT_ACK,
                          .ack = {.taskmanager = taskmanager->id, .connection = taskmanager->connection, .job = job->id, .epoch = job->epoch,
                                  .checkpoint = id, .execution = execution->id, .state = state, .books = books, .metrics = metrics,
                                  .is_finished = is_finished}};
    handle(f, &event);
    json_decref(state);
    json_decref(books);
    json_decref(metrics);
}

static void written(struct fixture *f, struct job *job, uint64_t id)
{
    struct event event = {.kind = EVENT_METADATA_WRITTEN, .metadata_written = {.job = job->id, .checkpoint = id}};
    handle(f, &event);
}

/* The newest pending checkpoint is acknowledged by everyone and written. */
static uint64_t complete_checkpoint(struct fixture *f, struct job *job, int rows)
{
    uint64_t id = job->pending.items[job->pending.count - 1]->id;
    for (uint32_t v = 0; v < 2; v++) {
        for (uint32_t s = 0; s < job->vertices[v].parallelism; s++) {
            if (job->vertices[v].subtasks[s].current->state == EXECUTION_RUNNING)
                ack(f, job, v, s, id, rows, false);
        }
    }
    ck_assert_ptr_nonnull(find_action(f, ACTION_WRITE_METADATA));
    written(f, job, id);
    return id;
}

static json_t *checkpointed(const char *retained)
{
    return json_pack("{s:s,s:s,s:s}", "execution.checkpointing.interval", "1000", "execution.checkpointing.num-retained", retained,
                     "restart-strategy.exponential-delay.jitter-factor", "0");
}

/* One taskmanager, and a job of two operators all of whose tasks run there. Takes config. */
static struct fixture with_running_job(uint32_t slots, uint32_t parallelism, json_t *config, struct job **job)
{
    struct fixture f = fixture_create("5 min");
    add_taskmanager(&f, "a", 1, slots);
    *job = submit(&f, graph(1, parallelism, 2, config), NULL, NULL, false);
    all_running(&f, *job);
    return f;
}

START_TEST(waits_in_the_start_up_period)
{
    struct fixture f = fixture_create("5 min");
    struct job *job = submit(&f, graph(1, 2, 2, checkpointed("1")), NULL, NULL, false);
    ck_assert_int_eq(job->state, JOB_RUNNING);
    ck_assert_uint_eq(job->state_counts[EXECUTION_SCHEDULED], 4);
    ck_assert_uint_eq(job->slot_count, 2);
    tick_to(&f, NOW + 200000);
    ck_assert_int_eq(job->state, JOB_RUNNING);
    add_taskmanager(&f, "a", 1, 1);
    ck_assert_ptr_null(find_action(&f, ACTION_DEPLOY));
    add_taskmanager(&f, "b", 2, 1);
    const struct action *deploy = find_action(&f, ACTION_DEPLOY);
    ck_assert_ptr_nonnull(deploy);
    ck_assert_uint_eq(json_object_size(deploy->deploy.peers), 4);
    ck_assert_uint_eq(json_array_size(deploy->deploy.tasks), 2);
    ck_assert_uint_eq(job->state_counts[EXECUTION_DEPLOYING], 4);
    fixture_finish(&f);
}
END_TEST

START_TEST(fails_at_once_afterwards)
{
    struct fixture f = fixture_create("0");
    struct job *job = submit(&f, graph(1, 1, 2, checkpointed("1")), NULL, NULL, false);
    tick_to(&f, NOW + 50);
    ck_assert(logged(&f, "Could not acquire the minimum required resources, failing slot requests. Acquired: []. Current slot pool status: "
                         "Registered "
                         "TMs: 0, registered slots: 0 free slots: 0"));
    ck_assert(logged(&f, "switched from SCHEDULED to FAILED on [unassigned resource].\norg.apache.flink.runtime.jobmanager.scheduler."
                         "NoResourceAvailableException: Could not acquire the minimum required resources."));
    ck_assert(logged(&f, "2 tasks will be restarted to recover the failed task"));
    ck_assert(logged(&f, "Job Test Job (aa010000000000000000000000000000) switched from state RUNNING to RESTARTING."));
    /* Exponential delay: 1 s, then 1.5 s. */
    ck_assert_int_eq(coordinator_next_deadline_ms(f.coordinator), NOW + 1050);
    tick_to(&f, NOW + 1050);
    ck_assert_int_eq(job->state, JOB_RUNNING);
    ck_assert_uint_eq(job->vertices[0].subtasks[0].current->attempt, 1);
    tick_to(&f, NOW + 1100);
    ck_assert_int_eq(coordinator_next_deadline_ms(f.coordinator), NOW + 2600);
    fixture_finish(&f);
}
END_TEST

START_TEST(submission_is_idempotent)
{
    struct fixture f = fixture_create("5 min");
    struct job *job = submit(&f, graph(1, 1, 2, json_object()), NULL, NULL, false);
    ck_assert_ptr_eq(submit(&f, graph(1, 3, 9, json_object()), NULL, NULL, false), job);
    ck_assert_uint_eq(job->task_count, 2);
    fixture_finish(&f);
}
END_TEST

START_TEST(checkpoint_completes_and_is_restored)
{
    struct fixture f = fixture_create("5 min");
    add_taskmanager(&f, "a", 1, 1);
    add_taskmanager(&f, "b", 2, 1);
    struct job *job = submit(&f, graph(1, 1, 2, checkpointed("1")), NULL, NULL, false);
    all_running(&f, job);
    tick_to(&f, NOW + 1000);
    const struct action *trigger = find_action(&f, ACTION_TRIGGER_CHECKPOINT);
    ck_assert_ptr_nonnull(trigger);
    ck_assert_str_eq(trigger->trigger.directory, "/c/aa010000000000000000000000000000/chk-1");
    ck_assert_uint_eq(json_array_size(trigger->trigger.executions), 1);
    ack(&f, job, 0, 0, 1, 10, false);
    ck_assert_ptr_null(find_action(&f, ACTION_WRITE_METADATA));
    ack(&f, job, 0, 0, 1, 10, false); /* twice */
    ck_assert_uint_eq(f.coordinator->counters.ignored_stale, 1);
    ack(&f, job, 1, 0, 1, 10, false);
    ck_assert_ptr_nonnull(find_action(&f, ACTION_WRITE_METADATA));
    ck_assert_ptr_null(find_action(&f, ACTION_CHECKPOINT_COMPLETE));
    written(&f, job, 1);
    ck_assert_ptr_nonnull(find_action(&f, ACTION_CHECKPOINT_COMPLETE));
    ck_assert(logged(&f, "Completed checkpoint 1 for job aa010000000000000000000000000000 (100 bytes, checkpointDuration=0 ms, "
                         "finalizationTime=0 ms)."));
    ck_assert(job->books_balance);
    /* The taskmanager dies: the tasks go to the other one, with the state. */
    struct event lost = {.kind = EVENT_TASKMANAGER_CLOSED, .taskmanager = {.taskmanager = job->runners.items[0].taskmanager->id,
                                                                           .connection = job->runners.items[0].taskmanager->connection,
                                                                           .reason = "connection reset"}};
    char *lost_id = heap_strdup(job->runners.items[0].taskmanager->id);
    handle(&f, &lost);
    char *line = heap_printf("TaskManager with id %s is no longer reachable.", lost_id);
    ck_assert(logged_line(&f, line));
    char *text = heap_printf("org.apache.flink.runtime.jobmaster.JobMasterException: %s\nCaused by: connection reset", line);
    ck_assert_str_eq(job->exceptions.items[0].text, text); /* Flink's words, ours on a line of their own */
    free(text);
    free(line);
    free(lost_id);
    ck_assert_int_eq(job->state, JOB_RESTARTING);
    tick_to(&f, f.now_ms + 1000);
    ck_assert(logged(&f, "from Checkpoint 1 @"));
    const struct action *deploy = find_action(&f, ACTION_DEPLOY);
    ck_assert_ptr_nonnull(deploy);
    const json_t *restore = json_object_get(json_array_get(deploy->deploy.tasks, 0), "restore");
    ck_assert_int_eq(json_integer_value(json_object_get(restore, "checkpoint")), 1);
    ck_assert_uint_eq(json_object_size(json_object_get(restore, "handles")), 1);
    ck_assert_uint_eq(job->checkpoints.counts.restored, 1);
    /* Ids go on. */
    all_running(&f, job);
    tick_to(&f, f.now_ms + 1000);
    ck_assert_uint_eq(complete_checkpoint(&f, job, 20), 2);
    ck_assert_str_eq(find_action(&f, ACTION_DELETE_DIRECTORY)->delete_directory.directory, "/c/aa010000000000000000000000000000/chk-1");
    fixture_finish(&f);
}
END_TEST

START_TEST(no_new_epoch_before_runners_are_gone)
{
    struct job *job;
    struct fixture f = with_running_job(2, 1, checkpointed("1"), &job);
    struct error *err = error_new(USER_FUNCTION, "division by zero");
    report(&f, job, 1, 0, EXECUTION_FAILED, err);
    error_free(err);
    ck_assert(find_action(&f, ACTION_CANCEL)->cancel.is_kill);
    ck_assert_int_eq(job->state, JOB_RESTARTING);
    ck_assert_str_eq(job->exceptions.items[0].name, "USER_FUNCTION");
    ck_assert_str_eq(job->exceptions.items[0].task_name, "Map (1/1) - execution #0");
    tick_to(&f, NOW + 5000);
    ck_assert_int_eq(job->state, JOB_RESTARTING);
    runners_gone(&f, job);
    tick_to(&f, NOW + 5000);
    ck_assert_int_eq(job->state, JOB_RUNNING);
    ck_assert_uint_eq(job->epoch, 2);
    fixture_finish(&f);
}
END_TEST

/* A file or a mount that a task misses is no fault of the program: it may be there at the next attempt. */
START_TEST(what_a_task_does_not_find_is_worth_another_try)
{
    struct job *job;
    struct fixture f = with_running_job(2, 1, checkpointed("1"), &job);
    struct error *err = error_errno(ENOENT, "could not open /mnt/state/1-0");
    ck_assert_int_eq(err->code, ERR_NOT_FOUND);
    report(&f, job, 1, 0, EXECUTION_FAILED, err);
    error_free(err);
    ck_assert_int_eq(job->state, JOB_RESTARTING);
    fixture_finish(&f);
}
END_TEST

START_TEST(damaged_checkpoint_gives_way_to_the_one_before)
{
    struct job *job;
    struct fixture f = with_running_job(2, 1, checkpointed("2"), &job);
    for (int i = 1; i <= 2; i++) {
        tick_to(&f, f.now_ms + 1000);
        complete_checkpoint(&f, job, i);
    }
    report(&f, job, 1, 0, EXECUTION_FAILED, NULL);
    runners_gone(&f, job);
    tick_to(&f, f.now_ms + 1000);
    ck_assert_uint_eq(job->restore_checkpoint_id, 2);
    struct error *err = error_new(CORRUPT, "/c/aa010000000000000000000000000000/chk-2/1-0: checksum");
    report(&f, job, 1, 0, EXECUTION_FAILED, err);
    error_free(err);
    ck_assert(logged(&f, "Checkpoint 2 of job aa010000000000000000000000000000 at /c/aa010000000000000000000000000000/chk-2 is damaged"));
    runners_gone(&f, job);
    tick_to(&f, f.now_ms + 2000);
    ck_assert_int_eq(job->state, JOB_RUNNING);
    ck_assert_uint_eq(job->restore_checkpoint_id, 1);
    fixture_finish(&f);
}
END_TEST

/* The metadata of a savepoint of the test job at parallelism 2. */
static json_t *savepoint_metadata(void)
{
    struct job *job;
    struct fixture f = with_running_job(2, 2, checkpointed("1"), &job);
    struct event event = {.kind = EVENT_TRIGGER, .trigger = {.job = job->id, .trigger_id = {{5}}, .kind = CHECKPOINT_KIND_STOP,
                                                             .directory = "file:///s/"}};
    handle(&f, &event);
    const struct action *trigger = find_action(&f, ACTION_TRIGGER_CHECKPOINT);
    ck_assert_ptr_nonnull(trigger);
    ck_assert_uint_eq(strlen(trigger->trigger.directory), strlen("/s/savepoint-aa0100-123456789012"));
    ck_assert_int_eq(strncmp(trigger->trigger.directory, "/s/savepoint-aa0100-", 20), 0);
    for (uint32_t i = 0; i < 4; i++)
        ack(&f, job, i / 2, i % 2, 1, 10, false);
    json_t *metadata = json_incref(find_action(&f, ACTION_WRITE_METADATA)->write.metadata);
    written(&f, job, 1);
    ck_assert_ptr_null(find_action(&f, ACTION_REQUEST_FINISHED));
    for (uint32_t i = 0; i < 4; i++)
        report(&f, job, i / 2, i % 2, EXECUTION_FINISHED, NULL);
    runners_gone(&f, job);
    ck_assert_int_eq(job->state, JOB_FINISHED);
    ck_assert_ptr_null(find_action(&f, ACTION_REQUEST_FINISHED)->finished.error);
    ck_assert_uint_eq(f.coordinator->free_slot_count, 2);
    fixture_finish(&f);
    return metadata;
}

/* A task that is being cancelled may be the one that finds the damage. */
START_TEST(damage_that_is_found_before_the_restart_ends_the_job)
{
    struct job *job;
    struct fixture f = with_running_job(1, 1, checkpointed("1"), &job);
    tick_to(&f, NOW + 1000);
    complete_checkpoint(&f, job, 10);
    struct error *err = error_new(USER_FUNCTION, "division by zero");
    report(&f, job, 0, 0, EXECUTION_FAILED, err);
    error_free(err);
    struct event event = {.kind = EVENT_CHECKPOINT_DAMAGED, .damaged = {.job = job->id, .checkpoint = 1, .file = "0-0", .reason = "checksum"}};
    handle(&f, &event);
    runners_gone(&f, job);
    ck_assert_int_eq(job->state, JOB_RESTARTING);
    tick_to(&f, job->restart_at_ms);
    ck_assert_int_eq(job->state, JOB_FAILED);
    /* Not even with the default retention do the files go: they may be whole on another machine. */
    ck_assert_ptr_null(find_action(&f, ACTION_DELETE_DIRECTORY));
    ck_assert(logged_line(&f, "The checkpoints of job aa010000000000000000000000000000 stay at /c/aa010000000000000000000000000000: none of them "
                              "could be restored."));
    ck_assert_str_eq(job->failure, "org.apache.flink.runtime.JobException: The failure is not recoverable: no intact checkpoint is left\n"
                                   "Caused by: USER_FUNCTION: division by zero");
    fixture_finish(&f);
}
END_TEST

START_TEST(savepoint_restores_at_another_parallelism)
{
    json_t *metadata = savepoint_metadata();
    struct fixture f = fixture_create("5 min");
    add_taskmanager(&f, "a", 1, 4);
    struct job *job = submit(&f, graph(2, 3, 2, checkpointed("1")), "/s/x", metadata, false);
    ck_assert_int_eq(job->state, JOB_RUNNING);
    const struct action *deploy = find_action(&f, ACTION_DEPLOY);
    const json_t *first = json_object_get(json_array_get(deploy->deploy.tasks, 0), "restore");
    const json_t *second = json_object_get(json_array_get(deploy->deploy.tasks, 1), "restore");
    const char *operator = "01000000000000000000000000000000";
    ck_assert_uint_eq(json_array_size(json_object_get(json_object_get(first, "handles"), operator)), 2);
    /* The books of all old subtasks are folded into the first. */
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(json_object_get(first, "books"), operator), "rows_out")), 20);
    ck_assert_ptr_null(json_object_get(json_object_get(second, "books"), operator));
    ck_assert_uint_eq(job->next_checkpoint_id, 2);
    fixture_finish(&f);
    json_decref(metadata);
}
END_TEST

static struct fixture with_job_from_savepoint(const json_t *metadata, bool claims, struct job **job)
{
    struct fixture f = fixture_create("5 min");
    add_taskmanager(&f, "a", 1, 2);
    *job = submit_claiming(&f, graph(2, 2, 2, checkpointed("2")), "/s/x", metadata, false, claims);
    all_running(&f, *job);
    return f;
}

/* With CLAIM the savepoint counts as the oldest checkpoint of the job: it goes when there are enough newer ones, or with them at the end.
 * Without it nobody touches it. */
START_TEST(claimed_savepoint_is_subsumed)
{
    for (int claims = 0; claims < 2; claims++) {
        json_t *metadata = savepoint_metadata();
        struct job *job;
        struct fixture f = with_job_from_savepoint(metadata, claims != 0, &job);
        tick_to(&f, NOW + 1000);
        complete_checkpoint(&f, job, 10);
        ck_assert_ptr_null(find_action(&f, ACTION_DELETE_DIRECTORY)); /* the only other one so far */
        tick_to(&f, NOW + 2000);
        complete_checkpoint(&f, job, 10);
        const struct action *deleted = find_action(&f, ACTION_DELETE_DIRECTORY);
        ck_assert_int_eq(deleted != NULL, claims);
        if (deleted != NULL)
            ck_assert_str_eq(deleted->delete_directory.directory, "/s/x");
        fixture_finish(&f);
        json_decref(metadata);
    }
}
END_TEST

START_TEST(claimed_savepoint_goes_with_the_job)
{
    for (int claims = 0; claims < 2; claims++) {
        json_t *metadata = savepoint_metadata();
        struct job *job;
        struct fixture f = with_job_from_savepoint(metadata, claims != 0, &job);
        struct event event = {.kind = EVENT_JOB_CANCEL, .job_cancel = {.job = job->id}};
        handle(&f, &event);
        runners_gone(&f, job);
        ck_assert_int_eq(job->state, JOB_CANCELED);
        const struct action *deleted = find_action(&f, ACTION_DELETE_DIRECTORY);
        ck_assert_int_eq(deleted != NULL, claims);
        if (deleted != NULL)
            ck_assert_str_eq(deleted->delete_directory.directory, "/s/x");
        fixture_finish(&f);
        json_decref(metadata);
    }
}
END_TEST

/* The id of a job may be given, and then its directory holds what an earlier life of it has left: what is not claimed stays. */
START_TEST(checkpoint_of_the_same_job_id_outlives_the_job)
{
    json_t *metadata = savepoint_metadata();
    static const char *const paths[] = {"/c/aa020000000000000000000000000000/chk-1", "/c/aa0200000000000000000000000000001/chk-1",
                                        "/c/aa020000000000000000000000000000/chk-1"};
    for (int elsewhere = 0; elsewhere < 3; elsewhere++) { /* 2: it is claimed, and subsumed by the second checkpoint */
        struct fixture f = fixture_create("5 min");
        add_taskmanager(&f, "a", 1, 4);
        struct job *job = submit_claiming(&f, graph(2, 1, 2, checkpointed("2")), paths[elsewhere], metadata, false, elsewhere == 2);
        all_running(&f, job);
        tick_to(&f, NOW + 1000);
        complete_checkpoint(&f, job, 10);
        tick_to(&f, NOW + 2000);
        complete_checkpoint(&f, job, 10);
        struct event event = {.kind = EVENT_JOB_CANCEL, .job_cancel = {.job = job->id}};
        handle(&f, &event);
        runners_gone(&f, job);
        ck_assert_int_eq(job->state, JOB_CANCELED);
        uint32_t deleted = 0;
        for (size_t i = 0; i < f.actions.actions.count; i++) {
            const struct action *action = &f.actions.actions.items[i];
            if (action->kind != ACTION_DELETE_DIRECTORY)
                continue;
            deleted++;
            if (elsewhere)
                ck_assert_str_eq(action->delete_directory.directory, "/c/aa020000000000000000000000000000");
            else
                ck_assert_ptr_nonnull(strstr(action->delete_directory.directory, deleted == 1 ? "/chk-2" : "/chk-3"));
        }
        ck_assert_uint_eq(deleted, elsewhere ? 1 : 2);
        fixture_finish(&f);
    }
    json_decref(metadata);
}
END_TEST

START_TEST(unmatched_state_is_refused_unless_allowed)
{
    json_t *metadata = savepoint_metadata();
    struct fixture f = fixture_create("5 min");
    struct job *job = submit(&f, graph(2, 1, 9, checkpointed("1")), "/s/x", metadata, false);
    ck_assert_int_eq(job->state, JOB_FAILED);
    ck_assert_ptr_nonnull(strstr(job->failure, "Failed to rollback to checkpoint/savepoint /s/x. Cannot map checkpoint/savepoint state for operator "
                                               "02000000000000000000000000000000 to the new program, because the operator is not available "
                                               "in the new "
                                               "program. If you want to allow to skip this, you can set the --allowNonRestoredState option "
                                               "on the CLI."));
    ck_assert_str_eq(job->exceptions.items[0].name, "org.apache.flink.runtime.client.JobInitializationException");
    add_taskmanager(&f, "a", 1, 1);
    job = submit(&f, graph(3, 1, 9, checkpointed("1")), "/s/x", metadata, true);
    all_running(&f, job);
    tick_to(&f, NOW + 1000);
    /* The new map has counted nothing of what the source had sent before. */
    ack(&f, job, 0, 0, 2, 25, false);
    ack(&f, job, 1, 0, 2, 5, false);
    written(&f, job, 2);
    ck_assert(job->books_balance);
    fixture_finish(&f);
    json_decref(metadata);
}
END_TEST

START_TEST(max_parallelism_may_not_change)
{
    json_t *metadata = savepoint_metadata();
    struct fixture f = fixture_create("5 min");
    struct job_graph *changed = graph(2, 1, 2, checkpointed("1"));
    changed->operators[1].max_parallelism = changed->vertices[1].max_parallelism = 64;
    const struct job *job = submit(&f, changed, "/s/x", metadata, false);
    ck_assert_int_eq(job->state, JOB_FAILED);
    ck_assert_ptr_nonnull(strstr(job->failure, "Max parallelism mismatch"));
    fixture_finish(&f);
    json_decref(metadata);
}
END_TEST

/* The largest number that Flink's options take stands for "never": no sum of times overflows. */
START_TEST(spans_without_end_are_never_over)
{
    static const char *const keys[] = {"execution.checkpointing.interval", "execution.checkpointing.timeout", "execution.checkpointing.min-pause",
                                       "execution.checkpointing.aligned-checkpoint-timeout", "task.cancellation.timeout",
                                       "restart-strategy.exponential-delay.initial-backoff", "restart-strategy.exponential-delay.max-backoff",
                                       "restart-strategy.exponential-delay.reset-backoff-threshold"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *config = checkpointed("1");
        json_object_set_new(config, keys[i], json_string(i == 0 ? "9223372036854775806" : "9223372036854775807"));
        struct job *job;
        struct fixture f = with_running_job(1, 1, config, &job);
        tick_to(&f, NOW + 1000);
        ck_assert_int_eq(find_action(&f, ACTION_TRIGGER_CHECKPOINT) != NULL, i != 0 && i != 2);
        if (job->pending.count > 0)
            complete_checkpoint(&f, job, 10);
        tick_to(&f, NOW + 2000);
        ck_assert_int_eq(find_action(&f, ACTION_TRIGGER_CHECKPOINT) != NULL, i != 0 && i != 2);
        ck_assert_uint_eq(job->checkpoints.counts.failed, 0);
        struct error *err = error_new(USER_FUNCTION, "division by zero");
        report(&f, job, 0, 0, EXECUTION_FAILED, err);
        error_free(err);
        runners_gone(&f, job);
        ck_assert_int_eq(job->state, JOB_RESTARTING);
        ck_assert_int_gt(job->restart_at_ms, f.now_ms);
        struct event event = {.kind = EVENT_JOB_CANCEL, .job_cancel = {.job = job->id}};
        handle(&f, &event);
        ck_assert_int_eq(job->state, JOB_CANCELED);
        fixture_finish(&f);
    }
}
END_TEST

START_TEST(largest_interval_is_none)
{
    struct job *job;
    struct fixture f = with_running_job(1, 1, json_pack("{s:s}", "execution.checkpointing.interval", "9223372036854775807 ms"), &job);
    ck_assert_int_eq(job->settings.checkpoint_interval_ms, 0);
    ck_assert_int_eq(job->settings.restart.type, RESTART_NONE);
    fixture_finish(&f);
}
END_TEST

START_TEST(books_that_do_not_balance_are_named)
{
    struct job *job;
    struct fixture f = with_running_job(1, 1, checkpointed("1"), &job);
    tick_to(&f, NOW + 1000);
    ack(&f, job, 0, 0, 1, 10, false);
    ack(&f, job, 1, 0, 1, 9, false);
    written(&f, job, 1);
    ck_assert(!job->books_balance);
    ck_assert(logged(&f, "The books of checkpoint 1 of job aa010000000000000000000000000000 do not balance: input 0 of Map: 1 rows were "
                         "sent and did not come"));
    fixture_finish(&f);
}
END_TEST

/* One source that broadcasts to maps at a parallelism. Takes config. */
static struct job_graph *broadcast_graph(uint8_t n, uint32_t parallelism, json_t *config)
{
    struct job_graph *broadcast = graph(n, parallelism, 2, config);
    broadcast->operators[0].parallelism = broadcast->vertices[0].parallelism = 1;
    broadcast->operators[1].inputs[0].partitioning = PARTITION_BROADCAST;
    return broadcast;
}

/* What was broadcast before the rescale went to fewer subtasks: that is no difference in the books. What gets lost after it is one. */
START_TEST(books_of_broadcasts_balance_after_a_rescale)
{
    struct fixture f = fixture_create("5 min");
    add_taskmanager(&f, "a", 1, 5);
    struct job *before = submit(&f, broadcast_graph(1, 2, checkpointed("1")), NULL, NULL, false);
    all_running(&f, before);
    tick_to(&f, NOW + 1000);
    complete_checkpoint(&f, before, 10);
    ck_assert(before->books_balance);
    struct job *after = submit(&f, broadcast_graph(2, 3, checkpointed("1")), "/s/x", before->retained.items[0]->metadata, false);
    all_running(&f, after);
    for (int lost = 0; lost < 2; lost++) {
        uint64_t id = (uint64_t)(2 + lost);
        tick_to(&f, NOW + 2000 + lost * 1000);
        ack(&f, after, 0, 0, id, 13, false);
        ack(&f, after, 1, 0, id, 23, false); /* 20 from before */
        ack(&f, after, 1, 1, id, 3, false);
        ack(&f, after, 1, 2, id, 3 - lost, false);
        written(&f, after, id);
        ck_assert_int_eq(after->books_balance, lost == 0);
    }
    fixture_finish(&f);
}
END_TEST

/* Rows in flight are part of the checkpoint: they were sent, and they are there. One checkpoint at a time, whatever was asked for. */
START_TEST(unaligned_books_balance_with_rows_in_flight)
{
    struct fixture f = fixture_create("5 min");
    add_taskmanager(&f, "a", 1, 1);
    json_t *config = checkpointed("1");
    json_object_set_new(config, "execution.checkpointing.unaligned.enabled", json_string("true"));
    json_object_set_new(config, "execution.checkpointing.max-concurrent-checkpoints", json_string("4"));
    struct job *job = submit(&f, graph(1, 1, 2, config), NULL, NULL, false);
    ck_assert(job->settings.is_unaligned);
    all_running(&f, job);
    tick_to(&f, NOW + 1000);
    tick_to(&f, NOW + 5000);
    ck_assert_uint_eq(job->pending.count, 1);
    ack(&f, job, 0, 0, 1, 10, false);
    ack_in_flight = 4;
    ack(&f, job, 1, 0, 1, 6, false);
    ack_in_flight = 0;
    const struct checkpoint *checkpoint = job->pending.items[0];
    ck_assert_int_eq(checkpoint->persisted_bytes, 32);
    ck_assert(coordinator_checkpoint_subtask(checkpoint, 1, 0)->is_unaligned);
    ck_assert(!coordinator_checkpoint_subtask(checkpoint, 0, 0)->is_unaligned);
    /* The map itself: 6 in, 6 out. */
    written(&f, job, 1);
    ck_assert(job->books_balance);
    fixture_finish(&f);
}
END_TEST

START_TEST(finished_tasks_carry_their_state)
{
    struct job *job;
    struct fixture f = with_running_job(1, 1, checkpointed("1"), &job);
    tick_to(&f, NOW + 1000);
    ack(&f, job, 0, 0, 1, 10, true);
    ack(&f, job, 1, 0, 1, 10, false);
    written(&f, job, 1);
    report(&f, job, 0, 0, EXECUTION_FINISHED, NULL);
    tick_to(&f, NOW + 2000);
    /* The map's input has ended: it starts the checkpoint. */
    const struct action *trigger = find_action(&f, ACTION_TRIGGER_CHECKPOINT);
    ck_assert_str_eq(json_string_value(json_array_get(trigger->trigger.executions, 0)), job->vertices[1].subtasks[0].current->id);
    ack(&f, job, 1, 0, 2, 10, true);
    const struct action *write = find_action(&f, ACTION_WRITE_METADATA);
    ck_assert_uint_eq(write->write.copy_count, 1);
    ck_assert_str_eq(write->write.copies[0].from, "/c/aa010000000000000000000000000000/chk-1/0-0");
    ck_assert_str_eq(write->write.copies[0].to, "/c/aa010000000000000000000000000000/chk-2/0-0");
    ck_assert_uint_eq(json_array_size(json_object_get(write->write.metadata, "state")), 2);
    written(&f, job, 2);
    report(&f, job, 1, 0, EXECUTION_FINISHED, NULL);
    runners_gone(&f, job);
    ck_assert_int_eq(job->state, JOB_FINISHED);
    fixture_finish(&f);
}
END_TEST

/* The last state of all tasks is committed and they have ended: what becomes of a later checkpoint is nobody's failure any more. */
START_TEST(a_job_that_has_finished_does_not_fail_over_a_checkpoint)
{
    json_t *config = checkpointed("1");
    json_object_set_new(config, "execution.checkpointing.max-concurrent-checkpoints", json_string("2"));
    struct job *job;
    struct fixture f = with_running_job(1, 1, config, &job);
    tick_to(&f, NOW + 1000);
    tick_to(&f, NOW + 2000);
    ck_assert_uint_eq(job->pending.count, 2);
    for (uint64_t id = 1; id <= 2; id++) {
        ack(&f, job, 0, 0, id, 10, true);
        ack(&f, job, 1, 0, id, 10, true);
    }
    written(&f, job, 1);
    report(&f, job, 0, 0, EXECUTION_FINISHED, NULL);
    report(&f, job, 1, 0, EXECUTION_FINISHED, NULL);
    struct error *full = error_new(IO, "no space left on device");
    struct event event = {.kind = EVENT_METADATA_WRITTEN, .metadata_written = {.job = job->id, .checkpoint = 2, .error = full}};
    handle(&f, &event);
    error_free(full);
    ck_assert_int_eq(job->state, JOB_RUNNING);
    runners_gone(&f, job);
    ck_assert_int_eq(job->state, JOB_FINISHED);
    fixture_finish(&f);
}
END_TEST

static void trigger(struct fixture *f, struct job *job, enum checkpoint_kind kind)
{
    struct event event = {.kind = EVENT_TRIGGER,
                          .trigger = {.job = job->id, .trigger_id = {{0x77, (uint8_t)kind}}, .kind = kind, .directory = "/s"}};
    handle(f, &event);
}

static void dispose(struct fixture *f, const char *path)
{
    struct event event = {.kind = EVENT_SAVEPOINT_DISPOSE, .dispose = {.trigger_id = {{0x99}}, .path = path}};
    handle(f, &event);
}

/* Neither the only copy of a finished task's state may be disposed, nor what the job would recover from. */
START_TEST(savepoint_that_a_job_needs_is_not_disposed)
{
    struct job *job;
    struct fixture f = with_running_job(1, 1, checkpointed("1"), &job);
    trigger(&f, job, CHECKPOINT_KIND_SAVEPOINT);
    char *directory = heap_strdup(job->pending.items[0]->directory);
    ack(&f, job, 0, 0, 1, 10, true);
    ack(&f, job, 1, 0, 1, 10, false);
    written(&f, job, 1);
    dispose(&f, directory);
    ck_assert_ptr_null(find_action(&f, ACTION_DELETE_DIRECTORY));
    ck_assert_ptr_nonnull(find_action(&f, ACTION_REQUEST_FINISHED)->finished.error);
    tick_to(&f, NOW + 1000);
    ack(&f, job, 0, 0, 2, 10, true);
    ack(&f, job, 1, 0, 2, 10, false);
    written(&f, job, 2);
    dispose(&f, directory); /* the checkpoint has a state of its own */
    ck_assert_str_eq(find_action(&f, ACTION_DELETE_DIRECTORY)->delete_directory.directory, directory);
    free(directory);

    trigger(&f, job, CHECKPOINT_KIND_STOP);
    directory = heap_strdup(job->pending.items[0]->directory);
    ack(&f, job, 0, 0, 3, 10, false);
    ack(&f, job, 1, 0, 3, 10, false);
    written(&f, job, 3);
    dispose(&f, directory);
    ck_assert_ptr_null(find_action(&f, ACTION_DELETE_DIRECTORY));
    ck_assert_str_eq(find_action(&f, ACTION_REQUEST_FINISHED)->finished.error_class, "org.apache.flink.runtime.checkpoint.CheckpointException");
    report(&f, job, 0, 0, EXECUTION_FINISHED, NULL);
    report(&f, job, 1, 0, EXECUTION_FINISHED, NULL);
    runners_gone(&f, job);
    ck_assert_int_eq(job->state, JOB_FINISHED);
    dispose(&f, directory);
    ck_assert_str_eq(find_action(&f, ACTION_DELETE_DIRECTORY)->delete_directory.directory, directory);
    free(directory);
    fixture_finish(&f);
}
END_TEST

/* A stop that failed at its end: what the savepoint holds is committed, so that a start from nothing would do it all again. */
START_TEST(job_without_checkpoints_does_not_forget_its_stop)
{
    struct job *job;
    struct fixture f = with_running_job(1, 1, json_pack("{s:s,s:s,s:s}", "restart-strategy.type", "fixed-delay",
                                                        "restart-strategy.fixed-delay.attempts", "9", "restart-strategy.fixed-delay.delay", "0"),
                                        &job);
    trigger(&f, job, CHECKPOINT_KIND_STOP);
    complete_checkpoint(&f, job, 10);
    for (int is_restored = 0; is_restored < 2; is_restored++) {
        struct error *err = is_restored ? error_new(CORRUPT, "state file %s/0-0 is damaged", job->retained.items[0]->directory)
                                        : error_new(USER_FUNCTION, "division by zero");
        report(&f, job, 0, 0, EXECUTION_FAILED, err);
        error_free(err);
        ck_assert_int_eq(job->state, is_restored ? JOB_FAILING : JOB_RESTARTING);
        runners_gone(&f, job);
        tick_to(&f, f.now_ms + 1);
    }
    ck_assert_int_eq(job->state, JOB_FAILED);
    fixture_finish(&f);
}
END_TEST

START_TEST(requests_that_wait_are_limited)
{
    struct job *job;
    struct fixture f = with_running_job(1, 1, NULL, &job);
    for (int i = 0; i < 1001; i++) { /* the first is under way */
        trigger(&f, job, CHECKPOINT_KIND_SAVEPOINT);
        ck_assert_ptr_null(find_action(&f, ACTION_REQUEST_FINISHED));
    }
    trigger(&f, job, CHECKPOINT_KIND_SAVEPOINT);
    const struct error *err = find_action(&f, ACTION_REQUEST_FINISHED)->finished.error;
    ck_assert_str_eq(err->message, "The maximum number of queued checkpoint requests exceeded");
    complete_checkpoint(&f, job, 10);
    trigger(&f, job, CHECKPOINT_KIND_SAVEPOINT);
    ck_assert_ptr_null(find_action(&f, ACTION_REQUEST_FINISHED));
    fixture_finish(&f);
}
END_TEST

/* The files of a failed savepoint that were kept for a finished task, and a claimed savepoint that could not go at once. */
START_TEST(deletions_that_waited_are_done_at_the_end)
{
    json_t *config = checkpointed("1");
    json_object_set_new(config, "execution.checkpointing.timeout", json_string("10 s"));
    struct job *job;
    struct fixture f = with_running_job(1, 1, config, &job);
    trigger(&f, job, CHECKPOINT_KIND_SAVEPOINT);
    char *directory = heap_strdup(job->pending.items[0]->directory);
    ack(&f, job, 0, 0, 1, 10, true);
    tick_to(&f, NOW + 10000);
    ck_assert_uint_eq(job->pending.count, 1); /* the savepoint has expired, a checkpoint has begun */
    ck_assert_ptr_null(find_action(&f, ACTION_DELETE_DIRECTORY));
    struct event cancel = {.kind = EVENT_JOB_CANCEL, .job_cancel = {.job = job->id}};
    handle(&f, &cancel);
    runners_gone(&f, job);
    ck_assert_int_eq(job->state, JOB_CANCELED);
    uint32_t savepoints = 0, jobs = 0;
    for (size_t i = 0; i < f.actions.actions.count; i++) {
        const struct action *action = &f.actions.actions.items[i];
        if (action->kind != ACTION_DELETE_DIRECTORY)
            continue;
        savepoints += strcmp(action->delete_directory.directory, directory) == 0;
        jobs += strcmp(action->delete_directory.directory, "/c/aa010000000000000000000000000000") == 0;
    }
    ck_assert_uint_eq(savepoints, 1);
    ck_assert_uint_eq(jobs, 1);
    free(directory);
    fixture_finish(&f);
}
END_TEST

/* A runner keeps the last state of a finished task also when it had heard that the checkpoint is given up; others may die before they hear. */
START_TEST(late_state_of_a_failed_checkpoint_is_deleted)
{
    json_t *config = checkpointed("1");
    json_object_set_new(config, "execution.checkpointing.timeout", json_string("10 s"));
    struct job *job;
    struct fixture f = with_running_job(1, 1, config, &job);
    trigger(&f, job, CHECKPOINT_KIND_SAVEPOINT);
    char *directory = heap_strdup(job->pending.items[0]->directory);
    tick_to(&f, NOW + 10000);
    ck_assert_str_eq(find_action(&f, ACTION_DELETE_DIRECTORY)->delete_directory.directory, directory);
    for (uint32_t vertex = 0; vertex < 2; vertex++) {
        ack(&f, job, vertex, 0, 1, 10, vertex == 0);
        ck_assert_str_eq(find_action(&f, ACTION_DELETE_DIRECTORY)->delete_directory.directory, directory);
    }
    ack(&f, job, 0, 0, 2, 10, true);
    ack(&f, job, 0, 0, 2, 10, true); /* twice, of one that is under way */
    ck_assert_ptr_null(find_action(&f, ACTION_DELETE_DIRECTORY));
    free(directory);
    fixture_finish(&f);
}
END_TEST

/* Five producers and three consumers: 0; 1 and 2; 3 and 4. */
START_TEST(rescale_consumers_start_after_their_own_producers)
{
    struct fixture f = fixture_create("5 min");
    add_taskmanager(&f, "a", 1, 5);
    struct job_graph *uneven = graph(1, 5, 2, checkpointed("1"));
    uneven->operators[1].parallelism = uneven->vertices[1].parallelism = 3;
    uneven->operators[1].inputs[0].partitioning = PARTITION_RESCALE;
    struct job *job = submit(&f, uneven, NULL, NULL, false);
    all_running(&f, job);
    tick_to(&f, NOW + 1000);
    for (uint32_t s = 0; s < 5; s++)
        ack(&f, job, 0, s, 1, 10, s == 0);
    for (uint32_t s = 0; s < 3; s++)
        ack(&f, job, 1, s, 1, 10, false);
    written(&f, job, 1);
    report(&f, job, 0, 0, EXECUTION_FINISHED, NULL);
    tick_to(&f, NOW + 2000);
    const json_t *executions = find_action(&f, ACTION_TRIGGER_CHECKPOINT)->trigger.executions;
    ck_assert_uint_eq(json_array_size(executions), 5);
    ck_assert_str_eq(json_string_value(json_array_get(executions, 4)), job->vertices[1].subtasks[0].current->id);
    fixture_finish(&f);
}
END_TEST

START_TEST(cancel_keeps_or_deletes)
{
    for (int keeps = 0; keeps < 2; keeps++) {
        struct fixture f = fixture_create("5 min");
        add_taskmanager(&f, "a", 1, 1);
        json_t *config = checkpointed("1");
        if (keeps)
            json_object_set_new(config, "execution.checkpointing.externalized-checkpoint-retention", json_string("RETAIN_ON_CANCELLATION"));
        struct job *job = submit(&f, graph(1, 1, 2, config), NULL, NULL, false);
        all_running(&f, job);
        tick_to(&f, NOW + 1000);
        complete_checkpoint(&f, job, 1);
        struct event event = {.kind = EVENT_JOB_CANCEL, .job_cancel = {.job = job->id}};
        handle(&f, &event);
        ck_assert_int_eq(job->state, JOB_CANCELLING);
        ck_assert(!find_action(&f, ACTION_CANCEL)->cancel.is_kill);
        runners_gone(&f, job);
        ck_assert_int_eq(job->state, JOB_CANCELED);
        ck_assert_int_eq(find_action(&f, ACTION_DELETE_DIRECTORY) == NULL, keeps);
        fixture_finish(&f);
    }
}
END_TEST

START_TEST(fixed_delay_gives_up)
{
    struct fixture f = fixture_create("0");
    json_t *config = json_pack("{s:s,s:s,s:s}", "restart-strategy.type", "fixed-delay", "restart-strategy.fixed-delay.attempts", "1",
                               "restart-strategy.fixed-delay.delay", "1 s");
    struct job *job = submit(&f, graph(1, 1, 2, config), NULL, NULL, false);
    tick_to(&f, NOW + 50);
    ck_assert_int_eq(job->state, JOB_RESTARTING);
    tick_to(&f, NOW + 1050);
    tick_to(&f, NOW + 1100);
    ck_assert_int_eq(job->state, JOB_FAILED);
    ck_assert_ptr_nonnull(strstr(job->failure, "Recovery is suppressed by FixedDelayRestartBackoffTimeStrategy(maxNumberRestartAttempts=1, "
                                               "backoffTimeMS=1000)"));
    /* The archive forgets it after an hour. */
    tick_to(&f, NOW + 1100 + 3600000);
    ck_assert_ptr_nonnull(find_action(&f, ACTION_JOB_REMOVED));
    ck_assert_ptr_null(coordinator_job(f.coordinator, the_job(1)));
    fixture_finish(&f);
}
END_TEST

START_TEST(requests_of_unknown_jobs_are_answered)
{
    struct fixture f = fixture_create("0");
    struct event event = {.kind = EVENT_TRIGGER, .trigger = {.job = the_job(9), .trigger_id = {{5}}, .kind = CHECKPOINT_KIND_SAVEPOINT,
                                                             .directory = "/s"}};
    handle(&f, &event);
    const struct action *answer = find_action(&f, ACTION_REQUEST_FINISHED);
    ck_assert_str_eq(answer->finished.error->message, "Could not find Flink job (aa090000000000000000000000000000)");
    ck_assert_str_eq(answer->finished.error_class, "org.apache.flink.runtime.messages.FlinkJobNotFoundException");
    fixture_finish(&f);
}
END_TEST

START_TEST(restart_strategies)
{
    struct restart_strategy rate = {.type = RESTART_FAILURE_RATE, .failures_per_interval = 2, .failure_interval_ms = 60000, .delay_ms = 5};
    struct restart_state state = {0};
    int64_t delay = 0;
    ck_assert(restart_strategy_failed(&rate, &state, 0, 0, &delay));
    ck_assert(restart_strategy_failed(&rate, &state, 1000, 0, &delay));
    ck_assert(!restart_strategy_failed(&rate, &state, 2000, 0, &delay));
    restart_state_finish(&state);
    struct restart_strategy exponential = {.type = RESTART_EXPONENTIAL_DELAY, .attempts = UINT32_MAX, .initial_backoff_ms = 1000,
                                           .max_backoff_ms = 3000,
                                           .backoff_multiplier = 2, .reset_threshold_ms = 60000, .jitter_factor = 0.1};
    int64_t expected[] = {1000, 2000, 3000, 3000};
    for (unsigned i = 0; i < 4; i++) {
        ck_assert(restart_strategy_failed(&exponential, &state, 10000 * (int64_t)i, (uint64_t)i * 0x3fffffffffffffffULL, &delay));
        ck_assert_int_ge(delay, expected[i] * 9 / 10 - 1);
        ck_assert_int_le(delay, expected[i] * 11 / 10 + 1);
        ck_assert_int_le(delay, 3000);
    }
    ck_assert(restart_strategy_failed(&exponential, &state, 200000, 0x7fffffffffffffffULL, &delay));
    ck_assert_int_le(delay, 1100); /* reset after a quiet time */
    restart_state_finish(&state);
}
END_TEST

START_TEST(quantiles)
{
    struct stat_summary summary = {0};
    for (int i = 1; i <= 3000; i++)
        stat_summary_add(&summary, i);
    ck_assert_int_eq(summary.min, 1);
    ck_assert_int_eq(stat_summary_average(&summary), 1500);
    ck_assert_double_eq_tol(stat_summary_quantile(&summary, 0.5), 2500.5, 0.01);
    stat_summary_finish(&summary);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("coordinator");
    TCase *tests = tcase_create("core");
    tcase_add_test(tests, waits_in_the_start_up_period);
    tcase_add_test(tests, fails_at_once_afterwards);
    tcase_add_test(tests, submission_is_idempotent);
    tcase_add_test(tests, checkpoint_completes_and_is_restored);
    tcase_add_test(tests, no_new_epoch_before_runners_are_gone);
    tcase_add_test(tests, what_a_task_does_not_find_is_worth_another_try);
    tcase_add_test(tests, damaged_checkpoint_gives_way_to_the_one_before);
    tcase_add_test(tests, damage_that_is_found_before_the_restart_ends_the_job);
    tcase_add_test(tests, savepoint_restores_at_another_parallelism);
    tcase_add_test(tests, claimed_savepoint_is_subsumed);
    tcase_add_test(tests, claimed_savepoint_goes_with_the_job);
    tcase_add_test(tests, unaligned_books_balance_with_rows_in_flight);
    tcase_add_test(tests, checkpoint_of_the_same_job_id_outlives_the_job);
    tcase_add_test(tests, unmatched_state_is_refused_unless_allowed);
    tcase_add_test(tests, max_parallelism_may_not_change);
    tcase_add_test(tests, spans_without_end_are_never_over);
    tcase_add_test(tests, largest_interval_is_none);
    tcase_add_test(tests, books_that_do_not_balance_are_named);
    tcase_add_test(tests, books_of_broadcasts_balance_after_a_rescale);
    tcase_add_test(tests, finished_tasks_carry_their_state);
    tcase_add_test(tests, a_job_that_has_finished_does_not_fail_over_a_checkpoint);
    tcase_add_test(tests, savepoint_that_a_job_needs_is_not_disposed);
    tcase_add_test(tests, job_without_checkpoints_does_not_forget_its_stop);
    tcase_add_test(tests, requests_that_wait_are_limited);
    tcase_add_test(tests, deletions_that_waited_are_done_at_the_end);
    tcase_add_test(tests, late_state_of_a_failed_checkpoint_is_deleted);
    tcase_add_test(tests, rescale_consumers_start_after_their_own_producers);
    tcase_add_test(tests, cancel_keeps_or_deletes);
    tcase_add_test(tests, fixed_delay_gives_up);
    tcase_add_test(tests, requests_of_unknown_jobs_are_answered);
    tcase_add_test(tests, restart_strategies);
    tcase_add_test(tests, quantiles);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
