/* clickevent-generator: the Click Event Count playground's data. Writes JSON click events for six pages to a Kafka topic;
 * event time advances 15 ms per page and event from a fixed start, so that each page has exactly 1000 events in every
 * 15-second window. Event n is the same in every run and always goes to the same partition, so a generator that was
 * stopped can go on (--resume) and a check can recompute everything. One thread, plus librdkafka's own. */
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/heap.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE_COUNT 6
#define EVENT_STEP_MS 15
#define RATE_DEFAULT 500
#define MESSAGE_BYTES_MAX 80

static const char *const pages[PAGE_COUNT] = {"/help", "/index", "/shop", "/jobs", "/about", "/news"};

struct generator_options {
    const char *brokers;
    const char *topic;
    int64_t rate;  /* events a second; 0 = as fast as possible */
    int64_t count; /* 0 = for ever */
    int32_t partitions;
    int64_t out_of_orderness_ms;
    bool resume;
};

/* Keeps a rate by sleeping after small batches: about 20 a second below 10,000/s, every 2 ms above. */
struct throttle {
    int64_t batch_count;
    int64_t batch_ns;
    int64_t batch_end_ns;
    int64_t sent_in_batch;
};

static volatile sig_atomic_t is_stopping;
static int delivery_failures;

static void on_signal(int signal_number)
{
    (void)signal_number;
    is_stopping = 1;
}

static void throttle_init(struct throttle *throttle, int64_t rate)
{
    *throttle = (struct throttle){0};
    if (rate <= 0)
        return;
    throttle->batch_count = rate >= 10000 ? rate / 500 : rate / 20 + 1;
    throttle->batch_ns = throttle->batch_count * INT64_C(1000000000) / rate;
    throttle->batch_end_ns = clock_mono_ns() + throttle->batch_ns;
}

static void throttle_wait(struct throttle *throttle)
{
    if (throttle->batch_count == 0 || ++throttle->sent_in_batch < throttle->batch_count)
        return;
    throttle->sent_in_batch = 0;
    int64_t now = clock_mono_ns();
    int64_t wait_ns = throttle->batch_end_ns - now;
    /* A generator that fell behind (a broker that was away) goes on at its rate instead of catching up in a burst. */
    throttle->batch_end_ns = wait_ns > -throttle->batch_ns ? throttle->batch_end_ns + throttle->batch_ns : now + throttle->batch_ns;
    if (wait_ns > 0)
        nanosleep(&(struct timespec){.tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000}, NULL);
}

/* The order in which events are sent: n itself, or, within a block whose event times span less than the allowed
 * out-of-orderness, a fixed permutation (multiplication by a number coprime to the block's size). */
static int64_t event_at(int64_t position, int64_t out_of_orderness_ms)
{
    int64_t block = out_of_orderness_ms / EVENT_STEP_MS * PAGE_COUNT;
    if (block < 2)
        return position;
    int64_t within = position % block;
    int64_t factor = block / 2 + 1;
    for (;; factor++) {
        int64_t a = factor, b = block;
        while (b != 0) {
            int64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1)
            break;
    }
    return position - within + within * factor % block;
}

/* Each page's events are spread over all partitions. */
static int32_t event_partition(int64_t event, int32_t partitions)
{
    return (int32_t)((event / PAGE_COUNT + event) % partitions);
}

static size_t event_format(int64_t event, char *out)
{
    static int64_t day_cached = -1;
    static char day_text[16];
    int64_t time_ms = event / PAGE_COUNT * EVENT_STEP_MS;
    int64_t day = time_ms / 86400000;
    if (day != day_cached) {
        time_t seconds = (time_t)(day * 86400);
        struct tm date;
        gmtime_r(&seconds, &date);
        strftime(day_text, sizeof day_text, "%d-%m-%Y", &date);
        day_cached = day;
    }
    unsigned in_day = (unsigned)(time_ms % 86400000);
    int length = snprintf(out, MESSAGE_BYTES_MAX, "{\"timestamp\":\"%s %02u:%02u:%02u:%03u\",\"page\":\"%s\"}", day_text,
                          in_day / 3600000, in_day / 60000 % 60, in_day / 1000 % 60, in_day % 1000, pages[event % PAGE_COUNT]);
    return (size_t)length;
}

