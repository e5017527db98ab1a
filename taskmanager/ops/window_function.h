/* What a window computes, apart from which windows there are: how rows of one (key, window) are folded into a value of a state
 * table, how two values merge, and how a value becomes output rows.
 *   aggregate (user)  the accumulator, changed in place when it has no text
 *   reduce (user)     a record of the input
 *   window (user)     the list of all elements
 *   builtin           count, sum, min, max, avg over columns: no user code
 * Owner: the window operator. Thread: task. */
#ifndef MILLRACE_OPS_WINDOW_FUNCTION_H
#define MILLRACE_OPS_WINDOW_FUNCTION_H

#include "taskmanager/ops/op_support.h"
#include "taskmanager/ops/user_context.h"
#include "taskmanager/ops/window_groups.h"
#include "taskmanager/state/state_table.h"

enum window_function_kind { WINDOW_AGGREGATE, WINDOW_REDUCE, WINDOW_ELEMENTS, WINDOW_BUILTIN };

struct window_builtin;
struct window_output;

struct window_function {
    enum window_function_kind kind;
    struct op *op;
    struct schema *input_schema;
    const struct mr_function *fold;   /* aggregate or reduce; NULL for the other kinds */
    const struct mr_function *finish; /* window or window_result; NULL: the fold's result is the output */
    struct user_context context;
    struct record_adapter *input;
    void *records;           /* RECORD_CHUNK_ROWS of them */
    struct row_codec *codec; /* of the accumulator, element or builtin slots */
    bool is_record;          /* values are C structs in the table */
    void *scratch;           /* one decoded value */
    void *second;            /* one more, for merging */
    void *result;
    struct bytes_writer bytes;
    struct window_builtin *builtins;
    uint32_t builtin_count;
    struct window_output *outputs; /* builtin: a row of the output, column by column */
    struct batch_builder *builder; /* builtin */
    struct window_groups groups;   /* of the rows in hand; by group, BATCH_ROWS_MAX each: */
    uint64_t *refs;
    bool *is_new;                  /* made for these rows, and none of them folded yet */
    void **values;
    uint32_t *key_groups;          /* by row of the batch */
    bool may_stop;                 /* add_rows may leave the last rows out when the task's slice of time is over */
    uint32_t added_count;          /* rows of the selection that the last add_rows folded */
};

/* Reads the options aggregate, reduce, builtin and window_function. key_schema: of the key columns, may have no fields. */
MUST_CHECK struct error *window_function_init(struct window_function *self, struct op *op, struct schema *input_schema,
                                              struct schema *key_schema);
void window_function_finish(struct window_function *self);

/* An empty table for values. namespace_schema may be NULL. */
struct state_table *window_function_table(const struct window_function *self, struct schema *namespace_schema);
/* Beside the table in a snapshot: what is needed to read its values again; one reference to the caller. */
json_t *window_function_meta(const struct window_function *self);
/* After a table was loaded: converts what the state table itself cannot. */
MUST_CHECK struct error *window_function_convert(struct window_function *self, struct state_table *table, const json_t *meta);

/* Folds rows of batch (with may_stop perhaps only the first ones: added_count) into the values of their keys. rows: the keys of the
 * batch, with rows->rows the selection (NULL: all); rows->key_groups is filled in where it is needed. */
void window_function_add_rows(struct window_function *self, struct state_table *table, const struct batch *batch, struct state_rows *rows);
/* Folds one row into (key, name_space). */
void window_function_add_row(struct window_function *self, struct state_table *table, const struct batch *batch, uint32_t row,
                             const struct state_key *key, const void *name_space, uint32_t namespace_length);
/* Folds the value at from_namespace into the one at to_namespace, and removes it. Both exist. */
void window_function_merge(struct window_function *self, struct state_table *table, const struct state_key *key, const void *from_namespace,
                           const void *to_namespace, uint32_t namespace_length);
/* False when the user's aggregate cannot merge (session windows need it). */
bool window_function_can_merge(const struct window_function *self);

/* Emitting: enter, any number of emits, leave. */
void window_function_enter(struct window_function *self);
void window_function_emit(struct window_function *self, const struct state_key *key, const void *value, uint32_t value_length,
                          const struct mr_window *window);
MUST_CHECK struct error *window_function_leave(struct window_function *self);

/* ---- window_builtin.c ---- */
MUST_CHECK struct error *window_builtin_init(struct window_function *self, struct schema *key_schema, const json_t *builtins);
void window_builtin_finish(struct window_function *self);
/* Row rows[i] (NULL: i) of the batch into values[groups[i]]. */
void window_builtin_add(struct window_function *self, const struct batch *batch, const uint32_t *rows, uint32_t count, void **values,
                        const uint32_t *groups);
void window_builtin_merge(struct window_function *self, const void *from, void *into);
void window_builtin_emit(struct window_function *self, const struct state_key *key, const void *value, const struct mr_window *window);

#endif
