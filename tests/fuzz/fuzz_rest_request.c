/* REST requests against a jobmanager that has a job: the first line is method and target, the rest the body. Whatever comes, there is one
 * answer, whose body is JSON where it says so. Nothing listens or is started: requests go to the routes directly. */
#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/loop/loop.h"
#include "jobmanager/jobmanager.h"
#include "jobmanager/rest/rest_server.h"
#include "tests/fuzz/fuzz_jobmanager.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define JOB "0123456789abcdef0123456789abcdef"

static struct jobmanager *jobmanager;
static uv_loop_t loop;

static void submit_job(void)
{
    static const char graph_text[] =
        "{\"version\":1,\"job_id\":\"" JOB "\",\"name\":\"Fuzz\",\"config\":{},"
        "\"library\":{\"name\":\"a.so\",\"sha256\":\"" JOB JOB "\"},\"operators\":["
        "{\"name\":\"Source\",\"type\":\"datagen-source\",\"uid\":null,\"parallelism\":2,\"max_parallelism\":0,\"slot_sharing_group\":\"default\","
        "\"chaining\":\"ALWAYS\",\"description\":\"\",\"options\":{},\"schema\":[{\"name\":\"n\",\"type\":\"BIGINT\",\"nullable\":false}],"
        "\"side_outputs\":[],\"inputs\":[]}]}";
    fuzz_submit_job(jobmanager, graph_text, 2);
}

static void start(void)
{
    signal(SIGTERM, SIG_IGN); /* DELETE /cluster */
    log_set_level(LOG_OFF);
    fuzz_enter_directory();
    uv_loop_init(&loop);
    loop_own(&loop);
    struct config *config = fuzz_config();
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
