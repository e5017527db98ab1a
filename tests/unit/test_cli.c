/* The flink client against a server that replays recorded answers: the lines that it prints are Flink's, the requests that it makes
 * are the recorded ones. The server is a child process, so that the client has its process to itself. */
#include "client/cli/cli.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "tests/unit/run_suite.h"

#include <arpa/inet.h>
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOB "4620530634626e950011d56a1eefd627"

/* Rows of the same request answer one after the other; the last one stays. */
struct reply {
    const char *request; /* "GET /v1/jobs/overview"; a blank and the body follow when it matters */
    int status;
    const char *body;
};

static struct {
    pid_t pid;
    char port[16];
} server;

/* Reads one request: the head and as many bytes as Content-Length says. Chunked bodies are read to their end mark. */
static bool read_request(int fd, struct str_buf *request)
{
    str_buf_clear(request);
    for (;;) {
        const char *end = strstr(str_buf_text(request), "\r\n\r\n");
        if (end != NULL) {
            const char *length = strcasestr(request->text, "content-length:");
            size_t wanted = (size_t)(end + 4 - request->text) + (length != NULL && length < end ? (size_t)atol(length + 15) : 0);
            if (request->length >= wanted)
                return true;
        }
        char *room = str_buf_reserve(request, 65536);
        ssize_t got = read(fd, room, 65536);
        if (got <= 0)
            return false;
        str_buf_advance(request, (size_t)got);
    }
}

static bool matches(const char *request, const char *wanted)
{
    const char *body = strstr(wanted, " {");
    size_t length = body != NULL ? (size_t)(body - wanted) : strlen(wanted);
    if (strncmp(request, wanted, length) != 0 || strncmp(request + length, " HTTP/1.1\r\n", 11) != 0)
        return false;
    return body == NULL || strstr(request, body + 1) != NULL;
}

static void answer(int fd, const struct reply *replies, size_t count, bool *is_used, const char *request)
{
    const struct reply *reply = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!matches(request, replies[i].request) || (is_used[i] && reply != NULL))
            continue;
        if (reply == NULL || !is_used[i])
            reply = &replies[i];
        if (!is_used[i]) {
            is_used[i] = true;
            break;
        }
    }
    const char *body = reply != NULL ? reply->body : "{\"errors\":[\"unexpected request\"]}";
    dprintf(fd, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", reply != NULL ? reply->status : 500,
            strlen(body), body);
    if (reply == NULL)
        fprintf(stderr, "unexpected request: %.400s\n", request);
}

_Noreturn static void serve(int listener, const struct reply *replies, size_t count)
{
    bool *is_used = heap_alloc_array(count + 1, sizeof *is_used);
    struct str_buf request = {0};
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        while (fd >= 0 && read_request(fd, &request))
            answer(fd, replies, count, is_used, str_buf_text(&request));
        if (fd >= 0)
            close(fd);
    }
}

static void start_server(const struct reply *replies, size_t count)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 8), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    snprintf(server.port, sizeof server.port, ":%u", (unsigned)ntohs(address.sin_port));
    fflush(NULL);
    server.pid = fork();
    ck_assert_int_ge(server.pid, 0);
    if (server.pid == 0)
        serve(listener, replies, count);
    close(listener);
}

static void stop_server(void)
{
    kill(server.pid, SIGKILL);
    waitpid(server.pid, NULL, 0);
}

static char *read_back(int fd)
{
    off_t length = lseek(fd, 0, SEEK_END);
    char *text = heap_alloc((size_t)length + 1);
    ck_assert_int_eq(pread(fd, text, (size_t)length, 0), length);
    close(fd);
    return text;
}

/* words are separated by blanks; "-m localhost<port>" goes behind the action when a server runs. */
static int run_cli(const char *words, char **out, char **err)
{
    char *copy = heap_strdup(words);
    char *address = heap_printf("localhost%s", server.port);
    char *argv[32];
    char program[] = "flink";
    char option[] = "-m";
    int argc = 0;
    argv[argc++] = program;
    for (char *word = strtok(copy, " "); word != NULL && argc < 28; word = strtok(NULL, " ")) {
        argv[argc++] = word;
        if (argc == 2 && server.port[0] != '\0') {
            argv[argc++] = option;
            argv[argc++] = address;
        }
    }
    argv[argc] = NULL;
    int out_fd = memfd_create("out", 0), err_fd = memfd_create("err", 0);
    fflush(NULL);
    int saved_out = dup(STDOUT_FILENO), saved_err = dup(STDERR_FILENO);
    dup2(out_fd, STDOUT_FILENO);
    dup2(err_fd, STDERR_FILENO);
    int code = cli_main(argc, argv);
    fflush(NULL);
    dup2(saved_out, STDOUT_FILENO);
    dup2(saved_err, STDERR_FILENO);
    close(saved_out);
    close(saved_err);
    *out = read_back(out_fd);
    *err = read_back(err_fd);
    free(copy);
    free(address);
    return code;
}

