/* test_net_server.h: a core's network with a scripted pipeline, and clients on loopback sockets,
 * all in one thread: `until` turns the core's loop while a condition is not met. Time can be
 * skipped.
 */
#ifndef CERTMILL_TEST_NET_SERVER_H
#define CERTMILL_TEST_NET_SERVER_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "net/net.h"
#include "test_net_client.h"

enum { SERVED_MAX = 8192, CLIENT_ROOM = 8 * 1024 * 1024 };

struct exchange {
    struct net_request request;
    uint32_t number; /* in order of arrival; set by us, so it shows that slots come zeroed */
    uint8_t rest[64];
};

struct server {
    struct ring *ring;
    struct timers timers;
    struct chunk_pool chunks;
    struct metrics metrics;
    struct net *net;
    struct tls_ctx *tls;
    int listener, tls_listener;
    uint16_t port, tls_port;
    /* the pipeline */
    bool automatic; /* answers at once */
    uint32_t body_limit;
    struct exchange *given[SERVED_MAX];
    uint32_t given_count, released_count;
    uint32_t choose, handed_core;
    int handed_fd, connections;
};

static struct server server;
static _Atomic uint64_t skipped_ns, frozen_ns; /* frozen_ns: the time stands still at it */

static inline uint64_t real_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static inline uint64_t skipping_mono(void *ctx)
{
    (void)ctx;
    return frozen_ns != 0 ? frozen_ns : real_ns(CLOCK_MONOTONIC) + skipped_ns;
}

static inline uint64_t skipping_wall(void *ctx)
{
    (void)ctx;
    return real_ns(CLOCK_REALTIME) + skipped_ns;
}

/* Answers with the body, or else the path; ?n=1000 in the query asks for that many octets. */
static inline void answer_with(struct exchange *exchange, struct http_response response)
{
    struct net_request *request = &exchange->request;
    if (response.status == 0)
        response.status = 200;
    if (response.body.ptr == NULL) {
        uint64_t n = 0;
        struct bytes query = request->http.query;
        response.content_type = "text/plain";
        response.body = request->http.body.len > 0 ? request->http.body : request->http.path;
        if (query.len > 2 && bytes_to_u64(bytes_of(query.ptr + 2, query.len - 2), 1 << 30, &n)) {
            uint8_t *mem = arena_alloc(&request->arena, n);
            assert_non_null(mem);
            for (size_t i = 0; i < n; i++)
                mem[i] = (uint8_t)('a' + i % 26);
            response.body = bytes_of(mem, n);
        }
    }
    net_respond(server.net, request, &response);
}

static inline void answer(struct exchange *exchange)
{
    answer_with(exchange, (struct http_response){0});
}

static inline void fixture_on_request(void *ctx, struct net_request *request)
{
    assert_ptr_equal(ctx, &server);
    struct exchange *exchange = (struct exchange *)request;
    assert_int_equal(exchange->number, 0);
    for (size_t i = 0; i < sizeof(exchange->rest); i++)
        assert_int_equal(exchange->rest[i], 0);
    memset(exchange->rest, 0x5a, sizeof(exchange->rest));
    assert_non_null(request->peer);
    assert_true(request->received_ns > 0);
    assert_true(server.given_count < SERVED_MAX);
    exchange->number = server.given_count + 1;
    server.given[server.given_count++] = exchange;
    if (server.automatic)
        answer(exchange);
}

static inline void fixture_on_release(void *ctx, struct net_request *request)
{
    (void)ctx;
    assert_true(((struct exchange *)request)->number > 0);
    server.released_count++;
}

static inline uint32_t fixture_body_limit(void *ctx, struct bytes method, struct bytes path)
{
    (void)ctx;
    assert_true(method.len > 0 && path.len > 0 && path.ptr[0] == '/');
    return server.body_limit;
}

static inline uint32_t fixture_choose(void *ctx)
{
    (void)ctx;
    return server.choose;
}

static inline void fixture_handover(void *ctx, uint32_t core, int fd, uint32_t listener_index)
{
    (void)ctx;
    assert_true(listener_index < 2);
    server.handed_core = core;
    server.handed_fd = fd;
}

static inline void fixture_connections(void *ctx, int delta)
{
    (void)ctx;
    server.connections += delta;
    assert_true(server.connections >= 0);
}

static inline int listen_on_any_port(uint16_t *out_port)
{
    char detail[256] = "";
    int fd = -1;
    struct listener_config config = {"127.0.0.1", 0, false};
    assert_int_equal(net_listen(&config, &fd, detail), ERR_OK);
    struct sockaddr_in name;
    socklen_t len = sizeof(name);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &len), 0);
    *out_port = ntohs(name.sin_port);
    return fd;
}

