/* Frames: the unit of every byte stream between Millrace's processes (ARCHITECTURE.md, "Frames and messages").
 *   u32 magic | u16 version | u16 type | u32 length | u32 crc32c(body), little-endian, then the body
 * Here: encoding of headers and an incremental parser. What is in a body is message.h's (control) or the data plane's
 * matter. Thread: any; a parser belongs to one thread at a time. */
#ifndef MILLRACE_RPC_FRAME_H
#define MILLRACE_RPC_FRAME_H

#include "common/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_MAGIC 0x4d4c5243u
#define FRAME_VERSION 1
#define FRAME_HEADER_BYTES 16u
#define FRAME_BODY_BYTES_STRANGER (4u << 10)  /* before the handshake is done */
#define FRAME_BODY_BYTES_DATA (16u << 20)
#define FRAME_BODY_BYTES_CONTROL (64u << 20)

/* A received frame. The body is malloced (NULL when length is 0). */
struct frame {
    uint16_t type;
    uint32_t length;
    uint8_t *body;
};

/* The caller leaves with the body and frees it. */
uint8_t *frame_detach_body(struct frame *frame);
void frame_finish(struct frame *frame);

/* Writes the header of a frame whose body has this length and CRC-32C. */
void frame_header_encode(uint8_t header[FRAME_HEADER_BYTES], uint16_t type, uint32_t length, uint32_t crc);
/* Header and body in one malloced block. */
uint8_t *frame_encode(uint16_t type, const void *body, uint32_t length, size_t *out_bytes);

struct frame_parser {
    uint32_t body_bytes_max; /* private, as all below: use the functions */
    uint32_t header_filled;
    uint32_t body_filled;
    uint32_t crc_expected;
    uint8_t header[FRAME_HEADER_BYTES];
    struct frame frame; /* in progress */
};

void frame_parser_init(struct frame_parser *parser, uint32_t body_bytes_max);
/* Only between frames. */
void frame_parser_set_limit(struct frame_parser *parser, uint32_t body_bytes_max);
/* Consumes up to one frame from data. *consumed bytes were used; *complete says whether *out holds a frame now (the
 * caller finishes it). A body is allocated only after its header was found good and within the limit.
 * errors: PROTOCOL (magic, version, checksum), TOO_LARGE (length); the parser is then of no use any more. */
MUST_CHECK struct error *frame_parser_feed(struct frame_parser *parser, const void *data, size_t length, size_t *consumed,
                                           bool *complete, struct frame *out);
/* Where the next bytes of a large body can be read to directly, without a copy: NULL when not inside a body. The bytes
 * are then announced with frame_parser_filled, which behaves as frame_parser_feed. */
uint8_t *frame_parser_space(struct frame_parser *parser, size_t *space);
MUST_CHECK struct error *frame_parser_filled(struct frame_parser *parser, size_t length, bool *complete, struct frame *out);
/* True between frames: no byte of a next frame was seen. */
bool frame_parser_is_idle(const struct frame_parser *parser);
void frame_parser_finish(struct frame_parser *parser);

#endif
