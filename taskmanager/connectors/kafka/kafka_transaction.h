/* Committing the rows of a checkpoint to Kafka exactly once.
 *
 * A committable is the rows of one epoch of one writer index, with a marker: a number that grows from epoch to epoch. One
 * transaction of `transactional.id` = <prefix>-<index> writes the rows and, as an offset of consumer group <prefix>-<index> on
 * partition 0 of the output topic, the marker. So rows and marker appear together or not at all, and afterwards the marker tells
 * whether a committable is in: it is if and only if its marker is not greater than the stored one.
 *
 * The brokers abort a transaction that is older than transaction.timeout.ms. A committable that takes long is therefore written in
 * several transactions, each producing for a quarter of that time at most; all but the last have, as metadata of their offset, how many of
 * its rows are in, and the next attempt goes on behind them. Within a transaction, librdkafka's queue may be full as often as it likes.
 *
 * Order on (re)start, per index: init_transactions (fences every older producer with this id and ends its transaction), then read
 * the marker, then write what is not in. Nobody can write under the old epoch between these steps.
 *
 * Markers are (start of the attempt in seconds, checkpoint id): an attempt starts later than the marker it finds, so that a job that
 * is started again from an old savepoint, and counts its checkpoints from there, never takes its new epochs for the old ones.
 *
 * Kafka forgets the offsets of a silent group after offsets.retention.minutes (7 days): restoring a state that is older than that
 * and has rows pending writes them again.
 * Thread: one user at a time.
 * source: librdkafka INTRODUCTION.md, "Transactional producer"; KIP-98; KIP-447. */
#ifndef MILLRACE_KAFKA_TRANSACTION_H
#define MILLRACE_KAFKA_TRANSACTION_H

#include "common/base/bytes.h"
#include "taskmanager/connectors/kafka/kafka_sink.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define KAFKA_MARKER_CHECKPOINT_BITS 33

struct kafka_committable {
    uint32_t index;         /* whose transactional.id */
    uint64_t checkpoint_id;
    int64_t marker;
    uint64_t row_count;
    uint64_t digest;
    int64_t due_ms; /* wall clock: since when it could be committed; not part of the encoding */
    struct bytes_writer rows; /* a row: u8 (1 = has key, 2 = has value), u32 + key, u32 + value */
};

void kafka_committable_add_row(struct kafka_committable *committable, const void *key, size_t key_length, const void *value,
                               size_t value_length);
void kafka_committable_encode(const struct kafka_committable *committable, struct bytes_writer *writer);
MUST_CHECK struct error *kafka_committable_decode(const void *bytes, size_t length, struct kafka_committable **out);
/* Accepts NULL. */
void kafka_committable_destroy(struct kafka_committable *committable);

int64_t kafka_marker(int64_t start_seconds, uint64_t checkpoint_id);

struct kafka_transactor;

/* Fences older producers of this index and reads the marker. Blocks, up to a minute, while the brokers are not there and *is_aborting
 * (may be NULL; borrowed) is false. */
MUST_CHECK struct error *kafka_transactor_create(const struct kafka_sink_options *options, uint32_t index, const atomic_bool *is_aborting,
                                                 struct kafka_transactor **out);
/* The marker as of creation or of the last commit; -1: none. */
int64_t kafka_transactor_marker(const struct kafka_transactor *transactor);
/* The marker says that all of the committable is in. */
bool kafka_transactor_has(const struct kafka_transactor *transactor, const struct kafka_committable *committable);
/* Writes what is not in of the committable. Blocks; tries again what can be tried again, a few times, until *is_stopping (may be NULL)
 * becomes true. When it returns an error, nobody knows whether the transaction is in; the marker will. */
MUST_CHECK struct error *kafka_transactor_commit(struct kafka_transactor *transactor, const struct kafka_committable *committable,
                                                 const atomic_bool *is_stopping);
/* Does not wait for librdkafka when is_aborting. Accepts NULL. */
void kafka_transactor_destroy(struct kafka_transactor *transactor, bool is_aborting);

#endif
