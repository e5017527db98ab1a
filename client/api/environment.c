/* The environment: configuration, the list of operators, the first mistake, and the hand-over of the graph. */
#include "api_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Everything that was allocated, so that it stays reachable. */
struct allocation {
    struct allocation *next;
    _Alignas(max_align_t) char bytes[];
};

static struct allocation *allocations;
static struct mr_env *environments;
/* A mistake made before (or without) an environment. */
static char *early_error;

void *api_alloc(size_t bytes)
{
    struct allocation *allocation = calloc(1, sizeof *allocation + bytes);
    if (allocation == NULL) {
        fprintf(stderr, "out of memory\n");
        abort();
    }
    allocation->next = allocations;
    allocations = allocation;
    return allocation->bytes;
}

__attribute__((format(printf, 1, 0))) static char *api_vprintf(const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    char *text = api_alloc(length > 0 ? (size_t)length + 1 : 1);
    if (length > 0)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

char *api_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = api_vprintf(format, args);
    va_end(args);
    return text;
}

char *api_copy(const char *text)
{
    return text != NULL ? api_printf("%s", text) : NULL;
}

void api_fail(struct mr_env *env, const char *format, ...)
{
    char **place = env != NULL ? &env->error : &early_error;
    if (*place != NULL)
        return;
    va_list args;
    va_start(args, format);
    *place = api_vprintf(format, args);
    va_end(args);
}

struct mr_env *mr_env_create(void)
{
    struct mr_env *env = api_alloc(sizeof *env);
    const char *given = getenv("MILLRACE_CONFIG");
    env->config = given != NULL ? json_loads(given, 0, NULL) : NULL;
    if (!json_is_object(env->config)) {
        json_decref(env->config);
        env->config = json_object();
    }
    env->next = environments;
    environments = env;
    return env;
}

/* Configuration objects are jansson's: they are freed when the program (or the library) goes. */
__attribute__((destructor)) static void free_everything(void)
{
    for (struct mr_env *env = environments; env != NULL; env = env->next) {
        json_decref(env->config);
        for (uint32_t i = 0; i < env->operator_count; i++) {
            json_decref(env->operators[i]->options);
            json_decref(env->operators[i]->output_schema);
            json_decref(env->operators[i]->inputs);
        }
        free(env->operators);
    }
    environments = NULL;
    while (allocations != NULL) {
        struct allocation *next = allocations->next;
        free(allocations);
        allocations = next;
    }
    early_error = NULL;
}

void mr_env_set(struct mr_env *env, const char *key, const char *value)
{
    if (env == NULL || key == NULL || *key == '\0' || value == NULL) {
        api_fail(env, "mr_env_set: environment, key and value must be given");
        return;
    }
    json_t *text = json_string(value);
    if (text == NULL)
        api_fail(env, "mr_env_set: the value of \"%s\" is not UTF-8", key);
    json_object_set_new(env->config, key, text);
}

const char *mr_env_get(struct mr_env *env, const char *key)
{
    return env != NULL && key != NULL ? json_string_value(json_object_get(env->config, key)) : NULL;
}

static void set_int(struct mr_env *env, const char *key, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    mr_env_set(env, key, text);
}

void mr_env_set_parallelism(struct mr_env *env, uint32_t parallelism)
{
    if (parallelism == 0)
        api_fail(env, "mr_env_set_parallelism: parallelism must be at least 1");
    set_int(env, "parallelism.default", parallelism);
}

void mr_env_set_max_parallelism(struct mr_env *env, uint32_t max_parallelism)
{
    if (max_parallelism == 0 || max_parallelism > 32768)
        api_fail(env, "mr_env_set_max_parallelism: max parallelism must be from 1 to 32768");
    set_int(env, "pipeline.max-parallelism", max_parallelism);
}

void mr_env_disable_chaining(struct mr_env *env)
{
    mr_env_set(env, "pipeline.operator-chaining.enabled", "false");
}

void mr_env_set_buffer_timeout(struct mr_env *env, int64_t timeout_ms)
{
    if (timeout_ms < -1)
        api_fail(env, "mr_env_set_buffer_timeout: %" PRId64 " ms is no timeout", timeout_ms);
    set_int(env, "execution.buffer-timeout.interval", timeout_ms);
}

void mr_env_set_watermark_interval(struct mr_env *env, int64_t interval_ms)
{
    if (interval_ms < 0)
        api_fail(env, "mr_env_set_watermark_interval: %" PRId64 " ms is no interval", interval_ms);
    set_int(env, "pipeline.auto-watermark-interval", interval_ms);
}

void mr_enable_checkpointing(struct mr_env *env, int64_t interval_ms, const struct mr_checkpoint_options *options)
{
    static const char *const retentions[] = {"NO_EXTERNALIZED_CHECKPOINTS", "DELETE_ON_CANCELLATION", "RETAIN_ON_CANCELLATION"};
    if (interval_ms < 1)
        api_fail(env, "mr_enable_checkpointing: %" PRId64 " ms is no interval", interval_ms);
    set_int(env, "execution.checkpointing.interval", interval_ms);
    if (options == NULL)
        return;
    if (options->timeout_ms < 0 || options->min_pause_ms < 0)
        api_fail(env, "mr_enable_checkpointing: times must not be negative");
    if (options->timeout_ms > 0)
        set_int(env, "execution.checkpointing.timeout", options->timeout_ms);
    if (options->min_pause_ms > 0)
        set_int(env, "execution.checkpointing.min-pause", options->min_pause_ms);
    if (options->mode == MR_AT_LEAST_ONCE)
        mr_env_set(env, "execution.checkpointing.mode", "AT_LEAST_ONCE");
    if (options->retention > MR_DELETE_CHECKPOINTS && options->retention <= MR_RETAIN_ON_CANCELLATION)
        mr_env_set(env, "execution.checkpointing.externalized-checkpoint-retention", retentions[options->retention]);
    if (options->tolerable_failures > 0)
        set_int(env, "execution.checkpointing.tolerable-failed-checkpoints", options->tolerable_failures);
    if (options->retained_count > 0)
        set_int(env, "execution.checkpointing.num-retained", options->retained_count);
    if (options->directory != NULL)
        mr_env_set(env, "execution.checkpointing.dir", options->directory);
}

