/* The blob store and the file helpers: what is put is whole, named by its hash, and checked when it is read. */
#include "common/blob/blob_store.h"
#include "common/fs/fs.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[64];
static struct blob_store *store;

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/millrace-test-blob-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    char path[128];
    snprintf(path, sizeof path, "%s/a/b", directory);
    ck_assert_ptr_null(blob_store_create(path, 1000, &store));
}

static void teardown(void)
{
    blob_store_destroy(store);
    ck_assert_ptr_null(fs_remove_tree(directory));
    ck_assert_int_ne(access(directory, F_OK), 0);
}

static void expect_error(struct error *err, enum error_code code, const char *part)
{
    ck_assert_ptr_nonnull(err);
    ck_assert_int_eq((int)err->code, (int)code);
    ck_assert_msg(strstr(err->message, part) != NULL, "'%s' is not in '%s'", part, err->message);
    error_free(err);
}

START_TEST(put_read_delete)
{
    struct blob_key key;
    struct blob_key again;
    uint8_t *bytes = NULL;
    size_t length = 0;
    ck_assert_ptr_null(blob_store_put(store, "abc", 3, &key));
    ck_assert_str_eq(key.hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); /* FIPS 180-2, B.1 */
    ck_assert_ptr_null(blob_store_put(store, "abc", 3, &again));
    ck_assert_str_eq(again.hex, key.hex);
    ck_assert(blob_store_has(store, key.hex));
    ck_assert_ptr_null(blob_store_read(store, key.hex, &bytes, &length));
    ck_assert_uint_eq(length, 3);
    ck_assert_mem_eq(bytes, "abc", 3);
    free(bytes);
    struct blob_key *keys = NULL;
    size_t count = 0;
    ck_assert_ptr_null(blob_store_put(store, "", 0, &again));
    ck_assert_ptr_null(blob_store_list(store, &keys, &count));
    ck_assert_uint_eq(count, 2);
    ck_assert_str_eq(keys[0].hex, key.hex);
    free(keys);
    ck_assert_ptr_null(blob_store_delete(store, key.hex));
    ck_assert(!blob_store_has(store, key.hex));
    expect_error(blob_store_read(store, key.hex, &bytes, &length), ERR_NOT_FOUND, key.hex);
}
END_TEST

START_TEST(damage_is_found_and_removed)
{
    struct blob_key key;
    char *path = NULL;
    uint8_t *bytes = NULL;
    size_t length = 0;
    ck_assert_ptr_null(blob_store_put(store, "program", 7, &key));
    ck_assert_ptr_null(blob_store_path(store, key.hex, &path));
    FILE *file = fopen(path, "r+");
    fputc('P', file);
    fclose(file);
    expect_error(blob_store_read(store, key.hex, &bytes, &length), ERR_CORRUPT, "damaged on disk");
    ck_assert(!blob_store_has(store, key.hex));
    expect_error(blob_store_put_expected(store, key.hex, "Program", 7), ERR_CORRUPT, "arrived damaged");
    ck_assert_ptr_null(blob_store_put_expected(store, key.hex, "program", 7));
    ck_assert_ptr_null(blob_store_read(store, key.hex, &bytes, &length));
    free(bytes);
    free(path);
}
END_TEST

START_TEST(limits_and_names)
{
    struct blob_key key;
    char big[1001] = {0};
    char path[128];
    char *out = NULL;
    expect_error(blob_store_put(store, big, sizeof big, &key), ERR_TOO_LARGE, "1001 bytes");
    snprintf(path, sizeof path, "%s/big", directory);
    ck_assert_ptr_null(fs_write_atomic(path, big, sizeof big));
    expect_error(blob_store_put_file(store, path, &key), ERR_TOO_LARGE, "big");
    ck_assert_ptr_null(fs_write_atomic(path, "abc", 3));
    ck_assert_ptr_null(blob_store_put_file(store, path, &key));
    expect_error(blob_store_put_file(store, "/nonexistent", &key), ERR_NOT_FOUND, "/nonexistent");
    static const char *const bad[] = {"", "../../etc/passwd", "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD", "abc"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert(!blob_store_has(store, bad[i]));
        expect_error(blob_store_path(store, bad[i], &out), ERR_INVALID_ARGUMENT, "is not a blob key");
    }
}
END_TEST

START_TEST(leftovers_are_removed)
{
    char path[128];
    struct blob_store *second = NULL;
    snprintf(path, sizeof path, "%s/a/b/half.tmp", directory);
    FILE *file = fopen(path, "w");
    fclose(file);
    snprintf(path, sizeof path, "%s/a/b", directory);
    ck_assert_ptr_null(blob_store_create(path, 1000, &second));
    snprintf(path, sizeof path, "%s/a/b/half.tmp", directory);
    ck_assert_int_ne(access(path, F_OK), 0);
    blob_store_destroy(second);
}
END_TEST

START_TEST(files_are_read_with_bounds)
{
    char path[128];
    uint8_t *bytes = NULL;
    size_t length = 0;
    snprintf(path, sizeof path, "%s/text", directory);
    ck_assert_ptr_null(fs_write_atomic(path, "0123456789", 10));
    ck_assert_ptr_null(fs_read_tail(path, 4, &bytes, &length));
    ck_assert_str_eq((char *)bytes, "6789");
    free(bytes);
    ck_assert_ptr_null(fs_read_file(path, 10, &bytes, &length));
    ck_assert_str_eq((char *)bytes, "0123456789");
    free(bytes);
    expect_error(fs_read_file(path, 9, &bytes, &length), ERR_TOO_LARGE, "10 bytes");
    expect_error(fs_read_file(directory, 9, &bytes, &length), ERR_IO, "not a regular file");
    expect_error(fs_write_atomic("/nonexistent/x", "", 0), ERR_NOT_FOUND, "/nonexistent/x");
    /* A link to elsewhere is removed, what it points to is not. */
    char link_path[128];
    char tree[128];
    snprintf(tree, sizeof tree, "%s/tree/deep", directory);
    ck_assert_ptr_null(fs_make_directories(tree));
    snprintf(link_path, sizeof link_path, "%s/tree/deep/link", directory);
    ck_assert_int_eq(symlink(path, link_path), 0);
    snprintf(tree, sizeof tree, "%s/tree", directory);
    ck_assert_ptr_null(fs_remove_tree(tree));
    ck_assert_int_eq(access(path, F_OK), 0);
    ck_assert_ptr_null(fs_remove_tree(tree));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blob");
    TCase *cases = tcase_create("blob");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, put_read_delete);
    tcase_add_test(cases, damage_is_found_and_removed);
    tcase_add_test(cases, limits_and_names);
    tcase_add_test(cases, leftovers_are_removed);
    tcase_add_test(cases, files_are_read_with_bounds);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
