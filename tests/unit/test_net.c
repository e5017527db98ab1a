/* Remote channels: frame bodies, credit, a slow channel beside a fast one, producers that come late or never. Server and
 * client share one loop; the test plays producer and consumer tasks from the same thread. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/columnar/batch_builder.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc_server.h"
#include "taskmanager/net/net_client.h"
#include "taskmanager/net/net_server.h"
#include "taskmanager/net/net_wire.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREDIT 4

static struct schema *schema;

static struct batch *rows(int64_t first, uint32_t count)
{
    struct batch_builder *builder = batch_builder_create(schema, count, true);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = batch_builder_add_row(builder);
        batch_builder_int64s(builder, 0)[row] = first + i;
        batch_builder_set_valid(builder, 0, row);
        batch_builder_set_event_time(builder, row, first + i);
    }
    struct batch *batch = batch_builder_finish(builder);
    batch_builder_destroy(builder);
    return batch;
}

static int64_t first_value(const struct batch *batch)
{
    return ((const int64_t *)batch->columns[0].values)[0];
}

static struct element rows_element(int64_t first, uint32_t count)
{
    return (struct element){.type = ELEMENT_BATCH, .as.rows = {.batch = rows(first, count), .bytes = 8 * count}};
}

/* ---- two ends on one loop ---- */

static uv_loop_t loop;
static struct rpc_server *port;
static struct net_server *server;
static struct net_client *client;

static void on_detached(uv_tcp_t *handle, void *argument)
{
    (void)argument;
    if (handle != NULL && server != NULL)
        net_server_accept(server, handle, "consumer");
    else
        rpc_handle_discard(handle);
}

static void on_connection(struct rpc_server *from, struct rpc_conn *conn, const json_t *hello, void *context)
{
    (void)from;
    (void)context;
    ck_assert_str_eq(json_string_value(json_object_get(hello, "role")), "data");
    rpc_conn_detach(conn, on_detached, NULL);
}

static void open_port(uint16_t number)
{
    struct error *err = rpc_server_create(
        &loop, &(struct rpc_server_options){.host = "127.0.0.1", .port_first = number, .logger = "test", .on_connection = on_connection}, &port);
    ck_assert_ptr_null(err);
}

static void open_client(int64_t request_timeout_ms)
{
    client = net_client_create(&(struct net_client_options){.loop = &loop,
                                                            .epoch = 1,
                                                            .taskmanager_id = "consumer",
                                                            .credit = CREDIT,
                                                            .connect_timeout_ms = 2000,
                                                            .request_timeout_ms = request_timeout_ms});
}

static void setup(void)
{
    struct field field = {.name = (char *)(uintptr_t) "n", .type = TYPE_INT64};
    schema = schema_create(&field, 1);
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_OFF);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    loop_own(&loop);
    server = net_server_create(&loop, true);
    open_client(2000);
}

static void teardown(void)
{
    rpc_server_close(port);
    port = NULL;
    net_client_close(client);
    if (server != NULL)
        net_server_close(server);
    server = NULL;
    uv_run(&loop, UV_RUN_DEFAULT);
    loop_finish(&loop);
    schema_unref(schema);
}

static struct channel *offer(uint32_t producer)
{
    struct channel *channel = channel_create((struct channel_key){.producer = producer}, 4, 1 << 20);
    net_server_offer(server, channel_ref(channel));
    return channel;
}

static struct channel *request(uint32_t producer)
{
    return net_client_open(client, "producer", "127.0.0.1", rpc_server_port(port), (struct channel_key){.producer = producer}, schema);
}

static bool run_until_element(struct channel *channel, int64_t timeout_ms)
{
    for (int64_t end = clock_mono_ms() + timeout_ms; clock_mono_ms() < end && channel_is_empty(channel);)
        uv_run(&loop, UV_RUN_NOWAIT);
    return !channel_is_empty(channel);
}

