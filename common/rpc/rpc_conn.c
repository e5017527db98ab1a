/* Life, reading and closing of a framed connection; sending is in rpc_conn_send.c, connecting in rpc_conn_connect.c, the
 * handshake in rpc_handshake.c. Thread: the loop's.
 *
 * libuv calls a handle's close callback from the loop after all its requests were answered; the connection is freed when
 * the last of its handles is closed, so no callback ever sees a freed connection. */
#include "common/base/heap.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc_conn_private.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SCRATCH_BYTES = 64 << 10,
    KEEPALIVE_S = 15,
    USER_TIMEOUT_MS = 30000, /* sent bytes that nobody acknowledges for so long break the connection */
    FINISH_MS = 1000,
};

static const struct rpc_conn_handler no_handler;

/* Bytes land here and are parsed before anything else is read, so one block serves all connections of a thread. */
static _Thread_local char scratch[SCRATCH_BYTES];

struct rpc_conn *conn_create(uv_loop_t *loop, enum conn_state state, uint32_t body_bytes_max,
                             const struct rpc_conn_handler *handler, void *context)
{
    struct rpc_conn *conn = heap_new(struct rpc_conn);
    conn->loop = loop;
    conn->state = state;
    conn->body_bytes_max = body_bytes_max != 0 ? body_bytes_max : FRAME_BODY_BYTES_CONTROL;
    conn->handler = handler != NULL ? handler : &no_handler;
    conn->context = context;
    frame_parser_init(&conn->parser, state == CONN_OPEN ? conn->body_bytes_max : FRAME_BODY_BYTES_STRANGER);
    uv_timer_init(loop, &conn->timer);
    conn->timer.data = conn;
    conn->handle_count = 1;
    return conn;
}

void conn_set_stream(struct rpc_conn *conn, uv_stream_t *stream)
{
    conn->stream = stream;
    stream->data = conn;
    conn->handle_count++;
}

void conn_tune_tcp(uv_tcp_t *tcp)
{
    uv_os_fd_t fd;
    int timeout_ms = USER_TIMEOUT_MS;
    uv_tcp_nodelay(tcp, 1);
    uv_tcp_keepalive(tcp, 1, KEEPALIVE_S);
    if (uv_fileno((uv_handle_t *)tcp, &fd) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

static void format_address(const struct sockaddr_storage *address, char *ip, size_t capacity, unsigned *port)
{
    if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof in6);
        uv_ip6_name(&in6, ip, capacity);
        *port = ntohs(in6.sin6_port);
    } else {
        struct sockaddr_in in4;
        memcpy(&in4, address, sizeof in4);
        uv_ip4_name(&in4, ip, capacity);
        *port = ntohs(in4.sin_port);
    }
}

void conn_name_peer(struct rpc_conn *conn)
{
    struct sockaddr_storage address;
    int length = sizeof address;
    char ip[64] = "unknown";
    unsigned port = 0;
    if (conn->is_pipe || uv_tcp_getpeername((uv_tcp_t *)conn->stream, (struct sockaddr *)&address, &length) != 0)
        return;
    format_address(&address, ip, sizeof ip, &port);
    snprintf(conn->peer, sizeof conn->peer, strchr(ip, ':') != NULL ? "[%s]:%u" : "%s:%u", ip, port);
}

void rpc_conn_local_address(const struct rpc_conn *conn, char *out, size_t capacity)
{
    struct sockaddr_storage address;
    int length = sizeof address;
    unsigned port;
    out[0] = '\0';
    if (conn->stream != NULL && !conn->is_pipe &&
        uv_tcp_getsockname((const uv_tcp_t *)conn->stream, (struct sockaddr *)&address, &length) == 0)
        format_address(&address, out, capacity, &port);
}

/* ---- the end ---- */

static void conn_free(struct rpc_conn *conn)
{
    if (conn->on_detached == NULL && conn->handler->on_close != NULL)
        conn->handler->on_close(conn, conn->reason, conn->context);
    handshake_forget(conn);
    frame_parser_finish(&conn->parser);
    for (size_t i = 0; i < conn->handles.count; i++)
        rpc_handle_discard(conn->handles.items[i]);
    vec_finish(&conn->handles);
    if (conn->addresses != NULL)
        uv_freeaddrinfo(conn->addresses);
    error_free(conn->reason);
    free(conn);
}

