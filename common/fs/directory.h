/* Directories of the local file system. Blocks. Thread: any. */
#ifndef MILLRACE_FS_DIRECTORY_H
#define MILLRACE_FS_DIRECTORY_H

#include "common/base/error.h"

/* Makes the directory and its missing parents; fine when it is there already. errors: IO, naming the part that failed */
MUST_CHECK struct error *directory_create(const char *path);

#endif
