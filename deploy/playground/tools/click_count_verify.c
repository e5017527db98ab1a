/* click-count-verify: reads the results of the Click Event Count job, prints each window as it completes, and checks that
 * every page has the expected count in every complete window. A result that comes again (at-least-once after a restart)
 * must be identical. Ends on SIGTERM, SIGINT, --seconds or --windows, with a one-line JSON summary; exit 0 only if at least one
 * window was complete and nothing was wrong. One thread, plus librdkafka's own. */
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/heap.h"
#include "common/base/vec.h"

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct page_count {
    char *page;
    int64_t count;
};

struct window {
    int64_t start_ms;
    char *start;
    char *end;
    VEC(struct page_count) pages;
    bool is_reported;
};

struct verifier {
    const char *brokers;
    const char *topic;
    const char *isolation;
    int64_t expected;
    size_t page_count;
    int64_t seconds;
    size_t windows_wanted; /* 0 = no limit */
    bool is_quiet;
    VEC(struct window) windows; /* by start, ascending */
    int64_t rows;
    int64_t duplicates;
    int64_t wrong;      /* counts other than expected */
    int64_t conflicts;  /* the same window and page with another count */
    int64_t malformed;
    size_t complete;
};

static volatile sig_atomic_t is_stopping;

static void on_signal(int signal_number)
{
    (void)signal_number;
    is_stopping = 1;
}

/* dd-MM-yyyy HH:mm:ss:SSS in UTC; -1 when it is something else. */
static int64_t parse_time(const char *text)
{
    struct tm date = {0};
    int milliseconds;
    int end = 0;
    if (sscanf(text, "%2d-%2d-%4d %2d:%2d:%2d:%3d%n", &date.tm_mday, &date.tm_mon, &date.tm_year, &date.tm_hour, &date.tm_min,
               &date.tm_sec, &milliseconds, &end) != 7 || text[end] != '\0')
        return -1;
    date.tm_mon -= 1;
    date.tm_year -= 1900;
    return (int64_t)timegm(&date) * 1000 + milliseconds;
}

static struct window *window_at(struct verifier *verifier, int64_t start_ms, const char *start, const char *end)
{
    size_t i = verifier->windows.count;
    while (i > 0 && verifier->windows.items[i - 1].start_ms > start_ms)
        i--;
    if (i > 0 && verifier->windows.items[i - 1].start_ms == start_ms)
        return &verifier->windows.items[i - 1];
    struct window window = {.start_ms = start_ms, .start = heap_strdup(start), .end = heap_strdup(end)};
    vec_push(&verifier->windows, window);
    memmove(&verifier->windows.items[i + 1], &verifier->windows.items[i], (verifier->windows.count - 1 - i) * sizeof window);
    verifier->windows.items[i] = window;
    return &verifier->windows.items[i];
}

static void window_add(struct verifier *verifier, struct window *window, const char *page, int64_t count)
{
    for (size_t i = 0; i < window->pages.count; i++) {
        if (strcmp(window->pages.items[i].page, page) != 0)
            continue;
        verifier->duplicates++;
        if (window->pages.items[i].count != count) {
            verifier->conflicts++;
            printf("CONFLICT %s %s: %" PRId64 ", before %" PRId64 "\n", window->start, page, count, window->pages.items[i].count);
        }
        return;
    }
    vec_push(&window->pages, ((struct page_count){heap_strdup(page), count}));
    if (count != verifier->expected) {
        verifier->wrong++;
        printf("WRONG    %s %s: %" PRId64 ", expected %" PRId64 "\n", window->start, page, count, verifier->expected);
    }
}

static void window_report(struct verifier *verifier, struct window *window)
{
    if (window->is_reported || window->pages.count < verifier->page_count)
        return;
    window->is_reported = true;
    verifier->complete++;
    if (verifier->is_quiet)
        return;
    bool is_right = true;
    printf("%s .. %s ", window->start, window->end + 11);
    for (size_t i = 0; i < window->pages.count; i++) {
        printf(" %s %" PRId64, window->pages.items[i].page, window->pages.items[i].count);
        is_right &= window->pages.items[i].count == verifier->expected;
    }
    puts(is_right ? "  ok" : "  WRONG");
    fflush(stdout);
}

