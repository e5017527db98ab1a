/* See work_directory.h. Thread: any. */
#include "common/fs/work_directory.h"

#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/fs/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOGGER "WorkDirectory"

enum { RANDOM_LENGTH = 6 }; /* mkdtemp's */

/* The pid in "<name>-<pid>-<random>"; 0 when the entry is something else. */
static pid_t pid_of_entry(const char *entry, const char *name)
{
    size_t length = strlen(name);
    if (strncmp(entry, name, length) != 0 || entry[length] != '-' || entry[length + 1] < '1' || entry[length + 1] > '9')
        return 0;
    char *end;
    errno = 0;
    long pid = strtol(entry + length + 1, &end, 10);
    if (errno != 0 || pid > INT32_MAX || *end != '-' || strlen(end + 1) != RANDOM_LENGTH)
        return 0;
    return (pid_t)pid;
}

/* A directory with this process's own pid is that of a dead one too: ids come round, in containers at every start. */
static bool is_dead(pid_t pid)
{
    return pid == getpid() || (kill(pid, 0) != 0 && errno == ESRCH);
}

/* True when the directory is ours and nobody holds it; the lock goes with the call: whoever is dead does not come back. */
static bool is_abandoned(int parent_fd, const char *entry)
{
    int fd = openat(parent_fd, entry, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    struct stat info;
    bool is_abandoned = fstat(fd, &info) == 0 && info.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return is_abandoned;
}

static void remove_abandoned(const char *base, const char *name)
{
    DIR *entries = opendir(base);
    if (entries == NULL)
        return; /* making our own directory there says why */
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        pid_t pid = pid_of_entry(entry->d_name, name);
        if (pid == 0 || !is_dead(pid) || !is_abandoned(dirfd(entries), entry->d_name))
            continue;
        char *path = heap_printf("%s/%s", base, entry->d_name);
        struct error *err = fs_remove_tree(path);
        if (err == NULL)
            log_info(LOGGER, "Removed %s, which a process that did not end cleanly (pid %d) left behind.", path, (int)pid);
        else
            log_error_chain(LOG_WARN, LOGGER, err, "Could not remove what a dead process left behind.");
        error_free(err);
        free(path);
    }
    closedir(entries);
}

char *work_directory_base(const char *configured)
{
    static const char separators[] = ",|:;";
    const char *environment = getenv("TMPDIR");
    configured += strspn(configured, separators);
    if (configured[0] != '\0')
        return heap_strndup(configured, strcspn(configured, separators));
    return heap_strdup(environment != NULL && environment[0] != '\0' ? environment : "/tmp");
}

struct error *work_directory_create(const char *base, const char *name, struct work_directory *out)
{
    TRY(fs_make_directories(base));
    remove_abandoned(base, name);
    char *path = heap_printf("%s/%s-%d-XXXXXX", base, name, (int)getpid());
    if (mkdtemp(path) == NULL) {
        struct error *err = error_errno(errno, "could not make a working directory in %s (io.tmp.dirs)", base);
        free(path);
        return err;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Where files cannot be locked the pid alone decides. */
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0)
        log_debug(LOGGER, "Could not lock %s: %s.", path, strerror(errno));
    *out = (struct work_directory){path, fd};
    return NULL;
}

void work_directory_remove(struct work_directory *directory)
{
    if (directory->path == NULL)
        return;
    struct error *err = fs_remove_tree(directory->path);
    if (err != NULL)
        log_error_chain(LOG_WARN, LOGGER, err, "Could not remove the working directory.");
    error_free(err);
    if (directory->lock_fd >= 0)
        close(directory->lock_fd);
    free(directory->path);
    *directory = (struct work_directory){0};
}
