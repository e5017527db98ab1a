/* Training exercise: keep the rides that begin and end in New York City.
 *   flink run RideCleansing.so --rides rides.json [--output DIR] */
#include "taxi.h"

static bool is_in_nyc(float lon, float lat)
{
    return lon >= -74.05f && lon <= -73.7f && lat >= 40.5f && lat <= 41.0f;
}

MR_FILTER(NycFilter, taxi_ride)
{
    return is_in_nyc(in->start_lon, in->start_lat) && is_in_nyc(in->end_lon, in->end_lat);
}

int main(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    struct mr_env *env = mr_env_create();
    taxi_output(mr_filter(taxi_rides(env, params), &NycFilter), params);
    return mr_execute(env, "Ride Cleansing");
}
