/* `_metadata` files: the way to disk and back, damage, and the words for what is not there. */
#include "common/base/heap.h"
#include "common/checkpoint/checkpoint_metadata.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[64];

static void setup(void)
{
    strcpy(directory, "/tmp/test_checkpoint_metadata-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void teardown(void)
{
    char *command = heap_printf("rm -rf '%s'", directory);
    ck_assert_int_eq(system(command), 0);
    free(command);
}

static void expect_error(struct error *err, enum error_code code, const char *text)
{
    ck_assert_ptr_nonnull(err);
    char *message = error_text(err);
    ck_assert_msg(err->code == code && strstr(message, text) != NULL, "%s", message);
    free(message);
    error_free(err);
}

START_TEST(what_is_written_is_read)
{
    json_t *metadata = json_pack("{s:i,s:[{s:s}]}", "version", 1, "state", "path", "a/b-0");
    struct error *err = checkpoint_metadata_write(directory, metadata);
    ck_assert_ptr_null(err);
    const char *const forms[] = {"%s", "%s/", "file:%s", "file://%s/_metadata", "%s/_metadata"};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        char path[128];
        size_t at = (size_t)(strchr(forms[i], '%') - forms[i]);
        snprintf(path, sizeof path, "%.*s%s%s", (int)at, forms[i], directory, forms[i] + at + 2);
        char *found;
        json_t *read;
        err = checkpoint_metadata_read(path, &found, &read);
        ck_assert_ptr_null(err);
        ck_assert_str_eq(found, directory);
        ck_assert(json_equal(read, metadata));
        json_decref(read);
        free(found);
    }
    json_decref(metadata);
}
END_TEST

START_TEST(damage_is_found)
{
    json_t *metadata = json_pack("{s:i,s:s}", "version", 1, "job_name", "Click Event Count");
    size_t length;
    char *text = checkpoint_metadata_encode(metadata, &length);
    json_t *read;
    for (size_t i = 0; i < length; i++) {
        text[i] ^= 0x04;
        struct error *err = checkpoint_metadata_decode(text, length, &read);
        ck_assert_msg(err != NULL, "a changed byte %zu was not found", i);
        ck_assert_int_eq(err->code, ERR_CORRUPT);
        error_free(err);
        text[i] ^= 0x04;
    }
    for (size_t cut = 0; cut < length; cut++) {
        struct error *err = checkpoint_metadata_decode(text, cut, &read);
        ck_assert_ptr_nonnull(err);
        error_free(err);
    }
    free(text);
    json_decref(metadata);
}
END_TEST

START_TEST(handles_stay_in_their_directory)
{
    const char *const paths[] = {"../other", "/etc/passwd", "a/../../b", "", "a/.."};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        json_t *metadata = json_pack("{s:{s:[{s:s}]}}", "state", "operator", "path", paths[i]);
        size_t length;
        char *text = checkpoint_metadata_encode(metadata, &length);
        json_t *read;
        expect_error(checkpoint_metadata_decode(text, length, &read), ERR_CORRUPT, "outside of its directory");
        free(text);
        json_decref(metadata);
    }
}
END_TEST

START_TEST(what_is_not_there_is_named)
{
    json_t *read;
    expect_error(checkpoint_metadata_read("/tmp/no-such-savepoint", NULL, &read), ERR_NOT_FOUND,
                 "Cannot find checkpoint or savepoint file/directory '/tmp/no-such-savepoint' on file system 'file'.");
    expect_error(checkpoint_metadata_read(directory, NULL, &read), ERR_NOT_FOUND, "Cannot find meta data file '_metadata' in directory");
    expect_error(checkpoint_metadata_read("s3://bucket/a", NULL, &read), ERR_INVALID_ARGUMENT, "only file: is supported");
    expect_error(checkpoint_metadata_read("file://tmp/a", NULL, &read), ERR_INVALID_ARGUMENT, "Did you forget a slash?");
    json_t *metadata = json_object();
    expect_error(checkpoint_metadata_write("/proc/nosuch", metadata), ERR_NOT_FOUND, "/proc/nosuch");
    json_decref(metadata);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint_metadata");
    TCase *tcase = tcase_create("checkpoint_metadata");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_is_written_is_read);
    tcase_add_test(tcase, damage_is_found);
    tcase_add_test(tcase, handles_stay_in_their_directory);
    tcase_add_test(tcase, what_is_not_there_is_named);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
