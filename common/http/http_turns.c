/* Who is served when. A turn is one call of libmicrohttpd, which begins one request of every connection that has sent some; between
 * two turns the loop does everything else. Somebody who sends thousands of requests ahead over many connections would fill all turns,
 * so requests that come right behind their connection's last one begin only few at a time, in their order; the others wait, suspended.
 * Requests of new connections, and of those that wait for their answers, never do. Thread: the loop's. */
#include "common/http/http_private.h"

/* Some milliseconds' worth. */
enum { FOLLOWERS_PER_TURN = 4 };

bool http_turn_take(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    struct http_connection *connection = exchange->connection;
    bool is_follower = connection->last_turn + 1 >= server->turn;
    if (!is_follower || server->follower_count < FOLLOWERS_PER_TURN) {
        connection->last_turn = server->turn;
        server->follower_count += is_follower;
        return true;
    }
    exchange->next_waiting = NULL;
    if (server->waiting == NULL)
        server->waiting = exchange;
    else
        server->waiting_last->next_waiting = exchange;
    server->waiting_last = exchange;
    return false;
}

void http_turn_begin(struct http_server *server, void (*resume)(struct http_exchange *exchange))
{
    server->turn++;
    server->follower_count = 0;
    while (server->waiting != NULL && server->follower_count < FOLLOWERS_PER_TURN) {
        struct http_exchange *exchange = server->waiting;
        server->waiting = exchange->next_waiting;
        exchange->connection->last_turn = server->turn;
        server->follower_count++;
        resume(exchange);
    }
}