static void on_delivery(rd_kafka_t *producer, const rd_kafka_message_t *message, void *arg)
{
    (void)producer;
    (void)arg;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    if (delivery_failures++ == 0)
        fprintf(stderr, "clickevent-generator: could not deliver an event: %s\n", rd_kafka_err2str(message->err));
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char text[512];
    if (rd_kafka_conf_set(conf, key, value, text, sizeof text) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "clickevent-generator: %s\n", text);
        exit(EXIT_FAILURE);
    }
}

static bool topic_exists(rd_kafka_t *producer, const char *name)
{
    /* All topics, because asking for one by name would make the broker create it with its own partition count. */
    const struct rd_kafka_metadata *metadata;
    bool is_found = false;
    if (rd_kafka_metadata(producer, 1, NULL, &metadata, 15000) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return false;
    for (int i = 0; i < metadata->topic_cnt; i++)
        is_found |= strcmp(metadata->topics[i].topic, name) == 0;
    rd_kafka_metadata_destroy(metadata);
    return is_found;
}

/* Creates the topic if it is not there; a broker that cannot do so creates it by itself at the first event. */
static void create_topic(rd_kafka_t *producer, const struct generator_options *options)
{
    if (topic_exists(producer, options->topic))
        return;
    char text[512];
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(options->topic, options->partitions, 1, text, sizeof text);
    if (topic == NULL)
        return;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(producer);
    rd_kafka_AdminOptions_t *admin = rd_kafka_AdminOptions_new(producer, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_operation_timeout(admin, 10000, text, sizeof text);
    rd_kafka_CreateTopics(producer, &topic, 1, admin, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 15000);
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_AdminOptions_destroy(admin);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(topic);
}

/* How many events each partition has already (--resume); zeros otherwise. Malloced. */
static int64_t *partition_counts(rd_kafka_t *producer, const struct generator_options *options)
{
    int64_t *counts = heap_alloc_array((size_t)options->partitions, sizeof *counts);
    for (int32_t p = 0; options->resume && p < options->partitions; p++) {
        int64_t low = 0;
        int64_t high = 0;
        rd_kafka_resp_err_t err = rd_kafka_query_watermark_offsets(producer, options->topic, p, &low, &high, 30000);
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR && err != RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION) {
            fprintf(stderr, "clickevent-generator: could not read the end of %s-%d: %s\n", options->topic, p, rd_kafka_err2str(err));
            exit(EXIT_FAILURE);
        }
        counts[p] = high;
    }
    return counts;
}

/* False when the event could not be queued. */
static bool send_event(rd_kafka_t *producer, rd_kafka_topic_t *topic, int32_t partition, int64_t event)
{
    char message[MESSAGE_BYTES_MAX];
    size_t length = event_format(event, message);
    while (!is_stopping) {
        if (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, message, length, NULL, 0, NULL) == 0)
            return true;
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            fprintf(stderr, "clickevent-generator: could not send to %s: %s\n", rd_kafka_topic_name(topic),
                    rd_kafka_err2str(rd_kafka_last_error()));
            return false;
        }
        rd_kafka_poll(producer, 10);
    }
    return false;
}

