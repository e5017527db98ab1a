/* The loop of a task: mail, wake-ups, flush, back pressure, input, and again. One poll(2) on the task's event descriptor is
 * the only place where it waits. Thread: task. */
#include "taskmanager/task/task_private.h"

#include "common/base/check.h"
#include "common/base/clock.h"

#include <poll.h>
#include <unistd.h>

#define NS_PER_MS 1000000

/* ---- waiting ---- */

/* A mail or a cancel is there; what else the caller waits for it has checked with is_sleeping set. */
static bool task_has_news(struct task *task)
{
    return atomic_load(&task->mail_count) > 0 || atomic_load(&task->is_cancelled);
}

static void task_poll(struct task *task, enum task_time state, int64_t timeout_ms)
{
    enum task_time before = task_clock_switch(&task->clock, state);
    struct pollfd wait = {.fd = task->wake_fd, .events = POLLIN};
    int timeout = timeout_ms < 0 ? -1 : timeout_ms > 3600000 ? 3600000 : (int)timeout_ms;
    int ready = poll(&wait, 1, timeout);
    if (ready > 0) {
        uint64_t count;
        ssize_t got = read(task->wake_fd, &count, sizeof count);
        (void)got; /* EAGAIN: nothing was there after all */
        task->wake_seen = true;
    }
    task_clock_switch(&task->clock, before);
}

void task_sleep(struct task *task, enum task_time state, int64_t timeout_ms)
{
    atomic_store(&task->is_sleeping, true);
    if (!task_has_news(task))
        task_poll(task, state, timeout_ms);
    atomic_store(&task->is_sleeping, false);
}

static struct error *task_cancelled_error(const struct task *task)
{
    return error_new(CANCELLED, "task %s was cancelled", task->name);
}

/* The shorter of a timeout (-1: none) and the time until something is urgent. */
static int64_t task_limit_timeout(const struct task *task, int64_t timeout_ms)
{
    int64_t urgent_ms = task_urgent_ms(task);
    if (urgent_ms == INT64_MAX)
        return timeout_ms;
    int64_t left_ms = urgent_ms - clock_now_ms();
    left_ms = left_ms > 0 ? left_ms : 0;
    return timeout_ms < 0 || left_ms < timeout_ms ? left_ms : timeout_ms;
}

static bool task_is_urgent(const struct task *task)
{
    int64_t urgent_ms = task_urgent_ms(task);
    return urgent_ms != INT64_MAX && urgent_ms <= clock_now_ms();
}

/* An unaligned barrier waits for the end of this emit: then the queue may grow a little beyond its bounds. */
static bool task_may_push(const struct task *task, const struct channel *channel)
{
    return channel_has_room(channel) || (channel_has_overdraft(channel) && (task->is_snapshotting || task_is_urgent(task)));
}

/* Hard back pressure: in the midst of an emit nothing but room, a barrier that waits for us or a cancel helps; mail has to wait. */
struct error *task_wait_for_room(void *arg, struct channel *channel)
{
    struct task *task = arg;
    while (!task_may_push(task, channel)) {
        if (atomic_load(&task->is_cancelled))
            return task_cancelled_error(task);
        atomic_store(&task->is_sleeping, true);
        int64_t timeout_ms = channel_has_overdraft(channel) ? task_limit_timeout(task, -1) : -1;
        if (!task_may_push(task, channel) && !atomic_load(&task->is_cancelled))
            task_poll(task, TASK_TIME_HARD_BLOCKED, timeout_ms);
        atomic_store(&task->is_sleeping, false);
    }
    return NULL;
}

static bool task_outputs_are_available(const struct task *task)
{
    for (uint32_t i = 0; i < task->output_count; i++)
        if (!result_partition_is_available(task->outputs[i]))
            return false;
    return true;
}

static int64_t task_wake_timeout_ms(struct task *task)
{
    int64_t next = task->is_data_ended ? INT64_MAX : operator_chain_next_wake_ms(task->chain);
    if (next == INT64_MAX)
        return -1;
    int64_t now = clock_now_ms();
    return next > now ? next - now : 0;
}

static void task_sleep_for_output(struct task *task)
{
    int64_t timeout_ms = task_wake_timeout_ms(task);
    atomic_store(&task->is_sleeping, true);
    timeout_ms = task_limit_timeout(task, timeout_ms);
    if (!task_outputs_are_available(task) && !task_has_news(task) && timeout_ms != 0)
        task_poll(task, TASK_TIME_SOFT_BLOCKED, timeout_ms);
    atomic_store(&task->is_sleeping, false);
}

static void task_sleep_for_input(struct task *task)
{
    int64_t timeout_ms = task_wake_timeout_ms(task);
    atomic_store(&task->is_sleeping, true);
    bool is_ready = task->gate != NULL && input_gate_is_ready(task->gate);
    if (!is_ready && !task_has_news(task))
        task_poll(task, TASK_TIME_IDLE, timeout_ms);
    atomic_store(&task->is_sleeping, false);
}

