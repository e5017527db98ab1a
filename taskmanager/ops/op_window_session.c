/* Session windows. Each row opens [t, t + gap); windows of a key that overlap or touch merge into one. Two state tables:
 *   sessions  (key) -> array of {start, end, id, is_fired}, ascending by start
 *   values    (key, id) -> what the window function keeps of the session
 * so that a session that grows changes 8 bytes, and only real merges move values. A timer stands at or before each session's next
 * event (its end, or the end of its lateness); one that comes too early registers the right one. Timers follow from the sessions
 * and are rebuilt on restore. Thread: task. Owner: the operator chain.
 * source: Flink docs, "Session Windows"; windows that touch merge (TimeWindow.intersects) */
#include "taskmanager/ops/op_ticker.h"
#include "taskmanager/ops/window_base.h"

#include "common/base/clock.h"
#include "common/base/heap.h"

#include <stdlib.h>
#include <string.h>

#define VALUES_STATE "values"

struct session {
    int64_t start;
    int64_t end;
    uint64_t id; /* unique among the key's sessions; the namespace of its value */
    uint64_t is_fired;
};

struct op_window_session {
    struct window_base base; /* first member */
    struct state_table *sessions;
    struct state_table *values;
    struct timer_service *timers;
    VEC(struct session) list; /* sessions of the key in hand */
};

extern const struct op_vtable op_window_session_vtable;

static void session_destroy(struct op *op)
{
    struct op_window_session *self = (struct op_window_session *)op;
    state_table_destroy(self->sessions);
    state_table_destroy(self->values);
    timer_service_destroy(self->timers);
    vec_finish(&self->list);
    window_base_finish(&self->base);
    free(self);
}

static struct error *init(struct op *op)
{
    struct op_window_session *self = (struct op_window_session *)op;
    struct op_context *ctx = op->ctx;
    struct window_base *base = &self->base;
    TRY(window_base_init(base));
    if (!window_function_can_merge(&base->function))
        return error_with_hint(error_new(INVALID_PROGRAM, "operator %s: aggregate function %s cannot merge session windows", ctx->spec->name,
                                         base->function.fold->name),
                               "define it with MR_AGGREGATE_MERGE");
    struct schema *key_schema = base->function.context.key_codec->schema;
    struct state_table_options options = {
        .key_group_first = ctx->key_group_first,
        .key_group_last = ctx->key_group_last,
        .key_schema = key_schema,
        .value_form = STATE_VALUE_BYTES,
    };
    self->sessions = state_table_create(&options);
    self->values = window_function_table(&base->function, NULL);
    self->timers = timer_service_create(key_schema, ctx->key_group_first, ctx->key_group_last);
    return NULL;
}

struct error *op_window_session_create(struct op_context *ctx, struct op **out)
{
    return op_create(&op_window_session_vtable, sizeof(struct op_window_session), ctx, init, out);
}

/* ---- the sessions of a key ---- */

static void list_load(struct op_window_session *self, const struct state_key *key)
{
    vec_clear(&self->list);
    uint64_t ref = state_table_find(self->sessions, key->key_group, key->hash, key->bytes, key->length, NULL, 0);
    if (ref == STATE_REF_NONE)
        return;
    const struct state_entry *entry = state_table_entry(self->sessions, ref);
    size_t count = entry->value_length / sizeof(struct session);
    vec_reserve(&self->list, count);
    memcpy(self->list.items, entry->data, count * sizeof(struct session));
    self->list.count = count;
}

static void list_store(struct op_window_session *self, const struct state_key *key)
{
    if (self->list.count == 0)
        state_table_remove(self->sessions, key->key_group, key->hash, key->bytes, key->length, NULL, 0);
    else
        state_table_put(self->sessions, key->key_group, key->hash, key->bytes, key->length, NULL, 0, self->list.items,
                        (uint32_t)(self->list.count * sizeof(struct session)));
}

static uint64_t new_id(const struct op_window_session *self)
{
    uint64_t id = 0;
    for (size_t i = 0; i < self->list.count; i++)
        id = self->list.items[i].id >= id ? self->list.items[i].id + 1 : id;
    return id;
}

static void plan(struct op_window_session *self, const struct state_key *key, int64_t time)
{
    enum timer_domain domain = self->base.is_event_time ? TIMER_EVENT : TIMER_PROCESSING;
    timer_service_register(self->timers, domain, key, time);
    if (domain == TIMER_PROCESSING)
        op_wake_at(&self->base.op, time_add(time, 1)); /* over when the clock shows its end */
}

/* When something is to be done about the session next. */
static int64_t next_event(const struct op_window_session *self, const struct session *session)
{
    return session->is_fired ? time_add(session->end - 1, self->base.lateness_ms) : session->end - 1;
}

