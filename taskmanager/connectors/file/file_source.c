/* file-source: the lines of a file, or of all files of a folder (hidden ones and names that begin with _ excepted), decoded by a
 * format. A split is a file with the offset of its next line; files go to subtasks by a hash of their path. With monitor_interval_ms the
 * folder is looked at again and again for new files, else the source ends after what was there at the start.
 * A file is taken as complete when it is found: what is appended later is not read.
 * Options: path, monitor_interval_ms, format, watermark, on_error. Thread: task. Owner: the operator chain. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "taskmanager/connectors/source.h"
#include "taskmanager/formats/format.h"
#include "taskmanager/ops/op_support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES ((size_t)256 << 10)
#define LINE_BYTES_MAX ((size_t)16 << 20)
/* Text of a batch: long lines go in batches of fewer rows. */
#define BATCH_TEXT_BYTES_MAX ((size_t)1 << 20)

struct file_source {
    struct source source; /* first member */
    const char *path;     /* from the options */
    int64_t monitor_interval_ms;
    int64_t next_scan_ms;
    struct format_decoder *decoder;

    /* the file being read */
    struct source_split *split; /* NULL: none */
    int fd;
    uint64_t offset; /* of buffer[start] in the file */
    uint8_t *buffer;
    size_t capacity;
    size_t start;
    size_t end;
    bool is_at_end; /* read(2) said so */
};

struct file_position {
    uint64_t offset; /* of the next line */
};

extern const struct op_vtable file_source_vtable;

/* ---- finding files ---- */

static struct error *add_file(struct file_source *self, const char *path)
{
    uint64_t assignment = source_assignment_of_name(path);
    if (!source_owns(&self->source, assignment))
        return NULL;
    for (size_t i = 0; i < self->source.splits.count; i++)
        if (strcmp(self->source.splits.items[i]->name, path) == 0)
            return NULL;
    struct source_split *split = source_add_split(&self->source, path, assignment);
    struct file_position *position = heap_new(struct file_position);
    split->user = position;
    size_t length;
    const void *restored = source_split_restored_position(split, &length);
    if (restored == NULL)
        return NULL;
    struct bytes_reader reader = bytes_reader_on(restored, length);
    position->offset = bytes_read_u64(&reader);
    return bytes_reader_ok(&reader) ? NULL : error_new(CORRUPT, "the position of file %s is damaged", path);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In order of name, so that the order of reading does not depend on the file system. */
static struct error *scan_folder(struct file_source *self, DIR *folder)
{
    VEC(char *) names = {0};
    struct error *err = NULL;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] != '.' && entry->d_name[0] != '_')
            vec_push(&names, heap_printf("%s/%s", self->path, entry->d_name));
    if (names.count > 0)
        qsort(names.items, names.count, sizeof *names.items, compare_names);
    for (size_t i = 0; i < names.count; i++) {
        struct stat info;
        if (err == NULL && stat(names.items[i], &info) == 0 && S_ISREG(info.st_mode))
            err = add_file(self, names.items[i]);
        free(names.items[i]);
    }
    vec_finish(&names);
    return err;
}

static struct error *scan(struct file_source *self)
{
    struct stat info;
    if (stat(self->path, &info) != 0)
        return error_errno(errno, "operator %s could not read %s", self->source.op.ctx->spec->name, self->path);
    if (!S_ISDIR(info.st_mode))
        return add_file(self, self->path);
    DIR *folder = opendir(self->path);
    if (folder == NULL)
        return error_errno(errno, "operator %s could not read folder %s", self->source.op.ctx->spec->name, self->path);
    struct error *err = scan_folder(self, folder);
    closedir(folder);
    return err;
}

/* ---- reading lines ---- */

static struct error *open_split(struct file_source *self, struct source_split *split)
{
    const struct file_position *position = split->user;
    int fd = open(split->name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || lseek(fd, (off_t)position->offset, SEEK_SET) < 0) {
        int code = errno;
        if (fd >= 0)
            close(fd);
        return error_errno(code, "could not open %s at %" PRIu64, split->name, position->offset);
    }
    self->split = split;
    self->fd = fd;
    self->offset = position->offset;
    self->start = self->end = 0;
    self->is_at_end = false;
    return NULL;
}

static void close_split(struct file_source *self)
{
    close(self->fd);
    self->fd = -1;
    self->split->is_finished = true;
    self->split = NULL;
}

static struct error *fill_buffer(struct file_source *self)
{
    memmove(self->buffer, self->buffer + self->start, self->end - self->start);
    self->end -= self->start;
    self->start = 0;
    if (self->end == self->capacity) {
        if (self->capacity >= LINE_BYTES_MAX)
            return error_new(TOO_LARGE, "%s has a line of more than %zu bytes at offset %" PRIu64, self->split->name, LINE_BYTES_MAX, self->offset);
        self->capacity *= 2;
        self->buffer = heap_realloc(self->buffer, self->capacity, 1);
    }
    ssize_t got;
    do
        got = read(self->fd, self->buffer + self->end, self->capacity - self->end);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return error_errno(errno, "could not read %s", self->split->name);
    self->is_at_end = got == 0;
    self->end += (size_t)got;
    return NULL;
}

