/* datagen-source: rows made up column by column. The stream's rows are numbered; of n splits, split s makes rows s, s + n, s + 2n, …; n is the
 * parallelism of the first start and stays in the state, so that a restore at another parallelism makes the same rows.
 * Options: fields {column: {kind: random | sequence | choice | constant, min, max, start, end, step, repeat, length, values, value}},
 * rows_per_second (0: as fast as it goes), number_of_rows (bounded), seed, watermark. Thread: task. Owner: the operator chain. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "taskmanager/connectors/datagen/datagen_column.h"
#include "taskmanager/connectors/source.h"
#include "taskmanager/ops/op_support.h"

#include <inttypes.h>
#include <stdlib.h>

/* A rate-limited source wakes up this often. */
#define TICK_MS 10

struct datagen_split {
    uint64_t index;
    uint64_t stride; /* number of splits */
    uint64_t made;   /* rows of this split so far */
    uint64_t count;  /* rows of this split in all; UINT64_MAX: no end */
};

struct datagen_source {
    struct source source; /* first member */
    struct datagen_column *columns;
    uint64_t row_count; /* of the whole stream; UINT64_MAX: no end */
    int64_t rows_per_second;
    uint64_t rows_since_start; /* of this subtask, for the rate */
    int64_t start_ns;
    size_t next_split;
};

extern const struct op_vtable datagen_source_vtable;

/* ---- the rate ---- */

/* Rows that may be made now. */
static uint64_t rows_allowed(struct datagen_source *self)
{
    if (self->rows_per_second == 0)
        return UINT64_MAX;
    double elapsed_s = (double)(clock_mono_ns() - self->start_ns) / 1e9;
    double share = (double)self->rows_per_second / (double)self->source.op.ctx->parallelism;
    uint64_t due = (uint64_t)(elapsed_s * share);
    return due > self->rows_since_start ? due - self->rows_since_start : 0;
}

/* ---- reading ---- */

static struct error *make_rows(struct datagen_source *self, struct source_split *split, uint64_t wanted)
{
    struct source *source = &self->source;
    struct datagen_split *state = split->user;
    source_select_split(source, split);
    while (wanted > 0) {
        struct batch_builder *builder = source->builder;
        if (batch_builder_is_full(builder))
            TRY(source_flush(source));
        uint32_t room = builder->row_capacity - builder->row_count;
        uint32_t count = wanted < room ? (uint32_t)wanted : room;
        uint32_t first = builder->row_count;
        builder->row_count += count;
        for (uint32_t c = 0; c < builder->schema->field_count; c++)
            datagen_column_fill(&self->columns[c], builder, c, first, count, state->index + state->made * state->stride, state->stride);
        state->made += count;
        wanted -= count;
        self->rows_since_start += count;
        source->run_records += count;
    }
    return NULL;
}

static struct error *datagen_read(struct source *source, uint32_t max_rows, enum source_status *status)
{
    struct datagen_source *self = (struct datagen_source *)source;
    uint64_t allowed = rows_allowed(self);
    uint64_t wanted = allowed < max_rows ? allowed : max_rows;
    bool is_over = true;
    for (size_t i = 0; i < source->splits.count; i++) {
        struct source_split *split = source->splits.items[(self->next_split + i) % source->splits.count];
        struct datagen_split *state = split->user;
        uint64_t left = state->count - state->made;
        uint64_t share = left < wanted ? left : wanted;
        TRY(make_rows(self, split, share));
        wanted -= share;
        split->is_finished = state->made == state->count;
        is_over = is_over && split->is_finished;
    }
    self->next_split++; /* the splits take turns */
    *status = is_over ? SOURCE_END : SOURCE_MORE;
    if (!is_over && self->rows_per_second > 0 && rows_allowed(self) == 0) {
        *status = SOURCE_EMPTY;
        op_wake_at(&source->op, clock_now_ms() + TICK_MS);
    }
    return NULL;
}

static void datagen_write_position(struct source *source, const struct source_split *split, struct bytes_writer *writer)
{
    (void)source;
    const struct datagen_split *state = split->user;
    bytes_write_u64(writer, state->index);
    bytes_write_u64(writer, state->stride);
    bytes_write_u64(writer, state->made);
}

static const struct source_reader datagen_reader = {
    .read = datagen_read,
    .write_position = datagen_write_position,
};

