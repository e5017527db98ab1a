/* State under load: nanoseconds a lookup with few and with many keys, and what a checkpoint every two seconds costs: the
 * pauses of the task thread and the rate beside the same run without checkpoints (same process, same table).
 *   bench_state [--keys N] [--seconds S] [--interval-ms MS] [--directory DIR] [--json FILE] */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/columnar/batch_builder.h"
#include "taskmanager/state/row_codec.h"
#include "taskmanager/state/snapshot.h"
#include "taskmanager/state/state_table.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS BATCH_ROWS_TARGET
#define GROUPS 128
#define PAUSES_MAX 10000

struct options {
    uint64_t keys;
    double seconds;
    int64_t interval_ms;
    const char *directory;
    const char *json;
};

/* Counts rows by an INT64 key and an 8-byte namespace, as a window operator does. */
struct counter {
    struct schema *schema;
    struct row_codec *codec;
    struct batch_builder *builder;
    struct state_table *table;
    struct encoded_rows encoded;
    uint64_t hashes[ROWS];
    uint32_t key_groups[ROWS];
    uint64_t refs[ROWS];
    uint64_t random;
};

static void counter_init(struct counter *counter)
{
    struct field field = {.name = heap_strdup("key"), .type = TYPE_INT64};
    *counter = (struct counter){.schema = schema_create(&field, 1), .random = 88172645463325252u};
    counter->codec = row_codec_create(counter->schema);
    counter->builder = batch_builder_create(counter->schema, ROWS, false);
    counter->table = state_table_create(&(struct state_table_options){.key_group_last = GROUPS - 1, .key_schema = counter->schema});
    free(field.name);
}

static void counter_finish(struct counter *counter)
{
    state_table_destroy(counter->table);
    encoded_rows_finish(&counter->encoded);
    batch_builder_destroy(counter->builder);
    row_codec_destroy(counter->codec);
    schema_unref(counter->schema);
}

static uint64_t random_below(struct counter *counter, uint64_t limit)
{
    counter->random ^= counter->random << 13;
    counter->random ^= counter->random >> 7;
    counter->random ^= counter->random << 17;
    return (uint64_t)((__extension__(unsigned __int128)counter->random * limit) >> 64);
}

/* Keys first, first + 1 … when sequential, else random ones below key_count. */
static struct batch *make_batch(struct counter *counter, uint64_t key_count, bool sequential, uint64_t first)
{
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t row = batch_builder_add_row(counter->builder);
        batch_builder_int64s(counter->builder, 0)[row] = (int64_t)(sequential ? (first + i) % key_count : random_below(counter, key_count));
        batch_builder_set_valid(counter->builder, 0, row);
    }
    return batch_builder_finish(counter->builder);
}

static void hash_and_encode(struct counter *counter, const struct batch *batch)
{
    static const uint32_t key_column = 0;
    batch_hash_rows(batch, &key_column, 1, counter->hashes);
    for (uint32_t i = 0; i < ROWS; i++)
        counter->key_groups[i] = (uint32_t)(counter->hashes[i] >> 8) % GROUPS;
    row_codec_encode_rows(counter->codec, batch, &key_column, &counter->encoded);
}

static void count_rows(struct counter *counter)
{
    static const int64_t window = 15000;
    struct state_rows rows = {.count = ROWS, .key_groups = counter->key_groups, .hashes = counter->hashes, .keys = counter->encoded.bytes,
                              .key_offsets = counter->encoded.offsets, .namespaces = &window, .namespace_length = sizeof window};
    state_table_upsert_rows(counter->table, &rows, sizeof(uint64_t), counter->refs, NULL);
    for (uint32_t i = 0; i < ROWS; i++)
        ++*(uint64_t *)state_table_value(counter->table, counter->refs[i]);
}

static void process(struct counter *counter, uint64_t key_count, bool sequential, uint64_t first)
{
    struct batch *batch = make_batch(counter, key_count, sequential, first);
    hash_and_encode(counter, batch);
    count_rows(counter);
    batch_unref(batch);
}

static double measure_lookups(uint64_t key_count)
{
    struct counter counter;
    int64_t lookups_ns = 0, prepare_ns = 0, rows = 0;
    counter_init(&counter);
    for (uint64_t first = 0; first < key_count; first += ROWS)
        process(&counter, key_count, true, first);
    uint64_t size_bytes = state_table_size_bytes(counter.table);
    for (int64_t end = clock_mono_ns() + 1500000000; clock_mono_ns() < end; rows += ROWS) {
        struct batch *batch = make_batch(&counter, key_count, false, 0);
        int64_t start = clock_mono_ns();
        hash_and_encode(&counter, batch);
        int64_t prepared = clock_mono_ns();
        count_rows(&counter);
        lookups_ns += clock_mono_ns() - prepared;
        prepare_ns += prepared - start;
        batch_unref(batch);
    }
    printf("%9llu keys: lookup and update %6.2f ns a row, hash and encode %5.2f ns a row, %8.2f MB\n", (unsigned long long)key_count,
           (double)lookups_ns / (double)rows, (double)prepare_ns / (double)rows, (double)size_bytes / 1e6);
    counter_finish(&counter);
    return (double)lookups_ns / (double)rows;
}

