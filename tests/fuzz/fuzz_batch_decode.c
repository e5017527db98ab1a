/* Fuzz target: encoded batches. The first byte picks a schema; what decodes must encode to the same batch again. */
#include "common/columnar/batch_codec.h"

#include "common/base/check.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct schema *schemas[3];

static void make_schemas(void)
{
    static char names[DATA_TYPE_COUNT][2];
    struct field fields[DATA_TYPE_COUNT];
    for (int i = 0; i < DATA_TYPE_COUNT; i++) {
        names[i][0] = (char)('a' + i);
        fields[i] = (struct field){names[i], (enum data_type)i, i % 2 == 0};
    }
    schemas[0] = schema_create(fields, DATA_TYPE_COUNT);
    schemas[1] = schema_create(&fields[TYPE_STRING], 1);
    schemas[2] = schema_create(&fields[TYPE_INT64], 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (schemas[0] == NULL)
        make_schemas();
    if (size == 0)
        return 0;
    struct schema *schema = schemas[data[0] % 3];
    struct batch *batch = NULL, *again = NULL;
    struct error *err = batch_decode(data + 1, size - 1, schema, &batch);
    if (err != NULL) {
        error_free(err);
        return 0;
    }
    struct bytes_writer writer = {0}, rewritten = {0};
    batch_encode(batch, &writer);
    err = batch_decode(writer.data, writer.length, schema, &again);
    check(err == NULL);
    batch_encode(again, &rewritten);
    check(writer.length == rewritten.length && memcmp(writer.data, rewritten.data, writer.length) == 0);
    static uint64_t hashes[BATCH_ROWS_MAX];
    static const uint32_t key_column = 0;
    batch_hash_rows(again, &key_column, 1, hashes);
    bytes_writer_finish(&writer);
    bytes_writer_finish(&rewritten);
    batch_unref(batch);
    batch_unref(again);
    return 0;
}
