/* Static files for web pages: a folder on disk or a table that is built into the program, and the answer that HTTP gives
 * for a path below it: status, content type, validators (ETag, Last-Modified), bytes. Knows no HTTP server: the caller
 * copies the answer into its response. A folder is read anew for each request, so files may be replaced while it is served.
 *
 * What a path can reach: regular files whose every segment below the root is a plain name. No "..", no hidden name, no
 * symbolic link at any depth (each segment is opened on its own with O_NOFOLLOW), no device, no pipe.
 * Thread: any, one at a time. */
#ifndef MILLRACE_HTTP_STATIC_FILES_H
#define MILLRACE_HTTP_STATIC_FILES_H

#include "common/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One file of a table. A table is borrowed for as long as the files live. */
struct static_file {
    const char *path;         /* below the root, without a leading slash: "index.html", "js/page.js" */
    const char *content_type; /* NULL: by the name's ending */
    const void *bytes;
    size_t length;
};

struct static_files;

/* directory: must be one, may itself be a link. errors: NOT_FOUND, INVALID_ARGUMENT (no directory) */
MUST_CHECK struct error *static_files_create_directory(const char *directory, struct static_files **out);
/* modified_s: what Last-Modified says, seconds since the epoch; 0: not said. */
struct static_files *static_files_create_table(const struct static_file *table, size_t count, int64_t modified_s);
/* Accepts NULL. */
void static_files_destroy(struct static_files *files);

struct static_files_answer {
    int status; /* 200, 304, 404, or 301: the path names a folder and lacks its last slash */
    const char *content_type;
    const char *cache_control;
    char etag[40];          /* with quotes */
    char last_modified[32]; /* as HTTP writes dates; "": unknown */
    uint64_t length;        /* of the body: also of a 304, which sends none */
    const void *bytes;      /* table: borrowed; else NULL */
    int fd;                 /* directory: open at its start, the caller closes it; else -1 */
};

/* The answer for GET; HEAD has the same without a body.
 * path: decoded, without query, with a leading slash; one that ends in a slash means its index.html
 * if_none_match, if_modified_since: header values or NULL; the first wins, as RFC 9110 section 13.2.2 says
 * A 404 has no members but its status. After a 200 from a directory the caller owns fd. */
struct static_files_answer static_files_find(const struct static_files *files, const char *path, const char *if_none_match,
                                             const char *if_modified_since);

/* "text/html; charset=utf-8" for "a/index.html"; "application/octet-stream" for what it does not know. */
const char *static_files_content_type(const char *path);

#endif
