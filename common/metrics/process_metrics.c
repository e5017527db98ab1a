/* Reads /proc (process_metrics.h). */
#include "common/metrics/process_metrics.h"

#include "common/base/clock.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)
/* Two readers (REST and Prometheus) must not measure the time between each other. */
#define LOAD_INTERVAL_NS NS_PER_S

static bool read_status(int64_t pid, struct process_figures *out)
{
    const struct {
        const char *name;
        int64_t *place;
        int64_t unit;
    } lines[] = {
        {"VmRSS:", &out->resident_bytes, 1024},     {"VmSize:", &out->virtual_bytes, 1024}, {"RssAnon:", &out->heap_bytes, 1024},
        {"VmData:", &out->heap_mapped_bytes, 1024}, {"Threads:", &out->thread_count, 1},
    };
    char path[64], line[256], name[32];
    snprintf(path, sizeof path, "/proc/%" PRId64 "/status", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    while (fgets(line, sizeof line, file) != NULL) {
        long long value;
        if (sscanf(line, "%31s %lld", name, &value) != 2)
            continue;
        for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
            if (strcmp(name, lines[i].name) == 0)
                *lines[i].place = value * lines[i].unit;
    }
    fclose(file);
    return true;
}

/* utime and stime stand behind the name, which may hold anything. */
static int64_t read_cpu_ns(int64_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    const char *after_name = strrchr(text, ')');
    unsigned long long user = 0, system = 0;
    if (after_name == NULL ||
        sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
        return 0;
    return (int64_t)(user + system) * (NS_PER_S / sysconf(_SC_CLK_TCK));
}

bool process_figures_read(int64_t pid, struct process_figures *out)
{
    struct timespec used = {0};
    *out = (struct process_figures){0};
    if (!read_status(pid, out))
        return false;
    if (pid == getpid() && clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0)
        out->cpu_ns = (int64_t)used.tv_sec * NS_PER_S + used.tv_nsec;
    else
        out->cpu_ns = read_cpu_ns(pid);
    return true;
}

void process_figures_add(struct process_figures *sum, const struct process_figures *figures)
{
    sum->resident_bytes += figures->resident_bytes;
    sum->virtual_bytes += figures->virtual_bytes;
    sum->heap_bytes += figures->heap_bytes;
    sum->heap_mapped_bytes += figures->heap_mapped_bytes;
    sum->thread_count += figures->thread_count;
    sum->cpu_ns += figures->cpu_ns;
}

int64_t process_children_cpu_ns(void)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_CHILDREN, &usage);
    return ((int64_t)usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * INT64_C(1000);
}

/* ---- of the machine ---- */

static int64_t read_limit(const char *path)
{
    long long limit = -1;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    if (fscanf(file, "%lld", &limit) != 1) /* "max" */
        limit = -1;
    fclose(file);
    return limit;
}

/* In a container its limit (control groups 2, then 1); else the machine's memory. */
static int64_t memory_limit_bytes(void)
{
    static const char *const paths[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    int64_t limit = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        int64_t group = read_limit(paths[i]);
        if (group > 0 && group < limit)
            limit = group;
    }
    return limit;
}

static int64_t count_descriptors(void)
{
    int64_t count = 0;
    DIR *entries = opendir("/proc/self/fd");
    if (entries == NULL)
        return 0;
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries))
        count += entry->d_name[0] != '.';
    closedir(entries);
    return count - 1; /* the directory's own */
}

static double next_load(struct process_load *load, int64_t cpu_ns)
{
    int64_t now_ns = clock_mono_ns();
    int64_t span_ns = now_ns - load->mono_ns;
    if (load->mono_ns != 0 && span_ns < LOAD_INTERVAL_NS)
        return load->load;
    if (load->mono_ns != 0) {
        double used = (double)(cpu_ns - load->cpu_ns) / (double)span_ns / (double)sysconf(_SC_NPROCESSORS_ONLN);
        load->load = used < 0 ? 0 : used > 1 ? 1 : used;
    }
    load->cpu_ns = cpu_ns;
    load->mono_ns = now_ns;
    return load->load;
}

json_t *process_metrics(const struct process_figures *total, struct process_load *load)
{
    struct process_figures own = {0};
    (void)process_figures_read(getpid(), &own);
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {
        {"Status.JVM.CPU.Time", total->cpu_ns},
        {"Status.JVM.Threads.Count", total->thread_count},
        {"Status.JVM.Memory.Heap.Used", total->heap_bytes},
        {"Status.JVM.Memory.Heap.Committed", total->heap_mapped_bytes},
        {"Status.JVM.Memory.Heap.Max", memory_limit_bytes()},
        {"Status.Process.Memory.Resident", own.resident_bytes},
        {"Status.Process.Memory.Virtual", own.virtual_bytes},
        {"Status.Process.Descriptors.Open", count_descriptors()},
        {"Status.Host.Memory.Free", (int64_t)sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE)},
    };
    json_t *metrics = json_object();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        json_object_set_new(metrics, rows[i].name, json_integer(rows[i].value));
    json_object_set_new(metrics, "Status.JVM.CPU.Load", json_real(next_load(load, total->cpu_ns)));
    return metrics;
}
