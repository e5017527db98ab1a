/* The rules of the diagnosis (jobmanager/diagnosis), each on a job that is made up for it: the coordinator is driven by events, the
 * reports of tasks are written down. What real tasks report is the matter of tests/e2e/test_diagnosis.py. */
#include "common/base/heap.h"
#include "common/metrics/task_report.h"
#include "jobmanager/core/coordinator.h"
#include "jobmanager/diagnosis/diagnosis.h"
#include "jobmanager/diagnosis/facts.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>

#define NOW INT64_C(1700000000000)
#define START_UP_MS 10000

/* Source (kafka-source) -> Map (map) -> Sink (kafka-sink-writer), a vertex each. */
enum place { SOURCE, MAP, SINK, PLACE_COUNT };

struct fixture {
    struct config *config;
    struct coordinator *coordinator;
    struct action_list actions;
    struct job *job;
    int64_t now_ms;
    struct diagnosis diagnosis; /* of the last look */
    bool has_looked;
};

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

static json_t *source_options(void)
{
    return json_pack("{s:[s],s:{s:s,s:i},s:s}", "topics", "input", "watermark", "strategy", "bounded", "idle_timeout_ms", -1, "on_error", "skip");
}

static struct job_graph *make_graph(uint32_t parallelism)
{
    static const char *const names[] = {"Source: Clicks", "Slow Map", "Out: Writer"};
    static const char *const types[] = {"kafka-source", "map", "kafka-sink-writer"};
    struct job_graph *graph = heap_new(struct job_graph);
    graph->job_id = (struct id){{0xaa}};
    graph->name = heap_strdup("Clicks");
    graph->config = json_pack("{s:s,s:s,s:s,s:s}", "execution.checkpointing.interval", "1 s", "restart-strategy.type", "fixed-delay",
                              "restart-strategy.fixed-delay.attempts", "3", "restart-strategy.fixed-delay.delay", "1 s");
    graph->operators = heap_alloc_array(PLACE_COUNT, sizeof *graph->operators);
    graph->vertices = heap_alloc_array(PLACE_COUNT, sizeof *graph->vertices);
    graph->operator_count = graph->vertex_count = PLACE_COUNT;
    for (uint32_t v = 0; v < PLACE_COUNT; v++) {
        struct job_operator *operator = &graph->operators[v];
        operator->id = (struct id){{(uint8_t)(v + 1)}};
        operator->name = heap_strdup(names[v]);
        operator->type = heap_strdup(types[v]);
        operator->slot_sharing_group = heap_strdup("default");
        operator->parallelism = parallelism;
        operator->max_parallelism = 128;
        operator->options = v == SOURCE ? source_options() : v == MAP ? json_pack("{s:s}", "function", "SlowMap") : json_object();
        operator->vertex = v;
        if (v > 0) {
            operator->inputs = heap_new(struct job_edge);
            operator->inputs[0] = (struct job_edge){.source = v - 1, .side_output = -1, .partitioning = PARTITION_REBALANCE};
            operator->input_count = 1;
        }
        graph->vertices[v] = (struct job_vertex){.id = {{0xbb, (uint8_t)v}}, .name = heap_strdup(names[v]), .parallelism = parallelism,
                                                 .max_parallelism = 128, .operators = heap_new(uint32_t), .operator_count = 1};
        graph->vertices[v].operators[0] = v;
    }
    return graph;
}

static void add_taskmanager(struct fixture *f, uint32_t slots)
{
    struct event event = {.kind = EVENT_TASKMANAGER_REGISTERED,
                          .registered = {.taskmanager = "tm-1", .connection = 1, .host = "localhost", .data_port = 42607, .slot_count = slots}};
    handle(f, &event);
}

static void submit(struct fixture *f, uint32_t parallelism, uint8_t id)
{
    struct event event = {.kind = EVENT_JOB_SUBMITTED, .job_submitted = {.graph = make_graph(parallelism)}};
    event.job_submitted.graph->job_id = (struct id){{id}};
    handle(f, &event);
}

/* slots 0: no taskmanager. */
static void setup(struct fixture *f, uint32_t parallelism, uint32_t slots)
{
    *f = (struct fixture){.config = config_create_over(NULL), .now_ms = NOW};
    ck_assert_ptr_null(config_set(f->config, "resourcemanager.standalone.start-up-time", "10 s", "test"));
    struct coordinator_options options = {.config = f->config, .seed = 7, .now_ms = NOW, .checkpoint_directory = "/c"};
    ck_assert_ptr_null(coordinator_create(&options, &f->coordinator));
    if (slots > 0)
        add_taskmanager(f, slots);
    submit(f, parallelism, 0xaa);
    f->job = coordinator_job(f->coordinator, (struct id){{0xaa}});
    ck_assert_ptr_nonnull(f->job);
}

static void teardown(struct fixture *f)
{
    if (f->has_looked)
        diagnosis_finish(&f->diagnosis);
    action_list_finish(&f->actions);
    coordinator_destroy(f->coordinator);
    config_destroy(f->config);
}

static struct execution *execution_of(struct fixture *f, enum place place, uint32_t subtask)
{
    return f->job->vertices[place].subtasks[subtask].current;
}

static void set_state(struct fixture *f, enum place place, uint32_t subtask, enum execution_state state, const struct error *error)
{
    struct event event = {.kind = EVENT_TASK_STATE,
                          .task_state = {.taskmanager = "tm-1", .connection = 1, .job = f->job->id, .epoch = f->job->epoch,
                                         .execution = execution_of(f, place, subtask)->id, .state = state, .error = error}};
    handle(f, &event);
}

