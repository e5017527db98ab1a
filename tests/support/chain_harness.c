/* An operator chain driven by hand: see chain_harness.h. Thread: the caller's. */
#include "tests/support/chain_harness.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "taskmanager/state/snapshot.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void require(struct error *err)
{
    if (err == NULL)
        return;
    char *text = error_text(err);
    fprintf(stderr, "unexpected error: %s\n", text);
    abort();
}

char *error_take_text(struct error *err)
{
    char *text = err != NULL ? error_text(err) : heap_strdup("");
    error_free(err);
    return text;
}

/* ---- collecting ---- */

static json_t *value_json(enum data_type type, const struct column *column, uint32_t row)
{
    const void *values = column->values;
    if (column_is_null(column, row))
        return json_null();
    switch (type) {
    case TYPE_BOOLEAN: return json_boolean(((const uint8_t *)values)[row >> 3] >> (row & 7) & 1);
    case TYPE_INT8: return json_integer(((const int8_t *)values)[row]);
    case TYPE_INT16: return json_integer(((const int16_t *)values)[row]);
    case TYPE_INT32:
    case TYPE_DATE: return json_integer(((const int32_t *)values)[row]);
    case TYPE_INT64:
    case TYPE_TIMESTAMP: return json_integer(((const int64_t *)values)[row]);
    case TYPE_FLOAT: return json_real((double)((const float *)values)[row]);
    case TYPE_DOUBLE: return json_real(((const double *)values)[row]);
    case TYPE_STRING:
    case TYPE_BYTES: {
        const struct string_view *view = &((const struct string_view *)values)[row];
        return json_stringn(string_view_text(column, view), view->length);
    }
    case DATA_TYPE_COUNT: break;
    }
    return json_null();
}

static struct error *collector_emit(struct chain_output *output, struct batch *batch)
{
    struct chain_collector *self = (struct chain_collector *)output;
    require(batch_verify(batch));
    check(schema_equals(batch->schema, self->schema));
    for (uint32_t row = 0; row < batch->row_count; row++) {
        json_t *values = json_array();
        for (uint32_t c = 0; c < batch->schema->field_count; c++)
            json_array_append_new(values, value_json(batch->schema->fields[c].type, &batch->columns[c], row));
        json_array_append_new(self->rows, values);
        json_array_append_new(self->times, batch->event_time != NULL ? json_integer(batch->event_time[row]) : json_null());
    }
    batch_unref(batch);
    return NULL;
}

static struct error *collector_watermark(struct chain_output *output, int64_t time)
{
    struct chain_collector *self = (struct chain_collector *)output;
    check(time > self->watermark);
    self->watermark = time;
    return NULL;
}

static struct error *collector_idle(struct chain_output *output, bool is_idle)
{
    ((struct chain_collector *)output)->is_idle = is_idle;
    return NULL;
}

/* ---- life ---- */

static void init_collectors(struct chain_harness *harness)
{
    struct vertex_edge *edges;
    harness->output_count = job_graph_vertex_outputs(harness->graph, harness->vertex, &edges);
    check(harness->output_count <= CHAIN_OUTPUT_MAX);
    for (uint32_t i = 0; i < harness->output_count; i++) {
        const struct job_operator *source = &harness->graph->operators[edges[i].source_operator];
        int32_t side = harness->graph->operators[edges[i].target_operator].inputs[edges[i].edge].side_output;
        harness->collectors[i] = (struct chain_collector){
            .output = {collector_emit, collector_watermark, collector_idle},
            .schema = side < 0 ? source->schema : source->side_outputs[side].schema,
            .rows = json_array(),
            .times = json_array(),
            .watermark = TIME_MIN,
        };
        harness->outputs[i] = &harness->collectors[i].output;
    }
    free(edges);
}

json_t *chain_harness_handles_by_operator(const json_t *handles)
{
    json_t *out = json_object();
    for (size_t i = 0; i < json_array_size(handles); i++) {
        json_t *handle = json_array_get(handles, i);
        const char *id = json_string_value(json_object_get(handle, "operator"));
        if (json_object_get(out, id) == NULL)
            json_object_set_new(out, id, json_array());
        json_array_append(json_object_get(out, id), handle);
    }
    return out;
}

static int64_t chain_slice_ns;

void chain_harness_set_slice(int64_t slice_ns)
{
    chain_slice_ns = slice_ns;
}

struct error *chain_harness_try(struct chain_harness *harness, const json_t *operators, uint32_t target, uint32_t subtask,
                                const struct chain_restore *restore)
{
    *harness = (struct chain_harness){0};
    json_t *json = json_pack("{s:i,s:s,s:s,s:{},s:O}", "version", JOB_GRAPH_VERSION, "job_id", "00000000000000000000000000000001", "name", "test",
                             "config", "operators", operators);
    require(job_graph_from_json(json, &harness->graph));
    json_decref(json);
    job_graph_set_parallelism(harness->graph, 1);
    require(job_graph_chain(harness->graph));
    harness->vertex = harness->graph->operators[target].vertex;
    init_collectors(harness);
    require(user_library_open_program(&harness->library));
    json_t *handles = restore != NULL ? chain_harness_handles_by_operator(restore->handles) : NULL;
    struct operator_chain_options options = {
        .graph = harness->graph,
        .vertex = harness->vertex,
        .subtask_index = subtask,
        .restored_checkpoint_id = restore != NULL ? 1 : 0,
        .restore_directory = restore != NULL ? restore->directory : NULL,
        .restore_handles = handles,
        .restore_books = restore != NULL ? restore->books : NULL,
        .checkpointing_enabled = true,
        .library = harness->library,
        .wake_fd = -1,
        .slice_ns = chain_slice_ns,
        .step_count = &harness->step_count,
        .is_aborting = &harness->is_aborting,
        .outputs = harness->outputs,
        .output_count = harness->output_count,
    };
    struct error *err = operator_chain_create(&options, &harness->chain);
    json_decref(handles);
    return err;
}

