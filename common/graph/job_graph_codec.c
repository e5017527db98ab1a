/* Job graph from and to JSON. The input comes from a child process that ran user code, or from a disk: everything is
 * checked, and an error names the operator and the member. No thread of its own; the caller owns what it gets. */
#include "common/graph/job_graph_internal.h"

#include "common/base/heap.h"

#include <stdlib.h>
#include <string.h>

#define OPERATOR_COUNT_MAX 4096
#define EDGE_COUNT_MAX 4096
#define KEY_COUNT_MAX 64
#define TEXT_LENGTH_MAX 65536

static const char *const chaining_names[] = {[CHAIN_ALWAYS] = "ALWAYS", [CHAIN_HEAD] = "HEAD", [CHAIN_NEVER] = "NEVER"};

/* What is being read, for messages: `operator 2 ("Counter")`, `vertex 0`. */
struct place {
    const char *kind;
    size_t index;
    const char *name;
};

static struct error *bad_member(const struct place *place, const char *member, const char *problem)
{
    if (place == NULL)
        return error_new(INVALID_FORMAT, "job graph: member \"%s\" %s", member, problem);
    return error_new(INVALID_FORMAT, "job graph: %s %zu (\"%s\"): member \"%s\" %s", place->kind, place->index,
                     place->name != NULL ? place->name : "", member, problem);
}

/* null and a missing member give NULL when it is optional. */
static struct error *read_text(const struct place *place, const json_t *object, const char *member, bool is_optional, char **out)
{
    const json_t *value = json_object_get(object, member);
    if (is_optional && (value == NULL || json_is_null(value)))
        return NULL;
    if (!json_is_string(value))
        return bad_member(place, member, "must be a text");
    const char *text = json_string_value(value);
    size_t length = json_string_length(value);
    if (length > TEXT_LENGTH_MAX || strlen(text) != length)
        return bad_member(place, member, "is too long or has a NUL character in it");
    *out = heap_strdup(text);
    return NULL;
}

static struct error *read_number(const struct place *place, const json_t *object, const char *member, json_int_t min, json_int_t max,
                                 json_int_t otherwise, json_int_t *out)
{
    const json_t *value = json_object_get(object, member);
    if (value == NULL) {
        *out = otherwise;
        return NULL;
    }
    if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max) {
        char problem[96];
        snprintf(problem, sizeof problem, "must be a whole number from %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT, min, max);
        return bad_member(place, member, problem);
    }
    *out = json_integer_value(value);
    return NULL;
}

/* An array, or NULL when missing. */
static struct error *read_array(const struct place *place, const json_t *object, const char *member, size_t max, const json_t **out)
{
    const json_t *value = json_object_get(object, member);
    *out = NULL;
    if (value == NULL || json_is_null(value))
        return NULL;
    if (!json_is_array(value))
        return bad_member(place, member, "must be an array");
    if (json_array_size(value) > max)
        return bad_member(place, member, "has too many items");
    *out = value;
    return NULL;
}

static struct error *read_id(const struct place *place, const json_t *object, const char *member, struct id *out)
{
    const json_t *value = json_object_get(object, member);
    if (value == NULL || json_is_null(value))
        return NULL;
    if (!json_is_string(value) || !id_parse(json_string_value(value), out))
        return bad_member(place, member, "must be 32 hex digits");
    return NULL;
}

/* A misspelt member would otherwise be a default that nobody asked for. */
static struct error *check_members(const struct place *place, json_t *object, const char *const *known)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL)
            return bad_member(place, key, "is unknown");
    }
    return NULL;
}

static struct error *read_schema(const struct place *place, const json_t *object, const char *member, struct schema **out)
{
    const json_t *value = json_object_get(object, member);
    if (value == NULL || json_is_null(value))
        return NULL;
    struct error *err = schema_from_json(value, out);
    if (err != NULL)
        return error_wrap(err, "job graph: %s %zu (\"%s\"): member \"%s\" is no schema", place->kind, place->index,
                          place->name != NULL ? place->name : "", member);
    return NULL;
}

static struct error *read_chaining(const struct place *place, const json_t *object, struct job_operator *op)
{
    const json_t *value = json_object_get(object, "chaining");
    if (value == NULL)
        return NULL;
    for (size_t i = 0; json_is_string(value) && i < sizeof chaining_names / sizeof chaining_names[0]; i++) {
        if (strcmp(chaining_names[i], json_string_value(value)) == 0) {
            op->chaining = i == CHAIN_NEVER ? CHAIN_NEVER : i == CHAIN_HEAD ? CHAIN_HEAD : CHAIN_ALWAYS;
            return NULL;
        }
    }
    return bad_member(place, "chaining", "must be ALWAYS, HEAD or NEVER");
}

