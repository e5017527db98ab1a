/* Rules about what comes in: topics, brokers, partitions that are empty or silent, records that do not parse, event times. Pure.
 * Thread: the loop. */
#include "jobmanager/diagnosis/facts.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <inttypes.h>

/* A partition that is silent for less may just be between two records. */
#define QUIET_MS 5000
/* A partition with more in it, of which nothing comes for so long, though the source has time. */
#define STALL_MS 20000
/* A source that has had records counts as dried up after that long. */
#define DRY_MS 30000
#define RECENT_MS (10 * 60 * 1000)
#define SPLITS_NAMED_MAX 5
#define FUTURE_MS (60 * 60 * 1000)
/* Seconds that were taken for milliseconds: times of the last three years, a thousandth of what they should be. Other old times
 * are replays or made up, as the playground's, which begin with 1970. */
#define SECONDS_SPAN_MS (INT64_C(3) * 365 * 24 * 60 * 60)

/* ---- the way to the brokers ---- */

/* The first task of each operator whose status is that: its subtasks all have the same trouble. */
static const struct operator_facts *find_status(const struct facts *facts, const struct job_operator *spec, const char *code)
{
    const struct operator_facts *operator;
    if (facts->job->state != JOB_RUNNING && facts->job->state != JOB_RESTARTING)
        return NULL;
    for (size_t i = 0; (operator = facts_next(facts, spec, &i)) != NULL;)
        if (operator->status.code != NULL && strcmp(operator->status.code, code) == 0)
            return operator;
    return NULL;
}

void rule_topic_missing(const struct facts *facts, struct diagnosis *out)
{
    for (uint32_t o = 0; o < facts->job->graph->operator_count; o++) {
        const struct operator_facts *operator = find_status(facts, &facts->job->graph->operators[o], "topic-missing");
        if (operator == NULL)
            continue;
        char *since = words_since(operator->status.since_ms, facts->now_ms);
        struct finding *finding = diagnosis_add(out, DIAGNOSIS_ERROR, operator->status.since_ms,
                                                "The Kafka topic \"%s\" that \"%s\" reads does not exist (it waits %s): %s.",
                                                operator->status.subject, operator->spec->name, since, operator->status.text);
        finding_set_task(finding, operator->task);
        finding->hint = heap_strdup("correct the topic's name in the program or its arguments, or create the topic");
        finding_put_text(finding, "topic", operator->status.subject);
        finding_put_text(finding, "error", operator->status.text);
        free(since);
    }
}

void rule_broker_unreachable(const struct facts *facts, struct diagnosis *out)
{
    for (uint32_t o = 0; o < facts->job->graph->operator_count; o++) {
        const struct job_operator *spec = &facts->job->graph->operators[o];
        const struct operator_facts *operator = find_status(facts, spec, "broker-unreachable");
        const char *does = "does not reach";
        if (operator == NULL) {
            operator = find_status(facts, spec, "sink-opening");
            does = "cannot start without";
            if (operator == NULL || facts->now_ms - operator->status.since_ms < QUIET_MS)
                continue;
        }
        char *since = words_since(operator->status.since_ms, facts->now_ms);
        struct finding *finding = diagnosis_add(out, DIAGNOSIS_ERROR, operator->status.since_ms,
                                                "\"%s\" %s its Kafka brokers at %s %s: %s.", spec->name, does, operator->status.subject,
                                                since, operator->status.text);
        finding_set_task(finding, operator->task);
        finding->hint = heap_strdup("see that the brokers run, and that the taskmanagers reach the addresses that they advertise");
        finding_put_text(finding, "brokers", operator->status.subject);
        finding_put_text(finding, "error", operator->status.text);
        free(since);
    }
}

/* ---- splits of a source over all its subtasks ---- */

struct source_facts {
    const struct job_operator *spec;
    const struct operator_facts *first; /* of any task */
    VEC(const struct split_facts *) splits;
    int64_t rows_read, unparsable;
    bool is_ready;        /* every subtask has reported and knows its splits */
    const char *neighbours; /* other topics with records; NULL */
};

