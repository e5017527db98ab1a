/* The HTTP server over raw sockets on one thread: what requests may look like, and every limit that protects the loop from strangers. */
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/vec.h"
#include "common/fs/fs.h"
#include "common/http/http_server.h"
#include "common/http/multipart.h"
#include "common/loop/loop.h"
#include "tests/unit/run_suite.h"

#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIG_BYTES (8u << 20)
#define PATIENCE_MS 60000

struct fixture {
    uv_loop_t loop;
    struct http_server *server;
    struct http_server_options options;
    struct http_request *deferred;
    char directory[64];
    unsigned destroyed_count;
    unsigned request_count;
    char *uploaded; /* what the last upload held */
    size_t uploaded_bytes;
};

/* ---- the handler ---- */

static void answer_upload(struct fixture *fixture, struct http_request *request)
{
    const struct http_upload *upload = &request->upload;
    if (upload->path == NULL) {
        http_reply_error(request, 400, "%u files", request->upload_count);
        return;
    }
    struct digest digest;
    char hex[DIGEST_HEX_LENGTH + 1];
    uint8_t *bytes;
    free(fixture->uploaded);
    error_free(fs_read_file(upload->path, BIG_BYTES * 2, &bytes, &fixture->uploaded_bytes));
    fixture->uploaded = (char *)bytes;
    digest_init(&digest);
    digest_update(&digest, bytes, fixture->uploaded_bytes);
    digest_hex(&digest, hex);
    bool is_right = strcmp(hex, upload->sha256) == 0 && fixture->uploaded_bytes == upload->size_bytes;
    char *text = heap_printf("%s|%s|%u", upload->name, is_right ? "right" : "wrong", request->upload_count);
    http_reply_take(request, 200, "text/plain", text, strlen(text));
}

static void on_request(void *context, struct http_request *request)
{
    struct fixture *fixture = context;
    fixture->request_count++;
    request->user = fixture;
    if (strcmp(request->path, "/upload") == 0) {
        answer_upload(fixture, request);
    } else if (strcmp(request->path, "/defer") == 0) {
        fixture->deferred = request;
        http_request_defer(request);
    } else if (strcmp(request->path, "/big") == 0) {
        char *bytes = heap_alloc(BIG_BYTES);
        memset(bytes, 'b', BIG_BYTES);
        http_reply_take(request, 200, "text/plain", bytes, BIG_BYTES);
    } else {
        const char *query = http_request_query(request, "q");
        const char *agent = http_request_header(request, "user-agent");
        char *text = heap_printf("%d %s q=%s agent=%s body=%s", (int)request->method, request->path, query != NULL ? query : "-",
                                 agent != NULL ? agent : "-", str_buf_text(&request->body));
        http_reply_take(request, 200, "text/plain", text, strlen(text));
    }
}

static enum http_body body_of(void *context, const struct http_request *request)
{
    (void)context;
    return strcmp(request->path, "/upload") == 0 ? HTTP_BODY_UPLOAD : HTTP_BODY_MEMORY;
}

static bool is_public(void *context, const struct http_request *request)
{
    (void)context;
    return strncmp(request->path, "/public", 7) == 0;
}

static void on_destroy(void *context, struct http_request *request)
{
    (void)context;
    struct fixture *fixture = request->user;
    fixture->destroyed_count++;
}

static const struct http_handler handler = {on_request, body_of, is_public, on_destroy};

/* ---- fixture ---- */

static void prepare(struct fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_WARN);
    strcpy(fixture->directory, "/tmp/test-http-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(fixture->directory));
    uv_loop_init(&fixture->loop);
    loop_own(&fixture->loop);
    fixture->options = (struct http_server_options){
        .name = "test",
        .bind_address = "127.0.0.1",
        .limits = http_limits_default(),
        .upload_limit_key = "some.option",
        .upload_directory = fixture->directory,
        .allow_origin = "*",
        .handler = &handler,
        .context = fixture,
    };
}

static void start(struct fixture *fixture)
{
    struct error *err = http_server_create(&fixture->loop, &fixture->options, &fixture->server);
    ck_assert_ptr_null(err);
}

