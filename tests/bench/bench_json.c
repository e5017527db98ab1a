/* How fast the JSON decoder is: records a second and nanoseconds a record, for click events in the generator's form.
 * Usage: bench_json [records]. Prints one line of JSON. */
#include "common/base/clock.h"
#include "taskmanager/formats/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define RECORD_KINDS 6000
#define RECORD_BYTES 64

int main(int argc, char **argv)
{
    static const char *const pages[] = {"/help", "/index", "/shop", "/jobs", "/about", "/news"};
    long count = argc > 1 ? atol(argv[1]) : 20000000;
    const struct field fields[] = {{.name = (char[]){"timestamp"}, .type = TYPE_TIMESTAMP}, {.name = (char[]){"page"}, .type = TYPE_STRING}};
    struct schema *schema = schema_create(fields, 2);
    json_t *options = json_pack("{s:s, s:s}", "type", "json", "timestamp_format", "dd-MM-yyyy HH:mm:ss:SSS");
    struct format_decoder *decoder;
    struct error *err = format_decoder_create(options, schema, NULL, &decoder);
    if (err != NULL) {
        fprintf(stderr, "%s\n", error_text(err));
        return 1;
    }
    char (*records)[RECORD_BYTES] = calloc(RECORD_KINDS, RECORD_BYTES);
    size_t *lengths = calloc(RECORD_KINDS, sizeof *lengths);
    for (int i = 0; i < RECORD_KINDS; i++) {
        int ms = i / 6 * 15;
        lengths[i] = (size_t)snprintf(records[i], RECORD_BYTES, "{\"timestamp\":\"01-01-1970 00:00:%02d:%03d\",\"page\":\"%s\"}", ms / 1000,
                                      ms % 1000, pages[i % 6]);
    }
    struct batch_builder *builder = batch_builder_create(schema, BATCH_ROWS_TARGET, false);
    uint64_t rows = 0;
    int64_t start_ns = clock_thread_cpu_ns();
    for (long i = 0; i < count; i++) {
        const char *reason;
        int kind = (int)(i % RECORD_KINDS);
        if (!format_decode(decoder, records[kind], lengths[kind], builder, &reason)) {
            fprintf(stderr, "%s: %s\n", records[kind], reason);
            return 1;
        }
        if (batch_builder_is_full(builder)) {
            struct batch *batch = batch_builder_finish(builder);
            rows += batch->row_count;
            batch_unref(batch);
        }
    }
    rows += builder->row_count;
    double seconds = (double)(clock_thread_cpu_ns() - start_ns) / 1e9;
    printf("{\"records\": %" PRIu64 ", \"cpu_seconds\": %.3f, \"records_per_second\": %.0f, \"ns_per_record\": %.1f}\n", rows, seconds,
           (double)rows / seconds, seconds * 1e9 / (double)rows);
    batch_builder_destroy(builder);
    format_decoder_destroy(decoder);
    json_decref(options);
    schema_unref(schema);
    free(records);
    free(lengths);
    return 0;
}
