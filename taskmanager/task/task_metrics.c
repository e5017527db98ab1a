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

/* Also measures how long such a mail waits. */
static struct error *on_refresh(struct task *task, void *arg)
{
    int64_t *posted_ns = arg;
    mail_latency_add(&task->mail_latency, clock_mono_ns() - *posted_ns);
    free(posted_ns);
    if (task->chain != NULL)
        task_publish_operators(task);
    return NULL;
}

void task_refresh_metrics(struct task *task)
{
    int64_t now_ns = clock_mono_ns();
    task_post(task, on_refresh, heap_memdup(&now_ns, sizeof now_ns), free);
}

static void set_integer(json_t *json, const char *name, int64_t value)
{
    json_object_set_new(json, name, json_integer(value));
}

static int64_t load(const atomic_ullong *counter)
{
    return (int64_t)atomic_load_explicit(counter, memory_order_relaxed);
}

static void set_input_metrics(json_t *json, struct task *task)
{
    int64_t bytes = load(&task->bytes_in), bytes_remote = load(&task->bytes_in_remote);
    int64_t batches = load(&task->batches_in), batches_remote = load(&task->batches_in_remote);
    struct channel_fill fill = {0};
    if (task->gate != NULL)
        input_gate_fill_add(task->gate, false, &fill);
    set_integer(json, "numRecordsIn", load(&task->rows_in));
    set_integer(json, "numBytesIn", bytes);
    set_integer(json, "numBytesInLocal", bytes - bytes_remote);
    set_integer(json, "numBytesInRemote", bytes_remote);
    set_integer(json, "numBuffersInLocal", batches - batches_remote);
    set_integer(json, "numBuffersInRemote", batches_remote);
    set_integer(json, "buffers.inputQueueLength", (int64_t)fill.batches);
    set_integer(json, "buffers.inputQueueSize", (int64_t)fill.bytes);
    json_object_set_new(json, "buffers.inPoolUsage", json_real(task->gate != NULL ? input_gate_usage(task->gate) : 0));
    json_object_set_new(json, "buffers.inputExclusiveBuffersUsage",
                        json_real(task->gate != NULL ? input_gate_remote_usage(task->gate) : 0));
}

/* Every channel of the process once: a local one belongs to its producer. */
static void set_channels(json_t *json, struct task *task)
{
    struct channel_fill fill = {0};
    if (task->gate != NULL)
        input_gate_fill_add(task->gate, true, &fill);
    for (uint32_t i = 0; i < task->output_count; i++)
        result_partition_fill_add(task->outputs[i], &fill);
    json_object_set_new(json, "channels",
                        json_pack("{s:I,s:I,s:I,s:I}", "batches_max", (json_int_t)fill.batches_max, "batches", (json_int_t)fill.batches,
                                  "bytes_max", (json_int_t)fill.bytes_max, "bytes", (json_int_t)fill.bytes));
}

static void set_output_metrics(json_t *json, struct task *task)
{
    struct channel_fill fill = {0};
    uint64_t rows = 0, bytes = 0, batches = 0;
    double usage = 0;
    for (uint32_t i = 0; i < task->output_count; i++) {
        const struct result_partition_counts *counts = result_partition_counts(task->outputs[i]);
        rows += atomic_load_explicit(&counts->rows, memory_order_relaxed);
        bytes += atomic_load_explicit(&counts->bytes, memory_order_relaxed);
        batches += atomic_load_explicit(&counts->batches, memory_order_relaxed);
        double one = result_partition_usage(task->outputs[i]);
        usage = one > usage ? one : usage;
        result_partition_fill_add(task->outputs[i], &fill);
    }
    set_integer(json, "buffers.outputQueueLength", (int64_t)fill.batches);
    set_integer(json, "buffers.outputQueueSize", (int64_t)fill.bytes);
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
    set_integer(json, "maxSoftBackPressureTimeMs", task_clock_take_longest_ns(&task->clock, TASK_TIME_SOFT_BLOCKED) / NS_PER_MS);
    set_integer(json, "maxHardBackPressureTimeMs", task_clock_take_longest_ns(&task->clock, TASK_TIME_HARD_BLOCKED) / NS_PER_MS);
    int state = atomic_load(&task->clock.state);
    json_object_set_new(json, "isBackPressured", json_boolean(state == TASK_TIME_SOFT_BLOCKED || state == TASK_TIME_HARD_BLOCKED));
}

/* Before the chain is there: who it will consist of. */
static json_t *announced_operators(const struct task *task)
{
    const struct job_graph *graph = task->options.graph;
    const struct job_vertex *vertex = &graph->vertices[task->options.vertex];
    json_t *all = json_array();
    for (uint32_t i = 0; i < vertex->operator_count; i++) {
        const struct job_operator *spec = &graph->operators[vertex->operators[i]];
        json_array_append_new(all, json_pack("{s:s,s:s,s:s}", "operator", id_format(spec->id).hex, "name", spec->name, "type", spec->type));
    }
    return all;
}

/* What the task thread published last, with what is known of this moment. */
static void set_operators(json_t *json, struct task *task)
{
    pthread_mutex_lock(&task->metrics_lock);
    json_t *operators = task->operators != NULL ? json_deep_copy(task->operators) : NULL;
    pthread_mutex_unlock(&task->metrics_lock);
    if (operators == NULL)
        operators = announced_operators(task);
    size_t count = json_array_size(operators);
    for (size_t i = 0; i < count; i++)
        op_monitor_put_json(task->monitor, (uint32_t)i, json_array_get(operators, i));
    set_integer(json, "accumulateShuffleTimeMs", op_monitor_shuffle_ms(task->monitor));
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

static void set_mail_metrics(json_t *json, struct task *task)
{
    int64_t now_ns = clock_mono_ns();
    uint64_t run = (uint64_t)load(&task->mails_run);
    double seconds = task->mails_reported_ns != 0 ? (double)(now_ns - task->mails_reported_ns) / 1e9 : 0;
    json_object_set_new(json, "mailboxMailsPerSecond", json_real(seconds > 0 ? (double)(run - task->mails_reported) / seconds : 0));
    task->mails_reported = run;
    task->mails_reported_ns = now_ns;
    set_integer(json, "mailboxQueueSize", atomic_load(&task->mail_count));
    mail_latency_put_json(&task->mail_latency, "mailboxLatencyMs", json);
}

/* From the start of the thread to RUNNING; up to now while that goes on. */
static int64_t initialization_ms(struct task *task)
{
    int64_t started_ns = atomic_load(&task->started_ns), end_ns = atomic_load(&task->initialized_ns);
    if (started_ns == 0)
        return 0;
    return ((end_ns != 0 ? end_ns : clock_mono_ns()) - started_ns) / NS_PER_MS;
}

json_t *task_metrics(struct task *task)
{
    json_t *json = json_object();
    json_object_set_new(json, "execution", json_string(task->execution));
    set_input_metrics(json, task);
    set_output_metrics(json, task);
    set_channels(json, task);
    set_integer(json, "initializationTime", initialization_ms(task));
    set_time_metrics(json, task);
    set_integer(json, "checkpointAlignmentTime", atomic_load(&task->alignment_ns_last));
    set_integer(json, "checkpointStartDelayNanos", atomic_load(&task->start_delay_ns_last));
    time_histogram_put_json(&task->sync_times, "checkpointSyncTimeUs", json);
    time_histogram_put_json(&task->batch_times, "batchTimeUs", json);
    time_histogram_put_json(&task->snapshot_batch_times, "batchTimeDuringSnapshotUs", json);
    set_mail_metrics(json, task);
    set_operators(json, task);
    return json;
}
