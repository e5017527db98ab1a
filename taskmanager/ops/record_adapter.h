/* Batches <-> arrays of C structs (mr_record_type), column by column: how a per-record user function sits on column
 * batches. Fields are matched by name. No allocation per record; text of gathered records borrows from the batch.
 * Thread: immutable after creation. */
#ifndef MILLRACE_OPS_RECORD_ADAPTER_H
#define MILLRACE_OPS_RECORD_ADAPTER_H

#include "common/columnar/batch_builder.h"
#include "millrace/record.h"

/* Rows gathered at a time: some 16 KiB of records stay in the first-level cache. */
#define RECORD_CHUNK_ROWS 256

struct record_adapter_field {
    uint32_t column;
    uint32_t offset; /* in the struct */
    enum data_type type;
};

struct record_adapter {
    const struct mr_record_type *type;
    uint32_t size_bytes;
    uint32_t field_count;
    bool has_text;
    struct record_adapter_field fields[];
};

/* Reads rows of `schema` as records of type: every field of the record must be in the schema, with its type. owner ("function
 * count_clicks") begins the error. */
MUST_CHECK struct error *record_adapter_create_input(const struct mr_record_type *type, const struct schema *schema, const char *owner,
                                                     struct record_adapter **out);
/* Writes records of type as rows of `schema`: besides, every column that is not nullable must be in the record. */
MUST_CHECK struct error *record_adapter_create_output(const struct mr_record_type *type, const struct schema *schema, const char *owner,
                                                      struct record_adapter **out);
/* Accepts NULL. */
void record_adapter_destroy(struct record_adapter *adapter);
/* Array of count records, suitably aligned and zeroed; freed with free(). */
void *record_adapter_array(const struct record_adapter *adapter, uint32_t count);

/* records[i] = row start + i of batch; nulls become zero or "". */
void record_adapter_gather(const struct record_adapter *adapter, const struct batch *batch, uint32_t start, uint32_t count, void *records);
/* records[i] = row rows[i]. */
void record_adapter_gather_rows(const struct record_adapter *adapter, const struct batch *batch, const uint32_t *rows, uint32_t count,
                                void *records);
/* Adds count rows to builder, which must have room, and returns the first one. Text is copied. */
uint32_t record_adapter_scatter(const struct record_adapter *adapter, struct batch_builder *builder, const void *records, uint32_t count);

enum data_type data_type_of_record_field(enum mr_type type);

#endif