static void all_running(struct fixture *f)
{
    for (enum place place = SOURCE; place < PLACE_COUNT; place++)
        for (uint32_t s = 0; s < f->job->vertices[place].parallelism; s++)
            set_state(f, place, s, EXECUTION_RUNNING, NULL);
}

/* All tasks run, and so many milliseconds have passed. */
static void setup_running(struct fixture *f, uint32_t parallelism, uint32_t slots, int64_t after_ms)
{
    setup(f, parallelism, slots);
    all_running(f);
    f->now_ms = NOW + after_ms;
}

/* ---- reports ---- */

/* Takes what the operator says besides its id and name. */
static void report(struct fixture *f, enum place place, uint32_t subtask, json_t *task, json_t *operator)
{
    struct execution *execution = execution_of(f, place, subtask);
    const struct job_operator *spec = &f->job->graph->operators[place];
    json_object_set_new(operator, "operator", json_string(id_format(spec->id).hex));
    json_object_set_new(operator, "name", json_string(spec->name));
    json_object_set_new(operator, "type", json_string(spec->type));
    json_object_set_new(task, "execution", json_string(execution->id));
    json_object_set_new(task, "operators", json_pack("[o]", operator));
    json_t *folded = task_report_fold(execution->metrics, task, place != SOURCE, f->now_ms);
    json_decref(execution->metrics);
    execution->metrics = folded;
    json_decref(task);
}

static json_t *times(double busy, double back_pressured)
{
    return json_pack("{s:f,s:f,s:f}", "busyTimeMsPerSecond", busy * 1000, "backPressuredTimeMsPerSecond", back_pressured * 1000,
                     "idleTimeMsPerSecond", (1 - busy - back_pressured) * 1000);
}

/* last_record_ms -1: it never had one. */
static json_t *split(const char *name, int64_t last_record_ms, int64_t watermark, int64_t offset, int64_t end_offset)
{
    return json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:b,s:b,s:I,s:I}", "name", name, "added", (json_int_t)NOW, "last_record",
                     (json_int_t)last_record_ms, "idle_since", (json_int_t)-1, "watermark", (json_int_t)watermark, "max_timestamp",
                     (json_int_t)watermark, "is_caught_up", offset == end_offset, "is_finished", 0, "offset", (json_int_t)offset, "end_offset",
                     (json_int_t)end_offset);
}

/* Takes splits. */
static json_t *source_report(json_t *splits, int64_t rows_read)
{
    return json_pack("{s:b,s:I,s:o,s:{s:I,s:I}}", "is_ready", 1, "last_unparsable", (json_int_t)-1, "splits", splits, "books", "rows_read",
                     (json_int_t)rows_read, "rows_out", (json_int_t)rows_read);
}

/* ---- looking ---- */

static void look(struct fixture *f)
{
    if (f->has_looked)
        diagnosis_finish(&f->diagnosis);
    diagnosis_make(f->coordinator, f->job, f->now_ms, &f->diagnosis);
    f->has_looked = true;
}

static const struct finding *find(struct fixture *f, const char *kind)
{
    look(f);
    for (size_t i = 0; i < f->diagnosis.findings.count; i++)
        if (strcmp(f->diagnosis.findings.items[i].kind, kind) == 0)
            return &f->diagnosis.findings.items[i];
    return NULL;
}

static const struct finding *expect(struct fixture *f, const char *kind, enum diagnosis_severity severity, const char *words)
{
    const struct finding *finding = find(f, kind);
    ck_assert_msg(finding != NULL, "no finding %s; the summary is: %s", kind, f->diagnosis.summary);
    ck_assert_msg(finding->severity == severity, "%s has severity %d: %s", kind, (int)finding->severity, finding->sentence);
    ck_assert_msg(strstr(finding->sentence, words) != NULL, "\"%s\" is not in: %s", words, finding->sentence);
    size_t length = strlen(finding->sentence);
    ck_assert_msg(finding->sentence[length - 1] == '.', "no full stop: %s", finding->sentence);
    return finding;
}

static void expect_none(struct fixture *f, const char *kind)
{
    const struct finding *finding = find(f, kind);
    ck_assert_msg(finding == NULL, "unexpected: %s", finding != NULL ? finding->sentence : "");
}

static void expect_healthy(struct fixture *f)
{
    look(f);
    ck_assert_msg(f->diagnosis.is_healthy, "not healthy: %s", f->diagnosis.summary);
}

/* ---- the job ---- */

START_TEST(test_missing_slots)
{
    struct fixture f;
    setup(&f, 4, 0);
    const struct finding *finding = expect(&f, "missing-slots", DIAGNOSIS_ERROR,
                                           "needs 4 slots, and no taskmanager is registered: 4 are missing");
    ck_assert_int_eq(finding->since_ms, NOW);
    f.now_ms = NOW + 5000;
    add_taskmanager(&f, 3);
    finding = expect(&f, "missing-slots", DIAGNOSIS_ERROR, "needs 4 slots, 3 of the 3 on 1 taskmanager are free: 1 is missing");
    ck_assert_int_eq(finding->since_ms, NOW);
    ck_assert_int_eq(json_integer_value(json_object_get(finding->evidence, "slots-missing")), 1);
    ck_assert_str_eq(f.diagnosis.summary, finding->sentence);
    /* Past the start-up period the request fails and is repeated: still the same time. */
    for (int i = 1; i <= 30; i++)
        tick_to(&f, NOW + START_UP_MS + i * 100);
    ck_assert_uint_ge(f.job->restart_count, 1);
    finding = expect(&f, "missing-slots", DIAGNOSIS_ERROR, "1 is missing");
    ck_assert_int_eq(finding->since_ms, NOW);
    expect_none(&f, "restart-loop");
    teardown(&f);
}
END_TEST

