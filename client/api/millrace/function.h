/* User functions: what a program may define and what a function may call while it runs.
 *
 * Each MR_… macro below is followed by a function body and declares one exported, constant `struct mr_function` of the
 * given name, which is then passed to mr_map(), mr_filter() and so on:
 *
 *   MR_MAP(to_upper, click_event, click_event)        (ctx, in, out)
 *   {
 *       *out = *in;
 *   }
 *
 * The engine finds functions by symbol in the uploaded shared object, so they must not be hidden from the dynamic symbol
 * table. Functions run on one task thread each; a function that crashes takes down its job's task runner and nothing else.
 * Everything a function gets by pointer is valid until it returns. */
#ifndef MILLRACE_FUNCTION_H
#define MILLRACE_FUNCTION_H

#include "millrace/record.h"

/* Raised whenever struct mr_function, struct mr_runtime or a record's layout changes. */
#define MR_ABI_VERSION 1

#define MR_EXPORT __attribute__((visibility("default")))
/* The engine reads this from the shared object before it calls anything in it. */
MR_EXPORT __attribute__((weak)) extern const uint32_t millrace_abi_version;
__attribute__((weak)) const uint32_t millrace_abi_version = MR_ABI_VERSION;

struct mr_context;
struct mr_state;

/* [start, end) in milliseconds since the epoch. */
struct mr_window {
    mr_timestamp start;
    mr_timestamp end;
};

enum mr_function_kind {
    MR_FUNCTION_MAP,
    MR_FUNCTION_FLAT_MAP,
    MR_FUNCTION_FILTER,
    MR_FUNCTION_PROCESS,        /* keyed or not; timers and state when keyed */
    MR_FUNCTION_CO_PROCESS,
    MR_FUNCTION_AGGREGATE,
    MR_FUNCTION_REDUCE,
    MR_FUNCTION_WINDOW,         /* ProcessWindowFunction over all elements of a window */
    MR_FUNCTION_WINDOW_RESULT,  /* ProcessWindowFunction over the one result of an aggregate or reduce function */
    MR_FUNCTION_TIMESTAMP,      /* timestamp assigner */
};

/* Elements of a window, in arrival order: mr_next gives NULL after the last. */
struct mr_elements;

/* A user function as the engine sees it: untyped. The macros below fill it in; programs do not. */
struct mr_function {
    enum mr_function_kind kind;
    const char *name;
    const struct mr_record_type *input;
    const struct mr_record_type *second_input; /* MR_FUNCTION_CO_PROCESS */
    const struct mr_record_type *accumulator;  /* MR_FUNCTION_AGGREGATE */
    const struct mr_record_type *output;       /* NULL for a filter and a timestamp assigner */
    void (*open)(struct mr_context *ctx);      /* optional: state is declared here; see MR_OPEN */
    union {
        void (*map)(struct mr_context *ctx, const void *in, void *out);
        void (*flat_map)(struct mr_context *ctx, const void *in);
        bool (*filter)(struct mr_context *ctx, const void *in);
        mr_timestamp (*timestamp)(struct mr_context *ctx, const void *in);
        struct {
            void (*element)(struct mr_context *ctx, const void *in);
            void (*second)(struct mr_context *ctx, const void *in);
            void (*on_timer)(struct mr_context *ctx, mr_timestamp time); /* may be NULL */
        } process;
        struct {
            void (*add)(const void *in, void *accumulator); /* the accumulator starts zeroed */
            void (*result)(const void *accumulator, void *out);
            void (*merge)(const void *from, void *into); /* NULL: session windows are refused */
        } aggregate;
        void (*reduce)(const void *in, void *accumulated); /* accumulated starts as a copy of the first element */
        void (*window)(struct mr_context *ctx, const struct mr_window *window, struct mr_elements *elements);
        void (*window_result)(struct mr_context *ctx, const struct mr_window *window, const void *result);
    } call;
};

