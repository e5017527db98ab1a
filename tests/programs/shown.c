/* A job to be looked at: datagen, windows of event time, a branch beside them, both in one graph. It needs no broker.
 *   --name TEXT      of the job                         --operator TEXT  name of the window operator
 *   --start MS       event time of the first row (0)    --step MS        of event time between two rows (20)
 *   --rate N         rows a second (500)                --interval MS    of checkpoints (500) */
#include <millrace/millrace.h>
#include <string.h>

#define CLICK(FIELD) FIELD(at, mr_timestamp) FIELD(page, mr_string)
MR_RECORD(click, CLICK);

#define CLICKS(FIELD) FIELD(page, mr_string) FIELD(clicks, int64_t)
MR_RECORD(clicks, CLICKS);

MR_FILTER(Front, click)
{
    (void)ctx;
    return in->page.length == 6 && memcmp(in->page.data, "/front", 6) == 0;
}

int main(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    struct mr_env *env = mr_env_create();
    static const char *const pages[] = {"/front", "/help", "/shop", NULL};
    const struct mr_datagen_field fields[] = {
        {.name = "at", .kind = MR_GENERATE_SEQUENCE, .min = (double)mr_params_get_int(params, "start", 0), .max = -1,
         .step = (double)mr_params_get_int(params, "step", 20)},
        {.name = "page", .kind = MR_GENERATE_SEQUENCE, .values = pages},
        {.name = NULL},
    };
    mr_enable_checkpointing(env, mr_params_get_int(params, "interval", 500), NULL);
    mr_env_disable_chaining(env);
    struct mr_stream *source = mr_from_datagen(env, "Clicks", &(struct mr_datagen_source_options){
        .record = &click_type, .rows_per_second = mr_params_get_int(params, "rate", 500), .fields = fields, .watermarks = {.column = "at"}});
    static const struct mr_builtin count[] = {{MR_COUNT, NULL, "clicks"}, {0}};
    struct mr_stream *counts = mr_aggregate_builtin(mr_window(mr_key_by(source, "page"), mr_tumbling(MR_EVENT_TIME, MR_SECONDS(1))),
                                                    count, &clicks_type);
    mr_sink_blackhole(mr_name(counts, mr_params_get(params, "operator", "Clicks per page and second")), "Counts");
    mr_sink_blackhole(mr_name(mr_filter(mr_rebalance(source), &Front), "Front page only"), "Front page");
    return mr_execute(env, mr_params_get(params, "name", "Shown"));
}
