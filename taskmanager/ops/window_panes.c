/* Panes of tumbling and sliding windows: see window_panes.h. Thread: task. Owner: the window operator. */
#include "taskmanager/ops/window_panes.h"

#include "common/base/heap.h"
#include "taskmanager/ops/op_ticker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void window_panes_init(struct window_panes *self, struct window_base *base)
{
    *self = (struct window_panes){.base = base};
}

void window_panes_finish(struct window_panes *self)
{
    for (size_t i = 0; i < self->panes.count; i++)
        state_table_destroy(self->panes.items[i].table);
    vec_finish(&self->panes);
    state_table_destroy(self->spare);
}

static struct pane *pane_insert(struct window_panes *self, size_t at, int64_t start, int64_t end)
{
    struct pane pane = {.end = end, .start = start, .table = self->spare};
    self->spare = NULL;
    if (pane.table == NULL)
        pane.table = window_function_table(&self->base->function, NULL);
    vec_push(&self->panes, pane);
    memmove(&self->panes.items[at + 1], &self->panes.items[at], (self->panes.count - 1 - at) * sizeof pane);
    self->panes.items[at] = pane;
    if (!self->base->is_event_time)
        op_wake_at(&self->base->op, end);
    return &self->panes.items[at];
}

static bool is_pane(const struct window_panes *self, size_t at, int64_t start, int64_t end)
{
    return at < self->panes.count && self->panes.items[at].end == end && self->panes.items[at].start == start;
}

/* The pane of [start, end), made when absent; valid until panes come or go. */
static struct pane *pane_of(struct window_panes *self, int64_t start, int64_t end)
{
    if (is_pane(self, self->last_pane, start, end))
        return &self->panes.items[self->last_pane];
    size_t low = 0, high = self->panes.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct pane *pane = &self->panes.items[middle];
        if (pane->end < end || (pane->end == end && pane->start < start))
            low = middle + 1;
        else
            high = middle;
    }
    self->last_pane = low;
    if (is_pane(self, low, start, end))
        return &self->panes.items[low];
    struct pane *pane = pane_insert(self, low, start, end);
    pane->is_fired = self->base->is_event_time && end - 1 <= window_base_lowest_watermark(self->base);
    return pane;
}

/* Drops the first count panes. */
static void panes_drop(struct window_panes *self, size_t count)
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

/* For all keys but those that it fired for before the restore. */
static struct error *pane_fire(struct window_panes *self, struct pane *pane)
{
    const struct mr_window window = {pane->start, pane->end};
    struct window_function *function = &self->base->function;
    struct state_iterator iterator;
    const struct state_entry *entry;
    pane->is_fired = true;
    uint64_t fired = 0;
    struct op_ticker ticker = op_ticker_start(&self->base->op);
    window_function_enter(function);
    state_iterator_init(&iterator, pane->table);
    while (user_context_goes_on(&function->context, &ticker) && state_iterator_next(&iterator, &entry) != STATE_REF_NONE) {
        if (window_base_group_watermark(self->base, entry->key_group) >= pane->end - 1)
            continue;
        fired++;
        struct state_key key = {state_entry_key(entry), entry->key_length, entry->key_group, entry->hash};
        window_function_emit(function, &key, entry->data, entry->value_length, &window);
    }
    state_iterator_finish(&iterator);
    op_count_timers(&self->base->op, fired);
    return window_function_leave(function);
}

/* ---- rows ---- */

/* A pane that has fired already: each row fires its key again. */
static struct error *fold_and_fire(struct window_panes *self, struct pane *pane, const struct batch *batch, const uint32_t *rows, uint32_t count)
{
    const struct mr_window window = {pane->start, pane->end};
    struct window_function *function = &self->base->function;
    window_function_enter(function);
    for (uint32_t i = 0; i < count && !user_context_has_failed(&function->context); i++) {
        uint32_t row = rows != NULL ? rows[i] : i;
        struct state_key key = window_base_key(self->base, row);
        window_function_add_row(function, pane->table, batch, row, &key, NULL, 0);
        uint64_t ref = state_table_find(pane->table, key.key_group, key.hash, key.bytes, key.length, NULL, 0);
        if (ref == STATE_REF_NONE)
            continue;
        const struct state_entry *entry = state_table_entry(pane->table, ref);
        window_function_emit(function, &key, entry->data, entry->value_length, &window);
    }
    return window_function_leave(function);
}

