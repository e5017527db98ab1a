/* Tumbling and sliding windows over panes (window_panes.h). A batch is split into runs of rows with the same newest window, so that the
 * usual batch is one selection of one pane: one hash vector, one batched lookup, one call of the user's function a row.
 *
 * Rows for slow user functions are handed back when the slice is over. Within one pane that is possible behind any row. Otherwise a row may
 * belong to several panes, which are filled one after the other: then the batch goes in chunks, each into all of its panes.
 * Options: assigner, allowed_lateness_ms, late_side_output, key_columns, aggregate | reduce | builtin, window_function.
 * Thread: task. Owner: the operator chain.
 * source: Flink docs "Windows" (assigners, allowed lateness); start = ts - floorMod(ts - offset, slide) */
#include "taskmanager/ops/op_ticker.h"
#include "taskmanager/ops/window_panes.h"
#include "taskmanager/task/books.h"

#include "common/base/clock.h"
#include "common/base/heap.h"

#include <stdlib.h>
#include <string.h>

/* Newest windows that one split of a batch tells apart; more of them take several splits. */
#define RUN_COUNT_MAX 64

struct run { /* rows with the same newest window */
    int64_t start;
    uint32_t count;
    uint32_t first; /* in op_window.run_rows */
};

struct row_range {
    uint32_t first;
    uint32_t end;
};

struct op_window {
    struct window_base base; /* first member */
    struct window_panes panes;
    struct run runs[RUN_COUNT_MAX];
    uint32_t run_count;
    uint8_t *run_of_row; /* BATCH_ROWS_MAX each */
    uint32_t *run_rows;
    uint32_t *part_rows;
    uint64_t *row_bits; /* a bit a row */
    int64_t *now_times; /* processing time: the same for all rows of a batch */
};

extern const struct op_vtable op_window_vtable;

static void op_window_destroy(struct op *op)
{
    struct op_window *self = (struct op_window *)op;
    window_panes_finish(&self->panes);
    free(self->run_of_row);
    free(self->run_rows);
    free(self->part_rows);
    free(self->row_bits);
    free(self->now_times);
    window_base_finish(&self->base);
    free(self);
}

static struct error *init(struct op *op)
{
    struct op_window *self = (struct op_window *)op;
    window_panes_init(&self->panes, &self->base);
    TRY(window_base_init(&self->base));
    self->run_of_row = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->run_of_row);
    self->run_rows = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->run_rows);
    self->part_rows = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->part_rows);
    self->row_bits = heap_alloc_array(BATCH_ROWS_MAX / 64, sizeof *self->row_bits);
    if (!self->base.is_event_time)
        self->now_times = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->now_times);
    return NULL;
}

static struct error *op_window_create(struct op_context *ctx, struct op **out)
{
    const char *type = json_string_value(json_object_get(json_object_get(ctx->spec->options, "assigner"), "type"));
    if (type != NULL && strcmp(type, "session") == 0)
        return op_window_session_create(ctx, out);
    return op_create(&op_window_vtable, sizeof(struct op_window), ctx, init, out);
}

/* ---- rows ---- */

static void add_late(struct window_base *base, const uint32_t *rows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        base->late_rows[base->late_count++] = rows != NULL ? rows[i] : i;
}

/* Of rows (NULL: the first count), those before `end`, into part_rows. */
static uint32_t select_before(struct op_window *self, const int64_t *times, int64_t end, const uint32_t *rows, uint32_t count)
{
    uint32_t part = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = rows != NULL ? rows[i] : i;
        self->part_rows[part] = row;
        part += times[row] < end;
    }
    return part;
}

/* Rows whose newest window starts at `start`, into the window that starts at `at`: all of them, or those that lie in it. */
static struct error *add_part(struct op_window *self, const struct batch *batch, const int64_t *times, int64_t at, int64_t start,
                              const uint32_t *rows, uint32_t count)
{
    int64_t end = at + self->base.size_ms;
    if (end >= start + self->base.slide_ms)
        return window_panes_add(&self->panes, end, batch, rows, count);
    uint32_t part = select_before(self, times, end, rows, count);
    return part > 0 ? window_panes_add(&self->panes, end, batch, self->part_rows, part) : NULL;
}

