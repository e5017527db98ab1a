/* Control-plane hash map: see hash_map.h. */
#include "common/base/hash_map.h"

#include "common/base/heap.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static size_t find_slot(const struct hash_map *map, const void *key, size_t key_length, uint64_t hash)
{
    size_t slot = hash & (map->slot_count - 1);
    while (map->slots[slot] != 0) {
        const struct hash_map_entry *entry = &map->entries[map->slots[slot] - 1];
        if (entry->hash == hash && entry->key_length == key_length && memcmp(entry->key, key, key_length) == 0)
            break;
        slot = (slot + 1) & (map->slot_count - 1);
    }
    return slot;
}

static void rebuild_slots(struct hash_map *map, size_t slot_count)
{
    free(map->slots);
    map->slots = heap_alloc_array(slot_count, sizeof *map->slots);
    map->slot_count = slot_count;
    for (size_t i = 0; i < map->count; i++) {
        size_t slot = map->entries[i].hash & (slot_count - 1);
        while (map->slots[slot] != 0)
            slot = (slot + 1) & (slot_count - 1);
        map->slots[slot] = (uint32_t)i + 1;
    }
}

void *hash_map_get(const struct hash_map *map, const void *key, size_t key_length)
{
    if (map->count == 0)
        return NULL;
    size_t slot = find_slot(map, key, key_length, XXH3_64bits(key, key_length));
    return map->slots[slot] != 0 ? map->entries[map->slots[slot] - 1].value : NULL;
}

void *hash_map_put(struct hash_map *map, const void *key, size_t key_length, void *value)
{
    uint64_t hash = XXH3_64bits(key, key_length);
    if ((map->count + 1) * 4 > map->slot_count * 3)
        rebuild_slots(map, map->slot_count != 0 ? map->slot_count * 2 : 16);
    size_t slot = find_slot(map, key, key_length, hash);
    if (map->slots[slot] != 0) {
        struct hash_map_entry *entry = &map->entries[map->slots[slot] - 1];
        void *before = entry->value;
        entry->value = value;
        return before;
    }
    if (map->count == map->capacity) {
        map->capacity = map->capacity != 0 ? map->capacity * 2 : 8;
        map->entries = heap_realloc(map->entries, map->capacity, sizeof *map->entries);
    }
    map->entries[map->count] = (struct hash_map_entry){heap_memdup(key, key_length), key_length, value, hash};
    map->slots[slot] = (uint32_t)++map->count;
    return NULL;
}

/* Linear probing without tombstones: what follows in the run moves up into the gap (Knuth, TAOCP 6.4, algorithm R). */
static void close_gap(struct hash_map *map, size_t gap)
{
    size_t mask = map->slot_count - 1;
    for (size_t next = (gap + 1) & mask; map->slots[next] != 0; next = (next + 1) & mask) {
        size_t home = map->entries[map->slots[next] - 1].hash & mask;
        if (((next - home) & mask) >= ((next - gap) & mask)) {
            map->slots[gap] = map->slots[next];
            gap = next;
        }
    }
    map->slots[gap] = 0;
}

void *hash_map_remove(struct hash_map *map, const void *key, size_t key_length)
{
    if (map->count == 0)
        return NULL;
    size_t slot = find_slot(map, key, key_length, XXH3_64bits(key, key_length));
    if (map->slots[slot] == 0)
        return NULL;
    size_t index = map->slots[slot] - 1;
    size_t last = map->count - 1;
    void *value = map->entries[index].value;
    close_gap(map, slot);
    free(map->entries[index].key);
    if (index != last) {
        const struct hash_map_entry *moved = &map->entries[last];
        map->slots[find_slot(map, moved->key, moved->key_length, moved->hash)] = (uint32_t)index + 1;
        map->entries[index] = *moved;
    }
    map->count = last;
    return value;
}

void *hash_map_get_text(const struct hash_map *map, const char *key)
{
    return hash_map_get(map, key, strlen(key));
}

void *hash_map_put_text(struct hash_map *map, const char *key, void *value)
{
    return hash_map_put(map, key, strlen(key), value);
}

void hash_map_finish(struct hash_map *map)
{
    for (size_t i = 0; i < map->count; i++)
        free(map->entries[i].key);
    free(map->entries);
    free(map->slots);
    *map = (struct hash_map){0};
}
