/* How rows, watermarks and idleness pass through a chain, operator by operator, and the op_… calls that operators make (op.h).
 * Thread: the task thread. Owner: the task. */
#include "taskmanager/task/operator_chain_private.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "taskmanager/task/task_clock.h"

#include <stdlib.h>
#include <string.h>

/* ---- rows ---- */

void chain_begin_slice(struct operator_chain *chain)
{
    chain->slice_end_ns = chain->options.slice_ns > 0 ? clock_mono_ns() + chain->options.slice_ns : INT64_MAX;
}

/* Rows for an operator that does not watch the clock itself: at most as many as fit into a slice, when rows were slow before. */
static struct error *node_run_measured(struct chain_node *node, uint32_t input, struct batch *batch)
{
    int64_t slice_ns = node->chain->options.slice_ns;
    uint32_t count = batch->row_count;
    if (node->chain->slice_end_ns != INT64_MAX && node->row_ns > 0 && node->row_ns * count > 2 * slice_ns) {
        int64_t fit = slice_ns / node->row_ns;
        count = fit < 1 ? 1 : fit < count ? (uint32_t)fit : count;
    }
    struct batch *part = batch;
    if (count < batch->row_count) {
        struct batch *rest = batch_slice(batch, count, batch->row_count - count);
        node_hold_rows(node, input, rest, true);
        batch_unref(rest);
        part = batch_slice(batch, 0, count);
    }
    node->books.rows_in[input] += count;
    int64_t start_ns = clock_mono_ns();
    uint32_t place = node_enter(node);
    struct error *err = node->op->vtable->process(node->op, input, part);
    node_leave(node, place);
    node->row_ns = (clock_mono_ns() - start_ns) / (int64_t)(count > 0 ? count : 1);
    if (part != batch)
        batch_unref(part);
    return err;
}

struct error *node_run_rows(struct chain_node *node, uint32_t input, struct batch *batch)
{
    if (!node->op->vtable->hands_back && node->chain->options.slice_ns > 0)
        return node_run_measured(node, input, batch);
    node->books.rows_in[input] += batch->row_count;
    uint32_t place = node_enter(node);
    struct error *err = node->op->vtable->process(node->op, input, batch);
    node_leave(node, place);
    return err;
}

struct error *node_process(struct chain_node *node, uint32_t input, struct batch *batch)
{
    if (node->held.count >= HELD_COUNT_MAX && !node->chain->is_snapshotting)
        TRY(node_work_off(node));
    if (node->held.count > 0) {
        node_hold_rows(node, input, batch, false);
        return NULL;
    }
    return node_run_rows(node, input, batch);
}

static struct error *link_emit(struct op_monitor *monitor, const struct chain_link *link, struct batch *batch)
{
    if (link->target != NULL)
        return node_process(link->target, link->target_input, batch);
    uint32_t place = op_monitor_switch(monitor, OP_PLACE_SHUFFLE);
    struct error *err = link->output->emit(link->output, batch_ref(batch));
    op_monitor_switch(monitor, place);
    return err;
}

static struct error *links_emit(struct op_monitor *monitor, const struct link_list *list, struct batch *batch)
{
    struct error *err = NULL;
    for (size_t i = 0; i < list->links.count && err == NULL; i++)
        err = link_emit(monitor, &list->links.items[i], batch);
    batch_unref(batch);
    return err;
}

static struct chain_node *op_node(const struct op *op)
{
    return op->ctx->chain_link;
}

void op_hand_back(struct op *op, uint32_t input, const struct batch *batch, uint32_t first_row)
{
    struct chain_node *node = op_node(op);
    check(first_row <= batch->row_count);
    uint32_t count = batch->row_count - first_row;
    if (count == 0)
        return;
    check(first_row > 0);
    node->books.rows_in[input] -= count;
    struct batch *rest = batch_slice(batch, first_row, count);
    node_hold_rows(node, input, rest, true);
    batch_unref(rest);
}

struct error *op_emit(struct op *op, struct batch *batch)
{
    struct chain_node *node = op_node(op);
    if (batch == NULL || batch->row_count == 0) {
        batch_unref(batch);
        return NULL;
    }
    node->books.rows_out += batch->row_count;
    return links_emit(node->ctx.monitor, &node->main, batch);
}

struct error *op_emit_side(struct op *op, uint32_t index, struct batch *batch)
{
    struct chain_node *node = op_node(op);
    check(index < node->books.side_count);
    if (batch == NULL || batch->row_count == 0) {
        batch_unref(batch);
        return NULL;
    }
    node->books.side_rows_out[index] += batch->row_count;
    return links_emit(node->ctx.monitor, &node->sides[index], batch);
}

/* ---- time ---- */

static struct error *links_watermark(const struct link_list *list, int64_t time)
{
    for (size_t i = 0; i < list->links.count; i++) {
        const struct chain_link *link = &list->links.items[i];
        if (link->target != NULL)
            TRY(node_input_watermark(link->target, link->target_input, time));
        else
            TRY(link->output->emit_watermark(link->output, time));
    }
    return NULL;
}

