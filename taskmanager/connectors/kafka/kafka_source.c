/* The kafka-source operator: partitions assigned by hash, consumed through one librdkafka queue without a group rebalance, records
 * decoded in place from librdkafka's memory. Everything that waits for a broker is the discovery thread's (kafka_discovery.h);
 * this file is the task thread's, callbacks included (librdkafka calls them inside rd_kafka_poll and rd_kafka_consume_…). */
#include "taskmanager/connectors/kafka/kafka_source.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "taskmanager/connectors/kafka/kafka_dead_letter.h"
#include "taskmanager/connectors/kafka/kafka_discovery.h"
#include "taskmanager/connectors/kafka/kafka_ends.h"
#include "taskmanager/connectors/kafka/kafka_liveness.h"
#include "taskmanager/connectors/kafka/kafka_split.h"
#include "taskmanager/connectors/source.h"
#include "taskmanager/formats/format.h"

#include <inttypes.h>
#include <stdio.h>

/* Messages that librdkafka may hold for us; some 300 bytes each beside their text. Bounds its queue to about 20 MiB. */
#define QUEUED_MESSAGES "32768"
#define QUEUED_MESSAGES_LOW 16384
#define METRICS_INTERVAL_MS 1000
/* A connection may take that long before the brokers count as unreachable. */
#define CONNECT_PATIENCE_MS 2000
#define STATISTICS_INTERVAL_MS 2000 /* where no idleness asks for shorter ones */
#define COMMIT_INTERVAL_MS 5000 /* without checkpoints; Kafka's auto.commit.interval.ms */
#define GROUP_ID_BYTES 300

struct pending_commit { /* offsets of a checkpoint that is not complete yet */
    uint64_t checkpoint_id;
    rd_kafka_topic_partition_list_t *offsets;
};

struct kafka_source {
    struct source source; /* first member */
    struct kafka_source_options options;
    struct format_decoder *decoder;
    rd_kafka_t *client;
    rd_kafka_queue_t *queue;      /* all partitions are forwarded to it */
    rd_kafka_queue_t *main_queue; /* errors, statistics, commit results */
    struct kafka_discovery *discovery;
    struct kafka_dead_letter *dead_letter;
    VEC(struct kafka_topic *) topics;
    VEC(struct pending_commit) commits;
    struct error *err;      /* raised in a callback, returned by the next read */
    uint32_t rows_left;     /* of the read under way */
    bool wants_record_time;
    bool was_above_low;     /* the queue has been above QUEUED_MESSAGES_LOW since the last nudge */
    bool has_group;
    int64_t unreachable_ms; /* monotonic: since when the statistics say that a partition's broker is not there; 0: all are */
    char last_trouble[256]; /* the client's last error; "": none */
    int64_t silence_ms;     /* for kafka_liveness_update */
    int64_t next_metrics_ms;
    uint64_t commits_succeeded, commits_failed;
    uint64_t restored_records, restored_bytes; /* in the books when the task started */
    int64_t next_commit_ms;
    struct kafka_log_limit log_limit;
};

static struct kafka_source *self_of(struct op *op)
{
    return (struct kafka_source *)op;
}

/* ---- callbacks of librdkafka ---- */

static void raise_error(struct kafka_source *self, struct error *err)
{
    if (self->err == NULL)
        self->err = err;
    else
        error_free(err);
}

static void on_error(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
    struct kafka_source *self = opaque;
    char text[256];
    if (code == RD_KAFKA_RESP_ERR__FATAL)
        raise_error(self, kafka_error(rd_kafka_fatal_error(client, text, sizeof text), "go on reading from Kafka: %s", text));
    else if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION)
        raise_error(self, error_new(CONNECTOR_FATAL, "could not log in to Kafka: %s", reason));
    else
        kafka_log_limited(&self->log_limit, "%s: %s", rd_kafka_err2str((rd_kafka_resp_err_t)code), reason);
    snprintf(self->last_trouble, sizeof self->last_trouble, "%s", reason);
}

