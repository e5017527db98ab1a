/* DEPLOY: reads the message, connects channels, starts tasks. Thread: loop. */
#include "taskmanager/task/task_runner_private.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/rpc/message.h"
#include "taskmanager/net/partitioner.h"
#include "taskmanager/task/user_library.h"

#include <inttypes.h>
#include <string.h>

#define LOGGER "TaskRunner"

/* ---- channels ---- */

/* True when the subtask runs elsewhere; *peer is then its entry. Without peers everything is here. */
static bool peer_is_remote(const struct task_runner *runner, const struct deployment *deployment, uint32_t vertex, uint32_t subtask,
                           const json_t **peer)
{
    char *key = heap_printf("%s_%u", id_format(deployment->graph->vertices[vertex].id).hex, subtask);
    *peer = json_object_get(json_object_get(deployment->message, "peers"), key);
    free(key);
    return *peer != NULL && strcmp(message_text(*peer, "tm"), runner->taskmanager_id) != 0;
}

/* The channel between two subtasks of this process: whoever comes first makes it. The caller gets a reference. */
static struct channel *local_channel(struct task_runner *runner, struct channel_key key)
{
    struct channel *channel = hash_map_get(&runner->channels, &key, sizeof key);
    if (channel == NULL) {
        int64_t batches = config_int(runner->config, OPTION_NETWORK_QUEUE_BATCHES) + config_int(runner->config, OPTION_NETWORK_CHANNEL_CREDIT);
        channel = channel_create(key, (uint32_t)batches, CHANNEL_BYTES_MAX);
        hash_map_put(&runner->channels, &key, sizeof key, channel);
    }
    return channel_ref(channel);
}

static struct channel *output_channel(struct task_runner *runner, const struct deployment *deployment, struct channel_key key, uint32_t target_vertex)
{
    const json_t *peer;
    if (!peer_is_remote(runner, deployment, target_vertex, key.consumer, &peer))
        return local_channel(runner, key);
    struct channel *channel = channel_create(key, (uint32_t)config_int(runner->config, OPTION_NETWORK_QUEUE_BATCHES), CHANNEL_BYTES_MAX);
    channel->is_remote = true;
    net_server_offer(runner->server, channel_ref(channel));
    return channel;
}

static struct channel *input_channel(struct task_runner *runner, const struct deployment *deployment, struct channel_key key,
                                     const struct vertex_edge *edge)
{
    const struct job_operator *source = &deployment->graph->operators[edge->source_operator];
    const struct job_edge *job_edge = &deployment->graph->operators[edge->target_operator].inputs[edge->edge];
    const json_t *peer;
    if (!peer_is_remote(runner, deployment, source->vertex, key.producer, &peer))
        return local_channel(runner, key);
    struct schema *schema = job_edge->side_output < 0 ? source->schema : source->side_outputs[job_edge->side_output].schema;
    return net_client_open(runner->client, message_text(peer, "tm"), message_text(peer, "host"), (uint16_t)message_int(peer, "data_port"), key,
                           schema);
}

struct connections {
    VEC(struct gate_channel_options) inputs;
    VEC(struct task_output) outputs;
};

static void connect_inputs(struct task_runner *runner, const struct deployment *deployment, uint32_t vertex, uint32_t subtask,
                           struct connections *connections)
{
    const struct job_graph *graph = deployment->graph;
    struct vertex_edge *edges;
    uint32_t edge_count = job_graph_vertex_inputs(graph, vertex, &edges);
    for (uint32_t i = 0; i < edge_count; i++) {
        const struct job_operator *target = &graph->operators[edges[i].target_operator];
        const struct job_vertex *source = &graph->vertices[graph->operators[edges[i].source_operator].vertex];
        uint32_t first, last;
        edge_producers(target->inputs[edges[i].edge].partitioning, source->parallelism, graph->vertices[vertex].parallelism, subtask, &first,
                       &last);
        for (uint32_t producer = first; producer <= last; producer++) {
            struct channel_key key = {edges[i].target_operator, edges[i].edge, producer, subtask};
            vec_push(&connections->inputs,
                     ((struct gate_channel_options){.channel = input_channel(runner, deployment, key, &edges[i]), .edge = i}));
        }
    }
    free(edges);
}

