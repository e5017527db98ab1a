/* Remote channels at the producer: subscriptions, credit, sending. Thread: loop, but for on_channel_ready. */
#include "taskmanager/net/net_server.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/hash_map.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/vec.h"
#include "common/loop/loop.h"
#include "common/loop/mailbox.h"
#include "common/rpc/rpc_conn.h"
#include "taskmanager/net/net_wire.h"

#include <inttypes.h>
#include <string.h>

#define LOGGER "NetServer"
/* The kernel's buffer and this much keep a connection busy; more in the write queue would only take memory. */
#define WRITE_QUEUE_BYTES_MAX (4u << 20)
#define LOG_PAUSE_MS 1000

struct net_peer {
    struct net_server *server;
    struct rpc_conn *conn; /* NULL: closed */
    char *name;
    bool is_full; /* sending waits for on_drain */
    size_t turn;  /* index of the subscription that may send first then */
};

/* A channel to a remote consumer. */
struct net_subscription {
    struct net_server *server;
    struct channel *channel;
    struct net_peer *peer; /* NULL: nobody has asked for it, or the consumer is gone */
    uint32_t number;       /* the consumer's name for it */
    uint32_t credit;
    atomic_bool is_notified; /* a mail is on its way */
    struct loop_timer *due;  /* a barrier that waits for credit becomes unaligned then; NULL: none does */
};

struct net_server {
    uv_loop_t *loop;
    struct mailbox *mailbox;
    bool is_compressing;
    struct hash_map subscriptions; /* struct channel_key -> struct net_subscription */
    VEC(struct net_peer *) peers;
    uint32_t open_count;
    int64_t logged_at_ms;  /* the last line about a peer that broke the protocol */
    uint64_t silent_count; /* of them since */
    bool is_closing;
};

struct net_server *net_server_create(uv_loop_t *loop, bool is_compressing)
{
    struct net_server *server = heap_new(struct net_server);
    server->loop = loop;
    server->mailbox = mailbox_create(loop);
    server->is_compressing = is_compressing;
    return server;
}

static void net_server_free(struct net_server *server)
{
    mailbox_close(server->mailbox);
    for (size_t i = 0; i < server->subscriptions.count; i++) {
        struct net_subscription *subscription = server->subscriptions.entries[i].value;
        loop_timer_stop(&subscription->due);
        channel_unref(subscription->channel);
        free(subscription);
    }
    hash_map_finish(&server->subscriptions);
    for (size_t i = 0; i < server->peers.count; i++) {
        free(server->peers.items[i]->name);
        free(server->peers.items[i]);
    }
    vec_finish(&server->peers);
    free(server);
}

void net_server_close(struct net_server *server)
{
    server->is_closing = true;
    for (size_t i = 0; i < server->subscriptions.count; i++) {
        struct net_subscription *subscription = server->subscriptions.entries[i].value;
        loop_timer_stop(&subscription->due);
        channel_set_consumer(subscription->channel, (struct channel_waker){0});
        channel_release(subscription->channel);
    }
    for (size_t i = 0; i < server->peers.count; i++)
        if (server->peers.items[i]->conn != NULL)
            rpc_conn_close(server->peers.items[i]->conn, NULL);
    if (server->open_count == 0)
        net_server_free(server);
}

/* ---- sending ---- */

static void send_element(struct net_subscription *subscription, const struct element *element, bool is_beyond_credit)
{
    struct bytes_writer body = {0};
    uint16_t type = MESSAGE_EVENT;
    if (element->type == ELEMENT_BATCH) {
        type = MESSAGE_BATCH;
        struct net_batch batch = {.channel = subscription->number, .backlog = atomic_load(&subscription->channel->batches),
                                  .is_beyond_credit = is_beyond_credit, .batch = element->as.rows.batch};
        net_encode_batch(&body, &batch, subscription->server->is_compressing);
    } else {
        net_encode_event(&body, subscription->number, element);
    }
    rpc_conn_send_take(subscription->peer->conn, type, body.data, body.length);
}

static void send_error(struct net_peer *peer, uint32_t number, struct error *err)
{
    struct bytes_writer body = {0};
    net_encode_error(&body, number, err);
    error_free(err);
    rpc_conn_send_take(peer->conn, MESSAGE_CHANNEL_ERROR, body.data, body.length);
}

static bool subscription_may_send(const struct net_subscription *subscription)
{
    return subscription->peer != NULL && subscription->peer->conn != NULL && !subscription->peer->is_full;
}

static void on_due(void *argument);

