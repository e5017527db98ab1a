/* Partitioners and result partitions: where rows go, in which order, in which batches, and what is copied. */
#include "common/base/heap.h"
#include "common/columnar/batch_builder.h"
#include "common/columnar/batch_codec.h"
#include "common/rpc/frame.h"
#include "taskmanager/net/partitioner.h"
#include "taskmanager/net/result_partition.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TARGETS_MAX 16
/* Checks that run per row: Check's own write to a pipe each time. */
#define must(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            ck_abort_msg("%s", #condition);                                                                            \
    } while (0)

static struct schema *schema;
static uint32_t key_column = 0;

static void setup(void)
{
    struct field fields[] = {{.name = (char *)(uintptr_t) "n", .type = TYPE_INT64}, {.name = (char *)(uintptr_t) "text", .type = TYPE_STRING}};
    schema = schema_create(fields, 2);
}

static void teardown(void)
{
    schema_unref(schema);
}

static struct batch *rows_from(int64_t first, uint32_t count)
{
    struct batch_builder *builder = batch_builder_create(schema, count, true);
    for (uint32_t i = 0; i < count; i++) {
        char text[64];
        uint32_t row = batch_builder_add_row(builder);
        batch_builder_int64s(builder, 0)[row] = first + i;
        batch_builder_set_valid(builder, 0, row);
        snprintf(text, sizeof text, "a text that is longer than a view %lld", (long long)(first + i));
        batch_builder_set_text(builder, 1, row, text, strlen(text));
        batch_builder_set_event_time(builder, row, first + i);
    }
    struct batch *batch = batch_builder_finish(builder);
    batch_builder_destroy(builder);
    return batch;
}

static int64_t value_of(const struct batch *batch, uint32_t row)
{
    return ((const int64_t *)batch->columns[0].values)[row];
}

struct fixture {
    struct job_edge edge;
    struct result_partition *partition;
    struct channel *channels[TARGETS_MAX];
    uint32_t count;
    uint32_t waits;
};

static struct error *wait_for_room(void *arg, struct channel *channel)
{
    struct fixture *fixture = arg;
    fixture->waits++;
    struct element element;
    bool found;
    struct error *err = channel_pop(channel, &element, &found);
    element_finish(&element);
    return err;
}

static void open_partition(struct fixture *fixture, enum partitioning partitioning, uint32_t count)
{
    memset(fixture, 0, sizeof *fixture);
    fixture->edge = (struct job_edge){.partitioning = partitioning, .key_columns = &key_column, .key_count = 1};
    fixture->count = count;
    struct channel *channels[TARGETS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        fixture->channels[i] = channel_create((struct channel_key){.consumer = i}, 1000, SIZE_MAX);
        channels[i] = channel_ref(fixture->channels[i]);
    }
    fixture->partition = result_partition_create(&(struct result_partition_options){
        .edge = &fixture->edge,
        .max_parallelism = 128,
        .channels = channels,
        .channel_count = count,
        .host = {.wait_for_room = wait_for_room, .arg = fixture},
    });
}

static void close_partition(struct fixture *fixture)
{
    result_partition_destroy(fixture->partition);
    for (uint32_t i = 0; i < fixture->count; i++)
        channel_unref(fixture->channels[i]);
}

static void emit(struct fixture *fixture, struct batch *batch)
{
    struct chain_output *output = result_partition_output(fixture->partition);
    struct error *err = output->emit(output, batch);
    ck_assert_ptr_null(err);
}

static void flush(struct fixture *fixture)
{
    struct error *err = result_partition_flush(fixture->partition);
    ck_assert_ptr_null(err);
    ck_assert(!result_partition_has_unflushed(fixture->partition));
}

static bool pop(struct channel *channel, struct element *element)
{
    bool found;
    struct error *err = channel_pop(channel, element, &found);
    ck_assert_ptr_null(err);
    return found;
}

/* Checks the rows of all channels and returns how many batches there were. */
static uint32_t drain(struct fixture *fixture, int64_t row_count, bool is_keyed, uint32_t *rows_by_target)
{
    bool *seen = heap_alloc_array((size_t)row_count, sizeof *seen);
    uint32_t batches = 0;
    for (uint32_t c = 0; c < fixture->count; c++) {
        struct element element;
        int64_t last = -1;
        rows_by_target[c] = 0;
        while (pop(fixture->channels[c], &element)) {
            ck_assert_int_eq(element.type, ELEMENT_BATCH);
            const struct batch *batch = element.as.rows.batch;
            uint64_t *hashes = heap_alloc_array(batch->row_count, sizeof *hashes);
            batch_hash_rows(batch, &key_column, 1, hashes);
            batches++;
            rows_by_target[c] += batch->row_count;
            for (uint32_t i = 0; i < batch->row_count; i++) {
                int64_t value = value_of(batch, i);
                char text[64];
                snprintf(text, sizeof text, "a text that is longer than a view %lld", (long long)value);
                const struct string_view *view = (const struct string_view *)batch->columns[1].values + i;
                must(view->length == strlen(text));
                must(memcmp(string_view_text(&batch->columns[1], view), text, view->length) == 0);
                must(batch->event_time[i] == value);
                must(value > last); /* the order within a channel is the producer's */
                last = value;
                must(!seen[value]);
                seen[value] = true;
                if (is_keyed)
                    must(key_group_owner(key_group_of_hash(hashes[i], 128), 128, fixture->count) == c);
            }
            free(hashes);
            element_finish(&element);
        }
    }
    for (int64_t i = 0; i < row_count; i++)
        must(seen[i]);
    free(seen);
    return batches;
}

