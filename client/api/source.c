/* Sources: options as structs become options as JSON (ARCHITECTURE.md, "The job graph"). */
#include "api_internal.h"

#include <inttypes.h>
#include <string.h>

static void set_text(json_t *object, const char *key, const char *value)
{
    if (value != NULL)
        json_object_set_new(object, key, json_string(value));
}

bool api_add_properties(struct mr_env *env, const char *who, json_t *object, const char *const *properties)
{
    for (size_t i = 0; properties != NULL && properties[i] != NULL; i += 2) {
        if (properties[i + 1] == NULL) {
            api_fail(env, "%s: property \"%s\" has no value", who, properties[i]);
            return false;
        }
        json_object_set_new(object, properties[i], json_string(properties[i + 1]));
    }
    return true;
}

json_t *api_format_options(struct mr_env *env, const char *who, const struct mr_format *format, const struct mr_record_type *type)
{
    static const char *const types[] = {[MR_JSON] = "json", [MR_CSV] = "csv", [MR_TEXT] = "string", [MR_RAW] = "raw"};
    if ((size_t)format->type >= sizeof types / sizeof types[0]) {
        api_fail(env, "%s: %d is no format", who, (int)format->type);
        return NULL;
    }
    bool is_single = format->type == MR_TEXT || format->type == MR_RAW;
    enum mr_type wanted = format->type == MR_TEXT ? MR_STRING : MR_BYTES;
    if (is_single && (type->field_count != 1 || (type->fields[0].type != MR_STRING && type->fields[0].type != wanted))) {
        api_fail(env, "%s: format %s needs a record with one field of type %s, and %s is not one", who, types[format->type],
                 wanted == MR_STRING ? "mr_string" : "mr_bytes", type->name);
        return NULL;
    }
    json_t *json = json_pack("{s:s}", "type", types[format->type]);
    set_text(json, "timestamp_format", format->timestamp_format);
    if (format->type == MR_CSV) {
        set_text(json, "field_delimiter", format->field_delimiter);
        set_text(json, "null_literal", format->null_literal);
    }
    return json;
}

json_t *api_watermark_options(struct mr_env *env, const char *who, const struct mr_watermarks *watermarks, const struct mr_record_type *type,
                              bool has_record_time)
{
    if (watermarks == NULL) {
        api_fail(env, "%s: no watermarks are given", who);
        return NULL;
    }
    bool has_time = watermarks->column != NULL || watermarks->timestamp != NULL || watermarks->is_record_time;
    if (watermarks->out_of_orderness_ms < 0 || watermarks->idle_timeout_ms < 0 || watermarks->interval_ms < 0) {
        api_fail(env, "%s: the times of a watermark strategy must not be negative", who);
        return NULL;
    }
    if (!has_time) {
        api_fail(env, "%s: watermarks need the event time: set column, timestamp%s", who, has_record_time ? " or is_record_time" : "");
        return NULL;
    }
    if (watermarks->is_record_time && !has_record_time) {
        api_fail(env, "%s: only Kafka records have a time of their own (is_record_time): set column or timestamp", who);
        return NULL;
    }
    json_t *json = json_pack("{s:s}", "strategy", watermarks->out_of_orderness_ms > 0 ? "bounded" : "ascending");
    if (watermarks->column != NULL) {
        int index = api_field_index(type, watermarks->column, strlen(watermarks->column));
        if (index < 0 || type->fields[index].type != MR_TIMESTAMP) {
            api_fail(env,
                     index < 0 ? "%s: the event time \"%s\" is no field of the record %s"
                               : "%s: the event time \"%s\" of the record %s is no mr_timestamp",
                     who, watermarks->column, type->name);
            json_decref(json);
            return NULL;
        }
        set_text(json, "column", watermarks->column);
    } else if (watermarks->timestamp != NULL) {
        const char *symbol = api_symbol(env, who, watermarks->timestamp, MR_FUNCTION_TIMESTAMP);
        if (symbol == NULL || !api_check_input(env, who, watermarks->timestamp, watermarks->timestamp->input, type)) {
            json_decref(json);
            return NULL;
        }
        set_text(json, "function", symbol);
    }
    json_object_set_new(json, "out_of_orderness_ms", json_integer(watermarks->out_of_orderness_ms));
    json_object_set_new(json, "idle_timeout_ms", json_integer(watermarks->idle_timeout_ms > 0 ? watermarks->idle_timeout_ms : -1));
    if (watermarks->interval_ms > 0)
        json_object_set_new(json, "interval_ms", json_integer(watermarks->interval_ms));
    return json;
}

