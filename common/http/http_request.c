/* Requests taken apart, answers put together (http_request.h); no sockets here. Thread: the loop of the server. */
#include "common/http/http_request.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/vec.h"

#include <ctype.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- the target ---- */

enum http_method http_method_from_name(const char *name)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0)
            return (enum http_method)i;
    }
    return HTTP_METHOD_OTHER;
}

void http_decode(char *text, bool is_query)
{
    char *end = text;
    for (const char *at = text; *at != '\0'; at++) {
        char hex[3] = {0};
        if (at[0] == '%' && isxdigit((unsigned char)at[1]) && isxdigit((unsigned char)at[2]))
            memcpy(hex, at + 1, 2);
        /* %00 stays: a path or a parameter must not end where a stranger says so. */
        char byte = (char)strtoul(hex, NULL, 16);
        if (byte != '\0')
            at += 2;
        else
            byte = is_query && *at == '+' ? ' ' : *at;
        *end++ = byte;
    }
    *end = '\0';
}

/* Length of the well-formed UTF-8 character at text (RFC 3629, table 3-7 of Unicode); 0: there is none. */
static size_t utf8_length(const unsigned char *text)
{
    unsigned char first = text[0], second_min = 0x80, second_max = 0xbf;
    size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (first == 0xe0)
        second_min = 0xa0;
    if (first == 0xed)
        second_max = 0x9f;
    if (first == 0xf0)
        second_min = 0x90;
    if (first == 0xf4)
        second_max = 0x8f;
    for (size_t i = 1; i < length; i++) {
        if (text[i] < (i == 1 ? second_min : 0x80) || text[i] > (i == 1 ? second_max : 0xbf))
            return 0;
    }
    return length;
}

/* What stands for a byte that belongs to no character, as in Java. Takes text, gives it or another one. */
static char *replace_malformed_take(char *text)
{
    struct str_buf clean = {0};
    bool is_clean = true;
    for (const char *at = text; *at != '\0';) {
        size_t length = utf8_length((const unsigned char *)at);
        is_clean = is_clean && length > 0;
        if (length > 0)
            str_buf_append_bytes(&clean, at, length);
        else
            str_buf_append(&clean, "\xef\xbf\xbd");
        at += length > 0 ? length : 1;
    }
    if (is_clean) {
        str_buf_finish(&clean);
        return text;
    }
    free(text);
    return str_buf_detach(&clean);
}

static void params_add(struct http_params *params, char *name, char *value)
{
    struct http_param param = {name, value};
    vec_push(params, param);
}

static void parse_query(struct http_params *query, const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "&");
        size_t name_length = strcspn(text, "&=");
        if (length > 0) {
            char *name = heap_strndup(text, name_length);
            char *value = name_length < length ? heap_strndup(text + name_length + 1, length - name_length - 1) : heap_strdup("");
            http_decode(name, true);
            http_decode(value, true);
            params_add(query, replace_malformed_take(name), replace_malformed_take(value));
        }
        text += length + (text[length] == '&');
    }
}

/* RFC 9112, 3.2.2: proxies' clients send the whole URL. */
static const char *skip_authority(const char *target)
{
    size_t scheme = strncasecmp(target, "http://", 7) == 0 ? 7 : strncasecmp(target, "https://", 8) == 0 ? 8 : 0;
    return scheme > 0 ? target + scheme + strcspn(target + scheme, "/?") : target;
}

void http_request_init(struct http_request *request, enum http_method method, const char *target)
{
    memset(request, 0, sizeof *request);
    request->method = method;
    request->reply.fd = -1;
    target = target != NULL ? skip_authority(target) : "";
    size_t length = strcspn(target, "?#");
    request->path = length > 0 ? heap_strndup(target, length) : heap_strdup("/");
    http_decode(request->path, false);
    request->path = replace_malformed_take(request->path);
    if (target[length] == '?') {
        char *query = heap_strndup(target + length + 1, strcspn(target + length + 1, "#"));
        parse_query(&request->query, query);
        free(query);
    }
}

