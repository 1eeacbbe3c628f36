#include "net/conn.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

enum {
    LINGER_MS = 1000,
    LINGER_OCTETS_MAX = 256 * 1024,
    BODY_PROGRESS_MIN = 16 * 1024, /* octets that must come within body_ms, or the body's end */
    CHUNKED_BODY_FIRST = 2048,
};

#define CONN_OF(member_ptr, member)                                                                \
    ((struct conn *)(void *)((char *)(member_ptr)-offsetof(struct conn, member)))

/* --- time --- */

static void on_read_timer(struct timer *timer)
{
    struct conn *conn = CONN_OF(timer, read_timer);
    enum conn_wait waited_for = (enum conn_wait)conn->waits_for;
    conn->waits_for = WAIT_NOTHING;
    if (waited_for == WAIT_BODY && conn->body.len - conn->body_mark >= BODY_PROGRESS_MIN) {
        conn_wait_for(conn, WAIT_BODY);
        return;
    }
    if (waited_for != WAIT_LINGER)
        metric_add(conn->net->metrics, METRIC_TIMEOUTS, 1);
    switch (waited_for) {
    case WAIT_HANDSHAKE:
        metric_add(conn->net->metrics, METRIC_TLS_FAILED, 1);
        conn_kill(conn);
        break;
    case WAIT_HEAD:
    case WAIT_BODY:
        conn_fail(conn, ERR_REQUEST_TIMEOUT);
        break;
    case WAIT_IDLE:
        conn->no_more = true;
        conn_enlist(conn, LIST_DIRTY);
        break;
    default:
        conn_kill(conn);
        break;
    }
}

void conn_wait_for(struct conn *conn, enum conn_wait what)
{
    if (conn->waits_for == what)
        return;
    conn->waits_for = (uint8_t)what;
    const struct net_timeouts *timeouts = &conn->net->config.timeouts;
    uint32_t ms = 0;
    switch (what) {
    case WAIT_HANDSHAKE:
        ms = timeouts->handshake_ms;
        break;
    case WAIT_HEAD:
        ms = timeouts->header_ms;
        break;
    case WAIT_BODY:
        ms = timeouts->body_ms;
        conn->body_mark = conn->body.len;
        break;
    case WAIT_IDLE:
        ms = timeouts->idle_ms;
        break;
    case WAIT_LINGER:
        ms = LINGER_MS;
        break;
    case WAIT_NOTHING:
        timer_clear(conn->net->timers, &conn->read_timer);
        return;
    }
    timer_set(conn->net->timers, &conn->read_timer, net_deadline(ms), on_read_timer);
}

/* What the state says must come next, and when. A timer that runs for it already is left alone. */
static void settle(struct conn *conn)
{
    if (conn->state != CONN_OPEN)
        return;
    if (conn->no_more || conn->paused)
        conn_wait_for(conn, WAIT_NOTHING);
    else if (conn->current != NULL)
        conn_wait_for(conn, WAIT_BODY);
    else if (conn->head != NULL || (conn->tls != NULL && tls_is_mid_record(conn->tls)))
        conn_wait_for(conn, WAIT_HEAD);
    else if (conn->in_flight == 0 && conn->out.total == 0)
        conn_wait_for(conn, WAIT_IDLE);
    else
        conn_wait_for(conn, WAIT_NOTHING);
}

/* --- pausing --- */

/* Would the answer to one more request have nowhere to go? */
static bool is_blocked(const struct conn *conn)
{
    return conn->in_flight >= HTTP_PIPELINE_MAX || conn->out.total >= SEND_QUEUE_MAX;
}

static void pause_reading(struct conn *conn)
{
    conn->paused = true;
    if (conn->recv_armed && !conn->recv_cancel &&
        ring_cancel(conn->net->ring, &conn->recv_op) == ERR_OK)
        conn->recv_cancel = true;
}

static void shed_for_memory(struct conn *conn)
{
    metric_add(conn->net->metrics, METRIC_MEMORY_SHED, 1);
    conn_fail(conn, ERR_OVERLOADED);
}

static void hold(struct conn *conn, struct byteq *queue, struct bytes data)
{
    if (data.len > 0 && !conn->no_more && !byteq_put(queue, &conn->net->in_chunks, data))
        shed_for_memory(conn);
}

/* --- requests --- */

