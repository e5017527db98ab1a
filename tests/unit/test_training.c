/* The training exercises as they are shipped (client/examples, shared objects compiled by job-compiler): whole jobs over files of made
 * data against a straightforward computation, and single operators with times under the test's control. */
#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "tests/support/chain_harness.h"
#include "tests/support/local_job.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <dirent.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RIDE_COUNT 2000
#define DRIVER_COUNT 20
#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)
#define START INT64_C(1577836800000) /* 2020-01-01 */

static struct ride {
    int64_t start;
    int64_t end;
    int64_t driver;
    double start_lon;
    double tip;
} rides[RIDE_COUNT];

static char *folder;

static uint64_t random_state = 42;

static uint64_t random_below(uint64_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 33) % limit;
}

static void time_text(int64_t time_ms, char out[32])
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm utc;
    char text[24];
    gmtime_r(&seconds, &utc);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc);
    snprintf(out, 32, "%s.%03d", text, (int)(time_ms % 1000));
}

/* Longitudes are exact in a float, tips are whole cents in quarters: sums are exact in any order. */
static void make_rides(void)
{
    for (int i = 0; i < RIDE_COUNT; i++) {
        int64_t start = START + i * 20 * INT64_C(1000);
        rides[i] = (struct ride){.start = start, .end = start + 5 * MINUTE + (int64_t)random_below(150) * MINUTE,
                                 .driver = 100 + (int64_t)random_below(DRIVER_COUNT),
                                 .start_lon = random_below(4) == 0 ? -73.5 : -73.875, .tip = (double)random_below(40) / 4};
    }
}

static void write_ride(FILE *file, int id, bool is_start)
{
    char time[32];
    time_text(is_start ? rides[id].start : rides[id].end, time);
    fprintf(file, "{\"ride_id\":%d,\"is_start\":%s,\"event_time\":\"%s\",\"start_lon\":%.3f,\"start_lat\":40.75,\"end_lon\":-73.875,\"end_lat\":40.75,"
                  "\"passenger_count\":%d,\"taxi_id\":%d,\"driver_id\":%" PRId64 "}\n",
            id, is_start ? "true" : "false", time, rides[id].start_lon, 1 + id % 4, 1000 + id % 50, rides[id].driver);
}

struct event {
    int64_t time;
    int id;
    bool is_start;
};

static int compare_events(const void *a, const void *b)
{
    const struct event *first = a, *second = b;
    return first->time != second->time ? (first->time < second->time ? -1 : 1) : first->id - second->id;
}

/* Events in order of time, each up to a minute late: START and END of short rides swap now and then. */
static void write_files(void)
{
    static struct event events[2 * RIDE_COUNT];
    for (int i = 0; i < RIDE_COUNT; i++) {
        events[2 * i] = (struct event){rides[i].start + (int64_t)random_below(MINUTE), i, true};
        events[2 * i + 1] = (struct event){rides[i].end + (int64_t)random_below(MINUTE), i, false};
    }
    qsort(events, 2 * RIDE_COUNT, sizeof events[0], compare_events);
    char *path = heap_printf("%s/rides.json", folder);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 2 * RIDE_COUNT; i++)
        write_ride(file, events[i].id, events[i].is_start);
    fclose(file);
    free(path);
    path = heap_printf("%s/fares.json", folder);
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < RIDE_COUNT; i++) {
        int id = i ^ 1; /* neighbours swapped */
        char time[32];
        time_text(rides[id].start, time);
        fprintf(file, "{\"ride_id\":%d,\"taxi_id\":1,\"driver_id\":%" PRId64 ",\"start_time\":\"%s\",\"payment_type\":\"%s\",\"tip\":%.2f,\"tolls\":0,\"total_fare\":%d.5}\n",
                id, rides[id].driver, time, id % 2 == 0 ? "CASH" : "CARD", rides[id].tip, id);
    }
    fclose(file);
    free(path);
}

static void set_up(void)
{
    folder = temp_folder_create();
    make_rides();
    write_files();
}

static void tear_down(void)
{
    temp_folder_remove(folder);
}

static const char *build(void)
{
    const char *name = getenv("BUILD");
    return name != NULL ? name : "build";
}

static char *library_path(const char *example)
{
    return heap_printf("%s/bin/%s.so", build(), example);
}

static json_t *compile(const char *example, uint32_t parallelism)
{
    char *command = heap_printf("%s/bin/job-compiler --library %s/bin/%s.so --config parallelism.default=%u --config "
                                "pipeline.auto-watermark-interval=0 -- "
                                "--rides %s/rides.json --fares %s/fares.json --output %s/out",
                                build(), build(), example, parallelism, folder, folder, folder);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    json_t *json = json_loadf(pipe, 0, NULL);
    ck_assert_int_eq(pclose(pipe), 0);
    ck_assert_ptr_nonnull(json);
    free(command);
    return json;
}

