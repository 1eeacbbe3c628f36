/* Does every request get its own answer, in order, once, over plain and TLS connections, whatever
 * order the answers come in, however the octets are cut, and whoever leaves early? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test_net_server.h"

static int start(void **state)
{
    (void)state;
    server_open((struct net_config){0}, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    server_close();
    return 0;
}

/* One of each kind of connection. */
enum { KINDS = 4 };
static struct peer connect_kind(unsigned kind)
{
    switch (kind) {
    case 0:
        return connect_plain();
    case 1:
        return connect_tls(13, NULL, NULL);
    case 2:
        return connect_tls(12, client_chain_pem, client_key_pem);
    default:
        return connect_tls(13, client_chain_pem, client_key_pem);
    }
}

static void test_one_after_the_other(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        struct peer peer = connect_kind(kind);
        for (unsigned i = 0; i < 5; i++) {
            say(&peer, REQUEST("/first"));
            until(has_heard(&peer, "\r\n\r\n/first"));
            assert_true(has_heard(&peer, "HTTP/1.1 200 OK\r\n"));
            assert_true(has_heard(&peer, "Content-Length: 6\r\n"));
            assert_false(has_heard(&peer, "Connection:"));
            forget(&peer);
            say(&peer, "POST /second HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
            until(has_heard(&peer, "\r\n\r\nhello"));
            forget(&peer);
        }
        const struct net_peer *known = server.given[server.given_count - 1]->request.peer;
        (void)known;
        assert_int_equal(net_connection_count(server.net), 1);
        hang_up(&peer);
        until(net_is_idle(server.net));
    }
    assert_int_equal(counted(METRIC_REQUESTS), KINDS * 10);
    assert_int_equal(counted(METRIC_RESPONSES), KINDS * 10);
    assert_int_equal(counted(METRIC_EXCHANGES_OPEN), 0);
    assert_int_equal(counted(METRIC_CONNECTIONS_ACCEPTED), KINDS);
    assert_int_equal(counted(METRIC_TLS_HANDSHAKES), KINDS - 1);
    assert_int_equal(server.released_count, KINDS * 10);
}

static void test_peer_is_known(void **state)
{
    (void)state;
    server.automatic = false;
    struct peer plain = connect_plain(), tls = connect_tls(13, client_chain_pem, client_key_pem);
    say(&plain, REQUEST("/"));
    until(server.given_count == 1);
    struct net_peer *peer = server.given[0]->request.peer;
    assert_null(peer->tls);
    assert_string_equal(peer->address, "127.0.0.1");
    struct sockaddr_in name;
    socklen_t len = sizeof(name);
    assert_int_equal(getsockname(plain.fd, (struct sockaddr *)&name, &len), 0);
    assert_int_equal(peer->port, ntohs(name.sin_port));
    assert_int_equal(peer->listener_index, 0);
    for (size_t i = 0; i < sizeof(peer->user); i++)
        assert_int_equal(peer->user[i], 0);
    peer->user[0] = 1; /* the pipeline's own, kept while the connection lives */

    say(&tls, REQUEST("/"));
    until(server.given_count == 2);
    assert_non_null(server.given[1]->request.peer->tls);
    assert_int_equal(server.given[1]->request.peer->tls->chain_count, 3);
    assert_int_equal(server.given[1]->request.peer->listener_index, 1);

    answer(server.given[0]);
    answer(server.given[1]);
    say(&plain, REQUEST("/"));
    until(server.given_count == 3);
    assert_ptr_equal(server.given[2]->request.peer, peer);
    assert_int_equal(peer->user[0], 1);
    answer(server.given[2]);
    turn(3);
    hang_up(&plain);
    hang_up(&tls);
    until(net_is_idle(server.net));
    plain = connect_plain(); /* the same slot, for somebody else */
    say(&plain, REQUEST("/"));
    until(server.given_count == 4);
    assert_int_equal(server.given[3]->request.peer->user[0], 0);
    answer(server.given[3]);
    hang_up(&plain);
}

