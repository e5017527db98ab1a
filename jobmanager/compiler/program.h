/* Running a program's entry point to get the operators that it describes. */
#ifndef MILLRACE_COMPILER_PROGRAM_H
#define MILLRACE_COMPILER_PROGRAM_H

#include "common/base/error.h"

#include <jansson.h>
#include <stdint.h>

struct program_request {
    const char *library;   /* path of the shared object */
    const char *entry;     /* "main" */
    const json_t *config;  /* flat object of strings: what mr_env_get sees */
    char *const *args;     /* after the program's name */
    int arg_count;
    int64_t timeout_ms;
};

/* *out: the operators document that mr_execute handed over (new reference).
 * errors: INVALID_PROGRAM (no shared object, ABI, no entry point, a mistake of the program, no job, two jobs), USER_FUNCTION
 * (crash), TIMEOUT. What the program printed (the last 64 KiB) is part of the message.
 * thread: the process's only one (it forks). */
MUST_CHECK struct error *program_run(const struct program_request *request, json_t **out);

#endif
