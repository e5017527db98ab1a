/* Static files: what is found, what validators say, and that no path leads out of the root. */
#include "common/base/heap.h"
#include "common/fs/fs.h"
#include "common/http/static_files.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[64];
static char *root;
static struct static_files *files;

static void write_file(const char *folder, const char *name, const char *text)
{
    char *path = heap_printf("%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    free(path);
}

static void setup(void)
{
    strcpy(base, "/tmp/millrace-static-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    root = heap_printf("%s/root", base);
    char *assets = heap_printf("%s/assets/images", root);
    ck_assert_ptr_null(fs_make_directories(assets));
    write_file(base, "secret.txt", "outside");
    write_file(root, "index.html", "<html>page</html>");
    write_file(root, ".hidden", "hidden");
    write_file(assets, "logo.svg", "<svg/>");
    write_file(assets, "index.html", "inner");
    char *link = heap_printf("%s/link.txt", root);
    char *folder_link = heap_printf("%s/up", root);
    char *pipe_path = heap_printf("%s/pipe", root);
    ck_assert_int_eq(symlink("../secret.txt", link), 0);
    ck_assert_int_eq(symlink("..", folder_link), 0);
    ck_assert_int_eq(mkfifo(pipe_path, 0600), 0);
    free(link);
    free(folder_link);
    free(pipe_path);
    free(assets);
    ck_assert_ptr_null(static_files_create_directory(root, &files));
}

static void teardown(void)
{
    static_files_destroy(files);
    ck_assert_ptr_null(fs_remove_tree(base));
    free(root);
}

/* Reads the body of a 200; the text is valid until the next call. */
static const char *body_of(struct static_files_answer answer)
{
    static char text[256];
    memset(text, 0, sizeof text);
    ck_assert_int_eq(answer.status, 200);
    if (answer.bytes != NULL) {
        memcpy(text, answer.bytes, answer.length);
    } else {
        ck_assert_int_eq(read(answer.fd, text, sizeof text - 1), (ssize_t)answer.length);
        close(answer.fd);
    }
    return text;
}

START_TEST(test_finds_files_with_their_types)
{
    struct static_files_answer answer = static_files_find(files, "/", NULL, NULL);
    ck_assert_str_eq(answer.content_type, "text/html; charset=utf-8");
    ck_assert_str_eq(answer.cache_control, "no-cache");
    ck_assert_str_eq(body_of(answer), "<html>page</html>");
    ck_assert_str_eq(body_of(static_files_find(files, "/index.html", NULL, NULL)), "<html>page</html>");
    answer = static_files_find(files, "/assets/images/logo.svg", NULL, NULL);
    ck_assert_str_eq(answer.content_type, "image/svg+xml");
    ck_assert_str_eq(body_of(answer), "<svg/>");
    ck_assert_str_eq(body_of(static_files_find(files, "/assets/images/", NULL, NULL)), "inner");
    ck_assert_int_eq(static_files_find(files, "/assets/images", NULL, NULL).status, 301);
    ck_assert_int_eq(static_files_find(files, "/assets/", NULL, NULL).status, 404);
    ck_assert_int_eq(static_files_find(files, "/nosuch.js", NULL, NULL).status, 404);
    ck_assert_int_eq(static_files_find(files, "/index.html/", NULL, NULL).status, 404);
    ck_assert_str_eq(static_files_content_type("a.b/c"), "application/octet-stream");
}
END_TEST

START_TEST(test_no_path_leaves_the_root)
{
    static const char *const paths[] = {"/../secret.txt", "/assets/../../secret.txt", "/assets/../index.html", "/./index.html", "//index.html",
                                        "/assets//images/logo.svg", "/link.txt", "/up/secret.txt", "/up/", "/.hidden", "/pipe", "", "secret.txt",
                                        "/..", "/../", "/...", "/assets/images/../images/logo.svg", "/index.html/../../secret.txt",
                                        "/..\\secret.txt", "\\..\\secret.txt", "/etc/passwd", "//etc/passwd"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct static_files_answer answer = static_files_find(files, paths[i], NULL, NULL);
        ck_assert_msg(answer.status == 404 && answer.fd == -1, "%s gave %d", paths[i], answer.status);
    }
    char longest[5000];
    memset(longest, 'a', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    ck_assert_int_eq(static_files_find(files, longest, NULL, NULL).status, 404);
}
END_TEST

START_TEST(test_validators_save_the_body)
{
    struct static_files_answer first = static_files_find(files, "/index.html", NULL, NULL);
    body_of(first);
    struct static_files_answer again = static_files_find(files, "/index.html", first.etag, NULL);
    ck_assert_int_eq(again.status, 304);
    ck_assert_int_eq(again.fd, -1);
    ck_assert_str_eq(again.etag, first.etag);
    char list[128];
    snprintf(list, sizeof list, "\"other\", W/%s", first.etag);
    ck_assert_int_eq(static_files_find(files, "/index.html", list, NULL).status, 304);
    ck_assert_int_eq(static_files_find(files, "/index.html", "*", NULL).status, 304);
    body_of(static_files_find(files, "/index.html", "\"other\"", NULL));
    ck_assert_int_eq(static_files_find(files, "/index.html", NULL, first.last_modified).status, 304);
    /* A tag that does not fit beats a date that does. */
    body_of(static_files_find(files, "/index.html", "\"other\"", first.last_modified));
    body_of(static_files_find(files, "/index.html", NULL, "Sun, 06 Nov 1994 08:49:37 GMT"));
    body_of(static_files_find(files, "/index.html", NULL, "yesterday"));
}
END_TEST

START_TEST(test_a_changed_file_has_a_new_tag)
{
    struct static_files_answer first = static_files_find(files, "/index.html", NULL, NULL);
    body_of(first);
    write_file(root, "index.html", "<html>longer page</html>");
    ck_assert_str_eq(body_of(static_files_find(files, "/index.html", first.etag, NULL)), "<html>longer page</html>");
}
END_TEST

START_TEST(test_a_table_answers_like_a_folder)
{
    static const struct static_file table[] = {
        {"index.html", NULL, "page", 4},
        {"js/page.js", NULL, "code", 4},
        {"data", "application/json", "{}", 2},
    };
    struct static_files *built_in = static_files_create_table(table, 3, 784111777);
    struct static_files_answer answer = static_files_find(built_in, "/", NULL, NULL);
    ck_assert_str_eq(answer.last_modified, "Sun, 06 Nov 1994 08:49:37 GMT");
    ck_assert_str_eq(body_of(answer), "page");
    ck_assert_int_eq(static_files_find(built_in, "/", answer.etag, NULL).status, 304);
    answer = static_files_find(built_in, "/js/page.js", NULL, NULL);
    ck_assert_str_eq(answer.content_type, "text/javascript; charset=utf-8");
    ck_assert_str_eq(body_of(answer), "code");
    ck_assert_str_eq(static_files_find(built_in, "/data", NULL, NULL).content_type, "application/json");
    ck_assert_int_eq(static_files_find(built_in, "/js", NULL, NULL).status, 301);
    ck_assert_int_eq(static_files_find(built_in, "/js/", NULL, NULL).status, 404);
    ck_assert_int_eq(static_files_find(built_in, "/j", NULL, NULL).status, 404);
    ck_assert_int_eq(static_files_find(built_in, "/js/../data", NULL, NULL).status, 404);
    static_files_destroy(built_in);
}
END_TEST

START_TEST(test_a_root_that_is_none_is_an_error)
{
    struct static_files *none = NULL;
    char *file = heap_printf("%s/index.html", root);
    struct error *err = static_files_create_directory(file, &none);
    ck_assert_ptr_nonnull(err);
    ck_assert_int_eq(err->code, ERR_INVALID_ARGUMENT);
    error_free(err);
    err = static_files_create_directory("/nonexistent/web", &none);
    ck_assert_ptr_nonnull(err);
    ck_assert_int_eq(err->code, ERR_NOT_FOUND);
    error_free(err);
    ck_assert_ptr_null(none);
    free(file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("static_files");
    TCase *tests = tcase_create("static_files");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_finds_files_with_their_types);
    tcase_add_test(tests, test_no_path_leaves_the_root);
    tcase_add_test(tests, test_validators_save_the_body);
    tcase_add_test(tests, test_a_changed_file_has_a_new_tag);
    tcase_add_test(tests, test_a_table_answers_like_a_folder);
    tcase_add_test(tests, test_a_root_that_is_none_is_an_error);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