static void test_answers_in_any_order(void **state)
{
    (void)state;
    server.automatic = false;
    for (unsigned kind = 0; kind < 2; kind++) {
        server.given_count = 0;
        struct peer peer = connect_kind(kind);
        char all[4096] = "";
        for (unsigned i = 0; i < 40; i++)
            snprintf(all + strlen(all), sizeof(all) - strlen(all),
                     "GET /number-%02u HTTP/1.1\r\nHost: h\r\n\r\n", i);
        say(&peer, all);
        until(server.given_count == 40);
        for (unsigned i = 40; i-- > 1;) {
            answer(server.given[i]);
            if (i % 7 == 0)
                turn(2);
            assert_false(has_heard(&peer, "HTTP")); /* the first is missing yet */
        }
        answer(server.given[0]);
        until(heard_count(&peer, "HTTP/1.1 200") == 40);
        const char *at = heard(&peer);
        for (unsigned i = 0; i < 40; i++) {
            char wanted[32];
            snprintf(wanted, sizeof(wanted), "\r\n\r\n/number-%02u", i);
            at = strstr(at, wanted);
            assert_non_null(at);
        }
        assert_int_equal(heard_count(&peer, "/number-"), 40);
        hang_up(&peer);
        until(net_is_idle(server.net));
    }
}

static const char mixed[] =
    "\r\nPOST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nfirst\r\nbody"
    "GET /b?x HTTP/1.1\r\nHost: h\r\n\r\n"
    "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    "5;x=y\r\nhello\r\n7\r\n, world\r\n0\r\nT: v\r\n\r\n"
    "POST /d HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    "GET /e HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    "GET /never HTTP/1.1\r\nHost: h\r\n\r\n";

static void hears_mixed(struct peer *peer)
{
    until(is_closed(peer));
    assert_false(peer->reset);
    assert_int_equal(heard_count(peer, "HTTP/1.1 200 OK"), 5);
    static const char *const bodies[] = {"first\r\nbody", "/b", "hello, world", "/d", "/e"};
    const char *at = heard(peer);
    for (size_t i = 0; i < 5; i++) {
        at = strstr(at, "\r\n\r\n");
        assert_non_null(at);
        assert_memory_equal(at + 4, bodies[i], strlen(bodies[i]));
        at += 4;
    }
    assert_int_equal(heard_count(peer, "Connection: close"), 1);
    assert_false(has_heard(peer, "never"));
    assert_int_equal(server.given_count % 5, 0); /* nor was it given to the pipeline */
}

/* Whole, octet by octet, and in random pieces: the same answers. */
static void test_any_cut(void **state)
{
    (void)state;
    unsigned seed = 5;
    for (unsigned kind = 0; kind < 2; kind++) {
        for (unsigned round = 0; round < 12; round++) {
            struct peer peer = connect_kind(kind);
            struct bytes rest = bytes_of(mixed, sizeof(mixed) - 1);
            while (rest.len > 0) {
                size_t n = round == 0 ? rest.len : round == 1 ? 1 : 1 + (size_t)rand_r(&seed) % 60;
                if (n > rest.len)
                    n = rest.len;
                say_bytes(&peer, bytes_of(rest.ptr, n));
                rest = bytes_of(rest.ptr + n, rest.len - n);
                turn(round == 0 ? 1 : 1 + (unsigned)rand_r(&seed) % 2);
            }
            hears_mixed(&peer);
            hang_up(&peer);
        }
    }
    until(net_is_idle(server.net));
}