/* Rows whose newest window starts at `start`: into that window and into the older ones that reach so far. */
static struct error *add_run(struct op_window *self, const struct batch *batch, const int64_t *times, int64_t start, const uint32_t *rows,
                             uint32_t count)
{
    struct window_base *base = &self->base;
    int64_t watermark = window_base_watermark(base);
    if (base->slide_ms > base->size_ms) { /* rows between two windows belong to none */
        uint32_t part = select_before(self, times, start + base->size_ms, rows, count);
        base->op.ctx->books->filtered += count - part;
        rows = self->part_rows;
        count = part;
    }
    if (count == 0)
        return NULL;
    if (window_base_is_late(base, start + base->size_ms, watermark)) {
        add_late(base, rows, count);
        return NULL;
    }
    if (base->slide_ms >= base->size_ms)
        return window_panes_add(&self->panes, start + base->size_ms, batch, rows, count);
    int64_t at = start - (base->size_ms - 1) / base->slide_ms * base->slide_ms;
    for (; at <= start; at += base->slide_ms)
        if (!window_base_is_late(base, at + base->size_ms, watermark))
            TRY(add_part(self, batch, times, at, start, rows, count));
    return NULL;
}

static void sort_runs(struct op_window *self)
{
    for (uint32_t i = 1; i < self->run_count; i++) {
        struct run run = self->runs[i];
        uint32_t at = i;
        for (; at > 0 && self->runs[at - 1].start > run.start; at--)
            self->runs[at] = self->runs[at - 1];
        self->runs[at] = run;
    }
}

/* Rows of runs first_run .. of this window, in order of arrival, into part_rows. */
static uint32_t select_of_runs(struct op_window *self, const int64_t *times, uint32_t first_run, int64_t end, struct row_range range)
{
    uint32_t part = 0, first_word = range.first / 64, end_word = (range.end + 63) / 64;
    memset(self->row_bits + first_word, 0, (end_word - first_word) * sizeof *self->row_bits);
    for (uint32_t r = first_run; r < self->run_count && self->runs[r].start < end; r++) {
        const uint32_t *rows = self->run_rows + self->runs[r].first;
        for (uint32_t i = 0; i < self->runs[r].count; i++)
            self->row_bits[rows[i] / 64] |= (uint64_t)(times[rows[i]] < end) << rows[i] % 64;
    }
    for (uint32_t word = first_word; word < end_word; word++)
        for (uint64_t bits = self->row_bits[word]; bits != 0; bits &= bits - 1)
            self->part_rows[part++] = word * 64 + (uint32_t)__builtin_ctzll(bits);
    return part;
}

/* Overlapping windows and rows of several runs: window by window, so that each sees its rows in order of arrival. */
static struct error *add_overlapping(struct op_window *self, const struct batch *batch, const int64_t *times, struct row_range range)
{
    struct window_base *base = &self->base;
    int64_t watermark = window_base_watermark(base), done = INT64_MIN;
    sort_runs(self);
    for (uint32_t r = 0; r < self->run_count; r++) {
        const struct run *run = &self->runs[r];
        if (window_base_is_late(base, run->start + base->size_ms, watermark))
            add_late(base, self->run_rows + run->first, run->count);
        int64_t at = run->start - (base->size_ms - 1) / base->slide_ms * base->slide_ms;
        for (; at <= run->start; at += base->slide_ms) {
            if (at <= done || window_base_is_late(base, at + base->size_ms, watermark))
                continue;
            done = at;
            uint32_t count = select_of_runs(self, times, r, at + base->size_ms, range);
            if (count > 0)
                TRY(window_panes_add(&self->panes, at + base->size_ms, batch, self->part_rows, count));
        }
    }
    return NULL;
}

static int64_t window_start(const struct window_base *base, int64_t time)
{
    int64_t remainder = (time - base->offset_ms) % base->slide_ms;
    return time - (remainder < 0 ? remainder + base->slide_ms : remainder);
}

