/* Plans and runs of uploaded programs: parameters come from the body or the query, job-compiler makes the graph, a
 * savepoint is read where one is named, then the core gets the job. Each request is a struct run until it is answered.
 *
 *   handle_jar_run -> program_store_hold … on_held -> run_start -> compile_start … on_compiled
 *                  -> [checkpoint_files_read … on_savepoint] -> submit
 *
 * Thread: the loop. */
#include "common/base/heap.h"
#include "jobmanager/checkpoint_files.h"
#include "jobmanager/compile.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"
#include "jobmanager/rest/shell_words.h"

#include <stdlib.h>
#include <string.h>

#define RUN_BODY "JarRunRequestBody"
/* More would keep the loop busy for longer than other requests may wait. */
#define CONFIG_KEYS_MAX 1000
#define PLAN_BODY "JarPlanRequestBody"
#define EX_PROGRAM "org.apache.flink.client.program.ProgramInvocationException"
#define EX_INIT "org.apache.flink.runtime.client.JobInitializationException"

struct run {
    struct jobmanager *jobmanager;
    struct rest_request *request;
    bool is_plan;
    char *program_id;
    char *entry;
    struct word_list args;
    json_t *config;       /* what the request sets for this job; flat, texts */
    int64_t parallelism;  /* 0: not asked for */
    struct id job_id;
    char *savepoint_path; /* NULL */
    bool allow_non_restored;
    bool claims_savepoint;
    char *held_sha256;    /* the blob that this request holds */
    struct job_graph *graph;
};

static void run_destroy(struct run *run)
{
    if (run->held_sha256 != NULL)
        program_store_release(run->jobmanager->programs, run->held_sha256);
    job_graph_destroy(run->graph);
    word_list_finish(&run->args);
    json_decref(run->config);
    free(run->held_sha256);
    free(run->program_id);
    free(run->savepoint_path);
    free(run->entry);
    free(run);
}

/* ---- parameters ---- */

static const char *body_name(const struct run *run)
{
    return run->is_plan ? PLAN_BODY : RUN_BODY;
}

static void add_comma_separated(struct word_list *words, const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        char *word = heap_strndup(text, length);
        vec_push(words, word);
        text += length + (text[length] == ',');
    }
}

static bool take_args(struct run *run, json_t *body)
{
    const char *line = rest_query_param(run->request, "program-args");
    const json_t *list = json_object_get(body, "programArgsList");
    if (!rest_member_text(run->request, body_name(run), body, "programArgs", &line))
        return false;
    if (list != NULL && !json_is_array(list) && !json_is_null(list)) {
        rest_reply_error(run->request, 400, EX_REST ": Request did not match expected format %s.\nCaused by: programArgsList is no array of texts\n",
                         body_name(run));
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));
        if (word == NULL) {
            rest_reply_error(run->request, 400,
                             EX_REST ": Request did not match expected format %s.\nCaused by: programArgsList holds something that is no string\n",
                             body_name(run));
            return false;
        }
        char *copy = heap_strdup(word);
        vec_push(&run->args, copy);
    }
    bool is_listed = run->args.count > 0;
    for (size_t i = 0; !is_listed && i < run->request->http->query.count; i++) {
        if (strcmp(run->request->http->query.items[i].name, "programArg") == 0)
            add_comma_separated(&run->args, run->request->http->query.items[i].value);
    }
    if (run->args.count == 0 && line != NULL)
        shell_words_split(line, &run->args);
    return true;
}

/* flinkConfiguration: checked as the job's layer over the cluster's. */
static bool take_config(struct run *run, json_t *body)
{
    json_t *given = json_object_get(body, "flinkConfiguration");
    if (given == NULL || json_is_null(given))
        return true;
    if (json_object_size(given) > CONFIG_KEYS_MAX) {
        rest_reply_error(run->request, 400, EX_REST ": flinkConfiguration has %zu keys; %d are allowed.\n", json_object_size(given), CONFIG_KEYS_MAX);
        return false;
    }
    struct config *layer = config_create_over(NULL);
    struct error *err = json_is_object(given) ? config_set_json(layer, given, "flinkConfiguration")
                                              : error_new(INVALID_FORMAT, "flinkConfiguration is no object");
    if (err != NULL) {
        rest_reply_err(run->request, err);
    } else {
        json_decref(run->config);
        run->config = config_to_json(layer);
    }
    bool is_good = err == NULL;
    config_destroy(layer);
    return is_good;
}

