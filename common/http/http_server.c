/* The daemon on the loop, and the way of a request: headers, body, handler, answer (http_server.h). Connections and their deadlines
 * are in http_connection.c, files of uploads in http_upload.c. Thread: the loop's. Owner of an exchange: the server, until
 * libmicrohttpd reports the request as completed and its handler has replied, whichever is later. */
#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/http/http_private.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct http_limits http_limits_default(void)
{
    return (struct http_limits){
        .connections_max = 4096,
        .body_bytes_max = 1u << 20,
        .upload_bytes_max = 100u << 20,
        .held_bytes_max = 128u << 20,
        .rate_bytes_min = 1u << 10,
        .idle_timeout_ms = 60000,
        .header_timeout_ms = 10000,
        .body_timeout_ms = 20000,
        .send_timeout_ms = 30000,
    };
}

/* ---- the daemon on the loop ---- */

static void run_daemon(struct http_server *server);
static void resume(struct http_exchange *exchange);

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

static void run_daemon(struct http_server *server)
{
    if (server->is_closing)
        return;
    http_turn_begin(server, resume);
    MHD_run(server->daemon);
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    bool has_timeout = MHD_get_timeout(server->daemon, &timeout_ms) == MHD_YES;
    /* Not by a timer of 0 ms: one that is started by its own callback is due again at once, and libuv before 1.45 gets to nothing else. */
    if (http_turn_is_awaited(server) || (has_timeout && timeout_ms == 0))
        uv_idle_start(&server->kick, on_kick);
    if (has_timeout && timeout_ms > 0)
        uv_timer_start(&server->timer, on_timer, timeout_ms, 0);
    else
        uv_timer_stop(&server->timer);
}

/* ---- life of an exchange ---- */

static const char *find_header(const struct http_request *request, const char *name)
{
    const struct http_exchange *exchange = (const struct http_exchange *)request;
    return exchange->connection != NULL ? MHD_lookup_connection_value(exchange->connection->mhd, MHD_HEADER_KIND, name) : NULL;
}

static void suspend(struct http_exchange *exchange)
{
    exchange->suspended_ms = (int64_t)uv_now(exchange->server->loop) + 1;
    exchange->connection->is_suspended = true;
    MHD_suspend_connection(exchange->connection->mhd);
}

static void resume(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    if (exchange->suspended_ms == 0 || connection == NULL)
        return;
    int64_t waited_ms = (int64_t)uv_now(exchange->server->loop) + 1 - exchange->suspended_ms;
    connection->phase_since_ms += waited_ms;
    connection->window_since_ms += waited_ms;
    connection->is_suspended = false;
    exchange->suspended_ms = 0;
    MHD_resume_connection(connection->mhd);
    uv_idle_start(&exchange->server->kick, on_kick);
}

static void exchange_destroy(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    struct http_request *request = &exchange->request;
    exchange->previous->next = exchange->next;
    exchange->next->previous = exchange->previous;
    http_upload_writer_destroy(exchange->upload);
    if (request->user != NULL && server->options.handler->on_destroy != NULL)
        server->options.handler->on_destroy(server->options.context, request);
    if (request->upload.path != NULL)
        http_file_delete(server->loop, request->upload.path);
    request->upload.path = NULL;
    http_request_finish(request);
    free(exchange);
}

/* The answer to a deferred request. */
static void on_replied(struct http_request *request)
{
    struct http_exchange *exchange = (struct http_exchange *)request;
    if (exchange->connection == NULL)
        exchange_destroy(exchange);
    else
        resume(exchange);
}

/* libmicrohttpd has read the request line. */
static void *on_request_line(void *context, const char *target, struct MHD_Connection *mhd)
{
    struct http_server *server = context;
    struct http_exchange *exchange = heap_new(struct http_exchange);
    http_request_init(&exchange->request, HTTP_METHOD_OTHER, target);
    exchange->request.find_header = find_header;
    exchange->request.on_replied = on_replied;
    exchange->server = server;
    exchange->connection = http_connection_of(mhd);
    memcpy(exchange->request.address, &exchange->connection->address, HTTP_ADDRESS_BYTES);
    exchange->next = &server->exchanges;
    exchange->previous = server->exchanges.previous;
    exchange->previous->next = server->exchanges.previous = exchange;
    http_connection_enter(exchange->connection, PHASE_HEADERS);
    return exchange;
}