static void source_facts_init(struct source_facts *source, const struct facts *facts, const struct job_operator *spec)
{
    const struct operator_facts *operator;
    uint32_t reported = 0;
    *source = (struct source_facts){.spec = spec, .is_ready = true};
    for (size_t i = 0; (operator = facts_next(facts, spec, &i)) != NULL;) {
        source->first = source->first == NULL ? operator : source->first;
        source->rows_read += operator->rows_read;
        source->unparsable += operator->unparsable;
        source->is_ready = source->is_ready && json_is_true(json_object_get(operator->json, "is_ready"));
        const char *neighbours = json_string_value(json_object_get(operator->json, "neighbours"));
        source->neighbours = neighbours != NULL ? neighbours : source->neighbours;
        for (size_t s = 0; s < operator->split_count; s++)
            vec_push(&source->splits, &operator->splits[s]);
        reported++;
    }
    source->is_ready = source->is_ready && reported > 0 && reported == facts->job->vertices[spec->vertex].parallelism;
}

static void source_facts_finish(struct source_facts *source)
{
    vec_finish(&source->splits);
}

/* Calls check for every source of a job whose tasks run. */
static void for_each_source(const struct facts *facts, struct diagnosis *out,
                            void (*check)(const struct facts *facts, const struct source_facts *source, struct diagnosis *out))
{
    for (uint32_t o = 0; facts->is_deployed && o < facts->job->graph->operator_count; o++) {
        struct source_facts source;
        source_facts_init(&source, facts, &facts->job->graph->operators[o]);
        if (source.first != NULL && facts_is_source(source.first))
            check(facts, &source, out);
        source_facts_finish(&source);
    }
}

/* Since when the split is silent. */
static int64_t quiet_since_ms(const struct split_facts *split)
{
    return split->last_record_ms > 0 ? split->last_record_ms : split->added_ms;
}

static bool is_quiet(const struct facts *facts, const struct split_facts *split)
{
    return split->is_caught_up && !split->is_finished && facts->now_ms - quiet_since_ms(split) >= QUIET_MS;
}

/* "input-1, input-3 and 4 more" */
static char *split_names(const struct split_facts *const *splits, size_t count)
{
    struct str_buf text = {0};
    for (size_t i = 0; i < count && i < SPLITS_NAMED_MAX; i++)
        str_buf_printf(&text, "%s%s", i > 0 ? ", " : "", splits[i]->name);
    if (count > SPLITS_NAMED_MAX)
        str_buf_printf(&text, " and %zu more", count - SPLITS_NAMED_MAX);
    return str_buf_detach(&text);
}

static void put_split_names(struct finding *finding, const struct split_facts *const *splits, size_t count)
{
    json_t *names = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(names, json_string(splits[i]->name));
    json_object_set_new(finding->evidence, "splits", names);
}

/* ---- nothing comes in ---- */

static const char *topic_of(const struct job_operator *spec)
{
    const char *topic = json_string_value(json_array_get(json_object_get(spec->options, "topics"), 0));
    return topic != NULL ? topic : json_string_value(json_object_get(spec->options, "topic_pattern"));
}

/* Whether all that the splits ever held lies before where reading began. */
static bool starts_behind_records(const struct source_facts *source)
{
    for (size_t i = 0; i < source->splits.count; i++)
        if (source->splits.items[i]->end_offset > 0)
            return true;
    return false;
}

