/* What was in flight to a task at the cut of an unaligned checkpoint: from its gate into its snapshot, and from a restored one back into
 * its gate. Sections belong to the head of the chain; what its operators held is theirs (chain_held.c). Thread: task. */
#include "taskmanager/task/task_private.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "taskmanager/task/in_flight_restore.h"

static const struct job_operator *task_head(const struct task *task)
{
    const struct job_graph *graph = task->options.graph;
    return &graph->operators[graph->vertices[task->options.vertex].operators[0]];
}

/* ---- saving ---- */

/* The items of one edge, with the producer subtask as origin. */
static struct in_flight *items_of_edge(const struct task *task, struct in_flight *in_flight, uint32_t edge)
{
    struct in_flight *found = in_flight_create();
    for (size_t i = 0; i < in_flight->items.count; i++) {
        struct in_flight_item *item = &in_flight->items.items[i];
        const struct channel_key *key = input_gate_channel_key(task->gate, item->origin);
        if (key->edge == edge)
            in_flight_add(found, key->producer, element_ref(item->element));
    }
    return found;
}

void task_save_in_flight(struct task *task, struct in_flight *in_flight, struct snapshot *snapshot, struct chain_cut *cut)
{
    if (in_flight == NULL)
        return;
    const struct job_operator *head = task_head(task);
    snapshot_begin_operator(snapshot, head->id);
    for (uint32_t edge = 0; edge < head->input_count; edge++) {
        struct in_flight *items = items_of_edge(task, in_flight, edge);
        cut->rows_in_flight[head->inputs[edge].input] += items->row_count;
        if (items->items.count > 0)
            in_flight_save(snapshot, task->options.graph, head, edge, IN_FLIGHT_EDGE, edge, task->options.subtask_index, items);
        else
            in_flight_destroy(items);
    }
    in_flight_destroy(in_flight);
}

/* ---- restoring ---- */

struct gate_restore {
    struct task *task;
    struct in_flight *replay;
    bool *is_idle; /* by gate channel */
};

/* The channel from that producer; any of the edge when there is none: rows may come through each of them. */
static uint32_t find_channel(const struct input_gate *gate, uint32_t edge, uint32_t producer)
{
    uint32_t any = UINT32_MAX;
    for (uint32_t i = 0; i < input_gate_channel_count(gate); i++) {
        const struct channel_key *key = input_gate_channel_key(gate, i);
        if (key->edge == edge && (any == UINT32_MAX || key->producer == producer))
            any = i;
    }
    return any;
}

static void on_element(void *arg, uint32_t edge, uint32_t number, uint32_t origin, bool is_exact, struct element element)
{
    struct gate_restore *restore = arg;
    uint32_t channel = find_channel(restore->task->gate, edge, is_exact ? origin : UINT32_MAX);
    (void)number;
    check(channel != UINT32_MAX);
    if (element.type == ELEMENT_IDLE)
        restore->is_idle[channel] = element.as.is_idle;
    in_flight_add(restore->replay, channel, element);
}

/* Idleness ends with what was in flight: the new producers start as active ones and say so no more. */
struct error *task_restore_in_flight(struct task *task)
{
    const struct job_operator *head = task_head(task);
    const json_t *handles = json_object_get(task->options.restore_handles, id_format(head->id).hex);
    if (task->gate == NULL || task->options.restore_directory == NULL || !restored_state_has_in_flight(handles))
        return NULL;
    uint32_t channel_count = input_gate_channel_count(task->gate);
    struct gate_restore restore = {
        .task = task, .replay = in_flight_create(), .is_idle = heap_alloc_array(channel_count, sizeof(bool))};
    struct error *err = in_flight_restore(
        &(struct in_flight_reader){.graph = task->options.graph, .target = head, .subtask = task->options.subtask_index,
                                   .place = IN_FLIGHT_EDGE, .on_element = on_element, .arg = &restore},
        task->options.restore_directory, handles);
    for (uint32_t i = 0; i < channel_count && err == NULL; i++)
        if (restore.is_idle[i])
            in_flight_add(restore.replay, i, (struct element){.type = ELEMENT_IDLE});
    free(restore.is_idle);
    if (err != NULL)
        in_flight_destroy(restore.replay);
    else
        input_gate_replay(task->gate, restore.replay);
    return err;
}
