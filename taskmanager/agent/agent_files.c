/* FILE_GET: log files of this taskmanager by their base names, and thread dumps. Reading happens on a worker. Thread: as noted. */
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/fs/fs.h"
#include "common/loop/worker.h"
#include "taskmanager/agent/agent_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 32 << 20, THREAD_COUNT_MAX = 4096, PROC_BYTES_MAX = 64 << 10 };

/* Owned by the loop before and after, by the worker in between. */
struct file_job {
    struct agent *agent;
    int64_t request;
    char *kind;
    char *name;      /* NULL where the kind needs none */
    char *directory;
    char *log_path;
    char *out_path;
    VEC(int64_t) pids;
    uint8_t *bytes;
    size_t length;
};

/* ---- files. Thread: worker ---- */

static bool is_base_name(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL;
}

static struct error *read_path(struct file_job *job, const char *path)
{
    if (path == NULL)
        return error_new(NOT_FOUND, "this taskmanager writes no such file (set env.log.dir)");
    return fs_read_tail(path, FILE_BYTES_MAX, &job->bytes, &job->length);
}

static struct error *read_name(struct file_job *job)
{
    struct stat info;
    if (job->name == NULL || !is_base_name(job->name))
        return error_new(NOT_FOUND, "there is no log file %s", job->name != NULL ? job->name : "without a name");
    char *path = heap_printf("%s/%s", job->directory, job->name);
    bool is_regular = lstat(path, &info) == 0 && S_ISREG(info.st_mode);
    struct error *err = is_regular ? read_path(job, path) : error_new(NOT_FOUND, "there is no log file %s", job->name);
    free(path);
    return err;
}

static void take_json(struct file_job *job, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    job->length = strlen(text);
    job->bytes = (uint8_t *)text;
    json_decref(json);
}

static struct error *list_files(struct file_job *job)
{
    DIR *entries = opendir(job->directory);
    if (entries == NULL)
        return error_errno(errno, "could not open the log directory %s", job->directory);
    json_t *logs = json_array();
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        struct stat info;
        if (!is_base_name(entry->d_name) || fstatat(dirfd(entries), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(info.st_mode))
            continue;
        json_int_t mtime_ms = (json_int_t)info.st_mtim.tv_sec * 1000 + info.st_mtim.tv_nsec / 1000000;
        json_array_append_new(logs, json_pack("{s:s,s:I,s:I}", "name", entry->d_name, "size", (json_int_t)info.st_size, "mtime", mtime_ms));
    }
    closedir(entries);
    take_json(job, json_pack("{s:o}", "logs", logs));
    return NULL;
}

/* ---- thread dump. Thread: worker ---- */

/* A small file of /proc, whose size is not known before; "" when it cannot be read. */
static char *read_proc(int64_t pid, const char *thread, const char *name)
{
    char *text = heap_alloc(PROC_BYTES_MAX + 1);
    char *path = heap_printf("/proc/%" PRId64 "/task/%s/%s", pid, thread, name);
    FILE *file = fopen(path, "re");
    free(path);
    if (file != NULL) {
        size_t length = fread(text, 1, PROC_BYTES_MAX, file);
        text[length] = '\0';
        fclose(file);
    }
    return text;
}

static const char *thread_state(const char *stat_text)
{
    const char *after_name = strrchr(stat_text, ')');
    char state = after_name != NULL && after_name[1] == ' ' ? after_name[2] : '?';
    switch (state) {
    case 'R': return "RUNNABLE";
    case 'S': return "WAITING";
    case 'D': return "BLOCKED";
    case 'T':
    case 't': return "STOPPED";
    case 'Z':
    case 'X': return "TERMINATED";
    default: return "UNKNOWN";
    }
}

/* "[<0>] futex_wait+0x1/0x2" -> "\tat kernel/futex_wait+0x1/0x2" */
static void append_kernel_stack(struct str_buf *text, const char *stack)
{
    while (*stack != '\0') {
        size_t length = strcspn(stack, "\n");
        const char *frame = memchr(stack, ' ', length);
        if (frame != NULL)
            str_buf_printf(text, "\tat kernel/%.*s\n", (int)(length - (size_t)(frame + 1 - stack)), frame + 1);
        stack += length;
        stack += *stack == '\n';
    }
}