static void on_result(struct verifier *verifier, const char *text, size_t length)
{
    json_t *row = json_loadb(text, length, 0, NULL);
    const char *start = json_string_value(json_object_get(row, "windowStart"));
    const char *end = json_string_value(json_object_get(row, "windowEnd"));
    const char *page = json_string_value(json_object_get(row, "page"));
    json_t *count = json_object_get(row, "count");
    int64_t start_ms = start != NULL ? parse_time(start) : -1;
    verifier->rows++;
    if (start_ms < 0 || end == NULL || strlen(end) < 12 || page == NULL || !json_is_integer(count)) {
        verifier->malformed++;
        printf("MALFORMED %.*s\n", (int)(length > 200 ? 200 : length), text);
    } else {
        struct window *window = window_at(verifier, start_ms, start, end);
        window_add(verifier, window, page, (int64_t)json_integer_value(count));
        window_report(verifier, window);
    }
    json_decref(row);
}

static rd_kafka_t *open_consumer(const struct verifier *verifier)
{
    char text[512];
    char group[64];
    snprintf(group, sizeof group, "click-count-verify-%" PRId64, clock_mono_ns());
    const char *settings[][2] = {{"bootstrap.servers", verifier->brokers}, {"group.id", group},
                                 {"auto.offset.reset", "earliest"},       {"enable.auto.commit", "false"},
                                 {"isolation.level", verifier->isolation}, {"allow.auto.create.topics", "true"},
                                 {"topic.metadata.refresh.interval.ms", "1000"}, {"fetch.wait.max.ms", "50"}};
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], text, sizeof text) != RD_KAFKA_CONF_OK) {
            fprintf(stderr, "click-count-verify: %s\n", text);
            rd_kafka_conf_destroy(conf);
            return NULL;
        }
    rd_kafka_t *consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (consumer == NULL) {
        fprintf(stderr, "click-count-verify: %s\n", text);
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_poll_set_consumer(consumer);
    return consumer;
}

/* Reads every partition of the topic from its beginning, those of a topic that comes or grows later too. By assignment: a
 * group of one has nothing to share, and would wait for its coordinator first. assigned: how many partitions are read. */
