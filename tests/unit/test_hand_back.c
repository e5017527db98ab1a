/* Rows that a slow operator hands back: their order, what comes behind them, and their way through checkpoints. The operators are this
 * file's own (op_vtable_find is defined here instead of op_table.c): they take a fixed number of rows a call, whatever the clock says. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/vec.h"
#include "common/columnar/batch_builder.h"
#include "taskmanager/ops/op_ticker.h"
#include "taskmanager/state/snapshot.h"
#include "taskmanager/task/operator_chain.h"
#include "tests/support/chain_harness.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define WATERMARK_MARK 1000000 /* in the log: a watermark, not a row */

/* What the last operator of the chains saw. */
static VEC(int64_t) seen;

struct taking_op {
    struct op op;
    uint32_t budget; /* rows a call */
};

static struct error *taking_create(struct op_context *ctx, struct op **out)
{
    struct taking_op *self = heap_new(struct taking_op);
    self->op.ctx = ctx;
    self->op.vtable = op_vtable_find(ctx->spec->type);
    self->budget = (uint32_t)json_integer_value(json_object_get(ctx->spec->options, "budget"));
    *out = &self->op;
    return NULL;
}

static void taking_destroy(struct op *op)
{
    free(op);
}

/* Takes some rows, sends each on as a batch of its own, and hands the rest back. */
static struct error *passing_process(struct op *op, uint32_t input, struct batch *batch)
{
    uint32_t budget = ((struct taking_op *)op)->budget, count = batch->row_count < budget ? batch->row_count : budget;
    for (uint32_t i = 0; i < count; i++)
        TRY(op_emit(op, batch_slice(batch, i, 1)));
    op_hand_back(op, input, batch, count);
    return NULL;
}

static struct error *seeing_process(struct op *op, uint32_t input, struct batch *batch)
{
    uint32_t budget = ((struct taking_op *)op)->budget, count = batch->row_count < budget ? batch->row_count : budget;
    for (uint32_t i = 0; i < count; i++)
        vec_push(&seen, ((const int64_t *)batch->columns[0].values)[i]);
    op_hand_back(op, input, batch, count);
    return NULL;
}

static struct error *seeing_watermark(struct op *op, int64_t time, int64_t *forward)
{
    (void)op;
    (void)forward;
    vec_push(&seen, WATERMARK_MARK + time);
    return NULL;
}

static const struct op_vtable source_vtable = {.type = "test-source", .create = taking_create, .destroy = taking_destroy};
static const struct op_vtable passing_vtable = {.type = "test-passing", .create = taking_create, .process = passing_process,
                                                .destroy = taking_destroy, .hands_back = true};
static const struct op_vtable seeing_vtable = {.type = "test-seeing", .create = taking_create, .process = seeing_process,
                                               .watermark = seeing_watermark, .destroy = taking_destroy, .hands_back = true};

const struct op_vtable *op_vtable_find(const char *type)
{
    const struct op_vtable *all[] = {&source_vtable, &passing_vtable, &seeing_vtable};
    for (size_t i = 0; i < 3; i++)
        if (strcmp(all[i]->type, type) == 0)
            return all[i];
    return NULL;
}

/* ---- chains: source | passing -> seeing ---- */

struct rig {
    struct job_graph *graph;
    struct operator_chain *chain;
    atomic_bool is_aborting;
};

static json_t *operator_json(const char *type, int parallelism, int budget, const char *chaining, json_t *inputs)
{
    return json_pack("{s:s,s:s,s:n,s:i,s:i,s:s,s:s,s:s,s:{s:i},s:[{s:s,s:s,s:b}],s:[],s:o}", "name", type, "type", type, "uid", "parallelism",
                     parallelism, "max_parallelism", 128, "slot_sharing_group", "default", "chaining", chaining, "description", type, "options",
                     "budget", budget, "schema", "name", "n", "type", "BIGINT", "nullable", 0, "side_outputs", "inputs", inputs);
}

static json_t *edge_json(int source, const char *partitioning)
{
    json_t *edge = json_pack("{s:i,s:i,s:i,s:s}", "source", source, "side_output", -1, "input", 0, "partitioning", partitioning);
    if (strcmp(partitioning, "HASH") == 0)
        json_object_set_new(edge, "key_columns", json_pack("[i]", 0));
    return edge;
}

