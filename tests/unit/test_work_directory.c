/* Working directories of daemons: what a dead process left behind goes at the next start, and nothing else. */
#include "common/fs/fs.h"
#include "common/fs/work_directory.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char base[64];

static void setup(void)
{
    snprintf(base, sizeof base, "/tmp/test_work_directory.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
}

static void teardown(void)
{
    ck_assert_ptr_null(fs_remove_tree(base));
}

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* A child makes a directory with a file in it, says where, and is killed. */
static void leave_behind(char path[128])
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct work_directory directory;
        char file[160];
        if (work_directory_create(base, "daemon", &directory) != NULL)
            _exit(1);
        snprintf(file, sizeof file, "%s/file", directory.path);
        if (fs_write_atomic(file, "x", 1) != NULL || write(ends[1], directory.path, strlen(directory.path) + 1) < 0)
            _exit(1);
        pause();
        _exit(1);
    }
    close(ends[1]);
    ssize_t length = read(ends[0], path, 128);
    ck_assert_int_gt(length, 1);
    close(ends[0]);
    /* While its process lives it stays. */
    struct work_directory other;
    ck_assert_ptr_null(work_directory_create(base, "daemon", &other));
    ck_assert(exists(path));
    work_directory_remove(&other);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert(exists(path));
}

START_TEST(what_a_killed_process_left_is_removed)
{
    char path[128];
    leave_behind(path);
    struct work_directory directory;
    ck_assert_ptr_null(work_directory_create(base, "other", &directory));
    ck_assert(exists(path)); /* not of its name */
    work_directory_remove(&directory);
    ck_assert_ptr_null(work_directory_create(base, "daemon", &directory));
    ck_assert(!exists(path));
    char *own = strdup(directory.path);
    work_directory_remove(&directory);
    ck_assert(!exists(own));
    free(own);
    work_directory_remove(&directory);
}
END_TEST

START_TEST(only_such_directories_are_removed)
{
    /* Pids beyond every kernel's limit are dead. The last one's process id is ours: of an earlier life, in a container. */
    static const char *const kept[] = {"daemon-2000000000-abc", "daemon-x-abcdef", "daemon-0-abcdef", "daemon-2000000000abcdef",
                                       "daemon--2000000000-abcdef", "daemonic-2000000000-abcdef", "daemon-99999999999999999999-abcdef"};
    static const char *const removed[] = {"daemon-2000000000-abcdef", "daemon-2000000001-ABC123"};
    char path[128];
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", base, kept[i]);
        ck_assert_int_eq(mkdir(path, 0700), 0);
    }
    for (size_t i = 0; i < sizeof removed / sizeof removed[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", base, removed[i]);
        ck_assert_int_eq(mkdir(path, 0700), 0);
    }
    char earlier[128];
    snprintf(earlier, sizeof earlier, "%s/daemon-%d-abcdef", base, (int)getpid());
    ck_assert_int_eq(mkdir(earlier, 0700), 0);
    /* A link, and a file, of such a name are nobody's working directory. */
    char link_path[128];
    snprintf(link_path, sizeof link_path, "%s/daemon-2000000002-abcdef", base);
    ck_assert_int_eq(symlink(path, link_path), 0);

    struct work_directory first;
    struct work_directory second;
    ck_assert_ptr_null(work_directory_create(base, "daemon", &first));
    ck_assert_ptr_null(work_directory_create(base, "daemon", &second));
    ck_assert(exists(first.path)); /* same process, locked */
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", base, kept[i]);
        ck_assert_msg(exists(path), "%s", path);
    }
    for (size_t i = 0; i < sizeof removed / sizeof removed[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", base, removed[i]);
        ck_assert_msg(!exists(path), "%s", path);
    }
    ck_assert(!exists(earlier));
    ck_assert(exists(link_path));
    work_directory_remove(&first);
    work_directory_remove(&second);
}
END_TEST

START_TEST(the_first_of_a_list_is_taken)
{
    static const char *const rows[][2] = {{"/a b", "/a b"}, {"/a,/b", "/a"}, {"/a:/b:/c", "/a"},
                                          {"/a|/b", "/a"}, {"/a;/b", "/a"}, {"", "/t"}, {",", "/t"}};
    ck_assert_int_eq(setenv("TMPDIR", "/t", 1), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *path = work_directory_base(rows[i][0]);
        ck_assert_str_eq(path, rows[i][1]);
        free(path);
    }
    ck_assert_int_eq(unsetenv("TMPDIR"), 0);
    char *path = work_directory_base("");
    ck_assert_str_eq(path, "/tmp");
    free(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("work_directory");
    TCase *cases = tcase_create("work_directory");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, what_a_killed_process_left_is_removed);
    tcase_add_test(cases, the_first_of_a_list_is_taken);
    tcase_add_test(cases, only_such_directories_are_removed);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
