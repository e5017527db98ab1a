/* A user's timestamp assigner (MR_TIMESTAMP_ASSIGNER) applied to whole batches. Contract; the user-function adapter in
 * taskmanager/ops implements it (rows become records there). Thread: task. */
#ifndef MILLRACE_TIME_TIMESTAMP_FUNCTION_H
#define MILLRACE_TIME_TIMESTAMP_FUNCTION_H

#include "common/columnar/batch.h"

struct op_context;
struct timestamp_function;

/* Finds the symbol in ctx->library; it must be a timestamp assigner whose record matches schema. */
MUST_CHECK struct error *timestamp_function_create(struct op_context *ctx, const char *symbol, struct schema *schema,
                                                   struct timestamp_function **out);
/* times[i] = event time of row i, in ms; batch->row_count of them. The error is that of mr_fail. */
MUST_CHECK struct error *timestamp_function_apply(struct timestamp_function *function, const struct batch *batch, int64_t *times);
/* Accepts NULL. */
void timestamp_function_destroy(struct timestamp_function *function);

#endif
