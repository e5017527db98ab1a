/* Supervision of job-compiler children (compile.h). Thread: the loop. Owner of a struct compile: the jobmanager's list,
 * until the child is reaped and both its pipes are closed. */
#include "jobmanager/compile.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "common/rpc/message.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#define COMPILES_AT_ONCE 4
#define GRAPH_BYTES_MAX (32u << 20)
#define STDERR_BYTES_KEPT (64u << 10)

struct compile {
    struct compile *next;
    struct jobmanager *jobmanager;
    compile_done *done;       /* NULL: nobody waits any more */
    void *argument;
    struct id job_id;
    uint32_t parallelism;
    char *library_name;
    char *library_sha256;
    char *entry;
    char **argv;
    size_t argv_count;
    uv_process_t process;
    uv_pipe_t out, err;
    uv_timer_t timer;
    struct str_buf graph_text;
    struct str_buf err_text;
    int open_handles;
    int64_t exit_status;
    int signal_number;
    bool is_started;
    bool is_exited;
    bool is_timed_out;
    bool is_output_too_large;
};

static void start_waiting(struct jobmanager *jobmanager);

/* ---- results ---- */

/* The tail of what the program printed, for the error message. */
static const char *last_output(struct compile *compile)
{
    const char *text = str_buf_text(&compile->err_text);
    return text[0] != '\0' ? text : "(it printed nothing)";
}

static struct error *graph_from_text(struct compile *compile, struct job_graph **out)
{
    json_error_t json_error;
    json_t *json = json_loadb(str_buf_text(&compile->graph_text), compile->graph_text.length, 0, &json_error);
    if (json == NULL || !json_is_object(json)) {
        json_decref(json);
        return error_new(INVALID_PROGRAM, "the program gave no job graph; it printed: %s", last_output(compile));
    }
    const json_t *error = json_object_get(json, "error");
    if (error != NULL) {
        struct error *err = message_error_from_json(error);
        json_decref(json);
        return err;
    }
    json_object_set_new(json, "job_id", json_string(id_format(compile->job_id).hex));
    struct error *err = job_graph_from_json(json, out);
    json_decref(json);
    return err;
}

static struct error *child_failure(struct compile *compile)
{
    if (compile->is_timed_out)
        return error_with_hint(error_new(TIMEOUT, "the program's %s did not end within %lld ms and was killed", compile->entry,
                                         (long long)config_ms(compile->jobmanager->config, OPTION_PROGRAM_COMPILE_TIMEOUT)),
                               "program.compile.timeout");
    if (compile->is_output_too_large)
        return error_new(INVALID_PROGRAM, "the program gave more than %u MiB of output and was killed", GRAPH_BYTES_MAX >> 20);
    if (compile->signal_number != 0)
        return error_new(USER_FUNCTION, "the program's %s crashed with signal %d (%s); it printed: %s", compile->entry,
                         compile->signal_number, strsignal(compile->signal_number), last_output(compile));
    return NULL;
}

static struct error *compile_result(struct compile *compile, struct job_graph **graph)
{
    TRY(child_failure(compile));
    TRY(graph_from_text(compile, graph));
    if (compile->exit_status != 0) {
        job_graph_destroy(*graph);
        *graph = NULL;
        return error_new(INVALID_PROGRAM, "the program's %s exited with code %lld; it printed: %s", compile->entry,
                         (long long)compile->exit_status, last_output(compile));
    }
    job_graph_set_parallelism(*graph, compile->parallelism);
    struct error *err = job_graph_chain(*graph);
    if (err != NULL) {
        job_graph_destroy(*graph);
        *graph = NULL;
        return err;
    }
    free((*graph)->library.name);
    free((*graph)->library.sha256);
    (*graph)->library.name = heap_strdup(compile->library_name);
    (*graph)->library.sha256 = heap_strdup(compile->library_sha256);
    return NULL;
}

static void compile_destroy(struct compile *compile)
{
    for (size_t i = 0; i < compile->argv_count; i++)
        free(compile->argv[i]);
    free(compile->argv);
    free(compile->library_name);
    free(compile->library_sha256);
    free(compile->entry);
    str_buf_finish(&compile->graph_text);
    str_buf_finish(&compile->err_text);
    free(compile);
}

