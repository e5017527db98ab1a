/* Windows against brute force: random streams of (key, value, time) with disorder, every assigner, lateness, and a restore at
 * another parallelism in the middle. */
#include "common/base/clock.h"
#include "taskmanager/ops/window_groups.h"
#include "tests/support/chain_harness.h"

#include "millrace/function.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- functions under test ---- */

#define EVENT(FIELD) FIELD(key, mr_string) FIELD(value, int64_t)
MR_RECORD(event, EVENT);
#define SUM(FIELD) FIELD(sum, int64_t) FIELD(count, int64_t)
MR_RECORD(sum, SUM);
#define RESULT(FIELD) FIELD(key, mr_string) FIELD(start, mr_timestamp) FIELD(end, mr_timestamp) FIELD(sum, int64_t) FIELD(count, int64_t)
MR_RECORD(result, RESULT);
#define LONGEST(FIELD) FIELD(text, mr_string)
MR_RECORD(longest, LONGEST);

static useconds_t add_sleep_us;

static void sum_add(const struct event *in, struct sum *sum)
{
    if (add_sleep_us > 0)
        usleep(add_sleep_us);
    sum->sum += in->value;
    sum->count++;
}

static void sum_result(const struct sum *sum, struct sum *out)
{
    *out = *sum;
}

static void sum_merge(const struct sum *from, struct sum *into)
{
    into->sum += from->sum;
    into->count += from->count;
}

MR_AGGREGATE_MERGE(test_sum, event, sum, sum, sum_add, sum_result, sum_merge);

MR_WINDOW_RESULT(test_with_bounds, sum, result)
{
    struct result out = {mr_key_string(ctx, 0), window->start, window->end, result->sum, result->count};
    mr_collect(ctx, &out);
}

/* Cancels its task in the call that makes calls_left 0. */
static int calls_left;
static atomic_bool *cancelled_task;

MR_WINDOW_RESULT(test_cancelling, sum, result)
{
    (void)window;
    struct result out = {mr_key_string(ctx, 0), 0, 0, result->sum, result->count};
    mr_collect(ctx, &out);
    if (--calls_left == 0)
        atomic_store(cancelled_task, true);
}

MR_WINDOW(test_all_elements, event, result)
{
    struct result out = {mr_key_string(ctx, 0), window->start, window->end, 0, 0};
    const struct event *element;
    while ((element = mr_next(ctx, elements)) != NULL) {
        out.sum += element->value;
        out.count++;
    }
    mr_collect(ctx, &out);
}

/* An accumulator with text: the greatest key so far, to which nothing in the input stays alive. */
static void longest_add(const struct event *in, struct longest *longest)
{
    if (in->key.length > longest->text.length)
        longest->text = in->key;
}

static void longest_result(const struct longest *longest, struct longest *out)
{
    *out = *longest;
}

MR_AGGREGATE(test_longest, event, longest, longest, longest_add, longest_result);

MR_REDUCE(test_reduce, event)
{
    if (add_sleep_us > 0)
        usleep(add_sleep_us);
    accumulated->value += in->value;
}

/* ---- graphs ---- */

static json_t *schema_of(const char *text)
{
    json_t *schema = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(schema);
    return schema;
}

#define EVENT_SCHEMA "[{\"name\":\"key\",\"type\":\"STRING\",\"nullable\":false},{\"name\":\"value\",\"type\":\"BIGINT\",\"nullable\":false}]"
#define RESULT_SCHEMA                                                                                                  \
    "[{\"name\":\"key\",\"type\":\"STRING\",\"nullable\":false},{\"name\":\"start\",\"type\":\"TIMESTAMP\",\"nullable\":false},"                   \
    "{\"name\":\"end\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"sum\",\"type\":\"BIGINT\",\"nullable\":false},"                      \
    "{\"name\":\"count\",\"type\":\"BIGINT\",\"nullable\":false}]"
#define BUILTIN_SCHEMA                                                                                                 \
    "[{\"name\":\"key\",\"type\":\"STRING\",\"nullable\":false},{\"name\":\"window_start\",\"type\":\"TIMESTAMP\",\"nullable\":false},"            \
    "{\"name\":\"window_end\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"sum\",\"type\":\"BIGINT\",\"nullable\":true},"               \
    "{\"name\":\"count\",\"type\":\"BIGINT\",\"nullable\":false}]"

/* source -> window (parallelism) -> sink, and a sink of the late side output. */
static json_t *window_graph(json_t *options, const char *output_schema, int parallelism)
{
    json_t *keys = json_object_get(options, "key_columns");
    return json_pack("[{s:s,s:s,s:i,s:{},s:o},"
                     "{s:s,s:s,s:s,s:i,s:i,s:o,s:o,s:[{s:s,s:o}],s:[{s:i,s:i,s:i,s:s,s:O}]},"
                     "{s:s,s:s,s:i,s:{},s:[{s:i,s:i,s:i,s:s}]},"
                     "{s:s,s:s,s:i,s:{},s:[{s:i,s:i,s:i,s:s}]}]",
                     "name", "source", "type", "datagen-source", "parallelism", 1, "options", "schema", schema_of(EVENT_SCHEMA),
                     "name", "window", "type", "window", "uid", "window", "parallelism", parallelism, "max_parallelism", 8, "options", options,
                     "schema", schema_of(output_schema), "side_outputs", "tag", "late", "schema", schema_of(EVENT_SCHEMA),
                     "inputs", "source", 0, "side_output", -1, "input", 0, "partitioning", json_array_size(keys) > 0 ? "HASH" : "GLOBAL",
                         "key_columns", keys,
                     "name", "sink", "type", "blackhole-sink", "parallelism", 3, "options",
                     "inputs", "source", 1, "side_output", -1, "input", 0, "partitioning", "REBALANCE",
                     "name", "late", "type", "blackhole-sink", "parallelism", 3, "options",
                     "inputs", "source", 1, "side_output", 0, "input", 0, "partitioning", "REBALANCE");
}

