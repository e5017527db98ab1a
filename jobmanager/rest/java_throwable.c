/* Writes org.apache.flink.util.SerializedThrowable objects in Java's object stream format (java_throwable.h). Thread: any. */
#include "jobmanager/rest/java_throwable.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Type codes and flags of the stream (specification 6.4.2). */
enum {
    TC_NULL = 0x70,
    TC_REFERENCE = 0x71,
    TC_CLASSDESC = 0x72,
    TC_OBJECT = 0x73,
    TC_STRING = 0x74,
    TC_ENDBLOCKDATA = 0x78,
    TC_LONGSTRING = 0x7c,
    SC_WRITE_METHOD = 0x01,
    SC_SERIALIZABLE = 0x02,
};

/* Handles are given in the order of appearance; these two are referred to again. */
#define HANDLE_SERIALIZED_THROWABLE 0x7e0000u
#define HANDLE_STRING_TYPE 0x7e0001u

#define STOREYS_MAX 32
#define CAUSED_BY "Caused by: "
#define PLAIN_CLASS "org.apache.flink.util.FlinkException"

/* ---- primitives ---- */

static void put_number(struct str_buf *out, uint64_t value, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0;)
        str_buf_append_char(out, (char)(uint8_t)(value >> (8 * i)));
}

/* Length of the UTF-8 character at text, of which length bytes are left; 0: it is none. */
static size_t character_bytes(const uint8_t *text, size_t length)
{
    uint8_t first = text[0];
    size_t bytes = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (bytes == 0 || bytes > length)
        return 0;
    for (size_t i = 1; i < bytes; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    return bytes;
}

static void put_three_bytes(struct str_buf *out, uint32_t unit)
{
    str_buf_append_char(out, (char)(uint8_t)(0xe0 | unit >> 12));
    str_buf_append_char(out, (char)(uint8_t)(0x80 | (unit >> 6 & 0x3f)));
    str_buf_append_char(out, (char)(uint8_t)(0x80 | (unit & 0x3f)));
}

/* Java's modified UTF-8: a character beyond the basic plane is two surrogates of three bytes each. */
static void put_modified_utf8(struct str_buf *out, const char *text, size_t length)
{
    const uint8_t *bytes = (const uint8_t *)text;
    for (size_t at = 0; at < length;) {
        size_t count = character_bytes(bytes + at, length - at);
        if (count == 4) {
            uint32_t code = (uint32_t)(bytes[at] & 7) << 18 | (uint32_t)(bytes[at + 1] & 0x3f) << 12 | (uint32_t)(bytes[at + 2] & 0x3f) << 6 |
                            (uint32_t)(bytes[at + 3] & 0x3f);
            put_three_bytes(out, 0xd800 + ((code - 0x10000) >> 10 & 0x3ff));
            put_three_bytes(out, 0xdc00 + ((code - 0x10000) & 0x3ff));
        } else if (count > 0) {
            str_buf_append_bytes(out, text + at, count);
        } else {
            str_buf_append_char(out, '?');
        }
        at += count > 0 ? count : 1;
    }
}

/* A name within a class description: length and bytes without a type code. */
static void put_name(struct str_buf *out, const char *name)
{
    put_number(out, strlen(name), 2);
    str_buf_append(out, name);
}

static void put_string(struct str_buf *out, const char *text, size_t length)
{
    struct str_buf encoded = {0};
    put_modified_utf8(&encoded, text, length);
    bool is_long = encoded.length > UINT16_MAX;
    put_number(out, is_long ? TC_LONGSTRING : TC_STRING, 1);
    put_number(out, encoded.length, is_long ? 8 : 2);
    str_buf_append_bytes(out, str_buf_text(&encoded), encoded.length);
    str_buf_finish(&encoded);
}

/* ---- class descriptions ---- */

static void begin_class(struct str_buf *out, const char *name, uint64_t serial_version, unsigned flags, unsigned field_count)
{
    put_number(out, TC_CLASSDESC, 1);
    put_name(out, name);
    put_number(out, serial_version, 8);
    put_number(out, flags, 1);
    put_number(out, field_count, 2);
}

/* type NULL: java.lang.String, named before. kind: 'L' object, '[' array. */
static void put_field(struct str_buf *out, char kind, const char *name, const char *type)
{
    str_buf_append_char(out, kind);
    put_name(out, name);
    if (type != NULL) {
        put_string(out, type, strlen(type));
    } else {
        put_number(out, TC_REFERENCE, 1);
        put_number(out, HANDLE_STRING_TYPE, 4);
    }
}

/* SerializedThrowable, Exception, Throwable: from the class up to its root. */
static void put_classes(struct str_buf *out)
{
    begin_class(out, "org.apache.flink.util.SerializedThrowable", 7284183123441947635u, SC_SERIALIZABLE, 3);
    put_field(out, 'L', "fullStringifiedStackTrace", "Ljava/lang/String;");
    put_field(out, 'L', "originalErrorClassName", NULL);
    put_field(out, '[', "serializedException", "[B");
    put_number(out, TC_ENDBLOCKDATA, 1);
    begin_class(out, "java.lang.Exception", (uint64_t)-3387516993124229948, SC_SERIALIZABLE, 0);
    put_number(out, TC_ENDBLOCKDATA, 1);
    begin_class(out, "java.lang.Throwable", (uint64_t)-3042686055658047285, SC_SERIALIZABLE | SC_WRITE_METHOD, 4);
    put_field(out, 'L', "cause", "Ljava/lang/Throwable;");
    put_field(out, 'L', "detailMessage", NULL);
    put_field(out, '[', "stackTrace", "[Ljava/lang/StackTraceElement;");
    put_field(out, 'L', "suppressedExceptions", "Ljava/util/List;");
    put_number(out, TC_ENDBLOCKDATA, 1);
    put_number(out, TC_NULL, 1); /* no class above */
}

/* ---- objects ---- */

/* One line of a failure: "class: message". */
struct storey {
    const char *lines; /* this storey and its causes, as a stack trace shows them */
    const char *class_name;
    size_t class_length;
    const char *message;
    size_t message_length;
};

/* "java.io.IOException: …" begins with a class name: letters and digits with a dot among them, up to a colon. */
static size_t class_name_length(const char *line)
{
    size_t length = strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$.");
    bool is_name = line[0] != '.' && memchr(line, '.', length) != NULL;
    return is_name && line[length] == ':' && (line[length + 1] == ' ' || line[length + 1] == '\n') ? length : 0;
}

static size_t split_storeys(const char *class_name, const char *lines, struct storey storeys[STOREYS_MAX])
{
    size_t count = 0;
    while (count < STOREYS_MAX) {
        struct storey *storey = &storeys[count];
        const char *next = strstr(lines, "\n" CAUSED_BY);
        size_t length = next != NULL ? (size_t)(next - lines) : strlen(lines);
        while (length > 0 && lines[length - 1] == '\n')
            length--;
        storey->lines = lines;
        storey->class_length = class_name_length(lines);
        storey->class_name = lines;
        storey->message = lines;
        storey->message_length = length;
        if (storey->class_length > 0) {
            size_t skipped = storey->class_length + 2 < length ? storey->class_length + 2 : length;
            storey->message += skipped;
            storey->message_length -= skipped;
        } else {
            storey->class_name = count == 0 && class_name != NULL ? class_name : PLAIN_CLASS;
            storey->class_length = strlen(storey->class_name);
        }
        count++;
        if (next == NULL)
            break;
        lines = next + 1 + strlen(CAUSED_BY);
    }
    return count;
}

/* The fields of a class stand behind those of the class above it; a cause lies within its effect. */
static void put_throwable(struct str_buf *out, const struct storey *storeys, size_t count)
{
    put_number(out, TC_OBJECT, 1);
    if (out->length == 5) { /* the first thing behind the stream's header */
        put_classes(out);
    } else {
        put_number(out, TC_REFERENCE, 1);
        put_number(out, HANDLE_SERIALIZED_THROWABLE, 4);
    }
    if (count > 1)
        put_throwable(out, storeys + 1, count - 1);
    else
        put_number(out, TC_NULL, 1);
    put_string(out, storeys->message, storeys->message_length);
    put_number(out, TC_NULL, 1); /* stackTrace */
    put_number(out, TC_NULL, 1); /* suppressedExceptions */
    put_number(out, TC_ENDBLOCKDATA, 1);
    put_string(out, storeys->lines, strlen(storeys->lines));
    put_string(out, storeys->class_name, storeys->class_length);
    put_number(out, TC_NULL, 1); /* serializedException: the client then keeps to this object */
}

static char *base64(const char *text, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *bytes = (const uint8_t *)text;
    char *out = heap_alloc(length / 3 * 4 + 5);
    char *to = out;
    for (size_t at = 0; at < length; at += 3) {
        size_t left = length - at;
        uint32_t group = (uint32_t)bytes[at] << 16 | (left > 1 ? (uint32_t)bytes[at + 1] << 8 : 0) | (left > 2 ? bytes[at + 2] : 0);
        *to++ = digits[group >> 18];
        *to++ = digits[group >> 12 & 63];
        *to++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *to++ = left > 2 ? digits[group & 63] : '=';
    }
    return out;
}

char *java_throwable_base64(const char *class_name, const char *lines)
{
    struct storey storeys[STOREYS_MAX];
    size_t count = split_storeys(class_name, lines, storeys);
    struct str_buf out = {0};
    put_number(&out, 0xaced0005, 4); /* magic, version; put_throwable counts on four bytes and its own type code */
    put_throwable(&out, storeys, count);
    char *text = base64(out.text, out.length);
    str_buf_finish(&out);
    return text;
}