static void expect(const char *words, const struct reply *replies, size_t count, int code, const char *out, const char *err)
{
    server.port[0] = '\0';
    if (count > 0)
        start_server(replies, count);
    char *out_text = NULL, *err_text = NULL;
    int got = run_cli(words, &out_text, &err_text);
    if (count > 0)
        stop_server();
    ck_assert_msg(got == code, "exit code %d, not %d; stdout:\n%s\nstderr:\n%s", got, code, out_text, err_text);
    ck_assert_str_eq(out_text, out);
    ck_assert_str_eq(err_text, err);
    free(out_text);
    free(err_text);
}

#define COUNT(replies) (sizeof(replies) / sizeof(replies)[0])
#define EXCEPTION(text) "\n------------------------------------------------------------\n The program finished with the following exception:\n\n" text
#define USE_HELP "\n\nUse the help option (-h or --help) to get help on the command.\n"

#define JOB_ROW(id, start, state) "{\"jid\":\"" id "\",\"name\":\"Click Event Count\",\"start-time\":" start ",\"end-time\":-1,\"duration\":1,\"state\":\"" state "\"}"
#define BAR "--------------------------------------------------------------\n"

START_TEST(list_prints_flinks_lines)
{
    static const struct reply jobs[] = {
        {"GET /v1/jobs/overview", 200,
         "{\"jobs\":[" JOB_ROW("aa53a8d20f51fa3d1ffa535b05b06ad7", "1795374895000", "RUNNING") "," JOB_ROW(JOB, "1795374887000", "RESTARTING")
         "," JOB_ROW("d9dddf0bc5e6d5a646b70ac9926b2185", "1795374205874", "FAILED") "," JOB_ROW("1aee90e3b10eb69da6c22e1e8e0e462c",
                                                                                                "1795374809875", "CREATED")
         "," JOB_ROW("ddea8b897554ecc94a8bd858e995b69f", "1795374206000", "FINISHED") "]}"}};
    static const struct reply none[] = {{"GET /v1/jobs/overview", 200, "{\"jobs\":[]}"}};
    static const char running[] = "------------------ Running/Restarting Jobs -------------------\n"
                                  "22.11.2026 19:14:47 : " JOB " : Click Event Count (RESTARTING)\n"
                                  "22.11.2026 19:14:55 : aa53a8d20f51fa3d1ffa535b05b06ad7 : Click Event Count (RUNNING)\n" BAR;
    static const char scheduled[] = "----------------------- Scheduled Jobs -----------------------\n"
                                    "22.11.2026 19:13:29 : 1aee90e3b10eb69da6c22e1e8e0e462c : Click Event Count (CREATED)\n" BAR;
    static const char terminated[] = "---------------------- Terminated Jobs -----------------------\n"
                                     "22.11.2026 19:03:25 : d9dddf0bc5e6d5a646b70ac9926b2185 : Click Event Count (FAILED)\n"
                                     "22.11.2026 19:03:26 : ddea8b897554ecc94a8bd858e995b69f : Click Event Count (FINISHED)\n" BAR;
    char text[4096];
    snprintf(text, sizeof text, "Waiting for response...\n%s%s", running, scheduled);
    expect("list", jobs, 1, 0, text, "");
    snprintf(text, sizeof text, "Waiting for response...\n%s%s%s", running, scheduled, terminated);
    expect("list -a", jobs, 1, 0, text, "");
    snprintf(text, sizeof text, "Waiting for response...\n%s", running);
    expect("list --running", jobs, 1, 0, text, "");
    snprintf(text, sizeof text, "Waiting for response...\n%s", scheduled);
    expect("list -s", jobs, 1, 0, text, "");
    expect("list", none, 1, 0, "Waiting for response...\nNo running jobs.\nNo scheduled jobs.\n", "");
}
END_TEST

#define FINDING(severity, sentence, hint) "{\"kind\":\"k\",\"severity\":\"" severity "\",\"sentence\":\"" sentence "\",\"hint\":" hint "}"

