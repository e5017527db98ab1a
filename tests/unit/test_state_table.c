/* State tables against a reference: random operations on a table and on a plain array of expected values, with iteration,
 * removal while iterating, growing values, batches of rows, and views that must show the state of their moment. */
#include "taskmanager/state/state_table.h"

#include "common/base/heap.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_COUNT 3000
#define GROUP_COUNT 16

static uint64_t random_state;

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

/* Key number -> bytes of 4 to 40, its hash (deliberately weak for some: collisions) and namespace. */
struct key {
    uint8_t bytes[48];
    uint32_t length;
    uint64_t hash;
    uint32_t group;
    int64_t name_space;
    uint32_t namespace_length;
};

static struct key key_of(uint32_t number)
{
    struct key key = {.length = 4 + number % 37, .namespace_length = number % 3 == 0 ? 0 : 8};
    memset(key.bytes, (int)(number & 0xff), sizeof key.bytes);
    memcpy(key.bytes, &number, sizeof number);
    key.hash = number % 5 == 0 ? number / 50 : number * UINT64_C(0x9e3779b97f4a7c15);
    key.group = 100 + number % GROUP_COUNT;
    key.name_space = (int64_t)(number % 7) * 15000;
    return key;
}

/* What the table should hold: value length + 1, 0 when absent; the value's bytes are all `fill`. */
struct expected {
    uint32_t length_plus_one;
    uint8_t fill;
};

static uint32_t random_length(void)
{
    uint32_t dice = random_below(1000);
    return dice == 0 ? 20000 + random_below(100000) : dice < 20 ? random_below(3000) : dice < 500 ? 8 : random_below(64);
}

static void check_value(const struct state_entry *entry, const struct expected *expected)
{
    ck_assert_uint_eq(entry->value_length + 1, expected->length_plus_one);
    for (uint32_t i = 0; i < entry->value_length; i++)
        if (entry->data[i] != expected->fill)
            ck_abort_msg("byte %u of a value is %u instead of %u", i, entry->data[i], expected->fill);
}

static uint32_t number_of(const struct state_entry *entry)
{
    uint32_t number;
    memcpy(&number, state_entry_key(entry), sizeof number);
    return number;
}

static void check_all(struct state_table *table, const struct expected *expected)
{
    uint8_t *seen = calloc(KEY_COUNT, 1);
    struct state_iterator iterator;
    const struct state_entry *entry;
    uint64_t count = 0, live = 0;
    state_iterator_init(&iterator, table);
    while (state_iterator_next(&iterator, &entry) != STATE_REF_NONE) {
        uint32_t number = number_of(entry);
        ck_assert_uint_lt(number, KEY_COUNT);
        ck_assert_uint_eq(seen[number]++, 0);
        check_value(entry, &expected[number]);
        count++;
    }
    state_iterator_finish(&iterator);
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        struct key key = key_of(i);
        uint64_t ref = state_table_find(table, key.group, key.hash, key.bytes, key.length, &key.name_space, key.namespace_length);
        ck_assert_int_eq(ref != STATE_REF_NONE, expected[i].length_plus_one != 0);
        if (ref != STATE_REF_NONE)
            check_value(state_table_entry(table, ref), &expected[i]);
        live += expected[i].length_plus_one != 0;
    }
    ck_assert_uint_eq(count, live);
    ck_assert_uint_eq(state_table_entry_count(table), live);
    free(seen);
}

static void random_put(struct state_table *table, struct expected *expected, uint32_t number)
{
    struct key key = key_of(number);
    bool is_new;
    uint32_t length = random_below(2) && expected[number].length_plus_one != 0 ? expected[number].length_plus_one - 1 : random_length();
    uint8_t *value = state_table_upsert(table, key.group, key.hash, key.bytes, key.length, &key.name_space, key.namespace_length, length, &is_new);
    ck_assert_int_eq(is_new, expected[number].length_plus_one == 0);
    uint32_t kept = is_new ? 0 : expected[number].length_plus_one - 1;
    for (uint32_t i = 0; i < length; i++)
        if (value[i] != (i < kept ? expected[number].fill : 0))
            ck_abort_msg("byte %u of %u (%u kept) after an upsert is %u", i, length, kept, value[i]);
    expected[number] = (struct expected){length + 1, (uint8_t)random_next()};
    memset(value, expected[number].fill, length);
}