/* The status of the operator follows what the statistics say about the brokers of its partitions. */
static void follow_brokers(struct kafka_source *self)
{
    const struct kafka_split *unreachable = NULL;
    for (size_t i = 0; i < self->source.splits.count && unreachable == NULL; i++) {
        const struct kafka_split *split = self->source.splits.items[i]->user;
        if (split != NULL && split->is_consuming && !split->is_reachable)
            unreachable = split;
    }
    if (unreachable == NULL) {
        if (self->unreachable_ms != 0)
            op_status_set(&self->source.op, NULL, NULL, NULL);
        self->unreachable_ms = 0;
        self->last_trouble[0] = '\0';
        return;
    }
    int64_t now_ms = clock_mono_ms();
    if (self->unreachable_ms == 0)
        self->unreachable_ms = now_ms;
    if (now_ms - self->unreachable_ms >= CONNECT_PATIENCE_MS) {
        const char *servers = kafka_property(self->options.properties, "bootstrap.servers", "the Kafka cluster");
        op_status_set(&self->source.op, "broker-unreachable", servers, self->last_trouble[0] != '\0' ? self->last_trouble : "it does not answer");
    }
}

static int on_statistics(rd_kafka_t *client, char *json, size_t length, void *opaque)
{
    (void)client;
    struct kafka_source *self = opaque;
    kafka_liveness_update(json, length, self->silence_ms, self->topics.items, self->topics.count);
    follow_brokers(self);
    return 0;
}

static void on_commit(rd_kafka_t *client, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *offsets, void *opaque)
{
    (void)client;
    struct kafka_source *self = opaque;
    bool is_committed = code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR__NO_OFFSET;
    self->commits_succeeded += is_committed;
    self->commits_failed += !is_committed;
    if (!is_committed) {
        kafka_log_limited(&self->log_limit, "could not commit offsets to the group (checkpoints have them): %s", rd_kafka_err2str(code));
        return;
    }
    for (int i = 0; i < offsets->cnt; i++)
        for (size_t t = 0; t < self->topics.count; t++) {
            struct kafka_topic *topic = self->topics.items[t];
            int32_t partition = offsets->elems[i].partition;
            if (strcmp(topic->name, offsets->elems[i].topic) == 0 && partition < topic->split_count && topic->splits[partition] != NULL)
                op_metric_set(&self->source.op, topic->splits[partition]->committed_metric, (double)offsets->elems[i].offset);
        }
}

/* ---- records ---- */

static void finish_split(struct kafka_split *split)
{
    split->split->is_finished = true;
    split->split->is_caught_up = true;
}

static void end_reached(struct kafka_split *split, int64_t offset)
{
    /* Transaction markers take offsets but are no records: the end may be beyond the last record. */
    if (offset > split->next_offset)
        split->next_offset = offset;
    split->is_at_end = true;
    if (split->stop_offset >= 0 && split->next_offset >= split->stop_offset)
        finish_split(split);
}

static void partition_error(struct kafka_source *self, const struct kafka_split *split, const rd_kafka_message_t *message)
{
    const char *text = rd_kafka_message_errstr(message);
    if (kafka_error_is_transient(message->err)) {
        kafka_log_limited(&self->log_limit, "%s: %s", split->split->name, text);
        return;
    }
    struct error *err = kafka_error(message->err, "read %s at offset %" PRId64 " (%s)", split->split->name, split->next_offset, text);
    if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
        err = error_with_hint(err, "the records are gone; set the property auto.offset.reset to earliest or latest to go on without them");
    raise_error(self, err);
    rd_kafka_yield(self->client);
}

static void decode(struct kafka_source *self, struct kafka_split *split, const rd_kafka_message_t *message)
{
    struct source *source = &self->source;
    source_select_split(source, split->split);
    source_count_record(source, message->len);
    split->next_offset = message->offset + 1;
    if (message->payload == NULL) {
        source_count_filtered(source);
        return;
    }
    const char *reason;
    if (__builtin_expect(format_decode(self->decoder, message->payload, message->len, source->builder, &reason), 1)) {
        if (self->wants_record_time)
            batch_builder_set_event_time(source->builder, source->builder->row_count - 1, rd_kafka_message_timestamp(message, NULL));
        return;
    }
    if (reason == NULL) {
        source_count_filtered(source);
        return;
    }
    struct error *err = source_malformed(source, split->split, message->offset, message->payload, message->len, reason);
    if (err != NULL) {
        raise_error(self, err);
        rd_kafka_yield(self->client);
    }
}

