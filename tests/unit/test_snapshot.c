/* Snapshots and state files: what is written comes back, at any parallelism and with changed schemas; damage is named. */
#include "taskmanager/state/row_codec.h"
#include "taskmanager/state/snapshot.h"
#include "taskmanager/state/state_table.h"

#include "common/base/heap.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[64];
static const struct id operator_a = {{1, 2, 3}}, operator_b = {{9}};

static void make_directory(void)
{
    strcpy(directory, "/tmp/test_snapshot.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void remove_directory(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
}

static void no_error(struct error *err)
{
    if (err == NULL)
        return;
    char *text = error_text(err);
    ck_abort_msg("%s", text);
}

#define KEYS 5000
#define GROUPS 128

static uint64_t hash_of(uint32_t key)
{
    return (key + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint32_t group_of(uint32_t key)
{
    return (uint32_t)(hash_of(key) >> 40) % GROUPS;
}

static void put(struct state_table *table, uint32_t key, uint64_t value)
{
    int64_t window = key % 3;
    memcpy(state_table_upsert(table, group_of(key), hash_of(key), &key, sizeof key, &window, sizeof window, sizeof value, NULL), &value,
           sizeof value);
}

/* 0 when absent. */
static uint64_t get(struct state_table *table, uint32_t key)
{
    int64_t window = key % 3;
    uint64_t value = 0, ref = state_table_find(table, group_of(key), hash_of(key), &key, sizeof key, &window, sizeof window);
    if (ref != STATE_REF_NONE)
        memcpy(&value, state_table_entry(table, ref)->data, sizeof value);
    return value;
}

static void range(uint32_t subtask, uint32_t parallelism, uint32_t *first, uint32_t *last)
{
    *first = (subtask * GROUPS + parallelism - 1) / parallelism;
    *last = ((subtask + 1) * GROUPS - 1) / parallelism;
}

static struct state_table *bytes_table(uint32_t first, uint32_t last)
{
    return state_table_create(&(struct state_table_options){.key_group_first = first, .key_group_last = last});
}

/* One subtask of a made-up job: a table, a list and a union state. */
struct subtask {
    struct state_table *table;
    uint32_t first, last;
    uint32_t list[64];
    uint32_t list_count;
    uint32_t union_items[64];
    uint32_t union_count;
};

static void write_subtask(struct subtask *subtask, uint32_t index, const char *name, json_t *handles)
{
    struct snapshot *snapshot = snapshot_create();
    struct snapshot_result result;
    snapshot_begin_operator(snapshot, operator_a);
    snapshot_add_table(snapshot, "counts", subtask->table, json_pack("{s:i}", "size_ms", 15000));
    for (uint32_t i = 0; i < subtask->list_count; i++)
        snapshot_add_list_item(snapshot, "offsets", &subtask->list[i], sizeof subtask->list[i]);
    snapshot_begin_operator(snapshot, operator_b);
    for (uint32_t i = 0; i < subtask->union_count; i++)
        snapshot_add_union_item(snapshot, "splits", &subtask->union_items[i], sizeof subtask->union_items[i]);
    snapshot_add_list_item(snapshot, "offsets", "other operator", 14);
    no_error(snapshot_write(snapshot, directory, name, index, subtask->first, subtask->last, &result));
    ck_assert_uint_gt(result.bytes, 0);
    json_array_extend(handles, result.handles);
    json_decref(result.handles);
    snapshot_destroy(snapshot);
}

struct collected {
    uint32_t *items;
    uint32_t *count;
};

static struct error *collect(void *arg, const void *bytes, size_t length)
{
    struct collected *collected = arg;
    ck_assert_uint_eq(length, sizeof(uint32_t));
    ck_assert_uint_lt(*collected->count, 64);
    memcpy(&collected->items[(*collected->count)++], bytes, sizeof(uint32_t));
    return NULL;
}

static void restore_subtask(struct subtask *subtask, uint32_t index, uint32_t parallelism, const json_t *handles)
{
    struct restored_state *state;
    range(index, parallelism, &subtask->first, &subtask->last);
    no_error(restored_state_open(directory, handles, operator_a, index, parallelism, subtask->first, subtask->last, &state));
    subtask->table = bytes_table(subtask->first, subtask->last);
    no_error(restored_state_load(state, "counts", subtask->table));
    no_error(restored_state_items(state, "offsets", collect, &(struct collected){subtask->list, &subtask->list_count}));
    json_t *tables = restored_state_tables(state);
    ck_assert_uint_eq(json_array_size(tables), 1);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(json_array_get(tables, 0), "meta"), "size_ms")), 15000);
    json_decref(tables);
    restored_state_close(state);
    no_error(restored_state_open(directory, handles, operator_b, index, parallelism, subtask->first, subtask->last, &state));
    no_error(restored_state_items(state, "splits", collect, &(struct collected){subtask->union_items, &subtask->union_count}));
    restored_state_close(state);
}

