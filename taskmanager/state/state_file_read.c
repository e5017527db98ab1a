/* Reading state files: see state_file.h. Input is not trusted: every length is checked against what is there, and chunks
 * are verified by their checksum before anyone parses them. Thread: the task that restores. */
#include "common/base/crc32c.h"
#include "common/base/heap.h"
#include "taskmanager/state/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTION_BYTES_MIN 29
#define CHUNK_BYTES 32

static struct error *parse_chunks(struct bytes_reader *reader, uint64_t data_end, struct state_section *section)
{
    uint32_t count = bytes_read_u32(reader);
    if (!bytes_reader_ok(reader) || count > bytes_reader_left(reader) / CHUNK_BYTES)
        return error_new(CORRUPT, "section \"%s\" is cut off", section->name);
    section->chunks = heap_alloc_array(count + 1, sizeof *section->chunks);
    section->chunk_count = section->chunk_capacity = count;
    for (uint32_t i = 0; i < count; i++) {
        struct state_chunk *chunk = &section->chunks[i];
        chunk->key_group = bytes_read_u32(reader);
        chunk->offset = bytes_read_u64(reader);
        chunk->length = bytes_read_u64(reader);
        chunk->items = bytes_read_u64(reader);
        chunk->crc = bytes_read_u32(reader);
        if (chunk->offset < STATE_FILE_HEADER_BYTES || chunk->offset > data_end || chunk->length > data_end - chunk->offset)
            return error_new(CORRUPT, "section \"%s\" lies outside the file", section->name);
    }
    return NULL;
}

static struct error *parse_section(struct bytes_reader *reader, uint64_t data_end, struct state_section *section)
{
    const uint8_t *id = bytes_read(reader, sizeof section->operator_id.bytes);
    if (id != NULL)
        memcpy(section->operator_id.bytes, id, sizeof section->operator_id.bytes);
    section->name = bytes_read_text(reader);
    uint8_t kind = bytes_read_u8(reader);
    char *meta = bytes_read_text(reader);
    section->meta = meta != NULL ? json_loads(meta, JSON_REJECT_DUPLICATES, NULL) : NULL;
    free(meta);
    if (!bytes_reader_ok(reader))
        return error_new(CORRUPT, "the section index is cut off");
    if (kind >= STATE_KIND_COUNT)
        return error_new(CORRUPT, "section \"%s\" has the unknown kind %u", section->name, kind);
    section->kind = (enum state_kind)kind;
    if (!json_is_object(section->meta))
        return error_new(CORRUPT, "section \"%s\" has no description", section->name);
    return parse_chunks(reader, data_end, section);
}

struct error *state_index_parse(const void *bytes, size_t length, uint64_t data_end, struct state_index *out)
{
    struct bytes_reader reader = bytes_reader_on(bytes, length);
    uint32_t count = bytes_read_u32(&reader);
    if (!bytes_reader_ok(&reader) || count > bytes_reader_left(&reader) / SECTION_BYTES_MIN)
        return error_new(CORRUPT, "the section index is cut off");
    struct state_index index = {.sections = heap_alloc_array(count + 1, sizeof *index.sections)};
    struct error *err = NULL;
    while (err == NULL && index.section_count < count)
        err = parse_section(&reader, data_end, &index.sections[index.section_count++]);
    if (err == NULL && bytes_reader_left(&reader) != 0)
        err = error_new(CORRUPT, "the section index has %zu bytes too many", bytes_reader_left(&reader));
    if (err != NULL)
        state_index_finish(&index);
    else
        *out = index;
    return err;
}

static struct error *read_at(const struct state_file_reader *reader, uint64_t offset, void *to, size_t length)
{
    uint8_t *bytes = to;
    while (length > 0) {
        ssize_t count = pread(reader->fd, bytes, length, (off_t)offset);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return error_errno(errno, "could not read the state file %s", reader->path);
        if (count == 0)
            return error_new(CORRUPT, "state file %s is cut off at %" PRIu64 " bytes", reader->path, offset);
        bytes += count;
        offset += (uint64_t)count;
        length -= (size_t)count;
    }
    return NULL;
}