/* By handle and not by the topic's opaque: librdkafka keeps one object a topic, with the configuration of whoever named the
 * topic first, and that may have been the discovery. */
static struct kafka_topic *topic_of(const struct kafka_source *self, const rd_kafka_topic_t *handle)
{
    for (size_t i = 0; i < self->topics.count; i++)
        if (self->topics.items[i]->handle == handle)
            return self->topics.items[i];
    return NULL;
}

static void on_message(rd_kafka_message_t *message, void *opaque)
{
    struct kafka_source *self = opaque;
    struct kafka_topic *topic = topic_of(self, message->rkt);
    if (topic == NULL || message->partition < 0 || message->partition >= topic->split_count || topic->splits[message->partition] == NULL) {
        kafka_log_limited(&self->log_limit, "%s", rd_kafka_message_errstr(message) != NULL ? rd_kafka_message_errstr(message) : "stray record");
        return;
    }
    struct kafka_split *split = topic->splits[message->partition];
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        end_reached(split, message->offset);
        return;
    }
    if (split->split->is_finished)
        return;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        partition_error(self, split, message);
        return;
    }
    split->is_at_end = false;
    split->end_ticket = 0;
    if (split->stop_offset >= 0 && message->offset >= split->stop_offset) {
        finish_split(split);
        return;
    }
    decode(self, split, message);
    if (split->stop_offset >= 0 && split->next_offset >= split->stop_offset)
        finish_split(split);
    if (--self->rows_left == 0)
        rd_kafka_yield(self->client);
}

/* ---- splits ---- */

static struct error *find_topic(struct kafka_source *self, const char *name, struct kafka_topic **out)
{
    for (size_t i = 0; i < self->topics.count; i++)
        if (strcmp(self->topics.items[i]->name, name) == 0) {
            *out = self->topics.items[i];
            return NULL;
        }
    TRY(kafka_topic_create(self->client, name, out));
    vec_push(&self->topics, *out);
    return NULL;
}

/* Adds a partition and starts to consume it, at the position that the state has or else at start_offset. */
static struct error *add_partition(struct kafka_source *self, const char *topic_name, int32_t partition, int64_t start_offset,
                                   int64_t stop_offset)
{
    struct kafka_topic *topic;
    TRY(find_topic(self, topic_name, &topic));
    char *name = kafka_split_name(topic_name, partition);
    struct source_split *source_split = source_add_split(&self->source, name, kafka_split_assignment(topic_name, partition));
    free(name);
    struct kafka_split *split = kafka_topic_add_split(topic, partition, source_split);
    split->next_offset = start_offset;
    split->stop_offset = stop_offset;
    op_metric_set(&self->source.op, split->committed_metric, -1);
    size_t length;
    const void *position = source_split_restored_position(source_split, &length);
    if (position != NULL)
        TRY(kafka_split_read_position(position, length, &split->next_offset, &split->stop_offset));
    if (split->stop_offset >= 0 && split->next_offset >= split->stop_offset)
        finish_split(split);
    if (source_split->is_finished)
        return NULL;
    if (rd_kafka_consume_start_queue(topic->handle, partition, split->next_offset, self->queue) != 0)
        return kafka_error(rd_kafka_last_error(), "start reading %s", source_split->name);
    split->is_consuming = true;
    log_info("KafkaSource", "%s: reading %s from %s%" PRId64, self->source.op.ctx->task_name, source_split->name,
             split->next_offset == RD_KAFKA_OFFSET_BEGINNING ? "its beginning, " : "offset ", split->next_offset);
    return NULL;
}