START_TEST(test_missing_slots_of_many)
{
    struct fixture f;
    setup(&f, 1, 7);
    for (uint8_t id = 1; id <= 8; id++)
        submit(&f, 1, id);
    f.job = coordinator_job(f.coordinator, (struct id){{8}});
    expect(&f, "missing-slots", DIAGNOSIS_ERROR,
           "(in use: 1 by job \"Clicks\", 1 by job \"Clicks\", 1 by job \"Clicks\", 1 by job \"Clicks\", 1 by job \"Clicks\", "
           "2 by 2 other jobs): 1 is missing, and 1 other job waits for slots too.");
    teardown(&f);
}
END_TEST

START_TEST(test_starting_and_healthy)
{
    struct fixture f;
    setup(&f, 1, 1);
    expect(&f, "starting", DIAGNOSIS_INFO, "0 of 3 tasks run, Source: Clicks (1/1) is DEPLOYING");
    ck_assert(f.diagnosis.is_healthy);
    ck_assert_str_eq(f.diagnosis.summary, f.diagnosis.findings.items[0].sentence);
    f.now_ms += 20000;
    set_state(&f, SOURCE, 0, EXECUTION_RUNNING, NULL);
    expect(&f, "starting", DIAGNOSIS_WARNING, "1 of 3 tasks run, Slow Map (1/1) is DEPLOYING");
    f.now_ms += 60000;
    expect(&f, "starting", DIAGNOSIS_ERROR, "Slow Map");
    all_running(&f);
    report(&f, SOURCE, 0, times(0.1, 0), source_report(json_pack("[o]", split("input-0", f.now_ms, NOW, 10, 10)), 10));
    expect_none(&f, "starting");
    expect_healthy(&f);
    ck_assert_msg(strstr(f.diagnosis.summary, "healthy: 3 tasks run, 10 records read") != NULL, "%s", f.diagnosis.summary);
    teardown(&f);
}
END_TEST

static void fail_once(struct fixture *f, const char *message)
{
    struct error *error = error_new(CONNECTOR, "%s", message);
    error = error_wrap(error, "Source: Clicks");
    set_state(f, SOURCE, 0, EXECUTION_FAILED, error);
    error_free(error);
    struct event gone = {.kind = EVENT_RUNNER_GONE,
                         .runner_gone = {.taskmanager = "tm-1", .connection = 1, .job = f->job->id, .epoch = f->job->epoch}};
    handle(f, &gone);
}

START_TEST(test_restart_loop)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    fail_once(&f, "the disk is full");
    ck_assert_int_eq((int)f.job->state, JOB_RESTARTING);
    const struct finding *finding = expect(&f, "restart-loop", DIAGNOSIS_WARNING, "in Source: Clicks (1/1): Source: Clicks: the disk is full.");
    ck_assert_ptr_eq(finding->vertex, &f.job->vertices[SOURCE]);
    ck_assert_int_eq(finding->subtask, 0);
    tick_to(&f, NOW + 1500);
    all_running(&f);
    expect(&f, "restart-loop", DIAGNOSIS_INFO, "was restarted at 2023-11-14 22:13:20 UTC");
    fail_once(&f, "the disk is full");
    finding = expect(&f, "restart-loop", DIAGNOSIS_ERROR, "over and over, 2 times within the last 1.5 s");
    ck_assert_int_eq(finding->since_ms, NOW);
    /* A quiet time later it is only a memory, then nothing. */
    tick_to(&f, NOW + 3000);
    all_running(&f);
    f.now_ms += 6 * 60 * 1000;
    expect_none(&f, "restart-loop");
    teardown(&f);
}
END_TEST

START_TEST(test_failed_and_canceled)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    for (int i = 0; i < 4; i++) {
        fail_once(&f, "no such column");
        tick_to(&f, f.now_ms + 2000);
        if (f.job->state == JOB_RUNNING)
            all_running(&f);
    }
    ck_assert_int_eq((int)f.job->state, JOB_FAILED);
    expect(&f, "job-ended", DIAGNOSIS_ERROR, "failed at 2023-11-14 22:13:26 UTC: Source: Clicks: no such column.");
    ck_assert_str_eq(f.diagnosis.summary, f.diagnosis.findings.items[0].sentence);
    teardown(&f);

    setup(&f, 4, 0);
    struct event cancel = {.kind = EVENT_JOB_CANCEL, .job_cancel = {.job = f.job->id}};
    handle(&f, &cancel);
    expect(&f, "job-ended", DIAGNOSIS_INFO, "was canceled at 2023-11-14 22:13:20 UTC");
    expect_none(&f, "missing-slots");
    ck_assert(f.diagnosis.is_healthy);
    ck_assert_msg(strstr(f.diagnosis.summary, "canceled") != NULL, "%s", f.diagnosis.summary);
    teardown(&f);
}
END_TEST

/* ---- input ---- */

static json_t *with_status(json_t *operator, const char *code, const char *subject, const char *text, int64_t since_ms)
{
    json_object_set_new(operator, "status", json_pack("{s:s,s:s,s:s,s:I}", "code", code, "subject", subject, "text", text, "since",
                        (json_int_t)since_ms));
    return operator;
}

