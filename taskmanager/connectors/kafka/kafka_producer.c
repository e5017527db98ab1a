/* See kafka_producer.h. */
#include "taskmanager/connectors/kafka/kafka_producer.h"

#include "taskmanager/ops/op.h"

#include <stdint.h>
#include <string.h>

#define QUEUE_FULL_WAIT_MS 5 /* producers without delivery reports are not woken when there is room */

static bool speaks_against_idempotence(const json_t *properties)
{
    static const char *const keys[] = {"acks",    "request.required.acks",      "retries",
                                       "message.send.max.retries", "max.in.flight", "max.in.flight.requests.per.connection",
                                       "enable.idempotence"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (json_object_get(properties, keys[i]) != NULL)
            return true;
    return false;
}

struct error *kafka_producer_conf_create(const json_t *properties, const struct kafka_setting *extra, rd_kafka_conf_t **out)
{
    const struct kafka_setting defaults[] = {{"partitioner", "murmur2_random"},
                                             {"client.id", "millrace"},
                                             {"queue.buffering.max.kbytes", "16384"},
                                             {"log.connection.close", "false"},
                                             {speaks_against_idempotence(properties) ? NULL : "enable.idempotence", "true"},
                                             {NULL, NULL}};
    return kafka_conf_create(properties, defaults, extra, out);
}

struct error *kafka_producer_send(rd_kafka_t *producer, rd_kafka_topic_t *topic, const void *key, size_t key_length, const void *value,
                                  size_t value_length, bool copies, const atomic_bool *is_stopping, struct op *waiter)
{
    /* librdkafka takes the value as mutable, but does not change it. */
    void *payload = (void *)(uintptr_t)value;
    bool was_empty = false;
    while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, copies ? RD_KAFKA_MSG_F_COPY : 0, payload, value_length, key, key_length, NULL) != 0) {
        rd_kafka_resp_err_t code = rd_kafka_last_error();
        if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            return kafka_error(code, "write to Kafka topic %s", rd_kafka_topic_name(topic));
        if (was_empty) /* it will never fit */
            return error_with_hint(error_new(CONNECTOR_FATAL, "could not write to Kafka topic %s: a record of %zu bytes is larger than the queue",
                                             rd_kafka_topic_name(topic), key_length + value_length),
                                   "raise the property queue.buffering.max.kbytes");
        if (is_stopping != NULL && atomic_load(is_stopping))
            return error_new(CANCELLED, "stopped while writing to Kafka topic %s", rd_kafka_topic_name(topic));
        if (waiter != NULL)
            op_wait_begin(waiter);
        rd_kafka_poll(producer, QUEUE_FULL_WAIT_MS);
        was_empty = rd_kafka_outq_len(producer) == 0;
        if (waiter != NULL)
            op_wait_end(waiter);
    }
    return NULL;
}
