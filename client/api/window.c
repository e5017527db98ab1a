/* Windows: see window.h. */
#include "api_internal.h"

#include <inttypes.h>
#include <string.h>

struct mr_windowed {
    struct mr_stream *stream; /* NULL after a mistake */
    struct mr_window_assigner assigner;
    bool is_all;
    int64_t allowed_lateness_ms;
    const char *late_tag;
};

static struct mr_windowed *windowed_of(struct mr_stream *stream, struct mr_window_assigner assigner, bool is_all)
{
    struct mr_windowed *windowed = api_alloc(sizeof *windowed);
    const char *call = is_all ? "mr_window_all" : "mr_window";
    if (api_is_failed(stream)) {
        if (stream == NULL)
            api_fail(NULL, "%s: no stream is given", call);
        return windowed;
    }
    bool is_valid = assigner.kind == MR_SESSION ? assigner.gap_ms > 0 : assigner.size_ms > 0;
    if (assigner.kind == MR_SLIDING)
        is_valid = is_valid && assigner.slide_ms > 0;
    int64_t slide_ms = assigner.kind == MR_SLIDING ? assigner.slide_ms : assigner.size_ms;
    if (!is_valid)
        api_fail(stream->env, "%s: the size, slide or gap of a window must be positive", call);
    else if (assigner.kind != MR_SESSION && (assigner.offset_ms >= slide_ms || assigner.offset_ms <= -slide_ms))
        api_fail(stream->env, "%s: the offset of the windows, %" PRId64 " ms, must be smaller than their %s, %" PRId64 " ms", call,
                 assigner.offset_ms, assigner.kind == MR_SLIDING ? "slide" : "size", slide_ms);
    else if (stream->type == NULL)
        api_fail(stream->env, "%s: a sink has no output", call);
    else if (!is_all && stream->key_count == 0)
        api_fail(stream->env, "mr_window: the stream after \"%s\" has no key: use mr_key_by first, or mr_window_all", stream->upstreams[0].op->name);
    else
        windowed->stream = is_all ? mr_global(stream) : stream;
    windowed->assigner = assigner;
    windowed->is_all = is_all;
    return windowed;
}

struct mr_windowed *mr_window(struct mr_stream *keyed, struct mr_window_assigner assigner)
{
    return windowed_of(keyed, assigner, false);
}

struct mr_windowed *mr_window_all(struct mr_stream *stream, struct mr_window_assigner assigner)
{
    return windowed_of(stream, assigner, true);
}

struct mr_windowed *mr_allowed_lateness(struct mr_windowed *windowed, int64_t lateness_ms)
{
    if (windowed == NULL || windowed->stream == NULL)
        return windowed;
    if (lateness_ms < 0)
        api_fail(windowed->stream->env, "mr_allowed_lateness: %" PRId64 " ms is negative", lateness_ms);
    windowed->allowed_lateness_ms = lateness_ms;
    return windowed;
}

struct mr_windowed *mr_late_side_output(struct mr_windowed *windowed, const char *tag)
{
    if (windowed == NULL || windowed->stream == NULL)
        return windowed;
    if (tag == NULL || *tag == '\0')
        api_fail(windowed->stream->env, "mr_late_side_output: the tag is empty");
    else
        windowed->late_tag = api_copy(tag);
    return windowed;
}

static json_t *assigner_json(const struct mr_window_assigner *assigner)
{
    static const char *const kinds[] = {[MR_TUMBLING] = "tumbling", [MR_SLIDING] = "sliding", [MR_SESSION] = "session"};
    json_t *json = json_pack("{s:s, s:s}", "type", kinds[assigner->kind], "time", assigner->time == MR_EVENT_TIME ? "event" : "processing");
    if (assigner->kind == MR_SESSION) {
        json_object_set_new(json, "gap_ms", json_integer(assigner->gap_ms));
        return json;
    }
    json_object_set_new(json, "size_ms", json_integer(assigner->size_ms));
    if (assigner->kind == MR_SLIDING)
        json_object_set_new(json, "slide_ms", json_integer(assigner->slide_ms));
    json_object_set_new(json, "offset_ms", json_integer(assigner->offset_ms));
    return json;
}

/* Flink's names: TumblingEventTimeWindows(15000), SlidingProcessingTimeWindows(60000, 1000), EventTimeSessionWindows(5000). */
static char *assigner_name(const struct mr_window_assigner *assigner, bool with_sizes)
{
    const char *time = assigner->time == MR_EVENT_TIME ? "EventTime" : "ProcessingTime";
    char *name = assigner->kind == MR_SESSION    ? api_printf("%sSessionWindows", time)
                 : assigner->kind == MR_SLIDING ? api_printf("Sliding%sWindows", time)
                                                : api_printf("Tumbling%sWindows", time);
    if (!with_sizes)
        return name;
    if (assigner->kind == MR_SLIDING)
        return api_printf("%s(%" PRId64 ", %" PRId64 ")", name, assigner->size_ms, assigner->slide_ms);
    return api_printf("%s(%" PRId64 ")", name, assigner->kind == MR_SESSION ? assigner->gap_ms : assigner->size_ms);
}

