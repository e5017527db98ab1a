/* A job whose map function goes wrong after a while: --how null|loop|exit|allocate|abort|divide|fail|none. Every other
 * row passes. It is not restarted, or with --restart as the cluster says. The source is datagen, so that no broker is needed. */
#include <millrace/millrace.h>
#include <stdlib.h>
#include <string.h>

#define EVENT(FIELD) FIELD(id, int64_t) FIELD(how, mr_string)
MR_RECORD(event, EVENT);

static volatile int zero;

static void allocate_for_ever(void)
{
    for (;;) {
        size_t bytes = 16u << 20;
        char *memory = malloc(bytes);
        if (memory == NULL)
            abort();
        memset(memory, 1, bytes);
    }
}

MR_MAP(TroubleMaker, event, event)
{
    *out = *in;
    if (in->id < 2000)
        return;
    switch (in->how.data[0]) {
    case 'n':
        if (in->how.data[1] == 'u')
            *(volatile int *)(uintptr_t)zero = 1;
        break;
    case 'l':
        for (;;)
            zero = 0;
    case 'e': exit(3);
    case 'a':
        if (in->how.data[1] == 'b')
            abort();
        allocate_for_ever();
        break;
    case 'd': out->id = in->id / zero; break;
    case 'f': mr_fail(ctx, "this row is not to my taste"); break;
    default: break;
    }
}

int main(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    struct mr_env *env = mr_env_create();
    const char *how[] = {mr_params_get(params, "how", "none"), NULL};
    const struct mr_datagen_field fields[] = {
        {.name = "id", .kind = MR_GENERATE_SEQUENCE, .min = 0, .max = -1},
        {.name = "how", .kind = MR_GENERATE_SEQUENCE, .values = how},
        {.name = NULL},
    };
    mr_enable_checkpointing(env, 500, NULL);
    if (!mr_params_has(params, "restart"))
        mr_restart_none(env);
    struct mr_stream *events = mr_from_datagen(env, "events", &(struct mr_datagen_source_options){
        .record = &event_type, .rows_per_second = 2000, .fields = fields});
    mr_sink_blackhole(mr_name(mr_map(events, &TroubleMaker), "Trouble"), "nowhere");
    return mr_execute(env, "Misbehave");
}