static size_t files_left(const struct fixture *fixture)
{
    size_t count = 0;
    DIR *directory = opendir(fixture->directory);
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory))
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static void stop(struct fixture *fixture)
{
    http_server_destroy(fixture->server);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&fixture->loop), 0);
    ck_assert_uint_eq(files_left(fixture), 0);
    ck_assert_uint_eq(fixture->destroyed_count, fixture->request_count);
    rmdir(fixture->directory);
    free(fixture->uploaded);
}

static int dial(const struct fixture *fixture)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(http_server_port(fixture->server))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static int64_t now_ms(void)
{
    return (int64_t)(uv_hrtime() / 1000000);
}

/* Runs the loop while reading; ends when the text is there, or with NULL when the server has closed the connection. */
static bool read_until(struct fixture *fixture, int fd, struct str_buf *answer, const char *text)
{
    int64_t deadline = now_ms() + PATIENCE_MS;
    while (now_ms() < deadline) {
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
        char bytes[65536];
        ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got > 0)
            str_buf_append_bytes(answer, bytes, (size_t)got);
        if (text != NULL && strstr(str_buf_text(answer), text) != NULL)
            return true;
        if (got == 0 || (got < 0 && errno != EAGAIN))
            return text == NULL;
        if (got < 0)
            usleep(200);
    }
    return false;
}

static void run_for(struct fixture *fixture, int64_t duration_ms)
{
    for (int64_t deadline = now_ms() + duration_ms; now_ms() < deadline; usleep(500))
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
}

static void run_until(struct fixture *fixture, const unsigned *counter, unsigned wanted)
{
    for (int64_t deadline = now_ms() + PATIENCE_MS; *counter < wanted && now_ms() < deadline; usleep(500))
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
    ck_assert_uint_eq(*counter, wanted);
}

