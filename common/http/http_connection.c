/* Connections: how many, how long, how slow (the limits of http_server.h). libmicrohttpd's own time-outs know only idleness, and its
 * edge-triggered epoll misses the end of input that arrives with the last request; so every socket also lies in an epoll
 * set of ours, and a sweep looks at the deadlines twice a second. A connection is closed by shutting its socket down: libmicrohttpd
 * then finds it dead and ends its request. Thread: the loop's. */
#include "common/http/http_private.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/log.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SWEEP_MS 500
/* For what libmicrohttpd has read already, and for what it has not. */
#define HALF_CLOSED_GRACE_MS 20
#define HALF_CLOSED_GRACE_MAX_MS 1000
#define LINGER_MS 2000
#define LINGER_BYTES_MAX (8u << 20)
#define LINGERS_MAX 64
#define SEND_BUFFER_BYTES (256 << 10)

static bool is_half_closed(const struct http_connection *connection);
static void sweep_soon(struct http_server *server);

static int64_t now_ms(const struct http_server *server)
{
    return (int64_t)uv_now(server->loop) + 1; /* never 0 */
}

/* ---- phases ---- */

/* Bytes that the other side's kernel has acknowledged. */
static uint64_t acknowledged_bytes(const struct http_connection *connection)
{
    /* The C library's struct ends before the kernel's (since Linux 4.1) does. */
    struct {
        struct tcp_info begin;
        uint64_t pacing_rate;
        uint64_t max_pacing_rate;
        uint64_t bytes_acked;
    } info = {0};
    static_assert(sizeof info.begin == 104, "the kernel's layout");
    socklen_t length = sizeof info;
    return getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.bytes_acked : 0;
}

static uint64_t moved_bytes(const struct http_connection *connection)
{
    return connection->phase == PHASE_SENDING ? acknowledged_bytes(connection) : connection->body_bytes;
}

static void window_begin(struct http_connection *connection)
{
    connection->window_since_ms = now_ms(connection->server);
    connection->window_bytes = moved_bytes(connection);
}

static void release(struct http_connection *connection)
{
    connection->server->held_bytes -= connection->held_bytes;
    connection->held_bytes = 0;
}

void http_connection_enter(struct http_connection *connection, enum http_phase phase)
{
    if (phase == PHASE_IDLE)
        release(connection);
    connection->phase = phase;
    connection->phase_since_ms = now_ms(connection->server);
    connection->body_bytes = 0;
    window_begin(connection);
    if (is_half_closed(connection))
        sweep_soon(connection->server);
}

void http_connection_cut(struct http_connection *connection)
{
    release(connection);
    connection->is_cut = true;
    shutdown(connection->fd, SHUT_RDWR);
}

/* NULL without TLS. */
static gnutls_session_t session_of(const struct http_connection *connection)
{
    if (connection->server->options.tls == NULL)
        return NULL;
    return MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
}

bool http_connection_is_trusted(struct http_connection *connection)
{
    const struct http_tls *tls = connection->server->options.tls;
    unsigned doubts = 0;
    if (tls == NULL || !tls->requires_client)
        return true;
    if (!connection->is_trusted)
        connection->is_trusted = gnutls_certificate_verify_peers2(session_of(connection), &doubts) == GNUTLS_E_SUCCESS && doubts == 0;
    return connection->is_trusted;
}

void http_connection_send_past(struct http_connection *connection, const struct http_reply *reply)
{
    struct str_buf answer = {0};
    str_buf_printf(&answer, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", reply->status,
                   MHD_get_reason_phrase_for((unsigned)reply->status), reply->content_type, reply->length);
    str_buf_append_bytes(&answer, reply->bytes, reply->length);
    gnutls_session_t tls = session_of(connection);
    if (tls != NULL)
        gnutls_record_send(tls, answer.text, answer.length);
    else
        send(connection->fd, answer.text, answer.length, MSG_NOSIGNAL | MSG_DONTWAIT);
    str_buf_finish(&answer);
}

static void send_too_slow(struct http_connection *connection)
{
    struct http_request request;
    http_request_init(&request, HTTP_METHOD_OTHER, NULL);
    request.state = HTTP_HANDLING;
    http_reply_error(&request, 408, "The request did not arrive in time.");
    http_connection_send_past(connection, &request.reply);
    http_request_finish(&request);
}

static bool is_idle(const struct http_connection *connection)
{
    return connection->phase == PHASE_IDLE || connection->phase == PHASE_HEADERS;
}

static bool is_sending_body(const struct http_connection *connection)
{
    return connection->phase == PHASE_BODY;
}

static bool is_holding(const struct http_connection *connection)
{
    return connection->held_bytes > 0 && (connection->phase == PHASE_BODY || connection->phase == PHASE_SENDING);
}

/* The one that has been in its phase for longest, of those that others may take the place of. */
static struct http_connection *oldest(const struct http_server *server, const struct http_connection *but,
                                      bool (*fits)(const struct http_connection *connection))
{
    struct http_connection *found = NULL;
    for (struct http_connection *at = server->connections.next; at != &server->connections; at = at->next) {
        if (at != but && !at->is_cut && !at->is_suspended && fits(at) && (found == NULL || at->phase_since_ms < found->phase_since_ms))
            found = at;
    }
    return found;
}

