/* The connectors without a network: datagen (bounded, exact after restore and rescale, playground's click events), collection, files in
 * and out (exactly once across aborted checkpoints and restores), collect; and malformed user libraries. */
#include "tests/support/chain_harness.h"

#include "common/base/heap.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *json = json_loads(text, 0, &error);
    ck_assert_msg(json != NULL, "%s: %s", error.text, text);
    return json;
}

/* source (parallelism) -> sink at parallelism 7, so that they do not chain. */
static json_t *source_graph(const char *type, const char *options, const char *schema, int parallelism)
{
    return json_pack("[{s:s,s:s,s:s,s:i,s:o,s:o},{s:s,s:s,s:i,s:{},s:[{s:i,s:i,s:i,s:s}]}]", "name", "source", "type", type, "uid", "source",
                     "parallelism", parallelism, "options", parse(options), "schema", parse(schema), "name", "sink", "type", "blackhole-sink",
                     "parallelism", 7, "options", "inputs", "source", 0, "side_output", -1, "input", 0, "partitioning", "REBALANCE");
}

#define CLICK_SCHEMA "[{\"name\":\"timestamp\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"page\",\"type\":\"STRING\",\"nullable\":false}]"
#define CLICK_OPTIONS                                                                                                  \
    "{\"number_of_rows\":%d,\"fields\":{\"timestamp\":{\"kind\":\"sequence\",\"start\":1000,\"step\":15,\"repeat\":6},"                            \
    "\"page\":{\"kind\":\"choice\",\"values\":[\"/help\",\"/index\",\"/shop\",\"/jobs\",\"/about\",\"/news\"]}},"                                  \
    "\"watermark\":{\"strategy\":\"bounded\",\"out_of_orderness_ms\":200,\"idle_timeout_ms\":-1,\"interval_ms\":0,\"column\":\"timestamp\"}}"

static char *click_options(int rows)
{
    return heap_printf(CLICK_OPTIONS, rows);
}

START_TEST(datagen_makes_the_playground_events)
{
    char *options = click_options(15);
    json_t *graph = source_graph("datagen-source", options, CLICK_SCHEMA, 1);
    struct chain_harness chain;
    chain_harness_init(&chain, graph, 0, 0, NULL);
    chain_harness_run_source(&chain);
    json_t *rows = chain.collectors[0].rows;
    ck_assert_uint_eq(json_array_size(rows), 15);
    json_t *expected = parse("[[1000,\"/help\"],[1000,\"/index\"],[1000,\"/shop\"],[1000,\"/jobs\"],[1000,\"/about\"],[1000,\"/news\"],[1015,\"/help\"],"
                             "[1015,\"/index\"],[1015,\"/shop\"],[1015,\"/jobs\"],[1015,\"/about\"],[1015,\"/news\"],[1030,\"/help\"],[1030,\"/index\"],[1030,\"/shop\"]]");
    ck_assert(json_equal(rows, expected));
    ck_assert_int_eq(json_integer_value(json_array_get(chain.collectors[0].times, 14)), 1030);
    json_t *books = chain_harness_books(&chain, 0);
    ck_assert_uint_eq(books_count(books, "rows_read"), 15);
    ck_assert_uint_eq(books_count(books, "rows_out"), 15);
    json_decref(books);
    json_decref(expected);
    chain_harness_finish(&chain);
    json_decref(graph);
    free(options);
}
END_TEST

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *sorted_text(const json_t *rows)
{
    size_t count = json_array_size(rows);
    char **lines = heap_alloc_array(count + 1, sizeof *lines);
    size_t length = 1;
    for (size_t i = 0; i < count; i++) {
        lines[i] = json_dumps(json_array_get(rows, i), JSON_COMPACT);
        length += strlen(lines[i]) + 1;
    }
    qsort(lines, count, sizeof *lines, compare_text);
    char *text = heap_alloc(length), *end = text;
    for (size_t i = 0; i < count; i++) {
        end = stpcpy(end, lines[i]);
        *end++ = '\n';
        free(lines[i]);
    }
    free(lines);
    return text;
}

