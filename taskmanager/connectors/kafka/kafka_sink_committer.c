/* "X: Committer". With exactly-once it collects the encoded rows of an epoch; the barrier turns them into a committable in its
 * state; when the checkpoint is complete, the committer thread writes them in one transaction (kafka_transaction.h). With the
 * other guarantees no row comes here. Task thread.
 *
 * State: union list, because a committable belongs to the transactional id it was made under: after a restore, subtask i takes those of
 * index i, and of every index that no subtask has any more those with index modulo parallelism = i. They are committed in open, before
 * the first new row; so every index has at most one user. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/vec.h"
#include "taskmanager/connectors/kafka/kafka_client.h"
#include "taskmanager/connectors/kafka/kafka_committer_thread.h"
#include "taskmanager/state/snapshot.h"
#include "taskmanager/task/books.h"

#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>

#define STATE_NAME "kafka-committables"
#define REAP_INTERVAL_MS 20
/* What one epoch may come to: it is kept in memory until it is committed, and goes through a checkpoint as one item. */
#define EPOCH_BYTES_MAX (UINT64_C(2) << 30)

struct kafka_sink_committer {
    struct op op; /* first member */
    struct kafka_sink_options options;
    struct kafka_committer_thread *thread; /* NULL unless exactly-once */
    VEC(struct kafka_committable *) restored; /* until open has committed them */
    VEC(struct kafka_committable *) pending;  /* oldest first; the first handed_over of them are with the thread */
    size_t handed_over;
    uint64_t reaped; /* how many the thread has done that are gone from pending */
    struct kafka_committable *epoch; /* rows since the last barrier; NULL: none */
    int64_t start_seconds;
    bool has_ended;
    uint64_t sent_bytes; /* handed over, in this attempt */
    uint64_t pending_bytes; /* of the rows of pending */
};

static struct kafka_sink_committer *self_of(struct op *op)
{
    return (struct kafka_sink_committer *)op;
}

static struct error *committer_create(struct op_context *ctx, struct op **out)
{
    struct kafka_sink_committer *self = heap_new(struct kafka_sink_committer);
    self->op = (struct op){.vtable = &kafka_sink_committer_vtable, .ctx = ctx};
    struct error *err = kafka_sink_options_parse(ctx, &self->options);
    if (err != NULL) {
        free(self);
        return err;
    }
    *out = &self->op;
    return NULL;
}

static struct error *restore_item(void *arg, const void *bytes, size_t length)
{
    struct kafka_sink_committer *self = arg;
    struct kafka_committable *committable;
    TRY(kafka_committable_decode(bytes, length, &committable));
    if (committable->index % self->op.ctx->parallelism == self->op.ctx->subtask_index)
        vec_push(&self->restored, committable);
    else
        kafka_committable_destroy(committable);
    return NULL;
}

static struct error *committer_restore(struct op *op, struct restored_state *state)
{
    return restored_state_items(state, STATE_NAME, restore_item, op);
}

/* Commits what the restored checkpoint left of one index, oldest first. */
static struct error *recover_index(struct kafka_sink_committer *self, struct kafka_transactor *transactor, uint32_t index)
{
    for (;;) {
        const struct kafka_committable *next = NULL;
        for (size_t i = 0; i < self->restored.count; i++) {
            const struct kafka_committable *candidate = self->restored.items[i];
            if (candidate->index == index && !kafka_transactor_has(transactor, candidate) &&
                (next == NULL || candidate->marker < next->marker))
                next = candidate;
        }
        if (next == NULL)
            return NULL;
        log_info("KafkaCommitter", "%s: committing %" PRIu64 " rows of checkpoint %" PRIu64 " that were pending", self->op.ctx->task_name,
                 next->row_count, next->checkpoint_id);
        TRY(kafka_transactor_commit(transactor, next, self->op.ctx->is_aborting));
    }
}

static bool is_index_pending(const struct kafka_sink_committer *self, uint32_t index)
{
    for (size_t i = 0; i < self->restored.count; i++)
        if (self->restored.items[i]->index == index)
            return true;
    return false;
}

