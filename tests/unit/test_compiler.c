/* job-compiler as a program: good programs give a graph, bad ones an error that says what is wrong. The programs are
 * tests/programs/; BUILD names the build folder. */
#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "common/graph/job_graph.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *build(void)
{
    const char *folder = getenv("BUILD");
    return folder != NULL ? folder : "build";
}

/* words: arguments of job-compiler, separated by blanks. Returns its answer; *status its wait status. */
static json_t *compile(const char *library, const char *words, int *status)
{
    char *command = heap_printf("%s/bin/job-compiler --library %s %s 2>/dev/null", build(), library, words);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    free(command);
    struct str_buf text = {0};
    char bytes[4096];
    size_t got;
    while ((got = fread(bytes, 1, sizeof bytes, pipe)) > 0)
        str_buf_append_bytes(&text, bytes, got);
    *status = pclose(pipe);
    json_t *json = json_loads(str_buf_text(&text), 0, NULL);
    ck_assert_msg(json != NULL, "no JSON: %s", str_buf_text(&text));
    str_buf_finish(&text);
    return json;
}

static void expect_error(const char *program, const char *words, const char *code, const char *part)
{
    int status = 0;
    char *library = heap_printf("%s/tests/programs/%s.so", build(), program);
    json_t *json = compile(library, words, &status);
    free(library);
    ck_assert_int_eq(WEXITSTATUS(status), 1);
    const char *message = json_string_value(json_object_get(json_object_get(json, "error"), "message"));
    ck_assert_msg(message != NULL && strstr(message, part) != NULL, "\"%s\" does not say \"%s\"", message, part);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(json, "error"), "code")), code);
    json_decref(json);
}

static struct job_graph *expect_graph(const char *library, const char *words)
{
    int status = 0;
    json_t *json = compile(library, words, &status);
    struct job_graph *graph = NULL;
    struct error *err = job_graph_from_json(json, &graph);
    ck_assert_msg(err == NULL, "%s", err != NULL ? err->message : "");
    ck_assert_int_eq(status, 0);
    json_decref(json);
    return graph;
}

START_TEST(click_count_has_flinks_vertices)
{
    char *library = heap_printf("%s/bin/ClickCountJob.so", build());
    struct job_graph *graph = expect_graph(library, "--config parallelism.default=2 --config pipeline.auto-watermark-interval=50 -- "
                                                    "--event-time --checkpointing");
    ck_assert_str_eq(graph->name, "Click Event Count");
    ck_assert_uint_eq(graph->vertex_count, 4);
    ck_assert_str_eq(id_format(graph->vertices[3].id).hex, "6d2677a0ecc3fd8df0b72ec675edf8f4");
    ck_assert_str_eq(graph->vertices[2].name, "ClickEventStatistics Sink: Writer");
    ck_assert_uint_eq(graph->vertices[2].parallelism, 2);
    ck_assert_str_eq(job_graph_config(graph, "execution.checkpointing.interval"), "1000");
    ck_assert_str_eq(graph->operators[1].description, "Window(TumblingEventTimeWindows(15000), EventTimeTrigger, Counter, Stats)");
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(graph->operators[0].options, "watermark"), "interval_ms")), 50);
    job_graph_destroy(graph);
    graph = expect_graph(library, "--config parallelism.default=1 -- --chaining --backpressure");
    ck_assert_uint_eq(graph->vertex_count, 3);
    ck_assert_str_eq(graph->vertices[1].name, "Backpressure");
    ck_assert_str_eq(graph->operators[2].description, "Window(TumblingProcessingTimeWindows(15000), ProcessingTimeTrigger, Counter, Stats)");
    job_graph_destroy(graph);
    free(library);
}
END_TEST

START_TEST(default_parallelism_stays_open_without_configuration)
{
    char *library = heap_printf("%s/bin/ClickCountJob.so", build());
    struct job_graph *graph = expect_graph(library, "--config pipeline.max-parallelism=64");
    ck_assert_uint_eq(graph->vertex_count, 0);
    ck_assert_uint_eq(graph->operators[0].parallelism, 0);
    ck_assert_uint_eq(graph->operators[0].max_parallelism, 64);
    job_graph_destroy(graph);
    free(library);
}
END_TEST

