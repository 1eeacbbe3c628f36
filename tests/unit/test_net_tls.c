/* Do TLS sessions from memory agree with a client about who and what they are, whatever way the
 * octets come, and is nothing kept of one session that another could use or that would add up? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/tls.h"
#include "net/tls_heap.h"
#include "test_net_client.h"

#include <wolfssl/wolfcrypt/coding.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

static struct tls_ctx *ctx;

static struct tls_ctx *context(const char *cert, const char *key, bool tls12)
{
    char cert_file[64], key_file[64], detail[256] = "";
    pem_file(cert_file, cert);
    pem_file(key_file, key);
    struct tls_config config = {cert_file, key_file, tls12};
    struct tls_ctx *made = NULL;
    if (tls_ctx_new(&config, &made, detail) != ERR_OK)
        print_error("%s\n", detail);
    unlink(cert_file);
    unlink(key_file);
    assert_non_null(made);
    return made;
}

static int start(void **state)
{
    (void)state;
    assert_int_equal(tls_global_init(), ERR_OK);
    ctx = context(server_cert_pem, server_key_pem, true);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    tls_ctx_unref(ctx);
    return 0;
}

/* What the server side of one connection got. */
struct server {
    struct tls_session *session;
    enum tls_status status;
    uint8_t plain[64 * 1024];
    size_t plain_len;
    size_t in_step, out_room, plain_room; /* 0: all at once */
    size_t last_out;                      /* ciphertext of the last serve */
};

static void serve(struct server *server, struct client *client)
{
    server->last_out = 0;
    do {
        size_t n = client->out.len;
        if (server->in_step != 0 && n > server->in_step)
            n = server->in_step;
        uint8_t *part = malloc(n + 1); /* ends where the view ends */
        memcpy(part, client->out.data == NULL ? part : client->out.data, n);
        struct bytes in = bytes_of(part, n);
        static uint8_t cipher[64 * 1024];
        struct writer out =
            writer_of(cipher, server->out_room != 0 ? server->out_room : sizeof(cipher));
        size_t room = sizeof(server->plain) - server->plain_len;
        struct writer plain = writer_of(server->plain + server->plain_len,
                                        server->plain_room != 0 ? server->plain_room : room);
        server->status = tls_feed(server->session, &in, &plain, &out);
        assert_true(server->status == TLS_STALLED || server->status == TLS_FAILED ||
                    server->status == TLS_CLOSED || in.len == 0);
        pipe_drop(&client->out, n - in.len);
        pipe_put(&client->in, writer_view(&out));
        server->last_out += out.len;
        server->plain_len += plain.len;
        free(part);
    } while (server->status == TLS_STALLED ||
             (client->out.len > 0 && server->status != TLS_FAILED && server->status != TLS_CLOSED));
}

/* The client's handshake until both sides are done or one gave up. */
static bool handshake(struct server *server, struct client *client)
{
    for (unsigned i = 0; i < 20; i++) {
        int result = wolfSSL_connect(client->wolf);
        serve(server, client);
        if (server->status == TLS_FAILED)
            return false;
        if (result == WOLFSSL_SUCCESS) {
            assert_true(tls_is_established(server->session));
            /* takes in a ticket that follows */
            char none;
            (void)wolfSSL_peek(client->wolf, &none, 1);
            return true;
        }
        if (wolfSSL_get_error(client->wolf, result) != WOLFSSL_ERROR_WANT_READ)
            return false;
    }
    return false;
}

static void open_server(struct server *server, struct tls_ctx *with)
{
    *server = (struct server){0};
    assert_int_equal(tls_session_new(with, &server->session), ERR_OK);
}

static void exchange_data(struct server *server, struct client *client)
{
    static const char question[] = "what is the answer?";
    server->plain_len = 0;
    assert_int_equal(wolfSSL_write(client->wolf, question, sizeof(question)), sizeof(question));
    serve(server, client);
    assert_int_equal(server->plain_len, sizeof(question));
    assert_memory_equal(server->plain, question, sizeof(question));

    static uint8_t answer[40000], sealed[64 * 1024];
    for (size_t i = 0; i < sizeof(answer); i++)
        answer[i] = (uint8_t)(i * 7 >> 2);
    struct writer out = writer_of(sealed, tls_sealed_bound(sizeof(answer)));
    assert_true(tls_seal(server->session, BYTES_ARRAY(answer), &out));
    pipe_put(&client->in, writer_view(&out));
    static uint8_t got[sizeof(answer)];
    size_t len = 0;
    while (len < sizeof(got)) {
        int n = wolfSSL_read(client->wolf, got + len, (int)(sizeof(got) - len));
        assert_true(n > 0);
        len += (size_t)n;
    }
    assert_memory_equal(got, answer, sizeof(answer));
}