/* The first batch has no credit. What is in front of an unaligned barrier or of the end goes all the same: the queue is short, and
 * the barrier overtakes it at the consumer. A barrier that is not unaligned yet may become so while it waits here. */
static bool subscription_may_overdraw(struct net_subscription *subscription)
{
    struct channel *channel = subscription->channel;
    channel_promote(channel, clock_now_ms());
    if (atomic_load(&channel->urgent) > 0)
        return true;
    int64_t due_ms = atomic_load(&channel->due_ms);
    if (due_ms != INT64_MAX && subscription->due == NULL) {
        int64_t delay_ms = due_ms - clock_now_ms();
        subscription->due = loop_timer_start(subscription->server->loop, delay_ms > 0 ? (uint64_t)delay_ms : 0, 0, on_due, subscription);
    }
    return false;
}

/* Everything that credit and the connection allow now. */
static void subscription_send(struct net_subscription *subscription)
{
    while (subscription_may_send(subscription)) {
        enum element_type type = channel_peek(subscription->channel);
        if (type == ELEMENT_BATCH && subscription->credit == 0 && !subscription_may_overdraw(subscription))
            return;
        struct element element;
        bool found;
        struct error *err = channel_pop(subscription->channel, &element, &found);
        if (err != NULL)
            send_error(subscription->peer, subscription->number, err);
        if (err != NULL || !found)
            return;
        /* The front may have changed since it was looked at: a push into an empty queue, a barrier that overtook. */
        bool is_beyond_credit = element.type == ELEMENT_BATCH && subscription->credit == 0;
        if (element.type == ELEMENT_BATCH && !is_beyond_credit)
            subscription->credit--;
        send_element(subscription, &element, is_beyond_credit);
        element_finish(&element);
        subscription->peer->is_full = rpc_conn_queued_bytes(subscription->peer->conn) > WRITE_QUEUE_BYTES_MAX;
    }
}

static void on_due(void *argument)
{
    struct net_subscription *subscription = argument;
    loop_timer_stop(&subscription->due);
    subscription_send(subscription);
}

static void on_ready_mail(void *argument, bool is_closed)
{
    struct net_subscription *subscription = argument;
    atomic_store(&subscription->is_notified, false);
    if (!is_closed)
        subscription_send(subscription);
}

/* Producer's thread: the empty channel got an element. */
static void on_channel_ready(void *argument)
{
    struct net_subscription *subscription = argument;
    if (!atomic_exchange(&subscription->is_notified, true))
        mailbox_post(subscription->server->mailbox, on_ready_mail, subscription);
}

void net_server_offer(struct net_server *server, struct channel *channel)
{
    struct net_subscription *subscription = heap_new(struct net_subscription);
    subscription->server = server;
    subscription->channel = channel;
    struct net_subscription *before = hash_map_put(&server->subscriptions, &channel->key, sizeof channel->key, subscription);
    check(before == NULL);
    channel_set_consumer(channel, (struct channel_waker){.wake = on_channel_ready, .arg = subscription});
}

/* ---- receiving ---- */

static struct error *on_request(struct net_peer *peer, const struct frame *frame)
{
    struct net_request request;
    TRY(net_decode_request(frame->body, frame->length, &request));
    struct net_subscription *subscription = hash_map_get(&peer->server->subscriptions, &request.key, sizeof request.key);
    if (subscription == NULL) {
        if (rpc_conn_queued_bytes(peer->conn) > WRITE_QUEUE_BYTES_MAX)
            return error_new(PROTOCOL, "it asks for subtasks that are not here, and does not read the answers");
        send_error(peer, request.channel,
                   error_new(NOT_FOUND, "subtask %u, which feeds operator %u, is not here", request.key.producer, request.key.target_operator));
        return NULL;
    }
    if (subscription->peer != NULL)
        return error_new(PROTOCOL, "a channel was requested twice");
    subscription->peer = peer;
    subscription->number = request.channel;
    subscription->credit = request.credit;
    subscription_send(subscription);
    return NULL;
}

static struct error *on_end_confirmed(struct net_subscription *subscription)
{
    struct channel *channel = subscription->channel;
    if (!atomic_load(&channel->has_end) || atomic_load(&channel->queued) > 0)
        return error_new(PROTOCOL, "the end of a channel was confirmed before it was sent");
    atomic_store(&channel->is_delivered, true);
    return NULL;
}

