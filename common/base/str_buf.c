/* Growing text buffer: see str_buf.h. */
#include "common/base/str_buf.h"

#include "common/base/heap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *str_buf_reserve(struct str_buf *buf, size_t length)
{
    size_t wanted = buf->length + length + 1;
    if (buf->capacity < wanted) {
        size_t capacity = buf->capacity * 2 > 64 ? buf->capacity * 2 : 64;
        if (capacity < wanted)
            capacity = wanted;
        buf->text = heap_realloc(buf->text, capacity, 1);
        buf->capacity = capacity;
    }
    return buf->text + buf->length;
}

void str_buf_advance(struct str_buf *buf, size_t length)
{
    buf->length += length;
    buf->text[buf->length] = '\0';
}

void str_buf_append_bytes(struct str_buf *buf, const void *bytes, size_t length)
{
    char *end = str_buf_reserve(buf, length);
    if (length != 0)
        memcpy(end, bytes, length);
    str_buf_advance(buf, length);
}

void str_buf_append(struct str_buf *buf, const char *text)
{
    str_buf_append_bytes(buf, text, strlen(text));
}

void str_buf_append_char(struct str_buf *buf, char c)
{
    str_buf_append_bytes(buf, &c, 1);
}

void str_buf_printf(struct str_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length > 0) {
        char *end = str_buf_reserve(buf, (size_t)length);
        vsnprintf(end, (size_t)length + 1, format, again);
        str_buf_advance(buf, (size_t)length);
    }
    va_end(again);
}

void str_buf_clear(struct str_buf *buf)
{
    buf->length = 0;
    if (buf->text != NULL)
        buf->text[0] = '\0';
}

const char *str_buf_text(const struct str_buf *buf)
{
    return buf->text != NULL ? buf->text : "";
}

char *str_buf_detach(struct str_buf *buf)
{
    char *text = buf->text != NULL ? buf->text : heap_strdup("");
    *buf = (struct str_buf){0};
    return text;
}

void str_buf_finish(struct str_buf *buf)
{
    free(buf->text);
    *buf = (struct str_buf){0};
}
