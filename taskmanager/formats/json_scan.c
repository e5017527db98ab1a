/* JSON scanners without state; any thread. */
#include "taskmanager/formats/json_scan.h"

static const char *fail(const char **reason, const char *text)
{
    *reason = text;
    return NULL;
}

/* source: The Unicode Standard, table 3-7 "Well-Formed UTF-8 Byte Sequences" */
size_t utf8_sequence_length(const char *p, const char *end)
{
    const uint8_t *b = (const uint8_t *)p;
    size_t left = (size_t)(end - p);
    if (b[0] >= 0xc2 && b[0] <= 0xdf)
        return left >= 2 && (b[1] & 0xc0) == 0x80 ? 2 : 0;
    if (b[0] >= 0xe0 && b[0] <= 0xef) {
        if (left < 3 || (b[1] & 0xc0) != 0x80 || (b[2] & 0xc0) != 0x80)
            return 0;
        if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f))
            return 0;
        return 3;
    }
    if (b[0] >= 0xf0 && b[0] <= 0xf4) {
        if (left < 4 || (b[1] & 0xc0) != 0x80 || (b[2] & 0xc0) != 0x80 || (b[3] & 0xc0) != 0x80)
            return 0;
        if ((b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] > 0x8f))
            return 0;
        return 4;
    }
    return 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hex digits at p; -1 when there are not. */
