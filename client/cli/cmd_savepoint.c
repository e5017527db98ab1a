/* flink cancel, stop, savepoint and checkpoint: what is asked of a running job. */
#include "client/cli/cli.h"

#include "common/base/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REST_EXCEPTION "org.apache.flink.runtime.rest.util.RestClientException: "

/* Errors of the server as Flink's client words them; network errors pass. */
static struct error *as_rest_exception(struct error *err)
{
    if (err == NULL || err->code == ERR_NETWORK || err->code == ERR_TIMEOUT)
        return err;
    struct error *wrapped = error_new(INTERNAL, REST_EXCEPTION "[%s]", err->message);
    if (err->hint != NULL)
        wrapped = error_with_hint(wrapped, "%s", err->hint);
    error_free(err);
    return wrapped;
}

static struct error *savepoint_format(const struct cli_command *command, const char **out)
{
    const char *type = command->values[CLI_TYPE];
    if (type != NULL && strcasecmp(type, "canonical") != 0 && strcasecmp(type, "native") != 0)
        return error_new(INVALID_ARGUMENT, "Invalid savepoint type \"%s\": canonical and native are possible.", type);
    *out = type != NULL && strcasecmp(type, "native") == 0 ? "NATIVE" : "CANONICAL";
    return NULL;
}

/* POST body to /jobs/<id>/<what>; *path: where to ask for the outcome (malloced). *trigger: copied id (malloced). */
static struct error *trigger(struct rest_client *client, struct id job, const char *what, const char *status_of, json_t *body, char **path, char **id)
{
    /* Without the body the savepoint would go to the cluster's directory. */
    if (body == NULL)
        return error_new(INVALID_ARGUMENT, "The savepoint directory is not UTF-8.");
    char *url = heap_printf("/jobs/%s/%s", id_format(job).hex, what);
    json_t *answer = NULL;
    struct error *err = rest_call(client, "POST", url, body, &answer);
    free(url);
    json_decref(body);
    if (err != NULL)
        return as_rest_exception(err);
    const char *request = json_string_value(json_object_get(answer, "request-id"));
    if (request == NULL) {
        json_decref(answer);
        return error_new(PROTOCOL, "the server answered without a request-id");
    }
    *path = heap_printf("/jobs/%s/%s/%s", id_format(job).hex, status_of, request);
    *id = heap_strdup(request);
    json_decref(answer);
    return NULL;
}

/* Waits and takes the member of the operation that says where or which; malloced text. */
static struct error *outcome(struct rest_client *client, const char *path, const char *member, char **out)
{
    json_t *operation = NULL;
    struct error *err = as_rest_exception(cli_wait_operation(client, path, &operation));
    if (err != NULL)
        return err;
    const json_t *cause = json_object_get(operation, "failure-cause");
    if (cause == NULL)
        cause = json_object_get(operation, "failureCause"); /* of a checkpoint */
    const json_t *value = json_object_get(operation, member);
    if (cause != NULL)
        err = cli_error_of_cause(cause);
    else if (json_is_integer(value))
        *out = heap_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else
        *out = heap_strdup(json_is_string(value) ? json_string_value(value) : "");
    json_decref(operation);
    return err;
}

static json_t *text_or_null(const char *text)
{
    return text != NULL ? json_string(text) : json_null();
}

/* ---- cancel ---- */

static struct error *cancel_with_savepoint(const struct cli_command *command, struct id job, const char *directory)
{
    const char *format = NULL;
    TRY(savepoint_format(command, &format));
    struct rest_client *client = NULL;
    TRY(cli_connect(command, &client));
    puts("DEPRECATION WARNING: Cancelling a job with savepoint is deprecated. Use \"stop\" instead.");
    printf("Cancelling job %s with %s savepoint to %s.\n", id_format(job).hex, format, directory != NULL ? directory : "default savepoint directory");
    char *path = NULL, *id = NULL, *location = NULL;
    json_t *body = json_pack("{s:o, s:b, s:s, s:n}", "target-directory", text_or_null(directory), "cancel-job", 1, "formatType", format, "triggerId");
    struct error *err = trigger(client, job, "savepoints", "savepoints", body, &path, &id);
    if (err == NULL)
        err = outcome(client, path, "location", &location);
    if (err != NULL)
        err = cli_failure(err, "org.apache.flink.util.FlinkException: Could not cancel job %s.", id_format(job).hex);
    else
        printf("Cancelled job %s. Savepoint stored in %s.\n", id_format(job).hex, location);
    free(path);
    free(id);
    free(location);
    rest_client_destroy(client);
    return err;
}

