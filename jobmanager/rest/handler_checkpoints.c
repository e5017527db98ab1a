/* Statistics of checkpoints: /jobs/:jobid/checkpoints… Triggering is in handler_savepoints.c. Thread: the loop. */
#include "common/base/heap.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"
#include "jobmanager/rest/views.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Until the last acknowledgement, as in the summary: what comes then, writing the metadata, is nobody's waiting. */
static int64_t duration_ms(const struct checkpoint *checkpoint, int64_t now_ms)
{
    if (checkpoint->complete_ms >= 0)
        return checkpoint->latest_ack_ms > 0 ? checkpoint->latest_ack_ms - checkpoint->trigger_ms : 0;
    int64_t end = checkpoint->failure_ms >= 0 ? checkpoint->failure_ms : now_ms;
    return end - checkpoint->trigger_ms;
}

static const char *class_name(const struct checkpoint *checkpoint)
{
    if (checkpoint->state == CHECKPOINT_FAILED)
        return "failed";
    return strcmp(checkpoint_state_rest_name(checkpoint->state), "COMPLETED") == 0 ? "completed" : "in_progress";
}

static const char *type_name(const struct checkpoint *checkpoint)
{
    if (checkpoint->kind == CHECKPOINT_KIND_CHECKPOINT)
        return checkpoint->is_unaligned ? "UNALIGNED_CHECKPOINT" : "CHECKPOINT";
    return checkpoint->kind == CHECKPOINT_KIND_SAVEPOINT ? "SAVEPOINT" : "SYNC_SAVEPOINT";
}

/* ---- tasks of a checkpoint ---- */

struct task_sum {
    uint32_t subtask_count, acknowledged_count;
    int64_t latest_ack_ms, bytes, processed_bytes, persisted_bytes;
};

static struct task_sum sum_of_vertex(const struct checkpoint *checkpoint, uint32_t vertex, uint32_t parallelism)
{
    struct task_sum sum = {.subtask_count = parallelism, .latest_ack_ms = -1};
    for (uint32_t s = 0; s < parallelism; s++) {
        const struct checkpoint_subtask *subtask = coordinator_checkpoint_subtask(checkpoint, vertex, s);
        if (subtask == NULL || !subtask->is_acknowledged)
            continue;
        sum.acknowledged_count++;
        sum.latest_ack_ms = subtask->ack_ms > sum.latest_ack_ms ? subtask->ack_ms : sum.latest_ack_ms;
        sum.bytes += subtask->bytes;
        sum.processed_bytes += subtask->processed_bytes;
        sum.persisted_bytes += subtask->persisted_bytes;
    }
    return sum;
}

static const char *task_status(const struct checkpoint *checkpoint, const struct task_sum *sum)
{
    return sum->acknowledged_count == sum->subtask_count ? "COMPLETED" : checkpoint_state_rest_name(checkpoint->state);
}

static void put_sum(json_t *json, const struct checkpoint *checkpoint, const struct task_sum *sum, int64_t now_ms)
{
    put_int(json, "id", (int64_t)checkpoint->id);
    put_text(json, "status", task_status(checkpoint, sum));
    put_int(json, "latest_ack_timestamp", sum->latest_ack_ms);
    put_int(json, "checkpointed_size", sum->bytes);
    put_int(json, "state_size", sum->bytes);
    put_int(json, "end_to_end_duration",
            sum->latest_ack_ms >= 0 ? sum->latest_ack_ms - checkpoint->trigger_ms : duration_ms(checkpoint, now_ms));
    put_int(json, "alignment_buffered", 0);
    put_int(json, "processed_data", sum->processed_bytes);
    put_int(json, "persisted_data", sum->persisted_bytes);
    put_int(json, "num_subtasks", sum->subtask_count);
    put_int(json, "num_acknowledged_subtasks", sum->acknowledged_count);
}

