/* Little-endian encoding and bounds-checked decoding of bytes. The writer grows a heap buffer. The reader never reads
 * past its end: after the first short read it is failed, every further read gives zero, and bytes_reader_ok is false;
 * so a decoder reads a whole structure and checks once. */
#ifndef MILLRACE_BASE_BYTES_H
#define MILLRACE_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes_writer {
    uint8_t *data;
    size_t length;
    size_t capacity;
};

struct bytes_reader {
    const uint8_t *data;
    size_t length;
    size_t position;
    bool failed;
};

void bytes_write(struct bytes_writer *writer, const void *data, size_t length);
void bytes_write_u8(struct bytes_writer *writer, uint8_t value);
void bytes_write_u32(struct bytes_writer *writer, uint32_t value);
void bytes_write_u64(struct bytes_writer *writer, uint64_t value);
void bytes_write_i64(struct bytes_writer *writer, int64_t value);
/* u32 length, then the bytes. */
void bytes_write_block(struct bytes_writer *writer, const void *data, size_t length);
void bytes_write_text(struct bytes_writer *writer, const char *text);
/* Overwrites four bytes that were written before. */
void bytes_patch_u32(struct bytes_writer *writer, size_t position, uint32_t value);
void bytes_writer_finish(struct bytes_writer *writer);

struct bytes_reader bytes_reader_on(const void *data, size_t length);
bool bytes_reader_ok(const struct bytes_reader *reader);
size_t bytes_reader_left(const struct bytes_reader *reader);
/* Borrowed from the input; NULL after a failure (also for a length of 0 past the end). */
const uint8_t *bytes_read(struct bytes_reader *reader, size_t length);
uint8_t bytes_read_u8(struct bytes_reader *reader);
uint16_t bytes_read_u16(struct bytes_reader *reader);
uint32_t bytes_read_u32(struct bytes_reader *reader);
uint64_t bytes_read_u64(struct bytes_reader *reader);
int64_t bytes_read_i64(struct bytes_reader *reader);
const uint8_t *bytes_read_block(struct bytes_reader *reader, size_t *length);
/* Malloced copy with a NUL; NULL after a failure. A block with a NUL inside fails. */
char *bytes_read_text(struct bytes_reader *reader);

#endif
