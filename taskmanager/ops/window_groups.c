/* Rows of a batch by key: see window_groups.h. A small table of the groups seen last, by hash, that is never cleared: a slot counts
 * when it names a group of this batch with the same hash. Thread: task. Owner: the window function. */
#include "taskmanager/ops/window_groups.h"

#include "common/base/heap.h"
#include "common/columnar/batch.h"

#include <stdlib.h>
#include <string.h>

#define SKIP_ROWS_MIN 256u /* fewer rows say nothing about the stream */
#define SKIP_BATCHES 64u

void window_groups_init(struct window_groups *self)
{
    *self = (struct window_groups){0};
    self->of_row = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->of_row);
    self->rows = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->rows);
    self->groups = heap_alloc_array(BATCH_ROWS_MAX, sizeof *self->groups);
}

void window_groups_finish(struct window_groups *self)
{
    free(self->of_row);
    free(self->rows);
    free(self->groups);
    *self = (struct window_groups){0};
}

/* Keys are short: two words that overlap instead of a call. */
static inline bool keys_equal(const uint8_t *a, const uint8_t *b, uint32_t length)
{
    if (length < 8 || length > 16)
        return memcmp(a, b, length) == 0;
    uint64_t words[4];
    memcpy(&words[0], a, 8);
    memcpy(&words[1], b, 8);
    memcpy(&words[2], a + length - 8, 8);
    memcpy(&words[3], b + length - 8, 8);
    return ((words[0] ^ words[1]) | (words[2] ^ words[3])) == 0;
}

static void leave_alone(struct window_groups *self, const struct state_rows *rows)
{
    self->count = rows->count;
    for (uint32_t i = 0; i < rows->count; i++) {
        self->of_row[i] = i;
        self->rows[i] = rows->rows != NULL ? rows->rows[i] : i;
    }
}

void window_groups_find(struct window_groups *self, const struct state_rows *rows)
{
    if (self->skip_batches > 0) {
        self->skip_batches--;
        leave_alone(self, rows);
        return;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < rows->count; i++) {
        uint32_t row = rows->rows != NULL ? rows->rows[i] : i;
        uint64_t hash = rows->hashes[row];
        const uint8_t *key = rows->keys + rows->key_offsets[row];
        uint32_t length = rows->key_offsets[row + 1] - rows->key_offsets[row];
        uint32_t *slot = &self->slots[hash % WINDOW_GROUP_SLOTS];
        const struct window_group *group = &self->groups[*slot];
        if (*slot >= count || group->hash != hash || group->length != length || !keys_equal(group->key, key, length)) {
            self->groups[count] = (struct window_group){.hash = hash, .key = key, .length = length};
            self->rows[count] = row;
            *slot = count++;
        }
        self->of_row[i] = *slot;
    }
    self->count = count;
    if (rows->count >= SKIP_ROWS_MIN && count > rows->count / 2)
        self->skip_batches = SKIP_BATCHES;
}
