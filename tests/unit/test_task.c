/* Tasks end to end in one process: exchanges, ends of data, checkpoints, stop, drain, cancel, failures. The operators are
 * this file's own (op_vtable_find is defined here instead of op_table.c), so that every row can be accounted for. */
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/columnar/batch_builder.h"
#include "taskmanager/ops/op_ticker.h"
#include "taskmanager/state/snapshot.h"
#include "tests/support/local_job.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SUBTASKS_MAX 8

/* What the sinks saw, by subtask. */
static atomic_llong sink_rows[SUBTASKS_MAX];
static atomic_llong sink_sum[SUBTASKS_MAX];
static atomic_llong sink_watermark[SUBTASKS_MAX];
static atomic_llong sink_ends[SUBTASKS_MAX];
static atomic_llong sink_committed[SUBTASKS_MAX];
static atomic_llong sink_restored[SUBTASKS_MAX];
static atomic_llong wrong_keys;
static atomic_llong source_position[SUBTASKS_MAX];
static atomic_int sink_sleep_us;
static atomic_int sink_row_sleep_us; /* a slow function: single rows, handed back when the slice is over */
static atomic_int fail_at_row;
static atomic_int source_checkpoint_sleep_us; /* half of it in the snapshot, all of it when the checkpoint is complete */

static void reset_counters(void)
{
    for (int i = 0; i < SUBTASKS_MAX; i++)
        sink_rows[i] = sink_sum[i] = sink_ends[i] = sink_committed[i] = sink_restored[i] = source_position[i] = 0;
    for (int i = 0; i < SUBTASKS_MAX; i++)
        sink_watermark[i] = TIME_MIN;
    wrong_keys = 0;
    sink_sleep_us = 0;
    sink_row_sleep_us = 0;
    fail_at_row = 0;
    source_checkpoint_sleep_us = 0;
}

static long long total(atomic_llong *counters)
{
    long long sum = 0;
    for (int i = 0; i < SUBTASKS_MAX; i++)
        sum += counters[i];
    return sum;
}

/* ---- a source of numbers: subtask s of p emits s, s + p, s + 2p … below rows (0: for ever) ---- */

struct test_op {
    struct op op;
    int64_t rows;
    int64_t next;
    int64_t sum;
    int64_t count;
};

static struct error *test_create(struct op_context *ctx, struct op **out)
{
    struct test_op *self = heap_new(struct test_op);
    self->op.ctx = ctx;
    self->op.vtable = op_vtable_find(ctx->spec->type);
    self->rows = json_integer_value(json_object_get(ctx->spec->options, "rows"));
    self->next = ctx->subtask_index;
    *out = &self->op;
    return NULL;
}

static struct error *test_open(struct op *op)
{
    (void)op;
    return NULL;
}

static void test_close(struct op *op)
{
    (void)op;
}

static void test_destroy(struct op *op)
{
    free(op);
}

static struct error *source_poll(struct op *op, uint32_t max_rows, enum source_status *status)
{
    struct test_op *self = (struct test_op *)op;
    struct batch_builder *builder = batch_builder_create(op->ctx->spec->schema, 512, true);
    int64_t last = -1;
    for (uint32_t i = 0; i < 512 && i < max_rows && (self->rows == 0 || self->next < self->rows); i++) {
        uint32_t row = batch_builder_add_row(builder);
        last = self->next;
        batch_builder_int64s(builder, 0)[row] = last;
        batch_builder_set_valid(builder, 0, row);
        batch_builder_set_event_time(builder, row, last);
        self->next += op->ctx->parallelism;
    }
    struct batch *batch = batch_builder_finish(builder);
    batch_builder_destroy(builder);
    source_position[op->ctx->subtask_index] = self->next;
    *status = batch != NULL ? SOURCE_MORE : SOURCE_END;
    if (batch == NULL)
        return NULL;
    TRY(op_emit(op, batch));
    return op_emit_watermark(op, last - 1);
}

static struct error *source_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    struct test_op *self = (struct test_op *)op;
    (void)checkpoint_id;
    usleep((useconds_t)source_checkpoint_sleep_us / 2);
    int64_t item[2] = {op->ctx->subtask_index, self->next};
    snapshot_add_union_item(snapshot, "positions", item, sizeof item);
    return NULL;
}