static void finish_subtasks(struct subtask *subtasks, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        state_table_destroy(subtasks[i].table);
}

START_TEST(rescaling_keeps_everything)
{
    make_directory();
    struct subtask one = {.first = 0, .last = GROUPS - 1, .table = bytes_table(0, GROUPS - 1), .list_count = 20, .union_count = 2,
                          .union_items = {70, 71}};
    for (uint32_t i = 0; i < KEYS; i++)
        put(one.table, i, i + 1);
    for (uint32_t i = 0; i < 20; i++)
        one.list[i] = i;
    static const uint32_t steps[] = {3, 2, 1, 5};
    struct subtask now[5] = {one};
    uint32_t parallelism = 1;
    for (size_t step = 0; step < sizeof steps / sizeof steps[0]; step++) {
        json_t *handles = json_array();
        for (uint32_t i = 0; i < parallelism; i++) {
            char name[32];
            snprintf(name, sizeof name, "state-%zu-%u", step, i);
            if (i > 0)
                now[i].union_count = 0; /* as a source does: each split once */
            write_subtask(&now[i], i, name, handles);
        }
        finish_subtasks(now, parallelism);
        parallelism = steps[step];
        memset(now, 0, sizeof now);
        uint64_t entries = 0;
        bool seen[20] = {0};
        uint32_t items = 0;
        for (uint32_t i = 0; i < parallelism; i++) {
            restore_subtask(&now[i], i, parallelism, handles);
            entries += state_table_entry_count(now[i].table);
            ck_assert_uint_eq(now[i].union_count, 2);
            for (uint32_t j = 0; j < now[i].list_count; j++, items++) {
                ck_assert(!seen[now[i].list[j]]);
                seen[now[i].list[j]] = true;
            }
            ck_assert_uint_ge(now[i].list_count, 20 / parallelism);
        }
        ck_assert_uint_eq(entries, KEYS);
        ck_assert_uint_eq(items, 20);
        for (uint32_t key = 0; key < KEYS; key++) {
            uint64_t sum = 0;
            for (uint32_t i = 0; i < parallelism; i++)
                if (group_of(key) >= now[i].first && group_of(key) <= now[i].last)
                    sum += get(now[i].table, key);
            ck_assert_uint_eq(sum, key + 1);
        }
        json_decref(handles);
    }
    finish_subtasks(now, parallelism);
    remove_directory();
}
END_TEST

/* ---- the barrier ---- */

struct write_job {
    struct snapshot *snapshot;
    const char *name;
    json_t *handles;
};

static void *write_on_worker(void *arg)
{
    struct write_job *job = arg;
    struct snapshot_result result;
    no_error(snapshot_write(job->snapshot, directory, job->name, 0, 0, GROUPS - 1, &result));
    job->handles = result.handles;
    return NULL;
}

