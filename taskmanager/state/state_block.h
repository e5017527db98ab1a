/* Blocks: the memory of state pages. Full-size blocks come out of chunks of 2 MiB (huge pages, once a process has several),
 * whose first bytes hold the counts of all their blocks: a snapshot references a hundred thousand blocks without touching them.
 * Other sizes are ordinary memory with the count in front. Counts are atomic; blocks are taken and given back in bundles, so
 * that a task and the worker that lets its snapshot go seldom meet at the lock.
 * Thread: any; a bundle has one owner. Not for others than state_page.c. */
#ifndef MILLRACE_STATE_STATE_BLOCK_H
#define MILLRACE_STATE_STATE_BLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define STATE_BLOCK_BYTES 4096u /* full size */
#define STATE_BLOCK_CHUNK_BYTES (UINT32_C(1) << 21)
#define STATE_BLOCK_CHUNK_COUNT (STATE_BLOCK_CHUNK_BYTES / STATE_BLOCK_BYTES)
#define STATE_BLOCK_BUNDLE_COUNT 64u

/* Free full-size blocks at hand. Zero is empty. */
struct state_block_bundle {
    uint32_t count;
    uint8_t *blocks[STATE_BLOCK_BUNDLE_COUNT];
};

/* A chunk begins with this. */
struct state_block_chunk {
    atomic_uint refs[STATE_BLOCK_CHUNK_COUNT];
    uint16_t next_free[STATE_BLOCK_CHUNK_COUNT]; /* under the lock, as are the following */
    uint16_t first_free;                         /* 0: none; block 0 is never free */
    uint16_t free_count;
    struct state_block_chunk *previous; /* of the chunks with free blocks */
    struct state_block_chunk *next;
};

struct state_block_header {
    atomic_uint refs;
    uint32_t padding[15]; /* data starts a cache line */
};

/* The data of a block, counted once. Of STATE_BLOCK_BYTES: full size, out of a chunk. bytes > 0. */
uint8_t *state_block_create(struct state_block_bundle *bundle, uint32_t bytes);
/* The last reference frees it (or puts it into the bundle). bytes as at its creation. */
void state_block_unref(struct state_block_bundle *bundle, uint8_t *data, uint32_t bytes);
/* Gives the bundle's blocks back to all. */
void state_block_bundle_finish(struct state_block_bundle *bundle);

static inline atomic_uint *state_block_refs(uint8_t *data, uint32_t bytes)
{
    if (bytes == STATE_BLOCK_BYTES) {
        uintptr_t offset = (uintptr_t)data & (STATE_BLOCK_CHUNK_BYTES - 1);
        struct state_block_chunk *chunk = (struct state_block_chunk *)(void *)(data - offset);
        return &chunk->refs[offset / STATE_BLOCK_BYTES];
    }
    return &((struct state_block_header *)(void *)data - 1)->refs;
}

static inline void state_block_ref(uint8_t *data, uint32_t bytes)
{
    atomic_fetch_add_explicit(state_block_refs(data, bytes), 1, memory_order_relaxed);
}

/* Acquire: what other holders read before they let go is done. */
static inline bool state_block_is_alone(uint8_t *data, uint32_t bytes)
{
    return atomic_load_explicit(state_block_refs(data, bytes), memory_order_acquire) == 1;
}

#endif
