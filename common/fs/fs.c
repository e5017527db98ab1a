/* See fs.h. Thread: any. */
#include "common/fs/fs.h"

#include "common/base/heap.h"
#include "common/base/id.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

struct error *fs_make_directories(const char *path)
{
    enum { VANISHED_MAX = 1000 };
    char *partial = heap_strdup(path);
    struct error *err = NULL;
    int vanished_count = 0;
    for (char *at = partial + 1; err == NULL; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char kept = *at;
        *at = '\0';
        bool is_there = mkdir(partial, 0755) == 0 || errno == EEXIST;
        bool is_parent_gone = !is_there && errno == ENOENT && vanished_count++ < VANISHED_MAX;
        if (!is_there && !is_parent_gone)
            err = error_errno(errno, "could not make the directory %s", partial);
        *at = kept;
        if (is_parent_gone) {
            /* Somebody is removing it, empty as it is: from the start, when that is done. */
            sched_yield();
            at = partial;
        } else if (kept == '\0') {
            break;
        }
    }
    free(partial);
    struct stat info;
    if (err == NULL && (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)))
        err = error_new(IO, "%s is no directory", path);
    return err;
}

static struct error *copy_file(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return error_errno(errno, "could not open %s", from);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (out < 0) {
        struct error *err = error_errno(errno, "could not create %s", to);
        close(in);
        return err;
    }
    ssize_t count;
    do {
        count = sendfile(out, in, NULL, 1 << 20);
    } while (count > 0 || (count < 0 && errno == EINTR));
    struct error *err = NULL;
    if (count < 0 || fsync(out) != 0)
        err = error_errno(errno, "could not copy %s to %s", from, to);
    close(in);
    close(out);
    return err;
}

struct error *fs_link_or_copy(const char *from, const char *to)
{
    if (link(from, to) == 0 || errno == EEXIST)
        return NULL;
    if (errno == ENOENT)
        return error_errno(errno, "could not link %s to %s", from, to);
    return copy_file(from, to);
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path) != 0 && errno != ENOENT ? errno : 0;
}

struct error *fs_remove_tree(const char *path)
{
    enum { DESCRIPTORS = 16 };
    struct stat info;
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? NULL : error_errno(errno, "could not look at %s", path);
    int failed = nftw(path, remove_entry, DESCRIPTORS, FTW_DEPTH | FTW_PHYS);
    if (failed != 0)
        return error_errno(failed > 0 ? failed : errno, "could not remove %s", path);
    return NULL;
}

/* Reads up to length bytes from the descriptor's position. */
static struct error *read_bytes(int fd, const char *path, size_t length, uint8_t **out, size_t *out_length)
{
    uint8_t *bytes = heap_alloc(length + 1);
    size_t filled = 0;
    while (filled < length) {
        ssize_t count = read(fd, bytes + filled, length - filled);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            struct error *err = error_errno(errno, "could not read %s", path);
            free(bytes);
            return err;
        }
        if (count == 0)
            break;
        filled += (size_t)count;
    }
    bytes[filled] = '\0';
    *out = bytes;
    *out_length = filled;
    return NULL;
}

static struct error *open_regular(const char *path, int *out_fd, size_t *out_length)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? error_new(NOT_FOUND, "there is no file %s", path) : error_errno(errno, "could not open %s", path);
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return error_new(IO, "%s is not a regular file", path);
    }
    *out_fd = fd;
    *out_length = (size_t)info.st_size;
    return NULL;
}

struct error *fs_read_file(const char *path, size_t bytes_max, uint8_t **out, size_t *out_length)
{
    int fd = -1;
    size_t length = 0;
    TRY(open_regular(path, &fd, &length));
    struct error *err = length > bytes_max ? error_new(TOO_LARGE, "%s has %zu bytes, the limit is %zu", path, length, bytes_max)
                                           : read_bytes(fd, path, length, out, out_length);
    close(fd);
    return err;
}

struct error *fs_read_tail(const char *path, size_t bytes_max, uint8_t **out, size_t *out_length)
{
    int fd = -1;
    size_t length = 0;
    TRY(open_regular(path, &fd, &length));
    if (length > bytes_max) {
        (void)lseek(fd, (off_t)(length - bytes_max), SEEK_SET);
        length = bytes_max;
    }
    struct error *err = read_bytes(fd, path, length, out, out_length);
    close(fd);
    return err;
}

struct error *fs_sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(errno, "could not open the directory %s", path);
    int failed = fsync(fd) != 0 ? errno : 0;
    close(fd);
    return failed != 0 ? error_errno(failed, "could not sync the directory %s", path) : NULL;
}

static struct error *write_all(int fd, const char *path, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    while (length > 0) {
        ssize_t count = write(fd, at, length);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return error_errno(errno, "could not write %s", path);
        at += count;
        length -= (size_t)count;
    }
    return fsync(fd) == 0 ? NULL : error_errno(errno, "could not sync %s", path);
}

static struct error *sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash == NULL ? heap_strdup(".") : heap_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    struct error *err = fs_sync_directory(directory);
    free(directory);
    return err;
}

struct error *fs_write_atomic(const char *path, const void *bytes, size_t length)
{
    struct error *err = NULL;
    char *temporary = heap_printf("%s.%s.tmp", path, id_format(id_random()).hex);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        err = error_errno(errno, "could not create %s", temporary);
        free(temporary);
        return err;
    }
    err = write_all(fd, temporary, bytes, length);
    if (close(fd) != 0 && err == NULL)
        err = error_errno(errno, "could not close %s", temporary);
    if (err == NULL && rename(temporary, path) != 0)
        err = error_errno(errno, "could not rename %s to %s", temporary, path);
    if (err != NULL)
        (void)unlink(temporary);
    else
        err = sync_parent(path);
    free(temporary);
    return err;
}
