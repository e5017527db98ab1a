/* A TCP relay that can be cut (mini_relay.h). Every connection is a pair of streams; a pair goes when both of its handles are
 * closed, the relay when its listener and all pairs have. Thread: the loop's. Owner: the relay's list. */
#include "tests/support/mini_relay.h"

#include "common/base/heap.h"
#include "common/base/vec.h"

#include <netinet/in.h>
#include <stdlib.h>

enum { BACKLOG = 64, TARGET = 1, READ_BYTES = 64 << 10 };

struct relay_pair {
    struct mini_relay *relay;
    uv_tcp_t ends[2]; /* the comer, the target */
    uv_connect_t connect;
    uint32_t open_count;
    bool is_closing;
};

struct mini_relay {
    uv_loop_t *loop;
    uv_tcp_t listener;
    uint16_t port;
    uint16_t target_port;
    bool is_cut;
    bool is_closing;
    bool is_listener_closed;
    VEC(struct relay_pair *) pairs;
};

struct relay_write {
    uv_write_t uv;
    uv_buf_t buf;
};

static void free_if_closed(struct mini_relay *relay)
{
    if (!relay->is_closing || !relay->is_listener_closed || relay->pairs.count > 0)
        return;
    vec_finish(&relay->pairs);
    free(relay);
}

static void on_end_closed(uv_handle_t *handle)
{
    struct relay_pair *pair = handle->data;
    struct mini_relay *relay = pair->relay;
    if (--pair->open_count > 0)
        return;
    for (size_t i = 0; i < relay->pairs.count; i++)
        if (relay->pairs.items[i] == pair) {
            vec_remove(&relay->pairs, i);
            break;
        }
    free(pair);
    free_if_closed(relay);
}

static void pair_close(struct relay_pair *pair)
{
    if (pair->is_closing)
        return;
    pair->is_closing = true;
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&pair->ends[i], on_end_closed);
}

/* ---- passing bytes ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(heap_alloc(READ_BYTES), READ_BYTES);
}

static void on_written(uv_write_t *uv, int status)
{
    struct relay_write *write = (struct relay_write *)uv;
    struct relay_pair *pair = uv->handle->data;
    free(write->buf.base);
    free(write);
    if (status != 0)
        pair_close(pair);
}

static void on_shut(uv_shutdown_t *shut, int status)
{
    (void)status;
    pair_close(shut->handle->data);
    free(shut);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct relay_pair *pair = stream->data;
    uv_stream_t *other = (uv_stream_t *)&pair->ends[stream == (uv_stream_t *)&pair->ends[TARGET] ? 0 : TARGET];
    if (count <= 0) {
        free(buf->base);
        if (count == 0 || pair->is_closing)
            return;
        uv_read_stop(stream);
        uv_shutdown_t *shut = heap_new(uv_shutdown_t); /* what was read before goes out first */
        if (uv_shutdown(shut, other, on_shut) != 0) {
            free(shut);
            pair_close(pair);
        }
        return;
    }
    struct relay_write *write = heap_new(struct relay_write);
    write->buf = uv_buf_init(buf->base, (unsigned)count);
    if (uv_write(&write->uv, other, &write->buf, 1, on_written) != 0) {
        free(buf->base);
        free(write);
        pair_close(pair);
    }
}

static void pair_read(struct relay_pair *pair)
{
    if (pair->is_closing || pair->relay->is_cut)
        return;
    for (int i = 0; i < 2; i++)
        uv_read_start((uv_stream_t *)&pair->ends[i], on_alloc, on_read);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct relay_pair *pair = connect->data;
    if (status != 0)
        pair_close(pair);
    else
        pair_read(pair);
}

static void on_comer(uv_stream_t *listener, int status)
{
    struct mini_relay *relay = listener->data;
    struct sockaddr_in target;
    if (status != 0)
        return;
    struct relay_pair *pair = heap_new(struct relay_pair);
    pair->relay = relay;
    pair->open_count = 2;
    pair->connect.data = pair;
    for (int i = 0; i < 2; i++) {
        uv_tcp_init(relay->loop, &pair->ends[i]);
        pair->ends[i].data = pair;
    }
    vec_push(&relay->pairs, pair);
    uv_ip4_addr("127.0.0.1", relay->target_port, &target);
    if (uv_accept(listener, (uv_stream_t *)&pair->ends[0]) != 0 ||
        uv_tcp_connect(&pair->connect, &pair->ends[TARGET], (const struct sockaddr *)&target, on_connected) != 0)
        pair_close(pair);
    for (int i = 0; i < 2 && !pair->is_closing; i++)
        uv_tcp_nodelay(&pair->ends[i], 1);
}

/* ---- life ---- */

static void on_listener_closed(uv_handle_t *handle)
{
    struct mini_relay *relay = handle->data;
    relay->is_listener_closed = true;
    free_if_closed(relay);
}

struct error *mini_relay_create(uv_loop_t *loop, uint16_t target_port, struct mini_relay **out)
{
    struct mini_relay *relay = heap_new(struct mini_relay);
    struct sockaddr_in address;
    int length = sizeof address;
    relay->loop = loop;
    relay->target_port = target_port;
    uv_tcp_init(loop, &relay->listener);
    relay->listener.data = relay;
    uv_ip4_addr("127.0.0.1", 0, &address);
    int status = uv_tcp_bind(&relay->listener, (const struct sockaddr *)&address, 0);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&relay->listener, BACKLOG, on_comer);
    if (status == 0)
        status = uv_tcp_getsockname(&relay->listener, (struct sockaddr *)&address, &length);
    if (status != 0) {
        mini_relay_close(relay);
        return error_new(NETWORK, "could not open a relay: %s", uv_strerror(status));
    }
    relay->port = ntohs(address.sin_port);
    *out = relay;
    return NULL;
}

uint16_t mini_relay_port(const struct mini_relay *relay)
{
    return relay->port;
}

void mini_relay_cut(struct mini_relay *relay)
{
    relay->is_cut = true;
    for (size_t i = 0; i < relay->pairs.count; i++)
        for (int end = 0; end < 2; end++)
            uv_read_stop((uv_stream_t *)&relay->pairs.items[i]->ends[end]);
}

void mini_relay_reset(struct mini_relay *relay)
{
    for (size_t i = 0; i < relay->pairs.count; i++)
        pair_close(relay->pairs.items[i]);
}

void mini_relay_heal(struct mini_relay *relay)
{
    relay->is_cut = false;
    mini_relay_reset(relay);
}

void mini_relay_close(struct mini_relay *relay)
{
    if (relay == NULL || relay->is_closing)
        return;
    relay->is_closing = true;
    mini_relay_reset(relay);
    uv_close((uv_handle_t *)&relay->listener, on_listener_closed);
}
