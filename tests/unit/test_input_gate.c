/* The input gate and the watermark valve, against plain reference models over random interleavings. The round is printed when
 * a property fails and is all that its data depend on. */
#include "common/base/heap.h"
#include "common/columnar/batch_builder.h"
#include "taskmanager/net/input_gate.h"
#include "taskmanager/time/watermark_valve.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANNELS_MAX 6
#define ROUNDS 400

static uint64_t random_state;

static uint32_t random_below(uint32_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % bound;
}

static void random_seed(uint64_t seed)
{
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
}

static struct schema *schema;

static struct batch *batch_of(int64_t value)
{
    struct batch_builder *builder = batch_builder_create(schema, 1, false);
    uint32_t row = batch_builder_add_row(builder);
    batch_builder_int64s(builder, 0)[row] = value;
    batch_builder_set_valid(builder, 0, row);
    struct batch *batch = batch_builder_finish(builder);
    batch_builder_destroy(builder);
    return batch;
}

static void setup(void)
{
    struct field field = {.name = (char *)(uintptr_t) "n", .type = TYPE_INT64};
    schema = schema_create(&field, 1);
}

static void teardown(void)
{
    schema_unref(schema);
}

static struct element row_element(int64_t value)
{
    return (struct element){.type = ELEMENT_BATCH, .as.rows = {.batch = batch_of(value), .bytes = 8}};
}

static struct element barrier_element(uint64_t id)
{
    return (struct element){.type = ELEMENT_BARRIER, .as.barrier = {.checkpoint_id = id, .location = checkpoint_location_create("/x")}};
}

struct gate_fixture {
    struct input_gate *gate;
    struct channel *channels[CHANNELS_MAX];
    uint32_t count;
};

static void open_gate(struct gate_fixture *fixture, uint32_t count, bool is_exactly_once)
{
    struct gate_channel_options options[CHANNELS_MAX];
    fixture->count = count;
    for (uint32_t i = 0; i < count; i++) {
        fixture->channels[i] = channel_create((struct channel_key){.producer = i}, 8, 1 << 20);
        options[i] = (struct gate_channel_options){.channel = channel_ref(fixture->channels[i])};
    }
    fixture->gate = input_gate_create(options, count, is_exactly_once, (struct channel_waker){0});
}

static void close_gate(struct gate_fixture *fixture)
{
    input_gate_destroy(fixture->gate);
    for (uint32_t i = 0; i < fixture->count; i++)
        channel_unref(fixture->channels[i]);
}

static enum gate_event_type next(struct gate_fixture *fixture, struct gate_event *event)
{
    struct error *err = input_gate_next(fixture->gate, event);
    ck_assert_ptr_null(err);
    return event->type;
}

/* Rows carry (channel, number within the channel, id of the barrier before them). A random producer pushes, a random consumer polls.
 * Exactly once: rows before barrier b of a channel come before b is delivered, rows after it after; nothing is lost, order holds. */
