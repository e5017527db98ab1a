/* flink run: uploads the program, has it run under a job id of our choice, and waits for its end unless detached. The id
 * makes a repeated request harmless: the second one is answered with the first one's job. */
#include "client/cli/cli.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define INVOCATION_EXCEPTION "org.apache.flink.client.program.ProgramInvocationException: "

static struct error *check_program(const struct cli_command *command)
{
    if (command->argument_count == 0)
        return error_new(INVALID_ARGUMENT, "Java program should be specified a JAR file.");
    const char *file = command->arguments[0];
    struct stat status;
    if (stat(file, &status) != 0)
        return error_new(INVALID_ARGUMENT, "Could not get job jar and dependencies from JAR file: JAR file does not exist: %s", file);
    if (!S_ISREG(status.st_mode))
        return error_new(INVALID_ARGUMENT, "Could not get job jar and dependencies from JAR file: JAR file is not a file: %s", file);
    return NULL;
}

static struct error *add_parallelism(const struct cli_command *command, json_t *request)
{
    const char *text = command->values[CLI_PARALLELISM];
    if (text == NULL)
        return NULL;
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < 1 || value > 32768)
        return error_new(INVALID_ARGUMENT, "The parallelism must be a positive number: %s", text);
    json_object_set_new(request, "parallelism", json_integer(value));
    return NULL;
}

/* What cannot be sent must not be left out: the job would start without its state. */
static struct error *add_savepoint_path(const char *path, json_t *request)
{
    if (path[0] == '\0')
        return error_new(INVALID_ARGUMENT, "The path of the savepoint to start from is empty.");
    if (json_object_set_new(request, "savepointPath", json_string(path)) != 0)
        return error_new(INVALID_ARGUMENT, "The savepoint path \"%s\" is not UTF-8.", path);
    return NULL;
}

static struct error *add_savepoint(const struct cli_command *command, json_t *request)
{
    const char *mode = command->is_given[CLI_CLAIM_MODE] ? command->values[CLI_CLAIM_MODE] : command->values[CLI_RESTORE_MODE];
    if (command->is_given[CLI_FROM_SAVEPOINT])
        TRY(add_savepoint_path(command->values[CLI_FROM_SAVEPOINT], request));
    if (command->is_given[CLI_ALLOW_NON_RESTORED])
        json_object_set_new(request, "allowNonRestoredState", json_true());
    if (mode == NULL)
        return NULL;
    static const char *const modes[] = {"NO_CLAIM", "CLAIM", "LEGACY"};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcasecmp(mode, modes[i]) == 0) {
            json_object_set_new(request, "claimMode", json_string(modes[i]));
            return NULL;
        }
    }
    return error_new(INVALID_ARGUMENT, "Invalid claim mode \"%s\": no_claim and claim are possible.", mode);
}

static struct error *make_request(const struct cli_command *command, struct id job, json_t **out)
{
    json_t *arguments = json_array();
    struct error *err = NULL;
    json_t *request = json_pack("{s:s, s:o}", "jobId", id_format(job).hex, "programArgsList", arguments);
    for (int i = 1; i < command->argument_count; i++) {
        if (json_array_append_new(arguments, json_string(command->arguments[i])) != 0) {
            err = error_new(INVALID_ARGUMENT, "The program argument \"%s\" is not UTF-8.", command->arguments[i]);
            goto fail;
        }
    }
    if (command->is_given[CLI_ENTRY] && json_object_set_new(request, "entryClass", json_string(command->values[CLI_ENTRY])) != 0) {
        err = error_new(INVALID_ARGUMENT, "The function name \"%s\" is not UTF-8.", command->values[CLI_ENTRY]);
        goto fail;
    }
    if (json_object_size(command->properties) > 0)
        json_object_set(request, "flinkConfiguration", command->properties);
    TRY_GOTO(fail, add_parallelism(command, request));
    TRY_GOTO(fail, add_savepoint(command, request));
    *out = request;
    return NULL;
fail:
    json_decref(request);
    return err;
}

/* ---- errors of the program, as Flink's client shows them ---- */

/* text has lines "class: message" and "Caused by: class: message". When the program's own exception is among them, what wraps it
 * is left out: the server's calls say what they throw twice, wrapped ("CompletionException: X") and as the cause ("Caused by: X"). */
