/* An HTTP/1.1 server on a libuv loop: libmicrohttpd in external epoll mode, its epoll descriptor polled by the loop, so that
 * every handler runs on the loop's thread and reads the owner's state without a lock.
 *
 * Strangers cost little, and always a bounded amount of it:
 *   connections   at the limit the one that has been idle for longest is closed for the new one
 *   headers       64 KiB, whole within idle_timeout_ms of the connection's last answer, and within header_timeout_ms of the request line
 *   bodies        in memory up to body_bytes_max; uploads go to files, written and hashed on pool threads, up to upload_bytes_max.
 *                 A Content-Length beyond the limit is refused before the body is read, a chunked body is cut at the limit
 *   slowness      in every body_timeout_ms of a body and send_timeout_ms of an answer bytes move at rate_bytes_min; idle connections
 *                 that are half closed are closed
 *   memory        of all bodies and answers held_bytes_max; beyond it the connection that has held some for longest is cut
 * With tls it speaks TLS only; with token every request needs `Authorization: Bearer <token>` but the public ones.
 *
 * Thread: the loop's. Source: RFC 9110, 9112; the rate idea is Apache's mod_reqtimeout. */
#ifndef MILLRACE_HTTP_HTTP_SERVER_H
#define MILLRACE_HTTP_HTTP_SERVER_H

#include "common/http/http_request.h"

#include <uv.h>

struct http_server;
struct http_tls;

enum http_body { HTTP_BODY_MEMORY, HTTP_BODY_UPLOAD };

struct http_handler {
    /* Answers or defers; the body is complete. */
    void (*on_request)(void *context, struct http_request *request);
    /* Where the body goes, asked when the headers are there: HTTP_BODY_UPLOAD stores the file of a multipart body. NULL: memory. */
    enum http_body (*body_of)(void *context, const struct http_request *request);
    /* Whether the request needs no token (files of a page). NULL: every request needs it. */
    bool (*is_public)(void *context, const struct http_request *request);
    /* Frees request->user. NULL: nothing to free. */
    void (*on_destroy)(void *context, struct http_request *request);
};

struct http_limits {
    uint32_t connections_max;
    uint32_t connections_per_address_max; /* 0: as many as in all */
    uint64_t body_bytes_max;
    uint64_t upload_bytes_max;
    uint64_t held_bytes_max; /* memory for the bodies and answers of all connections */
    uint64_t rate_bytes_min; /* a second */
    int64_t idle_timeout_ms;
    int64_t header_timeout_ms;
    int64_t body_timeout_ms;
    int64_t send_timeout_ms;
};

struct http_server_options {
    const char *name;             /* of the endpoint and its option, for messages: "REST (rest.port)" */
    const char *bind_address;     /* numeric; "" is 0.0.0.0 */
    uint16_t port;                /* 0: any */
    struct http_limits limits;
    const char *upload_limit_key; /* option that raises upload_bytes_max, for messages; NULL: none */
    const char *upload_directory; /* exists; NULL: no uploads */
    const char *allow_origin;     /* Access-Control-Allow-Origin of every answer; NULL or "": none */
    const char *token;            /* NULL: none needed */
    const struct http_tls *tls;   /* borrowed until destroy; NULL: plain */
    const struct http_handler *handler; /* borrowed until destroy */
    void *context;                      /* of the handler */
};

/* What a daemon's endpoint allows if nobody says otherwise. */
struct http_limits http_limits_default(void);

/* errors: INVALID_CONFIG for a bad address; IO naming address and port when it cannot listen */
MUST_CHECK struct error *http_server_create(uv_loop_t *loop, const struct http_server_options *options, struct http_server **out);
uint16_t http_server_port(const struct http_server *server);
/* Stops listening and closes every connection. Deferred requests are dropped: their handlers must not reply any more.
 * The loop must run on until the handles are closed. Accepts NULL. */
void http_server_destroy(struct http_server *server);

#endif
