/* The message table and its checks; see message.h. Member lists are short texts that are walked at each check: a few
 * dozen bytes a control message, never on the data path. */
#include "common/rpc/message.h"

#include "common/base/check.h"
#include "common/base/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum message_kind { KIND_JSON, KIND_HEADED, KIND_BINARY };

struct message_row {
    uint16_t number;
    enum message_kind kind;
    const char *name;
    const char *members;
};

static const struct message_row message_rows[] = {
#define MESSAGE(name, number, kind, members) {number, KIND_##kind, #name, members},
#include "common/rpc/messages.def"
#undef MESSAGE
};

enum { ERROR_STOREYS_MAX = 16, ERROR_TEXT_BYTES_MAX = 64 << 10 };

static const struct message_row *row_of(uint16_t type)
{
    for (size_t i = 0; i < sizeof message_rows / sizeof *message_rows; i++)
        if (message_rows[i].number == type)
            return &message_rows[i];
    return NULL;
}

const char *message_type_name(uint16_t type)
{
    const struct message_row *row = row_of(type);
    return row != NULL ? row->name : "unknown";
}

static bool has_type(const json_t *value, const char *type, size_t length)
{
    struct id id;
#define IS(name) (length == sizeof(name) - 1 && memcmp(type, name, sizeof(name) - 1) == 0)
    if (IS("any"))
        return true;
    if (IS("id"))
        return json_is_string(value) && id_parse(json_string_value(value), &id);
    if (IS("string"))
        return json_is_string(value);
    if (IS("int"))
        return json_is_integer(value);
    if (IS("number"))
        return json_is_number(value);
    if (IS("bool"))
        return json_is_boolean(value);
    if (IS("object"))
        return json_is_object(value);
    if (IS("array"))
        return json_is_array(value);
#undef IS
    check(false && "messages.def names an unknown type");
    return false;
}

/* Walks "name:type name:type? …". */
static struct error *members_check(const struct message_row *row, const json_t *json)
{
    const char *at = row->members;
    while (*at != '\0') {
        size_t name_length = strcspn(at, ":");
        const char *type = at + name_length + 1;
        size_t type_length = strcspn(type, " ");
        bool is_optional = type[type_length - 1] == '?';
        const json_t *value = json_object_getn(json, at, name_length);
        bool is_missing = value == NULL || (is_optional && json_is_null(value));
        if (is_missing && !is_optional)
            return error_new(PROTOCOL, "message %s has no member \"%.*s\"", row->name, (int)name_length, at);
        if (!is_missing && !has_type(value, type, type_length - (is_optional ? 1 : 0)))
            return error_new(PROTOCOL, "member \"%.*s\" of message %s is not of type %.*s", (int)name_length, at, row->name,
                             (int)(type_length - (is_optional ? 1 : 0)), type);
        at = type + type_length;
        at += strspn(at, " ");
    }
    return NULL;
}

static struct error *parse_object(const struct message_row *row, const char *text, size_t length, json_t **out)
{
    json_error_t at;
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &at);
    if (json == NULL)
        return error_new(PROTOCOL, "message %s is not JSON: %s at byte %d", row->name, at.text, at.position);
    struct error *err = json_is_object(json) ? members_check(row, json)
                                             : error_new(PROTOCOL, "message %s is not a JSON object", row->name);
    if (err != NULL) {
        json_decref(json);
        return err;
    }
    *out = json;
    return NULL;
}

static struct error *row_of_kind(uint16_t type, enum message_kind kind, const struct message_row **out)
{
    const struct message_row *row = row_of(type);
    if (row == NULL)
        return error_new(PROTOCOL, "unknown message type %u", type);
    if (row->kind != kind)
        return error_new(PROTOCOL, "message %s does not belong here", row->name);
    *out = row;
    return NULL;
}

struct error *message_parse(uint16_t type, const void *body, size_t length, json_t **out)
{
    const struct message_row *row;
    TRY(row_of_kind(type, KIND_JSON, &row));
    return parse_object(row, length > 0 ? body : "", length, out);
}

/* A message of our own that breaks the table is a defect, not an input. */
static void own_message_check(uint16_t type, enum message_kind kind, const json_t *json)
{
    const struct message_row *row;
    struct error *err = row_of_kind(type, kind, &row);
    if (err == NULL)
        err = members_check(row, json);
    if (err != NULL) {
        fprintf(stderr, "%s\n", err->message);
        abort();
    }
}

