/* Creation, life, mailbox and end of a task. Thread: creation and destruction on the runner's loop thread, the body on the
 * task thread. The loop itself is in task_loop.c. */
#include "taskmanager/task/task_private.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "taskmanager/ops/user_context.h"
#include "taskmanager/task/crash_handler.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static _Thread_local struct task *thread_task;

static const char *const state_names[] = {
    [TASK_CREATED] = "CREATED",   [TASK_INITIALIZING] = "INITIALIZING", [TASK_RUNNING] = "RUNNING",
    [TASK_FINISHED] = "FINISHED", [TASK_CANCELED] = "CANCELED",         [TASK_FAILED] = "FAILED",
};

const char *task_state_name(enum task_state state)
{
    return state_names[state];
}

bool task_state_is_final(enum task_state state)
{
    return state == TASK_FINISHED || state == TASK_CANCELED || state == TASK_FAILED;
}

/* ---- creation ---- */

static void task_connect_inputs(struct task *task, const struct task_options *options)
{
    if (options->input_count == 0)
        return;
    task->gate = input_gate_create(options->inputs, options->input_count, options->is_exactly_once,
                                   (struct channel_waker){.wake = task_wake, .arg = task});
    struct vertex_edge *edges;
    uint32_t edge_count = job_graph_vertex_inputs(options->graph, options->vertex, &edges);
    task->gate_inputs = heap_alloc_array(edge_count, sizeof *task->gate_inputs);
    for (uint32_t i = 0; i < edge_count; i++) {
        const struct job_operator *target = &options->graph->operators[edges[i].target_operator];
        task->gate_inputs[i] = target->inputs[edges[i].edge].input;
        check(task->gate_inputs[i] < LOGICAL_INPUT_COUNT_MAX);
    }
    free(edges);
    uint32_t counts[LOGICAL_INPUT_COUNT_MAX] = {0};
    task->valve_channels = heap_alloc_array(options->input_count, sizeof *task->valve_channels);
    for (uint32_t i = 0; i < options->input_count; i++)
        task->valve_channels[i] = counts[task->gate_inputs[options->inputs[i].edge]]++;
    for (uint32_t i = 0; i < LOGICAL_INPUT_COUNT_MAX; i++)
        task->valves[i] = watermark_valve_create(counts[i]);
}

static void task_connect_outputs(struct task *task, const struct task_options *options)
{
    task->output_count = options->output_count;
    task->outputs = heap_alloc_array(options->output_count, sizeof *task->outputs);
    for (uint32_t i = 0; i < options->output_count; i++) {
        const struct task_output *output = &options->outputs[i];
        const struct job_operator *target = &options->graph->operators[output->edge.target_operator];
        task->outputs[i] = result_partition_create(&(struct result_partition_options){
            .edge = &target->inputs[output->edge.edge],
            .max_parallelism = target->max_parallelism,
            .seed = options->subtask_index,
            .channels = output->channels,
            .channel_count = output->channel_count,
            .host = {.wait_for_room = task_wait_for_room, .arg = task},
            .waker = {.wake = task_wake, .arg = task},
        });
    }
}

struct error *task_create(const struct task_options *options, struct task **out)
{
    const struct job_vertex *vertex = &options->graph->vertices[options->vertex];
    struct task *task = heap_new(struct task);
    task->options = *options;
    task->options.inputs = NULL;
    task->options.outputs = NULL;
    task->host = options->host;
    atomic_init(&task->trigger_due_ms, INT64_MAX);
    task->execution = heap_strdup(options->execution);
    task->options.execution = task->execution;
    task->name = heap_printf("%s (%u/%u)", vertex->name, options->subtask_index + 1, vertex->parallelism);
    check(pthread_mutex_init(&task->mail_lock, NULL) == 0);
    check(pthread_mutex_init(&task->metrics_lock, NULL) == 0);
    task->monitor = op_monitor_create(vertex->operator_count);
    task->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    task_connect_inputs(task, options);
    task_connect_outputs(task, options);
    if (task->wake_fd < 0) {
        struct error *err = error_errno(errno, "could not make the event descriptor of task %s", task->name);
        task_destroy(task);
        return err;
    }
    *out = task;
    return NULL;
}

