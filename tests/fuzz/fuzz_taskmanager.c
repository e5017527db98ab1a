/* A taskmanager that says anything: each line is the name of a message and its body, sent over a greeted and registered connection to a
 * jobmanager whose job runs there and has a checkpoint pending. $J, $P, $C, $0 and $1 stand for the job, its epoch, the checkpoint and
 * the two executions. What is accepted is then read back as REST and the diagnosis show it. */
#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/loop/loop.h"
#include "jobmanager/jobmanager.h"
#include "jobmanager/rest/rest_server.h"
#include "jobmanager/taskmanager_link.h"
#include "tests/fuzz/fuzz_jobmanager.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define JOB "0123456789abcdef0123456789abcdef"

enum { TURNS_MAX = 2000 };

struct stage {
    uv_loop_t loop;
    struct jobmanager *jobmanager;
    struct job *job;
    int fd; /* the taskmanager's end */
};

/* ---- the jobmanager and its job ---- */

static void start_jobmanager(struct stage *stage)
{
    uv_loop_init(&stage->loop);
    loop_own(&stage->loop);
    struct config *config = fuzz_config();
    fuzz_set_option(config, "env.log.dir", fuzz_directory);
    fuzz_set_option(config, "execution.checkpointing.interval", "1 h");
    struct error *err = jobmanager_create(&stage->loop, config, &stage->jobmanager);
    check(err == NULL);
}

#define OPERATOR(name, type, inputs)                                                                                                 \
    "{\"name\":\"" name "\",\"type\":\"" type "\",\"uid\":null,\"parallelism\":1,\"max_parallelism\":0,\"slot_sharing_group\":\"default\","    \
    "\"chaining\":\"NEVER\",\"description\":\"\",\"options\":{},\"schema\":[{\"name\":\"n\",\"type\":\"BIGINT\",\"nullable\":false}],"         \
    "\"side_outputs\":[],\"inputs\":[" inputs "]}"

static void submit_job(struct stage *stage)
{
    static const char text[] =
        "{\"version\":1,\"job_id\":\"" JOB "\",\"name\":\"Fuzz\",\"config\":{},\"library\":{\"name\":\"a.so\",\"sha256\":\"" JOB JOB "\"},"
        "\"operators\":[" OPERATOR("Source", "datagen-source", "") "," OPERATOR("Sink", "blackhole-sink",
            "{\"source\":0,\"side_output\":-1,\"input\":0,\"partitioning\":\"REBALANCE\",\"key_columns\":[]}") "]}";
    fuzz_submit_job(stage->jobmanager, text, 1);
    struct id id;
    check(id_parse(JOB, &id));
    stage->job = coordinator_job(stage->jobmanager->coordinator, id);
    check(stage->job != NULL);
}

/* ---- the taskmanager ---- */

static void connect_taskmanager(struct stage *stage)
{
    int fds[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    uv_tcp_t *handle = heap_new(uv_tcp_t);
    uv_tcp_init(&stage->loop, handle);
    check(uv_tcp_open(handle, fds[0]) == 0);
    json_t *hello = json_pack("{s:s,s:s,s:s}", "role", "taskmanager", "nonce", JOB, "proof", "");
    taskmanager_link_accept(NULL, rpc_conn_open_tcp(handle, 0, NULL, NULL), hello, stage->jobmanager);
    json_decref(hello);
    stage->fd = fds[1];
}

static void drain(struct stage *stage)
{
    char unread[65536];
    while (recv(stage->fd, unread, sizeof unread, 0) > 0)
        continue;
}

/* Until the other side has read it all, or closed. */
static void say(struct stage *stage, uint16_t type, const char *body, size_t length)
{
    size_t frame_length;
    uint8_t *frame = frame_encode(type, body, (uint32_t)length, &frame_length);
    for (size_t at = 0; at < frame_length;) {
        ssize_t sent = send(stage->fd, frame + at, frame_length - at, MSG_NOSIGNAL);
        if (sent > 0)
            at += (size_t)sent;
        else if (errno != EAGAIN)
            break;
        uv_run(&stage->loop, UV_RUN_NOWAIT);
        drain(stage);
    }
    free(frame);
    uv_run(&stage->loop, UV_RUN_NOWAIT);
    drain(stage);
}

static void say_text(struct stage *stage, uint16_t type, const char *text)
{
    say(stage, type, text, strlen(text));
}

static struct execution *execution(const struct stage *stage, uint32_t index)
{
    return stage->job->vertices[index].subtasks[0].current;
}

static bool has_state(const struct stage *stage, enum execution_state state)
{
    return execution(stage, 0)->state == state && execution(stage, 1)->state == state;
}

static void wait_for(struct stage *stage, enum execution_state state)
{
    for (int i = 0; i < TURNS_MAX && !has_state(stage, state); i++)
        uv_run(&stage->loop, UV_RUN_NOWAIT);
    check(has_state(stage, state));
    drain(stage);
}

static void run_job(struct stage *stage)
{
    connect_taskmanager(stage);
    say_text(stage, MESSAGE_REGISTER,
             "{\"tm\":\"fuzz\",\"host\":\"127.0.0.1\",\"data_port\":1,\"slots\":2,\"pid\":1,\"cpu_cores\":1,\"memory_bytes\":1,\"version\":\"1\"}");
    wait_for(stage, EXECUTION_DEPLOYING);
    static const char *const states[] = {"INITIALIZING", "RUNNING"};
    for (uint32_t i = 0; i < 4; i++) {
        char *text = heap_printf("{\"job\":\"" JOB "\",\"epoch\":%llu,\"execution\":\"%s\",\"state\":\"%s\"}",
                                 (unsigned long long)stage->job->epoch, execution(stage, i % 2)->id, states[i / 2]);
        say_text(stage, MESSAGE_TASK_STATE, text);
        free(text);
    }
    wait_for(stage, EXECUTION_RUNNING);
    struct id id = stage->job->id;
    struct event event = {.kind = EVENT_TRIGGER, .trigger = {.job = id, .trigger_id = id, .kind = CHECKPOINT_KIND_CHECKPOINT}};
    jobmanager_handle(stage->jobmanager, &event);
    uv_run(&stage->loop, UV_RUN_NOWAIT);
    drain(stage);
}

/* ---- the input ---- */

/* Fills in what $ stands for. */
static void fill(const struct stage *stage, const char *text, size_t length, struct str_buf *out)
{
    for (size_t i = 0; i < length; i++) {
        char what = text[i] == '$' && i + 1 < length ? text[i + 1] : '\0';
        if (what == 'J')
            str_buf_append(out, JOB);
        else if (what == 'P')
            str_buf_printf(out, "%llu", (unsigned long long)stage->job->epoch);
        else if (what == 'C')
            str_buf_append(out, "1");
        else if (what == '0' || what == '1')
            str_buf_append(out, execution(stage, (uint32_t)(what - '0'))->id);
        else
            str_buf_append_char(out, text[i]);
        i += what == 'J' || what == 'P' || what == 'C' || what == '0' || what == '1';
    }
}

static const struct {
    const char *name;
    uint16_t number;
} names[] = {
#define MESSAGE(name, number, kind, members) {#name, number},
#include "common/rpc/messages.def"
#undef MESSAGE
};

static void say_line(struct stage *stage, const char *line, size_t length)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t name_length = strlen(names[i].name);
        if (length <= name_length || line[name_length] != ' ' || memcmp(line, names[i].name, name_length) != 0)
            continue;
        struct str_buf body = {0};
        fill(stage, line + name_length + 1, length - name_length - 1, &body);
        say(stage, names[i].number, str_buf_text(&body), body.length);
        str_buf_finish(&body);
        return;
    }
}