/* A source may go without watermarks: all zero. */
static bool has_watermarks(const struct mr_watermarks *watermarks)
{
    return watermarks->column != NULL || watermarks->timestamp != NULL || watermarks->is_record_time || watermarks->out_of_orderness_ms != 0 ||
           watermarks->idle_timeout_ms != 0 || watermarks->interval_ms != 0;
}

/* Takes options, which may be NULL after a failure. */
static struct mr_stream *add_source(struct mr_env *env, const char *type, const char *name, const char *who, json_t *options,
                                    const struct mr_record_type *record, const struct mr_watermarks *watermarks, bool has_record_time)
{
    if (options == NULL)
        return api_failed(env);
    json_t *watermark = has_watermarks(watermarks) ? api_watermark_options(env, who, watermarks, record, has_record_time)
                                                   : json_pack("{s:s}", "strategy", "none");
    if (watermark == NULL) {
        json_decref(options);
        return api_failed(env);
    }
    json_object_set_new(options, "watermark", watermark);
    return api_stream_of(env, api_add_operator(env, type, api_printf("Source: %s", name), options, record));
}

/* The checks that all sources share; the text that begins their messages, or NULL. */
static const char *check_source(struct mr_env *env, const char *call, const char *name, bool has_options, const struct mr_record_type *record)
{
    const char *who = api_printf("%s \"%s\"", call, name != NULL ? name : "");
    if (env == NULL || name == NULL || *name == '\0' || !has_options) {
        api_fail(env, "%s: environment, name and options must be given", who);
        return NULL;
    }
    return api_check_record(env, who, record) ? who : NULL;
}

/* ---- Kafka ---- */

static const char *const starts[] = {
    [MR_START_EARLIEST] = "earliest",   [MR_START_LATEST] = "latest",    [MR_START_GROUP_OFFSETS] = "group-offsets",
    [MR_START_TIMESTAMP] = "timestamp", [MR_START_OFFSETS] = "specific",
};
static const char *const ends[] = {
    [MR_UNBOUNDED] = "none",           [MR_UNTIL_LATEST] = "latest",    [MR_UNTIL_GROUP_OFFSETS] = "group-offsets",
    [MR_UNTIL_TIMESTAMP] = "timestamp", [MR_UNTIL_OFFSETS] = "specific",
};

static json_t *position(const char *mode, int64_t timestamp_ms, const struct mr_kafka_offset *offsets)
{
    json_t *json = json_pack("{s:s}", "mode", mode);
    if (strcmp(mode, "timestamp") == 0)
        json_object_set_new(json, "timestamp_ms", json_integer(timestamp_ms));
    if (strcmp(mode, "specific") == 0) {
        json_t *object = json_object();
        for (; offsets != NULL && offsets->topic != NULL; offsets++)
            json_object_set_new(object, api_printf("%s:%" PRId32, offsets->topic, offsets->partition), json_integer(offsets->offset));
        json_object_set_new(json, "offsets", object);
    }
    return json;
}

static json_t *topic_list(const char *topics)
{
    json_t *array = json_array();
    for (const char *at = topics; at != NULL && *at != '\0'; at += strspn(at, ", ")) {
        size_t length = strcspn(at, ", ");
        if (length > 0)
            json_array_append_new(array, json_stringn(at, length));
        at += length;
    }
    return array;
}

static bool check_kafka_source(struct mr_env *env, const char *who, const struct mr_kafka_source_options *options)
{
    bool needs_group = options->start == MR_START_GROUP_OFFSETS || options->end == MR_UNTIL_GROUP_OFFSETS;
    const char *problem = NULL;
    if (options->bootstrap_servers == NULL || *options->bootstrap_servers == '\0')
        problem = "bootstrap_servers is missing";
    else if ((options->topics == NULL || *options->topics == '\0') == (options->topic_pattern == NULL))
        problem = "either topics or topic_pattern must be given";
    else if ((size_t)options->start >= sizeof starts / sizeof starts[0] || (size_t)options->end >= sizeof ends / sizeof ends[0])
        problem = "start or end is none of its enumerators";
    else if (needs_group && options->group_id == NULL)
        problem = "group offsets need a group_id";
    else if ((options->start == MR_START_OFFSETS && options->start_offsets == NULL) ||
             (options->end == MR_UNTIL_OFFSETS && options->end_offsets == NULL))
        problem = "specific offsets need a list of them";
    else if ((options->on_error == MR_ON_ERROR_DEAD_LETTER) != (options->dead_letter_topic != NULL))
        problem = "dead_letter_topic belongs to MR_ON_ERROR_DEAD_LETTER, and only to it";
    if (problem != NULL)
        api_fail(env, "%s: %s", who, problem);
    return problem == NULL;
}