void http_connection_hold(struct http_connection *connection, uint64_t bytes)
{
    struct http_server *server = connection->server;
    struct http_connection *other;
    connection->held_bytes += bytes;
    server->held_bytes += bytes;
    while (server->held_bytes > server->options.limits.held_bytes_max && (other = oldest(server, connection, is_holding)) != NULL) {
        log_debug(HTTP_LOGGER, "%s: a connection that holds %llu bytes is cut, because there are too many of them", server->options.name,
                  (unsigned long long)other->held_bytes);
        http_connection_cut(other);
    }
}

/* ---- deadlines ---- */

/* Whether fewer bytes moved in the window than must; else a new one begins when it is over. */
static bool is_too_slow(struct http_connection *connection, int64_t now, int64_t window_ms)
{
    if (now <= connection->window_since_ms + window_ms)
        return false;
    uint64_t wanted = connection->server->options.limits.rate_bytes_min * (uint64_t)window_ms / 1000;
    bool is_slow = moved_bytes(connection) - connection->window_bytes < wanted;
    window_begin(connection);
    return is_slow;
}

/* Whether more input is needed and the other side has ended it. */
static bool is_half_closed(const struct http_connection *connection)
{
    return connection->half_closed_ms > 0 && (is_idle(connection) || connection->phase == PHASE_BODY);
}

static bool is_waiting_in_vain(const struct http_connection *connection, int64_t now)
{
    char byte;
    if (!is_half_closed(connection))
        return false;
    int64_t from_ms = connection->half_closed_ms > connection->phase_since_ms ? connection->half_closed_ms : connection->phase_since_ms;
    if (now < from_ms + HALF_CLOSED_GRACE_MS)
        return false;
    return now > from_ms + HALF_CLOSED_GRACE_MAX_MS || recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static bool is_late(struct http_connection *connection, int64_t now)
{
    const struct http_limits *limits = &connection->server->options.limits;
    int64_t since_ms = connection->phase_since_ms;
    if (is_waiting_in_vain(connection, now))
        return true;
    switch (connection->phase) {
    case PHASE_IDLE:
        return now > since_ms + limits->idle_timeout_ms;
    case PHASE_HEADERS:
        return now > since_ms + limits->header_timeout_ms;
    case PHASE_BODY:
        return is_too_slow(connection, now, limits->body_timeout_ms);
    case PHASE_SENDING:
        return is_too_slow(connection, now, limits->send_timeout_ms);
    case PHASE_WORKING:
        break;
    }
    return false;
}

static void on_sweep(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    int64_t now = now_ms(server);
    bool is_urgent = false;
    for (struct http_connection *at = server->connections.next; at != &server->connections; at = at->next) {
        if (at->is_cut || at->is_suspended)
            continue;
        if (!is_late(at, now)) {
            is_urgent = is_urgent || is_half_closed(at);
            continue;
        }
        if (at->half_closed_ms == 0 && (at->phase == PHASE_HEADERS || at->phase == PHASE_BODY))
            send_too_slow(at);
        http_connection_cut(at);
    }
    for (struct http_linger *at = server->lingers.next; at != &server->lingers; at = at->next) {
        /* Its poll ends it. */
        if (now > at->until_ms)
            shutdown(at->fd, SHUT_RDWR);
    }
    if (server->connection_count == 0 && server->linger_count == 0)
        uv_timer_stop(timer);
    else if (is_urgent)
        sweep_soon(server);
}

static void sweep_arm(struct http_server *server)
{
    if (!server->is_closing && !uv_is_active((uv_handle_t *)&server->sweep))
        uv_timer_start(&server->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
}

/* A half-closed connection need not wait for the next regular sweep. */
static void sweep_soon(struct http_server *server)
{
    if (!server->is_closing && uv_timer_get_due_in(&server->sweep) > HALF_CLOSED_GRACE_MS)
        uv_timer_start(&server->sweep, on_sweep, HALF_CLOSED_GRACE_MS, SWEEP_MS);
}

/* ---- lingering ---- */

static void on_linger_closed(uv_handle_t *handle)
{
    struct http_linger *linger = handle->data;
    uv_handle_t server_handle = {.data = linger->server};
    close(linger->fd);
    free(linger);
    http_server_on_handle_closed(&server_handle);
}

static void linger_end(struct http_linger *linger)
{
    linger->previous->next = linger->next;
    linger->next->previous = linger->previous;
    linger->server->linger_count--;
    uv_close((uv_handle_t *)&linger->poll, on_linger_closed);
}

static void on_linger(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct http_linger *linger = poll->data;
    static char unread[65536];
    ssize_t got = recv(linger->fd, unread, sizeof unread, MSG_DONTWAIT);
    bool is_over = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR) || (got > 0 && (uint64_t)got >= linger->bytes_left);
    if (is_over)
        linger_end(linger);
    else if (got > 0)
        linger->bytes_left -= (uint64_t)got;
}

void http_connection_linger(struct http_connection *connection)
{
    if (connection->linger_fd < 0 && connection->server->linger_count < LINGERS_MAX)
        connection->linger_fd = fcntl(connection->fd, F_DUPFD_CLOEXEC, 0);
}

static void linger_start(struct http_server *server, int fd)
{
    struct http_linger *linger = heap_new(struct http_linger);
    linger->server = server;
    linger->fd = fd;
    linger->until_ms = now_ms(server) + LINGER_MS;
    linger->bytes_left = LINGER_BYTES_MAX;
    linger->next = &server->lingers;
    linger->previous = server->lingers.previous;
    linger->previous->next = server->lingers.previous = linger;
    server->linger_count++;
    server->open_handles++;
    shutdown(fd, SHUT_WR);
    uv_poll_init(server->loop, &linger->poll, fd);
    linger->poll.data = linger;
    uv_poll_start(&linger->poll, UV_READABLE, on_linger);
}

/* ---- half-closed connections ---- */

static void on_watch(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct http_server *server = poll->data;
    struct epoll_event ready[64];
    int count = epoll_wait(server->watch_fd, ready, 64, 0);
    for (int i = 0; i < count; i++) {
        struct http_connection *connection = ready[i].data.ptr;
        connection->half_closed_ms = now_ms(server);
        sweep_soon(server);
    }
}

struct error *http_watch_start(struct http_server *server)
{
    server->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->watch_fd < 0)
        return error_errno(errno, "could not create an epoll set");
    uv_poll_init(server->loop, &server->watch, server->watch_fd);
    uv_timer_init(server->loop, &server->sweep);
    server->watch.data = server->sweep.data = server;
    server->open_handles += 2;
    uv_poll_start(&server->watch, UV_READABLE, on_watch);
    return NULL;
}