static struct error *source_complete(struct op *op, uint64_t checkpoint_id)
{
    (void)op;
    (void)checkpoint_id;
    usleep((useconds_t)source_checkpoint_sleep_us);
    return NULL;
}

static struct error *on_position(void *arg, const void *bytes, size_t length)
{
    struct test_op *self = arg;
    int64_t item[2];
    ck_assert_uint_eq(length, sizeof item);
    memcpy(item, bytes, sizeof item);
    if (item[0] == self->op.ctx->subtask_index)
        self->next = item[1];
    return NULL;
}

static struct error *source_restore(struct op *op, struct restored_state *state)
{
    return restored_state_items(state, "positions", on_position, op);
}

/* ---- a sink that counts, checks its keys and keeps its sum as state ---- */

static struct error *sink_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct test_op *self = (struct test_op *)op;
    uint32_t subtask = op->ctx->subtask_index;
    const int64_t *values = batch->columns[0].values;
    uint32_t key_column = 0, done = 0;
    struct op_ticker ticker = op_ticker_start(op);
    uint64_t *hashes = heap_alloc_array(batch->row_count, sizeof *hashes);
    batch_hash_rows(batch, &key_column, 1, hashes);
    bool is_keyed = op->ctx->spec->inputs[0].partitioning == PARTITION_HASH;
    for (uint32_t i = 0; i < batch->row_count; i++) {
        uint32_t group = key_group_of_hash(hashes[i], op->ctx->max_parallelism);
        if (is_keyed && (group < op->ctx->key_group_first || group > op->ctx->key_group_last))
            wrong_keys++;
        self->sum += values[i];
        done++;
        if (sink_row_sleep_us == 0)
            continue;
        usleep((useconds_t)sink_row_sleep_us);
        if (op_ticker_tick(&ticker))
            break;
    }
    free(hashes);
    op_hand_back(op, input, batch, done);
    self->count += done;
    sink_rows[subtask] = self->count;
    sink_sum[subtask] = self->sum;
    if (sink_sleep_us > 0)
        usleep((useconds_t)sink_sleep_us);
    if (fail_at_row > 0 && self->count >= fail_at_row)
        return error_new(USER_FUNCTION, "the sink fails on purpose");
    return NULL;
}

static struct error *sink_on_watermark(struct op *op, int64_t time, int64_t *forward)
{
    (void)forward;
    ck_assert_int_gt(time, sink_watermark[op->ctx->subtask_index]);
    sink_watermark[op->ctx->subtask_index] = time;
    return NULL;
}

static struct error *sink_end_input(struct op *op)
{
    sink_ends[op->ctx->subtask_index]++;
    return NULL;
}

static struct error *sink_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    struct test_op *self = (struct test_op *)op;
    (void)checkpoint_id;
    int64_t item[2] = {self->count, self->sum};
    snapshot_add_list_item(snapshot, "totals", item, sizeof item);
    return NULL;
}

static struct error *sink_complete(struct op *op, uint64_t checkpoint_id)
{
    (void)checkpoint_id;
    sink_committed[op->ctx->subtask_index] = ((struct test_op *)op)->count;
    return NULL;
}

static struct error *on_totals(void *arg, const void *bytes, size_t length)
{
    struct test_op *self = arg;
    int64_t item[2];
    ck_assert_uint_eq(length, sizeof item);
    memcpy(item, bytes, sizeof item);
    self->count += item[0];
    self->sum += item[1];
    sink_restored[self->op.ctx->subtask_index] += item[0];
    sink_rows[self->op.ctx->subtask_index] = self->count;
    sink_sum[self->op.ctx->subtask_index] = self->sum;
    return NULL;
}

static struct error *sink_restore(struct op *op, struct restored_state *state)
{
    return restored_state_items(state, "totals", on_totals, op);
}

static struct error *pass_process(struct op *op, uint32_t input, struct batch *batch)
{
    (void)input;
    return op_emit(op, batch_ref(batch));
}