static struct error *on_credit(struct net_peer *peer, const struct frame *frame)
{
    uint32_t number, batches;
    TRY(net_decode_credit(frame->body, frame->length, &number, &batches));
    for (size_t i = 0; i < peer->server->subscriptions.count; i++) {
        struct net_subscription *subscription = peer->server->subscriptions.entries[i].value;
        if (subscription->peer != peer || subscription->number != number)
            continue;
        if (batches == 0)
            return on_end_confirmed(subscription);
        if (batches > UINT32_MAX - subscription->credit)
            return error_new(PROTOCOL, "too much credit");
        subscription->credit += batches;
        subscription_send(subscription);
        return NULL;
    }
    return error_new(PROTOCOL, "credit for a channel that was not requested");
}

static void on_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    struct net_peer *peer = context;
    struct error *err;
    if (frame->type == MESSAGE_REQUEST_CHANNEL)
        err = on_request(peer, frame);
    else if (frame->type == MESSAGE_CREDIT)
        err = on_credit(peer, frame);
    else
        err = error_new(PROTOCOL, "unexpected message %s on a data connection", message_type_name(frame->type));
    if (err != NULL)
        rpc_conn_close(conn, err);
}

static void on_drain(struct rpc_conn *conn, void *context)
{
    struct net_peer *peer = context;
    (void)conn;
    const struct hash_map *subscriptions = &peer->server->subscriptions;
    size_t first = peer->turn;
    peer->is_full = false;
    /* Whoever fills the connection is the last one next time: else the first ones could keep it full for themselves. */
    for (size_t i = 0; i < subscriptions->count && !peer->is_full; i++) {
        size_t index = (first + i) % subscriptions->count;
        struct net_subscription *subscription = subscriptions->entries[index].value;
        if (subscription->peer != peer)
            continue;
        subscription_send(subscription);
        peer->turn = index + 1;
    }
}

/* Where no secret is set, anybody who knows the job's id gets this far: as many lines as they like would fill the disk. */
static void log_broken(struct net_server *server, const struct net_peer *peer, const struct error *reason)
{
    int64_t now_ms = clock_mono_ms();
    if (server->logged_at_ms != 0 && now_ms - server->logged_at_ms < LOG_PAUSE_MS) {
        server->silent_count++;
        return;
    }
    server->logged_at_ms = now_ms;
    if (server->silent_count > 0)
        log_error_chain(LOG_WARN, LOGGER, reason, "The data connection from taskmanager %s closed (and %" PRIu64 " others since the last such line).",
                        peer->name, server->silent_count);
    else
        log_error_chain(LOG_WARN, LOGGER, reason, "The data connection from taskmanager %s closed.", peer->name);
    server->silent_count = 0;
}

/* One that never got a channel leaves nothing behind. */
static void peer_forget(struct net_peer *peer)
{
    struct net_server *server = peer->server;
    for (size_t i = 0; i < server->peers.count; i++)
        if (server->peers.items[i] == peer) {
            vec_remove(&server->peers, i);
            break;
        }
    free(peer->name);
    free(peer);
}

/* The consumer is gone: its tasks have failed or ended. What we produce for it is nobody's any more; the coordinator
 * decides what becomes of our tasks. */
static void on_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    struct net_peer *peer = context;
    struct net_server *server = peer->server;
    (void)conn;
    if (!server->is_closing && reason != NULL && reason->code != ERR_NETWORK)
        log_broken(server, peer, reason);
    peer->conn = NULL;
    bool is_known = server->is_closing;
    for (size_t i = 0; i < server->subscriptions.count; i++) {
        struct net_subscription *subscription = server->subscriptions.entries[i].value;
        if (subscription->peer != peer)
            continue;
        channel_release(subscription->channel);
        is_known = true;
    }
    if (!is_known)
        peer_forget(peer);
    server->open_count--;
    if (server->is_closing && server->open_count == 0)
        net_server_free(server);
}

static const struct rpc_conn_handler handler = {.on_frame = on_frame, .on_drain = on_drain, .on_close = on_close};

void net_server_accept(struct net_server *server, uv_tcp_t *handle, const char *name)
{
    struct net_peer *peer = heap_new(struct net_peer);
    peer->server = server;
    peer->name = heap_strdup(name);
    peer->conn = rpc_conn_open_tcp(handle, FRAME_BODY_BYTES_DATA, &handler, peer);
    server->open_count++;
    vec_push(&server->peers, peer);
}

size_t net_server_queued_bytes(const struct net_server *server)
{
    size_t bytes = 0;
    for (size_t i = 0; i < server->peers.count; i++)
        if (server->peers.items[i]->conn != NULL)
            bytes += rpc_conn_queued_bytes(server->peers.items[i]->conn);
    return bytes;
}
