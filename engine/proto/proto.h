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
    ACTION_CONFIRM,        /* the device has its certificate (EST: named by its bytes) */
    ACTION_REVOKE,         /* settles: revoke, release */
    ACTION_SETTLE,         /* settles: confirmations and rejections within a transaction */
    ACTION_MESSAGE,        /* a dialogue step that changes nothing (CMP genm, pollReq...) */
    ACTION_REPLAY,         /* answered before: the same answer again */
    ACTION_NESTED,         /* a message of messages */
    ACTION_CRL,            /* a CA's revocation list, anonymous; no line has a part in it */
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

/* What shall become of a certificate that was issued before. */
struct proto_settle {
    uint64_t cert_log; /* 0: to be found by issuer and serial */
    struct bytes issuer;
    struct bytes serial; /* INTEGER contents */
    uint8_t act;    /* enum settle_act of factory/settle.h, by number */
    uint8_t reason; /* CRLReason */
    enum err err;   /* in: a refusal that stands already; out: what became of it */
};

/* A key that shall be made here; KEY_NONE: the request brings its own. */
struct proto_key_wish {
    enum key_alg alg;
    uint32_t bits;
};

struct proto_message {
    enum proto_action action;
    /* requests[i] asks for one certificate; memory in the arena */
    struct cert_request *requests;
    enum err *request_errs; /* NULL, or one a request: refused in decoding, alone */
    /* NULL, or of the one request: its spki is filled in when the key is there, its proof is that */
    const struct proto_key_wish *key_wish;
    uint32_t request_count;
    bool waits_for_confirmation; /* certificates are pending until confirmed */
    bool needs_ra;               /* asks for what only a registration authority may */
    /* ACTION_CONFIRM */
    struct bytes confirm_fingerprint; /* 32 octets, or */
    struct bytes confirm_cert;        /* DER */
    struct bytes confirm_device;      /* device id named beside a fingerprint; may be empty */
    /* ACTION_SETTLE, ACTION_REVOKE */
    struct proto_settle *settles;
    uint32_t settle_count;
    /* ACTION_REPLAY: outcomes as they were */
    const uint64_t *replay_logs; /* 0: none was issued */
    const enum err *replay_errs;
    uint32_t replay_count;
    /* ACTION_CRL */
    struct bytes crl_der;
    uint64_t crl_left_s; /* until its nextUpdate */
    /* message protection */
    enum proto_protection protection;
    enum sig_alg protection_alg;
    struct bytes protection_alg_der; /* whole AlgorithmIdentifier: a MAC's parameters */
    struct bytes protected_part;     /* what is signed or MACed, as received */
    struct bytes protection_value;
    struct bytes sender_name;   /* whole Name; empty: not a name */
    struct bytes sender_key_id; /* empty: absent */
    struct bytes extra_certs[CMP_EXTRA_CERTS_MAX];
    uint32_t extra_cert_count;
    bool anonymous_allowed; /* may come without protection */
    bool lenient_sender;    /* the sender need not name itself (an empty Name beside a MAC) */
    /* a dialogue of several messages: at most CMP_TRANSACTION_ID_MAX octets; empty: stands alone */
    struct bytes transaction_id;
    /* messages inside of this one, each its own; their answers are there when this one is encoded */
    struct proto_message *inner;
    uint32_t inner_count;
    enum err err;        /* refused in decoding: the others of a batch go on */
    struct bytes answer; /* whole */
    void *state;         /* the protocol's own, in the arena */
};

/* In record_state: a request that waits for an operator. Such records are counted and bounded for each
 * line; the rest of the state is the protocol's own. (TRANSACTION_WAITS of store/schema.h, by number.) */
enum { PROTO_STATE_WAITS = 0x80 };

/* What is known when the sender is: for resume. */
struct proto_context {
    int64_t now_s;
    bool is_ra;     /* a registration authority */
    bool is_device; /* by a certificate issued here */
    bool is_hold;   /* the line's requests wait for an operator */
    const struct x509_cert *signer; /* NULL: none */
    uint64_t signer_log;            /* is_device */
    uint8_t binding[32];            /* names the credential: later messages must come under the same */
    uint32_t line_id;
    uint8_t nonce[CMP_NONCE_LEN];   /* fresh */
    uint8_t new_id[CMP_NONCE_LEN];  /* fresh: a transaction id where the client gave none */
    /* DER of a certificate by its log number, valid during resume; empty: there is none */
    struct bytes (*cert_of)(void *ctx, uint64_t log);
    /* the CA's current revocation list, valid as long as the exchange; empty: there is none */
    struct bytes (*crl_of)(void *ctx, int64_t *out_this_update_s);
    void *ctx;
    bool has_record;                /* of this transaction */
    struct bytes record;
    uint8_t record_state;
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
    const struct proto_cmp_line *cmp; /* NULL: not offered */
};