/* The session that takes a row of this time: a new one, a grown one, or several merged. NULL: the row is late. */
static struct session *session_for(struct op_window_session *self, const struct state_key *key, int64_t time)
{
    int64_t start = time, end = time_add(time, self->base.gap_ms);
    size_t first = 0;
    while (first < self->list.count && self->list.items[first].end < start)
        first++;
    size_t last = first; /* exclusive */
    for (; last < self->list.count && self->list.items[last].start <= end; last++) {
        start = self->list.items[last].start < start ? self->list.items[last].start : start;
        end = self->list.items[last].end > end ? self->list.items[last].end : end;
    }
    if (last == first) {
        if (window_base_is_late(&self->base, end, window_base_watermark(&self->base)))
            return NULL;
        struct session session = {start, end, new_id(self), 0};
        vec_push(&self->list, session);
        memmove(&self->list.items[first + 1], &self->list.items[first], (self->list.count - 1 - first) * sizeof session);
        self->list.items[first] = session;
        plan(self, key, end - 1);
        return &self->list.items[first];
    }
    struct session *into = &self->list.items[first];
    for (size_t i = first + 1; i < last; i++)
        window_function_merge(&self->base.function, self->values, key, &self->list.items[i].id, &into->id, sizeof into->id);
    bool has_grown = end != into->end || last - first > 1;
    into->start = start;
    into->end = end;
    memmove(into + 1, &self->list.items[last], (self->list.count - last) * sizeof *into);
    self->list.count -= last - first - 1;
    if (has_grown && into->is_fired) {
        into->is_fired = 0;
        plan(self, key, end - 1);
    }
    return into;
}

static void emit_session(struct op_window_session *self, const struct state_key *key, struct session *session)
{
    session->is_fired = 1;
    uint64_t ref = state_table_find(self->values, key->key_group, key->hash, key->bytes, key->length, &session->id, sizeof session->id);
    if (ref == STATE_REF_NONE)
        return;
    const struct state_entry *entry = state_table_entry(self->values, ref);
    const struct mr_window window = {session->start, session->end};
    window_function_emit(&self->base.function, key, entry->data, entry->value_length, &window);
}

static void add_row(struct op_window_session *self, const struct batch *batch, uint32_t row, const struct state_key *key, int64_t time)
{
    struct window_base *base = &self->base;
    list_load(self, key);
    struct session *session = session_for(self, key, time);
    if (session == NULL) {
        base->late_rows[base->late_count++] = row;
        return;
    }
    window_function_add_row(&base->function, self->values, batch, row, key, &session->id, sizeof session->id);
    if (base->is_event_time && session->end - 1 <= window_base_watermark(base)) {
        emit_session(self, key, session);
        plan(self, key, next_event(self, session));
    }
    list_store(self, key);
}

static void add_row_in_its_time(struct op_window_session *self, const struct batch *batch, uint32_t row, int64_t time)
{
    struct state_key key = window_base_key(&self->base, row);
    window_base_enter_group(&self->base, key.key_group);
    add_row(self, batch, row, &key, time);
    window_base_leave_group(&self->base);
}

static struct error *session_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct op_window_session *self = (struct op_window_session *)op;
    struct window_base *base = &self->base;
    const int64_t *times = NULL;
    if (base->is_event_time)
        TRY(window_base_times(base, batch, &times));
    int64_t now_ms = clock_now_ms();
    window_base_prepare(base, batch);
    struct op_ticker ticker = op_ticker_start(op);
    uint32_t done = 0;
    bool is_over = false;
    window_function_enter(&base->function);
    for (; done < batch->row_count && !is_over && !user_context_has_failed(&base->function.context); done++) {
        add_row_in_its_time(self, batch, done, times != NULL ? times[done] : now_ms);
        is_over = op_ticker_tick(&ticker);
    }
    TRY(window_function_leave(&base->function));
    op_hand_back(op, input, batch, done);
    return window_base_flush_late(base, batch);
}

/* ---- time ---- */

/* The key's sessions that are due at `time`: fire, then drop what takes no more rows. */
static void key_due(struct op_window_session *self, const struct state_key *key, int64_t time)
{
    list_load(self, key);
    size_t kept = 0;
    for (size_t i = 0; i < self->list.count; i++) {
        struct session session = self->list.items[i];
        if (!session.is_fired && session.end - 1 <= time)
            emit_session(self, key, &session);
        bool is_over = session.is_fired && (!self->base.is_event_time || next_event(self, &session) <= time);
        if (is_over)
            state_table_remove(self->values, key->key_group, key->hash, key->bytes, key->length, &session.id, sizeof session.id);
        else
            self->list.items[kept++] = session;
        if (!is_over)
            plan(self, key, next_event(self, &session));
    }
    self->list.count = kept;
    list_store(self, key);
}

