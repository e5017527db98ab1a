/* See kafka_discovery.h. The thread owns `known` and the offsets in work; `mutex` guards what both sides see. Calls into
 * librdkafka have short timeouts, so that stopping is quick; patience is a loop. */
#include "taskmanager/connectors/kafka/kafka_discovery.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/str_buf.h"
#include "common/base/vec.h"
#include "taskmanager/connectors/kafka/kafka_ends.h"
#include "taskmanager/connectors/kafka/kafka_neighbours.h"
#include "taskmanager/connectors/kafka/kafka_topic_pattern.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define CALL_TIMEOUT_MS 1000
#define RETRY_PAUSE_MS 100
#define LOOK_AROUND_MS 10000
/* How long a named topic may be missing, and the brokers unreachable, before the first round fails. */
#define TOPIC_PATIENCE_MS 10000
#define BROKER_PATIENCE_MS 60000

struct known_partition {
    char *topic;
    int32_t partition;
};

struct kafka_discovery {
    struct kafka_discovery_settings settings; /* options: below */
    struct kafka_source_options options;      /* a deep copy: the thread may outlive the source */
    regex_t pattern;
    bool has_pattern;
    pthread_t thread;
    bool has_thread;
    VEC(struct known_partition) known; /* the thread's, once it runs */
    bool first_round_over;             /* the thread's */
    struct kafka_log_limit log_limit;  /* the thread's */
    const char *missing_topic;         /* the thread's: of the last round; borrowed from the options */
    char *missing_neighbours;          /* the thread's: topics with names like it; NULL */
    bool has_trouble;                  /* the thread's: on_trouble was told of some */
    int64_t next_look_ms;              /* the thread's */
    struct kafka_ends *ends;           /* has its own lock */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    /* guarded by mutex */
    VEC(struct kafka_found) found;
    bool is_ready;
    bool is_stopping;
    bool wants_nudge;
    bool wants_look;
    bool wants_ends;
    char *neighbours; /* topics with records; NULL */
    struct error *err;
};

uint64_t kafka_split_assignment(const char *topic, int32_t partition)
{
    uint32_t hash = 0; /* String.hashCode of an ASCII name */
    for (const char *p = topic; *p != '\0'; p++)
        hash = hash * 31 + (uint8_t)*p;
    return (uint64_t)(hash * 31 & 0x7fffffff) + (uint64_t)(uint32_t)partition;
}

static bool is_stopping(struct kafka_discovery *discovery)
{
    pthread_mutex_lock(&discovery->mutex);
    bool stopping = discovery->is_stopping;
    pthread_mutex_unlock(&discovery->mutex);
    return stopping;
}

static void wake_task(struct kafka_discovery *discovery)
{
    uint64_t one = 1;
    pthread_mutex_lock(&discovery->mutex);
    if (!discovery->is_stopping && write(discovery->settings.wake_fd, &one, sizeof one) < 0)
        (void)0; /* the counter is full: the task is awake already */
    pthread_mutex_unlock(&discovery->mutex);
}

static void know(struct kafka_discovery *discovery, const char *topic, int32_t partition)
{
    struct known_partition known = {.topic = heap_strdup(topic), .partition = partition};
    vec_push(&discovery->known, known);
}

static bool is_known(const struct kafka_discovery *discovery, const char *topic, int32_t partition)
{
    for (size_t i = 0; i < discovery->known.count; i++)
        if (discovery->known.items[i].partition == partition && strcmp(discovery->known.items[i].topic, topic) == 0)
            return true;
    return false;
}

/* ---- partitions ---- */

static bool is_missing_topic(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
           code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
}

static bool wants_partition(const struct kafka_discovery *discovery, const char *topic, int32_t partition)
{
    return kafka_split_assignment(topic, partition) % discovery->settings.parallelism == discovery->settings.subtask_index &&
           !is_known(discovery, topic, partition);
}

