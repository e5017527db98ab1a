/* Text form, reading and writing of `_metadata` (checkpoint_metadata.h). Every function may run on a pool thread. */
#include "common/checkpoint/checkpoint_metadata.h"

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/heap.h"
#include "common/base/local_path.h"
#include "common/base/str_buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CRC_LINE_PREFIX "crc32c:"
#define CRC_LINE_BYTES 16u /* prefix, 8 digits, newline */

/* ---- text form ---- */

char *checkpoint_metadata_encode(const json_t *metadata, size_t *length)
{
    struct str_buf text = {0};
    char *json = json_dumps(metadata, JSON_COMPACT);
    check(json != NULL);
    str_buf_append(&text, json);
    str_buf_append_char(&text, '\n');
    free(json);
    str_buf_printf(&text, CRC_LINE_PREFIX "%08x\n", crc32c(0, text.text, text.length));
    *length = text.length;
    return str_buf_detach(&text);
}

static bool crc_line_parse(const char *line, uint32_t *out)
{
    if (memcmp(line, CRC_LINE_PREFIX, sizeof CRC_LINE_PREFIX - 1) != 0 || line[CRC_LINE_BYTES - 1] != '\n')
        return false;
    uint32_t crc = 0;
    for (size_t i = sizeof CRC_LINE_PREFIX - 1; i < CRC_LINE_BYTES - 1; i++) {
        char c = line[i];
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint32_t)(c - 'a') + 10;
        else
            return false;
        crc = crc << 4 | digit;
    }
    *out = crc;
    return true;
}

/* A handle must not lead out of its checkpoint's directory. */
static bool path_is_contained(const char *path)
{
    if (path[0] == '\0' || path[0] == '/')
        return false;
    for (const char *segment = path; segment != NULL; segment = strchr(segment, '/')) {
        if (*segment == '/')
            segment++;
        size_t length = strcspn(segment, "/");
        if (length == 2 && segment[0] == '.' && segment[1] == '.')
            return false;
    }
    return true;
}

/* Looks at every "path" of every object inside, at any depth: the nesting of handles is the coordinator's matter. */
static struct error *check_paths(const json_t *json, int depth)
{
    if (depth > 64)
        return error_new(CORRUPT, "the metadata is nested too deeply");
    if (json_is_array(json)) {
        for (size_t i = 0; i < json_array_size(json); i++)
            TRY(check_paths(json_array_get(json, i), depth + 1));
    } else if (json_is_object(json)) {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)json, key, value) {
            if (strcmp(key, "path") == 0 && (!json_is_string(value) || !path_is_contained(json_string_value(value))))
                return error_new(CORRUPT, "a state handle names a file outside of its directory");
            TRY(check_paths(value, depth + 1));
        }
    }
    return NULL;
}

struct error *checkpoint_metadata_decode(const char *text, size_t length, json_t **out)
{
    if (length < CRC_LINE_BYTES + 1)
        return error_new(CORRUPT, "the metadata is cut short (%zu bytes)", length);
    uint32_t expected;
    size_t json_length = length - CRC_LINE_BYTES;
    if (!crc_line_parse(text + json_length, &expected))
        return error_new(CORRUPT, "the metadata has no checksum line at its end");
    uint32_t actual = crc32c(0, text, json_length);
    if (actual != expected)
        return error_new(CORRUPT, "the metadata's checksum is %08x, its line says %08x", actual, expected);
    json_error_t json_error;
    json_t *json = json_loadb(text, json_length, 0, &json_error);
    if (json == NULL || !json_is_object(json)) {
        json_decref(json);
        return error_new(CORRUPT, "the metadata is no JSON object");
    }
    struct error *err = check_paths(json, 0);
    if (err != NULL) {
        json_decref(json);
        return err;
    }
    *out = json;
    return NULL;
}

/* ---- files ---- */