START_TEST(test_topic_missing)
{
    struct fixture f;
    setup_running(&f, 1, 1, 2000);
    report(&f, SOURCE, 0, times(0, 0),
           with_status(source_report(json_array(), 0), "topic-missing", "inpt", "unknown topic (the nearest topics there are: input)",
                       NOW + 500));
    const struct finding *finding = expect(&f, "topic-missing", DIAGNOSIS_ERROR,
                                           "The Kafka topic \"inpt\" that \"Source: Clicks\" reads does not exist");
    ck_assert_ptr_nonnull(strstr(finding->sentence, "nearest topics there are: input"));
    ck_assert_int_eq(finding->since_ms, NOW + 500);
    /* The next attempt has the same trouble: it is as old as the first's. */
    fail_once(&f, "could not find Kafka topic inpt");
    tick_to(&f, NOW + 4000);
    all_running(&f);
    report(&f, SOURCE, 0, times(0, 0), with_status(source_report(json_array(), 0), "topic-missing", "inpt", "unknown topic", NOW + 3500));
    finding = expect(&f, "topic-missing", DIAGNOSIS_ERROR, "inpt");
    ck_assert_int_eq(finding->since_ms, NOW + 500);
    /* Another topic is another trouble. */
    report(&f, SOURCE, 0, times(0, 0), with_status(source_report(json_array(), 0), "topic-missing", "output", "unknown topic", NOW + 3600));
    ck_assert_int_eq(expect(&f, "topic-missing", DIAGNOSIS_ERROR, "output")->since_ms, NOW + 3600);
    teardown(&f);
}
END_TEST

START_TEST(test_broker_unreachable)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    report(&f, SOURCE, 0, times(0, 0),
           with_status(source_report(json_array(), 0), "broker-unreachable", "kafka:9092", "Connection refused", NOW));
    expect(&f, "broker-unreachable", DIAGNOSIS_ERROR,
           "\"Source: Clicks\" does not reach its Kafka brokers at kafka:9092 since 2023-11-14 22:13:20 UTC");
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o]", split("input-0", NOW, NOW, 1, 1)), 1));
    expect_none(&f, "broker-unreachable");
    report(&f, SINK, 0, times(0, 0), with_status(json_object(), "sink-opening", "kafka:9092", "it waits", NOW));
    expect_none(&f, "broker-unreachable");
    f.now_ms += 6000;
    expect(&f, "broker-unreachable", DIAGNOSIS_ERROR, "\"Out: Writer\" cannot start without its Kafka brokers at kafka:9092");
    teardown(&f);
}
END_TEST

START_TEST(test_no_input)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    json_t *empty = source_report(json_pack("[o,o]", split("input-0", -1, TIME_UNSET, 0, 0), split("input-1", -1, TIME_UNSET, 0, 0)), 0);
    json_object_set_new(empty, "neighbours", json_string("inputs, clicks"));
    report(&f, SOURCE, 0, times(0, 0), json_deep_copy(empty));
    expect_healthy(&f); /* a moment after the start */
    f.now_ms += 7000;
    const struct finding *finding = expect(&f, "no-input", DIAGNOSIS_ERROR,
                                           "topic input is empty (input-0, input-1); other topics of the cluster");
    ck_assert_ptr_nonnull(strstr(finding->sentence, "inputs, clicks"));
    ck_assert_int_eq(finding->since_ms, NOW);
    /* A source that does not know its splits yet claims nothing. */
    json_object_set_new(empty, "is_ready", json_false());
    report(&f, SOURCE, 0, times(0, 0), empty);
    expect_none(&f, "no-input");
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o]", split("input-0", -1, TIME_UNSET, 50, 50)), 0));
    expect(&f, "no-input", DIAGNOSIS_ERROR, "it began at the end of input-0, and no new records come");
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o]", split("input-0", -1, TIME_UNSET, 0, 50)), 0));
    expect_none(&f, "no-input"); /* there is something, only it was not read yet */
    teardown(&f);
}
END_TEST

START_TEST(test_idle_input)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o,o]", split("input-0", NOW + 100, NOW, 5, 5), split("input-1", NOW, NOW, 5,
           5)), 10));
    f.now_ms += 10000;
    expect_healthy(&f);
    f.now_ms += 30000;
    const struct finding *finding = expect(&f, "idle-input", DIAGNOSIS_WARNING, "all 2 partitions are read to the end, after 10 records");
    ck_assert_int_eq(finding->since_ms, NOW + 100);
    teardown(&f);
}
END_TEST

START_TEST(test_idle_split)
{
    struct fixture f;
    setup_running(&f, 2, 2, 8000);
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o]", split("input-0", f.now_ms, NOW - 1000, 90, 90)), 90));
    report(&f, SOURCE, 1, times(0, 0), source_report(json_pack("[o]", split("input-1", -1, TIME_UNSET, 0, 0)), 0));
    const struct finding *finding = expect(&f, "idle-split", DIAGNOSIS_ERROR,
                                           "Partition input-1 of \"Source: Clicks\" holds the watermark back since 2023-11-14 22:13:20 UTC");
    ck_assert_ptr_nonnull(strstr(finding->sentence, "it is empty"));
    ck_assert_str_eq(finding->split, "input-1");
    ck_assert_int_eq(finding->subtask, 1);
    ck_assert_int_eq(finding->since_ms, NOW);
    /* It had records, long before. */
    report(&f, SOURCE, 1, times(0, 0), source_report(json_pack("[o]", split("input-1", NOW + 1000, NOW - 9000, 7, 7)), 7));
    finding = expect(&f, "idle-split", DIAGNOSIS_ERROR,
                     "no record has come since then, so the watermark stays at 2023-11-14T22:13:11.000Z while input-0 is at");
    ck_assert_int_eq(finding->since_ms, NOW + 1000);
    /* One that is still being read is slow, not idle. */
    report(&f, SOURCE, 1, times(0, 0), source_report(json_pack("[o]", split("input-1", NOW + 1000, NOW - 9000, 7, 9)), 7));
    expect_none(&f, "idle-split");
    /* Both stopped at about the same time: none holds the other back. */
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o]", split("input-0", NOW + 1500, NOW - 1000, 90, 90)), 90));
    report(&f, SOURCE, 1, times(0, 0), source_report(json_pack("[o]", split("input-1", NOW + 1000, NOW - 9000, 7, 7)), 7));
    expect_none(&f, "idle-split");
    teardown(&f);
}
END_TEST

