/* A content-addressed directory: a blob's name is the SHA-256 of its bytes. A blob is whole or not there; its hash is checked
 * when it is put and whenever it is read. Blocking, small files: programs of users. Thread: one at a time. */
#ifndef MILLRACE_BLOB_BLOB_STORE_H
#define MILLRACE_BLOB_BLOB_STORE_H

#include "common/base/digest.h"
#include "common/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOB_KEY_HEX_BYTES DIGEST_HEX_LENGTH

struct blob_key {
    char hex[BLOB_KEY_HEX_BYTES + 1];
};

struct blob_key blob_key_of(const void *bytes, size_t length);
/* Lower-case hex only: the text becomes a file name. */
bool blob_key_parse(const char *text, struct blob_key *out);

struct blob_store;

/* Makes the directory; leftovers of interrupted puts are removed. blob_bytes_max bounds puts. */
MUST_CHECK struct error *blob_store_create(const char *directory, size_t blob_bytes_max, struct blob_store **out);
/* The files stay. Accepts NULL. */
void blob_store_destroy(struct blob_store *store);

/* Idempotent. errors: TOO_LARGE, IO */
MUST_CHECK struct error *blob_store_put(struct blob_store *store, const void *bytes, size_t length, struct blob_key *out);
MUST_CHECK struct error *blob_store_put_file(struct blob_store *store, const char *path, struct blob_key *out);
/* As put, but the bytes must have this key. errors: CORRUPT naming both hashes */
MUST_CHECK struct error *blob_store_put_expected(struct blob_store *store, const char *key, const void *bytes, size_t length);
bool blob_store_has(const struct blob_store *store, const char *key);
/* Path of a blob that is there, malloced. errors: NOT_FOUND, INVALID_ARGUMENT (no key) */
MUST_CHECK struct error *blob_store_path(const struct blob_store *store, const char *key, char **out);
/* Malloced bytes, verified. errors: NOT_FOUND, CORRUPT (the damaged file is removed, so that it can be put again) */
MUST_CHECK struct error *blob_store_read(struct blob_store *store, const char *key, uint8_t **out, size_t *out_length);
MUST_CHECK struct error *blob_store_delete(struct blob_store *store, const char *key);
/* Malloced array of keys, sorted. */
MUST_CHECK struct error *blob_store_list(const struct blob_store *store, struct blob_key **out, size_t *out_count);

#endif