static json_t *describe_thread(int64_t pid, const char *thread)
{
    struct str_buf text = {0};
    char *name = read_proc(pid, thread, "comm");
    char *stat_text = read_proc(pid, thread, "stat");
    char *channel = read_proc(pid, thread, "wchan");
    char *stack = read_proc(pid, thread, "stack");
    name[strcspn(name, "\n")] = '\0';
    str_buf_printf(&text, "\"%s\" Id=%s %s", name, thread, thread_state(stat_text));
    if (channel[0] != '\0' && strcmp(channel, "0") != 0)
        str_buf_printf(&text, " in %s", channel);
    str_buf_append_char(&text, '\n');
    append_kernel_stack(&text, stack);
    str_buf_append_char(&text, '\n');
    json_t *info = json_pack("{s:s*,s:s*}", "threadName", name, "stringifiedThreadInfo", str_buf_text(&text));
    str_buf_finish(&text);
    free(name);
    free(stat_text);
    free(channel);
    free(stack);
    return info;
}

static struct error *dump_threads(struct file_job *job)
{
    json_t *infos = json_array();
    for (size_t i = 0; i < job->pids.count; i++) {
        char *path = heap_printf("/proc/%" PRId64 "/task", job->pids.items[i]);
        DIR *threads = opendir(path);
        free(path);
        if (threads == NULL)
            continue; /* it has just exited */
        for (struct dirent *entry = readdir(threads); entry != NULL && json_array_size(infos) < THREAD_COUNT_MAX; entry = readdir(threads))
            if (entry->d_name[0] != '.')
                json_array_append_new(infos, describe_thread(job->pids.items[i], entry->d_name));
        closedir(threads);
    }
    take_json(job, json_pack("{s:o}", "threadInfos", infos));
    return NULL;
}

static struct error *work(void *argument)
{
    struct file_job *job = argument;
    if (strcmp(job->kind, "log") == 0)
        return read_path(job, job->log_path);
    if (strcmp(job->kind, "stdout") == 0)
        return read_path(job, job->out_path);
    if (strcmp(job->kind, "file") == 0)
        return read_name(job);
    if (strcmp(job->kind, "list") == 0)
        return list_files(job);
    if (strcmp(job->kind, "thread-dump") == 0)
        return dump_threads(job);
    return error_new(INVALID_ARGUMENT, "FILE_GET of the unknown kind %s", job->kind);
}

/* ---- Thread: the loop's ---- */

static void done(struct error *err, void *argument)
{
    struct file_job *job = argument;
    size_t length;
    json_t *header = json_pack("{s:I,s:s,s:s*}", "request", (json_int_t)job->request, "kind", job->kind, "name", job->name);
    if (err != NULL)
        json_object_set_new(header, "error", message_error_to_json(err));
    char *body = message_encode_headed(MESSAGE_FILE, header, job->bytes, err != NULL ? 0 : job->length, &length);
    if (job->agent->link_state == LINK_REGISTERED)
        rpc_conn_send_take(job->agent->link, MESSAGE_FILE, body, length);
    else
        free(body);
    json_decref(header);
    error_free(err);
    agent_file_done(job->agent);
    free(job->kind);
    free(job->name);
    free(job->directory);
    free(job->log_path);
    free(job->out_path);
    free(job->bytes);
    vec_finish(&job->pids);
    free(job);
}

static char *copy_or_null(const char *text)
{
    return text != NULL ? heap_strdup(text) : NULL;
}

void agent_file_get(struct agent *agent, const json_t *request)
{
    struct file_job *job = heap_new(struct file_job);
    job->agent = agent;
    job->request = message_int(request, "request");
    job->kind = heap_strdup(message_text(request, "kind"));
    job->name = copy_or_null(message_text(request, "name"));
    job->directory = heap_strdup(agent->log_directory);
    job->log_path = copy_or_null(log_file_path());
    job->out_path = copy_or_null(agent->options.out_path);
    int64_t own = getpid();
    vec_push(&job->pids, own);
    for (size_t i = 0; i < agent->runners.count; i++) {
        int64_t pid = agent->runners.items[i]->process.pid;
        if (agent->runners.items[i]->state == RUNNER_RUNNING)
            vec_push(&job->pids, pid);
    }
    agent->file_count++;
    worker_run(agent->loop, work, done, job);
}
