/* Batches, builders, the batch codec and the row codec: random batches of all types against the plain values they were made from. */
#include "common/columnar/batch_builder.h"
#include "common/columnar/batch_codec.h"
#include "taskmanager/state/row_codec.h"

#include "common/base/heap.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_state = 1;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

static uint32_t random_below(uint32_t limit)
{
    return (uint32_t)((random_next() >> 32) * limit >> 32);
}

static void no_error(struct error *err)
{
    if (err != NULL)
        ck_abort_msg("%s", error_text(err));
}

/* All types; every second one nullable. */
static struct schema *all_types(bool nullable)
{
    struct field fields[DATA_TYPE_COUNT];
    char names[DATA_TYPE_COUNT][16];
    for (int i = 0; i < DATA_TYPE_COUNT; i++) {
        snprintf(names[i], sizeof names[i], "field_%d", i);
        fields[i] = (struct field){names[i], (enum data_type)i, nullable && i % 2 == 0};
    }
    return schema_create(fields, DATA_TYPE_COUNT);
}

/* A cell as text, so that batches can be compared cell by cell. */
static void cell_text(const struct batch *batch, uint32_t column_index, uint32_t row, char *out, size_t size)
{
    const struct column *column = &batch->columns[column_index];
    enum data_type type = batch->schema->fields[column_index].type;
    uint64_t word = 0;
    if (column_is_null(column, row)) {
        snprintf(out, size, "null");
    } else if (data_type_is_text(type)) {
        const struct string_view *view = &((const struct string_view *)column->values)[row];
        snprintf(out, size, "'%.*s'", (int)view->length, string_view_text(column, view));
    } else if (type == TYPE_BOOLEAN) {
        snprintf(out, size, "%d", ((const uint8_t *)column->values)[row >> 3] >> (row & 7) & 1);
    } else {
        uint32_t width = data_type_width(type);
        memcpy(&word, (const uint8_t *)column->values + (size_t)row * width, width);
        snprintf(out, size, "%llx", (unsigned long long)word);
    }
}

static void check_same_row(const struct batch *a, uint32_t row_a, const struct batch *b, uint32_t row_b)
{
    char text_a[4096], text_b[4096];
    for (uint32_t c = 0; c < a->schema->field_count; c++) {
        cell_text(a, c, row_a, text_a, sizeof text_a);
        cell_text(b, c, row_b, text_b, sizeof text_b);
        if (strcmp(text_a, text_b) != 0)
            ck_abort_msg("column %u: %s in row %u, %s in row %u", c, text_a, row_a, text_b, row_b);
    }
    ck_assert_int_eq(a->event_time != NULL, b->event_time != NULL);
    if (a->event_time != NULL)
        ck_assert_int_eq(a->event_time[row_a], b->event_time[row_b]);
    ck_assert_int_eq(a->row_kind != NULL ? a->row_kind[row_a] : 0, b->row_kind != NULL ? b->row_kind[row_b] : 0);
}

static void set_random(struct batch_builder *builder, uint32_t column, uint32_t row)
{
    enum data_type type = builder->schema->fields[column].type;
    uint32_t width = data_type_width(type);
    if (type == TYPE_BOOLEAN) {
        batch_builder_set_bool(builder, column, row, random_next() & 1);
    } else if (data_type_is_text(type)) {
        char text[2048];
        uint32_t dice = random_below(100), length = dice < 60 ? random_below(14) : dice < 95 ? random_below(60) : random_below(sizeof text);
        for (uint32_t i = 0; i < length; i++)
            text[i] = (char)('a' + random_below(3));
        batch_builder_set_text(builder, column, row, text, length);
    } else {
        uint64_t value = random_below(3) == 0 ? random_below(3) : random_next();
        memcpy((uint8_t *)batch_builder_values(builder, column) + (size_t)row * width, &value, width);
        batch_builder_set_valid(builder, column, row);
    }
}

static void add_random_row(struct batch_builder *builder)
{
    uint32_t row = batch_builder_add_row(builder);
    for (uint32_t c = 0; c < builder->schema->field_count; c++)
        if (!builder->schema->fields[c].nullable || random_below(4) != 0)
            set_random(builder, c, row);
    if (builder->has_event_time)
        batch_builder_set_event_time(builder, row, (int64_t)random_below(1000));
    if (random_below(50) == 0)
        batch_builder_set_row_kind(builder, row, ROW_DELETE);
}