/* CMP on a line: see the README's configuration reference. */
struct proto_cmp_line {
    bool strict;           /* Lightweight Profile: one request a message, no NULL-DN */
    bool implicit_confirm; /* granted when asked for */
    bool lenient_sender;
    bool require_time;
    bool batch_fails_whole; /* one bad message of a nested batch refuses all */
    uint32_t requests_max;
    uint32_t confirm_wait_s;
    uint32_t time_window_s; /* 0: any time */
    uint32_t poll_after_s;
    struct bytes ca_name;      /* whole Name: whose revocation list is asked for */
    struct bytes crl_url;      /* its distribution point in certificates; empty: none */
    bool keygen;               /* keys are made here for requests without one */
    struct bytes sender;       /* ours: whole GeneralName */
    struct bytes sender_kid;   /* SKI of the signing certificate; empty: no signer */
    struct bytes sender_certs[CERT_CHAIN_MAX]; /* signing certificate first */
    uint32_t sender_cert_count;
    enum sig_alg sender_alg;   /* SIG_NONE: no signer: MAC alone */
    struct bytes root_cert;    /* the current root, or empty */
    struct bytes root_olds[CA_PREVIOUS_MAX]; /* roots before it, the last one first */
    uint32_t root_old_count;
    struct bytes root_new_with_old, root_old_with_new; /* between it and root_olds[0]; may be empty */
    uint32_t rsa_bits_min;
    enum key_alg key_algs[KEY_ALG_COUNT]; /* that the profile takes; count 0: all */
    uint32_t key_alg_count;
};

struct proto_outcome {
    enum err err;
    struct bytes cert_der; /* when ERR_OK */
    uint64_t cert_log; /* 0: it is written together with the record of this answer */
    bool is_new; /* not one that was issued before */
    /* EnvelopedData; empty: the certificate is given as it is. Of the private key that was made here,
     * or of the certificate, whose receiver proves by opening it that the key is there. */
    struct bytes sealed;
    char detail[64];       /* one word more on a refusal, e.g. the extension's name */
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
    /* a message that is to be protected: then body is made by finish */
    enum proto_protection protect;
    enum sig_alg protect_alg;     /* PROTECTION_SIGNATURE */
    struct bytes to_protect;      /* whole ProtectedPart */
    struct bytes protection;      /* known already (a replay) */
    /* what must be kept before the answer leaves, under the message's transaction id; the record is
     * made by finish, when all of the answer is known */
    bool keep;
    uint8_t record_state;
    int64_t record_expiry_s;
    struct bytes record;
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
    /* NULL where messages stand alone. The sender is authenticated, and what is kept of the
     * transaction is at hand: decides what this message is, by changing message->action, requests
     * and settles. */
    enum err (*resume)(const struct proto_route *route, const struct proto_line *line,
                       const struct proto_context *context, struct arena *arena,
                       struct proto_message *message);
    /* NULL where answers are not protected. Puts protection (empty: none) to what encode or refuse
     * made: fills out->body and out->record. */
    enum err (*finish)(const struct proto_line *line, const struct proto_message *message,
                       struct bytes protection, struct arena *arena, struct proto_response *out);
    /* NULL where nothing is kept. Puts the log number of requests[request]'s new certificate into a
     * record that finish made; pure. */
    void (*place)(struct bytes record, uint32_t request, uint64_t log);
    /* NULL where nothing is kept. Which certificates of a kept transaction wait for confirmation? */
    uint32_t (*pending)(struct bytes record, uint8_t record_state, uint64_t out_logs[], uint32_t max,
                        uint32_t *out_line_id);
};

/* Asks every protocol; false: nobody's path. Paths are compared octet for octet: no %-escapes are
 * needed in anything certmill serves, so a path with one matches nothing. */
bool proto_match(struct bytes method, struct bytes path, struct proto_route *out, enum err *out_err);

/* type/subtype, then nothing or parameters (RFC 9110 8.3.1), which have no meaning here. */
bool proto_media_type_is(struct bytes content_type, const char *wanted);

extern const struct proto proto_est;
extern const struct proto proto_cmp;
extern const struct proto proto_crl;

#endif
