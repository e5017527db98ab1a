/* The hash of a row: a fold over its key fields, the same on every machine, for batch columns (batch_hash_rows) and for
 * encoded rows (row_codec_hash). State files store these hashes: never change them.
 * A step is a 64x64 -> 128 bit multiplication folded by xor (the "mum" of Wang Yi's wyhash, public domain). */
#ifndef MILLRACE_COLUMNAR_ROW_HASH_H
#define MILLRACE_COLUMNAR_ROW_HASH_H

#include <stdint.h>

#define ROW_HASH_SEED UINT64_C(0x9e3779b97f4a7c15)
#define ROW_HASH_NULL UINT64_C(0x6e756c6c6e756c6c)

static inline uint64_t row_hash_fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (__extension__(unsigned __int128)a) * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* One fixed-width field: integers sign-extended to 64 bits, floating point by its bits, a long text by its XXH3. */
static inline uint64_t row_hash_word(uint64_t hash, uint64_t word)
{
    return row_hash_fold(word ^ UINT64_C(0xa0761d6478bd642f), hash ^ UINT64_C(0xe7037ed1a0b428db));
}

/* A text of at most 12 bytes: the two words of its view (length and 4 bytes, 8 bytes; zero-padded). */
static inline uint64_t row_hash_short_text(uint64_t hash, uint64_t low, uint64_t high)
{
    return row_hash_fold(low ^ UINT64_C(0x8ebc6af09c88c6e3), high ^ hash ^ UINT64_C(0x589965cc75374cc3));
}

#endif
