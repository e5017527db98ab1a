/* The taskmanager: registration and heartbeats with the jobmanager, one task-runner process per job attempt, the data port,
 * libraries, log files. It runs no user code and reads no data: frames between jobmanager and runners pass as they are; of
 * metrics it keeps the latest, for Prometheus. Thread: one loop, which owns all of it. */
#ifndef MILLRACE_AGENT_AGENT_H
#define MILLRACE_AGENT_AGENT_H

#include "common/config/config.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct agent;

/* What runs the tasks of a job attempt. The agent's own way is the program task-runner in a process of its own; tests that hold a
 * whole cluster in one process give another. */
struct agent_runner_start {
    const char *taskmanager_id; /* borrowed for the call */
    int64_t heartbeat_timeout_ms;
    int control_fd;             /* the runner's end of the control pipe; taken, also on failure */
    /* The runner is gone. Once, from the loop, never from inside start or kill. */
    void (*on_exit)(void *argument, int64_t exit_status, int exit_signal);
    void *argument;
};
struct agent_runner_host {
    struct error *(*start)(void *context, const struct agent_runner_start *start, void **runner);
    void (*kill)(void *context, void *runner); /* on_exit follows; may be called again until then */
    void *context;
};

struct agent_options {
    uv_loop_t *loop;
    const struct config *config; /* borrowed as long as the agent lives */
    const char *runner_path;     /* the task-runner program; NULL: beside this program, or as configured */
    const struct agent_runner_host *runner_host; /* NULL: processes; borrowed as long as the agent lives */
    const char *out_path;        /* file for the runners' standard output; NULL: this process's */
    /* Everything is closed, killed, reaped and removed; the agent is freed after this call. */
    void (*on_stopped)(void *context);
    void *context;
};

/* Opens the data port and the working directory, and starts to connect. errors: NETWORK, IO, INVALID_CONFIG */
MUST_CHECK struct error *agent_start(const struct agent_options *options, struct agent **out);
/* Says goodbye, kills and reaps the runners, removes temporary files, then on_stopped. Idempotent. */
void agent_stop(struct agent *agent, const char *reason);
/* For tests and logs: id of this incarnation ("" before the first connection), is it registered, live runner processes. */
const char *agent_id(const struct agent *agent);
bool agent_is_registered(const struct agent *agent);
uint32_t agent_runner_count(const struct agent *agent);
uint16_t agent_data_port(const struct agent *agent);

#endif
