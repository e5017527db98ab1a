/* A growing, always NUL-terminated byte buffer for building text. Zero-initialised is empty (text is then NULL until
 * the first append; str_buf_text gives "" in that case). */
#ifndef MILLRACE_BASE_STR_BUF_H
#define MILLRACE_BASE_STR_BUF_H

#include <stddef.h>

struct str_buf {
    char *text;
    size_t length;
    size_t capacity;
};

void str_buf_append(struct str_buf *buf, const char *text);
void str_buf_append_bytes(struct str_buf *buf, const void *bytes, size_t length);
void str_buf_append_char(struct str_buf *buf, char c);
void str_buf_printf(struct str_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Makes room for length more bytes and returns where they go; str_buf_advance then counts them. */
char *str_buf_reserve(struct str_buf *buf, size_t length);
void str_buf_advance(struct str_buf *buf, size_t length);
void str_buf_clear(struct str_buf *buf);
const char *str_buf_text(const struct str_buf *buf);
/* The caller leaves with the text (never NULL) and frees it. */
char *str_buf_detach(struct str_buf *buf);
void str_buf_finish(struct str_buf *buf);

#endif