static void check_no_input(const struct facts *facts, const struct source_facts *source, struct diagnosis *out)
{
    int64_t since_ms = facts->deployed_ms;
    bool is_all_read = true;
    if (!source->is_ready || source->rows_read > 0)
        return;
    for (size_t i = 0; i < source->splits.count; i++) {
        const struct split_facts *split = source->splits.items[i];
        is_all_read = is_all_read && split->is_caught_up && !split->is_finished;
        since_ms = split->added_ms > 0 && split->added_ms < since_ms ? split->added_ms : since_ms;
    }
    if (!is_all_read || facts->now_ms - since_ms < QUIET_MS)
        return;
    const char *topic = topic_of(source->spec);
    char *since = words_since(since_ms, facts->now_ms);
    char *names = split_names(source->splits.items, source->splits.count);
    char *others = source->neighbours != NULL ? heap_printf("; other topics of the cluster that hold records: %s",
                                                            source->neighbours) : heap_strdup("");
    struct finding *finding;
    if (source->splits.count == 0)
        finding = diagnosis_add(out, DIAGNOSIS_ERROR, since_ms, "\"%s\" has nothing to read %s: nothing fits %s%s%s.", source->spec->name,
                                since, topic != NULL ? "the topic pattern " : "its path", topic != NULL ? topic : "", others);
    else if (starts_behind_records(source))
        finding = diagnosis_add(out, DIAGNOSIS_ERROR, since_ms,
                                "\"%s\" has read no record %s: it began at the end of %s, and no new records come%s.", source->spec->name,
                                since, names, others);
    else if (topic != NULL)
        finding = diagnosis_add(out, DIAGNOSIS_ERROR, since_ms, "\"%s\" has read no record %s: topic %s is empty (%s)%s.",
                                source->spec->name, since, topic, names, others);
    else
        finding = diagnosis_add(out, DIAGNOSIS_ERROR, since_ms, "\"%s\" has read no record %s: there is nothing in %s%s.",
                                source->spec->name, since, names, others);
    finding_set_task(finding, source->first->task);
    finding->hint = heap_strdup(source->neighbours != NULL ? "is the name of the topic right? Else see whether its producer runs"
                                                           : "see whether the producer runs and writes to this topic and cluster");
    finding_put_text(finding, "topic", topic);
    finding_put_text(finding, "topics-with-records", source->neighbours);
    put_split_names(finding, source->splits.items, source->splits.count);
    free(since);
    free(names);
    free(others);
}

void rule_no_input(const struct facts *facts, struct diagnosis *out)
{
    for_each_source(facts, out, check_no_input);
}

static void check_idle_input(const struct facts *facts, const struct source_facts *source, struct diagnosis *out)
{
    int64_t last_ms = -1;
    if (!source->is_ready || source->rows_read == 0 || source->splits.count == 0)
        return;
    for (size_t i = 0; i < source->splits.count; i++) {
        const struct split_facts *split = source->splits.items[i];
        if (!split->is_caught_up || split->is_finished)
            return;
        last_ms = quiet_since_ms(split) > last_ms ? quiet_since_ms(split) : last_ms;
    }
    if (facts->now_ms - last_ms < DRY_MS)
        return;
    char *since = words_since(last_ms, facts->now_ms);
    struct finding *finding = diagnosis_add(out, DIAGNOSIS_WARNING, last_ms,
                                            "\"%s\" has had no new record %s: %s %zu %s %s read to the end, after %" PRId64 " records.",
                                            source->spec->name, since, source->splits.count == 1 ? "its" : "all", source->splits.count,
                                            words_plural((int64_t)source->splits.count, "partition", "partitions"),
                                            source->splits.count == 1 ? "is" : "are", source->rows_read);
    finding_set_task(finding, source->first->task);
    finding->hint = heap_strdup("see whether the producer still runs; event time stands still meanwhile, so that open windows stay open");
    finding_put(finding, "records-read", source->rows_read);
    free(since);
}

void rule_idle_input(const struct facts *facts, struct diagnosis *out)
{
    for_each_source(facts, out, check_idle_input);
}

/* ---- partitions that hold the others back ---- */

static int64_t idle_timeout_ms(const struct job_operator *spec)
{
    const json_t *timeout = json_object_get(json_object_get(spec->options, "watermark"), "idle_timeout_ms");
    return json_is_integer(timeout) ? json_integer_value(timeout) : -1;
}

static bool has_watermarks(const struct job_operator *spec)
{
    const char *strategy = json_string_value(json_object_get(json_object_get(spec->options, "watermark"), "strategy"));
    return strategy != NULL && strcmp(strategy, "none") != 0;
}

