/* What task_runner.c, task_runner_deploy.c and task_runner_report.c share. */
#ifndef MILLRACE_TASK_TASK_RUNNER_PRIVATE_H
#define MILLRACE_TASK_TASK_RUNNER_PRIVATE_H

#include "taskmanager/task/task.h"
#include "taskmanager/task/task_runner.h"
#include "taskmanager/task/written_files.h"

#include "common/base/hash_map.h"
#include "common/base/vec.h"
#include "common/config/config.h"
#include "common/loop/loop.h"
#include "common/loop/mailbox.h"
#include "common/rpc/rpc_conn.h"
#include "taskmanager/net/net_client.h"
#include "taskmanager/net/net_server.h"

struct state_mail; /* task_runner_report.c */
struct task_stacks; /* task_stacks.c */

struct runner_task {
    struct task *task;
    bool is_ended;
    bool is_reported; /* its last metrics were sent */
    int64_t reported_ns[TASK_TIME_COUNT]; /* in the last report: for times per second */
};

/* What one DEPLOY brought; kept until the runner is freed, tasks borrow from it. */
struct deployment {
    json_t *message;
    struct job_graph *graph;
};

struct task_runner {
    struct task_runner_options options;
    char *taskmanager_id;
    struct mailbox *mailbox;
    struct loop_timer *metrics_timer;
    struct id job;
    uint64_t epoch;
    struct config *config; /* NULL before the first DEPLOY */
    struct rpc_secret secret;
    struct user_library *library; /* opened here; NULL when borrowed or none */
    struct net_server *server;    /* made with the first DEPLOY, as is client */
    struct net_client *client;
    struct hash_map channels; /* struct channel_key -> struct channel: local ones */
    VEC(struct deployment) deployments;
    VEC(struct runner_task) tasks;
    size_t ended_count;
    VEC(struct state_mail *) undelivered; /* finished tasks with rows still on their way */
    struct loop_timer *delivery_timer;
    struct written_files written;
    struct task_stacks *stacks; /* samplings that go on */
    bool is_closing;
    void (*on_closed)(void *context);
    void *closed_context;
};

/* ---- task_runner_deploy.c ---- */
void task_runner_deploy(struct task_runner *runner, const json_t *message);

/* ---- task_runner_report.c ---- */
struct task_host task_runner_host(struct task_runner *runner);
void task_runner_send_state(struct task_runner *runner, const char *execution, const char *state, const struct error *err);
void task_runner_send_metrics(struct task_runner *runner);
/* Takes json. */
void task_runner_send(struct task_runner *runner, uint16_t type, json_t *json);
/* Reports the finished tasks whose rows have left, or all when the runner is closing. */
void task_runner_look_at_undelivered(struct task_runner *runner);
/* All tasks of a closing runner have ended. */
void task_runner_close_ended(struct task_runner *runner);
/* A task's thread has reported a final state: joins it. */
void task_runner_task_ended(struct task_runner *runner, struct task *task);
json_t *task_runner_header(const struct task_runner *runner); /* {"job", "epoch"} */

#endif
