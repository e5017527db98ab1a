/* See kafka_liveness.h. Field names: librdkafka's STATISTICS.md. */
#include "taskmanager/connectors/kafka/kafka_liveness.h"

#include <inttypes.h>
#include <stdio.h>

/* A broker that owes an answer for so long does not answer. */
#define UNANSWERED_US 5000000

static json_t *find_broker(json_t *brokers, json_int_t node_id)
{
    const char *name;
    json_t *broker;
    json_object_foreach(brokers, name, broker)
    {
        if (json_integer_value(json_object_get(broker, "nodeid")) == node_id)
            return broker;
    }
    return NULL;
}

static bool is_connected(const json_t *broker)
{
    const char *state = json_string_value(json_object_get(broker, "state"));
    return state != NULL && (strcmp(state, "UP") == 0 || strcmp(state, "UPDATE") == 0);
}

static bool is_broker_live(const json_t *broker, int64_t silence_ms)
{
    return is_connected(broker) && json_integer_value(json_object_get(broker, "rxidle")) <= silence_ms * 1000;
}

/* Unlike a live one it may be silent: nothing is asked of it while the source is back-pressured. */
static bool is_broker_reachable(const json_t *broker)
{
    bool owes = json_integer_value(json_object_get(broker, "waitresp_cnt")) > 0 &&
                json_integer_value(json_object_get(broker, "rxidle")) > UNANSWERED_US;
    return is_connected(broker) && !owes;
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
            if (topics[t]->splits[p] == NULL || partition == NULL)
                continue;
            json_int_t node_id = json_integer_value(json_object_get(partition, "broker"));
            const json_t *broker = find_broker(brokers, node_id);
            topics[t]->splits[p]->is_live = is_broker_live(broker, silence_ms);
            if (node_id >= 0) /* else the leader is not known yet, or being elected */
                topics[t]->splits[p]->is_reachable = is_broker_reachable(broker);
        }
    }
    json_decref(document);
}

bool kafka_liveness_is_any_up(const char *statistics, size_t length)
{
    json_t *document = json_loadb(statistics, length, 0, NULL);
    bool is_up = false;
    const char *name;
    json_t *broker;
    json_object_foreach(json_object_get(document, "brokers"), name, broker)
        is_up = is_up || is_connected(broker);
    json_decref(document);
    return is_up;
}
