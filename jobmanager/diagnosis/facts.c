/* From the coordinator's structs and the tasks' reports to facts (facts.h). Pure. Thread: the loop. */
#include "jobmanager/diagnosis/facts.h"

#include "common/base/heap.h"

/* ---- values of a report ---- */

static int64_t integer(const json_t *object, const char *name, int64_t otherwise)
{
    const json_t *value = json_object_get(object, name);
    if (json_is_integer(value))
        return json_integer_value(value);
    return json_is_real(value) ? (int64_t)json_real_value(value) : otherwise;
}

/* Milliseconds of each second, as a share. folded: a task's or an operator's part of common/metrics/task_report.h. */
static double share(const json_t *folded, const char *rate)
{
    const json_t *value = json_object_get(json_object_get(folded, "rates"), rate);
    if (!json_is_number(value))
        value = json_object_get(json_object_get(folded, "values"), rate);
    double per_second = json_number_value(value) / 1000;
    return per_second < 0 ? 0 : per_second > 1 ? 1 : per_second;
}

static int64_t sum_of(const json_t *array)
{
    int64_t sum = 0;
    for (size_t i = 0; i < json_array_size(array); i++)
        sum += json_integer_value(json_array_get(array, i));
    return sum;
}

/* ---- splits and operators ---- */

static void read_split(struct split_facts *out, const struct operator_facts *source, const json_t *json)
{
    const char *name = json_string_value(json_object_get(json, "name"));
    const json_t *counters = json_object_get(json_object_get(source->books, "splits"), name != NULL ? name : "");
    int64_t added_ms = integer(json, "added", -1), start_ms = source->task->subtask->vertex->job->start_ms;
    *out = (struct split_facts){
        .source = source,
        .name = name != NULL ? name : "?",
        .added_ms = added_ms > start_ms ? added_ms : start_ms, /* a savepoint may be older than the job */
        .last_record_ms = integer(json, "last_record", -1),
        .idle_since_ms = integer(json, "idle_since", -1),
        .watermark = integer(json, "watermark", TIME_UNSET),
        .max_timestamp = integer(json, "max_timestamp", TIME_UNSET),
        .offset = integer(json, "offset", -1),
        .end_offset = integer(json, "end_offset", -1),
        .records = integer(counters, "records", 0),
        .is_finished = json_is_true(json_object_get(json, "is_finished")),
        .is_caught_up = json_is_true(json_object_get(json, "is_caught_up")),
    };
}

static void read_status(struct status_facts *out, const json_t *json)
{
    const char *text = json_string_value(json_object_get(json, "text"));
    const char *subject = json_string_value(json_object_get(json, "subject"));
    *out = (struct status_facts){.code = json_string_value(json_object_get(json, "code")),
                                 .text = text != NULL ? text : "",
                                 .subject = subject != NULL ? subject : "",
                                 .since_ms = integer(json, "since", -1)};
}

static const json_t *find_operator(const json_t *metrics, const char *id)
{
    const json_t *operators = json_object_get(metrics, "operators");
    for (size_t i = 0; i < json_array_size(operators); i++) {
        const char *other = json_string_value(json_object_get(json_array_get(operators, i), "operator"));
        if (other != NULL && strcmp(other, id) == 0)
            return json_array_get(operators, i);
    }
    return NULL;
}

/* A trouble that the attempts before had too, when they ended, is as old as its first. */
static void follow_status_back(struct status_facts *status, const struct job_subtask *subtask, const char *operator_id)
{
    for (uint32_t i = subtask->past_count; i-- > 0;) {
        struct status_facts before;
        read_status(&before, json_object_get(find_operator(subtask->past[i]->metrics, operator_id), "status"));
        if (before.code == NULL || strcmp(before.code, status->code) != 0 || strcmp(before.subject, status->subject) != 0)
            return;
        status->since_ms = before.since_ms > 0 ? before.since_ms : status->since_ms;
    }
}

static const struct job_operator *find_spec(const struct job *job, const json_t *json)
{
    struct id id;
    const char *text = json_string_value(json_object_get(json, "operator"));
    if (text == NULL || !id_parse(text, &id))
        return NULL;
    for (uint32_t i = 0; i < job->graph->operator_count; i++)
        if (id_equals(job->graph->operators[i].id, id))
            return &job->graph->operators[i];
    return NULL;
}