static json_t *tasks_of(const struct checkpoint *checkpoint, int64_t now_ms)
{
    const struct job_graph *graph = checkpoint->job->graph;
    json_t *tasks = json_object();
    for (uint32_t v = 0; v < graph->vertex_count; v++) {
        struct task_sum sum = sum_of_vertex(checkpoint, v, graph->vertices[v].parallelism);
        json_t *task = json_object();
        put_sum(task, checkpoint, &sum, now_ms);
        put_json(tasks, id_format(graph->vertices[v].id).hex, task);
    }
    return tasks;
}

/* ---- one checkpoint ---- */

static json_t *checkpoint_view(const struct checkpoint *checkpoint, bool has_tasks, int64_t now_ms)
{
    bool is_savepoint = checkpoint->kind != CHECKPOINT_KIND_CHECKPOINT;
    json_t *json = json_object();
    put_text(json, "className", class_name(checkpoint));
    put_int(json, "id", (int64_t)checkpoint->id);
    put_text(json, "status", checkpoint_state_rest_name(checkpoint->state));
    put_bool(json, "is_savepoint", is_savepoint);
    put_text(json, "savepointFormat", is_savepoint ? "CANONICAL" : NULL);
    put_int(json, "trigger_timestamp", checkpoint->trigger_ms);
    put_int(json, "latest_ack_timestamp", checkpoint->latest_ack_ms);
    put_int(json, "checkpointed_size", checkpoint->bytes);
    put_int(json, "state_size", checkpoint->bytes);
    put_int(json, "end_to_end_duration", duration_ms(checkpoint, now_ms));
    put_int(json, "alignment_buffered", 0);
    put_int(json, "processed_data", checkpoint->processed_bytes);
    put_int(json, "persisted_data", checkpoint->persisted_bytes);
    put_int(json, "num_subtasks", checkpoint->subtask_count);
    put_int(json, "num_acknowledged_subtasks", checkpoint->acknowledged_count);
    put_text(json, "checkpoint_type", type_name(checkpoint));
    put_json(json, "tasks", has_tasks ? tasks_of(checkpoint, now_ms) : json_object());
    if (strcmp(class_name(checkpoint), "completed") == 0) {
        put_json(json, "external_path", json_sprintf("file:%s", checkpoint->directory));
        put_bool(json, "discarded", checkpoint->is_discarded);
    } else if (checkpoint->state == CHECKPOINT_FAILED) {
        put_int(json, "failure_timestamp", checkpoint->failure_ms);
        put_text(json, "failure_message", checkpoint->failure);
    }
    return json;
}

/* Millrace's own: what each operator had counted at the barrier, and which edges do not balance. */
static void put_books(json_t *json, const struct checkpoint *checkpoint)
{
    if (checkpoint->books == NULL)
        return;
    json_object_set(json, "books", checkpoint->books);
    put_bool(json, "booksBalance", checkpoint->books_balance);
    if (checkpoint->books_faults != NULL)
        json_object_set(json, "booksFaults", checkpoint->books_faults);
}

/* The checkpoint that the path names. NULL: answered. */
static const struct checkpoint *view_checkpoint(struct jobmanager *jobmanager, struct rest_request *request)
{
    int64_t id;
    struct id job_id;
    if (!rest_path_id(request, "jobid", &job_id) || !rest_path_number(request, "checkpointid", &id))
        return NULL;
    const struct job *job = view_job(jobmanager, request);
    if (job == NULL)
        return NULL;
    const struct checkpoint *checkpoint = coordinator_checkpoint(job, (uint64_t)id);
    if (checkpoint == NULL)
        rest_reply_error(request, 404, EX_REST ": Could not find checkpointing statistics for checkpoint %lld.\n", (long long)id);
    return checkpoint;
}

void handle_checkpoint_details(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct checkpoint *checkpoint = view_checkpoint(jobmanager, request);
    if (checkpoint == NULL)
        return;
    json_t *json = checkpoint_view(checkpoint, true, jobmanager_now_ms(jobmanager));
    put_books(json, checkpoint);
    rest_reply_json(request, 200, json);
}

/* ---- subtasks of a checkpoint ---- */

