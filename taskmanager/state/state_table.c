/* State tables: see state_table.h. Here: entries, indexes, single-entry calls, batches of rows and iteration.
 * Pages (allocation, sharing, views) are in state_page.c. Owner: the task thread.
 *
 * An index slot is tag << 36 | reference; 0 is free. The tag is 28 bits of the mixed hash; its top bits are the entry's home slot, so
 * an index grows, and closes the gap of a removed slot, without touching entries. Linear probing. */
#include "taskmanager/state/state_table.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "taskmanager/state/state_block.h"
#include "taskmanager/state/state_internal.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define TAG_BITS 28
#define REF_BITS STATE_REF_BITS
#define REF_MASK ((UINT64_C(1) << REF_BITS) - 1)
#define INDEX_LOG2_MIN 3

static inline uint64_t load_word(const void *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline uint64_t mix_hash(uint64_t hash, const void *name_space, uint32_t length)
{
    if (length == sizeof(uint64_t))
        hash ^= load_word(name_space) * UINT64_C(0x9fb21c651e98df25);
    else if (length != 0)
        hash ^= XXH3_64bits(name_space, length);
    hash *= UINT64_C(0x9e3779b97f4a7c15);
    return (hash ^ hash >> 32) * UINT64_C(0xd6e8feb86659fd93) >> (64 - TAG_BITS);
}

/* Equality without a call for the lengths that keys have. */
static inline bool bytes_equal(const uint8_t *a, const uint8_t *b, uint32_t length)
{
    if (length >= 8) {
        uint64_t difference = load_word(a + length - 8) ^ load_word(b + length - 8);
        if (length > 64)
            return difference == 0 && memcmp(a, b, length) == 0;
        for (uint32_t i = 0; i + 8 < length; i += 8)
            difference |= load_word(a + i) ^ load_word(b + i);
        return difference == 0;
    }
    if (length >= 4) {
        uint32_t x[2], y[2];
        memcpy(&x[0], a, 4);
        memcpy(&y[0], b, 4);
        memcpy(&x[1], a + length - 4, 4);
        memcpy(&y[1], b + length - 4, 4);
        return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
    }
    for (uint32_t i = 0; i < length; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* What is looked for. */
struct probe {
    uint64_t hash;
    uint64_t tag;
    const uint8_t *key;
    const uint8_t *name_space;
    uint32_t key_length;
    uint32_t namespace_length;
};

static inline struct probe probe_of(uint64_t hash, const void *key, uint32_t key_length, const void *name_space, uint32_t namespace_length)
{
    return (struct probe){hash, mix_hash(hash, name_space, namespace_length), key, name_space, key_length, namespace_length};
}

static inline bool entry_matches(const struct state_entry *entry, const struct probe *probe)
{
    if (entry->hash != probe->hash || entry->key_length != probe->key_length || entry->namespace_length != probe->namespace_length)
        return false;
    const uint8_t *key = state_entry_key(entry);
    return bytes_equal(key, probe->key, probe->key_length) && bytes_equal(key + probe->key_length, probe->name_space, probe->namespace_length);
}

static inline uint64_t home_slot(const struct state_group *group, uint64_t tag)
{
    return tag >> group->index_shift;
}

/* ---- indexes ---- */

static void index_insert(struct state_group *group, uint64_t slot)
{
    uint64_t i = home_slot(group, slot >> REF_BITS);
    while (group->index[i] != 0)
        i = (i + 1) & group->index_mask;
    group->index[i] = slot;
}

static void index_resize(struct state_table *table, struct state_group *group, uint32_t log2)
{
    check(log2 <= TAG_BITS);
    uint64_t *old = group->index;
    uint64_t old_count = old != NULL ? (uint64_t)group->index_mask + 1 : 0;
    uint64_t count = UINT64_C(1) << log2;
    group->index = heap_alloc_array((size_t)count, sizeof *group->index);
    group->index_mask = (uint32_t)(count - 1);
    group->index_shift = TAG_BITS - log2;
    group->index_limit = (uint32_t)(count - count / 4);
    for (uint64_t i = 0; i < old_count; i++)
        if (old[i] != 0)
            index_insert(group, old[i]);
    free(old);
    table->index_bytes += (count - old_count) * sizeof *group->index;
}

static void index_reserve(struct state_table *table, struct state_group *group)
{
    if (group->index == NULL)
        index_resize(table, group, INDEX_LOG2_MIN);
    else if (group->entry_count >= group->index_limit)
        index_resize(table, group, TAG_BITS - group->index_shift + 1);
}

/* The slot that holds ref; it must be there. */
static uint64_t index_slot_of(const struct state_group *group, uint64_t tag, uint64_t ref)
{
    uint64_t i = home_slot(group, tag), wanted = tag << REF_BITS | ref;
    while (group->index[i] != wanted) {
        dcheck(group->index[i] != 0);
        i = (i + 1) & group->index_mask;
    }
    return i;
}

/* Closes the gap: moves back every following slot that its home allows (Knuth 6.4, algorithm R). */
static void index_remove(struct state_group *group, uint64_t gap)
{
    uint64_t i = gap, mask = group->index_mask;
    for (;;) {
        i = (i + 1) & mask;
        uint64_t slot = group->index[i];
        if (slot == 0)
            break;
        uint64_t home = home_slot(group, slot >> REF_BITS);
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            group->index[gap] = slot;
            gap = i;
        }
    }
    group->index[gap] = 0;
}

static inline uint64_t group_find(const struct state_table *table, const struct state_group *group, const struct probe *probe)
{
    if (group->index == NULL)
        return STATE_REF_NONE;
    for (uint64_t i = home_slot(group, probe->tag);; i = (i + 1) & group->index_mask) {
        uint64_t slot = group->index[i];
        if (slot == 0)
            return STATE_REF_NONE;
        if (slot >> REF_BITS == probe->tag && entry_matches(state_table_entry(table, slot & REF_MASK), probe))
            return slot & REF_MASK;
    }
}

static inline struct state_group *group_of(const struct state_table *table, uint32_t key_group)
{
    dcheck(key_group >= table->options.key_group_first && key_group <= table->options.key_group_last);
    return &table->groups[key_group - table->options.key_group_first];
}

/* ---- entries ---- */

uint32_t state_entry_bytes(const struct state_table *table, uint64_t ref)
{
    const struct state_entry *entry = state_table_entry(table, ref);
    return entry->units != 0 ? (uint32_t)entry->units * 8 : table->pages[ref >> STATE_REF_OFFSET_BITS].used_bytes;
}

static uint32_t entry_size(uint32_t value_length, uint32_t key_length, uint32_t namespace_length)
{
    uint64_t bytes = sizeof(struct state_entry) + (uint64_t)value_length + key_length + namespace_length;
    check(bytes <= STATE_ENTRY_BYTES_MAX);
    return (uint32_t)((bytes + 7) & ~UINT64_C(7));
}

/* A new entry with a zeroed value, not yet in the index. */
static uint64_t entry_create(struct state_table *table, uint32_t key_group, const struct probe *probe, uint32_t value_length)
{
    uint32_t bytes = entry_size(value_length, probe->key_length, probe->namespace_length);
    uint64_t ref = state_page_allocate(table, key_group - table->options.key_group_first, bytes);
    uint8_t *data = table->pages[ref >> STATE_REF_OFFSET_BITS].data + (ref & ((1u << STATE_REF_OFFSET_BITS) - 1)) * 8;
    struct state_entry *entry = (struct state_entry *)(void *)data;
    *entry = (struct state_entry){.hash = probe->hash,
                                  .key_group = (uint16_t)key_group,
                                  .units = (uint16_t)(bytes <= STATE_PAGE_ENTRY_MAX ? bytes / 8 : 0),
                                  .value_length = value_length,
                                  .key_length = probe->key_length,
                                  .namespace_length = probe->namespace_length};
    memset(entry->data, 0, value_length);
    if (probe->key_length != 0)
        memcpy(entry->data + value_length, probe->key, probe->key_length);
    if (probe->namespace_length != 0)
        memcpy(entry->data + value_length + probe->key_length, probe->name_space, probe->namespace_length);
    return ref;
}

static uint64_t group_insert(struct state_table *table, uint32_t key_group, const struct probe *probe, uint32_t value_length)
{
    struct state_group *group = group_of(table, key_group);
    index_reserve(table, group);
    uint64_t ref = entry_create(table, key_group, probe, value_length);
    dcheck(ref <= REF_MASK);
    index_insert(group, probe->tag << REF_BITS | ref);
    group->entry_count++;
    table->entry_count++;
    return ref;
}

static uint64_t entry_tag(const struct state_entry *entry)
{
    return mix_hash(entry->hash, state_entry_namespace(entry), entry->namespace_length);
}

/* Marks the entry's bytes as a gap; the index no longer refers to it. */
static void entry_release(struct state_table *table, uint64_t ref)
{
    uint32_t bytes = state_entry_bytes(table, ref);
    if (state_page_release(table, ref, bytes))
        return; /* the page went with its last entry */
    struct state_entry *entry = (struct state_entry *)(void *)((uint8_t *)state_table_value(table, ref) - sizeof *entry);
    entry->key_group = STATE_ENTRY_DEAD;
}

/* Gives an entry another value length: a new entry takes its place in the index. */
static uint64_t entry_resize(struct state_table *table, struct state_group *group, uint64_t ref, uint32_t value_length)
{
    const struct state_entry *old = state_table_entry(table, ref);
    uint64_t tag = entry_tag(old), slot = index_slot_of(group, tag, ref);
    uint32_t key_group = old->key_group, keep = old->value_length < value_length ? old->value_length : value_length;
    uint32_t fits = entry_size(value_length, old->key_length, old->namespace_length);
    if (fits == state_entry_bytes(table, ref)) { /* the padding takes the difference */
        struct state_entry *entry = (struct state_entry *)(void *)((uint8_t *)state_table_value(table, ref) - sizeof *entry);
        memmove(entry->data + value_length, entry->data + entry->value_length, entry->key_length + entry->namespace_length);
        if (value_length > keep)
            memset(entry->data + keep, 0, value_length - keep);
        entry->value_length = value_length;
        return ref;
    }
    const struct probe probe = {old->hash, tag, state_entry_key(old), state_entry_namespace(old), old->key_length, old->namespace_length};
    /* Allocation may move the page table but not the page that old lies in. */
    uint64_t moved = entry_create(table, key_group, &probe, value_length);
    void *value = state_table_value(table, moved); /* may copy the page, and old with it */
    memcpy(value, state_table_entry(table, ref)->data, keep);
    group->index[slot] = tag << REF_BITS | moved;
    entry_release(table, ref);
    return moved;
}

/* ---- compaction ---- */

/* Moves the live entries of one page behind the group's others and frees it. */
static void compact_page(struct state_table *table, struct state_group *group, uint32_t page)
{
    uint32_t used = table->pages[page].used_bytes;
    for (uint32_t offset = 0; offset < used;) {
        uint64_t ref = (uint64_t)page << STATE_REF_OFFSET_BITS | offset / 8;
        const struct state_entry *entry = state_table_entry(table, ref);
        uint32_t bytes = (uint32_t)entry->units * 8;
        offset += bytes;
        if (state_entry_is_dead(entry))
            continue;
        uint64_t tag = entry_tag(entry), slot = index_slot_of(group, tag, ref);
        uint64_t moved = state_page_allocate(table, table->pages[page].group, bytes);
        memcpy(table->pages[moved >> STATE_REF_OFFSET_BITS].data + (moved & ((1u << STATE_REF_OFFSET_BITS) - 1)) * 8, entry, bytes);
        group->index[slot] = tag << REF_BITS | moved;
    }
    state_page_free(table, page);
}

/* Half of the group's bytes are gaps: moving what lives costs no more than what was written into the gaps before. */
static void group_compact(struct state_table *table, struct state_group *group)
{
    if (group->used_bytes < 2 * STATE_PAGE_MAX_BYTES || group->live_bytes * 2 > group->used_bytes)
        return;
    uint32_t count = group->page_count;
    uint32_t *pages = heap_memdup(group->pages, count * sizeof *pages);
    state_group_close_page(group); /* moved entries go to fresh pages */
    for (uint32_t i = 0; i < count; i++) {
        const struct state_page_slot *page = &table->pages[pages[i]];
        if (!page->is_large && page->live_bytes * 4 < page->used_bytes * 3)
            compact_page(table, group, pages[i]);
    }
    free(pages);
    uint32_t log2 = TAG_BITS - group->index_shift;
    while (log2 > INDEX_LOG2_MIN && group->entry_count * 8 < UINT64_C(1) << log2)
        log2--;
    if (log2 < TAG_BITS - group->index_shift)
        index_resize(table, group, log2);
}

/* ---- one entry ---- */

uint64_t state_table_find(const struct state_table *table, uint32_t key_group, uint64_t hash, const void *key, uint32_t key_length,
                          const void *name_space, uint32_t namespace_length)
{
    struct probe probe = probe_of(hash, key, key_length, name_space, namespace_length);
    return group_find(table, group_of(table, key_group), &probe);
}

void *state_table_upsert(struct state_table *table, uint32_t key_group, uint64_t hash, const void *key, uint32_t key_length,
                         const void *name_space, uint32_t namespace_length, uint32_t value_length, bool *is_new)
{
    struct probe probe = probe_of(hash, key, key_length, name_space, namespace_length);
    struct state_group *group = group_of(table, key_group);
    uint64_t ref = group_find(table, group, &probe);
    if (is_new != NULL)
        *is_new = ref == STATE_REF_NONE;
    if (ref == STATE_REF_NONE) {
        ref = group_insert(table, key_group, &probe, value_length);
    } else if (state_table_entry(table, ref)->value_length != value_length) {
        if (table->iterator_count == 0) {
            group_compact(table, group);
            ref = group_find(table, group, &probe);
        }
        ref = entry_resize(table, group, ref, value_length);
    }
    return state_table_value(table, ref);
}

void state_table_put(struct state_table *table, uint32_t key_group, uint64_t hash, const void *key, uint32_t key_length,
                     const void *name_space, uint32_t namespace_length, const void *value, uint32_t value_length)
{
    void *to = state_table_upsert(table, key_group, hash, key, key_length, name_space, namespace_length, value_length, NULL);
    if (value_length != 0)
        memcpy(to, value, value_length);
}

void state_table_remove_ref(struct state_table *table, uint64_t ref)
{
    const struct state_entry *entry = state_table_entry(table, ref);
    check(!state_entry_is_dead(entry));
    struct state_group *group = group_of(table, entry->key_group);
    index_remove(group, index_slot_of(group, entry_tag(entry), ref));
    group->entry_count--;
    table->entry_count--;
    entry_release(table, ref);
    if (table->iterator_count == 0)
        group_compact(table, group);
}

bool state_table_remove(struct state_table *table, uint32_t key_group, uint64_t hash, const void *key, uint32_t key_length,
                        const void *name_space, uint32_t namespace_length)
{
    uint64_t ref = state_table_find(table, key_group, hash, key, key_length, name_space, namespace_length);
    if (ref == STATE_REF_NONE)
        return false;
    state_table_remove_ref(table, ref);
    return true;
}

/* ---- batches of rows ---- */

#define ROWS_AHEAD 64
/* A table of fewer bytes lies in the first caches: prefetching it would only cost. */
#define PREFETCH_BYTES_MIN (1u << 17)

struct probed_rows {
    uint64_t tags[ROWS_AHEAD];
    struct state_group *groups[ROWS_AHEAD];
};

static inline const uint8_t *namespace_of_row(const struct state_rows *rows, uint32_t i)
{
    static const uint8_t none[1];
    return rows->namespace_length != 0 ? (const uint8_t *)rows->namespaces + (size_t)i * rows->namespace_stride : none;
}

/* A function that only prefetches has no effect in the compiler's eyes: it drops calls of it. */
#define KEEP_PREFETCHES() __asm__ volatile("" : : : "memory")

/* Brings entries nearer: the first slot with the row's tag is almost always the row's. */
static void prefetch_entries(const struct state_table *table, const struct probed_rows *probed, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct state_group *group = probed->groups[i];
        if (group->index == NULL)
            continue;
        uint64_t at = home_slot(group, probed->tags[i]), slot = group->index[at];
        while (slot != 0 && slot >> REF_BITS != probed->tags[i]) {
            at = (at + 1) & group->index_mask;
            slot = group->index[at];
        }
        if (slot == 0)
            continue;
        const struct state_page_slot *page = &table->pages[(slot & REF_MASK) >> STATE_REF_OFFSET_BITS];
        const uint8_t *entry = (const uint8_t *)state_table_entry(table, slot & REF_MASK);
        __builtin_prefetch(entry);
        __builtin_prefetch(entry + 47); /* the end of a small entry: maybe the next line */
        if (page->is_shared) /* it will be copied, and its count, which the view's reader has changed, go down */
            __builtin_prefetch(state_block_refs(page->data, page->capacity_bytes), 1);
    }
    KEEP_PREFETCHES();
}

/* Three passes over a stretch of rows: hash and prefetch the index slot; read the slot and prefetch the entry; compare (the
 * caller). A cold table costs two cache misses a row; here those of 64 rows are in flight together. */
static void probe_rows(const struct state_table *table, const struct state_rows *rows, uint32_t start, uint32_t count, struct probed_rows *out)
{
    const uint8_t *name_space = namespace_of_row(rows, start);
    bool is_cold = table->page_bytes >= PREFETCH_BYTES_MIN;
    for (uint32_t i = 0; i < count; i++, name_space += rows->namespace_length != 0 ? rows->namespace_stride : 0) {
        uint32_t row = rows->rows != NULL ? rows->rows[start + i] : start + i;
        out->tags[i] = mix_hash(rows->hashes[row], name_space, rows->namespace_length);
        out->groups[i] = group_of(table, rows->key_groups[row]);
    }
    if (!is_cold)
        return;
    for (uint32_t i = 0; i < count; i++)
        if (out->groups[i]->index != NULL)
            __builtin_prefetch(&out->groups[i]->index[home_slot(out->groups[i], out->tags[i])]);
    prefetch_entries(table, out, count);
}

static inline struct probe probe_of_row(const struct state_rows *rows, uint32_t i, uint32_t row, uint64_t tag)
{
    return (struct probe){rows->hashes[row],
                          tag,
                          rows->keys + rows->key_offsets[row],
                          namespace_of_row(rows, i),
                          rows->key_offsets[row + 1] - rows->key_offsets[row],
                          rows->namespace_length};
}

void state_table_prefetch_rows(const struct state_table *table, const struct state_rows *rows)
{
    struct probed_rows probed;
    if (table->page_bytes < PREFETCH_BYTES_MIN)
        return;
    for (uint32_t start = 0; start < rows->count; start += ROWS_AHEAD)
        probe_rows(table, rows, start, rows->count - start < ROWS_AHEAD ? rows->count - start : ROWS_AHEAD, &probed);
    KEEP_PREFETCHES();
}

void state_table_find_rows(const struct state_table *table, const struct state_rows *rows, uint64_t *refs)
{
    struct probed_rows probed;
    for (uint32_t start = 0; start < rows->count; start += ROWS_AHEAD) {
        uint32_t count = rows->count - start < ROWS_AHEAD ? rows->count - start : ROWS_AHEAD;
        probe_rows(table, rows, start, count, &probed);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t row = rows->rows != NULL ? rows->rows[start + i] : start + i;
            struct probe probe = probe_of_row(rows, start + i, row, probed.tags[i]);
            refs[start + i] = group_find(table, probed.groups[i], &probe);
        }
    }
}

