/* What the files of libmillrace share. A program's main runs on one thread in a process that ends right after it, so objects
 * are never freed one by one: they hang on the environment, and the environments on one list. */
#ifndef MILLRACE_API_INTERNAL_H
#define MILLRACE_API_INTERNAL_H

#include "millrace/millrace.h"

#include <jansson.h>
#include <stddef.h>

/* A node of the graph in the making. */
struct api_operator {
    uint32_t index;
    const char *type;
    char *name;
    char *uid;
    char *description;                  /* NULL: the name */
    json_t *options;
    const struct mr_record_type *output; /* NULL: none */
    json_t *output_schema;              /* sink writers: not a record of the program; NULL elsewhere */
    json_t *inputs;
    struct api_side_output {
        char *tag;
        const struct mr_record_type *type;
    } *side_outputs;
    uint32_t side_output_count;
    const struct mr_record_type *late_type; /* windows: type of late rows */
    uint32_t parallelism;
    uint32_t max_parallelism;
    char *slot_sharing_group;
    const char *chaining;
    bool is_single;                     /* parallelism is 1 and stays so */
    struct api_operator *committer;     /* of a sink's writer: shares its settings */
};

/* Where a stream's rows come from: a union has several. */
struct api_upstream {
    struct api_operator *op;
    int32_t side_output;
    const char *partitioning; /* of the edge to whatever comes next */
};

struct mr_stream {
    struct mr_env *env;
    const struct mr_record_type *type;
    struct api_upstream *upstreams;
    uint32_t upstream_count;
    uint32_t *key_columns;      /* indexes into type->fields; 0 of them: not keyed */
    uint32_t key_count;
};

struct mr_env {
    json_t *config;             /* the command line's, overlaid by the program's */
    struct api_operator **operators;
    uint32_t operator_count;
    char *error;                /* the first mistake */
    bool is_executed;
    struct mr_env *next;
};

/* Memory that lives until the process ends, zeroed; aborts when there is none. */
void *api_alloc(size_t bytes);
char *api_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *api_copy(const char *text); /* NULL stays NULL */

/* Remembers the first mistake. env may be NULL (the environment is not known, or not made yet). */
void api_fail(struct mr_env *env, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- types.c ---- */
const char *api_type_name(enum mr_type type);
json_t *api_schema(const struct mr_record_type *type);
/* -1: no such field. */
int api_field_index(const struct mr_record_type *type, const char *name, size_t length);
/* Resolves "a,b" into indexes; false after a failure that names who asked. */
bool api_parse_fields(struct mr_env *env, const char *who, const struct mr_record_type *type, const char *fields, uint32_t **out, uint32_t *count);
json_t *api_columns(const uint32_t *columns, uint32_t count);
/* The record's layout is what the engine will make of it; false after a failure. */
bool api_check_record(struct mr_env *env, const char *who, const struct mr_record_type *type);
/* Every field that `wanted` reads is in `have`, with its type. */
bool api_check_input(struct mr_env *env, const char *who, const struct mr_function *function, const struct mr_record_type *wanted,
                     const struct mr_record_type *have);
/* The exported symbol of a function of the right kind, or NULL after a failure. who: "map \"x\"". */
const char *api_symbol(struct mr_env *env, const char *who, const struct mr_function *function, enum mr_function_kind kind);

/* ---- stream.c ---- */
/* NULL, or a stream that follows a mistake. */
bool api_is_failed(const struct mr_stream *stream);
struct mr_stream *api_failed(struct mr_env *env);
/* Adds an operator. options is taken. */
struct api_operator *api_add_operator(struct mr_env *env, const char *type, const char *name, json_t *options,
                                      const struct mr_record_type *output);
void api_connect(struct api_operator *op, const struct mr_stream *stream, uint32_t input);
struct mr_stream *api_stream_of(struct mr_env *env, struct api_operator *op);
/* Inherits the group of the inputs when they agree. */
void api_inherit_group(struct api_operator *op, const struct mr_stream *first, const struct mr_stream *second);

/* ---- source.c ---- */
/* NULL after a failure. */
json_t *api_watermark_options(struct mr_env *env, const char *who, const struct mr_watermarks *watermarks, const struct mr_record_type *type,
                              bool has_record_time);
json_t *api_format_options(struct mr_env *env, const char *who, const struct mr_format *format, const struct mr_record_type *type);
/* Adds "key", "value", …, NULL pairs to object; false after a failure. */
bool api_add_properties(struct mr_env *env, const char *who, json_t *object, const char *const *properties);

#endif