static void test_large_bodies(void **state)
{
    (void)state;
    const size_t sizes[] = {4000, 4096, 65536, 65537, 300000, BODY_MAX};
    uint8_t *body = malloc(BODY_MAX);
    for (size_t i = 0; i < BODY_MAX; i++)
        body[i] = (uint8_t)('A' + (i ^ i >> 8) % 50);
    for (unsigned kind = 0; kind < 2; kind++) {
        struct peer peer = connect_kind(kind);
        for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
            size_t size = sizes[i / 2];
            char text[128];
            if (i % 2 == 0)
                snprintf(text, sizeof(text),
                         "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", size);
            else
                snprintf(text, sizeof(text),
                         "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
            say(&peer, text);
            struct bytes rest = bytes_of(body, size);
            while (rest.len > 0) {
                size_t n = rest.len < 50000 ? rest.len : 50000;
                if (i % 2 == 1) {
                    snprintf(text, sizeof(text), "%zx\r\n", n);
                    say(&peer, text);
                }
                say_bytes(&peer, bytes_of(rest.ptr, n));
                if (i % 2 == 1)
                    say(&peer, "\r\n");
                rest = bytes_of(rest.ptr + n, rest.len - n);
                turn_once();
                peer_receive(&peer);
            }
            if (i % 2 == 1)
                say(&peer, "0\r\n\r\n");
            until(has_heard(&peer, "\r\n\r\n"));
            size_t head = (size_t)(strstr(heard(&peer), "\r\n\r\n") + 4 - (char *)peer.in);
            until((peer_receive(&peer), peer.in_len == head + size));
            assert_memory_equal(peer.in + head, body, size);
            forget(&peer);
        }
        hang_up(&peer);
    }
    until(net_is_idle(server.net));
    free(body);
}

static void test_expect_continue(void **state)
{
    (void)state;
    server.automatic = false;
    for (unsigned kind = 0; kind < 2; kind++) {
        server.given_count = 0;
        struct peer peer = connect_kind(kind);
        /* A request before it, not answered yet: 100 comes after that answer. */
        say(&peer, REQUEST("/before") "POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                                      "Content-Length: 5\r\n\r\n");
        until(server.given_count == 1);
        turn(5);
        assert_false(has_heard(&peer, "HTTP"));
        answer(server.given[0]);
        until(has_heard(&peer, "100 Continue\r\n\r\n"));
        assert_true(strstr(heard(&peer), "/before") < strstr(heard(&peer), "HTTP/1.1 100"));
        say(&peer, "hello");
        until(server.given_count == 2);
        answer(server.given[1]);
        until(has_heard(&peer, "\r\n\r\nhello"));
        assert_int_equal(heard_count(&peer, "100 Continue"), 1);
        /* One who does not wait for it needs none. */
        forget(&peer);
        say(&peer, "POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                   "Content-Length: 5\r\n\r\nhello");
        until(server.given_count == 3);
        answer(server.given[2]);
        until(has_heard(&peer, "\r\n\r\nhello"));
        assert_false(has_heard(&peer, "100 Continue"));
        hang_up(&peer);
        until(net_is_idle(server.net));
    }
}

static void test_old_http_and_head(void **state)
{
    (void)state;
    struct peer peer = connect_plain();
    say(&peer, "GET /old HTTP/1.0\r\n\r\n");
    until(is_closed(&peer));
    assert_true(has_heard(&peer, "HTTP/1.0 200 OK\r\n"));
    assert_true(has_heard(&peer, "Connection: close\r\n"));
    hang_up(&peer);

    peer = connect_plain();
    for (unsigned i = 0; i < 2; i++) {
        forget(&peer);
        say(&peer, "GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        until(has_heard(&peer, "\r\n\r\n/old"));
        assert_true(has_heard(&peer, "HTTP/1.0 200 OK\r\n"));
        assert_true(has_heard(&peer, "Connection: keep-alive\r\n"));
    }
    forget(&peer);
    say(&peer, "HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n" REQUEST("/next"));
    until(has_heard(&peer, "/next"));
    assert_true(has_heard(&peer, "Content-Length: 5\r\n\r\nHTTP/1.1 200"));
    hang_up(&peer);

    /* Answers without a body. */
    server.automatic = false;
    peer = connect_plain();
    say(&peer, REQUEST("/") REQUEST("/"));
    until(net_exchanges_free(server.net) == 256 - 2);
    struct exchange **last = &server.given[server.given_count - 2];
    net_respond(server.net, &last[0]->request, &(struct http_response){.status = 204});
    net_respond(server.net, &last[1]->request, &(struct http_response){.status = 401});
    until(has_heard(&peer, "204 No Content") && has_heard(&peer, "Content-Length: 0\r\n\r\n"));
    hang_up(&peer);
}

/* An answer that closes ends the connection; what was asked after it gets none, and its pipeline
 * finds nobody. */
static void test_answer_that_closes(void **state)
{
    (void)state;
    server.automatic = false;
    struct peer peer = connect_tls(13, NULL, NULL);
    say(&peer, REQUEST("/1") REQUEST("/2") REQUEST("/3"));
    until(server.given_count == 3);
    answer(server.given[2]);
    answer_with(server.given[0], (struct http_response){.close = true});
    until(is_closed(&peer));
    assert_true(has_heard(&peer, "Connection: close\r\n\r\n/1"));
    assert_int_equal(heard_count(&peer, "HTTP"), 1);
    assert_int_equal(server.released_count, 2);
    assert_null(server.given[1]->request.peer);
    assert_null(server.given[1]->request.conn);
    answer(server.given[1]);
    assert_int_equal(server.released_count, 3);
    hang_up(&peer);
    until(net_is_idle(server.net));
}

static void test_orphans(void **state)
{
    (void)state;
    server.automatic = false;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        server.given_count = server.released_count = 0;
        struct peer peer = connect_kind(kind);
        say(&peer, REQUEST("/1") REQUEST("/2") "POST /half HTTP/1.1\r\nHost: h\r\n"
                                               "Content-Length: 10\r\n\r\n12345");
        until(server.given_count == 2);
        answer(server.given[1]); /* waits for the first */
        turn(2);
        uint32_t free_before = net_exchanges_free(server.net);
        assert_int_equal(free_before, 256 - 3);
        struct linger hard = {1, 0};
        setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)); /* a reset */
        hang_up(&peer);
        until(server.connections == 0);
        turn(2);
        /* The answered one and the half one are gone; the pipeline still holds the other. */
        assert_int_equal(net_exchanges_free(server.net), 256 - 1);
        assert_int_equal(server.released_count, 1);
        assert_null(server.given[0]->request.peer);
        assert_memory_equal(server.given[0]->request.http.path.ptr, "/1", 2); /* its memory stays */
        assert_false(net_is_idle(server.net));
        answer(server.given[0]);
        assert_int_equal(server.released_count, 2);
        until(net_is_idle(server.net));
        assert_int_equal(counted(METRIC_EXCHANGES_OPEN), 0);
    }
}