static bool take_parallelism(struct run *run, json_t *body)
{
    const char *text = rest_query_param(run->request, "parallelism");
    if (text != NULL && text[0] != '\0') {
        char *end;
        run->parallelism = strtoll(text, &end, 10);
        if (*end != '\0' || run->parallelism < 1 || run->parallelism > PARALLELISM_MAX) {
            rest_reply_bad_query(run->request, "parallelism", text);
            return false;
        }
    }
    if (!rest_member_int(run->request, body_name(run), body, "parallelism", &run->parallelism))
        return false;
    if (run->parallelism < 0 || run->parallelism > PARALLELISM_MAX) {
        rest_reply_error(run->request, 400, EX_REST ": The parallelism %lld is not between 1 and %d.\n", (long long)run->parallelism,
                         PARALLELISM_MAX);
        return false;
    }
    if (run->parallelism == 0) {
        const char *configured = json_string_value(json_object_get(run->config, option_key(OPTION_PARALLELISM_DEFAULT)));
        run->parallelism = configured != NULL ? strtoll(configured, NULL, 10) : config_int(run->jobmanager->config, OPTION_PARALLELISM_DEFAULT);
    }
    return true;
}

static bool take_job_id(struct run *run, json_t *body)
{
    const char *text = json_string_value(json_object_get(run->config, option_key(OPTION_FIXED_JOB_ID)));
    const char *query = rest_query_param(run->request, "jobid");
    if (query != NULL)
        text = query;
    if (!rest_member_text(run->request, body_name(run), body, "jobId", &text))
        return false;
    if (text == NULL) {
        run->job_id = id_random();
        return true;
    }
    if (id_parse(text, &run->job_id))
        return true;
    rest_reply_error(run->request, 400, EX_REST ": Request did not match expected format %s.\nCaused by: jobId is no id of 32 hex digits: %s\n",
                     body_name(run), text);
    return false;
}

static bool take_restore(struct run *run, json_t *body)
{
    const char *path = rest_query_param(run->request, "savepointPath");
    const char *allow = rest_query_param(run->request, "allowNonRestoredState");
    const char *configured = json_string_value(json_object_get(run->config, option_key(OPTION_SAVEPOINT_PATH)));
    const char *ignore = json_string_value(json_object_get(run->config, option_key(OPTION_SAVEPOINT_IGNORE_UNCLAIMED)));
    const char *mode = json_string_value(json_object_get(run->config, option_key(OPTION_RESTORE_MODE)));
    run->allow_non_restored = (allow != NULL && strcmp(allow, "true") == 0) || (ignore != NULL && strcmp(ignore, "true") == 0);
    if (path == NULL)
        path = configured;
    if (!rest_member_text(run->request, body_name(run), body, "savepointPath", &path) ||
        !rest_member_bool(run->request, body_name(run), body, "allowNonRestoredState", &run->allow_non_restored) ||
        !rest_member_text(run->request, body_name(run), body, "restoreMode", &mode) ||
        !rest_member_text(run->request, body_name(run), body, "claimMode", &mode))
        return false;
    if (path != NULL && path[0] != '\0')
        run->savepoint_path = heap_strdup(path);
    /* LEGACY is Flink's old way, which leaves the savepoint alone as well: nothing here shares files with it. */
    run->claims_savepoint = mode != NULL && strcmp(mode, "CLAIM") == 0;
    if (mode == NULL || strcmp(mode, "NO_CLAIM") == 0 || strcmp(mode, "CLAIM") == 0 || strcmp(mode, "LEGACY") == 0)
        return true;
    rest_reply_error(run->request, 400,
                     EX_REST ": Request did not match expected format %s.\nCaused by: claimMode is none of CLAIM, NO_CLAIM, LEGACY: %s\n",
                     body_name(run), mode);
    return false;
}

