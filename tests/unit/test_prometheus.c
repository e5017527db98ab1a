/* Metrics for readers: the table, folding of reports, the Prometheus encoder, ports of the endpoint. */
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/loop/loop.h"
#include "common/metrics/metric_names.h"
#include "common/metrics/process_metrics.h"
#include "common/metrics/prometheus_reporter.h"
#include "common/metrics/task_report.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- encoder ---- */

/* Takes values. */
static char *encode(enum metric_scope scope, bool keeps_values, const char *label, json_t *values)
{
    struct prometheus *prometheus = prometheus_create();
    struct prometheus_labels labels = {.keeps_values = keeps_values};
    size_t length;
    if (label != NULL)
        prometheus_labels_add(&labels, "host", label);
    prometheus_add(prometheus, scope, &labels, values);
    char *text = prometheus_text(prometheus, &length);
    ck_assert_uint_eq(length, strlen(text));
    prometheus_labels_finish(&labels);
    prometheus_destroy(prometheus);
    json_decref(values);
    return text;
}

static void expect(enum metric_scope scope, bool keeps_values, const char *label, json_t *values, const char *wanted)
{
    char *text = encode(scope, keeps_values, label, values);
    ck_assert_str_eq(text, wanted);
    free(text);
}

START_TEST(counters_are_gauges_with_flinks_help)
{
    expect(METRIC_SCOPE_TASK, false, "a", json_pack("{s:i}", "numRecordsIn", 7),
           "# HELP flink_taskmanager_job_task_numRecordsIn numRecordsIn (scope: taskmanager_job_task)\n"
           "# TYPE flink_taskmanager_job_task_numRecordsIn gauge\n"
           "flink_taskmanager_job_task_numRecordsIn{host=\"a\"} 7\n");
}
END_TEST

START_TEST(groups_are_part_of_the_scope)
{
    expect(METRIC_SCOPE_JOBMANAGER, false, NULL, json_pack("{s:f}", "Status.JVM.CPU.Load", 0.25),
           "# HELP flink_jobmanager_Status_JVM_CPU_Load Load (scope: jobmanager_Status_JVM_CPU)\n"
           "# TYPE flink_jobmanager_Status_JVM_CPU_Load gauge\n"
           "flink_jobmanager_Status_JVM_CPU_Load 0.25\n");
}
END_TEST

START_TEST(values_of_keys_become_labels)
{
    expect(METRIC_SCOPE_OPERATOR, false, "a", json_pack("{s:i}", "KafkaSourceReader.topic.my.topic.partition.12.currentOffset", 3),
           "# HELP flink_taskmanager_job_task_operator_KafkaSourceReader_topic_partition_currentOffset currentOffset (scope: "
           "taskmanager_job_task_operator_KafkaSourceReader_topic_partition)\n"
           "# TYPE flink_taskmanager_job_task_operator_KafkaSourceReader_topic_partition_currentOffset gauge\n"
           "flink_taskmanager_job_task_operator_KafkaSourceReader_topic_partition_currentOffset{host=\"a\",topic=\"my_topic\",partition=\"12\"} 3\n");
}
END_TEST

START_TEST(histograms_are_summaries_without_a_sum)
{
    expect(METRIC_SCOPE_TASK, false, "a",
           json_pack("{s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "mailboxLatencyMs_count", 9, "mailboxLatencyMs_median", 1.5, "mailboxLatencyMs_p75", 2.0,
                     "mailboxLatencyMs_p95", 3.0, "mailboxLatencyMs_p98", 4.0, "mailboxLatencyMs_p99", 5.0, "mailboxLatencyMs_p999", 6.0,
                     "mailboxLatencyMs_max", 7.0),
           "# HELP flink_taskmanager_job_task_mailboxLatencyMs mailboxLatencyMs (scope: taskmanager_job_task)\n"
           "# TYPE flink_taskmanager_job_task_mailboxLatencyMs summary\n"
           "flink_taskmanager_job_task_mailboxLatencyMs_count{host=\"a\"} 9\n"
           "flink_taskmanager_job_task_mailboxLatencyMs{host=\"a\",quantile=\"0.5\"} 1.5\n"
           "flink_taskmanager_job_task_mailboxLatencyMs{host=\"a\",quantile=\"0.75\"} 2\n"
           "flink_taskmanager_job_task_mailboxLatencyMs{host=\"a\",quantile=\"0.95\"} 3\n"
           "flink_taskmanager_job_task_mailboxLatencyMs{host=\"a\",quantile=\"0.98\"} 4\n"
           "flink_taskmanager_job_task_mailboxLatencyMs{host=\"a\",quantile=\"0.99\"} 5\n"
           "flink_taskmanager_job_task_mailboxLatencyMs{host=\"a\",quantile=\"0.999\"} 6\n");
}
END_TEST

