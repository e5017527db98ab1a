/* Connecting: name look-up (on libuv's pool, unless the host is a number), then one address after the other, then the
 * handshake; one deadline for all. Thread: the loop's. */
#include "common/base/heap.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc_conn_private.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

enum { CONNECT_TIMEOUT_MS = 10000 };

static void try_address(struct rpc_conn *conn, int last_status);

static void on_connected(uv_connect_t *request, int status)
{
    struct rpc_conn *conn = request->data;
    if (conn->state == CONN_CLOSING)
        return;
    if (status != 0) {
        conn->address = conn->address->ai_next;
        try_address(conn, status);
        return;
    }
    conn_tune_tcp((uv_tcp_t *)conn->stream);
    conn->state = CONN_AWAIT_SERVER;
    conn_start_reading(conn);
}

static void drop_attempt(struct rpc_conn *conn)
{
    if (conn->stream == NULL)
        return;
    rpc_handle_discard((uv_tcp_t *)conn->stream);
    conn->stream = NULL;
    conn->handle_count--;
}

static void try_address(struct rpc_conn *conn, int last_status)
{
    drop_attempt(conn);
    for (; conn->address != NULL; conn->address = conn->address->ai_next) {
        uv_tcp_t *tcp = heap_new(uv_tcp_t);
        uv_tcp_init(conn->loop, tcp);
        conn_set_stream(conn, (uv_stream_t *)tcp);
        conn->connect.data = conn;
        last_status = uv_tcp_connect(&conn->connect, tcp, conn->address->ai_addr, on_connected);
        if (last_status == 0)
            return;
        drop_attempt(conn);
    }
    rpc_conn_close(conn, error_new(NETWORK, "could not connect to %s: %s", conn->peer, uv_strerror(last_status)));
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses)
{
    struct rpc_conn *conn = request->data;
    conn->addresses = addresses;
    if (conn->state != CONN_CLOSING) {
        if (status != 0) {
            rpc_conn_close(conn, error_new(NETWORK, "could not resolve %s: %s", conn->peer, uv_strerror(status)));
        } else {
            conn->state = CONN_CONNECTING;
            conn->address = addresses;
            try_address(conn, UV_EADDRNOTAVAIL);
        }
    }
    conn_release(conn);
}

const char *rpc_host_address(const char *host)
{
    return host != NULL && strcasecmp(host, "localhost") == 0 ? "127.0.0.1" : host;
}

static void start(struct rpc_conn *conn, const char *host, const char *port)
{
    host = rpc_host_address(host);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    uv_getaddrinfo_t numeric;
    /* Without a callback the look-up is done at once; a number needs no server. */
    if (uv_getaddrinfo(conn->loop, &numeric, NULL, host, port, &hints) == 0) {
        conn->state = CONN_CONNECTING;
        conn->addresses = numeric.addrinfo;
        conn->address = conn->addresses;
        try_address(conn, UV_EADDRNOTAVAIL);
        return;
    }
    hints.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG;
    conn->resolve.data = conn;
    int status = uv_getaddrinfo(conn->loop, &conn->resolve, on_resolved, host, port, &hints);
    if (status != 0) {
        conn->state = CONN_CONNECTING;
        rpc_conn_close(conn, error_new(NETWORK, "could not resolve %s: %s", conn->peer, uv_strerror(status)));
        return;
    }
    conn->handle_count++;
}

struct rpc_conn *rpc_conn_connect(uv_loop_t *loop, const struct rpc_connect_options *options,
                                  const struct rpc_conn_handler *handler, void *context)
{
    check_on_loop(loop);
    struct rpc_conn *conn = conn_create(loop, CONN_RESOLVING, options->body_bytes_max, handler, context);
    frame_parser_set_limit(&conn->parser, FRAME_BODY_BYTES_STRANGER);
    char port[8];
    snprintf(port, sizeof port, "%u", options->port);
    snprintf(conn->peer, sizeof conn->peer, "%.100s:%s", options->host, port);
    conn->role = heap_strdup(options->role);
    conn->hello = options->hello != NULL ? json_deep_copy(options->hello) : NULL;
    handshake_copy_secret(conn, options->secret);
    conn_start_timer(conn, options->timeout_ms != 0 ? options->timeout_ms : CONNECT_TIMEOUT_MS);
    start(conn, options->host, port);
    return conn;
}
