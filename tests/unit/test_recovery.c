/* Jobs whose results are known from a computation in this program, through kills, stops and changes of parallelism: sliding and session
 * windows, also from unaligned checkpoints; and sources that end long before the job does. MINI_CLUSTER_LOG=1 shows the daemons' logs. */
#include "common/base/heap.h"
#include "jobmanager/jobmanager.h"
#include "millrace/function.h"
#include "taskmanager/agent/agent.h"
#include "tests/support/mini_jobs.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEYS 7
#define ROWS 6000
#define DISORDER_MS 100

#define EVENT(FIELD) FIELD(time, mr_timestamp) FIELD(page, mr_string) FIELD(n, int64_t)
MR_RECORD(page_event, EVENT);

/* ---- rows and what windows make of them ---- */

struct row {
    int key;
    int64_t time;
    int64_t n;
};

struct expected { /* a window of a key */
    int64_t start, end, sum, count;
};

static struct row rows[ROWS];

/* Time goes on by a few milliseconds a row, sometimes by more, so that there are sessions; rows come out of order a little. */
static void make_rows(uint64_t seed)
{
    int64_t clock = 1000;
    for (int i = 0; i < ROWS; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t random = seed >> 20;
        clock += random % 97 == 0 ? 400 : (int64_t)(random % 5);
        rows[i] = (struct row){(int)(random / 97 % KEYS), clock - (int64_t)(random / 1000 % DISORDER_MS), (int64_t)(random / 7 % 1000)};
    }
}

static int by_time(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    return (x->time > y->time) - (x->time < y->time);
}

static void expect(json_t *results, int key, const struct expected *window)
{
    char *name = heap_printf("k%d@%" PRId64 "-%" PRId64, key, window->start, window->end);
    ck_assert_ptr_null(json_object_get(results, name));
    json_object_set_new(results, name, json_pack("[I,I]", window->sum, window->count));
    free(name);
}

static void expect_sessions(json_t *results, const struct row *sorted, int key, int64_t gap_ms)
{
    struct expected session = {0};
    for (int i = 0; i < ROWS; i++) {
        if (sorted[i].key != key)
            continue;
        if (session.count > 0 && sorted[i].time > session.end) {
            expect(results, key, &session);
            session.count = 0;
        }
        if (session.count == 0)
            session = (struct expected){.start = sorted[i].time};
        session.end = sorted[i].time + gap_ms;
        session.sum += sorted[i].n;
        session.count++;
    }
    if (session.count > 0)
        expect(results, key, &session);
}

static void expect_sliding(json_t *results, const struct row *sorted, int key, int64_t size_ms, int64_t slide_ms)
{
    for (int64_t start = sorted[0].time - size_ms - sorted[0].time % slide_ms; start <= sorted[ROWS - 1].time; start += slide_ms) {
        start -= start % slide_ms;
        struct expected window = {.start = start, .end = start + size_ms};
        for (int i = 0; i < ROWS && sorted[i].time < window.end; i++) {
            if (sorted[i].key != key || sorted[i].time < start)
                continue;
            window.sum += sorted[i].n;
            window.count++;
        }
        if (window.count > 0)
            expect(results, key, &window);
    }
}

struct window_case {
    const char *assigner; /* JSON */
    int64_t gap_ms;       /* sessions; else: */
    int64_t size_ms, slide_ms;
    const char *settings;
    int slow_us;
};

static json_t *batch_result(const struct window_case *window)
{
    static struct row sorted[ROWS];
    json_t *results = json_object();
    memcpy(sorted, rows, sizeof rows);
    qsort(sorted, ROWS, sizeof *sorted, by_time);
    for (int key = 0; key < KEYS; key++) {
        if (window->gap_ms > 0)
            expect_sessions(results, sorted, key, window->gap_ms);
        else
            expect_sliding(results, sorted, key, window->size_ms, window->slide_ms);
    }
    return results;
}

static json_t *job_result(const struct mini_cluster *cluster, const char *name)
{
    json_t *results = json_object(), *all = mini_rows(cluster, name, 1), *row;
    size_t index;
    json_array_foreach(all, index, row)
    {
        char *key = heap_printf("%s@%lld-%lld", json_string_value(json_object_get(row, "page")),
                                (long long)json_integer_value(json_object_get(row, "window_start")),
                                (long long)json_integer_value(json_object_get(row, "window_end")));
        ck_assert_msg(json_object_get(results, key) == NULL, "window %s came twice", key);
        json_object_set_new(results, key, json_pack("[O,O]", json_object_get(row, "sum"), json_object_get(row, "count")));
        free(key);
    }
    json_decref(all);
    return results;
}