static json_t *on_error_options(enum mr_on_error on_error, const char *dead_letter_topic)
{
    json_t *json = json_pack("{s:s}", "mode", on_error == MR_ON_ERROR_SKIP ? "skip" : on_error == MR_ON_ERROR_DEAD_LETTER ? "dead-letter" : "fail");
    set_text(json, "topic", dead_letter_topic);
    return json;
}

struct mr_stream *mr_from_kafka(struct mr_env *env, const char *name, const struct mr_kafka_source_options *options)
{
    const char *who = check_source(env, "mr_from_kafka", name, options != NULL, options != NULL ? options->record : NULL);
    if (who == NULL || !check_kafka_source(env, who, options))
        return api_failed(env);
    json_t *format = api_format_options(env, who, &options->format, options->record);
    json_t *properties = json_pack("{s:s}", "bootstrap.servers", options->bootstrap_servers);
    set_text(properties, "group.id", options->group_id);
    if (format == NULL || !api_add_properties(env, who, properties, options->properties)) {
        json_decref(format);
        json_decref(properties);
        return api_failed(env);
    }
    if (options->start == MR_START_GROUP_OFFSETS && json_object_get(properties, "auto.offset.reset") == NULL)
        set_text(properties, "auto.offset.reset", "earliest"); /* a group's first start */
    json_t *json = json_pack("{s:o, s:o, s:o, s:o, s:o}", "properties", properties, "format", format, "startup",
                             position(starts[options->start], options->start_timestamp_ms, options->start_offsets), "bounded",
                             position(ends[options->end], options->end_timestamp_ms, options->end_offsets), "on_error",
                             on_error_options(options->on_error, options->dead_letter_topic));
    if (options->topic_pattern != NULL)
        set_text(json, "topic_pattern", options->topic_pattern);
    else
        json_object_set_new(json, "topics", topic_list(options->topics));
    if (options->discovery_interval_ms != 0)
        json_object_set_new(json, "discovery_interval_ms", json_integer(options->discovery_interval_ms));
    return add_source(env, "kafka-source", name, who, json, options->record, &options->watermarks, true);
}

/* ---- generated data ---- */

/* Whole numbers are written as such: the reader tells a BIGINT's bounds from a DOUBLE's. */
static json_t *number(double value)
{
    return value >= -9e15 && value <= 9e15 && value == (double)(int64_t)value ? json_integer((int64_t)value) : json_real(value);
}

static json_t *datagen_field(const struct mr_datagen_field *field)
{
    json_t *json = json_pack("{s:s}", "kind", field->kind == MR_GENERATE_SEQUENCE ? "sequence" : "random");
    if (field->kind == MR_GENERATE_SEQUENCE) {
        json_object_set_new(json, "start", number(field->min));
        if (field->max > field->min)
            json_object_set_new(json, "end", number(field->max));
        if (field->step != 0)
            json_object_set_new(json, "step", number(field->step));
    } else if (field->max > field->min) {
        json_object_set_new(json, "min", number(field->min));
        json_object_set_new(json, "max", number(field->max));
    }
    if (field->length > 0)
        json_object_set_new(json, "length", json_integer(field->length));
    if (field->values != NULL) {
        json_t *values = json_array();
        for (const char *const *value = field->values; *value != NULL; value++)
            json_array_append_new(values, json_string(*value));
        json_object_set_new(json, "values", values);
    }
    return json;
}

