/* Blocking file operations that more than one part of the jobmanager needs. Thread: any. */
#ifndef MILLRACE_JOBMANAGER_FILE_OPS_H
#define MILLRACE_JOBMANAGER_FILE_OPS_H

#include "common/base/error.h"

/* With all parents; existing ones are fine. */
MUST_CHECK struct error *file_make_directories(const char *path);
/* Hard link, or a synced copy where a link cannot be. An existing target is fine. */
MUST_CHECK struct error *file_link_or_copy(const char *from, const char *to);
/* The directory with all in it; links are not followed. A missing one is fine. */
MUST_CHECK struct error *file_remove_tree(const char *path);

#endif
