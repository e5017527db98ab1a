/* Standard error of task runners: their log lines go into the taskmanager's log, so that one file tells the whole story; what user code
 * prints goes with its standard output. Thread: the loop's. */
#include "common/base/heap.h"
#include "common/base/log.h"
#include "taskmanager/agent/agent_private.h"

#include <ctype.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 64 << 10 };

/* "2023-09-10 14:51:30,123 INFO  Logger [] - text": the shape of log.h. */
static bool is_stamp(const char *line, size_t length)
{
    static const char shape[] = "dddd-dd-dd dd:dd:dd,ddd ";
    if (length < sizeof shape + 8)
        return false;
    for (size_t i = 0; i < sizeof shape - 1; i++)
        if (shape[i] == 'd' ? !isdigit((unsigned char)line[i]) : line[i] != shape[i])
            return false;
    return true;
}

static bool log_line(const char *line, size_t length)
{
    const size_t level_at = 24;
    const size_t level_bytes = 6;
    if (!is_stamp(line, length))
        return false;
    char level_name[8] = "";
    char logger[64] = "";
    memcpy(level_name, line + level_at, level_bytes - 1);
    level_name[strcspn(level_name, " ")] = '\0';
    enum log_level level = log_level_from_name(level_name, LOG_OFF);
    const char *mark = strstr(line + level_at, " [] - ");
    const char *logger_at = line + level_at + level_bytes;
    if (level == LOG_OFF || mark == NULL || mark < logger_at || (size_t)(mark - logger_at) >= sizeof logger)
        return false;
    memcpy(logger, logger_at, (size_t)(mark - logger_at));
    logger[strcspn(logger, " ")] = '\0';
    log_write(level, logger, "%s", mark + strlen(" [] - "));
    return true;
}

static void print_text(struct runner *runner, const char *text, size_t length)
{
    int fd = runner->agent->out_fd >= 0 ? runner->agent->out_fd : STDERR_FILENO;
    while (length > 0) {
        ssize_t count = write(fd, text, length);
        if (count <= 0)
            return; /* a full disk must not stop the taskmanager */
        text += count;
        length -= (size_t)count;
    }
}

static void take_line(struct runner *runner)
{
    struct str_buf *line = &runner->err_line;
    if (!log_line(str_buf_text(line), line->length)) {
        str_buf_append_char(line, '\n');
        print_text(runner, line->text, line->length);
    }
    str_buf_clear(line);
}

/* Lines that belong to a log line above them: causes and stack frames. */
static bool is_continuation(const char *at, const char *end)
{
    return at < end && (*at == '\t' || (end - at > 10 && strncmp(at, "Caused by:", 10) == 0));
}

void runner_output_feed(struct runner *runner, const char *bytes, size_t length)
{
    const char *end = bytes + length;
    while (bytes < end) {
        const char *newline = memchr(bytes, '\n', (size_t)(end - bytes));
        size_t part = (size_t)((newline != NULL ? newline : end) - bytes);
        str_buf_append_bytes(&runner->err_line, bytes, part);
        bytes += part + (newline != NULL);
        if (newline != NULL && is_continuation(bytes, end) && is_stamp(str_buf_text(&runner->err_line), runner->err_line.length))
            str_buf_append_char(&runner->err_line, '\n');
        else if (newline != NULL || runner->err_line.length > LINE_BYTES_MAX)
            take_line(runner);
    }
}

void runner_output_end(struct runner *runner)
{
    if (runner->err_line.length > 0)
        take_line(runner);
}
