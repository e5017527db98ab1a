/* Base library: errors, bytes, ids, local paths, hash map, CRC-32C. */
#include "common/base/bytes.h"
#include "common/base/crc32c.h"
#include "common/base/error.h"
#include "common/base/hash_map.h"
#include "common/base/id.h"
#include "common/base/local_path.h"
#include "common/base/str_buf.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

START_TEST(error_chain_text)
{
    struct error *err = error_new(NOT_FOUND, "no file %s", "a.txt");
    err = error_wrap(error_with_hint(err, "create it"), "could not restore checkpoint %d", 7);
    char *text = error_text(err);
    ck_assert_str_eq(text, "could not restore checkpoint 7: no file a.txt (create it)");
    ck_assert_int_eq(err->code, ERR_NOT_FOUND);
    ck_assert_int_eq(error_code_from_name("NOT_FOUND"), ERR_NOT_FOUND);
    free(text);
    error_free(err);
}
END_TEST

START_TEST(bytes_round_trip_and_short_read)
{
    struct bytes_writer writer = {0};
    bytes_write_u8(&writer, 7);
    bytes_write_u64(&writer, UINT64_C(0x0123456789abcdef));
    bytes_write_text(&writer, "hello");
    struct bytes_reader reader = bytes_reader_on(writer.data, writer.length);
    ck_assert_uint_eq(bytes_read_u8(&reader), 7);
    ck_assert_uint_eq(bytes_read_u64(&reader), UINT64_C(0x0123456789abcdef));
    char *text = bytes_read_text(&reader);
    ck_assert_str_eq(text, "hello");
    free(text);
    ck_assert(bytes_reader_ok(&reader));
    ck_assert_uint_eq(bytes_read_u32(&reader), 0);
    ck_assert(!bytes_reader_ok(&reader));
    bytes_writer_finish(&writer);
}
END_TEST

START_TEST(id_parses_exactly_32_hex_digits)
{
    struct id id;
    ck_assert(id_parse("F15E5C6b859b5c7a71aac026368026a2", &id));
    ck_assert_str_eq(id_format(id).hex, "f15e5c6b859b5c7a71aac026368026a2");
    ck_assert(!id_parse("f15e5c6b859b5c7a71aac026368026a", &id));
    ck_assert(!id_parse("f15e5c6b859b5c7a71aac026368026a22", &id));
    ck_assert(!id_parse("xyz", &id));
    ck_assert(!id_parse("", &id));
}
END_TEST

static void expect_path(const char *text, const char *wanted)
{
    char *path = NULL;
    struct error *err = local_path_absolute(text, &path);
    ck_assert_ptr_null(err);
    ck_assert_str_eq(path, wanted);
    free(path);
}

START_TEST(local_paths_are_absolute)
{
    const char *const refused[] = {"s3://bucket/a", "hdfs://n:9000/a", "file://tmp/a", "file:", ""};
    expect_path("/a b/%20/\xc3\xbc", "/a b/%20/\xc3\xbc");
    expect_path("file:///a", "/a");
    expect_path("file:/a", "/a");
    ck_assert_int_eq(chdir("/proc"), 0);
    expect_path("a/b", "/proc/a/b");
    expect_path("file:a", "/proc/a");
    ck_assert_int_eq(chdir("/"), 0);
    expect_path("a", "/a");
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char *path = NULL;
        struct error *err = local_path_absolute(refused[i], &path);
        ck_assert_msg(err != NULL && path == NULL, "%s", refused[i]);
        error_free(err);
    }
}
END_TEST

START_TEST(hash_map_keeps_what_is_put)
{
    struct hash_map map = {0};
    int values[1000];
    for (int i = 0; i < 1000; i++)
        ck_assert_ptr_null(hash_map_put(&map, &i, sizeof i, &values[i]));
    for (int i = 0; i < 1000; i += 2)
        ck_assert_ptr_eq(hash_map_remove(&map, &i, sizeof i), &values[i]);
    ck_assert_uint_eq(map.count, 500);
    for (int i = 0; i < 1000; i++)
        ck_assert_ptr_eq(hash_map_get(&map, &i, sizeof i), i % 2 == 0 ? NULL : &values[i]);
    hash_map_finish(&map);
}
END_TEST

START_TEST(crc32c_known_vectors)
{
    uint8_t zeros[32] = {0};
    ck_assert_uint_eq(crc32c(0, zeros, 32), UINT32_C(0x8a9136aa)); /* RFC 3720 B.4 */
    ck_assert_uint_eq(crc32c(0, "123456789", 9), UINT32_C(0xe3069283));
    ck_assert_uint_eq(crc32c(crc32c(0, "1234", 4), "56789", 5), UINT32_C(0xe3069283));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *tcase = tcase_create("base");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, error_chain_text);
    tcase_add_test(tcase, bytes_round_trip_and_short_read);
    tcase_add_test(tcase, id_parses_exactly_32_hex_digits);
    tcase_add_test(tcase, local_paths_are_absolute);
    tcase_add_test(tcase, hash_map_keeps_what_is_put);
    tcase_add_test(tcase, crc32c_known_vectors);
    return run_suite(suite);
}