static void bindings_agree(const struct tls_peer *peer, struct client *client, int version)
{
    if (version == 13) {
        static const char label[] = "EXPORTER-Channel-Binding";
        uint8_t theirs[32];
        assert_int_equal(wolfSSL_export_keying_material(client->wolf, theirs, sizeof(theirs), label,
                                                        sizeof(label) - 1, NULL, 0, 1),
                         WOLFSSL_SUCCESS);
        assert_true(peer->has_exporter && !peer->has_unique);
        assert_memory_equal(peer->exporter, theirs, sizeof(theirs));
        return;
    }
    /* The first Finished: the client's own, or the server's on a resumed session. */
    uint8_t theirs[64];
    size_t len = peer->resumed ? wolfSSL_get_peer_finished(client->wolf, theirs, sizeof(theirs))
                               : wolfSSL_get_finished(client->wolf, theirs, sizeof(theirs));
    assert_int_equal(len, 12);
    assert_true(peer->has_unique && !peer->has_exporter);
    assert_int_equal(peer->unique_len, len);
    assert_memory_equal(peer->unique, theirs, len);
}

static void test_versions_and_bindings(void **state)
{
    (void)state;
    struct tls_ctx *rsa = context(rsa_cert_pem, rsa_key_pem, true);
    for (int version = 12; version <= 13; version++) {
        for (unsigned kind = 0; kind < 2; kind++) {
            struct server server;
            struct client client;
            open_server(&server, kind == 0 ? ctx : rsa);
            client_open(&client, version, NULL, NULL);
            assert_true(handshake(&server, &client));
            const struct tls_peer *peer = tls_session_peer(server.session);
            assert_int_equal(peer->version, version == 12 ? 0x0303 : 0x0304);
            assert_int_equal(peer->chain_count, 0);
            assert_int_equal(server.last_out > 0, version == 13); /* a ticket */
            assert_false(peer->resumed);
            bindings_agree(peer, &client, version);
            exchange_data(&server, &client);
            /* close_notify, both ways */
            wolfSSL_shutdown(client.wolf);
            serve(&server, &client);
            assert_int_equal(server.status, TLS_CLOSED);
            uint8_t last[256];
            struct writer out = writer_of(last, sizeof(last));
            tls_close_notify(server.session, &out);
            assert_true(out.len > 0);
            tls_session_free(server.session);
            client_close(&client);
        }
    }
    tls_ctx_unref(rsa);
}

/* Small reads, small outputs, small plaintext: the same session. */
static void test_any_cut(void **state)
{
    (void)state;
    static const size_t steps[][3] = {{1, 0, 0}, {7, 0, 0}, {0, 5000, 0}, {0, 0, 1}, {3, 6000, 2}};
    for (int version = 12; version <= 13; version++) {
        for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
            struct server server;
            struct client client;
            open_server(&server, ctx);
            server.in_step = steps[i][0];
            server.out_room = steps[i][1];
            server.plain_room = steps[i][2];
            client_open(&client, version, client_chain_pem, client_key_pem);
            assert_true(handshake(&server, &client));
            bindings_agree(tls_session_peer(server.session), &client, version);
            exchange_data(&server, &client);
            tls_session_free(server.session);
            client_close(&client);
        }
    }
}

