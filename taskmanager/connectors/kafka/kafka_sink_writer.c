/* "X: Writer": encodes rows; produces them (none, at-least-once) or passes them on as key and value (exactly-once). Task
 * thread only; delivery reports come in rd_kafka_poll and rd_kafka_flush. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/vec.h"
#include "common/columnar/batch_builder.h"
#include "taskmanager/connectors/kafka/kafka_liveness.h"
#include "taskmanager/connectors/kafka/kafka_producer.h"
#include "taskmanager/connectors/kafka/kafka_sink.h"
#include "taskmanager/connectors/sink_books.h"
#include "taskmanager/formats/format.h"
#include "taskmanager/ops/op_support.h"
#include "taskmanager/task/books.h"

#include <stdio.h>
#include <xxhash.h>

#define FLUSH_STEP_MS 50
#define CLOSE_FLUSH_MS 2000

struct kafka_sink_writer {
    struct op op; /* first member */
    struct kafka_sink_options options;
    struct schema *input; /* borrowed */
    struct format_encoder *encoder;
    struct format_encoder *key_encoder; /* NULL: no key, or the one key column's text as it is */
    struct schema *key_schema;
    uint32_t *key_columns;
    uint32_t key_count;
    rd_kafka_t *producer; /* NULL with exactly-once */
    rd_kafka_topic_t *topic;
    rd_kafka_resp_err_t failure; /* of a delivery */
    uint64_t error_count; /* deliveries that failed */
    uint64_t sent_bytes;
    int64_t latency_us; /* of the newest delivery; -1: not known */
    struct batch_builder *builder; /* exactly-once */
    struct str_buf value;
    struct str_buf key;
    struct sink_books books; /* what barriers cover; rows are counted in the operator's own */
    struct kafka_log_limit log_limit;
    bool has_delivered;       /* since the last look */
    bool is_unreachable;      /* the status says so */
    char last_trouble[256];   /* the client's last error of a single broker; "": none */
    int64_t waiting_since_ms; /* wall clock: since when records wait and none was confirmed; 0: none waits */
};

static struct kafka_sink_writer *self_of(struct op *op)
{
    return (struct kafka_sink_writer *)op;
}

static void on_delivery(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
    (void)producer;
    struct kafka_sink_writer *self = opaque;
    self->latency_us = rd_kafka_message_latency(message);
    self->error_count += message->err != RD_KAFKA_RESP_ERR_NO_ERROR;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        self->failure = message->err;
    else
        self->has_delivered = true;
}

static void on_error(rd_kafka_t *producer, int code, const char *reason, void *opaque)
{
    struct kafka_sink_writer *self = opaque;
    char text[256];
    if (code == RD_KAFKA_RESP_ERR__FATAL)
        self->failure = rd_kafka_fatal_error(producer, text, sizeof text);
    else if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION)
        self->failure = RD_KAFKA_RESP_ERR__AUTHENTICATION;
    else
        kafka_log_limited(&self->log_limit, "%s: %s", rd_kafka_err2str((rd_kafka_resp_err_t)code), reason);
    if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        snprintf(self->last_trouble, sizeof self->last_trouble, "%s", reason);
    else if (!self->is_unreachable) {
        const char *servers = kafka_property(self->options.properties, "bootstrap.servers", NULL);
        self->is_unreachable = true;
        op_status_set(&self->op, "broker-unreachable", servers, self->last_trouble[0] != '\0' ? self->last_trouble : reason);
    }
}

/* Brokers that are back say so here, also when there is nothing to write. */
static int on_statistics(rd_kafka_t *producer, char *json, size_t length, void *opaque)
{
    (void)producer;
    struct kafka_sink_writer *self = opaque;
    if (self->is_unreachable && kafka_liveness_is_any_up(json, length)) {
        self->is_unreachable = false;
        self->last_trouble[0] = '\0';
        op_status_set(&self->op, NULL, NULL, NULL);
    }
    return 0;
}

