/* A job graph run by an in-process task runner. The harness thread owns the runner's loop; the caller's thread asks it
 * through closures and waits on a condition. See local_job.h. */
#include "tests/support/local_job.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/vec.h"
#include "common/fs/fs.h"
#include "common/loop/loop.h"
#include "common/loop/mailbox.h"
#include "common/rpc/message.h"
#include "common/rpc/rpc_server.h"
#include "taskmanager/task/task.h"
#include "taskmanager/task/task_runner.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RESTORE_FILE "_local.json"

struct local_task {
    char *execution;
    uint32_t vertex;
    uint32_t subtask;
    char *state; /* as last reported */
    bool is_ended;
    bool is_awaited; /* by the checkpoint in progress: alive when it was triggered, and has not acked */
};

struct local_checkpoint {
    uint64_t id; /* 0: none is in progress */
    json_t *handles; /* operator -> handles */
    json_t *books;   /* operator -> {subtask -> books} */
    struct error *err;
};

/* A taskmanager's stand-in. */
struct local_runner {
    struct local_job *job;
    uint32_t index;
    char id[24];
    struct task_runner *runner;
    struct rpc_server *server; /* the data port; NULL with one runner */
    uint16_t port;
    VEC(int) sockets; /* duplicates of the accepted connections' */
};

/* An accepted data connection on its way to a runner. */
struct local_handover {
    struct local_runner *runner;
    char *peer;
};

struct local_job {
    struct job_graph *graph;
    struct local_job_options options;
    json_t *restore;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_started; /* the loop thread serves the mailbox */
    /* guarded by lock */
    VEC(struct local_task) tasks;
    size_t ended_count;
    struct error *failure; /* the first */
    struct local_checkpoint checkpoint;
    uint64_t next_checkpoint_id;
    /* the loop thread's */
    uv_loop_t loop;
    struct mailbox *mailbox;
    uint32_t runner_count;
    struct local_runner *runners;
};

/* ---- the loop thread ---- */

static struct local_task *job_task(struct local_job *job, const char *execution)
{
    for (size_t i = 0; i < job->tasks.count; i++)
        if (strcmp(job->tasks.items[i].execution, execution) == 0)
            return &job->tasks.items[i];
    check(false && "a message of an unknown task");
    return NULL;
}

static void each_live_task(struct local_job *job, void (*call)(struct task *task))
{
    for (uint32_t r = 0; r < job->runner_count; r++)
        for (uint32_t i = 0; i < task_runner_task_count(job->runners[r].runner); i++)
            if (!task_runner_task_is_ended(job->runners[r].runner, i))
                call(task_runner_task(job->runners[r].runner, i));
}

static void on_task_state(struct local_job *job, const json_t *json)
{
    struct local_task *task = job_task(job, message_text(json, "execution"));
    const char *state = message_text(json, "state");
    free(task->state);
    task->state = heap_strdup(state);
    bool is_final = strcmp(state, "FINISHED") == 0 || strcmp(state, "CANCELED") == 0 || strcmp(state, "FAILED") == 0;
    if (is_final && !task->is_ended) {
        task->is_ended = true;
        job->ended_count++;
    }
    if (is_final && task->is_awaited && job->checkpoint.id != 0 && job->checkpoint.err == NULL) /* its mail, a trigger maybe, was dropped */
        job->checkpoint.err = error_new(CONFLICT, "task %s ended before checkpoint %" PRIu64 " reached it", task->execution, job->checkpoint.id);
    if (strcmp(state, "FAILED") != 0 || job->failure != NULL)
        return;
    job->failure = message_error_from_json(json_object_get(json, "error"));
    each_live_task(job, task_cancel);
}

