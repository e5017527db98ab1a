/* Connections of taskmanagers: their messages become core events, the core's actions become messages, and REST gets the
 * log files that lie with them. A connection is known by a number that is never used again (event.connection).
 * A closed connection is reported to the core at once. Thread: the loop. */
#ifndef MILLRACE_JOBMANAGER_TASKMANAGER_LINK_H
#define MILLRACE_JOBMANAGER_TASKMANAGER_LINK_H

#include "jobmanager/jobmanager.h"

struct taskmanager_link {
    struct jobmanager *jobmanager;
    struct rpc_conn *conn;
    uint64_t number;
    char *taskmanager;          /* NULL before REGISTER */
    struct loop_timer *patience; /* until REGISTER */
    json_t *metrics;            /* the daemon's own, from its last HEARTBEAT; NULL */
    struct file_request *files; /* waiting for FILE */
    bool is_closed;
};

/* Callback of the RPC server for a greeted connection. */
void taskmanager_link_accept(struct rpc_server *server, struct rpc_conn *conn, const json_t *hello, void *context);
/* Sends what ACTION_TASKMANAGER_ACCEPT … ACTION_CHECKPOINT_ABORTED say; false when there is no such connection any more. */
bool taskmanager_link_run(struct jobmanager *jobmanager, const struct action *action);
/* The taskmanager's own metrics, borrowed; NULL when it has not reported any. */
const json_t *taskmanager_link_metrics(const struct jobmanager *jobmanager, const struct taskmanager *taskmanager);

/* Asks for a file: kind log, stdout, list, thread-dump, or file with a name. done is called once: header and bytes borrowed, or an
 * error (taken). */
typedef void file_done(struct error *err, const json_t *header, const uint8_t *bytes, size_t length, void *argument);
void taskmanager_link_get_file(struct jobmanager *jobmanager, const struct taskmanager *taskmanager, const char *kind, const char *name,
                               file_done *done, void *argument);

/* GOODBYE to all, then closes. */
void taskmanager_links_close(struct jobmanager *jobmanager);

#endif