static void run_for(int64_t ms)
{
    for (int64_t end = clock_mono_ms() + ms; clock_mono_ms() < end;)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static struct element pop(struct channel *channel)
{
    struct element element;
    bool found;
    ck_assert(run_until_element(channel, 5000));
    struct error *err = channel_pop(channel, &element, &found);
    ck_assert_ptr_null(err);
    ck_assert(found);
    return element;
}

static struct error *pop_error(struct channel *channel)
{
    struct element element;
    bool found;
    ck_assert(run_until_element(channel, 5000));
    struct error *err = channel_pop(channel, &element, &found);
    ck_assert_ptr_nonnull(err);
    return err;
}

static void release(struct channel *channel)
{
    channel_release(channel);
    channel_unref(channel);
}

START_TEST(elements_arrive_in_order)
{
    open_port(0);
    struct channel *out = offer(1), *in = request(1);
    for (int i = 0; i < 200; i++) {
        channel_push(out, rows_element(i * 1000, 1 + (uint32_t)i * 10));
        channel_push(out, (struct element){.type = ELEMENT_WATERMARK, .as.watermark = i});
    }
    channel_push(out, (struct element){.type = ELEMENT_BARRIER,
                                       .as.barrier = {.checkpoint_id = 7, .kind = BARRIER_STOP, .location = checkpoint_location_create("/a/b")}});
    channel_push(out, (struct element){.type = ELEMENT_END_OF_PARTITION});
    for (int i = 0; i < 200; i++) {
        struct element element = pop(in);
        ck_assert_int_eq(element.type, ELEMENT_BATCH);
        ck_assert_int_eq(first_value(element.as.rows.batch), i * 1000);
        ck_assert_uint_eq(element.as.rows.batch->row_count, 1 + (uint32_t)i * 10);
        element_finish(&element);
        element = pop(in);
        ck_assert_int_eq(element.type, ELEMENT_WATERMARK);
        ck_assert_int_eq(element.as.watermark, i);
    }
    struct element element = pop(in);
    ck_assert_int_eq(element.type, ELEMENT_BARRIER);
    ck_assert_str_eq(element.as.barrier.location->directory, "/a/b");
    ck_assert_int_eq(element.as.barrier.kind, BARRIER_STOP);
    element_finish(&element);
    ck_assert_int_eq(pop(in).type, ELEMENT_END_OF_PARTITION);
    for (int i = 0; i < 5000 && !atomic_load(&out->is_delivered); i++)
        run_for(1);
    ck_assert(atomic_load(&out->is_delivered));
    release(in);
    channel_unref(out);
}
END_TEST

/* ---- a consumer that does not read ---- */

struct raw_consumer {
    uint32_t credit;
    uint32_t frame_count;
    bool is_ended;
    bool is_closed;
};

static void on_raw_open(struct rpc_conn *conn, void *context)
{
    const struct raw_consumer *consumer = context;
    struct bytes_writer body = {0};
    net_encode_request(&body, &(struct net_request){.channel = 7, .key = {.producer = 1}, .credit = consumer->credit});
    rpc_conn_send_take(conn, MESSAGE_REQUEST_CHANNEL, body.data, body.length);
    rpc_conn_pause(conn);
}

static void on_raw_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    struct raw_consumer *consumer = context;
    struct net_event event = {0};
    (void)conn;
    consumer->frame_count++;
    if (frame->type != MESSAGE_EVENT)
        return;
    ck_assert_ptr_null(net_decode_event(frame->body, frame->length, &event));
    consumer->is_ended |= event.element.type == ELEMENT_END_OF_PARTITION;
}

static void on_raw_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    struct raw_consumer *consumer = context;
    (void)conn;
    (void)reason;
    consumer->is_closed = true;
}

static struct rpc_conn *open_raw(struct raw_consumer *consumer)
{
    static const struct rpc_conn_handler handler = {.on_open = on_raw_open, .on_frame = on_raw_frame, .on_close = on_raw_close};
    return rpc_conn_connect(&loop, &(struct rpc_connect_options){.host = "127.0.0.1", .port = rpc_server_port(port), .role = "data"}, &handler,
                            consumer);
}

static void confirm_end(struct rpc_conn *conn)
{
    struct bytes_writer body = {0};
    net_encode_credit(&body, 7, 0);
    rpc_conn_send_take(conn, MESSAGE_CREDIT, body.data, body.length);
}

