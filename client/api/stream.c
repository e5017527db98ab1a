/* Streams and transformations other than windows. */
#include "api_internal.h"

#include <stdlib.h>
#include <string.h>

bool api_is_failed(const struct mr_stream *stream)
{
    return stream == NULL || stream->upstream_count == 0;
}

struct mr_stream *api_failed(struct mr_env *env)
{
    struct mr_stream *stream = api_alloc(sizeof *stream);
    stream->env = env;
    return stream;
}

/* What a call on a failed stream returns. A NULL that follows no mistake is one itself. */
static struct mr_stream *swallow(const struct mr_stream *stream, const char *call)
{
    if (stream == NULL)
        api_fail(NULL, "%s: no stream is given", call);
    return api_failed(stream != NULL ? stream->env : NULL);
}

struct api_operator *api_add_operator(struct mr_env *env, const char *type, const char *name, json_t *options,
                                      const struct mr_record_type *output)
{
    struct api_operator *op = api_alloc(sizeof *op);
    op->index = env->operator_count;
    op->type = type;
    op->name = api_copy(name);
    op->options = options;
    op->output = output;
    op->inputs = json_array();
    op->slot_sharing_group = api_copy("default");
    op->chaining = "ALWAYS";
    struct api_operator **operators = realloc(env->operators, (env->operator_count + 1) * sizeof(struct api_operator *));
    if (operators == NULL)
        abort();
    env->operators = operators;
    env->operators[env->operator_count++] = op;
    return op;
}

void api_connect(struct api_operator *op, const struct mr_stream *stream, uint32_t input)
{
    for (uint32_t i = 0; i < stream->upstream_count; i++) {
        const struct api_upstream *upstream = &stream->upstreams[i];
        json_array_append_new(op->inputs,
                              json_pack("{s:I, s:I, s:I, s:s, s:o}", "source", (json_int_t)upstream->op->index, "side_output",
                                        (json_int_t)upstream->side_output, "input", (json_int_t)input, "partitioning",
                                        upstream->partitioning, "key_columns", api_columns(stream->key_columns, stream->key_count)));
    }
}

void api_inherit_group(struct api_operator *op, const struct mr_stream *first, const struct mr_stream *second)
{
    const char *group = first->upstreams[0].op->slot_sharing_group;
    const struct mr_stream *both[] = {first, second};
    for (size_t s = 0; s < 2; s++) {
        for (uint32_t i = 0; both[s] != NULL && i < both[s]->upstream_count; i++) {
            if (strcmp(both[s]->upstreams[i].op->slot_sharing_group, group) != 0)
                group = "default";
        }
    }
    op->slot_sharing_group = api_copy(group);
}

struct mr_stream *api_stream_of(struct mr_env *env, struct api_operator *op)
{
    struct mr_stream *stream = api_failed(env);
    stream->type = op->output;
    stream->upstreams = api_alloc(sizeof *stream->upstreams);
    stream->upstreams[0] = (struct api_upstream){op, -1, "FORWARD"};
    stream->upstream_count = 1;
    return stream;
}

/* A sink's handle has no rows. */
static bool can_read(const struct mr_stream *stream, const char *who)
{
    if (api_is_failed(stream))
        return false;
    if (stream->type == NULL)
        api_fail(stream->env, "%s: a sink has no output", who);
    return stream->type != NULL;
}

static struct mr_stream *one_input(struct mr_stream *stream, const char *type, const char *name, const struct mr_function *function,
                                   enum mr_function_kind kind, const struct mr_record_type *output)
{
    const char *who = api_printf("%s after \"%s\"", name, stream->upstreams[0].op->name);
    const char *symbol = can_read(stream, who) ? api_symbol(stream->env, who, function, kind) : NULL;
    if (symbol == NULL || !api_check_input(stream->env, who, function, function->input, stream->type))
        return api_failed(stream->env);
    json_t *options = json_pack("{s:s}", "function", symbol);
    if (stream->key_count > 0)
        json_object_set_new(options, "key_columns", api_columns(stream->key_columns, stream->key_count));
    struct api_operator *op = api_add_operator(stream->env, type, name, options, output != NULL ? output : function->output);
    api_connect(op, stream, 0);
    api_inherit_group(op, stream, NULL);
    return api_stream_of(stream->env, op);
}

