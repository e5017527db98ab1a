/* Partitions and topics of a Kafka source, see kafka_split.h. */
#include "taskmanager/connectors/kafka/kafka_split.h"

#include "common/base/heap.h"

#include <errno.h>
#include <inttypes.h>

void kafka_split_write_position(const struct kafka_split *split, struct bytes_writer *writer)
{
    bytes_write_i64(writer, split->next_offset);
    bytes_write_i64(writer, split->stop_offset);
}

struct error *kafka_split_read_position(const void *bytes, size_t length, int64_t *next_offset, int64_t *stop_offset)
{
    struct bytes_reader reader = bytes_reader_on(bytes, length);
    int64_t next = bytes_read_i64(&reader);
    int64_t stop = bytes_read_i64(&reader);
    if (!bytes_reader_ok(&reader) || bytes_reader_left(&reader) != 0)
        return error_new(CORRUPT, "the position of a Kafka partition in the state is malformed");
    *next_offset = next;
    *stop_offset = stop;
    return NULL;
}

struct error *kafka_topic_create(rd_kafka_t *client, const char *name, struct kafka_topic **out)
{
    struct kafka_topic *topic = heap_new(struct kafka_topic);
    topic->handle = rd_kafka_topic_new(client, name, NULL);
    if (topic->handle == NULL) {
        free(topic);
        return kafka_error(rd_kafka_last_error(), "use Kafka topic %s", name);
    }
    topic->name = heap_strdup(name);
    *out = topic;
    return NULL;
}

void kafka_topic_destroy(struct kafka_topic *topic)
{
    for (int32_t i = 0; i < topic->split_count; i++) {
        if (topic->splits[i] == NULL)
            continue;
        free(topic->splits[i]->offset_metric);
        free(topic->splits[i]->committed_metric);
        free(topic->splits[i]);
    }
    free(topic->splits);
    rd_kafka_topic_destroy(topic->handle);
    free(topic->name);
    free(topic);
}

struct kafka_split *kafka_topic_add_split(struct kafka_topic *topic, int32_t partition, struct source_split *split)
{
    if (partition >= topic->split_count) {
        topic->splits = heap_realloc(topic->splits, (size_t)partition + 1, sizeof(struct kafka_split *));
        for (int32_t i = topic->split_count; i <= partition; i++)
            topic->splits[i] = NULL;
        topic->split_count = partition + 1;
    }
    struct kafka_split *added = heap_new(struct kafka_split);
    added->split = split;
    added->topic = topic;
    added->partition = partition;
    added->stop_offset = -1;
    added->is_live = added->is_reachable = true;
    added->offset_metric = heap_printf("KafkaSourceReader.topic.%s.partition.%" PRId32 ".currentOffset", topic->name, partition);
    added->committed_metric = heap_printf("KafkaSourceReader.topic.%s.partition.%" PRId32 ".committedOffset", topic->name, partition);
    topic->splits[partition] = added;
    split->user = added;
    return added;
}

char *kafka_split_name(const char *topic, int32_t partition)
{
    return heap_printf("%s-%" PRId32, topic, partition);
}

struct error *kafka_split_parse_name(const char *name, char **topic, int32_t *partition)
{
    const char *dash = strrchr(name, '-');
    char *end = NULL;
    errno = 0;
    long number = dash != NULL ? strtol(dash + 1, &end, 10) : -1;
    if (dash == NULL || end == dash + 1 || *end != '\0' || errno != 0 || number < 0 || number > INT32_MAX)
        return error_new(CORRUPT, "\"%s\" in the state is no Kafka partition", name);
    *topic = heap_strndup(name, (size_t)(dash - name));
    *partition = (int32_t)number;
    return NULL;
}