/* Whether what was produced arrives: followed once a batch and at reports. */
static void follow_delivery(struct kafka_sink_writer *self)
{
    bool is_waiting = rd_kafka_outq_len(self->producer) > 0;
    if (!is_waiting)
        self->waiting_since_ms = 0;
    else if (self->has_delivered || self->waiting_since_ms == 0)
        self->waiting_since_ms = clock_now_ms();
    self->has_delivered = false;
}

static struct error *take_failure(struct kafka_sink_writer *self)
{
    if (self->failure == RD_KAFKA_RESP_ERR_NO_ERROR || self->options.guarantee == KAFKA_NONE)
        return NULL;
    return kafka_error(self->failure, "write to Kafka topic %s", self->options.topic);
}

/* ---- creation ---- */

/* One STRING or BYTES key column is the key as it is; anything else becomes a JSON object of the key columns. */
static struct error *parse_key(struct kafka_sink_writer *self)
{
    const json_t *columns = json_object_get(self->op.ctx->spec->options, "key_columns");
    self->key_count = (uint32_t)json_array_size(columns);
    if (self->key_count == 0)
        return NULL;
    self->key_columns = heap_alloc_array(self->key_count, sizeof *self->key_columns);
    struct field *fields = heap_alloc_array(self->key_count, sizeof *fields);
    for (uint32_t i = 0; i < self->key_count; i++) {
        json_int_t column = json_integer_value(json_array_get(columns, i));
        if (!json_is_integer(json_array_get(columns, i)) || column < 0 || column >= (json_int_t)self->input->field_count) {
            free(fields);
            return error_new(INVALID_ARGUMENT, "key_columns names a column that the rows do not have");
        }
        self->key_columns[i] = (uint32_t)column;
        fields[i] = self->input->fields[column];
    }
    struct error *err = NULL;
    if (self->key_count > 1 || !data_type_is_text(fields[0].type)) {
        json_t *json_format = json_pack("{s:s}", "type", "json");
        self->key_schema = schema_create(fields, self->key_count);
        err = format_encoder_create(json_format, self->key_schema, &self->key_encoder);
        json_decref(json_format);
    }
    free(fields);
    return err;
}

static void writer_destroy(struct op *op)
{
    struct kafka_sink_writer *self = self_of(op);
    format_encoder_destroy(self->encoder);
    format_encoder_destroy(self->key_encoder);
    if (self->key_schema != NULL)
        schema_unref(self->key_schema);
    free(self->key_columns);
    batch_builder_destroy(self->builder);
    str_buf_finish(&self->value);
    str_buf_finish(&self->key);
    sink_books_finish(&self->books);
    free(self);
}

static struct error *check_output(const struct op_context *ctx)
{
    const struct schema *schema = ctx->spec->schema;
    if (schema != NULL && schema->field_count == KAFKA_SINK_COLUMN_COUNT && schema->fields[KAFKA_SINK_KEY].type == TYPE_BYTES &&
        schema->fields[KAFKA_SINK_KEY].nullable && schema->fields[KAFKA_SINK_VALUE].type == TYPE_BYTES)
        return NULL;
    return error_new(INVALID_PROGRAM, "a kafka-sink-writer gives rows of key BYTES (nullable) and value BYTES");
}

static struct error *init(struct kafka_sink_writer *self)
{
    struct op_context *ctx = self->op.ctx;
    TRY(op_input_schema(ctx, 0, &self->input));
    TRY(kafka_sink_options_parse(ctx, &self->options));
    TRY(format_encoder_create(self->options.format, self->input, &self->encoder));
    TRY(parse_key(self));
    if (self->options.guarantee != KAFKA_EXACTLY_ONCE)
        return NULL;
    TRY(check_output(ctx));
    self->builder = batch_builder_create(ctx->spec->schema, BATCH_ROWS_TARGET, false);
    return NULL;
}

static struct error *init_named(struct op *op)
{
    struct kafka_sink_writer *self = self_of(op);
    self->latency_us = -1;
    struct error *err = init(self);
    return err != NULL ? error_wrap(err, "%s", op->ctx->spec->name) : NULL;
}