static void connect_outputs(struct task_runner *runner, const struct deployment *deployment, uint32_t vertex, uint32_t subtask,
                            struct connections *connections)
{
    const struct job_graph *graph = deployment->graph;
    struct vertex_edge *edges;
    uint32_t edge_count = job_graph_vertex_outputs(graph, vertex, &edges);
    for (uint32_t i = 0; i < edge_count; i++) {
        const struct job_operator *target = &graph->operators[edges[i].target_operator];
        uint32_t first, last;
        edge_consumers(target->inputs[edges[i].edge].partitioning, graph->vertices[vertex].parallelism,
                       graph->vertices[target->vertex].parallelism, subtask, &first, &last);
        struct task_output output = {.edge = edges[i], .channel_count = last - first + 1};
        output.channels = heap_alloc_array(output.channel_count, sizeof *output.channels);
        for (uint32_t consumer = first; consumer <= last; consumer++) {
            struct channel_key key = {edges[i].target_operator, edges[i].edge, subtask, consumer};
            output.channels[consumer - first] = output_channel(runner, deployment, key, target->vertex);
        }
        vec_push(&connections->outputs, output);
    }
    free(edges);
}

static void connections_finish(struct connections *connections)
{
    for (size_t i = 0; i < connections->outputs.count; i++)
        free(connections->outputs.items[i].channels);
    vec_finish(&connections->inputs);
    vec_finish(&connections->outputs);
}

/* ---- tasks ---- */

static struct error *find_vertex(const struct job_graph *graph, const json_t *spec, uint32_t *vertex, uint32_t *subtask)
{
    struct id id;
    const char *text = json_string_value(json_object_get(spec, "vertex"));
    if (text == NULL || !id_parse(text, &id))
        return error_new(PROTOCOL, "a task of DEPLOY has no vertex id");
    *subtask = (uint32_t)message_int(spec, "subtask");
    for (*vertex = 0; *vertex < graph->vertex_count; (*vertex)++)
        if (id_equals(graph->vertices[*vertex].id, id))
            break;
    if (*vertex == graph->vertex_count || *subtask >= graph->vertices[*vertex].parallelism)
        return error_new(PROTOCOL, "DEPLOY names subtask %u of vertex %s, which is not in the job graph", *subtask, text);
    return NULL;
}

/* Only exactly-once checkpoints have an alignment that could be left out. */
static int64_t unaligned_after_ms(const struct config *config)
{
    if (!config_bool(config, OPTION_CHECKPOINT_UNALIGNED) || !config_is(config, OPTION_CHECKPOINT_MODE, "EXACTLY_ONCE"))
        return -1;
    return config_ms(config, OPTION_CHECKPOINT_ALIGNED_TIMEOUT);
}

/* The largest number is how Flink spells "none", and so the jobmanager reads it. */
static bool is_checkpointed(const struct config *config)
{
    int64_t interval_ms = config_ms(config, OPTION_CHECKPOINT_INTERVAL);
    return interval_ms > 0 && interval_ms < INT64_MAX;
}

static struct error *create_task(struct task_runner *runner, const struct deployment *deployment, const json_t *spec, struct task **out)
{
    uint32_t vertex = 0, subtask = 0;
    TRY(find_vertex(deployment->graph, spec, &vertex, &subtask));
    const json_t *restore = json_object_get(spec, "restore");
    struct connections connections = {0};
    connect_inputs(runner, deployment, vertex, subtask, &connections);
    connect_outputs(runner, deployment, vertex, subtask, &connections);
    bool has_timeout = config_bool(runner->config, OPTION_BUFFER_TIMEOUT_ENABLED);
    struct error *err = task_create(
        &(struct task_options){
            .graph = deployment->graph,
            .vertex = vertex,
            .subtask_index = subtask,
            .attempt_number = (uint64_t)message_int(spec, "attempt"),
            .execution = json_string_value(json_object_get(spec, "execution")),
            .restored_checkpoint_id = (uint64_t)message_int(restore, "checkpoint"),
            .restore_directory = json_string_value(json_object_get(restore, "directory")),
            .restore_handles = json_object_get(restore, "handles"),
            .restore_books = json_object_get(restore, "books"),
            .checkpointing_enabled = is_checkpointed(runner->config),
            .is_exactly_once = config_is(runner->config, OPTION_CHECKPOINT_MODE, "EXACTLY_ONCE"),
            .unaligned_after_ms = unaligned_after_ms(runner->config),
            .buffer_timeout_ms = has_timeout ? config_ms(runner->config, OPTION_BUFFER_TIMEOUT) : -1,
            .library = runner->options.library != NULL ? runner->options.library : runner->library,
            .inputs = connections.inputs.items,
            .input_count = (uint32_t)connections.inputs.count,
            .outputs = connections.outputs.items,
            .output_count = (uint32_t)connections.outputs.count,
            .host = task_runner_host(runner),
        },
        out);
    connections_finish(&connections);
    return err;
}