struct mr_stream *mr_map(struct mr_stream *stream, const struct mr_function *map)
{
    return api_is_failed(stream) ? swallow(stream, "mr_map") : one_input(stream, "map", "Map", map, MR_FUNCTION_MAP, NULL);
}

struct mr_stream *mr_flat_map(struct mr_stream *stream, const struct mr_function *flat_map)
{
    return api_is_failed(stream) ? swallow(stream, "mr_flat_map")
                                 : one_input(stream, "flat_map", "Flat Map", flat_map, MR_FUNCTION_FLAT_MAP, NULL);
}

struct mr_stream *mr_filter(struct mr_stream *stream, const struct mr_function *filter)
{
    return api_is_failed(stream) ? swallow(stream, "mr_filter")
                                 : one_input(stream, "filter", "Filter", filter, MR_FUNCTION_FILTER, stream->type);
}

struct mr_stream *mr_process(struct mr_stream *stream, const struct mr_function *process)
{
    if (api_is_failed(stream))
        return swallow(stream, "mr_process");
    return one_input(stream, "process", stream->key_count > 0 ? "KeyedProcess" : "Process", process, MR_FUNCTION_PROCESS, NULL);
}

static struct mr_stream *repartition(struct mr_stream *stream, const char *call, const char *partitioning)
{
    if (api_is_failed(stream))
        return swallow(stream, call);
    struct mr_stream *result = api_alloc(sizeof *result);
    *result = *stream;
    result->upstreams = api_alloc(stream->upstream_count * sizeof *result->upstreams);
    for (uint32_t i = 0; i < stream->upstream_count; i++)
        result->upstreams[i] = (struct api_upstream){stream->upstreams[i].op, stream->upstreams[i].side_output, partitioning};
    result->key_columns = NULL;
    result->key_count = 0;
    return result;
}

struct mr_stream *mr_key_by(struct mr_stream *stream, const char *fields)
{
    struct mr_stream *keyed = repartition(stream, "mr_key_by", "HASH");
    if (api_is_failed(keyed))
        return keyed;
    const char *who = api_printf("key by after \"%s\"", stream->upstreams[0].op->name);
    if (!can_read(stream, who) || !api_parse_fields(stream->env, who, stream->type, fields, &keyed->key_columns, &keyed->key_count))
        return api_failed(stream->env);
    return keyed;
}

struct mr_stream *mr_forward(struct mr_stream *stream)
{
    return repartition(stream, "mr_forward", "FORWARD");
}

struct mr_stream *mr_rebalance(struct mr_stream *stream)
{
    return repartition(stream, "mr_rebalance", "REBALANCE");
}

struct mr_stream *mr_rescale(struct mr_stream *stream)
{
    return repartition(stream, "mr_rescale", "RESCALE");
}

struct mr_stream *mr_broadcast(struct mr_stream *stream)
{
    return repartition(stream, "mr_broadcast", "BROADCAST");
}

struct mr_stream *mr_global(struct mr_stream *stream)
{
    return repartition(stream, "mr_global", "GLOBAL");
}

/* Each part keeps its own way on; that of a keyed one ends with its key. */
static void add_upstreams(struct mr_stream *to, const struct mr_stream *from)
{
    for (uint32_t i = 0; i < from->upstream_count; i++) {
        struct api_upstream upstream = from->upstreams[i];
        if (from->key_count > 0)
            upstream.partitioning = "FORWARD";
        to->upstreams[to->upstream_count++] = upstream;
    }
}

struct mr_stream *mr_union(struct mr_stream *first, struct mr_stream *second)
{
    if (api_is_failed(first) || api_is_failed(second))
        return swallow(api_is_failed(first) ? first : second, "mr_union");
    const char *who = api_printf("union of \"%s\" and \"%s\"", first->upstreams[0].op->name, second->upstreams[0].op->name);
    if (!can_read(first, who) || !can_read(second, who))
        return api_failed(first->env);
    bool is_same = first->type->field_count == second->type->field_count;
    for (uint32_t i = 0; is_same && i < first->type->field_count; i++)
        is_same = first->type->fields[i].type == second->type->fields[i].type &&
                  strcmp(first->type->fields[i].name, second->type->fields[i].name) == 0;
    if (!is_same) {
        api_fail(first->env, "%s: the records %s and %s do not have the same fields in the same order", who, first->type->name, second->type->name);
        return api_failed(first->env);
    }
    struct mr_stream *result = api_failed(first->env);
    result->type = first->type;
    result->upstreams = api_alloc((first->upstream_count + second->upstream_count) * sizeof *result->upstreams);
    add_upstreams(result, first);
    add_upstreams(result, second);
    return result;
}