/* Polls each of count subtasks a few times, snapshots, restores at the next parallelism, until all is made. */
static void datagen_across_restores(const char *options, const char *schema)
{
    static const uint32_t parallelisms[] = {2, 3, 1, 4};
    json_t *all = json_array(), *handles = json_array(), *books = json_object();
    char *folder = temp_folder_create();
    struct chain_harness chains[4];
    for (uint32_t epoch = 0; epoch < 4; epoch++) {
        uint32_t count = parallelisms[epoch];
        json_t *graph = source_graph("datagen-source", options, schema, (int)count);
        struct chain_restore restore = {folder, handles, NULL};
        for (uint32_t i = 0; i < count; i++)
            chain_harness_init(&chains[i], graph, 0, i, epoch > 0 ? &restore : NULL);
        json_array_clear(handles);
        for (uint32_t i = 0; i < count; i++) {
            enum source_status status = SOURCE_MORE;
            for (int poll = 0; poll < 3 && epoch < 3 && status != SOURCE_END; poll++)
                ck_assert_ptr_null(operator_chain_poll(chains[i].chain, 100 + i, &status));
            if (epoch == 3)
                chain_harness_run_source(&chains[i]);
            chain_harness_snapshot(&chains[i], folder, epoch + 1, handles, books);
            json_array_extend(all, chains[i].collectors[0].rows);
            chain_harness_finish(&chains[i]);
        }
        json_decref(graph);
    }
    json_t *graph = source_graph("datagen-source", options, schema, 1);
    chain_harness_init(&chains[0], graph, 0, 0, NULL);
    chain_harness_run_source(&chains[0]);
    char *expected = sorted_text(chains[0].collectors[0].rows), *actual = sorted_text(all);
    ck_assert_str_eq(actual, expected);
    chain_harness_finish(&chains[0]);
    json_decref(graph);
    free(expected);
    free(actual);
    json_decref(all);
    json_decref(handles);
    json_decref(books);
    temp_folder_remove(folder);
}

START_TEST(datagen_is_exact_across_restores)
{
    char *options = click_options(5000);
    datagen_across_restores(options, CLICK_SCHEMA);
    free(options);
    datagen_across_restores("{\"number_of_rows\":4001,\"seed\":7,\"fields\":{\"a\":{\"kind\":\"random\",\"min\":-5,\"max\":5},\"b\":{\"kind\":\"random\",\"length\":30},"
                            "\"c\":{\"kind\":\"random\"},\"d\":{\"kind\":\"constant\",\"value\":true},\"e\":{\"kind\":\"sequence\",\"start\":10,\"end\":5000,\"step\":1},"
                            "\"f\":{\"kind\":\"random\",\"values\":[\"x\",\"a long value that is not inlined\"]}}}",
                            "[{\"name\":\"a\",\"type\":\"INT\",\"nullable\":false},{\"name\":\"b\",\"type\":\"STRING\",\"nullable\":false},"
                            "{\"name\":\"c\",\"type\":\"DOUBLE\",\"nullable\":false},{\"name\":\"d\",\"type\":\"BOOLEAN\",\"nullable\":false},"
                            "{\"name\":\"e\",\"type\":\"BIGINT\",\"nullable\":false},{\"name\":\"f\",\"type\":\"STRING\",\"nullable\":false}]");
}
END_TEST

static void sequence_gives(const char *type, const char *options, const char *rows)
{
    char *source = heap_printf("{\"fields\":{\"n\":{\"kind\":\"sequence\",%s}}}", options);
    char *schema = heap_printf("[{\"name\":\"n\",\"type\":\"%s\",\"nullable\":false}]", type);
    json_t *graph = source_graph("datagen-source", source, schema, 1);
    struct chain_harness chain;
    chain_harness_init(&chain, graph, 0, 0, NULL);
    chain_harness_run_source(&chain);
    json_t *expected = parse(rows);
    ck_assert_msg(json_equal(chain.collectors[0].rows, expected), "%s: %zu rows", options, json_array_size(chain.collectors[0].rows));
    json_decref(expected);
    chain_harness_finish(&chain);
    json_decref(graph);
    free(source);
    free(schema);
}

