/* Tumbling and sliding windows. A pane is all keys' values of one window: a state table of its own, fired by walking it and
 * dropped whole. A batch is split into runs of rows with the same newest window, so that the usual batch is one selection
 * of one pane: one hash vector, one batched lookup, one call of the user's function a row.
 *
 * Rows inside the allowed lateness of a pane that has fired are folded and fired one by one. A pane's processing-time end
 * is one wake-up. After a restore a pane counts as fired when the checkpoint's watermark had passed it.
 * Options: assigner, allowed_lateness_ms, late_side_output, key_columns, aggregate | reduce | builtin, window_function.
 * Thread: task. Owner: the operator chain.
 * source: Flink docs "Windows" (assigners, allowed lateness); start = ts - floorMod(ts - offset, slide) */
#include "taskmanager/ops/window_base.h"
#include "taskmanager/task/books.h"

#include "common/base/clock.h"
#include "common/base/heap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Newest windows that one split of a batch tells apart; more of them take several splits. */
#define RUN_COUNT_MAX 64
#define PANE_STATE_PREFIX "window/"

struct pane {
    int64_t end;
    struct state_table *table;
    bool is_fired;
};

struct run { /* rows with the same newest window */
    int64_t start;
    uint32_t count;
    uint32_t first; /* in op_window.run_rows */
};

struct op_window {
    struct window_base base; /* first member */
    VEC(struct pane) panes;  /* ascending by end */
    size_t last_pane;        /* where the last lookup ended */
    struct state_table *spare;
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
    for (size_t i = 0; i < self->panes.count; i++)
        state_table_destroy(self->panes.items[i].table);
    vec_finish(&self->panes);
    state_table_destroy(self->spare);
    free(self->run_of_row);
    free(self->run_rows);
    free(self->part_rows);
    free(self->row_bits);
    free(self->now_times);
    window_base_finish(&self->base);
    free(self);
}

static struct error *op_window_create(struct op_context *ctx, struct op **out)
{
    const char *type = json_string_value(json_object_get(json_object_get(ctx->spec->options, "assigner"), "type"));
    if (type != NULL && strcmp(type, "session") == 0)
        return op_window_session_create(ctx, out);
    struct op_window *self = heap_new(struct op_window);
    struct error *err = window_base_init(&self->base, &op_window_vtable, ctx);
    if (err != NULL) {
        op_window_destroy(&self->base.op);
        return err;
    }
    self->run_of_row = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->run_of_row);
    self->run_rows = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->run_rows);
    self->part_rows = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->part_rows);
    self->row_bits = heap_alloc_array(BATCH_ROWS_MAX / 64, sizeof *self->row_bits);
    if (!self->base.is_event_time)
        self->now_times = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->now_times);
    *out = &self->base.op;
    return NULL;
}

/* ---- panes ---- */

static struct pane *pane_insert(struct op_window *self, size_t at, int64_t end)
{
    struct pane pane = {.end = end, .table = self->spare};
    self->spare = NULL;
    if (pane.table == NULL)
        pane.table = window_function_table(&self->base.function, NULL);
    vec_push(&self->panes, pane);
    memmove(&self->panes.items[at + 1], &self->panes.items[at], (self->panes.count - 1 - at) * sizeof pane);
    self->panes.items[at] = pane;
    if (!self->base.is_event_time)
        op_wake_at(&self->base.op, end);
    return &self->panes.items[at];
}

/* The pane that ends at `end`, made when absent; valid until panes come or go. */
static struct pane *pane_of(struct op_window *self, int64_t end)
{
    if (self->last_pane < self->panes.count && self->panes.items[self->last_pane].end == end)
        return &self->panes.items[self->last_pane];
    size_t low = 0, high = self->panes.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (self->panes.items[middle].end < end)
            low = middle + 1;
        else
            high = middle;
    }
    self->last_pane = low;
    if (low < self->panes.count && self->panes.items[low].end == end)
        return &self->panes.items[low];
    struct pane *pane = pane_insert(self, low, end);
    pane->is_fired = self->base.is_event_time && end - 1 <= window_base_watermark(&self->base);
    return pane;
}

