/* Log lines in Flink's format: `2023-09-10 14:51:30,123 INFO  ExecutionGraph [] - text`.
 * The logger is a component noun (the class name in Flink's own log without its package). Thread: any; a line is one
 * write(2). Messages name ids. Never per record. Continuation lines (causes) go into the text after a newline. */
#ifndef MILLRACE_BASE_LOG_H
#define MILLRACE_BASE_LOG_H

#include "common/base/error.h"

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

/* Where lines go: standard error until log_open_file. Keeps max_files old files (name.1, name.2 …) of max_bytes each;
 * copy_to_stderr also writes each line to standard error. */
MUST_CHECK struct error *log_open_file(const char *path, size_t max_bytes, int max_files, bool copy_to_stderr);
/* Borrowed; NULL when logging to standard error only. */
const char *log_file_path(void);
void log_set_level(enum log_level level);
enum log_level log_level_from_name(const char *name, enum log_level otherwise);
void log_close(void);

void log_write(enum log_level level, const char *logger, const char *format, ...) PRINTF_LIKE(3, 4);
#define log_debug(logger, ...) log_write(LOG_DEBUG, logger, __VA_ARGS__)
#define log_info(logger, ...) log_write(LOG_INFO, logger, __VA_ARGS__)
#define log_warn(logger, ...) log_write(LOG_WARN, logger, __VA_ARGS__)
#define log_error(logger, ...) log_write(LOG_ERROR, logger, __VA_ARGS__)
/* text, then the error chain, one `Caused by:` line a storey. Does not free err. */
void log_error_chain(enum log_level level, const char *logger, const struct error *err, const char *format, ...) PRINTF_LIKE(4, 5);

#endif
