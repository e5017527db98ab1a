/* Tables of the life cycles: see life_cycle.h. A table is a bit per (from, to). */
#include "jobmanager/core/life_cycle.h"

#include "common/base/check.h"

#include <stdint.h>
#include <string.h>

static const char *const job_names[] = {
#define STATE(name, is_terminal) #name,
#define EDGE(from, to)
#include "jobmanager/core/job_state.def"
#undef STATE
#undef EDGE
};
static const bool job_terminal[] = {
#define STATE(name, is_terminal) is_terminal,
#define EDGE(from, to)
#include "jobmanager/core/job_state.def"
#undef STATE
#undef EDGE
};
static const bool job_edges[JOB_STATE_COUNT][JOB_STATE_COUNT] = {
#define STATE(name, is_terminal)
#define EDGE(from, to) [JOB_##from][JOB_##to] = true,
#include "jobmanager/core/job_state.def"
#undef STATE
#undef EDGE
};

static const char *const execution_names[] = {
#define STATE(name, is_terminal) #name,
#define EDGE(from, to)
#include "jobmanager/core/execution_state.def"
#undef STATE
#undef EDGE
};
static const bool execution_terminal[] = {
#define STATE(name, is_terminal) is_terminal,
#define EDGE(from, to)
#include "jobmanager/core/execution_state.def"
#undef STATE
#undef EDGE
};
static const bool execution_edges[EXECUTION_STATE_COUNT][EXECUTION_STATE_COUNT] = {
#define STATE(name, is_terminal)
#define EDGE(from, to) [EXECUTION_##from][EXECUTION_##to] = true,
#include "jobmanager/core/execution_state.def"
#undef STATE
#undef EDGE
};

static const char *const checkpoint_rest_names[] = {
#define STATE(name, rest, is_terminal) rest,
#define EDGE(from, to)
#include "jobmanager/core/checkpoint_state.def"
#undef STATE
#undef EDGE
};
static const bool checkpoint_edges[CHECKPOINT_STATE_COUNT][CHECKPOINT_STATE_COUNT] = {
#define STATE(name, rest, is_terminal)
#define EDGE(from, to) [CHECKPOINT_##from][CHECKPOINT_##to] = true,
#include "jobmanager/core/checkpoint_state.def"
#undef STATE
#undef EDGE
};

const char *job_state_name(enum job_state state)
{
    check(state < JOB_STATE_COUNT);
    return job_names[state];
}

const char *execution_state_name(enum execution_state state)
{
    check(state < EXECUTION_STATE_COUNT);
    return execution_names[state];
}

const char *checkpoint_state_rest_name(enum checkpoint_state state)
{
    check(state < CHECKPOINT_STATE_COUNT);
    return checkpoint_rest_names[state];
}

bool execution_state_from_name(const char *name, enum execution_state *out)
{
    for (unsigned i = 0; i < EXECUTION_STATE_COUNT; i++) {
        if (strcmp(name, execution_names[i]) == 0) {
            *out = (enum execution_state)i;
            return true;
        }
    }
    return false;
}

bool job_state_is_terminal(enum job_state state)
{
    check(state < JOB_STATE_COUNT);
    return job_terminal[state];
}

bool execution_state_is_terminal(enum execution_state state)
{
    check(state < EXECUTION_STATE_COUNT);
    return execution_terminal[state];
}

bool job_state_can(enum job_state from, enum job_state to)
{
    return from < JOB_STATE_COUNT && to < JOB_STATE_COUNT && job_edges[from][to];
}

bool execution_state_can(enum execution_state from, enum execution_state to)
{
    return from < EXECUTION_STATE_COUNT && to < EXECUTION_STATE_COUNT && execution_edges[from][to];
}

bool checkpoint_state_can(enum checkpoint_state from, enum checkpoint_state to)
{
    return from < CHECKPOINT_STATE_COUNT && to < CHECKPOINT_STATE_COUNT && checkpoint_edges[from][to];
}
