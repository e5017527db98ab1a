/* Why a task-runner died, in words for the job's exceptions: from what it wrote to the crash pipe (runner_contract.h) and its exit status.
 * Pure. */
#include "common/base/heap.h"
#include "taskmanager/agent/agent_private.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

enum { FRAME_COUNT_MAX = 24, VALUE_BYTES_MAX = 256 };

struct crash {
    char signal[VALUE_BYTES_MAX];
    char exit[VALUE_BYTES_MAX];
    char limit[VALUE_BYTES_MAX];
    char detail[VALUE_BYTES_MAX];
    char function[VALUE_BYTES_MAX];
    char task[VALUE_BYTES_MAX];
    char execution[VALUE_BYTES_MAX];
    struct str_buf frames;
    int frame_count;
};

static bool take_value(const char *line, size_t length, const char *key, char *out)
{
    size_t key_length = strlen(key);
    if (length <= key_length || strncmp(line, key, key_length) != 0 || line[key_length] != '=')
        return false;
    snprintf(out, VALUE_BYTES_MAX, "%.*s", (int)(length - key_length - 1), line + key_length + 1);
    return true;
}

static void parse_line(struct crash *crash, const char *line, size_t length)
{
    if (length == 0 || take_value(line, length, "signal", crash->signal) || take_value(line, length, "exit", crash->exit) ||
        take_value(line, length, "limit", crash->limit) || take_value(line, length, "detail", crash->detail) ||
        take_value(line, length, "function", crash->function) || take_value(line, length, "task", crash->task) ||
        take_value(line, length, "execution", crash->execution))
        return;
    if (crash->frame_count++ < FRAME_COUNT_MAX)
        str_buf_printf(&crash->frames, "\n\tat %.*s", (int)(length < 512 ? length : 512), line);
}

static void parse_text(struct crash *crash, const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        parse_line(crash, text, length);
        text += length;
        text += *text == '\n';
    }
}

/* "crashed with SIGSEGV (address 0x0)" and the like. */
static void describe(const struct crash *crash, int64_t exit_status, int exit_signal, const char *kill_reason, struct str_buf *out)
{
    const char *name = exit_signal != 0 ? sigabbrev_np(exit_signal) : NULL;
    if (kill_reason != NULL)
        str_buf_printf(out, "was killed by the taskmanager: %s", kill_reason);
    else if (strcmp(crash->limit, "memory") == 0)
        str_buf_append(out, "exceeded the memory limit");
    else if (crash->limit[0] != '\0')
        str_buf_append(out, "exceeded the time limit of a user function");
    else if (crash->signal[0] != '\0')
        str_buf_printf(out, "crashed with %s", crash->signal);
    else if (crash->exit[0] != '\0')
        str_buf_printf(out, "called exit(%s)", crash->exit);
    else if (exit_signal == SIGKILL)
        str_buf_append(out, "was killed by SIGKILL (by somebody, or by the kernel because memory ran out)");
    else if (name != NULL)
        str_buf_printf(out, "crashed with SIG%s", name);
    else
        str_buf_printf(out, "exited with status %" PRId64 " while its tasks were running", exit_status);
    if (crash->detail[0] != '\0')
        str_buf_printf(out, " (%s)", crash->detail);
}

struct error *runner_crash_error(const char *crash_text, int64_t exit_status, int exit_signal, const char *kill_reason)
{
    struct crash crash = {0};
    struct str_buf text = {0};
    parse_text(&crash, crash_text);
    if (crash.task[0] != '\0')
        str_buf_printf(&text, "task %s: ", crash.task);
    if (crash.function[0] != '\0')
        str_buf_printf(&text, "user function %s ", crash.function);
    else
        str_buf_append(&text, "the task runner ");
    describe(&crash, exit_status, exit_signal, kill_reason, &text);
    str_buf_append(&text, str_buf_text(&crash.frames));
    struct error *err = crash.function[0] != '\0' ? error_new(USER_FUNCTION, "%s", str_buf_text(&text))
                                                  : error_new(TASK_LOST, "%s", str_buf_text(&text));
    str_buf_finish(&text);
    str_buf_finish(&crash.frames);
    return err;
}
