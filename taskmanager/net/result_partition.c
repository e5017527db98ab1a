/* Scatter, coalesce, push. Thread: the producing task. A piece that is big enough goes out as it is; smaller ones are
 * copied into a builder per channel until that is full or flushed, so that high parallelism does not end in batches of a
 * few rows. With a single channel batches pass as references, always. */
#include "taskmanager/net/result_partition.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/columnar/batch_builder.h"
#include "common/rpc/frame.h"
#include "taskmanager/net/partitioner.h"

#include <string.h>

/* Below this a copy by row is cheaper than what another batch costs downstream. */
#define PIECE_ROWS_MIN 256
/* Out-of-line text that a coalescing builder may gather: bounds the size of a batch. */
#define BUILDER_TEXT_BYTES_MAX (256u * 1024u)
/* What goes to another process goes as one frame, whose receiver takes no larger ones. A row cannot be cut; around it a frame has a
 * few words a column. */
#define REMOTE_BATCH_BYTES_MAX (FRAME_BODY_BYTES_DATA / 2)
#define REMOTE_ROW_BYTES_MAX (FRAME_BODY_BYTES_DATA - (256u << 10))

struct result_channel {
    struct channel *channel;
    struct batch_builder *builder; /* made on first use */
};

struct result_partition {
    struct chain_output output; /* first: the chain calls us through it */
    struct partitioner *partitioner;
    struct result_partition_host host;
    struct result_partition_counts counts;
    uint32_t unflushed_count; /* channels with rows in their builder */
    bool is_overdrawing;      /* what is pushed now does not wait for room: a barrier is behind it */
    uint32_t channel_count;
    struct result_channel channels[];
};

static struct error *on_emit(struct chain_output *output, struct batch *batch);
static struct error *on_emit_watermark(struct chain_output *output, int64_t time);
static struct error *on_emit_idle(struct chain_output *output, bool is_idle);

struct result_partition *result_partition_create(const struct result_partition_options *options)
{
    check(options->channel_count > 0);
    struct result_partition *partition = heap_alloc(sizeof *partition + options->channel_count * sizeof(struct result_channel));
    partition->output = (struct chain_output){.emit = on_emit, .emit_watermark = on_emit_watermark, .emit_idle = on_emit_idle};
    partition->partitioner = partitioner_create(options->edge, options->channel_count, options->max_parallelism, options->seed);
    partition->host = options->host;
    partition->channel_count = options->channel_count;
    for (uint32_t i = 0; i < options->channel_count; i++) {
        partition->channels[i].channel = options->channels[i];
        channel_set_producer(options->channels[i], options->waker);
    }
    return partition;
}

void result_partition_destroy(struct result_partition *partition)
{
    if (partition == NULL)
        return;
    for (uint32_t i = 0; i < partition->channel_count; i++) {
        channel_set_producer(partition->channels[i].channel, (struct channel_waker){0});
        channel_unref(partition->channels[i].channel);
        if (partition->channels[i].builder != NULL)
            batch_builder_destroy(partition->channels[i].builder);
    }
    partitioner_destroy(partition->partitioner);
    free(partition);
}

struct chain_output *result_partition_output(struct result_partition *partition)
{
    return &partition->output;
}

bool result_partition_is_available(const struct result_partition *partition)
{
    for (uint32_t i = 0; i < partition->channel_count; i++)
        if (!channel_has_room(partition->channels[i].channel))
            return false;
    return true;
}

bool result_partition_has_unflushed(const struct result_partition *partition)
{
    return partition->unflushed_count > 0;
}

