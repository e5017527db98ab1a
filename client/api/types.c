/* Record types and functions as the graph needs them: schemas, field lookups, checks at graph time, symbols. */
#include "api_internal.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name; /* as in the job graph */
    uint16_t size_bytes;
} types[] = {
    [MR_BOOLEAN] = {"BOOLEAN", sizeof(bool)},  [MR_INT8] = {"TINYINT", 1},  [MR_INT16] = {"SMALLINT", 2},
    [MR_INT32] = {"INT", 4},                   [MR_INT64] = {"BIGINT", 8},  [MR_FLOAT] = {"FLOAT", sizeof(float)},
    [MR_DOUBLE] = {"DOUBLE", sizeof(double)},  [MR_STRING] = {"STRING", sizeof(mr_string)},
    [MR_BYTES] = {"BYTES", sizeof(mr_bytes)},  [MR_TIMESTAMP] = {"TIMESTAMP", sizeof(mr_timestamp)},
};
#define TYPE_COUNT (sizeof types / sizeof types[0])

const char *api_type_name(enum mr_type type)
{
    return (size_t)type < TYPE_COUNT ? types[type].name : "?";
}

json_t *api_schema(const struct mr_record_type *type)
{
    if (type == NULL)
        return json_null();
    json_t *schema = json_array();
    for (uint32_t i = 0; i < type->field_count; i++)
        json_array_append_new(schema, json_pack("{s:s, s:s, s:b}", "name", type->fields[i].name, "type",
                                                api_type_name(type->fields[i].type), "nullable", 0));
    return schema;
}

int api_field_index(const struct mr_record_type *type, const char *name, size_t length)
{
    for (uint32_t i = 0; i < type->field_count; i++) {
        if (strlen(type->fields[i].name) == length && memcmp(type->fields[i].name, name, length) == 0)
            return (int)i;
    }
    return -1;
}

/* "timestamp, page" for messages. */
static char *field_list(const struct mr_record_type *type)
{
    char *text = api_copy("");
    for (uint32_t i = 0; i < type->field_count; i++)
        text = api_printf("%s%s%s", text, i > 0 ? ", " : "", type->fields[i].name);
    return text;
}

bool api_parse_fields(struct mr_env *env, const char *who, const struct mr_record_type *type, const char *fields, uint32_t **out, uint32_t *count)
{
    if (fields == NULL || *fields == '\0') {
        api_fail(env, "%s: no field is named", who);
        return false;
    }
    uint32_t *columns = api_alloc((strlen(fields) + 1) * sizeof *columns);
    uint32_t found = 0;
    for (const char *at = fields;; at++) {
        at += strspn(at, " ");
        size_t length = strcspn(at, ",");
        size_t name_length = length;
        while (name_length > 0 && at[name_length - 1] == ' ')
            name_length--;
        int index = api_field_index(type, at, name_length);
        if (index < 0) {
            api_fail(env, "%s: record %s has no field \"%.*s\" (it has %s)", who, type->name, (int)name_length, at, field_list(type));
            return false;
        }
        for (uint32_t i = 0; i < found; i++) {
            if (columns[i] == (uint32_t)index) {
                api_fail(env, "%s: field \"%.*s\" is named twice", who, (int)name_length, at);
                return false;
            }
        }
        columns[found++] = (uint32_t)index;
        at += length;
        if (*at == '\0')
            break;
    }
    *out = columns;
    *count = found;
    return true;
}

json_t *api_columns(const uint32_t *columns, uint32_t count)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(array, json_integer(columns[i]));
    return array;
}

bool api_check_record(struct mr_env *env, const char *who, const struct mr_record_type *type)
{
    if (type == NULL || type->field_count == 0 || type->fields == NULL) {
        api_fail(env, "%s: no record type is given", who);
        return false;
    }
    size_t offset = 0, alignment = 1;
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct mr_field *field = &type->fields[i];
        if ((size_t)field->type >= TYPE_COUNT || field->size_bytes != types[field->type].size_bytes || field->alignment == 0) {
            api_fail(env, "%s: field \"%s\" of record %s has a C type of another size than its declared type", who, field->name, type->name);
            return false;
        }
        if (api_field_index(type, field->name, strlen(field->name)) != (int)i) {
            api_fail(env, "%s: record %s has two fields \"%s\"", who, type->name, field->name);
            return false;
        }
        offset = (offset + field->alignment - 1) / field->alignment * field->alignment + field->size_bytes;
        alignment = field->alignment > alignment ? field->alignment : alignment;
    }
    if ((offset + alignment - 1) / alignment * alignment != type->size_bytes) {
        api_fail(env, "%s: record %s is not laid out as its fields say (packed or padded by hand?)", who, type->name);
        return false;
    }
    return true;
}