static struct error *read_index(struct state_file_reader *reader)
{
    uint8_t header[STATE_FILE_HEADER_BYTES], trailer[STATE_FILE_TRAILER_BYTES];
    if (reader->size_bytes < sizeof header + sizeof trailer)
        return error_new(CORRUPT, "state file %s is too short: %" PRIu64 " bytes", reader->path, reader->size_bytes);
    TRY(read_at(reader, 0, header, sizeof header));
    TRY(read_at(reader, reader->size_bytes - sizeof trailer, trailer, sizeof trailer));
    struct bytes_reader head = bytes_reader_on(header, sizeof header), tail = bytes_reader_on(trailer, sizeof trailer);
    uint32_t magic = bytes_read_u32(&head), version = bytes_read_u32(&head);
    uint64_t index_offset = bytes_read_u64(&tail);
    uint32_t index_length = bytes_read_u32(&tail);
    reader->crc = bytes_read_u32(&tail);
    uint32_t tail_version = bytes_read_u32(&tail), tail_magic = bytes_read_u32(&tail);
    if (magic != STATE_FILE_MAGIC || tail_magic != STATE_FILE_MAGIC)
        return error_new(CORRUPT, "%s is damaged or not a state file: header or trailer are wrong", reader->path);
    if (version != tail_version)
        return error_new(CORRUPT, "state file %s is damaged: header and trailer differ", reader->path);
    if (version != STATE_FILE_VERSION)
        return error_new(UNSUPPORTED, "state file %s has version %" PRIu32 ", this program reads version %d", reader->path, version,
                         STATE_FILE_VERSION);
    uint64_t body = reader->size_bytes - sizeof header - sizeof trailer;
    if (index_length > body || index_offset != sizeof header + body - index_length)
        return error_new(CORRUPT, "state file %s is damaged: its trailer does not fit its size", reader->path);
    uint8_t *index = heap_alloc(index_length + 1u);
    struct error *err = read_at(reader, index_offset, index, index_length);
    if (err == NULL && crc32c(crc32c(0, header, sizeof header), index, index_length) != reader->crc)
        err = error_new(CORRUPT, "state file %s is damaged: the section index has the wrong checksum", reader->path);
    if (err == NULL) {
        err = state_index_parse(index, index_length, index_offset, &reader->index);
        if (err != NULL)
            err = error_wrap(err, "state file %s is damaged", reader->path);
    }
    free(index);
    return err;
}

struct error *state_file_open(const char *path, struct state_file_reader **out)
{
    struct state_file_reader *reader = heap_new(struct state_file_reader);
    struct stat stat_buf;
    struct error *err = NULL;
    reader->path = heap_strdup(path);
    reader->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0)
        err = errno == ENOENT ? error_new(CORRUPT, "state file %s is missing", path) : error_errno(errno, "could not open the state file %s", path);
    else if (fstat(reader->fd, &stat_buf) != 0)
        err = error_errno(errno, "could not read the state file %s", path);
    else if (!S_ISREG(stat_buf.st_mode))
        err = error_new(CORRUPT, "%s is not a regular file", path);
    if (err == NULL) {
        reader->size_bytes = (uint64_t)stat_buf.st_size;
        err = read_index(reader);
    }
    if (err != NULL) {
        state_file_close(reader);
        return err;
    }
    *out = reader;
    return NULL;
}

void state_file_close(struct state_file_reader *reader)
{
    if (reader == NULL)
        return;
    if (reader->fd >= 0)
        close(reader->fd);
    state_index_finish(&reader->index);
    free(reader->path);
    free(reader);
}

struct error *state_file_read_chunk(const struct state_file_reader *reader, const struct state_section *section, const struct state_chunk *chunk,
                                    uint8_t **out)
{
    uint8_t *bytes = malloc(chunk->length + 1);
    if (bytes == NULL)
        return error_new(OUT_OF_MEMORY, "state file %s: no memory for the %" PRIu64 " bytes of section \"%s\"", reader->path,
                         chunk->length, section->name);
    struct error *err = read_at(reader, chunk->offset, bytes, (size_t)chunk->length);
    if (err == NULL && crc32c(0, bytes, (size_t)chunk->length) != chunk->crc)
        err = error_new(CORRUPT, "state file %s is damaged: section \"%s\" of operator %s has the wrong checksum (key group %" PRIu32 ")",
                        reader->path,
                        section->name, id_format(section->operator_id).hex, chunk->key_group);
    if (err != NULL) {
        free(bytes);
        return err;
    }
    *out = bytes;
    return NULL;
}

/* ---- entries ---- */

static uint32_t read_varint(struct bytes_reader *reader)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        uint8_t byte = bytes_read_u8(reader);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            if (value > UINT32_MAX)
                break;
            return (uint32_t)value;
        }
    }
    reader->failed = true;
    return 0;
}

bool state_file_entry_decode(struct bytes_reader *reader, struct state_file_entry *out)
{
    if (bytes_reader_left(reader) == 0)
        return false;
    out->key_length = read_varint(reader);
    out->namespace_length = read_varint(reader);
    out->value_length = read_varint(reader);
    out->hash = bytes_read_u64(reader);
    out->key = bytes_read(reader, out->key_length);
    out->name_space = bytes_read(reader, out->namespace_length);
    out->value = bytes_read(reader, out->value_length);
    return bytes_reader_ok(reader);
}
