/* The minimum of watermarks over the active channels of an input. Thread: task. Events are rare (a few a second a channel),
 * so that a scan over the channels is cheap enough. */
#include "taskmanager/time/watermark_valve.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/columnar/batch.h"

struct valve_channel {
    int64_t watermark;
    bool is_idle;
    bool is_ended;
    bool is_aligned; /* takes part in the minimum */
};

struct watermark_valve {
    uint32_t channel_count;
    int64_t output;
    bool is_idle;
    struct valve_channel channels[];
};

struct watermark_valve *watermark_valve_create(uint32_t channel_count)
{
    struct watermark_valve *valve = heap_alloc(sizeof *valve + channel_count * sizeof(struct valve_channel));
    valve->channel_count = channel_count;
    valve->output = TIME_MIN;
    for (uint32_t i = 0; i < channel_count; i++)
        valve->channels[i] = (struct valve_channel){.watermark = TIME_MIN, .is_aligned = true};
    return valve;
}

void watermark_valve_destroy(struct watermark_valve *valve)
{
    free(valve);
}

static void valve_raise(struct watermark_valve *valve, int64_t time, struct watermark_valve_change *change)
{
    if (time <= valve->output)
        return;
    valve->output = time;
    change->has_watermark = true;
    change->watermark = time;
}

static void valve_raise_to_minimum(struct watermark_valve *valve, struct watermark_valve_change *change)
{
    int64_t minimum = TIME_MAX;
    bool has_aligned = false;
    for (uint32_t i = 0; i < valve->channel_count; i++) {
        const struct valve_channel *channel = &valve->channels[i];
        if (!channel->is_aligned)
            continue;
        has_aligned = true;
        minimum = channel->watermark < minimum ? channel->watermark : minimum;
    }
    if (has_aligned)
        valve_raise(valve, minimum, change);
}

/* TIME_MAX does not count here: it says that one channel is done, not that all are. */
static void valve_raise_to_maximum(struct watermark_valve *valve, struct watermark_valve_change *change)
{
    int64_t maximum = TIME_MIN;
    for (uint32_t i = 0; i < valve->channel_count; i++) {
        int64_t watermark = valve->channels[i].watermark;
        if (watermark != TIME_MAX && watermark > maximum)
            maximum = watermark;
    }
    valve_raise(valve, maximum, change);
}

/* A channel from which rows may come any time. */
static bool valve_channel_is_active(const struct valve_channel *channel)
{
    return !channel->is_idle && !channel->is_ended && channel->watermark != TIME_MAX;
}

static bool valve_has_active(const struct watermark_valve *valve)
{
    for (uint32_t i = 0; i < valve->channel_count; i++)
        if (valve_channel_is_active(&valve->channels[i]))
            return true;
    return false;
}

static bool valve_is_done(const struct watermark_valve *valve)
{
    for (uint32_t i = 0; i < valve->channel_count; i++)
        if (valve->channels[i].watermark != TIME_MAX && !valve->channels[i].is_ended)
            return false;
    return true;
}

/* A channel left the minimum: the others may raise it; without others the input goes idle. */
static void valve_channel_left(struct watermark_valve *valve, bool held_back, struct watermark_valve_change *change)
{
    if (valve_has_active(valve)) {
        if (held_back)
            valve_raise_to_minimum(valve, change);
        return;
    }
    if (held_back)
        valve_raise_to_maximum(valve, change);
    change->went_idle = !valve->is_idle;
    valve->is_idle = true;
}

static void valve_channel_done(struct watermark_valve *valve, struct valve_channel *channel, struct watermark_valve_change *change)
{
    bool held_back = channel->is_aligned && channel->watermark == valve->output;
    channel->watermark = TIME_MAX;
    channel->is_aligned = false;
    if (!valve_is_done(valve)) {
        valve_channel_left(valve, held_back, change);
        return;
    }
    change->went_active = valve->is_idle;
    valve->is_idle = false;
    valve_raise(valve, TIME_MAX, change);
}

struct watermark_valve_change watermark_valve_watermark(struct watermark_valve *valve, uint32_t index, int64_t time)
{
    struct watermark_valve_change change = {0};
    dcheck(index < valve->channel_count);
    struct valve_channel *channel = &valve->channels[index];
    if (channel->is_ended || time <= channel->watermark)
        return change;
    if (time == TIME_MAX) {
        valve_channel_done(valve, channel, &change);
        return change;
    }
    if (channel->is_idle)
        return change;
    channel->watermark = time;
    if (time >= valve->output)
        channel->is_aligned = true;
    if (channel->is_aligned)
        valve_raise_to_minimum(valve, &change);
    return change;
}

struct watermark_valve_change watermark_valve_idle(struct watermark_valve *valve, uint32_t index, bool is_idle)
{
    struct watermark_valve_change change = {0};
    dcheck(index < valve->channel_count);
    struct valve_channel *channel = &valve->channels[index];
    if (channel->is_ended || channel->is_idle == is_idle || channel->watermark == TIME_MAX)
        return change;
    channel->is_idle = is_idle;
    if (!is_idle) {
        channel->is_aligned = channel->watermark >= valve->output;
        change.went_active = valve->is_idle;
        valve->is_idle = false;
        return change;
    }
    channel->is_aligned = false;
    valve_channel_left(valve, channel->watermark == valve->output, &change);
    return change;
}

struct watermark_valve_change watermark_valve_end(struct watermark_valve *valve, uint32_t index)
{
    struct watermark_valve_change change = {0};
    dcheck(index < valve->channel_count);
    struct valve_channel *channel = &valve->channels[index];
    if (channel->is_ended)
        return change;
    bool held_back = channel->is_aligned && channel->watermark == valve->output;
    bool was_done = channel->watermark == TIME_MAX;
    channel->is_ended = true;
    channel->is_aligned = false;
    if (!was_done && !valve_is_done(valve))
        valve_channel_left(valve, held_back, &change);
    return change;
}
