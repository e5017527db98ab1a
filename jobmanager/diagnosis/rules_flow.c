/* Rules about what flows through: sinks that do not get rid of their rows, the task that is the bottleneck, late rows, windows that have
 * not ended, rows that wait for a checkpoint. Pure. Thread: the loop. */
#include "jobmanager/diagnosis/facts.h"

#include "common/base/heap.h"

#include <inttypes.h>

#define WAIT_MS 5000 /* a sink whose outside says nothing for so long is stuck */
#define RECENT_MS (5 * 60 * 1000)
#define VISIBLE_MS 10000 /* a job that runs for less may just be about to complete its first checkpoint */
#define HALF 0.5
#define NEARLY_ALL 0.95

static int percent(double share)
{
    return (int)(share * 100 + 0.5);
}

/* ---- sinks ---- */

static int64_t member(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static const char *topic_of(const json_t *json)
{
    const char *topic = json_string_value(json_object_get(json, "topic"));
    return topic != NULL ? topic : "?";
}

/* Transactions that could be committed and are not. */
static bool check_commit(const struct facts *facts, const struct operator_facts *sink, struct diagnosis *out)
{
    const json_t *commit = json_object_get(sink->json, "commit");
    int64_t since_ms = member(commit, "since");
    if (member(commit, "waiting") == 0 || facts->now_ms - since_ms < WAIT_MS)
        return false;
    char *since = words_since(since_ms, facts->now_ms);
    struct finding *finding =
        diagnosis_add(out, DIAGNOSIS_ERROR, since_ms,
                      "The sink \"%s\" cannot commit to Kafka topic %s %s: %" PRId64 " records of %" PRId64 " %s wait for the brokers.",
                      sink->spec->name, topic_of(commit), since, member(commit, "rows"), member(commit, "waiting"),
                      words_plural(member(commit, "waiting"), "checkpoint", "checkpoints"));
    finding_set_task(finding, sink->task);
    finding->checkpoint = (uint64_t)member(commit, "checkpoint");
    finding->hint = heap_strdup("see whether the brokers are reachable and fast enough; the records stay in the job's memory until then");
    finding_put(finding, "records-waiting", member(commit, "rows"));
    finding_put(finding, "transactions-waiting", member(commit, "waiting"));
    free(since);
    return true;
}

/* Records that were produced and that no broker confirms. */
static bool check_delivery(const struct facts *facts, const struct operator_facts *sink, struct diagnosis *out)
{
    const json_t *delivery = json_object_get(sink->json, "delivery");
    int64_t since_ms = member(delivery, "since");
    if (member(delivery, "queued") == 0 || since_ms <= 0 || facts->now_ms - since_ms < WAIT_MS)
        return false;
    char *since = words_since(since_ms, facts->now_ms);
    struct finding *finding =
        diagnosis_add(out, DIAGNOSIS_ERROR, since_ms,
                      "The sink \"%s\" waits for Kafka: no broker has confirmed a record of topic %s %s, and %" PRId64 " are queued.",
                      sink->spec->name, topic_of(delivery), since, member(delivery, "queued"));
    finding_set_task(finding, sink->task);
    finding->hint = heap_strdup("see whether the brokers of the sink are reachable and fast enough");
    finding_put(finding, "records-queued", member(delivery, "queued"));
    free(since);
    return true;
}

static void check_sink_time(const struct facts *facts, const struct operator_facts *sink, struct diagnosis *out)
{
    double share = sink->own_share + sink->wait_share;
    if (share < HALF)
        return;
    char *task = coordinator_task_name(sink->task->execution);
    bool is_waiting = sink->wait_share > sink->own_share;
    const char *topic = json_string_value(json_object_get(sink->spec->options, "topic"));
    char *doing = heap_printf("%s%s%s", is_waiting ? "waiting for " : "writing to ", topic != NULL ? "Kafka topic " : "the outside",
                              topic != NULL ? topic : "");
    double held = 0;
    for (size_t t = 0; t < facts->task_count; t++)
        held = facts->tasks[t].back_pressured > held ? facts->tasks[t].back_pressured : held;
    char *effect = held >= HALF ? heap_printf(", and holds up the tasks before it for %d %% of theirs", percent(held)) : heap_strdup("");
    struct finding *finding =
        diagnosis_add(out, sink->wait_share >= NEARLY_ALL ? DIAGNOSIS_ERROR : DIAGNOSIS_WARNING, -1,
                      "The sink \"%s\" is slow: its task %s spends %d %% of the time %s%s.", sink->spec->name, task, percent(share), doing, effect);
    finding_set_task(finding, sink->task);
    finding->hint = heap_strdup(is_waiting ? "see whether what it writes to is reachable and fast enough"
                                           : "give the sink a higher parallelism, or a faster place to write to");
    json_object_set_new(finding->evidence, "writing-share", json_real(sink->own_share));
    json_object_set_new(finding->evidence, "waiting-share", json_real(sink->wait_share));
    free(task);
    free(doing);
    free(effect);
}

void rule_slow_sink(const struct facts *facts, struct diagnosis *out)
{
    for (size_t t = 0; facts->is_deployed && t < facts->task_count; t++) {
        for (size_t o = 0; o < facts->tasks[t].operator_count; o++) {
            const struct operator_facts *sink = &facts->tasks[t].operators[o];
            if (!facts_is_sink(sink))
                continue;
            if (!check_commit(facts, sink, out) && !check_delivery(facts, sink, out))
                check_sink_time(facts, sink, out);
        }
    }
}

/* ---- the bottleneck ---- */

/* The operator of a task that takes the most of its time; NULL: handing rows on does. */
static const struct operator_facts *find_busiest(const struct task_facts *task, double *share)
{
    const struct operator_facts *found = NULL;
    *share = task->shuffle_share - task->back_pressured;
    for (size_t o = 0; o < task->operator_count; o++) {
        double own = task->operators[o].own_share + task->operators[o].wait_share;
        if (own <= *share)
            continue;
        *share = own;
        found = &task->operators[o];
    }
    return found;
}

/* What a task is busy with; malloced. kind: for the evidence. */
static char *busy_with(const struct task_facts *task, const struct operator_facts *operator, const char **kind)
{
    if (operator == NULL) {
        *kind = task->operator_count > 0 ? "shuffle" : "unknown";
        return heap_strdup(task->operator_count > 0 ? "handing rows to the next tasks (shuffle)" : "its operators");
    }
    const json_t *options = operator->spec->options;
    static const char *const members[] = {"function", "window_function", "aggregate", "reduce"};
    if (facts_is_sink(operator)) {
        *kind = "sink";
        return heap_printf("the sink \"%s\"", operator->spec->name);
    }
    if (facts_is_source(operator)) {
        *kind = "source";
        return heap_printf("reading and parsing in \"%s\"", operator->spec->name);
    }
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        const char *function = json_string_value(json_object_get(options, members[i]));
        if (function == NULL)
            continue;
        *kind = "user-code";
        return heap_printf("user code, in the function %s of \"%s\"", function, operator->spec->name);
    }
    *kind = "operator";
    return heap_printf("the operator \"%s\"", operator->spec->name);
}

