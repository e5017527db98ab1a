/* Patterns of topic names: what Java's regular expressions mean, and what is refused. */
#include "taskmanager/connectors/kafka/kafka_topic_pattern.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <string.h>

static bool matches(const char *pattern, const char *topic)
{
    regex_t compiled;
    struct error *err = kafka_topic_pattern_compile(pattern, &compiled);
    ck_assert_msg(err == NULL, "%s: %s", pattern, err != NULL ? err->message : "");
    bool is_match = kafka_topic_pattern_matches(&compiled, topic);
    regfree(&compiled);
    return is_match;
}

/* A pattern from a Java program once matched nothing, in silence: \d was the letter d, and [\w-] held a backslash. */
START_TEST(java_patterns_mean_the_same)
{
    static const struct {
        const char *pattern, *yes, *no;
    } cases[] = {
        {"orders", "orders", "orders2"},
        {"orders.*", "orders-7", "my-orders"},
        {"a|b.c", "b-c", "a.c"},
        {"orders-\\d+", "orders-17", "orders-d"},
        {"\\w+", "Ab_9", "a-b"},
        {"\\D+", "abc", "a1"},
        {"a\\.b", "a.b", "a-b"},
        {"a\\-b\\_c", "a-b_c", "a-b.c"},
        {"[\\w.-]+", "a.b-c_d", "a+b"},
        {"[\\w\\-]+", "a-b", "a\\b"},
        {"[^\\d.]+", "a-b", "a.b"},
        {"[\\.\\-]+", ".-", "\\"},
        {"[\\.\\-]+", ".-", "\\"},
        {"[a-c\\].]+", "a].c", "a\\"},
        {"[[:alpha:]]+", "abc", "a1"},
        {"(?:eu|us)-\\w{2,3}?", "eu-abc", "eu-abcd"},
        {"(in|out)-.+?", "in-x", "in-"},
        {".*", "anything", "__consumer_offsets"},
        {"__.*", "__mine", "__transaction_state"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_msg(matches(cases[i].pattern, cases[i].yes), "%s does not match %s", cases[i].pattern, cases[i].yes);
        ck_assert_msg(!matches(cases[i].pattern, cases[i].no), "%s matches %s", cases[i].pattern, cases[i].no);
    }
}
END_TEST

START_TEST(what_posix_has_no_words_for_is_refused)
{
    static const char *const cases[][2] = {
        {"(?i)orders", "\"(?i\" at position 0"}, {"(?!dev-).*", "\"(?!\""},     {"a++", "\"++\" at position 1"}, {"\\p{L}+", "\"\\p\""},
        {"\\bx", "\"\\b\""},                     {"(a)\\1", "\"\\1\""},         {"x\\", "\"\\\" at position 1"}, {"[a-z&&[^b]]", "\"&&\" at position 4"},
        {"[\\W]", "\"\\W\""},                    {"[abc", "\"[\" at position 0"}, {"a(b", "no valid regular expression"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        regex_t compiled;
        struct error *err = kafka_topic_pattern_compile(cases[i][0], &compiled);
        ck_assert_msg(err != NULL, "%s is taken", cases[i][0]);
        ck_assert_msg(strstr(err->message, cases[i][1]) != NULL, "%s", err->message);
        error_free(err);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kafka_topic_pattern");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, java_patterns_mean_the_same);
    tcase_add_test(tcase, what_posix_has_no_words_for_is_refused);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
