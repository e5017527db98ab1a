/* Job graph: JSON there and back, validation, chaining, Flink's ids, the plan, key groups. */
#include "common/graph/job_graph.h"

#include "common/base/heap.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA "[{\"name\":\"timestamp\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"page\",\"type\":\"STRING\",\"nullable\":false}]"

/* The Click Event Count job as the front end writes it, chaining off or on. */
static const char click_count[] =
    "{\"version\":1,\"job_id\":\"f15e5c6b859b5c7a71aac026368026a2\",\"name\":\"Click Event Count\","
    "\"config\":{\"pipeline.operator-chaining.enabled\":\"%s\"},\"library\":{\"name\":\"ClickCountJob.so\",\"sha256\":null},\"operators\":["
    "{\"name\":\"Source: ClickEvent Source\",\"type\":\"kafka-source\",\"uid\":null,\"parallelism\":0,\"max_parallelism\":0,"
    "\"description\":\"Source: ClickEvent Source\",\"options\":{},\"schema\":" SCHEMA ",\"inputs\":[]},"
    "{\"name\":\"ClickEvent Counter\",\"type\":\"window\",\"description\":\"Window(TumblingEventTimeWindows(15000), EventTimeTrigger, "
    "Counter, Stats)\","
    "\"options\":{},\"schema\":" SCHEMA ",\"inputs\":[{\"source\":0,\"side_output\":-1,\"input\":0,\"partitioning\":\"HASH\",\"key_columns\":[1]}]},"
    "{\"name\":\"ClickEventStatistics Sink: Writer\",\"type\":\"kafka-sink-writer\",\"options\":{},\"schema\":" SCHEMA
    ",\"inputs\":[{\"source\":1,\"partitioning\":\"FORWARD\"}]},"
    "{\"name\":\"ClickEventStatistics Sink: Committer\",\"type\":\"kafka-sink-committer\",\"options\":{},\"schema\":null,"
    "\"inputs\":[{\"source\":2,\"partitioning\":\"FORWARD\"}]}]}";

static struct error *parse(const char *text, struct job_graph **out)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    ck_assert_ptr_nonnull(json);
    struct error *err = job_graph_from_json(json, out);
    json_decref(json);
    return err;
}

static struct job_graph *load(const char *text, uint32_t parallelism)
{
    struct job_graph *graph = NULL;
    struct error *err = parse(text, &graph);
    ck_assert_msg(err == NULL, "%s", err != NULL ? err->message : "");
    if (parallelism > 0) {
        job_graph_set_parallelism(graph, parallelism);
        err = job_graph_chain(graph);
        ck_assert_msg(err == NULL, "%s", err != NULL ? err->message : "");
    }
    return graph;
}

static struct job_graph *load_click_count(bool is_chaining_enabled, uint32_t parallelism)
{
    char *text = heap_printf(click_count, is_chaining_enabled ? "true" : "false");
    struct job_graph *graph = load(text, parallelism);
    free(text);
    return graph;
}

/* Reading or chaining fails, and the message has this part. */
static void expect_error(const char *text, const char *part)
{
    struct job_graph *graph = NULL;
    struct error *err = parse(text, &graph);
    if (err == NULL) {
        job_graph_set_parallelism(graph, 1);
        err = job_graph_chain(graph);
        job_graph_destroy(graph);
    }
    ck_assert_msg(err != NULL, "no error for %s", text);
    char *message = error_text(err);
    ck_assert_msg(strstr(message, part) != NULL, "\"%s\" does not say \"%s\"", message, part);
    free(message);
    error_free(err);
}

START_TEST(unchained_ids_are_flinks)
{
    static const char *const ids[] = {"bc764cd8ddf7a0cff126f51c16239658", "0a448493b4782967b150582570326227",
                                      "ea632d67b7d595e5b851708ae9ad79d6", "6d2677a0ecc3fd8df0b72ec675edf8f4"};
    struct job_graph *graph = load_click_count(false, 2);
    ck_assert_uint_eq(graph->vertex_count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert_str_eq(id_format(graph->vertices[i].id).hex, ids[i]);
        ck_assert_uint_eq(graph->vertices[i].parallelism, 2);
        ck_assert_uint_eq(graph->vertices[i].max_parallelism, 128);
    }
    ck_assert_str_eq(graph->vertices[1].name, "ClickEvent Counter");
    job_graph_destroy(graph);
}
END_TEST

