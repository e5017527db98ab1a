/* Taskmanagers: registration, signs of life, loss.
 *
 * Fencing: two attempts of a subtask must never live at the same time. Where a taskmanager still answers, nothing is assumed:
 * the next epoch starts after RUNNER_GONE from each runner of the last. A lost one cannot answer; then the argument is:
 *   - Its connection closed. Either the agent died: the kernel closes its sockets and sends its runners the parent-death
 *     signal in the same exit. Or the agent lives and saw the connection end too: it kills its runners then. Both take
 *     milliseconds; no new epoch starts within fencing_closed_ms (100 ms), which hides in the restart delay.
 *   - It was silent for heartbeat.timeout. Each heartbeat is answered. An agent that got no answer for heartbeat.timeout
 *     kills its runners; it passes answers on to them, so that those of a stopped agent end by themselves at the same time.
 *     The last answer left here not later than the last sign of life came; agent and runner look at their clocks once per
 *     heartbeat interval. So no new epoch starts for two more intervals (fencing_silent_ms), one of them for the way.
 * Should a zombie live on all the same, it can neither complete a checkpoint (its connection is closed, its epoch is old)
 * nor open a data channel to the new attempt (the epoch is in the handshake). */
#include "jobmanager/core/internal.h"

#include "common/base/check.h"

#include <inttypes.h>

/* ---------------------------------------------------------------- the list by last sign of life */

static void list_remove(struct coordinator *coordinator, struct taskmanager *taskmanager)
{
    if (taskmanager->older != NULL)
        taskmanager->older->newer = taskmanager->newer;
    else
        coordinator->silent_longest = taskmanager->newer;
    if (taskmanager->newer != NULL)
        taskmanager->newer->older = taskmanager->older;
    else
        coordinator->heard_last = taskmanager->older;
    taskmanager->older = taskmanager->newer = NULL;
}

static void list_append(struct coordinator *coordinator, struct taskmanager *taskmanager)
{
    taskmanager->older = coordinator->heard_last;
    if (coordinator->heard_last != NULL)
        coordinator->heard_last->newer = taskmanager;
    else
        coordinator->silent_longest = taskmanager;
    coordinator->heard_last = taskmanager;
}

static void heard(struct turn *turn, struct taskmanager *taskmanager)
{
    if (taskmanager->last_heartbeat_ms == turn->now_ms)
        return;
    taskmanager->last_heartbeat_ms = turn->now_ms;
    list_remove(turn->coordinator, taskmanager);
    list_append(turn->coordinator, taskmanager);
}

/* ---------------------------------------------------------------- loss */

void taskmanager_destroy(struct taskmanager *taskmanager)
{
    if (taskmanager == NULL)
        return;
    free(taskmanager->id);
    free(taskmanager->host);
    free(taskmanager->version);
    free(taskmanager->slots);
    free(taskmanager);
}

static bool runs_on(const struct execution *execution, const struct taskmanager *taskmanager)
{
    return execution->taskmanager_id != NULL && strcmp(execution->taskmanager_id, taskmanager->id) == 0;
}

/* Everything of the job on that taskmanager is gone. The first task that was alive carries the blame, as in Flink's log. */
static void job_lost_taskmanager(struct turn *turn, struct job *job, const struct taskmanager *taskmanager, const char *exception,
                                 const char *text, int64_t fencing_ms)
{
    for (size_t i = 0; i < job->runners.count; i++) {
        if (job->runners.items[i].taskmanager == taskmanager) {
            vec_remove(&job->runners, i);
            if (job->fenced_until_ms < turn->now_ms + fencing_ms)
                job->fenced_until_ms = turn->now_ms + fencing_ms;
            break;
        }
    }
    slots_release(turn, job, taskmanager);
    for (uint32_t i = 0; i < job->task_count; i++) {
        struct execution *execution = job_subtask(job, i)->current;
        if (execution == NULL || execution_state_is_terminal(execution->state) || !runs_on(execution, taskmanager))
            continue;
        if (execution->state == EXECUTION_CANCELING)
            execution_set_state(turn, execution, EXECUTION_CANCELED, NULL);
        else
            job_fail(turn, job, execution, exception, text, true);
    }
    job_check_quiet(turn, job);
    job_check_finished(turn, job);
}

/* reason is Flink's line, cause (may be NULL) what we know beyond it: on a line of its own in the exceptions, while the log has it from
 * the connection. */
