/* Making directories. Thread: any. */
#include "common/fs/directory.h"

#include "common/base/heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct error *make_one(const char *path)
{
    struct stat status;
    if (mkdir(path, 0777) == 0)
        return NULL;
    int reason = errno;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        return NULL;
    return error_errno(reason, "could not make directory %s", path);
}

struct error *directory_create(const char *path)
{
    char *copy = heap_strdup(path);
    struct error *err = NULL;
    for (char *slash = strchr(copy + (copy[0] == '/'), '/'); slash != NULL && err == NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        err = make_one(copy);
        *slash = '/';
    }
    if (err == NULL)
        err = make_one(copy);
    free(copy);
    return err;
}
