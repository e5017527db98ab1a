/* User functions over batches: map, flat_map, filter, process and co_process with state of every kind and timers, across snapshot,
 * restore and rescale; failures; assign_timestamps; books. */
#include "tests/support/chain_harness.h"

#include "common/base/clock.h"
#include "millrace/function.h"
#include "taskmanager/ops/element_list.h"
#include "taskmanager/task/books.h"
#include "taskmanager/time/timer_service.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- functions under test ---- */

#define ITEM(FIELD) FIELD(key, mr_string) FIELD(value, int64_t)
MR_RECORD(item, ITEM);
#define WIDE(FIELD)                                                                                                    \
    FIELD(flag, bool) FIELD(tiny, int8_t) FIELD(small, int16_t) FIELD(medium, int32_t) FIELD(big, int64_t) FIELD(real, float)                     \
    FIELD(fine, double) FIELD(text, mr_string) FIELD(time, mr_timestamp)
MR_RECORD(wide, WIDE);
#define LINE(FIELD) FIELD(text, mr_string)
MR_RECORD(line, LINE);
#define NUMBER(FIELD) FIELD(number, int64_t)
MR_RECORD(number, NUMBER);

MR_MAP(test_copy_wide, wide, wide)
{
    *out = *in;
}

MR_MAP(test_fail_on_13, item, item)
{
    *out = *in;
    if (in->value == 13)
        mr_fail(ctx, "thirteen brings bad luck");
}

MR_FLAT_MAP(test_repeat, item, item)
{
    for (int64_t i = 0; i < in->value; i++)
        mr_collect(ctx, in);
    if (in->value == 0)
        mr_emit_side(ctx, "zero", &item_type, in);
}

MR_FILTER(test_is_even, item)
{
    return in->value % 2 == 0;
}

MR_MAP(test_slow_copy, item, item)
{
    (void)ctx;
    usleep((useconds_t)in->value * 1000);
    *out = *in;
}

MR_TIMESTAMP_ASSIGNER(test_time_of_value, item)
{
    return in->value;
}

static void sum_add(const struct item *in, struct number *sum)
{
    sum->number += in->value;
}

static void sum_result(const struct number *sum, struct number *out)
{
    *out = *sum;
}

MR_AGGREGATE(test_value_sum, item, number, number, sum_add, sum_result);

/* Every kind of state: last value, all values, how often each value came, and the sum. value 1000 writes them out; 2000 clears them. */
struct keeper {
    struct mr_state *last, *all, *often, *sum;
};

static void keeper_open(struct mr_context *ctx)
{
    static struct keeper keepers[32]; /* one a subtask; never freed, as there is no call at the end */
    static unsigned used;
    struct keeper *keeper = &keepers[used++ % 32];
    keeper->last = mr_value_state(ctx, "last", &line_type);
    keeper->all = mr_list_state(ctx, "all", &item_type);
    keeper->often = mr_map_state(ctx, "often", &number_type, &number_type);
    keeper->sum = mr_aggregating_state(ctx, "sum", &test_value_sum);
    ctx->user = keeper;
}

