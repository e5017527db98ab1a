/* Shared parts of window operators: see window_base.h. Thread: task. Owner: the window operator. */
#include "taskmanager/ops/window_base.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "taskmanager/task/books.h"

#include <stdlib.h>
#include <string.h>

#define WATERMARK_STATE "_watermark"
#define WINDOW_MS_MAX (INT64_C(1) << 52)

/* ---- options ---- */

static struct error *parse_assigner(struct window_base *base, const json_t *json)
{
    static const char *const names[] = {"tumbling", "sliding", "session"};
    struct op_context *ctx = base->op.ctx;
    const char *type = json_string_value(json_object_get(json, "type"));
    const char *time = json_string_value(json_object_get(json, "time"));
    size_t assigner = 0;
    while (assigner < 3 && (type == NULL || strcmp(type, names[assigner]) != 0))
        assigner++;
    if (assigner == 3)
        return error_new(INVALID_PROGRAM, "operator %s: there is no window assigner %s", ctx->spec->name, type != NULL ? type : "(none)");
    base->assigner = (enum window_assigner)assigner;
    if (time != NULL && strcmp(time, "event") != 0 && strcmp(time, "processing") != 0)
        return error_new(INVALID_PROGRAM, "operator %s: window time is %s, it must be event or processing", ctx->spec->name, time);
    base->is_event_time = time == NULL || strcmp(time, "event") == 0;
    if (base->assigner == ASSIGN_SESSION) {
        TRY(op_option_int(ctx, json, "gap_ms", 1, WINDOW_MS_MAX, &base->gap_ms));
        if (base->gap_ms == 0)
            return error_new(INVALID_PROGRAM, "operator %s: a session window needs gap_ms", ctx->spec->name);
        return NULL;
    }
    TRY(op_option_int(ctx, json, "size_ms", 1, WINDOW_MS_MAX, &base->size_ms));
    if (base->size_ms == 0)
        return error_new(INVALID_PROGRAM, "operator %s: a window needs size_ms", ctx->spec->name);
    base->slide_ms = base->size_ms;
    if (base->assigner == ASSIGN_SLIDING)
        TRY(op_option_int(ctx, json, "slide_ms", 1, WINDOW_MS_MAX, &base->slide_ms));
    return op_option_int(ctx, json, "offset_ms", 1 - base->slide_ms, base->slide_ms - 1, &base->offset_ms);
}

static struct error *parse_lateness(struct window_base *base)
{
    struct op_context *ctx = base->op.ctx;
    int64_t side = -1;
    TRY(op_option_int(ctx, ctx->spec->options, "allowed_lateness_ms", 0, INT64_MAX, &base->lateness_ms));
    TRY(op_option_int(ctx, ctx->spec->options, "late_side_output", -1, (int64_t)ctx->spec->side_output_count - 1, &side));
    base->late_side_output = (int32_t)side;
    return NULL;
}

struct error *window_base_init(struct window_base *base)
{
    struct op_context *ctx = base->op.ctx;
    base->restored_watermark = base->entered_watermark = TIME_MIN;
    base->late_ms = -1;
    TRY(parse_assigner(base, json_object_get(ctx->spec->options, "assigner")));
    TRY(parse_lateness(base));
    struct schema *schema;
    TRY(op_input_schema(ctx, 0, &schema));
    TRY(op_key_columns(ctx, 0, &base->keys));
    struct schema *key_schema = key_columns_schema(&base->keys, schema);
    struct error *err = window_function_init(&base->function, &base->op, schema, key_schema);
    schema_unref(key_schema);
    if (err != NULL)
        return err;
    base->hashes = heap_alloc_array(BATCH_ROWS_MAX, sizeof *base->hashes);
    base->late_rows = heap_alloc_array(BATCH_ROWS_MAX, sizeof *base->late_rows);
    return NULL;
}

