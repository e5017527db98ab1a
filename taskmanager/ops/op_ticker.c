/* The slow part of ticks: see op_ticker.h. Thread: task. */
#include "taskmanager/ops/op_ticker.h"

#include "common/base/clock.h"

#define TICK_STRIDE_MAX 16u
#define SLOW_ROW_NS 1000000

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
