/* What most operators need while they are created: their memory, the schemas of their inputs, their key columns, typed options.
 * Thread: task. */
#ifndef MILLRACE_OPS_OP_SUPPORT_H
#define MILLRACE_OPS_OP_SUPPORT_H

#include "taskmanager/ops/op.h"

/* Schema of the rows that arrive at a logical input (borrowed from the graph); an error when nothing is connected to it. */
MUST_CHECK struct error *op_input_schema(const struct op_context *ctx, uint32_t input, struct schema **out);

struct key_columns {
    uint32_t *columns; /* owned */
    uint32_t count;    /* 0: not keyed */
};

/* Option key_columns: [1, 2] for one input, [[1], [0]] for two; without it, the columns of the input's HASH edge. Checked
 * against the input's schema. */
MUST_CHECK struct error *op_key_columns(const struct op_context *ctx, uint32_t input, struct key_columns *out);
void key_columns_finish(struct key_columns *keys);
/* The key fields as a schema of its own (one reference to the caller). */
struct schema *key_columns_schema(const struct key_columns *keys, const struct schema *schema);

/* Typed options; the error names operator and option. An absent (or null) one leaves *out as it is, unless it is required. */
MUST_CHECK struct error *op_option_int(const struct op_context *ctx, const json_t *options, const char *name, int64_t min, int64_t max,
                                       int64_t *out);
MUST_CHECK struct error *op_option_text(const struct op_context *ctx, const json_t *options, const char *name, bool is_required,
                                        const char **out);
/* A required path of the local file system, plain or as a file: URI (local_path.h). */
MUST_CHECK struct error *op_option_path(const struct op_context *ctx, const json_t *options, const char *name, const char **out);
MUST_CHECK struct error *op_option_bool(const struct op_context *ctx, const json_t *options, const char *name, bool *out);

/* What the create of most operators does: a zeroed operator of that size, vtable and context set, then init; when that fails, destroy. */
MUST_CHECK struct error *op_create(const struct op_vtable *vtable, size_t size_bytes, struct op_context *ctx, struct error *(*init)(struct op *op),
                                   struct op **out);

#endif