static const struct op_vtable source_vtable = {.type = "test-source", .create = test_create, .restore = source_restore, .open = test_open,
                                               .poll = source_poll, .snapshot = source_snapshot, .checkpoint_complete = source_complete,
                                               .close = test_close, .destroy = test_destroy};
static const struct op_vtable pass_vtable = {.type = "test-pass", .create = test_create, .open = test_open, .process = pass_process,
                                             .close = test_close, .destroy = test_destroy};
static const struct op_vtable sink_vtable = {.type = "test-sink", .hands_back = true, .create = test_create, .restore = sink_restore,
                                             .open = test_open, .process = sink_process, .watermark = sink_on_watermark, .end_input = sink_end_input,
                                             .snapshot = sink_snapshot, .checkpoint_complete = sink_complete, .close = test_close,
                                             .destroy = test_destroy};

const struct op_vtable *op_vtable_find(const char *type)
{
    const struct op_vtable *all[] = {&source_vtable, &pass_vtable, &sink_vtable};
    for (size_t i = 0; i < 3; i++)
        if (strcmp(all[i]->type, type) == 0)
            return all[i];
    return NULL;
}

/* ---- graphs ---- */

struct shape {
    int sources, passes, sinks; /* parallelism */
    const char *first, *second; /* partitioning of the two edges */
    long long rows;
    const char *interval; /* of checkpoints; NULL: none */
};

/* Of the graphs that are made: */
static const char *aligned_timeout; /* of unaligned checkpoints; NULL: aligned ones */
static bool is_chained;

/* Every test runs with local channels, and once more over TCP. */
static uint32_t taskmanager_count;

static void setup_local(void)
{
    taskmanager_count = 1;
}

static void setup_remote(void)
{
    taskmanager_count = 2;
}

static json_t *edge_json(int source, const char *partitioning)
{
    json_t *edge = json_pack("{s:i,s:i,s:i,s:s}", "source", source, "side_output", -1, "input", 0, "partitioning", partitioning);
    if (strcmp(partitioning, "HASH") == 0)
        json_object_set_new(edge, "key_columns", json_pack("[i]", 0));
    return edge;
}

static json_t *operator_json(const char *name, const char *type, int parallelism, long long rows, json_t *inputs)
{
    return json_pack("{s:s,s:s,s:n,s:i,s:i,s:s,s:s,s:s,s:{s:I},s:[{s:s,s:s,s:b}],s:[],s:o}", "name", name, "type", type, "uid", "parallelism",
                     parallelism, "max_parallelism", 128, "slot_sharing_group", "default", "chaining", "NEVER", "description", name,
                         "options", "rows",
                     (json_int_t)rows, "schema", "name", "n", "type", "BIGINT", "nullable", 0, "side_outputs", "inputs", inputs);
}

static struct job_graph *graph_of(struct shape shape)
{
    json_t *config = json_object();
    if (shape.interval != NULL)
        json_object_set_new(config, "execution.checkpointing.interval", json_string(shape.interval));
    if (aligned_timeout != NULL) {
        json_object_set_new(config, "execution.checkpointing.unaligned.enabled", json_string("true"));
        json_object_set_new(config, "execution.checkpointing.aligned-checkpoint-timeout", json_string(aligned_timeout));
    }
    json_t *json = json_pack("{s:i,s:s,s:s,s:o,s:[o,o,o]}", "version", 1, "job_id", "00112233445566778899aabbccddeeff", "name", "test",
                             "config", config,
                             "operators", operator_json("source", "test-source", shape.sources, shape.rows, json_array()),
                             operator_json("pass", "test-pass", shape.passes, 0, json_pack("[o]", edge_json(0, shape.first))),
                             operator_json("sink", "test-sink", shape.sinks, 0, json_pack("[o]", edge_json(1, shape.second))));
    ck_assert_ptr_nonnull(json);
    for (size_t i = 0; i < 3 && is_chained; i++)
        json_object_set_new(json_array_get(json_object_get(json, "operators"), i), "chaining", json_string("ALWAYS"));
    struct job_graph *graph = NULL;
    struct error *err = job_graph_from_json(json, &graph);
    if (err != NULL)
        ck_abort_msg("%s", error_text(err));
    json_decref(json);
    return graph;
}