struct rig_options {
    int parallelism;
    uint32_t subtask;
    int passing_budget, seeing_budget;
    const char *partitioning;
    const char *directory; /* to restore from; NULL: a fresh start */
    const json_t *handles; /* array, of all subtasks */
};

static void no_error(struct error *err)
{
    if (err != NULL)
        ck_abort_msg("%s", error_text(err));
}

static void rig_init(struct rig *rig, struct rig_options options)
{
    memset(rig, 0, sizeof *rig);
    json_t *json = json_pack("{s:i,s:s,s:s,s:{},s:[o,o,o]}", "version", JOB_GRAPH_VERSION, "job_id", "00112233445566778899aabbccddeeff", "name",
                             "test", "config", "operators", operator_json("test-source", options.parallelism, 0, "NEVER", json_array()),
                             operator_json("test-passing", options.parallelism, options.passing_budget, "HEAD",
                                           json_pack("[o]", edge_json(0, options.partitioning))),
                             operator_json("test-seeing", options.parallelism, options.seeing_budget, "ALWAYS",
                                           json_pack("[o]", edge_json(1, "FORWARD"))));
    ck_assert_ptr_nonnull(json);
    no_error(job_graph_from_json(json, &rig->graph));
    json_decref(json);
    no_error(job_graph_chain(rig->graph));
    ck_assert_uint_eq(rig->graph->vertex_count, 2);
    json_t *handles = chain_harness_handles_by_operator(options.handles);
    no_error(operator_chain_create(&(struct operator_chain_options){.graph = rig->graph, .vertex = rig->graph->operators[1].vertex,
                                                                    .subtask_index = options.subtask, .restore_directory = options.directory,
                                                                    .restore_handles = handles, .checkpointing_enabled = true, .wake_fd = -1,
                                                                    .is_aborting = &rig->is_aborting, .slice_ns = 1},
                                   &rig->chain));
    json_decref(handles);
}

static void rig_finish(struct rig *rig)
{
    operator_chain_destroy(rig->chain);
    job_graph_destroy(rig->graph);
}

static void send(struct rig *rig, int64_t first, int64_t count)
{
    struct batch_builder *builder = batch_builder_create(rig->graph->operators[0].schema, (uint32_t)count, false);
    for (int64_t i = 0; i < count; i++) {
        uint32_t row = batch_builder_add_row(builder);
        batch_builder_int64s(builder, 0)[row] = first + i;
        batch_builder_set_valid(builder, 0, row);
    }
    struct batch *batch = batch_builder_finish(builder);
    batch_builder_destroy(builder);
    no_error(operator_chain_process(rig->chain, 0, batch));
    batch_unref(batch);
}

static void resume_all(struct rig *rig)
{
    while (operator_chain_is_holding(rig->chain))
        no_error(operator_chain_resume(rig->chain));
}

static void check_seen(int64_t first, int64_t count)
{
    ck_assert_uint_eq(seen.count, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        ck_assert_int_eq(seen.items[i], first + i);
}

static void setup(void)
{
    seen.count = 0;
}

static const struct rig_options usual = {.parallelism = 1, .passing_budget = 3, .seeing_budget = 2, .partitioning = "HASH"};

START_TEST(rows_keep_their_order)
{
    struct rig rig;
    rig_init(&rig, usual);
    send(&rig, 0, 10);
    ck_assert(operator_chain_is_holding(rig.chain));
    no_error(operator_chain_watermark(rig.chain, 0, 7)); /* behind the rows that wait */
    ck_assert_uint_lt(seen.count, 10);
    resume_all(&rig);
    ck_assert_uint_eq(seen.count, 11);
    ck_assert_int_eq(seen.items[10], WATERMARK_MARK + 7);
    seen.count = 10;
    check_seen(0, 10);
    json_t *metrics = operator_chain_metrics(rig.chain);
    for (size_t i = 0; i < 2; i++) { /* a row that is handed back is counted once */
        const json_t *books = json_object_get(json_array_get(metrics, i), "books");
        ck_assert_int_eq(json_integer_value(json_array_get(json_object_get(books, "rows_in"), 0)), 10);
    }
    json_decref(metrics);
    rig_finish(&rig);
}
END_TEST

/* An operator that emits much into a slow one cannot pile it up there. */
START_TEST(what_waits_at_an_operator_is_bounded)
{
    struct rig rig;
    struct rig_options options = usual;
    options.passing_budget = 100;
    rig_init(&rig, options);
    send(&rig, 0, 100); /* 100 batches of a row */
    ck_assert_uint_ge(seen.count, 80);
    resume_all(&rig);
    check_seen(0, 100);
    rig_finish(&rig);
}
END_TEST

static void take_cut(struct rig *rig, bool is_unaligned, const char *directory, const char *name, uint32_t subtask, json_t *handles, json_t **books)
{
    struct snapshot *snapshot = snapshot_create();
    struct snapshot_result result = {0};
    no_error(operator_chain_snapshot(rig->chain, &(struct chain_cut){.checkpoint_id = 1, .is_unaligned = is_unaligned}, snapshot, books));
    no_error(snapshot_write(snapshot, directory, name, subtask, 0, 127, &result));
    ck_assert((result.in_flight_bytes > 0) == is_unaligned);
    json_array_extend(handles, result.handles);
    json_decref(result.handles);
    snapshot_destroy(snapshot);
}

static int64_t rows_in_flight(const json_t *books)
{
    int64_t sum = 0;
    const char *operator;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)books, operator, entry)
        sum += json_integer_value(json_array_get(json_object_get(entry, "rows_in_flight"), 0));
    return sum;
}

