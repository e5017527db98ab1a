/* The program task-runner: the tasks of one job attempt on one taskmanager, in a process of their own that user code may
 * crash (taskmanager/agent/runner_contract.h). Here: command line, the control pipe, signs of life, the end. The main
 * thread owns the loop; everything else is task_runner's. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc_conn.h"
#include "taskmanager/agent/runner_contract.h"
#include "taskmanager/task/crash_handler.h"
#include "taskmanager/task/task_runner.h"
#include "taskmanager/task/user_library.h"
#include "taskmanager/task/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOGGER "TaskRunner"
#define HEARTBEAT_TIMEOUT_DEFAULT_MS 50000
/* Longest wait for what is on its way to other runners when all tasks have ended; less than the agent's patience. */
#define LINGER_MS (RUNNER_EXIT_MS - 500)

struct program {
    uv_loop_t loop;
    struct rpc_conn *control;
    struct task_runner *runner;
    struct user_library *library;
    struct loop_timer *silence_timer;
    struct loop_timer *end_timer;
    const char *taskmanager_id;
    const char *library_path;
    int64_t heartbeat_timeout_ms;
    int64_t heard_at_ms; /* monotonic */
    int64_t ended_at_ms;
};

static const char usage[] = "Usage: task-runner --taskmanager ID --job HEX --epoch N [--heartbeat-timeout MS] [--library FILE]\n"
                            "Started by the taskmanager, with a control pipe as descriptor 3 and a crash pipe as descriptor 4.\n"
                            "  --help     this text\n"
                            "  --version  the version\n";

/* -1: go on; else the exit status. */
static int parse_arguments(struct program *program, int argc, char **argv)
{
    static const struct option options[] = {
        {"taskmanager", required_argument, NULL, 't'}, {"tm", required_argument, NULL, 't'},
        {"job", required_argument, NULL, 'j'},         {"epoch", required_argument, NULL, 'e'},
        {"heartbeat-timeout", required_argument, NULL, 'b'}, {"library", required_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},              {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    program->heartbeat_timeout_ms = HEARTBEAT_TIMEOUT_DEFAULT_MS;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 't')
            program->taskmanager_id = optarg;
        else if (option == 'l')
            program->library_path = optarg;
        else if (option == 'b')
            program->heartbeat_timeout_ms = strtoll(optarg, NULL, 10);
        else if (option == 'h' || option == 'v') {
            printf(option == 'h' ? "%s" : "task-runner %s\n", option == 'h' ? usage : MILLRACE_VERSION);
            return 0;
        } else if (option == '?') {
            fputs(usage, stderr);
            return 1;
        }
    }
    if (program->taskmanager_id == NULL || optind < argc || program->heartbeat_timeout_ms <= 0) {
        fputs(usage, stderr);
        return 1;
    }
    return -1;
}

/* ---- the end ---- */

static _Noreturn void program_exit(int status)
{
    crash_handler_end();
    fflush(NULL);
    _exit(status); /* nothing of ours needs more: threads may still be in user code */
}

static void on_end_timer(void *argument)
{
    struct program *program = argument;
    bool is_patient = clock_mono_ms() - program->ended_at_ms < LINGER_MS;
    if (is_patient && (!task_runner_is_drained(program->runner) || rpc_conn_queued_bytes(program->control) > 0))
        return;
    program_exit(0);
}

static void on_all_ended(void *context)
{
    struct program *program = context;
    program->ended_at_ms = clock_mono_ms();
    if (program->end_timer == NULL)
        program->end_timer = loop_timer_start(&program->loop, 1, 5, on_end_timer, program);
}

/* ---- the control pipe ---- */

static void on_message(void *context, uint16_t type, const json_t *json)
{
    struct program *program = context;
    if (program->control != NULL)
        rpc_conn_send_json(program->control, type, json);
}

static void on_data_connection(struct program *program, const json_t *message)
{
    uv_tcp_t *handle = rpc_conn_take_handle(program->control);
    if (handle == NULL)
        log_warn(LOGGER, "A data connection from taskmanager %s came without its socket.", message_text(message, "runner"));
    else
        task_runner_accept(program->runner, handle, message_text(message, "runner"));
}