static void add_holding(const struct facts *facts, const struct source_facts *source, const struct split_facts *const *splits, size_t count,
                        const struct split_facts *ahead, struct diagnosis *out)
{
    const struct split_facts *first = splits[0];
    int64_t since_ms = quiet_since_ms(first), timeout_ms = idle_timeout_ms(source->spec);
    char *since = words_since(since_ms, facts->now_ms);
    char *names = split_names(splits, count);
    char *held = words_event_time(first->watermark), *others = words_event_time(ahead->watermark);
    const char *how = first->last_record_ms > 0 ? "no record has come since then"
                                                : "it is empty and has had no record since the job began to read it";
    struct finding *finding = diagnosis_add(out, DIAGNOSIS_ERROR, since_ms,
                                            "%s %s of \"%s\" %s the watermark back %s: %s, so the watermark stays at %s while %s is at %s.",
                                            count == 1 ? "Partition" : "Partitions", names, source->spec->name,
                                            count == 1 ? "holds" : "hold", since, how, held, ahead->name, others);
    finding_set_task(finding, first->source->task);
    finding->split = heap_strdup(first->name);
    finding->hint = timeout_ms < 0 ? heap_strdup("give the source's watermarks an idle timeout (idle_timeout_ms), or send records to the partition")
                                   : heap_printf("it counts as idle after %" PRId64 " ms without records", timeout_ms);
    put_split_names(finding, splits, count);
    if (first->watermark != TIME_UNSET)
        finding_put(finding, "watermark", first->watermark);
    if (ahead->watermark != TIME_UNSET)
        finding_put(finding, "watermark-of-others", ahead->watermark);
    finding_put(finding, "last-record", first->last_record_ms);
    finding_put(finding, "idle-timeout-ms", timeout_ms);
    free(since);
    free(names);
    free(held);
    free(others);
}

/* effect: of its being idle, on the watermark. */
static void add_set_aside(const struct facts *facts, const struct split_facts *split, const char *effect, struct diagnosis *out)
{
    bool is_empty = split->last_record_ms <= 0;
    int64_t since_ms = quiet_since_ms(split);
    char *since = words_since(since_ms, facts->now_ms);
    struct finding *finding = diagnosis_add(out, DIAGNOSIS_INFO, since_ms, "Partition %s of \"%s\" is idle, %s %s: %s.", split->name,
                                            split->source->spec->name, is_empty ? "empty and without a record" : "without a record", since,
                                            effect);
    finding_set_task(finding, split->source->task);
    finding->split = heap_strdup(split->name);
    finding_put(finding, "last-record", split->last_record_ms);
    finding_put(finding, "idle-since", split->idle_since_ms);
    free(since);
}

static void check_idle_split(const struct facts *facts, const struct source_facts *source, struct diagnosis *out)
{
    const struct split_facts *ahead = NULL;
    VEC(const struct split_facts *) holding = {0};
    VEC(const struct split_facts *) aside = {0};
    for (size_t i = 0; i < source->splits.count; i++)
        if (ahead == NULL || source->splits.items[i]->watermark > ahead->watermark)
            ahead = source->splits.items[i];
    bool follows_time = has_watermarks(source->spec), others_go_on = false;
    for (size_t i = 0; ahead != NULL && i < source->splits.count; i++) {
        const struct split_facts *split = source->splits.items[i];
        /* Others went on after it fell silent. */
        bool is_left_behind = is_quiet(facts, split) && ahead->last_record_ms > 0 &&
                              (split->last_record_ms <= 0 || ahead->last_record_ms - split->last_record_ms >= QUIET_MS);
        if (follows_time && split->idle_since_ms < 0 && is_left_behind && split->watermark < ahead->watermark)
            vec_push(&holding, split);
        else if (split->idle_since_ms >= 0)
            vec_push(&aside, split);
        others_go_on = others_go_on || (split->idle_since_ms < 0 && split->last_record_ms > 0);
    }
    const char *effect = others_go_on                          ? "the watermark goes on without it"
                         : aside.count == source->splits.count ? "so are the others, and the watermark stands still"
                                                               : "the others have had no record yet, and the watermark waits for them";
    if (holding.count > 0)
        add_holding(facts, source, holding.items, holding.count, ahead, out);
    for (size_t i = 0; i < aside.count && i < SPLITS_NAMED_MAX; i++)
        add_set_aside(facts, aside.items[i], effect, out);
    vec_finish(&holding);
    vec_finish(&aside);
}