/* Takes batch. */
static struct error *push_whole(struct result_partition *partition, struct result_channel *target, struct batch *batch, size_t bytes)
{
    if (!channel_has_room(target->channel) && !partition->is_overdrawing) {
        struct error *err = partition->host.wait_for_room(partition->host.arg, target->channel);
        if (err != NULL) {
            batch_unref(batch);
            return err;
        }
    }
    atomic_fetch_add_explicit(&partition->counts.rows, batch->row_count, memory_order_relaxed);
    atomic_fetch_add_explicit(&partition->counts.bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&partition->counts.batches, 1, memory_order_relaxed);
    channel_push(target->channel, (struct element){.type = ELEMENT_BATCH, .as.rows = {.batch = batch, .bytes = bytes}});
    return NULL;
}

/* Takes batch, which may be too large for a frame: then in halves, and these again. */
static struct error *partition_push(struct result_partition *partition, struct result_channel *target, struct batch *batch)
{
    size_t bytes = batch_size_bytes(batch);
    uint32_t count = batch->row_count, half = count / 2;
    if (!target->channel->is_remote || bytes <= REMOTE_BATCH_BYTES_MAX || (count == 1 && bytes <= REMOTE_ROW_BYTES_MAX))
        return push_whole(partition, target, batch, bytes);
    struct batch *first = half > 0 ? batch_slice(batch, 0, half) : NULL;
    struct batch *rest = half > 0 ? batch_slice(batch, half, count - half) : NULL;
    batch_unref(batch);
    if (half == 0)
        return error_with_hint(error_new(TOO_LARGE, "a row of %zu bytes is too large to be sent to another taskmanager: %u are the most", bytes,
                                         REMOTE_ROW_BYTES_MAX),
                               "pass on less of it, or chain the operators between which it goes");
    struct error *err = partition_push(partition, target, first);
    if (err != NULL) {
        batch_unref(rest);
        return err;
    }
    return partition_push(partition, target, rest);
}

static struct error *channel_flush(struct result_partition *partition, struct result_channel *target)
{
    if (target->builder == NULL || target->builder->row_count == 0)
        return NULL;
    partition->unflushed_count--;
    return partition_push(partition, target, batch_builder_finish(target->builder));
}

struct error *result_partition_flush(struct result_partition *partition)
{
    for (uint32_t i = 0; i < partition->channel_count && partition->unflushed_count > 0; i++)
        TRY(channel_flush(partition, &partition->channels[i]));
    return NULL;
}

/* A builder has the shape of its first batch; a stream does not change shape, except that row kinds may appear. */
static bool builder_fits(const struct batch_builder *builder, const struct batch *batch)
{
    return builder->has_event_time == (batch->event_time != NULL);
}

static struct error *coalesce(struct result_partition *partition, struct result_channel *target, const struct batch *batch,
                              const struct partition_share *share)
{
    if (target->builder != NULL && !builder_fits(target->builder, batch)) {
        TRY(channel_flush(partition, target));
        batch_builder_destroy(target->builder);
        target->builder = NULL;
    }
    if (target->builder == NULL)
        target->builder = batch_builder_create(batch->schema, BATCH_ROWS_TARGET, batch->event_time != NULL);
    for (uint32_t i = 0; i < share->count; i++) {
        if (target->builder->row_count == 0)
            partition->unflushed_count++;
        batch_builder_copy_row(target->builder, batch, share->rows != NULL ? share->rows[i] : share->start + i);
        if (batch_builder_is_full(target->builder) || target->builder->text_bytes > BUILDER_TEXT_BYTES_MAX)
            TRY(channel_flush(partition, target));
    }
    return NULL;
}

static struct error *emit_share(struct result_partition *partition, struct result_channel *target, const struct batch *batch,
                                const struct partition_share *share)
{
    if (share->count == 0)
        return NULL;
    if (share->count < PIECE_ROWS_MIN)
        return coalesce(partition, target, batch, share);
    TRY(channel_flush(partition, target));
    struct batch *piece = share->rows != NULL ? batch_take(batch, share->rows, share->count)
                                              : batch_slice(batch, share->start, share->count);
    return partition_push(partition, target, piece);
}

