/* The helper thread of a Kafka source: everything that waits for a broker. It finds partitions (at the start, then every
 * discovery interval), resolves where to start and stop, and wakes librdkafka's fetchers (kafka_discovery_nudge). What it finds it
 * leaves for the task thread to take and writes the wake-up descriptor. All functions here are called by the task thread. */
#ifndef MILLRACE_KAFKA_DISCOVERY_H
#define MILLRACE_KAFKA_DISCOVERY_H

#include "taskmanager/connectors/kafka/kafka_client.h"
#include "taskmanager/connectors/kafka/kafka_source_options.h"

#include <stddef.h>

/* A partition that this subtask should read. */
struct kafka_found {
    char *topic; /* the taker frees it */
    int32_t partition;
    int64_t start_offset; /* absolute, or RD_KAFKA_OFFSET_BEGINNING */
    int64_t stop_offset;  /* -1: unbounded */
};

struct kafka_discovery_settings {
    const struct kafka_source_options *options; /* copied */
    rd_kafka_t *client;
    int wake_fd;
    uint32_t subtask_index;
    uint32_t parallelism;
    bool is_restored; /* a partition that is not known yet is new: it starts at its beginning */
    /* Optional. The thread says what keeps it from finding partitions (op_status_set's arguments; code NULL: nothing any more). Not called
     * after kafka_discovery_stop. */
    void (*on_trouble)(void *arg, const char *code, const char *subject, const char *text);
    void *arg;
};

struct kafka_discovery;

/* Flink's assignment: consecutive partitions of a topic go to consecutive subtasks, from a start that the topic's name gives. */
uint64_t kafka_split_assignment(const char *topic, int32_t partition);

struct kafka_discovery *kafka_discovery_create(const struct kafka_discovery_settings *settings);
/* A partition whose position is known already (from state). Only before kafka_discovery_start. */
void kafka_discovery_know(struct kafka_discovery *discovery, const char *topic, int32_t partition);
MUST_CHECK struct error *kafka_discovery_start(struct kafka_discovery *discovery);
/* What was found since the last call: a malloced array (NULL when nothing), the taker frees it. *is_ready: the first round is
 * over. An error of the thread is given once; it has ended then. */
MUST_CHECK struct error *kafka_discovery_take(struct kafka_discovery *discovery, struct kafka_found **found, size_t *count, bool *is_ready);
/* Sends a tiny request to the leader of every known partition. Never blocks.
 * Why: when its queue is full, a fetcher of librdkafka 2.0.2 sleeps up to a second and does not notice that the queue has been
 * emptied; a request wakes it at once. */
void kafka_discovery_nudge(struct kafka_discovery *discovery);
/* Has the thread look up where a partition ends, and what it found: kafka_ends.h. Never block. */
uint64_t kafka_discovery_ask_end(struct kafka_discovery *discovery, const char *topic, int32_t partition);
bool kafka_discovery_take_end(struct kafka_discovery *discovery, uint64_t ticket, int64_t *end);
/* Has the thread look which other topics hold records, for a source whose own topic has none. Never blocks; asked often, it looks every
 * ten seconds. */
void kafka_discovery_look_around(struct kafka_discovery *discovery);
/* What it saw last, "input, input-2" (malloced); NULL: nothing. */
char *kafka_discovery_neighbours(struct kafka_discovery *discovery);
/* Has the thread stop as soon as it can; it does not write to wake_fd any more. Never blocks. */
void kafka_discovery_stop(struct kafka_discovery *discovery);
/* Stops and joins the thread (within about a second). Accepts NULL. */
void kafka_discovery_destroy(struct kafka_discovery *discovery);

#endif
