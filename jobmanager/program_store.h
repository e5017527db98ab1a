/* Uploaded programs (/jars) and the blobs that running jobs hold. An upload is a file `<uuid>_<name>` in the upload
 * directory; a job that runs it holds a hard link named by its SHA-256 in the blob directory, so that deleting the upload
 * harms no job. Files are opened by taskmanagers' BLOB_GET through program_store_blob_path. Thread: the loop. */
#ifndef MILLRACE_JOBMANAGER_PROGRAM_STORE_H
#define MILLRACE_JOBMANAGER_PROGRAM_STORE_H

#include "common/base/error.h"
#include "common/base/hash_map.h"
#include "common/base/vec.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct program {
    char *id;           /* "<uuid>_<name>": the jar id of REST */
    char *name;
    char *path;
    char *sha256;
    uint64_t size_bytes;
    int64_t uploaded_ms;
    bool has_main;      /* an ELF shared object that exports `main` */
    char *description;  /* of the entry, from its symbol millrace_description; NULL */
};

struct program_store {
    char *upload_directory;
    char *blob_directory;
    VEC(struct program *) programs; /* oldest first */
    struct hash_map blobs;          /* sha256 -> struct blob_hold */
};

/* The directories are made. */
MUST_CHECK struct error *program_store_create(const char *upload_directory, const char *blob_directory, struct program_store **out);
void program_store_destroy(struct program_store *store);
/* Moves the file at path in. *out is borrowed. */
MUST_CHECK struct error *program_store_add(struct program_store *store, const char *path, const char *name, const char *sha256,
                                           uint64_t size_bytes, int64_t now_ms, struct program **out);
/* NULL when unknown. */
struct program *program_store_find(const struct program_store *store, const char *id);
MUST_CHECK struct error *program_store_remove(struct program_store *store, const char *id);
/* A job holds the program's bytes from here to program_store_release, once per call. They are linked or copied on a pool thread;
 * done is then called on the loop (takes err): after an error the hold is to be released too. */
typedef void program_held(struct error *err, void *argument);
void program_store_hold(struct program_store *store, uv_loop_t *loop, const struct program *program, program_held *done, void *argument);
void program_store_release(struct program_store *store, const char *sha256);
/* Malloced; NULL when nobody holds that blob. */
char *program_store_blob_path(const struct program_store *store, const char *sha256);

/* Whether the file is an ELF shared object for this machine that defines the symbol as a function. errors: INVALID_PROGRAM
 * naming what it is instead. *has_symbol is set when there is no error. */
MUST_CHECK struct error *program_inspect(const char *path, const char *symbol, bool *has_symbol);

#endif
