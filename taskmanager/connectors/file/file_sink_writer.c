/* file-sink-writer: lines into hidden files of a folder. At a barrier the open file is synced and closed, and its name goes to the
 * committer, which gives it its visible name when the checkpoint is complete: readers see each row exactly once.
 *   folder/.part-<job>-<operator>-<subtask>-<n>.inprogress  ->  folder/part-<job>-<operator>-<subtask>-<n>
 * n never repeats: after a restore it goes on above every number in the checkpoint, without one above every visible file's, and hidden
 * files that the checkpoint does not know are removed. A row for the committer is the visible name. Options: path (a folder), format.
 * Thread: task. Owner: the operator chain. */
#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "taskmanager/connectors/sink_books.h"
#include "taskmanager/formats/format.h"
#include "taskmanager/ops/op_support.h"
#include "taskmanager/state/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define FLUSH_BYTES ((size_t)256 << 10)
#define ROLL_BYTES (INT64_C(128) << 20)
#define NUMBER_STATE "_file_number"

struct file_number { /* the next file of a former subtask */
    uint64_t subtask;
    uint64_t next;
};

struct file_sink_writer {
    struct op op;
    struct sink_books books;
    struct format_encoder *encoder;
    struct batch_builder *names; /* rows for the committer */
    const char *folder;          /* from the options */
    char prefix[64];             /* "part-<job>-<operator>-" */
    VEC(struct file_number) restored;
    uint64_t next_number;
    int fd; /* -1: no file is open */
    char *hidden;
    char *name; /* visible, without folder */
    int64_t length;
    struct str_buf lines;
};

extern const struct op_vtable file_sink_writer_vtable;

static void writer_destroy(struct op *op)
{
    struct file_sink_writer *self = (struct file_sink_writer *)op;
    if (self->fd >= 0)
        close(self->fd); /* the hidden file stays: the next start of this job removes it */
    sink_books_finish(&self->books);
    format_encoder_destroy(self->encoder);
    batch_builder_destroy(self->names);
    vec_finish(&self->restored);
    str_buf_finish(&self->lines);
    free(self->hidden);
    free(self->name);
    free(self);
}

static struct error *init(struct op *op)
{
    struct file_sink_writer *self = (struct file_sink_writer *)op;
    struct op_context *ctx = op->ctx;
    struct schema *schema;
    self->fd = -1;
    TRY(op_input_schema(ctx, 0, &schema));
    TRY(op_option_path(ctx, ctx->spec->options, "path", &self->folder));
    const struct schema *out = ctx->spec->schema;
    if (out == NULL || out->field_count != 1 || !data_type_is_text(out->fields[0].type))
        return error_new(INVALID_PROGRAM, "operator %s: its output must be one text column, for the committer", ctx->spec->name);
    struct error *err = format_encoder_create(json_object_get(ctx->spec->options, "format"), schema, &self->encoder);
    if (err != NULL)
        return error_wrap(err, "operator %s", ctx->spec->name);
    self->names = batch_builder_create(ctx->spec->schema, 8, false);
    snprintf(self->prefix, sizeof self->prefix, "part-%.8s-%.8s-", id_format(ctx->graph->job_id).hex, id_format(ctx->spec->id).hex);
    return NULL;
}

static struct error *writer_create(struct op_context *ctx, struct op **out)
{
    return op_create(&file_sink_writer_vtable, sizeof(struct file_sink_writer), ctx, init, out);
}

/* ---- start ---- */

static struct error *make_folders(const char *path)
{
    char *copy = heap_strdup(path);
    for (char *at = copy + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char end = *at;
        *at = '\0';
        if (mkdir(copy, 0755) != 0 && errno != EEXIST) {
            struct error *err = error_errno(errno, "could not make folder %s", copy);
            free(copy);
            return err;
        }
        if (end == '\0')
            break;
        *at = end;
    }
    free(copy);
    return NULL;
}

/* True for a hidden file of this operator that the checkpoint does not know and that is this subtask's to remove. */
static bool is_orphan(const struct file_sink_writer *self, const char *name)
{
    uint64_t subtask, number;
    int end = 0;
    size_t prefix = strlen(self->prefix);
    if (name[0] != '.' || strncmp(name + 1, self->prefix, prefix) != 0 ||
        sscanf(name + 1 + prefix, "%" SCNu64 "-%" SCNu64 ".inprogress%n", &subtask, &number, &end) != 2 || end == 0 ||
            name[1 + prefix + (size_t)end] != '\0')
        return false;
    if (subtask % self->op.ctx->parallelism != self->op.ctx->subtask_index)
        return false;
    for (size_t i = 0; i < self->restored.count; i++)
        if (self->restored.items[i].subtask == subtask)
            return number >= self->restored.items[i].next;
    return true;
}

/* An attempt before, which left no checkpoint, may have shown files: those stay. */
static void number_above(struct file_sink_writer *self, const char *name)
{
    uint64_t subtask, number;
    int end = 0;
    size_t prefix = strlen(self->prefix);
    if (strncmp(name, self->prefix, prefix) == 0 && sscanf(name + prefix, "%" SCNu64 "-%" SCNu64 "%n", &subtask, &number, &end) == 2 &&
        name[prefix + (size_t)end] == '\0' && subtask == self->op.ctx->subtask_index && number >= self->next_number)
        self->next_number = number + 1;
}