static void say(int fd, const char *text)
{
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* One connection: send, read until the text is there. */
static void expect(struct fixture *fixture, const char *request, const char *text)
{
    struct str_buf answer = {0};
    int fd = dial(fixture);
    say(fd, request);
    bool is_there = read_until(fixture, fd, &answer, text);
    ck_assert_msg(is_there, "%.200s: %s is not in %s", request, text, str_buf_text(&answer));
    str_buf_finish(&answer);
    close(fd);
}

/* ---- requests ---- */

START_TEST(requests_are_understood)
{
    struct fixture fixture;
    prepare(&fixture);
    start(&fixture);
    expect(&fixture, "GET /a%20b?q=x+y%26&q=2 HTTP/1.1\r\nHost: a\r\nUser-Agent: u\r\n\r\n", "0 /a b q=x y& agent=u body=");
    expect(&fixture, "GET http://host:80/a?q=1 HTTP/1.1\r\nHost: a\r\n\r\n", "0 /a q=1");
    expect(&fixture, "GET /a%00b%2fc%zz HTTP/1.1\r\nHost: a\r\n\r\n", "0 /a%00b/c%zz q=-");
    expect(&fixture, "GET /\xff%c0%af%ed%a0%80%f0%9f%98%80%c3?q=%fe HTTP/1.1\r\nHost: a\r\n\r\n",
           "0 /\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\U0001f600\ufffd q=\ufffd ");
    expect(&fixture, "GET /a HTTP/1.0\r\n\r\n", "Connection: close");
    expect(&fixture, "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "2 /p q=- agent=- body=hello");
    expect(&fixture, "PUT /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
           "3 /p q=- agent=- body=abcde");
    expect(&fixture, "POST /p HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "415");
    expect(&fixture, "OPTIONS /p HTTP/1.1\r\nHost: a\r\nOrigin: b\r\nAccess-Control-Request-Method: PATCH\r\n\r\n",
           "Access-Control-Allow-Methods: GET, HEAD, POST");
    expect(&fixture, "OPTIONS /p HTTP/1.1\r\nHost: a\r\n\r\n", "6 /p");
    expect(&fixture, "BREW /p HTTP/1.1\r\nHost: a\r\n\r\n", "7 /p");
    expect(&fixture, "GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n", "0 /two");
    stop(&fixture);
}
END_TEST

START_TEST(head_has_no_body)
{
    struct fixture fixture;
    struct str_buf answer = {0};
    prepare(&fixture);
    start(&fixture);
    int fd = dial(&fixture);
    say(fd, "HEAD /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    ck_assert(read_until(&fixture, fd, &answer, NULL));
    ck_assert_ptr_nonnull(strstr(answer.text, "Content-Length: 8388608\r\n"));
    ck_assert_uint_lt(answer.length, 1000);
    close(fd);
    str_buf_finish(&answer);
    stop(&fixture);
}
END_TEST

START_TEST(expect_continue_is_answered)
{
    struct fixture fixture;
    struct str_buf answer = {0};
    prepare(&fixture);
    start(&fixture);
    int fd = dial(&fixture);
    say(fd, "POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    ck_assert(read_until(&fixture, fd, &answer, "100 Continue\r\n\r\n"));
    say(fd, "hello");
    ck_assert(read_until(&fixture, fd, &answer, "body=hello"));
    close(fd);
    str_buf_finish(&answer);
    /* A body that will not be read is not asked for. */
    expect(&fixture, "POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 500000000\r\n\r\n", "HTTP/1.1 413");
    stop(&fixture);
}
END_TEST

START_TEST(many_pipelined_requests_are_answered_in_order)
{
    enum { COUNT = 2000 };
    struct fixture fixture;
    struct str_buf answer = {0}, requests = {0};
    prepare(&fixture);
    start(&fixture);
    int fd = dial(&fixture);
    for (int i = 0; i < COUNT; i++)
        str_buf_printf(&requests, i % 5 == 1 ? "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" : "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n",
                       i);
    int bytes = 1 << 20;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    say(fd, requests.text);
    ck_assert(read_until(&fixture, fd, &answer, "0 /1999 q=-"));
    const char *at = answer.text;
    for (int i = 0; i < COUNT; i++) {
        char text[32];
        snprintf(text, sizeof text, i % 5 == 1 ? "2 /%d q" : "0 /%d q", i);
        ck_assert_ptr_nonnull(at = strstr(at, text));
        if (i % 5 == 1)
            ck_assert_ptr_nonnull(at = strstr(at, "body=abc"));
    }
    close(fd);
    str_buf_finish(&requests);
    str_buf_finish(&answer);
    stop(&fixture);
}
END_TEST

/* Requests that follow others wait for their turns; a new connection does not wait behind them, and the server may end meanwhile. */
START_TEST(followers_wait_and_others_do_not)
{
    enum { FOLLOWED_COUNT = 60 };
    struct fixture fixture;
    struct str_buf answer = {0}, requests = {0};
    int fds[FOLLOWED_COUNT];
    prepare(&fixture);
    start(&fixture);
    for (int i = 0; i < 200; i++)
        str_buf_append(&requests, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < FOLLOWED_COUNT; i++) {
        fds[i] = dial(&fixture);
        say(fds[i], requests.text);
    }
    run_for(&fixture, 1);
    unsigned before = fixture.request_count;
    int fd = dial(&fixture);
    say(fd, "GET /new HTTP/1.1\r\nHost: a\r\n\r\n");
    ck_assert(read_until(&fixture, fd, &answer, "0 /new q=-"));
    ck_assert_uint_lt(fixture.request_count - before, 3 * FOLLOWED_COUNT);
    close(fd);
    stop(&fixture);
    for (int i = 0; i < FOLLOWED_COUNT; i++)
        close(fds[i]);
    str_buf_finish(&requests);
    str_buf_finish(&answer);
}
END_TEST

START_TEST(malformed_requests_end_their_connection_only)
{
    static const char *const requests[] = {
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        ": :\r\n\r\n",
        "\xff\xfe\x01",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 7\r\n\r\nabcd",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    };
    struct fixture fixture;
    prepare(&fixture);
    start(&fixture);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        int fd = dial(&fixture);
        struct str_buf answer = {0};
        say(fd, requests[i]);
        shutdown(fd, SHUT_WR);
        ck_assert_msg(read_until(&fixture, fd, &answer, NULL), "request %zu leaves its connection open", i);
        str_buf_finish(&answer);
        close(fd);
    }
    struct str_buf large = {0};
    str_buf_append(&large, "GET /");
    for (int i = 0; i < 100000; i++)
        str_buf_append_char(&large, 'a');
    int fd = dial(&fixture);
    struct str_buf answer = {0};
    say(fd, large.text);
    ck_assert(read_until(&fixture, fd, &answer, NULL));
    close(fd);
    str_buf_finish(&large);
    str_buf_finish(&answer);
    expect(&fixture, "GET /still HTTP/1.1\r\nHost: a\r\n\r\n", "0 /still");
    stop(&fixture);
}
END_TEST

/* ---- limits ---- */

START_TEST(large_bodies_are_refused_with_an_answer_that_arrives)
{
    struct fixture fixture;
    prepare(&fixture);
    fixture.options.limits.body_bytes_max = 10000;
    start(&fixture);
    char *chunk = heap_alloc(1 << 16);
    memset(chunk, 'x', (1 << 16) - 1);
    for (int is_chunked = 0; is_chunked < 2; is_chunked++) {
        struct str_buf answer = {0};
        int fd = dial(&fixture);
        say(fd, is_chunked ? "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n"
                           : "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n");
        for (int i = 0; i < 20; i++) {
            send(fd, chunk, 1 << 16, MSG_NOSIGNAL | MSG_DONTWAIT);
            uv_run(&fixture.loop, UV_RUN_NOWAIT);
        }
        ck_assert_msg(read_until(&fixture, fd, &answer, "larger than the limit of 10000 bytes"), "%s", str_buf_text(&answer));
        ck_assert_ptr_nonnull(strstr(answer.text, "HTTP/1.1 413"));
        ck_assert(read_until(&fixture, fd, &answer, NULL));
        str_buf_finish(&answer);
        close(fd);
    }
    free(chunk);
    ck_assert_uint_eq(fixture.request_count, 0);
    stop(&fixture);
}
END_TEST

START_TEST(slow_requests_are_cut)
{
    static const char *const beginnings[] = {"GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n",
                                             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nab"};
    static const char *const answers[] = {NULL, "HTTP/1.1 408", "HTTP/1.1 408"};
    struct fixture fixture;
    prepare(&fixture);
    fixture.options.limits.idle_timeout_ms = fixture.options.limits.header_timeout_ms = fixture.options.limits.body_timeout_ms = 400;
    start(&fixture);
    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++) {
        struct str_buf answer = {0};
        int fd = dial(&fixture);
        say(fd, beginnings[i]);
        /* A byte now and then does not help. */
        for (int drip = 0; drip < 8; drip++) {
            send(fd, "a", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            run_for(&fixture, 100);
        }
        ck_assert(read_until(&fixture, fd, &answer, NULL));
        if (answers[i] != NULL)
            ck_assert_msg(strstr(str_buf_text(&answer), answers[i]) != NULL, "%s: %s", beginnings[i], str_buf_text(&answer));
        str_buf_finish(&answer);
        close(fd);
    }
    stop(&fixture);
}
END_TEST

START_TEST(half_closed_connections_are_answered_and_closed)
{
    struct fixture fixture;
    prepare(&fixture);
    start(&fixture);
    static const char *const requests[] = {"", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"};
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct str_buf answer = {0};
        int fd = dial(&fixture);
        int64_t began_ms = now_ms();
        if (requests[i][0] != '\0')
            say(fd, requests[i]);
        shutdown(fd, SHUT_WR);
        ck_assert(read_until(&fixture, fd, &answer, NULL));
        ck_assert_int_lt(now_ms() - began_ms, PATIENCE_MS / 2);
        ck_assert_int_eq(strstr(str_buf_text(&answer), "0 /a q=-") != NULL, i == 1);
        str_buf_finish(&answer);
        close(fd);
    }
    stop(&fixture);
}
END_TEST

START_TEST(the_longest_idle_connection_makes_room)
{
    enum { MAX = 20 };
    struct fixture fixture;
    int fds[MAX + 1];
    prepare(&fixture);
    fixture.options.limits.connections_max = MAX;
    start(&fixture);
    for (int i = 0; i <= MAX; i++) {
        fds[i] = dial(&fixture);
        run_for(&fixture, 5);
    }
    struct str_buf answer = {0};
    ck_assert(read_until(&fixture, fds[0], &answer, NULL));
    for (int i = 1; i <= MAX; i++) {
        str_buf_clear(&answer);
        say(fds[i], "GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        ck_assert_msg(read_until(&fixture, fds[i], &answer, "0 /a"), "connection %d", i);
    }
    for (int i = 0; i <= MAX; i++)
        close(fds[i]);
    str_buf_finish(&answer);
    stop(&fixture);
}
END_TEST

START_TEST(one_address_has_its_share)
{
    enum { SHARE = 4 };
    struct fixture fixture;
    int fds[SHARE + 1];
    prepare(&fixture);
    fixture.options.limits.connections_per_address_max = SHARE;
    start(&fixture);
    for (int i = 0; i <= SHARE; i++) {
        fds[i] = dial(&fixture);
        run_for(&fixture, 5);
    }
    struct str_buf answer = {0};
    ck_assert(read_until(&fixture, fds[SHARE], &answer, NULL));
    say(fds[0], "GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    ck_assert(read_until(&fixture, fds[0], &answer, "0 /a"));
    for (int i = 0; i <= SHARE; i++)
        close(fds[i]);
    str_buf_finish(&answer);
    stop(&fixture);
}
END_TEST

static size_t drain(struct fixture *fixture, int fd)
{
    struct str_buf answer = {0};
    read_until(fixture, fd, &answer, NULL);
    size_t length = answer.length;
    str_buf_finish(&answer);
    return length;
}

START_TEST(slow_readers_are_cut)
{
    struct fixture fixture;
    prepare(&fixture);
    fixture.options.limits.send_timeout_ms = 400;
    start(&fixture);
    int fd = dial(&fixture);
    say(fd, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    run_for(&fixture, 2000);
    ck_assert_uint_lt(drain(&fixture, fd), BIG_BYTES);
    ck_assert_uint_eq(fixture.destroyed_count, 1);
    close(fd);
    stop(&fixture);
}
END_TEST

START_TEST(answers_for_slow_readers_are_bounded)
{
    struct fixture fixture;
    int fds[3];
    prepare(&fixture);
    fixture.options.limits.held_bytes_max = 2 * BIG_BYTES;
    start(&fixture);
    for (int i = 0; i < 3; i++) {
        fds[i] = dial(&fixture);
        say(fds[i], "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        run_for(&fixture, 50);
    }
    ck_assert_uint_lt(drain(&fixture, fds[0]), BIG_BYTES);
    ck_assert_uint_gt(drain(&fixture, fds[1]), BIG_BYTES);
    ck_assert_uint_gt(drain(&fixture, fds[2]), BIG_BYTES);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    stop(&fixture);
}
END_TEST

START_TEST(deferred_requests_outlive_their_clients)
{
    struct fixture fixture;
    struct str_buf answer = {0};
    prepare(&fixture);
    start(&fixture);
    int fd = dial(&fixture);
    say(fd, "GET /defer HTTP/1.1\r\nHost: a\r\n\r\n");
    run_until(&fixture, &fixture.request_count, 1);
    http_reply_copy(fixture.deferred, 200, "text/plain", "later", 5);
    ck_assert(read_until(&fixture, fd, &answer, "later"));
    say(fd, "GET /defer HTTP/1.1\r\nHost: a\r\n\r\n");
    run_until(&fixture, &fixture.request_count, 2);
    struct linger reset = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    run_for(&fixture, 20);
    http_reply_copy(fixture.deferred, 200, "text/plain", "nobody", 6);
    run_until(&fixture, &fixture.destroyed_count, 2);
    /* A server may end while a handler still works. */
    fd = dial(&fixture);
    say(fd, "GET /defer HTTP/1.1\r\nHost: a\r\n\r\n");
    run_until(&fixture, &fixture.request_count, 3);
    stop(&fixture);
    close(fd);
    str_buf_finish(&answer);
}
END_TEST

START_TEST(a_token_is_asked_for)
{
    struct fixture fixture;
    prepare(&fixture);
    fixture.options.token = "abc123";
    start(&fixture);
    expect(&fixture, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "WWW-Authenticate: Bearer");
    expect(&fixture, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "{\"errors\":[\"Unauthorized");
    expect(&fixture, "POST /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer abc124\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 401");
    expect(&fixture, "GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic abc123\r\n\r\n", "HTTP/1.1 401");
    ck_assert_uint_eq(fixture.request_count, 0);
    expect(&fixture, "GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: bearer abc123\r\n\r\n", "0 /a");
    expect(&fixture, "GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n", "0 /public/x");
    stop(&fixture);
}
END_TEST

/* ---- uploads ---- */

#define UPLOAD_HEAD "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=XX\r\n"
#define PART_HEAD "--XX\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"dir/a.so\"\r\nContent-Type: x/y\r\n\r\n"

/* Sends the request in pieces while the loop runs; the answer holds the text. */
static void upload(struct fixture *fixture, const struct str_buf *body, const char *text)
{
    struct str_buf request = {0}, answer = {0};
    int fd = dial(fixture);
    str_buf_printf(&request, UPLOAD_HEAD "Content-Length: %zu\r\n\r\n", body->length);
    str_buf_append_bytes(&request, body->text, body->length);
    for (size_t sent = 0; sent < request.length;) {
        ssize_t written = send(fd, request.text + sent, request.length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written < 0 && errno != EAGAIN)
            break;
        sent += written > 0 ? (size_t)written : 0;
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
    }
    ck_assert_msg(read_until(fixture, fd, &answer, text), "%s is not in %s", text, str_buf_text(&answer));
    close(fd);
    str_buf_finish(&request);
    str_buf_finish(&answer);
}

static void append_noise(struct str_buf *body, size_t length)
{
    uint32_t state = 7;
    for (size_t i = 0; i < length; i++) {
        state = state * 1664525 + 1013904223;
        /* Beginnings of the delimiter, now and then. */
        str_buf_append_char(body, (state >> 24) < 20 ? "\r\n--X"[state >> 8 & 3] : (char)(state >> 16));
    }
}

START_TEST(uploads_are_stored)
{
    static const size_t sizes[] = {0, 1, 1000, 300000, 5000000};
    struct fixture fixture;
    prepare(&fixture);
    start(&fixture);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct str_buf body = {0};
        str_buf_append(&body, "ignored\r\n--XX\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nfield\r\n" PART_HEAD);
        size_t begin = body.length;
        append_noise(&body, sizes[i]);
        str_buf_append(&body, "\r\n--XX--\r\nignored");
        upload(&fixture, &body, "a.so|right|1");
        ck_assert_uint_eq(fixture.uploaded_bytes, sizes[i]);
        ck_assert_mem_eq(fixture.uploaded, body.text + begin, sizes[i]);
        str_buf_finish(&body);
    }
    stop(&fixture);
}
END_TEST

START_TEST(bad_uploads_are_refused)
{
    struct fixture fixture;
    prepare(&fixture);
    fixture.options.limits.upload_bytes_max = 1 << 20;
    start(&fixture);
    struct str_buf body = {0};
    str_buf_append(&body, PART_HEAD "cut off");
    upload(&fixture, &body, "ends before its closing delimiter");
    str_buf_clear(&body);
    str_buf_append(&body, "--XX no line end");
    upload(&fixture, &body, "malformed");
    str_buf_clear(&body);
    str_buf_append(&body, PART_HEAD "1\r\n" PART_HEAD "2\r\n--XX--");
    upload(&fixture, &body, "a.so|right|2");
    str_buf_clear(&body);
    str_buf_append(&body, PART_HEAD);
    append_noise(&body, 2 << 20);
    upload(&fixture, &body, "Try to raise [some.option]");
    str_buf_clear(&body);
    str_buf_append(&body, "--XX--");
    upload(&fixture, &body, "0 files");
    str_buf_finish(&body);
    run_for(&fixture, 50);
    stop(&fixture);
}
END_TEST

/* A file of more than 64 KiB cannot be written: the answer says so, and nothing is left. */
START_TEST(a_full_disk_is_told)
{
    struct fixture fixture;
    struct rlimit before, small;
    prepare(&fixture);
    start(&fixture);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 65536;
    setrlimit(RLIMIT_FSIZE, &small);
    struct str_buf body = {0};
    str_buf_append(&body, PART_HEAD);
    append_noise(&body, 3000000);
    str_buf_append(&body, "\r\n--XX--\r\n");
    upload(&fixture, &body, "File upload failed: could not write the upload to ");
    setrlimit(RLIMIT_FSIZE, &before);
    str_buf_finish(&body);
    run_for(&fixture, 50);
    stop(&fixture);
}
END_TEST

START_TEST(abandoned_uploads_leave_nothing)
{
    struct fixture fixture;
    struct str_buf body = {0};
    prepare(&fixture);
    start(&fixture);
    str_buf_append(&body, UPLOAD_HEAD "Content-Length: 90000000\r\n\r\n" PART_HEAD);
    append_noise(&body, 1 << 20);
    for (int i = 0; i < 20; i++) {
        int fd = dial(&fixture);
        send(fd, body.text, body.length, MSG_NOSIGNAL | MSG_DONTWAIT);
        run_for(&fixture, i);
        close(fd);
    }
    run_for(&fixture, 100);
    /* One is still on its way when the server ends. */
    int fd = dial(&fixture);
    send(fd, body.text, body.length, MSG_NOSIGNAL | MSG_DONTWAIT);
    run_for(&fixture, 5);
    stop(&fixture);
    close(fd);
    str_buf_finish(&body);
}
END_TEST

/* ---- multipart ---- */

static void note_part(void *context, const char *name, const char *filename)
{
    str_buf_printf(context, "[%s,%s]", name != NULL ? name : "-", filename != NULL ? filename : "-");
}

static void note_data(void *context, const void *bytes, size_t length)
{
    str_buf_append_bytes(context, bytes, length);
}

static const struct multipart_handler notes = {note_part, note_data};

START_TEST(multipart_does_not_depend_on_the_pieces)
{
    static const char body[] = "--b\r\nContent-Disposition: form-data; name=a; filename=\"q\\\"u.jar\"\r\n\r\nx\r\n--\r\n--c\r\n--b \t\r\n\r\n"
                               "no header\r\n--b\r\n"
                               "content-disposition: form-data; filename=plain; name=\"z\"\r\n\r\n\r\n--b--after\r\n--b\r\n";
    static const char expected[] = "[a,q\"u.jar]x\r\n--\r\n--c[-,-]no header[z,plain]";
    for (size_t piece = 1; piece <= sizeof body; piece++) {
        struct str_buf seen = {0};
        struct multipart *multipart = multipart_create("Multipart/Form-Data; charset=x; boundary=b", &notes, &seen);
        for (size_t at = 0; at < sizeof body - 1; at += piece)
            ck_assert(multipart_feed(multipart, body + at, sizeof body - 1 - at < piece ? sizeof body - 1 - at : piece));
        ck_assert(multipart_is_complete(multipart));
        ck_assert_str_eq(seen.text, expected);
        multipart_destroy(multipart);
        str_buf_finish(&seen);
    }
    ck_assert_ptr_null(multipart_create("multipart/form-data", &notes, NULL));
    ck_assert_ptr_null(multipart_create("multipart/form-data; boundary=\"\"", &notes, NULL));
    ck_assert_ptr_null(multipart_create("multipart/form-dataX; boundary=b", &notes, NULL));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("http");
    TCase *tcase = tcase_create("http");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, requests_are_understood);
    tcase_add_test(tcase, head_has_no_body);
    tcase_add_test(tcase, expect_continue_is_answered);
    tcase_add_test(tcase, many_pipelined_requests_are_answered_in_order);
    tcase_add_test(tcase, followers_wait_and_others_do_not);
    tcase_add_test(tcase, malformed_requests_end_their_connection_only);
    tcase_add_test(tcase, large_bodies_are_refused_with_an_answer_that_arrives);
    tcase_add_test(tcase, slow_requests_are_cut);
    tcase_add_test(tcase, half_closed_connections_are_answered_and_closed);
    tcase_add_test(tcase, the_longest_idle_connection_makes_room);
    tcase_add_test(tcase, one_address_has_its_share);
    tcase_add_test(tcase, slow_readers_are_cut);
    tcase_add_test(tcase, answers_for_slow_readers_are_bounded);
    tcase_add_test(tcase, deferred_requests_outlive_their_clients);
    tcase_add_test(tcase, a_token_is_asked_for);
    tcase_add_test(tcase, uploads_are_stored);
    tcase_add_test(tcase, bad_uploads_are_refused);
    tcase_add_test(tcase, a_full_disk_is_told);
    tcase_add_test(tcase, abandoned_uploads_leave_nothing);
    tcase_add_test(tcase, multipart_does_not_depend_on_the_pieces);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
