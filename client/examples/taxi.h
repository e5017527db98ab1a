/* The records of the training exercises: taxi rides and fares in New York. Each ride has two events, its start and its end,
 * which may come in any order. Files are JSON lines with these fields; times are "yyyy-MM-dd HH:mm:ss.SSS". */
#ifndef MILLRACE_EXAMPLES_TAXI_H
#define MILLRACE_EXAMPLES_TAXI_H

#include <millrace/millrace.h>

#define TAXI_RIDE(FIELD)                                                                                               \
    FIELD(ride_id, int64_t)                                                                                            \
    FIELD(is_start, bool)                                                                                              \
    FIELD(event_time, mr_timestamp)                                                                                    \
    FIELD(start_lon, float)                                                                                            \
    FIELD(start_lat, float)                                                                                            \
    FIELD(end_lon, float)                                                                                              \
    FIELD(end_lat, float)                                                                                              \
    FIELD(passenger_count, int16_t)                                                                                    \
    FIELD(taxi_id, int64_t)                                                                                            \
    FIELD(driver_id, int64_t)
MR_RECORD(taxi_ride, TAXI_RIDE);

#define TAXI_FARE(FIELD)                                                                                               \
    FIELD(ride_id, int64_t)                                                                                            \
    FIELD(taxi_id, int64_t)                                                                                            \
    FIELD(driver_id, int64_t)                                                                                          \
    FIELD(start_time, mr_timestamp)                                                                                    \
    FIELD(payment_type, mr_string)                                                                                     \
    FIELD(tip, float)                                                                                                  \
    FIELD(tolls, float)                                                                                                \
    FIELD(total_fare, float)
MR_RECORD(taxi_fare, TAXI_FARE);

/* Events are at most a minute out of order. */
static inline struct mr_stream *taxi_rides(struct mr_env *env, const struct mr_params *params)
{
    return mr_from_file(env, "taxi rides", &(struct mr_file_source_options){
        .record = &taxi_ride_type,
        .path = mr_params_get_required(params, "rides"),
        .watermarks = {.column = "event_time", .out_of_orderness_ms = MR_MINUTES(1)},
    });
}

static inline struct mr_stream *taxi_fares(struct mr_env *env, const struct mr_params *params)
{
    return mr_from_file(env, "taxi fares", &(struct mr_file_source_options){
        .record = &taxi_fare_type,
        .path = mr_params_get_required(params, "fares"),
        .watermarks = {.column = "start_time", .out_of_orderness_ms = MR_MINUTES(1)},
    });
}

/* To the directory --output; without it, to the task's standard output. */
static inline void taxi_output(struct mr_stream *stream, const struct mr_params *params)
{
    const char *path = mr_params_get(params, "output", NULL);
    if (path != NULL)
        mr_sink_file(stream, "output", &(struct mr_file_sink_options){.path = path});
    else
        mr_print(stream, NULL);
}

#endif