START_TEST(cut_is_exact)
{
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        random_seed(round + (uint64_t)_i * ROUNDS);
        struct gate_fixture fixture;
        open_gate(&fixture, 1 + random_below(CHANNELS_MAX), true);
        uint64_t barrier_count = 1 + random_below(4), delivered = 0;
        int64_t pushed[CHANNELS_MAX] = {0}, got[CHANNELS_MAX] = {0};
        uint64_t sent[CHANNELS_MAX] = {0};
        bool is_ended[CHANNELS_MAX] = {false};
        uint32_t ended = 0, seen_ended = 0;
        while (seen_ended < fixture.count) {
            uint32_t c = random_below(fixture.count);
            uint32_t action = random_below(8);
            if (action < 3 && !is_ended[c]) {
                channel_push(fixture.channels[c], row_element((int64_t)(((uint64_t)c << 40) | (sent[c] << 32) | (uint64_t)pushed[c]++)));
            } else if (action == 3 && !is_ended[c] && sent[c] < barrier_count) {
                channel_push(fixture.channels[c], barrier_element(++sent[c]));
            } else if (action == 4 && !is_ended[c] && (sent[c] == barrier_count || random_below(20) == 0)) {
                /* An early end: the channel counts as having all later barriers. */
                channel_push(fixture.channels[c], (struct element){.type = ELEMENT_END_OF_PARTITION});
                is_ended[c] = true;
                ended++;
            } else if (action >= 5) {
                struct gate_event event;
                enum gate_event_type type = next(&fixture, &event);
                if (type == GATE_BATCH) {
                    int64_t value = ((const int64_t *)event.batch->columns[0].values)[0];
                    uint64_t channel = (uint64_t)value >> 40, before = ((uint64_t)value >> 32) & 0xff;
                    ck_assert_uint_eq(channel, event.channel);
                    ck_assert_int_eq(value & 0xffffffff, got[channel]++);
                    ck_assert_msg(before == delivered, "round %llu: row after barrier %llu delivered with %llu done", (unsigned long long)round,
                                  (unsigned long long)before, (unsigned long long)delivered);
                    batch_unref(event.batch);
                } else if (type == GATE_BARRIER) {
                    ck_assert_uint_eq(event.barrier.checkpoint_id, ++delivered);
                    barrier_finish(&event.barrier);
                } else if (type == GATE_CHANNEL_ENDED) {
                    seen_ended++;
                }
                ck_assert_int_ne(type, GATE_BARRIER_ABORTED);
            }
        }
        ck_assert_uint_eq(ended, fixture.count);
        for (uint32_t c = 0; c < fixture.count; c++)
            ck_assert_int_eq(pushed[c], got[c]);
        ck_assert(input_gate_is_ended(fixture.gate));
        close_gate(&fixture);
    }
}
END_TEST

START_TEST(at_least_once_does_not_block)
{
    struct gate_fixture fixture;
    struct gate_event event;
    open_gate(&fixture, 2, false);
    channel_push(fixture.channels[0], barrier_element(1));
    channel_push(fixture.channels[0], row_element(7));
    ck_assert_int_eq(next(&fixture, &event), GATE_BATCH);
    batch_unref(event.batch);
    ck_assert_int_eq(next(&fixture, &event), GATE_NOTHING);
    channel_push(fixture.channels[1], barrier_element(1));
    ck_assert_int_eq(next(&fixture, &event), GATE_BARRIER);
    barrier_finish(&event.barrier);
    close_gate(&fixture);
}
END_TEST

START_TEST(newer_barrier_supersedes)
{
    struct gate_fixture fixture;
    struct gate_event event;
    open_gate(&fixture, 2, true);
    channel_push(fixture.channels[0], barrier_element(1));
    channel_push(fixture.channels[0], barrier_element(2));
    channel_push(fixture.channels[1], barrier_element(2)); /* its producer declined 1 */
    ck_assert_int_eq(next(&fixture, &event), GATE_BARRIER_ABORTED);
    ck_assert_uint_eq(event.barrier.checkpoint_id, 1);
    barrier_finish(&event.barrier);
    ck_assert_int_eq(next(&fixture, &event), GATE_BARRIER);
    ck_assert_uint_eq(event.barrier.checkpoint_id, 2);
    barrier_finish(&event.barrier);
    close_gate(&fixture);
}
END_TEST