static void drop_head(struct conn *conn)
{
    if (conn->head != NULL)
        chunk_put(conn->net->chunks, conn->head);
    conn->head = NULL;
    conn->head_len = 0;
    conn->head_scanned = 0;
}

static void drop_current(struct conn *conn)
{
    if (conn->current != NULL)
        request_release(conn->net, conn->current);
    conn->current = NULL;
    conn->continue_due = false;
}

void conn_fail(struct conn *conn, enum err err)
{
    if (conn->state == CONN_HANDSHAKE) {
        conn_kill(conn);
        return;
    }
    if (conn->state != CONN_OPEN || conn->final_err != ERR_OK)
        return;
    conn->final_err = err;
    conn->final_due = true;
    conn->no_more = true;
    drop_current(conn);
    drop_head(conn);
    metric_refused(conn->net->metrics, err);
    conn_enlist(conn, LIST_DIRTY);
}

static void complete_request(struct conn *conn, struct net_request *request)
{
    struct net *net = conn->net;
    conn->current = NULL;
    request->received_ns = clock_mono_ns();
    request->state = REQUEST_GIVEN;
    request->next = NULL;
    if (conn->last == NULL)
        conn->first = request;
    else
        conn->last->next = request;
    conn->last = request;
    conn->in_flight++;
    if (!request->http.keep_alive)
        conn->no_more = true;
    metric_add(net->metrics, METRIC_REQUESTS, 1);
    metric_add(net->metrics, METRIC_EXCHANGES_OPEN, 1);
    net->handlers.on_request(net->handlers.ctx, request);
}

static struct bytes moved(struct bytes view, struct bytes from, const uint8_t *to)
{
    if (view.len == 0)
        return (struct bytes){0};
    return bytes_of(to + (view.ptr - from.ptr), view.len);
}

/* The head's copy in the arena takes the place of the input it was parsed in. */
static bool keep_head(struct net_request *request, struct bytes head)
{
    uint8_t *copy = arena_alloc(&request->arena, head.len);
    if (copy == NULL)
        return false;
    memcpy(copy, head.ptr, head.len);
    struct http_request *http = &request->http;
    struct bytes *views[] = {&http->method,    &http->path,         &http->query,
                             &http->host,      &http->content_type, &http->authorization,
                             &http->user_agent};
    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++)
        *views[i] = moved(*views[i], head, copy);
    return true;
}

/* Takes the place of a body that is to come, or completes the request. A large body's memory grows
 * with what has come, so that announcing one costs the peer something. */
static void start_body(struct conn *conn, struct net_request *request)
{
    const struct http_request *http = &request->http;
    struct net *net = conn->net;
    conn->current = request;
    conn->continue_due = false;
    if (!http->chunked && http->content_length == 0) {
        complete_request(conn, request);
        return;
    }
    uint32_t max = net->handlers.body_limit(net->handlers.ctx, http->method, http->path);
    conn->body_max = max < BODY_MAX ? max : BODY_MAX;
    if (http->content_length > conn->body_max) {
        conn_fail(conn, ERR_BODY_TOO_LARGE);
        return;
    }
    size_t first = http->chunked ? CHUNKED_BODY_FIRST : (size_t)http->content_length;
    if (first > CHUNK_MEDIUM_SIZE)
        first = CHUNK_MEDIUM_SIZE;
    if (first > conn->body_max)
        first = conn->body_max;
    void *mem = arena_alloc(&request->arena, first);
    if (mem == NULL) {
        shed_for_memory(conn);
        return;
    }
    conn->body = writer_of(mem, first);
    conn->body_mark = 0;
    conn->chunked = (struct http_chunked){0};
    if (http->expect_continue) {
        conn->continue_due = true;
        conn_enlist(conn, LIST_DIRTY);
    }
}

/* False: no slot; nothing was taken. */
static bool start_request(struct conn *conn, const struct http_request *http, struct bytes head)
{
    struct net *net = conn->net;
    uint32_t index = pool_take(&net->exchanges, net->config.exchange_size);
    if (index == POOL_NONE)
        return false;
    struct net_request *request = pool_at(&net->exchanges, index);
    request->index = index;
    request->state = REQUEST_RECEIVING;
    request->conn = conn;
    request->peer = &conn->peer;
    request->http = *http;
    arena_init(&request->arena, net->chunks, EXCHANGE_ARENA_MAX);
    if (!keep_head(request, head)) {
        request_release(net, request);
        shed_for_memory(conn);
        return true;
    }
    start_body(conn, request);
    return true;
}

