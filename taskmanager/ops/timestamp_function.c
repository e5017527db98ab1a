/* A user's timestamp assigner over batches (time/timestamp_function.h). Thread: task. Owner: whoever created it. */
#include "taskmanager/time/timestamp_function.h"

#include "common/base/heap.h"
#include "taskmanager/ops/user_context.h"

#include <stdlib.h>

struct timestamp_function {
    struct op op; /* only so that the context knows its operator's name and books; never called */
    struct user_context context;
    struct record_adapter *input;
    void *records;
};

struct error *timestamp_function_create(struct op_context *ctx, const char *symbol, struct schema *schema, struct timestamp_function **out)
{
    const struct mr_function *function;
    TRY(user_library_function(ctx->library, symbol, MR_FUNCTION_TIMESTAMP, &function));
    struct timestamp_function *self = heap_new(struct timestamp_function);
    self->op.ctx = ctx;
    struct error *err;
    TRY_GOTO(fail, user_context_init(&self->context, &self->op, function, NULL));
    TRY_GOTO(fail, record_adapter_create_input(function->input, schema, function->name, &self->input));
    self->records = record_adapter_array(self->input, RECORD_CHUNK_ROWS);
    *out = self;
    return NULL;
fail:
    timestamp_function_destroy(self);
    return err;
}

struct error *timestamp_function_apply(struct timestamp_function *self, const struct batch *batch, int64_t *times)
{
    struct user_context *context = &self->context;
    user_context_enter(context);
    for (uint32_t start = 0; start < batch->row_count && context->error == NULL; start += RECORD_CHUNK_ROWS) {
        uint32_t count = batch->row_count - start < RECORD_CHUNK_ROWS ? batch->row_count - start : RECORD_CHUNK_ROWS;
        const char *record = self->records;
        record_adapter_gather(self->input, batch, start, count, self->records);
        for (uint32_t i = 0; i < count; i++, record += self->input->size_bytes) {
            context->timestamp = batch->event_time != NULL ? batch->event_time[start + i] : TIME_MIN;
            times[start + i] = context->function->call.timestamp(&context->head, record);
        }
    }
    return user_context_leave(context);
}

void timestamp_function_destroy(struct timestamp_function *self)
{
    if (self == NULL)
        return;
    user_context_finish(&self->context);
    record_adapter_destroy(self->input);
    free(self->records);
    free(self);
}