START_TEST(chained_graph_has_two_vertices)
{
    struct job_graph *graph = load_click_count(true, 2);
    ck_assert_uint_eq(graph->vertex_count, 2);
    ck_assert_str_eq(graph->vertices[1].name,
                     "ClickEvent Counter -> ClickEventStatistics Sink: Writer -> ClickEventStatistics Sink: Committer");
    ck_assert_uint_eq(graph->vertices[1].operator_count, 3);
    ck_assert(graph->operators[2].inputs[0].is_chained);
    ck_assert(!graph->operators[1].inputs[0].is_chained);
    struct vertex_edge *edges = NULL;
    ck_assert_uint_eq(job_graph_vertex_inputs(graph, 1, &edges), 1);
    ck_assert_uint_eq(edges[0].source_operator, 0);
    ck_assert_uint_eq(edges[0].target_operator, 1);
    free(edges);
    ck_assert_uint_eq(job_graph_vertex_outputs(graph, 0, &edges), 1);
    free(edges);
    ck_assert_uint_eq(job_graph_vertex_outputs(graph, 1, &edges), 0);
    free(edges);
    struct id before = graph->vertices[0].id;
    ck_assert_ptr_null(job_graph_chain(graph));
    ck_assert_uint_eq(graph->vertex_count, 2);
    ck_assert(id_equals(before, graph->vertices[0].id));
    job_graph_destroy(graph);
}
END_TEST

START_TEST(json_there_and_back)
{
    for (uint32_t parallelism = 0; parallelism < 3; parallelism++) {
        struct job_graph *graph = load_click_count(true, parallelism);
        json_t *json = job_graph_to_json(graph);
        struct job_graph *again = NULL;
        struct error *err = job_graph_from_json(json, &again);
        ck_assert_msg(err == NULL, "%s", err != NULL ? err->message : "");
        struct job_graph *copy = job_graph_copy(again);
        json_t *json_copy = job_graph_to_json(copy);
        ck_assert(json_equal(json, json_copy));
        if (parallelism > 0) {
            ck_assert(copy->operators[2].inputs[0].is_chained);
            ck_assert_uint_eq(copy->operators[3].vertex, 1);
        }
        json_decref(json);
        json_decref(json_copy);
        job_graph_destroy(graph);
        job_graph_destroy(again);
        job_graph_destroy(copy);
    }
}
END_TEST

START_TEST(plan_lists_sinks_first)
{
    struct job_graph *graph = load_click_count(false, 1);
    json_t *plan = job_graph_plan_json(graph);
    char *text = json_dumps(plan, JSON_COMPACT);
    ck_assert_str_eq(
        text, "{\"jid\":\"f15e5c6b859b5c7a71aac026368026a2\",\"name\":\"Click Event Count\",\"type\":\"STREAMING\",\"nodes\":["
              "{\"id\":\"6d2677a0ecc3fd8df0b72ec675edf8f4\",\"parallelism\":1,\"operator\":\"\",\"operator_strategy\":\"\","
              "\"description\":\"ClickEventStatistics Sink: Committer<br/>\",\"inputs\":[{\"num\":0,\"id\":\"ea632d67b7d595e5b851708ae9ad79d6\","
              "\"ship_strategy\":\"FORWARD\",\"exchange\":\"pipelined_bounded\"}],\"optimizer_properties\":{}},"
              "{\"id\":\"ea632d67b7d595e5b851708ae9ad79d6\",\"parallelism\":1,\"operator\":\"\",\"operator_strategy\":\"\","
              "\"description\":\"ClickEventStatistics Sink: Writer<br/>\",\"inputs\":[{\"num\":0,\"id\":\"0a448493b4782967b150582570326227\","
              "\"ship_strategy\":\"FORWARD\",\"exchange\":\"pipelined_bounded\"}],\"optimizer_properties\":{}},"
              "{\"id\":\"0a448493b4782967b150582570326227\",\"parallelism\":1,\"operator\":\"\",\"operator_strategy\":\"\","
              "\"description\":\"Window(TumblingEventTimeWindows(15000), EventTimeTrigger, Counter, Stats)<br/>\","
              "\"inputs\":[{\"num\":0,\"id\":\"bc764cd8ddf7a0cff126f51c16239658\",\"ship_strategy\":\"HASH\","
              "\"exchange\":\"pipelined_bounded\"}],\"optimizer_properties\":{}},"
              "{\"id\":\"bc764cd8ddf7a0cff126f51c16239658\",\"parallelism\":1,\"operator\":\"\",\"operator_strategy\":\"\","
              "\"description\":\"Source: ClickEvent Source<br/>\",\"optimizer_properties\":{}}]}");
    free(text);
    json_decref(plan);
    job_graph_destroy(graph);
    graph = load_click_count(true, 1);
    plan = job_graph_plan_json(graph);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(json_object_get(plan, "nodes"), 0), "description")),
                     "Window(TumblingEventTimeWindows(15000), EventTimeTrigger, Counter, Stats)<br/>+- ClickEventStatistics Sink: "
                     "Writer<br/>   +- ClickEventStatistics Sink: Committer<br/>");
    json_decref(plan);
    job_graph_destroy(graph);
}
END_TEST