/* Drops the first count panes. */
static void panes_drop(struct op_window *self, size_t count)
{
    if (count == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct state_table *table = self->panes.items[i].table;
        if (self->spare == NULL) {
            state_table_clear(table);
            self->spare = table;
        } else {
            state_table_destroy(table);
        }
    }
    self->panes.count -= count;
    memmove(self->panes.items, self->panes.items + count, self->panes.count * sizeof *self->panes.items);
    self->last_pane = 0;
}

static struct error *pane_fire(struct op_window *self, struct pane *pane)
{
    const struct mr_window window = {pane->end - self->base.size_ms, pane->end};
    struct window_function *function = &self->base.function;
    struct state_iterator iterator;
    const struct state_entry *entry;
    pane->is_fired = true;
    uint64_t fired = 0;
    window_function_enter(function);
    state_iterator_init(&iterator, pane->table);
    while (!user_context_has_failed(&function->context) && state_iterator_next(&iterator, &entry) != STATE_REF_NONE) {
        fired++;
        struct state_key key = {state_entry_key(entry), entry->key_length, entry->key_group, entry->hash};
        window_function_emit(function, &key, entry->data, entry->value_length, &window);
    }
    state_iterator_finish(&iterator);
    op_count_timers(&self->base.op, fired);
    return window_function_leave(function);
}

/* ---- rows ---- */

/* A pane that has fired already: each row fires its key again. */
static struct error *fold_and_fire(struct op_window *self, struct pane *pane, const struct batch *batch, const uint32_t *rows, uint32_t count)
{
    const struct mr_window window = {pane->end - self->base.size_ms, pane->end};
    struct window_function *function = &self->base.function;
    window_function_enter(function);
    for (uint32_t i = 0; i < count && !user_context_has_failed(&function->context); i++) {
        uint32_t row = rows != NULL ? rows[i] : i;
        struct state_key key = window_base_key(&self->base, row);
        window_function_add_row(function, pane->table, batch, row, &key, NULL, 0);
        uint64_t ref = state_table_find(pane->table, key.key_group, key.hash, key.bytes, key.length, NULL, 0);
        if (ref == STATE_REF_NONE)
            continue;
        const struct state_entry *entry = state_table_entry(pane->table, ref);
        window_function_emit(function, &key, entry->data, entry->value_length, &window);
    }
    return window_function_leave(function);
}

static struct error *add_to_pane(struct op_window *self, int64_t end, const struct batch *batch, const uint32_t *rows, uint32_t count)
{
    struct pane *pane = pane_of(self, end);
    if (pane->is_fired)
        return fold_and_fire(self, pane, batch, rows, count);
    struct state_rows selection = window_base_rows(&self->base, rows, count);
    window_function_add_rows(&self->base.function, pane->table, batch, &selection);
    if (!user_context_has_failed(&self->base.function.context))
        return NULL;
    window_function_enter(&self->base.function);
    return window_function_leave(&self->base.function);
}

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
        return add_to_pane(self, end, batch, rows, count);
    uint32_t part = select_before(self, times, end, rows, count);
    return part > 0 ? add_to_pane(self, end, batch, self->part_rows, part) : NULL;
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
        return add_to_pane(self, start + base->size_ms, batch, rows, count);
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

/* Rows of runs first .. of this window, in order of arrival, into part_rows. */
static uint32_t select_of_runs(struct op_window *self, const int64_t *times, uint32_t first, int64_t end, uint32_t row_count)
{
    uint32_t part = 0;
    memset(self->row_bits, 0, (row_count + 63) / 64 * sizeof *self->row_bits);
    for (uint32_t r = first; r < self->run_count && self->runs[r].start < end; r++) {
        const uint32_t *rows = self->run_rows + self->runs[r].first;
        for (uint32_t i = 0; i < self->runs[r].count; i++)
            self->row_bits[rows[i] / 64] |= (uint64_t)(times[rows[i]] < end) << rows[i] % 64;
    }
    for (uint32_t word = 0; word < (row_count + 63) / 64; word++)
        for (uint64_t bits = self->row_bits[word]; bits != 0; bits &= bits - 1)
            self->part_rows[part++] = word * 64 + (uint32_t)__builtin_ctzll(bits);
    return part;
}

