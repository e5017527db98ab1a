/* Where records go that could not be decoded, when on_error says dead-letter: their bytes as they were, to another topic, with
 * headers that say where they came from and what was wrong. At least once: flushed before each barrier. Thread: task. */
#ifndef MILLRACE_KAFKA_DEAD_LETTER_H
#define MILLRACE_KAFKA_DEAD_LETTER_H

#include "taskmanager/connectors/kafka/kafka_client.h"

#include <stdatomic.h>

struct kafka_dead_letter;

/* properties: the source's; those that only consumers have are left out. Waits end with CANCELLED once *is_aborting (may be NULL, borrowed)
 * is true. */
MUST_CHECK struct error *kafka_dead_letter_create(const json_t *properties, const char *topic, const atomic_bool *is_aborting,
                                                  struct kafka_dead_letter **out);
MUST_CHECK struct error *kafka_dead_letter_send(struct kafka_dead_letter *letters, const char *topic, int32_t partition, int64_t offset,
                                                const void *bytes, size_t length, const char *reason);
/* Waits until the brokers have them all. */
MUST_CHECK struct error *kafka_dead_letter_flush(struct kafka_dead_letter *letters);
/* Accepts NULL. */
void kafka_dead_letter_destroy(struct kafka_dead_letter *letters);

#endif
