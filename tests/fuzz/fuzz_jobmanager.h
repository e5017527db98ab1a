/* A jobmanager with a job for the fuzz targets that speak to one: all it writes lies in a directory of its own, which goes with the
 * process. Thread: the target's, which owns the loop. */
#ifndef MILLRACE_FUZZ_FUZZ_JOBMANAGER_H
#define MILLRACE_FUZZ_FUZZ_JOBMANAGER_H

#include "common/base/check.h"
#include "common/fs/fs.h"
#include "jobmanager/jobmanager.h"

#include <stdlib.h>
#include <unistd.h>

static char fuzz_directory[] = "/tmp/fuzz-jobmanager-XXXXXX";

static void fuzz_remove_directory(void)
{
    error_free(fs_remove_tree(fuzz_directory));
}

/* Once a process. Input may name directories: relative ones must not appear where the fuzzer was started. */
static inline void fuzz_enter_directory(void)
{
    check(mkdtemp(fuzz_directory) != NULL && chdir(fuzz_directory) == 0 && atexit(fuzz_remove_directory) == 0);
}

static inline void fuzz_set_option(struct config *config, const char *key, const char *value)
{
    struct error *err = config_set(config, key, value, "fuzz");
    check(err == NULL);
}

/* Of a jobmanager that listens on free ports of the loopback alone. */
static inline struct config *fuzz_config(void)
{
    struct config *config = config_create_over(NULL);
    fuzz_set_option(config, "rest.port", "0");
    fuzz_set_option(config, "rest.bind-address", "127.0.0.1");
    fuzz_set_option(config, "jobmanager.rpc.port", "0");
    fuzz_set_option(config, "jobmanager.bind-host", "127.0.0.1");
    fuzz_set_option(config, "metrics.reporters", "");
    fuzz_set_option(config, "io.tmp.dirs", fuzz_directory);
    return config;
}

/* text: the job graph's JSON as a client would send it. */
static inline void fuzz_submit_job(struct jobmanager *jobmanager, const char *text, uint32_t parallelism)
{
    struct job_graph *graph;
    json_t *json = json_loads(text, 0, NULL);
    struct error *err = job_graph_from_json(json, &graph);
    json_decref(json);
    if (err == NULL) {
        job_graph_set_parallelism(graph, parallelism);
        err = job_graph_chain(graph);
    }
    check(err == NULL);
    struct event event = {.kind = EVENT_JOB_SUBMITTED, .job_submitted = {.graph = graph}};
    jobmanager_handle(jobmanager, &event);
}

#endif