static struct error *program_failure(struct error *err)
{
    if (err->code == ERR_NETWORK || err->code == ERR_TIMEOUT) {
        err = cli_failure(err, "org.apache.flink.runtime.client.JobSubmissionException: Failed to submit JobGraph.");
        return cli_failure(err, INVOCATION_EXCEPTION "The main method caused an error: Failed to execute job.");
    }
    const char *caused = strstr(err->message, "\nCaused by: " INVOCATION_EXCEPTION);
    const char *own = caused != NULL ? strstr(caused, INVOCATION_EXCEPTION) : strstr(err->message, INVOCATION_EXCEPTION);
    struct error *failure;
    if (own != NULL) {
        failure = cli_failure(NULL, "%s", own);
    } else {
        struct error *inner = error_new(INTERNAL, "%s", err->message);
        if (err->hint != NULL)
            inner = error_with_hint(inner, "%s", err->hint);
        failure = cli_failure(inner, INVOCATION_EXCEPTION "The main method caused an error: Failed to execute job.");
    }
    error_free(err);
    return failure;
}

/* ---- steps ---- */

static bool has_program_name(const char *file)
{
    const char *dot = strrchr(file, '.');
    return dot != NULL && (strcmp(dot, ".so") == 0 || strcmp(dot, ".jar") == 0);
}

/* *out: the program's id as a part of paths. */
static struct error *upload(struct rest_client *client, const char *file, char **out)
{
    json_t *answer = NULL;
    struct error *err = rest_upload(client, "/jars/upload", file, &answer);
    if (err != NULL && err->code == ERR_INVALID_ARGUMENT && !has_program_name(file))
        return error_with_hint(err, "a program is a shared object: its file's name ends with .so, or with .jar");
    if (err != NULL)
        return err;
    const char *name = json_string_value(json_object_get(answer, "filename"));
    const char *slash = name != NULL ? strrchr(name, '/') : NULL;
    if (name != NULL)
        *out = rest_escape(slash != NULL ? slash + 1 : name);
    json_decref(answer);
    return name != NULL ? NULL : error_new(PROTOCOL, "the server answered the upload without a filename");
}

static void delete_upload(struct rest_client *client, const char *program)
{
    char *path = heap_printf("/jars/%s", program);
    /* The upload has done its work: what goes wrong here hurts nobody. */
    error_free(rest_call(client, "DELETE", path, NULL, NULL));
    free(path);
}

static struct error *submit(struct rest_client *client, const char *program, const json_t *request, struct id *job)
{
    char *path = heap_printf("/jars/%s/run", program);
    json_t *answer = NULL;
    struct error *err = rest_call(client, "POST", path, request, &answer);
    /* The answer may have been lost on its way: the same job id again starts nothing twice. */
    if (err != NULL && (err->code == ERR_NETWORK || err->code == ERR_TIMEOUT)) {
        error_free(err);
        err = rest_call(client, "POST", path, request, &answer);
    }
    free(path);
    if (err != NULL)
        return err;
    const char *id = json_string_value(json_object_get(answer, "jobid"));
    if (id != NULL && !id_parse(id, job))
        err = error_new(PROTOCOL, "the server answered with the job id \"%s\"", id);
    json_decref(answer);
    return err;
}

/* *out: "job-execution-result" (new reference), or NULL while the job runs. */
static struct error *execution_result(struct rest_client *client, struct id job, json_t **out)
{
    char *path = heap_printf("/jobs/%s/execution-result", id_format(job).hex);
    json_t *answer = NULL;
    struct error *err = rest_call(client, "GET", path, NULL, &answer);
    free(path);
    if (err != NULL)
        return err;
    const char *status = json_string_value(json_object_get(json_object_get(answer, "status"), "id"));
    *out = status != NULL && strcmp(status, "COMPLETED") == 0 ? json_incref(json_object_get(answer, "job-execution-result")) : NULL;
    json_decref(answer);
    return NULL;
}

static struct error *result_cause(const json_t *result)
{
    const char *status = json_string_value(json_object_get(result, "application-status"));
    if (status != NULL && strcmp(status, "SUCCEEDED") == 0)
        return NULL;
    if (status != NULL && strcmp(status, "CANCELED") == 0)
        return error_new(INTERNAL, "org.apache.flink.runtime.client.JobCancellationException: Job was cancelled.");
    const json_t *cause = json_object_get(result, "failure-cause");
    struct error *err = cause != NULL ? cli_error_of_cause(cause) : NULL;
    if (err != NULL && strstr(err->message, "JobExecutionException") != NULL)
        return err;
    return cli_failure(err, "org.apache.flink.runtime.client.JobExecutionException: Job execution failed.");
}

