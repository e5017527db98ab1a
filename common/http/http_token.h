/* Bearer tokens of HTTP endpoints (RFC 6750), kept in a file by server and clients alike. Thread: any. */
#ifndef MILLRACE_HTTP_HTTP_TOKEN_H
#define MILLRACE_HTTP_HTTP_TOKEN_H

#include "common/base/error.h"

/* The file's text without white space around it, malloced. path "": NULL, no token. errors: NOT_FOUND, IO, INVALID_CONFIG for an empty
 * file and for characters that a header cannot hold */
MUST_CHECK struct error *http_token_load(const char *path, char **out);

#endif