void mr_restart_none(struct mr_env *env)
{
    mr_env_set(env, "restart-strategy.type", "none");
}

void mr_restart_fixed_delay(struct mr_env *env, uint32_t attempts, int64_t delay_ms)
{
    mr_env_set(env, "restart-strategy.type", "fixed-delay");
    set_int(env, "restart-strategy.fixed-delay.attempts", attempts);
    set_int(env, "restart-strategy.fixed-delay.delay", delay_ms);
}

void mr_restart_exponential_delay(struct mr_env *env, int64_t initial_ms, int64_t max_ms, double multiplier)
{
    mr_env_set(env, "restart-strategy.type", "exponential-delay");
    set_int(env, "restart-strategy.exponential-delay.initial-backoff", initial_ms);
    set_int(env, "restart-strategy.exponential-delay.max-backoff", max_ms);
    mr_env_set(env, "restart-strategy.exponential-delay.backoff-multiplier", api_printf("%g", multiplier));
}

void mr_restart_failure_rate(struct mr_env *env, uint32_t max_failures, int64_t interval_ms, int64_t delay_ms)
{
    mr_env_set(env, "restart-strategy.type", "failure-rate");
    set_int(env, "restart-strategy.failure-rate.max-failures-per-interval", max_failures);
    set_int(env, "restart-strategy.failure-rate.failure-rate-interval", interval_ms);
    set_int(env, "restart-strategy.failure-rate.delay", delay_ms);
}

static json_t *operator_json(const struct api_operator *op)
{
    json_t *side_outputs = json_array();
    for (uint32_t i = 0; i < op->side_output_count; i++)
        json_array_append_new(side_outputs,
                              json_pack("{s:s, s:o}", "tag", op->side_outputs[i].tag, "schema", api_schema(op->side_outputs[i].type)));
    json_t *schema = op->output_schema != NULL ? json_incref(op->output_schema) : api_schema(op->output);
    return json_pack("{s:s, s:s, s:s?, s:s, s:I, s:I, s:s, s:s, s:O, s:o, s:o, s:O}", "name", op->name, "type", op->type, "uid", op->uid,
                     "description", op->description != NULL ? op->description : op->name, "parallelism", (json_int_t)op->parallelism,
                     "max_parallelism", (json_int_t)op->max_parallelism, "slot_sharing_group", op->slot_sharing_group, "chaining",
                     op->chaining, "options", op->options, "schema", schema, "side_outputs", side_outputs, "inputs", op->inputs);
}

/* One JSON document a line; a second one tells the reader that mr_execute was called again. */
static bool write_line(int fd, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (text == NULL)
        return false;
    size_t length = strlen(text);
    text[length++] = '\n';
    size_t written = 0;
    while (written < length) {
        ssize_t n = write(fd, text + written, length - written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        written += (size_t)n;
    }
    free(text);
    return written == length;
}

/* The name that the program gives wins over pipeline.name. */
static const char *name_of_job(const struct mr_env *env, const char *job_name)
{
    return job_name != NULL ? job_name : json_string_value(json_object_get(env->config, "pipeline.name"));
}

static void check_job(struct mr_env *env, const char *job_name)
{
    if (env->is_executed)
        api_fail(env, "mr_execute was called twice: a program is one job");
    if (job_name == NULL || *job_name == '\0')
        api_fail(env, "mr_execute: the job has no name, and pipeline.name is not set");
    if (env->operator_count == 0)
        api_fail(env, "No operators defined in streaming topology. Cannot execute.");
    bool has_sink = false;
    for (uint32_t i = 0; i < env->operator_count; i++)
        has_sink = has_sink || strstr(env->operators[i]->type, "-sink") != NULL;
    if (!has_sink)
        api_fail(env, "the job has no sink: its rows would go nowhere");
}

static json_t *graph_json(const struct mr_env *env, const char *job_name)
{
    json_t *operators = json_array();
    for (uint32_t i = 0; i < env->operator_count; i++)
        json_array_append_new(operators, operator_json(env->operators[i]));
    return json_pack("{s:i, s:s, s:O, s:o}", "version", 1, "name", job_name, "config", env->config, "operators", operators);
}

int mr_execute(struct mr_env *env, const char *job_name)
{
    const char *fd_text = getenv("MILLRACE_GRAPH_FD");
    if (env != NULL)
        job_name = name_of_job(env, job_name);
    if (env != NULL && early_error == NULL)
        check_job(env, job_name);
    const char *error = early_error != NULL ? early_error : env == NULL ? "mr_execute: no environment is given" : env->error;
    if (error == NULL && fd_text == NULL)
        error = "this program describes a job and does not run by itself: build it as a shared object and submit it with `flink run`";
    int fd = fd_text != NULL ? (int)strtol(fd_text, NULL, 10) : -1;
    if (env != NULL)
        env->is_executed = true;
    if (error != NULL) {
        fprintf(stderr, "%s\n", error);
        if (fd_text != NULL)
            write_line(fd, json_pack("{s:{s:s}}", "error", "message", error));
        return 1;
    }
    bool is_written = write_line(fd, graph_json(env, job_name));
    if (!is_written)
        fprintf(stderr, "mr_execute: could not hand over the job graph (a name that is not UTF-8?)\n");
    return is_written ? 0 : 1;
}
