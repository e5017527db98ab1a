/* Reads /proc/self (process_stats.h). */
#include "jobmanager/process_stats.h"

#include "common/base/clock.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void read_statm(struct process_stats *out)
{
    unsigned long long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return;
    if (fscanf(file, "%llu %llu", &pages, &resident) == 2) {
        uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
        out->virtual_bytes = pages * page;
        out->resident_bytes = resident * page;
    }
    fclose(file);
}

static void read_status(struct process_stats *out)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "Threads: %u", &out->thread_count) == 1)
            break;
    }
    fclose(file);
}

static void read_cpu(struct process_stats *out)
{
    static int64_t last_cpu_ns, last_mono_ns;
    struct timespec used = {0};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    int64_t cpu_ns = (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
    int64_t mono_ns = clock_mono_ns();
    if (last_mono_ns != 0 && mono_ns > last_mono_ns)
        out->cpu_load = (double)(cpu_ns - last_cpu_ns) / (double)(mono_ns - last_mono_ns) / (double)out->cpu_count;
    last_cpu_ns = cpu_ns;
    last_mono_ns = mono_ns;
    out->cpu_ns = cpu_ns;
}

void process_stats_read(struct process_stats *out)
{
    memset(out, 0, sizeof *out);
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    out->cpu_count = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    out->physical_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * page;
    out->available_bytes = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * page;
    out->thread_count = 1;
    struct mallinfo2 heap = mallinfo2();
    out->heap_used_bytes = heap.uordblks + heap.hblkhd;
    out->heap_bytes = heap.arena + heap.hblkhd;
    read_statm(out);
    read_status(out);
    read_cpu(out);
}

json_t *process_stats_metrics(void)
{
    struct process_stats stats;
    process_stats_read(&stats);
    uint64_t rest = stats.resident_bytes > stats.heap_used_bytes ? stats.resident_bytes - stats.heap_used_bytes : 0;
    struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"Status.JVM.Memory.Heap.Used", stats.heap_used_bytes},
        {"Status.JVM.Memory.Heap.Committed", stats.heap_bytes},
        {"Status.JVM.Memory.Heap.Max", stats.physical_bytes},
        {"Status.JVM.Memory.NonHeap.Used", rest},
        {"Status.JVM.Memory.NonHeap.Committed", rest},
        {"Status.JVM.Memory.NonHeap.Max", stats.physical_bytes},
        {"Status.JVM.Memory.Metaspace.Used", 0},
        {"Status.JVM.Memory.Metaspace.Committed", 0},
        {"Status.JVM.Memory.Metaspace.Max", 0},
        {"Status.JVM.Memory.Direct.Count", 0},
        {"Status.JVM.Memory.Direct.MemoryUsed", 0},
        {"Status.JVM.Memory.Direct.TotalCapacity", 0},
        {"Status.JVM.Memory.Mapped.Count", 0},
        {"Status.JVM.Memory.Mapped.MemoryUsed", 0},
        {"Status.JVM.Memory.Mapped.TotalCapacity", 0},
        {"Status.JVM.GarbageCollector.All.Count", 0},
        {"Status.JVM.GarbageCollector.All.Time", 0},
        {"Status.JVM.ClassLoader.ClassesLoaded", 0},
        {"Status.JVM.ClassLoader.ClassesUnloaded", 0},
        {"Status.JVM.Threads.Count", stats.thread_count},
        {"Status.JVM.CPU.Time", (uint64_t)stats.cpu_ns},
    };
    json_t *metrics = json_object();
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        json_object_set_new(metrics, numbers[i].name, json_integer((json_int_t)numbers[i].value));
    json_object_set_new(metrics, "Status.JVM.CPU.Load", json_real(stats.cpu_load));
    return metrics;
}