static void compile_unlink(struct compile *compile)
{
    struct compile **slot = &compile->jobmanager->compiles;
    while (*slot != compile)
        slot = &(*slot)->next;
    *slot = compile->next;
}

static void compile_finish(struct compile *compile)
{
    struct jobmanager *jobmanager = compile->jobmanager;
    struct job_graph *graph = NULL;
    compile_unlink(compile);
    if (compile->is_started)
        jobmanager->compile_running_count--;
    if (compile->done != NULL) {
        struct error *err = compile_result(compile, &graph);
        compile->done(graph, err, COMPILE_MAIN, compile->argument);
    }
    compile_destroy(compile);
    start_waiting(jobmanager);
}

/* ---- the child ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct compile *compile = handle->data;
    if (--compile->open_handles == 0)
        compile_finish(compile);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, on_handle_closed);
}

static void kill_child(struct compile *compile)
{
    /* The child leads a process group of its own: what it forked dies too. */
    if (compile->is_started && !compile->is_exited && kill(-compile->process.pid, SIGKILL) != 0)
        uv_process_kill(&compile->process, SIGKILL);
}

static void on_exit_status(uv_process_t *process, int64_t exit_status, int signal_number)
{
    struct compile *compile = process->data;
    kill(-process->pid, SIGKILL);
    compile->is_exited = true;
    compile->exit_status = exit_status;
    compile->signal_number = signal_number;
    close_handle((uv_handle_t *)&compile->timer);
    close_handle((uv_handle_t *)process);
}

static void on_timeout(uv_timer_t *timer)
{
    struct compile *compile = timer->data;
    compile->is_timed_out = true;
    kill_child(compile);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    static char memory[65536]; /* read callbacks copy at once, on the one loop thread */
    *buffer = uv_buf_init(memory, sizeof memory);
}

static void on_graph_bytes(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct compile *compile = stream->data;
    if (count > 0 && compile->graph_text.length + (size_t)count <= GRAPH_BYTES_MAX) {
        str_buf_append_bytes(&compile->graph_text, buffer->base, (size_t)count);
    } else if (count > 0) {
        compile->is_output_too_large = true;
        kill_child(compile);
    } else if (count < 0) {
        close_handle((uv_handle_t *)stream);
    }
}

static void on_err_bytes(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct compile *compile = stream->data;
    struct str_buf *text = &compile->err_text;
    if (count < 0) {
        close_handle((uv_handle_t *)stream);
        return;
    }
    str_buf_append_bytes(text, buffer->base, (size_t)count);
    if (text->length > STDERR_BYTES_KEPT) {
        memmove(text->text, text->text + (text->length - STDERR_BYTES_KEPT), STDERR_BYTES_KEPT + 1);
        text->length = STDERR_BYTES_KEPT;
    }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SHADOW_MEMORY 1
#else
#define HAS_SHADOW_MEMORY 0
#endif

static void limit_child(struct compile *compile)
{
    const struct config *config = compile->jobmanager->config;
    uint64_t memory = (uint64_t)config_bytes(config, OPTION_PROGRAM_COMPILE_MEMORY);
    uint64_t seconds = (uint64_t)config_ms(config, OPTION_PROGRAM_COMPILE_TIMEOUT) / 1000 + 2;
    struct rlimit memory_limit = {memory, memory};
    struct rlimit cpu_limit = {seconds, seconds};
    struct rlimit no_core = {0, 0};
    /* Sanitizers reserve terabytes of addresses. */
    if (!HAS_SHADOW_MEMORY)
        prlimit(compile->process.pid, RLIMIT_AS, &memory_limit, NULL);
    prlimit(compile->process.pid, RLIMIT_CPU, &cpu_limit, NULL);
    prlimit(compile->process.pid, RLIMIT_CORE, &no_core, NULL);
}

/* When the child cannot be started, every handle is on its way out and the reason is in err_text. */
static void spawn(struct compile *compile)
{
    struct jobmanager *jobmanager = compile->jobmanager;
    uv_pipe_init(jobmanager->loop, &compile->out, 0);
    uv_pipe_init(jobmanager->loop, &compile->err, 0);
    uv_timer_init(jobmanager->loop, &compile->timer);
    compile->out.data = compile->err.data = compile->timer.data = compile->process.data = compile;
    compile->open_handles = 4;
    compile->is_started = true;
    jobmanager->compile_running_count++;
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE},
                                     {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&compile->out},
                                     {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&compile->err}};
    uv_process_options_t options = {
        .file = compile->argv[0], .args = compile->argv, .stdio = stdio, .stdio_count = 3, .flags = UV_PROCESS_DETACHED, .exit_cb = on_exit_status};
    int status = uv_spawn(jobmanager->loop, &compile->process, &options);
    if (status != 0) {
        str_buf_printf(&compile->err_text, "could not start %s: %s", compile->argv[0], uv_strerror(status));
        close_handle((uv_handle_t *)&compile->out);
        close_handle((uv_handle_t *)&compile->err);
        close_handle((uv_handle_t *)&compile->timer);
        close_handle((uv_handle_t *)&compile->process);
        return;
    }
    limit_child(compile);
    uv_read_start((uv_stream_t *)&compile->out, on_alloc, on_graph_bytes);
    uv_read_start((uv_stream_t *)&compile->err, on_alloc, on_err_bytes);
    uv_timer_start(&compile->timer, on_timeout, (uint64_t)config_ms(jobmanager->config, OPTION_PROGRAM_COMPILE_TIMEOUT), 0);
}

