/* The cluster in one process (mini_cluster.h): start and end of its daemons, jobs as REST would submit them, waiting.
 * Thread: the caller's, which owns the loop. */
#include "tests/support/mini_cluster.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/vec.h"
#include "common/fs/fs.h"
#include "common/loop/loop.h"
#include "jobmanager/checkpoint_files.h"
#include "taskmanager/agent/agent.h"
#include "taskmanager/task/user_library.h"
#include "tests/support/mini_relay.h"
#include "tests/support/mini_runner.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { PULSE_MS = 2, START_MS = 30000, STOP_MS = 30000, READ_MS = 30000 };

struct mini_taskmanager {
    struct config *config;
    struct mini_relay *relay;
    struct agent *agent; /* NULL: killed, or stopped */
};

struct mini_cluster {
    uv_loop_t loop;
    struct loop_timer *pulse; /* conditions are looked at again at least this often */
    char *directory;
    json_t *config;
    struct jobmanager *jobmanager;
    bool is_jobmanager_stopped;
    VEC(struct mini_taskmanager *) taskmanagers;
    struct mini_runners runners;
    struct agent_runner_host host;
};

/* ---- waiting ---- */

static void on_pulse(void *argument)
{
    (void)argument;
}

bool mini_cluster_wait(struct mini_cluster *cluster, bool (*is_there)(const struct mini_cluster *cluster, const void *argument),
                       const void *argument, int64_t timeout_ms)
{
    int64_t give_up_at_ms = clock_mono_ms() + timeout_ms;
    while (!is_there(cluster, argument)) {
        if (clock_mono_ms() >= give_up_at_ms)
            return false;
        uv_run(&cluster->loop, UV_RUN_ONCE);
    }
    return true;
}

struct job_wait {
    struct id job;
    enum job_state state;
    uint64_t count;
};

static bool is_in_state(const struct mini_cluster *cluster, const void *argument)
{
    const struct job_wait *wait = argument;
    const struct job *job = mini_cluster_job(cluster, wait->job);
    return job != NULL && job->state == wait->state;
}

bool mini_cluster_wait_state(struct mini_cluster *cluster, struct id job, enum job_state state, int64_t timeout_ms)
{
    return mini_cluster_wait(cluster, is_in_state, &(struct job_wait){.job = job, .state = state}, timeout_ms);
}

static bool is_running(const struct mini_cluster *cluster, const void *argument)
{
    const struct job_wait *wait = argument;
    const struct job *job = mini_cluster_job(cluster, wait->job);
    return job != NULL && job->state == JOB_RUNNING && job->state_counts[EXECUTION_RUNNING] == job->task_count;
}

bool mini_cluster_wait_running(struct mini_cluster *cluster, struct id job, int64_t timeout_ms)
{
    return mini_cluster_wait(cluster, is_running, &(struct job_wait){.job = job}, timeout_ms);
}

static bool has_completed(const struct mini_cluster *cluster, const void *argument)
{
    const struct job_wait *wait = argument;
    const struct job *job = mini_cluster_job(cluster, wait->job);
    return job != NULL && job->checkpoints.counts.completed >= wait->count;
}

bool mini_cluster_wait_completed(struct mini_cluster *cluster, struct id job, uint64_t count, int64_t timeout_ms)
{
    return mini_cluster_wait(cluster, has_completed, &(struct job_wait){.job = job, .count = count}, timeout_ms);
}

static bool has_failed(const struct mini_cluster *cluster, const void *argument)
{
    const struct job_wait *wait = argument;
    const struct job *job = mini_cluster_job(cluster, wait->job);
    return job != NULL && job->checkpoints.counts.failed >= wait->count;
}

bool mini_cluster_wait_failed_checkpoints(struct mini_cluster *cluster, struct id job, uint64_t count, int64_t timeout_ms)
{
    return mini_cluster_wait(cluster, has_failed, &(struct job_wait){.job = job, .count = count}, timeout_ms);
}

