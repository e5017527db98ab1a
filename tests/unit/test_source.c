/* The base of sources: watermarks per split, idleness, state. The chain is this file: it records what a source emits. */
#include "taskmanager/connectors/source.h"
#include "taskmanager/state/snapshot.h"
#include "taskmanager/time/timestamp_function.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static int64_t emitted_watermark;
static int emitted_rows, idle_state; /* -1: never said */
static int64_t blocked_ns;

struct error *op_emit(struct op *op, struct batch *batch)
{
    (void)op;
    emitted_rows += (int)batch->row_count;
    ck_assert_ptr_nonnull(batch->event_time);
    batch_unref(batch);
    return NULL;
}

struct error *op_emit_watermark(struct op *op, int64_t time)
{
    (void)op;
    ck_assert_int_gt(time, emitted_watermark);
    emitted_watermark = time;
    return NULL;
}

struct error *op_emit_idle(struct op *op, bool is_idle)
{
    (void)op;
    ck_assert_int_ne(idle_state, is_idle);
    idle_state = is_idle;
    return NULL;
}

int64_t op_blocked_ns_total(const struct op *op)
{
    (void)op;
    return blocked_ns;
}

void op_wake_at(struct op *op, int64_t time_ms)
{
    (void)op;
    (void)time_ms;
}

void op_metric_set(struct op *op, const char *name, double value)
{
    (void)op;
    (void)name;
    (void)value;
}

struct error *timestamp_function_create(struct op_context *ctx, const char *symbol, struct schema *schema, struct timestamp_function **out)
{
    (void)ctx;
    (void)schema;
    (void)out;
    return error_new(NOT_FOUND, "no function %s", symbol);
}

struct error *timestamp_function_apply(struct timestamp_function *function, const struct batch *batch, int64_t *times)
{
    (void)function;
    (void)batch;
    (void)times;
    return NULL;
}

void timestamp_function_destroy(struct timestamp_function *function)
{
    (void)function;
}

/* ---- a source of what the test hands it ---- */

struct test_row {
    int split;
    int64_t time;
};

static const struct test_row *next_rows;
static int next_count;

static struct error *test_read(struct source *source, uint32_t max_rows, enum source_status *status)
{
    (void)max_rows;
    for (; next_count > 0; next_rows++, next_count--) {
        source_select_split(source, source->splits.items[next_rows->split]);
        source_count_record(source, 10);
        uint32_t row = batch_builder_add_row(source->builder);
        batch_builder_int64s(source->builder, 0)[row] = next_rows->time;
        batch_builder_set_valid(source->builder, 0, row);
    }
    *status = SOURCE_EMPTY;
    return NULL;
}

static void test_write_position(struct source *source, const struct source_split *split, struct bytes_writer *writer)
{
    (void)source;
    bytes_write_text(writer, split->name);
}

static bool is_confirming;
static int confirm_count;

static bool test_confirm_idle(struct source *source, const struct source_split *split)
{
    (void)source;
    (void)split;
    confirm_count++;
    return is_confirming;
}

static const struct source_reader reader = {.read = test_read, .write_position = test_write_position, .confirm_idle = test_confirm_idle};
static const struct op_vtable vtable = {.type = "test-source"};

struct fixture {
    struct source source;
    struct op_context ctx;
    struct job_operator spec;
    struct books books;
};

static void fixture_init(struct fixture *f, uint32_t subtask, uint32_t parallelism)
{
    const struct field field = {.name = (char[]){"time"}, .type = TYPE_TIMESTAMP};
    *f = (struct fixture){0};
    f->spec.name = (char[]){"Source: test"};
    f->spec.schema = schema_create(&field, 1);
    f->spec.options = json_pack("{s:{s:s,s:i,s:i,s:s}}", "watermark", "strategy", "bounded", "out_of_orderness_ms", 9, "idle_timeout_ms", 300,
                                "column", "time");
    f->ctx = (struct op_context){.spec = &f->spec, .subtask_index = subtask, .parallelism = parallelism, .books = &f->books, .task_name = "t"};
    books_init(&f->books, 0);
    ck_assert_ptr_null(source_init(&f->source, &vtable, &reader, &f->ctx));
    emitted_watermark = TIME_MIN;
    emitted_rows = 0;
    idle_state = -1;
    blocked_ns = 0;
    is_confirming = true;
    confirm_count = 0;
}

