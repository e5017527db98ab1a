/* Scalars as text: what CSV fields and quoted JSON values have in common. Parses straight into a builder's column and prints
 * out of a batch's column. Thread: the owner of the decoder or encoder. */
#ifndef MILLRACE_FORMATS_VALUE_TEXT_H
#define MILLRACE_FORMATS_VALUE_TEXT_H

#include "common/columnar/batch_builder.h"
#include "taskmanager/formats/timestamp_format.h"

/* Parses text as a value of `type` and stores it (valid) at column, row. Numbers may have blanks around them, a sign, and,
 * for integers, a fraction of zero ("12.0"). BYTES are base64, STRING is taken as it is. NULL, or a reason (a constant). */
const char *value_text_store(struct batch_builder *builder, uint32_t column, uint32_t row, enum data_type type, const char *text,
                             size_t length, struct timestamp_format *timestamps);
/* Stores an integer in a column of any integer type; false when it does not fit. */
bool value_store_int64(struct batch_builder *builder, uint32_t column, uint32_t row, enum data_type type, int64_t value);

bool value_text_parse_int64(const char *text, size_t length, int64_t *out);
/* A decimal number, "NaN", "Infinity", "-Infinity". Never depends on the locale. */
bool value_text_parse_double(const char *text, size_t length, double *out);

/* The shortest decimal text that reads back as the same value, with ".0" for whole numbers, as Java prints it below 10^7. */
void value_text_print_double(double value, struct str_buf *out);
void value_text_print_float(float value, struct str_buf *out);
void value_text_print_int64(int64_t value, struct str_buf *out);
/* A non-null value that is no STRING or BYTES, without quotes. */
void value_text_print(const struct column *column, enum data_type type, uint32_t row, const struct timestamp_format *timestamps,
                      struct str_buf *out);

void base64_append(const void *bytes, size_t length, struct str_buf *out);
/* Strict (RFC 4648, padding required). */
bool base64_decode(const char *text, size_t length, struct str_buf *out);

#endif
