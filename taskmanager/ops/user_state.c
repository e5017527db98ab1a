/* Keyed state of user functions.
 *   value        (key) -> record
 *   list         (key) -> element list
 *   map          (key, map key) -> record, and an index of each key's map keys in order of insertion
 *   aggregating  (key) -> accumulator
 * Records without text lie in the table as C structs and are handed out in place; others are encoded rows that are decoded into a
 * scratch record. The map's index is no part of snapshots: it is built the first time a map is walked or cleared.
 * Thread: task. Owner: the user context. */
#include "taskmanager/ops/user_state.h"

#include "common/base/heap.h"
#include "taskmanager/ops/element_list.h"
#include "taskmanager/ops/op_ticker.h"
#include "taskmanager/ops/user_context.h"

#include <stdlib.h>
#include <string.h>

struct map_index {
    struct state_table *order;    /* (key, u64 position) -> map key */
    struct state_table *position; /* (key, map key) -> u64 position */
    struct state_table *count;    /* (key) -> u64 */
};

struct mr_state {
    struct user_context *context;
    char *name;
    enum mr_state_kind kind;
    const struct mr_function *aggregate; /* AGGREGATING */
    struct state_table *table;
    struct row_codec *codec; /* of the value, element or accumulator */
    bool is_record;          /* values are C structs in the table */
    void *scratch;           /* a decoded value */
    void *result;            /* AGGREGATING: the aggregate's result */
    struct row_codec *map_key_codec;
    void *map_key_scratch;
    struct map_index *index; /* NULL until it is needed */
    struct bytes_writer value_bytes;
    struct bytes_writer key_bytes;
};

static const char *const state_kind_names[] = {"value", "list", "map", "aggregating"};

/* ---- declaring ---- */

static struct error *codec_of(const struct mr_record_type *type, struct row_codec **codec)
{
    struct schema *schema;
    TRY(row_schema_of_record(type, &schema));
    *codec = row_codec_create(schema);
    schema_unref(schema);
    return NULL;
}

static struct state_table *keyed_table(const struct user_context *context, struct schema *name_space, struct schema *value,
                                       enum state_value_form form)
{
    struct state_table_options options = {
        .key_group_first = context->op->ctx->key_group_first,
        .key_group_last = context->op->ctx->key_group_last,
        .key_schema = context->key_codec->schema,
        .namespace_schema = name_space,
        .value_schema = value,
        .value_form = form,
    };
    return state_table_create(&options);
}

static struct error *state_init(struct mr_state *state, const struct mr_record_type *key, const struct mr_record_type *value)
{
    TRY(codec_of(value, &state->codec));
    state->is_record = state->codec->text_count == 0 && state->kind != MR_STATE_LIST;
    state->scratch = heap_alloc(state->codec->record_size + 1u);
    if (state->kind == MR_STATE_MAP) {
        TRY(codec_of(key, &state->map_key_codec));
        state->map_key_scratch = heap_alloc(state->map_key_codec->record_size + 1u);
    }
    if (state->kind == MR_STATE_AGGREGATING)
        state->result = heap_alloc(state->aggregate->output->size_bytes + 1u);
    if (state->kind == MR_STATE_LIST)
        state->table = keyed_table(state->context, NULL, NULL, STATE_VALUE_BYTES);
    else
        state->table = keyed_table(state->context, state->map_key_codec != NULL ? state->map_key_codec->schema : NULL, state->codec->schema,
                                   state->is_record ? STATE_VALUE_RECORD : STATE_VALUE_ROW);
    return NULL;
}

static bool is_utf8(const char *text)
{
    json_t *json = json_string(text);
    json_decref(json);
    return json != NULL;
}

