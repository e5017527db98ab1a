/* The taskmanager agent between a jobmanager and task-runners that are both played here: this program is the runner too, when it is
 * started with the runner's arguments; what it does is chosen by the job's option test.behaviour. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/blob/blob_store.h"
#include "common/fs/fs.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc_server.h"
#include "taskmanager/agent/agent.h"
#include "taskmanager/agent/agent_private.h"
#include "taskmanager/agent/runner_contract.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOB "00112233445566778899aabbccddeeff"

/* ================ the runner ================ */

static const char *behaviour = "run";
static json_t *deployed;

static void runner_state(struct rpc_conn *conn, const char *state)
{
    size_t index;
    json_t *task;
    json_array_foreach (json_object_get(deployed, "tasks"), index, task) {
        json_t *json = json_pack("{s:O,s:O,s:O,s:s}", "job", json_object_get(deployed, "job"), "epoch", json_object_get(deployed, "epoch"),
                                 "execution", json_object_get(task, "execution"), "state", state);
        rpc_conn_send_json(conn, MESSAGE_TASK_STATE, json);
        json_decref(json);
    }
}

static void runner_write_crash(const char *text)
{
    ssize_t written = write(RUNNER_CRASH_FD, text, strlen(text));
    (void)written;
}

static void runner_behave(struct rpc_conn *conn)
{
    const char *library = message_text(deployed, "library_path");
    if (strcmp(behaviour, "crash") == 0) {
        runner_write_crash("signal=SIGSEGV\ndetail=address 0x0\nfunction=count_clicks\ntask=Counter (1/2)\nlibjob.so(count_clicks+0x12)[0x1]\n");
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    } else if (strcmp(behaviour, "exit") == 0) {
        runner_write_crash("exit=3\nfunction=count_clicks\n");
        _exit(3);
    } else if (strcmp(behaviour, "quit") == 0) {
        _exit(7);
    } else if (strcmp(behaviour, "memory") == 0) {
        size_t bytes = 100u << 20;
        volatile char *memory = heap_alloc(bytes);
        for (size_t i = 0; i < bytes; i += 4096)
            memory[i] = 1;
        usleep(5000000);
    } else if (strcmp(behaviour, "library") == 0) {
        uint8_t *bytes = NULL;
        size_t length = 0;
        struct error *err = fs_read_file(library, 100, &bytes, &length);
        bool is_good = err == NULL && strcmp((char *)bytes, "the library") == 0;
        runner_state(conn, is_good ? "FINISHED" : "FAILED");
        rpc_conn_finish(conn, NULL);
    } else if (strcmp(behaviour, "finish") == 0) {
        fprintf(stderr, "2023-09-10 14:51:30,123 INFO  Counter [] - a line of the runner\nuser text on stderr\n");
        printf("user text on stdout\n");
        fflush(stdout);
        runner_state(conn, "FINISHED");
        rpc_conn_finish(conn, NULL);
    }
}

static void on_data_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    (void)context;
    rpc_conn_forward(conn, frame);
}

static const struct rpc_conn_handler data_handler = {.on_frame = on_data_frame};

static void on_runner_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    json_t *json = NULL;
    (void)context;
    struct error *err = message_parse(frame->type, frame->body, frame->length, &json);
    check(err == NULL);
    if (frame->type == MESSAGE_DEPLOY) {
        json_decref(deployed);
        deployed = json_incref(json);
        const char *asked = message_text(json_object_get(json, "config"), "test.behaviour");
        behaviour = asked != NULL ? heap_strdup(asked) : "run";
        runner_state(conn, "RUNNING");
        runner_behave(conn);
    } else if (frame->type == MESSAGE_CANCEL && strcmp(behaviour, "stubborn") != 0) {
        runner_state(conn, "CANCELED");
        rpc_conn_finish(conn, NULL);
    } else if (frame->type == MESSAGE_HEARTBEAT) {
        rpc_conn_send(conn, MESSAGE_HEARTBEAT_ACK, frame->body, frame->length);
    } else if (frame->type == MESSAGE_DATA_CONNECTION) {
        rpc_conn_open_tcp(rpc_conn_take_handle(conn), FRAME_BODY_BYTES_DATA, &data_handler, NULL);
    } else if (frame->type == MESSAGE_TRIGGER_CHECKPOINT) {
        json_t *ack = json_pack("{s:O,s:O,s:O,s:s,s:[],s:{}}", "job", json_object_get(json, "job"), "epoch", json_object_get(json, "epoch"),
                                "checkpoint", json_object_get(json, "checkpoint"), "execution", "e-1", "state", "books");
        rpc_conn_send_json(conn, MESSAGE_CHECKPOINT_ACK, ack);
        json_decref(ack);
    }
    json_decref(json);
}