START_TEST(diagnosis_is_told_worst_first)
{
    static const struct reply ill[] = {
        {"GET /v1/jobs/" JOB "/diagnosis", 200,
         "{\"summary\":\"Too few slots.\",\"findings\":[" FINDING("error", "Too few slots.", "\"start more\"") "," FINDING(
             "info", "It is so.", "null") "]}"}};
    static const struct reply limping[] = {
        {"GET /v1/jobs/" JOB "/diagnosis", 200,
         "{\"summary\":\"Slow.\",\"findings\":[" FINDING("warning", "Slow.", "\"wait\"") "]}"}};
    static const struct reply well[] = {{"GET /v1/jobs/" JOB "/diagnosis", 200, "{\"summary\":\"The job is healthy.\",\"findings\":[]}"}};
    static const struct reply missing[] = {{"GET /v1/jobs/" JOB "/diagnosis", 404, "{\"errors\":[\"no such job\"]}"}};
    expect("diagnose " JOB, ill, 1, 2, "Too few slots.\nerror    Too few slots.\n         start more\ninfo     It is so.\n", "");
    expect("diagnose " JOB, limping, 1, 0, "Slow.\nwarning  Slow.\n         wait\n", "");
    expect("diagnose " JOB, well, 1, 0, "The job is healthy.\n", "");
    expect("diagnose --json " JOB, well, 1, 0, "{\n  \"summary\": \"The job is healthy.\",\n  \"findings\": []\n}\n", "");
    expect("diagnose " JOB, missing, 1, 1, "",
           EXCEPTION("org.apache.flink.util.FlinkException: Could not diagnose the job " JOB ".\nCaused by: no such job\n"));
    expect("diagnose", NULL, 0, 1, "Missing JobID. Specify a JobID to diagnose." USE_HELP, "");
    expect("diagnose abc", NULL, 0, 1,
           "Cannot parse JobID from \"abc\". The expected format is [0-9a-fA-F]{32}, e.g. fd72014d4c864993a2e5a9287b4a9c5d." USE_HELP, "");
}
END_TEST

START_TEST(cancel_reports_what_the_server_says)
{
    static const struct reply accepted[] = {{"PATCH /v1/jobs/" JOB "?mode=cancel", 202, "{}"}};
    static const struct reply missing[] = {
        {"PATCH /v1/jobs/" JOB "?mode=cancel", 404,
         "{\"errors\":[\"org.apache.flink.runtime.rest.handler.RestHandlerException: Job could not be found.\\n\\tat "
         "org.apache.flink.X.y(X.java:128)\\nCaused by: "
         "org.apache.flink.runtime.messages.FlinkJobNotFoundException: Could not find Flink job (" JOB ")\\n\\t... 5 more\\n\"]}"}};
    expect("cancel " JOB, accepted, 1, 0, "Cancelling job " JOB ".\nCancelled job " JOB ".\n", "");
    expect("cancel " JOB, missing, 1, 1, "Cancelling job " JOB ".\n",
           EXCEPTION("org.apache.flink.util.FlinkException: Could not cancel job " JOB ".\n"
                     "Caused by: org.apache.flink.runtime.rest.util.RestClientException: "
                     "[org.apache.flink.runtime.rest.handler.RestHandlerException: Job could not be found.\n"
                     "Caused by: org.apache.flink.runtime.messages.FlinkJobNotFoundException: Could not find Flink job (" JOB ")]\n"));
    expect("cancel", NULL, 0, 1, "Missing JobID. Specify a JobID to cancel a job." USE_HELP, "");
    expect("cancel xyz", NULL, 0, 1,
           "Cannot parse JobID from \"xyz\". The expected format is [0-9a-fA-F]{32}, e.g. fd72014d4c864993a2e5a9287b4a9c5d." USE_HELP, "");
}
END_TEST

#define TRIGGER "fe22b093b4f6ee38cac09dbfc7f6ba5d"
#define LOCATION "file:/tmp/flink-savepoints/savepoint-462053-6aa889627dc2"

