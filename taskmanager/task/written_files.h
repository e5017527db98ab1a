/* State files that this runner has written for checkpoints which have not been completed: when one is aborted, its files go, also those
 * that are being written at that moment. (The coordinator deletes the checkpoint's directory, but a file that is written after that
 * would stay until the end of the job.) Thread: the runner's loop. */
#ifndef MILLRACE_TASK_WRITTEN_FILES_H
#define MILLRACE_TASK_WRITTEN_FILES_H

#include "common/base/vec.h"

#include <stdbool.h>
#include <stdint.h>

/* Aborted checkpoints that are remembered, newest last: writers of older ones have long ended. */
#define WRITTEN_FILES_ABORTED_MAX 32

struct written_files {
    VEC(struct written_file {
        uint64_t checkpoint_id;
        char *directory;
        char *name;
    }) files;
    VEC(uint64_t) aborted;
};

void written_files_finish(struct written_files *files);
/* A file was written; removed at once when its checkpoint is known to be aborted. Returns false then. */
bool written_files_add(struct written_files *files, uint64_t checkpoint_id, const char *directory, const char *name);
/* The checkpoint is complete: its files, and those of older ones, are not ours any more. */
void written_files_completed(struct written_files *files, uint64_t checkpoint_id);
/* Removes its files, and its directory when nothing else is in it. */
void written_files_aborted(struct written_files *files, uint64_t checkpoint_id);

#endif