static bool has_taskmanagers(const struct mini_cluster *cluster, const void *argument)
{
    return cluster->jobmanager->coordinator->taskmanagers.count == *(const uint32_t *)argument;
}

bool mini_cluster_wait_taskmanagers(struct mini_cluster *cluster, uint32_t count, int64_t timeout_ms)
{
    return mini_cluster_wait(cluster, has_taskmanagers, &count, timeout_ms);
}

static bool is_quiet(const struct mini_cluster *cluster, const void *argument)
{
    (void)argument;
    for (size_t i = 0; i < cluster->taskmanagers.count; i++)
        if (cluster->taskmanagers.items[i]->agent != NULL && agent_runner_count(cluster->taskmanagers.items[i]->agent) > 0)
            return false;
    return cluster->runners.count == 0;
}

bool mini_cluster_wait_quiet(struct mini_cluster *cluster, int64_t timeout_ms)
{
    return mini_cluster_wait(cluster, is_quiet, NULL, timeout_ms);
}

/* ---- taskmanagers ---- */

static struct error *make_config(const struct mini_cluster *cluster, struct config **out)
{
    struct config *config = config_create_over(NULL);
    struct error *err = config_set(config, "io.tmp.dirs", cluster->directory, "mini cluster");
    if (err == NULL)
        err = config_set_json(config, cluster->config, "mini cluster");
    if (err != NULL) {
        config_destroy(config);
        return err;
    }
    *out = config;
    return NULL;
}

static struct error *set_number(struct config *config, const char *key, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    return config_set(config, key, text, "mini cluster");
}

static void on_agent_stopped(void *context)
{
    struct mini_taskmanager *taskmanager = context;
    taskmanager->agent = NULL;
}

static struct error *start_agent(struct mini_cluster *cluster, struct mini_taskmanager *taskmanager, uint32_t slot_count)
{
    TRY(make_config(cluster, &taskmanager->config));
    TRY(mini_relay_create(&cluster->loop, cluster->jobmanager->rpc_port, &taskmanager->relay));
    TRY(config_set(taskmanager->config, "jobmanager.rpc.address", "127.0.0.1", "mini cluster"));
    TRY(config_set(taskmanager->config, "taskmanager.bind-host", "127.0.0.1", "mini cluster"));
    TRY(config_set(taskmanager->config, "metrics.reporters", "", "mini cluster"));
    TRY(set_number(taskmanager->config, "jobmanager.rpc.port", mini_relay_port(taskmanager->relay)));
    TRY(set_number(taskmanager->config, "taskmanager.numberOfTaskSlots", slot_count));
    struct agent_options options = {
        .loop = &cluster->loop,
        .config = taskmanager->config,
        .runner_host = &cluster->host,
        .on_stopped = on_agent_stopped,
        .context = taskmanager,
    };
    return agent_start(&options, &taskmanager->agent);
}

static bool is_registered(const struct mini_cluster *cluster, const void *argument)
{
    const struct mini_taskmanager *taskmanager = argument;
    (void)cluster;
    return agent_is_registered(taskmanager->agent);
}

struct error *mini_cluster_add_taskmanager(struct mini_cluster *cluster, uint32_t slot_count, uint32_t *index)
{
    struct mini_taskmanager *taskmanager = heap_new(struct mini_taskmanager);
    vec_push(&cluster->taskmanagers, taskmanager);
    TRY(start_agent(cluster, taskmanager, slot_count));
    if (!mini_cluster_wait(cluster, is_registered, taskmanager, START_MS))
        return error_new(TIMEOUT, "taskmanager %zu did not register", cluster->taskmanagers.count - 1);
    if (index != NULL)
        *index = (uint32_t)cluster->taskmanagers.count - 1;
    return NULL;
}

static struct mini_taskmanager *taskmanager_at(const struct mini_cluster *cluster, uint32_t index)
{
    check(index < cluster->taskmanagers.count);
    return cluster->taskmanagers.items[index];
}

