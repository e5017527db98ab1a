/* Reading a whole Kafka topic: see kafka_topic.h. Thread: the test's. */
#include "tests/support/kafka_topic.h"

#include <check.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>

static rd_kafka_t *open_consumer(const char *servers, const char *topic, int partition_count)
{
    const char *const settings[][2] = {
        {"bootstrap.servers", servers}, {"group.id", "check"}, {"enable.partition.eof", "true"}, {"isolation.level", "read_committed"}};
    char text[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        ck_assert_int_eq(rd_kafka_conf_set(conf, settings[i][0], settings[i][1], text, sizeof text), RD_KAFKA_CONF_OK);
    rd_kafka_t *consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    ck_assert_ptr_nonnull(consumer);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partition_count);
    for (int i = 0; i < partition_count; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
    return consumer;
}

int kafka_topic_read(const char *servers, const char *topic, int partition_count, void (*on_value)(void *arg, const char *text), void *arg)
{
    rd_kafka_t *consumer = open_consumer(servers, topic, partition_count);
    int record_count = 0;
    for (int left = partition_count; left > 0;) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 1000);
        if (message == NULL)
            continue;
        left -= message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            char value[128];
            snprintf(value, sizeof value, "%.*s", (int)message->len, (const char *)message->payload);
            on_value(arg, value);
            record_count++;
        }
        rd_kafka_message_destroy(message);
    }
    rd_kafka_destroy(consumer);
    return record_count;
}
