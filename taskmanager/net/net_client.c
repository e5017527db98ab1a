/* Remote channels at the consumer: connections, requests with backoff, credit. Thread: loop, but for on_channel_room. */
#include "taskmanager/net/net_client.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/vec.h"
#include "common/loop/loop.h"
#include "common/loop/mailbox.h"
#include "taskmanager/net/net_wire.h"

#include <inttypes.h>
#include <string.h>

#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS 1000

struct net_remote;

/* A channel from a remote producer. */
struct net_input {
    struct net_client *client;
    struct net_remote *remote;
    struct channel *channel;
    struct schema *schema;
    uint32_t number;
    uint32_t in_flight;      /* credit that the producer has and has not used */
    bool is_requested;
    bool is_ended;           /* END_OF_PARTITION has come, or it broke */
    int64_t give_up_at_ms;   /* monotonic: when a producer that is not there counts as lost */
    uint64_t backoff_ms;
    struct loop_timer *retry;
    atomic_bool is_notified; /* a mail is on its way */
};

/* The runner of a taskmanager that produces for us. */
struct net_remote {
    struct net_client *client;
    char *taskmanager_id;
    char *host;
    uint16_t port;
    struct rpc_conn *conn; /* NULL: not connected */
    bool is_open;          /* greeted */
    bool was_open;         /* a second connection would miss what the first one lost */
    int64_t give_up_at_ms;
    uint64_t backoff_ms;
    struct loop_timer *retry;
    VEC(struct net_input *) inputs;
};

struct net_client {
    struct net_client_options options;
    char *taskmanager_id;
    struct mailbox *mailbox;
    VEC(struct net_remote *) remotes;
    VEC(struct net_input *) inputs; /* by number */
    uint32_t conn_count;
    bool is_closing;
};

struct net_client *net_client_create(const struct net_client_options *options)
{
    struct net_client *client = heap_new(struct net_client);
    client->options = *options;
    client->taskmanager_id = heap_strdup(options->taskmanager_id);
    client->mailbox = mailbox_create(options->loop);
    return client;
}

static void remote_free(struct net_remote *remote)
{
    loop_timer_stop(&remote->retry);
    vec_finish(&remote->inputs);
    free(remote->taskmanager_id);
    free(remote->host);
    free(remote);
}

static void net_client_free(struct net_client *client)
{
    mailbox_close(client->mailbox);
    for (size_t i = 0; i < client->inputs.count; i++) {
        loop_timer_stop(&client->inputs.items[i]->retry);
        channel_unref(client->inputs.items[i]->channel);
        free(client->inputs.items[i]);
    }
    for (size_t i = 0; i < client->remotes.count; i++)
        remote_free(client->remotes.items[i]);
    vec_finish(&client->inputs);
    vec_finish(&client->remotes);
    free(client->taskmanager_id);
    free(client);
}

void net_client_close(struct net_client *client)
{
    client->is_closing = true;
    for (size_t i = 0; i < client->inputs.count; i++)
        channel_set_producer(client->inputs.items[i]->channel, (struct channel_waker){0});
    for (size_t i = 0; i < client->remotes.count; i++)
        if (client->remotes.items[i]->conn != NULL)
            rpc_conn_close(client->remotes.items[i]->conn, NULL);
    if (client->conn_count == 0)
        net_client_free(client);
}

/* ---- failing ---- */

static void input_break(struct net_input *input, struct error *err)
{
    loop_timer_stop(&input->retry);
    if (input->is_ended) {
        error_free(err);
        return;
    }
    input->is_ended = true;
    channel_break(input->channel, err);
}

static struct error *lost_error(const struct net_remote *remote, const char *reason)
{
    return error_new(TASK_LOST, "lost the connection to taskmanager %s at %s:%u: %s", remote->taskmanager_id, remote->host, remote->port, reason);
}

static void remote_break(struct net_remote *remote, const char *reason)
{
    for (size_t i = 0; i < remote->inputs.count; i++)
        input_break(remote->inputs.items[i], lost_error(remote, reason));
}

/* ---- credit ---- */

/* Tops the producer's credit up, so that what it may send and what waits here stay within the bound. */
static void input_give_credit(struct net_input *input)
{
    if (!input->is_requested || input->is_ended || !input->remote->is_open || input->remote->conn == NULL)
        return;
    uint32_t waiting = atomic_load(&input->channel->batches);
    uint32_t used = input->in_flight + waiting;
    if (used >= input->client->options.credit || !channel_has_room(input->channel))
        return;
    uint32_t more = input->client->options.credit - used;
    struct bytes_writer body = {0};
    net_encode_credit(&body, input->number, more);
    input->in_flight += more;
    rpc_conn_send_take(input->remote->conn, MESSAGE_CREDIT, body.data, body.length);
}