/* ---- brute force ---- */

#define KEYS 5
#define EVENTS 3000

struct plan {
    const char *assigner;
    int64_t size, slide, offset, gap, lateness;
    const char *function; /* JSON members of the options */
    const char *schema;
};

struct event_at {
    int key;
    int64_t value;
    int64_t time;
};

struct open_window { /* of the model */
    int key;
    int64_t start, end;
    int64_t sum, count;
    bool is_fired;
};

struct model {
    const struct plan *plan;
    struct open_window windows[4096];
    int window_count;
    int64_t watermarks[KEYS]; /* of the subtask that has the key; never falls */
    json_t *rows; /* what should have come out, in any order within one step */
    uint64_t late, filtered;
};

static void write_key(char text[32], int key)
{
    snprintf(text, 32, key % 2 == 0 ? "k%d" : "a long key, not inlined %d", key);
}

static void model_emit(struct model *model, struct open_window *window)
{
    char key[32];
    write_key(key, window->key);
    window->is_fired = true;
    json_array_append_new(model->rows, json_pack("[s,I,I,I,I]", key, window->start, window->end, window->sum, window->count));
}

static void model_add_to(struct model *model, int key, int64_t start, int64_t end, const struct event_at *event)
{
    struct open_window *window = NULL;
    for (int i = 0; i < model->window_count && window == NULL; i++)
        if (model->windows[i].key == key && model->windows[i].start == start && model->windows[i].end == end)
            window = &model->windows[i];
    if (window == NULL) {
        window = &model->windows[model->window_count++];
        *window = (struct open_window){.key = key, .start = start, .end = end};
    }
    window->sum += event->value;
    window->count++;
    if (end - 1 <= model->watermarks[key])
        model_emit(model, window);
}

static void model_session(struct model *model, const struct event_at *event)
{
    struct open_window merged = {.key = event->key, .start = event->time, .end = event->time + model->plan->gap, .sum = event->value, .count = 1};
    bool is_merged = true, any = false;
    while (is_merged) {
        is_merged = false;
        for (int i = 0; i < model->window_count; i++) {
            struct open_window *other = &model->windows[i];
            if (other->key != event->key || other->start > merged.end || other->end < merged.start)
                continue;
            merged.start = other->start < merged.start ? other->start : merged.start;
            merged.end = other->end > merged.end ? other->end : merged.end;
            merged.sum += other->sum;
            merged.count += other->count;
            *other = model->windows[--model->window_count];
            is_merged = any = true;
            break;
        }
    }
    if (!any && merged.end - 1 + model->plan->lateness <= model->watermarks[event->key]) {
        model->late++;
        return;
    }
    model->windows[model->window_count++] = merged;
    if (merged.end - 1 <= model->watermarks[event->key])
        model_emit(model, &model->windows[model->window_count - 1]);
}

static void model_event(struct model *model, const struct event_at *event)
{
    const struct plan *plan = model->plan;
    if (plan->gap > 0) {
        model_session(model, event);
        return;
    }
    bool is_in_any = false, is_taken = false;
    for (int64_t start = -200 * plan->slide + plan->offset; start <= event->time; start += plan->slide) {
        if (event->time >= start + plan->size)
            continue;
        is_in_any = true;
        if (start + plan->size - 1 + plan->lateness <= model->watermarks[event->key])
            continue;
        is_taken = true;
        model_add_to(model, event->key, start, start + plan->size, event);
    }
    if (!is_in_any)
        model->filtered++;
    else if (!is_taken)
        model->late++;
}

static void model_watermark(struct model *model, int key, int64_t watermark)
{
    if (watermark <= model->watermarks[key])
        return;
    model->watermarks[key] = watermark;
    for (int i = 0; i < model->window_count; i++) {
        struct open_window *window = &model->windows[i];
        if (window->key != key)
            continue;
        if (!window->is_fired && window->end - 1 <= watermark)
            model_emit(model, window);
        if (window->end - 1 + model->plan->lateness <= watermark)
            *window = model->windows[--model->window_count], i--;
    }
}

/* ---- comparing ---- */

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **sorted_lines(const json_t *rows)
{
    size_t count = json_array_size(rows);
    char **lines = calloc(count + 1, sizeof *lines);
    for (size_t i = 0; i < count; i++)
        lines[i] = json_dumps(json_array_get(rows, i), JSON_COMPACT);
    qsort(lines, count, sizeof *lines, compare_text);
    return lines;
}

static void assert_same_rows(const json_t *expected, const json_t *actual, const char *what)
{
    char **a = sorted_lines(expected), **b = sorted_lines(actual);
    for (size_t i = 0; a[i] != NULL || b[i] != NULL; i++) {
        ck_assert_msg(a[i] != NULL && b[i] != NULL && strcmp(a[i], b[i]) == 0, "%s: row %zu: expected %s, got %s (%zu and %zu rows)", what, i,
                      a[i] != NULL ? a[i] : "nothing", b[i] != NULL ? b[i] : "nothing", json_array_size(expected), json_array_size(actual));
        free(a[i]);
        free(b[i]);
    }
    free(a);
    free(b);
}

static uint64_t random_state;
static uint64_t random_next(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return random_state >> 33;
}

