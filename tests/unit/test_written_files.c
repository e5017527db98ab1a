/* State files of checkpoints that are aborted: before, while and after they are written. */
#include "common/base/heap.h"
#include "common/fs/fs.h"
#include "taskmanager/task/written_files.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[64];

static void setup(void)
{
    snprintf(root, sizeof root, "/tmp/test_written_files.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void teardown(void)
{
    rmdir(root);
}

static char *path_of(uint64_t checkpoint, const char *name)
{
    return heap_printf("%s/chk-%llu%s%s", root, (unsigned long long)checkpoint, name[0] != '\0' ? "/" : "", name);
}

static bool is_there(uint64_t checkpoint, const char *name)
{
    char *path = path_of(checkpoint, name);
    bool found = access(path, F_OK) == 0;
    free(path);
    return found;
}

/* As a writer does: the directory too, also where it was deleted before. */
static bool write_file(struct written_files *files, uint64_t checkpoint, const char *name)
{
    char *directory = path_of(checkpoint, ""), *path = path_of(checkpoint, name);
    mkdir(directory, 0755);
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    ck_assert_int_ge(fd, 0);
    close(fd);
    bool is_kept = written_files_add(files, checkpoint, directory, name);
    free(directory);
    free(path);
    return is_kept;
}

static void remove_file(uint64_t checkpoint, const char *name)
{
    char *directory = path_of(checkpoint, ""), *path = path_of(checkpoint, name);
    ck_assert_int_eq(unlink(path), 0);
    rmdir(directory);
    free(directory);
    free(path);
}

START_TEST(files_of_an_aborted_checkpoint_go)
{
    struct written_files files = {0};
    ck_assert(write_file(&files, 1, "a"));
    ck_assert(write_file(&files, 2, "a"));
    ck_assert(write_file(&files, 2, "b"));
    written_files_aborted(&files, 2);
    ck_assert(is_there(1, "a"));
    ck_assert(!is_there(2, ""));
    remove_file(1, "a");
    written_files_finish(&files);
}
END_TEST

START_TEST(a_file_that_comes_after_the_abort_goes_too)
{
    struct written_files files = {0};
    written_files_aborted(&files, 7);
    ck_assert(!write_file(&files, 7, "late"));
    ck_assert(!is_there(7, ""));
    ck_assert(write_file(&files, 8, "next"));
    remove_file(8, "next");
    written_files_finish(&files);
}
END_TEST

START_TEST(completed_files_are_not_ours)
{
    struct written_files files = {0};
    ck_assert(write_file(&files, 3, "a"));
    written_files_completed(&files, 3);
    written_files_aborted(&files, 3); /* never happens; and would do nothing */
    ck_assert(is_there(3, "a"));
    remove_file(3, "a");
    written_files_finish(&files);
}
END_TEST

/* What the coordinator has put into the directory meanwhile stays. */
START_TEST(others_files_stay)
{
    struct written_files files = {0};
    ck_assert(write_file(&files, 4, "ours"));
    struct written_files other = {0};
    ck_assert(write_file(&other, 4, "theirs"));
    written_files_aborted(&files, 4);
    ck_assert(!is_there(4, "ours"));
    ck_assert(is_there(4, "theirs"));
    remove_file(4, "theirs");
    written_files_finish(&files);
    written_files_finish(&other);
}
END_TEST

/* The jobmanager removes the directory of a job with the last checkpoint in it, while a task makes that of the next one. */
START_TEST(directories_are_made_while_their_parent_goes)
{
    char directory[] = "/tmp/test_written_files-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(directory));
    char *job = heap_printf("%s/job", directory);
    char *checkpoint = heap_printf("%s/chk-1", job);
    pid_t remover = fork();
    ck_assert_int_ge(remover, 0);
    while (remover == 0) {
        (void)rmdir(job);
        usleep(1);
    }
    for (int i = 0; i < 3000; i++) {
        struct error *err = fs_make_directories(checkpoint);
        if (err != NULL)
            kill(remover, SIGKILL);
        ck_assert_msg(err == NULL, "%s, the %dth time", err != NULL ? err->message : "", i);
        ck_assert_int_eq(rmdir(checkpoint), 0);
    }
    kill(remover, SIGKILL);
    ck_assert_int_eq(waitpid(remover, NULL, 0), remover);
    struct error *err = fs_remove_tree(directory);
    ck_assert_ptr_null(err);
    free(checkpoint);
    free(job);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("written_files");
    TCase *tests = tcase_create("files");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, files_of_an_aborted_checkpoint_go);
    tcase_add_test(tests, a_file_that_comes_after_the_abort_goes_too);
    tcase_add_test(tests, completed_files_are_not_ours);
    tcase_add_test(tests, others_files_stay);
    tcase_add_test(tests, directories_are_made_while_their_parent_goes);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
