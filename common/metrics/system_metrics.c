/* Reads /proc/stat, /proc/meminfo and /proc/net/dev (system_metrics.h). */
#include "common/metrics/system_metrics.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/vec.h"

#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)
#define BYTES_PER_KB 1024

/* In the order of a line of /proc/stat; the two of guests that follow are part of user and nice. */
enum tick { TICK_USER, TICK_NICE, TICK_SYSTEM, TICK_IDLE, TICK_IOWAIT, TICK_IRQ, TICK_SOFTIRQ, TICK_STEAL, TICK_COUNT };

struct processor {
    int number; /* -1: all of them */
    int64_t ticks[TICK_COUNT];
};

struct interface {
    char name[IFNAMSIZ];
    int64_t received_bytes;
    int64_t sent_bytes;
};

struct look {
    VEC(struct processor) processors;
    VEC(struct interface) interfaces;
    int64_t mono_ns;
};

struct system_metrics {
    char *proc;
    int64_t interval_ns;
    struct look before;
    json_t *between; /* shares and rates of the newest two looks */
};

/* ---- looks ---- */

static FILE *open_proc(const struct system_metrics *system, const char *name)
{
    char *path = heap_printf("%s/%s", system->proc, name);
    FILE *file = fopen(path, "re");
    free(path);
    return file;
}

static bool parse_processor(const char *line, struct processor *out)
{
    char name[16];
    int64_t *t = out->ticks;
    if (sscanf(line, "%15s %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64, name, &t[TICK_USER],
               &t[TICK_NICE], &t[TICK_SYSTEM], &t[TICK_IDLE], &t[TICK_IOWAIT], &t[TICK_IRQ], &t[TICK_SOFTIRQ], &t[TICK_STEAL]) != 1 + TICK_COUNT ||
        strncmp(name, "cpu", 3) != 0)
        return false;
    out->number = -1;
    return name[3] == '\0' || sscanf(name + 3, "%d", &out->number) == 1;
}

static void look_at_processors(const struct system_metrics *system, struct look *look)
{
    char line[512];
    FILE *file = open_proc(system, "stat");
    if (file == NULL)
        return;
    struct processor processor;
    while (fgets(line, sizeof line, file) != NULL)
        if (parse_processor(line, &processor))
            vec_push(&look->processors, processor);
    fclose(file);
}

/* "  eth0: received packets errors dropped fifo frame compressed multicast sent …": a full name leaves no blank behind its colon. The
 * machine's talk with itself does not count, as in Flink. */
static bool parse_interface(char *line, struct interface *out)
{
    char *colon = strchr(line, ':');
    if (colon == NULL)
        return false;
    *colon = '\0';
    return sscanf(line, "%15s", out->name) == 1 && strcmp(out->name, "lo") != 0 &&
           sscanf(colon + 1, "%" SCNd64 " %*d %*d %*d %*d %*d %*d %*d %" SCNd64, &out->received_bytes, &out->sent_bytes) == 2;
}

static void look_at_interfaces(const struct system_metrics *system, struct look *look)
{
    char line[512];
    FILE *file = open_proc(system, "net/dev");
    if (file == NULL)
        return;
    struct interface interface;
    while (fgets(line, sizeof line, file) != NULL)
        if (parse_interface(line, &interface))
            vec_push(&look->interfaces, interface);
    fclose(file);
}

static struct look take_look(const struct system_metrics *system)
{
    struct look look = {.mono_ns = clock_mono_ns()};
    look_at_processors(system, &look);
    look_at_interfaces(system, &look);
    return look;
}

static void look_finish(struct look *look)
{
    vec_finish(&look->processors);
    vec_finish(&look->interfaces);
}

/* ---- between two looks ---- */

static double percent(int64_t part, int64_t whole)
{
    return 100.0 * (double)(part > 0 ? part : 0) / (double)whole; /* the kernel's iowait may run backwards */
}

static void put_processor(json_t *metrics, const struct processor *before, const struct processor *now)
{
    static const struct {
        const char *name;
        enum tick tick;
    } rows[] = {{"System.CPU.User", TICK_USER},         {"System.CPU.Nice", TICK_NICE}, {"System.CPU.Sys", TICK_SYSTEM},
                {"System.CPU.Idle", TICK_IDLE},         {"System.CPU.Irq", TICK_IRQ},   {"System.CPU.IOWait", TICK_IOWAIT},
                {"System.CPU.SoftIrq", TICK_SOFTIRQ}};
    int64_t spent[TICK_COUNT], total = 0;
    for (size_t i = 0; i < TICK_COUNT; i++)
        total += spent[i] = now->ticks[i] - before->ticks[i];
    if (total <= 0)
        return; /* not a tick went by */
    double usage = percent(total - spent[TICK_IDLE] - spent[TICK_IOWAIT], total);
    if (now->number >= 0) {
        char name[48];
        snprintf(name, sizeof name, "System.CPU.UsageCPU%d", now->number);
        json_object_set_new(metrics, name, json_real(usage));
        return;
    }
    json_object_set_new(metrics, "System.CPU.Usage", json_real(usage));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        json_object_set_new(metrics, rows[i].name, json_real(percent(spent[rows[i].tick], total)));
}