static void keeper_report(struct mr_context *ctx, const struct keeper *keeper)
{
    char text[4096];
    size_t length = 0, cursor = 0;
    const struct line *last = mr_state_get(ctx, keeper->last);
    length += (size_t)snprintf(text, sizeof text, "last=%.*s all=", last != NULL ? (int)last->text.length : 4,
                               last != NULL ? last->text.data : "none");
    const struct item *item;
    while ((item = mr_state_next(ctx, keeper->all, &cursor, NULL)) != NULL)
        length += (size_t)snprintf(text + length, sizeof text - length, "%" PRId64 ",", item->value);
    int64_t counts[10] = {0};
    const void *key;
    const struct number *count;
    cursor = 0;
    while ((count = mr_state_next(ctx, keeper->often, &cursor, &key)) != NULL)
        counts[((const struct number *)key)->number] = count->number;
    length += (size_t)snprintf(text + length, sizeof text - length, " often=");
    for (int i = 0; i < 10; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%" PRId64 ",", counts[i]);
    const struct number *sum = mr_state_get(ctx, keeper->sum);
    length += (size_t)snprintf(text + length, sizeof text - length, " sum=%" PRId64, sum != NULL ? sum->number : -1);
    mr_string name = mr_key_string(ctx, 0);
    length += (size_t)snprintf(text + length, sizeof text - length, " key=%.*s", (int)name.length, name.data);
    mr_collect(ctx, &(struct line){{text, (uint32_t)length}});
}

static void keeper_element(struct mr_context *ctx, const struct item *in)
{
    const struct keeper *keeper = ctx->user;
    if (in->value == 1000) {
        keeper_report(ctx, keeper);
    } else if (in->value == 2000) {
        mr_state_clear(ctx, keeper->last);
        mr_state_clear(ctx, keeper->all);
        mr_state_clear(ctx, keeper->often);
        mr_state_clear(ctx, keeper->sum);
    } else if (in->value < 0) {
        mr_map_remove(ctx, keeper->often, &(struct number){-in->value});
    } else {
        char text[64];
        int length = snprintf(text, sizeof text, "value number %" PRId64, in->value);
        mr_state_set(ctx, keeper->last, &(struct line){{text, (uint32_t)length}});
        mr_state_add(ctx, keeper->all, in);
        mr_state_add(ctx, keeper->sum, in);
        const struct number *count = mr_map_get(ctx, keeper->often, &(struct number){in->value});
        mr_map_put(ctx, keeper->often, &(struct number){in->value}, &(struct number){count != NULL ? count->number + 1 : 1});
    }
}

MR_PROCESS(test_keeper, item, line, keeper_open, keeper_element, NULL);

static void latin_open(struct mr_context *ctx)
{
    mr_value_state(ctx, "gr\xf6\xdf" "e", &number_type);
}

MR_PROCESS(test_latin_name, item, line, latin_open, keeper_element, NULL);

/* Timers: value > 0 sets an event timer, < 0 deletes it; value 0 a processing timer one second ahead. */
static void timers_element(struct mr_context *ctx, const struct item *in)
{
    if (in->value > 0)
        mr_register_event_timer(ctx, in->value);
    else if (in->value < 0)
        mr_delete_event_timer(ctx, -in->value);
    else
        mr_register_processing_timer(ctx, mr_processing_time(ctx) + 1000);
}

static void timers_fire(struct mr_context *ctx, mr_timestamp time)
{
    mr_collect(ctx, &(struct item){mr_key_string(ctx, 0), time});
    if (time == 50) /* one that is due at once */
        mr_register_event_timer(ctx, 51);
}

MR_PROCESS(test_timers, item, item, NULL, timers_element, timers_fire);

/* co_process: a value of the second input is joined with the last one of the first. */
static void join_open(struct mr_context *ctx)
{
    struct mr_state **left = mr_allocate(ctx, 2 * sizeof *left); /* the engine frees it: the sanitizers see to that */
    ck_assert_ptr_null(left[0]);
    ck_assert_ptr_null(left[1]);
    left[1] = mr_value_state(ctx, "left", &number_type);
    ctx->user = left;
}

static struct mr_state *join_left(struct mr_context *ctx)
{
    return ((struct mr_state **)ctx->user)[1];
}

static void join_first(struct mr_context *ctx, const struct item *in)
{
    mr_state_set(ctx, join_left(ctx), &(struct number){in->value});
    mr_count(ctx, "lefts", 1);
}

static void join_second(struct mr_context *ctx, const struct wide *in)
{
    const struct number *left = mr_state_get(ctx, join_left(ctx));
    mr_collect(ctx, &(struct item){in->text, (left != NULL ? left->number : -1) * 1000 + in->big});
}

MR_CO_PROCESS(test_join, item, wide, item, join_open, join_first, join_second, NULL);

/* ---- graphs ---- */

#define ITEM_SCHEMA "[{\"name\":\"key\",\"type\":\"STRING\",\"nullable\":false},{\"name\":\"value\",\"type\":\"BIGINT\",\"nullable\":false}]"
#define LINE_SCHEMA "[{\"name\":\"text\",\"type\":\"STRING\",\"nullable\":false}]"
/* In another order than the record, and nullable. */
#define WIDE_SCHEMA                                                                                                    \
    "[{\"name\":\"text\",\"type\":\"STRING\",\"nullable\":true},{\"name\":\"fine\",\"type\":\"DOUBLE\",\"nullable\":true},"                        \
    "{\"name\":\"flag\",\"type\":\"BOOLEAN\",\"nullable\":true},{\"name\":\"tiny\",\"type\":\"TINYINT\",\"nullable\":true},"                       \
    "{\"name\":\"small\",\"type\":\"SMALLINT\",\"nullable\":true},{\"name\":\"medium\",\"type\":\"INT\",\"nullable\":true},"                       \
    "{\"name\":\"big\",\"type\":\"BIGINT\",\"nullable\":true},{\"name\":\"real\",\"type\":\"FLOAT\",\"nullable\":true},"                           \
    "{\"name\":\"time\",\"type\":\"TIMESTAMP\",\"nullable\":true}]"

static json_t *parse(const char *text)
{
    json_t *json = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(json);
    return json;
}

static json_t *operator_json(const char *type, const char *function, const char *input, const char *output, const char *options, int parallelism)
{
    json_t *all = parse(options);
    if (function != NULL)
        json_object_set_new(all, "function", json_string(function));
    bool is_keyed = json_object_get(all, "key_columns") != NULL;
    return json_pack("[{s:s,s:s,s:i,s:{},s:o},"
                     "{s:s,s:s,s:s,s:i,s:i,s:o,s:o,s:[{s:s,s:o}],s:[{s:i,s:i,s:i,s:s,s:o}]},"
                     "{s:s,s:s,s:i,s:{},s:[{s:i,s:i,s:i,s:s}]},"
                     "{s:s,s:s,s:i,s:{},s:[{s:i,s:i,s:i,s:s}]}]",
                     "name", "source", "type", "datagen-source", "parallelism", 3, "options", "schema", parse(input),
                     "name", "tested", "type", type, "uid", "tested", "parallelism", parallelism, "max_parallelism", 8, "options", all,
                     "schema", parse(output), "side_outputs", "tag", "zero", "schema", parse(ITEM_SCHEMA),
                     "inputs", "source", 0, "side_output", -1, "input", 0, "partitioning", is_keyed ? "HASH" : "REBALANCE", "key_columns",
                     is_keyed ? parse("[0]") : json_array(),
                     "name", "sink", "type", "blackhole-sink", "parallelism", 3, "options",
                     "inputs", "source", 1, "side_output", -1, "input", 0, "partitioning", "REBALANCE",
                     "name", "side", "type", "blackhole-sink", "parallelism", 3, "options",
                     "inputs", "source", 1, "side_output", 0, "input", 0, "partitioning", "REBALANCE");
}

static void start(struct chain_harness *chain, const char *type, const char *function, const char *input, const char *output, const char *options)
{
    json_t *operators = operator_json(type, function, input, output, options, 1);
    chain_harness_init(chain, operators, 1, 0, NULL);
    json_decref(operators);
}

static void expect_rows(const struct chain_collector *collector, const char *expected)
{
    json_t *rows = parse(expected);
    char *a = json_dumps(rows, JSON_COMPACT), *b = json_dumps(collector->rows, JSON_COMPACT);
    ck_assert_str_eq(b, a);
    free(a);
    free(b);
    json_decref(rows);
}

/* ---- records ---- */

START_TEST(map_copies_every_type)
{
    struct chain_harness chain;
    start(&chain, "map", "test_copy_wide", WIDE_SCHEMA, WIDE_SCHEMA, "{}");
    chain_harness_send(&chain, 0, parse("[[\"some text that is long\", 1.5, true, -7, -300, 70000, -5000000000, 0.5, 1700000000000],[\"\", "
                                        "0.0, false, 0, 0, 0, 0, 0.0, 0],"
                                        "[null, null, null, null, null, null, null, null, null]]"),
                       parse("[5, 6, 7]"));
    expect_rows(&chain.collectors[0], "[[\"some text that is long\", 1.5, true, -7, -300, 70000, -5000000000, 0.5, 1700000000000],[\"\", "
                                      "0.0, false, 0, 0, 0, 0, 0.0, 0],"
                                      "[\"\", 0.0, false, 0, 0, 0, 0, 0.0, 0]]");
    ck_assert_int_eq(json_integer_value(json_array_get(chain.collectors[0].times, 2)), 7);
    chain_harness_finish(&chain);
}
END_TEST

START_TEST(large_batches_keep_order_and_time)
{
    struct chain_harness chain;
    start(&chain, "map", "test_fail_on_13", ITEM_SCHEMA, ITEM_SCHEMA, "{}");
    json_t *rows = json_array(), *times = json_array();
    for (int i = 0; i < 10000; i++) {
        json_array_append_new(rows, json_pack("[s,i]", "k", 100 + i));
        json_array_append_new(times, json_integer(i));
    }
    json_t *expected = json_deep_copy(rows), *expected_times = json_deep_copy(times);
    chain_harness_send(&chain, 0, rows, times);
    ck_assert(json_equal(chain.collectors[0].rows, expected));
    ck_assert(json_equal(chain.collectors[0].times, expected_times));
    json_decref(expected);
    json_decref(expected_times);
    chain_harness_finish(&chain);
}
END_TEST

START_TEST(flat_map_and_side_output)
{
    struct chain_harness chain;
    start(&chain, "flat_map", "test_repeat", ITEM_SCHEMA, ITEM_SCHEMA, "{}");
    chain_harness_send(&chain, 0, parse("[[\"a\",2],[\"b\",0],[\"c\",1]]"), NULL);
    expect_rows(&chain.collectors[0], "[[\"a\",2],[\"a\",2],[\"c\",1]]");
    expect_rows(&chain.collectors[1], "[[\"b\",0]]");
    chain_harness_send(&chain, 0, parse("[[\"many\",5000]]"), NULL);
    ck_assert_uint_eq(json_array_size(chain.collectors[0].rows), 5003);
    json_t *books = chain_harness_books(&chain, 0);
    ck_assert_uint_eq(books_count(books, "rows_in"), 4);
    ck_assert_uint_eq(books_count(books, "rows_out"), 5003);
    ck_assert_uint_eq(books_count(books, "side_rows_out"), 1);
    json_decref(books);
    chain_harness_finish(&chain);
}
END_TEST

START_TEST(filter_selects)
{
    struct chain_harness chain;
    start(&chain, "filter", "test_is_even", ITEM_SCHEMA, ITEM_SCHEMA, "{}");
    chain_harness_send(&chain, 0, parse("[[\"a\",2],[\"b\",3],[\"a text that is long\",4]]"), parse("[1,2,3]"));
    chain_harness_send(&chain, 0, parse("[[\"a\",2],[\"b\",4]]"), parse("[1,2]"));
    chain_harness_send(&chain, 0, parse("[[\"a\",1]]"), parse("[1]"));
    expect_rows(&chain.collectors[0], "[[\"a\",2],[\"a text that is long\",4],[\"a\",2],[\"b\",4]]");
    json_t *books = chain_harness_books(&chain, 0);
    ck_assert_uint_eq(books_count(books, "rows_in"), books_count(books, "rows_out") + books_count(books, "filtered"));
    ck_assert_uint_eq(books_count(books, "filtered"), 2);
    json_decref(books);
    chain_harness_finish(&chain);
}
END_TEST

START_TEST(a_failing_function_is_named)
{
    struct chain_harness chain;
    start(&chain, "map", "test_fail_on_13", ITEM_SCHEMA, ITEM_SCHEMA, "{}");
    json_t *rows = parse("[[\"a\",12],[\"a\",13],[\"a\",14]]");
    struct batch *batch = harness_batch(chain_harness_gate_schema(&chain, 0), rows, NULL);
    struct error *err = operator_chain_process(chain.chain, 0, batch);
    ck_assert_ptr_nonnull(err);
    ck_assert_int_eq(err->code, ERR_USER_FUNCTION);
    char *text = error_take_text(err);
    ck_assert_str_eq(text, "function test_fail_on_13 of operator tested failed: thirteen brings bad luck");
    free(text);
    ck_assert_ptr_null(operator_chain_current_function());
    batch_unref(batch);
    json_decref(rows);
    chain_harness_finish(&chain);
}
END_TEST

static void expect_start_error(const char *type, const char *function, const char *input, const char *output, const char *options, const char *part)
{
    struct chain_harness chain;
    json_t *operators = operator_json(type, function, input, output, options, 1);
    char *text = error_take_text(chain_harness_try(&chain, operators, 1, 0, NULL));
    ck_assert_msg(strstr(text, part) != NULL, "\"%s\" is not in \"%s\"", part, text);
    free(text);
    json_decref(operators);
    chain_harness_finish(&chain);
}

START_TEST(wrong_programs_are_explained)
{
    expect_start_error("map", "no_such_function", ITEM_SCHEMA, ITEM_SCHEMA, "{}", "has no function no_such_function");
    expect_start_error("map", "test_is_even", ITEM_SCHEMA, ITEM_SCHEMA, "{}",
                       "test_is_even of library (this program) is a filter function, not a map function");
    expect_start_error("map", "test_copy_wide", ITEM_SCHEMA, WIDE_SCHEMA, "{}", "field flag of record wide is not a column");
    expect_start_error("filter", "test_is_even", "[{\"name\":\"key\",\"type\":\"STRING\",\"nullable\":false},{\"name\":\"value\",\"type\":\"INT\",\"nullable\":false}]",
                       ITEM_SCHEMA, "{}", "field value of record item is BIGINT, the stream's column is INT");
    expect_start_error("map", NULL, ITEM_SCHEMA, ITEM_SCHEMA, "{}", "option function is missing");
    expect_start_error("process", "test_keeper", ITEM_SCHEMA, LINE_SCHEMA, "{}", "state needs a keyed stream");
    expect_start_error("process", "test_latin_name", ITEM_SCHEMA, LINE_SCHEMA, "{\"key_columns\":[0]}", "a state's name must be UTF-8");
    expect_start_error("window", NULL, ITEM_SCHEMA, ITEM_SCHEMA, "{\"assigner\":{\"type\":\"hopping\"}}", "there is no window assigner hopping");
    expect_start_error("no-such-type", NULL, ITEM_SCHEMA, ITEM_SCHEMA, "{}", "there is no operator type no-such-type");
}
END_TEST

/* ---- state ---- */

static uint32_t owner_of(const char *key, uint32_t count)
{
    json_t *rows = json_pack("[[s,i]]", key, 0), *json = parse(ITEM_SCHEMA);
    struct schema *schema;
    ck_assert_ptr_null(schema_from_json(json, &schema));
    struct batch *batch = harness_batch(schema, rows, NULL);
    uint64_t hash;
    uint32_t column = 0;
    batch_hash_rows(batch, &column, 1, &hash);
    batch_unref(batch);
    schema_unref(schema);
    json_decref(rows);
    json_decref(json);
    return key_group_owner(key_group_of_hash(hash, 8), 8, count);
}

struct cluster { /* all subtasks of the tested operator */
    struct chain_harness chains[3];
    uint32_t count;
    const char *function, *output;
};

static void cluster_start(struct cluster *cluster, const char *function, const char *output, uint32_t count, const struct chain_restore *restore)
{
    json_t *operators = operator_json("process", function, ITEM_SCHEMA, output, "{\"key_columns\":[0]}", (int)count);
    cluster->count = count;
    cluster->function = function;
    cluster->output = output;
    for (uint32_t i = 0; i < count; i++)
        chain_harness_init(&cluster->chains[i], operators, 1, i, restore);
    json_decref(operators);
}

static void cluster_send(struct cluster *cluster, const char *key, int64_t value)
{
    chain_harness_send(&cluster->chains[owner_of(key, cluster->count)], 0, json_pack("[[s,I]]", key, value), NULL);
}

/* Snapshot, stop, and start again at another parallelism. */
static void cluster_rescale(struct cluster *cluster, uint32_t count)
{
    char *folder = temp_folder_create();
    json_t *handles = json_array(), *books = json_object();
    for (uint32_t i = 0; i < cluster->count; i++)
        chain_harness_snapshot(&cluster->chains[i], folder, 1, handles, books);
    for (uint32_t i = 0; i < cluster->count; i++)
        chain_harness_finish(&cluster->chains[i]);
    cluster_start(cluster, cluster->function, cluster->output, count, &(struct chain_restore){folder, handles, NULL});
    json_decref(handles);
    json_decref(books);
    temp_folder_remove(folder);
}

static void cluster_finish(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->count; i++)
        chain_harness_finish(&cluster->chains[i]);
}