static struct error *add_topic(struct kafka_discovery *discovery, const rd_kafka_metadata_topic_t *topic,
                               rd_kafka_topic_partition_list_t *out)
{
    if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return kafka_error(topic->err, "find Kafka topic %s", topic->topic);
    for (int i = 0; i < topic->partition_cnt; i++)
        if (wants_partition(discovery, topic->topic, topic->partitions[i].id))
            rd_kafka_topic_partition_list_add(out, topic->topic, topic->partitions[i].id);
    return NULL;
}

static struct error *find_named(struct kafka_discovery *discovery, rd_kafka_topic_partition_list_t *out, rd_kafka_resp_err_t *code)
{
    const json_t *topics = discovery->settings.options->topics;
    for (size_t i = 0; i < json_array_size(topics); i++) {
        const char *name = json_string_value(json_array_get(topics, i));
        rd_kafka_topic_t *topic = rd_kafka_topic_new(discovery->settings.client, name, NULL);
        const rd_kafka_metadata_t *metadata = NULL;
        *code = rd_kafka_metadata(discovery->settings.client, 0, topic, &metadata, CALL_TIMEOUT_MS);
        rd_kafka_topic_destroy(topic);
        struct error *err = NULL;
        if (*code != RD_KAFKA_RESP_ERR_NO_ERROR)
            err = kafka_error(*code, "find Kafka topic %s", name);
        else if (metadata->topic_cnt != 1)
            err = kafka_error(*code = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "find Kafka topic %s", name);
        else {
            *code = metadata->topics[0].err;
            err = add_topic(discovery, &metadata->topics[0], out);
        }
        if (metadata != NULL)
            rd_kafka_metadata_destroy(metadata);
        if (is_missing_topic(*code))
            discovery->missing_topic = name;
        TRY(err);
    }
    return NULL;
}

