/* Multipart bodies from a stranger: the first line is the content type, the rest the body. Fed whole, byte by byte and in sevens, each must
 * see the same parts and the same data. */
#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "common/http/multipart.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_part(void *context, const char *name, const char *filename)
{
    str_buf_printf(context, "[%s|%s]", name != NULL ? name : "-", filename != NULL ? filename : "-");
}

static void on_data(void *context, const void *bytes, size_t length)
{
    check(length > 0);
    str_buf_append_bytes(context, bytes, length);
}

static const struct multipart_handler handler = {on_part, on_data};

static bool parse(const char *type, const uint8_t *body, size_t size, size_t step, struct str_buf *seen, bool *is_complete)
{
    struct multipart *multipart = multipart_create(type, &handler, seen);
    bool is_good = multipart != NULL;
    for (size_t at = 0; is_good && at < size; at += step)
        is_good = multipart_feed(multipart, body + at, size - at < step ? size - at : step);
    *is_complete = multipart != NULL && multipart_is_complete(multipart);
    multipart_destroy(multipart);
    return is_good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[] = {SIZE_MAX / 2, 1, 7};
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t type_length = end != NULL ? (size_t)(end - data) : size;
    size_t body_at = end != NULL ? type_length + 1 : size;
    char *type = heap_strndup(size > 0 ? (const char *)data : "", type_length);
    struct str_buf seen[3] = {0};
    bool is_good[3], is_complete[3];
    for (size_t i = 0; i < 3; i++)
        is_good[i] = parse(type, data + body_at, size - body_at, steps[i], &seen[i], &is_complete[i]);
    for (size_t i = 1; i < 3; i++) {
        check(is_good[i] == is_good[0] && is_complete[i] == is_complete[0]);
        check(!is_good[0] || strcmp(str_buf_text(&seen[i]), str_buf_text(&seen[0])) == 0);
    }
    for (size_t i = 0; i < 3; i++)
        str_buf_finish(&seen[i]);
    free(type);
    return 0;
}