static const char *cluster_report(struct cluster *cluster, const char *key)
{
    struct chain_collector *collector = &cluster->chains[owner_of(key, cluster->count)].collectors[0];
    cluster_send(cluster, key, 1000);
    size_t count = json_array_size(collector->rows);
    ck_assert_uint_gt(count, 0);
    return json_string_value(json_array_get(json_array_get(collector->rows, count - 1), 0));
}

START_TEST(state_of_every_kind_survives_rescaling)
{
    static const char *const keys[] = {"a", "b", "a key that is long enough", "d", "e"};
    struct cluster cluster;
    cluster_start(&cluster, "test_keeper", LINE_SCHEMA, 2, NULL);
    for (int round = 0; round < 4; round++) {
        for (int k = 0; k < 5; k++)
            cluster_send(&cluster, keys[k], (round * k) % 7);
        if (round == 1)
            cluster_rescale(&cluster, 3);
        if (round == 2)
            cluster_rescale(&cluster, 1);
    }
    ck_assert_str_eq(cluster_report(&cluster, "a"), "last=value number 0 all=0,0,0,0, often=4,0,0,0,0,0,0,0,0,0, sum=0 key=a");
    ck_assert_str_eq(cluster_report(&cluster, "d"), "last=value number 2 all=0,3,6,2, often=1,0,1,1,0,0,1,0,0,0, sum=11 key=d");
    cluster_send(&cluster, "d", -3);
    ck_assert_str_eq(cluster_report(&cluster, "d"), "last=value number 2 all=0,3,6,2, often=1,0,1,0,0,0,1,0,0,0, sum=11 key=d");
    cluster_rescale(&cluster, 2);
    ck_assert_str_eq(cluster_report(&cluster, "a key that is long enough"),
                     "last=value number 6 all=0,2,4,6, often=1,0,1,0,1,0,1,0,0,0, sum=12 key=a key that is long enough");
    cluster_send(&cluster, "d", 2000);
    ck_assert_str_eq(cluster_report(&cluster, "d"), "last=none all= often=0,0,0,0,0,0,0,0,0,0, sum=-1 key=d");
    cluster_rescale(&cluster, 3);
    ck_assert_str_eq(cluster_report(&cluster, "d"), "last=none all= often=0,0,0,0,0,0,0,0,0,0, sum=-1 key=d");
    cluster_finish(&cluster);
}
END_TEST