static void on_ack(struct local_job *job, const json_t *json)
{
    struct local_checkpoint *checkpoint = &job->checkpoint;
    if (checkpoint->id != (uint64_t)message_int(json, "checkpoint"))
        return;
    struct local_task *task = job_task(job, message_text(json, "execution"));
    char subtask[16];
    snprintf(subtask, sizeof subtask, "%u", task->subtask);
    size_t index;
    json_t *value;
    const char *key;
    json_array_foreach(json_object_get(json, "state"), index, value) {
        const char *operator_id = json_string_value(json_object_get(value, "operator"));
        json_t *list = json_object_get(checkpoint->handles, operator_id);
        if (list == NULL)
            json_object_set_new(checkpoint->handles, operator_id, list = json_array());
        json_array_append_new(list, json_deep_copy(value)); /* no value is shared with another thread */
    }
    json_object_foreach(json_object_get(json, "books"), key, value) {
        json_t *by_subtask = json_object_get(checkpoint->books, key);
        if (by_subtask == NULL)
            json_object_set_new(checkpoint->books, key, by_subtask = json_object());
        json_object_set_new(by_subtask, subtask, json_deep_copy(value));
    }
    task->is_awaited = false;
}

static void on_decline(struct local_job *job, const json_t *json)
{
    struct local_checkpoint *checkpoint = &job->checkpoint;
    if (checkpoint->id == (uint64_t)message_int(json, "checkpoint") && checkpoint->err == NULL)
        checkpoint->err = error_wrap(message_error_from_json(json_object_get(json, "error")), "checkpoint %" PRIu64 " was declined", checkpoint->id);
}

static void on_message(void *context, uint16_t type, const json_t *json)
{
    struct local_job *job = context;
    pthread_mutex_lock(&job->lock);
    if (type == MESSAGE_TASK_STATE)
        on_task_state(job, json);
    else if (type == MESSAGE_CHECKPOINT_ACK)
        on_ack(job, json);
    else if (type == MESSAGE_CHECKPOINT_DECLINE)
        on_decline(job, json);
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
}

static void on_detached(uv_tcp_t *handle, void *argument)
{
    struct local_handover *handover = argument;
    struct local_runner *runner = handover->runner;
    int fd;
    if (handle != NULL && runner->server == NULL) { /* closing */
        rpc_handle_discard(handle);
    } else if (handle != NULL) {
        check(uv_fileno((uv_handle_t *)handle, &fd) == 0);
        vec_push(&runner->sockets, dup(fd));
        task_runner_accept(runner->runner, handle, handover->peer);
    }
    free(handover->peer);
    free(handover);
}

static void on_connection(struct rpc_server *server, struct rpc_conn *conn, const json_t *hello, void *context)
{
    (void)server;
    struct local_handover *handover = heap_new(struct local_handover);
    handover->runner = context;
    handover->peer = heap_strdup(message_text(hello, "runner"));
    rpc_conn_detach(conn, on_detached, handover);
}

static void runner_start(struct local_job *job, struct local_runner *runner, uint32_t index)
{
    runner->job = job;
    runner->index = index;
    snprintf(runner->id, sizeof runner->id, "local-%u", index);
    runner->runner = task_runner_create(&(struct task_runner_options){
        .loop = &job->loop,
        .taskmanager_id = runner->id,
        .library = job->options.library,
        .on_message = on_message,
        .context = job,
    });
    if (job->runner_count == 1)
        return;
    struct error *err = rpc_server_create(&job->loop,
                                          &(struct rpc_server_options){.host = "127.0.0.1",
                                                                       .body_bytes_max = FRAME_BODY_BYTES_DATA,
                                                                       .logger = "LocalJob",
                                                                       .on_connection = on_connection,
                                                                       .context = runner},
                                          &runner->server);
    check(err == NULL);
    runner->port = rpc_server_port(runner->server);
}

static void *job_thread(void *argument)
{
    struct local_job *job = argument;
    check(uv_loop_init(&job->loop) == 0);
    loop_own(&job->loop);
    job->mailbox = mailbox_create(&job->loop);
    for (uint32_t i = 0; i < job->runner_count; i++)
        runner_start(job, &job->runners[i], i);
    pthread_mutex_lock(&job->lock);
    job->is_started = true;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
    uv_run(&job->loop, UV_RUN_DEFAULT);
    loop_finish(&job->loop);
    return NULL;
}

struct job_call {
    struct local_job *job;
    void (*run)(struct local_job *job, void *argument);
    void *argument;
    bool is_done;
};

