/* Failures as Java objects, against bytes of a recorded Flink and against the stream's grammar. That Java reads them is
 * tested with Flink's own client (make check-flink-tools). */
#include "common/base/heap.h"
#include "jobmanager/rest/java_throwable.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
    uint8_t *at;
    size_t length;
};

static struct bytes decode(char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct bytes bytes = {heap_alloc(strlen(text) + 1), 0};
    uint32_t group = 0;
    size_t count = 0;
    ck_assert_uint_eq(strlen(text) % 4, 0);
    for (const char *p = text; *p != '\0' && *p != '='; p++) {
        const char *digit = strchr(digits, *p);
        ck_assert_ptr_nonnull(digit);
        group = group << 6 | (uint32_t)(digit - digits);
        if (++count % 4 != 1)
            bytes.at[bytes.length++] = (uint8_t)(group >> (2 * (3 - (count - 1) % 4)));
    }
    free(text);
    return bytes;
}

/* What Flink 1.20 writes up to the fields of the first object. */
static const uint8_t recorded[] =
    "\xac\xed\x00\x05sr\x00)org.apache.flink.util.SerializedThrowablee\x16\x9d\xf5\x1f\xa7\x13\xf3\x02\x00\x03L\x00\x19"
    "fullStringifiedStackTracet\x00\x12Ljava/lang/String;L\x00\x16originalErrorClassNameq\x00~\x00\x01[\x00\x13serializedException"
    "t\x00\x02[Bxr\x00\x13java.lang.Exception\xd0\xfd\x1f>\x1a;\x1c\xc4\x02\x00\x00xr\x00\x13java.lang.Throwable\xd5\xc6"
    "5'9w\xb8\xcb\x03\x00\x04L\x00\x05"
    "causet\x00\x15Ljava/lang/Throwable;L\x00\rdetailMessageq\x00~\x00\x01[\x00\nstackTrace"
    "t\x00\x1e[Ljava/lang/StackTraceElement;L\x00\x14suppressedExceptionst\x00\x10Ljava/util/List;xp";
#define RECORDED_LENGTH (sizeof recorded - 1)

static void expect_rest(struct bytes bytes, const char *rest, size_t length)
{
    ck_assert_uint_ge(bytes.length, RECORDED_LENGTH);
    ck_assert_mem_eq(bytes.at, recorded, RECORDED_LENGTH);
    ck_assert_uint_eq(bytes.length - RECORDED_LENGTH, length);
    ck_assert_mem_eq(bytes.at + RECORDED_LENGTH, rest, length);
    free(bytes.at);
}
#define EXPECT_REST(bytes, rest) expect_rest(bytes, rest, sizeof rest - 1)

START_TEST(test_one_storey)
{
    EXPECT_REST(decode(java_throwable_base64(NULL, "a.B: text\n")), "pt\0\4textppxt\0\na.B: text\nt\0\3a.Bp");
    EXPECT_REST(decode(java_throwable_base64("c.D", "a b: text")), "pt\0\ta b: textppxt\0\ta b: textt\0\3c.Dp");
    EXPECT_REST(decode(java_throwable_base64("c.D", "")), "pt\0\0ppxt\0\0t\0\3c.Dp");
    EXPECT_REST(decode(java_throwable_base64(NULL, "a.B:")), "pt\0\4a.B:ppxt\0\4a.B:t\0\x24" "org.apache.flink.util.FlinkExceptionp");
}
END_TEST

START_TEST(test_causes_lie_within_their_effects)
{
    EXPECT_REST(decode(java_throwable_base64(NULL, "a.B: x\nCaused by: plain")),
                "sq\0~\0\0pt\0\5plainppxt\0\5plaint\0\x24org.apache.flink.util.FlinkExceptionp"
                "t\0\1xppxt\0\x17" "a.B: x\nCaused by: plaint\0\3a.Bp");
}
END_TEST

START_TEST(test_text_is_modified_utf8)
{
    EXPECT_REST(decode(java_throwable_base64("c.D", "\xc3\xa4\xf0\x9f\x98\x80\xff")),
                "pt\0\x9\xc3\xa4\xed\xa0\xbd\xed\xb8\x80?ppxt\0\x9\xc3\xa4\xed\xa0\xbd\xed\xb8\x80?t\0\3c.Dp");
}
END_TEST

START_TEST(test_long_text_is_a_long_string)
{
    char *text = heap_alloc(70001);
    memset(text, 'x', 70000);
    struct bytes bytes = decode(java_throwable_base64("c.D", text));
    ck_assert_mem_eq(bytes.at + RECORDED_LENGTH, "p|\0\0\0\0\0\1\x11\x70xxx", 13);
    ck_assert_uint_eq(bytes.length, RECORDED_LENGTH + 1 + 2 * (9 + 70000) + 3 + 3 + 3 + 1);
    free(bytes.at);
    free(text);
}
END_TEST

START_TEST(test_endless_causes_are_cut)
{
    char *lines = heap_strdup("a.B: x");
    for (int i = 0; i < 100; i++) {
        char *longer = heap_printf("a.B: x\nCaused by: %s", lines);
        free(lines);
        lines = longer;
    }
    struct bytes bytes = decode(java_throwable_base64("c.D", lines));
    size_t objects = 0;
    for (size_t i = 0; i + 6 <= bytes.length; i++)
        objects += memcmp(bytes.at + i, "sq\0~\0\0", 6) == 0;
    ck_assert_uint_eq(objects, 31);
    free(bytes.at);
    free(lines);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("java_throwable");
    TCase *tests = tcase_create("java_throwable");
    tcase_add_test(tests, test_one_storey);
    tcase_add_test(tests, test_causes_lie_within_their_effects);
    tcase_add_test(tests, test_text_is_modified_utf8);
    tcase_add_test(tests, test_long_text_is_a_long_string);
    tcase_add_test(tests, test_endless_causes_are_cut);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
