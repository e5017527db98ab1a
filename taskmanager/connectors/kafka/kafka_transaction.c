/* See kafka_transaction.h. */
#include "taskmanager/connectors/kafka/kafka_transaction.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "taskmanager/connectors/kafka/kafka_producer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALL_TIMEOUT_MS 5000
/* Calls before the first transaction can be repeated at no loss: between them the task looks whether it was cancelled. */
#define INIT_STEP_MS 200
#define READ_STEP_MS 1000
#define START_PATIENCE_MS 60000
#define RETRY_PAUSE_MS 100
#define TRANSACTION_TIMEOUT_DEFAULT_MS 60000 /* librdkafka's transaction.timeout.ms */
/* Of the transaction timeout, a part of a committable is produced for at most this share: the rest is for librdkafka's queue and the commit. */
#define PART_SHARE 4
#define ABORT_COUNT_MAX 5 /* of one committable without progress, before the job is to know */
#define COMMITTABLE_VERSION 1
#define ROW_HAS_KEY 1
#define ROW_HAS_VALUE 2

struct kafka_transactor {
    char *id; /* transactional.id and group */
    char *topic_name;
    rd_kafka_t *producer;
    rd_kafka_topic_t *topic;
    rd_kafka_consumer_group_metadata_t *group;
    int64_t marker;
    uint64_t marker_rows; /* of the marker's committable so many rows are in; UINT64_MAX: all */
    int64_t part_ms;      /* produces for so long at most, before it commits what is there */
};

/* ---- committables ---- */

int64_t kafka_marker(int64_t start_seconds, uint64_t checkpoint_id)
{
    uint64_t id = checkpoint_id & ((UINT64_C(1) << KAFKA_MARKER_CHECKPOINT_BITS) - 1);
    return (int64_t)((uint64_t)start_seconds << KAFKA_MARKER_CHECKPOINT_BITS | id) & INT64_MAX;
}

void kafka_committable_add_row(struct kafka_committable *committable, const void *key, size_t key_length, const void *value,
                               size_t value_length)
{
    bytes_write_u8(&committable->rows, (uint8_t)((key != NULL ? ROW_HAS_KEY : 0) | (value != NULL ? ROW_HAS_VALUE : 0)));
    if (key != NULL)
        bytes_write_block(&committable->rows, key, key_length);
    if (value != NULL)
        bytes_write_block(&committable->rows, value, value_length);
    committable->row_count++;
}

void kafka_committable_encode(const struct kafka_committable *committable, struct bytes_writer *writer)
{
    bytes_write_u8(writer, COMMITTABLE_VERSION);
    bytes_write_u32(writer, committable->index);
    bytes_write_u64(writer, committable->checkpoint_id);
    bytes_write_i64(writer, committable->marker);
    bytes_write_u64(writer, committable->row_count);
    bytes_write_u64(writer, committable->digest);
    bytes_write_block(writer, committable->rows.data, committable->rows.length);
}

struct error *kafka_committable_decode(const void *bytes, size_t length, struct kafka_committable **out)
{
    struct bytes_reader reader = bytes_reader_on(bytes, length);
    uint8_t version = bytes_read_u8(&reader);
    struct kafka_committable head = {.index = bytes_read_u32(&reader)};
    head.checkpoint_id = bytes_read_u64(&reader);
    head.marker = bytes_read_i64(&reader);
    head.row_count = bytes_read_u64(&reader);
    head.digest = bytes_read_u64(&reader);
    size_t rows_length;
    const uint8_t *rows = bytes_read_block(&reader, &rows_length);
    if (!bytes_reader_ok(&reader) || version != COMMITTABLE_VERSION)
        return error_new(CORRUPT, "the rows to be committed to Kafka in the state are malformed");
    struct kafka_committable *committable = heap_memdup(&head, sizeof head);
    bytes_write(&committable->rows, rows, rows_length);
    *out = committable;
    return NULL;
}

void kafka_committable_destroy(struct kafka_committable *committable)
{
    if (committable == NULL)
        return;
    bytes_writer_finish(&committable->rows);
    free(committable);
}

/* ---- starting ---- */

static void pause_ms(int ms)
{
    struct timespec pause = {.tv_nsec = ms * 1000000L};
    nanosleep(&pause, NULL);
}