/* Every line of every file in the output folder, by the given number member (or its place). */
static json_t *read_output(void)
{
    json_t *rows = json_array();
    char *path = heap_printf("%s/out", folder);
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        char *file_path = heap_printf("%s/%s", path, entry->d_name);
        FILE *file = fopen(file_path, "r");
        ck_assert_ptr_nonnull(file);
        char line[4096];
        while (fgets(line, sizeof line, file) != NULL) {
            json_t *row = json_loads(line, 0, NULL);
            ck_assert_msg(row != NULL, "not JSON: %s", line);
            json_array_append_new(rows, row);
        }
        fclose(file);
        free(file_path);
    }
    closedir(dir);
    free(path);
    return rows;
}

static json_t *run_job(const char *example, uint32_t parallelism)
{
    json_t *json = compile(example, parallelism);
    struct job_graph *graph = NULL;
    struct error *err = job_graph_from_json(json, &graph);
    ck_assert_msg(err == NULL, "%s", err != NULL ? err->message : "");
    json_decref(json);
    char *library = library_path(example);
    struct local_job *job = NULL;
    err = local_job_start(graph, &(struct local_job_options){.library_path = library}, &job);
    if (err == NULL)
        err = local_job_wait(job, 60000);
    ck_assert_msg(err == NULL, "%s", err != NULL ? error_take_text(err) : "");
    local_job_destroy(job);
    job_graph_destroy(graph);
    free(library);
    return read_output();
}

static int64_t number(const json_t *row, const char *member)
{
    const json_t *value = json_object_get(row, member);
    ck_assert_msg(json_is_integer(value), "no number %s", member);
    return json_integer_value(value);
}

START_TEST(cleansing_keeps_rides_in_the_city)
{
    json_t *rows = run_job("RideCleansing", 2);
    int expected = 0;
    for (int i = 0; i < RIDE_COUNT; i++)
        expected += rides[i].start_lon < -73.7 ? 2 : 0;
    ck_assert_int_gt(expected, RIDE_COUNT);
    ck_assert_int_eq((int)json_array_size(rows), expected);
    for (size_t i = 0; i < json_array_size(rows); i++)
        ck_assert(rides[number(json_array_get(rows, i), "ride_id")].start_lon < -73.7);
    json_decref(rows);
}
END_TEST

START_TEST(each_ride_gets_its_fare)
{
    json_t *rows = run_job("RidesAndFares", 2);
    bool *is_seen = heap_alloc_array(RIDE_COUNT, sizeof *is_seen);
    ck_assert_int_eq((int)json_array_size(rows), RIDE_COUNT);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        int64_t id = number(row, "ride_id");
        ck_assert(!is_seen[id]);
        is_seen[id] = true;
        ck_assert_int_eq(number(row, "driver_id"), rides[id].driver);
        ck_assert_int_eq(number(row, "passenger_count"), 1 + id % 4);
        ck_assert_str_eq(json_string_value(json_object_get(row, "payment_type")), id % 2 == 0 ? "CASH" : "CARD");
        ck_assert_double_eq(json_number_value(json_object_get(row, "total_fare")), (double)id + 0.5);
    }
    free(is_seen);
    json_decref(rows);
}
END_TEST

START_TEST(each_hour_has_its_best_driver)
{
    json_t *rows = run_job("HourlyTips", 2);
    int hours = (int)((rides[RIDE_COUNT - 1].start - START) / HOUR) + 1;
    ck_assert_int_eq((int)json_array_size(rows), hours);
    for (int hour = 0; hour < hours; hour++) {
        double sums[DRIVER_COUNT] = {0};
        bool has_any[DRIVER_COUNT] = {false};
        for (int i = 0; i < RIDE_COUNT; i++) {
            if ((rides[i].start - START) / HOUR == hour) {
                sums[rides[i].driver - 100] += rides[i].tip;
                has_any[rides[i].driver - 100] = true;
            }
        }
        int best = -1;
        for (int d = 0; d < DRIVER_COUNT; d++) {
            if (has_any[d] && (best < 0 || sums[d] > sums[best]))
                best = d;
        }
        char end[32];
        time_text(START + (hour + 1) * HOUR, end);
        const json_t *found = NULL;
        for (size_t i = 0; i < json_array_size(rows) && found == NULL; i++) {
            const char *text = json_string_value(json_object_get(json_array_get(rows, i), "window_end"));
            if (text != NULL && strncmp(text, end, 19) == 0)
                found = json_array_get(rows, i);
        }
        ck_assert_msg(found != NULL, "no row for the hour that ends %s", end);
        ck_assert_int_eq(number(found, "driver_id"), 100 + best);
        ck_assert_double_eq(json_number_value(json_object_get(found, "tips")), sums[best]);
    }
    json_decref(rows);
}
END_TEST

