/* Restart strategies: see restart_strategy.h. The texts are Flink's own toString()s, as its logs and failures show them. */
#include "jobmanager/core/restart_strategy.h"

#include "common/base/heap.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool fixed_delay(const struct restart_strategy *strategy, struct restart_state *state, int64_t *delay_ms)
{
    state->failure_count++;
    *delay_ms = strategy->delay_ms;
    return state->failure_count <= strategy->attempts;
}

/* Back-off grows by the multiplier with each failure; it starts again when the time between the last restart and this
 * failure was at least the threshold (Flink's ExponentialDelayRestartBackoffTimeStrategy). */
static bool exponential_delay(const struct restart_strategy *strategy, struct restart_state *state, int64_t now_ms, uint64_t random,
                              int64_t *delay_ms)
{
    if (state->failure_count > 0 && now_ms - state->last_restart_ms >= strategy->reset_threshold_ms) {
        state->failure_count = 0;
        state->current_backoff_ms = 0;
    }
    if (state->current_backoff_ms == 0) {
        state->current_backoff_ms = strategy->initial_backoff_ms;
    } else {
        double next = (double)state->current_backoff_ms * strategy->backoff_multiplier;
        state->current_backoff_ms = next < (double)strategy->max_backoff_ms ? (int64_t)next : strategy->max_backoff_ms;
    }
    state->failure_count++;
    double unit = (double)(random >> 11) / (double)(1ULL << 53); /* [0, 1) */
    int64_t offset = (int64_t)((double)state->current_backoff_ms * strategy->jitter_factor * (2 * unit - 1));
    int64_t delay = state->current_backoff_ms + offset;
    if (delay > strategy->max_backoff_ms)
        delay = strategy->max_backoff_ms;
    *delay_ms = delay < 0 ? 0 : delay;
    state->last_restart_ms = now_ms + *delay_ms;
    return state->failure_count <= strategy->attempts;
}

/* Gives up when more than failures_per_interval failures lie within the interval. */
static bool failure_rate(const struct restart_strategy *strategy, struct restart_state *state, int64_t now_ms, int64_t *delay_ms)
{
    uint32_t limit = strategy->failures_per_interval;
    if (limit == 0)
        return false;
    if (limit > RESTART_FAILURES_MAX)
        limit = RESTART_FAILURES_MAX;
    if (state->failure_times == NULL)
        state->failure_times = heap_alloc_array(limit, sizeof *state->failure_times);
    state->failure_count++;
    *delay_ms = strategy->delay_ms;
    bool may = true;
    if (state->failure_times_count == limit)
        may = now_ms - state->failure_times[state->failure_times_next] > strategy->failure_interval_ms;
    else
        state->failure_times_count++;
    state->failure_times[state->failure_times_next] = now_ms;
    state->failure_times_next = (state->failure_times_next + 1) % limit;
    return may;
}

bool restart_strategy_failed(const struct restart_strategy *strategy, struct restart_state *state, int64_t now_ms, uint64_t random,
                             int64_t *delay_ms)
{
    bool may = false;
    int64_t delay = 0;
    switch (strategy->type) {
    case RESTART_NONE:
        break;
    case RESTART_FIXED_DELAY:
        may = fixed_delay(strategy, state, &delay);
        break;
    case RESTART_EXPONENTIAL_DELAY:
        may = exponential_delay(strategy, state, now_ms, random, &delay);
        break;
    case RESTART_FAILURE_RATE:
        may = failure_rate(strategy, state, now_ms, &delay);
        break;
    }
    state->last_failure_ms = now_ms;
    if (may)
        *delay_ms = delay;
    return may;
}

void restart_state_finish(struct restart_state *state)
{
    free(state->failure_times);
    memset(state, 0, sizeof *state);
}

static uint32_t attempts_shown(uint32_t attempts)
{
    return attempts > INT32_MAX ? INT32_MAX : attempts;
}

char *restart_strategy_text(const struct restart_strategy *strategy)
{
    switch (strategy->type) {
    case RESTART_NONE:
        break;
    case RESTART_FIXED_DELAY:
        return heap_printf("FixedDelayRestartBackoffTimeStrategy(maxNumberRestartAttempts=%" PRIu32 ", backoffTimeMS=%" PRId64 ")",
                           attempts_shown(strategy->attempts), strategy->delay_ms);
    case RESTART_EXPONENTIAL_DELAY:
        return heap_printf("ExponentialDelayRestartBackoffTimeStrategy(initialBackoffMS=%" PRId64 ", maxBackoffMS=%" PRId64
                           ", backoffMultiplier=%g, resetBackoffThresholdMS=%" PRId64 ", jitterFactor=%g, attemptsBeforeResetBackoff=%" PRIu32 ")",
                           strategy->initial_backoff_ms, strategy->max_backoff_ms, strategy->backoff_multiplier,
                           strategy->reset_threshold_ms, strategy->jitter_factor, attempts_shown(strategy->attempts));
    case RESTART_FAILURE_RATE:
        return heap_printf("FailureRateRestartBackoffTimeStrategy(FailureRateRestartBackoffTimeStrategy(failuresIntervalMS=%" PRId64
                           ",backoffTimeMS=%" PRId64 ",maxFailuresPerInterval=%" PRIu32 ")",
                           strategy->failure_interval_ms, strategy->delay_ms, strategy->failures_per_interval);
    }
    return heap_strdup("NoRestartBackoffTimeStrategy");
}
