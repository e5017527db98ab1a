/* struct mr_runtime: what user functions call. Collected records are scattered into a builder and emitted when it is full or
 * when the operator leaves the function. Keyed state is in user_state.c.
 * Thread: task. Owner: the operator that calls the function. */
#include "taskmanager/ops/user_context.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "taskmanager/ops/op_ticker.h"
#include "taskmanager/ops/user_state.h"
#include "taskmanager/task/books.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

_Thread_local const char *user_function_current;

static struct user_context *context_of(struct mr_context *ctx)
{
    return (struct user_context *)(void *)ctx;
}

void user_context_fail(struct user_context *context, struct error *err)
{
    if (context->error == NULL)
        context->error = err;
    else
        error_free(err);
}

/* ---- output ---- */

static struct error *output_prepare(struct user_context *context, struct user_output *output, const struct mr_record_type *type,
                                    struct schema *schema)
{
    if (output->type == type)
        return NULL;
    struct record_adapter *adapter;
    char *owner = heap_printf("function %s", context->function->name);
    struct error *err = record_adapter_create_output(type, schema, owner, &adapter);
    free(owner);
    if (err != NULL)
        return err;
    record_adapter_destroy(output->adapter);
    output->adapter = adapter;
    output->type = type;
    if (output->builder == NULL)
        output->builder = batch_builder_create(schema, BATCH_ROWS_TARGET, true);
    return NULL;
}

static struct error *output_flush(struct user_context *context, struct user_output *output)
{
    if (output->builder == NULL || output->builder->row_count == 0)
        return NULL;
    struct batch *batch = batch_builder_finish(output->builder);
    if (output == &context->main)
        return op_emit(context->op, batch);
    return op_emit_side(context->op, (uint32_t)(output - context->sides), batch);
}

static void output_add(struct user_context *context, struct user_output *output, const void *record, int64_t timestamp)
{
    if (batch_builder_is_full(output->builder)) {
        struct error *err = output_flush(context, output);
        if (err != NULL) {
            user_context_fail(context, err);
            return;
        }
    }
    uint32_t row = record_adapter_scatter(output->adapter, output->builder, record, 1);
    batch_builder_set_event_time(output->builder, row, timestamp);
}

static void runtime_collect_with_timestamp(struct mr_context *ctx, const void *record, mr_timestamp timestamp)
{
    struct user_context *context = context_of(ctx);
    if (context->error != NULL)
        return;
    if (context->main.builder == NULL) {
        user_context_fail(context, error_new(USER_FUNCTION, "function %s may not collect", context->function->name));
        return;
    }
    output_add(context, &context->main, record, timestamp);
}

static void runtime_collect(struct mr_context *ctx, const void *record)
{
    runtime_collect_with_timestamp(ctx, record, context_of(ctx)->timestamp);
}

static void runtime_side_output(struct mr_context *ctx, const char *tag, const struct mr_record_type *type, const void *record)
{
    struct user_context *context = context_of(ctx);
    const struct job_operator *spec = context->op->ctx->spec;
    if (context->error != NULL)
        return;
    for (uint32_t i = 0; i < spec->side_output_count; i++) {
        if (strcmp(spec->side_outputs[i].tag, tag) != 0)
            continue;
        struct error *err = output_prepare(context, &context->sides[i], type, spec->side_outputs[i].schema);
        if (err != NULL)
            user_context_fail(context, error_wrap(err, "side output %s", tag));
        else
            output_add(context, &context->sides[i], record, context->timestamp);
        return;
    }
    /* Nobody reads this tag: as in Flink the record goes nowhere, but it is counted. */
    context->op->ctx->books->filtered++;
}

static void runtime_fail(struct mr_context *ctx, const char *message)
{
    struct user_context *context = context_of(ctx);
    user_context_fail(context, error_new(USER_FUNCTION, "function %s of operator %s failed: %s", context->function->name,
                                         context->op->ctx->spec->name, message != NULL ? message : "(no message)"));
}

/* ---- facts ---- */

static mr_timestamp runtime_timestamp(struct mr_context *ctx)
{
    return context_of(ctx)->timestamp;
}

static mr_timestamp runtime_watermark(struct mr_context *ctx)
{
    return op_current_watermark(context_of(ctx)->op);
}

static mr_timestamp runtime_processing_time(struct mr_context *ctx)
{
    (void)ctx;
    return clock_now_ms();
}

static uint32_t runtime_subtask_index(struct mr_context *ctx)
{
    return context_of(ctx)->op->ctx->subtask_index;
}

static uint32_t runtime_parallelism(struct mr_context *ctx)
{
    return context_of(ctx)->op->ctx->parallelism;
}

static void runtime_count(struct mr_context *ctx, const char *metric, int64_t add)
{
    struct user_context *context = context_of(ctx);
    struct user_counter *counter = NULL;
    for (size_t i = 0; i < context->counters.count && counter == NULL; i++)
        if (strcmp(context->counters.items[i]->name, metric) == 0)
            counter = context->counters.items[i];
    if (counter == NULL) {
        counter = heap_new(struct user_counter);
        counter->name = heap_strdup(metric);
        vec_push(&context->counters, counter);
    }
    counter->value += add;
    op_metric_set(context->op, counter->name, (double)counter->value);
}