/* Partitions of the state that belong to this subtask now: they are known before any broker answers. */
static struct error *add_restored(struct kafka_source *self)
{
    for (size_t i = 0; i < self->source.restored.count; i++) {
        const struct source_restored_split *restored = &self->source.restored.items[i];
        if (!source_owns(&self->source, restored->assignment))
            continue;
        char *topic;
        int32_t partition;
        TRY(kafka_split_parse_name(restored->name, &topic, &partition));
        struct error *err = add_partition(self, topic, partition, RD_KAFKA_OFFSET_BEGINNING, -1);
        kafka_discovery_know(self->discovery, topic, partition);
        free(topic);
        TRY(err);
    }
    return NULL;
}

static struct error *take_found(struct kafka_source *self)
{
    struct kafka_found *found;
    size_t count;
    bool is_ready;
    struct error *err = kafka_discovery_take(self->discovery, &found, &count, &is_ready);
    for (size_t i = 0; i < count; i++) {
        if (err == NULL)
            err = add_partition(self, found[i].topic, found[i].partition, found[i].start_offset, found[i].stop_offset);
        free(found[i].topic);
    }
    free(found);
    if (err == NULL && is_ready)
        self->source.is_ready = true;
    return err;
}

/* ---- metrics, liveness, commits ---- */

static rd_kafka_topic_partition_list_t *current_offsets(const struct kafka_source *self)
{
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new((int)self->source.splits.count);
    for (size_t i = 0; i < self->source.splits.count; i++) {
        const struct kafka_split *split = self->source.splits.items[i]->user;
        if (split->next_offset >= 0)
            rd_kafka_topic_partition_list_add(offsets, split->topic->name, split->partition)->offset = split->next_offset;
    }
    return offsets;
}

/* Takes offsets. The result comes to on_commit. */
static void commit_offsets(struct kafka_source *self, rd_kafka_topic_partition_list_t *offsets)
{
    if (self->has_group && offsets->cnt > 0) {
        rd_kafka_resp_err_t code = rd_kafka_commit(self->client, offsets, 1);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            kafka_log_limited(&self->log_limit, "could not commit offsets to the group: %s", rd_kafka_err2str(code));
    }
    rd_kafka_topic_partition_list_destroy(offsets);
}

static uint64_t consumed_bytes(const struct books *books)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < books->split_count; i++)
        bytes += books->splits[i].bytes;
    return bytes;
}

static void report(struct kafka_source *self)
{
    const struct books *books = self->source.op.ctx->books;
    int64_t pending = 0, lag_max = 0;
    for (size_t i = 0; i < self->source.splits.count; i++) {
        const struct kafka_split *split = self->source.splits.items[i]->user;
        int64_t low, high;
        op_metric_set(&self->source.op, split->offset_metric, split->next_offset < 0 ? -1 : (double)(split->next_offset - 1));
        if (split->next_offset < 0)
            continue;
        if (rd_kafka_get_watermark_offsets(self->client, split->topic->name, split->partition, &low, &high) != RD_KAFKA_RESP_ERR_NO_ERROR ||
            high < split->next_offset)
            continue;
        pending += high - split->next_offset;
        lag_max = high - split->next_offset > lag_max ? high - split->next_offset : lag_max;
    }
    if (self->source.is_ready && self->source.op.ctx->books->rows_read == 0 && pending == 0)
        kafka_discovery_look_around(self->discovery);
    const struct {
        const char *name;
        double value;
    } metrics[] = {
        {"pendingRecords", (double)pending},
        {"KafkaSourceReader.commitsSucceeded", (double)self->commits_succeeded},
        {"KafkaSourceReader.commitsFailed", (double)self->commits_failed},
        {"KafkaSourceReader.KafkaConsumer.records-lag-max", (double)lag_max},
        {"commitsSucceeded", (double)self->commits_succeeded},
        {"commitsFailed", (double)self->commits_failed},
        {"KafkaConsumer.records-lag-max", (double)lag_max},
        {"KafkaSourceReader.KafkaConsumer.assigned-partitions", (double)self->source.splits.count},
        {"KafkaSourceReader.KafkaConsumer.records-consumed-total", (double)(books->rows_read - self->restored_records)},
        {"KafkaSourceReader.KafkaConsumer.bytes-consumed-total", (double)(consumed_bytes(books) - self->restored_bytes)},
    };
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++)
        op_metric_set(&self->source.op, metrics[i].name, metrics[i].value);
}