START_TEST(a_list_that_grows_too_large_is_refused)
{
    static const struct state_table_options options = {.value_form = STATE_VALUE_BYTES};
    struct state_table *table = state_table_create(&options);
    struct state_key key = {"key", 3, 0, 7};
    ck_assert_ptr_null(element_list_append(table, &key, NULL, 0, "an element", 10));
    char *text = error_take_text(element_list_append(table, &key, NULL, 0, "never read", UINT32_MAX - 4096));
    ck_assert_ptr_nonnull(strstr(text, "a list of 1 elements and 14 bytes is full"));
    free(text);
    ck_assert_ptr_null(element_list_append(table, &key, NULL, 0, "another", 7));
    const struct state_entry *entry = state_table_entry(table, state_table_find(table, 0, 7, "key", 3, NULL, 0));
    size_t cursor = 0;
    uint32_t length;
    ck_assert_mem_eq(element_list_next(entry->data, entry->value_length, &cursor, &length), "an element", 10);
    ck_assert_mem_eq(element_list_next(entry->data, entry->value_length, &cursor, &length), "another", 7);
    ck_assert_ptr_null(element_list_next(entry->data, entry->value_length, &cursor, &length));
    state_table_destroy(table);
}
END_TEST

/* ---- timers ---- */

START_TEST(event_timers_fire_in_order_and_survive)
{
    struct cluster cluster;
    cluster_start(&cluster, "test_timers", ITEM_SCHEMA, 1, NULL);
    static const int64_t times[] = {30, 10, 50, 10, 20, 40, -40, 70};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        cluster_send(&cluster, "some key that is rather long", times[i]);
    cluster_send(&cluster, "b", 10);
    chain_harness_watermark(&cluster.chains[0], 0, 9);
    expect_rows(&cluster.chains[0].collectors[0], "[]");
    chain_harness_watermark(&cluster.chains[0], 0, 20);
    ck_assert_uint_eq(json_array_size(cluster.chains[0].collectors[0].rows), 3);
    cluster_rescale(&cluster, 1);
    chain_harness_watermark(&cluster.chains[0], 0, 60);
    expect_rows(&cluster.chains[0].collectors[0],
                "[[\"some key that is rather long\",30],[\"some key that is rather long\",50],[\"some key that is rather long\",51]]");
    cluster_rescale(&cluster, 3);
    uint32_t owner = owner_of("some key that is rather long", 3);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_ptr_null(operator_chain_end_input(cluster.chains[i].chain, true));
        expect_rows(&cluster.chains[i].collectors[0], i == owner ? "[[\"some key that is rather long\",70]]" : "[]");
    }
    cluster_finish(&cluster);
}
END_TEST

