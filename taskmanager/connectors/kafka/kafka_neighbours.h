/* Which topics are there besides one that is missing or empty? For messages that help with a name that was mistyped. */
#ifndef MILLRACE_KAFKA_NEIGHBOURS_H
#define MILLRACE_KAFKA_NEIGHBOURS_H

#include "taskmanager/connectors/kafka/kafka_client.h"

#include <stddef.h>

/* Changes of one character that lead from a to b, regardless of case. */
size_t kafka_name_distance(const char *a, const char *b);

/* The cluster's topics nearest in name to topic, at most three, nearest first, as "input, input-2" (malloced). Internal topics do not count,
 * nor does topic itself; with_records: only those that hold any. NULL when there is none or no broker answers. Blocks for a few
 * seconds at most. Thread: any. */
char *kafka_neighbours(rd_kafka_t *client, const char *topic, bool with_records);

#endif
