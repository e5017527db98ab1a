/* Row hashes of a batch (batch.h, row_hash.h): one pass per key column over an array of running hashes. */
#include "common/columnar/batch.h"
#include "common/columnar/row_hash.h"

#include <xxhash.h>

static inline uint64_t is_valid(const uint8_t *validity, uint32_t row)
{
    return (uint64_t)(validity[row >> 3] >> (row & 7) & 1);
}

/* Without nulls a plain loop; with nulls the null's word is selected without a branch. */
#define HASH_COLUMN(name, type, to_word)                                                                               \
    static void name(uint64_t *restrict hashes, const type *restrict values, const uint8_t *validity, uint32_t count)  \
    {                                                                                                                  \
        if (validity == NULL) {                                                                                        \
            for (uint32_t i = 0; i < count; i++)                                                                       \
                hashes[i] = row_hash_word(hashes[i], to_word(values[i]));                                              \
        } else {                                                                                                       \
            for (uint32_t i = 0; i < count; i++) {                                                                     \
                uint64_t mask = 0 - is_valid(validity, i);                                                             \
                hashes[i] = row_hash_word(hashes[i], (to_word(values[i]) & mask) | (ROW_HASH_NULL & ~mask));           \
            }                                                                                                          \
        }                                                                                                              \
    }

#define SIGNED_WORD(value) ((uint64_t)(int64_t)(value))
#define BITS_WORD(value) ((uint64_t)(value))

HASH_COLUMN(hash_int8, int8_t, SIGNED_WORD)
HASH_COLUMN(hash_int16, int16_t, SIGNED_WORD)
HASH_COLUMN(hash_int32, int32_t, SIGNED_WORD)
HASH_COLUMN(hash_int64, int64_t, SIGNED_WORD)
HASH_COLUMN(hash_bits32, uint32_t, BITS_WORD)

static void hash_bool(uint64_t *hashes, const uint8_t *bits, const uint8_t *validity, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word = bits[i >> 3] >> (i & 7) & 1;
        hashes[i] = row_hash_word(hashes[i], validity == NULL || is_valid(validity, i) ? word : ROW_HASH_NULL);
    }
}

static uint64_t hash_view(uint64_t hash, const struct column *column, const struct string_view *view)
{
    if (view->length <= STRING_VIEW_INLINE_MAX) {
        uint64_t words[2];
        memcpy(words, view, sizeof words);
        return row_hash_short_text(hash, words[0], words[1]);
    }
    return row_hash_word(hash, XXH3_64bits(string_view_text(column, view), view->length));
}

static void hash_text(uint64_t *restrict hashes, const struct column *column, uint32_t count)
{
    const struct string_view *views = column->values;
    if (column->validity == NULL && column->text_buffer_count == 0) { /* all inlined */
        for (uint32_t i = 0; i < count; i++) {
            uint64_t words[2];
            memcpy(words, &views[i], sizeof words);
            hashes[i] = row_hash_short_text(hashes[i], words[0], words[1]);
        }
    } else if (column->validity == NULL) {
        for (uint32_t i = 0; i < count; i++)
            hashes[i] = hash_view(hashes[i], column, &views[i]);
    } else {
        for (uint32_t i = 0; i < count; i++)
            hashes[i] = is_valid(column->validity, i) ? hash_view(hashes[i], column, &views[i]) : row_hash_word(hashes[i], ROW_HASH_NULL);
    }
}

static void hash_column(uint64_t *hashes, const struct column *column, enum data_type type, uint32_t count)
{
    const void *values = column->values;
    switch (type) {
    case TYPE_BOOLEAN: hash_bool(hashes, values, column->validity, count); break;
    case TYPE_INT8: hash_int8(hashes, values, column->validity, count); break;
    case TYPE_INT16: hash_int16(hashes, values, column->validity, count); break;
    case TYPE_INT32:
    case TYPE_DATE: hash_int32(hashes, values, column->validity, count); break;
    case TYPE_FLOAT: hash_bits32(hashes, values, column->validity, count); break;
    case TYPE_INT64:
    case TYPE_TIMESTAMP:
    case TYPE_DOUBLE: hash_int64(hashes, values, column->validity, count); break;
    case TYPE_STRING:
    case TYPE_BYTES: hash_text(hashes, column, count); break;
    case DATA_TYPE_COUNT: break;
    }
}

void batch_hash_rows(const struct batch *batch, const uint32_t *key_columns, uint32_t key_count, uint64_t *hashes)
{
    for (uint32_t i = 0; i < batch->row_count; i++)
        hashes[i] = ROW_HASH_SEED;
    for (uint32_t k = 0; k < key_count; k++)
        hash_column(hashes, &batch->columns[key_columns[k]], batch->schema->fields[key_columns[k]].type, batch->row_count);
}