START_TEST(a_sequence_with_an_end_bounds_the_source)
{
    sequence_gives("BIGINT", "\"start\":5,\"end\":9", "[[5],[6],[7],[8],[9]]");
    sequence_gives("BIGINT", "\"start\":5,\"end\":9,\"step\":3", "[[5],[8]]");
    sequence_gives("BIGINT", "\"start\":5,\"end\":6,\"repeat\":3", "[[5],[5],[5],[6],[6],[6]]"); /* the end, too, comes as often */
    sequence_gives("BIGINT", "\"start\":9223372036854775804,\"end\":9223372036854775806", "[[9223372036854775804],[9223372036854775805],[9223372036854775806]]");
    sequence_gives("BIGINT", "\"start\":5,\"end\":4", "[]");
    sequence_gives("DOUBLE", "\"start\":0,\"end\":1,\"step\":0.5", "[[0.0],[0.5],[1.0]]");
    sequence_gives("DOUBLE", "\"start\":1,\"end\":2,\"repeat\":2", "[[1.0],[1.0],[2.0],[2.0]]");
}
END_TEST

/* Of a bound that the type does not hold once only the low bits counted. */
START_TEST(datagen_bounds_fit_their_type)
{
    static const char *const bad[][2] = {{"\"max\":1000", "option max is 1000, which is no TINYINT"},
                                         {"\"min\":-129", "option min is -129, which is no TINYINT"},
                                         {"\"kind\":\"sequence\",\"start\":128", "option start is 128, which is no TINYINT"}};
    for (size_t i = 0; i < 3; i++) {
        char *options = heap_printf("{\"fields\":{\"n\":{%s}}}", bad[i][0]);
        json_t *graph = source_graph("datagen-source", options, "[{\"name\":\"n\",\"type\":\"TINYINT\",\"nullable\":false}]", 1);
        struct chain_harness chain;
        char *text = error_take_text(chain_harness_try(&chain, graph, 0, 0, NULL));
        ck_assert_msg(strstr(text, bad[i][1]) != NULL, "%s", text);
        free(text);
        free(options);
        chain_harness_finish(&chain);
        json_decref(graph);
    }
    sequence_gives("TINYINT", "\"start\":126,\"end\":127", "[[126],[127]]");
}
END_TEST

START_TEST(collection_gives_its_rows)
{
    json_t *graph = source_graph("collection-source", "{\"rows\":[{\"timestamp\":5,\"page\":\"/a\"},[6,\"/b\"]]}", CLICK_SCHEMA, 1);
    struct chain_harness chain;
    chain_harness_init(&chain, graph, 0, 0, NULL);
    chain_harness_run_source(&chain);
    json_t *expected = parse("[[5,\"/a\"],[6,\"/b\"]]");
    ck_assert(json_equal(chain.collectors[0].rows, expected));
    json_decref(expected);
    chain_harness_finish(&chain);
    json_decref(graph);
    graph = source_graph("collection-source", "{\"rows\":[{\"timestamp\":5}]}", CLICK_SCHEMA, 1);
    chain_harness_init(&chain, graph, 0, 0, NULL);
    enum source_status status;
    char *text = error_take_text(operator_chain_poll(chain.chain, 100, &status));
    ck_assert_ptr_nonnull(strstr(text, "row 0 has no STRING value for column page"));
    free(text);
    chain_harness_finish(&chain);
    json_decref(graph);
}
END_TEST

/* ---- files ---- */

