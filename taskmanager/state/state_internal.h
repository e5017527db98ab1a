/* What state_table.c (entries, indexes) and state_page.c (pages, views) share. Not for others. */
#ifndef MILLRACE_STATE_STATE_INTERNAL_H
#define MILLRACE_STATE_STATE_INTERNAL_H

#include "taskmanager/state/state_table.h"

/* Page sizes. Small: after a barrier the first change of a page copies it, which must stay well below a microsecond, as
 * thousands of pages may be hit by one batch of rows; and yet few enough to be referenced in a millisecond or two at the
 * barrier. Larger entries than STATE_PAGE_ENTRY_MAX have a page of their own. */
#define STATE_PAGE_MIN_BYTES 1024u
#define STATE_PAGE_MAX_BYTES 4096u
#define STATE_PAGE_ENTRY_MAX 1024u

/* One key group. */
struct state_group {
    uint64_t *index; /* NULL: empty group */
    uint32_t index_mask;
    uint32_t index_shift; /* home slot = tag >> index_shift */
    uint32_t index_limit; /* entries before the index grows */
    uint32_t entry_count;
    uint32_t *pages; /* page numbers, in no particular order */
    uint32_t page_count;
    uint32_t page_capacity;
    uint32_t open_page;  /* where new entries go; 0: none */
    uint64_t used_bytes; /* of the pages that entries share, gaps included */
    uint64_t live_bytes;
};

/* Room for an entry of this size (a multiple of 8), counted as used and live. May move table->pages, never page bytes. */
uint64_t state_page_allocate(struct state_table *table, uint32_t group, uint32_t bytes);
/* The entry's bytes are no longer live. True when the page went (or will go, after iteration) with its last entry: nothing is to be marked. */
bool state_page_release(struct state_table *table, uint64_t ref, uint32_t bytes);
void state_page_free(struct state_table *table, uint32_t page);
/* The next entry starts a new page. */
void state_group_close_page(struct state_group *group);

uint32_t state_entry_bytes(const struct state_table *table, uint64_t ref);

#endif
