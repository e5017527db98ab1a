/* job-compiler: turns a program into a job graph. A short-lived child of the jobmanager.
 *
 *   job-compiler --library FILE --entry SYMBOL [--config key=value …] [--] args…
 *
 * Standard output: the job graph, or {"error": {…}}; exit code 0 or 1. The graph has vertices when parallelism.default is among the
 * configuration; otherwise whoever knows the default sets it and chains. */
#include "common/base/heap.h"
#include "common/config/config.h"
#include "common/graph/job_graph.h"
#include "common/rpc/message.h"
#include "jobmanager/compiler/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command {
    const char *library;
    const char *entry;
    json_t *config;
    char **args;
    int arg_count;
    bool is_help;
    bool is_version;
};

static struct error *set_assignment(json_t *config, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    if (equals == NULL || equals == assignment)
        return error_new(INVALID_ARGUMENT, "--config %s: key=value is expected", assignment);
    char *key = heap_strndup(assignment, (size_t)(equals - assignment));
    int status = json_object_set_new(config, key, json_string(equals + 1));
    free(key);
    return status == 0 ? NULL : error_new(INVALID_ARGUMENT, "--config %s: not UTF-8", assignment);
}

static struct error *parse_command(int argc, char **argv, struct command *command)
{
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            command->is_help = true;
        } else if (strcmp(argv[i], "--version") == 0) {
            command->is_version = true;
        } else if (i + 1 >= argc) {
            return error_new(INVALID_ARGUMENT, "%s: not an option, or its value is missing", argv[i]);
        } else if (strcmp(argv[i], "--library") == 0) {
            command->library = argv[++i];
        } else if (strcmp(argv[i], "--entry") == 0) {
            command->entry = argv[++i];
        } else if (strcmp(argv[i], "--config") == 0) {
            TRY(set_assignment(command->config, argv[++i]));
        } else {
            return error_new(INVALID_ARGUMENT, "%s: unknown option", argv[i]);
        }
    }
    command->args = argv + (i < argc ? i + 1 : argc);
    command->arg_count = i < argc ? argc - i - 1 : 0;
    if (command->library == NULL && !command->is_help && !command->is_version)
        return error_new(INVALID_ARGUMENT, "--library is missing");
    return NULL;
}

/* Settings of the job that operators carry with them. */
static void apply_config(struct job_graph *graph, const struct config *config)
{
    int64_t max_parallelism = config_int(config, OPTION_PIPELINE_MAX_PARALLELISM);
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        struct job_operator *op = &graph->operators[i];
        if (op->max_parallelism == 0 && max_parallelism > 0)
            op->max_parallelism = (uint32_t)max_parallelism;
        json_t *watermark = json_object_get(op->options, "watermark");
        if (json_is_object(watermark) && json_object_get(watermark, "interval_ms") == NULL && config_is_set(config, OPTION_AUTO_WATERMARK_INTERVAL))
            json_object_set_new(watermark, "interval_ms", json_integer(config_ms(config, OPTION_AUTO_WATERMARK_INTERVAL)));
    }
    if (config_is_set(config, OPTION_PARALLELISM_DEFAULT))
        job_graph_set_parallelism(graph, (uint32_t)config_int(config, OPTION_PARALLELISM_DEFAULT));
}

/* Chains a copy: finds the mistakes that only show then, whoever chains in the end. */
static struct error *check_chaining(const struct job_graph *graph)
{
    struct job_graph *copy = job_graph_copy(graph);
    job_graph_set_parallelism(copy, 1);
    struct error *err = job_graph_chain(copy);
    job_graph_destroy(copy);
    return err;
}

static struct error *finish_graph(const struct command *command, const json_t *operators, struct job_graph **out)
{
    struct error *err = NULL;
    struct job_graph *graph = NULL;
    struct config *config = config_create_over(NULL);
    TRY_GOTO(done, job_graph_from_json(operators, &graph));
    TRY_GOTO(done, config_set_json(config, graph->config, "the program's configuration"));
    const char *slash = strrchr(command->library, '/');
    graph->library.name = heap_strdup(slash != NULL ? slash + 1 : command->library);
    apply_config(graph, config);
    TRY_GOTO(done, check_chaining(graph));
    if (config_is_set(config, OPTION_PARALLELISM_DEFAULT))
        TRY_GOTO(done, job_graph_chain(graph));
    *out = graph;
    graph = NULL;
done:
    job_graph_destroy(graph);
    config_destroy(config);
    return err;
}

static struct error *compile(const struct command *command, struct job_graph **out)
{
    struct config *config = config_create_over(NULL);
    struct error *err = config_set_json(config, command->config, "--config");
    int64_t timeout_ms = config_ms(config, OPTION_PROGRAM_COMPILE_TIMEOUT);
    config_destroy(config);
    if (err != NULL)
        return err;
    /* The jobmanager kills us at the limit: be a little earlier, to say what happened. */
    const struct program_request request = {.library = command->library, .entry = command->entry, .config = command->config,
                                            .args = command->args, .arg_count = command->arg_count, .timeout_ms = timeout_ms - timeout_ms / 20};
    json_t *operators = NULL;
    TRY(program_run(&request, &operators));
    err = finish_graph(command, operators, out);
    json_decref(operators);
    return err;
}

static int print_json(json_t *json)
{
    int status = json_dumpf(json, stdout, JSON_COMPACT);
    json_decref(json);
    putchar('\n');
    return fflush(stdout) == 0 && status == 0 ? 0 : 1;
}

static void print_help(void)
{
    puts("Turns a program into a job graph, on the standard output.\n\n"
         "  job-compiler --library FILE [--entry SYMBOL] [--config key=value ...] [-- ARGUMENTS...]\n\n"
         "  --library FILE      the program: a shared object linked with libmillrace\n"
         "  --entry SYMBOL      function to call instead of main\n"
         "  --config key=value  configuration that the program sees; may be repeated\n"
         "  --help, --version");
}

int main(int argc, char **argv)
{
    struct command command = {.entry = "main", .config = json_object()};
    struct job_graph *graph = NULL;
    struct error *err = parse_command(argc, argv, &command);
    if (err == NULL && (command.is_help || command.is_version)) {
        if (command.is_help)
            print_help();
        else
            puts("Version: " MILLRACE_VERSION);
        json_decref(command.config);
        return 0;
    }
    if (err == NULL)
        err = compile(&command, &graph);
    json_decref(command.config);
    if (err != NULL) {
        print_json(json_pack("{s:o}", "error", message_error_to_json(err)));
        error_free(err);
        return 1;
    }
    int status = print_json(job_graph_to_json(graph));
    job_graph_destroy(graph);
    return status;
}
