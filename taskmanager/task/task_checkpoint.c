/* A task's part in checkpoints: begin (sources), take the snapshot and pass the barrier on, hand the report to a worker,
 * and learn how it ended. Thread: task, but for the report's way through a worker. */
#include "taskmanager/task/task_private.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/fs/fs.h"

#include <inttypes.h>

#define NS_PER_MS 1000000

/* ---- taking ---- */

static struct checkpoint_report *report_create(struct task *task, struct barrier barrier)
{
    struct checkpoint_report *report = heap_new(struct checkpoint_report);
    report->task = task;
    report->barrier = barrier;
    report->snapshot = snapshot_create();
    task->report_count++;
    return report;
}

static void report_destroy(struct checkpoint_report *report)
{
    barrier_finish(&report->barrier);
    snapshot_destroy(report->snapshot);
    json_decref(report->books);
    json_decref(report->result.handles);
    free(report);
}

static void report_fill(struct checkpoint_report *report, const struct gate_event *event)
{
    struct task *task = report->task;
    int64_t start_delay_ms = clock_now_ms() - event->barrier.timestamp_ms - event->alignment_ns / NS_PER_MS;
    report->start_delay_ms = start_delay_ms > 0 ? start_delay_ms : 0;
    report->alignment_ms = event->alignment_ns / NS_PER_MS;
    report->alignment_bytes = event->alignment_bytes;
    report->is_unaligned = event->barrier.is_unaligned;
    report->is_finished = task->is_data_ended;
    atomic_store(&task->alignment_ns_last, event->alignment_ns);
    atomic_store(&task->start_delay_ns_last, report->start_delay_ms * NS_PER_MS);
}

/* The state as of now, then the barrier downstream: what operators emit while they prepare is still before the barrier. */
struct error *task_take_checkpoint(struct task *task, struct gate_event *event)
{
    struct barrier barrier = event->barrier;
    uint64_t id = barrier.checkpoint_id;
    if (id <= task->last_checkpoint_id) {
        barrier_finish(&barrier);
        in_flight_destroy(event->in_flight);
        return NULL;
    }
    task->last_checkpoint_id = id;
    struct checkpoint_report *report = report_create(task, barrier);
    report_fill(report, event);
    int64_t start_ns = clock_mono_ns();
    struct chain_cut cut = {.checkpoint_id = id, .is_unaligned = barrier.is_unaligned};
    task_save_in_flight(task, event->in_flight, report->snapshot, &cut);
    task->is_snapshotting = barrier.is_unaligned;
    struct error *err = operator_chain_snapshot(task->chain, &cut, report->snapshot, &report->books);
    task->is_snapshotting = false;
    if (err == NULL)
        err = task_broadcast(task, (struct element){.type = ELEMENT_BARRIER, .as.barrier = barrier});
    if (err != NULL) {
        task->report_count--;
        report_destroy(report);
        return error_wrap(err, "could not take checkpoint %" PRIu64 " of task %s", id, task->name);
    }
    if (task->is_data_ended && task->final_checkpoint_id == 0)
        task->final_checkpoint_id = id;
    if (barrier_kind_ends_job(barrier.kind)) {
        task->stop_checkpoint_id = id;
        task->is_drained = barrier.kind == BARRIER_DRAIN;
    }
    report->async_start_ns = clock_mono_ns();
    report->sync_ns = report->async_start_ns - start_ns;
    time_histogram_add(&task->sync_times, report->sync_ns);
    task->host.on_snapshot(task->host.arg, report);
    return NULL;
}

/* The coordinator knows that our producers have finished; the ends of their channels are still on the way. Or rows wait for the next slice
 * of a slow function: the state of a source is already behind them. */
static void task_keep_trigger(struct task *task, struct barrier barrier)
{
    barrier_finish(&task->pending_trigger);
    task->pending_trigger = barrier;
    atomic_store(&task->trigger_due_ms, barrier_due_ms(&barrier));
}

