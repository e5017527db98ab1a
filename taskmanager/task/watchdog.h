/* Limits of user code in this process: memory (resident set) and time in a call of a user function. What breaks one ends the process,
 * with the function named on the crash pipe. Thread: the runner's loop. */
#ifndef MILLRACE_TASK_WATCHDOG_H
#define MILLRACE_TASK_WATCHDOG_H

#include "taskmanager/task/task_runner.h"

/* Watches until the process ends. Reads the limits (task_runner_memory_limit_bytes, task_runner_function_timeout_ms) anew at
 * each look: they come with DEPLOY. */
void watchdog_start(uv_loop_t *loop, struct task_runner *runner);

#endif