static bool should_stop(const atomic_bool *is_stopping)
{
    return is_stopping != NULL && atomic_load(is_stopping);
}

static struct error *init_transactions(struct kafka_transactor *transactor, const atomic_bool *is_aborting)
{
    int64_t deadline_ms = clock_mono_ms() + START_PATIENCE_MS;
    for (;;) {
        rd_kafka_error_t *kafka_err = rd_kafka_init_transactions(transactor->producer, INIT_STEP_MS);
        if (kafka_err == NULL)
            return NULL;
        if (!rd_kafka_error_is_retriable(kafka_err) || clock_mono_ms() >= deadline_ms)
            return kafka_error_take(kafka_err, "start transactions as %s", transactor->id);
        rd_kafka_error_destroy(kafka_err);
        if (should_stop(is_aborting))
            return error_new(CANCELLED, "stopped while starting transactions as %s", transactor->id);
        pause_ms(RETRY_PAUSE_MS);
    }
}

/* Connection and security settings are all that a reader of one offset needs of the sink's properties. */
static struct error *create_marker_reader(const struct kafka_sink_options *options, const char *group, rd_kafka_t **out)
{
    static const char *const prefixes[] = {"bootstrap.servers", "metadata.broker.list", "security.", "sasl.", "ssl.", "enable.ssl",
                                           "enable.sasl", "socket.", "broker."};
    static const struct kafka_setting defaults[] = {{"client.id", "millrace"}, {"log.connection.close", "false"}, {NULL, NULL}};
    const struct kafka_setting forced[] = {{"group.id", group}, {"isolation.level", "read_committed"}, {"enable.auto.commit", "false"}, {NULL, NULL}};
    json_t *shared = json_object();
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)options->properties, key, value)
    {
        for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
            if (strncmp(key, prefixes[i], strlen(prefixes[i])) == 0)
                json_object_set_new(shared, key, json_deep_copy(value)); /* other tasks hold the original, too */
    }
    rd_kafka_conf_t *conf;
    struct error *err = kafka_conf_create(shared, defaults, forced, &conf);
    json_decref(shared);
    TRY(err);
    return kafka_client_create(RD_KAFKA_CONSUMER, conf, out);
}

/* Beside the marker, as its metadata: how many rows of the committable are in. Nothing: all of them. */
static uint64_t rows_of_metadata(const rd_kafka_topic_partition_t *stored)
{
    char text[24], *end;
    if (stored->metadata_size == 0 || stored->metadata_size >= sizeof text)
        return UINT64_MAX;
    memcpy(text, stored->metadata, stored->metadata_size);
    text[stored->metadata_size] = '\0';
    uint64_t rows = strtoull(text, &end, 10);
    return end != text && *end == '\0' ? rows : UINT64_MAX;
}

/* A read_committed reader waits until offsets of a transaction that is just ending are settled (KIP-447). */
static struct error *read_marker(struct kafka_transactor *transactor, const struct kafka_sink_options *options,
                                 const atomic_bool *is_aborting)
{
    rd_kafka_t *reader;
    TRY(create_marker_reader(options, transactor->id, &reader));
    int64_t deadline_ms = clock_mono_ms() + START_PATIENCE_MS;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, transactor->topic_name, 0);
    rd_kafka_resp_err_t code;
    for (;;) {
        list->elems[0].offset = RD_KAFKA_OFFSET_INVALID;
        list->elems[0].err = RD_KAFKA_RESP_ERR_NO_ERROR;
        code = rd_kafka_committed(reader, list, READ_STEP_MS);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            code = list->elems[0].err;
        bool is_unsettled = code == RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT || kafka_error_is_transient(code);
        if (!is_unsettled || clock_mono_ms() >= deadline_ms || should_stop(is_aborting))
            break;
        pause_ms(RETRY_PAUSE_MS);
    }
    transactor->marker = list->elems[0].offset >= 0 ? list->elems[0].offset : -1;
    transactor->marker_rows = rows_of_metadata(&list->elems[0]);
    rd_kafka_topic_partition_list_destroy(list);
    kafka_client_destroy(reader, should_stop(is_aborting));
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? NULL : kafka_error(code, "read the transaction marker of %s", transactor->id);
}

