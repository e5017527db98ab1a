/* The working directory of a daemon: <base>/<name>-<pid>-<random>, locked while the process lives. One that a process left behind
 * (kill -9, power) is removed when the next daemon of that name starts. Blocks. Thread: any. */
#ifndef MILLRACE_FS_WORK_DIRECTORY_H
#define MILLRACE_FS_WORK_DIRECTORY_H

#include "common/base/error.h"

struct work_directory {
    char *path;  /* NULL: there is none */
    int lock_fd; /* the lock lasts as long as this descriptor; meaningless without a path */
};

/* Where working directories go: the first directory of configured (io.tmp.dirs, in Flink a list separated by , | : or ;), else of TMPDIR,
 * else /tmp. Malloced. */
char *work_directory_base(const char *configured);
/* Makes base too where it is missing. Removes directories of the same name below base that belong to this user, whose process is
 * dead, and that nobody holds locked (the process ids of a container that shares base say nothing here: its lock does). What
 * cannot be removed is logged and left. errors: IO */
MUST_CHECK struct error *work_directory_create(const char *base, const char *name, struct work_directory *out);
/* Removes the directory with all in it and forgets it; fine without one. A failure is logged. */
void work_directory_remove(struct work_directory *directory);

#endif
