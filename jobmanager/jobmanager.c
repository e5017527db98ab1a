/* Start, event pump, timers and end of the jobmanager (jobmanager.h). Thread: the loop. */
#include "jobmanager/jobmanager.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/fs/fs.h"
#include "common/loop/loop.h"
#include "common/loop/worker.h"
#include "common/metrics/system_metrics.h"
#include "jobmanager/checkpoint_files.h"
#include "jobmanager/compile.h"
#include "jobmanager/prometheus.h"
#include "jobmanager/rest/pages.h"
#include "jobmanager/rest/rest_server.h"
#include "jobmanager/taskmanager_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOGGER "StandaloneSessionClusterEntrypoint"
#define LINKS_CLOSE_MS 1500

/* ---- time ---- */

int64_t jobmanager_now_ms(const struct jobmanager *jobmanager)
{
    return jobmanager->clock_base_ms + clock_mono_ms();
}

static void on_tick(uv_timer_t *timer);

static void arm_tick(struct jobmanager *jobmanager)
{
    int64_t deadline = coordinator_next_deadline_ms(jobmanager->coordinator);
    if (deadline == jobmanager->tick_at_ms || jobmanager->is_stopping) /* the timer waits for the end then: jobmanager_stop */
        return;
    jobmanager->tick_at_ms = deadline;
    if (deadline == INT64_MAX) {
        uv_timer_stop(&jobmanager->tick);
        return;
    }
    int64_t delay = deadline - jobmanager_now_ms(jobmanager);
    uv_update_time(jobmanager->loop);
    uv_timer_start(&jobmanager->tick, on_tick, delay > 0 ? (uint64_t)delay : 0, 0);
}

static void on_tick(uv_timer_t *timer)
{
    struct jobmanager *jobmanager = timer->data;
    jobmanager->tick_at_ms = -1;
    struct event event = {.kind = EVENT_TICK};
    jobmanager_handle(jobmanager, &event);
}

/* ---- actions ---- */

struct job_shell *jobmanager_job_shell(struct job *job)
{
    struct job_shell *shell = job->shell;
    if (shell == NULL) {
        shell = heap_new(struct job_shell);
        job->shell = shell;
    }
    if (shell->graph == NULL)
        shell->graph = job_graph_to_json(job->graph);
    return shell;
}

static void release_library(struct jobmanager *jobmanager, struct job_shell *shell)
{
    if (shell == NULL || shell->library_sha256 == NULL)
        return;
    program_store_release(jobmanager->programs, shell->library_sha256);
    free(shell->library_sha256);
    shell->library_sha256 = NULL;
}

static void job_shell_destroy(struct jobmanager *jobmanager, struct job *job)
{
    struct job_shell *shell = job->shell;
    if (shell == NULL)
        return;
    release_library(jobmanager, shell);
    json_decref(shell->graph);
    free(shell);
    job->shell = NULL;
}

static void on_job_state(struct jobmanager *jobmanager, const struct action *action)
{
    struct job *job = coordinator_job(jobmanager->coordinator, action->job);
    if (job == NULL || job->shell == NULL || !job_state_is_terminal(action->job_state.state))
        return;
    struct job_shell *shell = job->shell;
    release_library(jobmanager, shell);
    json_decref(shell->graph);
    shell->graph = NULL;
}

static void on_request_finished(struct jobmanager *jobmanager, const struct action *action)
{
    struct operation *operation = operations_find(&jobmanager->operations, action->finished.trigger_id);
    if (operation == NULL)
        return;
    char *lines = NULL;
    const char *class = action->finished.error_class;
    if (action->finished.error != NULL) {
        char *causes = rest_error_lines(action->finished.error);
        lines = heap_printf("%s: %s", class != NULL ? class : EX_FLINK, causes);
        free(causes);
    }
    operation_finish(operation, jobmanager_now_ms(jobmanager), action->checkpoint, action->finished.location,
                     action->finished.error == NULL ? NULL : class != NULL ? class : EX_FLINK, lines);
    free(lines);
}

static void run_action(struct jobmanager *jobmanager, struct action *action)
{
    switch (action->kind) {
    case ACTION_LOG:
        log_write(action->log.level, action->log.logger, "%s", action->log.text);
        break;
    case ACTION_TASKMANAGER_ACCEPT:
    case ACTION_TASKMANAGER_CLOSE:
    case ACTION_DEPLOY:
    case ACTION_CANCEL:
    case ACTION_TRIGGER_CHECKPOINT:
    case ACTION_CHECKPOINT_COMPLETE:
    case ACTION_CHECKPOINT_ABORTED:
        taskmanager_link_run(jobmanager, action);
        break;
    case ACTION_WRITE_METADATA:
        checkpoint_files_write(jobmanager, action);
        break;
    case ACTION_DELETE_DIRECTORY:
        checkpoint_files_delete(jobmanager, action);
        break;
    case ACTION_REQUEST_FINISHED:
        on_request_finished(jobmanager, action);
        break;
    case ACTION_JOB_STATE:
        on_job_state(jobmanager, action);
        break;
    case ACTION_JOB_REMOVED:
        job_shell_destroy(jobmanager, action->job_state.borrowed);
        break;
    }
}