/* There is more in it, nobody is busy, and nothing comes. */
START_TEST(test_stalled_split)
{
    struct fixture f;
    setup_running(&f, 2, 2, 25000);
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o]", split("input-0", f.now_ms, NOW, 90, 90)), 90));
    report(&f, SOURCE, 1, times(0, 0), source_report(json_pack("[o]", split("input-1", -1, TIME_UNSET, -2, -1)), 0));
    const struct finding *finding = expect(&f, "stalled-split", DIAGNOSIS_ERROR,
                                           "Partition input-1 of \"Source: Clicks\" gives no record since 2023-11-14 22:13:20 UTC (25 s), though it "
                                           "is not read to the end: it holds the watermark back.");
    ck_assert_str_eq(finding->split, "input-1");
    ck_assert_int_eq(finding->subtask, 1);
    expect_none(&f, "idle-split");
    /* Read to the end, but the broker has not confirmed for a moment that it is one. */
    json_t *unconfirmed = split("input-1", -1, TIME_UNSET, 90, 90);
    json_object_set_new(unconfirmed, "is_caught_up", json_false());
    report(&f, SOURCE, 1, times(0, 0), source_report(json_pack("[o]", unconfirmed), 0));
    expect_none(&f, "stalled-split");
    /* Held up by others, it is slow; lately it had a record. */
    report(&f, SOURCE, 1, times(0, 0.9), source_report(json_pack("[o]", split("input-1", NOW, NOW, 7, 90)), 7));
    expect_none(&f, "stalled-split");
    report(&f, SOURCE, 1, times(0, 0), source_report(json_pack("[o]", split("input-1", f.now_ms - 10000, NOW, 7, 90)), 7));
    expect_none(&f, "stalled-split");
    teardown(&f);
}
END_TEST

START_TEST(test_idle_split_set_aside)
{
    struct fixture f;
    setup_running(&f, 1, 1, 8000);
    json_t *idle = split("input-1", -1, TIME_UNSET, 0, 0);
    json_object_set_new(idle, "idle_since", json_integer(NOW + 3000));
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o,o]", split("input-0", f.now_ms, NOW, 90, 90), idle), 90));
    expect(&f, "idle-split", DIAGNOSIS_INFO, "Partition input-1 of \"Source: Clicks\" is idle, empty and without a record since");
    ck_assert(f.diagnosis.is_healthy);
    ck_assert_ptr_nonnull(strstr(f.diagnosis.findings.items[0].sentence, "the watermark goes on without it"));
    /* The other one is empty as well, and not idle yet. */
    idle = split("input-1", -1, TIME_UNSET, 0, 0);
    json_object_set_new(idle, "idle_since", json_integer(NOW + 3000));
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o,o]", split("input-0", -1, TIME_UNSET, 0, 0), idle), 0));
    expect(&f, "idle-split", DIAGNOSIS_INFO, "the others have had no record yet, and the watermark waits for them");
    teardown(&f);
}
END_TEST

START_TEST(test_unparsable)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    json_t *operator = source_report(json_pack("[o]", split("input-0", NOW, NOW, 100, 100)), 100);
    json_t *books = json_object_get(operator, "books");
    json_object_set_new(operator, "last_unparsable", json_integer(NOW));
    json_object_set_new(books, "unparsable", json_integer(3));
    json_object_set_new(books, "samples", json_pack("[{s:s,s:i,s:s,s:s,s:I}]", "split", "input-0", "offset", 42, "reason", "object expected",
                                                    "excerpt", "not json", "time", (json_int_t)(NOW - 5)));
    report(&f, SOURCE, 0, times(0, 0), json_deep_copy(operator));
    const struct finding *finding = expect(&f, "unparsable-records", DIAGNOSIS_WARNING,
                                           "3 of the 100 records that \"Source: Clicks\" has read did not parse and were skipped, for example "
                                           "input-0@42: \"not json\" (object expected).");
    ck_assert_int_eq(finding->since_ms, NOW - 5);
    json_object_set_new(books, "unparsable", json_integer(100));
    report(&f, SOURCE, 0, times(0, 0), operator);
    expect(&f, "unparsable-records", DIAGNOSIS_ERROR, "None of the 100 records that \"Source: Clicks\" has read parses; they were skipped");
    teardown(&f);
}
END_TEST

START_TEST(test_event_times)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o]", split("input-0", NOW, NOW + 7200000, 1, 1)), 1));
    expect(&f, "odd-event-time", DIAGNOSIS_WARNING, "partition input-0 of \"Source: Clicks\" lies in the future, at 2023-11-15T00:13:20.000Z");
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o]", split("input-0", NOW, NOW / 1000, 1, 1)), 1));
    expect(&f, "odd-event-time", DIAGNOSIS_WARNING, "are of long ago, at most 1970-01-20T16:13:20.000Z: as if seconds");
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o]", split("input-0", NOW, NOW - 1, 1, 1)), 1));
    expect_none(&f, "odd-event-time");
    /* The playground's clicks begin with 1970. */
    report(&f, SOURCE, 0, times(0, 0), source_report(json_pack("[o]", split("input-0", NOW, 13689, 1, 1)), 1));
    expect_none(&f, "odd-event-time");
    teardown(&f);
}
END_TEST