/* What a running function may call; the engine fills it in. Programs use the functions below. */
struct mr_runtime {
    void (*collect)(struct mr_context *ctx, const void *record);
    void (*collect_with_timestamp)(struct mr_context *ctx, const void *record, mr_timestamp timestamp);
    void (*side_output)(struct mr_context *ctx, const char *tag, const struct mr_record_type *type, const void *record);
    void (*fail)(struct mr_context *ctx, const char *message);
    mr_timestamp (*timestamp)(struct mr_context *ctx);
    mr_timestamp (*watermark)(struct mr_context *ctx);
    mr_timestamp (*processing_time)(struct mr_context *ctx);
    uint32_t (*subtask_index)(struct mr_context *ctx);
    uint32_t (*parallelism)(struct mr_context *ctx);
    mr_string (*key_string)(struct mr_context *ctx, uint32_t index);
    int64_t (*key_int64)(struct mr_context *ctx, uint32_t index);
    void (*register_timer)(struct mr_context *ctx, bool event_time, mr_timestamp time);
    void (*delete_timer)(struct mr_context *ctx, bool event_time, mr_timestamp time);
    struct mr_state *(*state)(struct mr_context *ctx, int kind, const char *name, const struct mr_record_type *key,
                              const struct mr_record_type *value, const struct mr_function *aggregate);
    const void *(*state_get)(struct mr_context *ctx, struct mr_state *state, const void *key);
    void (*state_put)(struct mr_context *ctx, struct mr_state *state, const void *key, const void *value);
    void (*state_add)(struct mr_context *ctx, struct mr_state *state, const void *value);
    void (*state_remove)(struct mr_context *ctx, struct mr_state *state, const void *key);
    void (*state_clear)(struct mr_context *ctx, struct mr_state *state);
    const void *(*state_next)(struct mr_context *ctx, struct mr_state *state, size_t *cursor, const void **key);
    const void *(*next_element)(struct mr_elements *elements);
    void (*count)(struct mr_context *ctx, const char *metric, int64_t add);
    void *(*allocate)(struct mr_context *ctx, size_t bytes);
};

/* The visible head of a context; the engine's part follows it. */
struct mr_context {
    const struct mr_runtime *runtime;
    void *user; /* the function's own, per subtask; NULL before open */
};

/* ---- what a function may call ---- */

/* Emits a record (copied). The timestamp is that of the element or timer being processed. */
static inline void mr_collect(struct mr_context *ctx, const void *record) { ctx->runtime->collect(ctx, record); }
static inline void mr_collect_at(struct mr_context *ctx, const void *record, mr_timestamp timestamp)
{
    ctx->runtime->collect_with_timestamp(ctx, record, timestamp);
}
/* To the side output `tag`, which the program reads with mr_side_output(). type describes the record. */
static inline void mr_emit_side(struct mr_context *ctx, const char *tag, const struct mr_record_type *type, const void *record)
{
    ctx->runtime->side_output(ctx, tag, type, record);
}
/* Fails the task with this message (copied) after the function returns; the job restarts by its restart strategy. */
static inline void mr_fail(struct mr_context *ctx, const char *message) { ctx->runtime->fail(ctx, message); }
/* Event time of the element or timer in hand; INT64_MIN when the stream has none. */
static inline mr_timestamp mr_current_timestamp(struct mr_context *ctx) { return ctx->runtime->timestamp(ctx); }
static inline mr_timestamp mr_current_watermark(struct mr_context *ctx) { return ctx->runtime->watermark(ctx); }
static inline mr_timestamp mr_processing_time(struct mr_context *ctx) { return ctx->runtime->processing_time(ctx); }
static inline uint32_t mr_subtask_index(struct mr_context *ctx) { return ctx->runtime->subtask_index(ctx); }
static inline uint32_t mr_parallelism(struct mr_context *ctx) { return ctx->runtime->parallelism(ctx); }
/* Column index of the current key (0 is the first field named in mr_key_by). */
static inline mr_string mr_key_string(struct mr_context *ctx, uint32_t index) { return ctx->runtime->key_string(ctx, index); }
static inline int64_t mr_key_int64(struct mr_context *ctx, uint32_t index) { return ctx->runtime->key_int64(ctx, index); }
/* Timers are per key and coalesce: the same time twice fires once. */
static inline void mr_register_event_timer(struct mr_context *ctx, mr_timestamp time) { ctx->runtime->register_timer(ctx, true, time); }
static inline void mr_delete_event_timer(struct mr_context *ctx, mr_timestamp time) { ctx->runtime->delete_timer(ctx, true, time); }
static inline void mr_register_processing_timer(struct mr_context *ctx, mr_timestamp time) { ctx->runtime->register_timer(ctx, false, time); }
static inline void mr_delete_processing_timer(struct mr_context *ctx, mr_timestamp time) { ctx->runtime->delete_timer(ctx, false, time); }
/* Adds to a counter that shows in the operator's metrics. */
/* Zeroed memory that lives as long as the function does (the engine frees it when the task ends): a subtask's own working data, usually
 * taken in open and kept in ctx->user. It is no state: no checkpoint has it. NULL when there is none: the task then fails. */
