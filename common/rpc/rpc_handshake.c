/* The handshake of TCP connections. Both sides prove that they know the secret without sending it:
 *   acceptor  HELLO_SERVER {nonce A}
 *   connector HELLO_CLIENT {role, nonce C, proof = HMAC-SHA256(secret, "role|A|C")}
 *   acceptor  WELCOME {proof = HMAC-SHA256(secret, "server|C|A")}
 * Without a secret all proofs are "". A side that has one refuses a side that has none. Thread: the loop's. */
#include "common/base/digest.h"
#include "common/base/heap.h"
#include "common/rpc/rpc_conn_private.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SECRET_BYTES_MAX = 4096, ROLE_BYTES_MAX = 32 };

struct error *rpc_secret_load(const char *path, struct rpc_secret *out)
{
    if (path == NULL || path[0] == '\0') {
        *out = (struct rpc_secret){0};
        return NULL;
    }
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return error_errno(errno, "could not open the secret file %s", path);
    uint8_t bytes[SECRET_BYTES_MAX + 1];
    size_t length = fread(bytes, 1, sizeof bytes, file);
    int failed = ferror(file);
    fclose(file);
    if (failed)
        return error_new(IO, "could not read the secret file %s", path);
    if (length > SECRET_BYTES_MAX)
        return error_new(INVALID_CONFIG, "the secret in %s is longer than %d bytes", path, SECRET_BYTES_MAX);
    while (length > 0 && isspace(bytes[length - 1]))
        length--;
    if (length == 0)
        return error_new(INVALID_CONFIG, "the secret file %s is empty", path);
    *out = (struct rpc_secret){.bytes = heap_memdup(bytes, length), .length = length};
    explicit_bzero(bytes, sizeof bytes);
    return NULL;
}

void rpc_secret_finish(struct rpc_secret *secret)
{
    if (secret->bytes != NULL)
        explicit_bzero(secret->bytes, secret->length);
    free(secret->bytes);
    *secret = (struct rpc_secret){0};
}

void handshake_copy_secret(struct rpc_conn *conn, const struct rpc_secret *secret)
{
    if (secret != NULL && secret->length > 0)
        conn->secret = (struct rpc_secret){heap_memdup(secret->bytes, secret->length), secret->length};
}

void handshake_forget(struct rpc_conn *conn)
{
    rpc_secret_finish(&conn->secret);
    free(conn->role);
    conn->role = NULL;
    json_decref(conn->hello);
    conn->hello = NULL;
}

static void prove(const struct rpc_secret *secret, const char *role, const char *first_nonce, const char *second_nonce,
                  char out[DIGEST_HEX_LENGTH + 1])
{
    out[0] = '\0';
    if (secret->length == 0)
        return;
    char *text = heap_printf("%s|%s|%s", role, first_nonce, second_nonce);
    digest_hmac_hex(secret->bytes, secret->length, text, out);
    free(text);
}

static void make_nonce(struct rpc_conn *conn)
{
    memcpy(conn->nonce, id_format(id_random()).hex, sizeof conn->nonce);
}

static struct error *take_peer_nonce(struct rpc_conn *conn, const json_t *message)
{
    struct id id;
    const char *nonce = message_text(message, "nonce");
    if (!id_parse(nonce, &id))
        return error_new(PROTOCOL, "the nonce of the handshake is not 32 hex digits");
    memcpy(conn->peer_nonce, nonce, sizeof conn->peer_nonce);
    return NULL;
}

void handshake_start_server(struct rpc_conn *conn)
{
    make_nonce(conn);
    json_t *hello = json_pack("{s:s}", "nonce", conn->nonce);
    rpc_conn_send_json(conn, MESSAGE_HELLO_SERVER, hello);
    json_decref(hello);
}

/* Connector: answer the challenge. */
static struct error *on_hello_server(struct rpc_conn *conn, const json_t *message)
{
    TRY(take_peer_nonce(conn, message));
    make_nonce(conn);
    char proof[DIGEST_HEX_LENGTH + 1];
    prove(&conn->secret, conn->role, conn->peer_nonce, conn->nonce, proof);
    json_t *hello = conn->hello != NULL ? json_copy(conn->hello) : json_object();
    json_object_set_new(hello, "role", json_string(conn->role));
    json_object_set_new(hello, "nonce", json_string(conn->nonce));
    json_object_set_new(hello, "proof", json_string(proof));
    conn->state = CONN_AWAIT_WELCOME;
    rpc_conn_send_json(conn, MESSAGE_HELLO_CLIENT, hello);
    json_decref(hello);
    return NULL;
}

/* Acceptor: judge the answer, prove itself. */
static struct error *on_hello_client(struct rpc_conn *conn, const json_t *message)
{
    const char *role = message_text(message, "role");
    if (strlen(role) > ROLE_BYTES_MAX)
        return error_new(PROTOCOL, "the role of the handshake is longer than %d bytes", ROLE_BYTES_MAX);
    TRY(take_peer_nonce(conn, message));
    char proof[DIGEST_HEX_LENGTH + 1];
    prove(&conn->secret, role, conn->nonce, conn->peer_nonce, proof);
    if (!digest_equals(message_text(message, "proof"), proof))
        return error_new(UNAUTHORIZED, conn->secret.length > 0 ? "it does not know the shared secret"
                                                               : "it expects a shared secret, and none is configured here");
    prove(&conn->secret, "server", conn->peer_nonce, conn->nonce, proof);
    json_t *welcome = json_pack("{s:s}", "proof", proof);
    rpc_conn_send_json(conn, MESSAGE_WELCOME, welcome);
    json_decref(welcome);
    return NULL;
}

/* Connector: judge the acceptor. */
static struct error *on_welcome(struct rpc_conn *conn, const json_t *message)
{
    char proof[DIGEST_HEX_LENGTH + 1];
    prove(&conn->secret, "server", conn->nonce, conn->peer_nonce, proof);
    if (!digest_equals(message_text(message, "proof"), proof))
        return error_new(UNAUTHORIZED, "%s does not know the shared secret", conn->peer);
    return NULL;
}

static void handshake_done(struct rpc_conn *conn)
{
    uv_timer_stop(&conn->timer);
    conn->state = CONN_OPEN;
    frame_parser_set_limit(&conn->parser, conn->body_bytes_max);
    handshake_forget(conn);
}

struct error *handshake_on_frame(struct rpc_conn *conn, const struct frame *frame)
{
    uint16_t expected = conn->state == CONN_AWAIT_SERVER   ? MESSAGE_HELLO_SERVER
                        : conn->state == CONN_AWAIT_CLIENT ? MESSAGE_HELLO_CLIENT
                                                           : MESSAGE_WELCOME;
    if (frame->type != expected)
        return error_new(PROTOCOL, "expected %s, got message type %u", message_type_name(expected), frame->type);
    json_t *message;
    TRY(message_parse(frame->type, frame->body, frame->length, &message));
    struct error *err = expected == MESSAGE_HELLO_SERVER   ? on_hello_server(conn, message)
                        : expected == MESSAGE_HELLO_CLIENT ? on_hello_client(conn, message)
                                                           : on_welcome(conn, message);
    if (err == NULL && expected != MESSAGE_HELLO_SERVER && conn->state != CONN_CLOSING) {
        handshake_done(conn);
        if (expected == MESSAGE_HELLO_CLIENT)
            conn->on_greeted(conn, message, conn->context);
        else if (conn->handler->on_open != NULL)
            conn->handler->on_open(conn, conn->context);
    }
    json_decref(message);
    return err;
}
