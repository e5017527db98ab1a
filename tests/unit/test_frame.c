/* Frames: round trips cut at every byte, refused headers, limits; and the messages inside. */
#include "common/base/crc32c.h"
#include "common/base/heap.h"
#include "common/rpc/frame.h"
#include "common/rpc/message.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static void error_expect(struct error *err, enum error_code code, const char *part)
{
    ck_assert_ptr_nonnull(err);
    char *text = error_text(err);
    ck_assert_msg(strstr(text, part) != NULL, "'%s' is not in '%s'", part, text);
    ck_assert_int_eq((int)err->code, (int)code);
    free(text);
    error_free(err);
}

START_TEST(round_trip_cut_anywhere)
{
    const char *body = "{\"seq\":7}";
    size_t length;
    uint8_t *bytes = frame_encode(MESSAGE_HEARTBEAT, body, (uint32_t)strlen(body), &length);
    for (size_t cut = 0; cut <= length; cut++) {
        struct frame_parser parser;
        struct frame frame;
        size_t consumed;
        bool is_complete = false;
        frame_parser_init(&parser, FRAME_BODY_BYTES_STRANGER);
        ck_assert_ptr_null(frame_parser_feed(&parser, bytes, cut, &consumed, &is_complete, &frame));
        ck_assert_uint_eq(consumed, cut);
        if (!is_complete)
            ck_assert_ptr_null(frame_parser_feed(&parser, bytes + cut, length - cut, &consumed, &is_complete, &frame));
        ck_assert(is_complete);
        ck_assert_uint_eq(frame.type, MESSAGE_HEARTBEAT);
        ck_assert_uint_eq(frame.length, strlen(body));
        ck_assert_mem_eq(frame.body, body, strlen(body));
        ck_assert(frame_parser_is_idle(&parser));
        frame_finish(&frame);
        frame_parser_finish(&parser);
    }
    free(bytes);
}
END_TEST

START_TEST(several_frames_in_one_read)
{
    struct frame_parser parser;
    uint8_t stream[200];
    size_t filled = 0;
    for (uint32_t i = 0; i < 5; i++) {
        size_t length;
        uint8_t *bytes = frame_encode((uint16_t)(100 + i), "abcde", i, &length);
        memcpy(stream + filled, bytes, length);
        filled += length;
        free(bytes);
    }
    frame_parser_init(&parser, 16);
    size_t at = 0;
    for (uint32_t i = 0; i < 5; i++) {
        size_t consumed;
        bool is_complete;
        struct frame frame;
        ck_assert_ptr_null(frame_parser_feed(&parser, stream + at, filled - at, &consumed, &is_complete, &frame));
        ck_assert(is_complete);
        ck_assert_uint_eq(frame.type, 100 + i);
        ck_assert_uint_eq(frame.length, i);
        at += consumed;
        frame_finish(&frame);
    }
    ck_assert_uint_eq(at, filled);
    frame_parser_finish(&parser);
}
END_TEST

START_TEST(body_is_read_in_place)
{
    struct frame_parser parser;
    struct frame frame;
    size_t length;
    size_t consumed;
    size_t space;
    bool is_complete;
    uint8_t body[3000];
    memset(body, 7, sizeof body);
    uint8_t *bytes = frame_encode(MESSAGE_BATCH, body, sizeof body, &length);
    frame_parser_init(&parser, FRAME_BODY_BYTES_DATA);
    ck_assert_ptr_null(frame_parser_space(&parser, &space));
    ck_assert_ptr_null(frame_parser_feed(&parser, bytes, FRAME_HEADER_BYTES + 10, &consumed, &is_complete, &frame));
    uint8_t *at = frame_parser_space(&parser, &space);
    ck_assert_ptr_nonnull(at);
    ck_assert_uint_eq(space, 2990);
    memcpy(at, bytes + FRAME_HEADER_BYTES + 10, 2990);
    ck_assert_ptr_null(frame_parser_filled(&parser, 2990, &is_complete, &frame));
    ck_assert(is_complete);
    ck_assert_mem_eq(frame.body, body, sizeof body);
    uint8_t *kept = frame_detach_body(&frame);
    frame_finish(&frame);
    free(kept);
    free(bytes);
}
END_TEST

