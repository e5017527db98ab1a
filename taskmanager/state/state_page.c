/* Pages of a state table, and views on them. A page is a counted block: one reference is the table's, one each view's. The task
 * thread adds references and copies; a view's reader only drops its references, with release order, so that a task that
 * sees itself alone (acquire) may write in place.
 * A view reads no further than the page was used when the view was made: the task may append behind that without a copy. */
#include "common/base/check.h"
#include "common/base/heap.h"
#include "taskmanager/state/state_internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct state_page {
    atomic_uint refs;
    uint32_t capacity_bytes; /* of data */
    uint64_t padding[7];     /* data starts a cache line */
    uint8_t data[];
};

static struct state_page *page_of(uint8_t *data)
{
    return (struct state_page *)(void *)(data - offsetof(struct state_page, data));
}

/* Blocks of full-size pages that were let go, for the whole process: after a barrier thousands of pages are copied in a few
 * milliseconds, while the worker frees as many soon after; fresh memory would cost page faults each time. */
#define SPARE_BLOCKS_MAX 8192

static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;
static struct spare_block {
    struct spare_block *next;
} *spare_blocks;
static uint32_t spare_count;

static void *block_create(size_t bytes)
{
    struct spare_block *block = NULL;
    if (bytes == STATE_PAGE_MAX_BYTES) {
        pthread_mutex_lock(&spare_lock);
        block = spare_blocks;
        if (block != NULL) {
            spare_blocks = block->next;
            spare_count--;
        }
        pthread_mutex_unlock(&spare_lock);
    }
    if (block == NULL)
        block = aligned_alloc(64, bytes);
    check(block != NULL);
    return block;
}

static void block_destroy(void *memory, size_t bytes)
{
    struct spare_block *block = memory;
    if (bytes == STATE_PAGE_MAX_BYTES) {
        pthread_mutex_lock(&spare_lock);
        if (spare_count < SPARE_BLOCKS_MAX) {
            block->next = spare_blocks;
            spare_blocks = block;
            spare_count++;
            block = NULL;
        }
        pthread_mutex_unlock(&spare_lock);
    }
    free(block);
}

static size_t block_bytes(uint32_t capacity_bytes)
{
    return (sizeof(struct state_page) + capacity_bytes + 63) & ~(size_t)63;
}

static struct state_page *page_create(uint32_t capacity_bytes)
{
    struct state_page *page = block_create(block_bytes(capacity_bytes));
    atomic_init(&page->refs, 1);
    page->capacity_bytes = capacity_bytes;
    return page;
}

static void page_unref(struct state_page *page)
{
    if (atomic_fetch_sub_explicit(&page->refs, 1, memory_order_acq_rel) == 1)
        block_destroy(page, block_bytes(page->capacity_bytes));
}

/* ---- the table's side ---- */

static uint32_t slot_take(struct state_table *table)
{
    if (table->free_page != 0) {
        uint32_t page = table->free_page;
        table->free_page = table->pages[page].position;
        return page;
    }
    if (table->page_count >= table->page_capacity) {
        table->page_capacity = table->page_capacity != 0 ? table->page_capacity * 2 : 16;
        table->pages = heap_realloc(table->pages, table->page_capacity, sizeof *table->pages);
    }
    return table->page_count++;
}

static uint32_t slot_create(struct state_table *table, uint32_t group_index, uint32_t capacity_bytes)
{
    struct state_group *group = &table->groups[group_index];
    uint32_t page = slot_take(table);
    if (group->page_count == group->page_capacity) {
        group->page_capacity = group->page_capacity != 0 ? group->page_capacity * 2 : 4;
        group->pages = heap_realloc(group->pages, group->page_capacity, sizeof *group->pages);
    }
    table->pages[page] = (struct state_page_slot){.data = page_create(capacity_bytes)->data,
                                                  .capacity_bytes = capacity_bytes,
                                                  .group = group_index,
                                                  .position = group->page_count};
    group->pages[group->page_count++] = page;
    table->page_bytes += sizeof(struct state_page) + capacity_bytes;
    return page;
}

/* As large as the group already is, within the bounds: a small group stays small. */
static uint32_t next_capacity(const struct state_group *group, uint32_t bytes)
{
    uint32_t block = STATE_PAGE_MIN_BYTES;
    while (block < STATE_PAGE_MAX_BYTES && (block < group->used_bytes || block < bytes + sizeof(struct state_page)))
        block *= 2;
    return block - (uint32_t)sizeof(struct state_page);
}

uint64_t state_page_allocate(struct state_table *table, uint32_t group_index, uint32_t bytes)
{
    struct state_group *group = &table->groups[group_index];
    if (bytes > STATE_PAGE_ENTRY_MAX) {
        uint32_t large = slot_create(table, group_index, bytes);
        table->pages[large].used_bytes = table->pages[large].live_bytes = bytes;
        table->pages[large].is_large = true;
        return (uint64_t)large << STATE_REF_OFFSET_BITS;
    }
    uint32_t page = group->open_page;
    if (page == 0 || table->pages[page].capacity_bytes - table->pages[page].used_bytes < bytes)
        page = group->open_page = slot_create(table, group_index, next_capacity(group, bytes));
    struct state_page_slot *slot = &table->pages[page];
    uint64_t ref = (uint64_t)page << STATE_REF_OFFSET_BITS | slot->used_bytes / 8;
    slot->used_bytes += bytes;
    slot->live_bytes += bytes;
    group->used_bytes += bytes;
    group->live_bytes += bytes;
    return ref;
}

