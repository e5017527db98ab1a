/* What the files of common/http share: servers, their connections, and the requests on them. Private. Thread: the loop's. */
#ifndef MILLRACE_HTTP_HTTP_PRIVATE_H
#define MILLRACE_HTTP_HTTP_PRIVATE_H

#include "common/http/http_server.h"
#include "common/http/http_tls.h"
#include "common/http/http_upload.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <uv.h>

#define HTTP_LOGGER "HttpServer"

enum http_phase {
    PHASE_IDLE,    /* no byte of a request is known of */
    PHASE_HEADERS, /* behind the request line */
    PHASE_BODY,
    PHASE_WORKING, /* a handler has it */
    PHASE_SENDING,
};

struct http_connection {
    struct http_server *server;
    struct http_connection *previous, *next;
    struct MHD_Connection *mhd;
    int fd;
    struct in6_addr address; /* IPv4 as mapped */
    enum http_phase phase;
    int64_t phase_since_ms;
    uint64_t body_bytes;     /* received in this phase */
    int64_t window_since_ms; /* of BODY and SENDING: in each window some bytes must move */
    uint64_t window_bytes;   /* how many had when it began */
    uint64_t last_turn;      /* in which a request of its began */
    uint64_t held_bytes;     /* of memory for its body and answer, counted in the server's */
    int64_t half_closed_ms;  /* 0: the other side has not said that it is done */
    int linger_fd;           /* -1; else a duplicate that becomes a linger when the connection is closed */
    bool is_suspended;       /* waits for us, so no deadline counts */
    bool is_trusted;         /* its certificate was checked, where one is asked for */
    bool is_cut;             /* shut down; libmicrohttpd closes it soon */
};

/* A socket that is kept for a little while after its connection was closed with unread input, so that the kernel does not
 * reset it before the other side has read the answer (RFC 9112, 9.6). */
struct http_linger {
    struct http_server *server;
    struct http_linger *previous, *next;
    uv_poll_t poll;
    int fd;
    int64_t until_ms;
    uint64_t bytes_left; /* to be read and dropped */
};

struct http_exchange {
    struct http_request request; /* first: one is cast to the other */
    struct http_server *server;
    struct http_exchange *previous, *next;
    struct http_connection *connection; /* NULL: the client has gone */
    struct http_exchange *next_waiting; /* for its turn */
    struct http_upload_writer *upload;
    uint64_t body_limit;
    uint64_t received_bytes;
    int64_t suspended_ms; /* since; 0: is not suspended */
    bool has_headers;
    bool was_waiting; /* for its turn; libmicrohttpd will say once more that it has the headers */
};

enum http_turn_class { HTTP_TURN_FIRST, HTTP_TURN_FOLLOWER, HTTP_TURN_CLASS_COUNT };

/* Requests that wait for their turn. */
struct http_turn_queue {
    struct http_exchange *first, *last; /* NULL: nobody does */
    uint32_t begun_count;               /* in this turn */
};

struct http_server {
    struct http_server_options options;
    uv_loop_t *loop;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    uv_idle_t kick;        /* runs the daemon soon after a resume */
    uv_timer_t sweep;      /* deadlines */
    uv_poll_t watch;       /* an epoll set of all sockets, for half-closed ones */
    int watch_fd;
    struct http_exchange exchanges;     /* list heads */
    struct http_connection connections;
    struct http_linger lingers;
    struct http_turn_queue queues[HTTP_TURN_CLASS_COUNT];
    uint64_t turn; /* from 2, so that a new connection follows nothing */
    uint32_t connection_count;
    uint32_t linger_count;
    uint64_t held_bytes;
    uint64_t upload_number;
    uint16_t port;
    unsigned open_handles;
    bool is_closing;
};

/* ---- http_listen.c ---- */

/* Listens as the options say and starts libmicrohttpd on it with these callbacks. */
MUST_CHECK struct error *http_listen(struct http_server *server, MHD_AccessHandlerCallback on_access,
                                     void *(*on_request_line)(void *, const char *, struct MHD_Connection *),
                                     MHD_RequestCompletedCallback on_completed);

/* ---- http_framing.c ---- */

/* What is ambiguous about where the request ends, in words for its sender; NULL: nothing. method and version as in the request
 * line. */
const char *http_framing_fault(struct MHD_Connection *mhd, const char *method, const char *version);

/* ---- http_turns.c ---- */

/* The headers are read: false when the request must be suspended until a later turn, whose beginning resumes it. */
bool http_turn_take(struct http_exchange *exchange);
void http_turn_begin(struct http_server *server, void (*resume)(struct http_exchange *exchange));
bool http_turn_is_awaited(const struct http_server *server);
/* All that wait are being resumed, because the server ends. */
void http_turns_forget(struct http_server *server);

/* ---- http_connection.c ---- */

void http_connection_notify(void *server, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode code);
struct http_connection *http_connection_of(struct MHD_Connection *mhd);
void http_connection_enter(struct http_connection *connection, enum http_phase phase);
/* Sends an answer of bytes past libmicrohttpd, for a request whose rest is not wanted any more; the caller closes the connection. */
void http_connection_send_past(struct http_connection *connection, const struct http_reply *reply);
/* Closes soon, without an answer. */
void http_connection_cut(struct http_connection *connection);
/* Input may come that nobody will read: keep the socket for a while after the connection has gone. */
void http_connection_linger(struct http_connection *connection);
/* Counts memory for a body or an answer until the request is over, and cuts the one that has held some for longest when there is
 * too much of it. */
void http_connection_hold(struct http_connection *connection, uint64_t bytes);
/* Whether the client has shown what TLS asks of it; true without TLS. */
bool http_connection_is_trusted(struct http_connection *connection);
MUST_CHECK struct error *http_watch_start(struct http_server *server);
void http_watch_stop(struct http_server *server);
void http_server_on_handle_closed(uv_handle_t *handle);

#endif
