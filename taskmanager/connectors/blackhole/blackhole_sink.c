/* blackhole-sink: counts and digests rows, and drops them. No options. Thread: task. Owner: the operator chain. */
#include "common/base/heap.h"
#include "taskmanager/connectors/sink_books.h"
#include "taskmanager/ops/op_support.h"

#include <stdlib.h>

struct blackhole_sink {
    struct op op;
    struct sink_books books;
    struct row_digest *digest;
};

extern const struct op_vtable blackhole_sink_vtable;

static struct error *blackhole_create(struct op_context *ctx, struct op **out)
{
    struct schema *schema;
    TRY(op_input_schema(ctx, 0, &schema));
    struct blackhole_sink *self = heap_new(struct blackhole_sink);
    self->op = (struct op){&blackhole_sink_vtable, ctx};
    self->digest = row_digest_create(schema);
    *out = &self->op;
    return NULL;
}

static struct error *blackhole_open(struct op *op)
{
    sink_books_open(&((struct blackhole_sink *)op)->books, op->ctx);
    return NULL;
}

static struct error *blackhole_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct blackhole_sink *self = (struct blackhole_sink *)op;
    (void)input;
    sink_books_add(&self->books, batch->row_count, row_digest_of_batch(self->digest, batch));
    return NULL;
}

static struct error *blackhole_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    (void)snapshot;
    sink_books_cut(&((struct blackhole_sink *)op)->books, checkpoint_id);
    return NULL;
}

static struct error *blackhole_complete(struct op *op, uint64_t checkpoint_id)
{
    sink_books_complete(&((struct blackhole_sink *)op)->books, checkpoint_id);
    return NULL;
}

static void blackhole_destroy(struct op *op)
{
    struct blackhole_sink *self = (struct blackhole_sink *)op;
    sink_books_finish(&self->books);
    row_digest_destroy(self->digest);
    free(self);
}

const struct op_vtable blackhole_sink_vtable = {
    .type = "blackhole-sink",
    .create = blackhole_create,
    .open = blackhole_open,
    .process = blackhole_process,
    .snapshot = blackhole_snapshot,
    .checkpoint_complete = blackhole_complete,
    .destroy = blackhole_destroy,
};