static void sleep_ms(int64_t ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* A job that fails before it runs (a savepoint that is not there) fails the submission. */
static struct error *wait_for_start(struct rest_client *client, struct id job)
{
    char *path = heap_printf("/jobs/%s/status", id_format(job).hex);
    struct error *err = NULL;
    for (int64_t wait_ms = 2;; wait_ms = wait_ms < 100 ? wait_ms * 2 : 100) {
        json_t *answer = NULL;
        TRY_GOTO(done, rest_call(client, "GET", path, NULL, &answer));
        const char *text = json_string_value(json_object_get(answer, "status"));
        bool is_initializing = text != NULL && strcmp(text, "INITIALIZING") == 0;
        bool is_failed = text != NULL && strcmp(text, "FAILED") == 0;
        json_decref(answer);
        if (is_failed) {
            json_t *result = NULL;
            TRY_GOTO(done, execution_result(client, job, &result));
            const json_t *cause = json_object_get(result, "failure-cause");
            const char *class_name = json_string_value(json_object_get(cause, "class"));
            /* Later failures are the job's own business: it was submitted. */
            if (class_name != NULL && strstr(class_name, "JobInitializationException") != NULL)
                err = cli_error_of_cause(cause);
            json_decref(result);
        }
        if (!is_initializing)
            break;
        sleep_ms(wait_ms);
    }
done:
    free(path);
    return err;
}

static volatile sig_atomic_t is_interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    is_interrupted = 1;
}

static void cancel_job(struct rest_client *client, struct id job)
{
    char *path = heap_printf("/jobs/%s?mode=cancel", id_format(job).hex);
    error_free(rest_call(client, "PATCH", path, NULL, NULL));
    free(path);
}

static struct error *wait_for_end(const struct cli_command *command, struct rest_client *client, struct id job)
{
    if (command->is_given[CLI_SHUTDOWN_ON_EXIT]) {
        struct sigaction action = {.sa_handler = on_interrupt};
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
    }
    json_t *result = NULL;
    for (int64_t wait_ms = 20; result == NULL; wait_ms = wait_ms < 500 ? wait_ms * 2 : 500) {
        TRY(execution_result(client, job, &result));
        if (result != NULL)
            break;
        sleep_ms(wait_ms);
        if (is_interrupted) {
            cancel_job(client, job);
            is_interrupted = 0;
        }
    }
    struct error *err = result_cause(result);
    if (err == NULL)
        printf("Program execution finished\nJob with JobID %s has finished.\nJob Runtime: %" JSON_INTEGER_FORMAT " ms\n\n", id_format(job).hex,
               json_integer_value(json_object_get(result, "net-runtime")));
    json_decref(result);
    if (err == NULL)
        return NULL;
    err = cli_failure(err, INVOCATION_EXCEPTION "Job failed (JobID: %s)", id_format(job).hex);
    return cli_failure(err, INVOCATION_EXCEPTION "The main method caused an error: " INVOCATION_EXCEPTION "Job failed (JobID: %s)",
                       id_format(job).hex);
}

/* -D $internal.pipeline.job-id fixes the id. */
static struct error *choose_job_id(const struct cli_command *command, struct id *out)
{
    static const char *const keys[] = {"$internal.pipeline.job-id", "pipeline.fixed-job-id"};
    *out = id_random();
    for (size_t i = 0; i < 2; i++) {
        const char *text = json_string_value(json_object_get(command->properties, keys[i]));
        if (text != NULL)
            return cli_parse_job_id(text, out);
    }
    return NULL;
}

struct error *cmd_run(const struct cli_command *command)
{
    struct id job;
    json_t *request = NULL;
    struct rest_client *client = NULL;
    char *program = NULL;
    struct error *err = NULL;
    TRY(check_program(command));
    TRY(choose_job_id(command, &job));
    TRY(make_request(command, job, &request));
    TRY_GOTO(done, cli_connect(command, &client));
    err = upload(client, command->arguments[0], &program);
    if (err == NULL)
        err = submit(client, program, request, &job);
    if (err == NULL)
        err = wait_for_start(client, job);
    if (err != NULL) {
        err = program_failure(err);
        if (program != NULL)
            delete_upload(client, program);
        goto done;
    }
    printf("Job has been submitted with JobID %s\n", id_format(job).hex);
    fflush(stdout);
    delete_upload(client, program);
    const char *attached = json_string_value(json_object_get(command->properties, "execution.attached"));
    if (!command->is_given[CLI_DETACHED] && (attached == NULL || strcasecmp(attached, "false") != 0))
        err = wait_for_end(command, client, job);
    if (err != NULL && err->code != ERR_INTERNAL)
        err = cli_failure(err, INVOCATION_EXCEPTION "Could not retrieve the execution result. (JobID: %s)", id_format(job).hex);
done:
    free(program);
    json_decref(request);
    rest_client_destroy(client);
    return err;
}