struct error *cmd_cancel(const struct cli_command *command)
{
    /* `cancel -s <job>`: the option's value may be left out, and then the job id looks like one. */
    const char *directory = command->values[CLI_WITH_SAVEPOINT];
    const char *text = command->argument_count > 0 ? command->arguments[0] : directory;
    if (command->argument_count == 0)
        directory = NULL;
    if (text == NULL)
        return error_new(INVALID_ARGUMENT, "Missing JobID. Specify a JobID to cancel a job.");
    struct id job;
    TRY(cli_parse_job_id(text, &job));
    if (command->is_given[CLI_WITH_SAVEPOINT])
        return cancel_with_savepoint(command, job, directory);
    struct rest_client *client = NULL;
    TRY(cli_connect(command, &client));
    printf("Cancelling job %s.\n", id_format(job).hex);
    char *path = heap_printf("/jobs/%s?mode=cancel", id_format(job).hex);
    struct error *err = as_rest_exception(rest_call(client, "PATCH", path, NULL, NULL));
    free(path);
    rest_client_destroy(client);
    if (err != NULL)
        return cli_failure(err, "org.apache.flink.util.FlinkException: Could not cancel job %s.", id_format(job).hex);
    printf("Cancelled job %s.\n", id_format(job).hex);
    return NULL;
}

/* ---- stop ---- */

struct error *cmd_stop(const struct cli_command *command)
{
    if (command->argument_count == 0)
        return error_new(INVALID_ARGUMENT, "Missing JobId");
    struct id job;
    const char *format = NULL;
    TRY(cli_parse_job_id(command->arguments[0], &job));
    TRY(savepoint_format(command, &format));
    struct rest_client *client = NULL;
    TRY(cli_connect(command, &client));
    bool is_drain = command->is_given[CLI_DRAIN];
    bool is_detached = command->is_given[CLI_DETACHED_TRIGGER];
    printf("%s job \"%s\" with a %s savepoint.\n", is_drain ? "Draining" : "Suspending", id_format(job).hex, format);
    printf("Triggering stop-with-savepoint%s for job %s.\n", is_detached ? " in detached mode" : "", id_format(job).hex);
    if (!is_detached)
        puts("Waiting for response...");
    char *path = NULL, *id = NULL, *location = NULL;
    json_t *body = json_pack("{s:o, s:b, s:s, s:n}", "targetDirectory", text_or_null(command->values[CLI_SAVEPOINT_PATH]), "drain", is_drain,
                             "formatType", format, "triggerId");
    struct error *err = trigger(client, job, "stop", "savepoints", body, &path, &id);
    if (err == NULL && !is_detached)
        err = outcome(client, path, "location", &location);
    if (err != NULL)
        err = cli_failure(err, "org.apache.flink.util.FlinkException: Could not stop with a %ssavepoint job \"%s\".", is_detached ? "detached " : "",
                          id_format(job).hex);
    else if (is_detached)
        printf("Successfully trigger stop-with-savepoint in detached mode, triggerId: %s\n", id);
    else
        printf("Savepoint completed. Path: %s\n", location);
    free(path);
    free(id);
    free(location);
    rest_client_destroy(client);
    return err;
}

/* ---- savepoint ---- */

