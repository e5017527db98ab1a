/* Configuration: Flink's keys with Millrace's defaults. Rows in options.def yield the enum, defaults, validation, --help and
 * the REST list. Sources in rising priority: defaults, the configuration file (config.yaml or flink-conf.yaml), the
 * environment's FLINK_PROPERTIES, -D key=value.
 *
 *   config_load(argc, argv, SCOPE_TASKMANAGER, &config, &command)   a daemon's
 *   config_create_over(base), config_set / config_set_json          a job's own, over the cluster's (or over NULL)
 *   config_ms(config, OPTION_HEARTBEAT_INTERVAL)                     typed getters; a value was checked when it was set
 *
 * Thread: any, as long as nobody sets. */
#ifndef MILLRACE_CONFIG_CONFIG_H
#define MILLRACE_CONFIG_CONFIG_H

#include "common/base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum option {
#define OPTION(name, key, type, default_text, minimum, maximum, scope, old_key, doc) OPTION_##name,
#include "common/config/options.def"
#undef OPTION
    OPTION_COUNT
};

enum option_type {
    OPTION_TYPE_STRING,
    OPTION_TYPE_PATH,       /* a directory or file; "file://" is cut */
    OPTION_TYPE_INT,
    OPTION_TYPE_DOUBLE,
    OPTION_TYPE_BOOL,
    OPTION_TYPE_DURATION,   /* "10 s", "500ms", "5 min", "1h", "1 d"; a plain number is milliseconds */
    OPTION_TYPE_BYTES,      /* "64mb", "1g", "32k"; a plain number is bytes */
    OPTION_TYPE_PORTS,      /* "0", "6121", "50100-50200" */
    OPTION_TYPE_ENUM,       /* one of the words in the row's maximum column */
};

/* Who reads an option; bits. */
enum option_scope {
    SCOPE_JOBMANAGER = 1,
    SCOPE_TASKMANAGER = 2,
    SCOPE_CLIENT = 4,
    SCOPE_JOB = 8, /* also settable by the program or with `flink run -D` */
    SCOPE_CLUSTER = SCOPE_JOBMANAGER | SCOPE_TASKMANAGER | SCOPE_CLIENT,
};

struct config;

/* An empty layer over base (borrowed, must live longer; NULL: defaults only). */
struct config *config_create_over(const struct config *base);
/* Accepts NULL. */
void config_destroy(struct config *config);

/* ---- setting ---- */
/* source says where the value is from, for messages: "-D", "conf/config.yaml:12". Unknown keys are kept as they are, with
 * a note. errors: INVALID_CONFIG naming key, value, source and what is expected */
MUST_CHECK struct error *config_set(struct config *config, const char *key, const char *value, const char *source);
/* An object of strings (numbers and booleans are accepted too). */
MUST_CHECK struct error *config_set_json(struct config *config, const json_t *object, const char *source);
/* YAML (nested maps become dotted keys) or legacy `key: value` lines, told apart by content. name is for messages. */
MUST_CHECK struct error *config_parse(struct config *config, const char *text, size_t length, const char *name);
MUST_CHECK struct error *config_read_file(struct config *config, const char *path);
/* config.yaml, else flink-conf.yaml, in the directory; neither: NULL error, nothing set. */
MUST_CHECK struct error *config_read_directory(struct config *config, const char *directory);
/* `-D key=value` without the -D. */
MUST_CHECK struct error *config_set_assignment(struct config *config, const char *assignment);

/* What a daemon's command line asks for besides configuration. */
struct config_command {
    bool is_help;
    bool is_version;
};
/* All sources: --config FILE | --configDir DIR | MILLRACE_CONF_DIR | FLINK_CONF_DIR, then FLINK_PROPERTIES, then -D (also --host NAME,
 * --webui-port N, as Flink's scripts pass them). Unknown arguments are errors. Call config_log_notes once logging is set up. */
MUST_CHECK struct error *config_load(int argc, char *const *argv, enum option_scope scope, struct config **out,
                                     struct config_command *command);
/* Opens the log as env.log.dir, env.log.level … say. program: "taskmanager" gives <dir>/millrace-taskmanager-<n>-<host>.log; without
 * a directory the log goes to standard output. Returns (malloced) the path for captured standard output in *out_path, or NULL. */
MUST_CHECK struct error *config_open_log(const struct config *config, const char *program, char **out_path);
/* Where there is no log file yet: one named <program>.log in the daemon's own directory, so that REST can show the last lines. errors: IO */
MUST_CHECK struct error *config_open_own_log(const struct config *config, const char *directory, const char *program);
/* Logs what was noted while loading: unknown keys with the nearest known one, keys without meaning here, old names. */
void config_log_notes(const struct config *config);
/* The same texts, each after one byte for its level: W warning, I information. Borrowed. */
const char *const *config_notes(const struct config *config, size_t *count);

/* ---- reading: own value, else the base's, else the default ---- */
const char *config_text(const struct config *config, enum option option); /* "" when there is neither value nor default */
int64_t config_int(const struct config *config, enum option option);      /* INT, and the first port of PORTS */
double config_double(const struct config *config, enum option option);
bool config_bool(const struct config *config, enum option option);
int64_t config_ms(const struct config *config, enum option option);
int64_t config_bytes(const struct config *config, enum option option);
void config_ports(const struct config *config, enum option option, uint16_t *first, uint16_t *last);
/* For ENUM (case and - or _ do not matter). */
bool config_is(const struct config *config, enum option option, const char *word);
/* Set by anybody (not the default). */
bool config_is_set(const struct config *config, enum option option);
/* Any key, also unknown ones; NULL when not set. */
const char *config_raw(const struct config *config, const char *key);
/* All set values, bases included: {"key": "value", …}; new reference. */
json_t *config_to_json(const struct config *config);
/* Whether nobody is shown the key's value, but CONFIG_SECRET_SHOWN (as Flink's GlobalConfiguration.isSensitive). */
bool config_is_secret(const char *key);
#define CONFIG_SECRET_SHOWN "******"
/* [{"key":…,"value":…}, …] of all set values (values of secrets as ******), for GET /jobmanager/config. */
json_t *config_list_json(const struct config *config);

/* ---- about options ---- */
const char *option_key(enum option option);
/* Options of a scope with defaults and docs, for --help. */
void config_print_help(FILE *out, enum option_scope scope);

/* ---- values on their own ---- */
MUST_CHECK struct error *config_parse_duration(const char *text, int64_t *out_ms);
MUST_CHECK struct error *config_parse_bytes(const char *text, int64_t *out_bytes);

#endif
