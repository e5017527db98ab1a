/* What the rules look at: the job's tasks, operators and splits with their last metrics, typed. Built once per diagnosis; texts and
 * JSON are borrowed from the job. Times are milliseconds since the epoch, -1: never or unknown; event times are TIME_UNSET before
 * the first row. Shares are of the last few seconds, 0 to 1.
 * Thread: the loop. */
#ifndef MILLRACE_DIAGNOSIS_FACTS_H
#define MILLRACE_DIAGNOSIS_FACTS_H

#include "jobmanager/diagnosis/diagnosis.h"

#define TIME_UNSET INT64_MIN

struct task_facts;

struct split_facts {
    const struct operator_facts *source;
    const char *name;            /* "input-1" */
    int64_t added_ms;            /* when the source began to read it */
    int64_t last_record_ms;
    int64_t idle_since_ms;       /* when it left the watermark; -1: it takes part */
    int64_t watermark;           /* event time */
    int64_t max_timestamp;       /* event time */
    int64_t offset, end_offset;  /* next to read, and where the partition ends; -1: unknown */
    int64_t records;             /* read over the job's life */
    bool is_finished, is_caught_up;
};

/* What an operator says about its connection to the outside. */
struct status_facts {
    const char *code;    /* "broker-unreachable", "topic-missing" …; NULL: nothing is wrong */
    const char *text;
    const char *subject; /* topic or broker; "" */
    int64_t since_ms;
};

struct operator_facts {
    const struct task_facts *task;
    const struct job_operator *spec;
    const json_t *json;          /* its entry in the report */
    const json_t *books;
    int64_t watermark_in, watermark_out;
    int64_t watermark_out_since_ms;
    bool is_idle;                /* it told downstream that no rows come for now */
    int64_t rows_in, rows_out, rows_read, late, unparsable, rows_written, rows_committed;
    double own_share;            /* of the time: in this operator's own code */
    double wait_share;           /* … waiting for the outside: a broker, a file */
    struct status_facts status;
    struct split_facts *splits;
    size_t split_count;
};

struct task_facts {
    const struct job_subtask *subtask;
    const struct execution *execution;
    bool is_reported;            /* metrics of this attempt are there */
    double busy, idle, back_pressured;
    double shuffle_share;        /* of the time: serializing for the next task or waiting for room there */
    struct operator_facts *operators;
    size_t operator_count;
};

struct facts {
    const struct coordinator *coordinator;
    const struct job *job;
    int64_t now_ms;
    bool is_deployed;            /* all tasks run (or have finished) */
    int64_t deployed_ms;         /* since when */
    struct task_facts *tasks;
    size_t task_count;
};

void facts_init(struct facts *facts, const struct coordinator *coordinator, const struct job *job, int64_t now_ms);
void facts_finish(struct facts *facts);

bool facts_is_source(const struct operator_facts *operator);
bool facts_is_sink(const struct operator_facts *operator);
/* An operator of the graph in all tasks that have reported it: for (size_t i = 0; (operator = facts_next(facts, spec, &i)) != NULL;). */
const struct operator_facts *facts_next(const struct facts *facts, const struct job_operator *spec, size_t *cursor);

/* ---- rules ---- */

#define DIAGNOSIS_RULE(kind, function) void rule_##function(const struct facts *facts, struct diagnosis *out);
#include "jobmanager/diagnosis/rules.def"
#undef DIAGNOSIS_RULE

/* Adds a finding without a subject, whose other members the rule fills in. Valid until the next call. */
__attribute__((format(printf, 4, 5))) struct finding *diagnosis_add(struct diagnosis *diagnosis, enum diagnosis_severity severity,
                                                                    int64_t since_ms, const char *sentence, ...);

/* Sets vertex and subtask. */
void finding_set_task(struct finding *finding, const struct task_facts *task);
void finding_put(struct finding *finding, const char *name, int64_t value);
void finding_put_text(struct finding *finding, const char *name, const char *value);

/* ---- words; malloced texts ---- */

/* "2026-11-23 01:02:03 UTC" */
char *words_time(int64_t time_ms);
/* "2026-11-23T01:02:03.456Z"; "none" for TIME_UNSET */
char *words_event_time(int64_t time_ms);
/* "4 s", "2 min 5 s", "3 h 10 min" */
char *words_duration(int64_t duration_ms);
/* "since 2026-11-23 01:02:03 UTC (2 min 5 s)" */
char *words_since(int64_t since_ms, int64_t now_ms);
/* "slot" / "slots" */
const char *words_plural(int64_t count, const char *one, const char *many);
/* The cause that an exception's text names, on one line: its first storey that says something and its innermost one, without class
 * names. */
char *words_cause(const char *text);

#endif
