/* See http_token.h. */
#include "common/http/http_token.h"

#include "common/fs/fs.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_BYTES_MAX 4096

static bool is_header_text(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p <= 0x20 || *p >= 0x7f)
            return false;
    }
    return true;
}

struct error *http_token_load(const char *path, char **out)
{
    uint8_t *bytes;
    size_t length;
    *out = NULL;
    if (path[0] == '\0')
        return NULL;
    struct error *err = fs_read_file(path, TOKEN_BYTES_MAX, &bytes, &length);
    if (err != NULL)
        return error_wrap(err, "could not read the token file (security.rest.token-file)");
    char *text = (char *)bytes;
    size_t begin = strspn(text, " \t\r\n");
    size_t end = strlen(text);
    while (end > begin && strchr(" \t\r\n", text[end - 1]) != NULL)
        end--;
    text[end] = '\0';
    memmove(text, text + begin, end - begin + 1);
    if (text[0] != '\0' && is_header_text(text)) {
        *out = text;
        return NULL;
    }
    bool is_empty = text[0] == '\0';
    free(text);
    return error_new(INVALID_CONFIG, "the token file %s (security.rest.token-file) %s", path,
                     is_empty ? "is empty" : "holds white space or characters beyond ASCII inside the token");
}
