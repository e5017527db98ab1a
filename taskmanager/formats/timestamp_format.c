/* Compiled timestamp formats: parsing, printing, and the calendar. Owned by a decoder or encoder on a task thread. */
#include "taskmanager/formats/timestamp_format.h"

#include <inttypes.h>

#define MS_PER_DAY INT64_C(86400000)
#define STANDARD_PREFIX_LENGTH 19 /* yyyy-MM-dd HH:mm:ss */

struct civil_time {
    int64_t year;
    uint32_t month;
    uint32_t day;
    uint32_t hour;
    uint32_t minute;
    uint32_t second;
    uint32_t ms;
};

int64_t date_to_days(int64_t year, uint32_t month, uint32_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (int64_t)((153 * (month + (month > 2 ? -3u : 9u)) + 2) / 5 + day - 1);
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

void date_from_days(int64_t days, int64_t *year, uint32_t *month, uint32_t *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    uint32_t day_of_era = (uint32_t)(days - era * 146097);
    uint32_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t shifted_month = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    *month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
    *year = (int64_t)year_of_era + era * 400 + (*month <= 2);
}

static uint32_t days_in_month(int64_t year, uint32_t month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && is_leap ? 29 : days[month - 1];
}

static bool civil_to_ms(const struct civil_time *time, int64_t *out)
{
    if (time->month < 1 || time->month > 12 || time->day < 1 || time->day > days_in_month(time->year, time->month) || time->hour > 23 ||
        time->minute > 59 || time->second > 59)
        return false;
    *out = date_to_days(time->year, time->month, time->day) * MS_PER_DAY +
           ((int64_t)time->hour * 3600 + (int64_t)time->minute * 60 + (int64_t)time->second) * 1000 + (int64_t)time->ms;
    return true;
}

static struct civil_time civil_of_ms(int64_t time_ms)
{
    struct civil_time time;
    int64_t days = time_ms / MS_PER_DAY;
    int64_t rest = time_ms % MS_PER_DAY;
    if (rest < 0) {
        rest += MS_PER_DAY;
        days--;
    }
    date_from_days(days, &time.year, &time.month, &time.day);
    time.ms = (uint32_t)(rest % 1000);
    uint32_t seconds = (uint32_t)(rest / 1000);
    time.hour = seconds / 3600;
    time.minute = seconds / 60 % 60;
    time.second = seconds % 60;
    return time;
}

static bool parse_digits(const char *text, uint32_t width, uint32_t *out)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < width; i++) {
        unsigned digit = (unsigned)text[i] - '0';
        if (digit > 9)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

/* digits of a fraction of a second as milliseconds; finer ones are checked and cut off. */
static bool parse_fraction(const char *text, size_t digits, uint32_t *out_ms)
{
    uint32_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        unsigned digit = (unsigned)text[i] - '0';
        if (digit > 9)
            return false;
        if (i < 3)
            value = value * 10 + digit;
    }
    for (size_t i = digits; i < 3; i++)
        value *= 10;
    *out_ms = value;
    return true;
}

/* ---- compiling ---- */

static enum timestamp_part part_of_letter(char letter, uint32_t width)
{
    switch (letter) {
    case 'y':
    case 'u':
        return width == 4 ? PART_YEAR : PART_LITERAL;
    case 'M':
        return width == 2 ? PART_MONTH : PART_LITERAL;
    case 'd':
        return width == 2 ? PART_DAY : PART_LITERAL;
    case 'H':
        return width == 2 ? PART_HOUR : PART_LITERAL;
    case 'm':
        return width == 2 ? PART_MINUTE : PART_LITERAL;
    case 's':
        return width == 2 ? PART_SECOND : PART_LITERAL;
    case 'S':
        return width <= 9 ? PART_FRACTION : PART_LITERAL;
    default:
        return PART_LITERAL;
    }
}

