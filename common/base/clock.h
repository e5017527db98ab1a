/* The only place where time is read. The coordinator core never calls this: it gets time as an argument. */
#ifndef MILLRACE_BASE_CLOCK_H
#define MILLRACE_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Milliseconds since the epoch, wall clock. */
int64_t clock_now_ms(void);
/* Nanoseconds on the monotonic clock. */
int64_t clock_mono_ns(void);
int64_t clock_mono_ms(void);
/* CPU nanoseconds that the calling thread has used. */
int64_t clock_thread_cpu_ns(void);

#endif