/* Overlapping windows and rows of several runs: window by window, so that each sees its rows in order of arrival. */
static struct error *add_overlapping(struct op_window *self, const struct batch *batch, const int64_t *times)
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
            uint32_t count = select_of_runs(self, times, r, at + base->size_ms, batch->row_count);
            if (count > 0)
                TRY(add_to_pane(self, at + base->size_ms, batch, self->part_rows, count));
        }
    }
    return NULL;
}

static int64_t window_start(const struct window_base *base, int64_t time)
{
    int64_t remainder = (time - base->offset_ms) % base->slide_ms;
    return time - (remainder < 0 ? remainder + base->slide_ms : remainder);
}

static struct error *flush_runs(struct op_window *self, const struct batch *batch, const int64_t *times, uint32_t first, uint32_t end)
{
    uint32_t at = 0;
    for (uint32_t r = 0; r < self->run_count; r++) {
        self->runs[r].first = at;
        at += self->runs[r].count;
        self->runs[r].count = 0;
    }
    for (uint32_t row = first; row < end; row++) {
        struct run *run = &self->runs[self->run_of_row[row]];
        self->run_rows[run->first + run->count++] = row;
    }
    if (self->base.slide_ms < self->base.size_ms)
        TRY(add_overlapping(self, batch, times));
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

static struct error *split_into_runs(struct op_window *self, const struct batch *batch, const int64_t *times)
{
    const struct window_base *base = &self->base;
    uint32_t first = 0, run = 0;
    int64_t start = 0, end = INT64_MIN; /* of the newest window of the row before */
    self->run_count = 0;
    for (uint32_t row = 0; row < batch->row_count; row++) {
        if (times[row] < start || times[row] >= end || self->run_count == 0) {
            start = window_start(base, times[row]);
            end = start + base->slide_ms;
            if (!find_run(self, start, &run)) {
                TRY(flush_runs(self, batch, times, first, row));
                first = row;
                find_run(self, start, &run);
            }
        }
        self->run_of_row[row] = (uint8_t)run;
        self->runs[run].count++;
    }
    return flush_runs(self, batch, times, first, batch->row_count);
}

/* All rows of the batch belong to one run. Where that is one window, the rest of slow rows is handed back when the slice is over. Entries are
 * made for all keys of the selection before the first row is folded: that must not show, as it would in windows of a reduce function, or
 * when the clock fires a window meanwhile. */
static struct error *add_single_run(struct op_window *self, const struct batch *batch, const int64_t *times, int64_t start)
{
    struct window_function *function = &self->base.function;
    bool may_stop = self->base.slide_ms == self->base.size_ms && self->base.is_event_time && function->kind != WINDOW_REDUCE;
    function->added_count = batch->row_count; /* also when the rows are late */
    function->may_stop = may_stop;
    struct error *err = add_run(self, batch, times, start, NULL, batch->row_count);
    function->may_stop = false;
    if (err == NULL && may_stop)
        op_hand_back(&self->base.op, 0, batch, function->added_count);
    return err;
}

static struct error *op_window_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct op_window *self = (struct op_window *)op;
    struct window_base *base = &self->base;
    (void)input;
    window_base_prepare(base, batch);
    if (!base->is_event_time) {
        int64_t now_ms = clock_now_ms();
        for (uint32_t i = 0; i < batch->row_count; i++)
            self->now_times[i] = now_ms;
        return add_single_run(self, batch, self->now_times, window_start(base, now_ms));
    }
    const int64_t *times;
    TRY(window_base_times(base, batch, &times));
    int64_t lowest = INT64_MAX, highest = INT64_MIN;
    for (uint32_t i = 0; i < batch->row_count; i++) {
        lowest = times[i] < lowest ? times[i] : lowest;
        highest = times[i] > highest ? times[i] : highest;
    }
    int64_t start = window_start(base, lowest);
    struct error *err = highest < start + base->slide_ms ? add_single_run(self, batch, times, start)
                                                        : split_into_runs(self, batch, times);
    if (err != NULL)
        return err;
    return window_base_flush_late(base, batch);
}

