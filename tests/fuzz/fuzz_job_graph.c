/* Fuzz target: job graph JSON. What parses must chain or be refused, and must survive the way to JSON and back. */
#include "common/graph/job_graph.h"

#include "common/base/check.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *json = json_loadb((const char *)data, size, 0, NULL);
    struct job_graph *graph = NULL;
    struct error *err = job_graph_from_json(json, &graph);
    json_decref(json);
    if (err != NULL) {
        error_free(err);
        return 0;
    }
    job_graph_set_parallelism(graph, 2);
    err = job_graph_chain(graph);
    if (err == NULL) {
        json_t *written = job_graph_to_json(graph);
        struct job_graph *again = NULL;
        struct error *again_err = job_graph_from_json(written, &again);
        check(again_err == NULL);
        json_t *rewritten = job_graph_to_json(again);
        check(json_equal(written, rewritten));
        json_decref(job_graph_plan_json(again));
        json_decref(written);
        json_decref(rewritten);
        job_graph_destroy(again);
    }
    error_free(err);
    job_graph_destroy(graph);
    return 0;
}