char *message_encode(uint16_t type, const json_t *json, size_t *length)
{
    own_message_check(type, KIND_JSON, json);
    char *text = json_dumps(json, JSON_COMPACT);
    check(text != NULL);
    *length = strlen(text);
    return text;
}

struct error *message_parse_headed(uint16_t type, const void *body, size_t length, json_t **header, const uint8_t **bytes,
                                   size_t *bytes_length)
{
    const struct message_row *row;
    TRY(row_of_kind(type, KIND_HEADED, &row));
    const char *line_end = length > 0 ? memchr(body, '\n', length) : NULL;
    if (line_end == NULL)
        return error_new(PROTOCOL, "message %s has no header line", row->name);
    size_t line_length = (size_t)(line_end - (const char *)body);
    TRY(parse_object(row, body, line_length, header));
    *bytes = (const uint8_t *)body + line_length + 1;
    *bytes_length = length - line_length - 1;
    return NULL;
}

char *message_encode_headed(uint16_t type, const json_t *header, const void *bytes, size_t bytes_length, size_t *length)
{
    own_message_check(type, KIND_HEADED, header);
    char *line = json_dumps(header, JSON_COMPACT);
    check(line != NULL);
    size_t line_length = strlen(line);
    char *body = heap_realloc(line, line_length + 1 + bytes_length + 1, 1);
    body[line_length] = '\n';
    if (bytes_length > 0)
        memcpy(body + line_length + 1, bytes, bytes_length);
    body[line_length + 1 + bytes_length] = '\0';
    *length = line_length + 1 + bytes_length;
    return body;
}

const char *message_text(const json_t *json, const char *member)
{
    return json_string_value(json_object_get(json, member));
}

int64_t message_int(const json_t *json, const char *member)
{
    return json_integer_value(json_object_get(json, member));
}

struct id message_id(const json_t *json, const char *member)
{
    struct id id = {0};
    const char *text = message_text(json, member);
    if (text == NULL || !id_parse(text, &id))
        return (struct id){0};
    return id;
}

/* ---- errors ---- */

/* Error texts may quote any bytes; JSON takes UTF-8 only. */
static json_t *lenient_text(const char *text)
{
    size_t length = strnlen(text, ERROR_TEXT_BYTES_MAX);
    json_t *value = json_stringn(text, length);
    if (value != NULL)
        return value;
    char *ascii = heap_strndup(text, length);
    for (char *c = ascii; *c != '\0'; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    value = json_string(ascii);
    free(ascii);
    return value;
}

json_t *message_error_to_json(const struct error *err)
{
    json_t *first = NULL;
    json_t *above = NULL;
    for (int storey = 0; err != NULL && storey < ERROR_STOREYS_MAX; storey++, err = err->cause) {
        json_t *json = json_object();
        json_object_set_new(json, "code", json_string(error_code_name(err->code)));
        json_object_set_new(json, "message", lenient_text(err->message));
        if (err->hint != NULL)
            json_object_set_new(json, "hint", lenient_text(err->hint));
        if (above != NULL)
            json_object_set_new(above, "cause", json);
        else
            first = json;
        above = json;
    }
    return first != NULL ? first : json_object();
}

static struct error *error_from_storey(const json_t *json, int storey)
{
    if (!json_is_object(json) || message_text(json, "message") == NULL)
        return error_new(INTERNAL, "unreadable error");
    const json_t *cause_json = json_object_get(json, "cause");
    const char *code_name = message_text(json, "code");
    enum error_code code = error_code_from_name(code_name != NULL ? code_name : "");
    struct error *err;
    if (cause_json != NULL && storey + 1 < ERROR_STOREYS_MAX) {
        err = error_wrap(error_from_storey(cause_json, storey + 1), "%s", message_text(json, "message"));
        err->code = code;
    } else {
        err = error_create(code, __FILE__, __LINE__, "%s", message_text(json, "message"));
    }
    const char *hint = message_text(json, "hint");
    return hint != NULL ? error_with_hint(err, "%s", hint) : err;
}

struct error *message_error_from_json(const json_t *json)
{
    return error_from_storey(json, 0);
}
