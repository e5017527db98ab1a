/* map and flat_map: user functions over records. Rows are gathered into records a chunk at a time; a map's results are
 * scattered a chunk at a time, a flat_map collects through its context.
 * Options: function (symbol). Thread: task. Owner: the operator chain. */
#include "taskmanager/ops/op_support.h"
#include "taskmanager/ops/op_ticker.h"
#include "taskmanager/ops/user_context.h"

#include "common/base/heap.h"

#include <stdlib.h>

struct op_map {
    struct op op;
    struct user_context context;
    struct record_adapter *input;
    void *records;
    void *results;                 /* map only */
    struct batch_builder *builder; /* map only: no event time of its own, the input's is shared */
};

extern const struct op_vtable op_map_vtable;
extern const struct op_vtable op_flat_map_vtable;

static void op_map_destroy(struct op *op)
{
    struct op_map *self = (struct op_map *)op;
    user_context_finish(&self->context);
    record_adapter_destroy(self->input);
    batch_builder_destroy(self->builder);
    free(self->records);
    free(self->results);
    free(self);
}

static struct error *init(struct op *op)
{
    struct op_map *self = (struct op_map *)op;
    struct op_context *ctx = op->ctx;
    enum mr_function_kind kind = op->vtable == &op_map_vtable ? MR_FUNCTION_MAP : MR_FUNCTION_FLAT_MAP;
    const struct mr_function *function;
    struct schema *schema;
    TRY(user_function_find(ctx, "function", kind, true, &function));
    TRY(op_input_schema(ctx, 0, &schema));
    if (function->output == NULL || ctx->spec->schema == NULL)
        return error_new(INVALID_PROGRAM, "operator %s: function %s has no output", ctx->spec->name, function->name);
    TRY(user_context_init(&self->context, &self->op, function, NULL));
    TRY(record_adapter_create_input(function->input, schema, function->name, &self->input));
    self->records = record_adapter_array(self->input, RECORD_CHUNK_ROWS);
    if (kind == MR_FUNCTION_MAP) {
        self->results = heap_alloc_array(RECORD_CHUNK_ROWS, function->output->size_bytes + 1u);
        self->builder = batch_builder_create(ctx->spec->schema, BATCH_ROWS_TARGET, false);
    }
    return user_context_open(&self->context);
}

static struct error *map_create(struct op_context *ctx, struct op **out)
{
    return op_create(&op_map_vtable, sizeof(struct op_map), ctx, init, out);
}

static struct error *flat_map_create(struct op_context *ctx, struct op **out)
{
    return op_create(&op_flat_map_vtable, sizeof(struct op_map), ctx, init, out);
}

/* The rows that were mapped: fewer than count when the slice is over. */
static uint32_t map_chunk(struct op_map *self, const struct batch *batch, uint32_t start, uint32_t count, struct op_ticker *ticker,
                          bool *is_over)
{
    const struct mr_function *function = self->context.function;
    const char *in = self->records;
    char *out = self->results;
    record_adapter_gather(self->input, batch, start, count, self->records);
    memset(self->results, 0, (size_t)count * function->output->size_bytes);
    uint32_t done = 0;
    while (done < count && self->context.error == NULL && !*is_over) {
        self->context.timestamp = batch->event_time != NULL ? batch->event_time[start + done] : TIME_MIN;
        function->call.map(&self->context.head, in, out);
        in += self->input->size_bytes;
        out += function->output->size_bytes;
        done++;
        *is_over = op_ticker_tick(ticker);
    }
    if (self->context.error == NULL)
        record_adapter_scatter(self->context.main.adapter, self->builder, self->results, done);
    return done;
}

/* The row kinds of a changelog pass through a map. */
static struct batch *with_time_of(struct batch *out, const struct batch *in, uint32_t start)
{
    if (in->row_kind != NULL && out->row_kind == NULL) {
        out->row_kind_buffer = buffer_create(out->row_count);
        memcpy(out->row_kind_buffer->data, in->row_kind + start, out->row_count);
        out->row_kind_buffer->size_bytes = out->row_count;
        out->row_kind = (const int8_t *)out->row_kind_buffer->data;
    }
    if (in->event_time == NULL)
        return out;
    if (start == 0 && out->row_count == in->row_count && in->event_time_buffer != NULL &&
        (const uint8_t *)in->event_time == in->event_time_buffer->data) {
        out->event_time_buffer = buffer_ref(in->event_time_buffer);
        out->event_time = in->event_time;
        return out;
    }
    size_t bytes = out->row_count * sizeof(int64_t);
    out->event_time_buffer = buffer_create(bytes);
    memcpy(out->event_time_buffer->data, in->event_time + start, bytes);
    out->event_time_buffer->size_bytes = bytes;
    out->event_time = (const int64_t *)(const void *)out->event_time_buffer->data;
    return out;
}

/* *row goes on by what was mapped. */
static struct error *map_piece(struct op_map *self, const struct batch *batch, uint32_t *row, uint32_t end, struct op_ticker *ticker,
                               bool *is_over)
{
    uint32_t start = *row;
    user_context_enter(&self->context);
    while (*row < end && self->context.error == NULL && !*is_over)
        *row += map_chunk(self, batch, *row, end - *row < RECORD_CHUNK_ROWS ? end - *row : RECORD_CHUNK_ROWS, ticker, is_over);
    TRY(user_context_leave(&self->context));
    return op_emit(&self->op, with_time_of(batch_builder_finish(self->builder), batch, start));
}

static struct error *map_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct op_map *self = (struct op_map *)op;
    struct op_ticker ticker = op_ticker_start(op);
    uint32_t row = 0;
    for (bool is_over = false; row < batch->row_count && !is_over;) {
        uint32_t left = batch->row_count - row;
        TRY(map_piece(self, batch, &row, row + (left < BATCH_ROWS_TARGET ? left : BATCH_ROWS_TARGET), &ticker, &is_over));
    }
    op_hand_back(op, input, batch, row);
    return NULL;
}

static struct error *flat_map_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct op_map *self = (struct op_map *)op;
    struct user_context *context = &self->context;
    struct op_ticker ticker = op_ticker_start(op);
    uint32_t done = 0;
    bool is_over = false;
    user_context_enter(context);
    for (uint32_t start = 0; start < batch->row_count && context->error == NULL && !is_over; start += RECORD_CHUNK_ROWS) {
        uint32_t count = batch->row_count - start < RECORD_CHUNK_ROWS ? batch->row_count - start : RECORD_CHUNK_ROWS;
        const char *in = self->records;
        record_adapter_gather(self->input, batch, start, count, self->records);
        for (uint32_t i = 0; i < count && context->error == NULL && !is_over; i++, in += self->input->size_bytes) {
            context->timestamp = batch->event_time != NULL ? batch->event_time[start + i] : TIME_MIN;
            context->function->call.flat_map(&context->head, in);
            done = start + i + 1;
            is_over = op_ticker_tick(&ticker);
        }
    }
    TRY(user_context_leave(context));
    op_hand_back(op, input, batch, done);
    return NULL;
}

const struct op_vtable op_map_vtable = {
    .type = "map",
    .create = map_create,
    .process = map_process,
    .destroy = op_map_destroy,
    .hands_back = true,
};

const struct op_vtable op_flat_map_vtable = {
    .type = "flat_map",
    .create = flat_map_create,
    .process = flat_map_process,
    .destroy = op_map_destroy,
    .hands_back = true,
};
