/* A list of rows as one opaque value of a state table: list state, and the elements of a window. The value grows by doubling, so
 * that appending is amortised O(1). Layout: u32 used bytes, u32 element count, then per element a u32 length and its bytes.
 * Thread: the owner of the table. */
#ifndef MILLRACE_OPS_ELEMENT_LIST_H
#define MILLRACE_OPS_ELEMENT_LIST_H

#include "common/base/bytes.h"
#include "taskmanager/state/row_codec.h"
#include "taskmanager/state/state_table.h"
#include "taskmanager/time/timer_service.h"

/* Appends one element to the list at (key, name_space), which is made when absent. bytes must not lie in the table. An error (and an
 * unchanged list) when the list would be larger than an entry of a table can be, which is 4 GiB. */
MUST_CHECK struct error *element_list_append(struct state_table *table, const struct state_key *key, const void *name_space,
                                             uint32_t namespace_length, const void *bytes, uint32_t length);
/* Appends all elements of another list's value (copied before, not in the table). */
MUST_CHECK struct error *element_list_append_all(struct state_table *table, const struct state_key *key, const void *name_space,
                                                 uint32_t namespace_length, const void *value, uint32_t value_length);
/* The element at *cursor (0 at first), NULL after the last; moves the cursor on. */
const void *element_list_next(const void *value, uint32_t value_length, size_t *cursor, uint32_t *length);
/* Rewrites every list of the table from one schema to another (restore after the record has changed). */
MUST_CHECK struct error *element_list_convert_all(struct state_table *table, const struct row_converter *converter);

#endif
