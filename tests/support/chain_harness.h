/* One operator chain driven by hand, for tests of operators: the chain is the second vertex of a two-operator graph (a stand-in
 * source per input feeds it), its outputs are collected as JSON rows.
 * Thread: the caller's. */
#ifndef MILLRACE_SUPPORT_CHAIN_HARNESS_H
#define MILLRACE_SUPPORT_CHAIN_HARNESS_H

#include "common/columnar/batch_builder.h"
#include "taskmanager/task/operator_chain.h"
#include "taskmanager/task/user_library.h"

#define CHAIN_OUTPUT_MAX 4

struct chain_collector {
    struct chain_output output; /* first member */
    struct schema *schema;      /* borrowed */
    json_t *rows;               /* arrays of values in column order; "time" is kept in times */
    json_t *times;
    int64_t watermark;
    bool is_idle;
};

struct chain_harness {
    struct job_graph *graph;
    uint32_t vertex;
    struct operator_chain *chain;
    struct chain_collector collectors[CHAIN_OUTPUT_MAX];
    struct chain_output *outputs[CHAIN_OUTPUT_MAX];
    uint32_t output_count;
    struct user_library *library;
    atomic_ullong step_count; /* as the watchdog sees it */
    atomic_bool is_aborting;
};

struct chain_restore {
    const char *directory;
    const json_t *handles; /* array of handles of all old subtasks, for any operator */
    const json_t *books;   /* object: operator id -> books */
};

/* operators: the operators JSON of a job graph. target: index of the operator whose vertex is run. Functions are found in the
 * running program. Chained with job_graph_chain. */
void chain_harness_init(struct chain_harness *harness, const json_t *operators, uint32_t target, uint32_t subtask,
                        const struct chain_restore *restore);
/* The same, but gives the error of operator_chain_create (NULL: it went well). */
struct error *chain_harness_try(struct chain_harness *harness, const json_t *operators, uint32_t target, uint32_t subtask,
                                const struct chain_restore *restore);
/* How long a call may take in chains that are made from now on; 0, as at first: no limit. */
void chain_harness_set_slice(int64_t slice_ns);
void chain_harness_finish(struct chain_harness *harness);

/* Rows (arrays of values in the order of the gate's schema) with event times; times NULL: none. */
struct batch *harness_batch(struct schema *schema, const json_t *rows, const json_t *times);
struct schema *chain_harness_gate_schema(const struct chain_harness *harness, uint32_t gate);
/* Takes rows and times; fails the test on an error. */
void chain_harness_send(struct chain_harness *harness, uint32_t gate, json_t *rows, json_t *times);
void chain_harness_watermark(struct chain_harness *harness, uint32_t gate, int64_t time);
/* Polls a source chain to its end. */
void chain_harness_run_source(struct chain_harness *harness);
/* Books of an operator in the vertex, by its place in the chain. Owned by the caller. */
json_t *chain_harness_books(struct chain_harness *harness, uint32_t place);
/* Acked handles (array, of all subtasks) as operators are given them: {operator id: [handle]}; new reference. */
json_t *chain_harness_handles_by_operator(const json_t *handles);
uint64_t books_count(const json_t *books, const char *name);
/* Snapshot into directory; appends the handles to handles, merges the books into books. */
void chain_harness_snapshot(struct chain_harness *harness, const char *directory, uint64_t checkpoint, json_t *handles, json_t *books);
/* A new temporary folder; removed with all it holds. */
char *temp_folder_create(void);
void temp_folder_remove(char *path);
/* The error's text; frees the error. */
char *error_take_text(struct error *err);

#endif