static void do_chores(struct kafka_source *self)
{
    rd_kafka_poll(self->client, 0);
    int64_t now_ms = clock_mono_ms();
    if (now_ms >= self->next_metrics_ms) {
        self->next_metrics_ms = now_ms + METRICS_INTERVAL_MS;
        report(self);
    }
    if (!self->source.op.ctx->checkpointing_enabled && now_ms >= self->next_commit_ms) {
        self->next_commit_ms = now_ms + COMMIT_INTERVAL_MS;
        commit_offsets(self, current_offsets(self));
    }
}

/* See kafka_discovery_nudge. */
static void keep_fetching(struct kafka_source *self)
{
    size_t length = rd_kafka_queue_length(self->queue);
    if (length >= QUEUED_MESSAGES_LOW) {
        self->was_above_low = true;
    } else if (self->was_above_low) {
        self->was_above_low = false;
        kafka_discovery_nudge(self->discovery);
    }
}

/* A bounded partition that was read to its end must not go on filling the queue. */
static void pause_finished(struct kafka_source *self)
{
    for (size_t i = 0; i < self->source.splits.count; i++) {
        struct kafka_split *split = self->source.splits.items[i]->user;
        if (!split->is_consuming || split->is_paused || !split->split->is_finished)
            continue;
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(list, split->topic->name, split->partition);
        rd_kafka_pause_partitions(self->client, list);
        rd_kafka_topic_partition_list_destroy(list);
        split->is_paused = true;
    }
}

static bool all_finished(const struct kafka_source *self)
{
    for (size_t i = 0; i < self->source.splits.count; i++)
        if (!self->source.splits.items[i]->is_finished)
            return false;
    return true;
}

/* ---- reading ---- */

static struct error *take_error(struct kafka_source *self)
{
    struct error *err = self->err;
    self->err = NULL;
    return err;
}

/* What there is beside records: new partitions, errors, ends. Whenever the queue is empty, and now and then while it never is (is_busy):
 * then brokers may be silent because nothing is asked of them. */
static struct error *look_outside(struct kafka_source *self, bool is_busy)
{
    TRY(take_found(self));
    do_chores(self);
    TRY(take_error(self));
    if (self->options.bounded != KAFKA_UNBOUNDED)
        pause_finished(self);
    for (size_t i = 0; i < self->source.splits.count; i++) {
        struct source_split *source_split = self->source.splits.items[i];
        const struct kafka_split *split = source_split->user;
        bool is_answered = split->is_live || (is_busy && split->is_reachable);
        source_split->is_caught_up = source_split->is_finished || (split->is_at_end && is_answered);
    }
    return NULL;
}

static struct error *kafka_read(struct source *source, uint32_t max_rows, enum source_status *status)
{
    struct kafka_source *self = (struct kafka_source *)source;
    uint32_t capacity = source->builder->row_capacity - source->builder->row_count;
    self->rows_left = max_rows == 0 || max_rows > capacity ? capacity : max_rows;
    rd_kafka_consume_callback_queue(self->queue, 0, on_message, self);
    TRY(take_error(self));
    *status = SOURCE_MORE;
    bool is_busy = self->rows_left == 0;
    if (is_busy)
        keep_fetching(self);
    if (is_busy && clock_mono_ms() < self->next_metrics_ms)
        return NULL;
    TRY(look_outside(self, is_busy));
    if (is_busy)
        return NULL;
    bool is_over = self->options.bounded != KAFKA_UNBOUNDED && source->is_ready && all_finished(self);
    *status = is_over ? SOURCE_END : SOURCE_EMPTY;
    return NULL;
}

static void kafka_write_position(struct source *source, const struct source_split *split, struct bytes_writer *writer)
{
    (void)source;
    kafka_split_write_position(split->user, writer);
}

