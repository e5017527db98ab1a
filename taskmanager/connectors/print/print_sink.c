/* print-sink: one line a row on standard output or standard error, as Flink's print connector writes them:
 * `[identifier[:task]> ]+I[a, b]`; without an identifier `task> ` when there is more than one task. A batch is one write(2).
 * Options: identifier, standard_error. Thread: task. Owner: the operator chain.
 * source: Flink docs, "Print SQL Connector" (prefix rules) */
#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "taskmanager/connectors/sink_books.h"
#include "taskmanager/formats/value_text.h"
#include "taskmanager/ops/op_support.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

struct print_sink {
    struct op op;
    struct sink_books books;
    struct row_digest *digest;
    char *prefix;
    int fd;
    struct str_buf text;
};

extern const struct op_vtable print_sink_vtable;

static struct error *print_create(struct op_context *ctx, struct op **out)
{
    struct schema *schema;
    const char *identifier = NULL;
    bool is_stderr = false;
    TRY(op_input_schema(ctx, 0, &schema));
    TRY(op_option_text(ctx, ctx->spec->options, "identifier", false, &identifier));
    TRY(op_option_bool(ctx, ctx->spec->options, "standard_error", &is_stderr));
    struct print_sink *self = heap_new(struct print_sink);
    self->op = (struct op){&print_sink_vtable, ctx};
    self->digest = row_digest_create(schema);
    self->fd = is_stderr ? STDERR_FILENO : STDOUT_FILENO;
    bool has_name = identifier != NULL && identifier[0] != '\0';
    if (ctx->parallelism > 1)
        self->prefix = heap_printf("%s%s%" PRIu32 "> ", has_name ? identifier : "", has_name ? ":" : "", ctx->subtask_index + 1);
    else
        self->prefix = heap_printf("%s%s", has_name ? identifier : "", has_name ? "> " : "");
    *out = &self->op;
    return NULL;
}

static struct error *print_open(struct op *op)
{
    sink_books_open(&((struct print_sink *)op)->books, op->ctx);
    return NULL;
}

static void append_value(struct str_buf *text, enum data_type type, const struct column *column, uint32_t row)
{
    const void *values = column->values;
    switch (type) {
    case TYPE_BOOLEAN:
        str_buf_append(text, ((const uint8_t *)values)[row >> 3] >> (row & 7) & 1 ? "true" : "false");
        break;
    case TYPE_INT8: str_buf_printf(text, "%d", ((const int8_t *)values)[row]); break;
    case TYPE_INT16: str_buf_printf(text, "%d", ((const int16_t *)values)[row]); break;
    case TYPE_INT32:
    case TYPE_DATE: str_buf_printf(text, "%" PRId32, ((const int32_t *)values)[row]); break;
    case TYPE_INT64:
    case TYPE_TIMESTAMP: str_buf_printf(text, "%" PRId64, ((const int64_t *)values)[row]); break;
    case TYPE_FLOAT: value_text_print_float(((const float *)values)[row], text); break;
    case TYPE_DOUBLE: value_text_print_double(((const double *)values)[row], text); break;
    case TYPE_STRING:
    case TYPE_BYTES: {
        const struct string_view *view = &((const struct string_view *)values)[row];
        str_buf_append_bytes(text, string_view_text(column, view), view->length);
        break;
    }
    case DATA_TYPE_COUNT: break;
    }
}

static void append_row(struct print_sink *self, const struct batch *batch, uint32_t row)
{
    static const char *const kinds[] = {"+I[", "-U[", "+U[", "-D["};
    str_buf_append(&self->text, self->prefix);
    str_buf_append(&self->text, kinds[batch->row_kind != NULL ? batch->row_kind[row] & 3 : ROW_INSERT]);
    for (uint32_t c = 0; c < batch->schema->field_count; c++) {
        if (c > 0)
            str_buf_append(&self->text, ", ");
        if (column_is_null(&batch->columns[c], row))
            str_buf_append(&self->text, "null");
        else
            append_value(&self->text, batch->schema->fields[c].type, &batch->columns[c], row);
    }
    str_buf_append(&self->text, "]\n");
}

static struct error *print_process(struct op *op, uint32_t input, struct batch *batch)
{
    struct print_sink *self = (struct print_sink *)op;
    (void)input;
    str_buf_clear(&self->text);
    for (uint32_t row = 0; row < batch->row_count; row++)
        append_row(self, batch, row);
    for (size_t done = 0; done < self->text.length;) {
        ssize_t written = write(self->fd, self->text.text + done, self->text.length - done);
        if (written < 0 && errno != EINTR)
            return error_errno(errno, "operator %s could not print", op->ctx->spec->name);
        done += written > 0 ? (size_t)written : 0;
    }
    sink_books_add(&self->books, batch->row_count, row_digest_of_batch(self->digest, batch));
    return NULL;
}

static struct error *print_snapshot(struct op *op, uint64_t checkpoint_id, struct snapshot *snapshot)
{
    (void)snapshot;
    sink_books_cut(&((struct print_sink *)op)->books, checkpoint_id);
    return NULL;
}

static struct error *print_complete(struct op *op, uint64_t checkpoint_id)
{
    sink_books_complete(&((struct print_sink *)op)->books, checkpoint_id);
    return NULL;
}

static void print_destroy(struct op *op)
{
    struct print_sink *self = (struct print_sink *)op;
    sink_books_finish(&self->books);
    row_digest_destroy(self->digest);
    str_buf_finish(&self->text);
    free(self->prefix);
    free(self);
}

const struct op_vtable print_sink_vtable = {
    .type = "print-sink",
    .create = print_create,
    .open = print_open,
    .process = print_process,
    .snapshot = print_snapshot,
    .checkpoint_complete = print_complete,
    .destroy = print_destroy,
};
