/* Schemas: see schema.h. The type table comes from data_type.def. */
#include "common/types/schema.h"

#include "common/base/heap.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    uint32_t width_bytes;
} types[DATA_TYPE_COUNT] = {
#define DATA_TYPE(name, c_type, width_bytes, arrow_format, json_name) {json_name, width_bytes},
#include "common/types/data_type.def"
#undef DATA_TYPE
};

struct schema *schema_create(const struct field *fields, uint32_t field_count)
{
    struct schema *schema = heap_alloc(sizeof *schema + field_count * sizeof schema->fields[0]);
    atomic_init(&schema->refs, 1);
    schema->field_count = field_count;
    for (uint32_t i = 0; i < field_count; i++)
        schema->fields[i] = (struct field){heap_strdup(fields[i].name), fields[i].type, fields[i].nullable};
    return schema;
}

struct schema *schema_ref(struct schema *schema)
{
    if (schema != NULL)
        atomic_fetch_add_explicit(&schema->refs, 1, memory_order_relaxed);
    return schema;
}

void schema_unref(struct schema *schema)
{
    if (schema == NULL || atomic_fetch_sub_explicit(&schema->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < schema->field_count; i++)
        free(schema->fields[i].name);
    free(schema);
}

int schema_find(const struct schema *schema, const char *name)
{
    for (uint32_t i = 0; i < schema->field_count; i++)
        if (strcmp(schema->fields[i].name, name) == 0)
            return (int)i;
    return -1;
}

bool schema_equals(const struct schema *a, const struct schema *b)
{
    if (a == b)
        return true;
    if (a == NULL || b == NULL || a->field_count != b->field_count)
        return false;
    for (uint32_t i = 0; i < a->field_count; i++) {
        const struct field *f = &a->fields[i], *g = &b->fields[i];
        if (f->type != g->type || f->nullable != g->nullable || strcmp(f->name, g->name) != 0)
            return false;
    }
    return true;
}

json_t *schema_to_json(const struct schema *schema)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct field *field = &schema->fields[i];
        json_array_append_new(array, json_pack("{s:s, s:s, s:b}", "name", field->name, "type", types[field->type].name,
                                               "nullable", field->nullable ? 1 : 0));
    }
    return array;
}

/* Reads one element of the array; *field borrows the name from json. */
static struct error *field_from_json(const json_t *json, size_t index, struct field *field)
{
    const char *name = json_string_value(json_object_get(json, "name"));
    const char *type = json_string_value(json_object_get(json, "type"));
    const json_t *nullable = json_object_get(json, "nullable");
    if (name == NULL || name[0] == '\0')
        return error_new(INVALID_FORMAT, "field %zu of the schema has no name", index);
    if (type == NULL || !data_type_from_name(type, &field->type))
        return error_with_hint(error_new(INVALID_FORMAT, "field \"%s\" of the schema has the unknown type \"%s\"", name,
                                         type != NULL ? type : ""),
                               "types are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, STRING, BYTES, TIMESTAMP, DATE");
    if (nullable != NULL && !json_is_boolean(nullable))
        return error_new(INVALID_FORMAT, "field \"%s\" of the schema: nullable must be true or false", name);
    field->nullable = nullable == NULL || json_is_true(nullable);
    union {
        const char *in;
        char *out;
    } borrowed = {.in = name}; /* schema_create copies it */
    field->name = borrowed.out;
    return NULL;
}

struct error *schema_from_json(const json_t *json, struct schema **out)
{
    if (!json_is_array(json))
        return error_new(INVALID_FORMAT, "a schema must be an array of fields");
    size_t count = json_array_size(json);
    if (count > SCHEMA_FIELD_COUNT_MAX)
        return error_new(INVALID_FORMAT, "a schema has %zu fields, at most %d are possible", count, SCHEMA_FIELD_COUNT_MAX);
    struct field *fields = heap_alloc_array(count != 0 ? count : 1, sizeof *fields);
    struct error *err = NULL;
    for (size_t i = 0; i < count; i++) {
        TRY_GOTO(fail, field_from_json(json_array_get(json, i), i, &fields[i]));
        for (size_t j = 0; j < i; j++)
            if (strcmp(fields[j].name, fields[i].name) == 0) {
                err = error_new(INVALID_FORMAT, "the schema has two fields \"%s\"", fields[i].name);
                goto fail;
            }
    }
    *out = schema_create(fields, (uint32_t)count);
fail:
    free(fields);
    return err;
}

const char *data_type_name(enum data_type type)
{
    return types[type].name;
}

bool data_type_from_name(const char *name, enum data_type *out)
{
    for (int i = 0; i < DATA_TYPE_COUNT; i++)
        if (strcmp(types[i].name, name) == 0) {
            *out = (enum data_type)i;
            return true;
        }
    return false;
}

uint32_t data_type_width(enum data_type type)
{
    return types[type].width_bytes;
}

bool data_type_is_text(enum data_type type)
{
    return type == TYPE_STRING || type == TYPE_BYTES;
}