/* ---- life ---- */

static void datagen_destroy(struct op *op)
{
    struct datagen_source *self = (struct datagen_source *)op;
    for (size_t i = 0; i < self->source.splits.count; i++)
        free(self->source.splits.items[i]->user);
    for (uint32_t c = 0; self->columns != NULL && c < op->ctx->spec->schema->field_count; c++)
        datagen_column_finish(&self->columns[c]);
    free(self->columns);
    source_finish(&self->source);
    free(self);
}

static struct error *init(struct datagen_source *self)
{
    struct op_context *ctx = self->source.op.ctx;
    const json_t *options = ctx->spec->options, *fields = json_object_get(options, "fields");
    const struct schema *schema = ctx->spec->schema;
    int64_t row_count = -1, seed = 0;
    TRY(op_option_int(ctx, options, "rows_per_second", 0, INT64_MAX, &self->rows_per_second));
    TRY(op_option_int(ctx, options, "number_of_rows", 0, INT64_MAX, &row_count));
    TRY(op_option_int(ctx, options, "seed", INT64_MIN, INT64_MAX, &seed));
    self->row_count = row_count < 0 ? UINT64_MAX : (uint64_t)row_count;
    self->columns = heap_alloc_array(schema->field_count + 1u, sizeof *self->columns);
    for (uint32_t c = 0; c < schema->field_count; c++) {
        const json_t *field = json_object_get(fields, schema->fields[c].name);
        struct error *err = datagen_column_init(&self->columns[c], &schema->fields[c], field,
                                                (uint64_t)seed * UINT64_C(0xd1342543de82ef95) + (c + 1) * UINT64_C(0x2545f4914f6cdd1d));
        if (err != NULL)
            return error_wrap(err, "operator %s", ctx->spec->name);
        uint64_t limit = datagen_column_row_limit(&self->columns[c], field);
        self->row_count = limit < self->row_count ? limit : self->row_count;
    }
    return NULL;
}

static struct error *datagen_create(struct op_context *ctx, struct op **out)
{
    struct datagen_source *self = heap_new(struct datagen_source);
    struct error *err = source_init(&self->source, &datagen_source_vtable, &datagen_reader, ctx);
    if (err != NULL) {
        free(self);
        return err;
    }
    err = init(self);
    if (err != NULL) {
        datagen_destroy(&self->source.op);
        return err;
    }
    *out = &self->source.op;
    return NULL;
}

static struct error *add_split(struct datagen_source *self, uint64_t index, uint64_t stride)
{
    char name[32];
    snprintf(name, sizeof name, "rows-%" PRIu64, index);
    struct source_split *split = source_add_split(&self->source, name, index);
    struct datagen_split *state = heap_new(struct datagen_split);
    split->user = state;
    *state = (struct datagen_split){.index = index, .stride = stride};
    size_t length;
    const void *position = source_split_restored_position(split, &length);
    if (position != NULL) {
        struct bytes_reader reader = bytes_reader_on(position, length);
        state->index = bytes_read_u64(&reader);
        state->stride = bytes_read_u64(&reader);
        state->made = bytes_read_u64(&reader);
        if (!bytes_reader_ok(&reader) || state->stride == 0)
            return error_new(CORRUPT, "operator %s: the position of split %s is damaged", self->source.op.ctx->spec->name, name);
    }
    state->count = self->row_count;
    if (self->row_count != UINT64_MAX)
        state->count = self->row_count > state->index ? (self->row_count - state->index - 1) / state->stride + 1 : 0;
    if (state->count < state->made)
        state->count = state->made;
    return NULL;
}

static struct error *datagen_open(struct op *op)
{
    struct datagen_source *self = (struct datagen_source *)op;
    self->start_ns = clock_mono_ns();
    uint64_t split_count = self->source.is_restored ? self->source.restored.count : op->ctx->parallelism;
    for (uint64_t index = 0; index < split_count; index++)
        if (source_owns(&self->source, index))
            TRY(add_split(self, index, split_count));
    return NULL;
}

const struct op_vtable datagen_source_vtable = {
    .type = "datagen-source",
    .create = datagen_create,
    .restore = source_restore,
    .open = datagen_open,
    .wake = source_wake,
    .describe = source_describe,
    .snapshot = source_snapshot,
    .destroy = datagen_destroy,
    .poll = source_poll,
};
