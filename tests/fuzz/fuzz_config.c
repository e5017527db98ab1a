/* Configuration texts: YAML, flat lines, FLINK_PROPERTIES and single values. What was accepted can be read back and set again. */
#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/config/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const char *text, size_t size, const char *name)
{
    struct config *config = config_create_over(NULL);
    struct error *err = config_parse(config, text, size, name);
    if (err == NULL) {
        json_t *list = config_list_json(config);
        json_t *values = config_to_json(config);
        struct config *again = config_create_over(config);
        struct error *broken = config_set_json(again, values, "again");
        check(broken == NULL);
        check(config_ms(again, OPTION_HEARTBEAT_INTERVAL) == config_ms(config, OPTION_HEARTBEAT_INTERVAL));
        config_destroy(again);
        json_decref(values);
        json_decref(list);
    }
    error_free(err);
    config_destroy(config);
}

static void parse_values(const char *text)
{
    int64_t number;
    error_free(config_parse_duration(text, &number));
    error_free(config_parse_bytes(text, &number));
    struct config *config = config_create_over(NULL);
    error_free(config_set_assignment(config, text));
    /* Each input tries a few options; all of them would cost the fuzzer most of its time. */
    int first = (int)((strlen(text) * 31 + (unsigned char)text[0]) % OPTION_COUNT);
    for (int i = 0; i < 8; i++)
        error_free(config_set(config, option_key((enum option)((first + i * 29) % OPTION_COUNT)), text, "fuzz"));
    config_destroy(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = heap_strndup(size > 0 ? (const char *)data : "", size);
    parse(text, strlen(text), "fuzz.yaml");
    parse(text, strlen(text), "FLINK_PROPERTIES");
    if (size < 200)
        parse_values(text);
    free(text);
    return 0;
}