START_TEST(firing_timers_are_many_calls)
{
    enum { TIMERS = 1000 };
    struct cluster cluster;
    cluster_start(&cluster, "test_timers", ITEM_SCHEMA, 1, NULL);
    for (int at = 100; at < 100 + TIMERS; at++)
        cluster_send(&cluster, "a", at);
    struct chain_harness *chain = &cluster.chains[0];
    unsigned long long steps = chain->step_count;
    chain_harness_watermark(chain, 0, 5000);
    ck_assert_uint_eq(json_array_size(chain->collectors[0].rows), TIMERS);
    ck_assert_uint_ge(chain->step_count - steps, TIMERS / 50);
    cluster_finish(&cluster);
}
END_TEST

START_TEST(processing_timers_fire_at_once_when_overdue)
{
    struct cluster cluster;
    cluster_start(&cluster, "test_timers", ITEM_SCHEMA, 1, NULL);
    cluster_send(&cluster, "a", 0);
    int64_t due = operator_chain_next_wake_ms(cluster.chains[0].chain);
    ck_assert_int_gt(due, clock_now_ms());
    cluster_rescale(&cluster, 1);
    ck_assert_int_eq(operator_chain_next_wake_ms(cluster.chains[0].chain), due);
    ck_assert_ptr_null(operator_chain_wake(cluster.chains[0].chain, due - 1));
    ck_assert_uint_eq(json_array_size(cluster.chains[0].collectors[0].rows), 0);
    ck_assert_ptr_null(operator_chain_wake(cluster.chains[0].chain, due + 5000));
    ck_assert_uint_eq(json_array_size(cluster.chains[0].collectors[0].rows), 1);
    ck_assert_int_eq(operator_chain_next_wake_ms(cluster.chains[0].chain), INT64_MAX);
    cluster_finish(&cluster);
}
END_TEST

