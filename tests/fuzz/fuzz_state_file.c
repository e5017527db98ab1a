/* Fuzz target: state files. The first byte says what the rest is: a whole file; a file whose checksums are made right (so
 * that what lies behind them is reached); the entries of a chunk. A file that opens is restored into tables of several kinds. */
#include "taskmanager/state/snapshot.h"
#include "taskmanager/state/state_file.h"
#include "taskmanager/state/state_table.h"

#include "common/base/crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Chunks first, then the index, as far as both can be found. */
static void repair_checksums(uint8_t *bytes, size_t size)
{
    uint64_t index_offset;
    uint32_t index_length, crc;
    struct state_index index;
    if (size < STATE_FILE_HEADER_BYTES + STATE_FILE_TRAILER_BYTES)
        return;
    uint8_t *trailer = bytes + size - STATE_FILE_TRAILER_BYTES;
    memcpy(&index_offset, trailer, sizeof index_offset);
    memcpy(&index_length, trailer + 8, sizeof index_length);
    if (index_offset > size - STATE_FILE_TRAILER_BYTES || index_length != size - STATE_FILE_TRAILER_BYTES - index_offset)
        return;
    struct error *err = state_index_parse(bytes + index_offset, index_length, index_offset, &index);
    if (err == NULL) {
        /* A chunk's 32 bytes in the index are found by their contents. */
        for (uint32_t s = 0; s < index.section_count; s++)
            for (uint32_t c = 0; c < index.sections[s].chunk_count; c++) {
                const struct state_chunk *chunk = &index.sections[s].chunks[c];
                uint8_t wanted[28];
                memcpy(wanted, &chunk->key_group, 4);
                memcpy(wanted + 4, &chunk->offset, 8);
                memcpy(wanted + 12, &chunk->length, 8);
                memcpy(wanted + 20, &chunk->items, 8);
                uint8_t *at = memmem(bytes + index_offset, index_length, wanted, sizeof wanted);
                crc = crc32c(0, bytes + chunk->offset, (size_t)chunk->length);
                if (at != NULL && at + 32 <= trailer)
                    memcpy(at + 28, &crc, sizeof crc);
            }
        state_index_finish(&index);
    }
    error_free(err);
    crc = crc32c(crc32c(0, bytes, STATE_FILE_HEADER_BYTES), bytes + index_offset, index_length);
    memcpy(trailer + 12, &crc, sizeof crc);
}

static struct error *ignore_item(void *arg, const void *bytes, size_t length)
{
    volatile uint8_t *sum = arg;
    for (size_t i = 0; i < length; i++)
        *sum = (uint8_t)(*sum + ((const uint8_t *)bytes)[i]);
    return NULL;
}

static void load_tables(struct restored_state *state, const char *name)
{
    static const char *const field_names[] = {"count", "page"};
    for (int kind = 0; kind < 3; kind++) {
        char names[2][8];
        struct field fields[2];
        for (int i = 0; i < 2; i++) {
            strcpy(names[i], field_names[i]);
            fields[i] = (struct field){names[i], i == 0 ? TYPE_INT64 : TYPE_STRING, i == 1};
        }
        struct schema *value = schema_create(fields, kind == 2 ? 1 : 2), *key = schema_create(&fields[1], 1);
        struct state_table *table = state_table_create(
            &(struct state_table_options){.key_group_last = 127,
                                          .key_schema = kind == 1 ? key : NULL,
                                          .value_schema = kind != 0 ? value : NULL,
                                          .value_form = kind == 0 ? STATE_VALUE_BYTES : kind == 1 ? STATE_VALUE_ROW : STATE_VALUE_RECORD});
        error_free(restored_state_load(state, name, table));
        state_table_destroy(table);
        schema_unref(value);
        schema_unref(key);
    }
}

static void restore_all(const char *directory, const char *path)
{
    struct state_file_reader *file = NULL;
    struct error *err = state_file_open(path, &file);
    for (uint32_t s = 0; err == NULL && s < file->index.section_count && s < 8; s++) {
        const struct state_section *section = &file->index.sections[s];
        struct restored_state *state = NULL;
        uint8_t sum = 0;
        json_t *handles = json_pack("[{s:s, s:s}]", "operator", id_format(section->operator_id).hex, "path", strrchr(path, '/') + 1);
        struct error *open_err = restored_state_open(directory, handles, section->operator_id, 0, 1, 0, 127, &state);
        json_decref(handles);
        if (open_err == NULL) {
            load_tables(state, section->name);
            error_free(restored_state_items(state, section->name, ignore_item, &sum));
            json_decref(restored_state_tables(state));
        }
        error_free(open_err);
        restored_state_close(state);
    }
    error_free(err);
    state_file_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 3 == 2) {
        struct bytes_reader reader = bytes_reader_on(data + 1, size - 1);
        struct state_file_entry entry;
        uint8_t sum = 0;
        while (state_file_entry_decode(&reader, &entry))
            error_free(ignore_item(&sum, entry.value, entry.value_length));
        return 0;
    }
    uint8_t *bytes = malloc(size);
    memcpy(bytes, data + 1, size - 1);
    if (data[0] % 3 == 1)
        repair_checksums(bytes, size - 1);
    char path[] = "/tmp/fuzz_state_file.XXXXXX";
    int fd = mkstemp(path);
    if (fd >= 0) {
        ssize_t written = write(fd, bytes, size - 1);
        close(fd);
        if (written == (ssize_t)(size - 1))
            restore_all("/tmp", path);
        unlink(path);
    }
    free(bytes);
    return 0;
}