/* before, then the id of the sink's vertex, then behind. */
static void ask(struct stage *stage, const char *before, const char *behind)
{
    struct http_request request;
    char *target = heap_printf("%s%s%s", before, id_format(stage->job->graph->vertices[1].id).hex, behind);
    http_request_init(&request, HTTP_GET, target);
    request.state = HTTP_HANDLING;
    rest_dispatch(stage->jobmanager, rest_request_create(&request));
    /* 500 is also Flink's answer about a taskmanager that has gone. */
    check(request.state == HTTP_REPLIED && request.reply.status >= 200 && request.reply.status <= 500);
    rest_request_destroy(request.user);
    http_request_finish(&request);
    free(target);
}

static void look(struct stage *stage)
{
    while (stage->jobmanager->work_count > 0)
        uv_run(&stage->loop, UV_RUN_ONCE);
    ask(stage, "/jobs/" JOB "?", "");
    ask(stage, "/jobs/" JOB "/exceptions?", "");
    ask(stage, "/jobs/" JOB "/checkpoints?", "");
    ask(stage, "/jobs/" JOB "/checkpoints/details/1?", "");
    ask(stage, "/jobs/" JOB "/checkpoints/details/1/subtasks/", "");
    ask(stage, "/jobs/" JOB "/diagnosis?", "");
    ask(stage, "/jobs/" JOB "/vertices/", "/watermarks");
    ask(stage, "/jobs/" JOB "/vertices/", "/backpressure");
    ask(stage, "/jobs/" JOB "/vertices/", "/subtasks/metrics");
    ask(stage, "/jobs/" JOB "/metrics?get=uptime,lastCheckpointSize&", "");
    ask(stage, "/jobs/" JOB "/vertices/", "");
    ask(stage, "/jobs/" JOB "/vertices/", "/taskmanagers");
    ask(stage, "/jobs/" JOB "/vertices/", "/subtasks/0");
    ask(stage, "/jobs/" JOB "/vertices/", "/subtasks/metrics?get=numRecordsOut,numRecordsIn");
    ask(stage, "/taskmanagers/fuzz/metrics?", "");
    ask(stage, "/taskmanagers/fuzz?", "");
}

static bool is_stopped;

static void on_stopped(struct jobmanager *jobmanager)
{
    (void)jobmanager;
    is_stopped = true;
}

static void stop(struct stage *stage)
{
    close(stage->fd);
    is_stopped = false;
    jobmanager_stop(stage->jobmanager, on_stopped);
    while (!is_stopped)
        uv_run(&stage->loop, UV_RUN_ONCE);
    jobmanager_destroy(stage->jobmanager);
    loop_finish(&stage->loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool is_prepared;
    if (!is_prepared) {
        log_set_level(LOG_OFF);
        signal(SIGPIPE, SIG_IGN);
        fuzz_enter_directory();
        is_prepared = true;
    }
    struct stage stage = {0};
    start_jobmanager(&stage);
    submit_job(&stage);
    run_job(&stage);
    const char *text = (const char *)data, *end = text + size;
    while (text < end) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        size_t length = (size_t)((line_end != NULL ? line_end : end) - text);
        say_line(&stage, text, length);
        text += length + (line_end != NULL);
    }
    look(&stage);
    stop(&stage);
    return 0;
}
