/* Programs whose main goes wrong, one entry point each (flink run -c NAME): none of them may hurt the jobmanager. */
#include <millrace/millrace.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int crashes(int argc, char **argv);
int loops(int argc, char **argv);
int prints_garbage(int argc, char **argv);
int executes_nothing(int argc, char **argv);
int exits(int argc, char **argv);
int names_a_missing_field(int argc, char **argv);

#define ROW(FIELD) FIELD(id, int64_t)
MR_RECORD(row, ROW);

int crashes(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    raise(SIGSEGV);
    return 0;
}

int loops(int argc, char **argv)
{
    (void)argv;
    for (volatile int i = argc;; i++)
        ;
}

/* Into the very descriptor that the graph goes to. */
int prints_garbage(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    const char *fd = getenv("MILLRACE_GRAPH_FD");
    return fd != NULL && write(atoi(fd), "{]", 2) != 2;
}

int executes_nothing(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("nothing to do here");
    return 0;
}

int exits(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    fputs("I have had enough\n", stderr);
    exit(7);
}

int names_a_missing_field(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct mr_env *env = mr_env_create();
    struct mr_stream *rows = mr_from_datagen(env, "rows", &(struct mr_datagen_source_options){.record = &row_type});
    mr_sink_blackhole(mr_key_by(rows, "pagee"), "nowhere");
    return mr_execute(env, "never");
}