static void on_completed(void *server, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode code)
{
    (void)server;
    (void)mhd;
    (void)code;
    struct http_exchange *exchange = *context;
    *context = NULL;
    if (exchange == NULL)
        return;
    http_connection_enter(exchange->connection, PHASE_IDLE);
    exchange->connection = NULL;
    /* A handler that still works holds the request: it is destroyed with its reply. */
    if (exchange->request.state != HTTP_DEFERRED)
        exchange_destroy(exchange);
}

/* ---- answers ---- */

static struct MHD_Response *response_of(struct http_exchange *exchange)
{
    struct http_reply *reply = &exchange->request.reply;
    struct MHD_Response *response = NULL;
    if (reply->fd >= 0) {
        response = MHD_create_response_from_fd64(reply->fd_bytes, reply->fd);
        if (response != NULL)
            reply->fd = -1;
    } else if (reply->is_static || reply->length == 0) {
        response = MHD_create_response_from_buffer(reply->length, reply->bytes, MHD_RESPMEM_PERSISTENT);
    } else {
        response = MHD_create_response_from_buffer(reply->length, reply->bytes, MHD_RESPMEM_MUST_FREE);
        http_connection_hold(exchange->connection, reply->length);
        reply->bytes = NULL;
    }
    return response;
}

static void add_headers(const struct http_exchange *exchange, struct MHD_Response *response)
{
    const struct http_reply *reply = &exchange->request.reply;
    const char *origin = exchange->server->options.allow_origin;
    if (reply->content_type != NULL)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type);
    if (origin != NULL && origin[0] != '\0')
        MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    for (size_t i = 0; i < reply->headers.count; i++)
        MHD_add_response_header(response, reply->headers.items[i].name, reply->headers.items[i].value);
    MHD_set_response_options(response, MHD_RF_SEND_KEEP_ALIVE_HEADER, MHD_RO_END);
}

static enum MHD_Result send_reply(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    http_connection_enter(connection, PHASE_SENDING);
    struct MHD_Response *response = response_of(exchange);
    if (response == NULL)
        return MHD_NO;
    add_headers(exchange, response);
    enum MHD_Result result = MHD_queue_response(connection->mhd, (unsigned)exchange->request.reply.status, response);
    MHD_destroy_response(response);
    return result;
}

__attribute__((format(printf, 3, 4))) static void refuse(struct http_exchange *exchange, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    exchange->request.state = HTTP_HANDLING;
    http_reply_error(&exchange->request, status, "%s", text != NULL ? text : "out of memory");
    free(text);
}

/* ---- headers ---- */

/* What a browser asks before it lets another site's page send a PATCH, a DELETE or a token (Fetch standard, CORS preflight). Other
 * OPTIONS requests go to the handler. */
static bool is_preflight(const struct http_exchange *exchange)
{
    const struct http_request *request = &exchange->request;
    const char *origin = exchange->server->options.allow_origin;
    return request->method == HTTP_OPTIONS && origin != NULL && origin[0] != '\0' &&
           http_request_header(request, MHD_HTTP_HEADER_ACCESS_CONTROL_REQUEST_METHOD) != NULL;
}