/* Indexes of a former, larger parallelism. */
static struct error *recover_orphans(struct kafka_sink_committer *self)
{
    uint32_t greatest = 0;
    for (size_t i = 0; i < self->restored.count; i++)
        if (self->restored.items[i]->index > greatest)
            greatest = self->restored.items[i]->index;
    uint32_t parallelism = self->op.ctx->parallelism;
    for (uint32_t index = self->op.ctx->subtask_index + parallelism; index <= greatest; index += parallelism) {
        struct kafka_transactor *transactor;
        if (!is_index_pending(self, index))
            continue;
        TRY(kafka_transactor_create(&self->options, index, self->op.ctx->is_aborting, &transactor));
        struct error *err = recover_index(self, transactor, index);
        kafka_transactor_destroy(transactor, op_is_aborting(&self->op));
        TRY(err);
    }
    return NULL;
}

static void clear_restored(struct kafka_sink_committer *self)
{
    for (size_t i = 0; i < self->restored.count; i++)
        kafka_committable_destroy(self->restored.items[i]);
    vec_finish(&self->restored);
}

static struct error *open_transactor(struct kafka_sink_committer *self, struct kafka_transactor **out)
{
    uint32_t index = self->op.ctx->subtask_index;
    TRY(recover_orphans(self));
    TRY(kafka_transactor_create(&self->options, index, self->op.ctx->is_aborting, out));
    struct error *err = recover_index(self, *out, index);
    if (err != NULL)
        kafka_transactor_destroy(*out, op_is_aborting(&self->op));
    return err;
}

static struct error *committer_open(struct op *op)
{
    struct kafka_sink_committer *self = self_of(op);
    if (self->options.guarantee != KAFKA_EXACTLY_ONCE)
        return NULL;
    struct kafka_transactor *transactor;
    op_wait_begin(op);
    op_status_set(op, "sink-opening", kafka_property(self->options.properties, "bootstrap.servers", NULL),
                  "it waits for the brokers to end the transactions of the attempt before");
    struct error *err = open_transactor(self, &transactor);
    op_wait_end(op);
    TRY(err);
    op_status_set(op, NULL, NULL, NULL);
    clear_restored(self);
    if (op->ctx->restored_checkpoint_id != 0) {
        /* All that the restored books had written is in now. */
        op->ctx->books->rows_committed = op->ctx->books->rows_written;
        op->ctx->books->digest_committed = op->ctx->books->digest;
    }
    int64_t marker = kafka_transactor_marker(transactor);
    int64_t last_start = marker < 0 ? 0 : marker >> KAFKA_MARKER_CHECKPOINT_BITS;
    int64_t now_seconds = clock_now_ms() / 1000 - INT64_C(1577836800); /* since 2020: 30 bits last until 2054 */
    self->start_seconds = now_seconds > last_start ? now_seconds : last_start + 1;
    return kafka_committer_thread_create(transactor, &self->thread);
}

static struct error *check_memory(const struct kafka_sink_committer *self)
{
    uint64_t epoch_bytes = self->epoch->rows.length, most_bytes = (uint64_t)self->options.pending_bytes_max;
    if (epoch_bytes > EPOCH_BYTES_MAX)
        return error_with_hint(error_new(CONNECTOR, "more than 2 GiB of rows for Kafka topic %s have come since the last checkpoint",
                                         self->options.topic),
                               "exactly-once rows wait in memory for their checkpoint: take checkpoints more often, or more subtasks");
    if (self->pending_bytes > 0 && self->pending_bytes + epoch_bytes > most_bytes)
        return error_with_hint(error_new(CONNECTOR, "more than %" PRIu64 " bytes of rows wait to be committed to Kafka topic %s", most_bytes,
                                         self->options.topic),
                               "its brokers take none, or too few: the job commits them when it is restarted and they answer");
    return NULL;
}

