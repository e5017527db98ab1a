/* The server's side of TLS: its key and certificates, and the authorities that it trusts, read from files and checked at once, so
 * that a mistake shows at the start and not at the first client. Files are PEM, or PKCS#12 as Java's keytool writes them.
 * Thread: any until the server has it, then immutable. */
#ifndef MILLRACE_HTTP_HTTP_TLS_H
#define MILLRACE_HTTP_HTTP_TLS_H

#include "common/base/error.h"

#include <stdbool.h>

/* Empty texts are "not given". Either keystore, or certificate and key. */
struct http_tls_options {
    const char *keystore;            /* PKCS#12, or PEM with certificates and key */
    const char *keystore_password;
    const char *certificate;         /* PEM, the server's first, then its issuers */
    const char *key;                 /* PEM */
    const char *key_password;        /* of a PEM key that is encrypted */
    const char *truststore;          /* PKCS#12 or PEM; needed with requires_client */
    const char *truststore_password;
    bool requires_client;            /* clients need a certificate that the truststore vouches for */
};

/* What libmicrohttpd takes: PEM texts. */
struct http_tls {
    char *certificates;
    char *key;
    char *key_password; /* NULL: none */
    char *authorities;  /* NULL: none */
    bool requires_client;
};

/* errors: INVALID_CONFIG, NOT_FOUND, IO, each naming the file */
MUST_CHECK struct error *http_tls_create(const struct http_tls_options *options, struct http_tls **out);
/* Accepts NULL. */
void http_tls_destroy(struct http_tls *tls);

#endif
