/* The REST API over real HTTP against a jobmanager in this process: routes, errors, uploads, runs through a stand-in for
 * job-compiler, and the shapes of all answers against recordings of Flink (tests/data/rest). Tasks are played by events. */
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/str_buf.h"
#include "common/loop/loop.h"
#include "jobmanager/job_metrics.h"
#include "jobmanager/jobmanager.h"
#include "jobmanager/rest/rest_server.h"
#include "jobmanager/rest/shell_words.h"
#include "tests/unit/run_suite.h"

#include <arpa/inet.h>
#include <check.h>
#include <curl/curl.h>
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA "tests/data/rest/"
#define NO_SAVEPOINT \
    "java.io.FileNotFoundException: Cannot find checkpoint or savepoint file/directory '/tmp/no-such-savepoint' on file system 'file'."
#define NO_JOB "ffffffffffffffffffffffffffffffff"

struct fixture {
    uv_loop_t loop;
    struct config *config;
    struct jobmanager *jobmanager;
    char directory[64];
    bool is_stopped;
};

struct answer {
    long status;
    struct str_buf body;
    json_t *json;
    char content_type[128];
};

/* ---- an HTTP client on a thread of its own, while the loop runs on this one ---- */

struct call {
    const char *method;
    char *url;
    const char *body;
    const char *upload_path; /* multipart when not NULL */
    const char *upload_name;
    struct answer *answer;
    atomic_bool is_done;
};

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    str_buf_append_bytes(context, data, size * count);
    return size * count;
}

static void *call_run(void *argument)
{
    struct call *call = argument;
    CURL *curl = curl_easy_init();
    curl_mime *mime = NULL;
    curl_easy_setopt(curl, CURLOPT_URL, call->url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &call->answer->body);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
    if (call->upload_path != NULL) {
        mime = curl_mime_init(curl);
        curl_mimepart *part = curl_mime_addpart(mime);
        curl_mime_name(part, "jarfile");
        curl_mime_filedata(part, call->upload_path);
        curl_mime_filename(part, call->upload_name);
        curl_easy_setopt(curl, CURLOPT_MIMEPOST, mime);
    } else if (call->body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call->body);
    }
    if (curl_easy_perform(curl) == CURLE_OK) {
        const char *type = NULL;
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &call->answer->status);
        curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
        snprintf(call->answer->content_type, sizeof call->answer->content_type, "%s", type != NULL ? type : "");
    }
    curl_mime_free(mime);
    curl_easy_cleanup(curl);
    atomic_store(&call->is_done, true);
    return NULL;
}

static void perform(struct fixture *fixture, struct call *call)
{
    pthread_t thread;
    atomic_init(&call->is_done, false);
    ck_assert_int_eq(pthread_create(&thread, NULL, call_run, call), 0);
    while (!atomic_load(&call->is_done)) {
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
        usleep(100);
    }
    pthread_join(thread, NULL);
    call->answer->json = call->answer->body.length > 0 ? json_loadb(call->answer->body.text, call->answer->body.length, 0, NULL) : NULL;
    free(call->url);
}

static struct answer ask(struct fixture *fixture, const char *method, const char *path, const char *body)
{
    struct answer answer = {0};
    struct call call = {.method = method,
                        .url = heap_printf("http://127.0.0.1:%u%s", rest_server_port(fixture->jobmanager->rest), path),
                        .body = body,
                        .answer = &answer};
    perform(fixture, &call);
    return answer;
}

static struct answer upload(struct fixture *fixture, const char *file, const char *name)
{
    struct answer answer = {0};
    struct call call = {.method = "POST",
                        .url = heap_printf("http://127.0.0.1:%u/jars/upload", rest_server_port(fixture->jobmanager->rest)),
                        .upload_path = file,
                        .upload_name = name,
                        .answer = &answer};
    perform(fixture, &call);
    return answer;
}

static void answer_finish(struct answer *answer)
{
    json_decref(answer->json);
    str_buf_finish(&answer->body);
}

/* Status, and a text that the body must hold. */
static void expect(struct fixture *fixture, const char *method, const char *path, const char *body, long status, const char *text)
{
    struct answer answer = ask(fixture, method, path, body);
    ck_assert_msg(answer.status == status, "%s %s: status %ld, body %s", method, path, answer.status, str_buf_text(&answer.body));
    ck_assert_msg(strstr(str_buf_text(&answer.body), text) != NULL, "%s %s: %s is not in %s", method, path, text, str_buf_text(&answer.body));
    answer_finish(&answer);
}

/* ---- fixture ---- */

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    chmod(path, mode);
}

static void set_option(struct config *config, const char *key, const char *value)
{
    struct error *err = config_set(config, key, value, "test");
    ck_assert_ptr_null(err);
}

