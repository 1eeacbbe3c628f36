#include "net/tls.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/settings.h>

#include <wolfssl/error-ssl.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include "base/secret.h"
#include "net/tls_heap.h"
#include "net/tls_ticket.h"

enum {
    RECORD_HEADER_LEN = 5,
    RECORD_PLAIN_MAX = 16384,
    RECORD_OVERHEAD_MAX = 64, /* header 5, nonce 8, tag 16, content type 1, and to spare */
    TICKET_LIFETIME_S = 3600,
    EXPORTER_LEN = 32,
    /* In a row; then a full handshake is due. wolfSSL counts the tickets of such a chain in one
     * octet and breaks the handshake off when that is full. */
    RESUMPTIONS_MAX = 200,
};

struct tls_ctx {
    WOLFSSL_CTX *wolf;
    _Atomic uint32_t refs;
};

struct tls_session {
    WOLFSSL *wolf;
    struct tls_ctx *ctx;
    /* during a call alone */
    struct bytes *in;
    struct writer *out;

    bool established, failed, closed, mid_record;
    bool hello_seen; /* our ServerHello went by */
    bool extended_master;
    uint8_t resumptions; /* in a row up to this one, as its ticket says */
    int error;
    uint8_t *chain_mem;
    struct bytes chain[CERT_CHAIN_MAX];
    uint32_t chain_count;
    struct tls_peer peer;
};

/* Without it wolfSSL adds every CA certificate that any client shows to the context's own store,
 * once our callback has accepted it: memory that grows without bound. */
#ifndef WOLFSSL_ALT_CERT_CHAINS
#error "build wolfSSL with deploy/deps/wolfssl.sh"
#endif

/* --- process --- */

enum err tls_global_init(void)
{
    if (wolfSSL_SetAllocators(tls_heap_alloc, tls_heap_free, tls_heap_realloc) != 0)
        return ERR_INTERNAL;
    if (wolfSSL_Init() != WOLFSSL_SUCCESS)
        return ERR_INTERNAL;
    tickets_rotate();
    return ERR_OK;
}

uint64_t tls_heap_calls(void)
{
    return tls_heap_system_calls();
}

void tls_tickets_rotate(void)
{
    tickets_rotate();
}

/* --- callbacks of wolfSSL --- */

static int on_read(WOLFSSL *wolf, char *buf, int len, void *ctx)
{
    (void)wolf;
    struct tls_session *session = ctx;
    if (session->in == NULL || session->in->len == 0) {
        /* between records it asks for a whole header */
        session->mid_record = len != RECORD_HEADER_LEN;
        return WOLFSSL_CBIO_ERR_WANT_READ;
    }
    size_t n = session->in->len < (size_t)len ? session->in->len : (size_t)len;
    if (!bytes_copy(session->in, buf, n))
        return WOLFSSL_CBIO_ERR_GENERAL;
    return (int)n;
}

/* wolfSSL has no call that tells whether the extended master secret is in use, so our own
 * ServerHello is asked: extension 23 stands there exactly when it is (RFC 7627 5.2). */
static bool hello_has_extended_master(struct bytes record)
{
    struct bytes part;
    uint8_t type, session_id_len;
    uint16_t extensions_len, ext_type, ext_len;
    if (!bytes_get_u8(&record, &type) || type != 22 || !bytes_get(&record, 4, &part) ||
        !bytes_get_u8(&record, &type) || type != 2 || !bytes_get(&record, 3 + 2 + 32, &part) ||
        !bytes_get_u8(&record, &session_id_len) || !bytes_get(&record, session_id_len, &part) ||
        !bytes_get(&record, 3, &part) || !bytes_get_u16(&record, &extensions_len) ||
        !bytes_get(&record, extensions_len, &part))
        return false;
    while (bytes_get_u16(&part, &ext_type) && bytes_get_u16(&part, &ext_len)) {
        struct bytes value;
        if (ext_type == 23)
            return true;
        if (!bytes_get(&part, ext_len, &value))
            return false;
    }
    return false;
}

