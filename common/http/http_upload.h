/* The file of a multipart body on its way to disk: parsed on the loop, written and hashed on pool threads, at most two
 * buffers of 256 KiB in memory. A sender that is faster than the disk is told to wait.
 * Thread: the loop's. Private to common/http. */
#ifndef MILLRACE_HTTP_HTTP_UPLOAD_H
#define MILLRACE_HTTP_HTTP_UPLOAD_H

#include "common/http/http_request.h"

#include <uv.h>

/* What one upload may hold in memory. */
#define HTTP_UPLOAD_BUFFER_BYTES (512u << 10)

struct http_upload_writer;

/* path: where the file goes, taken; it is made with the first byte. on_ready(owner) is called when a call that answered
 * "not yet" is worth repeating. NULL when the content type has no boundary. */
struct http_upload_writer *http_upload_writer_create(uv_loop_t *loop, const char *content_type, char *path, void (*on_ready)(void *owner),
                                                     void *owner);
/* Stops at once; a running write ends by itself, and a file that was not handed over is deleted. Accepts NULL. */
void http_upload_writer_destroy(struct http_upload_writer *writer);

/* True: the bytes were taken. False: none was; wait for on_ready. Bytes after an error are taken and dropped. */
bool http_upload_writer_feed(struct http_upload_writer *writer, const void *bytes, size_t length);
/* True: the file is complete, or there is an error. False: wait for on_ready. */
bool http_upload_writer_end(struct http_upload_writer *writer);
/* What went wrong so far, borrowed; NULL: nothing. INVALID_FORMAT for a body that breaks the format, IO when the disk does. */
const struct error *http_upload_writer_error(const struct http_upload_writer *writer);
/* Hands the file over to the request (whose upload is empty). After http_upload_writer_end was true without error. */
void http_upload_writer_detach(struct http_upload_writer *writer, struct http_request *request);

/* Deletes a file on a pool thread: big ones take long. Takes path. */
void http_file_delete(uv_loop_t *loop, char *path);

#endif
