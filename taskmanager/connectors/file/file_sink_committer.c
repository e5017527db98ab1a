/* file-sink-committer: gives finished hidden files their visible names once the checkpoint that covers them is complete. Names that
 * are not committed yet are list state; those that a restored checkpoint holds are committed at the start. Renaming twice is
 * harmless: a file that already has its visible name counts as committed, and so does, at the start, one that is gone: it was committed
 * before, and whoever reads the folder has taken it away. Without checkpoints files are committed as they come.
 * Options: path, as the writer's. Thread: task. Owner: the operator chain. */
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/vec.h"
#include "taskmanager/ops/op_support.h"
#include "taskmanager/state/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAMES_STATE "_files"

struct file_to_commit {
    uint64_t checkpoint_id; /* that covers it; UINT64_MAX: none yet */
    char *name;
};

struct file_sink_committer {
    struct op op;
    const char *folder;
    VEC(struct file_to_commit) files;
};

extern const struct op_vtable file_sink_committer_vtable;

static struct error *committer_create(struct op_context *ctx, struct op **out)
{
    const char *folder;
    TRY(op_option_path(ctx, ctx->spec->options, "path", &folder));
    struct file_sink_committer *self = heap_new(struct file_sink_committer);
    self->op = (struct op){&file_sink_committer_vtable, ctx};
    self->folder = folder;
    *out = &self->op;
    return NULL;
}

static void committer_destroy(struct op *op)
{
    struct file_sink_committer *self = (struct file_sink_committer *)op;
    for (size_t i = 0; i < self->files.count; i++)
        free(self->files.items[i].name);
    vec_finish(&self->files);
    free(self);
}

static void add_name(struct file_sink_committer *self, uint64_t checkpoint_id, const char *name, size_t length)
{
    vec_push(&self->files, ((struct file_to_commit){checkpoint_id, heap_strndup(name, length)}));
}

/* ---- committing ---- */

static struct error *commit_file(const struct file_sink_committer *self, const char *name, bool is_restored)
{
    char *hidden = heap_printf("%s/.%s.inprogress", self->folder, name);
    char *visible = heap_printf("%s/%s", self->folder, name);
    struct error *err = NULL;
    if (rename(hidden, visible) != 0) {
        int code = errno;
        bool is_gone = code == ENOENT && access(visible, F_OK) != 0;
        if (is_gone && is_restored)
            log_warn("FileSink", "%s: %s of the restored checkpoint is gone, and so is %s: it was committed before, and somebody has taken it away",
                     self->op.ctx->task_name, visible, hidden);
        else if (is_gone || code != ENOENT)
            err = error_errno(code, "could not rename %s to %s", hidden, visible);
    }
    free(hidden);
    free(visible);
    return err;
}

/* The new names must not be lost with the power. */
static struct error *sync_folder(const struct file_sink_committer *self)
{
    int fd = open(self->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) /* it was taken away with its files */
        return NULL;
    if (fd < 0)
        return error_errno(errno, "could not open folder %s", self->folder);
    int failed = fsync(fd);
    int code = errno;
    close(fd);
    return failed == 0 ? NULL : error_errno(code, "could not sync folder %s", self->folder);
}

static struct error *commit_until(struct file_sink_committer *self, uint64_t checkpoint_id, bool is_restored)
{
    size_t kept = 0, committed = 0;
    struct error *err = NULL;
    for (size_t i = 0; i < self->files.count; i++) {
        struct file_to_commit file = self->files.items[i];
        if (err == NULL && file.checkpoint_id <= checkpoint_id)
            err = commit_file(self, file.name, is_restored);
        if (err != NULL || file.checkpoint_id > checkpoint_id) {
            self->files.items[kept++] = file;
            continue;
        }
        free(file.name);
        committed++;
    }
    self->files.count = kept;
    if (err == NULL && committed > 0)
        err = sync_folder(self);
    return err;
}

static struct error *committer_open(struct op *op)
{
    return commit_until((struct file_sink_committer *)op, UINT64_MAX - 1, true);
}

static struct error *committer_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct file_sink_committer *self = (struct file_sink_committer *)op;
    const struct column *column = &batch->columns[0];
    (void)input;
    for (uint32_t row = 0; row < batch->row_count; row++) {
        const struct string_view *view = &((const struct string_view *)column->values)[row];
        add_name(self, op->ctx->checkpointing_enabled ? UINT64_MAX : 0, string_view_text(column, view), view->length);
    }
    return op->ctx->checkpointing_enabled ? NULL : commit_until(self, 0, false);
}

/* ---- checkpoints ---- */

static struct error *committer_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    struct file_sink_committer *self = (struct file_sink_committer *)op;
    for (size_t i = 0; i < self->files.count; i++) {
        struct file_to_commit *file = &self->files.items[i];
        if (file->checkpoint_id == UINT64_MAX)
            file->checkpoint_id = checkpoint_id;
        snapshot_add_list_item(snapshot, NAMES_STATE, file->name, strlen(file->name));
    }
    return NULL;
}

static struct error *on_name(void *arg, const void *bytes, size_t length)
{
    if (length == 0 || memchr(bytes, '/', length) != NULL)
        return error_new(CORRUPT, "file sink state holds a name with a slash");
    add_name(arg, 0, bytes, length);
    return NULL;
}

static struct error *committer_restore(struct op *op, struct restored_state *state)
{
    return restored_state_items(state, NAMES_STATE, on_name, op);
}

static struct error *committer_complete(struct op *op, uint64_t checkpoint_id)
{
    return commit_until((struct file_sink_committer *)op, checkpoint_id, false);
}

const struct op_vtable file_sink_committer_vtable = {
    .type = "file-sink-committer",
    .create = committer_create,
    .restore = committer_restore,
    .open = committer_open,
    .process = committer_process,
    .snapshot = committer_snapshot,
    .checkpoint_complete = committer_complete,
    .destroy = committer_destroy,
};
