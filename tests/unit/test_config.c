/* Configuration: the table itself, values, files, sources and their order, messages. */
#include "common/base/heap.h"
#include "common/config/config.h"
#include "common/config/option_value.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct config *config;

static void setup(void)
{
    config = config_create_over(NULL);
}

static void teardown(void)
{
    config_destroy(config);
}

static void expect_error(struct error *err, const char *part)
{
    ck_assert_msg(err != NULL, "expected an error with: %s", part);
    ck_assert_msg(strstr(err->message, part) != NULL, "'%s' is not in '%s'", part, err->message);
    ck_assert_int_eq((int)err->code, ERR_INVALID_CONFIG);
    error_free(err);
}

static void parse(const char *text, const char *name)
{
    struct error *err = config_parse(config, text, strlen(text), name);
    ck_assert_msg(err == NULL, "%s", err != NULL ? err->message : "");
}

START_TEST(every_default_is_valid)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        struct option_value value;
        if (row->default_text[0] != '\0') {
            struct error *err = option_value_parse((enum option)i, row->default_text, &value);
            ck_assert_msg(err == NULL, "%s: %s", row->key, err != NULL ? err->message : "");
            free(value.text);
        }
        ck_assert_msg(row->scope != 0 && row->doc[0] != '\0', "%s", row->key);
        for (int k = i + 1; k < OPTION_COUNT; k++)
            ck_assert_msg(strcmp(row->key, option_rows[k].key) != 0 && strcmp(row->key, option_rows[k].old_key) != 0, "%s twice", row->key);
        ck_assert_msg(!option_is_meaningless(row->key) || row->key[0] == '$' || option_find(row->key) == (enum option)i, "%s", row->key);
    }
}
END_TEST

START_TEST(durations_and_sizes)
{
    static const struct {
        const char *text;
        int64_t expected;
    } durations[] = {{"10 s", 10000}, {"500ms", 500}, {"5 min", 300000}, {"1h", 3600000}, {"2 d", 172800000}, {"0", 0}, {"250", 250},
                     {"-1", -1}, {"1500 us", 1}, {" 7 Seconds ", 7000}, {"3600 s", 3600000}, {"1 m", 60000}},
      sizes[] = {{"64mb", 64 << 20}, {"1g", 1 << 30}, {"32k", 32 << 10}, {"10", 10}, {"2 tb", INT64_C(2) << 40}, {"7 bytes", 7}};
    for (size_t i = 0; i < sizeof durations / sizeof *durations; i++) {
        int64_t ms = -99;
        ck_assert_ptr_null(config_parse_duration(durations[i].text, &ms));
        ck_assert_int_eq(ms, durations[i].expected);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t bytes = -99;
        ck_assert_ptr_null(config_parse_bytes(sizes[i].text, &bytes));
        ck_assert_int_eq(bytes, sizes[i].expected);
    }
    int64_t number;
    static const char *const bad[] = {"", "s", "10 parsecs", "1.5 s", "ten", "--1", "99999999999999999999", "9223372036854775807 d"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error *err = config_parse_duration(bad[i], &number);
        ck_assert_msg(err != NULL, "%s", bad[i]);
        error_free(err);
        err = config_parse_bytes(bad[i], &number);
        ck_assert_msg(err != NULL, "%s", bad[i]);
        error_free(err);
    }
    struct error *err = config_parse_bytes("-5", &number);
    ck_assert_ptr_nonnull(err);
    error_free(err);
}
END_TEST