struct mr_stream *mr_from_datagen(struct mr_env *env, const char *name, const struct mr_datagen_source_options *options)
{
    const char *who = check_source(env, "mr_from_datagen", name, options != NULL, options != NULL ? options->record : NULL);
    if (who == NULL)
        return api_failed(env);
    if (options->rows_per_second < 0 || options->number_of_rows < 0) {
        api_fail(env, "%s: rows_per_second and number_of_rows must not be negative", who);
        return api_failed(env);
    }
    json_t *fields = json_object();
    for (const struct mr_datagen_field *field = options->fields; field != NULL && field->name != NULL; field++) {
        if (api_field_index(options->record, field->name, strlen(field->name)) < 0) {
            api_fail(env, "%s: record %s has no field \"%s\"", who, options->record->name, field->name);
            json_decref(fields);
            return api_failed(env);
        }
        json_object_set_new(fields, field->name, datagen_field(field));
    }
    json_t *json = json_pack("{s:o}", "fields", fields);
    if (options->rows_per_second > 0)
        json_object_set_new(json, "rows_per_second", json_integer(options->rows_per_second));
    if (options->number_of_rows > 0)
        json_object_set_new(json, "number_of_rows", json_integer(options->number_of_rows));
    return add_source(env, "datagen-source", name, who, json, options->record, &options->watermarks, false);
}

/* ---- files ---- */

struct mr_stream *mr_from_file(struct mr_env *env, const char *name, const struct mr_file_source_options *options)
{
    const char *who = check_source(env, "mr_from_file", name, options != NULL, options != NULL ? options->record : NULL);
    if (who == NULL)
        return api_failed(env);
    if (options->path == NULL || *options->path == '\0' || options->monitor_interval_ms < 0 || options->on_error == MR_ON_ERROR_DEAD_LETTER) {
        api_fail(env, "%s: a path must be given, no negative interval, and no dead-letter topic", who);
        return api_failed(env);
    }
    json_t *format = api_format_options(env, who, &options->format, options->record);
    if (format == NULL)
        return api_failed(env);
    json_t *json = json_pack("{s:s, s:o, s:o}", "path", options->path, "format", format, "on_error", on_error_options(options->on_error, NULL));
    if (options->monitor_interval_ms > 0)
        json_object_set_new(json, "monitor_interval_ms", json_integer(options->monitor_interval_ms));
    return add_source(env, "file-source", name, who, json, options->record, &options->watermarks, false);
}

/* ---- collections ---- */

static json_t *member_json(const void *member, enum mr_type type)
{
    const mr_string *text = member;
    switch (type) {
    case MR_BOOLEAN: return json_boolean(*(const bool *)member);
    case MR_INT8: return json_integer(*(const int8_t *)member);
    case MR_INT16: return json_integer(*(const int16_t *)member);
    case MR_INT32: return json_integer(*(const int32_t *)member);
    case MR_INT64:
    case MR_TIMESTAMP: return json_integer(*(const int64_t *)member);
    case MR_FLOAT: return json_real((double)*(const float *)member);
    case MR_DOUBLE: return json_real(*(const double *)member);
    case MR_STRING:
    case MR_BYTES: return json_stringn(text->data != NULL ? text->data : "", text->length);
    }
    return NULL;
}

static json_t *record_json(const struct mr_record_type *type, const char *record)
{
    json_t *row = json_object();
    size_t offset = 0;
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct mr_field *field = &type->fields[i];
        offset = (offset + field->alignment - 1) / field->alignment * field->alignment;
        json_t *value = member_json(record + offset, field->type);
        if (value == NULL || json_object_set_new(row, field->name, value) != 0) {
            json_decref(row);
            return NULL;
        }
        offset += field->size_bytes;
    }
    return row;
}

struct mr_stream *mr_from_collection(struct mr_env *env, const char *name, const struct mr_collection_source_options *options)
{
    const char *who = check_source(env, "mr_from_collection", name, options != NULL, options != NULL ? options->record : NULL);
    if (who == NULL)
        return api_failed(env);
    if (options->records == NULL && options->count > 0) {
        api_fail(env, "%s: no records are given", who);
        return api_failed(env);
    }
    json_t *rows = json_array();
    for (uint32_t i = 0; i < options->count; i++) {
        const char *record = (const char *)options->records + (size_t)i * options->record->size_bytes;
        json_t *row = record_json(options->record, record);
        if (row == NULL) {
            api_fail(env, "%s: record %u holds a text that is not UTF-8, or a number that is not finite", who, i);
            json_decref(rows);
            return api_failed(env);
        }
        json_array_append_new(rows, row);
    }
    return add_source(env, "collection-source", name, who, json_pack("{s:o}", "rows", rows), options->record, &options->watermarks, false);
}