static void read_operator(struct operator_facts *out, const struct task_facts *task, const struct job_operator *spec, const json_t *json)
{
    const json_t *books = json_object_get(json, "books");
    *out = (struct operator_facts){
        .task = task,
        .spec = spec,
        .json = json,
        .books = books,
        .watermark_in = integer(json, "watermark_in", TIME_UNSET),
        .watermark_out = integer(json, "watermark_out", TIME_UNSET),
        .watermark_out_since_ms = integer(json, "watermark_out_since", -1),
        .is_idle = json_is_true(json_object_get(json, "is_idle")),
        .rows_in = sum_of(json_object_get(books, "rows_in")),
        .rows_out = integer(books, "rows_out", 0) + sum_of(json_object_get(books, "side_rows_out")),
        .rows_read = integer(books, "rows_read", 0),
        .late = integer(books, "late", 0),
        .unparsable = integer(books, "unparsable", 0),
        .rows_written = integer(books, "rows_written", 0),
        .rows_committed = integer(books, "rows_committed", 0),
        .own_share = share(json, "operatorTimeMsPerSecond"),
        .wait_share = share(json, "outsideTimeMsPerSecond"),
    };
    read_status(&out->status, json_object_get(json, "status"));
    if (out->status.code != NULL)
        follow_status_back(&out->status, task->subtask, id_format(spec->id).hex);
    const json_t *splits = json_object_get(json, "splits");
    out->splits = heap_alloc_array(json_array_size(splits) + 1, sizeof *out->splits);
    for (size_t i = 0; i < json_array_size(splits); i++)
        read_split(&out->splits[out->split_count++], out, json_array_get(splits, i));
}

bool facts_is_source(const struct operator_facts *operator)
{
    size_t length = strlen(operator->spec->type);
    return length > 7 && strcmp(operator->spec->type + length - 7, "-source") == 0;
}

bool facts_is_sink(const struct operator_facts *operator)
{
    return strstr(operator->spec->type, "-sink") != NULL;
}

const struct operator_facts *facts_next(const struct facts *facts, const struct job_operator *spec, size_t *cursor)
{
    for (; *cursor < facts->task_count; ++*cursor) {
        const struct task_facts *task = &facts->tasks[*cursor];
        for (size_t o = 0; o < task->operator_count; o++) {
            if (task->operators[o].spec != spec)
                continue;
            ++*cursor;
            return &task->operators[o];
        }
    }
    return NULL;
}

/* ---- tasks ---- */

static void read_task(struct task_facts *out, const struct job *job, const struct job_subtask *subtask)
{
    const struct execution *execution = subtask->current;
    *out = (struct task_facts){.subtask = subtask, .execution = execution, .is_reported = execution->metrics != NULL};
    if (!out->is_reported)
        return;
    out->busy = share(execution->metrics, "busyTimeMsPerSecond");
    out->idle = share(execution->metrics, "idleTimeMsPerSecond");
    out->back_pressured = share(execution->metrics, "backPressuredTimeMsPerSecond");
    out->shuffle_share = share(execution->metrics, "shuffleTimeMsPerSecond");
    const json_t *operators = json_object_get(execution->metrics, "operators");
    out->operators = heap_alloc_array(json_array_size(operators) + 1, sizeof *out->operators);
    for (size_t i = 0; i < json_array_size(operators); i++) {
        const json_t *json = json_array_get(operators, i);
        const struct job_operator *spec = find_spec(job, json);
        if (spec != NULL)
            read_operator(&out->operators[out->operator_count++], out, spec, json);
    }
}

static bool runs(const struct execution *execution)
{
    return execution->state == EXECUTION_RUNNING || execution->state == EXECUTION_FINISHED;
}

void facts_init(struct facts *facts, const struct coordinator *coordinator, const struct job *job, int64_t now_ms)
{
    *facts = (struct facts){.coordinator = coordinator, .job = job, .now_ms = now_ms, .deployed_ms = -1};
    facts->tasks = heap_alloc_array(job->task_count + 1u, sizeof *facts->tasks);
    facts->is_deployed = job->state == JOB_RUNNING && job->vertices != NULL;
    for (uint32_t v = 0; job->vertices != NULL && v < job->graph->vertex_count; v++) {
        for (uint32_t s = 0; s < job->vertices[v].parallelism; s++) {
            const struct job_subtask *subtask = &job->vertices[v].subtasks[s];
            if (subtask->current == NULL)
                continue;
            read_task(&facts->tasks[facts->task_count++], job, subtask);
            facts->is_deployed = facts->is_deployed && runs(subtask->current);
            int64_t since = subtask->current->timestamps[EXECUTION_RUNNING];
            facts->deployed_ms = since > facts->deployed_ms ? since : facts->deployed_ms;
        }
    }
}

void facts_finish(struct facts *facts)
{
    for (size_t t = 0; t < facts->task_count; t++) {
        for (size_t o = 0; o < facts->tasks[t].operator_count; o++)
            free(facts->tasks[t].operators[o].splits);
        free(facts->tasks[t].operators);
    }
    free(facts->tasks);
    facts->tasks = NULL;
    facts->task_count = 0;
}
