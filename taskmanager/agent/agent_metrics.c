/* The taskmanager's own figures, and what its runners report about their tasks: kept from their METRICS messages for the Prometheus
 * endpoint, as long as the task lives. The names of tasks come from DEPLOY. Thread: the loop's. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/metrics/process_metrics.h"
#include "common/metrics/task_report.h"
#include "taskmanager/agent/agent_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A task between its DEPLOY and its end. */
struct reported_task {
    char *execution;
    char *vertex;
    char *name;
    int64_t subtask;
    int64_t attempt;
    bool has_inputs;
    json_t *folded; /* task_report_fold; NULL before its first report */
};

struct runner_metrics {
    char *job_name;
    VEC(struct reported_task) tasks;
};

/* ---- what DEPLOY tells ---- */

static const json_t *find_vertex(const json_t *graph, const char *id)
{
    size_t index;
    const json_t *vertex;
    json_array_foreach (json_object_get(graph, "vertices"), index, vertex) {
        const char *own = message_text(vertex, "id");
        if (own != NULL && strcmp(own, id) == 0)
            return vertex;
    }
    return NULL;
}

static bool vertex_has_inputs(const json_t *graph, const json_t *vertex)
{
    const json_t *head = json_array_get(json_object_get(vertex, "operators"), 0);
    const json_t *operator = json_array_get(json_object_get(graph, "operators"), (size_t)json_integer_value(head));
    return json_array_size(json_object_get(operator, "inputs")) > 0;
}

void agent_metrics_deploy(struct runner *runner, const json_t *deploy)
{
    const json_t *graph = json_object_get(deploy, "graph");
    const char *job_name = message_text(graph, "name");
    if (runner->metrics == NULL) {
        runner->metrics = heap_new(struct runner_metrics);
        runner->metrics->job_name = heap_strdup(job_name != NULL ? job_name : "");
    }
    size_t index;
    const json_t *task;
    json_array_foreach (json_object_get(deploy, "tasks"), index, task) {
        const char *execution = message_text(task, "execution"), *id = message_text(task, "vertex");
        const json_t *vertex = id != NULL ? find_vertex(graph, id) : NULL;
        const char *name = message_text(vertex, "name");
        if (execution == NULL || name == NULL)
            continue; /* the runner refuses it */
        struct reported_task entry = {
            .execution = heap_strdup(execution),
            .vertex = heap_strdup(id),
            .name = heap_strdup(name),
            .subtask = message_int(task, "subtask"),
            .attempt = message_int(task, "attempt"),
            .has_inputs = vertex_has_inputs(graph, vertex),
        };
        vec_push(&runner->metrics->tasks, entry);
    }
}

/* ---- reports ---- */

static struct reported_task *find_task(const struct runner *runner, const char *execution)
{
    for (size_t i = 0; runner->metrics != NULL && execution != NULL && i < runner->metrics->tasks.count; i++)
        if (strcmp(runner->metrics->tasks.items[i].execution, execution) == 0)
            return &runner->metrics->tasks.items[i];
    return NULL;
}

static void task_finish(struct reported_task *task)
{
    free(task->execution);
    free(task->vertex);
    free(task->name);
    json_decref(task->folded);
}

void agent_metrics_report(struct runner *runner, const struct frame *frame)
{
    json_t *message = NULL;
    struct error *err = message_parse(frame->type, frame->body, frame->length, &message);
    size_t index;
    const json_t *report;
    int64_t now_ms = clock_mono_ms();
    error_free(err); /* the jobmanager says what is wrong with it */
    json_array_foreach (json_object_get(message, "tasks"), index, report) {
        struct reported_task *task = find_task(runner, message_text(report, "execution"));
        if (task == NULL)
            continue;
        json_t *folded = task_report_fold(task->folded, report, task->has_inputs, now_ms);
        json_decref(task->folded);
        task->folded = folded;
    }
    json_decref(message);
}

