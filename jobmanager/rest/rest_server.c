/* Connections, bodies and answers of the REST API (rest_server.h). Nothing here knows a path.
 * Thread: the jobmanager's loop. Owner of every struct exchange: the server, until libmicrohttpd reports the request
 * as completed and its handler has replied, whichever is later. */
#include "jobmanager/rest/rest_server.h"

#include "common/base/check.h"
#include "common/base/digest.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/vec.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOGGER "RestServer"
#define JSON_BODY_BYTES_MAX (8u << 20)

enum exchange_state { EXCHANGE_RECEIVING, EXCHANGE_HANDLING, EXCHANGE_DEFERRED, EXCHANGE_REPLIED };

struct exchange {
    struct rest_request request;
    struct exchange *previous, *next;
    struct MHD_Connection *connection; /* NULL: the client has gone */
    struct MHD_PostProcessor *multipart;
    struct MHD_Response *response;
    unsigned status;
    enum exchange_state state;
    bool is_suspended;
    bool is_multipart;
    bool is_too_large;
    int upload_fd;
    int upload_errno;
    uint64_t received_bytes;
    struct digest sha256;
};

struct rest_server {
    struct jobmanager *jobmanager;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    uv_idle_t kick; /* runs the daemon soon after a resume */
    struct exchange exchanges; /* list head */
    char *upload_directory;
    uint64_t content_bytes_max;
    uint64_t upload_number;
    uint16_t port;
    unsigned open_handles;
    bool is_closing;
};

/* ---- the daemon on the loop ---- */

static void run_daemon(struct rest_server *server);

static void on_timer(uv_timer_t *timer)
{
    run_daemon(timer->data);
}

static void on_kick(uv_idle_t *kick)
{
    uv_idle_stop(kick);
    run_daemon(kick->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run_daemon(poll->data);
}

static void run_daemon(struct rest_server *server)
{
    if (server->is_closing)
        return;
    MHD_run(server->daemon);
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    if (MHD_get_timeout(server->daemon, &timeout_ms) == MHD_YES)
        uv_timer_start(&server->timer, on_timer, timeout_ms, 0);
    else
        uv_timer_stop(&server->timer);
}

/* ---- life of an exchange ---- */

static struct exchange *exchange_create(struct rest_server *server, struct MHD_Connection *connection, const char *url, enum rest_method method)
{
    struct exchange *exchange = heap_new(struct exchange);
    exchange->request.method = method;
    exchange->request.url = heap_strdup(url);
    exchange->request.server = server;
    exchange->request.exchange = exchange;
    exchange->connection = connection;
    exchange->upload_fd = -1;
    exchange->next = &server->exchanges;
    exchange->previous = server->exchanges.previous;
    exchange->previous->next = exchange;
    server->exchanges.previous = exchange;
    return exchange;
}

static void exchange_destroy(struct exchange *exchange)
{
    struct rest_request *request = &exchange->request;
    exchange->previous->next = exchange->next;
    exchange->next->previous = exchange->previous;
    if (exchange->multipart != NULL)
        MHD_destroy_post_processor(exchange->multipart);
    if (exchange->response != NULL)
        MHD_destroy_response(exchange->response);
    if (exchange->upload_fd >= 0)
        close(exchange->upload_fd);
    if (request->upload.path != NULL)
        unlink(request->upload.path);
    free(request->upload.path);
    free(request->upload.name);
    for (size_t i = 0; i < request->path_param_count; i++) {
        free(request->path_params[i].name);
        free(request->path_params[i].value);
    }
    for (size_t i = 0; i < request->query.count; i++) {
        free(request->query.items[i].name);
        free(request->query.items[i].value);
    }
    vec_finish(&request->query);
    str_buf_finish(&request->body);
    free(request->url);
    free(exchange);
}

static void on_completed(void *server, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode code)
{
    (void)server;
    (void)connection;
    (void)code;
    struct exchange *exchange = *context;
    *context = NULL;
    if (exchange == NULL)
        return;
    exchange->connection = NULL;
    /* A handler that still works holds the request: it is destroyed with its reply. */
    if (exchange->state != EXCHANGE_DEFERRED)
        exchange_destroy(exchange);
}

void rest_request_defer(struct rest_request *request)
{
    struct exchange *exchange = request->exchange;
    check(exchange->state == EXCHANGE_HANDLING);
    exchange->state = EXCHANGE_DEFERRED;
}

/* ---- answers ---- */

static void reply(struct rest_request *request, int status, struct MHD_Response *response, const char *content_type)
{
    struct exchange *exchange = request->exchange;
    check(exchange->state == EXCHANGE_HANDLING || exchange->state == EXCHANGE_DEFERRED);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    MHD_set_response_options(response, MHD_RF_SEND_KEEP_ALIVE_HEADER, MHD_RO_END);
    exchange->response = response;
    exchange->status = (unsigned)status;
    bool was_deferred = exchange->state == EXCHANGE_DEFERRED;
    exchange->state = EXCHANGE_REPLIED;
    if (!was_deferred)
        return;
    if (exchange->connection == NULL) {
        exchange_destroy(exchange);
    } else if (exchange->is_suspended) {
        exchange->is_suspended = false;
        MHD_resume_connection(exchange->connection);
        uv_idle_start(&request->server->kick, on_kick);
    }
}

static void reply_text_take(struct rest_request *request, int status, char *text, size_t length, const char *content_type)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_FREE);
    check(response != NULL);
    reply(request, status, response, content_type);
}

