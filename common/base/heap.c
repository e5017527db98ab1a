/* Control-plane memory: see heap.h. */
#include "common/base/heap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void heap_exhausted(void)
{
    static const char text[] = "out of memory in the control plane\n";
    fputs(text, stderr);
    abort();
}

void *heap_alloc(size_t bytes)
{
    void *memory = calloc(1, bytes != 0 ? bytes : 1);
    if (memory == NULL)
        heap_exhausted();
    return memory;
}

void *heap_alloc_array(size_t count, size_t bytes)
{
    void *memory = calloc(count != 0 ? count : 1, bytes != 0 ? bytes : 1);
    if (memory == NULL)
        heap_exhausted();
    return memory;
}

void *heap_realloc(void *memory, size_t count, size_t bytes)
{
    void *grown = reallocarray(memory, count != 0 ? count : 1, bytes);
    if (grown == NULL)
        heap_exhausted();
    return grown;
}

char *heap_strdup(const char *text)
{
    return heap_strndup(text, strlen(text));
}

char *heap_strndup(const char *text, size_t length)
{
    char *copy = heap_alloc(length + 1);
    memcpy(copy, text, length);
    return copy;
}

void *heap_memdup(const void *bytes, size_t length)
{
    void *copy = heap_alloc(length);
    if (length != 0)
        memcpy(copy, bytes, length);
    return copy;
}

char *heap_printf(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0)
        heap_exhausted();
    return text;
}