static json_t *plan_options(const struct plan *plan)
{
    json_t *options = json_pack("{s:{s:s,s:s,s:I,s:I,s:I,s:I},s:I,s:i,s:[i]}", "assigner", "type", plan->assigner, "time", "event", "size_ms",
                                plan->size > 0 ? plan->size : (int64_t)1, "slide_ms", plan->slide > 0 ? plan->slide : (int64_t)1, "offset_ms",
                                plan->offset, "gap_ms", plan->gap > 0 ? plan->gap : (int64_t)1, "allowed_lateness_ms", plan->lateness,
                                "late_side_output", 0, "key_columns", 0);
    json_t *function = json_loads(plan->function, 0, NULL);
    ck_assert_ptr_nonnull(function);
    json_object_update(options, function);
    json_decref(function);
    return options;
}

/* Splits rows by owner among chains as the exchange would. */
static void send_to_owners(struct chain_harness *chains, uint32_t count, json_t *rows, json_t *times)
{
    struct schema *schema = chain_harness_gate_schema(&chains[0], 0);
    struct batch *batch = harness_batch(schema, rows, times);
    uint64_t hashes[512];
    uint32_t key = 0, taken[512];
    batch_hash_rows(batch, &key, 1, hashes);
    for (uint32_t chain = 0; chain < count; chain++) {
        uint32_t taken_count = 0;
        for (uint32_t i = 0; i < batch->row_count; i++)
            if (key_group_owner(key_group_of_hash(hashes[i], 8), 8, count) == chain)
                taken[taken_count++] = i;
        if (taken_count == 0)
            continue;
        struct batch *part = batch_take(batch, taken, taken_count);
        ck_assert_ptr_null(operator_chain_process(chains[chain].chain, 0, part));
        batch_unref(part);
    }
    batch_unref(batch);
    json_decref(rows);
    json_decref(times);
}

static void collect(json_t *into, struct chain_harness *chains, uint32_t count, uint32_t output)
{
    for (uint32_t i = 0; i < count; i++)
        json_array_extend(into, chains[i].collectors[output].rows);
}

static void start_chains(struct chain_harness *chains, const struct plan *plan, uint32_t count, const struct chain_restore *restore)
{
    json_t *graph = window_graph(plan_options(plan), plan->schema, (int)count);
    for (uint32_t i = 0; i < count; i++)
        chain_harness_init(&chains[i], graph, 1, i, restore);
    json_decref(graph);
}

/* Which chain of so many has the key. */
static uint32_t owner_of(struct chain_harness *chain, int key, uint32_t count)
{
    char text[32];
    uint64_t hash;
    uint32_t column = 0;
    write_key(text, key);
    json_t *rows = json_pack("[[s,i]]", text, 0), *times = json_pack("[i]", 0);
    struct batch *batch = harness_batch(chain_harness_gate_schema(chain, 0), rows, times);
    batch_hash_rows(batch, &column, 1, &hash);
    batch_unref(batch);
    json_decref(rows);
    json_decref(times);
    return key_group_owner(key_group_of_hash(hash, 8), 8, count);
}

/* Uneven: each chain as far as it happens to be, as at the cut of an unaligned checkpoint. */
static void advance(struct model *model, struct chain_harness *chains, uint32_t count, int64_t watermark, bool is_uneven)
{
    for (uint32_t i = 0; i < count; i++) {
        int64_t own = is_uneven ? watermark - (int64_t)(random_next() % 150) : watermark;
        chain_harness_watermark(&chains[i], 0, own);
        for (int key = 0; key < KEYS; key++)
            if (owner_of(&chains[i], key, count) == i)
                model_watermark(model, key, own);
    }
}

