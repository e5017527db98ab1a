/* Errors as values: see error.h. Creation never fails: when memory is short a static error is returned. */
#include "common/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char out_of_memory_message[] = "out of memory";
static struct error out_of_memory_error = {.code = ERR_OUT_OF_MEMORY, .message = out_of_memory_message};

static const struct {
    const char *name;
    enum error_domain domain;
    bool retriable;
    int http_status;
} codes[ERROR_CODE_COUNT] = {
#define ERROR_CODE(name, domain, retriable, http_status, text) {#name, DOMAIN_##domain, retriable, http_status},
#include "common/base/error_codes.def"
#undef ERROR_CODE
};

PRINTF_LIKE(6, 0)
static struct error *error_create_va(enum error_code code, struct error *cause, const char *file, int line, const char *suffix,
                                     const char *format, va_list args)
{
    struct error *err = calloc(1, sizeof *err);
    char *message = NULL;
    if (err == NULL || vasprintf(&message, format, args) < 0) {
        free(err);
        error_free(cause);
        return &out_of_memory_error;
    }
    if (suffix != NULL) {
        char *joined = NULL;
        if (asprintf(&joined, "%s: %s", message, suffix) >= 0) {
            free(message);
            message = joined;
        }
    }
    *err = (struct error){.code = code, .message = message, .cause = cause, .file = file, .line = line};
    return err;
}

struct error *error_create(enum error_code code, const char *file, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct error *err = error_create_va(code, NULL, file, line, NULL, format, args);
    va_end(args);
    return err;
}

struct error *error_create_wrap(struct error *cause, const char *file, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct error *err = error_create_va(cause != NULL ? cause->code : ERR_INTERNAL, cause, file, line, NULL, format, args);
    va_end(args);
    return err;
}

struct error *error_create_errno(int errnum, const char *file, int line, const char *format, ...)
{
    char text[256];
    enum error_code code = errnum == ENOENT ? ERR_NOT_FOUND : errnum == ENOMEM ? ERR_OUT_OF_MEMORY : ERR_IO;
    va_list args;
    va_start(args, format);
    struct error *err = error_create_va(code, NULL, file, line, strerror_r(errnum, text, sizeof text), format, args);
    va_end(args);
    return err;
}

struct error *error_with_hint(struct error *err, const char *format, ...)
{
    if (err == NULL || err == &out_of_memory_error)
        return err;
    char *hint = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&hint, format, args) >= 0) {
        free(err->hint);
        err->hint = hint;
    }
    va_end(args);
    return err;
}

void error_free(struct error *err)
{
    while (err != NULL && err != &out_of_memory_error) {
        struct error *cause = err->cause;
        free(err->message);
        free(err->hint);
        free(err);
        err = cause;
    }
}

char *error_text(const struct error *err)
{
    size_t size = 1;
    for (const struct error *e = err; e != NULL; e = e->cause)
        size += strlen(e->message) + 2 + (e->hint != NULL ? strlen(e->hint) + 3 : 0);
    char *text = malloc(size);
    if (text == NULL)
        abort();
    char *end = text;
    for (const struct error *e = err; e != NULL; e = e->cause) {
        end = stpcpy(end, e->message);
        if (e->hint != NULL)
            end = stpcpy(stpcpy(stpcpy(end, " ("), e->hint), ")");
        if (e->cause != NULL)
            end = stpcpy(end, ": ");
    }
    *end = '\0';
    return text;
}

const char *error_code_name(enum error_code code)
{
    return codes[code].name;
}

enum error_code error_code_from_name(const char *name)
{
    for (int i = 0; i < ERROR_CODE_COUNT; i++)
        if (name != NULL && strcmp(codes[i].name, name) == 0)
            return (enum error_code)i;
    return ERR_INTERNAL;
}

enum error_domain error_code_domain(enum error_code code)
{
    return codes[code].domain;
}

bool error_code_is_retriable(enum error_code code)
{
    return codes[code].retriable;
}

int error_code_http_status(enum error_code code)
{
    return codes[code].http_status;
}
