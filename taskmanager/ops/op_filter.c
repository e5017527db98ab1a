/* filter: keeps the rows for which a user function says true. The kept rows are a selection of the input batch; when all
 * are kept, the input batch itself goes on. Options: function (symbol). Thread: task. Owner: the operator chain. */
#include "taskmanager/ops/op_support.h"
#include "taskmanager/ops/op_ticker.h"
#include "taskmanager/ops/user_context.h"
#include "taskmanager/task/books.h"

#include "common/base/heap.h"

#include <stdlib.h>

struct op_filter {
    struct op op;
    struct user_context context;
    struct record_adapter *input;
    void *records;
    uint32_t *selected; /* BATCH_ROWS_MAX row indexes */
};

extern const struct op_vtable op_filter_vtable;

static void op_filter_destroy(struct op *op)
{
    struct op_filter *self = (struct op_filter *)op;
    user_context_finish(&self->context);
    record_adapter_destroy(self->input);
    free(self->records);
    free(self->selected);
    free(self);
}

static struct error *init(struct op *op)
{
    struct op_filter *self = (struct op_filter *)op;
    const struct mr_function *function;
    struct schema *schema;
    TRY(user_function_find(self->op.ctx, "function", MR_FUNCTION_FILTER, true, &function));
    TRY(op_input_schema(self->op.ctx, 0, &schema));
    TRY(user_context_init(&self->context, &self->op, function, NULL));
    TRY(record_adapter_create_input(function->input, schema, function->name, &self->input));
    self->records = record_adapter_array(self->input, RECORD_CHUNK_ROWS);
    self->selected = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->selected);
    return user_context_open(&self->context);
}

static struct error *op_filter_create(struct op_context *ctx, struct op **out)
{
    return op_create(&op_filter_vtable, sizeof(struct op_filter), ctx, init, out);
}

static struct error *op_filter_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct op_filter *self = (struct op_filter *)op;
    struct user_context *context = &self->context;
    struct op_ticker ticker = op_ticker_start(op);
    uint32_t kept = 0, done = 0;
    bool is_over = false;
    user_context_enter(context);
    for (uint32_t start = 0; start < batch->row_count && context->error == NULL && !is_over; start += RECORD_CHUNK_ROWS) {
        uint32_t count = batch->row_count - start < RECORD_CHUNK_ROWS ? batch->row_count - start : RECORD_CHUNK_ROWS;
        const char *in = self->records;
        record_adapter_gather(self->input, batch, start, count, self->records);
        for (uint32_t i = 0; i < count && !is_over; i++, in += self->input->size_bytes) {
            context->timestamp = batch->event_time != NULL ? batch->event_time[start + i] : TIME_MIN;
            self->selected[kept] = start + i;
            kept += context->function->call.filter(&context->head, in);
            done = start + i + 1;
            is_over = op_ticker_tick(&ticker);
        }
    }
    TRY(user_context_leave(context));
    op_hand_back(op, input, batch, done);
    op->ctx->books->filtered += done - kept;
    if (kept == batch->row_count)
        return op_emit(op, batch_ref(batch));
    return kept > 0 ? op_emit(op, batch_take(batch, self->selected, kept)) : NULL;
}

const struct op_vtable op_filter_vtable = {
    .type = "filter",
    .create = op_filter_create,
    .process = op_filter_process,
    .destroy = op_filter_destroy,
    .hands_back = true,
};
