/* Sinks: a writer that gets the rows, and for those that commit with checkpoints a committer behind it. */
#include "api_internal.h"

#include <string.h>

/* The text that begins messages, or NULL after a failure. */
static const char *check_sink(struct mr_stream *stream, const char *call, const char *name, bool has_options)
{
    const char *who = api_printf("%s \"%s\"", call, name != NULL ? name : "");
    if (api_is_failed(stream)) {
        if (stream == NULL)
            api_fail(NULL, "%s: no stream is given", who);
        return NULL;
    }
    if (name == NULL || *name == '\0' || !has_options)
        api_fail(stream->env, "%s: name and options must be given", who);
    else if (stream->type == NULL)
        api_fail(stream->env, "%s: the stream is a sink's and has no rows", who);
    else
        return who;
    return NULL;
}

static struct mr_stream *failed_of(const struct mr_stream *stream)
{
    return api_failed(stream != NULL ? stream->env : NULL);
}

/* What goes from writer to committer is the connector's own; its schema stands here because edges are typed. */
static json_t *column(const char *name, const char *type, bool is_nullable)
{
    return json_pack("{s:s, s:s, s:b}", "name", name, "type", type, "nullable", is_nullable);
}

static struct mr_stream *add_committed_sink(struct mr_stream *stream, const char *name, const char *writer_type, const char *committer_type,
                                            json_t *options, json_t *between)
{
    struct mr_env *env = stream->env;
    struct api_operator *writer = api_add_operator(env, writer_type, api_printf("%s: Writer", name), options, NULL);
    writer->output_schema = between;
    api_connect(writer, stream, 0);
    api_inherit_group(writer, stream, NULL);
    struct mr_stream *handle = api_stream_of(env, writer);
    writer->committer = api_add_operator(env, committer_type, api_printf("%s: Committer", name), json_incref(options), NULL);
    api_connect(writer->committer, handle, 0);
    writer->committer->slot_sharing_group = writer->slot_sharing_group;
    return handle;
}

struct mr_stream *mr_sink_kafka(struct mr_stream *stream, const char *name, const struct mr_kafka_sink_options *options)
{
    static const char *const guarantees[] = {
        [MR_GUARANTEE_AT_LEAST_ONCE] = "at-least-once", [MR_GUARANTEE_EXACTLY_ONCE] = "exactly-once", [MR_GUARANTEE_NONE] = "none"};
    const char *who = check_sink(stream, "mr_sink_kafka", name, options != NULL);
    if (who == NULL)
        return failed_of(stream);
    struct mr_env *env = stream->env;
    const char *problem = NULL;
    if (options->bootstrap_servers == NULL || *options->bootstrap_servers == '\0')
        problem = "bootstrap_servers is missing";
    else if (options->topic == NULL || *options->topic == '\0')
        problem = "topic is missing";
    else if ((size_t)options->guarantee >= sizeof guarantees / sizeof guarantees[0])
        problem = "guarantee is none of its enumerators";
    else if (options->guarantee == MR_GUARANTEE_EXACTLY_ONCE &&
             (options->transactional_id_prefix == NULL || *options->transactional_id_prefix == '\0'))
        problem = "exactly once needs a transactional_id_prefix of its own";
    if (problem != NULL) {
        api_fail(env, "%s: %s", who, problem);
        return api_failed(env);
    }
    uint32_t *keys = NULL, key_count = 0;
    if (options->key_fields != NULL && !api_parse_fields(env, who, stream->type, options->key_fields, &keys, &key_count))
        return api_failed(env);
    json_t *format = api_format_options(env, who, &options->format, stream->type);
    json_t *properties = json_pack("{s:s}", "bootstrap.servers", options->bootstrap_servers);
    if (format == NULL || !api_add_properties(env, who, properties, options->properties)) {
        json_decref(format);
        json_decref(properties);
        return api_failed(env);
    }
    json_t *json = json_pack("{s:o, s:s, s:o, s:o, s:s}", "properties", properties, "topic", options->topic, "key_columns",
                             api_columns(keys, key_count), "format", format, "guarantee", guarantees[options->guarantee]);
    if (options->transactional_id_prefix != NULL)
        json_object_set_new(json, "transactional_id_prefix", json_string(options->transactional_id_prefix));
    return add_committed_sink(stream, name, "kafka-sink-writer", "kafka-sink-committer", json,
                              json_pack("[o, o]", column("key", "BYTES", true), column("value", "BYTES", true)));
}

struct mr_stream *mr_sink_file(struct mr_stream *stream, const char *name, const struct mr_file_sink_options *options)
{
    const char *who = check_sink(stream, "mr_sink_file", name, options != NULL);
    if (who == NULL)
        return failed_of(stream);
    if (options->path == NULL || *options->path == '\0') {
        api_fail(stream->env, "%s: path is missing", who);
        return failed_of(stream);
    }
    json_t *format = api_format_options(stream->env, who, &options->format, stream->type);
    if (format == NULL)
        return failed_of(stream);
    return add_committed_sink(stream, name, "file-sink-writer", "file-sink-committer",
                              json_pack("{s:s, s:o}", "path", options->path, "format", format),
                              json_pack("[o]", column("file", "STRING", false)));
}

static struct mr_stream *add_sink(struct mr_stream *stream, const char *type, const char *name, json_t *options)
{
    struct api_operator *op = api_add_operator(stream->env, type, name, options, NULL);
    api_connect(op, stream, 0);
    api_inherit_group(op, stream, NULL);
    return api_stream_of(stream->env, op);
}

static struct mr_stream *print(struct mr_stream *stream, const char *call, const char *identifier, bool is_stderr)
{
    if (check_sink(stream, call, call, true) == NULL)
        return failed_of(stream);
    json_t *options = json_pack("{s:b}", "standard_error", is_stderr);
    if (identifier != NULL)
        json_object_set_new(options, "identifier", json_string(identifier));
    return add_sink(stream, "print-sink", is_stderr ? "Sink: Print to Std. Err" : "Sink: Print to Std. Out", options);
}

struct mr_stream *mr_print(struct mr_stream *stream, const char *identifier)
{
    return print(stream, "mr_print", identifier, false);
}

struct mr_stream *mr_print_to_stderr(struct mr_stream *stream, const char *identifier)
{
    return print(stream, "mr_print_to_stderr", identifier, true);
}

struct mr_stream *mr_sink_blackhole(struct mr_stream *stream, const char *name)
{
    if (check_sink(stream, "mr_sink_blackhole", name, true) == NULL)
        return failed_of(stream);
    return add_sink(stream, "blackhole-sink", name, json_object());
}