static void run_plan(const struct plan *plan, uint64_t seed, bool is_uneven)
{
    static struct model model;
    struct chain_harness chains[3];
    uint32_t chain_count = 2;
    char what[128];
    random_state = seed;
    snprintf(what, sizeof what, "%s%s size %" PRId64 " slide %" PRId64 " offset %" PRId64 " lateness %" PRId64 " %s seed %" PRIu64,
             is_uneven ? "uneven " : "", plan->assigner,
             plan->size, plan->slide, plan->offset, plan->lateness, plan->function, seed);
    model = (struct model){.plan = plan, .rows = json_array()};
    for (int key = 0; key < KEYS; key++)
        model.watermarks[key] = TIME_MIN;
    json_t *out = json_array(), *late = json_array(), *handles = json_array(), *books = json_object();
    uint64_t filtered = 0;
    char *folder = temp_folder_create();
    start_chains(chains, plan, chain_count, NULL);
    int64_t clock = 0;
    for (int sent = 0; sent < EVENTS;) {
        json_t *rows = json_array(), *times = json_array();
        int count = 1 + (int)(random_next() % 60);
        for (int i = 0; i < count; i++, sent++) {
            struct event_at event = {(int)(random_next() % KEYS), (int64_t)(random_next() % 100), 0};
            clock += (int64_t)(random_next() % 9);
            event.time = clock - (int64_t)(random_next() % 120);
            char key[32];
            write_key(key, event.key);
            json_array_append_new(rows, json_pack("[s,I]", key, event.value));
            json_array_append_new(times, json_integer(event.time));
            model_event(&model, &event);
        }
        send_to_owners(chains, chain_count, rows, times);
        if (random_next() % 3 == 0)
            advance(&model, chains, chain_count, clock - 60, is_uneven);
        if (random_next() % 12 == 0) { /* stop and restore at another parallelism */
            json_array_clear(handles);
            json_object_clear(books);
            for (uint32_t i = 0; i < chain_count; i++) {
                chain_harness_snapshot(&chains[i], folder, 1, handles, books);
                json_t *own = chain_harness_books(&chains[i], 0);
                filtered += books_count(own, "filtered");
                ck_assert_uint_eq(books_count(own, "late"), 0);
                ck_assert_uint_eq(books_count(own, "rows_out"), json_array_size(chains[i].collectors[0].rows));
                ck_assert_uint_eq(books_count(own, "side_rows_out"), json_array_size(chains[i].collectors[1].rows));
                json_decref(own);
            }
            collect(out, chains, chain_count, 0);
            collect(late, chains, chain_count, 1);
            for (uint32_t i = 0; i < chain_count; i++)
                chain_harness_finish(&chains[i]);
            chain_count = 1 + (uint32_t)(random_next() % 3);
            start_chains(chains, plan, chain_count, &(struct chain_restore){folder, handles, NULL});
        }
    }
    for (int key = 0; key < KEYS; key++)
        model_watermark(&model, key, INT64_MAX - 1000000);
    for (uint32_t i = 0; i < chain_count; i++) {
        ck_assert_ptr_null(operator_chain_end_input(chains[i].chain, true));
        json_t *own = chain_harness_books(&chains[i], 0);
        filtered += books_count(own, "filtered");
        json_decref(own);
    }
    collect(out, chains, chain_count, 0);
    collect(late, chains, chain_count, 1);
    assert_same_rows(model.rows, out, what);
    ck_assert_msg(json_array_size(late) == model.late, "%s: %zu late rows, expected %" PRIu64, what, json_array_size(late), model.late);
    ck_assert_uint_eq(filtered, model.filtered);
    for (uint32_t i = 0; i < chain_count; i++)
        chain_harness_finish(&chains[i]);
    json_decref(out);
    json_decref(late);
    json_decref(handles);
    json_decref(books);
    json_decref(model.rows);
    temp_folder_remove(folder);
}

#define AGGREGATE "{\"aggregate\":\"test_sum\",\"window_function\":\"test_with_bounds\"}"
#define REDUCE "{\"reduce\":\"test_reduce\"}"
#define ELEMENTS "{\"window_function\":\"test_all_elements\"}"
#define BUILTIN "{\"builtin\":[{\"function\":\"sum\",\"column\":1,\"as\":\"sum\"},{\"function\":\"count\",\"column\":-1,\"as\":\"count\"}]}"

static const struct plan plans[] = {
    {"tumbling", 100, 100, 0, 0, 0, AGGREGATE, RESULT_SCHEMA},
    {"tumbling", 100, 100, -30, 0, 80, AGGREGATE, RESULT_SCHEMA},
    {"tumbling", 7, 7, 3, 0, 0, ELEMENTS, RESULT_SCHEMA},
    {"tumbling", 64, 64, 0, 0, 40, BUILTIN, BUILTIN_SCHEMA},
    {"sliding", 100, 30, 0, 0, 0, AGGREGATE, RESULT_SCHEMA},
    {"sliding", 90, 30, 10, 0, 50, ELEMENTS, RESULT_SCHEMA},
    {"sliding", 20, 50, 5, 0, 0, BUILTIN, BUILTIN_SCHEMA},
    {"session", 0, 0, 0, 20, 0, AGGREGATE, RESULT_SCHEMA},
    {"session", 0, 0, 0, 15, 60, ELEMENTS, RESULT_SCHEMA},
    {"session", 0, 0, 0, 30, 25, BUILTIN, BUILTIN_SCHEMA},
};

START_TEST(windows_match_brute_force)
{
    for (uint64_t seed = 1; seed <= 4; seed++)
        run_plan(&plans[_i], seed, false);
}
END_TEST

/* The subtasks of an unaligned checkpoint are not equally far. After a rescale a key's event time goes on where its old subtask was: what
 * had fired does not fire again, and what was late is late, once. */
START_TEST(uneven_event_times_match_brute_force)
{
    for (uint64_t seed = 1; seed <= 4; seed++)
        run_plan(&plans[_i], seed, true);
}
END_TEST

START_TEST(reduce_and_text_accumulators)
{
    static const struct plan reduce = {"tumbling", 100, 100, 0, 0, 0, REDUCE, EVENT_SCHEMA};
    static const struct plan longest = {"tumbling", 100, 100, 0, 0, 0, "{\"aggregate\":\"test_longest\"}",
                                        "[{\"name\":\"text\",\"type\":\"STRING\",\"nullable\":false}]"};
    struct chain_harness chain;
    start_chains(&chain, &reduce, 1, NULL);
    chain_harness_send(&chain, 0, json_pack("[[s,i],[s,i],[s,i]]", "a key that is long", 1, "b", 2, "a key that is long", 40),
                       json_pack("[i,i,i]", 1, 2, 99));
    chain_harness_watermark(&chain, 0, 99);
    json_t *expected = json_pack("[[s,i],[s,i]]", "a key that is long", 41, "b", 2);
    assert_same_rows(expected, chain.collectors[0].rows, "reduce");
    ck_assert_int_eq(json_integer_value(json_array_get(chain.collectors[0].times, 0)), 99);
    json_decref(expected);
    chain_harness_finish(&chain);
    start_chains(&chain, &longest, 1, NULL);
    chain_harness_send(&chain, 0, json_pack("[[s,i],[s,i]]", "some long text that is not inlined", 1, "b", 2), json_pack("[i,i]", 1, 2));
    chain_harness_send(&chain, 0, json_pack("[[s,i],[s,i]]", "some long text that is not inlined", 1, "b", 2), json_pack("[i,i]", 1, 2));
    chain_harness_watermark(&chain, 0, 99);
    expected = json_pack("[[s],[s]]", "some long text that is not inlined", "b");
    assert_same_rows(expected, chain.collectors[0].rows, "text accumulator");
    json_decref(expected);
    chain_harness_finish(&chain);
}
END_TEST

