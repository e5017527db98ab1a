/* Closures from any thread into a loop. Posting costs a lock and at most one wake-up; mails run in order, in batches,
 * on the loop's thread. */
#ifndef MILLRACE_LOOP_MAILBOX_H
#define MILLRACE_LOOP_MAILBOX_H

#include <stdbool.h>
#include <uv.h>

struct mailbox;

/* Thread: the loop's. The mailbox keeps the loop alive until mailbox_close. */
struct mailbox *mailbox_create(uv_loop_t *loop);
/* Thread: any. run(argument) is called once on the loop; after mailbox_close it is called from inside mailbox_close or
 * post itself with `is_closed` true, so that it can free its argument. */
void mailbox_post(struct mailbox *mailbox, void (*run)(void *argument, bool is_closed), void *argument);
/* Thread: the loop's. Runs what is left with is_closed; posting afterwards is an error. Frees itself from the loop. */
void mailbox_close(struct mailbox *mailbox);

#endif
