/* Snapshots: see snapshot.h. The task thread collects parts (copied items, views of tables); a worker writes them into one
 * state file. A part is written once; its pages are let go as they are written. Restoring is in restored_state.c. */
#include "taskmanager/state/snapshot.h"

#include "common/base/bytes.h"
#include "common/base/check.h"
#include "common/base/hash_map.h"
#include "common/base/heap.h"
#include "common/base/vec.h"
#include "taskmanager/net/in_flight.h"
#include "taskmanager/state/row_codec.h"
#include "taskmanager/state/state_file.h"
#include "taskmanager/state/state_table.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

struct snapshot_part {
    struct id operator_id;
    char *name;
    enum state_kind kind;
    uint64_t item_count;
    struct bytes_writer items; /* LIST, UNION: u32 length and bytes each */
    struct state_view *view;   /* KEYED */
    struct in_flight *in_flight; /* CHANNEL */
    json_t *meta;              /* KEYED, CHANNEL; may be NULL */
};

struct snapshot {
    struct id operator_id;
    VEC(struct snapshot_part) parts;
    struct hash_map part_numbers; /* of the operator in hand: kind and name to the part's number + 1. A window operator has a part a window */
    struct bytes_writer key;      /* of the map */
};

/* ---- taking ---- */

struct snapshot *snapshot_create(void)
{
    return heap_new(struct snapshot);
}

void snapshot_begin_operator(struct snapshot *snapshot, struct id operator_id)
{
    snapshot->operator_id = operator_id;
    hash_map_finish(&snapshot->part_numbers);
}

static void part_key(struct snapshot *snapshot, const char *name, enum state_kind kind)
{
    snapshot->key.length = 0;
    bytes_write_u8(&snapshot->key, (uint8_t)kind);
    bytes_write(&snapshot->key, name, strlen(name));
}

static struct snapshot_part *find_part(struct snapshot *snapshot, const char *name, enum state_kind kind)
{
    part_key(snapshot, name, kind);
    void *number = hash_map_get(&snapshot->part_numbers, snapshot->key.data, snapshot->key.length);
    return number != NULL ? &snapshot->parts.items[(uintptr_t)number - 1] : NULL;
}

static struct snapshot_part *add_part(struct snapshot *snapshot, const char *name, enum state_kind kind)
{
    struct snapshot_part part = {.operator_id = snapshot->operator_id, .name = heap_strdup(name), .kind = kind};
    vec_push(&snapshot->parts, part);
    part_key(snapshot, name, kind);
    hash_map_put(&snapshot->part_numbers, snapshot->key.data, snapshot->key.length, (void *)(uintptr_t)snapshot->parts.count);
    return &snapshot->parts.items[snapshot->parts.count - 1];
}

static void add_item(struct snapshot *snapshot, const char *name, enum state_kind kind, const void *bytes, size_t length)
{
    check(length <= UINT32_MAX);
    struct snapshot_part *part = find_part(snapshot, name, kind);
    if (part == NULL)
        part = add_part(snapshot, name, kind);
    bytes_write_block(&part->items, bytes, length);
    part->item_count++;
}

void snapshot_add_list_item(struct snapshot *snapshot, const char *state_name, const void *bytes, size_t length)
{
    add_item(snapshot, state_name, STATE_LIST, bytes, length);
}

void snapshot_add_union_item(struct snapshot *snapshot, const char *state_name, const void *bytes, size_t length)
{
    add_item(snapshot, state_name, STATE_UNION, bytes, length);
}

void snapshot_add_table(struct snapshot *snapshot, const char *state_name, struct state_table *table, json_t *meta)
{
    check(find_part(snapshot, state_name, STATE_KEYED) == NULL);
    struct snapshot_part *part = add_part(snapshot, state_name, STATE_KEYED);
    part->view = state_view_create(table);
    part->meta = meta;
}

void snapshot_add_in_flight(struct snapshot *snapshot, const char *state_name, json_t *meta, struct in_flight *in_flight)
{
    struct snapshot_part *part = add_part(snapshot, state_name, STATE_CHANNEL);
    part->in_flight = in_flight;
    part->meta = meta;
}

void snapshot_destroy(struct snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    for (size_t i = 0; i < snapshot->parts.count; i++) {
        struct snapshot_part *part = &snapshot->parts.items[i];
        free(part->name);
        bytes_writer_finish(&part->items);
        state_view_destroy(part->view);
        in_flight_destroy(part->in_flight);
        json_decref(part->meta);
    }
    vec_finish(&snapshot->parts);
    hash_map_finish(&snapshot->part_numbers);
    bytes_writer_finish(&snapshot->key);
    free(snapshot);
}

