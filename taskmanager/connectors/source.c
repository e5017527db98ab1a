/* The base of all sources: see source.h. Everything here runs on the task thread that owns the source. */
#include "taskmanager/connectors/source.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str_buf.h"
#include "taskmanager/state/snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#define STATE_NAME "source-splits"
#define STATE_VERSION 2 /* 1: without the times */
#define TICK_MS 200
#define TICK_NS (INT64_C(1000000) * TICK_MS)
/* A process that was stopped for a while must not take its own absence for the split's: one look adds at most this. */
#define IDLE_STEP_NS_MAX (2 * TICK_NS)
#define SAMPLE_BYTES 64

/* A subtask adds one READY or NOT_READY item besides its splits. */
enum state_item { ITEM_SPLIT, ITEM_READY, ITEM_NOT_READY };

static struct error *parse_on_error(const json_t *options, const struct source_reader *reader, enum malformed_mode *out)
{
    const json_t *on_error = json_object_get(options, "on_error");
    const char *mode = json_is_string(on_error) ? json_string_value(on_error) : json_string_value(json_object_get(on_error, "mode"));
    *out = MALFORMED_FAIL;
    if (mode == NULL || strcmp(mode, "fail") == 0)
        return NULL;
    if (strcmp(mode, "skip") == 0)
        *out = MALFORMED_SKIP;
    else if (strcmp(mode, "dead-letter") == 0 && reader->dead_letter != NULL)
        *out = MALFORMED_DEAD_LETTER;
    else
        return error_new(INVALID_ARGUMENT, "on_error: mode \"%s\" is not one of fail, skip%s", mode,
                         reader->dead_letter != NULL ? ", dead-letter" : "");
    return NULL;
}

struct error *source_init(struct source *source, const struct op_vtable *vtable, const struct source_reader *reader, struct op_context *ctx)
{
    struct schema *schema = ctx->spec->schema;
    *source = (struct source){.op = {.vtable = vtable, .ctx = ctx},
                              .reader = reader,
                              .is_ready = true,
                              .emitted_watermark = TIME_MIN, .emitted_event_time = TIME_MIN,
                              .last_malformed_ms = -1};
    TRY(parse_on_error(ctx->spec->options, reader, &source->on_malformed));
    TRY(watermark_options_parse(json_object_get(ctx->spec->options, "watermark"), schema, &source->watermark));
    if (source->watermark.strategy == WATERMARK_NONE)
        source->event_time.column = -1;
    else
        TRY(event_time_init(&source->event_time, &source->watermark, ctx, schema));
    source->builder = batch_builder_create(schema, BATCH_ROWS_TARGET, source_wants_record_time(source));
    return NULL;
}

static void destroy_split(struct source_split *split)
{
    free(split->name);
    free(split->restored_position);
    free(split);
}

void source_finish(struct source *source)
{
    for (size_t i = 0; i < source->splits.count; i++)
        destroy_split(source->splits.items[i]);
    vec_finish(&source->splits);
    for (size_t i = 0; i < source->restored.count; i++) {
        free(source->restored.items[i].name);
        free(source->restored.items[i].position);
    }
    vec_finish(&source->restored);
    vec_finish(&source->runs);
    event_time_finish(&source->event_time);
    batch_builder_destroy(source->builder);
    source->builder = NULL;
}

bool source_wants_record_time(const struct source *source)
{
    return source->watermark.strategy != WATERMARK_NONE && !event_time_is_set(&source->event_time);
}

/* ---- splits ---- */

uint64_t source_assignment_of_name(const char *name)
{
    return XXH3_64bits(name, strlen(name));
}

bool source_owns(const struct source *source, uint64_t assignment)
{
    return assignment % source->op.ctx->parallelism == source->op.ctx->subtask_index;
}

static struct source_restored_split *find_restored(const struct source *source, const char *name)
{
    for (size_t i = 0; i < source->restored.count; i++)
        if (strcmp(source->restored.items[i].name, name) == 0)
            return &source->restored.items[i];
    return NULL;
}

const struct source_restored_split *source_find_restored(const struct source *source, const char *name)
{
    return find_restored(source, name);
}

