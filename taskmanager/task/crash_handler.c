/* Crash, exit and limit reports. Everything below a signal is async-signal-safe: write(2), string literals, thread-locals. */
#include "taskmanager/task/crash_handler.h"

#include "common/base/heap.h"

#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STACK_BYTES (64u * 1024u)
#define FRAMES_MAX 32
#define LIMIT_SIGNAL SIGUSR2

static int crash_fd = -1;
static atomic_bool is_live;
static atomic_flag has_spoken = ATOMIC_FLAG_INIT;

/* ---- writing ---- */

static void write_text(const char *text)
{
    size_t length = strlen(text);
    while (length > 0) {
        ssize_t written = write(crash_fd, text, length);
        if (written <= 0)
            return;
        text += written;
        length -= (size_t)written;
    }
}

static void write_line(const char *key, const char *value)
{
    write_text(key);
    write_text("=");
    write_text(value);
    write_text("\n");
}

static void write_number(uintptr_t value, unsigned base)
{
    char digits[24];
    size_t at = sizeof digits;
    digits[--at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value > 0);
    write_text(&digits[at]);
}

static void write_task(const struct task *task, const char *function)
{
    if (function != NULL)
        write_line("function", function);
    if (task == NULL)
        return;
    write_line("task", task_name(task));
    write_line("execution", task_execution(task));
}

static void write_frames(void)
{
    void *frames[FRAMES_MAX];
    int count = backtrace(frames, FRAMES_MAX);
    if (count > 2) /* this function and the handler say nothing */
        backtrace_symbols_fd(frames + 2, count - 2, crash_fd);
}

static const char *signal_text(int number)
{
    switch (number) {
    case SIGSEGV: return "SIGSEGV";
    case SIGBUS: return "SIGBUS";
    case SIGFPE: return "SIGFPE";
    case SIGILL: return "SIGILL";
    case SIGABRT: return "SIGABRT";
    default: return "a signal";
    }
}

/* ---- handlers ---- */

static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (!atomic_flag_test_and_set(&has_spoken)) {
        write_line("signal", signal_text(number));
        if (number != SIGABRT) {
            write_text("detail=address 0x");
            write_number((uintptr_t)info->si_addr, 16);
            write_text("\n");
        }
        write_task(task_of_this_thread(), operator_chain_current_function());
        write_frames();
    }
    signal(number, SIG_DFL);
    raise(number);
}

/* A limit was broken: the thread that did it says where it is. */
static void on_limit(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    (void)context;
    write_frames();
    _exit(1);
}

static void on_process_exit(int status, void *argument)
{
    (void)argument;
    if (!atomic_load(&is_live) || atomic_flag_test_and_set(&has_spoken))
        return;
    write_text("exit=");
    write_number((uintptr_t)(status & 0xff), 10);
    write_text("\n");
    write_task(task_of_this_thread(), operator_chain_current_function());
    fflush(stdout);
    _exit(status); /* what else exit would run would meet threads that are still at work */
}

void crash_handler_install(int fd)
{
    crash_fd = fd;
    void *frame;
    backtrace(&frame, 1); /* loads what it needs now: not in a handler */
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, NULL);
    action.sa_sigaction = on_limit;
    sigaction(LIMIT_SIGNAL, &action, NULL);
    on_exit(on_process_exit, NULL);
}

void crash_handler_begin(void)
{
    atomic_store(&is_live, true);
}

void crash_handler_end(void)
{
    atomic_store(&is_live, false);
}

void *crash_handler_thread_start(void)
{
    if (crash_fd < 0)
        return NULL;
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return NULL;
    stack_t alternate = {.ss_sp = stack, .ss_size = STACK_BYTES};
    sigaltstack(&alternate, NULL);
    return stack;
}

void crash_handler_thread_end(void *stack)
{
    if (stack == NULL)
        return;
    stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    munmap(stack, STACK_BYTES);
}

_Noreturn void crash_handler_limit(const char *limit, struct task *task, const char *detail)
{
    if (atomic_flag_test_and_set(&has_spoken)) {
        pause(); /* somebody else is ending the process */
        _exit(1);
    }
    write_line("limit", limit);
    write_line("detail", detail);
    write_task(task, task != NULL ? task_current_function(task) : NULL);
    if (task != NULL && pthread_kill(task_thread(task), LIMIT_SIGNAL) == 0)
        sleep(1);
    _exit(1);
}
