/* The taskmanager's own numbers, from /proc, under Flink's names where these have a meaning. What concerns a Java heap is about
 * the C heap here. Thread: the loop's. */
#include "common/base/clock.h"
#include "taskmanager/agent/agent_private.h"

#include <dirent.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t count_entries(const char *path)
{
    int64_t count = 0;
    DIR *entries = opendir(path);
    if (entries == NULL)
        return 0;
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries))
        count += entry->d_name[0] != '.';
    closedir(entries);
    return count;
}

bool process_usage_read(int64_t pid, struct process_usage *out)
{
    char path[64];
    unsigned long long pages = 0;
    unsigned long long resident = 0;
    snprintf(path, sizeof path, "/proc/%" PRId64 "/statm", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    int fields = fscanf(file, "%llu %llu", &pages, &resident);
    fclose(file);
    if (fields != 2)
        return false;
    int64_t page_bytes = sysconf(_SC_PAGESIZE);
    out->virtual_bytes = (int64_t)pages * page_bytes;
    out->resident_bytes = (int64_t)resident * page_bytes;
    return true;
}

static double cpu_load(struct agent *agent, int64_t *cpu_ns)
{
    struct timespec used = {0};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    int64_t mono_ns = clock_mono_ns();
    *cpu_ns = (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
    double load = 0;
    if (agent->mono_ns_last != 0 && mono_ns > agent->mono_ns_last)
        load = (double)(*cpu_ns - agent->cpu_ns_last) / (double)(mono_ns - agent->mono_ns_last) / (double)sysconf(_SC_NPROCESSORS_ONLN);
    agent->cpu_ns_last = *cpu_ns;
    agent->mono_ns_last = mono_ns;
    return load;
}

json_t *agent_metrics(struct agent *agent)
{
    struct process_usage own = {0};
    int64_t cpu_ns;
    int64_t runners_bytes = 0;
    int64_t runner_count = 0;
    double load = cpu_load(agent, &cpu_ns);
    (void)process_usage_read(getpid(), &own);
    for (size_t i = 0; i < agent->runners.count; i++) {
        struct process_usage usage;
        if (agent->runners.items[i]->state != RUNNER_RUNNING || !process_usage_read(agent->runners.items[i]->process.pid, &usage))
            continue;
        runners_bytes += usage.resident_bytes;
        runner_count++;
    }
    struct mallinfo2 heap = mallinfo2();
    int64_t heap_used = (int64_t)(heap.uordblks + heap.hblkhd);
    int64_t rest = own.resident_bytes > heap_used ? own.resident_bytes - heap_used : 0;
    int64_t page_bytes = sysconf(_SC_PAGESIZE);
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {
        {"Status.JVM.CPU.Time", cpu_ns},
        {"Status.JVM.Threads.Count", count_entries("/proc/self/task")},
        {"Status.JVM.Memory.Heap.Used", heap_used},
        {"Status.JVM.Memory.Heap.Committed", (int64_t)(heap.arena + heap.hblkhd)},
        {"Status.JVM.Memory.Heap.Max", sysconf(_SC_PHYS_PAGES) * page_bytes},
        {"Status.JVM.Memory.NonHeap.Used", rest},
        {"Status.JVM.Memory.NonHeap.Committed", rest},
        {"Status.JVM.Memory.NonHeap.Max", sysconf(_SC_PHYS_PAGES) * page_bytes},
        {"Status.Process.Memory.Resident", own.resident_bytes},
        {"Status.Process.Memory.Virtual", own.virtual_bytes},
        {"Status.Process.Descriptors.Open", count_entries("/proc/self/fd")},
        {"Status.Host.Memory.Free", sysconf(_SC_AVPHYS_PAGES) * page_bytes},
        {"Status.TaskRunner.Count", runner_count},
        {"Status.TaskRunner.Memory.Resident", runners_bytes},
    };
    json_t *metrics = json_object();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        json_object_set_new(metrics, rows[i].name, json_integer(rows[i].value));
    json_object_set_new(metrics, "Status.JVM.CPU.Load", json_real(load));
    return metrics;
}