static struct error *dispose(const struct cli_command *command, const char *savepoint)
{
    struct rest_client *client = NULL;
    TRY(cli_connect(command, &client));
    printf("Disposing savepoint '%s'.\nWaiting for response...\n", savepoint);
    json_t *body = json_pack("{s:s}", "savepoint-path", savepoint);
    json_t *answer = NULL;
    char *ignored = NULL;
    struct error *err = as_rest_exception(rest_call(client, "POST", "/savepoint-disposal", body, &answer));
    json_decref(body);
    if (err == NULL) {
        char *path = heap_printf("/savepoint-disposal/%s", json_string_value(json_object_get(answer, "request-id")));
        err = outcome(client, path, "location", &ignored);
        free(path);
    }
    json_decref(answer);
    free(ignored);
    rest_client_destroy(client);
    if (err != NULL)
        return cli_failure(err, "org.apache.flink.util.FlinkException: Failed to dispose the savepoint '%s'.", savepoint);
    printf("Savepoint '%s' disposed.\n", savepoint);
    return NULL;
}

static struct error *take_savepoint(const struct cli_command *command, struct rest_client *client, struct id job, const char *format)
{
    bool is_detached = command->is_given[CLI_DETACHED_TRIGGER];
    const char *directory = command->argument_count > 1 ? command->arguments[1] : NULL;
    printf("Triggering savepoint%s for job %s.\n", is_detached ? " in detached mode" : "", id_format(job).hex);
    if (!is_detached)
        puts("Waiting for response...");
    char *path = NULL, *id = NULL, *location = NULL;
    json_t *body = json_pack("{s:o, s:b, s:s, s:n}", "target-directory", text_or_null(directory), "cancel-job", 0, "formatType", format, "triggerId");
    struct error *err = trigger(client, job, "savepoints", "savepoints", body, &path, &id);
    if (err == NULL && !is_detached)
        err = outcome(client, path, "location", &location);
    if (err != NULL)
        err = cli_failure(err, "org.apache.flink.util.FlinkException: Failed to trigger a savepoint for the job %s.", id_format(job).hex);
    else if (is_detached)
        printf("Successfully trigger manual savepoint, triggerId: %s\n", id);
    else
        printf("Savepoint completed. Path: %s\nYou can resume your program from this savepoint with the run command.\n", location);
    free(path);
    free(id);
    free(location);
    return err;
}

struct error *cmd_savepoint(const struct cli_command *command)
{
    if (command->is_given[CLI_DISPOSE])
        return dispose(command, command->values[CLI_DISPOSE]);
    if (command->argument_count == 0)
        return error_new(INVALID_ARGUMENT, "Missing JobID. Specify a Job ID to trigger a savepoint.");
    struct id job;
    const char *format = NULL;
    TRY(cli_parse_job_id(command->arguments[0], &job));
    TRY(savepoint_format(command, &format));
    struct rest_client *client = NULL;
    TRY(cli_connect(command, &client));
    struct error *err = take_savepoint(command, client, job, format);
    rest_client_destroy(client);
    return err;
}

/* ---- checkpoint ---- */

struct error *cmd_checkpoint(const struct cli_command *command)
{
    if (command->argument_count == 0)
        return error_new(INVALID_ARGUMENT, "Missing JobID. Specify a Job ID to manipulate checkpoint.");
    struct id job;
    TRY(cli_parse_job_id(command->arguments[0], &job));
    struct rest_client *client = NULL;
    TRY(cli_connect(command, &client));
    bool is_full = command->is_given[CLI_FULL];
    printf("Triggering checkpoint for job %s.\nWaiting for response...\n", id_format(job).hex);
    char *path = NULL, *id = NULL, *number = NULL;
    json_t *body = json_pack("{s:s, s:n}", "checkpointType", is_full ? "FULL" : "CONFIGURED", "triggerId");
    struct error *err = trigger(client, job, "checkpoints", "checkpoints", body, &path, &id);
    if (err == NULL)
        err = outcome(client, path, "checkpointId", &number);
    if (err != NULL)
        err = cli_failure(err, "org.apache.flink.util.FlinkException: Failed to trigger a checkpoint for the job %s.", id_format(job).hex);
    else
        printf("Checkpoint%s %s for job %s completed.\nYou can resume your program from this checkpoint with the run command.\n",
               is_full ? "(FULL)" : "",
               number, id_format(job).hex);
    free(path);
    free(id);
    free(number);
    rest_client_destroy(client);
    return err;
}