/* A property is text or a number. */
static int64_t transaction_timeout_ms(const json_t *properties)
{
    const json_t *timeout = json_object_get(properties, "transaction.timeout.ms");
    int64_t timeout_ms = json_is_string(timeout) ? strtoll(json_string_value(timeout), NULL, 10) : json_integer_value(timeout);
    return timeout_ms > 0 ? timeout_ms : TRANSACTION_TIMEOUT_DEFAULT_MS;
}

struct error *kafka_transactor_create(const struct kafka_sink_options *options, uint32_t index, const atomic_bool *is_aborting,
                                      struct kafka_transactor **out)
{
    struct kafka_transactor *transactor = heap_new(struct kafka_transactor);
    transactor->marker = -1;
    transactor->marker_rows = UINT64_MAX;
    transactor->part_ms = transaction_timeout_ms(options->properties) / PART_SHARE;
    transactor->topic_name = heap_strdup(options->topic);
    transactor->id = heap_printf("%s-%" PRIu32, options->transactional_id_prefix, index);
    const struct kafka_setting extra[] = {{"transactional.id", transactor->id}, {NULL, NULL}};
    rd_kafka_conf_t *conf;
    struct error *err;
    TRY_GOTO(fail, kafka_producer_conf_create(options->properties, extra, &conf));
    TRY_GOTO(fail, kafka_client_create(RD_KAFKA_PRODUCER, conf, &transactor->producer));
    transactor->topic = rd_kafka_topic_new(transactor->producer, options->topic, NULL);
    if (transactor->topic == NULL) {
        err = kafka_error(rd_kafka_last_error(), "use Kafka topic %s", options->topic);
        goto fail;
    }
    transactor->group = rd_kafka_consumer_group_metadata_new(transactor->id);
    TRY_GOTO(fail, init_transactions(transactor, is_aborting));
    TRY_GOTO(fail, read_marker(transactor, options, is_aborting));
    *out = transactor;
    return NULL;
fail:
    kafka_transactor_destroy(transactor, should_stop(is_aborting));
    return err;
}

int64_t kafka_transactor_marker(const struct kafka_transactor *transactor)
{
    return transactor->marker;
}

bool kafka_transactor_has(const struct kafka_transactor *transactor, const struct kafka_committable *committable)
{
    return committable->marker < transactor->marker ||
           (committable->marker == transactor->marker && committable->row_count <= transactor->marker_rows);
}

void kafka_transactor_destroy(struct kafka_transactor *transactor, bool is_aborting)
{
    if (transactor == NULL)
        return;
    if (transactor->topic != NULL)
        rd_kafka_topic_destroy(transactor->topic);
    if (transactor->producer != NULL)
        kafka_client_destroy(transactor->producer, is_aborting);
    if (transactor->group != NULL)
        rd_kafka_consumer_group_metadata_destroy(transactor->group);
    free(transactor->topic_name);
    free(transactor->id);
    free(transactor);
}

/* ---- committing ---- */

enum step_result {
    STEP_DONE,
    STEP_AGAIN,  /* the same step once more */
    STEP_ABORT,  /* abort the transaction, then all of it once more */
    STEP_GIVE_UP, /* abort the transaction: the error would come again (a record that the brokers refuse) */
    STEP_FAILED, /* the producer is of no use any more */
};

/* What librdkafka's documentation says to do about an error of a transaction call. Takes kafka_err; *err with STEP_GIVE_UP and STEP_FAILED. */
static enum step_result judge(struct kafka_transactor *transactor, rd_kafka_error_t *kafka_err, const char *what, struct error **err)
{
    if (kafka_err == NULL)
        return STEP_DONE;
    enum step_result result = STEP_FAILED;
    bool is_final = kafka_error_is_final(rd_kafka_error_code(kafka_err));
    if (!rd_kafka_error_is_fatal(kafka_err) && rd_kafka_error_txn_requires_abort(kafka_err))
        result = is_final ? STEP_GIVE_UP : STEP_ABORT;
    else if (!rd_kafka_error_is_fatal(kafka_err) && rd_kafka_error_is_retriable(kafka_err))
        result = STEP_AGAIN;
    if (result == STEP_FAILED || result == STEP_GIVE_UP) {
        *err = kafka_error_take(kafka_err, "%s transaction %s", what, transactor->id);
        return result;
    }
    log_warn("KafkaCommitter", "%s transaction %s: %s; trying again", what, transactor->id, rd_kafka_error_string(kafka_err));
    rd_kafka_error_destroy(kafka_err);
    pause_ms(RETRY_PAUSE_MS);
    return result;
}

