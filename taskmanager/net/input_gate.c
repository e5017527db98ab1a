/* Fair polling and barrier alignment. Thread: the consuming task. */
#include "taskmanager/net/input_gate.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"

#include <string.h>

struct gate_channel {
    struct channel *channel;
    uint32_t edge;
    bool is_blocked;      /* brought the pending barrier; exactly-once only */
    bool has_barrier;     /* brought the pending barrier */
    bool is_end_checked;  /* its end is queued, but the pending barrier is too */
    struct in_flight *overtaken; /* by the pending barrier; NULL: nothing */
    bool is_data_ended;
    bool is_ended;
};

struct input_gate {
    bool is_exactly_once;
    uint32_t next; /* round robin */
    uint32_t data_ended_count;
    uint32_t ended_count;
    /* the pending alignment; id 0: none */
    struct barrier pending;
    uint32_t barrier_count;
    int64_t pending_since_ns;
    uint64_t pending_bytes;
    uint64_t done_id; /* barriers up to this id are ignored: taken or aborted */
    bool has_aborted;  /* to be delivered */
    struct barrier aborted;
    struct in_flight *replay; /* of a restored checkpoint; NULL: nothing is left */
    size_t replay_next;
    uint32_t channel_count;
    struct gate_channel channels[];
};

struct input_gate *input_gate_create(const struct gate_channel_options *channels, uint32_t channel_count, bool is_exactly_once,
                                     struct channel_waker waker)
{
    struct input_gate *gate = heap_alloc(sizeof *gate + channel_count * sizeof(struct gate_channel));
    gate->is_exactly_once = is_exactly_once;
    gate->channel_count = channel_count;
    for (uint32_t i = 0; i < channel_count; i++) {
        gate->channels[i] = (struct gate_channel){.channel = channels[i].channel, .edge = channels[i].edge};
        channel_set_consumer(channels[i].channel, waker);
    }
    return gate;
}

void input_gate_release(struct input_gate *gate)
{
    for (uint32_t i = 0; i < gate->channel_count; i++) {
        channel_set_consumer(gate->channels[i].channel, (struct channel_waker){0});
        channel_release(gate->channels[i].channel);
    }
}

/* What was delivered is not the gate's any more. */
static void gate_drop_replay(struct input_gate *gate)
{
    if (gate->replay == NULL)
        return;
    for (size_t i = gate->replay_next; i < gate->replay->items.count; i++)
        element_finish(&gate->replay->items.items[i].element);
    vec_clear(&gate->replay->items);
    in_flight_destroy(gate->replay);
    gate->replay = NULL;
}

void input_gate_destroy(struct input_gate *gate)
{
    if (gate == NULL)
        return;
    input_gate_release(gate);
    for (uint32_t i = 0; i < gate->channel_count; i++) {
        in_flight_destroy(gate->channels[i].overtaken);
        channel_unref(gate->channels[i].channel);
    }
    gate_drop_replay(gate);
    barrier_finish(&gate->pending);
    barrier_finish(&gate->aborted);
    free(gate);
}

static void gate_end_alignment(struct input_gate *gate)
{
    gate->done_id = gate->pending.checkpoint_id;
    barrier_finish(&gate->pending);
    gate->pending.checkpoint_id = 0;
    gate->pending.is_unaligned = false;
    gate->barrier_count = 0;
    for (uint32_t i = 0; i < gate->channel_count; i++) {
        struct gate_channel *channel = &gate->channels[i];
        channel->is_blocked = channel->has_barrier = channel->is_end_checked = false;
        in_flight_destroy(channel->overtaken);
        channel->overtaken = NULL;
    }
}

static void gate_report_aborted(struct input_gate *gate, struct barrier barrier)
{
    gate->has_aborted = true;
    barrier_finish(&gate->aborted);
    gate->aborted = barrier_ref(barrier);
}

