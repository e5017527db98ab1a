/* What the agent keeps of its runners' reports: from DEPLOY to the end of a task or of the runner. */
#include "common/base/heap.h"
#include "taskmanager/agent/agent_private.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define JOB "00112233445566778899aabbccddeeff"
#define SOURCE "bc764cd8ddf7a0cff126f51c16239658"
#define COUNTER "0a448493b4782967b150582570326227"

static struct agent agent;

static struct runner *add_runner(int64_t epoch)
{
    struct runner *runner = heap_new(struct runner);
    runner->agent = &agent;
    ck_assert(id_parse(JOB, &runner->job));
    runner->epoch = epoch;
    runner->state = RUNNER_RUNNING;
    vec_push(&agent.runners, runner);
    return runner;
}

static void deploy(struct runner *runner, const char *first, const char *second)
{
    json_t *json = json_pack("{s:{s:s,s:[{s:s,s:s,s:[i]},{s:s,s:s,s:[i]}],s:[{s:[]},{s:[{s:i}]}]},"
                             "s:[{s:s,s:s,s:i,s:i},{s:s,s:s,s:i,s:i},{s:s}]}", "graph", "name", "Clicks", "vertices", "id", SOURCE, "name",
                             "Source: A", "operators", 0, "id", COUNTER, "name", "B",
                             "operators", 1, "operators", "inputs", "inputs", "source", 0, "tasks", "execution", first, "vertex", SOURCE,
                             "subtask", 0, "attempt", 2, "execution", second, "vertex", COUNTER, "subtask", 1, "attempt", 2,
                             "execution", "no-vertex");
    ck_assert_ptr_nonnull(json);
    agent_metrics_deploy(runner, json);
    json_decref(json);
}

static void report(struct runner *runner, const char *execution, int batches)
{
    json_t *json = json_pack("{s:s,s:I,s:[{s:s,s:i,s:{s:i,s:i,s:i,s:i},s:[]}]}", "job", JOB, "epoch", (json_int_t)runner->epoch, "tasks", "execution",
                             execution, "numRecordsIn", 5, "channels", "batches_max", 8, "batches", batches, "bytes_max", 1000, "bytes",
                             batches * 100, "operators");
    size_t length;
    char *body = message_encode(MESSAGE_METRICS, json, &length);
    struct frame frame = {.type = MESSAGE_METRICS, .body = (uint8_t *)body, .length = (uint32_t)length};
    agent_metrics_report(runner, &frame);
    free(body);
    json_decref(json);
}

static int64_t metric(const char *name)
{
    json_t *metrics = agent_metrics(&agent);
    ck_assert_msg(json_object_get(metrics, name) != NULL, "there is no %s", name);
    int64_t value = json_integer_value(json_object_get(metrics, name));
    json_decref(metrics);
    return value;
}

static void end_runner(struct runner *runner)
{
    agent_metrics_runner_ended(runner);
    agent_metrics_runner_ended(runner);
    for (size_t i = agent.runners.count; i-- > 0;)
        if (agent.runners.items[i] == runner)
            vec_remove(&agent.runners, i);
    free(runner);
}

START_TEST(reports_are_kept_as_long_as_their_tasks)
{
    struct runner *first = add_runner(1), *second = add_runner(2);
    ck_assert_int_eq(metric("Status.Shuffle.Netty.TotalMemorySegments"), 0);
    deploy(first, "a", "b");
    deploy(second, "c", "d");
    deploy(second, "e", "f"); /* further tasks of the same runner */
    report(first, "a", 1);
    report(first, "b", 2);
    report(first, "stranger", 4);
    report(second, "e", 3);
    ck_assert_int_eq(metric("Status.Shuffle.Netty.TotalMemorySegments"), 24);
    ck_assert_int_eq(metric("Status.Shuffle.Netty.UsedMemorySegments"), 6);
    ck_assert_int_eq(metric("Status.Network.AvailableMemorySegments"), 18);
    ck_assert_int_eq(metric("Status.Shuffle.Netty.RequestedMemoryUsage"), 20);
    report(first, "a", 8); /* the newest counts */
    ck_assert_int_eq(metric("Status.Shuffle.Netty.UsedMemorySegments"), 13);
    agent_metrics_task_ended(first, "a");
    agent_metrics_task_ended(first, "a");
    report(first, "a", 8); /* late */
    ck_assert_int_eq(metric("Status.Shuffle.Netty.UsedMemorySegments"), 5);
    end_runner(second);
    ck_assert_int_eq(metric("Status.Shuffle.Netty.UsedMemory"), 200);
    end_runner(first);
    ck_assert_int_eq(metric("Status.Shuffle.Netty.TotalMemory"), 0);
    vec_finish(&agent.runners);
}
END_TEST

START_TEST(nonsense_changes_nothing)
{
    struct runner *runner = add_runner(1);
    struct frame frame = {.type = MESSAGE_METRICS, .body = (uint8_t *)(uintptr_t) "{\"tasks\":7}", .length = 11};
    agent_metrics_report(runner, &frame); /* before any DEPLOY */
    agent_metrics_task_ended(runner, "a");
    deploy(runner, "a", "b");
    agent_metrics_report(runner, &frame);
    ck_assert_int_eq(metric("Status.Shuffle.Netty.TotalMemorySegments"), 0);
    end_runner(runner);
    vec_finish(&agent.runners);
}
END_TEST

#ifdef __SANITIZE_THREAD__
#define OWN_THREADS 2 /* the sanitizer's own is one */
#else
#define OWN_THREADS 1
#endif

START_TEST(own_figures)
{
    ck_assert_int_gt(metric("Status.JVM.CPU.Time"), 0);
    ck_assert_int_eq(metric("Status.JVM.Threads.Count"), OWN_THREADS);
    ck_assert_int_eq(metric("Status.TaskRunner.Count"), 0);
    ck_assert_int_gt(metric("Status.JVM.Memory.Heap.Max"), metric("Status.JVM.Memory.Heap.Used"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("agent metrics");
    TCase *cases = tcase_create("agent metrics");
    tcase_add_test(cases, reports_are_kept_as_long_as_their_tasks);
    tcase_add_test(cases, nonsense_changes_nothing);
    tcase_add_test(cases, own_figures);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
