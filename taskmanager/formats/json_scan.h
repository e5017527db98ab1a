/* Scanning JSON text: strings, numbers, and values that nobody wants. Every function takes [p, end), never reads outside of it,
 * and gives the position behind what it scanned, or NULL with a reason (a constant). Strict: RFC 8259 grammar, valid UTF-8, no
 * lone surrogates. Thread: any, no state. */
#ifndef MILLRACE_FORMATS_JSON_SCAN_H
#define MILLRACE_FORMATS_JSON_SCAN_H

#include "common/base/str_buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define JSON_DEPTH_MAX 512

/* p is behind the opening quote. Gives the position of the closing quote. */
const char *json_scan_string(const char *p, const char *end, bool *has_escape, const char **reason);
/* Resolves the escapes of a string that json_scan_string has accepted. */
void json_unescape(const char *p, const char *close, struct str_buf *out);
const char *json_scan_number(const char *p, const char *end, const char **reason);
/* Any value, of any depth up to JSON_DEPTH_MAX. p is at its first character. */
const char *json_scan_value(const char *p, const char *end, const char **reason);
/* Length of the valid UTF-8 sequence at p, which starts with a byte >= 0x80; 0 when it is invalid. */
size_t utf8_sequence_length(const char *p, const char *end);

static inline const char *json_skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

#ifdef __SSE2__
/* The 16 bytes from p on, zeros behind end; record is where the memory that may be read starts. Near the end the 16 bytes before it are
 * read and shifted, in registers: a store that is read back at another offset would stall. False: nothing is left, or the whole
 * record is shorter. */
static inline bool json_load_padded(const char *record, const char *p, const char *end, __m128i *out)
{
    size_t left = (size_t)(end - p);
    if (left >= 16) {
        *out = _mm_loadu_si128((const __m128i *)(const void *)p);
        return true;
    }
    if (left == 0 || end - record < 16)
        return false;
    uint64_t low, high;
    memcpy(&low, end - 16, sizeof low);
    memcpy(&high, end - 8, sizeof high);
    __extension__ unsigned __int128 both = (unsigned __int128)high << 64 | low;
    both >>= 8 * (16 - left);
    *out = _mm_set_epi64x((int64_t)(uint64_t)(both >> 64), (int64_t)(uint64_t)both);
    return true;
}

/* Bit i: byte i is a quote, a backslash, a control character or not ASCII. */
static inline unsigned json_special_bytes(__m128i bytes)
{
    __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
    __m128i backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    __m128i low_or_high = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)); /* signed: 0x80… are below too */
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), low_or_high));
}
#endif

#endif
