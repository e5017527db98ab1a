/* Rules about the job as a whole: its state, its slots, its restarts, its start. Pure. Thread: the loop. */
#include "jobmanager/diagnosis/facts.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <inttypes.h>

#define RECENT_MS (5 * 60 * 1000)
/* A job that failed so lately has not shown yet that it can go on. */
#define FRESH_MS 15000
/* A start that takes longer than this is told as a warning, then as an error. */
#define START_SLOW_MS 15000
#define START_STUCK_MS 60000
#define JOBS_NAMED_MAX 5
#define NO_RESOURCE "NoResourceAvailableException"

/* ---- the end ---- */

void rule_job_ended(const struct facts *facts, struct diagnosis *out)
{
    const struct job *job = facts->job;
    int64_t since_ms = job_state_is_terminal(job->state) ? job->end_ms : job->timestamps[job->state];
    char *when = words_time(since_ms);
    char *cause = words_cause(job->failure != NULL ? job->failure : "an unknown cause");
    struct finding *finding = NULL;
    switch (job->state) {
    case JOB_FINISHED:
        finding = diagnosis_add(out, DIAGNOSIS_INFO, since_ms, "The job finished at %s: nothing more comes out.", when);
        break;
    case JOB_CANCELED:
        finding = diagnosis_add(out, DIAGNOSIS_INFO, since_ms, "The job was canceled at %s: nothing more comes out.", when);
        finding->hint = heap_strdup("submit it again; with -s it goes on from a savepoint");
        break;
    case JOB_CANCELLING:
        finding = diagnosis_add(out, DIAGNOSIS_INFO, since_ms, "The job is being canceled since %s.", when);
        break;
    case JOB_FAILED:
    case JOB_FAILING:
        finding = diagnosis_add(out, DIAGNOSIS_ERROR, since_ms, "The job failed at %s: %s.", when, cause);
        finding->hint = heap_strdup("mend the cause and submit the job again");
        finding_put(finding, "restarts", job->restart_count);
        break;
    case JOB_INITIALIZING:
    case JOB_CREATED:
    case JOB_RUNNING:
    case JOB_RESTARTING:
    case JOB_SUSPENDED:
    case JOB_RECONCILING:
    case JOB_STATE_COUNT:
        break;
    }
    if (finding != NULL)
        finding->explains = true;
    free(when);
    free(cause);
}

/* ---- slots ---- */

static uint32_t slots_of(const struct job *job)
{
    uint32_t count = 0;
    for (uint32_t s = 0; s < job->slot_count; s++)
        count += job->slots[s].taskmanager != NULL;
    return count;
}

/* "1 by job "Click Event Count", 3 by 2 other jobs" */
static char *slots_in_use(const struct coordinator *coordinator)
{
    struct str_buf text = {0};
    uint32_t named_count = 0, other_count = 0, other_slots = 0;
    for (size_t i = 0; i < coordinator->jobs.count; i++) {
        const struct job *job = coordinator->jobs.entries[i].value;
        uint32_t count = slots_of(job);
        if (count > 0 && named_count < JOBS_NAMED_MAX) {
            str_buf_printf(&text, "%s%" PRIu32 " by job \"%s\"", text.length > 0 ? ", " : "", count, job->graph->name);
            named_count++;
        } else if (count > 0) {
            other_count++;
            other_slots += count;
        }
    }
    if (other_count > 0)
        str_buf_printf(&text, ", %" PRIu32 " by %" PRIu32 " other %s", other_slots, other_count, words_plural(other_count, "job", "jobs"));
    return str_buf_detach(&text);
}

static bool is_waiting_for_slots(const struct job *job)
{
    return job->slots_missing_since_ms != 0 && !job->has_slots && !job_state_is_terminal(job->state);
}

/* ", and 2 other jobs wait for slots too": those that are started for this job may go to them. */
static char *others_that_wait(const struct facts *facts)
{
    const struct hash_map *jobs = &facts->coordinator->jobs;
    uint32_t count = 0;
    for (size_t i = 0; i < jobs->count; i++)
        count += jobs->entries[i].value != facts->job && is_waiting_for_slots(jobs->entries[i].value);
    return count == 0 ? heap_strdup("")
                      : heap_printf(", and %" PRIu32 " other %s for slots too", count, words_plural(count, "job waits", "jobs wait"));
}