START_TEST(a_snapshot_shows_the_state_at_the_barrier)
{
    make_directory();
    struct state_table *table = bytes_table(0, GROUPS - 1);
    for (uint64_t round = 1; round <= 5; round++) {
        for (uint32_t i = 0; i < KEYS; i++)
            put(table, i, round * 1000 + i % 7);
        struct write_job job = {.snapshot = snapshot_create(), .name = "state"};
        snapshot_begin_operator(job.snapshot, operator_a);
        snapshot_add_table(job.snapshot, "counts", table, NULL);
        pthread_t worker;
        ck_assert_int_eq(pthread_create(&worker, NULL, write_on_worker, &job), 0);
        for (uint32_t i = 0; i < KEYS; i++) {
            uint32_t key = i * 7919 % KEYS;
            int64_t window = key % 3;
            if (i % 4 == 0)
                state_table_remove(table, group_of(key), hash_of(key), &key, sizeof key, &window, sizeof window);
            else
                put(table, key, 77);
            put(table, KEYS + i, 5);
        }
        pthread_join(worker, NULL);
        snapshot_destroy(job.snapshot);
        struct restored_state *state;
        no_error(restored_state_open(directory, job.handles, operator_a, 0, 1, 0, GROUPS - 1, &state));
        struct state_table *restored = bytes_table(0, GROUPS - 1);
        no_error(restored_state_load(state, "counts", restored));
        ck_assert_uint_eq(state_table_entry_count(restored), round == 1 ? KEYS : 2 * KEYS);
        for (uint32_t i = 0; i < KEYS; i++)
            ck_assert_uint_eq(get(restored, i), round * 1000 + i % 7);
        restored_state_close(state);
        state_table_destroy(restored);
        json_decref(job.handles);
    }
    state_table_destroy(table);
    remove_directory();
}
END_TEST

/* ---- schemas ---- */

struct old_total {
    int32_t count;
    bool is_open;
    double sum;
    int16_t gone;
};
static const struct field old_fields[] = {{.name = (char[]){"count"}, .type = TYPE_INT32}, {.name = (char[]){"is_open"}, .type = TYPE_BOOLEAN},
                                          {.name = (char[]){"sum"}, .type = TYPE_DOUBLE}, {.name = (char[]){"gone"}, .type = TYPE_INT16}};
struct new_total {
    double sum;
    int64_t count;
    float ratio;
    bool is_open;
};
static const struct field new_fields[] = {{.name = (char[]){"sum"}, .type = TYPE_DOUBLE}, {.name = (char[]){"count"}, .type = TYPE_INT64},
                                          {.name = (char[]){"ratio"}, .type = TYPE_FLOAT}, {.name = (char[]){"is_open"}, .type = TYPE_BOOLEAN}};
static const struct field bad_fields[] = {{.name = (char[]){"count"}, .type = TYPE_INT16}};

static json_t *write_one_table(struct state_table *table, const char *name)
{
    struct snapshot *snapshot = snapshot_create();
    struct snapshot_result result;
    snapshot_begin_operator(snapshot, operator_a);
    snapshot_add_table(snapshot, "totals", table, NULL);
    no_error(snapshot_write(snapshot, directory, name, 0, 0, GROUPS - 1, &result));
    snapshot_destroy(snapshot);
    return result.handles;
}

static struct error *load_table(const json_t *handles, struct state_table *table)
{
    struct restored_state *state;
    TRY(restored_state_open(directory, handles, operator_a, 0, 1, 0, GROUPS - 1, &state));
    struct error *err = restored_state_load(state, "totals", table);
    restored_state_close(state);
    return err;
}

static struct state_table *record_table(const struct field *fields, uint32_t count)
{
    struct schema *schema = schema_create(fields, count);
    struct state_table *table = state_table_create(
        &(struct state_table_options){.key_group_last = GROUPS - 1, .value_schema = schema, .value_form = STATE_VALUE_RECORD});
    schema_unref(schema);
    return table;
}

