/* Formats: bytes of one record <-> one row of a batch. A decoder writes straight into a batch builder's columns, in one pass
 * over bytes that the connector lends; an encoder appends one row's bytes to a growing buffer. Types (the `format` JSON
 * object's "type"): json, csv, string (one STRING column), raw (one BYTES column). One owner each: a task thread.
 *
 * Options: json  timestamp_format, ignore_null_fields (encode)
 *          csv   timestamp_format, field_delimiter ",", quote_character "\"", disable_quote_character, escape_character,
 *                null_literal, allow_comments
 * timestamp_format: "SQL" (default), "ISO-8601", "epoch-millis", or a pattern of yyyy MM dd HH mm ss SSS and literals. */
#ifndef MILLRACE_FORMATS_FORMAT_H
#define MILLRACE_FORMATS_FORMAT_H

#include "common/base/str_buf.h"
#include "common/columnar/batch_builder.h"

#include <jansson.h>

/* ---- decoding ---- */

struct format_decoder;

struct format_decoder_vtable {
    bool (*decode)(struct format_decoder *decoder, const void *bytes, size_t length, struct batch_builder *builder, const char **reason);
    void (*destroy)(struct format_decoder *decoder);
};

struct format_decoder {
    const struct format_decoder_vtable *vtable;
};

/* options: the `format` object. schema: the builder's (kept by reference). is_projected, one flag a field, may be NULL (all): fields that
 * are not projected are skipped and left null/zero in the builder. An unknown type or option is an error that names it. */
MUST_CHECK struct error *format_decoder_create(const json_t *options, struct schema *schema, const bool *is_projected,
                                               struct format_decoder **out);
/* Decodes one record into a new row of builder, which must not be full. False: the record is malformed, no row was added, and
 * *reason says why ("page: bad escape"), valid until the next call; NULL: this is no record at all (a comment), pass it over.
 * bytes are only read during the call and need no padding. Cost: no allocation but the builder's text. */
static inline bool format_decode(struct format_decoder *decoder, const void *bytes, size_t length, struct batch_builder *builder,
                                 const char **reason)
{
    return decoder->vtable->decode(decoder, bytes, length, builder, reason);
}
/* Accepts NULL. */
void format_decoder_destroy(struct format_decoder *decoder);

/* ---- encoding ---- */

struct format_encoder;

struct format_encoder_vtable {
    void (*encode)(struct format_encoder *encoder, const struct batch *batch, uint32_t row, struct str_buf *out);
    void (*destroy)(struct format_encoder *encoder);
};

struct format_encoder {
    const struct format_encoder_vtable *vtable;
};

MUST_CHECK struct error *format_encoder_create(const json_t *options, struct schema *schema, struct format_encoder **out);
/* Appends the record's bytes to out, without a line end. Text columns are written as they are (they are valid UTF-8 when they
 * came out of a decoder). */
static inline void format_encode(struct format_encoder *encoder, const struct batch *batch, uint32_t row, struct str_buf *out)
{
    encoder->vtable->encode(encoder, batch, row, out);
}
/* Accepts NULL. */
void format_encoder_destroy(struct format_encoder *encoder);

#endif