static struct error *find_by_pattern(struct kafka_discovery *discovery, rd_kafka_topic_partition_list_t *out, rd_kafka_resp_err_t *code)
{
    const rd_kafka_metadata_t *metadata = NULL;
    *code = rd_kafka_metadata(discovery->settings.client, 1, NULL, &metadata, CALL_TIMEOUT_MS);
    if (*code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return kafka_error(*code, "list the topics of the Kafka cluster");
    struct error *err = NULL;
    for (int i = 0; i < metadata->topic_cnt && err == NULL; i++) {
        const rd_kafka_metadata_topic_t *topic = &metadata->topics[i];
        if (topic->err == RD_KAFKA_RESP_ERR_NO_ERROR && kafka_topic_pattern_matches(&discovery->pattern, topic->topic))
            err = add_topic(discovery, topic, out);
    }
    rd_kafka_metadata_destroy(metadata);
    return err;
}

/* ---- offsets ---- */

static void set_offsets(rd_kafka_topic_partition_list_t *list, int64_t offset)
{
    for (int i = 0; i < list->cnt; i++)
        list->elems[i].offset = offset;
}

/* Replaces timestamps (or -1 = the end) by offsets. */
static struct error *resolve_times(rd_kafka_t *client, rd_kafka_topic_partition_list_t *list, rd_kafka_resp_err_t *code)
{
    *code = rd_kafka_offsets_for_times(client, list, CALL_TIMEOUT_MS);
    for (int i = 0; i < list->cnt && *code == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
        *code = list->elems[i].err;
    if (*code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return kafka_error(*code, "look up offsets of Kafka topic %s", list->elems[0].topic);
    return NULL;
}

/* Not by rd_kafka_query_watermark_offsets, whose timeout librdkafka 2.0.2 does not keep (kafka_ends.c). */
static struct error *resolve_ends(rd_kafka_t *client, rd_kafka_topic_partition_list_t *list, rd_kafka_resp_err_t *code)
{
    set_offsets(list, RD_KAFKA_OFFSET_END);
    return resolve_times(client, list, code);
}

static struct error *resolve_end(rd_kafka_t *client, rd_kafka_topic_partition_t *partition, rd_kafka_resp_err_t *code)
{
    rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(one, partition->topic, partition->partition);
    struct error *err = resolve_ends(client, one, code);
    partition->offset = one->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(one);
    return err;
}

/* Offsets at a point in time; a partition without a later record ends there, i.e. its end is meant. */
static struct error *resolve_timestamp(rd_kafka_t *client, rd_kafka_topic_partition_list_t *list, int64_t time_ms, rd_kafka_resp_err_t *code)
{
    set_offsets(list, time_ms);
    TRY(resolve_times(client, list, code));
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].offset < 0)
            TRY(resolve_end(client, &list->elems[i], code));
    return NULL;
}

static struct error *resolve_committed(struct kafka_discovery *discovery, rd_kafka_topic_partition_list_t *list, rd_kafka_resp_err_t *code)
{
    set_offsets(list, RD_KAFKA_OFFSET_INVALID);
    *code = rd_kafka_committed(discovery->settings.client, list, CALL_TIMEOUT_MS);
    for (int i = 0; i < list->cnt && *code == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
        *code = list->elems[i].err;
    if (*code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return kafka_error(*code, "read the committed offsets of Kafka group %s",
                           kafka_property(discovery->settings.options->properties, "group.id", ""));
    return NULL;
}

static int64_t specific_offset(const json_t *offsets, const char *topic, int32_t partition, int64_t otherwise)
{
    char key[300];
    snprintf(key, sizeof key, "%s:%" PRId32, topic, partition);
    const json_t *offset = json_object_get(offsets, key);
    return json_is_integer(offset) ? json_integer_value(offset) : otherwise;
}

/* Group offsets: a partition without one follows auto.offset.reset, which has no default here: silence would lose data. */
static struct error *fill_uncommitted(struct kafka_discovery *discovery, rd_kafka_topic_partition_list_t *list, rd_kafka_resp_err_t *code)
{
    const json_t *properties = discovery->settings.options->properties;
    const char *reset = kafka_property(properties, "auto.offset.reset", "error");
    for (int i = 0; i < list->cnt; i++) {
        rd_kafka_topic_partition_t *partition = &list->elems[i];
        if (partition->offset >= 0)
            continue;
        if (strcmp(reset, "earliest") == 0 || strcmp(reset, "smallest") == 0 || strcmp(reset, "beginning") == 0) {
            partition->offset = RD_KAFKA_OFFSET_BEGINNING;
        } else if (strcmp(reset, "latest") == 0 || strcmp(reset, "largest") == 0 || strcmp(reset, "end") == 0) {
            TRY(resolve_end(discovery->settings.client, partition, code));
        } else {
            *code = RD_KAFKA_RESP_ERR__NO_OFFSET;
            return error_with_hint(error_new(INVALID_ARGUMENT, "Kafka group %s has no committed offset for partition %" PRId32 " of topic %s",
                                             kafka_property(properties, "group.id", ""), partition->partition, partition->topic),
                                   "set the property auto.offset.reset to earliest or latest, or choose another startup mode");
        }
    }
    return NULL;
}

static struct error *resolve_starts(struct kafka_discovery *discovery, rd_kafka_topic_partition_list_t *list, rd_kafka_resp_err_t *code)
{
    const struct kafka_source_options *options = discovery->settings.options;
    bool is_new = discovery->first_round_over || discovery->settings.is_restored;
    set_offsets(list, RD_KAFKA_OFFSET_BEGINNING);
    if (is_new)
        return NULL;
    switch (options->startup) {
    case KAFKA_START_EARLIEST:
        break;
    case KAFKA_START_LATEST:
        return resolve_ends(discovery->settings.client, list, code);
    case KAFKA_START_GROUP_OFFSETS:
        TRY(resolve_committed(discovery, list, code));
        return fill_uncommitted(discovery, list, code);
    case KAFKA_START_TIMESTAMP:
        return resolve_timestamp(discovery->settings.client, list, options->startup_timestamp_ms, code);
    case KAFKA_START_SPECIFIC:
        for (int i = 0; i < list->cnt; i++)
            list->elems[i].offset = specific_offset(options->startup_offsets, list->elems[i].topic, list->elems[i].partition,
                                                    RD_KAFKA_OFFSET_BEGINNING);
        break;
    }
    return NULL;
}

static struct error *resolve_stops(struct kafka_discovery *discovery, rd_kafka_topic_partition_list_t *list, rd_kafka_resp_err_t *code)
{
    const struct kafka_source_options *options = discovery->settings.options;
    switch (options->bounded) {
    case KAFKA_UNBOUNDED:
        set_offsets(list, -1);
        break;
    case KAFKA_STOP_LATEST:
        return resolve_ends(discovery->settings.client, list, code);
    case KAFKA_STOP_GROUP_OFFSETS:
        TRY(resolve_committed(discovery, list, code));
        for (int i = 0; i < list->cnt; i++)
            list->elems[i].offset = list->elems[i].offset < 0 ? 0 : list->elems[i].offset;
        break;
    case KAFKA_STOP_TIMESTAMP:
        return resolve_timestamp(discovery->settings.client, list, options->bounded_timestamp_ms, code);
    case KAFKA_STOP_SPECIFIC:
        for (int i = 0; i < list->cnt; i++)
            list->elems[i].offset = specific_offset(options->bounded_offsets, list->elems[i].topic, list->elems[i].partition, 0);
        break;
    }
    return NULL;
}

/* ---- rounds ---- */

static void publish(struct kafka_discovery *discovery, const rd_kafka_topic_partition_list_t *starts,
                    const rd_kafka_topic_partition_list_t *stops)
{
    for (int i = 0; i < starts->cnt; i++)
        know(discovery, starts->elems[i].topic, starts->elems[i].partition);
    pthread_mutex_lock(&discovery->mutex);
    for (int i = 0; i < starts->cnt; i++) {
        struct kafka_found found = {.topic = heap_strdup(starts->elems[i].topic),
                                    .partition = starts->elems[i].partition,
                                    .start_offset = starts->elems[i].offset,
                                    .stop_offset = stops->elems[i].offset};
        vec_push(&discovery->found, found);
    }
    bool is_news = starts->cnt > 0 || !discovery->is_ready;
    discovery->is_ready = true;
    pthread_mutex_unlock(&discovery->mutex);
    discovery->first_round_over = true;
    if (is_news)
        wake_task(discovery);
}

/* One round of discovery. *code is the librdkafka code behind an error. */
static struct error *run_round(struct kafka_discovery *discovery, rd_kafka_resp_err_t *code)
{
    rd_kafka_topic_partition_list_t *starts = rd_kafka_topic_partition_list_new(8);
    rd_kafka_topic_partition_list_t *stops = NULL;
    *code = RD_KAFKA_RESP_ERR_NO_ERROR;
    struct error *err = discovery->has_pattern ? find_by_pattern(discovery, starts, code) : find_named(discovery, starts, code);
    if (err == NULL) {
        stops = rd_kafka_topic_partition_list_copy(starts);
        if (starts->cnt > 0)
            err = resolve_starts(discovery, starts, code);
        if (err == NULL && stops->cnt > 0)
            err = resolve_stops(discovery, stops, code);
    }
    if (err == NULL)
        publish(discovery, starts, stops);
    if (stops != NULL)
        rd_kafka_topic_partition_list_destroy(stops);
    rd_kafka_topic_partition_list_destroy(starts);
    return err;
}

static void nudge(struct kafka_discovery *discovery)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)discovery->known.count);
    for (size_t i = 0; i < discovery->known.count; i++)
        rd_kafka_topic_partition_list_add(list, discovery->known.items[i].topic, discovery->known.items[i].partition)->offset =
            RD_KAFKA_OFFSET_END;
    if (list->cnt > 0) /* the answer does not matter */
        rd_kafka_offsets_for_times(discovery->settings.client, list, CALL_TIMEOUT_MS);
    rd_kafka_topic_partition_list_destroy(list);
}

