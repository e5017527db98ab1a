/* Which rows of a batch share a key: the entry of a hot key is then looked up once a batch and not once a row, however often the pane
 * changes. A batch that has hardly a key twice is left alone, and so are the ones after it for a while.
 * Owner: the window function. Thread: task. */
#ifndef MILLRACE_OPS_WINDOW_GROUPS_H
#define MILLRACE_OPS_WINDOW_GROUPS_H

#include "taskmanager/state/state_table.h"

#define WINDOW_GROUP_SLOTS 1024u

struct window_group {
    uint64_t hash;
    const uint8_t *key; /* borrows from the rows */
    uint32_t length;
};

struct window_groups {
    uint32_t count;
    uint32_t *of_row; /* group of row i of the selection; BATCH_ROWS_MAX each */
    uint32_t *rows;   /* first row of each group: a selection by itself */
    uint32_t skip_batches;
    struct window_group *groups;
    uint32_t slots[WINDOW_GROUP_SLOTS]; /* by hash: a group, if it is one of these rows' and has this hash */
};

void window_groups_init(struct window_groups *self);
void window_groups_finish(struct window_groups *self);

/* Fills in count, of_row and rows, groups in the order of their first rows. Two groups may have one key (two keys with one slot,
 * in turn), never one group two keys. While keys hardly repeat every row is a group of its own. rows must outlive the use of it. */
void window_groups_find(struct window_groups *self, const struct state_rows *rows);

#endif
