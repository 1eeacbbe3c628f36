/* tls.h: TLS 1.2 and 1.3 from memory. The only includer of wolfssl/ssl.h is tls.c.
 *
 * Promise: no call blocks or touches a socket: ciphertext goes in and out through views. A client
 *          certificate is requested and never required; its proof (CertificateVerify) is checked
 *          here, its path is not: that is done per line, above. Sessions with a client certificate
 *          are not resumable, so a resumed session is anonymous and tickets hold no identity.
 *          Extended master secret is required for PoP linking on TLS 1.2; no renegotiation.
 * Threads: a tls_ctx is shared read-only (reference counted); one per core. A session belongs to
 *          its connection's core.
 * Errors:  ERR_CONFIG (with detail) for bad key or certificate files.
 */
#ifndef CERTMILL_NET_TLS_H
#define CERTMILL_NET_TLS_H

#include "base/bytes.h"
#include "base/metrics.h"
#include "limits.h"

struct tls_ctx;
struct tls_session;

struct tls_config {
    const char *cert_file; /* PEM: server certificate and chain */
    const char *key_file;  /* PEM, readable by the daemon alone */
    bool tls12;            /* offer 1.2 beside 1.3 */
};

/* Once per process, before any other call; installs counting, per-thread caching allocators. */
enum err tls_global_init(void) MUST_USE;
/* Calls to the system allocator made on behalf of TLS by the calling thread so far. */
uint64_t tls_heap_calls(void);

enum err tls_ctx_new(const struct tls_config *config, struct tls_ctx **out,
                     char out_detail[256]) MUST_USE;
struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx);
void tls_ctx_unref(struct tls_ctx *ctx);

/* Shared ticket keys (all cores, all contexts): rotate from the main thread every few hours; the
 * previous key still opens tickets. */
void tls_tickets_rotate(void);

struct tls_peer {
    uint16_t version; /* 0x0303, 0x0304 */
    bool resumed;
    bool has_unique;   /* tls-unique (RFC 5929 3): TLS 1.2 with extended master secret */
    bool has_exporter; /* tls-exporter (RFC 9266): TLS 1.3 */
    uint8_t unique[64];
    uint8_t unique_len;
    uint8_t exporter[32];
    struct bytes chain[CERT_CHAIN_MAX]; /* chain[0]: the client's certificate, DER; own copies */
    uint32_t chain_count;
};

enum err tls_session_new(struct tls_ctx *ctx, struct tls_session **out) MUST_USE;
void tls_session_free(struct tls_session *session);

enum tls_status {
    TLS_MORE,    /* all input used; feed more */
    TLS_DATA,    /* plaintext was produced */
    TLS_STALLED, /* out of room in plaintext or ciphertext output; call again when there is */
    TLS_CLOSED,  /* close_notify */
    TLS_FAILED,  /* fatal; an alert may wait in the output */
};

/* Consumes ciphertext from *in (advancing it), runs the handshake, appends plaintext to `plain` and
 * whatever must be sent to `cipher_out`. Call with empty *in to drain what is buffered. Both
 * outputs may have got something whatever is returned: TLS_CLOSED with the last plaintext,
 * TLS_FAILED with an alert. */
enum tls_status tls_feed(struct tls_session *session, struct bytes *in, struct writer *plain,
                         struct writer *cipher_out);
bool tls_is_established(const struct tls_session *session);
/* Has a record begun to arrive that is not complete? */
bool tls_is_mid_record(const struct tls_session *session);
/* Valid once established; the peer lives with the session. */
const struct tls_peer *tls_session_peer(const struct tls_session *session);
/* Encrypts all of `plain`; false when the output has no room (then nothing was taken: check with
 * tls_sealed_bound first). */
bool tls_seal(struct tls_session *session, struct bytes plain, struct writer *cipher_out) MUST_USE;
size_t tls_sealed_bound(size_t plain_len);
void tls_close_notify(struct tls_session *session, struct writer *cipher_out);
/* Last failure as text, for the log. */
const char *tls_error_text(const struct tls_session *session);

/* --- client side, for the appliance's own needs in tests --- none */

#endif