START_TEST(bad_values_are_explained)
{
    expect_error(config_set(config, "heartbeat.interval", "5parsecs", "-D"),
                 "bad value \"5parsecs\" of heartbeat.interval (-D): expected a duration such as 500 ms");
    expect_error(config_set(config, "taskmanager.numberOfTaskSlots", "0", "a.yaml:3"),
                 "bad value \"0\" of taskmanager.numberOfTaskSlots (a.yaml:3): expected at least 1");
    expect_error(config_set(config, "rest.port", "70000", "-D"), "expected at most 65535");
    expect_error(config_set(config, "rest.port", "80a", "-D"), "expected a whole number");
    expect_error(config_set(config, "web.submit.enable", "yes", "-D"), "expected true or false");
    expect_error(config_set(config, "state.backend.type", "heap", "-D"), "expected one of: hashmap");
    expect_error(config_set(config, "restart-strategy.exponential-delay.jitter-factor", "1.5", "-D"), "expected at most 1");
    expect_error(config_set(config, "taskmanager.data.port", "50200-50100", "-D"), "expected a port");
    expect_error(config_set(config, "state.checkpoints.dir", "s3://bucket/x", "-D"), "s3://bucket/x: only file: is supported");
    expect_error(config_set(config, "state.savepoints.dir", "file://tmp/x", "-D"), "The correct path would be 'file:///tmp/x'");
    expect_error(config_set_assignment(config, "nothing"), "expected key=value");
}
END_TEST

START_TEST(values_are_typed)
{
    ck_assert_int_eq(config_ms(config, OPTION_HEARTBEAT_INTERVAL), 10000);
    ck_assert_int_eq(config_ms(config, OPTION_HEARTBEAT_TIMEOUT), 50000);
    ck_assert(!config_is_set(config, OPTION_HEARTBEAT_INTERVAL));
    ck_assert_ptr_null(config_set_assignment(config, "heartbeat.interval=200 ms"));
    ck_assert_ptr_null(config_set_assignment(config, "state.checkpoints.dir=file:///tmp/cp"));
    ck_assert_ptr_null(config_set_assignment(config, "taskmanager.data.port=50100-50200"));
    ck_assert_ptr_null(config_set_assignment(config, "execution.checkpointing.mode=at-least-once"));
    ck_assert_ptr_null(config_set_assignment(config, "restart-strategy=fixed-delay"));
    uint16_t first;
    uint16_t last;
    config_ports(config, OPTION_TASKMANAGER_DATA_PORT, &first, &last);
    ck_assert_uint_eq(first, 50100);
    ck_assert_uint_eq(last, 50200);
    ck_assert_int_eq(config_ms(config, OPTION_HEARTBEAT_INTERVAL), 200);
    ck_assert_str_eq(config_text(config, OPTION_CHECKPOINT_DIR), "/tmp/cp");
    ck_assert_str_eq(config_raw(config, "execution.checkpointing.dir"), "/tmp/cp");
    char *directory = getcwd(NULL, 0);
    size_t length = strlen(directory);
    ck_assert_ptr_null(config_set_assignment(config, "state.savepoints.dir=./sp"));
    ck_assert(strncmp(config_text(config, OPTION_SAVEPOINT_DIR), directory, length) == 0);
    ck_assert_str_eq(config_text(config, OPTION_SAVEPOINT_DIR) + length, "/./sp");
    free(directory);
    ck_assert(config_is(config, OPTION_CHECKPOINT_MODE, "AT_LEAST_ONCE"));
    ck_assert(!config_is(config, OPTION_CHECKPOINT_MODE, "EXACTLY_ONCE"));
    ck_assert(config_is(config, OPTION_RESTART_STRATEGY, "fixed-delay"));
    ck_assert(config_double(config, OPTION_EXPONENTIAL_MULTIPLIER) == 1.5);
    ck_assert_int_eq(config_bytes(config, OPTION_LOG_MAX_BYTES), 32 << 20);
}
END_TEST

START_TEST(yaml_is_flattened)
{
    parse("# a comment\njobmanager:\n  rpc:\n    address: jm1   # here\n    port: 7000\nexecution:\n  checkpointing: {interval: 3 s, mode: "
          "EXACTLY_ONCE}\n"
          "parallelism.default: '4'\nrest:\n  address:\npipeline:\n  jars: [a.jar, b.jar]\nenv.log.dir: \"/var/log/x\"\n",
          "conf/config.yaml");
    ck_assert_str_eq(config_text(config, OPTION_JOBMANAGER_RPC_ADDRESS), "jm1");
    ck_assert_int_eq(config_int(config, OPTION_JOBMANAGER_RPC_PORT), 7000);
    ck_assert_int_eq(config_ms(config, OPTION_CHECKPOINT_INTERVAL), 3000);
    ck_assert_int_eq(config_int(config, OPTION_PARALLELISM_DEFAULT), 4);
    ck_assert(!config_is_set(config, OPTION_REST_ADDRESS));
    ck_assert_str_eq(config_raw(config, "pipeline.jars"), "a.jar;b.jar");
    ck_assert_str_eq(config_text(config, OPTION_LOG_DIR), "/var/log/x");
}
END_TEST

