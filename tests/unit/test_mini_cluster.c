/* The daemons together, in one process (tests/support/mini_cluster.h): a jobmanager and taskmanagers over loopback TCP run jobs of
 * datagen -> map -> keyed window -> collect sink through kills, cut networks, savepoints, rescales, failures and cancels. Every row is
 * known beforehand, so every result must be exact. MINI_CLUSTER_LOG=1 shows the daemons' logs. */
#include "common/base/heap.h"
#include "jobmanager/jobmanager.h"
#include "millrace/function.h"
#include "taskmanager/agent/agent.h"
#include "taskmanager/task/user_library.h"
#include "tests/support/mini_jobs.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <dirent.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEY_COUNT 4
#define WINDOW_MS 1000
#define STEP_MS 10
#define ROWS_A_WINDOW (WINDOW_MS / STEP_MS * KEY_COUNT)

/* ---- user functions ---- */

#define CLICK(FIELD) FIELD(time, mr_timestamp) FIELD(page, mr_string)
MR_RECORD(click, CLICK);

static atomic_int failures_left;     /* mini_fail fails so often at FAIL_TIME */
static atomic_bool is_gate_closed;   /* mini_gate waits while it is */
#define FAIL_TIME 5000

MR_MAP(mini_pass, click, click)
{
    (void)ctx;
    *out = *in;
}

MR_MAP(mini_fail, click, click)
{
    *out = *in;
    if (in->time >= FAIL_TIME && atomic_load(&failures_left) > 0) {
        atomic_fetch_sub(&failures_left, 1);
        mr_fail(ctx, "failing as planned");
    }
}

MR_MAP(mini_gate, click, click)
{
    (void)ctx;
    *out = *in;
    while (atomic_load(&is_gate_closed))
        usleep(1000);
}

/* ---- jobs ---- */

#define CLICK_SCHEMA "[{\"name\":\"time\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"page\",\"type\":\"STRING\",\"nullable\":false}]"
#define COUNT_SCHEMA                                                                                                   \
    "[{\"name\":\"page\",\"type\":\"STRING\",\"nullable\":false},{\"name\":\"window_start\",\"type\":\"TIMESTAMP\",\"nullable\":false},"  \
    "{\"name\":\"count\",\"type\":\"BIGINT\",\"nullable\":false}]"
#define GRAPH                                                                                                          \
    "{\"version\":1,\"name\":\"counts\",\"config\":{\"execution.checkpointing.interval\":\"%s\"},\"operators\":["                          \
    "{\"name\":\"clicks\",\"uid\":\"clicks\",\"type\":\"datagen-source\",\"schema\":" CLICK_SCHEMA ",\"options\":{%s\"rows_per_second\":%d,"           \
    "\"fields\":{\"time\":{\"kind\":\"sequence\",\"start\":0,\"step\":10,\"repeat\":4},"                                                         \
    "\"page\":{\"kind\":\"choice\",\"values\":[\"a\",\"b\",\"c\",\"d\"]}},"                                                                     \
    "\"watermark\":{\"strategy\":\"bounded\",\"out_of_orderness_ms\":50,\"idle_timeout_ms\":-1,\"interval_ms\":10,\"column\":\"time\"}}},"             \
    "{\"name\":\"map\",\"uid\":\"map\",\"type\":\"map\",\"schema\":" CLICK_SCHEMA ",\"options\":{\"function\":\"%s\"},"                          \
    "\"inputs\":[{\"source\":0,\"partitioning\":\"FORWARD\"}]},"                                                                          \
    "{\"name\":\"count\",\"uid\":\"count\",\"type\":\"window\",\"schema\":" COUNT_SCHEMA ",\"options\":{\"assigner\":{\"type\":\"tumbling\","             \
    "\"time\":\"event\",\"size_ms\":1000},\"key_columns\":[1],\"builtin\":[{\"function\":\"count\",\"column\":-1,\"as\":\"count\"}]},"            \
    "\"inputs\":[{\"source\":1,\"partitioning\":\"HASH\",\"key_columns\":[1]}]},"                                                         \
    "{\"name\":\"sink\",\"uid\":\"sink\",\"type\":\"collect-sink\",\"options\":{\"path\":\"%s\"},"                                               \
    "\"inputs\":[{\"source\":2,\"partitioning\":\"FORWARD\"}]}]}"

struct plan {
    int window_count; /* 0: without an end */
    int rows_per_second;
    const char *interval; /* of checkpoints */
    const char *function;
};

