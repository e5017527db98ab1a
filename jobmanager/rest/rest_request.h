/* A request of the REST API as its handlers see it: an HTTP request (http_request.h) with the parameters of its path. The rules of
 * answering are the same: exactly once, at once or after rest_request_defer.
 * Thread: the jobmanager's loop. Owner: the REST server; after the reply a handler must not touch it. */
#ifndef MILLRACE_REST_REST_REQUEST_H
#define MILLRACE_REST_REST_REQUEST_H

#include "common/base/error.h"
#include "common/base/id.h"
#include "common/http/http_request.h"

#include <jansson.h>
#include <stdint.h>

#define REST_PARAM_MAX 4

/* First lines of error bodies carry the class names that clients of Flink look for. */
#define EX_REST "org.apache.flink.runtime.rest.handler.RestHandlerException"
#define EX_REQUEST "org.apache.flink.runtime.rest.handler.HandlerRequestException"
#define EX_NOT_FOUND "org.apache.flink.runtime.rest.NotFoundException"
#define EX_NO_JOB "org.apache.flink.runtime.messages.FlinkJobNotFoundException"
#define EX_NO_TM "org.apache.flink.runtime.resourcemanager.exceptions.UnknownTaskExecutorException"
#define EX_FLINK "org.apache.flink.util.FlinkException"
#define EX_FILE "java.io.FileNotFoundException"
#define EX_COMPLETION "java.util.concurrent.CompletionException"

struct rest_param {
    char *name;
    char *value;
};

struct rest_request {
    enum http_method method;
    const char *url;           /* as asked, decoded, without the query */
    struct http_request *http; /* query, body, upload */
    struct rest_param path_params[REST_PARAM_MAX];
    size_t path_param_count;
};

/* As the user of an HTTP request, freed with it. HEAD becomes GET: the server sends no body then. */
struct rest_request *rest_request_create(struct http_request *http);
void rest_request_destroy(struct rest_request *request);

/* Borrowed; NULL when absent. */
const char *rest_path_param(const struct rest_request *request, const char *name);
const char *rest_query_param(const struct rest_request *request, const char *name);
/* An id in the path. False: the 400 answer is on its way, and the handler returns. */
bool rest_path_id(struct rest_request *request, const char *name, struct id *out);
/* A number in the path, 0 or more. False as above. */
bool rest_path_number(struct rest_request *request, const char *name, int64_t *out);

/* The body as a JSON object; an empty body gives an empty one. The content type is not looked at (curl -d sends a
 * form's). On false a 400 that names the format (Flink's class of the body) is on its way. The caller unrefs. */
bool rest_body_json(struct rest_request *request, const char *format_name, json_t **out);
/* Typed members of a body; absent and null leave *out alone. False as above. */
bool rest_member_text(struct rest_request *request, const char *format_name, json_t *body, const char *name, const char **out);
bool rest_member_bool(struct rest_request *request, const char *format_name, json_t *body, const char *name, bool *out);
bool rest_member_int(struct rest_request *request, const char *format_name, json_t *body, const char *name, int64_t *out);

/* The 400 answer for a query parameter that has a bad value. */
void rest_reply_bad_query(struct rest_request *request, const char *name, const char *value);

void rest_request_defer(struct rest_request *request);

/* Takes json. */
void rest_reply_json(struct rest_request *request, int status, json_t *json);
/* text/plain. Copies. */
void rest_reply_text(struct rest_request *request, int status, const void *text, size_t length);
/* text/plain, streamed. Takes fd. */
void rest_reply_file(struct rest_request *request, int fd, uint64_t size_bytes);
/* {"errors":[text]} */
void rest_reply_error(struct rest_request *request, int status, const char *format, ...) PRINTF_LIKE(3, 4);
/* 500 {"errors":["Internal server error.","<Exception on server side:\n…\nEnd of exception on server side>"]} */
void rest_reply_internal(struct rest_request *request, const char *format, ...) PRINTF_LIKE(2, 3);
/* Takes err; status from its code, one line a storey. */
void rest_reply_err(struct rest_request *request, struct error *err);
/* "message\nCaused by: message\n…", malloced. */
char *rest_error_lines(const struct error *err);

#endif