bool window_panes_has_fired(const struct window_panes *self, int64_t end)
{
    return self->base->is_event_time && end - 1 <= window_base_watermark(self->base);
}

struct error *window_panes_add(struct window_panes *self, int64_t end, const struct batch *batch, const uint32_t *rows, uint32_t count)
{
    struct pane *pane = pane_of(self, end - self->base->size_ms, end);
    if (window_panes_has_fired(self, end))
        return fold_and_fire(self, pane, batch, rows, count);
    struct state_rows selection = window_base_rows(self->base, rows, count);
    window_function_add_rows(&self->base->function, pane->table, batch, &selection);
    if (!user_context_has_failed(&self->base->function.context))
        return NULL;
    window_function_enter(&self->base->function);
    return window_function_leave(&self->base->function);
}

/* ---- time ---- */

struct error *window_panes_watermark(struct window_panes *self, int64_t time)
{
    size_t expired = 0;
    for (size_t i = 0; i < self->panes.count && self->panes.items[i].end - 1 <= time; i++) {
        struct pane *pane = &self->panes.items[i];
        if (!pane->is_fired)
            TRY(pane_fire(self, pane));
        if (window_base_is_late(self->base, pane->end, time))
            expired = i + 1;
    }
    panes_drop(self, expired);
    window_base_watermark_passed(self->base, time);
    return NULL;
}

/* A window [start, end) is over when the clock shows end. */
struct error *window_panes_clock(struct window_panes *self, int64_t now_ms)
{
    size_t expired = 0;
    while (expired < self->panes.count && self->panes.items[expired].end <= now_ms)
        TRY(pane_fire(self, &self->panes.items[expired++]));
    panes_drop(self, expired);
    if (self->panes.count > 0)
        op_wake_at(&self->base->op, self->panes.items[0].end);
    return NULL;
}

int64_t window_panes_next_end(const struct window_panes *self)
{
    for (size_t i = 0; i < self->panes.count; i++)
        if (!self->panes.items[i].is_fired)
            return self->panes.items[i].end;
    return TIME_MAX;
}

/* ---- snapshots ---- */

void window_panes_snapshot(const struct window_panes *self, struct snapshot *snapshot)
{
    for (size_t i = 0; i < self->panes.count; i++) {
        const struct pane *pane = &self->panes.items[i];
        if (state_table_entry_count(pane->table) == 0)
            continue;
        char name[64];
        snprintf(name, sizeof name, WINDOW_PANE_STATE_PREFIX "%" PRId64 "/%" PRId64, pane->start, pane->end);
        json_t *meta = window_function_meta(&self->base->function);
        json_object_set_new(meta, "start", json_integer(pane->start));
        json_object_set_new(meta, "end", json_integer(pane->end));
        snapshot_add_table(snapshot, name, pane->table, meta);
    }
}

/* Older checkpoints do not tell the start. */
static struct error *restore_pane(struct window_panes *self, struct restored_state *state, const json_t *table)
{
    const char *name = json_string_value(json_object_get(table, "name"));
    const json_t *meta = json_object_get(table, "meta"), *start = json_object_get(meta, "start"), *end = json_object_get(meta, "end");
    if (name != NULL && strcmp(name, WINDOW_SESSIONS_STATE) == 0)
        return window_base_other_windows(self->base);
    if (name == NULL || strncmp(name, WINDOW_PANE_STATE_PREFIX, strlen(WINDOW_PANE_STATE_PREFIX)) != 0)
        return NULL;
    if (!json_is_integer(end))
        return error_new(CORRUPT, "window state %s has no end", name);
    int64_t end_ms = json_integer_value(end);
    struct pane *pane = pane_of(self, json_is_integer(start) ? json_integer_value(start) : end_ms - self->base->size_ms, end_ms);
    TRY(restored_state_load(state, name, pane->table));
    return window_function_convert(&self->base->function, pane->table, meta);
}

struct error *window_panes_restore(struct window_panes *self, struct restored_state *state)
{
    json_t *tables = restored_state_tables(state);
    struct error *err = NULL;
    for (size_t i = 0; i < json_array_size(tables) && err == NULL; i++)
        err = restore_pane(self, state, json_array_get(tables, i));
    json_decref(tables);
    return err;
}
