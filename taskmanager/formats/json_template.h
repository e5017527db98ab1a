/* What the records of a stream have in common: the literal bytes between their values (braces, keys, colons, commas, white space),
 * taken from one record that was parsed, and compared with the next ones. Owned by a JSON decoder. */
#ifndef MILLRACE_FORMATS_JSON_TEMPLATE_H
#define MILLRACE_FORMATS_JSON_TEMPLATE_H

#include "taskmanager/formats/json_scan.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define JSON_TEMPLATE_STEP_MAX 64
#define JSON_TEMPLATE_BYTES_MAX 1024
#define JSON_FIELD_SKIPPED UINT32_MAX

/* The literal bytes before a value, and whose value it is. The last step has only literals. */
struct json_template_step {
    uint8_t first[16]; /* the first literal bytes, then zeros */
    uint8_t mask[16];  /* ones where first counts */
    uint32_t offset;   /* into literals */
    uint32_t length;
    uint32_t field;    /* JSON_FIELD_SKIPPED: a value nobody wants */
};

struct json_template {
    bool is_valid;
    uint32_t step_count;
    uint32_t literal_bytes;
    struct json_template_step steps[JSON_TEMPLATE_STEP_MAX];
    char literals[JSON_TEMPLATE_BYTES_MAX];
};

void json_template_clear(struct json_template *template);
/* Adds literal .. value as the bytes before the value of a field. Without room the template becomes invalid. */
void json_template_add(struct json_template *template, const char *literal, const char *value, uint32_t field);

/* Whether the literals of the step stand at p. They have no zero bytes, so that the zeros behind a record's end match none. */
static inline bool json_template_matches(const struct json_template *template, const struct json_template_step *step, const char *record,
                                         const char *p, const char *end)
{
    size_t done = 0;
#ifdef __SSE2__
    __m128i bytes;
    if (json_load_padded(record, p, end, &bytes)) {
        __m128i wanted = _mm_loadu_si128((const __m128i *)(const void *)step->first);
        __m128i mask = _mm_loadu_si128((const __m128i *)(const void *)step->mask);
        bool is_same = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_and_si128(bytes, mask), wanted)) == 0xffff;
        if (!is_same || step->length <= 16)
            return is_same;
        done = 16;
    }
#else
    (void)record;
#endif
    return (size_t)(end - p) >= step->length && memcmp(p + done, template->literals + step->offset + done, step->length - done) == 0;
}

#endif
