/* Stacks of the tasks' threads: samples for flame graphs, and one of every thread for a thread dump. A task that waits within a user's
 * function is not asked, because that would end the function's sleep early: its sample then is the function's name and what the kernel
 * says that it waits in. Thread: the runner's loop. */
#ifndef MILLRACE_TASK_TASK_STACKS_H
#define MILLRACE_TASK_TASK_STACKS_H

#include "taskmanager/task/task_runner_private.h"

struct task_stacks; /* a sampling that goes on */

/* Answers a STACKS_GET with STACKS, at once (one sample) or when all samples are taken. */
void task_stacks_get(struct task_runner *runner, const json_t *message);
/* Ends samplings without an answer. */
void task_stacks_finish(struct task_runner *runner);

#endif
