#include "net/net.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/conn.h"

enum {
    ACCEPT_RETRY_MS = 100,
    LISTEN_RETRY_US = 20000,
    OUTPUT_RESERVE = 16, /* chunks; each lets one stuck connection send on */
    DESTROY_TURNS = 1000,
};

/* --- lists --- */

void conn_enlist(struct conn *conn, enum conn_list list)
{
    if ((conn->in_lists & 1u << list) != 0)
        return;
    conn->in_lists |= (uint8_t)(1u << list);
    conn->next[list] = NULL;
    struct conn_fifo *fifo = &conn->net->lists[list];
    if (fifo->last == NULL)
        fifo->first = conn;
    else
        fifo->last->next[list] = conn;
    fifo->last = conn;
}

struct conn *net_take(struct net *net, enum conn_list list)
{
    struct conn_fifo *fifo = &net->lists[list];
    while (fifo->first != NULL) {
        struct conn *conn = fifo->first;
        fifo->first = conn->next[list];
        if (fifo->first == NULL)
            fifo->last = NULL;
        conn->in_lists &= (uint8_t) ~(1u << list);
        if (conn->state != CONN_DEAD)
            return conn;
        conn_try_free(conn);
    }
    return NULL;
}

uint64_t net_deadline(uint32_t ms)
{
    return clock_mono_ns() + ms * NS_PER_MS;
}

/* --- requests --- */

void request_release(struct net *net, struct net_request *request)
{
    if (request->state != REQUEST_RECEIVING && net->handlers.on_release != NULL)
        net->handlers.on_release(net->handlers.ctx, request);
    arena_reset(&request->arena);
    pool_put(&net->exchanges, request->index);
}

void net_respond(struct net *net, struct net_request *request, const struct http_response *response)
{
    assert(request->state == REQUEST_GIVEN);
    metric_add(net->metrics, METRIC_RESPONSES, 1);
    metric_add(net->metrics, METRIC_EXCHANGES_OPEN, (uint64_t)-1);
    request->state = REQUEST_ANSWERED;
    if (request->conn == NULL) {
        request_release(net, request);
        return;
    }
    net->answers[request->index] = (struct answer){.response = *response};
    conn_enlist(request->conn, LIST_DIRTY);
}

/* Each once: who fails again joins the list of the next turn. */
static void retry(struct net *net)
{
    struct conn *conn = net->lists[LIST_RETRY].first;
    net->lists[LIST_RETRY] = (struct conn_fifo){0};
    while (conn != NULL) {
        struct conn *next = conn->next[LIST_RETRY];
        conn->in_lists &= (uint8_t) ~(1u << LIST_RETRY);
        conn_rearm(conn);
        conn_flush(conn);
        conn_try_free(conn);
        conn = next;
    }
}

void net_flush(struct net *net)
{
    retry(net);
    for (;;) {
        struct conn *conn = net_take(net, LIST_DIRTY);
        if (conn != NULL) {
            conn_flush(conn);
            continue;
        }
        conn = net_take(net, LIST_RESUME);
        if (conn == NULL && net->exchanges.free_count > 0)
            conn = net_take(net, LIST_SLOTLESS);
        if (conn == NULL)
            return;
        conn_resume(conn);
    }
}

/* --- accepting --- */

/* A killed daemon's ring lets go of its listening socket a little after the process is gone. */
static bool bind_patiently(int fd, const struct sockaddr *name, socklen_t len)
{
    uint64_t end_ns = clock_mono_ns() + LISTEN_WAIT_MS * NS_PER_MS;
    while (bind(fd, name, len) != 0 || listen(fd, ACCEPT_BACKLOG) != 0) {
        if (errno != EADDRINUSE || clock_mono_ns() >= end_ns)
            return false;
        usleep(LISTEN_RETRY_US);
    }
    return true;
}