struct error *checkpoint_path_to_directory(const char *path, char **out)
{
    if (path[0] == '\0')
        return error_new(INVALID_ARGUMENT, "the path of the checkpoint or savepoint is empty");
    char *directory = NULL;
    TRY(local_path_absolute(path, &directory));
    size_t length = strlen(directory);
    while (length > 1 && directory[length - 1] == '/')
        directory[--length] = '\0';
    const size_t name_length = sizeof CHECKPOINT_METADATA_FILE; /* with the slash before it */
    if (length > name_length && strcmp(directory + length - name_length, "/" CHECKPOINT_METADATA_FILE) == 0)
        directory[length - name_length] = '\0';
    *out = directory;
    return NULL;
}

static struct error *read_all(int fd, const char *path, struct str_buf *text)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return error_errno(errno, "could not read %s", path);
    if (!S_ISREG(status.st_mode) || status.st_size > (off_t)CHECKPOINT_METADATA_BYTES_MAX)
        return error_new(CORRUPT, "%s is no metadata file", path);
    for (;;) {
        ssize_t count = read(fd, str_buf_reserve(text, 65536), 65536);
        if (count == 0)
            return NULL;
        if (count < 0 && errno != EINTR)
            return error_errno(errno, "could not read %s", path);
        if (count > 0)
            str_buf_advance(text, (size_t)count);
        if (text->length > CHECKPOINT_METADATA_BYTES_MAX)
            return error_new(CORRUPT, "%s is too large", path);
    }
}

struct error *checkpoint_metadata_read(const char *path, char **directory, json_t **out)
{
    char *found = NULL;
    TRY(checkpoint_path_to_directory(path, &found));
    char *file = heap_printf("%s/" CHECKPOINT_METADATA_FILE, found);
    struct str_buf text = {0};
    struct error *err = NULL;
    struct stat status;
    int fd = -1;
    if (stat(found, &status) != 0) {
        err = error_new(NOT_FOUND, "Cannot find checkpoint or savepoint file/directory '%s' on file system 'file'.", path);
        goto done;
    }
    fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        err = error_new(NOT_FOUND,
                        "Cannot find meta data file '" CHECKPOINT_METADATA_FILE "' in directory '%s'. Please try to load the "
                        "checkpoint/savepoint directly from the metadata file instead of the directory.",
                        path);
        goto done;
    }
    if (fd < 0) {
        err = error_errno(errno, "could not open %s", file);
        goto done;
    }
    TRY_GOTO(done, read_all(fd, file, &text));
    err = checkpoint_metadata_decode(text.text, text.length, out);
    if (err != NULL) {
        err = error_wrap(err, "%s is damaged", file);
        goto done;
    }
    if (directory != NULL) {
        *directory = found;
        found = NULL;
    }
done:
    if (fd >= 0)
        close(fd);
    str_buf_finish(&text);
    free(file);
    free(found);
    return err;
}

static struct error *write_synced(const char *path, const char *text, size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_errno(errno, "could not create %s", path);
    size_t done = 0;
    while (done < length) {
        ssize_t count = write(fd, text + done, length - done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            break;
        done += (size_t)count;
    }
    struct error *err = NULL;
    if (done < length || fsync(fd) != 0)
        err = error_errno(errno, "could not write %s", path);
    if (close(fd) != 0 && err == NULL)
        err = error_errno(errno, "could not write %s", path);
    return err;
}

static struct error *sync_directory(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(errno, "could not open the directory %s", directory);
    struct error *err = fsync(fd) != 0 ? error_errno(errno, "could not sync the directory %s", directory) : NULL;
    close(fd);
    return err;
}

struct error *checkpoint_metadata_write(const char *directory, const json_t *metadata)
{
    size_t length;
    char *text = checkpoint_metadata_encode(metadata, &length);
    char *temporary = heap_printf("%s/." CHECKPOINT_METADATA_FILE ".tmp", directory);
    char *final = heap_printf("%s/" CHECKPOINT_METADATA_FILE, directory);
    struct error *err;
    TRY_GOTO(done, write_synced(temporary, text, length));
    if (rename(temporary, final) != 0) {
        err = error_errno(errno, "could not rename %s to %s", temporary, final);
        goto done;
    }
    err = sync_directory(directory);
done:
    if (err != NULL)
        unlink(temporary);
    free(final);
    free(temporary);
    free(text);
    return err;
}