START_TEST(long_rides_alert_once)
{
    json_t *rows = run_job("LongRideAlerts", 2);
    bool *is_seen = heap_alloc_array(RIDE_COUNT, sizeof *is_seen);
    int expected = 0;
    for (int i = 0; i < RIDE_COUNT; i++)
        expected += rides[i].end - rides[i].start > 2 * HOUR;
    ck_assert_int_gt(expected, 100);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        int64_t id = number(json_array_get(rows, i), "ride_id");
        ck_assert_msg(!is_seen[id], "two alerts for ride %" PRId64, id);
        ck_assert_msg(rides[id].end - rides[id].start > 2 * HOUR, "ride %" PRId64 " was not long", id);
        is_seen[id] = true;
    }
    ck_assert_int_eq((int)json_array_size(rows), expected);
    free(is_seen);
    json_decref(rows);
}
END_TEST

/* ---- one operator, times by hand ---- */

/* The operators of an example, one of which is driven; its functions come from the shared object, in the global scope. */
static void open_operator(struct chain_harness *harness, const char *example, const char *type)
{
    char *library = library_path(example);
    ck_assert_msg(dlopen(library, RTLD_NOW | RTLD_GLOBAL) != NULL, "%s", dlerror());
    free(library);
    json_t *graph = compile(example, 1);
    json_t *operators = json_object_get(graph, "operators");
    size_t target = 0;
    while (strcmp(json_string_value(json_object_get(json_array_get(operators, target), "type")), type) != 0)
        target++;
    /* What follows is in a vertex of its own: the operator's output is collected in its place. */
    json_object_set_new(json_array_get(operators, target + 1), "chaining", json_string("HEAD"));
    while (json_array_size(operators) > target + 2)
        json_array_remove(operators, json_array_size(operators) - 1);
    chain_harness_init(harness, operators, (uint32_t)target, 0, NULL);
    json_decref(graph);
}

static void send_ride(struct chain_harness *harness, int64_t id, bool is_start, int64_t minute)
{
    int64_t time = START + minute * MINUTE;
    json_t *row = json_pack("[[I, b, I, f, f, f, f, i, i, i]]", (json_int_t)id, is_start, (json_int_t)time, 0.0, 0.0, 0.0, 0.0, 1, 1, 1);
    chain_harness_send(harness, 0, row, json_pack("[I]", (json_int_t)time));
}

/* Bytes of keyed state: the sum over the handles of a snapshot. */
static int64_t state_bytes(struct chain_harness *harness, uint64_t checkpoint)
{
    char *directory = temp_folder_create();
    json_t *handles = json_array(), *books = json_object();
    chain_harness_snapshot(harness, directory, checkpoint, handles, books);
    int64_t bytes = 0;
    size_t i;
    json_t *handle;
    json_array_foreach(handles, i, handle)
        bytes += json_integer_value(json_object_get(handle, "size"));
    json_decref(handles);
    json_decref(books);
    temp_folder_remove(directory);
    return bytes;
}

static void expect_alerts(struct chain_harness *harness, const char *expected)
{
    char *text = json_dumps(harness->collectors[0].rows, JSON_COMPACT);
    ck_assert_str_eq(text, expected);
    free(text);
}

START_TEST(alerts_in_every_order_leave_no_state)
{
    struct chain_harness harness;
    open_operator(&harness, "LongRideAlerts", "process");
    ck_assert_uint_eq(harness.output_count, 1);
    int64_t empty = state_bytes(&harness, 1);
    send_ride(&harness, 1, true, 0); /* short, in order */
    send_ride(&harness, 1, false, 100);
    send_ride(&harness, 2, false, 90); /* short, in reverse */
    send_ride(&harness, 2, true, 5);
    send_ride(&harness, 3, false, 150); /* long, in reverse: certain at once */
    send_ride(&harness, 3, true, 10);
    expect_alerts(&harness, "[[3]]");
    ck_assert_int_eq(state_bytes(&harness, 2), empty);
    send_ride(&harness, 4, true, 20); /* long, the end comes after the alert */
    send_ride(&harness, 5, true, 30); /* exactly two hours: not long */
    chain_harness_watermark(&harness, 0, START + 139 * MINUTE);
    expect_alerts(&harness, "[[3]]");
    chain_harness_watermark(&harness, 0, START + 140 * MINUTE);
    expect_alerts(&harness, "[[3],[4]]");
    send_ride(&harness, 5, false, 150);
    send_ride(&harness, 4, false, 145);
    ck_assert_int_gt(state_bytes(&harness, 3), empty);
    chain_harness_watermark(&harness, 0, START + 200 * MINUTE);
    expect_alerts(&harness, "[[3],[4]]");
    ck_assert_int_eq(state_bytes(&harness, 4), empty);
    chain_harness_finish(&harness);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("training");
    TCase *tcase = tcase_create("exercises");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, cleansing_keeps_rides_in_the_city);
    tcase_add_test(tcase, each_ride_gets_its_fare);
    tcase_add_test(tcase, each_hour_has_its_best_driver);
    tcase_add_test(tcase, long_rides_alert_once);
    tcase_add_test(tcase, alerts_in_every_order_leave_no_state);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