/* ---- mail, wake-ups, flush ---- */

struct error *task_run_mails(struct task *task)
{
    while (atomic_load(&task->mail_count) > 0) {
        pthread_mutex_lock(&task->mail_lock);
        struct task_mail mail = task->mail.items[0];
        vec_remove(&task->mail, 0);
        atomic_fetch_sub(&task->mail_count, 1);
        pthread_mutex_unlock(&task->mail_lock);
        atomic_fetch_add_explicit(&task->mails_run, 1, memory_order_relaxed);
        TRY(mail.run(task, mail.arg));
    }
    return NULL;
}

static struct error *task_run_wakes(struct task *task)
{
    int64_t next = operator_chain_next_wake_ms(task->chain);
    if (task->is_data_ended || next == INT64_MAX)
        return NULL;
    int64_t now = clock_now_ms();
    return next <= now ? operator_chain_wake(task->chain, now) : NULL;
}

static struct error *task_flush(struct task *task)
{
    task->flush_due_ns = 0;
    for (uint32_t i = 0; i < task->output_count; i++)
        TRY(result_partition_flush(task->outputs[i]));
    return NULL;
}

/* Rows wait in a builder at most the buffer timeout, also when input never dries up. */
static struct error *task_flush_if_due(struct task *task)
{
    bool has_unflushed = false;
    for (uint32_t i = 0; i < task->output_count; i++)
        has_unflushed = has_unflushed || result_partition_has_unflushed(task->outputs[i]);
    if (!has_unflushed) {
        task->flush_due_ns = 0;
        return NULL;
    }
    if (task->options.buffer_timeout_ms < 0)
        return NULL;
    int64_t now = clock_mono_ns();
    if (task->flush_due_ns == 0)
        task->flush_due_ns = now + task->options.buffer_timeout_ms * NS_PER_MS;
    return now >= task->flush_due_ns ? task_flush(task) : NULL;
}

struct error *task_broadcast(struct task *task, struct element event)
{
    for (uint32_t i = 0; i < task->output_count; i++)
        TRY(result_partition_broadcast(task->outputs[i], event));
    return NULL;
}

/* ---- the end ---- */

struct error *task_finish_partitions(struct task *task)
{
    TRY(task_broadcast(task, (struct element){.type = ELEMENT_END_OF_PARTITION}));
    task->is_finished = true;
    return NULL;
}

struct error *task_end_data(struct task *task, bool is_drain)
{
    if (task->is_data_ended)
        return NULL;
    TRY(operator_chain_end_input(task->chain, is_drain));
    TRY(task_broadcast(task, (struct element){.type = ELEMENT_END_OF_DATA}));
    task->is_data_ended = true;
    return NULL;
}

/* ---- input ---- */

static struct error *task_step_source(struct task *task)
{
    enum source_status status = SOURCE_EMPTY;
    if (task->is_source_ended)
        return task_end_data(task, true);
    task->wake_seen = false;
    TRY(operator_chain_poll(task->chain, BATCH_ROWS_TARGET, &status));
    task->is_source_ended = status == SOURCE_END;
    if (status == SOURCE_MORE || operator_chain_is_holding(task->chain))
        return NULL;
    if (status == SOURCE_END)
        return task_end_data(task, true);
    TRY(task_flush(task));
    if (!task->wake_seen) /* a wake that was read while the poll was blocked in an emit may have been the source's */
        task_sleep_for_input(task);
    return NULL;
}

static struct error *task_deliver_change(struct task *task, uint32_t edge, struct watermark_valve_change change)
{
    if (change.went_active)
        TRY(operator_chain_idle(task->chain, edge, false));
    if (change.has_watermark)
        TRY(operator_chain_watermark(task->chain, edge, change.watermark));
    if (change.went_idle)
        TRY(operator_chain_idle(task->chain, edge, true));
    return NULL;
}

static void task_account_rows(struct task *task, int64_t start_ns, int64_t start_blocked_ns)
{
    const atomic_llong *blocked_ns = &task->clock.total_ns[TASK_TIME_HARD_BLOCKED];
    int64_t blocked = atomic_load_explicit(blocked_ns, memory_order_relaxed) - start_blocked_ns;
    int64_t busy_ns = clock_mono_ns() - start_ns - blocked;
    time_histogram_add(&task->batch_times, busy_ns);
    if (task->report_count > 0)
        time_histogram_add(&task->snapshot_batch_times, busy_ns);
}