static int on_write(WOLFSSL *wolf, char *buf, int len, void *ctx)
{
    (void)wolf;
    struct tls_session *session = ctx;
    struct writer *out = session->out;
    if (out == NULL || out->failed || out->cap - out->len < (size_t)len)
        return WOLFSSL_CBIO_ERR_WANT_WRITE; /* wolfSSL keeps it */
    if (!session->hello_seen && len > 6 && buf[0] == 22 && buf[5] == 2) {
        session->hello_seen = true;
        session->extended_master = hello_has_extended_master(bytes_of(buf, (size_t)len));
    }
    writer_put(out, bytes_of(buf, (size_t)len));
    return len;
}

static bool keep_chain(struct tls_session *session, const WOLFSSL_BUFFER_INFO *certs, int count)
{
    if (session->chain_count != 0)
        return true; /* wolfSSL asks more than once about one certificate */
    if (count < 1 || count > CERT_CHAIN_MAX)
        return false;
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += certs[i].length;
    session->chain_mem = tls_heap_alloc(total);
    if (session->chain_mem == NULL)
        return false;
    struct writer mem = writer_of(session->chain_mem, total);
    for (int i = 0; i < count; i++) {
        session->chain[i] = bytes_of(mem.buf + mem.len, certs[i].length);
        writer_put(&mem, bytes_of(certs[i].buffer, certs[i].length));
    }
    session->chain_count = (uint32_t)count;
    return true;
}

/* What a line's own path check decides: that it may be refused with a sentence instead of an alert.
 * Everything else, above all a key that could not be read, ends the handshake. */
static bool is_left_to_the_line(int error)
{
    switch (error) {
    case 0:
    case ASN_NO_SIGNER_E:
    case ASN_SELF_SIGNED_E:
    case ASN_BEFORE_DATE_E:
    case ASN_AFTER_DATE_E:
    case ASN_CRIT_EXT_E:
    case ASN_PATHLEN_INV_E:
    case ASN_PATHLEN_SIZE_E:
    case KEYUSE_SIGNATURE_E:
    case EXTKEYUSE_AUTH_E:
        return true;
    default:
        return false;
    }
}

static int on_verify(int ok, WOLFSSL_X509_STORE_CTX *store)
{
    struct tls_session *session = store->userCtx;
    /* An issuer: WOLFSSL_ALT_CERT_CHAINS passes those it cannot judge without asking. To accept one
     * here would add it to the context. */
    if (store->totalCerts == 0)
        return ok; /* the client has none */
    if (store->error_depth > 0)
        return ok;
    if (!is_left_to_the_line(store->error) || !keep_chain(session, store->certs, store->totalCerts))
        return 0;
    wolfSSL_no_ticket_TLSv13(session->wolf);
    return 1;
}

/* A session with a client certificate gets no ticket in TLS 1.3. In TLS 1.2 one is promised before
 * the certificate is seen, and clients insist on it: they get one that nobody can open. */
