/* Scalars as text, both ways. No state but what callers pass in; any thread. */
#include "taskmanager/formats/value_text.h"

#include "common/base/heap.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static void trim(const char **text, size_t *length)
{
    while (*length > 0 && ((*text)[0] == ' ' || (*text)[0] == '\t')) {
        (*text)++;
        (*length)--;
    }
    while (*length > 0 && ((*text)[*length - 1] == ' ' || (*text)[*length - 1] == '\t'))
        (*length)--;
}

bool value_text_parse_int64(const char *text, size_t length, int64_t *out)
{
    bool is_negative = length > 0 && text[0] == '-';
    size_t i = is_negative || (length > 0 && text[0] == '+') ? 1 : 0;
    if (i == length)
        return false;
    uint64_t value = 0;
    for (; i < length; i++) {
        unsigned digit = (unsigned)text[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(value, UINT64_C(10), &value) || __builtin_add_overflow(value, (uint64_t)digit, &value))
            return false;
    }
    if (value > (uint64_t)INT64_MAX + (is_negative ? 1 : 0))
        return false;
    *out = is_negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* [+-] digits [. digits] [e [+-] digits], with at least one digit in the mantissa. */
static bool is_decimal(const char *text, size_t length)
{
    size_t i = 0, digits = 0;
    if (i < length && (text[i] == '-' || text[i] == '+'))
        i++;
    for (; i < length && text[i] >= '0' && text[i] <= '9'; i++)
        digits++;
    if (i < length && text[i] == '.')
        for (i++; i < length && text[i] >= '0' && text[i] <= '9'; i++)
            digits++;
    if (digits == 0)
        return false;
    if (i < length && (text[i] == 'e' || text[i] == 'E')) {
        i++;
        if (i < length && (text[i] == '-' || text[i] == '+'))
            i++;
        size_t exponent_start = i;
        while (i < length && text[i] >= '0' && text[i] <= '9')
            i++;
        if (i == exponent_start)
            return false;
    }
    return i == length;
}

/* Exact when the mantissa fits 53 bits and the power of ten is exact (Clinger's fast path). */
static bool parse_double_fast(const char *text, size_t length, double *out)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    bool is_negative = length > 0 && text[0] == '-';
    uint64_t mantissa = 0;
    size_t digits = 0, fraction_digits = 0;
    bool in_fraction = false;
    for (size_t i = is_negative; i < length; i++) {
        unsigned digit = (unsigned)text[i] - '0';
        if (digit <= 9) {
            mantissa = mantissa * 10 + digit;
            fraction_digits += in_fraction;
            if (++digits > 15)
                return false;
        } else if (text[i] == '.' && !in_fraction) {
            in_fraction = true;
        } else {
            return false;
        }
    }
    if (digits == 0)
        return false;
    double value = (double)mantissa / powers[fraction_digits];
    *out = is_negative ? -value : value;
    return true;
}