/* No barrier will come from a producer that has finished: what it left in the queue is in flight. */
static bool gate_pass_ended(struct input_gate *gate, struct gate_channel *channel)
{
    if (!gate->pending.is_unaligned || channel->is_end_checked || !atomic_load(&channel->channel->has_end))
        return false;
    channel->is_end_checked = true;
    if (!channel_capture_ended(channel->channel, gate->pending.checkpoint_id, &channel->overtaken))
        return false;
    channel->has_barrier = channel->is_blocked = true;
    gate->barrier_count++;
    return true;
}

/* Everything that the barriers overtook, and what is left to be played: in the order in which it would have come. */
static struct in_flight *gate_in_flight(struct input_gate *gate)
{
    struct in_flight *all = NULL;
    for (size_t i = gate->replay_next; gate->replay != NULL && i < gate->replay->items.count; i++) {
        if (all == NULL)
            all = in_flight_create();
        in_flight_add(all, gate->replay->items.items[i].origin, element_ref(gate->replay->items.items[i].element));
    }
    for (uint32_t i = 0; i < gate->channel_count; i++) {
        if (gate->channels[i].overtaken == NULL)
            continue;
        if (all == NULL)
            all = in_flight_create();
        in_flight_take(all, i, gate->channels[i].overtaken);
        gate->channels[i].overtaken = NULL;
    }
    return all;
}

/* True when the pending barrier is complete; out then has it. */
static bool gate_try_complete(struct input_gate *gate, struct gate_event *out)
{
    if (gate->pending.checkpoint_id == 0)
        return false;
    if (!gate->pending.is_unaligned && gate->barrier_count + gate->ended_count < gate->channel_count)
        return false;
    for (uint32_t i = 0; i < gate->channel_count; i++) {
        struct gate_channel *channel = &gate->channels[i];
        if (!channel->has_barrier && !channel->is_ended && !gate_pass_ended(gate, channel))
            return false;
    }
    out->type = GATE_BARRIER;
    out->barrier = barrier_ref(gate->pending);
    out->alignment_ns = clock_mono_ns() - gate->pending_since_ns;
    out->alignment_bytes = gate->pending_bytes;
    if (gate->pending.is_unaligned)
        out->in_flight = gate_in_flight(gate);
    gate_end_alignment(gate);
    return true;
}

/* False: the barrier is of a checkpoint that is over. */
static bool gate_begin(struct input_gate *gate, struct barrier barrier)
{
    if (barrier.checkpoint_id <= gate->done_id || barrier.checkpoint_id < gate->pending.checkpoint_id)
        return false;
    if (gate->pending.checkpoint_id != 0 && barrier.checkpoint_id > gate->pending.checkpoint_id) {
        gate_report_aborted(gate, gate->pending);
        gate_end_alignment(gate);
    }
    if (gate->pending.checkpoint_id == 0) {
        gate->pending = barrier_ref(barrier);
        gate->pending_since_ns = clock_mono_ns();
        gate->pending_bytes = 0;
    }
    gate->pending.is_unaligned = gate->pending.is_unaligned || barrier.is_unaligned;
    return true;
}

static void gate_take_barrier(struct input_gate *gate, struct gate_channel *channel, struct element *element)
{
    if (!gate_begin(gate, element->as.barrier))
        return;
    if (!channel->has_barrier)
        gate->barrier_count++;
    channel->has_barrier = true;
    channel->is_blocked = gate->is_exactly_once;
    in_flight_destroy(channel->overtaken);
    channel->overtaken = element->overtaken;
    element->overtaken = NULL;
}

void input_gate_start(struct input_gate *gate, struct barrier barrier)
{
    check(barrier.is_unaligned);
    bool is_new = gate_begin(gate, barrier);
    (void)is_new;
    barrier_finish(&barrier);
}

static void gate_take_cancel_barrier(struct input_gate *gate, struct barrier barrier)
{
    if (barrier.checkpoint_id <= gate->done_id || barrier.checkpoint_id < gate->pending.checkpoint_id)
        return;
    if (gate->pending.checkpoint_id != 0)
        gate_end_alignment(gate);
    gate->done_id = barrier.checkpoint_id;
    gate_report_aborted(gate, barrier);
}