static void no_error(struct error *err)
{
    if (err == NULL)
        return;
    char *text = error_text(err);
    ck_abort_msg("%s", text);
}

static struct local_job *start(struct shape shape, const char *restore)
{
    struct job_graph *graph = graph_of(shape);
    struct local_job *job = NULL;
    no_error(local_job_start(graph, &(struct local_job_options){.restore_directory = restore, .taskmanager_count = taskmanager_count}, &job));
    job_graph_destroy(graph);
    return job;
}

static char directory[64];

static const char *fresh_directory(void)
{
    snprintf(directory, sizeof directory, "/tmp/test_task.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    return directory;
}

static void remove_directory(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
}

static void wait_for_rows(long long rows)
{
    for (int i = 0; i < 10000 && total(sink_rows) < rows; i++)
        usleep(1000);
    ck_assert_int_ge(total(sink_rows), rows);
}

static void check_all_rows(long long rows)
{
    ck_assert_int_eq(total(sink_rows), rows);
    ck_assert_int_eq(total(sink_sum), rows * (rows - 1) / 2);
    ck_assert_int_eq(wrong_keys, 0);
}

/* ---- tests ---- */

static const struct shape shapes[] = {
    {1, 1, 1, "FORWARD", "FORWARD", 100000, NULL},  {1, 1, 1, "HASH", "HASH", 100000, NULL},      {2, 3, 4, "HASH", "REBALANCE", 100000, NULL},
    {3, 2, 5, "REBALANCE", "HASH", 100000, NULL},   {2, 4, 2, "RESCALE", "RESCALE", 100000, NULL}, {4, 4, 1, "FORWARD", "GLOBAL", 100000, NULL},
    {4, 2, 3, "GLOBAL", "HASH", 100000, NULL},      {1, 8, 8, "REBALANCE", "HASH", 3, NULL},
};

START_TEST(bounded_jobs_deliver_every_row)
{
    struct shape shape = shapes[_i];
    reset_counters();
    struct local_job *job = start(shape, NULL);
    no_error(local_job_wait(job, 20000));
    check_all_rows(shape.rows);
    for (int i = 0; i < shape.sinks; i++) {
        ck_assert_int_eq(sink_ends[i], 1);
        ck_assert_int_eq(sink_watermark[i], TIME_MAX);
    }
    json_t *books = local_job_books(job);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(books, "source"), "rows_out")), shape.rows);
    json_decref(books);
    local_job_destroy(job);
}
END_TEST

START_TEST(broadcast_gives_everyone_everything)
{
    reset_counters();
    struct local_job *job = start((struct shape){2, 1, 3, "REBALANCE", "BROADCAST", 10000, NULL}, NULL);
    no_error(local_job_wait(job, 20000));
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(sink_rows[i], 10000);
    local_job_destroy(job);
}
END_TEST

START_TEST(rebalance_is_even_for_small_batches)
{
    reset_counters();
    struct local_job *job = start((struct shape){1, 4, 1, "REBALANCE", "GLOBAL", 10, NULL}, NULL);
    no_error(local_job_wait(job, 20000));
    json_t *metrics = local_job_metrics(job);
    size_t index;
    json_t *task;
    json_array_foreach(metrics, index, task)
        if (strstr(json_string_value(json_object_get(json_array_get(json_object_get(task, "operators"), 0), "name")), "pass") != NULL)
            ck_assert_int_ge(json_integer_value(json_object_get(task, "numRecordsIn")), 2);
    json_decref(metrics);
    local_job_destroy(job);
}
END_TEST

/* Stop with a savepoint anywhere, restore at any parallelism: the sum is that of one run. */
/* When a task ends meanwhile, once more; elsewhere, for others may still write there. */
static void checkpoint_at(struct local_job *job, char path[128])
{
    struct error *err;
    while ((err = local_job_checkpoint(job, path, "checkpoint", 60000)) != NULL && err->code == ERR_CONFLICT) {
        error_free(err);
        ck_assert_uint_lt(strlen(path), 127);
        strcat(path, "+");
    }
    no_error(err);
}

