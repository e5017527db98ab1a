/* Texts that findings are made of: times, durations, causes. Pure. */
#include "jobmanager/diagnosis/facts.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define CAUSE_BYTES_MAX 400
#define MS_PER_S 1000
#define MS_PER_MIN (60 * MS_PER_S)
#define MS_PER_HOUR (60 * MS_PER_MIN)

static bool break_down(int64_t time_ms, struct tm *parts, int64_t *ms)
{
    int64_t seconds = time_ms / MS_PER_S;
    *ms = time_ms % MS_PER_S;
    if (*ms < 0) {
        *ms += MS_PER_S;
        seconds--;
    }
    time_t time = (time_t)seconds;
    return gmtime_r(&time, parts) != NULL;
}

char *words_time(int64_t time_ms)
{
    struct tm parts;
    int64_t ms;
    char text[64];
    if (!break_down(time_ms, &parts, &ms) || strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        return heap_printf("%" PRId64 " ms", time_ms);
    return heap_strdup(text);
}

char *words_event_time(int64_t time_ms)
{
    struct tm parts;
    int64_t ms;
    char text[64];
    if (time_ms == TIME_UNSET)
        return heap_strdup("none");
    if (!break_down(time_ms, &parts, &ms) || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
        return heap_printf("%" PRId64 " ms", time_ms);
    return heap_printf("%s.%03" PRId64 "Z", text, ms);
}

char *words_duration(int64_t duration_ms)
{
    int64_t seconds = duration_ms / MS_PER_S;
    if (duration_ms < 10 * MS_PER_S)
        return duration_ms < MS_PER_S ? heap_printf("%" PRId64 " ms", duration_ms < 0 ? 0 : duration_ms)
                                      : heap_printf("%" PRId64 ".%" PRId64 " s", seconds, duration_ms % MS_PER_S / 100);
    if (duration_ms < MS_PER_MIN)
        return heap_printf("%" PRId64 " s", seconds);
    if (duration_ms < MS_PER_HOUR)
        return heap_printf("%" PRId64 " min %" PRId64 " s", seconds / 60, seconds % 60);
    if (duration_ms < 48 * (int64_t)MS_PER_HOUR)
        return heap_printf("%" PRId64 " h %" PRId64 " min", seconds / 3600, seconds / 60 % 60);
    return heap_printf("%" PRId64 " days", seconds / 86400);
}

char *words_since(int64_t since_ms, int64_t now_ms)
{
    char *time = words_time(since_ms);
    char *duration = words_duration(now_ms - since_ms);
    char *text = heap_printf("since %s (%s)", time, duration);
    free(time);
    free(duration);
    return text;
}

const char *words_plural(int64_t count, const char *one, const char *many)
{
    return count == 1 ? one : many;
}

/* "org.apache.flink.X: text" and "CONNECTOR: text" without their first word. */
static const char *without_class(const char *text)
{
    size_t length = strcspn(text, ": \n");
    if (text[length] != ':' || text[length + 1] != ' ')
        return text;
    bool is_code = length > 0, has_dot = false;
    for (size_t i = 0; i < length; i++) {
        has_dot = has_dot || text[i] == '.';
        is_code = is_code && (isupper((unsigned char)text[i]) || text[i] == '_');
    }
    bool is_class = has_dot || (length > 9 && memcmp(text + length - 9, "Exception", 9) == 0);
    return is_code || is_class ? text + length + 2 : text;
}

static void append_storey(struct str_buf *out, const char *start)
{
    size_t length = strcspn(start, "\n");
    while (length > 0 && (start[length - 1] == '.' || start[length - 1] == ' '))
        length--;
    str_buf_append_bytes(out, start, length);
}

/* Storeys that tell how the job reacts, not what happened. */
static bool is_reaction(const char *storey)
{
    return strncmp(storey, "Recovery is suppressed by", 25) == 0 || strncmp(storey, "The failure is not recoverable", 30) == 0;
}

char *words_cause(const char *text)
{
    static const char mark[] = "\nCaused by: ";
    const char *outer = NULL, *inner = NULL;
    for (const char *storey = text; storey != NULL;) {
        const char *words = without_class(storey);
        if (!is_reaction(words) && *words != '\0' && *words != '\n') {
            outer = outer == NULL ? words : outer;
            inner = words;
        }
        storey = strstr(storey, mark);
        storey = storey != NULL ? storey + sizeof mark - 1 : NULL;
    }
    struct str_buf out = {0};
    append_storey(&out, outer != NULL ? outer : "an unknown cause");
    if (inner != outer) {
        str_buf_append(&out, ": ");
        append_storey(&out, inner);
    }
    if (out.length > CAUSE_BYTES_MAX) {
        size_t end = CAUSE_BYTES_MAX;
        while (end > 0 && ((unsigned char)out.text[end] & 0xc0) == 0x80) /* not within a character */
            end--;
        out.length = end;
        out.text[end] = '\0';
        str_buf_append(&out, "…");
    }
    return str_buf_detach(&out);
}