struct mr_state *user_state_declare(struct mr_context *ctx, int kind, const char *name, const struct mr_record_type *key,
                                    const struct mr_record_type *value, const struct mr_function *aggregate)
{
    struct user_context *context = (struct user_context *)(void *)ctx;
    const char *wrong = NULL;
    if (!context->is_opening)
        wrong = "states are declared in the function's open only";
    else if (context->key_codec == NULL)
        wrong = "state needs a keyed stream (mr_key_by)";
    else if (name == NULL || name[0] == '\0' || name[0] == '_')
        wrong = "a state's name must not be empty or begin with an underscore";
    else if (!is_utf8(name)) /* checkpoints could not tell it */
        wrong = "a state's name must be UTF-8";
    else if (kind < MR_STATE_VALUE || kind > MR_STATE_AGGREGATING || value == NULL || (kind == MR_STATE_MAP && key == NULL) ||
             (kind == MR_STATE_AGGREGATING && (aggregate == NULL || aggregate->kind != MR_FUNCTION_AGGREGATE)))
        wrong = "the declaration is incomplete";
    for (size_t i = 0; i < context->states.count && wrong == NULL; i++)
        if (strcmp(context->states.items[i]->name, name) == 0)
            wrong = "it is declared twice";
    struct mr_state *state = heap_new(struct mr_state);
    state->context = context;
    state->name = heap_strdup(name != NULL ? name : "");
    state->kind = wrong == NULL ? (enum mr_state_kind)kind : MR_STATE_VALUE;
    state->aggregate = aggregate;
    struct error *err = wrong != NULL ? error_new(INVALID_PROGRAM, "%s", wrong) : state_init(state, key, value);
    if (err != NULL)
        user_context_fail(context, error_wrap(err, "function %s: could not declare state %s", context->function->name, state->name));
    vec_push(&context->states, state); /* also a broken one: the function may go on with its handle until it returns */
    return state;
}

static void map_index_destroy(struct map_index *index)
{
    if (index == NULL)
        return;
    state_table_destroy(index->order);
    state_table_destroy(index->position);
    state_table_destroy(index->count);
    free(index);
}

void user_state_destroy(struct mr_state *state)
{
    map_index_destroy(state->index);
    state_table_destroy(state->table);
    row_codec_destroy(state->codec);
    row_codec_destroy(state->map_key_codec);
    bytes_writer_finish(&state->value_bytes);
    bytes_writer_finish(&state->key_bytes);
    free(state->scratch);
    free(state->result);
    free(state->map_key_scratch);
    free(state->name);
    free(state);
}

/* ---- access by (key, namespace) ---- */

struct state_place {
    const struct state_key *key;
    const void *name_space;
    uint32_t namespace_length;
};

/* False (and the function failed) when the state cannot be used here. */
static bool state_place(struct mr_context *ctx, struct mr_state *state, const void *map_key, bool needs_map_key, struct state_place *out)
{
    struct user_context *context = (struct user_context *)(void *)ctx;
    if (context->error != NULL || state->table == NULL)
        return false;
    const char *wrong = NULL;
    if (context->key.bytes == NULL)
        wrong = "there is no key here";
    else if (needs_map_key && (state->kind == MR_STATE_MAP) != (map_key != NULL))
        wrong = state->kind == MR_STATE_MAP ? "a map needs a key" : "it is no map";
    if (wrong != NULL) {
        user_context_fail(context, error_new(USER_FUNCTION, "function %s uses %s state %s, but %s", context->function->name,
                                             state_kind_names[state->kind], state->name, wrong));
        return false;
    }
    *out = (struct state_place){.key = &context->key};
    if (map_key != NULL) {
        state->key_bytes.length = 0;
        row_codec_encode_record(state->map_key_codec, map_key, &state->key_bytes);
        out->name_space = state->key_bytes.data;
        out->namespace_length = (uint32_t)state->key_bytes.length;
    }
    return true;
}

static uint64_t place_find(const struct state_table *table, const struct state_place *place)
{
    return state_table_find(table, place->key->key_group, place->key->hash, place->key->bytes, place->key->length, place->name_space,
                            place->namespace_length);
}

static void *place_upsert(struct state_table *table, const struct state_place *place, uint32_t length, bool *is_new)
{
    return state_table_upsert(table, place->key->key_group, place->key->hash, place->key->bytes, place->key->length, place->name_space,
                              place->namespace_length, length, is_new);
}

static bool place_remove(struct state_table *table, const struct state_place *place)
{
    return state_table_remove(table, place->key->key_group, place->key->hash, place->key->bytes, place->key->length, place->name_space,
                              place->namespace_length);
}

void user_state_prefetch(const struct mr_state *state, const struct state_rows *rows)
{
    if (state->table != NULL && state->kind != MR_STATE_MAP) /* map keys are not known yet */
        state_table_prefetch_rows(state->table, rows);
}