/* ---- the message ---- */

static struct error *configure(struct task_runner *runner, const json_t *message, const struct job_graph *graph)
{
    if (runner->config != NULL)
        return NULL;
    struct config *config = config_create_over(NULL);
    struct error *err = config_set_json(config, json_object_get(message, "config"), "DEPLOY");
    if (err == NULL && graph->config != NULL)
        err = config_set_json(config, graph->config, "the job");
    if (err == NULL)
        err = rpc_secret_load(config_text(config, OPTION_SECRET_FILE), &runner->secret);
    if (err != NULL) {
        config_destroy(config);
        return err;
    }
    runner->config = config;
    return NULL;
}

static struct error *open_library(struct task_runner *runner, const json_t *message)
{
    const char *path = json_string_value(json_object_get(message, "library_path"));
    if (path == NULL || runner->options.library != NULL || runner->library != NULL)
        return NULL;
    return user_library_open(path, &runner->library);
}

static void start_network(struct task_runner *runner)
{
    if (runner->server == NULL)
        runner->server = net_server_create(runner->options.loop, config_is(runner->config, OPTION_NETWORK_COMPRESSION, "LZ4"));
    if (runner->client == NULL)
        runner->client = net_client_create(&(struct net_client_options){
            .loop = runner->options.loop,
            .job = runner->job,
            .epoch = runner->epoch,
            .taskmanager_id = runner->taskmanager_id,
            .secret = &runner->secret,
            .credit = (uint32_t)config_int(runner->config, OPTION_NETWORK_CHANNEL_CREDIT),
            .connect_timeout_ms = config_ms(runner->config, OPTION_NETWORK_CONNECT_TIMEOUT),
            .request_timeout_ms = config_ms(runner->config, OPTION_NETWORK_REQUEST_BACKOFF_MAX),
        });
}

static struct error *prepare(struct task_runner *runner, const json_t *message, struct deployment *deployment)
{
    TRY(job_graph_from_json(json_object_get(message, "graph"), &deployment->graph));
    TRY(configure(runner, message, deployment->graph));
    TRY(open_library(runner, message));
    start_network(runner);
    return NULL;
}

static void on_metrics_timer(void *argument)
{
    struct task_runner *runner = argument;
    task_runner_send_metrics(runner); /* first, or each queue would hold our own mail */
    for (size_t i = 0; i < runner->tasks.count; i++)
        if (!runner->tasks.items[i].is_ended)
            task_refresh_metrics(runner->tasks.items[i].task);
}

static struct error *start_task(struct task_runner *runner, const struct deployment *deployment, const json_t *spec)
{
    struct task *task;
    TRY(create_task(runner, deployment, spec, &task));
    struct error *err = task_start(task);
    if (err != NULL) {
        task_destroy(task);
        return err;
    }
    vec_push(&runner->tasks, ((struct runner_task){.task = task}));
    return NULL;
}

void task_runner_deploy(struct task_runner *runner, const json_t *message)
{
    runner->job = message_id(message, "job");
    runner->epoch = (uint64_t)message_int(message, "epoch");
    struct deployment deployment = {.message = json_deep_copy(message)};
    struct error *err = prepare(runner, message, &deployment);
    vec_push(&runner->deployments, deployment);
    size_t index;
    json_t *spec;
    json_array_foreach(json_object_get(deployment.message, "tasks"), index, spec) {
        const char *execution = json_string_value(json_object_get(spec, "execution"));
        if (execution == NULL)
            continue;
        struct error *failure = err == NULL ? start_task(runner, &deployment, spec) : NULL;
        if (err != NULL || failure != NULL)
            task_runner_send_state(runner, execution, "FAILED", err != NULL ? err : failure);
        error_free(failure);
    }
    if (err == NULL && runner->metrics_timer == NULL) {
        uint64_t interval_ms = (uint64_t)config_ms(runner->config, OPTION_METRICS_INTERVAL);
        runner->metrics_timer = loop_timer_start(runner->options.loop, interval_ms, interval_ms, on_metrics_timer, runner);
    }
    error_free(err);
}