static void write_file(const char *folder, const char *name, const char *text)
{
    char *path = heap_printf("%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    free(path);
}

START_TEST(files_are_read_line_by_line_and_resumed)
{
    char *folder = temp_folder_create(), *state = temp_folder_create();
    write_file(folder, "a.csv", "# id,page\n1,/a\n2,/b\r\n\n3,/c");
    write_file(folder, "b.csv", "4,/d\nnonsense\n5,/e\n");
    write_file(folder, "_hidden", "9,/z\n");
    write_file(folder, ".hidden", "9,/z\n");
    char *options = heap_printf("{\"path\":\"%s\",\"format\":{\"type\":\"csv\",\"timestamp_format\":\"epoch-millis\",\"allow_comments\":true},\"on_error\":{\"mode\":\"skip\"}}", folder);
    json_t *graph = source_graph("file-source", options, CLICK_SCHEMA, 1);
    json_t *rows = json_array(), *handles = json_array(), *books = json_object();
    struct chain_harness chain;
    for (int epoch = 0;; epoch++) { /* one line an epoch */
        struct chain_restore restore = {state, handles, books};
        chain_harness_init(&chain, graph, 0, 0, epoch > 0 ? &restore : NULL);
        json_array_clear(handles);
        enum source_status status = SOURCE_MORE;
        ck_assert_ptr_null(operator_chain_poll(chain.chain, 1, &status));
        json_array_extend(rows, chain.collectors[0].rows);
        json_object_clear(books);
        chain_harness_snapshot(&chain, state, (uint64_t)epoch + 1, handles, books);
        if (status == SOURCE_END)
            break;
        chain_harness_finish(&chain);
        ck_assert_int_lt(epoch, 50);
    }
    json_t *expected = parse("[[1,\"/a\"],[2,\"/b\"],[3,\"/c\"],[4,\"/d\"],[5,\"/e\"]]");
    ck_assert(json_equal(rows, expected));
    json_t *cut = chain_harness_books(&chain, 0);
    ck_assert_uint_eq(books_count(cut, "unparsable"), 1);
    ck_assert_uint_eq(books_count(cut, "filtered"), 1); /* the comment */
    ck_assert_uint_eq(books_count(cut, "rows_read"), 7);
    ck_assert_uint_eq(books_count(cut, "rows_out"), 5);
    json_decref(cut);
    chain_harness_finish(&chain);
    json_decref(expected);
    json_decref(rows);
    json_decref(handles);
    json_decref(books);
    json_decref(graph);
    free(options);
    temp_folder_remove(folder);
    temp_folder_remove(state);
}
END_TEST

/* Two thousand lines of a megabyte each were once one batch. */
START_TEST(long_lines_make_batches_of_fewer_rows)
{
    enum { LINES = 12, LINE_BYTES = 300000 };
    char *folder = temp_folder_create();
    char *text = heap_alloc(LINES * (LINE_BYTES + 1) + 1);
    memset(text, 'x', LINES * (LINE_BYTES + 1));
    for (int i = 1; i <= LINES; i++)
        text[i * (LINE_BYTES + 1) - 1] = '\n';
    write_file(folder, "long.txt", text);
    free(text);
    char *options = heap_printf("{\"path\":\"%s\",\"format\":{\"type\":\"string\"}}", folder);
    json_t *graph = source_graph("file-source", options, "[{\"name\":\"line\",\"type\":\"STRING\",\"nullable\":false}]", 1);
    struct chain_harness chain;
    chain_harness_init(&chain, graph, 0, 0, NULL);
    enum source_status status = SOURCE_MORE;
    ck_assert_ptr_null(operator_chain_poll(chain.chain, 2048, &status));
    ck_assert_uint_eq(json_array_size(chain.collectors[0].rows), 4);
    ck_assert_int_eq(status, SOURCE_MORE);
    chain_harness_run_source(&chain);
    ck_assert_uint_eq(json_array_size(chain.collectors[0].rows), LINES);
    chain_harness_finish(&chain);
    json_decref(graph);
    free(options);
    temp_folder_remove(folder);
}
END_TEST

/* Visible files' lines, in order of file name. */
static char *visible_lines(const char *folder, unsigned *hidden)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    char *text = calloc(1, 65536);
    *hidden = 0;
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] == '.') {
            *hidden += strcmp(entries[i]->d_name, ".") != 0 && strcmp(entries[i]->d_name, "..") != 0;
        } else {
            char *path = heap_printf("%s/%s", folder, entries[i]->d_name);
            FILE *file = fopen(path, "r");
            size_t length = strlen(text);
            text[length + fread(text + length, 1, 65535 - length, file)] = '\0';
            fclose(file);
            free(path);
        }
        free(entries[i]);
    }
    free(entries);
    return text;
}