static inline void *mr_allocate(struct mr_context *ctx, size_t bytes) { return ctx->runtime->allocate(ctx, bytes); }
static inline void mr_count(struct mr_context *ctx, const char *metric, int64_t add) { ctx->runtime->count(ctx, metric, add); }

/* ---- keyed state: declared in open (MR_OPEN), used for the key of the element or timer in hand ---- */

enum mr_state_kind { MR_STATE_VALUE, MR_STATE_LIST, MR_STATE_MAP, MR_STATE_AGGREGATING };

static inline struct mr_state *mr_value_state(struct mr_context *ctx, const char *name, const struct mr_record_type *value)
{
    return ctx->runtime->state(ctx, MR_STATE_VALUE, name, NULL, value, NULL);
}
static inline struct mr_state *mr_list_state(struct mr_context *ctx, const char *name, const struct mr_record_type *value)
{
    return ctx->runtime->state(ctx, MR_STATE_LIST, name, NULL, value, NULL);
}
static inline struct mr_state *mr_map_state(struct mr_context *ctx, const char *name, const struct mr_record_type *key,
                                            const struct mr_record_type *value)
{
    return ctx->runtime->state(ctx, MR_STATE_MAP, name, key, value, NULL);
}
static inline struct mr_state *mr_aggregating_state(struct mr_context *ctx, const char *name, const struct mr_function *aggregate)
{
    return ctx->runtime->state(ctx, MR_STATE_AGGREGATING, name, NULL, aggregate->accumulator, aggregate);
}
/* NULL when there is none; valid until the next call on any state. Aggregating state gives the aggregate's result. */
static inline const void *mr_state_get(struct mr_context *ctx, struct mr_state *state) { return ctx->runtime->state_get(ctx, state, NULL); }
static inline void mr_state_set(struct mr_context *ctx, struct mr_state *state, const void *value)
{
    ctx->runtime->state_put(ctx, state, NULL, value);
}
/* List: appends. Aggregating: adds to the accumulator. */
static inline void mr_state_add(struct mr_context *ctx, struct mr_state *state, const void *value) { ctx->runtime->state_add(ctx, state, value); }
static inline void mr_state_clear(struct mr_context *ctx, struct mr_state *state) { ctx->runtime->state_clear(ctx, state); }
static inline const void *mr_map_get(struct mr_context *ctx, struct mr_state *state, const void *key)
{
    return ctx->runtime->state_get(ctx, state, key);
}
static inline void mr_map_put(struct mr_context *ctx, struct mr_state *state, const void *key, const void *value)
{
    ctx->runtime->state_put(ctx, state, key, value);
}
static inline void mr_map_remove(struct mr_context *ctx, struct mr_state *state, const void *key) { ctx->runtime->state_remove(ctx, state, key); }
/* Walks a list or map: start with *cursor = 0; NULL at the end. key may be NULL. Do not change the state meanwhile. */
static inline const void *mr_state_next(struct mr_context *ctx, struct mr_state *state, size_t *cursor, const void **key)
{
    return ctx->runtime->state_next(ctx, state, cursor, key);
}
/* Elements of a window (MR_WINDOW). */
static inline const void *mr_next(struct mr_context *ctx, struct mr_elements *elements) { return ctx->runtime->next_element(elements); }

