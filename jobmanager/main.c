/* The jobmanager program: configuration, log, loop, stop signals. Everything else is in jobmanager.c. */
#include "jobmanager/jobmanager.h"

#include "common/base/heap.h"
#include "common/loop/loop.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define LOGGER "ClusterEntrypoint"

struct entrypoint {
    struct jobmanager *jobmanager;
    struct loop_signals *signals;
};

static void on_stopped(struct jobmanager *jobmanager)
{
    (void)jobmanager;
}

static void on_signal(int signal_number, void *argument)
{
    struct entrypoint *program = argument;
    log_info(LOGGER, "RECEIVED SIGNAL %d. Shutting down as requested.", signal_number);
    loop_signals_stop(&program->signals);
    jobmanager_stop(program->jobmanager, on_stopped);
}

static int fail(struct error *err)
{
    char *text = error_text(err);
    fprintf(stderr, "jobmanager: %s\n", text);
    free(text);
    error_free(err);
    return 1;
}

static void print_help(void)
{
    printf("Usage: jobmanager [--config FILE | --configDir DIR] [-D key=value]...\n"
           "The coordinator of a Millrace cluster: schedules jobs onto taskmanagers and answers the REST API.\n\n"
           "      --config FILE    configuration in YAML (config.yaml or flink-conf.yaml)\n"
           "      --configDir DIR  directory with config.yaml or flink-conf.yaml\n"
           "  -D key=value         one option; beats the file and FLINK_PROPERTIES\n"
           "      --help           this text\n"
           "      --version        the version\n\nOptions:\n");
    config_print_help(stdout, SCOPE_JOBMANAGER);
}

static struct error *run(struct config *config, char *stdout_path)
{
    uv_loop_t loop;
    struct entrypoint program = {0};
    uv_loop_init(&loop);
    loop_own(&loop);
    struct error *err = jobmanager_create(&loop, config, &program.jobmanager);
    if (err == NULL) {
        program.jobmanager->stdout_path = stdout_path;
        log_info(LOGGER, "Millrace jobmanager %s started (pid %d, RPC port %u, REST at %s).", MILLRACE_VERSION, (int)getpid(),
                 program.jobmanager->rpc_port, program.jobmanager->web_base);
        err = loop_signals_start(&loop, on_signal, &program, &program.signals);
        if (err == NULL)
            uv_run(&loop, UV_RUN_DEFAULT);
        else
            jobmanager_stop(program.jobmanager, on_stopped);
        uv_run(&loop, UV_RUN_DEFAULT);
        loop_signals_stop(&program.signals);
        jobmanager_destroy(program.jobmanager);
    } else {
        free(stdout_path);
    }
    loop_finish(&loop);
    return err;
}

/* As many descriptors as allowed: the REST server takes up to half of them. */
static void raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    struct config *config = NULL;
    struct config_command command = {0};
    /* One thread does all but file work: arenas of pool threads would only cost memory. */
    mallopt(M_ARENA_MAX, 2);
    raise_limits();
    struct error *err = config_load(argc, argv, SCOPE_JOBMANAGER, &config, &command);
    if (err != NULL)
        return fail(err);
    if (command.is_help || command.is_version) {
        if (command.is_help)
            print_help();
        else
            printf("Millrace jobmanager %s\n", MILLRACE_VERSION);
        config_destroy(config);
        return 0;
    }
    char *stdout_path = NULL;
    err = config_open_log(config, "jobmanager", &stdout_path);
    if (err != NULL) {
        config_destroy(config);
        return fail(err);
    }
    err = run(config, stdout_path);
    if (err == NULL)
        log_info(LOGGER, "The jobmanager has stopped.");
    log_close();
    return err != NULL ? fail(err) : 0;
}