static void setup(struct fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    log_set_level(LOG_OFF);
    strcpy(fixture->directory, "/tmp/test_rest-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(fixture->directory));
    uv_loop_init(&fixture->loop);
    loop_own(&fixture->loop);
    struct config *config = config_create_over(NULL);
    char *savepoints = heap_printf("%s/savepoints", fixture->directory);
    set_option(config, "rest.port", "0");
    set_option(config, "metrics.reporters", "");
    set_option(config, "rest.bind-address", "127.0.0.1");
    set_option(config, "jobmanager.rpc.port", "0");
    set_option(config, "jobmanager.bind-host", "127.0.0.1");
    set_option(config, "io.tmp.dirs", fixture->directory);
    set_option(config, "state.savepoints.dir", savepoints);
    set_option(config, "program.compile.timeout", "1 min");
    free(savepoints);
    fixture->config = config;
    struct error *err = jobmanager_create(&fixture->loop, config, &fixture->jobmanager);
    ck_assert_ptr_null(err);
    char *compiler = heap_printf("%s/compiler", fixture->directory);
    write_file(compiler, "#!/bin/sh\ncat " DATA "graph.json\n", 0755);
    free(fixture->jobmanager->compiler_path);
    fixture->jobmanager->compiler_path = compiler;
}

static struct fixture *stopping;

static void on_stopped(struct jobmanager *jobmanager)
{
    (void)jobmanager;
    stopping->is_stopped = true;
}

static void teardown(struct fixture *fixture)
{
    stopping = fixture;
    jobmanager_stop(fixture->jobmanager, on_stopped);
    while (!fixture->is_stopped)
        uv_run(&fixture->loop, UV_RUN_ONCE);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    jobmanager_destroy(fixture->jobmanager);
    loop_finish(&fixture->loop);
    char *command = heap_printf("rm -rf '%s'", fixture->directory);
    ck_assert_int_eq(system(command), 0);
    free(command);
}

/* ---- a cluster that is played by events ---- */

#define TASKMANAGER "localhost:1-abcdef"
#define CONNECTION 4711

static void register_taskmanager(struct fixture *fixture)
{
    struct event event = {.kind = EVENT_TASKMANAGER_REGISTERED,
                          .registered = {.taskmanager = TASKMANAGER,
                                         .connection = CONNECTION,
                                         .host = "localhost",
                                         .data_port = 1234,
                                         .slot_count = 2,
                                         .pid = 1,
                                         .cpu_cores = 2,
                                         .memory_bytes = 1 << 30,
                                         .version = "test"}};
    jobmanager_handle(fixture->jobmanager, &event);
}

static void task_state(struct fixture *fixture, const struct execution *execution, enum execution_state state)
{
    struct event event = {.kind = EVENT_TASK_STATE,
                          .task_state = {.taskmanager = TASKMANAGER,
                                         .connection = CONNECTION,
                                         .job = execution->subtask->vertex->job->id,
                                         .epoch = execution->epoch,
                                         .execution = execution->id,
                                         .state = state}};
    jobmanager_handle(fixture->jobmanager, &event);
}

static void acknowledge(struct fixture *fixture, const struct execution *execution, uint64_t checkpoint)
{
    json_t *state = json_array();
    json_t *books = json_object();
    json_t *metrics = json_pack("{s:i,s:i,s:i,s:i,s:i,s:i,s:i}", "sync_ms", 1, "async_ms", 2, "alignment_ms", 0, "start_delay_ms", 3, "bytes",
                                100, "persisted_bytes", 0, "processed_bytes", 0);
    struct event event = {.kind = EVENT_CHECKPOINT_ACK,
                          .ack = {.taskmanager = TASKMANAGER,
                                  .connection = CONNECTION,
                                  .job = execution->subtask->vertex->job->id,
                                  .epoch = execution->epoch,
                                  .checkpoint = checkpoint,
                                  .execution = execution->id,
                                  .state = state,
                                  .books = books,
                                  .metrics = metrics}};
    jobmanager_handle(fixture->jobmanager, &event);
    json_decref(state);
    json_decref(books);
    json_decref(metrics);
}

static void report_metrics(struct fixture *fixture, const struct job *job, json_int_t rows)
{
    json_t *tasks = json_array();
    for (uint32_t v = 0; v < job->graph->vertex_count; v++) {
        const struct execution *execution = job->vertices[v].subtasks[0].current;
        json_array_append_new(tasks, json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:[{s:s,s:I}]}", "execution", execution->id,
                                               "numRecordsIn", rows,
                                               "numRecordsOut", rows, "numBytesIn", rows * 10, "numBytesOut", rows * 10, "accumulateBusyTimeMs",
                                               rows, "accumulateIdleTimeMs", rows, "accumulateBackPressuredTimeMs", (json_int_t)0,
                                               "currentInputWatermark", (json_int_t)265014, "operators", "name", "ClickEvent Counter",
                                               "watermark_in", (json_int_t)265014));
    }
    json_t *message = json_pack("{s:s,s:I,s:o}", "job", id_format(job->id).hex, "epoch", (json_int_t)job->epoch, "tasks", tasks);
    job_metrics_report(fixture->jobmanager, message);
    json_decref(message);
}

/* Uploads this test program (an ELF file that exports main) and runs it. */
static struct job *run_job(struct fixture *fixture, const char *body)
{
    struct answer answer = upload(fixture, "/proc/self/exe", "ClickCountJob.so");
    ck_assert_int_eq(answer.status, 200);
    answer_finish(&answer);
    char *path = heap_printf("/jars/%s/run", fixture->jobmanager->programs->programs.items[0]->id);
    answer = ask(fixture, "POST", path, body);
    ck_assert_msg(answer.status == 200, "%s", str_buf_text(&answer.body));
    struct id id;
    ck_assert(id_parse(json_string_value(json_object_get(answer.json, "jobid")), &id));
    answer_finish(&answer);
    free(path);
    struct job *job = coordinator_job(fixture->jobmanager->coordinator, id);
    ck_assert_ptr_nonnull(job);
    return job;
}

static void start_tasks(struct fixture *fixture, const struct job *job)
{
    for (uint32_t v = 0; v < job->graph->vertex_count; v++) {
        task_state(fixture, job->vertices[v].subtasks[0].current, EXECUTION_INITIALIZING);
        task_state(fixture, job->vertices[v].subtasks[0].current, EXECUTION_RUNNING);
    }
}

static void run_until(struct fixture *fixture, const struct job *job, bool (*is_reached)(const struct job *job))
{
    for (int i = 0; i < 30000 && !is_reached(job); i++) {
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
        usleep(100);
    }
    ck_assert(is_reached(job));
}

static bool has_pending(const struct job *job)
{
    return job->pending.count > 0;
}

static bool has_completed(const struct job *job)
{
    return job->checkpoints.latest_completed != NULL || job->checkpoints.latest_savepoint != NULL;
}

