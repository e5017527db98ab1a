/* Start and stop of the REST endpoint (rest_server.h), and what its HTTP server asks. Thread: the jobmanager's loop. */
#include "jobmanager/rest/rest_server.h"

#include "common/base/heap.h"
#include "common/http/http_tls.h"
#include "common/http/http_token.h"
#include "jobmanager/jobmanager.h"

#include <stdlib.h>
#include <string.h>

struct rest_server {
    struct jobmanager *jobmanager;
    struct http_server *http;
    struct http_tls *tls; /* NULL: plain */
};

static void on_request(void *context, struct http_request *http)
{
    struct rest_server *server = context;
    rest_dispatch(server->jobmanager, rest_request_create(http));
}

static enum http_body body_of(void *context, const struct http_request *http)
{
    struct rest_server *server = context;
    return rest_route_takes_upload(server->jobmanager, http->method, http->path) ? HTTP_BODY_UPLOAD : HTTP_BODY_MEMORY;
}

/* The files of a page: what they show comes from routes, which ask for the token. */
static bool is_public(void *context, const struct http_request *http)
{
    struct rest_server *server = context;
    return (http->method == HTTP_GET || http->method == HTTP_HEAD) && !rest_route_exists(server->jobmanager, http->path);
}

static void on_destroy(void *context, struct http_request *http)
{
    (void)context;
    rest_request_destroy(http->user);
}

static const struct http_handler handler = {.on_request = on_request, .body_of = body_of, .is_public = is_public, .on_destroy = on_destroy};

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

static struct error *load_tls(const struct config *config, struct http_tls **out)
{
    if (!config_bool(config, OPTION_SSL_REST_ENABLED))
        return NULL;
    struct http_tls_options options = {
        .keystore = config_text(config, OPTION_SSL_REST_KEYSTORE),
        .keystore_password = config_text(config, OPTION_SSL_REST_KEYSTORE_PASSWORD),
        .certificate = config_text(config, OPTION_SSL_REST_CERTIFICATE),
        .key = config_text(config, OPTION_SSL_REST_PRIVATE_KEY),
        .key_password = config_text(config, OPTION_SSL_REST_KEY_PASSWORD),
        .truststore = config_text(config, OPTION_SSL_REST_TRUSTSTORE),
        .truststore_password = config_text(config, OPTION_SSL_REST_TRUSTSTORE_PASSWORD),
        .requires_client = config_bool(config, OPTION_SSL_REST_AUTHENTICATION),
    };
    return http_tls_create(&options, out);
}

static struct http_limits limits_of(const struct config *config)
{
    struct http_limits limits = http_limits_default();
    limits.connections_max = (uint32_t)config_int(config, OPTION_REST_CONNECTIONS_MAX);
    limits.connections_per_address_max = (uint32_t)config_int(config, OPTION_REST_CONNECTIONS_PER_ADDRESS_MAX);
    limits.idle_timeout_ms = config_ms(config, OPTION_REST_IDLENESS_TIMEOUT);
    limits.upload_bytes_max = (uint64_t)config_bytes(config, OPTION_REST_UPLOAD_MAX);
    if (limits.body_bytes_max > limits.upload_bytes_max)
        limits.body_bytes_max = limits.upload_bytes_max;
    return limits;
}

struct error *rest_server_create(struct jobmanager *jobmanager, uv_loop_t *loop, struct rest_server **out)
{
    const struct config *config = jobmanager->config;
    struct rest_server *server = heap_new(struct rest_server);
    struct http_server_options options = {
        .name = "REST (rest.port)",
        .bind_address = numeric_address(config_text(config, OPTION_REST_BIND_ADDRESS)),
        .limits = limits_of(config),
        .upload_limit_key = option_key(OPTION_REST_UPLOAD_MAX),
        .upload_directory = jobmanager->programs->upload_directory,
        .allow_origin = config_text(config, OPTION_WEB_ALLOW_ORIGIN),
        .handler = &handler,
        .context = server,
    };
    char *token = NULL;
    server->jobmanager = jobmanager;
    struct error *err = load_tls(config, &server->tls);
    if (err == NULL)
        err = http_token_load(config_text(config, OPTION_REST_TOKEN_FILE), &token);
    if (err == NULL) {
        options.tls = server->tls;
        options.token = token;
        err = listen_on_ports(server, loop, &options);
    }
    free(token);
    if (err != NULL) {
        http_tls_destroy(server->tls);
        free(server);
        return err;
    }
    *out = server;
    return NULL;
}

bool rest_server_has_tls(const struct rest_server *server)
{
    return server->tls != NULL;
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
    http_tls_destroy(server->tls);
    free(server);
}
