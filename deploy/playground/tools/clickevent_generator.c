/* clickevent-generator: the Click Event Count playground's data. Writes JSON click events for six pages to a Kafka topic;
 * event time advances 15 ms per page and event from a fixed start, so that each page has exactly 1000 events in every
 * 15-second window. Event n is the same in every run and always goes to the same partition, so a generator that was
 * stopped or killed can go on (--resume) and a check can recompute everything. One thread, plus librdkafka's own.
 *
 * Why no kill loses or repeats a click: the producer is idempotent, so a partition always holds the first k of the events that
 * belong to it, in order, and k is its end offset. A generator that starts reads the end offsets and skips as many events of each
 * partition. Every delivery report says at which offset an event lies; one that is not where it must be means a second writer. */
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
    int64_t max_skew_ms; /* event time between the newest event and the oldest that the broker has not confirmed; 0 = any */
    bool resume;
};

/* One partition of the topic. Delivery reports come in the order of sending. */
struct partition {
    int64_t skip_count;   /* events that it has already and that are still to be skipped */
    int64_t next_offset;  /* where the next event to be confirmed lies; meaningful with --resume */
    int64_t pending_count;
    int64_t pending_from; /* no event before this position is pending */
};

struct generator {
    const struct generator_options *options;
    rd_kafka_t *producer;
    rd_kafka_topic_t *topic;
    struct partition *partitions;
    bool has_failed;
};

/* Keeps a rate by sleeping after small batches: about 20 a second below 10,000/s, every 2 ms above. */
struct throttle {
    int64_t batch_count;
    int64_t batch_ns;
    int64_t batch_end_ns;
    int64_t sent_in_batch;
};

static volatile sig_atomic_t is_stopping;

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
    struct generator *generator = arg;
    struct partition *partition = &generator->partitions[message->partition];
    partition->pending_count--;
    partition->pending_from = (int64_t)(intptr_t)message->_private + 1;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (!generator->has_failed)
            fprintf(stderr, "clickevent-generator: could not deliver an event: %s\n", rd_kafka_err2str(message->err));
        generator->has_failed = true;
        return;
    }
    /* A repeated request whose first answer was lost is confirmed without an offset. */
    if (generator->options->resume && message->offset >= 0 && message->offset != partition->next_offset && !generator->has_failed) {
        fprintf(stderr, "clickevent-generator: an event is at offset %" PRId64 " of %s-%" PRId32 " instead of %" PRId64
                ": somebody else writes to this topic (a second generator?); stop it and start with an empty topic\n",
                message->offset, generator->options->topic, message->partition, partition->next_offset);
        generator->has_failed = true;
    }
    partition->next_offset++;
}

/* librdkafka's lines, under this program's name. */
static void on_log(const rd_kafka_t *producer, int level, const char *facility, const char *text)
{
    (void)producer;
    (void)facility;
    if (level <= 4)
        fprintf(stderr, "clickevent-generator: %s\n", text);
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char text[512];
    if (rd_kafka_conf_set(conf, key, value, text, sizeof text) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "clickevent-generator: %s\n", text);
        exit(EXIT_FAILURE);
    }
}

/* Partitions of the topic; 0 = there is no such topic; -1 = the broker did not answer. Asks for all topics, because asking for one
 * by name would make the broker create it with its own partition count. */