static struct batch *random_batch(struct batch_builder *builder, uint32_t rows)
{
    while (builder->row_count < rows) {
        add_random_row(builder);
        if (random_below(5) == 0)
            batch_builder_drop_row(builder);
    }
    struct batch *batch = batch_builder_finish(builder);
    no_error(batch_verify(batch));
    ck_assert_uint_eq(batch->row_count, rows);
    return batch;
}

START_TEST(take_slice_and_codec_keep_every_cell)
{
    random_state = (uint64_t)_i + 1;
    struct schema *schema = all_types(_i % 2 == 0);
    size_t live = buffer_live_bytes();
    struct batch_builder *builder = batch_builder_create(schema, 700, _i % 3 != 0);
    for (int round = 0; round < 12; round++) {
        uint32_t count = 1 + random_below(700), rows[700];
        struct batch *batch = random_batch(builder, count);
        for (uint32_t i = 0; i < count; i++)
            rows[i] = random_below(count);
        struct batch *taken = batch_take(batch, rows, count);
        uint32_t start = random_below(count), length = random_below(count - start + 1);
        struct batch *slice = batch_slice(taken, start, length);
        struct bytes_writer writer = {0};
        batch_encode(slice, &writer);
        struct batch *decoded = NULL;
        no_error(batch_decode(writer.data, writer.length, schema, &decoded));
        no_error(batch_verify(taken));
        no_error(batch_verify(slice));
        for (uint32_t i = 0; i < count; i++)
            check_same_row(taken, i, batch, rows[i]);
        ck_assert_uint_eq(decoded->row_count, length);
        for (uint32_t i = 0; i < length; i++)
            check_same_row(decoded, i, batch, rows[start + i]);
        for (uint32_t i = 0; i < length; i++)
            batch_builder_copy_row(builder, decoded, i);
        struct batch *copied = batch_builder_finish(builder);
        for (uint32_t i = 0; i < length; i++)
            check_same_row(copied, i, decoded, i);
        ck_assert_uint_gt(batch_size_bytes(batch), count);
        batch_unref(batch);
        batch_unref(taken);
        batch_unref(slice);
        batch_unref(decoded);
        batch_unref(copied);
        bytes_writer_finish(&writer);
    }
    batch_builder_destroy(builder);
    ck_assert_uint_eq(buffer_live_bytes(), live);
    schema_unref(schema);
}
END_TEST

START_TEST(damaged_bytes_never_crash_the_decoder)
{
    struct schema *schema = all_types(true);
    struct batch_builder *builder = batch_builder_create(schema, 64, true);
    struct batch *batch = random_batch(builder, 20);
    struct bytes_writer writer = {0};
    batch_encode(batch, &writer);
    size_t length = writer.length;
    for (size_t i = 0; i < length; i++) {
        struct batch *decoded = NULL;
        struct error *err = batch_decode(writer.data, i, schema, &decoded);
        ck_assert_ptr_nonnull(err);
        error_free(err);
        uint8_t old = writer.data[i];
        writer.data[i] = (uint8_t)random_next();
        err = batch_decode(writer.data, length, schema, &decoded);
        error_free(err);
        batch_unref(decoded);
        writer.data[i] = old;
    }
    bytes_writer_finish(&writer);
    batch_unref(batch);
    batch_builder_destroy(builder);
    schema_unref(schema);
}
END_TEST

START_TEST(full_columns_have_no_bitmap)
{
    struct field fields[] = {{(char[]){"a"}, TYPE_INT64, true}, {(char[]){"b"}, TYPE_STRING, true}};
    struct schema *schema = schema_create(fields, 2);
    struct batch_builder *builder = batch_builder_create(schema, 100, false);
    for (uint32_t i = 0; i < 90; i++) {
        uint32_t row = batch_builder_add_row(builder);
        batch_builder_int64s(builder, 0)[row] = i;
        batch_builder_set_valid(builder, 0, row);
        if (i != 40)
            batch_builder_set_text(builder, 1, row, "abcdefghijklmnop", i % 17);
    }
    struct batch *batch = batch_builder_finish(builder);
    ck_assert_ptr_null(batch->columns[0].validity);
    ck_assert_ptr_nonnull(batch->columns[1].validity);
    ck_assert(column_is_null(&batch->columns[1], 40) && !column_is_null(&batch->columns[1], 41));
    ck_assert_ptr_null(batch_builder_finish(builder));
    batch_unref(batch);
    batch_builder_destroy(builder);
    schema_unref(schema);
}
END_TEST