static void on_control_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    struct program *program = context;
    json_t *message;
    program->heard_at_ms = clock_mono_ms();
    struct error *err = message_parse(frame->type, frame->body, frame->length, &message);
    if (err != NULL) {
        rpc_conn_close(conn, err);
        return;
    }
    switch (frame->type) {
    case MESSAGE_HEARTBEAT:
        rpc_conn_send_json(conn, MESSAGE_HEARTBEAT_ACK, message);
        break;
    case MESSAGE_HEARTBEAT_ACK:
        break;
    case MESSAGE_DATA_CONNECTION:
        on_data_connection(program, message);
        break;
    case MESSAGE_DEPLOY:
        loop_timer_stop(&program->end_timer);
        crash_handler_begin();
        task_runner_message(program->runner, frame->type, message);
        break;
    default:
        task_runner_message(program->runner, frame->type, message);
    }
    json_decref(message);
}

static void on_control_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    (void)conn;
    (void)context;
    char *text = reason != NULL ? error_text(reason) : heap_strdup("closed");
    log_warn(LOGGER, "The taskmanager is gone (%s); this task runner ends.", text);
    free(text);
    program_exit(1);
}

static void on_silence_timer(void *argument)
{
    struct program *program = argument;
    int64_t silent_ms = clock_mono_ms() - program->heard_at_ms;
    if (silent_ms < program->heartbeat_timeout_ms)
        return;
    log_warn(LOGGER, "The taskmanager was silent for %" PRId64 " ms (heartbeat.timeout %" PRId64 " ms); this task runner ends.", silent_ms,
             program->heartbeat_timeout_ms);
    program_exit(1);
}

static const struct rpc_conn_handler control_handler = {.on_frame = on_control_frame, .on_close = on_control_close};

/* ---- the start ---- */

static struct error *start(struct program *program)
{
    if (uv_loop_init(&program->loop) != 0)
        return error_new(INTERNAL, "could not make the event loop");
    loop_own(&program->loop);
    if (program->library_path != NULL)
        TRY(user_library_open(program->library_path, &program->library));
    program->runner = task_runner_create(&(struct task_runner_options){
        .loop = &program->loop,
        .taskmanager_id = program->taskmanager_id,
        .library = program->library,
        .on_message = on_message,
        .on_all_ended = on_all_ended,
        .context = program,
    });
    TRY(rpc_conn_open_pipe(&program->loop, RUNNER_CONTROL_FD, &control_handler, program, &program->control));
    program->heard_at_ms = clock_mono_ms();
    uint64_t look_ms = (uint64_t)(program->heartbeat_timeout_ms + 3) / 4;
    program->silence_timer = loop_timer_start(&program->loop, look_ms, look_ms, on_silence_timer, program);
    watchdog_start(&program->loop, program->runner);
    return NULL;
}

/* Who made the control pipe; 0: not known. */
static pid_t agent_pid(void)
{
    struct ucred peer = {0};
    socklen_t length = sizeof peer;
    return getsockopt(RUNNER_CONTROL_FD, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? peer.pid : 0;
}

/* Dies with its parent, also when that one died before this call. A taskmanager that is process 1 itself, as in a container without an
 * init process, lives. */
static void follow_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == 1 && agent_pid() != 1)
        _exit(1);
}

int main(int argc, char **argv)
{
    struct program program = {0};
    int status = parse_arguments(&program, argc, argv);
    if (status >= 0)
        return status;
    follow_parent();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    if (fcntl(RUNNER_CONTROL_FD, F_GETFD) < 0) {
        fputs("task-runner: descriptor 3 is not open: this program is started by the taskmanager\n", stderr);
        return 1;
    }
    bool has_crash_pipe = fcntl(RUNNER_CRASH_FD, F_GETFD) >= 0;
    if (has_crash_pipe) {
        fcntl(RUNNER_CRASH_FD, F_SETFD, FD_CLOEXEC);
        crash_handler_install(RUNNER_CRASH_FD);
    }
    void *stack = crash_handler_thread_start();
    struct error *err = start(&program);
    if (err != NULL) {
        log_error_chain(LOG_ERROR, LOGGER, err, "The task runner could not start.");
        error_free(err);
        return 1;
    }
    uv_run(&program.loop, UV_RUN_DEFAULT);
    crash_handler_thread_end(stack);
    program_exit(0);
}
