/* 128-bit ids: see id.h. */
#include "common/base/id.h"

#include "common/base/check.h"

#include <string.h>
#include <sys/random.h>

struct id id_random(void)
{
    struct id id;
    check(getrandom(id.bytes, sizeof id.bytes, 0) == (ssize_t)sizeof id.bytes);
    return id;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool id_parse(const char *text, struct id *out)
{
    struct id id;
    for (int i = 0; i < 16; i++) {
        int high = hex_value(text[2 * i]);
        int low = high < 0 ? -1 : hex_value(text[2 * i + 1]);
        if (low < 0)
            return false;
        id.bytes[i] = (uint8_t)(high << 4 | low);
    }
    if (text[ID_HEX_LENGTH] != '\0')
        return false;
    *out = id;
    return true;
}

struct id_text id_format(struct id id)
{
    static const char digits[] = "0123456789abcdef";
    struct id_text text;
    for (int i = 0; i < 16; i++) {
        text.hex[2 * i] = digits[id.bytes[i] >> 4];
        text.hex[2 * i + 1] = digits[id.bytes[i] & 15];
    }
    text.hex[ID_HEX_LENGTH] = '\0';
    return text;
}

bool id_equals(struct id a, struct id b)
{
    return memcmp(a.bytes, b.bytes, sizeof a.bytes) == 0;
}

bool id_is_zero(struct id id)
{
    static const struct id zero;
    return id_equals(id, zero);
}