START_TEST(an_aligned_cut_works_off_what_waits)
{
    struct rig rig;
    char *directory = temp_folder_create();
    json_t *handles = json_array(), *books;
    rig_init(&rig, usual);
    send(&rig, 0, 10);
    take_cut(&rig, false, directory, "0", 0, handles, &books);
    ck_assert(!operator_chain_is_holding(rig.chain));
    check_seen(0, 10);
    ck_assert_int_eq(rows_in_flight(books), 0);
    json_decref(books);
    json_decref(handles);
    rig_finish(&rig);
    temp_folder_remove(directory);
}
END_TEST

/* Each row is before the cut or in it, once; the watermark stays behind its rows. The chain goes on as if nothing had been. */
START_TEST(an_unaligned_cut_keeps_what_waits)
{
    struct rig rig;
    char *directory = temp_folder_create();
    json_t *handles = json_array(), *books;
    rig_init(&rig, usual);
    send(&rig, 0, 10);
    no_error(operator_chain_watermark(rig.chain, 0, 7));
    no_error(operator_chain_resume(rig.chain));
    size_t before = seen.count;
    take_cut(&rig, true, directory, "0", 0, handles, &books);
    ck_assert_uint_eq(seen.count, before);
    ck_assert_int_eq(rows_in_flight(books), 10 - (int64_t)before);
    json_decref(books);
    resume_all(&rig);
    ck_assert_uint_eq(seen.count, 11);
    rig_finish(&rig);

    struct rig_options options = usual;
    options.directory = directory;
    options.handles = handles;
    seen.count = before;
    rig_init(&rig, options);
    ck_assert(operator_chain_is_holding(rig.chain));
    resume_all(&rig);
    ck_assert_uint_eq(seen.count, 11);
    ck_assert_int_eq(seen.items[10], WATERMARK_MARK + 7);
    seen.count = 10;
    check_seen(0, 10);
    rig_finish(&rig);
    json_decref(handles);
    temp_folder_remove(directory);
}
END_TEST

