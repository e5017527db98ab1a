/* SHA-256 and HMAC-SHA256, written as lower-case hex digits (FIPS 180-4, RFC 2104). Thread: any. */
#ifndef MILLRACE_BASE_DIGEST_H
#define MILLRACE_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_HEX_LENGTH 64

/* A digest in the making: of an upload, as its pieces come. */
struct digest {
    uint64_t opaque[16];
};

void digest_init(struct digest *digest);
void digest_update(struct digest *digest, const void *bytes, size_t length);
/* The digest of all that was given, NUL-terminated. The digest starts anew. */
void digest_hex(struct digest *digest, char out[DIGEST_HEX_LENGTH + 1]);

/* HMAC of the text. */
void digest_hmac_hex(const uint8_t *key, size_t key_length, const char *text, char out[DIGEST_HEX_LENGTH + 1]);
/* Takes the same time wherever the texts differ; lengths are no secret. */
bool digest_equals(const char *a, const char *b);

#endif