static const void *decode_value(struct mr_state *state, const struct row_codec *codec, const void *bytes, uint32_t length, void *scratch)
{
    struct error *err = row_codec_decode_record(codec, bytes, length, scratch);
    if (err == NULL)
        return scratch;
    user_context_fail(state->context, error_wrap(err, "state %s", state->name));
    return NULL;
}

static const void *read_value(struct mr_state *state, uint64_t ref)
{
    const struct state_entry *entry = state_table_entry(state->table, ref);
    return state->is_record ? entry->data : decode_value(state, state->codec, entry->data, entry->value_length, state->scratch);
}

/* ---- the map's index ---- */

static void map_index_add(struct mr_state *state, const struct state_place *place)
{
    struct map_index *index = state->index;
    struct state_place of_key = {.key = place->key};
    uint64_t *count = place_upsert(index->count, &of_key, sizeof *count, NULL);
    uint64_t position = (*count)++;
    struct state_place at = {place->key, &position, sizeof position};
    memcpy(place_upsert(index->order, &at, place->namespace_length, NULL), place->name_space, place->namespace_length);
    memcpy(place_upsert(index->position, place, sizeof position, NULL), &position, sizeof position);
}

/* The last map key moves into the gap. */
static void map_index_remove(struct mr_state *state, const struct state_place *place)
{
    struct map_index *index = state->index;
    struct state_place of_key = {.key = place->key};
    uint64_t ref = place_find(index->position, place);
    if (ref == STATE_REF_NONE)
        return;
    uint64_t gap, *count = place_upsert(index->count, &of_key, sizeof *count, NULL);
    memcpy(&gap, state_table_entry(index->position, ref)->data, sizeof gap);
    place_remove(index->position, place);
    uint64_t last = --*count;
    struct state_place at_last = {place->key, &last, sizeof last}, at_gap = {place->key, &gap, sizeof gap};
    if (last != gap) {
        const struct state_entry *moved = state_table_entry(index->order, place_find(index->order, &at_last));
        uint32_t length = moved->value_length;
        uint8_t *map_key = heap_memdup(moved->data, length);
        memcpy(place_upsert(index->order, &at_gap, length, NULL), map_key, length);
        struct state_place of_moved = {place->key, map_key, length};
        memcpy(place_upsert(index->position, &of_moved, sizeof gap, NULL), &gap, sizeof gap);
        free(map_key);
    }
    place_remove(index->order, &at_last);
    if (last == 0)
        place_remove(index->count, &of_key);
}

static void map_index_build(struct mr_state *state)
{
    if (state->index != NULL)
        return;
    state->index = heap_new(struct map_index);
    state->index->order = keyed_table(state->context, NULL, NULL, STATE_VALUE_BYTES);
    state->index->position = keyed_table(state->context, NULL, NULL, STATE_VALUE_BYTES);
    state->index->count = keyed_table(state->context, NULL, NULL, STATE_VALUE_BYTES);
    struct state_iterator iterator;
    const struct state_entry *entry;
    struct op_ticker ticker = op_ticker_start(state->context->op); /* the time is the engine's, not the call's */
    state_iterator_init(&iterator, state->table);
    while (state_iterator_next(&iterator, &entry) != STATE_REF_NONE) {
        op_ticker_tick(&ticker);
        struct state_key key = {state_entry_key(entry), entry->key_length, entry->key_group, entry->hash};
        map_index_add(state, &(struct state_place){&key, state_entry_namespace(entry), entry->namespace_length});
    }
    state_iterator_finish(&iterator);
}

static uint64_t map_size(struct mr_state *state, const struct state_key *key)
{
    map_index_build(state);
    uint64_t count = 0, ref = place_find(state->index->count, &(struct state_place){.key = key});
    if (ref != STATE_REF_NONE)
        memcpy(&count, state_table_entry(state->index->count, ref)->data, sizeof count);
    return count;
}

/* ---- what functions call ---- */