static int by_value(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

/* From two subtasks to three and back to one: each row goes to exactly one of them. */
START_TEST(what_waits_is_dealt_out_anew)
{
    static const char *const partitionings[] = {"HASH", "REBALANCE"};
    for (int then = 1; then <= 3; then += 2) {
        for (size_t p = 0; p < 2; p++) {
            struct rig rig;
            char *directory = temp_folder_create();
            json_t *handles = json_array(), *books;
            struct rig_options options = usual;
            options.partitioning = partitionings[p];
            options.parallelism = 2;
            seen.count = 0;
            for (uint32_t s = 0; s < 2; s++) {
                options.subtask = s;
                rig_init(&rig, options);
                send(&rig, s * 1000, 1000);
                take_cut(&rig, true, directory, s == 0 ? "0" : "1", s, handles, &books);
                json_decref(books);
                rig_finish(&rig);
            }
            options.parallelism = then;
            options.directory = directory;
            options.handles = handles;
            for (uint32_t s = 0; s < (uint32_t)then; s++) {
                options.subtask = s;
                size_t before = seen.count;
                rig_init(&rig, options);
                resume_all(&rig);
                ck_assert_uint_gt(seen.count, before + 2000 / (size_t)then / 2); /* about evenly */
                rig_finish(&rig);
            }
            qsort(seen.items, seen.count, sizeof *seen.items, by_value);
            check_seen(0, 2000);
            json_decref(handles);
            temp_folder_remove(directory);
        }
    }
}
END_TEST

/* A broadcast row is at all subtasks: who has had it could not be said at another parallelism. */
START_TEST(broadcast_rows_do_not_wait_through_a_cut)
{
    struct rig rig;
    struct rig_options options = usual;
    options.partitioning = "BROADCAST";
    options.seeing_budget = 100;
    rig_init(&rig, options);
    send(&rig, 0, 10);
    struct snapshot *snapshot = snapshot_create();
    json_t *books;
    no_error(operator_chain_snapshot(rig.chain, &(struct chain_cut){.checkpoint_id = 1, .is_unaligned = true}, snapshot, &books));
    check_seen(0, 10);
    json_decref(books);
    snapshot_destroy(snapshot);
    rig_finish(&rig);
}
END_TEST

START_TEST(an_abort_ends_the_working_off)
{
    struct rig rig;
    struct snapshot *snapshot = snapshot_create();
    json_t *books = NULL;
    rig_init(&rig, usual);
    send(&rig, 0, 10);
    atomic_store(&rig.is_aborting, true);
    struct error *err = operator_chain_snapshot(rig.chain, &(struct chain_cut){.checkpoint_id = 1}, snapshot, &books);
    ck_assert_ptr_nonnull(err);
    ck_assert_int_eq(err->code, ERR_CANCELLED);
    error_free(err);
    snapshot_destroy(snapshot);
    rig_finish(&rig);
}
END_TEST

/* ---- the ticker ---- */

/* Fast rows: the clock is read after 1, 2, 4, 8, 16, 16, … of them. */
START_TEST(ticker_reads_the_clock_rarely)
{
    atomic_ullong looks = 0;
    int64_t slice_end_ns = INT64_MAX;
    struct op_context ctx = {.slice_end_ns = &slice_end_ns, .step_count = &looks};
    struct op op = {.ctx = &ctx};
    struct op_ticker ticker = op_ticker_start(&op);
    for (int i = 0; i < 1000; i++)
        ck_assert(!op_ticker_tick(&ticker));
    ck_assert_uint_ge(atomic_load(&looks), 1000 / 16);
    ck_assert_uint_le(atomic_load(&looks), 1000 / 16 + 40); /* a moment without the processor makes a row slow */
}
END_TEST

START_TEST(ticker_sees_the_end_of_the_slice_and_the_abort)
{
    atomic_bool is_aborting = false;
    int64_t slice_end_ns = clock_mono_ns() - 1;
    struct op_context ctx = {.slice_end_ns = &slice_end_ns, .is_aborting = &is_aborting};
    struct op op = {.ctx = &ctx};
    struct op_ticker ticker = op_ticker_start(&op);
    ck_assert(op_ticker_tick(&ticker)); /* after one row */
    slice_end_ns = INT64_MAX;
    ticker = op_ticker_start(&op);
    for (int i = 0; i < 20; i++)
        ck_assert(!op_ticker_tick(&ticker));
    atomic_store(&is_aborting, true);
    ck_assert(op_ticker_tick(&ticker)); /* at once, without a look at the clock */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hand_back");
    TCase *tests = tcase_create("chain");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, rows_keep_their_order);
    tcase_add_test(tests, what_waits_at_an_operator_is_bounded);
    tcase_add_test(tests, an_aligned_cut_works_off_what_waits);
    tcase_add_test(tests, an_unaligned_cut_keeps_what_waits);
    tcase_add_test(tests, what_waits_is_dealt_out_anew);
    tcase_add_test(tests, broadcast_rows_do_not_wait_through_a_cut);
    tcase_add_test(tests, an_abort_ends_the_working_off);
    tcase_add_test(tests, ticker_reads_the_clock_rarely);
    tcase_add_test(tests, ticker_sees_the_end_of_the_slice_and_the_abort);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