bool value_text_parse_double(const char *text, size_t length, double *out)
{
    if (parse_double_fast(text, length, out))
        return true;
    if (length == 3 && memcmp(text, "NaN", 3) == 0) {
        *out = (double)NAN;
        return true;
    }
    if ((length == 8 && memcmp(text, "Infinity", 8) == 0) || (length == 9 && memcmp(text, "-Infinity", 9) == 0)) {
        *out = text[0] == '-' ? -(double)INFINITY : (double)INFINITY;
        return true;
    }
    if (!is_decimal(text, length))
        return false;
    pthread_once(&c_locale_once, make_c_locale);
    char stack[128];
    char *copy = length < sizeof stack ? stack : heap_alloc(length + 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    *out = strtod_l(copy, NULL, c_locale);
    if (copy != stack)
        free(copy);
    return true;
}

bool value_store_int64(struct batch_builder *builder, uint32_t column, uint32_t row, enum data_type type, int64_t value)
{
    void *values = batch_builder_values(builder, column);
    if (type == TYPE_INT64) {
        ((int64_t *)values)[row] = value;
    } else if (type == TYPE_INT32) {
        if (value < INT32_MIN || value > INT32_MAX)
            return false;
        ((int32_t *)values)[row] = (int32_t)value;
    } else if (type == TYPE_INT16) {
        if (value < INT16_MIN || value > INT16_MAX)
            return false;
        ((int16_t *)values)[row] = (int16_t)value;
    } else {
        if (value < INT8_MIN || value > INT8_MAX)
            return false;
        ((int8_t *)values)[row] = (int8_t)value;
    }
    batch_builder_set_valid(builder, column, row);
    return true;
}

static const char *store_integer(struct batch_builder *builder, uint32_t column, uint32_t row, enum data_type type, const char *text,
                                 size_t length)
{
    int64_t value;
    if (!value_text_parse_int64(text, length, &value)) {
        double number;
        if (!value_text_parse_double(text, length, &number))
            return "not a number";
        /* 2^53 is what its neighbours above are rounded to, too. */
        if (!(number > -9007199254740992.0 && number < 9007199254740992.0) || number != trunc(number))
            return "not a whole number, or out of range";
        value = (int64_t)number;
    }
    return value_store_int64(builder, column, row, type, value) ? NULL : "number out of range";
}

static const char *store_number(struct batch_builder *builder, uint32_t column, uint32_t row, enum data_type type, const char *text,
                                size_t length)
{
    double value;
    if (!value_text_parse_double(text, length, &value))
        return "not a number";
    if (type == TYPE_FLOAT)
        ((float *)batch_builder_values(builder, column))[row] = (float)value;
    else
        batch_builder_doubles(builder, column)[row] = value;
    batch_builder_set_valid(builder, column, row);
    return NULL;
}

static const char *store_boolean(struct batch_builder *builder, uint32_t column, uint32_t row, const char *text, size_t length)
{
    bool is_true = length == 4 && strncasecmp(text, "true", 4) == 0;
    if (!is_true && !(length == 5 && strncasecmp(text, "false", 5) == 0))
        return "not a boolean";
    batch_builder_set_bool(builder, column, row, is_true);
    batch_builder_set_valid(builder, column, row);
    return NULL;
}

static const char *store_base64(struct batch_builder *builder, uint32_t column, uint32_t row, const char *text, size_t length)
{
    struct str_buf bytes = {0};
    bool ok = base64_decode(text, length, &bytes);
    if (ok)
        batch_builder_set_text(builder, column, row, str_buf_text(&bytes), bytes.length);
    str_buf_finish(&bytes);
    return ok ? NULL : "not base64";
}

const char *value_text_store(struct batch_builder *builder, uint32_t column, uint32_t row, enum data_type type, const char *text,
                             size_t length, struct timestamp_format *timestamps)
{
    switch (type) {
    case TYPE_STRING:
        batch_builder_set_text(builder, column, row, text, length);
        return NULL;
    case TYPE_BYTES:
        return store_base64(builder, column, row, text, length);
    case TYPE_BOOLEAN:
        trim(&text, &length);
        return store_boolean(builder, column, row, text, length);
    case TYPE_INT8:
    case TYPE_INT16:
    case TYPE_INT32:
    case TYPE_INT64:
        trim(&text, &length);
        return store_integer(builder, column, row, type, text, length);
    case TYPE_FLOAT:
    case TYPE_DOUBLE:
        trim(&text, &length);
        return store_number(builder, column, row, type, text, length);
    case TYPE_TIMESTAMP:
        if (!timestamp_format_parse(timestamps, text, length, &batch_builder_int64s(builder, column)[row]))
            return "not a timestamp of the given format";
        batch_builder_set_valid(builder, column, row);
        return NULL;
    case TYPE_DATE:
        if (!date_parse(text, length, &batch_builder_int32s(builder, column)[row]))
            return "not a date";
        batch_builder_set_valid(builder, column, row);
        return NULL;
    case DATA_TYPE_COUNT:
        break;
    }
    return "not of a known type";
}

/* ---- printing ---- */

void value_text_print_int64(int64_t value, struct str_buf *out)
{
    char digits[20];
    size_t count = 0;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        digits[count++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    char *p = str_buf_reserve(out, count + 1);
    char *start = p;
    if (value < 0)
        *p++ = '-';
    while (count > 0)
        *p++ = digits[--count];
    str_buf_advance(out, (size_t)(p - start));
}

static bool print_special(double value, struct str_buf *out)
{
    if (isnan(value))
        str_buf_append(out, "NaN");
    else if (isinf(value))
        str_buf_append(out, value < 0 ? "-Infinity" : "Infinity");
    else if (fabs(value) < 1e15 && value == trunc(value)) {
        if (signbit(value) && value == 0)
            str_buf_append(out, "-");
        value_text_print_int64((int64_t)value, out);
        str_buf_append(out, ".0");
    } else
        return false;
    return true;
}

/* snprintf follows the locale of the process: a comma becomes a point again. */
static void append_number(const char *text, struct str_buf *out)
{
    for (const char *p = text; *p != '\0'; p++)
        str_buf_append_char(out, *p == ',' ? '.' : *p);
}

void value_text_print_double(double value, struct str_buf *out)
{
    if (print_special(value, out))
        return;
    char text[40];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, value);
        if (precision == 17 || strtod(text, NULL) == value)
            break;
    }
    append_number(text, out);
}