static struct error *writer_create(struct op_context *ctx, struct op **out)
{
    return op_create(&kafka_sink_writer_vtable, sizeof(struct kafka_sink_writer), ctx, init_named, out);
}

static struct error *writer_open(struct op *op)
{
    struct kafka_sink_writer *self = self_of(op);
    static const struct kafka_setting extra[] = {{"statistics.interval.ms", "2000"}, {NULL, NULL}};
    if (self->options.guarantee == KAFKA_EXACTLY_ONCE)
        return NULL;
    sink_books_open(&self->books, op->ctx); /* the restored ones were cut behind a flush */
    rd_kafka_conf_t *conf;
    TRY(kafka_producer_conf_create(self->options.properties, extra, &conf));
    rd_kafka_conf_set_opaque(conf, self);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_stats_cb(conf, on_statistics);
    TRY(kafka_client_create(RD_KAFKA_PRODUCER, conf, &self->producer));
    self->topic = rd_kafka_topic_new(self->producer, self->options.topic, NULL);
    return self->topic != NULL ? NULL : kafka_error(rd_kafka_last_error(), "use Kafka topic %s", self->options.topic);
}

/* ---- rows ---- */

struct span {
    const void *bytes; /* NULL: null */
    size_t length;
};

static struct span encode_key(struct kafka_sink_writer *self, const struct batch *batch, const struct batch *key_batch, uint32_t row)
{
    if (self->key_count == 0)
        return (struct span){0};
    if (self->key_encoder == NULL) {
        const struct column *column = &batch->columns[self->key_columns[0]];
        const struct string_view *view = &((const struct string_view *)column->values)[row];
        if (column_is_null(column, row))
            return (struct span){0};
        return (struct span){.bytes = string_view_text(column, view), .length = view->length};
    }
    str_buf_clear(&self->key);
    format_encode(self->key_encoder, key_batch, row, &self->key);
    return (struct span){.bytes = str_buf_text(&self->key), .length = self->key.length};
}

static struct error *pass_on(struct kafka_sink_writer *self, struct span key)
{
    if (batch_builder_is_full(self->builder))
        TRY(op_emit(&self->op, batch_builder_finish(self->builder)));
    uint32_t row = batch_builder_add_row(self->builder);
    if (key.bytes != NULL)
        batch_builder_set_text(self->builder, KAFKA_SINK_KEY, row, key.bytes, key.length);
    batch_builder_set_text(self->builder, KAFKA_SINK_VALUE, row, str_buf_text(&self->value), self->value.length);
    return NULL;
}

static struct error *produce(struct kafka_sink_writer *self, struct span key)
{
    TRY(kafka_producer_send(self->producer, self->topic, key.bytes, key.length, str_buf_text(&self->value), self->value.length, true,
                            self->op.ctx->is_aborting, &self->op));
    self->op.ctx->books->rows_written++;
    self->op.ctx->books->digest += XXH3_64bits(str_buf_text(&self->value), self->value.length);
    self->sent_bytes += self->value.length + key.length;
    return NULL;
}

static void show_metrics(struct kafka_sink_writer *self)
{
    op_metric_set(&self->op, "numBytesSend", (double)self->sent_bytes);
    if (self->latency_us >= 0)
        op_metric_set(&self->op, "currentSendTime", (double)self->latency_us / 1000);
    op_metric_set(&self->op, "numRecordsSendErrors", (double)self->error_count);
}

static struct error *write_rows(struct kafka_sink_writer *self, const struct batch *batch, const struct batch *key_batch)
{
    for (uint32_t row = 0; row < batch->row_count; row++) {
        str_buf_clear(&self->value);
        format_encode(self->encoder, batch, row, &self->value);
        struct span key = encode_key(self, batch, key_batch, row);
        TRY(self->builder != NULL ? pass_on(self, key) : produce(self, key));
    }
    if (self->builder != NULL) {
        struct batch *out = batch_builder_finish(self->builder);
        return out != NULL ? op_emit(&self->op, out) : NULL;
    }
    rd_kafka_poll(self->producer, 0);
    follow_delivery(self);
    show_metrics(self);
    return take_failure(self);
}

