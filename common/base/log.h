/* Log lines in Flink's format (log4j pattern `%d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %-60c %x - %m%n`):
 * `2023-09-10 14:51:30,123 INFO  org.apache.flink.runtime.executiongraph.ExecutionGraph       [] - text`.
 * The logger is a component noun, which log_names.def turns into the class name that Flink's log has for it, because people and
 * tools search for those. Thread: any; a line is one write(2). Messages name ids. Never per record. Continuation
 * lines (causes) go into the text after a newline. */
#ifndef MILLRACE_BASE_LOG_H
#define MILLRACE_BASE_LOG_H

#include "common/base/error.h"

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

/* Lines go to this descriptor (standard error until it is set; -1: none) and to the file, where there is one. A line that the
 * file does not take goes to standard error when there is no console. */
void log_set_console(int fd);
/* Keeps max_files old files (name.1, name.2 …) of max_bytes each. errors: IO */
MUST_CHECK struct error *log_open_file(const char *path, size_t max_bytes, int max_files);
/* Borrowed; NULL without a file. */
const char *log_file_path(void);
void log_set_level(enum log_level level);
enum log_level log_level_from_name(const char *name, enum log_level otherwise);
/* Closes the file; lines go on to the console. */
void log_close(void);

void log_write(enum log_level level, const char *logger, const char *format, ...) PRINTF_LIKE(3, 4);
#define log_debug(logger, ...) log_write(LOG_DEBUG, logger, __VA_ARGS__)
#define log_info(logger, ...) log_write(LOG_INFO, logger, __VA_ARGS__)
#define log_warn(logger, ...) log_write(LOG_WARN, logger, __VA_ARGS__)
#define log_error(logger, ...) log_write(LOG_ERROR, logger, __VA_ARGS__)
/* text, then the error chain, one `Caused by:` line a storey. Does not free err. */
void log_error_chain(enum log_level level, const char *logger, const struct error *err, const char *format, ...) PRINTF_LIKE(4, 5);

#endif
