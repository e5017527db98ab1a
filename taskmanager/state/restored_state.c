/* Restoring from state files: see snapshot.h. Files of all old subtasks of one operator, verified when opened and again as
 * they are read; keyed entries are filtered to the new subtask's key groups. Thread: the task that restores. */
#include "common/base/check.h"
#include "common/base/hash_map.h"
#include "common/base/heap.h"
#include "common/base/vec.h"
#include "taskmanager/state/row_codec.h"
#include "taskmanager/state/snapshot.h"
#include "taskmanager/state/state_file.h"
#include "taskmanager/state/state_table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct section_place {
    const struct state_file_reader *file;
    const struct state_section *section;
};

/* The sections of one name, in handle order: one from each old subtask. */
struct named_sections {
    VEC(struct section_place) places;
};

struct restored_state {
    struct id operator_id;
    uint32_t subtask_index;
    uint32_t parallelism;
    uint32_t key_group_first;
    uint32_t key_group_last;
    bool is_in_flight; /* only what was in flight is read, else only the rest */
    VEC(struct state_file_reader *) files; /* in handle order */
    struct hash_map sections;              /* struct named_sections by name: a window operator has a section a window */
};

/* ---- opening ---- */

static bool is_inside_directory(const char *path)
{
    if (path[0] == '/' || path[0] == '\0')
        return false;
    for (const char *part = path; part != NULL; part = strchr(part, '/') != NULL ? strchr(part, '/') + 1 : NULL)
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
            return false;
    return true;
}

/* The handle's size and checksum, where it has them, must be those of the file. */
static struct error *check_handle(const json_t *handle, const struct state_file_reader *file)
{
    const json_t *size = json_object_get(handle, "size");
    const char *crc = json_string_value(json_object_get(handle, "crc"));
    char crc_text[9];
    snprintf(crc_text, sizeof crc_text, "%08" PRIx32, file->crc);
    if (json_is_integer(size) && json_integer_value(size) != (json_int_t)file->size_bytes)
        return error_new(CORRUPT, "state file %s has %" PRIu64 " bytes instead of %lld", file->path, file->size_bytes,
                         (long long)json_integer_value(size));
    if (crc != NULL && strcmp(crc, crc_text) != 0)
        return error_new(CORRUPT, "state file %s has the checksum %s instead of %s", file->path, crc_text, crc);
    return NULL;
}

static bool wants_chunk(const struct restored_state *state, const struct state_section *section, const struct state_chunk *chunk)
{
    if ((section->kind == STATE_CHANNEL) != state->is_in_flight)
        return false;
    return section->kind != STATE_KEYED || (chunk->key_group >= state->key_group_first && chunk->key_group <= state->key_group_last);
}

static struct error *verify_chunks(const struct restored_state *state, const struct state_file_reader *file)
{
    for (uint32_t s = 0; s < file->index.section_count; s++) {
        const struct state_section *section = &file->index.sections[s];
        if (!id_equals(section->operator_id, state->operator_id))
            continue;
        for (uint32_t c = 0; c < section->chunk_count; c++) {
            uint8_t *bytes;
            if (!wants_chunk(state, section, &section->chunks[c]))
                continue;
            TRY(state_file_read_chunk(file, section, &section->chunks[c], &bytes));
            free(bytes);
        }
    }
    return NULL;
}

static struct error *open_handle(struct restored_state *state, const char *directory, const json_t *handle)
{
    const char *operator_hex = json_string_value(json_object_get(handle, "operator"));
    const char *path = json_string_value(json_object_get(handle, "path"));
    struct id operator_id;
    if (operator_hex == NULL || !id_parse(operator_hex, &operator_id) || path == NULL || !is_inside_directory(path))
        return error_new(CORRUPT, "a state handle in %s has no valid operator and path", directory);
    if (!id_equals(operator_id, state->operator_id))
        return NULL;
    struct state_file_reader *file = NULL;
    char *full_path = heap_printf("%s/%s", directory, path);
    struct error *err = state_file_open(full_path, &file);
    free(full_path);
    if (err != NULL)
        return err;
    vec_push(&state->files, file);
    TRY(check_handle(handle, file));
    return verify_chunks(state, file);
}

static void find_sections(struct restored_state *state)
{
    for (size_t f = 0; f < state->files.count; f++) {
        const struct state_file_reader *file = state->files.items[f];
        for (uint32_t s = 0; s < file->index.section_count; s++) {
            const struct state_section *section = &file->index.sections[s];
            if (!id_equals(section->operator_id, state->operator_id))
                continue;
            struct named_sections *named = hash_map_get_text(&state->sections, section->name);
            if (named == NULL) {
                named = heap_new(struct named_sections);
                hash_map_put_text(&state->sections, section->name, named);
            }
            vec_push(&named->places, ((struct section_place){file, section}));
        }
    }
}

