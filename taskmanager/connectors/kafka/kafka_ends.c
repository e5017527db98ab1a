/* See kafka_ends.h. A question a partition at most; `mutex` guards them, and is not held while a broker is asked. */
#include "taskmanager/connectors/kafka/kafka_ends.h"

#include "common/base/heap.h"
#include "common/base/vec.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct end_question {
    char *topic;
    int32_t partition;
    uint64_t ticket;
    bool is_answered;
    int64_t end;
};

struct kafka_ends {
    pthread_mutex_t mutex;
    uint64_t last_ticket;
    VEC(struct end_question) questions;
};

struct kafka_ends *kafka_ends_create(void)
{
    struct kafka_ends *ends = heap_new(struct kafka_ends);
    pthread_mutex_init(&ends->mutex, NULL);
    return ends;
}

void kafka_ends_destroy(struct kafka_ends *ends)
{
    if (ends == NULL)
        return;
    for (size_t i = 0; i < ends->questions.count; i++)
        free(ends->questions.items[i].topic);
    vec_finish(&ends->questions);
    pthread_mutex_destroy(&ends->mutex);
    free(ends);
}

static struct end_question *question_about(struct kafka_ends *ends, const char *topic, int32_t partition)
{
    for (size_t i = 0; i < ends->questions.count; i++) {
        struct end_question *question = &ends->questions.items[i];
        if (question->partition == partition && strcmp(question->topic, topic) == 0)
            return question;
    }
    vec_push(&ends->questions, ((struct end_question){.topic = heap_strdup(topic), .partition = partition}));
    return &ends->questions.items[ends->questions.count - 1];
}

static struct end_question *question_of(struct kafka_ends *ends, uint64_t ticket)
{
    for (size_t i = 0; i < ends->questions.count; i++)
        if (ends->questions.items[i].ticket == ticket)
            return &ends->questions.items[i];
    return NULL;
}

uint64_t kafka_ends_ask(struct kafka_ends *ends, const char *topic, int32_t partition)
{
    pthread_mutex_lock(&ends->mutex);
    uint64_t ticket = ++ends->last_ticket;
    struct end_question *question = question_about(ends, topic, partition);
    question->ticket = ticket;
    question->is_answered = false;
    pthread_mutex_unlock(&ends->mutex);
    return ticket;
}

bool kafka_ends_take(struct kafka_ends *ends, uint64_t ticket, int64_t *end)
{
    pthread_mutex_lock(&ends->mutex);
    const struct end_question *question = question_of(ends, ticket);
    bool is_answered = question != NULL && question->is_answered;
    if (is_answered)
        *end = question->end;
    pthread_mutex_unlock(&ends->mutex);
    return is_answered;
}

/* The open questions; opaque of an element: its ticket. */
static rd_kafka_topic_partition_list_t *open_questions(struct kafka_ends *ends)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
    pthread_mutex_lock(&ends->mutex);
    for (size_t i = 0; i < ends->questions.count; i++) {
        const struct end_question *question = &ends->questions.items[i];
        if (question->is_answered)
            continue;
        rd_kafka_topic_partition_t *partition = rd_kafka_topic_partition_list_add(list, question->topic, question->partition);
        partition->offset = RD_KAFKA_OFFSET_END;
        partition->opaque = (void *)(uintptr_t)question->ticket;
    }
    pthread_mutex_unlock(&ends->mutex);
    return list;
}

/* Not rd_kafka_query_watermark_offsets: librdkafka 2.0.2 waits there for as long as a request may take (a minute), whatever its timeout. */
void kafka_ends_look_up(struct kafka_ends *ends, rd_kafka_t *client, int timeout_ms)
{
    rd_kafka_topic_partition_list_t *list = open_questions(ends);
    rd_kafka_resp_err_t code = list->cnt > 0 ? rd_kafka_offsets_for_times(client, list, timeout_ms) : RD_KAFKA_RESP_ERR_NO_ERROR;
    pthread_mutex_lock(&ends->mutex);
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *partition = &list->elems[i];
        struct end_question *question = question_of(ends, (uint64_t)(uintptr_t)partition->opaque);
        if (question == NULL) /* asked anew: this answer is too old */
            continue;
        bool is_known = code == RD_KAFKA_RESP_ERR_NO_ERROR && partition->err == RD_KAFKA_RESP_ERR_NO_ERROR && partition->offset >= 0;
        question->is_answered = true;
        question->end = is_known ? partition->offset : KAFKA_END_UNKNOWN;
    }
    pthread_mutex_unlock(&ends->mutex);
    rd_kafka_topic_partition_list_destroy(list);
}