static void on_runner_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    (void)conn;
    (void)context;
    (void)reason;
    _exit(0);
}

static const struct rpc_conn_handler runner_handler = {.on_frame = on_runner_frame, .on_close = on_runner_close};

static int play_runner(void)
{
    uv_loop_t loop;
    struct rpc_conn *conn;
    uv_loop_init(&loop);
    loop_own(&loop);
    struct error *err = rpc_conn_open_pipe(&loop, RUNNER_CONTROL_FD, &runner_handler, NULL, &conn);
    check(err == NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    return 0;
}

/* ================ the jobmanager ================ */

enum { SEEN_MAX = 4096 };

static struct {
    uv_loop_t loop;
    struct rpc_server *server;
    struct config *config;
    struct agent *agent;
    struct rpc_conn *link;
    json_t *registered;
    int register_count;
    int close_count;
    bool is_stopped;
    bool is_silent; /* answers no heartbeats */
    json_t *seen[SEEN_MAX]; /* messages but heartbeats, "type" added */
    int seen_count;
    char *file_bytes;
    json_t *last_metrics;
    char directory[64];
    char out_path[96];
} f;

static void on_jm_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    json_t *json = NULL;
    (void)context;
    if (frame->type == MESSAGE_FILE) {
        const uint8_t *bytes = NULL;
        size_t length = 0;
        ck_assert_ptr_null(message_parse_headed(frame->type, frame->body, frame->length, &json, &bytes, &length));
        free(f.file_bytes);
        f.file_bytes = heap_strndup((const char *)bytes, length);
    } else {
        ck_assert_ptr_null(message_parse(frame->type, frame->body, frame->length, &json));
    }
    if (frame->type == MESSAGE_REGISTER) {
        json_decref(f.registered);
        f.registered = json_incref(json);
        f.register_count++;
        json_t *answer = json_pack("{s:i,s:i}", "heartbeat_interval_ms", 50, "heartbeat_timeout_ms", f.is_silent ? 300 : 3000);
        rpc_conn_send_json(conn, MESSAGE_REGISTERED, answer);
        json_decref(answer);
    } else if (frame->type == MESSAGE_HEARTBEAT) {
        json_decref(f.last_metrics);
        f.last_metrics = json_incref(json_object_get(json, "metrics"));
        if (!f.is_silent)
            rpc_conn_send(conn, MESSAGE_HEARTBEAT_ACK, "{\"seq\":1}", 9);
    } else if (frame->type == MESSAGE_BLOB_GET) {
        size_t length;
        json_t *header = json_pack("{s:O}", "sha256", json_object_get(json, "sha256"));
        char *body = message_encode_headed(MESSAGE_BLOB, header, "the library", 11, &length);
        rpc_conn_send_take(conn, MESSAGE_BLOB, body, length);
        json_decref(header);
    }
    if (frame->type != MESSAGE_HEARTBEAT && frame->type != MESSAGE_REGISTER && f.seen_count < SEEN_MAX) {
        json_object_set_new(json, "type", json_string(message_type_name(frame->type)));
        f.seen[f.seen_count++] = json_incref(json);
    }
    json_decref(json);
}