struct source_split *source_add_split(struct source *source, const char *name, uint64_t assignment)
{
    struct source_split *split = heap_new(struct source_split);
    split->name = heap_strdup(name);
    split->assignment = assignment;
    split->added_ms = clock_now_ms();
    split->last_record_ms = split->idle_since_ms = -1;
    watermark_generator_init(&split->watermark, &source->watermark);
    struct source_restored_split *restored = find_restored(source, name);
    if (restored != NULL && !restored->is_taken) {
        restored->is_taken = true;
        split->restored_length = restored->position_length;
        split->restored_position = heap_alloc(restored->position_length + 1);
        memcpy(split->restored_position, restored->position, restored->position_length);
        split->is_finished = restored->is_finished;
        split->added_ms = restored->added_ms;
        split->last_record_ms = restored->last_record_ms;
        watermark_generator_restore(&split->watermark, restored->max_timestamp, restored->watermark);
    }
    vec_push(&source->splits, split);
    return split;
}

const void *source_split_restored_position(const struct source_split *split, size_t *length)
{
    *length = split->restored_length;
    return split->restored_position;
}

/* ---- the batch in the making ---- */

/* Ends the run of rows of the current split and books its records. */
static void close_run(struct source *source)
{
    struct source_split *split = source->current;
    if (split == NULL)
        return;
    uint32_t rows = source->builder->row_count;
    uint32_t start = source->runs.count > 0 ? source->runs.items[source->runs.count - 1].end_row : 0;
    if (rows > start) {
        struct source_run run = {.split = split, .end_row = rows};
        vec_push(&source->runs, run);
    }
    if (source->run_records > 0) {
        struct books *books = source->op.ctx->books;
        struct books_split *counters = books_split(books, split->name);
        counters->records += source->run_records;
        counters->bytes += source->run_bytes;
        books->rows_read += source->run_records;
        source->run_records = source->run_bytes = 0;
        split->had_rows = true;
        split->last_record_ms = source->poll_ms;
    }
}

void source_select_split_slow(struct source *source, struct source_split *split)
{
    close_run(source);
    source->current = split;
}

static struct error *send_idle(struct source *source, bool is_idle)
{
    if (source->idle_known ? source->idle_sent == is_idle : !is_idle)
        return NULL;
    source->idle_known = true;
    source->idle_sent = is_idle;
    return op_emit_idle(&source->op, is_idle);
}

/* Takes batch. The split that it comes from is awake again, and so is the source. */
static struct error *emit(struct source *source, struct batch *batch)
{
    struct error *err = send_idle(source, false);
    if (err != NULL) {
        batch_unref(batch);
        return err;
    }
    return op_emit(&source->op, batch);
}

static void set_idle(struct source_split *split, bool is_idle)
{
    if (is_idle != split->is_idle)
        split->idle_since_ms = is_idle ? clock_now_ms() : -1;
    split->is_idle = is_idle;
}

static void follow_time(struct source_split *split, const struct batch *batch, uint32_t first, uint32_t end)
{
    set_idle(split, false);
    split->had_rows = true;
    if (batch->event_time != NULL)
        watermark_generator_on_timestamp(&split->watermark, event_time_max(batch->event_time, first, end));
}

static struct error *send_watermark(struct source *source);

struct error *source_flush(struct source *source)
{
    close_run(source);
    struct batch *batch = batch_builder_finish(source->builder);
    if (batch == NULL) {
        vec_clear(&source->runs);
        return NULL;
    }
    TRY(event_time_assign(&source->event_time, batch, &batch));
    uint32_t first = 0;
    for (size_t i = 0; i < source->runs.count; i++) {
        follow_time(source->runs.items[i].split, batch, first, source->runs.items[i].end_row);
        first = source->runs.items[i].end_row;
    }
    vec_clear(&source->runs);
    source->emitted_ms = source->poll_ms;
    source->emitted_event_time = batch->event_time != NULL && batch->row_count > 0 ? batch->event_time[batch->row_count - 1] : TIME_MIN;
    TRY(emit(source, batch));
    return source->watermark.interval_ms == 0 ? send_watermark(source) : NULL;
}

/* ---- time ---- */

/* The watermark of the subtask: min over awake splits; when all sleep, the greatest that any of them reached.
 * False: no split is awake. */