static void on_call(void *argument, bool is_closed)
{
    struct job_call *call = argument;
    check(!is_closed);
    call->run(call->job, call->argument);
    pthread_mutex_lock(&call->job->lock);
    call->is_done = true;
    pthread_cond_broadcast(&call->job->changed);
    pthread_mutex_unlock(&call->job->lock);
}

/* Runs on the loop thread and waits for it. */
static void job_call(struct local_job *job, void (*run)(struct local_job *job, void *argument), void *argument)
{
    struct job_call call = {job, run, argument, false};
    mailbox_post(job->mailbox, on_call, &call);
    pthread_mutex_lock(&job->lock);
    while (!call.is_done)
        pthread_cond_wait(&job->changed, &job->lock);
    pthread_mutex_unlock(&job->lock);
}

#define ALL_RUNNERS UINT32_MAX

struct sent_message {
    uint32_t runner;
    uint16_t type;
    const json_t *json;
};

static void call_message(struct local_job *job, void *argument)
{
    struct sent_message *message = argument;
    for (uint32_t i = 0; i < job->runner_count; i++)
        if (message->runner == i || message->runner == ALL_RUNNERS)
            task_runner_message(job->runners[i].runner, message->type, message->json);
}

/* Takes json. */
static void job_send_to(struct local_job *job, uint32_t runner, uint16_t type, json_t *json)
{
    json_object_set_new(json, "job", json_string(id_format(job->graph->job_id).hex));
    json_object_set_new(json, "epoch", json_integer(1));
    struct sent_message message = {runner, type, json};
    job_call(job, call_message, &message);
    json_decref(json);
}

static void job_send(struct local_job *job, uint16_t type, json_t *json)
{
    job_send_to(job, ALL_RUNNERS, type, json);
}

/* ---- starting ---- */

/* Books go back to the same subtask; those of subtasks that are no more go to subtask 0 by addition: as a list, which
 * restoring adds up one by one. */
static json_t *restored_books(const json_t *books, uint32_t subtask, uint32_t parallelism)
{
    json_t *result = json_object();
    const char *operator_id, *key;
    json_t *by_subtask, *value;
    json_object_foreach((json_t *)(uintptr_t)books, operator_id, by_subtask) {
        json_object_foreach(by_subtask, key, value) {
            uint32_t old = (uint32_t)strtoul(key, NULL, 10);
            if (old != subtask && !(subtask == 0 && old >= parallelism))
                continue;
            json_t *before = json_object_get(result, operator_id);
            json_t *sum = before == NULL ? json_deep_copy(value) : before;
            const char *name;
            json_t *number;
            if (before != NULL) {
                json_object_foreach(value, name, number) {
                    if (json_is_integer(number))
                        json_object_set_new(sum, name, json_integer((json_int_t)((uint64_t)json_integer_value(number) +
                                                                                (uint64_t)json_integer_value(json_object_get(sum, name)))));
                }
            } else {
                json_object_set_new(result, operator_id, sum);
            }
        }
    }
    return result;
}

static json_t *task_json(struct local_job *job, uint32_t vertex, uint32_t subtask, const char *execution)
{
    json_t *json = json_pack("{s:s,s:s,s:i,s:I,s:i}", "execution", execution, "vertex", id_format(job->graph->vertices[vertex].id).hex, "subtask",
                             (int)subtask, "attempt", (json_int_t)job->options.attempt_number, "slot", 0);
    if (job->restore != NULL) {
        json_t *restore = json_object();
        json_object_set(restore, "checkpoint", json_object_get(job->restore, "checkpoint"));
        json_object_set_new(restore, "directory", json_string(job->options.restore_directory));
        json_object_set(restore, "handles", json_object_get(job->restore, "handles"));
        json_object_set_new(restore, "books",
                            restored_books(json_object_get(job->restore, "books"), subtask, job->graph->vertices[vertex].parallelism));
        json_object_set_new(json, "restore", restore);
    }
    return json;
}

static void make_tasks(struct local_job *job)
{
    for (uint32_t vertex = 0; vertex < job->graph->vertex_count; vertex++)
        for (uint32_t subtask = 0; subtask < job->graph->vertices[vertex].parallelism; subtask++)
            vec_push(&job->tasks, ((struct local_task){
                                      .execution = heap_printf("%s_%u_0", id_format(job->graph->vertices[vertex].id).hex, subtask),
                                      .vertex = vertex,
                                      .subtask = subtask,
                                      .state = heap_strdup("CREATED"),
                                  }));
}

