/* Log lines: see log.h. The file descriptor is guarded by a mutex because any thread may log and because rolling
 * replaces it. */
#include "common/base/log.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_int log_threshold = LOG_INFO;
static int log_fd = -1;
static char *log_path;
static size_t log_size_bytes;
static size_t log_max_bytes;
static int log_max_files;
static int log_console = STDERR_FILENO;

static const char *const level_names[] = {"TRACE", "DEBUG", "INFO ", "WARN ", "ERROR"};

static const struct {
    const char *noun;
    const char *name;
} log_names[] = {
#define LOG_NAME(noun, name) {noun, name},
#include "common/base/log_names.def"
#undef LOG_NAME
};

/* A noun without a row stays what it is: the lines of runners come with their full names already. */
static const char *full_name(const char *noun)
{
    for (size_t i = 0; i < sizeof log_names / sizeof *log_names; i++)
        if (strcmp(log_names[i].noun, noun) == 0)
            return log_names[i].name;
    return noun;
}

struct error *log_open_file(const char *path, size_t max_bytes, int max_files)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_errno(errno, "could not open log file %s", path);
    struct stat info;
    pthread_mutex_lock(&log_mutex);
    if (log_fd >= 0)
        close(log_fd);
    free(log_path);
    log_fd = fd;
    log_path = heap_strdup(path);
    log_size_bytes = fstat(fd, &info) == 0 ? (size_t)info.st_size : 0;
    log_max_bytes = max_bytes;
    log_max_files = max_files;
    pthread_mutex_unlock(&log_mutex);
    return NULL;
}

void log_set_console(int fd)
{
    pthread_mutex_lock(&log_mutex);
    log_console = fd;
    pthread_mutex_unlock(&log_mutex);
}

const char *log_file_path(void)
{
    return log_path;
}

void log_set_level(enum log_level level)
{
    atomic_store(&log_threshold, (int)level);
}

enum log_level log_level_from_name(const char *name, enum log_level otherwise)
{
    static const char *const names[] = {"TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OFF"};
    for (int i = 0; name != NULL && i < 6; i++)
        if (strcasecmp(names[i], name) == 0)
            return (enum log_level)i;
    return otherwise;
}

void log_close(void)
{
    pthread_mutex_lock(&log_mutex);
    if (log_fd >= 0)
        close(log_fd);
    log_fd = -1;
    free(log_path);
    log_path = NULL;
    pthread_mutex_unlock(&log_mutex);
}

/* path.1 becomes path.2 and so on; called with the mutex held. A failure leaves the current file in use: a log that
 * grows too large is better than none. */
static void log_roll(void)
{
    for (int i = log_max_files; i >= 1; i--) {
        char *older = heap_printf("%s.%d", log_path, i);
        char *newer = i == 1 ? heap_strdup(log_path) : heap_printf("%s.%d", log_path, i - 1);
        (void)rename(newer, older);
        free(older);
        free(newer);
    }
    int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    close(log_fd);
    log_fd = fd;
    log_size_bytes = 0;
}

static void log_emit(enum log_level level, const char *logger, const char *text)
{
    struct timespec now;
    struct tm local;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    struct str_buf line = {0};
    str_buf_printf(&line, "%04d-%02d-%02d %02d:%02d:%02d,%03ld %s %-60s [] - %s\n", local.tm_year + 1900, local.tm_mon + 1,
                   local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec, now.tv_nsec / 1000000, level_names[level],
                   full_name(logger), text);
    pthread_mutex_lock(&log_mutex);
    bool is_lost = false;
    if (log_fd >= 0) {
        if (log_max_bytes != 0 && log_size_bytes + line.length > log_max_bytes)
            log_roll();
        ssize_t written = write(log_fd, line.text, line.length);
        if (written > 0)
            log_size_bytes += (size_t)written;
        is_lost = written < 0;
    }
    int console = log_console < 0 && is_lost ? STDERR_FILENO : log_console;
    if (console >= 0) {
        ssize_t ignored = write(console, line.text, line.length);
        (void)ignored; /* there is nobody left to tell */
    }
    pthread_mutex_unlock(&log_mutex);
    str_buf_finish(&line);
}

void log_write(enum log_level level, const char *logger, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&log_threshold, memory_order_relaxed))
        return;
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0)
        return;
    log_emit(level, logger, text);
    free(text);
}

void log_error_chain(enum log_level level, const char *logger, const struct error *err, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&log_threshold, memory_order_relaxed))
        return;
    struct str_buf text = {0};
    char *first = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&first, format, args) >= 0)
        str_buf_append(&text, first);
    va_end(args);
    free(first);
    for (const struct error *e = err; e != NULL; e = e->cause) {
        str_buf_printf(&text, "\n%s%s: %s", e == err ? "" : "Caused by: ", error_code_name(e->code), e->message);
        if (e->hint != NULL)
            str_buf_printf(&text, " (%s)", e->hint);
    }
    log_emit(level, logger, str_buf_text(&text));
    str_buf_finish(&text);
}