/* A timeout that each row moves on: what was deleted must not be kept until its time comes. */
START_TEST(deleted_timers_take_no_room)
{
    enum { TIMERS = 1000 };
    struct timer_service *timers = timer_service_create(NULL, 0, 0);
    struct state_key key = {"a key that is not kept inline", 29, 0, 7}, popped;
    int64_t time;
    for (int round = 0; round < 2; round++) {
        for (int64_t at = 1; at <= TIMERS; at++) {
            timer_service_register(timers, TIMER_EVENT, &key, at);
            timer_service_register(timers, TIMER_EVENT, &key, 5000);
            timer_service_delete(timers, TIMER_EVENT, &key, at);
            if (at % 2 == 0)
                timer_service_delete(timers, TIMER_EVENT, &key, 5000);
        }
        ck_assert_int_gt(timer_service_next(timers, TIMER_EVENT), TIMERS - 200); /* of the deleted ones only the last may be left */
        timer_service_register(timers, TIMER_EVENT, &key, 2 * TIMERS);
        ck_assert(timer_service_pop(timers, TIMER_EVENT, INT64_MAX, &popped, &time));
        ck_assert_int_eq(time, 2 * TIMERS);
        ck_assert_mem_eq(popped.bytes, key.bytes, key.length);
        ck_assert(!timer_service_pop(timers, TIMER_EVENT, INT64_MAX, &popped, &time));
    }
    timer_service_destroy(timers);
}
END_TEST

/* ---- two inputs ---- */

START_TEST(co_process_joins_and_takes_the_lower_watermark)
{
    json_t *operators =
        json_pack("[{s:s,s:s,s:i,s:{},s:o},{s:s,s:s,s:i,s:{},s:o},"
                  "{s:s,s:s,s:i,s:{s:s,s:o},s:o,s:[{s:i,s:i,s:i,s:s,s:[i]},{s:i,s:i,s:i,s:s,s:[i]}]},"
                  "{s:s,s:s,s:i,s:{},s:[{s:i,s:i,s:i,s:s}]}]",
                  "name", "first", "type", "datagen-source", "parallelism", 3, "options", "schema", parse(ITEM_SCHEMA),
                  "name", "second", "type", "datagen-source", "parallelism", 3, "options", "schema", parse(WIDE_SCHEMA),
                  "name", "join", "type", "co_process", "parallelism", 1, "options", "function", "test_join", "key_columns",
                      parse("[[0],[0]]"), "schema",
                  parse(ITEM_SCHEMA), "inputs", "source", 0, "side_output", -1, "input", 0, "partitioning", "HASH", "key_columns", 0,
                  "source", 1, "side_output", -1, "input", 1, "partitioning", "HASH", "key_columns", 0,
                  "name", "sink", "type", "blackhole-sink", "parallelism", 3, "options", "inputs", "source", 2, "side_output", -1, "input", 0,
                  "partitioning", "REBALANCE");
    struct chain_harness chain;
    chain_harness_init(&chain, operators, 2, 0, NULL);
    chain_harness_send(&chain, 0, parse("[[\"a\",7],[\"long long long long key\",8]]"), NULL);
    chain_harness_send(&chain, 1, parse("[[\"a\",0.0,true,1,1,1,5,0.0,0],[\"long long long long "
                                        "key\",0.0,true,1,1,1,6,0.0,0],[\"c\",0.0,true,1,1,1,9,0.0,0]]"), NULL);
    expect_rows(&chain.collectors[0], "[[\"a\",7005],[\"long long long long key\",8006],[\"c\",-991]]");
    chain_harness_watermark(&chain, 0, 100);
    ck_assert_int_eq(chain.collectors[0].watermark, TIME_MIN);
    chain_harness_watermark(&chain, 1, 50);
    ck_assert_int_eq(chain.collectors[0].watermark, 50);
    ck_assert_ptr_null(operator_chain_idle(chain.chain, 1, true));
    ck_assert_int_eq(chain.collectors[0].watermark, 100);
    ck_assert(!chain.collectors[0].is_idle);
    ck_assert_ptr_null(operator_chain_idle(chain.chain, 0, true));
    ck_assert(chain.collectors[0].is_idle);
    ck_assert_ptr_null(operator_chain_idle(chain.chain, 1, false));
    ck_assert(!chain.collectors[0].is_idle);
    chain_harness_watermark(&chain, 1, 120);
    ck_assert_int_eq(chain.collectors[0].watermark, 120);
    json_t *metrics = operator_chain_metrics(chain.chain);
    const json_t *own = json_object_get(json_array_get(metrics, 0), "metrics");
    ck_assert_int_eq((int)json_number_value(json_object_get(own, "lefts")), 2);
    ck_assert_int_eq(json_integer_value(json_object_get(own, "currentInput1Watermark")), 100);
    ck_assert_int_eq(json_integer_value(json_object_get(own, "currentInput2Watermark")), 120);
    json_decref(metrics);
    chain_harness_finish(&chain);
    json_decref(operators);
}
END_TEST