void task_destroy(struct task *task)
{
    if (task == NULL)
        return;
    check(!task->is_started);
    for (size_t i = 0; i < task->mail.count; i++)
        if (task->mail.items[i].discard != NULL)
            task->mail.items[i].discard(task->mail.items[i].arg);
    vec_finish(&task->mail);
    input_gate_destroy(task->gate);
    for (uint32_t i = 0; i < task->output_count; i++)
        result_partition_destroy(task->outputs[i]);
    for (uint32_t i = 0; i < LOGICAL_INPUT_COUNT_MAX; i++)
        watermark_valve_destroy(task->valves[i]);
    barrier_finish(&task->pending_trigger);
    json_decref(task->operators);
    op_monitor_destroy(task->monitor);
    pthread_mutex_destroy(&task->mail_lock);
    pthread_mutex_destroy(&task->metrics_lock);
    if (task->wake_fd >= 0)
        close(task->wake_fd);
    free(task->outputs);
    free(task->gate_inputs);
    free(task->valve_channels);
    free(task->execution);
    free(task->name);
    free(task);
}

/* ---- mail ---- */

void task_wake(void *arg)
{
    struct task *task = arg;
    if (!atomic_load(&task->is_sleeping))
        return;
    uint64_t one = 1;
    ssize_t written = write(task->wake_fd, &one, sizeof one);
    (void)written; /* EAGAIN: the counter is full, so the task will wake */
}

void task_post(struct task *task, struct error *(*run)(struct task *task, void *arg), void *arg, void (*discard)(void *arg))
{
    pthread_mutex_lock(&task->mail_lock);
    vec_push(&task->mail, ((struct task_mail){.run = run, .arg = arg, .discard = discard}));
    atomic_fetch_add(&task->mail_count, 1);
    task_wake(task);
    pthread_mutex_unlock(&task->mail_lock);
}

void task_cancel(struct task *task)
{
    atomic_store(&task->is_cancelled, true);
    atomic_store(&task->is_aborting, true);
    task_wake(task);
}

/* ---- the thread ---- */

static struct error *task_create_chain(struct task *task)
{
    struct task_options *options = &task->options;
    struct chain_output **outputs = heap_alloc_array(task->output_count, sizeof(struct chain_output *));
    for (uint32_t i = 0; i < task->output_count; i++)
        outputs[i] = result_partition_output(task->outputs[i]);
    struct error *err = operator_chain_create(
        &(struct operator_chain_options){
            .graph = options->graph,
            .vertex = options->vertex,
            .subtask_index = options->subtask_index,
            .attempt_number = options->attempt_number,
            .restored_checkpoint_id = options->restored_checkpoint_id,
            .restore_directory = options->restore_directory,
            .restore_handles = options->restore_handles,
            .restore_books = options->restore_books,
            .checkpointing_enabled = options->checkpointing_enabled,
            .library = options->library,
            .wake_fd = task->wake_fd,
            .is_aborting = &task->is_aborting,
            .step_count = &task->step_count,
            .slice_ns = TASK_SLICE_NS,
            .clock = &task->clock,
            .monitor = task->monitor,
            .outputs = outputs,
            .output_count = task->output_count,
        },
        &task->chain);
    free(outputs);
    return err;
}

/* Flink's lines, in which a task that is being set up is DEPLOYING. */
static void task_log_switch(const struct task *task, const char *from, const char *to, const struct error *err)
{
    uint64_t attempt = task->options.attempt_number;
    if (err != NULL)
        log_error_chain(LOG_WARN, "Task", err, "%s#%" PRIu64 " (%s) switched from %s to %s with failure cause:", task->name, attempt,
                        task->execution, from, to);
    else
        log_info("Task", "%s#%" PRIu64 " (%s) switched from %s to %s.", task->name, attempt, task->execution, from, to);
}