static bool take_parameters(struct run *run, json_t *body)
{
    const char *entry = rest_query_param(run->request, "entry-class");
    run->config = json_object();
    if (!rest_member_text(run->request, body_name(run), body, "entryClass", &entry))
        return false;
    if (entry != NULL && entry[0] != '\0')
        run->entry = heap_strdup(entry);
    return take_config(run, body) && take_args(run, body) && take_parallelism(run, body) && take_job_id(run, body) && take_restore(run, body);
}

/* ---- answers ---- */

static void reply_compile_failure(struct run *run, struct error *err, enum compile_stage stage)
{
    char *lines = rest_error_lines(err);
    if (stage == COMPILE_LOAD)
        rest_reply_internal(run->request, EX_COMPLETION ": " EX_PROGRAM ": %s\nCaused by: " EX_PROGRAM ": %s", err->message, lines);
    else
        rest_reply_error(run->request, 400,
                         EX_REST ": Could not execute application.\nCaused by: " EX_PROGRAM ": The main method caused an error: %s\n", lines);
    free(lines);
    error_free(err);
}

static void reply_job_id(struct run *run)
{
    json_t *json = json_object();
    put_text(json, "jobid", id_format(run->job_id).hex);
    rest_reply_json(run->request, 200, json);
}

static void reply_failed_start(struct run *run, const struct job *job)
{
    const char *failure = job->failure != NULL ? job->failure : EX_INIT ": Could not start the JobMaster.";
    rest_reply_error(run->request, 400,
                     EX_REST ": Could not execute application.\nCaused by: " EX_PROGRAM
                             ": The main method caused an error: Failed to execute job '%s'.\nCaused by: " EX_FLINK
                             ": Failed to execute job '%s'.\nCaused by: %s\n",
                     job->graph->name, job->graph->name, failure);
}

/* ---- the way ---- */

static void submit(struct run *run, const char *directory, const json_t *metadata, const struct error *err)
{
    struct jobmanager *jobmanager = run->jobmanager;
    bool is_new = coordinator_job(jobmanager->coordinator, run->job_id) == NULL;
    struct event event = {.kind = EVENT_JOB_SUBMITTED,
                          .job_submitted = {.graph = run->graph,
                                            .savepoint_path = directory != NULL ? directory : run->savepoint_path,
                                            .savepoint_metadata = metadata,
                                            .savepoint_error = err,
                                            .allow_non_restored = run->allow_non_restored,
                                            .claims_savepoint = run->claims_savepoint}};
    run->graph = NULL;
    jobmanager_handle(jobmanager, &event);
    struct job *job = coordinator_job(jobmanager->coordinator, run->job_id);
    if (is_new && job != NULL && !job_state_is_terminal(job->state)) {
        struct job_shell *shell = jobmanager_job_shell(job);
        shell->library_sha256 = run->held_sha256;
        run->held_sha256 = NULL;
    }
    if (is_new && job != NULL && job->state == JOB_FAILED)
        reply_failed_start(run, job);
    else
        reply_job_id(run);
}

static void on_savepoint(json_t *metadata, const char *directory, struct error *err, void *argument)
{
    struct run *run = argument;
    if (!run->jobmanager->is_stopping)
        submit(run, directory, metadata, err);
    json_decref(metadata);
    error_free(err);
    run_destroy(run);
}

static void overlay_config(struct run *run)
{
    const char *key;
    json_t *value;
    json_object_foreach(run->config, key, value) {
        if (key[0] != '$' && json_object_get(run->graph->config, key) == NULL)
            json_object_set(run->graph->config, key, value);
    }
}

/* Dashboards of Flink 2 take a node without its vertex for one that is not planned yet, and draw it without a name. */
static json_t *planned(json_t *plan)
{
    size_t i;
    json_t *node;
    json_array_foreach(json_object_get(plan, "nodes"), i, node)
        json_object_set(node, "job_vertex_id", json_object_get(node, "id"));
    return plan;
}

