/* Jobs on a mini_cluster: see mini_jobs.h. Thread: the test's. */
#include "tests/support/mini_jobs.h"

#include "common/base/heap.h"
#include "common/fs/fs.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

void mini_require(struct error *err)
{
    char *text = err != NULL ? error_text(err) : NULL;
    ck_assert_msg(err == NULL, "%s", text);
}

json_t *mini_parse(const char *text)
{
    json_error_t error;
    json_t *json = json_loads(text, 0, &error);
    ck_assert_msg(json != NULL, "%s: %s", error.text, text);
    return json;
}

struct mini_cluster *mini_start(uint32_t taskmanager_count, uint32_t slot_count, const char *more)
{
    struct mini_cluster *cluster;
    json_t *config = mini_parse("{\"heartbeat.interval\":\"100 ms\",\"heartbeat.timeout\":\"10 s\",\"restart-strategy.type\":\"fixed-delay\","
                                "\"restart-strategy.fixed-delay.attempts\":\"5\",\"restart-strategy.fixed-delay.delay\":\"50 ms\","
                                "\"task.cancellation.timeout\":\"5 s\"}");
    json_t *own = mini_parse(more != NULL ? more : "{}");
    json_object_update(config, own);
    mini_require(mini_cluster_start(
        &(struct mini_cluster_options){.taskmanager_count = taskmanager_count, .slot_count = slot_count, .config = config}, &cluster));
    json_decref(own);
    json_decref(config);
    return cluster;
}

char *mini_path(const struct mini_cluster *cluster, const char *name)
{
    return heap_printf("%s/%s", mini_cluster_directory(cluster), name);
}

const char *mini_failure(const struct mini_cluster *cluster, struct id id)
{
    const struct job *job = mini_cluster_job(cluster, id);
    if (job == NULL)
        return "there is no such job";
    if (job->failure != NULL)
        return job->failure;
    return job->exceptions.count > 0 ? job->exceptions.items[job->exceptions.count - 1].text : job_state_name(job->state);
}

void mini_finish(struct mini_cluster *cluster, struct id job)
{
    bool is_finished = mini_cluster_wait_state(cluster, job, JOB_FINISHED, MINI_WAIT_MS);
    ck_assert_msg(is_finished, "the job did not finish: %s", mini_failure(cluster, job));
    ck_assert(mini_cluster_wait_quiet(cluster, MINI_WAIT_MS));
    coordinator_verify(mini_cluster_jobmanager(cluster)->coordinator);
}

void mini_wait_completed(struct mini_cluster *cluster, struct id job, uint64_t checkpoint_count)
{
    ck_assert_msg(mini_cluster_wait_completed(cluster, job, checkpoint_count, MINI_WAIT_MS), "%s", mini_failure(cluster, job));
}

char *mini_trigger(struct mini_cluster *cluster, struct id job, enum checkpoint_kind kind, const char *directory)
{
    for (;;) {
        char *location = NULL;
        struct error *err = mini_cluster_trigger(cluster, job, kind, directory, MINI_WAIT_MS, &location);
        if (err == NULL || strstr(err->message, "task is closing") == NULL) {
            mini_require(err);
            return location;
        }
        error_free(err);
    }
}

void mini_kill_and_recover(struct mini_cluster *cluster, struct id job, uint32_t slot, uint32_t slot_count)
{
    uint64_t epoch = mini_cluster_job(cluster, job)->epoch;
    mini_cluster_kill(cluster, mini_cluster_slot_owner(cluster, job, slot));
    mini_require(mini_cluster_add_taskmanager(cluster, slot_count, NULL));
    ck_assert_msg(mini_cluster_wait_running(cluster, job, MINI_WAIT_MS), "%s", mini_failure(cluster, job));
    ck_assert_uint_gt(mini_cluster_job(cluster, job)->epoch, epoch);
}

void mini_assert_balanced(const struct mini_cluster *cluster, struct id id)
{
    ck_assert(mini_cluster_job(cluster, id)->books_balance);
    ck_assert_ptr_nonnull(mini_cluster_books(cluster, id));
}

static void read_lines(const char *path, json_t *rows)
{
    uint8_t *bytes = NULL;
    size_t length;
    struct error *err = fs_read_file(path, 1 << 24, &bytes, &length);
    ck_assert(err == NULL || err->code == ERR_NOT_FOUND);
    error_free(err);
    char *rest = NULL;
    for (char *line = bytes != NULL ? strtok_r((char *)bytes, "\n", &rest) : NULL; line != NULL; line = strtok_r(NULL, "\n", &rest))
        json_array_append_new(rows, mini_parse(line));
    free(bytes);
}

json_t *mini_rows(const struct mini_cluster *cluster, const char *name, uint32_t file_count)
{
    json_t *rows = json_array();
    for (uint32_t i = 0; i < file_count; i++) {
        char *base = mini_path(cluster, name);
        char *path = i == 0 ? heap_strdup(base) : heap_printf("%s.%u", base, i);
        read_lines(path, rows);
        free(path);
        free(base);
    }
    return rows;
}
