/* Snapshots: what an operator hands over at a barrier and gets back on restore, and the state file in between
 * (ARCHITECTURE.md, "State"). Three phases:
 *   task thread:   snapshot_create; each operator adds its parts (cheap: bytes copied, or a state table's pages referenced)
 *   worker thread: snapshot_write serialises everything into one checksummed, synced file
 *   task thread:   snapshot_destroy drops the page references
 * Restore: restored_state gives an operator its parts, filtered to the subtask's key groups. */
#ifndef MILLRACE_STATE_SNAPSHOT_H
#define MILLRACE_STATE_SNAPSHOT_H

#include "common/base/error.h"
#include "common/base/id.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct in_flight; /* taskmanager/net/in_flight.h */
struct state_table;
struct snapshot;
struct restored_state;

/* ---- taking (task thread) ---- */

struct snapshot *snapshot_create(void);
/* All parts added until the next call belong to this operator. */
void snapshot_begin_operator(struct snapshot *snapshot, struct id operator_id);
/* One item of operator list state: on rescale, item i goes to subtask i mod parallelism. Bytes are copied. */
void snapshot_add_list_item(struct snapshot *snapshot, const char *state_name, const void *bytes, size_t length);
/* One item of union list state: on restore everyone gets all items. */
void snapshot_add_union_item(struct snapshot *snapshot, const char *state_name, const void *bytes, size_t length);
/* Keyed state: takes a copy-on-write view of the table in O(pages), no row is touched. state_name must be unique in the
 * operator. meta is stored beside it (window bounds, kinds …), may be NULL; taken. */
void snapshot_add_table(struct snapshot *snapshot, const char *state_name, struct state_table *table, json_t *meta);
/* What was in flight to the operator (a section of kind "channel"); takes both. meta says between whom. */
void snapshot_add_in_flight(struct snapshot *snapshot, const char *state_name, json_t *meta, struct in_flight *in_flight);
void snapshot_destroy(struct snapshot *snapshot);

/* ---- writing (worker thread) ---- */

struct snapshot_result {
    json_t *handles;   /* array of state handles for the ack, one per operator with state; owned by the caller */
    uint64_t bytes;
    uint64_t in_flight_bytes; /* of them */
};
/* Writes directory/file_name, synced. On failure the file is removed. An empty snapshot writes nothing and gives []. */
MUST_CHECK struct error *snapshot_write(struct snapshot *snapshot, const char *directory, const char *file_name, uint32_t subtask,
                                        uint32_t key_group_first, uint32_t key_group_last, struct snapshot_result *out);

/* ---- restoring (task thread, before open) ---- */

/* handles: the "restore" handles of this operator, from all old subtasks; directory: the checkpoint's. Opens and verifies files. */
MUST_CHECK struct error *restored_state_open(const char *directory, const json_t *handles, struct id operator_id, uint32_t subtask_index,
                                             uint32_t parallelism, uint32_t key_group_first, uint32_t key_group_last,
                                             struct restored_state **out);
/* The same for what was in flight alone: for restored_state_in_flight. */
MUST_CHECK struct error *restored_state_open_in_flight(const char *directory, const json_t *handles, struct id operator_id,
                                                       struct restored_state **out);
/* Whether any of the operator's handles has something in flight. */
bool restored_state_has_in_flight(const json_t *handles);
void restored_state_close(struct restored_state *state);
/* Calls on_item for each list item of this subtask, or each union item; stops at the first error. */
MUST_CHECK struct error *restored_state_items(struct restored_state *state, const char *state_name,
                                              struct error *(*on_item)(void *arg, const void *bytes, size_t length), void *arg);
/* Calls on_section for each section of what was in flight, in handle order, and on_item for each of its items. */
struct restored_in_flight {
    struct error *(*on_section)(void *arg, const char *name, const json_t *meta);
    struct error *(*on_item)(void *arg, const void *bytes, size_t length);
    void *arg;
};
MUST_CHECK struct error *restored_state_in_flight(struct restored_state *state, const struct restored_in_flight *visitor);
/* Names and metas of the keyed tables in the state: [{"name":…,"meta":…}], each name once; owned by the caller. */
json_t *restored_state_tables(struct restored_state *state);
/* Inserts all entries of the subtask's key groups into the table. Values are converted by field name when the stored
 * schema differs from the table's. */
MUST_CHECK struct error *restored_state_load(struct restored_state *state, const char *state_name, struct state_table *table);

#endif
