/* How a loop over rows that calls user code learns that it has worked long enough: after each row (or a few) it ticks, and when a
 * tick says so it hands the rest of its batch back with op_hand_back. Mail, cancellation and metrics of the task then wait about
 * one slice of time and one user call, never a whole batch.
 * The clock is read after the first row, then after 2, 4, … 16 rows while they are fast, and after each row once they take 1 ms.
 * Thread: task; both live on the stack of process. */
#ifndef MILLRACE_OPS_OP_TICKER_H
#define MILLRACE_OPS_OP_TICKER_H

#include "taskmanager/ops/op.h"

struct op_ticker {
    const struct op_context *ctx;
    const atomic_bool *is_aborting;
    int64_t looked_ns; /* 0: not yet */
    uint32_t left;     /* ticks until the next look */
    uint32_t stride;   /* ticks between the last look and the next */
    bool is_slow;
};

struct op_ticker op_ticker_start(const struct op *op);
/* The slow part of a tick. */
bool op_ticker_look(struct op_ticker *ticker);

/* Rows take more than a millisecond each. */
static inline bool op_ticker_is_slow(const struct op_ticker *ticker)
{
    return ticker->is_slow;
}

/* True: stop here, the slice is used up or the task is being aborted. */
static inline bool op_ticker_tick(struct op_ticker *ticker)
{
    if (--ticker->left == 0)
        return op_ticker_look(ticker);
    return atomic_load_explicit(ticker->is_aborting, memory_order_relaxed);
}

/* The same for loops that take several rows at a time: how many the next chunk may have. Chunks grow as long as they are fast, and fit
 * into what is left of the slice. */
struct op_pace {
    const struct op_context *ctx;
    int64_t looked_ns;
    uint32_t row_count; /* of the next chunk */
};

/* row_count: of the first chunk; 0: a few. */
struct op_pace op_pace_start(const struct op *op, uint32_t row_count);
/* A chunk of so many rows is done. True: stop here. */
bool op_pace_tick(struct op_pace *pace, uint32_t row_count);

#endif
