/* Frame headers and the incremental parser; see frame.h. */
#include "common/rpc/frame.h"

#include "common/base/bytes.h"
#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/heap.h"

#include <stdlib.h>
#include <string.h>

uint8_t *frame_detach_body(struct frame *frame)
{
    uint8_t *body = frame->body;
    frame->body = NULL;
    frame->length = 0;
    return body;
}

void frame_finish(struct frame *frame)
{
    free(frame->body);
    frame->body = NULL;
    frame->length = 0;
}

static void put_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void put_u32(uint8_t *at, uint32_t value)
{
    put_u16(at, (uint16_t)value);
    put_u16(at + 2, (uint16_t)(value >> 16));
}

void frame_header_encode(uint8_t header[FRAME_HEADER_BYTES], uint16_t type, uint32_t length, uint32_t crc)
{
    put_u32(header, FRAME_MAGIC);
    put_u16(header + 4, FRAME_VERSION);
    put_u16(header + 6, type);
    put_u32(header + 8, length);
    put_u32(header + 12, crc);
}

uint8_t *frame_encode(uint16_t type, const void *body, uint32_t length, size_t *out_bytes)
{
    uint8_t *frame = heap_alloc(FRAME_HEADER_BYTES + (size_t)length);
    frame_header_encode(frame, type, length, crc32c(0, body, length));
    if (length > 0)
        memcpy(frame + FRAME_HEADER_BYTES, body, length);
    *out_bytes = FRAME_HEADER_BYTES + (size_t)length;
    return frame;
}

void frame_parser_init(struct frame_parser *parser, uint32_t body_bytes_max)
{
    *parser = (struct frame_parser){.body_bytes_max = body_bytes_max};
}

void frame_parser_set_limit(struct frame_parser *parser, uint32_t body_bytes_max)
{
    check(frame_parser_is_idle(parser));
    parser->body_bytes_max = body_bytes_max;
}

bool frame_parser_is_idle(const struct frame_parser *parser)
{
    return parser->header_filled == 0;
}

void frame_parser_finish(struct frame_parser *parser)
{
    frame_finish(&parser->frame);
    parser->header_filled = parser->body_filled = 0;
}

/* The header is whole: judge it before a byte is allocated on its word. */
static struct error *header_check(struct frame_parser *parser)
{
    struct bytes_reader reader = bytes_reader_on(parser->header, FRAME_HEADER_BYTES);
    uint32_t magic = bytes_read_u32(&reader);
    uint16_t version = bytes_read_u16(&reader);
    uint16_t type = bytes_read_u16(&reader);
    uint32_t length = bytes_read_u32(&reader);
    if (magic != FRAME_MAGIC)
        return error_new(PROTOCOL, "not a Millrace frame (it starts with 0x%08x)", magic);
    if (version != FRAME_VERSION)
        return error_new(PROTOCOL, "frame of protocol version %u, this program speaks version %d", version, FRAME_VERSION);
    if (length > parser->body_bytes_max)
        return error_new(TOO_LARGE, "frame of type %u has %u bytes, the limit is %u", type, length, parser->body_bytes_max);
    parser->crc_expected = bytes_read_u32(&reader);
    parser->frame = (struct frame){.type = type, .length = length, .body = NULL};
    if (length > 0) {
        parser->frame.body = malloc(length);
        if (parser->frame.body == NULL)
            return error_new(OUT_OF_MEMORY, "no memory for a frame of %u bytes", length);
    }
    return NULL;
}

static struct error *frame_done(struct frame_parser *parser, bool *complete, struct frame *out)
{
    uint32_t crc = crc32c(0, parser->frame.body, parser->frame.length);
    if (crc != parser->crc_expected)
        return error_new(PROTOCOL, "frame of type %u fails its checksum (%08x, expected %08x)", parser->frame.type, crc,
                         parser->crc_expected);
    *out = parser->frame;
    *complete = true;
    parser->frame = (struct frame){0};
    parser->header_filled = parser->body_filled = 0;
    return NULL;
}

struct error *frame_parser_feed(struct frame_parser *parser, const void *data, size_t length, size_t *consumed,
                                bool *complete, struct frame *out)
{
    const uint8_t *bytes = data;
    *consumed = 0;
    *complete = false;
    if (parser->header_filled < FRAME_HEADER_BYTES) {
        size_t wanted = FRAME_HEADER_BYTES - parser->header_filled;
        size_t taken = length < wanted ? length : wanted;
        if (taken > 0)
            memcpy(parser->header + parser->header_filled, bytes, taken);
        parser->header_filled += (uint32_t)taken;
        *consumed = taken;
        if (parser->header_filled < FRAME_HEADER_BYTES)
            return NULL;
        TRY(header_check(parser));
    }
    size_t wanted = parser->frame.length - parser->body_filled;
    size_t taken = length - *consumed < wanted ? length - *consumed : wanted;
    if (taken > 0)
        memcpy(parser->frame.body + parser->body_filled, bytes + *consumed, taken);
    *consumed += taken;
    parser->body_filled += (uint32_t)taken;
    return parser->body_filled == parser->frame.length ? frame_done(parser, complete, out) : NULL;
}

uint8_t *frame_parser_space(struct frame_parser *parser, size_t *space)
{
    if (parser->header_filled < FRAME_HEADER_BYTES)
        return NULL;
    *space = parser->frame.length - parser->body_filled;
    return *space > 0 ? parser->frame.body + parser->body_filled : NULL;
}

struct error *frame_parser_filled(struct frame_parser *parser, size_t length, bool *complete, struct frame *out)
{
    *complete = false;
    check(parser->header_filled == FRAME_HEADER_BYTES);
    check(length <= parser->frame.length - parser->body_filled);
    parser->body_filled += (uint32_t)length;
    return parser->body_filled == parser->frame.length ? frame_done(parser, complete, out) : NULL;
}