static void assign_new_partitions(const struct verifier *verifier, rd_kafka_t *consumer, rd_kafka_topic_t *topic, int32_t *assigned)
{
    const struct rd_kafka_metadata *metadata;
    if (rd_kafka_metadata(consumer, 0, topic, &metadata, 1000) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return; /* brokers may come later */
    int32_t partitions = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
    rd_kafka_metadata_destroy(metadata);
    if (partitions <= *assigned)
        return;
    rd_kafka_topic_partition_list_t *more = rd_kafka_topic_partition_list_new(partitions - *assigned);
    for (int32_t i = *assigned; i < partitions; i++)
        rd_kafka_topic_partition_list_add(more, verifier->topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_error_t *error = rd_kafka_incremental_assign(consumer, more);
    if (error == NULL)
        *assigned = partitions;
    else
        fprintf(stderr, "click-count-verify: %s: %s\n", verifier->topic, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    rd_kafka_topic_partition_list_destroy(more);
}

/* A window that lacks a page although a later window is complete has lost something. */
static int64_t count_incomplete(const struct verifier *verifier)
{
    int64_t incomplete = 0;
    bool is_later_complete = false;
    for (size_t i = verifier->windows.count; i > 0; i--) {
        const struct window *window = &verifier->windows.items[i - 1];
        if (window->pages.count >= verifier->page_count)
            is_later_complete = true;
        else if (is_later_complete)
            incomplete++;
    }
    return incomplete;
}

static int verify(struct verifier *verifier)
{
    rd_kafka_t *consumer = open_consumer(verifier);
    if (consumer == NULL)
        return EXIT_FAILURE;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(consumer, verifier->topic, NULL);
    int32_t assigned = 0;
    int64_t look_ms = 0;
    int64_t end_ms = verifier->seconds > 0 ? clock_mono_ms() + verifier->seconds * 1000 : INT64_MAX;
    while (!is_stopping && clock_mono_ms() < end_ms && (verifier->windows_wanted == 0 || verifier->complete < verifier->windows_wanted)) {
        if (clock_mono_ms() >= look_ms) {
            assign_new_partitions(verifier, consumer, topic, &assigned);
            look_ms = clock_mono_ms() + (assigned > 0 ? 5000 : 100);
        }
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 100);
        if (message == NULL)
            continue;
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->payload != NULL)
            on_result(verifier, message->payload, message->len);
        rd_kafka_message_destroy(message);
    }
    rd_kafka_topic_destroy(topic);
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
    int64_t incomplete = count_incomplete(verifier);
    bool is_ok = verifier->complete > 0 && verifier->wrong + verifier->conflicts + verifier->malformed + incomplete == 0;
    printf("{\"windows\": %zu, \"rows\": %" PRId64 ", \"duplicates\": %" PRId64 ", \"wrong\": %" PRId64 ", \"conflicts\": %" PRId64
           ", \"incomplete\": %" PRId64 ", \"malformed\": %" PRId64 ", \"ok\": %s}\n",
           verifier->complete, verifier->rows, verifier->duplicates, verifier->wrong, verifier->conflicts, incomplete,
           verifier->malformed, is_ok ? "true" : "false");
    for (size_t i = 0; i < verifier->windows.count; i++) {
        struct window *window = &verifier->windows.items[i];
        for (size_t p = 0; p < window->pages.count; p++)
            free(window->pages.items[p].page);
        vec_finish(&window->pages);
        free(window->start);
        free(window->end);
    }
    vec_finish(&verifier->windows);
    return is_ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void usage(FILE *out)
{
    fputs("Usage: click-count-verify [options]\n"
          "Prints and checks the results of the Click Event Count job.\n\n"
          "  --bootstrap.servers HOST:PORT   Kafka brokers (localhost:9092)\n"
          "  --topic NAME                    results (output)\n"
          "  --expect N                      events a page and window (1000)\n"
          "  --pages N                       pages a window (6)\n"
          "  --isolation LEVEL               read_committed (default) or read_uncommitted\n"
          "  --seconds N, --windows N        stop after N seconds, or after N complete windows\n"
          "  --quiet                         only what is wrong, and the summary\n",
          out);
}

static long long number_of(const char *option, const char *text)
{
    char *end;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || number < 0) {
        fprintf(stderr, "click-count-verify: --%s %s: a number from 0 on is expected\n", option, text);
        exit(EXIT_FAILURE);
    }
    return number;
}

int main(int argc, char **argv)
{
    struct verifier verifier = {.brokers = "localhost:9092", .topic = "output", .isolation = "read_committed", .expected = 1000, .page_count = 6};
    static const struct option table[] = {
        {"bootstrap.servers", required_argument, NULL, 'b'}, {"topic", required_argument, NULL, 't'},
        {"expect", required_argument, NULL, 'e'},            {"pages", required_argument, NULL, 'p'},
        {"isolation", required_argument, NULL, 'i'},         {"seconds", required_argument, NULL, 's'},
        {"windows", required_argument, NULL, 'w'},           {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},                    {"version", no_argument, NULL, 'v'},
        {0},
    };
    for (int c; (c = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        switch (c) {
        case 'b': verifier.brokers = optarg; break;
        case 't': verifier.topic = optarg; break;
        case 'e': verifier.expected = number_of("expect", optarg); break;
        case 'p': verifier.page_count = (size_t)number_of("pages", optarg); break;
        case 'i': verifier.isolation = optarg; break;
        case 's': verifier.seconds = number_of("seconds", optarg); break;
        case 'w': verifier.windows_wanted = (size_t)number_of("windows", optarg); break;
        case 'q': verifier.is_quiet = true; break;
        case 'h': usage(stdout); return EXIT_SUCCESS;
        case 'v': puts("click-count-verify " MILLRACE_VERSION); return EXIT_SUCCESS;
        default: usage(stderr); return EXIT_FAILURE;
        }
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return verify(&verifier);
}