static struct error *read_partitioning(const struct place *place, const json_t *object, struct job_edge *edge)
{
    const json_t *value = json_object_get(object, "partitioning");
    for (int i = PARTITION_FORWARD; json_is_string(value) && i <= PARTITION_GLOBAL; i++) {
        if (strcmp(partitioning_name((enum partitioning)i), json_string_value(value)) == 0) {
            edge->partitioning = (enum partitioning)i;
            return NULL;
        }
    }
    return bad_member(place, "partitioning", "must be FORWARD, HASH, REBALANCE, RESCALE, BROADCAST or GLOBAL");
}

static struct error *read_key_columns(const struct place *place, const json_t *object, struct job_edge *edge)
{
    const json_t *columns;
    TRY(read_array(place, object, "key_columns", KEY_COUNT_MAX, &columns));
    edge->key_columns = heap_alloc_array(json_array_size(columns), sizeof *edge->key_columns);
    for (size_t i = 0; i < json_array_size(columns); i++) {
        const json_t *column = json_array_get(columns, i);
        if (!json_is_integer(column) || json_integer_value(column) < 0 || json_integer_value(column) >= SCHEMA_FIELD_COUNT_MAX)
            return bad_member(place, "key_columns", "must be column indexes");
        edge->key_columns[edge->key_count++] = (uint32_t)json_integer_value(column);
    }
    return NULL;
}

static struct error *read_edge(const struct place *place, json_t *json, struct job_edge *edge)
{
    static const char *const known[] = {"source", "side_output", "input", "partitioning", "key_columns", NULL};
    if (!json_is_object(json))
        return bad_member(place, "inputs", "must be an array of objects");
    TRY(check_members(place, json, known));
    json_int_t source, side_output, input;
    TRY(read_number(place, json, "source", 0, OPERATOR_COUNT_MAX, -1, &source));
    if (source < 0)
        return bad_member(place, "source", "is missing in an input");
    TRY(read_number(place, json, "side_output", -1, EDGE_COUNT_MAX, -1, &side_output));
    TRY(read_number(place, json, "input", 0, 1, 0, &input));
    edge->source = (uint32_t)source;
    edge->side_output = (int32_t)side_output;
    edge->input = (uint32_t)input;
    TRY(read_partitioning(place, json, edge));
    return read_key_columns(place, json, edge);
}

static struct error *read_side_outputs(const struct place *place, const json_t *json, struct job_operator *op)
{
    static const char *const known[] = {"tag", "schema", NULL};
    const json_t *outputs;
    TRY(read_array(place, json, "side_outputs", EDGE_COUNT_MAX, &outputs));
    op->side_outputs = heap_alloc_array(json_array_size(outputs), sizeof *op->side_outputs);
    for (size_t i = 0; i < json_array_size(outputs); i++) {
        json_t *item = json_array_get(outputs, i);
        if (!json_is_object(item))
            return bad_member(place, "side_outputs", "must be an array of objects");
        TRY(check_members(place, item, known));
        struct job_side_output *output = &op->side_outputs[op->side_output_count++];
        TRY(read_text(place, item, "tag", false, &output->tag));
        TRY(read_schema(place, item, "schema", &output->schema));
        if (output->schema == NULL)
            return bad_member(place, "side_outputs", "has an output without a schema");
    }
    return NULL;
}

