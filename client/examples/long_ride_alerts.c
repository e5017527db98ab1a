/* Training exercise: an alert for each ride that takes more than two hours, as soon as that is certain, whether start and end come in
 * order, in reverse, or the end never comes. State is cleared in every case:
 *   start, end        the end clears the start and its timer
 *   start, timer      the alert clears the start; the end that comes later finds nothing and is dropped at its own timer
 *   end, start        the start clears the end
 *   end, timer        no start can come any more: the end is dropped
 *   flink run LongRideAlerts.so --rides rides.json [--output DIR] */
#include "taxi.h"

#define ALERT(FIELD) FIELD(ride_id, int64_t)
MR_RECORD(alert, ALERT);

#define LONG_RIDE MR_HOURS(2)

static void alerts_open(struct mr_context *ctx)
{
    ctx->user = mr_value_state(ctx, "ride event", &taxi_ride_type);
}

/* When the first event of a ride is of no more use. */
static mr_timestamp timer_of(const struct taxi_ride *ride)
{
    return ride->is_start ? ride->event_time + LONG_RIDE : ride->event_time;
}

static void on_ride(struct mr_context *ctx, const struct taxi_ride *ride)
{
    struct mr_state *state = ctx->user;
    const struct taxi_ride *first = mr_state_get(ctx, state);
    if (first == NULL) {
        mr_state_set(ctx, state, ride);
        mr_register_event_timer(ctx, timer_of(ride));
        return;
    }
    if (first->is_start == ride->is_start)
        return; /* the same event again */
    mr_timestamp start = ride->is_start ? ride->event_time : first->event_time;
    mr_timestamp end = ride->is_start ? first->event_time : ride->event_time;
    mr_delete_event_timer(ctx, timer_of(first));
    mr_state_clear(ctx, state);
    if (end - start > LONG_RIDE)
        mr_collect(ctx, &(struct alert){ride->ride_id});
}

static void on_timer(struct mr_context *ctx, mr_timestamp time)
{
    (void)time;
    struct mr_state *state = ctx->user;
    const struct taxi_ride *first = mr_state_get(ctx, state);
    if (first != NULL && first->is_start)
        mr_collect(ctx, &(struct alert){first->ride_id});
    mr_state_clear(ctx, state);
}

MR_PROCESS(AlertFunction, taxi_ride, alert, alerts_open, on_ride, on_timer);

int main(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    struct mr_env *env = mr_env_create();
    struct mr_stream *alerts = mr_process(mr_key_by(taxi_rides(env, params), "ride_id"), &AlertFunction);
    taxi_output(mr_uid(alerts, "alerts"), params);
    return mr_execute(env, "Long Taxi Rides");
}