static struct error *task_process_batch(struct task *task, const struct gate_event *event)
{
    const atomic_llong *blocked_ns = &task->clock.total_ns[TASK_TIME_HARD_BLOCKED];
    int64_t start_ns = clock_mono_ns(), start_blocked_ns = atomic_load_explicit(blocked_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&task->rows_in, event->batch->row_count, memory_order_relaxed);
    atomic_fetch_add_explicit(&task->bytes_in, event->batch_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&task->batches_in, 1, memory_order_relaxed);
    if (event->is_remote) {
        atomic_fetch_add_explicit(&task->bytes_in_remote, event->batch_bytes, memory_order_relaxed);
        atomic_fetch_add_explicit(&task->batches_in_remote, 1, memory_order_relaxed);
    }
    struct error *err = operator_chain_process(task->chain, event->edge, event->batch);
    batch_unref(event->batch);
    task_account_rows(task, start_ns, start_blocked_ns);
    return err;
}

/* Rows that take long (a function that sleeps or calls somebody) go in slices, with a look at the mail between them: a cancel, a
 * completed checkpoint or a metrics report does not wait for the whole batch. Barriers do: the rows came before them. */
static struct error *task_resume(struct task *task)
{
    const atomic_llong *blocked_ns = &task->clock.total_ns[TASK_TIME_HARD_BLOCKED];
    int64_t start_ns = clock_mono_ns(), start_blocked_ns = atomic_load_explicit(blocked_ns, memory_order_relaxed);
    TRY(operator_chain_resume(task->chain));
    task_account_rows(task, start_ns, start_blocked_ns);
    return operator_chain_is_holding(task->chain) ? NULL : task_pending_trigger_ready(task);
}

/* The end of a channel's data carries its TIME_MAX watermark in front of it. */
static struct error *task_channel_ended(struct task *task, const struct gate_event *event, struct watermark_valve *valve)
{
    if (event->type == GATE_CHANNEL_ENDED && !task->is_data_ended)
        TRY(task_deliver_change(task, event->edge, watermark_valve_end(valve, task->valve_channels[event->channel])));
    /* Producers that were stopped without a drain end their partition alone: then no end of input is simulated here. */
    if (!task->is_data_ended && task->stop_checkpoint_id == 0 && input_gate_is_data_ended(task->gate))
        TRY(task_end_data(task, true));
    if (input_gate_is_ended(task->gate) && !task->is_finished)
        TRY(task_pending_trigger_ready(task));
    return NULL;
}

static struct error *task_step_gate(struct task *task)
{
    struct gate_event event;
    TRY(input_gate_next(task->gate, &event));
    struct watermark_valve *valve = NULL;
    uint32_t channel = 0;
    if (event.type == GATE_WATERMARK || event.type == GATE_IDLE || event.type == GATE_CHANNEL_ENDED) {
        valve = task->valves[task->gate_inputs[event.edge]];
        channel = task->valve_channels[event.channel];
    }
    switch (event.type) {
    case GATE_NOTHING:
        TRY(task_flush(task));
        task_sleep_for_input(task);
        return NULL;
    case GATE_BATCH:
        return task_process_batch(task, &event);
    case GATE_WATERMARK:
        return task_deliver_change(task, event.edge, watermark_valve_watermark(valve, channel, event.watermark));
    case GATE_IDLE:
        return task_deliver_change(task, event.edge, watermark_valve_idle(valve, channel, event.is_idle));
    case GATE_BARRIER:
        return task_take_checkpoint(task, &event);
    case GATE_BARRIER_ABORTED:
        barrier_finish(&event.barrier);
        return task_checkpoint_aborted_upstream(task, event.barrier.checkpoint_id);
    case GATE_CHANNEL_DATA_ENDED:
    case GATE_CHANNEL_ENDED:
        return task_channel_ended(task, &event, valve);
    }
    return NULL;
}

static bool task_has_input(const struct task *task)
{
    if (task->gate != NULL)
        return !input_gate_is_ended(task->gate);
    return !task->is_data_ended;
}

static struct error *task_step(struct task *task)
{
    if (task->stop_checkpoint_id != 0) {
        /* After the barrier of a stop nothing may change any more, or it would happen twice after the restore. */
        task_sleep(task, TASK_TIME_IDLE, -1);
        return NULL;
    }
    TRY(task_run_urgent(task));
    if (task->is_finished || task->stop_checkpoint_id != 0)
        return NULL;
    TRY(task_run_wakes(task));
    TRY(task_flush_if_due(task));
    if (!task_outputs_are_available(task)) {
        task_sleep_for_output(task);
        return NULL;
    }
    if (operator_chain_is_holding(task->chain))
        return task_resume(task);
    if (!task_has_input(task)) {
        /* Without checkpoints there is no last one to wait for. */
        if (!task->options.checkpointing_enabled)
            return task_finish_partitions(task);
        task_sleep(task, TASK_TIME_IDLE, -1);
        return NULL;
    }
    return task->gate != NULL ? task_step_gate(task) : task_step_source(task);
}

struct error *task_run(struct task *task)
{
    while (!task->is_finished) {
        if (atomic_load(&task->is_cancelled))
            return task_cancelled_error(task);
        atomic_fetch_add_explicit(&task->step_count, 1, memory_order_relaxed);
        TRY(task_run_mails(task));
        if (!task->is_finished)
            TRY(task_step(task));
    }
    return NULL;
}
