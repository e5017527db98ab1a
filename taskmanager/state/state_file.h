/* State files: the canonical form of a subtask's state in checkpoints and savepoints (ARCHITECTURE.md, "State").
 *
 *   u32 magic "MRST" | u32 version
 *   chunks, end to end: entries of one key group of a keyed section, or the items of a list or union section
 *   index: u32 section count; a section: operator id (16 bytes), name, u8 kind, meta (JSON), u32 chunk count; a chunk:
 *          u32 key group, u64 offset, u64 length, u64 items, u32 CRC-32C
 *   trailer: u64 index offset | u32 index length | u32 CRC-32C of header and index | u32 version | u32 magic
 *
 * Every byte is under a checksum; the trailer's checksum is the file's ("crc" of the handle), since the index holds the chunks'.
 * An entry: varints key length, namespace length, value length; u64 hash; key, namespace, value. An item: u32 length, bytes.
 * Thread: a writer belongs to one worker, a reader to one task. */
#ifndef MILLRACE_STATE_STATE_FILE_H
#define MILLRACE_STATE_STATE_FILE_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/id.h"

#include <jansson.h>
#include <stdint.h>
#include <string.h>

#define STATE_FILE_MAGIC UINT32_C(0x5453524d)
#define STATE_FILE_VERSION 1
#define STATE_FILE_HEADER_BYTES 8
#define STATE_FILE_TRAILER_BYTES 24

enum state_kind { STATE_KEYED, STATE_LIST, STATE_UNION, STATE_CHANNEL, STATE_KIND_COUNT };
/* "keyed", "list", "union", "channel". */
const char *state_kind_name(enum state_kind kind);

struct state_chunk {
    uint32_t key_group;
    uint32_t crc;
    uint64_t offset;
    uint64_t length;
    uint64_t items;
};

struct state_section {
    struct id operator_id;
    char *name;
    enum state_kind kind;
    json_t *meta; /* never NULL */
    struct state_chunk *chunks;
    uint32_t chunk_count;
    uint32_t chunk_capacity;
};

struct state_index {
    struct state_section *sections;
    uint32_t section_count;
};
void state_index_finish(struct state_index *index);
uint64_t state_section_items(const struct state_section *section);

/* ---- writing ---- */

struct state_file_writer;
/* Makes the directory if needed and a temporary file in it. */
MUST_CHECK struct error *state_file_create(const char *directory, const char *file_name, struct state_file_writer **out);
/* Takes meta (NULL: empty object). Sections and chunks end where the next begins. */
void state_file_begin_section(struct state_file_writer *writer, struct id operator_id, const char *name, enum state_kind kind, json_t *meta);
MUST_CHECK struct error *state_file_begin_chunk(struct state_file_writer *writer, uint32_t key_group);
/* Room for at least length bytes in the chunk; state_file_append counts those that were used, as that many items. */
MUST_CHECK struct error *state_file_reserve(struct state_file_writer *writer, size_t length, uint8_t **out);
void state_file_append(struct state_file_writer *writer, size_t length, uint64_t items);
/* Index, trailer, sync, rename, sync of the directory. */
MUST_CHECK struct error *state_file_commit(struct state_file_writer *writer, uint64_t *size_bytes, uint32_t *crc);
/* Removes the temporary file unless committed, frees everything. Accepts NULL. The index is valid until then. */
void state_file_destroy(struct state_file_writer *writer);
const struct state_index *state_file_index(const struct state_file_writer *writer);

/* ---- reading ---- */

struct state_file_reader {
    int fd;
    char *path;
    uint64_t size_bytes;
    uint32_t crc;
    struct state_index index;
};
/* Reads and verifies header, trailer and index. Damage is ERR_CORRUPT and names the file. */
MUST_CHECK struct error *state_file_open(const char *path, struct state_file_reader **out);
void state_file_close(struct state_file_reader *reader);
/* The verified bytes of a chunk; malloced, caller frees (never NULL). */
MUST_CHECK struct error *state_file_read_chunk(const struct state_file_reader *reader, const struct state_section *section,
                                               const struct state_chunk *chunk, uint8_t **out);
/* Parses the index part; chunks must lie in [header, data_end). For state_file_open and the fuzzer. */
MUST_CHECK struct error *state_index_parse(const void *bytes, size_t length, uint64_t data_end, struct state_index *out);

/* ---- entries in a chunk ---- */

struct state_file_entry {
    uint64_t hash;
    const uint8_t *key;
    const uint8_t *name_space;
    const uint8_t *value;
    uint32_t key_length;
    uint32_t namespace_length;
    uint32_t value_length;
};
/* Three lengths and the hash: no more than a state_entry has before its data. */
#define STATE_FILE_ENTRY_OVERHEAD_MAX 24
/* Writes what comes before the contents (key, namespace, value); gives the place of the contents. */
static inline uint8_t *state_file_entry_begin(uint8_t *to, uint64_t hash, uint32_t key_length, uint32_t namespace_length, uint32_t value_length)
{
    const uint32_t lengths[] = {key_length, namespace_length, value_length};
    for (int i = 0; i < 3; i++) {
        uint32_t length = lengths[i];
        for (; length >= 0x80; length >>= 7)
            *to++ = (uint8_t)(length | 0x80);
        *to++ = (uint8_t)length;
    }
    memcpy(to, &hash, sizeof hash);
    return to + sizeof hash;
}
/* False at the end; also after a malformed entry, which leaves the reader failed. */
bool state_file_entry_decode(struct bytes_reader *reader, struct state_file_entry *out);

#endif
