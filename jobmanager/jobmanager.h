/* The jobmanager daemon: the shell around the coordinator core (jobmanager/core). It turns messages, timers and REST calls
 * into events, and the core's actions into messages and file writes. No decision about a job is made here.
 *
 *   jobmanager_handle(event) ── coordinator_handle ──> actions ──> taskmanager_link (messages)
 *                                                             ├──> checkpoint_files (pool threads, back by an event)
 *                                                             ├──> operations (answers of triggers)
 *                                                             └──> log, timers
 *
 * Thread: everything here belongs to the one loop thread. Owner: main.c. */
#ifndef MILLRACE_JOBMANAGER_JOBMANAGER_H
#define MILLRACE_JOBMANAGER_JOBMANAGER_H

#include "common/base/error.h"
#include "common/base/hash_map.h"
#include "common/config/config.h"
#include "common/fs/work_directory.h"
#include "common/rpc/rpc_conn.h"
#include "common/rpc/rpc_server.h"
#include "jobmanager/core/coordinator.h"
#include "jobmanager/flame_graph.h"
#include "jobmanager/operations.h"
#include "jobmanager/program_store.h"
#include "jobmanager/rest/java_clients.h"

#include <uv.h>

#define FLINK_VERSION "1.20.0" /* of the REST API that clients see */

struct jobmanager {
    /* public, read-only outside jobmanager.c */
    uv_loop_t *loop;
    struct config *config;
    struct coordinator *coordinator;
    struct rest_server *rest;
    struct prometheus_reporter *prometheus; /* NULL: off */
    struct system_metrics *system;          /* NULL: off */
    struct java_clients java_clients;
    struct flame_graphs flame_graphs;
    struct pages *pages;       /* what REST serves where no route fits */
    struct program_store *programs;
    struct operations operations;
    struct work_directory tmp; /* of this process: removed at its end */
    char *log_directory;
    bool has_own_log;          /* without env.log.dir: a file in the working directory */
    char *stdout_path;         /* NULL: not captured */
    char *compiler_path;       /* the job-compiler program */
    char *web_base;            /* "http://host:port" as REST shows it */
    int64_t started_ms;
    uint16_t rpc_port;
    bool is_stopping;
    /* private: jobmanager.c */
    struct rpc_server *rpc_server;
    struct rpc_secret secret;
    uv_timer_t tick;
    int64_t tick_at_ms;
    int64_t clock_base_ms;     /* wall clock minus monotonic clock at the start */
    uint32_t work_count;       /* jobs on pool threads */
    void (*on_stopped)(struct jobmanager *jobmanager);
    /* private: taskmanager_link.c */
    struct hash_map links;     /* connection number -> struct taskmanager_link */
    uint64_t next_connection;
    int64_t next_file_request;
    /* private: compile.c */
    struct compile *compiles;
    uint32_t compile_running_count;
};

/* What the shell keeps with a job (job->shell). */
struct job_shell {
    json_t *graph;             /* DEPLOY's `graph` */
    char *library_sha256;      /* the blob it holds; NULL: none */
};

/* Starts everything: directories, RPC port, REST port. Takes config. errors: IO, NETWORK, INVALID_CONFIG */
MUST_CHECK struct error *jobmanager_create(uv_loop_t *loop, struct config *config, struct jobmanager **out);
/* Says goodbye to taskmanagers, ends children, closes ports; on_stopped is called on the loop when nothing is left but
 * jobmanager_destroy. Idempotent. */
void jobmanager_stop(struct jobmanager *jobmanager, void (*on_stopped)(struct jobmanager *jobmanager));
/* After on_stopped. Accepts NULL. */
void jobmanager_destroy(struct jobmanager *jobmanager);

/* The core's clock: wall time at the start, then monotonic. */
int64_t jobmanager_now_ms(const struct jobmanager *jobmanager);
/* Feeds the core and runs what it asks for. */
void jobmanager_handle(struct jobmanager *jobmanager, const struct event *event);
/* Work on a pool thread that holds back jobmanager_stop until done was called. */
void jobmanager_work(struct jobmanager *jobmanager, struct error *(*work)(void *argument),
                     void (*done)(struct error *err, void *argument), void *argument);
/* The shell's data of a job, made on first use. */
struct job_shell *jobmanager_job_shell(struct job *job);

#endif
