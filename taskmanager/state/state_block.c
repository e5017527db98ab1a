/* See state_block.h. */
#include "taskmanager/state/state_block.h"

#include "common/base/check.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(block) ASAN_POISON_MEMORY_REGION(block, STATE_BLOCK_BYTES)
#define UNPOISON(block) ASAN_UNPOISON_MEMORY_REGION(block, STATE_BLOCK_BYTES)
#else
#define POISON(block) ((void)(block))
#define UNPOISON(block) ((void)(block))
#endif

/* Blocks that the header of a chunk takes. */
#define HEADER_COUNT ((uint32_t)((sizeof(struct state_block_chunk) + STATE_BLOCK_BYTES - 1) / STATE_BLOCK_BYTES))
#define USABLE_COUNT (STATE_BLOCK_CHUNK_COUNT - HEADER_COUNT)
/* The first chunks get no huge page: little state stays little memory. */
#define SMALL_CHUNKS 4
/* Chunks without a block in use that are kept: after a barrier as many blocks are copied as the state has. */
#define EMPTY_CHUNKS_KEPT 8
static_assert(sizeof(struct state_block_header) == 64, "data starts a cache line");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct state_block_chunk *with_free; /* chunks with free blocks */
static uint32_t chunk_count;
static uint32_t empty_count;

static void list_add(struct state_block_chunk *chunk)
{
    chunk->previous = NULL;
    chunk->next = with_free;
    if (with_free != NULL)
        with_free->previous = chunk;
    with_free = chunk;
}

static void list_remove(struct state_block_chunk *chunk)
{
    if (chunk->previous != NULL)
        chunk->previous->next = chunk->next;
    else
        with_free = chunk->next;
    if (chunk->next != NULL)
        chunk->next->previous = chunk->previous;
}

/* Anonymous memory, aligned to its size. */
static uint8_t *map_chunk(void)
{
    size_t bytes = STATE_BLOCK_CHUNK_BYTES;
    void *mapped = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(mapped != MAP_FAILED);
    uint8_t *start = mapped;
    size_t before = (bytes - ((uintptr_t)start & (bytes - 1))) & (bytes - 1);
    if (before != 0)
        munmap(start, before);
    munmap(start + before + bytes, bytes - before);
    if (chunk_count >= SMALL_CHUNKS)
        madvise(start + before, bytes, MADV_HUGEPAGE); /* without: only slower */
    return start + before;
}

static struct state_block_chunk *chunk_create(void)
{
    struct state_block_chunk *chunk = (struct state_block_chunk *)(void *)map_chunk();
    for (uint32_t i = HEADER_COUNT; i < STATE_BLOCK_CHUNK_COUNT; i++)
        chunk->next_free[i] = (uint16_t)(i + 1 < STATE_BLOCK_CHUNK_COUNT ? i + 1 : 0);
    chunk->first_free = HEADER_COUNT;
    chunk->free_count = USABLE_COUNT;
    chunk_count++;
    empty_count++;
    list_add(chunk);
    return chunk;
}

static void chunk_put(uint8_t *block)
{
    uint32_t offset = (uint32_t)((uintptr_t)block & (STATE_BLOCK_CHUNK_BYTES - 1));
    struct state_block_chunk *chunk = (struct state_block_chunk *)(void *)(block - offset);
    uint16_t index = (uint16_t)(offset / STATE_BLOCK_BYTES);
    if (chunk->free_count == 0)
        list_add(chunk);
    chunk->next_free[index] = chunk->first_free;
    chunk->first_free = index;
    if (++chunk->free_count < USABLE_COUNT)
        return;
    if (empty_count < EMPTY_CHUNKS_KEPT || empty_count < chunk_count / 2) {
        empty_count++;
        return;
    }
    list_remove(chunk);
    chunk_count--;
    munmap(chunk, STATE_BLOCK_CHUNK_BYTES);
}

static void bundle_fill(struct state_block_bundle *bundle)
{
    pthread_mutex_lock(&lock);
    while (bundle->count < STATE_BLOCK_BUNDLE_COUNT / 2) {
        struct state_block_chunk *chunk = with_free != NULL ? with_free : chunk_create();
        if (chunk->free_count == USABLE_COUNT)
            empty_count--;
        bundle->blocks[bundle->count++] = (uint8_t *)chunk + (size_t)chunk->first_free * STATE_BLOCK_BYTES;
        chunk->first_free = chunk->next_free[chunk->first_free];
        if (--chunk->free_count == 0)
            list_remove(chunk);
    }
    pthread_mutex_unlock(&lock);
}

static void bundle_drain(struct state_block_bundle *bundle, uint32_t keep)
{
    if (bundle->count <= keep)
        return;
    pthread_mutex_lock(&lock);
    while (bundle->count > keep)
        chunk_put(bundle->blocks[--bundle->count]);
    pthread_mutex_unlock(&lock);
}

void state_block_bundle_finish(struct state_block_bundle *bundle)
{
    bundle_drain(bundle, 0);
}

uint8_t *state_block_create(struct state_block_bundle *bundle, uint32_t bytes)
{
    uint8_t *data;
    if (bytes == STATE_BLOCK_BYTES) {
        if (bundle->count == 0)
            bundle_fill(bundle);
        data = bundle->blocks[--bundle->count];
        UNPOISON(data);
    } else {
        size_t size = (sizeof(struct state_block_header) + (size_t)bytes + 63) & ~(size_t)63;
        struct state_block_header *header = aligned_alloc(64, size);
        check(header != NULL);
        data = (uint8_t *)(header + 1);
    }
    atomic_store_explicit(state_block_refs(data, bytes), 1, memory_order_relaxed);
    return data;
}

void state_block_unref(struct state_block_bundle *bundle, uint8_t *data, uint32_t bytes)
{
    if (atomic_fetch_sub_explicit(state_block_refs(data, bytes), 1, memory_order_acq_rel) != 1)
        return;
    if (bytes != STATE_BLOCK_BYTES) {
        free((struct state_block_header *)(void *)data - 1);
        return;
    }
    POISON(data);
    if (bundle->count == STATE_BLOCK_BUNDLE_COUNT)
        bundle_drain(bundle, STATE_BLOCK_BUNDLE_COUNT / 2);
    bundle->blocks[bundle->count++] = data;
}