START_TEST(texts_are_zero_and_flags_are_numbers)
{
    char *text = encode(METRIC_SCOPE_JOB, false, NULL, json_pack("{s:s}", "lastCheckpointExternalPath", "file:/x/chk-1"));
    ck_assert_ptr_nonnull(strstr(text, "\nflink_jobmanager_job_lastCheckpointExternalPath 0\n"));
    free(text);
    text = encode(METRIC_SCOPE_TASK, false, NULL, json_pack("{s:b}", "isBackPressured", 1));
    ck_assert_ptr_nonnull(strstr(text, "\nflink_taskmanager_job_task_isBackPressured 1\n"));
    free(text);
}
END_TEST

static void expect_label(bool keeps_values, const char *value, const char *wanted)
{
    struct prometheus_labels labels = {.keeps_values = keeps_values};
    prometheus_labels_add(&labels, "l", value);
    ck_assert_str_eq(str_buf_text(&labels.text), wanted);
    prometheus_labels_finish(&labels);
}

START_TEST(label_values_are_filtered_or_escaped)
{
    expect_label(false, "Source: ClickEvent Source", "l=\"Source:_ClickEvent_Source\"");
    expect_label(false, "172.20.0.3:41999-abcdef", "l=\"172_20_0_3:41999_abcdef\"");
    expect_label(false, "Z\xc3\xa4hler \xf0\x9f\x98\x80!", "l=\"Z_hler___\"");
    expect_label(false, "\"}\n\\", "l=\"____\"");
    expect_label(true, "a \"b\" \\ c\nd \xc3\xa4", "l=\"a \\\"b\\\" \\\\ c\\nd \xc3\xa4\"");
}
END_TEST

START_TEST(numbers_read_back)
{
    static const double numbers[] = {0, 1, -1, 0.1, 1e300, 1.0 / 3, 9007199254740993.0, -9223372036854775808.0, 1795374113473.0};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char *text = encode(METRIC_SCOPE_TASK, false, NULL, json_pack("{s:f}", "busyTimeMsPerSecond", numbers[i]));
        ck_assert(strtod(strrchr(text, ' '), NULL) == numbers[i]);
        free(text);
    }
}
END_TEST

START_TEST(families_stand_together)
{
    struct prometheus *prometheus = prometheus_create();
    for (int i = 0; i < 3; i++) {
        struct prometheus_labels labels = {0};
        json_t *values = json_pack("{s:i,s:i}", "numRecordsIn", i, "numRecordsOut", i);
        prometheus_labels_add(&labels, "subtask_index", i == 0 ? "0" : i == 1 ? "1" : "2");
        prometheus_add(prometheus, METRIC_SCOPE_TASK, &labels, values);
        prometheus_labels_finish(&labels);
        json_decref(values);
    }
    size_t length;
    char *text = prometheus_text(prometheus, &length);
    const char *second = strstr(text, "# TYPE flink_taskmanager_job_task_numRecordsOut");
    ck_assert_ptr_nonnull(second);
    ck_assert_ptr_null(strstr(second, "numRecordsIn"));
    ck_assert_ptr_null(strstr(second + 1, "# HELP"));
    free(text);
    prometheus_destroy(prometheus);
}
END_TEST

START_TEST(users_metrics_cannot_break_the_scrape)
{
    /* Two names that become one, one that is the system's, and one with everything in it. */
    char *text = encode(METRIC_SCOPE_OPERATOR, false, "a",
                        json_pack("{s:i,s:i,s:i,s:i,s:i}", "numRecordsIn", 5, "my.count", 1, "my-count", 2, "num\nRecords\\In", 3,
                                  "KafkaSourceReader.commitsFailed", 4));
    ck_assert_ptr_nonnull(strstr(text, "_operator_my_count{host=\"a\"} 1\n"));
    ck_assert_ptr_null(strstr(text, "_operator_my_count{host=\"a\"} 2\n"));
    ck_assert_ptr_nonnull(strstr(text, "num\\nRecords\\\\In (scope: "));
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1)
        ck_assert(strncmp(line, "flink_", 6) == 0 || strncmp(line, "# HELP flink_", 13) == 0 || strncmp(line, "# TYPE flink_", 13) == 0);
    free(text);
}
END_TEST