/* Flink has no quantiles here: "NaN", but for the buffered bytes. */
static json_t *min_max_avg(const struct checkpoint *checkpoint, uint32_t vertex, uint32_t parallelism,
                           int64_t (*read)(const struct checkpoint *checkpoint, const struct checkpoint_subtask *subtask), bool has_quantiles)
{
    int64_t min = 0, max = 0, sum = 0, count = 0;
    for (uint32_t s = 0; s < parallelism; s++) {
        const struct checkpoint_subtask *subtask = coordinator_checkpoint_subtask(checkpoint, vertex, s);
        if (subtask == NULL || !subtask->is_acknowledged)
            continue;
        int64_t value = read(checkpoint, subtask);
        min = count == 0 || value < min ? value : min;
        max = count == 0 || value > max ? value : max;
        sum += value;
        count++;
    }
    json_t *json = json_object();
    put_int(json, "min", min);
    put_int(json, "max", max);
    put_int(json, "avg", count > 0 ? sum / count : 0);
    static const char *const quantiles[] = {"p50", "p90", "p95", "p99", "p999"};
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++)
        put_json(json, quantiles[i], has_quantiles ? json_real(0) : json_string("NaN"));
    return json;
}

#define READER(name, expression)                                                                                        \
    static int64_t read_##name(const struct checkpoint *checkpoint, const struct checkpoint_subtask *subtask)           \
    {                                                                                                                   \
        (void)checkpoint;                                                                                               \
        (void)subtask;                                                                                                  \
        return expression;                                                                                              \
    }
READER(bytes, subtask->bytes)
READER(duration, subtask->ack_ms - checkpoint->trigger_ms)
READER(sync, subtask->sync_ms)
READER(async, subtask->async_ms)
READER(zero, 0)
READER(processed, subtask->processed_bytes)
READER(persisted, subtask->persisted_bytes)
READER(alignment, subtask->alignment_ms)
READER(start_delay, subtask->start_delay_ms)
#undef READER

static json_t *subtask_summary(const struct checkpoint *checkpoint, uint32_t vertex, uint32_t parallelism)
{
    json_t *duration = json_object();
    put_json(duration, "sync", min_max_avg(checkpoint, vertex, parallelism, read_sync, false));
    put_json(duration, "async", min_max_avg(checkpoint, vertex, parallelism, read_async, false));
    json_t *alignment = json_object();
    put_json(alignment, "buffered", min_max_avg(checkpoint, vertex, parallelism, read_zero, true));
    put_json(alignment, "processed", min_max_avg(checkpoint, vertex, parallelism, read_processed, false));
    put_json(alignment, "persisted", min_max_avg(checkpoint, vertex, parallelism, read_persisted, false));
    put_json(alignment, "duration", min_max_avg(checkpoint, vertex, parallelism, read_alignment, false));
    json_t *json = json_object();
    put_json(json, "checkpointed_size", min_max_avg(checkpoint, vertex, parallelism, read_bytes, false));
    put_json(json, "state_size", min_max_avg(checkpoint, vertex, parallelism, read_bytes, false));
    put_json(json, "end_to_end_duration", min_max_avg(checkpoint, vertex, parallelism, read_duration, false));
    put_json(json, "checkpoint_duration", duration);
    put_json(json, "alignment", alignment);
    put_json(json, "start_delay", min_max_avg(checkpoint, vertex, parallelism, read_start_delay, false));
    return json;
}

