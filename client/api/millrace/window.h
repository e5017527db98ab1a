/* Windows over keyed streams (mr_key_by) and over all rows (mr_window_all).
 *
 *   mr_aggregate(mr_window(mr_key_by(clicks, "page"), mr_tumbling(MR_EVENT_TIME, MR_SECONDS(15))), &Counter, &Stats) */
#ifndef MILLRACE_WINDOW_H
#define MILLRACE_WINDOW_H

#include "millrace/stream.h"

enum mr_time { MR_EVENT_TIME, MR_PROCESSING_TIME };
enum mr_window_kind { MR_TUMBLING, MR_SLIDING, MR_SESSION };

/* Make one with the functions below; offset_ms may be set afterwards (windows start at offset_ms modulo their slide). */
struct mr_window_assigner {
    enum mr_window_kind kind;
    enum mr_time time;
    int64_t size_ms;
    int64_t slide_ms;
    int64_t gap_ms;
    int64_t offset_ms;
};

static inline struct mr_window_assigner mr_tumbling(enum mr_time time, int64_t size_ms)
{
    return (struct mr_window_assigner){.kind = MR_TUMBLING, .time = time, .size_ms = size_ms};
}
static inline struct mr_window_assigner mr_sliding(enum mr_time time, int64_t size_ms, int64_t slide_ms)
{
    return (struct mr_window_assigner){.kind = MR_SLIDING, .time = time, .size_ms = size_ms, .slide_ms = slide_ms};
}
/* A window ends when no row came for gap_ms. */
static inline struct mr_window_assigner mr_session(enum mr_time time, int64_t gap_ms)
{
    return (struct mr_window_assigner){.kind = MR_SESSION, .time = time, .gap_ms = gap_ms};
}

struct mr_windowed;

struct mr_windowed *mr_window(struct mr_stream *keyed, struct mr_window_assigner assigner);
/* All rows of the stream in one window, by one subtask. */
struct mr_windowed *mr_window_all(struct mr_stream *stream, struct mr_window_assigner assigner);
/* A row that is late by no more than this is added, and the window gives its result again. Default 0. */
struct mr_windowed *mr_allowed_lateness(struct mr_windowed *windowed, int64_t lateness_ms);
/* Rows that are later still go to this side output instead of being dropped and counted:
 * mr_side_output(result, tag, NULL) reads it. */
struct mr_windowed *mr_late_side_output(struct mr_windowed *windowed, const char *tag);

/* Adds each row to the window's accumulator as it comes (MR_AGGREGATE); the result goes through window_function
 * (MR_WINDOW_RESULT), which sees key and window, or out as it is when that is NULL. Session windows need MR_AGGREGATE_MERGE. */
struct mr_stream *mr_aggregate(struct mr_windowed *windowed, const struct mr_function *aggregate, const struct mr_function *window_function);
/* The same with MR_REDUCE. */
struct mr_stream *mr_reduce(struct mr_windowed *windowed, const struct mr_function *reduce, const struct mr_function *window_function);

enum mr_builtin_kind { MR_COUNT, MR_SUM, MR_MIN, MR_MAX, MR_AVG };

struct mr_builtin {
    enum mr_builtin_kind kind;
    const char *field; /* of the stream; NULL for MR_COUNT: rows */
    const char *as;    /* field of the output; NULL ends the list */
};

/* Aggregates without user code, folded column by column: the fastest way. The fields of output are aggregates by their name
 * in the list (MR_COUNT int64_t; MR_SUM int64_t or double; MR_AVG double; MR_MIN and MR_MAX the field's type), key fields by
 * theirs, and window_start and window_end (mr_timestamp). */
struct mr_stream *mr_aggregate_builtin(struct mr_windowed *windowed, const struct mr_builtin *list, const struct mr_record_type *output);
/* Keeps all rows of a window and gives them to function (MR_WINDOW) when it ends. */
struct mr_stream *mr_apply(struct mr_windowed *windowed, const struct mr_function *function);

#endif
