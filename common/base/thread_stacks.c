/* Stacks of this process's threads (thread_stacks.h). The handler is async-signal-safe: the unwinder is loaded before, and finds its
 * tables without a lock (glibc 2.35 and later, _dl_find_object). Thread: any. */
#include "common/base/thread_stacks.h"

#include "common/base/symbols.h"

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STACK_SIGNAL (SIGRTMIN + 5)
#define ANSWER_MS 50
/* Of the handler itself: the handler's frame and the kernel's trampoline. */
#define HANDLER_FRAMES 2

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t answered;
/* Which capture waits; a thread that answers an earlier one is too late and writes nothing. */
static atomic_uint wanted;
static void *frames[THREAD_STACK_FRAMES_MAX + HANDLER_FRAMES];
static int frame_count;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    int saved_errno = errno;
    unsigned capture = (unsigned)info->si_value.sival_int;
    /* Whoever takes the number away writes: the thread, or the one that no longer waits for it. */
    if (atomic_compare_exchange_strong(&wanted, &capture, 0)) {
        frame_count = backtrace(frames, THREAD_STACK_FRAMES_MAX + HANDLER_FRAMES);
        sem_post(&answered);
    }
    errno = saved_errno;
}

static void install(void)
{
    void *frame;
    backtrace(&frame, 1);
    sem_init(&answered, 0, 0);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(STACK_SIGNAL, &action, NULL);
}

/* ---- /proc ---- */

static size_t read_proc(int64_t thread, const char *name, char *out, size_t bytes)
{
    char path[80];
    snprintf(path, sizeof path, "/proc/self/task/%lld/%s", (long long)thread, name);
    FILE *file = fopen(path, "re");
    size_t length = file != NULL ? fread(out, 1, bytes - 1, file) : 0;
    if (file != NULL)
        fclose(file);
    out[length] = '\0';
    return length;
}

/* A thread that blocks the signal (librdkafka's do) would leave it pending for ever. */
static bool blocks_signal(int64_t thread)
{
    char text[4096];
    read_proc(thread, "status", text, sizeof text);
    const char *line = strstr(text, "\nSigBlk:");
    return line == NULL || (strtoull(line + strlen("\nSigBlk:"), NULL, 16) >> (STACK_SIGNAL - 1) & 1) != 0;
}

static bool read_state(struct thread_stack *out)
{
    char text[512];
    if (read_proc(out->thread, "stat", text, sizeof text) == 0)
        return false;
    const char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (open == NULL || close == NULL || close[1] != ' ')
        return false;
    snprintf(out->name, sizeof out->name, "%.*s", (int)(close - open - 1), open + 1);
    out->state = close[2];
    if (read_proc(out->thread, "wchan", out->wait, sizeof out->wait) == 0 || strcmp(out->wait, "0") == 0)
        out->wait[0] = '\0';
    return true;
}

/* ---- capture ---- */

static bool wait_for_answer(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ANSWER_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    while (sem_timedwait(&answered, &until) != 0) {
        if (errno != EINTR)
            return false;
    }
    return true;
}

static void ask(struct thread_stack *out)
{
    static unsigned number;
    number = number == INT32_MAX ? 1 : number + 1;
    siginfo_t info = {.si_signo = STACK_SIGNAL, .si_code = SI_QUEUE};
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_int = (int)number;
    atomic_store(&wanted, number);
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), (pid_t)out->thread, STACK_SIGNAL, &info) != 0) {
        atomic_store(&wanted, 0);
        return;
    }
    if (!wait_for_answer()) {
        unsigned expected = number;
        if (atomic_compare_exchange_strong(&wanted, &expected, 0))
            return;
        /* It is writing just now. */
        while (sem_wait(&answered) != 0) {
        }
    }
    int count = frame_count > HANDLER_FRAMES ? frame_count - HANDLER_FRAMES : 0;
    out->frame_count = (uint32_t)(count < THREAD_STACK_FRAMES_MAX ? count : THREAD_STACK_FRAMES_MAX);
    memcpy(out->frames, frames + HANDLER_FRAMES, out->frame_count * sizeof *frames);
}

bool thread_stack_capture(int64_t thread, bool can_interrupt, struct thread_stack *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    memset(out, 0, sizeof *out);
    out->thread = thread;
    out->state = '?';
    if (!read_state(out))
        return false;
    bool is_running = out->state == 'R';
    if ((!is_running && (!can_interrupt || out->state != 'S')) || blocks_signal(thread))
        return true;
    pthread_mutex_lock(&lock);
    ask(out);
    pthread_mutex_unlock(&lock);
    return true;
}

int64_t thread_stack_id(pthread_t thread)
{
    /* The clock's id of a thread holds its own, inverted, above three bits (include/linux/posix-timers.h, CPUCLOCK_PID). */
    clockid_t clock;
    return pthread_getcpuclockid(thread, &clock) == 0 ? (int64_t)~(clock >> 3) : -1;
}

bool thread_stack_is_on_cpu(const struct thread_stack *stack)
{
    return stack->state == 'R';
}

/* ---- text ---- */

static const char *state_name(char state)
{
    switch (state) {
    case 'R': return "RUNNABLE";
    case 'S': return "WAITING";
    case 'D': return "BLOCKED";
    case 'T':
    case 't': return "STOPPED";
    default: return "TERMINATED";
    }
}

void thread_stack_print(const struct thread_stack *stack, const char *name, const char *function, struct str_buf *out)
{
    char frame[200];
    str_buf_printf(out, "\"%s\" Id=%lld %s", name != NULL ? name : stack->name, (long long)stack->thread, state_name(stack->state));
    if (stack->wait[0] != '\0' && stack->state != 'R')
        str_buf_printf(out, " in %s", stack->wait);
    str_buf_append_char(out, '\n');
    if (function != NULL)
        str_buf_printf(out, "\tat %s\n", function);
    for (uint32_t i = 0; i < stack->frame_count; i++) {
        /* A return address may already belong to the next function. */
        symbols_describe((const char *)stack->frames[i] - (i > 0), frame, sizeof frame);
        str_buf_printf(out, "\tat %s\n", frame);
    }
    str_buf_append_char(out, '\n');
}

void thread_stacks_all(bool (*can_interrupt)(const char *name), void (*on_stack)(const struct thread_stack *stack, void *argument), void *argument)
{
    DIR *directory = opendir("/proc/self/task");
    for (struct dirent *entry = directory != NULL ? readdir(directory) : NULL; entry != NULL; entry = readdir(directory)) {
        struct thread_stack stack;
        char name[32] = "";
        if (entry->d_name[0] == '.')
            continue;
        int64_t thread = strtoll(entry->d_name, NULL, 10);
        read_proc(thread, "comm", name, sizeof name);
        name[strcspn(name, "\n")] = '\0';
        if (thread_stack_capture(thread, can_interrupt(name), &stack))
            on_stack(&stack, argument);
    }
    if (directory != NULL)
        closedir(directory);
}