static struct error *add_step(struct timestamp_format *format, enum timestamp_part part, uint32_t width, char literal)
{
    if (format->step_count == TIMESTAMP_STEP_MAX || format->text_length + width > TIMESTAMP_TEXT_MAX)
        return error_new(INVALID_ARGUMENT, "timestamp format is too long");
    format->steps[format->step_count++] = (struct timestamp_step){.part = part, .width = (uint8_t)width, .literal = literal};
    format->text_length += width;
    return NULL;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static struct error *compile_pattern(const char *text, struct timestamp_format *out)
{
    for (const char *p = text; *p != '\0';) {
        if (*p == '\'') {
            if (p[1] == '\'') {
                TRY(add_step(out, PART_LITERAL, 1, '\''));
                p += 2;
                continue;
            }
            const char *close = strchr(p + 1, '\'');
            if (close == NULL)
                return error_new(INVALID_ARGUMENT, "timestamp format \"%s\" has an open quote", text);
            for (p++; p < close; p++)
                TRY(add_step(out, PART_LITERAL, 1, *p));
            p++;
        } else if (is_letter(*p)) {
            uint32_t width = 1;
            while (p[width] == *p)
                width++;
            enum timestamp_part part = part_of_letter(*p, width);
            if (part == PART_LITERAL)
                return error_with_hint(error_new(INVALID_ARGUMENT, "timestamp format \"%s\" has \"%.*s\", which is not supported", text,
                                                 (int)width, p),
                                       "use yyyy MM dd HH mm ss SSS and literals, or SQL, ISO-8601, epoch-millis");
            TRY(add_step(out, part, width, 0));
            p += width;
        } else {
            TRY(add_step(out, PART_LITERAL, 1, *p++));
        }
    }
    if (out->step_count == 0)
        return error_new(INVALID_ARGUMENT, "timestamp format is empty");
    const struct timestamp_step *last = &out->steps[out->step_count - 1];
    if (last->part == PART_FRACTION && last->width == 3) {
        out->tail_digits = 3;
        out->prefix_length = out->text_length - 3;
    }
    return NULL;
}

struct error *timestamp_format_compile(const char *text, struct timestamp_format *out)
{
    struct timestamp_format format = {.kind = TIMESTAMP_PATTERN};
    if (text == NULL || strcmp(text, "SQL") == 0)
        format.kind = TIMESTAMP_SQL;
    else if (strcmp(text, "ISO-8601") == 0)
        format.kind = TIMESTAMP_ISO_8601;
    else if (strcmp(text, "epoch-millis") == 0)
        format.kind = TIMESTAMP_EPOCH_MILLIS;
    else
        TRY(compile_pattern(text, &format));
    if (format.kind == TIMESTAMP_SQL || format.kind == TIMESTAMP_ISO_8601)
        format.prefix_length = STANDARD_PREFIX_LENGTH;
    *out = format;
    return NULL;
}

/* ---- parsing ---- */

static void remember(struct timestamp_format *format, const char *text, int64_t prefix_ms)
{
    memcpy(format->cached_text, text, format->prefix_length);
    format->cached_ms = prefix_ms;
    format->cache_valid = true;
}

static bool parse_pattern(struct timestamp_format *format, const char *text, size_t length, int64_t *out_ms)
{
    if (length != format->text_length)
        return false;
    struct civil_time time = {.year = 1970, .month = 1, .day = 1};
    const char *p = text;
    for (uint32_t i = 0; i < format->step_count; i++) {
        const struct timestamp_step *step = &format->steps[i];
        uint32_t value = 0;
        if (step->part == PART_LITERAL ? *p != step->literal
            : step->part == PART_FRACTION ? !parse_fraction(p, step->width, &time.ms)
                                          : !parse_digits(p, step->width, &value))
            return false;
        switch (step->part) {
        case PART_YEAR:
            time.year = value;
            break;
        case PART_MONTH:
            time.month = value;
            break;
        case PART_DAY:
            time.day = value;
            break;
        case PART_HOUR:
            time.hour = value;
            break;
        case PART_MINUTE:
            time.minute = value;
            break;
        case PART_SECOND:
            time.second = value;
            break;
        case PART_FRACTION:
        case PART_LITERAL:
            break;
        }
        p += step->width;
    }
    if (!civil_to_ms(&time, out_ms))
        return false;
    if (format->tail_digits != 0)
        remember(format, text, *out_ms - (int64_t)time.ms);
    return true;
}

static bool parse_standard_prefix(struct timestamp_format *format, const char *text, int64_t *out_ms)
{
    if (format->cache_valid && memcmp(text, format->cached_text, STANDARD_PREFIX_LENGTH) == 0) {
        *out_ms = format->cached_ms;
        return true;
    }
    char separator = format->kind == TIMESTAMP_SQL ? ' ' : 'T';
    struct civil_time time = {0};
    uint32_t year;
    if (!parse_digits(text, 4, &year) || text[4] != '-' || !parse_digits(text + 5, 2, &time.month) || text[7] != '-' ||
        !parse_digits(text + 8, 2, &time.day) || text[10] != separator || !parse_digits(text + 11, 2, &time.hour) || text[13] != ':' ||
        !parse_digits(text + 14, 2, &time.minute) || text[16] != ':' || !parse_digits(text + 17, 2, &time.second))
        return false;
    time.year = year;
    if (!civil_to_ms(&time, out_ms))
        return false;
    remember(format, text, *out_ms);
    return true;
}

static bool parse_standard(struct timestamp_format *format, const char *text, size_t length, int64_t *out_ms)
{
    if (format->kind == TIMESTAMP_ISO_8601 && length > 0 && text[length - 1] == 'Z')
        length--;
    int64_t seconds_ms;
    if (length < STANDARD_PREFIX_LENGTH || !parse_standard_prefix(format, text, &seconds_ms))
        return false;
    uint32_t ms = 0;
    if (length > STANDARD_PREFIX_LENGTH) {
        size_t digits = length - STANDARD_PREFIX_LENGTH - 1;
        if (text[STANDARD_PREFIX_LENGTH] != '.' || digits < 1 || digits > 9 ||
            !parse_fraction(text + STANDARD_PREFIX_LENGTH + 1, digits, &ms))
            return false;
    }
    *out_ms = seconds_ms + (int64_t)ms;
    return true;
}

static bool parse_epoch(const char *text, size_t length, int64_t *out_ms)
{
    bool is_negative = length > 0 && text[0] == '-';
    size_t i = is_negative;
    if (i == length || length - i > 18)
        return false;
    int64_t value = 0;
    for (; i < length; i++) {
        unsigned digit = (unsigned)text[i] - '0';
        if (digit > 9)
            return false;
        value = value * 10 + (int64_t)digit;
    }
    *out_ms = is_negative ? -value : value;
    return true;
}

bool timestamp_format_parse_slow(struct timestamp_format *format, const char *text, size_t length, int64_t *out_ms)
{
    switch (format->kind) {
    case TIMESTAMP_PATTERN:
        return parse_pattern(format, text, length, out_ms);
    case TIMESTAMP_SQL:
    case TIMESTAMP_ISO_8601:
        return parse_standard(format, text, length, out_ms);
    case TIMESTAMP_EPOCH_MILLIS:
        return parse_epoch(text, length, out_ms);
    }
    return false;
}

bool date_parse(const char *text, size_t length, int32_t *out_days)
{
    uint32_t year, month, day;
    if (length != 10 || !parse_digits(text, 4, &year) || text[4] != '-' || !parse_digits(text + 5, 2, &month) || text[7] != '-' ||
        !parse_digits(text + 8, 2, &day))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
        return false;
    *out_days = (int32_t)date_to_days(year, month, day);
    return true;
}

/* ---- printing ---- */

static char *put_digits(char *p, uint32_t value, uint32_t width)
{
    for (uint32_t i = width; i-- > 0; value /= 10)
        p[i] = (char)('0' + value % 10);
    return p + width;
}

static void append_digits(struct str_buf *out, uint32_t value, uint32_t width)
{
    put_digits(str_buf_reserve(out, width), value, width);
    str_buf_advance(out, width);
}

static void append_year(int64_t year, struct str_buf *out)
{
    if (year >= 0 && year <= 9999)
        append_digits(out, (uint32_t)year, 4);
    else
        str_buf_printf(out, "%+05" PRId64, year);
}

void date_print(int32_t days, struct str_buf *out)
{
    int64_t year;
    uint32_t month, day;
    date_from_days(days, &year, &month, &day);
    append_year(year, out);
    str_buf_append_char(out, '-');
    append_digits(out, month, 2);
    str_buf_append_char(out, '-');
    append_digits(out, day, 2);
}

static void print_standard(const struct timestamp_format *format, int64_t time_ms, struct str_buf *out)
{
    struct civil_time time = civil_of_ms(time_ms);
    append_year(time.year, out);
    char *p = str_buf_reserve(out, 24);
    char *start = p;
    *p++ = '-';
    p = put_digits(p, time.month, 2);
    *p++ = '-';
    p = put_digits(p, time.day, 2);
    *p++ = format->kind == TIMESTAMP_SQL ? ' ' : 'T';
    p = put_digits(p, time.hour, 2);
    *p++ = ':';
    p = put_digits(p, time.minute, 2);
    *p++ = ':';
    p = put_digits(p, time.second, 2);
    if (time.ms != 0) { /* digits only as needed */
        *p++ = '.';
        p = put_digits(p, time.ms, 3);
        while (p[-1] == '0')
            p--;
    }
    str_buf_advance(out, (size_t)(p - start));
}

static void print_pattern(const struct timestamp_format *format, int64_t time_ms, struct str_buf *out)
{
    struct civil_time time = civil_of_ms(time_ms);
    for (uint32_t i = 0; i < format->step_count; i++) {
        const struct timestamp_step *step = &format->steps[i];
        switch (step->part) {
        case PART_LITERAL:
            str_buf_append_char(out, step->literal);
            break;
        case PART_YEAR:
            append_year(time.year, out);
            break;
        case PART_MONTH:
            append_digits(out, time.month, step->width);
            break;
        case PART_DAY:
            append_digits(out, time.day, step->width);
            break;
        case PART_HOUR:
            append_digits(out, time.hour, step->width);
            break;
        case PART_MINUTE:
            append_digits(out, time.minute, step->width);
            break;
        case PART_SECOND:
            append_digits(out, time.second, step->width);
            break;
        case PART_FRACTION: {
            uint32_t nanoseconds = time.ms * 1000000;
            for (uint32_t digits = 9; digits > step->width; digits--)
                nanoseconds /= 10;
            append_digits(out, nanoseconds, step->width);
            break;
        }
        }
    }
}

void timestamp_format_print(const struct timestamp_format *format, int64_t time_ms, struct str_buf *out)
{
    switch (format->kind) {
    case TIMESTAMP_PATTERN:
        print_pattern(format, time_ms, out);
        break;
    case TIMESTAMP_SQL:
    case TIMESTAMP_ISO_8601:
        print_standard(format, time_ms, out);
        break;
    case TIMESTAMP_EPOCH_MILLIS:
        str_buf_printf(out, "%" PRId64, time_ms);
        break;
    }
}
