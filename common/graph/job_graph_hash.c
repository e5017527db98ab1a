/* Operator ids, equal to Flink's for the same graph, so that people and tools find the vertex ids they know.
 * An operator with a uid gets the hash of the uid; any other one the hash of its place: how many operators were numbered
 * before it, how many it is chained to, and the ids of its inputs.
 * source: Flink's StreamGraphHasherV2; Guava's Hashing.murmur3_128(0). Pure functions. */
#include "common/graph/job_graph_internal.h"

#include "common/base/bytes.h"
#include "common/base/heap.h"
#include "common/base/vec.h"

#include <stdlib.h>
#include <string.h>

#define C1 UINT64_C(0x87c37b91114253d5)
#define C2 UINT64_C(0x4cf5ad432745937f)

static uint64_t rotate_left(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

static uint64_t final_mix(uint64_t k)
{
    k ^= k >> 33;
    k *= UINT64_C(0xff51afd7ed558ccd);
    k ^= k >> 33;
    k *= UINT64_C(0xc4ceb9fe1a85ec53);
    k ^= k >> 33;
    return k;
}

static uint64_t mix_k1(uint64_t k)
{
    return rotate_left(k * C1, 31) * C2;
}

static uint64_t mix_k2(uint64_t k)
{
    return rotate_left(k * C2, 33) * C1;
}

/* Up to 8 bytes, little-endian, missing ones are zero. */
static uint64_t load(const uint8_t *bytes, size_t count)
{
    uint64_t value = 0;
    for (size_t i = 0; i < count && i < 8; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

struct id murmur3_128(const void *data, size_t length)
{
    const uint8_t *bytes = data;
    uint64_t h1 = 0, h2 = 0;
    size_t left = length;
    for (; left >= 16; left -= 16, bytes += 16) {
        h1 ^= mix_k1(load(bytes, 8));
        h1 = (rotate_left(h1, 27) + h2) * 5 + 0x52dce729;
        h2 ^= mix_k2(load(bytes + 8, 8));
        h2 = (rotate_left(h2, 31) + h1) * 5 + 0x38495ab5;
    }
    if (left > 8)
        h2 ^= mix_k2(load(bytes + 8, left - 8));
    if (left > 0)
        h1 ^= mix_k1(load(bytes, left));
    h1 ^= length;
    h2 ^= length;
    h1 += h2;
    h2 += h1;
    h1 = final_mix(h1);
    h2 = final_mix(h2);
    h1 += h2;
    h2 += h1;
    struct id id;
    for (int i = 0; i < 8; i++) {
        id.bytes[i] = (uint8_t)(h1 >> (8 * i));
        id.bytes[8 + i] = (uint8_t)(h2 >> (8 * i));
    }
    return id;
}

static struct id position_hash(const struct job_graph *graph, uint32_t index, uint32_t numbered_count)
{
    struct bytes_writer writer = {0};
    bytes_write_u32(&writer, numbered_count);
    for (uint32_t target = 0; target < graph->operator_count; target++) {
        for (uint32_t i = 0; i < graph->operators[target].input_count; i++) {
            if (graph->operators[target].inputs[i].source == index && job_graph_is_chainable(graph, target, i))
                bytes_write_u32(&writer, numbered_count);
        }
    }
    struct id id = murmur3_128(writer.data, writer.length);
    bytes_writer_finish(&writer);
    const struct job_operator *op = &graph->operators[index];
    for (uint32_t i = 0; i < op->input_count; i++) {
        const struct id *input = &graph->operators[op->inputs[i].source].id;
        for (size_t byte = 0; byte < sizeof id.bytes; byte++)
            id.bytes[byte] = (uint8_t)((unsigned)id.bytes[byte] * 37u ^ input->bytes[byte]);
    }
    return id;
}

static bool has_numbered_inputs(const struct job_graph *graph, uint32_t index, const bool *is_numbered)
{
    const struct job_operator *op = &graph->operators[index];
    for (uint32_t i = 0; i < op->input_count; i++) {
        if (!is_numbered[op->inputs[i].source])
            return false;
    }
    return true;
}

static struct error *check_collision(const struct job_graph *graph, uint32_t index, const bool *is_numbered)
{
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        if (is_numbered[i] && i != index && id_equals(graph->operators[i].id, graph->operators[index].id))
            return error_with_hint(error_new(INVALID_PROGRAM, "operators \"%s\" and \"%s\" have the same uid \"%s\"",
                                             graph->operators[i].name, graph->operators[index].name,
                                             graph->operators[index].uid != NULL ? graph->operators[index].uid : ""),
                                   "give every operator a uid of its own");
    }
    return NULL;
}

/* Breadth first from the sources; an operator whose inputs are not all numbered is met again through the last of them. */
struct error *job_graph_assign_ids(struct job_graph *graph)
{
    struct error *err = NULL;
    uint32_t numbered_count = 0;
    bool *is_numbered = heap_alloc_array(graph->operator_count, sizeof *is_numbered);
    bool *is_visited = heap_alloc_array(graph->operator_count, sizeof *is_visited);
    VEC(uint32_t) queue = {0};
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        if (graph->operators[i].input_count == 0) {
            vec_push(&queue, i);
            is_visited[i] = true;
        }
    }
    for (size_t head = 0; head < queue.count; head++) {
        uint32_t index = queue.items[head];
        struct job_operator *op = &graph->operators[index];
        if (op->uid == NULL && !has_numbered_inputs(graph, index, is_numbered)) {
            is_visited[index] = false;
            continue;
        }
        op->id = op->uid != NULL ? murmur3_128(op->uid, strlen(op->uid)) : position_hash(graph, index, numbered_count);
        TRY_GOTO(done, check_collision(graph, index, is_numbered));
        is_numbered[index] = true;
        numbered_count++;
        for (uint32_t target = 0; target < graph->operator_count; target++) {
            const struct job_operator *next = &graph->operators[target];
            for (uint32_t i = 0; i < next->input_count; i++) {
                if (next->inputs[i].source == index && !is_visited[target]) {
                    vec_push(&queue, target);
                    is_visited[target] = true;
                }
            }
        }
    }
done:
    vec_finish(&queue);
    free(is_numbered);
    free(is_visited);
    return err;
}