static struct error *flush_runs(struct op_window *self, const struct batch *batch, const int64_t *times, struct row_range range)
{
    uint32_t at = 0;
    for (uint32_t r = 0; r < self->run_count; r++) {
        self->runs[r].first = at;
        at += self->runs[r].count;
        self->runs[r].count = 0;
    }
    for (uint32_t row = range.first; row < range.end; row++) {
        struct run *run = &self->runs[self->run_of_row[row]];
        self->run_rows[run->first + run->count++] = row;
    }
    if (self->base.slide_ms < self->base.size_ms && self->run_count > 1)
        TRY(add_overlapping(self, batch, times, range));
    else
        for (uint32_t r = 0; r < self->run_count; r++)
            TRY(add_run(self, batch, times, self->runs[r].start, self->run_rows + self->runs[r].first, self->runs[r].count));
    self->run_count = 0;
    return NULL;
}

/* False when there is no place for one more. */
static bool find_run(struct op_window *self, int64_t start, uint32_t *run)
{
    for (uint32_t r = 0; r < self->run_count; r++) {
        if (self->runs[r].start == start) {
            *run = r;
            return true;
        }
    }
    if (self->run_count == RUN_COUNT_MAX)
        return false;
    self->runs[self->run_count] = (struct run){.start = start};
    *run = self->run_count++;
    return true;
}

static struct error *split_into_runs(struct op_window *self, const struct batch *batch, const int64_t *times, struct row_range range)
{
    const struct window_base *base = &self->base;
    uint32_t run = 0;
    int64_t start = 0, end = INT64_MIN; /* of the newest window of the row before */
    self->run_count = 0;
    for (uint32_t row = range.first; row < range.end; row++) {
        if (times[row] < start || times[row] >= end || self->run_count == 0) {
            start = window_start(base, times[row]);
            end = start + base->slide_ms;
            if (!find_run(self, start, &run)) {
                TRY(flush_runs(self, batch, times, (struct row_range){range.first, row}));
                range.first = row;
                find_run(self, start, &run);
            }
        }
        self->run_of_row[row] = (uint8_t)run;
        self->runs[run].count++;
    }
    return flush_runs(self, batch, times, range);
}

static bool is_builtin(const struct op_window *self)
{
    return self->base.function.kind == WINDOW_BUILTIN;
}

/* All rows of the batch belong to the run that starts at `start`, and can go through it as they are: no user code is called, or they fill
 * one pane, whose rest of slow rows can be handed back. Entries are made for all keys of the selection before the first row is folded: that
 * must not show, as it would in windows of a reduce function, or when the clock fires a window meanwhile. */
static bool goes_as_a_whole(const struct op_window *self, int64_t start)
{
    const struct window_base *base = &self->base;
    if (window_base_is_uneven(base))
        return false;
    return is_builtin(self) || (base->slide_ms == base->size_ms && base->is_event_time && base->function.kind != WINDOW_REDUCE &&
                                !window_panes_has_fired(&self->panes, start + base->size_ms));
}

static struct error *add_whole(struct op_window *self, const struct batch *batch, const int64_t *times, int64_t start)
{
    struct window_function *function = &self->base.function;
    bool may_stop = !is_builtin(self);
    function->added_count = batch->row_count; /* also when the rows are late */
    function->may_stop = may_stop;
    struct error *err = add_run(self, batch, times, start, NULL, batch->row_count);
    function->may_stop = false;
    if (err == NULL && may_stop)
        op_hand_back(&self->base.op, 0, batch, function->added_count);
    return err;
}

/* The next rows: so many as there is time for, and of key groups that are equally far. */
static struct row_range next_chunk(const struct op_window *self, const struct batch *batch, uint32_t first, uint32_t count)
{
    const struct window_base *base = &self->base;
    uint32_t end = batch->row_count - first < count ? batch->row_count : first + count;
    if (!window_base_is_uneven(base))
        return (struct row_range){first, end};
    int64_t watermark = window_base_group_watermark(base, window_base_key(base, first).key_group);
    for (uint32_t row = first + 1; row < end; row++)
        if (window_base_group_watermark(base, window_base_key(base, row).key_group) != watermark)
            end = row;
    return (struct row_range){first, end};
}

