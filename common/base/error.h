/* Errors as values. A fallible call returns struct error * (NULL is success); the caller owns it and either
 * returns it upward (TRY, error_wrap), or handles it and calls error_free. Out-parameters of a failed call are
 * untouched. Log or return, never both. Thread: any; an error belongs to one thread at a time. */
#ifndef MILLRACE_BASE_ERROR_H
#define MILLRACE_BASE_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdarg.h>

enum error_code {
#define ERROR_CODE(name, domain, retriable, http_status, text) ERR_##name,
#include "common/base/error_codes.def"
#undef ERROR_CODE
    ERROR_CODE_COUNT
};

enum error_domain { DOMAIN_USER, DOMAIN_EXTERNAL, DOMAIN_INTERNAL };

struct error {
    enum error_code code;
    char *message;       /* short, lower case, no full stop, names the offender */
    char *hint;          /* what the user can do; may be NULL */
    struct error *cause; /* one storey below; may be NULL */
    const char *file;    /* where it was created */
    int line;
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NEVER_NULL __attribute__((returns_nonnull))

#define error_new(code, ...) error_create(ERR_##code, __FILE__, __LINE__, __VA_ARGS__)
#define error_wrap(cause, ...) error_create_wrap(cause, __FILE__, __LINE__, __VA_ARGS__)
/* Appends strerror(errnum). */
#define error_errno(errnum, ...) error_create_errno(errnum, __FILE__, __LINE__, __VA_ARGS__)

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        struct error *try_error_ = (call);                                                                             \
        if (try_error_ != NULL)                                                                                        \
            return try_error_;                                                                                         \
    } while (0)

/* For functions that hold `struct error *err`: unwinds through a label. */
#define TRY_GOTO(label, call)                                                                                          \
    do {                                                                                                               \
        err = (call);                                                                                                  \
        if (err != NULL)                                                                                               \
            goto label;                                                                                                \
    } while (0)

MUST_CHECK NEVER_NULL struct error *error_create(enum error_code code, const char *file, int line, const char *format, ...) PRINTF_LIKE(4, 5);
/* Takes cause; the new error has the cause's code. */
MUST_CHECK NEVER_NULL struct error *error_create_wrap(struct error *cause, const char *file, int line, const char *format, ...) PRINTF_LIKE(4, 5);
MUST_CHECK NEVER_NULL struct error *error_create_errno(int errnum, const char *file, int line, const char *format, ...) PRINTF_LIKE(4, 5);
/* Takes err, returns it with the hint set. */
MUST_CHECK struct error *error_with_hint(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);
/* Accepts NULL. */
void error_free(struct error *err);

/* "message: cause: cause (hint)", malloced, caller frees. */
char *error_text(const struct error *err);
const char *error_code_name(enum error_code code);
/* Code from its name as error_code_name gives it; INTERNAL when unknown. */
enum error_code error_code_from_name(const char *name);
enum error_domain error_code_domain(enum error_code code);
bool error_code_is_retriable(enum error_code code);
int error_code_http_status(enum error_code code);

#endif
