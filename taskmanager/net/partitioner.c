/* Row to target, and edge topology. Thread: task. Owner: the result partition. */
#include "taskmanager/net/partitioner.h"

#include "common/base/check.h"
#include "common/base/heap.h"

struct partitioner {
    enum partitioning partitioning;
    const struct job_edge *edge;
    uint32_t target_count;
    uint32_t max_parallelism;
    uint32_t next; /* round robin: the target of the next row */
    uint16_t *owners;              /* HASH: key group -> target */
    struct partition_share *shares;
    uint32_t *next_row; /* a target: where its next row index goes */
    uint32_t row_capacity;
    uint64_t *hashes;
    uint16_t *targets;
    uint32_t *rows;
};

struct partitioner *partitioner_create(const struct job_edge *edge, uint32_t target_count, uint32_t max_parallelism, uint32_t seed)
{
    check(target_count > 0 && target_count <= PARALLELISM_MAX);
    struct partitioner *partitioner = heap_new(struct partitioner);
    partitioner->partitioning = edge->partitioning;
    partitioner->edge = edge;
    partitioner->target_count = target_count;
    partitioner->max_parallelism = max_parallelism;
    partitioner->next = seed % target_count;
    partitioner->shares = heap_alloc_array(target_count, sizeof *partitioner->shares);
    partitioner->next_row = heap_alloc_array(target_count, sizeof *partitioner->next_row);
    if (edge->partitioning == PARTITION_HASH) {
        partitioner->owners = heap_alloc_array(max_parallelism, sizeof *partitioner->owners);
        for (uint32_t group = 0; group < max_parallelism; group++)
            partitioner->owners[group] = (uint16_t)key_group_owner(group, max_parallelism, target_count);
    }
    return partitioner;
}

void partitioner_destroy(struct partitioner *partitioner)
{
    if (partitioner == NULL)
        return;
    free(partitioner->owners);
    free(partitioner->shares);
    free(partitioner->next_row);
    free(partitioner->hashes);
    free(partitioner->targets);
    free(partitioner->rows);
    free(partitioner);
}

bool partitioner_is_broadcast(const struct partitioner *partitioner)
{
    return partitioner->partitioning == PARTITION_BROADCAST;
}

static void partitioner_reserve(struct partitioner *partitioner, uint32_t row_count)
{
    if (row_count <= partitioner->row_capacity)
        return;
    partitioner->hashes = heap_realloc(partitioner->hashes, row_count, sizeof *partitioner->hashes);
    partitioner->targets = heap_realloc(partitioner->targets, row_count, sizeof *partitioner->targets);
    partitioner->rows = heap_realloc(partitioner->rows, row_count, sizeof *partitioner->rows);
    partitioner->row_capacity = row_count;
}

static int64_t split_by_hash(struct partitioner *partitioner, const struct batch *batch)
{
    uint32_t count = batch->row_count;
    uint32_t target_count = partitioner->target_count;
    partitioner_reserve(partitioner, count);
    batch_hash_rows(batch, partitioner->edge->key_columns, partitioner->edge->key_count, partitioner->hashes);
    for (uint32_t t = 0; t < target_count; t++)
        partitioner->shares[t].count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t target = partitioner->owners[key_group_of_hash(partitioner->hashes[i], partitioner->max_parallelism)];
        partitioner->targets[i] = target;
        partitioner->shares[target].count++;
    }
    if (partitioner->shares[partitioner->targets[0]].count == count)
        return partitioner->targets[0];
    uint32_t start = 0;
    for (uint32_t t = 0; t < target_count; t++) {
        partitioner->shares[t].rows = partitioner->rows + start;
        partitioner->next_row[t] = start;
        start += partitioner->shares[t].count;
    }
    for (uint32_t i = 0; i < count; i++)
        partitioner->rows[partitioner->next_row[partitioner->targets[i]]++] = i;
    return -1;
}

/* Row-wise round robin, dealt out as ranges: target t gets the rows that dealing one by one would give it, but side by
 * side, so that a slice is enough. The next batch goes on where this one stopped. */
static int64_t split_evenly(struct partitioner *partitioner, const struct batch *batch)
{
    uint32_t target_count = partitioner->target_count;
    uint32_t each = batch->row_count / target_count;
    uint32_t extra = batch->row_count % target_count;
    uint32_t first = partitioner->next;
    partitioner->next = (first + extra) % target_count;
    if (batch->row_count == 1)
        return first;
    uint32_t start = 0;
    for (uint32_t i = 0; i < target_count; i++) {
        struct partition_share *share = &partitioner->shares[(first + i) % target_count];
        *share = (struct partition_share){.start = start, .count = each + (i < extra)};
        start += share->count;
    }
    return -1;
}

int64_t partitioner_split(struct partitioner *partitioner, const struct batch *batch, const struct partition_share **shares)
{
    dcheck(batch->row_count > 0);
    if (partitioner->target_count == 1)
        return 0;
    *shares = partitioner->shares;
    switch (partitioner->partitioning) {
    case PARTITION_HASH:
        return split_by_hash(partitioner, batch);
    case PARTITION_REBALANCE:
    case PARTITION_RESCALE:
    case PARTITION_FORWARD:
        return split_evenly(partitioner, batch);
    case PARTITION_GLOBAL:
        return 0;
    case PARTITION_BROADCAST:
        break;
    }
    check(false && "broadcast is not split");
    return -1;
}