static void params_finish(struct http_params *params)
{
    for (size_t i = 0; i < params->count; i++) {
        free(params->items[i].name);
        free(params->items[i].value);
    }
    vec_finish(params);
}

void http_request_finish(struct http_request *request)
{
    struct http_reply *reply = &request->reply;
    if (!reply->is_static)
        free(reply->bytes);
    if (reply->fd >= 0)
        close(reply->fd);
    params_finish(&reply->headers);
    params_finish(&request->query);
    if (request->upload.path != NULL)
        unlink(request->upload.path);
    free(request->upload.path);
    free(request->upload.name);
    free(request->path);
    str_buf_finish(&request->body);
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    return request->find_header != NULL ? request->find_header(request, name) : NULL;
}

const char *http_request_query(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->query.count; i++) {
        if (strcmp(request->query.items[i].name, name) == 0)
            return request->query.items[i].value;
    }
    return NULL;
}

/* ---- the answer ---- */

void http_request_defer(struct http_request *request)
{
    check(request->state == HTTP_HANDLING);
    request->state = HTTP_DEFERRED;
}

void http_request_set_header(struct http_request *request, const char *name, const char *value)
{
    params_add(&request->reply.headers, heap_strdup(name), heap_strdup(value));
}

static void reply(struct http_request *request, int status, const char *content_type)
{
    check(request->state == HTTP_HANDLING || request->state == HTTP_DEFERRED);
    request->reply.status = status;
    request->reply.content_type = content_type;
    bool was_deferred = request->state == HTTP_DEFERRED;
    request->state = HTTP_REPLIED;
    if (was_deferred && request->on_replied != NULL)
        request->on_replied(request);
}

void http_reply_take(struct http_request *request, int status, const char *content_type, char *bytes, size_t length)
{
    request->reply.bytes = bytes;
    request->reply.length = length;
    reply(request, status, content_type);
}

void http_reply_copy(struct http_request *request, int status, const char *content_type, const void *bytes, size_t length)
{
    http_reply_take(request, status, content_type, length > 0 ? heap_memdup(bytes, length) : NULL, length);
}

void http_reply_static(struct http_request *request, int status, const char *content_type, const void *bytes, size_t length)
{
    request->reply.is_static = true;
    /* Nobody writes to it; the reply only owns non-static bytes. */
    http_reply_take(request, status, content_type, (char *)(uintptr_t)bytes, length);
}

void http_reply_fd(struct http_request *request, const char *content_type, int fd, uint64_t size_bytes)
{
    request->reply.fd = fd;
    request->reply.fd_bytes = size_bytes;
    reply(request, 200, content_type);
}

/* Text that came from outside may be no UTF-8, which JSON cannot hold. */
static json_t *json_text(const char *text)
{
    json_t *json = json_string(text);
    if (json != NULL)
        return json;
    char *copy = heap_strdup(text);
    for (char *p = copy; *p != '\0'; p++) {
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    }
    json = json_string(copy);
    free(copy);
    return json;
}

void http_reply_errors(struct http_request *request, int status, const char *first, const char *second)
{
    json_t *errors = json_array();
    json_array_append_new(errors, json_text(first));
    if (second != NULL)
        json_array_append_new(errors, json_text(second));
    json_t *body = json_object();
    json_object_set_new(body, "errors", errors);
    char *bytes = json_dumps(body, JSON_COMPACT);
    check(bytes != NULL);
    json_decref(body);
    http_reply_take(request, status, "application/json; charset=UTF-8", bytes, strlen(bytes));
}

void http_reply_error_args(struct http_request *request, int status, const char *format, va_list args)
{
    char *text;
    if (vasprintf(&text, format, args) < 0)
        text = heap_strdup("out of memory");
    http_reply_errors(request, status, text, NULL);
    free(text);
}

void http_reply_error(struct http_request *request, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    http_reply_error_args(request, status, format, args);
    va_end(args);
}