static void complete_checkpoint(struct fixture *fixture, const struct job *job)
{
    run_until(fixture, job, has_pending);
    uint64_t id = job->pending.items[0]->id;
    for (uint32_t v = 0; v < job->graph->vertex_count; v++)
        acknowledge(fixture, job->vertices[v].subtasks[0].current, id);
    run_until(fixture, job, has_completed);
}

/* ---- shapes ---- */

static const char *kind_of(const json_t *json)
{
    if (json_is_number(json))
        return "number";
    if (json_is_boolean(json))
        return "boolean";
    return json_is_object(json) ? "object" : json_is_array(json) ? "array" : json_is_string(json) ? "string" : "null";
}

/* An object whose keys are data: ids, dotted names. */
static bool is_map(const json_t *json)
{
    const char *key;
    json_t *value;
    bool any = false;
    json_object_foreach((json_t *)(uintptr_t)json, key, value) {
        bool is_hex = strspn(key, "0123456789abcdef") == strlen(key) && strlen(key) >= 8;
        if (!is_hex && strpbrk(key, ".:/") == NULL)
            return false;
        any = true;
    }
    return any;
}

/* Every field of recorded must be in answer with the same type; null stands for any. */
static void compare(const json_t *recorded, const json_t *answer, const char *where)
{
    char path[512];
    if (json_is_null(recorded))
        return;
    ck_assert_msg(strcmp(kind_of(recorded), kind_of(answer)) == 0, "%s: %s expected, %s answered", where, kind_of(recorded), kind_of(answer));
    if (json_is_array(recorded) && json_array_size(recorded) > 0) {
        ck_assert_msg(json_array_size(answer) > 0, "%s: elements expected", where);
        snprintf(path, sizeof path, "%s[0]", where);
        compare(json_array_get(recorded, 0), json_array_get(answer, 0), path);
    }
    if (!json_is_object(recorded))
        return;
    const char *key;
    json_t *value;
    if (is_map(recorded)) {
        const json_t *pattern = json_object_iter_value(json_object_iter((json_t *)(uintptr_t)recorded));
        json_object_foreach((json_t *)(uintptr_t)answer, key, value)
            compare(pattern, value, where);
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)recorded, key, value) {
        snprintf(path, sizeof path, "%s.%s", where, key);
        const json_t *own = json_object_get(answer, key);
        ck_assert_msg(own != NULL, "%s: missing", path);
        compare(value, own, path);
    }
}

/* "GET_jobs_jobid_vertices_vertexid.json" -> "/jobs/<id>/vertices/<id>" */
static char *path_of(const char *file, const struct job *job, const char *jar)
{
    const struct {
        const char *segment;
        char *value;
    } segments[] = {{"jobid", heap_strdup(id_format(job->id).hex)},
                    {"vertexid", heap_strdup(id_format(job->graph->vertices[1].id).hex)},
                    {"index", heap_strdup("0")},
                    {"attempt", heap_strdup("0")},
                    {"checkpointid", heap_printf("%llu", (unsigned long long)job->checkpoints.latest_completed->id)},
                    {"taskmanagerid", heap_strdup(TASKMANAGER)},
                    {"jarid", heap_strdup(jar)}};
    struct str_buf path = {0};
    char *copy = heap_strndup(file + 4, strlen(file) - 9);
    char *rest = copy;
    for (char *part = strsep(&rest, "_"); part != NULL; part = strsep(&rest, "_")) {
        const char *value = part;
        for (size_t i = 0; i < sizeof segments / sizeof segments[0]; i++)
            value = strcmp(part, segments[i].segment) == 0 ? segments[i].value : value;
        str_buf_printf(&path, "/%s", value);
    }
    for (size_t i = 0; i < sizeof segments / sizeof segments[0]; i++)
        free(segments[i].value);
    free(copy);
    return str_buf_detach(&path);
}

/* What a played taskmanager cannot answer, and what depends on its heartbeats. */
static bool is_left_out(const char *file)
{
    static const char *const left_out[] = {"GET_taskmanagers_taskmanagerid_logs", "GET_taskmanagers_taskmanagerid_thread",
                                           "GET_taskmanagers_taskmanagerid_metrics",
                                           "GET_taskmanagers_metrics", "GET_jobmanager_logs", "GET_taskmanagers_taskmanagerid_log"};
    for (size_t i = 0; i < sizeof left_out / sizeof left_out[0]; i++) {
        if (strncmp(file, left_out[i], strlen(left_out[i])) == 0)
            return true;
    }
    return strncmp(file, "GET_", 4) != 0;
}

START_TEST(answers_have_the_recorded_shapes)
{
    struct fixture fixture;
    setup(&fixture);
    register_taskmanager(&fixture);
    struct job *job = run_job(&fixture, "{\"programArgs\": \"--checkpointing\"}");
    ck_assert_int_eq(job->state, JOB_RUNNING);
    start_tasks(&fixture, job);
    report_metrics(&fixture, job, 1000);
    complete_checkpoint(&fixture, job);
    report_metrics(&fixture, job, 2000);
    DIR *directory = opendir(DATA);
    int count = 0;
    ck_assert_ptr_nonnull(directory);
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (is_left_out(entry->d_name))
            continue;
        char *file = heap_printf(DATA "%s", entry->d_name);
        json_t *recorded = json_load_file(file, 0, NULL);
        ck_assert_msg(recorded != NULL, "%s", file);
        char *path = path_of(entry->d_name, job, fixture.jobmanager->programs->programs.items[0]->id);
        struct answer answer = ask(&fixture, "GET", path, NULL);
        ck_assert_msg(answer.status == 200, "%s: status %ld: %s", path, answer.status, str_buf_text(&answer.body));
        ck_assert_str_eq(answer.content_type, "application/json; charset=UTF-8");
        compare(recorded, answer.json, path);
        answer_finish(&answer);
        json_decref(recorded);
        free(path);
        free(file);
        count++;
    }
    closedir(directory);
    ck_assert_int_gt(count, 30);
    teardown(&fixture);
}
END_TEST