static void assert_same(json_t *expected, json_t *actual)
{
    const char *key;
    json_t *value;
    json_object_foreach (expected, key, value) {
        json_t *other = json_object_get(actual, key);
        char *a = json_dumps(value, JSON_COMPACT), *b = other != NULL ? json_dumps(other, JSON_COMPACT) : NULL;
        ck_assert_msg(other != NULL && json_equal(value, other), "window %s: expected [sum, count] %s, got %s", key, a, b != NULL ? b : "nothing");
        free(a);
        free(b);
    }
    ck_assert_uint_eq(json_object_size(actual), json_object_size(expected));
}

/* ---- jobs ---- */

/* The row that the generator's number names. */
MR_MAP(recovery_row, page_event, page_event)
{
    static const char *const pages[KEYS] = {"k0", "k1", "k2", "k3", "k4", "k5", "k6"};
    const struct row *row = &rows[in->n];
    (void)ctx;
    *out = (struct page_event){row->time, {pages[row->key], 2}, row->n};
}

/* How long it takes for a row: rows wait in front of it. */
static atomic_int slow_us;
MR_MAP(recovery_slow, page_event, page_event)
{
    (void)ctx;
    *out = *in;
    usleep((useconds_t)slow_us);
}

#define EVENT_SCHEMA                                                                                                   \
    "[{\"name\":\"time\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"page\",\"type\":\"STRING\",\"nullable\":false},"                   \
    "{\"name\":\"n\",\"type\":\"BIGINT\",\"nullable\":false}]"
#define RESULT_SCHEMA                                                                                                  \
    "[{\"name\":\"page\",\"type\":\"STRING\",\"nullable\":false},{\"name\":\"window_start\",\"type\":\"TIMESTAMP\",\"nullable\":false},"           \
    "{\"name\":\"window_end\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"sum\",\"type\":\"BIGINT\",\"nullable\":true},"                \
    "{\"name\":\"count\",\"type\":\"BIGINT\",\"nullable\":false}]"
#define WINDOW(ASSIGNER, INPUTS)                                                                                       \
    "{\"name\":\"windows\",\"uid\":\"windows\",\"type\":\"window\",\"schema\":" RESULT_SCHEMA ",\"options\":{\"assigner\":" ASSIGNER              \
    ",\"key_columns\":[1],\"builtin\":[{\"function\":\"sum\",\"column\":2,\"as\":\"sum\"},{\"function\":\"count\",\"column\":-1,\"as\":\"count\"}]}," \
    "\"inputs\":" INPUTS "}"
#define SINK(INPUT)                                                                                                    \
    "{\"name\":\"sink\",\"uid\":\"sink\",\"type\":\"collect-sink\",\"parallelism\":1,\"options\":{\"path\":\"%s\"},\"inputs\":[{\"source\":" INPUT      \
    ",\"partitioning\":\"REBALANCE\"}]}"
#define MAP(NAME, FUNCTION, INPUT, PARTITIONING, MORE)                                                                 \
    "{\"name\":\"" NAME "\",\"uid\":\"" NAME "\",\"type\":\"map\"," MORE "\"schema\":" EVENT_SCHEMA ",\"options\":{\"function\":\"" FUNCTION "\"}," \
    "\"inputs\":[{\"source\":" INPUT ",\"partitioning\":\"" PARTITIONING "\"}]}"