void value_text_print_float(float value, struct str_buf *out)
{
    if (print_special((double)value, out))
        return;
    char text[40];
    for (int precision = 6; precision <= 9; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, (double)value);
        if (precision == 9 || strtof(text, NULL) == value)
            break;
    }
    append_number(text, out);
}

void value_text_print(const struct column *column, enum data_type type, uint32_t row, const struct timestamp_format *timestamps,
                      struct str_buf *out)
{
    switch (type) {
    case TYPE_BOOLEAN:
        str_buf_append(out, ((const uint8_t *)column->values)[row >> 3] >> (row & 7) & 1 ? "true" : "false");
        break;
    case TYPE_INT8:
        value_text_print_int64(((const int8_t *)column->values)[row], out);
        break;
    case TYPE_INT16:
        value_text_print_int64(((const int16_t *)column->values)[row], out);
        break;
    case TYPE_INT32:
        value_text_print_int64(((const int32_t *)column->values)[row], out);
        break;
    case TYPE_INT64:
        value_text_print_int64(((const int64_t *)column->values)[row], out);
        break;
    case TYPE_FLOAT:
        value_text_print_float(((const float *)column->values)[row], out);
        break;
    case TYPE_DOUBLE:
        value_text_print_double(((const double *)column->values)[row], out);
        break;
    case TYPE_TIMESTAMP:
        timestamp_format_print(timestamps, ((const int64_t *)column->values)[row], out);
        break;
    case TYPE_DATE:
        date_print(((const int32_t *)column->values)[row], out);
        break;
    case TYPE_STRING:
    case TYPE_BYTES:
    case DATA_TYPE_COUNT:
        break;
    }
}

/* ---- base64 ---- */

static const char base64_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_append(const void *bytes, size_t length, struct str_buf *out)
{
    const uint8_t *p = bytes;
    for (; length >= 3; p += 3, length -= 3) {
        uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        char quad[4] = {base64_letters[bits >> 18], base64_letters[bits >> 12 & 63], base64_letters[bits >> 6 & 63],
                        base64_letters[bits & 63]};
        str_buf_append_bytes(out, quad, 4);
    }
    if (length > 0) {
        uint32_t bits = (uint32_t)p[0] << 16 | (length == 2 ? (uint32_t)p[1] << 8 : 0);
        char quad[4] = {base64_letters[bits >> 18], base64_letters[bits >> 12 & 63], length == 2 ? base64_letters[bits >> 6 & 63] : '=',
                        '='};
        str_buf_append_bytes(out, quad, 4);
    }
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(const char *text, size_t length, struct str_buf *out)
{
    if (length % 4 != 0)
        return false;
    for (size_t i = 0; i < length; i += 4) {
        bool is_last = i + 4 == length;
        int padding = is_last && text[i + 3] == '=' ? (text[i + 2] == '=' ? 2 : 1) : 0;
        uint32_t bits = 0;
        for (int k = 0; k < 4; k++) {
            int value = k >= 4 - padding ? 0 : base64_value(text[i + (size_t)k]);
            if (value < 0)
                return false;
            bits = bits << 6 | (uint32_t)value;
        }
        char bytes[3] = {(char)(bits >> 16), (char)(bits >> 8 & 255), (char)(bits & 255)};
        str_buf_append_bytes(out, bytes, (size_t)(3 - padding));
    }
    return true;
}
