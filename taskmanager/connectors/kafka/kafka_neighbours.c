/* See kafka_neighbours.h. */
#include "taskmanager/connectors/kafka/kafka_neighbours.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "common/base/vec.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define CALL_TIMEOUT_MS 1000
#define SEARCH_MS_MAX 3000
#define NEIGHBOUR_COUNT_MAX 3
#define NAME_BYTES_MAX 249 /* Kafka's own limit */

struct neighbour {
    const char *name;
    size_t distance;
    const rd_kafka_metadata_topic_t *topic;
};

/* source: Levenshtein, with one row of the table. */
size_t kafka_name_distance(const char *a, const char *b)
{
    size_t row[NAME_BYTES_MAX + 2];
    size_t length_b = strnlen(b, NAME_BYTES_MAX);
    for (size_t j = 0; j <= length_b; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != '\0' && i < NAME_BYTES_MAX; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < length_b; j++) {
            size_t replaced = diagonal + (tolower((unsigned char)a[i]) != tolower((unsigned char)b[j]));
            size_t other = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = replaced < other ? replaced : other;
        }
    }
    return row[length_b];
}

static int compare(const void *a, const void *b)
{
    const struct neighbour *first = a, *second = b;
    if (first->distance != second->distance)
        return first->distance < second->distance ? -1 : 1;
    return strcmp(first->name, second->name);
}

static bool has_records(rd_kafka_t *client, const rd_kafka_metadata_topic_t *topic, int64_t deadline_ms)
{
    for (int i = 0; i < topic->partition_cnt && clock_mono_ms() < deadline_ms; i++) {
        int64_t low = 0, high = 0;
        if (rd_kafka_query_watermark_offsets(client, topic->topic, topic->partitions[i].id, &low, &high, CALL_TIMEOUT_MS) ==
                RD_KAFKA_RESP_ERR_NO_ERROR &&
            high > low)
            return true;
    }
    return false;
}

char *kafka_neighbours(rd_kafka_t *client, const char *topic, bool with_records)
{
    const rd_kafka_metadata_t *metadata = NULL;
    int64_t deadline_ms = clock_mono_ms() + SEARCH_MS_MAX;
    if (rd_kafka_metadata(client, 1, NULL, &metadata, CALL_TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return NULL;
    VEC(struct neighbour) found = {0};
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const rd_kafka_metadata_topic_t *other = &metadata->topics[i];
        if (other->err != RD_KAFKA_RESP_ERR_NO_ERROR || strncmp(other->topic, "__", 2) == 0 || strcmp(other->topic, topic) == 0)
            continue;
        struct neighbour neighbour = {.name = other->topic, .distance = kafka_name_distance(topic, other->topic), .topic = other};
        vec_push(&found, neighbour);
    }
    if (found.count > 1)
        qsort(found.items, found.count, sizeof *found.items, compare);
    struct str_buf text = {0};
    size_t count = 0;
    /* Where one looks like it, those that do not are no help. */
    size_t alike = strlen(topic) / 3 + 1;
    for (size_t i = 0; i < found.count && count < NEIGHBOUR_COUNT_MAX; i++) {
        if (count > 0 && found.items[0].distance <= alike && found.items[i].distance > alike)
            break;
        if (with_records && !has_records(client, found.items[i].topic, deadline_ms))
            continue;
        str_buf_printf(&text, "%s%s", count > 0 ? ", " : "", found.items[i].name);
        count++;
    }
    vec_finish(&found);
    rd_kafka_metadata_destroy(metadata);
    if (count == 0) {
        str_buf_finish(&text);
        return NULL;
    }
    return str_buf_detach(&text);
}