START_TEST(bad_programs_are_explained)
{
    expect_error("bad_main", "--entry crashes", "USER_FUNCTION", "crashes crashed with SIGSEGV");
    expect_error("bad_main", "--entry crashes", "USER_FUNCTION", "bad_main.so(crashes+");
    expect_error("bad_main", "--entry loops --config program.compile.timeout=500ms", "TIMEOUT", "loops did not end within 475 ms");
    expect_error("bad_main", "--entry prints_garbage", "INVALID_PROGRAM", "is no job graph");
    expect_error("bad_main", "--entry executes_nothing", "INVALID_PROGRAM", "didn't contain a Flink job");
    expect_error("bad_main", "--entry executes_nothing", "INVALID_PROGRAM", "it printed:\nnothing to do here");
    expect_error("bad_main", "--entry exits", "INVALID_PROGRAM", "called exit(7); it printed:\nI have had enough");
    expect_error("bad_main", "--entry no_such_main", "INVALID_PROGRAM", "entry point 'no_such_main' was not found");
    expect_error("bad_main", "--entry names_a_missing_field", "INVALID_PROGRAM", "record row has no field \"pagee\" (it has id)");
    expect_error("wrong_abi", "", "INVALID_PROGRAM", "wrong_abi.so has ABI version 4711, this cluster has 1");
    expect_error("no_such_file", "", "INVALID_PROGRAM", "could not open");
}
END_TEST

START_TEST(mistakes_at_graph_time_name_their_place)
{
    expect_error("two_jobs", "", "INVALID_PROGRAM", "mr_execute was called twice");
    expect_error("two_jobs", "--entry wrong_type", "INVALID_PROGRAM",
                 "function \"ReadsOther\" reads field \"id\" as INT, but in the stream of row it is BIGINT");
    expect_error("two_jobs", "--entry wrong_kind", "INVALID_PROGRAM", "\"KeepAll\" is a filter function (MR_FILTER), but a map function");
    expect_error("two_jobs", "--entry hidden_function", "INVALID_PROGRAM", "function \"HiddenFilter\" is not exported");
    expect_error("two_jobs", "--entry same_uid", "INVALID_PROGRAM", "have the same uid \"twice\"");
    expect_error("two_jobs", "--entry wrong_offset", "INVALID_PROGRAM",
                 "mr_window_all: the offset of the windows, -600000 ms, must be smaller than their slide, 600000 ms");
    expect_error("two_jobs", "--entry same_key_field", "INVALID_PROGRAM", "field \"name\" is named twice");
    expect_error("two_jobs", "--entry same_aggregate", "INVALID_PROGRAM", "there are two aggregates \"id\"");
    expect_error("two_jobs", "--entry bad_config", "INVALID_CONFIG", "execution.checkpointing.interval");
    expect_error("two_jobs", "--entry null_everywhere", "INVALID_PROGRAM", "no stream is given");
}
END_TEST

/* The options of the operator of that name, as text. */
static char *options_of(const struct job_graph *graph, const char *name, const struct job_operator **out)
{
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        if (strcmp(graph->operators[i].name, name) == 0) {
            *out = &graph->operators[i];
            return json_dumps(graph->operators[i].options, JSON_COMPACT | JSON_SORT_KEYS);
        }
    }
    ck_abort_msg("no operator %s", name);
    return NULL;
}

static void expect_options(const struct job_graph *graph, const char *name, const char *description, const char *expected)
{
    const struct job_operator *op = NULL;
    char *text = options_of(graph, name, &op);
    ck_assert_str_eq(text, expected);
    ck_assert_str_eq(op->description, description);
    free(text);
}