START_TEST(savepoints_are_waited_for)
{
    static const struct reply cancel[] = {
        {"POST /v1/jobs/" JOB "/savepoints {\"target-directory\":\"/tmp/s\",\"cancel-job\":true,\"formatType\":\"CANONICAL\",\"triggerId\":null}", 202,
         "{\"request-id\":\"" TRIGGER "\"}"},
        {"POST /v1/jobs/" JOB "/savepoints {\"target-directory\":null,\"cancel-job\":true,\"formatType\":\"CANONICAL\",\"triggerId\":null}", 202,
         "{\"request-id\":\"" TRIGGER "\"}"},
        {"GET /v1/jobs/" JOB "/savepoints/" TRIGGER, 200, "{\"status\":{\"id\":\"IN_PROGRESS\"},\"operation\":null}"},
        {"GET /v1/jobs/" JOB "/savepoints/" TRIGGER, 200, "{\"status\":{\"id\":\"COMPLETED\"},\"operation\":{\"location\":\"" LOCATION "\"}}"}};
    expect("cancel -s " JOB, cancel, COUNT(cancel), 0,
           "DEPRECATION WARNING: Cancelling a job with savepoint is deprecated. Use \"stop\" instead.\nCancelling job " JOB
           " with CANONICAL savepoint to default savepoint directory.\nCancelled job " JOB ". Savepoint stored in " LOCATION ".\n", "");
    expect("cancel -s /tmp/s " JOB, cancel, COUNT(cancel), 0,
           "DEPRECATION WARNING: Cancelling a job with savepoint is deprecated. Use \"stop\" instead.\nCancelling job " JOB
           " with CANONICAL savepoint to /tmp/s.\nCancelled job " JOB ". Savepoint stored in " LOCATION ".\n", "");
    static const struct reply savepoint[] = {
        {"POST /v1/jobs/" JOB "/savepoints {\"target-directory\":\"/tmp/s\",\"cancel-job\":false,\"formatType\":\"NATIVE\",\"triggerId\":null}", 202,
         "{\"request-id\":\"" TRIGGER "\"}"},
        {"GET /v1/jobs/" JOB "/savepoints/" TRIGGER, 200, "{\"status\":{\"id\":\"COMPLETED\"},\"operation\":{\"location\":\"" LOCATION "\"}}"}};
    expect("savepoint -type native " JOB " /tmp/s", savepoint, COUNT(savepoint), 0,
           "Triggering savepoint for job " JOB ".\nWaiting for response...\nSavepoint completed. Path: " LOCATION
           "\nYou can resume your program from this savepoint with the run command.\n", "");
    expect("savepoint --detached --type=native " JOB " /tmp/s", savepoint, COUNT(savepoint), 0,
           "Triggering savepoint in detached mode for job " JOB ".\nSuccessfully trigger manual savepoint, triggerId: " TRIGGER "\n", "");
    expect("savepoint", NULL, 0, 1, "Missing JobID. Specify a Job ID to trigger a savepoint." USE_HELP, "");
    static const struct reply failed[] = {
        {"POST /v1/jobs/" JOB "/savepoints", 202, "{\"request-id\":\"" TRIGGER "\"}"},
        {"GET /v1/jobs/" JOB "/savepoints/" TRIGGER, 200,
         "{\"status\":{\"id\":\"COMPLETED\"},\"operation\":{\"failure-cause\":{\"class\":\"C\",\"stack-trace\":\"java.util.concurrent.CompletionException: "
         "org.apache.flink.runtime.messages.FlinkJobNotFoundException: Could not find Flink job (" JOB ")\\n\\tat x(Y.java:1)\\nCaused by: "
         "org.apache.flink.runtime.messages.FlinkJobNotFoundException: Could not find Flink job (" JOB ")\\n\\t... 37 more\\n\"}}}"}};
    expect("savepoint " JOB, failed, COUNT(failed), 1, "Triggering savepoint for job " JOB ".\nWaiting for response...\n",
           EXCEPTION("org.apache.flink.util.FlinkException: Failed to trigger a savepoint for the job " JOB ".\n"
                     "Caused by: java.util.concurrent.CompletionException: org.apache.flink.runtime.messages.FlinkJobNotFoundException: "
                     "Could not find Flink job (" JOB ")\n"
                     "Caused by: org.apache.flink.runtime.messages.FlinkJobNotFoundException: Could not find Flink job (" JOB ")\n"));
}
END_TEST

START_TEST(savepoints_are_disposed)
{
    static const struct reply dispose[] = {{"POST /v1/savepoint-disposal {\"savepoint-path\":\"" LOCATION "\"}", 200,
                                            "{\"request-id\":\"" TRIGGER "\"}"},
                                           {"GET /v1/savepoint-disposal/" TRIGGER, 200, "{\"status\":{\"id\":\"COMPLETED\"},\"operation\":{}}"}};
    expect("savepoint -d " LOCATION, dispose, COUNT(dispose), 0,
           "Disposing savepoint '" LOCATION "'.\nWaiting for response...\nSavepoint '" LOCATION "' disposed.\n", "");
}
END_TEST

