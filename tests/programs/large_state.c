/* Much keyed state without a system around it: generated rows, keyed, a record of state per key, and nothing comes out.
 *   --keys N                  different keys, uniformly drawn (5000000)
 *   --rows N                  then the source ends; 0: never (0)
 *   --checkpoint-interval MS  0: none (0)
 *   --job counters            a keyed process function over value state: count and sum per key
 *         aggregates          the same in aggregating state
 *         windows             a tumbling event-time window of --window ROWS_MS: each row is a millisecond after the one before */
#include <millrace/millrace.h>
#include <stdlib.h>
#include <string.h>

#define EVENT(FIELD) FIELD(at, mr_timestamp) FIELD(key, int64_t) FIELD(amount, int64_t)
MR_RECORD(event, EVENT);

#define COUNTER(FIELD) FIELD(count, int64_t) FIELD(sum, int64_t)
MR_RECORD(counter, COUNTER);

#define PANE(FIELD) FIELD(window_start, mr_timestamp) FIELD(key, int64_t) FIELD(count, int64_t)
MR_RECORD(pane, PANE);

struct counters {
    struct mr_state *state;
};

static void counters_open(struct mr_context *ctx)
{
    struct counters *counters = calloc(1, sizeof *counters);
    if (counters == NULL)
        abort();
    counters->state = mr_value_state(ctx, "counter", &counter_type);
    ctx->user = counters;
}

static void counters_element(struct mr_context *ctx, const struct event *event)
{
    const struct counters *counters = ctx->user;
    const struct counter *before = mr_state_get(ctx, counters->state);
    struct counter now = {1, event->amount};
    if (before != NULL) {
        now.count += before->count;
        now.sum += before->sum;
    }
    mr_state_set(ctx, counters->state, &now);
}
MR_PROCESS(Counters, event, counter, counters_open, counters_element, NULL);

static void count_event(const struct event *event, struct counter *counter)
{
    counter->count++;
    counter->sum += event->amount;
}
static void counter_result(const struct counter *counter, struct counter *result) { *result = *counter; }
MR_AGGREGATE(Count, event, counter, counter, count_event, counter_result);

static void aggregates_open(struct mr_context *ctx)
{
    struct counters *counters = calloc(1, sizeof *counters);
    if (counters == NULL)
        abort();
    counters->state = mr_aggregating_state(ctx, "counter", &Count);
    ctx->user = counters;
}

static void aggregates_element(struct mr_context *ctx, const struct event *event)
{
    const struct counters *counters = ctx->user;
    mr_state_add(ctx, counters->state, event);
}
MR_PROCESS(Aggregates, event, counter, aggregates_open, aggregates_element, NULL);

int main(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    struct mr_env *env = mr_env_create();
    const char *job = mr_params_get(params, "job", "counters");
    int64_t interval_ms = mr_params_get_int(params, "checkpoint-interval", 0);
    if (interval_ms > 0)
        mr_enable_checkpointing(env, interval_ms, NULL);
    const struct mr_datagen_field fields[] = {
        {.name = "at", .kind = MR_GENERATE_SEQUENCE, .min = 0, .max = -1},
        {.name = "key", .kind = MR_GENERATE_RANDOM, .min = 0, .max = (double)(mr_params_get_int(params, "keys", 5000000) - 1)},
        {.name = "amount", .kind = MR_GENERATE_RANDOM, .min = 1, .max = 100},
        {.name = NULL},
    };
    struct mr_stream *rows = mr_key_by(mr_from_datagen(env, "Events", &(struct mr_datagen_source_options){
        .record = &event_type,
        .number_of_rows = mr_params_get_int(params, "rows", 0),
        .fields = fields,
        .watermarks = {.column = "at", .out_of_orderness_ms = 0},
    }), "key");
    if (strcmp(job, "windows") == 0) {
        static const struct mr_builtin count[] = {{MR_COUNT, NULL, "count"}, {0}};
        rows = mr_aggregate_builtin(mr_window(rows, mr_tumbling(MR_EVENT_TIME, mr_params_get_int(params, "window", 10000000))), count, &pane_type);
    } else {
        rows = mr_process(rows, strcmp(job, "aggregates") == 0 ? &Aggregates : &Counters);
    }
    mr_sink_blackhole(mr_uid(mr_name(rows, "State"), "state"), "Nowhere");
    return mr_execute(env, "Large State");
}
