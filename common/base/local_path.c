/* Local paths and file: URIs (local_path.h). */
#include "common/base/local_path.h"

#include "common/base/heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct error *local_path_parse(const char *text, const char **out)
{
    if (strncmp(text, "file:", 5) != 0) {
        if (strstr(text, "://") != NULL)
            return error_new(INVALID_ARGUMENT, "Could not find a file system implementation for the path %s: only file: is supported", text);
        *out = text;
        return NULL;
    }
    const char *path = text + 5;
    if (strncmp(path, "//", 2) == 0) {
        path += 2;
        size_t authority = strcspn(path, "/");
        if (authority > 0)
            return error_with_hint(error_new(INVALID_ARGUMENT, "Found local file path with authority '%.*s' in path '%s'", (int)authority, path,
                                             text),
                                   "Did you forget a slash? The correct path would be 'file:///%s'", path);
    }
    *out = path;
    return NULL;
}

struct error *local_path_absolute(const char *text, char **out)
{
    const char *path;
    TRY(local_path_parse(text, &path));
    if (path[0] == '\0')
        return error_new(INVALID_ARGUMENT, "the path is empty");
    if (path[0] == '/') {
        *out = heap_strdup(path);
        return NULL;
    }
    char *directory = getcwd(NULL, 0);
    if (directory == NULL)
        return error_errno(errno, "could not find the working directory, which %s is relative to", path);
    *out = heap_printf("%s/%s", strcmp(directory, "/") == 0 ? "" : directory, path);
    free(directory);
    return NULL;
}