/* Room for all of `all` in the chunk that gathers a head. */
static bool grow_head(struct conn *conn, size_t len)
{
    if (conn->head != NULL && len <= conn->head->size)
        return true;
    struct chunk *grown = chunk_take(conn->net->chunks, len);
    if (grown == NULL)
        return false;
    if (conn->head != NULL) {
        memcpy(grown->data, conn->head->data, conn->head_len);
        chunk_put(conn->net->chunks, conn->head);
    }
    conn->head = grown;
    return true;
}

/* Appends to the gathered head as much as a head may have. */
static bool gather_head(struct conn *conn, struct bytes view)
{
    size_t room = HTTP_HEADER_MAX - conn->head_len;
    size_t n = view.len < room ? view.len : room;
    if (!grow_head(conn, conn->head_len + n))
        return false;
    memcpy(conn->head->data + conn->head_len, view.ptr, n);
    conn->head_len += (uint32_t)n;
    return true;
}

/* One step on the way to a complete head; takes from *view. False: paused, and nothing was taken.
 */
static bool take_head(struct conn *conn, struct bytes *view)
{
    if (conn->net->draining && conn->head == NULL) {
        conn->no_more = true;
        conn_enlist(conn, LIST_DIRTY);
        return true;
    }
    if (is_blocked(conn)) {
        pause_reading(conn);
        return false;
    }
    uint32_t had = conn->head_len;
    size_t scanned = conn->head_scanned;
    bool gathered = conn->head != NULL;
    if (gathered && !gather_head(conn, *view)) {
        shed_for_memory(conn);
        return true;
    }
    struct bytes all = gathered ? bytes_of(conn->head->data, conn->head_len) : *view;
    struct http_request http;
    size_t used = 0;
    enum err err = ERR_OK;
    enum http_progress progress = http_parse_head(all, &scanned, &http, &used, &err);
    if (progress == HTTP_ERROR) {
        conn_fail(conn, err);
        return true;
    }
    if (progress == HTTP_NEED_MORE) {
        if (!gathered && !gather_head(conn, *view)) {
            shed_for_memory(conn);
            return true;
        }
        conn->head_scanned = scanned;
        *view = (struct bytes){0};
        return true;
    }
    if (!start_request(conn, &http, bytes_of(all.ptr, used))) {
        conn->head_len = had; /* read again when there is a slot */
        pause_reading(conn);
        conn_enlist(conn, LIST_SLOTLESS);
        return false;
    }
    *view = bytes_of(view->ptr + (used - had), view->len - (used - had));
    drop_head(conn);
    if (conn->waits_for == WAIT_HEAD || conn->waits_for == WAIT_IDLE)
        conn_wait_for(conn, WAIT_NOTHING); /* the next one has its own time */
    return true;
}

/* Room for `n` more octets of the body, in a bigger place if need be. */
static bool grow_body(struct conn *conn, size_t n)
{
    struct writer *body = &conn->body;
    if (n <= body->cap - body->len)
        return true;
    const struct http_request *http = &conn->current->http;
    size_t cap = http->chunked ? (body->len + n) * 4 : (size_t)http->content_length;
    if (cap > conn->body_max)
        cap = conn->body_max;
    if (cap <= body->cap)
        return true; /* at the limit: the decoder says so */
    uint8_t *mem = arena_alloc(&conn->current->arena, cap);
    if (mem == NULL)
        return false;
    memcpy(mem, body->buf, body->len);
    *body = (struct writer){mem, cap, body->len, false};
    return true;
}