static int32_t count_partitions(rd_kafka_t *producer, const char *name)
{
    const struct rd_kafka_metadata *metadata;
    int32_t count = 0;
    if (rd_kafka_metadata(producer, 1, NULL, &metadata, 2000) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return -1;
    for (int i = 0; i < metadata->topic_cnt; i++) {
        if (strcmp(metadata->topics[i].topic, name) == 0)
            count = metadata->topics[i].partition_cnt;
    }
    rd_kafka_metadata_destroy(metadata);
    return count;
}

/* The topic's partitions as soon as a broker answers; -1 when this program is stopped before. */
static int32_t await_broker(struct generator *generator)
{
    const struct generator_options *options = generator->options;
    for (bool is_told = false; !is_stopping; is_told = true) {
        int32_t count = count_partitions(generator->producer, options->topic);
        if (count >= 0)
            return count;
        if (!is_told)
            fprintf(stderr, "clickevent-generator: waiting for Kafka at %s\n", options->brokers);
    }
    return -1;
}

/* A broker that cannot create topics on request creates this one by itself at the first event. */
static void create_topic(struct generator *generator)
{
    char text[512];
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(generator->options->topic, generator->options->partitions, 1, text, sizeof text);
    if (topic == NULL)
        return;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(generator->producer);
    rd_kafka_AdminOptions_t *admin = rd_kafka_AdminOptions_new(generator->producer, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_operation_timeout(admin, 10000, text, sizeof text);
    rd_kafka_CreateTopics(generator->producer, &topic, 1, admin, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 15000);
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_AdminOptions_destroy(admin);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(topic);
}

/* The end offset of a partition that exists, as soon as its leader answers; -1 when this program is stopped before. */
static int64_t await_end_offset(struct generator *generator, int32_t partition)
{
    const char *topic = generator->options->topic;
    rd_kafka_resp_err_t err_told = RD_KAFKA_RESP_ERR_NO_ERROR;
    while (!is_stopping) {
        int64_t low = 0;
        int64_t high = 0;
        rd_kafka_resp_err_t err = rd_kafka_query_watermark_offsets(generator->producer, topic, partition, &low, &high, 2000);
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
            return high;
        if (err != err_told)
            fprintf(stderr, "clickevent-generator: could not read the end of %s-%" PRId32 " yet: %s\n", topic, partition, rd_kafka_err2str(err));
        err_told = err;
        rd_kafka_poll(generator->producer, 100);
    }
    return -1;
}

/* Finds out how many events each partition has. False: stopped, or the topic is not one that this generator has written. */
static bool resume(struct generator *generator, int32_t topic_partitions)
{
    const struct generator_options *options = generator->options;
    if (topic_partitions != options->partitions) {
        fprintf(stderr, "clickevent-generator: topic %s has %" PRId32 " partitions, but --partitions says %" PRId32
                "; to go on with it, give the same number\n", options->topic, topic_partitions, options->partitions);
        return false;
    }
    int64_t total = -1;
    /* The ends stand still once the last request of a killed predecessor, which the broker may still hold, is through. */
    for (int64_t total_before = -2; total != total_before;) {
        total_before = total;
        total = 0;
        for (int32_t p = 0; p < options->partitions; p++) {
            int64_t end = await_end_offset(generator, p);
            if (end < 0)
                return false;
            generator->partitions[p].skip_count = generator->partitions[p].next_offset = end;
            total += end;
        }
        if (total != total_before)
            rd_kafka_poll(generator->producer, 300);
    }
    fprintf(stderr, "clickevent-generator: going on behind %" PRId64 " events in topic %s\n", total, options->topic);
    return true;
}

/* Waits until this position is less than the allowed skew ahead of the oldest unconfirmed event: a consumer that reads one partition
 * sooner than another, after an outage or a kill, finds no event later than its watermark allows. */
static void skew_wait(struct generator *generator, int64_t position)
{
    int64_t skew_count = generator->options->max_skew_ms / EVENT_STEP_MS * PAGE_COUNT;
    rd_kafka_poll(generator->producer, 0);
    while (!is_stopping && !generator->has_failed) {
        int64_t oldest = position;
        for (int32_t p = 0; p < generator->options->partitions; p++) {
            const struct partition *partition = &generator->partitions[p];
            if (partition->pending_count > 0 && partition->pending_from < oldest)
                oldest = partition->pending_from;
        }
        if (position - oldest <= skew_count)
            return;
        rd_kafka_poll(generator->producer, 10);
    }
}

/* False when the event could not be queued. */
static bool send_event(struct generator *generator, int32_t partition, int64_t position, int64_t event)
{
    char message[MESSAGE_BYTES_MAX];
    size_t length = event_format(event, message);
    struct partition *state = &generator->partitions[partition];
    while (!is_stopping) {
        if (rd_kafka_produce(generator->topic, partition, RD_KAFKA_MSG_F_COPY, message, length, NULL, 0, (void *)(intptr_t)position) == 0) {
            if (state->pending_count++ == 0)
                state->pending_from = position;
            return true;
        }
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            fprintf(stderr, "clickevent-generator: could not send to %s: %s\n", generator->options->topic,
                    rd_kafka_err2str(rd_kafka_last_error()));
            generator->has_failed = true;
            return false;
        }
        rd_kafka_poll(generator->producer, 10);
    }
    return false;
}

static void send_events(struct generator *generator)
{
    const struct generator_options *options = generator->options;
    struct throttle throttle;
    throttle_init(&throttle, options->rate);
    for (int64_t position = 0; options->count == 0 || position < options->count; position++) {
        int64_t event = event_at(position, options->out_of_orderness_ms);
        int32_t partition = event_partition(event, options->partitions);
        if (generator->partitions[partition].skip_count > 0) {
            generator->partitions[partition].skip_count--;
            continue;
        }
        if (options->max_skew_ms > 0)
            skew_wait(generator, position);
        else if ((position & 1023) == 0)
            rd_kafka_poll(generator->producer, 0);
        if (is_stopping || generator->has_failed || !send_event(generator, partition, position, event))
            return;
        throttle_wait(&throttle);
    }
}

static rd_kafka_t *create_producer(struct generator *generator)
{
    char text[512];
    const struct generator_options *options = generator->options;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", options->brokers);
    set(conf, "client.id", "clickevent-generator");
    set(conf, "enable.idempotence", "true");
    set(conf, "linger.ms", options->rate > 0 && options->rate < 100000 ? "5" : "50");
    set(conf, "queue.buffering.max.messages", "200000");
    set(conf, "batch.num.messages", "10000");
    set(conf, "reconnect.backoff.max.ms", "1000");
    set(conf, "message.timeout.ms", "0"); /* an event is never given up: windows must have exactly 1000 */
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_opaque(conf, generator);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (producer == NULL) {
        fprintf(stderr, "clickevent-generator: %s\n", text);
        rd_kafka_conf_destroy(conf);
    }
    return producer;
}

static int generate(const struct generator_options *options)
{
    struct generator generator = {.options = options};
    generator.producer = create_producer(&generator);
    if (generator.producer == NULL)
        return EXIT_FAILURE;
    generator.partitions = heap_alloc_array((size_t)options->partitions, sizeof *generator.partitions);
    int32_t topic_partitions = await_broker(&generator);
    if (topic_partitions == 0)
        create_topic(&generator);
    generator.has_failed = topic_partitions > 0 && options->resume && !resume(&generator, topic_partitions) && !is_stopping;
    generator.topic = rd_kafka_topic_new(generator.producer, options->topic, NULL);
    if (!generator.has_failed)
        send_events(&generator);
    while (rd_kafka_outq_len(generator.producer) > 0 &&
           !(is_stopping && rd_kafka_flush(generator.producer, 5000) != RD_KAFKA_RESP_ERR_NO_ERROR))
        rd_kafka_poll(generator.producer, 50);
    rd_kafka_topic_destroy(generator.topic);
    rd_kafka_destroy(generator.producer);
    free(generator.partitions);
    return generator.has_failed ? EXIT_FAILURE : EXIT_SUCCESS;
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
          "  --max-skew MS                   wait while an event this much event time older is unconfirmed (0 = never)\n"
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
        {"resume", no_argument, NULL, 'R'},                  {"max-skew", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},                    {"version", no_argument, NULL, 'v'},
        {0},
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
        case 's': options.max_skew_ms = parse_number("max-skew", optarg, 86400000); break;
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