static struct error *look_through_folder(struct file_sink_writer *self)
{
    DIR *folder = opendir(self->folder);
    if (folder == NULL)
        return error_errno(errno, "could not read folder %s", self->folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (is_orphan(self, entry->d_name))
            unlinkat(dirfd(folder), entry->d_name, 0);
        else if (self->restored.count == 0)
            number_above(self, entry->d_name);
    }
    closedir(folder);
    return NULL;
}

static struct error *writer_open(struct op *op)
{
    struct file_sink_writer *self = (struct file_sink_writer *)op;
    sink_books_open(&self->books, op->ctx);
    for (size_t i = 0; i < self->restored.count; i++)
        if (self->restored.items[i].next > self->next_number)
            self->next_number = self->restored.items[i].next;
    TRY(make_folders(self->folder));
    return look_through_folder(self);
}

/* ---- writing ---- */

static struct error *open_file(struct file_sink_writer *self)
{
    free(self->name);
    free(self->hidden);
    self->name = heap_printf("%s%" PRIu32 "-%" PRIu64, self->prefix, self->op.ctx->subtask_index, self->next_number++);
    self->hidden = heap_printf("%s/.%s.inprogress", self->folder, self->name);
    self->fd = open(self->hidden, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    self->length = 0;
    return self->fd >= 0 ? NULL : error_errno(errno, "could not make %s", self->hidden);
}

static struct error *flush(struct file_sink_writer *self)
{
    if (self->lines.length == 0)
        return NULL;
    if (self->fd < 0)
        TRY(open_file(self));
    for (size_t done = 0; done < self->lines.length;) {
        ssize_t written = write(self->fd, self->lines.text + done, self->lines.length - done);
        if (written < 0 && errno != EINTR)
            return error_errno(errno, "could not write %s", self->hidden);
        done += written > 0 ? (size_t)written : 0;
    }
    self->length += (int64_t)self->lines.length;
    str_buf_clear(&self->lines);
    return NULL;
}

/* Closes the open file for good and hands its name to the committer. */
static struct error *roll(struct file_sink_writer *self)
{
    TRY(flush(self));
    if (self->fd < 0)
        return NULL;
    int fd = self->fd;
    self->fd = -1;
    int failed = fsync(fd);
    int code = errno;
    if (close(fd) != 0 && failed == 0) {
        failed = -1;
        code = errno;
    }
    if (failed != 0)
        return error_errno(code, "could not sync %s", self->hidden);
    uint32_t row = batch_builder_add_row(self->names);
    batch_builder_set_text(self->names, 0, row, self->name, strlen(self->name));
    return op_emit(&self->op, batch_builder_finish(self->names));
}

static struct error *writer_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct file_sink_writer *self = (struct file_sink_writer *)op;
    uint64_t digest = 0;
    (void)input;
    for (uint32_t row = 0; row < batch->row_count; row++) {
        size_t start = self->lines.length;
        format_encode(self->encoder, batch, row, &self->lines);
        digest += XXH3_64bits(self->lines.text + start, self->lines.length - start);
        str_buf_append_char(&self->lines, '\n');
    }
    sink_books_add(&self->books, batch->row_count, digest);
    if (self->lines.length >= FLUSH_BYTES)
        TRY(flush(self));
    return self->length >= ROLL_BYTES ? roll(self) : NULL;
}

/* ---- checkpoints ---- */

static struct error *writer_prepare_snapshot(struct op *op, uint64_t checkpoint_id)
{
    (void)checkpoint_id;
    return roll((struct file_sink_writer *)op);
}

static struct error *writer_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    struct file_sink_writer *self = (struct file_sink_writer *)op;
    struct file_number number = {op->ctx->subtask_index, self->next_number};
    sink_books_cut(&self->books, checkpoint_id);
    snapshot_add_union_item(snapshot, NUMBER_STATE, &number, sizeof number);
    return NULL;
}

static struct error *on_number(void *arg, const void *bytes, size_t length)
{
    struct file_sink_writer *self = arg;
    struct file_number number;
    if (length != sizeof number)
        return error_new(CORRUPT, "file sink state has a wrong length");
    memcpy(&number, bytes, sizeof number);
    vec_push(&self->restored, number);
    return NULL;
}

static struct error *writer_restore(struct op *op, struct restored_state *state)
{
    return restored_state_items(state, NUMBER_STATE, on_number, op);
}

static struct error *writer_complete(struct op *op, uint64_t checkpoint_id)
{
    sink_books_complete(&((struct file_sink_writer *)op)->books, checkpoint_id);
    return NULL;
}

static struct error *writer_end_input(struct op *op)
{
    return roll((struct file_sink_writer *)op);
}

const struct op_vtable file_sink_writer_vtable = {
    .type = "file-sink-writer",
    .create = writer_create,
    .restore = writer_restore,
    .open = writer_open,
    .process = writer_process,
    .prepare_snapshot = writer_prepare_snapshot,
    .snapshot = writer_snapshot,
    .checkpoint_complete = writer_complete,
    .end_input = writer_end_input,
    .destroy = writer_destroy,
};