void state_table_upsert_rows(struct state_table *table, const struct state_rows *rows, uint32_t value_length, uint64_t *refs, bool *is_new)
{
    struct probed_rows probed;
    for (uint32_t start = 0; start < rows->count; start += ROWS_AHEAD) {
        uint32_t count = rows->count - start < ROWS_AHEAD ? rows->count - start : ROWS_AHEAD;
        probe_rows(table, rows, start, count, &probed);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t row = rows->rows != NULL ? rows->rows[start + i] : start + i;
            struct probe probe = probe_of_row(rows, start + i, row, probed.tags[i]);
            uint64_t ref = group_find(table, probed.groups[i], &probe);
            if (is_new != NULL)
                is_new[start + i] = ref == STATE_REF_NONE;
            if (__builtin_expect(ref == STATE_REF_NONE, 0))
                ref = group_insert(table, rows->key_groups[row], &probe, value_length);
            dcheck(state_table_entry(table, ref)->value_length == value_length);
            refs[start + i] = ref;
        }
    }
}

/* ---- iteration ---- */

void state_iterator_init(struct state_iterator *iterator, struct state_table *table)
{
    uint32_t groups = table->options.key_group_last - table->options.key_group_first + 1;
    *iterator = (struct state_iterator){.table = table, .group_end = groups};
    table->iterator_count++;
}

