/* The engine's side of struct mr_context: what a user function sees while it runs, and the struct mr_runtime behind it
 * (client/api/millrace/function.h). One per user function and subtask. Owner: the operator. Thread: task.
 *
 * An operator brackets user code:
 *   user_context_enter(&context)      names the function for the crash handler
 *   … calls of function->call.…       context.timestamp and the key are set before each
 *   user_context_leave(&context)      emits what was collected; gives mr_fail's error */
#ifndef MILLRACE_OPS_USER_CONTEXT_H
#define MILLRACE_OPS_USER_CONTEXT_H

#include "common/base/vec.h"
#include "millrace/function.h"
#include "taskmanager/ops/op.h"
#include "taskmanager/ops/record_adapter.h"
#include "taskmanager/state/row_codec.h"
#include "taskmanager/state/state_table.h"
#include "taskmanager/task/user_library.h"
#include "taskmanager/time/timer_service.h"

struct op_ticker;  /* op_ticker.h */
struct user_state; /* user_state.c */

/* Name of the user function that this thread is in, NULL outside: one word, so a signal handler may read it. */
extern _Thread_local const char *user_function_current;
/* Only this way: the watchdog reads the word from its own thread. */
static inline void user_function_set(const char *name)
{
    __atomic_store_n(&user_function_current, name, __ATOMIC_RELAXED);
}

struct user_output {
    const struct mr_record_type *type; /* the record type that adapter is for; NULL before first use */
    struct record_adapter *adapter;
    struct batch_builder *builder;
};

struct user_counter {
    char *name;
    int64_t value;
};

struct user_context {
    struct mr_context head; /* first member */
    struct op *op;
    const struct mr_function *function;
    const char *outer_function; /* what user_function_current was before enter */
    uint32_t depth;             /* enter calls that have not been left */
    struct error *error;        /* the first failure since enter */
    struct user_output main;
    struct user_output *sides; /* spec->side_output_count of them */
    int64_t timestamp;         /* event time of the element or timer in hand */

    /* keyed functions only */
    struct row_codec *key_codec; /* NULL: not keyed */
    struct state_key key;        /* bytes NULL: no key in hand */
    void *key_record;            /* the key's fields as C members, decoded when asked for */
    bool is_key_decoded;
    struct timer_service *timers;
    VEC(struct mr_state *) states;
    bool is_opening; /* inside the function's open: states may be declared */

    VEC(struct user_counter *) counters;
    VEC(void *) allocations; /* mr_allocate's */
};

/* Prepares the context; output records become rows of the operator's schema. function->output may be NULL (nothing collected).
 * key_schema NULL: not keyed. Calls no user code. On failure nothing needs to be finished. */
MUST_CHECK struct error *user_context_init(struct user_context *context, struct op *op, const struct mr_function *function,
                                           struct schema *key_schema);
/* Calls the function's open, where states are declared. */
MUST_CHECK struct error *user_context_open(struct user_context *context);
void user_context_finish(struct user_context *context);

void user_context_enter(struct user_context *context);
MUST_CHECK struct error *user_context_leave(struct user_context *context);
static inline bool user_context_has_failed(const struct user_context *context)
{
    return context->error != NULL;
}
/* Between two calls in a loop over state (windows and timers that fire), whose rest cannot be handed back: the watchdog hears of it. False
 * after a failure; an aborting task fails here with CANCELLED. */
bool user_context_goes_on(struct user_context *context, struct op_ticker *ticker);
static inline void user_context_set_key(struct user_context *context, const struct state_key *key)
{
    context->key = *key;
    context->is_key_decoded = false;
}

/* Rows whose keys are set next, one by one: brings their state nearer. rows without namespaces. */
void user_context_prefetch(struct user_context *context, const struct state_rows *rows);

/* Finds the function that option `name` names. required: a missing option is an error, else *out becomes NULL. */
MUST_CHECK struct error *user_function_find(const struct op_context *ctx, const char *name, enum mr_function_kind kind, bool required,
                                            const struct mr_function **out);
/* Fails the function in hand: the message of mr_fail, or an engine error (taken). */
void user_context_fail(struct user_context *context, struct error *err);

/* States and timers of a keyed function. */
MUST_CHECK struct error *user_context_snapshot(struct user_context *context, struct snapshot *snapshot);
MUST_CHECK struct error *user_context_restore(struct user_context *context, struct restored_state *state);

/* Walks the elements of a window for mr_next. */
struct mr_elements {
    const void *(*next)(struct mr_elements *elements);
};

#endif