START_TEST(cancelled_and_aborted_barriers_unblock)
{
    struct gate_fixture fixture;
    struct gate_event event;
    open_gate(&fixture, 2, true);
    channel_push(fixture.channels[0], barrier_element(1));
    channel_push(fixture.channels[0], row_element(7));
    ck_assert_int_eq(next(&fixture, &event), GATE_NOTHING);
    ck_assert(!input_gate_is_ready(fixture.gate));
    channel_push(fixture.channels[1], (struct element){.type = ELEMENT_CANCEL_BARRIER, .as.barrier = {.checkpoint_id = 1}});
    ck_assert_int_eq(next(&fixture, &event), GATE_BARRIER_ABORTED);
    barrier_finish(&event.barrier);
    ck_assert_int_eq(next(&fixture, &event), GATE_BATCH);
    batch_unref(event.batch);

    channel_push(fixture.channels[0], barrier_element(2));
    ck_assert_int_eq(next(&fixture, &event), GATE_NOTHING);
    input_gate_abort(fixture.gate, 2);
    channel_push(fixture.channels[0], row_element(8));
    ck_assert_int_eq(next(&fixture, &event), GATE_BATCH);
    batch_unref(event.batch);
    channel_push(fixture.channels[1], barrier_element(2)); /* late */
    ck_assert_int_eq(next(&fixture, &event), GATE_NOTHING);
    close_gate(&fixture);
}
END_TEST

START_TEST(broken_channel_tells_after_its_last_element)
{
    struct gate_fixture fixture;
    struct gate_event event;
    open_gate(&fixture, 2, true);
    channel_push(fixture.channels[1], row_element(7));
    channel_break(fixture.channels[1], error_new(TASK_LOST, "gone"));
    ck_assert_int_eq(next(&fixture, &event), GATE_BATCH);
    batch_unref(event.batch);
    struct error *err = input_gate_next(fixture.gate, &event);
    ck_assert_ptr_nonnull(err);
    ck_assert_int_eq(err->code, ERR_TASK_LOST);
    error_free(err);
    close_gate(&fixture);
}
END_TEST

/* No channel starves however full another is. */
START_TEST(polling_is_fair)
{
    struct gate_fixture fixture;
    struct gate_event event;
    uint32_t seen[3] = {0};
    open_gate(&fixture, 3, true);
    for (uint32_t c = 0; c < 3; c++)
        for (uint32_t i = 0; i < 100; i++)
            channel_push(fixture.channels[c], row_element(i));
    for (uint32_t i = 0; i < 30; i++) {
        ck_assert_int_eq(next(&fixture, &event), GATE_BATCH);
        batch_unref(event.batch);
        seen[event.channel]++;
    }
    for (uint32_t c = 0; c < 3; c++)
        ck_assert_uint_eq(seen[c], 10);
    close_gate(&fixture);
}
END_TEST

/* ---- unaligned checkpoints ---- */

/* How a checkpoint's barriers behave: at once, when a channel promotes them, or waiting their turn. */
enum barrier_mode { OVERTAKES, DUE, WAITS };

static struct element mode_barrier(uint64_t id, enum barrier_mode mode)
{
    struct element element = barrier_element(id);
    element.as.barrier.is_unaligned = mode == OVERTAKES;
    element.as.barrier.timestamp_ms = 1; /* long ago */
    element.as.barrier.unaligned_after_ms = mode == DUE ? 1 : 0;
    return element;
}

static int64_t row_value(const struct batch *batch)
{
    return ((const int64_t *)batch->columns[0].values)[0];
}

struct unaligned_model {
    int64_t pushed[CHANNELS_MAX]; /* rows; their values are 0, 1, 2, … in each channel */
    int64_t got[CHANNELS_MAX];
    int64_t cut[CHANNELS_MAX]; /* rows before the barrier, or before the end */
    bool has_barrier[CHANNELS_MAX];
    bool is_ended[CHANNELS_MAX];
};

