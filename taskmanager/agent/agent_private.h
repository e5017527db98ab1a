/* Inside of the taskmanager, shared by the files of taskmanager/agent. Thread: the loop's. */
#ifndef MILLRACE_AGENT_AGENT_PRIVATE_H
#define MILLRACE_AGENT_AGENT_PRIVATE_H

#include "common/base/id.h"
#include "common/base/str_buf.h"
#include "common/base/vec.h"
#include "common/blob/blob_store.h"
#include "common/fs/work_directory.h"
#include "common/loop/loop.h"
#include "common/metrics/process_metrics.h"
#include "common/metrics/prometheus_reporter.h"
#include "common/metrics/system_metrics.h"
#include "common/rpc/rpc_server.h"
#include "taskmanager/agent/agent.h"
#include "taskmanager/agent/runner_contract.h"

#define AGENT_LOGGER "TaskExecutor"
#define RUNNER_LOGGER "TaskRunner"

/* ---- runner.c: one task-runner process ---- */

enum runner_state {
    RUNNER_WAIT_PREDECESSOR, /* an older epoch's process of the job is not reaped yet */
    RUNNER_WAIT_LIBRARY,     /* BLOB_GET is on its way */
    RUNNER_RUNNING,
    RUNNER_EXITED,           /* reaped; what it wrote last is still being read */
};

/* A task as the agent knows it: what it needs for the last report. */
struct runner_task {
    char *execution;
    bool is_final; /* FINISHED, CANCELED or FAILED was reported */
};

struct runner {
    struct agent *agent;
    struct id job;
    int64_t epoch;
    enum runner_state state;
    json_t *deploy;          /* until it is sent */
    char *library_key;       /* NULL: no library */
    VEC(struct runner_task) tasks;
    struct runner_metrics *metrics; /* agent_metrics.c */

    uv_process_t process;
    bool has_process;        /* the handle is open */
    void *hosted;            /* instead of a process: what agent_options.runner_host started */
    struct rpc_conn *control;
    uv_pipe_t *crash_pipe;   /* NULL when closed, as err_pipe */
    uv_pipe_t *err_pipe;
    struct str_buf crash;
    struct str_buf err_line; /* an unfinished line of standard error */
    struct loop_timer *kill_timer;  /* graceful cancel, or all tasks ended: then SIGKILL */
    struct loop_timer *drain_timer; /* after the exit: pipes that do not end */
    int64_t heard_at_ms;
    int64_t memory_limit_bytes;
    struct error *start_error; /* there never was a process */
    char *kill_reason;       /* why the agent killed it as a failure; NULL: it did not */
    bool is_cancelling;      /* its end is wanted: unfinished tasks are CANCELED */
    bool is_silent;          /* the jobmanager is gone: nothing to report */
    int64_t exit_status;
    int exit_signal;
};

/* Takes deploy. */
void runner_create(struct agent *agent, json_t *deploy);
/* A further DEPLOY of the same epoch; takes deploy. */
void runner_add_tasks(struct runner *runner, json_t *deploy);
/* Goes on as far as it can: predecessor gone? library there? then the process starts. */
void runner_advance(struct runner *runner);
void runner_cancel(struct runner *runner, bool is_kill);
/* SIGKILL to its process group; reason (taken, may be NULL) makes it a failure instead of a cancellation. */
void runner_kill(struct runner *runner, char *reason);
/* Could not start: reports tasks as failed and removes the runner. Takes err. */
void runner_fail(struct runner *runner, struct error *err);
/* Memory and silence, from the agent's watch timer. */
void runner_watch(struct runner *runner, int64_t now_ms);
/* Passes the data connection on; takes handle. */
void runner_pass_connection(struct runner *runner, const char *peer, uv_tcp_t *handle);

/* ---- runner_crash.c ---- */
/* Why a runner died, from its crash text and exit status. */
struct error *runner_crash_error(const char *crash_text, int64_t exit_status, int exit_signal, const char *kill_reason);

/* ---- runner_output.c: standard error of runners ---- */
void runner_output_feed(struct runner *runner, const char *bytes, size_t length);
void runner_output_end(struct runner *runner);

/* ---- agent_data.c: the data port ---- */