/* Zero in config means a default that suits most tests. */
static inline void server_open(struct net_config config, const uint32_t chunk_counts[3])
{
    static const struct clock_source skipping = {skipping_mono, skipping_wall, NULL};
    static const uint32_t usual[3] = {2048, 64, 8};
    char detail[256] = "";
    skipped_ns = frozen_ns = 0;
    clock_replace(&skipping);
    server = (struct server){.automatic = true, .body_limit = BODY_MAX, .handed_fd = -1};
    assert_int_equal(tls_global_init(), ERR_OK);
    char cert[64], key[64];
    pem_file(cert, server_cert_pem);
    pem_file(key, server_key_pem);
    struct tls_config tls_config = {cert, key, true};
    assert_int_equal(tls_ctx_new(&tls_config, &server.tls, detail), ERR_OK);
    unlink(cert);
    unlink(key);
    assert_int_equal(ring_create(&server.ring, detail), ERR_OK);
    timers_init(&server.timers, clock_mono_ns());
    assert_int_equal(
        chunk_pool_init_counts(&server.chunks, chunk_counts == NULL ? usual : chunk_counts),
        ERR_OK);
    if (config.connection_count == 0)
        config.connection_count = 64;
    if (config.exchange_count == 0)
        config.exchange_count = 256;
    config.exchange_size = sizeof(struct exchange);
    const struct net_handlers handlers = {
        .ctx = &server,
        .on_request = fixture_on_request,
        .on_release = fixture_on_release,
        .body_limit = fixture_body_limit,
        .choose_core = fixture_choose,
        .on_handover = fixture_handover,
        .on_connections = fixture_connections,
    };
    assert_int_equal(net_create(&config, server.ring, &server.timers, &server.chunks,
                                &server.metrics, &handlers, &server.net),
                     ERR_OK);
    net_set_tls(server.net, server.tls);
    server.listener = listen_on_any_port(&server.port);
    server.tls_listener = listen_on_any_port(&server.tls_port);
    assert_int_equal(net_accept_start(server.net, server.listener, 0, false), ERR_OK);
    assert_int_equal(net_accept_start(server.net, server.tls_listener, 1, true), ERR_OK);
}

static inline uint64_t counted(enum metric metric)
{
    return atomic_load_explicit(&server.metrics.value[metric], memory_order_relaxed);
}

/* Whatever happened, nothing is left. */
static inline void server_close(void)
{
    net_destroy(server.net);
    assert_int_equal(server.connections, 0);
    assert_int_equal(counted(METRIC_CONNECTIONS_OPEN), 0);
    ring_destroy(server.ring);
    tls_ctx_unref(server.tls);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(server.chunks.free_count[i], server.chunks.count[i]);
    chunk_pool_destroy(&server.chunks);
    close(server.listener);
    close(server.tls_listener);
    assert_int_equal(server.timers.count, 0);
    clock_replace(NULL);
}

static inline void turn_once(void)
{
    ring_turn(server.ring, NS_PER_MS);
    timers_run(&server.timers, clock_mono_ns());
    net_flush(server.net);
}

static inline void turn(unsigned n)
{
    while (n-- > 0)
        turn_once();
}

/* Lets time pass in steps that a timer can follow. */
static inline void skip_ms(uint64_t ms)
{
    turn(2);
    skipped_ns += ms * NS_PER_MS;
    turn(3);
}

/* --- a client --- */

struct peer {
    int fd;
    bool closed, reset, notified; /* by the server: FIN, RST, close_notify */
    uint8_t *in;
    size_t in_len;
    struct client *tls; /* NULL on a plain connection */
};

static inline void peer_decrypt(struct peer *peer)
{
    if (peer->tls == NULL || !wolfSSL_is_init_finished(peer->tls->wolf))
        return;
    int n;
    while ((n = wolfSSL_read(peer->tls->wolf, peer->in + peer->in_len,
                             (int)(CLIENT_ROOM - peer->in_len - 1))) > 0)
        peer->in_len += (size_t)n;
    if (wolfSSL_get_error(peer->tls->wolf, n) == WOLFSSL_ERROR_ZERO_RETURN)
        peer->notified = true;
}