/* ---- how a program defines functions ---- */

#define MR_FUNCTION(name_) extern MR_EXPORT const struct mr_function name_; const struct mr_function name_

#define MR_MAP(name_, in_, out_)                                                                                       \
    static void name_##_body(struct mr_context *ctx, const struct in_ *in, struct out_ *out);                          \
    static void name_##_call(struct mr_context *ctx, const void *in, void *out) { name_##_body(ctx, in, out); }        \
    MR_FUNCTION(name_) = {.kind = MR_FUNCTION_MAP, .name = #name_, .input = &in_##_type, .output = &out_##_type,       \
                          .call.map = name_##_call};                                                                   \
    static void name_##_body(struct mr_context *ctx __attribute__((unused)), const struct in_ *in, struct out_ *out)

#define MR_FLAT_MAP(name_, in_, out_)                                                                                  \
    static void name_##_body(struct mr_context *ctx, const struct in_ *in);                                            \
    static void name_##_call(struct mr_context *ctx, const void *in) { name_##_body(ctx, in); }                        \
    MR_FUNCTION(name_) = {.kind = MR_FUNCTION_FLAT_MAP, .name = #name_, .input = &in_##_type, .output = &out_##_type,  \
                          .call.flat_map = name_##_call};                                                              \
    static void name_##_body(struct mr_context *ctx, const struct in_ *in)

#define MR_FILTER(name_, in_)                                                                                          \
    static bool name_##_body(struct mr_context *ctx, const struct in_ *in);                                            \
    static bool name_##_call(struct mr_context *ctx, const void *in) { return name_##_body(ctx, in); }                 \
    MR_FUNCTION(name_) = {.kind = MR_FUNCTION_FILTER, .name = #name_, .input = &in_##_type, .call.filter = name_##_call}; \
    static bool name_##_body(struct mr_context *ctx __attribute__((unused)), const struct in_ *in)

#define MR_TIMESTAMP_ASSIGNER(name_, in_)                                                                              \
    static mr_timestamp name_##_body(struct mr_context *ctx, const struct in_ *in);                                    \
    static mr_timestamp name_##_call(struct mr_context *ctx, const void *in) { return name_##_body(ctx, in); }         \
    MR_FUNCTION(name_) = {.kind = MR_FUNCTION_TIMESTAMP, .name = #name_, .input = &in_##_type, .call.timestamp = name_##_call}; \
    static mr_timestamp name_##_body(struct mr_context *ctx __attribute__((unused)), const struct in_ *in)

/* Keyed process function. Before it, define name_open(ctx), name_element(ctx, in) and name_timer(ctx, time) as static
 * functions with typed parameters; pass NULL-able parts as in MR_PROCESS(alerts, ride, alert, alerts_open, alerts_element, alerts_timer). */
#define MR_PROCESS(name_, in_, out_, open_, element_, timer_)                                                          \
    static void name_##_call(struct mr_context *ctx, const void *in) { element_(ctx, (const struct in_ *)in); }        \
    MR_FUNCTION(name_) = {.kind = MR_FUNCTION_PROCESS, .name = #name_, .input = &in_##_type, .output = &out_##_type,   \
                          .open = open_, .call.process = {.element = name_##_call, .on_timer = timer_}}

#define MR_CO_PROCESS(name_, in1_, in2_, out_, open_, first_, second_, timer_)                                         \
    static void name_##_call1(struct mr_context *ctx, const void *in) { first_(ctx, (const struct in1_ *)in); }        \
    static void name_##_call2(struct mr_context *ctx, const void *in) { second_(ctx, (const struct in2_ *)in); }       \
    MR_FUNCTION(name_) = {.kind = MR_FUNCTION_CO_PROCESS, .name = #name_, .input = &in1_##_type,                       \
                          .second_input = &in2_##_type, .output = &out_##_type, .open = open_,                         \
                          .call.process = {.element = name_##_call1, .second = name_##_call2, .on_timer = timer_}}

/* Before it, define add(const struct in *, struct acc *), result(const struct acc *, struct out *) and, for session
 * windows, merge(const struct acc *from, struct acc *into). */
#define MR_AGGREGATE_MERGE(name_, in_, acc_, out_, add_, result_, merge_)                                              \
    static void name_##_add(const void *in, void *acc) { add_((const struct in_ *)in, (struct acc_ *)acc); }           \
    static void name_##_result(const void *acc, void *out) { result_((const struct acc_ *)acc, (struct out_ *)out); }  \
    static void name_##_merge(const void *from, void *into) { merge_((const struct acc_ *)from, (struct acc_ *)into); } \
    MR_FUNCTION(name_) = {.kind = MR_FUNCTION_AGGREGATE, .name = #name_, .input = &in_##_type,                         \
                          .accumulator = &acc_##_type, .output = &out_##_type,                                         \
                          .call.aggregate = {.add = name_##_add, .result = name_##_result, .merge = name_##_merge}}

#define MR_AGGREGATE(name_, in_, acc_, out_, add_, result_)                                                            \
    static void name_##_add(const void *in, void *acc) { add_((const struct in_ *)in, (struct acc_ *)acc); }           \
    static void name_##_result(const void *acc, void *out) { result_((const struct acc_ *)acc, (struct out_ *)out); }  \
    MR_FUNCTION(name_) = {.kind = MR_FUNCTION_AGGREGATE, .name = #name_, .input = &in_##_type,                         \
                          .accumulator = &acc_##_type, .output = &out_##_type,                                         \
                          .call.aggregate = {.add = name_##_add, .result = name_##_result}}

#define MR_REDUCE(name_, in_)                                                                                          \
    static void name_##_body(const struct in_ *in, struct in_ *accumulated);                                           \
    static void name_##_call(const void *in, void *accumulated) { name_##_body(in, accumulated); }                     \
    MR_FUNCTION(name_) = {.kind = MR_FUNCTION_REDUCE, .name = #name_, .input = &in_##_type, .output = &in_##_type,     \
                          .call.reduce = name_##_call};                                                                \
    static void name_##_body(const struct in_ *in, struct in_ *accumulated)

#define MR_WINDOW(name_, in_, out_)                                                                                    \
    static void name_##_body(struct mr_context *ctx, const struct mr_window *window, struct mr_elements *elements);    \
    MR_FUNCTION(name_) = {.kind = MR_FUNCTION_WINDOW, .name = #name_, .input = &in_##_type, .output = &out_##_type,    \
                          .call.window = name_##_body};                                                                \
    static void name_##_body(struct mr_context *ctx, const struct mr_window *window, struct mr_elements *elements)

#define MR_WINDOW_RESULT(name_, result_, out_)                                                                         \
    static void name_##_body(struct mr_context *ctx, const struct mr_window *window, const struct result_ *result);    \
    static void name_##_call(struct mr_context *ctx, const struct mr_window *window, const void *result)               \
    {                                                                                                                  \
        name_##_body(ctx, window, result);                                                                             \
    }                                                                                                                  \
    MR_FUNCTION(name_) = {.kind = MR_FUNCTION_WINDOW_RESULT, .name = #name_, .input = &result_##_type,                 \
                          .output = &out_##_type, .call.window_result = name_##_call};                                 \
    static void name_##_body(struct mr_context *ctx, const struct mr_window *window, const struct result_ *result)

#endif
