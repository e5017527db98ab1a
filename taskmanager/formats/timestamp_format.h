/* Text <-> milliseconds since the epoch, by a format that is compiled once. Kinds:
 *   "SQL"            yyyy-MM-dd HH:mm:ss[.fraction]
 *   "ISO-8601"       yyyy-MM-ddTHH:mm:ss[.fraction][Z]
 *   "epoch-millis"   a decimal number
 *   a pattern        yyyy MM dd HH mm ss and S…S (fraction of a second), anything else as it stands; 'quoted' text is literal
 * All fields have a fixed width; times are UTC; a fraction finer than a millisecond is cut off. The text before the finest field
 * is cached with its value, because timestamps of a stream come in order. One owner: the decoder or encoder.
 * source: java.text.SimpleDateFormat pattern letters; Flink JSON format, json.timestamp-format.standard. */
#ifndef MILLRACE_FORMATS_TIMESTAMP_FORMAT_H
#define MILLRACE_FORMATS_TIMESTAMP_FORMAT_H

#include "common/base/error.h"
#include "common/base/str_buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TIMESTAMP_STEP_MAX 32
#define TIMESTAMP_TEXT_MAX 64

enum timestamp_kind { TIMESTAMP_PATTERN, TIMESTAMP_SQL, TIMESTAMP_ISO_8601, TIMESTAMP_EPOCH_MILLIS };
enum timestamp_part { PART_LITERAL, PART_YEAR, PART_MONTH, PART_DAY, PART_HOUR, PART_MINUTE, PART_SECOND, PART_FRACTION };

struct timestamp_step {
    enum timestamp_part part;
    uint8_t width;    /* digits, or 1 for a literal */
    char literal;
};

struct timestamp_format {
    enum timestamp_kind kind;
    struct timestamp_step steps[TIMESTAMP_STEP_MAX]; /* PATTERN */
    uint32_t step_count;
    uint32_t text_length; /* PATTERN: of every text */
    /* The cache: texts that start with these prefix_length bytes are at cached_ms plus what follows. */
    char cached_text[TIMESTAMP_TEXT_MAX];
    uint32_t prefix_length; /* 0: this pattern is not cached */
    uint32_t tail_digits;   /* PATTERN: 3 when the text ends in milliseconds */
    bool cache_valid;
    int64_t cached_ms;
};

/* text NULL: SQL. */
MUST_CHECK struct error *timestamp_format_compile(const char *text, struct timestamp_format *out);
/* False when the text is not of the format or no such date exists. */
bool timestamp_format_parse_slow(struct timestamp_format *format, const char *text, size_t length, int64_t *out_ms);
void timestamp_format_print(const struct timestamp_format *format, int64_t time_ms, struct str_buf *out);

/* Days since the epoch of a day in the proleptic Gregorian calendar, and back.
 * source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
int64_t date_to_days(int64_t year, uint32_t month, uint32_t day);
void date_from_days(int64_t days, int64_t *year, uint32_t *month, uint32_t *day);
/* "yyyy-MM-dd" */
bool date_parse(const char *text, size_t length, int32_t *out_days);
void date_print(int32_t days, struct str_buf *out);

/* Whether the text, which is longer than the prefix, starts with it: three words that may overlap instead of a call. */
static inline bool timestamp_prefix_is(const char *text, const char *prefix, uint32_t length)
{
    if (length < 8 || length > 24)
        return memcmp(text, prefix, length) == 0;
    uint64_t text_words[3], prefix_words[3];
    uint32_t middle = length < 16 ? 0 : 8;
    memcpy(&text_words[0], text, 8);
    memcpy(&text_words[1], text + middle, 8);
    memcpy(&text_words[2], text + length - 8, 8);
    memcpy(&prefix_words[0], prefix, 8);
    memcpy(&prefix_words[1], prefix + middle, 8);
    memcpy(&prefix_words[2], prefix + length - 8, 8);
    return ((text_words[0] ^ prefix_words[0]) | (text_words[1] ^ prefix_words[1]) | (text_words[2] ^ prefix_words[2])) == 0;
}

/* The text has the format's length, and the format ends in milliseconds. False: it does not start like the text before. */
static inline bool timestamp_format_parse_cached(const struct timestamp_format *format, const char *text, int64_t *out_ms)
{
    if (!format->cache_valid || !timestamp_prefix_is(text, format->cached_text, format->prefix_length))
        return false;
    const char *tail = text + format->prefix_length;
    unsigned a = (unsigned)tail[0] - '0', b = (unsigned)tail[1] - '0', c = (unsigned)tail[2] - '0';
    if (a > 9 || b > 9 || c > 9)
        return false;
    *out_ms = format->cached_ms + (int64_t)(a * 100 + b * 10 + c);
    return true;
}

static inline bool timestamp_format_parse(struct timestamp_format *format, const char *text, size_t length, int64_t *out_ms)
{
    if (format->tail_digits == 3 && length == format->text_length && timestamp_format_parse_cached(format, text, out_ms))
        return true;
    return timestamp_format_parse_slow(format, text, length, out_ms);
}

#endif