START_TEST(checkpoint_and_restore_lose_nothing)
{
    const long long rows = 400000;
    reset_counters();
    sink_sleep_us = 20000; /* the sources have rows left at the last checkpoint */
    fresh_directory();
    struct shape shape = {2, 2, 2, "REBALANCE", "HASH", rows, "1 h"};
    struct local_job *job = start(shape, NULL);
    char path[128];
    for (int i = 0; i < 3; i++) {
        wait_for_rows(rows / 20 * (i + 1));
        snprintf(path, sizeof path, "%s/chk-%d", directory, i);
        checkpoint_at(job, path);
    }
    local_job_destroy(job); /* what came after the checkpoint is lost and comes again */
    reset_counters();
    sink_sleep_us = 200;
    shape.passes = 3;
    shape.sinks = 5;
    job = start(shape, path);
    snprintf(path, sizeof path, "%s/more", directory);
    no_error(local_job_wait_with(job, path, 20, 30000));
    check_all_rows(rows);
    ck_assert_int_gt(total(sink_restored), 0);
    ck_assert_int_eq(total(sink_committed), rows);
    local_job_destroy(job);
    remove_directory();
}
END_TEST

/* ---- unaligned checkpoints ---- */

/* Rows in flight to the sink as the checkpoint's books say; and they balance: what the pass sent is there or was counted. */
static long long in_flight_of(const char *checkpoint)
{
    char path[192];
    snprintf(path, sizeof path, "%s/_local.json", checkpoint);
    json_t *json = json_load_file(path, 0, NULL);
    ck_assert_ptr_nonnull(json);
    long long sent = 0, counted = 0, in_flight = 0;
    const char *execution, *operator;
    json_t *by_operator, *books;
    json_object_foreach(json_object_get(json, "books"), execution, by_operator) {
        json_object_foreach(by_operator, operator, books) {
            long long in = json_integer_value(json_array_get(json_object_get(books, "rows_in"), 0));
            sent += json_integer_value(json_object_get(books, "rows_out"));
            counted += in;
            in_flight += json_integer_value(json_array_get(json_object_get(books, "rows_in_flight"), 0));
        }
    }
    json_decref(json);
    ck_assert_int_eq(sent, counted + in_flight); /* of the source and the pass: what they sent; of the pass and the sink: what came */
    return in_flight;
}

struct unaligned_case {
    struct shape first, second;
    const char *aligned_timeout;
    bool is_chained, is_chained_then;
};

static const struct unaligned_case unaligned_cases[] = {
    {{2, 2, 2, "REBALANCE", "HASH", 400000, "1 h"}, {2, 2, 2, "REBALANCE", "HASH", 400000, "1 h"}, "0", false, false},
    {{2, 2, 2, "REBALANCE", "HASH", 400000, "1 h"}, {2, 3, 5, "REBALANCE", "HASH", 400000, "1 h"}, "0", false, false},
    {{2, 4, 3, "HASH", "REBALANCE", 400000, "1 h"}, {2, 1, 2, "HASH", "REBALANCE", 400000, "1 h"}, "100 ms", false, false},
    {{2, 2, 2, "FORWARD", "FORWARD", 400000, "1 h"}, {2, 2, 2, "FORWARD", "FORWARD", 400000, "1 h"}, "0", false, true},
    {{2, 2, 2, "FORWARD", "FORWARD", 400000, "1 h"}, {2, 2, 2, "FORWARD", "FORWARD", 400000, "1 h"}, "0", true, false},
    {{2, 2, 2, "FORWARD", "FORWARD", 400000, "1 h"}, {2, 2, 2, "FORWARD", "FORWARD", 400000, "1 h"}, "50 ms", true, true},
};
#define UNALIGNED_CASE_COUNT ((int)(sizeof unaligned_cases / sizeof unaligned_cases[0]))