START_TEST(record_values_convert_by_field_name)
{
    make_directory();
    struct state_table *old = record_table(old_fields, 4), *new = record_table(new_fields, 4), *bad = record_table(bad_fields, 1);
    for (uint32_t i = 0; i < 1000; i++) {
        struct old_total total = {.count = -(int32_t)i, .is_open = i % 2, .sum = i * 0.5, .gone = 3};
        state_table_put(old, group_of(i), hash_of(i), &i, sizeof i, NULL, 0, &total, sizeof total);
    }
    json_t *handles = write_one_table(old, "state");
    no_error(load_table(handles, new));
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t ref = state_table_find(new, group_of(i), hash_of(i), &i, sizeof i, NULL, 0);
        ck_assert_uint_ne(ref, STATE_REF_NONE);
        ck_assert_uint_eq(state_table_entry(new, ref)->value_length, sizeof(struct new_total));
        const struct new_total *total = state_table_value(new, ref);
        ck_assert_int_eq(total->count, -(int64_t)i);
        ck_assert_int_eq(total->is_open, i % 2);
        ck_assert(total->sum == i * 0.5 && total->ratio == 0);
    }
    struct error *err = load_table(handles, bad);
    ck_assert_ptr_nonnull(err);
    ck_assert_int_eq(err->code, ERR_CONFLICT);
    char *text = error_text(err);
    ck_assert_ptr_nonnull(strstr(text, "\"count\""));
    ck_assert_ptr_nonnull(strstr(text, "totals"));
    free(text);
    error_free(err);
    json_decref(handles);
    state_table_destroy(old);
    state_table_destroy(new);
    state_table_destroy(bad);
    remove_directory();
}
END_TEST

struct packed_total {
    int64_t sum;
    int32_t count;
    int32_t last;
};
static const struct field packed_fields[] = {{.name = (char[]){"sum"}, .type = TYPE_INT64}, {.name = (char[]){"count"}, .type = TYPE_INT32},
                                             {.name = (char[]){"last"}, .type = TYPE_INT32}};

/* Records that are rows as they lie, many blocks of them. */
START_TEST(packed_records_come_back)
{
    enum { COUNT = 60000 };
    make_directory();
    struct state_table *table = record_table(packed_fields, 3), *back = record_table(packed_fields, 3);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct packed_total total = {.sum = -(int64_t)i * 1000003, .count = (int32_t)i, .last = -7};
        state_table_put(table, group_of(i), hash_of(i), &i, sizeof i, NULL, 0, &total, sizeof total);
    }
    json_t *handles = write_one_table(table, "state");
    no_error(load_table(handles, back));
    ck_assert_uint_eq(state_table_entry_count(back), COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint64_t ref = state_table_find(back, group_of(i), hash_of(i), &i, sizeof i, NULL, 0);
        const struct packed_total *total = state_table_value(back, ref);
        ck_assert(total->sum == -(int64_t)i * 1000003 && total->count == (int32_t)i && total->last == -7);
    }
    json_decref(handles);
    state_table_destroy(table);
    state_table_destroy(back);
    remove_directory();
}
END_TEST

/* Number i as a key, a namespace and a value of lengths around those that are copied, counted and buffered differently. */
static const uint32_t entry_sizes[] = {0, 1, 7, 8, 9, 15, 16, 17, 127, 128, 129, 1000, 5000, 16384, 300000};
#define SIZE_COUNT ((uint32_t)(sizeof entry_sizes / sizeof entry_sizes[0]))

static void fill_bytes(uint8_t *bytes, uint32_t length, uint32_t seed)
{
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)((i + seed) * 2654435761u >> 24);
}

START_TEST(entries_of_every_size)
{
    make_directory();
    struct state_table *table = bytes_table(0, GROUPS - 1), *back = bytes_table(0, GROUPS - 1);
    uint8_t *key = heap_alloc(1000), *name_space = heap_alloc(1000), *value = heap_alloc(300000);
    uint32_t count = 0;
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t k = 1; k < 12; k++)
            for (uint32_t n = 0; n < 12; n++)
                for (uint32_t v = 0; v < SIZE_COUNT; v++) {
                    uint32_t length = k < 3 || v < 13 ? entry_sizes[v] : 64, number = k << 16 | n << 8 | v;
                    fill_bytes(key, entry_sizes[k], number);
                    fill_bytes(name_space, entry_sizes[n], number + 1);
                    fill_bytes(value, length, number + 2);
                    uint64_t hash = hash_of(number);
                    if (pass == 0) {
                        state_table_put(table, group_of(number), hash, key, entry_sizes[k], name_space, entry_sizes[n], value, length);
                        count++;
                        continue;
                    }
                    uint64_t ref = state_table_find(back, group_of(number), hash, key, entry_sizes[k], name_space, entry_sizes[n]);
                    ck_assert_uint_ne(ref, STATE_REF_NONE);
                    ck_assert_uint_eq(state_table_entry(back, ref)->value_length, length);
                    ck_assert(length == 0 || memcmp(state_table_entry(back, ref)->data, value, length) == 0);
                }
        if (pass > 0)
            break;
        json_t *handles = write_one_table(table, "state");
        no_error(load_table(handles, back));
        ck_assert_uint_eq(state_table_entry_count(back), count);
        json_decref(handles);
    }
    free(key);
    free(name_space);
    free(value);
    state_table_destroy(table);
    state_table_destroy(back);
    remove_directory();
}
END_TEST