/* Streams of keys that repeat much, little and hardly at all; keys that differ in one byte anywhere, with hashes that collide in
 * the slots or altogether. */
struct key_stream {
    uint32_t key_count;
    uint32_t length_max;
    uint64_t hash_mask;
};
static const struct key_stream key_streams[] = {{6, 9, UINT64_MAX}, {300, 20, UINT64_MAX}, {5000, 30, UINT64_MAX}, {1000000, 12, UINT64_MAX},
                                                {50, 16, 3},        {3000, 12, 1023},      {1, 0, 0},             {700, 12, UINT64_C(0xfff) << 40}};

static uint32_t make_key(const struct key_stream *stream, uint32_t number, uint8_t *bytes)
{
    uint32_t length = stream->length_max == 0 ? 0 : 1 + number % stream->length_max;
    memset(bytes, 'k', length);
    for (uint32_t i = 0, at = number; i < length && at > 0; i++, at /= 200)
        bytes[(i + number) % length] = (uint8_t)(at % 200);
    return length;
}

static void check_groups(struct window_groups *groups, const struct state_rows *rows)
{
    uint32_t seen = 0;
    window_groups_find(groups, rows);
    ck_assert_uint_le(groups->count, rows->count);
    for (uint32_t i = 0; i < rows->count; i++) {
        uint32_t group = groups->of_row[i], row = rows->rows != NULL ? rows->rows[i] : i;
        ck_assert_uint_le(group, seen);
        ck_assert_uint_lt(group, groups->count);
        seen += group == seen;
        uint32_t first = groups->rows[group], length = rows->key_offsets[row + 1] - rows->key_offsets[row];
        ck_assert_uint_le(first, row);
        ck_assert_uint_eq(length, rows->key_offsets[first + 1] - rows->key_offsets[first]);
        ck_assert_mem_eq(rows->keys + rows->key_offsets[row], rows->keys + rows->key_offsets[first], length);
    }
    ck_assert_uint_eq(seen, groups->count);
}

START_TEST(groups_have_one_key_each)
{
    enum { ROWS = 512, BATCHES = 70 };
    static uint8_t keys[ROWS * 32];
    static uint32_t offsets[ROWS + 1], selection[ROWS];
    static uint64_t hashes[ROWS];
    const struct key_stream *stream = &key_streams[_i];
    struct window_groups groups;
    window_groups_init(&groups);
    random_state = (uint64_t)_i + 1;
    for (int batch = 0; batch < BATCHES; batch++) {
        uint32_t selected = 0;
        for (uint32_t row = 0; row < ROWS; row++) {
            uint32_t length = make_key(stream, (uint32_t)(random_next() % stream->key_count), keys + offsets[row]);
            offsets[row + 1] = offsets[row] + length;
            hashes[row] = UINT64_C(1469598103934665603);
            for (uint32_t i = 0; i < length; i++)
                hashes[row] = (hashes[row] ^ keys[offsets[row] + i]) * UINT64_C(1099511628211);
            hashes[row] &= stream->hash_mask;
            if (random_next() % 3 != 0)
                selection[selected++] = row;
        }
        check_groups(&groups, &(struct state_rows){.count = ROWS, .hashes = hashes, .keys = keys, .key_offsets = offsets});
        if (stream->key_count == 6)
            ck_assert_uint_eq(groups.count, 6);
        check_groups(&groups, &(struct state_rows){.count = selected, .rows = selection, .hashes = hashes, .keys = keys, .key_offsets = offsets});
    }
    window_groups_finish(&groups);
}
END_TEST

/* Batches of thousands of rows, with hot keys and with keys that hardly repeat, through every way of folding in place. */
static void count_keys(const char *options, uint32_t key_count, const char *schema, size_t sum_column)
{
    enum { ROWS = 2000, BATCHES = 2 };
    const struct plan plan = {"tumbling", 100, 100, 0, 0, 0, options, schema};
    int64_t *sums = calloc(key_count, sizeof *sums);
    struct chain_harness chain;
    start_chains(&chain, &plan, 1, NULL);
    for (int batch = 0; batch < BATCHES; batch++) {
        json_t *rows = json_array(), *times = json_array();
        for (int row = 0; row < ROWS; row++) {
            uint32_t key = (uint32_t)(random_next() % key_count);
            char text[24];
            snprintf(text, sizeof text, "%0*" PRIu32, (int)(key % 18 + 1), key);
            json_array_append_new(rows, json_pack("[s,i]", text, batch + row));
            json_array_append_new(times, json_integer(100 + row % 100));
            sums[key] += batch + row;
        }
        chain_harness_send(&chain, 0, rows, times);
    }
    chain_harness_watermark(&chain, 0, 199);
    json_t *row;
    size_t index, fired = 0;
    json_array_foreach(chain.collectors[0].rows, index, row)
    {
        uint32_t key = (uint32_t)strtoul(json_string_value(json_array_get(row, 0)), NULL, 10);
        ck_assert_int_eq(json_integer_value(json_array_get(row, sum_column)), sums[key]);
        sums[key] = 0;
        fired++;
    }
    for (uint32_t key = 0; key < key_count; key++)
        ck_assert_int_eq(sums[key], 0);
    ck_assert_uint_gt(fired, 0);
    free(sums);
    chain_harness_finish(&chain);
}

