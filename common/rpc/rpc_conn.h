/* A framed connection over a libuv stream: TCP with the handshake of ARCHITECTURE.md, or an ipc pipe between agent and
 * runner (no handshake: parent and child). Everything happens on the loop thread that it was created on.
 *
 * Life: created by rpc_conn_connect / rpc_conn_open_pipe / rpc_conn_open_tcp, or handed over by an rpc_server. Closed by
 * rpc_conn_close or by itself (end of stream, protocol error, timeout). In each case on_close is called exactly once, from the
 * loop, never from inside a call into rpc_conn; after on_close returns the connection is freed. */
#ifndef MILLRACE_RPC_RPC_CONN_H
#define MILLRACE_RPC_RPC_CONN_H

#include "common/base/error.h"
#include "common/rpc/frame.h"
#include "common/rpc/message.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct rpc_conn;

/* Any member may be NULL. */
struct rpc_conn_handler {
    /* The handshake is done (connector only): frames may be sent. */
    void (*on_open)(struct rpc_conn *conn, void *context);
    /* The frame is finished afterwards; keep its body with frame_detach_body. */
    void (*on_frame)(struct rpc_conn *conn, struct frame *frame, void *context);
    /* The write queue was above RPC_LOW_WATER_BYTES and is not any more. */
    void (*on_drain)(struct rpc_conn *conn, void *context);
    /* reason is borrowed for the call; NULL when the owner closed without one. code NETWORK: peer closed or went away. */
    void (*on_close)(struct rpc_conn *conn, const struct error *reason, void *context);
};

#define RPC_LOW_WATER_BYTES (256u << 10)
#define RPC_QUEUE_BYTES_MAX (512u << 20) /* a peer that reads so little is cut off */

/* The shared secret; empty (length 0) means that proofs are empty too. */
struct rpc_secret {
    uint8_t *bytes;
    size_t length;
};
/* Reads the file, cuts trailing white space. path NULL or "": the empty secret. errors: IO, INVALID_CONFIG (empty file) */
MUST_CHECK struct error *rpc_secret_load(const char *path, struct rpc_secret *out);
void rpc_secret_finish(struct rpc_secret *secret);

/* The host to look up for a host that the user named: localhost is the loopback address without asking anyone, so that a
 * machine without a hosts file works too (RFC 6761, 6.3). Borrowed; NULL stays NULL. */
const char *rpc_host_address(const char *host);

struct rpc_connect_options {
    const char *host;
    uint16_t port;
    const char *role;                /* "taskmanager", "data" */
    const json_t *hello;             /* further members of HELLO_CLIENT; may be NULL; borrowed for the call */
    const struct rpc_secret *secret; /* NULL: empty; borrowed for the call */
    uint64_t timeout_ms;             /* for name, connection and handshake together; 0: 10 s */
    uint32_t body_bytes_max;         /* 0: FRAME_BODY_BYTES_CONTROL */
};
/* Never NULL; failures arrive through on_close. */
struct rpc_conn *rpc_conn_connect(uv_loop_t *loop, const struct rpc_connect_options *options,
                                  const struct rpc_conn_handler *handler, void *context);
/* Over an inherited or socketpair descriptor; takes fd (closed also on failure). */
MUST_CHECK struct error *rpc_conn_open_pipe(uv_loop_t *loop, int fd, const struct rpc_conn_handler *handler, void *context,
                                            struct rpc_conn **out);
/* Over a TCP handle whose handshake was done by somebody else (rpc_conn_take_handle); takes the heap-allocated handle. */
struct rpc_conn *rpc_conn_open_tcp(uv_tcp_t *handle, uint32_t body_bytes_max, const struct rpc_conn_handler *handler, void *context);

/* handler is borrowed as long as the connection lives (make it static). */
void rpc_conn_set_handler(struct rpc_conn *conn, const struct rpc_conn_handler *handler, void *context);
/* "127.0.0.1:40312"; borrowed as long as the connection lives. */
const char *rpc_conn_peer(const struct rpc_conn *conn);
/* The own end's numeric address, without port; "" when there is none yet. */
void rpc_conn_local_address(const struct rpc_conn *conn, char *out, size_t capacity);

/* Sending. False: the connection is closing (or the queue was full, and it is closing now); the frame is dropped. */
bool rpc_conn_send(struct rpc_conn *conn, uint16_t type, const void *body, size_t length); /* copies */
bool rpc_conn_send_json(struct rpc_conn *conn, uint16_t type, const json_t *json);
/* Takes the malloced body. */
bool rpc_conn_send_take(struct rpc_conn *conn, uint16_t type, void *body, size_t length);
/* Relays a received frame: takes its body. */
bool rpc_conn_forward(struct rpc_conn *conn, struct frame *frame);
/* Body in pieces, which stay borrowed until release(argument) is called: always, once, from the loop or from inside this
 * call when it returns false. */
struct rpc_piece {
    const void *data;
    size_t length;
};
#define RPC_PIECES_MAX 64
bool rpc_conn_send_pieces(struct rpc_conn *conn, uint16_t type, const struct rpc_piece *pieces, uint32_t piece_count,
                          void (*release)(void *argument), void *argument);
/* Pipes only: the handle travels with the frame, and is closed and freed here afterwards. Takes handle, copies body. */
bool rpc_conn_send_handle(struct rpc_conn *conn, uint16_t type, const void *body, size_t length, uv_tcp_t *handle);
/* Pipes only, inside on_frame: the handle that came with this frame; the caller owns it. NULL: there was none. */
uv_tcp_t *rpc_conn_take_handle(struct rpc_conn *conn);
/* Bytes that were accepted for sending and are not yet with the kernel. */
size_t rpc_conn_queued_bytes(const struct rpc_conn *conn);

/* Back pressure on the peer. A paused connection notices no end of stream either. */
void rpc_conn_pause(struct rpc_conn *conn);
void rpc_conn_resume(struct rpc_conn *conn);

/* Takes reason, may be NULL. Queued frames are dropped. Idempotent: the first reason counts. */
void rpc_conn_close(struct rpc_conn *conn, struct error *reason);
/* Closes once all queued frames are written, or after a second. */
void rpc_conn_finish(struct rpc_conn *conn, struct error *reason);
/* Owner leaves with the TCP handle as soon as all that was queued is written: on_detached(handle, argument); handle NULL when the
 * connection broke first. No on_close follows. The connection stops reading at once. */
void rpc_conn_detach(struct rpc_conn *conn, void (*on_detached)(uv_tcp_t *handle, void *argument), void *argument);
/* Closes and frees a heap-allocated TCP handle. Accepts NULL. */
void rpc_handle_discard(uv_tcp_t *handle);

#endif
