/* Rules about checkpoints: those that fail, those that take long, and where their time goes. Pure. Thread: the loop. */
#include "jobmanager/diagnosis/facts.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <inttypes.h>

/* What counts as slow: twice the interval, within these bounds. */
#define SLOW_MS_MIN 1000
#define SLOW_MS_MAX 10000

/* ---- the steps of a checkpoint ---- */

struct step {
    const char *name;        /* evidence */
    const char *words;       /* what happens in it */
    const char *hint;
    int64_t (*duration_ms)(const struct checkpoint_subtask *subtask);
};

static int64_t start_delay_ms(const struct checkpoint_subtask *subtask)
{
    return subtask->start_delay_ms;
}

static int64_t alignment_ms(const struct checkpoint_subtask *subtask)
{
    return subtask->alignment_ms;
}

static int64_t sync_ms(const struct checkpoint_subtask *subtask)
{
    return subtask->sync_ms;
}

static int64_t async_ms(const struct checkpoint_subtask *subtask)
{
    return subtask->async_ms;
}

static const struct step steps[] = {
    {"start-delay", "the barrier was on its way to it", "the barrier waits behind rows: mend the back pressure, or use unaligned checkpoints",
     start_delay_ms},
    {"alignment", "it waited for the barriers of its other inputs",
     "one input is slower than the others: look for back pressure or skew, or use unaligned checkpoints",
     alignment_ms},
    {"sync", "it flushed and took the snapshot on its own thread", "a sink that has to flush waits for its outside system", sync_ms},
    {"async", "its state was written to the checkpoint directory",
     "the file system of execution.checkpointing.dir is slow, or the state is large", async_ms},
};
#define STEP_COUNT (sizeof steps / sizeof steps[0])

struct slowest {
    const struct step *step;
    const struct task_facts *task;
    int64_t duration_ms;
};

static struct slowest find_slowest(const struct facts *facts, const struct checkpoint *checkpoint)
{
    struct slowest found = {0};
    for (size_t t = 0; t < facts->task_count; t++) {
        const struct job_subtask *subtask = facts->tasks[t].subtask;
        const struct checkpoint_subtask *answer = coordinator_checkpoint_subtask(checkpoint, subtask->vertex->index, subtask->index);
        for (size_t s = 0; answer != NULL && answer->is_acknowledged && s < STEP_COUNT; s++) {
            int64_t duration_ms = steps[s].duration_ms(answer);
            if (duration_ms > found.duration_ms)
                found = (struct slowest){&steps[s], &facts->tasks[t], duration_ms};
        }
    }
    return found;
}

static int64_t slow_ms(const struct job *job)
{
    int64_t limit = 2 * job->settings.checkpoint_interval_ms;
    return limit < SLOW_MS_MIN ? SLOW_MS_MIN : limit > SLOW_MS_MAX ? SLOW_MS_MAX : limit;
}

/* ---- under way ---- */

static bool is_acknowledged(const struct checkpoint *checkpoint, const struct task_facts *task)
{
    const struct checkpoint_subtask *answer = coordinator_checkpoint_subtask(checkpoint, task->subtask->vertex->index, task->subtask->index);
    return answer != NULL && (answer->is_acknowledged || answer->was_finished);
}

/* Whether a task that gets its barriers from task has answered: then the barrier has passed task. */
static bool has_passed(const struct facts *facts, const struct checkpoint *checkpoint, const struct task_facts *task)
{
    for (size_t t = 0; t < facts->task_count; t++) {
        const struct job_task_vertex *vertex = facts->tasks[t].subtask->vertex;
        for (uint32_t i = 0; i < vertex->input_count; i++)
            if (vertex->inputs[i].source_vertex == task->subtask->vertex->index && is_acknowledged(checkpoint, &facts->tasks[t]))
                return true;
    }
    return false;
}

/* Malloced. */
static char *what_is_missing(const struct facts *facts, const struct checkpoint *checkpoint, const struct task_facts *task)
{
    for (size_t o = 0; o < task->operator_count; o++)
        if (task->operators[o].wait_share > 0.5)
            return heap_printf("whose \"%s\" waits for the outside", task->operators[o].spec->name);
    if (has_passed(facts, checkpoint, task))
        return heap_strdup("which is writing its state to the checkpoint directory");
    if (task->subtask->vertex->input_count > 0)
        return heap_strdup("which the barrier has not passed");
    return heap_strdup(task->back_pressured > 0.5 ? "which is back-pressured and has not started it"
                       : task->busy > 0.9         ? "which is busy and has not started it"
                                                  : "which has not answered");
}

