/* assign_timestamps: gives rows their event time and makes watermarks in the middle of a stream. What its input says about
 * time stops here, except the end of time. The watermark is kept in checkpoints: after a restore it never falls below the
 * lowest one of all former subtasks. Options: watermark. Thread: task. Owner: the operator chain.
 * source: Flink docs, "Generating Watermarks" (periodic generation, withIdleness) */
#include "taskmanager/ops/op_support.h"
#include "taskmanager/state/snapshot.h"
#include "taskmanager/time/watermark_generator.h"

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/heap.h"

#include <stdlib.h>

#define WATERMARK_STATE "_watermark"

struct op_assign_timestamps {
    struct op op;
    struct watermark_options options;
    struct event_time event_time;
    struct watermark_generator generator;
    int64_t next_emit_ms;
    int64_t quiet_since_ns;   /* when the last row had gone on, on the monotonic clock */
    int64_t quiet_blocked_ns; /* op_blocked_ns_total then: time in which no row could come is not quiet */
    bool is_idle;
    bool has_restored;
    int64_t restored_max_timestamp;
    int64_t restored_watermark;
};

extern const struct op_vtable op_assign_timestamps_vtable;

static void assign_destroy(struct op *op)
{
    struct op_assign_timestamps *self = (struct op_assign_timestamps *)op;
    event_time_finish(&self->event_time);
    free(self);
}

static struct error *init(struct op *op)
{
    struct op_assign_timestamps *self = (struct op_assign_timestamps *)op;
    struct op_context *ctx = op->ctx;
    struct schema *schema;
    self->event_time.column = -1;
    TRY(op_input_schema(ctx, 0, &schema));
    struct error *err = watermark_options_parse(json_object_get(ctx->spec->options, "watermark"), schema, &self->options);
    if (err == NULL)
        err = event_time_init(&self->event_time, &self->options, ctx, schema);
    if (err != NULL)
        return error_wrap(err, "operator %s", ctx->spec->name);
    watermark_generator_init(&self->generator, &self->options);
    return NULL;
}

static struct error *assign_create(struct op_context *ctx, struct op **out)
{
    return op_create(&op_assign_timestamps_vtable, sizeof(struct op_assign_timestamps), ctx, init, out);
}

static void plan_wake(struct op_assign_timestamps *self, int64_t now_ms)
{
    if (self->options.strategy != WATERMARK_NONE && self->options.interval_ms > 0)
        op_wake_at(&self->op, now_ms + self->options.interval_ms);
    else if (self->options.idle_timeout_ms >= 0 && !self->is_idle)
        op_wake_at(&self->op, now_ms + (self->options.idle_timeout_ms > 0 ? self->options.idle_timeout_ms : 1));
}

static struct error *emit_watermark(struct op_assign_timestamps *self)
{
    return self->options.strategy != WATERMARK_NONE ? op_emit_watermark(&self->op, watermark_generator_advance(&self->generator)) : NULL;
}

static struct error *assign_open(struct op *op)
{
    struct op_assign_timestamps *self = (struct op_assign_timestamps *)op;
    if (self->has_restored)
        watermark_generator_restore(&self->generator, self->restored_max_timestamp, self->restored_watermark);
    self->quiet_since_ns = clock_mono_ns();
    plan_wake(self, clock_now_ms());
    return NULL;
}

static struct error *assign_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct op_assign_timestamps *self = (struct op_assign_timestamps *)op;
    (void)input;
    if (self->is_idle) {
        self->is_idle = false;
        TRY(op_emit_idle(op, false));
        plan_wake(self, clock_now_ms());
    }
    struct batch *out = batch_ref(batch);
    if (event_time_is_set(&self->event_time))
        TRY(event_time_assign(&self->event_time, out, &out));
    int64_t latest = out->event_time != NULL ? event_time_max(out->event_time, 0, out->row_count) : TIME_MIN;
    TRY(op_emit(op, out));
    /* Only now: what the rows met downstream may have taken long. */
    self->quiet_since_ns = clock_mono_ns();
    self->quiet_blocked_ns = op_blocked_ns_total(op);
    watermark_generator_on_timestamp(&self->generator, latest);
    return self->options.interval_ms == 0 ? emit_watermark(self) : NULL;
}

static struct error *assign_watermark(struct op *op, int64_t time, int64_t *forward)
{
    (void)op;
    *forward = time == TIME_MAX ? TIME_MAX : TIME_MIN;
    return NULL;
}

static struct error *assign_wake(struct op *op, int64_t now_ms)
{
    struct op_assign_timestamps *self = (struct op_assign_timestamps *)op;
    if (self->options.interval_ms > 0)
        TRY(emit_watermark(self));
    int64_t quiet_ns = clock_mono_ns() - self->quiet_since_ns - (op_blocked_ns_total(op) - self->quiet_blocked_ns);
    if (self->options.idle_timeout_ms >= 0 && !self->is_idle && quiet_ns >= self->options.idle_timeout_ms * 1000000) {
        self->is_idle = true;
        TRY(op_emit_idle(op, true));
    }
    plan_wake(self, now_ms);
    return NULL;
}

static struct error *assign_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    struct op_assign_timestamps *self = (struct op_assign_timestamps *)op;
    (void)checkpoint_id;
    int64_t item[2] = {self->generator.max_timestamp, self->generator.watermark};
    snapshot_add_union_item(snapshot, WATERMARK_STATE, item, sizeof item);
    return NULL;
}

static struct error *on_restored_item(void *arg, const void *bytes, size_t length)
{
    struct op_assign_timestamps *self = arg;
    int64_t item[2];
    if (length != sizeof item)
        return error_new(CORRUPT, "watermark state has a wrong length");
    memcpy(item, bytes, sizeof item);
    if (!self->has_restored || item[1] < self->restored_watermark)
        self->restored_watermark = item[1];
    if (!self->has_restored || item[0] < self->restored_max_timestamp)
        self->restored_max_timestamp = item[0];
    self->has_restored = true;
    return NULL;
}

static struct error *assign_restore(struct op *op, struct restored_state *state)
{
    return restored_state_items(state, WATERMARK_STATE, on_restored_item, op);
}

const struct op_vtable op_assign_timestamps_vtable = {
    .type = "assign_timestamps",
    .create = assign_create,
    .restore = assign_restore,
    .open = assign_open,
    .process = assign_process,
    .watermark = assign_watermark,
    .wake = assign_wake,
    .snapshot = assign_snapshot,
    .destroy = assign_destroy,
    .generates_watermarks = true,
};