static void on_room_mail(void *argument, bool is_closed)
{
    struct net_input *input = argument;
    atomic_store(&input->is_notified, false);
    if (!is_closed)
        input_give_credit(input);
}

/* Consumer's thread: enough was taken out. */
static void on_channel_room(void *argument)
{
    struct net_input *input = argument;
    if (!atomic_exchange(&input->is_notified, true))
        mailbox_post(input->client->mailbox, on_room_mail, input);
}

/* ---- requests ---- */

static void input_request(struct net_input *input)
{
    struct bytes_writer body = {0};
    struct net_request request = {.channel = input->number, .key = input->channel->key, .credit = input->client->options.credit};
    net_encode_request(&body, &request);
    input->is_requested = true;
    input->in_flight = request.credit;
    rpc_conn_send_take(input->remote->conn, MESSAGE_REQUEST_CHANNEL, body.data, body.length);
}

static uint64_t next_backoff_ms(uint64_t *backoff_ms)
{
    uint64_t now = *backoff_ms == 0 ? BACKOFF_FIRST_MS : *backoff_ms;
    *backoff_ms = now * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : now * 2;
    return now;
}

static void on_request_retry(void *argument)
{
    struct net_input *input = argument;
    loop_timer_stop(&input->retry);
    if (!input->is_ended && input->remote->is_open)
        input_request(input);
}

/* The producer's runner answered, but has not deployed the subtask yet: again later, until it counts as lost. */
static void on_channel_error(struct net_input *input, struct error *err)
{
    bool is_retried = err->code == ERR_NOT_FOUND && clock_mono_ms() < input->give_up_at_ms;
    if (!is_retried) {
        if (err->code == ERR_NOT_FOUND)
            err->code = ERR_TASK_LOST;
        input_break(input, error_wrap(err, "taskmanager %s does not deliver", input->remote->taskmanager_id));
        return;
    }
    error_free(err);
    input->is_requested = false;
    if (input->retry == NULL)
        input->retry = loop_timer_start(input->client->options.loop, next_backoff_ms(&input->backoff_ms), 0, on_request_retry, input);
}

/* ---- receiving ---- */

static struct error *receive_batch(struct net_input *input, const struct frame *frame)
{
    struct net_batch batch;
    TRY(net_decode_batch(frame->body, frame->length, input->schema, &batch));
    if (!batch.is_beyond_credit && input->in_flight == 0) {
        batch_unref(batch.batch);
        return error_new(PROTOCOL, "taskmanager %s sent a batch without credit", input->remote->taskmanager_id);
    }
    if (!batch.is_beyond_credit)
        input->in_flight--;
    channel_push(input->channel, (struct element){.type = ELEMENT_BATCH, .as.rows = {.batch = batch.batch, .bytes = batch_size_bytes(batch.batch)}});
    input_give_credit(input);
    return NULL;
}

/* Nothing of this channel is on its way any more: the producer's process need not stay for it. */
static void input_confirm_end(struct net_input *input)
{
    struct bytes_writer body = {0};
    net_encode_credit(&body, input->number, 0);
    rpc_conn_send_take(input->remote->conn, MESSAGE_CREDIT, body.data, body.length);
}

static struct error *receive_event(struct net_input *input, const struct frame *frame)
{
    struct net_event event;
    TRY(net_decode_event(frame->body, frame->length, &event));
    input->is_ended = event.element.type == ELEMENT_END_OF_PARTITION;
    channel_push(input->channel, event.element);
    if (input->is_ended)
        input_confirm_end(input);
    return NULL;
}

static struct error *receive(struct net_remote *remote, const struct frame *frame)
{
    uint32_t number;
    struct net_client *client = remote->client;
    if (!net_decode_channel(frame->body, frame->length, &number) || number >= client->inputs.count ||
        client->inputs.items[number]->remote != remote)
        return error_new(PROTOCOL, "taskmanager %s sent a frame for no channel of ours", remote->taskmanager_id);
    struct net_input *input = client->inputs.items[number];
    if (input->is_ended)
        return NULL;
    switch (frame->type) {
    case MESSAGE_BATCH:
        return receive_batch(input, frame);
    case MESSAGE_EVENT:
        return receive_event(input, frame);
    case MESSAGE_CHANNEL_ERROR:
        on_channel_error(input, net_decode_error(frame->body, frame->length));
        return NULL;
    default:
        return error_new(PROTOCOL, "unexpected message %s on a data connection", message_type_name(frame->type));
    }
}

