/* What the program task-runner is, in this process: a task_runner behind a control pipe, with signs of life and the end of
 * taskmanager/runner_main.c, but without crash handler and watchdog. Thread: the loop's. */
#ifndef MILLRACE_SUPPORT_MINI_RUNNER_H
#define MILLRACE_SUPPORT_MINI_RUNNER_H

#include "taskmanager/agent/agent.h"

struct mini_runner;
struct user_library;

struct mini_runners {
    uv_loop_t *loop;
    struct user_library *library; /* borrowed */
    uint32_t count;               /* runners that are not gone yet */
};

/* The three members of an agent_runner_host whose context is a struct mini_runners. */
struct agent_runner_host mini_runner_host(struct mini_runners *runners);

#endif
