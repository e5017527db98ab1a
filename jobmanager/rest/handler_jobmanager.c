/* The jobmanager itself: configuration, environment, logs. Its metrics are in handler_metrics.c, its threads in handler_stacks.c.
 * Thread: the loop. */
#include "common/base/heap.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"
#include "jobmanager/rest/views.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

void handle_jobmanager_config(struct jobmanager *jobmanager, struct rest_request *request)
{
    rest_reply_json(request, 200, config_list_json(jobmanager->config));
}

/* "-Dkey=value" and "key=value" without the values of secrets. NULL: no UTF-8. */
static json_t *shown_argument(const char *argument)
{
    const char *name = strncmp(argument, "-D", 2) == 0 ? argument + 2 : argument;
    const char *equals = strchr(name, '=');
    char *key = equals != NULL ? heap_strndup(name, (size_t)(equals - name)) : NULL;
    json_t *json = key != NULL && config_is_secret(key) ? json_sprintf("%.*s" CONFIG_SECRET_SHOWN, (int)(equals + 1 - argument), argument)
                                                        : json_string(argument);
    free(key);
    return json;
}

/* Where Flink shows its Java machine stands what this program is and how it was started. */
void handle_jobmanager_environment(struct jobmanager *jobmanager, struct rest_request *request)
{
    (void)jobmanager;
    struct utsname system;
    uname(&system);
    json_t *options = json_array();
    char arguments[8192];
    FILE *file = fopen("/proc/self/cmdline", "re");
    size_t length = file != NULL ? fread(arguments, 1, sizeof arguments - 1, file) : 0;
    if (file != NULL)
        fclose(file);
    arguments[length] = '\0';
    for (size_t at = 0; at < length; at += strlen(arguments + at) + 1) {
        if (at > 0)
            json_array_append_new(options, shown_argument(arguments + at)); /* refuses what is no UTF-8 */
    }
    json_t *classpath = json_array();
    char program[4096];
    ssize_t program_length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (program_length > 0) {
        program[program_length] = '\0';
        json_array_append_new(classpath, json_string(program));
    }
    json_t *machine = json_object();
    put_text(machine, "version", "Millrace " MILLRACE_VERSION " - no Java machine");
    put_text(machine, "arch", system.machine);
    put_json(machine, "options", options);
    json_t *json = json_object();
    put_json(json, "jvm", machine);
    put_json(json, "classpath", classpath);
    rest_reply_json(request, 200, json);
}

/* ---- log files ---- */

void handle_jobmanager_logs(struct jobmanager *jobmanager, struct rest_request *request)
{
    json_t *logs = json_array();
    DIR *directory = jobmanager->log_directory != NULL ? opendir(jobmanager->log_directory) : NULL;
    for (struct dirent *entry = directory != NULL ? readdir(directory) : NULL; entry != NULL; entry = readdir(directory)) {
        struct stat status;
        if (fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
            continue;
        json_t *log = json_object();
        put_text(log, "name", entry->d_name);
        put_int(log, "size", status.st_size);
        put_int(log, "mtime", (int64_t)status.st_mtim.tv_sec * 1000 + status.st_mtim.tv_nsec / 1000000);
        json_array_append_new(logs, log);
    }
    if (directory != NULL)
        closedir(directory);
    json_t *json = json_object();
    put_json(json, "logs", logs);
    rest_reply_json(request, 200, json);
}

static void reply_file(struct rest_request *request, const char *path)
{
    struct stat status;
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
    if (fd < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        if (fd >= 0)
            close(fd);
        rest_reply_error(request, 404, "This file does not exist in JobManager log dir.");
        return;
    }
    if (status.st_size == 0) {
        close(fd);
        rest_reply_text(request, 200, "", 0);
        return;
    }
    rest_reply_file(request, fd, (uint64_t)status.st_size);
}

void handle_jobmanager_log(struct jobmanager *jobmanager, struct rest_request *request)
{
    (void)jobmanager;
    reply_file(request, log_file_path());
}

/* Without a file of its own standard output is not captured; Flink shows an empty page then, too. */
void handle_jobmanager_stdout(struct jobmanager *jobmanager, struct rest_request *request)
{
    if (jobmanager->stdout_path == NULL || access(jobmanager->stdout_path, R_OK) != 0)
        rest_reply_text(request, 200, "", 0);
    else
        reply_file(request, jobmanager->stdout_path);
}

void handle_jobmanager_log_file(struct jobmanager *jobmanager, struct rest_request *request)
{
    /* A path parameter holds no slash: it cannot leave the directory but as "..", which is no regular file. */
    char *path = jobmanager->log_directory != NULL ? heap_printf("%s/%s", jobmanager->log_directory, rest_path_param(request, "filename")) : NULL;
    reply_file(request, path);
    free(path);
}

/* ---- the same, reached through a job ---- */

void handle_job_jobmanager_config(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (rest_path_id(request, "jobid", &id))
        handle_jobmanager_config(jobmanager, request);
}

void handle_job_jobmanager_environment(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (rest_path_id(request, "jobid", &id))
        handle_jobmanager_environment(jobmanager, request);
}

void handle_job_jobmanager_log_url(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (!rest_path_id(request, "jobid", &id))
        return;
    json_t *json = json_object();
    put_json(json, "url", json_sprintf("%s/#/job-manager/logs", jobmanager->web_base));
    rest_reply_json(request, 200, json);
}

void handle_job_taskmanager_log_url(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct id id;
    if (!rest_path_id(request, "jobid", &id))
        return;
    json_t *json = json_object();
    json_t *url = json_sprintf("%s/#/task-manager/%s/logs", jobmanager->web_base, rest_path_param(request, "taskmanagerid"));
    put_json(json, "url", url != NULL ? url : json_null());
    rest_reply_json(request, 200, json);
}