static void put_rate(json_t *metrics, const char *interface, const char *what, int64_t bytes, int64_t span_ns)
{
    char *name = heap_printf("System.Network.%s.%s", interface, what);
    json_object_set_new(metrics, name, json_integer(bytes > 0 ? (int64_t)((double)bytes * (double)NS_PER_S / (double)span_ns) : 0));
    free(name);
}

/* Processors and interfaces that only one of the looks knows have come or gone in between. */
static json_t *compare(const struct look *before, const struct look *now)
{
    json_t *metrics = json_object();
    int64_t span_ns = now->mono_ns - before->mono_ns;
    for (size_t i = 0; i < now->processors.count; i++)
        for (size_t k = 0; k < before->processors.count; k++)
            if (before->processors.items[k].number == now->processors.items[i].number)
                put_processor(metrics, &before->processors.items[k], &now->processors.items[i]);
    for (size_t i = 0; i < now->interfaces.count; i++)
        for (size_t k = 0; k < before->interfaces.count; k++) {
            const struct interface *old = &before->interfaces.items[k], *new = &now->interfaces.items[i];
            if (strcmp(old->name, new->name) != 0 || span_ns <= 0)
                continue;
            put_rate(metrics, new->name, "ReceiveRate", new->received_bytes - old->received_bytes, span_ns);
            put_rate(metrics, new->name, "SendRate", new->sent_bytes - old->sent_bytes, span_ns);
        }
    return metrics;
}

/* ---- of the moment ---- */

static void put_memory(const struct system_metrics *system, json_t *metrics)
{
    int64_t total = 0, available = 0, swap_total = 0, swap_free = 0, value;
    const struct {
        const char *name;
        int64_t *place;
    } lines[] = {{"MemTotal:", &total}, {"MemAvailable:", &available}, {"SwapTotal:", &swap_total}, {"SwapFree:", &swap_free}};
    char line[256], name[32];
    FILE *file = open_proc(system, "meminfo");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        for (size_t i = 0; sscanf(line, "%31s %" SCNd64, name, &value) == 2 && i < sizeof lines / sizeof lines[0]; i++)
            if (strcmp(name, lines[i].name) == 0)
                *lines[i].place = value * BYTES_PER_KB;
    fclose(file);
    json_object_set_new(metrics, "System.Memory.Total", json_integer(total));
    json_object_set_new(metrics, "System.Memory.Available", json_integer(available));
    json_object_set_new(metrics, "System.Swap.Total", json_integer(swap_total));
    json_object_set_new(metrics, "System.Swap.Used", json_integer(swap_total - swap_free));
}

static void put_load(json_t *metrics)
{
    static const char *const names[] = {"System.CPU.Load1min", "System.CPU.Load5min", "System.CPU.Load15min"};
    double loads[3];
    int count = getloadavg(loads, 3);
    for (int i = 0; i < count; i++)
        json_object_set_new(metrics, names[i], json_real(loads[i]));
}

struct system_metrics *system_metrics_create(const char *proc, int64_t interval_ms)
{
    struct system_metrics *system = heap_new(struct system_metrics);
    system->proc = heap_strdup(proc);
    system->interval_ns = interval_ms * NS_PER_MS;
    system->between = json_object();
    system->before = take_look(system);
    return system;
}

struct system_metrics *system_metrics_configure(const struct config *config)
{
    return config_bool(config, OPTION_METRICS_SYSTEM) ? system_metrics_create("/proc", config_ms(config, OPTION_METRICS_SYSTEM_INTERVAL)) : NULL;
}

void system_metrics_destroy(struct system_metrics *system)
{
    if (system == NULL)
        return;
    look_finish(&system->before);
    json_decref(system->between);
    free(system->proc);
    free(system);
}

void system_metrics_add(struct system_metrics *system, json_t *metrics)
{
    if (system == NULL)
        return;
    if (clock_mono_ns() - system->before.mono_ns >= system->interval_ns) {
        struct look now = take_look(system);
        json_decref(system->between);
        system->between = compare(&system->before, &now);
        look_finish(&system->before);
        system->before = now;
    }
    json_object_update(metrics, system->between);
    put_memory(system, metrics);
    put_load(metrics);
}