START_TEST(stop_with_and_without_drain)
{
    static const struct reply stop[] = {
        {"POST /v1/jobs/" JOB "/stop {\"targetDirectory\":null,\"drain\":true,\"formatType\":\"CANONICAL\",\"triggerId\":null}", 202,
         "{\"request-id\":\"" TRIGGER "\"}"},
        {"POST /v1/jobs/" JOB "/stop {\"targetDirectory\":\"/tmp/s\",\"drain\":false,\"formatType\":\"CANONICAL\",\"triggerId\":null}", 202,
         "{\"request-id\":\"" TRIGGER "\"}"},
        {"GET /v1/jobs/" JOB "/savepoints/" TRIGGER, 200, "{\"status\":{\"id\":\"COMPLETED\"},\"operation\":{\"location\":\"" LOCATION "\"}}"}};
    expect("stop --drain " JOB, stop, COUNT(stop), 0,
           "Draining job \"" JOB "\" with a CANONICAL savepoint.\nTriggering stop-with-savepoint for job " JOB
           ".\nWaiting for response...\nSavepoint completed. Path: " LOCATION "\n", "");
    expect("stop --savepointPath /tmp/s " JOB, stop, COUNT(stop), 0,
           "Suspending job \"" JOB "\" with a CANONICAL savepoint.\nTriggering stop-with-savepoint for job " JOB
           ".\nWaiting for response...\nSavepoint completed. Path: " LOCATION "\n", "");
    expect("stop -detached -d " JOB, stop, COUNT(stop), 0,
           "Draining job \"" JOB "\" with a CANONICAL savepoint.\nTriggering stop-with-savepoint in detached mode for job " JOB
           ".\nSuccessfully trigger stop-with-savepoint in detached mode, triggerId: " TRIGGER "\n", "");
    expect("stop", NULL, 0, 1, "Missing JobId" USE_HELP, "");
}
END_TEST

START_TEST(checkpoints_are_triggered)
{
    static const struct reply replies[] = {
        {"POST /v1/jobs/" JOB "/checkpoints {\"checkpointType\":\"FULL\",\"triggerId\":null}", 202, "{\"request-id\":\"" TRIGGER "\"}"},
        {"POST /v1/jobs/" JOB "/checkpoints {\"checkpointType\":\"CONFIGURED\",\"triggerId\":null}", 202, "{\"request-id\":\"" TRIGGER "\"}"},
        {"GET /v1/jobs/" JOB "/checkpoints/" TRIGGER, 200, "{\"status\":{\"id\":\"COMPLETED\"},\"operation\":{\"checkpointId\":49}}"}};
    expect("checkpoint --full " JOB, replies, COUNT(replies), 0,
           "Triggering checkpoint for job " JOB ".\nWaiting for response...\nCheckpoint(FULL) 49 for job " JOB
           " completed.\nYou can resume your program from this checkpoint with the run command.\n", "");
    expect("checkpoint " JOB, replies, COUNT(replies), 0,
           "Triggering checkpoint for job " JOB ".\nWaiting for response...\nCheckpoint 49 for job " JOB
           " completed.\nYou can resume your program from this checkpoint with the run command.\n", "");
}
END_TEST

#define FIXED "-D$internal.pipeline.job-id=" JOB
#define UPLOADED {"POST /v1/jars/upload", 200, "{\"filename\":\"/tmp/flink-web-upload/546f7080_test.so\",\"status\":\"success\"}"}
#define DELETED {"DELETE /v1/jars/546f7080_test.so", 200, "{}"}
#define RUN "POST /v1/jars/546f7080_test.so/run"