static bool is_stopped(const struct mini_cluster *cluster, const void *argument)
{
    (void)cluster;
    return ((const struct mini_taskmanager *)argument)->agent == NULL;
}

void mini_cluster_kill(struct mini_cluster *cluster, uint32_t index)
{
    struct mini_taskmanager *taskmanager = taskmanager_at(cluster, index);
    /* Cut first: nothing that the agent says on its way out may arrive. Its runners are killed by agent_stop. */
    mini_relay_cut(taskmanager->relay);
    agent_stop(taskmanager->agent, "killed");
    mini_relay_close(taskmanager->relay);
    taskmanager->relay = NULL;
    bool is_gone = mini_cluster_wait(cluster, is_stopped, taskmanager, STOP_MS);
    check(is_gone);
}

void mini_cluster_cut(struct mini_cluster *cluster, uint32_t index)
{
    mini_relay_cut(taskmanager_at(cluster, index)->relay);
}

void mini_cluster_heal(struct mini_cluster *cluster, uint32_t index)
{
    mini_relay_heal(taskmanager_at(cluster, index)->relay);
}

struct agent *mini_cluster_agent(const struct mini_cluster *cluster, uint32_t index)
{
    return taskmanager_at(cluster, index)->agent;
}

uint32_t mini_cluster_slot_owner(const struct mini_cluster *cluster, struct id id, uint32_t slot)
{
    const struct job *job = mini_cluster_job(cluster, id);
    if (job == NULL || slot >= job->slot_count || job->slots[slot].taskmanager == NULL)
        return UINT32_MAX;
    for (uint32_t i = 0; i < cluster->taskmanagers.count; i++) {
        const struct agent *agent = cluster->taskmanagers.items[i]->agent;
        if (agent != NULL && strcmp(agent_id(agent), job->slots[slot].taskmanager->id) == 0)
            return i;
    }
    return UINT32_MAX;
}

uint32_t mini_cluster_runner_count(const struct mini_cluster *cluster)
{
    return cluster->runners.count;
}

/* ---- start and end ---- */

static struct error *start_jobmanager(struct mini_cluster *cluster)
{
    static const char *const settings[][2] = {
        {"rest.port", "0"},
        {"rest.bind-address", "127.0.0.1"},
        {"jobmanager.rpc.port", "0"},
        {"jobmanager.bind-host", "127.0.0.1"},
        {"metrics.reporters", ""},
    };
    struct config *config;
    TRY(make_config(cluster, &config));
    struct error *err = NULL;
    for (size_t i = 0; i < sizeof settings / sizeof *settings && err == NULL; i++)
        err = config_set(config, settings[i][0], settings[i][1], "mini cluster");
    if (err != NULL) {
        config_destroy(config);
        return err;
    }
    return jobmanager_create(&cluster->loop, config, &cluster->jobmanager);
}

static struct error *start_all(struct mini_cluster *cluster, const struct mini_cluster_options *options)
{
    char name[] = "/tmp/millrace-mini-XXXXXX";
    if (mkdtemp(name) == NULL)
        return error_errno(errno, "could not make a directory for the mini cluster");
    cluster->directory = heap_strdup(name);
    TRY(user_library_open_program(&cluster->runners.library));
    TRY(start_jobmanager(cluster));
    for (uint32_t i = 0; i < options->taskmanager_count; i++)
        TRY(mini_cluster_add_taskmanager(cluster, options->slot_count, NULL));
    return NULL;
}

