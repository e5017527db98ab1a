/* The guess at a Java client's version: what a retry changes, and whom it concerns. */
#include "jobmanager/rest/java_clients.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <string.h>

static struct java_clients clients;

static void setup(void)
{
    memset(&clients, 0, sizeof clients);
}

static bool ask(uint8_t address, const char *body, int64_t now_ms)
{
    struct http_request request;
    http_request_init(&request, HTTP_GET, "/v1/jobs/overview");
    request.address[HTTP_ADDRESS_BYTES - 1] = address;
    if (body != NULL)
        str_buf_append(&request.body, body);
    bool result = java_clients_want_new_members(&clients, &request, now_ms);
    http_request_finish(&request);
    return result;
}

START_TEST(test_a_retry_gets_the_other_form)
{
    ck_assert(ask(1, "{}", 1000));
    ck_assert(!ask(1, "{}", 4010)); /* 3 s later: it could not read the first */
    ck_assert(!ask(1, "{}", 60000)); /* it is known now */
    ck_assert(!ask(1, "{}", 60500));
    ck_assert(ask(1, "{}", 63600)); /* a newer one from the same machine could not read that */
    ck_assert(ask(1, "{}", 80000));
}
END_TEST

START_TEST(test_addresses_do_not_meet)
{
    ck_assert(ask(1, "{}", 1000));
    ck_assert(!ask(1, "{}", 4000));
    ck_assert(ask(2, "{}", 4000));
    ck_assert(ask(2, "{}", 5000));
    ck_assert(!ask(1, "{}", 20000));
}
END_TEST

START_TEST(test_others_always_get_everything)
{
    for (int64_t now_ms = 1000; now_ms < 60000; now_ms += 3000) {
        ck_assert(ask(1, NULL, now_ms));
        ck_assert(ask(1, "", now_ms));
        ck_assert(ask(1, "{\"a\": 1}", now_ms));
    }
}
END_TEST

START_TEST(test_the_longest_silent_is_forgotten)
{
    ck_assert(ask(0, "{}", 1000));
    ck_assert(!ask(0, "{}", 4000));
    for (uint8_t address = 1; address <= JAVA_CLIENTS_MAX; address++)
        ck_assert(ask(address, "{}", 10000 + address));
    ck_assert(ask(0, "{}", 20000)); /* as if it were new */
    ck_assert(ask(JAVA_CLIENTS_MAX, "{}", 20000));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("java_clients");
    TCase *tests = tcase_create("java_clients");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, test_a_retry_gets_the_other_form);
    tcase_add_test(tests, test_addresses_do_not_meet);
    tcase_add_test(tests, test_others_always_get_everything);
    tcase_add_test(tests, test_the_longest_silent_is_forgotten);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