static void look_around(struct kafka_discovery *discovery)
{
    const json_t *topics = discovery->settings.options->topics;
    const char *topic = json_string_value(json_array_get(topics, 0));
    int64_t now_ms = clock_mono_ms();
    if (now_ms < discovery->next_look_ms)
        return;
    discovery->next_look_ms = now_ms + LOOK_AROUND_MS;
    char *neighbours = kafka_neighbours(discovery->settings.client, topic != NULL ? topic : discovery->settings.options->topic_pattern, true);
    pthread_mutex_lock(&discovery->mutex);
    free(discovery->neighbours);
    discovery->neighbours = neighbours;
    pthread_mutex_unlock(&discovery->mutex);
}

/* Sleeps until time_ms (monotonic; -1 = for ever), doing what is asked for. False: stop. */
static bool sleep_until(struct kafka_discovery *discovery, int64_t time_ms)
{
    pthread_mutex_lock(&discovery->mutex);
    while (!discovery->is_stopping && (time_ms < 0 || clock_mono_ms() < time_ms)) {
        if (discovery->wants_look) {
            discovery->wants_look = false;
            pthread_mutex_unlock(&discovery->mutex);
            look_around(discovery);
            pthread_mutex_lock(&discovery->mutex);
            continue;
        }
        if (discovery->wants_nudge) {
            discovery->wants_nudge = false;
            pthread_mutex_unlock(&discovery->mutex);
            nudge(discovery);
            pthread_mutex_lock(&discovery->mutex);
            continue;
        }
        if (discovery->wants_ends) {
            discovery->wants_ends = false;
            pthread_mutex_unlock(&discovery->mutex);
            kafka_ends_look_up(discovery->ends, discovery->settings.client, CALL_TIMEOUT_MS);
            pthread_mutex_lock(&discovery->mutex);
            continue;
        }
        if (time_ms < 0) {
            pthread_cond_wait(&discovery->wake, &discovery->mutex);
        } else {
            struct timespec until = {.tv_sec = time_ms / 1000, .tv_nsec = time_ms % 1000 * 1000000};
            pthread_cond_timedwait(&discovery->wake, &discovery->mutex, &until);
        }
    }
    bool go_on = !discovery->is_stopping;
    pthread_mutex_unlock(&discovery->mutex);
    return go_on;
}

