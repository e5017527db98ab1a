/* Putting a program's configuration together from its command line, environment and files; help; the log file. Thread: the
 * program's first. */
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/config/config_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the command line says, before any of it is applied: -D outranks files wherever it stands. */
struct arguments {
    const char *file;
    const char *directory;
    const char *host;
    const char *webui_port;
    VEC(const char *) assignments;
    struct config_command command;
};

/* `--name VALUE` or `--name=VALUE`: sets *out and steps over the value. */
static bool takes_value(const char *name, int argc, char *const *argv, int *index, const char **out)
{
    const char *argument = argv[*index];
    size_t length = strlen(name);
    if (strncmp(argument, name, length) != 0)
        return false;
    if (argument[length] == '=') {
        *out = argument + length + 1;
        return true;
    }
    if (argument[length] != '\0')
        return false;
    *out = *index + 1 < argc ? argv[++*index] : NULL;
    return true;
}

static struct error *parse_argument(struct arguments *arguments, int argc, char *const *argv, int *index)
{
    const char *argument = argv[*index];
    const char *ignored;
    const char *assignment;
    const char **values[] = {&arguments->file, &arguments->directory, &arguments->directory, &arguments->directory, &arguments->host,
                             &arguments->webui_port, &ignored, &assignment};
    static const char *const names[] = {"--config", "--configDir", "--config-dir", "-c", "--host", "--webui-port", "--executionMode", "-D"};
    if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
        arguments->command.is_help = true;
        return NULL;
    }
    if (strcmp(argument, "--version") == 0 || strcmp(argument, "-v") == 0) {
        arguments->command.is_version = true;
        return NULL;
    }
    if (strncmp(argument, "-D", 2) == 0 && argument[2] != '\0') {
        vec_push(&arguments->assignments, argument + 2);
        return NULL;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!takes_value(names[i], argc, argv, index, values[i]))
            continue;
        if (*values[i] == NULL)
            return error_new(INVALID_ARGUMENT, "%s needs a value", names[i]);
        if (values[i] == &assignment)
            vec_push(&arguments->assignments, assignment);
        return NULL;
    }
    return error_with_hint(error_new(INVALID_ARGUMENT, "unknown argument %s", argument), "--help lists the arguments");
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static struct error *apply_files(struct config *config, const struct arguments *arguments)
{
    const char *directory = arguments->directory;
    if (arguments->file != NULL)
        return config_read_file(config, arguments->file);
    if (directory != NULL) {
        struct stat info;
        if (stat(directory, &info) != 0)
            return error_errno(errno, "could not open the configuration directory %s", directory);
    }
    if (directory == NULL)
        directory = environment("MILLRACE_CONF_DIR");
    if (directory == NULL)
        directory = environment("FLINK_CONF_DIR");
    return directory != NULL ? config_read_directory(config, directory) : NULL;
}

static struct error *apply(struct config *config, const struct arguments *arguments, enum option_scope scope)
{
    TRY(apply_files(config, arguments));
    const char *properties = environment("FLINK_PROPERTIES");
    if (properties != NULL)
        TRY(config_parse(config, properties, strlen(properties), "FLINK_PROPERTIES"));
    if (arguments->host != NULL) {
        enum option option = scope == SCOPE_TASKMANAGER ? OPTION_TASKMANAGER_HOST : OPTION_JOBMANAGER_RPC_ADDRESS;
        TRY(config_set(config, option_key(option), arguments->host, "--host"));
    }
    if (arguments->webui_port != NULL)
        TRY(config_set(config, option_key(OPTION_REST_PORT), arguments->webui_port, "--webui-port"));
    for (size_t i = 0; i < arguments->assignments.count; i++)
        TRY(config_set_assignment(config, arguments->assignments.items[i]));
    return NULL;
}

struct error *config_load(int argc, char *const *argv, enum option_scope scope, struct config **out, struct config_command *command)
{
    struct arguments arguments = {0};
    struct config *config = config_create_over(NULL);
    struct error *err = NULL;
    for (int i = 1; i < argc && err == NULL; i++)
        err = parse_argument(&arguments, argc, argv, &i);
    /* Help and version answer whatever the configuration is. */
    if (err == NULL && !arguments.command.is_help && !arguments.command.is_version)
        err = apply(config, &arguments, scope);
    vec_finish(&arguments.assignments);
    if (err != NULL) {
        config_destroy(config);
        return err;
    }
    *out = config;
    *command = arguments.command;
    return NULL;
}