/* A greeted connection whose runner is not there yet. */
struct held_connection {
    struct agent *agent;
    struct id job;
    int64_t epoch;
    char *peer;         /* the consumer's taskmanager id */
    uv_tcp_t *handle;   /* NULL while WELCOME is being written */
    int64_t since_ms;
    struct loop_timer *timer;
};

MUST_CHECK struct error *agent_data_open(struct agent *agent);
/* A runner has started: hands over what waited for it. */
void agent_data_runner_ready(struct agent *agent, struct runner *runner);
void agent_data_close(struct agent *agent);

/* ---- agent_files.c ---- */
/* Answers a FILE_GET with FILE. */
void agent_file_get(struct agent *agent, const json_t *request);

/* ---- agent_stacks.c: thread dumps and flame graphs ---- */
/* Answer a FILE_GET with FILE when the runners have answered: a dump of all threads; samples of the tasks that the request's name, a
 * JSON text, wants: {"job", "epoch", "executions", "samples", "interval_ms"}. */
void agent_stacks_dump(struct agent *agent, const json_t *file_get);
void agent_stacks_sample(struct agent *agent, const json_t *file_get);
/* A runner's STACKS. */
void agent_stacks_answer(struct runner *runner, struct frame *frame);
/* Forgets requests that wait. */
void agent_stacks_close(struct agent *agent);

/* ---- agent_metrics.c ---- */
/* Of a process by its id; -1 when it is gone. Cheap. */
int64_t process_resident_bytes(int64_t pid);
/* Scope TASKMANAGER of common/metrics/metric_names.def: name -> number. */
json_t *agent_metrics(struct agent *agent);
/* Notes names of tasks for their metrics; their reports; their end. */
void agent_metrics_deploy(struct runner *runner, const json_t *deploy);
void agent_metrics_report(struct runner *runner, const struct frame *frame);
void agent_metrics_task_ended(struct runner *runner, const char *execution);
void agent_metrics_runner_ended(struct runner *runner);
/* NULL when it is off or no port is free. */
struct prometheus_reporter *agent_prometheus_create(struct agent *agent);

/* ---- agent.c ---- */

enum link_state {
    LINK_WAITING,    /* for the end of runners, or for the next attempt */
    LINK_CONNECTING,
    LINK_REGISTERING,
    LINK_REGISTERED,
};

struct agent {
    struct agent_options options;
    uv_loop_t *loop;
    const struct config *config;
    struct rpc_secret secret;
    char *id;             /* of this incarnation; "" before the first */
    char *host;           /* known once connected */
    struct work_directory directory; /* removed at the end */
    char *log_directory;  /* where FILE_GET looks */
    char *runner_path;
    int out_fd;
    struct blob_store *blobs;
    struct rpc_server *data_server;
    VEC(struct held_connection *) held;
    VEC(struct runner *) runners;

    struct rpc_conn *link;
    enum link_state link_state;
    struct loop_timer *link_timer;      /* next attempt */
    struct loop_timer *heartbeat_timer;
    struct loop_timer *advance_timer;   /* see agent_runner_gone */
    struct loop_timer *watch_timer;     /* silence and memory of runners */
    int64_t heartbeat_interval_ms;
    int64_t heartbeat_timeout_ms;
    int64_t heard_at_ms;
    int64_t heartbeat_seq;
    uint64_t backoff_ms;
    int64_t failure_logged_at_ms;
    int32_t file_count;  /* FILE_GETs in work */
    struct stacks_request *stacks_requests;
    struct process_load load;
    struct system_metrics *system; /* NULL: off */
    struct prometheus_reporter *prometheus; /* NULL: off */
    bool is_stopping;
    bool has_own_log; /* without a log directory: the file in the working directory */
};

/* Sends to the jobmanager when registered. */
void agent_send(struct agent *agent, uint16_t type, const json_t *json);
struct runner *agent_find_runner(struct agent *agent, struct id job, int64_t epoch);
/* A runner is reaped and freed: soon, from the loop, those that waited for it go on. */
void agent_runner_gone(struct agent *agent);
/* A FILE_GET was answered. */
void agent_file_done(struct agent *agent);

#endif