/* Subtasks are dealt out so that neighbours of different vertices are apart as often as together. */
static uint32_t task_runner_index(const struct local_job *job, const struct local_task *task)
{
    return (task->subtask + task->vertex) % job->runner_count;
}

static json_t *deploy_json(struct local_job *job, uint32_t runner)
{
    json_t *tasks = json_array(), *peers = json_object();
    for (size_t i = 0; i < job->tasks.count; i++) {
        struct local_task *task = &job->tasks.items[i];
        uint32_t index = task_runner_index(job, task);
        char *key = heap_printf("%s_%u", id_format(job->graph->vertices[task->vertex].id).hex, task->subtask);
        json_object_set_new(peers, key, json_pack("{s:s,s:s,s:i}", "tm", job->runners[index].id, "host", "127.0.0.1", "data_port",
                                                  (int)job->runners[index].port));
        free(key);
        if (index == runner)
            json_array_append_new(tasks, task_json(job, task->vertex, task->subtask, task->execution));
    }
    json_t *deploy = json_object();
    json_object_set_new(deploy, "graph", job_graph_to_json(job->graph));
    json_object_set_new(deploy, "config", json_object());
    json_object_set_new(deploy, "peers", peers);
    json_object_set_new(deploy, "tasks", tasks);
    if (job->options.library_path != NULL)
        json_object_set_new(deploy, "library_path", json_string(job->options.library_path));
    return deploy;
}

static struct error *read_restore(struct local_job *job)
{
    if (job->options.restore_directory == NULL)
        return NULL;
    char *path = heap_printf("%s/%s", job->options.restore_directory, RESTORE_FILE);
    job->restore = json_load_file(path, 0, NULL);
    struct error *err = job->restore == NULL ? error_new(NOT_FOUND, "there is no %s", path) : NULL;
    free(path);
    return err;
}

