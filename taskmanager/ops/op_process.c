/* process and co_process: user functions with state and timers, keyed or not; co_process has two inputs whose keys have the
 * same types. Options: function (symbol), key_columns. Thread: task. Owner: the operator chain. */
#include "taskmanager/ops/op_support.h"
#include "taskmanager/ops/op_ticker.h"
#include "taskmanager/ops/user_context.h"

#include "common/base/clock.h"
#include "common/base/heap.h"

#include <stdlib.h>

#define PREFETCH_ROWS 64u

struct process_input {
    struct record_adapter *adapter;
    void *records;
    struct key_columns keys;
};

struct op_process {
    struct op op;
    struct user_context context;
    struct process_input inputs[2];
    uint32_t input_count;
    bool is_keyed;
    struct encoded_rows key_rows;
    uint64_t *hashes; /* BATCH_ROWS_MAX of them, as of key_groups */
    uint32_t *key_groups;
};

extern const struct op_vtable op_process_vtable;
extern const struct op_vtable op_co_process_vtable;

static void op_process_destroy(struct op *op)
{
    struct op_process *self = (struct op_process *)op;
    user_context_finish(&self->context);
    for (uint32_t i = 0; i < 2; i++) {
        record_adapter_destroy(self->inputs[i].adapter);
        free(self->inputs[i].records);
        key_columns_finish(&self->inputs[i].keys);
    }
    encoded_rows_finish(&self->key_rows);
    free(self->hashes);
    free(self->key_groups);
    free(self);
}

/* One schema for the keys of all inputs: a field may be null when it may be in any of them, so that equal keys have equal
 * bytes whichever side they came from. */
static struct error *merged_key_schema(struct op_process *self, struct schema **out)
{
    struct op_context *ctx = self->op.ctx;
    struct schema *schemas[2];
    for (uint32_t i = 0; i < self->input_count; i++)
        TRY(op_input_schema(ctx, i, &schemas[i]));
    const struct key_columns *first = &self->inputs[0].keys;
    struct field *fields = heap_alloc_array(first->count + 1u, sizeof *fields);
    struct error *err = NULL;
    for (uint32_t k = 0; k < first->count; k++) {
        fields[k] = schemas[0]->fields[first->columns[k]];
        if (self->input_count == 1)
            continue;
        const struct field *other = k < self->inputs[1].keys.count ? &schemas[1]->fields[self->inputs[1].keys.columns[k]] : NULL;
        if (other == NULL || other->type != fields[k].type) {
            err = error_new(INVALID_PROGRAM, "operator %s: key field %s of the first input has no counterpart of the same type in the second",
                            ctx->spec->name, fields[k].name);
            break;
        }
        fields[k].nullable |= other->nullable;
    }
    if (err == NULL)
        *out = schema_create(fields, first->count);
    free(fields);
    return err;
}

static struct error *init_input(struct op_process *self, uint32_t input, const struct mr_record_type *type, const struct mr_function *function)
{
    struct schema *schema;
    struct process_input *in = &self->inputs[input];
    TRY(op_input_schema(self->op.ctx, input, &schema));
    if (type == NULL)
        return error_new(INVALID_PROGRAM, "function %s has no record type for input %u", function->name, (unsigned)input);
    TRY(record_adapter_create_input(type, schema, function->name, &in->adapter));
    in->records = record_adapter_array(in->adapter, RECORD_CHUNK_ROWS);
    return op_key_columns(self->op.ctx, input, &in->keys);
}

static struct error *init(struct op *op)
{
    struct op_process *self = (struct op_process *)op;
    struct op_context *ctx = op->ctx;
    enum mr_function_kind kind = op->vtable == &op_process_vtable ? MR_FUNCTION_PROCESS : MR_FUNCTION_CO_PROCESS;
    const struct mr_function *function;
    TRY(user_function_find(ctx, "function", kind, true, &function));
    self->input_count = kind == MR_FUNCTION_CO_PROCESS ? 2 : 1;
    TRY(init_input(self, 0, function->input, function));
    if (self->input_count == 2)
        TRY(init_input(self, 1, function->second_input, function));
    self->is_keyed = self->inputs[0].keys.count > 0;
    if (self->input_count == 2 && self->is_keyed != (self->inputs[1].keys.count > 0))
        return error_new(INVALID_PROGRAM, "operator %s: either both inputs are keyed or none", ctx->spec->name);
    if (!self->is_keyed) {
        TRY(user_context_init(&self->context, &self->op, function, NULL));
        return user_context_open(&self->context);
    }
    struct schema *key_schema;
    TRY(merged_key_schema(self, &key_schema));
    struct error *err = user_context_init(&self->context, &self->op, function, key_schema);
    schema_unref(key_schema);
    if (err != NULL)
        return err;
    self->hashes = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->hashes);
    self->key_groups = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->key_groups);
    return user_context_open(&self->context);
}

static struct error *process_create(struct op_context *ctx, struct op **out)
{
    return op_create(&op_process_vtable, sizeof(struct op_process), ctx, init, out);
}

static struct error *co_process_create(struct op_context *ctx, struct op **out)
{
    return op_create(&op_co_process_vtable, sizeof(struct op_process), ctx, init, out);
}