/* ---- damage ---- */

static uint8_t *read_file(const char *path, size_t *length)
{
    struct stat stat_buf;
    int fd = open(path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &stat_buf), 0);
    *length = (size_t)stat_buf.st_size;
    uint8_t *bytes = malloc(*length);
    ck_assert_int_eq(read(fd, bytes, *length), stat_buf.st_size);
    close(fd);
    return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, length), (ssize_t)length);
    close(fd);
}

static void expect_corrupt(const json_t *handles, size_t position)
{
    struct state_table *table = bytes_table(0, GROUPS - 1);
    struct restored_state *state;
    struct error *err = restored_state_open(directory, handles, operator_a, 0, 1, 0, GROUPS - 1, &state);
    if (err == NULL)
        ck_abort_msg("damage at byte %zu went unnoticed", position);
    if (err->code != ERR_CORRUPT && err->code != ERR_UNSUPPORTED)
        ck_abort_msg("damage at byte %zu: %s", position, error_text(err));
    char *text = error_text(err);
    ck_assert_ptr_nonnull(strstr(text, "state-file"));
    free(text);
    error_free(err);
    state_table_destroy(table);
}

/* A machine that does not see the place of the checkpoints says nothing about them. */
START_TEST(a_missing_file_system_is_no_damage)
{
    json_t *handles = json_pack("[{s:s,s:s}]", "operator", id_format(operator_a).hex, "path", "state-file");
    struct restored_state *state;
    struct error *err = restored_state_open("/nowhere/job/chk-7", handles, operator_a, 0, 1, 0, GROUPS - 1, &state);
    ck_assert_ptr_nonnull(err);
    char *text = error_text(err);
    ck_assert_msg(err->code == ERR_IO && strstr(text, "/nowhere/job does not exist on this machine") != NULL, "%s", text);
    free(text);
    error_free(err);
    json_decref(handles);
}
END_TEST

START_TEST(every_damaged_byte_is_noticed)
{
    make_directory();
    struct state_table *table = bytes_table(0, GROUPS - 1);
    for (uint32_t i = 0; i < 12; i++)
        put(table, i, i);
    struct snapshot *snapshot = snapshot_create();
    struct snapshot_result result;
    snapshot_begin_operator(snapshot, operator_a);
    snapshot_add_table(snapshot, "totals", table, NULL);
    snapshot_add_list_item(snapshot, "offsets", "0123456789", 10);
    no_error(snapshot_write(snapshot, directory, "state-file", 0, 0, GROUPS - 1, &result));
    snapshot_destroy(snapshot);
    char path[128];
    snprintf(path, sizeof path, "%s/state-file", directory);
    size_t length;
    uint8_t *bytes = read_file(path, &length);
    json_object_del(json_array_get(result.handles, 0), "crc"); /* the file alone must do */
    for (size_t i = 0; i < length; i++) {
        bytes[i] ^= (uint8_t)(1u << (i % 8));
        write_file(path, bytes, length);
        expect_corrupt(result.handles, i);
        bytes[i] ^= (uint8_t)(1u << (i % 8));
    }
    json_object_del(json_array_get(result.handles, 0), "size");
    for (size_t i = 0; i < length; i += 3) {
        write_file(path, bytes, i);
        expect_corrupt(result.handles, i);
    }
    unlink(path);
    expect_corrupt(result.handles, length);
    free(bytes);
    json_decref(result.handles);
    state_table_destroy(table);
    remove_directory();
}
END_TEST

