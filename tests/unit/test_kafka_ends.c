/* Questions where partitions end, against librdkafka's mock cluster in this process. */
#include "taskmanager/connectors/kafka/kafka_ends.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <librdkafka/rdkafka_mock.h>

static rd_kafka_t *client;
static rd_kafka_mock_cluster_t *cluster;

static void setup(void)
{
    char text[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "test.mock.num.brokers", "1", text, sizeof text);
    rd_kafka_conf_set(conf, "log_level", "0", text, sizeof text);
    client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    ck_assert_ptr_nonnull(client);
    cluster = rd_kafka_handle_mock_cluster(client);
    rd_kafka_mock_topic_create(cluster, "in", 2, 1);
}

static void teardown(void)
{
    rd_kafka_destroy(client);
}

static void produce(int32_t partition, int count)
{
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(rd_kafka_producev(client, RD_KAFKA_V_TOPIC("in"), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_VALUE((char[]){"x"}, 1),
                                           RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
                         RD_KAFKA_RESP_ERR_NO_ERROR);
    ck_assert_int_eq(rd_kafka_flush(client, 10000), RD_KAFKA_RESP_ERR_NO_ERROR);
}

START_TEST(answers_are_as_of_the_question)
{
    struct kafka_ends *ends = kafka_ends_create();
    int64_t end = -7;
    produce(1, 3);
    uint64_t first = kafka_ends_ask(ends, "in", 0), second = kafka_ends_ask(ends, "in", 1);
    ck_assert(!kafka_ends_take(ends, second, &end));
    ck_assert_int_eq(end, -7);
    kafka_ends_look_up(ends, client, 10000);
    ck_assert(kafka_ends_take(ends, first, &end));
    ck_assert_int_eq(end, 0);
    ck_assert(kafka_ends_take(ends, second, &end));
    ck_assert_int_eq(end, 3);
    produce(1, 2);
    uint64_t third = kafka_ends_ask(ends, "in", 1);
    ck_assert(!kafka_ends_take(ends, second, &end)); /* asked anew: void */
    ck_assert(!kafka_ends_take(ends, third, &end));
    kafka_ends_look_up(ends, client, 10000);
    ck_assert(kafka_ends_take(ends, third, &end));
    ck_assert_int_eq(end, 5);
    kafka_ends_destroy(ends);
}
END_TEST

START_TEST(a_silent_broker_knows_nothing)
{
    struct kafka_ends *ends = kafka_ends_create();
    int64_t end = 0;
    produce(0, 1);
    rd_kafka_mock_broker_set_down(cluster, 1);
    uint64_t ticket = kafka_ends_ask(ends, "in", 0);
    kafka_ends_look_up(ends, client, 100);
    ck_assert(kafka_ends_take(ends, ticket, &end));
    ck_assert_int_eq(end, KAFKA_END_UNKNOWN);
    kafka_ends_destroy(ends);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kafka_ends");
    TCase *tcase = tcase_create("kafka_ends");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, answers_are_as_of_the_question);
    tcase_add_test(tcase, a_silent_broker_knows_nothing);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