void jobmanager_handle(struct jobmanager *jobmanager, const struct event *event)
{
    check_on_loop(jobmanager->loop);
    struct action_list list = {0};
    coordinator_handle(jobmanager->coordinator, event, jobmanager_now_ms(jobmanager), &list);
    for (size_t i = 0; i < list.actions.count; i++)
        run_action(jobmanager, &list.actions.items[i]);
    action_list_finish(&list);
    arm_tick(jobmanager);
}

/* ---- pool work ---- */

struct counted_work {
    struct jobmanager *jobmanager;
    struct error *(*work)(void *argument);
    void (*done)(struct error *err, void *argument);
    void *argument;
};

static void maybe_stopped(struct jobmanager *jobmanager);

static struct error *counted_run(void *argument)
{
    struct counted_work *counted = argument;
    return counted->work(counted->argument);
}

static void counted_done(struct error *err, void *argument)
{
    struct counted_work *counted = argument;
    struct jobmanager *jobmanager = counted->jobmanager;
    counted->done(err, counted->argument);
    free(counted);
    jobmanager->work_count--;
    maybe_stopped(jobmanager);
}

void jobmanager_work(struct jobmanager *jobmanager, struct error *(*work)(void *argument),
                     void (*done)(struct error *err, void *argument), void *argument)
{
    struct counted_work *counted = heap_new(struct counted_work);
    *counted = (struct counted_work){jobmanager, work, done, argument};
    jobmanager->work_count++;
    worker_run(jobmanager->loop, counted_run, counted_done, counted);
}

/* ---- start ---- */

static char *self_directory(void)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0)
        return heap_strdup(".");
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        *slash = '\0';
    return heap_strdup(path);
}

static struct error *make_directories(struct jobmanager *jobmanager)
{
    const struct config *config = jobmanager->config;
    const char *web = config_text(config, OPTION_WEB_TMPDIR);
    char *base = web[0] != '\0' ? heap_strdup(web) : work_directory_base(config_text(config, OPTION_IO_TMP_DIRS));
    struct error *failure = work_directory_create(base, "millrace-jm", &jobmanager->tmp);
    free(base);
    TRY(failure);
    if (jobmanager->log_directory == NULL) {
        jobmanager->log_directory = heap_printf("%s/log", jobmanager->tmp.path);
        TRY(fs_make_directories(jobmanager->log_directory));
        TRY(config_open_own_log(config, jobmanager->log_directory, "jobmanager"));
        jobmanager->has_own_log = true;
    }
    config_log_notes(config); /* not before the log that REST shows is open */
    struct id_text hex = id_format(id_random());
    const char *upload = config_text(config, OPTION_WEB_UPLOAD_DIR);
    char *upload_directory = upload[0] != '\0' ? heap_strdup(upload) : heap_printf("%s/flink-web-upload", jobmanager->tmp.path);
    const char *blob = config_text(config, OPTION_BLOB_STORAGE_DIRECTORY);
    char *blob_directory = heap_printf("%s/blobs-%.8s", blob[0] != '\0' ? blob : jobmanager->tmp.path, hex.hex);
    struct error *err = program_store_create(upload_directory, blob_directory, &jobmanager->programs);
    free(upload_directory);
    free(blob_directory);
    return err;
}

/* Without a checkpoint directory there is one that lasts as long as the jobmanager. */
static struct error *default_checkpoint_directory(struct jobmanager *jobmanager)
{
    if (config_text(jobmanager->config, OPTION_CHECKPOINT_DIR)[0] != '\0')
        return NULL;
    char *directory = heap_printf("%s/checkpoints", jobmanager->tmp.path);
    struct error *err = config_set(jobmanager->config, option_key(OPTION_CHECKPOINT_DIR), directory, "default");
    free(directory);
    return err;
}

static struct error *start_core(struct jobmanager *jobmanager)
{
    TRY(default_checkpoint_directory(jobmanager));
    struct id random = id_random();
    uint64_t seed;
    memcpy(&seed, random.bytes, sizeof seed);
    struct coordinator_options options = {.config = jobmanager->config, .seed = seed, .now_ms = jobmanager_now_ms(jobmanager)};
    return coordinator_create(&options, &jobmanager->coordinator);
}

static struct error *start_rpc(struct jobmanager *jobmanager)
{
    const struct config *config = jobmanager->config;
    TRY(rpc_secret_load(config_text(config, OPTION_SECRET_FILE), &jobmanager->secret));
    uint16_t port = (uint16_t)config_int(config, OPTION_JOBMANAGER_RPC_PORT);
    struct rpc_server_options options = {
        .host = config_text(config, OPTION_JOBMANAGER_BIND_HOST),
        .port_first = port,
        .secret = &jobmanager->secret,
        .logger = "RpcServer",
        .on_connection = taskmanager_link_accept,
        .context = jobmanager,
    };
    TRY(rpc_server_create(jobmanager->loop, &options, &jobmanager->rpc_server));
    jobmanager->rpc_port = rpc_server_port(jobmanager->rpc_server);
    return NULL;
}