START_TEST(yaml_errors_name_the_line)
{
    const char *text = "jobmanager:\n  rpc:\n    port: many\n";
    expect_error(config_parse(config, text, strlen(text), "config.yaml"), "(config.yaml:3)");
    text = "a: [1, 2\nb: 3\n";
    expect_error(config_parse(config, text, strlen(text), "config.yaml"), "config.yaml:");
    text = "- a\n- b\n";
    expect_error(config_parse(config, text, strlen(text), "config.yaml"), "is not a map");
    text = "a: &x [1, 2]\nb: {c: [*x]}\n";
    expect_error(config_parse(config, text, strlen(text), "config.yaml"), "not a plain value");
}
END_TEST

START_TEST(legacy_lines_are_read)
{
    parse("# comment\njobmanager.rpc.address: jm2\n\ntaskmanager.numberOfTaskSlots: 3 # three\nenv.java.opts.all: -Da=b: -Xmx1g --x={y}\n"
          "state.savepoints.dir: file:///sp\nrest.port: \"9999\"\n",
          "conf/flink-conf.yaml");
    ck_assert_str_eq(config_text(config, OPTION_JOBMANAGER_RPC_ADDRESS), "jm2");
    ck_assert_int_eq(config_int(config, OPTION_TASKMANAGER_SLOTS), 3);
    ck_assert_str_eq(config_raw(config, "env.java.opts.all"), "-Da=b: -Xmx1g --x={y}");
    ck_assert_str_eq(config_text(config, OPTION_SAVEPOINT_DIR), "/sp");
    ck_assert_int_eq(config_int(config, OPTION_REST_PORT), 9999);
    parse("\n   jobmanager.rpc.address: jobmanager\n   parallelism.default: 2\n", "FLINK_PROPERTIES");
    ck_assert_str_eq(config_text(config, OPTION_JOBMANAGER_RPC_ADDRESS), "jobmanager");
    ck_assert_int_eq(config_int(config, OPTION_PARALLELISM_DEFAULT), 2);
    parse("\xef\xbb\xbfparallelism.default: 3\n", "flink-conf.yaml"); /* of an editor that begins files with a byte order mark */
    ck_assert_int_eq(config_int(config, OPTION_PARALLELISM_DEFAULT), 3);
    const char *text = "a: b\nnonsense\n";
    expect_error(config_parse(config, text, strlen(text), "FLINK_PROPERTIES"), "FLINK_PROPERTIES:2: expected `key: value`");
}
END_TEST

START_TEST(quoted_values_are_yaml)
{
    static const char text[] = "web.tmpdir: \"/tmp/a \\\"b\\\" # c\"\nenv.log.dir: '/tmp/it''s # here' # not here\npipeline.name: ~\n"
                               "cluster.id: null\nstate.savepoints.dir: '/plain'\n";
    parse(text, "conf/config.yaml");
    ck_assert_str_eq(config_text(config, OPTION_WEB_TMPDIR), "/tmp/a \"b\" # c");
    ck_assert_str_eq(config_text(config, OPTION_LOG_DIR), "/tmp/it's # here");
    ck_assert_str_eq(config_text(config, OPTION_SAVEPOINT_DIR), "/plain");
    ck_assert(!config_is_set(config, OPTION_PIPELINE_NAME) && !config_is_set(config, OPTION_CLUSTER_ID));
    /* Flink's old reader knows no quotes: whatever stands there starts. */
    parse("env.java.opts: \"-Da=1\" \"-Db=2\"\nparallelism.default: 3\n", "conf/flink-conf.yaml");
    ck_assert_int_eq(config_int(config, OPTION_PARALLELISM_DEFAULT), 3);
}
END_TEST

