/* Column generators of the datagen source: what a field's options say, and filling a run of rows of a builder's column. A value
 * depends only on the seed, the column and the row's number in the whole stream, so that a restart continues exactly.
 * Thread: task. Owner: the datagen source. */
#ifndef MILLRACE_CONNECTORS_DATAGEN_COLUMN_H
#define MILLRACE_CONNECTORS_DATAGEN_COLUMN_H

#include "common/columnar/batch_builder.h"

#include <jansson.h>

enum datagen_kind { DATAGEN_RANDOM, DATAGEN_SEQUENCE, DATAGEN_CHOICE, DATAGEN_CONSTANT };

struct datagen_column {
    enum datagen_kind kind;
    enum data_type type;
    bool is_random_choice; /* CHOICE: random instead of cycling */
    int64_t min;           /* RANDOM; SEQUENCE: start */
    int64_t max;
    double real_min;
    double real_max;
    int64_t step; /* SEQUENCE: value = start + row / repeat * step */
    uint64_t repeat;
    double real_step; /* SEQUENCE with a fractional step: start + floor(row * real_step); 0: none */
    uint32_t length;  /* RANDOM text */
    uint64_t seed;
    struct batch_builder *choices; /* CHOICE, CONSTANT: one row a value, one column */
    uint32_t choice_count;
};

/* field: the options of the column, NULL: random. */
MUST_CHECK struct error *datagen_column_init(struct datagen_column *column, const struct field *field, const json_t *options, uint64_t seed);
void datagen_column_finish(struct datagen_column *column);
/* Rows that a bounded sequence gives; UINT64_MAX when it has no end. */
uint64_t datagen_column_row_limit(const struct datagen_column *column, const json_t *options);
/* Fills rows first .. first + count of the builder's column with the values of stream rows row, row + stride, … */
void datagen_column_fill(const struct datagen_column *column, struct batch_builder *builder, uint32_t column_index, uint32_t first,
                         uint32_t count, uint64_t row, uint64_t stride);

#endif
