/* What threads do: thread dumps of this program, flame graphs of vertices, and the profiler that Flink's dashboard asks for.
 * Thread: the loop. */
#include "common/base/thread_stacks.h"
#include "jobmanager/flame_graph.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"
#include "jobmanager/rest/views.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- threads ---- */

/* All threads are our own: the loop, libuv's pool. */
static bool can_interrupt(const char *name)
{
    (void)name;
    return true;
}

static void add_thread(const struct thread_stack *stack, void *argument)
{
    json_t *threads = argument;
    struct str_buf text = {0};
    thread_stack_print(stack, NULL, NULL, &text);
    json_t *thread = json_object();
    put_text(thread, "threadName", stack->name);
    put_text(thread, "stringifiedThreadInfo", str_buf_text(&text));
    json_array_append_new(threads, thread);
    str_buf_finish(&text);
}

void handle_jobmanager_thread_dump(struct jobmanager *jobmanager, struct rest_request *request)
{
    (void)jobmanager;
    json_t *threads = json_array();
    thread_stacks_all(can_interrupt, add_thread, threads);
    json_t *json = json_object();
    put_json(json, "threadInfos", threads);
    rest_reply_json(request, 200, json);
}

/* ---- flame graphs ---- */

static bool type_of(struct rest_request *request, enum flame_graph_type *out)
{
    static const struct {
        const char *name;
        enum flame_graph_type type;
    } types[] = {{"full", FLAME_GRAPH_FULL}, {"on_cpu", FLAME_GRAPH_ON_CPU}, {"off_cpu", FLAME_GRAPH_OFF_CPU}};
    const char *text = rest_query_param(request, "type");
    *out = FLAME_GRAPH_FULL;
    if (text == NULL)
        return true;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcasecmp(text, types[i].name) == 0) {
            *out = types[i].type;
            return true;
        }
    }
    rest_reply_bad_query(request, "type", text);
    return false;
}

static bool subtask_of(struct rest_request *request, const struct job_task_vertex *vertex, int64_t *out)
{
    const char *text = rest_query_param(request, "subtaskindex");
    *out = -1;
    if (text == NULL)
        return true;
    size_t length = strlen(text);
    int64_t number = length > 0 && length < 10 && strspn(text, "0123456789") == length ? strtoll(text, NULL, 10) : -1;
    if (number >= 0 && number < (int64_t)vertex->parallelism) {
        *out = number;
        return true;
    }
    rest_reply_bad_query(request, "subtaskindex", text);
    return false;
}

void handle_vertex_flame_graph(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct job_task_vertex *vertex = view_vertex(jobmanager, request);
    enum flame_graph_type type;
    int64_t subtask;
    if (vertex != NULL && type_of(request, &type) && subtask_of(request, vertex, &subtask))
        rest_reply_json(request, 200, flame_graph_view(jobmanager, vertex, subtask, type));
}

/* ---- the profiler: Flink runs a Java agent there. Nothing was profiled, so the list is empty, and a start says what there is instead. ---- */

void handle_profiles(struct jobmanager *jobmanager, struct rest_request *request)
{
    (void)jobmanager;
    json_t *json = json_object();
    put_json(json, "profilingList", json_array());
    rest_reply_json(request, 200, json);
}

void handle_profile_start(struct jobmanager *jobmanager, struct rest_request *request)
{
    (void)jobmanager;
    rest_reply_error(request, 400,
                     EX_REST ": Millrace has no profiler for Java machines. Look at a vertex' flame graph (rest.flamegraph.enabled: true) or at the "
                             "thread dump, or run perf on the process.\n");
}