/* A whole line in the buffer, its length with and without the line end; false: more must be read, or the file is over. */
static bool next_line(const struct file_source *self, size_t *length, size_t *taken)
{
    const uint8_t *text = self->buffer + self->start;
    size_t left = self->end - self->start;
    const uint8_t *newline = left > 0 ? memchr(text, '\n', left) : NULL;
    if (newline == NULL && (!self->is_at_end || left == 0))
        return false;
    *length = newline != NULL ? (size_t)(newline - text) : left;
    *taken = newline != NULL ? *length + 1 : left;
    if (*length > 0 && text[*length - 1] == '\r')
        --*length;
    return true;
}

static struct error *read_line(struct file_source *self, size_t length, size_t taken)
{
    struct source *source = &self->source;
    const uint8_t *text = self->buffer + self->start;
    uint64_t offset = self->offset;
    self->start += taken;
    self->offset += taken;
    ((struct file_position *)self->split->user)->offset = self->offset;
    if (length == 0)
        return NULL; /* an empty line is no record */
    if (batch_builder_is_full(source->builder))
        TRY(source_flush(source));
    const char *reason;
    source_count_record(source, taken);
    if (format_decode(self->decoder, text, length, source->builder, &reason))
        return NULL;
    if (reason == NULL) {
        source_count_filtered(source);
        return NULL;
    }
    return source_malformed(source, self->split, (int64_t)offset, text, length, reason);
}

static struct error *read_split(struct file_source *self, uint32_t max_rows)
{
    source_select_split(&self->source, self->split);
    for (uint32_t rows = 0; rows < max_rows && self->source.builder->text_bytes < BATCH_TEXT_BYTES_MAX;) {
        size_t length, taken;
        if (next_line(self, &length, &taken)) {
            TRY(read_line(self, length, taken));
            rows++;
        } else if (self->is_at_end) {
            close_split(self);
            return NULL;
        } else {
            TRY(fill_buffer(self));
        }
    }
    return NULL;
}

static struct error *file_read(struct source *source, uint32_t max_rows, enum source_status *status)
{
    struct file_source *self = (struct file_source *)source;
    for (size_t i = 0; i < source->splits.count && self->split == NULL; i++)
        if (!source->splits.items[i]->is_finished)
            TRY(open_split(self, source->splits.items[i]));
    if (self->split != NULL)
        return read_split(self, max_rows);
    if (self->monitor_interval_ms == 0) {
        *status = SOURCE_END;
        return NULL;
    }
    int64_t now_ms = clock_now_ms();
    if (now_ms >= self->next_scan_ms) {
        self->next_scan_ms = now_ms + self->monitor_interval_ms;
        size_t known = source->splits.count;
        TRY(scan(self));
        if (source->splits.count > known)
            return NULL;
    }
    op_wake_at(&source->op, self->next_scan_ms);
    *status = SOURCE_EMPTY;
    return NULL;
}

static void file_write_position(struct source *source, const struct source_split *split, struct bytes_writer *writer)
{
    (void)source;
    bytes_write_u64(writer, ((const struct file_position *)split->user)->offset);
}

static const struct source_reader file_reader = {
    .read = file_read,
    .write_position = file_write_position,
};

/* ---- life ---- */

static void file_destroy(struct op *op)
{
    struct file_source *self = (struct file_source *)op;
    if (self->fd >= 0)
        close(self->fd);
    for (size_t i = 0; i < self->source.splits.count; i++)
        free(self->source.splits.items[i]->user);
    format_decoder_destroy(self->decoder);
    free(self->buffer);
    source_finish(&self->source);
    free(self);
}

static struct error *init(struct file_source *self)
{
    struct op_context *ctx = self->source.op.ctx;
    TRY(op_option_path(ctx, ctx->spec->options, "path", &self->path));
    TRY(op_option_int(ctx, ctx->spec->options, "monitor_interval_ms", 0, INT64_C(1) << 40, &self->monitor_interval_ms));
    struct error *err = format_decoder_create(json_object_get(ctx->spec->options, "format"), ctx->spec->schema, NULL, &self->decoder);
    if (err != NULL)
        return error_wrap(err, "operator %s", ctx->spec->name);
    self->capacity = READ_BYTES;
    self->buffer = heap_alloc(self->capacity);
    return NULL;
}

static struct error *file_create(struct op_context *ctx, struct op **out)
{
    struct file_source *self = heap_new(struct file_source);
    struct error *err = source_init(&self->source, &file_source_vtable, &file_reader, ctx);
    if (err != NULL) {
        free(self);
        return err;
    }
    self->fd = -1;
    err = init(self);
    if (err != NULL) {
        file_destroy(&self->source.op);
        return err;
    }
    *out = &self->source.op;
    return NULL;
}

/* Files of the checkpoint that are gone by now were read before, or are missed when they are opened. */
static struct error *file_open(struct op *op)
{
    struct file_source *self = (struct file_source *)op;
    for (size_t i = 0; i < self->source.restored.count; i++)
        TRY(add_file(self, self->source.restored.items[i].name));
    self->next_scan_ms = clock_now_ms() + self->monitor_interval_ms;
    return scan(self);
}

const struct op_vtable file_source_vtable = {
    .type = "file-source",
    .create = file_create,
    .restore = source_restore,
    .open = file_open,
    .wake = source_wake,
    .describe = source_describe,
    .snapshot = source_snapshot,
    .destroy = file_destroy,
    .poll = source_poll,
};
