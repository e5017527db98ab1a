/* Configuration files: YAML through libyaml, nested maps flattened to dotted keys; and the `key: value` lines of
 * flink-conf.yaml and FLINK_PROPERTIES, whose values may be what YAML forbids. Thread: any. */
#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "common/config/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

enum { FILE_BYTES_MAX = 1 << 20, DEPTH_MAX = 32, VALUE_COUNT_MAX = 10000 };

/* ---- YAML ---- */

struct flattening {
    struct config *config;
    yaml_document_t *document;
    const char *name;
    struct str_buf key;
    int depth;
    int value_count; /* aliases can make a small text a huge tree */
};

static struct error *flatten_node(struct flattening *flattening, yaml_node_t *node);

static struct error *set_flat(struct flattening *flattening, const yaml_node_t *node, const char *value)
{
    if (++flattening->value_count > VALUE_COUNT_MAX)
        return error_new(INVALID_CONFIG, "%s has more than %d values", flattening->name, VALUE_COUNT_MAX);
    char *source = heap_printf("%s:%zu", flattening->name, node->start_mark.line + 1);
    struct error *err = config_set(flattening->config, str_buf_text(&flattening->key), value, source);
    free(source);
    return err;
}

static const char *scalar_text(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : NULL;
}

/* Lists are Flink's `a;b;c`. */
static struct error *flatten_sequence(struct flattening *flattening, const yaml_node_t *node)
{
    struct str_buf joined = {0};
    struct error *err = NULL;
    for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top && err == NULL; item++) {
        const char *text = scalar_text(yaml_document_get_node(flattening->document, *item));
        if (text == NULL) {
            err = error_new(INVALID_CONFIG, "the list %s (%s:%zu) has an element that is not a plain value", str_buf_text(&flattening->key),
                            flattening->name, node->start_mark.line + 1);
        } else if (joined.length + strlen(text) > FILE_BYTES_MAX) {
            err = error_new(INVALID_CONFIG, "the list %s (%s:%zu) is too long", str_buf_text(&flattening->key), flattening->name,
                            node->start_mark.line + 1);
        } else {
            str_buf_append(&joined, joined.length > 0 ? ";" : "");
            str_buf_append(&joined, text);
        }
    }
    if (err == NULL)
        err = set_flat(flattening, node, str_buf_text(&joined));
    str_buf_finish(&joined);
    return err;
}

static struct error *flatten_mapping(struct flattening *flattening, const yaml_node_t *node)
{
    if (flattening->depth >= DEPTH_MAX)
        return error_new(INVALID_CONFIG, "%s:%zu: maps are nested deeper than %d", flattening->name, node->start_mark.line + 1, DEPTH_MAX);
    flattening->depth++;
    size_t outer_length = flattening->key.length;
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *key = yaml_document_get_node(flattening->document, pair->key);
        const char *text = scalar_text(key);
        if (text == NULL || text[0] == '\0')
            return error_new(INVALID_CONFIG, "%s:%zu: a key is not a plain text", flattening->name, key->start_mark.line + 1);
        if (outer_length > 0)
            str_buf_append(&flattening->key, ".");
        str_buf_append(&flattening->key, text);
        TRY(flatten_node(flattening, yaml_document_get_node(flattening->document, pair->value)));
        flattening->key.length = outer_length;
        flattening->key.text[outer_length] = '\0';
    }
    flattening->depth--;
    return NULL;
}

