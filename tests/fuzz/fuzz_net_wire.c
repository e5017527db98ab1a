/* Bodies of data-plane frames: the first byte chooses the kind, the rest is the body. What is accepted verifies; requests, credits
 * survive their own encoding. */
#include "common/base/check.h"
#include "common/columnar/batch.h"
#include "taskmanager/net/net_wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct error *decode_request(const uint8_t *body, size_t length)
{
    struct net_request request, again;
    TRY(net_decode_request(body, length, &request));
    struct bytes_writer writer = {0};
    net_encode_request(&writer, &request);
    struct error *broken = net_decode_request(writer.data, writer.length, &again);
    check(broken == NULL);
    check(again.channel == request.channel && again.credit == request.credit);
    bytes_writer_finish(&writer);
    return NULL;
}

static struct error *decode_batch(const uint8_t *body, size_t length)
{
    struct field fields[] = {{.name = (char[]){"t"}, .type = TYPE_TIMESTAMP}, {.name = (char[]){"page"}, .type = TYPE_STRING, .nullable = true}};
    struct schema *schema = schema_create(fields, 2);
    struct net_batch batch;
    struct error *err = net_decode_batch(body, length, schema, &batch);
    if (err == NULL) {
        struct error *broken = batch_verify(batch.batch);
        check(broken == NULL);
        batch_unref(batch.batch);
    }
    schema_unref(schema);
    return err;
}

static struct error *decode_event(const uint8_t *body, size_t length)
{
    struct net_event event;
    TRY(net_decode_event(body, length, &event));
    element_finish(&event.element);
    return NULL;
}

static struct error *decode_credit(const uint8_t *body, size_t length)
{
    uint32_t channel, batches;
    return net_decode_credit(body, length, &channel, &batches);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct error *(*const decoders[])(const uint8_t *, size_t) = {decode_request, decode_batch, decode_event, decode_credit};
    if (size == 0)
        return 0;
    uint32_t channel;
    bool has_channel = net_decode_channel(data + 1, size - 1, &channel);
    check(has_channel == (size - 1 >= sizeof channel));
    if (data[0] % 5 == 4) {
        error_free(net_decode_error(data + 1, size - 1));
        return 0;
    }
    error_free(decoders[data[0] % 5](data + 1, size - 1));
    return 0;
}
