/* Guesses at the version of Flink's Java clients (java_clients.h). Thread: the jobmanager's loop. */
#include "jobmanager/rest/java_clients.h"

#include <string.h>

static struct java_client *client_of(struct java_clients *clients, const uint8_t *address)
{
    struct java_client *oldest = &clients->clients[0];
    for (size_t i = 0; i < JAVA_CLIENTS_MAX; i++) {
        struct java_client *client = &clients->clients[i];
        if (client->answered_ms > 0 && memcmp(client->address, address, HTTP_ADDRESS_BYTES) == 0)
            return client;
        if (client->answered_ms < oldest->answered_ms)
            oldest = client;
    }
    memset(oldest, 0, sizeof *oldest);
    memcpy(oldest->address, address, HTTP_ADDRESS_BYTES);
    return oldest;
}

bool java_clients_want_new_members(struct java_clients *clients, const struct http_request *request, int64_t now_ms)
{
    if (request->body.length != 2 || memcmp(request->body.text, "{}", 2) != 0)
        return true;
    struct java_client *client = client_of(clients, request->address);
    int64_t waited_ms = now_ms - client->answered_ms;
    if (client->answered_ms > 0 && waited_ms >= JAVA_CLIENT_RETRY_MIN_MS && waited_ms <= JAVA_CLIENT_RETRY_MAX_MS)
        client->is_old = !client->is_old;
    client->answered_ms = now_ms;
    return !client->is_old;
}
