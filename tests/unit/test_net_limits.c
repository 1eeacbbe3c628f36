/* Does the network stay within its bounds, and say so, when clients are slow, silent, endless, too
 * many or do not listen, and when exchanges or memory run out? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "test_net_server.h"

static const struct net_timeouts times = {
    .handshake_ms = 5000,
    .header_ms = 4000,
    .body_ms = 6000,
    .idle_ms = 60000,
    .send_ms = 7000,
};

static int start(void **state)
{
    (void)state;
    server_open((struct net_config){.timeouts = times}, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    server_close();
    return 0;
}

/* Closed after about `ms`, not before. */
static void closes_after(struct peer *peer, uint64_t ms)
{
    skip_ms(ms - 500);
    turn(3);
    assert_false(is_closed(peer));
    skip_ms(600);
    until(is_closed(peer));
}

static void test_silence(void **state)
{
    (void)state;
    /* Nothing at all, or half a ClientHello, on the TLS port. */
    for (unsigned i = 0; i < 2; i++) {
        struct peer peer = peer_connect(server.tls_port);
        if (i == 1)
            say_bytes(&peer, BYTES_LIT("\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03"));
        turn(3);
        closes_after(&peer, times.handshake_ms);
        hang_up(&peer);
    }
    assert_int_equal(counted(METRIC_TLS_FAILED), 2);
    /* An octet now and then does not help. */
    struct peer peer = peer_connect(server.tls_port);
    static const char hello[] = "\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03";
    for (unsigned i = 0; i < 9; i++) {
        say_bytes(&peer, bytes_of(hello + i, 1));
        skip_ms(500);
        assert_false(is_closed(&peer));
    }
    skip_ms(700);
    until(is_closed(&peer));
    hang_up(&peer);

    /* Idle, before and after a request, with and without TLS; a TLS client hears close_notify. */
    for (unsigned kind = 0; kind < 2; kind++) {
        peer = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        turn(3);
        closes_after(&peer, times.idle_ms);
        hang_up(&peer);
        peer = kind == 0 ? connect_plain() : connect_tls(12, NULL, NULL);
        skip_ms(times.idle_ms - 1000);
        say(&peer, REQUEST("/late"));
        until(has_heard(&peer, "/late"));
        turn(2);
        closes_after(&peer, times.idle_ms);
        assert_int_equal(peer.notified, kind == 1);
        hang_up(&peer);
    }
    assert_int_equal(counted(METRIC_TIMEOUTS), 7);
    until(net_is_idle(server.net));
}

