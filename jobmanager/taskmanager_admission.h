/* Who may become a taskmanager: greeted connections before their REGISTER, and what REGISTER may say. Without a shared secret
 * (security.internal.secret-file) anybody who speaks the protocol gets this far. Thread: the loop. */
#ifndef MILLRACE_JOBMANAGER_TASKMANAGER_ADMISSION_H
#define MILLRACE_JOBMANAGER_TASKMANAGER_ADMISSION_H

#include "jobmanager/taskmanager_link.h"

/* A connection was greeted and is in the table: it has some seconds to register, and when there are too many like it, the one that
 * came first gives way. */
void taskmanager_admission_begin(struct taskmanager_link *link);
/* It registered, or is gone. */
void taskmanager_admission_end(struct taskmanager_link *link);
/* errors: PROTOCOL, naming the member: numbers that no taskmanager can mean (they size tables), names that are empty, endless, or
 * would forge lines of the log. */
MUST_CHECK struct error *taskmanager_admission_check(const json_t *registration);

#endif
