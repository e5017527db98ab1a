/* Connections over loopback: handshake with and without a secret, strangers, slow peers, back pressure, handle passing. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/loop/loop.h"
#include "common/loop/mailbox.h"
#include "common/loop/worker.h"
#include "common/rpc/rpc_server.h"
#include "tests/unit/run_suite.h"

#include <arpa/inet.h>
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What one end saw. */
struct seen {
    int open_count;
    int frame_count;
    int close_count;
    int drain_count;
    size_t bytes;
    uint16_t last_type;
    enum error_code reason;
    char text[300];
    struct rpc_conn *conn;
};

struct fixture {
    uv_loop_t loop;
    struct rpc_server *server;
    struct rpc_secret secret;
    struct seen accepted;
    struct seen connected;
    char role[40];
    bool echo;
    bool detach;
    uv_tcp_t *detached;
    bool was_detached;
};

static struct fixture f;

static void on_open(struct rpc_conn *conn, void *context)
{
    struct seen *seen = context;
    (void)conn;
    seen->open_count++;
}

static void on_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    struct seen *seen = context;
    seen->frame_count++;
    seen->bytes += frame->length;
    seen->last_type = frame->type;
    if (f.echo && seen == &f.accepted)
        rpc_conn_forward(conn, frame);
}

static void on_drain(struct rpc_conn *conn, void *context)
{
    (void)conn;
    ((struct seen *)context)->drain_count++;
}

static void on_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    struct seen *seen = context;
    (void)conn;
    seen->close_count++;
    seen->conn = NULL;
    if (reason != NULL) {
        char *text = error_text(reason);
        snprintf(seen->text, sizeof seen->text, "%s", text);
        seen->reason = reason->code;
        free(text);
    }
}

static const struct rpc_conn_handler handler = {on_open, on_frame, on_drain, on_close};

static void on_detached(uv_tcp_t *handle, void *argument)
{
    (void)argument;
    f.was_detached = true;
    f.detached = handle;
}

static void on_connection(struct rpc_server *server, struct rpc_conn *conn, const json_t *hello, void *context)
{
    (void)server;
    (void)context;
    snprintf(f.role, sizeof f.role, "%s/%s", message_text(hello, "role"),
             message_text(hello, "runner") != NULL ? message_text(hello, "runner") : "");
    if (f.detach) {
        rpc_conn_detach(conn, on_detached, NULL);
        return;
    }
    f.accepted.conn = conn;
    rpc_conn_set_handler(conn, &handler, &f.accepted);
}

static void setup_with(const char *secret, uint64_t handshake_ms)
{
    memset(&f, 0, sizeof f);
    uv_loop_init(&f.loop);
    loop_own(&f.loop);
    log_set_level(LOG_OFF);
    if (secret != NULL)
        f.secret = (struct rpc_secret){(uint8_t *)heap_strdup(secret), strlen(secret)};
    struct rpc_server_options options = {.host = "127.0.0.1", .secret = &f.secret, .handshake_timeout_ms = handshake_ms,
                                         .logger = "Test", .stranger_count_max = 8, .on_connection = on_connection};
    struct error *err = rpc_server_create(&f.loop, &options, &f.server);
    ck_assert_ptr_null(err);
}

static void teardown_all(void)
{
    if (f.connected.conn != NULL)
        rpc_conn_close(f.connected.conn, NULL);
    if (f.accepted.conn != NULL)
        rpc_conn_close(f.accepted.conn, NULL);
    rpc_server_close(f.server);
    rpc_secret_finish(&f.secret);
    loop_finish(&f.loop);
}

static void connect_with(const char *secret, const char *host)
{
    struct rpc_secret own = {0};
    if (secret != NULL)
        own = (struct rpc_secret){(uint8_t *)heap_strdup(secret), strlen(secret)};
    json_t *hello = json_pack("{s:s}", "runner", "tm-1");
    struct rpc_connect_options options = {.host = host, .port = rpc_server_port(f.server), .role = "data", .hello = hello,
                                          .secret = &own, .timeout_ms = 2000};
    f.connected.conn = rpc_conn_connect(&f.loop, &options, &handler, &f.connected);
    json_decref(hello);
    rpc_secret_finish(&own);
}