static void test_slow_heads_and_bodies(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++) {
        /* A head has its time in total, from its first octet. */
        struct peer peer = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        skip_ms(20000);
        static const char head[] = "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n";
        unsigned i = 0;
        for (; i < 7; i++) {
            say_bytes(&peer, bytes_of(head + i, 1));
            skip_ms(500);
            assert_false(is_closed(&peer));
        }
        skip_ms(700);
        until(is_closed(&peer));
        assert_true(has_heard(&peer, "HTTP/1.1 408 Request Timeout\r\n"));
        assert_true(has_heard(&peer, "request-timeout: "));
        assert_true(has_heard(&peer, "Connection: close\r\n"));
        hang_up(&peer);

        /* One that is in time, and the next one's time starts anew. */
        peer = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        for (i = 0; i < 3; i++) {
            say_bytes(&peer, bytes_of(head, 10));
            skip_ms(3000);
            say_bytes(&peer, bytes_of(head + 10, sizeof(head) - 11));
            say(&peer, "GET");
            until(has_heard(&peer, "\r\n\r\n/slow"));
            skip_ms(3000);
            forget(&peer);
            say(&peer, " / HTTP/1.1\r\nHost: h\r\n\r\n");
            until(has_heard(&peer, "\r\n\r\n/"));
            forget(&peer);
        }
        hang_up(&peer);

        /* A body must get on: trickling is not enough, also after a good start; steady progress
         * is. */
        static uint8_t part[20000];
        memset(part, 'p', sizeof(part));
        peer = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        say(&peer, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n");
        for (i = 0; i < 2; i++)
            say_bytes(&peer, BYTES_ARRAY(part));
        skip_ms(times.body_ms + 100);
        assert_false(is_closed(&peer));
        for (i = 0; i < 11; i++) {
            say(&peer, "octets");
            skip_ms(500);
            assert_false(is_closed(&peer));
        }
        skip_ms(1000);
        until(is_closed(&peer));
        assert_true(has_heard(&peer, "HTTP/1.1 408 "));
        hang_up(&peer);
        peer = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        say(&peer, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n");
        for (i = 0; i < 10; i++) {
            say_bytes(&peer, BYTES_ARRAY(part));
            skip_ms(4000);
        }
        until(has_heard(&peer, "Content-Length: 200000\r\n"));
        hang_up(&peer);
        until(net_is_idle(server.net));
    }
}

/* A record that never ends would hold TLS's memory: it has a head's time. */
static void test_slow_record(void **state)
{
    (void)state;
    for (int version = 12; version <= 13; version++) {
        struct peer peer = connect_tls(version, NULL, NULL);
        skip_ms(20000);
        static const uint8_t record[2000] = {0x17, 0x03, 0x03, 0x40, 0x00};
        for (unsigned i = 0; i < 7; i++) {
            say_bytes(&(struct peer){.fd = peer.fd}, bytes_of(record + i * 3, 3));
            skip_ms(500);
            assert_false(is_closed(&peer));
        }
        skip_ms(700);
        until(is_closed(&peer));
        hang_up(&peer);
    }
    until(net_is_idle(server.net));
}

/* A request that the pipeline thinks about costs the client nothing, however long. */
static void test_waiting_is_not_idling(void **state)
{
    (void)state;
    server.automatic = false;
    struct peer peer = connect_plain();
    say(&peer, REQUEST("/think"));
    until(server.given_count == 1);
    skip_ms(10 * times.idle_ms);
    assert_false(is_closed(&peer));
    answer(server.given[0]);
    until(has_heard(&peer, "/think"));
    hang_up(&peer);
}

static void test_endless(void **state)
{
    (void)state;
    static char garbage[100000];
    memset(garbage, 'x', sizeof(garbage));
    for (unsigned kind = 0; kind < 2; kind++) {
        struct peer peer = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        say(&peer, "GET / HTTP/1.1\r\nX: ");
        for (unsigned i = 0; i < 20 && !is_closed(&peer); i++) {
            say_bytes(&peer, bytes_of(garbage, 5000));
            turn(1);
        }
        until(is_closed(&peer));
        assert_true(has_heard(&peer, "HTTP/1.1 431 Request Header Fields Too Large\r\n"));
        assert_true(has_heard(&peer, "header-too-large: "));
        hang_up(&peer);

        /* A gigabyte is announced, and sent without a look at the answer: the answer still comes
         * through, since a little of it is read before the connection is closed. */
        peer = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        say(&peer, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741824\r\n\r\n");
        say_bytes(&peer, BYTES_ARRAY(garbage));
        until(has_heard(&peer, "HTTP/1.1 413 Content Too Large\r\n"));
        until(is_closed(&peer));
        assert_false(peer.reset);
        /* Not for ever, though: neither much nor long. */
        if (kind == 0) {
            frozen_ns = clock_mono_ns();
            for (unsigned i = 0; i < 40; i++)
                say_bytes(&peer, BYTES_ARRAY(garbage));
            until(net_is_idle(server.net));
            frozen_ns = 0;
        } else {
            skip_ms(1200);
            until(net_is_idle(server.net));
        }
        hang_up(&peer);
    }
}

/* --- not listening --- */

static void test_slow_reader(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++) {
        struct peer peer = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        server.automatic = false;
        server.given_count = 0;
        say(&peer, REQUEST("/?n=2000000") REQUEST("/?n=2000000") REQUEST("/?n=2000000"));
        until(server.given_count == 3);
        for (unsigned i = 0; i < 3; i++)
            answer(server.given[i]);
        server.automatic = true;
        turn(50); /* nobody reads: what the kernel does not take stays in the arenas */
        uint32_t medium = server.chunks.count[1] - server.chunks.free_count[1];
        assert_true(medium * CHUNK_MEDIUM_SIZE <= 2 * (SEND_QUEUE_MAX + CHUNK_MEDIUM_SIZE));
        /* Reads with pauses, each shorter than send_ms: gets it all. */
        for (unsigned i = 0; i < 4; i++) {
            skip_ms(5000);
            uint8_t buf[50000];
            for (size_t want = 100000; want > 0;) {
                ssize_t n =
                    recv(peer.fd, buf, want < sizeof(buf) ? want : sizeof(buf), MSG_DONTWAIT);
                if (n > 0) {
                    want -= (size_t)n;
                    peer_take(&peer, bytes_of(buf, (size_t)n));
                }
                turn(3);
            }
        }
        size_t got = 0, body = 0;
        for (unsigned i = 0; i < 3; i++) {
            until(has_heard(&peer, "\r\n\r\n"));
            body = (size_t)(strstr(heard(&peer), "\r\n\r\n") + 4 - (char *)peer.in);
            until((peer_receive(&peer), peer.in_len >= body + 2000000));
            for (size_t k = 0; k < 2000000; k++)
                got += peer.in[body + k] == 'a' + k % 26;
            memmove(peer.in, peer.in + body + 2000000, peer.in_len - body - 2000000);
            peer.in_len -= body + 2000000;
        }
        assert_int_equal(got, 6000000);
        assert_int_equal(peer.in_len, 0);

        /* Does not read at all: is cut off after send_ms. */
        say(&peer, REQUEST("/?n=2000000") REQUEST("/?n=2000000") REQUEST("/?n=2000000"));
        turn(50);
        assert_int_equal(net_connection_count(server.net), 1);
        skip_ms(times.send_ms + 200);
        until(net_connection_count(server.net) == 0);
        until(net_is_idle(server.net));
        hang_up(&peer);
    }
    assert_int_equal(counted(METRIC_TIMEOUTS), 2);
}

/* Requests are not read while the answers to earlier ones have nowhere to go. */
static void test_reading_stops_with_full_output(void **state)
{
    (void)state;
    const int small = 16384; /* inherited: so that the kernel does not take it all */
    setsockopt(server.listener, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    struct peer peer = connect_plain();
    for (unsigned i = 0; i < 60; i++) {
        say(&peer, REQUEST("/?n=60000"));
        turn(2);
    }
    turn(10);
    assert_true(server.given_count >= 2 && server.given_count < 30);
    for (unsigned i = 0; i < 60; i++) { /* and are when the reader gets on */
        until((peer_receive(&peer), peer.in_len >= 60000 * (i + 1)));
    }
    until(heard_count(&peer, "200 OK") == 60);
    hang_up(&peer);
}

/* No more than HTTP_PIPELINE_MAX requests of one connection are ever with the pipeline. */
static void test_deep_pipelining(void **state)
{
    (void)state;
    enum { ALL = 1000 };
    server.automatic = false;
    for (unsigned kind = 0; kind < 2; kind++) {
        server.given_count = 0;
        struct peer peer = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        unsigned asked = 0, answered = 0, most = 0;
        char text[200];
        while (answered < ALL) {
            while (asked < ALL && asked < answered + 500) {
                snprintf(text, sizeof(text),
                         "POST /%u HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n%0100u", asked,
                         asked);
                say(&peer, text);
                asked++;
            }
            turn(3);
            assert_true(server.given_count - answered <= HTTP_PIPELINE_MAX);
            if (server.given_count - answered > most)
                most = server.given_count - answered;
            unsigned n = server.given_count - answered > 5 ? 5 : server.given_count - answered;
            for (unsigned i = n; i-- > 0;)
                answer(server.given[answered + i]);
            answered += n;
            peer_receive(&peer);
        }
        assert_int_equal(most, HTTP_PIPELINE_MAX);
        until(heard_count(&peer, "HTTP/1.1 200 OK") == ALL);
        const char *at = heard(&peer);
        for (unsigned i = 0; i < ALL; i++) {
            snprintf(text, sizeof(text), "\r\n\r\n%0100u", i);
            at = strstr(at, text);
            assert_non_null(at);
        }
        hang_up(&peer);
        until(net_is_idle(server.net));
    }
}

/* --- running out --- */

static void test_connection_limit(void **state)
{
    (void)state;
    server_close();
    server_open((struct net_config){.connection_count = 3}, NULL);
    struct peer peers[5];
    for (unsigned i = 0; i < 5; i++)
        peers[i] = connect_plain();
    until(counted(METRIC_CONNECTIONS_SHED) == 2);
    unsigned closed = 0;
    for (unsigned i = 0; i < 5; i++) {
        say(&peers[i], REQUEST("/x"));
        turn(3);
        closed += is_closed(&peers[i]);
    }
    assert_int_equal(closed, 2);
    assert_int_equal(net_connection_count(server.net), 3);
    for (unsigned i = 0; i < 5; i++)
        hang_up(&peers[i]);
    until(net_is_idle(server.net));
    struct peer peer = connect_plain();
    say(&peer, REQUEST("/again"));
    until(has_heard(&peer, "/again"));
    hang_up(&peer);
}

/* With two exchanges for everybody, everybody is served, first come first served. */
static void test_exchanges_run_out(void **state)
{
    (void)state;
    server_close();
    server_open((struct net_config){.exchange_count = 2}, NULL);
    server.automatic = false;
    enum { PEERS = 12 };
    struct peer peers[PEERS];
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = i % 3 == 2 ? connect_tls(13, NULL, NULL) : connect_plain();
        char text[256];
        snprintf(text, sizeof(text),
                 "GET /%u-a HTTP/1.1\r\nHost: h\r\n\r\nGET /%u-b HTTP/1.1\r\nHo", i, i);
        say_bytes(&peers[i], bytes_of(text, 8)); /* gathered, and complete when there is no slot */
        turn(2);
        say(&peers[i], text + 8);
        turn(2);
        say(&peers[i], "st: h\r\n\r\n");
        turn(2);
        assert_true(server.given_count <= 2);
    }
    hang_up(&peers[5]); /* one leaves the queue */
    unsigned answered = 0;
    for (unsigned round = 0; round < 200; round++) {
        while (answered < server.given_count)
            answer(server.given[answered++]);
        turn(2);
        assert_true(server.given_count - answered <= 2);
    }
    for (unsigned i = 0; i < PEERS; i++) {
        if (i == 5)
            continue;
        char a[32], b[32];
        snprintf(a, sizeof(a), "\r\n\r\n/%u-a", i);
        snprintf(b, sizeof(b), "\r\n\r\n/%u-b", i);
        until(has_heard(&peers[i], a) && has_heard(&peers[i], b));
        hang_up(&peers[i]);
    }
    until(net_is_idle(server.net));
}

/* No chunk is left: the request is refused from static memory, and what was there before goes on.
 */
static void test_memory_runs_out(void **state)
{
    (void)state;
    static const uint32_t few[3] = {16 + 6, 0, 0}; /* the output's reserve, and a little */
    for (unsigned kind = 0; kind < 2; kind++) {
        server_close();
        server_open((struct net_config){.timeouts = times}, few);
        server.automatic = false;
        struct peer first = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        for (unsigned i = 0; i < 6; i++)
            say(&first, REQUEST("/holds-a-chunk"));
        until(server.given_count == 6);
        assert_int_equal(server.chunks.free_count[0], 0);
        struct peer second = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        say(&second, REQUEST("/refused"));
        until(is_closed(&second));
        assert_true(has_heard(&second, "HTTP/1.1 503 Service Unavailable\r\n"));
        assert_true(has_heard(&second, "Retry-After: 2\r\n"));
        assert_true(has_heard(&second, "overloaded: "));
        assert_int_equal(counted(METRIC_MEMORY_SHED), 1);
        hang_up(&second);
        /* A partial head needs a chunk as well. */
        second = kind == 0 ? connect_plain() : connect_tls(13, NULL, NULL);
        say(&second, "GET /part");
        until(is_closed(&second));
        assert_true(has_heard(&second, "HTTP/1.1 503 "));
        hang_up(&second);

        for (unsigned i = 0; i < 6; i++)
            answer(server.given[i]);
        until(heard_count(&first, "\r\n\r\n/holds-a-chunk") == 6);
        hang_up(&first);
        until(net_is_idle(server.net));
    }
}

/* Somebody else on this ring who keeps the receive buffers. */
struct hoarder {
    struct ring_op op;
    uint16_t ids[RECV_BUFFERS_PER_CORE];
    unsigned count;
    bool out;
};

static void on_hoard(struct ring_op *op, const struct ring_event *event)
{
    struct hoarder *hoarder = (struct hoarder *)op;
    if (event->has_buffer)
        hoarder->ids[hoarder->count++] = event->buffer_id;
    hoarder->out |= !event->more;
}

/* No receive buffer is left: receiving goes on when they are back, and nothing spins meanwhile. */
static void test_receive_buffers_run_out(void **state)
{
    (void)state;
    static struct hoarder hoarder;
    hoarder = (struct hoarder){.op.complete = on_hoard};
    struct peer peers[3] = {connect_plain(), connect_tls(13, NULL, NULL), {.fd = -1}};
    turn(3);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(ring_recv_multishot(server.ring, &hoarder.op, fds[0]), ERR_OK);
    static uint8_t block[RECV_BUFFER_SIZE];
    for (unsigned i = 0; i < 10000 && !hoarder.out; i++) {
        (void)!send(fds[1], block, sizeof(block), MSG_DONTWAIT);
        ring_turn(server.ring, 0);
    }
    assert_int_equal(ring_buffers_free(server.ring), 0);
    for (unsigned i = 0; i < 2; i++)
        say(&peers[i], REQUEST("/x"));
    peers[2] = connect_plain();
    say(&peers[2], REQUEST("/x"));
    turn(20);
    assert_int_equal(server.given_count, 0);
    assert_int_equal(ring_turn(server.ring, NS_PER_MS), 0); /* nobody asks in vain */
    for (unsigned i = 0; i < hoarder.count; i++)
        ring_buffer_return(server.ring, hoarder.ids[i]);
    for (unsigned i = 0; i < 3; i++) {
        until(has_heard(&peers[i], "200 OK"));
        hang_up(&peers[i]);
    }
    close(fds[0]);
    close(fds[1]);
}

/* No descriptor is left: those who connect wait, and are taken when there is one again. */
static void test_descriptors_run_out(void **state)
{
    (void)state;
    struct rlimit old;
    getrlimit(RLIMIT_NOFILE, &old);
    net_accept_stop(server.net); /* the limit counts that was set when the accept was armed */
    turn(5);
    struct peer peers[8];
    for (unsigned i = 0; i < 8; i++)
        peers[i] = connect_plain(); /* into the backlog */
    int next = dup(0);
    close(next);
    const struct rlimit low = {(rlim_t)next + 3, old.rlim_max};
    setrlimit(RLIMIT_NOFILE, &low);
    enum err started = net_accept_start(server.net, server.listener, 0, false);
    turn(30);
    setrlimit(RLIMIT_NOFILE, &old);
    assert_int_equal(started, ERR_OK);
    assert_int_equal(net_connection_count(server.net), 3);
    skip_ms(200);
    until(net_connection_count(server.net) == 8);
    for (unsigned i = 0; i < 8; i++) {
        say(&peers[i], REQUEST("/x"));
        until(has_heard(&peers[i], "200 OK"));
        hang_up(&peers[i]);
    }
}

/* --- the end --- */

static void test_drain(void **state)
{
    (void)state;
    server.automatic = false;
    struct peer idle = connect_plain(), idle_tls = connect_tls(13, NULL, NULL);
    struct peer busy = connect_tls(13, NULL, NULL), half = connect_plain(), body = connect_plain();
    struct peer hello = peer_connect(server.tls_port);
    say(&idle, REQUEST("/x"));
    until(server.given_count == 1);
    answer(server.given[0]);
    until(has_heard(&idle, "/x"));
    say(&busy, REQUEST("/b1") REQUEST("/b2"));
    say(&half, "GET /half HT");
    say(&body, "POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe");
    until(server.given_count == 3 && server.connections == 6);
    turn(3);

    net_drain(server.net);
    until(is_closed(&idle) && is_closed(&idle_tls) && is_closed(&hello));
    assert_false(is_closed(&busy) || is_closed(&half) || is_closed(&body));
    struct peer late = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
    hang_up(&late);

    say(&half, "TP/1.1\r\nHost: h\r\n\r\n" REQUEST("/never"));
    say(&body, "llo" REQUEST("/never"));
    say(&busy, REQUEST("/never"));
    until(server.given_count == 5);
    turn(5);
    assert_int_equal(server.given_count, 5);
    for (unsigned i = 5; i-- > 1;)
        answer(server.given[i]);
    until(is_closed(&half) && is_closed(&body) && is_closed(&busy));
    assert_true(has_heard(&half, "Connection: close\r\n\r\n/half"));
    assert_true(has_heard(&body, "Connection: close\r\n\r\nhello"));
    assert_true(has_heard(&busy, "\r\n\r\n/b1") &&
                has_heard(&busy, "Connection: close\r\n\r\n/b2"));
    assert_int_equal(heard_count(&busy, "Connection: close"), 1);
    hang_up(&idle);
    hang_up(&idle_tls);
    hang_up(&busy);
    hang_up(&half);
    hang_up(&body);
    hang_up(&hello);
    until(net_is_idle(server.net));
    assert_int_equal(server.released_count, 5);
}

/* In its stride, a core asks the system for no memory: not per request, not per connection. */
static void test_no_allocation_in_stride(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip();
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    skip();
#endif
#endif
    struct peer kept = connect_tls(13, client_chain_pem, client_key_pem);
    uint64_t before = 0;
    for (unsigned round = 0; round < 60; round++) {
        if (round == 20)
            before = tls_heap_calls();
        struct peer peer = connect_tls(round % 2 == 0 ? 12 : 13,
                                       round % 3 == 0 ? client_chain_pem : NULL, client_key_pem);
        say(&peer, REQUEST("/") "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        say(&kept, REQUEST("/?n=20000"));
        until(heard_count(&peer, "200 OK") == 2 && heard_count(&kept, "200 OK") == 1);
        forget(&kept);
        hang_up(&peer);
        until(net_connection_count(server.net) == 1);
    }
    assert_int_equal(tls_heap_calls(), before);
    hang_up(&kept);
}

#define ON_A_SERVER(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_SERVER(test_silence),
        ON_A_SERVER(test_slow_heads_and_bodies),
        ON_A_SERVER(test_slow_record),
        ON_A_SERVER(test_waiting_is_not_idling),
        ON_A_SERVER(test_endless),
        ON_A_SERVER(test_slow_reader),
        ON_A_SERVER(test_reading_stops_with_full_output),
        ON_A_SERVER(test_deep_pipelining),
        ON_A_SERVER(test_connection_limit),
        ON_A_SERVER(test_exchanges_run_out),
        ON_A_SERVER(test_memory_runs_out),
        ON_A_SERVER(test_receive_buffers_run_out),
        ON_A_SERVER(test_descriptors_run_out),
        ON_A_SERVER(test_drain),
        ON_A_SERVER(test_no_allocation_in_stride),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
