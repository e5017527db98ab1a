/* Command line parameters: see params.h. */
#include "api_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct param {
    const char *key;
    const char *value; /* NULL: a flag */
};

struct mr_params {
    struct param *items;
    int count;
};

/* "-5" and "-.5" are values, "-p" and "--page" are keys. */
static bool is_key(const char *word)
{
    return word[0] == '-' && word[1] != '\0' && !isdigit((unsigned char)word[1]) && word[1] != '.';
}

struct mr_params *mr_params_parse(int argc, char **argv)
{
    struct mr_params *params = api_alloc(sizeof *params);
    params->items = api_alloc((size_t)(argc > 0 ? argc : 0) * sizeof *params->items + 1);
    for (int i = 1; i < argc && argv != NULL; i++) {
        if (!is_key(argv[i])) {
            api_fail(NULL, "cannot make sense of the argument \"%s\": prefix keys with -- or -", argv[i]);
            continue;
        }
        const char *key = argv[i] + (argv[i][1] == '-' ? 2 : 1);
        if (*key == '\0') {
            api_fail(NULL, "the argument \"%s\" has an empty key", argv[i]);
            continue;
        }
        bool has_value = i + 1 < argc && !is_key(argv[i + 1]);
        params->items[params->count++] = (struct param){api_copy(key), has_value ? api_copy(argv[i + 1]) : NULL};
        i += has_value;
    }
    return params;
}

/* The last one counts, as in Flink. */
static const struct param *find(const struct mr_params *params, const char *key)
{
    for (int i = params != NULL && key != NULL ? params->count - 1 : -1; i >= 0; i--) {
        if (strcmp(params->items[i].key, key) == 0)
            return &params->items[i];
    }
    return NULL;
}

bool mr_params_has(const struct mr_params *params, const char *key)
{
    return find(params, key) != NULL;
}

const char *mr_params_get(const struct mr_params *params, const char *key, const char *otherwise)
{
    const struct param *param = find(params, key);
    return param != NULL && param->value != NULL ? param->value : otherwise;
}

int64_t mr_params_get_int(const struct mr_params *params, const char *key, int64_t otherwise)
{
    const struct param *param = find(params, key);
    if (param == NULL)
        return otherwise;
    char *end = NULL;
    errno = 0;
    long long value = param->value != NULL ? strtoll(param->value, &end, 10) : 0;
    if (end == NULL || end == param->value || *end != '\0' || errno != 0) {
        api_fail(NULL, "--%s must be a whole number, not \"%s\"", key, param->value != NULL ? param->value : "");
        return otherwise;
    }
    return value;
}

double mr_params_get_double(const struct mr_params *params, const char *key, double otherwise)
{
    const struct param *param = find(params, key);
    if (param == NULL)
        return otherwise;
    char *end = NULL;
    double value = param->value != NULL ? strtod(param->value, &end) : 0;
    if (end == NULL || end == param->value || *end != '\0') {
        api_fail(NULL, "--%s must be a number, not \"%s\"", key, param->value != NULL ? param->value : "");
        return otherwise;
    }
    return value;
}

bool mr_params_get_bool(const struct mr_params *params, const char *key, bool otherwise)
{
    const struct param *param = find(params, key);
    if (param == NULL)
        return otherwise;
    if (param->value == NULL || strcasecmp(param->value, "true") == 0)
        return true;
    if (strcasecmp(param->value, "false") != 0)
        api_fail(NULL, "--%s must be true or false, not \"%s\"", key, param->value);
    return false;
}

const char *mr_params_get_required(const struct mr_params *params, const char *key)
{
    const char *value = mr_params_get(params, key, NULL);
    if (value == NULL)
        api_fail(NULL, "No data for required key '%s'", key != NULL ? key : "");
    return value != NULL ? value : "";
}
