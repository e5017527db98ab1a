/* One partition that a Kafka source reads, and the topics they belong to. Owned by the source's task thread; librdkafka only
 * hands the topic's opaque pointer back. */
#ifndef MILLRACE_KAFKA_SPLIT_H
#define MILLRACE_KAFKA_SPLIT_H

#include "taskmanager/connectors/kafka/kafka_client.h"
#include "taskmanager/connectors/source.h"

struct kafka_split {
    struct source_split *split;
    struct kafka_topic *topic;
    int32_t partition;
    int64_t next_offset;  /* to read next; RD_KAFKA_OFFSET_BEGINNING before the first record */
    int64_t stop_offset;  /* first offset that is not read any more; -1: unbounded */
    bool is_consuming;    /* rd_kafka_consume_start was called */
    bool is_paused;
    bool is_at_end;       /* the broker said so after the last record */
    uint64_t end_ticket;  /* of the question where the partition ends, asked after the last record; 0: it was not */
    bool is_live;         /* the partition's broker answers fetches (kafka_liveness.h) */
    bool is_reachable;    /* it is connected and owes no answer, or nothing is known yet */
    char *offset_metric;  /* Flink's names; op_metric_set borrows them */
    char *committed_metric;
};

struct kafka_topic {
    char *name;
    rd_kafka_topic_t *handle; /* its opaque is this struct */
    struct kafka_split **splits; /* by partition, NULL where this subtask does not read it */
    int32_t split_count;
};

/* The partition's position as state: next and stop offset. */
void kafka_split_write_position(const struct kafka_split *split, struct bytes_writer *writer);
MUST_CHECK struct error *kafka_split_read_position(const void *bytes, size_t length, int64_t *next_offset, int64_t *stop_offset);

MUST_CHECK struct error *kafka_topic_create(rd_kafka_t *client, const char *name, struct kafka_topic **out);
/* Its splits are freed, the source_splits are the source's. Consumption must have been stopped. */
void kafka_topic_destroy(struct kafka_topic *topic);
struct kafka_split *kafka_topic_add_split(struct kafka_topic *topic, int32_t partition, struct source_split *split);

/* "topic-0" and back: the partition is behind the last dash. */
char *kafka_split_name(const char *topic, int32_t partition);
MUST_CHECK struct error *kafka_split_parse_name(const char *name, char **topic, int32_t *partition);

#endif
