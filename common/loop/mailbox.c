/* See mailbox.h: a locked list of closures and a uv_async that empties it. Thread: post any, the rest the loop's. */
#include "common/loop/mailbox.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/base/vec.h"
#include "common/loop/loop.h"

#include <pthread.h>

struct mail {
    void (*run)(void *argument, bool is_closed);
    void *argument;
};

struct mailbox {
    uv_async_t async;
    pthread_mutex_t mutex;
    VEC(struct mail) mails; /* guarded by mutex, as is is_closed */
    VEC(struct mail) running;
    bool is_closed;
};

static void take_mails(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    /* Swap the arrays, so that running them needs no lock and their memory is used again. */
    struct mail *items = mailbox->running.items;
    size_t capacity = mailbox->running.capacity;
    mailbox->running.items = mailbox->mails.items;
    mailbox->running.count = mailbox->mails.count;
    mailbox->running.capacity = mailbox->mails.capacity;
    mailbox->mails.items = items;
    mailbox->mails.count = 0;
    mailbox->mails.capacity = capacity;
    pthread_mutex_unlock(&mailbox->mutex);
}

static void on_async(uv_async_t *async)
{
    struct mailbox *mailbox = async->data;
    take_mails(mailbox);
    for (size_t i = 0; i < mailbox->running.count; i++) {
        struct mail mail = mailbox->running.items[i];
        bool is_closed = uv_is_closing((uv_handle_t *)&mailbox->async);
        mail.run(mail.argument, is_closed);
    }
    vec_clear(&mailbox->running);
}

struct mailbox *mailbox_create(uv_loop_t *loop)
{
    check_on_loop(loop);
    struct mailbox *mailbox = heap_new(struct mailbox);
    int status = uv_async_init(loop, &mailbox->async, on_async);
    check(status == 0);
    mailbox->async.data = mailbox;
    pthread_mutex_init(&mailbox->mutex, NULL);
    return mailbox;
}

void mailbox_post(struct mailbox *mailbox, void (*run)(void *argument, bool is_closed), void *argument)
{
    pthread_mutex_lock(&mailbox->mutex);
    bool is_closed = mailbox->is_closed;
    if (!is_closed) {
        struct mail mail = {run, argument};
        vec_push(&mailbox->mails, mail);
        /* Under the lock: mailbox_close closes the async only after it set is_closed, so it is alive here. */
        if (mailbox->mails.count == 1)
            uv_async_send(&mailbox->async);
    }
    pthread_mutex_unlock(&mailbox->mutex);
    if (is_closed)
        run(argument, true);
}

static void on_mailbox_closed(uv_handle_t *handle)
{
    struct mailbox *mailbox = handle->data;
    vec_finish(&mailbox->mails);
    vec_finish(&mailbox->running);
    pthread_mutex_destroy(&mailbox->mutex);
    free(mailbox);
}

void mailbox_close(struct mailbox *mailbox)
{
    check_on_loop(mailbox->async.loop);
    pthread_mutex_lock(&mailbox->mutex);
    mailbox->is_closed = true;
    pthread_mutex_unlock(&mailbox->mutex);
    uv_close((uv_handle_t *)&mailbox->async, on_mailbox_closed);
    /* Closed from inside a mail: on_async goes on with the batch in hand. Nobody can add to mails any more. */
    for (size_t i = 0; i < mailbox->mails.count; i++)
        mailbox->mails.items[i].run(mailbox->mails.items[i].argument, true);
    vec_clear(&mailbox->mails);
}