static struct error *read_operator(json_t *json, size_t index, struct job_operator *op)
{
    static const char *const known[] = {"id", "uid", "name", "description", "type", "slot_sharing_group", "parallelism",
                                        "max_parallelism", "chaining", "options", "schema", "side_outputs", "inputs", NULL};
    struct place place = {"operator", index, json_string_value(json_object_get(json, "name"))};
    if (!json_is_object(json))
        return bad_member(NULL, "operators", "must be an array of objects");
    TRY(check_members(&place, json, known));
    TRY(read_id(&place, json, "id", &op->id));
    TRY(read_text(&place, json, "uid", true, &op->uid));
    TRY(read_text(&place, json, "name", false, &op->name));
    TRY(read_text(&place, json, "description", true, &op->description));
    TRY(read_text(&place, json, "type", false, &op->type));
    TRY(read_text(&place, json, "slot_sharing_group", true, &op->slot_sharing_group));
    if (op->slot_sharing_group == NULL)
        op->slot_sharing_group = heap_strdup("default");
    json_int_t parallelism, max_parallelism;
    TRY(read_number(&place, json, "parallelism", 0, PARALLELISM_MAX, 0, &parallelism));
    TRY(read_number(&place, json, "max_parallelism", 0, PARALLELISM_MAX, 0, &max_parallelism));
    op->parallelism = (uint32_t)parallelism;
    op->max_parallelism = (uint32_t)max_parallelism;
    TRY(read_chaining(&place, json, op));
    const json_t *options = json_object_get(json, "options");
    if (options != NULL && !json_is_object(options))
        return bad_member(&place, "options", "must be an object");
    op->options = options != NULL ? json_deep_copy(options) : json_object();
    TRY(read_schema(&place, json, "schema", &op->schema));
    TRY(read_side_outputs(&place, json, op));
    const json_t *inputs;
    TRY(read_array(&place, json, "inputs", EDGE_COUNT_MAX, &inputs));
    op->inputs = heap_alloc_array(json_array_size(inputs), sizeof *op->inputs);
    for (size_t i = 0; i < json_array_size(inputs); i++) {
        op->input_count++;
        TRY(read_edge(&place, json_array_get(inputs, i), &op->inputs[i]));
    }
    return NULL;
}

static struct error *check_edge(const struct job_graph *graph, const struct place *place, const struct job_edge *edge)
{
    if (edge->source >= graph->operator_count)
        return bad_member(place, "source", "names an operator that is not there");
    const struct job_operator *source = &graph->operators[edge->source];
    if (edge->side_output >= (int32_t)source->side_output_count)
        return bad_member(place, "side_output", "names a side output that is not there");
    const struct schema *schema = edge->side_output >= 0 ? source->side_outputs[edge->side_output].schema : source->schema;
    if (schema == NULL)
        return bad_member(place, "source", "names an operator that has no output");
    if ((edge->partitioning == PARTITION_HASH) != (edge->key_count > 0))
        return bad_member(place, "key_columns", "must be given with HASH, and only with HASH");
    for (uint32_t i = 0; i < edge->key_count; i++) {
        if (edge->key_columns[i] >= schema->field_count)
            return bad_member(place, "key_columns", "names a column that the input does not have");
    }
    return NULL;
}

static struct error *check_operators(const struct job_graph *graph)
{
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        const struct job_operator *op = &graph->operators[i];
        struct place place = {"operator", i, op->name};
        if (op->max_parallelism != 0 && op->parallelism > op->max_parallelism)
            return bad_member(&place, "parallelism", "is above max_parallelism");
        for (uint32_t edge = 0; edge < op->input_count; edge++)
            TRY(check_edge(graph, &place, &op->inputs[edge]));
    }
    uint32_t *order = heap_alloc_array(graph->operator_count, sizeof *order);
    uint32_t ordered = job_graph_topological_order(graph, order);
    free(order);
    if (ordered != graph->operator_count)
        return bad_member(NULL, "operators", "has a cycle");
    return NULL;
}

static struct error *read_operators(const json_t *json, struct job_graph *graph)
{
    const json_t *operators;
    TRY(read_array(NULL, json, "operators", OPERATOR_COUNT_MAX, &operators));
    if (json_array_size(operators) == 0)
        return bad_member(NULL, "operators", "is empty");
    graph->operators = heap_alloc_array(json_array_size(operators), sizeof *graph->operators);
    for (size_t i = 0; i < json_array_size(operators); i++) {
        graph->operator_count++;
        TRY(read_operator(json_array_get(operators, i), i, &graph->operators[i]));
    }
    return check_operators(graph);
}

static struct error *read_vertex_operators(const struct place *place, const json_t *json, struct job_graph *graph, uint32_t index, bool *is_used)
{
    struct job_vertex *vertex = &graph->vertices[index];
    const json_t *operators;
    TRY(read_array(place, json, "operators", OPERATOR_COUNT_MAX, &operators));
    if (json_array_size(operators) == 0)
        return bad_member(place, "operators", "is empty");
    vertex->operators = heap_alloc_array(json_array_size(operators), sizeof *vertex->operators);
    for (size_t i = 0; i < json_array_size(operators); i++) {
        const json_t *item = json_array_get(operators, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0 || json_integer_value(item) >= graph->operator_count)
            return bad_member(place, "operators", "names an operator that is not there");
        uint32_t number = (uint32_t)json_integer_value(item);
        struct job_operator *op = &graph->operators[number];
        if (is_used[number])
            return bad_member(place, "operators", "names an operator that is in another place too");
        if (op->parallelism != vertex->parallelism || op->max_parallelism != vertex->max_parallelism)
            return bad_member(place, "operators", "names an operator with another parallelism");
        is_used[number] = true;
        op->vertex = index;
        vertex->operators[vertex->operator_count++] = number;
        if (i == 0)
            continue;
        /* Upstream first: the one input of a chained operator is already in this vertex. */
        if (op->input_count != 1 || op->inputs[0].partitioning != PARTITION_FORWARD || !is_used[op->inputs[0].source] ||
            graph->operators[op->inputs[0].source].vertex != index)
            return bad_member(place, "operators", "chains an operator that cannot be chained");
        op->inputs[0].is_chained = true;
    }
    return NULL;
}