static void answer_preflight(struct http_exchange *exchange)
{
    exchange->request.state = HTTP_HANDLING;
    http_request_set_header(&exchange->request, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, PATCH, DELETE");
    http_request_set_header(&exchange->request, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type, Authorization");
    http_reply_static(&exchange->request, 204, NULL, "", 0);
}

static bool is_authorized(const struct http_exchange *exchange)
{
    const struct http_server_options *options = &exchange->server->options;
    const struct http_request *request = &exchange->request;
    if (options->token == NULL || (options->handler->is_public != NULL && options->handler->is_public(options->context, request)))
        return true;
    const char *given = http_request_header(request, MHD_HTTP_HEADER_AUTHORIZATION);
    if (given == NULL || strncasecmp(given, "Bearer ", 7) != 0)
        return false;
    given += 7 + strspn(given + 7, " ");
    return digest_equals(given, options->token);
}

static void refuse_unauthorized(struct http_exchange *exchange)
{
    http_request_set_header(&exchange->request, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"Millrace\"");
    refuse(exchange, 401, "%s", http_request_header(&exchange->request, MHD_HTTP_HEADER_AUTHORIZATION) == NULL
                                    ? "Unauthorized: the request needs the header Authorization: Bearer <token>."
                                    : "Unauthorized: the bearer token is wrong.");
}

static void refuse_length(struct http_exchange *exchange)
{
    const char *key = exchange->server->options.upload_limit_key;
    refuse(exchange, 413, "The request is larger than the limit of %llu bytes.%s%s%s", (unsigned long long)exchange->body_limit,
           exchange->upload != NULL && key != NULL ? " Try to raise [" : "", exchange->upload != NULL && key != NULL ? key : "",
           exchange->upload != NULL && key != NULL ? "]." : "");
}

static void on_upload_ready(void *owner)
{
    resume(owner);
}

static void choose_body(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    const struct http_server_options *options = &server->options;
    const char *type = http_request_header(&exchange->request, MHD_HTTP_HEADER_CONTENT_TYPE);
    exchange->body_limit = options->limits.body_bytes_max;
    if (type == NULL || options->upload_directory == NULL || options->handler->body_of == NULL ||
        options->handler->body_of(options->context, &exchange->request) != HTTP_BODY_UPLOAD)
        return;
    char *path = heap_printf("%s/upload-%llu.part", options->upload_directory, (unsigned long long)++server->upload_number);
    exchange->upload = http_upload_writer_create(server->loop, type, path, on_upload_ready, exchange);
    if (exchange->upload == NULL)
        return;
    exchange->body_limit = options->limits.upload_bytes_max;
    http_connection_hold(exchange->connection, HTTP_UPLOAD_BUFFER_BYTES);
}

/* Whatever stands behind its headers must not be taken for another request. */
static void refuse_framing(struct http_exchange *exchange, const char *fault)
{
    http_request_set_header(&exchange->request, MHD_HTTP_HEADER_CONNECTION, "close");
    refuse(exchange, 400, "Bad request: %s.", fault);
}

/* The request may be refused here, before its body is read. */
static void begin(struct http_exchange *exchange, const char *method, const char *version)
{
    struct http_request *request = &exchange->request;
    request->method = http_method_from_name(method);
    exchange->has_headers = true;
    const char *fault = http_framing_fault(exchange->connection->mhd, method, version);
    const char *encoding = http_request_header(request, MHD_HTTP_HEADER_CONTENT_ENCODING);
    const char *length = http_request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (fault != NULL) {
        refuse_framing(exchange, fault);
    } else if (is_preflight(exchange)) {
        answer_preflight(exchange);
    } else if (!http_connection_is_trusted(exchange->connection)) {
        refuse(exchange, 403, "Forbidden: this endpoint asks for a client certificate that it trusts, and got none.");
    } else if (!is_authorized(exchange)) {
        refuse_unauthorized(exchange);
    } else if (encoding != NULL && strcasecmp(encoding, "identity") != 0) {
        refuse(exchange, 415, "Unsupported Content-Encoding: %s. Bodies must not be compressed.", encoding);
    } else {
        choose_body(exchange);
        if (length != NULL && strtoull(length, NULL, 10) > exchange->body_limit)
            refuse_length(exchange);
        else
            http_connection_enter(exchange->connection, PHASE_BODY);
    }
}

/* An answer before the body ends the connection; without a body the usual call for an answer is still to come. */
static enum MHD_Result end_headers(struct http_exchange *exchange)
{
    const struct http_request *request = &exchange->request;
    const char *length = http_request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    bool has_body = (length != NULL && strcmp(length, "0") != 0) || http_request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
    if (request->state != HTTP_REPLIED || !has_body) {
        exchange->was_waiting = !http_turn_take(exchange);
        if (exchange->was_waiting)
            suspend(exchange);
        return MHD_YES;
    }
    http_connection_linger(exchange->connection);
    return send_reply(exchange);
}

/* ---- body ---- */

/* An answer in the middle of a body: libmicrohttpd has no way for that. */
static enum MHD_Result cut(struct http_exchange *exchange)
{
    http_connection_send_past(exchange->connection, &exchange->request.reply);
    http_connection_linger(exchange->connection);
    return MHD_NO;
}

static void refuse_upload(struct http_exchange *exchange, const struct error *err)
{
    char *text = error_text(err);
    refuse(exchange, error_code_http_status(err->code), "File upload failed: %s", text);
    free(text);
}

static enum MHD_Result receive(struct http_exchange *exchange, const char *data, size_t *size)
{
    if (exchange->received_bytes + *size > exchange->body_limit) {
        refuse_length(exchange);
        return cut(exchange);
    }
    if (exchange->upload == NULL) {
        http_connection_hold(exchange->connection, *size);
        str_buf_append_bytes(&exchange->request.body, data, *size);
    } else if (!http_upload_writer_feed(exchange->upload, data, *size)) {
        suspend(exchange);
        return MHD_YES;
    } else if (http_upload_writer_error(exchange->upload) != NULL) {
        refuse_upload(exchange, http_upload_writer_error(exchange->upload));
        return cut(exchange);
    }
    exchange->received_bytes += *size;
    exchange->connection->body_bytes += *size;
    *size = 0;
    return MHD_YES;
}

/* The body is complete: handled at once, or when the file has been written. */
static void finish_body(struct http_exchange *exchange)
{
    struct http_request *request = &exchange->request;
    if (exchange->upload != NULL && !http_upload_writer_end(exchange->upload))
        return;
    const struct error *err = exchange->upload != NULL ? http_upload_writer_error(exchange->upload) : NULL;
    http_connection_enter(exchange->connection, PHASE_WORKING);
    if (err != NULL) {
        refuse_upload(exchange, err);
        return;
    }
    if (exchange->upload != NULL)
        http_upload_writer_detach(exchange->upload, request);
    request->state = HTTP_HANDLING;
    exchange->server->options.handler->on_request(exchange->server->options.context, request);
    check(request->state != HTTP_HANDLING);
}

/* libmicrohttpd calls this once with the headers (again when it was suspended there), then for each piece of body, then with an empty
 * piece at the end of the body, and once more after each resume. */
static enum MHD_Result on_access(void *context, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                                 const char *data, size_t *size, void **exchange_slot)
{
    (void)context;
    (void)mhd;
    (void)url;
    struct http_exchange *exchange = *exchange_slot;
    if (!exchange->has_headers) {
        begin(exchange, method, version);
        return end_headers(exchange);
    }
    if (exchange->was_waiting) {
        exchange->was_waiting = false;
        return MHD_YES;
    }
    if (*size != 0)
        return receive(exchange, data, size);
    if (exchange->request.state == HTTP_RECEIVING)
        finish_body(exchange);
    if (exchange->request.state == HTTP_REPLIED)
        return send_reply(exchange);
    suspend(exchange);
    return MHD_YES;
}

/* ---- start and stop ---- */

static void http_server_free(struct http_server *server)
{
    free((char *)(uintptr_t)server->options.upload_directory);
    free((char *)(uintptr_t)server->options.allow_origin);
    free((char *)(uintptr_t)server->options.token);
    free(server);
}

struct error *http_server_create(uv_loop_t *loop, const struct http_server_options *options, struct http_server **out)
{
    struct http_server *server = heap_new(struct http_server);
    server->options = *options;
    server->options.upload_directory = options->upload_directory != NULL ? heap_strdup(options->upload_directory) : NULL;
    server->options.allow_origin = options->allow_origin != NULL ? heap_strdup(options->allow_origin) : NULL;
    server->options.token = options->token != NULL ? heap_strdup(options->token) : NULL;
    server->loop = loop;
    server->turn = 1;
    server->exchanges.next = server->exchanges.previous = &server->exchanges;
    server->connections.next = server->connections.previous = &server->connections;
    server->lingers.next = server->lingers.previous = &server->lingers;
    struct error *err = http_listen(server, on_access, on_request_line, on_completed);
    if (err == NULL)
        err = http_watch_start(server);
    if (err != NULL) {
        if (server->daemon != NULL)
            MHD_stop_daemon(server->daemon);
        http_server_free(server);
        return err;
    }
    uv_poll_init(loop, &server->poll, MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
    uv_timer_init(loop, &server->timer);
    uv_idle_init(loop, &server->kick);
    server->poll.data = server->timer.data = server->kick.data = server;
    server->open_handles += 3;
    uv_poll_start(&server->poll, UV_READABLE, on_poll);
    *out = server;
    return NULL;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_on_handle_closed(uv_handle_t *handle)
{
    struct http_server *server = handle->data;
    if (--server->open_handles == 0)
        http_server_free(server);
}

void http_server_destroy(struct http_server *server)
{
    if (server == NULL)
        return;
    server->is_closing = true;
    uv_poll_stop(&server->poll);
    http_turns_forget(server);
    /* Suspended connections must be resumed before the daemon stops; shut down, they end without another call. */
    for (struct http_exchange *exchange = server->exchanges.next; exchange != &server->exchanges; exchange = exchange->next) {
        if (exchange->suspended_ms != 0 && exchange->connection != NULL) {
            http_connection_cut(exchange->connection);
            resume(exchange);
        }
    }
    MHD_stop_daemon(server->daemon);
    while (server->exchanges.next != &server->exchanges)
        exchange_destroy(server->exchanges.next);
    uv_close((uv_handle_t *)&server->poll, http_server_on_handle_closed);
    uv_close((uv_handle_t *)&server->timer, http_server_on_handle_closed);
    uv_close((uv_handle_t *)&server->kick, http_server_on_handle_closed);
    http_watch_stop(server);
}
