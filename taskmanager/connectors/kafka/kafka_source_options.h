/* The options of a kafka-source (ARCHITECTURE.md), checked. Immutable after parsing; strings are borrowed from the job graph,
 * which outlives the operator. */
#ifndef MILLRACE_KAFKA_SOURCE_OPTIONS_H
#define MILLRACE_KAFKA_SOURCE_OPTIONS_H

#include "common/base/error.h"

#include <jansson.h>
#include <stdint.h>

enum kafka_startup { KAFKA_START_EARLIEST, KAFKA_START_LATEST, KAFKA_START_GROUP_OFFSETS, KAFKA_START_TIMESTAMP, KAFKA_START_SPECIFIC };
enum kafka_bounded { KAFKA_UNBOUNDED, KAFKA_STOP_LATEST, KAFKA_STOP_GROUP_OFFSETS, KAFKA_STOP_TIMESTAMP, KAFKA_STOP_SPECIFIC };

struct kafka_source_options {
    const json_t *properties;
    const json_t *topics;      /* array of names, or NULL: then topic_pattern */
    const char *topic_pattern; /* regular expression for whole names (kafka_topic_pattern.h) */
    enum kafka_startup startup;
    int64_t startup_timestamp_ms;
    const json_t *startup_offsets; /* {"topic:partition": offset} */
    enum kafka_bounded bounded;
    int64_t bounded_timestamp_ms;
    const json_t *bounded_offsets;
    int64_t discovery_interval_ms; /* 0 or -1: never again after the start */
    const json_t *format;
    const char *dead_letter_topic; /* NULL unless on_error.mode is dead-letter */
};

MUST_CHECK struct error *kafka_source_options_parse(const json_t *options, struct kafka_source_options *out);

#endif