static struct error *feed_header(uint32_t magic, uint16_t version, uint32_t length, uint32_t crc, uint32_t limit)
{
    struct frame_parser parser;
    uint8_t header[FRAME_HEADER_BYTES];
    size_t consumed;
    bool is_complete;
    struct frame frame = {0};
    frame_header_encode(header, MESSAGE_BLOB, length, crc);
    memcpy(header, &magic, 4);
    memcpy(header + 4, &version, 2);
    frame_parser_init(&parser, limit);
    struct error *err = frame_parser_feed(&parser, header, sizeof header, &consumed, &is_complete, &frame);
    frame_finish(&frame);
    frame_parser_finish(&parser);
    return err;
}

START_TEST(bad_headers_are_refused)
{
    error_expect(feed_header(0x20544547, 1, 0, 0, 4096), ERR_PROTOCOL, "not a Millrace frame");
    error_expect(feed_header(FRAME_MAGIC, 2, 0, 0, 4096), ERR_PROTOCOL, "version 2");
    error_expect(feed_header(FRAME_MAGIC, 1, 4097, 0, 4096), ERR_TOO_LARGE, "4097 bytes, the limit is 4096");
    error_expect(feed_header(FRAME_MAGIC, 1, UINT32_MAX, 0, FRAME_BODY_BYTES_CONTROL), ERR_TOO_LARGE, "the limit");
    error_expect(feed_header(FRAME_MAGIC, 1, 0, 5, 4096), ERR_PROTOCOL, "checksum");
    ck_assert_ptr_null(feed_header(FRAME_MAGIC, 1, 4096, 0, 4096));
}
END_TEST

