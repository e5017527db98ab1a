/* Keys and certificates from PEM and PKCS#12 files (http_tls.h). Thread: any. */
#include "common/http/http_tls.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "common/fs/fs.h"

#include <gnutls/gnutls.h>
#include <gnutls/pkcs12.h>
#include <gnutls/x509.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX (1u << 20)

static bool is_given(const char *text)
{
    return text != NULL && text[0] != '\0';
}

static bool is_pem(const gnutls_datum_t *file)
{
    return memmem(file->data, file->size, "-----BEGIN ", 11) != NULL;
}

static struct error *read_file(const char *path, gnutls_datum_t *out)
{
    uint8_t *bytes;
    size_t length;
    TRY(fs_read_file(path, FILE_BYTES_MAX, &bytes, &length));
    *out = (gnutls_datum_t){bytes, (unsigned)length};
    return NULL;
}

static struct error *bad_file(const char *path, int code)
{
    return error_new(INVALID_CONFIG, "could not read %s: %s", path, gnutls_strerror(code));
}

/* ---- PKCS#12 ---- */

static struct error *pkcs12_open(const char *path, const char *password, gnutls_pkcs12_t *out)
{
    static const unsigned char jks_magic[] = {0xfe, 0xed, 0xfe, 0xed};
    gnutls_datum_t file;
    gnutls_pkcs12_t pkcs12;
    TRY(read_file(path, &file));
    if (file.size >= 4 && memcmp(file.data, jks_magic, 4) == 0) {
        free(file.data);
        return error_with_hint(error_new(INVALID_CONFIG, "%s is a store of Java's own format (JKS)", path),
                               "convert it: keytool -importkeystore -srckeystore %s -destkeystore store.p12 -deststoretype PKCS12", path);
    }
    gnutls_pkcs12_init(&pkcs12);
    int code = gnutls_pkcs12_import(pkcs12, &file, GNUTLS_X509_FMT_DER, 0);
    free(file.data);
    struct error *err = NULL;
    if (code < 0)
        err = error_new(INVALID_CONFIG, "%s is neither PEM nor PKCS#12: %s", path, gnutls_strerror(code));
    else if (gnutls_pkcs12_verify_mac(pkcs12, password) < 0)
        err = error_new(INVALID_CONFIG, "the password of the store %s is wrong", path);
    if (err != NULL) {
        gnutls_pkcs12_deinit(pkcs12);
        return err;
    }
    *out = pkcs12;
    return NULL;
}

static void append_certificate(struct str_buf *out, gnutls_x509_crt_t certificate)
{
    gnutls_datum_t pem;
    if (gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem) < 0)
        return;
    str_buf_append_bytes(out, pem.data, pem.size);
    gnutls_free(pem.data);
}

static void append_certificates_take(struct str_buf *out, gnutls_x509_crt_t *certificates, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        append_certificate(out, certificates[i]);
        gnutls_x509_crt_deinit(certificates[i]);
    }
    gnutls_free(certificates);
}

static struct error *pkcs12_identity(const char *path, const char *password, struct http_tls *tls)
{
    gnutls_pkcs12_t pkcs12;
    gnutls_x509_privkey_t key = NULL;
    gnutls_x509_crt_t *chain = NULL;
    unsigned chain_count = 0;
    TRY(pkcs12_open(path, password, &pkcs12));
    int code = gnutls_pkcs12_simple_parse(pkcs12, password, &key, &chain, &chain_count, NULL, NULL, NULL, 0);
    gnutls_pkcs12_deinit(pkcs12);
    if (code < 0 && code != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
        return bad_file(path, code);
    gnutls_datum_t pem = {0};
    struct str_buf certificates = {0};
    append_certificates_take(&certificates, chain, chain_count);
    if (key != NULL)
        code = gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &pem);
    gnutls_x509_privkey_deinit(key);
    tls->certificates = str_buf_detach(&certificates);
    if (pem.data == NULL || chain_count == 0)
        return error_new(INVALID_CONFIG, "the store %s holds no private key with a certificate", path);
    tls->key = heap_strndup((const char *)pem.data, pem.size);
    gnutls_free(pem.data);
    return NULL;
}

/* All certificates of a bag, whoever they belong to. */
static int bag_certificates(gnutls_pkcs12_bag_t bag, const char *password, struct str_buf *out)
{
    if (gnutls_pkcs12_bag_get_type(bag, 0) == GNUTLS_BAG_ENCRYPTED) {
        int code = gnutls_pkcs12_bag_decrypt(bag, password);
        if (code < 0)
            return code;
    }
    int count = gnutls_pkcs12_bag_get_count(bag);
    for (unsigned i = 0; count > 0 && i < (unsigned)count; i++) {
        gnutls_datum_t der;
        gnutls_x509_crt_t certificate;
        if (gnutls_pkcs12_bag_get_type(bag, i) != GNUTLS_BAG_CERTIFICATE || gnutls_pkcs12_bag_get_data(bag, i, &der) < 0)
            continue;
        gnutls_x509_crt_init(&certificate);
        if (gnutls_x509_crt_import(certificate, &der, GNUTLS_X509_FMT_DER) >= 0)
            append_certificate(out, certificate);
        gnutls_x509_crt_deinit(certificate);
    }
    return 0;
}