/* ---- the table ---- */

START_TEST(rows_are_sound)
{
    for (size_t i = 0; i < metric_row_count; i++) {
        const struct metric_name *row = &metric_rows[i];
        struct metric_match match;
        enum metric_scope scope = row->scope == METRIC_SCOPE_DAEMON ? METRIC_SCOPE_TASKMANAGER : row->scope;
        if (strchr(row->name, '*') == NULL) {
            ck_assert_msg(metric_find(scope, row->name, &match) && match.row == row, "%s stands twice in the table", row->name);
        }
        if (row->of[0] != '\0') {
            ck_assert_msg(metric_find(scope, row->of, &match), "%s is the rate of %s, which is not there", row->name, row->of);
            ck_assert_ptr_eq(metric_meter_of(row->scope, row->of), row);
        }
    }
    struct metric_match match;
    ck_assert(!metric_find(METRIC_SCOPE_TASK, "nosuch", &match));
    ck_assert(!metric_find(METRIC_SCOPE_OPERATOR, "KafkaSourceReader.topic.a.partition..currentOffset", &match));
    ck_assert(metric_find(METRIC_SCOPE_JOBMANAGER, "Status.JVM.CPU.Load", &match));
}
END_TEST

/* ---- folding ---- */

static json_t *report(int rows, int reported_busy)
{
    json_t *json = json_pack("{s:s,s:i,s:i,s:i,s:[{s:s,s:s,s:s,s:i,s:i,s:{s:f,s:f},s:{s:[i,i],s:i,s:i,s:i,s:i}}]}", "execution", "e", "numRecordsIn",
                             rows, "numBytesIn", rows * 10, "numBytesInLocal", rows * 10, "operators", "operator", "0a", "name",
                             "Count, by: my.key", "type", "process", "watermark_in", 5, "watermark_out", 4, "metrics", "mine", 3.0,
                             "KafkaSourceReader.topic.a.b.partition.0.currentOffset", 8.0, "books", "rows_in", rows, 0, "rows_out", 2, "late", 1,
                             "filtered", 0, "rows_read", 0);
    if (reported_busy >= 0)
        json_object_set_new(json, "busyTimeMsPerSecond", json_integer(reported_busy));
    json_object_set_new(json, "accumulateBusyTimeMs", json_integer(rows / 2));
    return json;
}

START_TEST(reports_are_folded)
{
    json_t *first = report(1000, -1), *second = report(3000, 700);
    json_t *folded = task_report_fold(NULL, first, true, 10000);
    ck_assert_ptr_null(json_object_get(folded, "rates"));
    json_t *later = task_report_fold(folded, second, true, 12000);
    json_t *flat = task_report_flat(later, true);
    ck_assert_double_eq(json_number_value(json_object_get(flat, "numRecordsInPerSecond")), 1000);
    ck_assert_double_eq(json_number_value(json_object_get(flat, "Shuffle.Netty.Input.numBytesInLocalPerSecond")), 10000);
    /* A rate that the task reports itself is not computed. */
    ck_assert_int_eq(json_integer_value(json_object_get(flat, "busyTimeMsPerSecond")), 700);
    ck_assert_int_eq(json_integer_value(json_object_get(flat, "Count__by__my_key.numRecordsIn")), 3000);
    ck_assert_int_eq(json_integer_value(json_object_get(flat, "Count__by__my_key.numBytesIn")), 30000);
    ck_assert_double_eq(json_number_value(json_object_get(flat, "Count__by__my_key.numRecordsInPerSecond")), 1000);
    ck_assert_int_eq(json_integer_value(json_object_get(flat, "Count__by__my_key.currentInputWatermark")), 5);
    ck_assert(json_is_integer(json_object_get(flat, "Count__by__my_key.mine")));
    ck_assert_int_eq(json_integer_value(json_object_get(flat, "Count__by__my_key.KafkaSourceReader.topic.a_b.partition.0.currentOffset")), 8);
    ck_assert_int_eq(json_integer_value(json_object_get(flat, "Shuffle.Netty.Input.numBytesInLocal")), 30000);
    json_decref(flat);
    flat = task_report_flat(later, false);
    ck_assert_ptr_null(json_object_get(flat, "numRecordsInPerSecond"));
    json_decref(flat);
    json_decref(later);
    json_decref(folded);
    json_decref(second);
    json_decref(first);
}
END_TEST