START_TEST(unknown_keys_get_the_nearest)
{
    ck_assert_ptr_null(config_set_assignment(config, "taskmanager.numberOfTaskSlot=2"));
    ck_assert_ptr_null(config_set_assignment(config, "state.checkpoint.dir=/x"));
    ck_assert_ptr_null(config_set_assignment(config, "taskmanager.memory.process.size=2g"));
    ck_assert_ptr_null(config_set_assignment(config, "jobmanager.rpc.adress=x"));
    ck_assert_ptr_null(config_set_assignment(config, "my.own.key.for.something=x"));
    ck_assert_ptr_null(config_set_assignment(config, "my.own.key.for.something=x"));
    size_t count;
    const char *const *notes = config_notes(config, &count);
    ck_assert_uint_eq(count, 5);
    ck_assert_str_eq(notes[0], "WUnknown configuration key taskmanager.numberOfTaskSlot (-D). Did you mean taskmanager.numberOfTaskSlots?");
    ck_assert_str_eq(notes[1], "WUnknown configuration key state.checkpoint.dir (-D). Did you mean state.checkpoints.dir?");
    ck_assert_str_eq(notes[2], "Itaskmanager.memory.process.size has no meaning in Millrace (-D)");
    ck_assert_str_eq(notes[3], "WUnknown configuration key jobmanager.rpc.adress (-D). Did you mean jobmanager.rpc.address?");
    ck_assert_str_eq(notes[4], "WUnknown configuration key my.own.key.for.something (-D)");
}
END_TEST

START_TEST(layers_and_listing)
{
    ck_assert_ptr_null(config_set_assignment(config, "state.checkpoints.dir=/cluster"));
    ck_assert_ptr_null(config_set_assignment(config, "parallelism.default=2"));
    ck_assert_ptr_null(config_set_assignment(config, "some.password=secret"));
    struct config *job = config_create_over(config);
    json_t *own = json_pack("{s:s,s:i,s:b}", "execution.checkpointing.dir", "/job", "parallelism.default", 7,
                            "pipeline.operator-chaining.enabled", 0);
    ck_assert_ptr_null(config_set_json(job, own, "job"));
    json_decref(own);
    ck_assert_str_eq(config_text(job, OPTION_CHECKPOINT_DIR), "/job");
    ck_assert_str_eq(config_text(config, OPTION_CHECKPOINT_DIR), "/cluster");
    ck_assert_int_eq(config_int(job, OPTION_PARALLELISM_DEFAULT), 7);
    ck_assert(!config_bool(job, OPTION_PIPELINE_CHAINING));
    ck_assert_str_eq(config_raw(job, "some.password"), "secret");
    json_t *all = config_to_json(job);
    ck_assert_ptr_null(json_object_get(all, "state.checkpoints.dir"));
    ck_assert_str_eq(json_string_value(json_object_get(all, "execution.checkpointing.dir")), "/job");
    json_decref(all);
    json_t *list = config_list_json(job);
    char *text = json_dumps(list, JSON_COMPACT);
    ck_assert_ptr_nonnull(strstr(text, "{\"key\":\"some.password\",\"value\":\"******\"}"));
    free(text);
    json_decref(list);
    json_t *bad = json_pack("{s:[]}", "parallelism.default");
    expect_error(config_set_json(job, bad, "job"), "is not a text");
    json_decref(bad);
    config_destroy(job);
}
END_TEST

/* ---- the whole of a daemon's sources ---- */

static char directory[64];

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static struct error *load(struct config **out, struct config_command *command, int argc, const char *const *argv)
{
    char *copies[16] = {0};
    for (int i = 0; i < argc; i++)
        copies[i] = heap_strdup(argv[i]);
    struct error *err = config_load(argc, copies, SCOPE_TASKMANAGER, out, command);
    for (int i = 0; i < argc; i++)
        free(copies[i]);
    return err;
}

#define LOAD(...)                                                                                                      \
    load(&loaded, &command, (int)(sizeof((const char *const[]){"p", __VA_ARGS__}) / sizeof(char *)), (const char *const[]){"p", __VA_ARGS__})

