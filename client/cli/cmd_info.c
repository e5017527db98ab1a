/* flink info: the plan of a program, made on this machine as Flink does: no cluster is asked. The program runs in the
 * job-compiler that stands beside this one. */
#include "client/cli/cli.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "common/graph/job_graph.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define INVOCATION_EXCEPTION "org.apache.flink.client.program.ProgramInvocationException: "

static char *compiler_path(void)
{
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(self, '/');
    return slash != NULL ? heap_printf("%.*s/job-compiler", (int)(slash - self), self) : heap_strdup("job-compiler");
}

/* NULL-terminated; the words are malloced. */
static char **compiler_arguments(const struct cli_command *command)
{
    size_t property_count = json_object_size(command->properties);
    char **words = heap_alloc_array((size_t)command->argument_count + 2 * property_count + 12, sizeof *words);
    size_t n = 0;
    words[n++] = compiler_path();
    words[n++] = heap_strdup("--library");
    words[n++] = heap_strdup(command->arguments[0]);
    words[n++] = heap_strdup("--entry");
    words[n++] = heap_strdup(command->is_given[CLI_ENTRY] ? command->values[CLI_ENTRY] : "main");
    const char *key;
    json_t *value;
    json_object_foreach(command->properties, key, value) {
        words[n++] = heap_strdup("--config");
        words[n++] = heap_printf("%s=%s", key, json_string_value(value));
    }
    if (command->is_given[CLI_PARALLELISM]) {
        words[n++] = heap_strdup("--config");
        words[n++] = heap_printf("parallelism.default=%s", command->values[CLI_PARALLELISM]);
    }
    words[n++] = heap_strdup("--");
    for (int i = 1; i < command->argument_count; i++)
        words[n++] = heap_strdup(command->arguments[i]);
    return words;
}

static struct error *run_compiler(char **words, json_t **out)
{
    int fds[2];
    if (pipe(fds) != 0)
        return error_errno(errno, "could not create a pipe");
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        execv(words[0], words);
        _exit(127);
    }
    close(fds[1]);
    struct str_buf text = {0};
    ssize_t got;
    while ((got = read(fds[0], str_buf_reserve(&text, 65536), 65536)) > 0)
        str_buf_advance(&text, (size_t)got);
    close(fds[0]);
    int status = 0;
    if (pid > 0)
        waitpid(pid, &status, 0);
    *out = json_loads(str_buf_text(&text), 0, NULL);
    str_buf_finish(&text);
    return *out != NULL ? NULL : error_new(INTERNAL, "could not run %s", words[0]);
}

static struct error *compile(const struct cli_command *command, struct job_graph **out)
{
    json_t *json = NULL;
    char **words = compiler_arguments(command);
    struct error *err = run_compiler(words, &json);
    for (size_t i = 0; words[i] != NULL; i++)
        free(words[i]);
    free(words);
    const json_t *error = json_object_get(json, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    if (err == NULL && error != NULL)
        err = error_new(INTERNAL, INVOCATION_EXCEPTION "%s", message != NULL ? message : "The program could not be compiled.");
    if (err == NULL)
        err = job_graph_from_json(json, out);
    json_decref(json);
    if (err == NULL && (*out)->vertex_count == 0)
        job_graph_set_parallelism(*out, 1);
    return err;
}

/* Flink numbers what the program wrote down, also what is no operator: a key-by, a sink before it becomes writer and committer. */
static uint32_t node_number(const struct job_operator *op, uint32_t previous)
{
    uint32_t number = previous + 1;
    if (op->input_count > 0 && op->inputs[0].partitioning != PARTITION_FORWARD)
        number++;
    if (strstr(op->type, "-sink-writer") != NULL)
        number += 2;
    if (strstr(op->type, "-sink-committer") != NULL)
        number++;
    return number;
}

static void print_text(const char *text)
{
    json_t *json = json_string(text);
    char *quoted = json_dumps(json, JSON_ENCODE_ANY);
    fputs(quoted != NULL ? quoted : "\"\"", stdout);
    free(quoted);
    json_decref(json);
}

static void print_node(const struct job_operator *op, const uint32_t *numbers, uint32_t index)
{
    const char *kind = op->input_count == 0 ? "Data Source" : op->schema == NULL && strstr(op->type, "-committer") == NULL ? "Data Sink" : "Operator";
    printf("{\n    \"id\" : %u,\n    \"type\" : ", numbers[index]);
    print_text(op->name);
    printf(",\n    \"pact\" : \"%s\",\n    \"contents\" : ", kind);
    print_text(op->description != NULL ? op->description : op->name);
    printf(",\n    \"parallelism\" : %u", op->parallelism);
    for (uint32_t i = 0; i < op->input_count; i++)
        printf("%s{\n      \"id\" : %u,\n      \"ship_strategy\" : \"%s\",\n      \"side\" : \"second\"\n    }",
               i == 0 ? ",\n    \"predecessors\" : [ " : ", ",
               numbers[op->inputs[i].source], partitioning_name(op->inputs[i].partitioning));
    printf("%s\n  }", op->input_count > 0 ? " ]" : "");
}

static void print_plan(const struct job_graph *graph)
{
    uint32_t *numbers = heap_alloc_array(graph->operator_count, sizeof *numbers);
    for (uint32_t i = 0; i < graph->operator_count; i++)
        numbers[i] = node_number(&graph->operators[i], i > 0 ? numbers[i - 1] : 0);
    fputs("----------------------- Execution Plan -----------------------\n{\n  \"nodes\" : [ ", stdout);
    for (uint32_t i = 0; i < graph->operator_count; i++) {
        if (i > 0)
            fputs(", ", stdout);
        print_node(&graph->operators[i], numbers, i);
    }
    puts(" ]\n}\n--------------------------------------------------------------\n\nNo description provided.");
    free(numbers);
}

struct error *cmd_info(const struct cli_command *command)
{
    if (command->argument_count == 0)
        return error_new(INVALID_ARGUMENT, "The program JAR file was not specified.");
    if (access(command->arguments[0], R_OK) != 0)
        return error_new(INVALID_ARGUMENT, "JAR file does not exist: %s", command->arguments[0]);
    struct job_graph *graph = NULL;
    struct error *err = compile(command, &graph);
    if (err != NULL)
        return cli_failure(err->cause, "%s", err->message);
    print_plan(graph);
    job_graph_destroy(graph);
    return NULL;
}