static bool check_co_keys(const char *who, const struct mr_stream *first, const struct mr_stream *second)
{
    bool is_same = first->key_count == second->key_count;
    for (uint32_t i = 0; is_same && i < first->key_count; i++)
        is_same = first->type->fields[first->key_columns[i]].type == second->type->fields[second->key_columns[i]].type;
    if (!is_same)
        api_fail(first->env, "%s: the two streams must have keys of the same types (mr_key_by), or none", who);
    return is_same;
}

struct mr_stream *mr_connect_process(struct mr_stream *first, struct mr_stream *second, const struct mr_function *co_process)
{
    if (api_is_failed(first) || api_is_failed(second))
        return swallow(api_is_failed(first) ? first : second, "mr_connect_process");
    struct mr_env *env = first->env;
    const char *who = api_printf("co-process of \"%s\" and \"%s\"", first->upstreams[0].op->name, second->upstreams[0].op->name);
    if (!can_read(first, who) || !can_read(second, who) || !check_co_keys(who, first, second))
        return api_failed(env);
    const char *symbol = api_symbol(env, who, co_process, MR_FUNCTION_CO_PROCESS);
    if (symbol == NULL || !api_check_input(env, who, co_process, co_process->input, first->type) ||
        !api_check_input(env, who, co_process, co_process->second_input, second->type))
        return api_failed(env);
    json_t *options = json_pack("{s:s}", "function", symbol);
    if (first->key_count > 0)
        json_object_set_new(options, "key_columns", json_pack("[o, o]", api_columns(first->key_columns, first->key_count),
                                                              api_columns(second->key_columns, second->key_count)));
    const char *name = first->key_count > 0 ? "Co-Keyed-Process" : "Co-Process";
    struct api_operator *op = api_add_operator(env, "co_process", name, options, co_process->output);
    api_connect(op, first, 0);
    api_connect(op, second, 1);
    api_inherit_group(op, first, second);
    return api_stream_of(env, op);
}

struct mr_stream *mr_side_output(struct mr_stream *stream, const char *tag, const struct mr_record_type *type)
{
    if (api_is_failed(stream))
        return swallow(stream, "mr_side_output");
    struct api_operator *op = stream->upstreams[0].op;
    const char *who = api_printf("side output \"%s\" of \"%s\"", tag != NULL ? tag : "", op->name);
    uint32_t index = 0;
    while (tag != NULL && index < op->side_output_count && strcmp(op->side_outputs[index].tag, tag) != 0)
        index++;
    bool is_new = index == op->side_output_count;
    if (tag == NULL || *tag == '\0' || stream->upstream_count != 1 || (is_new && type == NULL)) {
        api_fail(stream->env, is_new && type == NULL ? "%s: the operator has no side output of this tag for late rows, and no record type is given"
                                                     : "%s: needs a tag and the stream of one operator", who);
        return api_failed(stream->env);
    }
    if (is_new) {
        if (!api_check_record(stream->env, who, type))
            return api_failed(stream->env);
        struct api_side_output *outputs = api_alloc((op->side_output_count + 1) * sizeof *outputs);
        if (index > 0)
            memcpy(outputs, op->side_outputs, index * sizeof *outputs);
        outputs[index] = (struct api_side_output){api_copy(tag), type};
        op->side_outputs = outputs;
        op->side_output_count++;
    }
    struct mr_stream *result = api_stream_of(stream->env, op);
    result->type = op->side_outputs[index].type;
    result->upstreams[0].side_output = (int32_t)index;
    return result;
}

struct mr_stream *mr_assign_watermarks(struct mr_stream *stream, const struct mr_watermarks *watermarks)
{
    if (api_is_failed(stream))
        return swallow(stream, "mr_assign_watermarks");
    const char *who = api_printf("timestamps after \"%s\"", stream->upstreams[0].op->name);
    json_t *options = can_read(stream, who) ? api_watermark_options(stream->env, who, watermarks, stream->type, false) : NULL;
    if (options == NULL)
        return api_failed(stream->env);
    struct api_operator *op =
        api_add_operator(stream->env, "assign_timestamps", "Timestamps/Watermarks", json_pack("{s:o}", "watermark", options), stream->type);
    api_connect(op, stream, 0);
    api_inherit_group(op, stream, NULL);
    return api_stream_of(stream->env, op);
}