/* ---- help ---- */

static const char *type_text(const struct option_row *row)
{
    switch (row->type) {
    case OPTION_TYPE_STRING: return "text";
    case OPTION_TYPE_PATH: return "path";
    case OPTION_TYPE_INT: return "number";
    case OPTION_TYPE_DOUBLE: return "number";
    case OPTION_TYPE_BOOL: return "true|false";
    case OPTION_TYPE_DURATION: return "duration";
    case OPTION_TYPE_BYTES: return "size";
    case OPTION_TYPE_PORTS: return "port or range";
    case OPTION_TYPE_ENUM: return row->maximum;
    }
    return "";
}

void config_print_help(FILE *out, enum option_scope scope)
{
    fprintf(out, "  --config FILE       configuration file (config.yaml or flink-conf.yaml)\n"
                 "  --configDir DIR     its directory; else MILLRACE_CONF_DIR or FLINK_CONF_DIR\n"
                 "  -D KEY=VALUE        a configuration value; outranks FLINK_PROPERTIES, which outranks the file\n"
                 "  --help, --version\n\nConfiguration keys:\n");
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if ((row->scope & (unsigned)scope) == 0)
            continue;
        fprintf(out, "  %s (%s", row->key, type_text(row));
        if (row->default_text[0] != '\0')
            fprintf(out, ", default %s", row->default_text);
        fprintf(out, ")\n      %s", row->doc);
        if (row->old_key[0] != '\0')
            fprintf(out, "; also %s", row->old_key);
        fputc('\n', out);
    }
}

/* ---- logging ---- */

/* Several daemons of a kind may share the directory: each takes the first number whose .out file nobody holds locked. The
 * descriptor stays open, and the lock with it, until the process ends. */
static struct error *claim_number(const char *directory, const char *program, const char *host, int *out_number, char **out_path)
{
    for (int number = 0; number < 1000; number++) {
        char *path = heap_printf("%s/millrace-%s-%d-%s.out", directory, program, number, host);
        int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0) {
            struct error *err = error_errno(errno, "could not open %s (%s)", path, option_key(OPTION_LOG_DIR));
            free(path);
            return err;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            *out_number = number;
            *out_path = path;
            return NULL;
        }
        close(fd);
        free(path);
    }
    return error_new(CONFLICT, "1000 daemons already log to %s", directory);
}

struct error *config_open_log(const struct config *config, const char *program, char **out_path)
{
    const char *directory = config_text(config, OPTION_LOG_DIR);
    char host[256] = "localhost";
    int number = 0;
    char *path = NULL;
    log_set_level(log_level_from_name(config_text(config, OPTION_LOG_LEVEL), LOG_INFO));
    *out_path = NULL;
    log_set_console(directory[0] == '\0' || config_bool(config, OPTION_LOG_CONSOLE) ? STDOUT_FILENO : -1);
    if (directory[0] == '\0')
        return NULL;
    if (mkdir(directory, 0755) != 0 && errno != EEXIST)
        return error_errno(errno, "could not make the log directory %s", directory);
    (void)gethostname(host, sizeof host - 1);
    TRY(claim_number(directory, program, host, &number, &path));
    char *log_path = heap_printf("%s/millrace-%s-%d-%s.log", directory, program, number, host);
    struct error *err = log_open_file(log_path, (size_t)config_bytes(config, OPTION_LOG_MAX_BYTES),
                                      (int)config_int(config, OPTION_LOG_MAX));
    free(log_path);
    if (err != NULL) {
        free(path);
        return err;
    }
    *out_path = path;
    return NULL;
}

struct error *config_open_own_log(const struct config *config, const char *directory, const char *program)
{
    if (log_file_path() != NULL)
        return NULL;
    char *path = heap_printf("%s/%s.log", directory, program);
    struct error *err = log_open_file(path, (size_t)config_bytes(config, OPTION_LOG_MAX_BYTES), 1);
    free(path);
    return err;
}
