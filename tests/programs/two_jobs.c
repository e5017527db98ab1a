/* A program that executes twice, and entry points for other mistakes at graph time. */
#include <millrace/millrace.h>
#include <stddef.h>

#define ROW(FIELD) FIELD(id, int64_t) FIELD(name, mr_string)
MR_RECORD(row, ROW);

#define OTHER(FIELD) FIELD(id, int32_t)
MR_RECORD(other, OTHER);

int wrong_type(int argc, char **argv);
int wrong_kind(int argc, char **argv);
int hidden_function(int argc, char **argv);
int same_uid(int argc, char **argv);
int wrong_offset(int argc, char **argv);
int same_key_field(int argc, char **argv);
int same_aggregate(int argc, char **argv);
int bad_config(int argc, char **argv);
int null_everywhere(int argc, char **argv);

MR_FILTER(KeepAll, row)
{
    return in->id >= 0;
}

MR_MAP(ReadsOther, other, row)
{
    *out = (struct row){.id = in->id, .name = {"", 0}};
}

static bool keep(struct mr_context *ctx, const void *in)
{
    return ctx != NULL && in != NULL;
}

static const struct mr_function HiddenFilter = {.kind = MR_FUNCTION_FILTER, .name = "HiddenFilter", .input = &row_type, .call.filter = keep};

static struct mr_stream *rows(struct mr_env *env)
{
    return mr_from_datagen(env, "rows", &(struct mr_datagen_source_options){.record = &row_type, .number_of_rows = 10});
}

int main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct mr_env *env = mr_env_create();
    mr_print(mr_filter(rows(env), &KeepAll), NULL);
    mr_execute(env, "first");
    mr_execute(env, "second");
    return 0;
}

int wrong_type(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct mr_env *env = mr_env_create();
    mr_print(mr_name(mr_map(rows(env), &ReadsOther), "Never"), NULL);
    return mr_execute(env, "wrong type");
}

int wrong_kind(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct mr_env *env = mr_env_create();
    mr_print(mr_map(rows(env), &KeepAll), NULL);
    return mr_execute(env, "wrong kind");
}

int hidden_function(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct mr_env *env = mr_env_create();
    mr_print(mr_filter(rows(env), &HiddenFilter), NULL);
    return mr_execute(env, "hidden function");
}

int same_uid(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct mr_env *env = mr_env_create();
    struct mr_stream *source = mr_uid(rows(env), "twice");
    mr_print(mr_uid(mr_filter(source, &KeepAll), "twice"), NULL);
    return mr_execute(env, "same uid");
}

int wrong_offset(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct mr_env *env = mr_env_create();
    struct mr_window_assigner assigner = mr_sliding(MR_EVENT_TIME, MR_HOURS(1), MR_MINUTES(10));
    assigner.offset_ms = -MR_MINUTES(10);
    mr_window_all(rows(env), assigner);
    mr_print(rows(env), NULL);
    return mr_execute(env, "wrong offset");
}

int same_key_field(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct mr_env *env = mr_env_create();
    mr_print(mr_filter(mr_key_by(rows(env), "name, id,name"), &KeepAll), NULL);
    return mr_execute(env, "same key field");
}

int same_aggregate(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct mr_env *env = mr_env_create();
    const struct mr_builtin list[] = {{MR_COUNT, NULL, "id"}, {MR_SUM, "id", "id"}, {0}};
    mr_print(mr_aggregate_builtin(mr_window(mr_key_by(rows(env), "name"), mr_tumbling(MR_EVENT_TIME, 1)), list, &row_type), NULL);
    return mr_execute(env, "same aggregate");
}

int bad_config(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct mr_env *env = mr_env_create();
    mr_env_set(env, "execution.checkpointing.interval", "soon");
    mr_print(rows(env), NULL);
    return mr_execute(env, "bad config");
}

/* No function of the API crashes on NULL; all of this is one mistake at most. */
int null_everywhere(int argc, char **argv)
{
    struct mr_params *params = mr_params_parse(argc, argv);
    struct mr_env *env = mr_env_create();
    mr_map(NULL, NULL);
    mr_flat_map(rows(env), NULL);
    mr_filter(mr_key_by(NULL, NULL), &KeepAll);
    mr_process(mr_key_by(rows(env), NULL), NULL);
    mr_union(NULL, rows(env));
    mr_connect_process(rows(env), NULL, NULL);
    mr_side_output(NULL, NULL, NULL);
    mr_side_output(rows(env), NULL, NULL);
    mr_assign_watermarks(rows(env), NULL);
    mr_print(mr_rebalance(mr_rescale(mr_broadcast(mr_global(mr_forward(NULL))))), NULL);
    mr_aggregate(mr_window(NULL, mr_tumbling(MR_EVENT_TIME, 1)), NULL, NULL);
    mr_reduce(mr_allowed_lateness(mr_late_side_output(mr_window_all(rows(env), mr_session(MR_EVENT_TIME, 0)), NULL), -1), NULL, NULL);
    mr_apply(NULL, NULL);
    mr_name(mr_uid(mr_description(NULL, NULL), NULL), NULL);
    mr_set_parallelism(mr_set_max_parallelism(mr_slot_sharing_group(rows(env), NULL), 0), 0);
    mr_disable_chaining(mr_start_new_chain(NULL));
    mr_from_kafka(env, NULL, NULL);
    mr_from_kafka(NULL, "x", &(struct mr_kafka_source_options){.record = &row_type});
    mr_from_datagen(env, NULL, NULL);
    mr_from_file(env, "x", &(struct mr_file_source_options){0});
    mr_from_collection(env, "x", &(struct mr_collection_source_options){.record = &row_type, .count = 3});
    mr_sink_kafka(NULL, NULL, NULL);
    mr_sink_file(rows(env), "x", &(struct mr_file_sink_options){0});
    mr_sink_blackhole(NULL, NULL);
    mr_print_to_stderr(NULL, NULL);
    mr_env_set(NULL, NULL, NULL);
    mr_env_get(NULL, NULL);
    mr_env_set_parallelism(NULL, 0);
    mr_enable_checkpointing(NULL, 0, NULL);
    mr_restart_none(NULL);
    mr_params_get(NULL, NULL, NULL);
    mr_params_get_required(params, NULL);
    return mr_execute(NULL, NULL) + mr_execute(env, NULL) > 0;
}