static json_t *graph_of(const struct mini_cluster *cluster, const struct plan *plan, const char *name)
{
    char *path = mini_path(cluster, name);
    char *rows = plan->window_count > 0 ? heap_printf("\"number_of_rows\":%d,", plan->window_count * ROWS_A_WINDOW) : heap_strdup("");
    char *text = heap_printf(GRAPH, plan->interval, rows, plan->rows_per_second, plan->function, path);
    json_t *json = mini_parse(text);
    free(text);
    free(rows);
    free(path);
    return json;
}

static struct id submit(struct mini_cluster *cluster, const struct plan *plan, const char *name, uint32_t parallelism, const char *savepoint)
{
    struct id job;
    json_t *graph = graph_of(cluster, plan, name);
    mini_require(mini_cluster_submit(cluster, graph, parallelism, savepoint, &job));
    json_decref(graph);
    return job;
}

/* ---- results ---- */

/* "page@window start" -> count. */
static json_t *read_result(const struct mini_cluster *cluster, const char *name)
{
    json_t *counts = json_object(), *rows = mini_rows(cluster, name, 4), *row;
    size_t index;
    json_array_foreach(rows, index, row)
    {
        char *key = heap_printf("%s@%lld", json_string_value(json_object_get(row, "page")),
                                (long long)json_integer_value(json_object_get(row, "window_start")));
        ck_assert_msg(json_object_get(counts, key) == NULL, "window %s came twice", key);
        json_object_set(counts, key, json_object_get(row, "count"));
        free(key);
    }
    json_decref(rows);
    return counts;
}

/* Each page exactly 100 times in each window, each window once. */
static void assert_exact(const struct mini_cluster *cluster, const char *name, int window_count)
{
    json_t *counts = read_result(cluster, name);
    ck_assert_uint_eq(json_object_size(counts), (size_t)window_count * KEY_COUNT);
    const char *key;
    json_t *count;
    json_object_foreach (counts, key, count)
        ck_assert_msg(json_integer_value(count) == WINDOW_MS / STEP_MS, "%s was counted %lld times", key, (long long)json_integer_value(count));
    json_decref(counts);
}

/* Stops with a savepoint, and reads the rest at once. For jobs so slow that they are not at their end when all has been done to them. */
static struct id finish_at_once(struct mini_cluster *cluster, struct id job, struct plan plan)
{
    char *directory = mini_path(cluster, "savepoints"), *savepoint = mini_trigger(cluster, job, CHECKPOINT_KIND_STOP, directory);
    mini_finish(cluster, job);
    plan.rows_per_second = 0;
    job = submit(cluster, &plan, "out", 2, savepoint);
    mini_finish(cluster, job);
    free(savepoint);
    free(directory);
    return job;
}

/* ---- tests ---- */

START_TEST(two_taskmanagers_count_every_row)
{
    struct mini_cluster *cluster = mini_start(2, 1, NULL);
    struct id job = submit(cluster, &(struct plan){20, 0, "50", "mini_pass"}, "out", 2, NULL);
    ck_assert_uint_ne(mini_cluster_slot_owner(cluster, job, 0), mini_cluster_slot_owner(cluster, job, 1));
    mini_finish(cluster, job);
    assert_exact(cluster, "out", 20);
    mini_assert_balanced(cluster, job);
    mini_cluster_stop(cluster);
}
END_TEST

START_TEST(killed_taskmanager_costs_no_row)
{
    struct mini_cluster *cluster = mini_start(3, 1, NULL);
    struct plan plan = {15, 200, "30", "mini_pass"};
    struct id job = submit(cluster, &plan, "out", 2, NULL);
    for (uint32_t kill = 0; kill < 2; kill++) {
        mini_wait_completed(cluster, job, 3 * kill + 3);
        mini_kill_and_recover(cluster, job, kill, 1);
    }
    ck_assert_uint_ge(mini_cluster_job(cluster, job)->checkpoints.counts.restored, 1);
    job = finish_at_once(cluster, job, plan);
    assert_exact(cluster, "out", 15);
    mini_assert_balanced(cluster, job);
    mini_cluster_stop(cluster);
}
END_TEST