/* All is with the kernel, but a process that ended now would take it along: the task that produced it has to wait. */
START_TEST(an_end_is_delivered_when_the_consumer_has_it)
{
    struct raw_consumer consumer = {.credit = 100};
    open_port(0);
    struct channel *out = offer(1);
    struct rpc_conn *conn = open_raw(&consumer);
    for (int i = 0; i < 10; i++)
        channel_push(out, rows_element(i, 100));
    channel_push(out, (struct element){.type = ELEMENT_END_OF_PARTITION});
    for (int i = 0; i < 5000 && !channel_is_empty(out); i++)
        run_for(1);
    run_for(50);
    ck_assert(channel_is_empty(out));
    ck_assert_uint_eq(net_server_queued_bytes(server), 0);
    ck_assert(!atomic_load(&out->is_delivered));
    rpc_conn_resume(conn);
    for (int i = 0; i < 5000 && !consumer.is_ended; i++)
        run_for(1);
    ck_assert_uint_eq(consumer.frame_count, 11);
    ck_assert(!atomic_load(&out->is_delivered));
    confirm_end(conn);
    for (int i = 0; i < 5000 && !atomic_load(&out->is_delivered); i++)
        run_for(1);
    ck_assert(atomic_load(&out->is_delivered));
    ck_assert(!consumer.is_closed);
    rpc_conn_close(conn, NULL);
    run_for(20);
    channel_unref(out);
}
END_TEST

/* ---- many channels of one connection ---- */

#define CHANNELS 3u
#define CHANNEL_BATCHES 80u /* what the kernel and the write queue take at once is much less */

struct eager_consumer {
    uint32_t frame_counts[CHANNELS];
    bool has_half;        /* one channel has got half of its frames */
    uint32_t others_then; /* frames of the other channels by then */
};

/* The kernel would take dozens of megabytes at a time where it is left to choose. */
static void limit_socket_buffers(void)
{
    int bytes = 256 << 10;
    for (int fd = 3; fd < 64; fd++) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    }
}

static void on_eager_open(struct rpc_conn *conn, void *context)
{
    (void)context;
    limit_socket_buffers();
    for (uint32_t i = 0; i < CHANNELS; i++) {
        struct bytes_writer body = {0};
        net_encode_request(&body, &(struct net_request){.channel = i, .key = {.producer = i}, .credit = CHANNEL_BATCHES});
        rpc_conn_send_take(conn, MESSAGE_REQUEST_CHANNEL, body.data, body.length);
    }
}

static void on_eager_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    struct eager_consumer *consumer = context;
    uint32_t number = 0;
    (void)conn;
    ck_assert(net_decode_channel(frame->body, frame->length, &number));
    ck_assert_uint_lt(number, CHANNELS);
    if (++consumer->frame_counts[number] != CHANNEL_BATCHES / 2 || consumer->has_half)
        return;
    consumer->has_half = true;
    for (uint32_t i = 0; i < CHANNELS; i++)
        consumer->others_then += i != number ? consumer->frame_counts[i] : 0;
}

/* About 1 MB that no compression makes smaller. */
static struct batch *noise(void)
{
    struct batch *batch = rows(0, 60000);
    uint64_t *values = (uint64_t *)(void *)batch->columns[0].values_buffer->data, *times = (uint64_t *)(void *)batch->event_time_buffer->data;
    for (uint64_t i = 0; i < batch->row_count; i++) {
        values[i] = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
        times[i] = (i + 1) * UINT64_C(0xc2b2ae3d27d4eb4f);
    }
    return batch;
}

/* Each of them always has more to send than the connection takes. */
START_TEST(channels_of_a_full_connection_take_turns)
{
    static const struct rpc_conn_handler eager_handler = {.on_open = on_eager_open, .on_frame = on_eager_frame};
    struct eager_consumer consumer = {0};
    open_port(0);
    struct batch *batch = noise();
    struct channel *out[CHANNELS];
    for (uint32_t i = 0; i < CHANNELS; i++) {
        out[i] = offer(i);
        for (uint32_t k = 0; k < CHANNEL_BATCHES; k++)
            channel_push(out[i], (struct element){.type = ELEMENT_BATCH, .as.rows = {.batch = batch_ref(batch), .bytes = 1 << 20}});
    }
    struct rpc_conn *conn = rpc_conn_connect(
        &loop, &(struct rpc_connect_options){.host = "127.0.0.1", .port = rpc_server_port(port), .role = "data", .body_bytes_max = 16 << 20},
        &eager_handler, &consumer);
    for (int i = 0; i < 30000 && consumer.frame_counts[0] + consumer.frame_counts[1] + consumer.frame_counts[2] < CHANNELS * CHANNEL_BATCHES; i++)
        run_for(1);
    for (uint32_t i = 0; i < CHANNELS; i++)
        ck_assert_uint_eq(consumer.frame_counts[i], CHANNEL_BATCHES);
    ck_assert_uint_ge(consumer.others_then, CHANNEL_BATCHES / 4);
    rpc_conn_close(conn, NULL);
    run_for(20);
    for (uint32_t i = 0; i < CHANNELS; i++)
        channel_unref(out[i]);
    batch_unref(batch);
}
END_TEST

