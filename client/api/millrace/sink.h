/* Sinks. What they return is a handle for mr_uid, mr_set_parallelism and the like; no rows come out of it. */
#ifndef MILLRACE_SINK_H
#define MILLRACE_SINK_H

#include "millrace/source.h"

enum mr_guarantee {
    MR_GUARANTEE_AT_LEAST_ONCE, /* flushed before each checkpoint: after a failure rows may come twice */
    MR_GUARANTEE_EXACTLY_ONCE,  /* in transactions that commit with the checkpoint */
    MR_GUARANTEE_NONE,
};

struct mr_kafka_sink_options {
    const char *bootstrap_servers;         /* required */
    const char *topic;                     /* required */
    const char *key_fields;                /* "page": fields whose values are the message's key; NULL: none */
    struct mr_format format;
    enum mr_guarantee guarantee;
    const char *transactional_id_prefix;   /* required for MR_GUARANTEE_EXACTLY_ONCE; unique to the job and stable */
    const char *const *properties;         /* further librdkafka settings: "key", "value", …, NULL */
};

/* Two operators, "<name>: Writer" and "<name>: Committer", as Flink shows them. */
struct mr_stream *mr_sink_kafka(struct mr_stream *stream, const char *name, const struct mr_kafka_sink_options *options);

struct mr_file_sink_options {
    const char *path; /* required: a directory; files appear in it when their checkpoint is complete */
    struct mr_format format;
};

struct mr_stream *mr_sink_file(struct mr_stream *stream, const char *name, const struct mr_file_sink_options *options);

/* Prints rows to the standard output (or error) of the task, which REST shows as the taskmanager's stdout. identifier, which
 * may be NULL, goes before each row. */
struct mr_stream *mr_print(struct mr_stream *stream, const char *identifier);
struct mr_stream *mr_print_to_stderr(struct mr_stream *stream, const char *identifier);
/* Counts the rows and forgets them. */
struct mr_stream *mr_sink_blackhole(struct mr_stream *stream, const char *name);

#endif
