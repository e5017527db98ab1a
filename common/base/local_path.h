/* Paths of the local file system as users write them: plain, or as file: URIs. Thread: any. */
#ifndef MILLRACE_BASE_LOCAL_PATH_H
#define MILLRACE_BASE_LOCAL_PATH_H

#include "common/base/error.h"

/* "file:///a", "file:/a" or "/a" -> "/a", "a" -> "a": the part of text behind its scheme.
 * errors: INVALID_ARGUMENT for another scheme, and for file://host/a, which is mostly a slash that is missing (as Flink's
 *         FileSystem.getUnguardedFileSystem) */
MUST_CHECK struct error *local_path_parse(const char *text, const char **out);
/* The same, malloced, and a relative path below this process' working directory: other processes have other ones.
 * errors: as above, and for an empty path */
MUST_CHECK struct error *local_path_absolute(const char *text, char **out);

#endif