static void on_compiled(struct job_graph *graph, struct error *err, enum compile_stage stage, void *argument)
{
    struct run *run = argument;
    run->graph = graph;
    if (err != NULL) {
        reply_compile_failure(run, err, stage);
    } else if (run->is_plan) {
        json_t *json = json_object();
        put_json(json, "plan", planned(job_graph_plan_json(graph)));
        rest_reply_json(run->request, 200, json);
    } else {
        overlay_config(run);
        if (run->savepoint_path != NULL) {
            checkpoint_files_read(run->jobmanager, run->savepoint_path, on_savepoint, run);
            return;
        }
        submit(run, NULL, NULL, NULL);
    }
    run_destroy(run);
}

/* What the compiler is told: the cluster's pipeline defaults, then the request's own. */
static json_t *compiler_config(const struct run *run)
{
    json_t *config = json_object();
    json_t *cluster = config_to_json(run->jobmanager->config);
    const char *key;
    json_t *value;
    json_object_foreach(cluster, key, value) {
        if (strncmp(key, "pipeline.", 9) == 0)
            json_object_set(config, key, value);
    }
    json_decref(cluster);
    json_object_update(config, run->config);
    json_object_set_new(config, option_key(OPTION_PARALLELISM_DEFAULT), json_sprintf("%lld", (long long)run->parallelism));
    json_object_del(config, option_key(OPTION_FIXED_JOB_ID));
    return config;
}

static void run_start(struct run *run, const struct program *program)
{
    json_t *config = compiler_config(run);
    struct compile_request request = {
        .program = program,
        .entry = run->entry,
        .args = (const char *const *)run->args.items,
        .arg_count = run->args.count,
        .config = config,
        .parallelism = (uint32_t)run->parallelism,
        .job_id = run->job_id,
    };
    compile_start(run->jobmanager, &request, on_compiled, run);
    json_decref(config);
}

static void reply_no_program(struct jobmanager *jobmanager, struct rest_request *request, const char *id)
{
    const char *directory = jobmanager->programs->upload_directory;
    rest_reply_internal(request, EX_COMPLETION ": " EX_REST ": Jar file %s/%s does not exist\nCaused by: " EX_REST ": Jar file %s/%s does not exist",
                        directory, id, directory, id);
}

/* The program may have been deleted meanwhile, and the jobmanager may end. */
static void on_held(struct error *err, void *argument)
{
    struct run *run = argument;
    struct jobmanager *jobmanager = run->jobmanager;
    const struct program *program = program_store_find(jobmanager->programs, run->program_id);
    if (!jobmanager->is_stopping && err == NULL && program != NULL) {
        run_start(run, program);
        return;
    }
    if (jobmanager->is_stopping) {
        error_free(err);
    } else if (err != NULL) {
        rest_reply_err(run->request, err);
    } else {
        reply_no_program(jobmanager, run->request, run->program_id);
    }
    run_destroy(run);
}

static void handle_program(struct jobmanager *jobmanager, struct rest_request *request, bool is_plan)
{
    const char *id = rest_path_param(request, "jarid");
    json_t *body;
    if (!rest_body_json(request, is_plan ? PLAN_BODY : RUN_BODY, &body))
        return;
    struct run *run = heap_new(struct run);
    run->jobmanager = jobmanager;
    run->request = request;
    run->is_plan = is_plan;
    bool is_good = take_parameters(run, body);
    json_decref(body);
    const struct program *program = program_store_find(jobmanager->programs, id);
    if (!is_good) {
        run_destroy(run);
    } else if (!is_plan && coordinator_job(jobmanager->coordinator, run->job_id) != NULL) {
        reply_job_id(run);
        run_destroy(run);
    } else if (program == NULL) {
        reply_no_program(jobmanager, request, id);
        run_destroy(run);
    } else {
        run->program_id = heap_strdup(id);
        run->held_sha256 = heap_strdup(program->sha256);
        rest_request_defer(request);
        program_store_hold(jobmanager->programs, jobmanager->loop, program, on_held, run);
    }
}

void handle_jar_run(struct jobmanager *jobmanager, struct rest_request *request)
{
    handle_program(jobmanager, request, false);
}

void handle_jar_plan(struct jobmanager *jobmanager, struct rest_request *request)
{
    handle_program(jobmanager, request, true);
}
