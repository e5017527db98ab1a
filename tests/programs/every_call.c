/* A program that uses every call of the DataStream API once, for the test of the graphs that it makes. Not for running. */
#include <millrace/millrace.h>
#include <stddef.h>

#define EVENT(FIELD) FIELD(user, mr_string) FIELD(page, mr_string) FIELD(at, mr_timestamp) FIELD(amount, double) FIELD(count, int32_t)
MR_RECORD(event, EVENT);

#define TOTAL(FIELD) FIELD(total, double)
MR_RECORD(total, TOTAL);

#define LINE(FIELD) FIELD(text, mr_string)
MR_RECORD(line, LINE);

#define SUMMARY(FIELD) FIELD(page, mr_string) FIELD(window_start, mr_timestamp) FIELD(events, int64_t) FIELD(mean, double) FIELD(most, int32_t)
MR_RECORD(summary, SUMMARY);

MR_MAP(Same, event, event)
{
    *out = *in;
}

MR_FLAT_MAP(Twice, event, event)
{
    mr_collect(ctx, in);
    mr_collect_at(ctx, in, in->at);
}

MR_FILTER(Some, event)
{
    return in->count > 0;
}

MR_TIMESTAMP_ASSIGNER(TimeOf, event)
{
    return in->at;
}

static void sort_out(struct mr_context *ctx, const struct event *event)
{
    mr_emit_side(ctx, "odd", &line_type, &(struct line){event->page});
}
MR_PROCESS(Sorter, event, event, NULL, sort_out, NULL);

static void first(struct mr_context *ctx, const struct event *event) { mr_collect(ctx, &(struct line){event->page}); }
static void second(struct mr_context *ctx, const struct line *line) { mr_collect(ctx, line); }
MR_CO_PROCESS(Meet, event, line, line, NULL, first, second, NULL);

static void add(const struct event *event, struct total *total) { total->total += event->amount; }
static void get(const struct total *total, struct total *result) { *result = *total; }
static void merge(const struct total *from, struct total *into) { into->total += from->total; }
MR_AGGREGATE_MERGE(Total, event, total, total, add, get, merge);

MR_REDUCE(Latest, event)
{
    *accumulated = *in;
}

MR_WINDOW(All, event, line)
{
    (void)window;
    for (const struct event *event = mr_next(ctx, elements); event != NULL; event = mr_next(ctx, elements))
        mr_collect(ctx, &(struct line){event->page});
}

static void configure(struct mr_env *env)
{
    mr_env_set(env, "taskmanager.network.queue-batches", "8");
    mr_env_set_parallelism(env, 3);
    mr_env_set_max_parallelism(env, 64);
    mr_env_set_buffer_timeout(env, 5);
    mr_env_set_watermark_interval(env, 40);
    mr_enable_checkpointing(env, 2000, &(struct mr_checkpoint_options){.timeout_ms = 9000, .min_pause_ms = 100, .mode = MR_AT_LEAST_ONCE,
                                                                       .retention = MR_RETAIN_ON_CANCELLATION, .tolerable_failures = 2,
                                                                       .retained_count = 3, .directory = "/tmp/c"});
    mr_restart_none(env);
    mr_restart_exponential_delay(env, 10, 1000, 1.5);
    mr_restart_failure_rate(env, 3, 60000, 100);
    mr_restart_fixed_delay(env, 7, 250);
}

static struct mr_stream *kafka(struct mr_env *env)
{
    return mr_from_kafka(env, "clicks", &(struct mr_kafka_source_options){
        .record = &event_type, .bootstrap_servers = "k:1", .topics = "a, b", .group_id = "g",
        .start = MR_START_OFFSETS, .start_offsets = (struct mr_kafka_offset[]){{"a", 0, 42}, {"b", 1, 7}, {NULL, 0, 0}},
        .end = MR_UNTIL_TIMESTAMP, .end_timestamp_ms = 99, .discovery_interval_ms = 1000,
        .format = {.type = MR_CSV, .field_delimiter = ";", .null_literal = "-", .timestamp_format = "ISO-8601"},
        .watermarks = {.is_record_time = true, .interval_ms = 10}, .on_error = MR_ON_ERROR_DEAD_LETTER, .dead_letter_topic = "dead",
        .properties = (const char *[]){"fetch.min.bytes", "1", NULL}});
}

