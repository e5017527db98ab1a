/* The consumer's side of remote channels: one connection to each producing runner, over its taskmanager's data port, with
 * all channels between the two multiplexed on it. What arrives is pushed into the consumer's channels; credit is given back
 * as the task takes batches out. A connection that breaks breaks its channels with TASK_LOST, naming the taskmanager.
 * Thread: the runner's loop; consumers only pop from their channels. */
#ifndef MILLRACE_NET_NET_CLIENT_H
#define MILLRACE_NET_NET_CLIENT_H

#include "common/base/id.h"
#include "common/rpc/rpc_conn.h"
#include "taskmanager/net/channel.h"

struct net_client;

struct net_client_options {
    uv_loop_t *loop;
    struct id job;
    uint64_t epoch;
    const char *taskmanager_id;      /* ours; copied */
    const struct rpc_secret *secret; /* borrowed as long as the client lives; may be NULL */
    uint32_t credit;                 /* batches that may wait at the consumer per channel */
    int64_t connect_timeout_ms;
    int64_t request_timeout_ms; /* for a producer that is not there yet */
};

struct net_client *net_client_create(const struct net_client_options *options);
/* The consumer's end of a remote channel, ready for an input gate; it connects in the background. The caller owns the reference.
 * schema is of its batches, borrowed as long as the client lives. */
struct channel *net_client_open(struct net_client *client, const char *taskmanager_id, const char *host, uint16_t port,
                                struct channel_key key, struct schema *schema);
/* Closes the connections and frees the client from the loop. */
void net_client_close(struct net_client *client);

#endif