static int generate(const struct generator_options *options)
{
    char text[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", options->brokers);
    set(conf, "enable.idempotence", "true");
    set(conf, "linger.ms", options->rate > 0 && options->rate < 100000 ? "5" : "50");
    set(conf, "queue.buffering.max.messages", "200000");
    set(conf, "batch.num.messages", "10000");
    set(conf, "message.timeout.ms", "0"); /* an event is never given up: windows must have exactly 1000 */
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (producer == NULL) {
        fprintf(stderr, "clickevent-generator: %s\n", text);
        rd_kafka_conf_destroy(conf);
        return EXIT_FAILURE;
    }
    create_topic(producer, options);
    int64_t *already = partition_counts(producer, options);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, options->topic, NULL);
    struct throttle throttle;
    throttle_init(&throttle, options->rate);
    bool is_ok = true;
    for (int64_t position = 0; is_ok && !is_stopping && (options->count == 0 || position < options->count); position++) {
        int64_t event = event_at(position, options->out_of_orderness_ms);
        int32_t partition = event_partition(event, options->partitions);
        if (already[partition] > 0) {
            already[partition]--;
            continue;
        }
        is_ok = send_event(producer, topic, partition, event);
        if ((position & 1023) == 0)
            rd_kafka_poll(producer, 0);
        throttle_wait(&throttle);
    }
    while (rd_kafka_outq_len(producer) > 0 && !(is_stopping && rd_kafka_flush(producer, 5000) != RD_KAFKA_RESP_ERR_NO_ERROR))
        rd_kafka_poll(producer, 50);
    free(already);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(producer);
    return is_ok && delivery_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void usage(FILE *out)
{
    fputs("Usage: clickevent-generator [options]\n"
          "Writes click events as JSON to a Kafka topic.\n\n"
          "  --bootstrap.servers HOST:PORT   Kafka brokers (localhost:9092)\n"
          "  --topic NAME                    topic (input)\n"
          "  --rate N                        events a second (500; 0 = as fast as possible)\n"
          "  --count N                       stop after N events (0 = never)\n"
          "  --partitions N                  partitions to spread over; the topic is created with them (1)\n"
          "  --out-of-orderness MS           send events up to this much event time out of order (0)\n"
          "  --resume                        go on behind the events that the topic has already\n"
          "  --help, --version\n",
          out);
}

static int64_t parse_number(const char *option, const char *text, int64_t max)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 0 || value > max) {
        fprintf(stderr, "clickevent-generator: --%s takes a whole number from 0 to %" PRId64 ", not \"%s\"\n", option, max, text);
        exit(EXIT_FAILURE);
    }
    return value;
}

int main(int argc, char **argv)
{
    struct generator_options options = {.brokers = "localhost:9092", .topic = "input", .rate = RATE_DEFAULT, .partitions = 1};
    static const struct option table[] = {
        {"bootstrap.servers", required_argument, NULL, 'b'}, {"topic", required_argument, NULL, 't'},
        {"rate", required_argument, NULL, 'r'},              {"count", required_argument, NULL, 'n'},
        {"partitions", required_argument, NULL, 'p'},        {"out-of-orderness", required_argument, NULL, 'o'},
        {"resume", no_argument, NULL, 'R'},                  {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},                 {0},
    };
    for (int c; (c = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        switch (c) {
        case 'b': options.brokers = optarg; break;
        case 't': options.topic = optarg; break;
        case 'r': options.rate = parse_number("rate", optarg, 1000000000); break;
        case 'n': options.count = parse_number("count", optarg, INT64_MAX / 64); break;
        case 'p': options.partitions = (int32_t)parse_number("partitions", optarg, 10000); break;
        case 'o': options.out_of_orderness_ms = parse_number("out-of-orderness", optarg, 86400000); break;
        case 'R': options.resume = true; break;
        case 'h': usage(stdout); return EXIT_SUCCESS;
        case 'v': puts("clickevent-generator " MILLRACE_VERSION); return EXIT_SUCCESS;
        default: usage(stderr); return EXIT_FAILURE;
        }
    }
    if (optind < argc || options.partitions < 1) {
        fprintf(stderr, "clickevent-generator: %s\n", optind < argc ? "it takes options only; see --help" : "--partitions must be at least 1");
        return EXIT_FAILURE;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return generate(&options);
}