static void unaligned_checkpoint(struct local_job *job, char path[128], long long *spent_ms)
{
    struct timespec start_time, end_time;
    clock_gettime(CLOCK_MONOTONIC, &start_time);
    checkpoint_at(job, path);
    clock_gettime(CLOCK_MONOTONIC, &end_time);
    *spent_ms = (end_time.tv_sec - start_time.tv_sec) * 1000 + (end_time.tv_nsec - start_time.tv_nsec) / 1000000;
}

/* Sinks that take 2 ms a row have seconds of rows before them (16 batches of 512 rows would take 16 s): barriers do not wait for these, and
 * nothing is lost or doubled through two restores, whose second goes on from a checkpoint taken while the first was still being played. */
START_TEST(unaligned_checkpoints_lose_nothing)
{
    const struct unaligned_case *shapes_of = &unaligned_cases[_i];
    char path[128];
    long long spent_ms = 0;
    reset_counters();
    fresh_directory();
    sink_row_sleep_us = 2000;
    aligned_timeout = shapes_of->aligned_timeout;
    is_chained = shapes_of->is_chained;
    struct local_job *job = start(shapes_of->first, NULL);
    wait_for_rows(300);
    long long in_flight = 0;
    for (int i = 0; i < 20 && (i < 3 || in_flight == 0); i++) { /* a chain's cut may lie between two batches */
        snprintf(path, sizeof path, "%s/chk-%d", directory, i);
        unaligned_checkpoint(job, path, &spent_ms);
        ck_assert_int_lt(spent_ms, 5000);
        in_flight = in_flight_of(path);
    }
    ck_assert_int_gt(in_flight, 0);
    local_job_destroy(job);

    reset_counters();
    sink_row_sleep_us = 2000;
    job = start(shapes_of->first, path);
    snprintf(path, sizeof path, "%s/again", directory);
    in_flight = 0;
    for (int i = 0; i < 20 && in_flight == 0; i++) {
        unaligned_checkpoint(job, path, &spent_ms);
        ck_assert_int_lt(spent_ms, 5000);
        in_flight = in_flight_of(path);
    }
    ck_assert_int_gt(in_flight, 0);
    local_job_destroy(job);

    reset_counters();
    is_chained = shapes_of->is_chained_then;
    job = start(shapes_of->second, path);
    snprintf(path, sizeof path, "%s/more", directory);
    no_error(local_job_wait_with(job, path, 20, 60000));
    check_all_rows(shapes_of->second.rows);
    ck_assert_int_eq(total(sink_committed), shapes_of->second.rows);
    local_job_destroy(job);
    remove_directory();
    aligned_timeout = NULL;
    is_chained = false;
}
END_TEST

/* A checkpoint may be triggered right behind the completion with which a source ends. The source is over by then: its barrier would lie behind
 * the end of its partition, which the consumer, whose own data had not ended at that completion, has seen already. */
START_TEST(trigger_behind_the_last_completion)
{
    const long long rows = 100;
    char path[128];
    reset_counters();
    fresh_directory();
    aligned_timeout = "0";
    is_chained = true;
    sink_row_sleep_us = 200;            /* the first barrier overtakes the end of data ... */
    source_checkpoint_sleep_us = 50000; /* ... which is there before the second is triggered, and the second trigger before the end */
    struct local_job *job = start((struct shape){1, 1, 1, "REBALANCE", "FORWARD", rows, "1 h"}, NULL);
    snprintf(path, sizeof path, "%s/more", directory);
    no_error(local_job_wait_with(job, path, 1, 20000));
    check_all_rows(rows);
    ck_assert_int_eq(total(sink_committed), rows);
    local_job_destroy(job);
    remove_directory();
    aligned_timeout = NULL;
    is_chained = false;
}
END_TEST

