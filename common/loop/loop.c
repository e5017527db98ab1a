/* See loop.h. Thread: the loop's. */
#include "common/loop/loop.h"

#include "common/base/heap.h"

#include <signal.h>
#include <stdlib.h>

/* A thread owns one loop, in tests perhaps several one after the other. */
static _Thread_local const uv_loop_t *owned_loop;

void loop_own(uv_loop_t *loop)
{
    owned_loop = loop;
}

bool loop_is_owned(const uv_loop_t *loop)
{
    return owned_loop == loop;
}

/* ---- timers ---- */

struct loop_timer {
    uv_timer_t uv;
    void (*on_fire)(void *argument);
    void *argument;
};

static void on_uv_timer(uv_timer_t *uv)
{
    struct loop_timer *timer = uv->data;
    timer->on_fire(timer->argument);
}

struct loop_timer *loop_timer_start(uv_loop_t *loop, uint64_t delay_ms, uint64_t repeat_ms, void (*on_fire)(void *argument),
                                    void *argument)
{
    check_on_loop(loop);
    struct loop_timer *timer = heap_new(struct loop_timer);
    uv_timer_init(loop, &timer->uv);
    timer->uv.data = timer;
    timer->on_fire = on_fire;
    timer->argument = argument;
    loop_timer_restart(timer, delay_ms, repeat_ms);
    return timer;
}

void loop_timer_restart(struct loop_timer *timer, uint64_t delay_ms, uint64_t repeat_ms)
{
    check_on_loop(timer->uv.loop);
    uv_update_time(timer->uv.loop); /* delays count from now, not from the start of the loop's turn */
    uv_timer_start(&timer->uv, on_uv_timer, delay_ms, repeat_ms);
}

static void free_data(uv_handle_t *handle)
{
    free(handle->data);
}

void loop_timer_stop(struct loop_timer **timer)
{
    if (*timer == NULL)
        return;
    check_on_loop((*timer)->uv.loop);
    uv_close((uv_handle_t *)&(*timer)->uv, free_data);
    *timer = NULL;
}

/* ---- signals ---- */

enum { STOP_SIGNAL_COUNT = 3 };
static const int stop_signals[STOP_SIGNAL_COUNT] = {SIGTERM, SIGINT, SIGHUP};

struct loop_signals {
    uv_signal_t uv[STOP_SIGNAL_COUNT];
    int open_count;
    void (*on_stop)(int signal_number, void *argument);
    void *argument;
};

static void on_uv_signal(uv_signal_t *uv, int signal_number)
{
    struct loop_signals *signals = uv->data;
    signals->on_stop(signal_number, signals->argument);
}

static void on_signal_closed(uv_handle_t *handle)
{
    struct loop_signals *signals = handle->data;
    if (--signals->open_count == 0)
        free(signals);
}

struct error *loop_signals_start(uv_loop_t *loop, void (*on_stop)(int signal_number, void *argument), void *argument,
                                 struct loop_signals **out)
{
    check_on_loop(loop);
    struct loop_signals *signals = heap_new(struct loop_signals);
    signals->on_stop = on_stop;
    signals->argument = argument;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of write(2), like a full disk */
    for (int i = 0; i < STOP_SIGNAL_COUNT; i++) {
        uv_signal_init(loop, &signals->uv[i]);
        signals->uv[i].data = signals;
        signals->open_count++;
        int status = uv_signal_start(&signals->uv[i], on_uv_signal, stop_signals[i]);
        uv_unref((uv_handle_t *)&signals->uv[i]);
        if (status != 0) {
            for (int k = 0; k <= i; k++)
                uv_close((uv_handle_t *)&signals->uv[k], on_signal_closed);
            return error_new(INTERNAL, "could not watch signal %d: %s", stop_signals[i], uv_strerror(status));
        }
    }
    *out = signals;
    return NULL;
}

void loop_signals_stop(struct loop_signals **signals)
{
    if (*signals == NULL)
        return;
    for (int i = 0; i < STOP_SIGNAL_COUNT; i++)
        uv_close((uv_handle_t *)&(*signals)->uv[i], on_signal_closed);
    *signals = NULL;
}

/* ---- the end ---- */

static void close_handle(uv_handle_t *handle, void *argument)
{
    (void)argument;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void loop_finish(uv_loop_t *loop)
{
    uv_walk(loop, close_handle, NULL);
    while (uv_run(loop, UV_RUN_DEFAULT) != 0)
        continue;
    int status = uv_loop_close(loop);
    check(status == 0);
    if (owned_loop == loop)
        owned_loop = NULL;
}
