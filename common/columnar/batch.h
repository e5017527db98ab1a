/* Column batches: the unit that moves between operators. Arrow columnar memory layout; strings are Arrow string views.
 * A batch is immutable once it has been emitted and is shared by reference count; any thread may hold a reference.
 * source: Apache Arrow, "Arrow Columnar Format" 1.4 (variable-size binary view layout, validity bitmaps). */
#ifndef MILLRACE_COLUMNAR_BATCH_H
#define MILLRACE_COLUMNAR_BATCH_H

#include "common/columnar/buffer.h"
#include "common/types/schema.h"

#include <stdatomic.h>
#include <string.h>

/* Rows that sources and builders aim at, and the most that a batch may have. */
#define BATCH_ROWS_TARGET 2048
#define BATCH_ROWS_MAX 65536
/* "no timestamp" in an event-time column, and the watermark before the first. */
#define TIME_MIN INT64_MIN
/* The watermark that says: no more elements, ever. */
#define TIME_MAX INT64_MAX

#define STRING_VIEW_INLINE_MAX 12

/* Arrow BinaryView: up to 12 bytes live in the view itself (zero-padded, so that equal short strings are equal 16-byte
 * values); longer ones have a 4-byte prefix and lie in one of the column's text buffers. */
struct string_view {
    uint32_t length;
    union {
        char inlined[STRING_VIEW_INLINE_MAX];
        struct {
            char prefix[4];
            uint32_t buffer_index;
            uint32_t offset;
        } ref;
    } as;
};
_Static_assert(sizeof(struct string_view) == 16, "Arrow's view is 16 bytes");

enum row_kind { ROW_INSERT = 0, ROW_UPDATE_BEFORE = 1, ROW_UPDATE_AFTER = 2, ROW_DELETE = 3 };

struct column {
    const uint8_t *validity; /* bit i of byte i/8 = row i is not null; NULL = no nulls */
    const void *values;      /* row_count values of the type's width; BOOLEAN: bits */
    struct buffer *validity_buffer;
    struct buffer *values_buffer;
    struct buffer **text_buffers; /* STRING, BYTES: what views refer to by buffer_index */
    uint32_t text_buffer_count;
};

struct batch {
    atomic_uint refs;
    uint32_t row_count;
    struct schema *schema;
    const int64_t *event_time; /* ms since the epoch a row; NULL = the stream carries no event time */
    struct buffer *event_time_buffer;
    const int8_t *row_kind; /* enum row_kind a row; NULL = all ROW_INSERT */
    struct buffer *row_kind_buffer;
    struct column columns[]; /* schema->field_count of them */
};

/* Columns without buffers, for builders and codecs; takes a reference to schema. One reference to the caller. */
struct batch *batch_create(struct schema *schema, uint32_t row_count);
struct batch *batch_ref(struct batch *batch);
/* Accepts NULL. */
void batch_unref(struct batch *batch);

/* A new batch of count rows: row i is row rows[i] of batch. Text buffers are shared, not copied. O(count * columns). */
struct batch *batch_take(const struct batch *batch, const uint32_t *rows, uint32_t count);
/* Rows [start, start + count), copied as above. */
struct batch *batch_slice(const struct batch *batch, uint32_t start, uint32_t count);
/* The same rows with only some columns: column i of the result is columns[i] of batch. schema has those fields. */
struct batch *batch_project(const struct batch *batch, struct schema *schema, const uint32_t *columns);
/* The same columns with another event time column (taken; row_count int64 values). */
struct batch *batch_with_event_time(const struct batch *batch, struct buffer *event_time);
/* Memory that the batch keeps alive: fixed-width values plus the text its views refer to. */
size_t batch_size_bytes(const struct batch *batch);
/* Every structural rule: lengths, view bounds, alignment. For decoded input and debug builds. */
MUST_CHECK struct error *batch_verify(const struct batch *batch);

/* hashes[i] = 64-bit hash of the key columns of row i; equal keys of equal types have equal hashes on every machine. */
void batch_hash_rows(const struct batch *batch, const uint32_t *key_columns, uint32_t key_count, uint64_t *hashes);

static inline bool column_is_null(const struct column *column, uint32_t row)
{
    return column->validity != NULL && (column->validity[row >> 3] >> (row & 7) & 1) == 0;
}

static inline const char *string_view_text(const struct column *column, const struct string_view *view)
{
    return view->length <= STRING_VIEW_INLINE_MAX
               ? view->as.inlined
               : (const char *)column->text_buffers[view->as.ref.buffer_index]->data + view->as.ref.offset;
}

#endif
