/* Inside of a configuration, shared by the files of common/config. */
#ifndef MILLRACE_CONFIG_CONFIG_PRIVATE_H
#define MILLRACE_CONFIG_CONFIG_PRIVATE_H

#include "common/base/hash_map.h"
#include "common/base/vec.h"
#include "common/config/option_value.h"

struct config {
    const struct config *base;
    struct option_value values[OPTION_COUNT]; /* text NULL: not set in this layer */
    char *used_keys[OPTION_COUNT];            /* the name by which it was set: key or old key */
    struct hash_map unknown;                  /* key -> malloced text */
    VEC(char *) notes;                        /* first byte W or I: the level */
};

/* NULL: not set in any layer. */
const struct option_value *config_find(const struct config *config, enum option option);

#endif
