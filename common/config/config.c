/* Storage and getters of a configuration: one layer of values over an optional base. Thread: see config.h. */
#include "common/config/config.h"

#include "common/base/check.h"
#include "common/base/hash_map.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/vec.h"
#include "common/config/config_private.h"

#include <string.h>

#define LOGGER "GlobalConfiguration"

enum {
    TYPING_EDITS_MAX = 2, /* so near to a known key, it was meant */
    NOTE_COUNT_MAX = 100,
};

struct config *config_create_over(const struct config *base)
{
    struct config *config = heap_new(struct config);
    config->base = base;
    return config;
}

void config_destroy(struct config *config)
{
    if (config == NULL)
        return;
    for (int i = 0; i < OPTION_COUNT; i++) {
        free(config->values[i].text);
        free(config->used_keys[i]);
    }
    for (size_t i = 0; i < config->unknown.count; i++)
        free(config->unknown.entries[i].value);
    hash_map_finish(&config->unknown);
    for (size_t i = 0; i < config->notes.count; i++)
        free(config->notes.items[i]);
    vec_finish(&config->notes);
    free(config);
}

/* ---- setting ---- */

static void note(struct config *config, char *text)
{
    for (size_t i = 0; i < config->notes.count; i++)
        if (strcmp(config->notes.items[i], text) == 0) {
            free(text);
            return;
        }
    vec_push(&config->notes, text);
}

static void set_unknown(struct config *config, const char *key, const char *value, const char *source)
{
    char *before = hash_map_put_text(&config->unknown, key, heap_strdup(value));
    free(before);
    if (before != NULL || config->notes.count >= NOTE_COUNT_MAX)
        return; /* noted; or a file of something else: the first hundred keys say so */
    const char *nearest = option_nearest(key, TYPING_EDITS_MAX);
    if (nearest == NULL && strncmp(key, "metrics.reporter.", strlen("metrics.reporter.")) == 0)
        return; /* reporters have names of their own: whoever starts them reads these keys */
    if (nearest == NULL && option_is_meaningless(key)) {
        note(config, heap_printf("I%s has no meaning in Millrace (%s)", key, source));
        return;
    }
    if (nearest == NULL)
        nearest = option_nearest(key, strlen(key) / 3);
    note(config, nearest != NULL ? heap_printf("WUnknown configuration key %s (%s). Did you mean %s?", key, source, nearest)
                                 : heap_printf("WUnknown configuration key %s (%s)", key, source));
}

struct error *config_set(struct config *config, const char *key, const char *value, const char *source)
{
    enum option option = option_find(key);
    if (option == OPTION_COUNT) {
        set_unknown(config, key, value, source);
        return NULL;
    }
    struct option_value parsed;
    struct error *err = value[0] != '\0' || option_rows[option].default_text[0] != '\0' || option_rows[option].type == OPTION_TYPE_STRING
                            ? option_value_parse(option, value, &parsed)
                            : (parsed = (struct option_value){.text = heap_strdup("")}, NULL);
    if (err != NULL) {
        struct error *outer = error_new(INVALID_CONFIG, "bad value \"%s\" of %s (%s): %s", value, key, source, err->message);
        error_free(err);
        return outer;
    }
    if (strncmp(option_rows[option].doc, "No effect", strlen("No effect")) == 0 && strcmp(value, option_rows[option].default_text) != 0)
        note(config, heap_printf("I%s: %s (%s)", key, option_rows[option].doc, source));
    free(config->values[option].text);
    config->values[option] = parsed;
    free(config->used_keys[option]);
    config->used_keys[option] = heap_strdup(key);
    return NULL;
}

struct error *config_set_json(struct config *config, const json_t *object, const char *source)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return error_new(INVALID_CONFIG, "the configuration in %s is not an object", source);
    json_object_foreach ((json_t *)(uintptr_t)object, key, value) {
        if (json_is_string(value)) {
            TRY(config_set(config, key, json_string_value(value), source));
            continue;
        }
        if (!json_is_number(value) && !json_is_boolean(value))
            return error_new(INVALID_CONFIG, "the value of %s (%s) is not a text", key, source);
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        struct error *err = config_set(config, key, text, source);
        free(text);
        TRY(err);
    }
    return NULL;
}

struct error *config_set_assignment(struct config *config, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    if (equals == NULL || equals == assignment)
        return error_new(INVALID_CONFIG, "-D %s: expected key=value", assignment);
    char *key = heap_strndup(assignment, (size_t)(equals - assignment));
    struct error *err = config_set(config, key, equals + 1, "-D");
    free(key);
    return err;
}

/* ---- reading ---- */

const struct option_value *config_find(const struct config *config, enum option option)
{
    for (; config != NULL; config = config->base)
        if (config->values[option].text != NULL)
            return &config->values[option];
    return NULL;
}

