/* The environment: what a program builds its job in, and how it hands the job over.
 *
 *   int main(int argc, char **argv)
 *   {
 *       struct mr_params *params = mr_params_parse(argc, argv);
 *       struct mr_env *env = mr_env_create();
 *       … sources, transformations, sinks …
 *       return mr_execute(env, "Click Event Count");
 *   }
 *
 * A program only describes its job: nothing runs before the cluster has the graph. Mistakes (a field that is not there, a
 * function of the wrong kind, a missing option) are collected: the call that makes one returns a stream that swallows all
 * further calls, and mr_execute reports the first. No function here crashes on NULL. All objects belong to the
 * environment and live until the program ends. One thread. */
#ifndef MILLRACE_ENVIRONMENT_H
#define MILLRACE_ENVIRONMENT_H

#include <stdbool.h>
#include <stdint.h>

#define MR_SECONDS(n) ((int64_t)(n)*1000)
#define MR_MINUTES(n) ((int64_t)(n)*60 * 1000)
#define MR_HOURS(n) ((int64_t)(n)*60 * 60 * 1000)
#define MR_DAYS(n) ((int64_t)(n)*24 * 60 * 60 * 1000)

struct mr_env;

/* An empty job with the configuration that `flink run` was given (-D, -p) and the cluster has. */
struct mr_env *mr_env_create(void);

/* Hands the job over. Returns 0, or 1 after printing the first mistake; return it from main. Once per program.
 * job_name NULL: the value of pipeline.name. */
int mr_execute(struct mr_env *env, const char *job_name);

/* ---- configuration: each of these is a key of Flink's; the program's value goes before the command line's ---- */

/* Any key, for example mr_env_set(env, "execution.checkpointing.num-retained", "3"). */
void mr_env_set(struct mr_env *env, const char *key, const char *value);
/* The value that holds now, or NULL. Borrowed until the key is set again. */
const char *mr_env_get(struct mr_env *env, const char *key);

/* Parallelism of every operator that sets none of its own (parallelism.default). */
void mr_env_set_parallelism(struct mr_env *env, uint32_t parallelism);
/* Number of key groups: the most that the job can ever be rescaled to. Fixed for the life of its savepoints. */
void mr_env_set_max_parallelism(struct mr_env *env, uint32_t max_parallelism);
/* Every operator becomes a vertex of its own. */
void mr_env_disable_chaining(struct mr_env *env);
/* Longest time that rows wait for a batch to fill: 100 ms by default; 0: never wait, -1: always. */
void mr_env_set_buffer_timeout(struct mr_env *env, int64_t timeout_ms);
/* How often watermarks are made: 200 ms by default. */
void mr_env_set_watermark_interval(struct mr_env *env, int64_t interval_ms);

enum mr_checkpoint_mode { MR_EXACTLY_ONCE, MR_AT_LEAST_ONCE };
enum mr_checkpoint_retention { MR_DELETE_CHECKPOINTS, MR_DELETE_ON_CANCELLATION, MR_RETAIN_ON_CANCELLATION };

/* Members that are 0 keep the cluster's setting. */
struct mr_checkpoint_options {
    int64_t timeout_ms;                      /* of one checkpoint */
    int64_t min_pause_ms;                    /* between the end of one and the start of the next */
    enum mr_checkpoint_mode mode;            /* MR_AT_LEAST_ONCE: barriers are not aligned */
    enum mr_checkpoint_retention retention;  /* what becomes of the last ones when the job is cancelled */
    uint32_t tolerable_failures;             /* consecutive ones before the job fails */
    uint32_t retained_count;                 /* completed checkpoints to keep */
    const char *directory;                   /* where they are kept */
};

/* A checkpoint every interval_ms. options may be NULL. */
void mr_enable_checkpointing(struct mr_env *env, int64_t interval_ms, const struct mr_checkpoint_options *options);

/* What happens after a failure; without a call: exponential delay when checkpoints are on, else none. */
void mr_restart_none(struct mr_env *env);
void mr_restart_fixed_delay(struct mr_env *env, uint32_t attempts, int64_t delay_ms);
void mr_restart_exponential_delay(struct mr_env *env, int64_t initial_ms, int64_t max_ms, double multiplier);
void mr_restart_failure_rate(struct mr_env *env, uint32_t max_failures, int64_t interval_ms, int64_t delay_ms);

#endif