void conn_release(struct rpc_conn *conn)
{
    dcheck(conn->handle_count > 0);
    if (--conn->handle_count == 0)
        conn_free(conn);
}

static void on_timer_closed(uv_handle_t *handle)
{
    conn_release(handle->data);
}

static void on_stream_closed(uv_handle_t *handle)
{
    struct rpc_conn *conn = handle->data;
    conn->stream = NULL;
    free(handle);
    conn_release(conn);
}

void rpc_conn_close(struct rpc_conn *conn, struct error *reason)
{
    check_on_loop(conn->loop);
    if (conn->state == CONN_CLOSING) {
        error_free(reason);
        return;
    }
    bool is_detaching = conn->state == CONN_DETACHING;
    if (conn->state == CONN_RESOLVING)
        uv_cancel((uv_req_t *)&conn->resolve);
    conn->state = CONN_CLOSING;
    if (conn->reason == NULL)
        conn->reason = reason;
    else
        error_free(reason);
    if (conn->stream != NULL)
        uv_close((uv_handle_t *)conn->stream, on_stream_closed);
    uv_close((uv_handle_t *)&conn->timer, on_timer_closed);
    if (is_detaching)
        conn->on_detached(NULL, conn->detach_argument);
}

/* Who goes may have said something first, a task that it has finished, say: that comes before the end of the stream, with which the
 * connection closes. */
void conn_unheard(struct rpc_conn *conn, struct error *reason)
{
    if (conn->is_unheard) {
        error_free(reason);
        return;
    }
    if (conn->state != CONN_OPEN || conn->is_paused) {
        rpc_conn_close(conn, reason);
        return;
    }
    conn->is_unheard = true;
    conn->reason = reason;
    conn_start_timer(conn, FINISH_MS);
}

static void on_timeout(uv_timer_t *timer)
{
    struct rpc_conn *conn = timer->data;
    struct error *reason = NULL;
    switch (conn->state) {
    case CONN_FINISHING:
    case CONN_DETACHING: break;
    case CONN_RESOLVING:
    case CONN_CONNECTING: reason = error_new(TIMEOUT, "could not connect to %s in time", conn->peer); break;
    case CONN_AWAIT_SERVER:
    case CONN_AWAIT_CLIENT:
    case CONN_AWAIT_WELCOME: reason = error_new(TIMEOUT, "%s did not finish the handshake in time", conn->peer); break;
    case CONN_OPEN: break; /* it is unheard, and the reason is known */
    case CONN_CLOSING: return;
    }
    rpc_conn_close(conn, reason);
}

void conn_start_timer(struct rpc_conn *conn, uint64_t timeout_ms)
{
    uv_update_time(conn->loop);
    uv_timer_start(&conn->timer, on_timeout, timeout_ms, 0);
}

static void discard_closed(uv_handle_t *handle)
{
    free(handle);
}

void rpc_handle_discard(uv_tcp_t *handle)
{
    if (handle != NULL)
        uv_close((uv_handle_t *)handle, discard_closed);
}

/* ---- finishing and detaching: both wait for the write queue ---- */

void conn_after_last_write(struct rpc_conn *conn)
{
    if (conn->state == CONN_FINISHING) {
        rpc_conn_close(conn, NULL);
    } else if (conn->state == CONN_DETACHING) {
        uv_tcp_t *handle = (uv_tcp_t *)conn->stream;
        conn->state = CONN_CLOSING;
        conn->stream = NULL;
        handle->data = NULL;
        conn->handle_count--;
        uv_close((uv_handle_t *)&conn->timer, on_timer_closed);
        conn->on_detached(handle, conn->detach_argument);
    }
}

void rpc_conn_finish(struct rpc_conn *conn, struct error *reason)
{
    check_on_loop(conn->loop);
    if (conn->state == CONN_OPEN && conn->write_count > 0 && !conn->is_unheard) {
        conn->state = CONN_FINISHING;
        conn->reason = reason;
        uv_read_stop(conn->stream);
        conn_start_timer(conn, FINISH_MS);
        return;
    }
    if (conn->state != CONN_FINISHING)
        rpc_conn_close(conn, reason);
    else
        error_free(reason);
}

