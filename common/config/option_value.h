/* Values of options: the rows of options.def as data, parsing and judging of a value's text. Inside of common/config. */
#ifndef MILLRACE_CONFIG_OPTION_VALUE_H
#define MILLRACE_CONFIG_OPTION_VALUE_H

#include "common/config/config.h"

struct option_row {
    const char *key;
    enum option_type type;
    const char *default_text;
    const char *minimum;
    const char *maximum; /* ENUM: the words, separated by | */
    unsigned scope;
    const char *old_key;
    const char *doc;
};

extern const struct option_row option_rows[OPTION_COUNT];

/* A value as the getters want it; text stays the user's. */
struct option_value {
    char *text;
    int64_t number; /* INT, BOOL, DURATION, BYTES; first port of PORTS */
    int64_t last;   /* last port of PORTS */
    double real;
};

/* By key or old key; OPTION_COUNT when unknown. */
enum option option_find(const char *key);
/* errors: INVALID_CONFIG saying what is expected (without key and source: the caller adds them) */
MUST_CHECK struct error *option_value_parse(enum option option, const char *text, struct option_value *out);
/* ENUM words: case does not matter, - and _ are the same. */
bool option_word_equals(const char *a, const char *b, size_t b_length);
/* The known key that is nearest to an unknown one, or NULL when none is within that many edits. */
const char *option_nearest(const char *key, size_t distance_max);
/* A key of Flink that has nothing to configure here. */
bool option_is_meaningless(const char *key);

#endif