void rest_reply_json(struct rest_request *request, int status, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15));
    check(text != NULL);
    json_decref(json);
    reply_text_take(request, status, text, strlen(text), "application/json; charset=UTF-8");
}

void rest_reply_text(struct rest_request *request, int status, const void *text, size_t length)
{
    char *copy = malloc(length + 1);
    check(copy != NULL);
    memcpy(copy, text, length);
    reply_text_take(request, status, copy, length, "text/plain");
}

void rest_reply_file(struct rest_request *request, int fd, uint64_t size_bytes)
{
    struct MHD_Response *response = MHD_create_response_from_fd64(size_bytes, fd);
    if (response == NULL) {
        close(fd);
        rest_reply_internal(request, "java.io.IOException: could not read the file");
        return;
    }
    reply(request, 200, response, "text/plain");
}

/* ---- request parsing ---- */

static enum rest_method method_from_name(const char *name)
{
    static const struct {
        const char *name;
        enum rest_method method;
    } names[] = {{"GET", REST_GET}, {"POST", REST_POST}, {"PATCH", REST_PATCH}, {"PUT", REST_PUT}, {"DELETE", REST_DELETE}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i].name) == 0)
            return names[i].method;
    }
    return REST_METHOD_OTHER;
}

static enum MHD_Result on_query_param(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    struct rest_query *query = context;
    struct rest_param param = {heap_strdup(name), heap_strdup(value != NULL ? value : "")};
    vec_push(query, param);
    return MHD_YES;
}

static const char *base_name(const char *path)
{
    const char *name = path;
    for (const char *p = path; *p != '\0'; p++) {
        if (*p == '/' || *p == '\\')
            name = p + 1;
    }
    return name;
}