void rule_idle_split(const struct facts *facts, struct diagnosis *out)
{
    for_each_source(facts, out, check_idle_split);
}

/* ---- partitions that give nothing though there is more in them ---- */

/* Other connectors' splits may be long on their way to the next record. */
static bool is_stalled(const struct facts *facts, const struct split_facts *split)
{
    const struct task_facts *task = split->source->task;
    bool has_time = task->busy < 0.9 && task->back_pressured < 0.5;
    /* Its broker may just be slow to confirm that there is nothing more. */
    bool is_at_end = split->offset >= 0 && split->offset >= split->end_offset;
    return !split->is_caught_up && !is_at_end && !split->is_finished && has_time && split->source->status.code == NULL &&
           strcmp(split->source->spec->type, "kafka-source") == 0 && facts->now_ms - quiet_since_ms(split) >= STALL_MS;
}

static void check_stalled(const struct facts *facts, const struct source_facts *source, struct diagnosis *out)
{
    VEC(const struct split_facts *) stalled = {0};
    for (size_t i = 0; i < source->splits.count; i++)
        if (is_stalled(facts, source->splits.items[i]))
            vec_push(&stalled, source->splits.items[i]);
    if (stalled.count > 0) {
        const struct split_facts *first = stalled.items[0];
        bool is_one = stalled.count == 1, holds_back = has_watermarks(source->spec);
        char *since = words_since(quiet_since_ms(first), facts->now_ms);
        char *names = split_names(stalled.items, stalled.count);
        const char *effect = !holds_back ? "" : is_one ? ": it holds the watermark back" : ": they hold the watermark back";
        struct finding *finding = diagnosis_add(out, holds_back ? DIAGNOSIS_ERROR : DIAGNOSIS_WARNING, quiet_since_ms(first),
                                                "%s %s of \"%s\" %s no record %s, though %s not read to the end%s.",
                                                is_one ? "Partition" : "Partitions", names, source->spec->name, is_one ? "gives" : "give", since,
                                                is_one ? "it is" : "they are", effect);
        finding_set_task(finding, first->source->task);
        finding->split = heap_strdup(first->name);
        finding->hint = heap_strdup("look into the log of the taskmanager for words about it: its broker may refuse it, or have removed what was "
                                    "to be read next (retention)");
        put_split_names(finding, stalled.items, stalled.count);
        finding_put(finding, "offset", first->offset);
        finding_put(finding, "end-offset", first->end_offset);
        free(since);
        free(names);
    }
    vec_finish(&stalled);
}

void rule_stalled_split(const struct facts *facts, struct diagnosis *out)
{
    for_each_source(facts, out, check_stalled);
}

/* ---- records ---- */

/* A sample of an unparsable record, from any subtask, the earliest. */
static const json_t *find_sample(const struct facts *facts, const struct job_operator *spec)
{
    const struct operator_facts *operator;
    const json_t *found = NULL;
    for (size_t i = 0; (operator = facts_next(facts, spec, &i)) != NULL;) {
        const json_t *sample = json_array_get(json_object_get(operator->books, "samples"), 0);
        if (sample != NULL && (found == NULL || json_integer_value(json_object_get(sample, "time")) < json_integer_value(json_object_get(found,
            "time"))))
            found = sample;
    }
    return found;
}

