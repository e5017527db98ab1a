/* See truststore.h. */
#include "client/rest/truststore.h"

#include "common/base/heap.h"
#include "common/fs/fs.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define STORE_BYTES_MAX (16u << 20)

static bool is_pem(const uint8_t *bytes, size_t length)
{
    return memmem(bytes, length, "-----BEGIN ", 11) != NULL;
}

struct error *truststore_is_pem(const char *path, bool *out)
{
    uint8_t *bytes;
    size_t length;
    TRY(fs_read_file(path, STORE_BYTES_MAX, &bytes, &length));
    *out = is_pem(bytes, length);
    free(bytes);
    return NULL;
}

static char *pem_of(const STACK_OF(X509) *certificates)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    for (int i = 0; i < sk_X509_num(certificates); i++)
        PEM_write_bio_X509(bio, sk_X509_value(certificates, i));
    long length = BIO_get_mem_data(bio, &text);
    char *copy = heap_strndup(length > 0 ? text : "", (size_t)length);
    BIO_free(bio);
    return copy;
}

static struct error *bad_store(const char *path, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_get_error());
    ERR_clear_error();
    return error_new(INVALID_CONFIG, "%s %s%s%s", path, what, reason != NULL ? ": " : "", reason != NULL ? reason : "");
}

static struct error *load_pkcs12(const char *path, const char *password, const uint8_t *bytes, size_t length, char **out)
{
    static const uint8_t jks_magic[] = {0xfe, 0xed, 0xfe, 0xed};
    EVP_PKEY *key = NULL;
    X509 *certificate = NULL;
    STACK_OF(X509) *certificates = NULL;
    if (length >= 4 && memcmp(bytes, jks_magic, 4) == 0)
        return error_with_hint(error_new(INVALID_CONFIG, "%s is a store of Java's own format (JKS)", path),
                               "convert it: keytool -importkeystore -srckeystore %s -destkeystore store.p12 -deststoretype PKCS12", path);
    PKCS12 *store = d2i_PKCS12(NULL, &bytes, (long)length);
    if (store == NULL)
        return bad_store(path, "is neither PEM nor PKCS#12");
    int is_open = PKCS12_parse(store, password != NULL ? password : "", &key, &certificate, &certificates);
    PKCS12_free(store);
    if (!is_open)
        return bad_store(path, "could not be opened with the given password");
    EVP_PKEY_free(key);
    X509_free(certificate);
    *out = pem_of(certificates);
    sk_X509_pop_free(certificates, X509_free);
    return NULL;
}

struct error *truststore_load(const char *path, const char *password, char **out)
{
    uint8_t *bytes;
    size_t length;
    char *pem = NULL;
    TRY(fs_read_file(path, STORE_BYTES_MAX, &bytes, &length));
    if (is_pem(bytes, length)) {
        pem = (char *)bytes;
    } else {
        struct error *err = load_pkcs12(path, password, bytes, length, &pem);
        free(bytes);
        if (err != NULL)
            return err;
    }
    if (strstr(pem, "BEGIN CERTIFICATE") != NULL) {
        *out = pem;
        return NULL;
    }
    free(pem);
    return error_new(INVALID_CONFIG, "the truststore %s holds no certificate", path);
}
