/* Exact time accounting of a task: a clock that is switched at each transition between states, never sampled. Written by
 * the task thread; read by anybody through a sequence lock, including the time since the last switch. */
#ifndef MILLRACE_TASK_TASK_CLOCK_H
#define MILLRACE_TASK_TASK_CLOCK_H

#include "common/base/clock.h"

#include <stdatomic.h>
#include <stdint.h>

enum task_time {
    TASK_TIME_BUSY,
    TASK_TIME_IDLE,          /* no input */
    TASK_TIME_SOFT_BLOCKED,  /* waits for output before it takes more input */
    TASK_TIME_HARD_BLOCKED,  /* waits for output in the midst of emitting */
    TASK_TIME_COUNT
};

struct task_clock {
    atomic_uint sequence; /* odd while it is being written */
    atomic_int state;
    atomic_llong since_ns;
    atomic_llong total_ns[TASK_TIME_COUNT];
    atomic_llong longest_ns[TASK_TIME_COUNT]; /* in one go, since it was taken */
};

static inline void task_clock_start(struct task_clock *clock, enum task_time state)
{
    atomic_store(&clock->state, (int)state);
    atomic_store(&clock->since_ns, clock_mono_ns());
}

/* Task thread. Returns the state before. */
static inline enum task_time task_clock_switch(struct task_clock *clock, enum task_time state)
{
    int before = atomic_load_explicit(&clock->state, memory_order_relaxed);
    unsigned sequence = atomic_load_explicit(&clock->sequence, memory_order_relaxed);
    /* The clock is read with the lock held: else a reader could count the old state beyond now. */
    atomic_store_explicit(&clock->sequence, sequence + 1, memory_order_seq_cst);
    int64_t now = clock_mono_ns();
    long long spent = now - atomic_load_explicit(&clock->since_ns, memory_order_relaxed);
    atomic_store_explicit(&clock->total_ns[before], atomic_load_explicit(&clock->total_ns[before], memory_order_relaxed) + spent,
                          memory_order_seq_cst);
    if (spent > atomic_load_explicit(&clock->longest_ns[before], memory_order_relaxed))
        atomic_store_explicit(&clock->longest_ns[before], spent, memory_order_relaxed);
    atomic_store_explicit(&clock->since_ns, now, memory_order_seq_cst);
    atomic_store_explicit(&clock->state, (int)state, memory_order_seq_cst);
    atomic_store_explicit(&clock->sequence, sequence + 2, memory_order_seq_cst);
    return (enum task_time)before;
}

/* Task thread: nothing is counted any more. */
static inline void task_clock_stop(struct task_clock *clock)
{
    task_clock_switch(clock, TASK_TIME_IDLE);
    atomic_store(&clock->since_ns, 0);
}

/* Any thread: totals up to now. Their sum is the time since the start. */
static inline void task_clock_read(struct task_clock *clock, int64_t totals_ns[TASK_TIME_COUNT])
{
    for (;;) {
        unsigned sequence = atomic_load(&clock->sequence);
        int state = atomic_load(&clock->state);
        long long since = atomic_load(&clock->since_ns);
        for (int i = 0; i < TASK_TIME_COUNT; i++)
            totals_ns[i] = atomic_load(&clock->total_ns[i]);
        int64_t now = clock_mono_ns(); /* before the check: later, the time might already be another state's */
        if ((sequence & 1) != 0 || atomic_load(&clock->sequence) != sequence)
            continue;
        if (since != 0 && now > since)
            totals_ns[state] += now - since;
        return;
    }
}

/* Any thread: the longest time in one go since the call before, a time that goes on now included. */
static inline int64_t task_clock_take_longest_ns(struct task_clock *clock, enum task_time state)
{
    int64_t longest = atomic_exchange_explicit(&clock->longest_ns[state], 0, memory_order_relaxed);
    int64_t since = atomic_load(&clock->since_ns);
    int64_t goes_on = since != 0 && atomic_load(&clock->state) == (int)state ? clock_mono_ns() - since : 0;
    return goes_on > longest ? goes_on : longest;
}

static inline int64_t task_clock_blocked_ns(struct task_clock *clock)
{
    int64_t totals[TASK_TIME_COUNT];
    task_clock_read(clock, totals);
    return totals[TASK_TIME_SOFT_BLOCKED] + totals[TASK_TIME_HARD_BLOCKED];
}

#endif
