/* The uploaded shared object of a job: opened once per task runner, functions are found by symbol.
 * The object is never closed before the process ends its last job (functions and constants in it are referenced
 * everywhere). Thread: user_library_open on one thread, lookups on any. */
#ifndef MILLRACE_TASK_USER_LIBRARY_H
#define MILLRACE_TASK_USER_LIBRARY_H

#include "common/base/error.h"
#include "millrace/function.h"

struct user_library;

/* Opens the file with RTLD_NOW | RTLD_LOCAL and checks millrace_abi_version. Errors are INVALID_PROGRAM and name the file:
 * not an ELF shared object of this machine, an undefined symbol, no or another ABI version. */
MUST_CHECK struct error *user_library_open(const char *path, struct user_library **out);
/* The running program itself as a library, for jobs whose functions are linked into it (tests, benches). */
MUST_CHECK struct error *user_library_open_program(struct user_library **out);
/* Accepts NULL. */
void user_library_close(struct user_library *library);

/* The function of that symbol; the error names symbol and library: no library (NULL), no such symbol, another kind. */
MUST_CHECK struct error *user_library_function(const struct user_library *library, const char *symbol,
                                               enum mr_function_kind kind, const struct mr_function **out);
const char *mr_function_kind_name(enum mr_function_kind kind);

#endif
