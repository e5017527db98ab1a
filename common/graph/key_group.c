/* Key groups: the fixed slices of the key space that state is stored and moved by. Pure arithmetic.
 * source: Flink's KeyGroupRangeAssignment and MathUtils.murmurHash. */
#include "common/graph/job_graph.h"

#include "common/base/check.h"

#define KEY_GROUP_COUNT_MIN 128

static uint32_t rotate_left(uint32_t value, int bits)
{
    return value << bits | value >> (32 - bits);
}

/* One round of murmur3_32 over a 4-byte block with its final mix, made non-negative as Java code needs it. */
static uint32_t murmur_mix(uint32_t code)
{
    code *= UINT32_C(0xcc9e2d51);
    code = rotate_left(code, 15);
    code *= UINT32_C(0x1b873593);
    code = rotate_left(code, 13);
    code = code * 5 + UINT32_C(0xe6546b64);
    code ^= 4;
    code ^= code >> 16;
    code *= UINT32_C(0x85ebca6b);
    code ^= code >> 13;
    code *= UINT32_C(0xc2b2ae35);
    code ^= code >> 16;
    if (code == UINT32_C(0x80000000))
        return 0;
    return (code & UINT32_C(0x80000000)) != 0 ? 0 - code : code;
}

uint32_t key_group_of_hash(uint64_t hash, uint32_t max_parallelism)
{
    dcheck(max_parallelism > 0);
    return murmur_mix((uint32_t)(hash ^ hash >> 32)) % max_parallelism;
}

uint32_t key_group_owner(uint32_t key_group, uint32_t max_parallelism, uint32_t parallelism)
{
    dcheck(key_group < max_parallelism);
    return (uint32_t)((uint64_t)key_group * parallelism / max_parallelism);
}

void key_group_range(uint32_t subtask, uint32_t max_parallelism, uint32_t parallelism, uint32_t *first, uint32_t *last)
{
    dcheck(subtask < parallelism && parallelism <= max_parallelism);
    *first = (uint32_t)(((uint64_t)subtask * max_parallelism + parallelism - 1) / parallelism);
    *last = (uint32_t)((((uint64_t)subtask + 1) * max_parallelism - 1) / parallelism);
}

uint32_t max_parallelism_default(uint32_t parallelism)
{
    uint32_t wanted = parallelism + parallelism / 2;
    uint32_t power = KEY_GROUP_COUNT_MIN;
    while (power < wanted && power < PARALLELISM_MAX)
        power *= 2;
    return power;
}
