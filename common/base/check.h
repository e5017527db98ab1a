/* Assertions on our own invariants, never on input. check() stays in every build, dcheck() only without NDEBUG. */
#ifndef MILLRACE_BASE_CHECK_H
#define MILLRACE_BASE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define check(condition)                                                                                               \
    do {                                                                                                               \
        if (__builtin_expect(!(condition), 0)) {                                                                       \
            fprintf(stderr, "%s:%d: invariant broken: %s\n", __FILE__, __LINE__, #condition);                          \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#ifdef NDEBUG
#define dcheck(condition) ((void)sizeof(condition))
#else
#define dcheck(condition) check(condition)
#endif

#endif
