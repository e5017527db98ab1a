/* Start, connection and outcome of the `flink` program. */
#include "client/cli/cli.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "common/http/http_token.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef MILLRACE_COMMIT
#define MILLRACE_COMMIT "unknown"
#endif

/* Without configuration: a missing cluster is told at once, not after a minute. */
#define RETRY_COUNT_DEFAULT 3
#define RETRY_DELAY_DEFAULT_MS 100

/* Of what the command line sets: a key with a typing error would have no effect, and nobody would say so. Keys that are like none
 * may be the program's own. */
static void warn_of_typing_errors(const struct config *config)
{
    size_t count;
    const char *const *notes = config_notes(config, &count);
    for (size_t i = 0; i < count; i++) {
        if (notes[i][0] == 'W' && strstr(notes[i], " (-D). Did you mean ") != NULL)
            fprintf(stderr, "WARNING: %s\n", notes[i] + 1);
    }
}

struct error *cli_load_config(const struct cli_command *command, struct config **out)
{
    size_t count = json_object_size(command->properties);
    char **argv = heap_alloc_array(count + 2, sizeof *argv);
    int argc = 0;
    argv[argc++] = heap_strdup("flink");
    const char *key;
    json_t *value;
    json_object_foreach(command->properties, key, value)
        argv[argc++] = heap_printf("-D%s=%s", key, json_string_value(value));
    struct config_command ignored;
    struct error *err = config_load(argc, argv, SCOPE_CLIENT, out, &ignored);
    if (err == NULL)
        warn_of_typing_errors(*out);
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    free(argv);
    return err;
}

/* "host:port", "http://host:port/", "https://host:port/" or "host". */
static struct error *parse_address(const char *text, char **host, int64_t *port, bool *has_tls)
{
    bool is_https = strncmp(text, "https://", 8) == 0;
    const char *start = is_https ? text + 8 : strncmp(text, "http://", 7) == 0 ? text + 7 : text;
    *has_tls = *has_tls || is_https;
    size_t length = strcspn(start, "/");
    const char *colon = memrchr(start, ':', length);
    if (colon != NULL && start[0] == '[' && memchr(colon, ']', length - (size_t)(colon - start)) != NULL)
        colon = NULL;
    if (colon != NULL) {
        char *end = NULL;
        long number = strtol(colon + 1, &end, 10);
        if (end == colon + 1 || end != start + length || number < 1 || number > 65535)
            return error_new(INVALID_ARGUMENT, "The given host:port ('%s') doesn't contain a valid port", text);
        *port = number;
        length = (size_t)(colon - start);
    }
    if (length == 0)
        return error_new(INVALID_ARGUMENT, "The given host:port ('%s') doesn't contain a host", text);
    *host = heap_strndup(start, length);
    return NULL;
}

static struct rest_client_tls tls_of(const struct config *config)
{
    bool has_own = config_bool(config, OPTION_SSL_REST_AUTHENTICATION);
    return (struct rest_client_tls){
        .truststore = config_text(config, OPTION_SSL_REST_TRUSTSTORE),
        .truststore_password = config_text(config, OPTION_SSL_REST_TRUSTSTORE_PASSWORD),
        .keystore = has_own ? config_text(config, OPTION_SSL_REST_KEYSTORE) : NULL,
        .keystore_password = config_text(config, OPTION_SSL_REST_KEYSTORE_PASSWORD),
        .certificate = has_own ? config_text(config, OPTION_SSL_REST_CERTIFICATE) : NULL,
        .key = config_text(config, OPTION_SSL_REST_PRIVATE_KEY),
        .key_password = config_text(config, OPTION_SSL_REST_KEY_PASSWORD),
        .verifies_host = config_bool(config, OPTION_SSL_VERIFY_HOSTNAME),
    };
}