static struct mr_stream *window_operator(struct mr_windowed *windowed, json_t *options, const char *functions, const struct mr_record_type *output)
{
    struct mr_stream *stream = windowed->stream;
    json_object_set_new(options, "assigner", assigner_json(&windowed->assigner));
    json_object_set_new(options, "allowed_lateness_ms", json_integer(windowed->allowed_lateness_ms));
    json_object_set_new(options, "late_side_output", json_integer(windowed->late_tag != NULL ? 0 : -1));
    json_object_set_new(options, "key_columns", api_columns(stream->key_columns, stream->key_count));
    struct api_operator *op = api_add_operator(stream->env, "window", assigner_name(&windowed->assigner, false), options, output);
    op->description = api_printf("Window(%s, %s, %s)", assigner_name(&windowed->assigner, true),
                                 windowed->assigner.time == MR_EVENT_TIME ? "EventTimeTrigger" : "ProcessingTimeTrigger", functions);
    api_connect(op, stream, 0);
    api_inherit_group(op, stream, NULL);
    if (windowed->is_all) {
        op->parallelism = 1;
        op->max_parallelism = 1;
        op->is_single = true;
    }
    struct mr_stream *result = api_stream_of(stream->env, op);
    if (windowed->late_tag != NULL)
        mr_side_output(result, windowed->late_tag, stream->type);
    return result;
}

static struct mr_stream *failed_of(const struct mr_windowed *windowed, const char *call)
{
    if (windowed == NULL)
        api_fail(NULL, "%s: no window is given", call);
    return api_failed(windowed != NULL && windowed->stream != NULL ? windowed->stream->env : NULL);
}

static struct mr_stream *incremental(struct mr_windowed *windowed, const char *member, enum mr_function_kind kind,
                                     const struct mr_function *function, const struct mr_function *window_function)
{
    struct mr_stream *stream = windowed->stream;
    const char *who = api_printf("window after \"%s\"", stream->upstreams[0].op->name);
    const char *symbol = api_symbol(stream->env, who, function, kind);
    if (symbol == NULL || !api_check_input(stream->env, who, function, function->input, stream->type))
        return api_failed(stream->env);
    if (kind == MR_FUNCTION_AGGREGATE && windowed->assigner.kind == MR_SESSION && function->call.aggregate.merge == NULL) {
        api_fail(stream->env, "%s: aggregate function \"%s\" cannot merge session windows: define it with MR_AGGREGATE_MERGE", who, function->name);
        return api_failed(stream->env);
    }
    json_t *options = json_pack("{s:s}", member, symbol);
    const struct mr_record_type *output = function->output;
    if (window_function != NULL) {
        const char *window_symbol = api_symbol(stream->env, who, window_function, MR_FUNCTION_WINDOW_RESULT);
        if (window_symbol == NULL || !api_check_input(stream->env, who, window_function, window_function->input, function->output)) {
            json_decref(options);
            return api_failed(stream->env);
        }
        json_object_set_new(options, "window_function", json_string(window_symbol));
        output = window_function->output;
    }
    const char *functions = api_printf("%s, %s", function->name, window_function != NULL ? window_function->name : "PassThroughWindowFunction");
    return window_operator(windowed, options, functions, output);
}

struct mr_stream *mr_aggregate(struct mr_windowed *windowed, const struct mr_function *aggregate, const struct mr_function *window_function)
{
    if (windowed == NULL || windowed->stream == NULL)
        return failed_of(windowed, "mr_aggregate");
    return incremental(windowed, "aggregate", MR_FUNCTION_AGGREGATE, aggregate, window_function);
}

struct mr_stream *mr_reduce(struct mr_windowed *windowed, const struct mr_function *reduce, const struct mr_function *window_function)
{
    if (windowed == NULL || windowed->stream == NULL)
        return failed_of(windowed, "mr_reduce");
    return incremental(windowed, "reduce", MR_FUNCTION_REDUCE, reduce, window_function);
}

struct mr_stream *mr_apply(struct mr_windowed *windowed, const struct mr_function *function)
{
    if (windowed == NULL || windowed->stream == NULL)
        return failed_of(windowed, "mr_apply");
    struct mr_stream *stream = windowed->stream;
    const char *who = api_printf("window after \"%s\"", stream->upstreams[0].op->name);
    const char *symbol = api_symbol(stream->env, who, function, MR_FUNCTION_WINDOW);
    if (symbol == NULL || !api_check_input(stream->env, who, function, function->input, stream->type))
        return api_failed(stream->env);
    return window_operator(windowed, json_pack("{s:s}", "window_function", symbol), function->name, function->output);
}

/* ---- built-in aggregates ---- */

static bool is_real(enum mr_type type)
{
    return type == MR_FLOAT || type == MR_DOUBLE;
}