static struct error *read_vertex(const json_t *json, struct job_graph *graph, uint32_t index, bool *is_used)
{
    struct job_vertex *vertex = &graph->vertices[index];
    struct place place = {"vertex", index, json_string_value(json_object_get(json, "name"))};
    if (!json_is_object(json))
        return bad_member(NULL, "vertices", "must be an array of objects");
    TRY(read_id(&place, json, "id", &vertex->id));
    TRY(read_text(&place, json, "name", false, &vertex->name));
    json_int_t parallelism, max_parallelism;
    TRY(read_number(&place, json, "parallelism", 1, PARALLELISM_MAX, 0, &parallelism));
    TRY(read_number(&place, json, "max_parallelism", 1, PARALLELISM_MAX, 0, &max_parallelism));
    if (parallelism == 0 || max_parallelism == 0)
        return bad_member(&place, "parallelism", "and max_parallelism must be given");
    vertex->parallelism = (uint32_t)parallelism;
    vertex->max_parallelism = (uint32_t)max_parallelism;
    return read_vertex_operators(&place, json, graph, index, is_used);
}

/* Optional: only a chained graph has them. */
static struct error *read_vertices(const json_t *json, struct job_graph *graph)
{
    struct error *err = NULL;
    const json_t *vertices;
    TRY(read_array(NULL, json, "vertices", OPERATOR_COUNT_MAX, &vertices));
    if (json_array_size(vertices) == 0)
        return NULL;
    bool *is_used = heap_alloc_array(graph->operator_count, sizeof *is_used);
    graph->vertices = heap_alloc_array(json_array_size(vertices), sizeof *graph->vertices);
    for (size_t i = 0; i < json_array_size(vertices); i++) {
        graph->vertex_count++;
        TRY_GOTO(done, read_vertex(json_array_get(vertices, i), graph, (uint32_t)i, is_used));
    }
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        if (!is_used[i]) {
            err = bad_member(NULL, "vertices", "leaves an operator out");
            goto done;
        }
    }
done:
    free(is_used);
    return err;
}

static struct error *read_config(const json_t *json, struct job_graph *graph)
{
    json_t *config = json_object_get(json, "config");
    if (config != NULL && !json_is_object(config))
        return bad_member(NULL, "config", "must be an object");
    const char *key;
    json_t *value;
    json_object_foreach(config, key, value) {
        if (!json_is_string(value))
            return error_new(INVALID_FORMAT, "job graph: config key \"%s\" must be a text", key);
    }
    graph->config = config != NULL ? json_deep_copy(config) : json_object();
    return NULL;
}

static struct error *read_library(const json_t *json, struct job_graph *graph)
{
    const json_t *library = json_object_get(json, "library");
    if (library == NULL || json_is_null(library))
        return NULL;
    if (!json_is_object(library))
        return bad_member(NULL, "library", "must be an object");
    TRY(read_text(NULL, library, "name", true, &graph->library.name));
    TRY(read_text(NULL, library, "sha256", true, &graph->library.sha256));
    const char *sha256 = graph->library.sha256;
    if (sha256 != NULL && (strlen(sha256) != 64 || strspn(sha256, "0123456789abcdef") != 64))
        return bad_member(NULL, "library.sha256", "must be 64 lower-case hex digits");
    return NULL;
}

struct error *job_graph_from_json(const json_t *json, struct job_graph **out)
{
    struct error *err = NULL;
    if (!json_is_object(json))
        return error_new(INVALID_FORMAT, "job graph: not a JSON object");
    struct job_graph *graph = heap_new(struct job_graph);
    json_int_t version;
    TRY_GOTO(fail, read_number(NULL, json, "version", 0, INT32_MAX, 0, &version));
    if (version != JOB_GRAPH_VERSION) {
        err = error_new(INVALID_FORMAT, "job graph: version %d is not supported, this is version %d", (int)version, JOB_GRAPH_VERSION);
        goto fail;
    }
    TRY_GOTO(fail, read_id(NULL, json, "job_id", &graph->job_id));
    TRY_GOTO(fail, read_text(NULL, json, "name", false, &graph->name));
    TRY_GOTO(fail, read_config(json, graph));
    TRY_GOTO(fail, read_library(json, graph));
    TRY_GOTO(fail, read_operators(json, graph));
    TRY_GOTO(fail, read_vertices(json, graph));
    *out = graph;
    return NULL;
fail:
    job_graph_destroy(graph);
    return err;
}