struct error *local_job_start(const struct job_graph *graph, const struct local_job_options *options, struct local_job **out)
{
    signal(SIGPIPE, SIG_IGN); /* as every daemon does */
    struct local_job *job = heap_new(struct local_job);
    job->options = *options;
    job->graph = job_graph_copy(graph);
    job->next_checkpoint_id = 1;
    pthread_mutex_init(&job->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&job->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    struct error *err = NULL;
    if (id_is_zero(job->graph->job_id))
        job->graph->job_id = id_random();
    if (job->graph->vertex_count == 0) {
        job_graph_set_parallelism(job->graph, 1);
        err = job_graph_chain(job->graph);
    }
    if (err == NULL)
        err = read_restore(job);
    if (err != NULL) {
        local_job_destroy(job);
        return err;
    }
    if (job->restore != NULL)
        job->next_checkpoint_id = (uint64_t)json_integer_value(json_object_get(job->restore, "checkpoint")) + 1;
    make_tasks(job);
    job->runner_count = options->taskmanager_count > 1 ? options->taskmanager_count : 1;
    job->runners = heap_alloc_array(job->runner_count, sizeof *job->runners);
    check(pthread_create(&job->thread, NULL, job_thread, job) == 0);
    pthread_mutex_lock(&job->lock);
    while (!job->is_started)
        pthread_cond_wait(&job->changed, &job->lock);
    pthread_mutex_unlock(&job->lock);
    for (uint32_t i = 0; i < job->runner_count; i++)
        job_send_to(job, i, MESSAGE_DEPLOY, deploy_json(job, i));
    *out = job;
    return NULL;
}

/* ---- waiting ---- */

static struct timespec deadline_in(int64_t timeout_ms)
{
    int64_t at = clock_mono_ns() + timeout_ms * 1000000;
    return (struct timespec){.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000};
}

static struct error *failure_copy(const struct local_job *job)
{
    json_t *json = message_error_to_json(job->failure);
    struct error *err = message_error_from_json(json);
    json_decref(json);
    return err;
}

/* Until is_there says so; with the lock held. */
static struct error *job_wait_until(struct local_job *job, bool (*is_there)(const struct local_job *job), const char *what, int64_t timeout_ms)
{
    struct timespec deadline = deadline_in(timeout_ms);
    while (!is_there(job))
        if (pthread_cond_timedwait(&job->changed, &job->lock, &deadline) != 0 && !is_there(job))
            return error_new(TIMEOUT, "%s took longer than %" PRId64 " ms", what, timeout_ms);
    return NULL;
}

static bool all_have_ended(const struct local_job *job)
{
    return job->ended_count == job->tasks.count;
}

static bool all_are_running(const struct local_job *job)
{
    if (job->failure != NULL)
        return true;
    for (size_t i = 0; i < job->tasks.count; i++)
        if (strcmp(job->tasks.items[i].state, "RUNNING") != 0 && !job->tasks.items[i].is_ended)
            return false;
    return true;
}

static bool all_have_acked(const struct local_job *job)
{
    bool is_awaiting = false;
    for (size_t i = 0; i < job->tasks.count; i++)
        is_awaiting = is_awaiting || job->tasks.items[i].is_awaited;
    return job->checkpoint.err != NULL || job->failure != NULL || !is_awaiting;
}

struct error *local_job_wait(struct local_job *job, int64_t timeout_ms)
{
    pthread_mutex_lock(&job->lock);
    struct error *err = job_wait_until(job, all_have_ended, "the end of the job", timeout_ms);
    if (err == NULL && job->failure != NULL)
        err = failure_copy(job);
    pthread_mutex_unlock(&job->lock);
    return err;
}

struct error *local_job_wait_running(struct local_job *job, int64_t timeout_ms)
{
    pthread_mutex_lock(&job->lock);
    struct error *err = job_wait_until(job, all_are_running, "the start of the job", timeout_ms);
    if (err == NULL && job->failure != NULL)
        err = failure_copy(job);
    pthread_mutex_unlock(&job->lock);
    return err;
}

/* ---- checkpoints ---- */

static bool vertex_subtask_is_ended(const struct local_job *job, uint32_t vertex, uint32_t subtask)
{
    for (size_t i = 0; i < job->tasks.count; i++)
        if (job->tasks.items[i].vertex == vertex && job->tasks.items[i].subtask == subtask)
            return job->tasks.items[i].is_ended;
    check(false && "no such subtask");
    return false;
}

/* Somebody sends it a barrier: a producer that reaches it has not ended. */
static bool has_live_producer(const struct local_job *job, const struct local_task *task)
{
    const struct job_graph *graph = job->graph;
    bool has_one = false;
    struct vertex_edge *edges;
    uint32_t count = job_graph_vertex_inputs(graph, task->vertex, &edges);
    for (uint32_t e = 0; e < count; e++) {
        uint32_t producer_vertex = graph->operators[edges[e].source_operator].vertex;
        const struct job_edge *edge = &graph->operators[edges[e].target_operator].inputs[edges[e].edge];
        uint32_t first, last;
        edge_producers(edge->partitioning, graph->vertices[producer_vertex].parallelism, graph->vertices[task->vertex].parallelism,
                       task->subtask, &first, &last);
        for (uint32_t producer = first; producer <= last; producer++)
            has_one = has_one || !vertex_subtask_is_ended(job, producer_vertex, producer);
    }
    free(edges);
    return has_one;
}

/* The tasks that begin: sources, and those all of whose producers have ended. From all that live an answer is awaited. */
static json_t *starting_executions(struct local_job *job)
{
    json_t *executions = json_array();
    for (size_t i = 0; i < job->tasks.count; i++) {
        struct local_task *task = &job->tasks.items[i];
        task->is_awaited = !task->is_ended;
        if (!task->is_ended && !has_live_producer(job, task))
            json_array_append_new(executions, json_string(task->execution));
    }
    return executions;
}

static struct error *write_restore(struct local_job *job, const char *directory)
{
    TRY(fs_make_directories(directory));
    char *path = heap_printf("%s/%s", directory, RESTORE_FILE);
    json_t *json = json_object();
    json_object_set_new(json, "checkpoint", json_integer((json_int_t)job->checkpoint.id));
    json_object_set(json, "handles", job->checkpoint.handles);
    json_object_set(json, "books", job->checkpoint.books);
    struct error *err = json_dump_file(json, path, JSON_INDENT(1)) != 0 ? error_new(IO, "could not write %s", path) : NULL;
    json_decref(json);
    free(path);
    return err;
}

static void checkpoint_finish(struct local_checkpoint *checkpoint)
{
    json_decref(checkpoint->handles);
    json_decref(checkpoint->books);
    error_free(checkpoint->err);
    *checkpoint = (struct local_checkpoint){0};
}

/* What the tasks hear after their acks. */
enum checkpoint_end { END_COMPLETED, END_ABORTED, END_UNHEARD };

static struct error *take_checkpoint(struct local_job *job, const char *directory, const char *kind, enum checkpoint_end end, int64_t timeout_ms)
{
    TRY(local_job_wait_running(job, timeout_ms));
    pthread_mutex_lock(&job->lock);
    uint64_t id = job->next_checkpoint_id++;
    job->checkpoint = (struct local_checkpoint){.id = id, .handles = json_object(), .books = json_object()};
    json_t *executions = starting_executions(job);
    pthread_mutex_unlock(&job->lock);
    job_send(job, MESSAGE_TRIGGER_CHECKPOINT,
             json_pack("{s:I,s:I,s:s,s:s,s:o}", "checkpoint", (json_int_t)id, "timestamp", (json_int_t)clock_now_ms(), "directory",
                       directory, "kind", kind,
                       "executions", executions));
    pthread_mutex_lock(&job->lock);
    struct error *err = job_wait_until(job, all_have_acked, "a checkpoint", timeout_ms);
    if (err == NULL && job->failure != NULL)
        err = failure_copy(job);
    if (err == NULL && job->checkpoint.err != NULL) {
        err = job->checkpoint.err;
        job->checkpoint.err = NULL;
    }
    if (err == NULL)
        err = write_restore(job, directory);
    checkpoint_finish(&job->checkpoint);
    pthread_mutex_unlock(&job->lock);
    if (err != NULL || end != END_UNHEARD)
        job_send(job, err == NULL && end == END_COMPLETED ? MESSAGE_CHECKPOINT_COMPLETE : MESSAGE_CHECKPOINT_ABORTED,
                 json_pack("{s:I}", "checkpoint", (json_int_t)id));
    return err;
}

struct error *local_job_checkpoint(struct local_job *job, const char *directory, const char *kind, int64_t timeout_ms)
{
    return take_checkpoint(job, directory, kind, END_COMPLETED, timeout_ms);
}

struct error *local_job_checkpoint_abort(struct local_job *job, const char *directory, int64_t timeout_ms)
{
    return take_checkpoint(job, directory, "checkpoint", END_ABORTED, timeout_ms);
}

struct error *local_job_checkpoint_unheard(struct local_job *job, const char *directory, int64_t timeout_ms)
{
    return take_checkpoint(job, directory, "checkpoint", END_UNHEARD, timeout_ms);
}

struct error *local_job_wait_with(struct local_job *job, const char *directory, int64_t interval_ms, int64_t timeout_ms)
{
    int64_t give_up_at_ms = clock_mono_ms() + timeout_ms;
    for (;;) {
        struct error *err = local_job_wait(job, interval_ms);
        if (err == NULL || err->code != ERR_TIMEOUT || clock_mono_ms() >= give_up_at_ms)
            return err;
        error_free(err);
        char *path = heap_printf("%s/chk-%" PRIu64, directory, job->next_checkpoint_id);
        err = local_job_checkpoint(job, path, "checkpoint", give_up_at_ms - clock_mono_ms());
        free(path);
        if (err != NULL && err->code != ERR_CONFLICT) /* a task ended meanwhile: the next one does without it */
            return err;
        error_free(err);
    }
}

/* ---- asking ---- */

void local_job_cancel(struct local_job *job)
{
    job_send(job, MESSAGE_CANCEL, json_pack("{s:s}", "mode", "graceful"));
}

static void call_refresh(struct local_job *job, void *argument)
{
    (void)argument;
    each_live_task(job, task_refresh_metrics);
}

static void call_metrics(struct local_job *job, void *argument)
{
    json_t *tasks = argument;
    for (uint32_t i = 0; i < job->runner_count; i++) {
        json_t *metrics = task_runner_metrics(job->runners[i].runner);
        json_array_extend(tasks, json_object_get(metrics, "tasks"));
        json_decref(metrics);
    }
}

json_t *local_job_metrics(struct local_job *job)
{
    json_t *tasks = json_array();
    job_call(job, call_refresh, NULL);
    /* Tasks publish between two batches: give running ones a moment. */
    struct timespec moment = {.tv_nsec = 20000000};
    pthread_mutex_lock(&job->lock);
    bool is_over = all_have_ended(job);
    pthread_mutex_unlock(&job->lock);
    if (!is_over)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
    job_call(job, call_metrics, tasks);
    return tasks;
}

static void add_numbers(json_t *sum, json_t *books)
{
    const char *name;
    json_t *value;
    json_object_foreach(books, name, value) {
        json_t *before = json_object_get(sum, name);
        if (before == NULL)
            json_object_set_new(sum, name, json_deep_copy(value));
        else if (json_is_integer(value))
            json_object_set_new(sum, name, json_integer((json_int_t)((uint64_t)json_integer_value(before) + (uint64_t)json_integer_value(value))));
        else if (json_is_array(value))
            for (size_t i = 0; i < json_array_size(value); i++) {
                json_t *item = json_array_get(value, i);
                json_t *old = json_array_get(before, i);
                if (json_is_integer(item) && old != NULL)
                    json_array_set_new(before, i, json_integer(json_integer_value(old) + json_integer_value(item)));
                else
                    json_array_append(before, item);
            }
    }
}

json_t *local_job_books(struct local_job *job)
{
    json_t *result = json_object();
    json_t *tasks = local_job_metrics(job);
    size_t i, j;
    json_t *task, *operator;
    json_array_foreach(tasks, i, task) {
        json_array_foreach(json_object_get(task, "operators"), j, operator) {
            const char *name = json_string_value(json_object_get(operator, "name"));
            if (json_object_get(result, name) == NULL)
                json_object_set_new(result, name, json_object());
            add_numbers(json_object_get(result, name), json_object_get(operator, "books"));
        }
    }
    json_decref(tasks);
    return result;
}

/* ---- the end ---- */

static void call_close(struct local_job *job, void *argument)
{
    (void)argument;
    for (uint32_t i = 0; i < job->runner_count; i++) {
        rpc_server_close(job->runners[i].server);
        job->runners[i].server = NULL;
        task_runner_close(job->runners[i].runner, NULL, NULL);
    }
}

static void call_cut(struct local_job *job, void *argument)
{
    uint32_t *index = argument;
    for (size_t i = 0; i < job->runners[*index].sockets.count; i++)
        shutdown(job->runners[*index].sockets.items[i], SHUT_RDWR);
}

void local_job_cut_connections(struct local_job *job, uint32_t index)
{
    job_call(job, call_cut, &index);
}

static void on_mailbox_close(void *argument, bool is_closed)
{
    struct local_job *job = argument;
    if (!is_closed)
        mailbox_close(job->mailbox);
}

void local_job_destroy(struct local_job *job)
{
    if (job == NULL)
        return;
    if (job->is_started) {
        job_call(job, call_close, NULL);
        mailbox_post(job->mailbox, on_mailbox_close, job);
        check(pthread_join(job->thread, NULL) == 0);
    }
    for (uint32_t i = 0; i < job->runner_count && job->runners != NULL; i++) {
        for (size_t j = 0; j < job->runners[i].sockets.count; j++)
            close(job->runners[i].sockets.items[j]);
        vec_finish(&job->runners[i].sockets);
    }
    free(job->runners);
    for (size_t i = 0; i < job->tasks.count; i++) {
        free(job->tasks.items[i].execution);
        free(job->tasks.items[i].state);
    }
    vec_finish(&job->tasks);
    error_free(job->failure);
    json_decref(job->restore);
    job_graph_destroy(job->graph);
    pthread_cond_destroy(&job->changed);
    pthread_mutex_destroy(&job->lock);
    free(job);
}