static void start_waiting(struct jobmanager *jobmanager)
{
    if (jobmanager->is_stopping)
        return;
    for (struct compile *compile = jobmanager->compiles; compile != NULL && jobmanager->compile_running_count < COMPILES_AT_ONCE;
         compile = compile->next) {
        if (!compile->is_started)
            spawn(compile);
    }
}

/* ---- starting ---- */

static void add_arg(struct compile *compile, char *text)
{
    compile->argv = heap_realloc(compile->argv, compile->argv_count + 2, sizeof *compile->argv);
    compile->argv[compile->argv_count++] = text;
    compile->argv[compile->argv_count] = NULL;
}

static void add_config_args(struct compile *compile, const json_t *config)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value) {
        if (!json_is_string(value))
            continue;
        add_arg(compile, heap_strdup("--config"));
        add_arg(compile, heap_printf("%s=%s", key, json_string_value(value)));
    }
}

void compile_start(struct jobmanager *jobmanager, const struct compile_request *request, compile_done *done, void *argument)
{
    const char *entry = request->entry != NULL && request->entry[0] != '\0' ? request->entry : "main";
    bool has_entry = false;
    struct error *err = program_inspect(request->program->path, entry, &has_entry);
    if (err != NULL)
        err = error_wrap(err, "%s cannot be run", request->program->name);
    else if (!has_entry)
        err = error_with_hint(error_new(INVALID_PROGRAM, "The program's entry point '%s' was not found in %s.", entry, request->program->name),
                              "the shared object must export a function of that name");
    if (err != NULL) {
        done(NULL, err, COMPILE_LOAD, argument);
        return;
    }
    struct compile *compile = heap_new(struct compile);
    compile->jobmanager = jobmanager;
    compile->done = done;
    compile->argument = argument;
    compile->job_id = request->job_id;
    compile->parallelism = request->parallelism;
    compile->library_name = heap_strdup(request->program->name);
    compile->library_sha256 = heap_strdup(request->program->sha256);
    compile->entry = heap_strdup(entry);
    add_arg(compile, heap_strdup(jobmanager->compiler_path));
    add_arg(compile, heap_strdup("--library"));
    add_arg(compile, heap_strdup(request->program->path));
    add_arg(compile, heap_strdup("--entry"));
    add_arg(compile, heap_strdup(entry));
    add_config_args(compile, request->config);
    add_arg(compile, heap_strdup("--"));
    for (size_t i = 0; i < request->arg_count; i++)
        add_arg(compile, heap_strdup(request->args[i]));
    struct compile **tail = &jobmanager->compiles;
    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = compile;
    start_waiting(jobmanager);
}

void compiles_kill(struct jobmanager *jobmanager)
{
    struct compile *next;
    for (struct compile *compile = jobmanager->compiles; compile != NULL; compile = next) {
        next = compile->next;
        compile->done(NULL, error_new(CANCELLED, "the jobmanager shuts down"), COMPILE_MAIN, compile->argument);
        compile->done = NULL;
        if (compile->is_started) {
            kill_child(compile);
        } else {
            compile_unlink(compile);
            compile_destroy(compile);
        }
    }
}