static void take_body(struct conn *conn, struct bytes *view)
{
    struct net_request *request = conn->current;
    struct http_request *http = &request->http;
    conn->continue_due = false;
    size_t n = view->len;
    if (!http->chunked && n > http->content_length - conn->body.len)
        n = (size_t)http->content_length - conn->body.len;
    if (!grow_body(conn, n)) {
        shed_for_memory(conn);
        return;
    }
    bool done;
    if (http->chunked) {
        enum err err = ERR_OK;
        enum http_progress progress = http_chunked_feed(&conn->chunked, view, &conn->body, &err);
        if (progress != HTTP_ERROR && conn->chunked.left > conn->body_max - conn->body.len) {
            progress = HTTP_ERROR;
            err = ERR_BODY_TOO_LARGE;
        }
        if (progress == HTTP_ERROR) {
            conn_fail(conn, err);
            return;
        }
        done = progress == HTTP_DONE;
    } else {
        writer_put(&conn->body, bytes_of(view->ptr, n));
        *view = bytes_of(view->ptr + n, view->len - n);
        done = conn->body.len == http->content_length;
    }
    if (!done)
        return;
    http->body = writer_view(&conn->body);
    if (conn->waits_for == WAIT_BODY)
        conn_wait_for(conn, WAIT_NOTHING);
    complete_request(conn, request);
}

/* --- input --- */

/* Plaintext; what is left in *view when it returns waits for room. */
static void consume(struct conn *conn, struct bytes *view)
{
    while (view->len > 0 && conn->state == CONN_OPEN && !conn->no_more) {
        if (conn->current != NULL)
            take_body(conn, view);
        else if (!take_head(conn, view))
            return;
    }
    *view = (struct bytes){0};
}