/* Where in the rows of a committable its next transaction begins. */
struct row_cursor {
    struct bytes_reader reader;
    uint64_t row_count; /* before the reader's position */
};

struct row {
    const uint8_t *key; /* NULL: none */
    size_t key_length;
    const uint8_t *value; /* NULL: a tombstone */
    size_t value_length;
};

static struct error *next_row(struct row_cursor *cursor, struct row *row)
{
    struct bytes_reader *reader = &cursor->reader;
    uint8_t flags = bytes_read_u8(reader);
    *row = (struct row){0};
    row->key = flags & ROW_HAS_KEY ? bytes_read_block(reader, &row->key_length) : NULL;
    row->value = flags & ROW_HAS_VALUE ? bytes_read_block(reader, &row->value_length) : NULL;
    if (!bytes_reader_ok(reader))
        return error_new(CORRUPT, "the rows to be committed to Kafka are malformed");
    cursor->row_count++;
    return NULL;
}

/* librdkafka takes no more records once the transaction has to be aborted, for whatever reason. */
static enum step_result produce_part(struct kafka_transactor *transactor, struct row_cursor *cursor, const atomic_bool *is_stopping,
                                     struct error **err)
{
    int64_t end_ms = clock_mono_ms() + transactor->part_ms;
    while (bytes_reader_left(&cursor->reader) > 0 && clock_mono_ms() < end_ms) {
        struct row row;
        *err = next_row(cursor, &row);
        if (*err == NULL)
            *err = kafka_producer_send(transactor->producer, transactor->topic, row.key, row.key_length, row.value, row.value_length, true,
                                       is_stopping, NULL);
        if (*err != NULL && (*err)->code != ERR_CONNECTOR)
            return STEP_GIVE_UP;
        if (*err != NULL) {
            log_error_chain(LOG_WARN, "KafkaCommitter", *err, "transaction %s is aborted and tried again:", transactor->id);
            error_free(*err);
            *err = NULL;
            return STEP_ABORT;
        }
        rd_kafka_poll(transactor->producer, 0);
    }
    return STEP_DONE;
}

static enum step_result begin(struct kafka_transactor *transactor, struct error **err)
{
    return judge(transactor, rd_kafka_begin_transaction(transactor->producer), "begin", err);
}

static enum step_result send_marker(struct kafka_transactor *transactor, int64_t marker, const struct row_cursor *cursor,
                                    const atomic_bool *is_stopping, struct error **err)
{
    char rows[24];
    bool is_whole = bytes_reader_left(&cursor->reader) == 0;
    int length = snprintf(rows, sizeof rows, "%" PRIu64, cursor->row_count);
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *offset = rd_kafka_topic_partition_list_add(offsets, transactor->topic_name, 0);
    offset->offset = marker;
    if (!is_whole) { /* freed with the list, by librdkafka */
        offset->metadata = heap_strdup(rows);
        offset->metadata_size = (size_t)length;
    }
    enum step_result result;
    do
        result = judge(transactor, rd_kafka_send_offsets_to_transaction(transactor->producer, offsets, transactor->group, CALL_TIMEOUT_MS),
                       "write the marker of", err);
    while (result == STEP_AGAIN && !should_stop(is_stopping));
    rd_kafka_topic_partition_list_destroy(offsets);
    return result;
}

static enum step_result commit(struct kafka_transactor *transactor, const atomic_bool *is_stopping, struct error **err)
{
    for (;;) {
        enum step_result result =
            judge(transactor, rd_kafka_commit_transaction(transactor->producer, CALL_TIMEOUT_MS), "commit", err);
        if (result != STEP_AGAIN)
            return result;
        if (should_stop(is_stopping)) {
            *err = error_new(CANCELLED, "stopped while committing transaction %s", transactor->id);
            return STEP_FAILED;
        }
    }
}

