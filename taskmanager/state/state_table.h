/* State tables: (key, namespace) -> value, all byte strings, split by key group (ARCHITECTURE.md, "State"). Everything
 * keyed lives in one: value, list, map and aggregating state, timers, window panes.
 *
 *   key group -> open-addressing index of 8-byte slots (28 bits of hash, 36 bits of entry reference)
 *             -> pages of 1 KiB growing to 4 KiB that hold the entries; an entry over 1 KiB has a page of its own
 *
 * Pages are copy-on-write: a snapshot (state_table_view_create) references them, and the table copies a page before its
 * first change of bytes that a view may still read. Removed entries leave gaps; a page that is mostly gaps is compacted.
 *
 * hash is the caller's 64-bit hash of the key (batch_hash_rows; the same key must always come with the same hash and key group); the
 * table mixes the namespace in. Key group numbers are absolute, within first..last of the table.
 * Invariant: an entry reference names the same entry until that entry is removed or its value changes its length, or
 * state_table_remove, an iterator's finish or a length-changing upsert of any other entry compacts its key group.
 * Inserting never moves entries. Thread: the task thread owns the table; views may be read and released by any one thread. */
#ifndef MILLRACE_STATE_STATE_TABLE_H
#define MILLRACE_STATE_STATE_TABLE_H

#include "common/types/schema.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How values lie in the table. In state files values with a schema are always rows, matched by field name. */
enum state_value_form {
    STATE_VALUE_BYTES,  /* opaque: stored as they are, never converted */
    STATE_VALUE_ROW,    /* row_codec encoding of value_schema: any length */
    STATE_VALUE_RECORD, /* the C struct that value_schema describes (row_codec.h, records), without text: fixed length, changed in place */
};

struct state_table_options {
    uint32_t key_group_first; /* inclusive range of this subtask */
    uint32_t key_group_last;
    /* For canonical files; each may be NULL: opaque bytes. Keys and namespaces with a schema are row_codec rows. Borrowed, ref'd. */
    struct schema *key_schema;
    struct schema *namespace_schema;
    struct schema *value_schema;
    enum state_value_form value_form; /* ROW and RECORD need value_schema */
};

/* An entry as it lies in its page: header, value (8-byte aligned), key, namespace. Read-only outside state_table.c. */
struct state_entry {
    uint64_t hash; /* the caller's */
    uint16_t key_group;
    uint16_t units; /* 8-byte units that the entry occupies; 0: it fills its page */
    uint32_t value_length;
    uint32_t key_length;
    uint32_t namespace_length;
    uint8_t data[];
};

/* Header, value, key and namespace of an entry together. */
#define STATE_ENTRY_BYTES_MAX ((uint64_t)UINT32_MAX - 4096)
#define STATE_ENTRY_DEAD UINT16_MAX /* key_group of a removed entry */
static inline bool state_entry_is_dead(const struct state_entry *entry) { return entry->key_group == STATE_ENTRY_DEAD; }
static inline const uint8_t *state_entry_key(const struct state_entry *entry) { return entry->data + entry->value_length; }
static inline const uint8_t *state_entry_namespace(const struct state_entry *entry)
{
    return entry->data + entry->value_length + entry->key_length;
}

/* What the table knows of a page besides its bytes; private. */
struct state_page_slot {
    uint8_t *data; /* NULL: free slot */
    uint32_t capacity_bytes;
    uint32_t used_bytes;
    uint32_t live_bytes;
    uint32_t group;
    uint32_t position; /* in the group's list */
    bool is_shared; /* a view may still hold it: ask its count before writing */
    bool is_large;  /* one entry fills it */
};

struct state_group;        /* private */
struct state_block_bundle; /* private */

struct state_table {
    struct state_page_slot *pages; /* private, like all that follows; here for the inline functions */
    struct state_group *groups;
    struct state_block_bundle *spare; /* free blocks at hand */
    uint32_t page_count; /* slots in use or free; slot 0 is never used */
    uint32_t page_capacity;
    uint32_t free_page; /* head of the list of free slots */
    uint32_t iterator_count;
    bool is_reclaim_due; /* something was removed while iterating */
    uint64_t entry_count;
    uint64_t page_bytes;
    uint64_t index_bytes;
    struct state_table_options options;
};

/* 0 is no entry. */
#define STATE_REF_NONE UINT64_C(0)
#define STATE_REF_BITS 36       /* page number, and */
#define STATE_REF_OFFSET_BITS 9 /* place in the page in units of 8 bytes */

struct state_table *state_table_create(const struct state_table_options *options);
/* Views stay valid. Accepts NULL. */
void state_table_destroy(struct state_table *table);
/* Removes all entries and frees their memory; cheap, copies nothing. */
void state_table_clear(struct state_table *table);

uint64_t state_table_entry_count(const struct state_table *table);
/* Memory of pages and indexes, views excluded. */
uint64_t state_table_size_bytes(const struct state_table *table);