static void tell_trouble(struct kafka_discovery *discovery, const char *code, const char *subject, const char *text)
{
    if (discovery->settings.on_trouble == NULL || (code == NULL && !discovery->has_trouble))
        return;
    discovery->has_trouble = code != NULL;
    pthread_mutex_lock(&discovery->mutex);
    if (!discovery->is_stopping)
        discovery->settings.on_trouble(discovery->settings.arg, code, subject, text);
    pthread_mutex_unlock(&discovery->mutex);
}

/* Takes err and gives it back with what may help. */
static struct error *explain(struct kafka_discovery *discovery, struct error *err, rd_kafka_resp_err_t code)
{
    if (is_missing_topic(code) && discovery->missing_topic != NULL) {
        if (discovery->missing_neighbours == NULL)
            discovery->missing_neighbours = kafka_neighbours(discovery->settings.client, discovery->missing_topic, false);
        char *hint = discovery->missing_neighbours != NULL ? heap_printf("the nearest topics there are: %s", discovery->missing_neighbours)
                                                           : heap_strdup("the cluster has no topics yet");
        err = error_with_hint(err, "%s", hint);
        free(hint);
    }
    char *text = error_text(err);
    if (is_missing_topic(code))
        tell_trouble(discovery, "topic-missing", discovery->missing_topic, text);
    else
        tell_trouble(discovery, "broker-unreachable", kafka_property(discovery->settings.options->properties, "bootstrap.servers", NULL), text);
    free(text);
    return err;
}