static bool feeds(const struct job_task_vertex *source, const struct job_task_vertex *vertex)
{
    for (uint32_t i = 0; i < vertex->input_count; i++)
        if (vertex->inputs[i].source_vertex == source->index)
            return true;
    return false;
}

/* The busiest task behind a back-pressured one that is not held up itself; NULL: none. */
static const struct task_facts *find_culprit(const struct facts *facts, const struct task_facts *held)
{
    const struct task_facts *found = NULL;
    for (size_t t = 0; t < facts->task_count; t++) {
        const struct task_facts *task = &facts->tasks[t];
        if (feeds(held->subtask->vertex, task->subtask->vertex) && task->back_pressured < HALF && task->busy >= HALF &&
            (found == NULL || task->busy > found->busy))
            found = task;
    }
    return found;
}

/* held: whom it holds up; NULL: nobody, it only takes all its time. */
static void add_bottleneck(const struct task_facts *culprit, const struct task_facts *held, struct diagnosis *out)
{
    double share;
    const char *kind;
    const struct operator_facts *operator = find_busiest(culprit, &share);
    if (operator != NULL && facts_is_sink(operator) && operator->own_share + operator->wait_share >= HALF)
        return; /* named as a slow sink */
    /* A source that reads as fast as it can has much to read: no harm. */
    bool is_reading = held == NULL && operator != NULL && facts_is_source(operator);
    char *name = coordinator_task_name(culprit->execution), *held_name = held != NULL ? coordinator_task_name(held->execution) : NULL;
    char *what = busy_with(culprit, operator, &kind);
    char *effect = held != NULL ? heap_printf(", and back-pressures %s for %d %% of its", held_name, percent(held->back_pressured)) : heap_strdup("");
    struct finding *finding =
        diagnosis_add(out, is_reading ? DIAGNOSIS_INFO : DIAGNOSIS_WARNING, -1, "%s %s: it is busy %d %% of the time, with %s%s.", name,
                      is_reading ? "reads as fast as it can" : "is the bottleneck", percent(culprit->busy), what, effect);
    finding_set_task(finding, culprit);
    finding->hint = is_reading ? NULL : heap_strdup("give it a higher parallelism, or make what it does faster");
    finding_put_text(finding, "busy-with", kind);
    finding_put_text(finding, "operator", operator != NULL ? operator->spec->name : NULL);
    json_object_set_new(finding->evidence, "busy-share", json_real(culprit->busy));
    json_object_set_new(finding->evidence, "operator-share", json_real(share > 0 ? share : 0));
    if (held != NULL)
        json_object_set_new(finding->evidence, "back-pressured-share", json_real(held->back_pressured));
    free(name);
    free(held_name);
    free(what);
    free(effect);
}