/* Delivered before the barrier, or in flight: together exactly the rows before it, each once, in order. */
static void check_cut(struct unaligned_model *model, uint32_t count, const struct in_flight *in_flight, uint64_t round)
{
    int64_t next_row[CHANNELS_MAX];
    memcpy(next_row, model->got, sizeof next_row);
    for (size_t i = 0; in_flight != NULL && i < in_flight->items.count; i++) {
        const struct in_flight_item *item = &in_flight->items.items[i];
        ck_assert_uint_lt(item->origin, count);
        ck_assert_int_eq(item->element.type, ELEMENT_BATCH);
        ck_assert_msg(row_value(item->element.as.rows.batch) == next_row[item->origin], "round %llu: row %lld of channel %u instead of %lld",
                      (unsigned long long)round, (long long)row_value(item->element.as.rows.batch), item->origin,
                      (long long)next_row[item->origin]);
        next_row[item->origin]++;
    }
    for (uint32_t c = 0; c < count; c++)
        ck_assert_msg(next_row[c] == model->cut[c], "round %llu: channel %u is cut at row %lld instead of %lld", (unsigned long long)round, c,
                      (long long)next_row[c], (long long)model->cut[c]);
}

static void take_event(struct gate_fixture *fixture, struct unaligned_model *model, const struct gate_event *event, uint64_t round,
                       uint64_t *delivered)
{
    if (event->type == GATE_BATCH) {
        ck_assert_int_eq(row_value(event->batch), model->got[event->channel]++);
        batch_unref(event->batch);
    } else if (event->type == GATE_BARRIER) {
        struct barrier barrier = event->barrier;
        ck_assert_uint_eq(barrier.checkpoint_id, ++*delivered);
        check_cut(model, fixture->count, event->in_flight, round);
        in_flight_destroy(event->in_flight);
        barrier_finish(&barrier);
        memset(model->has_barrier, 0, sizeof model->has_barrier);
    }
    ck_assert_int_ne(event->type, GATE_BARRIER_ABORTED);
}

START_TEST(unaligned_cut_is_exact)
{
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        random_seed(round + (uint64_t)_i * ROUNDS * 31);
        struct gate_fixture fixture;
        struct unaligned_model model = {0};
        open_gate(&fixture, 1 + random_below(CHANNELS_MAX), true);
        uint64_t delivered = 0, begun = 0;
        enum barrier_mode mode = OVERTAKES;
        for (uint32_t step = 0; step < 600; step++) {
            uint32_t c = random_below(fixture.count), action = random_below(10);
            struct gate_event event;
            if (action < 4 && !model.is_ended[c]) {
                channel_push(fixture.channels[c], row_element(model.pushed[c]++));
            } else if (action == 4 && !model.is_ended[c] && !model.has_barrier[c]) {
                if (begun == delivered) {
                    begun++;
                    mode = (enum barrier_mode)random_below(3);
                }
                model.has_barrier[c] = true;
                model.cut[c] = model.pushed[c];
                channel_push(fixture.channels[c], mode_barrier(begun, random_below(4) == 0 ? DUE : mode));
            } else if (action == 5 && begun == delivered && !model.is_ended[c] && random_below(10) == 0) {
                channel_push(fixture.channels[c], (struct element){.type = ELEMENT_END_OF_PARTITION});
                model.is_ended[c] = true;
            } else if (action == 6) {
                ck_assert_ptr_null(input_gate_next_urgent(fixture.gate, &event));
                ck_assert_int_ne(event.type, GATE_BATCH);
                for (uint32_t e = 0; e < fixture.count; e++)
                    model.cut[e] = model.is_ended[e] ? model.pushed[e] : model.cut[e];
                take_event(&fixture, &model, &event, round, &delivered);
            } else if (action > 6) {
                next(&fixture, &event);
                for (uint32_t e = 0; e < fixture.count; e++)
                    model.cut[e] = model.is_ended[e] ? model.pushed[e] : model.cut[e];
                take_event(&fixture, &model, &event, round, &delivered);
            }
        }
        close_gate(&fixture);
    }
}
END_TEST