static enum step_result abort_transaction(struct kafka_transactor *transactor, const atomic_bool *is_stopping, struct error **err)
{
    for (;;) {
        enum step_result result = judge(transactor, rd_kafka_abort_transaction(transactor->producer, CALL_TIMEOUT_MS), "abort", err);
        if (result != STEP_AGAIN && result != STEP_ABORT)
            return result;
        if (should_stop(is_stopping)) {
            *err = error_new(CANCELLED, "stopped while aborting transaction %s", transactor->id);
            return STEP_FAILED;
        }
    }
}

/* One transaction: rows from the cursor on, as many as there is time for, and the marker. */
static enum step_result run_transaction(struct kafka_transactor *transactor, int64_t marker, struct row_cursor *cursor,
                                        const atomic_bool *is_stopping, struct error **err)
{
    enum step_result result = begin(transactor, err);
    if (result != STEP_DONE)
        return result;
    enum step_result produced = produce_part(transactor, cursor, is_stopping, err);
    if (produced == STEP_GIVE_UP)
        return produced;
    /* When no more records are taken, this call says why: an error may be in the way that would come again. */
    result = send_marker(transactor, marker, cursor, is_stopping, err);
    if (produced == STEP_ABORT)
        return result == STEP_DONE || result == STEP_AGAIN ? STEP_ABORT : result;
    return result == STEP_DONE ? commit(transactor, is_stopping, err) : result;
}

/* So that no half transaction stays open, which would hold up the topic's readers. Takes err and gives it back. */
static struct error *give_up(struct kafka_transactor *transactor, const atomic_bool *is_stopping, struct error *err)
{
    struct error *abort_err = NULL;
    abort_transaction(transactor, is_stopping, &abort_err);
    error_free(abort_err);
    return err;
}

/* run_transaction again and again until it is in. The cursor moves with success only. */
static struct error *commit_part(struct kafka_transactor *transactor, int64_t marker, struct row_cursor *cursor, const atomic_bool *is_stopping)
{
    for (int abort_count = 0; abort_count < ABORT_COUNT_MAX;) {
        struct error *err = NULL;
        struct row_cursor next = *cursor;
        enum step_result result = run_transaction(transactor, marker, &next, is_stopping, &err);
        if (result == STEP_DONE) {
            *cursor = next;
            return NULL;
        }
        if (result == STEP_GIVE_UP)
            return give_up(transactor, is_stopping, err);
        if (result == STEP_ABORT) {
            result = abort_transaction(transactor, is_stopping, &err);
            abort_count++;
        }
        if (result == STEP_FAILED || result == STEP_GIVE_UP)
            return err;
        if (should_stop(is_stopping))
            return error_new(CANCELLED, "stopped while committing transaction %s", transactor->id);
    }
    return error_with_hint(error_new(CONNECTOR, "transaction %s had to be aborted %d times", transactor->id, ABORT_COUNT_MAX),
                           "the log of the task says why; its rows are in the checkpoint, and the next attempt writes them");
}

/* The first rows, which an earlier attempt has committed. */
static struct error *skip_rows(struct row_cursor *cursor, uint64_t count)
{
    struct row row;
    while (cursor->row_count < count && bytes_reader_left(&cursor->reader) > 0)
        TRY(next_row(cursor, &row));
    return NULL;
}

struct error *kafka_transactor_commit(struct kafka_transactor *transactor, const struct kafka_committable *committable,
                                      const atomic_bool *is_stopping)
{
    if (kafka_transactor_has(transactor, committable))
        return NULL;
    struct row_cursor cursor = {.reader = bytes_reader_on(committable->rows.data, committable->rows.length)};
    if (committable->marker == transactor->marker)
        TRY(skip_rows(&cursor, transactor->marker_rows));
    do {
        TRY(commit_part(transactor, committable->marker, &cursor, is_stopping));
        transactor->marker = committable->marker;
        transactor->marker_rows = bytes_reader_left(&cursor.reader) > 0 ? cursor.row_count : UINT64_MAX;
    } while (bytes_reader_left(&cursor.reader) > 0);
    return NULL;
}
