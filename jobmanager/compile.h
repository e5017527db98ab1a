/* Runs job-compiler: turns an uploaded program and its arguments into a job graph, in a child process with limits on time,
 * memory and output. Whatever the program does, the outcome is a graph or an error. A few run at once, the others
 * wait. Thread: the loop. */
#ifndef MILLRACE_JOBMANAGER_COMPILE_H
#define MILLRACE_JOBMANAGER_COMPILE_H

#include "jobmanager/jobmanager.h"

enum compile_stage {
    COMPILE_LOAD, /* the file is no program, or lacks the entry point */
    COMPILE_MAIN, /* the program's main failed, crashed, took too long or printed no graph */
};

/* err NULL: graph (taken), chained and validated, its job_id as asked. Else err (taken) and the stage. Called once. */
typedef void compile_done(struct job_graph *graph, struct error *err, enum compile_stage stage, void *argument);

struct compile_request {
    const struct program *program; /* borrowed for the call */
    const char *entry;             /* NULL: main */
    const char *const *args;       /* borrowed for the call */
    size_t arg_count;
    const json_t *config;          /* flat object of strings, the job's own; borrowed for the call */
    uint32_t parallelism;          /* of operators that set none */
    struct id job_id;
};

void compile_start(struct jobmanager *jobmanager, const struct compile_request *request, compile_done *done, void *argument);
/* Kills children; every done is called at once, with CANCELLED. */
void compiles_kill(struct jobmanager *jobmanager);

#endif
