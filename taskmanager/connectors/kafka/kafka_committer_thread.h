/* The thread behind "X: Committer": runs transactions one after the other, so that the task thread never waits for a broker.
 * The task thread hands committables over (borrowed until they are reported done) and asks what has been done. */
#ifndef MILLRACE_KAFKA_COMMITTER_THREAD_H
#define MILLRACE_KAFKA_COMMITTER_THREAD_H

#include "taskmanager/connectors/kafka/kafka_transaction.h"

struct kafka_committer_thread;

/* Takes transactor. */
MUST_CHECK struct error *kafka_committer_thread_create(struct kafka_transactor *transactor, struct kafka_committer_thread **out);
/* In the order of their markers. */
void kafka_committer_thread_add(struct kafka_committer_thread *thread, const struct kafka_committable *committable);
/* How many of those added are done (since creation). The error of the thread is given once; it does nothing more then. */
MUST_CHECK struct error *kafka_committer_thread_done(struct kafka_committer_thread *thread, uint64_t *done);
/* Waits until all are done, or the thread has failed, or timeout_ms are over, or *is_aborting (may be NULL) is true. */
void kafka_committer_thread_wait(struct kafka_committer_thread *thread, int64_t timeout_ms, const atomic_bool *is_aborting);
/* Stops: a transaction under way is finished or, when the brokers are away, left to the next attempt. Accepts NULL. */
void kafka_committer_thread_destroy(struct kafka_committer_thread *thread);

#endif