struct error *mini_cluster_start(const struct mini_cluster_options *options, struct mini_cluster **out)
{
    struct mini_cluster *cluster = heap_new(struct mini_cluster);
    signal(SIGPIPE, SIG_IGN); /* as every daemon does */
    log_set_level(getenv("MINI_CLUSTER_LOG") != NULL ? LOG_INFO : LOG_OFF);
    check(uv_loop_init(&cluster->loop) == 0);
    loop_own(&cluster->loop);
    cluster->pulse = loop_timer_start(&cluster->loop, PULSE_MS, PULSE_MS, on_pulse, NULL);
    cluster->config = options->config != NULL ? json_deep_copy(options->config) : json_object();
    cluster->runners.loop = &cluster->loop;
    cluster->host = mini_runner_host(&cluster->runners);
    struct error *err = start_all(cluster, options);
    if (err != NULL) {
        mini_cluster_stop(cluster);
        return err;
    }
    *out = cluster;
    return NULL;
}

static bool are_agents_stopped(const struct mini_cluster *cluster, const void *argument)
{
    (void)argument;
    for (size_t i = 0; i < cluster->taskmanagers.count; i++)
        if (cluster->taskmanagers.items[i]->agent != NULL)
            return false;
    return true;
}

static void stop_taskmanagers(struct mini_cluster *cluster)
{
    for (size_t i = 0; i < cluster->taskmanagers.count; i++)
        if (cluster->taskmanagers.items[i]->agent != NULL)
            agent_stop(cluster->taskmanagers.items[i]->agent, "the test ends");
    bool is_gone = mini_cluster_wait(cluster, are_agents_stopped, NULL, STOP_MS);
    check(is_gone);
    for (size_t i = 0; i < cluster->taskmanagers.count; i++) {
        mini_relay_close(cluster->taskmanagers.items[i]->relay);
        config_destroy(cluster->taskmanagers.items[i]->config);
        free(cluster->taskmanagers.items[i]);
    }
    vec_finish(&cluster->taskmanagers);
}

static struct mini_cluster *stopping; /* jobmanager_stop passes no context */

static void on_jobmanager_stopped(struct jobmanager *jobmanager)
{
    (void)jobmanager;
    stopping->is_jobmanager_stopped = true;
}

static bool is_jobmanager_stopped(const struct mini_cluster *cluster, const void *argument)
{
    (void)argument;
    return cluster->is_jobmanager_stopped;
}

void mini_cluster_stop(struct mini_cluster *cluster)
{
    if (cluster == NULL)
        return;
    stop_taskmanagers(cluster);
    check(cluster->runners.count == 0);
    if (cluster->jobmanager != NULL) {
        stopping = cluster;
        jobmanager_stop(cluster->jobmanager, on_jobmanager_stopped);
        bool is_gone = mini_cluster_wait(cluster, is_jobmanager_stopped, NULL, STOP_MS);
        check(is_gone);
    }
    loop_timer_stop(&cluster->pulse);
    uv_run(&cluster->loop, UV_RUN_DEFAULT); /* ends only when no handle is left */
    jobmanager_destroy(cluster->jobmanager);
    user_library_close(cluster->runners.library);
    loop_finish(&cluster->loop);
    struct error *err = cluster->directory != NULL ? fs_remove_tree(cluster->directory) : NULL;
    check(err == NULL);
    json_decref(cluster->config);
    free(cluster->directory);
    free(cluster);
}

/* ---- jobs ---- */

struct submission {
    struct jobmanager *jobmanager;
    struct job_graph *graph;
    const char *savepoint;
    bool is_done;
};

static void submit(struct submission *submission, const char *directory, const json_t *metadata, const struct error *err)
{
    struct event event = {.kind = EVENT_JOB_SUBMITTED,
                          .job_submitted = {.graph = submission->graph,
                                            .savepoint_path = directory,
                                            .savepoint_metadata = metadata,
                                            .savepoint_error = err}};
    jobmanager_handle(submission->jobmanager, &event);
    submission->is_done = true;
}

static void on_savepoint(json_t *metadata, const char *directory, struct error *err, void *argument)
{
    struct submission *submission = argument;
    submit(submission, directory != NULL ? directory : submission->savepoint, metadata, err);
    json_decref(metadata);
    error_free(err);
}

