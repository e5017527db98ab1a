/* Cuts multipart bodies into parts (multipart.h). A window holds the bytes that are not decided yet: a header that is not whole,
 * or a tail that may be the beginning of a delimiter. Thread: any, one at a time. */
#include "common/http/multipart.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BOUNDARY_LENGTH_MAX 70
#define HEADER_BYTES_MAX 8192

enum multipart_state { PART_NONE, PART_DELIMITER, PART_HEADER, PART_DATA, PART_END, PART_BROKEN };

struct multipart {
    const struct multipart_handler *handler;
    void *context;
    enum multipart_state state;
    char delimiter[BOUNDARY_LENGTH_MAX + 5]; /* CR LF - - boundary */
    size_t delimiter_length;
    struct str_buf window;
};

/* ---- parameters of header fields ---- */

/* The value of `; name=value` or `; name="value"` behind the field's first word; NULL when absent. Malloced. */
static char *field_param(const char *field, const char *name)
{
    size_t name_length = strlen(name);
    for (const char *at = field + strcspn(field, ";"); *at == ';'; at += strcspn(at, ";")) {
        at += 1 + strspn(at + 1, " \t");
        bool is_wanted = strncasecmp(at, name, name_length) == 0 && at[name_length] == '=';
        at += strcspn(at, "=;");
        if (*at != '=')
            continue;
        at++;
        struct str_buf value = {0};
        if (*at == '"') {
            for (at++; *at != '\0' && *at != '"'; at++) {
                /* Windows browsers send whole paths: only quotes and backslashes are escaped. */
                if (at[0] == '\\' && (at[1] == '"' || at[1] == '\\'))
                    at++;
                str_buf_append_char(&value, *at);
            }
        } else {
            size_t length = strcspn(at, "; \t");
            str_buf_append_bytes(&value, at, length);
            at += length;
        }
        if (is_wanted)
            return str_buf_detach(&value);
        str_buf_finish(&value);
    }
    return NULL;
}

struct multipart *multipart_create(const char *content_type, const struct multipart_handler *handler, void *context)
{
    static const char type[] = "multipart/form-data";
    size_t type_length = sizeof type - 1;
    if (strncasecmp(content_type, type, type_length) != 0 || strchr("; \t", content_type[type_length]) == NULL)
        return NULL;
    char *boundary = field_param(content_type, "boundary");
    size_t length = boundary != NULL ? strlen(boundary) : 0;
    struct multipart *multipart = NULL;
    if (length > 0 && length <= BOUNDARY_LENGTH_MAX) {
        multipart = heap_new(struct multipart);
        multipart->handler = handler;
        multipart->context = context;
        memcpy(multipart->delimiter, "\r\n--", 4);
        memcpy(multipart->delimiter + 4, boundary, length);
        multipart->delimiter_length = length + 4;
        /* The first delimiter may stand at the very beginning. */
        str_buf_append(&multipart->window, "\r\n");
    }
    free(boundary);
    return multipart;
}

void multipart_destroy(struct multipart *multipart)
{
    if (multipart == NULL)
        return;
    str_buf_finish(&multipart->window);
    free(multipart);
}

bool multipart_is_complete(const struct multipart *multipart)
{
    return multipart->state == PART_END;
}

/* ---- the states: each takes bytes off the front, and says whether it needs more ---- */

struct cursor {
    const char *at;
    const char *end;
};

static size_t left(const struct cursor *cursor)
{
    return (size_t)(cursor->end - cursor->at);
}

/* Up to the delimiter, or up to where one may begin. */
static bool take_data(struct multipart *multipart, struct cursor *cursor)
{
    const char *found = memmem(cursor->at, left(cursor), multipart->delimiter, multipart->delimiter_length);
    size_t keep = left(cursor) < multipart->delimiter_length ? left(cursor) : multipart->delimiter_length - 1;
    const char *stop = found != NULL ? found : cursor->end - keep;
    /* Without a carriage return in the tail nothing can begin there. */
    if (found == NULL) {
        const char *candidate = memchr(stop, '\r', keep);
        stop = candidate != NULL ? candidate : cursor->end;
    }
    if (multipart->state == PART_DATA && stop > cursor->at)
        multipart->handler->on_data(multipart->context, cursor->at, (size_t)(stop - cursor->at));
    cursor->at = stop;
    if (found == NULL)
        return false;
    cursor->at += multipart->delimiter_length;
    multipart->state = PART_DELIMITER;
    return true;
}

/* What stands behind a delimiter: `--` at the end of the body, else blanks and the end of the line. */
static bool take_delimiter_end(struct multipart *multipart, struct cursor *cursor)
{
    if (left(cursor) < 2)
        return false;
    if (memcmp(cursor->at, "--", 2) == 0) {
        multipart->state = PART_END;
        return false;
    }
    const char *at = cursor->at;
    while (at < cursor->end && (*at == ' ' || *at == '\t'))
        at++;
    if (cursor->end - at < 2 && left(cursor) < HEADER_BYTES_MAX)
        return false;
    if (cursor->end - at < 2 || memcmp(at, "\r\n", 2) != 0) {
        multipart->state = PART_BROKEN;
        return false;
    }
    /* The line end stays: a header without lines then ends with CR LF CR LF like any other. */
    cursor->at = at;
    multipart->state = PART_HEADER;
    return true;
}

static void begin_part(struct multipart *multipart, const char *header, size_t length)
{
    static const char disposition[] = "content-disposition:";
    char *text = heap_strndup(header, length);
    char *name = NULL, *filename = NULL;
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        line[strcspn(line, "\r")] = '\0';
        if (name != NULL || filename != NULL || strncasecmp(line, disposition, sizeof disposition - 1) != 0)
            continue;
        name = field_param(line, "name");
        filename = field_param(line, "filename");
    }
    multipart->handler->on_part(multipart->context, name, filename);
    free(name);
    free(filename);
    free(text);
}

static bool take_header(struct multipart *multipart, struct cursor *cursor)
{
    const char *found = memmem(cursor->at, left(cursor), "\r\n\r\n", 4);
    size_t length = found != NULL ? (size_t)(found - cursor->at) : left(cursor);
    if (length > HEADER_BYTES_MAX)
        multipart->state = PART_BROKEN;
    if (found == NULL || length > HEADER_BYTES_MAX)
        return false;
    begin_part(multipart, cursor->at, length);
    cursor->at = found + 4;
    multipart->state = PART_DATA;
    return true;
}

static bool step(struct multipart *multipart, struct cursor *cursor)
{
    switch (multipart->state) {
    case PART_NONE:
    case PART_DATA:
        return take_data(multipart, cursor);
    case PART_DELIMITER:
        return take_delimiter_end(multipart, cursor);
    case PART_HEADER:
        return take_header(multipart, cursor);
    case PART_END:
    case PART_BROKEN:
        break;
    }
    cursor->at = cursor->end;
    return false;
}

bool multipart_feed(struct multipart *multipart, const void *bytes, size_t length)
{
    if (multipart->state == PART_BROKEN || multipart->state == PART_END)
        return multipart->state == PART_END;
    str_buf_append_bytes(&multipart->window, bytes, length);
    struct cursor cursor = {multipart->window.text, multipart->window.text + multipart->window.length};
    while (step(multipart, &cursor))
        continue;
    size_t rest = multipart->state == PART_BROKEN || multipart->state == PART_END ? 0 : left(&cursor);
    memmove(multipart->window.text, cursor.at, rest);
    multipart->window.length = rest;
    return multipart->state != PART_BROKEN;
}