static void random_remove(struct state_table *table, struct expected *expected, uint32_t number)
{
    struct key key = key_of(number);
    bool removed = state_table_remove(table, key.group, key.hash, key.bytes, key.length, &key.name_space, key.namespace_length);
    ck_assert_int_eq(removed, expected[number].length_plus_one != 0);
    expected[number].length_plus_one = 0;
}

/* Removes about half of what it sees, as a firing window does. */
static void remove_iterating(struct state_table *table, struct expected *expected, uint32_t divisor)
{
    struct state_iterator iterator;
    const struct state_entry *entry;
    uint64_t ref;
    state_iterator_init(&iterator, table);
    while ((ref = state_iterator_next(&iterator, &entry)) != STATE_REF_NONE) {
        uint32_t number = number_of(entry);
        if (random_below(divisor) != 0)
            continue;
        expected[number].length_plus_one = 0;
        state_table_remove_ref(table, ref);
        if (random_below(8) == 0) {
            uint32_t other = random_below(KEY_COUNT);
            random_put(table, expected, other);
        }
    }
    state_iterator_finish(&iterator);
}

struct captured {
    struct state_view *view;
    struct expected *expected;
    uint64_t seen;
};

static struct error *compare_page(void *arg, struct state_entries entries)
{
    struct captured *captured = arg;
    const struct state_entry *entry;
    uint32_t key_group = UINT32_MAX;
    while ((entry = state_entries_next(&entries)) != NULL) {
        uint32_t number = number_of(entry);
        check_value(entry, &captured->expected[number]);
        captured->expected[number].length_plus_one = 0; /* each once */
        captured->seen++;
        ck_assert(key_group == UINT32_MAX || key_group == entry->key_group);
        key_group = entry->key_group;
    }
    return NULL;
}

static void check_view(struct captured *captured)
{
    struct error *err = state_view_consume(captured->view, compare_page, captured);
    ck_assert_ptr_null(err);
    for (uint32_t i = 0; i < KEY_COUNT; i++)
        ck_assert_uint_eq(captured->expected[i].length_plus_one, 0);
    state_view_destroy(captured->view);
    free(captured->expected);
    *captured = (struct captured){0};
}

static void random_views(struct state_table *table, const struct expected *expected, struct captured *views)
{
    struct captured *at = &views[random_below(3)];
    if (at->view != NULL) {
        check_view(at);
        return;
    }
    at->view = state_view_create(table);
    at->expected = heap_memdup(expected, KEY_COUNT * sizeof *expected);
}

static struct state_table *table_create(void)
{
    return state_table_create(&(struct state_table_options){.key_group_first = 100, .key_group_last = 100 + GROUP_COUNT - 1});
}

START_TEST(random_operations_equal_the_reference)
{
    random_state = (uint64_t)_i * 7919 + 1;
    struct state_table *table = table_create();
    struct expected *expected = calloc(KEY_COUNT, sizeof *expected);
    struct captured views[3] = {0};
    for (int step = 0; step < 30000; step++) {
        uint32_t number = random_below(KEY_COUNT), dice = random_below(1000);
        if (dice < 600)
            random_put(table, expected, number);
        else if (dice < 990)
            random_remove(table, expected, number);
        else if (dice < 992)
            remove_iterating(table, expected, 1 + random_below(3));
        else if (dice < 998)
            random_views(table, expected, views);
        if (step % 5000 == 0)
            check_all(table, expected);
        if (dice == 999 && random_below(30) == 0) {
            state_table_clear(table);
            memset(expected, 0, KEY_COUNT * sizeof *expected);
        }
    }
    check_all(table, expected);
    for (int i = 0; i < 3; i++)
        if (views[i].view != NULL)
            check_view(&views[i]);
    state_table_destroy(table);
    free(expected);
}
END_TEST

