/* The books of sinks: rows written, their order-independent digest, and which of them a completed checkpoint covers.
 * Without checkpoints what is flushed is committed. Owner: the sink. Thread: task. */
#ifndef MILLRACE_CONNECTORS_SINK_BOOKS_H
#define MILLRACE_CONNECTORS_SINK_BOOKS_H

#include "common/base/vec.h"
#include "taskmanager/ops/op.h"

struct sink_cut { /* what had been written at a barrier */
    uint64_t checkpoint_id;
    uint64_t rows_written;
    uint64_t digest;
};

struct sink_books {
    struct op_context *ctx;
    VEC(struct sink_cut) cuts;
};

/* After the restored books were read (in open): all that the restored checkpoint counted is committed. */
void sink_books_open(struct sink_books *self, struct op_context *ctx);
void sink_books_finish(struct sink_books *self);
/* Rows were handed to the outside; digest: the sum of XXH3_64bits over their bytes. */
void sink_books_add(struct sink_books *self, uint64_t rows, uint64_t digest);
/* At the barrier, once everything before it is written. */
void sink_books_cut(struct sink_books *self, uint64_t checkpoint_id);
void sink_books_complete(struct sink_books *self, uint64_t checkpoint_id);

/* Digest of whole batches by their encoded rows (row_codec), for sinks that have no bytes of their own. */
struct row_digest;
struct row_digest *row_digest_create(struct schema *schema);
void row_digest_destroy(struct row_digest *digest);
uint64_t row_digest_of_batch(struct row_digest *digest, const struct batch *batch);

#endif
