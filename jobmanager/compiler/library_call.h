/* The part that runs in the forked child: opens the shared object and calls its entry point. */
#ifndef MILLRACE_COMPILER_LIBRARY_CALL_H
#define MILLRACE_COMPILER_LIBRARY_CALL_H

#include <stdint.h>

enum library_call_stage { CALL_OPENING, CALL_IN_ENTRY, CALL_RETURNED };

/* In memory that parent and child share: how far the child came. */
struct library_call_state {
    volatile enum library_call_stage stage;
    volatile int return_code;
};

/* Never returns: the process ends. Problems with the file go to graph_fd as an {"error": …} line. */
_Noreturn void library_call(const char *path, const char *entry, char *const *args, int arg_count, int graph_fd, struct library_call_state *state);

#endif