/* ---- time ---- */

START_TEST(assign_timestamps_makes_its_own_watermarks)
{
    struct chain_harness chain;
    start(&chain, "assign_timestamps", NULL, ITEM_SCHEMA, ITEM_SCHEMA,
          "{\"watermark\":{\"strategy\":\"bounded\",\"out_of_orderness_ms\":10,\"idle_timeout_ms\":-1,\"interval_ms\":0,\"function\":\"test_time_of_value\"}}");
    chain_harness_send(&chain, 0, parse("[[\"a\",100],[\"b\",70]]"), NULL);
    ck_assert_int_eq(chain.collectors[0].watermark, 89);
    ck_assert_int_eq(json_integer_value(json_array_get(chain.collectors[0].times, 1)), 70);
    chain_harness_watermark(&chain, 0, 5000);
    ck_assert_int_eq(chain.collectors[0].watermark, 89);
    ck_assert_ptr_null(operator_chain_end_input(chain.chain, true));
    ck_assert_int_eq(chain.collectors[0].watermark, TIME_MAX);
    chain_harness_finish(&chain);
}
END_TEST

static void wake(struct chain_harness *chain)
{
    ck_assert_ptr_null(operator_chain_wake(chain->chain, operator_chain_next_wake_ms(chain->chain)));
}

/* While a slow function works on rows no others can come: that is no idleness, or the rows that wait would be late where others went on. */
START_TEST(slow_functions_make_nobody_idle)
{
    json_t *operators = json_pack("[{s:s,s:s,s:i,s:{},s:o},{s:s,s:s,s:i,s:{s:o},s:o,s:[{s:i,s:i,s:i,s:s}]},"
                                  "{s:s,s:s,s:i,s:{s:s},s:o,s:[{s:i,s:i,s:i,s:s}]},{s:s,s:s,s:i,s:{},s:[{s:i,s:i,s:i,s:s}]}]",
                                  "name", "source", "type", "datagen-source", "parallelism", 3, "options", "schema", parse(ITEM_SCHEMA),
                                  "name", "times", "type", "assign_timestamps", "parallelism", 1, "options", "watermark",
                                      parse("{\"strategy\":\"bounded\",\"idle_timeout_ms\":1000,\"interval_ms\":200,\"function\":\"test_time_of_value\"}"),
                                      "schema", parse(ITEM_SCHEMA),
                                  "inputs", "source", 0, "side_output", -1, "input", 0, "partitioning", "REBALANCE",
                                  "name", "slow", "type", "map", "parallelism", 1, "options", "function", "test_slow_copy", "schema",
                                      parse(ITEM_SCHEMA),
                                  "inputs", "source", 1, "side_output", -1, "input", 0, "partitioning", "FORWARD",
                                  "name", "sink", "type", "blackhole-sink", "parallelism", 3, "options", "inputs", "source", 2, "side_output", -1,
                                  "input", 0, "partitioning", "REBALANCE");
    struct chain_harness chain;
    chain_harness_set_slice(1000000);
    chain_harness_init(&chain, operators, 1, 0, NULL);
    chain_harness_send(&chain, 0, parse("[[\"a\",1100],[\"b\",600],[\"c\",600]]"), NULL); /* milliseconds */
    wake(&chain);
    ck_assert(!chain.collectors[0].is_idle);
    while (operator_chain_is_holding(chain.chain))
        ck_assert_ptr_null(operator_chain_resume(chain.chain));
    wake(&chain);
    ck_assert_uint_eq(json_array_size(chain.collectors[0].rows), 3);
    ck_assert(!chain.collectors[0].is_idle);
    usleep(1100000);
    wake(&chain);
    ck_assert(chain.collectors[0].is_idle);
    chain_harness_finish(&chain);
    chain_harness_set_slice(0);
    json_decref(operators);
}
END_TEST

/* ---- chains ---- */

