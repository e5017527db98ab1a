/* Buffers: see buffer.h. Header and bytes are one allocation, the bytes start at its first 64-byte boundary after the
 * header. The allocator's own bins recycle them: a batch allocates a handful of buffers for thousands of rows. */
#include "common/columnar/buffer.h"

#include "common/base/check.h"

#include <stdlib.h>

#define ALIGNMENT 64

_Static_assert(sizeof(struct buffer) <= ALIGNMENT, "the header must fit before the first aligned byte");

static atomic_size_t live_bytes;

struct buffer *buffer_create(size_t capacity_bytes)
{
    check(capacity_bytes <= SIZE_MAX / 2);
    size_t capacity = (capacity_bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    struct buffer *buffer = aligned_alloc(ALIGNMENT, ALIGNMENT + capacity);
    check(buffer != NULL);
    atomic_init(&buffer->refs, 1);
    buffer->size_bytes = 0;
    buffer->capacity_bytes = capacity;
    buffer->data = (uint8_t *)buffer + ALIGNMENT;
    atomic_fetch_add_explicit(&live_bytes, capacity, memory_order_relaxed);
    return buffer;
}

struct buffer *buffer_ref(struct buffer *buffer)
{
    atomic_fetch_add_explicit(&buffer->refs, 1, memory_order_relaxed);
    return buffer;
}

void buffer_unref(struct buffer *buffer)
{
    if (buffer == NULL || atomic_fetch_sub_explicit(&buffer->refs, 1, memory_order_acq_rel) != 1)
        return;
    atomic_fetch_sub_explicit(&live_bytes, buffer->capacity_bytes, memory_order_relaxed);
    free(buffer);
}

size_t buffer_live_bytes(void)
{
    return atomic_load_explicit(&live_bytes, memory_order_relaxed);
}
