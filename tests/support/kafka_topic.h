/* Reading a whole Kafka topic in Check tests. Thread: the test's. */
#ifndef MILLRACE_SUPPORT_KAFKA_TOPIC_H
#define MILLRACE_SUPPORT_KAFKA_TOPIC_H

/* Calls on_value(arg, text) for each committed record of partitions 0 … partition_count - 1, up to their ends as of now, and gives their
 * number. Values of more than 127 bytes are cut. A partition that does not exist is waited for until the test's time is up. */
int kafka_topic_read(const char *servers, const char *topic, int partition_count, void (*on_value)(void *arg, const char *text), void *arg);

#endif