const void *user_state_get(struct mr_context *ctx, struct mr_state *state, const void *key)
{
    struct state_place place;
    if (!state_place(ctx, state, key, true, &place))
        return NULL;
    if (state->kind == MR_STATE_LIST) {
        user_context_fail(state->context, error_new(USER_FUNCTION, "state %s is a list: walk it with mr_state_next", state->name));
        return NULL;
    }
    uint64_t ref = place_find(state->table, &place);
    if (ref == STATE_REF_NONE)
        return NULL;
    const void *value = read_value(state, ref);
    if (state->kind != MR_STATE_AGGREGATING || value == NULL)
        return value;
    memset(state->result, 0, state->aggregate->output->size_bytes);
    state->aggregate->call.aggregate.result(value, state->result);
    return state->result;
}

/* value may point into the table or the scratch record: it is copied before the table changes. */
static void write_value(struct mr_state *state, const struct state_place *place, const void *value)
{
    state->value_bytes.length = 0;
    if (state->is_record)
        bytes_write(&state->value_bytes, value, state->codec->record_size);
    else
        row_codec_encode_record(state->codec, value, &state->value_bytes);
    bool is_new;
    uint32_t length = (uint32_t)state->value_bytes.length;
    void *to = place_upsert(state->table, place, length, &is_new);
    if (length > 0)
        memcpy(to, state->value_bytes.data, length);
    if (is_new && state->index != NULL)
        map_index_add(state, place);
}

void user_state_put(struct mr_context *ctx, struct mr_state *state, const void *key, const void *value)
{
    struct state_place place;
    if (!state_place(ctx, state, key, true, &place))
        return;
    if (state->kind == MR_STATE_LIST || state->kind == MR_STATE_AGGREGATING)
        user_context_fail(state->context, error_new(USER_FUNCTION, "%s state %s cannot be set: use mr_state_add",
                                                    state_kind_names[state->kind], state->name));
    else
        write_value(state, &place, value);
}

static void empty_texts(const struct row_codec *codec, void *record)
{
    static const mr_string empty = {"", 0};
    for (uint32_t i = 0; i < codec->field_count; i++)
        if (data_type_is_text(codec->fields[i].type))
            memcpy((char *)record + codec->fields[i].record_offset, &empty, sizeof empty);
}

static void aggregate_add(struct mr_state *state, const struct state_place *place, const void *value)
{
    if (state->is_record) {
        state->aggregate->call.aggregate.add(value, place_upsert(state->table, place, state->codec->record_size, NULL));
        return;
    }
    uint64_t ref = place_find(state->table, place);
    if (ref == STATE_REF_NONE) {
        memset(state->scratch, 0, state->codec->record_size);
        empty_texts(state->codec, state->scratch);
    } else if (read_value(state, ref) == NULL) {
        return;
    }
    state->aggregate->call.aggregate.add(value, state->scratch);
    write_value(state, place, state->scratch);
}

void user_state_add(struct mr_context *ctx, struct mr_state *state, const void *value)
{
    struct state_place place;
    if (!state_place(ctx, state, NULL, false, &place))
        return;
    if (state->kind == MR_STATE_AGGREGATING) {
        aggregate_add(state, &place, value);
    } else if (state->kind == MR_STATE_LIST) {
        state->value_bytes.length = 0;
        row_codec_encode_record(state->codec, value, &state->value_bytes);
        struct error *err =
            element_list_append(state->table, place.key, NULL, 0, state->value_bytes.data, (uint32_t)state->value_bytes.length);
        if (err != NULL)
            user_context_fail(state->context, error_wrap(err, "state %s", state->name));
    } else {
        user_context_fail(state->context, error_new(USER_FUNCTION, "nothing can be added to %s state %s", state_kind_names[state->kind],
                                                    state->name));
    }
}

void user_state_remove(struct mr_context *ctx, struct mr_state *state, const void *key)
{
    struct state_place place;
    if (!state_place(ctx, state, key, true, &place))
        return;
    if (place_remove(state->table, &place) && state->index != NULL)
        map_index_remove(state, &place);
}

void user_state_clear(struct mr_context *ctx, struct mr_state *state)
{
    struct state_place place;
    if (!state_place(ctx, state, NULL, false, &place))
        return;
    if (state->kind != MR_STATE_MAP) {
        place_remove(state->table, &place);
        return;
    }
    for (uint64_t left = map_size(state, place.key); left > 0; left--) {
        uint64_t position = left - 1;
        uint64_t ref = place_find(state->index->order, &(struct state_place){place.key, &position, sizeof position});
        const struct state_entry *entry = state_table_entry(state->index->order, ref);
        uint32_t length = entry->value_length;
        state->key_bytes.length = 0;
        bytes_write(&state->key_bytes, entry->data, length);
        struct state_place one = {place.key, state->key_bytes.data, length};
        place_remove(state->table, &one);
        map_index_remove(state, &one);
    }
}