START_TEST(sources_outrank_each_other)
{
    struct config *loaded = NULL;
    struct config_command command;
    snprintf(directory, sizeof directory, "/tmp/millrace-test-config-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    write_file("flink-conf.yaml", "rest.port: 1\njobmanager.rpc.address: file\nparallelism.default: 3\n");
    setenv("FLINK_CONF_DIR", directory, 1);
    setenv("FLINK_PROPERTIES", "rest.port: 2\njobmanager.rpc.address: environment\n", 1);
    ck_assert_ptr_null(LOAD("-D", "rest.port=3", "-Dtaskmanager.numberOfTaskSlots=9", "--host", "me"));
    ck_assert_int_eq(config_int(loaded, OPTION_REST_PORT), 3);
    ck_assert_str_eq(config_text(loaded, OPTION_JOBMANAGER_RPC_ADDRESS), "environment");
    ck_assert_int_eq(config_int(loaded, OPTION_PARALLELISM_DEFAULT), 3);
    ck_assert_int_eq(config_int(loaded, OPTION_TASKMANAGER_SLOTS), 9);
    ck_assert_str_eq(config_text(loaded, OPTION_TASKMANAGER_HOST), "me");
    ck_assert(!command.is_help && !command.is_version);
    config_destroy(loaded);
    write_file("config.yaml", "rest:\n  port: 77\n"); /* outranks the older name */
    unsetenv("FLINK_PROPERTIES");
    ck_assert_ptr_null(LOAD("--configDir", directory));
    ck_assert_int_eq(config_int(loaded, OPTION_REST_PORT), 77);
    ck_assert(!config_is_set(loaded, OPTION_PARALLELISM_DEFAULT));
    config_destroy(loaded);
    char argument[100];
    snprintf(argument, sizeof argument, "--config=%s/flink-conf.yaml", directory);
    ck_assert_ptr_null(LOAD(argument));
    ck_assert_int_eq(config_int(loaded, OPTION_REST_PORT), 1);
    config_destroy(loaded);
    unsetenv("FLINK_CONF_DIR");
    ck_assert_ptr_null(LOAD("--help"));
    ck_assert(command.is_help);
    config_destroy(loaded);
    loaded = NULL;
    struct error *err = LOAD("--nonsense");
    ck_assert_ptr_nonnull(strstr(err->message, "unknown argument --nonsense"));
    error_free(err);
    err = LOAD("-D");
    ck_assert_ptr_nonnull(strstr(err->message, "-D needs a value"));
    error_free(err);
    err = LOAD("--config", "/nonexistent.yaml");
    ck_assert_ptr_nonnull(strstr(err->message, "/nonexistent.yaml"));
    error_free(err);
    snprintf(argument, sizeof argument, "%s/config.yaml", directory);
    unlink(argument);
    snprintf(argument, sizeof argument, "%s/flink-conf.yaml", directory);
    unlink(argument);
    rmdir(directory);
}
END_TEST

START_TEST(help_lists_what_a_program_reads)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    config_print_help(out, SCOPE_TASKMANAGER);
    fclose(out);
    ck_assert_ptr_nonnull(strstr(text, "taskmanager.numberOfTaskSlots (number, default 1)"));
    ck_assert_ptr_null(strstr(text, "web.submit.enable"));
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *cases = tcase_create("config");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, every_default_is_valid);
    tcase_add_test(cases, durations_and_sizes);
    tcase_add_test(cases, bad_values_are_explained);
    tcase_add_test(cases, values_are_typed);
    tcase_add_test(cases, yaml_is_flattened);
    tcase_add_test(cases, yaml_errors_name_the_line);
    tcase_add_test(cases, legacy_lines_are_read);
    tcase_add_test(cases, quoted_values_are_yaml);
    tcase_add_test(cases, unknown_keys_get_the_nearest);
    tcase_add_test(cases, layers_and_listing);
    tcase_add_test(cases, sources_outrank_each_other);
    tcase_add_test(cases, help_lists_what_a_program_reads);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