void rpc_conn_detach(struct rpc_conn *conn, void (*on_detached)(uv_tcp_t *handle, void *argument), void *argument)
{
    check_on_loop(conn->loop);
    check(!conn->is_pipe);
    conn->on_detached = on_detached;
    conn->detach_argument = argument;
    if (conn->state != CONN_OPEN) {
        rpc_conn_close(conn, NULL);
        on_detached(NULL, argument);
        return;
    }
    conn->state = CONN_DETACHING;
    uv_read_stop(conn->stream);
    conn_start_timer(conn, FINISH_MS);
    if (conn->write_count == 0)
        conn_after_last_write(conn);
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct rpc_conn *conn = handle->data;
    size_t space;
    uint8_t *body = frame_parser_space(&conn->parser, &space);
    if (body != NULL && space > sizeof scratch / 4)
        *buf = uv_buf_init((char *)body, (unsigned)space);
    else
        *buf = uv_buf_init(scratch, sizeof scratch);
}

static void on_whole_frame(struct rpc_conn *conn, struct frame *frame)
{
    if (conn->state == CONN_OPEN) {
        if (conn->handler->on_frame != NULL)
            conn->handler->on_frame(conn, frame, conn->context);
    } else if (conn->state == CONN_AWAIT_SERVER || conn->state == CONN_AWAIT_CLIENT || conn->state == CONN_AWAIT_WELCOME) {
        struct error *err = handshake_on_frame(conn, frame);
        if (err != NULL)
            rpc_conn_close(conn, err);
    }
    frame_finish(frame);
}

static bool is_reading(const struct rpc_conn *conn)
{
    return conn->state != CONN_CLOSING && conn->state != CONN_FINISHING && conn->state != CONN_DETACHING;
}

static void feed(struct rpc_conn *conn, const char *data, size_t length)
{
    while (length > 0 && is_reading(conn)) {
        size_t consumed;
        bool is_complete;
        struct frame frame;
        struct error *err = frame_parser_feed(&conn->parser, data, length, &consumed, &is_complete, &frame);
        if (err != NULL) {
            rpc_conn_close(conn, err);
            return;
        }
        data += consumed;
        length -= consumed;
        if (is_complete)
            on_whole_frame(conn, &frame);
    }
    /* Who sends on before it was told that it may cannot be handed over: the bytes would be lost. */
    if (length > 0 && conn->state == CONN_DETACHING)
        rpc_conn_close(conn, error_new(PROTOCOL, "%s sent data before the handshake was done", conn->peer));
}

/* The kernel never merges bytes across a passed descriptor, so handles queue up in the order of their frames. */
static void accept_handles(struct rpc_conn *conn)
{
    uv_pipe_t *pipe = (uv_pipe_t *)conn->stream;
    while (uv_pipe_pending_count(pipe) > 0) {
        if (uv_pipe_pending_type(pipe) != UV_TCP) {
            rpc_conn_close(conn, error_new(PROTOCOL, "a handle that is no TCP connection came over the pipe"));
            return;
        }
        uv_tcp_t *handle = heap_new(uv_tcp_t);
        uv_tcp_init(conn->loop, handle);
        if (uv_accept(conn->stream, (uv_stream_t *)handle) != 0) {
            rpc_handle_discard(handle);
            return;
        }
        vec_push(&conn->handles, handle);
    }
}

