/* Saving and dealing out what was in flight: see in_flight_restore.h. Thread: the task's. */
#include "taskmanager/task/in_flight_restore.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "taskmanager/net/partitioner.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const place_names[] = {[IN_FLIGHT_EDGE] = "edge", [IN_FLIGHT_HELD] = "held"};

static struct schema *edge_schema(const struct job_graph *graph, const struct job_edge *edge)
{
    const struct job_operator *source = &graph->operators[edge->source];
    return edge->side_output < 0 ? source->schema : source->side_outputs[edge->side_output].schema;
}

void in_flight_save(struct snapshot *snapshot, const struct job_graph *graph, const struct job_operator *target, uint32_t edge_index,
                    enum in_flight_place place, uint32_t number, uint32_t subtask, struct in_flight *in_flight)
{
    const struct job_edge *edge = &target->inputs[edge_index];
    const struct job_operator *source = &graph->operators[edge->source];
    json_t *meta = json_pack("{s:s, s:i, s:s, s:I, s:I, s:I, s:o}", "source", id_format(source->id).hex, "side_output", (int)edge->side_output,
                             "partitioning", partitioning_name(edge->partitioning), "producers", (json_int_t)source->parallelism, "consumers",
                             (json_int_t)target->parallelism, "consumer", (json_int_t)subtask, "schema",
                             schema_to_json(edge_schema(graph, edge)));
    char name[32];
    snprintf(name, sizeof name, "%s-%" PRIu32, place_names[place], number);
    snapshot_add_in_flight(snapshot, name, meta, in_flight);
}

/* ---- reading ---- */

struct section {
    const struct in_flight_reader *reader;
    bool is_skipped; /* of the other place, or exactly another subtask's */
    bool is_exact;
    uint32_t edge;
    uint32_t number;
    struct schema *schema; /* borrowed from the graph */
    struct partitioner *partitioner; /* not exact */
};

/* The edge that the section speaks of: the one of that number if it fits, else the first that does. */
static bool find_edge(const struct in_flight_reader *reader, const char *source, json_int_t side_output, uint32_t number, uint32_t *out)
{
    bool is_found = false;
    for (uint32_t i = 0; i < reader->target->input_count; i++) {
        const struct job_edge *edge = &reader->target->inputs[i];
        if (strcmp(id_format(reader->graph->operators[edge->source].id).hex, source) != 0 || edge->side_output != side_output)
            continue;
        bool is_numbered = number == (reader->place == IN_FLIGHT_EDGE ? i : edge->input);
        if (!is_found || is_numbered)
            *out = i;
        is_found = true;
        if (is_numbered)
            break;
    }
    return is_found;
}

static struct error *other_program(const struct in_flight_reader *reader, const char *what)
{
    return error_with_hint(error_new(INVALID_ARGUMENT, "the unaligned checkpoint holds rows on their way to %s, and %s", reader->target->name, what),
                           "restore it with the program that took it, take a savepoint, and start the changed program from that");
}

static bool has_number(const json_t *meta, const char *name, uint32_t number)
{
    return json_integer_value(json_object_get(meta, name)) == (json_int_t)number;
}

static struct error *section_choose(struct section *section, const json_t *meta)
{
    const struct in_flight_reader *reader = section->reader;
    const struct job_edge *edge = &reader->target->inputs[section->edge];
    uint32_t consumers = reader->target->parallelism;
    const char *partitioning = json_string_value(json_object_get(meta, "partitioning"));
    section->is_exact = has_number(meta, "consumers", consumers) && partitioning != NULL &&
                        strcmp(partitioning, partitioning_name(edge->partitioning)) == 0 &&
                        (reader->place == IN_FLIGHT_HELD || has_number(meta, "producers", reader->graph->operators[edge->source].parallelism));
    if (section->is_exact) {
        section->is_skipped = !has_number(meta, "consumer", reader->subtask);
        return NULL;
    }
    if (edge->partitioning == PARTITION_BROADCAST)
        return other_program(reader, "they cannot be dealt out among another number of subtasks, as they were broadcast");
    uint32_t seed = (uint32_t)json_integer_value(json_object_get(meta, "consumer")) + section->number;
    section->partitioner = partitioner_create(edge, consumers, reader->target->max_parallelism, seed);
    return NULL;
}

static struct error *on_section(void *arg, const char *name, const json_t *meta)
{
    struct section *section = arg;
    const struct in_flight_reader *reader = section->reader;
    const char *place = place_names[reader->place];
    size_t length = strlen(place);
    partitioner_destroy(section->partitioner);
    *section = (struct section){.reader = reader, .is_skipped = true};
    if (strncmp(name, place, length) != 0 || name[length] != '-')
        return NULL;
    section->is_skipped = false;
    section->number = (uint32_t)strtoul(name + length + 1, NULL, 10);
    const char *source = json_string_value(json_object_get(meta, "source"));
    const json_t *side_output = json_object_get(meta, "side_output");
    if (source == NULL || !json_is_integer(side_output))
        return error_new(CORRUPT, "section %s does not say between whom its rows were", name);
    if (!find_edge(reader, source, json_integer_value(side_output), section->number, &section->edge))
        return other_program(reader, "the operator that sent them does not feed it any more");
    section->schema = edge_schema(reader->graph, &reader->target->inputs[section->edge]);
    json_t *schema = schema_to_json(section->schema);
    bool is_same = json_equal(schema, json_object_get(meta, "schema")) == 1;
    json_decref(schema);
    return is_same ? section_choose(section, meta) : other_program(reader, "they have another schema now");
}

static void give(const struct section *section, uint32_t origin, struct element element)
{
    const struct in_flight_reader *reader = section->reader;
    reader->on_element(reader->arg, section->edge, section->number, origin, section->is_exact, element);
}

/* Takes batch. */
static void give_rows(const struct section *section, struct batch *batch)
{
    give(section, 0, (struct element){.type = ELEMENT_BATCH, .as.rows = {.batch = batch, .bytes = batch_size_bytes(batch)}});
}

/* Our part of rows that were somebody's. */
static void deal(const struct section *section, struct batch *batch)
{
    uint32_t own = section->reader->subtask;
    const struct partition_share *shares;
    int64_t single = batch->row_count == 0 ? -2 : partitioner_split(section->partitioner, batch, &shares);
    if (single == (int64_t)own)
        give_rows(section, batch_ref(batch));
    else if (single == -1 && shares[own].count > 0)
        give_rows(section, shares[own].rows != NULL ? batch_take(batch, shares[own].rows, shares[own].count)
                                                    : batch_slice(batch, shares[own].start, shares[own].count));
}

static struct error *on_item(void *arg, const void *bytes, size_t length)
{
    struct section *section = arg;
    struct in_flight_item item;
    if (section->is_skipped)
        return NULL;
    TRY(in_flight_decode_item(bytes, length, section->schema, &item));
    if (section->is_exact) {
        give(section, item.origin, item.element);
        return NULL;
    }
    if (item.element.type == ELEMENT_BATCH)
        deal(section, item.element.as.rows.batch);
    element_finish(&item.element);
    return NULL;
}

struct error *in_flight_restore(const struct in_flight_reader *reader, const char *directory, const json_t *handles)
{
    struct section section = {.reader = reader, .is_skipped = true};
    struct restored_state *state;
    TRY(restored_state_open_in_flight(directory, handles, reader->target->id, &state));
    struct error *err = restored_state_in_flight(
        state, &(struct restored_in_flight){.on_section = on_section, .on_item = on_item, .arg = &section});
    partitioner_destroy(section.partitioner);
    restored_state_close(state);
    return err;
}