static struct error *start_rest(struct jobmanager *jobmanager)
{
    const struct config *config = jobmanager->config;
    TRY(pages_create(config, &jobmanager->pages));
    TRY(rest_server_create(jobmanager, jobmanager->loop, &jobmanager->rest));
    const char *host = config_text(config, OPTION_REST_ADDRESS);
    if (host[0] == '\0')
        host = config_text(config, OPTION_JOBMANAGER_RPC_ADDRESS);
    const char *scheme = rest_server_has_tls(jobmanager->rest) ? "https" : "http";
    jobmanager->web_base = heap_printf("%s://%s:%u", scheme, host, rest_server_port(jobmanager->rest));
    log_info("DispatcherRestEndpoint", "Rest endpoint listening at %s:%u", host, rest_server_port(jobmanager->rest));
    return NULL;
}

struct error *jobmanager_create(uv_loop_t *loop, struct config *config, struct jobmanager **out)
{
    struct jobmanager *jobmanager = heap_new(struct jobmanager);
    struct error *err;
    jobmanager->loop = loop;
    jobmanager->config = config;
    jobmanager->clock_base_ms = clock_now_ms() - clock_mono_ms();
    jobmanager->started_ms = jobmanager_now_ms(jobmanager);
    jobmanager->tick_at_ms = -1;
    uv_timer_init(loop, &jobmanager->tick);
    jobmanager->tick.data = jobmanager;
    char *self = self_directory();
    jobmanager->compiler_path = heap_printf("%s/job-compiler", self);
    free(self);
    if (config_text(config, OPTION_LOG_DIR)[0] != '\0')
        jobmanager->log_directory = heap_strdup(config_text(config, OPTION_LOG_DIR));
    TRY_GOTO(fail, make_directories(jobmanager));
    TRY_GOTO(fail, start_core(jobmanager));
    TRY_GOTO(fail, start_rpc(jobmanager));
    TRY_GOTO(fail, start_rest(jobmanager));
    jobmanager->system = system_metrics_configure(config);
    jobmanager->prometheus = jobmanager_prometheus_create(jobmanager);
    arm_tick(jobmanager);
    *out = jobmanager;
    return NULL;
fail:
    rpc_server_close(jobmanager->rpc_server);
    jobmanager->rpc_server = NULL;
    uv_close((uv_handle_t *)&jobmanager->tick, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    jobmanager_destroy(jobmanager);
    return err;
}

/* ---- end ---- */

/* Everything that could still call back is gone. */
static void maybe_stopped(struct jobmanager *jobmanager)
{
    if (!jobmanager->is_stopping || jobmanager->on_stopped == NULL)
        return;
    if (jobmanager->work_count > 0 || jobmanager->links.count > 0 || jobmanager->compiles != NULL)
        return;
    void (*on_stopped)(struct jobmanager *jobmanager) = jobmanager->on_stopped;
    jobmanager->on_stopped = NULL;
    uv_close((uv_handle_t *)&jobmanager->tick, NULL);
    on_stopped(jobmanager);
}

static void on_stop_poll(uv_timer_t *timer)
{
    maybe_stopped(timer->data);
}

void jobmanager_stop(struct jobmanager *jobmanager, void (*on_stopped)(struct jobmanager *jobmanager))
{
    if (jobmanager->is_stopping)
        return;
    jobmanager->is_stopping = true;
    jobmanager->on_stopped = on_stopped;
    log_info(LOGGER, "Shutting the jobmanager down.");
    rpc_server_close(jobmanager->rpc_server);
    jobmanager->rpc_server = NULL;
    compiles_kill(jobmanager);
    taskmanager_links_close(jobmanager);
    rest_server_destroy(jobmanager->rest);
    jobmanager->rest = NULL;
    prometheus_reporter_destroy(jobmanager->prometheus);
    jobmanager->prometheus = NULL;
    uv_timer_start(&jobmanager->tick, on_stop_poll, 1, 5);
}

void jobmanager_destroy(struct jobmanager *jobmanager)
{
    if (jobmanager == NULL)
        return;
    if (jobmanager->coordinator != NULL) {
        for (size_t i = 0; i < jobmanager->coordinator->jobs.count; i++)
            job_shell_destroy(jobmanager, jobmanager->coordinator->jobs.entries[i].value);
    }
    coordinator_destroy(jobmanager->coordinator);
    system_metrics_destroy(jobmanager->system);
    program_store_destroy(jobmanager->programs);
    pages_destroy(jobmanager->pages);
    flame_graphs_finish(&jobmanager->flame_graphs);
    operations_finish(&jobmanager->operations);
    hash_map_finish(&jobmanager->links);
    rpc_secret_finish(&jobmanager->secret);
    if (jobmanager->has_own_log)
        log_close();
    work_directory_remove(&jobmanager->tmp);
    config_destroy(jobmanager->config);
    free(jobmanager->log_directory);
    free(jobmanager->stdout_path);
    free(jobmanager->compiler_path);
    free(jobmanager->web_base);
    free(jobmanager);
}