static void fixture_finish(struct fixture *f)
{
    source_finish(&f->source);
    schema_unref(f->spec.schema);
    json_decref(f->spec.options);
    books_finish(&f->books);
}

static void feed(struct fixture *f, const struct test_row *rows, int count)
{
    enum source_status status;
    next_rows = rows;
    next_count = count;
    ck_assert_ptr_null(source_poll(&f->source.op, 100, &status));
}

/* Lets the idleness clock run, polling as a task does. */
static void pass_ms(struct fixture *f, int ms, bool is_blocked)
{
    struct timespec pause = {.tv_nsec = 50000000};
    for (; ms > 0; ms -= 50) {
        nanosleep(&pause, NULL);
        if (is_blocked)
            blocked_ns += 60000000;
        feed(f, NULL, 0);
    }
}

START_TEST(without_splits_it_is_idle_at_once)
{
    struct fixture f;
    fixture_init(&f, 0, 1);
    feed(&f, NULL, 0);
    ck_assert_int_eq(idle_state, 1);
    ck_assert_int_eq(emitted_watermark, TIME_MIN);
    fixture_finish(&f);
}
END_TEST

/* A subtask that is slow to find its partition was once taken for one without any: the others' time went on without it. */
START_TEST(not_idle_before_the_splits_are_known)
{
    struct fixture f;
    fixture_init(&f, 0, 1);
    f.source.is_ready = false;
    pass_ms(&f, 600, false);
    ck_assert_int_eq(idle_state, -1);
    source_add_split(&f.source, "a", 0);
    f.source.is_ready = true;
    feed(&f, (struct test_row[]){{0, 1000}}, 1);
    ck_assert_int_eq(idle_state, -1);
    ck_assert_int_eq(emitted_watermark, 990);
    fixture_finish(&f);
}
END_TEST

START_TEST(watermark_is_the_least_of_the_splits)
{
    struct fixture f;
    fixture_init(&f, 0, 1);
    source_add_split(&f.source, "a", 0);
    source_add_split(&f.source, "b", 1);
    feed(&f, (struct test_row[]){{0, 1000}, {0, 990}}, 2);
    ck_assert_int_eq(emitted_watermark, TIME_MIN); /* b has said nothing */
    feed(&f, (struct test_row[]){{1, 500}, {0, 2000}, {1, 400}}, 3);
    ck_assert_int_eq(emitted_watermark, 490);
    ck_assert_int_eq(emitted_rows, 5);
    ck_assert_uint_eq(f.books.rows_read, 5);
    ck_assert_uint_eq(books_split(&f.books, "b")->records, 2);
    ck_assert_uint_eq(books_split(&f.books, "b")->bytes, 20);
    fixture_finish(&f);
}
END_TEST

START_TEST(idle_only_when_caught_up_and_not_blocked)
{
    struct fixture f;
    fixture_init(&f, 0, 1);
    struct source_split *a = source_add_split(&f.source, "a", 0);
    struct source_split *b = source_add_split(&f.source, "b", 1);
    feed(&f, (struct test_row[]){{0, 1000}, {1, 500}}, 2);
    pass_ms(&f, 600, false);
    ck_assert_int_eq(emitted_watermark, 490); /* behind: not idle */
    b->is_caught_up = true;
    pass_ms(&f, 600, true);
    ck_assert_int_eq(emitted_watermark, 490); /* blocked: not idle */
    pass_ms(&f, 600, false);
    ck_assert_int_eq(emitted_watermark, 990);
    ck_assert_int_eq(idle_state, -1);
    a->is_caught_up = true;
    pass_ms(&f, 600, false);
    ck_assert_int_eq(idle_state, 1);
    a->is_caught_up = false;
    feed(&f, (struct test_row[]){{0, 3000}}, 1);
    ck_assert_int_eq(idle_state, 0);
    ck_assert_int_eq(emitted_watermark, 2990);
    fixture_finish(&f);
}
END_TEST