START_TEST(any_flipped_bit_is_found)
{
    size_t length;
    uint8_t *bytes = frame_encode(MESSAGE_CANCEL, "hello frame", 11, &length);
    for (size_t bit = FRAME_HEADER_BYTES * 8; bit < length * 8; bit++) {
        struct frame_parser parser;
        struct frame frame = {0};
        size_t consumed;
        bool is_complete;
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        frame_parser_init(&parser, 64);
        error_expect(frame_parser_feed(&parser, bytes, length, &consumed, &is_complete, &frame), ERR_PROTOCOL, "checksum");
        frame_parser_finish(&parser);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(bytes);
}
END_TEST

/* ---- messages ---- */

static struct error *parse(uint16_t type, const char *text)
{
    json_t *json = NULL;
    struct error *err = message_parse(type, text, strlen(text), &json);
    json_decref(json);
    return err;
}

START_TEST(messages_are_checked)
{
    ck_assert_ptr_null(parse(MESSAGE_CANCEL, "{\"job\":\"00112233445566778899aabbccddeeff\",\"epoch\":3,\"mode\":\"kill\"}"));
    ck_assert_ptr_null(parse(MESSAGE_HEARTBEAT, "{\"seq\":1,\"metrics\":null,\"later\":true}"));
    error_expect(parse(MESSAGE_CANCEL, "{\"job\":\"00112233445566778899aabbccddeeff\",\"mode\":\"kill\"}"), ERR_PROTOCOL,
                 "message CANCEL has no member \"epoch\"");
    error_expect(parse(MESSAGE_CANCEL, "{\"job\":\"xx\",\"epoch\":3,\"mode\":\"kill\"}"), ERR_PROTOCOL,
                 "member \"job\" of message CANCEL is not of type id");
    error_expect(parse(MESSAGE_HEARTBEAT, "{\"seq\":1,\"metrics\":[]}"), ERR_PROTOCOL, "not of type object");
    error_expect(parse(MESSAGE_HEARTBEAT, "{\"seq\":1.5}"), ERR_PROTOCOL, "not of type int");
    error_expect(parse(MESSAGE_HEARTBEAT, "{\"seq\":1"), ERR_PROTOCOL, "is not JSON");
    error_expect(parse(MESSAGE_HEARTBEAT, ""), ERR_PROTOCOL, "is not JSON");
    error_expect(parse(MESSAGE_HEARTBEAT, "[1]"), ERR_PROTOCOL, "not a JSON object");
    error_expect(parse(MESSAGE_HEARTBEAT, "{\"seq\":1,\"seq\":2}"), ERR_PROTOCOL, "is not JSON");
    error_expect(parse(9999, "{}"), ERR_PROTOCOL, "unknown message type 9999");
    error_expect(parse(MESSAGE_BATCH, "{}"), ERR_PROTOCOL, "does not belong here");
    ck_assert_str_eq(message_type_name(MESSAGE_DEPLOY), "DEPLOY");
    ck_assert_str_eq(message_type_name(9999), "unknown");
}
END_TEST

START_TEST(headed_messages_carry_any_bytes)
{
    const uint8_t blob[] = {0, '\n', 255, 0, 1};
    size_t length;
    json_t *header = json_pack("{s:s}", "sha256", "ab");
    char *body = message_encode_headed(MESSAGE_BLOB, header, blob, sizeof blob, &length);
    json_decref(header);
    const uint8_t *bytes;
    size_t bytes_length;
    ck_assert_ptr_null(message_parse_headed(MESSAGE_BLOB, body, length, &header, &bytes, &bytes_length));
    ck_assert_str_eq(message_text(header, "sha256"), "ab");
    ck_assert_uint_eq(bytes_length, sizeof blob);
    ck_assert_mem_eq(bytes, blob, sizeof blob);
    json_decref(header);
    error_expect(message_parse_headed(MESSAGE_BLOB, "{}", 2, &header, &bytes, &bytes_length), ERR_PROTOCOL, "no header line");
    error_expect(message_parse_headed(MESSAGE_BLOB, "{}\n", 3, &header, &bytes, &bytes_length), ERR_PROTOCOL, "sha256");
    free(body);
}
END_TEST

START_TEST(errors_travel)
{
    struct error *err = error_with_hint(error_wrap(error_new(CONNECTOR, "broker \"x\" is down \xff"), "task 1 failed"), "start it");
    err->code = ERR_TASK_LOST;
    json_t *json = message_error_to_json(err);
    struct error *back = message_error_from_json(json);
    ck_assert_str_eq(back->message, "task 1 failed");
    ck_assert_str_eq(back->hint, "start it");
    ck_assert_int_eq((int)back->code, ERR_TASK_LOST);
    ck_assert_int_eq((int)back->cause->code, ERR_CONNECTOR);
    ck_assert_str_eq(back->cause->message, "broker \"x\" is down ?");
    error_free(err);
    error_free(back);
    json_decref(json);
    json = json_pack("{s:i}", "message", 5);
    back = message_error_from_json(json);
    ck_assert_str_eq(back->message, "unreadable error");
    error_free(back);
    json_decref(json);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frame");
    TCase *frames = tcase_create("frames");
    tcase_add_test(frames, round_trip_cut_anywhere);
    tcase_add_test(frames, several_frames_in_one_read);
    tcase_add_test(frames, body_is_read_in_place);
    tcase_add_test(frames, bad_headers_are_refused);
    tcase_add_test(frames, any_flipped_bit_is_found);
    suite_add_tcase(suite, frames);
    TCase *messages = tcase_create("messages");
    tcase_add_test(messages, messages_are_checked);
    tcase_add_test(messages, headed_messages_carry_any_bytes);
    tcase_add_test(messages, errors_travel);
    suite_add_tcase(suite, messages);
    return run_suite(suite);
}