enum err net_listen(const struct listener_config *config, int *out_fd, char out_detail[256])
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {0};
    socklen_t len;
    if (inet_pton(AF_INET, config->address, &name.v4.sin_addr) == 1) {
        name.v4.sin_family = AF_INET;
        name.v4.sin_port = htons(config->port);
        len = sizeof(name.v4);
    } else if (inet_pton(AF_INET6, config->address, &name.v6.sin6_addr) == 1) {
        name.v6.sin6_family = AF_INET6;
        name.v6.sin6_port = htons(config->port);
        len = sizeof(name.v6);
    } else {
        snprintf(out_detail, 256, "listen address %s is not a numeric IPv4 or IPv6 address",
                 config->address);
        return ERR_CONFIG;
    }
    const int on = 1, off = 0;
    int fd = socket(name.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
              /* both are inherited by what is accepted */
              setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
              setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0;
    if (ok && name.any.sa_family == AF_INET6)
        ok = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == 0;
    if (ok && bind_patiently(fd, &name.any, len)) {
        *out_fd = fd;
        return ERR_OK;
    }
    int error = errno;
    if (fd >= 0)
        close(fd);
    const char *hint = error == EADDRINUSE      ? ": another process has this port"
                       : error == EACCES        ? ": ports below 1024 need CAP_NET_BIND_SERVICE"
                       : error == EADDRNOTAVAIL ? ": this machine does not have this address"
                                                : "";
    snprintf(out_detail, 256, "cannot listen on %s port %u: errno %d%s", config->address,
             config->port, error, hint);
    return ERR_IO;
}

static void arm_accept(struct accept_slot *slot);

static void on_accept_retry(struct timer *timer)
{
    struct accept_slot *slot =
        (struct accept_slot *)(void *)((char *)timer - offsetof(struct accept_slot, retry));
    arm_accept(slot);
}

static void retry_accept(struct accept_slot *slot)
{
    timer_set(slot->net->timers, &slot->retry, net_deadline(ACCEPT_RETRY_MS), on_accept_retry);
}

static void on_accept(struct ring_op *op, const struct ring_event *event)
{
    struct accept_slot *slot =
        (struct accept_slot *)(void *)((char *)op - offsetof(struct accept_slot, op));
    struct net *net = slot->net;
    slot->armed = event->more;
    if (event->result >= 0) {
        uint32_t core = net->config.core;
        if (net->handlers.choose_core != NULL && slot->active)
            core = net->handlers.choose_core(net->handlers.ctx);
        if (core != net->config.core)
            net->handlers.on_handover(net->handlers.ctx, core, event->result, slot->listener_index);
        else
            net_adopt(net, event->result, slot->listener_index, slot->tls);
    }
    if (slot->armed || !slot->active)
        return;
    switch (-event->result) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        retry_accept(slot); /* what waits stays in the backlog */
        break;
    default:
        arm_accept(slot);
        break;
    }
}

static void arm_accept(struct accept_slot *slot)
{
    if (!slot->active || slot->armed)
        return;
    if (ring_accept_multishot(slot->net->ring, &slot->op, slot->fd) == ERR_OK)
        slot->armed = true;
    else
        retry_accept(slot);
}

enum err net_accept_start(struct net *net, int listen_fd, uint32_t listener_index, bool tls)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        struct accept_slot *slot = &net->accepts[i];
        if (slot->active || slot->armed)
            continue;
        *slot = (struct accept_slot){
            .op.complete = on_accept,
            .net = net,
            .fd = listen_fd,
            .listener_index = listener_index,
            .tls = tls,
            .active = true,
        };
        arm_accept(slot);
        return ERR_OK;
    }
    return ERR_FULL;
}

void net_accept_stop(struct net *net)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        struct accept_slot *slot = &net->accepts[i];
        if (!slot->active)
            continue;
        slot->active = false;
        timer_clear(net->timers, &slot->retry);
        if (slot->armed)
            (void)!ring_cancel(net->ring, &slot->op);
    }
}

void net_adopt(struct net *net, int fd, uint32_t listener_index, bool tls)
{
    metric_add(net->metrics, METRIC_CONNECTIONS_ACCEPTED, 1);
    if (net->draining || (tls && net->tls_ctx == NULL) ||
        !conn_open(net, fd, listener_index, tls)) {
        metric_add(net->metrics, METRIC_CONNECTIONS_SHED, 1);
        close(fd);
    }
}

/* --- life --- */

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value != 0 ? value : otherwise;
}

