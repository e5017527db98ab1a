/* The engine alone: datagen click events -> key by page -> 15 s tumbling windows, user count -> blackhole.
 *   bench_engine [--rows N] [--json FILE] [--parallelism P]
 * Two measurements: the operators by direct calls on one thread (with the hash and copy that an exchange makes left out), and the whole
 * job with task threads and local channels. Rates are records of the source per second of CPU of the process and of wall time. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "millrace/function.h"
#include "taskmanager/task/operator_chain.h"
#include "taskmanager/task/user_library.h"
#include "tests/support/local_job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* ---- the job's functions, as the playground job has them ---- */

#define CLICK(FIELD) FIELD(timestamp, mr_timestamp) FIELD(page, mr_string)
MR_RECORD(click, CLICK);
#define CLICK_COUNT(FIELD) FIELD(count, int64_t)
MR_RECORD(click_count, CLICK_COUNT);
#define CLICK_STATISTICS(FIELD) FIELD(windowStart, mr_timestamp) FIELD(windowEnd, mr_timestamp) FIELD(page, mr_string) FIELD(count, int64_t)
MR_RECORD(click_statistics, CLICK_STATISTICS);

static void count_add(const struct click *click, struct click_count *count)
{
    (void)click;
    count->count++;
}

static void count_result(const struct click_count *count, struct click_count *out)
{
    *out = *count;
}

MR_AGGREGATE(bench_count_clicks, click, click_count, click_count, count_add, count_result);

MR_WINDOW_RESULT(bench_statistics, click_count, click_statistics)
{
    struct click_statistics out = {window->start, window->end, mr_key_string(ctx, 0), result->count};
    mr_collect(ctx, &out);
}

static json_t *job_json(int64_t rows, int parallelism)
{
    static const char text[] =
        "{\"version\":1,\"job_id\":\"00000000000000000000000000000001\",\"name\":\"bench\",\"config\":{},\"operators\":["
        "{\"name\":\"source\",\"type\":\"datagen-source\",\"options\":{\"fields\":{"
        "\"timestamp\":{\"kind\":\"sequence\",\"start\":1700000000000,\"step\":15,\"repeat\":6},"
        "\"page\":{\"kind\":\"choice\",\"values\":[\"/help\",\"/index\",\"/shop\",\"/jobs\",\"/about\",\"/news\"]}},"
        "\"watermark\":{\"strategy\":\"bounded\",\"out_of_orderness_ms\":200,\"idle_timeout_ms\":-1,\"column\":\"timestamp\"}},"
        "\"schema\":[{\"name\":\"timestamp\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"page\",\"type\":\"STRING\",\"nullable\":false}]},"
        "{\"name\":\"window\",\"type\":\"window\",\"options\":{\"assigner\":{\"type\":\"tumbling\",\"time\":\"event\",\"size_ms\":15000},"
        "\"key_columns\":[1],\"aggregate\":\"bench_count_clicks\",\"window_function\":\"bench_statistics\"},"
        "\"schema\":[{\"name\":\"windowStart\",\"type\":\"TIMESTAMP\",\"nullable\":false},{\"name\":\"windowEnd\",\"type\":\"TIMESTAMP\",\"nullable\":false},"
        "{\"name\":\"page\",\"type\":\"STRING\",\"nullable\":false},{\"name\":\"count\",\"type\":\"BIGINT\",\"nullable\":false}],"
        "\"inputs\":[{\"source\":0,\"side_output\":-1,\"input\":0,\"partitioning\":\"HASH\",\"key_columns\":[1]}]},"
        "{\"name\":\"sink\",\"type\":\"blackhole-sink\",\"options\":{},"
        "\"inputs\":[{\"source\":1,\"side_output\":-1,\"input\":0,\"partitioning\":\"FORWARD\"}]}]}";
    json_t *json = json_loads(text, 0, NULL);
    json_t *operators = json_object_get(json, "operators");
    json_object_set_new(json_object_get(json_array_get(operators, 0), "options"), "number_of_rows", json_integer(rows));
    for (size_t i = 0; i < json_array_size(operators); i++)
        json_object_set_new(json_array_get(operators, i), "parallelism", json_integer(parallelism));
    return json;
}

static void require(struct error *err)
{
    if (err == NULL)
        return;
    char *text = error_text(err);
    fprintf(stderr, "bench_engine: %s\n", text);
    exit(EXIT_FAILURE);
}

static double process_cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- direct calls ---- */

struct direct_output {
    struct chain_output output; /* first member */
    struct operator_chain *target;
};

static struct error *direct_emit(struct chain_output *output, struct batch *batch)
{
    struct error *err = operator_chain_process(((struct direct_output *)output)->target, 0, batch);
    batch_unref(batch);
    return err;
}

static struct error *direct_watermark(struct chain_output *output, int64_t time)
{
    return operator_chain_watermark(((struct direct_output *)output)->target, 0, time);
}

static struct error *direct_idle(struct chain_output *output, bool is_idle)
{
    return operator_chain_idle(((struct direct_output *)output)->target, 0, is_idle);
}

struct measurement {
    double wall_s;
    double cpu_s;
    int64_t windows;
};

