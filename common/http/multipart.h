/* A parser of multipart/form-data that is fed in pieces of any size (RFC 2046 5.1, RFC 7578). It keeps no more than a part's
 * header (8 KiB) and the length of a delimiter. Thread: any, one at a time. */
#ifndef MILLRACE_HTTP_MULTIPART_H
#define MILLRACE_HTTP_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

struct multipart;

struct multipart_handler {
    /* name and filename are NULL when the part has none; borrowed for the call. */
    void (*on_part)(void *context, const char *name, const char *filename);
    void (*on_data)(void *context, const void *bytes, size_t length);
};

/* NULL when the content type is none of multipart/form-data with a boundary of 1 to 70 characters. */
struct multipart *multipart_create(const char *content_type, const struct multipart_handler *handler, void *context);
/* Accepts NULL. */
void multipart_destroy(struct multipart *multipart);
/* False when the body breaks the format; what comes afterwards is ignored. */
bool multipart_feed(struct multipart *multipart, const void *bytes, size_t length);
/* Whether the closing delimiter came. */
bool multipart_is_complete(const struct multipart *multipart);

#endif