/* The first round decides whether the source can work at all: it is repeated while the trouble may pass. */
static struct error *run_first_round(struct kafka_discovery *discovery)
{
    int64_t start_ms = clock_mono_ms();
    for (;;) {
        rd_kafka_resp_err_t code;
        struct error *err = run_round(discovery, &code);
        if (err == NULL)
            tell_trouble(discovery, NULL, NULL, NULL);
        if (err == NULL || is_stopping(discovery))
            return err;
        err = explain(discovery, err, code);
        int64_t waited_ms = clock_mono_ms() - start_ms;
        bool is_transient = kafka_error_is_transient(code);
        /* With state, the known partitions are being read already: no hurry. */
        bool has_work = discovery->settings.is_restored && discovery->known.count > 0;
        if (!(is_transient && (has_work || waited_ms < BROKER_PATIENCE_MS)) && !(is_missing_topic(code) && waited_ms < TOPIC_PATIENCE_MS))
            return err;
        char *text = error_text(err);
        kafka_log_limited(&discovery->log_limit, "%s; trying again", text);
        free(text);
        error_free(err);
        if (!sleep_until(discovery, clock_mono_ms() + RETRY_PAUSE_MS))
            return NULL;
    }
}

static void *discovery_main(void *arg)
{
    struct kafka_discovery *discovery = arg;
    struct error *err = run_first_round(discovery);
    if (err != NULL) {
        pthread_mutex_lock(&discovery->mutex);
        discovery->err = err;
        pthread_mutex_unlock(&discovery->mutex);
        wake_task(discovery);
        return NULL;
    }
    bool repeats = discovery->settings.options->discovery_interval_ms > 0 && discovery->settings.options->bounded == KAFKA_UNBOUNDED;
    while (sleep_until(discovery, repeats ? clock_mono_ms() + discovery->settings.options->discovery_interval_ms : -1)) {
        rd_kafka_resp_err_t code;
        struct error *round_err = run_round(discovery, &code);
        if (round_err != NULL) {
            log_error_chain(LOG_WARN, "KafkaDiscovery", round_err, "partition discovery failed; the next round tries again");
            error_free(explain(discovery, round_err, code));
        } else {
            tell_trouble(discovery, NULL, NULL, NULL);
        }
    }
    return NULL;
}

/* ---- for the task thread ---- */

static void copy_options(struct kafka_discovery *discovery, const struct kafka_source_options *options)
{
    struct kafka_source_options *copy = &discovery->options;
    *copy = *options;
    copy->properties = json_deep_copy(options->properties);
    copy->topics = options->topics != NULL ? json_deep_copy(options->topics) : NULL;
    copy->topic_pattern = options->topic_pattern != NULL ? heap_strdup(options->topic_pattern) : NULL;
    copy->startup_offsets = options->startup_offsets != NULL ? json_deep_copy(options->startup_offsets) : NULL;
    copy->bounded_offsets = options->bounded_offsets != NULL ? json_deep_copy(options->bounded_offsets) : NULL;
    copy->format = NULL;
    copy->dead_letter_topic = NULL;
    discovery->settings.options = copy;
}

static void free_options(struct kafka_source_options *options)
{
    json_t *const documents[] = {(json_t *)(uintptr_t)options->properties, (json_t *)(uintptr_t)options->topics,
                                 (json_t *)(uintptr_t)options->startup_offsets, (json_t *)(uintptr_t)options->bounded_offsets};
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++)
        json_decref(documents[i]);
    free((char *)(uintptr_t)options->topic_pattern);
}

