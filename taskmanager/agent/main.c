/* The program taskmanager: configuration, log, signals, and the agent around which everything turns. */
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/config/config.h"
#include "common/loop/loop.h"
#include "taskmanager/agent/agent.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LOGGER "TaskManagerRunner"

struct program {
    uv_loop_t loop;
    struct agent *agent;
    struct loop_signals *signals;
};

static void on_stopped(void *context)
{
    struct program *program = context;
    program->agent = NULL;
    loop_signals_stop(&program->signals);
}

static void on_stop(int signal_number, void *argument)
{
    struct program *program = argument;
    char reason[64];
    log_info(LOGGER, "RECEIVED SIGNAL %d: SIG%s. Shutting down as requested.", signal_number, sigabbrev_np(signal_number));
    snprintf(reason, sizeof reason, "received SIG%s", sigabbrev_np(signal_number));
    if (program->agent != NULL)
        agent_stop(program->agent, reason);
}

static void log_start(const struct config *config)
{
    struct rlimit limit = {0};
    const char *rule = "--------------------------------------------------------------------------------";
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    log_info(LOGGER, "%s", rule);
    log_info(LOGGER, " Starting TaskManager (Version: %s)", MILLRACE_VERSION);
    log_info(LOGGER, "%s", rule);
    log_info(LOGGER, "Registered UNIX signal handlers for [TERM, HUP, INT]");
    log_info(LOGGER, "Maximum number of open file descriptors is %" PRIu64 ".", (uint64_t)limit.rlim_cur);
    json_t *list = config_list_json(config);
    size_t index;
    json_t *entry;
    json_array_foreach (list, index, entry)
        log_info("GlobalConfiguration", "Loading configuration property: %s, %s", json_string_value(json_object_get(entry, "key")),
                 json_string_value(json_object_get(entry, "value")));
    json_decref(list);
}

/* As many descriptors as allowed: every job needs a few. */
static void raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static struct error *run(const struct config *config, const char *out_path)
{
    static struct program program;
    struct error *err;
    if (uv_loop_init(&program.loop) != 0)
        return error_new(INTERNAL, "could not make an event loop");
    loop_own(&program.loop);
    TRY_GOTO(finish, loop_signals_start(&program.loop, on_stop, &program, &program.signals));
    struct agent_options options = {
        .loop = &program.loop, .config = config, .out_path = out_path, .on_stopped = on_stopped, .context = &program};
    TRY_GOTO(stop_signals, agent_start(&options, &program.agent));
    uv_run(&program.loop, UV_RUN_DEFAULT);
stop_signals:
    loop_signals_stop(&program.signals);
finish:
    loop_finish(&program.loop);
    return err;
}

static int fail(struct error *err)
{
    char *text = error_text(err);
    fprintf(stderr, "taskmanager: %s\n", text);
    if (log_file_path() != NULL)
        log_error_chain(LOG_ERROR, LOGGER, err, "TaskManager initialization failed.");
    free(text);
    error_free(err);
    return 1;
}

int main(int argc, char **argv)
{
    struct config *config = NULL;
    struct config_command command;
    char *out_path = NULL;
    struct error *err = config_load(argc, argv, SCOPE_TASKMANAGER, &config, &command);
    if (err != NULL)
        return fail(err);
    if (command.is_help || command.is_version) {
        if (command.is_help) {
            printf("Usage: taskmanager [options]\nOffers slots to a jobmanager and runs the tasks that it deploys.\n\n");
            config_print_help(stdout, SCOPE_TASKMANAGER);
        } else {
            printf("Version: %s\n", MILLRACE_VERSION);
        }
        config_destroy(config);
        return 0;
    }
    err = config_open_log(config, "taskmanager", &out_path);
    if (err == NULL) {
        raise_limits();
        log_start(config);
        err = run(config, out_path);
    }
    int status = err != NULL ? fail(err) : 0;
    free(out_path);
    config_destroy(config);
    log_close();
    return status;
}
