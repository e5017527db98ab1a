/* Writing state files: see state_file.h. Sequential writes of large blocks to a temporary name; nothing is visible before
 * the file is complete and synced. Thread: one worker. */
#include "common/base/crc32c.h"
#include "common/base/heap.h"
#include "taskmanager/state/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Checksum and write find the block in the second cache. */
#define BLOCK_BYTES ((size_t)1 << 18)

struct state_file_writer {
    int fd;
    char *directory;
    char *path;
    char *temporary_path;
    bool is_committed;
    uint8_t *block;
    size_t block_used;
    size_t block_capacity;
    size_t block_summed; /* bytes of the block that are in their chunk's checksum, or in no chunk */
    uint64_t offset; /* of the block in the file */
    struct state_index index;
    struct state_chunk *chunk; /* the open one, or NULL */
};

const char *state_kind_name(enum state_kind kind)
{
    static const char *const names[STATE_KIND_COUNT] = {"keyed", "list", "union", "channel"};
    return names[kind];
}

void state_index_finish(struct state_index *index)
{
    for (uint32_t i = 0; i < index->section_count; i++) {
        free(index->sections[i].name);
        json_decref(index->sections[i].meta);
        free(index->sections[i].chunks);
    }
    free(index->sections);
    *index = (struct state_index){0};
}

uint64_t state_section_items(const struct state_section *section)
{
    uint64_t items = 0;
    for (uint32_t i = 0; i < section->chunk_count; i++)
        items += section->chunks[i].items;
    return items;
}

/* mkdir -p; a directory that another subtask makes at the same time is fine. */
static struct error *make_directories(const char *directory)
{
    if (mkdir(directory, 0755) == 0 || errno == EEXIST)
        return NULL;
    char *path = heap_strdup(directory);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755); /* the last one decides */
        *slash = '/';
    }
    free(path);
    if (mkdir(directory, 0755) == 0 || errno == EEXIST)
        return NULL;
    return error_errno(errno, "could not create the checkpoint directory %s", directory);
}

struct error *state_file_create(const char *directory, const char *file_name, struct state_file_writer **out)
{
    TRY(make_directories(directory));
    struct state_file_writer *writer = heap_new(struct state_file_writer);
    writer->directory = heap_strdup(directory);
    writer->path = heap_printf("%s/%s", directory, file_name);
    writer->temporary_path = heap_printf("%s/.%s.tmp", directory, file_name);
    writer->fd = open(writer->temporary_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (writer->fd < 0) {
        struct error *err = error_errno(errno, "could not create the state file %s", writer->temporary_path);
        writer->is_committed = true; /* nothing to remove */
        state_file_destroy(writer);
        return err;
    }
    writer->block = heap_alloc(BLOCK_BYTES);
    writer->block_capacity = BLOCK_BYTES;
    uint32_t header[2] = {STATE_FILE_MAGIC, STATE_FILE_VERSION};
    memcpy(writer->block, header, sizeof header);
    writer->block_used = writer->block_summed = sizeof header;
    *out = writer;
    return NULL;
}

void state_file_destroy(struct state_file_writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->fd >= 0)
        close(writer->fd);
    if (!writer->is_committed)
        unlink(writer->temporary_path);
    state_index_finish(&writer->index);
    free(writer->block);
    free(writer->directory);
    free(writer->path);
    free(writer->temporary_path);
    free(writer);
}

const struct state_index *state_file_index(const struct state_file_writer *writer)
{
    return &writer->index;
}

static struct error *write_all(struct state_file_writer *writer, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(writer->fd, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return error_errno(errno, "could not write %zu bytes to the state file %s", length, writer->temporary_path);
        if (written == 0)
            return error_errno(ENOSPC, "could not write %zu bytes to the state file %s", length, writer->temporary_path);
        bytes += written;
        length -= (size_t)written;
    }
    return NULL;
}

/* What was appended to the open chunk goes into its checksum: a block at a time, not an entry at a time. */
static void sum_block(struct state_file_writer *writer)
{
    if (writer->chunk != NULL)
        writer->chunk->crc = crc32c(writer->chunk->crc, writer->block + writer->block_summed, writer->block_used - writer->block_summed);
    writer->block_summed = writer->block_used;
}

static struct error *flush_block(struct state_file_writer *writer)
{
    sum_block(writer);
    TRY(write_all(writer, writer->block, writer->block_used));
    writer->offset += writer->block_used;
    writer->block_used = writer->block_summed = 0;
    return NULL;
}

void state_file_begin_section(struct state_file_writer *writer, struct id operator_id, const char *name, enum state_kind kind, json_t *meta)
{
    struct state_index *index = &writer->index;
    sum_block(writer);
    if ((index->section_count & (index->section_count - 1)) == 0) /* full: room for as many again */
        index->sections = heap_realloc(index->sections, index->section_count > 0 ? 2 * (size_t)index->section_count : 1, sizeof *index->sections);
    index->sections[index->section_count++] = (struct state_section){
        .operator_id = operator_id, .name = heap_strdup(name), .kind = kind, .meta = meta != NULL ? meta : json_object()};
    writer->chunk = NULL;
}