static void on_frame(struct rpc_conn *conn, struct frame *frame, void *context)
{
    struct error *err = receive(context, frame);
    if (err != NULL)
        rpc_conn_close(conn, err);
}

/* ---- connections ---- */

static void remote_connect(struct net_remote *remote);

static void on_connect_retry(void *argument)
{
    struct net_remote *remote = argument;
    loop_timer_stop(&remote->retry);
    if (!remote->client->is_closing)
        remote_connect(remote);
}

static void on_open(struct rpc_conn *conn, void *context)
{
    struct net_remote *remote = context;
    (void)conn;
    remote->is_open = remote->was_open = true;
    for (size_t i = 0; i < remote->inputs.count; i++)
        if (!remote->inputs.items[i]->is_ended)
            input_request(remote->inputs.items[i]);
}

static void on_close(struct rpc_conn *conn, const struct error *reason, void *context)
{
    struct net_remote *remote = context;
    struct net_client *client = remote->client;
    (void)conn;
    remote->conn = NULL;
    remote->is_open = false;
    client->conn_count--;
    if (client->is_closing) {
        if (client->conn_count == 0)
            net_client_free(client);
        return;
    }
    if (!remote->was_open && clock_mono_ms() < remote->give_up_at_ms) {
        remote->retry = loop_timer_start(client->options.loop, next_backoff_ms(&remote->backoff_ms), 0, on_connect_retry, remote);
        return;
    }
    char *text = reason != NULL ? error_text(reason) : heap_strdup("closed");
    remote_break(remote, text);
    free(text);
}

static const struct rpc_conn_handler handler = {.on_open = on_open, .on_frame = on_frame, .on_close = on_close};

static void remote_connect(struct net_remote *remote)
{
    struct net_client *client = remote->client;
    json_t *hello = json_pack("{s:s,s:I,s:s}", "job", id_format(client->options.job).hex, "epoch", (json_int_t)client->options.epoch, "runner",
                              client->taskmanager_id);
    client->conn_count++;
    remote->conn = rpc_conn_connect(client->options.loop,
                                    &(struct rpc_connect_options){
                                        .host = remote->host,
                                        .port = remote->port,
                                        .role = "data",
                                        .hello = hello,
                                        .secret = client->options.secret,
                                        .timeout_ms = (uint64_t)client->options.connect_timeout_ms,
                                        .body_bytes_max = FRAME_BODY_BYTES_DATA,
                                    },
                                    &handler, remote);
    json_decref(hello);
}

static struct net_remote *client_remote(struct net_client *client, const char *taskmanager_id, const char *host, uint16_t port)
{
    for (size_t i = 0; i < client->remotes.count; i++)
        if (strcmp(client->remotes.items[i]->taskmanager_id, taskmanager_id) == 0)
            return client->remotes.items[i];
    struct net_remote *remote = heap_new(struct net_remote);
    remote->client = client;
    remote->taskmanager_id = heap_strdup(taskmanager_id);
    remote->host = heap_strdup(host);
    remote->port = port;
    remote->give_up_at_ms = clock_mono_ms() + client->options.request_timeout_ms;
    vec_push(&client->remotes, remote);
    remote_connect(remote);
    return remote;
}

struct channel *net_client_open(struct net_client *client, const char *taskmanager_id, const char *host, uint16_t port,
                                struct channel_key key, struct schema *schema)
{
    struct net_input *input = heap_new(struct net_input);
    uint32_t credit = client->options.credit;
    input->client = client;
    /* Our waker is called when the queue falls below half the credit: early enough that the producer does not run dry. */
    input->channel = channel_create(key, credit > 1 ? (credit + 1) / 2 : 1, SIZE_MAX);
    input->channel->is_from_remote = true;
    input->schema = schema;
    input->number = (uint32_t)client->inputs.count;
    input->give_up_at_ms = clock_mono_ms() + client->options.request_timeout_ms;
    vec_push(&client->inputs, input);
    channel_set_producer(input->channel, (struct channel_waker){.wake = on_channel_room, .arg = input});
    input->remote = client_remote(client, taskmanager_id, host, port);
    vec_push(&input->remote->inputs, input);
    if (input->remote->is_open)
        input_request(input);
    else if (input->remote->conn == NULL && input->remote->retry == NULL)
        input_break(input, lost_error(input->remote, "the connection had closed before"));
    return channel_ref(input->channel);
}