struct walk {
    uint32_t count;
    const char *abort; /* the path of one to end; NULL: none */
};

static void walk_one(void *ctx, struct net_request *request)
{
    struct walk *walk = ctx;
    walk->count++;
    if (walk->abort != NULL && bytes_eq(request->http.path, bytes_of_str(walk->abort)))
        net_abort(request);
}

/* A body that lies elsewhere is read from there; who reads it can be found and ended. */
static void test_end_one_of_many(void **state)
{
    (void)state;
    static const uint8_t large[4 * 1024 * 1024] = {'x'};
    server.automatic = false;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        server.given_count = server.released_count = 0;
        struct peer slow = connect_kind(kind), other = connect_kind(kind);
        say(&slow, REQUEST("/slow") "POST /half HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1");
        say(&other, REQUEST("/other"));
        until(server.given_count == 2);
        struct walk walk = {0};
        net_each_request(server.net, walk_one, &walk);
        assert_int_equal(walk.count, 2); /* not the half one */
        struct exchange *first = server.given[0];
        if (!bytes_eq(first->request.http.path, BYTES_LIT("/slow")))
            first = server.given[1];
        answer_with(first, (struct http_response){.status = 200, .body = BYTES_ARRAY(large)});
        turn(20); /* nobody reads */
        assert_int_equal(server.released_count, 0);
        walk = (struct walk){.abort = "/slow"};
        net_each_request(server.net, walk_one, &walk);
        assert_int_equal(walk.count, 2);
        until(server.connections == 1);
        assert_int_equal(server.released_count, 1);
        answer(server.given[first == server.given[0] ? 1 : 0]);
        until(has_heard(&other, "/other"));
        hang_up(&slow);
        hang_up(&other);
        until(net_is_idle(server.net));
    }
}

