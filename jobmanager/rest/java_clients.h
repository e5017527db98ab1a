/* Which form of GET /jobs/overview a Java client of Flink reads. Clients up to 1.18 refuse the whole answer because of one
 * member that they do not know; those from 2.0 on insist on the member "pending-operators"; 1.19 and 1.20 take both. Their
 * requests are the same byte for byte, so the first answer is a guess. But a client that could not read it asks again after
 * rest.retry.delay (3 s): then it gets the other form, and so does its address from then on.
 * Thread: the jobmanager's loop. Owner: the jobmanager. */
#ifndef MILLRACE_REST_JAVA_CLIENTS_H
#define MILLRACE_REST_JAVA_CLIENTS_H

#include "common/http/http_request.h"

#define JAVA_CLIENTS_MAX 32
/* How long after an answer a question counts as its repetition. */
#define JAVA_CLIENT_RETRY_MIN_MS 2500
#define JAVA_CLIENT_RETRY_MAX_MS 7000

struct java_client {
    uint8_t address[HTTP_ADDRESS_BYTES];
    int64_t answered_ms; /* 0: the place is free */
    bool is_old;         /* reads no member that it does not know */
};

/* Zeroed: none. The one that has been silent for longest gives way. */
struct java_clients {
    struct java_client clients[JAVA_CLIENTS_MAX];
};

/* Whether this request's answer has the members that came with Flink 2.0; notes that it is answered now. Anything but a Java client
 * (which sends the body {} even with GET) always gets them. */
bool java_clients_want_new_members(struct java_clients *clients, const struct http_request *request, int64_t now_ms);

#endif
