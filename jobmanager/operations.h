/* Operations that were started over REST and are polled by their trigger id: savepoints, stops, checkpoints, disposals.
 * A finished one is remembered for five minutes (rest.async.store-duration of Flink). Thread: the loop. */
#ifndef MILLRACE_JOBMANAGER_OPERATIONS_H
#define MILLRACE_JOBMANAGER_OPERATIONS_H

#include "common/base/error.h"
#include "common/base/hash_map.h"
#include "common/base/id.h"

#include <stdint.h>

#define OPERATION_KEPT_MS (5 * 60 * 1000)
#define OPERATIONS_MAX 10000

enum operation_kind { OPERATION_SAVEPOINT, OPERATION_CHECKPOINT, OPERATION_DISPOSAL };

struct operation {
    struct id trigger_id;
    struct id job; /* zero: DISPOSAL */
    enum operation_kind kind;
    int64_t finished_ms; /* -1: in progress */
    uint64_t checkpoint;
    char *location;      /* directory; NULL */
    char *error_class;   /* NULL: succeeded, or in progress */
    char *error_lines;   /* "class: message\nCaused by: …" */
    char *path;          /* DISPOSAL: as the user gave it */
};

struct operations {
    struct hash_map by_trigger; /* trigger id bytes -> struct operation */
};

/* Borrowed; NULL when unknown or forgotten. */
struct operation *operations_find(const struct operations *operations, struct id trigger_id);
/* A new one in progress. Forgets old ones first. The id must be unknown. */
struct operation *operations_start(struct operations *operations, struct id trigger_id, struct id job, enum operation_kind kind, int64_t now_ms);
/* error_class and lines NULL for success; all copied. */
void operation_finish(struct operation *operation, int64_t now_ms, uint64_t checkpoint, const char *location, const char *error_class,
                      const char *error_lines);
void operations_finish(struct operations *operations);

#endif
