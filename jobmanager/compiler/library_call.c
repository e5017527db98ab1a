/* Opens an uploaded shared object and calls its entry point, in a process that may die of it. A crash says where on the
 * standard error. Thread: the child's only one until the program makes others. */
#include "jobmanager/compiler/library_call.h"

#include "millrace/function.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKTRACE_FRAMES 48

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

_Noreturn static void refuse(int graph_fd, const char *hint, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void refuse(int graph_fd, const char *hint, const char *format, ...)
{
    char message[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    json_t *line = json_pack("{s:{s:s, s:s?}}", "error", "message", message, "hint", hint);
    char *text = json_dumps(line, JSON_COMPACT);
    if (text != NULL && write(graph_fd, text, strlen(text)) > 0 && write(graph_fd, "\n", 1) == 1)
        _exit(1);
    fprintf(stderr, "%s\n", message);
    fflush(stderr);
    _exit(1);
}

static void on_crash(int signal_number)
{
    /* Everything used here is async-signal-safe once backtrace() has been called before. */
    static const char text[] = "crashed here:\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) > 0) {
        void *frames[BACKTRACE_FRAMES];
        backtrace_symbols_fd(frames, backtrace(frames, BACKTRACE_FRAMES), STDERR_FILENO);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* A stack of its own: the crash may be an overflow of the other one. */
static void install_crash_handler(void)
{
    static char stack_memory[65536];
    stack_t stack = {.ss_sp = stack_memory, .ss_size = sizeof stack_memory};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_flags = (int)(SA_ONSTACK | SA_RESETHAND | SA_NODEFER)};
    action.sa_handler = on_crash;
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, NULL);
    void *frames[1];
    backtrace(frames, 1);
}

/* The dynamic linker's words for a file of another kind name no remedy. */
static void check_header(const char *path, int graph_fd)
{
    static const char hint[] = "build it with cc -shared -fPIC, for the kind of machine that the cluster runs on";
    Elf64_Ehdr header = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        refuse(graph_fd, NULL, "could not open %s: %s", path, strerror(errno));
    ssize_t got = read(fd, &header, sizeof header);
    close(fd);
    if (got < (ssize_t)sizeof header || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_type != ET_DYN)
        refuse(graph_fd, hint, "%s is not a shared object (64-bit ELF)", base_name(path));
}

_Noreturn void library_call(const char *path, const char *entry, char *const *args, int arg_count, int graph_fd, struct library_call_state *state)
{
    install_crash_handler();
    check_header(path, graph_fd);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        refuse(graph_fd, "link the shared object with every library that it uses, and with -lmillrace", "could not load %s: %s", base_name(path),
               dlerror());
    const uint32_t *version = dlsym(library, "millrace_abi_version");
    if (version == NULL)
        refuse(graph_fd, "include <millrace/millrace.h> and do not hide its symbols",
               "%s is not a Millrace program: it has no symbol millrace_abi_version", base_name(path));
    if (*version != MR_ABI_VERSION)
        refuse(graph_fd, "rebuild it with the headers of this version", "%s has ABI version %" PRIu32 ", this cluster has %d", base_name(path),
               *version, MR_ABI_VERSION);
    int (*function)(int, char **) = NULL;
    *(void **)&function = dlsym(library, entry);
    if (function == NULL)
        refuse(graph_fd, "the shared object must export a function of that name", "The program's entry point '%s' was not found in %s.", entry,
               base_name(path));
    char **argv = calloc((size_t)arg_count + 2, sizeof *argv);
    if (argv == NULL)
        refuse(graph_fd, NULL, "out of memory");
    argv[0] = strdup(base_name(path));
    for (int i = 0; i < arg_count; i++)
        argv[i + 1] = strdup(args[i]);
    state->stage = CALL_IN_ENTRY;
    int code = function(arg_count + 1, argv);
    state->return_code = code;
    state->stage = CALL_RETURNED;
    fflush(NULL);
    _exit(0);
}
