/* Training exercise: join each ride's start with its fare. Whichever comes first waits in keyed state for the other.
 *   flink run RidesAndFares.so --rides rides.json --fares fares.json [--output DIR] */
#include "taxi.h"

#define RIDE_AND_FARE(FIELD)                                                                                           \
    FIELD(ride_id, int64_t)                                                                                            \
    FIELD(start_time, mr_timestamp)                                                                                    \
    FIELD(driver_id, int64_t)                                                                                          \
    FIELD(passenger_count, int16_t)                                                                                    \
    FIELD(payment_type, mr_string)                                                                                     \
    FIELD(total_fare, float)
MR_RECORD(ride_and_fare, RIDE_AND_FARE);

struct waiting {
    struct mr_state *ride;
    struct mr_state *fare;
};

static void enrich_open(struct mr_context *ctx)
{
    struct waiting *waiting = mr_allocate(ctx, sizeof *waiting);
    waiting->ride = mr_value_state(ctx, "ride", &taxi_ride_type);
    waiting->fare = mr_value_state(ctx, "fare", &taxi_fare_type);
    ctx->user = waiting;
}

static void emit(struct mr_context *ctx, const struct taxi_ride *ride, const struct taxi_fare *fare)
{
    mr_collect(ctx, &(struct ride_and_fare){.ride_id = ride->ride_id, .start_time = ride->event_time, .driver_id = ride->driver_id,
                                            .passenger_count = ride->passenger_count, .payment_type = fare->payment_type,
                                            .total_fare = fare->total_fare});
}

static void on_ride(struct mr_context *ctx, const struct taxi_ride *ride)
{
    struct waiting *waiting = ctx->user;
    const struct taxi_fare *fare = mr_state_get(ctx, waiting->fare);
    if (fare == NULL) {
        mr_state_set(ctx, waiting->ride, ride);
        return;
    }
    emit(ctx, ride, fare);
    mr_state_clear(ctx, waiting->fare);
}

static void on_fare(struct mr_context *ctx, const struct taxi_fare *fare)
{
    struct waiting *waiting = ctx->user;
    const struct taxi_ride *ride = mr_state_get(ctx, waiting->ride);
    if (ride == NULL) {
        mr_state_set(ctx, waiting->fare, fare);
        return;
    }
    emit(ctx, ride, fare);
    mr_state_clear(ctx, waiting->ride);
}

MR_CO_PROCESS(EnrichmentFunction, taxi_ride, taxi_fare, ride_and_fare, enrich_open, on_ride, on_fare, NULL);

MR_FILTER(IsStart, taxi_ride)
{
    return in->is_start;
}

int main(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    struct mr_env *env = mr_env_create();
    struct mr_stream *rides = mr_key_by(mr_filter(taxi_rides(env, params), &IsStart), "ride_id");
    struct mr_stream *fares = mr_key_by(taxi_fares(env, params), "ride_id");
    struct mr_stream *enriched = mr_connect_process(rides, fares, &EnrichmentFunction);
    taxi_output(mr_uid(mr_name(enriched, "enrichment"), "enrichment"), params);
    return mr_execute(env, "Rides with Fares");
}