/* ---- writing ---- */

struct table_writer {
    struct state_file_writer *file;
    struct row_codec *records; /* STATE_VALUE_RECORD: values become rows */
    uint32_t key_group;
    bool is_open;
};

/* Keys and values of a table mostly have one of a few lengths: no call for those. */
static inline uint8_t *copy_short(uint8_t *to, const uint8_t *from, uint32_t length)
{
    if (length == 8)
        memcpy(to, from, 8);
    else if (length == 16)
        memcpy(to, from, 16);
    else if (length != 0)
        memcpy(to, from, length);
    return to + length;
}

static uint8_t *encode_entry(const struct row_codec *records, const struct state_entry *entry, uint8_t *to)
{
    uint32_t value_length = records != NULL ? records->fixed_bytes : entry->value_length;
    to = state_file_entry_begin(to, entry->hash, entry->key_length, entry->namespace_length, value_length);
    to = copy_short(to, state_entry_key(entry), entry->key_length + entry->namespace_length);
    if (records == NULL || records->is_packed)
        return copy_short(to, entry->data, value_length);
    row_codec_encode_fixed(records, entry->data, to);
    return to + value_length;
}

static struct error *write_page(void *arg, struct state_entries entries)
{
    struct table_writer *writer = arg;
    const struct row_codec *records = writer->records;
    /* An entry in the file has less before its data than in the page; its row may be longer than its record. */
    size_t room = entries.bytes + (records != NULL ? entries.bytes / sizeof(struct state_entry) * records->fixed_bytes : 0);
    const struct state_entry *entry = state_entries_next(&entries);
    if (entry == NULL)
        return NULL;
    if (!writer->is_open || entry->key_group != writer->key_group) {
        TRY(state_file_begin_chunk(writer->file, entry->key_group));
        writer->key_group = entry->key_group;
        writer->is_open = true;
    }
    uint8_t *start, *to;
    uint64_t items = 0;
    TRY(state_file_reserve(writer->file, room, &start));
    for (to = start; entry != NULL; entry = state_entries_next(&entries)) {
        if (records != NULL && entry->value_length != records->record_size)
            return error_new(INTERNAL, "a record of %" PRIu32 " bytes lies in a table of records of %" PRIu32 " bytes", entry->value_length,
                             records->record_size);
        to = encode_entry(records, entry, to);
        items++;
    }
    state_file_append(writer->file, (size_t)(to - start), items);
    return NULL;
}
static_assert(STATE_FILE_ENTRY_OVERHEAD_MAX <= sizeof(struct state_entry), "an entry takes no more room in the file than in its page");

static json_t *table_meta(const struct snapshot_part *part)
{
    const struct state_table_options *options = state_view_options(part->view);
    json_t *meta = json_object();
    if (part->meta != NULL)
        json_object_set(meta, "meta", part->meta);
    if (options->key_schema != NULL)
        json_object_set_new(meta, "key", schema_to_json(options->key_schema));
    if (options->namespace_schema != NULL)
        json_object_set_new(meta, "namespace", schema_to_json(options->namespace_schema));
    if (options->value_schema != NULL && options->value_form != STATE_VALUE_BYTES)
        json_object_set_new(meta, "value", schema_to_json(options->value_schema));
    return meta;
}

static struct error *write_table(struct snapshot_part *part, struct state_file_writer *file)
{
    const struct state_table_options *options = state_view_options(part->view);
    struct table_writer writer = {.file = file};
    if (options->value_form == STATE_VALUE_RECORD)
        writer.records = row_codec_create(options->value_schema);
    state_file_begin_section(file, part->operator_id, part->name, STATE_KEYED, table_meta(part));
    struct error *err = state_view_consume(part->view, write_page, &writer);
    row_codec_destroy(writer.records);
    return err;
}

static struct error *write_items(const struct snapshot_part *part, struct state_file_writer *file)
{
    uint8_t *to;
    state_file_begin_section(file, part->operator_id, part->name, part->kind, NULL);
    TRY(state_file_begin_chunk(file, 0));
    TRY(state_file_reserve(file, part->items.length, &to));
    memcpy(to, part->items.data, part->items.length);
    state_file_append(file, part->items.length, part->item_count);
    return NULL;
}

