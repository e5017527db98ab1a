/* topic_pattern: a regular expression for whole topic names, as Java writes them, made one of POSIX's (which is what the C library has).
 * Thread: any; a compiled pattern is its owner's. */
#ifndef MILLRACE_KAFKA_TOPIC_PATTERN_H
#define MILLRACE_KAFKA_TOPIC_PATTERN_H

#include "common/base/error.h"

#include <regex.h>
#include <stdbool.h>

/* What POSIX has no words for (look-around, flags, possessive quantifiers, classes by name) is an error that names it. The caller frees
 * *out with regfree.
 * source: java.util.regex.Pattern; POSIX.1-2017, chapter 9 */
MUST_CHECK struct error *kafka_topic_pattern_compile(const char *pattern, regex_t *out);
/* Kafka's own topics never match, as with Flink. */
bool kafka_topic_pattern_matches(const regex_t *pattern, const char *topic);

#endif