/* ---- flow ---- */

/* Shares of the time in the operator's own code and waiting for the outside. */
static json_t *time_report(double own, double wait)
{
    return json_pack("{s:{s:f,s:f}}", "metrics", "operatorTimeMsPerSecond", own * 1000, "outsideTimeMsPerSecond", wait * 1000);
}

START_TEST(test_bottleneck)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    report(&f, SOURCE, 0, times(0.05, 0.9), source_report(json_pack("[o]", split("input-0", NOW, NOW, 1, 100)), 1));
    report(&f, MAP, 0, times(0.99, 0), time_report(0.98, 0));
    report(&f, SINK, 0, times(0.01, 0), time_report(0.01, 0));
    const struct finding *finding = expect(&f, "bottleneck", DIAGNOSIS_WARNING,
                                           "Slow Map (1/1) is the bottleneck: it is busy 99 % of the time, with user code, in the function "
                                           "SlowMap of \"Slow Map\", and back-pressures Source: Clicks (1/1) for 90 % of its.");
    ck_assert_ptr_eq(finding->vertex, &f.job->vertices[MAP]);
    ck_assert_str_eq(json_string_value(json_object_get(finding->evidence, "busy-with")), "user-code");
    expect_none(&f, "slow-sink");
    /* Nobody is held up, but the task can do no more. */
    report(&f, SOURCE, 0, times(0.05, 0.1), source_report(json_pack("[o]", split("input-0", NOW, NOW, 1, 100)), 1));
    expect(&f, "bottleneck", DIAGNOSIS_WARNING, "Slow Map (1/1) is the bottleneck: it is busy 99 % of the time, with user code, in the function");
    report(&f, MAP, 0, times(0.9, 0), time_report(0.9, 0));
    expect_none(&f, "bottleneck");
    json_t *reading = source_report(json_pack("[o]", split("input-0", NOW, NOW, 1, 100)), 1);
    json_object_set_new(reading, "metrics", json_pack("{s:f}", "operatorTimeMsPerSecond", 900.0));
    report(&f, SOURCE, 0, times(0.98, 0), reading);
    expect(&f, "bottleneck", DIAGNOSIS_INFO, "Source: Clicks (1/1) reads as fast as it can");
    teardown(&f);
}
END_TEST

START_TEST(test_shuffle_is_the_bottleneck)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    report(&f, SOURCE, 0, times(0.05, 0.9), source_report(json_pack("[o]", split("input-0", NOW, NOW, 1, 100)), 1));
    json_t *task = times(0.99, 0);
    json_object_set_new(task, "shuffleTimeMsPerSecond", json_real(800));
    report(&f, MAP, 0, task, time_report(0.1, 0));
    const struct finding *finding = expect(&f, "bottleneck", DIAGNOSIS_WARNING, "with handing rows to the next tasks (shuffle)");
    ck_assert_str_eq(json_string_value(json_object_get(finding->evidence, "busy-with")), "shuffle");
    teardown(&f);
}
END_TEST

START_TEST(test_slow_sink)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    report(&f, MAP, 0, times(0.02, 0.95), time_report(0.02, 0));
    report(&f, SINK, 0, times(0.97, 0), time_report(0.07, 0.9));
    expect(&f, "slow-sink", DIAGNOSIS_WARNING,
           "The sink \"Out: Writer\" is slow: its task Out: Writer (1/1) spends 97 % of the time waiting for the outside, "
                                               "and holds up the tasks before it for 95 % of theirs.");
    expect_none(&f, "bottleneck");
    report(&f, SINK, 0, times(0.97, 0), time_report(0.01, 0.96));
    expect(&f, "slow-sink", DIAGNOSIS_ERROR, "97 % of the time waiting for the outside");
    f.now_ms = NOW + 9000;
    json_t *operator = time_report(0, 0);
    json_object_set_new(operator, "delivery", json_pack("{s:s,s:i,s:I}", "topic", "output", "queued", 7, "since", (json_int_t)NOW));
    report(&f, SINK, 0, times(0, 0), operator);
    expect(&f, "slow-sink", DIAGNOSIS_ERROR,
           "no broker has confirmed a record of topic output since 2023-11-14 22:13:20 UTC (9.0 s), and 7 are queued");
    operator = time_report(0, 0);
    json_object_set_new(operator, "commit", json_pack("{s:s,s:i,s:i,s:I,s:i}", "topic", "output", "waiting", 2, "rows", 50, "since",
                                                      (json_int_t)(NOW + 1000), "checkpoint", 6));
    report(&f, SINK, 0, times(0, 0), operator);
    const struct finding *finding = expect(&f, "slow-sink", DIAGNOSIS_ERROR, "cannot commit to Kafka topic output since");
    ck_assert_ptr_nonnull(strstr(finding->sentence, "50 records of 2 checkpoints wait"));
    ck_assert_uint_eq(finding->checkpoint, 6);
    teardown(&f);
}
END_TEST