bool api_check_input(struct mr_env *env, const char *who, const struct mr_function *function, const struct mr_record_type *wanted,
                     const struct mr_record_type *have)
{
    for (uint32_t i = 0; wanted != NULL && i < wanted->field_count; i++) {
        const struct mr_field *field = &wanted->fields[i];
        int index = api_field_index(have, field->name, strlen(field->name));
        if (index < 0) {
            api_fail(env, "%s: function \"%s\" reads field \"%s\" (%s), which the stream of %s does not have (it has %s)", who, function->name,
                     field->name, api_type_name(field->type), have->name, field_list(have));
            return false;
        }
        if (have->fields[index].type != field->type) {
            api_fail(env, "%s: function \"%s\" reads field \"%s\" as %s, but in the stream of %s it is %s", who, function->name, field->name,
                     api_type_name(field->type), have->name, api_type_name(have->fields[index].type));
            return false;
        }
    }
    return true;
}

static const char *const kinds[] = {
    [MR_FUNCTION_MAP] = "map function (MR_MAP)",
    [MR_FUNCTION_FLAT_MAP] = "flat-map function (MR_FLAT_MAP)",
    [MR_FUNCTION_FILTER] = "filter function (MR_FILTER)",
    [MR_FUNCTION_PROCESS] = "process function (MR_PROCESS)",
    [MR_FUNCTION_CO_PROCESS] = "co-process function (MR_CO_PROCESS)",
    [MR_FUNCTION_AGGREGATE] = "aggregate function (MR_AGGREGATE)",
    [MR_FUNCTION_REDUCE] = "reduce function (MR_REDUCE)",
    [MR_FUNCTION_WINDOW] = "window function (MR_WINDOW)",
    [MR_FUNCTION_WINDOW_RESULT] = "window-result function (MR_WINDOW_RESULT)",
    [MR_FUNCTION_TIMESTAMP] = "timestamp assigner (MR_TIMESTAMP_ASSIGNER)",
};

static bool check_function_records(struct mr_env *env, const char *who, const struct mr_function *function)
{
    const struct mr_record_type *records[] = {function->input, function->second_input, function->accumulator, function->output};
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        if (records[i] != NULL && !api_check_record(env, who, records[i]))
            return false;
    }
    return true;
}

const char *api_symbol(struct mr_env *env, const char *who, const struct mr_function *function, enum mr_function_kind kind)
{
    if (function == NULL) {
        api_fail(env, "%s: no function is given", who);
        return NULL;
    }
    const char *is = (size_t)function->kind < sizeof kinds / sizeof kinds[0] ? kinds[function->kind] : "something else";
    if (function->kind != kind) {
        api_fail(env, "%s: \"%s\" is a %s, but a %s is needed here", who, function->name, is, kinds[kind]);
        return NULL;
    }
    if (!check_function_records(env, who, function))
        return NULL;
    Dl_info info;
    void *extra = NULL;
    bool is_found = dladdr1(function, &info, &extra, RTLD_DL_SYMENT) != 0 && info.dli_sname != NULL && info.dli_saddr == (const void *)function;
    const ElfW(Sym) *symbol = extra;
    if (!is_found || (symbol != NULL && ELF64_ST_BIND(symbol->st_info) == STB_LOCAL)) {
        api_fail(env,
                 "%s: function \"%s\" is not exported by the program; define it with one of the MR_ macros, outside of functions, and do not "
                 "hide it (static, -fvisibility without MR_EXPORT, a version script)",
                 who, function->name != NULL ? function->name : "?");
        return NULL;
    }
    return info.dli_sname;
}