/* All rows to one channel: the reference itself, unless few rows can join others that wait. */
static struct error *emit_whole(struct result_partition *partition, struct result_channel *target, struct batch *batch)
{
    struct error *err;
    if (partition->channel_count > 1 && batch->row_count < PIECE_ROWS_MIN) {
        err = coalesce(partition, target, batch, &(struct partition_share){.count = batch->row_count});
        batch_unref(batch);
        return err;
    }
    err = channel_flush(partition, target);
    if (err != NULL) {
        batch_unref(batch);
        return err;
    }
    return partition_push(partition, target, batch);
}

static struct error *emit_everywhere(struct result_partition *partition, struct batch *batch)
{
    struct error *err = NULL;
    for (uint32_t i = 0; i < partition->channel_count && err == NULL; i++)
        err = partition_push(partition, &partition->channels[i], batch_ref(batch));
    batch_unref(batch);
    return err;
}

static struct error *on_emit(struct chain_output *output, struct batch *batch)
{
    struct result_partition *partition = (struct result_partition *)output;
    if (batch->row_count == 0) {
        batch_unref(batch);
        return NULL;
    }
    if (partitioner_is_broadcast(partition->partitioner))
        return emit_everywhere(partition, batch);
    const struct partition_share *shares;
    int64_t single = partitioner_split(partition->partitioner, batch, &shares);
    if (single >= 0)
        return emit_whole(partition, &partition->channels[single], batch);
    struct error *err = NULL;
    for (uint32_t i = 0; i < partition->channel_count && err == NULL; i++)
        err = emit_share(partition, &partition->channels[i], batch, &shares[i]);
    batch_unref(batch);
    return err;
}

struct error *result_partition_broadcast(struct result_partition *partition, struct element event)
{
    dcheck(event.type != ELEMENT_BATCH);
    /* A row of a broadcast is in flight to some and done at others: no other parallelism could be given its share. Barriers on such an
     * edge wait their turn, as Flink's do. */
    if (event.type == ELEMENT_BARRIER && partitioner_is_broadcast(partition->partitioner)) {
        event.as.barrier.is_unaligned = false;
        event.as.barrier.unaligned_after_ms = 0;
    }
    partition->is_overdrawing = event.type == ELEMENT_BARRIER && (event.as.barrier.is_unaligned || event.as.barrier.unaligned_after_ms > 0);
    struct error *err = result_partition_flush(partition);
    partition->is_overdrawing = false;
    if (err != NULL)
        return err;
    for (uint32_t i = 0; i < partition->channel_count; i++)
        channel_push(partition->channels[i].channel, element_ref(event));
    return NULL;
}

static struct error *on_emit_watermark(struct chain_output *output, int64_t time)
{
    return result_partition_broadcast((struct result_partition *)output,
                                      (struct element){.type = ELEMENT_WATERMARK, .as.watermark = time});
}

static struct error *on_emit_idle(struct chain_output *output, bool is_idle)
{
    return result_partition_broadcast((struct result_partition *)output, (struct element){.type = ELEMENT_IDLE, .as.is_idle = is_idle});
}

void result_partition_fill_add(const struct result_partition *partition, struct channel_fill *fill)
{
    for (uint32_t i = 0; i < partition->channel_count; i++)
        channel_fill_add(fill, partition->channels[i].channel);
}

double result_partition_usage(const struct result_partition *partition)
{
    double usage = 0;
    for (uint32_t i = 0; i < partition->channel_count; i++) {
        double one = channel_usage(partition->channels[i].channel);
        usage = one > usage ? one : usage;
    }
    return usage;
}

const struct result_partition_counts *result_partition_counts(const struct result_partition *partition)
{
    return &partition->counts;
}

bool result_partition_has_undelivered(const struct result_partition *partition)
{
    for (uint32_t i = 0; i < partition->channel_count; i++) {
        const struct channel *channel = partition->channels[i].channel;
        if (channel->is_remote && !atomic_load(&channel->is_delivered) && !atomic_load(&channel->is_released))
            return true;
    }
    return false;
}
