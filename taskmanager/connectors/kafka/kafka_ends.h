/* Where partitions end, as their broker says: the task asks, the source's helper thread looks it up, the task takes the answer.
 * Asked before a quiet partition is taken for idle. What librdkafka said about its end may be old by then: after a broker came
 * back, one partition's fetches may go on seconds before another's, and rows of the later one would come behind a watermark that
 * did not wait for them.
 * Thread: as each function says. */
#ifndef MILLRACE_KAFKA_ENDS_H
#define MILLRACE_KAFKA_ENDS_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>

#define KAFKA_END_UNKNOWN (-1) /* the broker did not answer */

struct kafka_ends;
struct kafka_ends *kafka_ends_create(void);
/* Accepts NULL. */
void kafka_ends_destroy(struct kafka_ends *ends);

/* Task. Gives a ticket, never 0; an older question about the same partition is void. */
uint64_t kafka_ends_ask(struct kafka_ends *ends, const char *topic, int32_t partition);
/* Task. False: not answered yet. Else *end is the offset behind the last record (under read_committed: the last stable offset), or
 * KAFKA_END_UNKNOWN. */
bool kafka_ends_take(struct kafka_ends *ends, uint64_t ticket, int64_t *end);
/* Helper thread: answers all open questions. Blocks for about timeout_ms at most. */
void kafka_ends_look_up(struct kafka_ends *ends, rd_kafka_t *client, int timeout_ms);

#endif
