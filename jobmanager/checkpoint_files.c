/* Checkpoint files on pool threads (checkpoint_files.h). Each piece of work is one struct that travels to the pool and
 * back; the pool side touches nothing but it. */
#include "jobmanager/checkpoint_files.h"

#include "common/base/heap.h"
#include "common/checkpoint/checkpoint_metadata.h"
#include "common/fs/fs.h"
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
    TRY(fs_make_directories(work->directory));
    for (uint32_t i = 0; i < work->copy_count; i++)
        TRY(fs_link_or_copy(work->copies[i].from, work->copies[i].to));
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
};

/* A checkpoint, a savepoint, or the directory of all checkpoints of a job: nothing else is ever deleted. */
static bool is_checkpoint_name(const char *directory)
{
    struct id job;
    const char *name = strrchr(directory, '/');
    name = name != NULL ? name + 1 : directory;
    return strncmp(name, "chk-", 4) == 0 || strncmp(name, "savepoint-", 10) == 0 || id_parse(name, &job);
}

static struct error *delete_run(void *argument)
{
    struct delete_work *work = argument;
    /* A savepoint that a user disposes was found to be one; the core's own have names that say so. */
    if (id_is_zero(work->trigger_id) && !is_checkpoint_name(work->directory))
        return error_new(INTERNAL, "%s does not look like a checkpoint", work->directory);
    TRY(fs_remove_tree(work->directory));
    /* The directory of the job goes with its last checkpoint; one that still holds others stays. */
    char *end = strrchr(work->directory, '/');
    if (end != NULL && end != work->directory && strncmp(end, "/chk-", 5) == 0) {
        *end = '\0';
        rmdir(work->directory);
        *end = '/';
    }
    return NULL;
}

/* Takes err. */
static void finish_disposal(struct jobmanager *jobmanager, struct id trigger_id, struct error *err)
{
    struct operation *operation = operations_find(&jobmanager->operations, trigger_id);
    if (operation != NULL && err == NULL) {
        operation_finish(operation, jobmanager_now_ms(jobmanager), 0, NULL, NULL, NULL);
    } else if (operation != NULL) {
        char *causes = rest_error_lines(err);
        char *lines = heap_printf(EX_FLINK ": Could not dispose savepoint %s.\nCaused by: %s%s", operation->path,
                                  err->code == ERR_NOT_FOUND ? EX_FILE ": " : "", causes);
        operation_finish(operation, jobmanager_now_ms(jobmanager), 0, NULL, EX_FLINK, lines);
        free(lines);
        free(causes);
    }
    error_free(err);
}

static void delete_done(struct error *err, void *argument)
{
    struct delete_work *work = argument;
    if (!id_is_zero(work->trigger_id)) {
        finish_disposal(work->jobmanager, work->trigger_id, err);
    } else if (err != NULL) {
        log_error_chain(LOG_WARN, LOGGER, err, "Could not discard the checkpoint directory %s.", work->directory);
        error_free(err);
    }
    free(work->directory);
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

/* ---- disposing ---- */

struct dispose_wait {
    struct jobmanager *jobmanager;
    struct id trigger_id;
};

static void on_dispose_read(json_t *metadata, const char *directory, struct error *err, void *argument)
{
    struct dispose_wait *wait = argument;
    json_decref(metadata);
    if (err != NULL) {
        finish_disposal(wait->jobmanager, wait->trigger_id, err);
    } else {
        struct event event = {.kind = EVENT_SAVEPOINT_DISPOSE, .dispose = {.trigger_id = wait->trigger_id, .path = directory}};
        jobmanager_handle(wait->jobmanager, &event);
    }
    free(wait);
}

void checkpoint_files_dispose(struct jobmanager *jobmanager, struct id trigger_id, const char *path)
{
    struct dispose_wait *wait = heap_new(struct dispose_wait);
    wait->jobmanager = jobmanager;
    wait->trigger_id = trigger_id;
    checkpoint_files_read(jobmanager, path, on_dispose_read, wait);
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

void checkpoint_files_read(struct jobmanager *jobmanager, const char *path,
                           void (*done)(json_t *metadata, const char *directory, struct error *err, void *argument), void *argument)
{
    struct read_work *work = heap_new(struct read_work);
    work->path = heap_strdup(path);
    work->done = done;
    work->argument = argument;
    jobmanager_work(jobmanager, read_run, read_done, work);
}
