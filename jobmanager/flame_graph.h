/* Flame graphs of vertices: their tasks' stacks are sampled on the taskmanagers when somebody looks (rest.flamegraph.*), and the
 * last result is kept for a while. Thread: the jobmanager's loop. Owner: the jobmanager. */
#ifndef MILLRACE_JOBMANAGER_FLAME_GRAPH_H
#define MILLRACE_JOBMANAGER_FLAME_GRAPH_H

#include "common/base/hash_map.h"
#include "jobmanager/core/coordinator.h"

struct jobmanager;

enum flame_graph_type { FLAME_GRAPH_FULL, FLAME_GRAPH_ON_CPU, FLAME_GRAPH_OFF_CPU };

/* What stands for a graph that is not there, in "endTimestamp" (Flink's VertexFlameGraph). */
enum { FLAME_GRAPH_TERMINATED = -1, FLAME_GRAPH_DISABLED = -2, FLAME_GRAPH_WAITING = -3 };

struct flame_graphs {
    struct hash_map by_vertex; /* job and vertex -> struct flame_graph */
};

/* {"endTimestamp": …, "data": {"name": "root", "value": samples, "children": […]}}; "data" null when there is none (yet). Starts to
 * sample when there is no result, or only an old one. subtask: -1 for all. */
json_t *flame_graph_view(struct jobmanager *jobmanager, const struct job_task_vertex *vertex, int64_t subtask, enum flame_graph_type type);
/* The tree of such samples of one task as STACKS has them: {"frame;frame": [on CPU, waiting]}. Added to root, which is NULL at first. */
json_t *flame_graph_add(json_t *root, json_t *stacks, enum flame_graph_type type);
/* After the links to taskmanagers were closed. */
void flame_graphs_finish(struct flame_graphs *graphs);

#endif