void window_base_finish(struct window_base *base)
{
    window_function_finish(&base->function);
    key_columns_finish(&base->keys);
    encoded_rows_finish(&base->key_rows);
    free(base->group_watermarks);
    free(base->hashes);
    free(base->late_rows);
}

/* ---- the batch in hand ---- */

void window_base_prepare(struct window_base *base, const struct batch *batch)
{
    batch_hash_rows(batch, base->keys.columns, base->keys.count, base->hashes);
    row_codec_encode_rows(base->function.context.key_codec, batch, base->keys.columns, &base->key_rows);
    base->late_count = 0;
}

/* The keys of a stream without keys are empty, but not absent. */
static const uint8_t *key_bytes(const struct window_base *base)
{
    static const uint8_t none[1];
    return base->key_rows.bytes != NULL ? base->key_rows.bytes : none;
}

struct state_rows window_base_rows(const struct window_base *base, const uint32_t *rows, uint32_t count)
{
    return (struct state_rows){
        .count = count,
        .rows = rows,
        .hashes = base->hashes,
        .keys = key_bytes(base),
        .key_offsets = base->key_rows.offsets,
    };
}

struct state_key window_base_key(const struct window_base *base, uint32_t row)
{
    const uint32_t *offsets = base->key_rows.offsets;
    return (struct state_key){key_bytes(base) + offsets[row], offsets[row + 1] - offsets[row],
                              key_group_of_hash(base->hashes[row], base->op.ctx->max_parallelism), base->hashes[row]};
}

/* ---- time ---- */

int64_t window_base_lowest_watermark(const struct window_base *base)
{
    int64_t watermark = op_current_watermark(&base->op);
    return watermark > base->restored_watermark ? watermark : base->restored_watermark;
}

int64_t window_base_watermark(const struct window_base *base)
{
    int64_t lowest = window_base_lowest_watermark(base);
    return lowest > base->entered_watermark ? lowest : base->entered_watermark;
}

void window_base_enter_group(struct window_base *base, uint32_t key_group)
{
    base->entered_watermark = window_base_group_watermark(base, key_group);
}

void window_base_leave_group(struct window_base *base)
{
    base->entered_watermark = TIME_MIN;
}

static uint32_t group_count(const struct window_base *base)
{
    return base->op.ctx->key_group_last - base->op.ctx->key_group_first + 1;
}

void window_base_watermark_passed(struct window_base *base, int64_t time)
{
    if (base->group_watermarks == NULL)
        return;
    for (uint32_t i = 0; i < group_count(base); i++)
        if (base->group_watermarks[i] > time)
            return;
    free(base->group_watermarks);
    base->group_watermarks = NULL;
}

struct error *window_base_times(const struct window_base *base, const struct batch *batch, const int64_t **times)
{
    bool is_missing = batch->event_time == NULL;
    for (uint32_t i = 0; i < batch->row_count && !is_missing; i++)
        is_missing = batch->event_time[i] == TIME_MIN;
    if (is_missing)
        return error_with_hint(error_new(INVALID_PROGRAM, "operator %s: a row has no event time", base->op.ctx->spec->name),
                               "assign timestamps and watermarks before an event-time window, or use processing time");
    *times = batch->event_time;
    return NULL;
}

struct error *window_base_flush_late(struct window_base *base, const struct batch *batch)
{
    uint32_t count = base->late_count;
    base->late_count = 0;
    if (count == 0)
        return NULL;
    if (base->late_side_output >= 0)
        return op_emit_side(&base->op, (uint32_t)base->late_side_output, batch_take(batch, base->late_rows, count));
    base->op.ctx->books->late += count;
    base->late_time = batch->event_time != NULL ? batch->event_time[base->late_rows[count - 1]] : TIME_MIN;
    base->late_watermark = window_base_watermark(base);
    base->late_ms = clock_now_ms();
    return NULL;
}