START_TEST(silent_taskmanager_is_lost_and_comes_back)
{
    struct mini_cluster *cluster = mini_start(3, 1, "{\"heartbeat.timeout\":\"2 s\"}");
    struct plan plan = {12, 200, "50", "mini_pass"};
    struct id job = submit(cluster, &plan, "out", 2, NULL);
    mini_wait_completed(cluster, job, 2);
    uint32_t silent = mini_cluster_slot_owner(cluster, job, 0);
    mini_cluster_cut(cluster, silent);
    ck_assert(mini_cluster_wait_taskmanagers(cluster, 2, MINI_WAIT_MS));
    mini_cluster_heal(cluster, silent);
    ck_assert(mini_cluster_wait_taskmanagers(cluster, 3, MINI_WAIT_MS));
    ck_assert_msg(mini_cluster_wait_running(cluster, job, MINI_WAIT_MS), "%s", mini_failure(cluster, job));
    job = finish_at_once(cluster, job, plan);
    assert_exact(cluster, "out", 12);
    mini_assert_balanced(cluster, job);
    mini_cluster_stop(cluster);
}
END_TEST

START_TEST(stopped_job_goes_on_at_other_parallelisms)
{
    static const uint32_t parallelisms[] = {2, 3, 1};
    struct mini_cluster *cluster = mini_start(2, 2, NULL);
    char *directory = mini_path(cluster, "savepoints");
    char *savepoint = NULL;
    for (int i = 0; i < 3; i++) {
        struct id job = submit(cluster, &(struct plan){12, i < 2 ? 200 : 0, "50", "mini_pass"}, "out", parallelisms[i], savepoint);
        free(savepoint);
        savepoint = NULL;
        if (i < 2) {
            mini_wait_completed(cluster, job, 2);
            savepoint = mini_trigger(cluster, job, CHECKPOINT_KIND_STOP, directory);
            ck_assert_ptr_nonnull(savepoint);
        }
        mini_finish(cluster, job);
        mini_assert_balanced(cluster, job);
    }
    assert_exact(cluster, "out", 12);
    free(directory);
    mini_cluster_stop(cluster);
}
END_TEST

START_TEST(savepoint_lets_the_job_run_on)
{
    struct mini_cluster *cluster = mini_start(2, 1, NULL);
    char *directory = mini_path(cluster, "savepoints");
    char *savepoint = NULL, *checkpoint = NULL;
    struct id job = submit(cluster, &(struct plan){8, 200, "10 min", "mini_pass"}, "out", 2, NULL);
    ck_assert(mini_cluster_wait_running(cluster, job, MINI_WAIT_MS));
    mini_require(mini_cluster_trigger(cluster, job, CHECKPOINT_KIND_SAVEPOINT, directory, MINI_WAIT_MS, &savepoint));
    ck_assert_int_eq(mini_cluster_job(cluster, job)->state, JOB_RUNNING);
    mini_require(mini_cluster_trigger(cluster, job, CHECKPOINT_KIND_CHECKPOINT, NULL, MINI_WAIT_MS, &checkpoint));
    mini_cluster_cancel(cluster, job);
    ck_assert(mini_cluster_wait_state(cluster, job, JOB_CANCELED, MINI_WAIT_MS));
    job = submit(cluster, &(struct plan){8, 0, "50", "mini_pass"}, "out", 2, savepoint);
    mini_finish(cluster, job);
    assert_exact(cluster, "out", 8);
    /* A savepoint that is not there: the job fails and says where it looked. */
    job = submit(cluster, &(struct plan){8, 0, "50", "mini_pass"}, "out", 2, "/nowhere/savepoint-1");
    ck_assert_int_eq(mini_cluster_job(cluster, job)->state, JOB_FAILED);
    ck_assert_ptr_nonnull(strstr(mini_failure(cluster, job), "/nowhere/savepoint-1"));
    free(checkpoint);
    free(savepoint);
    free(directory);
    mini_cluster_stop(cluster);
}
END_TEST

START_TEST(job_waits_for_a_taskmanager)
{
    struct mini_cluster *cluster = mini_start(1, 1, NULL);
    struct id job = submit(cluster, &(struct plan){5, 0, "50", "mini_pass"}, "out", 2, NULL);
    ck_assert_int_eq(mini_cluster_job(cluster, job)->state, JOB_RUNNING);
    ck_assert(!mini_cluster_wait_running(cluster, job, 200));
    ck_assert_uint_eq(mini_cluster_runner_count(cluster), 0);
    mini_require(mini_cluster_add_taskmanager(cluster, 1, NULL));
    mini_finish(cluster, job);
    assert_exact(cluster, "out", 5);
    mini_cluster_stop(cluster);
}
END_TEST

