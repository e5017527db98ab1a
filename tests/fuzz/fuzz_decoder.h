/* A decoder on arbitrary bytes: each input is one record, decoded the first time and again when the decoder has learned from it.
 * Both must agree; whatever is accepted must give a batch that verifies. Shared by the fuzz targets of formats with columns. */
#ifndef MILLRACE_FUZZ_FUZZ_DECODER_H
#define MILLRACE_FUZZ_FUZZ_DECODER_H

#include "taskmanager/formats/format.h"

#include <stdlib.h>

static inline struct schema *fuzz_schema(void)
{
    static const enum data_type types[] = {TYPE_TIMESTAMP, TYPE_STRING, TYPE_INT32, TYPE_DOUBLE, TYPE_BOOLEAN, TYPE_BYTES, TYPE_DATE};
    static char names[][8] = {"time", "page", "i", "d", "b", "y", "e"};
    struct field fields[sizeof types / sizeof types[0]];
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        fields[i] = (struct field){.name = names[i], .type = types[i], .nullable = i != 1};
    return schema_create(fields, sizeof types / sizeof types[0]);
}

static inline void fuzz_decoder(const char *type, const uint8_t *data, size_t size)
{
    struct schema *schema = fuzz_schema();
    json_t *options = json_pack("{s:s}", "type", type);
    struct format_decoder *decoder;
    struct error *err = format_decoder_create(options, schema, NULL, &decoder);
    if (err != NULL)
        abort();
    struct batch_builder *builder = batch_builder_create(schema, 4, false);
    const char *reason;
    bool first = format_decode(decoder, data, size, builder, &reason);
    bool second = format_decode(decoder, data, size, builder, &reason);
    if (first != second)
        abort();
    struct batch *batch = batch_builder_finish(builder);
    if ((batch != NULL) != first)
        abort();
    if (batch != NULL && (err = batch_verify(batch)) != NULL)
        abort();
    batch_unref(batch);
    batch_builder_destroy(builder);
    format_decoder_destroy(decoder);
    json_decref(options);
    schema_unref(schema);
}

#endif
