/* flink list */
#include "client/cli/cli.h"

#include "common/base/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum job_group { GROUP_RUNNING, GROUP_SCHEDULED, GROUP_TERMINATED };

static enum job_group group_of(const char *state)
{
    static const char *const scheduled[] = {"CREATED", "INITIALIZING"};
    static const char *const terminated[] = {"FINISHED", "FAILED", "CANCELED"};
    for (size_t i = 0; i < 2; i++) {
        if (strcmp(state, scheduled[i]) == 0)
            return GROUP_SCHEDULED;
    }
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(state, terminated[i]) == 0)
            return GROUP_TERMINATED;
    }
    return GROUP_RUNNING;
}

static const char *text_of(const json_t *job, const char *member)
{
    const char *text = json_string_value(json_object_get(job, member));
    return text != NULL ? text : "";
}

/* By start; equal starts by state, as Flink's client sorts. */
static int compare_jobs(const void *a, const void *b)
{
    const json_t *first = *(json_t *const *)a;
    const json_t *second = *(json_t *const *)b;
    json_int_t start = json_integer_value(json_object_get(first, "start-time"));
    json_int_t other = json_integer_value(json_object_get(second, "start-time"));
    if (start != other)
        return start < other ? -1 : 1;
    return strcmp(text_of(first, "state"), text_of(second, "state"));
}

static void print_job(const json_t *job)
{
    time_t start = (time_t)(json_integer_value(json_object_get(job, "start-time")) / 1000);
    struct tm local;
    char text[32] = "";
    if (localtime_r(&start, &local) != NULL)
        strftime(text, sizeof text, "%d.%m.%Y %H:%M:%S", &local);
    printf("%s : %s : %s (%s)\n", text, text_of(job, "jid"), text_of(job, "name"), text_of(job, "state"));
}

static void print_group(json_t *const *jobs, size_t count, enum job_group group)
{
    static const char *const titles[] = {"------------------ Running/Restarting Jobs -------------------",
                                         "----------------------- Scheduled Jobs -----------------------",
                                         "---------------------- Terminated Jobs -----------------------"};
    static const char *const none[] = {"No running jobs.", "No scheduled jobs.", "No terminated jobs."};
    bool is_any = false;
    for (size_t i = 0; i < count; i++) {
        if (group_of(text_of(jobs[i], "state")) != group)
            continue;
        if (!is_any)
            puts(titles[group]);
        is_any = true;
        print_job(jobs[i]);
    }
    puts(is_any ? "--------------------------------------------------------------" : none[group]);
}

struct error *cmd_list(const struct cli_command *command)
{
    struct rest_client *client = NULL;
    json_t *answer = NULL;
    TRY(cli_connect(command, &client));
    puts("Waiting for response...");
    struct error *err = rest_call(client, "GET", "/jobs/overview", NULL, &answer);
    rest_client_destroy(client);
    if (err != NULL)
        return cli_failure(err, "org.apache.flink.util.FlinkException: Failed to retrieve job list.");
    const json_t *array = json_object_get(answer, "jobs");
    size_t count = json_array_size(array);
    json_t **jobs = heap_alloc_array(count + 1, sizeof(json_t *));
    for (size_t i = 0; i < count; i++)
        jobs[i] = json_array_get(array, i);
    qsort(jobs, count, sizeof(json_t *), compare_jobs);
    bool is_all = command->is_given[CLI_ALL];
    bool is_default = !command->is_given[CLI_RUNNING] && !command->is_given[CLI_SCHEDULED];
    if (is_all || is_default || command->is_given[CLI_RUNNING])
        print_group(jobs, count, GROUP_RUNNING);
    if (is_all || is_default || command->is_given[CLI_SCHEDULED])
        print_group(jobs, count, GROUP_SCHEDULED);
    if (is_all)
        print_group(jobs, count, GROUP_TERMINATED);
    free(jobs);
    json_decref(answer);
    return NULL;
}