static void on_jm_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    (void)context;
    (void)reason;
    f.close_count++;
    if (f.link == conn)
        f.link = NULL;
}

static const struct rpc_conn_handler jm_handler = {.on_frame = on_jm_frame, .on_close = on_jm_close};

static void on_connection(struct rpc_server *server, struct rpc_conn *conn, const json_t *hello, void *context)
{
    (void)server;
    (void)context;
    ck_assert_str_eq(message_text(hello, "role"), "taskmanager");
    f.link = conn;
    rpc_conn_set_handler(conn, &jm_handler, NULL);
}

static void on_stopped(void *context)
{
    (void)context;
    f.is_stopped = true;
}

#define RUN_UNTIL_MS(condition, ms)                                                                                    \
    do {                                                                                                               \
        int64_t until_ = clock_mono_ms() + (ms);                                                                       \
        while (!(condition) && clock_mono_ms() < until_) {                                                             \
            uv_run(&f.loop, UV_RUN_NOWAIT);                                                                            \
            usleep(200);                                                                                               \
        }                                                                                                              \
        ck_assert_msg(condition, "%s", #condition);                                                                    \
    } while (0)
#define RUN_UNTIL(condition) RUN_UNTIL_MS(condition, 10000)

static void start_agent(bool is_silent)
{
    memset(&f, 0, sizeof f);
    f.is_silent = is_silent;
    uv_loop_init(&f.loop);
    loop_own(&f.loop);
    signal(SIGPIPE, SIG_IGN);
    log_set_level(getenv("TEST_LOG") != NULL ? LOG_INFO : LOG_OFF);
    struct rpc_server_options options = {.host = "127.0.0.1", .logger = "Test", .on_connection = on_connection};
    ck_assert_ptr_null(rpc_server_create(&f.loop, &options, &f.server));
    snprintf(f.directory, sizeof f.directory, "/tmp/millrace-test-agent-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(f.directory));
    snprintf(f.out_path, sizeof f.out_path, "%s/tm.out", f.directory);
    char port[8];
    char runner[512];
    size_t length = sizeof runner;
    uv_exepath(runner, &length);
    snprintf(port, sizeof port, "%u", rpc_server_port(f.server));
    f.config = config_create_over(NULL);
    ck_assert_ptr_null(config_set(f.config, "jobmanager.rpc.address", "127.0.0.1", "test"));
    ck_assert_ptr_null(config_set(f.config, "jobmanager.rpc.port", port, "test"));
    ck_assert_ptr_null(config_set(f.config, "io.tmp.dirs", f.directory, "test"));
    ck_assert_ptr_null(config_set(f.config, "taskmanager.numberOfTaskSlots", "2", "test"));
    ck_assert_ptr_null(config_set(f.config, "metrics.reporters", "", "test"));
    ck_assert_ptr_null(config_set(f.config, "task.cancellation.timeout", "300 ms", "test"));
    struct agent_options agent_options = {
        .loop = &f.loop, .config = f.config, .runner_path = runner, .out_path = f.out_path, .on_stopped = on_stopped};
    ck_assert_ptr_null(agent_start(&agent_options, &f.agent));
    RUN_UNTIL(f.agent != NULL && agent_is_registered(f.agent));
}

static int entry_count(const char *path)
{
    int count = 0;
    DIR *entries = opendir(path);
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries))
        count += entry->d_name[0] != '.';
    closedir(entries);
    return count;
}

static void forget_seen(void)
{
    for (int i = 0; i < f.seen_count; i++)
        json_decref(f.seen[i]);
    f.seen_count = 0;
}

static void stop_agent(void)
{
    agent_stop(f.agent, "the test ends");
    RUN_UNTIL(f.is_stopped);
    RUN_UNTIL(f.link == NULL);
    unlink(f.out_path);
    ck_assert_int_eq(entry_count(f.directory), 0); /* the working directory is gone */
    rmdir(f.directory);
    rpc_server_close(f.server);
    forget_seen();
    json_decref(f.registered);
    json_decref(f.last_metrics);
    free(f.file_bytes);
    config_destroy(f.config);
    loop_finish(&f.loop);
}

