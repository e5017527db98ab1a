/* The page that is built in: every file of its folder, byte for byte, and all that its files ask for. */
#include "common/base/heap.h"
#include "jobmanager/web/web_page.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct static_file *find(const char *path)
{
    size_t count;
    const struct static_file *files = web_page_files(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(files[i].path, path) == 0)
            return &files[i];
    }
    return NULL;
}

static bool is_page_file(const char *name)
{
    const char *ending = strrchr(name, '.');
    return ending != NULL && (strcmp(ending, ".html") == 0 || strcmp(ending, ".css") == 0 || strcmp(ending, ".js") == 0 ||
                              strcmp(ending, ".svg") == 0);
}

static void check_same(const struct static_file *file)
{
    char *path = heap_printf("jobmanager/web/%s", file->path);
    FILE *stream = fopen(path, "rb");
    ck_assert_msg(stream != NULL, "%s is not there", path);
    char *bytes = malloc(file->length + 1);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_uint_eq(fread(bytes, 1, file->length + 1, stream), file->length);
    ck_assert_msg(memcmp(bytes, file->bytes, file->length) == 0, "%s was built in another version", path);
    free(bytes);
    fclose(stream);
    free(path);
}

/* Without a row in web_files.def a new module would be missing from the program only. */
START_TEST(test_every_file_is_built_in)
{
    DIR *folder = opendir("jobmanager/web");
    ck_assert_ptr_nonnull(folder);
    size_t found = 0, count;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (!is_page_file(entry->d_name))
            continue;
        const struct static_file *file = find(entry->d_name);
        ck_assert_msg(file != NULL, "%s has no row in web_files.def", entry->d_name);
        check_same(file);
        found++;
    }
    closedir(folder);
    web_page_files(&count);
    ck_assert_uint_eq(found, count);
}
END_TEST

/* Checks that each quoted name behind marker in the text is a file of the page. Returns how many there are. */
static size_t check_references(const struct static_file *file, const char *marker)
{
    char *text = heap_strndup(file->bytes, file->length);
    size_t count = 0;
    for (char *at = strstr(text, marker); at != NULL; at = strstr(at + 1, marker)) {
        char *name = at + strlen(marker);
        name += strncmp(name, "./", 2) == 0 ? 2 : 0;
        if (*name == '#')
            continue;
        name[strcspn(name, "\"")] = '\0';
        ck_assert_msg(find(name) != NULL, "%s asks for %s, which is not built in", file->path, name);
        at = name + strlen(name);
        count++;
    }
    free(text);
    return count;
}

START_TEST(test_nothing_else_is_asked_for)
{
    size_t count;
    const struct static_file *files = web_page_files(&count);
    ck_assert_uint_gt(check_references(find("index.html"), "href=\""), 3);
    ck_assert_uint_gt(check_references(find("index.html"), "src=\""), 0);
    size_t imports = 0;
    for (size_t i = 0; i < count; i++) {
        if (strstr(files[i].path, ".js") != NULL)
            imports += check_references(&files[i], " from \"");
        ck_assert_ptr_null(memmem(files[i].bytes, files[i].length, "innerHTML", 9));
        ck_assert_ptr_null(memmem(files[i].bytes, files[i].length, "https:", 6));
    }
    ck_assert_uint_gt(imports, 10);
}
END_TEST

/* Every module is preloaded, or loading takes a round trip for each storey of imports. */
START_TEST(test_modules_are_preloaded)
{
    size_t count;
    const struct static_file *files = web_page_files(&count);
    const struct static_file *index = find("index.html");
    for (size_t i = 0; i < count; i++) {
        if (strstr(files[i].path, ".js") == NULL)
            continue;
        char *name = heap_printf("\"%s\"", files[i].path);
        ck_assert_msg(memmem(index->bytes, index->length, name, strlen(name)) != NULL, "index.html does not name %s", files[i].path);
        free(name);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("web_page");
    TCase *tests = tcase_create("files");
    tcase_add_test(tests, test_every_file_is_built_in);
    tcase_add_test(tests, test_nothing_else_is_asked_for);
    tcase_add_test(tests, test_modules_are_preloaded);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