static void add_pending(const struct facts *facts, const struct checkpoint *checkpoint, struct diagnosis *out)
{
    const struct task_facts *waits_for = NULL;
    for (size_t t = 0; t < facts->task_count && waits_for == NULL; t++)
        if (!is_acknowledged(checkpoint, &facts->tasks[t]))
            waits_for = &facts->tasks[t];
    char *since = words_since(checkpoint->trigger_ms, facts->now_ms);
    char *name = waits_for != NULL ? coordinator_task_name(waits_for->execution) : NULL;
    char *missing = waits_for != NULL ? what_is_missing(facts, checkpoint, waits_for) : NULL;
    struct finding *finding;
    if (waits_for != NULL)
        finding = diagnosis_add(out, DIAGNOSIS_WARNING, checkpoint->trigger_ms,
                                "Checkpoint %" PRIu64 " is under way %s: %" PRIu32 " of %" PRIu32 " tasks have answered, it waits for %s, "
                                "%s.", checkpoint->id, since, checkpoint->acknowledged_count, checkpoint->subtask_count, name,
                                missing);
    else
        finding = diagnosis_add(out, DIAGNOSIS_WARNING, checkpoint->trigger_ms,
                                "Checkpoint %" PRIu64 " is under way %s: all tasks have answered, its metadata is being written to %s.",
                                checkpoint->id, since, checkpoint->directory);
    finding->checkpoint = checkpoint->id;
    if (waits_for != NULL)
        finding_set_task(finding, waits_for);
    finding->hint = heap_strdup("look for back pressure at and behind that task; /jobs/<job>/checkpoints/details shows each task's part");
    finding_put(finding, "acknowledged", checkpoint->acknowledged_count);
    finding_put(finding, "tasks", checkpoint->subtask_count);
    finding_put(finding, "duration-ms", facts->now_ms - checkpoint->trigger_ms);
    free(since);
    free(name);
    free(missing);
}

/* ---- done ---- */

static void add_completed(const struct facts *facts, const struct checkpoint *checkpoint, struct diagnosis *out)
{
    struct slowest slowest = find_slowest(facts, checkpoint);
    int64_t duration_ms = checkpoint->complete_ms - checkpoint->trigger_ms;
    int64_t finalize_ms = checkpoint->finalize_ms > 0 ? checkpoint->complete_ms - checkpoint->finalize_ms : 0;
    char *whole = words_duration(duration_ms);
    char *part = words_duration(finalize_ms > slowest.duration_ms ? finalize_ms : slowest.duration_ms);
    struct finding *finding;
    if (slowest.step == NULL || finalize_ms > slowest.duration_ms) {
        finding = diagnosis_add(out, DIAGNOSIS_WARNING, checkpoint->trigger_ms,
                                "Checkpoint %" PRIu64 " took %s: %s of it to write its metadata to %s.", checkpoint->id, whole, part,
                                checkpoint->directory);
        finding->hint = heap_strdup("the file system of execution.checkpointing.dir is slow at the jobmanager");
    } else {
        char *name = coordinator_task_name(slowest.task->execution);
        finding = diagnosis_add(out, DIAGNOSIS_WARNING, checkpoint->trigger_ms,
                                "Checkpoint %" PRIu64 " took %s: for %s of it %s at %s (%s).", checkpoint->id, whole, part,
                                slowest.step->words, name, slowest.step->name);
        free(name);
        finding_set_task(finding, slowest.task);
        finding->hint = heap_strdup(slowest.step->hint);
        finding_put_text(finding, "step", slowest.step->name);
        finding_put(finding, "step-ms", slowest.duration_ms);
    }
    finding->checkpoint = checkpoint->id;
    finding_put(finding, "duration-ms", duration_ms);
    free(whole);
    free(part);
}

static void add_failed(const struct facts *facts, const struct checkpoint *failed, struct diagnosis *out)
{
    const struct checkpoint_stats *stats = &facts->job->checkpoints;
    char *when = words_time(failed->failure_ms);
    char *cause = words_cause(failed->failure != NULL ? failed->failure : "");
    char *before = stats->latest_completed != NULL ? heap_printf("the last complete one is %" PRIu64, stats->latest_completed->id)
                                                   : heap_strdup("none has completed yet");
    struct finding *finding = diagnosis_add(out, stats->latest_completed == NULL ? DIAGNOSIS_ERROR : DIAGNOSIS_WARNING,
                                            failed->failure_ms, "Checkpoint %" PRIu64 " failed at %s: %s; %s.", failed->id, when, cause,
                                            before);
    finding->checkpoint = failed->id;
    finding->hint = heap_strdup("while no checkpoint completes, exactly-once sinks commit nothing and a failure repeats all since the last one");
    finding_put(finding, "failed", (int64_t)stats->counts.failed);
    finding_put(finding, "completed", (int64_t)stats->counts.completed);
    free(when);
    free(cause);
    free(before);
}

void rule_slow_checkpoint(const struct facts *facts, struct diagnosis *out)
{
    const struct job *job = facts->job;
    const struct checkpoint *completed = job->checkpoints.latest_completed, *failed = job->checkpoints.latest_failed;
    if (job->state != JOB_RUNNING)
        return;
    const struct checkpoint *oldest = job->pending.count > 0 ? job->pending.items[0] : NULL;
    if (oldest != NULL && facts->now_ms - oldest->trigger_ms > slow_ms(job))
        add_pending(facts, oldest, out);
    else if (completed != NULL && completed->epoch == job->epoch && completed->complete_ms - completed->trigger_ms > slow_ms(job))
        add_completed(facts, completed, out);
    /* What failed with a restart is the restart's matter. */
    if (failed != NULL && failed->epoch == job->epoch && (completed == NULL || failed->id > completed->id))
        add_failed(facts, failed, out);
}
