/* Samples of the stacks of tasks (task_stacks.h). Thread: the runner's loop. */
#include "taskmanager/task/task_stacks.h"

#include "common/base/heap.h"
#include "common/base/symbols.h"
#include "common/base/thread_stacks.h"
#include "common/rpc/message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES_MAX 1000
#define FRAME_BYTES 160

struct task_stacks {
    struct task_runner *runner;
    struct task_stacks *next;
    int64_t request;
    int64_t samples_left;
    json_t *executions; /* the tasks that are wanted */
    json_t *tasks;      /* execution -> { "frame;frame": [on CPU, waiting] }, outermost frame first */
    struct loop_timer *timer;
};

/* ---- one sample ---- */

/* What is the same in every stack says nothing: the start of the thread. */
static bool is_start(const char *frame)
{
    static const char *const starts[] = {"start_thread", "clone3", "clone", "__clone"};
    size_t length = strcspn(frame, " ");
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        if (strlen(starts[i]) == length && strncmp(frame, starts[i], length) == 0)
            return true;
    }
    return strstr(frame, "(libc.so") != NULL && strncmp(frame, "0x", 2) == 0;
}

/* "task_thread_main;task_run;…", malloced. */
static char *folded(const struct thread_stack *stack, const char *function)
{
    struct str_buf text = {0};
    char frame[FRAME_BYTES];
    bool is_inside = false;
    for (uint32_t i = stack->frame_count; i-- > 0;) {
        symbols_describe((const char *)stack->frames[i] - (i > 0), frame, sizeof frame);
        if (!is_inside && is_start(frame))
            continue;
        is_inside = true;
        for (char *c = frame; *c != '\0'; c++)
            *c = *c == ';' ? ',' : *c;
        str_buf_printf(&text, "%s%s", text.length > 0 ? ";" : "", frame);
    }
    if (stack->frame_count == 0) /* not asked: what is known stands where the frames would */
        str_buf_printf(&text, "task_thread_main (task-runner);task_run (task-runner)%s%s", function != NULL ? ";" : "",
                       function != NULL ? function : "");
    if (stack->wait[0] != '\0' && !thread_stack_is_on_cpu(stack))
        str_buf_printf(&text, ";%s (kernel)", stack->wait);
    return str_buf_detach(&text);
}

static void count(json_t *stacks, const char *key, bool is_on_cpu)
{
    json_t *counts = json_object_get(stacks, key);
    if (counts == NULL) {
        counts = json_pack("[i,i]", 0, 0);
        json_object_set_new(stacks, key, counts);
    }
    json_t *number = json_array_get(counts, is_on_cpu ? 0 : 1);
    json_integer_set(number, json_integer_value(number) + 1);
}

static bool is_wanted(const json_t *executions, const char *execution)
{
    size_t index;
    json_t *wanted;
    json_array_foreach(executions, index, wanted) {
        if (json_is_string(wanted) && strcmp(json_string_value(wanted), execution) == 0)
            return true;
    }
    return false;
}

static void sample(struct task_stacks *stacks)
{
    for (size_t i = 0; i < stacks->runner->tasks.count; i++) {
        const struct runner_task *entry = &stacks->runner->tasks.items[i];
        const char *execution = task_execution(entry->task);
        struct thread_stack stack;
        if (entry->is_ended || !is_wanted(stacks->executions, execution))
            continue;
        const char *function = task_current_function(entry->task);
        if (!thread_stack_capture(thread_stack_id(task_thread(entry->task)), function == NULL, &stack))
            continue;
        json_t *of_task = json_object_get(stacks->tasks, execution);
        if (of_task == NULL) {
            of_task = json_object();
            json_object_set_new(stacks->tasks, execution, of_task);
        }
        char *key = folded(&stack, function);
        count(of_task, key, thread_stack_is_on_cpu(&stack));
        free(key);
    }
    stacks->samples_left--;
}

/* ---- samplings ---- */