/* ---- time ---- */

static struct error *op_window_watermark(struct op *op, int64_t time, int64_t *forward)
{
    struct op_window *self = (struct op_window *)op;
    (void)forward;
    if (!self->base.is_event_time)
        return NULL;
    size_t expired = 0;
    for (size_t i = 0; i < self->panes.count && self->panes.items[i].end - 1 <= time; i++) {
        struct pane *pane = &self->panes.items[i];
        if (!pane->is_fired)
            TRY(pane_fire(self, pane));
        if (window_base_is_late(&self->base, pane->end, time))
            expired = i + 1;
    }
    panes_drop(self, expired);
    return NULL;
}

/* A window [start, end) is over when the clock shows end. */
static struct error *fire_processing(struct op_window *self, int64_t now_ms)
{
    size_t expired = 0;
    while (expired < self->panes.count && self->panes.items[expired].end <= now_ms)
        TRY(pane_fire(self, &self->panes.items[expired++]));
    panes_drop(self, expired);
    if (self->panes.count > 0)
        op_wake_at(&self->base.op, self->panes.items[0].end);
    return NULL;
}

static struct error *op_window_wake(struct op *op, int64_t now_ms)
{
    struct op_window *self = (struct op_window *)op;
    return self->base.is_event_time ? NULL : fire_processing(self, now_ms);
}

/* Open processing-time windows are given out when the stream is really over, not when the job stops to be resumed. */
static struct error *op_window_end_input(struct op *op)
{
    struct op_window *self = (struct op_window *)op;
    return self->base.is_event_time || op_current_watermark(op) != TIME_MAX ? NULL : fire_processing(self, INT64_MAX);
}

/* ---- snapshots ---- */

static struct error *op_window_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    struct op_window *self = (struct op_window *)op;
    (void)checkpoint_id;
    window_base_snapshot(&self->base, snapshot);
    for (size_t i = 0; i < self->panes.count; i++) {
        const struct pane *pane = &self->panes.items[i];
        if (state_table_entry_count(pane->table) == 0)
            continue;
        char name[48];
        snprintf(name, sizeof name, PANE_STATE_PREFIX "%" PRId64, pane->end);
        json_t *meta = window_function_meta(&self->base.function);
        json_object_set_new(meta, "end", json_integer(pane->end));
        snapshot_add_table(snapshot, name, pane->table, meta);
    }
    return NULL;
}

static struct error *restore_pane(struct op_window *self, struct restored_state *state, const json_t *table)
{
    const char *name = json_string_value(json_object_get(table, "name"));
    const json_t *meta = json_object_get(table, "meta");
    if (name == NULL || strncmp(name, PANE_STATE_PREFIX, strlen(PANE_STATE_PREFIX)) != 0)
        return NULL;
    if (!json_is_integer(json_object_get(meta, "end")))
        return error_new(CORRUPT, "window state %s has no end", name);
    struct pane *pane = pane_of(self, json_integer_value(json_object_get(meta, "end")));
    TRY(restored_state_load(state, name, pane->table));
    return window_function_convert(&self->base.function, pane->table, meta);
}

static struct error *op_window_restore(struct op *op, struct restored_state *state)
{
    struct op_window *self = (struct op_window *)op;
    TRY(window_base_restore(&self->base, state));
    json_t *tables = restored_state_tables(state);
    struct error *err = NULL;
    for (size_t i = 0; i < json_array_size(tables) && err == NULL; i++)
        err = restore_pane(self, state, json_array_get(tables, i));
    json_decref(tables);
    return err;
}

static void op_window_describe(struct op *op, json_t *report)
{
    const struct op_window *self = (const struct op_window *)op;
    int64_t next_end = TIME_MAX;
    for (size_t i = 0; i < self->panes.count && next_end == TIME_MAX; i++)
        if (!self->panes.items[i].is_fired)
            next_end = self->panes.items[i].end;
    window_base_describe(&self->base, next_end, report);
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
};
