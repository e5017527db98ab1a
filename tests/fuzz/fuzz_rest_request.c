/* REST requests against a jobmanager that has a job: the first line is method and target, the rest the body. Whatever comes, there is one
 * answer, whose body is JSON where it says so. Nothing listens or is started: requests go to the routes directly. */
#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/fs/fs.h"
#include "common/loop/loop.h"
#include "jobmanager/jobmanager.h"
#include "jobmanager/rest/rest_server.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define JOB "0123456789abcdef0123456789abcdef"

static struct jobmanager *jobmanager;
static uv_loop_t loop;

static void set_option(struct config *config, const char *key, const char *value)
{
    struct error *err = config_set(config, key, value, "fuzz");
    check(err == NULL);
}

static void submit_job(void)
{
    static const char graph_text[] =
        "{\"version\":1,\"job_id\":\"" JOB "\",\"name\":\"Fuzz\",\"config\":{},"
        "\"library\":{\"name\":\"a.so\",\"sha256\":\"" JOB JOB "\"},\"operators\":["
        "{\"name\":\"Source\",\"type\":\"datagen-source\",\"uid\":null,\"parallelism\":2,\"max_parallelism\":0,\"slot_sharing_group\":\"default\","
        "\"chaining\":\"ALWAYS\",\"description\":\"\",\"options\":{},\"schema\":[{\"name\":\"n\",\"type\":\"BIGINT\",\"nullable\":false}],"
        "\"side_outputs\":[],\"inputs\":[]}]}";
    struct job_graph *graph;
    json_t *json = json_loads(graph_text, 0, NULL);
    struct error *err = job_graph_from_json(json, &graph);
    json_decref(json);
    if (err == NULL) {
        job_graph_set_parallelism(graph, 2);
        err = job_graph_chain(graph);
    }
    check(err == NULL);
    struct event event = {.kind = EVENT_JOB_SUBMITTED, .job_submitted = {.graph = graph}};
    jobmanager_handle(jobmanager, &event);
}

static char directory[] = "/tmp/fuzz-rest-XXXXXX";

static void remove_directory(void)
{
    error_free(fs_remove_tree(directory));
}

static void start(void)
{
    signal(SIGTERM, SIG_IGN); /* DELETE /cluster */
    log_set_level(LOG_OFF);
    /* Requests name directories: relative ones must not appear where the fuzzer was started. */
    check(mkdtemp(directory) != NULL && chdir(directory) == 0 && atexit(remove_directory) == 0);
    uv_loop_init(&loop);
    loop_own(&loop);
    struct config *config = config_create_over(NULL);
    set_option(config, "rest.port", "0");
    set_option(config, "rest.bind-address", "127.0.0.1");
    set_option(config, "jobmanager.rpc.port", "0");
    set_option(config, "jobmanager.bind-host", "127.0.0.1");
    set_option(config, "metrics.reporters", "");
    set_option(config, "io.tmp.dirs", directory);
    struct error *err = jobmanager_create(&loop, config, &jobmanager);
    check(err == NULL);
    submit_job();
}

static unsigned answer_count;

static void on_replied(struct http_request *request)
{
    (void)request;
    answer_count++;
}

static void check_answer(const struct http_reply *reply)
{
    check(reply->status >= 200 && reply->status < 600);
    if (reply->fd >= 0 || reply->content_type == NULL || strncmp(reply->content_type, "application/json", 16) != 0)
        return;
    json_t *json = json_loadb(reply->bytes, reply->length, JSON_DECODE_ANY, NULL);
    check(json != NULL);
    json_decref(json);
}

static void run(enum http_method method, const char *target, const uint8_t *body, size_t body_length)
{
    struct http_request request;
    http_request_init(&request, method, target);
    request.on_replied = on_replied;
    if (body_length > 0)
        str_buf_append_bytes(&request.body, body, body_length);
    request.state = HTTP_HANDLING;
    rest_dispatch(jobmanager, rest_request_create(&request));
    check(request.state != HTTP_HANDLING);
    while (request.state == HTTP_DEFERRED)
        uv_run(&loop, UV_RUN_ONCE);
    check_answer(&request.reply);
    rest_request_destroy(request.user);
    http_request_finish(&request);
    uv_run(&loop, UV_RUN_NOWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (jobmanager == NULL)
        start();
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t line_length = end != NULL ? (size_t)(end - data) : size;
    size_t body_at = end != NULL ? line_length + 1 : size;
    char *line = heap_strndup(size > 0 ? (const char *)data : "", line_length);
    size_t method_length = strcspn(line, " ");
    char *method = heap_strndup(line, method_length);
    const char *target = line + method_length + strspn(line + method_length, " ");
    /* Nothing may delete what is not this test's. */
    bool is_disposal = strstr(target, "savepoint-disposal") != NULL;
    if (!is_disposal)
        run(http_method_from_name(method), target, data + body_at, size - body_at);
    free(method);
    free(line);
    return 0;
}
