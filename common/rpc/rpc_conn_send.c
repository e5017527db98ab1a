/* The sending side of a framed connection. libuv owns the queue and tries to write at once; here frames get their header, bodies
 * their owner, and the queue its bound. Thread: the loop's. */
#include "common/base/crc32c.h"
#include "common/base/heap.h"
#include "common/loop/loop.h"
#include "common/rpc/rpc_conn_private.h"

#include <string.h>

/* One frame on its way. */
struct rpc_write {
    uv_write_t request;
    struct rpc_conn *conn;
    uint8_t header[FRAME_HEADER_BYTES];
    void *body; /* owned, or NULL */
    void (*release)(void *argument);
    void *argument;
    uv_tcp_t *handle; /* travels with the frame */
};

size_t rpc_conn_queued_bytes(const struct rpc_conn *conn)
{
    return conn->stream != NULL ? uv_stream_get_write_queue_size(conn->stream) : 0;
}

static void write_free(struct rpc_write *write)
{
    if (write->release != NULL)
        write->release(write->argument);
    rpc_handle_discard(write->handle);
    free(write->body);
    free(write);
}

static void on_written(uv_write_t *request, int status)
{
    struct rpc_write *write = request->data;
    struct rpc_conn *conn = write->conn;
    conn->write_count--;
    write_free(write);
    if (conn->state == CONN_CLOSING)
        return;
    if (status != 0) {
        conn_unheard(conn, error_new(NETWORK, "could not write to %s: %s", conn->peer, uv_strerror(status)));
        return;
    }
    if (conn->is_above_low_water && rpc_conn_queued_bytes(conn) <= RPC_LOW_WATER_BYTES) {
        conn->is_above_low_water = false;
        if (conn->state == CONN_OPEN && conn->handler->on_drain != NULL)
            conn->handler->on_drain(conn, conn->context);
    }
    if (conn->write_count == 0)
        conn_after_last_write(conn);
}

static bool is_handshake(const struct rpc_conn *conn, uint16_t type)
{
    return type <= MESSAGE_WELCOME &&
           (conn->state == CONN_AWAIT_SERVER || conn->state == CONN_AWAIT_CLIENT || conn->state == CONN_AWAIT_WELCOME);
}

static bool can_send(struct rpc_conn *conn, uint16_t type, size_t length)
{
    check_on_loop(conn->loop);
    if (conn->is_unheard || (conn->state != CONN_OPEN && !is_handshake(conn, type)))
        return false;
    check(length <= FRAME_BODY_BYTES_CONTROL);
    if (rpc_conn_queued_bytes(conn) + length > RPC_QUEUE_BYTES_MAX) {
        rpc_conn_close(conn, error_new(NETWORK, "%s does not read: %zu bytes are waiting for it", conn->peer,
                                       rpc_conn_queued_bytes(conn)));
        return false;
    }
    return true;
}

/* Takes write. */
static bool submit(struct rpc_conn *conn, struct rpc_write *write, uint16_t type, const struct rpc_piece *pieces, uint32_t piece_count)
{
    uv_buf_t bufs[1 + RPC_PIECES_MAX];
    uint32_t crc = 0;
    size_t length = 0;
    uint32_t buf_count = 1;
    check(piece_count <= RPC_PIECES_MAX);
    for (uint32_t i = 0; i < piece_count; i++) {
        if (pieces[i].length == 0)
            continue;
        crc = crc32c(crc, pieces[i].data, pieces[i].length);
        length += pieces[i].length;
        bufs[buf_count].len = pieces[i].length;
        /* libuv's buffers are not const, but a write only reads them. */
        memcpy(&bufs[buf_count].base, &pieces[i].data, sizeof bufs[buf_count].base);
        buf_count++;
    }
    frame_header_encode(write->header, type, (uint32_t)length, crc);
    bufs[0] = uv_buf_init((char *)write->header, sizeof write->header);
    write->conn = conn;
    write->request.data = write;
    int status = write->handle != NULL ? uv_write2(&write->request, conn->stream, bufs, buf_count, (uv_stream_t *)write->handle, on_written)
                                       : uv_write(&write->request, conn->stream, bufs, buf_count, on_written);
    if (status != 0) {
        write_free(write);
        rpc_conn_close(conn, error_new(NETWORK, "could not write to %s: %s", conn->peer, uv_strerror(status)));
        return false;
    }
    conn->write_count++;
    if (rpc_conn_queued_bytes(conn) > RPC_LOW_WATER_BYTES)
        conn->is_above_low_water = true;
    return true;
}

bool rpc_conn_send_take(struct rpc_conn *conn, uint16_t type, void *body, size_t length)
{
    if (!can_send(conn, type, length)) {
        free(body);
        return false;
    }
    struct rpc_write *write = heap_new(struct rpc_write);
    write->body = body;
    return submit(conn, write, type, &(struct rpc_piece){body, length}, 1);
}

bool rpc_conn_send(struct rpc_conn *conn, uint16_t type, const void *body, size_t length)
{
    return rpc_conn_send_take(conn, type, length > 0 ? heap_memdup(body, length) : NULL, length);
}

bool rpc_conn_send_json(struct rpc_conn *conn, uint16_t type, const json_t *json)
{
    size_t length;
    char *body = message_encode(type, json, &length);
    return rpc_conn_send_take(conn, type, body, length);
}

bool rpc_conn_forward(struct rpc_conn *conn, struct frame *frame)
{
    uint32_t length = frame->length;
    return rpc_conn_send_take(conn, frame->type, frame_detach_body(frame), length);
}

bool rpc_conn_send_pieces(struct rpc_conn *conn, uint16_t type, const struct rpc_piece *pieces, uint32_t piece_count,
                          void (*release)(void *argument), void *argument)
{
    size_t length = 0;
    for (uint32_t i = 0; i < piece_count; i++)
        length += pieces[i].length;
    if (!can_send(conn, type, length)) {
        if (release != NULL)
            release(argument);
        return false;
    }
    struct rpc_write *write = heap_new(struct rpc_write);
    write->release = release;
    write->argument = argument;
    return submit(conn, write, type, pieces, piece_count);
}

bool rpc_conn_send_handle(struct rpc_conn *conn, uint16_t type, const void *body, size_t length, uv_tcp_t *handle)
{
    check(conn->is_pipe);
    if (!can_send(conn, type, length)) {
        rpc_handle_discard(handle);
        return false;
    }
    struct rpc_write *write = heap_new(struct rpc_write);
    write->handle = handle;
    write->body = heap_memdup(body, length);
    return submit(conn, write, type, &(struct rpc_piece){write->body, length}, 1);
}
