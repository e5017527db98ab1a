/* collect-sink: appends rows as JSON lines to the file that option path names, for tests and small jobs: at every checkpoint and
 * at the end the file holds all rows so far. Subtask i > 0 writes to path.i. After a restore the file is cut to what the checkpoint had,
 * so that a replay does not show rows twice. Thread: task. Owner: the operator chain. */
#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "taskmanager/connectors/sink_books.h"
#include "taskmanager/formats/format.h"
#include "taskmanager/ops/op_support.h"
#include "taskmanager/state/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define FLUSH_BYTES ((size_t)256 << 10)

struct collect_sink {
    struct op op;
    struct sink_books books;
    struct format_encoder *encoder;
    char *path;
    int fd;
    int64_t length;          /* of the file, what is buffered excluded */
    int64_t restored_length; /* -1: none */
    struct str_buf lines;
};

extern const struct op_vtable collect_sink_vtable;

static void collect_destroy(struct op *op)
{
    struct collect_sink *self = (struct collect_sink *)op;
    if (self->fd >= 0)
        close(self->fd);
    sink_books_finish(&self->books);
    format_encoder_destroy(self->encoder);
    str_buf_finish(&self->lines);
    free(self->path);
    free(self);
}

static struct error *init(struct op *op)
{
    struct collect_sink *self = (struct collect_sink *)op;
    struct op_context *ctx = op->ctx;
    struct schema *schema;
    const char *path;
    self->fd = -1;
    self->restored_length = -1;
    TRY(op_input_schema(ctx, 0, &schema));
    TRY(op_option_text(ctx, ctx->spec->options, "path", true, &path));
    self->path = ctx->subtask_index == 0 ? heap_strdup(path) : heap_printf("%s.%" PRIu32, path, ctx->subtask_index);
    json_t *format = json_pack("{s:s,s:s}", "type", "json", "timestamp_format", "epoch-millis");
    struct error *err = format_encoder_create(format, schema, &self->encoder);
    json_decref(format);
    return err;
}

static struct error *collect_create(struct op_context *ctx, struct op **out)
{
    return op_create(&collect_sink_vtable, sizeof(struct collect_sink), ctx, init, out);
}

static struct error *collect_open(struct op *op)
{
    struct collect_sink *self = (struct collect_sink *)op;
    sink_books_open(&self->books, op->ctx);
    self->fd = open(self->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (self->fd < 0)
        return error_errno(errno, "could not open %s", self->path);
    self->length = self->restored_length >= 0 ? self->restored_length : 0;
    if (ftruncate(self->fd, self->length) != 0 || lseek(self->fd, self->length, SEEK_SET) < 0)
        return error_errno(errno, "could not cut %s to %" PRId64 " bytes", self->path, self->length);
    return NULL;
}

static struct error *flush(struct collect_sink *self)
{
    for (size_t done = 0; done < self->lines.length;) {
        ssize_t written = write(self->fd, self->lines.text + done, self->lines.length - done);
        if (written < 0 && errno != EINTR)
            return error_errno(errno, "could not write %s", self->path);
        done += written > 0 ? (size_t)written : 0;
    }
    self->length += (int64_t)self->lines.length;
    str_buf_clear(&self->lines);
    return NULL;
}

static struct error *collect_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct collect_sink *self = (struct collect_sink *)op;
    uint64_t digest = 0;
    (void)input;
    for (uint32_t row = 0; row < batch->row_count; row++) {
        size_t start = self->lines.length;
        format_encode(self->encoder, batch, row, &self->lines);
        digest += XXH3_64bits(self->lines.text + start, self->lines.length - start);
        str_buf_append_char(&self->lines, '\n');
    }
    sink_books_add(&self->books, batch->row_count, digest);
    return self->lines.length >= FLUSH_BYTES ? flush(self) : NULL;
}

static struct error *collect_prepare_snapshot(struct op *op, uint64_t checkpoint_id)
{
    (void)checkpoint_id;
    return flush((struct collect_sink *)op);
}

static struct error *collect_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    struct collect_sink *self = (struct collect_sink *)op;
    uint64_t item[2] = {op->ctx->subtask_index, (uint64_t)self->length};
    sink_books_cut(&self->books, checkpoint_id);
    snapshot_add_union_item(snapshot, "_length", item, sizeof item);
    return NULL;
}

static struct error *on_length(void *arg, const void *bytes, size_t length)
{
    struct collect_sink *self = arg;
    uint64_t item[2];
    if (length != sizeof item)
        return error_new(CORRUPT, "collect-sink state has a wrong length");
    memcpy(item, bytes, sizeof item);
    if (item[0] == self->op.ctx->subtask_index)
        self->restored_length = (int64_t)item[1];
    return NULL;
}

static struct error *collect_restore(struct op *op, struct restored_state *state)
{
    return restored_state_items(state, "_length", on_length, op);
}

static struct error *collect_complete(struct op *op, uint64_t checkpoint_id)
{
    sink_books_complete(&((struct collect_sink *)op)->books, checkpoint_id);
    return NULL;
}

static struct error *collect_end_input(struct op *op)
{
    return flush((struct collect_sink *)op);
}

const struct op_vtable collect_sink_vtable = {
    .type = "collect-sink",
    .create = collect_create,
    .restore = collect_restore,
    .open = collect_open,
    .process = collect_process,
    .prepare_snapshot = collect_prepare_snapshot,
    .snapshot = collect_snapshot,
    .checkpoint_complete = collect_complete,
    .end_input = collect_end_input,
    .destroy = collect_destroy,
};