static int on_ticket(WOLFSSL *wolf, unsigned char name[WOLFSSL_TICKET_NAME_SZ],
                     unsigned char iv[WOLFSSL_TICKET_IV_SZ],
                     unsigned char mac[WOLFSSL_TICKET_MAC_SZ], int enc, unsigned char *ticket,
                     int len, int *out_len, void *ctx)
{
    (void)ctx;
    static_assert((int)WOLFSSL_TICKET_NAME_SZ == (int)TICKET_NAME_LEN, "name");
    static_assert((int)WOLFSSL_TICKET_IV_SZ >= (int)TICKET_IV_LEN, "iv");
    static_assert((int)WOLFSSL_TICKET_MAC_SZ > (int)TICKET_TAG_LEN, "tag");
    if (len < 0)
        return WOLFSSL_TICKET_RET_FATAL;
    *out_len = len;
    struct tls_session *session = wolfSSL_GetIOReadCtx(wolf);
    uint8_t *resumptions = &mac[TICKET_TAG_LEN]; /* half of the field is ours to use */
    if (!enc) {
        if (*resumptions >= RESUMPTIONS_MAX)
            return WOLFSSL_TICKET_RET_REJECT;
        enum ticket_result result = ticket_open(name, iv, mac, *resumptions, ticket, (size_t)len);
        if (result == TICKET_FAILED)
            return WOLFSSL_TICKET_RET_REJECT;
        session->resumptions = *resumptions;
        /* A ticket under the old key is to be renewed; TLS 1.3 always does, and does not know that
         * result. */
        return result == TICKET_OLD_KEY && wolfSSL_GetVersion(wolf) != WOLFSSL_TLSV1_3
                   ? WOLFSSL_TICKET_RET_CREATE
                   : WOLFSSL_TICKET_RET_OK;
    }
    if (session->chain_count != 0) {
        random_bytes(name, WOLFSSL_TICKET_NAME_SZ);
        random_bytes(iv, WOLFSSL_TICKET_IV_SZ);
        random_bytes(mac, WOLFSSL_TICKET_MAC_SZ);
        random_bytes(ticket, (size_t)len);
        return WOLFSSL_TICKET_RET_OK;
    }
    memset(iv, 0, WOLFSSL_TICKET_IV_SZ);
    memset(mac, 0, WOLFSSL_TICKET_MAC_SZ);
    *resumptions = (uint8_t)(session->resumptions + 1);
    return ticket_seal(name, iv, mac, *resumptions, ticket, (size_t)len) ? WOLFSSL_TICKET_RET_OK
                                                                         : WOLFSSL_TICKET_RET_FATAL;
}

/* --- contexts --- */

static bool set_groups(WOLFSSL_CTX *wolf)
{
    /* P-256 first: with the SP assembly it costs no more than X25519, and devices have it in
     * hardware. */
    int groups[] = {WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP384R1};
    if (wolfSSL_CTX_set_groups(wolf, groups, 3) != WOLFSSL_SUCCESS)
        return false;
    for (int i = 0; i < 3; i++)
        if (wolfSSL_CTX_UseSupportedCurve(wolf, (word16)groups[i]) != WOLFSSL_SUCCESS)
            return false;
    return true;
}

/* Forward secrecy and AEAD alone. */
static const char suites[] = "TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384:"
                             "TLS13-CHACHA20-POLY1305-SHA256:"
                             "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                             "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                             "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

static bool set_policy(WOLFSSL_CTX *wolf)
{
    wolfSSL_CTX_SetIORecv(wolf, on_read);
    wolfSSL_CTX_SetIOSend(wolf, on_write);
    wolfSSL_CTX_set_verify(wolf, WOLFSSL_VERIFY_PEER, on_verify);
    wolfSSL_CTX_set_verify_depth(wolf, CERT_CHAIN_MAX);
    wolfSSL_CTX_set_session_cache_mode(wolf, WOLFSSL_SESS_CACHE_OFF);
    wolfSSL_CTX_only_dhe_psk(wolf);
    return wolfSSL_CTX_set_cipher_list(wolf, suites) == WOLFSSL_SUCCESS && set_groups(wolf) &&
           wolfSSL_CTX_set_TicketEncCb(wolf, on_ticket) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_set_TicketHint(wolf, TICKET_LIFETIME_S) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_set_timeout(wolf, TICKET_LIFETIME_S) == WOLFSSL_SUCCESS;
}

static enum err load_identity(WOLFSSL_CTX *wolf, const struct tls_config *config,
                              char out_detail[256])
{
    const struct {
        const char *file, *what;
    } files[] = {{config->cert_file, "certificate"}, {config->key_file, "key"}};
    for (size_t i = 0; i < 2; i++) {
        if (files[i].file == NULL || access(files[i].file, R_OK) != 0) {
            snprintf(out_detail, 256, "TLS %s file %s cannot be read", files[i].what,
                     files[i].file == NULL ? "(none)" : files[i].file);
            return ERR_CONFIG;
        }
    }
    if (wolfSSL_CTX_use_certificate_chain_file(wolf, config->cert_file) != WOLFSSL_SUCCESS) {
        snprintf(out_detail, 256, "TLS certificate file %s holds no PEM certificate chain",
                 config->cert_file);
        return ERR_CONFIG;
    }
    if (wolfSSL_CTX_use_PrivateKey_file(wolf, config->key_file, WOLFSSL_FILETYPE_PEM) !=
        WOLFSSL_SUCCESS) {
        snprintf(out_detail, 256, "TLS key file %s holds no unencrypted PEM key", config->key_file);
        return ERR_CONFIG;
    }
    if (wolfSSL_CTX_check_private_key(wolf) != WOLFSSL_SUCCESS) {
        snprintf(out_detail, 256, "TLS key %s does not belong to certificate %s", config->key_file,
                 config->cert_file);
        return ERR_CONFIG;
    }
    return ERR_OK;
}

