/* Where a task's time goes, read while it goes there (taskmanager/task/op_monitor.h), statuses, and names of topics that are alike. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "taskmanager/connectors/kafka/kafka_neighbours.h"
#include "taskmanager/task/op_monitor.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

static int64_t value(struct op_monitor *monitor, uint32_t index, const char *name)
{
    json_t *json = json_object();
    op_monitor_put_json(monitor, index, json);
    int64_t found = json_integer_value(json_object_get(json_object_get(json, "metrics"), name));
    json_decref(json);
    return found;
}

static int64_t own_ms(struct op_monitor *monitor, uint32_t index)
{
    return value(monitor, index, "accumulateOperatorTimeMs");
}

static int64_t wait_ms(struct op_monitor *monitor, uint32_t index)
{
    return value(monitor, index, "accumulateOutsideTimeMs");
}

static void pass_ms(int64_t ms)
{
    int64_t end_ns = clock_mono_ns() + ms * 1000000;
    while (clock_mono_ns() < end_ns)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

/* Exact in what it excludes; upper bounds would be a bet on the machine's load. */
START_TEST(time_belongs_to_one_place)
{
    struct op_monitor *monitor = op_monitor_create(2);
    int64_t start_ns = clock_mono_ns();
    op_monitor_start(monitor);
    ck_assert_uint_eq(op_monitor_switch(monitor, op_place_own(0)), OP_PLACE_LOOP);
    pass_ms(10);
    ck_assert_uint_eq(op_monitor_switch(monitor, op_place_own(1)), op_place_own(0)); /* it emits */
    ck_assert_uint_eq(op_monitor_switch(monitor, op_place_wait(1)), op_place_own(1));
    pass_ms(20);
    ck_assert_int_ge(wait_ms(monitor, 1), 20); /* seen while it lasts */
    op_monitor_switch(monitor, op_place_own(1));
    op_monitor_switch(monitor, OP_PLACE_SHUFFLE);
    pass_ms(5);
    op_monitor_switch(monitor, op_place_own(0));
    int64_t first = own_ms(monitor, 0), waited = wait_ms(monitor, 1), shuffled = op_monitor_shuffle_ms(monitor);
    int64_t all = first + own_ms(monitor, 1) + waited + shuffled + wait_ms(monitor, 0);
    ck_assert_int_ge(first, 10);
    ck_assert_int_ge(waited, 20);
    ck_assert_int_ge(shuffled, 5);
    ck_assert_int_eq(wait_ms(monitor, 0), 0);
    ck_assert_int_le(all, (clock_mono_ns() - start_ns) / 1000000);
    pass_ms(3);
    ck_assert_int_eq(wait_ms(monitor, 1), waited);
    ck_assert_int_ge(own_ms(monitor, 0), first + 2);
    op_monitor_destroy(monitor);
    op_monitor_destroy(NULL);
    ck_assert_uint_eq(op_monitor_switch(NULL, op_place_own(0)), OP_PLACE_LOOP);
}
END_TEST

struct readers {
    struct op_monitor *monitor;
    atomic_bool is_over;
    atomic_bool has_fallen;
};

static void *read_on(void *argument)
{
    struct readers *readers = argument;
    int64_t own = 0, waited = 0;
    while (!atomic_load(&readers->is_over)) {
        int64_t now_own = own_ms(readers->monitor, 0), now_waited = wait_ms(readers->monitor, 0);
        if (now_own < own || now_waited < waited)
            atomic_store(&readers->has_fallen, true);
        own = now_own;
        waited = now_waited;
    }
    return NULL;
}

START_TEST(totals_never_fall)
{
    struct readers readers = {.monitor = op_monitor_create(1)};
    pthread_t thread;
    op_monitor_start(readers.monitor);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_on, &readers), 0);
    for (int i = 0; i < 50000; i++) {
        op_monitor_switch(readers.monitor, op_place_own(0));
        op_monitor_switch(readers.monitor, op_place_wait(0));
        if (i % 1000 == 0)
            op_monitor_set_status(readers.monitor, 0, i % 2000 == 0 ? "busy" : NULL, NULL, "text");
        op_monitor_switch(readers.monitor, OP_PLACE_LOOP);
    }
    atomic_store(&readers.is_over, true);
    pthread_join(thread, NULL);
    ck_assert(!atomic_load(&readers.has_fallen));
    op_monitor_destroy(readers.monitor);
}
END_TEST

static json_t *status(struct op_monitor *monitor, uint32_t index)
{
    json_t *json = json_pack("{s:s}", "status", "an old one");
    op_monitor_put_json(monitor, index, json);
    json_t *found = json_incref(json_object_get(json, "status"));
    json_decref(json);
    return found;
}

START_TEST(statuses_keep_their_time)
{
    struct op_monitor *monitor = op_monitor_create(2);
    ck_assert_ptr_null(status(monitor, 0));
    op_monitor_set_status(monitor, 1, "topic-missing", "inpt", "first");
    json_t *first = status(monitor, 1);
    ck_assert_ptr_null(status(monitor, 0));
    ck_assert_str_eq(json_string_value(json_object_get(first, "subject")), "inpt");
    pass_ms(2);
    op_monitor_set_status(monitor, 1, "topic-missing", "inpt", "again");
    json_t *again = status(monitor, 1);
    ck_assert_str_eq(json_string_value(json_object_get(again, "text")), "again");
    ck_assert_int_eq(json_integer_value(json_object_get(again, "since")), json_integer_value(json_object_get(first, "since")));
    op_monitor_set_status(monitor, 1, "topic-missing", "output", "another");
    json_t *another = status(monitor, 1);
    ck_assert_int_gt(json_integer_value(json_object_get(another, "since")), json_integer_value(json_object_get(first, "since")));
    op_monitor_set_status(monitor, 1, NULL, NULL, NULL);
    ck_assert_ptr_null(status(monitor, 1));
    json_decref(first);
    json_decref(again);
    json_decref(another);
    op_monitor_destroy(monitor);
}
END_TEST

START_TEST(names_that_are_alike)
{
    ck_assert_uint_eq(kafka_name_distance("input", "input"), 0);
    ck_assert_uint_eq(kafka_name_distance("inpt", "input"), 1);
    ck_assert_uint_eq(kafka_name_distance("Input", "input"), 0);
    ck_assert_uint_eq(kafka_name_distance("inptu", "input"), 2);
    ck_assert_uint_eq(kafka_name_distance("", "abc"), 3);
    ck_assert_uint_eq(kafka_name_distance("abc", ""), 3);
    ck_assert_uint_eq(kafka_name_distance("kitten", "sitting"), 3);
    char longest[1000];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    ck_assert_uint_eq(kafka_name_distance(longest, "x"), 248); /* names end at Kafka's limit */
    ck_assert_uint_eq(kafka_name_distance("x", longest), 248);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("op_monitor");
    TCase *tests = tcase_create("op_monitor");
    tcase_add_test(tests, time_belongs_to_one_place);
    tcase_add_test(tests, totals_never_fall);
    tcase_add_test(tests, statuses_keep_their_time);
    tcase_add_test(tests, names_that_are_alike);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
