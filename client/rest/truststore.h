/* Certificates that a client trusts, from PEM and PKCS#12 files. The only user of OpenSSL, which libcurl brings along.
 * Thread: the client's. */
#ifndef MILLRACE_CLIENT_TRUSTSTORE_H
#define MILLRACE_CLIENT_TRUSTSTORE_H

#include "common/base/error.h"

#include <stdbool.h>

/* All certificates of the file as PEM text, malloced. password: of a PKCS#12 store.
 * errors: INVALID_CONFIG, NOT_FOUND, IO, naming the file */
MUST_CHECK struct error *truststore_load(const char *path, const char *password, char **out);
/* Else it is taken for PKCS#12. */
MUST_CHECK struct error *truststore_is_pem(const char *path, bool *out);

#endif
