/* See kafka_committer_thread.h. `mutex` guards everything but the transactor, which is the thread's. */
#include "taskmanager/connectors/kafka/kafka_committer_thread.h"

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/vec.h"

#include <pthread.h>

#define WAIT_STEP_MS 20

struct kafka_committer_thread {
    struct kafka_transactor *transactor;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    VEC(const struct kafka_committable *) queue;
    uint64_t added;
    uint64_t done;
    bool has_failed;
    struct error *err;
    atomic_bool is_stopping;
};

static void *committer_main(void *arg)
{
    struct kafka_committer_thread *thread = arg;
    pthread_mutex_lock(&thread->mutex);
    for (;;) {
        while (thread->queue.count == 0 && !atomic_load(&thread->is_stopping))
            pthread_cond_wait(&thread->changed, &thread->mutex);
        if (thread->queue.count == 0 || atomic_load(&thread->is_stopping))
            break;
        const struct kafka_committable *committable = thread->queue.items[0];
        pthread_mutex_unlock(&thread->mutex);
        struct error *err = kafka_transactor_commit(thread->transactor, committable, &thread->is_stopping);
        pthread_mutex_lock(&thread->mutex);
        if (err != NULL) {
            thread->err = err;
            thread->has_failed = true;
            break;
        }
        vec_remove(&thread->queue, 0);
        thread->done++;
        pthread_cond_broadcast(&thread->changed);
    }
    pthread_cond_broadcast(&thread->changed);
    pthread_mutex_unlock(&thread->mutex);
    return NULL;
}

struct error *kafka_committer_thread_create(struct kafka_transactor *transactor, struct kafka_committer_thread **out)
{
    struct kafka_committer_thread *thread = heap_new(struct kafka_committer_thread);
    thread->transactor = transactor;
    pthread_mutex_init(&thread->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&thread->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    int code = pthread_create(&thread->thread, NULL, committer_main, thread);
    if (code != 0) {
        kafka_transactor_destroy(transactor, false);
        pthread_cond_destroy(&thread->changed);
        pthread_mutex_destroy(&thread->mutex);
        free(thread);
        return error_errno(code, "could not start the Kafka committer thread");
    }
    *out = thread;
    return NULL;
}

void kafka_committer_thread_add(struct kafka_committer_thread *thread, const struct kafka_committable *committable)
{
    pthread_mutex_lock(&thread->mutex);
    vec_push(&thread->queue, committable);
    thread->added++;
    pthread_cond_broadcast(&thread->changed);
    pthread_mutex_unlock(&thread->mutex);
}

struct error *kafka_committer_thread_done(struct kafka_committer_thread *thread, uint64_t *done)
{
    pthread_mutex_lock(&thread->mutex);
    *done = thread->done;
    struct error *err = thread->err;
    thread->err = NULL;
    pthread_mutex_unlock(&thread->mutex);
    return err;
}

void kafka_committer_thread_wait(struct kafka_committer_thread *thread, int64_t timeout_ms, const atomic_bool *is_aborting)
{
    int64_t deadline_ms = clock_mono_ms() + timeout_ms, now_ms;
    pthread_mutex_lock(&thread->mutex);
    while (thread->done < thread->added && !thread->has_failed && (now_ms = clock_mono_ms()) < deadline_ms &&
           !(is_aborting != NULL && atomic_load(is_aborting))) {
        int64_t look_ms = deadline_ms < now_ms + WAIT_STEP_MS ? deadline_ms : now_ms + WAIT_STEP_MS;
        struct timespec until = {.tv_sec = look_ms / 1000, .tv_nsec = look_ms % 1000 * 1000000};
        pthread_cond_timedwait(&thread->changed, &thread->mutex, &until);
    }
    pthread_mutex_unlock(&thread->mutex);
}

void kafka_committer_thread_destroy(struct kafka_committer_thread *thread)
{
    if (thread == NULL)
        return;
    pthread_mutex_lock(&thread->mutex);
    atomic_store(&thread->is_stopping, true);
    pthread_cond_broadcast(&thread->changed);
    pthread_mutex_unlock(&thread->mutex);
    pthread_join(thread->thread, NULL);
    kafka_transactor_destroy(thread->transactor, false);
    vec_finish(&thread->queue);
    error_free(thread->err);
    pthread_cond_destroy(&thread->changed);
    pthread_mutex_destroy(&thread->mutex);
    free(thread);
}
