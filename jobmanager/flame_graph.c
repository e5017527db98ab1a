/* Sampling of vertices and the tree of their stacks (flame_graph.h). Thread: the jobmanager's loop. */
#include "jobmanager/flame_graph.h"

#include "common/base/heap.h"
#include "jobmanager/jobmanager.h"
#include "jobmanager/taskmanager_link.h"

#include <stdlib.h>
#include <string.h>

/* A taskmanager has so long to answer (taskmanager_link_get_file), and the answer needs its time too. */
#define SAMPLING_MS_MAX 7000

struct flame_graph {
    struct jobmanager *jobmanager;
    json_t *tasks;      /* execution -> {"frame;frame": [on CPU, waiting]}; NULL: no result yet */
    int64_t end_ms;     /* of the result */
    int64_t asked_ms;   /* when somebody last looked */
    json_t *collecting; /* the sampling that goes on; NULL: none */
    uint32_t open_count; /* taskmanagers that it waits for */
};

/* ---- sampling ---- */

/* Takes err. A taskmanager that did not answer leaves its tasks out. */
static void on_stacks(struct error *err, const json_t *header, const uint8_t *bytes, size_t length, void *argument)
{
    struct flame_graph *graph = argument;
    (void)header;
    if (err == NULL) {
        json_t *answer = json_loadb((const char *)bytes, length, 0, NULL);
        json_object_update(graph->collecting, json_object_get(answer, "tasks"));
        json_decref(answer);
    }
    error_free(err);
    if (--graph->open_count > 0)
        return;
    json_decref(graph->tasks);
    graph->tasks = graph->collecting;
    graph->collecting = NULL;
    graph->end_ms = jobmanager_now_ms(graph->jobmanager);
}

static char *request_text(struct jobmanager *jobmanager, const struct job *job, json_t *executions)
{
    const struct config *config = jobmanager->config;
    int64_t interval_ms = config_ms(config, OPTION_REST_FLAMEGRAPH_DELAY);
    int64_t samples = config_int(config, OPTION_REST_FLAMEGRAPH_SAMPLES);
    int64_t samples_max = SAMPLING_MS_MAX / interval_ms;
    json_t *request = json_pack("{s:s,s:I,s:O,s:I,s:I}", "job", id_format(job->id).hex, "epoch", (json_int_t)job->epoch, "executions",
                                executions, "samples", (json_int_t)(samples < samples_max ? samples : samples_max), "interval_ms",
                                (json_int_t)interval_ms);
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    return text;
}

static bool runs_on(const struct execution *execution, const char *taskmanager)
{
    return execution->state == EXECUTION_RUNNING && execution->taskmanager_id != NULL && strcmp(execution->taskmanager_id, taskmanager) == 0;
}

static void ask_taskmanager(struct flame_graph *graph, const struct job_task_vertex *vertex, const struct taskmanager *taskmanager)
{
    json_t *executions = json_array();
    for (uint32_t i = 0; i < vertex->parallelism; i++) {
        const struct execution *execution = vertex->subtasks[i].current;
        if (runs_on(execution, taskmanager->id))
            json_array_append_new(executions, json_string(execution->id));
    }
    if (json_array_size(executions) > 0) {
        char *text = request_text(graph->jobmanager, vertex->job, executions);
        graph->open_count++;
        taskmanager_link_get_file(graph->jobmanager, taskmanager, "stacks", text, on_stacks, graph);
        free(text);
    }
    json_decref(executions);
}

static void start_sampling(struct flame_graph *graph, const struct job_task_vertex *vertex)
{
    const struct hash_map *taskmanagers = &graph->jobmanager->coordinator->taskmanagers;
    graph->collecting = json_object();
    graph->open_count = 1; /* ours, so that answers at once do not end it */
    for (size_t i = 0; i < taskmanagers->count; i++)
        ask_taskmanager(graph, vertex, taskmanagers->entries[i].value);
    if (--graph->open_count == 0) { /* nothing runs: no result, and the next look tries again */
        json_decref(graph->collecting);
        graph->collecting = NULL;
    }
}

/* ---- the table of results ---- */

static void graph_destroy(struct flame_graph *graph)
{
    json_decref(graph->tasks);
    json_decref(graph->collecting);
    free(graph);
}

static void forget_unseen(struct jobmanager *jobmanager, int64_t now_ms)
{
    struct hash_map *map = &jobmanager->flame_graphs.by_vertex;
    int64_t kept_ms = config_ms(jobmanager->config, OPTION_REST_FLAMEGRAPH_CLEANUP);
    for (size_t i = map->count; i-- > 0;) {
        struct flame_graph *graph = map->entries[i].value;
        if (graph->open_count > 0 || now_ms - graph->asked_ms < kept_ms)
            continue;
        hash_map_remove(map, map->entries[i].key, map->entries[i].key_length);
        graph_destroy(graph);
    }
}