/* The value in force; parsed from the default when nobody set it. */
static struct option_value value_of(const struct config *config, enum option option, enum option_type type)
{
    check(option_rows[option].type == type);
    const struct option_value *set = config_find(config, option);
    if (set != NULL)
        return *set;
    struct option_value value = {0};
    if (option_rows[option].default_text[0] != '\0') {
        struct error *err = option_value_parse(option, option_rows[option].default_text, &value);
        check(err == NULL); /* test_config proves it for each row */
        free(value.text);
        value.text = NULL;
    }
    return value;
}

const char *config_text(const struct config *config, enum option option)
{
    const struct option_value *set = config_find(config, option);
    return set != NULL ? set->text : option_rows[option].default_text;
}

int64_t config_int(const struct config *config, enum option option)
{
    return value_of(config, option, option_rows[option].type == OPTION_TYPE_PORTS ? OPTION_TYPE_PORTS : OPTION_TYPE_INT).number;
}

double config_double(const struct config *config, enum option option)
{
    return value_of(config, option, OPTION_TYPE_DOUBLE).real;
}

bool config_bool(const struct config *config, enum option option)
{
    return value_of(config, option, OPTION_TYPE_BOOL).number != 0;
}

int64_t config_ms(const struct config *config, enum option option)
{
    return value_of(config, option, OPTION_TYPE_DURATION).number;
}

int64_t config_bytes(const struct config *config, enum option option)
{
    return value_of(config, option, OPTION_TYPE_BYTES).number;
}

void config_ports(const struct config *config, enum option option, uint16_t *first, uint16_t *last)
{
    struct option_value value = value_of(config, option, OPTION_TYPE_PORTS);
    *first = (uint16_t)value.number;
    *last = (uint16_t)value.last;
}

bool config_is(const struct config *config, enum option option, const char *word)
{
    check(option_rows[option].type == OPTION_TYPE_ENUM);
    return option_word_equals(config_text(config, option), word, strlen(word));
}

bool config_is_set(const struct config *config, enum option option)
{
    return config_find(config, option) != NULL;
}

const char *config_raw(const struct config *config, const char *key)
{
    enum option option = option_find(key);
    if (option != OPTION_COUNT) {
        const struct option_value *set = config_find(config, option);
        return set != NULL ? set->text : NULL;
    }
    for (; config != NULL; config = config->base) {
        const char *value = hash_map_get_text(&config->unknown, key);
        if (value != NULL)
            return value;
    }
    return NULL;
}

/* ---- listing ---- */

static void add_layer(const struct config *config, json_t *object)
{
    if (config == NULL)
        return;
    add_layer(config->base, object);
    for (int i = 0; i < OPTION_COUNT; i++)
        if (config->values[i].text != NULL) {
            /* A base may have used the other of two names. */
            json_object_del(object, option_rows[i].key);
            if (option_rows[i].old_key[0] != '\0')
                json_object_del(object, option_rows[i].old_key);
            json_object_set_new(object, config->used_keys[i], json_string(config->values[i].text));
        }
    for (size_t i = 0; i < config->unknown.count; i++) {
        const struct hash_map_entry *entry = &config->unknown.entries[i];
        json_object_setn_new(object, entry->key, entry->key_length, json_string(entry->value));
    }
}

json_t *config_to_json(const struct config *config)
{
    json_t *object = json_object();
    add_layer(config, object);
    return object;
}

bool config_is_secret(const char *key)
{
    static const char *const parts[] = {"password", "secret", "token", "apikey", "api-key", "auth-params", "service-key",
                                        "fs.azure.account.key", "basic-auth", "jaas.config", "http-headers"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcasestr(key, parts[i]) != NULL && strcmp(key, option_rows[OPTION_SECRET_FILE].key) != 0)
            return true;
    return false;
}

json_t *config_list_json(const struct config *config)
{
    json_t *object = config_to_json(config);
    json_t *list = json_array();
    const char *key;
    json_t *value;
    json_object_foreach (object, key, value)
        json_array_append_new(list, json_pack("{s:s, s:s}", "key", key, "value",
                                              config_is_secret(key) ? CONFIG_SECRET_SHOWN : json_string_value(value)));
    json_decref(object);
    return list;
}

void config_log_notes(const struct config *config)
{
    for (size_t i = 0; i < config->notes.count; i++)
        log_write(config->notes.items[i][0] == 'W' ? LOG_WARN : LOG_INFO, LOGGER, "%s", config->notes.items[i] + 1);
}

const char *const *config_notes(const struct config *config, size_t *count)
{
    *count = config->notes.count;
    return (const char *const *)config->notes.items;
}

const char *option_key(enum option option)
{
    return option_rows[option].key;
}
