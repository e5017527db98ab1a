/* One HTTP request and its answer, as handlers see it. A handler answers exactly once, at once or later:
 *   at once: calls one of http_reply_* before it returns
 *   later:   calls http_request_defer, keeps the pointer, and calls http_reply_* on the loop when the result is there.
 *            When the client has gone meanwhile, the request stays valid and the answer is dropped.
 * Thread: the loop of the server. Owner: the server; after the reply a handler must not touch the request.
 * Source of the protocol: RFC 9110, RFC 9112. */
#ifndef MILLRACE_HTTP_HTTP_REQUEST_H
#define MILLRACE_HTTP_HTTP_REQUEST_H

#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/str_buf.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#define HTTP_ADDRESS_BYTES 16 /* IPv6; IPv4 as mapped */

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OPTIONS, HTTP_METHOD_OTHER };

struct http_param {
    char *name;
    char *value;
};

/* In the order of the request; a name may come more than once. */
struct http_params {
    struct http_param *items;
    size_t count;
    size_t capacity;
};

/* A file that came in a multipart body; it lies at path until somebody renames it, and is removed with the request. */
struct http_upload {
    char *name; /* base name as the client sent it */
    char *path;
    char sha256[DIGEST_HEX_LENGTH + 1];
    uint64_t size_bytes;
};

enum http_request_state { HTTP_RECEIVING, HTTP_HANDLING, HTTP_DEFERRED, HTTP_REPLIED };

/* The answer before it is sent: bytes, or a file. */
struct http_reply {
    int status;
    const char *content_type; /* static text; NULL: none */
    struct http_params headers;
    char *bytes;              /* malloced, or static */
    size_t length;
    bool is_static;
    int fd;                   /* -1: bytes */
    uint64_t fd_bytes;
};

struct http_request {
    /* public, read-only */
    enum http_method method;
    char *path;                /* percent-decoded, without the query; %00 is left as it is, so it never ends early; always UTF-8 */
    struct http_params query;  /* decoded, + is a space; always UTF-8 */
    struct str_buf body;       /* not of uploads */
    struct http_upload upload; /* upload.path NULL: none; of several files only the first is kept */
    unsigned upload_count;
    uint8_t address[HTTP_ADDRESS_BYTES]; /* of the client */
    /* of the handler: freed in its on_destroy */
    void *user;
    /* private to common/http */
    enum http_request_state state;
    struct http_reply reply;
    const char *(*find_header)(const struct http_request *request, const char *name);
    void (*on_replied)(struct http_request *request); /* NULL: nobody sends it */
};

/* Borrowed until the reply; NULL when absent, or when the client has gone. name: without regard to case. */
const char *http_request_header(const struct http_request *request, const char *name);
/* Borrowed; the first of that name; NULL when absent. */
const char *http_request_query(const struct http_request *request, const char *name);
void http_request_defer(struct http_request *request);

/* A header of the answer; before the http_reply_* call. Copies. */
void http_request_set_header(struct http_request *request, const char *name, const char *value);
/* content_type is a static text. Takes bytes (malloced). */
void http_reply_take(struct http_request *request, int status, const char *content_type, char *bytes, size_t length);
/* bytes live as long as the program: embedded files. */
void http_reply_static(struct http_request *request, int status, const char *content_type, const void *bytes, size_t length);
/* Copies. */
void http_reply_copy(struct http_request *request, int status, const char *content_type, const void *bytes, size_t length);
/* Streamed from the beginning of the file. Takes fd. */
void http_reply_fd(struct http_request *request, const char *content_type, int fd, uint64_t size_bytes);
/* {"errors":[first,second]} as application/json, the form that Flink's clients read; second may be NULL. Bytes that are no UTF-8
 * become '?'. */
void http_reply_errors(struct http_request *request, int status, const char *first, const char *second);
void http_reply_error(struct http_request *request, int status, const char *format, ...) PRINTF_LIKE(3, 4);
void http_reply_error_args(struct http_request *request, int status, const char *format, va_list args) PRINTF_LIKE(3, 0);

/* ---- for servers and tests ---- */

/* target: as on the request line, "/jobs?a=b" or "http://host/jobs"; NULL and "" are "/". */
void http_request_init(struct http_request *request, enum http_method method, const char *target);
/* Deletes an upload that nobody renamed. */
void http_request_finish(struct http_request *request);
enum http_method http_method_from_name(const char *name);
/* Decodes %xx in place, but not %00; with is_query + becomes a space. */
void http_decode(char *text, bool is_query);

#endif