enum err net_create(const struct net_config *config, struct ring *ring, struct timers *timers,
                    struct chunk_pool *chunks, struct metrics *metrics,
                    const struct net_handlers *handlers, struct net **out)
{
    assert(config->exchange_size >= sizeof(struct net_request));
    struct net *net = calloc(1, sizeof(*net));
    if (net == NULL)
        return ERR_NO_SPACE;
    net->config = *config;
    const struct net_timeouts *given = &config->timeouts;
    net->config.timeouts = (struct net_timeouts){
        .handshake_ms = or_default(given->handshake_ms, HANDSHAKE_TIMEOUT_MS),
        .header_ms = or_default(given->header_ms, HEADER_TIMEOUT_MS),
        .body_ms = or_default(given->body_ms, BODY_TIMEOUT_MS),
        .idle_ms = or_default(given->idle_ms, IDLE_TIMEOUT_MS),
        .send_ms = or_default(given->send_ms, SEND_TIMEOUT_MS),
    };
    net->handlers = *handlers;
    net->ring = ring;
    net->timers = timers;
    net->metrics = metrics;
    net->chunks = chunks;
    net->answers = calloc(config->exchange_count, sizeof(*net->answers));
    enum err err = net->answers == NULL ? ERR_NO_SPACE : ERR_OK;
    if (err == ERR_OK)
        err = pool_init(&net->conns, sizeof(struct conn), config->connection_count);
    if (err == ERR_OK)
        err = pool_init(&net->exchanges, config->exchange_size, config->exchange_count);
    (void)chunk_source_init(&net->in_chunks, chunks, 0);
    if (err == ERR_OK && !chunk_source_init(&net->out_chunks, chunks, OUTPUT_RESERVE))
        err = ERR_NO_SPACE;
    if (err != ERR_OK) {
        net_destroy(net);
        return err;
    }
    *out = net;
    return ERR_OK;
}

/* Calls `each` with every connection that is not dead. */
static void for_all(struct net *net, void (*each)(struct conn *conn))
{
    for (uint32_t i = 0; i < net->conns.slot_count && net->connections > 0; i++) {
        if ((net->conns.generation[i] & 1) == 0)
            continue;
        struct conn *conn = pool_at(&net->conns, i);
        if (conn->state != CONN_DEAD)
            each(conn);
    }
}

void net_each_request(struct net *net, void (*fn)(void *ctx, struct net_request *request),
                      void *ctx)
{
    for (uint32_t i = 0; i < net->exchanges.slot_count; i++) {
        struct net_request *request = pool_at(&net->exchanges, i);
        if ((net->exchanges.generation[i] & 1) != 0 && request->state != REQUEST_RECEIVING)
            fn(ctx, request);
    }
}

void net_abort(struct net_request *request)
{
    if (request->conn != NULL)
        conn_kill(request->conn);
}

static bool has_operations(const struct net *net)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (net->accepts[i].armed)
            return true;
    return net->conns.free_count < net->conns.slot_count;
}

void net_destroy(struct net *net)
{
    if (net == NULL)
        return;
    if (net->conns.slots != NULL) {
        net->draining = true;
        net_accept_stop(net);
        for_all(net, conn_kill);
        /* The kernel may still read from chunks and write to operations: wait for it. */
        for (unsigned turn = 0; turn < DESTROY_TURNS && has_operations(net); turn++) {
            for (unsigned list = 0; list < LIST_COUNT; list++)
                while (net_take(net, (enum conn_list)list) != NULL)
                    ;
            ring_turn(net->ring, 10 * NS_PER_MS);
        }
    }
    chunk_source_destroy(&net->out_chunks);
    pool_destroy(&net->conns);
    pool_destroy(&net->exchanges);
    free(net->answers);
    tls_ctx_unref(net->tls_ctx);
    free(net);
}

void net_set_tls(struct net *net, struct tls_ctx *ctx)
{
    struct tls_ctx *old = net->tls_ctx;
    net->tls_ctx = ctx == NULL ? NULL : tls_ctx_ref(ctx);
    tls_ctx_unref(old);
}

static void drain_one(struct conn *conn)
{
    if (conn->state == CONN_HANDSHAKE) {
        conn_kill(conn);
        return;
    }
    if (!conn_is_busy(conn))
        conn->no_more = true;
    conn_enlist(conn, LIST_DIRTY);
}

void net_drain(struct net *net)
{
    if (net->draining)
        return;
    net->draining = true;
    net_accept_stop(net);
    for_all(net, drain_one);
}

bool net_is_idle(const struct net *net)
{
    return net->conns.free_count == net->conns.slot_count &&
           net->exchanges.free_count == net->exchanges.slot_count;
}

uint32_t net_connection_count(const struct net *net)
{
    return net->connections;
}

uint32_t net_exchanges_free(const struct net *net)
{
    return net->exchanges.free_count;
}