static struct operator_chain *start_chain(const struct job_graph *graph, uint32_t vertex, struct user_library *library, struct chain_output **outputs,
                                          uint32_t output_count)
{
    struct operator_chain *chain;
    require(operator_chain_create(&(struct operator_chain_options){.graph = graph, .vertex = vertex, .library = library, .wake_fd = -1,
                                                                   .outputs = outputs, .output_count = output_count},
                                  &chain));
    return chain;
}

static struct measurement run_direct(const struct job_graph *graph, struct user_library *library)
{
    struct direct_output output = {{direct_emit, direct_watermark, direct_idle}, NULL};
    struct chain_output *outputs[] = {&output.output};
    output.target = start_chain(graph, graph->operators[1].vertex, library, NULL, 0);
    struct operator_chain *source = start_chain(graph, graph->operators[0].vertex, library, outputs, 1);
    double cpu = process_cpu_s();
    int64_t start_ns = clock_mono_ns();
    enum source_status status = SOURCE_MORE;
    while (status != SOURCE_END) {
        require(operator_chain_poll(source, BATCH_ROWS_TARGET, &status));
        int64_t now_ms = clock_now_ms();
        if (operator_chain_next_wake_ms(source) <= now_ms)
            require(operator_chain_wake(source, now_ms));
    }
    require(operator_chain_end_input(source, true));
    require(operator_chain_end_input(output.target, false));
    struct measurement out = {(double)(clock_mono_ns() - start_ns) / 1e9, process_cpu_s() - cpu, 0};
    json_t *metrics = operator_chain_metrics(output.target);
    out.windows = json_integer_value(json_object_get(json_object_get(json_array_get(metrics, 0), "books"), "rows_out"));
    json_decref(metrics);
    operator_chain_destroy(source);
    operator_chain_destroy(output.target);
    return out;
}

/* ---- the whole job ---- */

static struct measurement run_job(const struct job_graph *graph, struct user_library *library)
{
    struct local_job *job;
    double cpu = process_cpu_s();
    int64_t start_ns = clock_mono_ns();
    require(local_job_start(graph, &(struct local_job_options){.library = library}, &job));
    require(local_job_wait(job, 600000));
    struct measurement out = {(double)(clock_mono_ns() - start_ns) / 1e9, process_cpu_s() - cpu, 0};
    json_t *books = local_job_books(job);
    out.windows = json_integer_value(json_object_get(json_object_get(books, "window"), "rows_out"));
    json_decref(books);
    local_job_destroy(job);
    return out;
}

/* Six pages a window; the last window may be cut short. */
static void check_windows(const char *what, int64_t rows, int64_t windows)
{
    int64_t expected = (rows / 6000) * 6 + (rows % 6000 == 0 ? 0 : rows % 6000 < 6 ? rows % 6000 : 6);
    int64_t first_is_cut = 6; /* the first window starts before the first event */
    if (windows == expected || windows == expected + first_is_cut)
        return;
    fprintf(stderr, "bench_engine: %s gave %" PRId64 " window results, expected %" PRId64 "\n", what, windows, expected);
    exit(EXIT_FAILURE);
}

static json_t *report(const char *what, int64_t rows, const struct measurement *m)
{
    double rate = (double)rows / m->wall_s, per_core = (double)rows / m->cpu_s;
    printf("%-8s %12" PRId64 " rows  %7.3f s  %6.1f million/s  %6.1f million/s and core  %" PRId64 " results\n", what, rows, m->wall_s, rate / 1e6,
           per_core / 1e6, m->windows);
    return json_pack("{s:f,s:f,s:f,s:f}", "wall_s", m->wall_s, "cpu_s", m->cpu_s, "rate_per_second", rate, "rate_per_core", per_core);
}

int main(int argc, char **argv)
{
    log_set_level(LOG_WARN); /* tasks that come and go are no news here */
    int64_t rows = 50000000;
    int parallelism = 1;
    const char *path = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--rows") == 0)
            rows = strtoll(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--json") == 0)
            path = argv[i + 1];
        else if (strcmp(argv[i], "--parallelism") == 0)
            parallelism = atoi(argv[i + 1]);
    }
    struct user_library *library;
    require(user_library_open_program(&library));
    struct job_graph *graph, *wide;
    json_t *json = job_json(rows, 1);
    require(job_graph_from_json(json, &graph));
    json_decref(json);
    json = job_json(rows, parallelism);
    require(job_graph_from_json(json, &wide));
    json_decref(json);
    job_graph_set_parallelism(graph, 1);
    require(job_graph_chain(graph));
    struct measurement direct = run_direct(graph, library);
    check_windows("direct", rows, direct.windows);
    json_t *result = json_object();
    json_object_set_new(result, "direct", report("direct", rows, &direct));
    struct measurement whole = run_job(wide, library);
    check_windows("job", rows, whole.windows);
    json_object_set_new(result, "job", report("job", rows, &whole));
    json_object_set_new(result, "engine_rate_per_core", json_real((double)rows / whole.cpu_s));
    if (path != NULL && json_dump_file(result, path, JSON_INDENT(2)) != 0)
        fprintf(stderr, "bench_engine: could not write %s\n", path);
    json_decref(result);
    job_graph_destroy(graph);
    job_graph_destroy(wide);
    user_library_close(library);
    return EXIT_SUCCESS;
}