static void test_client_certificates(void **state)
{
    (void)state;
    static const struct {
        const char *chain;
        unsigned count;
    } rows[] = {{client_cert_pem, 1},  {client_chain_pem, 3}, {server_cert_pem, 1},
                {expired_cert_pem, 1}, {odd_use_cert_pem, 1}, {critical_cert_pem, 1}};
    for (int version = 12; version <= 13; version++) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            struct server server;
            struct client client;
            open_server(&server, ctx);
            client_open(&client, version, rows[i].chain, i == 2 ? server_key_pem : client_key_pem);
            assert_true(handshake(&server, &client));
            assert_int_equal(server.last_out,
                             0); /* no ticket follows, as it does anonymous clients */
            const struct tls_peer *peer = tls_session_peer(server.session);
            assert_int_equal(peer->chain_count, rows[i].count);
            for (unsigned k = 0; k < rows[i].count; k++) {
                assert_true(peer->chain[k].len > 256 && peer->chain[k].len < 500);
                assert_int_equal(peer->chain[k].ptr[0], 0x30);
                /* exactly one DER value */
                assert_int_equal(peer->chain[k].ptr[1], 0x82);
                assert_int_equal(4 + peer->chain[k].ptr[2] * 256 + peer->chain[k].ptr[3],
                                 peer->chain[k].len);
            }
            exchange_data(&server, &client);
            tls_session_free(server.session);
            client_close(&client);

            /* Who has the certificate but not its key is not let in. */
            open_server(&server, ctx);
            client_open(&client, version, rows[i].chain, other_key_pem);
            assert_false(handshake(&server, &client));
            assert_false(tls_is_established(server.session));
            assert_int_equal(tls_session_peer(server.session)->chain_count, 0);
            tls_session_free(server.session);
            client_close(&client);
        }
    }
}

static bool resumes(struct client *client)
{
    struct server server;
    open_server(&server, ctx);
    client_again(client);
    assert_true(handshake(&server, client));
    const struct tls_peer *peer = tls_session_peer(server.session);
    bool resumed = peer->resumed;
    assert_true(!resumed || peer->chain_count == 0);
    assert_int_equal(wolfSSL_session_reused(client->wolf) != 0, resumed);
    bindings_agree(peer, client, peer->version == 0x0303 ? 12 : 13);
    exchange_data(&server, client);
    tls_session_free(server.session);
    return resumed;
}

static void test_resumption(void **state)
{
    (void)state;
    for (int version = 12; version <= 13; version++) {
        struct client client;
        client_open(&client, version, NULL, NULL);
        assert_false(resumes(&client));
        assert_true(resumes(&client));
        assert_true(resumes(&client));
        tls_tickets_rotate(); /* the key before still opens, and the ticket is renewed */
        assert_true(resumes(&client));
        tls_tickets_rotate();
        assert_true(resumes(&client));
        tls_tickets_rotate();
        tls_tickets_rotate(); /* two rotations: nobody has the key any more */
        assert_false(resumes(&client));
        if (version == 12) { /* wolfSSL then gives no new one; a client that forgot gets one */
            client_close(&client);
            client_open(&client, version, NULL, NULL);
            assert_false(resumes(&client));
        }
        assert_true(resumes(&client));
        client_close(&client);

        /* With a client certificate there is nothing to resume. */
        client_open(&client, version, client_chain_pem, client_key_pem);
        for (unsigned i = 0; i < 3; i++)
            assert_false(resumes(&client));
        client_close(&client);
    }
}

/* A client that always comes back with its last ticket is never turned away: now and then it gets a
 * full handshake instead. */
static void test_long_chain_of_resumptions(void **state)
{
    (void)state;
    struct client client;
    client_open(&client, 13, NULL, NULL);
    unsigned full = 0;
    for (unsigned i = 0; i < 600; i++)
        full += !resumes(&client);
    assert_in_range(full, 2, 4);
    client_close(&client);
}

/* After a few rounds of everything the system allocator is left alone: nothing adds up, neither in
 * the sessions nor in the context, whoever shows what certificates. */
static void test_nothing_adds_up(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* nothing is cached there; LeakSanitizer looks instead */
#endif
    struct client clients[4];
    client_open(&clients[0], 12, NULL, NULL);
    client_open(&clients[1], 13, NULL, NULL);
    client_open(&clients[2], 12, client_chain_pem, client_key_pem);
    client_open(&clients[3], 13, client_chain_pem, client_key_pem);
    uint64_t before = 0;
    for (unsigned round = 0; round < 60; round++) {
        if (round == 10)
            before = tls_heap_calls();
        for (unsigned i = 0; i < 4; i++)
            resumes(&clients[i]);
    }
    assert_int_equal(tls_heap_calls(), before);
    for (unsigned i = 0; i < 4; i++)
        client_close(&clients[i]);
}

/* One certificate as PEM, appended. */
static void put_pem(struct writer *out, const uint8_t *der, size_t len)
{
    char base64[2048];
    word32 base64_len = sizeof(base64);
    assert_int_equal(Base64_Encode(der, (word32)len, (byte *)base64, &base64_len), 0);
    writer_put_str(out, "-----BEGIN CERTIFICATE-----\n");
    writer_put(out, bytes_of(base64, base64_len));
    writer_put_str(out, "-----END CERTIFICATE-----\n");
}

