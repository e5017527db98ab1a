/* Streams and their transformations. A stream has a record type: functions are checked against it when the job is built,
 * by field name and type; a function may read fewer fields than the stream has.
 * The names that operators get by default are Flink's. */
#ifndef MILLRACE_STREAM_H
#define MILLRACE_STREAM_H

#include "millrace/environment.h"
#include "millrace/function.h"

struct mr_stream;

/* ---- one row at a time ---- */
struct mr_stream *mr_map(struct mr_stream *stream, const struct mr_function *map);           /* MR_MAP */
struct mr_stream *mr_flat_map(struct mr_stream *stream, const struct mr_function *flat_map); /* MR_FLAT_MAP */
struct mr_stream *mr_filter(struct mr_stream *stream, const struct mr_function *filter);     /* MR_FILTER */

/* ---- keys, state and timers ---- */
/* fields: "page" or "user,page". Rows with equal keys go to the same subtask, in order. */
struct mr_stream *mr_key_by(struct mr_stream *stream, const char *fields);
/* MR_PROCESS. On a keyed stream the function may use state and timers. */
struct mr_stream *mr_process(struct mr_stream *stream, const struct mr_function *process);

/* ---- two streams ---- */
/* Streams with the same fields become one. */
struct mr_stream *mr_union(struct mr_stream *first, struct mr_stream *second);
/* MR_CO_PROCESS over two streams that may have different types; both keyed (by keys of the same types, so that they share
 * state) or neither. */
struct mr_stream *mr_connect_process(struct mr_stream *first, struct mr_stream *second, const struct mr_function *co_process);

/* ---- side outputs ---- */
/* What the operator emits with mr_emit_side(ctx, tag, …), or its late rows. type is the type of these records; NULL for late
 * rows, which have the type of the window's input. */
struct mr_stream *mr_side_output(struct mr_stream *stream, const char *tag, const struct mr_record_type *type);

/* ---- event time ---- */
struct mr_watermarks;
/* Timestamps and watermarks for a stream whose source makes none; see struct mr_watermarks in source.h. */
struct mr_stream *mr_assign_watermarks(struct mr_stream *stream, const struct mr_watermarks *watermarks);

/* ---- how rows are spread over the subtasks of the next operator ---- */
struct mr_stream *mr_forward(struct mr_stream *stream);   /* subtask i to subtask i: the default where parallelisms are equal */
struct mr_stream *mr_rebalance(struct mr_stream *stream); /* evenly, over all */
struct mr_stream *mr_rescale(struct mr_stream *stream);   /* evenly, over the near ones */
struct mr_stream *mr_broadcast(struct mr_stream *stream); /* every row to every subtask */
struct mr_stream *mr_global(struct mr_stream *stream);    /* all rows to subtask 0 */

/* ---- settings of the operator that a stream comes from; each returns the stream ---- */
struct mr_stream *mr_name(struct mr_stream *stream, const char *name);
/* A name for the operator's state that stays the same when the program changes: savepoints find their operators by it. */
struct mr_stream *mr_uid(struct mr_stream *stream, const char *uid);
/* Text for the plan; the name by default. */
struct mr_stream *mr_description(struct mr_stream *stream, const char *description);
struct mr_stream *mr_set_parallelism(struct mr_stream *stream, uint32_t parallelism);
struct mr_stream *mr_set_max_parallelism(struct mr_stream *stream, uint32_t max_parallelism);
/* Operators of different groups never share a slot. Passed on to the operators that follow. */
struct mr_stream *mr_slot_sharing_group(struct mr_stream *stream, const char *group);
struct mr_stream *mr_disable_chaining(struct mr_stream *stream);
struct mr_stream *mr_start_new_chain(struct mr_stream *stream);

#endif
