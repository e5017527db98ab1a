/* When a failed job may start again (semantics.md 7): Flink's fixed-delay, exponential-delay, failure-rate and none.
 * Pure: time and the jitter's random number are arguments. */
#ifndef MILLRACE_CORE_RESTART_STRATEGY_H
#define MILLRACE_CORE_RESTART_STRATEGY_H

#include <stdbool.h>
#include <stdint.h>

enum restart_strategy_type { RESTART_NONE, RESTART_FIXED_DELAY, RESTART_EXPONENTIAL_DELAY, RESTART_FAILURE_RATE };

struct restart_strategy {
    enum restart_strategy_type type;
    uint32_t attempts;            /* fixed-delay: 1; exponential-delay: UINT32_MAX (infinite) */
    int64_t delay_ms;             /* fixed-delay and failure-rate: 1 s */
    int64_t initial_backoff_ms;   /* exponential: 1 s */
    int64_t max_backoff_ms;       /* 1 min */
    double backoff_multiplier;    /* 1.5 */
    int64_t reset_threshold_ms;   /* 1 h without failure starts again at the initial back-off */
    double jitter_factor;         /* 0.1 */
    uint32_t failures_per_interval; /* failure-rate: 1 */
    int64_t failure_interval_ms;  /* 1 min */
};

#define RESTART_FAILURES_MAX 1024

struct restart_state {
    uint32_t failure_count;       /* since the start, or the last reset */
    int64_t current_backoff_ms;   /* 0: initial */
    int64_t last_failure_ms;
    int64_t last_restart_ms;
    int64_t *failure_times;       /* failure-rate: ring of failures_per_interval */
    uint32_t failure_times_count, failure_times_next;
};

/* Notes a failure. Returns whether the job may restart, and then *delay_ms from now. random: uniform 64 bits, for the jitter. */
bool restart_strategy_failed(const struct restart_strategy *strategy, struct restart_state *state, int64_t now_ms, uint64_t random,
                             int64_t *delay_ms);
void restart_state_finish(struct restart_state *state);
/* "FixedDelayRestartBackoffTimeStrategy(maxNumberRestartAttempts=1, backoffTimeMS=1000)", malloced: in log lines and failures. */
char *restart_strategy_text(const struct restart_strategy *strategy);

#endif
