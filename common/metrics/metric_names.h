/* The table of all metrics (metric_names.def) as data: what REST lists, what Prometheus is given and what docs/metrics.md says
 * come from its rows. Thread: any; everything is constant. */
#ifndef MILLRACE_METRICS_METRIC_NAMES_H
#define MILLRACE_METRICS_METRIC_NAMES_H

#include <stdbool.h>
#include <stddef.h>

enum metric_scope {
    METRIC_SCOPE_DAEMON, /* rows only: jobmanager and taskmanager have them */
    METRIC_SCOPE_JOBMANAGER,
    METRIC_SCOPE_TASKMANAGER,
    METRIC_SCOPE_JOB,
    METRIC_SCOPE_TASK,
    METRIC_SCOPE_OPERATOR,
    METRIC_SCOPE_COUNT
};

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_REAL, METRIC_FLAG, METRIC_TEXT, METRIC_METER, METRIC_HISTOGRAM };

struct metric_name {
    enum metric_scope scope;
    const char *name;
    enum metric_type type;
    const char *unit;
    const char *of;
    const char *help;
};

#define METRIC_KEYS_MAX 2
#define METRIC_WILDCARDS "*#" /* in names of rows: the value of a key, a piece that depends on the machine */

/* A name that has the form of a row: the pieces that its stars stand for, by the key before each. */
struct metric_match {
    const struct metric_name *row;
    struct metric_key {
        const char *key; /* "topic"; points into the row's name */
        size_t key_length;
        const char *value; /* points into the name that was looked up */
        size_t value_length;
    } keys[METRIC_KEYS_MAX];
    size_t key_count;
};

extern const struct metric_name metric_rows[];
extern const size_t metric_row_count;

/* Flink's logical scope with `_` between its parts: "taskmanager_job_task". Not of DAEMON. */
const char *metric_scope_text(enum metric_scope scope);
/* The row for a name as REST spells it (without the operator's name); rows of DAEMON belong to both daemons. False: there is none, it is
 * the user's own. */
bool metric_find(enum metric_scope scope, const char *name, struct metric_match *out);
/* The counter's rate per second: the row of the METER whose counter is name; NULL when there is none. */
const struct metric_name *metric_meter_of(enum metric_scope scope, const char *counter);

#endif