static json_t *sink_graph(const char *folder)
{
    char *options = heap_printf("{\"path\":\"%s/out/deep\",\"format\":{\"type\":\"csv\",\"timestamp_format\":\"epoch-millis\"}}", folder);
    json_t *graph = json_pack("[{s:s,s:s,s:i,s:{},s:o},{s:s,s:s,s:s,s:i,s:o,s:o,s:[{s:i,s:i,s:i,s:s}]},{s:s,s:s,s:s,s:i,s:o,s:[{s:i,s:i,s:i,s:s}]}]",
                              "name", "source", "type", "datagen-source", "parallelism", 3, "options", "schema", parse(CLICK_SCHEMA),
                              "name", "writer", "type", "file-sink-writer", "uid", "writer", "parallelism", 1, "options", parse(options), "schema",
                              parse("[{\"name\":\"line\",\"type\":\"BYTES\",\"nullable\":true}]"), "inputs", "source", 0, "side_output",
                                  -1, "input", 0,
                              "partitioning", "REBALANCE", "name", "committer", "type", "file-sink-committer", "uid", "committer", "parallelism", 1,
                              "options", parse(options), "inputs", "source", 1, "side_output", -1, "input", 0, "partitioning", "FORWARD");
    free(options);
    return graph;
}

START_TEST(file_sink_shows_rows_exactly_once)
{
    char *folder = temp_folder_create(), *state = temp_folder_create();
    char *out = heap_printf("%s/out/deep", folder);
    json_t *graph = sink_graph(folder), *handles = json_array(), *books = json_object();
    struct chain_harness chain;
    unsigned hidden;
    chain_harness_init(&chain, graph, 1, 0, NULL);
    chain_harness_send(&chain, 0, parse("[[1,\"/a\"],[2,\"/b\"]]"), NULL);
    chain_harness_snapshot(&chain, state, 1, handles, books);
    char *text = visible_lines(out, &hidden);
    ck_assert_str_eq(text, "");
    ck_assert_uint_eq(hidden, 1);
    free(text);
    operator_chain_checkpoint_aborted(chain.chain, 1);
    chain_harness_send(&chain, 0, parse("[[3,\"/c\"]]"), NULL);
    json_array_clear(handles);
    chain_harness_snapshot(&chain, state, 2, handles, books);
    /* The process dies before it hears that checkpoint 2 is complete, and after it has written more. */
    chain_harness_send(&chain, 0, parse("[[4,\"/lost\"]]"), NULL);
    json_t *lost = json_array(), *lost_books = json_object();
    chain_harness_snapshot(&chain, state, 3, lost, lost_books);
    json_decref(lost);
    json_decref(lost_books);
    chain_harness_finish(&chain);
    chain_harness_init(&chain, graph, 1, 0, &(struct chain_restore){state, handles, books});
    text = visible_lines(out, &hidden);
    ck_assert_str_eq(text, "1,/a\n2,/b\n3,/c\n");
    ck_assert_uint_eq(hidden, 0);
    free(text);
    chain_harness_send(&chain, 0, parse("[[4,\"/d\"]]"), NULL);
    ck_assert_ptr_null(operator_chain_end_input(chain.chain, true));
    json_array_clear(handles);
    chain_harness_snapshot(&chain, state, 3, handles, books);
    ck_assert_ptr_null(operator_chain_checkpoint_complete(chain.chain, 3));
    text = visible_lines(out, &hidden);
    ck_assert_str_eq(text, "1,/a\n2,/b\n3,/c\n4,/d\n");
    ck_assert_uint_eq(hidden, 0);
    free(text);
    json_t *cut = chain_harness_books(&chain, 0);
    ck_assert_uint_eq(books_count(cut, "rows_written"), 4);
    ck_assert_uint_eq(books_count(cut, "rows_committed"), 4);
    ck_assert_str_eq(json_string_value(json_object_get(cut, "digest")), json_string_value(json_object_get(cut, "digest_committed")));
    json_decref(cut);
    chain_harness_finish(&chain);
    json_decref(graph);
    json_decref(handles);
    json_decref(books);
    free(out);
    temp_folder_remove(folder);
    temp_folder_remove(state);
}
END_TEST

