/* Kafka source and sink in whole jobs (local_job) against librdkafka's mock cluster in this process. What the mock cannot do
 * (transactions that become visible together, lookups by time) is tested end to end against a real broker. With
 * MILLRACE_TEST_KAFKA=host:port the exactly-once cases run against that broker, too. */
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str_buf.h"
#include "tests/support/chain_harness.h"
#include "tests/support/kafka_topic.h"
#include "tests/support/local_job.h"
#include "tests/unit/run_suite.h"

#include <arpa/inet.h>
#include <check.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PARTITIONS 2
#define TIMEOUT_MS 20000

static rd_kafka_t *producer;
static rd_kafka_mock_cluster_t *cluster;
static const char *servers;
static char directory[64];
static char in_topic[32] = "in", out_topic[32] = "out", transactional_prefix[32] = "tx";

static void no_error(struct error *err)
{
    if (err != NULL)
        ck_abort_msg("%s", error_text(err));
}

static void set_up(void)
{
    char text[256];
    log_set_level(LOG_WARN);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "test.mock.num.brokers", "2", text, sizeof text);
    rd_kafka_conf_set(conf, "linger.ms", "1", text, sizeof text);
    producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    ck_assert_ptr_nonnull(producer);
    cluster = rd_kafka_handle_mock_cluster(producer);
    servers = rd_kafka_mock_cluster_bootstraps(cluster);
    rd_kafka_mock_topic_create(cluster, "in", PARTITIONS, 1);
    rd_kafka_mock_topic_create(cluster, "out", PARTITIONS, 1);
    rd_kafka_mock_topic_create(cluster, "dead", 1, 1);
    for (int32_t i = 0; i < PARTITIONS; i++) {
        rd_kafka_mock_partition_set_leader(cluster, "in", i, 1);
        rd_kafka_mock_partition_set_leader(cluster, "out", i, 1);
    }
    strcpy(directory, "/tmp/test_kafka.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void tear_down(void)
{
    char command[128];
    rd_kafka_destroy(producer);
    /* What cancelled tasks have left to closing threads, as far as it comes: with the brokers gone, librdkafka may wait for answers
     * as long as socket.timeout.ms. */
    (void)rd_kafka_wait_destroyed(2000);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
}

static void produce_text(const char *topic, int32_t partition, const char *text)
{
    size_t length = text != NULL ? strlen(text) : 0;
    rd_kafka_resp_err_t code = rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                                                 RD_KAFKA_V_VALUE((void *)(uintptr_t)text, length),
                                                 RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    ck_assert_int_eq(code, RD_KAFKA_RESP_ERR_NO_ERROR);
}

/* Rows first … first + count - 1, to partitions in turn. */
static void produce_rows(int first, int count)
{
    for (int i = first; i < first + count; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"t\":%d,\"n\":%d}", 1000 + i, i);
        produce_text(in_topic, i % PARTITIONS, text);
        rd_kafka_poll(producer, 0);
    }
    ck_assert_int_eq(rd_kafka_flush(producer, TIMEOUT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
}

struct row_counts {
    int *counts; /* may be NULL */
    int size;
};

static void count_row(void *arg, const char *text)
{
    const struct row_counts *rows = arg;
    const char *n = strstr(text, "\"n\":");
    if (rows->counts != NULL && n != NULL && atoi(n + 4) < rows->size)
        rows->counts[atoi(n + 4)]++;
}

/* How often each row is in the topic: counts[n]++. Gives the number of records. */
static int consume(const char *topic, int *counts, int size)
{
    return kafka_topic_read(servers, topic, strcmp(topic, "dead") == 0 ? 1 : PARTITIONS, count_row, &(struct row_counts){counts, size});
}

#define SCHEMA "[{\"name\":\"t\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"n\",\"type\":\"INT\",\"nullable\":false}]"
#define FORMAT "{\"type\":\"json\",\"timestamp_format\":\"epoch-millis\"}"

/* source -> writer -> committer. extra: further options of the source, beginning with a comma. */
static struct job_graph *make_graph(const char *extra, const char *guarantee, int parallelism, bool checkpoints)
{
    char text[4096];
    snprintf(text, sizeof text,
             "{\"version\":1,\"job_id\":\"00000000000000000000000000000001\",\"name\":\"kafka\",\"config\":{%s},\"operators\":["
             "{\"name\":\"Source: in\",\"type\":\"kafka-source\",\"uid\":\"source\",\"parallelism\":%d,\"max_parallelism\":128,\"slot_sharing_group\":\"default\","
             "\"chaining\":\"ALWAYS\",\"options\":{\"properties\":{\"bootstrap.servers\":\"%s\",\"group.id\":\"g\"},\"topics\":[\"%s\"],\"format\":" FORMAT
             ",\"watermark\":{\"strategy\":\"bounded\",\"out_of_orderness_ms\":0,\"column\":\"t\"}%s},\"schema\":" SCHEMA ",\"inputs\":[]},"
             "{\"name\":\"out: Writer\",\"type\":\"kafka-sink-writer\",\"uid\":\"writer\",\"parallelism\":%d,\"max_parallelism\":128,\"slot_sharing_group\":\"default\","
             "\"chaining\":\"ALWAYS\",\"options\":{\"properties\":{\"bootstrap.servers\":\"%s\"},\"topic\":\"%s\",\"key_columns\":[1],\"format\":" FORMAT
             ",\"guarantee\":\"%s\",\"transactional_id_prefix\":\"%s\"},\"schema\":[{\"name\":\"key\",\"type\":\"BYTES\",\"nullable\":true},"
             "{\"name\":\"value\",\"type\":\"BYTES\",\"nullable\":true}],\"inputs\":[{\"source\":0,\"side_output\":-1,\"input\":0,\"partitioning\":\"FORWARD\"}]},"
             "{\"name\":\"out: Committer\",\"type\":\"kafka-sink-committer\",\"uid\":\"committer\",\"parallelism\":%d,\"max_parallelism\":128,"
             "\"slot_sharing_group\":\"default\",\"chaining\":\"ALWAYS\",\"options\":{\"properties\":{\"bootstrap.servers\":\"%s\"},\"topic\":\"%s\","
             "\"guarantee\":\"%s\",\"transactional_id_prefix\":\"%s\"},\"schema\":null,\"inputs\":[{\"source\":1,\"side_output\":-1,\"input\":0,"
             "\"partitioning\":\"FORWARD\"}]}]}",
             checkpoints ? "\"execution.checkpointing.interval\":\"1000\"" : "", parallelism, servers, in_topic, extra, parallelism,
                 servers, out_topic, guarantee,
             transactional_prefix, parallelism, servers, out_topic, guarantee, transactional_prefix);
    json_error_t json_err;
    json_t *json = json_loads(text, 0, &json_err);
    ck_assert_msg(json != NULL, "%s at %d", json_err.text, json_err.position);
    struct job_graph *graph;
    no_error(job_graph_from_json(json, &graph));
    json_decref(json);
    return graph;
}

static struct local_job *start(const char *extra, const char *guarantee, int parallelism, const char *restore)
{
    struct job_graph *graph = make_graph(extra, guarantee, parallelism, true);
    struct local_job *job;
    no_error(local_job_start(graph, &(struct local_job_options){.restore_directory = restore}, &job));
    job_graph_destroy(graph);
    return job;
}

static int64_t book(struct local_job *job, const char *name, const char *counter)
{
    json_t *books = local_job_books(job);
    int64_t value = json_integer_value(json_object_get(json_object_get(books, name), counter));
    json_decref(books);
    return value;
}

static void wait_for(struct local_job *job, const char *name, const char *counter, int64_t wanted)
{
    int64_t deadline = clock_mono_ms() + TIMEOUT_MS, value = 0;
    struct timespec pause = {.tv_nsec = 5000000};
    while ((value = book(job, name, counter)) < wanted && clock_mono_ms() < deadline)
        nanosleep(&pause, NULL);
    if (value < wanted)
        no_error(local_job_wait(job, 10));
    ck_assert_msg(value == wanted, "%s %s is %" PRId64 ", not %" PRId64, name, counter, value, wanted);
}

static const char *path(const char *name)
{
    static char text[4][128];
    static int next;
    char *out = text[next++ % 4];
    snprintf(out, sizeof text[0], "%s/%s", directory, name);
    return out;
}

/* Each of rows 0 … size - 1 is in "out" at least once, or exactly once. */
static void check_rows(int size, bool exactly)
{
    int *counts = calloc((size_t)size, sizeof *counts);
    int records = consume(out_topic, counts, size);
    for (int i = 0; i < size; i++)
        ck_assert_msg(exactly ? counts[i] == 1 : counts[i] >= 1, "row %d is there %d times", i, counts[i]);
    if (exactly)
        ck_assert_int_eq(records, size);
    free(counts);
}

#define EARLIEST ",\"startup\":{\"mode\":\"earliest\"}"

START_TEST(reads_writes_and_resumes)
{
    produce_rows(0, 1000);
    struct local_job *job = start(EARLIEST, "at-least-once", 2, NULL);
    wait_for(job, "Source: in", "rows_read", 1000);
    no_error(local_job_checkpoint(job, path("1"), "checkpoint", TIMEOUT_MS));
    check_rows(1000, true);
    produce_rows(1000, 500);
    wait_for(job, "Source: in", "rows_read", 1500);
    local_job_destroy(job);
    /* Another parallelism; the 500 come again. */
    job = start(EARLIEST, "at-least-once", 1, path("1"));
    wait_for(job, "Source: in", "rows_read", 1500);
    produce_rows(1500, 100);
    wait_for(job, "Source: in", "rows_read", 1600);
    no_error(local_job_checkpoint(job, path("2"), "checkpoint", TIMEOUT_MS));
    check_rows(1600, false);
    local_job_destroy(job);
}
END_TEST

START_TEST(bounded_ends)
{
    produce_rows(0, 300);
    struct local_job *job = start(EARLIEST ",\"bounded\":{\"mode\":\"latest\"}", "at-least-once", 2, NULL);
    no_error(local_job_wait_with(job, directory, 100, TIMEOUT_MS));
    ck_assert_int_eq(book(job, "Source: in", "rows_out"), 300);
    ck_assert_int_eq(book(job, "out: Writer", "rows_written"), 300);
    local_job_destroy(job);
    check_rows(300, true);
}
END_TEST

START_TEST(starts_and_stops_at_offsets)
{
    produce_rows(0, 100);
    struct local_job *job = start(",\"startup\":{\"mode\":\"specific\",\"offsets\":{\"in:0\":10,\"in:1\":20}},"
                                  "\"bounded\":{\"mode\":\"specific\",\"offsets\":{\"in:0\":15,\"in:1\":50}}",
                                  "none", 1, NULL);
    no_error(local_job_wait_with(job, directory, 100, TIMEOUT_MS));
    ck_assert_int_eq(book(job, "Source: in", "rows_out"), 5 + 30);
    local_job_destroy(job);
}
END_TEST

START_TEST(starts_at_the_end)
{
    produce_rows(0, 100);
    struct local_job *job = start(",\"startup\":{\"mode\":\"latest\"}", "none", 1, NULL);
    struct timespec pause = {.tv_nsec = 100000000};
    no_error(local_job_wait_running(job, TIMEOUT_MS));
    int sent = 0; /* the first ones may come before it has looked for the end */
    for (; sent < 200 && book(job, "Source: in", "rows_read") == 0; sent++) {
        produce_rows(100 + sent, 1);
        nanosleep(&pause, NULL);
    }
    int64_t read = book(job, "Source: in", "rows_read");
    ck_assert_msg(read > 0 && read <= sent, "%" PRId64 " of %d rows were read", read, sent);
    local_job_destroy(job);
}
END_TEST

/* Until the group has so much of the topic, over all partitions. */
static void wait_for_group(const char *group, int64_t wanted)
{
    char text[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", servers, text, sizeof text);
    rd_kafka_conf_set(conf, "group.id", group, text, sizeof text);
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    ck_assert_ptr_nonnull(client);
    int64_t deadline = clock_mono_ms() + TIMEOUT_MS, committed = 0;
    while (committed < wanted && clock_mono_ms() < deadline) {
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(PARTITIONS);
        rd_kafka_topic_partition_list_add_range(list, in_topic, 0, PARTITIONS - 1);
        committed = 0;
        if (rd_kafka_committed(client, list, TIMEOUT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR)
            for (int i = 0; i < list->cnt; i++)
                committed += list->elems[i].offset > 0 ? list->elems[i].offset : 0;
        rd_kafka_topic_partition_list_destroy(list);
    }
    ck_assert_int_eq(committed, wanted);
    rd_kafka_destroy(client);
}

START_TEST(group_offsets_are_committed_and_used)
{
    produce_rows(0, 100);
    struct local_job *job = start(EARLIEST, "none", 1, NULL);
    wait_for(job, "Source: in", "rows_read", 100);
    no_error(local_job_checkpoint(job, path("1"), "checkpoint", TIMEOUT_MS));
    wait_for_group("g", 100);
    local_job_destroy(job);
    produce_rows(100, 7);
    job = start(",\"startup\":{\"mode\":\"group-offsets\"}", "none", 1, NULL);
    wait_for(job, "Source: in", "rows_read", 7);
    local_job_destroy(job);
}
END_TEST

START_TEST(without_group_offsets_it_follows_the_property)
{
    produce_rows(0, 10);
    struct job_graph *graph = make_graph(",\"startup\":{\"mode\":\"group-offsets\"}", "none", 1, true);
    json_object_set_new(json_object_get(graph->operators[0].options, "properties"), "auto.offset.reset", json_string("earliest"));
    struct local_job *job;
    no_error(local_job_start(graph, &(struct local_job_options){0}, &job));
    job_graph_destroy(graph);
    wait_for(job, "Source: in", "rows_read", 10);
    local_job_destroy(job);
}
END_TEST

static void expect_failure(const char *extra, const char *text)
{
    struct local_job *job = start(extra, "none", 1, NULL);
    struct error *err = local_job_wait(job, TIMEOUT_MS);
    ck_assert_ptr_nonnull(err);
    char *message = error_text(err);
    ck_assert_msg(strstr(message, text) != NULL, "%s", message);
    free(message);
    error_free(err);
    local_job_destroy(job);
}

START_TEST(without_group_offsets_it_fails)
{
    produce_rows(0, 10);
    expect_failure(",\"startup\":{\"mode\":\"group-offsets\"}", "no committed offset");
}
END_TEST

START_TEST(offsets_below_0_are_refused)
{
    expect_failure(",\"startup\":{\"mode\":\"specific\",\"offsets\":{\"in:0\":0,\"in:1\":-1}}", "startup: the offset of in:1 must be a whole number from 0");
    expect_failure(EARLIEST ",\"bounded\":{\"mode\":\"specific\",\"offsets\":{\"in:0\":\"5\"}}", "bounded: the offset of in:0");
}
END_TEST

START_TEST(malformed_fails_with_place_and_sample)
{
    produce_rows(0, 10);
    produce_text("in", 1, "{\"t\":1,\"n\":");
    rd_kafka_flush(producer, TIMEOUT_MS);
    expect_failure(EARLIEST, "offset 5 of in-1");
}
END_TEST

START_TEST(malformed_is_skipped_and_counted)
{
    produce_rows(0, 10);
    produce_text("in", 1, "nonsense");
    produce_text("in", 1, NULL);
    produce_rows(10, 10);
    struct local_job *job = start(EARLIEST ",\"on_error\":{\"mode\":\"skip\"},\"bounded\":{\"mode\":\"latest\"}", "at-least-once", 2, NULL);
    no_error(local_job_wait_with(job, directory, 100, TIMEOUT_MS));
    ck_assert_int_eq(book(job, "Source: in", "rows_read"), 22);
    ck_assert_int_eq(book(job, "Source: in", "rows_out"), 20);
    ck_assert_int_eq(book(job, "Source: in", "unparsable"), 1);
    ck_assert_int_eq(book(job, "Source: in", "filtered"), 1);
    local_job_destroy(job);
    check_rows(20, true);
}
END_TEST

START_TEST(malformed_goes_to_the_dead_letter_topic)
{
    produce_rows(0, 10);
    produce_text("in", 0, "nonsense");
    rd_kafka_flush(producer, TIMEOUT_MS);
    struct local_job *job = start(EARLIEST ",\"on_error\":{\"mode\":\"dead-letter\",\"topic\":\"dead\"},\"bounded\":{\"mode\":\"latest\"}",
                                  "none", 1, NULL);
    no_error(local_job_wait_with(job, directory, 100, TIMEOUT_MS));
    ck_assert_int_eq(book(job, "Source: in", "unparsable"), 1);
    local_job_destroy(job);
    ck_assert_int_eq(consume("dead", NULL, 0), 1);
}
END_TEST

/* Without checkpoints the last letters were once dropped at the end of the job. */
START_TEST(dead_letters_arrive_without_checkpoints)
{
    produce_rows(0, 10);
    produce_text("in", 0, "nonsense");
    produce_text("in", 1, "more of it");
    rd_kafka_flush(producer, TIMEOUT_MS);
    struct job_graph *graph = make_graph(EARLIEST ",\"on_error\":{\"mode\":\"dead-letter\",\"topic\":\"dead\"},\"bounded\":{\"mode\":\"latest\"}",
                                         "none", 2, false);
    struct local_job *job;
    no_error(local_job_start(graph, &(struct local_job_options){0}, &job));
    job_graph_destroy(graph);
    no_error(local_job_wait(job, TIMEOUT_MS));
    ck_assert_int_eq(book(job, "Source: in", "unparsable"), 2);
    local_job_destroy(job);
    ck_assert_int_eq(consume("dead", NULL, 0), 2);
}
END_TEST

/* The property that lets large records in has to let them out, too. */
START_TEST(large_dead_letters_arrive)
{
    enum { SIZE = 1500000 };
    char text[256], *value = malloc(SIZE);
    memset(value, 'x', SIZE);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", servers, text, sizeof text);
    rd_kafka_conf_set(conf, "message.max.bytes", "2000000", text, sizeof text);
    rd_kafka_t *large = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    ck_assert_int_eq(rd_kafka_producev(large, RD_KAFKA_V_TOPIC("in"), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_VALUE(value, SIZE),
                                       RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
    ck_assert_int_eq(rd_kafka_flush(large, TIMEOUT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_destroy(large);
    free(value);
    struct job_graph *graph = make_graph(EARLIEST ",\"on_error\":{\"mode\":\"dead-letter\",\"topic\":\"dead\"},\"bounded\":{\"mode\":\"latest\"}",
                                         "none", 1, true);
    json_object_set_new(json_object_get(graph->operators[0].options, "properties"), "message.max.bytes", json_string("2000000"));
    struct local_job *job;
    no_error(local_job_start(graph, &(struct local_job_options){0}, &job));
    job_graph_destroy(graph);
    no_error(local_job_wait_with(job, directory, 100, TIMEOUT_MS));
    local_job_destroy(job);
    ck_assert_int_eq(consume("dead", NULL, 0), 1);
}
END_TEST

START_TEST(survives_a_broker_that_goes_and_comes)
{
    produce_rows(0, 100);
    struct local_job *job = start(EARLIEST, "at-least-once", 1, NULL);
    wait_for(job, "Source: in", "rows_read", 100);
    rd_kafka_mock_broker_set_down(cluster, 1);
    struct timespec pause = {.tv_sec = 1};
    nanosleep(&pause, NULL);
    rd_kafka_mock_broker_set_up(cluster, 1);
    produce_rows(100, 100);
    wait_for(job, "Source: in", "rows_read", 200);
    no_error(local_job_checkpoint(job, path("1"), "checkpoint", TIMEOUT_MS));
    local_job_destroy(job);
    check_rows(200, true);
}
END_TEST

/* The source of topics in-* alone, polled by hand. */
static json_t *alone_graph(void)
{
    json_t *options = json_pack("{s:{s:s},s:s,s:{s:s},s:i,s:{s:s,s:s},s:{s:s,s:i,s:s}}", "properties", "bootstrap.servers", servers, "topic_pattern",
                                "in-.*", "startup", "mode", "earliest", "discovery_interval_ms", 100, "format", "type", "json", "timestamp_format",
                                "epoch-millis", "watermark", "strategy", "ascending", "idle_timeout_ms", 300, "column", "t");
    return json_pack("[{s:s,s:s,s:s,s:i,s:o,s:o},{s:s,s:s,s:i,s:{},s:[{s:i,s:i,s:i,s:s}]}]", "name", "source", "type", "kafka-source", "uid",
                     "source", "parallelism", 1, "options", options, "schema", json_loads(SCHEMA, 0, NULL), "name", "sink", "type",
                     "blackhole-sink", "parallelism", 7, "options", "inputs", "source", 0, "side_output", -1, "input", 0, "partitioning",
                     "REBALANCE");
}

static size_t split_count(struct chain_harness *chain)
{
    json_t *metrics = operator_chain_metrics(chain->chain);
    size_t count = json_array_size(json_object_get(json_array_get(metrics, 0), "splits"));
    json_decref(metrics);
    return count;
}

/* Each row that is polled is followed by another: there is always more to read, but what librdkafka says of other partitions does not wait
 * behind all of it. */
static void poll_and_produce(struct chain_harness *chain, int *produced, int count)
{
    struct timespec pause = {.tv_nsec = 1000000};
    enum source_status status;
    for (int i = 0; i < count; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"t\":%d,\"n\":%d}", 1000 + *produced, *produced);
        produce_text("in-a", 0, text);
        ++*produced;
        rd_kafka_poll(producer, 0);
        no_error(operator_chain_poll(chain->chain, 1, &status));
        nanosleep(&pause, NULL);
    }
}

/* A source that always had more to read looked at nothing else: a partition at its end held back the time of all, and new ones were not read. */
START_TEST(a_busy_source_sees_ends_and_new_partitions)
{
    struct chain_harness chain;
    int produced = 0;
    rd_kafka_mock_topic_create(cluster, "in-a", PARTITIONS, 1);
    for (; produced < 2000; produced++) {
        char text[64];
        snprintf(text, sizeof text, "{\"t\":%d,\"n\":%d}", 1000 + produced, produced);
        produce_text("in-a", 0, text);
    }
    ck_assert_int_eq(rd_kafka_flush(producer, TIMEOUT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    json_t *graph = alone_graph();
    chain_harness_init(&chain, graph, 0, 0, NULL);
    const json_t *rows = chain.collectors[0].rows;
    for (int i = 0; i < 200 && json_array_size(rows) < 200; i++)
        poll_and_produce(&chain, &produced, 100);
    ck_assert_uint_eq(split_count(&chain), PARTITIONS);
    rd_kafka_mock_topic_create(cluster, "in-b", 1, 1);
    for (int i = 0; i < 400 && (split_count(&chain) == PARTITIONS || chain.collectors[0].watermark == TIME_MIN); i++)
        poll_and_produce(&chain, &produced, 100);
    ck_assert_int_lt((int)json_array_size(rows), produced);
    ck_assert_uint_eq(split_count(&chain), PARTITIONS + 1);
    ck_assert_int_gt(chain.collectors[0].watermark, TIME_MIN);
    chain_harness_finish(&chain);
    json_decref(graph);
}
END_TEST

START_TEST(bad_property_is_named)
{
    struct job_graph *graph = make_graph(EARLIEST, "none", 1, true);
    json_object_set_new(json_object_get(graph->operators[0].options, "properties"), "key.deserializer", json_string("x"));
    struct local_job *job;
    no_error(local_job_start(graph, &(struct local_job_options){0}, &job));
    struct error *err = local_job_wait(job, TIMEOUT_MS);
    ck_assert_ptr_nonnull(err);
    char *message = error_text(err);
    ck_assert_msg(strstr(message, "key.deserializer") != NULL, "%s", message);
    free(message);
    error_free(err);
    local_job_destroy(job);
    job_graph_destroy(graph);
}
END_TEST

/* A broker that takes connections and never answers. */
static int start_silent_broker(char *address, size_t size)
{
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof where;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&where, sizeof where), 0);
    ck_assert_int_eq(listen(fd, 64), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&where, &length), 0);
    snprintf(address, size, "127.0.0.1:%u", (unsigned)ntohs(where.sin_port));
    return fd;
}

static void cancel_promptly(struct local_job *job)
{
    int64_t start_ms = clock_mono_ms();
    local_job_cancel(job);
    no_error(local_job_wait(job, TIMEOUT_MS));
    ck_assert_int_lt(clock_mono_ms() - start_ms, 600);
    local_job_destroy(job);
}

/* Nothing is to be flushed when a job is cancelled: a broker that is away does not hold its slots. */
START_TEST(cancel_does_not_wait_for_a_source_or_committer_whose_broker_is_away)
{
    static const char *const guarantees[] = {"none", "at-least-once", "exactly-once"};
    char address[32];
    int fd = start_silent_broker(address, sizeof address);
    struct timespec pause = {.tv_nsec = 700000000};
    servers = address;
    for (size_t i = 0; i < sizeof guarantees / sizeof guarantees[0]; i++) {
        struct local_job *job = start(EARLIEST, guarantees[i], 2, NULL);
        nanosleep(&pause, NULL);
        cancel_promptly(job);
    }
    close(fd);
    servers = "127.0.0.1:1"; /* nobody listens */
    struct local_job *job = start(EARLIEST, "exactly-once", 1, NULL);
    nanosleep(&pause, NULL);
    cancel_promptly(job);
}
END_TEST

START_TEST(cancel_ends_a_flush_that_waits_for_a_dead_broker)
{
    for (int32_t i = 0; i < PARTITIONS; i++)
        rd_kafka_mock_partition_set_leader(cluster, "out", i, 2);
    produce_rows(0, 100);
    struct local_job *job = start(EARLIEST, "at-least-once", 1, NULL);
    wait_for(job, "out: Writer", "rows_written", 100);
    no_error(local_job_checkpoint(job, path("1"), "checkpoint", TIMEOUT_MS));
    /* Two brokers: that of the source's topic goes on, that of the sink's is away. */
    rd_kafka_mock_broker_set_down(cluster, 2);
    produce_rows(100, 1);
    wait_for(job, "out: Writer", "rows_written", 101);
    struct error *err = local_job_checkpoint(job, path("2"), "checkpoint", 300);
    ck_assert_ptr_nonnull(err); /* the flush is still waiting */
    error_free(err);
    cancel_promptly(job);
}
END_TEST

/* The newest checkpoint of local_job_wait_with below `directory`. */
static const char *newest_checkpoint(void)
{
    const char *newest = NULL;
    char name[32], file[256];
    for (int n = 1; n < 1000; n++) {
        snprintf(name, sizeof name, "chk-%d", n);
        snprintf(file, sizeof file, "%s/%s/_local.json", directory, name);
        if (access(file, R_OK) == 0)
            newest = path(name);
    }
    ck_assert_ptr_nonnull(newest);
    return newest;
}

static struct local_job *start_impatient(const char *restore)
{
    struct local_job *job;
    struct job_graph *graph = make_graph(EARLIEST ",\"bounded\":{\"mode\":\"latest\"}", "exactly-once", 2, true);
    json_object_set_new(graph->operators[2].options, "commit_timeout_ms", json_integer(300));
    no_error(local_job_start(graph, &(struct local_job_options){.restore_directory = restore}, &job));
    job_graph_destroy(graph);
    return job;
}

/* Sources went on while brokers took nothing: all that was read stayed in memory, and in every checkpoint. */
START_TEST(rows_that_brokers_do_not_take_are_bounded)
{
    enum { REQUEST_END_TXN = 26 };
    produce_rows(0, 300);
    for (int i = 0; i < 5000; i++)
        rd_kafka_mock_push_request_errors(cluster, REQUEST_END_TXN, 1, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE);
    struct job_graph *graph = make_graph(EARLIEST, "exactly-once", 1, true);
    json_object_set_new(graph->operators[2].options, "pending_bytes_max", json_integer(20000));
    struct local_job *job;
    no_error(local_job_start(graph, &(struct local_job_options){0}, &job));
    job_graph_destroy(graph);
    wait_for(job, "out: Committer", "rows_written", 300);
    no_error(local_job_checkpoint(job, path("1"), "checkpoint", TIMEOUT_MS));
    produce_rows(300, 1000);
    struct error *err = local_job_wait(job, TIMEOUT_MS);
    ck_assert_ptr_nonnull(err);
    char *message = error_text(err);
    ck_assert_msg(strstr(message, "more than 20000 bytes of rows wait to be committed to Kafka topic out") != NULL, "%s", message);
    free(message);
    error_free(err);
    local_job_destroy(job);
    rd_kafka_mock_clear_request_errors(cluster, REQUEST_END_TXN);
}
END_TEST

/* When a job has ended its checkpoints are gone: rows that could not be committed must fail it, and the next attempt, which finds all sources
 * finished, commits them. */
START_TEST(a_job_does_not_end_before_its_last_commit)
{
    enum { REQUEST_END_TXN = 26 };
    produce_rows(0, 300);
    for (int i = 0; i < 5000; i++)
        rd_kafka_mock_push_request_errors(cluster, REQUEST_END_TXN, 1, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE);
    struct local_job *job = start_impatient(NULL);
    struct error *err = local_job_wait_with(job, directory, 50, TIMEOUT_MS);
    ck_assert_ptr_nonnull(err);
    char *message = error_text(err);
    ck_assert_msg(strstr(message, "could not be committed to Kafka topic out within 300 ms") != NULL, "%s", message);
    free(message);
    error_free(err);
    ck_assert_int_eq(book(job, "out: Committer", "rows_committed"), 0);
    local_job_destroy(job);
    rd_kafka_mock_clear_request_errors(cluster, REQUEST_END_TXN);
    job = start_impatient(newest_checkpoint());
    no_error(local_job_wait_with(job, directory, 50, TIMEOUT_MS));
    ck_assert_int_eq(book(job, "Source: in", "rows_read"), 300);
    ck_assert_int_eq(book(job, "out: Committer", "rows_committed"), 300);
    local_job_destroy(job);
    check_rows(300, false); /* the mock shows what was not committed, too */
}
END_TEST

/* ---- real broker ---- */

static const char *real_servers(void)
{
    return getenv("MILLRACE_TEST_KAFKA");
}

static void create_topic(const char *name)
{
    char text[256];
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, PARTITIONS, 1, text, sizeof text);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(producer);
    rd_kafka_CreateTopics(producer, &topic, 1, NULL, queue);
    rd_kafka_event_destroy(rd_kafka_queue_poll(queue, TIMEOUT_MS));
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(topic);
}

/* Creates the topics of the test there. */
static void use_real_broker(void)
{
    char text[256];
    int64_t now_ms = clock_now_ms();
    rd_kafka_destroy(producer);
    servers = real_servers();
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", servers, text, sizeof text);
    producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    snprintf(in_topic, sizeof in_topic, "in-%" PRId64, now_ms);
    snprintf(out_topic, sizeof out_topic, "out-%" PRId64, now_ms);
    snprintf(transactional_prefix, sizeof transactional_prefix, "tx-%" PRId64, now_ms);
    create_topic(in_topic);
    create_topic(out_topic);
}

/* A checkpoint that completed, one whose completion nobody heard of, rows behind it, other parallelisms: every row once. */
START_TEST(exactly_once_over_restarts)
{
    use_real_broker();
    produce_rows(0, 1000);
    struct local_job *job = start(EARLIEST, "exactly-once", 2, NULL);
    wait_for(job, "out: Committer", "rows_written", 1000);
    no_error(local_job_checkpoint(job, path("1"), "checkpoint", TIMEOUT_MS));
    wait_for(job, "out: Committer", "rows_committed", 1000);
    check_rows(1000, true);
    produce_rows(1000, 1000);
    wait_for(job, "out: Committer", "rows_written", 2000);
    no_error(local_job_checkpoint_unheard(job, path("2"), TIMEOUT_MS));
    produce_rows(2000, 500);
    wait_for(job, "out: Committer", "rows_written", 2500);
    local_job_destroy(job);
    check_rows(1000, true); /* nothing of an incomplete checkpoint is visible */
    /* As after a kill right behind the completion: the state has the rows, the topic has not. */
    job = start(EARLIEST, "exactly-once", 1, path("2"));
    no_error(local_job_wait_running(job, TIMEOUT_MS));
    wait_for(job, "out: Committer", "rows_written", 2500);
    check_rows(2000, true);
    local_job_destroy(job);
    /* The same state once more: its rows are in already. Back to two subtasks. */
    job = start(EARLIEST, "exactly-once", 2, path("2"));
    wait_for(job, "out: Committer", "rows_written", 2500);
    no_error(local_job_checkpoint(job, path("3"), "checkpoint", TIMEOUT_MS));
    wait_for(job, "out: Committer", "rows_committed", 2500);
    check_rows(2500, true);
    local_job_destroy(job);
}
END_TEST

/* What times are counted from: an hour ago, as brokers soon delete what is old (retention.ms). */
static int64_t base_ms(void)
{
    static int64_t base;
    if (base == 0)
        base = clock_now_ms() - 3600000;
    return base;
}

static void produce_at(int n, int32_t partition, int64_t time_ms)
{
    char text[64];
    int length = snprintf(text, sizeof text, "{\"t\":%d,\"n\":%d}", 1000 + n, n);
    rd_kafka_resp_err_t code =
        rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(in_topic), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_VALUE(text, (size_t)length),
                          RD_KAFKA_V_TIMESTAMP(base_ms() + time_ms), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    ck_assert_int_eq(code, RD_KAFKA_RESP_ERR_NO_ERROR);
}

/* What of rows 0 … 31 (bit n: row n) is read from a start to a stop. */
static uint32_t read_between(const char *extra, int parallelism)
{
    static int run;
    int counts[32] = {0};
    uint32_t bits = 0;
    char name[16];
    snprintf(out_topic, sizeof out_topic, "out-%d-%d", (int)getpid(), run++);
    create_topic(out_topic);
    snprintf(name, sizeof name, "run-%d", run);
    struct local_job *job = start(extra, "at-least-once", parallelism, NULL);
    no_error(local_job_wait_with(job, path(name), 50, TIMEOUT_MS));
    int64_t rows = book(job, "Source: in", "rows_out");
    local_job_destroy(job);
    if (rows > 0)
        ck_assert_int_eq(consume(out_topic, counts, 32), rows);
    for (int n = 0; n < 32; n++) {
        ck_assert_int_le(counts[n], 1);
        bits |= (uint32_t)counts[n] << n;
    }
    return bits;
}

#define TO_THE_END ",\"bounded\":{\"mode\":\"latest\"}"
#define AT "%s,\"%s\":{\"mode\":\"timestamp\",\"timestamp_ms\":%" PRId64 "}"

/* Options of a source: what `before` says, and a startup or a bound at this time. Valid until four calls later. */
static const char *at(const char *before, const char *mode, int64_t time_ms)
{
    static char text[4][256];
    static int next;
    char *out = text[next++ % 4];
    snprintf(out, sizeof text[0], AT, before, mode, base_ms() + time_ms);
    return out;
}

/* Partition 0 has rows 0 … 3 at 10, 20, 30, 40 s after base_ms, partition 1 rows 4 … 6 at 100, 110 and (late) 105 s. Each partition has its
 * own first record that is not earlier than the time; one without has its end. */
START_TEST(starts_and_stops_at_times)
{
    use_real_broker();
    for (int n = 0; n < 4; n++)
        produce_at(n, 0, 10000 * (n + 1));
    produce_at(4, 1, 100000);
    produce_at(5, 1, 110000);
    produce_at(6, 1, 105000);
    rd_kafka_flush(producer, TIMEOUT_MS);
    ck_assert_uint_eq(read_between(at(TO_THE_END, "startup", -1000), 2), 0x7f);  /* before all */
    ck_assert_uint_eq(read_between(at(TO_THE_END, "startup", 30000), 2), 0x7c);  /* a record's own time, and before all of the other's */
    ck_assert_uint_eq(read_between(at(TO_THE_END, "startup", 30001), 1), 0x78);  /* between two */
    ck_assert_uint_eq(read_between(at(TO_THE_END, "startup", 50000), 2), 0x70);  /* beyond the end of one */
    ck_assert_uint_eq(read_between(at(TO_THE_END, "startup", 104000), 1), 0x60); /* offsets, not times, decide from there on */
    ck_assert_uint_eq(read_between(at(TO_THE_END, "startup", 110001), 2), 0);    /* beyond all */
    ck_assert_uint_eq(read_between(at(TO_THE_END, "startup", 4102444800000), 1), 0);
    ck_assert_uint_eq(read_between(at(EARLIEST, "bounded", 0), 1), 0);
    ck_assert_uint_eq(read_between(at(EARLIEST, "bounded", 30000), 2), 0x03);
    ck_assert_uint_eq(read_between(at(EARLIEST, "bounded", 110000), 1), 0x1f);
    ck_assert_uint_eq(read_between(at(EARLIEST, "bounded", 4102444800000), 2), 0x7f);
    ck_assert_uint_eq(read_between(at(at("", "startup", 20000), "bounded", 105000), 1), 0x1e);
    ck_assert_uint_eq(read_between(at(at("", "startup", 30000), "bounded", 20000), 1), 0); /* the end before the start */
}
END_TEST

/* A time beyond all records means the end as it was then: what comes later is read, also by an attempt that begins anew from a checkpoint. */
START_TEST(a_time_to_come_is_the_end_of_now)
{
    use_real_broker();
    produce_at(0, 0, 10000);
    produce_at(1, 1, 10000);
    rd_kafka_flush(producer, TIMEOUT_MS);
    struct local_job *job = start(at("", "startup", 20000), "at-least-once", 2, NULL);
    no_error(local_job_wait_running(job, TIMEOUT_MS));
    int64_t deadline_ms = clock_mono_ms() + TIMEOUT_MS;
    for (size_t splits = 0; splits < 2 && clock_mono_ms() < deadline_ms;) {
        json_t *tasks = local_job_metrics(job), *task, *operator;
        size_t t, o;
        splits = 0;
        json_array_foreach(tasks, t, task)
            json_array_foreach(json_object_get(task, "operators"), o, operator)
                splits += json_array_size(json_object_get(operator, "splits"));
        json_decref(tasks);
    }
    no_error(local_job_checkpoint(job, path("1"), "checkpoint", TIMEOUT_MS));
    local_job_destroy(job);
    produce_at(2, 0, 15000); /* earlier than the time, behind the end */
    produce_at(3, 1, 30000);
    rd_kafka_flush(producer, TIMEOUT_MS);
    job = start(at("", "startup", 20000), "at-least-once", 1, path("1"));
    wait_for(job, "Source: in", "rows_read", 2);
    no_error(local_job_checkpoint(job, path("2"), "checkpoint", TIMEOUT_MS));
    local_job_destroy(job);
    int counts[4] = {0};
    ck_assert_int_eq(consume(out_topic, counts, 4), 2);
    ck_assert_int_eq(counts[2] + counts[3], 2);
}
END_TEST

START_TEST(a_time_before_1970_is_refused)
{
    expect_failure(at("", "startup", -2 - base_ms()), "must not be before 1970");
    expect_failure(at(EARLIEST, "bounded", -1 - base_ms()), "must not be before 1970");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kafka");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, reads_writes_and_resumes);
    tcase_add_test(tcase, bounded_ends);
    tcase_add_test(tcase, starts_and_stops_at_offsets);
    tcase_add_test(tcase, starts_at_the_end);
    tcase_add_test(tcase, group_offsets_are_committed_and_used);
    tcase_add_test(tcase, without_group_offsets_it_fails);
    tcase_add_test(tcase, without_group_offsets_it_follows_the_property);
    tcase_add_test(tcase, offsets_below_0_are_refused);
    tcase_add_test(tcase, malformed_fails_with_place_and_sample);
    tcase_add_test(tcase, malformed_is_skipped_and_counted);
    tcase_add_test(tcase, malformed_goes_to_the_dead_letter_topic);
    tcase_add_test(tcase, dead_letters_arrive_without_checkpoints);
    tcase_add_test(tcase, large_dead_letters_arrive);
    tcase_add_test(tcase, survives_a_broker_that_goes_and_comes);
    tcase_add_test(tcase, a_busy_source_sees_ends_and_new_partitions);
    tcase_add_test(tcase, bad_property_is_named);
    tcase_add_test(tcase, cancel_does_not_wait_for_a_source_or_committer_whose_broker_is_away);
    tcase_add_test(tcase, cancel_ends_a_flush_that_waits_for_a_dead_broker);
    tcase_add_test(tcase, rows_that_brokers_do_not_take_are_bounded);
    tcase_add_test(tcase, a_job_does_not_end_before_its_last_commit);
    tcase_add_test(tcase, a_time_before_1970_is_refused);
    if (real_servers() != NULL) {
        tcase_add_test(tcase, starts_and_stops_at_times);
        tcase_add_test(tcase, a_time_to_come_is_the_end_of_now);
        tcase_add_test(tcase, exactly_once_over_restarts);
    } else {
        puts("skipped: starts_and_stops_at_times, a_time_to_come_is_the_end_of_now, exactly_once_over_restarts "
             "(MILLRACE_TEST_KAFKA=host:port is not set; make check-e2e sets it)");
    }
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
