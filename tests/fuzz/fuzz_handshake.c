/* The handshake of RPC connections with a stranger, from both sides, over a socket pair. The first byte says how: bit 0 a shared secret is
 * configured, bit 1 the stranger proves that it knows it, bit 2 this side is the connector, bit 3 the rest is raw bytes instead of
 * frames (u16 type, u16 length, body) that get a good header. Nobody gets in without the proof. */
#include "common/base/check.h"
#include "common/base/digest.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/str_buf.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc_conn_private.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HAS_SECRET = 1, PROVES = 2, IS_CONNECTOR = 4, IS_RAW = 8 };

static uint8_t secret_bytes[] = "the secret of this test";
static const struct rpc_secret secret = {secret_bytes, sizeof secret_bytes - 1};

struct outcome {
    bool is_greeted;
    bool is_closed;
};

static void on_open(struct rpc_conn *conn, void *context)
{
    (void)conn;
    struct outcome *outcome = context;
    outcome->is_greeted = true;
}

static void on_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    (void)conn;
    (void)reason;
    struct outcome *outcome = context;
    outcome->is_closed = true;
}

static const struct rpc_conn_handler handler = {.on_open = on_open, .on_close = on_close};

static void on_greeted(struct rpc_conn *conn, const json_t *hello, void *context)
{
    check(json_is_string(json_object_get(hello, "role")));
    rpc_conn_set_handler(conn, &handler, context);
    on_open(conn, context);
}

static struct rpc_conn *open_conn(uv_loop_t *loop, int fd, int flags, struct outcome *outcome)
{
    uv_tcp_t *handle = heap_new(uv_tcp_t);
    uv_tcp_init(loop, handle);
    check(uv_tcp_open(handle, fd) == 0);
    const struct rpc_secret *known = flags & HAS_SECRET ? &secret : NULL;
    if (!(flags & IS_CONNECTOR))
        return rpc_conn_accept(handle, known, 5000, 65536, on_greeted, &handler, outcome);
    struct rpc_conn *conn = conn_create(loop, CONN_AWAIT_SERVER, 65536, &handler, outcome);
    handshake_copy_secret(conn, known);
    conn->role = heap_strdup("taskmanager");
    conn_set_stream(conn, (uv_stream_t *)handle);
    conn_start_timer(conn, 5000);
    conn_start_reading(conn);
    return conn;
}

static void append_frame(struct str_buf *out, uint16_t type, const void *body, size_t length)
{
    size_t bytes;
    uint8_t *frame = frame_encode(type, body, (uint32_t)length, &bytes);
    str_buf_append_bytes(out, frame, bytes);
    free(frame);
}

/* What somebody who knows the secret says to an acceptor. */
static void append_proof(struct str_buf *out, const struct rpc_conn *conn, int flags)
{
    static const char nonce[] = "000102030405060708090a0b0c0d0e0f";
    char proof[DIGEST_HEX_LENGTH + 1] = "";
    char *text = heap_printf("data|%s|%s", conn->nonce, nonce);
    if (flags & HAS_SECRET)
        digest_hmac_hex(secret.bytes, secret.length, text, proof);
    free(text);
    text = heap_printf("{\"role\":\"data\",\"nonce\":\"%s\",\"proof\":\"%s\",\"job\":\"x\"}", nonce, proof);
    append_frame(out, MESSAGE_HELLO_CLIENT, text, strlen(text));
    free(text);
}

static void append_input(struct str_buf *out, int flags, const uint8_t *data, size_t size)
{
    if (flags & IS_RAW) {
        str_buf_append_bytes(out, size > 0 ? (const void *)data : "", size);
        return;
    }
    while (size >= 4) {
        size_t length = (size_t)(data[2] | data[3] << 8);
        length = length < size - 4 ? length : size - 4;
        append_frame(out, (uint16_t)(data[0] | data[1] << 8), data + 4, length);
        data += 4 + length;
        size -= 4 + length;
    }
}

static void run_while(uv_loop_t *loop, const struct outcome *outcome, int rounds)
{
    for (int i = 0; i < rounds && !outcome->is_closed; i++)
        uv_run(loop, UV_RUN_NOWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uv_loop_t loop;
    struct outcome outcome = {0};
    struct str_buf said = {0};
    int fds[2];
    if (size < 1 || size > 32768)
        return 0;
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_OFF);
    uv_loop_init(&loop);
    loop_own(&loop);
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    int flags = data[0];
    struct rpc_conn *conn = open_conn(&loop, fds[0], flags, &outcome);
    bool proves = (flags & PROVES) && !(flags & IS_CONNECTOR);
    if (proves)
        append_proof(&said, conn, flags);
    append_input(&said, flags, data + 1, size - 1);
    if (said.length > 0)
        check(write(fds[1], said.text, said.length) >= 0);
    run_while(&loop, &outcome, 8);
    /* The connector's own nonce is random, so nobody can have proved anything to it. */
    check(!outcome.is_greeted || !(flags & HAS_SECRET) || proves);
    close(fds[1]);
    if (!outcome.is_closed)
        run_while(&loop, &outcome, 1000);
    check(outcome.is_closed || !outcome.is_greeted);
    uv_run(&loop, UV_RUN_DEFAULT);
    check(uv_loop_close(&loop) == 0);
    str_buf_finish(&said);
    return 0;
}
