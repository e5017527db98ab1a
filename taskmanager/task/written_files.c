/* Files of checkpoints that may still be aborted: see written_files.h. Thread: the runner's loop. */
#include "taskmanager/task/written_files.h"

#include "common/base/heap.h"
#include "common/base/log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LOGGER "TaskRunner"
/* Savepoints are completed without a word to the runner: their entries leave at the end of the list. */
#define FILES_MAX 4096

static void file_finish(struct written_file *file)
{
    free(file->directory);
    free(file->name);
}

void written_files_finish(struct written_files *files)
{
    for (size_t i = 0; i < files->files.count; i++)
        file_finish(&files->files.items[i]);
    vec_finish(&files->files);
    vec_finish(&files->aborted);
}

static void file_remove(const struct written_file *file)
{
    char *path = heap_printf("%s/%s", file->directory, file->name);
    if (unlink(path) != 0 && errno != ENOENT)
        log_warn(LOGGER, "Could not remove %s of an aborted checkpoint: %s.", path, strerror(errno));
    free(path);
    /* The last one to go takes the directory along; for the others it is not empty yet. */
    if (rmdir(file->directory) != 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST)
        log_warn(LOGGER, "Could not remove the directory %s of an aborted checkpoint: %s.", file->directory, strerror(errno));
}

static bool is_aborted(const struct written_files *files, uint64_t checkpoint_id)
{
    for (size_t i = 0; i < files->aborted.count; i++)
        if (files->aborted.items[i] == checkpoint_id)
            return true;
    return false;
}

bool written_files_add(struct written_files *files, uint64_t checkpoint_id, const char *directory, const char *name)
{
    struct written_file file = {checkpoint_id, heap_strdup(directory), heap_strdup(name)};
    if (is_aborted(files, checkpoint_id)) {
        file_remove(&file);
        file_finish(&file);
        return false;
    }
    if (files->files.count == FILES_MAX) {
        file_finish(&files->files.items[0]);
        vec_remove(&files->files, 0);
    }
    vec_push(&files->files, file);
    return true;
}

void written_files_completed(struct written_files *files, uint64_t checkpoint_id)
{
    size_t kept = 0;
    for (size_t i = 0; i < files->files.count; i++) {
        if (files->files.items[i].checkpoint_id > checkpoint_id)
            files->files.items[kept++] = files->files.items[i];
        else
            file_finish(&files->files.items[i]);
    }
    files->files.count = kept;
}

void written_files_aborted(struct written_files *files, uint64_t checkpoint_id)
{
    size_t kept = 0;
    for (size_t i = 0; i < files->files.count; i++) {
        struct written_file *file = &files->files.items[i];
        if (file->checkpoint_id != checkpoint_id) {
            files->files.items[kept++] = *file;
            continue;
        }
        file_remove(file);
        file_finish(file);
    }
    files->files.count = kept;
    if (files->aborted.count == WRITTEN_FILES_ABORTED_MAX)
        vec_remove(&files->aborted, 0);
    vec_push(&files->aborted, checkpoint_id);
}