struct error *cli_connect(const struct cli_command *command, struct rest_client **out)
{
    struct config *config = NULL;
    TRY(cli_load_config(command, &config));
    const char *address = config_text(config, OPTION_REST_ADDRESS);
    if (address[0] == '\0')
        address = config_text(config, OPTION_JOBMANAGER_RPC_ADDRESS);
    char *host = heap_strdup(address);
    int64_t port = config_int(config, OPTION_REST_PORT);
    bool has_tls = config_bool(config, OPTION_SSL_REST_ENABLED);
    struct error *err = NULL;
    char *token = NULL;
    if (command->is_given[CLI_JOBMANAGER]) {
        free(host);
        host = NULL;
        TRY_GOTO(done, parse_address(command->values[CLI_JOBMANAGER], &host, &port, &has_tls));
    }
    TRY_GOTO(done, http_token_load(config_text(config, OPTION_REST_TOKEN_FILE), &token));
    const struct rest_client_tls tls = tls_of(config);
    bool has_retries = config_is_set(config, OPTION_REST_RETRY_MAX) || config_is_set(config, OPTION_REST_RETRY_DELAY);
    const struct rest_client_options options = {
        .host = host,
        .port = (uint16_t)port,
        .connect_timeout_ms = config_ms(config, OPTION_REST_CONNECTION_TIMEOUT),
        .call_timeout_ms = config_ms(config, OPTION_CLIENT_TIMEOUT),
        .retry_count = has_retries ? (uint32_t)config_int(config, OPTION_REST_RETRY_MAX) : RETRY_COUNT_DEFAULT,
        .retry_delay_ms = has_retries ? config_ms(config, OPTION_REST_RETRY_DELAY) : RETRY_DELAY_DEFAULT_MS,
        .token = token,
        .tls = has_tls ? &tls : NULL,
    };
    err = rest_client_create(&options, out);
done:
    free(token);
    free(host);
    config_destroy(config);
    return err;
}

/* ---- outcomes ---- */

/* Failures show as exceptions, mistakes in the arguments as a line and a pointer to the help. The two are told apart by the
 * outermost error's code: failures are INTERNAL, whatever is below. */
struct error *cli_create_failure(struct error *cause, const char *file, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    struct error *err = error_create(ERR_INTERNAL, file, line, "%s", text != NULL ? text : format);
    free(text);
    /* Only a server that cannot be reached is tried more than once. */
    if (cause != NULL && cause->code == ERR_NETWORK) {
        struct error *retries = error_new(INTERNAL, "org.apache.flink.util.concurrent.FutureUtils$RetryException: Could not complete the "
                                                    "operation. Number of retries has been exhausted.");
        retries->cause = cause;
        cause = retries;
    }
    err->cause = cause;
    return err;
}

struct error *cli_error_of_cause(const json_t *failure_cause)
{
    const char *trace = json_string_value(json_object_get(failure_cause, "stack-trace"));
    const char *class_name = json_string_value(json_object_get(failure_cause, "class"));
    char *text = rest_strip_frames(trace != NULL ? trace : class_name != NULL ? class_name : "unknown cause");
    struct error *err = error_new(INTERNAL, "%s", text);
    free(text);
    return err;
}

static const char *exception_of(const struct error *err)
{
    return err->code == ERR_NETWORK ? "java.net.ConnectException: " : err->code == ERR_TIMEOUT ? "java.util.concurrent.TimeoutException: " : "";
}

/* A storey has lines of its own when it came over REST: the further ones begin with "Caused by: " already. */
static void print_failure(const struct error *err)
{
    fprintf(stderr, "\n------------------------------------------------------------\n The program finished with the following exception:\n\n");
    for (const struct error *storey = err; storey != NULL; storey = storey->cause) {
        if (storey != err)
            fprintf(stderr, "Caused by: %s", exception_of(storey));
        fprintf(stderr, "%s\n", storey->message);
        if (storey->hint != NULL)
            fprintf(stderr, "(%s)\n", storey->hint);
    }
}

int cli_report(struct error *err)
{
    if (err == NULL)
        return 0;
    fflush(stdout);
    if (err->code == ERR_INTERNAL) {
        print_failure(err);
    } else {
        char *text = error_text(err);
        printf("%s\n\nUse the help option (-h or --help) to get help on the command.\n", text);
        free(text);
    }
    error_free(err);
    return 1;
}

