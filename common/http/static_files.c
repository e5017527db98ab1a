/* Static files (static_files.h): names to answers. Nothing here writes, and nothing outside the root can be reached.
 * Thread: any, one at a time. */
#include "common/http/static_files.h"

#include "common/base/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define INDEX_NAME "index.html"
#define PATH_BYTES_MAX 1024
/* Pages are asked for each time and answered with 304; what they load has a hash in its name or changes with the page. */
#define CACHE_PAGE "no-cache"
#define CACHE_PART "private, max-age=300"

struct static_files {
    int root_fd; /* -1: a table */
    const struct static_file *table;
    size_t count;
    uint64_t *hashes; /* of the table's files */
    int64_t modified_s;
};

/* ---- life ---- */

struct error *static_files_create_directory(const char *directory, struct static_files **out)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOTDIR)
        return error_new(INVALID_ARGUMENT, "%s is not a directory", directory);
    if (fd < 0 && errno == ENOENT)
        return error_new(NOT_FOUND, "there is no directory %s", directory);
    if (fd < 0)
        return error_errno(errno, "could not open the directory %s", directory);
    struct static_files *files = heap_new(struct static_files);
    files->root_fd = fd;
    *out = files;
    return NULL;
}

struct static_files *static_files_create_table(const struct static_file *table, size_t count, int64_t modified_s)
{
    struct static_files *files = heap_new(struct static_files);
    files->root_fd = -1;
    files->table = table;
    files->count = count;
    files->modified_s = modified_s;
    files->hashes = heap_alloc_array(count + 1, sizeof *files->hashes);
    for (size_t i = 0; i < count; i++)
        files->hashes[i] = XXH3_64bits(table[i].bytes, table[i].length);
    return files;
}

void static_files_destroy(struct static_files *files)
{
    if (files == NULL)
        return;
    if (files->root_fd >= 0)
        close(files->root_fd);
    free(files->hashes);
    free(files);
}

/* ---- content types ---- */

const char *static_files_content_type(const char *path)
{
    static const struct {
        const char *ending;
        const char *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".json", "application/json; charset=utf-8"},
        {".map", "application/json; charset=utf-8"},
        {".txt", "text/plain; charset=utf-8"},
        {".xml", "application/xml"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".jpg", "image/jpeg"},
        {".gif", "image/gif"},
        {".ico", "image/x-icon"},
        {".woff", "font/woff"},
        {".woff2", "font/woff2"},
        {".ttf", "font/ttf"},
        {".eot", "application/vnd.ms-fontobject"},
        {".wasm", "application/wasm"},
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(dot, types[i].ending) == 0)
            return types[i].type;
    }
    return "application/octet-stream";
}

/* ---- validators ---- */

static void format_date(int64_t seconds, char out[32])
{
    time_t time = (time_t)seconds;
    struct tm parts;
    gmtime_r(&time, &parts);
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    snprintf(out, 32, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[parts.tm_wday % 7], (unsigned)parts.tm_mday % 100u,
             months[parts.tm_mon % 12], (unsigned)(parts.tm_year + 1900) % 10000u, (unsigned)parts.tm_hour % 100u,
             (unsigned)parts.tm_min % 100u, (unsigned)parts.tm_sec % 100u);
}

/* Weak comparison (RFC 9110 8.8.3.2) of a tag with a header's list of tags. */
static bool etag_is_in(const char *etag, const char *list)
{
    size_t length = strlen(etag);
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, ", \t");
        if (*at == '*')
            return true;
        if (strncmp(at, "W/", 2) == 0)
            at += 2;
        if (strncmp(at, etag, length) == 0)
            return true;
        at += strcspn(at, ",");
    }
    return false;
}

/* Only the form that is sent today, IMF-fixdate; the obsolete ones count as absent. False: no date. */
static bool parse_date(const char *text, int64_t *out)
{
    struct tm parts = {0};
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    if (end == NULL || *end != '\0')
        return false;
    *out = (int64_t)timegm(&parts);
    return true;
}

static void conclude(struct static_files_answer *answer, int64_t modified_s, const char *if_none_match, const char *if_modified_since)
{
    int64_t since_s;
    answer->status = 200;
    if (modified_s > 0)
        format_date(modified_s, answer->last_modified);
    if (if_none_match != NULL) {
        if (etag_is_in(answer->etag, if_none_match))
            answer->status = 304;
    } else if (if_modified_since != NULL && modified_s > 0 && parse_date(if_modified_since, &since_s) && modified_s <= since_s) {
        answer->status = 304;
    }
}

