/* Listening, greeting, refusing; see rpc_server.h. Thread: the loop's. */
#include "common/rpc/rpc_server.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc_conn_private.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HANDSHAKE_TIMEOUT_MS = 10000, STRANGER_COUNT_MAX = 256, BACKLOG = 511, LOG_PAUSE_MS = 1000 };

/* A connection that is not greeted yet. */
struct stranger {
    struct rpc_server *server; /* NULL: the server closed first */
    struct rpc_conn *conn;
    struct stranger *next;
    struct stranger **link; /* what points here */
};

struct rpc_server {
    uv_tcp_t listener;
    struct rpc_server_options options;
    struct rpc_secret secret;
    char *logger;
    uint16_t port;
    struct stranger *strangers;
    uint32_t stranger_count;
    uint64_t refused_count;
    uint64_t silent_count; /* refused since the last log line */
    int64_t logged_at_ms;
    bool is_closing;
};

static void stranger_unlink(struct stranger *stranger)
{
    if (stranger->server == NULL)
        return;
    *stranger->link = stranger->next;
    if (stranger->next != NULL)
        stranger->next->link = stranger->link;
    stranger->server->stranger_count--;
    stranger->server = NULL;
}

/* Errors quote what the peer sent: that must not forge lines. */
static char *one_line(const char *text)
{
    char *line = heap_strdup(text);
    for (char *p = line; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return line;
}

void rpc_server_log_refused(struct rpc_server *server, const char *peer, const char *reason)
{
    int64_t now_ms = clock_mono_ms();
    server->refused_count++;
    if (server->logged_at_ms != 0 && now_ms - server->logged_at_ms < LOG_PAUSE_MS) {
        server->silent_count++;
        return;
    }
    server->logged_at_ms = now_ms;
    char *why = one_line(reason);
    if (server->silent_count > 0)
        log_warn(server->logger, "Closed connection from %s: %s (and %llu others since the last such line)", peer, why,
                 (unsigned long long)server->silent_count);
    else
        log_warn(server->logger, "Closed connection from %s: %s", peer, why);
    free(why);
    server->silent_count = 0;
}

static void on_stranger_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    struct stranger *stranger = context;
    if (stranger->server != NULL && !stranger->server->is_closing) {
        char *text = reason != NULL ? error_text(reason) : heap_strdup("closed");
        rpc_server_log_refused(stranger->server, rpc_conn_peer(conn), text);
        free(text);
    }
    stranger_unlink(stranger);
    free(stranger);
}

static const struct rpc_conn_handler stranger_handler = {.on_close = on_stranger_close};

static void on_greeted(struct rpc_conn *conn, const json_t *hello, void *context)
{
    struct stranger *stranger = context;
    struct rpc_server *server = stranger->server;
    stranger_unlink(stranger);
    free(stranger);
    rpc_conn_set_handler(conn, NULL, NULL);
    if (server != NULL)
        server->options.on_connection(server, conn, hello, server->options.context);
    else
        rpc_conn_close(conn, NULL);
}

static void greet(struct rpc_server *server, uv_tcp_t *handle)
{
    struct stranger *stranger = heap_new(struct stranger);
    stranger->server = server;
    stranger->next = server->strangers;
    stranger->link = &server->strangers;
    if (stranger->next != NULL)
        stranger->next->link = &stranger->next;
    server->strangers = stranger;
    server->stranger_count++;
    stranger->conn = rpc_conn_accept(handle, &server->secret, server->options.handshake_timeout_ms, server->options.body_bytes_max,
                                     on_greeted, &stranger_handler, stranger);
}

/* Whoever means to speak is greeted within a round trip or two, so silent ones cannot keep others out: the one that has waited for
 * longest gives way. */
static void make_room(struct rpc_server *server)
{
    struct stranger *oldest = server->strangers;
    while (oldest->next != NULL)
        oldest = oldest->next;
    rpc_server_log_refused(server, rpc_conn_peer(oldest->conn), "too many connections wait for their handshake, it did so for longest");
    stranger_unlink(oldest);
    rpc_conn_close(oldest->conn, NULL);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct rpc_server *server = listener->data;
    if (status != 0 || server->is_closing) {
        if (status != 0)
            rpc_server_log_refused(server, "the listener", uv_strerror(status));
        return;
    }
    uv_tcp_t *handle = heap_new(uv_tcp_t);
    uv_tcp_init(listener->loop, handle);
    if (uv_accept(listener, (uv_stream_t *)handle) != 0) {
        rpc_handle_discard(handle);
        return;
    }
    if (server->stranger_count >= server->options.stranger_count_max)
        make_room(server);
    greet(server, handle);
}

/* ---- listening ---- */

static void on_server_closed(uv_handle_t *handle)
{
    struct rpc_server *server = handle->data;
    rpc_secret_finish(&server->secret);
    free(server->logger);
    free(server);
}