struct error *task_begin_checkpoint(struct task *task, struct barrier barrier)
{
    barrier.is_unaligned = barrier.is_unaligned || barrier_due_ms(&barrier) <= clock_now_ms();
    atomic_store(&task->trigger_due_ms, INT64_MAX);
    bool has_input = task->gate != NULL && !input_gate_is_ended(task->gate);
    if (!barrier.is_unaligned && (has_input || operator_chain_is_holding(task->chain))) {
        task_keep_trigger(task, barrier);
        return NULL;
    }
    if (has_input) {
        input_gate_start(task->gate, barrier);
        return NULL;
    }
    if (barrier.kind == BARRIER_DRAIN && barrier.checkpoint_id > task->last_checkpoint_id) {
        struct error *err = task_end_data(task, true);
        if (err != NULL) {
            barrier_finish(&barrier);
            return err;
        }
    }
    return task_take_checkpoint(task, &(struct gate_event){.type = GATE_BARRIER, .barrier = barrier});
}

struct error *task_pending_trigger_ready(struct task *task)
{
    struct barrier barrier = task->pending_trigger;
    if (barrier.location == NULL)
        return NULL;
    task->pending_trigger = (struct barrier){0};
    return task_begin_checkpoint(task, barrier);
}

/* ---- what does not wait behind rows ---- */

int64_t task_urgent_ms(const struct task *task)
{
    int64_t due_ms = atomic_load(&task->trigger_due_ms);
    int64_t gate_ms = task->gate != NULL ? input_gate_urgent_ms(task->gate) : INT64_MAX;
    return gate_ms < due_ms ? gate_ms : due_ms;
}

struct error *task_run_urgent(struct task *task)
{
    if (task->pending_trigger.location != NULL && barrier_due_ms(&task->pending_trigger) <= clock_now_ms())
        TRY(task_pending_trigger_ready(task));
    if (task->gate == NULL)
        return NULL;
    struct gate_event event;
    TRY(input_gate_next_urgent(task->gate, &event));
    if (event.type == GATE_BARRIER)
        return task_take_checkpoint(task, &event);
    if (event.type != GATE_BARRIER_ABORTED)
        return NULL;
    barrier_finish(&event.barrier);
    return task_checkpoint_aborted_upstream(task, event.barrier.checkpoint_id);
}

struct error *task_checkpoint_aborted_upstream(struct task *task, uint64_t checkpoint_id)
{
    operator_chain_checkpoint_aborted(task->chain, checkpoint_id);
    task->host.on_decline(task->host.arg, task, checkpoint_id,
                          error_new(CONFLICT, "checkpoint %" PRIu64 " was superseded or cancelled before all its barriers reached task %s",
                                    checkpoint_id, task->name));
    return task_broadcast(task, (struct element){.type = ELEMENT_CANCEL_BARRIER, .as.barrier = {.checkpoint_id = checkpoint_id}});
}

/* ---- mail ---- */

/* The state of a task that failed half-way through a batch is no state to start from, and behind the end of a partition nobody waits for
 * barriers: the coordinator gives the checkpoint up when it hears how the task ended. */
static bool task_is_over(const struct task *task)
{
    return task->is_finished || task->is_ending;
}

static struct error *on_trigger(struct task *task, void *arg)
{
    struct barrier *copy = arg;
    struct barrier barrier = *copy;
    free(copy);
    if (task_is_over(task)) {
        barrier_finish(&barrier);
        return NULL;
    }
    return task_begin_checkpoint(task, barrier);
}

static void discard_trigger(void *arg)
{
    struct barrier *barrier = arg;
    barrier_finish(barrier);
    free(barrier);
}

/* Savepoints wait their turn: they are to be read by other programs and at other parallelisms. */
void task_trigger_checkpoint(struct task *task, struct barrier barrier)
{
    if (barrier.kind == BARRIER_CHECKPOINT && task->options.unaligned_after_ms >= 0) {
        barrier.is_unaligned = task->options.unaligned_after_ms == 0;
        barrier.unaligned_after_ms = task->options.unaligned_after_ms;
        atomic_store(&task->trigger_due_ms, barrier.is_unaligned ? 0 : barrier_due_ms(&barrier));
    }
    task_post(task, on_trigger, heap_memdup(&barrier, sizeof barrier), discard_trigger);
}

