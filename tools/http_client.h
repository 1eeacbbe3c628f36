/* http_client.h: one HTTP/1.1 POST after the other on a kept connection, over TCP or TLS, without
 * blocking: the caller polls.
 *
 * Promise: an answer is whole or there is none; lengths of the peer's are within HTTP_ANSWER_MAX.
 *          Over TLS the server's certificate is verified, with its name.
 * Owner:   the request's octets stay the caller's until the exchange is over; the answer is valid
 *          until the next http_send or http_close.
 * Threads: one.
 * Errors:  http_target_set has printed its line; HTTP_BROKEN comes with conn->problem.
 */
#ifndef CERTMILL_TOOLS_HTTP_CLIENT_H
#define CERTMILL_TOOLS_HTTP_CLIENT_H

#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include "tools/cli.h"

enum { HTTP_ANSWER_MAX = 8 * 1024 * 1024, HTTP_DEADLINE_S = 120 };

struct http_target {
    char host[256];
    char port[8];
    char path[1024];
    bool tls;
    struct sockaddr_storage address;
    socklen_t address_len;
    SSL_CTX *ctx;
};

/* url: http or https, a host, perhaps a port and a path; cacert: PEM file of anchors, NULL: the
 * system's. */
int http_target_set(struct cli *cli, const char *url, const char *cacert,
                    struct http_target *out) MUST_USE;
void http_target_clear(struct http_target *target);

enum http_state { HTTP_IDLE, HTTP_BUSY, HTTP_ANSWERED, HTTP_BROKEN };

struct http_conn {
    const struct http_target *target;
    enum http_state state;
    int fd; /* -1: closed */
    SSL *ssl;
    bool connected, was_used, wants_write;
    struct bytes out;
    size_t out_sent;
    uint8_t *in;
    size_t in_len, in_cap;
    uint64_t deadline_ns;
    char problem[128];
    /* when answered */
    int status;
    uint32_t retry_after_s; /* 0: not said */
    struct bytes body;
    bool closes;
};

void http_conn_init(struct http_conn *conn, const struct http_target *target);
/* Starts an exchange: a whole request, head and body. Connects when needed. */
void http_send(struct http_conn *conn, struct bytes request);
/* What to poll for; fd -1 when there is nothing. */
struct pollfd http_pollfd(const struct http_conn *conn);
/* Goes on after a poll, whatever it said. */
enum http_state http_step(struct http_conn *conn);
/* Before the next http_send: closes what the server wants closed. */
void http_done(struct http_conn *conn);
void http_close(struct http_conn *conn);
/* The connection, too. */
void http_conn_free(struct http_conn *conn);

/* The head of a POST. */
void http_put_post(struct writer *out, const struct http_target *target, const char *content_type,
                   size_t body_len);

#endif
