/* Timestamp patterns: the first line is the pattern, the rest a text. The text is parsed cold and again through the cache with the same
 * result; what a time prints to parses back to a text that prints the same. */
#include "common/base/check.h"
#include "common/base/heap.h"
#include "taskmanager/formats/timestamp_format.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_and_print(struct timestamp_format *format, const char *text, size_t length)
{
    int64_t first, second, again;
    bool is_first = timestamp_format_parse(format, text, length, &first);
    bool is_second = timestamp_format_parse(format, text, length, &second);
    check(is_first == is_second && (!is_first || first == second));
    if (!is_first)
        return;
    struct str_buf printed = {0}, reprinted = {0};
    timestamp_format_print(format, first, &printed);
    if (timestamp_format_parse(format, str_buf_text(&printed), printed.length, &again)) {
        timestamp_format_print(format, again, &reprinted);
        check(strcmp(str_buf_text(&printed), str_buf_text(&reprinted)) == 0);
    }
    str_buf_finish(&printed);
    str_buf_finish(&reprinted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    if (end == NULL)
        return 0;
    char *pattern = heap_strndup((const char *)data, (size_t)(end - data));
    struct timestamp_format format;
    struct error *err = timestamp_format_compile(pattern, &format);
    if (err == NULL)
        parse_and_print(&format, (const char *)end + 1, size - (size_t)(end - data) - 1);
    error_free(err);
    free(pattern);
    return 0;
}
