/* conn.h: a connection and its core's net, inside of engine/net.
 *
 * Promise: a connection's slot is reused only after its last operation completed and no list names
 *          it; between conn_kill and then it answers nobody.
 * Threads: one core.
 *
 * A connection's input goes  recv → [held_cipher] → TLS → [held_plain] → head, body → request.
 * The two queues are empty but while the connection is paused; then recv is cancelled. Its output
 * goes  requests in order → out → send. conn.c reads, conn_out.c writes, net.c holds it together.
 */
#ifndef CERTMILL_NET_CONN_H
#define CERTMILL_NET_CONN_H

#include "base/pool.h"
#include "net/byteq.h"
#include "net/net.h"

enum conn_state {
    CONN_HANDSHAKE,
    CONN_OPEN,
    CONN_LINGER, /* all is sent and our side is shut; waiting for theirs */
    CONN_DEAD,   /* waiting for the last completions */
};

/* What the read timer waits for. */
enum conn_wait { WAIT_NOTHING, WAIT_HANDSHAKE, WAIT_HEAD, WAIT_BODY, WAIT_IDLE, WAIT_LINGER };

/* Lists of net that a connection can be in; one bit each. */
enum conn_list {
    LIST_DIRTY,    /* may have something to send */
    LIST_RESUME,   /* paused, and may go on */
    LIST_SLOTLESS, /* paused until an exchange is free */
    LIST_RETRY,    /* lacked a buffer, a chunk or a queue entry: once per turn */
    LIST_COUNT
};

enum request_state {
    REQUEST_RECEIVING, /* its body is on the way; the pipeline has not seen it */
    REQUEST_GIVEN,     /* with the pipeline */
    REQUEST_ANSWERED,  /* waits for its turn, or is being sent */
};

struct conn {
    struct net *net;
    struct ring_op recv_op, send_op, close_op;
    struct timer read_timer, send_timer;
    struct tls_session *tls; /* NULL on a plain connection */
    int fd;
    uint8_t state;
    uint8_t waits_for;
    uint8_t in_lists;     /* bits of enum conn_list */
    bool recv_armed : 1;  /* a multishot receive runs */
    bool recv_cancel : 1; /* ... and was told to end */
    bool sending : 1;
    bool closing_fd : 1;
    bool eof : 1;         /* they will send no more */
    bool no_more : 1;     /* no request is taken any more; input is dropped */
    bool paused : 1;      /* the next request waits for room */
    bool tls_pending : 1; /* TLS holds plaintext */
    bool shut : 1;        /* close_notify and FIN are queued behind the output */
    bool continue_due : 1;
    bool final_due : 1;   /* final_err is still to be told */
    uint16_t in_flight;   /* requests in the queue below */
    enum err final_err;   /* an answer of our own that ends the connection */
    uint32_t linger_left; /* octets still read and dropped */
    struct conn *next[LIST_COUNT];

    /* input */
    struct byteq held_cipher, held_plain;
    struct chunk *head; /* a head that is not complete yet */
    uint32_t head_len;
    size_t head_scanned;
    struct net_request *current; /* REQUEST_RECEIVING */
    struct writer body;
    struct http_chunked chunked;
    uint32_t body_max;
    size_t body_mark; /* body octets when the timer was set */

    /* output */
    struct net_request *first, *last; /* complete requests in order of arrival */
    struct byteq out;
    uint32_t sent_mark; /* octets sent since the timer was set */

    struct net_peer peer;
};

struct answer {
    struct http_response response;
    size_t sent; /* octets of the body */
    bool head_sent, keep_alive;
};

struct conn_fifo {
    struct conn *first, *last;
};

struct accept_slot {
    struct ring_op op;
    struct timer retry;
    struct net *net;
    int fd;
    uint32_t listener_index;
    bool tls, active, armed;
};

enum { TLS_PLAIN_CAP = 32 * 1024, TLS_CIPHER_CAP = 32 * 1024, BATCH_MAX = 16384 };

struct net {
    struct net_config config;
    struct net_handlers handlers;
    struct ring *ring;
    struct timers *timers;
    struct metrics *metrics;
    struct tls_ctx *tls_ctx;
    struct chunk_source in_chunks, out_chunks;
    struct chunk_pool *chunks;
    struct pool conns;
    struct pool exchanges;
    struct answer *answers; /* by request index */
    struct conn_fifo lists[LIST_COUNT];
    struct accept_slot accepts[LISTENERS_MAX];
    uint32_t connections; /* not dead */
    bool draining;
    uint8_t plain[TLS_PLAIN_CAP];
    uint8_t cipher[TLS_CIPHER_CAP];
    uint8_t batch[BATCH_MAX];
};

/* net.c */
void conn_enlist(struct conn *conn, enum conn_list list);
/* The first of a list, taken out; dead ones are passed over and freed. NULL when it is empty. */
struct conn *net_take(struct net *net, enum conn_list list);
void request_release(struct net *net, struct net_request *request);
uint64_t net_deadline(uint32_t ms);

/* conn.c */
bool conn_open(struct net *net, int fd, uint32_t listener_index, bool tls);
void conn_wait_for(struct conn *conn, enum conn_wait what);
void conn_resume(struct conn *conn);
void conn_rearm(struct conn *conn);
/* Ends the connection with an answer of our own, after those already owed. */
void conn_fail(struct conn *conn, enum err err);
void conn_kill(struct conn *conn);
void conn_try_free(struct conn *conn);
bool conn_is_busy(const struct conn *conn);
/* Nobody will be told the answers to its requests. */
void conn_abandon(struct conn *conn);
/* All is sent: shut our side and wait a little for theirs. */
void conn_linger(struct conn *conn);
/* After output went out: what waited for room may go on. */
void conn_after_flush(struct conn *conn);

/* conn_out.c */
void conn_flush(struct conn *conn);
void conn_on_send(struct ring_op *op, const struct ring_event *event);

#endif
