/* The consumer's end of all input edges of a task: polls its channels fairly and aligns checkpoint barriers.
 *
 * Alignment (Chandy-Lamport with blocked channels, as Flink's aligned checkpoints): the first barrier of a checkpoint
 * blocks its channel; when every channel that has not ended brought it, the gate delivers the barrier once and
 * unblocks all. In at-least-once mode channels are not blocked. A newer barrier, a cancel barrier or
 * input_gate_abort ends an alignment; the gate then delivers GATE_BARRIER_ABORTED.
 * The cut is exact: what the gate delivered before the barrier is what every channel carried before its own.
 *
 * Unaligned checkpoints: a barrier that is_unaligned is at the front of its queue with references to what it overtook (channel.h), so the
 * gate waits only for the other channels' barriers, never for rows. The cut then is: delivered before the barrier, or in its in_flight.
 * A barrier that waits its turn becomes unaligned when its time has come; so does the alignment that it belongs to.
 *
 * After a restore from such a checkpoint the gate first plays what was in flight, then takes from its channels.
 *
 * Task thread only. The channels' wakers are the task's. */
#ifndef MILLRACE_NET_INPUT_GATE_H
#define MILLRACE_NET_INPUT_GATE_H

#include "taskmanager/net/channel.h"
#include "taskmanager/net/in_flight.h"

struct input_gate;

enum gate_event_type {
    GATE_NOTHING,         /* wait for the waker */
    GATE_BATCH,           /* batch, edge */
    GATE_WATERMARK,       /* watermark, channel */
    GATE_IDLE,            /* is_idle, channel */
    GATE_BARRIER,         /* barrier, alignment */
    GATE_BARRIER_ABORTED, /* barrier.checkpoint_id will not be taken here */
    GATE_CHANNEL_DATA_ENDED,
    GATE_CHANNEL_ENDED,
};

struct gate_event {
    enum gate_event_type type;
    uint32_t channel; /* index in the gate */
    uint32_t edge;    /* the vertex's input: job_graph_vertex_inputs */
    struct batch *batch; /* owned by the caller */
    size_t batch_bytes;
    bool is_remote;      /* the batch came from another process */
    int64_t watermark;
    bool is_idle;
    struct barrier barrier; /* owned by the caller */
    int64_t alignment_ns;    /* first to last barrier */
    uint64_t alignment_bytes; /* processed in that time */
    struct in_flight *in_flight; /* BARRIER: owned by the caller; origin: gate channel; NULL: nothing */
};

struct gate_channel_options {
    struct channel *channel; /* a reference is taken over */
    uint32_t edge;
};

struct input_gate *input_gate_create(const struct gate_channel_options *channels, uint32_t channel_count, bool is_exactly_once,
                                     struct channel_waker waker);
/* Nothing will be taken any more: producers are not held up by the channels of this gate. */
void input_gate_release(struct input_gate *gate);
/* Accepts NULL. */
void input_gate_destroy(struct input_gate *gate);

/* The next thing. errors: what the producer or the connection of a channel failed with. */
MUST_CHECK struct error *input_gate_next(struct input_gate *gate, struct gate_event *out);
/* The same for what must not wait behind rows: barriers that overtake, and their completion. Never gives rows. */
MUST_CHECK struct error *input_gate_next_urgent(struct input_gate *gate, struct gate_event *out);
/* Wall clock: when next_urgent has something to do; 0: now, INT64_MAX: nothing is in sight. */
int64_t input_gate_urgent_ms(const struct input_gate *gate);
/* Takes barrier, which is unaligned and was sent to this task by message, because no producer of it lives any more. */
void input_gate_start(struct input_gate *gate, struct barrier barrier);
/* Takes in_flight (origin: gate channel): comes before anything from the channels. Once, before the first next. */
void input_gate_replay(struct input_gate *gate, struct in_flight *in_flight);
/* Ends an alignment and makes later barriers up to this id be ignored. */
void input_gate_abort(struct input_gate *gate, uint64_t checkpoint_id);
/* True when a channel that is not blocked has something. */
bool input_gate_is_ready(const struct input_gate *gate);
/* All channels brought END_OF_DATA, or END_OF_PARTITION. */
bool input_gate_is_data_ended(const struct input_gate *gate);
bool input_gate_is_ended(const struct input_gate *gate);
/* Who is at the ends of a channel. */
uint32_t input_gate_channel_count(const struct input_gate *gate);
const struct channel_key *input_gate_channel_key(const struct input_gate *gate, uint32_t channel);
/* The mean of the channels' usage. Any thread. */
double input_gate_usage(const struct input_gate *gate);
/* The same of channels from other processes; 0 when there are none. Any thread. */
double input_gate_remote_usage(const struct input_gate *gate);
/* Adds what waits in the channels; remote_only: in those from other processes. Any thread. */
void input_gate_fill_add(const struct input_gate *gate, bool remote_only, struct channel_fill *fill);

#endif
