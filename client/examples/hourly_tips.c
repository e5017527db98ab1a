/* Training exercise: for each hour, the driver who got the most tips, and how much. Tips are summed per driver in windows of an
 * hour; a second window over all drivers takes the largest sum. Of equal sums the driver with the lower id counts.
 *   flink run HourlyTips.so --fares fares.json [--output DIR] */
#include "taxi.h"

#define TIPS(FIELD) FIELD(window_end, mr_timestamp) FIELD(driver_id, int64_t) FIELD(tips, double)
MR_RECORD(hourly_tips, TIPS);

#define SUM(FIELD) FIELD(tips, double)
MR_RECORD(tip_sum, SUM);

static void add_tip(const struct taxi_fare *fare, struct tip_sum *sum) { sum->tips += (double)fare->tip; }
static void get_sum(const struct tip_sum *sum, struct tip_sum *result) { *result = *sum; }
MR_AGGREGATE(AddTips, taxi_fare, tip_sum, tip_sum, add_tip, get_sum);

MR_WINDOW_RESULT(WrapWithWindowInfo, tip_sum, hourly_tips)
{
    mr_collect(ctx, &(struct hourly_tips){window->end, mr_key_int64(ctx, 0), result->tips});
}

MR_REDUCE(MostTips, hourly_tips)
{
    if (in->tips > accumulated->tips || (in->tips == accumulated->tips && in->driver_id < accumulated->driver_id))
        *accumulated = *in;
}

int main(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    struct mr_env *env = mr_env_create();
    struct mr_stream *fares = mr_key_by(taxi_fares(env, params), "driver_id");
    struct mr_stream *tips = mr_aggregate(mr_window(fares, mr_tumbling(MR_EVENT_TIME, MR_HOURS(1))), &AddTips, &WrapWithWindowInfo);
    struct mr_stream *most = mr_reduce(mr_window_all(tips, mr_tumbling(MR_EVENT_TIME, MR_HOURS(1))), &MostTips, NULL);
    taxi_output(most, params);
    return mr_execute(env, "Hourly Tips");
}