START_TEST(hashes_are_those_of_the_contents)
{
    struct schema *schema = all_types(true);
    struct batch_builder *builder = batch_builder_create(schema, 500, false);
    struct batch *batch = random_batch(builder, 500);
    uint32_t columns[DATA_TYPE_COUNT], rows[500];
    uint64_t hashes[500], taken_hashes[500];
    for (uint32_t i = 0; i < DATA_TYPE_COUNT; i++)
        columns[i] = i;
    for (uint32_t i = 0; i < 500; i++)
        rows[i] = 499 - i;
    for (uint32_t first = 0; first < DATA_TYPE_COUNT; first++) {
        batch_hash_rows(batch, columns + first, DATA_TYPE_COUNT - first, hashes);
        struct batch *taken = batch_take(batch, rows, 500);
        for (uint32_t i = 0; i < 500; i++)
            batch_builder_copy_row(builder, taken, i);
        struct batch *copied = batch_builder_finish(builder); /* other text buffers, other offsets */
        batch_hash_rows(copied, columns + first, DATA_TYPE_COUNT - first, taken_hashes);
        for (uint32_t i = 0; i < 500; i++)
            ck_assert_uint_eq(hashes[rows[i]], taken_hashes[i]);
        batch_unref(taken);
        batch_unref(copied);
    }
    batch_unref(batch);
    batch_builder_destroy(builder);
    schema_unref(schema);
}
END_TEST

/* State files store hashes: these values must never change. */
START_TEST(hashes_are_the_same_for_ever)
{
    struct field fields[] = {{(char[]){"page"}, TYPE_STRING, false}, {(char[]){"n"}, TYPE_INT32, true}};
    struct schema *schema = schema_create(fields, 2);
    struct batch_builder *builder = batch_builder_create(schema, 8, false);
    static const char *const pages[] = {"/help", "", "/a-page-with-a-long-name", "exactly12byt"};
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t row = batch_builder_add_row(builder);
        batch_builder_set_text(builder, 0, row, pages[i], strlen(pages[i]));
        batch_builder_int32s(builder, 1)[row] = -(int32_t)i;
        if (i != 3)
            batch_builder_set_valid(builder, 1, row);
    }
    struct batch *batch = batch_builder_finish(builder);
    static const uint32_t columns[] = {0, 1};
    static const uint64_t expected[2][4] = {
        {UINT64_C(0x312880f519924469), UINT64_C(0xed70cc6ddc33588b), UINT64_C(0xd16242c0207ec887), UINT64_C(0x1ca4bdd8c60e9bb7)},
        {UINT64_C(0xe6a11b5f8d4ca0cd), UINT64_C(0xc492105f45d9f1a9), UINT64_C(0x521abce1d3fbabe4), UINT64_C(0x20fc8a56f658e862)},
    };
    for (uint32_t count = 1; count <= 2; count++) {
        uint64_t hashes[4];
        batch_hash_rows(batch, columns, count, hashes);
        for (uint32_t i = 0; i < 4; i++)
            if (hashes[i] != expected[count - 1][i])
                ck_abort_msg("hash %u of %u columns is 0x%llx", i, count, (unsigned long long)hashes[i]);
    }
    batch_unref(batch);
    batch_builder_destroy(builder);
    schema_unref(schema);
}
END_TEST

START_TEST(encoded_rows_come_back)
{
    random_state = (uint64_t)_i + 77;
    struct schema *schema = all_types(_i % 2 == 0);
    struct batch_builder *builder = batch_builder_create(schema, 300, false);
    struct row_codec *codec = row_codec_create(schema);
    struct encoded_rows rows = {0};
    for (int round = 0; round < 5; round++) {
        struct batch *batch = random_batch(builder, 300);
        uint32_t columns[DATA_TYPE_COUNT];
        uint64_t hashes[300];
        for (uint32_t i = 0; i < DATA_TYPE_COUNT; i++)
            columns[i] = i;
        row_codec_encode_rows(codec, batch, NULL, &rows);
        batch_hash_rows(batch, columns, DATA_TYPE_COUNT, hashes);
        for (uint32_t i = 0; i < 300; i++) {
            struct bytes_writer writer = {0};
            const uint8_t *bytes = rows.bytes + rows.offsets[i];
            size_t length = rows.offsets[i + 1] - rows.offsets[i];
            row_codec_encode_row(codec, batch, columns, i, &writer);
            ck_assert_uint_eq(writer.length, length);
            ck_assert_mem_eq(writer.data, bytes, length);
            no_error(row_codec_verify(codec, bytes, length));
            ck_assert_uint_eq(row_codec_hash(codec, bytes, length), hashes[i]);
            no_error(row_codec_decode_row(codec, bytes, length, builder, NULL, batch_builder_add_row(builder)));
            bytes_writer_finish(&writer);
        }
        struct batch *decoded = batch_builder_finish(builder);
        for (uint32_t i = 0; i < 300; i++) {
            for (uint32_t c = 0; c < DATA_TYPE_COUNT; c++) {
                char a[4096], b[4096];
                cell_text(batch, c, i, a, sizeof a);
                cell_text(decoded, c, i, b, sizeof b);
                ck_assert_str_eq(a, b);
            }
        }
        batch_unref(decoded);
        batch_unref(batch);
    }
    encoded_rows_finish(&rows);
    row_codec_destroy(codec);
    batch_builder_destroy(builder);
    schema_unref(schema);
}
END_TEST