static bool combine_watermarks(struct source *source, int64_t *out)
{
    int64_t min = TIME_MAX, max = TIME_MIN;
    bool any_awake = false;
    for (size_t i = 0; i < source->splits.count; i++) {
        struct source_split *split = source->splits.items[i];
        int64_t watermark = watermark_generator_advance(&split->watermark);
        max = watermark > max ? watermark : max;
        if (split->is_idle || split->is_finished)
            continue;
        any_awake = true;
        min = watermark < min ? watermark : min;
    }
    *out = any_awake ? min : max;
    return any_awake;
}

static struct error *send_watermark(struct source *source)
{
    /* Until the connector knows its splits, one with early rows may still turn up: neither time nor idleness is claimed. */
    if (!source->is_ready)
        return NULL;
    int64_t watermark;
    bool any_awake = combine_watermarks(source, &watermark);
    if (source->watermark.strategy != WATERMARK_NONE && watermark > source->emitted_watermark) {
        source->emitted_watermark = watermark;
        op_metric_set(&source->op, "watermarkLag", (double)(clock_now_ms() - watermark));
        TRY(send_idle(source, false));
        TRY(op_emit_watermark(&source->op, watermark));
    }
    return send_idle(source, !any_awake);
}

/* Advances the idleness clocks to now_ns. Time counts for a split only while the task was not held up by back pressure and the
 * connector says that nothing is left to read. */
static void advance_idleness(struct source *source, int64_t now_ns)
{
    int64_t blocked_ns = op_blocked_ns_total(&source->op);
    int64_t step_ns = source->idle_clock_ns == 0 ? 0 : now_ns - source->idle_clock_ns - (blocked_ns - source->idle_blocked_ns);
    step_ns = step_ns < 0 ? 0 : step_ns > IDLE_STEP_NS_MAX ? IDLE_STEP_NS_MAX : step_ns;
    source->idle_clock_ns = now_ns;
    source->idle_blocked_ns = blocked_ns;
    for (size_t i = 0; i < source->splits.count; i++) {
        struct source_split *split = source->splits.items[i];
        if (split->had_rows || !split->is_caught_up) {
            split->quiet_ns = 0;
            split->had_rows = false;
            set_idle(split, false);
            continue;
        }
        split->quiet_ns += step_ns;
        bool is_due = source->watermark.idle_timeout_ms >= 0 && split->quiet_ns >= source->watermark.idle_timeout_ms * 1000000;
        if (is_due && !split->is_idle && (source->reader->confirm_idle == NULL || source->reader->confirm_idle(source, split)))
            set_idle(split, true);
    }
}

/* Something is still to be decided by the passing of time. */
static bool needs_tick(const struct source *source)
{
    if (source->watermark.strategy == WATERMARK_NONE || source->watermark.idle_timeout_ms < 0)
        return false;
    for (size_t i = 0; i < source->splits.count; i++)
        if (!source->splits.items[i]->is_idle && !source->splits.items[i]->is_finished)
            return true;
    return false;
}

static struct error *tick(struct source *source, bool is_dry)
{
    int64_t now_ns = clock_mono_ns();
    if (now_ns - source->idle_clock_ns >= TICK_NS || is_dry)
        advance_idleness(source, now_ns);
    if (is_dry || now_ns >= source->next_watermark_ns) {
        source->next_watermark_ns = now_ns + source->watermark.interval_ms * 1000000;
        TRY(send_watermark(source));
    }
    if (is_dry && needs_tick(source))
        op_wake_at(&source->op, clock_now_ms() + TICK_MS);
    return NULL;
}

struct error *source_poll(struct op *op, uint32_t max_rows, enum source_status *status)
{
    struct source *source = (struct source *)op;
    *status = SOURCE_MORE;
    source->poll_ms = clock_now_ms();
    if (source->emitted_ms == 0)
        source->emitted_ms = source->poll_ms;
    TRY(source->reader->read(source, max_rows, status));
    TRY(source_flush(source));
    return tick(source, *status != SOURCE_MORE);
}

struct error *source_wake(struct op *op, int64_t now_ms)
{
    (void)now_ms;
    return tick((struct source *)op, true);
}

/* ---- state ---- */