static void upload_open(struct exchange *exchange, const char *filename)
{
    struct rest_request *request = &exchange->request;
    struct rest_server *server = request->server;
    request->upload_count++;
    if (request->upload_count > 1)
        return;
    request->upload.name = heap_strdup(base_name(filename));
    request->upload.path = heap_printf("%s/upload-%llu.part", server->upload_directory, (unsigned long long)++server->upload_number);
    exchange->upload_fd = open(request->upload.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (exchange->upload_fd < 0)
        exchange->upload_errno = errno;
    digest_init(&exchange->sha256);
}

static void upload_write(struct exchange *exchange, const char *data, size_t size)
{
    digest_update(&exchange->sha256, data, size);
    exchange->request.upload.size_bytes += size;
    while (size > 0 && exchange->upload_errno == 0) {
        ssize_t written = write(exchange->upload_fd, data, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            exchange->upload_errno = errno;
            return;
        }
        data += written;
        size -= (size_t)written;
    }
}

/* Fields without a file name are ignored; of several files only the first is kept, the handler refuses the rest. */
static enum MHD_Result on_multipart(void *context, enum MHD_ValueKind kind, const char *key, const char *filename,
                                    const char *content_type, const char *transfer_encoding, const char *data,
                                    uint64_t offset, size_t size)
{
    (void)kind;
    (void)key;
    (void)content_type;
    (void)transfer_encoding;
    struct exchange *exchange = context;
    if (filename == NULL)
        return MHD_YES;
    if (offset == 0)
        upload_open(exchange, filename);
    if (exchange->request.upload_count == 1)
        upload_write(exchange, data, size);
    return MHD_YES;
}

static void upload_close(struct exchange *exchange)
{
    if (exchange->multipart != NULL) {
        MHD_destroy_post_processor(exchange->multipart);
        exchange->multipart = NULL;
    }
    if (exchange->upload_fd < 0)
        return;
    close(exchange->upload_fd);
    exchange->upload_fd = -1;
    digest_hex(&exchange->sha256, exchange->request.upload.sha256);
}

/* Bodies that are kept in memory are small: JSON. */
static uint64_t body_limit(const struct exchange *exchange)
{
    uint64_t limit = exchange->request.server->content_bytes_max;
    return !exchange->is_multipart && limit > JSON_BODY_BYTES_MAX ? JSON_BODY_BYTES_MAX : limit;
}

static void receive(struct exchange *exchange, const char *data, size_t size)
{
    exchange->received_bytes += size;
    if (exchange->received_bytes > body_limit(exchange))
        exchange->is_too_large = true;
    if (exchange->is_too_large)
        return;
    if (exchange->is_multipart && exchange->multipart != NULL)
        MHD_post_process(exchange->multipart, data, size);
    else if (!exchange->is_multipart)
        str_buf_append_bytes(&exchange->request.body, data, size);
}

static void begin(struct exchange *exchange)
{
    struct rest_request *request = &exchange->request;
    struct MHD_Connection *connection = exchange->connection;
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, on_query_param, &request->query);
    const char *type = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    if (type != NULL && strncasecmp(type, "multipart/form-data", 19) == 0 && rest_route_takes_upload(request->method, request->url)) {
        /* NULL for a boundary that is none: the body then holds no file. */
        exchange->multipart = MHD_create_post_processor(connection, 32768, on_multipart, exchange);
        exchange->is_multipart = true;
    }
    const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (length != NULL && strtoull(length, NULL, 10) > body_limit(exchange))
        exchange->is_too_large = true;
}

static void handle(struct exchange *exchange)
{
    struct rest_request *request = &exchange->request;
    upload_close(exchange);
    exchange->state = EXCHANGE_HANDLING;
    if (exchange->is_too_large)
        rest_reply_error(request, 413, "The request is larger than the limit of %llu bytes%s.", (unsigned long long)body_limit(exchange),
                         exchange->is_multipart ? " (rest.server.max-content-length)" : "");
    else if (exchange->upload_errno != 0)
        rest_reply_error(request, 500, EX_REST ": Could not store the uploaded file: %s.\n", strerror(exchange->upload_errno));
    else
        rest_dispatch(request->server->jobmanager, request);
    check(exchange->state != EXCHANGE_HANDLING);
}

static enum MHD_Result send_reply(struct exchange *exchange)
{
    enum MHD_Result result = MHD_queue_response(exchange->connection, exchange->status, exchange->response);
    MHD_destroy_response(exchange->response);
    exchange->response = NULL;
    return result;
}

/* libmicrohttpd calls this once with the headers, then for each piece of body, then with an empty piece at the end of
 * the body, and once more after each resume. */
static enum MHD_Result on_access(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                                 const char *version, const char *data, size_t *size, void **exchange_slot)
{
    (void)version;
    struct rest_server *server = context;
    struct exchange *exchange = *exchange_slot;
    if (exchange == NULL) {
        exchange = exchange_create(server, connection, url, method_from_name(method));
        *exchange_slot = exchange;
        begin(exchange);
        if (exchange->is_too_large) {
            handle(exchange);
            return send_reply(exchange);
        }
        return MHD_YES;
    }
    if (*size != 0) {
        receive(exchange, data, *size);
        *size = 0;
        return MHD_YES;
    }
    if (exchange->state == EXCHANGE_RECEIVING)
        handle(exchange);
    if (exchange->state == EXCHANGE_REPLIED)
        return send_reply(exchange);
    exchange->is_suspended = true;
    MHD_suspend_connection(connection);
    return MHD_YES;
}

/* ---- start and stop ---- */

__attribute__((format(printf, 2, 0))) static void on_daemon_log(void *context, const char *format, va_list args)
{
    (void)context;
    char line[512];
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    log_debug(LOGGER, "%s", line);
}

