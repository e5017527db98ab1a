/* A job with a slow function: a fast source behind a shuffle feeds a map that sleeps. Rows are 0, 1, 2, … from datagen; the map changes
 * nothing.
 *   --sleep-us N     what a call of the map sleeps (default 1000)    --after N   rows that pass at once before that (default 0)
 *   --rate N         rows a second of the source (default 100000)    --rows N    end after so many (default: never)
 *   --interval MS    of checkpoints (default 500)                    --chain     source and map in one task
 *   --spin           the map computes instead of sleeping             --key       a shuffle by id before the map
 *   --while FILE     the map sleeps as long as this file exists      --output DIR the rows as CSV files, exactly once; default: nowhere */
#include <millrace/millrace.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROW(FIELD) FIELD(id, int64_t) FIELD(after, mr_string) FIELD(sleep, mr_string) FIELD(file, mr_string)
MR_RECORD(row, ROW);

static int64_t number_of(mr_string text)
{
    int64_t number = 0;
    for (uint32_t i = 0; i < text.length; i++)
        number = number * 10 + (text.data[i] - '0');
    return number;
}

/* True without a name. */
static bool file_exists(mr_string name)
{
    char path[512];
    if (name.length == 0 || name.length >= sizeof path)
        return true;
    memcpy(path, name.data, name.length);
    path[name.length] = '\0';
    return access(path, F_OK) == 0;
}

MR_MAP(SlowMap, row, row)
{
    (void)ctx;
    if (in->id >= number_of(in->after) && file_exists(in->file))
        usleep((useconds_t)number_of(in->sleep));
    *out = *in;
}

static volatile int64_t spun;

MR_MAP(SpinMap, row, row)
{
    (void)ctx;
    struct timespec start, now;
    int64_t limit_us = in->id >= number_of(in->after) ? number_of(in->sleep) : 0, spent_us = 0;
    clock_gettime(CLOCK_MONOTONIC, &start);
    while (spent_us < limit_us) {
        spun++;
        clock_gettime(CLOCK_MONOTONIC, &now);
        spent_us = (now.tv_sec - start.tv_sec) * 1000000 + (now.tv_nsec - start.tv_nsec) / 1000;
    }
    *out = *in;
}

int main(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    struct mr_env *env = mr_env_create();
    const char *after[] = {mr_params_get(params, "after", "0"), NULL};
    const char *file[] = {mr_params_get(params, "while", ""), NULL};
    const char *sleep_us[] = {mr_params_get(params, "sleep-us", "1000"), NULL};
    const struct mr_datagen_field fields[] = {
        {.name = "id", .kind = MR_GENERATE_SEQUENCE, .min = 0, .max = -1},
        {.name = "after", .kind = MR_GENERATE_SEQUENCE, .values = after},
        {.name = "sleep", .kind = MR_GENERATE_SEQUENCE, .values = sleep_us},
        {.name = "file", .kind = MR_GENERATE_SEQUENCE, .values = file},
        {.name = NULL},
    };
    mr_enable_checkpointing(env, atoll(mr_params_get(params, "interval", "500")), NULL);
    if (!mr_params_has(params, "chain"))
        mr_env_disable_chaining(env);
    struct mr_stream *rows = mr_from_datagen(env, "Rows", &(struct mr_datagen_source_options){
        .record = &row_type, .rows_per_second = atoll(mr_params_get(params, "rate", "100000")),
        .number_of_rows = atoll(mr_params_get(params, "rows", "0")), .fields = fields});
    const struct mr_function *function = mr_params_has(params, "spin") ? &SpinMap : &SlowMap;
    if (mr_params_has(params, "key"))
        rows = mr_key_by(rows, "id");
    rows = mr_name(mr_map(rows, function), "Slow");
    if (mr_params_has(params, "output"))
        mr_sink_file(rows, "Files", &(struct mr_file_sink_options){.path = mr_params_get(params, "output", NULL), .format = {MR_CSV}});
    else
        mr_sink_blackhole(rows, "Nowhere");
    return mr_execute(env, "Slow Map");
}
