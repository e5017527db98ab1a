/* The HTTP server of the REST API: libmicrohttpd in external epoll mode. Its epoll descriptor is polled by the
 * jobmanager's loop, so every handler runs on the loop thread and reads the live state without a lock.
 * What the paths mean is in routes.def and the handler_*.c files; here are connections, bodies and answers only.
 * Limits: connections, idle seconds, body size; a client beyond them gets an HTTP error or a closed connection. */
#ifndef MILLRACE_REST_REST_SERVER_H
#define MILLRACE_REST_REST_SERVER_H

#include "jobmanager/rest/rest_request.h"

#include <uv.h>

struct jobmanager;
struct rest_server;

struct rest_server_options {
    const char *bind_address;   /* numeric */
    uint16_t port;              /* 0: any */
    uint64_t content_bytes_max; /* of one body */
    unsigned idle_timeout_s;
    unsigned connections_max;
    const char *upload_directory; /* exists; multipart files are written below it */
};

/* Finds and calls the handler of a request; answers 404 when there is none (routes.c). */
void rest_dispatch(struct jobmanager *jobmanager, struct rest_request *request);
/* Whether the route of this method and path takes multipart uploads. */
bool rest_route_takes_upload(enum rest_method method, const char *url);

MUST_CHECK struct error *rest_server_create(struct jobmanager *jobmanager, uv_loop_t *loop, const struct rest_server_options *options,
                                            struct rest_server **out);
uint16_t rest_server_port(const struct rest_server *server);
/* Stops listening and closes every connection. Deferred requests are dropped. The loop must run once more before the
 * handles are gone. Accepts NULL. */
void rest_server_destroy(struct rest_server *server);

#endif
