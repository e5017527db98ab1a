/* The listening side: accepts, greets (HELLO_SERVER, HELLO_CLIENT, WELCOME), and hands the connection over. Strangers get
 * a closed connection and at most one log line a second (with the count of those that were not logged). Until it is
 * greeted a connection costs a few KiB, and it has 10 s. Thread: the loop's. */
#ifndef MILLRACE_RPC_RPC_SERVER_H
#define MILLRACE_RPC_RPC_SERVER_H

#include "common/rpc/rpc_conn.h"

struct rpc_server;

struct rpc_server_options {
    const char *host;                /* address to bind; NULL or "": all */
    uint16_t port_first;             /* the first free port of the range is taken; 0: any */
    uint16_t port_last;              /* 0: port_first alone */
    const struct rpc_secret *secret; /* NULL: empty; borrowed for the call */
    uint64_t handshake_timeout_ms;   /* 0: 10 s */
    uint32_t stranger_count_max;     /* connections that are not greeted yet; the oldest gives way; 0: 256 */
    uint32_t body_bytes_max;         /* after the handshake; 0: FRAME_BODY_BYTES_CONTROL */
    const char *logger;              /* component noun of log lines */
    /* A greeted connection; hello is the HELLO_CLIENT message, borrowed for the call. The callee owns conn: it sets a
     * handler, detaches or closes. WELCOME is already queued. */
    void (*on_connection)(struct rpc_server *server, struct rpc_conn *conn, const json_t *hello, void *context);
    void *context;
};

/* errors: NETWORK (address in use: names it), INVALID_CONFIG (host does not resolve). Blocks for a name look-up. */
MUST_CHECK struct error *rpc_server_create(uv_loop_t *loop, const struct rpc_server_options *options, struct rpc_server **out);
uint16_t rpc_server_port(const struct rpc_server *server);
/* Strangers closed or refused since the start. */
uint64_t rpc_server_refused_count(const struct rpc_server *server);
/* The line about a connection that was greeted and then turned away, counted and limited like those about strangers. */
void rpc_server_log_refused(struct rpc_server *server, const char *peer, const char *reason);
/* Stops listening at once, closes those not greeted; frees itself from the loop. Accepts NULL. */
void rpc_server_close(struct rpc_server *server);

#endif
