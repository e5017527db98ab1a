/* kafka-mock-broker: librdkafka's mock cluster as a process, the broker of `make demo` where there is no Kafka.
 * Its limits (librdkafka 2.0.2): memory only; librdkafka clients only; keeps 5 MiB or 100,000 message sets per partition and then
 * drops the oldest; no timestamp index; transactions are not isolated; no topic administration. Prints its bootstrap
 * address on one line, then serves until SIGTERM, SIGINT or the end of standard input (--until-eof). */
#include "common/base/error.h"

#include <errno.h>
#include <getopt.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void usage(FILE *out)
{
    fputs("Usage: kafka-mock-broker [--topic NAME:PARTITIONS]... [--brokers N] [--until-eof]\n"
          "A Kafka broker in memory for demonstrations; prints its bootstrap address. Not for data that matters.\n",
          out);
}

static bool create_topic(rd_kafka_mock_cluster_t *cluster, const char *text)
{
    char name[250];
    int partitions = 0;
    if (sscanf(text, "%249[^:]:%d", name, &partitions) != 2 || partitions < 1) {
        fprintf(stderr, "kafka-mock-broker: --topic takes NAME:PARTITIONS, not \"%s\"\n", text);
        return false;
    }
    rd_kafka_resp_err_t err = rd_kafka_mock_topic_create(cluster, name, partitions, 1);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
        fprintf(stderr, "kafka-mock-broker: could not create topic %s: %s\n", name, rd_kafka_err2str(err));
    return err == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Waits for a stopping signal (blocked since the start of main), or for the end of standard input. */
static void serve(const sigset_t *signals, bool is_until_eof)
{
    for (;;) {
        int signal_number = sigtimedwait(signals, NULL, &(struct timespec){.tv_nsec = 200000000});
        if (signal_number > 0)
            return;
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        char discard[256];
        if (is_until_eof && poll(&input, 1, 0) > 0 && read(STDIN_FILENO, discard, sizeof discard) <= 0)
            return;
    }
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"topic", required_argument, NULL, 't'}, {"brokers", required_argument, NULL, 'b'}, {"until-eof", no_argument, NULL, 'e'},
        {"help", no_argument, NULL, 'h'},        {"version", no_argument, NULL, 'v'},       {0},
    };
    const char *topics[64];
    size_t topic_count = 0;
    int brokers = 1;
    bool is_until_eof = false;
    for (int c; (c = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        switch (c) {
        case 't':
            if (topic_count < sizeof topics / sizeof topics[0])
                topics[topic_count++] = optarg;
            break;
        case 'b': brokers = (int)strtol(optarg, NULL, 10); break;
        case 'e': is_until_eof = true; break;
        case 'h': usage(stdout); return EXIT_SUCCESS;
        case 'v': puts("kafka-mock-broker " MILLRACE_VERSION); return EXIT_SUCCESS;
        default: usage(stderr); return EXIT_FAILURE;
        }
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    char text[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "log_level", "3", text, sizeof text); /* the hosting client has no broker of its own to talk to */
    rd_kafka_t *host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    rd_kafka_mock_cluster_t *cluster = host != NULL && brokers > 0 ? rd_kafka_mock_cluster_new(host, brokers) : NULL;
    if (cluster == NULL) {
        fprintf(stderr, "kafka-mock-broker: could not start with %d brokers\n", brokers);
        return EXIT_FAILURE;
    }
    bool is_ok = true;
    for (size_t i = 0; i < topic_count; i++)
        is_ok &= create_topic(cluster, topics[i]);
    if (is_ok) {
        puts(rd_kafka_mock_cluster_bootstraps(cluster));
        fflush(stdout);
        serve(&signals, is_until_eof);
    }
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(host);
    return is_ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
