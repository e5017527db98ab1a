/* The table of polled operations (operations.h). Thread: the loop. */
#include "jobmanager/operations.h"

#include "common/base/check.h"
#include "common/base/heap.h"

#include <stdlib.h>

struct operation *operations_find(const struct operations *operations, struct id trigger_id)
{
    return hash_map_get(&operations->by_trigger, trigger_id.bytes, sizeof trigger_id.bytes);
}

static void operation_destroy(struct operation *operation)
{
    free(operation->location);
    free(operation->error_class);
    free(operation->error_lines);
    free(operation->path);
    free(operation);
}

static void forget_old(struct operations *operations, int64_t now_ms)
{
    bool is_full = operations->by_trigger.count >= OPERATIONS_MAX;
    for (size_t i = operations->by_trigger.count; i-- > 0;) {
        struct operation *operation = operations->by_trigger.entries[i].value;
        if (operation->finished_ms < 0)
            continue;
        if (!is_full && now_ms - operation->finished_ms < OPERATION_KEPT_MS)
            continue;
        hash_map_remove(&operations->by_trigger, operation->trigger_id.bytes, sizeof operation->trigger_id.bytes);
        operation_destroy(operation);
    }
}

struct operation *operations_start(struct operations *operations, struct id trigger_id, struct id job, enum operation_kind kind, int64_t now_ms)
{
    forget_old(operations, now_ms);
    struct operation *operation = heap_new(struct operation);
    operation->trigger_id = trigger_id;
    operation->job = job;
    operation->kind = kind;
    operation->finished_ms = -1;
    check(hash_map_put(&operations->by_trigger, trigger_id.bytes, sizeof trigger_id.bytes, operation) == NULL);
    return operation;
}

void operation_finish(struct operation *operation, int64_t now_ms, uint64_t checkpoint, const char *location, const char *error_class,
                      const char *error_lines)
{
    if (operation->finished_ms >= 0)
        return;
    operation->finished_ms = now_ms;
    operation->checkpoint = checkpoint;
    operation->location = location != NULL ? heap_strdup(location) : NULL;
    operation->error_class = error_class != NULL ? heap_strdup(error_class) : NULL;
    operation->error_lines = error_lines != NULL ? heap_strdup(error_lines) : NULL;
}

void operations_finish(struct operations *operations)
{
    for (size_t i = 0; i < operations->by_trigger.count; i++)
        operation_destroy(operations->by_trigger.entries[i].value);
    hash_map_finish(&operations->by_trigger);
}
