/* The slow part of ticks: see op_ticker.h. Thread: task. */
#include "taskmanager/ops/op_ticker.h"

#include "common/base/clock.h"

#define TICK_STRIDE_MAX 16u
#define SLOW_ROW_NS 1000000
#define PACE_ROWS_FIRST 4u

static const atomic_bool never;

struct op_ticker op_ticker_start(const struct op *op)
{
    const atomic_bool *is_aborting = op->ctx->is_aborting;
    return (struct op_ticker){.ctx = op->ctx, .is_aborting = is_aborting != NULL ? is_aborting : &never, .left = 1, .stride = 1};
}

bool op_ticker_look(struct op_ticker *ticker)
{
    const struct op_context *ctx = ticker->ctx;
    int64_t now = clock_mono_ns();
    bool is_slow = ticker->looked_ns != 0 && now - ticker->looked_ns > (int64_t)ticker->stride * SLOW_ROW_NS;
    ticker->looked_ns = now;
    ticker->is_slow = is_slow;
    ticker->stride = is_slow ? 1 : ticker->stride < TICK_STRIDE_MAX ? ticker->stride * 2 : TICK_STRIDE_MAX;
    ticker->left = ticker->stride;
    if (ctx->step_count != NULL)
        atomic_fetch_add_explicit(ctx->step_count, 1, memory_order_relaxed);
    if (ctx->slice_end_ns != NULL && now >= *ctx->slice_end_ns)
        return true;
    return atomic_load_explicit(ticker->is_aborting, memory_order_relaxed);
}

struct op_pace op_pace_start(const struct op *op, uint32_t row_count)
{
    return (struct op_pace){.ctx = op->ctx, .looked_ns = clock_mono_ns(), .row_count = row_count > 0 ? row_count : PACE_ROWS_FIRST};
}

bool op_pace_tick(struct op_pace *pace, uint32_t row_count)
{
    const struct op_context *ctx = pace->ctx;
    int64_t now = clock_mono_ns(), row_ns = (now - pace->looked_ns) / (int64_t)row_count + 1;
    pace->looked_ns = now;
    pace->row_count = row_count * 2;
    if (ctx->step_count != NULL)
        atomic_fetch_add_explicit(ctx->step_count, 1, memory_order_relaxed);
    if (ctx->is_aborting != NULL && atomic_load_explicit(ctx->is_aborting, memory_order_relaxed))
        return true;
    if (ctx->slice_end_ns == NULL)
        return false;
    int64_t fit = (*ctx->slice_end_ns - now) / row_ns;
    if (fit < (int64_t)pace->row_count)
        pace->row_count = fit > 0 ? (uint32_t)fit : 1;
    return now >= *ctx->slice_end_ns;
}