/* ---- numbers ---- */

/* The contract of jobmanager/diagnosis/diagnosis.h; what it finds is the matter of test_diagnosis_rules.c. */
START_TEST(diagnosis_has_its_shape)
{
    static const char *const members[] = {"job", "state", "timestamp", "healthy", "summary", "findings"};
    static const char *const of_finding[] = {"kind", "severity", "subject", "since", "sentence", "hint", "evidence"};
    static const char *const of_subject[] = {"vertex", "vertex-name", "subtask", "split", "checkpoint"};
    struct fixture fixture;
    setup(&fixture);
    struct job *job = run_job(&fixture, "{}"); /* without a taskmanager */
    char *path = heap_printf("/v1/jobs/%s/diagnosis/", id_format(job->id).hex);
    struct answer answer = ask(&fixture, "GET", path, NULL);
    ck_assert_int_eq(answer.status, 200);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        ck_assert_msg(json_object_get(answer.json, members[i]) != NULL, "%s is missing", members[i]);
    ck_assert_uint_eq(json_object_size(answer.json), sizeof members / sizeof members[0]);
    ck_assert(json_is_false(json_object_get(answer.json, "healthy")));
    const json_t *finding = json_array_get(json_object_get(answer.json, "findings"), 0);
    for (size_t i = 0; i < sizeof of_finding / sizeof of_finding[0]; i++)
        ck_assert_msg(json_object_get(finding, of_finding[i]) != NULL, "%s is missing", of_finding[i]);
    for (size_t i = 0; i < sizeof of_subject / sizeof of_subject[0]; i++)
        ck_assert_msg(json_object_get(json_object_get(finding, "subject"), of_subject[i]) != NULL, "%s is missing", of_subject[i]);
    ck_assert_str_eq(json_string_value(json_object_get(finding, "kind")), "missing-slots");
    ck_assert_str_eq(json_string_value(json_object_get(finding, "severity")), "error");
    ck_assert(json_is_integer(json_object_get(finding, "since")));
    answer_finish(&answer);
    free(path);
    expect(&fixture, "GET", "/jobs/" NO_JOB "/diagnosis", NULL, 404, "Job " NO_JOB " not found");
    expect(&fixture, "GET", "/jobs/xyz/diagnosis", NULL, 400, "Cannot resolve path parameter (jobid)");
    teardown(&fixture);
}
END_TEST

START_TEST(secrets_of_a_job_are_not_shown)
{
    struct fixture fixture;
    setup(&fixture);
    register_taskmanager(&fixture);
    struct job *job = run_job(&fixture, "{\"flinkConfiguration\": {\"pipeline.global-job-parameters\": \"user:me,db.password:hunter2\"}}");
    char *path = heap_printf("/jobs/%s/config", id_format(job->id).hex);
    expect(&fixture, "GET", path, NULL, 200, "\"user-config\":{\"user\":\"me\",\"db.password\":\"******\"}");
    free(path);
    teardown(&fixture);
}
END_TEST

START_TEST(numbers_come_from_reports)
{
    struct fixture fixture;
    setup(&fixture);
    register_taskmanager(&fixture);
    struct job *job = run_job(&fixture, "{}");
    start_tasks(&fixture, job);
    report_metrics(&fixture, job, 1000);
    usleep(20000);
    report_metrics(&fixture, job, 2000);
    char *path = heap_printf("/jobs/%s/vertices/%s", id_format(job->id).hex, id_format(job->graph->vertices[1].id).hex);
    char *metrics = heap_printf("%s/metrics?get=0.numRecordsIn,0.ClickEvent_Counter.currentInputWatermark,nosuch", path);
    char *aggregated = heap_printf("%s/subtasks/metrics?get=numRecordsIn&agg=max", path);
    char *watermarks = heap_printf("%s/watermarks", path);
    expect(&fixture, "GET", path, NULL, 200, "\"read-records\":2000");
    expect(&fixture, "GET", metrics, NULL, 200,
           "[{\"id\":\"0.numRecordsIn\",\"value\":\"2000\"},{\"id\":\"0.ClickEvent_Counter.currentInputWatermark\",\"value\":\"265014\"}]");
    expect(&fixture, "GET", aggregated, NULL, 200, "[{\"id\":\"numRecordsIn\",\"max\":2000.0}]");
    free(aggregated);
    free(metrics);
    /* Lists may come one by one, in any order and case; what is no aggregate is named. */
    metrics = heap_printf("%s/metrics?get=0.nosuch&get=0.numRecordsIn", path);
    expect(&fixture, "GET", metrics, NULL, 200, "[{\"id\":\"0.numRecordsIn\",\"value\":\"2000\"}]");
    aggregated = heap_printf("%s/subtasks/metrics?agg=MAX&subtasks=0&get=numRecordsIn&agg=min", path);
    expect(&fixture, "GET", aggregated, NULL, 200, "[{\"id\":\"numRecordsIn\",\"min\":2000.0,\"max\":2000.0}]");
    free(aggregated);
    aggregated = heap_printf("%s/subtasks/metrics?get=numRecordsIn&agg=max,median", path);
    expect(&fixture, "GET", aggregated, NULL, 400, "Cannot resolve query parameter (agg) from value \\\"max,median\\\".");
    expect(&fixture, "GET", watermarks, NULL, 200, "[{\"id\":\"0.currentInputWatermark\",\"value\":\"265014\"}]");
    double rate = 0;
    ck_assert(job_metrics_number(job->vertices[1].subtasks[0].current, "numRecordsInPerSecond", &rate));
    ck_assert(rate > 100 && rate < 60000);
    free(watermarks);
    free(aggregated);
    free(metrics);
    free(path);
    teardown(&fixture);
}
END_TEST