START_TEST(run_uploads_runs_and_waits)
{
    static const struct reply detached[] = {
        UPLOADED, DELETED,
        {RUN " {\"jobId\":\"" JOB "\",\"programArgsList\":[\"--event-time\",\"-d\"],\"entryClass\":\"other\",\"flinkConfiguration\":{\"a\":\"b\",\"$internal.pipeline.job-id\":\"" JOB
             "\"},\"parallelism\":2,\"savepointPath\":\"/tmp/s\",\"allowNonRestoredState\":true}", 200, "{\"jobid\":\"" JOB "\"}"},
        {"GET /v1/jobs/" JOB "/status", 200, "{\"status\":\"RUNNING\"}"}};
    expect("run -d -s /tmp/s -n -p 2 -c other -D a=b " FIXED " /etc/passwd --event-time -d", detached, COUNT(detached), 0,
           "Job has been submitted with JobID " JOB "\n", "");
    static const struct reply detached_plain[] = {
        UPLOADED, DELETED, {RUN, 200, "{\"jobid\":\"" JOB "\"}"}, {"GET /v1/jobs/" JOB "/status", 200, "{\"status\":\"RUNNING\"}"}};
    static const struct reply parallel[] = {
        UPLOADED, DELETED,
        {RUN " {\"jobId\":\"" JOB "\",\"programArgsList\":[],\"flinkConfiguration\":{\"$internal.pipeline.job-id\":\"" JOB
             "\"},\"parallelism\":3}", 200, "{\"jobid\":\"" JOB "\"}"},
        {"GET /v1/jobs/" JOB "/status", 200, "{\"status\":\"RUNNING\"}"}};
    expect("run -d -p3 " FIXED " /etc/passwd", parallel, COUNT(parallel), 0, "Job has been submitted with JobID " JOB "\n", "");
    expect("run -dp3 " FIXED " /etc/passwd", parallel, COUNT(parallel), 0, "Job has been submitted with JobID " JOB "\n", "");
    expect("run -dp 3 " FIXED " /etc/passwd", parallel, COUNT(parallel), 0, "Job has been submitted with JobID " JOB "\n", "");
    /* A name that is no part of a path as it stands. */
    static const struct reply odd_name[] = {
        {"POST /v1/jars/upload", 200, "{\"filename\":\"/tmp/u/5_my j\xc3\xb6""b%41#?.so\",\"status\":\"success\"}"},
        {"POST /v1/jars/5_my%20j%C3%B6b%2541%23%3F.so/run", 200, "{\"jobid\":\"" JOB "\"}"},
        {"DELETE /v1/jars/5_my%20j%C3%B6b%2541%23%3F.so", 200, "{}"},
        {"GET /v1/jobs/" JOB "/status", 200, "{\"status\":\"RUNNING\"}"}};
    expect("run -d " FIXED " /etc/passwd", odd_name, COUNT(odd_name), 0, "Job has been submitted with JobID " JOB "\n", "");
    expect("run -d -D execution.checkpointing.intervall=10s -D my.own=1 " FIXED " /etc/passwd", detached_plain, COUNT(detached_plain), 0,
           "Job has been submitted with JobID " JOB "\n",
           "WARNING: Unknown configuration key execution.checkpointing.intervall (-D). Did you mean execution.checkpointing.interval?\n");
    static const struct reply attached[] = {
        UPLOADED, DELETED, {RUN, 200, "{\"jobid\":\"" JOB "\"}"},
        {"GET /v1/jobs/" JOB "/status", 200, "{\"status\":\"INITIALIZING\"}"}, {"GET /v1/jobs/" JOB "/status", 200, "{\"status\":\"RUNNING\"}"},
        {"GET /v1/jobs/" JOB "/execution-result", 200, "{\"status\":{\"id\":\"IN_PROGRESS\"}}"},
        {"GET /v1/jobs/" JOB "/execution-result", 200,
         "{\"status\":{\"id\":\"COMPLETED\"},\"job-execution-result\":{\"id\":\"" JOB "\",\"application-status\":\"SUCCEEDED\",\"accumulator-results\":{},\"net-runtime\":8039}}"}};
    expect("run " FIXED " /etc/passwd", attached, COUNT(attached), 0,
           "Job has been submitted with JobID " JOB "\nProgram execution finished\nJob with JobID " JOB " has finished.\nJob Runtime: 8039 "
                                                                                                        "ms\n\n", "");
    static const struct reply cancelled[] = {
        UPLOADED, DELETED, {RUN, 200, "{\"jobid\":\"" JOB "\"}"}, {"GET /v1/jobs/" JOB "/status", 200, "{\"status\":\"RUNNING\"}"},
        {"GET /v1/jobs/" JOB "/execution-result", 200,
         "{\"status\":{\"id\":\"COMPLETED\"},\"job-execution-result\":{\"id\":\"" JOB "\",\"application-status\":\"CANCELED\",\"accumulator-results\":{},\"net-runtime\":7139}}"}};
    expect("run " FIXED " /etc/passwd", cancelled, COUNT(cancelled), 1, "Job has been submitted with JobID " JOB "\n",
           EXCEPTION("org.apache.flink.client.program.ProgramInvocationException: The main method caused an error: "
                     "org.apache.flink.client.program.ProgramInvocationException: Job failed (JobID: " JOB ")\n"
                     "Caused by: org.apache.flink.client.program.ProgramInvocationException: Job failed (JobID: " JOB ")\n"
                     "Caused by: org.apache.flink.runtime.client.JobCancellationException: Job was cancelled.\n"));
}
END_TEST