void agent_metrics_task_ended(struct runner *runner, const char *execution)
{
    struct reported_task *task = find_task(runner, execution);
    if (task == NULL)
        return;
    task_finish(task);
    vec_remove(&runner->metrics->tasks, (size_t)(task - runner->metrics->tasks.items));
}

void agent_metrics_runner_ended(struct runner *runner)
{
    if (runner->metrics == NULL)
        return;
    for (size_t i = 0; i < runner->metrics->tasks.count; i++)
        task_finish(&runner->metrics->tasks.items[i]);
    vec_finish(&runner->metrics->tasks);
    free(runner->metrics->job_name);
    free(runner->metrics);
    runner->metrics = NULL;
}

/* ---- the taskmanager's own ---- */

int64_t process_resident_bytes(int64_t pid)
{
    char path[64];
    unsigned long long pages = 0, resident = 0;
    snprintf(path, sizeof path, "/proc/%" PRId64 "/statm", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    int fields = fscanf(file, "%llu %llu", &pages, &resident);
    fclose(file);
    return fields == 2 ? (int64_t)resident * sysconf(_SC_PAGESIZE) : -1;
}

struct channel_sums {
    int64_t batches_max, batches, bytes_max, bytes;
};

static struct channel_sums sum_channels(const struct agent *agent)
{
    struct channel_sums sums = {0};
    for (size_t i = 0; i < agent->runners.count; i++) {
        const struct runner_metrics *metrics = agent->runners.items[i]->metrics;
        for (size_t t = 0; metrics != NULL && t < metrics->tasks.count; t++) {
            const json_t *channels = json_object_get(metrics->tasks.items[t].folded, "channels");
            sums.batches_max += json_integer_value(json_object_get(channels, "batches_max"));
            sums.batches += json_integer_value(json_object_get(channels, "batches"));
            sums.bytes_max += json_integer_value(json_object_get(channels, "bytes_max"));
            sums.bytes += json_integer_value(json_object_get(channels, "bytes"));
        }
    }
    return sums;
}

static void add_channels(json_t *metrics, const struct agent *agent)
{
    struct channel_sums sums = sum_channels(agent);
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {
        {"Status.Shuffle.Netty.TotalMemorySegments", sums.batches_max},
        {"Status.Shuffle.Netty.UsedMemorySegments", sums.batches},
        {"Status.Shuffle.Netty.AvailableMemorySegments", sums.batches_max - sums.batches},
        {"Status.Shuffle.Netty.TotalMemory", sums.bytes_max},
        {"Status.Shuffle.Netty.UsedMemory", sums.bytes},
        {"Status.Shuffle.Netty.AvailableMemory", sums.bytes_max - sums.bytes},
        {"Status.Shuffle.Netty.RequestedMemoryUsage", sums.bytes_max > 0 ? sums.bytes * 100 / sums.bytes_max : 0},
        {"Status.Network.TotalMemorySegments", sums.batches_max},
        {"Status.Network.AvailableMemorySegments", sums.batches_max - sums.batches},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        json_object_set_new(metrics, rows[i].name, json_integer(rows[i].value));
}

json_t *agent_metrics(struct agent *agent)
{
    struct process_figures total = {0}, figures;
    int64_t runner_count = 0, runners_bytes = 0;
    (void)process_figures_read(getpid(), &total);
    total.cpu_ns += process_children_cpu_ns();
    for (size_t i = 0; i < agent->runners.count; i++) {
        const struct runner *runner = agent->runners.items[i];
        if (runner->state != RUNNER_RUNNING || !runner->has_process || !process_figures_read(runner->process.pid, &figures))
            continue;
        process_figures_add(&total, &figures);
        runners_bytes += figures.resident_bytes;
        runner_count++;
    }
    json_t *metrics = process_metrics(&total, &agent->load);
    json_object_set_new(metrics, "Status.TaskRunner.Count", json_integer(runner_count));
    json_object_set_new(metrics, "Status.TaskRunner.Memory.Resident", json_integer(runners_bytes));
    add_channels(metrics, agent);
    system_metrics_add(agent->system, metrics);
    return metrics;
}

/* ---- Prometheus: Flink's scopes "taskmanager", "taskmanager_job_task" and "taskmanager_job_task_operator" ---- */

static void collect_operator(struct prometheus *out, const struct prometheus_labels *task_labels, const json_t *operator)
{
    struct prometheus_labels labels = {0};
    const char *id = message_text(operator, "operator"), *name = message_text(operator, "name");
    prometheus_labels_copy(&labels, task_labels);
    prometheus_labels_add(&labels, "operator_id", id != NULL ? id : "");
    if (name != NULL)
        prometheus_labels_add_bytes(&labels, "operator_name", name, task_report_operator_name_length(name));
    prometheus_add(out, METRIC_SCOPE_OPERATOR, &labels, json_object_get(operator, "values"));
    prometheus_add(out, METRIC_SCOPE_OPERATOR, &labels, json_object_get(operator, "rates"));
    prometheus_labels_finish(&labels);
}

static void collect_task(struct prometheus *out, const struct prometheus_labels *job_labels, const struct reported_task *task)
{
    struct prometheus_labels labels = {0};
    char number[24];
    prometheus_labels_copy(&labels, job_labels);
    prometheus_labels_add(&labels, "task_id", task->vertex);
    prometheus_labels_add(&labels, "task_name", task->name);
    prometheus_labels_add(&labels, "task_attempt_id", task->execution);
    snprintf(number, sizeof number, "%" PRId64, task->attempt);
    prometheus_labels_add(&labels, "task_attempt_num", number);
    snprintf(number, sizeof number, "%" PRId64, task->subtask);
    prometheus_labels_add(&labels, "subtask_index", number);
    prometheus_add(out, METRIC_SCOPE_TASK, &labels, json_object_get(task->folded, "values"));
    prometheus_add(out, METRIC_SCOPE_TASK, &labels, json_object_get(task->folded, "rates"));
    size_t index;
    const json_t *operator;
    json_array_foreach (json_object_get(task->folded, "operators"), index, operator)
        collect_operator(out, &labels, operator);
    prometheus_labels_finish(&labels);
}

static void collect_runner(struct prometheus *out, const struct prometheus_labels *own_labels, const struct runner *runner)
{
    struct prometheus_labels labels = {0};
    prometheus_labels_copy(&labels, own_labels);
    prometheus_labels_add(&labels, "job_id", id_format(runner->job).hex);
    prometheus_labels_add(&labels, "job_name", runner->metrics->job_name);
    for (size_t i = 0; i < runner->metrics->tasks.count; i++)
        if (runner->metrics->tasks.items[i].folded != NULL)
            collect_task(out, &labels, &runner->metrics->tasks.items[i]);
    prometheus_labels_finish(&labels);
}

static void collect(void *context, struct prometheus *out, const struct prometheus_labels *none)
{
    struct agent *agent = context;
    struct prometheus_labels labels = {0};
    if (agent->id[0] == '\0')
        return; /* it has no name yet */
    prometheus_labels_copy(&labels, none);
    prometheus_labels_add(&labels, "host", agent->host);
    prometheus_labels_add(&labels, "tm_id", agent->id);
    json_t *values = agent_metrics(agent);
    prometheus_add(out, METRIC_SCOPE_TASKMANAGER, &labels, values);
    json_decref(values);
    for (size_t i = 0; i < agent->runners.count; i++)
        if (agent->runners.items[i]->state == RUNNER_RUNNING && agent->runners.items[i]->metrics != NULL)
            collect_runner(out, &labels, agent->runners.items[i]);
    prometheus_labels_finish(&labels);
}

struct prometheus_reporter *agent_prometheus_create(struct agent *agent)
{
    const struct prometheus_reporter_options options = {
        .config = agent->config,
        .bind_host = config_text(agent->config, OPTION_TASKMANAGER_BIND_HOST),
        .collect = collect,
        .context = agent,
    };
    return prometheus_reporter_create(agent->loop, &options);
}
