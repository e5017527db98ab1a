/* 128-bit ids of jobs, vertices, executions and triggers, written as 32 hex digits (Flink's AbstractID). */
#ifndef MILLRACE_BASE_ID_H
#define MILLRACE_BASE_ID_H

#include <stdbool.h>
#include <stdint.h>

#define ID_HEX_LENGTH 32

struct id {
    uint8_t bytes[16];
};

struct id_text {
    char hex[ID_HEX_LENGTH + 1];
};

/* Random, from the kernel. The coordinator core gets ids as arguments instead. */
struct id id_random(void);
/* Upper case is accepted; anything but exactly 32 hex digits is refused. */
bool id_parse(const char *text, struct id *out);
/* By value, so that it can stand in an argument list: id_format(id).hex */
struct id_text id_format(struct id id);
bool id_equals(struct id a, struct id b);
bool id_is_zero(struct id id);

#endif