START_TEST(space_of_removed_entries_comes_back)
{
    struct state_table *table = table_create();
    uint64_t peak = 0;
    for (int64_t pane = 0; pane < 200; pane++) {
        for (uint32_t i = 0; i < 5000; i++) {
            uint64_t hash = i * UINT64_C(0x9e3779b97f4a7c15);
            state_table_upsert(table, 100 + i % GROUP_COUNT, hash, &i, sizeof i, &pane, sizeof pane, 8, NULL);
        }
        for (uint32_t i = 0; i < 5000; i++) { /* the pane before, in another order, but for every 50th entry */
            uint32_t number = (i * 7 + 3) % 5000;
            int64_t old = pane - 1;
            if (number % 50 != 0 || pane % 10 == 0)
                state_table_remove(table, 100 + number % GROUP_COUNT, number * UINT64_C(0x9e3779b97f4a7c15), &number, sizeof number, &old,
                                   sizeof old);
        }
        if (pane == 5)
            peak = state_table_size_bytes(table);
    }
    ck_assert_uint_lt(state_table_size_bytes(table), peak * 8);
    struct state_iterator iterator;
    uint64_t ref;
    state_iterator_init(&iterator, table);
    while ((ref = state_iterator_next(&iterator, NULL)) != STATE_REF_NONE)
        state_table_remove_ref(table, ref);
    state_iterator_finish(&iterator);
    ck_assert_uint_eq(state_table_entry_count(table), 0);
    ck_assert_uint_lt(state_table_size_bytes(table), 600000);
    state_table_destroy(table);
}
END_TEST

START_TEST(few_keys_stay_small)
{
    struct state_table *table = state_table_create(&(struct state_table_options){.key_group_last = 127});
    for (uint32_t i = 0; i < 6; i++)
        state_table_upsert(table, i * 20, i * UINT64_C(0x9e3779b97f4a7c15), &i, sizeof i, NULL, 0, 8, NULL);
    ck_assert_uint_lt(state_table_size_bytes(table), 64 * 1024);
    state_table_destroy(table);
}
END_TEST

START_TEST(batches_of_rows_equal_single_calls)
{
    enum { ROWS = 1000 };
    struct state_table *table = table_create();
    uint8_t *keys = malloc(ROWS * 48);
    uint32_t offsets[ROWS + 1], groups[ROWS], picked[ROWS];
    uint64_t hashes[ROWS], refs[ROWS], found[ROWS];
    int64_t namespaces[ROWS];
    bool is_new[ROWS];
    random_state = 99;
    for (int round = 0; round < 50; round++) {
        offsets[0] = 0;
        for (uint32_t i = 0; i < ROWS; i++) {
            struct key key = key_of(random_below(KEY_COUNT));
            memcpy(keys + offsets[i], key.bytes, key.length);
            offsets[i + 1] = offsets[i] + key.length;
            hashes[i] = key.hash;
            groups[i] = key.group;
            picked[i] = ROWS - 1 - i;
            namespaces[i] = (int64_t)random_below(3);
        }
        struct state_rows rows = {.count = ROWS, .rows = round % 2 ? picked : NULL, .key_groups = groups, .hashes = hashes, .keys = keys,
                                  .key_offsets = offsets, .namespaces = namespaces, .namespace_length = 8, .namespace_stride = 8};
        uint64_t before = state_table_entry_count(table), made = 0;
        state_table_upsert_rows(table, &rows, 8, refs, is_new);
        state_table_find_rows(table, &rows, found);
        for (uint32_t i = 0; i < ROWS; i++) {
            uint32_t row = round % 2 ? picked[i] : i;
            ck_assert_uint_eq(refs[i], found[i]);
            ck_assert_uint_eq(refs[i], state_table_find(table, groups[row], hashes[row], keys + offsets[row], offsets[row + 1] - offsets[row],
                                                        &namespaces[i], 8));
            made += is_new[i];
            ++*(uint64_t *)state_table_value(table, refs[i]);
        }
        ck_assert_uint_eq(state_table_entry_count(table), before + made);
    }
    uint64_t total = 0;
    struct state_iterator iterator;
    const struct state_entry *entry;
    for (uint32_t group = 100; group < 100 + GROUP_COUNT; group++) {
        state_iterator_init_key_group(&iterator, table, group);
        while (state_iterator_next(&iterator, &entry) != STATE_REF_NONE) {
            uint64_t value;
            memcpy(&value, entry->data, sizeof value);
            ck_assert_uint_eq(entry->key_group, group);
            total += value;
        }
        state_iterator_finish(&iterator);
    }
    ck_assert_uint_eq(total, 50 * ROWS);
    free(keys);
    state_table_destroy(table);
}
END_TEST