/* A barrier goes past all rows of all channels without one being delivered. */
START_TEST(unaligned_barrier_waits_for_no_row)
{
    struct gate_fixture fixture;
    struct gate_event event;
    open_gate(&fixture, 2, true);
    for (uint32_t c = 0; c < 2; c++) {
        for (int64_t i = 0; i < 20; i++)
            channel_push(fixture.channels[c], row_element(i));
        channel_push(fixture.channels[c], (struct element){.type = ELEMENT_WATERMARK, .as.watermark = 7});
        channel_push(fixture.channels[c], (struct element){.type = ELEMENT_IDLE, .as.is_idle = true});
    }
    ck_assert_int_eq(input_gate_urgent_ms(fixture.gate), INT64_MAX);
    channel_push(fixture.channels[0], mode_barrier(1, OVERTAKES));
    ck_assert_int_eq(input_gate_urgent_ms(fixture.gate), 0);
    ck_assert_ptr_null(input_gate_next_urgent(fixture.gate, &event));
    ck_assert_int_eq(event.type, GATE_NOTHING);
    ck_assert_int_eq(input_gate_urgent_ms(fixture.gate), INT64_MAX); /* nothing to do until the other one comes */
    channel_push(fixture.channels[1], mode_barrier(1, DUE));
    ck_assert_int_lt(input_gate_urgent_ms(fixture.gate), 10);
    ck_assert_ptr_null(input_gate_next_urgent(fixture.gate, &event));
    ck_assert_int_eq(event.type, GATE_BARRIER);
    ck_assert(event.barrier.is_unaligned);
    ck_assert_uint_eq(event.in_flight->items.count, 44);
    ck_assert_uint_eq(event.in_flight->row_count, 40);
    ck_assert_int_eq(event.in_flight->items.items[20].element.type, ELEMENT_WATERMARK);
    ck_assert_int_eq(event.in_flight->items.items[21].element.type, ELEMENT_IDLE);
    in_flight_destroy(event.in_flight);
    barrier_finish(&event.barrier);
    close_gate(&fixture);
}
END_TEST

/* An abort forgets what was overtaken; rows come once all the same, and a late barrier of it changes nothing. */
START_TEST(aborted_unaligned_barrier_leaves_rows_alone)
{
    struct gate_fixture fixture;
    struct gate_event event;
    open_gate(&fixture, 2, true);
    channel_push(fixture.channels[0], row_element(0));
    channel_push(fixture.channels[0], mode_barrier(1, OVERTAKES));
    ck_assert_int_eq(next(&fixture, &event), GATE_NOTHING);
    input_gate_abort(fixture.gate, 1);
    ck_assert_int_eq(next(&fixture, &event), GATE_BATCH);
    batch_unref(event.batch);
    channel_push(fixture.channels[1], row_element(0));
    channel_push(fixture.channels[1], mode_barrier(1, OVERTAKES));
    ck_assert_int_eq(next(&fixture, &event), GATE_BATCH);
    batch_unref(event.batch);
    ck_assert_int_eq(next(&fixture, &event), GATE_NOTHING);
    close_gate(&fixture);
}
END_TEST

/* No producer lives any more: the task is told of the checkpoint by message, and what they left is in flight. */
START_TEST(started_checkpoint_passes_ended_channels)
{
    struct gate_fixture fixture;
    struct gate_event event;
    open_gate(&fixture, 2, true);
    for (uint32_t c = 0; c < 2; c++)
        channel_push(fixture.channels[c], row_element(0));
    channel_push(fixture.channels[0], (struct element){.type = ELEMENT_END_OF_DATA});
    channel_push(fixture.channels[0], (struct element){.type = ELEMENT_END_OF_PARTITION});
    input_gate_start(fixture.gate, mode_barrier(3, OVERTAKES).as.barrier);
    ck_assert_ptr_null(input_gate_next_urgent(fixture.gate, &event));
    ck_assert_int_eq(event.type, GATE_NOTHING); /* the end of channel 1 is still on its way */
    channel_push(fixture.channels[1], (struct element){.type = ELEMENT_END_OF_PARTITION});
    ck_assert_int_eq(input_gate_urgent_ms(fixture.gate), 0);
    ck_assert_ptr_null(input_gate_next_urgent(fixture.gate, &event));
    ck_assert_int_eq(event.type, GATE_BARRIER);
    ck_assert_uint_eq(event.in_flight->row_count, 2);
    ck_assert_uint_eq(event.in_flight->items.count, 2);
    in_flight_destroy(event.in_flight);
    barrier_finish(&event.barrier);
    close_gate(&fixture);
}
END_TEST

