/* Encoding and decoding of data frames' bodies. Thread: any. */
#include "taskmanager/net/net_wire.h"

#include "common/base/heap.h"
#include "common/columnar/batch_codec.h"
#include "common/rpc/frame.h"
#include "common/rpc/message.h"

#include <lz4.h>

enum { FLAG_LZ4 = 1, FLAG_BEYOND_CREDIT = 2 };

static struct error *malformed(const char *what)
{
    return error_new(PROTOCOL, "malformed %s frame on a data connection", what);
}

bool net_decode_channel(const void *body, size_t length, uint32_t *channel)
{
    struct bytes_reader reader = bytes_reader_on(body, length);
    *channel = bytes_read_u32(&reader);
    return bytes_reader_ok(&reader);
}

/* ---- REQUEST_CHANNEL, CREDIT ---- */

void net_encode_request(struct bytes_writer *writer, const struct net_request *request)
{
    bytes_write_u32(writer, request->channel);
    bytes_write_u32(writer, request->key.target_operator);
    bytes_write_u32(writer, request->key.edge);
    bytes_write_u32(writer, request->key.producer);
    bytes_write_u32(writer, request->key.consumer);
    bytes_write_u32(writer, request->credit);
}

struct error *net_decode_request(const void *body, size_t length, struct net_request *out)
{
    struct bytes_reader reader = bytes_reader_on(body, length);
    struct net_request request;
    request.channel = bytes_read_u32(&reader);
    request.key.target_operator = bytes_read_u32(&reader);
    request.key.edge = bytes_read_u32(&reader);
    request.key.producer = bytes_read_u32(&reader);
    request.key.consumer = bytes_read_u32(&reader);
    request.credit = bytes_read_u32(&reader);
    if (!bytes_reader_ok(&reader) || bytes_reader_left(&reader) != 0)
        return malformed("REQUEST_CHANNEL");
    *out = request;
    return NULL;
}

void net_encode_credit(struct bytes_writer *writer, uint32_t channel, uint32_t batches)
{
    bytes_write_u32(writer, channel);
    bytes_write_u32(writer, batches);
}

struct error *net_decode_credit(const void *body, size_t length, uint32_t *channel, uint32_t *batches)
{
    struct bytes_reader reader = bytes_reader_on(body, length);
    uint32_t number = bytes_read_u32(&reader);
    uint32_t count = bytes_read_u32(&reader);
    if (!bytes_reader_ok(&reader) || bytes_reader_left(&reader) != 0)
        return malformed("CREDIT");
    *channel = number;
    *batches = count;
    return NULL;
}

/* ---- BATCH ---- */

/* False when it saves less than a fifth. */
static bool write_compressed(struct bytes_writer *writer, const struct bytes_writer *raw)
{
    int capacity = (int)(raw->length - raw->length / 5);
    char *packed = heap_alloc((size_t)capacity);
    int length = LZ4_compress_default((const char *)raw->data, packed, (int)raw->length, capacity);
    if (length > 0)
        bytes_write(writer, packed, (size_t)length);
    free(packed);
    return length > 0;
}

void net_encode_batch(struct bytes_writer *writer, const struct net_batch *batch, bool is_compressing)
{
    struct bytes_writer raw = {0};
    uint32_t flags = batch->is_beyond_credit ? FLAG_BEYOND_CREDIT : 0;
    batch_encode(batch->batch, &raw);
    bytes_write_u32(writer, batch->channel);
    bytes_write_u32(writer, batch->backlog);
    size_t flags_at = writer->length;
    bytes_write_u32(writer, flags | FLAG_LZ4);
    bytes_write_u32(writer, (uint32_t)raw.length);
    bool may_compress = is_compressing && raw.length >= NET_COMPRESS_BYTES_MIN && raw.length <= LZ4_MAX_INPUT_SIZE;
    if (!may_compress || !write_compressed(writer, &raw)) {
        bytes_patch_u32(writer, flags_at, flags);
        bytes_write(writer, raw.data, raw.length);
    }
    bytes_writer_finish(&raw);
}

static struct error *decode_compressed(const uint8_t *packed, size_t length, uint32_t raw_length, struct schema *schema, struct batch **out)
{
    if (raw_length > FRAME_BODY_BYTES_DATA || length > FRAME_BODY_BYTES_DATA)
        return malformed("BATCH");
    char *raw = heap_alloc((size_t)raw_length + 1);
    int got = LZ4_decompress_safe((const char *)packed, raw, (int)length, (int)raw_length);
    struct error *err = got == (int)raw_length ? batch_decode(raw, raw_length, schema, out) : malformed("BATCH");
    free(raw);
    return err;
}