static json_t *checkpoint_subtask_view(const struct checkpoint *checkpoint, const struct checkpoint_subtask *subtask, uint32_t index)
{
    json_t *json = json_object();
    if (subtask == NULL || !subtask->is_acknowledged) {
        put_text(json, "className", "pending_or_failed");
        put_int(json, "index", index);
        put_text(json, "status", "pending_or_failed");
        return json;
    }
    json_t *times = json_object();
    put_int(times, "sync", subtask->sync_ms);
    put_int(times, "async", subtask->async_ms);
    json_t *alignment = json_object();
    put_int(alignment, "buffered", 0);
    put_int(alignment, "processed", subtask->processed_bytes);
    put_int(alignment, "persisted", subtask->persisted_bytes);
    put_int(alignment, "duration", subtask->alignment_ms);
    put_text(json, "className", "completed");
    put_int(json, "index", index);
    put_int(json, "ack_timestamp", subtask->ack_ms);
    put_int(json, "end_to_end_duration", subtask->ack_ms - checkpoint->trigger_ms);
    put_int(json, "checkpointed_size", subtask->bytes);
    put_int(json, "state_size", subtask->bytes);
    put_json(json, "checkpoint", times);
    put_json(json, "alignment", alignment);
    put_int(json, "start_delay", subtask->start_delay_ms);
    put_bool(json, "unaligned_checkpoint", subtask->is_unaligned);
    put_bool(json, "aborted", checkpoint->state == CHECKPOINT_FAILED);
    put_text(json, "status", "completed");
    return json;
}

void handle_checkpoint_subtasks(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct checkpoint *checkpoint = view_checkpoint(jobmanager, request);
    if (checkpoint == NULL)
        return;
    const struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    if (vertex == NULL)
        return;
    struct task_sum sum = sum_of_vertex(checkpoint, vertex->index, vertex->parallelism);
    json_t *subtasks = json_array();
    for (uint32_t s = 0; s < vertex->parallelism; s++)
        json_array_append_new(subtasks, checkpoint_subtask_view(checkpoint, coordinator_checkpoint_subtask(checkpoint, vertex->index, s), s));
    json_t *json = json_object();
    put_sum(json, checkpoint, &sum, jobmanager_now_ms(jobmanager));
    put_json(json, "summary", subtask_summary(checkpoint, vertex->index, vertex->parallelism));
    put_json(json, "subtasks", subtasks);
    rest_reply_json(request, 200, json);
}

/* ---- all checkpoints of a job ---- */

static json_t *quantile(const struct stat_summary *summary, double q)
{
    double value = stat_summary_quantile(summary, q);
    return isnan(value) ? json_string("NaN") : json_real(value);
}

static json_t *summary_view(const struct stat_summary *summary)
{
    json_t *json = json_object();
    put_int(json, "min", summary->count > 0 ? summary->min : 0);
    put_int(json, "max", summary->count > 0 ? summary->max : 0);
    put_int(json, "avg", stat_summary_average(summary));
    put_json(json, "p50", quantile(summary, 0.5));
    put_json(json, "p90", quantile(summary, 0.9));
    put_json(json, "p95", quantile(summary, 0.95));
    put_json(json, "p99", quantile(summary, 0.99));
    put_json(json, "p999", quantile(summary, 0.999));
    return json;
}

/* Nothing is ever buffered in an alignment: channels are blocked. */
static json_t *zero_summary(bool has_values)
{
    struct stat_summary zero = {0};
    json_t *json = summary_view(&zero);
    static const char *const quantiles[] = {"p50", "p90", "p95", "p99", "p999"};
    for (size_t i = 0; has_values && i < sizeof quantiles / sizeof quantiles[0]; i++)
        put_json(json, quantiles[i], json_real(0));
    return json;
}

static json_t *counts_view(const struct checkpoint_counts *counts)
{
    json_t *json = json_object();
    put_int(json, "restored", (int64_t)counts->restored);
    put_int(json, "total", (int64_t)counts->total);
    put_int(json, "in_progress", (int64_t)counts->in_progress);
    put_int(json, "completed", (int64_t)counts->completed);
    put_int(json, "failed", (int64_t)counts->failed);
    return json;
}

static json_t *optional_view(const struct checkpoint *checkpoint, int64_t now_ms)
{
    return checkpoint != NULL ? checkpoint_view(checkpoint, false, now_ms) : json_null();
}

