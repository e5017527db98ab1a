/* Keyed state of user functions: value, list, map and aggregating state over state tables. The functions with a struct
 * mr_context are entries of struct mr_runtime (user_context.c). Thread: task. Owner: the user context. */
#ifndef MILLRACE_OPS_USER_STATE_H
#define MILLRACE_OPS_USER_STATE_H

#include "millrace/function.h"
#include "taskmanager/state/snapshot.h"
#include "taskmanager/state/state_table.h"

struct mr_state *user_state_declare(struct mr_context *ctx, int kind, const char *name, const struct mr_record_type *key,
                                    const struct mr_record_type *value, const struct mr_function *aggregate);
const void *user_state_get(struct mr_context *ctx, struct mr_state *state, const void *key);
void user_state_put(struct mr_context *ctx, struct mr_state *state, const void *key, const void *value);
void user_state_add(struct mr_context *ctx, struct mr_state *state, const void *value);
void user_state_remove(struct mr_context *ctx, struct mr_state *state, const void *key);
void user_state_clear(struct mr_context *ctx, struct mr_state *state);
const void *user_state_next(struct mr_context *ctx, struct mr_state *state, size_t *cursor, const void **key);

/* The keys of the next few rows: brings their entries nearer. */
void user_state_prefetch(const struct mr_state *state, const struct state_rows *rows);
void user_state_destroy(struct mr_state *state);
void user_state_snapshot(struct mr_state *state, struct snapshot *snapshot);
/* Nothing happens when the state is not in the checkpoint; another kind under the same name is an error. */
struct error *user_state_restore(struct mr_state *state, struct restored_state *restored);

#endif