/* Where not even the directory is that holds the checkpoint's own one, this machine lacks the file system rather than the checkpoint its files:
 * that is no damage, and the checkpoint stays good for an attempt that sees it. */
static struct error *check_mounted(const char *directory)
{
    char *parent = heap_strdup(directory);
    char *slash = strrchr(parent, '/');
    struct error *err = NULL;
    if (slash != NULL && slash != parent) {
        *slash = '\0';
        if (access(parent, F_OK) != 0 && errno == ENOENT)
            err = error_with_hint(error_new(IO, "%s does not exist on this machine", parent),
                                  "the file system of checkpoints and savepoints must be mounted at the same place on every taskmanager");
    }
    free(parent);
    return err;
}

/* Takes state. */
static struct error *open_handles(struct restored_state *state, const char *directory, const json_t *handles, struct restored_state **out)
{
    for (size_t i = 0; i < json_array_size(handles); i++) {
        struct error *err = open_handle(state, directory, json_array_get(handles, i));
        if (err == NULL)
            continue;
        struct error *mount_err = check_mounted(directory);
        if (mount_err != NULL) {
            error_free(err);
            err = mount_err;
        }
        err = error_wrap(err, "could not restore the state of operator %s from %s", id_format(state->operator_id).hex, directory);
        restored_state_close(state);
        return err;
    }
    find_sections(state);
    *out = state;
    return NULL;
}

struct error *restored_state_open(const char *directory, const json_t *handles, struct id operator_id, uint32_t subtask_index, uint32_t parallelism,
                                  uint32_t key_group_first, uint32_t key_group_last, struct restored_state **out)
{
    struct restored_state *state = heap_new(struct restored_state);
    state->operator_id = operator_id;
    state->subtask_index = subtask_index;
    state->parallelism = parallelism > 0 ? parallelism : 1;
    state->key_group_first = key_group_first;
    state->key_group_last = key_group_last;
    return open_handles(state, directory, handles, out);
}

struct error *restored_state_open_in_flight(const char *directory, const json_t *handles, struct id operator_id, struct restored_state **out)
{
    struct restored_state *state = heap_new(struct restored_state);
    state->operator_id = operator_id;
    state->is_in_flight = true;
    return open_handles(state, directory, handles, out);
}

bool restored_state_has_in_flight(const json_t *handles)
{
    for (size_t i = 0; i < json_array_size(handles); i++) {
        const json_t *sections = json_object_get(json_array_get(handles, i), "sections");
        for (size_t j = 0; j < json_array_size(sections); j++) {
            const char *kind = json_string_value(json_object_get(json_array_get(sections, j), "kind"));
            if (kind != NULL && strcmp(kind, state_kind_name(STATE_CHANNEL)) == 0)
                return true;
        }
    }
    return false;
}

void restored_state_close(struct restored_state *state)
{
    if (state == NULL)
        return;
    for (size_t i = 0; i < state->files.count; i++)
        state_file_close(state->files.items[i]);
    vec_finish(&state->files);
    for (size_t i = 0; i < state->sections.count; i++) {
        struct named_sections *named = state->sections.entries[i].value;
        vec_finish(&named->places);
        free(named);
    }
    hash_map_finish(&state->sections);
    free(state);
}

/* Calls on_section for the operator's sections of this name (NULL: any), in handle order. */
static struct error *each_section(struct restored_state *state, const char *name,
                                  struct error *(*on_section)(void *arg, struct restored_state *state, const struct state_file_reader *file,
                                                              const struct state_section *section),
                                  void *arg)
{
    if (name != NULL) {
        const struct named_sections *named = hash_map_get_text(&state->sections, name);
        for (size_t i = 0; named != NULL && i < named->places.count; i++)
            TRY(on_section(arg, state, named->places.items[i].file, named->places.items[i].section));
        return NULL;
    }
    for (size_t f = 0; f < state->files.count; f++) {
        const struct state_file_reader *file = state->files.items[f];
        for (uint32_t s = 0; s < file->index.section_count; s++) {
            const struct state_section *section = &file->index.sections[s];
            if (id_equals(section->operator_id, state->operator_id))
                TRY(on_section(arg, state, file, section));
        }
    }
    return NULL;
}

/* ---- items ---- */

struct item_reader {
    struct error *(*on_item)(void *arg, const void *bytes, size_t length);
    void *arg;
    uint64_t position; /* of the next list item over all handles */
};

static struct error *give_item(struct restored_state *state, const struct state_section *section, struct item_reader *items, const void *item,
                               size_t length)
{
    bool is_ours = section->kind != STATE_LIST || items->position++ % state->parallelism == state->subtask_index;
    return is_ours ? items->on_item(items->arg, item, length) : NULL;
}