/* What is played comes before anything new; a barrier overtakes what is left of it too. */
START_TEST(replay_comes_first_and_is_cut_again)
{
    struct gate_fixture fixture;
    struct gate_event event;
    open_gate(&fixture, 2, true);
    channel_push(fixture.channels[0], row_element(100));
    struct in_flight *in_flight = in_flight_create();
    for (int64_t i = 0; i < 3; i++)
        in_flight_add(in_flight, 1, row_element(i));
    in_flight_add(in_flight, 1, (struct element){.type = ELEMENT_WATERMARK, .as.watermark = 9});
    input_gate_replay(fixture.gate, in_flight);
    ck_assert(input_gate_is_ready(fixture.gate));
    ck_assert_int_eq(next(&fixture, &event), GATE_BATCH);
    ck_assert_uint_eq(event.channel, 1);
    ck_assert_int_eq(row_value(event.batch), 0);
    batch_unref(event.batch);
    for (uint32_t c = 0; c < 2; c++)
        channel_push(fixture.channels[c], mode_barrier(1, OVERTAKES));
    ck_assert_ptr_null(input_gate_next_urgent(fixture.gate, &event));
    ck_assert_int_eq(event.type, GATE_BARRIER);
    ck_assert_uint_eq(event.in_flight->row_count, 3); /* 1, 2 of channel 1 and 100 of channel 0 */
    ck_assert_uint_eq(event.in_flight->items.count, 4);
    in_flight_destroy(event.in_flight);
    barrier_finish(&event.barrier);
    static const enum gate_event_type rest[] = {GATE_BATCH, GATE_BATCH, GATE_WATERMARK, GATE_BATCH, GATE_NOTHING};
    static const int64_t values[] = {1, 2, 0, 100};
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
        ck_assert_int_eq(next(&fixture, &event), rest[i]);
        if (event.type != GATE_BATCH)
            continue;
        ck_assert_int_eq(row_value(event.batch), values[i]);
        batch_unref(event.batch);
    }
    close_gate(&fixture);
}
END_TEST

/* In the queue of a producer whose consumer is elsewhere a barrier keeps its place, but it is urgent. */
START_TEST(remote_queue_keeps_the_order)
{
    struct channel *channel = channel_create((struct channel_key){0}, 8, 1 << 20);
    struct element element;
    bool found;
    channel->is_remote = true;
    channel_push(channel, row_element(0));
    channel_push(channel, mode_barrier(1, DUE));
    ck_assert_uint_eq(atomic_load(&channel->urgent), 0);
    channel_promote(channel, 1000);
    ck_assert_uint_eq(atomic_load(&channel->urgent), 1);
    ck_assert_ptr_null(channel_pop(channel, &element, &found));
    ck_assert_int_eq(element.type, ELEMENT_BATCH);
    element_finish(&element);
    ck_assert_ptr_null(channel_pop(channel, &element, &found));
    ck_assert(element.as.barrier.is_unaligned);
    ck_assert_uint_eq(atomic_load(&channel->urgent), 0);
    element_finish(&element);
    channel_unref(channel);
}
END_TEST