START_TEST(rates_span_five_intervals_and_never_fall_below_zero)
{
    json_t *folded = NULL;
    for (int i = 0; i <= 20; i++) {
        json_t *one = report(i < 10 ? 0 : i == 20 ? 0 : (i - 9) * 500, -1);
        json_t *next = task_report_fold(folded, one, true, 1000 * i);
        json_decref(folded);
        json_decref(one);
        folded = next;
        ck_assert_uint_le(json_array_size(json_object_get(folded, "samples")), 6);
        double rate = json_number_value(json_object_get(json_object_get(folded, "rates"), "numRecordsInPerSecond"));
        if (i == 12)
            ck_assert(fabs(rate - 1500.0 / 5) < 120); /* three of five seconds */
        if (i == 19)
            ck_assert_double_eq(rate, 500);
        if (i == 20)
            ck_assert_double_eq(rate, 0);
    }
    json_decref(folded);
}
END_TEST

START_TEST(operator_names_end_after_80_characters)
{
    char name[200] = "";
    for (int i = 0; i < 90; i++)
        memcpy(name + strlen(name), i < 70 ? "a" : "\xc3\xa4", i < 70 ? 2 : 3);
    ck_assert_uint_eq(task_report_operator_name_length(name), 70 + 2 * 10);
    ck_assert_uint_eq(task_report_operator_name_length("short"), 5);
}
END_TEST

/* ---- the process ---- */

#ifdef __SANITIZE_THREAD__
#define OWN_THREADS 2 /* the sanitizer's own is one */
#else
#define OWN_THREADS 1
#endif

START_TEST(figures_of_this_process)
{
    struct process_figures figures;
    struct process_load process_load = {0};
    ck_assert(process_figures_read(getpid(), &figures));
    ck_assert_int_gt(figures.resident_bytes, 500000);
    ck_assert_int_ge(figures.virtual_bytes, figures.resident_bytes);
    ck_assert_int_ge(figures.resident_bytes, figures.heap_bytes);
    ck_assert_int_eq(figures.thread_count, OWN_THREADS);
    ck_assert_int_gt(figures.cpu_ns, 0);
    ck_assert(!process_figures_read(1 << 30, &figures));
    json_t *metrics = process_metrics(&figures, &process_load);
    const char *name;
    json_t *value;
    json_object_foreach(metrics, name, value) {
        struct metric_match match;
        ck_assert_msg(metric_find(METRIC_SCOPE_JOBMANAGER, name, &match), "%s has no row", name);
        ck_assert(json_is_number(value));
    }
    json_decref(metrics);
}
END_TEST

/* ---- the endpoint ---- */

START_TEST(port_lists)
{
    static const char *const bad[] = {"", "x", "9249-", "-5", "9260-9249", "70000", "9249;9250", "9249,",
                                      "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"};
    struct prometheus_ports ports;
    ck_assert_ptr_null(prometheus_ports_parse("9249", &ports));
    ck_assert(ports.count == 1 && ports.ranges[0].first == 9249 && ports.ranges[0].last == 9249);
    ck_assert_ptr_null(prometheus_ports_parse("9249-9260, 9300", &ports));
    ck_assert(ports.count == 2 && ports.ranges[0].last == 9260 && ports.ranges[1].first == 9300);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error *err = prometheus_ports_parse(bad[i], &ports);
        ck_assert_msg(err != NULL, "\"%s\" was taken for ports", bad[i]);
        error_free(err);
    }
}
END_TEST

static void collect_nothing(void *context, struct prometheus *out, const struct prometheus_labels *labels)
{
    (void)context;
    (void)out;
    (void)labels;
}

static struct prometheus_reporter *start_with(uv_loop_t *loop, const struct config *config)
{
    const struct prometheus_reporter_options options = {.config = config, .bind_host = "localhost", .collect = collect_nothing};
    return prometheus_reporter_create(loop, &options);
}

