/* Slots: who has which, and who waits. A job gets all its slots or none, so that two jobs never wait for each other's
 * halves. Placement: where the slot was before, if there is room (its files are in that machine's page cache, and Flink does
 * the same); else on the taskmanager with the most free slots, which spreads a job evenly. */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"

#include <inttypes.h>

/* Flink's slotmanager.requirement-check.delay: after the start-up period a request that cannot be met fails this much later. */
#define REQUIREMENT_CHECK_DELAY_MS 50

static void slot_take(struct job *job, uint32_t slot, struct taskmanager *taskmanager)
{
    uint32_t i = 0;
    while (taskmanager->slots[i].job != NULL)
        i++;
    check(i < taskmanager->slot_count);
    taskmanager->slots[i].job = job;
    taskmanager->free_slot_count--;
    job->coordinator->free_slot_count--;
    job->slots[slot].taskmanager = taskmanager;
    job->slots[slot].slot_index = i;
    if (job->slots[slot].previous_taskmanager == NULL || strcmp(job->slots[slot].previous_taskmanager, taskmanager->id) != 0) {
        free(job->slots[slot].previous_taskmanager);
        job->slots[slot].previous_taskmanager = heap_strdup(taskmanager->id);
    }
}

static struct taskmanager *slot_emptiest(const struct coordinator *coordinator)
{
    struct taskmanager *best = NULL;
    for (size_t i = 0; i < coordinator->taskmanagers.count; i++) {
        struct taskmanager *taskmanager = coordinator->taskmanagers.entries[i].value;
        if (taskmanager->free_slot_count > 0 && (best == NULL || taskmanager->free_slot_count > best->free_slot_count))
            best = taskmanager;
    }
    return best;
}

bool slots_allocate(struct turn *turn, struct job *job)
{
    struct coordinator *coordinator = turn->coordinator;
    check(!job->has_slots);
    if (coordinator->free_slot_count < job->slot_count)
        return false;
    for (uint32_t i = 0; i < job->slot_count; i++) {
        const char *previous = job->slots[i].previous_taskmanager;
        struct taskmanager *taskmanager = previous != NULL ? hash_map_get(&coordinator->taskmanagers, previous, strlen(previous)) : NULL;
        if (taskmanager != NULL && taskmanager->free_slot_count > 0)
            slot_take(job, i, taskmanager);
    }
    for (uint32_t i = 0; i < job->slot_count; i++) {
        if (job->slots[i].taskmanager == NULL)
            slot_take(job, i, slot_emptiest(coordinator));
    }
    job->has_slots = true;
    job->slots_missing_since_ms = 0;
    return true;
}

void slots_release(struct turn *turn, struct job *job, const struct taskmanager *taskmanager)
{
    bool has_any = false;
    for (uint32_t i = 0; i < job->slot_count; i++) {
        struct job_slot *slot = &job->slots[i];
        if (slot->taskmanager == NULL)
            continue;
        if (taskmanager != NULL && slot->taskmanager != taskmanager) {
            has_any = true;
            continue;
        }
        check(slot->taskmanager->slots[slot->slot_index].job == job);
        slot->taskmanager->slots[slot->slot_index].job = NULL;
        slot->taskmanager->free_slot_count++;
        turn->coordinator->free_slot_count++;
        slot->taskmanager = NULL;
        turn->slots_freed = true;
    }
    job->has_slots = has_any;
}

/* In the start-up period taskmanagers are still coming: requests wait. Afterwards a missing slot is a failure at once, and
 * the restart strategy goes round (both as Flink has it). */
void slots_wait(struct turn *turn, struct job *job)
{
    const struct coordinator *coordinator = turn->coordinator;
    int64_t start_up_end = coordinator->started_ms + coordinator->settings.start_up_period_ms;
    int64_t deadline = turn->now_ms;
    if (start_up_end > turn->now_ms) {
        int64_t timeout = turn->now_ms + coordinator->settings.slot_request_timeout_ms;
        deadline = start_up_end < timeout ? start_up_end : timeout;
    }
    job->slot_deadline_ms = deadline + REQUIREMENT_CHECK_DELAY_MS;
    if (job->slots_missing_since_ms == 0)
        job->slots_missing_since_ms = turn->now_ms;
    vec_push(&turn->coordinator->waiting, job);
    char *current = coordinator->taskmanagers.count == 0
                        ? heap_strdup("(none)")
                        : heap_printf("%zu taskmanagers, %" PRIu32 " slots, %" PRIu32 " free", coordinator->taskmanagers.count,
                                      coordinator->slot_count,
                                      coordinator->free_slot_count);
    turn_log(turn, LOG_INFO, "FineGrainedSlotManager",
             "Matching resource requirements against available resources.\nMissing resources:\n\t Job %s\n\t\tResourceRequirement{"
             "resourceProfile=ResourceProfile{UNKNOWN}, numberOfRequiredSlots=%" PRIu32 "}\nCurrent resources:\n\t%s",
             id_format(job->id).hex, job->slot_count, current);
    free(current);
    job_touch(turn, job);
}

void slots_stop_waiting(struct turn *turn, struct job *job)
{
    if (job->slot_deadline_ms == INT64_MAX)
        return;
    job->slot_deadline_ms = INT64_MAX;
    for (size_t i = 0; i < turn->coordinator->waiting.count; i++) {
        if (turn->coordinator->waiting.items[i] == job) {
            vec_remove(&turn->coordinator->waiting, i);
            break;
        }
    }
    job_touch(turn, job);
}

void slots_serve_waiting(struct turn *turn)
{
    struct coordinator *coordinator = turn->coordinator;
    for (size_t i = 0; i < coordinator->waiting.count && coordinator->free_slot_count > 0;) {
        struct job *job = coordinator->waiting.items[i];
        if (!slots_allocate(turn, job)) {
            i++;
            continue;
        }
        slots_stop_waiting(turn, job);
        job_deploy(turn, job);
    }
}

void slots_deadline(struct turn *turn, struct job *job)
{
    static const char text[] = EXCEPTION_NO_RESOURCE ": Could not acquire the minimum required resources.";
    const struct coordinator *coordinator = turn->coordinator;
    turn_log(turn, LOG_WARN, "FineGrainedSlotManager", "Could not fulfill resource requirements of job %s.", id_format(job->id).hex);
    turn_log(turn, LOG_WARN, "DeclarativeSlotPoolBridge",
             "Could not acquire the minimum required resources, failing slot requests. Acquired: []. Current slot pool status: Registered "
             "TMs: %zu, registered slots: %" PRIu32 " free slots: %" PRIu32,
             coordinator->taskmanagers.count, coordinator->slot_count, coordinator->free_slot_count);
    slots_stop_waiting(turn, job);
    job_fail(turn, job, job->vertices[0].subtasks[0].current, EXCEPTION_NO_RESOURCE, text, true);
}