static struct error *read_chunk_items(struct restored_state *state, const struct state_file_reader *file, const struct state_section *section,
                                      const struct state_chunk *chunk, struct item_reader *items)
{
    uint8_t *bytes;
    TRY(state_file_read_chunk(file, section, chunk, &bytes));
    struct bytes_reader reader = bytes_reader_on(bytes, (size_t)chunk->length);
    struct error *err = NULL;
    uint64_t count = 0;
    for (; err == NULL && bytes_reader_left(&reader) != 0; count++) {
        size_t length;
        const uint8_t *item = bytes_read_block(&reader, &length);
        if (!bytes_reader_ok(&reader))
            break;
        err = give_item(state, section, items, item, length);
    }
    free(bytes);
    if (err != NULL)
        return err;
    if (!bytes_reader_ok(&reader) || count != chunk->items)
        return error_new(CORRUPT, "state file %s is damaged: section \"%s\" does not hold its %" PRIu64 " items", file->path, section->name,
                         chunk->items);
    return NULL;
}

static struct error *read_items(void *arg, struct restored_state *state, const struct state_file_reader *file, const struct state_section *section)
{
    if (section->kind != STATE_LIST && section->kind != STATE_UNION)
        return NULL;
    for (uint32_t c = 0; c < section->chunk_count; c++)
        TRY(read_chunk_items(state, file, section, &section->chunks[c], arg));
    return NULL;
}

static struct error *read_in_flight(void *arg, struct restored_state *state, const struct state_file_reader *file,
                                    const struct state_section *section)
{
    const struct restored_in_flight *visitor = arg;
    struct item_reader items = {.on_item = visitor->on_item, .arg = visitor->arg};
    if (section->kind != STATE_CHANNEL)
        return NULL;
    struct error *err = visitor->on_section(visitor->arg, section->name, section->meta);
    for (uint32_t c = 0; c < section->chunk_count && err == NULL; c++)
        err = read_chunk_items(state, file, section, &section->chunks[c], &items);
    return err != NULL ? error_wrap(err, "could not restore what was in flight from %s", file->path) : NULL;
}

struct error *restored_state_in_flight(struct restored_state *state, const struct restored_in_flight *visitor)
{
    struct restored_in_flight copy = *visitor;
    return each_section(state, NULL, read_in_flight, &copy);
}

struct error *restored_state_items(struct restored_state *state, const char *state_name,
                                   struct error *(*on_item)(void *arg, const void *bytes, size_t length), void *arg)
{
    struct item_reader reader = {.on_item = on_item, .arg = arg};
    return each_section(state, state_name, read_items, &reader);
}

/* ---- tables ---- */

/* Each name once: at its first keyed section. */
static struct error *list_table(void *arg, struct restored_state *state, const struct state_file_reader *file, const struct state_section *section)
{
    json_t *tables = arg;
    (void)file;
    if (section->kind != STATE_KEYED)
        return NULL;
    const struct named_sections *named = hash_map_get_text(&state->sections, section->name);
    size_t first = 0;
    while (named->places.items[first].section->kind != STATE_KEYED)
        first++;
    if (named->places.items[first].section != section)
        return NULL;
    json_t *meta = json_object_get(section->meta, "meta");
    json_array_append_new(tables, json_pack("{s:s, s:O?}", "name", section->name, "meta", meta != NULL ? meta : json_null()));
    return NULL;
}

json_t *restored_state_tables(struct restored_state *state)
{
    json_t *tables = json_array();
    struct error *err = each_section(state, NULL, list_table, tables);
    check(err == NULL);
    return tables;
}

struct table_loader {
    struct state_table *table;
    struct row_converter *key;        /* NULL: opaque, like the next two */
    struct row_converter *name_space;
    struct row_converter *value;
    struct row_codec *records;
    struct bytes_writer key_bytes;
    struct bytes_writer namespace_bytes;
    struct bytes_writer value_bytes;
};

static void loader_finish(struct table_loader *loader)
{
    row_converter_destroy(loader->key);
    row_converter_destroy(loader->name_space);
    row_converter_destroy(loader->value);
    row_codec_destroy(loader->records);
    bytes_writer_finish(&loader->key_bytes);
    bytes_writer_finish(&loader->namespace_bytes);
    bytes_writer_finish(&loader->value_bytes);
}

