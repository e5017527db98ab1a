/* From the sections of what was in flight to the elements that one subtask plays back (net/in_flight.h, ARCHITECTURE.md "Unaligned
 * checkpoints"). Where both sides of the edge have the parallelism that they had, each consumer gets exactly its own elements, watermarks
 * and idleness included, channel by channel. Elsewhere every consumer reads the rows of all and keeps those that the edge's partitioner
 * gives it; watermarks are left out then, so that no row becomes late: the producers send new ones behind them.
 *
 * Sections: "edge-<n>", in flight to edge n of the operator's inputs; "held-<n>", held back at logical input n of the operator. Both say
 * in their description between whom: {"source", "side_output", "partitioning", "producers", "consumers", "consumer", "schema"}.
 * Thread: the task that restores. */
#ifndef MILLRACE_TASK_IN_FLIGHT_RESTORE_H
#define MILLRACE_TASK_IN_FLIGHT_RESTORE_H

#include "common/graph/job_graph.h"
#include "taskmanager/net/in_flight.h"
#include "taskmanager/state/snapshot.h"

enum in_flight_place { IN_FLIGHT_EDGE, IN_FLIGHT_HELD };

/* Adds a section to the snapshot, whose operator is target. edge: index into target's inputs; number: the edge, or the logical input.
 * Takes in_flight. */
void in_flight_save(struct snapshot *snapshot, const struct job_graph *graph, const struct job_operator *target, uint32_t edge,
                    enum in_flight_place place, uint32_t number, uint32_t subtask, struct in_flight *in_flight);

struct in_flight_reader {
    const struct job_graph *graph;
    const struct job_operator *target;
    uint32_t subtask;
    enum in_flight_place place;
    /* An element of this subtask, in order; takes it. edge: index into target's inputs; is_exact: origin is what it was. */
    void (*on_element)(void *arg, uint32_t edge, uint32_t number, uint32_t origin, bool is_exact, struct element element);
    void *arg;
};
/* errors: CORRUPT; INVALID_ARGUMENT when the program has no such edge any more, or its rows have another shape */
MUST_CHECK struct error *in_flight_restore(const struct in_flight_reader *reader, const char *directory, const json_t *handles);

#endif
