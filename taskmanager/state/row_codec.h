/* One row of a schema as self-contained bytes: keys, state values, window accumulators; and the layout of C records.
 *
 * Encoding (little-endian): null bitmap of ceil(fields / 8) bytes, only if any field is nullable (bit set = null); then each
 * field at its width (BOOLEAN one byte; STRING and BYTES a u32 length) in field order, unaligned; then the text of the text
 * fields in field order. Null fields are zero and empty. Equal rows have equal bytes, so that rows serve as keys; a
 * lone non-null STRING is its u32 length and its bytes.
 *
 * A record is the C struct that client/api/millrace/record.h declares for the same fields: each member at the next multiple of
 * its alignment, the whole padded to the largest alignment. Records have no nulls: a null decodes as zero or empty text.
 * Thread: a codec is immutable after creation; any thread may use it. */
#ifndef MILLRACE_STATE_ROW_CODEC_H
#define MILLRACE_STATE_ROW_CODEC_H

#include "client/api/millrace/record.h"
#include "common/base/bytes.h"
#include "common/columnar/batch_builder.h"

struct row_field {
    enum data_type type;
    uint32_t width;         /* encoded: 1 for BOOLEAN, 4 for text */
    uint32_t offset;        /* in the encoded row */
    uint32_t record_offset; /* in the C struct */
};

struct row_codec {
    struct schema *schema;
    uint32_t field_count;
    uint32_t null_bytes;  /* of the bitmap; 0: no field is nullable */
    uint32_t fixed_bytes; /* bitmap and fixed part: the length of a row without text */
    uint32_t text_count;
    uint32_t record_size; /* sizeof the C struct */
    bool is_packed;       /* a record's bytes are the row's bytes */
    struct row_field fields[];
};

/* Takes a reference to schema. */
struct row_codec *row_codec_create(struct schema *schema);
/* Accepts NULL. */
void row_codec_destroy(struct row_codec *codec);

/* Many rows, end to end, with their offsets. Zero-initialised is empty; memory is kept for the next batch. */
struct encoded_rows {
    uint8_t *bytes;
    size_t capacity;
    uint32_t *offsets; /* row_count + 1 of them */
    uint32_t offset_capacity;
    uint32_t row_count;
};
void encoded_rows_finish(struct encoded_rows *rows);

/* ---- from and to batches ---- */

/* Appends row `row` of batch: field i comes from columns[i]; columns NULL: column i. Types must match the codec's schema. */
void row_codec_encode_row(const struct row_codec *codec, const struct batch *batch, const uint32_t *columns, uint32_t row,
                          struct bytes_writer *writer);
/* All rows of the batch, column by column: for key columns in hot loops. At most 4 GiB of rows (aborts). */
void row_codec_encode_rows(const struct row_codec *codec, const struct batch *batch, const uint32_t *columns, struct encoded_rows *out);
/* Sets field i into columns[i] (NULL: column i; UINT32_MAX: skipped) of a row of the builder that was added before. */
MUST_CHECK struct error *row_codec_decode_row(const struct row_codec *codec, const void *bytes, size_t length,
                                              struct batch_builder *builder, const uint32_t *columns, uint32_t row);
/* Hash of the row: what batch_hash_rows gives for the same values in columns of the same types. */
uint64_t row_codec_hash(const struct row_codec *codec, const void *data, size_t length);

/* ---- from and to C records ---- */

/* The schema of a record type: fields not nullable. A layout that is not the C ABI's is an error that names the field. */
MUST_CHECK struct error *row_schema_of_record(const struct mr_record_type *type, struct schema **out);
void row_codec_encode_record(const struct row_codec *codec, const void *record, struct bytes_writer *writer);
/* The same for records without text: writes fixed_bytes. */
void row_codec_encode_fixed(const struct row_codec *codec, const void *record, uint8_t *to);
/* Fills record_size bytes at record. Text points into bytes (borrowed); empty text points to "". */
MUST_CHECK struct error *row_codec_decode_record(const struct row_codec *codec, const void *bytes, size_t length, void *record);
/* A batch row as a record: text borrows from the batch. */
void row_codec_record_of_batch(const struct row_codec *codec, const struct batch *batch, const uint32_t *columns, uint32_t row, void *record);
/* A record into a row of the builder that was added before. Text is copied. */
void row_codec_record_to_builder(const struct row_codec *codec, const void *record, struct batch_builder *builder,
                                 const uint32_t *columns, uint32_t row);

/* ---- between schemas ---- */

struct row_converter;
/* Matches fields by name. A field that is new starts as null, or as zero when not nullable; one that is gone is dropped; wider
 * numbers and TIMESTAMP <-> BIGINT convert; other type changes are errors that name the field. is_key: types and
 * positions must be the same, only names and nullability may differ. */
MUST_CHECK struct error *row_converter_create(struct schema *from, struct schema *to, bool is_key, struct row_converter **out);
/* True when both encodings are the same. */
bool row_converter_is_identity(const struct row_converter *converter);
MUST_CHECK struct error *row_converter_convert(const struct row_converter *converter, const void *bytes, size_t length,
                                               struct bytes_writer *writer);
void row_converter_destroy(struct row_converter *converter);
/* ERR_CORRUPT unless bytes are exactly one row of the codec's schema. */
MUST_CHECK struct error *row_codec_verify(const struct row_codec *codec, const void *bytes, size_t length);

#endif