static bool is_number(enum mr_type type)
{
    return type != MR_BOOLEAN && type != MR_STRING && type != MR_BYTES;
}

static enum mr_type builtin_type(const struct mr_builtin *builtin, enum mr_type field)
{
    switch (builtin->kind) {
    case MR_COUNT: return MR_INT64;
    case MR_SUM: return is_real(field) ? MR_DOUBLE : MR_INT64;
    case MR_AVG: return MR_DOUBLE;
    case MR_MIN:
    case MR_MAX: return field;
    }
    return field;
}

/* One entry of the list: its place in the input and in the output. */
static json_t *builtin_json(struct mr_env *env, const char *who, const struct mr_builtin *list, const struct mr_builtin *builtin,
                            const struct mr_record_type *input, const struct mr_record_type *output)
{
    static const char *const kinds[] = {[MR_COUNT] = "count", [MR_SUM] = "sum", [MR_MIN] = "min", [MR_MAX] = "max", [MR_AVG] = "avg"};
    int field = builtin->field != NULL ? api_field_index(input, builtin->field, strlen(builtin->field)) : -1;
    int as = api_field_index(output, builtin->as, strlen(builtin->as));
    for (const struct mr_builtin *before = list; before < builtin; before++) {
        if (strcmp(before->as, builtin->as) == 0) {
            api_fail(env, "%s: there are two aggregates \"%s\"", who, builtin->as);
            return NULL;
        }
    }
    if ((size_t)builtin->kind >= sizeof kinds / sizeof kinds[0] || (field < 0 && (builtin->field != NULL || builtin->kind != MR_COUNT)) || as < 0) {
        api_fail(env,
                 as < 0 ? "%s: the output record %s has no field for aggregate \"%s\"" : "%s: the record %s has no field for aggregate \"%s\"",
                 who, as < 0 ? output->name : input->name, builtin->as);
        return NULL;
    }
    enum mr_type type = field >= 0 ? input->fields[field].type : MR_INT64;
    enum mr_type wanted = builtin_type(builtin, type);
    if ((!is_number(type) && builtin->kind != MR_COUNT) || output->fields[as].type != wanted) {
        api_fail(env, "%s: aggregate \"%s\" is %s of a field of type %s: the output field must be %s", who, builtin->as, kinds[builtin->kind],
                 api_type_name(type), is_number(type) ? api_type_name(wanted) : "a number's");
        return NULL;
    }
    return json_pack("{s:s, s:i, s:s}", "function", kinds[builtin->kind], "column", field, "as", builtin->as);
}

/* Fields that no aggregate fills are keys or window bounds. */
static bool check_builtin_output(struct mr_windowed *windowed, const char *who, const struct mr_builtin *list, const struct mr_record_type *output)
{
    const struct mr_stream *stream = windowed->stream;
    for (uint32_t i = 0; i < output->field_count; i++) {
        const struct mr_field *field = &output->fields[i];
        bool is_filled = field->type == MR_TIMESTAMP && (strcmp(field->name, "window_start") == 0 || strcmp(field->name, "window_end") == 0);
        for (const struct mr_builtin *builtin = list; builtin->as != NULL && !is_filled; builtin++)
            is_filled = strcmp(builtin->as, field->name) == 0;
        for (uint32_t k = 0; k < stream->key_count && !is_filled; k++) {
            const struct mr_field *key = &stream->type->fields[stream->key_columns[k]];
            is_filled = strcmp(key->name, field->name) == 0 && key->type == field->type;
        }
        if (!is_filled) {
            api_fail(stream->env, "%s: field \"%s\" of the output record %s is no aggregate, no key, and no window_start or window_end",
                     who, field->name, output->name);
            return false;
        }
    }
    return true;
}

struct mr_stream *mr_aggregate_builtin(struct mr_windowed *windowed, const struct mr_builtin *list, const struct mr_record_type *output)
{
    if (windowed == NULL || windowed->stream == NULL)
        return failed_of(windowed, "mr_aggregate_builtin");
    struct mr_stream *stream = windowed->stream;
    const char *who = api_printf("window after \"%s\"", stream->upstreams[0].op->name);
    if (list == NULL || list->as == NULL) {
        api_fail(stream->env, "%s: no aggregates are given", who);
        return api_failed(stream->env);
    }
    if (!api_check_record(stream->env, who, output) || !check_builtin_output(windowed, who, list, output))
        return api_failed(stream->env);
    json_t *array = json_array();
    const char *names = "";
    for (const struct mr_builtin *builtin = list; builtin->as != NULL; builtin++) {
        json_t *json = builtin_json(stream->env, who, list, builtin, stream->type, output);
        if (json == NULL) {
            json_decref(array);
            return api_failed(stream->env);
        }
        json_array_append_new(array, json);
        names = api_printf("%s%s%s", names, builtin == list ? "" : ", ", builtin->as);
    }
    return window_operator(windowed, json_pack("{s:o}", "builtin", array), names, output);
}
