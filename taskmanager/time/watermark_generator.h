/* Event time and watermarks at a source split or at an assign_timestamps operator.
 *   watermark_options     the `watermark` JSON object of an operator (ARCHITECTURE.md), checked
 *   watermark_generator   one per split: follows the greatest timestamp, gives the watermark
 *   event_time            fills a batch's event-time column from a column or a user function
 * One owner: the task thread.
 * source: Flink docs, "Builtin Watermark Generators" (bounded out-of-orderness: max timestamp - bound - 1). */
#ifndef MILLRACE_TIME_WATERMARK_GENERATOR_H
#define MILLRACE_TIME_WATERMARK_GENERATOR_H

#include "common/columnar/batch.h"

#include <jansson.h>

struct op_context;
struct timestamp_function;

enum watermark_strategy { WATERMARK_NONE, WATERMARK_BOUNDED, WATERMARK_ASCENDING };

struct watermark_options {
    enum watermark_strategy strategy;
    int64_t out_of_orderness_ms; /* 0 for ASCENDING */
    int64_t idle_timeout_ms;     /* -1: a split is never idle */
    int64_t interval_ms;         /* how often watermarks are emitted; 0 = with every batch */
    int column;                  /* index into the schema, -1 when event time does not come from a column */
    const char *function;        /* symbol of a timestamp assigner, borrowed from the JSON; NULL when none */
};

/* json may be NULL (no watermarks). schema is that of the rows the column is looked up in. */
MUST_CHECK struct error *watermark_options_parse(const json_t *json, const struct schema *schema, struct watermark_options *out);

struct watermark_generator {
    int64_t bound_ms;      /* out_of_orderness_ms + 1 */
    int64_t max_timestamp; /* TIME_MIN before the first row */
    int64_t watermark;     /* the last value given, never falls; TIME_MIN before the first */
};

void watermark_generator_init(struct watermark_generator *generator, const struct watermark_options *options);
/* Brings back what a snapshot had: the watermark never falls below it. */
void watermark_generator_restore(struct watermark_generator *generator, int64_t max_timestamp, int64_t watermark);
static inline void watermark_generator_on_timestamp(struct watermark_generator *generator, int64_t max_timestamp)
{
    if (max_timestamp > generator->max_timestamp)
        generator->max_timestamp = max_timestamp;
}
/* Raises and returns the watermark. */
int64_t watermark_generator_advance(struct watermark_generator *generator);

/* ---- event time of a batch ---- */

struct event_time {
    int column;                          /* -1: none */
    struct timestamp_function *function; /* NULL: none; owned */
};

/* Where the event time of rows of `schema` comes from. The column must be TIMESTAMP or BIGINT. */
MUST_CHECK struct error *event_time_init(struct event_time *event_time, const struct watermark_options *options, struct op_context *ctx,
                                         struct schema *schema);
void event_time_finish(struct event_time *event_time);
static inline bool event_time_is_set(const struct event_time *event_time)
{
    return event_time->column >= 0 || event_time->function != NULL;
}
/* Gives the batch its event-time column. Takes batch, and writes the one to go on with to *out: the same batch when it is not
 * shared (the column's buffer is shared, not copied, unless it holds nulls: a null's time is TIME_MIN). */
MUST_CHECK struct error *event_time_assign(struct event_time *event_time, struct batch *batch, struct batch **out);
/* Greatest of times[first .. end), TIME_MIN when empty. */
int64_t event_time_max(const int64_t *times, uint32_t first, uint32_t end);

#endif
