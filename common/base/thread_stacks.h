/* What the threads of this process are doing: their stacks, taken from outside by a signal whose handler walks its own stack.
 *
 * A signal ends a sleep early (nanosleep, poll, epoll_wait are not restarted), which the code of a user does not expect: a thread
 * that waits is only asked when the caller says that it can stand it; of others the kernel tells what they wait in.
 * Thread: any; captures are serialised inside. */
#ifndef MILLRACE_BASE_THREAD_STACKS_H
#define MILLRACE_BASE_THREAD_STACKS_H

#include "common/base/str_buf.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define THREAD_STACK_FRAMES_MAX 64

struct thread_stack {
    int64_t thread;     /* kernel's id */
    char name[32];
    char state;         /* as in /proc: R runs or could, S waits, D waits for a device, T is stopped; '?': it has gone */
    char wait[64];      /* the kernel's function that it waits in; "": none or unknown */
    uint32_t frame_count; /* 0: it was not asked, or did not answer */
    void *frames[THREAD_STACK_FRAMES_MAX]; /* innermost first; return addresses */
};

/* can_interrupt: whether the thread may be asked while it waits. False: there is no such thread (any more). Takes microseconds, and at
 * most 50 ms for a thread that does not answer. */
bool thread_stack_capture(int64_t thread, bool can_interrupt, struct thread_stack *out);
/* The kernel's id of a thread that was not joined yet. */
int64_t thread_stack_id(pthread_t thread);

bool thread_stack_is_on_cpu(const struct thread_stack *stack);
/* `"name" Id=1 RUNNABLE` and a line "\tat function (file)" for each frame, and an empty line, as Flink's thread dumps look.
 * name: instead of the kernel's, which is short; function: known to be inside of, in a line before the frames; NULL each: not. */
void thread_stack_print(const struct thread_stack *stack, const char *name, const char *function, struct str_buf *out);
/* Calls on_stack for every thread of this process, the calling one too. can_interrupt: by the kernel's name of the thread. */
void thread_stacks_all(bool (*can_interrupt)(const char *name), void (*on_stack)(const struct thread_stack *stack, void *argument), void *argument);

#endif
