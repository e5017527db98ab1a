/* Elements in flight between producers and a consumer at the cut of an unaligned checkpoint: what a barrier overtook in a channel,
 * and what the consumer's chain held back. They are part of the consumer's state (a section of kind "channel" for each edge) and
 * are given to it first after a restore.
 *
 * An item in a state file: u32 origin, u8 element type, then the encoded batch, or i64 watermark, or u8 is_idle.
 * Here: the list and that form. Thread: a list has one owner at a time; encoding may run on a worker, as batches are immutable. */
#ifndef MILLRACE_NET_IN_FLIGHT_H
#define MILLRACE_NET_IN_FLIGHT_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/vec.h"
#include "taskmanager/net/element.h"

struct in_flight_item {
    uint32_t origin;        /* producer subtask; in the list of a gate its channel, in that of a chain the input */
    struct element element; /* BATCH, WATERMARK or IDLE; a reference */
};

struct in_flight {
    VEC(struct in_flight_item) items;
    uint64_t row_count;
};

struct in_flight *in_flight_create(void);
/* Whether such an element is kept: barriers and ends are sent anew after a restore. */
bool in_flight_counts(enum element_type type);
/* Takes element. */
void in_flight_add(struct in_flight *in_flight, uint32_t origin, struct element element);
/* Appends all items of from as those of one origin, and destroys from. Accepts NULL. */
void in_flight_take(struct in_flight *in_flight, uint32_t origin, struct in_flight *from);

void in_flight_encode_item(struct bytes_writer *writer, const struct in_flight_item *item);
/* Safe for any bytes. errors: CORRUPT */
MUST_CHECK struct error *in_flight_decode_item(const void *bytes, size_t length, struct schema *schema, struct in_flight_item *out);

#endif