bool state_page_release(struct state_table *table, uint64_t ref, uint32_t bytes)
{
    uint32_t page = (uint32_t)(ref >> STATE_REF_OFFSET_BITS);
    struct state_page_slot *slot = &table->pages[page];
    struct state_group *group = &table->groups[slot->group];
    table->is_reclaim_due = table->is_reclaim_due || table->iterator_count > 0;
    if (slot->is_large) {
        slot->live_bytes = 0;
        if (table->iterator_count == 0)
            state_page_free(table, page);
        else
            slot->used_bytes = 0;
        return true;
    }
    slot->live_bytes -= bytes;
    group->live_bytes -= bytes;
    if (slot->live_bytes != 0)
        return false;
    group->used_bytes -= slot->used_bytes;
    slot->used_bytes = 0; /* an iterator on the page goes on to the next */
    if (group->open_page == page && !slot->is_shared && table->iterator_count == 0)
        return true; /* filled again from its start */
    if (group->open_page == page)
        group->open_page = 0;
    if (table->iterator_count == 0)
        state_page_free(table, page);
    return true;
}

void state_page_free(struct state_table *table, uint32_t page)
{
    struct state_page_slot *slot = &table->pages[page];
    struct state_group *group = &table->groups[slot->group];
    if (!slot->is_large) {
        group->used_bytes -= slot->used_bytes;
        group->live_bytes -= slot->live_bytes;
    }
    if (group->open_page == page)
        group->open_page = 0;
    uint32_t last = group->pages[--group->page_count];
    group->pages[slot->position] = last;
    table->pages[last].position = slot->position;
    table->page_bytes -= sizeof(struct state_page) + slot->capacity_bytes;
    page_unref(page_of(slot->data));
    *slot = (struct state_page_slot){.position = table->free_page};
    table->free_page = page;
}

void state_group_close_page(struct state_group *group)
{
    group->open_page = 0;
}

void state_table_unshare(struct state_table *table, uint64_t ref)
{
    struct state_page_slot *slot = &table->pages[ref >> STATE_REF_OFFSET_BITS];
    struct state_page *page = page_of(slot->data);
    if (atomic_load_explicit(&page->refs, memory_order_acquire) != 1) {
        struct state_page *copy = page_create(slot->capacity_bytes);
        memcpy(copy->data, page->data, slot->used_bytes);
        slot->data = copy->data;
        page_unref(page);
    }
    slot->is_shared = false;
}

/* ---- views ---- */

struct view_page {
    struct state_page *page;
    uint32_t used_bytes;
};

struct state_view {
    struct state_table_options options;
    uint32_t page_count;
    struct view_page pages[];
};

struct state_view *state_view_create(struct state_table *table)
{
    uint32_t groups = table->options.key_group_last - table->options.key_group_first + 1, count = 0;
    for (uint32_t g = 0; g < groups; g++)
        count += table->groups[g].page_count;
    struct state_view *view = malloc(sizeof *view + count * sizeof view->pages[0]);
    check(view != NULL);
    view->options = table->options;
    schema_ref(view->options.key_schema);
    schema_ref(view->options.namespace_schema);
    schema_ref(view->options.value_schema);
    view->page_count = 0;
    for (uint32_t g = 0; g < groups; g++) {
        const struct state_group *group = &table->groups[g];
        for (uint32_t i = 0; i < group->page_count; i++) {
            struct state_page_slot *slot = &table->pages[group->pages[i]];
            if (slot->used_bytes == 0)
                continue;
            slot->is_shared = true;
            struct state_page *page = page_of(slot->data);
            __builtin_prefetch(page, 1);
            view->pages[view->page_count++] = (struct view_page){page, slot->used_bytes};
        }
    }
    for (uint32_t i = 0; i < view->page_count; i++) {
        if (i + 8 < view->page_count)
            __builtin_prefetch(view->pages[i + 8].page, 1);
        atomic_fetch_add_explicit(&view->pages[i].page->refs, 1, memory_order_relaxed);
    }
    return view;
}

static struct error *consume_page(const struct view_page *view, struct error *(*on_entry)(void *arg, const struct state_entry *entry), void *arg)
{
    for (uint32_t offset = 0; offset < view->used_bytes;) {
        const struct state_entry *entry = (const struct state_entry *)(const void *)(view->page->data + offset);
        offset += entry->units != 0 ? (uint32_t)entry->units * 8 : view->used_bytes;
        if (!state_entry_is_dead(entry))
            TRY(on_entry(arg, entry));
    }
    return NULL;
}

struct error *state_view_consume(struct state_view *view, struct error *(*on_entry)(void *arg, const struct state_entry *entry), void *arg)
{
    for (uint32_t i = 0; i < view->page_count; i++) {
        if (view->pages[i].page == NULL)
            continue;
        TRY(consume_page(&view->pages[i], on_entry, arg));
        page_unref(view->pages[i].page);
        view->pages[i].page = NULL;
    }
    return NULL;
}

const struct state_table_options *state_view_options(const struct state_view *view)
{
    return &view->options;
}

void state_view_destroy(struct state_view *view)
{
    if (view == NULL)
        return;
    for (uint32_t i = 0; i < view->page_count; i++)
        if (view->pages[i].page != NULL)
            page_unref(view->pages[i].page);
    schema_unref(view->options.key_schema);
    schema_unref(view->options.namespace_schema);
    schema_unref(view->options.value_schema);
    free(view);
}