enum err tls_ctx_new(const struct tls_config *config, struct tls_ctx **out, char out_detail[256])
{
    struct tls_ctx *ctx = tls_heap_alloc(sizeof(*ctx));
    if (ctx == NULL)
        return ERR_NO_SPACE;
    *ctx = (struct tls_ctx){.refs = 1};
    ctx->wolf =
        wolfSSL_CTX_new(config->tls12 ? wolfTLS_server_method() : wolfTLSv1_3_server_method());
    enum err err = ERR_INTERNAL;
    if (ctx->wolf == NULL ||
        (config->tls12 &&
         wolfSSL_CTX_SetMinVersion(ctx->wolf, WOLFSSL_TLSV1_2) != WOLFSSL_SUCCESS) ||
        !set_policy(ctx->wolf))
        snprintf(out_detail, 256, "this wolfSSL lacks what certmill needs: see deploy/deps");
    else
        err = load_identity(ctx->wolf, config, out_detail);
    if (err != ERR_OK) {
        tls_ctx_unref(ctx);
        return err;
    }
    *out = ctx;
    return ERR_OK;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx)
{
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

void tls_ctx_unref(struct tls_ctx *ctx)
{
    if (ctx == NULL || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1)
        return;
    wolfSSL_CTX_free(ctx->wolf);
    tls_heap_free(ctx);
}

/* --- sessions --- */

enum err tls_session_new(struct tls_ctx *ctx, struct tls_session **out)
{
    struct tls_session *session = tls_heap_alloc(sizeof(*session));
    if (session == NULL)
        return ERR_NO_SPACE;
    *session = (struct tls_session){.ctx = tls_ctx_ref(ctx), .wolf = wolfSSL_new(ctx->wolf)};
    static char http11[] = "http/1.1";
    if (session->wolf == NULL ||
        wolfSSL_UseALPN(session->wolf, http11, sizeof(http11) - 1,
                        WOLFSSL_ALPN_CONTINUE_ON_MISMATCH) != WOLFSSL_SUCCESS) {
        tls_session_free(session);
        return ERR_NO_SPACE;
    }
    wolfSSL_SetIOReadCtx(session->wolf, session);
    wolfSSL_SetIOWriteCtx(session->wolf, session);
    wolfSSL_SetCertCbCtx(session->wolf, session);
    wolfSSL_KeepArrays(session->wolf); /* the exporter needs them; freed once established */
    *out = session;
    return ERR_OK;
}

void tls_session_free(struct tls_session *session)
{
    if (session == NULL)
        return;
    session->in = NULL;
    session->out = NULL;
    wolfSSL_free(session->wolf);
    tls_heap_free(session->chain_mem);
    tls_ctx_unref(session->ctx);
    tls_heap_free(session);
}

static void describe_peer(struct tls_session *session)
{
    struct tls_peer *peer = &session->peer;
    peer->version =
        (uint16_t)(wolfSSL_GetVersion(session->wolf) == WOLFSSL_TLSV1_3 ? 0x0304 : 0x0303);
    peer->resumed = wolfSSL_session_reused(session->wolf) != 0;
    if (peer->version == 0x0304) {
        static const char label[] = "EXPORTER-Channel-Binding"; /* RFC 9266 4 */
        peer->has_exporter =
            wolfSSL_export_keying_material(session->wolf, peer->exporter, EXPORTER_LEN, label,
                                           sizeof(label) - 1, NULL, 0, 0) == WOLFSSL_SUCCESS;
    } else if (session->extended_master) {
        /* The first Finished of the handshake (RFC 5929 3.1): a full one's is the client's, an
         * abbreviated one's is the server's. */
        size_t len =
            peer->resumed
                ? wolfSSL_get_finished(session->wolf, peer->unique, sizeof(peer->unique))
                : wolfSSL_get_peer_finished(session->wolf, peer->unique, sizeof(peer->unique));
        peer->unique_len = (uint8_t)len;
        peer->has_unique = len > 0;
    }
    wolfSSL_FreeArrays(session->wolf);
    for (uint32_t i = 0; i < session->chain_count; i++)
        peer->chain[i] = session->chain[i];
    peer->chain_count = session->chain_count;
}

static enum tls_status fail(struct tls_session *session, int result)
{
    session->error = wolfSSL_get_error(session->wolf, result);
    session->failed = true;
    return TLS_FAILED;
}

/* What wolfSSL waits for. */
static enum tls_status on_blocked(struct tls_session *session, int result, bool produced)
{
    switch (wolfSSL_get_error(session->wolf, result)) {
    case WOLFSSL_ERROR_WANT_READ:
        return produced ? TLS_DATA : TLS_MORE;
    case WOLFSSL_ERROR_WANT_WRITE:
        return TLS_STALLED;
    case WOLFSSL_ERROR_ZERO_RETURN:
        session->closed = true;
        return TLS_CLOSED;
    default:
        return fail(session, result);
    }
}

static enum tls_status advance(struct tls_session *session, struct writer *plain)
{
    if (session->failed)
        return TLS_FAILED;
    if (session->closed)
        return TLS_CLOSED;
    if (!session->established) {
        int result = wolfSSL_accept(session->wolf);
        if (result != WOLFSSL_SUCCESS)
            return on_blocked(session, result, false);
        session->established = true;
        describe_peer(session);
    }
    bool produced = false;
    for (;;) {
        size_t room = plain->failed ? 0 : plain->cap - plain->len;
        if (room == 0)
            return TLS_STALLED;
        int want = room > RECORD_PLAIN_MAX ? RECORD_PLAIN_MAX : (int)room;
        int result = wolfSSL_read(session->wolf, plain->buf + plain->len, want);
        if (result <= 0)
            return on_blocked(session, result, produced);
        plain->len += (size_t)result;
        produced = true;
    }
}

enum tls_status tls_feed(struct tls_session *session, struct bytes *in, struct writer *plain,
                         struct writer *cipher_out)
{
    session->in = in;
    session->out = cipher_out;
    enum tls_status status = advance(session, plain);
    session->in = NULL;
    session->out = NULL;
    return status;
}

bool tls_is_established(const struct tls_session *session)
{
    return session->established;
}

bool tls_is_mid_record(const struct tls_session *session)
{
    return session->mid_record;
}

const struct tls_peer *tls_session_peer(const struct tls_session *session)
{
    return &session->peer;
}

size_t tls_sealed_bound(size_t plain_len)
{
    return plain_len + (plain_len / RECORD_PLAIN_MAX + 1) * RECORD_OVERHEAD_MAX;
}

bool tls_seal(struct tls_session *session, struct bytes plain, struct writer *cipher_out)
{
    if (plain.len == 0)
        return true;
    if (session->failed || !session->established || cipher_out->failed ||
        cipher_out->cap - cipher_out->len < tls_sealed_bound(plain.len))
        return false;
    session->out = cipher_out;
    int result = wolfSSL_write(session->wolf, plain.ptr, (int)plain.len);
    session->out = NULL;
    if (result == (int)plain.len)
        return true;
    fail(session, result);
    return false;
}

void tls_close_notify(struct tls_session *session, struct writer *cipher_out)
{
    if (session->failed || !session->established)
        return;
    session->out = cipher_out;
    (void)wolfSSL_shutdown(session->wolf);
    session->out = NULL;
}

const char *tls_error_text(const struct tls_session *session)
{
    static _Thread_local char text[WOLFSSL_MAX_ERROR_SZ];
    if (session->error == 0)
        return "none";
    wolfSSL_ERR_error_string_n((unsigned long)session->error, text, sizeof(text));
    return text;
}