static void set_key_of_row(struct op_process *self, uint32_t row)
{
    const uint32_t *offsets = self->key_rows.offsets;
    struct state_key key = {
        .bytes = self->key_rows.bytes + offsets[row],
        .length = offsets[row + 1] - offsets[row],
        .hash = self->hashes[row],
        .key_group = self->key_groups[row],
    };
    user_context_set_key(&self->context, &key);
}

static void take_keys(struct op_process *self, const struct process_input *in, const struct batch *batch)
{
    batch_hash_rows(batch, in->keys.columns, in->keys.count, self->hashes);
    for (uint32_t i = 0; i < batch->row_count; i++)
        self->key_groups[i] = key_group_of_hash(self->hashes[i], self->op.ctx->max_parallelism);
    row_codec_encode_rows(self->context.key_codec, batch, in->keys.columns, &self->key_rows);
}

/* The state of the rows from start on, just before the function asks for it row by row. */
static void prefetch_state(struct op_process *self, uint32_t start, uint32_t end)
{
    struct state_rows rows = {
        .count = end - start < PREFETCH_ROWS ? end - start : PREFETCH_ROWS,
        .key_groups = self->key_groups + start,
        .hashes = self->hashes + start,
        .keys = self->key_rows.bytes,
        .key_offsets = self->key_rows.offsets + start,
    };
    user_context_prefetch(&self->context, &rows);
}

static struct error *process_batch(struct op *op, uint32_t input, struct batch *batch)
{
    struct op_process *self = (struct op_process *)op;
    struct user_context *context = &self->context;
    const struct process_input *in = &self->inputs[input];
    const struct mr_function *function = context->function;
    void (*call)(struct mr_context *, const void *) = input == 0 ? function->call.process.element : function->call.process.second;
    if (self->is_keyed)
        take_keys(self, in, batch);
    struct op_ticker ticker = op_ticker_start(op);
    uint32_t done = 0;
    bool is_over = false;
    user_context_enter(context);
    for (uint32_t start = 0; start < batch->row_count && context->error == NULL && !is_over; start += RECORD_CHUNK_ROWS) {
        uint32_t count = batch->row_count - start < RECORD_CHUNK_ROWS ? batch->row_count - start : RECORD_CHUNK_ROWS;
        const char *record = in->records;
        record_adapter_gather(in->adapter, batch, start, count, in->records);
        for (uint32_t i = 0; i < count && context->error == NULL && !is_over; i++, record += in->adapter->size_bytes) {
            context->timestamp = batch->event_time != NULL ? batch->event_time[start + i] : TIME_MIN;
            if (self->is_keyed) {
                if (i % PREFETCH_ROWS == 0)
                    prefetch_state(self, start + i, start + count);
                set_key_of_row(self, start + i);
            }
            call(&context->head, record);
            done = start + i + 1;
            is_over = op_ticker_tick(&ticker);
        }
    }
    context->key.bytes = NULL;
    TRY(user_context_leave(context));
    op_hand_back(op, input, batch, done);
    return NULL;
}

static struct error *fire(struct op_process *self, enum timer_domain domain, int64_t until)
{
    struct user_context *context = &self->context;
    if (context->timers == NULL || timer_service_next(context->timers, domain) > until)
        return NULL;
    struct state_key key;
    int64_t time;
    struct op_ticker ticker = op_ticker_start(&self->op);
    user_context_enter(context);
    while (user_context_goes_on(context, &ticker) && timer_service_pop(context->timers, domain, until, &key, &time)) {
        op_count_timers(&self->op, 1);
        if (context->function->call.process.on_timer == NULL)
            continue;
        user_context_set_key(context, &key);
        context->timestamp = domain == TIMER_EVENT ? time : TIME_MIN;
        context->function->call.process.on_timer(&context->head, time);
    }
    context->key.bytes = NULL;
    return user_context_leave(context);
}

static struct error *process_watermark(struct op *op, int64_t time, int64_t *forward)
{
    (void)forward;
    return fire((struct op_process *)op, TIMER_EVENT, time);
}

static struct error *process_wake(struct op *op, int64_t now_ms)
{
    struct op_process *self = (struct op_process *)op;
    TRY(fire(self, TIMER_PROCESSING, now_ms));
    if (self->context.timers != NULL && timer_service_next(self->context.timers, TIMER_PROCESSING) != INT64_MAX)
        op_wake_at(op, timer_service_next(self->context.timers, TIMER_PROCESSING));
    return NULL;
}

static struct error *process_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    (void)checkpoint_id;
    return user_context_snapshot(&((struct op_process *)op)->context, snapshot);
}

static struct error *process_restore(struct op *op, struct restored_state *state)
{
    return user_context_restore(&((struct op_process *)op)->context, state);
}

const struct op_vtable op_process_vtable = {
    .type = "process",
    .create = process_create,
    .restore = process_restore,
    .process = process_batch,
    .watermark = process_watermark,
    .wake = process_wake,
    .snapshot = process_snapshot,
    .destroy = op_process_destroy,
    .hands_back = true,
};

const struct op_vtable op_co_process_vtable = {
    .type = "co_process",
    .create = co_process_create,
    .restore = process_restore,
    .process = process_batch,
    .watermark = process_watermark,
    .wake = process_wake,
    .snapshot = process_snapshot,
    .destroy = op_process_destroy,
    .hands_back = true,
};