static bool is_null(const yaml_node_t *node)
{
    const char *text = (const char *)node->data.scalar.value;
    return node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static struct error *flatten_node(struct flattening *flattening, yaml_node_t *node)
{
    switch (node->type) {
    case YAML_MAPPING_NODE: return flatten_mapping(flattening, node);
    case YAML_SEQUENCE_NODE: return flatten_sequence(flattening, node);
    case YAML_SCALAR_NODE: return is_null(node) ? NULL : set_flat(flattening, node, (const char *)node->data.scalar.value);
    case YAML_NO_NODE: break;
    }
    return NULL;
}

static struct error *parse_document(struct config *config, yaml_document_t *document, const char *name)
{
    yaml_node_t *root = yaml_document_get_root_node(document);
    if (root == NULL || (root->type == YAML_SCALAR_NODE && is_null(root)))
        return NULL;
    if (root->type != YAML_MAPPING_NODE)
        return error_new(INVALID_CONFIG, "%s is not a map of configuration keys", name);
    struct flattening flattening = {.config = config, .document = document, .name = name};
    struct error *err = flatten_mapping(&flattening, root);
    str_buf_finish(&flattening.key);
    return err;
}

static struct error *parse_yaml(struct config *config, const char *text, size_t length, const char *name)
{
    yaml_parser_t parser;
    yaml_document_t document;
    if (!yaml_parser_initialize(&parser))
        return error_new(OUT_OF_MEMORY, "no memory for the YAML parser");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    struct error *err;
    if (yaml_parser_load(&parser, &document)) {
        err = parse_document(config, &document, name);
        yaml_document_delete(&document);
    } else {
        size_t line = parser.problem_mark.line != 0 ? parser.problem_mark.line : parser.context_mark.line;
        err = error_new(INVALID_CONFIG, "%s:%zu: not YAML: %s", name, line + 1, parser.problem != NULL ? parser.problem : "unreadable");
    }
    yaml_parser_delete(&parser);
    return err;
}

/* ---- lines ---- */

struct line {
    const char *key;
    size_t key_length;
    const char *value;
    size_t value_length;
    bool is_quoted; /* the value stood between two of these */
    char quote;
};

static void trim(const char **text, size_t *length)
{
    while (*length > 0 && isspace((unsigned char)**text)) {
        (*text)++;
        (*length)--;
    }
    while (*length > 0 && isspace((unsigned char)(*text)[*length - 1]))
        (*length)--;
}

/* False for a line that is neither blank, comment nor `key: value`. A blank one has key_length 0. */
static bool split_line(const char *text, size_t length, struct line *out)
{
    *out = (struct line){0};
    const char *comment = memchr(text, '#', length);
    if (comment != NULL && (comment == text || isspace((unsigned char)comment[-1])))
        length = (size_t)(comment - text);
    trim(&text, &length);
    if (length == 0 || (length == 3 && memcmp(text, "---", 3) == 0))
        return true;
    const char *colon = memchr(text, ':', length);
    while (colon != NULL && colon + 1 < text + length && !isspace((unsigned char)colon[1]))
        colon = memchr(colon + 1, ':', (size_t)(text + length - colon - 1));
    if (colon == NULL || colon == text)
        return false;
    out->key = text;
    out->key_length = (size_t)(colon - text);
    trim(&out->key, &out->key_length);
    out->value = colon + 1;
    out->value_length = (size_t)(text + length - colon - 1);
    trim(&out->value, &out->value_length);
    if (out->value_length >= 2 && (out->value[0] == '"' || out->value[0] == '\'') && out->value[out->value_length - 1] == out->value[0]) {
        out->is_quoted = true;
        out->quote = *out->value++;
        out->value_length -= 2;
    }
    return memchr(out->key, ' ', out->key_length) == NULL;
}

static struct error *set_line(struct config *config, const struct line *line, const char *name, size_t number)
{
    if (line->key_length == 0 || line->value_length == 0)
        return NULL;
    char *key = heap_strndup(line->key, line->key_length);
    char *value = heap_strndup(line->value, line->value_length);
    char *source = heap_printf("%s:%zu", name, number);
    struct error *err = config_set(config, key, value, source);
    free(key);
    free(value);
    free(source);
    return err;
}

static struct error *parse_lines(struct config *config, const char *text, size_t length, const char *name)
{
    size_t number = 1;
    for (const char *at = text, *end = text + length; at < end; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t line_length = (size_t)((newline != NULL ? newline : end) - at);
        struct line line;
        if (!split_line(at, line_length, &line))
            return error_new(INVALID_CONFIG, "%s:%zu: expected `key: value`, found: %.*s", name, number,
                             (int)(line_length < 100 ? line_length : 100), at);
        TRY(set_line(config, &line, name, number));
        at += line_length + 1;
    }
    return NULL;
}

/* What only YAML reads right: quotes with an escape, a quote or " #" inside (the latter is cut off here), and null. */
static bool is_yaml_scalar(const struct line *line)
{
    const char *value = line->value;
    size_t length = line->value_length;
    bool is_null = (length == 1 && value[0] == '~') || (length == 4 && memcmp(value, "null", 4) == 0);
    if (!line->is_quoted)
        return is_null || (length > 0 && (value[0] == '"' || value[0] == '\''));
    return memchr(value, line->quote, length) != NULL || (line->quote == '"' && memchr(value, '\\', length) != NULL);
}

static bool is_legacy_name(const char *name)
{
    static const char legacy[] = "flink-conf.yaml";
    size_t length = strlen(name);
    return length >= sizeof legacy - 1 && strcmp(name + length - (sizeof legacy - 1), legacy) == 0;
}

/* Every line stands on its own: no nesting, no list, no block; and but for the legacy file, no value that only YAML reads right. */
static bool is_flat(const char *text, size_t length, bool is_legacy)
{
    for (const char *at = text, *end = text + length; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t line_length = (size_t)((newline != NULL ? newline : end) - at);
        struct line line;
        if (!split_line(at, line_length, &line))
            return false;
        if (line.key_length > 0) {
            char first = line.value_length > 0 ? line.value[0] : '\0';
            if (isspace((unsigned char)*at) || *at == '-' || *at == '"' || *at == '\'' || first == '\0' || strchr("{[|>&*!", first) != NULL)
                return false;
            if (!is_legacy && is_yaml_scalar(&line))
                return false;
        }
        at += line_length + 1;
    }
    return true;
}

struct error *config_parse(struct config *config, const char *text, size_t length, const char *name)
{
    if (length > FILE_BYTES_MAX)
        return error_new(INVALID_CONFIG, "%s has more than %d bytes", name, FILE_BYTES_MAX);
    if (memchr(text, '\0', length) != NULL)
        return error_new(INVALID_CONFIG, "%s is not a text file", name);
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* the byte order mark of some editors is no part of the first key */
        text += 3;
        length -= 3;
    }
    bool is_lines = strcmp(name, "FLINK_PROPERTIES") == 0 || is_flat(text, length, is_legacy_name(name));
    return is_lines ? parse_lines(config, text, length, name) : parse_yaml(config, text, length, name);
}

/* ---- files ---- */

static struct error *read_text(FILE *file, const char *path, char **out, size_t *out_length)
{
    char *text = heap_alloc(FILE_BYTES_MAX + 1);
    size_t length = fread(text, 1, FILE_BYTES_MAX + 1, file);
    if (ferror(file)) {
        free(text);
        return error_new(IO, "could not read %s", path);
    }
    *out = text;
    *out_length = length;
    return NULL;
}

struct error *config_read_file(struct config *config, const char *path)
{
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return error_errno(errno, "could not open the configuration file %s", path);
    char *text = NULL;
    size_t length = 0;
    struct error *err = read_text(file, path, &text, &length);
    fclose(file);
    TRY(err);
    err = config_parse(config, text, length, path);
    free(text);
    return err;
}

struct error *config_read_directory(struct config *config, const char *directory)
{
    static const char *const names[] = {"config.yaml", "flink-conf.yaml"};
    struct error *err = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct stat info;
        char *path = heap_printf("%s/%s", directory, names[i]);
        bool is_there = stat(path, &info) == 0;
        if (is_there)
            err = config_read_file(config, path);
        free(path);
        if (is_there)
            break;
    }
    return err;
}