/* Committed files are in the state of the checkpoint that committed them. A reader that takes files away when it has read them once made
 * the job impossible to restore. */
START_TEST(file_sink_restores_without_files_that_were_taken_away)
{
    char *folder = temp_folder_create(), *state = temp_folder_create();
    char *out = heap_printf("%s/out/deep", folder);
    json_t *graph = sink_graph(folder), *handles = json_array(), *books = json_object();
    struct chain_harness chain;
    unsigned hidden;
    chain_harness_init(&chain, graph, 1, 0, NULL);
    chain_harness_send(&chain, 0, parse("[[1,\"/a\"]]"), NULL);
    chain_harness_snapshot(&chain, state, 1, handles, books);
    ck_assert_ptr_null(operator_chain_checkpoint_complete(chain.chain, 1));
    chain_harness_finish(&chain);
    temp_folder_remove(out);
    out = heap_printf("%s/out/deep", folder);
    chain_harness_init(&chain, graph, 1, 0, &(struct chain_restore){state, handles, books});
    chain_harness_send(&chain, 0, parse("[[2,\"/b\"]]"), NULL);
    json_array_clear(handles);
    chain_harness_snapshot(&chain, state, 2, handles, books);
    ck_assert_ptr_null(operator_chain_checkpoint_complete(chain.chain, 2));
    char *text = visible_lines(out, &hidden);
    ck_assert_str_eq(text, "2,/b\n");
    free(text);
    /* A file of this attempt is nobody's to take before it has its name. */
    chain_harness_send(&chain, 0, parse("[[3,\"/c\"]]"), NULL);
    chain_harness_snapshot(&chain, state, 3, handles, books);
    temp_folder_remove(out);
    text = error_take_text(operator_chain_checkpoint_complete(chain.chain, 3));
    ck_assert_ptr_nonnull(strstr(text, "could not rename"));
    free(text);
    chain_harness_finish(&chain);
    json_decref(graph);
    json_decref(handles);
    json_decref(books);
    temp_folder_remove(folder);
    temp_folder_remove(state);
}
END_TEST

/* An attempt that starts without a checkpoint once began with file 0 again, in place of the visible one. */
START_TEST(file_sink_writes_over_no_visible_file)
{
    char *folder = temp_folder_create(), *state = temp_folder_create();
    char *out = heap_printf("%s/out/deep", folder);
    json_t *graph = sink_graph(folder), *handles = json_array(), *books = json_object();
    for (int attempt = 0; attempt < 3; attempt++) {
        struct chain_harness chain;
        chain_harness_init(&chain, graph, 1, 0, NULL);
        chain_harness_send(&chain, 0, json_pack("[[i,s]]", attempt, "/a"), NULL);
        chain_harness_snapshot(&chain, state, 1, handles, books);
        ck_assert_ptr_null(operator_chain_checkpoint_complete(chain.chain, 1));
        chain_harness_finish(&chain);
    }
    unsigned hidden;
    char *text = visible_lines(out, &hidden);
    ck_assert_str_eq(text, "0,/a\n1,/a\n2,/a\n");
    free(text);
    json_decref(graph);
    json_decref(handles);
    json_decref(books);
    free(out);
    temp_folder_remove(folder);
    temp_folder_remove(state);
}
END_TEST