void state_iterator_init_key_group(struct state_iterator *iterator, struct state_table *table, uint32_t key_group)
{
    uint32_t group = key_group - table->options.key_group_first;
    check(key_group >= table->options.key_group_first && key_group <= table->options.key_group_last);
    *iterator = (struct state_iterator){.table = table, .group = group, .group_end = group + 1};
    table->iterator_count++;
}

/* Pages that lose their last entry stay in the group's list, empty, while an iterator is on the table. */
uint64_t state_iterator_next(struct state_iterator *iterator, const struct state_entry **out)
{
    const struct state_table *table = iterator->table;
    for (; iterator->group < iterator->group_end; iterator->group++, iterator->page_index = 0, iterator->offset = 0) {
        const struct state_group *group = &table->groups[iterator->group];
        for (; iterator->page_index < group->page_count; iterator->page_index++, iterator->offset = 0) {
            uint32_t page = group->pages[iterator->page_index];
            while (iterator->offset < table->pages[page].used_bytes) {
                uint64_t ref = (uint64_t)page << STATE_REF_OFFSET_BITS | iterator->offset / 8;
                const struct state_entry *entry = state_table_entry(table, ref);
                iterator->offset += entry->units != 0 ? (uint32_t)entry->units * 8 : table->pages[page].used_bytes;
                if (state_entry_is_dead(entry))
                    continue;
                if (out != NULL)
                    *out = entry;
                return ref;
            }
        }
    }
    return STATE_REF_NONE;
}