START_TEST(hot_and_rare_keys)
{
    static const uint32_t key_counts[] = {1, 6, 1500, 1000000};
    random_state = 7;
    count_keys(AGGREGATE, key_counts[_i], RESULT_SCHEMA, 3);
    count_keys(BUILTIN, key_counts[_i], BUILTIN_SCHEMA, 3);
    count_keys(REDUCE, key_counts[_i], EVENT_SCHEMA, 1);
}
END_TEST

START_TEST(window_all_has_one_key)
{
    json_t *options = json_pack("{s:{s:s,s:s,s:i},s:[],s:[{s:s,s:i,s:s},{s:s,s:i,s:s},{s:s,s:i,s:s}]}", "assigner", "type", "tumbling",
                                "time", "event",
                                "size_ms", 10, "key_columns", "builtin", "function", "max", "column", 1, "as", "max", "function", "min", "column", 1,
                                "as", "min", "function", "avg", "column", 1, "as", "avg");
    json_t *graph = window_graph(options,
                                 "[{\"name\":\"window_end\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"max\",\"type\":\"BIGINT\",\"nullable\":true},"
                                 "{\"name\":\"min\",\"type\":\"BIGINT\",\"nullable\":true},{\"name\":\"avg\",\"type\":\"DOUBLE\",\"nullable\":true}]",
                                 1);
    struct chain_harness chain;
    chain_harness_init(&chain, graph, 1, 0, NULL);
    chain_harness_send(&chain, 0, json_pack("[[s,i],[s,i],[s,i]]", "a", -5, "b", 2, "c", 9), json_pack("[i,i,i]", 1, 2, 3));
    chain_harness_watermark(&chain, 0, 9);
    json_t *expected = json_pack("[[i,i,i,f]]", 10, 9, -5, 2.0);
    assert_same_rows(expected, chain.collectors[0].rows, "window all");
    json_decref(expected);
    chain_harness_finish(&chain);
    json_decref(graph);
}
END_TEST

START_TEST(processing_time_windows_fire_by_the_clock)
{
    json_t *options = json_pack("{s:{s:s,s:s,s:i},s:[i],s:s,s:s}", "assigner", "type", "tumbling", "time", "processing", "size_ms", 5,
                                "key_columns", 0, "aggregate", "test_sum", "window_function", "test_with_bounds");
    json_t *graph = window_graph(options, RESULT_SCHEMA, 1);
    struct chain_harness chain;
    chain_harness_init(&chain, graph, 1, 0, NULL);
    chain_harness_send(&chain, 0, json_pack("[[s,i]]", "a", 7), NULL);
    int64_t wake = operator_chain_next_wake_ms(chain.chain);
    ck_assert_int_eq(wake % 5, 0);
    ck_assert_ptr_null(operator_chain_wake(chain.chain, wake - 1));
    ck_assert_uint_eq(json_array_size(chain.collectors[0].rows), 0);
    ck_assert_ptr_null(operator_chain_wake(chain.chain, wake));
    ck_assert_uint_eq(json_array_size(chain.collectors[0].rows), 1);
    ck_assert_int_eq(operator_chain_next_wake_ms(chain.chain), INT64_MAX);
    chain_harness_send(&chain, 0, json_pack("[[s,i]]", "a", 7), NULL);
    ck_assert_ptr_null(operator_chain_end_input(chain.chain, true));
    ck_assert_uint_eq(json_array_size(chain.collectors[0].rows), 2);
    chain_harness_finish(&chain);
    json_decref(graph);
}
END_TEST

/* Stops a chain and starts another one, of another plan, from its state. */
static struct error *try_restart(struct chain_harness *chain, const struct plan *plan)
{
    char *folder = temp_folder_create();
    json_t *handles = json_array(), *books = json_object(), *graph = window_graph(plan_options(plan), plan->schema, 1);
    chain_harness_snapshot(chain, folder, 1, handles, books);
    chain_harness_finish(chain);
    struct error *err = chain_harness_try(chain, graph, 1, 0, &(struct chain_restore){folder, handles, NULL});
    json_decref(graph);
    json_decref(handles);
    json_decref(books);
    temp_folder_remove(folder);
    return err;
}

/* Windows of the old size keep their bounds and take no more rows, but where the new ones have the same bounds. */
START_TEST(restored_windows_of_another_size_keep_their_bounds)
{
    static const struct plan hundred = {"tumbling", 100, 100, 0, 0, 0, AGGREGATE, RESULT_SCHEMA};
    static const struct plan fifty = {"tumbling", 50, 50, 0, 0, 0, AGGREGATE, RESULT_SCHEMA};
    static const struct plan sliding = {"sliding", 100, 50, 0, 0, 0, AGGREGATE, RESULT_SCHEMA};
    struct chain_harness chain;
    start_chains(&chain, &hundred, 1, NULL);
    chain_harness_send(&chain, 0, json_pack("[[s,i],[s,i],[s,i]]", "a", 1, "a", 2, "a", 4), json_pack("[i,i,i]", 10, 90, 110));
    ck_assert_ptr_null(try_restart(&chain, &fifty));
    chain_harness_send(&chain, 0, json_pack("[[s,i],[s,i],[s,i]]", "a", 8, "a", 16, "a", 32), json_pack("[i,i,i]", 95, 120, 190));
    chain_harness_watermark(&chain, 0, 99);
    json_t *expected = json_pack("[[s,i,i,i,i],[s,i,i,i,i]]", "a", 0, 100, 3, 2, "a", 50, 100, 8, 1);
    assert_same_rows(expected, chain.collectors[0].rows, "another size");
    json_decref(expected);
    ck_assert_ptr_null(try_restart(&chain, &sliding));
    chain_harness_send(&chain, 0, json_pack("[[s,i]]", "a", 64), json_pack("[i]", 195));
    ck_assert_ptr_null(operator_chain_end_input(chain.chain, true));
    expected = json_pack("[[s,i,i,i,i],[s,i,i,i,i],[s,i,i,i,i],[s,i,i,i,i]]", "a", 100, 150, 16, 1, "a", 100, 200, 68, 2, "a", 150, 200, 32, 1,
                         "a", 150, 250, 64, 1);
    assert_same_rows(expected, chain.collectors[0].rows, "another size again");
    json_decref(expected);
    chain_harness_finish(&chain);
}
END_TEST