static int32_t scan_hex4(const char *p, const char *end)
{
    if (end - p < 4)
        return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(p[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* p is at a backslash. */
static const char *scan_escape(const char *p, const char *end)
{
    if (end - p < 2)
        return NULL;
    if (p[1] != 'u')
        return p[1] != '\0' && strchr("\"\\/bfnrt", p[1]) != NULL ? p + 2 : NULL;
    int32_t unit = scan_hex4(p + 2, end);
    if (unit < 0 || (unit >= 0xdc00 && unit <= 0xdfff))
        return NULL;
    p += 6;
    if (unit < 0xd800 || unit > 0xdbff)
        return p;
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
        return NULL;
    int32_t low = scan_hex4(p + 2, end);
    return low >= 0xdc00 && low <= 0xdfff ? p + 6 : NULL;
}

const char *json_scan_string(const char *p, const char *end, bool *has_escape, const char **reason)
{
    *has_escape = false;
    while (p < end) {
#ifdef __SSE2__
        while (end - p >= 16) {
            unsigned special = json_special_bytes(_mm_loadu_si128((const __m128i *)(const void *)p));
            if (special != 0) {
                p += __builtin_ctz(special);
                break;
            }
            p += 16;
        }
        if (p == end)
            break;
#endif
        unsigned char c = (unsigned char)*p;
        if (c == '"')
            return p;
        if (c == '\\') {
            *has_escape = true;
            p = scan_escape(p, end);
            if (p == NULL)
                return fail(reason, "bad escape in string");
        } else if (c >= 0x80) {
            size_t length = utf8_sequence_length(p, end);
            if (length == 0)
                return fail(reason, "string is not valid UTF-8");
            p += length;
        } else if (c < 0x20) {
            return fail(reason, "control character in string");
        } else {
            p++;
        }
    }
    return fail(reason, "string is not closed");
}

static void append_code_point(uint32_t code, struct str_buf *out)
{
    char bytes[4];
    size_t length;
    if (code < 0x80) {
        bytes[0] = (char)code;
        length = 1;
    } else if (code < 0x800) {
        bytes[0] = (char)(0xc0 | code >> 6);
        bytes[1] = (char)(0x80 | (code & 63));
        length = 2;
    } else if (code < 0x10000) {
        bytes[0] = (char)(0xe0 | code >> 12);
        bytes[1] = (char)(0x80 | (code >> 6 & 63));
        bytes[2] = (char)(0x80 | (code & 63));
        length = 3;
    } else {
        bytes[0] = (char)(0xf0 | code >> 18);
        bytes[1] = (char)(0x80 | (code >> 12 & 63));
        bytes[2] = (char)(0x80 | (code >> 6 & 63));
        bytes[3] = (char)(0x80 | (code & 63));
        length = 4;
    }
    str_buf_append_bytes(out, bytes, length);
}

void json_unescape(const char *p, const char *close, struct str_buf *out)
{
    static const char plain[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    while (p < close) {
        const char *backslash = memchr(p, '\\', (size_t)(close - p));
        if (backslash == NULL)
            backslash = close;
        str_buf_append_bytes(out, p, (size_t)(backslash - p));
        if (backslash == close)
            return;
        p = backslash + 2;
        if (backslash[1] != 'u') {
            for (const char *pair = plain; *pair != '\0'; pair += 2)
                if (pair[0] == backslash[1])
                    str_buf_append_char(out, pair[1]);
            continue;
        }
        uint32_t code = (uint32_t)scan_hex4(p, close);
        p += 4;
        if (code >= 0xd800 && code <= 0xdbff) {
            code = 0x10000 + ((code - 0xd800) << 10) + ((uint32_t)scan_hex4(p + 2, close) - 0xdc00);
            p += 6;
        }
        append_code_point(code, out);
    }
}

static const char *scan_digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

const char *json_scan_number(const char *p, const char *end, const char **reason)
{
    if (p < end && *p == '-')
        p++;
    const char *digits = p;
    p = scan_digits(p, end);
    if (p == digits || (*digits == '0' && p - digits > 1))
        return fail(reason, "bad number");
    if (p < end && *p == '.') {
        digits = ++p;
        p = scan_digits(p, end);
        if (p == digits)
            return fail(reason, "bad number");
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '-' || *p == '+'))
            p++;
        digits = p;
        p = scan_digits(p, end);
        if (p == digits)
            return fail(reason, "bad number");
    }
    return p;
}

static const char *scan_literal(const char *p, const char *end, const char *literal, const char **reason)
{
    size_t length = strlen(literal);
    if ((size_t)(end - p) < length || memcmp(p, literal, length) != 0)
        return fail(reason, "bad value");
    return p + length;
}

static const char *scan_scalar(const char *p, const char *end, const char **reason)
{
    bool has_escape;
    switch (*p) {
    case '"':
        p = json_scan_string(p + 1, end, &has_escape, reason);
        return p == NULL ? NULL : p + 1;
    case 't':
        return scan_literal(p, end, "true", reason);
    case 'f':
        return scan_literal(p, end, "false", reason);
    case 'n':
        return scan_literal(p, end, "null", reason);
    default:
        return json_scan_number(p, end, reason);
    }
}

/* p is where a member's key should start; gives the position of its value. */
static const char *scan_key(const char *p, const char *end, const char **reason)
{
    bool has_escape;
    p = json_skip_space(p, end);
    if (p == end || *p != '"')
        return fail(reason, "object key expected");
    p = json_scan_string(p + 1, end, &has_escape, reason);
    if (p == NULL)
        return NULL;
    p = json_skip_space(p + 1, end);
    if (p == end || *p != ':')
        return fail(reason, "colon expected after key");
    return p + 1;
}

const char *json_scan_value(const char *p, const char *end, const char **reason)
{
    uint64_t is_object[JSON_DEPTH_MAX / 64] = {0};
    uint32_t depth = 0;
    for (;;) {
        p = json_skip_space(p, end);
        if (p == end)
            return fail(reason, "value is cut off");
        if (*p == '{' || *p == '[') {
            bool object = *p == '{';
            if (depth == JSON_DEPTH_MAX)
                return fail(reason, "nested too deeply");
            p = json_skip_space(p + 1, end);
            if (p == end)
                return fail(reason, "value is cut off");
            if (*p != (object ? '}' : ']')) {
                uint64_t bit = UINT64_C(1) << (depth & 63);
                is_object[depth >> 6] = object ? is_object[depth >> 6] | bit : is_object[depth >> 6] & ~bit;
                depth++;
                if (object && (p = scan_key(p, end, reason)) == NULL)
                    return NULL;
                continue;
            }
            p++;
        } else if ((p = scan_scalar(p, end, reason)) == NULL) {
            return NULL;
        }
        /* A value has ended: close what ends with it. */
        for (;;) {
            if (depth == 0)
                return p;
            bool object = is_object[(depth - 1) >> 6] >> ((depth - 1) & 63) & 1;
            p = json_skip_space(p, end);
            if (p == end)
                return fail(reason, "value is cut off");
            if (*p == ',') {
                p++;
                if (object && (p = scan_key(p, end, reason)) == NULL)
                    return NULL;
                break;
            }
            if (*p != (object ? '}' : ']'))
                return fail(reason, object ? "comma or } expected" : "comma or ] expected");
            p++;
            depth--;
        }
    }
}