static struct error *committer_process(struct op *op, uint32_t input, struct batch *batch)
{
    (void)input;
    struct kafka_sink_committer *self = self_of(op);
    const struct column *keys = &batch->columns[KAFKA_SINK_KEY];
    const struct column *values = &batch->columns[KAFKA_SINK_VALUE];
    const struct string_view *key_views = keys->values;
    const struct string_view *value_views = values->values;
    if (self->thread == NULL)
        return error_new(INVALID_PROGRAM, "rows came to a committer without transactions");
    if (self->epoch == NULL)
        self->epoch = heap_new(struct kafka_committable);
    for (uint32_t row = 0; row < batch->row_count; row++) {
        const void *key = column_is_null(keys, row) ? NULL : string_view_text(keys, &key_views[row]);
        const void *value = column_is_null(values, row) ? NULL : string_view_text(values, &value_views[row]);
        size_t value_length = value != NULL ? value_views[row].length : 0;
        kafka_committable_add_row(self->epoch, key, key_views[row].length, value, value_length);
        uint64_t digest = XXH3_64bits(value, value_length);
        self->epoch->digest += digest;
        self->sent_bytes += key_views[row].length + value_length;
        op->ctx->books->digest += digest;
    }
    op->ctx->books->rows_written += batch->row_count;
    op_metric_set(op, "numBytesSend", (double)self->sent_bytes);
    return check_memory(self);
}

/* Forgets what the thread has committed. */
static struct error *reap(struct kafka_sink_committer *self)
{
    uint64_t done;
    TRY(kafka_committer_thread_done(self->thread, &done));
    for (; self->reaped < done; self->reaped++) {
        struct kafka_committable *committable = self->pending.items[0];
        self->op.ctx->books->rows_committed += committable->row_count;
        self->op.ctx->books->digest_committed += committable->digest;
        self->pending_bytes -= committable->rows.length;
        kafka_committable_destroy(committable);
        vec_remove(&self->pending, 0);
        self->handed_over--;
    }
    return NULL;
}

static struct error *committer_wake(struct op *op, int64_t now_ms)
{
    struct kafka_sink_committer *self = self_of(op);
    if (self->thread == NULL)
        return NULL;
    TRY(reap(self));
    if (self->handed_over > 0)
        op_wake_at(op, now_ms + REAP_INTERVAL_MS);
    return NULL;
}

static struct error *committer_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    struct kafka_sink_committer *self = self_of(op);
    if (self->thread == NULL)
        return NULL;
    TRY(reap(self));
    if (self->epoch != NULL) {
        self->epoch->index = op->ctx->subtask_index;
        self->epoch->checkpoint_id = checkpoint_id;
        self->epoch->marker = kafka_marker(self->start_seconds, checkpoint_id);
        vec_push(&self->pending, self->epoch);
        self->pending_bytes += self->epoch->rows.length;
        self->epoch = NULL;
    }
    for (size_t i = 0; i < self->pending.count; i++) {
        struct bytes_writer writer = {0};
        kafka_committable_encode(self->pending.items[i], &writer);
        snapshot_add_union_item(snapshot, STATE_NAME, writer.data, writer.length);
        bytes_writer_finish(&writer);
    }
    return NULL;
}

/* When the task ends its checkpoints may be forgotten: what they have for the brokers must be there before. */
static struct error *commit_the_last(struct kafka_sink_committer *self)
{
    const struct op *op = &self->op;
    kafka_committer_thread_wait(self->thread, self->options.commit_timeout_ms, op->ctx->is_aborting);
    TRY(reap(self));
    if (self->handed_over == 0 || op_is_aborting(op))
        return NULL;
    return error_with_hint(error_new(CONNECTOR, "the rows of checkpoint %" PRIu64 " could not be committed to Kafka topic %s within %" PRId64 " ms",
                                     self->pending.items[0]->checkpoint_id, self->options.topic, self->options.commit_timeout_ms),
                           "they are in the checkpoint: the job commits them when it is restarted and the brokers answer");
}

static struct error *committer_checkpoint_complete(struct op *op, uint64_t checkpoint_id)
{
    struct kafka_sink_committer *self = self_of(op);
    if (self->thread == NULL)
        return NULL;
    int64_t now_ms = clock_now_ms();
    while (self->handed_over < self->pending.count && self->pending.items[self->handed_over]->checkpoint_id <= checkpoint_id) {
        self->pending.items[self->handed_over]->due_ms = now_ms;
        kafka_committer_thread_add(self->thread, self->pending.items[self->handed_over++]);
    }
    if (self->has_ended)
        return commit_the_last(self);
    if (self->handed_over > 0)
        op_wake_at(op, clock_now_ms() + REAP_INTERVAL_MS);
    return reap(self);
}

