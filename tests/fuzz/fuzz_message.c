/* Control messages: the first two bytes are the type, the rest the body. What is accepted must survive its own encoding. */
#include "common/base/check.h"
#include "common/rpc/message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_json(uint16_t type, const uint8_t *body, size_t length)
{
    json_t *json = NULL;
    struct error *err = message_parse(type, body, length, &json);
    if (err == NULL) {
        size_t encoded_length;
        json_t *again = NULL;
        char *encoded = message_encode(type, json, &encoded_length);
        struct error *broken = message_parse(type, encoded, encoded_length, &again);
        check(broken == NULL);
        check(json_equal(json, again));
        struct error *carried = message_error_from_json(json_object_get(json, "error"));
        json_t *error_json = message_error_to_json(carried);
        check(json_is_object(error_json));
        json_decref(error_json);
        error_free(carried);
        free(encoded);
        json_decref(again);
    }
    error_free(err);
    json_decref(json);
}

static void parse_headed(uint16_t type, const uint8_t *body, size_t length)
{
    json_t *header = NULL;
    const uint8_t *bytes = NULL;
    size_t bytes_length = 0;
    struct error *err = message_parse_headed(type, body, length, &header, &bytes, &bytes_length);
    if (err == NULL) {
        size_t encoded_length;
        char *encoded = message_encode_headed(type, header, bytes, bytes_length, &encoded_length);
        check(encoded_length >= bytes_length);
        check(bytes_length == 0 || memcmp(encoded + encoded_length - bytes_length, bytes, bytes_length) == 0);
        free(encoded);
    }
    error_free(err);
    json_decref(header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint16_t type = (uint16_t)(data[0] | data[1] << 8);
    parse_json(type, data + 2, size - 2);
    parse_headed(type, data + 2, size - 2);
    return 0;
}