static void taskmanager_lost(struct turn *turn, struct taskmanager *taskmanager, const char *exception, const char *reason,
                             const char *cause, int64_t fencing_ms)
{
    struct coordinator *coordinator = turn->coordinator;
    list_remove(coordinator, taskmanager);
    hash_map_remove(&coordinator->taskmanagers, taskmanager->id, strlen(taskmanager->id));
    turn_log(turn, LOG_INFO, "JobMaster", "%s", reason);
    char *text = heap_printf("%s: %s%s%s", exception, reason, cause != NULL ? "\nCaused by: " : "", cause != NULL ? cause : "");
    for (uint32_t i = 0; i < taskmanager->slot_count; i++) {
        struct job *job = taskmanager->slots[i].job;
        if (job != NULL)
            job_lost_taskmanager(turn, job, taskmanager, exception, text, fencing_ms);
        check(taskmanager->slots[i].job == NULL);
    }
    free(text);
    turn_log(turn, LOG_INFO, "StandaloneResourceManager", "Closing TaskExecutor connection %s because: %s", taskmanager->id, reason);
    coordinator->slot_count -= taskmanager->slot_count;
    coordinator->free_slot_count -= taskmanager->slot_count;
    taskmanager_destroy(taskmanager);
}

static void lost_by_close(struct turn *turn, struct taskmanager *taskmanager, const char *why)
{
    char *reason = heap_printf("TaskManager with id %s is no longer reachable.", taskmanager->id);
    taskmanager_lost(turn, taskmanager, EXCEPTION_TASKMANAGER_LOST, reason, why, turn->coordinator->settings.fencing_closed_ms);
    free(reason);
}

void taskmanagers_tick(struct turn *turn)
{
    struct coordinator *coordinator = turn->coordinator;
    for (;;) {
        struct taskmanager *taskmanager = coordinator->silent_longest;
        if (taskmanager == NULL || taskmanager->last_heartbeat_ms + coordinator->settings.heartbeat_timeout_ms > turn->now_ms)
            return;
        action_address(turn_action(turn, ACTION_TASKMANAGER_CLOSE, NULL), taskmanager);
        char *reason = heap_printf("Heartbeat of TaskManager with id %s timed out.", taskmanager->id);
        taskmanager_lost(turn, taskmanager, EXCEPTION_HEARTBEAT, reason, NULL, coordinator->settings.fencing_silent_ms);
        free(reason);
    }
}

/* ---------------------------------------------------------------- events */

void taskmanager_registered(struct turn *turn, const struct event *event)
{
    struct coordinator *coordinator = turn->coordinator;
    const char *id = event->registered.taskmanager;
    struct taskmanager *before = coordinator_taskmanager(coordinator, id);
    if (before != NULL) {
        action_address(turn_action(turn, ACTION_TASKMANAGER_CLOSE, NULL), before);
        lost_by_close(turn, before, "it registered again");
    }
    struct taskmanager *taskmanager = heap_new(struct taskmanager);
    *taskmanager = (struct taskmanager){
        .id = heap_strdup(id),
        .connection = event->registered.connection,
        .host = heap_strdup(event->registered.host != NULL ? event->registered.host : "localhost"),
        .data_port = event->registered.data_port,
        .pid = event->registered.pid,
        .cpu_cores = event->registered.cpu_cores,
        .memory_bytes = event->registered.memory_bytes,
        .version = event->registered.version != NULL ? heap_strdup(event->registered.version) : NULL,
        .slot_count = event->registered.slot_count,
        .free_slot_count = event->registered.slot_count,
        .registered_ms = turn->now_ms,
        .last_heartbeat_ms = turn->now_ms,
    };
    taskmanager->slots = heap_alloc_array(taskmanager->slot_count != 0 ? taskmanager->slot_count : 1, sizeof *taskmanager->slots);
    hash_map_put(&coordinator->taskmanagers, id, strlen(id), taskmanager);
    list_append(coordinator, taskmanager);
    coordinator->slot_count += taskmanager->slot_count;
    coordinator->free_slot_count += taskmanager->slot_count;
    turn_log(turn, LOG_INFO, "StandaloneResourceManager", "Registering TaskManager with ResourceID %s (%s, dataPort=%u, %" PRIu32 " slots) "
                                                          "at ResourceManager",
             id, taskmanager->host, taskmanager->data_port, taskmanager->slot_count);
    action_address(turn_action(turn, ACTION_TASKMANAGER_ACCEPT, NULL), taskmanager);
    turn->slots_freed = true;
}

void taskmanager_closed(struct turn *turn, const struct event *event)
{
    struct taskmanager *taskmanager = coordinator_taskmanager(turn->coordinator, event->taskmanager.taskmanager);
    if (taskmanager == NULL || taskmanager->connection != event->taskmanager.connection) {
        turn->coordinator->counters.ignored_stale++;
        return;
    }
    lost_by_close(turn, taskmanager, event->taskmanager.reason);
}

struct taskmanager *taskmanager_speaking(struct turn *turn, const char *id, uint64_t connection)
{
    struct taskmanager *taskmanager = coordinator_taskmanager(turn->coordinator, id);
    if (taskmanager == NULL || taskmanager->connection != connection) {
        turn->coordinator->counters.ignored_stale++;
        return NULL;
    }
    heard(turn, taskmanager);
    return taskmanager;
}

void taskmanager_heartbeat(struct turn *turn, const struct event *event)
{
    taskmanager_speaking(turn, event->taskmanager.taskmanager, event->taskmanager.connection);
}
