/* See kafka_topic_pattern.h. */
#include "taskmanager/connectors/kafka/kafka_topic_pattern.h"

#include "common/base/str_buf.h"

#include <string.h>

static struct error *unsupported(const char *pattern, const char *at, size_t length)
{
    return error_with_hint(error_new(INVALID_ARGUMENT, "topic_pattern \"%s\" has \"%.*s\" at position %zu, which is not supported", pattern,
                                     (int)strnlen(at, length), at, (size_t)(at - pattern)),
                           "use characters, . [] () | * + ? {n,m} and \\d \\w \\s");
}

/* The members of a class by letter, as they stand between brackets; NULL: there is no such class. */
static const char *class_members(char letter)
{
    switch (letter) {
    case 'd':
    case 'D': return "0-9";
    case 'w':
    case 'W': return "A-Za-z0-9_";
    case 's':
    case 'S': return "[:space:]";
    default: return NULL;
    }
}

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* *at is at a backslash outside of brackets. */
static struct error *translate_escape(const char *pattern, const char **at, struct str_buf *out)
{
    char c = (*at)[1];
    const char *members = class_members(c);
    if (members != NULL)
        str_buf_printf(out, "[%s%s]", c >= 'A' && c <= 'Z' ? "^" : "", members);
    else if (c == '\0' || is_letter_or_digit(c))
        return unsupported(pattern, *at, 2);
    else
        str_buf_printf(out, strchr(".[]()|*+?{}^$\\", c) != NULL ? "\\%c" : "%c", c);
    *at += 2;
    return NULL;
}

/* *at is behind the opening bracket. Between brackets POSIX knows no backslash: single characters stand as [.c.]. */
static struct error *translate_brackets(const char *pattern, const char **at, struct str_buf *out)
{
    const char *p = *at, *start = p - 1;
    str_buf_append_char(out, '[');
    if (*p == '^')
        str_buf_append_char(out, *p++);
    for (bool is_first = true; *p != ']' || is_first; is_first = false) {
        const char *named = strncmp(p, "[:", 2) == 0 ? strstr(p, ":]") : NULL;
        if (named != NULL) {
            str_buf_append_bytes(out, p, (size_t)(named + 2 - p));
            p = named + 2;
        } else if (*p == '\\') {
            const char *members = class_members(p[1]);
            if (p[1] == '\0' || (is_letter_or_digit(p[1]) && (members == NULL || (p[1] >= 'A' && p[1] <= 'Z'))))
                return unsupported(pattern, p, 2);
            if (members != NULL)
                str_buf_append(out, members);
            else
                str_buf_printf(out, "[.%c.]", p[1]);
            p += 2;
        } else if (*p == '\0' || *p == '[' || strncmp(p, "&&", 2) == 0) {
            return *p == '\0' ? unsupported(pattern, start, 1) : unsupported(pattern, p, 2);
        } else {
            str_buf_append_char(out, *p++);
        }
    }
    str_buf_append_char(out, ']');
    *at = p + 1;
    return NULL;
}

static struct error *translate(const char *pattern, struct str_buf *out)
{
    const char *p = pattern;
    while (*p != '\0') {
        if (*p == '\\') {
            TRY(translate_escape(pattern, &p, out));
        } else if (*p == '[') {
            p++;
            TRY(translate_brackets(pattern, &p, out));
        } else if (strncmp(p, "(?", 2) == 0) {
            if (p[2] != ':')
                return unsupported(pattern, p, 3);
            str_buf_append_char(out, '(');
            p += 3;
        } else {
            bool is_quantifier = strchr("*+?}", *p) != NULL;
            str_buf_append_char(out, *p++);
            if (is_quantifier && *p == '+')
                return unsupported(pattern, p - 1, 2);
            p += is_quantifier && *p == '?'; /* reluctant: for whole names all the same */
        }
    }
    return NULL;
}

struct error *kafka_topic_pattern_compile(const char *pattern, regex_t *out)
{
    struct str_buf text = {0};
    str_buf_append(&text, "^(");
    struct error *err = translate(pattern, &text);
    str_buf_append(&text, ")$");
    if (err == NULL && regcomp(out, str_buf_text(&text), REG_EXTENDED | REG_NOSUB) != 0)
        err = error_new(INVALID_ARGUMENT, "topic_pattern \"%s\" is no valid regular expression", pattern);
    str_buf_finish(&text);
    return err;
}

bool kafka_topic_pattern_matches(const regex_t *pattern, const char *topic)
{
    bool is_kafkas = strcmp(topic, "__consumer_offsets") == 0 || strcmp(topic, "__transaction_state") == 0;
    return !is_kafkas && regexec(pattern, topic, 0, NULL, 0) == 0;
}