START_TEST(flame_graphs_are_off_by_default)
{
    struct fixture fixture;
    setup(&fixture);
    register_taskmanager(&fixture);
    struct job *job = run_job(&fixture, "{}");
    start_tasks(&fixture, job);
    char *path = heap_printf("/jobs/%s/vertices/%s/flamegraph", id_format(job->id).hex, id_format(job->graph->vertices[1].id).hex);
    char *full = heap_printf("%s?type=full&subtaskindex=0", path);
    char *bad_type = heap_printf("%s?type=sideways", path);
    char *bad_subtask = heap_printf("%s?subtaskindex=7", path);
    expect(&fixture, "GET", path, NULL, 200, "{\"endTimestamp\":-2,\"data\":null}");
    set_option(fixture.jobmanager->config, "rest.flamegraph.enabled", "true");
    /* The taskmanager of this test has no connection, so there is nothing yet. */
    expect(&fixture, "GET", full, NULL, 200, "{\"endTimestamp\":-3,\"data\":null}");
    expect(&fixture, "GET", bad_type, NULL, 400, "Cannot resolve query parameter (type) from value \\\"sideways\\\"");
    expect(&fixture, "GET", bad_subtask, NULL, 400, "Cannot resolve query parameter (subtaskindex)");
    expect(&fixture, "GET", "/jobmanager/profiler", NULL, 200, "{\"profilingList\":[]}");
    expect(&fixture, "POST", "/taskmanagers/" TASKMANAGER "/profiler", "{\"mode\":\"CPU\",\"duration\":10}", 400, "flame graph");
    free(bad_subtask);
    free(bad_type);
    free(full);
    free(path);
    teardown(&fixture);
}
END_TEST

START_TEST(applications_are_jobs)
{
    struct fixture fixture;
    setup(&fixture);
    register_taskmanager(&fixture);
    struct job *job = run_job(&fixture, "{\"jobId\": \"0000000000000000000000000000000a\"}");
    start_tasks(&fixture, job);
    const char *base = "/applications/0000000000000000000000000000000a";
    char *exceptions = heap_printf("%s/exceptions", base);
    char *cancel = heap_printf("%s/cancel", base);
    expect(&fixture, "GET", "/applications/overview", NULL, 200, "\"status\":\"RUNNING\",\"jobs\":{\"RUNNING\":1}}]}");
    expect(&fixture, "GET", base, NULL, 200, "\"jobs\":[{\"jid\":\"0000000000000000000000000000000a\"");
    expect(&fixture, "GET", exceptions, NULL, 200, "{\"exceptionHistory\":{\"entries\":[]}}");
    expect(&fixture, "GET", "/applications/" NO_JOB, NULL, 404, "Application " NO_JOB " not found");
    expect(&fixture, "POST", cancel, "{}", 202, "{}");
    ck_assert_int_ne(job->state, JOB_RUNNING);
    free(cancel);
    free(exceptions);
    teardown(&fixture);
}
END_TEST

START_TEST(stacks_become_a_tree)
{
    json_t *first = json_pack("{s:[i,i],s:[i,i],s:[i,i]}", "main;work", 3, 0, "main;work;read (kernel)", 0, 5, "main", 1, 0);
    json_t *second = json_pack("{s:[i,i]}", "main;work", 10, 1);
    static const struct {
        enum flame_graph_type type;
        const char *text;
    } trees[] = {
        {FLAME_GRAPH_ON_CPU, "{\"name\":\"root\",\"value\":14,\"children\":[{\"name\":\"main\",\"value\":14,\"children\":["
                             "{\"name\":\"work\",\"value\":13,\"children\":[]}]}]}"},
        {FLAME_GRAPH_OFF_CPU, "{\"name\":\"root\",\"value\":6,\"children\":[{\"name\":\"main\",\"value\":6,\"children\":["
                              "{\"name\":\"work\",\"value\":6,\"children\":[{\"name\":\"read (kernel)\",\"value\":5,\"children\":[]}]}]}]}"},
        {FLAME_GRAPH_FULL, "{\"name\":\"root\",\"value\":20,\"children\":[{\"name\":\"main\",\"value\":20,\"children\":["
                           "{\"name\":\"work\",\"value\":19,\"children\":[{\"name\":\"read (kernel)\",\"value\":5,\"children\":[]}]}]}]}"},
    };
    for (size_t i = 0; i < sizeof trees / sizeof trees[0]; i++) {
        json_t *root = flame_graph_add(flame_graph_add(NULL, first, trees[i].type), second, trees[i].type);
        char *text = json_dumps(root, JSON_COMPACT);
        ck_assert_str_eq(text, trees[i].text);
        free(text);
        json_decref(root);
    }
    json_decref(first);
    json_decref(second);
}
END_TEST

/* ---- errors ---- */

