/* Growing arrays. VEC(type) declares the struct in place; the macros below work on any of them.
 *   VEC(struct slot *) slots;            zero-initialised is an empty vector
 *   vec_push(&slots, slot);  for (size_t i = 0; i < slots.count; i++) slots.items[i] …;  vec_finish(&slots); */
#ifndef MILLRACE_BASE_VEC_H
#define MILLRACE_BASE_VEC_H

#include "common/base/heap.h"

#include <stdlib.h>
#include <string.h>

#define VEC(type)                                                                                                      \
    struct {                                                                                                           \
        type *items;                                                                                                   \
        size_t count;                                                                                                  \
        size_t capacity;                                                                                               \
    }

#define vec_reserve(vec, wanted)                                                                                       \
    do {                                                                                                               \
        if ((vec)->capacity < (wanted)) {                                                                              \
            size_t vec_capacity_ = (vec)->capacity != 0 ? (vec)->capacity * 2 : 8;                                     \
            if (vec_capacity_ < (wanted))                                                                              \
                vec_capacity_ = (wanted);                                                                              \
            (vec)->items = heap_realloc((vec)->items, vec_capacity_, sizeof *(vec)->items);                            \
            (vec)->capacity = vec_capacity_;                                                                           \
        }                                                                                                              \
    } while (0)

#define vec_push(vec, item)                                                                                            \
    do {                                                                                                               \
        vec_reserve(vec, (vec)->count + 1);                                                                            \
        (vec)->items[(vec)->count++] = (item);                                                                         \
    } while (0)

/* Removes one item and keeps the order of the rest. */
#define vec_remove(vec, index)                                                                                         \
    do {                                                                                                               \
        size_t vec_index_ = (index);                                                                                   \
        memmove(&(vec)->items[vec_index_], &(vec)->items[vec_index_ + 1],                                              \
                ((vec)->count - vec_index_ - 1) * sizeof *(vec)->items);                                               \
        (vec)->count--;                                                                                                \
    } while (0)

#define vec_clear(vec) ((vec)->count = 0)

#define vec_finish(vec)                                                                                                \
    do {                                                                                                               \
        free((vec)->items);                                                                                            \
        (vec)->items = NULL;                                                                                           \
        (vec)->count = (vec)->capacity = 0;                                                                            \
    } while (0)

#endif