START_TEST(run_explains_failures)
{
    static const struct reply bad_entry[] = {
        UPLOADED, DELETED,
        {RUN, 500,
         "{\"errors\":[\"Internal server error.\",\"<Exception on server side:\\njava.util.concurrent.CompletionException: "
         "org.apache.flink.client.program.ProgramInvocationException: The program's entry point class 'no.such.Main' was not found in the "
         "jar file.\\n\\tat a.b(C.java:1)\\n"
         "Caused by: java.lang.ClassNotFoundException: no.such.Main\\n\\t... 11 more\\n\\nEnd of exception on server side>\"]}"}};
    expect("run -d -c no.such.Main /etc/passwd", bad_entry, COUNT(bad_entry), 1, "",
           EXCEPTION("org.apache.flink.client.program.ProgramInvocationException: The program's entry point class 'no.such.Main' was not "
                     "found in the jar file.\n"
                     "Caused by: java.lang.ClassNotFoundException: no.such.Main\n"));
    static const struct reply no_library[] = {
        UPLOADED, DELETED,
        {RUN, 500,
         "{\"errors\":[\"Internal server error.\",\"<Exception on server side:\\njava.util.concurrent.CompletionException: "
         "org.apache.flink.client.program.ProgramInvocationException: garbage.so cannot be run\\n"
         "Caused by: org.apache.flink.client.program.ProgramInvocationException: garbage.so cannot be run\\n"
         "Caused by: the file is no shared object (a hint)\\n\\nEnd of exception on server side>\"]}"}};
    /* Once is enough: what the server's asynchronous call wraps is the same. */
    expect("run -d /etc/passwd", no_library, COUNT(no_library), 1, "",
           EXCEPTION("org.apache.flink.client.program.ProgramInvocationException: garbage.so cannot be run\n"
                     "Caused by: the file is no shared object (a hint)\n"));
    static const struct reply bad_savepoint[] = {
        UPLOADED, DELETED, {RUN, 200, "{\"jobid\":\"" JOB "\"}"}, {"GET /v1/jobs/" JOB "/status", 200, "{\"status\":\"FAILED\"}"},
        {"GET /v1/jobs/" JOB "/execution-result", 200,
         "{\"status\":{\"id\":\"COMPLETED\"},\"job-execution-result\":{\"application-status\":\"FAILED\",\"failure-cause\":{\"class\":\"o.JobInitializationException\","
         "\"stack-trace\":\"o.JobInitializationException: Could not start the JobMaster.\\n\\tat x\\nCaused by: "
         "java.io.FileNotFoundException: Cannot find it\"}}}"}};
    expect("run -d " FIXED " /etc/passwd", bad_savepoint, COUNT(bad_savepoint), 1, "",
           EXCEPTION("org.apache.flink.client.program.ProgramInvocationException: The main method caused an error: Failed to execute job.\n"
                     "Caused by: o.JobInitializationException: Could not start the JobMaster.\nCaused by: java.io.FileNotFoundException: "
                     "Cannot find it\n"));
    expect("run", NULL, 0, 1, "Java program should be specified a JAR file." USE_HELP, "");
    expect("run -d /tmp/no-such.so", NULL, 0, 1,
           "Could not get job jar and dependencies from JAR file: JAR file does not exist: /tmp/no-such.so" USE_HELP, "");
    static const struct reply no_program[] = {
        {"POST /v1/jars/upload", 400, "{\"errors\":[\"o.RestHandlerException: Only Jar files are allowed.\\n\"]}"}};
    expect("run -d /etc/passwd", no_program, COUNT(no_program), 1, "",
           EXCEPTION("org.apache.flink.client.program.ProgramInvocationException: The main method caused an error: Failed to execute job.\n"
                     "Caused by: o.RestHandlerException: Only Jar files are allowed.\n"
                     "(a program is a shared object: its file's name ends with .so, or with .jar)\n"));
    static const struct reply no_token[] = {{"POST /v1/jars/upload", 401, "{\"errors\":[\"Unauthorized\"]}"},
                                            {"PATCH /v1/jobs/" JOB "?mode=cancel", 401, "{\"errors\":[\"Unauthorized\"]}"}};
    expect("run -d /etc/passwd", no_token, COUNT(no_token), 1, "",
           EXCEPTION("org.apache.flink.client.program.ProgramInvocationException: The main method caused an error: Failed to execute job.\n"
                     "Caused by: Unauthorized\n(set security.rest.token-file to a file with the cluster's token)\n"));
    expect("cancel " JOB, no_token, COUNT(no_token), 1, "Cancelling job " JOB ".\n",
           EXCEPTION("org.apache.flink.util.FlinkException: Could not cancel job " JOB ".\n"
                     "Caused by: org.apache.flink.runtime.rest.util.RestClientException: [Unauthorized]\n"
                     "(set security.rest.token-file to a file with the cluster's token)\n"));
    /* An unset variable in a script: the job must not start without its state. */
    expect("run -d -s= /etc/passwd", NULL, 0, 1, "The path of the savepoint to start from is empty." USE_HELP, "");
    expect("run -d -s /tmp/\xff /etc/passwd", NULL, 0, 1, "The savepoint path \"/tmp/\xff\" is not UTF-8." USE_HELP, "");
    expect("run -p zero /etc/passwd", NULL, 0, 1, "The parallelism must be a positive number: zero" USE_HELP, "");
}
END_TEST