static void deploy(int epoch, const char *wanted, const char *more_key, const char *more_value, const char *library)
{
    json_t *config = json_pack("{s:s}", "test.behaviour", wanted);
    if (more_key != NULL)
        json_object_set_new(config, more_key, json_string(more_value));
    json_t *json = json_pack("{s:s,s:i,s:{},s:o,s:[{s:s},{s:s}],s:{}}", "job", JOB, "epoch", epoch, "graph", "config", config, "tasks",
                             "execution", "e-1", "execution", "e-2", "peers");
    if (library != NULL)
        json_object_set_new(json, "library", json_pack("{s:s,s:s}", "name", "x.so", "sha256", library));
    rpc_conn_send_json(f.link, MESSAGE_DEPLOY, json);
    json_decref(json);
}

static void cancel(int epoch, const char *mode)
{
    json_t *json = json_pack("{s:s,s:i,s:s}", "job", JOB, "epoch", epoch, "mode", mode);
    rpc_conn_send_json(f.link, MESSAGE_CANCEL, json);
    json_decref(json);
}

/* The first message of the type (and state) of an epoch, or NULL. */
static json_t *find_seen(const char *type, const char *state, int epoch)
{
    for (int i = 0; i < f.seen_count; i++)
        if (strcmp(message_text(f.seen[i], "type"), type) == 0 && (epoch < 0 || message_int(f.seen[i], "epoch") == epoch) &&
            (state == NULL || strcmp(message_text(f.seen[i], "state"), state) == 0))
            return f.seen[i];
    return NULL;
}

static int count_seen(const char *type, const char *state, int epoch)
{
    int count = 0;
    for (int i = 0; i < f.seen_count; i++)
        count += strcmp(message_text(f.seen[i], "type"), type) == 0 && message_int(f.seen[i], "epoch") == epoch &&
                 (state == NULL || strcmp(message_text(f.seen[i], "state"), state) == 0);
    return count;
}

START_TEST(registers_with_its_facts)
{
    start_agent(false);
    ck_assert_int_eq(message_int(f.registered, "slots"), 2);
    ck_assert_str_eq(message_text(f.registered, "host"), "localhost");
    ck_assert_int_eq(message_int(f.registered, "data_port"), agent_data_port(f.agent));
    char prefix[40];
    snprintf(prefix, sizeof prefix, "localhost:%u-", agent_data_port(f.agent));
    ck_assert(strncmp(message_text(f.registered, "tm"), prefix, strlen(prefix)) == 0);
    ck_assert_uint_eq(strlen(message_text(f.registered, "tm")), strlen(prefix) + 6);
    RUN_UNTIL(f.last_metrics != NULL);
    ck_assert_int_gt(message_int(f.last_metrics, "Status.Process.Memory.Resident"), 1 << 20);
    ck_assert_int_gt(message_int(f.last_metrics, "Status.Process.Descriptors.Open"), 3);
    stop_agent();
}
END_TEST

START_TEST(runs_and_finishes)
{
    start_agent(false);
    deploy(1, "finish", NULL, NULL, NULL);
    RUN_UNTIL(find_seen("RUNNER_GONE", NULL, 1) != NULL);
    ck_assert_int_eq(count_seen("TASK_STATE", "RUNNING", 1), 2);
    ck_assert_int_eq(count_seen("TASK_STATE", "FINISHED", 1), 2);
    ck_assert_int_eq(count_seen("TASK_STATE", NULL, 1), 4);
    ck_assert_uint_eq(agent_runner_count(f.agent), 0);
    uint8_t *bytes = NULL;
    size_t length = 0;
    ck_assert_ptr_null(fs_read_file(f.out_path, 1000, &bytes, &length));
    ck_assert_ptr_nonnull(strstr((char *)bytes, "user text on stdout"));
    ck_assert_ptr_nonnull(strstr((char *)bytes, "user text on stderr"));
    ck_assert_ptr_null(strstr((char *)bytes, "a line of the runner"));
    free(bytes);
    stop_agent();
}
END_TEST