#define WINDOWS_GRAPH                                                                                                  \
    "{\"version\":1,\"name\":\"windows\",\"config\":{\"execution.checkpointing.interval\":\"100\"},\"operators\":["                            \
    "{\"name\":\"numbers\",\"uid\":\"numbers\",\"type\":\"datagen-source\",\"parallelism\":1,\"schema\":" EVENT_SCHEMA ",\"options\":{"          \
    "\"number_of_rows\":%d,\"rows_per_second\":%d,\"fields\":{\"time\":{\"kind\":\"sequence\",\"start\":0,\"step\":0},"                     \
    "\"page\":{\"kind\":\"choice\",\"values\":[\"-\"]},\"n\":{\"kind\":\"sequence\",\"start\":0,\"step\":1}},\"watermark\":{\"strategy\":\"none\"}}},"  \
    MAP("rows", "recovery_row", "0", "FORWARD", "\"parallelism\":1,") ","                                                \
    "{\"name\":\"times\",\"uid\":\"times\",\"type\":\"assign_timestamps\",\"parallelism\":1,\"schema\":" EVENT_SCHEMA ",\"options\":{"           \
    "\"watermark\":{\"strategy\":\"bounded\",\"out_of_orderness_ms\":100,\"idle_timeout_ms\":-1,\"interval_ms\":10,\"column\":\"time\"}},"          \
    "\"inputs\":[{\"source\":1,\"partitioning\":\"FORWARD\"}]},"                                                                   \
    MAP("slow", "recovery_slow", "2", "REBALANCE", "") ","                                                                \
    WINDOW("%s", "[{\"source\":3,\"partitioning\":\"HASH\",\"key_columns\":[1]}]") "," SINK("4") "]}"

static json_t *windows_graph(const struct mini_cluster *cluster, const struct window_case *window, int rows_per_second)
{
    char *path = mini_path(cluster, "out"), *text = heap_printf(WINDOWS_GRAPH, ROWS, rows_per_second, window->assigner, path);
    json_t *graph = mini_parse(text);
    free(text);
    free(path);
    return graph;
}

static struct id submit(struct mini_cluster *cluster, const json_t *graph, uint32_t parallelism, const char *from)
{
    struct id job;
    mini_require(mini_cluster_submit(cluster, graph, parallelism, from, &job));
    return job;
}

/* The newest checkpoint of a job that was cancelled and keeps them. */
static char *cancel(struct mini_cluster *cluster, struct id job)
{
    char *location = mini_trigger(cluster, job, CHECKPOINT_KIND_CHECKPOINT, NULL);
    mini_cluster_cancel(cluster, job);
    ck_assert(mini_cluster_wait_state(cluster, job, JOB_CANCELED, MINI_WAIT_MS));
    ck_assert(mini_cluster_wait_quiet(cluster, MINI_WAIT_MS));
    return location;
}

/* ---- windows ---- */

#define ALIGNED "{\"execution.checkpointing.externalized-checkpoint-retention\":\"RETAIN_ON_CANCELLATION\"}"
#define UNALIGNED                                                                                                      \
    "{\"execution.checkpointing.externalized-checkpoint-retention\":\"RETAIN_ON_CANCELLATION\","                              \
    "\"execution.checkpointing.unaligned.enabled\":\"true\"}"
#define SLIDING "{\"type\":\"sliding\",\"time\":\"event\",\"size_ms\":900,\"slide_ms\":300}"
#define SESSION "{\"type\":\"session\",\"time\":\"event\",\"gap_ms\":150}"

/* A second: slow enough that rows are left when everything has been done to the job, on a slow machine too, and then the rest at once. */
#define SLOW_ROWS 200
#define FAST_ROWS 100000

/* Unaligned checkpoints overtake rows: at parallelism 3 the map does not keep up. Aligned ones wait for all of them: it just does. */
#define BEHIND_US 20000
#define IN_TIME_US 4000

static const struct window_case window_cases[] = {
    {SLIDING, 0, 900, 300, ALIGNED, IN_TIME_US},
    {SLIDING, 0, 900, 300, UNALIGNED, BEHIND_US},
    {SESSION, 150, 0, 0, ALIGNED, IN_TIME_US},
    {SESSION, 150, 0, 0, UNALIGNED, BEHIND_US},
};