START_TEST(no_cluster_is_told_at_once)
{
    expect("list -m localhost:1 -D rest.retry.delay=1ms", NULL, 0, 1, "Waiting for response...\n",
           EXCEPTION("org.apache.flink.util.FlinkException: Failed to retrieve job list.\n"
                     "Caused by: org.apache.flink.util.concurrent.FutureUtils$RetryException: Could not complete the operation. Number of "
                     "retries has been exhausted.\n"
                     "Caused by: java.net.ConnectException: Connection refused: localhost/127.0.0.1:1\n"));
    expect("list -m localhost:http", NULL, 0, 1, "The given host:port ('localhost:http') doesn't contain a valid port" USE_HELP, "");
    expect("list --bogus", NULL, 0, 1, "Unrecognized option: --bogus" USE_HELP, "");
    expect("list -bogus", NULL, 0, 1, "Unrecognized option: -bogus" USE_HELP, "");
    expect("stop -dran " JOB, NULL, 0, 1, "Unrecognized option: -dran" USE_HELP, "");
    expect("run -dp", NULL, 0, 1, "Missing argument for option: p" USE_HELP, "");
    static const struct reply no_json[] = {{"GET /v1/jobs/overview", 200, "<html>"}};
    char *out = NULL, *err = NULL;
    start_server(no_json, 1);
    ck_assert_int_eq(run_cli("list", &out, &err), 1);
    stop_server();
    ck_assert_ptr_nonnull(strstr(err, "is this a jobmanager?"));
    free(out);
    free(err);
}
END_TEST

START_TEST(help_and_actions)
{
    char *out = NULL, *err = NULL;
    server.port[0] = '\0';
    ck_assert_int_eq(run_cli("foo", &out, &err), 1);
    ck_assert_ptr_nonnull(strstr(out, "\"foo\" is not a valid action.\n"));
    free(out);
    free(err);
    ck_assert_int_eq(run_cli("", &out, &err), 1);
    ck_assert_ptr_nonnull(strstr(out, "\n\n\nPlease specify an action.\n"));
    free(out);
    free(err);
    static const char *const helps[] = {"run -h", "info -h", "list --help", "stop -h", "cancel -h", "savepoint -h", "checkpoint -h", "--help"};
    for (size_t i = 0; i < COUNT(helps); i++) {
        ck_assert_int_eq(run_cli(helps[i], &out, &err), 0);
        ck_assert_ptr_nonnull(strstr(out, "Syntax: "));
        ck_assert_ptr_null(strstr(out, " \n"));
        free(out);
        free(err);
    }
    ck_assert_int_eq(run_cli("--version", &out, &err), 0);
    ck_assert_int_eq(strncmp(out, "Version: ", 9), 0);
    free(out);
    free(err);
}
END_TEST

int main(void)
{
    setenv("TZ", "UTC", 1);
    unsetenv("FLINK_CONF_DIR");
    unsetenv("MILLRACE_CONF_DIR");
    unsetenv("FLINK_PROPERTIES");
    Suite *suite = suite_create("cli");
    TCase *tcase = tcase_create("flink");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, list_prints_flinks_lines);
    tcase_add_test(tcase, diagnosis_is_told_worst_first);
    tcase_add_test(tcase, cancel_reports_what_the_server_says);
    tcase_add_test(tcase, savepoints_are_waited_for);
    tcase_add_test(tcase, savepoints_are_disposed);
    tcase_add_test(tcase, stop_with_and_without_drain);
    tcase_add_test(tcase, checkpoints_are_triggered);
    tcase_add_test(tcase, run_uploads_runs_and_waits);
    tcase_add_test(tcase, run_explains_failures);
    tcase_add_test(tcase, no_cluster_is_told_at_once);
    tcase_add_test(tcase, help_and_actions);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