START_TEST(a_full_disk_leaves_no_file)
{
    make_directory();
    struct state_table *table = bytes_table(0, GROUPS - 1);
    for (uint32_t i = 0; i < 200000; i++)
        put(table, i, i);
    struct snapshot *snapshot = snapshot_create();
    struct snapshot_result result;
    snapshot_begin_operator(snapshot, operator_a);
    snapshot_add_table(snapshot, "totals", table, NULL);
    struct rlimit limit = {3000000, RLIM_INFINITY}; /* stands for the full disk: write gives a short count, then an error */
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct error *err = snapshot_write(snapshot, directory, "state", 0, 0, GROUPS - 1, &result);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}), 0);
    ck_assert_ptr_nonnull(err);
    ck_assert_int_eq(err->code, ERR_IO);
    error_free(err);
    snapshot_destroy(snapshot);
    state_table_destroy(table);
    ck_assert_int_eq(rmdir(directory), 0); /* empty */
}
END_TEST

START_TEST(an_empty_snapshot_writes_nothing)
{
    make_directory();
    struct snapshot *snapshot = snapshot_create();
    struct snapshot_result result;
    no_error(snapshot_write(snapshot, directory, "state", 0, 0, GROUPS - 1, &result));
    ck_assert_uint_eq(json_array_size(result.handles), 0);
    ck_assert_uint_eq(result.bytes, 0);
    json_decref(result.handles);
    snapshot_destroy(snapshot);
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

/* A window operator has a table a window, and of windows that wait for their time there may be very many: what is quadratic in them would
 * not end within the test's time. */
START_TEST(sixty_thousand_tables)
{
    enum { TABLES = 60000 };
    make_directory();
    struct state_table *table = bytes_table(0, GROUPS - 1);
    put(table, 1, 42);
    struct snapshot *snapshot = snapshot_create();
    struct snapshot_result result;
    char name[32];
    for (int i = 0; i < 2 * TABLES; i++) {
        if (i % TABLES == 0)
            snapshot_begin_operator(snapshot, i == 0 ? operator_a : operator_b);
        snprintf(name, sizeof name, "window/%d", i);
        snapshot_add_table(snapshot, name, table, NULL);
    }
    no_error(snapshot_write(snapshot, directory, "state", 0, 0, GROUPS - 1, &result));
    snapshot_destroy(snapshot);
    struct restored_state *state;
    no_error(restored_state_open(directory, result.handles, operator_b, 0, 1, 0, GROUPS - 1, &state));
    json_t *tables = restored_state_tables(state), *one;
    size_t index;
    ck_assert_uint_eq(json_array_size(tables), TABLES);
    json_array_foreach(tables, index, one)
    {
        put(table, 1, 0);
        no_error(restored_state_load(state, json_string_value(json_object_get(one, "name")), table));
        ck_assert_uint_eq(get(table, 1), 42);
    }
    state_table_destroy(table);
    json_decref(tables);
    json_decref(result.handles);
    restored_state_close(state);
    remove_directory();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot");
    TCase *tcase = tcase_create("snapshot");
    tcase_set_timeout(tcase, 120);
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, rescaling_keeps_everything);
    tcase_add_test(tcase, a_snapshot_shows_the_state_at_the_barrier);
    tcase_add_test(tcase, record_values_convert_by_field_name);
    tcase_add_test(tcase, packed_records_come_back);
    tcase_add_test(tcase, entries_of_every_size);
    tcase_add_test(tcase, every_damaged_byte_is_noticed);
    tcase_add_test(tcase, a_missing_file_system_is_no_damage);
    tcase_add_test(tcase, a_full_disk_leaves_no_file);
    tcase_add_test(tcase, an_empty_snapshot_writes_nothing);
    tcase_add_test(tcase, sixty_thousand_tables);
    return run_suite(suite);
}
