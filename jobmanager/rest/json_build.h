/* Short forms for building answers with jansson. Keys keep their order on the wire. Thread: any. */
#ifndef MILLRACE_REST_JSON_BUILD_H
#define MILLRACE_REST_JSON_BUILD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

static inline void put_int(json_t *object, const char *key, int64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static inline void put_real(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, json_real(value));
}

static inline void put_bool(json_t *object, const char *key, bool value)
{
    json_object_set_new(object, key, json_boolean(value));
}

/* NULL gives null. */
static inline void put_text(json_t *object, const char *key, const char *value)
{
    json_t *text = value != NULL ? json_string(value) : json_null();
    json_object_set_new(object, key, text != NULL ? text : json_string("(not UTF-8)"));
}

/* Takes value. */
static inline void put_json(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

#endif