START_TEST(errors_are_worded_as_recorded)
{
    struct fixture fixture;
    setup(&fixture);
    const struct {
        const char *method, *path, *body;
        long status;
        const char *text;
    } rows[] = {
        {"GET", "/nosuchpath", NULL, 404, "{\"errors\":[\"Unable to load requested file /nosuchpath.\"]}"},
        {"GET", "/v2/overview", NULL, 404, "Unable to load requested file /v2/overview."},
        {"GET", "/v1/", NULL, 404, "Unable to load requested file /v1/."},
        {"POST", "/overview", "{}", 404, "{\"errors\":[\"Not found: /overview\"]}"},
        {"OPTIONS", "/overview", NULL, 404, "Not found"},
        {"GET", "/v1/jobs/", NULL, 200, "{\"jobs\":[]}"},
        {"GET", "/jobs", "{}", 200, "{\"jobs\":[]}"},
        {"GET", "/jobs/abcd", NULL, 400, EX_REST ": Bad request, could not parse parameters: Cannot resolve path parameter (jobid) from "
                                         "value \\\"abcd\\\".\\nCaused by: "},
        {"GET", "/jobs/" NO_JOB, NULL, 404, EX_NOT_FOUND ": Job " NO_JOB " not found\\nCaused by: " EX_NO_JOB ": Could not find Flink job "
                                            "(" NO_JOB ")\\n\"]}"},
        {"GET", "/jobs/FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", NULL, 404, NO_JOB},
        {"GET", "/jobs/" NO_JOB "/status", NULL, 500, "[\"Internal server error.\",\"<Exception on server side:\\n" EX_NO_JOB ": Could not "
                                                      "find Flink job (" NO_JOB ")\\n\\nEnd of exception on server side>\"]"},
        {"GET", "/jobs/" NO_JOB "/metrics", NULL, 200, "[]"},
        {"GET", "/jobs/" NO_JOB "/execution-result", NULL, 404, EX_REST ": " EX_NO_JOB ": Could not find Flink job"},
        {"PATCH", "/jobs/" NO_JOB "?mode=cancel", NULL, 404, EX_REST ": Job could not be found."},
        {"PATCH", "/jobs/" NO_JOB "?mode=CANCEL", NULL, 404, EX_REST ": Job could not be found."},
        {"PATCH", "/jobs/" NO_JOB "?mode=stop", NULL, 308, "The termination mode \\\"stop\\\" has been removed."},
        {"PATCH", "/jobs/" NO_JOB "?mode=foo", NULL, 400, "Cannot resolve query parameter (mode) from value \\\"foo\\\"."},
        {"PATCH", "/jobs/" NO_JOB "/rescaling", NULL, 503, "Rescaling is temporarily disabled. See FLINK-12312."},
        {"POST", "/jobs/" NO_JOB "/savepoints", "{not json", 400, "Request did not match expected format SavepointTriggerRequestBody."},
        {"POST", "/jobs/" NO_JOB "/savepoints", "{\"cancel-job\": \"maybe\"}", 400,
         "Request did not match expected format SavepointTriggerRequestBody."},
        {"GET", "/jobs/" NO_JOB "/savepoints/" NO_JOB, NULL, 404, "There is no savepoint operation with triggerId=" NO_JOB " for job " NO_JOB "."},
        {"GET", "/jobs/" NO_JOB "/checkpoints/xyz", NULL, 400, "(triggerid)"},
        {"GET", "/savepoint-disposal/" NO_JOB, NULL, 404, EX_NOT_FOUND ": Operation not found under key: "},
        {"GET", "/taskmanagers/nosuch", NULL, 500, EX_NO_TM ": No TaskExecutor registered under nosuch."},
        {"GET", "/taskmanagers/nosuch/metrics", NULL, 200, "[]"},
        {"GET", "/taskmanagers/nosuch/log", NULL, 404, "Failed to transfer file from TaskExecutor nosuch because it was unknown."},
        {"GET", "/jobmanager/logs/nosuch", NULL, 404, "This file does not exist in JobManager log dir."},
        {"GET", "/jobmanager/logs/../../etc/passwd", NULL, 404, "Unable to load requested file /jobmanager/logs/../../etc/passwd."},
        {"POST", "/jars/upload", "{}", 400, "Exactly 1 file must be sent, received 0."},
        {"POST", "/jars/nosuch.jar/run", "{}", 500, "nosuch.jar does not exist"},
        {"DELETE", "/jars/nosuch.jar", NULL, 400, "File nosuch.jar does not exist in "},
        {"POST", "/jobs", "{}", 400, "POST /jars/upload"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect(&fixture, rows[i].method, rows[i].path, rows[i].body, rows[i].status, rows[i].text);
    teardown(&fixture);
}
END_TEST

/* ---- operations ---- */

/* Asks until the operation is over, and looks for text in the answer. */
static void expect_result(struct fixture *fixture, const char *path, const char *text)
{
    for (int i = 0; i < 1000; i++) {
        struct answer answer = ask(fixture, "GET", path, NULL);
        bool is_over = strstr(str_buf_text(&answer.body), "COMPLETED") != NULL;
        if (is_over)
            ck_assert_msg(strstr(str_buf_text(&answer.body), text) != NULL, "%s: %s", path, str_buf_text(&answer.body));
        answer_finish(&answer);
        if (is_over)
            return;
        usleep(1000);
    }
    ck_abort_msg("%s does not end", path);
}

START_TEST(operations_are_polled)
{
    struct fixture fixture;
    setup(&fixture);
    register_taskmanager(&fixture);
    expect(&fixture, "POST", "/jobs/" NO_JOB "/stop", "{\"drain\": false, \"triggerId\": \"00000000000000000000000000000001\"}", 202,
           "{\"request-id\":\"00000000000000000000000000000001\"}");
    /* The same request again does not start a second operation. */
    expect(&fixture, "POST", "/jobs/" NO_JOB "/stop", "{\"triggerId\": \"00000000000000000000000000000001\"}", 202, "request-id");
    expect_result(&fixture, "/jobs/" NO_JOB "/savepoints/00000000000000000000000000000001", EX_NO_JOB);
    /* CheckpointInfo has another spelling than SavepointInfo. */
    expect(&fixture, "POST", "/jobs/" NO_JOB "/checkpoints", "{\"triggerId\": \"00000000000000000000000000000004\"}", 202, "request-id");
    expect_result(&fixture, "/jobs/" NO_JOB "/checkpoints/00000000000000000000000000000004", "{\"failureCause\":{\"class\":\"");
    struct job *job = run_job(&fixture, "{\"jobId\": \"0000000000000000000000000000000a\"}");
    start_tasks(&fixture, job);
    const char *base = "/jobs/0000000000000000000000000000000a";
    char *savepoints = heap_printf("%s/savepoints", base);
    char *status = heap_printf("%s/savepoints/00000000000000000000000000000002", base);
    expect(&fixture, "POST", savepoints, "{\"triggerId\": \"00000000000000000000000000000002\"}", 202, "request-id");
    complete_checkpoint(&fixture, job);
    expect_result(&fixture, status, "\"location\":\"file:");
    free(status);
    status = heap_printf("%s/savepoints/00000000000000000000000000000003", base);
    expect(&fixture, "POST", savepoints, "{\"target-directory\": \"/proc/nosuch\", \"triggerId\": \"00000000000000000000000000000003\"}",
           202, "request-id");
    expect_result(&fixture, status, "Failed to create savepoint directory at /proc/nosuch");
    free(status);
    status = heap_printf("%s/savepoints/00000000000000000000000000000005", base);
    expect(&fixture, "POST", savepoints, "{\"target-directory\": \"s3://bucket/a\", \"triggerId\": \"00000000000000000000000000000005\"}",
           202, "request-id");
    expect_result(&fixture, status, "Could not find a file system implementation for the path s3://bucket/a");
    struct answer answer = ask(&fixture, "POST", "/savepoint-disposal", "{\"savepoint-path\": \"/tmp/no-such-savepoint\"}");
    char *disposal = heap_printf("/savepoint-disposal/%s", json_string_value(json_object_get(answer.json, "request-id")));
    expect_result(&fixture, disposal, EX_FLINK ": Could not dispose savepoint /tmp/no-such-savepoint.\\nCaused by: " EX_FILE ": Cannot find");
    /* What Flink's client turns into its exception: an object stream. */
    expect_result(&fixture, disposal, "\"serialized-throwable\":\"rO0ABXNyAClvcmcuYXBhY2hlLmZsaW5rLnV0aWwuU2VyaWFsaXplZFRocm93YWJsZ");
    answer_finish(&answer);
    free(disposal);
    free(status);
    free(savepoints);
    teardown(&fixture);
}
END_TEST

/* ---- programs ---- */

START_TEST(uploads_are_checked)
{
    struct fixture fixture;
    setup(&fixture);
    struct answer answer = upload(&fixture, DATA "graph.json", "readme.txt");
    ck_assert_int_eq(answer.status, 400);
    ck_assert_ptr_nonnull(strstr(answer.body.text, "Only Jar files are allowed."));
    answer_finish(&answer);
    answer = upload(&fixture, DATA "graph.json", "../../bad.jar");
    ck_assert_int_eq(answer.status, 200);
    ck_assert_ptr_nonnull(strstr(answer.body.text, "_bad.jar\",\"status\":\"success\"}"));
    answer_finish(&answer);
    ck_assert_uint_eq(fixture.jobmanager->programs->programs.count, 1);
    const char *id = fixture.jobmanager->programs->programs.items[0]->id;
    ck_assert_ptr_null(strchr(id, '/'));
    expect(&fixture, "GET", "/jars", NULL, 200, "\"name\":\"bad.jar\"");
    char *run = heap_printf("/jars/%s/run", id);
    char *jar = heap_printf("/jars/%s", id);
    expect(&fixture, "POST", run, "{}", 500, "the file is no shared object (no ELF header)");
    expect(&fixture, "DELETE", jar, NULL, 200, "{}");
    expect(&fixture, "DELETE", jar, NULL, 400, "does not exist in");
    free(run);
    free(jar);
    teardown(&fixture);
}
END_TEST

START_TEST(failing_programs_are_answered)
{
    struct fixture fixture;
    setup(&fixture);
    const struct {
        const char *script;
        const char *text;
        const char *timeout;
    } rows[] = {
        {"#!/bin/sh\necho boom >&2\nkill -SEGV $$\n", "crashed with signal 11", "1 min"},
        {"#!/bin/sh\nsleep 60\n", "did not end within 1000 ms and was killed", "1 s"},
        {"#!/bin/sh\necho hello\n", "gave no job graph", "1 min"},
        {"#!/bin/sh\necho '{\"error\":{\"code\":\"INVALID_PROGRAM\",\"message\":\"no sink\"}}'\nexit 1\n",
         "The main method caused an error: no sink", "1 min"},
        {"#!/bin/sh\nyes\n", "MiB of output and was killed", "1 min"},
        {"#!/bin/sh\necho '{\"version\":1}'\n", "Could not execute application.", "1 min"},
    };
    struct answer answer = upload(&fixture, "/proc/self/exe", "Program.so");
    ck_assert_int_eq(answer.status, 200);
    answer_finish(&answer);
    char *run = heap_printf("/v1/jars/%s/run", fixture.jobmanager->programs->programs.items[0]->id);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_file(fixture.jobmanager->compiler_path, rows[i].script, 0755);
        set_option(fixture.config, "program.compile.timeout", rows[i].timeout);
        expect(&fixture, "POST", run, "{}", 400, rows[i].text);
    }
    /* How the program's arguments arrive. */
    write_file(fixture.jobmanager->compiler_path,
               "#!/bin/sh\necho '{\"error\":{\"code\":\"INVALID_PROGRAM\",\"message\":\"given '\"${*##*-- }\"'.\"}}'\nexit 1\n", 0755);
    char *listed = heap_printf("%s?programArg=--a,1&programArg=b", run);
    expect(&fixture, "POST", listed, "{}", 400, "given --a 1 b.");
    expect(&fixture, "POST", listed, "{\"programArgsList\": [\"c\", \"d,e\"]}", 400, "given c d,e.");
    expect(&fixture, "POST", run, "{\"programArgsList\": \"--c\"}", 400, "programArgsList is no array of texts");
    free(listed);
    expect(&fixture, "POST", run, "{\"entryClass\": \"no_such_main\"}", 500, "The program's entry point 'no_such_main' was not found in Program.so.");
    expect(&fixture, "POST", run, "{\"parallelism\": 100000}", 400, "parallelism 100000");
    expect(&fixture, "GET", "/jobs", NULL, 200, "{\"jobs\":[]}");
    ck_assert_uint_eq(fixture.jobmanager->programs->blobs.count, 0);
    free(run);
    teardown(&fixture);
}
END_TEST

START_TEST(a_second_submission_answers_with_the_first)
{
    struct fixture fixture;
    setup(&fixture);
    register_taskmanager(&fixture);
    struct job *job = run_job(&fixture, "{\"jobId\": \"0000000000000000000000000000000b\", \"flinkConfiguration\": "
                                        "{\"state.checkpoints.num-retained\": \"3\"}}");
    ck_assert_uint_eq(job->settings.checkpoint_num_retained, 3);
    char *run = heap_printf("/jars/%s/run?jobid=0000000000000000000000000000000b", fixture.jobmanager->programs->programs.items[0]->id);
    expect(&fixture, "POST", run, NULL, 200, "{\"jobid\":\"0000000000000000000000000000000b\"}");
    ck_assert_uint_eq(fixture.jobmanager->coordinator->jobs.count, 1);
    ck_assert_uint_eq(fixture.jobmanager->programs->blobs.count, 1);
    free(run);
    run = heap_printf("/jars/%s/run", fixture.jobmanager->programs->programs.items[0]->id);
    expect(&fixture, "POST", run, "{\"savepointPath\": \"/tmp/no-such-savepoint\"}", 400,
           "Caused by: org.apache.flink.runtime.client.JobInitializationException: Could not start the JobMaster.\\n"
           "Caused by: java.util.concurrent.CompletionException: java.lang.RuntimeException: " NO_SAVEPOINT "\\n"
           "Caused by: java.lang.RuntimeException: " NO_SAVEPOINT "\\n"
           "Caused by: " NO_SAVEPOINT);
    expect(&fixture, "GET", "/overview", NULL, 200, "\"jobs-failed\":1");
    ck_assert_uint_eq(fixture.jobmanager->programs->blobs.count, 1);
    free(run);
    teardown(&fixture);
}
END_TEST

/* ---- hostile clients ---- */

static void say(struct fixture *fixture, const char *text, size_t length)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(rest_server_port(fixture->jobmanager->rest))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert(send(fd, text, length, MSG_NOSIGNAL) >= 0);
    for (int i = 0; i < 20; i++) {
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
        usleep(100);
    }
    close(fd);
}

