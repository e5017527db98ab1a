/* The taskmanager: registration and heartbeats with the jobmanager, one task-runner process per job attempt, the data port,
 * libraries, log files. It runs no user code and reads no data: frames between jobmanager and runners pass unread, apart
 * from job and epoch. Thread: one loop, which owns all of it. */
#ifndef MILLRACE_AGENT_AGENT_H
#define MILLRACE_AGENT_AGENT_H

#include "common/config/config.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct agent;

struct agent_options {
    uv_loop_t *loop;
    const struct config *config; /* borrowed as long as the agent lives */
    const char *runner_path;     /* the task-runner program; NULL: beside this program, or as configured */
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
