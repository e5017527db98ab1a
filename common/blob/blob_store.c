/* See blob_store.h. */
#include "common/blob/blob_store.h"

#include "common/base/heap.h"
#include "common/base/vec.h"
#include "common/fs/fs.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct blob_store {
    char *directory;
    size_t blob_bytes_max;
};

struct blob_key blob_key_of(const void *bytes, size_t length)
{
    struct blob_key key;
    struct digest digest;
    digest_init(&digest);
    digest_update(&digest, bytes, length);
    digest_hex(&digest, key.hex);
    return key;
}

bool blob_key_parse(const char *text, struct blob_key *out)
{
    if (strlen(text) != BLOB_KEY_HEX_BYTES || strspn(text, "0123456789abcdef") != BLOB_KEY_HEX_BYTES)
        return false;
    memcpy(out->hex, text, sizeof out->hex);
    return true;
}

static struct error *remove_leftovers(const char *directory)
{
    DIR *entries = opendir(directory);
    if (entries == NULL)
        return error_errno(errno, "could not open the blob directory %s", directory);
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        size_t length = strlen(entry->d_name);
        if (length > 4 && strcmp(entry->d_name + length - 4, ".tmp") == 0)
            (void)unlinkat(dirfd(entries), entry->d_name, 0);
    }
    closedir(entries);
    return NULL;
}

struct error *blob_store_create(const char *directory, size_t blob_bytes_max, struct blob_store **out)
{
    TRY(fs_make_directories(directory));
    TRY(remove_leftovers(directory));
    struct blob_store *store = heap_new(struct blob_store);
    store->directory = heap_strdup(directory);
    store->blob_bytes_max = blob_bytes_max;
    *out = store;
    return NULL;
}

void blob_store_destroy(struct blob_store *store)
{
    if (store == NULL)
        return;
    free(store->directory);
    free(store);
}

static char *path_of(const struct blob_store *store, const struct blob_key *key)
{
    return heap_printf("%s/%s", store->directory, key->hex);
}

bool blob_store_has(const struct blob_store *store, const char *text)
{
    struct blob_key key;
    if (!blob_key_parse(text, &key))
        return false;
    char *path = path_of(store, &key);
    bool is_there = access(path, R_OK) == 0;
    free(path);
    return is_there;
}

struct error *blob_store_put(struct blob_store *store, const void *bytes, size_t length, struct blob_key *out)
{
    if (length > store->blob_bytes_max)
        return error_new(TOO_LARGE, "a blob of %zu bytes is larger than the limit of %zu", length, store->blob_bytes_max);
    struct blob_key key = blob_key_of(bytes, length);
    char *path = path_of(store, &key);
    struct error *err = access(path, R_OK) == 0 ? NULL : fs_write_atomic(path, bytes, length);
    free(path);
    TRY(err);
    *out = key;
    return NULL;
}

struct error *blob_store_put_file(struct blob_store *store, const char *path, struct blob_key *out)
{
    uint8_t *bytes = NULL;
    size_t length = 0;
    TRY(fs_read_file(path, store->blob_bytes_max, &bytes, &length));
    struct error *err = blob_store_put(store, bytes, length, out);
    free(bytes);
    return err;
}

struct error *blob_store_put_expected(struct blob_store *store, const char *key, const void *bytes, size_t length)
{
    struct blob_key actual = blob_key_of(bytes, length);
    if (strcmp(actual.hex, key) != 0)
        return error_new(CORRUPT, "blob %s arrived damaged: its bytes have the hash %s", key, actual.hex);
    return blob_store_put(store, bytes, length, &actual);
}

struct error *blob_store_path(const struct blob_store *store, const char *text, char **out)
{
    struct blob_key key;
    if (!blob_key_parse(text, &key))
        return error_new(INVALID_ARGUMENT, "%s is not a blob key", text);
    if (!blob_store_has(store, text))
        return error_new(NOT_FOUND, "there is no blob %s", text);
    *out = path_of(store, &key);
    return NULL;
}

struct error *blob_store_read(struct blob_store *store, const char *text, uint8_t **out, size_t *out_length)
{
    char *path = NULL;
    uint8_t *bytes = NULL;
    size_t length = 0;
    TRY(blob_store_path(store, text, &path));
    struct error *err = fs_read_file(path, store->blob_bytes_max, &bytes, &length);
    if (err == NULL) {
        struct blob_key actual = blob_key_of(bytes, length);
        if (strcmp(actual.hex, text) != 0) {
            (void)unlink(path);
            err = error_new(CORRUPT, "blob %s is damaged on disk (hash %s); removed it", text, actual.hex);
        }
    }
    free(path);
    if (err != NULL) {
        free(bytes);
        return err;
    }
    *out = bytes;
    *out_length = length;
    return NULL;
}

struct error *blob_store_delete(struct blob_store *store, const char *text)
{
    char *path = NULL;
    TRY(blob_store_path(store, text, &path));
    int failed = unlink(path) != 0 ? errno : 0;
    struct error *err = failed != 0 ? error_errno(failed, "could not delete %s", path) : NULL;
    free(path);
    return err;
}

static int compare_keys(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct blob_key));
}

struct error *blob_store_list(const struct blob_store *store, struct blob_key **out, size_t *out_count)
{
    VEC(struct blob_key) keys = {0};
    DIR *entries = opendir(store->directory);
    if (entries == NULL)
        return error_errno(errno, "could not open the blob directory %s", store->directory);
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        struct blob_key key;
        if (blob_key_parse(entry->d_name, &key))
            vec_push(&keys, key);
    }
    closedir(entries);
    if (keys.count > 0)
        qsort(keys.items, keys.count, sizeof *keys.items, compare_keys);
    *out = keys.items;
    *out_count = keys.count;
    return NULL;
}