static struct flame_graph *graph_of(struct jobmanager *jobmanager, const struct job_task_vertex *vertex)
{
    struct {
        struct id job, vertex;
    } key = {vertex->job->id, vertex->job->graph->vertices[vertex->index].id};
    struct hash_map *map = &jobmanager->flame_graphs.by_vertex;
    struct flame_graph *graph = hash_map_get(map, &key, sizeof key);
    if (graph == NULL) {
        graph = heap_new(struct flame_graph);
        graph->jobmanager = jobmanager;
        hash_map_put(map, &key, sizeof key, graph);
    }
    return graph;
}

void flame_graphs_finish(struct flame_graphs *graphs)
{
    for (size_t i = 0; i < graphs->by_vertex.count; i++)
        graph_destroy(graphs->by_vertex.entries[i].value);
    hash_map_finish(&graphs->by_vertex);
}

/* ---- the tree ---- */

static json_t *node_create(const char *name, size_t name_length)
{
    return json_pack("{s:s%,s:i,s:[]}", "name", name, name_length, "value", 0, "children");
}

static void node_add(json_t *node, int64_t value)
{
    json_t *number = json_object_get(node, "value");
    json_integer_set(number, json_integer_value(number) + value);
}

static json_t *child_of(json_t *node, const char *name, size_t name_length)
{
    json_t *children = json_object_get(node, "children");
    size_t index;
    json_t *child;
    json_array_foreach(children, index, child) {
        const json_t *own = json_object_get(child, "name");
        if (json_string_length(own) == name_length && memcmp(json_string_value(own), name, name_length) == 0)
            return child;
    }
    child = node_create(name, name_length);
    json_array_append_new(children, child);
    return child;
}

static void add_stack(json_t *root, const char *stack, int64_t value)
{
    json_t *node = root;
    node_add(node, value);
    while (*stack != '\0' && node != NULL) {
        size_t length = strcspn(stack, ";");
        node = child_of(node, stack, length);
        if (node != NULL)
            node_add(node, value);
        stack += length + (stack[length] == ';');
    }
}

json_t *flame_graph_add(json_t *root, json_t *stacks, enum flame_graph_type type)
{
    if (root == NULL)
        root = node_create("root", 4);
    const char *stack;
    json_t *counts;
    json_object_foreach(stacks, stack, counts) {
        int64_t on_cpu = json_integer_value(json_array_get(counts, 0));
        int64_t waiting = json_integer_value(json_array_get(counts, 1));
        int64_t value = (type != FLAME_GRAPH_OFF_CPU ? on_cpu : 0) + (type != FLAME_GRAPH_ON_CPU ? waiting : 0);
        if (value > 0)
            add_stack(root, stack, value);
    }
    return root;
}

static json_t *view_of(int64_t end, json_t *data)
{
    json_t *json = json_object();
    json_object_set_new(json, "endTimestamp", json_integer(end));
    json_object_set_new(json, "data", data != NULL ? data : json_null());
    return json;
}

static bool is_terminated(const struct job_task_vertex *vertex, int64_t subtask)
{
    for (uint32_t i = 0; i < vertex->parallelism; i++) {
        if ((subtask < 0 || subtask == i) && !execution_state_is_terminal(vertex->subtasks[i].current->state))
            return false;
    }
    return true;
}

json_t *flame_graph_view(struct jobmanager *jobmanager, const struct job_task_vertex *vertex, int64_t subtask, enum flame_graph_type type)
{
    if (!config_bool(jobmanager->config, OPTION_REST_FLAMEGRAPH))
        return view_of(FLAME_GRAPH_DISABLED, NULL);
    if (is_terminated(vertex, subtask))
        return view_of(FLAME_GRAPH_TERMINATED, NULL);
    int64_t now_ms = jobmanager_now_ms(jobmanager);
    forget_unseen(jobmanager, now_ms);
    struct flame_graph *graph = graph_of(jobmanager, vertex);
    graph->asked_ms = now_ms;
    bool is_old = graph->tasks == NULL || now_ms - graph->end_ms >= config_ms(jobmanager->config, OPTION_REST_FLAMEGRAPH_REFRESH);
    if (is_old && graph->open_count == 0)
        start_sampling(graph, vertex);
    if (graph->tasks == NULL)
        return view_of(FLAME_GRAPH_WAITING, NULL);
    json_t *root = flame_graph_add(NULL, NULL, type);
    for (uint32_t i = 0; i < vertex->parallelism; i++) {
        if (subtask < 0 || subtask == i)
            root = flame_graph_add(root, json_object_get(graph->tasks, vertex->subtasks[i].current->id), type);
    }
    return view_of(graph->end_ms, root);
}
