/* Inside of an rpc_conn, shared by the rpc_conn*.c files only. Thread: the loop's. */
#ifndef MILLRACE_RPC_RPC_CONN_PRIVATE_H
#define MILLRACE_RPC_RPC_CONN_PRIVATE_H

#include "common/base/vec.h"
#include "common/rpc/rpc_conn.h"

#define NONCE_HEX_BYTES 32

enum conn_state {
    CONN_RESOLVING,    /* connector: name look-up */
    CONN_CONNECTING,
    CONN_AWAIT_SERVER, /* connector: HELLO_SERVER next */
    CONN_AWAIT_CLIENT, /* acceptor: HELLO_CLIENT next */
    CONN_AWAIT_WELCOME,
    CONN_OPEN,
    CONN_FINISHING,    /* writes what is queued, reads nothing */
    CONN_DETACHING,    /* the same, then the owner gets the handle */
    CONN_CLOSING,
};

struct rpc_conn {
    uv_loop_t *loop;
    uv_stream_t *stream; /* heap-allocated uv_tcp_t or uv_pipe_t; NULL before the first connection attempt */
    uv_timer_t timer;    /* deadlines: of the handshake, of finishing, of reading on when is_unheard */
    enum conn_state state;
    bool is_pipe;
    bool is_paused;
    bool is_above_low_water;
    bool is_unheard;     /* a write failed; what the peer had sent by then is still being read */
    uint32_t handle_count; /* what must end before the connection can be freed: handles, the name look-up */
    uint32_t write_count;  /* in flight */
    struct frame_parser parser;
    uint32_t body_bytes_max;
    const struct rpc_conn_handler *handler;
    void *context;
    struct error *reason;
    char peer[64 + 64];
    VEC(uv_tcp_t *) handles; /* received over a pipe, not taken yet */

    /* Handshake. */
    struct rpc_secret secret; /* own copy until it is done */
    char nonce[NONCE_HEX_BYTES + 1];
    char peer_nonce[NONCE_HEX_BYTES + 1];
    char *role;
    json_t *hello;
    void (*on_greeted)(struct rpc_conn *conn, const json_t *hello, void *context);

    /* Connector. */
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    struct addrinfo *addresses;
    const struct addrinfo *address;

    /* Detaching. */
    void (*on_detached)(uv_tcp_t *handle, void *argument);
    void *detach_argument;
};

/* ---- rpc_conn.c ---- */
struct rpc_conn *conn_create(uv_loop_t *loop, enum conn_state state, uint32_t body_bytes_max,
                             const struct rpc_conn_handler *handler, void *context);
void conn_set_stream(struct rpc_conn *conn, uv_stream_t *stream);
void conn_start_timer(struct rpc_conn *conn, uint64_t timeout_ms);
void conn_start_reading(struct rpc_conn *conn);
void conn_name_peer(struct rpc_conn *conn);
void conn_tune_tcp(uv_tcp_t *tcp);
/* One of the things that handle_count counts has ended. */
void conn_release(struct rpc_conn *conn);
/* The write queue is empty: go on with finishing or detaching. */
void conn_after_last_write(struct rpc_conn *conn);
/* Nothing that is written arrives any more. Takes reason. */
void conn_unheard(struct rpc_conn *conn, struct error *reason);

/* ---- rpc_handshake.c ---- */
void handshake_copy_secret(struct rpc_conn *conn, const struct rpc_secret *secret);
void handshake_start_server(struct rpc_conn *conn);
MUST_CHECK struct error *handshake_on_frame(struct rpc_conn *conn, const struct frame *frame);
void handshake_forget(struct rpc_conn *conn);

/* ---- for rpc_server.c ---- */
/* Takes the accepted heap-allocated handle and greets its peer. on_greeted is called once it proved itself. */
struct rpc_conn *rpc_conn_accept(uv_tcp_t *handle, const struct rpc_secret *secret, uint64_t timeout_ms, uint32_t body_bytes_max,
                                 void (*on_greeted)(struct rpc_conn *conn, const json_t *hello, void *context),
                                 const struct rpc_conn_handler *handler, void *context);

#endif
