/* Parameters, bodies and error answers of REST requests (rest_request.h). Thread: the jobmanager's loop. */
#include "jobmanager/rest/rest_request.h"

#include "common/base/check.h"
#include "common/base/heap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- life ---- */

struct rest_request *rest_request_create(struct http_request *http)
{
    struct rest_request *request = heap_new(struct rest_request);
    request->http = http;
    request->method = http->method == HTTP_HEAD ? HTTP_GET : http->method;
    request->url = http->path;
    http->user = request;
    return request;
}

void rest_request_destroy(struct rest_request *request)
{
    for (size_t i = 0; i < request->path_param_count; i++) {
        free(request->path_params[i].name);
        free(request->path_params[i].value);
    }
    free(request);
}

void rest_request_defer(struct rest_request *request)
{
    http_request_defer(request->http);
}

/* ---- parameters ---- */

const char *rest_path_param(const struct rest_request *request, const char *name)
{
    for (size_t i = 0; i < request->path_param_count; i++) {
        if (strcmp(request->path_params[i].name, name) == 0)
            return request->path_params[i].value;
    }
    return NULL;
}

const char *rest_query_param(const struct rest_request *request, const char *name)
{
    return http_request_query(request->http, name);
}

static void reply_unresolved(struct rest_request *request, const char *kind, const char *name, const char *value)
{
    rest_reply_error(request, 400,
                     EX_REST ": Bad request, could not parse parameters: Cannot resolve %s parameter (%s) from value \"%s\".\n"
                     "Caused by: " EX_REQUEST ": Cannot resolve %s parameter (%s) from value \"%s\".\n",
                     kind, name, value, kind, name, value);
}

bool rest_path_id(struct rest_request *request, const char *name, struct id *out)
{
    const char *value = rest_path_param(request, name);
    if (value != NULL && id_parse(value, out))
        return true;
    reply_unresolved(request, "path", name, value != NULL ? value : "");
    return false;
}

bool rest_path_number(struct rest_request *request, const char *name, int64_t *out)
{
    const char *value = rest_path_param(request, name);
    size_t length = value != NULL ? strlen(value) : 0;
    if (length > 0 && length <= 18 && strspn(value, "0123456789") == length) {
        *out = strtoll(value, NULL, 10);
        return true;
    }
    reply_unresolved(request, "path", name, value != NULL ? value : "");
    return false;
}

void rest_reply_bad_query(struct rest_request *request, const char *name, const char *value)
{
    reply_unresolved(request, "query", name, value);
}

/* ---- bodies ---- */

static void reply_bad_format(struct rest_request *request, const char *format_name, const char *cause)
{
    rest_reply_error(request, 400, EX_REST ": Request did not match expected format %s.\nCaused by: %s\n", format_name, cause);
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

bool rest_body_json(struct rest_request *request, const char *format_name, json_t **out)
{
    if (is_blank(str_buf_text(&request->http->body))) {
        *out = json_object();
        return true;
    }
    json_error_t error;
    json_t *json = json_loadb(request->http->body.text, request->http->body.length, 0, &error);
    if (json != NULL && json_is_object(json)) {
        *out = json;
        return true;
    }
    char cause[512];
    if (json == NULL)
        snprintf(cause, sizeof cause, "JSON is malformed: %s (line %d, column %d)", error.text, error.line, error.column);
    else
        snprintf(cause, sizeof cause, "a JSON object was expected");
    json_decref(json);
    reply_bad_format(request, format_name, cause);
    return false;
}

static void reply_bad_member(struct rest_request *request, const char *format_name, const char *name, const json_t *value,
                             const char *wanted)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    char cause[512];
    snprintf(cause, sizeof cause, "cannot read the member \"%s\": %s expected, got %.100s", name, wanted, text != NULL ? text : "?");
    free(text);
    reply_bad_format(request, format_name, cause);
}

bool rest_member_text(struct rest_request *request, const char *format_name, json_t *body, const char *name, const char **out)
{
    json_t *value = json_object_get(body, name);
    if (value == NULL || json_is_null(value))
        return true;
    if (json_is_string(value)) {
        *out = json_string_value(value);
        return true;
    }
    reply_bad_member(request, format_name, name, value, "a string");
    return false;
}

bool rest_member_bool(struct rest_request *request, const char *format_name, json_t *body, const char *name, bool *out)
{
    json_t *value = json_object_get(body, name);
    if (value == NULL || json_is_null(value))
        return true;
    const char *text = json_string_value(value);
    if (json_is_boolean(value)) {
        *out = json_is_true(value);
        return true;
    }
    if (text != NULL && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)) {
        *out = text[0] == 't';
        return true;
    }
    reply_bad_member(request, format_name, name, value, "only true or false");
    return false;
}

bool rest_member_int(struct rest_request *request, const char *format_name, json_t *body, const char *name, int64_t *out)
{
    json_t *value = json_object_get(body, name);
    if (value == NULL || json_is_null(value))
        return true;
    const char *text = json_string_value(value);
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    char *end;
    long long number = text != NULL && text[0] != '\0' ? strtoll(text, &end, 10) : 0;
    if (text != NULL && text[0] != '\0' && *end == '\0') {
        *out = number;
        return true;
    }
    reply_bad_member(request, format_name, name, value, "an integer");
    return false;
}

/* ---- answers ---- */

void rest_reply_json(struct rest_request *request, int status, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15));
    check(text != NULL);
    json_decref(json);
    http_reply_take(request->http, status, "application/json; charset=UTF-8", text, strlen(text));
}

void rest_reply_text(struct rest_request *request, int status, const void *text, size_t length)
{
    http_reply_copy(request->http, status, "text/plain", text, length);
}

void rest_reply_file(struct rest_request *request, int fd, uint64_t size_bytes)
{
    http_reply_fd(request->http, "text/plain", fd, size_bytes);
}

void rest_reply_error(struct rest_request *request, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    http_reply_error_args(request->http, status, format, args);
    va_end(args);
}

void rest_reply_internal(struct rest_request *request, const char *format, ...)
{
    struct str_buf text = {0};
    va_list args;
    va_start(args, format);
    char *message;
    if (vasprintf(&message, format, args) < 0)
        message = heap_strdup("out of memory");
    va_end(args);
    str_buf_printf(&text, "<Exception on server side:\n%s\n\nEnd of exception on server side>", message);
    http_reply_errors(request->http, 500, "Internal server error.", str_buf_text(&text));
    free(message);
    str_buf_finish(&text);
}

char *rest_error_lines(const struct error *err)
{
    struct str_buf text = {0};
    for (const struct error *storey = err; storey != NULL; storey = storey->cause) {
        str_buf_printf(&text, "%s%s", storey == err ? "" : "\nCaused by: ", storey->message);
        if (storey->hint != NULL)
            str_buf_printf(&text, " (%s)", storey->hint);
    }
    return str_buf_detach(&text);
}

void rest_reply_err(struct rest_request *request, struct error *err)
{
    char *lines = rest_error_lines(err);
    rest_reply_error(request, error_code_http_status(err->code), EX_REST ": %s\n", lines);
    free(lines);
    error_free(err);
}