static json_t *text_or_null(const char *text)
{
    return text != NULL ? json_string(text) : json_null();
}

static json_t *edge_to_json(const struct job_edge *edge)
{
    json_t *columns = json_array();
    for (uint32_t i = 0; i < edge->key_count; i++)
        json_array_append_new(columns, json_integer(edge->key_columns[i]));
    return json_pack("{s:I, s:I, s:I, s:s, s:o}", "source", (json_int_t)edge->source, "side_output", (json_int_t)edge->side_output,
                     "input", (json_int_t)edge->input, "partitioning", partitioning_name(edge->partitioning), "key_columns", columns);
}

static json_t *operator_to_json(const struct job_operator *op)
{
    json_t *side_outputs = json_array();
    for (uint32_t i = 0; i < op->side_output_count; i++)
        json_array_append_new(side_outputs, json_pack("{s:s, s:o}", "tag", op->side_outputs[i].tag, "schema",
                                                      schema_to_json(op->side_outputs[i].schema)));
    json_t *inputs = json_array();
    for (uint32_t i = 0; i < op->input_count; i++)
        json_array_append_new(inputs, edge_to_json(&op->inputs[i]));
    json_t *json = json_object();
    json_object_set_new(json, "id", id_is_zero(op->id) ? json_null() : json_string(id_format(op->id).hex));
    json_object_set_new(json, "uid", text_or_null(op->uid));
    json_object_set_new(json, "name", json_string(op->name));
    json_object_set_new(json, "description", text_or_null(op->description));
    json_object_set_new(json, "type", json_string(op->type));
    json_object_set_new(json, "slot_sharing_group", json_string(op->slot_sharing_group));
    json_object_set_new(json, "parallelism", json_integer(op->parallelism));
    json_object_set_new(json, "max_parallelism", json_integer(op->max_parallelism));
    json_object_set_new(json, "chaining", json_string(chaining_names[op->chaining]));
    json_object_set_new(json, "options", op->options != NULL ? json_deep_copy(op->options) : json_object());
    json_object_set_new(json, "schema", op->schema != NULL ? schema_to_json(op->schema) : json_null());
    json_object_set_new(json, "side_outputs", side_outputs);
    json_object_set_new(json, "inputs", inputs);
    return json;
}

static json_t *vertex_to_json(const struct job_vertex *vertex)
{
    json_t *operators = json_array();
    for (uint32_t i = 0; i < vertex->operator_count; i++)
        json_array_append_new(operators, json_integer(vertex->operators[i]));
    return json_pack("{s:s, s:s, s:I, s:I, s:o}", "id", id_format(vertex->id).hex, "name", vertex->name, "parallelism",
                     (json_int_t)vertex->parallelism, "max_parallelism", (json_int_t)vertex->max_parallelism, "operators", operators);
}

json_t *job_graph_to_json(const struct job_graph *graph)
{
    json_t *operators = json_array();
    for (uint32_t i = 0; i < graph->operator_count; i++)
        json_array_append_new(operators, operator_to_json(&graph->operators[i]));
    json_t *json = json_object();
    json_object_set_new(json, "version", json_integer(JOB_GRAPH_VERSION));
    json_object_set_new(json, "job_id", json_string(id_format(graph->job_id).hex));
    json_object_set_new(json, "name", json_string(graph->name));
    json_object_set_new(json, "config", graph->config != NULL ? json_deep_copy(graph->config) : json_object());
    json_object_set_new(json, "library",
                        graph->library.name == NULL && graph->library.sha256 == NULL
                            ? json_null()
                            : json_pack("{s:o, s:o}", "name", text_or_null(graph->library.name), "sha256", text_or_null(graph->library.sha256)));
    json_object_set_new(json, "operators", operators);
    if (graph->vertex_count > 0) {
        json_t *vertices = json_array();
        for (uint32_t i = 0; i < graph->vertex_count; i++)
            json_array_append_new(vertices, vertex_to_json(&graph->vertices[i]));
        json_object_set_new(json, "vertices", vertices);
    }
    return json;
}
