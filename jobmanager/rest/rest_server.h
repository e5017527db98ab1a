/* The REST endpoint: common/http's server with the routes of routes.def behind it. Handlers run on the loop thread and read the live
 * state without a lock. Thread: the jobmanager's loop. */
#ifndef MILLRACE_REST_REST_SERVER_H
#define MILLRACE_REST_REST_SERVER_H

#include "common/http/http_server.h"
#include "jobmanager/rest/rest_request.h"

#include <uv.h>

struct jobmanager;
struct rest_server;

/* Finds and calls the handler of a request; answers 404 when there is none (routes.c). */
void rest_dispatch(struct jobmanager *jobmanager, struct rest_request *request);
/* Whether a route has this path, with whatever method. */
bool rest_route_exists(const struct jobmanager *jobmanager, const char *path);
/* Whether the route of this method and path takes multipart uploads. */
bool rest_route_takes_upload(const struct jobmanager *jobmanager, enum http_method method, const char *path);

/* On the address and the first free port that the configuration names, with its limits, TLS and token.
 * errors: as http_server_create, http_tls_create, http_token_load */
MUST_CHECK struct error *rest_server_create(struct jobmanager *jobmanager, uv_loop_t *loop, struct rest_server **out);
bool rest_server_has_tls(const struct rest_server *server);
uint16_t rest_server_port(const struct rest_server *server);
/* Stops listening and closes every connection. Deferred requests are dropped. The loop must run on until the handles are
 * gone. Accepts NULL. */
void rest_server_destroy(struct rest_server *server);

#endif