static struct error *links_idle(const struct link_list *list, bool is_idle)
{
    for (size_t i = 0; i < list->links.count; i++) {
        const struct chain_link *link = &list->links.items[i];
        if (link->target != NULL)
            TRY(node_input_idle(link->target, link->target_input, is_idle));
        else
            TRY(link->output->emit_idle(link->output, is_idle));
    }
    return NULL;
}

struct error *node_emit_watermark(struct chain_node *node, int64_t time)
{
    if (time <= node->watermark_out)
        return NULL;
    node->watermark_out = time;
    node->watermark_out_ms = clock_now_ms();
    TRY(links_watermark(&node->main, time));
    for (uint32_t i = 0; i < node->books.side_count; i++)
        TRY(links_watermark(&node->sides[i], time));
    return NULL;
}

struct error *node_emit_idle(struct chain_node *node, bool is_idle)
{
    if (is_idle == node->is_idle_out)
        return NULL;
    node->is_idle_out = is_idle;
    TRY(links_idle(&node->main, is_idle));
    for (uint32_t i = 0; i < node->books.side_count; i++)
        TRY(links_idle(&node->sides[i], is_idle));
    return NULL;
}

/* The operator sees the watermark first: what it emits because of it goes before it. */
static struct error *node_advance(struct chain_node *node, int64_t time)
{
    if (time <= node->watermark)
        return NULL;
    node->watermark = time;
    int64_t forward = time;
    if (node->op->vtable->watermark != NULL) {
        uint32_t place = node_enter(node);
        struct error *err = node->op->vtable->watermark(node->op, time, &forward);
        node_leave(node, place);
        TRY(err);
    }
    return node_emit_watermark(node, forward);
}

/* Minimum over the inputs that are not idle; TIME_MIN as long as an active one has none. All idle: the combined watermark
 * stays where it is. */
static struct error *node_combine(struct chain_node *node)
{
    int64_t lowest = TIME_MAX;
    bool is_idle = true;
    for (uint32_t i = 0; i < node->input_count; i++) {
        if (node->is_input_idle[i])
            continue;
        is_idle = false;
        if (node->input_watermark[i] < lowest)
            lowest = node->input_watermark[i];
    }
    if (!is_idle && node->is_idle) {
        node->is_idle = false;
        if (!node->op->vtable->generates_watermarks)
            TRY(node_emit_idle(node, false));
    }
    if (!is_idle)
        TRY(node_advance(node, lowest));
    if (is_idle && !node->is_idle) {
        node->is_idle = true;
        if (!node->op->vtable->generates_watermarks)
            TRY(node_emit_idle(node, true));
    }
    return NULL;
}

struct error *node_run_watermark(struct chain_node *node, uint32_t input, int64_t time)
{
    if (time <= node->input_watermark[input])
        return NULL;
    node->input_watermark[input] = time;
    if (node->input_count == 1) /* an idle input's watermark counts too when there is no other input to hold it against */
        return node_advance(node, time);
    return node_combine(node);
}

struct error *node_run_idle(struct chain_node *node, uint32_t input, bool is_idle)
{
    if (node->is_input_idle[input] == is_idle)
        return NULL;
    node->is_input_idle[input] = is_idle;
    return node_combine(node);
}

struct error *node_input_watermark(struct chain_node *node, uint32_t input, int64_t time)
{
    if (node->held.count == 0)
        return node_run_watermark(node, input, time);
    node_hold_event(node, input, (struct element){.type = ELEMENT_WATERMARK, .as.watermark = time});
    return NULL;
}

struct error *node_input_idle(struct chain_node *node, uint32_t input, bool is_idle)
{
    if (node->held.count == 0)
        return node_run_idle(node, input, is_idle);
    node_hold_event(node, input, (struct element){.type = ELEMENT_IDLE, .as.is_idle = is_idle});
    return NULL;
}

struct error *op_emit_watermark(struct op *op, int64_t time)
{
    return node_emit_watermark(op_node(op), time);
}

struct error *op_emit_idle(struct op *op, bool is_idle)
{
    return node_emit_idle(op_node(op), is_idle);
}

int64_t op_current_watermark(const struct op *op)
{
    const struct chain_node *node = op_node(op);
    return node->input_count == 0 ? node->watermark_out : node->watermark;
}

void op_wake_at(struct op *op, int64_t time_ms)
{
    struct chain_node *node = op_node(op);
    if (time_ms < node->wake_at_ms)
        node->wake_at_ms = time_ms;
}

int64_t chain_blocked_ns(const struct operator_chain *chain)
{
    struct task_clock *clock = chain->options.clock;
    return clock != NULL ? task_clock_blocked_ns(clock) : 0;
}

int64_t op_blocked_ns_total(const struct op *op)
{
    const struct operator_chain *chain = op_node(op)->chain;
    return chain_blocked_ns(chain) + chain->resumed_ns;
}

void op_count_timers(struct op *op, uint64_t count)
{
    op_node(op)->fired_timers += count;
}

void op_metric_set(struct op *op, const char *name, double value)
{
    struct chain_node *node = op_node(op);
    for (size_t i = 0; i < node->metrics.count; i++) {
        if (node->metrics.items[i].name == name || strcmp(node->metrics.items[i].name, name) == 0) {
            node->metrics.items[i].value = value;
            return;
        }
    }
    vec_push(&node->metrics, ((struct chain_metric){name, value}));
}