void state_iterator_finish(struct state_iterator *iterator)
{
    struct state_table *table = iterator->table;
    check(table->iterator_count > 0);
    if (--table->iterator_count > 0 || !table->is_reclaim_due)
        return;
    table->is_reclaim_due = false;
    uint32_t groups = table->options.key_group_last - table->options.key_group_first + 1;
    for (uint32_t g = 0; g < groups; g++) {
        struct state_group *group = &table->groups[g];
        for (uint32_t i = group->page_count; i > 0; i--)
            if (table->pages[group->pages[i - 1]].live_bytes == 0)
                state_page_free(table, group->pages[i - 1]);
        group_compact(table, group);
    }
}

/* ---- the table ---- */

struct state_table *state_table_create(const struct state_table_options *options)
{
    check(options->key_group_first <= options->key_group_last && options->key_group_last < STATE_ENTRY_DEAD);
    check(options->value_form == STATE_VALUE_BYTES || options->value_schema != NULL);
    struct state_table *table = heap_new(struct state_table);
    table->options = *options;
    schema_ref(options->key_schema);
    schema_ref(options->namespace_schema);
    schema_ref(options->value_schema);
    table->groups = heap_alloc_array(options->key_group_last - options->key_group_first + 1, sizeof *table->groups);
    table->spare = heap_new(struct state_block_bundle);
    table->page_count = 1; /* page 0 stays unused, so that no reference is 0 */
    return table;
}