/* Killed at parallelism 2, gone on with 3 from its last checkpoint, killed again, stopped with a savepoint, finished with 1. */
START_TEST(windows_equal_the_batch)
{
    const struct window_case *window = &window_cases[_i];
    struct mini_cluster *cluster = mini_start(3, 1, window->settings);
    make_rows((uint64_t)_i + 1);
    json_t *graph = windows_graph(cluster, window, SLOW_ROWS), *last_graph = windows_graph(cluster, window, FAST_ROWS);
    json_t *expected = batch_result(window);
    ck_assert_uint_gt(json_object_size(expected), 50);
    slow_us = window->slow_us;
    struct id job = submit(cluster, graph, 2, NULL);
    mini_wait_completed(cluster, job, 2);
    mini_kill_and_recover(cluster, job, 0, 1);
    mini_wait_completed(cluster, job, 4);
    char *checkpoint = cancel(cluster, job), *savepoint = NULL, *directory = mini_path(cluster, "savepoints");
    job = submit(cluster, graph, 3, checkpoint);
    mini_wait_completed(cluster, job, 2);
    mini_kill_and_recover(cluster, job, 1, 1);
    mini_wait_completed(cluster, job, 3);
    slow_us = 0; /* savepoints are aligned */
    savepoint = mini_trigger(cluster, job, CHECKPOINT_KIND_STOP, directory);
    mini_finish(cluster, job);
    job = submit(cluster, last_graph, 1, savepoint);
    mini_finish(cluster, job);
    mini_assert_balanced(cluster, job);
    json_t *actual = job_result(cluster, "out");
    assert_same(expected, actual);
    json_decref(actual);
    json_decref(expected);
    json_decref(last_graph);
    json_decref(graph);
    free(checkpoint);
    free(savepoint);
    free(directory);
    mini_cluster_stop(cluster);
}
END_TEST

/* ---- ends ---- */

#define STEP_MS 10
#define WINDOW_MS 1000
#define PAGES 4
#define ROWS_A_WINDOW (WINDOW_MS / STEP_MS * PAGES)
#define GENERATOR(NAME, WINDOWS, RATE)                                                                                 \
    "{\"name\":\"" NAME "\",\"uid\":\"" NAME "\",\"type\":\"datagen-source\",\"schema\":" EVENT_SCHEMA ",\"options\":{\"number_of_rows\":" WINDOWS          \
    ",\"rows_per_second\":" RATE ",\"fields\":{\"time\":{\"kind\":\"sequence\",\"start\":0,\"step\":10,\"repeat\":4},"                          \
    "\"page\":{\"kind\":\"choice\",\"values\":[\"a\",\"b\",\"c\",\"d\"]},\"n\":{\"kind\":\"sequence\",\"start\":1,\"step\":0}},"                    \
    "\"watermark\":{\"strategy\":\"bounded\",\"out_of_orderness_ms\":50,\"idle_timeout_ms\":-1,\"interval_ms\":10,\"column\":\"time\"}}}"
#define ENDS_GRAPH                                                                                                     \
    "{\"version\":1,\"name\":\"ends\",\"config\":{\"execution.checkpointing.interval\":\"%s\"},\"operators\":["                                \
    GENERATOR("short", "%d", "0") "," GENERATOR("long", "%d", "%d") ","                                                 \
    WINDOW("{\"type\":\"tumbling\",\"time\":\"event\",\"size_ms\":1000}",                                                       \
           "[{\"source\":0,\"partitioning\":\"HASH\",\"key_columns\":[1]},{\"source\":1,\"partitioning\":\"HASH\",\"key_columns\":[1]}]") ","       \
    SINK("2") "]}"
#define SHORT_WINDOWS 3
#define LONG_WINDOWS 12

static json_t *ends_graph(const struct mini_cluster *cluster, const char *interval, int long_rate)
{
    char *path = mini_path(cluster, "out");
    char *text = heap_printf(ENDS_GRAPH, interval, SHORT_WINDOWS * ROWS_A_WINDOW, LONG_WINDOWS * ROWS_A_WINDOW, long_rate, path);
    json_t *graph = mini_parse(text);
    free(text);
    free(path);
    return graph;
}

/* Each page once a step from the long source, and in the first windows from the short one too. */
static void assert_both_counted(const struct mini_cluster *cluster)
{
    json_t *expected = json_object(), *actual = job_result(cluster, "out");
    for (int page = 0; page < PAGES; page++)
        for (int64_t window = 0; window < LONG_WINDOWS; window++) {
            char *name = heap_printf("%c@%" PRId64 "-%" PRId64, 'a' + page, window * WINDOW_MS, (window + 1) * WINDOW_MS);
            int count = WINDOW_MS / STEP_MS * (window < SHORT_WINDOWS ? 2 : 1);
            json_object_set_new(expected, name, json_pack("[i,i]", count, count));
            free(name);
        }
    assert_same(expected, actual);
    json_decref(expected);
    json_decref(actual);
}

