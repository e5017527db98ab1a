/* Looks at the tasks a few times a second. Thread: loop.
 * A call of a user function counts as stuck when its thread used more CPU time than the limit within one step of its task (a step
 * hands over at most one batch): a function that only sleeps is slow, not stuck, and shows as busy. */
#include "taskmanager/task/watchdog.h"

#include "common/base/heap.h"
#include "common/base/vec.h"
#include "common/loop/loop.h"
#include "taskmanager/task/crash_handler.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 25
#define NS_PER_MS 1000000
#define MIB (1024.0 * 1024.0)

struct watched_task {
    uint64_t step;
    int64_t step_cpu_ns; /* the thread's CPU time when the step was first seen */
    int64_t cpu_ns;
    int64_t cpu_spent_ns; /* since the look before */
};

struct watchdog {
    struct task_runner *runner;
    struct loop_timer *timer;
    VEC(struct watched_task) tasks;
};

static int64_t thread_cpu_ns(struct task *task)
{
    clockid_t clock;
    struct timespec time;
    if (pthread_getcpuclockid(task_thread(task), &clock) != 0 || clock_gettime(clock, &time) != 0)
        return -1;
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void look_at_task(struct watchdog *watchdog, struct watched_task *seen, struct task *task)
{
    int64_t limit_ms = task_runner_function_timeout_ms(watchdog->runner);
    int64_t cpu_ns = thread_cpu_ns(task);
    uint64_t step = task_step_count(task);
    seen->cpu_spent_ns = cpu_ns - seen->cpu_ns;
    seen->cpu_ns = cpu_ns;
    const char *function = task_current_function(task);
    if (function == NULL || step != seen->step) {
        seen->step = step;
        seen->step_cpu_ns = cpu_ns;
        return;
    }
    if (limit_ms == 0 || cpu_ns - seen->step_cpu_ns < limit_ms * NS_PER_MS)
        return;
    char detail[160];
    snprintf(detail, sizeof detail, "more than %" PRId64 " ms in one call; the limit is task.function.timeout", limit_ms);
    crash_handler_limit("time", task, detail);
}

static int64_t resident_bytes(void)
{
    long long size, pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%lld %lld", &size, &pages) != 2)
        pages = 0;
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* The task that is in user code and worked most since the last look is the likely culprit. */
static struct task *busiest_task(struct watchdog *watchdog)
{
    struct task *busiest = NULL;
    int64_t most_ns = -1;
    for (uint32_t i = 0; i < watchdog->tasks.count; i++) {
        struct task *task = task_runner_task(watchdog->runner, i);
        if (task_runner_task_is_ended(watchdog->runner, i) || task_current_function(task) == NULL)
            continue;
        if (watchdog->tasks.items[i].cpu_spent_ns > most_ns) {
            most_ns = watchdog->tasks.items[i].cpu_spent_ns;
            busiest = task;
        }
    }
    return busiest;
}

static void look_at_memory(struct watchdog *watchdog)
{
    int64_t limit = task_runner_memory_limit_bytes(watchdog->runner);
    if (limit == 0)
        return;
    int64_t resident = resident_bytes();
    if (resident <= limit)
        return;
    char detail[160];
    snprintf(detail, sizeof detail, "%.0f MiB of %.0f MiB; the limit is taskmanager.task.memory-limit", (double)resident / MIB, (double)limit / MIB);
    crash_handler_limit("memory", busiest_task(watchdog), detail);
}

static void on_look(void *argument)
{
    struct watchdog *watchdog = argument;
    uint32_t count = task_runner_task_count(watchdog->runner);
    while (watchdog->tasks.count < count)
        vec_push(&watchdog->tasks, (struct watched_task){0});
    for (uint32_t i = 0; i < count; i++)
        if (!task_runner_task_is_ended(watchdog->runner, i))
            look_at_task(watchdog, &watchdog->tasks.items[i], task_runner_task(watchdog->runner, i));
    look_at_memory(watchdog);
}

void watchdog_start(uv_loop_t *loop, struct task_runner *runner)
{
    struct watchdog *watchdog = heap_new(struct watchdog);
    watchdog->runner = runner;
    watchdog->timer = loop_timer_start(loop, LOOK_MS, LOOK_MS, on_look, watchdog);
}
