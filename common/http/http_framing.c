/* Requests that two readers could cut apart differently (RFC 9112, 11.2: request smuggling): a proxy in front of us may see one
 * request where we see two. libmicrohttpd takes the first reading that comes to hand; here such a request is refused, and its
 * connection ends with it. Pure but for the look at libmicrohttpd's header list. Thread: the loop's. */
#include "common/http/http_private.h"

#include <string.h>
#include <strings.h>

struct framing {
    const char *fault; /* NULL: none so far */
    unsigned length_count;
    unsigned encoding_count;
    unsigned host_count;
};

/* RFC 9110, 5.6.2. A blank before the colon is the classic: some trim it, some take the field for another one. */
static bool is_token(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c) != NULL)
            return false;
    }
    return length > 0;
}

/* RFC 9110, 5.5. */
static bool is_one_line(const char *value, size_t length)
{
    return memchr(value, '\0', length) == NULL && memchr(value, '\r', length) == NULL && memchr(value, '\n', length) == NULL;
}

/* libmicrohttpd (up to 0.9.77) appends a folded line to the name of the field that it continues, so that Content-Length on two lines
 * is a field that nobody knows. */
static bool is_folded(const char *name)
{
    static const char *const framing_names[] = {MHD_HTTP_HEADER_CONTENT_LENGTH, MHD_HTTP_HEADER_TRANSFER_ENCODING};
    for (size_t i = 0; i < sizeof framing_names / sizeof framing_names[0]; i++) {
        size_t length = strlen(framing_names[i]);
        if (strncasecmp(name, framing_names[i], length) == 0 && name[length] != '\0')
            return true;
    }
    return false;
}

static enum MHD_Result look_at(void *context, enum MHD_ValueKind kind, const char *name, size_t name_length, const char *value,
                               size_t value_length)
{
    (void)kind;
    struct framing *framing = context;
    if (!is_token(name, name_length)) {
        framing->fault = "a header field has a name that is no token";
    } else if (is_folded(name)) {
        framing->fault = "a header field is folded, or its name is not known";
    } else if (value != NULL && !is_one_line(value, value_length)) {
        framing->fault = "a header field has a line end or a null byte in its value";
    } else if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) {
        framing->length_count++;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        framing->encoding_count++;
        if (value == NULL || strcasecmp(value, "chunked") != 0)
            framing->fault = "the only Transfer-Encoding is chunked";
    } else if (strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0) {
        framing->host_count++;
    }
    return framing->fault == NULL ? MHD_YES : MHD_NO;
}

const char *http_framing_fault(struct MHD_Connection *mhd, const char *method, const char *version)
{
    struct framing framing = {0};
    if (!is_token(method, strlen(method)))
        return "its method is no token";
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, look_at, &framing);
    if (framing.fault != NULL)
        return framing.fault;
    if (framing.length_count + framing.encoding_count > 1)
        return "its length is given more than once (Content-Length, Transfer-Encoding)";
    if (framing.encoding_count > 0 && strcasecmp(version, MHD_HTTP_VERSION_1_1) != 0)
        return "HTTP/1.0 has no Transfer-Encoding";
    return framing.host_count > 1 ? "it names more than one Host" : NULL;
}
