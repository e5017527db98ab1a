/* Pages of a state table, and views on them. A page's bytes are a counted block (state_block.h): one reference is the table's,
 * one each view's. The task thread adds references and copies; a view's reader only drops its references, with release order,
 * so that a task that sees itself alone (acquire) may write in place.
 * A view reads no further than the page was used when the view was made: the task may append behind that without a copy. */
#include "common/base/check.h"
#include "common/base/heap.h"
#include "taskmanager/state/state_block.h"
#include "taskmanager/state/state_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert(STATE_PAGE_MAX_BYTES == STATE_BLOCK_BYTES, "a full page is a full block");
static_assert(STATE_PAGE_MAX_BYTES <= 8u << STATE_REF_OFFSET_BITS, "references reach all of a page");

/* ---- the table's side ---- */

static uint32_t slot_take(struct state_table *table)
{
    if (table->free_page != 0) {
        uint32_t page = table->free_page;
        table->free_page = table->pages[page].position;
        return page;
    }
    check(table->page_count < 1u << (STATE_REF_BITS - STATE_REF_OFFSET_BITS));
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
    table->pages[page] = (struct state_page_slot){.data = state_block_create(table->spare, capacity_bytes),
                                                  .capacity_bytes = capacity_bytes,
                                                  .group = group_index,
                                                  .position = group->page_count};
    group->pages[group->page_count++] = page;
    table->page_bytes += capacity_bytes;
    return page;
}

/* As large as the group already is, within the bounds: a small group stays small. */
static uint32_t next_capacity(const struct state_group *group, uint32_t bytes)
{
    uint32_t block = STATE_PAGE_MIN_BYTES;
    while (block < STATE_PAGE_MAX_BYTES && (block < group->used_bytes || block < bytes))
        block *= 2;
    return block;
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
    table->page_bytes -= slot->capacity_bytes;
    state_block_unref(table->spare, slot->data, slot->capacity_bytes);
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
    if (!state_block_is_alone(slot->data, slot->capacity_bytes)) {
        uint8_t *copy = state_block_create(table->spare, slot->capacity_bytes);
        memcpy(copy, slot->data, slot->used_bytes);
        state_block_unref(table->spare, slot->data, slot->capacity_bytes);
        slot->data = copy;
    }
    slot->is_shared = false;
}

/* ---- views ---- */

struct view_page {
    uint8_t *data; /* NULL: let go */
    uint32_t capacity_bytes;
    uint32_t used_bytes;
};

struct state_view {
    struct state_table_options options;
    struct state_block_bundle spare; /* the reader's */
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
    view->spare.count = 0;
    for (uint32_t g = 0; g < groups; g++) {
        const struct state_group *group = &table->groups[g];
        for (uint32_t i = 0; i < group->page_count; i++) {
            struct state_page_slot *slot = &table->pages[group->pages[i]];
            if (slot->used_bytes == 0)
                continue;
            slot->is_shared = true;
            state_block_ref(slot->data, slot->capacity_bytes);
            view->pages[view->page_count++] = (struct view_page){slot->data, slot->capacity_bytes, slot->used_bytes};
        }
    }
    return view;
}

struct error *state_view_consume(struct state_view *view, struct error *(*on_page)(void *arg, struct state_entries entries), void *arg)
{
    for (uint32_t i = 0; i < view->page_count; i++) {
        struct view_page *page = &view->pages[i];
        if (page->data == NULL)
            continue;
        if (i + 1 < view->page_count && page[1].data != NULL) { /* the rest follows by itself */
            __builtin_prefetch(page[1].data);
            __builtin_prefetch(page[1].data + 64);
        }
        TRY(on_page(arg, (struct state_entries){page->data, page->used_bytes}));
        state_block_unref(&view->spare, page->data, page->capacity_bytes);
        page->data = NULL;
    }
    state_block_bundle_finish(&view->spare);
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
        if (view->pages[i].data != NULL)
            state_block_unref(&view->spare, view->pages[i].data, view->pages[i].capacity_bytes);
    state_block_bundle_finish(&view->spare);
    schema_unref(view->options.key_schema);
    schema_unref(view->options.namespace_schema);
    schema_unref(view->options.value_schema);
    free(view);
}
