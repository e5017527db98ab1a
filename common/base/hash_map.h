/* A map from byte strings to pointers for the control plane: open addressing, keys are copied. Iteration order is the
 * order of insertion as long as nothing was removed. Zero-initialised is an empty map. Not for the data plane. */
#ifndef MILLRACE_BASE_HASH_MAP_H
#define MILLRACE_BASE_HASH_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash_map_entry {
    void *key;
    size_t key_length;
    void *value;
    uint64_t hash;
};

struct hash_map {
    struct hash_map_entry *entries; /* dense, count of them; read-only outside */
    size_t count;
    size_t capacity;
    uint32_t *slots; /* index + 1 into entries; 0 is free */
    size_t slot_count;
};

/* NULL when absent. */
void *hash_map_get(const struct hash_map *map, const void *key, size_t key_length);
void *hash_map_get_text(const struct hash_map *map, const char *key);
/* Returns the value that was there before, or NULL. value must not be NULL. */
void *hash_map_put(struct hash_map *map, const void *key, size_t key_length, void *value);
void *hash_map_put_text(struct hash_map *map, const char *key, void *value);
/* Returns the removed value, or NULL. The last entry moves into the gap. */
void *hash_map_remove(struct hash_map *map, const void *key, size_t key_length);
/* Frees keys and tables, not the values. */
void hash_map_finish(struct hash_map *map);

#endif
