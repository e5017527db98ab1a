/* The client's side of the REST API: one connection to one jobmanager, JSON in and out. The only user of libcurl.
 * Thread: the one that created it. */
#ifndef MILLRACE_CLIENT_REST_CLIENT_H
#define MILLRACE_CLIENT_REST_CLIENT_H

#include "common/base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct rest_client;

/* For https. Empty texts and NULL are "not given". */
struct rest_client_tls {
    const char *truststore;          /* PEM or PKCS#12; not given: the system's authorities */
    const char *truststore_password;
    const char *keystore;            /* the client's own, PKCS#12 or PEM, where the server asks for one */
    const char *keystore_password;
    const char *certificate;         /* or as two PEM files */
    const char *key;
    const char *key_password;
    bool verifies_host;              /* the certificate must name the host */
};

struct rest_client_options {
    const char *host;             /* name or address; borrowed for the call */
    uint16_t port;
    int64_t connect_timeout_ms;
    int64_t call_timeout_ms;
    uint32_t retry_count;         /* further attempts when nobody answers the connection */
    int64_t retry_delay_ms;
    const char *token;                 /* sent as Authorization: Bearer; NULL: none */
    const struct rest_client_tls *tls; /* borrowed for the call; NULL: plain http */
};

/* Sends the headers of the environment's FLINK_REST_CLIENT_HEADERS too: "Name:value", one a line, as Flink's client does.
 * errors: INVALID_CONFIG for stores and keys that cannot be read */
MUST_CHECK struct error *rest_client_create(const struct rest_client_options *options, struct rest_client **out);
/* Accepts NULL. */
void rest_client_destroy(struct rest_client *client);

/* method: "GET", "POST", "PATCH", "DELETE". path: "/jobs/overview", sent below /v1. body (borrowed) may be NULL. *out: the answer,
 * an object (new reference); out may be NULL.
 * errors: NETWORK "Connection refused: localhost/127.0.0.1:8081" and the like; UNAUTHORIZED for a server or a client that the other
 * side does not trust; any other HTTP status of 400 or more as NOT_FOUND, CONFLICT, INVALID_ARGUMENT or INTERNAL, whose message is
 * the server's errors, a line each, without Java's stack frames. */
MUST_CHECK struct error *rest_call(struct rest_client *client, const char *method, const char *path, const json_t *body, json_t **out);
/* POST of a file as multipart form data, part name "jarfile". */
MUST_CHECK struct error *rest_upload(struct rest_client *client, const char *path, const char *file, json_t **out);

/* text as one segment of a path: percent-encoded, malloced. */
char *rest_escape(const char *text);
/* Text of a Java throwable without its "\tat …" and "\t... n more" lines; malloced. Also for failure causes in answers. */
char *rest_strip_frames(const char *text);

#endif