/* A client that has shut its side still gets its answers. */
static void test_half_closed_client(void **state)
{
    (void)state;
    server.automatic = false;
    for (unsigned kind = 0; kind < 2; kind++) {
        server.given_count = 0;
        struct peer peer = connect_kind(kind);
        say(&peer, REQUEST("/1") REQUEST("/2") "GET /half");
        if (kind == 1) {
            wolfSSL_shutdown(peer.tls->wolf);
            flush_tls(&peer);
        }
        shutdown(peer.fd, SHUT_WR);
        until(server.given_count == 2);
        turn(5);
        answer(server.given[0]);
        turn(5);
        answer(server.given[1]);
        until(is_closed(&peer));
        assert_false(peer.reset);
        if (kind == 0) /* wolfSSL reads nothing after its own close_notify */
            assert_true(has_heard(&peer, "\r\n\r\n/1") && has_heard(&peer, "\r\n\r\n/2"));
        hang_up(&peer);
        until(net_is_idle(server.net));
    }
}

static void test_errors_of_http(void **state)
{
    (void)state;
    static const struct {
        const char *text, *status, *code;
    } rows[] = {
        {"BROKEN\r\n\r\n", "400 Bad Request", "http-malformed: "},
        {"GET / HTTP/2.0\r\nHost: h\r\n\r\n", "505 ", "http-version: "},
        {"POST / HTTP/1.1\r\nHost: h\r\n\r\n", "411 ", "length-required: "},
        {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz", "400 ",
         "http-malformed: "},
        {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", "413 ",
         "body-too-large: "},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741824\r\n\r\n", "413 ",
         "body-too-large: "},
    };
    for (unsigned kind = 0; kind < 2; kind++) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            struct peer peer = connect_kind(kind);
            /* after a good request, whose answer goes first */
            say(&peer, REQUEST("/good"));
            say(&peer, rows[i].text);
            say(&peer, "what follows is not looked at" REQUEST("/never"));
            until(is_closed(&peer));
            assert_false(peer.reset);
            assert_int_equal(heard_count(&peer, "\r\nDate: "), 2);
            const char *error = strstr(heard(&peer), "\r\n\r\n/good") + 9;
            assert_memory_equal(error, "HTTP/1.1 ", 9);
            assert_memory_equal(error + 9, rows[i].status, strlen(rows[i].status));
            assert_non_null(strstr(error, "Content-Type: text/plain\r\n"));
            assert_non_null(strstr(error, "Connection: close\r\n"));
            const char *body = strstr(error, "\r\n\r\n") + 4;
            assert_memory_equal(body, rows[i].code, strlen(rows[i].code));
            assert_ptr_equal(strchr(body, '\n'), body + strlen(body) - 1); /* one line */
            char length[64];
            snprintf(length, sizeof(length), "Content-Length: %zu\r\n", strlen(body));
            assert_non_null(strstr(error, length));
            hang_up(&peer);
            until(net_is_idle(server.net));
        }
    }
    assert_int_equal(server.metrics.refused[ERR_BODY_TOO_LARGE], 4);
}