static inline void peer_take(struct peer *peer, struct bytes data)
{
    if (peer->in == NULL)
        peer->in = malloc(CLIENT_ROOM);
    if (peer->tls != NULL) {
        pipe_put(&peer->tls->in, data);
        peer_decrypt(peer);
        return;
    }
    assert_true(peer->in_len + data.len < CLIENT_ROOM);
    if (data.len > 0)
        memcpy(peer->in + peer->in_len, data.ptr, data.len);
    peer->in_len += data.len;
}

static inline void peer_receive(struct peer *peer)
{
    static uint8_t buf[65536];
    peer_take(peer, (struct bytes){0});
    for (;;) {
        ssize_t n = recv(peer->fd, buf, sizeof(buf), MSG_DONTWAIT);
        if (n == 0)
            peer->closed = true;
        if (n < 0 && errno != EAGAIN)
            peer->closed = peer->reset = true;
        if (n <= 0)
            break;
        peer_take(peer, bytes_of(buf, (size_t)n));
    }
}

#define until(condition)                                                                           \
    do {                                                                                           \
        unsigned turns_left = 5000;                                                                \
        while (!(condition) && turns_left > 0) {                                                   \
            turns_left--;                                                                          \
            turn_once();                                                                           \
        }                                                                                          \
        assert_true(condition);                                                                    \
    } while (0)

static inline struct peer peer_connect(uint16_t port)
{
    struct peer peer = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
    const int on = 1;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(setsockopt(peer.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    assert_int_equal(connect(peer.fd, (struct sockaddr *)&name, sizeof(name)), 0);
    return peer;
}

static inline struct peer connect_plain(void)
{
    return peer_connect(server.port);
}

/* Sends raw octets; the loop turns while the socket is full. */
static inline void send_raw(struct peer *peer, struct bytes data)
{
    for (unsigned stuck = 0; data.len > 0 && stuck < 2000;) {
        ssize_t n = send(peer->fd, data.ptr, data.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return; /* the server has closed: what came back will tell */
        if (n > 0) {
            data = bytes_of(data.ptr + n, data.len - (size_t)n);
            stuck = 0;
            continue;
        }
        stuck++;
        turn_once();
    }
}

static inline void flush_tls(struct peer *peer)
{
    if (peer->tls->out.len > 0)
        send_raw(peer, bytes_of(peer->tls->out.data, peer->tls->out.len));
    peer->tls->out.len = 0;
}

static inline void say_bytes(struct peer *peer, struct bytes data)
{
    if (peer->tls == NULL) {
        send_raw(peer, data);
        return;
    }
    while (data.len > 0) {
        size_t n = data.len > 100000 ? 100000 : data.len;
        assert_int_equal(wolfSSL_write(peer->tls->wolf, data.ptr, (int)n), (int)n);
        data = bytes_of(data.ptr + n, data.len - n);
        flush_tls(peer);
    }
}

static inline void say(struct peer *peer, const char *text)
{
    say_bytes(peer, bytes_of_str(text));
}

/* chain and key: NULL for an anonymous client. */
static inline struct peer connect_tls(int version, const char *chain, const char *key)
{
    struct peer peer = peer_connect(server.tls_port);
    peer.tls = malloc(sizeof(*peer.tls)); /* wolfSSL keeps its address */
    client_open(peer.tls, version, chain, key);
    int result = 0;
    for (unsigned i = 0; i < 2000 && result != WOLFSSL_SUCCESS; i++) {
        result = wolfSSL_connect(peer.tls->wolf);
        flush_tls(&peer);
        turn_once();
        peer_receive(&peer);
        assert_false(peer.closed);
    }
    assert_int_equal(result, WOLFSSL_SUCCESS);
    return peer;
}

static inline void hang_up(struct peer *peer)
{
    if (peer->fd >= 0)
        close(peer->fd);
    free(peer->in);
    if (peer->tls != NULL)
        client_close(peer->tls);
    free(peer->tls);
    *peer = (struct peer){.fd = -1};
}

/* What came so far, as a string. */
static inline const char *heard(struct peer *peer)
{
    peer_receive(peer);
    peer->in[peer->in_len] = '\0';
    return (const char *)peer->in;
}

static inline size_t heard_count(struct peer *peer, const char *text)
{
    size_t n = 0;
    for (const char *at = heard(peer); (at = strstr(at, text)) != NULL; at++)
        n++;
    return n;
}

static inline bool has_heard(struct peer *peer, const char *text)
{
    return strstr(heard(peer), text) != NULL;
}

static inline bool is_closed(struct peer *peer)
{
    peer_receive(peer);
    return peer->closed;
}

static inline void forget(struct peer *peer)
{
    peer_receive(peer);
    peer->in_len = 0;
}

#define REQUEST(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"

#endif