/* file:///data was once a folder "file:" where the taskmanager happened to run. */
START_TEST(paths_may_be_file_uris_and_no_others)
{
    char *folder = temp_folder_create(), *state = temp_folder_create();
    char *uri = heap_printf("file://%s", folder), *out = heap_printf("%s/out/deep", folder);
    json_t *graph = sink_graph(uri), *handles = json_array(), *books = json_object();
    struct chain_harness chain;
    unsigned hidden;
    chain_harness_init(&chain, graph, 1, 0, NULL);
    chain_harness_send(&chain, 0, parse("[[1,\"/a\"]]"), NULL);
    chain_harness_snapshot(&chain, state, 1, handles, books);
    ck_assert_ptr_null(operator_chain_checkpoint_complete(chain.chain, 1));
    chain_harness_finish(&chain);
    json_decref(graph);
    char *text = visible_lines(out, &hidden);
    ck_assert_str_eq(text, "1,/a\n");
    free(text);
    char *options = heap_printf("{\"path\":\"%s/out/deep\",\"format\":{\"type\":\"csv\",\"timestamp_format\":\"epoch-millis\"}}", uri);
    graph = source_graph("file-source", options, CLICK_SCHEMA, 1);
    chain_harness_init(&chain, graph, 0, 0, NULL);
    chain_harness_run_source(&chain);
    ck_assert_uint_eq(json_array_size(chain.collectors[0].rows), 1);
    chain_harness_finish(&chain);
    json_decref(graph);
    free(options);
    static const char *const bad[][2] = {{"s3://bucket", "path s3://bucket/out/deep: only file: is supported"}, {"file://tmp", "authority 'tmp'"}};
    for (size_t i = 0; i < 2; i++) {
        graph = sink_graph(bad[i][0]);
        text = error_take_text(chain_harness_try(&chain, graph, 1, 0, NULL));
        ck_assert_msg(strstr(text, bad[i][1]) != NULL, "%s", text);
        free(text);
        chain_harness_finish(&chain);
        json_decref(graph);
    }
    json_decref(handles);
    json_decref(books);
    free(uri);
    free(out);
    temp_folder_remove(folder);
    temp_folder_remove(state);
}
END_TEST

/* ---- printing ---- */

/* Numbers once came with all the digits that a double has: 0.10000000000000001. */
START_TEST(print_writes_numbers_in_their_shortest_form)
{
    json_t *graph = json_pack("[{s:s,s:s,s:i,s:{},s:o},{s:s,s:s,s:i,s:{s:s,s:b},s:[{s:i,s:i,s:i,s:s}]}]", "name", "source", "type",
                              "datagen-source", "parallelism", 3, "options", "schema",
                              parse("[{\"name\":\"d\",\"type\":\"DOUBLE\",\"nullable\":true},{\"name\":\"f\",\"type\":\"FLOAT\",\"nullable\":true},"
                                    "{\"name\":\"n\",\"type\":\"BIGINT\",\"nullable\":true},{\"name\":\"s\",\"type\":\"STRING\",\"nullable\":true}]"),
                              "name", "print", "type", "print-sink", "parallelism", 1, "options", "identifier", "out", "standard_error", 1, "inputs",
                              "source", 0, "side_output", -1, "input", 0, "partitioning", "REBALANCE");
    struct chain_harness chain;
    char text[256];
    int pipes[2], before = dup(STDERR_FILENO);
    ck_assert_int_eq(pipe(pipes), 0);
    ck_assert_int_eq(dup2(pipes[1], STDERR_FILENO), STDERR_FILENO);
    chain_harness_init(&chain, graph, 1, 0, NULL);
    chain_harness_send(&chain, 0, parse("[[0.1,0.1,1,\"a\"],[2.0,1e-7,null,null],[1e300,-2.5,-9223372036854775808,\"\"]]"), NULL);
    chain_harness_finish(&chain);
    ck_assert_int_eq(dup2(before, STDERR_FILENO), STDERR_FILENO);
    close(pipes[1]);
    close(before);
    ssize_t length = read(pipes[0], text, sizeof text - 1);
    close(pipes[0]);
    ck_assert_int_gt(length, 0);
    text[length] = '\0';
    ck_assert_str_eq(text, "out> +I[0.1, 0.1, 1, a]\nout> +I[2.0, 1e-07, null, null]\nout> +I[1e+300, -2.5, -9223372036854775808, ]\n");
    json_decref(graph);
}
END_TEST