void rule_bottleneck(const struct facts *facts, struct diagnosis *out)
{
    const struct task_facts *worst = NULL, *held = NULL, *busiest = NULL;
    for (size_t t = 0; facts->is_deployed && t < facts->task_count; t++) {
        const struct task_facts *task = &facts->tasks[t];
        if (task->busy >= NEARLY_ALL && (busiest == NULL || task->busy > busiest->busy))
            busiest = task;
        if (task->back_pressured < HALF)
            continue;
        const struct task_facts *culprit = find_culprit(facts, task);
        if (culprit == NULL || (worst != NULL && culprit->busy <= worst->busy))
            continue;
        worst = culprit;
        held = task;
    }
    if (worst != NULL)
        add_bottleneck(worst, held, out);
    else if (busiest != NULL)
        add_bottleneck(busiest, NULL, out);
}

/* ---- late rows ---- */

static void check_late(const struct facts *facts, const struct job_operator *spec, struct diagnosis *out)
{
    const struct operator_facts *operator, *first = NULL;
    const json_t *example = NULL;
    int64_t late = 0, rows = 0, last_ms = -1;
    for (size_t i = 0; (operator = facts_next(facts, spec, &i)) != NULL;) {
        const json_t *own = json_object_get(operator->json, "late");
        late += operator->late;
        rows += operator->rows_in;
        first = first == NULL || operator->late > first->late ? operator : first;
        if (own != NULL && member(own, "last") > last_ms) {
            example = own;
            last_ms = member(own, "last");
        }
    }
    if (late == 0)
        return;
    char *time = words_event_time(member(example, "event_time")), *watermark = words_event_time(member(example, "watermark"));
    char *behind = words_duration(member(example, "watermark") - member(example, "event_time"));
    char *for_example = example != NULL ? heap_printf(", the last of them of %s, when the watermark was at %s, %s ahead", time, watermark, behind)
                                        : heap_strdup(" before the job was last restored");
    bool is_recent = example != NULL && facts->now_ms - last_ms < RECENT_MS;
    struct finding *finding = diagnosis_add(out, late * 2 >= rows ? DIAGNOSIS_ERROR : is_recent ? DIAGNOSIS_WARNING : DIAGNOSIS_INFO, -1,
                                            "%" PRId64 " of %" PRId64 " records %s dropped as late by \"%s\"%s.", late, rows,
                                            words_plural(late, "was", "were"), spec->name, for_example);
    finding_set_task(finding, first->task);
    finding->hint = heap_strdup("raise the out-of-orderness of the watermarks or the allowed lateness, or send late rows to a side output");
    finding_put(finding, "late", late);
    finding_put(finding, "records-in", rows);
    finding_put(finding, "last", last_ms);
    if (example != NULL)
        json_object_set_new(finding->evidence, "example", json_deep_copy(example));
    free(time);
    free(watermark);
    free(behind);
    free(for_example);
}

void rule_late_records(const struct facts *facts, struct diagnosis *out)
{
    for (uint32_t o = 0; o < facts->job->graph->operator_count; o++)
        check_late(facts, &facts->job->graph->operators[o], out);
}

/* ---- windows ---- */

struct window_facts {
    const struct operator_facts *first;
    int64_t rows_in, rows_out, late;
    int64_t next_end;  /* INT64_MAX: not known */
    int64_t watermark; /* the lowest of its subtasks */
    bool is_event_time;
};

static bool read_window(const struct facts *facts, const struct job_operator *spec, struct window_facts *out)
{
    const struct operator_facts *operator;
    *out = (struct window_facts){.next_end = INT64_MAX, .watermark = INT64_MAX};
    for (size_t i = 0; (operator = facts_next(facts, spec, &i)) != NULL;) {
        const json_t *window = json_object_get(operator->json, "window");
        if (window == NULL)
            continue;
        out->first = out->first == NULL || operator->rows_in > out->first->rows_in ? operator : out->first;
        out->rows_in += operator->rows_in;
        out->rows_out += operator->rows_out;
        out->late += operator->late;
        out->is_event_time = json_is_true(json_object_get(window, "is_event_time"));
        out->next_end = member(window, "next_end") < out->next_end ? member(window, "next_end") : out->next_end;
        out->watermark = operator->watermark_in < out->watermark ? operator->watermark_in : out->watermark;
    }
    return out->first != NULL;
}