/* Sources end at once, and then finish: what they left is in flight to tasks that get no barrier from them any more. */
START_TEST(unaligned_checkpoints_pass_finished_producers)
{
    const long long rows = 3000;
    struct shape shape = {2, 2, 2, "REBALANCE", "HASH", rows, "1 h"};
    aligned_timeout = "0";
    char path[128];
    long long spent_ms = 0;
    reset_counters();
    fresh_directory();
    sink_row_sleep_us = 3000;
    struct local_job *job = start(shape, NULL);
    wait_for_rows(10);
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/chk-%d", directory, i);
        unaligned_checkpoint(job, path, &spent_ms);
        ck_assert_int_lt(spent_ms, 3000);
        usleep(50000); /* finished tasks end */
    }
    ck_assert_int_lt(total(sink_rows), rows);
    sink_row_sleep_us = 0;
    snprintf(path, sizeof path, "%s/more", directory);
    no_error(local_job_wait_with(job, path, 20, 30000));
    check_all_rows(rows);
    local_job_destroy(job);
    remove_directory();
    aligned_timeout = NULL;
}
END_TEST

/* The same slow sinks, and barriers that wait their turn until the checkpoint is 300 ms old. */
START_TEST(aligned_until_the_timeout)
{
    struct shape shape = {1, 1, 1, "FORWARD", "FORWARD", 0, "1 h"};
    aligned_timeout = "300 ms";
    char path[128];
    long long spent_ms = 0;
    reset_counters();
    fresh_directory();
    struct local_job *job = start(shape, NULL);
    wait_for_rows(1000);
    snprintf(path, sizeof path, "%s/fast", directory);
    unaligned_checkpoint(job, path, &spent_ms);
    sink_row_sleep_us = 2000;
    usleep(200000);
    snprintf(path, sizeof path, "%s/slow", directory);
    unaligned_checkpoint(job, path, &spent_ms);
    ck_assert_int_ge(spent_ms, 300);
    ck_assert_int_lt(spent_ms, 5000);
    ck_assert_int_gt(in_flight_of(path), 0);
    local_job_destroy(job);
    remove_directory();
    aligned_timeout = NULL;
}
END_TEST

/* A stop needs no periodic checkpoints. */
START_TEST(stop_ends_an_unbounded_job)
{
    bool is_drain = _i % 2 == 1, is_periodic = _i < 2;
    reset_counters();
    fresh_directory();
    struct shape shape = {2, 2, 2, "REBALANCE", "HASH", 0, is_periodic ? "1 h" : NULL};
    struct local_job *job = start(shape, NULL);
    wait_for_rows(10000);
    no_error(local_job_checkpoint(job, directory, is_drain ? "drain" : "stop", 10000));
    no_error(local_job_wait(job, 10000));
    long long emitted = 0;
    for (int i = 0; i < 2; i++)
        emitted += (source_position[i] - i) / 2;
    ck_assert_int_eq(total(sink_rows), emitted);
    ck_assert_int_eq(total(sink_committed), emitted);
    ck_assert_int_eq(total(sink_ends), is_drain ? 2 : 0);
    ck_assert((sink_watermark[0] == TIME_MAX) == is_drain);
    local_job_destroy(job);
    remove_directory();
}
END_TEST

