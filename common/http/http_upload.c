/* Uploads to disk (http_upload.h). Two buffers: one is filled on the loop, the other is written by a pool thread; they change
 * places when the writer is free. While a write runs, the pool thread alone touches fd, sha256 and written.
 * Thread: the loop, but for write_work and delete_work. */
#include "common/http/http_upload.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/http/multipart.h"
#include "common/loop/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES (HTTP_UPLOAD_BUFFER_BYTES / 2)

struct http_upload_writer {
    uv_loop_t *loop;
    struct multipart *multipart;
    void (*on_ready)(void *owner);
    void *owner; /* NULL: destroyed, ends with the running write */
    char *path;
    char *name;
    unsigned file_count;
    struct str_buf filling;
    struct str_buf writing;
    int fd;
    uint64_t size_bytes;
    struct digest sha256;
    char sha256_hex[DIGEST_HEX_LENGTH + 1];
    bool is_writing;
    bool is_last; /* of the running write */
    bool is_ended;
    bool has_file;     /* a write made it, or tried to */
    bool is_kept_part; /* what comes now belongs to the file */
    struct error *error;
};

/* ---- files on pool threads ---- */

static struct error *delete_work(void *argument)
{
    /* Nobody waits for it, and a file that is gone already is as good. */
    unlink(argument);
    return NULL;
}

static void on_deleted(struct error *err, void *argument)
{
    error_free(err);
    free(argument);
}

void http_file_delete(uv_loop_t *loop, char *path)
{
    worker_run(loop, delete_work, on_deleted, path);
}

static struct error *write_all(struct http_upload_writer *writer)
{
    const char *bytes = writer->writing.text;
    size_t length = writer->writing.length;
    while (length > 0) {
        ssize_t written = write(writer->fd, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return error_errno(errno, "could not write the upload to %s", writer->path);
        bytes += written;
        length -= (size_t)written;
    }
    return NULL;
}

static struct error *write_work(void *argument)
{
    struct http_upload_writer *writer = argument;
    if (writer->fd < 0) {
        writer->fd = open(writer->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (writer->fd < 0)
            return error_errno(errno, "could not create %s for the upload", writer->path);
        digest_init(&writer->sha256);
    }
    if (writer->writing.length > 0)
        digest_update(&writer->sha256, writer->writing.text, writer->writing.length);
    TRY(write_all(writer));
    if (!writer->is_last)
        return NULL;
    digest_hex(&writer->sha256, writer->sha256_hex);
    int fd = writer->fd;
    writer->fd = -1;
    return close(fd) == 0 ? NULL : error_errno(errno, "could not write the upload to %s", writer->path);
}

/* ---- life ---- */

static void writer_free(struct http_upload_writer *writer)
{
    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->path != NULL && writer->has_file)
        http_file_delete(writer->loop, writer->path);
    else
        free(writer->path);
    free(writer->name);
    multipart_destroy(writer->multipart);
    str_buf_finish(&writer->filling);
    str_buf_finish(&writer->writing);
    error_free(writer->error);
    free(writer);
}

void http_upload_writer_destroy(struct http_upload_writer *writer)
{
    if (writer == NULL)
        return;
    writer->owner = NULL;
    if (!writer->is_writing)
        writer_free(writer);
}

static void on_written(struct error *err, void *argument)
{
    struct http_upload_writer *writer = argument;
    writer->is_writing = false;
    str_buf_clear(&writer->writing);
    if (writer->owner == NULL) {
        error_free(err);
        writer_free(writer);
        return;
    }
    writer->is_ended = writer->is_last;
    /* A malformed rest may have been noticed meanwhile; the first error counts. */
    if (writer->error == NULL)
        writer->error = err;
    else
        error_free(err);
    writer->on_ready(writer->owner);
}

static void write_start(struct http_upload_writer *writer, bool is_last)
{
    struct str_buf empty = writer->writing;
    writer->writing = writer->filling;
    writer->filling = empty;
    writer->is_writing = writer->has_file = true;
    writer->is_last = is_last;
    worker_run(writer->loop, write_work, on_written, writer);
}

/* ---- the body ---- */

static const char *base_name(const char *path)
{
    const char *name = path;
    for (const char *p = path; *p != '\0'; p++) {
        if (*p == '/' || *p == '\\')
            name = p + 1;
    }
    return name;
}

/* Shown in lists and logs: no control characters, and UTF-8 or nothing beyond ASCII. */
static char *clean_name(const char *filename)
{
    char *name = heap_strdup(base_name(filename));
    json_t *as_json = json_string(name);
    for (char *p = name; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f || (as_json == NULL && (unsigned char)*p >= 0x80))
            *p = '_';
    }
    json_decref(as_json);
    return name;
}

/* Fields without a file name are ignored; of several files only the first is kept, and the handler hears of the others. */
static void on_part(void *context, const char *name, const char *filename)
{
    (void)name;
    struct http_upload_writer *writer = context;
    writer->is_kept_part = filename != NULL && writer->file_count == 0;
    if (filename != NULL)
        writer->file_count++;
    if (writer->is_kept_part)
        writer->name = clean_name(filename);
}

static void on_data(void *context, const void *bytes, size_t length)
{
    struct http_upload_writer *writer = context;
    if (!writer->is_kept_part)
        return;
    str_buf_append_bytes(&writer->filling, bytes, length);
    writer->size_bytes += length;
}

static const struct multipart_handler multipart_calls = {on_part, on_data};

struct http_upload_writer *http_upload_writer_create(uv_loop_t *loop, const char *content_type, char *path, void (*on_ready)(void *owner),
                                                     void *owner)
{
    struct http_upload_writer *writer = heap_new(struct http_upload_writer);
    writer->loop = loop;
    writer->path = path;
    writer->fd = -1;
    writer->on_ready = on_ready;
    writer->owner = owner;
    writer->multipart = multipart_create(content_type, &multipart_calls, writer);
    if (writer->multipart != NULL)
        return writer;
    writer_free(writer);
    return NULL;
}

bool http_upload_writer_feed(struct http_upload_writer *writer, const void *bytes, size_t length)
{
    if (writer->error != NULL)
        return true;
    if (writer->is_writing && writer->filling.length >= BUFFER_BYTES)
        return false;
    if (!multipart_feed(writer->multipart, bytes, length))
        writer->error = error_new(INVALID_FORMAT, "the multipart body is malformed");
    else if (!writer->is_writing && writer->filling.length >= BUFFER_BYTES)
        write_start(writer, false);
    return true;
}

bool http_upload_writer_end(struct http_upload_writer *writer)
{
    if (writer->is_writing)
        return false;
    if (writer->error == NULL && !multipart_is_complete(writer->multipart))
        writer->error = error_new(INVALID_FORMAT, "the multipart body ends before its closing delimiter");
    if (writer->error != NULL || writer->is_ended || writer->file_count == 0)
        return true;
    write_start(writer, true);
    return false;
}

const struct error *http_upload_writer_error(const struct http_upload_writer *writer)
{
    return writer->error;
}

void http_upload_writer_detach(struct http_upload_writer *writer, struct http_request *request)
{
    request->upload_count = writer->file_count;
    if (writer->file_count == 0)
        return;
    check(writer->is_ended && writer->error == NULL);
    request->upload.name = writer->name;
    request->upload.path = writer->path;
    request->upload.size_bytes = writer->size_bytes;
    memcpy(request->upload.sha256, writer->sha256_hex, sizeof request->upload.sha256);
    writer->name = writer->path = NULL;
}
