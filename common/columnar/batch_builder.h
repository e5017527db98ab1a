/* Builds batches column by column. Owned by one task thread. Decoders write straight into the arrays: they reserve a row,
 * store values through the typed pointers, and commit or drop the row.
 *
 *   uint32_t row = batch_builder_add_row(b);            all columns of the row start as null (zero value)
 *   batch_builder_int64s(b, 0)[row] = 42;  batch_builder_set_valid(b, 0, row);
 *   batch_builder_set_text(b, 1, row, "abc", 3);         sets valid too
 *   batch_builder_set_event_time(b, row, t);
 *   if (bad) batch_builder_drop_row(b);                  the last row only
 *   struct batch *batch = batch_builder_finish(b);       NULL when empty; the builder starts anew */
#ifndef MILLRACE_COLUMNAR_BATCH_BUILDER_H
#define MILLRACE_COLUMNAR_BATCH_BUILDER_H

#include "common/base/check.h"
#include "common/columnar/batch.h"

struct builder_column {
    struct buffer *values;
    struct buffer *validity;
    struct buffer *text; /* the current text buffer; earlier ones are in filled */
    struct buffer **filled;
    uint32_t filled_count;
    size_t text_hint_bytes; /* what the last batch used, a little more */
};

struct batch_builder {
    struct schema *schema;
    uint32_t row_count;
    uint32_t row_capacity;
    size_t text_bytes; /* text stored out of line since the last finish */
    bool has_event_time;
    bool has_row_kind;
    struct buffer *event_time;
    struct buffer *row_kind;
    struct builder_column *columns;
};

/* Takes a reference to schema. row_capacity rows are the most a batch will have (at most BATCH_ROWS_MAX). */
struct batch_builder *batch_builder_create(struct schema *schema, uint32_t row_capacity, bool has_event_time);
void batch_builder_destroy(struct batch_builder *builder);
static inline bool batch_builder_is_full(const struct batch_builder *builder)
{
    return builder->row_count >= builder->row_capacity;
}
/* The builder must not be full. */
static inline uint32_t batch_builder_add_row(struct batch_builder *builder)
{
    dcheck(!batch_builder_is_full(builder));
    return builder->row_count++;
}
void batch_builder_drop_row(struct batch_builder *builder);
void batch_builder_set_text(struct batch_builder *builder, uint32_t column, uint32_t row, const char *text, size_t length);
void batch_builder_set_bool(struct batch_builder *builder, uint32_t column, uint32_t row, bool value);
void batch_builder_set_row_kind(struct batch_builder *builder, uint32_t row, enum row_kind kind);
struct batch *batch_builder_finish(struct batch_builder *builder);
/* Copies one row of a batch of the same schema, with event time and row kind. */
void batch_builder_copy_row(struct batch_builder *builder, const struct batch *batch, uint32_t row);

static inline void *batch_builder_values(struct batch_builder *builder, uint32_t column)
{
    return builder->columns[column].values->data;
}
#define batch_builder_int64s(builder, column) ((int64_t *)batch_builder_values(builder, column))
#define batch_builder_int32s(builder, column) ((int32_t *)batch_builder_values(builder, column))
#define batch_builder_doubles(builder, column) ((double *)batch_builder_values(builder, column))
static inline void batch_builder_set_valid(struct batch_builder *builder, uint32_t column, uint32_t row)
{
    builder->columns[column].validity->data[row >> 3] |= (uint8_t)(1u << (row & 7));
}
static inline void batch_builder_set_event_time(struct batch_builder *builder, uint32_t row, int64_t time)
{
    ((int64_t *)(void *)builder->event_time->data)[row] = time;
}

#endif