static const uint32_t batch_sizes[] = {1, 3, 17, 255, 256, 2048, 5000};
static const enum partitioning partitionings[] = {PARTITION_HASH, PARTITION_REBALANCE, PARTITION_RESCALE, PARTITION_GLOBAL, PARTITION_FORWARD};

START_TEST(every_row_goes_to_its_target)
{
    for (size_t p = 0; p < sizeof partitionings / sizeof partitionings[0]; p++) {
        for (uint32_t targets = 1; targets <= TARGETS_MAX; targets += 3) {
            struct fixture fixture;
            open_partition(&fixture, partitionings[p], targets);
            int64_t next = 0;
            for (int i = 0; i < 30; i++) {
                uint32_t count = batch_sizes[(size_t)(i * 3 + _i) % 7];
                emit(&fixture, rows_from(next, count));
                next += count;
            }
            flush(&fixture);
            uint32_t rows[TARGETS_MAX];
            drain(&fixture, next, partitionings[p] == PARTITION_HASH, rows);
            if (partitionings[p] == PARTITION_REBALANCE)
                for (uint32_t c = 1; c < targets; c++)
                    ck_assert_int_le(abs((int)rows[c] - (int)rows[0]), 1);
            close_partition(&fixture);
        }
    }
}
END_TEST

START_TEST(one_target_takes_the_reference)
{
    struct fixture fixture;
    struct element element;
    open_partition(&fixture, PARTITION_HASH, 1);
    struct batch *batch = rows_from(0, 10);
    emit(&fixture, batch_ref(batch));
    ck_assert(pop(fixture.channels[0], &element));
    ck_assert_ptr_eq(element.as.rows.batch, batch);
    element_finish(&element);
    batch_unref(batch);
    close_partition(&fixture);
}
END_TEST

START_TEST(rows_of_one_key_take_the_reference)
{
    struct fixture fixture;
    open_partition(&fixture, PARTITION_HASH, 4);
    struct batch_builder *builder = batch_builder_create(schema, 1000, false);
    for (int i = 0; i < 1000; i++) {
        uint32_t row = batch_builder_add_row(builder);
        batch_builder_int64s(builder, 0)[row] = 42;
        batch_builder_set_valid(builder, 0, row);
        batch_builder_set_text(builder, 1, row, "x", 1);
    }
    struct batch *batch = batch_builder_finish(builder);
    batch_builder_destroy(builder);
    emit(&fixture, batch_ref(batch));
    uint32_t found = 0;
    struct element element;
    for (uint32_t c = 0; c < 4; c++)
        if (pop(fixture.channels[c], &element)) {
            ck_assert_ptr_eq(element.as.rows.batch, batch);
            element_finish(&element);
            found++;
        }
    ck_assert_uint_eq(found, 1);
    batch_unref(batch);
    close_partition(&fixture);
}
END_TEST

START_TEST(small_pieces_are_coalesced)
{
    struct fixture fixture;
    uint32_t rows[TARGETS_MAX];
    open_partition(&fixture, PARTITION_HASH, 16);
    for (int i = 0; i < 100; i++)
        emit(&fixture, rows_from(i * 160, 160));
    flush(&fixture);
    ck_assert_uint_le(drain(&fixture, 16000, true, rows), 2 * 16);
    close_partition(&fixture);
}
END_TEST

START_TEST(events_flush_and_follow_their_rows)
{
    struct fixture fixture;
    struct element element;
    open_partition(&fixture, PARTITION_REBALANCE, 3);
    emit(&fixture, rows_from(0, 9));
    ck_assert(result_partition_has_unflushed(fixture.partition));
    struct chain_output *output = result_partition_output(fixture.partition);
    ck_assert_ptr_null(output->emit_watermark(output, 5));
    for (uint32_t c = 0; c < 3; c++) {
        ck_assert(pop(fixture.channels[c], &element));
        ck_assert_int_eq(element.type, ELEMENT_BATCH);
        ck_assert_uint_eq(element.as.rows.batch->row_count, 3);
        element_finish(&element);
        ck_assert(pop(fixture.channels[c], &element));
        ck_assert_int_eq(element.type, ELEMENT_WATERMARK);
    }
    close_partition(&fixture);
}
END_TEST