struct error *net_decode_batch(const void *body, size_t length, struct schema *schema, struct net_batch *out)
{
    struct bytes_reader reader = bytes_reader_on(body, length);
    struct net_batch result = {0};
    result.channel = bytes_read_u32(&reader);
    result.backlog = bytes_read_u32(&reader);
    uint32_t flags = bytes_read_u32(&reader);
    uint32_t raw_length = bytes_read_u32(&reader);
    size_t left = bytes_reader_left(&reader);
    const uint8_t *data = bytes_read(&reader, left);
    bool is_packed = (flags & FLAG_LZ4) != 0;
    result.is_beyond_credit = (flags & FLAG_BEYOND_CREDIT) != 0;
    if (!bytes_reader_ok(&reader) || flags > (FLAG_LZ4 | FLAG_BEYOND_CREDIT) || (!is_packed && raw_length != left))
        return malformed("BATCH");
    if (is_packed)
        TRY(decode_compressed(data, left, raw_length, schema, &result.batch));
    else
        TRY(batch_decode(data, left, schema, &result.batch));
    *out = result;
    return NULL;
}

/* ---- EVENT ---- */

static void write_barrier(struct bytes_writer *writer, const struct barrier *barrier)
{
    bytes_write_u64(writer, barrier->checkpoint_id);
    bytes_write_i64(writer, barrier->timestamp_ms);
    bytes_write_u8(writer, (uint8_t)barrier->kind);
    bytes_write_u8(writer, barrier->is_unaligned);
    bytes_write_i64(writer, barrier->unaligned_after_ms);
    bytes_write_text(writer, barrier->location != NULL ? barrier->location->directory : "");
}

static bool read_barrier(struct bytes_reader *reader, struct barrier *barrier)
{
    barrier->checkpoint_id = bytes_read_u64(reader);
    barrier->timestamp_ms = bytes_read_i64(reader);
    uint8_t kind = bytes_read_u8(reader);
    barrier->is_unaligned = bytes_read_u8(reader) != 0;
    barrier->unaligned_after_ms = bytes_read_i64(reader);
    char *directory = bytes_read_text(reader);
    bool is_good = bytes_reader_ok(reader) && kind < BARRIER_KIND_COUNT && bytes_reader_left(reader) == 0;
    barrier->kind = is_good ? (enum barrier_kind)kind : BARRIER_CHECKPOINT;
    barrier->location = is_good ? checkpoint_location_create(directory) : NULL;
    free(directory);
    return is_good;
}

void net_encode_event(struct bytes_writer *writer, uint32_t channel, const struct element *element)
{
    bytes_write_u32(writer, channel);
    bytes_write_u8(writer, (uint8_t)element->type);
    if (element->type == ELEMENT_WATERMARK)
        bytes_write_i64(writer, element->as.watermark);
    else if (element->type == ELEMENT_IDLE)
        bytes_write_u8(writer, element->as.is_idle);
    else if (element_has_barrier(element))
        write_barrier(writer, &element->as.barrier);
}

struct error *net_decode_event(const void *body, size_t length, struct net_event *out)
{
    struct bytes_reader reader = bytes_reader_on(body, length);
    struct net_event event = {0};
    event.channel = bytes_read_u32(&reader);
    uint8_t type = bytes_read_u8(&reader);
    if (!bytes_reader_ok(&reader) || type == ELEMENT_BATCH || type >= ELEMENT_TYPE_COUNT)
        return malformed("EVENT");
    event.element.type = (enum element_type)type;
    if (event.element.type == ELEMENT_WATERMARK)
        event.element.as.watermark = bytes_read_i64(&reader);
    else if (event.element.type == ELEMENT_IDLE)
        event.element.as.is_idle = bytes_read_u8(&reader) != 0;
    else if (element_has_barrier(&event.element) && !read_barrier(&reader, &event.element.as.barrier))
        return malformed("EVENT");
    if (!bytes_reader_ok(&reader) || bytes_reader_left(&reader) != 0) {
        element_finish(&event.element);
        return malformed("EVENT");
    }
    *out = event;
    return NULL;
}

/* ---- CHANNEL_ERROR ---- */

void net_encode_error(struct bytes_writer *writer, uint32_t channel, const struct error *err)
{
    json_t *json = message_error_to_json(err);
    char *text = json_dumps(json, JSON_COMPACT);
    bytes_write_u32(writer, channel);
    bytes_write_text(writer, text != NULL ? text : "{}");
    free(text);
    json_decref(json);
}

struct error *net_decode_error(const void *body, size_t length)
{
    struct bytes_reader reader = bytes_reader_on(body, length);
    bytes_read_u32(&reader);
    char *text = bytes_read_text(&reader);
    json_t *json = text != NULL ? json_loads(text, 0, NULL) : NULL;
    struct error *err = json != NULL ? message_error_from_json(json) : malformed("CHANNEL_ERROR");
    json_decref(json);
    free(text);
    return err;
}