START_TEST(job_without_slots_fails_in_time)
{
    struct mini_cluster *cluster = mini_start(1, 1, "{\"slot.request.timeout\":\"200 ms\",\"restart-strategy.type\":\"none\"}");
    struct id job = submit(cluster, &(struct plan){5, 0, "50", "mini_pass"}, "out", 2, NULL);
    ck_assert(mini_cluster_wait_state(cluster, job, JOB_FAILED, MINI_WAIT_MS));
    ck_assert_msg(strstr(mini_failure(cluster, job), "Could not acquire the minimum required resources") != NULL, "%s", mini_failure(cluster, job));
    mini_cluster_stop(cluster);
}
END_TEST

/* Flink's "none" is the largest number: the job ends without waiting for a checkpoint. */
START_TEST(largest_interval_means_no_checkpoints)
{
    struct mini_cluster *cluster = mini_start(1, 1, NULL);
    struct id job = submit(cluster, &(struct plan){5, 0, "9223372036854775807", "mini_pass"}, "out", 1, NULL);
    mini_finish(cluster, job);
    assert_exact(cluster, "out", 5);
    mini_cluster_stop(cluster);
}
END_TEST

/* As state handles of very many tasks on one taskmanager make it. */
START_TEST(deployment_that_is_too_large_fails_its_job)
{
    struct mini_cluster *cluster = mini_start(1, 1, "{\"restart-strategy.type\":\"none\"}");
    struct plan plan = {5, 0, "50", "mini_pass"};
    size_t length = 64u << 20;
    char *padding = heap_alloc(length + 1);
    memset(padding, 'x', length);
    padding[length] = '\0';
    json_t *graph = graph_of(cluster, &plan, "large");
    json_object_set_new(json_object_get(json_array_get(json_object_get(graph, "operators"), 1), "options"), "padding", json_string(padding));
    free(padding);
    struct id large;
    mini_require(mini_cluster_submit(cluster, graph, 1, NULL, &large));
    json_decref(graph);
    ck_assert_msg(mini_cluster_wait_state(cluster, large, JOB_FAILED, MINI_WAIT_MS), "%s", mini_failure(cluster, large));
    const char *failure = mini_failure(cluster, large);
    ck_assert_msg(strstr(failure, "takes 64 MiB, and a message 63 at most (give the job more taskmanagers") != NULL, "%s", failure);
    mini_finish(cluster, submit(cluster, &plan, "out", 1, NULL));
    assert_exact(cluster, "out", 5);
    mini_cluster_stop(cluster);
}
END_TEST

START_TEST(failing_function_is_restarted)
{
    struct mini_cluster *cluster = mini_start(2, 1, NULL);
    atomic_store(&failures_left, 3);
    struct id job = submit(cluster, &(struct plan){10, 8000, "30", "mini_fail"}, "out", 2, NULL);
    mini_finish(cluster, job);
    assert_exact(cluster, "out", 10);
    ck_assert_uint_ge(mini_cluster_job(cluster, job)->restart_count, 2); /* both subtasks may fail in one attempt */
    mini_cluster_stop(cluster);
}
END_TEST

START_TEST(function_that_fails_for_ever_fails_the_job)
{
    struct mini_cluster *cluster = mini_start(2, 1, NULL);
    atomic_store(&failures_left, INT32_MAX);
    struct id job = submit(cluster, &(struct plan){10, 0, "50", "mini_fail"}, "out", 2, NULL);
    ck_assert(mini_cluster_wait_state(cluster, job, JOB_FAILED, MINI_WAIT_MS));
    ck_assert_uint_eq(mini_cluster_job(cluster, job)->restart_count, 5);
    const struct job *known = mini_cluster_job(cluster, job);
    const char *text = known->exceptions.items[known->exceptions.count - 1].text;
    ck_assert_msg(strstr(text, "failing as planned") != NULL, "%s", text);
    ck_assert(mini_cluster_wait_quiet(cluster, MINI_WAIT_MS));
    mini_cluster_stop(cluster);
}
END_TEST