static void on_established(struct conn *conn)
{
    struct net *net = conn->net;
    conn->state = CONN_OPEN;
    conn->peer.tls = tls_session_peer(conn->tls);
    metric_add(net->metrics, METRIC_TLS_HANDSHAKES, 1);
    if (conn->peer.tls->resumed)
        metric_add(net->metrics, METRIC_TLS_RESUMED, 1);
    if (net->draining) {
        conn->no_more = true;
        conn_enlist(conn, LIST_DIRTY);
    }
    /* A client without TCP_NODELAY sends its request when its last flight is acknowledged. Where we
     * have nothing to say (no ticket), the kernel would take 40 ms to do so. */
    const int on = 1;
    if (conn->out.total == 0)
        (void)!setsockopt(conn->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

/* Nothing can be said any more but the alert that is queued already. */
static void on_tls_failed(struct conn *conn)
{
    log_debug("tls-failed", "peer=%s port=%u reason=\"%s\"", conn->peer.address, conn->peer.port,
              tls_error_text(conn->tls));
    if (conn->state == CONN_HANDSHAKE) {
        metric_add(conn->net->metrics, METRIC_TLS_FAILED, 1);
        conn->state = CONN_OPEN;
    }
    conn_abandon(conn);
    conn->no_more = true;
    conn->shut = true;
    conn_enlist(conn, LIST_DIRTY);
}

static void decrypt(struct conn *conn, struct bytes *in)
{
    struct net *net = conn->net;
    enum tls_status status;
    do {
        struct writer plain = writer_of(net->plain, sizeof(net->plain));
        struct writer cipher = writer_of(net->cipher, sizeof(net->cipher));
        status = tls_feed(conn->tls, in, &plain, &cipher);
        conn->tls_pending = status == TLS_STALLED;
        if (cipher.len > 0) {
            if (!byteq_put(&conn->out, &net->out_chunks, writer_view(&cipher))) {
                metric_add(net->metrics, METRIC_MEMORY_SHED, 1);
                conn_kill(conn);
                return;
            }
            conn_enlist(conn, LIST_DIRTY);
        }
        if (conn->state == CONN_HANDSHAKE && tls_is_established(conn->tls))
            on_established(conn);
        struct bytes view = writer_view(&plain);
        consume(conn, &view);
        hold(conn, &conn->held_plain, view);
        if (status == TLS_FAILED)
            on_tls_failed(conn);
        else if (status == TLS_CLOSED)
            conn->eof = true;
        else if (conn->out.total >= SEND_QUEUE_MAX && !conn->paused)
            pause_reading(conn); /* answers to key updates alone can fill it */
    } while (status == TLS_STALLED && conn->state == CONN_OPEN && !conn->paused && !conn->no_more);
    if (status == TLS_FAILED || status == TLS_CLOSED)
        *in = (struct bytes){0};
}

/* Their side has ended, and all of it was read: what is half done is dropped, what is owed is sent.
 */
static void check_end(struct conn *conn)
{
    if (!conn->eof || conn->paused || (conn->state != CONN_OPEN && conn->state != CONN_HANDSHAKE))
        return;
    if (conn->state == CONN_HANDSHAKE) {
        metric_add(conn->net->metrics, METRIC_TLS_FAILED, 1);
        conn_kill(conn);
        return;
    }
    drop_current(conn);
    drop_head(conn);
    conn->no_more = true;
    conn_enlist(conn, LIST_DIRTY);
}

static void receive(struct conn *conn, struct bytes data)
{
    if (conn->state == CONN_LINGER) {
        if (data.len >= conn->linger_left)
            conn_kill(conn);
        else
            conn->linger_left -= (uint32_t)data.len;
        return;
    }
    struct byteq *held = conn->tls != NULL ? &conn->held_cipher : &conn->held_plain;
    if (!conn->paused && !conn->no_more) {
        if (conn->tls != NULL)
            decrypt(conn, &data);
        else
            consume(conn, &data);
    }
    if (conn->state != CONN_DEAD)
        hold(conn, held, data);
}

void conn_resume(struct conn *conn)
{
    struct chunk_source *source = &conn->net->in_chunks;
    conn->paused = false;
    while (conn->held_plain.total > 0 && !conn->paused && conn->state == CONN_OPEN) {
        struct bytes front = byteq_front(&conn->held_plain), view = front;
        consume(conn, &view);
        if (conn->state != CONN_DEAD)
            byteq_pop(&conn->held_plain, source, front.len - view.len);
    }
    while (conn->tls != NULL && (conn->held_cipher.total > 0 || conn->tls_pending) &&
           !conn->paused && conn->state == CONN_OPEN && !conn->no_more) {
        struct bytes front = byteq_front(&conn->held_cipher), view = front;
        decrypt(conn, &view);
        if (conn->state != CONN_DEAD)
            byteq_pop(&conn->held_cipher, source, front.len - view.len);
    }
    check_end(conn);
    conn_rearm(conn);
    settle(conn);
}

static void on_recv(struct ring_op *op, const struct ring_event *event)
{
    struct conn *conn = CONN_OF(op, recv_op);
    if (!event->more) {
        conn->recv_armed = false;
        conn->recv_cancel = false;
    }
    if (conn->state != CONN_DEAD && event->result > 0)
        receive(conn, event->data);
    if (event->has_buffer)
        ring_buffer_return(conn->net->ring, event->buffer_id);
    if (conn->state == CONN_DEAD) {
        conn_try_free(conn);
        return;
    }
    if (event->result == 0)
        conn->eof = true;
    else if (event->result == -ENOBUFS)
        conn_enlist(conn, LIST_RETRY);
    else if (event->result < 0 && event->result != -ECANCELED) {
        conn_kill(conn);
        return;
    }
    if (conn->eof && conn->state == CONN_LINGER) {
        conn_kill(conn);
        return;
    }
    check_end(conn);
    if (event->result != -ENOBUFS)
        conn_rearm(conn);
    settle(conn);
}

void conn_rearm(struct conn *conn)
{
    if (conn->state == CONN_DEAD || conn->recv_armed || conn->eof || conn->paused)
        return;
    if (ring_buffers_free(conn->net->ring) > 0 &&
        ring_recv_multishot(conn->net->ring, &conn->recv_op, conn->fd) == ERR_OK)
        conn->recv_armed = true;
    else
        conn_enlist(conn, LIST_RETRY);
}

void conn_after_flush(struct conn *conn)
{
    if (conn->paused && (conn->in_lists & 1u << LIST_SLOTLESS) == 0 && !is_blocked(conn))
        conn_enlist(conn, LIST_RESUME);
    settle(conn);
}

/* --- life --- */

static void describe_address(struct net_peer *peer, int fd)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);
    if (getpeername(fd, (struct sockaddr *)&name, &len) != 0)
        return;
    if (name.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&name;
        inet_ntop(AF_INET, &v4->sin_addr, peer->address, sizeof(peer->address));
        peer->port = ntohs(v4->sin_port);
    } else if (name.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&name;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
        inet_ntop(mapped ? AF_INET : AF_INET6, v6->sin6_addr.s6_addr + (mapped ? 12 : 0),
                  peer->address, sizeof(peer->address));
        peer->port = ntohs(v6->sin6_port);
    }
}