void input_gate_abort(struct input_gate *gate, uint64_t checkpoint_id)
{
    if (gate->pending.checkpoint_id != 0 && gate->pending.checkpoint_id <= checkpoint_id)
        gate_end_alignment(gate);
    if (checkpoint_id > gate->done_id)
        gate->done_id = checkpoint_id;
}

static void gate_take_data_end(struct input_gate *gate, struct gate_channel *channel, struct gate_event *out)
{
    if (channel->is_data_ended)
        return;
    channel->is_data_ended = true;
    gate->data_ended_count++;
    out->type = GATE_CHANNEL_DATA_ENDED;
}

static void gate_take_end(struct input_gate *gate, struct gate_channel *channel, struct gate_event *out)
{
    channel->is_ended = true;
    gate->ended_count++;
    out->type = GATE_CHANNEL_ENDED;
}

static void gate_take(struct input_gate *gate, uint32_t index, struct element *element, struct gate_event *out)
{
    struct gate_channel *channel = &gate->channels[index];
    out->channel = index;
    out->edge = channel->edge;
    switch (element->type) {
    case ELEMENT_BATCH:
        out->type = GATE_BATCH;
        out->batch = element->as.rows.batch;
        out->batch_bytes = element->as.rows.bytes;
        out->is_remote = channel->channel->is_from_remote;
        gate->pending_bytes += element->as.rows.bytes;
        break;
    case ELEMENT_WATERMARK:
        out->type = GATE_WATERMARK;
        out->watermark = element->as.watermark;
        break;
    case ELEMENT_IDLE:
        out->type = GATE_IDLE;
        out->is_idle = element->as.is_idle;
        break;
    case ELEMENT_BARRIER:
        gate_take_barrier(gate, channel, element);
        element_finish(element);
        break;
    case ELEMENT_CANCEL_BARRIER:
        gate_take_cancel_barrier(gate, element->as.barrier);
        element_finish(element);
        break;
    case ELEMENT_END_OF_DATA:
        gate_take_data_end(gate, channel, out);
        break;
    case ELEMENT_END_OF_PARTITION:
        gate_take_end(gate, channel, out);
        break;
    case ELEMENT_TYPE_COUNT:
        check(false && "no such element");
    }
}

/* ---- polling ---- */

void input_gate_replay(struct input_gate *gate, struct in_flight *in_flight)
{
    check(gate->replay == NULL);
    gate->replay = in_flight;
    gate->replay_next = 0;
    if (in_flight->items.count == 0)
        gate_drop_replay(gate);
}

static void gate_play(struct input_gate *gate, struct gate_event *out)
{
    struct in_flight_item *item = &gate->replay->items.items[gate->replay_next++];
    gate_take(gate, item->origin, &item->element, out);
    if (gate->replay_next == gate->replay->items.count)
        gate_drop_replay(gate);
}

static void gate_promote(struct input_gate *gate)
{
    int64_t now_ms = 0;
    for (uint32_t i = 0; i < gate->channel_count; i++) {
        struct channel *channel = gate->channels[i].channel;
        if (atomic_load(&channel->due_ms) == INT64_MAX)
            continue;
        if (now_ms == 0)
            now_ms = clock_now_ms();
        channel_promote(channel, now_ms);
    }
}

static void gate_deliver_aborted(struct input_gate *gate, struct gate_event *out)
{
    if (!gate->has_aborted || out->type != GATE_NOTHING)
        return;
    out->type = GATE_BARRIER_ABORTED;
    out->barrier = gate->aborted;
    gate->aborted.location = NULL;
    gate->has_aborted = false;
}

struct error *input_gate_next_urgent(struct input_gate *gate, struct gate_event *out)
{
    memset(out, 0, sizeof *out);
    gate_promote(gate);
    for (uint32_t i = 0; i < gate->channel_count && !gate->has_aborted; i++) {
        struct gate_channel *channel = &gate->channels[i];
        struct element element;
        bool found;
        while (!channel->is_blocked && !channel->is_ended && atomic_load(&channel->channel->urgent) > 0) {
            TRY(channel_pop(channel->channel, &element, &found));
            check(found && element.type == ELEMENT_BARRIER);
            gate_take(gate, i, &element, out);
        }
    }
    if (!gate->has_aborted)
        gate_try_complete(gate, out);
    gate_deliver_aborted(gate, out);
    return NULL;
}