static void *consume_on_worker(void *arg)
{
    check_view(arg);
    return NULL;
}

START_TEST(a_worker_reads_a_view_while_the_task_writes)
{
    random_state = 4242;
    struct state_table *table = table_create();
    struct expected *expected = calloc(KEY_COUNT, sizeof *expected);
    for (uint32_t i = 0; i < KEY_COUNT; i++)
        random_put(table, expected, i);
    for (int round = 0; round < 20; round++) {
        struct captured captured = {.view = state_view_create(table), .expected = heap_memdup(expected, KEY_COUNT * sizeof *expected)};
        pthread_t worker;
        ck_assert_int_eq(pthread_create(&worker, NULL, consume_on_worker, &captured), 0);
        for (int step = 0; step < 3000; step++) {
            uint32_t number = random_below(KEY_COUNT);
            if (random_below(3) == 0)
                random_remove(table, expected, number);
            else
                random_put(table, expected, number);
        }
        if (round % 4 == 0)
            remove_iterating(table, expected, 2);
        pthread_join(worker, NULL);
    }
    check_all(table, expected);
    state_table_destroy(table);
    free(expected);
}
END_TEST

/* What references can name is 128 million pages. Eight million are soon there: each value over 1 KiB has one of its own. */
START_TEST(tables_of_many_pages_keep_their_entries)
{
    enum { PAGES = 1 << 23, ENTRIES = 200 };
    static const struct state_table_options options = {.value_form = STATE_VALUE_BYTES};
    struct state_table *table = state_table_create(&options);
    table->pages = calloc(PAGES + 2 * ENTRIES, sizeof *table->pages); /* never touched, but for the last */
    ck_assert_ptr_nonnull(table->pages);
    table->page_capacity = PAGES + 2 * ENTRIES;
    table->page_count = PAGES - ENTRIES / 2;
    for (uint64_t i = 0; i < ENTRIES; i++)
        memcpy(state_table_upsert(table, 0, i * 77, &i, sizeof i, NULL, 0, i % 2 == 0 ? 2000 : 900, NULL), &i, sizeof i);
    for (uint64_t i = 0; i < ENTRIES; i++) {
        uint64_t ref = state_table_find(table, 0, i * 77, &i, sizeof i, NULL, 0);
        ck_assert_uint_ne(ref, STATE_REF_NONE);
        ck_assert_mem_eq(state_table_entry(table, ref)->data, &i, sizeof i);
        state_table_remove_ref(table, ref);
    }
    ck_assert_uint_eq(state_table_entry_count(table), 0);
    state_table_destroy(table);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state_table");
    TCase *tcase = tcase_create("state_table");
    tcase_set_timeout(tcase, 120);
    suite_add_tcase(suite, tcase);
    tcase_add_loop_test(tcase, random_operations_equal_the_reference, 0, 8);
    tcase_add_test(tcase, space_of_removed_entries_comes_back);
    tcase_add_test(tcase, few_keys_stay_small);
    tcase_add_test(tcase, batches_of_rows_equal_single_calls);
    tcase_add_test(tcase, a_worker_reads_a_view_while_the_task_writes);
    tcase_add_test(tcase, tables_of_many_pages_keep_their_entries);
    return run_suite(suite);
}
