/* Fuzz target: `_metadata` files. What is accepted must survive the way to text and back. The checksum would stop nearly
 * every mutation, so the input is also tried as JSON under a right one. */
#include "common/checkpoint/checkpoint_metadata.h"

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/str_buf.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const char *text, size_t length)
{
    json_t *metadata = NULL;
    struct error *err = checkpoint_metadata_decode(text, length, &metadata);
    if (err != NULL) {
        error_free(err);
        return;
    }
    size_t written_length;
    char *written = checkpoint_metadata_encode(metadata, &written_length);
    json_t *again = NULL;
    err = checkpoint_metadata_decode(written, written_length, &again);
    check(err == NULL);
    check(json_equal(metadata, again));
    json_decref(metadata);
    json_decref(again);
    free(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str_buf text = {0};
    str_buf_append_bytes(&text, data, size);
    decode(str_buf_text(&text), size);
    str_buf_printf(&text, "\ncrc32c:%08x\n", crc32c(crc32c(0, data, size), "\n", 1));
    decode(text.text, text.length);
    str_buf_finish(&text);
    return 0;
}