static struct error *add_in_chunks(struct op_window *self, const struct batch *batch, const int64_t *times)
{
    struct window_base *base = &self->base;
    struct op_pace pace = op_pace_start(&base->op, is_builtin(self) ? batch->row_count : 0);
    struct row_range chunk = {0};
    for (bool is_over = false; chunk.end < batch->row_count && !is_over;) {
        chunk = next_chunk(self, batch, chunk.end, pace.row_count);
        window_base_enter_group(base, window_base_key(base, chunk.first).key_group);
        struct error *err = split_into_runs(self, batch, times, chunk);
        window_base_leave_group(base);
        TRY(err);
        is_over = op_pace_tick(&pace, chunk.end - chunk.first);
    }
    op_hand_back(&base->op, 0, batch, chunk.end);
    return NULL;
}

/* In processing time it is now for all rows. */
static struct error *times_of(struct op_window *self, const struct batch *batch, const int64_t **times)
{
    if (self->base.is_event_time)
        return window_base_times(&self->base, batch, times);
    int64_t now_ms = clock_now_ms();
    for (uint32_t i = 0; i < batch->row_count; i++)
        self->now_times[i] = now_ms;
    *times = self->now_times;
    return NULL;
}

static struct error *op_window_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct op_window *self = (struct op_window *)op;
    struct window_base *base = &self->base;
    const int64_t *times;
    (void)input;
    TRY(times_of(self, batch, &times));
    window_base_prepare(base, batch);
    int64_t lowest = INT64_MAX, highest = INT64_MIN;
    for (uint32_t i = 0; i < batch->row_count; i++) {
        lowest = times[i] < lowest ? times[i] : lowest;
        highest = times[i] > highest ? times[i] : highest;
    }
    int64_t start = window_start(base, lowest);
    if (highest < start + base->slide_ms && goes_as_a_whole(self, start))
        TRY(add_whole(self, batch, times, start));
    else
        TRY(add_in_chunks(self, batch, times));
    return window_base_flush_late(base, batch);
}

/* ---- time ---- */

static struct error *op_window_watermark(struct op *op, int64_t time, int64_t *forward)
{
    struct op_window *self = (struct op_window *)op;
    (void)forward;
    return self->base.is_event_time ? window_panes_watermark(&self->panes, time) : NULL;
}

static struct error *op_window_wake(struct op *op, int64_t now_ms)
{
    struct op_window *self = (struct op_window *)op;
    return self->base.is_event_time ? NULL : window_panes_clock(&self->panes, now_ms);
}

/* Open processing-time windows are given out when the stream is really over, not when the job stops to be resumed. */
static struct error *op_window_end_input(struct op *op)
{
    struct op_window *self = (struct op_window *)op;
    return self->base.is_event_time || op_current_watermark(op) != TIME_MAX ? NULL : window_panes_clock(&self->panes, INT64_MAX);
}

/* ---- state ---- */

static struct error *op_window_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    struct op_window *self = (struct op_window *)op;
    (void)checkpoint_id;
    window_base_snapshot(&self->base, snapshot);
    window_panes_snapshot(&self->panes, snapshot);
    return NULL;
}

static struct error *op_window_restore(struct op *op, struct restored_state *state)
{
    struct op_window *self = (struct op_window *)op;
    TRY(window_base_restore(&self->base, state));
    return window_panes_restore(&self->panes, state);
}

static void op_window_describe(struct op *op, json_t *report)
{
    const struct op_window *self = (const struct op_window *)op;
    window_base_describe(&self->base, window_panes_next_end(&self->panes), report);
}

const struct op_vtable op_window_vtable = {
    .type = "window",
    .create = op_window_create,
    .restore = op_window_restore,
    .process = op_window_process,
    .watermark = op_window_watermark,
    .wake = op_window_wake,
    .snapshot = op_window_snapshot,
    .end_input = op_window_end_input,
    .describe = op_window_describe,
    .destroy = op_window_destroy,
    .hands_back = true,
};
