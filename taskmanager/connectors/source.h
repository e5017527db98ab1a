/* What all sources share: splits with their positions, watermarks and idleness, the batch in the making, the books, and the
 * union state that brings a split back wherever it is assigned after a restore. A connector embeds struct source as its
 * first member, fills in struct source_reader, and points its op_vtable's restore, poll, wake and snapshot at the functions
 * below (or wraps them). One owner: the task thread.
 *
 * A connector in outline:
 *   create:  source_init(&self->source, &vtable, &reader, ctx)
 *   open:    for every split that source_owns(): split = source_add_split(…); its position: source_split_restored_position()
 *   read:    loop: source_select_split(source, split);                  cheap when it is the same split
 *                  [if (batch_builder_is_full(source->builder)) TRY(source_flush(source))]
 *                  row = batch_builder_add_row(source->builder) …        or format_decode(…)
 *                  source_count_record(source, bytes);                   every record, also filtered and malformed ones
 *            split->is_caught_up = nothing more was there; split->is_finished = a bounded split ended
 *   destroy: source_finish(&self->source)
 *
 * Watermark of a subtask = min over its splits that are neither idle nor finished; a subtask without splits says idle at
 * once and so never holds time back. */
#ifndef MILLRACE_CONNECTORS_SOURCE_H
#define MILLRACE_CONNECTORS_SOURCE_H

#include "common/base/bytes.h"
#include "common/base/vec.h"
#include "common/columnar/batch_builder.h"
#include "taskmanager/ops/op.h"
#include "taskmanager/task/books.h"
#include "taskmanager/time/watermark_generator.h"

struct source;

enum malformed_mode { MALFORMED_FAIL, MALFORMED_SKIP, MALFORMED_DEAD_LETTER };

struct source_split {
    char *name;          /* "input-0"; unique within the operator */
    uint64_t assignment; /* modulo parallelism = the subtask that reads it */
    void *user;          /* the connector's own */
    bool is_caught_up;   /* written by the connector: all that exists outside has been read; only then the idleness clock runs */
    bool is_finished;    /* written by the connector: a bounded split that was read to its end */
    /* the rest is private to source.c */
    bool is_idle;
    bool had_rows;            /* since the idleness clock last looked */
    int64_t added_ms;         /* wall clock: when the job, whichever attempt, began to read it */
    int64_t last_record_ms;   /* … of its last record, also in an earlier attempt; -1: none ever */
    int64_t idle_since_ms;    /* … when it became idle; -1: it is not */
    int64_t quiet_ns;         /* what the idleness clock shows */
    struct watermark_generator watermark;
    uint8_t *restored_position;
    size_t restored_length;
};

/* What a connector implements. */
struct source_reader {
    /* Reads at most about max_rows rows into source->builder (or emits batches). Never blocks. SOURCE_EMPTY: the connector has the
     * task's wake_fd written when there is more, or op_wake_at() was called. Rows in the builder are emitted by the base. */
    MUST_CHECK struct error *(*read)(struct source *source, uint32_t max_rows, enum source_status *status);
    /* Where to resume the split: any bytes. Everything read so far has been emitted when this is called. */
    void (*write_position)(struct source *source, const struct source_split *split, struct bytes_writer *writer);
    /* Optional: asked, tick after tick, about a split that was quiet for the idle timeout. True: what is outside itself says that nothing
     * more is there, asked after the last record. False: it is not known yet, or more is coming. Never blocks. */
    bool (*confirm_idle)(struct source *source, const struct source_split *split);
    /* Optional: adds to a split's part of a metrics report: "offset" (next to read), "end_offset" (where it ends outside), whichever is
     * known. */
    void (*describe_split)(const struct source *source, const struct source_split *split, json_t *report);
    /* Optional, for on_error {mode: dead-letter}. */
    MUST_CHECK struct error *(*dead_letter)(struct source *source, const struct source_split *split, int64_t offset, const void *bytes,
                                            size_t length, const char *reason);
};

/* A split found in restored state that belongs to this subtask now and was not added yet. */
struct source_restored_split {
    char *name;
    uint64_t assignment;
    uint8_t *position;
    size_t position_length;
    int64_t max_timestamp;
    int64_t watermark;
    int64_t added_ms;
    int64_t last_record_ms;
    bool is_finished;
    bool is_taken; /* source_add_split has brought it back */
};

struct source_run { /* consecutive rows of the builder that come from one split */
    struct source_split *split;
    uint32_t end_row;
};

