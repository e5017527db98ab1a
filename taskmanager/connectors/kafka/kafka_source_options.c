/* Parsing of kafka-source options. */
#include "taskmanager/connectors/kafka/kafka_source_options.h"

#include <string.h>

#define DISCOVERY_INTERVAL_DEFAULT_MS 300000

static struct error *parse_mode(const json_t *json, const char *option, const char *const *modes, int *out)
{
    const char *mode = json_is_string(json) ? json_string_value(json) : json_string_value(json_object_get(json, "mode"));
    if (mode == NULL)
        return NULL;
    for (int i = 0; modes[i] != NULL; i++)
        if (strcmp(modes[i], mode) == 0) {
            *out = i;
            return NULL;
        }
    return error_new(INVALID_ARGUMENT, "%s: unknown mode \"%s\"", option, mode);
}

/* Numbers below 0 mean other things to librdkafka: -1 would be the end, after each restart the end of then. */
static struct error *check_offsets(const json_t *offsets, const char *option)
{
    /* jansson's iterators take the object as mutable, but only read it. */
    json_t *object = (json_t *)(uintptr_t)offsets, *offset;
    const char *partition;
    json_object_foreach(object, partition, offset)
    {
        if (!json_is_integer(offset) || json_integer_value(offset) < 0)
            return error_with_hint(error_new(INVALID_ARGUMENT, "%s: the offset of %s must be a whole number from 0", option, partition),
                                   "the modes earliest, latest and group-offsets stand for all partitions");
    }
    return NULL;
}

static struct error *parse_point(const json_t *json, const char *option, bool wants_timestamp, bool wants_offsets, int64_t *timestamp_ms,
                                 const json_t **offsets)
{
    const json_t *timestamp = json_object_get(json, "timestamp_ms");
    if (wants_timestamp && !json_is_integer(timestamp))
        return error_new(INVALID_ARGUMENT, "%s: mode timestamp needs timestamp_ms", option);
    if (json_integer_value(timestamp) < 0)
        return error_new(INVALID_ARGUMENT, "%s: timestamp_ms is %" JSON_INTEGER_FORMAT ", it must not be before 1970", option,
                         json_integer_value(timestamp));
    *timestamp_ms = json_integer_value(timestamp);
    *offsets = json_object_get(json, "offsets");
    if (wants_offsets && (!json_is_object(*offsets) || json_object_size(*offsets) == 0))
        return error_with_hint(error_new(INVALID_ARGUMENT, "%s: mode specific needs offsets", option), "{\"topic:partition\": offset, …}");
    return wants_offsets ? check_offsets(*offsets, option) : NULL;
}

static struct error *parse_topics(const json_t *options, struct kafka_source_options *out)
{
    out->topics = json_object_get(options, "topics");
    out->topic_pattern = json_string_value(json_object_get(options, "topic_pattern"));
    if ((out->topics != NULL) == (out->topic_pattern != NULL))
        return error_new(INVALID_ARGUMENT, "a kafka-source needs either topics or topic_pattern");
    if (out->topics == NULL)
        return NULL;
    if (!json_is_array(out->topics) || json_array_size(out->topics) == 0)
        return error_new(INVALID_ARGUMENT, "topics must be a list of at least one name");
    for (size_t i = 0; i < json_array_size(out->topics); i++)
        if (!json_is_string(json_array_get(out->topics, i)) || json_string_length(json_array_get(out->topics, i)) == 0)
            return error_new(INVALID_ARGUMENT, "topics must be names");
    return NULL;
}

struct error *kafka_source_options_parse(const json_t *options, struct kafka_source_options *out)
{
    static const char *const startup_modes[] = {"earliest", "latest", "group-offsets", "timestamp", "specific", NULL};
    static const char *const bounded_modes[] = {"none", "latest", "group-offsets", "timestamp", "specific", NULL};
    struct kafka_source_options parsed = {.properties = json_object_get(options, "properties"),
                                          .format = json_object_get(options, "format"),
                                          .discovery_interval_ms = DISCOVERY_INTERVAL_DEFAULT_MS};
    TRY(parse_topics(options, &parsed));
    const json_t *startup = json_object_get(options, "startup");
    const json_t *bounded = json_object_get(options, "bounded");
    int startup_mode = KAFKA_START_GROUP_OFFSETS, bounded_mode = KAFKA_UNBOUNDED;
    TRY(parse_mode(startup, "startup", startup_modes, &startup_mode));
    TRY(parse_mode(bounded, "bounded", bounded_modes, &bounded_mode));
    parsed.startup = (enum kafka_startup)startup_mode;
    parsed.bounded = (enum kafka_bounded)bounded_mode;
    TRY(parse_point(startup, "startup", parsed.startup == KAFKA_START_TIMESTAMP, parsed.startup == KAFKA_START_SPECIFIC,
                    &parsed.startup_timestamp_ms, &parsed.startup_offsets));
    TRY(parse_point(bounded, "bounded", parsed.bounded == KAFKA_STOP_TIMESTAMP, parsed.bounded == KAFKA_STOP_SPECIFIC,
                    &parsed.bounded_timestamp_ms, &parsed.bounded_offsets));
    const json_t *interval = json_object_get(options, "discovery_interval_ms");
    if (interval != NULL && (!json_is_integer(interval) || json_integer_value(interval) < -1))
        return error_new(INVALID_ARGUMENT, "discovery_interval_ms must be a whole number from -1 (never)");
    if (interval != NULL)
        parsed.discovery_interval_ms = json_integer_value(interval);
    if (parsed.format == NULL)
        return error_new(INVALID_ARGUMENT, "a kafka-source needs a format");
    const json_t *on_error = json_object_get(options, "on_error");
    const char *mode = json_string_value(json_object_get(on_error, "mode"));
    if (mode != NULL && strcmp(mode, "dead-letter") == 0) {
        parsed.dead_letter_topic = json_string_value(json_object_get(on_error, "topic"));
        if (parsed.dead_letter_topic == NULL)
            return error_new(INVALID_ARGUMENT, "on_error: mode dead-letter needs a topic");
    }
    *out = parsed;
    return NULL;
}