void rule_missing_slots(const struct facts *facts, struct diagnosis *out)
{
    const struct job *job = facts->job;
    const struct coordinator *coordinator = facts->coordinator;
    if (job->slots_missing_since_ms == 0 || job->has_slots || job->state == JOB_CANCELED || job->state == JOB_FINISHED)
        return;
    uint32_t needed = job->slot_count, there = coordinator->slot_count, free_count = coordinator->free_slot_count;
    char *since = words_since(job->slots_missing_since_ms, facts->now_ms);
    char *users = slots_in_use(coordinator);
    char *others = others_that_wait(facts);
    /* Just allocated ones are on their way to being deployed. */
    uint32_t missing = needed > free_count ? needed - free_count : 0;
    enum diagnosis_severity severity = job->state == JOB_FAILED || missing > 0 ? DIAGNOSIS_ERROR : DIAGNOSIS_INFO;
    struct finding *finding;
    if (coordinator->taskmanagers.count == 0)
        finding = diagnosis_add(out, severity, job->slots_missing_since_ms,
                                "Too few slots %s: the job needs %" PRIu32 " %s, and no taskmanager is registered: %" PRIu32 " %s missing%s.",
                                since, needed, words_plural(needed, "slot", "slots"), missing, words_plural(missing, "is", "are"), others);
    else
        finding = diagnosis_add(out, severity, job->slots_missing_since_ms,
                                "Too few slots %s: the job needs %" PRIu32 " %s, %" PRIu32 " of the %" PRIu32 " on %zu %s %s free%s%s%s: "
                                "" "" "%" PRIu32 " %s missing%s.", since, needed, words_plural(needed, "slot", "slots"), free_count, there,
                                coordinator->taskmanagers.count,
                                words_plural((int64_t)coordinator->taskmanagers.count, "taskmanager", "taskmanagers"),
                                words_plural(free_count, "is", "are"), users[0] != '\0' ? " (in use: " : "", users,
                                users[0] != '\0' ? ")" : "", missing, words_plural(missing, "is", "are"), others);
    finding->explains = true;
    finding->hint = heap_printf("start taskmanagers with %" PRIu32 " more %s, raise taskmanager.numberOfTaskSlots, or run the job with a lower "
                                "parallelism (-p)",
                                missing, words_plural(missing, "slot", "slots"));
    finding_put(finding, "slots-needed", needed);
    finding_put(finding, "slots-total", there);
    finding_put(finding, "slots-free", free_count);
    finding_put(finding, "slots-missing", missing);
    finding_put(finding, "taskmanagers", (int64_t)coordinator->taskmanagers.count);
    free(since);
    free(users);
    free(others);
}

/* ---- restarts ---- */

static bool is_about_slots(const struct exception_entry *entry)
{
    return strstr(entry->name, NO_RESOURCE) != NULL;
}

/* The task that an exception names: its name with the subtask's number is how the entry begins. */
static void set_task(struct finding *finding, const struct facts *facts, const char *task_name)
{
    for (size_t i = 0; task_name != NULL && i < facts->task_count; i++) {
        char *name = coordinator_task_name(facts->tasks[i].execution);
        size_t length = strlen(name);
        bool is_it = strncmp(task_name, name, length) == 0 && (task_name[length] == ' ' || task_name[length] == '\0');
        free(name);
        if (!is_it)
            continue;
        finding_set_task(finding, &facts->tasks[i]);
        return;
    }
}

static char *failing_task(const struct exception_entry *entry)
{
    if (entry->task_name == NULL)
        return heap_strdup("");
    const char *end = strstr(entry->task_name, " - execution #");
    return heap_printf(" in %.*s", (int)(end != NULL ? (size_t)(end - entry->task_name) : strlen(entry->task_name)), entry->task_name);
}