static struct error *on_complete(struct task *task, void *arg)
{
    uint64_t *copy = arg;
    uint64_t id = *copy;
    free(copy);
    if (task_is_over(task) || task->chain == NULL || id <= task->last_completed_id || id > task->last_checkpoint_id)
        return NULL;
    task->last_completed_id = id;
    TRY(operator_chain_checkpoint_complete(task->chain, id));
    bool is_stopped = task->stop_checkpoint_id != 0 && id == task->stop_checkpoint_id;
    bool is_final = task->final_checkpoint_id != 0 && id >= task->final_checkpoint_id;
    if (is_stopped || is_final)
        return task_finish_partitions(task);
    return NULL;
}

void task_notify_checkpoint_complete(struct task *task, uint64_t checkpoint_id)
{
    task_post(task, on_complete, heap_memdup(&checkpoint_id, sizeof checkpoint_id), free);
}

static struct error *on_aborted(struct task *task, void *arg)
{
    uint64_t *copy = arg;
    uint64_t id = *copy;
    free(copy);
    if (task_is_over(task) || task->chain == NULL)
        return NULL;
    if (task->gate != NULL)
        input_gate_abort(task->gate, id);
    operator_chain_checkpoint_aborted(task->chain, id);
    if (task->pending_trigger.location != NULL && task->pending_trigger.checkpoint_id == id) {
        barrier_finish(&task->pending_trigger);
        atomic_store(&task->trigger_due_ms, INT64_MAX);
    }
    if (task->stop_checkpoint_id != id)
        return NULL;
    if (task->is_drained)
        return error_with_hint(error_new(TIMEOUT, "savepoint %" PRIu64 " of a stop with drain was aborted after the input of task %s had been ended",
                                         id, task->name),
                               "the job restarts from its last checkpoint; stop it again");
    task->stop_checkpoint_id = 0;
    return NULL;
}

void task_notify_checkpoint_aborted(struct task *task, uint64_t checkpoint_id)
{
    task_post(task, on_aborted, heap_memdup(&checkpoint_id, sizeof checkpoint_id), free);
}

/* ---- a report's way ---- */

struct error *checkpoint_report_write(struct checkpoint_report *report)
{
    const struct task_options *options = &report->task->options;
    const struct job_vertex *vertex = &options->graph->vertices[options->vertex];
    uint32_t first, last;
    key_group_range(options->subtask_index, vertex->max_parallelism, vertex->parallelism, &first, &last);
    const char *directory = report->barrier.location->directory;
    char *file_name = heap_printf("%s-%u", id_format(vertex->id).hex, options->subtask_index);
    struct error *err = fs_make_directories(directory);
    if (err == NULL)
        err = snapshot_write(report->snapshot, directory, file_name, options->subtask_index, first, last, &report->result);
    report->async_ns = clock_mono_ns() - report->async_start_ns;
    free(file_name);
    if (err != NULL)
        return error_wrap(err, "could not write checkpoint %" PRIu64 " of task %s", report->barrier.checkpoint_id, report->task->name);
    return NULL;
}

json_t *checkpoint_report_metrics(const struct checkpoint_report *report)
{
    json_t *json = json_object();
    json_object_set_new(json, "sync_ms", json_integer(report->sync_ns / NS_PER_MS));
    json_object_set_new(json, "sync_us", json_integer(report->sync_ns / 1000));
    json_object_set_new(json, "async_ms", json_integer(report->async_ns / NS_PER_MS));
    json_object_set_new(json, "alignment_ms", json_integer(report->alignment_ms));
    json_object_set_new(json, "start_delay_ms", json_integer(report->start_delay_ms));
    json_object_set_new(json, "bytes", json_integer((json_int_t)report->result.bytes));
    json_object_set_new(json, "processed_bytes", json_integer((json_int_t)report->alignment_bytes));
    json_object_set_new(json, "persisted_bytes", json_integer((json_int_t)report->result.in_flight_bytes));
    json_object_set_new(json, "is_unaligned", json_boolean(report->is_unaligned));
    return json;
}

static struct error *on_released(struct task *task, void *arg)
{
    task->report_count--;
    report_destroy(arg);
    return NULL;
}

void checkpoint_report_release(struct checkpoint_report *report)
{
    task_post(report->task, on_released, report, NULL);
}
