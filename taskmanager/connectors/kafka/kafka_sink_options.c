/* Parsing of the options of a Kafka sink. */
#include "taskmanager/connectors/kafka/kafka_sink.h"

#include "taskmanager/ops/op_support.h"

#include <string.h>

#define COMMIT_TIMEOUT_DEFAULT_MS 60000
#define PENDING_DEFAULT_BYTES (INT64_C(4) << 30)

struct error *kafka_sink_options_parse(const struct op_context *ctx, struct kafka_sink_options *out)
{
    static const char *const guarantees[] = {"none", "at-least-once", "exactly-once"};
    const json_t *json = ctx->spec->options;
    const char *guarantee = json_string_value(json_object_get(json, "guarantee"));
    struct kafka_sink_options options = {.properties = json_object_get(json, "properties"),
                                         .topic = json_string_value(json_object_get(json, "topic")),
                                         .format = json_object_get(json, "format"),
                                         .guarantee = KAFKA_AT_LEAST_ONCE,
                                         .commit_timeout_ms = COMMIT_TIMEOUT_DEFAULT_MS,
                                         .pending_bytes_max = PENDING_DEFAULT_BYTES,
                                         .transactional_id_prefix = json_string_value(json_object_get(json, "transactional_id_prefix"))};
    if (options.topic == NULL || options.topic[0] == '\0')
        return error_new(INVALID_ARGUMENT, "%s: a Kafka sink needs a topic", ctx->spec->name);
    TRY(op_option_int(ctx, json, "commit_timeout_ms", 1, INT64_MAX / 2, &options.commit_timeout_ms));
    TRY(op_option_int(ctx, json, "pending_bytes_max", 1, INT64_MAX, &options.pending_bytes_max));
    if (guarantee != NULL) {
        size_t i = 0;
        while (i < 3 && strcmp(guarantees[i], guarantee) != 0)
            i++;
        if (i == 3)
            return error_new(INVALID_ARGUMENT, "%s: guarantee \"%s\" is not one of none, at-least-once, exactly-once", ctx->spec->name, guarantee);
        options.guarantee = (enum kafka_guarantee)i;
    }
    if (options.guarantee == KAFKA_EXACTLY_ONCE) {
        if (options.transactional_id_prefix == NULL || options.transactional_id_prefix[0] == '\0')
            return error_new(INVALID_ARGUMENT, "%s: guarantee exactly-once needs a transactional_id_prefix", ctx->spec->name);
        if (!ctx->checkpointing_enabled)
            return error_with_hint(error_new(INVALID_ARGUMENT, "%s: guarantee exactly-once needs checkpoints", ctx->spec->name),
                                   "rows are committed when a checkpoint completes; set execution.checkpointing.interval");
    }
    *out = options;
    return NULL;
}