static struct finding *add_restarts(const struct facts *facts, struct diagnosis *out, const struct exception_entry *last, int64_t first_ms,
                                    size_t recent_count)
{
    const struct job *job = facts->job;
    char *when = words_time(last->timestamp_ms);
    char *cause = words_cause(last->text);
    char *task = failing_task(last);
    char *span = words_duration(facts->now_ms - first_ms);
    struct finding *finding;
    if (recent_count > 1)
        finding = diagnosis_add(out, DIAGNOSIS_ERROR, first_ms,
                                "The job fails and restarts over and over, %zu times within the last %s, the last time at %s%s: %s.",
                                recent_count, span, when, task, cause);
    else if (job->state == JOB_RUNNING && facts->now_ms - last->timestamp_ms < FRESH_MS && !facts->is_deployed)
        finding = diagnosis_add(out, DIAGNOSIS_WARNING, last->timestamp_ms, "The job is being restarted since it failed at %s%s: %s.",
                                when, task, cause);
    else if (job->state == JOB_RESTARTING)
        finding = diagnosis_add(out, DIAGNOSIS_WARNING, last->timestamp_ms, "The job restarts since %s, when it failed%s: %s.", when,
                                task, cause);
    else
        finding = diagnosis_add(out, DIAGNOSIS_INFO, last->timestamp_ms, "The job was restarted at %s, after it had failed%s: %s.", when,
                                task, cause);
    free(when);
    free(cause);
    free(task);
    free(span);
    return finding;
}

void rule_restart_loop(const struct facts *facts, struct diagnosis *out)
{
    const struct job *job = facts->job;
    const struct exception_entry *last = NULL;
    size_t recent_count = 0;
    int64_t first_ms = -1;
    if (job->state != JOB_RUNNING && job->state != JOB_RESTARTING)
        return;
    for (size_t i = 0; i < job->exceptions.count; i++) {
        const struct exception_entry *entry = &job->exceptions.items[i];
        if (is_about_slots(entry) || facts->now_ms - entry->timestamp_ms > RECENT_MS)
            continue;
        first_ms = recent_count == 0 ? entry->timestamp_ms : first_ms;
        recent_count++;
        last = entry;
    }
    if (last == NULL)
        return;
    struct finding *finding = add_restarts(facts, out, last, first_ms, recent_count);
    set_task(finding, facts, last->task_name);
    finding_put(finding, "restarts", job->restart_count);
    finding_put(finding, "recent-failures", (int64_t)recent_count);
    if (job->state == JOB_RESTARTING && job->restart_at_ms != INT64_MAX)
        finding_put(finding, "next-attempt", job->restart_at_ms);
    finding_put_text(finding, "exception", last->name);
    if (finding->severity > DIAGNOSIS_INFO)
        finding->hint = heap_strdup("the whole cause stands under /jobs/<job>/exceptions and in the logs of the jobmanager");
}

/* ---- start ---- */

void rule_starting(const struct facts *facts, struct diagnosis *out)
{
    const struct job *job = facts->job;
    bool is_early = job->state == JOB_INITIALIZING || job->state == JOB_CREATED;
    if (!is_early && (job->state != JOB_RUNNING || facts->is_deployed || !job->has_slots))
        return;
    size_t running = 0;
    const struct task_facts *waits_for = NULL;
    for (size_t i = 0; i < facts->task_count; i++) {
        enum execution_state state = facts->tasks[i].execution->state;
        bool runs = state == EXECUTION_RUNNING || state == EXECUTION_FINISHED;
        running += runs;
        if (!runs && waits_for == NULL)
            waits_for = &facts->tasks[i];
    }
    int64_t since_ms = job->timestamps[job->state];
    char *since = words_since(since_ms, facts->now_ms);
    char *name = waits_for != NULL ? coordinator_task_name(waits_for->execution) : heap_strdup("its tasks");
    int64_t age_ms = facts->now_ms - since_ms;
    enum diagnosis_severity severity = age_ms > START_STUCK_MS ? DIAGNOSIS_ERROR : age_ms > START_SLOW_MS ? DIAGNOSIS_WARNING : DIAGNOSIS_INFO;
    struct finding *finding = diagnosis_add(out, severity, since_ms, "The job is starting %s: %zu of %zu tasks run, %s is %s.", since,
                                            running, facts->task_count, name,
                                            waits_for != NULL ? execution_state_name(waits_for->execution->state) : "not there yet");
    if (waits_for != NULL)
        finding_set_task(finding, waits_for);
    finding->explains = true;
    if (severity > DIAGNOSIS_INFO)
        finding->hint = heap_strdup("look into the log of the taskmanager that the task was deployed to");
    finding_put(finding, "tasks-running", (int64_t)running);
    finding_put(finding, "tasks", (int64_t)facts->task_count);
    free(since);
    free(name);
}