START_TEST(test_late)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    json_t *operator = json_pack("{s:{s:[i,i],s:i},s:{s:I,s:I,s:I}}", "books", "rows_in", 100, 0, "late", 4, "late", "event_time",
                                 (json_int_t)(NOW - 12000), "watermark", (json_int_t)NOW, "last", (json_int_t)NOW);
    report(&f, MAP, 0, times(0, 0), operator);
    expect(&f, "late-records", DIAGNOSIS_WARNING,
           "4 of 100 records were dropped as late by \"Slow Map\", the last of them of 2023-11-14T22:13:08.000Z, when "
                                                  "the watermark was at 2023-11-14T22:13:20.000Z, 12 s ahead.");
    teardown(&f);
}
END_TEST

START_TEST(test_open_window)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    json_t *operator = json_pack("{s:I,s:{s:[i,i],s:i},s:{s:b,s:I}}", "watermark_in", (json_int_t)(NOW - 3000), "books", "rows_in", 100, 0,
                                 "rows_out", 0,
                                 "window", "is_event_time", 1, "next_end", (json_int_t)NOW);
    report(&f, MAP, 0, times(0, 0), operator);
    expect(&f, "window-open", DIAGNOSIS_INFO,
           "No window of \"Slow Map\" has given a row yet: the next one ends at 2023-11-14T22:13:20.000Z and the watermark is at "
                                              "2023-11-14T22:13:17.000Z, so records of 3.0 s of event time are missing.");
    ck_assert(f.diagnosis.is_healthy);
    ck_assert_msg(strncmp(f.diagnosis.summary, "No window", 9) == 0, "%s", f.diagnosis.summary);
    teardown(&f);
}
END_TEST

/* A transaction or a file is there for others when a checkpoint completes. */
START_TEST(test_rows_uncommitted)
{
    struct fixture f;
    setup_running(&f, 1, 1, 60000);
    report(&f, SINK, 0, times(0, 0), json_pack("{s:{s:[i,i]}}", "books", "rows_in", 100, 0));
    expect_none(&f, "rows-uncommitted");
    json_object_set_new(f.job->graph->operators[SINK].options, "guarantee", json_string("exactly-once"));
    expect(&f, "rows-uncommitted", DIAGNOSIS_INFO, "The 100 rows that the sink \"Out: Writer\" has been given can be read when a checkpoint "
                                                   "completes: none has yet, and one is taken every 1.0 s.");
    ck_assert(f.diagnosis.is_healthy);
    ck_assert_msg(strncmp(f.diagnosis.summary, "The 100 rows", 12) == 0, "%s", f.diagnosis.summary);
    report(&f, SINK, 0, times(0, 0), json_pack("{s:{s:[i,i]}}", "books", "rows_in", 0, 0));
    expect_none(&f, "rows-uncommitted");
    teardown(&f);
}
END_TEST

/* ---- checkpoints ---- */

static void acknowledge(struct fixture *f, enum place place, json_t *metrics)
{
    const struct checkpoint *checkpoint = f->job->pending.items[0];
    json_t *state = json_array(), *books = json_object();
    struct event event = {.kind = EVENT_CHECKPOINT_ACK,
                          .ack = {.taskmanager = "tm-1", .connection = 1, .job = f->job->id, .epoch = f->job->epoch, .checkpoint = checkpoint->id,
                                  .execution = execution_of(f, place, 0)->id, .state = state, .books = books, .metrics = metrics}};
    handle(f, &event);
    json_decref(state);
    json_decref(books);
    json_decref(metrics);
}

static json_t *durations(int start_delay, int alignment, int sync, int async)
{
    return json_pack("{s:i,s:i,s:i,s:i}", "start_delay_ms", start_delay, "alignment_ms", alignment, "sync_ms", sync, "async_ms", async);
}

START_TEST(test_slow_checkpoint)
{
    struct fixture f;
    setup_running(&f, 1, 1, 0);
    tick_to(&f, NOW + 1001);
    ck_assert_uint_eq(f.job->pending.count, 1);
    expect_none(&f, "slow-checkpoint");
    acknowledge(&f, SOURCE, durations(1, 0, 1, 1));
    f.now_ms = NOW + 6000;
    const struct finding *finding =
        expect(&f, "slow-checkpoint", DIAGNOSIS_WARNING,
               "1 of 3 tasks have answered, it waits for Slow Map (1/1), which the barrier has not passed.");
    ck_assert_uint_eq(finding->checkpoint, 1);
    ck_assert_ptr_eq(finding->vertex, &f.job->vertices[MAP]);
    acknowledge(&f, MAP, durations(4000, 500, 2, 3));
    acknowledge(&f, SINK, durations(100, 0, 20, 3));
    struct event written = {.kind = EVENT_METADATA_WRITTEN, .metadata_written = {.job = f.job->id, .checkpoint = 1}};
    handle(&f, &written);
    finding = expect(&f, "slow-checkpoint", DIAGNOSIS_WARNING,
                     "Checkpoint 1 took 4.9 s: for 4.0 s of it the barrier was on its way to it at Slow Map (1/1)");
    ck_assert_str_eq(json_string_value(json_object_get(finding->evidence, "step")), "start-delay");
    teardown(&f);
}
END_TEST

START_TEST(test_failed_checkpoint)
{
    struct fixture f;
    setup(&f, 1, 1);
    f.job->settings.checkpoint_tolerable_failures = 10;
    all_running(&f);
    tick_to(&f, NOW + 1001);
    ck_assert_uint_eq(f.job->pending.count, 1);
    struct error *error = error_new(IO, "no space left on device");
    struct event event = {.kind = EVENT_CHECKPOINT_DECLINE,
                          .ack = {.taskmanager = "tm-1", .connection = 1, .job = f.job->id, .epoch = f.job->epoch, .checkpoint = 1,
                                  .execution = execution_of(&f, MAP, 0)->id, .error = error}};
    handle(&f, &event);
    error_free(error);
    expect(&f, "slow-checkpoint", DIAGNOSIS_ERROR, "no space left on device; none has completed yet.");
    teardown(&f);
}
END_TEST