static void expect_failure(const char *wanted, const char *key, const char *value, const char *part)
{
    start_agent(false);
    deploy(4, wanted, key, value, NULL);
    RUN_UNTIL(find_seen("RUNNER_GONE", NULL, 4) != NULL);
    ck_assert_int_eq(count_seen("TASK_STATE", "FAILED", 4), 2);
    const char *message = message_text(json_object_get(find_seen("TASK_STATE", "FAILED", 4), "error"), "message");
    ck_assert_msg(strstr(message, part) != NULL, "'%s' is not in '%s'", part, message);
    stop_agent();
}

START_TEST(a_crash_names_function_and_signal)
{
    expect_failure("crash", NULL, NULL,
                   "task Counter (1/2): user function count_clicks crashed with SIGSEGV (address 0x0)\n\tat libjob.so(count_clicks+0x12)[0x1]");
}
END_TEST

START_TEST(an_exit_is_named)
{
    expect_failure("exit", NULL, NULL, "user function count_clicks called exit(3)");
    expect_failure("quit", NULL, NULL, "exited with status 7");
}
END_TEST

START_TEST(too_much_memory_is_named)
{
    expect_failure("memory", "taskmanager.task.memory-limit", "40m", "taskmanager.task.memory-limit is 40 MiB");
}
END_TEST

START_TEST(cancels_gracefully_and_not)
{
    start_agent(false);
    deploy(1, "run", NULL, NULL, NULL);
    RUN_UNTIL(count_seen("TASK_STATE", "RUNNING", 1) == 2);
    cancel(1, "graceful");
    RUN_UNTIL(find_seen("RUNNER_GONE", NULL, 1) != NULL);
    ck_assert_int_eq(count_seen("TASK_STATE", "CANCELED", 1), 2);
    deploy(2, "stubborn", NULL, NULL, NULL);
    RUN_UNTIL(count_seen("TASK_STATE", "RUNNING", 2) == 2);
    int64_t asked_ms = clock_mono_ms();
    cancel(2, "graceful");
    RUN_UNTIL(find_seen("RUNNER_GONE", NULL, 2) != NULL);
    ck_assert_int_ge(clock_mono_ms() - asked_ms, 290);
    ck_assert_int_eq(count_seen("TASK_STATE", "CANCELED", 2), 2);
    deploy(3, "run", NULL, NULL, NULL);
    RUN_UNTIL(count_seen("TASK_STATE", "RUNNING", 3) == 2);
    cancel(3, "kill");
    RUN_UNTIL(find_seen("RUNNER_GONE", NULL, 3) != NULL);
    ck_assert_int_eq(count_seen("TASK_STATE", "CANCELED", 3), 2);
    cancel(3, "kill"); /* once more: answered, for nobody may wait for ever */
    RUN_UNTIL(count_seen("RUNNER_GONE", NULL, 3) == 2);
    stop_agent();
}
END_TEST