static void *runtime_allocate(struct mr_context *ctx, size_t bytes)
{
    struct user_context *context = context_of(ctx);
    void *memory = calloc(1, bytes != 0 ? bytes : 1);
    if (memory == NULL)
        user_context_fail(context, error_new(USER_FUNCTION, "function %s asked for %zu bytes of memory, which are not there",
                                             context->function->name, bytes));
    else
        vec_push(&context->allocations, memory);
    return memory;
}

static const void *runtime_next_element(struct mr_elements *elements)
{
    return elements->next(elements);
}

/* ---- keys ---- */

/* The member of the current key, NULL (and a failed function) when there is none of that type. */
static const void *key_member(struct user_context *context, uint32_t index, bool is_text)
{
    const struct row_codec *codec = context->key_codec;
    if (codec == NULL || context->key.bytes == NULL) {
        user_context_fail(context, error_new(USER_FUNCTION, "function %s asks for a key, but there is none here", context->function->name));
        return NULL;
    }
    if (index >= codec->field_count || data_type_is_text(codec->fields[index].type) != is_text) {
        user_context_fail(context, error_new(USER_FUNCTION, "function %s: key column %" PRIu32 " is not a %s", context->function->name, index,
                                             is_text ? "text" : "number"));
        return NULL;
    }
    if (!context->is_key_decoded) {
        struct error *err = row_codec_decode_record(codec, context->key.bytes, context->key.length, context->key_record);
        if (err != NULL) {
            user_context_fail(context, err);
            return NULL;
        }
        context->is_key_decoded = true;
    }
    return (const char *)context->key_record + codec->fields[index].record_offset;
}

static mr_string runtime_key_string(struct mr_context *ctx, uint32_t index)
{
    mr_string text = {"", 0};
    const void *member = key_member(context_of(ctx), index, true);
    if (member != NULL)
        memcpy(&text, member, sizeof text);
    return text;
}

static int64_t runtime_key_int64(struct mr_context *ctx, uint32_t index)
{
    struct user_context *context = context_of(ctx);
    const void *member = key_member(context, index, false);
    if (member == NULL)
        return 0;
    switch ((int)context->key_codec->fields[index].type) {
    case TYPE_BOOLEAN: return *(const bool *)member;
    case TYPE_INT8: return *(const int8_t *)member;
    case TYPE_INT16: return *(const int16_t *)member;
    case TYPE_INT32:
    case TYPE_DATE: return *(const int32_t *)member;
    case TYPE_INT64:
    case TYPE_TIMESTAMP: return *(const int64_t *)member;
    default:
        user_context_fail(context, error_new(USER_FUNCTION, "function %s: key column %" PRIu32 " is not a whole number",
                                             context->function->name, index));
        return 0;
    }
}

/* ---- timers ---- */

static bool may_use_timers(struct user_context *context)
{
    if (context->timers != NULL && context->key.bytes != NULL)
        return true;
    user_context_fail(context, error_with_hint(error_new(USER_FUNCTION, "function %s uses a timer without a key", context->function->name),
                                               "timers need a keyed stream: mr_key_by"));
    return false;
}

static void runtime_register_timer(struct mr_context *ctx, bool event_time, mr_timestamp time)
{
    struct user_context *context = context_of(ctx);
    if (!may_use_timers(context))
        return;
    timer_service_register(context->timers, event_time ? TIMER_EVENT : TIMER_PROCESSING, &context->key, time);
    if (!event_time)
        op_wake_at(context->op, time);
}

static void runtime_delete_timer(struct mr_context *ctx, bool event_time, mr_timestamp time)
{
    struct user_context *context = context_of(ctx);
    if (may_use_timers(context))
        timer_service_delete(context->timers, event_time ? TIMER_EVENT : TIMER_PROCESSING, &context->key, time);
}

static const struct mr_runtime runtime = {
    .collect = runtime_collect,
    .collect_with_timestamp = runtime_collect_with_timestamp,
    .side_output = runtime_side_output,
    .fail = runtime_fail,
    .timestamp = runtime_timestamp,
    .watermark = runtime_watermark,
    .processing_time = runtime_processing_time,
    .subtask_index = runtime_subtask_index,
    .parallelism = runtime_parallelism,
    .key_string = runtime_key_string,
    .key_int64 = runtime_key_int64,
    .register_timer = runtime_register_timer,
    .delete_timer = runtime_delete_timer,
    .state = user_state_declare,
    .state_get = user_state_get,
    .state_put = user_state_put,
    .state_add = user_state_add,
    .state_remove = user_state_remove,
    .state_clear = user_state_clear,
    .state_next = user_state_next,
    .next_element = runtime_next_element,
    .count = runtime_count,
    .allocate = runtime_allocate,
};

/* ---- life ---- */

