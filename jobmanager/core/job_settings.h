/* What the core reads from the configuration, typed: once per job (cluster configuration overlaid by the job's), once for the
 * cluster. Thread: any. */
#ifndef MILLRACE_CORE_JOB_SETTINGS_H
#define MILLRACE_CORE_JOB_SETTINGS_H

#include "common/config/config.h"
#include "jobmanager/core/restart_strategy.h"

#include <stdbool.h>
#include <stdint.h>

enum checkpoint_retention { RETENTION_NONE, RETENTION_DELETE_ON_CANCELLATION, RETENTION_RETAIN_ON_CANCELLATION };

struct job_settings {
    int64_t checkpoint_interval_ms;       /* execution.checkpointing.interval; 0: no periodic checkpoints */
    int64_t checkpoint_timeout_ms;        /* .timeout, 10 min */
    int64_t checkpoint_min_pause_ms;      /* .min-pause, 0 */
    uint32_t checkpoint_max_concurrent;   /* .max-concurrent-checkpoints, 1; always 1 with unaligned ones */
    uint32_t checkpoint_tolerable_failures; /* .tolerable-failed-checkpoints, 0 */
    uint32_t checkpoint_num_retained;     /* .num-retained (state.checkpoints.num-retained), 1 */
    enum checkpoint_retention retention;  /* .externalized-checkpoint-retention */
    bool is_exactly_once;                 /* .mode */
    bool is_unaligned;                    /* .unaligned.enabled, and exactly once */
    int64_t aligned_timeout_ms;           /* .aligned-checkpoint-timeout, 0 */
    char *checkpoint_directory;           /* .dir (state.checkpoints.dir); NULL: none. Scheme file: is taken off */
    char *savepoint_directory;            /* .savepoint-dir (state.savepoints.dir); NULL: none */
    struct restart_strategy restart;      /* restart-strategy.type and its options */
    int64_t cancellation_timeout_ms;      /* task.cancellation.timeout: the agent kills then, the core asks for it a little later */
};

/* Checkpoints whose details can still be asked for after they have left the list: a list on a screen is older than the next click. */
#define CHECKPOINT_DETAILS_MORE 60

struct cluster_settings {
    int64_t heartbeat_interval_ms;        /* heartbeat.interval, 10 s */
    int64_t heartbeat_timeout_ms;         /* heartbeat.timeout, 50 s */
    int64_t slot_request_timeout_ms;      /* slot.request.timeout, 5 min */
    int64_t start_up_period_ms;           /* resourcemanager.standalone.start-up-time, default slot.request.timeout */
    int64_t fencing_closed_ms;            /* no new epoch so soon after a lost connection: taskmanagers.c, "Fencing" */
    int64_t fencing_silent_ms;            /* … after heartbeats were missing */
    uint32_t job_store_capacity;          /* jobstore.max-capacity, */
    int64_t job_store_expiration_ms;      /* jobstore.expiration-time (seconds), 1 h */
    uint32_t attempts_history_size;       /* jobmanager.execution.attempts-history-size, 16 */
    uint32_t exception_history_size;      /* web.exception-history-size, 16 */
    uint32_t checkpoint_history_size;     /* web.checkpoints.history, 10, and CHECKPOINT_DETAILS_MORE */
};

/* config: the job's layer over the cluster's. */
void job_settings_read(const struct config *config, struct job_settings *out);
void job_settings_finish(struct job_settings *settings);
void cluster_settings_read(const struct config *config, struct cluster_settings *out);

#endif