/* ---- checkpoints ---- */

struct checkpointer {
    const struct options *options;
    struct snapshot *snapshot;
    atomic_bool is_written;
    pthread_t worker;
    uint32_t number;
    uint64_t bytes;
    int64_t write_ns;
};

static void *write_snapshot(void *arg)
{
    struct checkpointer *checkpointer = arg;
    struct snapshot_result result;
    char name[32];
    int64_t start = clock_mono_ns();
    snprintf(name, sizeof name, "bench-state-%d", getpid());
    struct error *err = snapshot_write(checkpointer->snapshot, checkpointer->options->directory, name, 0, 0, GROUPS - 1, &result);
    if (err != NULL) {
        char *text = error_text(err);
        fprintf(stderr, "bench_state: %s\n", text);
        exit(1);
    }
    json_decref(result.handles);
    checkpointer->bytes = result.bytes;
    checkpointer->write_ns += clock_mono_ns() - start;
    atomic_store_explicit(&checkpointer->is_written, true, memory_order_release);
    return NULL;
}

static void remove_snapshot(const struct options *options)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/bench-state-%d", options->directory, getpid());
    unlink(path);
}

struct pauses {
    int64_t ns[PAUSES_MAX];
    uint32_t count;
};

static int compare_pauses(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void pauses_add(struct pauses *pauses, int64_t ns)
{
    if (pauses->count < PAUSES_MAX)
        pauses->ns[pauses->count++] = ns;
}

static double pauses_ms(struct pauses *pauses, double quantile)
{
    if (pauses->count == 0)
        return 0;
    qsort(pauses->ns, pauses->count, sizeof pauses->ns[0], compare_pauses);
    return (double)pauses->ns[(uint32_t)(quantile * (pauses->count - 1) + 0.5)] / 1e6;
}

struct measured {
    double rows_per_second;
    double rows_per_cpu_second; /* of the task thread: what checkpoints cost it, on a machine that does other things too */
    uint32_t checkpoints;
    struct pauses begin;   /* creating the snapshot at the barrier */
    struct pauses release; /* letting it go when it is written */
    struct pauses batch;   /* CPU of one batch of rows, copies of shared pages included: what the task does, whatever else the machine does */
};

static void checkpoint_begin(struct checkpointer *checkpointer, struct state_table *table, struct measured *out)
{
    static const struct id operator_id = {{1}};
    int64_t start = clock_mono_ns();
    checkpointer->snapshot = snapshot_create();
    snapshot_begin_operator(checkpointer->snapshot, operator_id);
    snapshot_add_table(checkpointer->snapshot, "counts", table, NULL);
    pauses_add(&out->begin, clock_mono_ns() - start);
    atomic_store(&checkpointer->is_written, false);
    if (pthread_create(&checkpointer->worker, NULL, write_snapshot, checkpointer) != 0)
        abort();
}

static void checkpoint_end(struct checkpointer *checkpointer, struct measured *out)
{
    pthread_join(checkpointer->worker, NULL);
    int64_t start = clock_mono_ns();
    snapshot_destroy(checkpointer->snapshot);
    checkpointer->snapshot = NULL;
    pauses_add(&out->release, clock_mono_ns() - start);
    out->checkpoints++;
}

static void run(struct counter *counter, const struct options *options, bool with_checkpoints, struct checkpointer *checkpointer,
                struct measured *out)
{
    int64_t start = clock_mono_ns(), end = start + (int64_t)(options->seconds * 1e9), now = start, cpu_start = clock_thread_cpu_ns();
    int64_t next = start + options->interval_ms * 1000000, rows = 0;
    for (; now < end; rows += ROWS) {
        if (with_checkpoints && checkpointer->snapshot != NULL && atomic_load_explicit(&checkpointer->is_written, memory_order_acquire))
            checkpoint_end(checkpointer, out);
        if (with_checkpoints && checkpointer->snapshot == NULL && now >= next) {
            checkpoint_begin(checkpointer, counter->table, out);
            next += options->interval_ms * 1000000;
        }
        int64_t cpu_before = clock_thread_cpu_ns();
        process(counter, options->keys, false, 0);
        now = clock_mono_ns();
        int64_t cpu_after = clock_thread_cpu_ns();
        if ((uint64_t)rows / ROWS % 16 == 0 || cpu_after - cpu_before > 1000000)
            pauses_add(&out->batch, cpu_after - cpu_before);
    }
    out->rows_per_second = (double)rows / ((double)(now - start) / 1e9);
    out->rows_per_cpu_second = (double)rows / ((double)(clock_thread_cpu_ns() - cpu_start) / 1e9);
    if (checkpointer->snapshot != NULL)
        checkpoint_end(checkpointer, out);
}

static void report(const struct options *options, struct measured *plain, struct measured *with, const struct checkpointer *checkpointer,
                   const double *lookup_ns)
{
    double ratio = with->rows_per_second / plain->rows_per_second;
    printf("without checkpoints: %.2f million rows/s\n", plain->rows_per_second / 1e6);
    printf("with one every %lld ms: %.2f million rows/s, ratio %.3f; %u checkpoints of %.1f MB, %.0f ms to write\n", (long long)options->interval_ms,
           with->rows_per_second / 1e6, ratio, with->checkpoints, (double)checkpointer->bytes / 1e6,
           with->checkpoints != 0 ? (double)checkpointer->write_ns / 1e6 / with->checkpoints : 0);
    printf("a CPU-second of the task thread: %.2f million rows without, %.2f with, ratio %.3f\n", plain->rows_per_cpu_second / 1e6,
           with->rows_per_cpu_second / 1e6, with->rows_per_cpu_second / plain->rows_per_cpu_second);
    printf("pause at the barrier:   p50 %.3f ms, p99 %.3f ms, max %.3f ms\n", pauses_ms(&with->begin, 0.5), pauses_ms(&with->begin, 0.99),
           pauses_ms(&with->begin, 1));
    printf("pause at the release:   p50 %.3f ms, p99 %.3f ms, max %.3f ms\n", pauses_ms(&with->release, 0.5), pauses_ms(&with->release, 0.99),
           pauses_ms(&with->release, 1));
    printf("CPU of one batch of %d rows: without: p50 %.3f ms, max %.3f ms; with: p50 %.3f ms, max %.3f ms\n", ROWS, pauses_ms(&plain->batch, 0.5),
           pauses_ms(&plain->batch, 1), pauses_ms(&with->batch, 0.5), pauses_ms(&with->batch, 1));
    json_t *json = json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:i}", "keys", (json_int_t)options->keys, "rows_per_second",
                             with->rows_per_second, "rows_per_second_without_checkpoints", plain->rows_per_second, "rate_ratio", ratio,
                                 "cpu_rate_ratio", with->rows_per_cpu_second / plain->rows_per_cpu_second,
                             "pause_ms_p50", pauses_ms(&with->begin, 0.5), "pause_ms_p99", pauses_ms(&with->begin, 0.99), "pause_ms_max",
                             pauses_ms(&with->begin, 1), "lookup_ns_6_keys", lookup_ns[0], "lookup_ns_all_keys", lookup_ns[1], "checkpoints",
                             (int)with->checkpoints);
    if (options->json != NULL && json_dump_file(json, options->json, JSON_INDENT(1)) != 0)
        fprintf(stderr, "bench_state: could not write %s\n", options->json);
    json_decref(json);
}