/* An item as in the other kinds: its length, then the bytes. */
static struct error *write_in_flight(const struct snapshot_part *part, struct state_file_writer *file, uint64_t *bytes)
{
    struct bytes_writer item = {0};
    struct error *err = NULL;
    uint8_t *to;
    state_file_begin_section(file, part->operator_id, part->name, STATE_CHANNEL, json_incref(part->meta));
    TRY(state_file_begin_chunk(file, 0));
    for (size_t i = 0; i < part->in_flight->items.count; i++) {
        item.length = 0;
        bytes_write_u32(&item, 0);
        in_flight_encode_item(&item, &part->in_flight->items.items[i]);
        bytes_patch_u32(&item, 0, (uint32_t)(item.length - sizeof(uint32_t)));
        TRY_GOTO(done, state_file_reserve(file, item.length, &to));
        memcpy(to, item.data, item.length);
        state_file_append(file, item.length, 1);
        *bytes += item.length;
    }
done:
    bytes_writer_finish(&item);
    return err;
}

static struct error *write_part(struct snapshot_part *part, struct state_file_writer *file, struct snapshot_result *result)
{
    if (part->kind == STATE_KEYED)
        return write_table(part, file);
    return part->kind == STATE_CHANNEL ? write_in_flight(part, file, &result->in_flight_bytes) : write_items(part, file);
}

/* The handle of the operator of part `first`, listing all its sections; index and parts are parallel. */
static json_t *handle_of(const struct state_index *index, size_t first, const char *file_name)
{
    struct id operator_id = index->sections[first].operator_id;
    json_t *sections = json_array();
    for (size_t i = first; i < index->section_count; i++) {
        const struct state_section *section = &index->sections[i];
        if (id_equals(section->operator_id, operator_id))
            json_array_append_new(sections, json_pack("{s:s, s:s, s:I}", "name", section->name, "kind", state_kind_name(section->kind), "items",
                                                      (json_int_t)state_section_items(section)));
    }
    return json_pack("{s:s, s:s, s:o}", "operator", id_format(operator_id).hex, "path", file_name, "sections", sections);
}

static bool is_first_of_operator(const struct state_index *index, size_t section)
{
    for (size_t i = section; i-- > 0;) /* mostly it is the one before */
        if (id_equals(index->sections[i].operator_id, index->sections[section].operator_id))
            return false;
    return true;
}

static json_t *handles_of(const struct state_index *index, const char *file_name, uint64_t size_bytes, uint32_t crc, uint32_t subtask,
                          uint32_t key_group_first, uint32_t key_group_last)
{
    json_t *handles = json_array();
    char crc_text[9];
    snprintf(crc_text, sizeof crc_text, "%08" PRIx32, crc);
    for (size_t i = 0; i < index->section_count; i++) {
        if (!is_first_of_operator(index, i))
            continue;
        json_t *handle = handle_of(index, i, file_name);
        json_object_set_new(handle, "size", json_integer((json_int_t)size_bytes));
        json_object_set_new(handle, "crc", json_string(crc_text));
        json_object_set_new(handle, "key_group_first", json_integer(key_group_first));
        json_object_set_new(handle, "key_group_last", json_integer(key_group_last));
        json_object_set_new(handle, "subtask", json_integer(subtask));
        json_array_append_new(handles, handle);
    }
    return handles;
}

struct error *snapshot_write(struct snapshot *snapshot, const char *directory, const char *file_name, uint32_t subtask, uint32_t key_group_first,
                             uint32_t key_group_last, struct snapshot_result *out)
{
    struct state_file_writer *file = NULL;
    struct error *err = NULL;
    uint64_t size_bytes = 0;
    uint32_t crc = 0;
    struct snapshot_result result = {0};
    if (snapshot->parts.count == 0) {
        *out = (struct snapshot_result){.handles = json_array()};
        return NULL;
    }
    TRY(state_file_create(directory, file_name, &file));
    for (size_t i = 0; i < snapshot->parts.count; i++)
        TRY_GOTO(done, write_part(&snapshot->parts.items[i], file, &result));
    TRY_GOTO(done, state_file_commit(file, &size_bytes, &crc));
    result.handles = handles_of(state_file_index(file), file_name, size_bytes, crc, subtask, key_group_first, key_group_last);
    result.bytes = size_bytes;
    *out = result;
done:
    state_file_destroy(file);
    return err;
}
