/* Start and stop of the REST endpoint (rest_server.h), and what its HTTP server asks. Thread: the jobmanager's loop. */
#include "jobmanager/rest/rest_server.h"

#include "common/base/heap.h"
#include "jobmanager/jobmanager.h"

#include <stdlib.h>
#include <string.h>

struct rest_server {
    struct jobmanager *jobmanager;
    struct http_server *http;
};

static void on_request(void *context, struct http_request *http)
{
    struct rest_server *server = context;
    rest_dispatch(server->jobmanager, rest_request_create(http));
}

static enum http_body body_of(void *context, const struct http_request *http)
{
    (void)context;
    return rest_route_takes_upload(http->method, http->path) ? HTTP_BODY_UPLOAD : HTTP_BODY_MEMORY;
}

static void on_destroy(void *context, struct http_request *http)
{
    (void)context;
    rest_request_destroy(http->user);
}

static const struct http_handler handler = {.on_request = on_request, .body_of = body_of, .on_destroy = on_destroy};

static const char *numeric_address(const char *address)
{
    return strcmp(address, "localhost") == 0 ? "127.0.0.1" : address;
}

/* rest.port, or the first free one of rest.bind-port's range. */
static struct error *listen_on_ports(struct rest_server *server, uv_loop_t *loop, struct http_server_options *options)
{
    const struct config *config = server->jobmanager->config;
    uint16_t first = (uint16_t)config_int(config, OPTION_REST_PORT);
    uint16_t last = first;
    if (config_is_set(config, OPTION_REST_BIND_PORT))
        config_ports(config, OPTION_REST_BIND_PORT, &first, &last);
    options->port = first;
    struct error *err = http_server_create(loop, options, &server->http);
    while (err != NULL && options->port < last) {
        error_free(err);
        options->port++;
        err = http_server_create(loop, options, &server->http);
    }
    return err;
}

struct error *rest_server_create(struct jobmanager *jobmanager, uv_loop_t *loop, struct rest_server **out)
{
    const struct config *config = jobmanager->config;
    struct rest_server *server = heap_new(struct rest_server);
    server->jobmanager = jobmanager;
    struct http_server_options options = {
        .name = "REST (rest.port)",
        .bind_address = numeric_address(config_text(config, OPTION_REST_BIND_ADDRESS)),
        .limits = http_limits_default(),
        .upload_limit_key = option_key(OPTION_REST_UPLOAD_MAX),
        .upload_directory = jobmanager->programs->upload_directory,
        .allow_origin = "*",
        .handler = &handler,
        .context = server,
    };
    options.limits.upload_bytes_max = (uint64_t)config_bytes(config, OPTION_REST_UPLOAD_MAX);
    if (options.limits.body_bytes_max > options.limits.upload_bytes_max)
        options.limits.body_bytes_max = options.limits.upload_bytes_max;
    struct error *err = listen_on_ports(server, loop, &options);
    if (err != NULL) {
        free(server);
        return err;
    }
    *out = server;
    return NULL;
}

uint16_t rest_server_port(const struct rest_server *server)
{
    return http_server_port(server->http);
}

void rest_server_destroy(struct rest_server *server)
{
    if (server == NULL)
        return;
    http_server_destroy(server->http);
    free(server);
}
