/* Last words of a task-runner (taskmanager/agent/runner_contract.h, "Crash pipe"): when a task's thread crashes, calls exit, or breaks a
 * limit, lines `key=value` and stack frames go to the crash pipe, from async-signal-safe code.
 * Thread: install once, at the start; the rest any. */
#ifndef MILLRACE_TASK_CRASH_HANDLER_H
#define MILLRACE_TASK_CRASH_HANDLER_H

#include "taskmanager/task/task.h"

/* Signals, and exit() while is_live. Without this call the functions below do nothing. */
void crash_handler_install(int fd);
/* Until crash_handler_end exit() means that user code called it. */
void crash_handler_begin(void);
void crash_handler_end(void);
/* An alternate signal stack for the calling thread, so that a stack overflow can still be told; and its end. */
void *crash_handler_thread_start(void);
void crash_handler_thread_end(void *stack);

/* Writes limit=, detail= and who was at it, then has the task's thread write its stack, and ends the process. task may be NULL. */
_Noreturn void crash_handler_limit(const char *limit, struct task *task, const char *detail);

#endif