static uint16_t bound_port(const uv_tcp_t *listener)
{
    struct sockaddr_storage address;
    int length = sizeof address;
    if (uv_tcp_getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        return 0;
    struct sockaddr_in6 in6;
    struct sockaddr_in in4;
    if (address.ss_family == AF_INET6) {
        memcpy(&in6, &address, sizeof in6);
        return ntohs(in6.sin6_port);
    }
    memcpy(&in4, &address, sizeof in4);
    return ntohs(in4.sin_port);
}

/* A socket that failed to bind cannot be bound again, so each port gets its own attempt with a plain socket. */
static int bind_fd(const struct sockaddr *address, socklen_t length, int *out_fd)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    int on = 1;
    int off = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, address, length) != 0 || listen(fd, BACKLOG) != 0) {
        int failed = errno;
        close(fd);
        return failed;
    }
    *out_fd = fd;
    return 0;
}

static struct error *bind_port(const char *host, uint16_t port, int *out_fd, int *out_errno)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *addresses;
    char port_text[8];
    const char *shown = host != NULL ? host : "all addresses";
    snprintf(port_text, sizeof port_text, "%u", port);
    if (host == NULL)
        hints.ai_family = AF_INET; /* every host has it, and clients resolve to it */
    int status = getaddrinfo(rpc_host_address(host), port_text, &hints, &addresses);
    if (status != 0)
        return error_new(INVALID_CONFIG, "could not resolve the address %s to listen on: %s", shown, gai_strerror(status));
    *out_fd = -1;
    *out_errno = EADDRNOTAVAIL;
    /* A name like localhost may mean ::1 and 127.0.0.1: prefer IPv4, which is what peers on other hosts try too. */
    for (int pass = 0; pass < 2 && *out_fd < 0; pass++)
        for (struct addrinfo *at = addresses; at != NULL && *out_fd < 0; at = at->ai_next)
            if ((at->ai_family == AF_INET) == (pass == 0))
                *out_errno = bind_fd(at->ai_addr, at->ai_addrlen, out_fd);
    freeaddrinfo(addresses);
    return NULL;
}

static struct error *bind_range(const struct rpc_server_options *options, int *out_fd)
{
    const char *host = options->host != NULL && options->host[0] != '\0' ? options->host : NULL;
    uint16_t last = options->port_last > options->port_first ? options->port_last : options->port_first;
    int failed = 0;
    for (uint32_t port = options->port_first; port <= last; port++) {
        TRY(bind_port(host, (uint16_t)port, out_fd, &failed));
        if (*out_fd >= 0)
            return NULL;
    }
    if (last > options->port_first)
        return error_errno(failed, "no port between %u and %u of %s is free", options->port_first, last, host != NULL ? host : "all addresses");
    return error_errno(failed, "could not listen on port %u of %s", options->port_first, host != NULL ? host : "all addresses");
}

struct error *rpc_server_create(uv_loop_t *loop, const struct rpc_server_options *options, struct rpc_server **out)
{
    check_on_loop(loop);
    int fd = -1;
    TRY(bind_range(options, &fd));
    struct rpc_server *server = heap_new(struct rpc_server);
    server->options = *options;
    if (server->options.handshake_timeout_ms == 0)
        server->options.handshake_timeout_ms = HANDSHAKE_TIMEOUT_MS;
    if (server->options.stranger_count_max == 0)
        server->options.stranger_count_max = STRANGER_COUNT_MAX;
    server->options.secret = NULL;
    server->options.host = NULL;
    server->logger = heap_strdup(options->logger != NULL ? options->logger : "RpcServer");
    if (options->secret != NULL && options->secret->length > 0)
        server->secret = (struct rpc_secret){heap_memdup(options->secret->bytes, options->secret->length), options->secret->length};
    uv_tcp_init(loop, &server->listener);
    server->listener.data = server;
    int status = uv_tcp_open(&server->listener, fd);
    if (status != 0)
        close(fd);
    else
        status = uv_listen((uv_stream_t *)&server->listener, BACKLOG, on_connection);
    if (status != 0) {
        uv_close((uv_handle_t *)&server->listener, on_server_closed);
        return error_new(NETWORK, "could not listen: %s", uv_strerror(status));
    }
    server->port = bound_port(&server->listener);
    *out = server;
    return NULL;
}

uint16_t rpc_server_port(const struct rpc_server *server)
{
    return server->port;
}

uint64_t rpc_server_refused_count(const struct rpc_server *server)
{
    return server->refused_count;
}

void rpc_server_close(struct rpc_server *server)
{
    if (server == NULL || server->is_closing)
        return;
    server->is_closing = true;
    while (server->strangers != NULL) {
        struct stranger *stranger = server->strangers;
        stranger_unlink(stranger);
        rpc_conn_close(stranger->conn, NULL);
    }
    uv_close((uv_handle_t *)&server->listener, on_server_closed);
}
