/* Reference-counted memory, 64-byte aligned and padded (Arrow columnar format, "Buffer Alignment and Padding").
 * Written by its creator until it is shared, immutable afterwards. Any thread may ref and unref. */
#ifndef MILLRACE_COLUMNAR_BUFFER_H
#define MILLRACE_COLUMNAR_BUFFER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    atomic_uint refs;
    size_t size_bytes;     /* bytes in use */
    size_t capacity_bytes; /* bytes allocated at data */
    uint8_t *data;
};

/* One reference, size 0, not zeroed. Aborts when memory is exhausted: batches in flight are bounded by the exchange. */
struct buffer *buffer_create(size_t capacity_bytes);
struct buffer *buffer_ref(struct buffer *buffer);
/* Accepts NULL. */
void buffer_unref(struct buffer *buffer);
/* Bytes allocated in all live buffers of this process (for memory accounting and leak tests). */
size_t buffer_live_bytes(void);

#endif