/* As libmicrohttpd does it, but %00 stays as it is: a path or a parameter must not end where a stranger says so. */
static size_t on_unescape(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    char *end = text;
    for (const char *at = text; *at != '\0'; at++) {
        char hex[3] = {0};
        if (at[0] == '%' && isxdigit((unsigned char)at[1]) && isxdigit((unsigned char)at[2]))
            memcpy(hex, at + 1, 2);
        char byte = (char)strtoul(hex, NULL, 16);
        if (byte != '\0')
            at += 2;
        *end++ = byte != '\0' ? byte : *at;
    }
    *end = '\0';
    return (size_t)(end - text);
}

static struct error *listen_on(const struct rest_server_options *options, int *out_fd, uint16_t *out_port)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&storage;
    socklen_t length = sizeof *v4;
    if (inet_pton(AF_INET, options->bind_address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(options->port);
    } else if (inet_pton(AF_INET6, options->bind_address, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(options->port);
        length = sizeof *v6;
    } else {
        return error_new(INVALID_CONFIG, "rest.bind-address is no numeric address: %s", options->bind_address);
    }
    int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_errno(errno, "could not create the REST socket");
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&storage, length) != 0 || listen(fd, 512) != 0) {
        struct error *err = error_errno(errno, "could not listen on %s:%u (rest.port)", options->bind_address, options->port);
        close(fd);
        return err;
    }
    length = sizeof storage;
    getsockname(fd, (struct sockaddr *)&storage, &length);
    *out_port = ntohs(storage.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
    *out_fd = fd;
    return NULL;
}

struct error *rest_server_create(struct jobmanager *jobmanager, uv_loop_t *loop, const struct rest_server_options *options,
                                 struct rest_server **out)
{
    int fd = -1;
    uint16_t port = 0;
    TRY(listen_on(options, &fd, &port));
    struct rest_server *server = heap_new(struct rest_server);
    server->jobmanager = jobmanager;
    server->port = port;
    server->content_bytes_max = options->content_bytes_max;
    server->upload_directory = heap_strdup(options->upload_directory);
    server->exchanges.next = server->exchanges.previous = &server->exchanges;
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_SUPPRESS_DATE_NO_CLOCK | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_access, server,
        MHD_OPTION_EXTERNAL_LOGGER, on_daemon_log, NULL,
        MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
        MHD_OPTION_CONNECTION_LIMIT, options->connections_max, MHD_OPTION_CONNECTION_TIMEOUT, options->idle_timeout_s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)65536, MHD_OPTION_END);
    if (server->daemon == NULL) {
        close(fd);
        free(server->upload_directory);
        free(server);
        return error_new(INTERNAL, "could not start the HTTP server");
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    uv_poll_init(loop, &server->poll, info->epoll_fd);
    uv_timer_init(loop, &server->timer);
    uv_idle_init(loop, &server->kick);
    server->poll.data = server->timer.data = server->kick.data = server;
    server->open_handles = 3;
    uv_poll_start(&server->poll, UV_READABLE, on_poll);
    *out = server;
    return NULL;
}

uint16_t rest_server_port(const struct rest_server *server)
{
    return server->port;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct rest_server *server = handle->data;
    if (--server->open_handles == 0) {
        free(server->upload_directory);
        free(server);
    }
}

void rest_server_destroy(struct rest_server *server)
{
    if (server == NULL)
        return;
    server->is_closing = true;
    uv_poll_stop(&server->poll);
    /* Suspended connections must be resumed before the daemon stops; their exchanges go with them. */
    for (struct exchange *exchange = server->exchanges.next; exchange != &server->exchanges; exchange = exchange->next) {
        if (exchange->is_suspended && exchange->connection != NULL) {
            exchange->state = EXCHANGE_REPLIED;
            exchange->is_suspended = false;
            exchange->response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
            exchange->status = 503;
            MHD_resume_connection(exchange->connection);
        }
    }
    MHD_run(server->daemon);
    MHD_stop_daemon(server->daemon);
    while (server->exchanges.next != &server->exchanges)
        exchange_destroy(server->exchanges.next);
    uv_close((uv_handle_t *)&server->poll, on_handle_closed);
    uv_close((uv_handle_t *)&server->timer, on_handle_closed);
    uv_close((uv_handle_t *)&server->kick, on_handle_closed);
}