static void task_switch_state(struct task *task, enum task_state state, struct error *err)
{
    enum task_state old = (enum task_state)atomic_exchange(&task->state, (int)state);
    task_log_switch(task, old == TASK_CREATED ? "DEPLOYING" : task_state_name(old), task_state_name(state), err);
    task->host.on_state(task->host.arg, task, state, err);
}

/* Reports on their way hold pages of our state: wait until they are back. */
static void task_wait_for_reports(struct task *task)
{
    while (task->report_count > 0) {
        error_free(task_run_mails(task));
        if (task->report_count > 0)
            task_sleep(task, TASK_TIME_IDLE, 100);
    }
}

static void task_end(struct task *task, struct error *err)
{
    if (err != NULL)
        atomic_store(&task->is_aborting, true);
    task->is_ending = true;
    task_wait_for_reports(task);
    if (task->chain != NULL)
        task_publish_operators(task);
    if (task->gate != NULL)
        input_gate_release(task->gate);
    operator_chain_destroy(task->chain);
    task->chain = NULL;
    task_clock_stop(&task->clock);
    if (err == NULL) {
        task_switch_state(task, TASK_FINISHED, NULL);
    } else if (atomic_load(&task->is_cancelled)) {
        error_free(err);
        task_switch_state(task, TASK_CANCELED, NULL);
    } else {
        task_switch_state(task, TASK_FAILED, err);
    }
}

static void *task_thread_main(void *arg)
{
    struct task *task = arg;
    thread_task = task;
    void *signal_stack = crash_handler_thread_start();
    atomic_store(&task->current_function, &user_function_current);
    char thread_name[16];
    snprintf(thread_name, sizeof thread_name, "%.15s", task->name);
    pthread_setname_np(pthread_self(), thread_name);
    task_clock_start(&task->clock, TASK_TIME_BUSY);
    atomic_store(&task->started_ns, clock_mono_ns());
    op_monitor_start(task->monitor);
    task_switch_state(task, TASK_INITIALIZING, NULL);
    struct error *err = task_create_chain(task);
    if (err == NULL)
        err = task_restore_in_flight(task);
    if (err == NULL) {
        task_publish_operators(task);
        atomic_store(&task->initialized_ns, clock_mono_ns());
        task_switch_state(task, TASK_RUNNING, NULL);
        err = task_run(task);
    }
    atomic_store(&task->current_function, NULL);
    task_end(task, err);
    crash_handler_thread_end(signal_stack);
    return NULL;
}

struct error *task_start(struct task *task)
{
    task_log_switch(task, "CREATED", "DEPLOYING", NULL);
    int status = pthread_create(&task->thread, NULL, task_thread_main, task);
    if (status != 0)
        return error_errno(status, "could not start the thread of task %s", task->name);
    task->is_started = true;
    return NULL;
}

void task_join(struct task *task)
{
    if (!task->is_started)
        return;
    check(pthread_join(task->thread, NULL) == 0);
    task->is_started = false;
}

/* ---- what is known about a task ---- */

const char *task_name(const struct task *task)
{
    return task->name;
}

const char *task_execution(const struct task *task)
{
    return task->execution;
}

struct task *task_of_this_thread(void)
{
    return thread_task;
}

pthread_t task_thread(const struct task *task)
{
    return task->thread;
}

const char *task_current_function(const struct task *task)
{
    const char *const *current = atomic_load(&task->current_function);
    return current != NULL ? __atomic_load_n(current, __ATOMIC_RELAXED) : NULL;
}

uint64_t task_step_count(const struct task *task)
{
    return atomic_load_explicit(&task->step_count, memory_order_relaxed);
}

bool task_has_undelivered(const struct task *task)
{
    for (uint32_t i = 0; i < task->output_count; i++)
        if (result_partition_has_undelivered(task->outputs[i]))
            return true;
    return false;
}
