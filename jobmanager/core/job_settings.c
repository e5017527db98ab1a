/* Typed settings of the core: see job_settings.h. */
#include "jobmanager/core/job_settings.h"

#include "common/base/heap.h"

#include <stdlib.h>

/* No new epoch so soon after a connection closed: the runners of a taskmanager that died get their death signal from the
 * kernel at that moment, those of one that lives are killed by it when it sees the closed connection. Far less than any
 * usual restart delay, in which it disappears. */
#define FENCING_CLOSED_MS 100

static uint32_t limited(int64_t value)
{
    return value < 0 ? 0 : value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

/* "Never" is the largest number in Flink's options, and what spans are added to must not overflow. */
static int64_t span_ms(const struct config *config, enum option option)
{
    const int64_t span_ms_max = INT64_MAX / 8;
    int64_t span = config_ms(config, option);
    return span < span_ms_max ? span : span_ms_max;
}

static char *text_or_null(const char *text)
{
    return text == NULL || text[0] == '\0' ? NULL : heap_strdup(text);
}

/* Flink's default depends on whether the job takes checkpoints (semantics.md 7). */
static enum restart_strategy_type strategy_type(const struct config *config, int64_t checkpoint_interval_ms)
{
    if (config_is(config, OPTION_RESTART_STRATEGY, "fixed-delay") || config_is(config, OPTION_RESTART_STRATEGY, "fixeddelay"))
        return RESTART_FIXED_DELAY;
    if (config_is(config, OPTION_RESTART_STRATEGY, "exponential-delay") || config_is(config, OPTION_RESTART_STRATEGY, "exponentialdelay"))
        return RESTART_EXPONENTIAL_DELAY;
    if (config_is(config, OPTION_RESTART_STRATEGY, "failure-rate") || config_is(config, OPTION_RESTART_STRATEGY, "failurerate"))
        return RESTART_FAILURE_RATE;
    if (config_is_set(config, OPTION_RESTART_STRATEGY) && config_text(config, OPTION_RESTART_STRATEGY)[0] != '\0')
        return RESTART_NONE;
    return checkpoint_interval_ms > 0 ? RESTART_EXPONENTIAL_DELAY : RESTART_NONE;
}

static void strategy_read(const struct config *config, int64_t checkpoint_interval_ms, struct restart_strategy *out)
{
    *out = (struct restart_strategy){
        .type = strategy_type(config, checkpoint_interval_ms),
        .initial_backoff_ms = span_ms(config, OPTION_EXPONENTIAL_INITIAL_BACKOFF),
        .max_backoff_ms = span_ms(config, OPTION_EXPONENTIAL_MAX_BACKOFF),
        .backoff_multiplier = config_double(config, OPTION_EXPONENTIAL_MULTIPLIER),
        .reset_threshold_ms = span_ms(config, OPTION_EXPONENTIAL_RESET),
        .jitter_factor = config_double(config, OPTION_EXPONENTIAL_JITTER),
        .failures_per_interval = limited(config_int(config, OPTION_FAILURE_RATE_MAX)),
        .failure_interval_ms = span_ms(config, OPTION_FAILURE_RATE_INTERVAL),
    };
    if (out->type == RESTART_FIXED_DELAY) {
        out->attempts = limited(config_int(config, OPTION_FIXED_DELAY_ATTEMPTS));
        out->delay_ms = span_ms(config, OPTION_FIXED_DELAY_DELAY);
    } else if (out->type == RESTART_EXPONENTIAL_DELAY) {
        out->attempts = limited(config_int(config, OPTION_EXPONENTIAL_ATTEMPTS));
        if (out->attempts >= INT32_MAX)
            out->attempts = UINT32_MAX;
    } else if (out->type == RESTART_FAILURE_RATE) {
        out->delay_ms = span_ms(config, OPTION_FAILURE_RATE_DELAY);
    }
}

/* The largest number is how Flink spells "no periodic checkpoints"; tasks that end wait for none then (task_runner_deploy.c). */
static int64_t interval_ms(const struct config *config)
{
    return config_ms(config, OPTION_CHECKPOINT_INTERVAL) == INT64_MAX ? 0 : span_ms(config, OPTION_CHECKPOINT_INTERVAL);
}

void job_settings_read(const struct config *config, struct job_settings *out)
{
    *out = (struct job_settings){
        .checkpoint_interval_ms = interval_ms(config),
        .checkpoint_timeout_ms = span_ms(config, OPTION_CHECKPOINT_TIMEOUT),
        .checkpoint_min_pause_ms = span_ms(config, OPTION_CHECKPOINT_MIN_PAUSE),
        .checkpoint_max_concurrent = limited(config_int(config, OPTION_CHECKPOINT_MAX_CONCURRENT)),
        .checkpoint_tolerable_failures = limited(config_int(config, OPTION_CHECKPOINT_TOLERABLE_FAILED)),
        .checkpoint_num_retained = limited(config_int(config, OPTION_CHECKPOINT_NUM_RETAINED)),
        .retention = config_is(config, OPTION_CHECKPOINT_RETENTION, "RETAIN_ON_CANCELLATION") ? RETENTION_RETAIN_ON_CANCELLATION
                   : config_is(config, OPTION_CHECKPOINT_RETENTION, "DELETE_ON_CANCELLATION") ? RETENTION_DELETE_ON_CANCELLATION
                                                                                               : RETENTION_NONE,
        .is_exactly_once = !config_is(config, OPTION_CHECKPOINT_MODE, "AT_LEAST_ONCE"),
        .checkpoint_directory = text_or_null(config_text(config, OPTION_CHECKPOINT_DIR)),
        .savepoint_directory = text_or_null(config_text(config, OPTION_SAVEPOINT_DIR)),
        .cancellation_timeout_ms = span_ms(config, OPTION_TASK_CANCELLATION_TIMEOUT),
    };
    out->is_unaligned = config_bool(config, OPTION_CHECKPOINT_UNALIGNED) && out->is_exactly_once;
    out->aligned_timeout_ms = span_ms(config, OPTION_CHECKPOINT_ALIGNED_TIMEOUT);
    /* A barrier that overtakes would overtake those of an earlier checkpoint too (in Flink the combination is refused). */
    if (out->is_unaligned)
        out->checkpoint_max_concurrent = 1;
    strategy_read(config, out->checkpoint_interval_ms, &out->restart);
}

void job_settings_finish(struct job_settings *settings)
{
    free(settings->checkpoint_directory);
    free(settings->savepoint_directory);
}

void cluster_settings_read(const struct config *config, struct cluster_settings *out)
{
    *out = (struct cluster_settings){
        .heartbeat_interval_ms = span_ms(config, OPTION_HEARTBEAT_INTERVAL),
        .heartbeat_timeout_ms = span_ms(config, OPTION_HEARTBEAT_TIMEOUT),
        .slot_request_timeout_ms = span_ms(config, OPTION_SLOT_REQUEST_TIMEOUT),
        .start_up_period_ms = span_ms(config, OPTION_STANDALONE_START_UP_TIME),
        .fencing_closed_ms = FENCING_CLOSED_MS,
        .fencing_silent_ms = 2 * span_ms(config, OPTION_HEARTBEAT_INTERVAL),
        .job_store_capacity = limited(config_int(config, OPTION_JOBSTORE_MAX_CAPACITY)),
        .job_store_expiration_ms = span_ms(config, OPTION_JOBSTORE_EXPIRATION),
        .attempts_history_size = limited(config_int(config, OPTION_ATTEMPTS_HISTORY_SIZE)),
        .exception_history_size = limited(config_int(config, OPTION_EXCEPTION_HISTORY_SIZE)),
        .checkpoint_history_size = limited(config_int(config, OPTION_CHECKPOINT_HISTORY_SIZE) + CHECKPOINT_DETAILS_MORE),
    };
    if (out->start_up_period_ms < 0)
        out->start_up_period_ms = out->slot_request_timeout_ms;
}
