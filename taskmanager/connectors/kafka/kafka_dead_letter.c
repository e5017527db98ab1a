/* The dead-letter producer of a Kafka source, see kafka_dead_letter.h. */
#include "taskmanager/connectors/kafka/kafka_dead_letter.h"

#include "common/base/clock.h"
#include "common/base/heap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLUSH_PATIENCE_MS 60000
#define STEP_MS 50

struct kafka_dead_letter {
    rd_kafka_t *producer;
    char *topic;
    const atomic_bool *is_aborting;
    rd_kafka_resp_err_t failure; /* of a delivery; task thread: reports run in rd_kafka_poll */
};

static void on_delivery(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
    (void)producer;
    struct kafka_dead_letter *letters = opaque;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        letters->failure = message->err;
}

/* Connection and security settings, and how large records are, hold for producers, too; the rest may be for consumers only. */
static bool is_shared_property(const char *key)
{
    static const char *const prefixes[] = {"bootstrap.servers", "metadata.broker.list", "security.", "sasl.", "ssl.", "enable.ssl", "client.",
                                           "socket.", "broker.", "enable.sasl", "message.max.bytes"};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(key, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

struct error *kafka_dead_letter_create(const json_t *properties, const char *topic, const atomic_bool *is_aborting,
                                       struct kafka_dead_letter **out)
{
    static const struct kafka_setting defaults[] = {{"linger.ms", "20"}, {"queue.buffering.max.kbytes", "8192"}, {NULL, NULL}};
    static const struct kafka_setting forced[] = {{"acks", "all"}, {NULL, NULL}};
    json_t *shared = json_object();
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)properties, key, value)
    {
        if (is_shared_property(key))
            json_object_set_new(shared, key, json_deep_copy(value)); /* other tasks hold the original, too */
    }
    rd_kafka_conf_t *conf = NULL;
    struct error *err = kafka_conf_create(shared, defaults, forced, &conf);
    json_decref(shared);
    TRY(err);
    struct kafka_dead_letter *letters = heap_new(struct kafka_dead_letter);
    rd_kafka_conf_set_opaque(conf, letters);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    err = kafka_client_create(RD_KAFKA_PRODUCER, conf, &letters->producer);
    if (err != NULL) {
        free(letters);
        return err;
    }
    letters->topic = heap_strdup(topic);
    letters->is_aborting = is_aborting;
    *out = letters;
    return NULL;
}

static bool is_aborting_now(const struct kafka_dead_letter *letters)
{
    return letters->is_aborting != NULL && atomic_load(letters->is_aborting);
}

static struct error *stopped(const struct kafka_dead_letter *letters)
{
    return error_new(CANCELLED, "stopped while writing to dead-letter topic %s", letters->topic);
}

/* What the reports of former letters said. */
static struct error *failed(const struct kafka_dead_letter *letters)
{
    return letters->failure == RD_KAFKA_RESP_ERR_NO_ERROR ? NULL : kafka_error(letters->failure, "write to dead-letter topic %s", letters->topic);
}

struct error *kafka_dead_letter_send(struct kafka_dead_letter *letters, const char *topic, int32_t partition, int64_t offset,
                                     const void *bytes, size_t length, const char *reason)
{
    char origin[320];
    snprintf(origin, sizeof origin, "%s:%" PRId32 ":%" PRId64, topic, partition, offset);
    /* librdkafka takes the value as mutable, but copies it. */
    void *value = (void *)(uintptr_t)bytes;
    for (bool was_empty = false;; was_empty = rd_kafka_outq_len(letters->producer) == 0) {
        rd_kafka_resp_err_t code =
            rd_kafka_producev(letters->producer, RD_KAFKA_V_TOPIC(letters->topic), RD_KAFKA_V_VALUE(value, length),
                              RD_KAFKA_V_HEADER("millrace.origin", origin, (ssize_t)strlen(origin)),
                              RD_KAFKA_V_HEADER("millrace.reason", reason, (ssize_t)strlen(reason)),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            break;
        if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL && was_empty) /* it will never fit */
            code = RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
        if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            return kafka_error(code, "write to dead-letter topic %s", letters->topic);
        if (is_aborting_now(letters))
            return stopped(letters);
        rd_kafka_poll(letters->producer, STEP_MS);
    }
    rd_kafka_poll(letters->producer, 0);
    return failed(letters);
}

struct error *kafka_dead_letter_flush(struct kafka_dead_letter *letters)
{
    int64_t deadline_ms = clock_mono_ms() + FLUSH_PATIENCE_MS;
    rd_kafka_resp_err_t code;
    while ((code = rd_kafka_flush(letters->producer, STEP_MS)) == RD_KAFKA_RESP_ERR__TIMED_OUT && clock_mono_ms() < deadline_ms)
        if (is_aborting_now(letters))
            return stopped(letters);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? failed(letters) : kafka_error(code, "write to dead-letter topic %s", letters->topic);
}

void kafka_dead_letter_destroy(struct kafka_dead_letter *letters)
{
    if (letters == NULL)
        return;
    kafka_client_destroy(letters->producer, is_aborting_now(letters));
    free(letters->topic);
    free(letters);
}