/* In the directory, but for what local_job itself writes. */
static int state_file_count(void)
{
    int count = 0;
    DIR *folder = opendir(directory);
    for (const struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.' && entry->d_name[0] != '_';
    if (folder != NULL)
        closedir(folder);
    return count;
}

START_TEST(aborted_checkpoint_changes_nothing)
{
    reset_counters();
    fresh_directory();
    struct local_job *job = start((struct shape){2, 2, 2, "HASH", "HASH", 0, "1 h"}, NULL);
    wait_for_rows(1000);
    no_error(local_job_checkpoint_abort(job, directory, 10000));
    for (int i = 0; i < 5000 && state_file_count() > 0; i++)
        usleep(1000);
    ck_assert_int_eq(state_file_count(), 0); /* nobody needs them any more */
    wait_for_rows(total(sink_rows) + 10000);
    ck_assert_int_eq(total(sink_committed), 0);
    no_error(local_job_checkpoint(job, directory, "checkpoint", 10000));
    local_job_cancel(job);
    no_error(local_job_wait(job, 10000));
    local_job_destroy(job);
    remove_directory();
}
END_TEST

START_TEST(failure_is_reported_once)
{
    reset_counters();
    fail_at_row = 5000;
    struct local_job *job = start((struct shape){2, 2, 2, "HASH", "HASH", 0, NULL}, NULL);
    struct error *err = local_job_wait(job, 10000);
    ck_assert_ptr_nonnull(err);
    ck_assert_int_eq(err->code, ERR_USER_FUNCTION);
    error_free(err);
    local_job_destroy(job);
}
END_TEST

START_TEST(slow_sink_holds_the_source_back)
{
    reset_counters();
    sink_sleep_us = 20000;
    struct local_job *job = start((struct shape){1, 1, 1, "FORWARD", "FORWARD", 0, NULL}, NULL);
    wait_for_rows(512 * 20);
    json_t *metrics = local_job_metrics(job);
    const json_t *source = json_array_get(metrics, 0);
    long long busy = json_integer_value(json_object_get(source, "accumulateBusyTimeMs"));
    long long blocked = json_integer_value(json_object_get(source, "accumulateBackPressuredTimeMs"));
    ck_assert_int_gt(blocked, busy);
    ck_assert_int_lt(source_position[0] - sink_rows[0], 512 * 30);
    json_decref(metrics);
    local_job_cancel(job); /* also wakes who is blocked */
    no_error(local_job_wait(job, 10000));
    local_job_destroy(job);
}
END_TEST

START_TEST(unknown_operator_fails_the_job)
{
    reset_counters();
    struct job_graph *graph = graph_of((struct shape){1, 1, 1, "FORWARD", "FORWARD", 10, NULL});
    free(graph->operators[1].type);
    graph->operators[1].type = heap_strdup("no-such-operator");
    struct local_job *job = NULL;
    no_error(local_job_start(graph, &(struct local_job_options){0}, &job));
    struct error *err = local_job_wait(job, 10000);
    ck_assert_ptr_nonnull(err);
    error_free(err);
    local_job_destroy(job);
    job_graph_destroy(graph);
}
END_TEST

START_TEST(broken_connection_fails_the_consumer)
{
    if (taskmanager_count == 1)
        return;
    reset_counters();
    struct local_job *job = start((struct shape){2, 2, 2, "HASH", "HASH", 0, NULL}, NULL);
    wait_for_rows(10000);
    local_job_cut_connections(job, 1);
    struct error *err = local_job_wait(job, 10000);
    ck_assert_ptr_nonnull(err);
    ck_assert_int_eq(err->code, ERR_TASK_LOST);
    ck_assert_ptr_nonnull(strstr(err->message, "local-1"));
    error_free(err);
    local_job_destroy(job);
}
END_TEST

static TCase *all_tests(const char *name, void (*setup)(void))
{
    TCase *tasks = tcase_create(name);
    tcase_add_checked_fixture(tasks, setup, NULL);
    tcase_set_timeout(tasks, 120);
    tcase_add_loop_test(tasks, bounded_jobs_deliver_every_row, 0, (int)(sizeof shapes / sizeof shapes[0]));
    tcase_add_test(tasks, broadcast_gives_everyone_everything);
    tcase_add_test(tasks, rebalance_is_even_for_small_batches);
    tcase_add_test(tasks, checkpoint_and_restore_lose_nothing);
    tcase_add_loop_test(tasks, stop_ends_an_unbounded_job, 0, 4);
    tcase_add_test(tasks, aborted_checkpoint_changes_nothing);
    tcase_add_loop_test(tasks, unaligned_checkpoints_lose_nothing, 0, UNALIGNED_CASE_COUNT);
    tcase_add_test(tasks, unaligned_checkpoints_pass_finished_producers);
    tcase_add_test(tasks, trigger_behind_the_last_completion);
    tcase_add_test(tasks, aligned_until_the_timeout);
    tcase_add_test(tasks, failure_is_reported_once);
    tcase_add_test(tasks, slow_sink_holds_the_source_back);
    tcase_add_test(tasks, unknown_operator_fails_the_job);
    tcase_add_test(tasks, broken_connection_fails_the_consumer);
    return tasks;
}

int main(void)
{
    log_set_level(LOG_OFF);
    Suite *suite = suite_create("task");
    suite_add_tcase(suite, all_tests("local", setup_local));
    suite_add_tcase(suite, all_tests("remote", setup_remote));
    return run_suite(suite);
}