static struct error *kafka_send_dead_letter(struct source *source, const struct source_split *split, int64_t offset, const void *bytes,
                                            size_t length, const char *reason)
{
    const struct kafka_split *from = split->user;
    return kafka_dead_letter_send(((struct kafka_source *)source)->dead_letter, from->topic->name, from->partition, offset, bytes, length,
                                  reason);
}

static void kafka_describe_split(const struct source *source, const struct source_split *source_split, json_t *report)
{
    const struct kafka_source *self = (const struct kafka_source *)source;
    const struct kafka_split *split = source_split->user;
    int64_t low, high;
    if (split == NULL)
        return;
    if (split->next_offset >= 0)
        json_object_set_new(report, "offset", json_integer(split->next_offset));
    if (rd_kafka_get_watermark_offsets(self->client, split->topic->name, split->partition, &low, &high) == RD_KAFKA_RESP_ERR_NO_ERROR &&
        high >= 0)
        json_object_set_new(report, "end_offset", json_integer(high));
}

static void kafka_describe(struct op *op, json_t *report)
{
    struct kafka_source *self = self_of(op);
    source_describe(op, report);
    if (op->ctx->books->rows_read > 0 || self->discovery == NULL)
        return;
    char *neighbours = kafka_discovery_neighbours(self->discovery);
    if (neighbours != NULL)
        json_object_set_new(report, "neighbours", json_string(neighbours));
    free(neighbours);
}

/* An end that was reached long ago is no proof that nothing came since (kafka_ends.h). */
static bool kafka_confirm_idle(struct source *source, const struct source_split *source_split)
{
    struct kafka_source *self = (struct kafka_source *)source;
    struct kafka_split *split = source_split->user;
    int64_t end;
    if (split->end_ticket == 0) {
        split->end_ticket = kafka_discovery_ask_end(self->discovery, split->topic->name, split->partition);
        return false;
    }
    if (!kafka_discovery_take_end(self->discovery, split->end_ticket, &end))
        return false;
    split->end_ticket = 0;
    return end != KAFKA_END_UNKNOWN && end <= split->next_offset;
}

static const struct source_reader kafka_reader = {.read = kafka_read,
                                                  .confirm_idle = kafka_confirm_idle,
                                                  .write_position = kafka_write_position,
                                                  .describe_split = kafka_describe_split,
                                                  .dead_letter = kafka_send_dead_letter};

/* ---- the operator ---- */

static struct error *kafka_create(struct op_context *ctx, struct op **out)
{
    struct kafka_source *self = heap_new(struct kafka_source);
    struct error *err = source_init(&self->source, &kafka_source_vtable, &kafka_reader, ctx);
    if (err != NULL) {
        free(self);
        return error_wrap(err, "%s", ctx->spec->name);
    }
    self->wants_record_time = source_wants_record_time(&self->source);
    TRY_GOTO(fail, kafka_source_options_parse(ctx->spec->options, &self->options));
    TRY_GOTO(fail, format_decoder_create(self->options.format, ctx->spec->schema, NULL, &self->decoder));
    *out = &self->source.op;
    return NULL;
fail:
    source_finish(&self->source);
    free(self);
    return error_wrap(err, "%s", ctx->spec->name);
}