/* Neither kind can go on with what the other kept: to start without it would lose its rows silently. */
START_TEST(windows_of_another_kind_are_not_restored)
{
    static const struct plan tumbling = {"tumbling", 100, 100, 0, 0, 0, AGGREGATE, RESULT_SCHEMA};
    static const struct plan session = {"session", 0, 0, 0, 20, 0, AGGREGATE, RESULT_SCHEMA};
    for (int i = 0; i < 2; i++) {
        struct chain_harness chain;
        start_chains(&chain, i == 0 ? &tumbling : &session, 1, NULL);
        chain_harness_send(&chain, 0, json_pack("[[s,i]]", "a", 1), json_pack("[i]", 10));
        char *text = error_take_text(try_restart(&chain, i == 0 ? &session : &tumbling));
        ck_assert_ptr_nonnull(strstr(text, i == 0 ? "the checkpoint holds tumbling or sliding windows, the program wants session windows"
                                                  : "the checkpoint holds session windows, the program wants tumbling or sliding windows"));
        free(text);
        chain_harness_finish(&chain);
    }
}
END_TEST

/* Windows of many keys that fire at once are many calls, not a long one, for the watchdog; a cancelled task does not fire the rest. */
START_TEST(firing_windows_are_many_calls)
{
    enum { KEYS_FIRED = 1000 };
    static const struct plan firing[] = {
        {"tumbling", 100, 100, 0, 0, 0, "{\"aggregate\":\"test_sum\",\"window_function\":\"test_cancelling\"}", RESULT_SCHEMA},
        {"session", 0, 0, 0, 20, 0, "{\"aggregate\":\"test_sum\",\"window_function\":\"test_cancelling\"}", RESULT_SCHEMA},
    };
    struct chain_harness chain;
    start_chains(&chain, &firing[_i / 2], 1, NULL);
    json_t *rows = json_array(), *times = json_array();
    for (int i = 0; i < KEYS_FIRED; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        json_array_append_new(rows, json_pack("[s,i]", key, 1));
        json_array_append_new(times, json_integer(10));
    }
    chain_harness_send(&chain, 0, rows, times);
    calls_left = _i % 2 == 0 ? KEYS_FIRED + 1 : KEYS_FIRED / 2;
    cancelled_task = &chain.is_aborting;
    unsigned long long steps = chain.step_count;
    struct error *err = operator_chain_watermark(chain.chain, 0, 200);
    ck_assert_uint_ge(chain.step_count - steps, KEYS_FIRED / 50);
    if (_i % 2 == 0) {
        ck_assert_ptr_null(err);
        ck_assert_int_eq(calls_left, 1);
    } else {
        char *text = error_take_text(err);
        ck_assert_ptr_nonnull(strstr(text, "was cancelled"));
        free(text);
        ck_assert_int_eq(calls_left, 0);
    }
    chain_harness_finish(&chain);
}
END_TEST

#define SLOW_ROWS 80

/* Rows that take milliseconds each, in every kind of window: all in one window, in several, in windows that have fired, late. */
struct slow_case {
    struct plan plan;
    int64_t step_ms;   /* between two rows */
    int64_t watermark; /* before the rows */
};
static const struct slow_case slow_cases[] = {
    {{"tumbling", 1000, 1000, 0, 0, 0, AGGREGATE, RESULT_SCHEMA}, 5, -1},
    {{"tumbling", 1000, 1000, 0, 0, 0, REDUCE, EVENT_SCHEMA}, 5, -1},
    {{"tumbling", 30, 30, 0, 0, 0, AGGREGATE, RESULT_SCHEMA}, 7, -1},
    {{"tumbling", 100, 100, 0, 0, 1000, AGGREGATE, RESULT_SCHEMA}, 5, 250},
    {{"tumbling", 100, 100, 0, 0, 0, AGGREGATE, RESULT_SCHEMA}, 5, 250},
    {{"sliding", 1000, 500, 0, 0, 0, AGGREGATE, RESULT_SCHEMA}, 5, -1},
    {{"sliding", 60, 20, 0, 0, 0, REDUCE, EVENT_SCHEMA}, 7, -1},
    {{"sliding", 60, 20, 0, 0, 500, AGGREGATE, RESULT_SCHEMA}, 7, 200},
    {{"session", 0, 0, 0, 1000, 0, AGGREGATE, RESULT_SCHEMA}, 5, -1},
    {{"session", 0, 0, 0, 10, 0, REDUCE, EVENT_SCHEMA}, 7, -1},
};