static void on_close(struct ring_op *op, const struct ring_event *event)
{
    (void)event;
    struct conn *conn = CONN_OF(op, close_op);
    conn->closing_fd = false;
    conn_try_free(conn);
}

bool conn_open(struct net *net, int fd, uint32_t listener_index, bool tls)
{
    uint32_t index = pool_take(&net->conns, sizeof(struct conn));
    if (index == POOL_NONE)
        return false;
    struct conn *conn = pool_at(&net->conns, index);
    if (tls && tls_session_new(net->tls_ctx, &conn->tls) != ERR_OK) {
        pool_put(&net->conns, index);
        return false;
    }
    conn->net = net;
    conn->fd = fd;
    conn->state = tls ? CONN_HANDSHAKE : CONN_OPEN;
    conn->recv_op.complete = on_recv;
    conn->send_op.complete = conn_on_send;
    conn->close_op.complete = on_close;
    conn->peer.listener_index = (uint16_t)listener_index;
    describe_address(&conn->peer, fd);
    net->connections++;
    metric_add(net->metrics, METRIC_CONNECTIONS_OPEN, 1);
    if (net->handlers.on_connections != NULL)
        net->handlers.on_connections(net->handlers.ctx, 1);
    conn_rearm(conn);
    conn_wait_for(conn, tls ? WAIT_HANDSHAKE : WAIT_IDLE);
    return true;
}

void conn_abandon(struct conn *conn)
{
    struct net_request *request = conn->first;
    while (request != NULL) {
        struct net_request *next = request->next;
        request->conn = NULL;
        request->peer = NULL;
        request->next = NULL;
        if (request->state == REQUEST_ANSWERED)
            request_release(conn->net, request);
        request = next;
    }
    conn->first = conn->last = NULL;
    conn->in_flight = 0;
    drop_current(conn);
    drop_head(conn);
}

void conn_kill(struct conn *conn)
{
    if (conn->state == CONN_DEAD)
        return;
    struct net *net = conn->net;
    conn->state = CONN_DEAD;
    timer_clear(net->timers, &conn->read_timer);
    timer_clear(net->timers, &conn->send_timer);
    conn_abandon(conn);
    byteq_clear(&conn->held_cipher, &net->in_chunks);
    byteq_clear(&conn->held_plain, &net->in_chunks);
    conn->peer.tls = NULL;
    tls_session_free(conn->tls);
    conn->tls = NULL;
    bool queued = true;
    if (conn->recv_armed && !conn->recv_cancel)
        queued = ring_cancel(net->ring, &conn->recv_op) == ERR_OK;
    if (conn->sending)
        queued = ring_cancel(net->ring, &conn->send_op) == ERR_OK && queued;
    if (!queued)
        shutdown(conn->fd, SHUT_RDWR); /* ends them too */
    if (ring_close(net->ring, &conn->close_op, conn->fd) == ERR_OK)
        conn->closing_fd = true;
    else
        close(conn->fd);
    conn->fd = -1;
    conn_enlist(conn, LIST_DIRTY); /* freed when the list is run, or by the last completion */
    net->connections--;
    metric_add(net->metrics, METRIC_CONNECTIONS_OPEN, (uint64_t)-1);
    if (net->handlers.on_connections != NULL)
        net->handlers.on_connections(net->handlers.ctx, -1);
}

void conn_try_free(struct conn *conn)
{
    if (conn->state != CONN_DEAD || conn->recv_armed || conn->sending || conn->closing_fd ||
        conn->in_lists != 0)
        return;
    byteq_clear(&conn->out, &conn->net->out_chunks);
    pool_put(&conn->net->conns, pool_index(&conn->net->conns, conn));
}

bool conn_is_busy(const struct conn *conn)
{
    return conn->in_flight > 0 || conn->current != NULL || conn->head != NULL || conn->paused;
}

void conn_linger(struct conn *conn)
{
    if (conn->eof || shutdown(conn->fd, SHUT_WR) != 0) {
        conn_kill(conn);
        return;
    }
    conn->state = CONN_LINGER;
    conn->linger_left = LINGER_OCTETS_MAX;
    conn->paused = false;
    byteq_clear(&conn->held_cipher, &conn->net->in_chunks);
    byteq_clear(&conn->held_plain, &conn->net->in_chunks);
    conn_wait_for(conn, WAIT_LINGER);
    conn_rearm(conn);
}
