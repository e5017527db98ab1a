/* The producer's side of remote channels: consumers' runners are connected here and ask for channels; their batches go out
 * as long as the consumer has given credit, so that a slow channel holds up nobody else on the connection. Events need none.
 * Thread: the runner's loop; producers only push into their channels. */
#ifndef MILLRACE_NET_NET_SERVER_H
#define MILLRACE_NET_NET_SERVER_H

#include "taskmanager/net/channel.h"

#include <uv.h>

struct net_server;

struct net_server *net_server_create(uv_loop_t *loop, bool is_compressing);
/* A channel that a remote consumer will ask for; takes the reference. */
void net_server_offer(struct net_server *server, struct channel *channel);
/* An accepted, greeted connection of a consumer's runner; takes handle. name: its taskmanager's id, for messages. */
void net_server_accept(struct net_server *server, uv_tcp_t *handle, const char *name);
/* Bytes that are not with the kernel yet, over all connections. */
size_t net_server_queued_bytes(const struct net_server *server);
/* Closes the connections and frees the server from the loop. */
void net_server_close(struct net_server *server);

#endif