static bool has_written(const struct facts *facts)
{
    for (size_t t = 0; t < facts->task_count; t++)
        for (size_t o = 0; o < facts->tasks[t].operator_count; o++)
            if (facts->tasks[t].operators[o].rows_written > 0)
                return true;
    return false;
}

static void check_window(const struct facts *facts, const struct job_operator *spec, struct diagnosis *out)
{
    struct window_facts window;
    if (!read_window(facts, spec, &window) || window.rows_out > 0 || window.rows_in <= window.late || window.next_end == INT64_MAX)
        return;
    char *end = words_event_time(window.next_end);
    char *watermark = words_event_time(window.watermark);
    char *missing = words_duration(window.watermark == TIME_UNSET ? 0 : window.next_end - window.watermark);
    struct finding *finding;
    if (!window.is_event_time)
        finding = diagnosis_add(out, DIAGNOSIS_INFO, -1, "No window of \"%s\" has given a row yet: the next one ends at %s.", spec->name, end);
    else if (window.watermark == TIME_UNSET)
        finding = diagnosis_add(out, DIAGNOSIS_INFO, -1,
                                "No window of \"%s\" has given a row yet: the next one ends at %s, and there is no watermark yet.", spec->name,
                                end);
    else
        finding = diagnosis_add(out, DIAGNOSIS_INFO, -1,
                                "No window of \"%s\" has given a row yet: the next one ends at %s and the watermark is at %s, so records of %s "
                                "of event time are missing.", spec->name, end, watermark, missing);
    finding_set_task(finding, window.first->task);
    finding->explains = !has_written(facts);
    finding_put(finding, "window-end", window.next_end);
    if (window.watermark != TIME_UNSET)
        finding_put(finding, "watermark", window.watermark);
    finding_put(finding, "records-in", window.rows_in);
    free(end);
    free(watermark);
    free(missing);
}

void rule_window_open(const struct facts *facts, struct diagnosis *out)
{
    for (uint32_t o = 0; facts->is_deployed && o < facts->job->graph->operator_count; o++)
        check_window(facts, &facts->job->graph->operators[o], out);
}

/* ---- rows that wait for a checkpoint ---- */

static bool commits_with_checkpoints(const struct job_operator *spec)
{
    const char *guarantee = json_string_value(json_object_get(spec->options, "guarantee"));
    return strcmp(spec->type, "file-sink-writer") == 0 ||
           (strcmp(spec->type, "kafka-sink-writer") == 0 && guarantee != NULL && strcmp(guarantee, "exactly-once") == 0);
}

static void check_uncommitted(const struct facts *facts, const struct job_operator *spec, struct diagnosis *out)
{
    const struct operator_facts *operator, *first = NULL;
    int64_t rows = 0;
    for (size_t i = 0; (operator = facts_next(facts, spec, &i)) != NULL;) {
        first = first == NULL ? operator : first;
        rows += operator->rows_in;
    }
    if (rows == 0)
        return;
    char *interval = words_duration(facts->job->settings.checkpoint_interval_ms);
    struct finding *finding = diagnosis_add(out, DIAGNOSIS_INFO, facts->deployed_ms,
                                            "The %" PRId64 " %s that the sink \"%s\" has been given can be read when a checkpoint completes: none "
                                            "has yet, and one is taken every %s.", rows, words_plural(rows, "row", "rows"), spec->name, interval);
    finding_set_task(finding, first->task);
    finding->explains = true;
    finding->hint = heap_strdup("wait for it, trigger one (flink checkpoint), or set a shorter execution.checkpointing.interval");
    finding_put(finding, "rows-waiting", rows);
    finding_put(finding, "checkpoint-interval-ms", facts->job->settings.checkpoint_interval_ms);
    free(interval);
}

void rule_rows_uncommitted(const struct facts *facts, struct diagnosis *out)
{
    const struct job *job = facts->job;
    if (!facts->is_deployed || job->settings.checkpoint_interval_ms <= 0 || job->checkpoints.latest_completed != NULL ||
        facts->now_ms - facts->deployed_ms < VISIBLE_MS)
        return;
    for (uint32_t o = 0; o < job->graph->operator_count; o++)
        if (commits_with_checkpoints(&job->graph->operators[o]))
            check_uncommitted(facts, &job->graph->operators[o], out);
}
