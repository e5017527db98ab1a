/* What a task tells about itself (semantics.md section 10: Flink's metric names). Counters and clocks are atomics that any
 * thread reads; what operators know is published by the task thread when it is asked. */
#include "taskmanager/task/task_private.h"

#define NS_PER_MS 1000000

void task_publish_operators(struct task *task)
{
    json_t *operators = operator_chain_metrics(task->chain);
    pthread_mutex_lock(&task->metrics_lock);
    json_t *before = task->operators;
    task->operators = operators;
    pthread_mutex_unlock(&task->metrics_lock);
    json_decref(before);
}

static struct error *on_refresh(struct task *task, void *arg)
{
    (void)arg;
    if (task->chain != NULL)
        task_publish_operators(task);
    return NULL;
}

void task_refresh_metrics(struct task *task)
{
    task_post(task, on_refresh, NULL, NULL);
}

static void set_integer(json_t *json, const char *name, int64_t value)
{
    json_object_set_new(json, name, json_integer(value));
}

static void set_output_metrics(json_t *json, struct task *task)
{
    uint64_t rows = 0, bytes = 0, batches = 0;
    double usage = 0;
    for (uint32_t i = 0; i < task->output_count; i++) {
        const struct result_partition_counts *counts = result_partition_counts(task->outputs[i]);
        rows += atomic_load_explicit(&counts->rows, memory_order_relaxed);
        bytes += atomic_load_explicit(&counts->bytes, memory_order_relaxed);
        batches += atomic_load_explicit(&counts->batches, memory_order_relaxed);
        double one = result_partition_usage(task->outputs[i]);
        usage = one > usage ? one : usage;
    }
    set_integer(json, "numRecordsOut", (int64_t)rows);
    set_integer(json, "numBytesOut", (int64_t)bytes);
    set_integer(json, "numBuffersOut", (int64_t)batches);
    json_object_set_new(json, "buffers.outPoolUsage", json_real(usage));
}

static void set_time_metrics(json_t *json, struct task *task)
{
    int64_t totals[TASK_TIME_COUNT];
    task_clock_read(&task->clock, totals);
    int64_t soft_ms = totals[TASK_TIME_SOFT_BLOCKED] / NS_PER_MS;
    int64_t hard_ms = totals[TASK_TIME_HARD_BLOCKED] / NS_PER_MS;
    set_integer(json, "accumulateBusyTimeMs", totals[TASK_TIME_BUSY] / NS_PER_MS);
    set_integer(json, "accumulateIdleTimeMs", totals[TASK_TIME_IDLE] / NS_PER_MS);
    set_integer(json, "accumulateBackPressuredTimeMs", (totals[TASK_TIME_SOFT_BLOCKED] + totals[TASK_TIME_HARD_BLOCKED]) / NS_PER_MS);
    set_integer(json, "accumulateSoftBackPressuredTimeMs", soft_ms);
    set_integer(json, "accumulateHardBackPressuredTimeMs", hard_ms);
    int state = atomic_load(&task->clock.state);
    json_object_set_new(json, "isBackPressured", json_boolean(state == TASK_TIME_SOFT_BLOCKED || state == TASK_TIME_HARD_BLOCKED));
}

static void set_operators(json_t *json, struct task *task)
{
    pthread_mutex_lock(&task->metrics_lock);
    json_t *operators = task->operators != NULL ? json_deep_copy(task->operators) : json_array();
    pthread_mutex_unlock(&task->metrics_lock);
    size_t count = json_array_size(operators);
    if (count > 0) {
        json_object_set(json, "currentInputWatermark", json_object_get(json_array_get(operators, 0), "watermark_in"));
        json_object_set(json, "currentOutputWatermark", json_object_get(json_array_get(operators, count - 1), "watermark_out"));
    }
    json_object_set_new(json, "operators", operators);
}

void task_times(struct task *task, int64_t totals_ns[TASK_TIME_COUNT])
{
    task_clock_read(&task->clock, totals_ns);
}

json_t *task_metrics(struct task *task)
{
    json_t *json = json_object();
    json_object_set_new(json, "execution", json_string(task->execution));
    set_integer(json, "numRecordsIn", (int64_t)atomic_load_explicit(&task->rows_in, memory_order_relaxed));
    set_integer(json, "numBytesIn", (int64_t)atomic_load_explicit(&task->bytes_in, memory_order_relaxed));
    set_output_metrics(json, task);
    json_object_set_new(json, "buffers.inPoolUsage", json_real(task->gate != NULL ? input_gate_usage(task->gate) : 0));
    set_time_metrics(json, task);
    set_integer(json, "checkpointAlignmentTime", atomic_load(&task->alignment_ns_last));
    set_integer(json, "checkpointStartDelayNanos", atomic_load(&task->start_delay_ns_last));
    time_histogram_put_json(&task->sync_times, "checkpointSyncTimeUs", json);
    time_histogram_put_json(&task->batch_times, "batchTimeUs", json);
    time_histogram_put_json(&task->snapshot_batch_times, "batchTimeDuringSnapshotUs", json);
    set_integer(json, "mailboxQueueSize", atomic_load(&task->mail_count));
    set_operators(json, task);
    return json;
}