START_TEST(full_channel_is_waited_for)
{
    struct fixture fixture;
    open_partition(&fixture, PARTITION_FORWARD, 1);
    fixture.channels[0]->batches_max = 2;
    for (int i = 0; i < 2; i++)
        emit(&fixture, rows_from(i, 1));
    ck_assert(!result_partition_is_available(fixture.partition));
    ck_assert_uint_eq(fixture.waits, 0);
    emit(&fixture, rows_from(2, 1));
    ck_assert_uint_eq(fixture.waits, 1);
    channel_release(fixture.channels[0]); /* the consumer is gone: nothing holds the producer up */
    ck_assert(result_partition_is_available(fixture.partition));
    emit(&fixture, rows_from(3, 1));
    ck_assert_uint_eq(fixture.waits, 1);
    close_partition(&fixture);
}
END_TEST

static struct batch *long_rows(uint32_t count, size_t text_bytes)
{
    struct batch_builder *builder = batch_builder_create(schema, count, false);
    char *text = heap_alloc(text_bytes);
    memset(text, 'x', text_bytes);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = batch_builder_add_row(builder);
        batch_builder_int64s(builder, 0)[row] = i;
        batch_builder_set_valid(builder, 0, row);
        batch_builder_set_text(builder, 1, row, text, text_bytes);
    }
    free(text);
    struct batch *batch = batch_builder_finish(builder);
    batch_builder_destroy(builder);
    return batch;
}

/* A batch of long rows was once one frame, which the receiver refused: the job failed, and failed again. */
START_TEST(no_batch_is_too_large_for_a_frame)
{
    struct fixture fixture;
    struct element element;
    open_partition(&fixture, PARTITION_REBALANCE, 1);
    fixture.channels[0]->is_remote = true;
    emit(&fixture, long_rows(300, 100000));
    int64_t next = 0;
    while (pop(fixture.channels[0], &element)) {
        const struct batch *batch = element.as.rows.batch;
        struct bytes_writer body = {0};
        batch_encode(batch, &body);
        ck_assert_uint_le(body.length, FRAME_BODY_BYTES_DATA - 64);
        bytes_writer_finish(&body);
        for (uint32_t i = 0; i < batch->row_count; i++)
            must(value_of(batch, i) == next++);
        element_finish(&element);
    }
    ck_assert_int_eq(next, 300);
    emit(&fixture, long_rows(1, FRAME_BODY_BYTES_DATA - (300u << 10)));
    struct chain_output *output = result_partition_output(fixture.partition);
    struct error *err = output->emit(output, long_rows(2, FRAME_BODY_BYTES_DATA));
    ck_assert_ptr_nonnull(err);
    ck_assert_int_eq(err->code, ERR_TOO_LARGE);
    error_free(err);
    fixture.channels[0]->is_remote = false; /* a reference has no size */
    emit(&fixture, long_rows(1, FRAME_BODY_BYTES_DATA));
    close_partition(&fixture);
}
END_TEST

START_TEST(topology_is_the_same_from_both_ends)
{
    for (uint32_t producers = 1; producers <= 9; producers++)
        for (uint32_t consumers = 1; consumers <= 9; consumers++)
            for (size_t p = 0; p < sizeof partitionings / sizeof partitionings[0]; p++)
                for (uint32_t producer = 0; producer < producers; producer++) {
                    uint32_t first, last, low, high;
                    edge_consumers(partitionings[p], producers, consumers, producer, &first, &last);
                    ck_assert_uint_le(first, last);
                    for (uint32_t consumer = 0; consumer < consumers; consumer++) {
                        edge_producers(partitionings[p], producers, consumers, consumer, &low, &high);
                        ck_assert((consumer >= first && consumer <= last) == (producer >= low && producer <= high));
                    }
                }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exchange");
    TCase *exchange = tcase_create("exchange");
    tcase_add_checked_fixture(exchange, setup, teardown);
    tcase_set_timeout(exchange, 120);
    tcase_add_loop_test(exchange, every_row_goes_to_its_target, 0, 7);
    tcase_add_test(exchange, one_target_takes_the_reference);
    tcase_add_test(exchange, rows_of_one_key_take_the_reference);
    tcase_add_test(exchange, small_pieces_are_coalesced);
    tcase_add_test(exchange, events_flush_and_follow_their_rows);
    tcase_add_test(exchange, full_channel_is_waited_for);
    tcase_add_test(exchange, no_batch_is_too_large_for_a_frame);
    tcase_add_test(exchange, topology_is_the_same_from_both_ends);
    suite_add_tcase(suite, exchange);
    return run_suite(suite);
}
