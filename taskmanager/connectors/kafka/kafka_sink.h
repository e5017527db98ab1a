/* The two operators of a Kafka sink, "X: Writer" and "X: Committer", and the options that both parse. Rows of the table of
 * operators: kafka_sink_writer_vtable, kafka_sink_committer_vtable. Guarantees:
 *   none           the writer produces and forgets
 *   at-least-once  the writer produces, and waits for the brokers before each barrier; the committer has nothing to do
 *   exactly-once   the writer encodes rows and passes them to the committer, which writes the rows of an epoch in one
 *                  transaction once its checkpoint is complete (kafka_transaction.h). Memory: the rows of the epoch under way, those of
 *                  each completed checkpoint until they are committed (checkpoints go on meanwhile), and, while a snapshot is taken and
 *                  written, a second copy; an epoch of more than 2 GiB fails the job, and so does more than 4 GiB that brokers do not take */
#ifndef MILLRACE_KAFKA_SINK_H
#define MILLRACE_KAFKA_SINK_H

#include "taskmanager/ops/op.h"

enum kafka_guarantee { KAFKA_NONE, KAFKA_AT_LEAST_ONCE, KAFKA_EXACTLY_ONCE };

struct kafka_sink_options {
    const json_t *properties; /* borrowed from the job graph, all of them */
    const char *topic;
    const json_t *format;
    enum kafka_guarantee guarantee;
    const char *transactional_id_prefix; /* EXACTLY_ONCE only */
    int64_t commit_timeout_ms; /* EXACTLY_ONCE: how long the end of the job waits for its last commit, before the job fails instead */
    int64_t pending_bytes_max; /* EXACTLY_ONCE: what may wait to be committed, the epoch under way included, before the job fails */
};

MUST_CHECK struct error *kafka_sink_options_parse(const struct op_context *ctx, struct kafka_sink_options *out);

/* The columns between writer and committer. */
enum kafka_sink_column { KAFKA_SINK_KEY, KAFKA_SINK_VALUE, KAFKA_SINK_COLUMN_COUNT };

extern const struct op_vtable kafka_sink_writer_vtable;
extern const struct op_vtable kafka_sink_committer_vtable;

#endif
