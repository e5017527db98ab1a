/* FILE_GET: log files of this taskmanager by their base names. Reading happens on a worker. Thread: as noted. */
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

enum { FILE_BYTES_MAX = 32 << 20 };

/* Owned by the loop before and after, by the worker in between. */
struct file_job {
    struct agent *agent;
    int64_t request;
    char *kind;
    char *name;      /* NULL where the kind needs none */
    char *directory;
    char *log_path;
    char *out_path;
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

static struct error *work(void *argument)
{
    struct file_job *job = argument;
    if (strcmp(job->kind, "log") == 0)
        return read_path(job, job->log_path);
    if (strcmp(job->kind, "stdout") == 0) /* not captured: an empty page, as in Flink */
        return job->out_path != NULL ? read_path(job, job->out_path) : NULL;
    if (strcmp(job->kind, "file") == 0)
        return read_name(job);
    if (strcmp(job->kind, "list") == 0)
        return list_files(job);
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
    free(job);
}

static char *copy_or_null(const char *text)
{
    return text != NULL ? heap_strdup(text) : NULL;
}

void agent_file_get(struct agent *agent, const json_t *request)
{
    const char *kind = message_text(request, "kind");
    if (strcmp(kind, "thread-dump") == 0 || strcmp(kind, "stacks") == 0) {
        (kind[0] == 't' ? agent_stacks_dump : agent_stacks_sample)(agent, request);
        return;
    }
    struct file_job *job = heap_new(struct file_job);
    job->agent = agent;
    job->request = message_int(request, "request");
    job->kind = heap_strdup(kind);
    job->name = copy_or_null(message_text(request, "name"));
    job->directory = heap_strdup(agent->log_directory);
    job->log_path = copy_or_null(log_file_path());
    job->out_path = copy_or_null(agent->options.out_path);
    agent->file_count++;
    worker_run(agent->loop, work, done, job);
}
