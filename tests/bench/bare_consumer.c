/* The yardstick of `make bench`: a bare librdkafka consumer that reads a topic from its beginning to its present end and only counts.
 * As well tuned as we know, and the job's Kafka source (taskmanager/connectors/kafka/kafka_source.c) in the same way: all partitions
 * forwarded to one queue that is served by callback (one lock for many messages), no offsets stored, no checksums, and the same bounds of
 * fetches and queue. The queue holds what three fetches bring, and as this consumer is always faster than the fetching it never
 * fills: a larger one changes nothing (measured up to a million messages).
 * Usage: bare_consumer --bootstrap.servers HOST:PORT --topic NAME [--count N]. Prints {"messages", "bytes", "seconds", "cpu_seconds"}: time from
 * the first message to the last, CPU of the process from its start, as the job's is counted, too. */
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

struct counter {
    rd_kafka_t *client;
    uint64_t messages;
    uint64_t wanted; /* 0: all */
    uint64_t bytes;
    int partitions_left;
    double first_seconds;
    const char *failure;
};

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void on_message(rd_kafka_message_t *message, void *opaque)
{
    struct counter *counter = opaque;
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        counter->partitions_left--;
    } else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        counter->failure = rd_kafka_message_errstr(message);
    } else {
        if (counter->messages++ == 0)
            counter->first_seconds = now_seconds();
        counter->bytes += message->len;
    }
}

static const char *option(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return NULL;
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char text[256];
    if (rd_kafka_conf_set(conf, key, value, text, sizeof text) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "bare_consumer: %s\n", text);
        exit(1);
    }
}

static rd_kafka_t *create_client(const char *servers)
{
    char text[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", servers);
    set(conf, "enable.partition.eof", "true");
    set(conf, "enable.auto.commit", "false");
    set(conf, "enable.auto.offset.store", "false");
    set(conf, "queued.min.messages", "32768");
    set(conf, "queued.max.messages.kbytes", "16384");
    set(conf, "fetch.message.max.bytes", "1048576");
    set(conf, "fetch.max.bytes", "8388608");
    set(conf, "fetch.error.backoff.ms", "100");
    set(conf, "socket.nagle.disable", "true");
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (client == NULL) {
        fprintf(stderr, "bare_consumer: %s\n", text);
        exit(1);
    }
    return client;
}

int main(int argc, char **argv)
{
    const char *servers = option(argc, argv, "--bootstrap.servers");
    const char *name = option(argc, argv, "--topic");
    const char *count = option(argc, argv, "--count");
    if (servers == NULL || name == NULL) {
        fprintf(stderr, "usage: bare_consumer --bootstrap.servers HOST:PORT --topic NAME [--count N]\n");
        return 2;
    }
    struct counter counter = {.client = create_client(servers), .wanted = count != NULL ? strtoull(count, NULL, 10) : 0};
    rd_kafka_topic_t *topic = rd_kafka_topic_new(counter.client, name, NULL);
    const rd_kafka_metadata_t *metadata;
    rd_kafka_resp_err_t code = rd_kafka_metadata(counter.client, 0, topic, &metadata, 10000);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR || metadata->topic_cnt != 1 || metadata->topics[0].partition_cnt == 0) {
        fprintf(stderr, "bare_consumer: no topic %s: %s\n", name, rd_kafka_err2str(code));
        return 1;
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(counter.client);
    int partition_count = metadata->topics[0].partition_cnt;
    counter.partitions_left = partition_count;
    for (int i = 0; i < partition_count; i++)
        rd_kafka_consume_start_queue(topic, metadata->topics[0].partitions[i].id, RD_KAFKA_OFFSET_BEGINNING, queue);
    rd_kafka_metadata_destroy(metadata);
    while (counter.partitions_left > 0 && counter.failure == NULL && (counter.wanted == 0 || counter.messages < counter.wanted))
        rd_kafka_consume_callback_queue(queue, 100, on_message, &counter);
    double seconds = now_seconds() - counter.first_seconds;
    double cpu = cpu_seconds();
    if (counter.failure != NULL)
        fprintf(stderr, "bare_consumer: %s\n", counter.failure);
    printf("{\"messages\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"seconds\": %.3f, \"cpu_seconds\": %.3f}\n", counter.messages, counter.bytes,
           counter.messages > 0 ? seconds : 0.0, counter.messages > 0 ? cpu : 0.0);
    for (int i = 0; i < partition_count; i++)
        rd_kafka_consume_stop(topic, i);
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(counter.client);
    return counter.failure != NULL;
}
