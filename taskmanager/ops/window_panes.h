/* The panes of tumbling and sliding windows. A pane is all keys' values of one window: a state table of its own, fired by walking it and
 * dropped whole. Rows inside the allowed lateness of a pane that has fired are folded and fired one by one. A pane's processing-time end
 * is one wake-up. After a restore a pane counts as fired for the keys whose old subtask's watermark had passed it.
 * Owner: the window operator. Thread: task. */
#ifndef MILLRACE_OPS_WINDOW_PANES_H
#define MILLRACE_OPS_WINDOW_PANES_H

#include "taskmanager/ops/window_base.h"

#include "common/base/vec.h"

struct pane {
    int64_t end;
    int64_t start; /* not always end - size: one from a checkpoint of windows of another size keeps its bounds */
    struct state_table *table;
    bool is_fired; /* for all its keys: some may have fired alone, before a restore (window_base_is_uneven) */
};

struct window_panes {
    struct window_base *base; /* borrowed */
    VEC(struct pane) panes;   /* ascending by end, then by start */
    size_t last_pane;         /* where the last lookup ended */
    struct state_table *spare;
};

void window_panes_init(struct window_panes *self, struct window_base *base);
void window_panes_finish(struct window_panes *self);

/* Folds rows of the prepared batch (rows NULL: the first count) into the pane that ends at `end`, which takes them yet
 * (window_base_is_late). Of a fired pane the keys fire again. */
MUST_CHECK struct error *window_panes_add(struct window_panes *self, int64_t end, const struct batch *batch, const uint32_t *rows, uint32_t count);
/* For the rows in hand, their keys have fired already. */
bool window_panes_has_fired(const struct window_panes *self, int64_t end);
/* Fires what ends up to this watermark and drops what takes no more rows; or what is over when the clock shows now_ms. */
MUST_CHECK struct error *window_panes_watermark(struct window_panes *self, int64_t time);
MUST_CHECK struct error *window_panes_clock(struct window_panes *self, int64_t now_ms);
/* TIME_MAX: there is none. */
int64_t window_panes_next_end(const struct window_panes *self);

void window_panes_snapshot(const struct window_panes *self, struct snapshot *snapshot);
/* After window_base_restore. */
MUST_CHECK struct error *window_panes_restore(struct window_panes *self, struct restored_state *state);

#endif