START_TEST(every_call_reaches_the_graph)
{
    char *library = heap_printf("%s/tests/programs/every_call.so", build());
    struct job_graph *graph = expect_graph(library, "-- --late 5 --long-name");
    free(library);
    ck_assert_str_eq(graph->name, "A long name");
    ck_assert_uint_eq(graph->operator_count, 26);
    ck_assert_str_eq(job_graph_config(graph, "execution.checkpointing.externalized-checkpoint-retention"), "RETAIN_ON_CANCELLATION");
    ck_assert_str_eq(job_graph_config(graph, "restart-strategy.fixed-delay.attempts"), "7");
    expect_options(graph, "Source: clicks", "Source: clicks",
                   "{\"bounded\":{\"mode\":\"timestamp\",\"timestamp_ms\":99},\"discovery_interval_ms\":1000,\"format\":{\"field_delimiter\":\";\","
                   "\"null_literal\":\"-\",\"timestamp_format\":\"ISO-8601\",\"type\":\"csv\"},\"on_error\":{\"mode\":\"dead-letter\",\"topic\":\"dead\"},"
                   "\"properties\":{\"bootstrap.servers\":\"k:1\",\"fetch.min.bytes\":\"1\",\"group.id\":\"g\"},\"startup\":{\"mode\":\"specific\","
                   "\"offsets\":{\"a:0\":42,\"b:1\":7}},\"topics\":[\"a\",\"b\"],\"watermark\":{\"idle_timeout_ms\":-1,\"interval_ms\":10,"
                   "\"out_of_orderness_ms\":0,\"strategy\":\"ascending\"}}");
    /* The group's first start was once refused, whatever the header says. */
    expect_options(graph, "Source: group", "Source: group",
                   "{\"bounded\":{\"mode\":\"none\"},\"format\":{\"type\":\"json\"},\"on_error\":{\"mode\":\"fail\"},\"properties\":{\"auto.offset.reset\":"
                   "\"earliest\",\"bootstrap.servers\":\"k:1\",\"group.id\":\"g\"},\"startup\":{\"mode\":\"group-offsets\"},\"topic_pattern\":\"a.*\","
                   "\"watermark\":{\"interval_ms\":40,\"strategy\":\"none\"}}");
    expect_options(graph, "Timestamps/Watermarks", "Timestamps/Watermarks",
                   "{\"watermark\":{\"function\":\"TimeOf\",\"idle_timeout_ms\":77,\"interval_ms\":40,\"out_of_orderness_ms\":5,\"strategy\":\"bounded\"}}");
    expect_options(graph, "EventTimeSessionWindows", "Window(EventTimeSessionWindows(5000), EventTimeTrigger, Total, PassThroughWindowFunction)",
                   "{\"aggregate\":\"Total\",\"allowed_lateness_ms\":10,\"assigner\":{\"gap_ms\":5000,\"time\":\"event\",\"type\":\"session\"},"
                   "\"key_columns\":[1],\"late_side_output\":0}");
    expect_options(graph, "SlidingProcessingTimeWindows", "Window(SlidingProcessingTimeWindows(60000, 10000), ProcessingTimeTrigger, "
                                                          "Latest, PassThroughWindowFunction)",
                   "{\"allowed_lateness_ms\":0,\"assigner\":{\"offset_ms\":3,\"size_ms\":60000,\"slide_ms\":10000,\"time\":\"processing\",\"type\":\"sliding\"},"
                   "\"key_columns\":[0],\"late_side_output\":-1,\"reduce\":\"Latest\"}");
    expect_options(graph, "Co-Keyed-Process", "Co-Keyed-Process", "{\"function\":\"Meet\",\"key_columns\":[[1],[0]]}");
    const struct job_operator *op = NULL;
    free(options_of(graph, "out: Committer", &op));
    ck_assert_str_eq(op->uid, "Sink Committer: out");
    ck_assert_str_eq(op->slot_sharing_group, "sinks");
    ck_assert_uint_eq(op->parallelism, 2);
    free(options_of(graph, "Flat Map", &op));
    ck_assert_int_eq(op->chaining, CHAIN_HEAD);
    ck_assert_str_eq(op->description, "Two of each");
    free(options_of(graph, "files: Writer", &op));
    ck_assert_int_eq(op->chaining, CHAIN_NEVER);
    ck_assert_int_eq(op->inputs[0].partitioning, PARTITION_REBALANCE);
    ck_assert_uint_eq(graph->operators[op->inputs[0].source].parallelism, 1);
    free(options_of(graph, "KeyedProcess", &op));
    ck_assert_str_eq(op->side_outputs[0].tag, "odd");
    ck_assert_uint_eq(op->inputs[0].key_count, 2);
    job_graph_destroy(graph);
}
END_TEST

START_TEST(other_files_are_refused)
{
    int status = 0;
    json_t *json = compile("/etc/hostname", "", &status);
    ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(json_object_get(json, "error"), "message")), "is not a shared object"));
    json_decref(json);
    json = compile("/lib/x86_64-linux-gnu/libm.so.6", "", &status);
    ck_assert_ptr_nonnull(json_object_get(json, "error"));
    json_decref(json);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compiler");
    TCase *tcase = tcase_create("programs");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, click_count_has_flinks_vertices);
    tcase_add_test(tcase, default_parallelism_stays_open_without_configuration);
    tcase_add_test(tcase, bad_programs_are_explained);
    tcase_add_test(tcase, mistakes_at_graph_time_name_their_place);
    tcase_add_test(tcase, every_call_reaches_the_graph);
    tcase_add_test(tcase, other_files_are_refused);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
