/* Frames from a stranger: the bytes are fed whole, one by one and through the in-place path; all three must see the same frames, and nothing
 * may be allocated beyond the limit. */
#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/rpc/frame.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    size_t frame_count;
    uint32_t crc; /* over types and bodies */
    bool failed;
};

static void take(struct outcome *outcome, struct frame *frame)
{
    check(frame->length <= FRAME_BODY_BYTES_STRANGER);
    outcome->frame_count++;
    outcome->crc = crc32c(outcome->crc, &frame->type, sizeof frame->type);
    outcome->crc = crc32c(outcome->crc, frame->body, frame->length);
    frame_finish(frame);
}

static struct outcome parse(const uint8_t *data, size_t size, size_t step, bool in_place)
{
    struct outcome outcome = {0};
    struct frame_parser parser;
    frame_parser_init(&parser, FRAME_BODY_BYTES_STRANGER);
    while (size > 0 && !outcome.failed) {
        struct frame frame;
        bool is_complete = false;
        size_t space = 0;
        size_t consumed = size < step ? size : step;
        uint8_t *body = in_place ? frame_parser_space(&parser, &space) : NULL;
        struct error *err;
        if (body != NULL) {
            consumed = consumed < space ? consumed : space;
            memcpy(body, data, consumed);
            err = frame_parser_filled(&parser, consumed, &is_complete, &frame);
        } else {
            err = frame_parser_feed(&parser, data, consumed, &consumed, &is_complete, &frame);
        }
        if (err == NULL && is_complete)
            take(&outcome, &frame);
        outcome.failed = err != NULL;
        error_free(err);
        data += consumed;
        size -= consumed;
    }
    frame_parser_finish(&parser);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole = parse(data, size, SIZE_MAX, false);
    struct outcome bytes = parse(data, size, 1, false);
    struct outcome pieces = parse(data, size, 7, true);
    check(whole.frame_count == bytes.frame_count && whole.crc == bytes.crc && whole.failed == bytes.failed);
    check(whole.frame_count == pieces.frame_count && whole.crc == pieces.crc && whole.failed == pieces.failed);
    return 0;
}
