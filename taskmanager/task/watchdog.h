/* Limits of user code in this process: memory (resident set) and time in a call of a user function. What breaks one ends the process,
 * with the function named on the crash pipe. Thread: the runner's loop. */
#ifndef MILLRACE_TASK_WATCHDOG_H
#define MILLRACE_TASK_WATCHDOG_H

#include "taskmanager/task/task_runner.h"

struct watchdog;

/* Reads the limits (task_runner_memory_limit_bytes, task_runner_function_timeout_ms) anew at each look: they come with DEPLOY. */
struct watchdog *watchdog_start(uv_loop_t *loop, struct task_runner *runner);
/* Accepts NULL. */
void watchdog_stop(struct watchdog *watchdog);

#endif