/* The value bytes of an entry for reading: valid until the next change of the table. */
static inline const struct state_entry *state_table_entry(const struct state_table *table, uint64_t ref)
{
    const uint8_t *data = table->pages[ref >> STATE_REF_OFFSET_BITS].data + (ref & ((1u << STATE_REF_OFFSET_BITS) - 1)) * 8;
    return (const struct state_entry *)(const void *)data;
}
/* Copies the page of ref if a view still reads it; private. */
void state_table_unshare(struct state_table *table, uint64_t ref);
/* The value bytes for changing in place: valid until the next call that changes the table. */
static inline void *state_table_value(struct state_table *table, uint64_t ref)
{
    struct state_page_slot *slot = &table->pages[ref >> STATE_REF_OFFSET_BITS];
    if (__builtin_expect(slot->is_shared, 0))
        state_table_unshare(table, ref);
    return slot->data + (ref & ((1u << STATE_REF_OFFSET_BITS) - 1)) * 8 + sizeof(struct state_entry);
}

/* ---- one entry ---- */

/* STATE_REF_NONE when absent. */
uint64_t state_table_find(const struct state_table *table, uint32_t key_group, uint64_t hash, const void *key, uint32_t key_length,
                          const void *name_space, uint32_t namespace_length);
/* The value to write, value_length bytes: a new one is zeroed; an old one keeps its bytes, cut or zero-extended when its
 * length changes. Valid until the next call that changes the table. is_new may be NULL. */
void *state_table_upsert(struct state_table *table, uint32_t key_group, uint64_t hash, const void *key, uint32_t key_length,
                         const void *name_space, uint32_t namespace_length, uint32_t value_length, bool *is_new);
/* upsert of the whole value. */
void state_table_put(struct state_table *table, uint32_t key_group, uint64_t hash, const void *key, uint32_t key_length,
                     const void *name_space, uint32_t namespace_length, const void *value, uint32_t value_length);
/* False when there was none. */
bool state_table_remove(struct state_table *table, uint32_t key_group, uint64_t hash, const void *key, uint32_t key_length,
                        const void *name_space, uint32_t namespace_length);
void state_table_remove_ref(struct state_table *table, uint64_t ref);

/* ---- a batch of rows: memory is prefetched for all rows before it is read ---- */

struct state_rows {
    uint32_t count;
    const uint32_t *rows; /* row i of the call is row rows[i] of the arrays below; NULL: row i */
    const uint32_t *key_groups;
    const uint64_t *hashes;
    const uint8_t *keys; /* key of row r: key_offsets[r] .. key_offsets[r + 1] (row_codec_encode_rows) */
    const uint32_t *key_offsets;
    /* Namespace of row i of the call (not of rows[i]): namespaces + i * namespace_stride. Stride 0: the same for all. */
    const void *namespaces;
    uint32_t namespace_length;
    uint32_t namespace_stride;
};

/* Brings what find and upsert of these rows' keys will read into the caches; of no effect on a small table. Worth it for a few dozen
 * rows at a time, just before they are used one by one. */
void state_table_prefetch_rows(const struct state_table *table, const struct state_rows *rows);
/* refs[i] = the entry of row i, or STATE_REF_NONE. */
void state_table_find_rows(const struct state_table *table, const struct state_rows *rows, uint64_t *refs);
/* refs[i] = the entry of row i, made with value_length zero bytes where absent. is_new[i] (may be NULL) says so: of several rows
 * with one new key only the first. Existing entries must have this value_length. */
void state_table_upsert_rows(struct state_table *table, const struct state_rows *rows, uint32_t value_length, uint64_t *refs, bool *is_new);

/* ---- iteration: key groups in order, pages in order; sequential memory ---- */

struct state_iterator {
    struct state_table *table;
    uint32_t group; /* private from here */
    uint32_t group_end;
    uint32_t page_index;
    uint32_t offset;
};

/* Removing the entry in hand (or any) is fine while iterating; entries inserted meanwhile may or may not be visited. */
void state_iterator_init(struct state_iterator *iterator, struct state_table *table);
void state_iterator_init_key_group(struct state_iterator *iterator, struct state_table *table, uint32_t key_group);
/* STATE_REF_NONE at the end. *entry (may be NULL) is valid until the next change of the table. */
uint64_t state_iterator_next(struct state_iterator *iterator, const struct state_entry **out);
/* Must be called once after init; reclaims the space of what was removed. */
void state_iterator_finish(struct state_iterator *iterator);

/* ---- views: the table as it is now, for snapshots ---- */

struct state_view;
/* O(pages): references, no entry is touched. */
struct state_view *state_view_create(struct state_table *table);
/* The entries of one page, of one key group. Together with what state_entry has before its data, they take bytes at most. */
struct state_entries {
    const uint8_t *at;
    uint32_t bytes; /* that are left */
};
/* NULL at the end. */
static inline const struct state_entry *state_entries_next(struct state_entries *entries)
{
    while (entries->bytes > 0) {
        const struct state_entry *entry = (const struct state_entry *)(const void *)entries->at;
        uint32_t bytes = entry->units != 0 ? (uint32_t)entry->units * 8 : entries->bytes;
        entries->at += bytes;
        entries->bytes -= bytes;
        if (!state_entry_is_dead(entry))
            return entry;
    }
    return NULL;
}
/* Calls on_page for all pages in key-group order; stops at the first error. Drops each page as soon as it is done, so
 * that the table need not copy it any more: works once. Any one thread. */
MUST_CHECK struct error *state_view_consume(struct state_view *view, struct error *(*on_page)(void *arg, struct state_entries entries), void *arg);
const struct state_table_options *state_view_options(const struct state_view *view);
void state_view_destroy(struct state_view *view);

#endif
