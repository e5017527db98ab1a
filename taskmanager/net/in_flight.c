/* Lists of elements in flight and their form in state files: see in_flight.h. Thread: the list's owner. */
#include "taskmanager/net/in_flight.h"

#include "common/base/check.h"
#include "common/base/heap.h"
#include "common/columnar/batch_codec.h"

struct in_flight *in_flight_create(void)
{
    return heap_new(struct in_flight);
}

void in_flight_destroy(struct in_flight *in_flight)
{
    if (in_flight == NULL)
        return;
    for (size_t i = 0; i < in_flight->items.count; i++)
        element_finish(&in_flight->items.items[i].element);
    vec_finish(&in_flight->items);
    free(in_flight);
}

bool in_flight_counts(enum element_type type)
{
    return type == ELEMENT_BATCH || type == ELEMENT_WATERMARK || type == ELEMENT_IDLE;
}

void in_flight_add(struct in_flight *in_flight, uint32_t origin, struct element element)
{
    check(in_flight_counts(element.type));
    if (element.type == ELEMENT_BATCH)
        in_flight->row_count += element.as.rows.batch->row_count;
    vec_push(&in_flight->items, ((struct in_flight_item){.origin = origin, .element = element}));
}

void in_flight_take(struct in_flight *in_flight, uint32_t origin, struct in_flight *from)
{
    if (from == NULL)
        return;
    for (size_t i = 0; i < from->items.count; i++)
        in_flight_add(in_flight, origin, from->items.items[i].element);
    vec_finish(&from->items);
    free(from);
}

void in_flight_encode_item(struct bytes_writer *writer, const struct in_flight_item *item)
{
    const struct element *element = &item->element;
    bytes_write_u32(writer, item->origin);
    bytes_write_u8(writer, (uint8_t)element->type);
    if (element->type == ELEMENT_BATCH)
        batch_encode(element->as.rows.batch, writer);
    else if (element->type == ELEMENT_WATERMARK)
        bytes_write_i64(writer, element->as.watermark);
    else
        bytes_write_u8(writer, element->as.is_idle);
}

static struct error *decode_rows(struct bytes_reader *reader, struct schema *schema, struct element *out)
{
    struct batch *batch;
    size_t left = bytes_reader_left(reader);
    const uint8_t *data = bytes_read(reader, left);
    struct error *err = batch_decode(data, left, schema, &batch);
    if (err != NULL)
        return error_wrap(err, "rows in flight cannot be read");
    *out = (struct element){.type = ELEMENT_BATCH, .as.rows = {.batch = batch, .bytes = batch_size_bytes(batch)}};
    return NULL;
}

struct error *in_flight_decode_item(const void *bytes, size_t length, struct schema *schema, struct in_flight_item *out)
{
    struct bytes_reader reader = bytes_reader_on(bytes, length);
    struct in_flight_item item = {.origin = bytes_read_u32(&reader)};
    uint8_t type = bytes_read_u8(&reader);
    if (bytes_reader_ok(&reader) && type == ELEMENT_BATCH) {
        TRY(decode_rows(&reader, schema, &item.element));
        *out = item;
        return NULL;
    }
    if (type == ELEMENT_WATERMARK)
        item.element = (struct element){.type = ELEMENT_WATERMARK, .as.watermark = bytes_read_i64(&reader)};
    else
        item.element = (struct element){.type = ELEMENT_IDLE, .as.is_idle = bytes_read_u8(&reader) != 0};
    if (!bytes_reader_ok(&reader) || bytes_reader_left(&reader) != 0 || !in_flight_counts((enum element_type)type))
        return error_new(CORRUPT, "an element in flight is malformed");
    *out = item;
    return NULL;
}