#define GRAPH(operators) "{\"version\":1,\"name\":\"j\",\"operators\":[" operators "]}"
#define SOURCE(extra) "{\"name\":\"a\",\"type\":\"datagen-source\",\"schema\":" SCHEMA extra "}"
#define MAP(name, inputs, extra) "{\"name\":\"" name "\",\"type\":\"map\",\"schema\":" SCHEMA ",\"inputs\":[" inputs "]" extra "}"
#define FORWARD(source) "{\"source\":" source ",\"partitioning\":\"FORWARD\"}"

START_TEST(branches_unions_and_settings_shape_the_chains)
{
    struct job_graph *graph = load(GRAPH(SOURCE("") "," MAP("b", FORWARD("0"), "") "," MAP("c", FORWARD("0"), "") "," MAP("d", FORWARD("2"), "")
                                         "," MAP("e", FORWARD("1") "," FORWARD("3"), "") "," MAP("f", FORWARD("4"), ",\"chaining\":\"HEAD\"")
                                         "," MAP("g", FORWARD("5"), ",\"chaining\":\"NEVER\"") "," MAP("h", FORWARD("6"), "")
                                         "," MAP("i", FORWARD("7"), ",\"slot_sharing_group\":\"x\"") "," MAP("k", FORWARD("8"), ",\"slot_sharing_group\":\"x\",\"parallelism\":3")),
                                   2);
    static const char *const names[] = {"a -> (b, c -> d)", "e", "f", "g", "h", "i", "k"};
    ck_assert_uint_eq(graph->vertex_count, 7);
    for (uint32_t i = 0; i < 7; i++)
        ck_assert_str_eq(graph->vertices[i].name, names[i]);
    ck_assert_int_eq(graph->operators[9].inputs[0].partitioning, PARTITION_REBALANCE);
    struct vertex_edge *edges = NULL;
    ck_assert_uint_eq(job_graph_vertex_outputs(graph, 0, &edges), 2);
    ck_assert_uint_eq(edges[0].source_operator, 1);
    ck_assert_uint_eq(edges[1].source_operator, 3);
    free(edges);
    job_graph_destroy(graph);
}
END_TEST

START_TEST(uid_fixes_the_id)
{
    struct job_graph *a = load(GRAPH(SOURCE(",\"uid\":\"clicks\"") "," MAP("b", FORWARD("0"), ",\"uid\":\"count\"")), 1);
    struct job_graph *b = load(GRAPH(SOURCE(",\"uid\":\"clicks\"") "," MAP("new", FORWARD("0"), "") "," MAP("b", FORWARD("1"),
                                                                                                            ",\"uid\":\"count\"")), 1);
    ck_assert(id_equals(a->operators[1].id, b->operators[2].id));
    ck_assert(!id_equals(a->operators[1].id, b->operators[1].id));
    job_graph_destroy(a);
    job_graph_destroy(b);
    expect_error(GRAPH(SOURCE(",\"uid\":\"x\"") "," MAP("b", FORWARD("0"), ",\"uid\":\"x\"")), "same uid \"x\"");
}
END_TEST