/* ---- names ---- */

/* The path below the root, without slashes at its start, with the index file's name behind a last slash.
 * False: it is longer than any file's, or a segment is empty, hidden, "." or "..". */
static bool clean_path(const char *path, char out[PATH_BYTES_MAX])
{
    if (*path != '/')
        return false;
    size_t length = strlen(path + 1);
    bool is_folder = path[length] == '/';
    if (length + sizeof INDEX_NAME >= PATH_BYTES_MAX)
        return false;
    memcpy(out, path + 1, length + 1);
    if (is_folder)
        memcpy(out + length, INDEX_NAME, sizeof INDEX_NAME);
    for (const char *segment = out; segment != NULL;) {
        if (*segment == '\0' || *segment == '/' || *segment == '.')
            return false;
        const char *slash = strchr(segment, '/');
        segment = slash != NULL ? slash + 1 : NULL;
    }
    return true;
}

static void describe(struct static_files_answer *answer, const char *path, const char *content_type)
{
    answer->content_type = content_type != NULL ? content_type : static_files_content_type(path);
    answer->cache_control = strncmp(answer->content_type, "text/html", 9) == 0 ? CACHE_PAGE : CACHE_PART;
}

/* ---- a table ---- */

static bool is_table_folder(const struct static_files *files, const char *path)
{
    size_t length = strlen(path);
    for (size_t i = 0; i < files->count; i++) {
        if (strncmp(files->table[i].path, path, length) == 0 && files->table[i].path[length] == '/')
            return true;
    }
    return false;
}

static struct static_files_answer find_in_table(const struct static_files *files, const char *path, const char *if_none_match,
                                                const char *if_modified_since)
{
    struct static_files_answer answer = {.status = 404, .fd = -1};
    for (size_t i = 0; i < files->count; i++) {
        const struct static_file *file = &files->table[i];
        if (strcmp(file->path, path) != 0)
            continue;
        describe(&answer, path, file->content_type);
        snprintf(answer.etag, sizeof answer.etag, "\"%016" PRIx64 "\"", files->hashes[i]);
        answer.length = file->length;
        answer.bytes = file->bytes;
        conclude(&answer, files->modified_s, if_none_match, if_modified_since);
        return answer;
    }
    if (is_table_folder(files, path))
        answer.status = 301;
    return answer;
}

/* ---- a directory ---- */

/* Opens what path names below root, following no link at any depth. -1: there is nothing that may be opened.
 * O_NONBLOCK: opening a pipe must not wait for its writer. */
static int open_below(int root_fd, char *path)
{
    int directory = root_fd;
    for (char *segment = path;;) {
        char *slash = strchr(segment, '/');
        if (slash != NULL)
            *slash = '\0';
        int fd = openat(directory, segment, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | (slash != NULL ? O_DIRECTORY : 0));
        if (directory != root_fd)
            close(directory);
        if (slash != NULL)
            *slash = '/';
        if (fd < 0 || slash == NULL)
            return fd;
        directory = fd;
        segment = slash + 1;
    }
}

static struct static_files_answer find_in_directory(const struct static_files *files, char *path, const char *if_none_match,
                                                    const char *if_modified_since)
{
    struct static_files_answer answer = {.status = 404, .fd = -1};
    struct stat status;
    int fd = open_below(files->root_fd, path);
    if (fd < 0)
        return answer;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        if (S_ISDIR(status.st_mode))
            answer.status = 301;
        close(fd);
        return answer;
    }
    describe(&answer, path, NULL);
    snprintf(answer.etag, sizeof answer.etag, "\"%" PRIx64 "-%" PRIx64 "\"",
             (uint64_t)status.st_mtim.tv_sec * 1000000000u + (uint64_t)status.st_mtim.tv_nsec, (uint64_t)status.st_size);
    answer.length = (uint64_t)status.st_size;
    conclude(&answer, status.st_mtim.tv_sec, if_none_match, if_modified_since);
    if (answer.status == 200)
        answer.fd = fd;
    else
        close(fd);
    return answer;
}

struct static_files_answer static_files_find(const struct static_files *files, const char *path, const char *if_none_match,
                                             const char *if_modified_since)
{
    char clean[PATH_BYTES_MAX];
    if (!clean_path(path, clean))
        return (struct static_files_answer){.status = 404, .fd = -1};
    return files->root_fd >= 0 ? find_in_directory(files, clean, if_none_match, if_modified_since)
                               : find_in_table(files, clean, if_none_match, if_modified_since);
}