/* A path that wants no body is asked before the body is read. */
static void test_body_limit(void **state)
{
    (void)state;
    server.body_limit = 10;
    struct peer peer = connect_plain();
    say(&peer, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789");
    until(has_heard(&peer, "\r\n\r\n0123456789"));
    forget(&peer);
    say(&peer, "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
               "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n");
    until(has_heard(&peer, "\r\n\r\n0123456789"));
    forget(&peer);
    say(&peer, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n");
    until(is_closed(&peer));
    assert_true(has_heard(&peer, "HTTP/1.1 413 "));
    hang_up(&peer);
    static const char *const chunks[] = {"b\r\n", "5\r\n01234\r\n6\r\n"};
    for (unsigned i = 0; i < 2; i++) {
        peer = connect_plain();
        say(&peer, "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        say(&peer, chunks[i]); /* told by the size, before any of it comes */
        until(is_closed(&peer));
        assert_true(has_heard(&peer, "HTTP/1.1 413 "));
        hang_up(&peer);
    }
    server.body_limit = 0;
    peer = connect_plain();
    say(&peer, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    until(has_heard(&peer, "200 OK"));
    say(&peer, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n");
    until(is_closed(&peer));
    assert_true(has_heard(&peer, "HTTP/1.1 413 "));
    hang_up(&peer);
}

static void test_handover(void **state)
{
    (void)state;
    server.choose = 1;
    struct peer peer = connect_plain();
    until(server.handed_fd >= 0);
    assert_int_equal(server.handed_core, 1);
    assert_int_equal(net_connection_count(server.net), 0);
    /* The other core takes it; here that is the same one. */
    net_adopt(server.net, server.handed_fd, 0, false);
    say(&peer, REQUEST("/handed"));
    until(has_heard(&peer, "/handed"));
    hang_up(&peer);
}

static void test_listening(void **state)
{
    (void)state;
    char detail[256] = "";
    int fd = -1;
    const struct listener_config named = {"localhost", 0, false};
    assert_int_equal(net_listen(&named, &fd, detail), ERR_CONFIG);
    assert_non_null(strstr(detail, "numeric"));
    const struct listener_config taken = {"127.0.0.1", server.port, false};
    assert_int_equal(net_listen(&taken, &fd, detail), ERR_IO);
    assert_non_null(strstr(detail, "another process"));
    const struct listener_config foreign = {"192.0.2.1", 0, false};
    assert_int_equal(net_listen(&foreign, &fd, detail), ERR_IO);
    assert_int_equal(fd, -1);

    /* "::" takes both families, and names them by their own addresses. */
    const struct listener_config any = {"::", 0, false};
    if (net_listen(&any, &fd, detail) != ERR_OK)
        skip(); /* a machine without IPv6 */
    assert_int_equal(net_accept_start(server.net, fd, 7, false), ERR_OK);
    struct sockaddr_in6 name;
    socklen_t len = sizeof(name);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &len), 0);
    server.automatic = false;
    struct peer v4 = peer_connect(ntohs(name.sin6_port));
    say(&v4, REQUEST("/4"));
    until(server.given_count == 1);
    assert_string_equal(server.given[0]->request.peer->address, "127.0.0.1");
    assert_int_equal(server.given[0]->request.peer->listener_index, 7);
    name.sin6_addr = in6addr_loopback;
    struct peer v6 = {.fd = socket(AF_INET6, SOCK_STREAM, 0)};
    if (connect(v6.fd, (struct sockaddr *)&name, len) == 0) {
        say(&v6, REQUEST("/6"));
        until(server.given_count == 2);
        assert_string_equal(server.given[1]->request.peer->address, "::1");
    }
    for (unsigned i = 0; i < server.given_count; i++)
        answer(server.given[i]);
    hang_up(&v4);
    hang_up(&v6);
    net_accept_stop(server.net);
    turn(3);
    close(fd);
}

static void test_destroy_in_the_middle(void **state)
{
    (void)state;
    server.automatic = false;
    struct peer peers[KINDS];
    for (unsigned i = 0; i < KINDS; i++) {
        peers[i] = connect_kind(i);
        say(&peers[i],
            REQUEST("/1?n=100000") "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1");
    }
    struct peer silent = peer_connect(server.tls_port);
    until(server.given_count == KINDS && server.connections == KINDS + 1);
    for (unsigned i = 0; i < KINDS; i++)
        answer(server.given[i]);
    net_flush(server.net); /* sends are under way when the net is destroyed (by stop) */
    for (unsigned i = 0; i < KINDS; i++)
        hang_up(&peers[i]);
    hang_up(&silent);
}

#define ON_A_SERVER(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_SERVER(test_one_after_the_other),
        ON_A_SERVER(test_peer_is_known),
        ON_A_SERVER(test_answers_in_any_order),
        ON_A_SERVER(test_any_cut),
        ON_A_SERVER(test_large_bodies),
        ON_A_SERVER(test_expect_continue),
        ON_A_SERVER(test_old_http_and_head),
        ON_A_SERVER(test_answer_that_closes),
        ON_A_SERVER(test_orphans),
        ON_A_SERVER(test_end_one_of_many),
        ON_A_SERVER(test_half_closed_client),
        ON_A_SERVER(test_errors_of_http),
        ON_A_SERVER(test_body_limit),
        ON_A_SERVER(test_handover),
        ON_A_SERVER(test_listening),
        ON_A_SERVER(test_destroy_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