static void measure_checkpoints(const struct options *options, const double *lookup_ns)
{
    struct counter counter;
    struct checkpointer checkpointer = {.options = options};
    struct measured *plain = heap_new(struct measured), *with = heap_new(struct measured), *again = heap_new(struct measured);
    counter_init(&counter);
    for (uint64_t first = 0; first < options->keys; first += ROWS)
        process(&counter, options->keys, true, first);
    run(&counter, options, false, &checkpointer, plain);
    run(&counter, options, true, &checkpointer, with);
    run(&counter, options, false, &checkpointer, again);
    plain->rows_per_second = (plain->rows_per_second + again->rows_per_second) / 2;
    report(options, plain, with, &checkpointer, lookup_ns);
    remove_snapshot(options);
    counter_finish(&counter);
    free(plain);
    free(with);
    free(again);
}

int main(int argc, char **argv)
{
    struct options options = {.keys = 5000000, .seconds = 20, .interval_ms = 2000, .directory = "/tmp"};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--keys") == 0)
            options.keys = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0)
            options.seconds = strtod(argv[i + 1], NULL);
        else if (strcmp(argv[i], "--interval-ms") == 0)
            options.interval_ms = strtoll(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--directory") == 0)
            options.directory = argv[i + 1];
        else if (strcmp(argv[i], "--json") == 0)
            options.json = argv[i + 1];
    }
    double lookup_ns[2] = {measure_lookups(6), measure_lookups(options.keys)};
    measure_checkpoints(&options, lookup_ns);
    return 0;
}
