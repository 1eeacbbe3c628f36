/* proto.h: the seam between a protocol and the pipeline.
 *
 * A protocol is a decoder, an encoder and a small table behind struct proto. It sees bytes and typed
 * views, never a socket, the HSM or the store; it fuzzes on bytes alone. Adding one touches proto/
 * and one line in proto_registry.
 *
 * Promise: decode reads a request once and fills a proto_message; encode turns outcomes into the
 *          answer; refuse turns any error into the protocol's own answer, at any stage.
 * Owner:   everything lives in the exchange's arena, as long as the exchange.
 * Threads: pure over their arguments.
 * Errors:  enum err; the protocol's own mapping (HTTP status, failInfo) is inside.
 */
#ifndef CERTMILL_PROTO_PROTO_H
#define CERTMILL_PROTO_PROTO_H

#include "asn1/csr.h"
#include "base/arena.h"
#include "base/bytes.h"
#include "crypto/verify.h"

/* One HTTP request as a protocol sees it. */
struct proto_request {
    struct bytes method;
    struct bytes path;
    struct bytes query;
    struct bytes content_type;
    struct bytes user_agent;
    struct bytes body;
    bool has_body;
    bool over_tls;
};

/* What is asked, in terms that all protocols share. */
enum proto_action {
    ACTION_NONE,
    ACTION_CA_CERTS,       /* static answer, anonymous */
    ACTION_CSR_ATTRS,      /* static answer */
    ACTION_ENROLL,         /* certificates for new or known devices */
    ACTION_REENROLL,       /* renewal or re-key by the current certificate */
    ACTION_SERVER_KEYGEN,
    ACTION_FULL_CMC,
    ACTION_CONFIRM,        /* the device has its certificate */
    ACTION_REVOKE,
    ACTION_CRL,            /* a CA's revocation list, anonymous; no line has a part in it */
    ACTION_MESSAGE,        /* a protocol dialogue step that issues nothing (CMP genm, pollReq...) */
};

/* Result of matching method and path; nothing of the body is looked at. */
struct proto_route {
    const struct proto *proto;
    enum proto_action action;
    struct bytes line;    /* empty: the configured default line */
    struct bytes ca;      /* ACTION_CRL: whose */
    const char *allow;    /* for ERR_HTTP_METHOD */
    uint32_t body_max;    /* 0: no body expected */
    uint32_t operation;   /* the protocol's own number */
};

/* How the message itself proves who sent it (CMP, SCEP); EST has none: TLS and HTTP say it. */
enum proto_protection { PROTECTION_NONE, PROTECTION_SIGNATURE, PROTECTION_MAC };

struct proto_message {
    enum proto_action action;
    /* requests[i] asks for one certificate; memory in the arena */
    struct cert_request *requests;
    uint32_t request_count;
    /* ACTION_CONFIRM */
    struct bytes confirm_fingerprint; /* 32 octets, or */
    struct bytes confirm_cert;        /* DER */
    struct bytes confirm_device;      /* device id named beside a fingerprint; may be empty */
    /* ACTION_CRL */
    struct bytes crl_der;
    uint64_t crl_left_s; /* until its nextUpdate */
    /* message protection */
    enum proto_protection protection;
    enum sig_alg protection_alg;
    struct bytes protected_bytes[3]; /* hashed or MACed one after the other */
    uint32_t protected_count;
    struct bytes protection_value;
    struct bytes mac_parameters;
    struct bytes sender_key_id;
    struct bytes extra_certs[CERT_CHAIN_MAX];
    uint32_t extra_cert_count;
    void *state; /* the protocol's own, in the arena */
};

/* What one line says that a protocol must know. Read-only, lives with the configuration. */
struct proto_line {
    const char *name;
    const struct bytes *ca_certs; /* issuing CA first, then up to the root (and rollover ones) */
    uint32_t ca_cert_count;
    struct bytes ca_certs_cms;    /* certs-only SignedData of these, prebuilt */
    struct bytes csr_attrs;       /* DER CsrAttrs, empty: 204 */
    uint32_t base64_wrap;         /* 0, 64, 76 */
    bool offer_confirm;
};

struct proto_outcome {
    enum err err;
    struct bytes cert_der; /* when ERR_OK */
};

struct proto_response {
    uint16_t http_status;
    const char *content_type;
    const char *content_transfer_encoding;
    const char *allow;
    const char *www_authenticate;
    const char *cache_control;
    uint32_t retry_after_s;
    struct bytes body;
};

struct proto {
    const char *name;
    uint8_t journal_protocol; /* enum journal_protocol of store/schema.h, by number */
    /* false: not this protocol's path. true: out filled, or an error to answer with refuse
     * (ERR_NOT_FOUND, ERR_HTTP_METHOD with out->allow, ERR_NOT_OFFERED). */
    bool (*match)(struct bytes method, struct bytes path, struct proto_route *out, enum err *out_err);
    /* Checks media type and decodes the body. */
    enum err (*decode)(const struct proto_route *route, const struct proto_line *line,
                       const struct proto_request *request, struct arena *arena,
                       struct proto_message *out);
    /* All outcomes are ready. An error is answered with refuse: ERR_OVERLOADED when the arena has no
     * room, or the outcome's own in a protocol with one request to a message. */
    enum err (*encode)(const struct proto_route *route, const struct proto_line *line,
                       const struct proto_request *request, const struct proto_message *message,
                       const struct proto_outcome outcomes[], struct arena *arena,
                       struct proto_response *out);
    /* Never fails: falls back to static text. `line` and `message` may be NULL. detail: may be NULL,
     * one line more, e.g. the name of the extension that is not allowed. */
    void (*refuse)(const struct proto_route *route, const struct proto_line *line,
                   const struct proto_request *request, const struct proto_message *message,
                   enum err err, const char *detail, const char *request_id, uint32_t retry_after_s,
                   struct arena *arena, struct proto_response *out);
};

/* Asks every protocol; false: nobody's path. Paths are compared octet for octet: no %-escapes are
 * needed in anything certmill serves, so a path with one matches nothing. */
bool proto_match(struct bytes method, struct bytes path, struct proto_route *out, enum err *out_err);

extern const struct proto proto_est;
extern const struct proto proto_crl;

#endif
