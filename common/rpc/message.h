/* Control messages: type numbers, names, and the check that a body has the members which its row in messages.def asks
 * for. A message that message_parse accepted can be read with json_object_get without looking at types again (optional
 * members excepted: those are of their type or missing). Thread: any. */
#ifndef MILLRACE_RPC_MESSAGE_H
#define MILLRACE_RPC_MESSAGE_H

#include "common/base/error.h"
#include "common/base/id.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum message_type {
#define MESSAGE(name, number, kind, members) MESSAGE_##name = number,
#include "common/rpc/messages.def"
#undef MESSAGE
};

/* "DEPLOY"; "unknown" for a number that has no row. */
const char *message_type_name(uint16_t type);

/* errors: PROTOCOL, naming the message and the member. *out is the caller's reference. */
MUST_CHECK struct error *message_parse(uint16_t type, const void *body, size_t length, json_t **out);
/* Checks members the same way (a wrong message is a defect of ours: aborts). Malloced, no NUL counted in *length. */
char *message_encode(uint16_t type, const json_t *json, size_t *length);

/* HEADED messages. *bytes points into body. */
MUST_CHECK struct error *message_parse_headed(uint16_t type, const void *body, size_t length, json_t **header,
                                              const uint8_t **bytes, size_t *bytes_length);
char *message_encode_headed(uint16_t type, const json_t *header, const void *bytes, size_t bytes_length, size_t *length);

/* Members of a parsed message. Missing: NULL, 0, zero id. */
const char *message_text(const json_t *json, const char *member);
int64_t message_int(const json_t *json, const char *member);
struct id message_id(const json_t *json, const char *member);

/* {"code": "USER_FUNCTION", "message": …, "hint": …, "cause": {…}}; and back (any shape is accepted, at worst an INTERNAL
 * "unreadable error"). At most 16 storeys. */
json_t *message_error_to_json(const struct error *err);
struct error *message_error_from_json(const json_t *json);

#endif