static bool is_on(const char *key, const char *value, const char *second_key, const char *second_value)
{
    uv_loop_t loop;
    struct config *config = config_create_over(NULL);
    uv_loop_init(&loop);
    loop_own(&loop);
    ck_assert_ptr_null(config_set(config, "metrics.reporter.prom.port", "0", "test"));
    ck_assert_ptr_null(config_set(config, key, value, "test"));
    if (second_key != NULL)
        ck_assert_ptr_null(config_set(config, second_key, second_value, "test"));
    struct prometheus_reporter *reporter = start_with(&loop, config);
    bool is_there = reporter != NULL;
    prometheus_reporter_destroy(reporter);
    uv_run(&loop, UV_RUN_DEFAULT);
    loop_finish(&loop);
    config_destroy(config);
    return is_there;
}

START_TEST(reporters_are_chosen_as_in_flink)
{
    const char *flinks = "org.apache.flink.metrics.prometheus.PrometheusReporterFactory";
    log_set_level(LOG_OFF);
    ck_assert(is_on("metrics.reporters", "prom", NULL, NULL));
    ck_assert(is_on("metrics.reporters", "jmx, prom", NULL, NULL));
    ck_assert(!is_on("metrics.reporters", "", NULL, NULL));
    ck_assert(!is_on("metrics.reporters", "jmx", NULL, NULL));
    ck_assert(is_on("metrics.reporter.prom.factory.class", flinks, NULL, NULL));
    ck_assert(is_on("metrics.reporter.prom.class", "org.apache.flink.metrics.prometheus.PrometheusReporter", NULL, NULL));
    ck_assert(!is_on("metrics.reporter.prom.factory.class", "org.apache.flink.metrics.jmx.JMXReporterFactory", NULL, NULL));
    ck_assert(is_on("metrics.reporters", "mine", "metrics.reporter.mine.factory.class", flinks));
    ck_assert(!is_on("metrics.reporter.prom.port", "nine", NULL, NULL));
}
END_TEST

/* Daemons of one host share a range, and the one for which nothing is left runs on without. */
START_TEST(ports_are_shared_out)
{
    uv_loop_t loop;
    struct config *config = config_create_over(NULL);
    char range[32];
    log_set_level(LOG_OFF);
    uv_loop_init(&loop);
    loop_own(&loop);
    ck_assert_ptr_null(config_set(config, "metrics.reporter.prom.port", "0", "test"));
    struct prometheus_reporter *first = start_with(&loop, config);
    ck_assert_ptr_nonnull(first);
    unsigned port = prometheus_reporter_port(first);
    snprintf(range, sizeof range, "%u-%u", port, port < 65000 ? port + 40 : port);
    ck_assert_ptr_null(config_set(config, "metrics.reporter.prom.port", range, "test"));
    struct prometheus_reporter *second = start_with(&loop, config);
    ck_assert(second != NULL && prometheus_reporter_port(second) > port);
    snprintf(range, sizeof range, "%u", port);
    ck_assert_ptr_null(config_set(config, "metrics.reporter.prom.port", range, "test"));
    ck_assert_ptr_null(start_with(&loop, config));
    prometheus_reporter_destroy(first);
    prometheus_reporter_destroy(second);
    uv_run(&loop, UV_RUN_DEFAULT);
    loop_finish(&loop);
    config_destroy(config);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("prometheus");
    TCase *encoder = tcase_create("encoder"), *reports = tcase_create("reports"), *endpoint = tcase_create("endpoint");
    tcase_add_test(encoder, counters_are_gauges_with_flinks_help);
    tcase_add_test(encoder, groups_are_part_of_the_scope);
    tcase_add_test(encoder, values_of_keys_become_labels);
    tcase_add_test(encoder, histograms_are_summaries_without_a_sum);
    tcase_add_test(encoder, texts_are_zero_and_flags_are_numbers);
    tcase_add_test(encoder, label_values_are_filtered_or_escaped);
    tcase_add_test(encoder, numbers_read_back);
    tcase_add_test(encoder, families_stand_together);
    tcase_add_test(encoder, users_metrics_cannot_break_the_scrape);
    tcase_add_test(reports, rows_are_sound);
    tcase_add_test(reports, reports_are_folded);
    tcase_add_test(reports, rates_span_five_intervals_and_never_fall_below_zero);
    tcase_add_test(reports, operator_names_end_after_80_characters);
    tcase_add_test(reports, figures_of_this_process);
    tcase_add_test(endpoint, port_lists);
    tcase_add_test(endpoint, reporters_are_chosen_as_in_flink);
    tcase_add_test(endpoint, ports_are_shared_out);
    suite_add_tcase(suite, encoder);
    suite_add_tcase(suite, reports);
    suite_add_tcase(suite, endpoint);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