#define RUN_UNTIL(condition)                                                                                           \
    do {                                                                                                               \
        int64_t until_ = clock_mono_ms() + 5000;                                                                       \
        while (!(condition) && clock_mono_ms() < until_) {                                                             \
            uv_run(&f.loop, UV_RUN_NOWAIT);                                                                            \
            usleep(200);                                                                                               \
        }                                                                                                              \
        ck_assert_msg(condition, "%s", #condition);                                                                    \
    } while (0)

static void greet_and_echo(const char *server_secret, const char *client_secret, const char *host)
{
    setup_with(server_secret, 0);
    f.echo = true;
    connect_with(client_secret, host);
    RUN_UNTIL(f.connected.open_count == 1 && f.accepted.conn != NULL);
    ck_assert_str_eq(f.role, "data/tm-1");
    json_t *json = json_pack("{s:i}", "seq", 4);
    ck_assert(rpc_conn_send_json(f.connected.conn, MESSAGE_HEARTBEAT, json));
    json_decref(json);
    RUN_UNTIL(f.connected.frame_count == 1);
    ck_assert_uint_eq(f.connected.last_type, MESSAGE_HEARTBEAT);
    rpc_conn_close(f.connected.conn, NULL);
    RUN_UNTIL(f.connected.close_count == 1 && f.accepted.close_count == 1);
    ck_assert_int_eq((int)f.accepted.reason, ERR_NETWORK);
    ck_assert_uint_eq(rpc_server_refused_count(f.server), 0);
    teardown_all();
}

START_TEST(greets_without_secret)
{
    greet_and_echo(NULL, NULL, "127.0.0.1");
}
END_TEST

START_TEST(greets_with_secret)
{
    greet_and_echo("open sesame", "open sesame", "localhost");
}
END_TEST

static void refuse(const char *server_secret, const char *client_secret)
{
    setup_with(server_secret, 0);
    connect_with(client_secret, "127.0.0.1");
    RUN_UNTIL(f.connected.close_count == 1);
    ck_assert_int_eq(f.connected.open_count, 0);
    ck_assert_msg(strstr(f.connected.text, "refused the handshake") != NULL && strstr(f.connected.text, "secret-file") != NULL, "%s",
                  f.connected.text);
    RUN_UNTIL(rpc_server_refused_count(f.server) == 1);
    ck_assert_ptr_null(f.accepted.conn);
    teardown_all();
}

START_TEST(wrong_secret_is_refused)
{
    refuse("right", "wrong");
}
END_TEST

START_TEST(missing_secrets_are_refused)
{
    refuse("right", NULL);
    refuse(NULL, "mine");
}
END_TEST

START_TEST(nobody_listens)
{
    setup_with(NULL, 0);
    struct rpc_connect_options options = {.host = "127.0.0.1", .port = 1, .role = "data"};
    rpc_conn_connect(&f.loop, &options, &handler, &f.connected);
    RUN_UNTIL(f.connected.close_count == 1);
    ck_assert_msg(strstr(f.connected.text, "could not connect to 127.0.0.1:1") != NULL, "%s", f.connected.text);
    options.host = "no-such-host.invalid";
    rpc_conn_connect(&f.loop, &options, &handler, &f.connected);
    RUN_UNTIL(f.connected.close_count == 2);
    ck_assert_msg(strstr(f.connected.text, "no-such-host.invalid") != NULL, "%s", f.connected.text);
    /* Closed by its owner while it is still connecting. */
    options.host = "localhost";
    struct rpc_conn *conn = rpc_conn_connect(&f.loop, &options, &handler, &f.connected);
    rpc_conn_close(conn, NULL);
    RUN_UNTIL(f.connected.close_count == 3);
    teardown_all();
}
END_TEST

static int raw_connect(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(rpc_server_port(f.server))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* The server closed: a read (after the greeting) gives the end. */
static bool is_closed(int fd)
{
    char bytes[512];
    for (;;) {
        ssize_t count = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (count <= 0)
            return count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    }
}

START_TEST(strangers_are_cut_off)
{
    setup_with("secret", 0);
    const char *noises[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02", "hello, who are you there behind the port?"};
    for (size_t i = 0; i < 3; i++) {
        int fd = raw_connect();
        ck_assert_int_gt((int)send(fd, noises[i], strlen(noises[i]), 0), 0);
        if (i == 1)
            shutdown(fd, SHUT_WR);
        RUN_UNTIL(is_closed(fd));
        close(fd);
    }
    /* A good header that asks for much memory. */
    int fd = raw_connect();
    uint8_t header[FRAME_HEADER_BYTES];
    frame_header_encode(header, MESSAGE_HELLO_CLIENT, 60u << 20, 0);
    ck_assert_int_eq((int)send(fd, header, sizeof header, 0), (int)sizeof header);
    RUN_UNTIL(is_closed(fd));
    close(fd);
    /* A message out of turn. */
    fd = raw_connect();
    size_t length;
    uint8_t *bytes = frame_encode(MESSAGE_REGISTER, "{}", 2, &length);
    ck_assert_int_eq((int)send(fd, bytes, length, 0), (int)length);
    free(bytes);
    RUN_UNTIL(is_closed(fd));
    close(fd);
    ck_assert_uint_eq(rpc_server_refused_count(f.server), 5);
    ck_assert_ptr_null(f.accepted.conn);
    teardown_all();
}
END_TEST

START_TEST(silent_and_many_strangers)
{
    setup_with(NULL, 150);
    int fds[12];
    for (int i = 0; i < 12; i++)
        fds[i] = raw_connect();
    RUN_UNTIL(rpc_server_refused_count(f.server) == 4); /* over the cap of 8: the first ones */
    for (int i = 0; i < 4; i++)
        RUN_UNTIL(is_closed(fds[i]));
    connect_with(NULL, "127.0.0.1");
    RUN_UNTIL(f.connected.open_count == 1);
    RUN_UNTIL(rpc_server_refused_count(f.server) == 12);
    for (int i = 0; i < 12; i++) {
        RUN_UNTIL(is_closed(fds[i]));
        close(fds[i]);
    }
    teardown_all();
}
END_TEST

START_TEST(back_pressure_is_visible)
{
    setup_with(NULL, 0);
    connect_with(NULL, "127.0.0.1");
    RUN_UNTIL(f.connected.open_count == 1 && f.accepted.conn != NULL);
    rpc_conn_pause(f.accepted.conn);
    size_t body_bytes = 1 << 20;
    uint8_t *body = heap_alloc(body_bytes);
    for (int i = 0; i < 40; i++)
        ck_assert(rpc_conn_send(f.connected.conn, MESSAGE_BATCH, body, body_bytes));
    for (int i = 0; i < 100; i++)
        uv_run(&f.loop, UV_RUN_NOWAIT);
    ck_assert_uint_gt(rpc_conn_queued_bytes(f.connected.conn), 10u << 20);
    ck_assert_int_eq(f.connected.drain_count, 0);
    rpc_conn_resume(f.accepted.conn);
    RUN_UNTIL(f.accepted.frame_count == 40);
    ck_assert_uint_eq(f.accepted.bytes, 40 * body_bytes);
    RUN_UNTIL(f.connected.drain_count == 1);
    ck_assert_uint_eq(rpc_conn_queued_bytes(f.connected.conn), 0);
    free(body);
    teardown_all();
}
END_TEST

START_TEST(finish_writes_what_is_queued)
{
    setup_with(NULL, 0);
    connect_with(NULL, "127.0.0.1");
    RUN_UNTIL(f.connected.open_count == 1 && f.accepted.conn != NULL);
    uint8_t *body = heap_alloc(8 << 20);
    ck_assert(rpc_conn_send_take(f.connected.conn, MESSAGE_BATCH, body, 8 << 20));
    rpc_conn_finish(f.connected.conn, NULL);
    ck_assert(!rpc_conn_send(f.connected.conn, MESSAGE_BATCH, "x", 1));
    RUN_UNTIL(f.accepted.close_count == 1 && f.connected.close_count == 1);
    ck_assert_int_eq(f.accepted.frame_count, 1);
    teardown_all();
}
END_TEST

static int released;

static void count_release(void *argument)
{
    (void)argument;
    released++;
}

START_TEST(pieces_are_released_once)
{
    setup_with(NULL, 0);
    f.echo = true;
    connect_with(NULL, "127.0.0.1");
    RUN_UNTIL(f.connected.open_count == 1 && f.accepted.conn != NULL);
    struct rpc_piece pieces[] = {{"abc", 3}, {NULL, 0}, {"defg", 4}};
    released = 0;
    ck_assert(rpc_conn_send_pieces(f.connected.conn, MESSAGE_BATCH, pieces, 3, count_release, NULL));
    RUN_UNTIL(f.connected.frame_count == 1 && released == 1);
    ck_assert_uint_eq(f.connected.bytes, 7);
    rpc_conn_send_pieces(f.connected.conn, MESSAGE_BATCH, pieces, 3, count_release, NULL);
    rpc_conn_close(f.connected.conn, NULL);
    ck_assert(!rpc_conn_send_pieces(f.connected.conn, MESSAGE_BATCH, pieces, 3, count_release, NULL));
    RUN_UNTIL(f.connected.close_count == 1);
    ck_assert_int_eq(released, 3);
    teardown_all();
}
END_TEST

/* ---- a greeted connection goes to another process's loop over an ipc pipe ---- */

static struct seen parent_seen;
static struct seen child_seen;
static struct seen passed_seen;

static void on_child_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    (void)context;
    child_seen.frame_count++;
    if (frame->type != MESSAGE_DATA_CONNECTION)
        return;
    uv_tcp_t *handle = rpc_conn_take_handle(conn);
    ck_assert_ptr_nonnull(handle);
    passed_seen.conn = rpc_conn_open_tcp(handle, FRAME_BODY_BYTES_DATA, &handler, &passed_seen);
}

static const struct rpc_conn_handler child_handler = {.on_frame = on_child_frame, .on_close = on_close};

START_TEST(handles_travel)
{
    setup_with("s", 0);
    memset(&parent_seen, 0, sizeof parent_seen);
    memset(&child_seen, 0, sizeof child_seen);
    memset(&passed_seen, 0, sizeof passed_seen);
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct rpc_conn *parent;
    struct rpc_conn *child;
    ck_assert_ptr_null(rpc_conn_open_pipe(&f.loop, fds[0], &handler, &parent_seen, &parent));
    ck_assert_ptr_null(rpc_conn_open_pipe(&f.loop, fds[1], &child_handler, &child_seen, &child));
    f.detach = true;
    connect_with("s", "127.0.0.1");
    RUN_UNTIL(f.connected.open_count == 1 && f.was_detached);
    ck_assert_ptr_nonnull(f.detached);
    /* Sent before the runner has it: waits in the kernel. */
    ck_assert(rpc_conn_send(f.connected.conn, MESSAGE_BATCH, "early", 5));
    for (int i = 0; i < 3; i++)
        ck_assert(rpc_conn_send(parent, MESSAGE_HEARTBEAT, "{\"seq\":1}", 9));
    const char *body = "{\"job\":\"00112233445566778899aabbccddeeff\",\"epoch\":1,\"runner\":\"tm-1\"}";
    ck_assert(rpc_conn_send_handle(parent, MESSAGE_DATA_CONNECTION, body, strlen(body), f.detached));
    ck_assert(rpc_conn_send(parent, MESSAGE_HEARTBEAT, "{\"seq\":2}", 9));
    RUN_UNTIL(passed_seen.frame_count == 1);
    ck_assert_uint_eq(passed_seen.bytes, 5);
    ck_assert(rpc_conn_send(passed_seen.conn, MESSAGE_CREDIT, "back", 4));
    RUN_UNTIL(f.connected.frame_count == 1 && child_seen.frame_count == 5);
    rpc_conn_close(passed_seen.conn, NULL);
    RUN_UNTIL(f.connected.close_count == 1);
    rpc_conn_close(parent, NULL);
    RUN_UNTIL(parent_seen.close_count == 1 && child_seen.close_count == 1);
    teardown_all();
}
END_TEST

/* The peer says its last words and ends; we, who have not read them yet, write to it. */
START_TEST(last_words_are_read_although_nobody_listens_any_more)
{
    struct seen seen = {0};
    int fds[2];
    setup_with(NULL, 0);
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct rpc_conn *conn;
    ck_assert_ptr_null(rpc_conn_open_pipe(&f.loop, fds[0], &handler, &seen, &conn));
    for (int i = 0; i < 3; i++) {
        size_t length;
        uint8_t *words = frame_encode(MESSAGE_HEARTBEAT, "{\"seq\":1}", 9, &length);
        ck_assert_int_eq(write(fds[1], words, length), (ssize_t)length);
        free(words);
    }
    close(fds[1]);
    ck_assert(rpc_conn_send(conn, MESSAGE_HEARTBEAT, "{\"seq\":2}", 9));
    ck_assert(rpc_conn_send(conn, MESSAGE_HEARTBEAT, "{\"seq\":3}", 9));
    RUN_UNTIL(seen.close_count == 1);
    ck_assert_int_eq(seen.frame_count, 3);
    ck_assert_int_eq(seen.reason, ERR_NETWORK);
    teardown_all();
}
END_TEST

/* The peer lives, but reads no more: it is given up after a while. */
START_TEST(a_peer_that_is_deaf_is_left)
{
    struct seen seen = {0};
    int fds[2];
    setup_with(NULL, 0);
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct rpc_conn *conn;
    ck_assert_ptr_null(rpc_conn_open_pipe(&f.loop, fds[0], &handler, &seen, &conn));
    ck_assert_int_eq(shutdown(fds[1], SHUT_RD), 0);
    ck_assert(rpc_conn_send(conn, MESSAGE_HEARTBEAT, "{\"seq\":2}", 9));
    RUN_UNTIL(seen.close_count == 1);
    ck_assert_int_eq(seen.reason, ERR_NETWORK);
    ck_assert_ptr_nonnull(strstr(seen.text, "could not write"));
    close(fds[1]);
    teardown_all();
}
END_TEST

START_TEST(ports_in_use_are_named)
{
    setup_with(NULL, 0);
    uint16_t port = rpc_server_port(f.server);
    struct rpc_server_options options = {.host = "127.0.0.1", .port_first = port, .on_connection = on_connection};
    struct rpc_server *second = NULL;
    struct error *err = rpc_server_create(&f.loop, &options, &second);
    char expected[64];
    snprintf(expected, sizeof expected, "could not listen on port %u of 127.0.0.1", port);
    ck_assert_ptr_nonnull(err);
    ck_assert_msg(strstr(err->message, expected) != NULL, "%s", err->message);
    error_free(err);
    options.port_last = (uint16_t)(port + 20);
    ck_assert_ptr_null(rpc_server_create(&f.loop, &options, &second));
    ck_assert_uint_ne(rpc_server_port(second), port);
    rpc_server_close(second);
    teardown_all();
}
END_TEST

/* ---- loop helpers ---- */

static int mails_run;
static int mails_closed;

static void on_mail(void *argument, bool is_closed_now)
{
    (void)argument;
    if (is_closed_now)
        mails_closed++;
    else
        mails_run++;
}

static void *post_many(void *argument)
{
    for (int i = 0; i < 5000; i++)
        mailbox_post(argument, on_mail, NULL);
    return NULL;
}

START_TEST(mail_from_threads)
{
    setup_with(NULL, 0);
    mails_run = mails_closed = 0;
    struct mailbox *mailbox = mailbox_create(&f.loop);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, post_many, mailbox);
    RUN_UNTIL(mails_run == 20000);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    mailbox_post(mailbox, on_mail, NULL);
    mailbox_close(mailbox);
    ck_assert_int_eq(mails_closed, 1);
    teardown_all();
}
END_TEST

static struct error *work(void *argument)
{
    return *(int *)argument != 0 ? error_new(IO, "disk is full") : NULL;
}

static int done_count;
static int failed_count;

static void done(struct error *err, void *argument)
{
    (void)argument;
    done_count++;
    failed_count += err != NULL;
    error_free(err);
}

static void fire(void *argument)
{
    (*(int *)argument)++;
}

START_TEST(workers_and_timers)
{
    setup_with(NULL, 0);
    int good = 0;
    int bad = 1;
    int fired = 0;
    done_count = failed_count = 0;
    worker_run(&f.loop, work, done, &good);
    worker_run(&f.loop, work, done, &bad);
    struct loop_timer *timer = loop_timer_start(&f.loop, 1, 2, fire, &fired);
    RUN_UNTIL(done_count == 2 && fired >= 3);
    ck_assert_int_eq(failed_count, 1);
    loop_timer_stop(&timer);
    ck_assert_ptr_null(timer);
    loop_timer_stop(&timer);
    teardown_all();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rpc_conn");
    TCase *cases = tcase_create("loopback");
    tcase_set_timeout(cases, 30);
    tcase_add_test(cases, greets_without_secret);
    tcase_add_test(cases, greets_with_secret);
    tcase_add_test(cases, wrong_secret_is_refused);
    tcase_add_test(cases, missing_secrets_are_refused);
    tcase_add_test(cases, nobody_listens);
    tcase_add_test(cases, strangers_are_cut_off);
    tcase_add_test(cases, silent_and_many_strangers);
    tcase_add_test(cases, back_pressure_is_visible);
    tcase_add_test(cases, finish_writes_what_is_queued);
    tcase_add_test(cases, pieces_are_released_once);
    tcase_add_test(cases, handles_travel);
    tcase_add_test(cases, last_words_are_read_although_nobody_listens_any_more);
    tcase_add_test(cases, a_peer_that_is_deaf_is_left);
    tcase_add_test(cases, ports_in_use_are_named);
    tcase_add_test(cases, mail_from_threads);
    tcase_add_test(cases, workers_and_timers);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