struct error *state_file_begin_chunk(struct state_file_writer *writer, uint32_t key_group)
{
    struct state_section *section = &writer->index.sections[writer->index.section_count - 1];
    sum_block(writer);
    if (section->chunk_count == section->chunk_capacity) {
        section->chunk_capacity = section->chunk_capacity != 0 ? section->chunk_capacity * 2 : 4;
        section->chunks = heap_realloc(section->chunks, section->chunk_capacity, sizeof *section->chunks);
    }
    writer->chunk = &section->chunks[section->chunk_count++];
    *writer->chunk = (struct state_chunk){.key_group = key_group, .offset = writer->offset + writer->block_used};
    return NULL;
}

struct error *state_file_reserve(struct state_file_writer *writer, size_t length, uint8_t **out)
{
    if (writer->block_capacity - writer->block_used < length) {
        TRY(flush_block(writer));
        if (writer->block_capacity < length) {
            writer->block = heap_realloc(writer->block, length, 1);
            writer->block_capacity = length;
        }
    }
    *out = writer->block + writer->block_used;
    return NULL;
}

void state_file_append(struct state_file_writer *writer, size_t length, uint64_t items)
{
    struct state_chunk *chunk = writer->chunk;
    chunk->length += length;
    chunk->items += items;
    writer->block_used += length;
}

static void encode_index(const struct state_index *index, struct bytes_writer *out)
{
    bytes_write_u32(out, index->section_count);
    for (uint32_t i = 0; i < index->section_count; i++) {
        const struct state_section *section = &index->sections[i];
        char *meta = json_dumps(section->meta, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
        bytes_write(out, section->operator_id.bytes, sizeof section->operator_id.bytes);
        bytes_write_text(out, section->name);
        bytes_write_u8(out, (uint8_t)section->kind);
        bytes_write_text(out, meta != NULL ? meta : "{}");
        free(meta);
        bytes_write_u32(out, section->chunk_count);
        for (uint32_t c = 0; c < section->chunk_count; c++) {
            const struct state_chunk *chunk = &section->chunks[c];
            bytes_write_u32(out, chunk->key_group);
            bytes_write_u64(out, chunk->offset);
            bytes_write_u64(out, chunk->length);
            bytes_write_u64(out, chunk->items);
            bytes_write_u32(out, chunk->crc);
        }
    }
}

static struct error *write_index(struct state_file_writer *writer, uint64_t *size_bytes, uint32_t *crc)
{
    const uint32_t header[2] = {STATE_FILE_MAGIC, STATE_FILE_VERSION};
    struct bytes_writer tail = {0};
    TRY(flush_block(writer));
    encode_index(&writer->index, &tail);
    uint32_t index_length = (uint32_t)tail.length;
    uint32_t index_crc = crc32c(crc32c(0, header, sizeof header), tail.data, tail.length);
    bytes_write_u64(&tail, writer->offset);
    bytes_write_u32(&tail, index_length);
    bytes_write_u32(&tail, index_crc);
    bytes_write_u32(&tail, STATE_FILE_VERSION);
    bytes_write_u32(&tail, STATE_FILE_MAGIC);
    struct error *err = write_all(writer, tail.data, tail.length);
    if (err == NULL) {
        *size_bytes = writer->offset + tail.length;
        *crc = index_crc;
    }
    bytes_writer_finish(&tail);
    return err;
}

static struct error *sync_directory(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(errno, "could not open the checkpoint directory %s", directory);
    int result = fsync(fd), saved = errno;
    close(fd);
    return result == 0 ? NULL : error_errno(saved, "could not sync the checkpoint directory %s", directory);
}

struct error *state_file_commit(struct state_file_writer *writer, uint64_t *size_bytes, uint32_t *crc)
{
    uint64_t size = 0;
    uint32_t file_crc = 0;
    TRY(write_index(writer, &size, &file_crc));
    if (fdatasync(writer->fd) != 0)
        return error_errno(errno, "could not sync the state file %s", writer->temporary_path);
    int closed = close(writer->fd);
    writer->fd = -1;
    if (closed != 0)
        return error_errno(errno, "could not close the state file %s", writer->temporary_path);
    if (rename(writer->temporary_path, writer->path) != 0)
        return error_errno(errno, "could not rename the state file %s", writer->temporary_path);
    writer->is_committed = true;
    struct error *err = sync_directory(writer->directory);
    if (err != NULL) {
        unlink(writer->path);
        return err;
    }
    *size_bytes = size;
    *crc = file_crc;
    return NULL;
}
