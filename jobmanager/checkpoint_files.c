/* Checkpoint files on pool threads (checkpoint_files.h). Each piece of work is one struct that travels to the pool and
 * back; the pool side touches nothing but it. */
#include "jobmanager/checkpoint_files.h"

#include "common/base/heap.h"
#include "common/checkpoint/checkpoint_metadata.h"
#include "jobmanager/file_ops.h"
#include "jobmanager/rest/rest_request.h"

#include <string.h>
#include <unistd.h>

#define LOGGER "CheckpointCoordinator"

/* ---- metadata ---- */

struct write_work {
    struct jobmanager *jobmanager;
    struct id job;
    uint64_t checkpoint;
    char *directory;
    json_t *metadata;
    struct file_copy *copies;
    uint32_t copy_count;
};

static struct error *write_run(void *argument)
{
    struct write_work *work = argument;
    TRY(file_make_directories(work->directory));
    for (uint32_t i = 0; i < work->copy_count; i++)
        TRY(file_link_or_copy(work->copies[i].from, work->copies[i].to));
    return checkpoint_metadata_write(work->directory, work->metadata);
}

static void write_done(struct error *err, void *argument)
{
    struct write_work *work = argument;
    struct event event = {.kind = EVENT_METADATA_WRITTEN,
                          .metadata_written = {.job = work->job, .checkpoint = work->checkpoint, .error = err}};
    jobmanager_handle(work->jobmanager, &event);
    error_free(err);
    for (uint32_t i = 0; i < work->copy_count; i++) {
        free(work->copies[i].from);
        free(work->copies[i].to);
    }
    free(work->copies);
    free(work->directory);
    json_decref(work->metadata);
    free(work);
}

void checkpoint_files_write(struct jobmanager *jobmanager, struct action *action)
{
    struct write_work *work = heap_new(struct write_work);
    work->jobmanager = jobmanager;
    work->job = action->job;
    work->checkpoint = action->checkpoint;
    work->directory = action->write.directory;
    /* The pool thread must not share reference counts with the loop. */
    work->metadata = json_deep_copy(action->write.metadata);
    work->copies = action->write.copies;
    work->copy_count = action->write.copy_count;
    action->write.directory = NULL;
    action->write.copies = NULL;
    action->write.copy_count = 0;
    jobmanager_work(jobmanager, write_run, write_done, work);
}

/* ---- deleting ---- */

struct delete_work {
    struct jobmanager *jobmanager;
    struct id trigger_id; /* zero: nobody waits */
    char *directory;
    char *path;           /* as the user gave it; NULL: the core's own */
};

static bool is_checkpoint_name(const char *directory)
{
    const char *name = strrchr(directory, '/');
    name = name != NULL ? name + 1 : directory;
    return strncmp(name, "chk-", 4) == 0 || strncmp(name, "savepoint-", 10) == 0;
}

static struct error *delete_run(void *argument)
{
    struct delete_work *work = argument;
    if (work->path != NULL) {
        json_t *metadata = NULL;
        TRY(checkpoint_metadata_read(work->path, &work->directory, &metadata));
        json_decref(metadata);
    } else if (!is_checkpoint_name(work->directory)) {
        return error_new(INTERNAL, "%s does not look like a checkpoint", work->directory);
    }
    TRY(file_remove_tree(work->directory));
    /* The directory of the job goes with its last checkpoint; one that still holds others stays. */
    char *end = strrchr(work->directory, '/');
    if (end != NULL && end != work->directory && strncmp(end, "/chk-", 5) == 0) {
        *end = '\0';
        rmdir(work->directory);
    }
    return NULL;
}

static void delete_done(struct error *err, void *argument)
{
    struct delete_work *work = argument;
    struct operation *operation = operations_find(&work->jobmanager->operations, work->trigger_id);
    if (operation != NULL) {
        const char *path = work->path != NULL ? work->path : operation->path != NULL ? operation->path : work->directory;
        char *causes = err != NULL ? rest_error_lines(err) : NULL;
        char *lines = err == NULL ? NULL
                                  : heap_printf(EX_FLINK ": Could not dispose savepoint %s.\nCaused by: %s%s", path,
                                                err->code == ERR_NOT_FOUND ? EX_FILE ": " : "", causes);
        operation_finish(operation, jobmanager_now_ms(work->jobmanager), 0, NULL, err != NULL ? EX_FLINK : NULL, lines);
        free(lines);
        free(causes);
    } else if (err != NULL) {
        log_error_chain(LOG_WARN, LOGGER, err, "Could not discard the checkpoint directory %s.", work->directory);
    }
    error_free(err);
    free(work->directory);
    free(work->path);
    free(work);
}

void checkpoint_files_delete(struct jobmanager *jobmanager, struct action *action)
{
    struct delete_work *work = heap_new(struct delete_work);
    work->jobmanager = jobmanager;
    work->trigger_id = action->delete_directory.trigger_id;
    work->directory = action->delete_directory.directory;
    action->delete_directory.directory = NULL;
    jobmanager_work(jobmanager, delete_run, delete_done, work);
}

void checkpoint_files_dispose(struct jobmanager *jobmanager, struct id trigger_id, const char *path)
{
    struct delete_work *work = heap_new(struct delete_work);
    work->jobmanager = jobmanager;
    work->trigger_id = trigger_id;
    work->path = heap_strdup(path);
    jobmanager_work(jobmanager, delete_run, delete_done, work);
}

/* ---- reading ---- */

struct read_work {
    char *path;
    json_t *metadata;
    char *directory;
    void (*done)(json_t *metadata, const char *directory, struct error *err, void *argument);
    void *argument;
};

static struct error *read_run(void *argument)
{
    struct read_work *work = argument;
    return checkpoint_metadata_read(work->path, &work->directory, &work->metadata);
}

static void read_done(struct error *err, void *argument)
{
    struct read_work *work = argument;
    work->done(work->metadata, work->directory, err, work->argument);
    free(work->directory);
    free(work->path);
    free(work);
}

void checkpoint_files_read(struct jobmanager *jobmanager, const char *path, void (*done)(json_t *metadata, const char *directory, struct error *err, void *argument),
                           void *argument)
{
    struct read_work *work = heap_new(struct read_work);
    work->path = heap_strdup(path);
    work->done = done;
    work->argument = argument;
    jobmanager_work(jobmanager, read_run, read_done, work);
}