/* ---- the answer ---- */

START_TEST(test_order_and_json)
{
    struct fixture f;
    setup_running(&f, 2, 2, 8000);
    report(&f, SOURCE, 0, times(0.05, 0.9), source_report(json_pack("[o]", split("input-0", f.now_ms, NOW - 1000, 90, 90)), 90));
    report(&f, SOURCE, 1, times(0, 0), source_report(json_pack("[o]", split("input-1", -1, TIME_UNSET, 0, 0)), 0));
    report(&f, MAP, 0, times(0.99, 0), time_report(0.98, 0));
    look(&f);
    ck_assert(!f.diagnosis.is_healthy);
    for (size_t i = 1; i < f.diagnosis.findings.count; i++)
        ck_assert_int_ge((int)f.diagnosis.findings.items[i - 1].severity, (int)f.diagnosis.findings.items[i].severity);
    json_t *json = diagnosis_to_json(&f.diagnosis);
    const json_t *first = json_array_get(json_object_get(json, "findings"), 0);
    const json_t *subject = json_object_get(first, "subject");
    ck_assert_str_eq(json_string_value(json_object_get(json, "state")), "RUNNING");
    ck_assert(json_is_false(json_object_get(json, "healthy")));
    ck_assert_int_eq(json_integer_value(json_object_get(json, "timestamp")), NOW + 8000);
    ck_assert_str_eq(json_string_value(json_object_get(first, "kind")), "idle-split");
    ck_assert_str_eq(json_string_value(json_object_get(first, "severity")), "error");
    ck_assert_str_eq(json_string_value(json_object_get(json, "summary")), json_string_value(json_object_get(first, "sentence")));
    ck_assert_str_eq(json_string_value(json_object_get(subject, "split")), "input-1");
    ck_assert_str_eq(json_string_value(json_object_get(subject, "vertex-name")), "Source: Clicks");
    ck_assert(json_is_null(json_object_get(subject, "checkpoint")));
    ck_assert(json_is_object(json_object_get(first, "evidence")));
    ck_assert_uint_eq(json_array_size(json_object_get(json, "findings")), f.diagnosis.findings.count);
    json_decref(json);
    teardown(&f);
}
END_TEST

static void expect_words(char *words, const char *expected)
{
    ck_assert_str_eq(words, expected);
    free(words);
}

START_TEST(test_words)
{
    expect_words(words_duration(-5), "0 ms");
    expect_words(words_duration(999), "999 ms");
    expect_words(words_duration(9999), "9.9 s");
    expect_words(words_duration(59999), "59 s");
    expect_words(words_duration(61000), "1 min 1 s");
    expect_words(words_duration(3 * 3600000 + 60000), "3 h 1 min");
    expect_words(words_duration(INT64_C(864000000)), "10 days");
    expect_words(words_event_time(TIME_UNSET), "none");
    expect_words(words_event_time(-1), "1969-12-31T23:59:59.999Z");
    expect_words(words_cause("org.apache.flink.runtime.JobException: Recovery is suppressed by NoRestartBackoffTimeStrategy\n"
                             "Caused by: CONNECTOR: Source: X\nCaused by: CONNECTOR: could not read a-0."),
                 "Source: X: could not read a-0");
    expect_words(words_cause(""), "an unknown cause");
    expect_words(words_cause("plain words: with a colon"), "plain words: with a colon");
    char longest[1001];
    memset(longest, 0xc3, sizeof longest); /* "é", over and over */
    for (size_t i = 1; i < sizeof longest; i += 2)
        longest[i] = (char)0xa9;
    longest[1000] = '\0';
    char *cut = words_cause(longest);
    ck_assert_uint_lt(strlen(cut), 500);
    json_t *text = json_string(cut); /* NULL unless UTF-8 */
    ck_assert_ptr_nonnull(text);
    json_decref(text);
    free(cut);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("diagnosis rules");
    TCase *tests = tcase_create("rules");
    tcase_add_test(tests, test_missing_slots);
    tcase_add_test(tests, test_missing_slots_of_many);
    tcase_add_test(tests, test_starting_and_healthy);
    tcase_add_test(tests, test_restart_loop);
    tcase_add_test(tests, test_failed_and_canceled);
    tcase_add_test(tests, test_topic_missing);
    tcase_add_test(tests, test_broker_unreachable);
    tcase_add_test(tests, test_no_input);
    tcase_add_test(tests, test_idle_input);
    tcase_add_test(tests, test_idle_split);
    tcase_add_test(tests, test_stalled_split);
    tcase_add_test(tests, test_idle_split_set_aside);
    tcase_add_test(tests, test_unparsable);
    tcase_add_test(tests, test_event_times);
    tcase_add_test(tests, test_bottleneck);
    tcase_add_test(tests, test_shuffle_is_the_bottleneck);
    tcase_add_test(tests, test_slow_sink);
    tcase_add_test(tests, test_late);
    tcase_add_test(tests, test_open_window);
    tcase_add_test(tests, test_rows_uncommitted);
    tcase_add_test(tests, test_slow_checkpoint);
    tcase_add_test(tests, test_failed_checkpoint);
    tcase_add_test(tests, test_order_and_json);
    tcase_add_test(tests, test_words);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