static struct error *fire(struct op_window_session *self, enum timer_domain domain, int64_t until)
{
    struct window_function *function = &self->base.function;
    struct state_key key;
    int64_t time;
    if (timer_service_next(self->timers, domain) > until)
        return NULL;
    struct op_ticker ticker = op_ticker_start(&self->base.op);
    window_function_enter(function);
    while (user_context_goes_on(&function->context, &ticker) && timer_service_pop(self->timers, domain, until, &key, &time)) {
        op_count_timers(&self->base.op, 1);
        key_due(self, &key, time);
    }
    return window_function_leave(function);
}

static struct error *session_watermark(struct op *op, int64_t time, int64_t *forward)
{
    (void)forward;
    struct op_window_session *self = (struct op_window_session *)op;
    TRY(fire(self, TIMER_EVENT, time));
    window_base_watermark_passed(&self->base, time);
    return NULL;
}

static struct error *session_wake(struct op *op, int64_t now_ms)
{
    struct op_window_session *self = (struct op_window_session *)op;
    TRY(fire(self, TIMER_PROCESSING, now_ms - 1));
    int64_t next = timer_service_next(self->timers, TIMER_PROCESSING);
    if (next != INT64_MAX)
        op_wake_at(op, time_add(next, 1));
    return NULL;
}

static struct error *session_end_input(struct op *op)
{
    struct op_window_session *self = (struct op_window_session *)op;
    return self->base.is_event_time || op_current_watermark(op) != TIME_MAX ? NULL : fire(self, TIMER_PROCESSING, INT64_MAX);
}

/* ---- snapshots ---- */

static struct error *session_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    struct op_window_session *self = (struct op_window_session *)op;
    (void)checkpoint_id;
    window_base_snapshot(&self->base, snapshot);
    if (state_table_entry_count(self->sessions) == 0)
        return NULL;
    snapshot_add_table(snapshot, WINDOW_SESSIONS_STATE, self->sessions, NULL);
    snapshot_add_table(snapshot, VALUES_STATE, self->values, window_function_meta(&self->base.function));
    return NULL;
}

static void rebuild_timers(struct op_window_session *self)
{
    struct state_iterator iterator;
    const struct state_entry *entry;
    state_iterator_init(&iterator, self->sessions);
    while (state_iterator_next(&iterator, &entry) != STATE_REF_NONE) {
        struct state_key key = {state_entry_key(entry), entry->key_length, entry->key_group, entry->hash};
        for (uint32_t at = 0; at + sizeof(struct session) <= entry->value_length; at += sizeof(struct session)) {
            struct session session;
            memcpy(&session, entry->data + at, sizeof session);
            plan(self, &key, next_event(self, &session));
        }
    }
    state_iterator_finish(&iterator);
}

static struct error *restore_table(struct op_window_session *self, struct restored_state *state, const json_t *table)
{
    const char *name = json_string_value(json_object_get(table, "name"));
    if (name != NULL && strncmp(name, WINDOW_PANE_STATE_PREFIX, strlen(WINDOW_PANE_STATE_PREFIX)) == 0)
        return window_base_other_windows(&self->base);
    if (name != NULL && strcmp(name, WINDOW_SESSIONS_STATE) == 0)
        return restored_state_load(state, name, self->sessions);
    if (name == NULL || strcmp(name, VALUES_STATE) != 0)
        return NULL;
    TRY(restored_state_load(state, name, self->values));
    return window_function_convert(&self->base.function, self->values, json_object_get(table, "meta"));
}

static struct error *session_restore(struct op *op, struct restored_state *state)
{
    struct op_window_session *self = (struct op_window_session *)op;
    TRY(window_base_restore(&self->base, state));
    json_t *tables = restored_state_tables(state);
    struct error *err = NULL;
    for (size_t i = 0; i < json_array_size(tables) && err == NULL; i++)
        err = restore_table(self, state, json_array_get(tables, i));
    json_decref(tables);
    if (err == NULL)
        rebuild_timers(self);
    return err;
}

/* A session's end moves with every row: the next one is not known. */
static void session_describe(struct op *op, json_t *report)
{
    window_base_describe((const struct window_base *)op, TIME_MAX, report);
}

const struct op_vtable op_window_session_vtable = {
    .type = "window",
    .create = op_window_session_create,
    .restore = session_restore,
    .process = session_process,
    .watermark = session_watermark,
    .wake = session_wake,
    .snapshot = session_snapshot,
    .end_input = session_end_input,
    .describe = session_describe,
    .destroy = session_destroy,
    .hands_back = true,
};
