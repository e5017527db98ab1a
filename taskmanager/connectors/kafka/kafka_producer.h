/* What producers of the Kafka sink share: configuration and handing a record to librdkafka. Thread: the producer's one user. */
#ifndef MILLRACE_KAFKA_PRODUCER_H
#define MILLRACE_KAFKA_PRODUCER_H

#include "taskmanager/connectors/kafka/kafka_client.h"

#include <stdatomic.h>

struct op;

/* The user's properties over our defaults (Java's partitioner, idempotence unless the properties speak against it, a bounded
 * queue), then extra. Callbacks may still be set on it. */
MUST_CHECK struct error *kafka_producer_conf_create(const json_t *properties, const struct kafka_setting *extra, rd_kafka_conf_t **out);
/* Waits while librdkafka's queue is full (that is the back pressure), until *is_stopping (may be NULL) becomes true: CANCELLED.
 * key NULL: no key; value NULL: a tombstone. copies: false when key and value stay valid until the record is delivered or
 * given up. waiter: the operator whose thread this is, so that the wait shows as its own (op_wait_begin); NULL on other threads. */
MUST_CHECK struct error *kafka_producer_send(rd_kafka_t *producer, rd_kafka_topic_t *topic, const void *key, size_t key_length,
                                             const void *value, size_t value_length, bool copies, const atomic_bool *is_stopping,
                                             struct op *waiter);

#endif