static json_t *latest_view(const struct checkpoint_stats *stats, int64_t now_ms)
{
    json_t *json = json_object();
    put_json(json, "completed", optional_view(stats->latest_completed, now_ms));
    put_json(json, "savepoint", optional_view(stats->latest_savepoint, now_ms));
    put_json(json, "failed", optional_view(stats->latest_failed, now_ms));
    if (!stats->restored.is_set) {
        put_json(json, "restored", json_null());
        return json;
    }
    json_t *restored = json_object();
    put_int(restored, "id", (int64_t)stats->restored.id);
    put_int(restored, "restore_timestamp", stats->restored.restore_ms);
    put_bool(restored, "is_savepoint", stats->restored.is_savepoint);
    const char *path = stats->restored.path;
    bool has_scheme = path != NULL && strncmp(path, "file:", 5) == 0;
    put_json(restored, "external_path", path == NULL ? json_null() : json_sprintf(has_scheme ? "%s" : "file:%s", path));
    put_json(json, "restored", restored);
    return json;
}

void handle_checkpoints(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct job *job = view_job(jobmanager, request);
    if (job == NULL)
        return;
    int64_t now_ms = jobmanager_now_ms(jobmanager);
    const struct checkpoint_stats *stats = &job->checkpoints;
    json_t *summary = json_object();
    put_json(summary, "checkpointed_size", summary_view(&stats->bytes));
    put_json(summary, "state_size", summary_view(&stats->bytes));
    put_json(summary, "end_to_end_duration", summary_view(&stats->duration));
    put_json(summary, "alignment_buffered", zero_summary(stats->processed_bytes.count > 0));
    put_json(summary, "processed_data", summary_view(&stats->processed_bytes));
    put_json(summary, "persisted_data", summary_view(&stats->persisted_bytes));
    json_t *history = json_array();
    size_t shown_count = (size_t)config_int(jobmanager->config, OPTION_CHECKPOINT_HISTORY_SIZE);
    for (size_t i = stats->history.count; i > 0 && json_array_size(history) < shown_count; i--)
        json_array_append_new(history, checkpoint_view(stats->history.items[i - 1], false, now_ms));
    json_t *json = json_object();
    put_json(json, "counts", counts_view(&stats->counts));
    put_json(json, "summary", summary);
    put_json(json, "latest", latest_view(stats, now_ms));
    put_json(json, "history", history);
    rest_reply_json(request, 200, json);
}

/* ---- configuration ---- */

static const char *backend_name(const struct job *job)
{
    const char *type = json_string_value(json_object_get(job->config, "state.backend.type"));
    return type == NULL || strcmp(type, "hashmap") == 0 ? "HashMapStateBackend" : type;
}

void handle_checkpoints_config(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct job *job = view_job(jobmanager, request);
    if (job == NULL)
        return;
    const struct job_settings *settings = &job->settings;
    json_t *external = json_object();
    put_bool(external, "enabled", settings->retention != RETENTION_NONE);
    put_bool(external, "delete_on_cancellation", settings->retention != RETENTION_RETAIN_ON_CANCELLATION);
    json_t *json = json_object();
    put_text(json, "mode", settings->is_exactly_once ? "exactly_once" : "at_least_once");
    /* Without periodic checkpoints Flink shows the largest long. */
    put_int(json, "interval", settings->checkpoint_interval_ms > 0 ? settings->checkpoint_interval_ms : INT64_MAX);
    put_int(json, "timeout", settings->checkpoint_timeout_ms);
    put_int(json, "min_pause", settings->checkpoint_min_pause_ms);
    put_int(json, "max_concurrent", settings->checkpoint_max_concurrent);
    put_json(json, "externalization", external);
    put_text(json, "state_backend", backend_name(job));
    put_text(json, "checkpoint_storage", settings->checkpoint_directory != NULL ? "FileSystemCheckpointStorage" : "JobManagerCheckpointStorage");
    put_bool(json, "unaligned_checkpoints", settings->is_unaligned);
    put_int(json, "tolerable_failed_checkpoints", settings->checkpoint_tolerable_failures);
    put_int(json, "aligned_checkpoint_timeout", settings->aligned_timeout_ms);
    put_bool(json, "checkpoints_after_tasks_finish", true);
    put_bool(json, "state_changelog_enabled", false);
    put_int(json, "changelog_periodic_materialization_interval", 600000);
    put_text(json, "changelog_storage", "memory");
    rest_reply_json(request, 200, json);
}
