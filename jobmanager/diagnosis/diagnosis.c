/* Runs the rules over the facts, sorts what they found, and writes the answer (diagnosis.h). Pure. Thread: the loop. */
#include "jobmanager/diagnosis/diagnosis.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "jobmanager/diagnosis/facts.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const struct {
    const char *kind;
    void (*run)(const struct facts *facts, struct diagnosis *out);
} rules[] = {
#define DIAGNOSIS_RULE(kind, function) {kind, rule_##function},
#include "jobmanager/diagnosis/rules.def"
#undef DIAGNOSIS_RULE
};

struct finding *diagnosis_add(struct diagnosis *diagnosis, enum diagnosis_severity severity, int64_t since_ms, const char *sentence, ...)
{
    va_list args;
    va_start(args, sentence);
    char *text = NULL;
    if (vasprintf(&text, sentence, args) < 0)
        text = heap_strdup(sentence);
    va_end(args);
    struct finding finding = {.severity = severity, .subtask = -1, .since_ms = since_ms, .sentence = text, .evidence = json_object()};
    vec_push(&diagnosis->findings, finding);
    return &diagnosis->findings.items[diagnosis->findings.count - 1];
}

void finding_set_task(struct finding *finding, const struct task_facts *task)
{
    finding->vertex = task->subtask->vertex;
    finding->subtask = task->subtask->index;
}

void finding_put(struct finding *finding, const char *name, int64_t value)
{
    json_object_set_new(finding->evidence, name, json_integer((json_int_t)value));
}

void finding_put_text(struct finding *finding, const char *name, const char *value)
{
    json_t *text = value != NULL ? json_string(value) : NULL;
    if (text != NULL)
        json_object_set_new(finding->evidence, name, text);
}

static int compare_findings(const void *a, const void *b)
{
    const struct finding *first = a, *second = b;
    if (first->severity != second->severity)
        return first->severity > second->severity ? -1 : 1;
    if (first->rank != second->rank)
        return first->rank < second->rank ? -1 : 1;
    if (first->since_ms != second->since_ms)
        return first->since_ms < second->since_ms ? -1 : 1;
    return strcmp(first->sentence, second->sentence);
}

/* What a healthy job does. */
static char *healthy_summary(const struct facts *facts)
{
    const struct checkpoint *latest = facts->job->checkpoints.latest_completed;
    int64_t rows_read = 0;
    for (size_t t = 0; t < facts->task_count; t++)
        for (size_t o = 0; o < facts->tasks[t].operator_count; o++)
            rows_read += facts->tasks[t].operators[o].rows_read;
    struct str_buf text = {0};
    str_buf_printf(&text, "The job is healthy: %" PRIu32 " %s, %" PRId64 " records read so far", facts->job->task_count,
                   facts->job->task_count == 1 ? "task runs" : "tasks run", rows_read);
    if (latest != NULL && latest->complete_ms >= 0)
        str_buf_printf(&text, ", checkpoint %" PRIu64 " completed in %" PRId64 " ms", latest->id, latest->complete_ms - latest->trigger_ms);
    str_buf_append(&text, ".");
    return str_buf_detach(&text);
}

static char *make_summary(const struct facts *facts, const struct diagnosis *diagnosis)
{
    for (size_t i = 0; i < diagnosis->findings.count; i++) {
        const struct finding *finding = &diagnosis->findings.items[i];
        if (finding->severity > DIAGNOSIS_INFO || finding->explains)
            return heap_strdup(finding->sentence);
    }
    return healthy_summary(facts);
}

void diagnosis_make(const struct coordinator *coordinator, const struct job *job, int64_t now_ms, struct diagnosis *out)
{
    struct facts facts;
    *out = (struct diagnosis){.job = job, .now_ms = now_ms};
    facts_init(&facts, coordinator, job, now_ms);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        size_t before = out->findings.count;
        rules[i].run(&facts, out);
        for (size_t f = before; f < out->findings.count; f++) {
            out->findings.items[f].kind = rules[i].kind;
            out->findings.items[f].rank = i;
        }
    }
    if (out->findings.count > 1)
        qsort(out->findings.items, out->findings.count, sizeof *out->findings.items, compare_findings);
    out->is_healthy = out->findings.count == 0 || out->findings.items[0].severity == DIAGNOSIS_INFO;
    out->summary = make_summary(&facts, out);
    facts_finish(&facts);
}

void diagnosis_finish(struct diagnosis *diagnosis)
{
    for (size_t i = 0; i < diagnosis->findings.count; i++) {
        struct finding *finding = &diagnosis->findings.items[i];
        free(finding->split);
        free(finding->sentence);
        free(finding->hint);
        json_decref(finding->evidence);
    }
    vec_finish(&diagnosis->findings);
    free(diagnosis->summary);
    diagnosis->summary = NULL;
}

/* ---- JSON ---- */

static json_t *text_or_null(const char *text)
{
    json_t *json = text != NULL ? json_string(text) : NULL;
    return json != NULL ? json : json_null();
}

static json_t *subject_json(const struct finding *finding)
{
    const struct job_vertex *vertex = finding->vertex != NULL ? &finding->vertex->job->graph->vertices[finding->vertex->index] : NULL;
    json_t *json = json_object();
    json_object_set_new(json, "vertex", vertex != NULL ? json_string(id_format(vertex->id).hex) : json_null());
    json_object_set_new(json, "vertex-name", text_or_null(vertex != NULL ? vertex->name : NULL));
    json_object_set_new(json, "subtask", finding->subtask >= 0 ? json_integer(finding->subtask) : json_null());
    json_object_set_new(json, "split", text_or_null(finding->split));
    json_object_set_new(json, "checkpoint", finding->checkpoint > 0 ? json_integer((json_int_t)finding->checkpoint) : json_null());
    return json;
}

static json_t *finding_json(const struct finding *finding)
{
    static const char *const severities[DIAGNOSIS_SEVERITY_COUNT] = {"info", "warning", "error"};
    json_t *json = json_object();
    json_object_set_new(json, "kind", json_string(finding->kind));
    json_object_set_new(json, "severity", json_string(severities[finding->severity]));
    json_object_set_new(json, "subject", subject_json(finding));
    json_object_set_new(json, "since", json_integer(finding->since_ms));
    json_object_set_new(json, "sentence", text_or_null(finding->sentence));
    json_object_set_new(json, "hint", text_or_null(finding->hint));
    json_object_set(json, "evidence", finding->evidence);
    return json;
}

json_t *diagnosis_to_json(const struct diagnosis *diagnosis)
{
    json_t *json = json_object();
    json_t *findings = json_array();
    for (size_t i = 0; i < diagnosis->findings.count; i++)
        json_array_append_new(findings, finding_json(&diagnosis->findings.items[i]));
    json_object_set_new(json, "job", json_string(id_format(diagnosis->job->id).hex));
    json_object_set_new(json, "state", json_string(job_state_name(diagnosis->job->state)));
    json_object_set_new(json, "timestamp", json_integer(diagnosis->now_ms));
    json_object_set_new(json, "healthy", json_boolean(diagnosis->is_healthy));
    json_object_set_new(json, "summary", text_or_null(diagnosis->summary));
    json_object_set_new(json, "findings", findings);
    return json;
}