static struct error *create_client(struct kafka_source *self)
{
    static const struct kafka_setting defaults[] = {
        {"queued.min.messages", QUEUED_MESSAGES}, {"queued.max.messages.kbytes", "16384"}, {"fetch.message.max.bytes", "1048576"},
        {"fetch.max.bytes", "8388608"},           {"fetch.error.backoff.ms", "100"},
        {"log.connection.close", "false"},        {"auto.offset.reset", "error"},          {"client.id", "millrace"},
        {"socket.nagle.disable", "true"},         {NULL, NULL}};
    char statistics_interval[24], group[GROUP_ID_BYTES];
    const struct watermark_options *watermark = &self->source.watermark;
    bool watches_idleness = watermark->strategy != WATERMARK_NONE && watermark->idle_timeout_ms >= 0;
    int64_t interval_ms = watermark->idle_timeout_ms / 4;
    interval_ms = !watches_idleness ? STATISTICS_INTERVAL_MS : interval_ms < 100 ? 100 : interval_ms > 1000 ? 1000 : interval_ms;
    self->silence_ms = interval_ms * 2 < 800 ? 800 : interval_ms * 2;
    snprintf(statistics_interval, sizeof statistics_interval, "%" PRId64, interval_ms);
    self->has_group = kafka_property(self->options.properties, "group.id", NULL) != NULL;
    /* librdkafka needs a group for its queries even where nothing is ever committed. */
    snprintf(group, sizeof group, "%s", kafka_property(self->options.properties, "group.id", "millrace"));
    const struct kafka_setting forced[] = {{"enable.auto.commit", "false"},
                                           {"enable.auto.offset.store", "false"},
                                           {"enable.partition.eof", "true"},
                                           {"group.id", group},
                                           {"statistics.interval.ms", statistics_interval},
                                           {self->options.startup == KAFKA_START_EARLIEST &&
                                                    kafka_property(self->options.properties, "auto.offset.reset", NULL) == NULL
                                                ? "auto.offset.reset"
                                                : NULL,
                                            "earliest"},
                                           {NULL, NULL}};
    rd_kafka_conf_t *conf;
    TRY(kafka_conf_create(self->options.properties, defaults, forced, &conf));
    rd_kafka_conf_set_opaque(conf, self);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_stats_cb(conf, on_statistics);
    rd_kafka_conf_set_offset_commit_cb(conf, on_commit);
    return kafka_client_create(RD_KAFKA_CONSUMER, conf, &self->client);
}

/* On the discovery's thread. */
static void on_trouble(void *arg, const char *code, const char *subject, const char *text)
{
    op_status_set(arg, code, subject, text);
}

static struct error *kafka_open(struct op *op)
{
    struct kafka_source *self = self_of(op);
    static const uint64_t one = 1;
    self->restored_records = op->ctx->books->rows_read;
    self->restored_bytes = consumed_bytes(op->ctx->books);
    if (self->options.dead_letter_topic != NULL)
        TRY(kafka_dead_letter_create(self->options.properties, self->options.dead_letter_topic, op->ctx->is_aborting,
                                     &self->dead_letter));
    TRY(create_client(self));
    self->queue = rd_kafka_queue_new(self->client);
    self->main_queue = rd_kafka_queue_get_main(self->client);
    rd_kafka_queue_io_event_enable(self->queue, op->ctx->wake_fd, &one, sizeof one);
    rd_kafka_queue_io_event_enable(self->main_queue, op->ctx->wake_fd, &one, sizeof one);
    const struct kafka_discovery_settings settings = {.options = &self->options,
                                                      .client = self->client,
                                                      .wake_fd = op->ctx->wake_fd,
                                                      .subtask_index = op->ctx->subtask_index,
                                                      .parallelism = op->ctx->parallelism,
                                                      .is_restored = self->source.is_restored,
                                                      .on_trouble = on_trouble,
                                                      .arg = op};
    self->discovery = kafka_discovery_create(&settings);
    self->source.is_ready = self->source.is_restored;
    TRY(add_restored(self));
    return kafka_discovery_start(self->discovery);
}

static struct error *kafka_prepare_snapshot(struct op *op, uint64_t checkpoint_id)
{
    (void)checkpoint_id;
    struct kafka_source *self = self_of(op);
    return self->dead_letter != NULL ? kafka_dead_letter_flush(self->dead_letter) : NULL;
}

/* Without checkpoints nothing else waits for the last letters. */
static struct error *kafka_end_input(struct op *op)
{
    return kafka_prepare_snapshot(op, 0);
}

static struct error *kafka_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    struct kafka_source *self = self_of(op);
    struct pending_commit commit = {.checkpoint_id = checkpoint_id, .offsets = current_offsets(self)};
    vec_push(&self->commits, commit);
    return source_snapshot(op, checkpoint_id, snapshot);
}