START_TEST(an_end_that_was_not_sent_cannot_be_confirmed)
{
    struct raw_consumer consumer = {.credit = 1};
    open_port(0);
    struct channel *out = offer(1);
    struct rpc_conn *conn = open_raw(&consumer);
    channel_push(out, rows_element(0, 1));
    for (int i = 0; i < 5000 && !channel_is_empty(out); i++)
        run_for(1);
    rpc_conn_resume(conn);
    confirm_end(conn);
    for (int i = 0; i < 5000 && !consumer.is_closed; i++)
        run_for(1);
    ck_assert(consumer.is_closed);
    ck_assert(!atomic_load(&out->is_delivered));
    channel_unref(out);
}
END_TEST

/* Nobody takes from one channel: at most its credit arrives, and the other one flows on. */
START_TEST(slow_channel_blocks_nobody)
{
    open_port(0);
    struct channel *slow_out = offer(1), *fast_out = offer(2), *slow_in = request(1), *fast_in = request(2);
    for (int i = 0; i < 50; i++) {
        channel_push(slow_out, rows_element(i, 2000));
        channel_push(fast_out, rows_element(i, 2000));
    }
    for (int i = 0; i < 50; i++) {
        struct element element = pop(fast_in);
        ck_assert_int_eq(first_value(element.as.rows.batch), i);
        element_finish(&element);
    }
    run_for(50);
    ck_assert_uint_eq(atomic_load(&slow_in->batches), CREDIT);
    ck_assert_uint_eq(atomic_load(&slow_out->batches), 50 - CREDIT);
    for (int i = 0; i < 50; i++) {
        struct element element = pop(slow_in);
        ck_assert_int_eq(first_value(element.as.rows.batch), i);
        element_finish(&element);
        ck_assert_uint_le(atomic_load(&slow_in->batches), CREDIT);
    }
    release(slow_in);
    release(fast_in);
    channel_unref(slow_out);
    channel_unref(fast_out);
}
END_TEST

START_TEST(late_producer_is_waited_for)
{
    open_port(0);
    struct channel *in = request(5);
    run_for(200);
    ck_assert(channel_is_empty(in));
    struct channel *out = offer(5);
    channel_push(out, rows_element(1, 1));
    struct element element = pop(in);
    ck_assert_int_eq(element.type, ELEMENT_BATCH);
    element_finish(&element);
    release(in);
    channel_unref(out);
}
END_TEST

START_TEST(missing_producer_is_lost_in_the_end)
{
    open_port(0);
    net_client_close(client);
    open_client(300);
    struct channel *in = request(5);
    struct error *err = pop_error(in);
    ck_assert_int_eq(err->code, ERR_TASK_LOST);
    ck_assert_ptr_nonnull(strstr(err->message, "producer"));
    error_free(err);
    release(in);
}
END_TEST

/* The port is closed at first: connecting is tried again. */
START_TEST(late_port_is_waited_for)
{
    open_port(0);
    uint16_t number = rpc_server_port(port);
    rpc_server_close(port);
    run_for(20);
    struct channel *out = offer(1);
    struct channel *in = net_client_open(client, "producer", "127.0.0.1", number, (struct channel_key){.producer = 1}, schema);
    run_for(100);
    open_port(number);
    channel_push(out, rows_element(3, 1));
    struct element element = pop(in);
    ck_assert_int_eq(first_value(element.as.rows.batch), 3);
    element_finish(&element);
    release(in);
    channel_unref(out);
}
END_TEST