/* wolfSSL can keep CA certificates that it was shown. Every client here shows another one. */
static void test_shown_issuers_are_not_kept(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip();
#endif
    struct server server;
    struct client client;
    open_server(&server, ctx);
    client_open(&client, 13, client_chain_pem, client_key_pem);
    assert_true(handshake(&server, &client));
    const struct tls_peer *peer = tls_session_peer(server.session);
    uint8_t leaf[512], issuer[512];
    size_t leaf_len = peer->chain[0].len, issuer_len = peer->chain[1].len;
    assert_true(leaf_len <= sizeof(leaf) && issuer_len <= sizeof(issuer));
    memcpy(leaf, peer->chain[0].ptr, leaf_len);
    memcpy(issuer, peer->chain[1].ptr, issuer_len);
    tls_session_free(server.session);
    client_close(&client);
    uint8_t *key_id = memmem(issuer, issuer_len, "\x55\x1d\x0e\x04\x16\x04\x14", 7);
    assert_non_null(key_id);

    uint64_t before = 0;
    for (unsigned round = 0; round < 200; round++) {
        if (round == 20)
            before = tls_heap_calls();
        key_id[7] = (uint8_t)round; /* by which wolfSSL tells issuers apart */
        char pem[4096];
        struct writer out = writer_of(pem, sizeof(pem));
        put_pem(&out, leaf, leaf_len);
        put_pem(&out, issuer, issuer_len);
        writer_put_u8(&out, 0);
        assert_false(out.failed);
        open_server(&server, ctx);
        client_open(&client, 12 + (int)(round & 1), pem, client_key_pem);
        assert_true(handshake(&server, &client));
        assert_int_equal(tls_session_peer(server.session)->chain_count, 2);
        tls_session_free(server.session);
        client_close(&client);
    }
    assert_int_equal(tls_heap_calls(), before);
}

static void test_rubbish(void **state)
{
    (void)state;
    static const char *const inputs[] = {"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
                                         "\x16\x03\x01\xff\xff", "\x15\x03\x03\x00\x02\x02\x28",
                                         "\x17\x03\x03\x00\x01x"};
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        struct server server;
        struct client client = {0};
        open_server(&server, ctx);
        struct bytes text = i == 1   ? bytes_of(inputs[i], 5)
                            : i == 2 ? bytes_of(inputs[i], 7)
                            : i == 3 ? bytes_of(inputs[i], 6)
                                     : bytes_of_str(inputs[i]);
        pipe_put(&client.out, text);
        serve(&server, &client);
        assert_int_equal(server.status, TLS_FAILED);
        assert_string_not_equal(tls_error_text(server.session), "none");
        serve(&server, &client); /* stays failed */
        assert_int_equal(server.status, TLS_FAILED);
        tls_session_free(server.session);
        client_close(&client);
    }
    /* A record of an established session that was changed on its way. */
    struct server server;
    struct client client;
    open_server(&server, ctx);
    client_open(&client, 13, NULL, NULL);
    assert_true(handshake(&server, &client));
    wolfSSL_write(client.wolf, "hello", 5);
    client.out.data[client.out.len - 1] ^= 1;
    serve(&server, &client);
    assert_int_equal(server.status, TLS_FAILED);
    assert_int_equal(server.plain_len, 0);
    uint8_t room[128];
    struct writer out = writer_of(room, sizeof(room));
    assert_false(tls_seal(server.session, BYTES_LIT("x"), &out));
    tls_session_free(server.session);
    client_close(&client);
}

static void test_only_13(void **state)
{
    (void)state;
    struct tls_ctx *only = context(server_cert_pem, server_key_pem, false);
    struct server server;
    struct client client;
    open_server(&server, only);
    client_open(&client, 12, NULL, NULL);
    assert_false(handshake(&server, &client));
    tls_session_free(server.session);
    client_close(&client);
    open_server(&server, only);
    tls_ctx_unref(only); /* the session keeps it */
    client_open(&client, 13, NULL, NULL);
    assert_true(handshake(&server, &client));
    tls_session_free(server.session);
    client_close(&client);
}

