/* Who is served when. A turn is one call of libmicrohttpd, which begins one request of every connection that has sent some; between
 * two turns the loop does everything else: heartbeats of taskmanagers, other servers. So a turn begins so many requests, some
 * milliseconds' worth, and the others wait in their order, suspended. Requests that come right behind their connection's last one are
 * a class of their own with fewer places, or whoever sends thousands ahead over many connections would fill all turns: new connections,
 * and those that wait for their answers, do not wait behind them. Thread: the loop's. */
#include "common/http/http_private.h"

static const uint32_t places[HTTP_TURN_CLASS_COUNT] = {[HTTP_TURN_FIRST] = 16, [HTTP_TURN_FOLLOWER] = 4};

static enum http_turn_class class_of(const struct http_exchange *exchange)
{
    return exchange->connection->last_turn + 1 >= exchange->server->turn ? HTTP_TURN_FOLLOWER : HTTP_TURN_FIRST;
}

static void take(struct http_exchange *exchange, struct http_turn_queue *queue)
{
    exchange->connection->last_turn = exchange->server->turn;
    queue->begun_count++;
}

bool http_turn_take(struct http_exchange *exchange)
{
    enum http_turn_class class = class_of(exchange);
    struct http_turn_queue *queue = &exchange->server->queues[class];
    if (queue->begun_count < places[class]) {
        take(exchange, queue);
        return true;
    }
    exchange->next_waiting = NULL;
    if (queue->first == NULL)
        queue->first = exchange;
    else
        queue->last->next_waiting = exchange;
    queue->last = exchange;
    return false;
}

void http_turn_begin(struct http_server *server, void (*resume)(struct http_exchange *exchange))
{
    server->turn++;
    for (size_t class = 0; class < HTTP_TURN_CLASS_COUNT; class++) {
        struct http_turn_queue *queue = &server->queues[class];
        queue->begun_count = 0;
        while (queue->first != NULL && queue->begun_count < places[class]) {
            struct http_exchange *exchange = queue->first;
            queue->first = exchange->next_waiting;
            take(exchange, queue);
            resume(exchange);
        }
    }
}

bool http_turn_is_awaited(const struct http_server *server)
{
    return server->queues[HTTP_TURN_FIRST].first != NULL || server->queues[HTTP_TURN_FOLLOWER].first != NULL;
}

void http_turns_forget(struct http_server *server)
{
    server->queues[HTTP_TURN_FIRST].first = server->queues[HTTP_TURN_FOLLOWER].first = NULL;
}
