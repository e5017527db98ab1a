/* A job over Kafka whose every choice is an option, for tests of records, savepoints and books:
 *   --bootstrap.servers, --topics or --pattern, --group, --discovery MS
 *   --start earliest|latest|group|timestamp|offsets [--start-timestamp MS] [--start-offset N, of partition 0 of the topic]
 *   --end latest|offsets [--end-offset N]
 *   --on-error fail|skip|dead-letter [--dead-letter TOPIC]
 *   --job copy      rows to --output as they came
 *         sums      a running sum per key, in keyed state
 *         windows   sums per key and second of event time, late rows to --late
 *   --tail          another keyed sum behind the first (an operator more)
 *   --idleness MS   after which a silent partition no longer holds back the watermark (default: never)
 *   --output.servers  the sinks' brokers, when they are others
 *   --checkpointing MS, --exactly-once, --max-parallelism N */
#include <millrace/millrace.h>
#include <stdlib.h>
#include <string.h>

#define EVENT(FIELD) FIELD(at, mr_timestamp) FIELD(key, mr_string) FIELD(n, int64_t)
MR_RECORD(event, EVENT);

#define SUM(FIELD) FIELD(sum, int64_t)
MR_RECORD(sum, SUM);

#define RESULT(FIELD) FIELD(start, mr_timestamp) FIELD(key, mr_string) FIELD(sum, int64_t)
MR_RECORD(result, RESULT);

struct running {
    struct mr_state *sum;
};

static void running_open(struct mr_context *ctx)
{
    struct running *running = calloc(1, sizeof *running);
    if (running == NULL)
        abort();
    running->sum = mr_value_state(ctx, "sum", &sum_type);
    ctx->user = running;
}

static void running_element(struct mr_context *ctx, const struct event *event)
{
    const struct running *running = ctx->user;
    const struct sum *before = mr_state_get(ctx, running->sum);
    struct sum now = {(before != NULL ? before->sum : 0) + event->n};
    mr_state_set(ctx, running->sum, &now);
    mr_collect(ctx, &(struct event){event->at, event->key, now.sum});
}
MR_PROCESS(RunningSum, event, event, running_open, running_element, NULL);

static void add(const struct event *event, struct sum *sum) { sum->sum += event->n; }
static void get(const struct sum *sum, struct sum *result) { *result = *sum; }
MR_AGGREGATE(Sum, event, sum, sum, add, get);

MR_WINDOW_RESULT(Result, sum, result)
{
    mr_collect(ctx, &(struct result){window->start, mr_key_string(ctx, 0), result->sum});
}

static const struct mr_format json = {MR_JSON, .timestamp_format = "epoch-millis"};

static struct mr_stream *source(struct mr_env *env, const struct mr_params *params)
{
    static const char *const starts[] = {"earliest", "latest", "group", "timestamp", "offsets"};
    static const char *const ends[] = {"never", "latest", "group", "timestamp", "offsets"};
    static const char *const errors[] = {"fail", "skip", "dead-letter"};
    struct mr_kafka_source_options options = {
        .record = &event_type,
        .bootstrap_servers = mr_params_get_required(params, "bootstrap.servers"),
        .topics = mr_params_get(params, "topics", NULL),
        .topic_pattern = mr_params_get(params, "pattern", NULL),
        .group_id = mr_params_get(params, "group", NULL),
        .discovery_interval_ms = mr_params_get_int(params, "discovery", 0),
        .dead_letter_topic = mr_params_get(params, "dead-letter", NULL),
        .format = json,
        .watermarks = {.column = "at", .out_of_orderness_ms = 0, .interval_ms = 20,
                       .idle_timeout_ms = mr_params_get_int(params, "idleness", 0)},
    };
    const struct mr_kafka_offset from[] = {{options.topics, 0, mr_params_get_int(params, "start-offset", 0)}, {NULL, 0, 0}};
    const struct mr_kafka_offset until[] = {{options.topics, 0, mr_params_get_int(params, "end-offset", 0)}, {NULL, 0, 0}};
    for (int i = 0; i < 5; i++) {
        if (strcmp(mr_params_get(params, "start", "earliest"), starts[i]) == 0)
            options.start = (enum mr_kafka_start)i;
        if (strcmp(mr_params_get(params, "end", "never"), ends[i]) == 0)
            options.end = (enum mr_kafka_end)i;
    }
    for (int i = 0; i < 3; i++) {
        if (strcmp(mr_params_get(params, "on-error", "fail"), errors[i]) == 0)
            options.on_error = (enum mr_on_error)i;
    }
    options.start_timestamp_ms = mr_params_get_int(params, "start-timestamp", 0);
    if (options.start == MR_START_OFFSETS)
        options.start_offsets = from;
    if (options.end == MR_UNTIL_OFFSETS)
        options.end_offsets = until;
    return mr_uid(mr_from_kafka(env, "Records", &options), "records");
}

static void sink(struct mr_stream *rows, const struct mr_params *params, const char *name, const char *topic)
{
    bool exactly_once = mr_params_has(params, "exactly-once");
    mr_uid(mr_sink_kafka(rows, name, &(struct mr_kafka_sink_options){
        .bootstrap_servers = mr_params_get(params, "output.servers", mr_params_get_required(params, "bootstrap.servers")),
        .topic = topic,
        .format = json,
        .guarantee = exactly_once ? MR_GUARANTEE_EXACTLY_ONCE : MR_GUARANTEE_AT_LEAST_ONCE,
        .transactional_id_prefix = topic,
    }), name);
}

int main(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    struct mr_env *env = mr_env_create();
    const char *job = mr_params_get(params, "job", "copy");
    if (mr_params_has(params, "checkpointing"))
        mr_enable_checkpointing(env, mr_params_get_int(params, "checkpointing", 0), NULL);
    if (mr_params_has(params, "max-parallelism"))
        mr_env_set_max_parallelism(env, (uint32_t)mr_params_get_int(params, "max-parallelism", 0));

    struct mr_stream *rows = source(env, params);
    if (strcmp(job, "sums") == 0)
        rows = mr_uid(mr_name(mr_process(mr_key_by(rows, "key"), &RunningSum), "Sums"), "sums");
    if (mr_params_has(params, "tail"))
        rows = mr_uid(mr_name(mr_process(mr_key_by(rows, "key"), &RunningSum), "Tail"), "tail");
    if (strcmp(job, "windows") == 0) {
        struct mr_windowed *windows = mr_window(mr_key_by(rows, "key"), mr_tumbling(MR_EVENT_TIME, MR_SECONDS(1)));
        if (mr_params_has(params, "late"))
            mr_late_side_output(windows, "late");
        rows = mr_uid(mr_name(mr_aggregate(windows, &Sum, &Result), "Windows"), "windows");
        if (mr_params_has(params, "late"))
            sink(mr_side_output(rows, "late", NULL), params, "Late", mr_params_get_required(params, "late"));
    }
    sink(rows, params, "Out", mr_params_get_required(params, "output"));
    return mr_execute(env, "Records");
}
