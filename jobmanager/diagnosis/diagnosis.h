/* Why does nothing come out of a job? A pure function from what the jobmanager knows (the coordinator's view of the job, the last
 * metrics of its tasks, slots, checkpoints, the time) to a list of findings, worst first. Each finding is one sentence that
 * names the offender: a partition, a task, a sink, a number of slots. No I/O and no state: everything that says "since" comes
 * from who owns it (the source's thread, the coordinator), so that it does not matter who asks or how often.
 *
 * A rule is a function that looks at the facts (facts.h) and adds findings; the table of rules is rules.def. To add a rule: a row
 * there, its function in the rules_*.c of its subject, and a case in tests/unit/test_diagnosis_rules.c.
 * Thread: the jobmanager's loop, whose structs it reads. */
#ifndef MILLRACE_DIAGNOSIS_DIAGNOSIS_H
#define MILLRACE_DIAGNOSIS_DIAGNOSIS_H

#include "common/base/vec.h"
#include "jobmanager/core/coordinator.h"

enum diagnosis_severity {
    DIAGNOSIS_INFO,    /* how things are; nothing is wrong */
    DIAGNOSIS_WARNING, /* the job works, with a loss: of records, of speed */
    DIAGNOSIS_ERROR,   /* this is why nothing, or not everything, comes out */
    DIAGNOSIS_SEVERITY_COUNT
};

struct finding {
    const char *kind; /* "idle-split": static, from rules.def */
    enum diagnosis_severity severity;
    /* What it is about; members that do not apply are NULL, -1 or 0. */
    const struct job_task_vertex *vertex;
    int64_t subtask;
    char *split;
    uint64_t checkpoint;
    int64_t since_ms;  /* when it began; -1: unknown, or no point in time */
    bool explains;     /* an info that says why nothing comes out: it is the summary when nothing is wrong */
    char *sentence;    /* one sentence with a full stop */
    char *hint;        /* what to do; NULL */
    json_t *evidence;  /* the figures behind it: an object */
    size_t rank;       /* of its rule: causes stand before their effects */
};

struct diagnosis {
    const struct job *job;
    int64_t now_ms;
    bool is_healthy; /* no finding is worse than an info */
    char *summary;   /* one sentence: the worst finding's, or that all is well */
    VEC(struct finding) findings;
};

/* job and coordinator are borrowed until diagnosis_finish. */
void diagnosis_make(const struct coordinator *coordinator, const struct job *job, int64_t now_ms, struct diagnosis *out);
void diagnosis_finish(struct diagnosis *diagnosis);

/* {"job", "state", "timestamp", "healthy", "summary", "findings": [{"kind", "severity", "subject": {"vertex", "vertex-name", "subtask",
 * "split", "checkpoint"}, "since", "sentence", "hint", "evidence"}]}: the answer of GET /jobs/:jobid/diagnosis. A new object. */
json_t *diagnosis_to_json(const struct diagnosis *diagnosis);

#endif