static void write_item(struct snapshot *snapshot, const struct source_restored_split *split)
{
    struct bytes_writer writer = {0};
    bytes_write_u8(&writer, STATE_VERSION);
    bytes_write_u8(&writer, ITEM_SPLIT);
    bytes_write_text(&writer, split->name);
    bytes_write_u64(&writer, split->assignment);
    bytes_write_i64(&writer, split->max_timestamp);
    bytes_write_i64(&writer, split->watermark);
    bytes_write_u8(&writer, split->is_finished);
    bytes_write_block(&writer, split->position, split->position_length);
    bytes_write_i64(&writer, split->added_ms);
    bytes_write_i64(&writer, split->last_record_ms);
    snapshot_add_union_item(snapshot, STATE_NAME, writer.data, writer.length);
    bytes_writer_finish(&writer);
}

/* The watermark in the state is the one that has been emitted at most: it covers only rows that are in the snapshot. */
static void snapshot_split(struct source *source, const struct source_split *split, struct snapshot *snapshot)
{
    struct bytes_writer position = {0};
    source->reader->write_position(source, split, &position);
    struct source_restored_split item = {.name = split->name,
                                         .assignment = split->assignment,
                                         .position = position.data,
                                         .position_length = position.length,
                                         .max_timestamp = split->watermark.max_timestamp,
                                         .watermark = split->watermark.watermark,
                                         .added_ms = split->added_ms,
                                         .last_record_ms = split->last_record_ms,
                                         .is_finished = split->is_finished};
    write_item(snapshot, &item);
    bytes_writer_finish(&position);
}

struct error *source_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    (void)checkpoint_id;
    struct source *source = (struct source *)op;
    const uint8_t marker[] = {STATE_VERSION, source->is_ready ? ITEM_READY : ITEM_NOT_READY};
    snapshot_add_union_item(snapshot, STATE_NAME, marker, sizeof marker);
    for (size_t i = 0; i < source->splits.count; i++)
        snapshot_split(source, source->splits.items[i], snapshot);
    /* Splits of this subtask that the connector has not taken up (yet) must not be lost. */
    for (size_t i = 0; i < source->restored.count; i++)
        if (!source->restored.items[i].is_taken && source_owns(source, source->restored.items[i].assignment))
            write_item(snapshot, &source->restored.items[i]);
    return NULL;
}

static struct error *restore_item(void *arg, const void *bytes, size_t length)
{
    struct source *source = arg;
    struct bytes_reader reader = bytes_reader_on(bytes, length);
    uint8_t version = bytes_read_u8(&reader);
    uint8_t kind = bytes_read_u8(&reader);
    if (!bytes_reader_ok(&reader) || version < 1 || version > STATE_VERSION || kind > ITEM_NOT_READY)
        return error_new(CORRUPT, "state of a source split has an unknown version");
    source->restored_incomplete |= kind == ITEM_NOT_READY;
    source->is_restored = !source->restored_incomplete;
    if (kind != ITEM_SPLIT)
        return NULL;
    struct source_restored_split split = {.name = bytes_read_text(&reader)};
    split.assignment = bytes_read_u64(&reader);
    split.max_timestamp = bytes_read_i64(&reader);
    split.watermark = bytes_read_i64(&reader);
    split.is_finished = bytes_read_u8(&reader) != 0;
    const uint8_t *position = bytes_read_block(&reader, &split.position_length);
    split.added_ms = version == 1 ? clock_now_ms() : bytes_read_i64(&reader);
    split.last_record_ms = version == 1 ? -1 : bytes_read_i64(&reader);
    if (!bytes_reader_ok(&reader)) {
        free(split.name);
        return error_new(CORRUPT, "state of a source split is cut off");
    }
    split.position = heap_alloc(split.position_length + 1);
    if (split.position_length > 0)
        memcpy(split.position, position, split.position_length);
    vec_push(&source->restored, split);
    return NULL;
}

struct error *source_restore(struct op *op, struct restored_state *state)
{
    return restored_state_items(state, STATE_NAME, restore_item, op);
}

/* ---- what a report says ---- */

static json_t *describe_split(const struct source *source, const struct source_split *split)
{
    json_t *json = json_object();
    json_object_set_new(json, "name", json_string(split->name));
    json_object_set_new(json, "added", json_integer(split->added_ms));
    json_object_set_new(json, "last_record", json_integer(split->last_record_ms));
    json_object_set_new(json, "idle_since", json_integer(split->idle_since_ms));
    json_object_set_new(json, "watermark", json_integer(split->watermark.watermark));
    json_object_set_new(json, "max_timestamp", json_integer(split->watermark.max_timestamp));
    json_object_set_new(json, "is_caught_up", json_boolean(split->is_caught_up));
    json_object_set_new(json, "is_finished", json_boolean(split->is_finished));
    if (source->reader->describe_split != NULL)
        source->reader->describe_split(source, split, json);
    return json;
}

