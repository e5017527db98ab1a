/* Sources. Each takes a name ("ClickEvent Source" shows as "Source: ClickEvent Source"), the type of its records and
 * its options as a struct with designated initialisers; members left out have the default that their comment gives. */
#ifndef MILLRACE_SOURCE_H
#define MILLRACE_SOURCE_H

#include "millrace/environment.h"
#include "millrace/function.h"

struct mr_stream;

/* ---- formats ---- */

enum mr_format_type {
    MR_JSON,   /* an object a record; members are fields by name */
    MR_CSV,    /* a line a record; columns are fields in order */
    MR_TEXT,   /* the record's one field, mr_string, is the text */
    MR_RAW,    /* the record's one field, mr_bytes, is the bytes */
};

struct mr_format {
    enum mr_format_type type;
    const char *timestamp_format;  /* "SQL" (default), "ISO-8601", "epoch-millis" or a pattern: "dd-MM-yyyy HH:mm:ss:SSS" */
    const char *field_delimiter;   /* CSV: "," */
    const char *null_literal;      /* CSV: the text that means null */
};

/* What a malformed record does. */
enum mr_on_error {
    MR_ON_ERROR_FAIL,        /* the job fails, with the record's place and a sample of it */
    MR_ON_ERROR_SKIP,        /* counted, the first few places are kept in the books */
    MR_ON_ERROR_DEAD_LETTER, /* Kafka: written to another topic, and counted */
};

/* ---- event time ---- */

/* All zero: no watermarks (processing time). Otherwise name the event time by column or function; with neither it is the
 * record's own time (Kafka). */
struct mr_watermarks {
    const char *column;                  /* the mr_timestamp field that is the event time */
    const struct mr_function *timestamp; /* or a function: MR_TIMESTAMP_ASSIGNER */
    bool is_record_time;                 /* or the time that Kafka keeps with each record */
    int64_t out_of_orderness_ms;         /* how much later than a younger record an older one may come; 0: in order */
    int64_t idle_timeout_ms;             /* a split without records for so long no longer holds time back; 0: never */
    int64_t interval_ms;                 /* 0: pipeline.auto-watermark-interval, 200 ms */
};

/* ---- Kafka ---- */

enum mr_kafka_start {
    MR_START_EARLIEST,
    MR_START_LATEST,
    MR_START_GROUP_OFFSETS, /* committed by the group; where there is none, earliest, or what the property auto.offset.reset says */
    MR_START_TIMESTAMP,     /* start_timestamp_ms */
    MR_START_OFFSETS,       /* start_offsets */
};

enum mr_kafka_end {
    MR_UNBOUNDED,
    MR_UNTIL_LATEST,        /* as of the job's start */
    MR_UNTIL_GROUP_OFFSETS,
    MR_UNTIL_TIMESTAMP,     /* end_timestamp_ms */
    MR_UNTIL_OFFSETS,       /* end_offsets */
};

struct mr_kafka_offset {
    const char *topic; /* NULL ends the list */
    int32_t partition;
    int64_t offset;
};

struct mr_kafka_source_options {
    const struct mr_record_type *record; /* required */
    const char *bootstrap_servers;       /* required: "host:port,host:port" */
    const char *topics;                  /* "a" or "a,b"; this or topic_pattern is required */
    const char *topic_pattern;           /* regular expression for whole topic names: "orders-\\d+" */
    const char *group_id;
    enum mr_kafka_start start;
    int64_t start_timestamp_ms;
    const struct mr_kafka_offset *start_offsets;
    enum mr_kafka_end end;
    int64_t end_timestamp_ms;
    const struct mr_kafka_offset *end_offsets;
    int64_t discovery_interval_ms;       /* look for new partitions; 0: the connector's 5 min, -1: never */
    struct mr_format format;
    struct mr_watermarks watermarks;
    enum mr_on_error on_error;
    const char *dead_letter_topic;       /* MR_ON_ERROR_DEAD_LETTER */
    const char *const *properties;       /* further librdkafka settings: "key", "value", …, NULL */
};

struct mr_stream *mr_from_kafka(struct mr_env *env, const char *name, const struct mr_kafka_source_options *options);

/* ---- generated data ---- */

enum mr_generator {
    MR_GENERATE_RANDOM,   /* numbers from min to max, text of `length` random letters, or one of `values` */
    MR_GENERATE_SEQUENCE, /* numbers and timestamps: min, min + step … up to max, then the source ends; text: values in turn */
};

struct mr_datagen_field {
    const char *name; /* of the record's field; NULL ends the list */
    enum mr_generator kind;
    double min;
    double max;                /* below min: unbounded sequence */
    double step;               /* of a sequence; 0: 1 */
    uint32_t length;           /* of random text; 0: 100 */
    const char *const *values; /* NULL-terminated choice for text */
};

struct mr_datagen_source_options {
    const struct mr_record_type *record; /* required */
    int64_t rows_per_second;             /* 0: as fast as it goes */
    int64_t number_of_rows;              /* 0: without end */
    const struct mr_datagen_field *fields; /* fields that are not listed are random */
    struct mr_watermarks watermarks;
};

struct mr_stream *mr_from_datagen(struct mr_env *env, const char *name, const struct mr_datagen_source_options *options);

/* ---- files ---- */

struct mr_file_source_options {
    const struct mr_record_type *record; /* required */
    const char *path;                    /* required: a file or a directory, readable on every taskmanager */
    int64_t monitor_interval_ms;         /* look for new files; 0: read what is there and end */
    struct mr_format format;
    struct mr_watermarks watermarks;
    enum mr_on_error on_error;
};

/* One record a line. */
struct mr_stream *mr_from_file(struct mr_env *env, const char *name, const struct mr_file_source_options *options);

/* ---- collections ---- */

struct mr_collection_source_options {
    const struct mr_record_type *record; /* required */
    const void *records;                 /* an array of the record's struct; copied into the job graph */
    uint32_t count;
    struct mr_watermarks watermarks;
};

struct mr_stream *mr_from_collection(struct mr_env *env, const char *name, const struct mr_collection_source_options *options);

#endif
