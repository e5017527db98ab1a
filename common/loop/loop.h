/* Small helpers around a libuv loop: who owns it, timers with an argument, stop signals, clean end. Thread: the loop's. */
#ifndef MILLRACE_LOOP_LOOP_H
#define MILLRACE_LOOP_LOOP_H

#include "common/base/check.h"
#include "common/base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* The calling thread becomes the owner of the loop (and of everything that is checked with check_on_loop). */
void loop_own(uv_loop_t *loop);
bool loop_is_owned(const uv_loop_t *loop);
#define check_on_loop(loop) dcheck(loop_is_owned(loop))

/* A timer. repeat_ms 0: fires once. It stays allocated until loop_timer_stop, also after it fired; on_fire may stop or
 * restart its own timer. */
struct loop_timer;
struct loop_timer *loop_timer_start(uv_loop_t *loop, uint64_t delay_ms, uint64_t repeat_ms, void (*on_fire)(void *argument),
                                    void *argument);
void loop_timer_restart(struct loop_timer *timer, uint64_t delay_ms, uint64_t repeat_ms);
/* Stops, frees, sets *timer to NULL. Accepts a NULL timer. */
void loop_timer_stop(struct loop_timer **timer);

/* SIGTERM, SIGINT and SIGHUP call on_stop (each time); SIGPIPE and SIGXFSZ are ignored. The handles do not keep the loop alive. */
struct loop_signals;
MUST_CHECK struct error *loop_signals_start(uv_loop_t *loop, void (*on_stop)(int signal_number, void *argument), void *argument,
                                            struct loop_signals **out);
void loop_signals_stop(struct loop_signals **signals);

/* Runs the loop until nothing is left, closing handles that are still open (with their memory left to their owners), then
 * closes the loop. For the end of a program or test. */
void loop_finish(uv_loop_t *loop);

#endif