void state_table_clear(struct state_table *table)
{
    uint32_t groups = table->options.key_group_last - table->options.key_group_first + 1;
    check(table->iterator_count == 0);
    for (uint32_t g = 0; g < groups; g++) {
        struct state_group *group = &table->groups[g];
        while (group->page_count > 0)
            state_page_free(table, group->pages[group->page_count - 1]);
        free(group->pages);
        free(group->index);
        *group = (struct state_group){0};
    }
    free(table->pages);
    table->pages = NULL;
    table->page_count = 1;
    table->page_capacity = 0;
    table->free_page = 0;
    table->entry_count = 0;
    table->index_bytes = 0;
    dcheck(table->page_bytes == 0);
}

void state_table_destroy(struct state_table *table)
{
    if (table == NULL)
        return;
    table->iterator_count = 0;
    state_table_clear(table);
    schema_unref(table->options.key_schema);
    schema_unref(table->options.namespace_schema);
    schema_unref(table->options.value_schema);
    state_block_bundle_finish(table->spare);
    free(table->spare);
    free(table->groups);
    free(table);
}

uint64_t state_table_entry_count(const struct state_table *table)
{
    return table->entry_count;
}

uint64_t state_table_size_bytes(const struct state_table *table)
{
    uint64_t groups = table->options.key_group_last - table->options.key_group_first + 1;
    return sizeof *table + groups * sizeof *table->groups + table->page_capacity * sizeof *table->pages + table->page_bytes + table->index_bytes;
}