static void on_read_error(struct rpc_conn *conn, int status)
{
    if (status == UV_EOF || status == UV_ECONNRESET) {
        bool is_greeting = conn->state == CONN_AWAIT_WELCOME;
        struct error *err = error_new(NETWORK, is_greeting ? "%s refused the handshake" : "connection closed by %s", conn->peer);
        if (is_greeting)
            err = error_with_hint(err, "is security.internal.secret-file the same on both sides?");
        rpc_conn_close(conn, err);
    } else {
        rpc_conn_close(conn, error_new(NETWORK, "could not read from %s: %s", conn->peer, uv_strerror(status)));
    }
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct rpc_conn *conn = stream->data;
    if (count == 0)
        return;
    if (count < 0) {
        on_read_error(conn, (int)count);
        return;
    }
    if (conn->is_pipe)
        accept_handles(conn);
    if (buf->base == scratch) {
        feed(conn, buf->base, (size_t)count);
        return;
    }
    bool is_complete;
    struct frame frame;
    struct error *err = frame_parser_filled(&conn->parser, (size_t)count, &is_complete, &frame);
    if (err != NULL)
        rpc_conn_close(conn, err);
    else if (is_complete)
        on_whole_frame(conn, &frame);
}

void conn_start_reading(struct rpc_conn *conn)
{
    if (!conn->is_paused && is_reading(conn))
        uv_read_start(conn->stream, on_alloc, on_read);
}

void rpc_conn_pause(struct rpc_conn *conn)
{
    conn->is_paused = true;
    if (conn->stream != NULL && is_reading(conn))
        uv_read_stop(conn->stream);
}

void rpc_conn_resume(struct rpc_conn *conn)
{
    conn->is_paused = false;
    if (conn->stream != NULL && conn->state == CONN_OPEN)
        conn_start_reading(conn);
}

uv_tcp_t *rpc_conn_take_handle(struct rpc_conn *conn)
{
    if (conn->handles.count == 0)
        return NULL;
    uv_tcp_t *handle = conn->handles.items[0];
    vec_remove(&conn->handles, 0);
    return handle;
}

/* ---- opening over what exists ---- */

struct error *rpc_conn_open_pipe(uv_loop_t *loop, int fd, const struct rpc_conn_handler *handler, void *context,
                                 struct rpc_conn **out)
{
    check_on_loop(loop);
    uv_pipe_t *pipe = heap_new(uv_pipe_t);
    uv_pipe_init(loop, pipe, 1);
    int status = uv_pipe_open(pipe, fd);
    if (status != 0) {
        close(fd);
        uv_close((uv_handle_t *)pipe, discard_closed);
        return error_new(IO, "could not open the control pipe: %s", uv_strerror(status));
    }
    struct rpc_conn *conn = conn_create(loop, CONN_OPEN, 0, handler, context);
    conn->is_pipe = true;
    snprintf(conn->peer, sizeof conn->peer, "control pipe");
    conn_set_stream(conn, (uv_stream_t *)pipe);
    conn_start_reading(conn);
    *out = conn;
    return NULL;
}

struct rpc_conn *rpc_conn_open_tcp(uv_tcp_t *handle, uint32_t body_bytes_max, const struct rpc_conn_handler *handler, void *context)
{
    check_on_loop(handle->loop);
    struct rpc_conn *conn = conn_create(handle->loop, CONN_OPEN, body_bytes_max, handler, context);
    conn_set_stream(conn, (uv_stream_t *)handle);
    conn_tune_tcp(handle);
    conn_name_peer(conn);
    conn_start_reading(conn);
    return conn;
}

struct rpc_conn *rpc_conn_accept(uv_tcp_t *handle, const struct rpc_secret *secret, uint64_t timeout_ms, uint32_t body_bytes_max,
                                 void (*on_greeted)(struct rpc_conn *conn, const json_t *hello, void *context),
                                 const struct rpc_conn_handler *handler, void *context)
{
    struct rpc_conn *conn = conn_create(handle->loop, CONN_AWAIT_CLIENT, body_bytes_max, handler, context);
    conn->on_greeted = on_greeted;
    handshake_copy_secret(conn, secret);
    conn_set_stream(conn, (uv_stream_t *)handle);
    conn_tune_tcp(handle);
    conn_name_peer(conn);
    conn_start_timer(conn, timeout_ms);
    conn_start_reading(conn);
    handshake_start_server(conn);
    return conn;
}

/* ---- looking ---- */

void rpc_conn_set_handler(struct rpc_conn *conn, const struct rpc_conn_handler *handler, void *context)
{
    conn->handler = handler != NULL ? handler : &no_handler;
    conn->context = context;
}

const char *rpc_conn_peer(const struct rpc_conn *conn)
{
    return conn->peer;
}