static struct error *writer_process(struct op *op, uint32_t input, struct batch *batch)
{
    (void)input;
    struct kafka_sink_writer *self = self_of(op);
    struct batch *key_batch = self->key_encoder != NULL ? batch_project(batch, self->key_schema, self->key_columns) : NULL;
    struct error *err = write_rows(self, batch, key_batch);
    batch_unref(key_batch);
    return err;
}

/* ---- barriers ---- */

/* Waits until the brokers have everything. librdkafka gives up on a record after message.timeout.ms, so this ends. */
static struct error *flush_all(struct kafka_sink_writer *self)
{
    while (rd_kafka_flush(self->producer, FLUSH_STEP_MS) == RD_KAFKA_RESP_ERR__TIMED_OUT) {
        TRY(take_failure(self));
        if (op_is_aborting(&self->op))
            return error_new(CANCELLED, "stopped while writing to Kafka topic %s", self->options.topic);
    }
    return take_failure(self);
}

static struct error *flush(struct kafka_sink_writer *self)
{
    op_wait_begin(&self->op);
    struct error *err = flush_all(self);
    op_wait_end(&self->op);
    show_metrics(self); /* what the last rows changed: others may not come for long */
    return err;
}

static struct error *writer_prepare_snapshot(struct op *op, uint64_t checkpoint_id)
{
    struct kafka_sink_writer *self = self_of(op);
    if (self->producer == NULL)
        return NULL;
    if (self->options.guarantee == KAFKA_AT_LEAST_ONCE)
        TRY(flush(self));
    sink_books_cut(&self->books, checkpoint_id);
    return NULL;
}

static struct error *writer_checkpoint_complete(struct op *op, uint64_t checkpoint_id)
{
    struct kafka_sink_writer *self = self_of(op);
    if (self->producer != NULL)
        sink_books_complete(&self->books, checkpoint_id);
    return NULL;
}

static struct error *writer_end_input(struct op *op)
{
    struct kafka_sink_writer *self = self_of(op);
    if (self->producer == NULL)
        return NULL;
    TRY(flush(self));
    if (!op->ctx->checkpointing_enabled) {
        op->ctx->books->rows_committed = op->ctx->books->rows_written;
        op->ctx->books->digest_committed = op->ctx->books->digest;
    }
    return NULL;
}

static void writer_close(struct op *op)
{
    struct kafka_sink_writer *self = self_of(op);
    if (self->topic != NULL)
        rd_kafka_topic_destroy(self->topic);
    if (self->producer != NULL) {
        if (self->options.guarantee == KAFKA_NONE && !op_is_aborting(op))
            rd_kafka_flush(self->producer, CLOSE_FLUSH_MS);
        /* What is still queued belongs to a failed or cancelled attempt: the next one writes it again. */
        kafka_client_destroy(self->producer, op_is_aborting(op));
    }
    self->topic = NULL;
    self->producer = NULL;
}

/* "delivery": {"topic", "queued" records, "since": none was confirmed since then}; absent with exactly-once. */
static void writer_describe(struct op *op, json_t *report)
{
    struct kafka_sink_writer *self = self_of(op);
    if (self->producer == NULL)
        return;
    rd_kafka_poll(self->producer, 0);
    follow_delivery(self);
    json_object_set_new(report, "delivery", json_pack("{s:s,s:i,s:I}", "topic", self->options.topic, "queued", rd_kafka_outq_len(self->producer),
                                                      "since", (json_int_t)(self->waiting_since_ms != 0 ? self->waiting_since_ms : -1)));
}

const struct op_vtable kafka_sink_writer_vtable = {
    .type = "kafka-sink-writer",
    .create = writer_create,
    .open = writer_open,
    .process = writer_process,
    .prepare_snapshot = writer_prepare_snapshot,
    .checkpoint_complete = writer_checkpoint_complete,
    .end_input = writer_end_input,
    .close = writer_close,
    .destroy = writer_destroy,
    .describe = writer_describe,
};