/* Figures that grow by themselves. */
static void describe_lags(const struct source *source, json_t *metrics)
{
    int64_t now_ms = clock_now_ms();
    if (source->emitted_ms != 0)
        json_object_set_new(metrics, "sourceIdleTime", json_integer(now_ms > source->emitted_ms ? now_ms - source->emitted_ms : 0));
    if (source->emitted_event_time != TIME_MIN)
        json_object_set_new(metrics, "currentEmitEventTimeLag", json_integer(source->emitted_ms - source->emitted_event_time));
    if (source->emitted_watermark > TIME_MIN)
        json_object_set_new(metrics, "watermarkLag", json_integer(now_ms - source->emitted_watermark));
}

void source_describe(struct op *op, json_t *report)
{
    const struct source *source = (const struct source *)op;
    json_t *splits = json_array();
    for (size_t i = 0; i < source->splits.count; i++)
        json_array_append_new(splits, describe_split(source, source->splits.items[i]));
    json_object_set_new(report, "splits", splits);
    json_object_set_new(report, "is_ready", json_boolean(source->is_ready));
    json_object_set_new(report, "last_unparsable", json_integer(source->last_malformed_ms));
    describe_lags(source, json_object_get(report, "metrics"));
}

/* ---- malformed records ---- */

static void append_sample(struct str_buf *out, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length && i < SAMPLE_BYTES; i++) {
        if (bytes[i] >= 0x20 && bytes[i] < 0x7f && bytes[i] != '\\')
            str_buf_append_char(out, (char)bytes[i]);
        else
            str_buf_printf(out, "\\x%02x", bytes[i]);
    }
    if (length > SAMPLE_BYTES)
        str_buf_printf(out, "… (%zu bytes)", length);
}

static struct error *malformed_error(const struct source_split *split, int64_t offset, const void *bytes, size_t length, const char *reason)
{
    struct str_buf sample = {0};
    append_sample(&sample, bytes, length);
    struct error *err = error_new(INVALID_FORMAT, "could not decode the record at offset %" PRId64 " of %s: %s; it is: %s", offset,
                                  split->name, reason, str_buf_text(&sample));
    str_buf_finish(&sample);
    return error_with_hint(err, "set on_error to skip or dead-letter to go on without such records");
}

static void count_malformed(struct source *source, const struct source_split *split, int64_t offset, const void *bytes, size_t length,
                            const char *reason)
{
    struct books *books = source->op.ctx->books;
    struct str_buf excerpt = {0};
    source->last_malformed_ms = source->poll_ms;
    if (books->sample_count < BOOKS_SAMPLE_MAX)
        append_sample(&excerpt, bytes, length);
    const struct books_sample sample = {.split = split->name,
                                        .offset = offset,
                                        .reason = (char *)(uintptr_t)reason, /* only read */
                                        .excerpt = (char *)(uintptr_t)str_buf_text(&excerpt),
                                        .time_ms = source->poll_ms};
    books_add_unparsable(books, &sample);
    str_buf_finish(&excerpt);
}

struct error *source_malformed(struct source *source, struct source_split *split, int64_t offset, const void *bytes, size_t length,
                               const char *reason)
{
    if (source->on_malformed == MALFORMED_FAIL)
        return malformed_error(split, offset, bytes, length, reason);
    struct books *books = source->op.ctx->books;
    count_malformed(source, split, offset, bytes, length, reason);
    op_metric_set(&source->op, "numRecordsInErrors", (double)books->unparsable);
    if (books->unparsable == 1 || books->unparsable % 10000 == 0) {
        struct error *err = malformed_error(split, offset, bytes, length, reason);
        log_error_chain(LOG_WARN, "Source", err, "%s: %" PRIu64 " malformed records so far, the latest:", source->op.ctx->task_name,
                        books->unparsable);
        error_free(err);
    }
    if (source->on_malformed == MALFORMED_DEAD_LETTER)
        return source->reader->dead_letter(source, split, offset, bytes, length, reason);
    return NULL;
}
