/* Runs a program's entry point in a forked child and judges how it ended: see program.h. The parent keeps no state that the
 * program could reach; the child hands the operators over through a memory file. */
#include "jobmanager/compiler/program.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "jobmanager/compiler/library_call.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_BYTES_KEPT (64u << 10)
#define GRAPH_BYTES_MAX (32 << 20)

struct run {
    const struct program_request *request;
    struct library_call_state *state; /* shared with the child */
    int graph_fd;
    int output_fd;                    /* read end of the child's standard output and error; -1 at its end */
    int output_write_fd;
    pid_t pid;
    int pid_fd;
    int wait_status;
    bool is_timed_out;
    struct str_buf output;
};

static struct error *open_files(struct run *run)
{
    run->graph_fd = memfd_create("operators", 0);
    if (run->graph_fd < 0)
        return error_errno(errno, "could not create a memory file");
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return error_errno(errno, "could not create a pipe");
    run->output_fd = pipe_fds[0];
    run->output_write_fd = pipe_fds[1];
    fcntl(run->output_fd, F_SETFL, O_NONBLOCK);
    run->state = mmap(NULL, sizeof *run->state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (run->state == MAP_FAILED) {
        run->state = NULL;
        return error_errno(errno, "could not map memory");
    }
    return NULL;
}

static void close_files(struct run *run)
{
    int fds[] = {run->graph_fd, run->output_fd, run->output_write_fd, run->pid_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    if (run->state != NULL)
        munmap(run->state, sizeof *run->state);
    str_buf_finish(&run->output);
}

_Noreturn static void child(struct run *run)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char text[16];
    snprintf(text, sizeof text, "%d", run->graph_fd);
    setenv("MILLRACE_GRAPH_FD", text, 1);
    char *config = json_dumps(run->request->config, JSON_COMPACT);
    setenv("MILLRACE_CONFIG", config != NULL ? config : "{}", 1);
    free(config);
    dup2(run->output_write_fd, STDOUT_FILENO);
    dup2(run->output_write_fd, STDERR_FILENO);
    library_call(run->request->library, run->request->entry, run->request->args, run->request->arg_count, run->graph_fd, run->state);
}

static struct error *start(struct run *run)
{
    run->pid = fork();
    if (run->pid < 0)
        return error_errno(errno, "could not start a process for the program");
    if (run->pid == 0)
        child(run);
    close(run->output_write_fd);
    run->output_write_fd = -1;
    run->pid_fd = pidfd_open(run->pid, 0);
    if (run->pid_fd < 0) {
        struct error *err = error_errno(errno, "could not watch the program's process");
        kill(run->pid, SIGKILL);
        waitpid(run->pid, &run->wait_status, 0);
        return err;
    }
    return NULL;
}

static void read_output(struct run *run)
{
    char bytes[16384];
    ssize_t got;
    while ((got = read(run->output_fd, bytes, sizeof bytes)) > 0) {
        str_buf_append_bytes(&run->output, bytes, (size_t)got);
        if (run->output.length > 2 * OUTPUT_BYTES_KEPT) {
            memmove(run->output.text, run->output.text + run->output.length - OUTPUT_BYTES_KEPT, OUTPUT_BYTES_KEPT + 1);
            run->output.length = OUTPUT_BYTES_KEPT;
        }
    }
    if (got == 0) {
        close(run->output_fd);
        run->output_fd = -1;
    }
}

static void wait_for_end(struct run *run)
{
    int64_t deadline = clock_mono_ms() + run->request->timeout_ms;
    for (;;) {
        int64_t left = deadline - clock_mono_ms();
        struct pollfd fds[2] = {{.fd = run->pid_fd, .events = POLLIN}, {.fd = run->output_fd, .events = POLLIN}};
        int ready = left > 0 ? poll(fds, 2, (int)left) : 0;
        if (run->output_fd >= 0)
            read_output(run);
        if (ready > 0 && fds[0].revents != 0)
            break;
        if (ready == 0) {
            run->is_timed_out = true;
            kill(run->pid, SIGKILL);
            break;
        }
    }
    while (waitpid(run->pid, &run->wait_status, 0) < 0 && errno == EINTR)
        ;
    if (run->output_fd >= 0)
        read_output(run);
}

/* "message; it printed: …" with the program's own words, when there are any. */
static struct error *with_output(const struct run *run, struct error *err)
{
    size_t length = run->output.length;
    const char *text = str_buf_text(&run->output);
    if (length > OUTPUT_BYTES_KEPT) {
        text += length - OUTPUT_BYTES_KEPT;
        length = OUTPUT_BYTES_KEPT;
    }
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
        length--;
    if (length == 0)
        return err;
    size_t message_length = strlen(err->message);
    message_length -= message_length > 0 && err->message[message_length - 1] == '.';
    struct error *longer = error_create(err->code, err->file, err->line, "%.*s; it printed:\n%.*s", (int)message_length, err->message,
                                        (int)length, text);
    if (err->hint != NULL)
        longer = error_with_hint(longer, "%s", err->hint);
    error_free(err);
    return longer;
}

static struct error *read_documents(const struct run *run, char **out)
{
    struct stat status;
    if (fstat(run->graph_fd, &status) != 0)
        return error_errno(errno, "could not read what the program handed over");
    if (status.st_size > GRAPH_BYTES_MAX)
        return error_new(TOO_LARGE, "the program handed over %lld bytes, more than %d MiB", (long long)status.st_size, GRAPH_BYTES_MAX >> 20);
    size_t length = (size_t)status.st_size;
    char *text = heap_alloc(length + 1);
    size_t done = 0;
    while (done < length) {
        ssize_t got = pread(run->graph_fd, text + done, length - done, (off_t)done);
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    *out = text;
    return NULL;
}

/* An error line counts before anything else: it is the API's (or our own) word for what is wrong. */
static struct error *first_error(char *const *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_t *json = json_loads(lines[i], 0, NULL);
        const json_t *error = json_object_get(json, "error");
        const char *message = json_string_value(json_object_get(error, "message"));
        const char *hint = json_string_value(json_object_get(error, "hint"));
        struct error *err = NULL;
        if (message != NULL)
            err = error_new(INVALID_PROGRAM, "%s", message);
        if (message != NULL && hint != NULL)
            err = error_with_hint(err, "%s", hint);
        json_decref(json);
        if (err != NULL)
            return err;
    }
    return NULL;
}

static struct error *judge_end(const struct run *run, size_t document_count)
{
    const char *entry = run->request->entry;
    if (run->is_timed_out)
        return error_with_hint(error_new(TIMEOUT, "the program's %s did not end within %" PRId64 " ms and was killed", entry,
                                         run->request->timeout_ms),
                               "a program only describes its job; see program.compile.timeout");
    if (WIFSIGNALED(run->wait_status)) {
        int number = WTERMSIG(run->wait_status);
        const char *abbreviation = sigabbrev_np(number);
        return error_new(USER_FUNCTION, "the program's %s crashed with SIG%s (%s)", run->state->stage == CALL_OPENING ? "start-up code" : entry,
                         abbreviation != NULL ? abbreviation : "?", strsignal(number));
    }
    int code = run->state->stage == CALL_RETURNED ? run->state->return_code : WEXITSTATUS(run->wait_status);
    if (code != 0)
        return error_new(INVALID_PROGRAM,
                         run->state->stage == CALL_RETURNED ? "the program's %s returned %d" : "the program's %s called exit(%d)", entry, code);
    if (document_count == 0)
        return error_with_hint(error_new(INVALID_PROGRAM, "The program didn't contain a Flink job. "
                                                          "Perhaps you forgot to call mr_execute() on the environment."),
                               "return mr_execute(env, \"name\") from main");
    if (document_count > 1)
        return error_new(INVALID_PROGRAM, "mr_execute was called %zu times: a program is one job", document_count);
    return NULL;
}

static struct error *judge(const struct run *run, char *text, json_t **out)
{
    char *lines[8];
    size_t count = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL && count < 8; line = strtok_r(NULL, "\n", &rest))
        lines[count++] = line;
    TRY(first_error(lines, count));
    struct error *err = judge_end(run, count);
    if (err != NULL)
        return with_output(run, err);
    json_error_t json_error;
    *out = json_loads(lines[0], 0, &json_error);
    if (*out == NULL)
        return with_output(run, error_new(INVALID_PROGRAM, "the program handed over something that is no job graph: %s", json_error.text));
    return NULL;
}

struct error *program_run(const struct program_request *request, json_t **out)
{
    struct run run = {.request = request, .graph_fd = -1, .output_fd = -1, .output_write_fd = -1, .pid_fd = -1};
    struct error *err = NULL;
    char *text = NULL;
    TRY_GOTO(done, open_files(&run));
    TRY_GOTO(done, start(&run));
    wait_for_end(&run);
    TRY_GOTO(done, read_documents(&run, &text));
    err = judge(&run, text, out);
    if (err == NULL && run.output.length > 0 && write(STDERR_FILENO, run.output.text, run.output.length) < 0)
        err = NULL; /* what a good program printed is a courtesy */
done:
    free(text);
    close_files(&run);
    return err;
}
