/* The end of a unit test program's main. Thread: the only one. */
#ifndef MILLRACE_TESTS_UNIT_RUN_SUITE_H
#define MILLRACE_TESTS_UNIT_RUN_SUITE_H

#include <check.h>
#include <stdlib.h>

/* Runs the suite as the environment says (CK_VERBOSITY, CK_FORK …) and frees it; the program's exit status. */
static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
