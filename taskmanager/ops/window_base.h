/* What pane windows (op_window.c) and session windows (op_window_session.c) share: options, the keys of a batch, lateness, the
 * watermark that outlives a restore. Owner: the window operator. Thread: task. */
#ifndef MILLRACE_OPS_WINDOW_BASE_H
#define MILLRACE_OPS_WINDOW_BASE_H

#include "taskmanager/ops/window_function.h"
#include "taskmanager/state/snapshot.h"

enum window_assigner { ASSIGN_TUMBLING, ASSIGN_SLIDING, ASSIGN_SESSION };

struct window_base {
    struct op op; /* first member */
    enum window_assigner assigner;
    bool is_event_time;
    int64_t size_ms; /* tumbling: slide_ms == size_ms */
    int64_t slide_ms;
    int64_t offset_ms;
    int64_t gap_ms;
    int64_t lateness_ms;
    int32_t late_side_output; /* -1: late rows are dropped and counted */
    struct key_columns keys;
    struct window_function function;
    int64_t restored_watermark; /* the lowest of our key groups' */
    int64_t *group_watermarks;  /* restored, by key group from key_group_first on; NULL: they are all alike, or passed */
    int64_t entered_watermark;  /* of the key group in hand; TIME_MIN: none is */

    /* the batch in hand */
    struct encoded_rows key_rows;
    uint64_t *hashes; /* BATCH_ROWS_MAX each */
    uint32_t *late_rows;
    uint32_t late_count;

    /* the last row of this attempt that was dropped as late */
    int64_t late_time;         /* its event time */
    int64_t late_watermark;    /* the watermark that it was behind */
    int64_t late_ms;           /* wall clock; -1: none was */
};

/* Parses the options of a window of any kind. On failure window_base_finish is still to be called. */
MUST_CHECK struct error *window_base_init(struct window_base *base);
void window_base_finish(struct window_base *base);

/* Hashes and key bytes of a batch. */
void window_base_prepare(struct window_base *base, const struct batch *batch);
/* Selection rows (NULL: all count rows) of the prepared batch, with an empty namespace and without key groups. */
struct state_rows window_base_rows(const struct window_base *base, const uint32_t *rows, uint32_t count);
struct state_key window_base_key(const struct window_base *base, uint32_t row);

/* Event time is as late as this: the input watermark, or the one of the checkpoint until that is reached again. */
int64_t window_base_watermark(const struct window_base *base);
/* The same, whatever key group is in hand. */
int64_t window_base_lowest_watermark(const struct window_base *base);
/* After a rescale from subtasks that were not equally far, some key groups are farther than the others, until the input watermark has
 * caught up with them all. Around work on rows of one key group: it is its own watermark that counts then. */
void window_base_enter_group(struct window_base *base, uint32_t key_group);
void window_base_leave_group(struct window_base *base);
static inline bool window_base_is_uneven(const struct window_base *base)
{
    return base->group_watermarks != NULL;
}
/* What the subtask that had the key group before the restore was as far as; TIME_MIN when all were equally far. */
static inline int64_t window_base_group_watermark(const struct window_base *base, uint32_t key_group)
{
    return window_base_is_uneven(base) ? base->group_watermarks[key_group - base->op.ctx->key_group_first] : TIME_MIN;
}
/* To be called when the operator has done what an input watermark asks for. */
void window_base_watermark_passed(struct window_base *base, int64_t time);
static inline int64_t time_add(int64_t time, int64_t add)
{
    int64_t sum;
    return __builtin_add_overflow(time, add, &sum) ? (add > 0 ? INT64_MAX : INT64_MIN) : sum;
}
/* A window that ends at `end` takes no more rows. Processing-time windows are never late. */
static inline bool window_base_is_late(const struct window_base *base, int64_t end, int64_t watermark)
{
    return base->is_event_time && time_add(end - 1, base->lateness_ms) <= watermark;
}
/* Sends the batch's late rows to the side output, or counts them. */
MUST_CHECK struct error *window_base_flush_late(struct window_base *base, const struct batch *batch);
/* For op_vtable.describe: "window" {"is_event_time", "next_end": of the first window that has not fired, TIME_MAX: there is none or it is
 * not known} and, once rows were dropped, "late" {"event_time", "watermark", "last"}. */
void window_base_describe(const struct window_base *base, int64_t next_end, json_t *report);
/* The event times of the batch; an error names the operator when there are none. */
MUST_CHECK struct error *window_base_times(const struct window_base *base, const struct batch *batch, const int64_t **times);

void window_base_snapshot(struct window_base *base, struct snapshot *snapshot);
MUST_CHECK struct error *window_base_restore(struct window_base *base, struct restored_state *state);
/* The state holds session windows and the program has others, or the other way round. */
struct error *window_base_other_windows(const struct window_base *base);
#define WINDOW_PANE_STATE_PREFIX "window/"
#define WINDOW_SESSIONS_STATE "sessions"

/* op_window_session.c */
MUST_CHECK struct error *op_window_session_create(struct op_context *ctx, struct op **out);

#endif