struct finished_tasks {
    struct id job;
    uint32_t count;
};

static bool has_finished_tasks(const struct mini_cluster *cluster, const void *argument)
{
    const struct finished_tasks *wanted = argument;
    return mini_cluster_job(cluster, wanted->job)->state_counts[EXECUTION_FINISHED] >= wanted->count;
}

static void wait_for_finished(struct mini_cluster *cluster, struct id job, uint32_t count)
{
    ck_assert_msg(mini_cluster_wait(cluster, has_finished_tasks, &(struct finished_tasks){job, count}, MINI_WAIT_MS), "%s",
                  mini_failure(cluster, job));
}

/* Checkpoints go on beside finished tasks; what these had read is not read again after a kill, nor at another parallelism. */
START_TEST(ended_sources_are_not_read_again)
{
    struct mini_cluster *cluster = mini_start(3, 1, _i == 0 ? ALIGNED : UNALIGNED);
    json_t *graph = ends_graph(cluster, "100", 100), *last_graph = ends_graph(cluster, "100", 0);
    char *directory = mini_path(cluster, "savepoints"), *savepoint = NULL;
    struct id job = submit(cluster, graph, 2, NULL);
    wait_for_finished(cluster, job, 2);
    mini_wait_completed(cluster, job, mini_cluster_job(cluster, job)->checkpoints.counts.completed + 2);
    mini_kill_and_recover(cluster, job, 0, 1);
    wait_for_finished(cluster, job, 2); /* they run to their end again, over nothing */
    char *checkpoint = cancel(cluster, job);
    job = submit(cluster, graph, 3, checkpoint);
    wait_for_finished(cluster, job, 3);
    savepoint = mini_trigger(cluster, job, CHECKPOINT_KIND_STOP, directory);
    mini_finish(cluster, job);
    job = submit(cluster, last_graph, 1, savepoint);
    mini_finish(cluster, job);
    mini_assert_balanced(cluster, job);
    assert_both_counted(cluster);
    json_decref(last_graph);
    json_decref(graph);
    free(checkpoint);
    free(savepoint);
    free(directory);
    mini_cluster_stop(cluster);
}
END_TEST

/* Everything has ended, only the last checkpoint has not been taken. From a savepoint of then, nothing comes twice and nothing is lost: at any
 * parallelism, all tasks end again over nothing. */
START_TEST(a_job_that_had_ended_ends_again)
{
    struct mini_cluster *cluster = mini_start(3, 1, NULL);
    json_t *graph = ends_graph(cluster, "10 min", 0);
    char *directory = mini_path(cluster, "savepoints"), *savepoint = NULL;
    struct id job = submit(cluster, graph, 2, NULL);
    ck_assert(mini_cluster_wait_running(cluster, job, MINI_WAIT_MS));
    /* The windows' end of data comes behind their last rows; until the sink has them all, savepoints are of no use here. */
    for (int rows_in = 0; rows_in < PAGES * LONG_WINDOWS;) {
        char *location = mini_trigger(cluster, job, CHECKPOINT_KIND_SAVEPOINT, directory);
        json_t *written = mini_rows(cluster, "out", 1);
        rows_in = (int)json_array_size(written);
        json_decref(written);
        free(savepoint);
        savepoint = location;
    }
    mini_cluster_cancel(cluster, job);
    ck_assert(mini_cluster_wait_state(cluster, job, JOB_CANCELED, MINI_WAIT_MS));
    json_decref(graph);
    graph = ends_graph(cluster, "100", 0);
    static const uint32_t parallelisms[] = {2, 3, 1};
    for (int i = 0; i < 3; i++) {
        job = submit(cluster, graph, parallelisms[i], savepoint);
        mini_finish(cluster, job);
        mini_assert_balanced(cluster, job);
        assert_both_counted(cluster);
    }
    json_decref(graph);
    free(savepoint);
    free(directory);
    mini_cluster_stop(cluster);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("recovery");
    TCase *tcase = tcase_create("recovery");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, windows_equal_the_batch, 0, (int)(sizeof window_cases / sizeof window_cases[0]));
    tcase_add_loop_test(tcase, ended_sources_are_not_read_again, 0, 2);
    tcase_add_test(tcase, a_job_that_had_ended_ends_again);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
