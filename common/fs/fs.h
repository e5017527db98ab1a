/* Files and directories of the local file system, with errors that name the path. Blocking: from workers, or for small files. */
#ifndef MILLRACE_FS_FS_H
#define MILLRACE_FS_FS_H

#include "common/base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Makes the directory and its parents (mode 0755); fine when it is there already. */
MUST_CHECK struct error *fs_make_directories(const char *path);
/* Hard link, or a synced copy where a link cannot be. An existing target is fine. */
MUST_CHECK struct error *fs_link_or_copy(const char *from, const char *to);
/* Removes the file or the whole tree; never follows links. A path that does not exist is no error. */
MUST_CHECK struct error *fs_remove_tree(const char *path);
/* Whole file, malloced, with a NUL behind it that is not counted. errors: NOT_FOUND, IO, TOO_LARGE (over bytes_max) */
MUST_CHECK struct error *fs_read_file(const char *path, size_t bytes_max, uint8_t **out, size_t *out_length);
/* The last bytes_max bytes of the file, else as fs_read_file. */
MUST_CHECK struct error *fs_read_tail(const char *path, size_t bytes_max, uint8_t **out, size_t *out_length);
/* Temporary name, write, sync, rename, sync of the directory: afterwards the whole file is there under its name, or nothing. */
MUST_CHECK struct error *fs_write_atomic(const char *path, const void *bytes, size_t length);
MUST_CHECK struct error *fs_sync_directory(const char *path);

#endif
