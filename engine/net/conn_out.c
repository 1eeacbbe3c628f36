#include "net/conn.h"

#include <assert.h>

#include "base/clock.h"

enum {
    SMALL_BATCH = CHUNK_SMALL_SIZE - 256, /* sealed, it fits a small chunk, such as the reserve's */
    SEND_PROGRESS_MIN = 4096,             /* octets a reader must take within send_ms */
    FINAL_MAX = HTTP_RESPONSE_HEADER_MAX + 256,
};

#define CONN_OF(member_ptr, member)                                                                \
    ((struct conn *)(void *)((char *)(member_ptr)-offsetof(struct conn, member)))

static const struct bytes continue_line = BYTES_LIT("HTTP/1.1 100 Continue\r\n\r\n");

static uint16_t status_of(enum err err)
{
    switch (err) {
    case ERR_HTTP_VERSION:
        return 505;
    case ERR_HTTP_HEADER_TOO_LARGE:
        return 431;
    case ERR_HTTP_LENGTH_REQUIRED:
        return 411;
    case ERR_BODY_TOO_LARGE:
        return 413;
    case ERR_REQUEST_TIMEOUT:
        return 408;
    case ERR_OVERLOADED:
        return 503;
    default:
        return 400;
    }
}

/* An answer of our own: code, sentence, end. */
static void write_final(struct conn *conn, struct writer *out)
{
    uint8_t text[256];
    struct writer body = writer_of(text, sizeof(text));
    writer_put_str(&body, err_code(conn->final_err));
    writer_put(&body, BYTES_LIT(": "));
    writer_put_str(&body, err_sentence(conn->final_err));
    writer_put_u8(&body, '\n');
    struct http_response response = {
        .status = status_of(conn->final_err),
        .content_type = "text/plain",
        .retry_after_s = conn->final_err == ERR_OVERLOADED ? RETRY_AFTER_S : 0,
        .body = writer_view(&body),
    };
    bool fits = http_write_head(out, &response, false, false);
    assert(fits);
    (void)fits;
    writer_put(out, response.body);
    conn->final_due = false;
}

/* Is this the last answer on a connection that is to end? */
static bool ends_here(const struct conn *conn, const struct net_request *request,
                      const struct http_response *response)
{
    if (!request->http.keep_alive || response->close)
        return true;
    return conn->net->draining && request->next == NULL && conn->current == NULL &&
           conn->head == NULL && !conn->paused;
}

/* An upper bound of what could be written now. */
static size_t pending(const struct conn *conn)
{
    size_t len = 0;
    const struct net_request *request = conn->first;
    for (; request != NULL && request->state == REQUEST_ANSWERED; request = request->next) {
        const struct answer *answer = &conn->net->answers[request->index];
        len += HTTP_RESPONSE_HEADER_MAX + answer->response.body.len - answer->sent;
        if (len >= BATCH_MAX)
            return BATCH_MAX;
    }
    if (request == NULL)
        len += (conn->final_due ? FINAL_MAX : 0) + (conn->continue_due ? continue_line.len : 0);
    return len < BATCH_MAX ? len : BATCH_MAX;
}

/* Writes of the first answer what there is room for; true: all of it is written. */
static bool write_answer(struct conn *conn, struct net_request *request, struct answer *answer,
                         struct writer *out)
{
    if (!answer->head_sent) {
        if (out->cap - out->len < HTTP_RESPONSE_HEADER_MAX)
            return false;
        answer->keep_alive = !ends_here(conn, request, &answer->response);
        bool fits =
            http_write_head(out, &answer->response, request->http.http10, answer->keep_alive);
        assert(fits);
        (void)fits;
        answer->head_sent = true;
        if (bytes_eq(request->http.method, BYTES_LIT("HEAD")))
            answer->sent = answer->response.body.len;
    }
    if (answer->sent == answer->response.body.len)
        return true; /* also where there is no body to point into */
    struct bytes rest = bytes_of(answer->response.body.ptr + answer->sent,
                                 answer->response.body.len - answer->sent);
    if (rest.len > out->cap - out->len)
        rest.len = out->cap - out->len;
    writer_put(out, rest);
    answer->sent += rest.len;
    return answer->sent == answer->response.body.len;
}