#define RIDE(FIELD)                                                                                                    \
    FIELD(is_start, bool)                                                                                              \
    FIELD(id, int64_t)                                                                                                 \
    FIELD(driver, mr_string)                                                                                           \
    FIELD(seats, int8_t)                                                                                               \
    FIELD(fare, float)                                                                                                 \
    FIELD(note, mr_string)                                                                                             \
    FIELD(kind, int16_t)                                                                                               \
    FIELD(at, mr_timestamp)                                                                                            \
    FIELD(tip, double)                                                                                                 \
    FIELD(count, int32_t)
MR_RECORD(ride, RIDE);

START_TEST(records_come_back_through_rows_and_batches)
{
    struct schema *schema = NULL;
    no_error(row_schema_of_record(&ride_type, &schema));
    ck_assert_uint_eq(schema->field_count, 10);
    struct row_codec *codec = row_codec_create(schema);
    ck_assert_uint_eq(codec->record_size, sizeof(struct ride));
    struct ride in = {true, -5, {"a driver with a long name", 25}, 4, 2.5f, {"", 0}, -7, 123456789, 0.25, 42}, out, again;
    struct bytes_writer writer = {0};
    row_codec_encode_record(codec, &in, &writer);
    no_error(row_codec_decode_record(codec, writer.data, writer.length, &out));
    struct batch_builder *builder = batch_builder_create(schema, 4, false);
    row_codec_record_to_builder(codec, &out, builder, NULL, batch_builder_add_row(builder));
    struct batch *batch = batch_builder_finish(builder);
    row_codec_record_of_batch(codec, batch, NULL, 0, &again);
    ck_assert(again.is_start && again.id == -5 && again.seats == 4 && again.fare == 2.5f && again.kind == -7);
    ck_assert(again.at == 123456789 && again.tip == 0.25 && again.count == 42 && again.note.length == 0 && again.note.data != NULL);
    ck_assert_uint_eq(again.driver.length, 25);
    ck_assert_mem_eq(again.driver.data, in.driver.data, 25);
    struct error *err = row_codec_decode_record(codec, writer.data, writer.length - 1, &out);
    ck_assert_ptr_nonnull(err);
    error_free(err);
    batch_unref(batch);
    batch_builder_destroy(builder);
    bytes_writer_finish(&writer);
    row_codec_destroy(codec);
    schema_unref(schema);
}
END_TEST

START_TEST(schemas_as_json)
{
    struct schema *schema = all_types(true), *again = NULL;
    json_t *json = schema_to_json(schema);
    no_error(schema_from_json(json, &again));
    ck_assert(schema_equals(schema, again));
    ck_assert_int_eq(schema_find(again, "field_3"), 3);
    ck_assert_int_eq(schema_find(again, "nothing"), -1);
    json_object_set_new(json_array_get(json, 2), "type", json_string("MONEY"));
    schema_unref(again);
    struct error *err = schema_from_json(json, &again);
    ck_assert_ptr_nonnull(err);
    ck_assert_ptr_nonnull(strstr(err->message, "MONEY"));
    error_free(err);
    json_decref(json);
    schema_unref(schema);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("batch");
    TCase *tcase = tcase_create("batch");
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    tcase_add_loop_test(tcase, take_slice_and_codec_keep_every_cell, 0, 10);
    tcase_add_test(tcase, damaged_bytes_never_crash_the_decoder);
    tcase_add_test(tcase, full_columns_have_no_bitmap);
    tcase_add_test(tcase, hashes_are_those_of_the_contents);
    tcase_add_test(tcase, hashes_are_the_same_for_ever);
    tcase_add_loop_test(tcase, encoded_rows_come_back, 0, 4);
    tcase_add_test(tcase, records_come_back_through_rows_and_batches);
    tcase_add_test(tcase, schemas_as_json);
    return run_suite(suite);
}
