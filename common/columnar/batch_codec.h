/* Batches as bytes, for frames and for state. Layout: row count, flags, then a column's validity, values and the text
 * that is really referenced (compacted), each 8-byte aligned and length-prefixed. Not self-describing: both sides know the
 * schema from the job graph; a schema fingerprint guards against a mix-up. LZ4 is the frame's business. */
#ifndef MILLRACE_COLUMNAR_BATCH_CODEC_H
#define MILLRACE_COLUMNAR_BATCH_CODEC_H

#include "common/base/bytes.h"
#include "common/columnar/batch.h"

void batch_encode(const struct batch *batch, struct bytes_writer *writer);
/* Bytes from a stranger are safe to pass: anything malformed is an error, the result is verified. */
MUST_CHECK struct error *batch_decode(const void *data, size_t length, struct schema *schema, struct batch **out);

#endif
