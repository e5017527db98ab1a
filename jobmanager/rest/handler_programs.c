/* Uploaded programs: the list, uploads, and deleting. Running them is in handler_run.c. Thread: the loop. */
#include "common/base/heap.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"

#include <stdlib.h>
#include <string.h>

void handle_jars(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct program_store *store = jobmanager->programs;
    json_t *files = json_array();
    for (size_t i = store->programs.count; i > 0; i--) {
        const struct program *program = store->programs.items[i - 1];
        json_t *entries = json_array();
        if (program->has_main) {
            json_t *entry = json_object();
            put_text(entry, "name", "main");
            put_text(entry, "description", program->description);
            json_array_append_new(entries, entry);
        }
        json_t *file = json_object();
        put_text(file, "id", program->id);
        put_text(file, "name", program->name);
        put_int(file, "uploaded", program->uploaded_ms);
        put_json(file, "entry", entries);
        json_array_append_new(files, file);
    }
    json_t *json = json_object();
    put_text(json, "address", jobmanager->web_base);
    put_json(json, "files", files);
    rest_reply_json(request, 200, json);
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t length = strlen(name), suffix_length = strlen(suffix);
    return length > suffix_length && strcmp(name + length - suffix_length, suffix) == 0;
}

void handle_jar_upload(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct http_upload *upload = &request->http->upload;
    uint64_t size_max = (uint64_t)config_bytes(jobmanager->config, OPTION_BLOB_SIZE_MAX);
    if (request->http->upload_count != 1) {
        rest_reply_error(request, 400, EX_REST ": Exactly 1 file must be sent, received %u.\n", request->http->upload_count);
        return;
    }
    if (!has_suffix(upload->name, ".jar") && !has_suffix(upload->name, ".so")) {
        rest_reply_error(request, 400, EX_REST ": Only Jar files are allowed.\n");
        return;
    }
    if (strlen(upload->name) > 200) {
        rest_reply_error(request, 400, EX_REST ": The file name is too long.\n");
        return;
    }
    if (upload->size_bytes > size_max) {
        rest_reply_error(request, 413, EX_REST ": The program has %llu bytes; blob.size-max allows %llu.\n",
                         (unsigned long long)upload->size_bytes, (unsigned long long)size_max);
        return;
    }
    struct program *program;
    struct error *err = program_store_add(jobmanager->programs, upload->path, upload->name, upload->sha256, upload->size_bytes,
                                          jobmanager_now_ms(jobmanager), &program);
    if (err != NULL) {
        rest_reply_err(request, err);
        return;
    }
    json_t *json = json_object();
    put_text(json, "filename", program->path);
    put_text(json, "status", "success");
    rest_reply_json(request, 200, json);
}

void handle_jar_delete(struct jobmanager *jobmanager, struct rest_request *request)
{
    struct error *err = program_store_remove(jobmanager->programs, rest_path_param(request, "jarid"));
    if (err == NULL) {
        rest_reply_json(request, 200, json_object());
    } else if (err->code == ERR_NOT_FOUND) {
        rest_reply_error(request, 400, EX_REST ": %s\n", err->message);
        error_free(err);
    } else {
        rest_reply_err(request, err);
    }
}
