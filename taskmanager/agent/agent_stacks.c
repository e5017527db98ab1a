/* What threads do, for thread dumps and flame graphs: runners are asked over their control pipes, the agent's own threads are
 * looked at here, and one FILE answers when all have spoken, or after a while without those that have not. Thread: the loop's. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/thread_stacks.h"
#include "taskmanager/agent/agent_private.h"

#include <stdlib.h>
#include <string.h>

enum { DUMP_WAIT_MS = 2000, SAMPLES_WAIT_MS = 9000 };

struct stacks_request {
    struct agent *agent;
    struct stacks_request *next;
    int64_t number;    /* of the FILE_GET, and of the STACKS_GETs that it became */
    char *kind;
    size_t open_count; /* runners that have not answered */
    json_t *answer;
    struct loop_timer *timer;
};

static void request_free(struct stacks_request *request)
{
    struct stacks_request **slot = &request->agent->stacks_requests;
    while (*slot != request)
        slot = &(*slot)->next;
    *slot = request->next;
    loop_timer_stop(&request->timer);
    json_decref(request->answer);
    free(request->kind);
    free(request);
}

static void reply(struct stacks_request *request)
{
    struct agent *agent = request->agent;
    char *text = json_dumps(request->answer, JSON_COMPACT);
    json_t *header = json_pack("{s:I,s:s}", "request", (json_int_t)request->number, "kind", request->kind);
    size_t length;
    char *body = message_encode_headed(MESSAGE_FILE, header, text, strlen(text), &length);
    if (agent->link_state == LINK_REGISTERED)
        rpc_conn_send_take(agent->link, MESSAGE_FILE, body, length);
    else
        free(body);
    json_decref(header);
    free(text);
    request_free(request);
}

static void on_timeout(void *argument)
{
    reply(argument);
}

static struct stacks_request *request_create(struct agent *agent, const json_t *file_get, json_t *answer, uint64_t wait_ms)
{
    struct stacks_request *request = heap_new(struct stacks_request);
    request->agent = agent;
    request->number = message_int(file_get, "request");
    request->kind = heap_strdup(message_text(file_get, "kind"));
    request->answer = answer;
    request->next = agent->stacks_requests;
    agent->stacks_requests = request;
    request->timer = loop_timer_start(agent->loop, wait_ms, 0, on_timeout, request);
    return request;
}

static void ask(struct stacks_request *request, struct runner *runner, const json_t *more)
{
    if (runner->state != RUNNER_RUNNING || runner->control == NULL)
        return;
    json_t *message = json_pack("{s:s,s:I,s:I}", "job", id_format(runner->job).hex, "epoch", (json_int_t)runner->epoch, "request",
                                (json_int_t)request->number);
    if (more != NULL)
        json_object_update(message, (json_t *)(uintptr_t)more);
    rpc_conn_send_json(runner->control, MESSAGE_STACKS_GET, message);
    json_decref(message);
    request->open_count++;
}

/* ---- thread dumps ---- */

/* All threads of this program can stand a signal: its loop, libuv's pool. */
static bool can_interrupt(const char *name)
{
    (void)name;
    return true;
}

static void add_thread(const struct thread_stack *stack, void *argument)
{
    json_t *infos = argument;
    struct str_buf text = {0};
    thread_stack_print(stack, NULL, NULL, &text);
    json_t *info = json_pack("{s:s,s:s}", "threadName", stack->name, "stringifiedThreadInfo", str_buf_text(&text));
    if (info != NULL) /* NULL: a name that is no UTF-8 */
        json_array_append_new(infos, info);
    str_buf_finish(&text);
}

void agent_stacks_dump(struct agent *agent, const json_t *file_get)
{
    json_t *infos = json_array();
    thread_stacks_all(can_interrupt, add_thread, infos);
    struct stacks_request *request = request_create(agent, file_get, json_pack("{s:o}", "threadInfos", infos), DUMP_WAIT_MS);
    for (size_t i = 0; i < agent->runners.count; i++)
        ask(request, agent->runners.items[i], NULL);
    if (request->open_count == 0)
        reply(request);
}

/* ---- samples ---- */

void agent_stacks_sample(struct agent *agent, const json_t *file_get)
{
    const char *text = message_text(file_get, "name");
    json_t *wanted = json_loads(text != NULL ? text : "", 0, NULL);
    struct stacks_request *request = request_create(agent, file_get, json_pack("{s:{}}", "tasks"), SAMPLES_WAIT_MS);
    struct id job;
    const char *job_text = json_string_value(json_object_get(wanted, "job"));
    if (job_text != NULL && id_parse(job_text, &job)) {
        struct runner *runner = agent_find_runner(agent, job, json_integer_value(json_object_get(wanted, "epoch")));
        if (runner != NULL)
            ask(request, runner, wanted);
    }
    json_decref(wanted);
    if (request->open_count == 0)
        reply(request);
}

/* ---- answers ---- */

void agent_stacks_answer(struct runner *runner, struct frame *frame)
{
    struct agent *agent = runner->agent;
    json_t *message;
    struct error *err = message_parse(frame->type, frame->body, frame->length, &message);
    if (err != NULL) {
        runner_kill(runner, heap_printf("it sent a malformed message: %s", err->message));
        error_free(err);
        return;
    }
    int64_t number = message_int(message, "request");
    for (struct stacks_request *request = agent->stacks_requests; request != NULL; request = request->next) {
        if (request->number != number)
            continue;
        json_array_extend(json_object_get(request->answer, "threadInfos"), json_object_get(message, "threads"));
        json_object_update(json_object_get(request->answer, "tasks"), json_object_get(message, "tasks"));
        if (--request->open_count == 0)
            reply(request);
        break;
    }
    json_decref(message);
}

void agent_stacks_close(struct agent *agent)
{
    while (agent->stacks_requests != NULL)
        request_free(agent->stacks_requests);
}
