/* Lists of rows in state table values: see element_list.h. */
#include "taskmanager/ops/element_list.h"

#include "common/base/heap.h"
#include "common/base/vec.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct list_head {
    uint32_t used_bytes; /* of the elements, this head excluded */
    uint32_t count;
};

#define LIST_CAPACITY_MIN 56

static struct list_head read_head(const void *value, uint32_t value_length)
{
    struct list_head head = {0};
    if (value != NULL && value_length >= sizeof head)
        memcpy(&head, value, sizeof head);
    if (head.used_bytes > value_length - sizeof head)
        head = (struct list_head){0};
    return head;
}

/* Room for more bytes of elements; *value is to be written into. */
static struct error *list_grow(struct state_table *table, const struct state_key *key, const void *name_space, uint32_t namespace_length,
                               uint64_t more, struct list_head *head, uint8_t **value)
{
    *head = (struct list_head){0};
    uint32_t old_length = 0;
    uint64_t capacity_max = (STATE_ENTRY_BYTES_MAX - sizeof(struct state_entry) - key->length - namespace_length) / 8 * 8;
    uint64_t ref = state_table_find(table, key->key_group, key->hash, key->bytes, key->length, name_space, namespace_length);
    if (ref != STATE_REF_NONE) {
        const struct state_entry *entry = state_table_entry(table, ref);
        old_length = entry->value_length;
        *head = read_head(entry->data, old_length);
    }
    uint64_t needed = sizeof *head + (uint64_t)head->used_bytes + more;
    if (needed <= old_length) {
        *value = state_table_value(table, ref);
        return NULL;
    }
    if (needed > capacity_max)
        return error_with_hint(error_new(USER_FUNCTION, "a list of %" PRIu32 " elements and %" PRIu32 " bytes is full: %" PRIu64
                                         " bytes more would make it larger than 4 GiB", head->count, head->used_bytes, more),
                               "keep less per key, or use an aggregate or reduce function for the window");
    uint64_t capacity = (uint64_t)old_length * 2 > LIST_CAPACITY_MIN ? (uint64_t)old_length * 2 : LIST_CAPACITY_MIN;
    if (capacity < needed)
        capacity = (needed + 7) / 8 * 8;
    if (capacity > capacity_max)
        capacity = capacity_max;
    *value = state_table_upsert(table, key->key_group, key->hash, key->bytes, key->length, name_space, namespace_length, (uint32_t)capacity, NULL);
    return NULL;
}

struct error *element_list_append(struct state_table *table, const struct state_key *key, const void *name_space, uint32_t namespace_length,
                                  const void *bytes, uint32_t length)
{
    struct list_head head;
    uint8_t *value;
    TRY(list_grow(table, key, name_space, namespace_length, (uint64_t)length + sizeof length, &head, &value));
    uint8_t *place = value + sizeof head + head.used_bytes;
    memcpy(place, &length, sizeof length);
    memcpy(place + sizeof length, bytes, length);
    head.used_bytes += length + (uint32_t)sizeof length;
    head.count++;
    memcpy(value, &head, sizeof head);
    return NULL;
}

struct error *element_list_append_all(struct state_table *table, const struct state_key *key, const void *name_space, uint32_t namespace_length,
                                      const void *value, uint32_t value_length)
{
    struct list_head from = read_head(value, value_length), head;
    uint8_t *to;
    TRY(list_grow(table, key, name_space, namespace_length, from.used_bytes, &head, &to));
    memcpy(to + sizeof head + head.used_bytes, (const uint8_t *)value + sizeof from, from.used_bytes);
    head.used_bytes += from.used_bytes;
    head.count += from.count;
    memcpy(to, &head, sizeof head);
    return NULL;
}

const void *element_list_next(const void *value, uint32_t value_length, size_t *cursor, uint32_t *length)
{
    struct list_head head = read_head(value, value_length);
    if (*cursor + sizeof *length > head.used_bytes)
        return NULL;
    const uint8_t *place = (const uint8_t *)value + sizeof head + *cursor;
    memcpy(length, place, sizeof *length);
    if (*length > head.used_bytes - *cursor - sizeof *length)
        return NULL;
    *cursor += sizeof *length + *length;
    return place + sizeof *length;
}

/* ---- conversion ---- */

struct list_copy {
    uint8_t *key; /* owned; then namespace, then the converted list */
    uint32_t key_length;
    uint32_t namespace_length;
    uint32_t value_length;
    uint32_t key_group;
    uint64_t hash;
};

static struct error *convert_list(const struct state_entry *entry, const struct row_converter *converter, struct list_copy *out)
{
    struct bytes_writer writer = {0};
    bytes_write(&writer, state_entry_key(entry), entry->key_length);
    bytes_write(&writer, state_entry_namespace(entry), entry->namespace_length);
    size_t start = writer.length, cursor = 0;
    struct list_head head = {0};
    bytes_write(&writer, &head, sizeof head);
    uint32_t length;
    for (const void *element; (element = element_list_next(entry->data, entry->value_length, &cursor, &length)) != NULL;) {
        size_t length_at = writer.length;
        bytes_write_u32(&writer, 0);
        struct error *err = row_converter_convert(converter, element, length, &writer);
        if (err != NULL) {
            bytes_writer_finish(&writer);
            return err;
        }
        uint32_t written = (uint32_t)(writer.length - length_at - sizeof written);
        memcpy(writer.data + length_at, &written, sizeof written);
        head.count++;
    }
    head.used_bytes = (uint32_t)(writer.length - start - sizeof head);
    memcpy(writer.data + start, &head, sizeof head);
    *out = (struct list_copy){writer.data, entry->key_length, entry->namespace_length, (uint32_t)(writer.length - start), entry->key_group,
                              entry->hash};
    return NULL;
}

struct error *element_list_convert_all(struct state_table *table, const struct row_converter *converter)
{
    VEC(struct list_copy) copies = {0};
    struct error *err = NULL;
    struct state_iterator iterator;
    const struct state_entry *entry;
    state_iterator_init(&iterator, table);
    while (err == NULL && state_iterator_next(&iterator, &entry) != STATE_REF_NONE) {
        struct list_copy copy;
        err = convert_list(entry, converter, &copy);
        if (err == NULL)
            vec_push(&copies, copy);
    }
    state_iterator_finish(&iterator);
    for (size_t i = 0; i < copies.count; i++) {
        const struct list_copy *copy = &copies.items[i];
        if (err == NULL)
            state_table_put(table, copy->key_group, copy->hash, copy->key, copy->key_length, copy->key + copy->key_length,
                            copy->namespace_length, copy->key + copy->key_length + copy->namespace_length, copy->value_length);
        free(copy->key);
    }
    vec_finish(&copies);
    return err;
}
