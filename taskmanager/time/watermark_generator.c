/* Watermark options and generators, and the event-time column of a batch. Owned by a task thread. */
#include "taskmanager/time/watermark_generator.h"

#include "taskmanager/time/timestamp_function.h"

#define INTERVAL_DEFAULT_MS 200
#define OPTION_MS_MAX INT64_C(31536000000000) /* a thousand years */

static struct error *parse_ms(const json_t *json, const char *name, int64_t min, int64_t *out)
{
    const json_t *value = json_object_get(json, name);
    if (value == NULL)
        return NULL;
    if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > OPTION_MS_MAX)
        return error_new(INVALID_ARGUMENT, "watermark: %s must be a whole number of milliseconds from %lld", name, (long long)min);
    *out = json_integer_value(value);
    return NULL;
}

static struct error *parse_strategy(const json_t *json, enum watermark_strategy *out)
{
    const char *name = json_string_value(json_object_get(json, "strategy"));
    if (name == NULL || strcmp(name, "none") == 0)
        *out = WATERMARK_NONE;
    else if (strcmp(name, "bounded") == 0)
        *out = WATERMARK_BOUNDED;
    else if (strcmp(name, "ascending") == 0)
        *out = WATERMARK_ASCENDING;
    else
        return error_new(INVALID_ARGUMENT, "watermark: unknown strategy \"%s\" (none, bounded or ascending)", name);
    return NULL;
}

static struct error *parse_column(const json_t *json, const struct schema *schema, int *out)
{
    const char *name = json_string_value(json_object_get(json, "column"));
    if (name == NULL)
        return NULL;
    int column = schema_find(schema, name);
    if (column < 0)
        return error_new(INVALID_ARGUMENT, "watermark: no column \"%s\"", name);
    enum data_type type = schema->fields[column].type;
    if (type != TYPE_TIMESTAMP && type != TYPE_INT64)
        return error_new(INVALID_ARGUMENT, "watermark: column \"%s\" is %s, not TIMESTAMP or BIGINT", name, data_type_name(type));
    *out = column;
    return NULL;
}

struct error *watermark_options_parse(const json_t *json, const struct schema *schema, struct watermark_options *out)
{
    struct watermark_options options = {.idle_timeout_ms = -1, .interval_ms = INTERVAL_DEFAULT_MS, .column = -1};
    TRY(parse_strategy(json, &options.strategy));
    TRY(parse_ms(json, "out_of_orderness_ms", 0, &options.out_of_orderness_ms));
    TRY(parse_ms(json, "idle_timeout_ms", -1, &options.idle_timeout_ms));
    TRY(parse_ms(json, "interval_ms", 0, &options.interval_ms));
    TRY(parse_column(json, schema, &options.column));
    if (options.strategy == WATERMARK_ASCENDING)
        options.out_of_orderness_ms = 0;
    options.function = json_string_value(json_object_get(json, "function"));
    if (options.function != NULL && options.column >= 0)
        return error_new(INVALID_ARGUMENT, "watermark: column and function exclude each other");
    *out = options;
    return NULL;
}

void watermark_generator_init(struct watermark_generator *generator, const struct watermark_options *options)
{
    *generator = (struct watermark_generator){
        .bound_ms = options->out_of_orderness_ms + 1, .max_timestamp = TIME_MIN, .watermark = TIME_MIN};
}

void watermark_generator_restore(struct watermark_generator *generator, int64_t max_timestamp, int64_t watermark)
{
    watermark_generator_on_timestamp(generator, max_timestamp);
    if (watermark > generator->watermark)
        generator->watermark = watermark;
}

int64_t watermark_generator_advance(struct watermark_generator *generator)
{
    int64_t candidate;
    if (__builtin_sub_overflow(generator->max_timestamp, generator->bound_ms, &candidate))
        candidate = TIME_MIN;
    if (candidate > generator->watermark)
        generator->watermark = candidate;
    return generator->watermark;
}

/* ---- event time ---- */

struct error *event_time_init(struct event_time *event_time, const struct watermark_options *options, struct op_context *ctx,
                              struct schema *schema)
{
    *event_time = (struct event_time){.column = options->column};
    if (options->function != NULL)
        TRY(timestamp_function_create(ctx, options->function, schema, &event_time->function));
    return NULL;
}

void event_time_finish(struct event_time *event_time)
{
    timestamp_function_destroy(event_time->function);
    event_time->function = NULL;
}

static struct buffer *times_without_nulls(const struct column *column, uint32_t row_count)
{
    struct buffer *buffer = buffer_create(row_count * sizeof(int64_t));
    buffer->size_bytes = row_count * sizeof(int64_t);
    int64_t *times = (int64_t *)(void *)buffer->data;
    const int64_t *values = column->values;
    for (uint32_t i = 0; i < row_count; i++)
        times[i] = column_is_null(column, i) ? TIME_MIN : values[i];
    return buffer;
}

static struct error *times_of_batch(struct event_time *event_time, struct batch *batch, struct buffer **out)
{
    if (event_time->column >= 0) {
        const struct column *column = &batch->columns[event_time->column];
        bool is_shareable = column->validity == NULL && column->values == (const void *)column->values_buffer->data;
        *out = is_shareable ? buffer_ref(column->values_buffer) : times_without_nulls(column, batch->row_count);
        return NULL;
    }
    struct buffer *buffer = buffer_create(batch->row_count * sizeof(int64_t));
    buffer->size_bytes = batch->row_count * sizeof(int64_t);
    struct error *err = timestamp_function_apply(event_time->function, batch, (int64_t *)(void *)buffer->data);
    if (err != NULL) {
        buffer_unref(buffer);
        return err;
    }
    *out = buffer;
    return NULL;
}

struct error *event_time_assign(struct event_time *event_time, struct batch *batch, struct batch **out)
{
    if (!event_time_is_set(event_time)) {
        *out = batch;
        return NULL;
    }
    struct buffer *times;
    struct error *err = times_of_batch(event_time, batch, &times);
    if (err != NULL) {
        batch_unref(batch);
        return err;
    }
    if (atomic_load_explicit(&batch->refs, memory_order_acquire) > 1) {
        *out = batch_with_event_time(batch, times);
        batch_unref(batch);
        return NULL;
    }
    buffer_unref(batch->event_time_buffer);
    batch->event_time_buffer = times;
    batch->event_time = (const int64_t *)(const void *)times->data;
    *out = batch;
    return NULL;
}

int64_t event_time_max(const int64_t *times, uint32_t first, uint32_t end)
{
    int64_t max = TIME_MIN;
    for (uint32_t i = first; i < end; i++)
        max = times[i] > max ? times[i] : max;
    return max;
}
