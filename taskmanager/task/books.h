/* The books of one operator subtask: exact row counts, cut at each barrier (ARCHITECTURE.md, "Books"). Written by the task
 * thread only; other threads see copies taken at a snapshot or for a metrics report. */
#ifndef MILLRACE_TASK_BOOKS_H
#define MILLRACE_TASK_BOOKS_H

#include "common/base/error.h"

#include <jansson.h>
#include <stdint.h>

#define BOOKS_SAMPLE_MAX 5

struct books_split { /* a source split: "topic-0" */
    char *name;
    uint64_t records;
    uint64_t bytes;
};

struct books_sample { /* an unparsable record */
    char *split;
    int64_t offset;
    char *reason;
    char *excerpt;   /* its first bytes, printable; "" in books of an older version */
    int64_t time_ms; /* when it was read, 0 in books of an older version */
};

struct books {
    uint64_t rows_in[2];       /* by logical input; counted by the chain */
    uint64_t rows_out;         /* main output; counted by op_emit */
    uint64_t *side_rows_out;   /* by side output; counted by op_emit_side */
    uint32_t side_count;
    uint64_t filtered;         /* dropped on purpose: filter, null Kafka values */
    uint64_t late;             /* dropped as late (a late row that goes to a side output is a side row) */
    uint64_t unparsable;       /* skipped or sent to the dead-letter topic */
    uint64_t rows_read;        /* sources: records taken from the outside */
    uint64_t rows_written;     /* sinks: handed to the outside */
    uint64_t rows_committed;   /* sinks: covered by a completed checkpoint (or by a flush when there are none) */
    uint64_t digest;           /* sinks: sum of XXH3_64bits(row bytes) over rows_written, modulo 2^64 */
    uint64_t digest_committed;
    struct books_split *splits;
    uint32_t split_count;
    struct books_sample samples[BOOKS_SAMPLE_MAX];
    uint32_t sample_count;
};

void books_init(struct books *books, uint32_t side_count);
void books_finish(struct books *books);
/* The split's counters, made on first use; valid until the next call. */
struct books_split *books_split(struct books *books, const char *name);
/* Counts it and, for the first few, keeps a copy of the sample. */
void books_add_unparsable(struct books *books, const struct books_sample *sample);
json_t *books_to_json(const struct books *books);
/* Adds what a restored checkpoint had counted. */
MUST_CHECK struct error *books_add_json(struct books *books, const json_t *json);

#endif
