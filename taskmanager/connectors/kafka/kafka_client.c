/* Around librdkafka: configurations, log, errors. No state but what callers own. */
#include "taskmanager/connectors/kafka/kafka_client.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_TEXT_BYTES 512
/* librdkafka's levels are syslog's, whose header has names that collide with those of log.h. */
#define SYSLOG_ERR 3
#define SYSLOG_NOTICE 5

static void on_log(const rd_kafka_t *client, int level, const char *facility, const char *text)
{
    (void)client;
    enum log_level ours = level <= SYSLOG_ERR ? LOG_WARN : level <= SYSLOG_NOTICE ? LOG_INFO : LOG_DEBUG;
    log_write(ours, "KafkaClient", "%s: %s", facility, text);
}

static struct error *set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char text[ERROR_TEXT_BYTES];
    switch (rd_kafka_conf_set(conf, key, value, text, sizeof text)) {
    case RD_KAFKA_CONF_OK:
        return NULL;
    case RD_KAFKA_CONF_UNKNOWN:
        return error_with_hint(error_new(INVALID_ARGUMENT, "Kafka property \"%s\" is unknown: %s", key, text),
                               "properties are librdkafka's; Java class names and JAAS settings have none");
    case RD_KAFKA_CONF_INVALID:
    default:
        return error_new(INVALID_ARGUMENT, "Kafka property \"%s\" cannot be \"%s\": %s", key, value, text);
    }
}

static struct error *set_properties(rd_kafka_conf_t *conf, json_t *properties)
{
    const char *key;
    json_t *value;
    json_object_foreach(properties, key, value)
    {
        char number[32];
        const char *text = json_string_value(value);
        if (json_is_integer(value)) {
            snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
            text = number;
        } else if (json_is_boolean(value)) {
            text = json_is_true(value) ? "true" : "false";
        }
        if (text == NULL)
            return error_new(INVALID_ARGUMENT, "Kafka property \"%s\" must be a string, a number or a boolean", key);
        TRY(set(conf, key, text));
    }
    return NULL;
}

static struct error *fill(rd_kafka_conf_t *conf, const json_t *properties, const struct kafka_setting *defaults,
                          const struct kafka_setting *forced)
{
    /* A broker that comes back is found within a second; librdkafka would wait for up to ten. */
    TRY(set(conf, "reconnect.backoff.max.ms", "1000"));
    for (const struct kafka_setting *setting = defaults; setting->key != NULL; setting++)
        TRY(set(conf, setting->key, setting->value));
    /* jansson's iterators take the object as mutable, but only read it. */
    TRY(set_properties(conf, (json_t *)(uintptr_t)properties));
    for (const struct kafka_setting *setting = forced; setting->key != NULL; setting++)
        TRY(set(conf, setting->key, setting->value));
    if (json_object_get(properties, "bootstrap.servers") == NULL && json_object_get(properties, "metadata.broker.list") == NULL)
        return error_new(INVALID_ARGUMENT, "Kafka property \"bootstrap.servers\" is missing");
    rd_kafka_conf_set_log_cb(conf, on_log);
    return NULL;
}

struct error *kafka_conf_create(const json_t *properties, const struct kafka_setting *defaults, const struct kafka_setting *forced,
                                rd_kafka_conf_t **out)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct error *err = fill(conf, properties, defaults, forced);
    if (err != NULL) {
        rd_kafka_conf_destroy(conf);
        return err;
    }
    *out = conf;
    return NULL;
}

struct error *kafka_client_create(rd_kafka_type_t type, rd_kafka_conf_t *conf, rd_kafka_t **out)
{
    char text[ERROR_TEXT_BYTES];
    rd_kafka_t *client = rd_kafka_new(type, conf, text, sizeof text);
    if (client == NULL) {
        rd_kafka_conf_destroy(conf);
        return error_new(INVALID_ARGUMENT, "could not create a Kafka %s: %s", type == RD_KAFKA_PRODUCER ? "producer" : "consumer", text);
    }
    *out = client;
    return NULL;
}

struct closing {
    void (*close)(void *arg);
    void *arg;
};

static void *closing_main(void *arg)
{
    struct closing closing = *(struct closing *)arg;
    free(arg);
    closing.close(closing.arg);
    return NULL;
}

void kafka_close_later(void (*close)(void *arg), void *arg)
{
    struct closing closing = {.close = close, .arg = arg};
    struct closing *copy = heap_memdup(&closing, sizeof closing);
    pthread_t thread;
    if (pthread_create(&thread, NULL, closing_main, copy) == 0)
        pthread_detach(thread);
    else
        closing_main(copy);
}

static void purge(rd_kafka_t *client)
{
    if (rd_kafka_type(client) == RD_KAFKA_PRODUCER)
        rd_kafka_purge(client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
}

static void abandon_client(void *arg)
{
    purge(arg);
    /* Without the close of a consumer no callback is called either: their arguments may be gone. */
    rd_kafka_destroy_flags(arg, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

void kafka_client_destroy(rd_kafka_t *client, bool is_aborting)
{
    if (is_aborting) {
        kafka_close_later(abandon_client, client);
        return;
    }
    purge(client);
    rd_kafka_destroy(client);
}

const char *kafka_property(const json_t *properties, const char *key, const char *otherwise)
{
    const char *value = json_string_value(json_object_get(properties, key));
    return value != NULL ? value : otherwise;
}

bool kafka_error_is_transient(rd_kafka_resp_err_t code)
{
    switch ((int)code) {
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
    case RD_KAFKA_RESP_ERR__RESOLVE:
    case RD_KAFKA_RESP_ERR__WAIT_COORD:
    case RD_KAFKA_RESP_ERR__NODE_UPDATE:
    case RD_KAFKA_RESP_ERR__PARTIAL:
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
    case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
    case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
    case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
    case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_PREFERRED_LEADER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
    case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
        return true;
    default:
        return false;
    }
}

__attribute__((format(printf, 2, 0))) static struct error *make_error(bool is_final, const char *what, va_list args, const char *text)
{
    char action[256];
    vsnprintf(action, sizeof action, what, args);
    return is_final ? error_new(CONNECTOR_FATAL, "could not %s: %s", action, text) : error_new(CONNECTOR, "could not %s: %s", action, text);
}

bool kafka_error_is_final(rd_kafka_resp_err_t code)
{
    switch ((int)code) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return true;
    default:
        return false;
    }
}

struct error *kafka_error(rd_kafka_resp_err_t code, const char *what, ...)
{
    va_list args;
    va_start(args, what);
    struct error *err = make_error(kafka_error_is_final(code), what, args, rd_kafka_err2str(code));
    va_end(args);
    return err;
}

struct error *kafka_error_take(rd_kafka_error_t *kafka_err, const char *what, ...)
{
    va_list args;
    va_start(args, what);
    struct error *err = make_error(kafka_error_is_final(rd_kafka_error_code(kafka_err)), what, args, rd_kafka_error_string(kafka_err));
    va_end(args);
    rd_kafka_error_destroy(kafka_err);
    return err;
}

void kafka_log_limited(struct kafka_log_limit *limit, const char *format, ...)
{
    int64_t now_ms = clock_mono_ms();
    if (now_ms < limit->next_ms) {
        limit->swallowed++;
        return;
    }
    char text[ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (limit->swallowed > 0)
        log_warn("Kafka", "%s (and %lu more like it)", text, limit->swallowed);
    else
        log_warn("Kafka", "%s", text);
    limit->swallowed = 0;
    limit->next_ms = now_ms + 1000;
}