struct source {
    struct op op; /* first member */
    const struct source_reader *reader;
    struct batch_builder *builder; /* of the operator's schema */
    enum malformed_mode on_malformed; /* from options.on_error.mode; FAIL by default */
    VEC(struct source_split *) splits; /* read-only for connectors */
    VEC(struct source_restored_split) restored; /* all splits of all old subtasks, wherever they belong now */
    bool is_restored; /* there was complete state of this source: a split that is not in it is new, not a fresh start */
    bool is_ready;    /* written by the connector: false while it does not know its splits yet. True from source_init on. */
    /* private */
    struct watermark_options watermark;
    struct event_time event_time;
    VEC(struct source_run) runs;
    struct source_split *current;
    uint64_t run_records;
    uint64_t run_bytes;
    int64_t poll_ms;            /* wall clock of the last poll: the time of the records that it gave */
    int64_t last_malformed_ms;  /* -1: none in this attempt */
    int64_t emitted_ms;         /* poll_ms of the last records that were emitted; before them, of the first poll */
    int64_t emitted_event_time; /* of the last record; TIME_MIN: it had none */
    int64_t emitted_watermark;
    int64_t next_watermark_ns;
    int64_t idle_clock_ns;    /* when the idleness clock last looked */
    int64_t idle_blocked_ns;  /* op_blocked_ns_total then */
    bool idle_sent;           /* the last op_emit_idle value */
    bool idle_known;          /* op_emit_idle was called at all */
    bool restored_incomplete; /* a subtask was not ready when the state was taken */
};

/* Parses the options that all sources share (watermark, on_error). On failure nothing needs to be finished. */
MUST_CHECK struct error *source_init(struct source *source, const struct op_vtable *vtable, const struct source_reader *reader,
                                     struct op_context *ctx);
void source_finish(struct source *source);

/* ---- for the connector's op_vtable ---- */
MUST_CHECK struct error *source_restore(struct op *op, struct restored_state *state);
MUST_CHECK struct error *source_poll(struct op *op, uint32_t max_rows, enum source_status *status);
MUST_CHECK struct error *source_wake(struct op *op, int64_t now_ms);
MUST_CHECK struct error *source_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot);
/* Adds "splits": [{"name", "added", "last_record", "idle_since", "watermark", "max_timestamp", "is_caught_up", "is_finished", and what
 * describe_split adds}], "is_ready" and "last_unparsable": times in milliseconds since the epoch, -1: never. */
void source_describe(struct op *op, json_t *report);

/* ---- splits ---- */
/* A stable number for a split that is only known by name. */
uint64_t source_assignment_of_name(const char *name);
bool source_owns(const struct source *source, uint64_t assignment);
/* Adds a split that this subtask owns, with its restored watermark when the state has it. Copies name. */
struct source_split *source_add_split(struct source *source, const char *name, uint64_t assignment);
/* By name; NULL when the restored state has no such split. Any subtask may ask about any split. */
const struct source_restored_split *source_find_restored(const struct source *source, const char *name);
/* The bytes that write_position wrote; NULL when the split is new. Valid until source_finish. */
const void *source_split_restored_position(const struct source_split *split, size_t *length);

/* ---- while reading ---- */
void source_select_split_slow(struct source *source, struct source_split *split);
/* The rows and records that follow come from this split. */
static inline void source_select_split(struct source *source, struct source_split *split)
{
    if (source->current != split)
        source_select_split_slow(source, split);
}
/* One record was taken from the outside, whatever becomes of it. */
static inline void source_count_record(struct source *source, size_t bytes)
{
    source->run_records++;
    source->run_bytes += bytes;
}
/* The record gives no row on purpose (a Kafka value of null, a CSV comment). Count it with source_count_record too. */
static inline void source_count_filtered(struct source *source)
{
    source->op.ctx->books->filtered++;
}
/* A record that could not be decoded: by on_error an error that names split, offset and a sample of the bytes, or counted
 * and sampled in the books (and handed to reader->dead_letter). Count it with source_count_record too. */
MUST_CHECK struct error *source_malformed(struct source *source, struct source_split *split, int64_t offset, const void *bytes,
                                          size_t length, const char *reason);
/* Emits the builder's rows now. Called by the base after read(); call it when the builder is full. */
MUST_CHECK struct error *source_flush(struct source *source);
/* True when rows need an event time that the connector writes into the builder itself: the strategy asks for event time but
 * names neither column nor function (Kafka: the record's timestamp). */
bool source_wants_record_time(const struct source *source);

#endif