static struct error *committer_end_input(struct op *op)
{
    self_of(op)->has_ended = true;
    return NULL;
}

static void clear_pending(struct kafka_sink_committer *self)
{
    for (size_t i = 0; i < self->pending.count; i++)
        kafka_committable_destroy(self->pending.items[i]);
    vec_finish(&self->pending);
}

/* The thread reads the committables until it has ended. */
struct leaving {
    struct kafka_committer_thread *thread;
    struct kafka_committable **pending;
    size_t pending_count;
};

static void leave(void *arg)
{
    struct leaving *leaving = arg;
    kafka_committer_thread_destroy(leaving->thread);
    for (size_t i = 0; i < leaving->pending_count; i++)
        kafka_committable_destroy(leaving->pending[i]);
    free(leaving->pending);
    free(leaving);
}

static void warn_of_uncommitted(struct kafka_sink_committer *self)
{
    struct error *err = reap(self);
    if (err != NULL || self->handed_over > 0)
        log_warn("KafkaCommitter", "%s: the rows of checkpoint %" PRIu64 " are not in Kafka topic %s yet: they come when the job is started from it",
                 self->op.ctx->task_name, self->pending.items[0]->checkpoint_id, self->options.topic);
    error_free(err);
}

static void committer_close(struct op *op)
{
    struct kafka_sink_committer *self = self_of(op);
    if (self->thread == NULL)
        return;
    /* The job is stopped with a savepoint: its rows should be in before it counts as ended. If not, the savepoint has them. */
    if (self->handed_over > 0 && !op_is_aborting(op)) {
        kafka_committer_thread_wait(self->thread, self->options.commit_timeout_ms, op->ctx->is_aborting);
        warn_of_uncommitted(self);
    }
    struct leaving leaving = {.thread = self->thread, .pending = self->pending.items, .pending_count = self->pending.count};
    struct leaving *copy = heap_memdup(&leaving, sizeof leaving);
    self->thread = NULL;
    self->pending.items = NULL;
    self->pending.count = self->pending.capacity = 0;
    if (op_is_aborting(op))
        kafka_close_later(leave, copy);
    else
        leave(copy);
}

static void committer_destroy(struct op *op)
{
    struct kafka_sink_committer *self = self_of(op);
    clear_restored(self);
    clear_pending(self);
    kafka_committable_destroy(self->epoch);
    free(self);
}

/* "commit": {"topic", "waiting" transactions that could be committed, their "rows", "since" when the first could, its "checkpoint"} */
static void committer_describe(struct op *op, json_t *report)
{
    const struct kafka_sink_committer *self = self_of(op);
    uint64_t rows = 0;
    if (self->thread == NULL)
        return;
    for (size_t i = 0; i < self->handed_over; i++)
        rows += self->pending.items[i]->row_count;
    const struct kafka_committable *first = self->handed_over > 0 ? self->pending.items[0] : NULL;
    json_t *commit = json_pack("{s:s,s:I,s:I,s:I,s:I}", "topic", self->options.topic, "waiting", (json_int_t)self->handed_over, "rows",
                               (json_int_t)rows, "since", (json_int_t)(first != NULL ? first->due_ms : -1), "checkpoint",
                               (json_int_t)(first != NULL ? first->checkpoint_id : 0));
    json_object_set_new(report, "commit", commit);
}

const struct op_vtable kafka_sink_committer_vtable = {
    .type = "kafka-sink-committer",
    .create = committer_create,
    .restore = committer_restore,
    .open = committer_open,
    .process = committer_process,
    .wake = committer_wake,
    .snapshot = committer_snapshot,
    .checkpoint_complete = committer_checkpoint_complete,
    .end_input = committer_end_input,
    .close = committer_close,
    .destroy = committer_destroy,
    .describe = committer_describe,
};