static const void *list_next(struct mr_state *state, const struct state_place *place, size_t *cursor)
{
    uint64_t ref = place_find(state->table, place);
    if (ref == STATE_REF_NONE)
        return NULL;
    const struct state_entry *entry = state_table_entry(state->table, ref);
    uint32_t length;
    const void *element = element_list_next(entry->data, entry->value_length, cursor, &length);
    return element != NULL ? decode_value(state, state->codec, element, length, state->scratch) : NULL;
}

static const void *map_next(struct mr_state *state, const struct state_place *place, size_t *cursor, const void **key)
{
    uint64_t position = *cursor;
    if (position >= map_size(state, place->key))
        return NULL;
    uint64_t ref = place_find(state->index->order, &(struct state_place){place->key, &position, sizeof position});
    const struct state_entry *entry = state_table_entry(state->index->order, ref);
    ++*cursor;
    if (key != NULL) {
        *key = decode_value(state, state->map_key_codec, entry->data, entry->value_length, state->map_key_scratch);
        if (*key == NULL)
            return NULL;
    }
    return read_value(state, place_find(state->table, &(struct state_place){place->key, entry->data, entry->value_length}));
}

const void *user_state_next(struct mr_context *ctx, struct mr_state *state, size_t *cursor, const void **key)
{
    struct state_place place;
    if (!state_place(ctx, state, NULL, false, &place))
        return NULL;
    if (state->kind == MR_STATE_LIST)
        return list_next(state, &place, cursor);
    if (state->kind == MR_STATE_MAP)
        return map_next(state, &place, cursor, key);
    user_context_fail(state->context, error_new(USER_FUNCTION, "%s state %s cannot be walked", state_kind_names[state->kind], state->name));
    return NULL;
}

/* ---- snapshots ---- */

void user_state_snapshot(struct mr_state *state, struct snapshot *snapshot)
{
    if (state->table == NULL)
        return;
    json_t *meta = json_object();
    json_object_set_new(meta, "kind", json_string(state_kind_names[state->kind]));
    if (state->kind == MR_STATE_LIST)
        json_object_set_new(meta, "element", schema_to_json(state->codec->schema));
    snapshot_add_table(snapshot, state->name, state->table, meta);
}

static struct error *list_convert(struct mr_state *state, const json_t *meta)
{
    struct schema *stored;
    TRY(schema_from_json(json_object_get(meta, "element"), &stored));
    struct row_converter *converter = NULL;
    struct error *err = row_converter_create(stored, state->codec->schema, false, &converter);
    if (err == NULL && !row_converter_is_identity(converter))
        err = element_list_convert_all(state->table, converter);
    row_converter_destroy(converter);
    schema_unref(stored);
    return err;
}

static struct error *restore_from(struct mr_state *state, struct restored_state *restored, const json_t *meta)
{
    const char *kind = json_string_value(json_object_get(meta, "kind"));
    if (kind == NULL || strcmp(kind, state_kind_names[state->kind]) != 0)
        return error_new(INVALID_PROGRAM, "state %s is %s state in the checkpoint, the program declares it as %s state", state->name,
                         kind != NULL ? kind : "another", state_kind_names[state->kind]);
    TRY(restored_state_load(restored, state->name, state->table));
    return state->kind == MR_STATE_LIST ? list_convert(state, meta) : NULL;
}

struct error *user_state_restore(struct mr_state *state, struct restored_state *restored)
{
    json_t *tables = restored_state_tables(restored);
    struct error *err = NULL;
    size_t index;
    json_t *table;
    json_array_foreach(tables, index, table)
    {
        const char *name = json_string_value(json_object_get(table, "name"));
        if (name != NULL && strcmp(name, state->name) == 0) {
            err = restore_from(state, restored, json_object_get(table, "meta"));
            break;
        }
    }
    json_decref(tables);
    return err != NULL ? error_wrap(err, "could not restore state %s", state->name) : NULL;
}