static int64_t last_unparsable_ms(const struct facts *facts, const struct job_operator *spec)
{
    const struct operator_facts *operator;
    int64_t last_ms = -1;
    for (size_t i = 0; (operator = facts_next(facts, spec, &i)) != NULL;) {
        int64_t ms = json_integer_value(json_object_get(operator->json, "last_unparsable"));
        last_ms = ms > last_ms ? ms : last_ms;
    }
    return last_ms;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

static const char *what_became_of_them(const struct job_operator *spec)
{
    const json_t *on_error = json_object_get(spec->options, "on_error");
    const char *mode = json_is_string(on_error) ? json_string_value(on_error) : json_string_value(json_object_get(on_error, "mode"));
    return mode != NULL && strcmp(mode, "dead-letter") == 0 ? "went to the dead-letter topic" : "were skipped";
}

static void check_unparsable(const struct facts *facts, const struct source_facts *source, struct diagnosis *out)
{
    if (source->unparsable == 0)
        return;
    const json_t *sample = find_sample(facts, source->spec);
    int64_t last_ms = last_unparsable_ms(facts, source->spec), since_ms = json_integer_value(json_object_get(sample, "time"));
    bool is_most = source->unparsable * 2 >= source->rows_read;
    enum diagnosis_severity severity = is_most ? DIAGNOSIS_ERROR : facts->now_ms - last_ms < RECENT_MS ? DIAGNOSIS_WARNING : DIAGNOSIS_INFO;
    bool is_all = source->unparsable == source->rows_read;
    char *count = is_all ? heap_printf("None of the %" PRId64 " records that \"%s\" has read parses; they", source->rows_read, source->spec->name)
                         : heap_printf("%" PRId64 " of the %" PRId64 " records that \"%s\" has read did not parse and", source->unparsable,
                                       source->rows_read, source->spec->name);
    struct finding *finding = diagnosis_add(out, severity, since_ms > 0 ? since_ms : -1,
                                            "%s %s, for example %s@%" JSON_INTEGER_FORMAT ": \"%s\" (%s).", count,
                                            what_became_of_them(source->spec), text_of(sample, "split"),
                                            json_integer_value(json_object_get(sample, "offset")), text_of(sample, "excerpt"),
                                            text_of(sample, "reason"));
    finding_set_task(finding, source->first->task);
    finding->split = sample != NULL ? heap_strdup(text_of(sample, "split")) : NULL;
    finding->hint = heap_strdup("compare the record with the format and the fields that the source declares");
    finding_put(finding, "unparsable", source->unparsable);
    finding_put(finding, "records-read", source->rows_read);
    finding_put(finding, "last", last_ms);
    if (sample != NULL)
        json_object_set_new(finding->evidence, "example", json_deep_copy(sample));
    free(count);
}

void rule_unparsable_records(const struct facts *facts, struct diagnosis *out)
{
    for_each_source(facts, out, check_unparsable);
}

/* ---- event times that cannot be right ---- */

static void check_event_time(const struct facts *facts, const struct source_facts *source, struct diagnosis *out)
{
    for (size_t i = 0; i < source->splits.count; i++) {
        const struct split_facts *split = source->splits.items[i];
        int64_t seconds_now = facts->now_ms / 1000;
        bool is_future = split->max_timestamp > facts->now_ms + FUTURE_MS;
        bool is_seconds = split->max_timestamp > seconds_now - SECONDS_SPAN_MS && split->max_timestamp < seconds_now + SECONDS_SPAN_MS;
        if (!is_future && !is_seconds) /* TIME_UNSET is neither */
            continue;
        char *time = words_event_time(split->max_timestamp);
        struct finding *finding;
        if (is_future)
            finding = diagnosis_add(out, DIAGNOSIS_WARNING, -1,
                                    "An event time in partition %s of \"%s\" lies in the future, at %s: the watermark runs ahead with it, and "
                                    "records of today are late.",
                                    split->name, source->spec->name, time);
        else
            finding = diagnosis_add(out, DIAGNOSIS_WARNING, -1,
                                    "The event times in partition %s of \"%s\" are of long ago, at most %s: as if seconds were taken for "
                                    "milliseconds.",
                                    split->name, source->spec->name, time);
        finding_set_task(finding, split->source->task);
        finding->split = heap_strdup(split->name);
        finding->hint = heap_strdup("see which field and unit the source takes as event time");
        finding_put(finding, "max-timestamp", split->max_timestamp);
        free(time);
        return;
    }
}

void rule_odd_event_time(const struct facts *facts, struct diagnosis *out)
{
    for_each_source(facts, out, check_event_time);
}