struct error *user_context_init(struct user_context *context, struct op *op, const struct mr_function *function, struct schema *key_schema)
{
    *context = (struct user_context){.head = {.runtime = &runtime}, .op = op, .function = function, .timestamp = TIME_MIN};
    const struct job_operator *spec = op->ctx->spec;
    if (spec->side_output_count > 0)
        context->sides = heap_alloc_array(spec->side_output_count, sizeof *context->sides);
    if (key_schema != NULL) {
        context->key_codec = row_codec_create(key_schema);
        context->key_record = heap_alloc(context->key_codec->record_size + 1u);
        context->timers = timer_service_create(key_schema, op->ctx->key_group_first, op->ctx->key_group_last);
    }
    if (function->output != NULL && spec->schema != NULL) {
        struct error *err = output_prepare(context, &context->main, function->output, spec->schema);
        if (err != NULL) {
            user_context_finish(context);
            return err;
        }
    }
    return NULL;
}

static void output_finish(struct user_output *output)
{
    record_adapter_destroy(output->adapter);
    batch_builder_destroy(output->builder);
}

void user_context_finish(struct user_context *context)
{
    if (context->op == NULL)
        return;
    output_finish(&context->main);
    for (uint32_t i = 0; i < context->op->ctx->spec->side_output_count && context->sides != NULL; i++)
        output_finish(&context->sides[i]);
    free(context->sides);
    for (size_t i = 0; i < context->states.count; i++)
        user_state_destroy(context->states.items[i]);
    vec_finish(&context->states);
    for (size_t i = 0; i < context->counters.count; i++) {
        free(context->counters.items[i]->name);
        free(context->counters.items[i]);
    }
    vec_finish(&context->counters);
    for (size_t i = 0; i < context->allocations.count; i++)
        free(context->allocations.items[i]);
    vec_finish(&context->allocations);
    timer_service_destroy(context->timers);
    row_codec_destroy(context->key_codec);
    free(context->key_record);
    error_free(context->error);
    *context = (struct user_context){0};
}

void user_context_enter(struct user_context *context)
{
    if (context->depth++ == 0) {
        context->outer_function = user_function_current;
        user_function_set(context->function->name);
    }
}

bool user_context_goes_on(struct user_context *context, struct op_ticker *ticker)
{
    op_ticker_tick(ticker); /* the slice may be over: it goes on all the same */
    if (op_is_aborting(context->op))
        user_context_fail(context, error_new(CANCELLED, "task %s was cancelled", context->op->ctx->task_name));
    return context->error == NULL;
}

struct error *user_context_leave(struct user_context *context)
{
    check(context->depth > 0);
    if (--context->depth > 0)
        return NULL;
    user_function_set(context->outer_function);
    if (context->error == NULL)
        context->error = output_flush(context, &context->main);
    for (uint32_t i = 0; i < context->op->ctx->spec->side_output_count && context->error == NULL; i++)
        context->error = output_flush(context, &context->sides[i]);
    struct error *err = context->error;
    context->error = NULL;
    return err;
}

struct error *user_context_open(struct user_context *context)
{
    if (context->function->open == NULL)
        return NULL;
    user_context_enter(context);
    context->is_opening = true;
    context->function->open(&context->head);
    context->is_opening = false;
    return user_context_leave(context);
}

void user_context_prefetch(struct user_context *context, const struct state_rows *rows)
{
    for (size_t i = 0; i < context->states.count; i++)
        user_state_prefetch(context->states.items[i], rows);
}

struct error *user_context_snapshot(struct user_context *context, struct snapshot *snapshot)
{
    for (size_t i = 0; i < context->states.count; i++)
        user_state_snapshot(context->states.items[i], snapshot);
    if (context->timers != NULL)
        timer_service_snapshot(context->timers, snapshot);
    return NULL;
}

struct error *user_context_restore(struct user_context *context, struct restored_state *state)
{
    for (size_t i = 0; i < context->states.count; i++)
        TRY(user_state_restore(context->states.items[i], state));
    if (context->timers == NULL)
        return NULL;
    TRY(timer_service_restore(context->timers, state));
    int64_t next = timer_service_next(context->timers, TIMER_PROCESSING);
    if (next != INT64_MAX)
        op_wake_at(context->op, next); /* overdue ones fire at once */
    return NULL;
}

struct error *user_function_find(const struct op_context *ctx, const char *name, enum mr_function_kind kind, bool required,
                                 const struct mr_function **out)
{
    const json_t *symbol = json_object_get(ctx->spec->options, name);
    if (symbol == NULL || json_is_null(symbol)) {
        if (required)
            return error_new(INVALID_PROGRAM, "operator %s: option %s is missing", ctx->spec->name, name);
        *out = NULL;
        return NULL;
    }
    if (!json_is_string(symbol))
        return error_new(INVALID_PROGRAM, "operator %s: option %s is not the name of a function", ctx->spec->name, name);
    struct error *err = user_library_function(ctx->library, json_string_value(symbol), kind, out);
    return err != NULL ? error_wrap(err, "operator %s", ctx->spec->name) : NULL;
}