/* ---- settings ---- */

/* The operator that a setting is for; NULL for failed streams. */
static struct api_operator *subject(struct mr_stream *stream, const char *call)
{
    if (api_is_failed(stream)) {
        if (stream == NULL)
            api_fail(NULL, "%s: no stream is given", call);
        return NULL;
    }
    if (stream->upstream_count > 1) {
        api_fail(stream->env, "%s: a union is no operator and has no settings", call);
        return NULL;
    }
    return stream->upstreams[0].op;
}

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

struct mr_stream *mr_name(struct mr_stream *stream, const char *name)
{
    struct api_operator *op = subject(stream, "mr_name");
    if (op == NULL)
        return stream;
    if (name == NULL || *name == '\0') {
        api_fail(stream->env, "mr_name: the name of \"%s\" is empty", op->name);
    } else if (op->committer != NULL) {
        op->name = api_printf("%s: Writer", name);
        op->committer->name = api_printf("%s: Committer", name);
    } else {
        bool is_source = json_array_size(op->inputs) == 0 && !has_prefix(name, "Source: ");
        op->name = is_source ? api_printf("Source: %s", name) : api_copy(name);
    }
    return stream;
}

struct mr_stream *mr_uid(struct mr_stream *stream, const char *uid)
{
    struct api_operator *op = subject(stream, "mr_uid");
    if (op == NULL)
        return stream;
    if (uid == NULL || *uid == '\0')
        api_fail(stream->env, "mr_uid: the uid of \"%s\" is empty", op->name);
    op->uid = api_copy(uid);
    if (op->committer != NULL && uid != NULL)
        op->committer->uid = api_printf("Sink Committer: %s", uid);
    return stream;
}

struct mr_stream *mr_description(struct mr_stream *stream, const char *description)
{
    struct api_operator *op = subject(stream, "mr_description");
    if (op != NULL)
        op->description = api_copy(description);
    return stream;
}

struct mr_stream *mr_set_parallelism(struct mr_stream *stream, uint32_t parallelism)
{
    struct api_operator *op = subject(stream, "mr_set_parallelism");
    if (op == NULL)
        return stream;
    if (parallelism == 0 || parallelism > 32768)
        api_fail(stream->env, "mr_set_parallelism: the parallelism of \"%s\" must be from 1 to 32768, not %u", op->name, parallelism);
    else if (op->is_single && parallelism != 1)
        api_fail(stream->env, "mr_set_parallelism: \"%s\" works on all rows at once: its parallelism is 1, not %u", op->name, parallelism);
    op->parallelism = parallelism;
    if (op->committer != NULL)
        op->committer->parallelism = parallelism;
    return stream;
}

struct mr_stream *mr_set_max_parallelism(struct mr_stream *stream, uint32_t max_parallelism)
{
    struct api_operator *op = subject(stream, "mr_set_max_parallelism");
    if (op == NULL)
        return stream;
    if (max_parallelism == 0 || max_parallelism > 32768)
        api_fail(stream->env, "mr_set_max_parallelism: the max parallelism of \"%s\" must be from 1 to 32768, not %u", op->name, max_parallelism);
    op->max_parallelism = max_parallelism;
    if (op->committer != NULL)
        op->committer->max_parallelism = max_parallelism;
    return stream;
}

struct mr_stream *mr_slot_sharing_group(struct mr_stream *stream, const char *group)
{
    struct api_operator *op = subject(stream, "mr_slot_sharing_group");
    if (op == NULL)
        return stream;
    if (group == NULL || *group == '\0')
        api_fail(stream->env, "mr_slot_sharing_group: the group of \"%s\" is empty", op->name);
    else
        op->slot_sharing_group = api_copy(group);
    if (op->committer != NULL)
        op->committer->slot_sharing_group = op->slot_sharing_group;
    return stream;
}

struct mr_stream *mr_disable_chaining(struct mr_stream *stream)
{
    struct api_operator *op = subject(stream, "mr_disable_chaining");
    if (op != NULL)
        op->chaining = "NEVER";
    if (op != NULL && op->committer != NULL)
        op->committer->chaining = "NEVER";
    return stream;
}

struct mr_stream *mr_start_new_chain(struct mr_stream *stream)
{
    struct api_operator *op = subject(stream, "mr_start_new_chain");
    if (op != NULL)
        op->chaining = "HEAD";
    return stream;
}
