/* The books of a checkpoint must balance (ARCHITECTURE.md, "Books"):
 *   per input of an operator: rows out of its sources, each times the copies that the edge makes, = rows in + rows in flight
 *   (in flight: in an unaligned checkpoint, held by the input's subtasks; counted as rows in when they are played back)
 *   map, assign_timestamps: in = out;  filter: in = out + filtered;  sources: read = out + unparsable + filtered
 * Where a savepoint is restored into a changed graph, a new operator starts at zero between neighbours that do not. That
 * difference is taken once, at the restore, as the baseline of the input, and carried in all later metadata. */
#include "jobmanager/core/internal.h"

#include <inttypes.h>
#include <stdio.h>

/* ---------------------------------------------------------------- sums */

static void add_member(json_t *sum, const char *name, const json_t *value)
{
    json_int_t before = json_integer_value(json_object_get(sum, name));
    json_object_set_new(sum, name, json_integer((json_int_t)((uint64_t)before + (uint64_t)json_integer_value(value))));
}

static void add_array(json_t *sum, const char *name, const json_t *values)
{
    json_t *array = json_object_get(sum, name);
    if (array == NULL) {
        array = json_array();
        json_object_set_new(sum, name, array);
    }
    size_t index;
    json_t *value;
    json_array_foreach(values, index, value) {
        if (json_is_integer(value)) {
            json_int_t before = json_integer_value(json_array_get(array, index));
            json_t *total = json_integer((json_int_t)((uint64_t)before + (uint64_t)json_integer_value(value)));
            if (index < json_array_size(array))
                json_array_set_new(array, index, total);
            else
                json_array_append_new(array, total);
        } else if (json_array_size(array) < 5) { /* samples: the first few */
            json_array_append(array, value);
        }
    }
}

/* Digests are 64-bit sums written in hexadecimal. */
static void add_digest(json_t *sum, const char *name, const json_t *value)
{
    const char *before = json_string_value(json_object_get(sum, name));
    uint64_t total = (before != NULL ? strtoull(before, NULL, 16) : 0) + strtoull(json_string_value(value), NULL, 16);
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, total);
    json_object_set_new(sum, name, json_string(text));
}

void books_sum_add(json_t *sum, const json_t *books)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)books, name, value) {
        if (json_is_integer(value)) {
            add_member(sum, name, value);
        } else if (json_is_array(value)) {
            add_array(sum, name, value);
        } else if (json_is_string(value)) {
            add_digest(sum, name, value);
        } else if (json_is_object(value)) {
            json_t *inner = json_object_get(sum, name);
            if (inner == NULL) {
                inner = json_object();
                json_object_set_new(sum, name, inner);
            }
            books_sum_add(inner, value);
        }
    }
}

/* ---------------------------------------------------------------- the comparison */

static const json_t *books_of(const json_t *sums, const struct job_operator *operator)
{
    return json_object_get(sums, id_format(operator->id).hex);
}

/* Counts are summed modulo 2^64: what a taskmanager reports may be any number. */
static uint64_t count_of(const json_t *books, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(books, name));
}

static uint64_t count_at(const json_t *books, const char *name, uint32_t index)
{
    return (uint64_t)json_integer_value(json_array_get(json_object_get(books, name), index));
}

/* Rows that the sources sent to an input, minus rows that it counted or has in the checkpoint. *has_edges: whether anything feeds the input. */
static int64_t input_difference(const struct job *job, const json_t *sums, uint32_t target, uint32_t input, bool *has_edges)
{
    const struct job_operator *operator = &job->graph->operators[target];
    uint64_t sent = 0;
    for (uint32_t e = 0; e < operator->input_count; e++) {
        const struct job_edge *edge = &operator->inputs[e];
        if (edge->input != input)
            continue;
        const json_t *source = books_of(sums, &job->graph->operators[edge->source]);
        uint64_t rows = edge->side_output < 0 ? count_of(source, "rows_out") : count_at(source, "side_rows_out", (uint32_t)edge->side_output);
        sent += edge->partitioning == PARTITION_BROADCAST ? rows * operator->parallelism : rows;
        *has_edges = true;
    }
    const json_t *books = books_of(sums, operator);
    return (int64_t)(sent - count_at(books, "rows_in", input) - count_at(books, "rows_in_flight", input));
}

static void add_fault(json_t **faults, char *text)
{
    if (*faults == NULL)
        *faults = json_array();
    json_array_append_new(*faults, json_string(text));
    free(text);
}

static void check_input(const struct job *job, const json_t *sums, uint32_t target, uint32_t input, json_t **faults)
{
    bool has_edges = false;
    int64_t difference = input_difference(job, sums, target, input, &has_edges);
    const struct job_operator *operator = &job->graph->operators[target];
    char key[48];
    snprintf(key, sizeof key, "%s:%" PRIu32, id_format(operator->id).hex, input);
    difference = (int64_t)((uint64_t)difference - count_of(job->books_baseline, key));
    if (has_edges && difference != 0)
        add_fault(faults, heap_printf("input %" PRIu32 " of %s: %" PRIu64 " rows %s", input, operator->name,
                                      difference < 0 ? 0 - (uint64_t)difference : (uint64_t)difference,
                                      difference < 0 ? "came that nobody sent" : "were sent and did not come"));
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static void check_operator(const struct job_operator *operator, const json_t *books, json_t **faults)
{
    uint64_t expected = count_at(books, "rows_in", 0);
    uint64_t out = count_of(books, "rows_out");
    if (strcmp(operator->type, "filter") == 0)
        out += count_of(books, "filtered");
    else if (ends_with(operator->type, "-source")) {
        expected = count_of(books, "rows_read");
        out += count_of(books, "unparsable") + count_of(books, "filtered");
    } else if (strcmp(operator->type, "map") != 0 && strcmp(operator->type, "assign_timestamps") != 0) {
        return;
    }
    if (expected != out)
        add_fault(faults, heap_printf("%s (%s): %" PRIu64 " rows in, %" PRIu64 " rows accounted for", operator->name, operator->type, expected, out));
}

json_t *books_balance_check(const struct job *job, const json_t *sums)
{
    json_t *faults = NULL;
    for (uint32_t i = 0; i < job->graph->operator_count; i++) {
        const struct job_operator *operator = &job->graph->operators[i];
        const json_t *books = books_of(sums, operator);
        if (books == NULL)
            continue;
        check_operator(operator, books, &faults);
        check_input(job, sums, i, 0, &faults);
        check_input(job, sums, i, 1, &faults);
    }
    return faults;
}

json_t *books_balance_baseline(const struct job *job, const json_t *sums)
{
    json_t *baseline = NULL;
    for (uint32_t i = 0; i < job->graph->operator_count; i++) {
        for (uint32_t input = 0; input < 2; input++) {
            bool has_edges = false;
            int64_t difference = input_difference(job, sums, i, input, &has_edges);
            if (!has_edges || difference == 0)
                continue;
            if (baseline == NULL)
                baseline = json_object();
            char key[48];
            snprintf(key, sizeof key, "%s:%" PRIu32, id_format(job->graph->operators[i].id).hex, input);
            json_object_set_new(baseline, key, json_integer(difference));
        }
    }
    return baseline;
}
