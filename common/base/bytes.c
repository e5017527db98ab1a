/* Byte encoding: see bytes.h. */
#include "common/base/bytes.h"

#include "common/base/heap.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire format is little-endian and so must the machine be");

void bytes_write(struct bytes_writer *writer, const void *data, size_t length)
{
    if (writer->capacity - writer->length < length) {
        size_t capacity = writer->capacity * 2 > 256 ? writer->capacity * 2 : 256;
        if (capacity < writer->length + length)
            capacity = writer->length + length;
        writer->data = heap_realloc(writer->data, capacity, 1);
        writer->capacity = capacity;
    }
    if (length != 0)
        memcpy(writer->data + writer->length, data, length);
    writer->length += length;
}

void bytes_write_u8(struct bytes_writer *writer, uint8_t value)
{
    bytes_write(writer, &value, sizeof value);
}

void bytes_write_u32(struct bytes_writer *writer, uint32_t value)
{
    bytes_write(writer, &value, sizeof value);
}

void bytes_write_u64(struct bytes_writer *writer, uint64_t value)
{
    bytes_write(writer, &value, sizeof value);
}

void bytes_write_i64(struct bytes_writer *writer, int64_t value)
{
    bytes_write(writer, &value, sizeof value);
}

void bytes_write_block(struct bytes_writer *writer, const void *data, size_t length)
{
    bytes_write_u32(writer, (uint32_t)length);
    bytes_write(writer, data, length);
}

void bytes_write_text(struct bytes_writer *writer, const char *text)
{
    bytes_write_block(writer, text, strlen(text));
}

void bytes_patch_u32(struct bytes_writer *writer, size_t position, uint32_t value)
{
    memcpy(writer->data + position, &value, sizeof value);
}

void bytes_writer_finish(struct bytes_writer *writer)
{
    free(writer->data);
    *writer = (struct bytes_writer){0};
}

struct bytes_reader bytes_reader_on(const void *data, size_t length)
{
    return (struct bytes_reader){.data = data, .length = length};
}

bool bytes_reader_ok(const struct bytes_reader *reader)
{
    return !reader->failed;
}

size_t bytes_reader_left(const struct bytes_reader *reader)
{
    return reader->failed ? 0 : reader->length - reader->position;
}

const uint8_t *bytes_read(struct bytes_reader *reader, size_t length)
{
    if (reader->failed || reader->length - reader->position < length) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *data = reader->data + reader->position;
    reader->position += length;
    return data;
}

#define BYTES_READ(name, type)                                                                                         \
    type name(struct bytes_reader *reader)                                                                             \
    {                                                                                                                  \
        type value = 0;                                                                                                \
        const uint8_t *data = bytes_read(reader, sizeof value);                                                        \
        if (data != NULL)                                                                                              \
            memcpy(&value, data, sizeof value);                                                                        \
        return value;                                                                                                  \
    }

BYTES_READ(bytes_read_u8, uint8_t)
BYTES_READ(bytes_read_u16, uint16_t)
BYTES_READ(bytes_read_u32, uint32_t)
BYTES_READ(bytes_read_u64, uint64_t)
BYTES_READ(bytes_read_i64, int64_t)

const uint8_t *bytes_read_block(struct bytes_reader *reader, size_t *length)
{
    uint32_t size = bytes_read_u32(reader);
    const uint8_t *data = bytes_read(reader, size);
    *length = data != NULL ? size : 0;
    return data;
}

char *bytes_read_text(struct bytes_reader *reader)
{
    size_t length;
    const uint8_t *data = bytes_read_block(reader, &length);
    if (data == NULL)
        return NULL;
    if (memchr(data, '\0', length) != NULL) {
        reader->failed = true;
        return NULL;
    }
    return heap_strndup((const char *)data, length);
}
