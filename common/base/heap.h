/* Control-plane memory: allocation that aborts instead of failing. Data-plane memory comes from buffers (buffer.h).
 * Also checked size arithmetic. */
#ifndef MILLRACE_BASE_HEAP_H
#define MILLRACE_BASE_HEAP_H

#include <stddef.h>

/* Zeroed. */
__attribute__((malloc, returns_nonnull)) void *heap_alloc(size_t bytes);
__attribute__((malloc, returns_nonnull)) void *heap_alloc_array(size_t count, size_t bytes);
/* New bytes are not zeroed. */
__attribute__((returns_nonnull)) void *heap_realloc(void *memory, size_t count, size_t bytes);
__attribute__((malloc, returns_nonnull)) char *heap_strdup(const char *text);
__attribute__((malloc, returns_nonnull)) char *heap_strndup(const char *text, size_t length);
__attribute__((malloc, returns_nonnull)) void *heap_memdup(const void *bytes, size_t length);
__attribute__((malloc, returns_nonnull, format(printf, 1, 2))) char *heap_printf(const char *format, ...);

#define heap_new(type) ((type *)heap_alloc(sizeof(type)))

#endif
