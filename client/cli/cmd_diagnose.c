/* flink diagnose: why nothing comes out of a job. The jobmanager's answer (GET /jobs/:jobid/diagnosis) as text: the summary, then a
 * line a finding, worst first, with its hint below. Not one of Flink's actions. */
#include "client/cli/cli.h"

#include "common/base/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text != NULL ? text : "";
}

static void print_findings(const json_t *answer)
{
    const json_t *findings = json_object_get(answer, "findings");
    puts(text_of(answer, "summary"));
    for (size_t i = 0; i < json_array_size(findings); i++) {
        const json_t *finding = json_array_get(findings, i);
        const char *hint = text_of(finding, "hint");
        printf("%-7s  %s\n", text_of(finding, "severity"), text_of(finding, "sentence"));
        if (hint[0] != '\0')
            printf("         %s\n", hint);
    }
}

static bool has_errors(const json_t *answer)
{
    const json_t *findings = json_object_get(answer, "findings");
    for (size_t i = 0; i < json_array_size(findings); i++)
        if (strcmp(text_of(json_array_get(findings, i), "severity"), "error") == 0)
            return true;
    return false;
}

struct error *cmd_diagnose(const struct cli_command *command)
{
    struct id id;
    struct rest_client *client = NULL;
    json_t *answer = NULL;
    if (command->argument_count == 0)
        return error_new(INVALID_ARGUMENT, "Missing JobID. Specify a JobID to diagnose.");
    TRY(cli_parse_job_id(command->arguments[0], &id));
    TRY(cli_connect(command, &client));
    char *path = heap_printf("/jobs/%s/diagnosis", id_format(id).hex);
    struct error *err = rest_call(client, "GET", path, NULL, &answer);
    rest_client_destroy(client);
    free(path);
    if (err != NULL)
        return cli_failure(err, "org.apache.flink.util.FlinkException: Could not diagnose the job %s.", id_format(id).hex);
    if (command->is_given[CLI_JSON]) {
        json_dumpf(answer, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_findings(answer);
    }
    *command->exit_code = has_errors(answer) ? CLI_EXIT_FINDINGS : 0;
    json_decref(answer);
    return NULL;
}