static void write_batch(struct conn *conn, struct writer *out)
{
    while (conn->first != NULL && conn->first->state == REQUEST_ANSWERED) {
        struct net_request *request = conn->first;
        struct answer *answer = &conn->net->answers[request->index];
        if (!write_answer(conn, request, answer, out))
            return;
        bool end = !answer->keep_alive;
        conn->first = request->next;
        if (conn->first == NULL)
            conn->last = NULL;
        conn->in_flight--;
        request_release(conn->net, request);
        if (end) {
            /* what was asked after it gets no answer on this connection */
            conn_abandon(conn);
            conn->final_due = false;
            conn->no_more = true;
        }
    }
    if (conn->first != NULL)
        return;
    if (conn->continue_due && out->cap - out->len >= continue_line.len) {
        writer_put(out, continue_line);
        conn->continue_due = false;
    }
    if (conn->final_due && out->cap - out->len >= FINAL_MAX)
        write_final(conn, out);
}

/* One record's worth of answers into the output queue. False when nothing more can go in now. */
static bool fill(struct conn *conn)
{
    struct net *net = conn->net;
    size_t want = pending(conn);
    if (want == 0 || conn->shut || conn->out.total >= SEND_QUEUE_MAX)
        return false;
    struct writer room;
    size_t bound = conn->tls != NULL ? tls_sealed_bound(want) : want;
    if (!byteq_room(&conn->out, &net->out_chunks, bound, &room)) {
        want = want < SMALL_BATCH ? want : SMALL_BATCH;
        bound = conn->tls != NULL ? tls_sealed_bound(want) : want;
        if (!byteq_room(&conn->out, &net->out_chunks, bound, &room)) {
            conn_enlist(conn, LIST_RETRY);
            return false;
        }
    }
    if (conn->tls == NULL) {
        room.cap = want;
        write_batch(conn, &room);
    } else {
        struct writer batch = writer_of(net->batch, want);
        write_batch(conn, &batch);
        if (!tls_seal(conn->tls, writer_view(&batch), &room)) {
            conn_kill(conn);
            return false;
        }
    }
    bool wrote = room.len > 0;
    byteq_commit(&conn->out, &net->out_chunks, &room);
    return wrote;
}

static void on_send_timer(struct timer *timer)
{
    struct conn *conn = CONN_OF(timer, send_timer);
    metric_add(conn->net->metrics, METRIC_TIMEOUTS, 1);
    conn_kill(conn);
}

static void start_send(struct conn *conn)
{
    struct net *net = conn->net;
    if (ring_send(net->ring, &conn->send_op, conn->fd, byteq_front(&conn->out)) != ERR_OK) {
        conn_enlist(conn, LIST_RETRY);
        return;
    }
    conn->sending = true;
    /* A reader that takes an octet now and then has not earned more time. */
    if (conn->send_timer.next == NULL || conn->sent_mark >= SEND_PROGRESS_MIN) {
        timer_set(net->timers, &conn->send_timer, net_deadline(net->config.timeouts.send_ms),
                  on_send_timer);
        conn->sent_mark = 0;
    }
}

void conn_on_send(struct ring_op *op, const struct ring_event *event)
{
    struct conn *conn = CONN_OF(op, send_op);
    conn->sending = false;
    if (conn->state == CONN_DEAD) {
        conn_try_free(conn);
        return;
    }
    if (event->result <= 0) {
        conn_kill(conn);
        return;
    }
    byteq_pop(&conn->out, &conn->net->out_chunks, (size_t)event->result);
    conn->sent_mark += (uint32_t)event->result;
    if (conn->out.total == 0)
        timer_clear(conn->net->timers, &conn->send_timer);
    conn_enlist(conn, LIST_DIRTY);
}

/* All answers that will ever be are in the queue: say goodbye. */
static void finish(struct conn *conn)
{
    struct net *net = conn->net;
    conn->shut = true;
    struct writer room;
    if (conn->tls == NULL || !byteq_room(&conn->out, &net->out_chunks, tls_sealed_bound(2), &room))
        return;
    tls_close_notify(conn->tls, &room);
    byteq_commit(&conn->out, &net->out_chunks, &room);
}

void conn_flush(struct conn *conn)
{
    while (conn->state != CONN_DEAD && fill(conn))
        ;
    if (conn->state == CONN_DEAD || conn->state == CONN_LINGER)
        return;
    if (conn->no_more && !conn->shut && conn->in_flight == 0 && conn->current == NULL &&
        !conn->final_due)
        finish(conn);
    if (conn->out.total > 0 && !conn->sending)
        start_send(conn);
    if (conn->shut && conn->out.total == 0 && !conn->sending) {
        conn_linger(conn);
        return;
    }
    conn_after_flush(conn);
}