static struct error *pkcs12_authorities(const char *path, const char *password, char **out)
{
    gnutls_pkcs12_t pkcs12;
    struct str_buf certificates = {0};
    TRY(pkcs12_open(path, password, &pkcs12));
    int code = 0;
    for (int i = 0; code >= 0; i++) {
        gnutls_pkcs12_bag_t bag;
        gnutls_pkcs12_bag_init(&bag);
        code = gnutls_pkcs12_get_bag(pkcs12, i, bag);
        if (code >= 0)
            code = bag_certificates(bag, password, &certificates);
        gnutls_pkcs12_bag_deinit(bag);
    }
    gnutls_pkcs12_deinit(pkcs12);
    if (code != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
        str_buf_finish(&certificates);
        return bad_file(path, code);
    }
    *out = str_buf_detach(&certificates);
    return NULL;
}

/* ---- whatever the files are ---- */

static struct error *load_identity(const struct http_tls_options *options, struct http_tls *tls)
{
    gnutls_datum_t file;
    if (!is_given(options->keystore)) {
        if (!is_given(options->certificate) || !is_given(options->key))
            return error_with_hint(error_new(INVALID_CONFIG, "TLS needs a certificate and its private key"),
                                   "set security.ssl.rest.keystore, or security.ssl.rest.certificate and security.ssl.rest.private-key");
        TRY(read_file(options->certificate, &file));
        tls->certificates = (char *)file.data;
        TRY(read_file(options->key, &file));
        tls->key = (char *)file.data;
        return NULL;
    }
    TRY(read_file(options->keystore, &file));
    bool keystore_is_pem = is_pem(&file);
    if (!keystore_is_pem) {
        free(file.data);
        return pkcs12_identity(options->keystore, options->keystore_password, tls);
    }
    tls->certificates = (char *)file.data;
    tls->key = heap_strdup(tls->certificates);
    return NULL;
}

static struct error *load_authorities(const struct http_tls_options *options, struct http_tls *tls)
{
    gnutls_datum_t file;
    if (!is_given(options->truststore))
        return options->requires_client
                   ? error_with_hint(error_new(INVALID_CONFIG, "clients must show a certificate, and nothing says whom to trust"),
                                     "set security.ssl.rest.truststore")
                   : NULL;
    TRY(read_file(options->truststore, &file));
    if (is_pem(&file)) {
        tls->authorities = (char *)file.data;
    } else {
        free(file.data);
        TRY(pkcs12_authorities(options->truststore, options->truststore_password, &tls->authorities));
    }
    if (strstr(tls->authorities, "BEGIN CERTIFICATE") == NULL)
        return error_new(INVALID_CONFIG, "the truststore %s holds no certificate", options->truststore);
    return NULL;
}

/* As libmicrohttpd will do it: the key must fit the first certificate. */
static struct error *check_identity(const struct http_tls_options *options, const struct http_tls *tls)
{
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t certificates = {(unsigned char *)tls->certificates, (unsigned)strlen(tls->certificates)};
    gnutls_datum_t key = {(unsigned char *)tls->key, (unsigned)strlen(tls->key)};
    gnutls_certificate_allocate_credentials(&credentials);
    int code = gnutls_certificate_set_x509_key_mem2(credentials, &certificates, &key, GNUTLS_X509_FMT_PEM, tls->key_password, 0);
    gnutls_certificate_free_credentials(credentials);
    const char *path = is_given(options->keystore) ? options->keystore : options->certificate;
    return code >= 0 ? NULL : error_new(INVALID_CONFIG, "could not use the certificate and private key of %s: %s", path, gnutls_strerror(code));
}

struct error *http_tls_create(const struct http_tls_options *options, struct http_tls **out)
{
    struct http_tls *tls = heap_new(struct http_tls);
    struct error *err;
    tls->requires_client = options->requires_client;
    tls->key_password = is_given(options->key_password) ? heap_strdup(options->key_password) : NULL;
    TRY_GOTO(fail, load_identity(options, tls));
    TRY_GOTO(fail, load_authorities(options, tls));
    TRY_GOTO(fail, check_identity(options, tls));
    *out = tls;
    return NULL;
fail:
    http_tls_destroy(tls);
    return error_wrap(err, "could not set up TLS");
}

void http_tls_destroy(struct http_tls *tls)
{
    if (tls == NULL)
        return;
    free(tls->certificates);
    if (tls->key != NULL)
        gnutls_memset(tls->key, 0, strlen(tls->key));
    free(tls->key);
    free(tls->key_password);
    free(tls->authorities);
    free(tls);
}