START_TEST(a_newer_epoch_waits_for_the_older_to_die)
{
    start_agent(false);
    deploy(1, "stubborn", NULL, NULL, NULL);
    RUN_UNTIL(count_seen("TASK_STATE", "RUNNING", 1) == 2);
    deploy(2, "run", NULL, NULL, NULL);
    deploy(3, "run", NULL, NULL, NULL);
    RUN_UNTIL(count_seen("TASK_STATE", "RUNNING", 3) == 2);
    ck_assert_int_eq(count_seen("TASK_STATE", "RUNNING", 2), 0);
    ck_assert_int_eq(count_seen("RUNNER_GONE", NULL, 1), 1);
    ck_assert_int_eq(count_seen("RUNNER_GONE", NULL, 2), 1);
    ck_assert_uint_eq(agent_runner_count(f.agent), 1);
    int gone_at = -1;
    int running_at = -1;
    for (int i = 0; i < f.seen_count; i++) {
        if (strcmp(message_text(f.seen[i], "type"), "RUNNER_GONE") == 0 && message_int(f.seen[i], "epoch") == 1)
            gone_at = i;
        if (running_at < 0 && message_int(f.seen[i], "epoch") == 3)
            running_at = i;
    }
    ck_assert_int_lt(gone_at, running_at);
    deploy(2, "run", NULL, NULL, NULL); /* stale: ignored */
    json_t *trigger = json_pack("{s:s,s:i,s:i,s:i,s:s,s:s,s:[]}", "job", JOB, "epoch", 3, "checkpoint", 9, "timestamp", 1, "directory", "/x",
                                "kind", "checkpoint", "executions");
    rpc_conn_send_json(f.link, MESSAGE_TRIGGER_CHECKPOINT, trigger);
    json_decref(trigger);
    RUN_UNTIL(find_seen("CHECKPOINT_ACK", NULL, 3) != NULL);
    ck_assert_int_eq(message_int(find_seen("CHECKPOINT_ACK", NULL, 3), "checkpoint"), 9);
    ck_assert_uint_eq(agent_runner_count(f.agent), 1);
    stop_agent();
}
END_TEST

START_TEST(libraries_are_fetched_once_and_verified)
{
    start_agent(false);
    struct blob_key key = blob_key_of("the library", 11);
    deploy(1, "library", NULL, NULL, key.hex);
    RUN_UNTIL(find_seen("RUNNER_GONE", NULL, 1) != NULL);
    ck_assert_int_eq(count_seen("TASK_STATE", "FINISHED", 1), 2);
    deploy(2, "library", NULL, NULL, key.hex);
    RUN_UNTIL(find_seen("RUNNER_GONE", NULL, 2) != NULL);
    ck_assert_int_eq(count_seen("BLOB_GET", NULL, 0), 1);
    struct blob_key other = blob_key_of("another library", 15); /* arrives with the wrong bytes */
    deploy(3, "library", NULL, NULL, other.hex);
    RUN_UNTIL(find_seen("RUNNER_GONE", NULL, 3) != NULL);
    const json_t *failure = json_object_get(find_seen("TASK_STATE", "FAILED", 3), "error");
    const char *message = message_text(failure, "message");
    ck_assert_msg(strstr(message, "arrived damaged") != NULL, "%s", message);
    ck_assert_str_eq(message_text(failure, "code"), "IO"); /* CORRUPT would cost the job its checkpoint */
    deploy(4, "library", NULL, NULL, "../../etc/passwd");
    RUN_UNTIL(find_seen("RUNNER_GONE", NULL, 4) != NULL);
    stop_agent();
}
END_TEST

static int data_frames;
static int data_closed;
static bool data_open;

static void on_consumer_open(struct rpc_conn *conn, void *context)
{
    (void)context;
    data_open = true;
    rpc_conn_send(conn, MESSAGE_BATCH, "hello", 5);
}

static void on_consumer_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    (void)context;
    data_frames += frame->length == 5;
    rpc_conn_close(conn, NULL);
}

static void on_consumer_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    (void)conn;
    (void)reason;
    (void)context;
    data_closed++;
}

static const struct rpc_conn_handler consumer = {on_consumer_open, on_consumer_frame, NULL, on_consumer_close};

static void consume(int epoch)
{
    json_t *hello = json_pack("{s:s,s:i,s:s}", "job", JOB, "epoch", epoch, "runner", "other-tm");
    struct rpc_connect_options options = {.host = "127.0.0.1", .port = agent_data_port(f.agent), .role = "data", .hello = hello};
    rpc_conn_connect(&f.loop, &options, &consumer, NULL);
    json_decref(hello);
}