START_TEST(lost_connection_is_told_after_what_came)
{
    open_port(0);
    struct channel *out = offer(1), *in = request(1);
    channel_push(out, rows_element(3, 1));
    ck_assert(run_until_element(in, 5000));
    net_server_close(server);
    server = NULL;
    run_for(50);
    struct element element = pop(in);
    ck_assert_int_eq(element.type, ELEMENT_BATCH);
    element_finish(&element);
    struct error *err = pop_error(in);
    ck_assert_int_eq(err->code, ERR_TASK_LOST);
    error_free(err);
    ck_assert(atomic_load(&out->is_released)); /* nobody will read it again */
    release(in);
    channel_unref(out);
}
END_TEST

/* ---- bodies ---- */

START_TEST(compression_is_used_where_it_pays)
{
    struct batch *batch = rows(0, 2000);
    struct bytes_writer plain = {0}, packed = {0};
    net_encode_batch(&plain, &(struct net_batch){.channel = 1, .backlog = 2, .batch = batch}, false);
    net_encode_batch(&packed, &(struct net_batch){.channel = 1, .backlog = 2, .batch = batch}, true);
    ck_assert_uint_lt(packed.length, plain.length * 4 / 5);
    struct net_batch back;
    struct error *err = net_decode_batch(packed.data, packed.length, schema, &back);
    ck_assert_ptr_null(err);
    ck_assert_uint_eq(back.channel, 1);
    ck_assert_uint_eq(back.backlog, 2);
    ck_assert_uint_eq(back.batch->row_count, 2000);
    batch_unref(back.batch);
    batch_unref(batch);
    bytes_writer_finish(&plain);
    bytes_writer_finish(&packed);
}
END_TEST

/* Cut and flipped bodies: an error or a value, never a crash (the sanitizers look on). */
START_TEST(damaged_bodies_are_refused)
{
    struct batch *batch = rows(0, 1500);
    struct bytes_writer bodies[3] = {{0}};
    net_encode_batch(&bodies[0], &(struct net_batch){.channel = 1, .backlog = 2, .batch = batch}, true);
    net_encode_batch(&bodies[1], &(struct net_batch){.channel = 1, .backlog = 2, .batch = batch}, false);
    struct element barrier = {.type = ELEMENT_BARRIER, .as.barrier = {.checkpoint_id = 1, .location = checkpoint_location_create("/tmp/x")}};
    net_encode_event(&bodies[2], 1, &barrier);
    element_finish(&barrier);
    srand(1);
    for (int i = 0; i < 6000; i++) {
        const struct bytes_writer *body = &bodies[i % 3];
        uint8_t *copy = heap_memdup(body->data, body->length);
        size_t length = i % 2 == 0 ? (size_t)rand() % body->length : body->length;
        for (int flips = rand() % 3; flips > 0 && length > 0; flips--)
            copy[(size_t)rand() % length] ^= (uint8_t)(1 << rand() % 8);
        struct net_batch decoded;
        struct net_event event;
        struct error *err;
        if (i % 3 < 2 && (err = net_decode_batch(copy, length, schema, &decoded)) == NULL)
            batch_unref(decoded.batch);
        else if (i % 3 == 2 && (err = net_decode_event(copy, length, &event)) == NULL)
            element_finish(&event.element);
        error_free(err);
        free(copy);
    }
    for (int i = 0; i < 3; i++)
        bytes_writer_finish(&bodies[i]);
    batch_unref(batch);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("net");
    TCase *net = tcase_create("net");
    tcase_add_checked_fixture(net, setup, teardown);
    tcase_set_timeout(net, 60);
    tcase_add_test(net, elements_arrive_in_order);
    tcase_add_test(net, an_end_is_delivered_when_the_consumer_has_it);
    tcase_add_test(net, an_end_that_was_not_sent_cannot_be_confirmed);
    tcase_add_test(net, channels_of_a_full_connection_take_turns);
    tcase_add_test(net, slow_channel_blocks_nobody);
    tcase_add_test(net, late_producer_is_waited_for);
    tcase_add_test(net, missing_producer_is_lost_in_the_end);
    tcase_add_test(net, late_port_is_waited_for);
    tcase_add_test(net, lost_connection_is_told_after_what_came);
    tcase_add_test(net, compression_is_used_where_it_pays);
    tcase_add_test(net, damaged_bodies_are_refused);
    suite_add_tcase(suite, net);
    return run_suite(suite);
}
