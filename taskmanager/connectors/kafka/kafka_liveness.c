/* See kafka_liveness.h. Field names: librdkafka's STATISTICS.md. */
#include "taskmanager/connectors/kafka/kafka_liveness.h"

#include <inttypes.h>
#include <stdio.h>

static bool is_broker_live(json_t *brokers, json_int_t node_id, int64_t silence_ms)
{
    const char *name;
    json_t *broker;
    json_object_foreach(brokers, name, broker)
    {
        if (json_integer_value(json_object_get(broker, "nodeid")) != node_id)
            continue;
        const char *state = json_string_value(json_object_get(broker, "state"));
        json_int_t silent_us = json_integer_value(json_object_get(broker, "rxidle"));
        return state != NULL && strcmp(state, "UP") == 0 && silent_us <= silence_ms * 1000;
    }
    return false;
}

void kafka_liveness_update(const char *statistics, size_t length, int64_t silence_ms, struct kafka_topic *const *topics, size_t topic_count)
{
    json_t *document = json_loadb(statistics, length, 0, NULL);
    json_t *brokers = json_object_get(document, "brokers");
    for (size_t t = 0; t < topic_count; t++) {
        const json_t *topic = json_object_get(json_object_get(document, "topics"), topics[t]->name);
        const json_t *partitions = json_object_get(topic, "partitions");
        for (int32_t p = 0; p < topics[t]->split_count; p++) {
            char key[16];
            snprintf(key, sizeof key, "%" PRId32, p);
            const json_t *partition = json_object_get(partitions, key);
            if (topics[t]->splits[p] != NULL && partition != NULL)
                topics[t]->splits[p]->is_live =
                    is_broker_live(brokers, json_integer_value(json_object_get(partition, "broker")), silence_ms);
        }
    }
    json_decref(document);
}