void window_base_describe(const struct window_base *base, int64_t next_end, json_t *report)
{
    json_object_set_new(report, "window", json_pack("{s:b,s:I}", "is_event_time", (int)base->is_event_time, "next_end", (json_int_t)next_end));
    if (base->late_ms >= 0)
        json_object_set_new(report, "late", json_pack("{s:I,s:I,s:I}", "event_time", (json_int_t)base->late_time, "watermark",
                                                      (json_int_t)base->late_watermark, "last", (json_int_t)base->late_ms));
}

/* ---- snapshots ---- */

/* How far event time was for some key groups. Aligned barriers come with the watermarks, so that all subtasks agree; at the cut of an
 * unaligned checkpoint each is as far as it is. */
struct stored_watermark {
    int64_t watermark;
    uint32_t key_group_first;
    uint32_t key_group_last;
};

/* One item for each run of key groups that are equally far. */
void window_base_snapshot(struct window_base *base, struct snapshot *snapshot)
{
    const struct op_context *ctx = base->op.ctx;
    struct stored_watermark item = {.key_group_first = ctx->key_group_first};
    for (uint32_t group = ctx->key_group_first; group <= ctx->key_group_last; group++) {
        window_base_enter_group(base, group);
        int64_t watermark = window_base_watermark(base);
        if (group > item.key_group_first && watermark != item.watermark) {
            snapshot_add_union_item(snapshot, WATERMARK_STATE, &item, sizeof item);
            item.key_group_first = group;
        }
        item.watermark = watermark;
        item.key_group_last = group;
    }
    window_base_leave_group(base);
    snapshot_add_union_item(snapshot, WATERMARK_STATE, &item, sizeof item);
}

/* Older checkpoints have the watermark alone; then the lowest counts for all key groups, so that no row becomes late. */
static struct error *on_watermark(void *arg, const void *bytes, size_t length)
{
    struct window_base *base = arg;
    const struct op_context *ctx = base->op.ctx;
    struct stored_watermark item = {.key_group_last = UINT32_MAX};
    if (length != sizeof item && length != sizeof item.watermark)
        return error_new(CORRUPT, "watermark state has a wrong length");
    memcpy(&item, bytes, length);
    for (uint32_t i = 0; i < group_count(base); i++) {
        uint32_t group = ctx->key_group_first + i;
        if (group >= item.key_group_first && group <= item.key_group_last && item.watermark < base->group_watermarks[i])
            base->group_watermarks[i] = item.watermark;
    }
    return NULL;
}

struct error *window_base_restore(struct window_base *base, struct restored_state *state)
{
    uint32_t count = group_count(base);
    bool is_even = true;
    base->group_watermarks = heap_alloc_array(count, sizeof *base->group_watermarks);
    for (uint32_t i = 0; i < count; i++)
        base->group_watermarks[i] = INT64_MAX;
    TRY(restored_state_items(state, WATERMARK_STATE, on_watermark, base));
    int64_t lowest = INT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        if (base->group_watermarks[i] == INT64_MAX) /* none was stored */
            base->group_watermarks[i] = TIME_MIN;
        is_even = is_even && base->group_watermarks[i] == base->group_watermarks[0];
        lowest = base->group_watermarks[i] < lowest ? base->group_watermarks[i] : lowest;
    }
    base->restored_watermark = lowest;
    if (is_even || !base->is_event_time) {
        free(base->group_watermarks);
        base->group_watermarks = NULL;
    }
    return NULL;
}

struct error *window_base_other_windows(const struct window_base *base)
{
    bool is_session = base->assigner == ASSIGN_SESSION;
    return error_with_hint(error_new(INVALID_PROGRAM, "operator %s: the checkpoint holds %s windows, the program wants %s windows",
                                     base->op.ctx->spec->name, is_session ? "tumbling or sliding" : "session",
                                     is_session ? "session" : "tumbling or sliding"),
                           "give the changed window another uid and restore with --allowNonRestoredState");
}