START_TEST(strangers_do_no_harm)
{
    struct fixture fixture;
    setup(&fixture);
    char *garbage = heap_alloc(200000);
    memset(garbage, 'A', 200000);
    say(&fixture, garbage, 200000);
    memset(garbage, 0xff, 200000);
    say(&fixture, garbage, 100);
    const char *const requests[] = {
        "GET /jobs/%00%ff%2e%2e HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /jars/upload HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 99999999999\r\n\r\n",
        "POST /jars/upload HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: "
        "200\r\n\r\n--x\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"a.so\"\r\n\r\nabc",
        "POST /jobs/x/stop HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /config HTTP/9.9\r\n\r\n",
        "\r\n\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        say(&fixture, requests[i], strlen(requests[i]));
    free(garbage);
    expect(&fixture, "GET", "/config", NULL, 200, "flink-version");
    teardown(&fixture);
}
END_TEST

START_TEST(words_are_split_as_in_a_shell)
{
    struct word_list words = {0};
    shell_words_split("  --a 'b c'  \"d\\\"e\" f\\ g '' --x=\"y z\"w ", &words);
    const char *const expected[] = {"--a", "b c", "d\"e", "f g", "", "--x=y zw"};
    ck_assert_uint_eq(words.count, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < words.count; i++)
        ck_assert_str_eq(words.items[i], expected[i]);
    word_list_finish(&words);
}
END_TEST

/* A pool thread may answer while connections are still being closed: what the core then wants to be woken for does not matter any more. */
START_TEST(an_event_after_the_stop_does_not_hold_it_up)
{
    struct fixture fixture;
    setup(&fixture);
    stopping = &fixture;
    jobmanager_stop(fixture.jobmanager, on_stopped);
    register_taskmanager(&fixture);
    uv_run(&fixture.loop, UV_RUN_DEFAULT); /* ends when nothing is left to wait for */
    ck_assert(fixture.is_stopped);
    teardown(&fixture);
}
END_TEST

int main(void)
{
    curl_global_init(CURL_GLOBAL_ALL);
    Suite *suite = suite_create("rest");
    TCase *tcase = tcase_create("rest");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, answers_have_the_recorded_shapes);
    tcase_add_test(tcase, diagnosis_has_its_shape);
    tcase_add_test(tcase, secrets_of_a_job_are_not_shown);
    tcase_add_test(tcase, numbers_come_from_reports);
    tcase_add_test(tcase, flame_graphs_are_off_by_default);
    tcase_add_test(tcase, applications_are_jobs);
    tcase_add_test(tcase, stacks_become_a_tree);
    tcase_add_test(tcase, errors_are_worded_as_recorded);
    tcase_add_test(tcase, operations_are_polled);
    tcase_add_test(tcase, uploads_are_checked);
    tcase_add_test(tcase, failing_programs_are_answered);
    tcase_add_test(tcase, a_second_submission_answers_with_the_first);
    tcase_add_test(tcase, strangers_do_no_harm);
    tcase_add_test(tcase, words_are_split_as_in_a_shell);
    tcase_add_test(tcase, an_event_after_the_stop_does_not_hold_it_up);
    suite_add_tcase(suite, tcase);
    int status = run_suite(suite);
    curl_global_cleanup();
    return status;
}