START_TEST(a_chain_passes_rows_by_direct_calls)
{
    json_t *operators = json_pack("[{s:s,s:s,s:i,s:{},s:o},"
                                  "{s:s,s:s,s:i,s:{s:s},s:o,s:[{s:i,s:i,s:i,s:s}]},{s:s,s:s,s:i,s:{s:s},s:o,s:[{s:i,s:i,s:i,s:s}]},"
                                  "{s:s,s:s,s:i,s:{s:s},s:o,s:[{s:i,s:i,s:i,s:s}]},{s:s,s:s,s:i,s:{},s:[{s:i,s:i,s:i,s:s}]},"
                                  "{s:s,s:s,s:i,s:{},s:[{s:i,s:i,s:i,s:s}]}]",
                                  "name", "source", "type", "datagen-source", "parallelism", 3, "options", "schema", parse(ITEM_SCHEMA),
                                  "name", "map", "type", "map", "parallelism", 1, "options", "function", "test_fail_on_13", "schema",
                                      parse(ITEM_SCHEMA),
                                  "inputs", "source", 0, "side_output", -1, "input", 0, "partitioning", "REBALANCE",
                                  "name", "filter", "type", "filter", "parallelism", 1, "options", "function", "test_is_even", "schema",
                                      parse(ITEM_SCHEMA),
                                  "inputs", "source", 1, "side_output", -1, "input", 0, "partitioning", "FORWARD",
                                  "name", "flat", "type", "flat_map", "parallelism", 1, "options", "function", "test_repeat", "schema",
                                      parse(ITEM_SCHEMA),
                                  "inputs", "source", 1, "side_output", -1, "input", 0, "partitioning", "FORWARD",
                                  "name", "sink", "type", "blackhole-sink", "parallelism", 3, "options", "inputs", "source", 2, "side_output", -1,
                                  "input", 0, "partitioning", "REBALANCE",
                                  "name", "sink2", "type", "blackhole-sink", "parallelism", 1, "options", "inputs", "source", 3, "side_output", -1,
                                  "input", 0, "partitioning", "FORWARD");
    struct chain_harness chain;
    chain_harness_init(&chain, operators, 1, 0, NULL);
    chain_harness_send(&chain, 0, parse("[[\"a\",1],[\"b\",2],[\"c\",3]]"), NULL);
    expect_rows(&chain.collectors[0], "[[\"b\",2]]");
    json_t *metrics = operator_chain_metrics(chain.chain);
    ck_assert_uint_eq(json_array_size(metrics), 4);
    for (size_t i = 0; i < 4; i++) {
        const json_t *entry = json_array_get(metrics, i), *books = json_object_get(entry, "books");
        const char *name = json_string_value(json_object_get(entry, "name"));
        ck_assert_uint_eq(books_count(books, "rows_in"), strcmp(name, "sink2") == 0 ? 6 : 3);
        if (strcmp(name, "sink2") == 0)
            ck_assert_uint_eq(books_count(books, "rows_written"), 6);
    }
    json_decref(metrics);
    chain_harness_watermark(&chain, 0, 77);
    ck_assert_int_eq(chain.collectors[0].watermark, 77);
    chain_harness_finish(&chain);
    json_decref(operators);
}
END_TEST

START_TEST(books_round_trip_and_add_up)
{
    struct books books, restored;
    books_init(&books, 2);
    books.rows_in[1] = 5;
    books.rows_out = 7;
    books.side_rows_out[1] = 3;
    books.digest = UINT64_C(0xffffffffffffffff);
    books_split(&books, "topic-0")->records = 9;
    char split[] = "topic-0", reason[] = "bad escape", excerpt[] = "{\\x00";
    books_add_unparsable(&books, &(struct books_sample){.split = split, .offset = 42, .reason = reason, .excerpt = excerpt, .time_ms = 7});
    json_t *json = books_to_json(&books);
    books_init(&restored, 2);
    ck_assert_ptr_null(books_add_json(&restored, json));
    ck_assert_ptr_null(books_add_json(&restored, json));
    ck_assert_uint_eq(restored.rows_in[1], 10);
    ck_assert_uint_eq(restored.rows_out, 14);
    ck_assert_uint_eq(restored.side_rows_out[1], 6);
    ck_assert_uint_eq(restored.digest, UINT64_C(0xfffffffffffffffe));
    ck_assert_uint_eq(restored.unparsable, 2);
    ck_assert_uint_eq(books_split(&restored, "topic-0")->records, 18);
    ck_assert_uint_eq(restored.sample_count, 2);
    ck_assert_int_eq(restored.samples[0].offset, 42);
    json_object_set_new(json, "rows_out", json_string("x"));
    char *text = error_take_text(books_add_json(&restored, json));
    ck_assert_ptr_nonnull(strstr(text, "rows_out"));
    free(text);
    json_decref(json);
    books_finish(&books);
    books_finish(&restored);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("process");
    TCase *tcase = tcase_create("process");
    suite_add_tcase(suite, tcase);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, map_copies_every_type);
    tcase_add_test(tcase, large_batches_keep_order_and_time);
    tcase_add_test(tcase, flat_map_and_side_output);
    tcase_add_test(tcase, filter_selects);
    tcase_add_test(tcase, a_failing_function_is_named);
    tcase_add_test(tcase, wrong_programs_are_explained);
    tcase_add_test(tcase, state_of_every_kind_survives_rescaling);
    tcase_add_test(tcase, a_list_that_grows_too_large_is_refused);
    tcase_add_test(tcase, event_timers_fire_in_order_and_survive);
    tcase_add_test(tcase, firing_timers_are_many_calls);
    tcase_add_test(tcase, processing_timers_fire_at_once_when_overdue);
    tcase_add_test(tcase, deleted_timers_take_no_room);
    tcase_add_test(tcase, co_process_joins_and_takes_the_lower_watermark);
    tcase_add_test(tcase, assign_timestamps_makes_its_own_watermarks);
    tcase_add_test(tcase, slow_functions_make_nobody_idle);
    tcase_add_test(tcase, a_chain_passes_rows_by_direct_calls);
    tcase_add_test(tcase, books_round_trip_and_add_up);
    return run_suite(suite);
}
