/* net.h: connections of one core: accept, TLS, HTTP, and back.
 *
 * Promise: every complete request becomes one net_request, handed up in the turn it completes; its
 *          answer goes out in request order whatever order answers are given in. Reading stops
 *          before an answer has nowhere to go (HTTP_PIPELINE_MAX, SEND_QUEUE_MAX, empty pools).
 *          Protocol errors below HTTP semantics (malformed, too large, time-outs) are answered
 *          here with the status of spec/est.md and close the connection.
 * Owner:   a net_request and its arena belong to the pipeline from on_request until net_respond;
 *          then to the network until its last octet is sent or the connection dies. A connection
 *          that dies leaves its requests with the pipeline as orphans; net_respond frees them.
 * Threads: one core. Connections may be handed to another core right after accept, never later.
 * Units:   times in ns, monotonic.
 * Metrics: connections, TLS, time-outs, requests, responses, open exchanges, shed memory, and the
 *          refusals made here. What a request takes (request_ns) is the pipeline's.
 * Limits:  CONNECTIONS_PER_CORE_MAX, HTTP_*, *_TIMEOUT_MS, EXCHANGES_PER_CORE_MAX (limits.h).
 */
#ifndef CERTMILL_NET_NET_H
#define CERTMILL_NET_NET_H

#include "base/arena.h"
#include "base/metrics.h"
#include "io/ring.h"
#include "io/timers.h"
#include "net/http.h"
#include "net/tls.h"

struct net;
struct conn;

struct listener_config {
    const char *address; /* numeric */
    uint16_t port;
    bool tls;
};

struct net_timeouts {
    uint32_t handshake_ms, header_ms, body_ms, idle_ms, send_ms;
};

/* What is known of the other side; lives as long as the connection. */
struct net_peer {
    const struct tls_peer *tls; /* NULL on a plain connection */
    uint16_t listener_index;
    char address[46];
    uint16_t port;
    /* The pipeline's own cache of who this is; zeroed at accept. */
    _Alignas(16) uint8_t user[256];
};

/* First member of the pipeline's exchange. */
struct net_request {
    struct http_request http;
    struct net_peer *peer; /* NULL once the connection is gone */
    struct arena arena;    /* of the exchange: head, body, everything decoded, and the answer */
    uint64_t received_ns;
    /* the network's own */
    struct conn *conn;
    struct net_request *next;
    uint32_t index;
    uint8_t state;
};

struct net_handlers {
    void *ctx;
    /* A complete request; `request` is the first member of a slot of exchange_size octets, the rest
     * of which is zeroed. */
    void (*on_request)(void *ctx, struct net_request *request);
    /* The slot of a request that on_request gave is about to be reused; its arena is reset after
     * this. */
    void (*on_release)(void *ctx, struct net_request *request);
    /* The largest body this path takes (before it is read); 0: none wanted. */
    uint32_t (*body_limit)(void *ctx, struct bytes method, struct bytes path);
    /* A connection was accepted here: which core shall have it? Returning another core means that
     * on_handover takes the descriptor. */
    uint32_t (*choose_core)(void *ctx);
    void (*on_handover)(void *ctx, uint32_t core, int fd, uint32_t listener_index);
    /* The number of this core's connections changed by delta. */
    void (*on_connections)(void *ctx, int delta);
};

struct net_config {
    uint32_t core;
    uint32_t exchange_size;
    uint32_t exchange_count; /* EXCHANGES_PER_CORE_MAX or fewer */
    uint32_t connection_count;
    struct net_timeouts timeouts; /* 0: the default of limits.h */
};

enum err net_create(const struct net_config *config, struct ring *ring, struct timers *timers,
                    struct chunk_pool *chunks, struct metrics *metrics,
                    const struct net_handlers *handlers, struct net **out) MUST_USE;
void net_destroy(struct net *net);

/* Opens a listening socket (main thread; SO_REUSEADDR, backlog, CLOEXEC), waiting at most
 * LISTEN_WAIT_MS for a port in use. detail says what to do. */
enum err net_listen(const struct listener_config *config, int *out_fd,
                    char out_detail[256]) MUST_USE;
/* Starts multishot accept on this core (one core accepts and hands out). */
enum err net_accept_start(struct net *net, int listen_fd, uint32_t listener_index,
                          bool tls) MUST_USE;
void net_accept_stop(struct net *net);
/* Takes an accepted socket (from here or handed over). */
void net_adopt(struct net *net, int fd, uint32_t listener_index, bool tls);

/* The CTX for new TLS connections; old ones keep theirs. Takes a reference. */
void net_set_tls(struct net *net, struct tls_ctx *ctx);

/* Answers a request; what the response points to must lie in the request's arena, be static, or stay
 * until on_release: a body of any length is read from where it is, a piece at a time. Always
 * consumes the request, also when its connection is gone. */
void net_respond(struct net *net, struct net_request *request,
                 const struct http_response *response);

/* Every request that is with the pipeline or being answered; fn may call net_abort. */
void net_each_request(struct net *net, void (*fn)(void *ctx, struct net_request *request),
                      void *ctx);
/* Ends its connection where it stands. */
void net_abort(struct net_request *request);

/* Once per turn, after the stages: encrypts and queues what can go out, resumes paused readers,
 * which may call on_request. */
void net_flush(struct net *net);

/* Graceful end: no new requests on idle connections (they are closed), busy ones are answered with
 * Connection: close. net_is_idle: all are gone. */
void net_drain(struct net *net);
bool net_is_idle(const struct net *net);
uint32_t net_connection_count(const struct net *net);
uint32_t net_exchanges_free(const struct net *net);

#endif
