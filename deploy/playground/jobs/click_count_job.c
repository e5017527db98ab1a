/* Click Event Count: reads clicks from a Kafka topic, counts them per page in windows of 15 seconds, and writes the counts to
 * another topic.
 *
 * --bootstrap.servers  Kafka                      --event-time     windows by the clicks' own time, not the clock
 * --input-topic        default "input"            --chaining       fuse operators (off, so that each one shows)
 * --output-topic       default "output"           --backpressure   a slow map in even minutes
 * --checkpointing      a checkpoint every second  --exactly-once   write in Kafka transactions */
#include <millrace/millrace.h>
#include <unistd.h>

#define CLICK_EVENT(FIELD) FIELD(timestamp, mr_timestamp) FIELD(page, mr_string)
MR_RECORD(click_event, CLICK_EVENT);

#define STATISTICS(FIELD) FIELD(windowStart, mr_timestamp) FIELD(windowEnd, mr_timestamp) FIELD(page, mr_string) FIELD(count, int64_t)
MR_RECORD(click_event_statistics, STATISTICS);

#define COUNT(FIELD) FIELD(clicks, int64_t)
MR_RECORD(count, COUNT);

static void count_click(const struct click_event *click, struct count *count) { (void)click; count->clicks++; }
static void get_count(const struct count *count, struct count *result) { *result = *count; }
MR_AGGREGATE(Counter, click_event, count, count, count_click, get_count);

MR_WINDOW_RESULT(Stats, count, click_event_statistics)
{
    mr_collect(ctx, &(struct click_event_statistics){window->start, window->end, mr_key_string(ctx, 0), result->clicks});
}

/* Only 10 events a second get through in minutes with an even number. */
MR_MAP(BackpressureMap, click_event, click_event)
{
    if (mr_processing_time(ctx) / MR_MINUTES(1) % 2 == 0)
        usleep(100 * 1000);
    *out = *in;
}

int main(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    const char *brokers = mr_params_get(params, "bootstrap.servers", "localhost:9092");
    const struct mr_format json = {MR_JSON, .timestamp_format = "dd-MM-yyyy HH:mm:ss:SSS"};
    struct mr_env *env = mr_env_create();
    if (mr_params_has(params, "checkpointing"))
        mr_enable_checkpointing(env, MR_SECONDS(1), NULL);
    if (!mr_params_has(params, "chaining"))
        mr_env_disable_chaining(env);

    struct mr_stream *clicks = mr_from_kafka(env, "ClickEvent Source", &(struct mr_kafka_source_options){
        .record = &click_event_type,
        .bootstrap_servers = brokers,
        .topics = mr_params_get(params, "input-topic", "input"),
        .group_id = "click-event-count",
        .format = json,
        .watermarks = {.column = "timestamp", .out_of_orderness_ms = 200, .idle_timeout_ms = MR_SECONDS(5)},
    });

    if (mr_params_has(params, "backpressure")) /* behind a shuffle, so that it reaches the exchange */
        clicks = mr_name(mr_map(mr_key_by(clicks, "page"), &BackpressureMap), "Backpressure");

    enum mr_time time = mr_params_has(params, "event-time") ? MR_EVENT_TIME : MR_PROCESSING_TIME;
    struct mr_windowed *windows = mr_window(mr_key_by(clicks, "page"), mr_tumbling(time, MR_SECONDS(15)));
    struct mr_stream *statistics = mr_name(mr_aggregate(windows, &Counter, &Stats), "ClickEvent Counter");

    mr_sink_kafka(statistics, "ClickEventStatistics Sink", &(struct mr_kafka_sink_options){
        .bootstrap_servers = brokers,
        .topic = mr_params_get(params, "output-topic", "output"),
        .format = json,
        .guarantee = mr_params_has(params, "exactly-once") ? MR_GUARANTEE_EXACTLY_ONCE : MR_GUARANTEE_AT_LEAST_ONCE,
        .transactional_id_prefix = "click-event-count",
    });

    return mr_execute(env, "Click Event Count");
}