START_TEST(data_connections_reach_their_runner)
{
    start_agent(false);
    data_frames = data_closed = 0;
    data_open = false;
    consume(1); /* before the runner is there */
    RUN_UNTIL(data_open);
    deploy(1, "run", NULL, NULL, NULL);
    RUN_UNTIL(data_frames == 1 && data_closed == 1);
    consume(1);
    RUN_UNTIL(data_frames == 2 && data_closed == 2);
    stop_agent();
}
END_TEST

static void on_leaver_open(struct rpc_conn *conn, void *context)
{
    (void)context;
    data_open = true;
    rpc_conn_close(conn, NULL);
}

static const struct rpc_conn_handler leaver = {.on_open = on_leaver_open, .on_close = on_consumer_close};

START_TEST(a_held_connection_goes_with_its_consumer)
{
    start_agent(false);
    data_open = false;
    json_t *hello = json_pack("{s:s,s:i,s:s}", "job", JOB, "epoch", 1, "runner", "other-tm");
    struct rpc_connect_options options = {.host = "127.0.0.1", .port = agent_data_port(f.agent), .role = "data", .hello = hello};
    rpc_conn_connect(&f.loop, &options, &leaver, NULL);
    json_decref(hello);
    RUN_UNTIL(data_open && f.agent->held.count == 1);
    RUN_UNTIL_MS(f.agent->held.count == 0, 3000);
    stop_agent();
}
END_TEST

static void file_get(const char *kind, const char *name)
{
    forget_seen();
    json_t *json = json_pack("{s:i,s:s,s:s*}", "request", 5, "kind", kind, "name", name);
    rpc_conn_send_json(f.link, MESSAGE_FILE_GET, json);
    json_decref(json);
    RUN_UNTIL(find_seen("FILE", NULL, -1) != NULL);
}

START_TEST(files_by_base_name_only)
{
    start_agent(false);
    file_get("log", NULL);
    ck_assert_ptr_null(json_object_get(f.seen[0], "error"));
    file_get("list", NULL);
    ck_assert_ptr_nonnull(strstr(f.file_bytes, "\"name\":\"taskmanager.log\""));
    file_get("file", "taskmanager.log");
    ck_assert_ptr_null(json_object_get(f.seen[0], "error"));
    static const char *const bad[] = {"../../../../etc/passwd", "/etc/passwd", "..", ".", "", "blobStorage", "nothing.log"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        file_get("file", bad[i]);
        ck_assert_str_eq(message_text(json_object_get(f.seen[0], "error"), "code"), "NOT_FOUND");
    }
    file_get("stdout", NULL);
    ck_assert_ptr_null(json_object_get(f.seen[0], "error"));
    file_get("thread-dump", NULL);
    ck_assert_ptr_nonnull(strstr(f.file_bytes, "\"threadInfos\":[{\"threadName\":\"test_agent\""));
    stop_agent();
}
END_TEST

START_TEST(a_closed_connection_starts_a_new_incarnation)
{
    start_agent(false);
    deploy(1, "run", NULL, NULL, NULL);
    RUN_UNTIL(count_seen("TASK_STATE", "RUNNING", 1) == 2);
    char *before = heap_strdup(agent_id(f.agent));
    rpc_conn_close(f.link, NULL);
    RUN_UNTIL(f.register_count == 2 && agent_is_registered(f.agent));
    ck_assert_str_ne(agent_id(f.agent), before);
    ck_assert_uint_eq(agent_runner_count(f.agent), 0);
    ck_assert_int_eq(count_seen("RUNNER_GONE", NULL, 1), 0); /* nobody asked */
    free(before);
    stop_agent();
}
END_TEST

START_TEST(silence_of_the_jobmanager_is_a_loss)
{
    start_agent(true);
    deploy(1, "run", NULL, NULL, NULL);
    RUN_UNTIL(count_seen("TASK_STATE", "RUNNING", 1) == 2);
    RUN_UNTIL(f.register_count == 2);
    ck_assert_uint_eq(agent_runner_count(f.agent), 0);
    stop_agent();
}
END_TEST