START_TEST(in_flight_items_survive_their_encoding)
{
    struct in_flight *in_flight = in_flight_create();
    in_flight_add(in_flight, 3, row_element(42));
    in_flight_add(in_flight, 4, (struct element){.type = ELEMENT_WATERMARK, .as.watermark = -5});
    in_flight_add(in_flight, 5, (struct element){.type = ELEMENT_IDLE, .as.is_idle = true});
    for (uint32_t i = 0; i < 3; i++) {
        struct bytes_writer writer = {0};
        struct in_flight_item item;
        in_flight_encode_item(&writer, &in_flight->items.items[i]);
        ck_assert_ptr_null(in_flight_decode_item(writer.data, writer.length, schema, &item));
        ck_assert_uint_eq(item.origin, 3 + i);
        ck_assert_int_eq(item.element.type, in_flight->items.items[i].element.type);
        if (i == 0)
            ck_assert_int_eq(row_value(item.element.as.rows.batch), 42);
        else
            ck_assert(i == 1 ? item.element.as.watermark == -5 : item.element.as.is_idle);
        element_finish(&item.element);
        for (size_t length = 0; length < writer.length; length++) { /* cut anywhere: an error, nothing worse */
            struct error *err = in_flight_decode_item(writer.data, length, schema, &item);
            ck_assert_ptr_nonnull(err);
            error_free(err);
        }
        bytes_writer_finish(&writer);
    }
    in_flight_destroy(in_flight);
}
END_TEST

/* ---- the valve ---- */

START_TEST(valve_follows_the_slowest_active_channel)
{
    struct watermark_valve *valve = watermark_valve_create(2);
    ck_assert(!watermark_valve_watermark(valve, 0, 10).has_watermark);
    struct watermark_valve_change change = watermark_valve_watermark(valve, 1, 5);
    ck_assert(change.has_watermark);
    ck_assert_int_eq(change.watermark, 5);
    ck_assert(!watermark_valve_watermark(valve, 1, 4).has_watermark); /* a regression */
    change = watermark_valve_idle(valve, 1, true);
    ck_assert(change.has_watermark && !change.went_idle);
    ck_assert_int_eq(change.watermark, 10);
    ck_assert(!watermark_valve_idle(valve, 1, false).has_watermark);
    /* Channel 1 is behind: it joins again only once it has caught up. */
    ck_assert(!watermark_valve_watermark(valve, 1, 7).has_watermark);
    change = watermark_valve_watermark(valve, 0, 20);
    ck_assert_int_eq(change.watermark, 20);
    ck_assert(!watermark_valve_watermark(valve, 1, 21).has_watermark);
    change = watermark_valve_watermark(valve, 0, 30);
    ck_assert_int_eq(change.watermark, 21);
    watermark_valve_destroy(valve);
}
END_TEST

START_TEST(valve_goes_idle_at_the_highest)
{
    struct watermark_valve *valve = watermark_valve_create(2);
    watermark_valve_watermark(valve, 0, 10);
    watermark_valve_watermark(valve, 1, 5);
    ck_assert(!watermark_valve_idle(valve, 0, true).went_idle);
    struct watermark_valve_change change = watermark_valve_idle(valve, 1, true);
    ck_assert(change.went_idle && change.has_watermark);
    ck_assert_int_eq(change.watermark, 10);
    ck_assert(watermark_valve_idle(valve, 0, false).went_active);
    watermark_valve_destroy(valve);
}
END_TEST

START_TEST(valve_does_not_end_while_an_idle_channel_may_speak)
{
    struct watermark_valve *valve = watermark_valve_create(2);
    watermark_valve_watermark(valve, 0, 10);
    watermark_valve_watermark(valve, 1, 10);
    watermark_valve_idle(valve, 1, true);
    struct watermark_valve_change change = watermark_valve_watermark(valve, 0, TIME_MAX);
    ck_assert(change.went_idle && !change.has_watermark);
    change = watermark_valve_idle(valve, 1, false);
    ck_assert(change.went_active);
    ck_assert_int_eq(watermark_valve_watermark(valve, 1, 15).watermark, 15);
    change = watermark_valve_watermark(valve, 1, TIME_MAX);
    ck_assert_int_eq(change.watermark, TIME_MAX);
    watermark_valve_destroy(valve);
}
END_TEST

