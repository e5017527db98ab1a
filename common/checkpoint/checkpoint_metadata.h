/* The `_metadata` file of a checkpoint or savepoint: JSON text, a newline, `crc32c:<8 hex>` of all before, a newline.
 * Here: the text form, its checks, and finding the file behind a path that a user gave. What the members mean is the
 * coordinator's matter (jobmanager/core). Thread: any. */
#ifndef MILLRACE_CHECKPOINT_CHECKPOINT_METADATA_H
#define MILLRACE_CHECKPOINT_CHECKPOINT_METADATA_H

#include "common/base/error.h"

#include <jansson.h>
#include <stddef.h>

#define CHECKPOINT_METADATA_FILE "_metadata"
#define CHECKPOINT_METADATA_BYTES_MAX (256u << 20)

/* Malloced text with its checksum line, NUL-terminated; *length without the NUL. */
char *checkpoint_metadata_encode(const json_t *metadata, size_t *length);
/* Verifies the checksum, then the members that a restore relies on (state handles name files below the directory only).
 * errors: CORRUPT, saying what is wrong, not where. */
MUST_CHECK struct error *checkpoint_metadata_decode(const char *text, size_t length, json_t **out);

/* "file:///a/b/", "file:/a/b", "/a/b/_metadata" -> "/a/b" (malloced); relative paths become absolute. errors: as local_path_absolute */
MUST_CHECK struct error *checkpoint_path_to_directory(const char *path, char **out);
/* Reads and decodes the metadata behind a path as above; *directory (malloced, may be NULL) is where the files lie.
 * Blocks. errors: NOT_FOUND in Flink's words; CORRUPT; IO */
MUST_CHECK struct error *checkpoint_metadata_read(const char *path, char **directory, json_t **out);
/* Writes `_metadata` into an existing directory: temporary name, fsync, rename, fsync of the directory. Blocks. errors: IO, NOT_FOUND */
MUST_CHECK struct error *checkpoint_metadata_write(const char *directory, const json_t *metadata);

#endif