int64_t input_gate_urgent_ms(const struct input_gate *gate)
{
    int64_t due_ms = gate->has_aborted ? 0 : INT64_MAX;
    for (uint32_t i = 0; i < gate->channel_count && due_ms > 0; i++) {
        const struct gate_channel *channel = &gate->channels[i];
        if (channel->is_blocked || channel->is_ended)
            continue;
        int64_t channel_due_ms = atomic_load(&channel->channel->due_ms);
        due_ms = channel_due_ms < due_ms ? channel_due_ms : due_ms;
        bool is_passed = gate->pending.is_unaligned && !channel->is_end_checked && atomic_load(&channel->channel->has_end);
        if (is_passed || atomic_load(&channel->channel->urgent) > 0)
            return 0;
    }
    return due_ms;
}

/* Goes on until there is something to say: a barrier of an alignment that goes on, for one, says nothing. An abort is
 * delivered before the barrier that superseded it can complete. */
struct error *input_gate_next(struct input_gate *gate, struct gate_event *out)
{
    uint32_t empty = 0;
    memset(out, 0, sizeof *out);
    gate_promote(gate);
    while (out->type == GATE_NOTHING && !gate->has_aborted) {
        if (gate_try_complete(gate, out))
            break;
        if (gate->replay != NULL) {
            gate_play(gate, out);
            break;
        }
        if (empty == gate->channel_count)
            return NULL;
        uint32_t index = gate->next;
        struct gate_channel *channel = &gate->channels[index];
        gate->next = index + 1 == gate->channel_count ? 0 : index + 1;
        empty++;
        if (channel->is_blocked || channel->is_ended || channel_is_empty(channel->channel))
            continue;
        struct element element;
        bool found;
        TRY(channel_pop(channel->channel, &element, &found));
        if (!found)
            continue;
        empty = 0;
        gate_take(gate, index, &element, out);
    }
    gate_deliver_aborted(gate, out);
    return NULL;
}

bool input_gate_is_ready(const struct input_gate *gate)
{
    if (gate->has_aborted || gate->replay != NULL)
        return true;
    for (uint32_t i = 0; i < gate->channel_count; i++) {
        const struct gate_channel *channel = &gate->channels[i];
        if (!channel->is_blocked && !channel->is_ended && !channel_is_empty(channel->channel))
            return true;
    }
    return false;
}

bool input_gate_is_data_ended(const struct input_gate *gate)
{
    for (uint32_t i = 0; i < gate->channel_count; i++)
        if (!gate->channels[i].is_data_ended && !gate->channels[i].is_ended)
            return false;
    return true;
}

bool input_gate_is_ended(const struct input_gate *gate)
{
    return gate->ended_count == gate->channel_count;
}

uint32_t input_gate_channel_count(const struct input_gate *gate)
{
    return gate->channel_count;
}

const struct channel_key *input_gate_channel_key(const struct input_gate *gate, uint32_t channel)
{
    return &gate->channels[channel].channel->key;
}

double input_gate_remote_usage(const struct input_gate *gate)
{
    double sum = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < gate->channel_count; i++) {
        if (!gate->channels[i].channel->is_from_remote)
            continue;
        sum += channel_usage(gate->channels[i].channel);
        count++;
    }
    return count == 0 ? 0 : sum / count;
}

void input_gate_fill_add(const struct input_gate *gate, bool remote_only, struct channel_fill *fill)
{
    for (uint32_t i = 0; i < gate->channel_count; i++)
        if (!remote_only || gate->channels[i].channel->is_from_remote)
            channel_fill_add(fill, gate->channels[i].channel);
}

double input_gate_usage(const struct input_gate *gate)
{
    double sum = 0;
    for (uint32_t i = 0; i < gate->channel_count; i++)
        sum += channel_usage(gate->channels[i].channel);
    return gate->channel_count == 0 ? 0 : sum / gate->channel_count;
}
