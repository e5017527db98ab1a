/* Blocking work off the loop: libuv's thread pool, with an error as result. */
#ifndef MILLRACE_LOOP_WORKER_H
#define MILLRACE_LOOP_WORKER_H

#include "common/base/error.h"

#include <uv.h>

/* work(argument) runs on a pool thread; done(err, argument) then on the loop (takes err, NULL is success). done is called
 * exactly once. Thread: the loop's. */
void worker_run(uv_loop_t *loop, struct error *(*work)(void *argument), void (*done)(struct error *err, void *argument), void *argument);

#endif