/* What the connector knew last may be old: it has to say so anew, once the split has been quiet for long enough. */
START_TEST(idle_only_when_confirmed)
{
    struct fixture f;
    fixture_init(&f, 0, 1);
    source_add_split(&f.source, "a", 0);
    struct source_split *b = source_add_split(&f.source, "b", 1);
    is_confirming = false;
    b->is_caught_up = true;
    feed(&f, (struct test_row[]){{0, 1000}, {1, 500}}, 2);
    ck_assert_int_eq(confirm_count, 0);
    pass_ms(&f, 600, false);
    ck_assert_int_gt(confirm_count, 0);
    ck_assert_int_eq(emitted_watermark, 490);
    feed(&f, (struct test_row[]){{1, 600}}, 1); /* it was not quiet after all */
    ck_assert_int_eq(emitted_watermark, 590);
    is_confirming = true;
    pass_ms(&f, 600, false);
    ck_assert_int_eq(emitted_watermark, 990);
    int count = confirm_count;
    pass_ms(&f, 200, false);
    ck_assert_int_eq(confirm_count, count); /* once idle, it stays so until a row comes */
    fixture_finish(&f);
}
END_TEST

/* ---- state ---- */

START_TEST(splits_move_with_their_watermarks)
{
    char directory[] = "/tmp/test_source.XXXXXX", command[64];
    const struct id operator_id = {{7}};
    ck_assert_ptr_nonnull(mkdtemp(directory));
    struct fixture f;
    fixture_init(&f, 0, 1);
    source_add_split(&f.source, "a", 0);
    source_add_split(&f.source, "b", 1);
    feed(&f, (struct test_row[]){{0, 1000}, {1, 500}}, 2);
    struct snapshot *snapshot = snapshot_create();
    snapshot_begin_operator(snapshot, operator_id);
    ck_assert_ptr_null(source_snapshot(&f.source.op, 1, snapshot));
    struct snapshot_result result;
    ck_assert_ptr_null(snapshot_write(snapshot, directory, "state", 0, 0, 127, &result));
    snapshot_destroy(snapshot);
    fixture_finish(&f);
    for (uint32_t subtask = 0; subtask < 2; subtask++) {
        struct restored_state *state;
        fixture_init(&f, subtask, 2);
        ck_assert_ptr_null(restored_state_open(directory, result.handles, operator_id, subtask, 2, subtask * 64, subtask * 64 + 63, &state));
        ck_assert_ptr_null(source_restore(&f.source.op, state));
        restored_state_close(state);
        ck_assert(f.source.is_restored);
        ck_assert_ptr_nonnull(source_find_restored(&f.source, "a"));
        ck_assert(source_owns(&f.source, subtask));
        struct source_split *split = source_add_split(&f.source, subtask == 0 ? "a" : "b", subtask);
        size_t length;
        ck_assert_ptr_nonnull(source_split_restored_position(split, &length));
        feed(&f, NULL, 0);
        ck_assert_int_eq(emitted_watermark, subtask == 0 ? 990 : 490);
        fixture_finish(&f);
    }
    json_decref(result.handles);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("source");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, without_splits_it_is_idle_at_once);
    tcase_add_test(tcase, not_idle_before_the_splits_are_known);
    tcase_add_test(tcase, watermark_is_the_least_of_the_splits);
    tcase_add_test(tcase, idle_only_when_caught_up_and_not_blocked);
    tcase_add_test(tcase, idle_only_when_confirmed);
    tcase_add_test(tcase, splits_move_with_their_watermarks);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
