/* Data types and schemas. A schema is immutable and reference-counted; any thread may hold one. */
#ifndef MILLRACE_TYPES_SCHEMA_H
#define MILLRACE_TYPES_SCHEMA_H

#include "common/base/error.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum data_type {
#define DATA_TYPE(name, c_type, width_bytes, arrow_format, json_name) TYPE_##name,
#include "common/types/data_type.def"
#undef DATA_TYPE
    DATA_TYPE_COUNT
};

struct field {
    char *name;
    enum data_type type;
    bool nullable;
};

struct schema {
    atomic_uint refs;
    uint32_t field_count;
    struct field fields[];
};

#define SCHEMA_FIELD_COUNT_MAX 4096

/* Copies names; the caller holds one reference. */
struct schema *schema_create(const struct field *fields, uint32_t field_count);
struct schema *schema_ref(struct schema *schema);
void schema_unref(struct schema *schema);
/* Index of the field, or -1. */
int schema_find(const struct schema *schema, const char *name);
bool schema_equals(const struct schema *a, const struct schema *b);
/* [{"name":"page","type":"STRING","nullable":true}, …] */
json_t *schema_to_json(const struct schema *schema);
MUST_CHECK struct error *schema_from_json(const json_t *json, struct schema **out);

const char *data_type_name(enum data_type type);
/* False when there is no such type. */
bool data_type_from_name(const char *name, enum data_type *out);
/* Bytes of one value; 0 for BOOLEAN (one bit). */
uint32_t data_type_width(enum data_type type);
bool data_type_is_text(enum data_type type);

#endif