static void test_alpn(void **state)
{
    (void)state;
    static const struct {
        const char *offered, *chosen;
    } rows[] = {{"http/1.1", "http/1.1"}, {"h2,http/1.1", "http/1.1"}, {"h2", NULL}};
    for (size_t i = 0; i < 3; i++) {
        struct server server;
        struct client client;
        open_server(&server, ctx);
        client_open(&client, 13, NULL, NULL);
        char offered[32];
        snprintf(offered, sizeof(offered), "%s", rows[i].offered);
        assert_int_equal(wolfSSL_UseALPN(client.wolf, offered, (unsigned)strlen(offered),
                                         WOLFSSL_ALPN_CONTINUE_ON_MISMATCH),
                         WOLFSSL_SUCCESS);
        assert_true(handshake(&server, &client));
        char *chosen = NULL;
        unsigned short len = 0;
        int result = wolfSSL_ALPN_GetProtocol(client.wolf, &chosen, &len);
        assert_int_equal(result == WOLFSSL_SUCCESS, rows[i].chosen != NULL);
        if (rows[i].chosen != NULL)
            assert_memory_equal(chosen, rows[i].chosen, len);
        tls_session_free(server.session);
        client_close(&client);
    }
}

/* A full output takes nothing. */
static void test_seal_without_room(void **state)
{
    (void)state;
    struct server server;
    struct client client;
    open_server(&server, ctx);
    client_open(&client, 13, NULL, NULL);
    assert_true(handshake(&server, &client));
    uint8_t room[200];
    struct writer out = writer_of(room, tls_sealed_bound(100) - 1);
    static uint8_t data[100];
    assert_false(tls_seal(server.session, BYTES_ARRAY(data), &out));
    assert_int_equal(out.len, 0);
    exchange_data(&server, &client); /* and the session is none the worse */
    assert_true(tls_seal(server.session, (struct bytes){0}, &out));
    assert_int_equal(out.len, 0);
    tls_session_free(server.session);
    client_close(&client);
}

static void test_bad_files(void **state)
{
    (void)state;
    char cert[64], key[64], other[64], detail[256];
    pem_file(cert, server_cert_pem);
    pem_file(key, server_key_pem);
    pem_file(other, other_key_pem);
    const struct tls_config wrong[] = {
        {"/nowhere/cert.pem", key, true},
        {cert, "/nowhere/key.pem", true},
        {key, key, true},
        {cert, cert, true},
        {cert, other, true},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct tls_ctx *made = NULL;
        detail[0] = '\0';
        assert_int_equal(tls_ctx_new(&wrong[i], &made, detail), ERR_CONFIG);
        assert_null(made);
        assert_true(strlen(detail) > 20);
    }
    unlink(cert);
    unlink(key);
    unlink(other);
}

static void test_heap(void **state)
{
    (void)state;
    static uint8_t *blocks[400];
    static size_t lens[400];
    unsigned seed = 3;
    for (unsigned step = 0; step < 40000; step++) {
        unsigned i = (unsigned)rand_r(&seed) % 400;
        size_t len = (size_t)rand_r(&seed) % (step % 50 == 0 ? 200000 : 3000);
        if (blocks[i] != NULL) {
            for (size_t k = 0; k < lens[i]; k++)
                assert_int_equal(blocks[i][k], (uint8_t)i);
            if (step % 3 == 0) {
                tls_heap_free(blocks[i]);
                blocks[i] = NULL;
                continue;
            }
            blocks[i] = tls_heap_realloc(blocks[i], len);
            for (size_t k = 0; k < (len < lens[i] ? len : lens[i]); k++)
                assert_int_equal(blocks[i][k], (uint8_t)i);
        } else
            blocks[i] = tls_heap_alloc(len);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], (int)i, len);
        lens[i] = len;
    }
    for (unsigned i = 0; i < 400; i++)
        tls_heap_free(blocks[i]);
    tls_heap_free(NULL);
    assert_null(tls_heap_alloc(SIZE_MAX - 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_and_bindings),
        cmocka_unit_test(test_any_cut),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_resumption),
        cmocka_unit_test(test_long_chain_of_resumptions),
        cmocka_unit_test(test_nothing_adds_up),
        cmocka_unit_test(test_shown_issuers_are_not_kept),
        cmocka_unit_test(test_rubbish),
        cmocka_unit_test(test_only_13),
        cmocka_unit_test(test_alpn),
        cmocka_unit_test(test_seal_without_room),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_heap), /* last: it fills the thread's cache */
    };
    return cmocka_run_group_tests(tests, start, stop);
}