struct kafka_discovery *kafka_discovery_create(const struct kafka_discovery_settings *settings)
{
    struct kafka_discovery *discovery = heap_new(struct kafka_discovery);
    discovery->settings = *settings;
    copy_options(discovery, settings->options);
    discovery->ends = kafka_ends_create();
    pthread_mutex_init(&discovery->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&discovery->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    return discovery;
}

void kafka_discovery_know(struct kafka_discovery *discovery, const char *topic, int32_t partition)
{
    know(discovery, topic, partition);
}

struct error *kafka_discovery_start(struct kafka_discovery *discovery)
{
    const char *pattern = discovery->settings.options->topic_pattern;
    if (pattern != NULL) {
        TRY(kafka_topic_pattern_compile(pattern, &discovery->pattern));
        discovery->has_pattern = true;
    }
    int code = pthread_create(&discovery->thread, NULL, discovery_main, discovery);
    if (code != 0)
        return error_errno(code, "could not start the Kafka discovery thread");
    discovery->has_thread = true;
    return NULL;
}

struct error *kafka_discovery_take(struct kafka_discovery *discovery, struct kafka_found **found, size_t *count, bool *is_ready)
{
    pthread_mutex_lock(&discovery->mutex);
    *found = discovery->found.items;
    *count = discovery->found.count;
    discovery->found.items = NULL;
    discovery->found.count = discovery->found.capacity = 0;
    *is_ready = discovery->is_ready;
    struct error *err = discovery->err;
    discovery->err = NULL;
    pthread_mutex_unlock(&discovery->mutex);
    return err;
}

void kafka_discovery_nudge(struct kafka_discovery *discovery)
{
    pthread_mutex_lock(&discovery->mutex);
    discovery->wants_nudge = true;
    pthread_cond_signal(&discovery->wake);
    pthread_mutex_unlock(&discovery->mutex);
}

uint64_t kafka_discovery_ask_end(struct kafka_discovery *discovery, const char *topic, int32_t partition)
{
    uint64_t ticket = kafka_ends_ask(discovery->ends, topic, partition);
    pthread_mutex_lock(&discovery->mutex);
    discovery->wants_ends = true;
    pthread_cond_signal(&discovery->wake);
    pthread_mutex_unlock(&discovery->mutex);
    return ticket;
}

bool kafka_discovery_take_end(struct kafka_discovery *discovery, uint64_t ticket, int64_t *end)
{
    return kafka_ends_take(discovery->ends, ticket, end);
}

void kafka_discovery_look_around(struct kafka_discovery *discovery)
{
    pthread_mutex_lock(&discovery->mutex);
    discovery->wants_look = true;
    pthread_cond_signal(&discovery->wake);
    pthread_mutex_unlock(&discovery->mutex);
}

char *kafka_discovery_neighbours(struct kafka_discovery *discovery)
{
    pthread_mutex_lock(&discovery->mutex);
    char *copy = discovery->neighbours != NULL ? heap_strdup(discovery->neighbours) : NULL;
    pthread_mutex_unlock(&discovery->mutex);
    return copy;
}

void kafka_discovery_stop(struct kafka_discovery *discovery)
{
    pthread_mutex_lock(&discovery->mutex);
    discovery->is_stopping = true;
    pthread_cond_signal(&discovery->wake);
    pthread_mutex_unlock(&discovery->mutex);
}

void kafka_discovery_destroy(struct kafka_discovery *discovery)
{
    if (discovery == NULL)
        return;
    kafka_discovery_stop(discovery);
    if (discovery->has_thread)
        pthread_join(discovery->thread, NULL);
    for (size_t i = 0; i < discovery->known.count; i++)
        free(discovery->known.items[i].topic);
    vec_finish(&discovery->known);
    for (size_t i = 0; i < discovery->found.count; i++)
        free(discovery->found.items[i].topic);
    vec_finish(&discovery->found);
    if (discovery->has_pattern)
        regfree(&discovery->pattern);
    error_free(discovery->err);
    free(discovery->missing_neighbours);
    free(discovery->neighbours);
    free_options(&discovery->options);
    kafka_ends_destroy(discovery->ends);
    pthread_mutex_destroy(&discovery->mutex);
    pthread_cond_destroy(&discovery->wake);
    free(discovery);
}