static struct mr_stream *kafka_of_group(struct mr_env *env)
{
    return mr_from_kafka(env, "group", &(struct mr_kafka_source_options){
        .record = &event_type, .bootstrap_servers = "k:1", .topic_pattern = "a.*", .group_id = "g", .start = MR_START_GROUP_OFFSETS});
}

static void sinks(struct mr_stream *events, struct mr_stream *lines)
{
    struct mr_stream *sink = mr_sink_kafka(events, "out", &(struct mr_kafka_sink_options){
        .bootstrap_servers = "k:1", .topic = "t", .key_fields = "page", .guarantee = MR_GUARANTEE_EXACTLY_ONCE, .transactional_id_prefix = "p",
        .properties = (const char *[]){"linger.ms", "5", NULL}});
    mr_slot_sharing_group(mr_uid(mr_set_parallelism(sink, 2), "out"), "sinks");
    mr_disable_chaining(mr_sink_file(lines, "files", &(struct mr_file_sink_options){.path = "/tmp/out", .format = {.type = MR_TEXT}}));
    mr_print(mr_broadcast(lines), "id");
    mr_print_to_stderr(mr_rescale(lines), NULL);
    mr_sink_blackhole(mr_global(lines), "nothing");
}

int main(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    struct mr_env *env = mr_env_create();
    configure(env);
    struct mr_stream *events = mr_union(kafka(env), mr_from_collection(env, "two", &(struct mr_collection_source_options){
        .record = &event_type, .records = (struct event[]){{{"u", 1}, {"/p", 2}, 5, 1.5, 3}}, .count = 1}));
    events = mr_assign_watermarks(mr_rebalance(events), &(struct mr_watermarks){.timestamp = &TimeOf,
                                                                                .out_of_orderness_ms = mr_params_get_int(params, "late",
                                                                                                                         0), .idle_timeout_ms = 77});
    events = mr_set_max_parallelism(mr_name(mr_map(events, &Same), "Renamed"), 32);
    events = mr_start_new_chain(mr_description(mr_flat_map(mr_filter(events, &Some), &Twice), "Two of each"));
    struct mr_stream *sorted = mr_process(mr_key_by(events, "user, page"), &Sorter);
    struct mr_stream *odd = mr_side_output(sorted, "odd", &line_type);
    struct mr_stream *met = mr_connect_process(mr_key_by(sorted, "page"), mr_key_by(odd, "text"), &Meet);
    struct mr_windowed *sessions = mr_window(mr_key_by(mr_forward(events), "page"), mr_session(MR_EVENT_TIME, MR_SECONDS(5)));
    struct mr_stream *totals = mr_aggregate(mr_late_side_output(mr_allowed_lateness(sessions, 10), "late"), &Total, NULL);
    mr_sink_blackhole(mr_side_output(totals, "late", NULL), "late rows");
    struct mr_window_assigner sliding = mr_sliding(MR_PROCESSING_TIME, MR_MINUTES(1), MR_SECONDS(10));
    sliding.offset_ms = 3;
    struct mr_stream *latest = mr_reduce(mr_window(mr_key_by(events, "user"), sliding), &Latest, NULL);
    struct mr_stream *lines = mr_apply(mr_window_all(events, mr_tumbling(MR_EVENT_TIME, MR_HOURS(1))), &All);
    static const struct mr_builtin builtins[] = {{MR_COUNT, NULL, "events"}, {MR_AVG, "amount", "mean"}, {MR_MAX, "count", "most"}, {0}};
    struct mr_stream *summary = mr_aggregate_builtin(mr_window(mr_key_by(events, "page"), mr_tumbling(MR_EVENT_TIME, MR_DAYS(1))),
                                                     builtins, &summary_type);
    mr_sink_blackhole(summary, "summaries");
    mr_sink_blackhole(met, "met");
    mr_sink_blackhole(kafka_of_group(env), "group rows");
    sinks(latest, lines);
    mr_sink_blackhole(mr_from_file(env, "file", &(struct mr_file_source_options){.record = &line_type, .path = "/tmp/in", .monitor_interval_ms = 50,
                                                                                 .format = {.type = MR_TEXT}, .on_error = MR_ON_ERROR_SKIP}), "end");
    return mr_execute(env, mr_params_get_bool(params, "long-name", false) ? "A long name" : "Every call");
}