/* What comes out, of both outputs; *slice_count: of the batch. */
static json_t *run_slow_case(const struct slow_case *slow, int *slice_count)
{
    json_t *batch = json_array(), *times = json_array(), *out = json_array();
    struct chain_harness chain;
    start_chains(&chain, &slow->plan, 1, NULL);
    chain_harness_watermark(&chain, 0, slow->watermark);
    for (int i = 0; i < SLOW_ROWS; i++) {
        json_array_append_new(batch, json_pack("[s,i]", i % 3 == 0 ? "a" : "b", i));
        json_array_append_new(times, json_integer(i * slow->step_ms));
    }
    chain_harness_send(&chain, 0, batch, times);
    chain_harness_watermark(&chain, 0, 100000);
    *slice_count = 1;
    for (; operator_chain_is_holding(chain.chain); ++*slice_count) {
        json_t *books = chain_harness_books(&chain, 0);
        ck_assert_uint_ge(books_count(books, "rows_in"), (uint64_t)*slice_count);
        ck_assert_uint_le(books_count(books, "rows_in"), SLOW_ROWS);
        json_decref(books);
        ck_assert_ptr_null(operator_chain_resume(chain.chain));
    }
    collect(out, &chain, 1, 0);
    collect(out, &chain, 1, 1);
    chain_harness_finish(&chain);
    return out;
}

START_TEST(slow_rows_are_handed_back)
{
    int slice_count;
    json_t *expected = run_slow_case(&slow_cases[_i], &slice_count);
    ck_assert_int_eq(slice_count, 1);
    add_sleep_us = 2000;
    chain_harness_set_slice(10 * 1000000);
    json_t *rows = run_slow_case(&slow_cases[_i], &slice_count);
    add_sleep_us = 0;
    chain_harness_set_slice(0);
    ck_assert_int_ge(slice_count, 3);
    ck_assert_uint_gt(json_array_size(rows), 0);
    assert_same_rows(expected, rows, slow_cases[_i].plan.assigner);
    json_decref(expected);
    json_decref(rows);
}
END_TEST

/* The clock may fire a window between two slices of its rows: of keys that came so far. */
START_TEST(slow_rows_of_processing_time)
{
    json_t *options = json_pack("{s:{s:s,s:s,s:i},s:[i],s:s,s:s}", "assigner", "type", "tumbling", "time", "processing", "size_ms", 40,
                                "key_columns", 0, "aggregate", "test_sum", "window_function", "test_with_bounds");
    json_t *graph = window_graph(options, RESULT_SCHEMA, 1), *batch = json_array(), *row;
    struct chain_harness chain;
    int64_t count = 0;
    int slice_count = 0;
    size_t index;
    chain_harness_set_slice(10 * 1000000);
    chain_harness_init(&chain, graph, 1, 0, NULL);
    for (int i = 0; i < SLOW_ROWS; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        json_array_append_new(batch, json_pack("[s,i]", key, 1));
    }
    add_sleep_us = 2000;
    chain_harness_send(&chain, 0, batch, NULL);
    for (; operator_chain_is_holding(chain.chain); slice_count++) {
        ck_assert_ptr_null(operator_chain_wake(chain.chain, clock_now_ms()));
        ck_assert_ptr_null(operator_chain_resume(chain.chain));
    }
    ck_assert_int_ge(slice_count, 4);
    ck_assert_ptr_null(operator_chain_end_input(chain.chain, true));
    json_array_foreach(chain.collectors[0].rows, index, row)
    {
        ck_assert_int_eq(json_integer_value(json_array_get(row, 4)), 1); /* each key has one row: an empty window would have none */
        count++;
    }
    ck_assert_int_eq(count, SLOW_ROWS);
    add_sleep_us = 0;
    chain_harness_set_slice(0);
    chain_harness_finish(&chain);
    json_decref(graph);
}
END_TEST

START_TEST(rows_without_event_time_are_refused)
{
    struct chain_harness chain;
    start_chains(&chain, &plans[0], 1, NULL);
    json_t *rows = json_pack("[[s,i]]", "a", 7);
    struct batch *batch = harness_batch(chain_harness_gate_schema(&chain, 0), rows, NULL);
    char *text = error_take_text(operator_chain_process(chain.chain, 0, batch));
    ck_assert_ptr_nonnull(strstr(text, "has no event time"));
    free(text);
    batch_unref(batch);
    json_decref(rows);
    chain_harness_finish(&chain);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("window");
    TCase *tcase = tcase_create("window");
    suite_add_tcase(suite, tcase);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, windows_match_brute_force, 0, (int)(sizeof plans / sizeof plans[0]));
    tcase_add_loop_test(tcase, uneven_event_times_match_brute_force, 0, (int)(sizeof plans / sizeof plans[0]));
    tcase_add_test(tcase, reduce_and_text_accumulators);
    tcase_add_loop_test(tcase, slow_rows_are_handed_back, 0, (int)(sizeof slow_cases / sizeof slow_cases[0]));
    tcase_add_test(tcase, slow_rows_of_processing_time);
    tcase_add_loop_test(tcase, groups_have_one_key_each, 0, (int)(sizeof key_streams / sizeof key_streams[0]));
    tcase_add_loop_test(tcase, hot_and_rare_keys, 0, 4);
    tcase_add_test(tcase, window_all_has_one_key);
    tcase_add_test(tcase, processing_time_windows_fire_by_the_clock);
    tcase_add_test(tcase, rows_without_event_time_are_refused);
    tcase_add_loop_test(tcase, firing_windows_are_many_calls, 0, 4);
    tcase_add_test(tcase, restored_windows_of_another_size_keep_their_bounds);
    tcase_add_test(tcase, windows_of_another_kind_are_not_restored);
    return run_suite(suite);
}