static bool is_submitted(const struct mini_cluster *cluster, const void *argument)
{
    (void)cluster;
    return ((const struct submission *)argument)->is_done;
}

struct error *mini_cluster_submit(struct mini_cluster *cluster, const json_t *json, uint32_t parallelism, const char *savepoint, struct id *job)
{
    struct submission submission = {.jobmanager = cluster->jobmanager, .savepoint = savepoint};
    TRY(job_graph_from_json(json, &submission.graph));
    if (id_is_zero(submission.graph->job_id))
        submission.graph->job_id = id_random();
    *job = submission.graph->job_id;
    job_graph_set_parallelism(submission.graph, parallelism);
    struct error *err = job_graph_chain(submission.graph);
    if (err != NULL) {
        job_graph_destroy(submission.graph);
        return err;
    }
    if (savepoint == NULL) {
        submit(&submission, NULL, NULL, NULL);
        return NULL;
    }
    checkpoint_files_read(cluster->jobmanager, savepoint, on_savepoint, &submission);
    bool is_read = mini_cluster_wait(cluster, is_submitted, &submission, READ_MS);
    check(is_read); /* the submission lies on this stack */
    return NULL;
}

void mini_cluster_cancel(struct mini_cluster *cluster, struct id job)
{
    struct event event = {.kind = EVENT_JOB_CANCEL, .job_cancel = {.job = job}};
    jobmanager_handle(cluster->jobmanager, &event);
}

static bool is_answered(const struct mini_cluster *cluster, const void *argument)
{
    const struct operation *operation = operations_find(&cluster->jobmanager->operations, *(const struct id *)argument);
    return operation != NULL && operation->finished_ms >= 0;
}

struct error *mini_cluster_trigger(struct mini_cluster *cluster, struct id job, enum checkpoint_kind kind, const char *directory,
                                   int64_t timeout_ms, char **location)
{
    struct id trigger = id_random();
    if (directory != NULL)
        TRY(fs_make_directories(directory));
    operations_start(&cluster->jobmanager->operations, trigger, job,
                     kind == CHECKPOINT_KIND_CHECKPOINT ? OPERATION_CHECKPOINT : OPERATION_SAVEPOINT,
                     jobmanager_now_ms(cluster->jobmanager));
    struct event event = {.kind = EVENT_TRIGGER, .trigger = {.job = job, .trigger_id = trigger, .kind = kind, .directory = directory}};
    jobmanager_handle(cluster->jobmanager, &event);
    if (!mini_cluster_wait(cluster, is_answered, &trigger, timeout_ms))
        return error_new(TIMEOUT, "the %s was not done within %" PRId64 " ms", checkpoint_kind_name(kind), timeout_ms);
    const struct operation *operation = operations_find(&cluster->jobmanager->operations, trigger);
    if (operation->error_class != NULL)
        return error_new(IO, "%s", operation->error_lines != NULL ? operation->error_lines : operation->error_class);
    if (location != NULL)
        *location = operation->location != NULL ? heap_strdup(operation->location) : NULL;
    return NULL;
}

const struct job *mini_cluster_job(const struct mini_cluster *cluster, struct id job)
{
    return coordinator_job(cluster->jobmanager->coordinator, job);
}

const json_t *mini_cluster_books(const struct mini_cluster *cluster, struct id id)
{
    const struct job *job = mini_cluster_job(cluster, id);
    const struct checkpoint *latest = NULL;
    if (job == NULL)
        return NULL;
    latest = job->checkpoints.latest_completed;
    if (latest == NULL || (job->checkpoints.latest_savepoint != NULL && job->checkpoints.latest_savepoint->id > latest->id))
        latest = job->checkpoints.latest_savepoint;
    return latest != NULL ? latest->books : NULL;
}

struct jobmanager *mini_cluster_jobmanager(const struct mini_cluster *cluster)
{
    return cluster->jobmanager;
}

const char *mini_cluster_directory(const struct mini_cluster *cluster)
{
    return cluster->directory;
}