START_TEST(stopping_says_goodbye_and_kills)
{
    start_agent(false);
    deploy(1, "stubborn", NULL, NULL, NULL);
    RUN_UNTIL(count_seen("TASK_STATE", "RUNNING", 1) == 2);
    pid_t pid = f.agent->runners.items[0]->process.pid;
    agent_stop(f.agent, "received SIGTERM");
    RUN_UNTIL(f.is_stopped && f.link == NULL);
    ck_assert_ptr_nonnull(find_seen("GOODBYE", NULL, -1));
    ck_assert_int_eq(kill(pid, 0), -1);
    f.is_stopped = true;
    rpc_server_close(f.server);
    unlink(f.out_path);
    ck_assert_int_eq(rmdir(f.directory), 0);
    forget_seen();
    json_decref(f.registered);
    json_decref(f.last_metrics);
    config_destroy(f.config);
    loop_finish(&f.loop);
}
END_TEST

START_TEST(a_missing_runner_program_is_named)
{
    start_agent(false);
    free(f.agent->runner_path);
    f.agent->runner_path = heap_strdup("/nonexistent/task-runner");
    deploy(1, "run", NULL, NULL, NULL);
    RUN_UNTIL(find_seen("RUNNER_GONE", NULL, 1) != NULL);
    const char *message = message_text(json_object_get(find_seen("TASK_STATE", "FAILED", 1), "error"), "message");
    ck_assert_msg(strstr(message, "could not start /nonexistent/task-runner") != NULL, "%s", message);
    stop_agent();
}
END_TEST

START_TEST(many_deployments_leave_nothing)
{
    start_agent(false);
    const char *wanted = getenv("TEST_CYCLES");
    int cycles = wanted != NULL ? atoi(wanted) : 100;
    int descriptors = 0;
    int64_t before = 0;
    for (int epoch = 1; epoch <= cycles; epoch++) {
        forget_seen();
        deploy(epoch, "run", NULL, NULL, NULL);
        RUN_UNTIL(count_seen("TASK_STATE", "RUNNING", epoch) == 2);
        cancel(epoch, epoch % 2 == 0 ? "graceful" : "kill");
        RUN_UNTIL(find_seen("RUNNER_GONE", NULL, epoch) != NULL);
        if (epoch == cycles / 5) {
            descriptors = entry_count("/proc/self/fd");
            before = process_resident_bytes(getpid());
        }
    }
    int64_t after = process_resident_bytes(getpid());
    ck_assert_int_eq(entry_count("/proc/self/fd"), descriptors);
    if (getenv("TEST_LOG") != NULL)
        printf("resident %lld -> %lld KiB\n", (long long)before >> 10, (long long)after >> 10);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    ck_assert_int_lt(after - before, 1 << 20);
#endif
    stop_agent();
}
END_TEST

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--taskmanager") == 0)
        return play_runner();
    Suite *suite = suite_create("agent");
    TCase *cases = tcase_create("agent");
    tcase_set_timeout(cases, 120);
    tcase_add_test(cases, registers_with_its_facts);
    tcase_add_test(cases, runs_and_finishes);
    tcase_add_test(cases, a_crash_names_function_and_signal);
    tcase_add_test(cases, an_exit_is_named);
    tcase_add_test(cases, too_much_memory_is_named);
    tcase_add_test(cases, cancels_gracefully_and_not);
    tcase_add_test(cases, a_newer_epoch_waits_for_the_older_to_die);
    tcase_add_test(cases, libraries_are_fetched_once_and_verified);
    tcase_add_test(cases, data_connections_reach_their_runner);
    tcase_add_test(cases, a_held_connection_goes_with_its_consumer);
    tcase_add_test(cases, files_by_base_name_only);
    tcase_add_test(cases, a_closed_connection_starts_a_new_incarnation);
    tcase_add_test(cases, silence_of_the_jobmanager_is_a_loss);
    tcase_add_test(cases, stopping_says_goodbye_and_kills);
    tcase_add_test(cases, a_missing_runner_program_is_named);
    tcase_add_test(cases, many_deployments_leave_nothing);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