static struct error *create_converter(const json_t *stored, struct schema *wanted, bool is_key, const char *what, struct row_converter **out)
{
    struct schema *schema = NULL;
    if (stored == NULL && wanted == NULL)
        return NULL;
    if (stored == NULL || wanted == NULL)
        return error_new(CONFLICT, "%s %s a schema, in the state it %s", what, wanted != NULL ? "has" : "has not",
                         stored != NULL ? "has" : "has not");
    struct error *err = schema_from_json(stored, &schema);
    if (err != NULL) {
        error_free(err);
        return error_new(CORRUPT, "%s has a damaged schema", what);
    }
    err = row_converter_create(schema, wanted, is_key, out);
    schema_unref(schema);
    return err;
}

static struct error *loader_init(struct table_loader *loader, struct state_table *table, const json_t *meta)
{
    const struct state_table_options *options = &table->options;
    struct schema *value = options->value_form != STATE_VALUE_BYTES ? options->value_schema : NULL;
    *loader = (struct table_loader){.table = table};
    TRY(create_converter(json_object_get(meta, "key"), options->key_schema, true, "its key", &loader->key));
    TRY(create_converter(json_object_get(meta, "namespace"), options->namespace_schema, true, "its namespace", &loader->name_space));
    TRY(create_converter(json_object_get(meta, "value"), value, false, "its value", &loader->value));
    if (options->value_form == STATE_VALUE_RECORD)
        loader->records = row_codec_create(options->value_schema);
    return NULL;
}

/* *bytes and *length become the converted row, which lies in scratch. */
static struct error *convert(const struct row_converter *converter, struct bytes_writer *scratch, const uint8_t **bytes, uint32_t *length)
{
    if (converter == NULL)
        return NULL;
    scratch->length = 0;
    TRY(row_converter_convert(converter, *bytes, *length, scratch));
    *bytes = scratch->data;
    *length = (uint32_t)scratch->length;
    return NULL;
}

static struct error *load_entry(struct table_loader *loader, uint32_t key_group, struct state_file_entry *entry)
{
    struct state_table *table = loader->table;
    if (sizeof(struct state_entry) + (uint64_t)entry->key_length + entry->namespace_length + entry->value_length > STATE_ENTRY_BYTES_MAX)
        return error_new(CORRUPT, "an entry is larger than 4 GiB");
    TRY(convert(loader->key, &loader->key_bytes, &entry->key, &entry->key_length));
    TRY(convert(loader->name_space, &loader->namespace_bytes, &entry->name_space, &entry->namespace_length));
    TRY(convert(loader->value, &loader->value_bytes, &entry->value, &entry->value_length));
    if (loader->records == NULL) {
        state_table_put(table, key_group, entry->hash, entry->key, entry->key_length, entry->name_space, entry->namespace_length, entry->value,
                        entry->value_length);
        return NULL;
    }
    void *record = state_table_upsert(table, key_group, entry->hash, entry->key, entry->key_length, entry->name_space, entry->namespace_length,
                                      loader->records->record_size, NULL);
    return row_codec_decode_record(loader->records, entry->value, entry->value_length, record);
}

static struct error *load_chunk(struct table_loader *loader, const struct state_file_reader *file, const struct state_section *section,
                                const struct state_chunk *chunk)
{
    struct state_file_entry entry;
    uint8_t *bytes;
    TRY(state_file_read_chunk(file, section, chunk, &bytes));
    struct bytes_reader reader = bytes_reader_on(bytes, (size_t)chunk->length);
    struct error *err = NULL;
    uint64_t count = 0;
    while (err == NULL && state_file_entry_decode(&reader, &entry)) {
        err = load_entry(loader, chunk->key_group, &entry);
        count++;
    }
    free(bytes);
    if (err != NULL)
        return error_wrap(err, "state file %s, section \"%s\", key group %" PRIu32, file->path, section->name, chunk->key_group);
    if (!bytes_reader_ok(&reader) || count != chunk->items)
        return error_new(CORRUPT, "state file %s is damaged: section \"%s\" does not hold its %" PRIu64 " entries", file->path,
                         section->name, chunk->items);
    return NULL;
}

static struct error *load_section(void *arg, struct restored_state *state, const struct state_file_reader *file, const struct state_section *section)
{
    struct table_loader loader;
    if (section->kind != STATE_KEYED)
        return NULL;
    struct error *err = loader_init(&loader, arg, section->meta);
    if (err != NULL)
        err = error_wrap(err, "state \"%s\" cannot be restored from %s", section->name, file->path);
    for (uint32_t c = 0; c < section->chunk_count && err == NULL; c++)
        if (wants_chunk(state, section, &section->chunks[c]))
            err = load_chunk(&loader, file, section, &section->chunks[c]);
    loader_finish(&loader);
    return err;
}

struct error *restored_state_load(struct restored_state *state, const char *state_name, struct state_table *table)
{
    check(table->options.key_group_first <= state->key_group_first && table->options.key_group_last >= state->key_group_last);
    return each_section(state, state_name, load_section, table);
}