START_TEST(late_checkpoint_expires_and_the_next_completes)
{
    struct mini_cluster *cluster = mini_start(2, 1, "{\"execution.checkpointing.timeout\":\"300 ms\","
                                               "\"execution.checkpointing.tolerable-failed-checkpoints\":\"100\"}");
    atomic_store(&is_gate_closed, true);
    struct id job = submit(cluster, &(struct plan){10, 6000, "50", "mini_gate"}, "out", 2, NULL);
    ck_assert(mini_cluster_wait_failed_checkpoints(cluster, job, 1, MINI_WAIT_MS));
    const struct checkpoint *failed = mini_cluster_job(cluster, job)->checkpoints.latest_failed;
    ck_assert_msg(strstr(failed->failure, "expired") != NULL, "%s", failed->failure);
    ck_assert_uint_eq(mini_cluster_job(cluster, job)->checkpoints.counts.completed, 0);
    atomic_store(&is_gate_closed, false);
    mini_finish(cluster, job);
    ck_assert_uint_gt(mini_cluster_job(cluster, job)->checkpoints.counts.completed, 0);
    ck_assert_uint_eq(mini_cluster_job(cluster, job)->restart_count, 0);
    assert_exact(cluster, "out", 10);
    mini_cluster_stop(cluster);
}
END_TEST

START_TEST(two_jobs_share_the_cluster)
{
    struct mini_cluster *cluster = mini_start(2, 2, NULL);
    struct id first = submit(cluster, &(struct plan){12, 0, "50", "mini_pass"}, "first", 2, NULL);
    struct id second = submit(cluster, &(struct plan){7, 6000, "30", "mini_pass"}, "second", 2, NULL);
    mini_finish(cluster, second);
    mini_finish(cluster, first);
    assert_exact(cluster, "first", 12);
    assert_exact(cluster, "second", 7);
    mini_cluster_stop(cluster);
}
END_TEST

static uint32_t open_fd_count(void)
{
    uint32_t count = 0;
    DIR *entries = opendir("/proc/self/fd");
    while (readdir(entries) != NULL)
        count++;
    closedir(entries);
    return count;
}

/* Pool threads may still delete checkpoints of the last job: give them a moment. */
static bool is_fd_count(const struct mini_cluster *cluster, const void *argument)
{
    (void)cluster;
    return open_fd_count() <= *(const uint32_t *)argument;
}

START_TEST(fifty_cancelled_jobs_leave_nothing)
{
    struct mini_cluster *cluster = mini_start(2, 2, NULL);
    uint32_t before = open_fd_count();
    for (int i = 0; i < 50; i++) {
        struct id job = submit(cluster, &(struct plan){0, 2000, "20", "mini_pass"}, "out", 2, NULL);
        if (i % 3 != 0) /* also jobs whose tasks are still being deployed */
            ck_assert(mini_cluster_wait_running(cluster, job, MINI_WAIT_MS));
        mini_cluster_cancel(cluster, job);
        ck_assert_msg(mini_cluster_wait_state(cluster, job, JOB_CANCELED, MINI_WAIT_MS), "job %d: %s", i, mini_failure(cluster, job));
        ck_assert(mini_cluster_wait_quiet(cluster, MINI_WAIT_MS));
    }
    bool is_flat = mini_cluster_wait(cluster, is_fd_count, &before, 5000);
    ck_assert_msg(is_flat, "%u descriptors before, %u after", before, open_fd_count());
    ck_assert_uint_eq(mini_cluster_jobmanager(cluster)->coordinator->free_slot_count, 4);
    coordinator_verify(mini_cluster_jobmanager(cluster)->coordinator);
    mini_cluster_stop(cluster);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mini_cluster");
    TCase *tcase = tcase_create("mini_cluster");
    tcase_set_timeout(tcase, 90);
    tcase_add_test(tcase, two_taskmanagers_count_every_row);
    tcase_add_test(tcase, killed_taskmanager_costs_no_row);
    tcase_add_test(tcase, silent_taskmanager_is_lost_and_comes_back);
    tcase_add_test(tcase, stopped_job_goes_on_at_other_parallelisms);
    tcase_add_test(tcase, savepoint_lets_the_job_run_on);
    tcase_add_test(tcase, job_waits_for_a_taskmanager);
    tcase_add_test(tcase, job_without_slots_fails_in_time);
    tcase_add_test(tcase, deployment_that_is_too_large_fails_its_job);
    tcase_add_test(tcase, largest_interval_means_no_checkpoints);
    tcase_add_test(tcase, failing_function_is_restarted);
    tcase_add_test(tcase, function_that_fails_for_ever_fails_the_job);
    tcase_add_test(tcase, late_checkpoint_expires_and_the_next_completes);
    tcase_add_test(tcase, two_jobs_share_the_cluster);
    tcase_add_test(tcase, fifty_cancelled_jobs_leave_nothing);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