/* A later checkpoint subsumes the earlier ones. */
static struct error *kafka_checkpoint_complete(struct op *op, uint64_t checkpoint_id)
{
    struct kafka_source *self = self_of(op);
    while (self->commits.count > 0 && self->commits.items[0].checkpoint_id <= checkpoint_id) {
        struct pending_commit commit = self->commits.items[0];
        vec_remove(&self->commits, 0);
        if (commit.checkpoint_id == checkpoint_id)
            commit_offsets(self, commit.offsets);
        else
            rd_kafka_topic_partition_list_destroy(commit.offsets);
    }
    return NULL;
}

static void kafka_checkpoint_aborted(struct op *op, uint64_t checkpoint_id)
{
    struct kafka_source *self = self_of(op);
    for (size_t i = 0; i < self->commits.count; i++)
        if (self->commits.items[i].checkpoint_id == checkpoint_id) {
            rd_kafka_topic_partition_list_destroy(self->commits.items[i].offsets);
            vec_remove(&self->commits, i);
            return;
        }
}

/* What the brokers know of us. */
struct outside {
    struct kafka_discovery *discovery;
    rd_kafka_t *client;
    rd_kafka_queue_t *queue;
    struct kafka_topic **topics;
    size_t topic_count;
    bool is_aborting;
};

static void close_topic(struct kafka_topic *topic)
{
    for (int32_t i = 0; i < topic->split_count; i++)
        if (topic->splits[i] != NULL && topic->splits[i]->is_consuming)
            rd_kafka_consume_stop(topic->handle, topic->splits[i]->partition);
    kafka_topic_destroy(topic);
}

/* Each of these steps may wait for a thread that waits for a broker. */
static void close_outside(void *arg)
{
    struct outside *outside = arg;
    kafka_discovery_destroy(outside->discovery);
    for (size_t i = 0; i < outside->topic_count; i++)
        close_topic(outside->topics[i]);
    free(outside->topics);
    rd_kafka_queue_destroy(outside->queue);
    kafka_client_destroy(outside->client, outside->is_aborting);
    free(outside);
}

static void kafka_close(struct op *op)
{
    struct kafka_source *self = self_of(op);
    kafka_dead_letter_destroy(self->dead_letter);
    self->dead_letter = NULL;
    if (self->client == NULL)
        return;
    for (size_t i = 0; i < self->commits.count; i++)
        rd_kafka_topic_partition_list_destroy(self->commits.items[i].offsets);
    vec_finish(&self->commits);
    /* From here on nothing outside knows this operator or its task's descriptor. */
    rd_kafka_queue_io_event_enable(self->queue, -1, NULL, 0);
    rd_kafka_queue_io_event_enable(self->main_queue, -1, NULL, 0);
    rd_kafka_queue_destroy(self->main_queue);
    kafka_discovery_stop(self->discovery);
    struct outside outside = {.discovery = self->discovery,
                              .client = self->client,
                              .queue = self->queue,
                              .topics = self->topics.items,
                              .topic_count = self->topics.count,
                              .is_aborting = op_is_aborting(op)};
    struct outside *copy = heap_memdup(&outside, sizeof outside);
    self->client = NULL;
    self->discovery = NULL;
    self->topics.items = NULL;
    self->topics.count = self->topics.capacity = 0;
    if (outside.is_aborting)
        kafka_close_later(close_outside, copy);
    else
        close_outside(copy);
}

static void kafka_destroy(struct op *op)
{
    struct kafka_source *self = self_of(op);
    error_free(self->err);
    format_decoder_destroy(self->decoder);
    source_finish(&self->source);
    free(self);
}

const struct op_vtable kafka_source_vtable = {
    .type = "kafka-source",
    .create = kafka_create,
    .restore = source_restore,
    .open = kafka_open,
    .wake = source_wake,
    .prepare_snapshot = kafka_prepare_snapshot,
    .snapshot = kafka_snapshot,
    .checkpoint_complete = kafka_checkpoint_complete,
    .checkpoint_aborted = kafka_checkpoint_aborted,
    .end_input = kafka_end_input,
    .close = kafka_close,
    .destroy = kafka_destroy,
    .describe = kafka_describe,
    .poll = source_poll,
};
