/* The life cycles of jobs, executions and checkpoints as enums, names and transition tables, generated from the *.def files
 * beside this one. Pure; thread: any. */
#ifndef MILLRACE_CORE_LIFE_CYCLE_H
#define MILLRACE_CORE_LIFE_CYCLE_H

#include <stdbool.h>

enum job_state {
#define STATE(name, is_terminal) JOB_##name,
#define EDGE(from, to)
#include "jobmanager/core/job_state.def"
#undef STATE
#undef EDGE
    JOB_STATE_COUNT
};

enum execution_state {
#define STATE(name, is_terminal) EXECUTION_##name,
#define EDGE(from, to)
#include "jobmanager/core/execution_state.def"
#undef STATE
#undef EDGE
    EXECUTION_STATE_COUNT
};

enum checkpoint_state {
#define STATE(name, rest, is_terminal) CHECKPOINT_##name,
#define EDGE(from, to)
#include "jobmanager/core/checkpoint_state.def"
#undef STATE
#undef EDGE
    CHECKPOINT_STATE_COUNT
};

/* Names in Flink's spelling: "RUNNING". */
const char *job_state_name(enum job_state state);
const char *execution_state_name(enum execution_state state);
/* What REST shows: IN_PROGRESS, COMPLETED or FAILED. */
const char *checkpoint_state_rest_name(enum checkpoint_state state);
/* False when the name is unknown; *out is untouched then. */
bool execution_state_from_name(const char *name, enum execution_state *out);

bool job_state_is_terminal(enum job_state state);
bool execution_state_is_terminal(enum execution_state state);

/* Whether the table has the edge. */
bool job_state_can(enum job_state from, enum job_state to);
bool execution_state_can(enum execution_state from, enum execution_state to);
bool checkpoint_state_can(enum checkpoint_state from, enum checkpoint_state to);

#endif
