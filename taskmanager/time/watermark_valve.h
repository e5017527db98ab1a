/* Merges the watermarks and idleness of the channels of one logical input: the minimum over the active channels that have
 * caught up. Rules (semantics.md section 1; Flink's StatusWatermarkValve):
 *   - a channel's regressions are ignored; so are watermarks of an idle channel;
 *   - idle channels leave the minimum; when the last one goes idle and it was the one that held the output back, the
 *     output first rises to the maximum of all channels, then the input is idle;
 *   - TIME_MAX says that a channel is done: it leaves the minimum for good. Only when all are done the output is TIME_MAX (an
 *     idle channel may still bring rows; Flink's valve forgets that);
 *   - a channel that becomes active again joins the minimum only once its watermark has reached the output.
 * One owner: the task thread. */
#ifndef MILLRACE_TIME_WATERMARK_VALVE_H
#define MILLRACE_TIME_WATERMARK_VALVE_H

#include <stdbool.h>
#include <stdint.h>

struct watermark_valve;

/* What a call changed. Order of delivery: went_active, the watermark, went_idle. */
struct watermark_valve_change {
    bool has_watermark;
    int64_t watermark;
    bool went_active;
    bool went_idle;
};

struct watermark_valve *watermark_valve_create(uint32_t channel_count);
/* Accepts NULL. */
void watermark_valve_destroy(struct watermark_valve *valve);
struct watermark_valve_change watermark_valve_watermark(struct watermark_valve *valve, uint32_t index, int64_t time);
struct watermark_valve_change watermark_valve_idle(struct watermark_valve *valve, uint32_t index, bool is_idle);
/* The channel ended: it never holds the output back again. When all have ended nothing is emitted: the end of data
 * carried its own watermark. */
struct watermark_valve_change watermark_valve_end(struct watermark_valve *valve, uint32_t index);

#endif
