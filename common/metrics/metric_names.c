/* Lookups in the table of metrics: by name through a map that is made once, by form for the few rows with stars. */
#include "common/metrics/metric_names.h"

#include "common/base/check.h"
#include "common/base/hash_map.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

const struct metric_name metric_rows[] = {
#define METRIC(scope, name, type, unit, of, help) {METRIC_SCOPE_##scope, name, METRIC_##type, unit, of, help},
#include "common/metrics/metric_names.def"
#undef METRIC
};
const size_t metric_row_count = sizeof metric_rows / sizeof metric_rows[0];

#define KEY_BYTES_MAX 512

/* "<scope digit><name>" -> row; and the same of METERs under "<scope digit>/<counter>". */
static struct hash_map by_name;
static pthread_once_t by_name_once = PTHREAD_ONCE_INIT;

static void put(const char *kind, const char *name, const struct metric_name *row)
{
    char key[KEY_BYTES_MAX];
    snprintf(key, sizeof key, "%d%s%s", (int)row->scope, kind, name);
    hash_map_put_text(&by_name, key, (void *)(uintptr_t)row);
}

static void make_by_name(void)
{
    for (size_t i = 0; i < metric_row_count; i++) {
        const struct metric_name *row = &metric_rows[i];
        put("", row->name, row);
        if (row->of[0] != '\0')
            put("/", row->of, row);
    }
}

static const struct metric_name *get(enum metric_scope scope, const char *kind, const char *name)
{
    char key[KEY_BYTES_MAX];
    int length = snprintf(key, sizeof key, "%d%s%s", (int)scope, kind, name);
    if (length < 0 || (size_t)length >= sizeof key)
        return NULL;
    pthread_once(&by_name_once, make_by_name);
    return hash_map_get_text(&by_name, key);
}

const char *metric_scope_text(enum metric_scope scope)
{
    static const char *const texts[METRIC_SCOPE_COUNT] = {
        [METRIC_SCOPE_DAEMON] = "",
        [METRIC_SCOPE_JOBMANAGER] = "jobmanager",
        [METRIC_SCOPE_TASKMANAGER] = "taskmanager",
        [METRIC_SCOPE_JOB] = "jobmanager_job",
        [METRIC_SCOPE_TASK] = "taskmanager_job_task",
        [METRIC_SCOPE_OPERATOR] = "taskmanager_job_task_operator",
    };
    check(scope < METRIC_SCOPE_COUNT);
    return texts[scope];
}

static void note_key(struct metric_match *match, const char *star, const char *value, size_t length)
{
    const char *end = star - 1; /* the dot before the star */
    const char *key = end;
    while (key > match->row->name && key[-1] != '.')
        key--;
    match->keys[match->key_count++] = (struct metric_key){key, (size_t)(end - key), value, length};
}

/* A wildcard takes as much as it can: what stands behind the last ".partition." is the partition, whatever a topic is called. */
static bool fits(const char *form, const char *name, struct metric_match *match)
{
    const char *wildcard = strpbrk(form, METRIC_WILDCARDS);
    if (wildcard == NULL)
        return strcmp(form, name) == 0;
    size_t before = (size_t)(wildcard - form);
    if (strncmp(form, name, before) != 0)
        return false;
    size_t index = match->key_count;
    for (size_t length = strlen(name + before); length > 0; length--) {
        match->key_count = index;
        if (*wildcard == '*')
            note_key(match, wildcard, name + before, length);
        if (fits(wildcard + 1, name + before + length, match))
            return true;
    }
    return false;
}

static bool has_rows_of(enum metric_scope scope, enum metric_scope rows)
{
    return rows == scope || (rows == METRIC_SCOPE_DAEMON && (scope == METRIC_SCOPE_JOBMANAGER || scope == METRIC_SCOPE_TASKMANAGER));
}

static bool find_form(enum metric_scope scope, const char *name, struct metric_match *out)
{
    for (size_t i = 0; i < metric_row_count; i++) {
        const struct metric_name *row = &metric_rows[i];
        if (!has_rows_of(scope, row->scope) || strpbrk(row->name, METRIC_WILDCARDS) == NULL)
            continue;
        *out = (struct metric_match){.row = row};
        if (fits(row->name, name, out))
            return true;
    }
    return false;
}

bool metric_find(enum metric_scope scope, const char *name, struct metric_match *out)
{
    const struct metric_name *row = get(scope, "", name);
    if (row == NULL && has_rows_of(scope, METRIC_SCOPE_DAEMON))
        row = get(METRIC_SCOPE_DAEMON, "", name);
    if (row == NULL)
        return find_form(scope, name, out);
    *out = (struct metric_match){.row = row};
    return true;
}

const struct metric_name *metric_meter_of(enum metric_scope scope, const char *counter)
{
    return get(scope, "/", counter);
}
