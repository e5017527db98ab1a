/* Is a partition silent because nobody writes to it, or because its broker does not answer? librdkafka reports the end of a
 * partition once and says nothing more, also while the broker is frozen or gone. Its statistics tell: the partition's broker
 * must be connected and must have answered lately (a fetch is answered within fetch.wait.max.ms even when there is nothing).
 * Thread: task (the statistics callback runs in rd_kafka_poll). */
#ifndef MILLRACE_KAFKA_LIVENESS_H
#define MILLRACE_KAFKA_LIVENESS_H

#include "taskmanager/connectors/kafka/kafka_split.h"

#include <stddef.h>

/* Sets is_live and is_reachable of the topic's splits from a statistics document. A broker that was silent for longer than silence_ms is not
 * live. Partitions that the document does not know are left as they are. */
void kafka_liveness_update(const char *statistics, size_t length, int64_t silence_ms, struct kafka_topic *const *topics, size_t topic_count);
/* Whether the client is connected to any broker. */
bool kafka_liveness_is_any_up(const char *statistics, size_t length);

#endif
