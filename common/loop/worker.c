/* See worker.h. */
#include "common/loop/worker.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/loop/loop.h"

#include <stdlib.h>

struct worker_job {
    uv_work_t request;
    struct error *(*work)(void *argument);
    void (*done)(struct error *err, void *argument);
    void *argument;
    struct error *result;
};

static void on_work(uv_work_t *request)
{
    struct worker_job *job = request->data;
    job->result = job->work(job->argument);
}

static void on_done(uv_work_t *request, int status)
{
    struct worker_job *job = request->data;
    struct error *err = status == UV_ECANCELED ? error_new(CANCELLED, "the work was cancelled") : job->result;
    job->done(err, job->argument);
    free(job);
}

void worker_run(uv_loop_t *loop, struct error *(*work)(void *argument), void (*done)(struct error *err, void *argument), void *argument)
{
    check_on_loop(loop);
    struct worker_job *job = heap_new(struct worker_job);
    job->request.data = job;
    job->work = work;
    job->done = done;
    job->argument = argument;
    int status = uv_queue_work(loop, &job->request, on_work, on_done);
    check(status == 0);
}
