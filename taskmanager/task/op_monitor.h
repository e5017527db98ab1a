/* Where a task's time goes, operator by operator, and what its operators say about the outside: read by any thread while the task
 * works, also while it is blocked in the midst of a batch and answers no mail. The task thread's time always belongs to exactly
 * one place: the loop (idle, soft back pressure, everything between batches), the shuffle (serializing for other tasks, waiting for
 * room there), an operator's own code, or an operator's wait for the outside (a broker, a disk). A switch costs a clock reading;
 * it happens a few times a batch, never per row.
 * Owner: the task. Writer: the task thread; a status may come from any thread. */
#ifndef MILLRACE_TASK_OP_MONITOR_H
#define MILLRACE_TASK_OP_MONITOR_H

#include <jansson.h>
#include <stdint.h>

#define OP_PLACE_LOOP 0
#define OP_PLACE_SHUFFLE 1

struct op_monitor;

/* Of the operators of a chain, by their index in it. */
struct op_monitor *op_monitor_create(uint32_t operator_count);
/* Accepts NULL. */
void op_monitor_destroy(struct op_monitor *monitor);

static inline uint32_t op_place_own(uint32_t index)
{
    return 2 + 2 * index;
}

static inline uint32_t op_place_wait(uint32_t index)
{
    return 3 + 2 * index;
}

/* Task thread: its time begins to count, for the loop. */
void op_monitor_start(struct op_monitor *monitor);
/* Task thread: from now on its time belongs to place. Returns the place before. monitor may be NULL: nothing happens. */
uint32_t op_monitor_switch(struct op_monitor *monitor, uint32_t place);

/* Any thread. code: a word for rules ("broker-unreachable"); subject: topic or broker, may be NULL; text: for people. The same code
 * and subject again keep the time of the first. code NULL: all is well again. */
void op_monitor_set_status(struct op_monitor *monitor, uint32_t index, const char *code, const char *subject, const char *text);

/* Any thread: adds an operator's times to the "metrics" of its part of a report and, when there is one, its "status" {"code", "subject",
 * "text", "since"}. */
void op_monitor_put_json(struct op_monitor *monitor, uint32_t index, json_t *json);
/* Any thread: total of the shuffle. */
int64_t op_monitor_shuffle_ms(struct op_monitor *monitor);

#endif