/* ---- user libraries ---- */

static void expect_no_library(const char *folder, const char *name, const char *part)
{
    char *path = heap_printf("%s/%s", folder, name);
    struct user_library *library;
    char *text = error_take_text(user_library_open(path, &library));
    ck_assert_msg(strstr(text, part) != NULL, "\"%s\" is not in \"%s\"", part, text);
    free(text);
    free(path);
}

/* False when there is no compiler here. */
static bool compile(const char *folder, const char *name, const char *source)
{
    char *code = heap_printf("%s.c", name);
    write_file(folder, code, source);
    char *command = heap_printf("cc -shared -fPIC -o %s/%s %s/%s 2>/dev/null", folder, name, folder, code);
    int status = system(command);
    free(command);
    free(code);
    return status == 0;
}

START_TEST(malformed_libraries_are_explained)
{
    char *folder = temp_folder_create();
    write_file(folder, "text.so", "this is no shared object, but it is longer than a header of one would have to be, is it not");
    write_file(folder, "empty.so", "");
    expect_no_library(folder, "text.so", "text.so is not an ELF shared object");
    expect_no_library(folder, "empty.so", "empty.so is not an ELF shared object");
    expect_no_library(folder, "missing.so", "could not open library");
    if (compile(folder, "good.so", "const unsigned millrace_abi_version = 1;\n") && compile(folder, "bare.so", "int x;\n") &&
        compile(folder, "old.so", "const unsigned millrace_abi_version = 77;\n") &&
        compile(folder, "needy.so", "extern int nobody_has_this(void); int f(void) { return nobody_has_this(); } const unsigned "
                                    "millrace_abi_version = 1;\n")) {
        expect_no_library(folder, "bare.so", "it has no symbol millrace_abi_version");
        expect_no_library(folder, "old.so", "has ABI version 77");
        expect_no_library(folder, "needy.so", "nobody_has_this");
        char *path = heap_printf("%s/good.so", folder), *cut = heap_printf("%s/cut.so", folder);
        struct user_library *library;
        ck_assert_ptr_null(user_library_open(path, &library));
        user_library_close(library);
        /* The same file cut short, and with its middle overwritten. */
        char *command = heap_printf("head -c 700 %s > %s", path, cut);
        ck_assert_int_eq(system(command), 0);
        expect_no_library(folder, "cut.so", "cut.so");
        free(command);
        free(path);
        free(cut);
    }
    temp_folder_remove(folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("connectors_simple");
    TCase *tcase = tcase_create("connectors_simple");
    suite_add_tcase(suite, tcase);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, datagen_makes_the_playground_events);
    tcase_add_test(tcase, datagen_is_exact_across_restores);
    tcase_add_test(tcase, a_sequence_with_an_end_bounds_the_source);
    tcase_add_test(tcase, datagen_bounds_fit_their_type);
    tcase_add_test(tcase, collection_gives_its_rows);
    tcase_add_test(tcase, files_are_read_line_by_line_and_resumed);
    tcase_add_test(tcase, long_lines_make_batches_of_fewer_rows);
    tcase_add_test(tcase, file_sink_shows_rows_exactly_once);
    tcase_add_test(tcase, file_sink_restores_without_files_that_were_taken_away);
    tcase_add_test(tcase, file_sink_writes_over_no_visible_file);
    tcase_add_test(tcase, paths_may_be_file_uris_and_no_others);
    tcase_add_test(tcase, print_writes_numbers_in_their_shortest_form);
    tcase_add_test(tcase, malformed_libraries_are_explained);
    return run_suite(suite);
}