/* Random events: the output never falls, never passes an active channel that has caught up, and in the end is TIME_MAX. */
START_TEST(valve_never_overtakes_an_active_channel)
{
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        random_seed(round * 77);
        uint32_t count = 1 + random_below(CHANNELS_MAX);
        struct watermark_valve *valve = watermark_valve_create(count);
        int64_t marks[CHANNELS_MAX];
        bool is_idle[CHANNELS_MAX] = {false}, is_behind[CHANNELS_MAX] = {false}, is_valve_idle = false;
        for (uint32_t i = 0; i < count; i++)
            marks[i] = TIME_MIN;
        int64_t output = TIME_MIN;
        for (uint32_t step = 0; step < 200; step++) {
            uint32_t c = random_below(count);
            struct watermark_valve_change change;
            if (random_below(4) == 0) {
                bool idle = random_below(2) == 0;
                if (is_idle[c] && !idle)
                    is_behind[c] = marks[c] < output;
                is_idle[c] = idle;
                change = watermark_valve_idle(valve, c, idle);
            } else {
                int64_t time = (marks[c] == TIME_MIN ? 0 : marks[c]) + random_below(10) - 2;
                if (!is_idle[c] && time > marks[c])
                    marks[c] = time;
                if (!is_idle[c] && marks[c] >= output)
                    is_behind[c] = false;
                change = watermark_valve_watermark(valve, c, time);
            }
            if (change.has_watermark) {
                ck_assert_int_gt(change.watermark, output);
                output = change.watermark;
            }
            ck_assert(!(change.went_active && !is_valve_idle));
            is_valve_idle = change.went_idle || (is_valve_idle && !change.went_active);
            bool all_idle = true;
            for (uint32_t i = 0; i < count; i++) {
                all_idle = all_idle && is_idle[i];
                if (!is_idle[i] && !is_behind[i])
                    ck_assert_msg(marks[i] >= output, "round %llu: output %lld passed channel %u at %lld", (unsigned long long)round,
                                  (long long)output, i, (long long)marks[i]);
            }
            ck_assert(is_valve_idle == all_idle);
        }
        for (uint32_t i = 0; i < count; i++) {
            struct watermark_valve_change change = watermark_valve_watermark(valve, i, TIME_MAX);
            ck_assert((change.has_watermark && change.watermark == TIME_MAX) == (i == count - 1));
        }
        watermark_valve_destroy(valve);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("input_gate");
    TCase *gate = tcase_create("gate");
    tcase_add_checked_fixture(gate, setup, teardown);
    tcase_set_timeout(gate, 120);
    tcase_add_loop_test(gate, cut_is_exact, 0, 5);
    tcase_add_test(gate, at_least_once_does_not_block);
    tcase_add_test(gate, newer_barrier_supersedes);
    tcase_add_test(gate, cancelled_and_aborted_barriers_unblock);
    tcase_add_test(gate, broken_channel_tells_after_its_last_element);
    tcase_add_test(gate, polling_is_fair);
    tcase_add_loop_test(gate, unaligned_cut_is_exact, 0, 5);
    tcase_add_test(gate, unaligned_barrier_waits_for_no_row);
    tcase_add_test(gate, aborted_unaligned_barrier_leaves_rows_alone);
    tcase_add_test(gate, started_checkpoint_passes_ended_channels);
    tcase_add_test(gate, replay_comes_first_and_is_cut_again);
    tcase_add_test(gate, remote_queue_keeps_the_order);
    tcase_add_test(gate, in_flight_items_survive_their_encoding);
    suite_add_tcase(suite, gate);
    TCase *valve = tcase_create("valve");
    tcase_add_test(valve, valve_follows_the_slowest_active_channel);
    tcase_add_test(valve, valve_goes_idle_at_the_highest);
    tcase_add_test(valve, valve_does_not_end_while_an_idle_channel_may_speak);
    tcase_add_test(valve, valve_never_overtakes_an_active_channel);
    suite_add_tcase(suite, valve);
    return run_suite(suite);
}
