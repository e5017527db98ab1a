/* Names of functions from addresses in this process, as far as symbol tables reach: .symtab where a file was not stripped (static
 * functions too), else .dynsym. Tables are read from the files once and kept. Thread: any, serialised inside; not for signal handlers. */
#ifndef MILLRACE_BASE_SYMBOLS_H
#define MILLRACE_BASE_SYMBOLS_H

#include <stddef.h>

/* "task_run (task-runner)", "poll (libc.so.6)", or "0x1a2b (libfoo.so)" without a symbol; cut to length. address: of an instruction. */
void symbols_describe(const void *address, char *out, size_t length);

#endif