START_TEST(bad_graphs_are_named)
{
    expect_error("[]", "not a JSON object");
    expect_error("{\"version\":2,\"name\":\"j\",\"operators\":[]}", "version 2");
    expect_error("{\"version\":1,\"operators\":[]}", "\"name\" must be a text");
    expect_error(GRAPH(""), "\"operators\" is empty");
    expect_error(GRAPH("7"), "array of objects");
    expect_error(GRAPH(SOURCE(",\"parallelism\":-1")), "operator 0 (\"a\"): member \"parallelism\"");
    expect_error(GRAPH(SOURCE(",\"parallelism\":40000")), "from 0 to 32768");
    expect_error(GRAPH(SOURCE(",\"parallelism\":4,\"max_parallelism\":2")), "above max_parallelism");
    expect_error(GRAPH(SOURCE(",\"paralelism\":1")), "\"paralelism\" is unknown");
    expect_error(GRAPH(SOURCE(",\"chaining\":\"MAYBE\"")), "ALWAYS, HEAD or NEVER");
    expect_error(GRAPH(SOURCE("") "," MAP("b", FORWARD("7"), "")), "operator 1 (\"b\"): member \"source\"");
    expect_error(GRAPH(SOURCE("") "," MAP("b", "{\"source\":0,\"partitioning\":\"ROUND\"}", "")), "\"partitioning\" must be");
    expect_error(GRAPH(SOURCE("") "," MAP("b", "{\"source\":0,\"partitioning\":\"HASH\"}", "")), "\"key_columns\" must be given");
    expect_error(GRAPH(SOURCE("") "," MAP("b", "{\"source\":0,\"partitioning\":\"HASH\",\"key_columns\":[2]}", "")), "column that the input");
    expect_error(GRAPH(SOURCE("") "," MAP("b", "{\"source\":0,\"side_output\":0,\"partitioning\":\"FORWARD\"}", "")), "side output");
    expect_error(GRAPH(SOURCE("") "," MAP("b", FORWARD("2"), "") "," MAP("c", FORWARD("1"), "")), "has a cycle");
    expect_error(GRAPH("{\"name\":\"a\",\"type\":\"map\",\"schema\":[{\"name\":\"x\",\"type\":\"NUMBER\",\"nullable\":false}]}"),
                 "operator 0 (\"a\")");
    expect_error("{\"version\":1,\"name\":\"j\",\"library\":{\"sha256\":\"abc\"},\"operators\":[" SOURCE("") "]}", "library.sha256");
    expect_error("{\"version\":1,\"name\":\"j\",\"config\":{\"a\":1},\"operators\":[" SOURCE("") "]}", "config key \"a\"");
    expect_error("{\"version\":1,\"name\":\"j\",\"operators\":[" SOURCE(",\"parallelism\":1,\"max_parallelism\":128") "],\"vertices\":[{\"name\":\"a\","
                 "\"parallelism\":1,\"max_parallelism\":128,\"operators\":[0,0]}]}",
                 "vertex 0 (\"a\"): member \"operators\"");
}
END_TEST

START_TEST(key_groups_partition_the_space)
{
    ck_assert_uint_eq(max_parallelism_default(1), 128);
    ck_assert_uint_eq(max_parallelism_default(100), 256);
    ck_assert_uint_eq(max_parallelism_default(32768), 32768);
    static const uint32_t cases[][2] = {{128, 1}, {128, 2}, {128, 3}, {128, 127}, {128, 128}, {32768, 7}, {5, 4}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        uint32_t next = 0;
        for (uint32_t subtask = 0; subtask < cases[c][1]; subtask++) {
            uint32_t first, last;
            key_group_range(subtask, cases[c][0], cases[c][1], &first, &last);
            ck_assert_uint_eq(first, next);
            for (uint32_t group = first; group <= last; group++)
                ck_assert_uint_eq(key_group_owner(group, cases[c][0], cases[c][1]), subtask);
            next = last + 1;
        }
        ck_assert_uint_eq(next, cases[c][0]);
    }
    uint32_t seen[16] = {0};
    for (uint64_t hash = 0; hash < 16000; hash++)
        seen[key_group_of_hash(hash * UINT64_C(0x9e3779b97f4a7c15), 16)]++;
    for (int i = 0; i < 16; i++)
        ck_assert_uint_gt(seen[i], 700);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("job_graph");
    TCase *tcase = tcase_create("graph");
    tcase_add_test(tcase, unchained_ids_are_flinks);
    tcase_add_test(tcase, chained_graph_has_two_vertices);
    tcase_add_test(tcase, json_there_and_back);
    tcase_add_test(tcase, plan_lists_sinks_first);
    tcase_add_test(tcase, branches_unions_and_settings_shape_the_chains);
    tcase_add_test(tcase, uid_fixes_the_id);
    tcase_add_test(tcase, bad_graphs_are_named);
    tcase_add_test(tcase, key_groups_partition_the_space);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