/* After the daemon has stopped: no connection is left. */
void http_watch_stop(struct http_server *server)
{
    while (server->lingers.next != &server->lingers)
        linger_end(server->lingers.next);
    uv_close((uv_handle_t *)&server->watch, http_server_on_handle_closed);
    uv_close((uv_handle_t *)&server->sweep, http_server_on_handle_closed);
    close(server->watch_fd);
}

/* ---- begin and end ---- */

static struct in6_addr address_of(const struct sockaddr *address)
{
    struct in6_addr result = {0};
    if (address->sa_family == AF_INET6)
        return ((const struct sockaddr_in6 *)address)->sin6_addr;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    result.s6_addr[10] = result.s6_addr[11] = 0xff;
    memcpy(&result.s6_addr[12], &v4->sin_addr, 4);
    return result;
}

static uint32_t count_of_address(const struct http_server *server, const struct in6_addr *address)
{
    uint32_t count = 0;
    for (const struct http_connection *at = server->connections.next; at != &server->connections; at = at->next)
        count += !at->is_cut && memcmp(&at->address, address, sizeof *address) == 0;
    return count;
}

/* The new one is the youngest, so it goes only when everybody else is at work. */
static void make_room(struct http_server *server, struct http_connection *connection)
{
    const struct http_limits *limits = &server->options.limits;
    uint32_t per_address = limits->connections_per_address_max;
    if (per_address > 0 && count_of_address(server, &connection->address) > per_address) {
        http_connection_cut(connection);
    } else if (server->connection_count > limits->connections_max) {
        struct http_connection *other = oldest(server, connection, is_idle);
        if (other == NULL)
            other = oldest(server, connection, is_sending_body);
        http_connection_cut(other != NULL ? other : connection);
    }
}

static void connection_begin(struct http_server *server, struct MHD_Connection *mhd, void **context)
{
    struct http_connection *connection = heap_new(struct http_connection);
    connection->server = server;
    connection->mhd = mhd;
    connection->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    connection->address = address_of(MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr);
    connection->linger_fd = -1;
    connection->next = &server->connections;
    connection->previous = server->connections.previous;
    connection->previous->next = server->connections.previous = connection;
    server->connection_count++;
    *context = connection;
    int bytes = SEND_BUFFER_BYTES;
    setsockopt(connection->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = connection};
    epoll_ctl(server->watch_fd, EPOLL_CTL_ADD, connection->fd, &event);
    http_connection_enter(connection, PHASE_IDLE);
    make_room(server, connection);
    sweep_arm(server);
}

static void connection_end(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    http_connection_enter(connection, PHASE_IDLE);
    epoll_ctl(server->watch_fd, EPOLL_CTL_DEL, connection->fd, NULL);
    connection->previous->next = connection->next;
    connection->next->previous = connection->previous;
    server->connection_count--;
    if (connection->linger_fd >= 0 && server->is_closing)
        close(connection->linger_fd);
    else if (connection->linger_fd >= 0)
        linger_start(server, connection->linger_fd);
    free(connection);
}

void http_connection_notify(void *server, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        connection_begin(server, mhd, context);
    } else if (*context != NULL) {
        connection_end(*context);
        *context = NULL;
    }
}

struct http_connection *http_connection_of(struct MHD_Connection *mhd)
{
    return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}