static void stacks_free(struct task_stacks *stacks)
{
    struct task_stacks **slot = &stacks->runner->stacks;
    while (*slot != stacks)
        slot = &(*slot)->next;
    *slot = stacks->next;
    loop_timer_stop(&stacks->timer);
    json_decref(stacks->executions);
    json_decref(stacks->tasks);
    free(stacks);
}

static void on_sample(void *argument)
{
    struct task_stacks *stacks = argument;
    sample(stacks);
    if (stacks->samples_left > 0)
        return;
    json_t *json = task_runner_header(stacks->runner);
    json_object_set_new(json, "request", json_integer(stacks->request));
    json_object_set(json, "tasks", stacks->tasks);
    task_runner_send(stacks->runner, MESSAGE_STACKS, json);
    stacks_free(stacks);
}

/* ---- a dump of all threads ---- */

/* The task whose thread it is; NULL: none's. */
static const struct task *task_of(const struct task_runner *runner, int64_t thread)
{
    for (size_t i = 0; i < runner->tasks.count; i++) {
        const struct runner_task *entry = &runner->tasks.items[i];
        if (!entry->is_ended && thread_stack_id(task_thread(entry->task)) == thread)
            return entry->task;
    }
    return NULL;
}

struct dump {
    struct task_runner *runner;
    json_t *threads;
};

/* A user's program and its libraries may have threads of their own, which no signal must disturb. */
static bool can_interrupt(const char *name)
{
    return strcmp(name, "task-runner") == 0;
}

/* The kernel's name of a thread is cut: a task's own stands there instead. */
static void add_thread(const struct thread_stack *stack, void *argument)
{
    struct dump *dump = argument;
    struct thread_stack shown = *stack;
    struct str_buf text = {0};
    const struct task *task = task_of(dump->runner, stack->thread);
    const char *function = task != NULL ? task_current_function(task) : NULL;
    if (task != NULL && function == NULL && shown.frame_count == 0)
        thread_stack_capture(stack->thread, true, &shown);
    thread_stack_print(&shown, task != NULL ? task_name(task) : NULL, shown.frame_count == 0 ? function : NULL, &text);
    json_t *info = json_pack("{s:s,s:s}", "threadName", task != NULL ? task_name(task) : stack->name, "stringifiedThreadInfo", str_buf_text(&text));
    if (info != NULL) /* NULL: a name that is no UTF-8 */
        json_array_append_new(dump->threads, info);
    str_buf_finish(&text);
}

static void dump_threads(struct task_runner *runner, int64_t request)
{
    struct dump dump = {runner, json_array()};
    thread_stacks_all(can_interrupt, add_thread, &dump);
    json_t *json = task_runner_header(runner);
    json_object_set_new(json, "request", json_integer(request));
    json_object_set_new(json, "threads", dump.threads);
    task_runner_send(runner, MESSAGE_STACKS, json);
}

void task_stacks_get(struct task_runner *runner, const json_t *message)
{
    int64_t samples = message_int(message, "samples");
    int64_t interval_ms = message_int(message, "interval_ms");
    const json_t *executions = json_object_get(message, "executions");
    if (executions == NULL) {
        dump_threads(runner, message_int(message, "request"));
        return;
    }
    struct task_stacks *stacks = heap_new(struct task_stacks);
    stacks->runner = runner;
    stacks->request = message_int(message, "request");
    stacks->samples_left = samples < 1 ? 1 : samples > SAMPLES_MAX ? SAMPLES_MAX : samples;
    stacks->executions = json_deep_copy(executions);
    stacks->tasks = json_object();
    stacks->next = runner->stacks;
    runner->stacks = stacks;
    uint64_t period_ms = interval_ms < 1 ? 1 : (uint64_t)interval_ms;
    stacks->timer = loop_timer_start(runner->options.loop, period_ms, period_ms, on_sample, stacks);
}

void task_stacks_finish(struct task_runner *runner)
{
    while (runner->stacks != NULL)
        stacks_free(runner->stacks);
}