struct error *cli_parse_job_id(const char *text, struct id *out)
{
    if (id_parse(text, out))
        return NULL;
    return error_new(INVALID_ARGUMENT, "Cannot parse JobID from \"%s\". The expected format is [0-9a-fA-F]{32}, e.g. "
                                       "fd72014d4c864993a2e5a9287b4a9c5d.", text);
}

struct error *cli_wait_operation(struct rest_client *client, const char *path, json_t **out)
{
    for (int64_t wait_ms = 5;; wait_ms = wait_ms < 200 ? wait_ms * 2 : 200) {
        json_t *answer = NULL;
        TRY(rest_call(client, "GET", path, NULL, &answer));
        const char *status = json_string_value(json_object_get(json_object_get(answer, "status"), "id"));
        if (status != NULL && strcmp(status, "COMPLETED") == 0) {
            *out = json_incref(json_object_get(answer, "operation"));
            json_decref(answer);
            return NULL;
        }
        json_decref(answer);
        if (status == NULL)
            return error_new(PROTOCOL, "%s answered without a status", path);
        nanosleep(&(struct timespec){wait_ms / 1000, wait_ms % 1000 * 1000000}, NULL);
    }
}

/* ---- actions ---- */

static const struct {
    const char *name;
    enum cli_action_bit action;
    struct error *(*run)(const struct cli_command *command);
} actions[] = {
    {"run", ACTION_RUN, cmd_run},          {"info", ACTION_INFO, cmd_info},          {"list", ACTION_LIST, cmd_list},
    {"stop", ACTION_STOP, cmd_stop},       {"cancel", ACTION_CANCEL, cmd_cancel},    {"savepoint", ACTION_SAVEPOINT, cmd_savepoint},
    {"checkpoint", ACTION_CHECKPOINT, cmd_checkpoint}, {"diagnose", ACTION_DIAGNOSE, cmd_diagnose},
};

static struct error *check_target(const struct cli_command *command)
{
    const char *target = command->is_given[CLI_TARGET] ? command->values[CLI_TARGET] : command->values[CLI_EXECUTOR];
    if (target != NULL && strcmp(target, "remote") != 0)
        return error_new(INVALID_ARGUMENT, "The target \"%s\" does not exist; \"remote\" is the only one.", target);
    return NULL;
}

static int run_action(size_t index, int argc, char **argv)
{
    struct cli_command command;
    struct error *err = cli_parse(actions[index].action, argc, argv, &command);
    if (err != NULL)
        return cli_report(err);
    int exit_code = 0;
    command.exit_code = &exit_code;
    if (command.is_given[CLI_HELP]) {
        cli_print_action_help(command.action);
    } else {
        err = check_target(&command);
        if (err == NULL)
            err = actions[index].run(&command);
    }
    cli_command_finish(&command);
    return err != NULL ? cli_report(err) : exit_code;
}

int cli_main(int argc, char **argv)
{
    if (argc < 2) {
        cli_print_help();
        puts("\n\nPlease specify an action.");
        return 1;
    }
    const char *action = argv[1];
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (strcmp(action, actions[i].name) == 0)
            return run_action(i, argc - 2, argv + 2);
    }
    if (strcmp(action, "-h") == 0 || strcmp(action, "--help") == 0) {
        cli_print_help();
        return 0;
    }
    if (strcmp(action, "-v") == 0 || strcmp(action, "--version") == 0) {
        puts("Version: " MILLRACE_VERSION ", Commit ID: " MILLRACE_COMMIT);
        return 0;
    }
    printf("\"%s\" is not a valid action.\n\n"
           "Valid actions are \"run\", \"list\", \"info\", \"savepoint\", \"checkpoint\", \"stop\", \"cancel\", or \"diagnose\".\n\n"
           "Specify the version option (-v or --version) to print Millrace's version.\n\n"
           "Specify the help option (-h or --help) to get help on the command.\n", action);
    return 1;
}