void chain_harness_init(struct chain_harness *harness, const json_t *operators, uint32_t target, uint32_t subtask,
                        const struct chain_restore *restore)
{
    require(chain_harness_try(harness, operators, target, subtask, restore));
}

void chain_harness_finish(struct chain_harness *harness)
{
    operator_chain_destroy(harness->chain);
    for (uint32_t i = 0; i < harness->output_count; i++) {
        json_decref(harness->collectors[i].rows);
        json_decref(harness->collectors[i].times);
    }
    job_graph_destroy(harness->graph);
    user_library_close(harness->library);
}

/* ---- feeding ---- */

static void put_value(struct batch_builder *builder, uint32_t column, uint32_t row, const json_t *value)
{
    enum data_type type = builder->schema->fields[column].type;
    if (json_is_null(value))
        return;
    if (data_type_is_text(type)) {
        batch_builder_set_text(builder, column, row, json_string_value(value), json_string_length(value));
        return;
    }
    if (type == TYPE_BOOLEAN) {
        batch_builder_set_bool(builder, column, row, json_is_true(value));
        return;
    }
    int64_t integer = json_integer_value(value);
    uint32_t width = data_type_width(type);
    if (type == TYPE_DOUBLE)
        batch_builder_doubles(builder, column)[row] = json_number_value(value);
    else if (type == TYPE_FLOAT)
        ((float *)batch_builder_values(builder, column))[row] = (float)json_number_value(value);
    else
        memcpy((char *)batch_builder_values(builder, column) + (size_t)row * width, &integer, width);
    batch_builder_set_valid(builder, column, row);
}

struct batch *harness_batch(struct schema *schema, const json_t *rows, const json_t *times)
{
    uint32_t count = (uint32_t)json_array_size(rows);
    struct batch_builder *builder = batch_builder_create(schema, count, times != NULL);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = batch_builder_add_row(builder);
        for (uint32_t c = 0; c < schema->field_count; c++)
            put_value(builder, c, row, json_array_get(json_array_get(rows, i), c));
        if (times != NULL)
            batch_builder_set_event_time(builder, row, json_integer_value(json_array_get(times, i)));
    }
    struct batch *batch = batch_builder_finish(builder);
    batch_builder_destroy(builder);
    return batch;
}

struct schema *chain_harness_gate_schema(const struct chain_harness *harness, uint32_t gate)
{
    struct vertex_edge *edges;
    uint32_t count = job_graph_vertex_inputs(harness->graph, harness->vertex, &edges);
    check(gate < count);
    const struct job_operator *source = &harness->graph->operators[edges[gate].source_operator];
    free(edges);
    return source->schema;
}

void chain_harness_send(struct chain_harness *harness, uint32_t gate, json_t *rows, json_t *times)
{
    struct batch *batch = harness_batch(chain_harness_gate_schema(harness, gate), rows, times);
    json_decref(rows);
    json_decref(times);
    require(operator_chain_process(harness->chain, gate, batch));
    batch_unref(batch);
}

void chain_harness_watermark(struct chain_harness *harness, uint32_t gate, int64_t time)
{
    require(operator_chain_watermark(harness->chain, gate, time));
}

void chain_harness_run_source(struct chain_harness *harness)
{
    enum source_status status = SOURCE_MORE;
    while (status != SOURCE_END)
        require(operator_chain_poll(harness->chain, 1000, &status));
}

/* ---- looking ---- */

json_t *chain_harness_books(struct chain_harness *harness, uint32_t place)
{
    json_t *metrics = operator_chain_metrics(harness->chain);
    json_t *books = json_incref(json_object_get(json_array_get(metrics, place), "books"));
    json_decref(metrics);
    return books;
}

uint64_t books_count(const json_t *books, const char *name)
{
    const json_t *value = json_object_get(books, name);
    return (uint64_t)json_integer_value(json_is_array(value) ? json_array_get(value, 0) : value);
}

void chain_harness_snapshot(struct chain_harness *harness, const char *directory, uint64_t checkpoint, json_t *handles, json_t *books)
{
    struct snapshot *snapshot = snapshot_create();
    json_t *cut;
    require(operator_chain_snapshot(harness->chain, &(struct chain_cut){.checkpoint_id = checkpoint}, snapshot, &cut));
    json_object_update(books, cut);
    json_decref(cut);
    /* The head's context knows subtask and key groups; here they are derived again. */
    const struct job_vertex *vertex = &harness->graph->vertices[harness->vertex];
    static unsigned file_number;
    char name[64];
    uint32_t subtask = 0, first, last;
    snprintf(name, sizeof name, "state-%u", file_number++);
    key_group_range(subtask, vertex->max_parallelism, 1, &first, &last);
    struct snapshot_result result;
    require(snapshot_write(snapshot, directory, name, subtask, first, last, &result));
    json_array_extend(handles, result.handles);
    json_decref(result.handles);
    snapshot_destroy(snapshot);
}

/* ---- folders ---- */

char *temp_folder_create(void)
{
    const char *base = getenv("TMPDIR");
    char *path = heap_printf("%s/millrace-test-XXXXXX", base != NULL ? base : "/tmp");
    check(mkdtemp(path) != NULL);
    return path;
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
    (void)stat;
    (void)kind;
    (void)walk;
    return remove(path);
}

void temp_folder_remove(char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(path);
}
