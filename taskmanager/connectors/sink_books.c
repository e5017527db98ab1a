/* Books of sinks: see sink_books.h. Thread: task. Owner: the sink. */
#include "taskmanager/connectors/sink_books.h"

#include "common/base/heap.h"
#include "taskmanager/state/row_codec.h"
#include "taskmanager/task/books.h"

#include <stdlib.h>
#include <xxhash.h>

void sink_books_open(struct sink_books *self, struct op_context *ctx)
{
    self->ctx = ctx;
    ctx->books->rows_committed = ctx->books->rows_written;
    ctx->books->digest_committed = ctx->books->digest;
}

void sink_books_finish(struct sink_books *self)
{
    vec_finish(&self->cuts);
}

void sink_books_add(struct sink_books *self, uint64_t rows, uint64_t digest)
{
    struct books *books = self->ctx->books;
    books->rows_written += rows;
    books->digest += digest;
    if (self->ctx->checkpointing_enabled)
        return;
    books->rows_committed = books->rows_written;
    books->digest_committed = books->digest;
}

void sink_books_cut(struct sink_books *self, uint64_t checkpoint_id)
{
    const struct books *books = self->ctx->books;
    vec_push(&self->cuts, ((struct sink_cut){checkpoint_id, books->rows_written, books->digest}));
}

void sink_books_complete(struct sink_books *self, uint64_t checkpoint_id)
{
    struct books *books = self->ctx->books;
    size_t kept = 0;
    for (size_t i = 0; i < self->cuts.count; i++) {
        const struct sink_cut cut = self->cuts.items[i];
        if (cut.checkpoint_id > checkpoint_id) {
            self->cuts.items[kept++] = cut;
        } else if (cut.rows_written >= books->rows_committed) {
            books->rows_committed = cut.rows_written;
            books->digest_committed = cut.digest;
        }
    }
    self->cuts.count = kept;
}

struct row_digest {
    struct row_codec *codec;
    struct encoded_rows rows;
};

struct row_digest *row_digest_create(struct schema *schema)
{
    struct row_digest *digest = heap_new(struct row_digest);
    digest->codec = row_codec_create(schema);
    return digest;
}

void row_digest_destroy(struct row_digest *digest)
{
    if (digest == NULL)
        return;
    row_codec_destroy(digest->codec);
    encoded_rows_finish(&digest->rows);
    free(digest);
}

uint64_t row_digest_of_batch(struct row_digest *digest, const struct batch *batch)
{
    uint64_t sum = 0;
    row_codec_encode_rows(digest->codec, batch, NULL, &digest->rows);
    const uint32_t *offsets = digest->rows.offsets;
    for (uint32_t i = 0; i < batch->row_count; i++)
        sum += XXH3_64bits(digest->rows.bytes + offsets[i], offsets[i + 1] - offsets[i]);
    return sum;
}
