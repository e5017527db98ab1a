/* Directories, links and trees (file_ops.h). Thread: any. */
#include "jobmanager/file_ops.h"

#include "common/base/heap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

struct error *file_make_directories(const char *path)
{
    char *copy = heap_strdup(path);
    struct error *err = NULL;
    size_t length = strlen(copy);
    for (size_t i = 1; i <= length && err == NULL; i++) {
        if (copy[i] != '/' && copy[i] != '\0')
            continue;
        char saved = copy[i];
        copy[i] = '\0';
        if (mkdir(copy, 0755) != 0 && errno != EEXIST)
            err = error_errno(errno, "could not create the directory %s", copy);
        copy[i] = saved;
    }
    struct stat status;
    if (err == NULL && (stat(path, &status) != 0 || !S_ISDIR(status.st_mode)))
        err = error_new(IO, "%s is no directory", path);
    free(copy);
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

struct error *file_link_or_copy(const char *from, const char *to)
{
    if (link(from, to) == 0 || errno == EEXIST)
        return NULL;
    if (errno == ENOENT)
        return error_errno(errno, "could not link %s to %s", from, to);
    return copy_file(from, to);
}

static struct error *remove_at(int parent, const char *name, const char *shown, int depth)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return NULL;
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) {
        if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
            return NULL;
        return error_errno(errno, "could not delete %s in %s", name, shown);
    }
    if (fd < 0)
        return error_errno(errno, "could not open %s in %s", name, shown);
    DIR *directory = fdopendir(fd);
    if (directory == NULL || depth > 32) {
        if (directory != NULL)
            closedir(directory);
        else
            close(fd);
        return error_new(IO, "could not read the directory %s in %s", name, shown);
    }
    struct error *err = NULL;
    for (struct dirent *entry = readdir(directory); entry != NULL && err == NULL; entry = readdir(directory)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            err = remove_at(dirfd(directory), entry->d_name, shown, depth + 1);
    }
    closedir(directory);
    if (err == NULL && unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        err = error_errno(errno, "could not delete the directory %s in %s", name, shown);
    return err;
}

struct error *file_remove_tree(const char *path)
{
    return remove_at(AT_FDCWD, path, path, 0);
}
