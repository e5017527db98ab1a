/* Bodies of the frames on data connections (ARCHITECTURE.md, "Frames and messages"), little-endian:
 *   REQUEST_CHANNEL  u32 channel, target operator, edge, producer, consumer, credit
 *   BATCH            u32 channel, backlog (batches that wait at the producer), flags (1: LZ4, 2: beyond credit), raw length; the encoded batch
 *   EVENT            u32 channel, u8 type, payload by type
 *   CREDIT           u32 channel, batches (0: the consumer has the end of the partition)
 *   CHANNEL_ERROR    u32 channel, error as JSON
 * The channel number is the consumer's choice. Decoding is safe for any bytes. Thread: any. */
#ifndef MILLRACE_NET_NET_WIRE_H
#define MILLRACE_NET_NET_WIRE_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "taskmanager/net/channel.h"

/* Below this a batch goes as it is. */
#define NET_COMPRESS_BYTES_MIN 4096u

struct net_request {
    uint32_t channel;
    struct channel_key key;
    uint32_t credit;
};

struct net_batch {
    uint32_t channel;
    uint32_t backlog;
    bool is_beyond_credit; /* an unaligned barrier or the end of the partition comes behind it */
    struct batch *batch;
};

struct net_event {
    uint32_t channel;
    struct element element;
};

/* Writers: the caller detaches writer->data as a frame body. */
void net_encode_request(struct bytes_writer *writer, const struct net_request *request);
void net_encode_batch(struct bytes_writer *writer, const struct net_batch *batch, bool is_compressing);
void net_encode_event(struct bytes_writer *writer, uint32_t channel, const struct element *element);
void net_encode_credit(struct bytes_writer *writer, uint32_t channel, uint32_t batches);
void net_encode_error(struct bytes_writer *writer, uint32_t channel, const struct error *err);

/* The channel number that every body begins with; false when there is none. */
bool net_decode_channel(const void *body, size_t length, uint32_t *channel);
MUST_CHECK struct error *net_decode_request(const void *body, size_t length, struct net_request *out);
MUST_CHECK struct error *net_decode_batch(const void *body, size_t length, struct schema *schema, struct net_batch *out);
MUST_CHECK struct error *net_decode_event(const void *body, size_t length, struct net_event *out);
MUST_CHECK struct error *net_decode_credit(const void *body, size_t length, uint32_t *channel, uint32_t *batches);
/* The error that the producer's side sent, or the one of decoding; never NULL. */
struct error *net_decode_error(const void *body, size_t length);

#endif
