/* See digest.h: nettle's implementations behind our names. Thread: any. */
#include "common/base/digest.h"

#include <assert.h>
#include <nettle/base16.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <string.h>

static_assert(sizeof(struct digest) >= sizeof(struct sha256_ctx), "a digest has room for nettle's context");
static_assert(_Alignof(struct digest) >= _Alignof(struct sha256_ctx), "and lies as it must");
static_assert(DIGEST_HEX_LENGTH == BASE16_ENCODE_LENGTH(SHA256_DIGEST_SIZE), "two digits a byte");

static void write_hex(const uint8_t bytes[SHA256_DIGEST_SIZE], char out[DIGEST_HEX_LENGTH + 1])
{
    base16_encode_update(out, SHA256_DIGEST_SIZE, bytes);
    out[DIGEST_HEX_LENGTH] = '\0';
}

void digest_init(struct digest *digest)
{
    sha256_init((struct sha256_ctx *)(void *)digest);
}

void digest_update(struct digest *digest, const void *bytes, size_t length)
{
    sha256_update((struct sha256_ctx *)(void *)digest, length, bytes);
}

void digest_hex(struct digest *digest, char out[DIGEST_HEX_LENGTH + 1])
{
    uint8_t bytes[SHA256_DIGEST_SIZE];
    sha256_digest((struct sha256_ctx *)(void *)digest, sizeof bytes, bytes);
    write_hex(bytes, out);
}

void digest_hmac_hex(const uint8_t *key, size_t key_length, const char *text, char out[DIGEST_HEX_LENGTH + 1])
{
    struct hmac_sha256_ctx hmac;
    uint8_t bytes[SHA256_DIGEST_SIZE];
    hmac_sha256_set_key(&hmac, key_length, key);
    hmac_sha256_update(&hmac, strlen(text), (const uint8_t *)text);
    hmac_sha256_digest(&hmac, sizeof bytes, bytes);
    write_hex(bytes, out);
    explicit_bzero(&hmac, sizeof hmac);
}

bool digest_equals(const char *a, const char *b)
{
    size_t length = strlen(a);
    return strlen(b) == length && memeql_sec(a, b, length);
}
