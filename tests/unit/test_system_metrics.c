/* The machine's figures against a proc(5) that the test writes, and against the real one. */
#include "common/base/heap.h"
#include "common/metrics/metric_names.h"
#include "common/metrics/prometheus.h"
#include "common/metrics/system_metrics.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char proc[] = "/tmp/test_system_metrics-XXXXXX";

static void write_file(const char *name, const char *text)
{
    char *path = heap_printf("%s/%s", proc, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    free(path);
}

static void make_proc(void)
{
    strcpy(strrchr(proc, '-'), "-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(proc));
    char *net = heap_printf("%s/net", proc);
    ck_assert_int_eq(mkdir(net, 0700), 0);
    free(net);
    write_file("meminfo", "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    250 kB\n"
                          "SwapTotal:  100 kB\nSwapFree:  60 kB\nHugePages_Total: 0\n");
}

static void remove_proc(void)
{
    static const char *const names[] = {"meminfo", "stat", "net/dev", "net", ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *path = heap_printf("%s/%s", proc, names[i]);
        remove(path);
        free(path);
    }
}

static double number(const json_t *metrics, const char *name)
{
    const json_t *value = json_object_get(metrics, name);
    ck_assert_msg(json_is_number(value), "there is no %s", name);
    return json_number_value(value);
}

static json_t *look(struct system_metrics *system)
{
    json_t *metrics = json_object();
    system_metrics_add(system, metrics);
    return metrics;
}

#define NET_HEAD "Inter-|   Receive                    |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes\n"

START_TEST(shares_and_rates_between_two_looks)
{
    make_proc();
    write_file("stat", "cpu  100 10 50 800 20 5 5 0 0 0\ncpu0 50 5 25 400 10 3 2 0 0 0\ncpu7 50 5 25 400 10 2 3 0 0 0\nintr 5 6\nctxt 9\n");
    write_file("net/dev", NET_HEAD "    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\nveth123456789ab:1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n");
    struct system_metrics *system = system_metrics_create(proc, 0);
    write_file("stat", "cpu  140 20 70 900 30 10 15 5 0 0\ncpu0 140 5 25 400 20 3 2 0 0 0\ncpu7 50 5 25 500 10 2 3 0 0 0\ncpu9 1 1 1 1 1 1 1 1\n");
    write_file("net/dev", NET_HEAD "    lo: 900 1 0 0 0 0 0 0 900 1 0 0 0 0 0 0\nveth123456789ab:1500 1 0 0 0 0 0 0 1000 1 0 0 0 0 0 0\n"
                                   "  new0: 1 1 0 0 0 0 0 0 1 1\n");
    json_t *metrics = look(system);
    /* of 200 ticks: 40 user, 10 nice, 20 system, 100 idle, 10 waiting, 5 and 10 interrupts, 5 stolen */
    ck_assert_double_eq_tol(number(metrics, "System.CPU.User"), 20, 1e-9);
    ck_assert_double_eq_tol(number(metrics, "System.CPU.Nice"), 5, 1e-9);
    ck_assert_double_eq_tol(number(metrics, "System.CPU.Sys"), 10, 1e-9);
    ck_assert_double_eq_tol(number(metrics, "System.CPU.Idle"), 50, 1e-9);
    ck_assert_double_eq_tol(number(metrics, "System.CPU.IOWait"), 5, 1e-9);
    ck_assert_double_eq_tol(number(metrics, "System.CPU.Irq"), 2.5, 1e-9);
    ck_assert_double_eq_tol(number(metrics, "System.CPU.SoftIrq"), 5, 1e-9);
    ck_assert_double_eq_tol(number(metrics, "System.CPU.Usage"), 45, 1e-9);
    ck_assert_double_eq_tol(number(metrics, "System.CPU.UsageCPU0"), 90, 1e-9);
    ck_assert_double_eq_tol(number(metrics, "System.CPU.UsageCPU7"), 0, 1e-9);
    ck_assert_ptr_null(json_object_get(metrics, "System.CPU.UsageCPU9"));
    ck_assert_double_gt(number(metrics, "System.Network.veth123456789ab.ReceiveRate"), 0);
    ck_assert_double_eq_tol(number(metrics, "System.Network.veth123456789ab.SendRate"), 0, 0.5); /* its counter began anew */
    ck_assert_ptr_null(json_object_get(metrics, "System.Network.lo.SendRate"));
    ck_assert_ptr_null(json_object_get(metrics, "System.Network.new0.SendRate"));
    json_decref(metrics);
    metrics = look(system); /* not a tick went by */
    ck_assert_ptr_null(json_object_get(metrics, "System.CPU.Usage"));
    ck_assert_double_eq_tol(number(metrics, "System.Network.new0.SendRate"), 0, 0.5);
    json_decref(metrics);
    system_metrics_destroy(system);
    remove_proc();
}
END_TEST

START_TEST(memory_of_the_moment)
{
    make_proc();
    struct system_metrics *system = system_metrics_create(proc, 3600000); /* without stat and net/dev too */
    json_t *metrics = look(system);
    ck_assert_double_eq_tol(number(metrics, "System.Memory.Total"), 1000 * 1024, 0.5);
    ck_assert_double_eq_tol(number(metrics, "System.Memory.Available"), 250 * 1024, 0.5);
    ck_assert_double_eq_tol(number(metrics, "System.Swap.Total"), 100 * 1024, 0.5);
    ck_assert_double_eq_tol(number(metrics, "System.Swap.Used"), 40 * 1024, 0.5);
    ck_assert_double_ge(number(metrics, "System.CPU.Load15min"), 0);
    ck_assert_ptr_null(json_object_get(metrics, "System.CPU.Usage"));
    json_decref(metrics);
    system_metrics_destroy(system);
    remove_proc();
    metrics = look(NULL);
    ck_assert_uint_eq(json_object_size(metrics), 0);
    json_decref(metrics);
}
END_TEST

START_TEST(of_this_machine)
{
    struct system_metrics *system = system_metrics_create("/proc", 1);
    usleep(50000);
    json_t *metrics = look(system), *value;
    const char *name;
    json_object_foreach(metrics, name, value) {
        struct metric_match match;
        ck_assert_msg(metric_find(METRIC_SCOPE_TASKMANAGER, name, &match), "%s has no row", name);
        ck_assert_msg(match.key_count == 0 && json_number_value(value) >= 0, "%s", name);
    }
    ck_assert_double_le(number(metrics, "System.CPU.Usage"), 100);
    ck_assert_double_ge(number(metrics, "System.Memory.Total"), number(metrics, "System.Memory.Available"));
    json_decref(metrics);
    system_metrics_destroy(system);
}
END_TEST

START_TEST(names_for_prometheus)
{
    struct prometheus *prometheus = prometheus_create();
    struct prometheus_labels labels = {0};
    json_t *values = json_pack("{s:i, s:i, s:f}", "System.Network.eth0.100.ReceiveRate", 5, "System.Network.lan.SendRate", 7,
                               "System.CPU.UsageCPU1", 12.5);
    size_t length;
    prometheus_labels_add(&labels, "host", "a");
    prometheus_add(prometheus, METRIC_SCOPE_TASKMANAGER, &labels, values);
    char *text = prometheus_text(prometheus, &length);
    ck_assert_msg(strstr(text, "\nflink_taskmanager_System_Network_eth0_100_ReceiveRate{host=\"a\"} 5\n") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "\nflink_taskmanager_System_Network_lan_SendRate{host=\"a\"} 7\n") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "\nflink_taskmanager_System_CPU_UsageCPU1{host=\"a\"} 12.5\n") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "# HELP flink_taskmanager_System_CPU_UsageCPU1 UsageCPU1 (scope: taskmanager_System_CPU)\n") != NULL, "%s", text);
    free(text);
    json_decref(values);
    prometheus_labels_finish(&labels);
    prometheus_destroy(prometheus);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("system metrics");
    TCase *cases = tcase_create("system metrics");
    tcase_add_test(cases, shares_and_rates_between_two_looks);
    tcase_add_test(cases, memory_of_the_moment);
    tcase_add_test(cases, of_this_machine);
    tcase_add_test(cases, names_for_prometheus);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
