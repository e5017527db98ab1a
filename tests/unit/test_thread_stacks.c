/* Stacks of threads taken from outside: a busy thread, a waiting one that may be asked and one that may not, one that blocks signals,
 * threads that come and go meanwhile; names of static functions. */
#include "common/base/symbols.h"
#include "common/base/thread_stacks.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_bool is_over;
static atomic_int ready_count;
static atomic_uint spins;

__attribute__((noinline)) static void spin_here(void)
{
    while (!atomic_load(&is_over))
        atomic_fetch_add(&spins, 1);
    __asm__ volatile("");
}

static void *spin_main(void *argument)
{
    (void)argument;
    atomic_fetch_add(&ready_count, 1);
    spin_here();
    return NULL;
}

/* Returns how often its wait ended early. */
__attribute__((noinline)) static long wait_here(void)
{
    long early = 0;
    while (!atomic_load(&is_over))
        early += poll(NULL, 0, 200) != 0;
    return early;
}

static void *wait_main(void *argument)
{
    if (argument != NULL) {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, NULL);
    }
    atomic_fetch_add(&ready_count, 1);
    return (void *)wait_here();
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    int before = atomic_load(&ready_count);
    atomic_store(&is_over, false);
    ck_assert_int_eq(pthread_create(thread, NULL, run, argument), 0);
    while (atomic_load(&ready_count) == before)
        sched_yield();
}

static void end(pthread_t thread, void **result)
{
    atomic_store(&is_over, true);
    ck_assert_int_eq(pthread_join(thread, result), 0);
}

static bool is_in(const struct thread_stack *stack, const char *function)
{
    char frame[200];
    size_t length = strlen(function);
    for (uint32_t i = 0; i < stack->frame_count; i++) {
        symbols_describe((const char *)stack->frames[i] - (i > 0), frame, sizeof frame);
        if (strncmp(frame, function, length) == 0 && frame[length] == ' ')
            return true;
    }
    return false;
}

/* Until the thread is in that state. */
static void capture(int64_t id, char state, bool can_interrupt, struct thread_stack *out)
{
    for (int i = 0; i < 5000; i++) {
        ck_assert(thread_stack_capture(id, can_interrupt, out));
        if (out->state == state && (state != 'R' || out->frame_count > 0))
            return;
        usleep(1000);
    }
    ck_abort_msg("the thread is never %c", state);
}

START_TEST(test_a_busy_thread_shows_where_it_is)
{
    pthread_t thread;
    struct thread_stack stack;
    start(&thread, spin_main, NULL);
    int64_t id = thread_stack_id(thread);
    ck_assert_int_gt(id, 0);
    capture(id, 'R', false, &stack);
    ck_assert(is_in(&stack, "spin_here"));
    ck_assert(is_in(&stack, "spin_main"));
    ck_assert(thread_stack_is_on_cpu(&stack));
    struct str_buf text = {0};
    thread_stack_print(&stack, "a name", "function", &text);
    ck_assert_ptr_nonnull(strstr(str_buf_text(&text), "\"a name\" Id="));
    ck_assert_ptr_nonnull(strstr(str_buf_text(&text), " RUNNABLE\n\tat function\n\tat "));
    ck_assert_ptr_nonnull(strstr(str_buf_text(&text), "\tat spin_here (test_thread_stacks)\n"));
    str_buf_finish(&text);
    end(thread, NULL);
}
END_TEST

START_TEST(test_a_waiting_thread_is_asked_only_if_allowed)
{
    pthread_t thread;
    struct thread_stack stack;
    void *early;
    start(&thread, wait_main, NULL);
    capture(thread_stack_id(thread), 'S', false, &stack);
    ck_assert_uint_eq(stack.frame_count, 0);
    end(thread, &early);
    ck_assert_int_eq((long)early, 0); /* nobody disturbed it */
    start(&thread, wait_main, NULL);
    capture(thread_stack_id(thread), 'S', true, &stack);
    ck_assert(is_in(&stack, "wait_here"));
    ck_assert(!thread_stack_is_on_cpu(&stack));
    end(thread, &early);
    ck_assert_int_ge((long)early, 1);
}
END_TEST

START_TEST(test_a_thread_that_blocks_signals_is_left_alone)
{
    pthread_t thread;
    struct thread_stack stack;
    void *early;
    start(&thread, wait_main, &thread);
    capture(thread_stack_id(thread), 'S', true, &stack);
    ck_assert_uint_eq(stack.frame_count, 0);
    end(thread, &early);
    ck_assert_int_eq((long)early, 0);
}
END_TEST

static bool always(const char *name)
{
    (void)name;
    return true;
}

static void count_stack(const struct thread_stack *stack, void *argument)
{
    (void)stack;
    (*(unsigned *)argument)++;
}

static void *short_main(void *argument)
{
    return argument;
}

START_TEST(test_threads_may_come_and_go)
{
    unsigned count = 0;
    pthread_t busy;
    start(&busy, spin_main, NULL);
    for (int round = 0; round < 50; round++) {
        pthread_t threads[4];
        for (size_t i = 0; i < 4; i++)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, short_main, NULL), 0);
        thread_stacks_all(always, count_stack, &count);
        for (size_t i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
    }
    ck_assert_uint_ge(count, 100); /* this thread and the busy one each time */
    end(busy, NULL);
    struct thread_stack none;
    ck_assert(!thread_stack_capture(0x3fffffff, true, &none));
}
END_TEST

START_TEST(test_addresses_without_a_name)
{
    char text[64];
    symbols_describe((const void *)0x10, text, sizeof text);
    ck_assert_str_eq(text, "0x10");
    symbols_describe((const char *)(uintptr_t)&poll + 1, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "poll ("));
    char short_text[6];
    symbols_describe((const void *)(uintptr_t)&wait_main, short_text, sizeof short_text);
    ck_assert_str_eq(short_text, "wait_");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("thread_stacks");
    TCase *tests = tcase_create("thread_stacks");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_a_busy_thread_shows_where_it_is);
    tcase_add_test(tests, test_a_waiting_thread_is_asked_only_if_allowed);
    tcase_add_test(tests, test_a_thread_that_blocks_signals_is_left_alone);
    tcase_add_test(tests, test_threads_may_come_and_go);
    tcase_add_test(tests, test_addresses_without_a_name);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
